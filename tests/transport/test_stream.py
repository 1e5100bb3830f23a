"""Stream connections in virtual time: framing, keep-alive, deadlines, bounded queues (RFC 3261 s18.3)."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from sipd.config_limits import Limits
from sipd.flow import Flow
from sipd.journal import Journal
from sipd.message.hop import Hop
from sipd.transport.listener import Listener
from sipd.transport.stream import LINGER, StreamConnection, StreamSettings, reason_text
from tests.support.cases import shows

LIMITS = Limits(header_size=2000, message_size=5000, send_queue=65535, idle_timeout=600.0, message_timeout=30.0,
                handshake_timeout=10.0)


class Wire(StringTransport):
    """A TCP transport in memory, which tells its protocol when it is gone, from the clock as the reactor does."""

    def __init__(self, clock: Clock, protocol: StreamConnection) -> None:
        super().__init__()
        self._clock = clock
        self._protocol = protocol
        self.aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Noted by nobody."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Noted by nobody."""

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        if not self.aborted:
            self.aborted = True
            self._clock.callLater(0, self.gone, error.ConnectionAborted())

    def gone(self, why: Exception) -> None:
        """The connection ended."""
        self._protocol.connectionLost(Failure(why))


class User:
    """Remembers why its flow failed."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def flow_failed(self, reason: str) -> None:
        self.reasons.append(reason)


def message(body: bytes = b"", head: bytes = b"OPTIONS sip:example.com SIP/2.0\r\n") -> bytes:
    """A whole message, as far as framing is concerned."""
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


class StreamTests(TestCase):
    """One accepted TCP connection, unless a test makes another."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.received: list[bytes] = []
        self.opened: list[StreamConnection] = []
        self.closed: list[str] = []
        self.bugs: list[str] = []
        journal = Journal()
        journal.sinks.append(lambda kind, fields: self.bugs.append(fields["reason"]))
        self.settings = StreamSettings(
            self.clock, lambda data, flow: self.received.append(data), journal, LIMITS, self.opened.append,
            lambda connection, why: self.closed.append(why))
        self.connection, self.wire = self.connect("tcp")
        self.connection.flow.known = True
        self.user = User()
        self.connection.flow.users.add(self.user)  # type: ignore[arg-type]

    def connect(self, transport: str, hop: Hop | None = None) -> tuple[StreamConnection, Wire]:
        """A new connection over its wire."""
        listener = Listener(transport, "192.0.2.1", 5060)
        connection = StreamConnection("tcp/0011", listener, "192.0.2.10", 40000, self.settings, hop)
        wire = Wire(self.clock, connection)
        connection.makeConnection(wire)
        return connection, wire

    def test_flow(self) -> None:
        """The flow tells who is at the other end."""
        flow = self.connection.flow
        self.assertIsInstance(flow, Flow)
        self.assertEqual((flow.id, flow.address, flow.port, flow.transport, flow.reliable, flow.alive),
                         ("tcp/0011", "192.0.2.10", 40000, "tcp", True, True))
        flow.send(b"hello")
        self.assertEqual(self.wire.value(), b"hello")
        self.assertEqual(self.opened, [self.connection])

    @shows("TRN-03", "18.3")
    def test_framing(self) -> None:
        """Two messages in one segment and one octet by octet come out whole and in order."""
        self.connection.dataReceived(message(b"1") + message(b"2"))
        for octet in message(b"three"):
            self.connection.dataReceived(bytes([octet]))
        self.assertEqual(self.received, [message(b"1"), message(b"2"), message(b"three")])

    @shows("TRN-06", "5626 3.5.1")
    def test_keep_alive(self) -> None:
        """A double CRLF is answered with a single one; a lone CRLF before a message is passed over."""
        self.connection.dataReceived(b"\r\n\r\n")
        self.assertEqual(self.wire.value(), b"\r\n")
        self.wire.clear()
        self.connection.dataReceived(b"\r\n" + message())
        self.assertEqual((self.wire.value(), self.received), (b"", [message()]))
        self.connection.dataReceived(b"\r\n\r\n" * 1000)
        self.assertEqual(self.wire.value(), b"\r\n" * 16)

    @shows("TRN-04", "18.3")
    def test_no_content_length(self) -> None:
        """Without Content-Length the head goes up, where it is refused; what is answered leaves, then the end."""
        self.settings.receive = lambda data, flow, lost=None: (self.received.append(data), flow.send(b"400"))
        head = b"OPTIONS sip:example.com SIP/2.0\r\nTo: x\r\n\r\n"
        self.connection.dataReceived(message() + head)
        self.assertEqual(self.received, [message(), head])
        self.assertEqual(self.wire.value(), b"400" * 2)
        self.assertTrue(self.wire.disconnecting)
        self.assertFalse(self.connection.flow.alive)
        self.connection.dataReceived(message())
        self.assertEqual(len(self.received), 2)

    @shows("TRN-12", "18.3")
    def test_endless_head(self) -> None:
        """A head that does not end is cut off at the limit, and nothing more is kept of it."""
        for _ in range(100):
            self.connection.dataReceived(b"X-Long: " + b"x" * 1000)
        self.assertTrue(self.wire.disconnecting)
        self.assertLessEqual(sum(map(len, self.received)), LIMITS.header_size)
        self.assertEqual(self.connection._framer.buffered, 0)
        self.clock.advance(LINGER)
        self.assertTrue(self.wire.aborted)

    def test_big_body(self) -> None:
        """A body over the limit ends the connection as soon as its length is known."""
        self.connection.dataReceived(b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 5001\r\n\r\n")
        self.assertTrue(self.wire.disconnecting)

    def test_bug_above(self) -> None:
        """An exception from above is a bug in the journal; the connection goes on."""
        def receive(data: bytes, flow: Any) -> None:
            raise RuntimeError("a bug of ours")
        self.settings.receive = receive
        self.connection.dataReceived(message() + message())
        self.assertEqual(len(self.bugs), 2)
        self.assertTrue(self.connection.flow.alive)

    def test_silent_newcomer(self) -> None:
        """Who connects and sends no whole message is put out in time, however it trickles."""
        for _ in range(29):
            self.connection.dataReceived(b"x")
            self.clock.advance(1)
        self.assertFalse(self.wire.disconnecting)
        self.connection.dataReceived(b"x")
        self.clock.advance(1)
        self.assertTrue(self.wire.disconnecting)
        self.wire.gone(error.ConnectionDone())
        self.assertEqual(self.user.reasons, ["no message in time"])

    def test_idle(self) -> None:
        """A message or a ping keeps the connection for the idle time; then it ends."""
        self.connection.dataReceived(message())
        self.clock.advance(599)
        self.connection.dataReceived(b"\r\n\r\n")
        self.clock.pump([1, 598])
        self.assertFalse(self.wire.disconnecting)
        self.clock.advance(1)
        self.assertTrue(self.wire.disconnecting)
        self.wire.gone(error.ConnectionDone())
        self.assertEqual(self.user.reasons, ["idle for too long"])
        self.assertEqual(self.closed, ["idle for too long"])

    def test_slow_message(self) -> None:
        """A message that has begun must be whole in time, also on an old connection; one in time starts anew."""
        self.connection.dataReceived(message())
        self.clock.advance(100)
        whole = message(b"x" * 100)
        self.connection.dataReceived(whole[:50])
        self.clock.advance(29)
        self.connection.dataReceived(whole[50:] + whole[:1])
        self.clock.advance(29)
        self.assertFalse(self.wire.disconnecting)
        self.clock.advance(2)
        self.assertTrue(self.wire.disconnecting)

    @shows("TRN-12", "18.3")
    def test_slow_reader(self) -> None:
        """A peer that does not read is cut off when more waits for it than the limit; one that catches up is not."""
        flow = self.connection.flow
        self.connection.pauseProducing()
        flow.send(b"x" * 65000)
        self.connection.resumeProducing()
        self.connection.pauseProducing()
        flow.send(b"x" * 65000)
        self.assertTrue(flow.alive)
        flow.send(b"x" * 1000)
        self.assertEqual((flow.alive, self.wire.aborted), (False, True))
        self.assertEqual(self.user.reasons, [])
        self.clock.advance(0)
        self.assertEqual(self.user.reasons, ["the peer does not read"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_never_reader(self) -> None:
        """What waits for a peer that does not read is not kept for long, whatever that peer sends meanwhile."""
        self.connection.pauseProducing()
        self.clock.advance(25)
        self.connection.resumeProducing()
        self.connection.dataReceived(message())
        self.clock.advance(10)
        self.connection.pauseProducing()
        for _ in range(3):
            self.clock.advance(9)
            self.connection.dataReceived(message())
        self.assertTrue(self.connection.flow.alive)
        self.clock.advance(4)
        self.assertFalse(self.connection.flow.alive)
        self.assertTrue(self.wire.disconnecting)
        self.clock.advance(LINGER)
        self.assertTrue(self.wire.aborted)
        self.clock.advance(0)
        self.assertEqual(self.user.reasons, ["the peer does not read"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_send_when_gone(self) -> None:
        """A send on a dead connection reaches the users from a fresh call stack, and no timer stays."""
        self.wire.gone(error.ConnectionLost())
        self.assertEqual(self.user.reasons, ["connection lost"])
        self.connection.flow.users.add(self.user)  # type: ignore[arg-type]
        self.connection.flow.send(b"late")
        self.assertEqual(len(self.user.reasons), 1)
        self.clock.advance(0)
        self.assertEqual(self.user.reasons[1:], ["connection closed"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close(self) -> None:
        """A connection that is closed ends when the peer has taken all, or is cut after a while."""
        self.connection.close()
        self.assertTrue(self.wire.disconnecting)
        self.connection.close()
        self.clock.advance(LINGER - 1)
        self.assertFalse(self.wire.aborted)
        self.clock.advance(1)
        self.assertTrue(self.wire.aborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_before_a_deadline(self) -> None:
        """What waits for the peer has its whole time to leave, however near another deadline was."""
        deadline = self.clock.getDelayedCalls()[0]
        self.clock.advance(deadline.getTime() - self.clock.seconds() - 1)
        self.connection.close()
        self.clock.advance(LINGER - 0.1)
        self.assertFalse(self.wire.aborted)
        self.clock.advance(0.1)
        self.assertTrue(self.wire.aborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    @shows("TRN-08", "18.2.2")
    def test_half_closed(self) -> None:
        """A peer that sends no more still gets what it is owed, then the connection ends; without an answer owed too."""
        self.assertTrue(IHalfCloseableProtocol.providedBy(self.connection))
        self.connection.flow.send(b"answer")
        self.connection.readConnectionLost()
        self.assertEqual((self.wire.value(), self.wire.disconnecting, self.wire.aborted), (b"answer", True, False))
        self.assertFalse(self.connection.flow.alive)
        self.wire.gone(error.ConnectionDone())
        self.assertEqual((self.closed, self.user.reasons), (["connection closed by the peer"],) * 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_handshake(self) -> None:
        """TLS must stand in time; then the time for the first message begins."""
        connection, wire = self.connect("tls")
        self.clock.advance(10)
        self.assertTrue(wire.aborted)
        connection, wire = self.connect("tls")
        self.clock.advance(9)
        connection.handshakeCompleted()
        self.clock.pump([1, 28])
        self.assertFalse(wire.disconnecting)
        self.clock.pump([1])
        self.assertTrue(wire.disconnecting)

    def test_ours(self) -> None:
        """A connection that we opened says when it can be used, and owes us no message."""
        ready: list[StreamConnection] = []
        connection = StreamConnection(
            "tcp/1", Listener("tcp", "192.0.2.1", 5060), "192.0.2.20", 5060, self.settings,
            Hop("tcp", "192.0.2.20", 5060))
        connection.when_ready = ready.append
        wire = Wire(self.clock, connection)
        connection.makeConnection(wire)
        self.assertEqual(ready, [connection])
        self.clock.pump([30, 300, 269])
        self.assertFalse(wire.disconnecting)
        self.clock.advance(1)
        self.assertTrue(wire.disconnecting)

    def test_reasons(self) -> None:
        """Reasons are words for people."""
        for problem, text in (
            (error.ConnectionDone(), "connection closed by the peer"), (error.ConnectionLost(), "connection lost"),
            (error.ConnectionRefusedError(111, "x"), "connection refused"),
            (error.NoRouteError(101, "x"), "network is unreachable"), (error.TimeoutError(), "connection timed out"),
            (SSL.Error([("SSL routines", "", "unknown ca")]), "TLS failed: unknown ca"),
            (SSL.Error(), "TLS failed: no details"), (ValueError("odd"), "ValueError: odd"),
        ):
            self.assertEqual(reason_text(Failure(problem)), text)
