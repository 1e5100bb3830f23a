"""Where requests and responses go by RFC 3263, rule by rule, on the real core."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from sipd.journal import CATALOGUE
from sipd.message.hop import Hop
from sipd.message.uri import Uri
from tests.support.cases import shows
from tests.support.network import Endpoint
from tests.support.rig import SERVER, Phone, Rig

ONE, TWO, OTHER = "192.0.2.61", "192.0.2.62", "192.0.2.63"


class OneServer(TestCase):
    """s4: a transaction stays with the server it found."""

    def setUp(self) -> None:
        """A domain of two like servers whose records live for a second, a phone at each, and one elsewhere."""
        self.rig = rig = Rig()
        for number, address in enumerate((ONE, TWO), 1):
            rig.dns.srv("_sip._udp.far.example", 1, 1, 5060, f"h{number}.far.example", ttl=1)
            rig.dns.address(f"h{number}.far.example", address, ttl=1)
        rig.binding("1002", "sip:1002@far.example;transport=udp")
        self.a = rig.phone("1001")
        self.phones = [rig.phone("1002", address) for address in (ONE, TWO)]
        self.other = rig.phone("1002", OTHER)

    def moved(self) -> None:
        """The domain moves away, and all that was known of it is over."""
        self.rig.dns.zone.clear()
        self.rig.dns.srv("_sip._udp.far.example", 1, 1, 5060, "h3.far.example")
        self.rig.dns.address("h3.far.example", OTHER)
        self.rig.advance(1.5, 0.1)
        self.rig.dns.asked.clear()

    def chosen(self) -> tuple[Phone, Phone]:
        """The phone that was drawn, and the other."""
        return self.phones[0 if self.phones[0].unread else 1], self.phones[1 if self.phones[0].unread else 0]

    def test_bug_before_a_look_up(self) -> None:
        """A bug of ours while the branches begin costs this call alone: it gets a 500, and nothing is left of it."""
        lookup = self.rig.core.proxy.resolver.lookup
        self.rig.core.proxy.resolver.lookup = lambda uri, chance=b"": 1 // 0
        invite = self.a.invite("1002")
        self.a.take(100)
        self.rig.core.proxy.resolver.lookup = lookup
        self.a.ack(self.a.take(500), invite)
        self.assertIn("ZeroDivisionError", self.rig.bugs[0])
        self.rig.records.clear()
        self.rig.finish()

    def test_bug_behind_a_look_up(self) -> None:
        """A bug of ours that comes to light when the answer of the DNS is there costs this call, which is refused and
        leaves nothing; it is recorded."""
        transports = self.rig.core.layer.transports
        connect, transports.flow_to = transports.flow_to, lambda *_: 1 // 0
        invite = self.a.invite("1002")
        self.a.take(100)
        self.rig.advance(0.1, 0.1)
        transports.flow_to = connect
        refusal = self.a.take()
        self.assertGreaterEqual(refusal.status, 500)
        self.a.ack(refusal, invite)
        self.assertIn("ZeroDivisionError", self.rig.bugs[0])
        self.rig.records.clear()
        self.rig.finish()

    @shows("R3263-4-01", "R3263-4-02", "R3263-4.4-01")
    def test_repeats_and_ack(self) -> None:
        """The domain moves while the INVITE repeats: every repeat and the ACK of the refusal go to the same server, and
        the DNS is not asked again."""
        invite = self.a.invite("1002")
        self.a.take(100)
        self.moved()
        self.rig.advance(2.3, 0.1)
        chosen, second = self.chosen()
        repeats = chosen.take_all("INVITE")
        self.assertGreaterEqual(len(repeats), 3)
        self.assertEqual(len({got.via.branch for got in repeats}), 1)
        chosen.answer(repeats[0], 486)
        self.assertEqual(chosen.take("ACK").via.branch, repeats[0].via.branch)
        self.a.ack(self.a.take(486), invite)
        second.silent()
        self.other.silent()
        self.assertEqual(self.rig.dns.asked, [])
        self.rig.finish()

    @shows("R3263-4-01", "R3263-4-03", "R3263-4.4-01", "9.1")
    def test_cancel(self) -> None:
        """The domain moves while it rings: the CANCEL goes where it rings."""
        invite = self.a.invite("1002")
        self.a.take(100)
        chosen, second = self.chosen()
        got = chosen.take("INVITE")
        chosen.answer(got, 180)
        self.a.take(180)
        self.moved()
        self.a.cancel(invite)
        self.a.take(200)
        cancel = chosen.take("CANCEL")
        chosen.answer(cancel, 200)
        chosen.answer(got, 487)
        chosen.take("ACK")
        self.a.ack(self.a.take(487), invite)
        second.silent()
        self.other.silent()
        self.assertEqual(self.rig.dns.asked, [])
        self.rig.finish()

    @shows("R3263-4-02", "R3263-4.4-01")
    def test_repeats_of_a_message(self) -> None:
        """The same for a request that is no INVITE."""
        self.a.request("MESSAGE", "sip:1002@example.com", body=b"x")
        self.moved()
        self.rig.advance(2.3, 0.1)
        chosen, second = self.chosen()
        repeats = chosen.take_all("MESSAGE")
        self.assertGreaterEqual(len(repeats), 3)
        chosen.answer(repeats[0], 200)
        self.assertEqual([answer.status for answer in self.a.drain()], [100, 200])  # type: ignore[attr-defined]
        second.silent()
        self.other.silent()
        self.rig.finish()


class Choice(TestCase):
    """s4.1, s4.2: transport, port and address."""

    def setUp(self) -> None:
        """A server that has everything, IPv6 too."""
        self.rig = Rig(listen=(("udp", SERVER, 5060), ("tcp", SERVER, 5060), ("tls", SERVER, 5061),
                               ("udp", "2001:db8::1", 5060)))

    def hops(self, text: str) -> list[Hop]:
        """Where a URI leads."""
        return self.successResultOf(Deferred.fromCoroutine(self.rig.resolver.resolve(Uri.parse(text))))

    @shows("R3263-4.1-03", "TRN-16")
    def test_name_and_port(self) -> None:
        """A port without a transport: UDP for sip, TLS for sips, whatever NAPTR and SRV say; nobody asks for them."""
        self.rig.dns.naptr("far.example", 1, 1, "SIP+D2T", "_sip._tcp.far.example")
        self.rig.dns.srv("_sip._tcp.far.example", 1, 1, 5090, "other.far.example")
        self.rig.dns.address("far.example", ONE)
        self.assertEqual(self.hops("sip:bob@far.example:5071"), [Hop("udp", ONE, 5071)])
        self.assertEqual(self.hops("sips:bob@far.example:5071"), [Hop("tls", ONE, 5071, "far.example")])
        self.assertEqual({kind for kind, _ in self.rig.dns.asked}, {"A", "AAAA"})

    @shows("R3263-4.1-04", "R3263-4.1-01")
    def test_who_asks_for_naptr(self) -> None:
        """A bare name is asked for NAPTR; one with a transport is not, and gets that transport."""
        self.rig.dns.naptr("far.example", 1, 1, "SIP+D2T", "_sip._tcp.far.example")
        for transport in ("tcp", "udp"):
            self.rig.dns.srv(f"_sip._{transport}.far.example", 1, 1, 5090, "one.far.example")
        self.rig.dns.address("one.far.example", ONE)
        self.assertEqual(self.hops("sip:far.example;transport=udp"), [Hop("udp", ONE, 5090)])
        self.assertNotIn(("NAPTR", "far.example"), self.rig.dns.asked)
        self.assertEqual(self.hops("sip:far.example"), [Hop("tcp", ONE, 5090)])
        self.assertIn(("NAPTR", "far.example"), self.rig.dns.asked)

    @shows("R3263-4.2-01", "R3263-4.2-02", "R3263-4.3-01", "INV-17")
    def test_all_addresses(self) -> None:
        """A name with a port and three addresses: the first is tried first, then the next, and so on to the last."""
        rig = self.rig
        places = [ONE, TWO, "2001:db8::63"]
        rig.dns.address("far.example", *places)
        rig.binding("1002", "sip:1002@far.example:5070")
        a, *phones = rig.phone("1001"), *(rig.phone("1002", address, port=5070) for address in places)
        for dead, phone in enumerate(phones):
            rig.network.icmp = {(address, 5070) for address in places[:dead]}
            rig.network.packets.clear()
            invite = a.invite("1002")
            a.take(100)
            rig.advance(0.1)
            tried = [packet.target[0] for packet in rig.network.packets if packet.data.startswith(b"INVITE sip:1002@far")
                     and packet.source[0] != a.address]
            self.assertEqual(tried, places[:dead + 1])
            phone.refuse(486)
            a.ack(a.take(486), invite)
            rig.advance(31, 1.0)
        rig.finish()


class Responses(TestCase):
    """s5."""

    @shows("R3263-5-01", "TRN-08", "18.2.2")
    def test_tls(self) -> None:
        """The TLS connection of a caller is gone when the callee answers: the answer goes over a new TLS connection to
        its sent-by; TCP and UDP there hear nothing."""
        rig = Rig()
        a, b = rig.phone("1001", transport="tls"), rig.phone("1002")
        b.register()
        secure, plain = (rig.network.listen(transport, a.address, 5060) for transport in ("tls", "tcp"))
        datagrams: Endpoint = rig.network.endpoint("udp", a.address, 5060)
        a.invite("1002")
        a.take(100)
        assert a.connection is not None
        a.connection.close()
        b.refuse(486)
        rig.advance(0.1)
        self.assertEqual([data.split(b" ")[1] for data in secure.received], [b"486"])
        self.assertEqual((plain.connections, datagrams.received), ([], []))
        rig.finish()


class Withdrawn(TestCase):
    """s7: a domain that takes TLS out of its records."""

    def setUp(self) -> None:
        """A domain with TLS and UDP, for a minute."""
        self.rig = Rig()
        self.publish("SIPS+D2T", "SIP+D2U")

    def publish(self, *services: str) -> None:
        """What the domain says from now on."""
        dns = self.rig.dns
        dns.zone.clear()
        for number, service in enumerate(services):
            name = {"SIPS+D2T": "_sips._tcp", "SIP+D2U": "_sip._udp"}[service]
            dns.naptr("far.example", number, 1, service, f"{name}.far.example", ttl=60)
            dns.srv(f"{name}.far.example", 1, 1, 5061 if "tcp" in name else 5060, "one.far.example", ttl=60)
        dns.address("one.far.example", ONE, ttl=60)

    def ask(self) -> tuple[str, list[str]]:
        """A minute later: the transport that the domain gets, and all that the log said so far."""
        self.rig.advance(61, 61)
        uri = Uri.parse("sip:far.example")
        hops = self.successResultOf(Deferred.fromCoroutine(self.rig.resolver.resolve(uri)))
        said = [CATALOGUE[kind].format_map(fields) for kind, fields in self.rig.records if kind == "tls-withdrawn"]
        return hops[0].transport, said

    @shows("R3263-7-01", "R3263-7-02", "R3263-4.1-06")
    def test_told_once(self) -> None:
        """It is in the log, once, long after the record was over; when TLS comes back and goes again, once more."""
        line = "far.example offered TLS in the DNS and does not any more: somebody may want to read along"
        self.assertEqual(self.ask(), ("tls", []))
        self.publish("SIP+D2U")
        self.rig.advance(7200, 3600)
        self.assertEqual(self.ask(), ("udp", [line]))
        self.assertEqual(self.ask(), ("udp", [line]))
        self.publish("SIPS+D2T", "SIP+D2U")
        self.assertEqual(self.ask(), ("tls", [line]))
        self.publish("SIP+D2U")
        self.assertEqual(self.ask(), ("udp", [line, line]))

    @shows("R3263-7-02")
    def test_not_told(self) -> None:
        """A DNS that fails for a while, and a domain that never had TLS, are no such thing."""
        self.assertEqual(self.ask(), ("tls", []))
        self.rig.dns.broken.add("far.example")
        self.rig.advance(7200, 3600)
        self.assertEqual(self.ask(), ("udp", []))
        self.rig.dns.broken.clear()
        self.assertEqual(self.ask(), ("tls", []))
        other = Rig()
        self.rig = other
        self.publish("SIP+D2U")
        self.assertEqual(self.ask(), ("udp", []))
        self.assertEqual(self.ask(), ("udp", []))
