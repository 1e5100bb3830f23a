"""Where a request may go: targets, in groups that are tried one after the other (RFC 3261 s16.5, s16.6). Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from sipd.binding import Binding
from sipd.message.address import Address
from sipd.message.errors import MalformedMessage
from sipd.message.uri import Uri
from sipd.message.values import qvalue

if TYPE_CHECKING:
    from sipd.proxy.dressing import Dress


class Target:
    """One place to forward to.

    `uri` is the new Request-URI; `route` the Route values to put above those the request has (a Path, RFC 3327 s5.3);
    `flow_id` a flow that leads there; `only` says that nothing else does; `listener` the `address:port` of the listener
    the contact knows us by. `breadth` is a Max-Breadth of its own, 0 where it has the share of all (RFC 5393).
    `headers` are (name, value) pairs that go into the request. `peer` is the name or the address-of-record of the peer
    that is called there, "" for none of ours. `dress` is how a request looks that goes to a trunk, or comes from one.
    """

    __slots__ = ("uri", "route", "flow_id", "only", "listener", "q", "breadth", "headers", "peer", "dress",
                 "hasty")

    def __init__(self, uri: str, route: tuple[str, ...] = (), flow_id: str = "", only: bool = False,
                 listener: str = "", q: int = 1000, peer: str = "") -> None:
        self.uri = uri
        self.route = route
        self.flow_id = flow_id
        self.only = only
        self.listener = listener
        self.q = q
        self.breadth = 0
        self.headers: tuple[tuple[str, str], ...] = ()
        self.peer = peer
        self.dress: Dress | None = None
        #: True: others are tried after it, so that it may say nothing for [proxy] hop_timeout only; then there is no
        #: way to it (503).
        self.hasty = False

    def copy(self) -> Target:
        """Another one that leads there."""
        copy = Target(self.uri, self.route, self.flow_id, self.only, self.listener, self.q, self.peer)
        copy.breadth, copy.headers, copy.dress, copy.hasty = self.breadth, self.headers, self.dress, self.hasty
        return copy


#: Targets taken from one redirection: one response must not make thousands of requests.
MOST_REDIRECTED: Final = 10

#: Targets tried at once, best group first.
Groups = list[list[Target]]


class Stage:
    """What a plan says next: groups that are tried one after the other, each for `patience` seconds (0.0: [proxy]
    ring_timeout, and the last one as long as it rings). Without groups the request is answered with `status`, and
    `reason` where that says more than its usual phrase, and `headers` (name and value); `late` is called when somebody
    takes the request all the same, which was still under way."""

    __slots__ = ("groups", "patience", "status", "reason", "headers", "late")

    def __init__(self, groups: Groups, patience: float = 0.0, status: int = 0, reason: str = "",
                 headers: tuple[tuple[str, str], ...] = (), late: Callable[[], None] | None = None) -> None:
        self.groups = groups
        self.patience = patience
        self.status = status
        self.reason = reason
        self.headers = headers
        self.late = late

    def taken(self) -> None:
        """Somebody took the request though this had answered it, or was about to."""
        late, self.late = self.late, None
        if late is not None:
            late()


def phrase_of(stage: Stage | None) -> str:
    """The reason phrase that a plan gave, "" for the usual one."""
    return stage.reason if stage is not None else ""


class Plan(Protocol):
    """Where else a request may go, told step by step as it turns out that nobody takes it."""

    def next(self, status: int, done: Callable[[Stage | None], None]) -> None:
        """Calls `done` once, now or later, with the next stage, or None when there is nothing more to try.

        `status` is 0 at first, then what the last stage came to: 408 when nobody answered in time, 503 when there was
        no way to anybody, else the best response. A 2xx, a 6xx (RFC 3261 s16.7 step 5) and a CANCEL end the plan.
        """


#: Where a request goes: groups, and who is asked after them.
Way = tuple[Groups, Plan | None]


def answering(bindings: list[Binding], unreachable: Collection[tuple[str, str]]) -> list[Binding]:
    """The bindings without those that do not answer (address-of-record and contact). Where none does all are left:
    whoever calls is better served by an attempt than by our guess."""
    return [one for one in bindings if (one.aor, one.contact) not in unreachable] or bindings


def groups_of(bindings: Sequence[Binding], secure: bool = False) -> Groups:
    """The targets that bindings stand for: equal q together, higher q first (s16.6, s20.10).

    `secure` is for a sips Request-URI: only contacts that can be reached by TLS are left (s16.6 step 2, s26.2.2).
    """
    targets = []
    for binding in bindings:
        over_tls = binding.source is not None and binding.source.transport == "tls" and not binding.path
        if not binding.contact[:4].lower().startswith(("sip:", "sips")):
            continue  # a mailto or tel contact is listed, but no call can go there
        if secure and not over_tls and not binding.contact.lower().startswith("sips:"):
            continue
        # a stream is used while it stands; a UDP source only where the contact itself cannot be reached
        stream = binding.source is not None and binding.source.transport != "udp"
        contact = binding.contact
        if stream and ";transport=udp" in contact.lower() and binding.source is not None:
            # RFC 3263 s4.1: a contact that says UDP is asked by UDP; what came over TLS stays there (s26.2.2)
            stream = binding.source.transport == "tls" or (Uri.parse(contact).param("transport") or "").lower() != "udp"
        use_flow = not binding.path and (binding.nat or stream)
        if "?" in contact or ";method" in contact.lower():
            contact = str(for_request(Uri.parse(contact)))
        # s26.2.2: a sip contact that registered over TLS is reached over that connection, never by another transport
        only = use_flow and (binding.nat or (secure and contact[:5].lower() != "sips:"))
        flow = binding.flow if use_flow else ""
        targets.append(Target(contact, binding.path, flow, only, binding.listener, binding.q, binding.aor))
    if len(targets) <= 1:
        return [targets] if targets else []
    return _by_q(targets)


def redirected(contacts: Sequence[str], known: Sequence[str], secure: bool,
               breadth: int) -> tuple[Groups, list[str]]:
    """The targets in the Contact values of a 3xx that are not among the URIs `known` (s16.5: a target enters the set
    once, by s19.1.4), out of the first MOST_REDIRECTED values, and the values that no target was made of. `secure`:
    only sips will do (s16.7 step 4). `breadth` is what the redirected branch had: the targets have it together, each a
    part, and there are no more of them (RFC 5393 s5.3.3).
    """
    seen: list[Uri] = []
    for text in known:
        try:
            seen.append(Uri.parse(text))
        except MalformedMessage:
            continue
    targets: list[Target] = []
    left: list[str] = []
    for place, value in enumerate(contacts):
        if place == MOST_REDIRECTED or len(targets) == breadth:
            left += contacts[place:]
            break
        try:
            address = Address.parse(value)
            uri = address.uri
            q = qvalue(address.params.get("q") or "1")
        except MalformedMessage:
            left.append(value)
            continue
        if not uri.is_sip or (secure and uri.scheme != "sips"):
            left.append(value)
        elif not any(uri.equivalent(other) for other in seen):
            seen.append(uri)
            targets.append(Target(str(for_request(uri)), q=1000 if q is None else q))
    for place, target in enumerate(targets):
        target.breadth = (breadth + place) // len(targets)
    return _by_q(targets), left


def for_request(uri: Uri) -> Uri:
    """The URI without what may not stand in a Request-URI: headers and method (s16.6 step 2, s19.1.1)."""
    params = tuple([item for item in uri.params if item[0] != "method"])
    return Uri(uri.scheme, uri.user, uri.password, uri.host, uri.port, params)


def _by_q(targets: list[Target]) -> Groups:
    groups: Groups = []
    for target in sorted(targets, key=_falling_q):
        if groups and groups[-1][0].q == target.q:
            groups[-1].append(target)
        else:
            groups.append([target])
    return groups


def _falling_q(target: Target) -> int:
    return -target.q
