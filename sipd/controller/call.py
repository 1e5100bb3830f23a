"""A call that this server begins: the first party is rung, and connected to the second (RFC 3725, RFC 3515).

The first is called without an offer and, once somebody answers, held: RFC 3725 flow III. A phone of ours that knows
REFER is then asked to call the second itself, and has a plain call of its own. Any other is connected here: the second
is called without an offer too, what it offers the first gets in a re-INVITE, and its answer goes back in the ACK. From
then on the call has two dialogs with us in the middle, and `relay` carries what the one says to the other.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sipd.controller.invite import Invite
from sipd.controller.leg import SDP, Leg
from sipd.controller.relay import Relay
from sipd.controller.sdp import Description, Pairing
from sipd.core.uac import Outcome
from sipd.message.message import Request, Response
from sipd.wheel import Timer

if TYPE_CHECKING:
    from sipd.controller.controller import Controller
    from sipd.transaction.layer import ServerTransaction

#: How two parties may be connected.
REFER, CONTROLLED = "refer", "3pcc"
#: What the call is doing.
RINGING, HELD, REFERRED, CALLING, JOINING, CONNECTED, OVER = (
    "rings the first", "has the first", "the first calls", "rings the second", "joins them", "connected", "over")
#: Seconds between two questions to both parties of a call we hold, whether they are still there.
_ASK_EVERY = 600.0
#: Answers that end a dialog (RFC 5057 s5.1), with none at all.
_GONE = frozenset({0, 404, 408, 410, 480, 481, 604})
#: The status line in the body of a NOTIFY (RFC 3515 s2.4.5).
_SIPFRAG = re.compile(r"SIP/2\.0 ([1-6][0-9]{2})(?: ([^\r\n]{0,200}))?")


class Originated:
    """One call from here. `first` and `second` are its legs; `way` is REFER, CONTROLLED, or "" for what fits."""

    def __init__(self, controller: Controller, number: int, way: str, patience: float) -> None:
        self.controller = controller
        self.number = number
        self.way = way
        self.patience = patience
        self.state = RINGING
        self.first: Leg
        self.second: Leg
        #: What happened, for people: {"step", "party", ...}, oldest first.
        self.steps: list[dict[str, Any]] = []
        #: Who wants each step as it comes.
        self.watchers: list[Any] = []
        self.since = controller.wheel.now
        self.pairing = Pairing()
        self.relay: Relay | None = None
        self._told = [0, 0]
        self._session = [number * 2 + 1_000, number * 2 + 1_001]
        self._timer: Timer | None = None
        self._offer: Invite | None = None
        self._offered: Description | None = None
        self._rang: set[int] = set()
        #: How long the first may take to tell how its own call goes (seconds of the clock), 0 before it tells anything.
        self._until = 0.0

    # --- the way forward

    def start(self) -> None:
        """Calls the first."""
        self._step("calling", self.first)
        self._wait(self.patience)
        self.first.begin()

    def give_up(self, reason: str = "given up") -> None:
        """Whoever asked for it does not want it any more."""
        if self.state not in (CONNECTED, OVER):
            self._fail(None, 0, reason)

    def ringing(self, leg: Leg, response: Response) -> None:
        """See Party."""
        if response.status in (180, 183) and leg.side not in self._rang and self.state in (RINGING, CALLING):
            self._rang.add(leg.side)
            self._step("ringing", leg)

    def answered(self, leg: Leg, invite: Invite, response: Response) -> None:
        """See Party."""
        offer = Description.parse(response.body) if response.first.get("content-type", "")[:15].lower() == SDP else None
        if self.state == RINGING and leg is self.first:
            self._first_answered(invite, offer)
        elif self.state == CALLING and leg is self.second:
            self._second_answered(invite, offer)
        else:  # it was cancelled, and the answer was under way already (s9.1)
            self._acknowledge_held(leg, invite, offer)
            leg.bye()

    def _first_answered(self, invite: Invite, offer: Description | None) -> None:
        self._stop_timer()
        self._step("answered", self.first)
        self._acknowledge_held(self.first, invite, offer)
        self.state = HELD
        if offer is None:
            self._fail(self.first, 0, "answered without a session description")
            return
        self.pairing = self.pairing.alone(0, offer.held().media)
        if self.way == REFER or (not self.way and self.first.is_able("REFER") and self.controller.is_phone(self.first)):
            self._refer()
        else:
            self._call_second()

    def _acknowledge_held(self, leg: Leg, invite: Invite, offer: Description | None) -> None:
        if offer is None:
            invite.acknowledge()
        else:
            invite.acknowledge((("Content-Type", SDP),), self.text(leg.side, offer.held()))

    def text(self, side: int, description: Description) -> bytes:
        """What a party is told. RFC 3264 s8: every description of a session has the same origin, and a version one
        higher."""
        self._told[side] += 1
        return description.text(f"- {self._session[side]} {self._told[side]} IN IP4 0.0.0.0")

    # --- by REFER

    def _refer(self) -> None:
        self.state = REFERRED
        self._step("referred", self.first)
        # a phone that may have one call at a time is to make this one
        self.controller.set_aside(self.first)
        self.first.ask("REFER", self._referred, (("Refer-To", f"<{self.second.uri}>"),))

    def _referred(self, outcome: Outcome) -> None:
        if self.state != REFERRED:
            return
        if 200 <= outcome.status < 300:
            # RFC 3515 s2.4.4: the first NOTIFY comes at once
            if not self._until:
                self._wait(self.controller.layer.values.timeout)
        elif self.way == REFER or not self.first.up:
            self._fail(self.first, outcome.status, f"refuses REFER: {outcome.reason}")
        else:
            self._step("refused REFER", self.first, outcome.status, outcome.reason)
            self._call_second()

    def _notified(self, request: Request) -> None:
        """RFC 3515 s2.4.5: how the call goes that the first makes."""
        if self.state != REFERRED:
            return
        found = _SIPFRAG.match(request.body.decode("utf-8", "replace"))
        status, reason = (int(found[1]), found[2] or "") if found is not None else (0, "")
        ended = request.first.get("subscription-state", "").strip().lower().startswith("terminated")
        self._stop_timer()
        if 200 <= status < 300:
            self._step("answered", self.second)
            self._connected(REFER)
        elif status >= 300:
            self._fail(self.second, status, reason)
        elif ended:
            self._handed_over()
        else:
            if status in (180, 183) and 1 not in self._rang:
                self._rang.add(1)
                self._step("ringing", self.second)
            now = self.controller.wheel.now
            # from the first word on, however many follow
            self._until = self._until or now + self.patience + self.controller.layer.values.timeout
            self._wait(max(0.0, self._until - now))

    def _handed_over(self) -> None:
        """The first has taken it over and says no more of it."""
        self._step("handed over", self.first)
        self._connected(REFER)

    # --- by two dialogs of ours

    def _call_second(self) -> None:
        self.state = CALLING
        self._step("calling", self.second)
        self._wait(self.patience)
        self.second.begin()

    def _second_answered(self, invite: Invite, offer: Description | None) -> None:
        self._stop_timer()
        self._step("answered", self.second)
        # the first is in one call, which has two dialogs here
        self.controller.set_aside(self.second, False)
        if offer is None:
            invite.acknowledge()
            self._fail(self.second, 0, "answered without a session description")
            return
        self.state = JOINING
        self._offer, self._offered = invite, offer
        self.pairing, offered = self.pairing.offer(1, offer)
        self._wait(self.controller.layer.values.timeout)
        self.first.reinvite(self.text(0, offered), self)

    def agreed(self, invite: Invite, response: Response) -> None:
        """See Answered: the first takes what the second offers."""
        invite.acknowledge()
        if self.state != JOINING or self._offer is None:
            return
        answer = Description.parse(response.body)
        if answer is None:
            self.disagreed(0, "answered without a session description")
            return
        self._stop_timer()
        self.pairing, answered = self.pairing.answer(0, answer)
        offer, self._offer = self._offer, None
        offer.acknowledge((("Content-Type", SDP),), self.text(1, answered))
        self.relay = Relay(self)
        self._connected(CONTROLLED)
        self._wait(_ASK_EVERY)

    def disagreed(self, status: int, reason: str) -> None:
        """See Answered."""
        if self.state == JOINING:
            self._fail(self.first, status, reason or "does not agree to the other's media")

    # --- what the parties do

    def refused(self, leg: Leg, status: int, reason: str, response: Response | None) -> None:
        """See Party."""
        if self.state in (RINGING, CALLING):
            self._fail(leg, status, reason)

    def requested(self, leg: Leg, request: Request, server: ServerTransaction) -> None:
        """See Party."""
        method = request.method
        if self.relay is not None and self.state == CONNECTED:
            self.relay.requested(leg, request, server)
        elif method == "NOTIFY" and request.first.get("event", "").partition(";")[0].strip().lower() == "refer":
            leg.answer(server, 200)
            self._notified(request)
        elif method in ("OPTIONS", "INFO", "MESSAGE") or (method == "UPDATE" and not request.body):
            leg.answer(server, 200)
        elif method in ("INVITE", "UPDATE"):
            leg.answer(server, 491)  # s14.1: it is asked again in a moment
        elif method == "NOTIFY":
            leg.answer(server, 489)
        else:
            leg.answer(server, 403)

    def hung_up(self, leg: Leg) -> bool:
        """See Party."""
        if self.state == REFERRED:
            # whoever is transferred may end the old call first; how the new one goes is still told (RFC 5057 s4.1)
            self._wait(self.controller.layer.values.timeout)
            return True
        if self.state == CONNECTED:
            self._step("hung up", leg)
            self._finish()
        elif self.state != OVER:
            self._fail(leg, 0, "hung up")
        return False

    def lost(self, leg: Leg) -> None:
        """Whoever does not acknowledge is not there any more (s13.3.1.4)."""
        if self.state == CONNECTED:
            self._step("gone", leg)
            self._finish()

    def left(self, leg: Leg) -> None:
        """See Party."""
        self._forget_if_over()

    # --- time

    def _wait(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.controller.wheel.start(seconds, self._late, None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self, nothing: None) -> None:
        self._timer = None
        if self.state in (RINGING, CALLING):
            self._fail(self.first if self.state == RINGING else self.second, 408, "did not answer")
        elif self.state == REFERRED:
            if not self.first.up:
                self._fail(self.first, 0, "hung up")
            elif 1 in self._rang:
                self._fail(self.second, 408, "did not answer")
            else:
                self._handed_over()
        elif self.state == JOINING:
            self._fail(self.first, 408, "does not answer any more")
        elif self.state == CONNECTED:
            for leg in (self.first, self.second):
                leg.ask("OPTIONS", lambda outcome, leg=leg: self._asked(leg, outcome))  # type: ignore[misc]
            self._wait(_ASK_EVERY)

    def _asked(self, leg: Leg, outcome: Outcome) -> None:
        """Whoever is gone without a BYE leaves nothing behind."""
        if self.state == CONNECTED and outcome.status in _GONE and leg.up:
            self._step("gone", leg, outcome.status, outcome.reason)
            self._finish()

    # --- the end

    def _connected(self, way: str) -> None:
        self.way = way
        self.state = CONNECTED
        self._step("connected", None, way=way)
        self.controller.note_connected(self)
        if way == REFER:
            self._finish()

    def _fail(self, leg: Leg | None, status: int, reason: str) -> None:
        self.controller.note_failed(self, leg, status, reason)
        self._step("failed", leg, status, reason)
        self._finish()

    def _finish(self) -> None:
        """Ends whatever is left of it here."""
        self.state = OVER
        self._stop_timer()
        if self.relay is not None:
            self.relay.stop()
        offer, self._offer = self._offer, None
        if offer is not None and self._offered is not None:
            self._acknowledge_held(self.second, offer, self._offered)
        for leg in (self.first, self.second):
            leg.give_up()
        self._forget_if_over()

    def _forget_if_over(self) -> None:
        if self.state == OVER and self.first.over and self.second.over:
            self.controller.calls.pop(self.number, None)

    # --- for people

    def _step(self, step: str, leg: Leg | None, status: int = 0, reason: str = "", way: str = "") -> None:
        said: dict[str, Any] = {"step": step, "party": leg.name if leg is not None else "",
                                "seconds": round(self.controller.wheel.now - self.since, 1)}
        if status or reason:
            said |= {"status": status, "reason": reason}
        if way:
            said["way"] = way
        self.steps.append(said)
        for watcher in list(self.watchers):
            watcher(said)

    def row(self) -> dict[str, Any]:
        """What a person wants to know of it."""
        return {"number": self.number, "first": self.first.name, "second": self.second.name, "state": self.state,
                "way": self.way, "seconds": round(self.controller.wheel.now - self.since),
                "call_ids": [leg.call_id for leg in (self.first, self.second) if leg.invite is not None]}
