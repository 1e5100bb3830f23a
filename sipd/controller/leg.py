"""One of the two dialogs of a call that we control: what we send in it, and what comes (RFC 3261 s12.2, s14, s15)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from sipd.controller.invite import Invite, Sent
from sipd.core.uac import Ask, Outcome
from sipd.dialog import Dialog
from sipd.message import compose
from sipd.message.address import Address
from sipd.message.errors import MalformedMessage, Reject
from sipd.message.message import Request, Response
from sipd.proxy.targets import Target
from sipd.wheel import Timer

if TYPE_CHECKING:
    from sipd.controller.controller import Controller
    from sipd.transaction.key import Key
    from sipd.transaction.layer import ServerTransaction

#: What the other side may send us in a dialog.
ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY, UPDATE, INFO, MESSAGE, REFER, SUBSCRIBE"
#: In every INVITE of ours, and in answers to one.
CAPABLE = (("Allow", ALLOW),)
SDP = "application/sdp"

_IDLE, _CALLING, _UP, _ENDING, _OVER = "not called", "called", "up", "ending", "over"


class Party(Protocol):
    """Who has a leg: the call."""

    def ringing(self, leg: Leg, response: Response) -> None:
        """A provisional response to the INVITE that began it."""

    def answered(self, leg: Leg, invite: Invite, response: Response) -> None:
        """The 2xx to that INVITE; `invite.acknowledge` follows."""

    def refused(self, leg: Leg, status: int, reason: str, response: Response | None) -> None:
        """It has no dialog and will have none."""

    def requested(self, leg: Leg, request: Request, server: ServerTransaction) -> None:
        """A request came in its dialog, and is to be answered."""

    def hung_up(self, leg: Leg) -> bool:
        """It sent BYE, which is answered. True: what may still come in the dialog is wanted (RFC 5057 s4.1)."""

    def left(self, leg: Leg) -> None:
        """The last that this leg waited for has come or was waited for long enough."""


class Leg:
    """Our side of one dialog; it is found by the user part of our Contact, which nobody can guess.

    `name` is what people call the other side, `uri` where it is called, `shown` what it sees as the caller: From;
    `behalf` is the address-of-record of whom we call for, "" for ourselves.
    """

    __slots__ = ("controller", "call", "side", "name", "uri", "shown", "behalf", "contact", "call_id",
                 "invite", "dialog", "state", "accepting", "told", "asked", "_lingers", "response")

    def __init__(self, controller: Controller, call: Party, side: int, name: str, uri: str, shown: str,
                 behalf: str = "") -> None:
        self.controller = controller
        self.call = call
        self.side = side
        self.name = name
        self.uri = uri
        identifiers = controller.identifiers
        self.behalf = behalf
        self.shown = f"{shown};tag={identifiers.tag()}"
        self.contact = f"o{identifiers.tag()}"
        self.call_id = identifiers.tag()
        self.invite: Invite | None = None
        self.dialog: Dialog | None = None
        self.state = _IDLE
        #: Our 2xx to an INVITE of the other side, until its ACK.
        self.accepting: Accepting | None = None
        #: Our Contact value, as the other side has it.
        self.told = ""
        #: Requests of ours under way here.
        self.asked = 0
        #: It has hung up, and may still tell something.
        self._lingers = False
        #: The 2xx that made the dialog: what the other side is able to do.
        self.response: Response | None = None

    @property
    def up(self) -> bool:
        """True while there is a dialog that nobody has ended."""
        return self.state == _UP

    @property
    def over(self) -> bool:
        """True when it will not change any more."""
        return self.state == _OVER

    # --- beginning

    def begin(self) -> None:
        """s13.2: calls the other side without an offer, so that it makes one (RFC 3725 flow I, III)."""
        self.state = _CALLING
        self.controller.legs[self.contact] = self.controller.call_ids[self.call_id] = self
        sent = Sent(Target(self.uri), self.shown, f"<{self.uri}>", self.call_id, 1, self.contact, CAPABLE)
        self.invite = Invite(self.controller.proxy, sent, _Beginning(self))
        self.invite.send()

    def give_up(self) -> None:
        """Ends it, however far it has come: CANCEL or BYE."""
        if self.state == _CALLING and self.invite is not None:
            self.invite.cancel()
        elif self.state == _UP:
            self.bye()
        elif self.state == _IDLE:
            self._leave()
        else:
            self._lingers = False
            self._leave_if_over()

    # --- requests of ours

    def reinvite(self, body: bytes, user: Answered) -> Invite:
        """s14.1: another INVITE in the dialog; with an offer, or without for one."""
        dialog = self.dialog
        assert dialog is not None
        headers = (*CAPABLE, ("Content-Type", SDP)) if body else CAPABLE
        sent = Sent(Target(dialog.target, dialog.routes), dialog.local, dialog.remote, dialog.call_id,
                    dialog.next_cseq(), self.contact, headers, body)
        invite = Invite(self.controller.proxy, sent, _Again(user), dialog)
        # nobody rings: it is answered within the time of a transaction, or not at all
        invite.send(self.controller.layer.values.timeout)
        return invite

    def ask(self, method: str, done: Callable[[Outcome], None], headers: tuple[tuple[str, str], ...] = (),
            body: bytes = b"", dialog: Dialog | None = None) -> None:
        """Any other request in the dialog (or in one that a fork made); `done` hears what came of it, once."""
        own = dialog or self.dialog
        assert own is not None
        number = own.next_cseq()
        ask = Ask(method, Target(own.target, own.routes), own.remote, own.local, own.call_id, number - 1,
                  contact="" if method in ("BYE", "INFO", "MESSAGE") else self.contact, headers=headers, body=body,
                  blames=False)
        self.asked += 1

        def told(outcome: Outcome) -> None:
            self.asked -= 1
            own.local_cseq = max(own.local_cseq, ask.cseq)
            done(outcome)
            self._leave_if_over()

        if self.controller.uac.send(ask, told) is None:
            self.asked -= 1
            self.controller.wheel.start(0.0, done, Outcome(0, "too much is under way here"))

    def bye(self, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """s15.1.1: hangs up."""
        if self.state != _UP:
            return
        self.state = _ENDING
        self._stop_accepting()
        self.ask("BYE", self._ended, headers)

    def _ended(self, outcome: Outcome) -> None:
        self._leave()

    def fork(self, dialog: Dialog) -> None:
        """s13.2.2.4: another phone of the same fork has answered; one is enough."""
        self.ask("BYE", lambda outcome: None, dialog=dialog)

    # --- requests of the other side

    def request(self, request: Request, key: Key) -> None:
        """A request to our Contact. Raises Reject (481, 500, 503)."""
        dialog = self.dialog
        if dialog is None or self.state == _OVER or Dialog.key_of(request) != dialog.id:
            raise Reject(481)
        if not dialog.takes(request):
            raise Reject(500, "CSeq Out of Order")  # s12.2.2
        server = self.controller.layer.serve(request, key)
        if server is None:
            raise Reject(503, "Server Overloaded")
        if request.method == "BYE":
            self.answer(server, 200)
            if self.state == _UP:
                self._stop_accepting()
                self.state = _ENDING
                self._lingers = self.call.hung_up(self)
                self._leave_if_over()
        elif self.state != _UP and request.method != "NOTIFY":
            self.answer(server, 481)
        else:
            if request.method in ("INVITE", "UPDATE", "SUBSCRIBE"):
                dialog.refresh(request)
            if request.method == "INVITE":
                server.answer(100, compose.trying(request))  # s17.2.1: the other one takes its time
            self.call.requested(self, request, server)

    def answer(self, server: ServerTransaction, status: int, reason: str = "",
               headers: tuple[tuple[str, str], ...] = (), body: bytes = b"") -> None:
        """Answers a request in this dialog; nothing when it has its answer."""
        request = server.request
        if request is not None:
            server.answer(status, compose.response(request, status, reason, "", headers, body))

    def accept(self, server: ServerTransaction, body: bytes, acknowledged: Callable[[Request | None], None]) -> None:
        """s14.2, s13.3.1.4: 200 to an INVITE of the other side, repeated until the ACK that `acknowledged` gets; None
        when it did not come."""
        request = server.request
        assert request is not None and request.flow is not None
        headers: tuple[tuple[str, str], ...] = (("Contact", self.told), *CAPABLE)
        if body:
            headers += (("Content-Type", SDP),)
        data = compose.response(request, 200, "", "", headers, body)
        self._stop_accepting()
        self.accepting = Accepting(self, server, request.cseq_number, data, acknowledged)
        self.accepting.begin()

    def ack(self, request: Request) -> None:
        """An ACK to our Contact."""
        accepting = self.accepting
        if accepting is not None and request.cseq_number == accepting.cseq:
            self.accepting = None
            accepting.end(request)

    def _stop_accepting(self) -> None:
        accepting, self.accepting = self.accepting, None
        if accepting is not None:
            accepting.end(None)

    # --- the end

    def _leave_if_over(self) -> None:
        if self.state == _ENDING and not (self.asked or self._lingers):
            self._leave()

    def _leave(self) -> None:
        if self.state == _OVER:
            return
        self.state = _OVER
        self._stop_accepting()
        self.controller.legs.pop(self.contact, None)
        self.controller.call_ids.pop(self.call_id, None)
        self.call.left(self)

    # --- of the INVITE that began it

    def begun(self, dialog: Dialog, invite: Invite, response: Response) -> None:
        """It was answered."""
        self.dialog = dialog
        self.response = response
        self.told = invite.contact
        self.state = _UP
        self.call.answered(self, invite, response)

    def not_begun(self, status: int, reason: str, response: Response | None) -> None:
        """It was refused."""
        self._leave()
        self.call.refused(self, status, reason, response)

    def is_able(self, method: str) -> bool:
        """True when the other side said so in Allow (s20.5)."""
        return self.response is not None and method in [
            value.strip().upper() for value in self.response.values("allow")]

    def reached(self) -> str:
        """`user@host` of its Contact, to compare with bindings; over TCP a phone may show a port of the moment."""
        try:
            uri = Address.parse(f"<{self.dialog.target}>").uri if self.dialog is not None else None
        except MalformedMessage:
            return ""
        return "" if uri is None else f"{uri.user}@{uri.host}"


class Answered(Protocol):
    """Who wants to know what came of an INVITE in a dialog."""

    def agreed(self, invite: Invite, response: Response) -> None:
        """A 2xx; `invite.acknowledge` follows."""

    def disagreed(self, status: int, reason: str) -> None:
        """Refused; the session is as it was (s14.1)."""


class _Beginning:
    """The user of the INVITE that begins a leg."""

    __slots__ = ("_leg",)

    def __init__(self, leg: Leg) -> None:
        self._leg = leg

    def provisional(self, invite: Invite, response: Response) -> None:
        """See InviteUser."""
        self._leg.call.ringing(self._leg, response)

    def accepted(self, invite: Invite, dialog: Dialog, response: Response) -> None:
        """See InviteUser."""
        self._leg.begun(dialog, invite, response)

    def forked(self, dialog: Dialog) -> None:
        """See InviteUser."""
        self._leg.fork(dialog)

    def refused(self, invite: Invite, status: int, reason: str, response: Response | None) -> None:
        """See InviteUser."""
        self._leg.not_begun(status, reason, response)


class _Again:
    """The user of an INVITE in a leg's dialog."""

    __slots__ = ("_user",)

    def __init__(self, user: Answered) -> None:
        self._user = user

    def provisional(self, invite: Invite, response: Response) -> None:
        """See InviteUser: nobody rings."""

    def accepted(self, invite: Invite, dialog: Dialog, response: Response) -> None:
        """See InviteUser."""
        self._user.agreed(invite, response)

    def forked(self, dialog: Dialog) -> None:
        """See InviteUser: no fork within a dialog; it is acknowledged and that is all."""

    def refused(self, invite: Invite, status: int, reason: str, response: Response | None) -> None:
        """See InviteUser."""
        self._user.disagreed(status, reason)


