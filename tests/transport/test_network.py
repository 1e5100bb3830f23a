"""The network in memory keeps the promises of the seams, so that scenarios on it mean something."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sipd.flow import Flow
from sipd.interfaces import IFlowUser, ITransports
from sipd.message.hop import Hop
from tests.support.network import MemoryFlow, MemoryNetwork


@implementer(IFlowUser)
class User:
    """Remembers why its flow failed."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def flow_failed(self, reason: str) -> None:
        self.reasons.append(reason)


class MemoryNetworkTests(TestCase):
    """One server with UDP, TCP and IPv6 listeners."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self.transports = self.network.transports([
            ("udp", "192.0.2.1", 5060), ("tcp", "192.0.2.1", 5060), ("udp", "2001:db8::1", 5060)])
        self.arrived: list[tuple[bytes, MemoryFlow]] = []
        self.transports.receive = lambda data, flow: self.arrived.append((data, flow))

    def test_interfaces(self) -> None:
        """Each fake provides the interface of the real thing."""
        self.network.endpoint("udp", "192.0.2.10", 5060).send(b"x", ("192.0.2.1", 5060))
        verifyObject(ITransports, self.transports)
        self.assertIsInstance(self.arrived[0][1], Flow)
        verifyObject(IFlowUser, User())

    def test_datagrams(self) -> None:
        """A datagram arrives within the call, the answer stands in `received`, and the flow is found by hop and id."""
        phone = self.network.endpoint("udp", "192.0.2.10", 5061)
        phone.send(b"hello", ("192.0.2.1", 5060))
        [(data, flow)] = self.arrived
        self.assertEqual((data, flow.address, flow.port, flow.reliable), (b"hello", "192.0.2.10", 5061, False))
        flow.send(b"answer")
        self.assertEqual(phone.received, [b"answer"])
        self.assertIs(self.transports.flow_to(Hop("udp", "192.0.2.10", 5061)), flow)
        self.assertIs(self.transports.flow_by_id(flow.id), flow)
        other = self.transports.flow_to(Hop("udp", "2001:db8::5", 5060))
        assert other is not None
        self.assertEqual(other.listener.name, "[2001:db8::1]:5060")

    def test_replies_come_from_the_clock(self) -> None:
        """What a peer answers in `on_receive` reaches the server from a fresh call stack."""
        phone = self.network.endpoint("udp", "192.0.2.10", 5060)
        phone.on_receive = lambda data: phone.send(b"re: " + data, ("192.0.2.1", 5060))
        flow = self.transports.flow_to(Hop("udp", "192.0.2.10", 5060))
        assert flow is not None
        flow.send(b"ping")
        self.assertEqual(self.arrived, [])
        self.network.settle()
        self.assertEqual(self.arrived, [(b"re: ping", flow)])

    def test_delay_and_loss(self) -> None:
        """Packets take their time, and dropped ones are noted but not delivered."""
        self.network.delay = 0.1
        phone = self.network.endpoint("udp", "192.0.2.10", 5060)
        phone.send(b"1", ("192.0.2.1", 5060))
        self.network.drop = lambda packet: packet.data == b"2"
        phone.send(b"2", ("192.0.2.1", 5060))
        self.assertEqual(self.arrived, [])
        self.network.settle(0.1)
        self.assertEqual([data for data, _ in self.arrived], [b"1"])
        self.assertEqual([packet.data for packet in self.network.packets], [b"1", b"2"])

    def test_icmp(self) -> None:
        """An unreachable port is told to the users of the flow, once."""
        self.network.icmp.add(("192.0.2.10", 5060))
        flow = self.transports.flow_to(Hop("udp", "192.0.2.10", 5060))
        assert flow is not None
        user = User()
        flow.users.add(user)
        flow.send(b"x")
        self.assertEqual(user.reasons, [])
        self.network.settle()
        flow.send(b"x")
        self.network.settle()
        self.assertEqual(user.reasons, ["connection refused"])

    def test_connection_from_a_phone(self) -> None:
        """An inbound connection is found by id, never by address, and its end is told."""
        phone = self.network.endpoint("tcp", "192.0.2.10", 40000)
        connection = phone.connect(("192.0.2.1", 5060))
        connection.send(b"hello")
        flow = self.arrived[0][1]
        self.assertIsNone(self.transports.flow_to(Hop("tcp", "192.0.2.10", 40000)))
        self.assertIs(self.transports.flow_by_id(flow.id), flow)
        flow.send(b"answer")
        self.assertEqual(connection.received, [b"answer"])
        user = User()
        flow.users.add(user)
        connection.close()
        self.assertEqual((user.reasons, flow.alive), (["connection closed by the peer"], False))
        self.assertIsNone(self.transports.flow_by_id(flow.id))

    def test_connections_to_peers(self) -> None:
        """The server connects: accepted (shared by two callers and found again), refused, swallowed."""
        accepting = self.network.listen("tcp", "192.0.2.20", 5060)
        self.network.listen("tcp", "192.0.2.22", 5060, "blackhole")
        results: list[tuple[str, object, str]] = []
        good, refused, silent = (Hop("tcp", f"192.0.2.{n}", 5060) for n in (20, 21, 22))
        for name, hop in (("a", good), ("b", good), ("refused", refused), ("silent", silent)):
            self.transports.connect(hop, lambda flow, reason, name=name: results.append((name, flow, reason)))  # type: ignore[misc]
        self.assertEqual(results, [])
        self.network.settle()
        flow = self.transports.flow_to(good)
        self.assertEqual(results, [("a", flow, ""), ("b", flow, ""), ("refused", None, "connection refused")])
        self.network.settle(4.0)
        self.assertEqual(results[3], ("silent", None, "connection timed out"))
        assert isinstance(flow, MemoryFlow)
        flow.send(b"hello")
        self.assertEqual(accepting.received, [b"hello"])
        self.network.cut(flow)
        self.assertIsNone(self.transports.flow_to(good))
