"""A network in memory: listeners, flows, endpoints and transports for scenarios in virtual time.

    network = MemoryNetwork(Clock())
    transports = network.transports([("udp", "192.0.2.1", 5060), ("tcp", "192.0.2.1", 5060)])
    transports.receive = layer.receive                          # called as receive(data, flow)
    phone = network.endpoint("udp", "192.0.2.10", 5060)
    phone.send(b"...", ("192.0.2.1", 5060))                     # the server has it when send returns
    phone.received                                              # bytes of each message sent to it, oldest first

What an endpoint sends reaches the server within the call; what the server sends stands in `received` at once, while
`on_receive` is called from the clock (a fresh call stack, like a real socket): `network.settle()` lets everything that
is due happen. With `delay` seconds each way, both directions go through the clock.

The network can `refuse`, swallow (`blackhole`), `drop` single packets, and answer with an ICMP error (`icmp`); a stream
endpoint closes its connections, and `network.cut(flow)` breaks one from the outside. With `weather` (see
tests/support/weather.py) packets are lost, copied, held back and overtake each other.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from twisted.internet.task import Clock
from zope.interface import implementer

from sipd.flow import Flow
from sipd.interfaces import IFlowUser, ITransports
from sipd.message.hop import Hop
from sipd.transport.flows import tell_users, udp_flow_id, udp_flow_parts
from sipd.transport.listener import Listener

Place = tuple[str, int]
Receive = Callable[[bytes, "MemoryFlow"], None]


@dataclass
class Packet:
    """One message on the wire; `source` and `target` are (address, port), `at` virtual seconds."""

    at: float
    transport: str
    source: Place
    target: Place
    data: bytes


class _Users(dict[IFlowUser, None]):
    """The users of a flow, told in the order in which they came: what happens must not hang on where objects lie."""

    def add(self, user: IFlowUser) -> None:
        """As of a set."""
        self[user] = None

    def discard(self, user: IFlowUser) -> None:
        """As of a set."""
        self.pop(user, None)


class MemoryFlow(Flow):
    """The server's side of a UDP peer or a connection. What is sent goes to the network, `sent` remembers it."""

    def __init__(self, transports: MemoryTransports, listener: Listener, address: str, port: int, flow_id: str) -> None:
        super().__init__(flow_id, listener, listener.transport, address, port)
        self.users = _Users()
        self.names: tuple[str, ...] = ()
        self.sent: list[bytes] = []
        self.connection: Connection | None = None
        self._transports = transports

    def client_names(self) -> tuple[str, ...]:
        """See Flow; settable here."""
        return self.names

    def send(self, data: bytes) -> None:
        """To the network; a dead connection tells its users from a fresh stack."""
        network = self._transports.network
        if not self.alive:
            network.clock.callLater(0, tell_users, self, "connection closed")
            return
        self.sent.append(data)
        network.from_server(self, data)

    def fail(self, reason: str) -> None:
        """Breaks now, as a reset or an ICMP error would; the users are told within the call."""
        if self.reliable:
            self.alive = False
            self._transports.forget(self)
        tell_users(self, reason)


class Connection:
    """The peer's side of one stream connection."""

    def __init__(self, network: MemoryNetwork, local: Place, flow: MemoryFlow) -> None:
        self.network = network
        self.local = local
        self.flow = flow
        self.received: list[bytes] = []
        self.on_receive: Callable[[bytes], object] | None = None
        self.open = True
        flow.connection = self

    def send(self, data: bytes) -> None:
        """One whole message to the server."""
        if not self.open:
            raise AssertionError("the test sends on a connection that is closed")
        self.network.to_server(self.flow, data)

    def close(self) -> None:
        """The peer closes; the server sees it at once."""
        self.lose("connection closed by the peer")

    def lose(self, reason: str) -> None:
        """Ends the connection for both sides."""
        if self.open:
            self.open = False
            self.flow.fail(reason)

    def deliver(self, data: bytes) -> None:
        """Called by the network: a message from the server."""
        self.received.append(data)
        if self.on_receive is not None:
            self.network.clock.callLater(0, self.on_receive, data)


