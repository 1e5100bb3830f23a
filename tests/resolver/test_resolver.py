"""The resolver over a DNS in memory and virtual time, and over a real one on loopback."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IResolver as ITwistedResolver
from twisted.internet.task import Clock, deferLater
from twisted.names import authority, dns, server
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from sipd.interfaces import IResolver
from sipd.inventory import Inventory
from sipd.message.hop import Hop
from sipd.message.uri import Uri
from sipd.resolver.resolver import Resolver
from sipd.resolver.system import Client, Hosts
from tests.support.cases import shows
from tests.support.fake_dns import FakeDns

ALL = frozenset({"udp", "tcp", "tls"})


class Rig(SynchronousTestCase):
    """A resolver, its clock and its DNS."""

    families = frozenset({4, 6})
    transports = ALL

    def setUp(self) -> None:
        self.clock = Clock()
        self.dns = FakeDns(self.clock)
        self.inventory = Inventory()
        self.resolver = Resolver(
            self.clock, self.dns, self.inventory, bytes, transports=self.transports, families=self.families,
            hosts=Hosts(self.clock, "/nonexistent"),
        )

    def tearDown(self) -> None:
        self.assertEqual(self.inventory.left(), {})
        for table in self.inventory:
            self.assertLessEqual(len(table), table.limit)

    def begin(self, text: str) -> Deferred[list[Hop]]:
        """A resolution under way."""
        return Deferred.fromCoroutine(self.resolver.resolve(Uri.parse(text)))

    def hops(self, text: str) -> list[str]:
        """The hops of a URI, as text, that must come without time passing."""
        return [str(hop) for hop in self.successResultOf(self.begin(text))]

    def known(self, text: str) -> list[str] | None:
        """What is known at once."""
        found = self.resolver.lookup(Uri.parse(text))
        return None if found is None else [str(hop) for hop in found]


class Basics(Rig):
    """Interfaces, numeric hosts, names that are never asked for."""

    def test_interfaces(self) -> None:
        """Resolver provides sipd's interface, the DNS in memory and our client provide twisted's."""
        verifyObject(IResolver, self.resolver)
        verifyObject(ITwistedResolver, self.dns)
        verifyObject(ITwistedResolver, Client(self.clock, 3.0, servers=[("127.0.0.1", 53)]))

    @shows("TRN-16", "3263 4.2")
    def test_numeric(self) -> None:
        """A numeric host never touches the DNS (TRN-16), and what the caller does to the list stays with him."""
        for _ in range(2):
            self.assertEqual(self.known("sip:bob@192.0.2.4:5070;transport=tcp"), ["tcp:192.0.2.4:5070"])
            found = self.resolver.lookup(Uri.parse("sip:bob@192.0.2.4:5070;transport=tcp"))
            assert found is not None
            found.clear()
        self.assertEqual(self.hops("sip:[2001:db8::1]"), ["udp:[2001:db8::1]:5060"])
        self.assertEqual(self.dns.asked, [])

    def test_nowhere(self) -> None:
        """It is known at once that .invalid, broadcast and other schemes lead nowhere."""
        for text in ["sip:a@x.invalid;transport=ws", "sip:a@x.invalid", "sip:255.255.255.255", "tel:+1555"]:
            self.assertEqual(self.known(text), [], text)
            self.assertEqual(self.hops(text), [], text)
        self.assertEqual(self.dns.asked, [])

    def test_localhost(self) -> None:
        """localhost is this machine, without a question, and known at once the second time."""
        self.assertEqual(self.hops("sip:localhost:5070"), ["udp:127.0.0.1:5070", "udp:[::1]:5070"])
        self.assertEqual(self.known("sip:localhost:5070"), ["udp:127.0.0.1:5070", "udp:[::1]:5070"])
        self.assertEqual(self.hops("sips:a.localhost"), ["tls:127.0.0.1:5061", "tls:[::1]:5061"])
        self.assertEqual(self.dns.asked, [])

    def test_hosts_file(self) -> None:
        """A name in the hosts file is not asked for; the file is read again after it changed."""
        path = self.mktemp()
        with open(path, "w", encoding="utf-8") as file:
            file.write("# comment\n192.0.2.7 PBX pbx.example # mine\n2001:db8::7 pbx.example\nbroken line\n")
        resolver = Resolver(self.clock, self.dns, self.inventory, bytes, transports=ALL, families={4, 6},
                            hosts=Hosts(self.clock, path))

        def ask() -> list[Hop]:
            return self.successResultOf(Deferred.fromCoroutine(resolver.resolve(Uri.parse("sip:pbx.example"))))

        self.assertEqual([hop.address for hop in ask()], ["192.0.2.7", "2001:db8::7"])
        with open(path, "w", encoding="utf-8") as file:
            file.write("192.0.2.8 pbx.example\n")
        self.clock.advance(31)
        self.assertEqual([hop.address for hop in ask()], ["192.0.2.8"])
        os.unlink(path)
        self.clock.advance(31)
        self.assertEqual(ask(), [])
        self.assertEqual({name for _, name in self.dns.asked},
                         {"pbx.example", "_sip._udp.pbx.example", "_sip._tcp.pbx.example"})


class Walk(Rig):
    """RFC 3263 s4.1 and s4.2, step by step."""

    @shows("TRN-16", "R3263-4.1-03", "R3263-4.2-01", "3263 4.2")
    def test_port_skips_srv(self) -> None:
        """An explicit port: addresses only, A and AAAA together (TRN-16)."""
        self.dns.address("example.com", "2001:db8::1", "192.0.2.1", "192.0.2.2")
        self.dns.srv("_sip._udp.example.com", 1, 1, 5099, "wrong.example")
        self.assertEqual(self.hops("sip:example.com:5070"),
                         ["udp:192.0.2.1:5070", "udp:192.0.2.2:5070", "udp:[2001:db8::1]:5070"])
        self.assertEqual(self.dns.asked, [("A", "example.com"), ("AAAA", "example.com")])

    @shows("TRN-16", "R3263-4.1-04", "R3263-4.1-06")
    def test_naptr(self) -> None:
        """NAPTR picks the transport, SRV the servers, in another domain too; the certificate's name is the URI's."""
        self.dns.naptr("example.com", 50, 50, "SIPS+D2T", "_sips._tcp.host.example")
        self.dns.naptr("example.com", 90, 50, "SIP+D2T", "_sip._tcp.example.com")
        self.dns.srv("_sips._tcp.host.example", 1, 0, 5071, "b.host.example")
        self.dns.srv("_sips._tcp.host.example", 0, 0, 5061, "a.host.example")
        self.dns.address("a.host.example", "192.0.2.1")
        self.dns.address("b.host.example", "192.0.2.2")
        hops = self.successResultOf(self.begin("sip:bob@example.com"))
        self.assertEqual(hops, [Hop("tls", "192.0.2.1", 5061, "example.com"),
                                Hop("tls", "192.0.2.2", 5071, "example.com")])
        self.assertNotIn(("A", "example.com"), self.dns.asked)

    @shows("R3263-4.1-01")
    def test_transport_skips_naptr(self) -> None:
        """A transport in the URI: no NAPTR question, its SRV records."""
        self.dns.naptr("example.com", 50, 50, "SIP+D2U", "_sip._udp.example.com")
        self.dns.srv("_sip._tcp.example.com", 0, 0, 5080, "a.example.com")
        self.dns.address("a.example.com", "192.0.2.1")
        self.assertEqual(self.hops("sip:example.com;transport=tcp"), ["tcp:192.0.2.1:5080"])
        self.assertNotIn(("NAPTR", "example.com"), self.dns.asked)

    def test_no_naptr(self) -> None:
        """Without NAPTR records: SRV of UDP, then of TCP."""
        self.dns.srv("_sip._udp.example.com", 5, 0, 5060, "a.example.com")
        self.dns.srv("_sip._tcp.example.com", 0, 0, 5060, "a.example.com")
        self.dns.address("a.example.com", "192.0.2.1")
        self.assertEqual(self.hops("sip:example.com"), ["udp:192.0.2.1:5060", "tcp:192.0.2.1:5060"])

    @shows("R3263-4.1-09")
    def test_no_srv(self) -> None:
        """Without SRV records: the name's addresses at the default port."""
        self.dns.address("example.com", "192.0.2.1")
        self.assertEqual(self.hops("sip:example.com"), ["udp:192.0.2.1:5060"])
        self.assertEqual(self.hops("sip:example.com;transport=tls"), ["tls:192.0.2.1:5061"])
        self.assertEqual(self.hops("sips:example.com"), ["tls:192.0.2.1:5061"])

    def test_naptr_without_srv(self) -> None:
        """A NAPTR record whose SRV is missing: its transport, the name's addresses (RFC 3263 s4.2)."""
        self.dns.naptr("example.com", 50, 50, "SIP+D2T", "_sip._tcp.example.com")
        self.dns.address("example.com", "192.0.2.1")
        self.assertEqual(self.hops("sip:example.com"), ["tcp:192.0.2.1:5060"])

    def test_no_such_service(self) -> None:
        """SRV with target "." says no: the name's own addresses are not used (RFC 2782)."""
        self.dns.srv("_sip._tcp.example.com", 0, 0, 0, "")
        self.dns.address("example.com", "192.0.2.1")
        self.assertEqual(self.hops("sip:example.com;transport=tcp"), [])

    @shows("R3263-4.1-05")
    def test_sips_over_tls_only(self) -> None:
        """sips never ends on UDP or TCP (RFC 3261 s26.2.2)."""
        self.dns.naptr("example.com", 50, 50, "SIP+D2U", "_sip._udp.example.com")
        self.dns.srv("_sip._udp.example.com", 0, 0, 5060, "a.example.com")
        self.dns.srv("_sips._tcp.example.com", 0, 0, 5061, "a.example.com")
        self.dns.address("a.example.com", "192.0.2.1")
        self.assertEqual(self.hops("sips:example.com"), ["tls:192.0.2.1:5061"])

    def test_maddr_name(self) -> None:
        """A name in maddr is the one looked up."""
        self.dns.address("edge.example", "192.0.2.3")
        self.assertEqual(self.hops("sip:a@example.com:5070;maddr=edge.example"), ["udp:192.0.2.3:5070"])
        self.assertNotIn("example.com", [name for _, name in self.dns.asked])

    def test_alias(self) -> None:
        """CNAME chains are followed, within one answer and over several, and a circle ends."""
        self.dns.add("a.example", dns.Record_CNAME("b.example"))
        self.dns.add("b.example", dns.Record_CNAME("c.example"))
        self.dns.address("c.example", "192.0.2.1")
        self.assertEqual(self.hops("sip:a.example:5060"), ["udp:192.0.2.1:5060"])
        self.dns.add("round.example", dns.Record_CNAME("about.example"))
        self.dns.add("about.example", dns.Record_CNAME("round.example"))
        self.assertEqual(self.hops("sip:round.example:5060"), [])
        self.assertLess(len(self.dns.asked), 40)

    def test_evil_answers(self) -> None:
        """Addresses nobody may be sent to, port 0 and names that are none are left out of an answer."""
        self.dns.address("example.com", "255.255.255.255", "0.0.0.0", "224.0.0.1", "ff02::1", "192.0.2.1")
        self.assertEqual(self.hops("sip:example.com:5060"), ["udp:192.0.2.1:5060"])
        for number, (port, target) in enumerate([(0, "example.com"), (5060, "x.invalid"), (5060, "1.2.3.4")]):
            self.dns.srv("_sip._udp.evil.example", number, 0, port, target)
        self.assertEqual(self.hops("sip:evil.example;transport=udp"), [])
        self.assertNotIn(("A", "x.invalid"), self.dns.asked)

    def test_many_servers(self) -> None:
        """Of hundreds of SRV records only as many are looked up as could be tried."""
        for number in range(200):
            self.dns.srv("_sip._udp.big.example", number, 0, 5060, f"s{number}.example")
            self.dns.address(f"s{number}.example", f"192.0.2.{number}", f"2001:db8::{number + 1:x}")
        hops = self.hops("sip:big.example;transport=udp")
        self.assertEqual(len(hops), 16)
        self.assertEqual(hops[0], "udp:192.0.2.0:5060")
        self.assertLess(len(self.dns.asked), 40)

    @shows("TRN-17")
    def test_unresolvable(self) -> None:
        """A name that does not exist: empty, at once, and known then (TRN-17)."""
        self.assertEqual(self.hops("sip:nobody.example"), [])
        self.assertEqual(self.known("sip:nobody.example"), [])
        self.clock.advance(31)
        self.assertIsNone(self.known("sip:nobody.example"))


