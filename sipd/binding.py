"""A binding: one contact of one address-of-record (RFC 3261 s10), a value."""

from __future__ import annotations

from sipd.message.hop import Hop


class Binding:
    """One contact of one address-of-record. Two bindings of an address-of-record never name the same contact (s19.1.4).

    `aor` is `user@first-domain` (user unescaped once, domain in lower case, no scheme); `contact` the URI as the
    phone wrote it, without brackets; `params` the contact parameters to give back, as raw text such as
    `;+sip.instance="<urn:uuid:...>"` (without expires and q); `q` in thousandths, 0 to 1000; times are wall-clock
    seconds since the epoch. It is never changed once it is made.
    """

    __slots__ = ("aor", "contact", "params", "q", "expires_at", "call_id", "cseq", "path", "instance", "reg_id",
                 "source", "nat", "flow", "listener", "user_agent", "registered_at")

    aor: str
    contact: str
    params: str
    q: int
    expires_at: float
    call_id: str
    cseq: int
    #: Path header values from the request, top first; the route of requests to the contact (RFC 3327 s5.3).
    path: tuple[str, ...]
    #: `+sip.instance` without quotes and angle brackets, and `reg-id`; 0 where the phone gave none (RFC 5626 s4.2).
    instance: str
    reg_id: int
    #: Where the REGISTER came from, and whether the contact can be reached only there.
    source: Hop | None
    nat: bool
    #: `id` of the flow the REGISTER came over, and `address:port` of the listener it came to.
    flow: str
    listener: str
    user_agent: str
    registered_at: float

    def __init__(self, aor: str, contact: str, params: str, q: int, expires_at: float, call_id: str, cseq: int,
                 path: tuple[str, ...] = (), instance: str = "", reg_id: int = 0, source: Hop | None = None,
                 nat: bool = False, flow: str = "", listener: str = "", user_agent: str = "",
                 registered_at: float = 0.0) -> None:
        self.aor = aor
        self.contact = contact
        self.params = params
        self.q = q
        self.expires_at = expires_at
        self.call_id = call_id
        self.cseq = cseq
        self.path = path
        self.instance = instance
        self.reg_id = reg_id
        self.source = source
        self.nat = nat
        self.flow = flow
        self.listener = listener
        self.user_agent = user_agent
        self.registered_at = registered_at

    def fields(self) -> tuple[object, ...]:
        """What the constructor takes, in its order."""
        return (self.aor, self.contact, self.params, self.q, self.expires_at, self.call_id, self.cseq, self.path,
                self.instance, self.reg_id, self.source, self.nat, self.flow, self.listener, self.user_agent,
                self.registered_at)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Binding) and self.fields() == other.fields()

    def __hash__(self) -> int:
        return hash(self.fields())

    def __repr__(self) -> str:
        return f"Binding{self.fields()}"


#: One step of a change to an address-of-record: ("put", binding) or ("delete", binding). The contact's text says which
#: binding is meant; a put replaces it or adds it.
Change = tuple[str, Binding]


def changed(bindings: tuple[Binding, ...], changes: list[Change]) -> tuple[Binding, ...]:
    """The bindings of one address-of-record after `changes`; what stays keeps its place, what is new comes last."""
    if len(changes) == 1 and len(bindings) == 1:
        # what nearly every change is: the one binding is refreshed
        kind, binding = changes[0]
        if kind == "put" and binding.contact == bindings[0].contact:
            return (binding,)
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
