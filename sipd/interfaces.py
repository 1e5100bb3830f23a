"""The seams of sipd: zope interfaces of what the rooms hand to one another, so that tests can put fakes there."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from zope.interface import Attribute, Interface

from sipd.binding import Binding
from sipd.flow import Flow
from sipd.message.hop import Hop
from sipd.message.uri import Uri


class IFlowUser(Interface):
    """Who waits for an answer on a flow (RFC 3261 s18.4)."""

    def flow_failed(reason: str) -> None:
        """The flow broke or an ICMP error came back; `reason` is for people, such as "connection refused"."""


class ITransports(Interface):
    """All listeners and flows of the server (RFC 3261 s18)."""

    listeners = Attribute("list of Listener, concrete addresses only")
    changed = Attribute("called without arguments whenever `listeners` has changed; settable")

    def flow_to(hop: Hop, listener: str = "") -> Flow | None:
        """The flow to `hop` when it exists already: always for UDP with a listener of that family, for a stream only
        over a connection this server opened. `listener` (its `address:port`) is preferred when it can be used."""

    def flow_by_id(flow_id: str) -> Flow | None:
        """The live flow of that `id`; a UDP flow's id always finds it again while its listener stands."""

    def connect(hop: Hop, done: Callable[[Flow | None, str], None]) -> None:
        """Opens a connection to a stream hop; `done(flow, "")` or `done(None, reason)` is called once, within the
        connect deadline. Simultaneous calls for one hop share the attempt."""


class IResolver(Interface):
    """From a URI to hops (RFC 3263 s4)."""

    own = Attribute("Callable[[Uri], list[Hop]]: the hops of a URI that names this server, which is never looked up; "
                    "empty for other URIs; settable")

    def lookup(uri: Uri, chance: bytes = b"") -> list[Hop] | None:
        """The hops when they are known without asking the network (numeric host, or cached), best first; empty when
        it is known that there are none; None when only `resolve` can tell. Servers of equal priority come in an order
        thrown anew each time, or in the one that `chance`, four octets, stands for (RFC 3263 s4.4)."""

    def resolve(uri: Uri, chance: bytes = b"") -> Coroutine[Any, Any, list[Hop]]:
        """The hops, best first, empty when there are none. Never raises; ends within `dns_timeout` per question."""

    def quarantine(hop: Hop, seconds: float = 0.0) -> float:
        """Sorts this hop last for a while: it just failed (RFC 3263 s4.3); for `seconds` where it asked for more, up to
        a bound. How many seconds it will be."""

    def failed(uri: Uri) -> bool:
        """True when all hops that are known of a URI failed lately, so that another way is better."""


class ILocationStore(Interface):
    """Durable storage behind the location service's table."""

    def load() -> Iterable[Binding]:
        """Every stored binding that has not expired; called once, at start."""

    def commit(changes: list[tuple[str, Binding]], done: Callable[[str], None]) -> None:
        """Makes changes durable, all or none: ("put", binding) or ("delete", binding). `done("")` after the commit
        returned, `done(reason)` when it failed. Commits happen in the order asked."""

    def close() -> None:
        """Writes what is queued and closes; blocks for the last commit."""