class OneFamily(Rig):
    """A server with IPv4 listeners only, without TLS."""

    families = frozenset({4})
    transports = frozenset({"udp", "tcp"})

    def test_ipv4_only(self) -> None:
        """AAAA is not even asked for, and IPv6 hops never come out."""
        self.dns.address("example.com", "2001:db8::1", "192.0.2.1")
        self.assertEqual(self.hops("sip:example.com:5060"), ["udp:192.0.2.1:5060"])
        self.assertEqual(self.dns.asked, [("A", "example.com")])
        self.assertEqual(self.hops("sip:localhost"), ["udp:127.0.0.1:5060"])

    def test_no_tls(self) -> None:
        """TLS records are passed over; a sips URI leads nowhere, without a question."""
        self.dns.naptr("example.com", 50, 50, "SIPS+D2T", "_sips._tcp.example.com")
        self.dns.naptr("example.com", 90, 50, "SIP+D2T", "_sip._tcp.example.com")
        self.dns.srv("_sip._tcp.example.com", 0, 0, 5060, "a.example.com")
        self.dns.address("a.example.com", "192.0.2.1")
        self.assertEqual(self.hops("sip:example.com"), ["tcp:192.0.2.1:5060"])
        asked = len(self.dns.asked)
        self.assertEqual(self.hops("sips:example.com"), [])
        self.assertEqual(len(self.dns.asked), asked)


