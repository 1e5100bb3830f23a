"""The forking stateful proxy: performs what response contexts decide (RFC 3261 s16).

`Proxy` holds what all requests share; a `Forwarding` is one request on its way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from sipd.flow import Flow
from sipd.interfaces import IResolver, ITransports
from sipd.inventory import Inventory, Table
from sipd.journal import Journal
from sipd.message import compose
from sipd.message.errors import MalformedMessage, Reject
from sipd.message.hop import Hop
from sipd.message.identifiers import Identifiers
from sipd.message.message import Request, Response
from sipd.message.uri import Uri
from sipd.proxy.dressing import Dress, Worn
from sipd.proxy.forward import MAX_DATAGRAM, add_via, breadth_of, breadth_share, prepare
from sipd.proxy.forwarding import Forwarding
from sipd.proxy.route_headers import RouteHeaders, next_hop, secured
from sipd.proxy.targets import Groups, Plan, Target
from sipd.proxy.token import RouteToken

if TYPE_CHECKING:
    from sipd.calls.call import Call
    from sipd.proxy.branch import Branch
    from sipd.transaction.key import Key
    from sipd.transaction.layer import TransactionLayer

#: How long TCP may take to open before a large request goes by UDP (seconds).
_TCP_PATIENCE: Final = 0.5
#: How long a place that refused TCP is believed to have none (seconds).
_WITHOUT_TCP: Final = 600.0


@dataclass(frozen=True, slots=True)
class ProxyValues:
    """Settings of the proxy; durations in seconds."""

    record_route: bool = True
    ring_timeout: float = 20.0
    hop_timeout: float = 4.0
    recurse: bool = False
    timer_c: float = 181.0
    #: Targets of one request.
    branches: int = 60


class Proxy:
    """Forwards requests to groups of targets, and ACKs without state."""

    def __init__(self, layer: TransactionLayer, transports: ITransports, resolver: IResolver, routes: RouteHeaders,
                 token: RouteToken, identifiers: Identifiers, to_tag: Callable[[Request], str], values: ProxyValues,
                 inventory: Inventory, journal: Journal, limit: int = 100_000) -> None:
        self.layer = layer
        self.transports = transports
        self.resolver = resolver
        self.routes = routes
        self.token = token
        self.identifiers = identifiers
        #: The To tag of a final response made here.
        self.to_tag = to_tag
        self.values = values
        self.journal = journal
        self.forwardings: Table[int, Forwarding] = inventory.table("requests being forwarded", limit)
        #: Look-ups that ask DNS, and requests waiting for them.
        self.look_ups: Table[Deferred[list[Hop]], None] = inventory.table("look-ups under way", limit)
        #: Places that refused TCP, each with the time (seconds of the clock) up to which it is not tried again.
        self.without_tcp: Table[tuple[str, int], float] = inventory.table("hops without TCP", 10_000, cache=True)
        #: Who answered a call that went to several, by Call-ID and To tag: for the ACK of a caller that knows no route.
        self.answerers: Table[tuple[str, str], Target] = inventory.table("answerers of forks", 10_000, cache=True)
        self._count = 0

    def configure(self, values: ProxyValues, limit: int) -> None:
        """Other settings and bound, for requests that come from now on."""
        self.values = values
        self.forwardings.limit = self.look_ups.limit = limit

    def forward(self, request: Request, key: Key, groups: Groups, looped_mark: str = "",
                plan: Plan | None = None, call: Call | None = None, dress: Dress | None = None,
                patience: float = 0.0) -> None:
        """Makes the server transaction, answers an INVITE with 100, and begins with the first group (s16.6).

        `looped_mark` goes into our branches, so that a loop is seen when the request comes back. `plan` is asked when
        none of the groups answered, each within `patience` seconds (as Stage has it), and at once where there are none.
        `call` is told what becomes of it; `dress` is for a request that a trunk sent. Raises Reject (503) when a table
        is full.
        """
        forwardings = self.forwardings
        if forwardings.full:
            forwardings.refused += 1
            raise Reject(503, "Server Overloaded")
        if sum(map(len, groups)) > self.values.branches:
            raise Reject(440)
        breadth = breadth_share(request, groups) if groups else breadth_of(request)
        server = self.layer.serve(request, key)
        if server is None:
            raise Reject(503, "Server Overloaded")
        forwarding = Forwarding(self, request, server, groups, looped_mark, breadth, plan, call, dress)
        forwarding.context.patience = patience
        self._count += 1
        forwarding.number = self._count
        forwardings[self._count] = forwarding
        server.user = forwarding
        if request.method == "INVITE":
            # s16.2: the 100 goes out before anything that may take time
            server.answer(100, compose.trying(request))
        else:
            self.layer.promise_trying(server)
        try:
            forwarding.perform(forwarding.context.start())
        except Exception:
            forwarding.give_up()  # a bug of ours, which the layer answers and records; it must leave nothing behind
            raise

    def invite_of(self, call: Call) -> Forwarding | None:
        """The INVITE of a call while somebody may still take it. It is looked for among all that are on their way: who
        asks is a person, once in a while."""
        for forwarding in self.forwardings.values():
            if forwarding.leg is call and not forwarding.context.over:
                return forwarding
        return None

    def forward_ack(self, request: Request, target: Target) -> None:
        """Forwards the ACK of a 2xx: it belongs to no transaction and gets no answer (s16.11, s13.2.2.4).

        Its branch follows from the branch it came with, so that a repeat looks like one downstream too.
        """
        via = request.via
        assert via is not None
        branch = self.token.branch(via.text, request.call_id, target.uri)
        copy = prepare(request)
        copy.retarget(target.uri)
        if target.route:
            copy.set_values("route", [*target.route, *request.values("route")])
        dress = target.dress
        if dress is not None:
            dress.put_on(copy, "", None)

        def send(flow: Flow | None, hop: Hop | None = None) -> None:
            if flow is None:
                return
            if dress is not None:
                dress.acknowledge(copy, flow.address, request.cseq_number)
            add_via(copy, flow.listener.via_prefix, branch, [], flow.reliable)
            data = copy.encode()
            if hop is None or flow.reliable or len(data) <= MAX_DATAGRAM:
                flow.send(data)
            else:
                del copy.headers[0]  # s18.1.1: the Via names the transport that is taken in the end
                self.by_tcp(hop, flow, send)

        flow = self.flow_of(target)
        if flow is not None:
            send(flow)
        elif not target.only:
            try:
                uri = secured(next_hop(copy), target.uri)
            except MalformedMessage:
                return  # an ACK is never answered
            # as for every request: by the side it came to, unless another is known
            listener = target.listener or (request.flow.listener.name if request.flow is not None else "")
            self.with_hops(uri, lambda hops: self.first_flow(hops, listener, send), branch[-4:].encode())

    def first_flow(self, hops: list[Hop], listener: str, done: Callable[[Flow | None, Hop | None], None]) -> None:
        """A flow to the best hop that can be had, opened if need be (RFC 3263 s4.3), and the hop."""
        if not hops:
            done(None, None)
            return
        hop, rest = hops[0], hops[1:]
        flow = self.transports.flow_to(hop, listener)
        if flow is not None:
            done(flow, hop)
            return

        def connected(opened: Flow | None, reason: str) -> None:
            if opened is not None:
                done(opened, hop)
            else:
                self.blame(hop, reason)
                self.first_flow(rest, listener, done)

        if hop.transport == "udp":
            connected(None, "no listener of its family")
        else:
            self.transports.connect(hop, connected)

    def by_tcp(self, hop: Hop, datagrams: Flow, use: Callable[[Flow], None]) -> None:
        """s18.1.1: what is too large for a datagram goes by TCP to the place of `hop`, and all the same over
        `datagrams`, the flow of that hop, where no TCP is to be had. Calls `use` once with the one or the other."""
        wheel = self.layer.wheel
        tcp = Hop("tcp", hop.address, hop.port)
        flow = self.transports.flow_to(tcp)
        if flow is not None or self.without_tcp.get((hop.address, hop.port), 0.0) > wheel.now:
            use(flow or datagrams)
            return
        waiting = True

        def connected(flow: Flow | None, reason: str) -> None:
            nonlocal waiting
            if not waiting:
                return  # it took too long; an open connection serves the next one
            waiting = False
            patience.cancel()
            if flow is None:
                self.has_no_tcp(hop)
            use(flow or datagrams)

        patience = wheel.start(_TCP_PATIENCE, lambda nothing: connected(None, ""), None)
        self.transports.connect(tcp, connected)

    def note_answerer(self, branch: Branch, response: Response) -> None:
        """Who sent a 2xx, for an ACK that comes without a route."""
        try:
            tag = response.to_tag
        except MalformedMessage:
            return  # the caller may still read it
        target = branch.target
        if branch.worn is not None:
            target = target.copy()
            target.dress = branch.worn.answerer()
        self.answerers.remember((response.call_id, tag), target)

    def note_flow(self, flow: Flow, reason: str) -> None:
        """For people: the only way to somebody failed."""
        if self.journal.sinks:
            self.journal.write("flow-failed", flow=str(flow), reason=reason)

    def note_nowhere(self, uri: Uri) -> None:
        """For people: a URI leads nowhere."""
        if self.journal.sinks:
            self.journal.write("nowhere", uri=str(uri), reason="it has no address we could send to")

    def note_wrong(self, worn: Worn, request: Request, response: Response) -> None:
        """A trunk wants credentials that we do not have; who runs this wants to know."""
        if self.journal.sinks and worn.dress.out is not None:
            self.journal.write("peer-asks", peer=worn.dress.out.name, method=request.method, source=worn.address,
                               status=response.status, call_id=request.call_id)

    def has_no_tcp(self, hop: Hop) -> None:
        """TCP to the place of a UDP hop failed: for a while it is not tried again."""
        self.without_tcp.remember((hop.address, hop.port), self.layer.wheel.now + _WITHOUT_TCP)

    def blame(self, hop: Hop, reason: str, seconds: float = 0.0) -> None:
        """RFC 3263 s4.3: the hop failed; it is tried last for a while, longer where it asked for more `seconds`."""
        period = self.resolver.quarantine(hop, seconds)
        if self.journal.sinks:
            self.journal.write("hop-failed", hop=str(hop), reason=reason, seconds=round(period))

    def flow_of(self, target: Target) -> Flow | None:
        """The flow a target names, while it stands."""
        if not target.flow_id:
            return None
        flow = self.transports.flow_by_id(target.flow_id)
        if flow is None or not flow.alive:
            return None
        # s16.6 step 7, s26.2.2: what is for a sips URI goes by TLS alone
        return None if target.uri[:5].lower() == "sips:" and flow.transport != "tls" else flow

    def with_hops(self, uri: Uri, use: Callable[[list[Hop]], None], chance: bytes = b"") -> None:
        """Calls `use` with the hops of a URI, at once when no network has to be asked. `chance` as IResolver has it."""
        hops = self.resolver.lookup(uri, chance)
        if hops is not None:
            use(hops)
            return
        if self.look_ups.full:
            self.look_ups.refused += 1
            use([])
            return
        waiting: Deferred[list[Hop]] = Deferred.fromCoroutine(self.resolver.resolve(uri, chance))
        self.look_ups[waiting] = None

        def found(hops: list[Hop]) -> None:
            self.look_ups.pop(waiting, None)
            use(hops)

        def broken(failure: Failure) -> None:
            self.look_ups.pop(waiting, None)
            # nobody above us here answers the request, so it goes on as one that leads nowhere
            self.journal.write("bug", reason=failure.getTraceback())
            use([])

        waiting.addCallback(found)
        waiting.addErrback(broken)
        waiting.addErrback(lambda failure: self.journal.write("bug", reason=failure.getTraceback()))
