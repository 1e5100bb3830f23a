"""The package dialog (RFC 4235): the calls of somebody as the call table has them, so that lamps follow them.

Each document tells every dialog there is, and those that have ended since the watcher was told the last time: whatever
was lost on the way, the next one puts it right, and no lamp stays lit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from sipd.calls.call import CANCELLED, CONFIRMED, EARLY, FAILED, PICKED, TERMINATED, TRYING
from sipd.events import xml
from sipd.events.package import Asked, Document
from sipd.events.xml import Element
from sipd.inventory import Inventory, Table
from sipd.message.address import Address
from sipd.message.errors import MalformedMessage
from sipd.message.params import unquote
from sipd.message.uri import uri_of_aor

if TYPE_CHECKING:
    from sipd.calls.call import Call, CallDialog

KIND = "application/dialog-info+xml"
_NS = "urn:ietf:params:xml:ns:dialog-info"
_STATES = {TRYING: "trying", EARLY: "early", CONFIRMED: "confirmed"}
#: Dialogs of one entity that are told, and calls that have ended whose end is remembered.
_MOST, _REMEMBERED = 50, 10_000
#: Documents that are kept as they were written: many watchers of one entity are told the same.
_WRITTEN = 200


class Seen(NamedTuple):
    """One dialog as a watcher is told of it. `event` and `code` say why it is over (s4.1.2)."""

    id: str
    state: str
    call_id: str = ""
    local_tag: str = ""
    remote_tag: str = ""
    recipient: bool = True
    #: Address values of the other side, and the URI that it is reached at.
    remote: str = ""
    target: str = ""
    event: str = ""
    code: int = 0


class Dialogs:
    """The package. `calls` gives the calls of an address-of-record that are not over; `aor` the address-of-record of a
    peer as the call table names it, `knows` whether it is a user's; `rings` whether a phone that rings is told of."""

    name: str = "dialog"
    kinds: tuple[str, ...] = (KIND,)
    published: tuple[str, ...] = ()
    #: s3.4: for all dialogs of somebody.
    duration: int = 3600
    #: s3.10.
    least: float = 1.0
    #: Trying, early, confirmed, terminated: none of a call that is quick goes untold.
    burst: int = 4
    partial: bool = True

    def __init__(self, calls: Callable[[str], Iterable[Call]], aor: Callable[[str], str],
                 knows: Callable[[str], bool], inventory: Inventory) -> None:
        self._calls = calls
        self._aor = aor
        self._knows = knows
        self.rings = True
        #: Why calls ended, by number and "": event, or "caller" or "callee" for who hung up, and code; and why one
        #: dialog of a call did, by number and the tag of who was called, or "@" and the peer before there is one.
        self._ended: Table[tuple[int, str], tuple[str, int]] = inventory.table("ends of calls", _REMEMBERED, cache=True)
        #: What stands before and after the version, by entity and dialogs told.
        self._written: Table[tuple[str, tuple[Seen, ...]], tuple[str, str]] = inventory.table(
            "lamps written", _WRITTEN, cache=True)

    def note(self, call: Call) -> None:
        """A call is another one now: why it, or a dialog of it, ended is told with the next document (s3.7.1)."""
        remember, number = self._ended.remember, call.number
        for dialog in call.dialogs:
            if dialog.status and dialog.state == TERMINATED:
                # s3.7.1: the 481 or 408 of a request in the dialog is an error; what the INVITE came to is the rest
                remember((number, dialog.tag), ("error", 0) if dialog.answered else _unanswered(dialog.status))
        for peer, status in call.turned_down.items():
            remember((number, f"@{self._aor(peer)}"), _unanswered(status))
        if call.state == TERMINATED:
            event, code = call.by, 0  # who hung up: a BYE of one's own, or of the other side's
            if call.why == CANCELLED:
                event = "cancelled"
            elif call.why in (FAILED, PICKED):
                event, code = "rejected", call.status
            elif call.why not in ("bye", ""):
                event = "timeout"
            remember((number, ""), (event, code))

    def document(self, asked: Asked, last: object | None) -> Document:
        """See Package."""
        seen = tuple(self.seen(asked.entity))
        if not asked.whole:
            seen = _virtual(seen)
        wanted = dict(asked.params)
        call_id = unquote(wanted.get("call-id", ""))
        if call_id:
            # s3.2: one dialog, where to-tag is the tag of the one who is watched, or all that one INVITE made
            seen = tuple(one for one in seen if one.call_id == call_id
                         and wanted.get("to-tag", one.local_tag) == one.local_tag
                         and wanted.get("from-tag", one.remote_tag) == one.remote_tag)
        present = {one.id for one in seen}
        before = last if isinstance(last, tuple) else ()
        over = [self._over(asked.entity, one) for one in before if one.id not in present and one.state != "terminated"]
        key = asked.entity, (*seen, *over)
        written = self._written.get(key)
        if written is None:
            written = _write(*key)
            self._written.remember(key, written)
        return Document(asked.kind, seen, *written, True)

    def _over(self, entity: str, one: Seen) -> Seen:
        text = one.id[1:].partition("-")[0]
        number = int(text) if text.isdigit() else 0
        # what became of this dialog, which may be one of many that an INVITE made, else of all of the call
        own = (one.local_tag or f"@{entity}") if one.recipient else one.remote_tag
        found = self._ended.get((number, own)) if own else None
        event, code = found or self._ended.get((number, ""), ("", 0))
        # s4.1.2: which BYE it was depends on the side that is told of
        if event in ("caller", "callee"):
            event = "local-bye" if (event == "callee") is one.recipient else "remote-bye"
        # the half of a fork that another one answered was cancelled; who was talking was hung up on
        elif event not in ("cancelled", "rejected", "timeout", "error"):
            event = "remote-bye" if one.state == "confirmed" else "cancelled"
        return one._replace(state="terminated", event=event, code=code)

    def seen(self, entity: str) -> Iterable[Seen]:
        """The dialogs of somebody that are not over, and the halves of such as will be."""
        found: list[Seen] = []
        for call in self._calls(entity):
            if self._aor(call.caller) == entity:
                found += self._as_caller(call)
            found += self._as_called(call, entity)
        return found[:_MOST]

    def _as_caller(self, call: Call) -> Iterable[Seen]:
        live = [(place, dialog) for place, dialog in enumerate(call.dialogs) if dialog.state in (EARLY, CONFIRMED)]
        confirmed = [(place, dialog) for place, dialog in live if dialog.state == CONFIRMED]
        remote = call.to or f"<{call.uri}>"
        for place, dialog in confirmed or live:
            yield Seen(_numbered(f"c{call.number}", place), _STATES[dialog.state], call.call_id, call.tag, dialog.tag,
                       False, remote, self._reached(dialog))
        if not live:
            yield Seen(_numbered(f"c{call.number}", len(call.dialogs)), "trying", call.call_id, call.tag, "", False,
                       remote)

    def _as_called(self, call: Call, entity: str) -> Iterable[Seen]:
        halves = [dialog for dialog in call.dialogs if dialog.peer and self._aor(dialog.peer) == entity]
        mine = [(place, dialog) for place, dialog in enumerate(halves) if dialog.state in (EARLY, CONFIRMED)]
        confirmed = [(place, dialog) for place, dialog in mine if dialog.state == CONFIRMED]
        rings = any(self._aor(target.peer) == entity for target in call.ringing if target.peer)
        if not confirmed and not self.rings:
            return
        caller = self._aor(call.caller) if call.caller else ""
        target = uri_of_aor(caller) if caller and call.caller else _uri(call.contact)
        anonymous = "@anonymous.invalid" in call.from_.lower()
        if not confirmed and (anonymous or not (caller and self._knows(caller))):
            # what a lamp sends to take a carrier's call is for us: the carrier could do nothing with it
            target = uri_of_aor(entity)
        elif anonymous:
            target = ""  # RFC 3323 s4.1.1.3: it would tell who it is
        for place, dialog in confirmed or mine:
            yield Seen(_numbered(f"d{call.number}", place), _STATES[dialog.state], call.call_id, dialog.tag, call.tag,
                       True, call.from_, target)
        if rings and not mine:
            yield Seen(_numbered(f"d{call.number}", len(halves)), "trying", call.call_id, "", call.tag, True,
                       call.from_, target)

    def _reached(self, dialog: CallDialog) -> str:
        peer = self._aor(dialog.peer) if dialog.peer else ""
        return uri_of_aor(peer) if peer else _uri(dialog.contact)

    def check(self, kind: str, body: bytes) -> None:
        """See Package: nobody publishes dialogs."""


