"""Connections that pass through the real framing, deadlines and closing of `sipd.transport.stream`, for the rig.

    stream = Stream(rig)                       # accepted at the rig's TCP listener
    stream.send(data, split=7)                 # in segments of 7 octets
    stream.received                            # whole messages from the server, oldest first
    stream.closed                              # True once the server has closed
"""

from __future__ import annotations

from twisted.internet import error
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from sipd.config_limits import Limits
from sipd.message.framer import Framer
from sipd.transport.stream import StreamConnection, StreamSettings
from tests.support.rig import Rig


class _Wire(StringTransport):
    """A TCP transport in memory; the end is told from the clock, as the reactor does."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Noted by nobody."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Noted by nobody."""

    def loseConnection(self) -> None:
        self._stream.end(error.ConnectionDone())

    def abortConnection(self) -> None:
        self._stream.end(error.ConnectionAborted())


class Stream:
    """A peer's connection to the server. `transport` "tls" stands for one whose handshake is done."""

    def __init__(self, rig: Rig, address: str = "192.0.2.200", port: int = 40000, transport: str = "tcp",
                 limits: Limits | None = None) -> None:
        self.rig = rig
        self.closed = False
        #: What the journal of the server said about connections.
        self.wire = _Wire(self)
        listener = next(one for one in rig.transports.listeners
                        if one.transport == transport and (":" in one.address) == (":" in address))
        number = sum(1 for name in rig.transports.flows if name.startswith("stream/"))
        self._settings = StreamSettings(rig.clock, rig.core.layer.receive, rig.journal, limits or rig.config.limits,
                                        lambda connection: None, lambda connection, why: None)
        self.connection = StreamConnection(f"stream/{number}", listener, address, port, self._settings)
        self.flow = self.connection.flow
        rig.transports.flows[self.flow.id] = self.flow  # type: ignore[assignment]
        self.connection.makeConnection(self.wire)
        if transport == "tls":
            self.connection.handshakeCompleted()

    def send(self, data: bytes, split: int = 0) -> None:
        """Octets to the server, in segments of `split` octets, in one when 0; what comes after the end is lost."""
        for start in range(0, len(data), split or len(data) or 1):
            if not self.closed:
                self.connection.dataReceived(data[start:start + (split or len(data))])

    def close(self) -> None:
        """The peer closes."""
        self.end(error.ConnectionDone())
        self.rig.clock.advance(0)

    def end(self, why: Exception) -> None:
        """The connection is gone; the server's side hears of it from a fresh stack."""
        if not self.closed:
            self.closed = True
            self.rig.transports.flows.pop(self.flow.id, None)
            self.rig.clock.callLater(0, self.connection.connectionLost, Failure(why))

    @property
    def unfinished(self) -> bool:
        """True while the server waits for the rest of a message."""
        return self.connection._framer.buffered > 0

    @property
    def octets(self) -> bytes:
        """Everything the server sent."""
        return self.wire.value()

    @property
    def received(self) -> list[bytes]:
        """The messages in it."""
        return Framer().feed(self.octets)
