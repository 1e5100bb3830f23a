"""The stream connections of the server: their bounds, and those that we open (RFC 3261 s18, RFC 5626)."""

from __future__ import annotations

import binascii
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectBindError
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure

from sipd.config_limits import Limits
from sipd.flow import Flow
from sipd.inventory import Inventory, Table
from sipd.journal import Journal
from sipd.message.hop import Hop, hop_text
from sipd.transport import addresses
from sipd.transport.flows import nobody, write_bug
from sipd.transport.listener import Listener
from sipd.transport.stream import StreamConnection, StreamFlow, StreamSettings, reason_text
from sipd.transport.tls import CertificateError, ClientContexts, InnerFactory, TlsFactory

Done = Callable[[Flow | None, str], None]

#: Attempts to open a connection at one time.
ATTEMPTS = 1000


class Attempt:
    """One connection being opened, and those who wait for it."""

    __slots__ = ("hop", "waiting", "connector", "connection", "timer")

    def __init__(self, hop: Hop) -> None:
        self.hop = hop
        self.waiting: list[Done] = []
        self.connector: Any = None
        #: What stands already while its TLS handshake is going on.
        self.connection: StreamConnection | None = None
        self.timer: Any = None


class Connections:
    """Accepts and opens connections within the bounds of `limits`.

    Connections that peers opened are found by id only: whoever gets hold of an address and port after a phone must not
    get that phone's calls (RFC 5626 s3.1, s12).
    """

    def __init__(
        self, reactor: Any, clock: Any, entropy: Callable[[int], bytes], journal: Journal,
        inventory: Inventory, limits: Limits, contexts: ClientContexts,
    ) -> None:
        self.live: Table[str, StreamConnection] = inventory.table("connections", limits.connections)
        #: Those of peers that were strangers when somebody last looked, oldest first.
        self._strangers: Table[str, StreamConnection] = inventory.table("connections of strangers", limits.connections)
        self._outgoing: Table[Hop, StreamFlow] = inventory.table("outgoing connections", limits.connections)
        self._sources: Table[str, int] = inventory.table("connection sources", limits.connections)
        self._attempts: Table[Hop, Attempt] = inventory.table("connection attempts", ATTEMPTS)
        self._reactor = reactor
        self._clock = clock
        self._entropy = entropy
        self._journal = journal
        self._limits = limits
        self._contexts = contexts
        self._asked_at = 0.0
        self.settings = StreamSettings(clock, nobody, journal, limits, self._opened, self._closed)

    # -- connections that peers open

    def accept(self, listener: Listener, peer: Any) -> StreamConnection | None:
        """The protocol of a connection from `peer` (a Twisted address); None when there are too many."""
        refusal = ""
        if self._sources.get(peer.host, 0) >= self._limits.connections_per_source:
            self._sources.refused += 1
            refusal = f"{self._limits.connections_per_source} connections from this source are open"
        elif self.live.full and not self._put_out_stranger():
            self.live.refused += 1
            refusal = f"{self.live.limit} connections are open"
        if refusal:
            if self._journal.sinks:
                source = hop_text(listener.transport, peer.host, peer.port)
                self._journal.write("connection-refused", source=source, reason=refusal)
            return None
        return StreamConnection(self._new_id(listener), listener, peer.host, peer.port, self.settings)

    def _put_out_stranger(self) -> bool:
        """Makes room by ending the connection that has been a stranger's for longest; False when there is none. So who
        fills the table with strangers only shortens the time they have, and phones still come in between."""
        strangers = self._strangers
        while strangers:
            connection = strangers.pop(next(iter(strangers)))
            if connection.flow.alive and not connection.flow.known:
                connection.put_out("room was needed")
                return True
        return False

    @property
    def cut(self) -> dict[str, int]:
        """Connections ended because of what their peers did or did not do, by reason."""
        return dict(self.settings.cut)

    def lag(self) -> float:
        """How long what waits on a busy connection will wait until it is read, in seconds, as fast as it was read since
        this was last asked; that of the worst one."""
        now = self._clock.seconds()
        elapsed, self._asked_at = now - self._asked_at, now
        full = self.settings.full
        if not full:
            return 0.0
        lag: float = max(connection.unread() * elapsed / octets for connection, octets in full.items())
        full.clear()
        return lag

    def flow_by_id(self, flow_id: str) -> StreamFlow | None:
        """The live flow of that id."""
        connection = self.live.get(flow_id)
        return connection.flow if connection is not None and connection.flow.alive else None

    # -- connections that we open

    def flow_to(self, hop: Hop) -> StreamFlow | None:
        """The connection we opened to that hop, when it stands."""
        flow = self._outgoing.get(hop)
        return flow if flow is not None and flow.alive else None

    def connect(self, hop: Hop, listeners: list[Listener], done: Done) -> None:
        """Opens a connection; see ITransports. The flow belongs to the one of `listeners` with its local address."""
        flow = self.flow_to(hop)
        attempt = self._attempts.get(hop)
        if flow is not None:
            self._clock.callLater(0, done, flow, "")
        elif attempt is not None:
            attempt.waiting.append(done)
        elif not listeners:
            self._clock.callLater(0, done, None, f"no {hop.transport} listener of that address family")
        elif self._attempts.full or self.live.full:
            table: Table[Any, Any] = self._attempts if self._attempts.full else self.live
            table.refused += 1
            self._clock.callLater(0, done, None, f"too many {table.name}")
        else:
            self._begin(hop, listeners, done)

    def _begin(self, hop: Hop, listeners: list[Listener], done: Done) -> None:
        attempt = Attempt(hop)
        attempt.waiting.append(done)
        inner = InnerFactory(lambda addr: self._outgoing_protocol(attempt, listeners))
        factory: Any = inner
        if hop.transport == "tls":
            try:
                factory = TlsFactory(self._contexts.creator(hop.server_name), True, inner, self._clock)
            except CertificateError as error:
                self._clock.callLater(0, done, None, str(error))
                return
        self._attempts[hop] = attempt
        # one deadline for TCP and TLS together, in place of Twisted's
        attempt.timer = self._clock.callLater(
            self._limits.connect_timeout, self._give_up, attempt, "connection timed out")
        attempt.connector = self._reactor.connectTCP(
            hop.address, hop.port, _Opening(factory, lambda why: self._failed(attempt, why)), timeout=None,
            bindAddress=_bind_address(hop.address, listeners))

    def _outgoing_protocol(self, attempt: Attempt, listeners: list[Listener]) -> StreamConnection:
        """Called when TCP stands, before the protocol knows its transport."""
        hop = attempt.hop
        local = attempt.connector.transport.getHost().host
        listener = next((one for one in listeners if one.address == local), listeners[0])
        connection = StreamConnection(
            self._new_id(listener), listener, hop.address, hop.port, self.settings, hop)
        attempt.connection = connection
        connection.when_ready = lambda ready: self._stands(attempt, ready)
        return connection

    def _stands(self, attempt: Attempt, connection: StreamConnection) -> None:
        connection.when_ready = None
        if self._attempts.get(attempt.hop) is attempt:
            self._outgoing[attempt.hop] = connection.flow
            self._end(attempt, connection.flow, "")

    def _give_up(self, attempt: Attempt, why: str) -> None:
        connector, connection = attempt.connector, attempt.connection
        self._failed(attempt, why)
        if connection is not None:
            connection.abort(why)
        else:
            connector.disconnect()

    def _failed(self, attempt: Attempt, why: str) -> None:
        if self._attempts.get(attempt.hop) is attempt:
            self._end(attempt, None, why)

    def _end(self, attempt: Attempt, flow: StreamFlow | None, why: str) -> None:
        """Tells everybody who waits, once."""
        del self._attempts[attempt.hop]
        if attempt.timer.active():
            attempt.timer.cancel()
        attempt.connector = attempt.connection = None
        for done in attempt.waiting:
            try:
                done(flow, why)
            except Exception:
                write_bug(self._journal)

    # -- all connections

    def bound(self, limits: Limits) -> None:
        """Other bounds and deadlines. What is open already and too much stays; no more comes until there is room."""
        self._limits = self.settings.limits = limits
        for table in (self.live, self._strangers, self._outgoing, self._sources):
            table.limit = limits.connections

    def close(self) -> None:
        """Gives up what is being opened and closes what is open."""
        for attempt in list(self._attempts.values()):
            self._give_up(attempt, "the server stops")
        for connection in list(self.live.values()):
            connection.close("the server stops")

    def _opened(self, connection: StreamConnection) -> None:
        flow = connection.flow
        self.live[flow.id] = connection
        if connection.hop is None:
            self._strangers[flow.id] = connection
        self._sources[flow.address] = self._sources.get(flow.address, 0) + 1

    def _closed(self, connection: StreamConnection, why: str) -> None:
        flow = connection.flow
        if self.live.pop(flow.id, None) is None:
            return
        self._strangers.pop(flow.id, None)
        left = self._sources.get(flow.address, 0) - 1
        if left > 0:
            self._sources[flow.address] = left
        else:
            self._sources.pop(flow.address, None)
        hop = connection.hop
        if hop is None:
            return
        if self._outgoing.get(hop) is flow:
            del self._outgoing[hop]
        # the handshake failed: the attempt ends with this connection
        attempt = self._attempts.get(hop)
        if attempt is not None and connection.when_ready is not None:
            self._failed(attempt, why)

    def _new_id(self, listener: Listener) -> str:
        return f"{listener.transport}/{binascii.hexlify(self._entropy(12)).decode('ascii')}"


def _bind_address(target: str, listeners: list[Listener]) -> tuple[str, int] | None:
    """RFC 3261 s18.1.1: a response may come to the source address of the request at the port of sent-by, so where
    nobody listens on the address that the kernel would connect from, one that somebody does; None: the kernel's choice.
    """
    source = addresses.source_address(target)
    if not source or any(listener.address == source for listener in listeners):
        return None
    loopback = addresses.is_loopback(source)
    usable = [one.address for one in listeners if addresses.is_loopback(one.address) is loopback]
    return (usable[0], 0) if usable else None


class _Opening(ClientFactory):
    """The factory of one attempt: says why it failed."""

    noisy = False

    def __init__(self, inner: Any, failed: Callable[[str], None]) -> None:
        self._inner = inner
        self._failed = failed

    def buildProtocol(self, addr: Any) -> Any:
        return self._inner.buildProtocol(addr)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        why = "no local address or port" if isinstance(reason.value, ConnectBindError) else reason_text(reason)
        self._failed(why)
