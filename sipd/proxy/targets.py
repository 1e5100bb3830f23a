"""Where a request may go: targets, in groups that are tried one after the other (RFC 3261 s16.5, s16.6). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from sipd.binding import Binding


class Target:
    """One place to forward to.

    `uri` is the new Request-URI; `route` the Route values to put above those the request has (a Path, RFC 3327 s5.3);
    `flow_id` a flow that leads there; `only` says that nothing else does; `listener` the `address:port` of the listener
    the contact knows us by.
    """

    __slots__ = ("uri", "route", "flow_id", "only", "listener", "q")

    def __init__(self, uri: str, route: tuple[str, ...] = (), flow_id: str = "", only: bool = False,
                 listener: str = "", q: int = 1000) -> None:
        self.uri = uri
        self.route = route
        self.flow_id = flow_id
        self.only = only
        self.listener = listener
        self.q = q


#: Targets tried at once, best group first.
Groups = list[list[Target]]


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
        use_flow = not binding.path and (binding.nat or stream)
        targets.append(Target(binding.contact, binding.path, binding.flow if use_flow else "",
                              use_flow and binding.nat, binding.listener, binding.q))
    if len(targets) <= 1:
        return [targets] if targets else []
    groups: Groups = []
    for target in sorted(targets, key=_falling_q):
        if groups and groups[-1][0].q == target.q:
            groups[-1].append(target)
        else:
            groups.append([target])
    return groups


def _falling_q(target: Target) -> int:
    return -target.q
