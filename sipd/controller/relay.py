"""What passes between the two dialogs of a connected call: re-INVITE, UPDATE, BYE and all else (RFC 3725 s7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sipd.controller.invite import Invite
from sipd.controller.leg import SDP, Leg
from sipd.controller.sdp import Description, Pairing
from sipd.core.uac import Outcome
from sipd.message.message import Message, Request, Response

if TYPE_CHECKING:
    from sipd.controller.call import Originated
    from sipd.transaction.layer import ServerTransaction

#: Requests that are passed on as they are.
_PASSED = frozenset({"INFO", "MESSAGE", "OPTIONS", "REFER", "NOTIFY", "SUBSCRIBE"})
#: Fields of them, and of answers to them, that mean something to the other party.
_FIELDS = ("content-type", "content-disposition", "content-encoding", "content-language", "refer-to", "referred-by",
           "refer-sub", "event", "subscription-state", "expires", "accept", "info-package", "recv-info", "retry-after",
           "warning", "allow-events")
_SPELLED = {name: "-".join(part.capitalize() for part in name.split("-")) for name in _FIELDS}

#: Requests to one party under way at a time.
_MOST_ASKED = 16


class Relay:
    """Carries requests between the two legs of a call."""

    def __init__(self, call: Originated) -> None:
        self._call = call
        #: The change of the session under way: there is one at a time (s14.1).
        self._change: Change | None = None

    def requested(self, leg: Leg, request: Request, server: ServerTransaction) -> None:
        """A request of one party, for the other."""
        method = request.method
        other = self._other(leg)
        if method in ("INVITE", "UPDATE"):
            if method == "UPDATE" and not request.body:
                leg.answer(server, 200, headers=(("Contact", leg.told),))  # it only says that it is there (RFC 4028)
            elif self._change is not None or leg.accepting is not None:
                leg.answer(server, 491)  # s14.2
            else:
                self._begin(leg, other, request, server)
        elif method in _PASSED and other.asked >= _MOST_ASKED:
            leg.answer(server, 503)
        elif method in _PASSED:
            other.ask(method, lambda outcome: self._answer(leg, server, outcome), _fields(request), request.body)
        else:
            leg.answer(server, 405, headers=(("Allow", ", ".join(sorted(_PASSED | {"INVITE", "ACK", "BYE", "CANCEL",
                                                                                  "UPDATE"}))),))

    def stop(self) -> None:
        """The call is over."""
        if self._change is not None:
            self._change.refuse(487, "")

    def _other(self, leg: Leg) -> Leg:
        return self._call.second if leg is self._call.first else self._call.first

    def _answer(self, leg: Leg, server: ServerTransaction, outcome: Outcome) -> None:
        response = outcome.response
        if response is None:
            leg.answer(server, 408 if outcome.status == 0 else outcome.status)
        else:
            leg.answer(server, outcome.status, response.reason, _fields(response), response.body)

    def _begin(self, leg: Leg, other: Leg, request: Request, server: ServerTransaction) -> None:
        offer = _session(request)
        if request.body and offer is None:
            leg.answer(server, 415, headers=(("Accept", SDP),))
            return
        change = self._change = Change(self._call, leg, other, server, self._over)
        if request.method == "INVITE":
            server.user = change
        if offer is None:
            other.reinvite(b"", change)
            return
        change.pairing, offered = self._call.pairing.offer(leg.side, offer)
        body = self._call.text(other.side, offered)
        if request.method == "INVITE":
            other.reinvite(body, change)
        else:
            other.ask("UPDATE", change.updated, (("Content-Type", SDP),), body)

    def _over(self) -> None:
        self._change = None


class Change:
    """A session being changed by one of the parties: its INVITE or UPDATE waits for what the other says."""

    __slots__ = ("_call", "_leg", "_other", "_server", "_over", "pairing", "_invite")

    def __init__(self, call: Originated, leg: Leg, other: Leg, server: ServerTransaction,
                 over: Callable[[], None]) -> None:
        self._call = call
        self._leg = leg
        self._other = other
        self._server = server
        self._over: Callable[[], None] | None = over
        #: The media lines as they will be; None where the other side makes the offer.
        self.pairing: Pairing | None = None
        self._invite: Invite | None = None

    # --- of the INVITE to the other

    def agreed(self, invite: Invite, response: Response) -> None:
        """See Answered."""
        description = _session(response)
        if self._over is None or not self._leg.up:
            invite.acknowledge()  # it was given up meanwhile
        elif description is None:
            invite.acknowledge()
            self.refuse(488, "")
        elif self.pairing is not None:
            invite.acknowledge()
            self._take(description)
        else:
            # RFC 3725 flow I: the other one offers, and has its answer in the ACK
            self._invite = invite
            self.pairing, offered = self._call.pairing.offer(self._other.side, description)
            self._leg.accept(self._server, self._call.text(self._leg.side, offered), self._acknowledged)

    def disagreed(self, status: int, reason: str) -> None:
        """See Answered."""
        self.refuse(status or 408, reason if status else "")

    def _take(self, answer: Description) -> None:
        assert self.pairing is not None
        self._call.pairing, answered = self.pairing.answer(self._other.side, answer)
        self._leg.accept(self._server, self._call.text(self._leg.side, answered), lambda ack: self._end(ack))

    def _acknowledged(self, ack: Request | None) -> None:
        """The ACK with the answer to the offer of the other one."""
        invite, self._invite = self._invite, None
        answer = _session(ack) if ack is not None else None
        if invite is not None:
            if answer is None or self.pairing is None:
                invite.acknowledge()
                ack = None
            else:
                self._call.pairing, answered = self.pairing.answer(self._leg.side, answer)
                invite.acknowledge((("Content-Type", SDP),), self._call.text(self._other.side, answered))
        self._end(ack)

    def _end(self, ack: Request | None) -> None:
        over, self._over = self._over, None
        if over is not None:
            over()
            if ack is None:
                self._call.lost(self._leg)  # s13.3.1.4: nobody acknowledged it

    # --- of the UPDATE to the other

    def updated(self, outcome: Outcome) -> None:
        """What came of it (RFC 3311)."""
        response = outcome.response
        answer = _session(response) if response is not None and outcome.status < 300 else None
        if self._over is None:
            return
        if answer is None or self.pairing is None:
            self.refuse(outcome.status if outcome.status >= 300 else 408, outcome.reason if outcome.status else "")
            return
        self._call.pairing, answered = self.pairing.answer(self._other.side, answer)
        over, self._over = self._over, None
        over()
        self._leg.answer(self._server, 200, headers=(("Contact", self._leg.told), ("Content-Type", SDP)),
                         body=self._call.text(self._leg.side, answered))

    # --- of the one who asked

    def cancelled(self, request: Request) -> None:
        """See ServerUser. Nobody rings, so the answer is under way: it comes all the same (s9.2)."""

    def refuse(self, status: int, reason: str) -> None:
        """It comes to nothing: the session stays as it was (s14.1)."""
        over, self._over = self._over, None
        if over is None:
            return
        over()
        self._leg.answer(self._server, status, reason)
        invite, self._invite = self._invite, None
        if invite is not None:
            invite.acknowledge()


def _session(message: Message) -> Description | None:
    if message.first.get("content-type", "")[:15].lower() != SDP:
        return None
    return Description.parse(message.body)


def _fields(message: Message) -> tuple[tuple[str, str], ...]:
    return tuple((_SPELLED[name], value) for name in _FIELDS for value in message.all(name))
