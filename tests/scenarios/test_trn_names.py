"""Targets that are names, and sides of different families: RFC 3263, RFC 5118, through the real core."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.message import Request, Response
from sipd.message.parser import parse
from tests.support.cases import shows
from tests.support.network import Acceptor, Endpoint
from tests.support.rig import SERVER, Phone, Rig, established


class NameTests(TestCase):
    """Calls to another domain, where DNS says who serves it; authentication off."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.caller = self.rig.phone("1001")

    def host(self, address: str, port: int = 5060) -> Endpoint:
        """A server of the other domain over UDP."""
        return self.rig.network.endpoint("udp", address, port)

    def call(self, uri: str, seconds: float = 0.5) -> Request:
        """Calls and waits for what DNS needs."""
        invite = self.caller.invite(uri)
        self.caller.take(100)
        self.rig.advance(seconds, 0.1)
        return invite

    def busy(self, where: Endpoint | Acceptor) -> None:
        """What was called there is busy: the caller hears it."""
        found = [parse(data) for data in where.received]
        invite = [one for one in found if isinstance(one, Request) and one.method == "INVITE"][-1]
        lines = [line for name, _, line in invite.headers if name in ("via", "from", "call-id", "cseq")]
        data = "\r\n".join(["SIP/2.0 486 Busy", *lines, f"To: {invite.first['to']};tag=b", "Content-Length: 0", "", ""])
        if isinstance(where, Acceptor):
            where.connections[-1].send(data.encode())
        else:
            where.send(data.encode(), (SERVER, 5060))
        self.rig.advance(0.1)

    def done(self, invite: Request, status: int = 486) -> None:
        """The caller got that final response; nothing is left."""
        self.caller.ack(self.caller.take(status), invite)
        self.rig.finish()

    @shows("TRN-15", "3263 4.3")
    def test_first_server_is_dead(self) -> None:
        """Two servers by SRV, the better one answers with an ICMP error: the second is tried at once, by a new branch, and the
        dead one is last for the next call."""
        self.rig.dns.srv("_sip._udp.far.example", 1, 0, 5070, "dead.far.example")
        self.rig.dns.srv("_sip._udp.far.example", 2, 0, 5071, "alive.far.example")
        self.rig.dns.address("dead.far.example", "203.0.113.1")
        self.rig.dns.address("alive.far.example", "203.0.113.2")
        dead, alive = self.host("203.0.113.1", 5070), self.host("203.0.113.2", 5071)
        self.rig.network.icmp.add(("203.0.113.1", 5070))
        invite = self.call("sip:bob@far.example")
        self.assertEqual(len(alive.received), 1, self.rig.ladder())
        tried = [packet.data for packet in self.rig.network.packets if packet.target == ("203.0.113.1", 5070)]
        first, second = parse(tried[0]), parse(alive.received[0])
        assert first.via is not None and second.via is not None and isinstance(second, Request)
        self.assertNotEqual(first.via.branch, second.via.branch)
        self.assertEqual(second.uri_text, "sip:bob@far.example")
        self.busy(alive)
        self.caller.ack(self.caller.take(486), invite)
        again = self.call("sip:bob@far.example")
        self.assertEqual([data for data in dead.received if data.startswith(b"INVITE")], [])
        self.busy(alive)
        self.done(again)

    @shows("TRN-15", "3263 4.3")
    def test_first_server_refuses(self) -> None:
        """A refused connection, and a 503, count as dead, too."""
        self.rig.dns.srv("_sip._tcp.far.example", 1, 0, 5070, "dead.far.example")
        self.rig.dns.srv("_sip._tcp.far.example", 2, 0, 5071, "alive.far.example")
        self.rig.dns.address("dead.far.example", "203.0.113.1")
        self.rig.dns.address("alive.far.example", "203.0.113.2")
        alive = self.rig.network.listen("tcp", "203.0.113.2", 5071)
        invite = self.call("sip:bob@far.example;transport=tcp")
        self.assertEqual([parse(data).start.split()[0] for data in alive.received], ["INVITE"], self.rig.ladder())
        self.busy(alive)
        self.done(invite)

    @shows("TRN-16", "3263 4.1")
    def test_naptr(self) -> None:
        """NAPTR says TCP: TCP it is, at the port of its SRV."""
        self.rig.dns.naptr("far.example", 10, 50, "SIP+D2T", "_sip._tcp.far.example")
        self.rig.dns.naptr("far.example", 20, 50, "SIP+D2U", "_sip._udp.far.example")
        self.rig.dns.srv("_sip._tcp.far.example", 1, 0, 5072, "one.far.example")
        self.rig.dns.srv("_sip._udp.far.example", 1, 0, 5073, "one.far.example")
        self.rig.dns.address("one.far.example", "203.0.113.1")
        one = self.rig.network.listen("tcp", "203.0.113.1", 5072)
        invite = self.call("sip:bob@far.example")
        got = parse(one.received[0])
        assert got.via is not None
        self.assertEqual(got.via.transport, "TCP")
        self.busy(one)
        self.done(invite)

    @shows("TRN-16", "3263 4.2")
    def test_port_and_number(self) -> None:
        """A port skips NAPTR and SRV; a number asks no DNS at all."""
        self.rig.dns.srv("_sip._udp.far.example", 1, 0, 5099, "wrong.far.example")
        self.rig.dns.address("far.example", "203.0.113.1")
        named, number = self.host("203.0.113.1", 5074), self.host("203.0.113.9")
        invite = self.call("sip:bob@far.example:5074")
        self.busy(named)
        self.caller.ack(self.caller.take(486), invite)
        self.assertNotIn("SRV", {kind for kind, _ in self.rig.dns.asked})
        self.rig.dns.asked.clear()
        invite = self.call("sip:bob@203.0.113.9")
        self.busy(number)
        self.assertEqual(self.rig.dns.asked, [])
        self.done(invite)

    @shows("TRN-17", "16.6/7")
    def test_unresolvable(self) -> None:
        """A name nobody knows, a DNS that is broken, and one that is silent: a final response soon, never after 32 s."""
        self.rig.dns.broken.update({"far.example", "_sip._udp.far.example", "_sip._tcp.far.example"})
        for uri, seconds in (("sip:bob@nowhere.example", 1.0), ("sip:bob@far.example", 1.0), ("sip:bob@nowhere.invalid", 1.0),
                             ("sip:bob@silent.example", 12.0), ("sip:bob@[::ffff:ffff:0]", 1.0), ("sip:bob@0.0.0.0", 1.0)):
            self.rig.dns.all_silent = "silent" in uri
            invite = self.call(uri, seconds)
            answer = self.caller.take()
            self.assertTrue(answer.status in (404, 408, 480, 500, 502, 504), f"{uri}: {answer!r}")
            self.caller.ack(answer, invite)
            self.caller.drain()
        self.rig.finish()

    @shows("TRN-17", "16.6/7")
    def test_unresolvable_message(self) -> None:
        """The same for a request that is no INVITE."""
        self.caller.request("MESSAGE", "sip:bob@nowhere.example", body=b"x")
        self.rig.advance(1.0)
        self.assertIn(self.caller.take().status, (404, 480, 500, 502, 504))
        self.rig.finish()