class Memory(Rig):
    """What is remembered, and for how long."""

    def test_ttl(self) -> None:
        """An answer is known until the least TTL of all it rests on has passed, then asked for again."""
        self.dns.srv("_sip._tcp.example.com", 0, 0, 5060, "a.example.com", ttl=100)
        self.dns.address("a.example.com", "192.0.2.1", ttl=60)
        self.assertIsNone(self.known("sip:example.com;transport=tcp"))
        self.hops("sip:example.com;transport=tcp")
        asked = len(self.dns.asked)
        self.clock.advance(29.9)
        self.assertEqual(self.known("sip:other@example.com;transport=tcp;ob"), ["tcp:192.0.2.1:5060"])
        self.clock.advance(30.1)
        self.assertIsNone(self.known("sip:example.com;transport=tcp"))
        self.dns.zone["a.example.com"] = []
        self.dns.address("a.example.com", "192.0.2.2")
        self.assertEqual(self.hops("sip:example.com;transport=tcp"), ["tcp:192.0.2.2:5060"])
        self.assertNotIn(("SRV", "_sip._tcp.example.com"), self.dns.asked[asked:])

    def test_bounds_of_ttl(self) -> None:
        """A TTL of 0 is kept a second, one of a week an hour; a negative answer as long as its SOA says."""
        self.dns.soa_ttl = 120
        self.dns.address("zero.example", "192.0.2.1", ttl=0)
        self.dns.address("week.example", "192.0.2.1", ttl=604800)
        for host in ("zero", "week", "none"):
            self.hops(f"sip:{host}.example:5060")
        self.clock.advance(0.9)
        self.assertIsNotNone(self.known("sip:zero.example:5060"))
        self.clock.advance(0.2)
        self.assertIsNone(self.known("sip:zero.example:5060"))
        self.clock.advance(118)
        self.assertEqual(self.known("sip:none.example:5060"), [])
        self.clock.advance(1)
        self.assertIsNone(self.known("sip:none.example:5060"))

    def test_bound_of_ttl_above(self) -> None:
        """A record without an AAAA beside it to shorten it is believed an hour at most."""
        self.dns.address("week.example", "192.0.2.1", "2001:db8::1", ttl=604800)
        self.hops("sip:week.example:5060")
        self.clock.advance(3599)
        self.assertIsNotNone(self.known("sip:week.example:5060"))
        self.clock.advance(1)
        self.assertIsNone(self.known("sip:week.example:5060"))

    def test_shared(self) -> None:
        """Questions under way are shared."""
        self.dns.delay = 1.0
        self.dns.address("example.com", "192.0.2.1")
        both = [self.begin("sip:example.com:5060"), self.begin("sip:example.com:5070")]
        self.assertEqual(len(self.dns.asked), 2)
        self.clock.advance(1)
        self.assertEqual([self.successResultOf(one)[0].port for one in both], [5060, 5070])

    def test_cancelled(self) -> None:
        """Who gives up waiting does not spoil it for the other."""
        self.dns.delay = 1.0
        self.dns.address("example.com", "192.0.2.1")
        first, second = self.begin("sip:example.com:5060"), self.begin("sip:example.com:5060")
        first.addErrback(lambda failure: None)
        first.cancel()
        self.clock.advance(1)
        self.assertEqual(len(self.successResultOf(second)), 1)

    def test_weights(self) -> None:
        """The order among equal servers is drawn anew for each message, from memory too."""
        dice = iter([b"\0\0\0\0", b"\0\0\0\0", b"\0\0\0\2", b"\0\0\0\0"])
        resolver = Resolver(self.clock, self.dns, self.inventory, lambda n: next(dice), transports=ALL, families={4},
                            hosts=Hosts(self.clock, "/nonexistent"))
        for number in (1, 2):
            self.dns.srv("_sip._udp.example.com", 0, 1, 5060, f"s{number}.example")
            self.dns.address(f"s{number}.example", f"192.0.2.{number}")
        uri = Uri.parse("sip:example.com;transport=udp")
        self.assertEqual([hop.address for hop in self.successResultOf(Deferred.fromCoroutine(resolver.resolve(uri)))],
                         ["192.0.2.1", "192.0.2.2"])
        again = [resolver.lookup(uri), resolver.lookup(uri)]
        self.assertEqual([[hop.address[-1] for hop in hops or []] for hops in again], [["2", "1"], ["1", "2"]])

    @shows("TRN-15")
    def test_quarantine(self) -> None:
        """A hop that failed is last from then on, for a while (TRN-15)."""
        self.dns.address("example.com", "192.0.2.1", "192.0.2.2")
        first = self.successResultOf(self.begin("sip:example.com:5060"))[0]
        self.resolver.quarantine(first)
        self.assertEqual(self.known("sip:example.com:5060"), ["udp:192.0.2.2:5060", "udp:192.0.2.1:5060"])
        self.clock.advance(30)
        self.assertEqual(self.hops("sip:example.com:5060"), ["udp:192.0.2.1:5060", "udp:192.0.2.2:5060"])

    def test_bounded(self) -> None:
        """Thousands of names leave the tables within their bounds."""
        resolver = Resolver(self.clock, self.dns, self.inventory, bytes, transports=ALL, families={4}, cache=50,
                            hosts=Hosts(self.clock, "/nonexistent"))
        for number in range(300):
            uri = Uri.parse(f"sip:h{number}.example:5060")
            self.successResultOf(Deferred.fromCoroutine(resolver.resolve(uri)))
            resolver.lookup(Uri.parse(f"sip:192.0.2.1:{number + 1}"))
        sizes = [len(table) for table in self.inventory]
        self.assertTrue(all(len(table) <= table.limit for table in self.inventory), sizes)
        self.assertTrue(40 <= max(sizes) <= 50, sizes)

    def test_long(self) -> None:
        """Endless names lead nowhere and endless parameters change nothing; neither is remembered or asked for."""
        self.assertEqual(self.known(f"sip:{'x' * 40000}"), [])
        for _ in range(2):
            self.assertEqual(self.known(f"sip:192.0.2.1;x={'y' * 40000}"), ["udp:192.0.2.1:5060"])
        self.assertEqual([len(table) for table in self.inventory], [0] * len(list(self.inventory)))


