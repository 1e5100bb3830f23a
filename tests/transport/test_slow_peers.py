"""Peers that are slow, silent or hostile over TCP and TLS hold only themselves, and not for long."""

from __future__ import annotations

import os
import socket
import ssl
import time
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from sipd.config_limits import Limits
from sipd.journal import Journal
from sipd.message.hop import Hop
from sipd.transport.flows import nobody
from sipd.transport.listener import Listener
from sipd.transport.stream import StreamConnection, StreamSettings
from tests.transport.rig import OPTIONS, Rig, User, listen
from tests.transport.test_stream import Wire, message
from tests.transport.test_tls import make_certificate


class VirtualTests(TestCase):
    """Many connections in virtual time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.settings = StreamSettings(
            self.clock, nobody, Journal(), Limits(connection_memory=1048576), lambda connection: None,
            lambda connection, why: None)

    def connect(self, known: bool = False, hop: Hop | None = None) -> tuple[StreamConnection, Wire]:
        """A new connection; `known`: something that came over it has passed the checks."""
        connection = StreamConnection("tcp/1", Listener("tcp", "192.0.2.1", 5060), "192.0.2.10", 40000, self.settings, hop)
        wire = Wire(self.clock, connection)
        connection.makeConnection(wire)
        connection.flow.known = known
        return connection, wire

    def test_stranger(self) -> None:
        """Who sends messages and pings but never one that passes the checks is put out after a minute; who has passed
        them stays, and so does a connection of ours."""
        connections = [self.connect(), self.connect(known=True), self.connect(hop=Hop("tcp", "192.0.2.10", 5060))]
        for _ in range(59):
            for connection, wire in connections:
                self.assertFalse(wire.disconnecting)
                connection.dataReceived(message() + b"\r\n\r\n")
            self.clock.advance(1)
        self.clock.advance(1)
        self.assertEqual([wire.disconnecting for _, wire in connections], [True, False, False])
        self.assertEqual(self.settings.cut, {"nothing was authenticated in time": 1})

    def test_stranger_no_more(self) -> None:
        """Passing the checks in the last moment is enough; then only silence ends the connection."""
        connection, wire = self.connect()
        connection.dataReceived(message())
        self.clock.advance(59)
        connection.flow.known = True
        self.clock.pump([1.0, 7000.0])
        self.assertFalse(wire.disconnecting)
        self.clock.advance(440)
        self.assertTrue(wire.disconnecting)

    def test_slowloris(self) -> None:
        """Heads and bodies that trickle in, octet by octet, end in time; a thousand of them leave nothing."""
        whole = message(b"x" * 10_000)
        connections = [self.connect() for _ in range(1000)]
        for octet in range(31):
            for number, (connection, wire) in enumerate(connections):
                if not wire.disconnecting:
                    connection.dataReceived(whole[:70] if number % 2 and not octet else whole[octet:octet + 1])
            self.clock.advance(1)
        self.assertTrue(all(wire.disconnecting for _, wire in connections))
        for _, wire in connections:
            wire.gone(Exception("closed"))
        self.assertEqual(self.settings.held, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unfinished_messages(self) -> None:
        """Strangers with messages that are not whole fill half of the room at most; those beyond are cut off, and a
        phone that is known still gets a large message through in pieces."""
        part = b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 60000\r\n\r\n" + b"x" * 50_000
        crowd = [self.connect() for _ in range(100)]
        for connection, _ in crowd:
            connection.dataReceived(part)
        self.assertLessEqual(self.settings.held, 1048576 // 2 + len(part))
        alive = [connection for connection, _ in crowd if connection.flow.alive]
        self.assertTrue(9 <= len(alive) <= 11)
        phone, wire = self.connect(known=True)
        received: list[bytes] = []
        self.settings.receive = lambda data, flow, lost=None: received.append(data)
        phone.dataReceived(part)
        phone.dataReceived(b"x" * 10_000)
        self.assertEqual(len(received), 1)
        self.assertTrue(phone.flow.alive)
        self.assertEqual(self.settings.held, len(alive) * len(part))
        self.assertEqual(self.settings.cut, {"all connections together hold too much": 100 - len(alive)})
        for connection in alive:
            connection.dataReceived(b"x" * 10_000)
        self.assertEqual(self.settings.held, 0)

    def test_never_read(self) -> None:
        """What waits for peers that do not read is bounded for each and for all; who reads again frees it, who does not
        is cut off with all of it."""
        crowd = [self.connect(known=True) for _ in range(20)]
        for connection, _ in crowd:
            connection.dataReceived(message())
            connection.pauseProducing()
        crowd[0][0].send(b"x" * 262_144)
        self.assertTrue(crowd[0][0].flow.alive)
        crowd[0][0].send(b"x")
        self.assertFalse(crowd[0][0].flow.alive)
        self.assertEqual(self.settings.held, 0)
        for connection, _ in crowd[1:]:
            connection.send(b"x" * 200_000)
            self.assertLessEqual(self.settings.held, 1048576 + 200_000)
        alive = [connection for connection, _ in crowd if connection.flow.alive]
        self.assertEqual(len(alive), 5)
        alive[0].resumeProducing()
        self.assertEqual(self.settings.held, 4 * 200_000)
        self.clock.advance(30)
        self.assertEqual([connection.flow.alive for connection in alive], [True, False, False, False, False])
        self.clock.advance(10)
        self.clock.advance(0)
        self.assertEqual(self.settings.held, 0)
        self.assertEqual(self.settings.cut, {"the peer does not read": 19})


class BusyTests(TestCase):
    """Peers that send faster than anybody reads."""

    async def test_table_full_of_strangers(self) -> None:
        """Where all connections there may be are strangers', the oldest gives way; where all are known, who comes is
        refused. Nothing is left of those that went."""
        rig = Rig(listen("tcp"), reactor=reactor, limits=Limits(connections=3))
        rig.transports.start()
        self.addCleanup(rig.transports.stop)
        live = rig.transports._connections.live

        async def connect() -> tuple[socket.socket, Any]:
            """A new peer and its connection at the server, once that has heard of it."""
            peer = socket.create_connection(rig.place(), timeout=2.0)
            self.addCleanup(peer.close)
            peer.sendall(OPTIONS)
            seen = len(rig.received)
            await rig.until(lambda: len(rig.received) > seen)
            return peer, rig.received[-1][1]
        peers = [await connect() for _ in range(3)]
        peers[0][1].known = True
        newcomer = await connect()
        await rig.until(lambda: len(live) == 3)
        self.assertEqual([flow.alive for _, flow in peers], [True, False, True])
        for _, flow in (peers[2], newcomer):
            flow.known = True
        refused = socket.create_connection(rig.place(), timeout=2.0)
        self.addCleanup(refused.close)
        self.assertEqual(await deferToThread(refused.recv, 10), b"")
        self.assertEqual((rig.transports.cut, live.refused), ({"room was needed": 1}, 1))
        for peer, _ in (*peers, newcomer):
            peer.close()
        await rig.until(lambda: not rig.inventory.left())

    async def test_lag(self) -> None:
        """How long what waits on a busy connection will wait is told; nothing of a connection that is idle or gone."""
        rig = Rig(listen("tcp"), reactor=reactor)

        def receive(data: bytes, flow: Any, lost: object = None) -> None:
            rig.received.append((data, flow))
            time.sleep(0.0005)
        rig.transports.receive = receive
        rig.transports.start()
        self.addCleanup(rig.transports.stop)
        peer = socket.create_connection(rig.place(), timeout=2.0)
        self.addCleanup(peer.close)
        rig.transports.lag()
        peer.setblocking(False)
        large = message(b"x" * 2000)
        lags = []
        for _ in range(30):
            try:
                peer.send(large * 200)
            except BlockingIOError:
                pass
            await deferLater(reactor, 0)
            lags.append(rig.transports.lag()[0])
        self.assertTrue(0.02 < max(lags) < 30.0, lags)
        connection = next(iter(rig.transports._connections.live.values()))
        peer.close()
        await rig.until(lambda: not rig.inventory.left(), 20.0)
        connection._settings.full[connection] = 1
        self.assertEqual(rig.transports.lag(), (0.0, False))


class TlsTests(TestCase):
    """Real TLS on loopback: what one peer does is nothing to another."""

    def setUp(self) -> None:
        directory = self.mktemp()
        os.mkdir(directory)
        self.files = make_certificate(directory, "sip.example.com")

    def rig(self, **limits: Any) -> Rig:
        """Started transports that answer whatever comes, stopped after the test."""
        rig = Rig(listen("tls", certificate=self.files[0], private_key=self.files[1]), reactor=reactor,
                  limits=Limits(**limits))

        def receive(data: bytes, flow: Any, lost: object = None) -> None:
            rig.received.append((data, flow))
            flow.send(b"answer")
        rig.transports.receive = receive
        rig.transports.start()
        self.addCleanup(rig.transports.stop)
        return rig

    def client(self, rig: Rig) -> ssl.SSLSocket:
        """A handshake done; blocks."""
        context = ssl.create_default_context(cafile=self.files[0])
        plain = socket.create_connection(rig.place(), timeout=2.0)
        self.addCleanup(plain.close)
        return context.wrap_socket(plain, server_hostname="sip.example.com")

    async def served(self, rig: Rig) -> None:
        """A client that behaves is served."""
        def talk() -> bytes:
            with self.client(rig) as secure:
                secure.sendall(OPTIONS)
                return secure.recv(100)
        self.assertEqual(await deferToThread(talk), b"answer")

    async def test_renegotiation(self) -> None:
        """A client that asks for a new handshake within the connection, again and again, gets none; others are served."""
        rig = self.rig()
        context = SSL.Context(SSL.TLSv1_2_METHOD)
        plain = socket.create_connection(rig.place(), timeout=2.0)
        self.addCleanup(plain.close)

        def renegotiate() -> int:
            """How many handshakes were done."""
            secure = SSL.Connection(context, plain)
            secure.set_connect_state()
            plain.settimeout(None)
            secure.do_handshake()
            secure.sendall(OPTIONS)
            assert secure.recv(100) == b"answer"
            done = 1
            for _ in range(5):
                try:
                    secure.renegotiate()
                    secure.do_handshake()
                    secure.sendall(OPTIONS)
                    assert secure.recv(100) == b"answer"
                except SSL.Error:
                    break
                done = secure.total_renegotiations() + 1
            return done
        self.assertEqual(await deferToThread(renegotiate), 1)
        await self.served(rig)

    async def test_never_reads(self) -> None:
        """A client that sends requests and reads no answer is cut off, with a bounded amount waiting for it."""
        rig = self.rig(send_queue=65535, connection_memory=1048576)
        secure = await deferToThread(self.client, rig)
        await deferToThread(secure.sendall, OPTIONS)
        await rig.until(lambda: rig.received)
        flow = rig.received[0][1]
        user = User()
        flow.users.add(user)
        settings = rig.transports._connections.settings
        most = 0
        for _ in range(1000):
            if not flow.alive:
                break
            flow.send(b"x" * 30_000)
            most = max(most, settings.held)
            await deferLater(reactor, 0)
        self.assertFalse(flow.alive)
        self.assertLessEqual(most, 65535 + 30_000)
        await rig.until(lambda: user.reasons)
        self.assertEqual((user.reasons, settings.held), (["the peer does not read"], 0))
        await self.served(rig)

    async def test_half_open(self) -> None:
        """Handshakes that never end, or trickle octet by octet, take no room from others and end in time."""
        rig = self.rig(handshake_timeout=0.3)
        peers = [socket.create_connection(rig.place(), timeout=1.0) for _ in range(50)]
        for peer in peers:
            self.addCleanup(peer.close)
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
        await self.served(rig)
        for octet in hello[:200]:
            try:
                peers[0].send(bytes([octet]))
            except ConnectionError:
                break
            await deferLater(reactor, 0.01)
        else:
            self.fail("the handshake went on as long as octets came")
        await rig.until(lambda: not rig.inventory.left())
        self.assertEqual(rig.transports.cut["no TLS handshake in time"], 50)
        await self.served(rig)

    async def test_silent(self) -> None:
        """A handshake and then nothing: the connection ends as soon as one over TCP would."""
        rig = self.rig(message_timeout=0.2)
        secure = await deferToThread(self.client, rig)
        self.assertEqual(await deferToThread(secure.recv, 10), b"")
        secure.close()
        await rig.until(lambda: not rig.inventory.left())
        self.assertEqual(rig.transports.cut, {"no message in time": 1})
