"""A binding: one contact of one address-of-record (RFC 3261 s10), a value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sipd.message.hop import Hop


class Binding(NamedTuple):
    """One contact of one address-of-record. Two bindings of an address-of-record never name the same contact (s19.1.4).

    `aor` is `user@first-domain` (user unescaped once, domain in lower case, no scheme); `contact` the URI as the
    phone wrote it, without brackets; `params` the contact parameters to give back, as raw text such as
    `;+sip.instance="<urn:uuid:...>"` (without expires and q); `q` in thousandths, 0 to 1000; times are wall-clock
    seconds since the epoch.
    """

    aor: str
    contact: str
    params: str
    q: int
    expires_at: float
    call_id: str
    cseq: int
    #: Path header values from the request, top first; the route of requests to the contact (RFC 3327 s5.3).
    path: tuple[str, ...] = ()
    #: `+sip.instance` without quotes and angle brackets, and `reg-id`; 0 where the phone gave none (RFC 5626 s4.2).
    instance: str = ""
    reg_id: int = 0
    #: Where the REGISTER came from, and whether the contact can be reached only there.
    source: Hop | None = None
    nat: bool = False
    #: `id` of the flow the REGISTER came over, and `address:port` of the listener it came to.
    flow: str = ""
    listener: str = ""
    user_agent: str = ""
    registered_at: float = 0.0


#: One step of a change to an address-of-record: ("put", binding) or ("delete", binding). The contact's text says which
#: binding is meant; a put replaces it or adds it.
Change = tuple[str, Binding]


def changed(bindings: tuple[Binding, ...], changes: Iterable[Change]) -> tuple[Binding, ...]:
    """The bindings of one address-of-record after `changes`; what stays keeps its place, what is new comes last."""
    result = list(bindings)
    for kind, binding in changes:
        contact = binding.contact
        for index, present in enumerate(result):
            if present.contact == contact:
                if kind == "put":
                    result[index] = binding
                else:
                    del result[index]
                break
        else:
            if kind == "put":
                result.append(binding)
    return tuple(result)