class FamilyTests(TestCase):
    """A phone on IPv6 and one on IPv4."""

    def both(self, transport: str = "udp") -> tuple[Rig, Phone, Phone]:
        """The rig and the two, registered."""
        rig = Rig(listen=(("udp", SERVER, 5060), ("udp", "2001:db8::1", 5060), ("tcp", "2001:db8::1", 5060)))
        six, four = rig.phone("1001", "2001:db8::10", transport), rig.phone("1002")
        six.register()
        four.register()
        return rig, six, four

    def check(self, rig: Rig, caller: Phone, callee: Phone) -> None:
        """A call, a request from either side in it, and the values that each side sees."""
        _, got, sent, ok = established(caller, callee)
        own = {True: "[2001:db8::1]:5060", False: f"{SERVER}:5060"}
        near, far = own[":" in callee.address], own[":" in caller.address]
        self.assertIn(near, got.values("via")[0])
        routes = got.values("record-route")
        self.assertIn(near, routes[0])
        self.assertIn(far, routes[-1])
        self.assertEqual(len(routes), 2)
        caller.in_dialog("INFO", ok)
        callee.answer(callee.take("INFO"), 200)
        caller.take(200)
        callee.in_callee_dialog("BYE", got, sent)
        caller.answer(caller.take("BYE"), 200)
        found = callee.take(200)
        assert isinstance(found, Response)
        rig.finish()

    @shows("TRN-18", "5118")
    def test_six_calls_four(self) -> None:
        """Via and Record-Route name the address of each side; what follows crosses both ways."""
        rig, six, four = self.both()
        self.check(rig, six, four)

    @shows("TRN-18", "5118")
    def test_four_calls_six(self) -> None:
        """The other way round."""
        rig, six, four = self.both()
        self.check(rig, four, six)

    @shows("TRN-18", "RTE-06", "5658")
    def test_tcp_and_six(self) -> None:
        """IPv6 over TCP, IPv4 over UDP."""
        rig, six, four = self.both("tcp")
        self.check(rig, six, four)