class Trouble(Rig):
    """Servers that are silent, broken or slow."""

    @shows("TRN-17")
    def test_silence(self) -> None:
        """A dead DNS: each question ends in dns_timeout, and the wait is not paid again for every message."""
        self.dns.all_silent = True
        waiting = self.begin("sip:example.com")
        self.clock.advance(3)
        self.assertNoResult(waiting)
        self.clock.advance(3)
        self.assertEqual(self.successResultOf(waiting), [])
        self.assertEqual(self.known("sip:example.com"), [])
        self.clock.advance(5)
        self.assertIsNone(self.known("sip:example.com"))

    def test_silence_with_transport(self) -> None:
        """With the transport said, the SRV and address questions wait together."""
        self.dns.all_silent = True
        waiting = self.begin("sip:example.com;transport=tcp")
        self.clock.advance(3)
        self.assertEqual(self.successResultOf(waiting), [])

    def test_one_family_silent(self) -> None:
        """AAAA never answered: the A record is used, for its whole TTL."""
        self.dns.address("example.com", "192.0.2.1", ttl=300)
        answer = self.dns._lookup

        def lookup(name: bytes, cls: int, type: int, timeout: Any) -> Deferred[Any]:
            return Deferred() if type == dns.AAAA else answer(name, cls, type, timeout)

        self.patch(self.dns, "_lookup", lookup)
        waiting = self.begin("sip:example.com:5060")
        self.clock.advance(3)
        self.assertEqual(len(self.successResultOf(waiting)), 1)
        self.clock.advance(290)
        self.assertEqual(self.known("sip:example.com:5060"), ["udp:192.0.2.1:5060"])

    def test_stale(self) -> None:
        """When the servers stop answering the last answer is used on for an hour, asked for again now and then."""
        self.dns.address("example.com", "192.0.2.1", ttl=60)
        self.hops("sip:example.com:5060")
        self.dns.broken.add("example.com")
        self.clock.advance(100)
        self.assertEqual(self.hops("sip:example.com:5060"), ["udp:192.0.2.1:5060"])
        self.clock.advance(6)
        self.assertIsNone(self.known("sip:example.com:5060"))
        self.clock.advance(3600)
        self.assertEqual(self.hops("sip:example.com:5060"), [])
        self.dns.broken.clear()
        self.clock.advance(6)
        self.assertEqual(self.hops("sip:example.com:5060"), ["udp:192.0.2.1:5060"])

    def test_cannot_ask(self) -> None:
        """A question that cannot even be sent is a failure like others."""
        def lookup(name: bytes, cls: int, type: int, timeout: Any) -> Deferred[Any]:
            raise OSError(24, "Too many open files")

        self.patch(self.dns, "_lookup", lookup)
        self.assertEqual(self.hops("sip:example.com:5060"), [])

    def test_nonsense(self) -> None:
        """An answer that makes no sense is a failure like others."""
        self.patch(self.dns, "_answer", lambda name, type: (_ for _ in ()).throw(KeyError(name)))
        self.assertEqual(self.hops("sip:example.com:5060"), [])

    def test_too_many_questions(self) -> None:
        """Past the bound of questions under way the answer is empty at once, and not remembered as the truth."""
        self.dns.all_silent = True
        waiting = [self.begin(f"sip:h{number}.example:5060") for number in range(500)]
        self.assertEqual(self.hops("sip:late.example:5060"), [])
        self.clock.advance(3)
        self.assertEqual({len(self.successResultOf(one)) for one in waiting}, {0})
        self.dns.all_silent = False
        self.dns.address("late.example", "192.0.2.1")
        self.assertEqual(self.hops("sip:late.example:5060"), ["udp:192.0.2.1:5060"])


