"""UDP over real sockets on loopback: reading, answering, ICMP errors."""

from __future__ import annotations

import errno
import socket
import time

from twisted.internet import reactor
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from sipd.flow import Flow
from sipd.message.hop import Hop
from sipd.transport.udp import BATCH, UdpPort, _is_final
from tests.support.cases import shows
from tests.transport.rig import OPTIONS, Rig, User, closed_port, listen, udp_socket


@implementer(IReadDescriptor)
class Counted:
    """A port in the reactor's eyes that counts how often it is woken."""

    def __init__(self, port: UdpPort) -> None:
        self.port = port
        self.wakes = 0

    def fileno(self) -> int:
        return self.port.fileno()

    def logPrefix(self) -> str:
        return self.port.logPrefix()

    def doRead(self) -> None:
        self.wakes += 1
        self.port.doRead()

    def connectionLost(self, reason: object) -> None:
        self.port.connectionLost(reason)


class UdpTests(TestCase):
    """A listener of IPv4 and one of IPv6."""

    def setUp(self) -> None:
        self.rig = Rig(listen("udp"), listen("udp", "::1"), reactor=reactor)
        self.rig.transports.start()
        self.addCleanup(self.rig.transports.stop)

    def peer(self, address: str = "127.0.0.1") -> socket.socket:
        """A plain socket, closed after the test."""
        sock = udp_socket(address)
        self.addCleanup(sock.close)
        return sock

    def test_made_up_sources(self) -> None:
        """Many new sources do not push out those that are known, unless there is nobody else."""
        port = next(iter(self.rig.transports._udp.values()))
        port.flows.limit = 80
        phones = [port.flow("192.0.2.1", number) for number in range(1, 31)]
        for phone in phones:
            phone.known = True
        for number in range(1, 1000):
            port.flow("198.51.100.1", number)
            self.assertLessEqual(len(port.flows), 80)
        for phone in phones:
            self.assertIs(port.flow("192.0.2.1", phone.port), phone)
        for flow in port.flows.values():
            flow.known = True
        for number in range(1000, 1100):
            port.flow("198.51.100.1", number)
            self.assertLessEqual(len(port.flows), 80)

    def test_lag(self) -> None:
        """A port tells how old what it read was when others wait behind it, whether half of its room is taken, and what
        was lost; nothing of that when it keeps up, however long ago it read."""
        port, peer, place = next(iter(self.rig.transports._udp.values())), self.peer(), self.rig.place()
        self.assertEqual(self.rig.transports.lag(), (0.0, False))
        for _ in range(BATCH + 10):
            peer.sendto(OPTIONS, place)
        time.sleep(0.05)
        port.doRead()
        age, crowded = self.rig.transports.lag()
        self.assertTrue(0.05 <= age < 5.0, age)
        self.assertFalse(crowded)
        port.doRead()
        time.sleep(0.02)
        self.assertEqual(self.rig.transports.lag(), (0.0, False))
        while not port.lost:
            peer.sendto(b"x" * 60000, place)
            crowded = self.rig.transports.lag()[1] or crowded
        self.assertTrue(crowded)
        self.assertEqual(self.rig.transports.lost, port.lost)
        while port.lag(0.0)[1]:
            port.doRead()
        self.assertEqual(self.rig.transports.lag()[1], False)

    @shows("TRN-02", "3581 4", "R3581-4-04", "R3581-3-02")
    async def test_there_and_back(self) -> None:
        """Datagrams arrive whole with their source, and answers come from the socket they came to."""
        for index, address in enumerate(("127.0.0.1", "::1")):
            peer = self.peer(address)
            place = self.rig.place(index)
            peer.sendto(OPTIONS, place)
            await self.rig.until(lambda: self.rig.received)
            data, flow = self.rig.received.pop()
            self.assertIsInstance(flow, Flow)
            self.assertEqual((data, flow.address, flow.port), (OPTIONS, address, peer.getsockname()[1]))
            self.assertEqual((flow.listener.address, flow.listener.port), place)
            flow.send(b"answer")
            answer, source = peer.recvfrom(100)
            self.assertEqual((answer, source[:2]), (b"answer", place))
            self.assertIs(self.rig.transports.flow_by_id(flow.id), flow)
            self.assertIs(self.rig.transports.flow_to(Hop("udp", address, flow.port)), flow)

    async def test_many(self) -> None:
        """More datagrams than one wake-up reads all arrive, in order; what is no message is passed over."""
        peer = self.peer()
        sent = [b"%05d" % number + OPTIONS for number in range(3 * BATCH + 5)]
        for data in sent:
            peer.sendto(data, self.rig.place())
            peer.sendto(b"\r\n\r\n", self.rig.place())
        peer.sendto(b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12), self.rig.place())
        peer.sendto(b"", self.rig.place())
        peer.sendto(b"last" + OPTIONS, self.rig.place())
        await self.rig.until(lambda: len(self.rig.received) > len(sent))
        self.assertEqual([data for data, _ in self.rig.received], [*sent, b"last" + OPTIONS])
        self.assertEqual(len({id(flow) for _, flow in self.rig.received}), 1)

    @shows("TRN-12", "18.1.1", "R3261-18.1.1-03")
    async def test_largest_datagram(self) -> None:
        """A datagram of the largest size arrives whole; one that is too large to send is told to its users."""
        peer = self.peer()
        data = OPTIONS + b"x" * (65507 - len(OPTIONS))
        peer.sendto(data, self.rig.place())
        await self.rig.until(lambda: self.rig.received)
        flow = self.rig.received[0][1]
        self.assertEqual(self.rig.received[0][0], data)
        user = User()
        flow.users.add(user)
        flow.send(b"x" * 65508)
        self.assertEqual(user.reasons, [])
        await self.rig.until(lambda: user.reasons)
        self.assertEqual(user.reasons, ["message too long"])

    @shows("INV-17", "18.4", "R3261-18.4-01")
    async def test_icmp(self) -> None:
        """A closed port is told within milliseconds to those who wait on that flow, once, and to nobody else."""
        for address in ("127.0.0.1", "::1"):
            other = self.peer(address)
            good = self.rig.transports.flow_to(Hop("udp", address, other.getsockname()[1]))
            bad = self.rig.transports.flow_to(Hop("udp", address, closed_port(address=address)))
            assert good is not None and bad is not None
            happy, unhappy = User(), User()
            good.users.add(happy)  # type: ignore[arg-type]
            bad.users.add(unhappy)  # type: ignore[arg-type]
            begun = time.monotonic()
            bad.send(OPTIONS)
            good.send(OPTIONS)
            self.assertEqual(unhappy.reasons, [])
            await self.rig.until(lambda user=unhappy: user.reasons)  # type: ignore[misc]
            self.assertLess(time.monotonic() - begun, 0.5)
            self.assertEqual(unhappy.reasons, ["connection refused"])
            bad.send(OPTIONS)
            await deferLater(reactor, 0.02)
            self.assertEqual((happy.reasons, unhappy.reasons, bad.users), ([], ["connection refused"], set()))
            # the error of one peer does not keep another's datagram from leaving
            self.assertEqual(other.recv(1000), OPTIONS)

    async def test_errors_keep_nobody_awake(self) -> None:
        """After errors the socket still reads, and the reactor is not woken for nothing."""
        flow = self.rig.transports.flow_to(Hop("udp", "127.0.0.1", closed_port()))
        assert flow is not None
        for _ in range(50):
            flow.send(OPTIONS)
        await deferLater(reactor, 0.05)
        port = self.rig.transports._udp[flow.listener.name]
        reactor.removeReader(port)  # type: ignore[attr-defined]
        counted = Counted(port)
        reactor.addReader(counted)  # type: ignore[attr-defined]
        await deferLater(reactor, 0.05)
        self.assertEqual(counted.wakes, 0)
        reactor.removeReader(counted)  # type: ignore[attr-defined]
        reactor.addReader(port)  # type: ignore[attr-defined]
        self.peer().sendto(OPTIONS, self.rig.place())
        await self.rig.until(lambda: self.rig.received)

    async def test_bug_above(self) -> None:
        """An exception from above is a bug in the journal; the next datagram is read."""
        def receive(data: bytes, flow: object) -> None:
            raise OSError(errno.EIO, "a bug of ours")
        self.rig.transports._udp[self.rig.transports.listeners[0].name].receive = receive
        peer = self.peer()
        peer.sendto(OPTIONS, self.rig.place())
        peer.sendto(OPTIONS, self.rig.place())
        await self.rig.until(lambda: len([1 for kind, _ in self.rig.records if kind == "bug"]) == 2)

    async def test_full_buffer(self) -> None:
        """What the kernel has no room for is dropped and counted: UDP may lose it, and nobody is told."""
        flow = self.rig.transports.flow_to(Hop("udp", "127.0.0.1", 9))
        assert flow is not None
        user = User()
        flow.users.add(user)  # type: ignore[arg-type]
        port = self.rig.transports._udp[flow.listener.name]
        port.send_failed(flow, OPTIONS, BlockingIOError(errno.EAGAIN, "full"))  # type: ignore[arg-type]
        self.assertEqual((port.dropped, user.reasons), (1, []))

    async def test_stopped(self) -> None:
        """After the stop a send reaches the users as a failure, and nothing raises."""
        flow = self.rig.transports.flow_to(Hop("udp", "127.0.0.1", 9))
        assert flow is not None
        await self.rig.transports.stop()
        user = User()
        flow.users.add(user)  # type: ignore[arg-type]
        flow.send(OPTIONS)
        await self.rig.until(lambda: user.reasons)
        self.assertEqual(user.reasons, ["bad file descriptor"])
        self.assertEqual(self.rig.transports.listeners, [])

    @shows("R3261-18.4-01", "R3261-18.4-02")
    def test_which_errors_count(self) -> None:
        """RFC 3261 s18.4: unreachable and parameter problem are told, TTL exceeded and fragmentation are not."""
        for arguments, final in (
            ((errno.ECONNREFUSED, 2, 3, 3), True), ((errno.EHOSTUNREACH, 2, 3, 1), True),
            ((errno.EPROTO, 2, 12, 0), True),
            ((errno.EMSGSIZE, 2, 3, 4), False), ((errno.EHOSTUNREACH, 2, 11, 0), False),
            ((errno.ECONNREFUSED, 3, 1, 4), True), ((errno.EMSGSIZE, 3, 2, 0), False),
            ((errno.EHOSTUNREACH, 3, 3, 0), False), ((errno.EHOSTUNREACH, 1, 0, 0), True),
            ((errno.EMSGSIZE, 1, 0, 0), False),
        ):
            self.assertIs(_is_final(*arguments), final)
