"""What a REGISTER does to the bindings of its address-of-record: RFC 3261 s10.3 steps 6 and 7, pure.

`decide` gets the bindings as they are and returns the changes, or raises Reject; it never half-decides, which is what
makes a REGISTER atomic. Where the RFC leaves a choice:

- a CSeq that is not higher is refused with 400, like every other fault of the request itself;
- a contact named twice in one request counts as it is named last;
- comparison by s19.1.4 is not transitive, so a contact can equal several bindings: it replaces all of them;
- a contact with `+sip.instance` and `reg-id` also replaces the binding of that pair (RFC 5626 s6);
- an expires that is no number counts as the default (s10.2 says 3600, which is the default's default);
- contacts of other schemes (tel, mailto) are stored and listed (s10.2.1); calls have to pass them over.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from sipd.binding import Binding, Change
from sipd.message.errors import Reject
from sipd.message.hop import DEFAULT_PORT, Hop, hidden_from
from sipd.message.uri import Uri
from sipd.message.via import Via
from sipd.registrar.contact import Contact

#: s10.3 step 7: an hour or more is never too brief.
_NEVER_BRIEF: Final = 3600


@dataclass(frozen=True, slots=True)
class Limits:
    """[registrar] of the configuration; expiries in seconds, contacts for one address-of-record."""

    min_expires: int = 60
    default_expires: int = 3600
    max_expires: int = 7200
    max_contacts: int = 10


class Registration:
    """What the rules need of a REGISTER with contacts. `contacts` is None for "*"; `expires` is the Expires header:
    None when absent, -1 when malformed."""

    __slots__ = ("aor", "call_id", "cseq", "contacts", "expires", "path", "source", "via", "flow", "listener",
                 "user_agent")

    def __init__(self, aor: str, call_id: str, cseq: int, contacts: tuple[Contact, ...] | None, expires: int | None,
                 path: tuple[str, ...], source: Hop, via: Via | None, flow: str, listener: str,
                 user_agent: str) -> None:
        self.aor = aor
        self.call_id = call_id
        self.cseq = cseq
        self.contacts = contacts
        self.expires = expires
        self.path = path
        self.source = source
        self.via = via
        self.flow = flow
        self.listener = listener
        self.user_agent = user_agent


def decide(registration: Registration, current: list[Binding], now: float, limits: Limits) -> list[Change]:
    """The changes the REGISTER makes to `current`, the live bindings of its address-of-record; deletions come first.

    `now` is wall-clock seconds. Raises Reject: 400, 403 (too many contacts) or 423.
    """
    if registration.contacts is None:
        return _remove_all(registration, current)
    if len(registration.contacts) == 1 and len(current) == 1:
        binding, contact = current[0], registration.contacts[0]
        if _is_refresh(contact, binding):
            # what nearly every REGISTER is; all that follows comes to the same here
            expires = _granted(contact, registration, limits)
            _check_order(registration, binding)
            return [("put", _bound(contact, registration, expires, now)) if expires else ("delete", binding)]
    after = {binding.contact: binding for binding in current}
    puts: dict[str, Binding] = {}
    for contact in registration.contacts:
        expires = _granted(contact, registration, limits)
        for binding in _same(contact, after):
            # one that this very request put cannot be older than it
            if binding.contact not in puts:
                _check_order(registration, binding)
            if binding.contact != contact.text or not expires:
                del after[binding.contact]
                puts.pop(binding.contact, None)
        if expires:
            after[contact.text] = puts[contact.text] = _bound(contact, registration, expires, now)
    if len(after) > limits.max_contacts and len(after) > len(current):
        raise Reject(403, "Too Many Contacts")
    changes: list[Change] = []
    for binding in current:
        if binding.contact not in after:
            changes.append(("delete", binding))
    for binding in puts.values():
        changes.append(("put", binding))
    return changes


def _bound(contact: Contact, registration: Registration, expires: int, now: float) -> Binding:
    """The binding of a contact for `expires` seconds."""
    return Binding(
        registration.aor, contact.text, contact.params, contact.q, now + expires, registration.call_id,
        registration.cseq, registration.path, contact.instance, contact.reg_id, registration.source,
        behind_nat(contact, registration), registration.flow, registration.listener, registration.user_agent, now)


def _remove_all(registration: Registration, current: list[Binding]) -> list[Change]:
    """s10.3 step 6."""
    if registration.expires != 0:
        raise Reject(400, "Contact * Needs Expires 0")
    changes: list[Change] = []
    for binding in current:
        _check_order(registration, binding)
        changes.append(("delete", binding))
    return changes


def _check_order(registration: Registration, binding: Binding) -> None:
    """s10.3 steps 6 and 7: requests of one Call-ID that arrive out of order fail."""
    if binding.call_id == registration.call_id and registration.cseq <= binding.cseq:
        raise Reject(400, "CSeq Is Not Higher")


def _granted(contact: Contact, registration: Registration, limits: Limits) -> int:
    """s10.3 step 7: the expiry in seconds, 0 for a removal."""
    asked = contact.expires if contact.expires is not None else registration.expires
    if asked is None or asked < 0:
        asked = limits.default_expires
    if 0 < asked < limits.min_expires and asked < _NEVER_BRIEF:
        raise Reject(423, headers=(("Min-Expires", str(limits.min_expires)),))
    return asked if asked < limits.max_expires else limits.max_expires


def _same(contact: Contact, bindings: dict[str, Binding]) -> list[Binding]:
    """The bindings this contact stands for."""
    present = bindings.get(contact.text)
    if present is not None and _is_refresh(contact, present):
        return [present]
    same = []
    for binding in bindings.values():
        if ((contact.reg_id and binding.reg_id == contact.reg_id and binding.instance == contact.instance)
                or contact.uri.equivalent(Uri.parse(binding.contact))):
            same.append(binding)
    return same


def _is_refresh(contact: Contact, binding: Binding) -> bool:
    """True when the contact is this binding's, word for word; no other of the address-of-record can equal it then, or
    it would have been replaced when this one came."""
    return (binding.contact == contact.text and binding.reg_id == contact.reg_id
            and binding.instance == contact.instance)


def behind_nat(contact: Contact, registration: Registration) -> bool:
    """True when the contact can be reached only where its REGISTER came from.

    That is so when the topmost Via says another place than the packet's source, or the contact's host is a private
    address and not that source. A contact with a Path is reached along the Path.
    """
    if registration.path:
        return False
    via, source = registration.via, registration.source
    if via is not None:
        head = via.head
        if head.host != source.address and not _is_address(head.host, source.address):
            return True
        if via.asks_port and (head.port or DEFAULT_PORT[source.transport]) != source.port:
            return True
    return contact.host != source.address and hidden_from(source.address, contact.host)


def _is_address(host: str, address: str) -> bool:
    """Whether a Via's host is this numeric address, written in whatever way."""
    try:
        return ip_address(host.strip("[]")) == ip_address(address.partition("%")[0])
    except ValueError:
        return False


def news(current: list[Binding], changes: list[Change]) -> list[tuple[str, Binding, Binding | None]]:
    """What of a change people want to read: (kind of record, binding, the one it came from); never a refresh."""
    before = {binding.contact: binding for binding in current}
    lost = [binding for kind, binding in changes if kind == "delete"]
    records: list[tuple[str, Binding, Binding | None]] = []
    for kind, binding in changes:
        if kind != "put":
            continue
        old = before.get(binding.contact)
        if old is not None:
            if binding.nat and old.source != binding.source:
                records.append(("registration-moved", binding, old))
            continue
        for candidate in lost:
            if (candidate.call_id == binding.call_id or (binding.reg_id and candidate.instance == binding.instance)
                    or Uri.parse(binding.contact).equivalent(Uri.parse(candidate.contact))):
                lost.remove(candidate)
                records.append(("registration-moved", binding, candidate))
                break
        else:
            records.append(("registration-new", binding, None))
    records += [("registration-lost", binding, None) for binding in lost]
    return records
