"""Requests of more than 1300 octets towards UDP: TCP first where it is to be had, then UDP (RFC 3261 s18.1.1)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from sipd.message.parser import parse
from tests.support.cases import shows
from tests.support.network import Acceptor
from tests.support.rig import Phone, Rig

#: A body with which every request is too large for a datagram.
LARGE = b"x" * 1300


class Large(TestCase):
    """Two phones on UDP; what becomes of large requests between them."""

    def setUp(self) -> None:
        """The callee registers over UDP, from where its contact says."""
        self.rig = Rig()
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        self.b.register()

    def listen(self, mode: str = "accept") -> Acceptor:
        """TCP at the place of the callee's contact."""
        return self.rig.network.listen("tcp", self.b.address, 5060, mode)

    def message(self, body: bytes = LARGE, seconds: float = 0.01) -> Request:
        """A MESSAGE to the callee, and so much time."""
        sent = self.a.request("MESSAGE", "sip:1002@example.com", body=body)
        self.rig.advance(seconds, 0.05)
        return sent

    def by_udp(self, phone: Phone | None = None) -> None:
        """It came by UDP, once and whole; the answer reaches the caller."""
        phone = phone or self.b
        got = phone.take("MESSAGE")
        self.assertEqual((got.via.transport.upper(), got.body), ("UDP", LARGE))
        phone.silent()
        phone.answer(got, 200)
        self.a.take(200)

    def by_tcp(self, acceptor: Acceptor, number: int = 0) -> None:
        """It came over that connection, and by UDP nothing; the answer reaches the caller."""
        self.b.silent()
        got = parse(acceptor.connections[number].received[-1])
        assert isinstance(got, Request) and got.via is not None
        self.assertEqual((got.via.transport.upper(), got.body), ("TCP", LARGE))
        acceptor.connections[number].send(self.b.answer(got, 200, send=False).encode())
        self.rig.advance(0.01)
        self.a.take(200)

    @shows("NIT-08", "18.1.1")
    def test_the_bound(self) -> None:
        """1300 octets, counted as they leave here with our Via, go by UDP; 1301 by TCP."""
        acceptor = self.listen()
        self.message(b"x" * 600)
        first = self.b.take("MESSAGE")
        self.b.answer(first, 200)
        self.a.take(200)
        room = 1300 - len(self.b.raw[-1]) + 600
        for body, connections in ((room, 0), (room + 1, 1)):
            self.a.request("MESSAGE", "sip:1002@example.com", body=b"x" * body, call_id=first.call_id, cseq=1)
            self.rig.advance(0.01)
            self.assertEqual(len(acceptor.connections), connections, body)
            if not connections:
                self.assertEqual(len(self.b.raw[-1]), 1300)
                self.b.answer(self.b.take("MESSAGE"), 200)
                self.a.take(200)
        self.b.silent()
        self.assertEqual(acceptor.received[0].startswith(b"MESSAGE "), True)
        got = parse(acceptor.received[0])
        assert isinstance(got, Request)
        acceptor.connections[0].send(self.b.answer(got, 200, send=False).encode())
        self.a.take(200)
        self.rig.finish()

    @shows("NIT-08", "R3261-18.1.1-04", "18.1.1")
    def test_refused_is_kept(self) -> None:
        """TCP is refused: UDP at once, and for ten minutes nobody tries TCP there; then it is tried again. The place is
        not counted as dead."""
        self.listen("refuse")
        self.message()
        self.by_udp()
        acceptor = self.listen()
        self.rig.advance(599, 1.0)
        self.message()
        self.by_udp()
        self.assertEqual(acceptor.connections, [])
        self.rig.advance(2, 1.0)
        self.message()
        self.by_tcp(acceptor)
        self.assertEqual([kind for kind, _ in self.rig.records if kind == "hop-failed"], [])
        self.rig.finish()

    @shows("NIT-08", "R3261-18.1.1-04", "18.1.1")
    def test_deadline(self) -> None:
        """TCP hangs: half a second of patience, then UDP; the next one does not wait."""
        self.listen("blackhole")
        self.message(seconds=0.45)
        self.b.silent()
        self.rig.advance(0.15, 0.05)
        self.by_udp()
        self.message()
        self.by_udp()
        self.rig.finish()

    @shows("NIT-08", "18.1.1")
    def test_slow_connection(self) -> None:
        """A connection that stands too late for the first request serves the next."""
        acceptor = self.listen()
        self.rig.network.delay = 0.4
        self.message(seconds=0.3)
        self.rig.advance(0.65, 0.05)
        self.b.silent()
        self.rig.advance(0.5, 0.05)
        got = self.b.take("MESSAGE")
        self.assertEqual((len(acceptor.connections), got.via.transport.upper()), (1, "UDP"))
        self.b.answer(got, 200)
        self.rig.advance(1, 0.05)
        self.b.drain()
        self.a.drain()
        self.rig.network.delay = 0.0
        self.rig.advance(1)
        self.message()
        self.by_tcp(acceptor)
        self.rig.finish()

    @shows("NIT-08", "R3261-18.1.1-04", "18.1.1")
    def test_taken_and_dropped(self) -> None:
        """Something in between takes the connection and drops it with the request: UDP, with a branch of its own, and TCP
        not again for ten minutes."""
        acceptor = self.listen()
        for method in ("MESSAGE", "INVITE"):
            self.rig.core.proxy.without_tcp.clear()
            invite = self.a.request(method, "sip:1002@example.com", body=LARGE)
            self.rig.advance(0.01)
            self.b.silent()
            connection = acceptor.connections[-1]
            lost = parse(connection.received[-1])
            connection.close()
            self.rig.advance(0.01)
            got = self.b.take(method)
            assert lost.via is not None
            self.assertNotEqual(got.via.branch, lost.via.branch)
            self.b.answer(got, 486)
            if method == "INVITE":
                self.a.take(100)
                self.b.take("ACK")
            final = self.a.take(486)
            if method == "INVITE":
                self.a.ack(final, invite)
        self.message()
        self.by_udp()
        self.assertEqual(len(acceptor.connections), 2)
        self.assertEqual([kind for kind, _ in self.rig.records if kind == "hop-failed"], [])
        self.rig.finish()

    @shows("NIT-08", "CAN-03", "18.1.1")
    def test_cancelled_when_it_is_dropped(self) -> None:
        """The caller gave up before the connection was dropped: 487, and the phone hears nothing by UDP either."""
        acceptor = self.listen()
        invite = self.a.request("INVITE", "sip:1002@example.com", body=LARGE)
        self.a.take(100)
        self.rig.advance(0.01)
        self.a.cancel(invite)
        self.a.take(200)
        acceptor.connections[0].close()
        self.rig.advance(0.01)
        self.a.ack(self.a.take(487), invite)
        self.b.silent()
        self.rig.finish()

    @shows("NIT-08", "RTE-02", "18.1.1", "5626 5.3")
    def test_never_beside_a_flow(self) -> None:
        """A contact that is reached through the UDP flow it registered over, behind NAT, gets its large requests there:
        nobody connects to its address, neither the one it says nor the one it was seen at."""
        b = self.rig.phone("1003", "10.0.0.9", source=("203.0.113.4", 31000))
        b.via_params = ";rport"
        b.register()
        acceptors = [self.rig.network.listen("tcp", *place) for place in (("10.0.0.9", 5060), ("203.0.113.4", 31000),
                                                                         ("203.0.113.4", 5060))]
        self.a.request("MESSAGE", "sip:1003@example.com", body=LARGE)
        self.by_udp(b)
        self.assertEqual([acceptor.connections for acceptor in acceptors], [[], [], []])
        self.rig.finish()

    @shows("R5658-6-01", "R5658-6.2-02", "RTE-06", "18.1.1")
    def test_the_dialog_stays_on_udp(self) -> None:
        """An INVITE that took TCP for its size alone: one Record-Route value without a transport, and what follows in the
        call is small and goes by UDP."""
        acceptor = self.listen()
        self.a.request("INVITE", "sip:1002@example.com", body=LARGE)
        self.a.take(100)
        self.rig.advance(0.01)
        got = parse(acceptor.received[0])
        assert isinstance(got, Request)
        (value,) = got.values("record-route")
        self.assertRegex(value, "^<sip:[^@]+@192.0.2.1:5060;lr>$")
        answer = self.b.answer(got, 200, send=False)
        acceptor.connections[0].send(answer.encode())
        self.rig.advance(0.01)
        ok = self.a.take(200)
        self.a.ack(ok)
        self.b.take("ACK")
        self.b.in_callee_dialog("INFO", got, answer)
        self.a.answer(self.a.take("INFO"), 200)
        self.b.take(200)
        self.a.hang_up(ok, self.b)
        self.assertEqual(len(acceptor.received), 1)
        self.rig.finish()

    @shows("NIT-08", "INV-17", "18.1.1")
    def test_next_server(self) -> None:
        """Of two servers of a domain the first has no TCP and no UDP: the second is tried, with TCP first there, too."""
        self.rig.dns.srv("_sip._udp.far.example", 1, 0, 5060, "h1.far.example")
        self.rig.dns.srv("_sip._udp.far.example", 2, 0, 5060, "h2.far.example")
        self.rig.dns.address("h1.far.example", "192.0.2.61")
        self.rig.dns.address("h2.far.example", self.b.address)
        self.rig.network.icmp.add(("192.0.2.61", 5060))
        self.rig.binding("1004", "sip:1004@far.example;transport=udp")
        acceptor = self.listen()
        self.a.request("MESSAGE", "sip:1004@example.com", body=LARGE)
        self.rig.advance(0.01)
        self.rig.advance(0.01)
        self.by_tcp(acceptor)
        self.assertEqual([fields["hop"] for kind, fields in self.rig.records if kind == "hop-failed"], ["udp:192.0.2.61:5060"])
        self.rig.finish()

    @shows("NIT-08", "INV-17", "RTE-06", "18.1.1")
    def test_next_server_by_tcp(self) -> None:
        """The first server takes TCP for the size and says 503, the second is one for TCP: its side of the dialog is TCP,
        and when it drops the connection the call is over, not back at the first."""
        rig = self.rig
        rig.dns.srv("_sip._udp.far.example", 1, 0, 5060, "h1.far.example")
        rig.dns.srv("_sip._tcp.far.example", 1, 0, 5060, "h2.far.example")
        rig.dns.address("h1.far.example", self.b.address)
        rig.dns.address("h2.far.example", "192.0.2.62")
        rig.binding("1004", "sip:1004@far.example")
        first, second = self.listen(), rig.network.listen("tcp", "192.0.2.62", 5060)
        invite = self.a.request("INVITE", "sip:1004@example.com", body=LARGE)
        self.a.take(100)
        rig.advance(0.01)
        got = parse(first.received[0])
        assert isinstance(got, Request)
        first.connections[0].send(self.b.answer(got, 503, send=False).encode())
        rig.advance(0.01)
        again = parse(second.received[0])
        self.assertEqual([value.partition("@")[2] for value in again.values("record-route")],
                         ["192.0.2.1:5060;transport=tcp;lr>", "192.0.2.1:5060;lr>"])
        second.connections[0].close()
        rig.advance(0.01)
        self.a.ack(self.a.take(500), invite)
        self.b.silent()
        rig.finish()