class Accepting:
    """A 2xx of ours to an INVITE: it goes out again and again until the ACK comes (s13.3.1.4)."""

    __slots__ = ("_leg", "_server", "cseq", "_data", "_told", "_timer", "_interval", "_until")

    def __init__(self, leg: Leg, server: ServerTransaction, cseq: int, data: bytes,
                 told: Callable[[Request | None], None]) -> None:
        self._leg = leg
        self._server = server
        self.cseq = cseq
        self._data = data
        self._told: Callable[[Request | None], None] | None = told
        self._timer: Timer | None = None
        values = leg.controller.layer.values
        self._interval = values.t1
        self._until = leg.controller.wheel.now + values.timeout

    def begin(self) -> None:
        """Sends it the first time."""
        self._again(None)

    def _again(self, nothing: None) -> None:
        controller = self._leg.controller
        self._timer = None
        if controller.wheel.now >= self._until:
            if self._leg.accepting is self:
                self._leg.accepting = None
            self.end(None)
            return
        self._server.answer(200, self._data)
        self._timer = controller.wheel.start(self._interval, self._again, None)
        self._interval = min(2 * self._interval, controller.layer.values.t2)

    def end(self, ack: Request | None) -> None:
        """The ACK came, or it is waited for no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        told, self._told = self._told, None
        if told is not None:
            told(ack)