class Endpoint:
    """A peer at one address: sends and receives datagrams, or opens stream connections."""

    def __init__(self, network: MemoryNetwork, transport: str, address: str, port: int) -> None:
        self.network = network
        self.transport = transport
        self.address = address
        self.port = port
        self.received: list[bytes] = []
        #: Where each message of `received` came from, the server's (address, port).
        self.sources: list[Place] = []
        self.on_receive: Callable[[bytes], object] | None = None
        self.connections: list[Connection] = []

    def send(self, data: bytes, to: Place) -> None:
        """One datagram to the server's listener at `to`."""
        transports, listener = self.network.listener_at(self.transport, to)
        self.network.to_server(transports.udp_flow(listener, self.address, self.port), data)

    def connect(self, to: Place) -> Connection:
        """Opens a connection from here to the server's listener at `to`."""
        transports, listener = self.network.listener_at(self.transport, to)
        flow = transports.stream_flow(listener, self.address, self.port)
        connection = Connection(self.network, (self.address, self.port), flow)
        self.connections.append(connection)
        return connection

    def deliver(self, data: bytes, source: Place) -> None:
        """Called by the network: a datagram from the server."""
        self.received.append(data)
        self.sources.append(source)
        if self.on_receive is not None:
            self.network.clock.callLater(0, self.on_receive, data)


@dataclass
class Acceptor:
    """A peer that waits for connections from the server. `mode` is "accept", "refuse", "blackhole", or in any other
    words why the attempt fails, such as "TLS failed: bad certificate"."""

    mode: str = "accept"
    connections: list[Connection] = field(default_factory=list)
    on_connect: Callable[[Connection], object] | None = None
    on_receive: Callable[[bytes], object] | None = None

    @property
    def received(self) -> list[bytes]:
        """Everything received over all connections, connection by connection."""
        return [data for connection in self.connections for data in connection.received]