class Loopback(TestCase):
    """A real name server on loopback UDP, asked by the real client."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        class Zone(authority.FileAuthority):
            def loadFile(self, filename: str) -> None:
                self.records = {}

        zone = Zone("")
        zone.soa = (b"example.com", dns.Record_SOA("ns.example.com", "root.example.com", 1, 60, 60, 60, 60))
        zone.records = {
            b"example.com": [zone.soa[1], dns.Record_NAPTR(50, 50, b"s", b"SIP+D2T", b"", "_sip._tcp.example.com")],
            b"_sip._tcp.example.com": [dns.Record_SRV(1, 0, 5082, "b.example.com"),
                                       dns.Record_SRV(0, 0, 5081, "a.example.com")],
            b"a.example.com": [dns.Record_A("127.0.0.7"), dns.Record_AAAA("::7")],
            b"b.example.com": [dns.Record_CNAME("c.example.com")],
            b"c.example.com": [dns.Record_A("127.0.0.8")],
        }
        protocol = dns.DNSDatagramProtocol(server.DNSServerFactory(authorities=[zone]))
        self.port = reactor.listenUDP(0, protocol, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(self.port.stopListening)
        self.client = Client(reactor, 1.0, servers=[("127.0.0.1", self.port.getHost().port)])
        self.resolver = Resolver(reactor, self.client, Inventory(), os.urandom,  # type: ignore[arg-type]
                                 transports=ALL, families={4, 6}, dns_timeout=1.0)

    async def test_walk(self) -> None:
        """NAPTR, SRV, A, AAAA and a CNAME over the wire."""
        uri = Uri.parse("sip:bob@example.com")
        expected = ["tcp:127.0.0.7:5081", "tcp:[::7]:5081", "tcp:127.0.0.8:5082"]
        self.assertEqual([str(hop) for hop in await self.resolver.resolve(uri)], expected)
        self.assertEqual([str(hop) for hop in self.resolver.lookup(uri) or []], expected)

    async def test_no_such_name(self) -> None:
        """NXDOMAIN over the wire is an empty answer that is remembered."""
        uri = Uri.parse("sip:bob@nobody.example.com")
        self.assertEqual(await self.resolver.resolve(uri), [])
        self.assertEqual(self.resolver.lookup(uri), [])

    async def test_dead_server(self) -> None:
        """A port nobody answers on ends within the deadline, and leaves no socket behind."""
        dead = Client(self.client._reactor, 0.2, servers=[("127.0.0.1", 9)])
        resolver = Resolver(self.client._reactor, dead, Inventory(), os.urandom, transports=ALL, families={4},
                            dns_timeout=0.2)
        self.assertEqual(await resolver.resolve(Uri.parse("sip:example.com:5060")), [])
        dead.close()
        # the client's own last timer runs as long as ours: which of the two fires first is chance
        await deferLater(self.client._reactor, 0.2)