class Networks(TestCase):
    """RFC 5658 s6.2: sides that differ in nothing but their address."""

    @shows("R5658-6.2-06", "R5658-7-02", "RTE-06", "5658 3")
    def test_two_networks(self) -> None:
        """A server with an address in each of two networks, UDP on both: a value for each side, the callee's on top, and
        no phone is sent anything from the address of the other network."""
        rig = Rig(listen=(("udp", "192.0.2.1", 5060), ("udp", "198.51.100.1", 5060)))
        a, b = rig.phone("1001"), rig.phone("1002", "198.51.100.20")
        b.server = ("198.51.100.1", 5060)
        b.register()
        a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        hosts = [value.partition("@")[2] for value in got.values("record-route")]
        self.assertEqual(hosts, ["198.51.100.1:5060;lr>", "192.0.2.1:5060;lr>"])
        sent = b.answer(got, 200)
        ok = a.take(200)
        self.assertEqual(ok.values("record-route"), got.values("record-route"))
        a.ack(ok)
        b.take("ACK")
        b.in_callee_dialog("BYE", got, sent)
        a.answer(a.take("BYE"), 200)
        b.take(200)
        assert a.endpoint is not None and b.endpoint is not None
        self.assertEqual((set(a.endpoint.sources), set(b.endpoint.sources)),
                         ({("192.0.2.1", 5060)}, {("198.51.100.1", 5060)}))
        rig.finish()