def _unanswered(status: int) -> tuple[str, int]:
    """s3.7.1: event and code of an INVITE that was refused with this status; 487 is what CANCEL makes of it."""
    return ("cancelled", 0) if status == 487 else ("rejected", status)


def _numbered(name: str, place: int) -> str:
    """s4.1.1: the id of the half-dialog stays that of the first dialog; more have their own. Each keeps its place in
    the call when others end: an id never comes to mean another dialog."""
    return f"{name}-{place}" if place else name


def _virtual(seen: tuple[Seen, ...]) -> tuple[Seen, ...]:
    """s3.7.2: for who may not know with whom: one dialog in the strongest state of all, and nothing else."""
    for state in ("confirmed", "early", "trying"):
        if any(one.state == state for one in seen):
            return (Seen("virtual", state),)
    return ()


def _write(entity: str, told: tuple[Seen, ...]) -> tuple[str, str]:
    """s4: the document before and after its version."""
    root = Element(f"{{{_NS}}}dialog-info", {"version": "", "state": "full", "entity": uri_of_aor(entity)},
                   children=[_element(entity, one) for one in told])
    head, _, tail = xml.write(root, {}).partition(' version="" ')
    return f'{head} version="', f'" {tail}'


def _element(entity: str, one: Seen) -> Element:
    attributes = {"id": one.id}
    if one.call_id:
        attributes |= {"call-id": one.call_id, "local-tag": one.local_tag, "remote-tag": one.remote_tag,
                       "direction": "recipient" if one.recipient else "initiator"}
    about = {"event": one.event} if one.event else {}
    if one.code:
        about["code"] = str(one.code)
    children = [Element(f"{{{_NS}}}state", about, one.state)]
    if one.call_id:
        children.append(Element(f"{{{_NS}}}local", children=[
            Element(f"{{{_NS}}}identity", text=uri_of_aor(entity)),
            Element(f"{{{_NS}}}target", {"uri": uri_of_aor(entity)})]))
        children.append(_remote(one))
    return Element(f"{{{_NS}}}dialog", {key: value for key, value in attributes.items() if value}, children=children)


def _remote(one: Seen) -> Element:
    children = []
    try:
        address = Address.read(one.remote)
    except MalformedMessage:
        address = None
    if address is not None:
        display = {"display": address.name} if address.name else {}
        children.append(Element(f"{{{_NS}}}identity", display, address.uri_text))
    if one.target:
        children.append(Element(f"{{{_NS}}}target", {"uri": one.target}))
    return Element(f"{{{_NS}}}remote", children=children)


def _uri(contact: str) -> str:
    try:
        return Address.read(contact).uri_text if contact else ""
    except MalformedMessage:
        return ""