class MemoryNetwork:
    """Places and what happens between them. `delay` is seconds one way."""

    def __init__(self, clock: Clock, delay: float = 0.0) -> None:
        self.clock = clock
        self.delay = delay
        #: Every message, both ways, dropped ones included, oldest first.
        self.packets: list[Packet] = []
        #: Says which packets are lost; None: none is.
        self.drop: Callable[[Packet], bool] | None = None
        #: Says after how many seconds each copy of a packet arrives, none when it is lost; None: one, after `delay`.
        self.weather: Callable[[Packet], Sequence[float]] | None = None
        #: UDP places that answer with an ICMP "port unreachable".
        self.icmp: set[Place] = set()
        self.endpoints: dict[tuple[str, str, int], Endpoint] = {}
        self.acceptors: dict[tuple[str, str, int], Acceptor] = {}
        self.servers: list[MemoryTransports] = []
        self._ephemeral = 32768

    def transports(self, listeners: Iterable[tuple[str, str, int]], connect_timeout: float = 4.0) -> MemoryTransports:
        """A server with these listeners: (transport, address, port)."""
        transports = MemoryTransports(self, [Listener(*listener) for listener in listeners], connect_timeout)
        self.servers.append(transports)
        return transports

    def endpoint(self, transport: str, address: str, port: int) -> Endpoint:
        """The peer at this place, made when it is not there yet."""
        key = (transport, address, port)
        if key not in self.endpoints:
            self.endpoints[key] = Endpoint(self, transport, address, port)
        return self.endpoints[key]

    def listen(self, transport: str, address: str, port: int, mode: str = "accept") -> Acceptor:
        """A stream peer that the server can connect to."""
        acceptor = self.acceptors[(transport, address, port)] = Acceptor(mode)
        return acceptor

    def cut(self, flow: MemoryFlow, reason: str = "connection reset") -> None:
        """Breaks a stream flow for both sides."""
        if flow.connection is not None:
            flow.connection.lose(reason)
        else:
            flow.fail(reason)

    def settle(self, seconds: float = 0.0) -> None:
        """Lets `seconds` pass and everything that is due happen."""
        self.clock.advance(seconds)

    def listener_at(self, transport: str, place: Place) -> tuple[MemoryTransports, Listener]:
        """The server and its listener at `place`. Raises LookupError when nobody listens there."""
        for server in self.servers:
            for listener in server.listeners:
                if (listener.transport, listener.address, listener.port) == (transport, *place):
                    return server, listener
        raise LookupError(f"no {transport} listener at {place}")

    def ephemeral_port(self) -> int:
        """A local port for an outgoing connection."""
        self._ephemeral += 1
        return self._ephemeral

    def to_server(self, flow: MemoryFlow, data: bytes) -> None:
        """Carries a message from a peer to the server."""
        source, target = (flow.address, flow.port), (flow.listener.address, flow.listener.port)
        for delay in self._copies(Packet(self.clock.seconds(), flow.transport, source, target, data)):
            if delay:
                self.clock.callLater(delay, flow._transports.arrived, data, flow)
            else:
                flow._transports.arrived(data, flow)

    def from_server(self, flow: MemoryFlow, data: bytes) -> None:
        """Carries a message from the server to a peer."""
        source, target = (flow.listener.address, flow.listener.port), (flow.address, flow.port)
        for delay in self._copies(Packet(self.clock.seconds(), flow.transport, source, target, data)):
            if not flow.reliable and target in self.icmp:
                self.clock.callLater(2 * delay, flow.fail, "connection refused")
            elif delay:
                self.clock.callLater(delay, self._deliver, flow, data)
            else:
                self._deliver(flow, data)

    def _copies(self, packet: Packet) -> Sequence[float]:
        """Notes the packet; after how many seconds it arrives, empty when it is lost."""
        self.packets.append(packet)
        if self.drop is not None and self.drop(packet):
            return ()
        return (self.delay,) if self.weather is None else self.weather(packet)

    def _deliver(self, flow: MemoryFlow, data: bytes) -> None:
        """Hands a message of the server to its peer; a datagram to nobody is lost."""
        if flow.connection is not None:
            if flow.connection.open:
                flow.connection.deliver(data)
            return
        endpoint = self.endpoints.get((flow.transport, flow.address, flow.port))
        if endpoint is not None:
            endpoint.deliver(data, (flow.listener.address, flow.listener.port))
            return
        for server in self.servers:
            for listener in server.listeners:
                if (listener.transport, listener.address, listener.port) == (flow.transport, flow.address, flow.port):
                    # a server that sends to itself, or to another one
                    back = server.udp_flow(listener, flow.listener.address, flow.listener.port)
                    self.clock.callLater(0, server.arrived, data, back)
                    return


