"""A call passing through: one INVITE that was let in, the dialogs it made, and why it ended. Pure but for its table.

The proxy tells a call what becomes of its INVITE, in the order of things: `begun` for each branch, `sent`, `answer` and
`left`, `cancelled`, `refused`, and `settled` when nothing more can come. Requests in its dialogs are told by `within`
and, with what they came to, by `over`. Each is a step of its history: a tuple, put into words when somebody asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from sipd.calls import session_timer
from sipd.message.address import Address
from sipd.message.errors import MalformedMessage
from sipd.message.message import Request, Response

if TYPE_CHECKING:
    from sipd.calls.table import Calls
    from sipd.flow import Flow
    from sipd.proxy.targets import Target
    from sipd.wheel import Timer

#: A time that has not come (seconds of the clock).
NEVER: Final = float("-inf")

#: States of a call and of a dialog, in their order.
TRYING: Final = 0
EARLY: Final = 1
CONFIRMED: Final = 2
TERMINATED: Final = 3
#: The states as people and RFC 4235 call them.
STATES: Final = ("trying", "early", "confirmed", "terminated")

#: Why a call ended.
BYE: Final = "bye"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
GONE: Final = "gone"
PICKED: Final = "picked-up"
SESSION_TIMER: Final = "session-timer"
MAX_DURATION: Final = "max-duration"
UNSEEN: Final = "unseen"

#: Dialogs of one call that are told apart.
_MOST_DIALOGS: Final = 64
#: Requests in a dialog that are of another usage of it: their 408 or 481 says nothing of the call (RFC 5057 s5).
_OTHER_USAGES: Final = frozenset({"SUBSCRIBE", "NOTIFY", "REFER", "MESSAGE", "OPTIONS", "PUBLISH"})

#: Of calls that are over, which nobody adds to.
_NOBODY: Final[list[Target]] = []
_NO_PEERS: Final[list[str]] = []
#: Of a call that nobody has turned down.
_NOT_ONE: Final[Mapping[str, int]] = {}


class CallDialog:
    """One dialog of a call: early from a provisional response on, confirmed by a 2xx.

    `tag` is the tag of the one who was called, `target` where that is, `contact` and `to` the Contact and To values
    as they were answered, `record_routes` the Record-Route values of the answer, topmost first.
    """

    __slots__ = ("tag", "state", "target", "contact", "to", "record_routes", "cseq", "rang", "status", "expires",
                 "interval", "refresher", "bye_at", "bye_by", "answered")

    def __init__(self, tag: str, target: Target | None) -> None:
        self.tag = tag
        self.state: int = EARLY
        self.target = target
        #: A 2xx made it.
        self.answered = False
        self.contact = ""
        self.to = ""
        self.record_routes: list[str] = []
        #: The highest CSeq number from the one who was called, 0 while none came.
        self.cseq = 0
        #: The last provisional status, and the final one that ended it: of the INVITE, or of a request in it that was
        #: answered 408 or 481. 0 for none.
        self.rang = self.status = 0
        #: When the session ends if nobody refreshes it (seconds of the clock), NEVER without a session timer.
        self.expires = NEVER
        #: The session interval (seconds), 0 for none; who refreshes it, "uac" or "uas".
        self.interval = 0
        self.refresher = ""
        #: When a BYE came (seconds of the clock), NEVER for none, and from whom: "caller" or "callee".
        self.bye_at = NEVER
        self.bye_by = ""

    @property
    def peer(self) -> str:
        """The name of the peer that was called, "" for none of ours."""
        return self.target.peer if self.target is not None else ""


class Call:
    """One call. `caller` and `called` are names of peers, "" where it is none of ours; times are seconds of the clock,
    `wall` is the start in seconds since the epoch."""

    __slots__ = ("calls", "number", "call_id", "tag", "caller", "called", "from_", "to", "uri", "contact", "source",
                 "user_agent", "cseq", "started", "wall", "answered", "ended", "state", "status", "phrase", "why", "by",
                 "legs", "ringing", "peers", "dialogs", "steps", "left_out", "timer", "looked_at", "offered",
                 "given_up", "answerer", "branches", "inside", "turned_down")

    def __init__(self, calls: Calls, number: int, call_id: str, tag: str) -> None:
        self.calls = calls
        self.number = number
        self.call_id = call_id
        #: The caller's tag.
        self.tag = tag
        self.caller = self.called = ""
        #: From, To, Request-URI, Contact and User-Agent as the INVITE came.
        self.from_ = self.to = self.uri = self.contact = self.user_agent = ""
        #: Where it came from, as `udp:192.0.2.7:5060`.
        self.source = ""
        #: The highest CSeq number of the caller.
        self.cseq = 0
        self.started = self.wall = 0.0
        #: NEVER while that has not happened.
        self.answered = self.ended = NEVER
        self.state: int = TRYING
        #: The final status that went back, 0 for none yet, and its reason phrase.
        self.status = 0
        self.phrase = ""
        #: Why it ended, one of the words above, and who ended it: "caller", "callee" or "server".
        self.why = self.by = ""
        #: How many times its INVITE is on its way through us: more than one where it came by two paths.
        self.legs = 1
        #: The INVITE that came last came through ourselves, as part of the same way.
        self.inside = False
        #: The targets that are being called, and the peers that count as busy with this call.
        self.ringing: list[Target] = []
        self.peers: list[str] = []
        #: Peers that did not take it, and the status of each.
        self.turned_down: Mapping[str, int] = _NOT_ONE
        self.dialogs: list[CallDialog] = []
        self.steps: list[tuple[object, ...]] = []
        #: Steps that were too many to be kept.
        self.left_out = 0
        self.timer: Timer | None = None
        #: When that fires (seconds of the clock).
        self.looked_at = 0.0
        #: The session interval that the sender of the last refresh can be told (RFC 4028 s8.1).
        self.offered = 0
        #: The caller sent a CANCEL.
        self.given_up = False
        #: Where it was answered first, as a URI.
        self.answerer = ""
        #: How many places it was sent to.
        self.branches = 0

    # --- its history

    def note(self, kind: str, *values: object) -> None:
        """One step: a kind of `history.STEPS` and what fills its sentence, in that order."""
        calls = self.calls
        if len(self.steps) < calls.values.steps:
            self.steps.append((calls.seconds(), kind, *values))
        else:
            self.left_out += 1

    # --- the INVITE on its way

    def begun(self, target: Target) -> None:
        """A branch to `target` was begun."""
        self.branches += 1
        if self.state == TERMINATED:
            return
        self.ringing.append(target)
        if target.peer:
            self.busy(target.peer)
        if self.calls.watchers:
            self.calls.tell(self)

    def sent(self, target: Target, flow: Flow) -> None:
        """The INVITE left for `target` over a flow."""
        self.note("sent", target.uri, flow.transport, flow.address, flow.port)

    def answer(self, target: Target, response: Response) -> None:
        """A response other than 100 to the INVITE; a 2xx may be changed for the session timer."""
        status = response.status
        if status >= 300:
            self.note("refused", target.uri, status, response.reason)
            self.left(target, status)
            return
        offered = self.offered
        if self.state == TERMINATED:
            return
        tag = _tag_of(response)
        dialog = self.dialog(tag)
        if dialog is None:
            # an answer counts also where it makes no dialog that could be told from others
            if (len(self.dialogs) >= _MOST_DIALOGS or not tag) and (status < 200 or self.was_answered):
                return
            dialog = CallDialog(tag, target)
            self.dialogs.append(dialog)
        if status < 200:
            if dialog.rang != status and dialog.state == EARLY:
                dialog.rang = status
                self.note("rings", target.uri, status, response.reason)
                dialog.to = response.first.get("to", "")
                dialog.contact = response.first.get("contact", dialog.contact)
                if self.state == TRYING:
                    self.state = EARLY
                if self.calls.watchers:
                    self.calls.tell(self)
            return
        interval = session_timer.agreed(response, offered) if offered or "session-expires" in response.first else 0
        if dialog.answered:
            return  # sent again
        dialog.answered = True
        first = response.first
        dialog.state = CONFIRMED
        dialog.target = target
        dialog.to = first.get("to", "")
        dialog.contact = first.get("contact", "")
        dialog.record_routes = response.all("record-route")
        if target in self.ringing:
            self.ringing.remove(target)
        now = self.calls.seconds()
        self.note("answered", target.uri, status, response.reason)
        if interval:
            self._timed(dialog, interval, first["session-expires"], now)
        if self.answered == NEVER:
            self.answered = now
            self.state = CONFIRMED
            self.status, self.phrase = status, response.reason
            self.answerer = target.uri
            self.calls.answered(self)
        else:
            self.calls.answered_again(self)

    def late(self, target: Target, response: Response) -> None:
        """A 2xx to an INVITE that was answered before: of another who answered, or the same again."""
        if self.dialog(_tag_of(response)) is None and self.state == CONFIRMED:
            self.answer(target, response)
        elif self.offered:
            session_timer.agreed(response, self.offered)  # as the first time

    def left(self, target: Target, status: int = 0) -> None:
        """The branch to `target` has ended without a 2xx; `status` is what it ended with, 0 for nothing."""
        if self.state == TERMINATED or target not in self.ringing:
            return
        self.ringing.remove(target)
        for dialog in self.dialogs:
            if dialog.target is target and dialog.state == EARLY:
                dialog.state, dialog.status = TERMINATED, status
        if target.peer:
            if status:
                self.turned_down = {**self.turned_down, target.peer: status}
            self._free(target.peer)
        if self.calls.watchers:
            self.calls.tell(self)

    def failed(self, target: Target, status: int, reason: str = "") -> None:
        """The branch to `target` ended without a response, as if with `status`."""
        self.note("failed", target.uri, status, reason)
        self.left(target, status)

    def cancelled(self, reason: str = "") -> None:
        """The caller gave up."""
        self.given_up = True
        self.note("cancelled", reason)

    def refused(self, status: int, phrase: str) -> None:
        """A final response other than 2xx goes back to the caller."""
        if self.state >= CONFIRMED:
            return
        self.legs -= 1
        if self.legs > 0:
            return
        self.status, self.phrase = status, phrase
        if self.given_up:
            self.end(CANCELLED, "caller")
        else:
            self.end(self.why or FAILED, "")

    def picks_up(self, other: Call) -> None:
        """Its INVITE asked for another call, and ends since that comes to its caller by an INVITE of its own."""
        self.why = PICKED
        self.note("picks-up", other.call_id)

    def settled(self) -> None:
        """Nothing more can come of its INVITE but another 2xx: whoever did not answer does not ring any more."""
        if self.state != CONFIRMED or (not self.ringing and len(self.dialogs) == 1):
            return
        answered = [dialog.target for dialog in self.dialogs if dialog.state == CONFIRMED]
        for target in [target for target in self.ringing if target not in answered]:
            self.left(target)
        early = [dialog for dialog in self.dialogs if dialog.state == EARLY]
        for dialog in early:
            dialog.state = TERMINATED
        if early and self.calls.watchers:
            self.calls.tell(self)

    # --- requests in its dialogs

    def dialog(self, tag: str) -> CallDialog | None:
        """The dialog with that tag of whoever was called."""
        for dialog in self.dialogs:
            if dialog.tag == tag:
                return dialog
        return None

    def within(self, request: Request, from_caller: bool) -> None:
        """A request in one of its dialogs comes by. Raises Reject (422)."""
        number, method = request.cseq_number, request.method
        dialog: CallDialog | None = None
        if from_caller:
            if number > self.cseq:
                self.cseq = number
            if method == "BYE":
                dialog = self.dialog(request.to_tag)
        else:
            dialog = self.dialog(request.from_tag)
            if dialog is not None and number > dialog.cseq:
                dialog.cseq = number
        if method == "BYE":
            by = "caller" if from_caller else "callee"
            self.note("bye", by)
            if dialog is not None and dialog.bye_at == NEVER:
                dialog.bye_at = self.calls.seconds()
                dialog.bye_by = by
        elif method in session_timer.REFRESHES:
            self.note("refresh", method, "caller" if from_caller else "callee")
            values = self.calls.values
            self.offered = session_timer.offer(request, values.session_expires, values.min_se)

    def over(self, request: Request, status: int, response: Response | None) -> None:
        """What a request in one of its dialogs came to; 408 without a response where nobody answered it."""
        if self.state == TERMINATED:
            return
        method = request.method
        from_caller = request.from_tag == self.tag
        dialog = self.dialog(request.to_tag if from_caller else request.from_tag)
        if dialog is None:
            return
        if method == "BYE":
            # RFC 3261 s15.1.1: whoever sends a BYE is gone, whatever is answered; but for one who must try again
            if status not in (401, 407):
                self._hung_up(dialog, BYE, dialog.bye_by or ("caller" if from_caller else "callee"))
            return
        if method in session_timer.REFRESHES and 200 <= status < 300 and response is not None:
            # s12.2.2: who asked is where the request said, as the other is where its 2xx says
            contact = request.first.get("contact", "")
            if contact and from_caller:
                self.contact = contact
            elif contact:
                dialog.contact = contact
            self.refreshed(dialog, from_caller, response)
        elif status in (408, 481) and method not in _OTHER_USAGES and dialog.state == CONFIRMED:
            # s12.2.1.2: one side is gone
            self.note("gone", method, status)
            dialog.status = status if response is not None else 0
            self._hung_up(dialog, GONE, "callee" if from_caller else "caller")

    def refreshed(self, dialog: CallDialog, from_caller: bool, response: Response) -> None:
        """RFC 4028 s8.2: a 2xx to a re-INVITE or an UPDATE runs through and starts the session timer anew."""
        interval = session_timer.agreed(response, self.offered)
        if from_caller:
            dialog.contact = response.first.get("contact", dialog.contact)
        else:
            self.contact = response.first.get("contact", self.contact)
        if interval:
            self._timed(dialog, interval, response.first["session-expires"], self.calls.seconds(), from_caller)
        else:
            dialog.expires, dialog.interval = NEVER, 0
        if dialog.state == CONFIRMED:
            self.calls.refreshed(self)

    def _timed(self, dialog: CallDialog, interval: int, value: str, now: float, from_caller: bool = True) -> None:
        """s8.2: the session lasts until then, and who refreshes it."""
        dialog.interval = interval
        dialog.expires = now + interval
        uac = "refresher=uas" not in value.lower()
        dialog.refresher = "caller" if uac == from_caller else "callee"
        self.note("timer", interval, dialog.refresher)

    def _hung_up(self, dialog: CallDialog, why: str, by: str) -> None:
        """A dialog has ended; with the last of an answered call the call has."""
        dialog.state = TERMINATED
        if self.state != CONFIRMED:
            return  # an early dialog was left; its INVITE gets an answer yet
        for other in self.dialogs:
            if other.state == CONFIRMED:
                if dialog.target is not None and dialog.target.peer:
                    self._free(dialog.target.peer)
                if self.calls.watchers:
                    self.calls.tell(self)
                return
        self.end(why, by, dialog.bye_at)

    def expired(self, dialog: CallDialog) -> None:
        """RFC 4028 s8.3: the session of a dialog was not refreshed in time."""
        self.note("expired", dialog.interval, dialog.refresher)
        self._hung_up(dialog, SESSION_TIMER, "")

    # --- its end

    def end(self, why: str, by: str, at: float = NEVER) -> None:
        """It is over, since `at` (seconds of the clock; NEVER: now)."""
        if self.state == TERMINATED:
            return
        self.state = TERMINATED
        self.ended = self.calls.seconds() if at == NEVER else at
        self.why, self.by = why, by
        for dialog in self.dialogs:
            dialog.state = TERMINATED
        self.note("end", why, by, self.status, self.phrase)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.calls.ended(self)
        self.ringing, self.peers = _NOBODY, _NO_PEERS

    @property
    def was_answered(self) -> bool:
        """Whether anybody took it."""
        return self.answered != NEVER

    @property
    def was_ended(self) -> bool:
        """Whether it is over."""
        return self.state == TERMINATED

    def ending(self) -> str:
        """How it ended, in words."""
        who = {"caller": address_of(self.from_), "callee": address_of(self.to)}.get(self.by, "the server")
        if self.why == FAILED:
            return f"{self.status} {self.phrase}"
        if self.why == BYE:
            return f"hung up by {who}"
        if self.why == GONE:
            return f"{who} is gone"
        return {CANCELLED: "the caller gave up", PICKED: "it picked up another call",
                SESSION_TIMER: "nobody refreshed its session timer",
                MAX_DURATION: "the server ended it, it lasted too long",
                UNSEEN: "it goes on unseen, without Record-Route"}.get(self.why, "")

    def at(self, seconds: float) -> float:
        """A time of the clock in seconds since the epoch."""
        return self.wall + seconds - self.started

    # --- who is busy with it

    def busy(self, peer: str) -> None:
        """A peer is called, or has answered."""
        peer = peer.removesuffix(self.calls.at_home)
        self.peers.append(peer)
        self.calls.join(peer, self)

    def _free(self, peer: str) -> None:
        peer = peer.removesuffix(self.calls.at_home)
        if peer in self.peers:
            self.peers.remove(peer)
            if peer not in self.peers and peer != self.caller:
                self.calls.part(peer, self)

    def parties(self) -> set[str]:
        """The peers that take part, the caller too."""
        return {self.caller, *self.peers} - {""}


def _tag_of(response: Response) -> str:
    """The To tag, "" where there is none or it cannot be read; the caller may read it still."""
    try:
        return response.to_tag
    except MalformedMessage:
        return ""


def address_of(value: str) -> str:
    """The URI in a value of From or To, as people read it."""
    try:
        return Address.read(value).uri_text
    except MalformedMessage:
        return "somebody unreadable"
