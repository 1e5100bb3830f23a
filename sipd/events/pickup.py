"""Picking calls up: INVITEs with Replaces find the phone that they are about (RFC 3891), and a number takes the call
that rings at a colleague's phone: its INVITE gets the Replaces that a phone with a lamp would have written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from sipd.binding import Binding
from sipd.calls.call import CONFIRMED, EARLY
from sipd.message.address import Address
from sipd.message.errors import MalformedMessage, Reject
from sipd.message.message import Request
from sipd.message.params import parse_params
from sipd.proxy.targets import Target, groups_of

if TYPE_CHECKING:
    from sipd.calls.call import Call, CallDialog


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
        #: What is dialled, alone or before a colleague's number; "" for nothing.
        self.code = ""
        self._groups: list[frozenset[str]] = []

    def configure(self, code: str, groups: Iterable[Iterable[str]]) -> None:
        """Another code, and who may pick up whose calls."""
        self.code = code
        self._groups = [frozenset(map(self._aor, group)) for group in groups]

    def target(self, request: Request, ours: str, caller: str) -> Target | None:
        """Where an INVITE of `caller` (an address-of-record) for `ours` goes, None where others decide that. Raises
        Reject (400, 403, 404)."""
        if "replaces" in request.first:
            return self._replaced(request, ours, caller)
        number = ours.rpartition("@")[0]
        if self.code and number.startswith(self.code) and caller:
            return self._picked(number[len(self.code):], caller)
        return None

    def _replaced(self, request: Request, ours: str, caller: str) -> Target | None:
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
        if call is not None and self._aor(call.caller) == ours:
            ringing = call.dialog(remote)
            if ringing is not None and ringing.state == EARLY and ringing.peer:
                # to know the tags of a call that rings at somebody's is not enough to take it (s8)
                called = self._aor(ringing.peer)
                if not (any(caller in group and called in group for group in self._groups)
                        or self._may_watch(caller, called) or self._may_watch(caller, ours)):
                    raise Reject(403)
            return self._caller_of(call)
        call = self._found.get((call_id, remote))
        dialog = call.dialog(local) if call is not None else None
        if dialog is not None and dialog.state in (EARLY, CONFIRMED) and self._aor(dialog.peer) == ours:
            return _called_of(dialog)
        return None

    def _picked(self, number: str, caller: str) -> Target:
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
            target = self._caller_of(call) if call.caller else None
            if target is not None:
                call.note("picked-up", caller)
                target.headers = (
                    ("Replaces", f"{call.call_id};to-tag={call.tag};from-tag={dialog.tag};early-only"),
                    # who does not know Replaces must not take this for a second call
                    ("Require", "replaces"))
                return target
        raise Reject(404, "Nothing to Pick Up")

    def _caller_of(self, call: Call) -> Target | None:
        """The phone that calls: where its Contact says, by the way that its registration came; None for one that is not
        registered here, such as a carrier."""
        try:
            uri = Address.read(call.contact).uri_text if call.contact else ""
        except MalformedMessage:
            return None
        for binding in self._bindings(self._aor(call.caller)):
            groups = groups_of([binding])
            if groups and (binding.contact == uri or str(binding.source) == call.source):
                target = groups[0][0]
                target.uri = uri or target.uri
                return target
        return None


def _called_of(dialog: CallDialog) -> Target | None:
    """The phone that was called."""
    return dialog.target.copy() if dialog.target is not None else None
