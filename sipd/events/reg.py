"""The package reg (RFC 3680): what is bound to an address-of-record, all of it or what has changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

from sipd.binding import Binding, Change
from sipd.events import xml
from sipd.events.package import Asked, Document
from sipd.events.xml import Element
from sipd.inventory import Inventory, Table
from sipd.message.errors import MalformedMessage
from sipd.message.params import parse_params, unquote
from sipd.message.uri import uri_of_aor

KIND = "application/reginfo+xml"
_NS = "urn:ietf:params:xml:ns:reginfo"
#: Contacts that are gone, with the event that ended each: until watchers are told.
_REMEMBERED = 10_000
#: The header parameters of a Contact that RFC 3261 knows.
_KNOWN = frozenset({"q", "expires"})
_VERSION = re.compile(r' version="" ')

#: Contact, when it expires, Call-ID and CSeq of the REGISTER that said so, q, parameters, when it was registered.
Told = tuple[str, float, str, int, int, str, float]


class Registrations:
    """The package. `bindings` gives those of an address-of-record, `wall` seconds since the epoch."""

    name: str = "reg"
    kinds: tuple[str, ...] = (KIND,)
    published: tuple[str, ...] = ()
    #: s4.4.
    duration: int = 3761
    #: s4.10.
    least: float = 5.0
    burst: int = 1
    partial: bool = True

    def __init__(self, bindings: Callable[[str], Iterable[Binding]], wall: Callable[[], float],
                 inventory: Inventory) -> None:
        self._bindings = bindings
        self._wall = wall
        self._ended: Table[tuple[str, str], str] = inventory.table("contacts that ended", _REMEMBERED, cache=True)

    def note(self, aor: str, changes: Sequence[Change], why: str) -> None:
        """Bindings have changed: what ended them is told with the next document."""
        for kind, binding in changes:
            if kind == "delete":
                event = why if why in ("expired", "deactivated", "rejected") else "unregistered"
                self._ended.remember((aor, binding.contact), event)

    def document(self, asked: Asked, last: object | None) -> Document:
        """See Package. s5.1: ids follow from what they name, so they are the same in each document."""
        entity = asked.entity
        now = tuple(_told(binding) for binding in self._bindings(entity))
        before = {one[0]: one for one in last} if isinstance(last, tuple) else {}
        contacts: list[Element] = []
        present = set()
        for one in now:
            present.add(one[0])
            known = before.get(one[0])
            if last is None:
                contacts.append(self._contact(entity, one, "active", "registered"))
            elif known != one:
                # s4.7.1: "created" would be one that no REGISTER has made
                contacts.append(self._contact(entity, one, "active", "registered" if known is None else "refreshed"))
        for contact, one in before.items():
            if contact not in present:
                event = self._ended.get((entity, contact), "expired")
                contacts.append(self._contact(entity, one, "terminated", event))
        state = "active" if now else "init" if last is None else "terminated"
        registration = Element(f"{{{_NS}}}registration", {
            "aor": uri_of_aor(entity), "id": f"r{_id(entity)}", "state": state}, children=contacts)
        root = Element(f"{{{_NS}}}reginfo", {"version": "", "state": "full" if last is None else "partial"},
                       children=[registration])
        head, tail = _VERSION.split(xml.write(root, {}), 1)
        return Document(asked.kind, now, f'{head} version="', f'" {tail}', True)

    def _contact(self, entity: str, one: Told, state: str, event: str) -> Element:
        contact, expires_at, call_id, cseq, q, params, registered_at = one
        # s5.1: of the URI alone, as no two bindings have the same one: what a phone says of itself besides may change
        attributes = {"id": f"c{_id(contact)}", "state": state, "event": event,
                      "duration-registered": str(max(0, round(self._wall() - registered_at)))}
        if state == "active":
            attributes["expires"] = str(max(0, round(expires_at - self._wall())))
        attributes |= {"q": f"{q / 1000:g}", "callid": call_id, "cseq": str(cseq)}
        children = [Element(f"{{{_NS}}}uri", text=contact)]
        try:
            unknown = parse_params(params)
        except MalformedMessage:
            unknown = {}
        children += [Element(f"{{{_NS}}}unknown-param", {"name": name}, unquote(value or ""))
                     for name, value in unknown.items() if name not in _KNOWN]
        return Element(f"{{{_NS}}}contact", attributes, children=children)

    def check(self, kind: str, body: bytes) -> None:
        """See Package: nobody publishes registrations."""


def _told(binding: Binding) -> Told:
    return (binding.contact, binding.expires_at, binding.call_id, binding.cseq, binding.q, binding.params,
            binding.registered_at)


def _id(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
