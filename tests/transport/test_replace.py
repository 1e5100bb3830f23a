"""Listeners that come, go and change while the server runs, on real sockets; who waits for what goes on, in virtual time."""

from __future__ import annotations

import os
import socket
import ssl
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from sipd.config_limits import Limits
from sipd.config_server import Listen
from sipd.message.hop import Hop
from sipd.transport.layer import ListenError
from sipd.transport.leaving import LONGEST, LOOK
from tests.transport.rig import OPTIONS, Rig, closed_port, listen, udp_socket
from tests.transport.test_tls import make_certificate

ANSWER = b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"


class Watching:
    """Remembers what passed."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes]] = []

    def received(self, data: bytes, flow: Any) -> None:
        """See Watch."""
        self.seen.append(("in", data))

    def sent(self, data: bytes, flow: Any) -> None:
        """See Watch."""
        self.seen.append(("out", data))


class ReplaceTests(TestCase):
    """Transports.replace on loopback."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.udp = listen("udp", port=closed_port())
        self.tcp = listen("tcp", port=closed_port(socket.SOCK_STREAM))
        self.rig = Rig(self.udp, self.tcp, reactor=reactor, clock=self.clock)
        self.transports = self.rig.transports
        self.transports.start()
        self.addCleanup(lambda: ensureDeferred(self._stop()))

    async def _stop(self) -> None:
        stopped = self.transports.stop()
        while not stopped.called:
            self.clock.advance(0.1)
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]

    def names(self) -> list[str]:
        """What is listened on, sorted."""
        return sorted(map(str, self.transports.listeners))

    def replace(self, *listens: Listen, limits: Limits | None = None) -> None:
        """Listens on these instead."""
        self.transports.replace(listens, limits or Limits(), None)

    def connect(self, one: Listen) -> socket.socket:
        """A TCP peer."""
        peer = socket.create_connection(("127.0.0.1", one.port), timeout=1.0)
        self.addCleanup(peer.close)
        return peer

    async def test_come_and_go(self) -> None:
        """A listener that is added is there at once, one that is taken away refuses; the others' sockets are the same."""
        more = listen("udp", port=closed_port())
        before = self.transports._udp[f"127.0.0.1:{self.udp.port}"].socket
        self.replace(self.udp, self.tcp, more)
        self.assertEqual(self.names(), sorted(map(str, (self.udp, self.tcp, more))))
        self.assertIs(self.transports._udp[f"127.0.0.1:{self.udp.port}"].socket, before)
        peer = udp_socket()
        self.addCleanup(peer.close)
        peer.sendto(OPTIONS, ("127.0.0.1", more.port))
        await self.rig.until(lambda: self.rig.received)
        self.replace(self.udp)
        self.assertEqual(self.names(), [str(self.udp)])
        await self.rig.until(lambda: len([1 for kind, _ in self.rig.records if kind == "listener-lost"]) == 2)
        await self.rig.until(self.refuses)

    def refuses(self) -> bool:
        """True when nobody accepts TCP."""
        try:
            self.connect(self.tcp)
        except ConnectionRefusedError:
            return True
        return False

    async def test_failure_changes_nothing(self) -> None:
        """One port in use: all that fails is named, nothing new stays open, nothing old is closed, nothing is logged."""
        taken = udp_socket()
        self.addCleanup(taken.close)
        more, busy = listen("udp", port=closed_port()), listen("udp", port=taken.getsockname()[1])
        broken = listen("tls", port=closed_port(socket.SOCK_STREAM), certificate="/none", private_key="/none")
        count, before = len(self.rig.records), self.names()
        error = self.assertRaises(ListenError, self.replace, more, busy, broken)
        self.assertEqual(str(error), f"{busy}: address already in use\n{broken}: /none: no such file or directory")
        self.assertEqual((self.names(), len(self.rig.records)), (before, count))
        peer = udp_socket()
        self.addCleanup(peer.close)
        peer.sendto(OPTIONS, ("127.0.0.1", self.udp.port))
        await self.rig.until(lambda: self.rig.received)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", more.port))

    async def test_what_has_begun_ends(self) -> None:
        """Over a listener that is gone a transaction ends: answers still come over its UDP socket, requests do not; its
        connection stands. Both are closed at the first look after the transaction is over."""
        peer, stream = udp_socket(), self.connect(self.tcp)
        self.addCleanup(peer.close)
        peer.sendto(OPTIONS, ("127.0.0.1", self.udp.port))
        stream.sendall(OPTIONS)
        await self.rig.until(lambda: len(self.rig.received) == 2)
        flows = [flow for _, flow in self.rig.received]
        self.transports.in_use = lambda: flows
        kept = listen("udp", port=closed_port())
        self.replace(kept)
        peer.sendto(OPTIONS, ("127.0.0.1", self.udp.port))
        peer.sendto(ANSWER, ("127.0.0.1", self.udp.port))
        stream.sendall(OPTIONS)
        await self.rig.until(lambda: len(self.rig.received) == 4)
        self.assertEqual(sorted(data[:3] for data, _ in self.rig.received[2:]), [b"OPT", b"SIP"])
        for flow in flows:
            flow.send(ANSWER)
        self.assertEqual((peer.recv(100), await deferToThread(stream.recv, 100)), (ANSWER, ANSWER))
        self.clock.advance(LOOK)
        self.assertEqual(len(self.transports._leaving), 2)
        flows = []
        self.clock.advance(LOOK)
        self.assertEqual(len(self.transports._leaving), 0)
        await self.rig.until(lambda: not self.transports.connections)
        self.assertEqual(await deferToThread(stream.recv, 100), b"")
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.active()], [])

    async def test_not_for_ever(self) -> None:
        """What is in use without end is closed all the same."""
        self.connect(self.tcp).sendall(OPTIONS)
        await self.rig.until(lambda: self.rig.received)
        flow = self.rig.received[0][1]
        flow.known = True
        self.transports.in_use = lambda: [flow]
        self.replace(self.udp)
        self.clock.advance(LONGEST - 1)
        self.assertTrue(flow.alive)
        self.clock.advance(2)
        self.assertFalse(flow.alive)

    async def test_back_again(self) -> None:
        """A listener that comes back before its socket is closed gets it back, and takes requests again."""
        peer = udp_socket()
        self.addCleanup(peer.close)
        peer.sendto(OPTIONS, ("127.0.0.1", self.udp.port))
        await self.rig.until(lambda: self.rig.received)
        flow = self.rig.received[0][1]
        self.transports.in_use = lambda: [flow]
        self.replace(self.tcp)
        self.replace(self.tcp, self.udp)
        peer.sendto(OPTIONS, ("127.0.0.1", self.udp.port))
        await self.rig.until(lambda: len(self.rig.received) == 2)

    async def test_another_name(self) -> None:
        """An advertised name changes without a socket closed; what has begun keeps the old one."""
        peer = udp_socket()
        self.addCleanup(peer.close)
        peer.sendto(OPTIONS, ("127.0.0.1", self.udp.port))
        await self.rig.until(lambda: self.rig.received)
        told = [self.udp.model_copy(update={"advertise": "sip.example.com"}),
                self.tcp.model_copy(update={"advertise": "sip.example.com"})]
        self.replace(*told)
        self.assertEqual([one.host for one in self.transports.listeners], ["sip.example.com"] * 2)
        old = self.rig.received[0][1]
        self.assertEqual(old.listener.host, "127.0.0.1")
        old.send(ANSWER)
        self.assertEqual(peer.recv(100), ANSWER)
        peer.sendto(OPTIONS, ("127.0.0.1", self.udp.port))
        await self.rig.until(lambda: len(self.rig.received) == 2)
        self.assertEqual(self.rig.received[1][1].listener.host, "sip.example.com")

    async def test_tls_where_tcp_was(self) -> None:
        """The same socket speaks TLS from the next connection on, and another certificate after that."""
        directory = self.mktemp()
        os.mkdir(directory)
        plain = self.connect(self.tcp)
        plain.sendall(OPTIONS)
        await self.rig.until(lambda: self.rig.received)
        for name in ("one.example.com", "two.example.com"):
            files = make_certificate(directory, name)
            for target, source in zip(("chain", "key"), files, strict=True):
                os.replace(source, os.path.join(directory, target))
            secure = self.tcp.model_copy(update={
                "transport": "tls", "certificate": os.path.join(directory, "chain"),
                "private_key": os.path.join(directory, "key")})
            self.replace(secure)
            self.assertEqual(self.names(), [str(secure)])
            shown = await deferToThread(ssl.get_server_certificate, ("127.0.0.1", self.tcp.port), timeout=2.0)
            with open(os.path.join(directory, "chain")) as file:
                self.assertEqual(shown, file.read())
        self.clock.advance(LOOK)
        await self.rig.until(lambda: not self.transports.connections)

    async def test_bounds(self) -> None:
        """Other limits hold from the next connection on; what stands stays."""
        first = self.connect(self.tcp)
        await self.rig.until(lambda: len(self.transports.connections) == 1)
        self.replace(self.udp, self.tcp, limits=Limits(connections_per_source=1))
        second = self.connect(self.tcp)
        self.assertEqual(await deferToThread(second.recv, 10), b"")
        first.sendall(OPTIONS)
        await self.rig.until(lambda: self.rig.received)

    async def test_watched(self) -> None:
        """While somebody watches, every message in and out is seen, over listeners that come later too; then none."""
        watch = Watching()
        self.transports.show(watch)
        more = listen("udp", port=closed_port())
        self.replace(self.udp, self.tcp, more)
        peer, stream = udp_socket(), self.connect(self.tcp)
        self.addCleanup(peer.close)
        for count, (send, take) in enumerate((
                (lambda: peer.sendto(OPTIONS, ("127.0.0.1", more.port)), lambda: peer.recv(100)),
                (lambda: stream.sendall(OPTIONS), lambda: stream.recv(100)))):
            send()
            await self.rig.until(lambda count=count: len(self.rig.received) > count)  # type: ignore[misc]
            self.rig.received[-1][1].send(ANSWER)
            self.assertEqual(await deferToThread(take), ANSWER)
        self.assertEqual(watch.seen, [("in", OPTIONS), ("out", ANSWER)] * 2)
        self.transports.show(None)
        peer.sendto(OPTIONS, ("127.0.0.1", self.udp.port))
        await self.rig.until(lambda: len(self.rig.received) == 3)
        self.assertEqual(len(watch.seen), 4)
        self.assertIsNotNone(self.transports.flow_to(Hop("udp", "127.0.0.1", 9)))
