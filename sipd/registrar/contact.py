"""A Contact value of a REGISTER, read for the registrar (RFC 3261 s10.2, s20.10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sipd.message.address import Address
from sipd.message.errors import MalformedMessage, Reject
from sipd.message.params import split_list, unquote
from sipd.message.uri import Uri
from sipd.message.values import delta_seconds, qvalue

#: Characters of one contact's URI and of its parameters: a binding is kept for hours and must stay small.
MOST_TEXT: Final = 1024
#: reg-id runs from 1 to this (RFC 5626 s4.2).
MOST_REG_ID: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Contact:
    """One contact as the request names it."""

    #: The URI as written, without brackets.
    text: str
    uri: Uri
    #: The host of the URI, IPv6 without brackets.
    host: str
    #: What is given back: raw parameters without expires and q.
    params: str
    #: Thousandths; 1000 where none (or nothing readable) is written.
    q: int
    #: Seconds asked; None without the parameter, -1 when it is malformed.
    expires: int | None
    #: RFC 5626 s4.2; both are empty unless both are there (a reg-id without an instance is ignored, s6).
    instance: str
    reg_id: int


def parse_contacts(line: str, most: int = 0) -> tuple[Contact, ...]:
    """The values of one Contact line, except "*". Raises MalformedMessage, and Reject (403) for more than `most`."""
    values = split_list(line, most + 1 if most else 0)
    if most and len(values) > most:
        raise Reject(403, "Too Many Contacts")
    return tuple(_parse(value) for value in values if value)


def _parse(value: str) -> Contact:
    address = Address.parse(value)
    uri = address.uri
    if len(address.uri_text) > MOST_TEXT or len(address.param_text) > MOST_TEXT:
        raise MalformedMessage("a Contact is too long")
    params = address.params
    expires: int | None = None
    if "expires" in params:
        seconds = delta_seconds(params.pop("expires") or "")
        expires = -1 if seconds is None else seconds
    q = qvalue(params.pop("q", None) or "1")
    instance = unquote(params.get("+sip.instance") or "")
    if instance.startswith("<") and instance.endswith(">"):
        instance = instance[1:-1]
    reg_id = delta_seconds(params.get("reg-id") or "") or 0
    return Contact(
        text=address.uri_text,
        uri=uri,
        host=uri.address,
        params="".join(f";{name}" if raw is None else f";{name}={raw}" for name, raw in params.items()),
        q=1000 if q is None else q,
        expires=expires,
        instance=instance if reg_id else "",
        reg_id=min(reg_id, MOST_REG_ID) if instance else 0)
