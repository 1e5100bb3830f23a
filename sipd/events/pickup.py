"""Picking calls up: INVITEs with Replaces find the phone that they are about (RFC 3891), and a number takes the call
that rings at a colleague's phone: its INVITE gets the Replaces that a phone with a lamp would have written.

Where the caller could not obey that, as with a carrier's call, the call itself is moved: its own INVITE goes to the
phone that picks it up, beside those where it rings, and asks it to answer by itself. The INVITE that picked it up has
ended before, as a phone that is calling answers nothing by itself. Nobody else is cancelled until it answers: a phone
that cannot take the call in the end, or a user who will not, costs the caller nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from sipd.binding import Binding
from sipd.calls.call import CONFIRMED, EARLY
from sipd.message.address import Address
from sipd.message.errors import MalformedMessage, Reject
from sipd.message.message import Request
from sipd.message.params import parse_params, unquote
from sipd.proxy.targets import Stage, Target, Way, groups_of

if TYPE_CHECKING:
    from sipd.calls.call import Call, CallDialog
    from sipd.proxy.forwarding import Forwarding

#: Seconds from the end of the INVITE that picks a call up until the call comes: the phone has left its own call then.
PAUSE: Final = 0.2
#: How that INVITE ends. 487 is what phones get for a call that their own user ended: they show no failure and play no
#: tone of busy or error, as they would for 480, 486 or 603; a 302 would make them call again. RFC 6432: to a gateway
#: with an analogue phone the cause says the same.
_STATUS: Final = 487
_CAUSE: Final = (("Reason", 'Q.850;cause=16;text="Normal Clearing"'),)
#: How a call was picked up, for its history.
_REPLACED: Final = "the caller is sent an INVITE with Replaces"
_MOVED: Final = "the call goes to the phone that asked for it"


def answers_itself(domain: str) -> tuple[tuple[str, str], ...]:
    """What makes a phone answer without ringing: as Snom, Grandstream, Cisco and linphone know it, as Yealink, Polycom
    and Aastra do (the last rings for ever without a delay), and as RFC 5373 has it."""
    return (("Call-Info", f"<sip:{domain}>;answer-after=0"),
            ("Alert-Info", f"<sip:{domain}>;info=alert-autoanswer;delay=0"), ("Answer-Mode", "Auto"))


class Pickup:
    """`calls` gives the calls of an address-of-record, `found` the call with a Call-ID and its caller's tag; `aor` the
    address-of-record of a peer as the call table names it; `may_watch(watcher, entity)` whether somebody may know with
    whom another is; `bindings` those of an address-of-record."""

    def __init__(self, calls: Callable[[str], Iterable[Call]], found: Mapping[tuple[str, str], Call],
                 aor: Callable[[str], str], may_watch: Callable[[str, str], bool],
                 bindings: Callable[[str], Sequence[Binding]]) -> None:
        self._calls = calls
        self._bindings = bindings
        self._found = found
        self._aor = aor
        self._may_watch = may_watch
        #: The INVITE of a call on its way, None where nobody can take it any more.
        self.invite_of: Callable[[Call], Forwarding | None] = _nowhere
        #: What is dialled, alone or before a colleague's number; "" for nothing.
        self.code = ""
        self._groups: list[frozenset[str]] = []
        #: False: a phone rings for a call that was moved to it.
        self._by_itself = True

    def configure(self, code: str, groups: Iterable[Iterable[str]], by_itself: bool) -> None:
        """Another code, who may pick up whose calls, and whether phones are asked to answer by themselves."""
        self.code = code
        self._groups = [frozenset(map(self._aor, group)) for group in groups]
        self._by_itself = by_itself

    def way(self, request: Request, ours: str, caller: str) -> Way | None:
        """Where an INVITE of `caller` (an address-of-record) for `ours` goes, None where others decide that. Raises
        Reject (400, 403, 404, 480, 481, 486)."""
        if "replaces" in request.first:
            return self._replaced(request, ours, caller)
        number = ours.rpartition("@")[0]
        if self.code and number.startswith(self.code) and caller:
            return self._picked(request, number[len(self.code):], caller)
        return None

    def _replaced(self, request: Request, ours: str, caller: str) -> Way | None:
        """RFC 3891 s4: the phone that has the dialog, of all that its user has; it says itself whether that may be
        replaced (s3)."""
        if len(request.all("replaces")) != 1:
            raise Reject(400)
        call_id, semicolon, rest = request.first["replaces"].partition(";")
        try:
            params = parse_params(semicolon + rest)
        except MalformedMessage:
            raise Reject(400) from None
        call_id, local, remote = call_id.strip(" \t"), params.get("to-tag") or "", params.get("from-tag") or ""
        call = self._found.get((call_id, local))
        if call is not None:
            ringing = call.dialog(remote)
            called = self._aor(ringing.peer) if ringing is not None and ringing.peer else ""
            if call.caller and self._aor(call.caller) == ours or called == ours:
                return self._of_the_caller(request, call, ringing, called, ours, caller)
        call = self._found.get((call_id, remote))
        dialog = call.dialog(local) if call is not None else None
        if dialog is not None and dialog.state in (EARLY, CONFIRMED) and self._aor(dialog.peer) == ours:
            target = _called_of(dialog)
            return ([[target]], None) if target is not None else None
        return None

    def _of_the_caller(self, request: Request, call: Call, ringing: CallDialog | None, called: str, ours: str,
                       picker: str) -> Way | None:
        """For the dialog as the side has it that calls: where it still rings, that is a pickup."""
        if ringing is None or ringing.state != EARLY or not called:
            target = self._caller_of(call)
            if target is None and called == ours:
                raise Reject(486 if call.was_answered else 481)  # s3: somebody took it meanwhile, or it ended
            return ([[target]], None) if target is not None else None
        # to know the tags of a call that rings at somebody's is not enough to take it (s8)
        if not (any(picker in group and called in group for group in self._groups)
                or self._may_watch(picker, called) or self._may_watch(picker, ours)):
            raise Reject(403)
        way = self._taken(request, call, picker)
        if way is None:
            raise Reject(486)  # by somebody else, in this moment
        return way

    def _picked(self, request: Request, number: str, caller: str) -> Way:
        """The oldest call that rings at a colleague's phone, or at that of the `number`."""
        mine = [group for group in self._groups if caller in group]
        if number:
            wanted = self._aor(number)
            if not (any(wanted in group for group in mine) or self._may_watch(caller, wanted)):
                raise Reject(403)
            others = {wanted}
        else:
            others = {member for group in mine for member in group} - {caller}
        ringing = [(call.started, call.number, call, dialog) for other in others for call in self._calls(other)
                   for dialog in call.dialogs if dialog.state == EARLY and dialog.tag and call.answered < 0.0
                   and self._aor(dialog.peer) in others]
        for _, _, call, dialog in sorted(ringing, key=lambda one: one[:2]):
            way = self._taken(request, call, caller, (
                ("Replaces", f"{call.call_id};to-tag={call.tag};from-tag={dialog.tag};early-only"),
                # who does not know Replaces must not take this for a second call
                ("Require", "replaces")))
            if way is not None:
                return way
        raise Reject(404, "Nothing to Pick Up")

    def _taken(self, request: Request, call: Call, picker: str, fields: tuple[tuple[str, str], ...] = ()) -> Way | None:
        """The way to take a call that rings: the phone that calls is sent the INVITE, with `fields`; or where it would
        not know what that means, the call is moved. None where it cannot be had."""
        invite = self.invite_of(call)
        target = self._caller_of(call) if call.caller else None
        if target is not None and (invite is None or _knows_replaces(invite.request)):
            call.note("picked-up", picker, _REPLACED)
            target.headers = fields
            return [[target]], None
        if invite is None:
            return None
        phone = self._phone_of(request, picker)
        there = [one.uri for one in (*call.ringing, target) if one is not None]
        if phone.uri in there or not invite.also(phone, PAUSE):
            return None  # who calls, or rings already, would refuse the INVITE (RFC 3261 s8.2.2.2)
        call.note("picked-up", picker, _MOVED)
        own = self._found.get((request.call_id, request.from_tag))
        if own is not None:
            own.picks_up(call)
        return [], Ended()

    def _caller_of(self, call: Call) -> Target | None:
        """The phone that calls: where its Contact says, by the way that its registration came; None for one that is not
        registered here, such as a carrier."""
        target = self._registered(self._aor(call.caller), call.contact, call.source)
        if target is not None and call.contact:
            target.uri = Address.read(call.contact).uri_text
        return target

    def _phone_of(self, request: Request, aor: str) -> Target:
        """The phone of a user that sent a request. Raises Reject (480)."""
        phone = self._registered(aor, request.first.get("contact", ""), str(request.flow or ""))
        if phone is None:
            raise Reject(480, "Not Registered Here")
        if self._by_itself:
            phone.headers = answers_itself(aor.rpartition("@")[2])
        return phone

    def _registered(self, aor: str, contact: str, source: str) -> Target | None:
        """The registration of the phone with this Contact value, or else of the one at this place: behind a proxy all
        come from one."""
        try:
            address = Address.read(contact) if contact else Address("", "")
            instance = unquote(address.params.get("+sip.instance") or "").strip("<>")
        except MalformedMessage:
            return None
        ranks = [(4 * (instance != "" and binding.instance == instance) + 2 * (binding.contact == address.uri_text)
                  + (str(binding.source) == source), -place, binding)
                 for place, binding in enumerate(self._bindings(aor))]
        rank, _, binding = max(ranks, default=(0, 0, None))
        groups = groups_of([binding]) if rank and binding is not None else []
        return groups[0][0] if groups else None


class Ended:
    """The plan of an INVITE that has picked a call up: that comes to its phone as a call of its own."""

    def next(self, status: int, done: Callable[[Stage | None], None]) -> None:
        """See Plan."""
        done(Stage([], status=_STATUS, reason="Picked Up", headers=_CAUSE))


def _knows_replaces(invite: Request | None) -> bool:
    """RFC 3891 s6.2: who knows Replaces says so."""
    return invite is not None and any(
        value.strip(" \t").lower() == "replaces" for value in invite.values("supported"))


def _called_of(dialog: CallDialog) -> Target | None:
    """The phone that was called."""
    return dialog.target.copy() if dialog.target is not None else None


def _nowhere(call: Call) -> Forwarding | None:
    """Until there is a proxy."""
    return None