@implementer(ITransports)
class MemoryTransports:
    """The server's side of the network; `receive(data, flow)` is called for each message that arrives."""

    def __init__(self, network: MemoryNetwork, listeners: list[Listener], connect_timeout: float) -> None:
        self.network = network
        self.listeners = listeners
        self.connect_timeout = connect_timeout
        self.receive: Receive | None = None
        self.changed: Callable[[], object] = lambda: None
        self.flows: dict[str, MemoryFlow] = {}
        self._outgoing: dict[Hop, MemoryFlow] = {}
        self._attempts: dict[Hop, list[Callable[[Flow | None, str], None]]] = {}
        self._connections = 0

    def arrived(self, data: bytes, flow: MemoryFlow) -> None:
        """Called by the network."""
        if self.receive is None:
            raise AssertionError("the test sends before transports.receive is set")
        if flow.alive:
            self.receive(data, flow)

    def flow_to(self, hop: Hop, listener: str = "") -> Flow | None:
        """See ITransports."""
        if hop.transport != "udp":
            return self._outgoing.get(hop)
        family = [one for one in self.listeners
                  if one.transport == "udp" and (":" in one.address) == (":" in hop.address)]
        for one in family:
            if one.name == listener:
                return self.udp_flow(one, hop.address, hop.port)
        loopback = ipaddress.ip_address(hop.address).is_loopback
        family.sort(key=lambda one: ipaddress.ip_address(one.address).is_loopback != loopback)
        return self.udp_flow(family[0], hop.address, hop.port) if family else None

    def flow_by_id(self, flow_id: str) -> Flow | None:
        """See ITransports."""
        parts = udp_flow_parts(flow_id)
        if parts is None:
            return self.flows.get(flow_id)
        name, address, port = parts
        for listener in self.listeners:
            if listener.transport == "udp" and listener.name == name:
                return self.udp_flow(listener, address, port)
        return None

    def connect(self, hop: Hop, done: Callable[[Flow | None, str], None]) -> None:
        """See ITransports."""
        if hop in self._attempts:
            self._attempts[hop].append(done)
            return
        self._attempts[hop] = [done]
        clock = self.network.clock
        acceptor = self.network.acceptors.get((hop.transport, hop.address, hop.port)) or self._own_acceptor(hop)
        if acceptor is None or acceptor.mode == "refuse":
            clock.callLater(2 * self.network.delay, self._attempted, hop, None, "connection refused")
        elif acceptor.mode == "blackhole":
            clock.callLater(self.connect_timeout, self._attempted, hop, None, "connection timed out")
        elif acceptor.mode != "accept":
            clock.callLater(2 * self.network.delay, self._attempted, hop, None, acceptor.mode)
        else:
            clock.callLater(2 * self.network.delay, self._attempted, hop, acceptor, "")

    def _own_acceptor(self, hop: Hop) -> Acceptor | None:
        """A listener of a server, this one or another: the two ends of the connection pass messages to each other."""
        try:
            server, listener = self.network.listener_at(hop.transport, (hop.address, hop.port))
        except LookupError:
            return None
        acceptor = Acceptor()

        def connected(near: Connection) -> None:
            place = (near.flow.listener.address, self.network.ephemeral_port())
            far = Connection(self.network, place, server.stream_flow(listener, *place))
            near.on_receive, far.on_receive = far.send, near.send

        acceptor.on_connect = connected
        return acceptor

    def _attempted(self, hop: Hop, acceptor: Acceptor | None, reason: str) -> None:
        """The attempt ended; tells everybody who waits for it."""
        flow: MemoryFlow | None = None
        if acceptor is not None:
            family = [one for one in self.listeners
                      if one.transport == hop.transport and (":" in one.address) == (":" in hop.address)]
            if family:
                flow = self._outgoing[hop] = self.stream_flow(family[0], hop.address, hop.port)
                connection = Connection(self.network, (hop.address, hop.port), flow)
                connection.on_receive = acceptor.on_receive
                acceptor.connections.append(connection)
                if acceptor.on_connect is not None:
                    acceptor.on_connect(connection)
            else:
                reason = f"no {hop.transport} listener of that address family"
        for done in self._attempts.pop(hop):
            done(flow, reason)

    def udp_flow(self, listener: Listener, address: str, port: int) -> MemoryFlow:
        """The one flow between this listener and this peer."""
        flow_id = udp_flow_id(listener.name, address, port)
        flow = self.flows.get(flow_id)
        if flow is None:
            flow = self.flows[flow_id] = MemoryFlow(self, listener, address, port, flow_id)
        return flow

    def stream_flow(self, listener: Listener, address: str, port: int) -> MemoryFlow:
        """A new connection."""
        self._connections += 1
        flow_id = f"{listener.transport}/{self._connections:08d}"
        flow = self.flows[flow_id] = MemoryFlow(self, listener, address, port, flow_id)
        return flow

    def forget(self, flow: MemoryFlow) -> None:
        """Called by a stream flow that broke."""
        self.flows.pop(flow.id, None)
        for hop in [hop for hop, one in self._outgoing.items() if one is flow]:
            del self._outgoing[hop]
