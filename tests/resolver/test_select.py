"""RFC 3263's and RFC 2782's choices, without a network."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sipd.message.hop import Hop
from sipd.message.uri import Uri
from sipd.resolver.select import (
    MAX_HOPS,
    Choice,
    Naptr,
    Srv,
    Target,
    by_priority,
    fixed_transport,
    hops_of,
    is_name,
    naptr_services,
    numeric_hops,
    srv_services,
    target_of,
    usable_address,
)
from tests.support.cases import shows

ALL = frozenset({"udp", "tcp", "tls"})


def hops(text: str, transports: frozenset[str] = ALL, families: frozenset[int] = frozenset({4, 6})) -> list[Hop]:
    """The hops of a numeric URI."""
    target = target_of(Uri.parse(text))
    if target is None:
        return []
    assert target.numeric, text
    return numeric_hops(target, transports, families)


class NumericTargets(SynchronousTestCase):
    """RFC 3263 s4.1 and s4.2 for numeric hosts."""

    @shows("R3263-4.1-01", "R3263-4.1-02")
    def test_transport_and_port(self) -> None:
        """The URI's transport and port count; else UDP for sip, TLS for sips, and the transport's own port."""
        for text, expected in [
            ("sip:a@192.0.2.1", Hop("udp", "192.0.2.1", 5060)),
            ("sip:a@192.0.2.1:5070", Hop("udp", "192.0.2.1", 5070)),
            ("sip:a@192.0.2.1;transport=TCP", Hop("tcp", "192.0.2.1", 5060)),
            ("sip:a@192.0.2.1;transport=tls", Hop("tls", "192.0.2.1", 5061)),
            ("sip:a@192.0.2.1:5060;transport=tls", Hop("tls", "192.0.2.1", 5060)),
            ("sips:a@192.0.2.1", Hop("tls", "192.0.2.1", 5061)),
            ("sips:a@192.0.2.1:5062", Hop("tls", "192.0.2.1", 5062)),
            ("sips:a@192.0.2.1;transport=tcp", Hop("tls", "192.0.2.1", 5061)),
            ("sip:a@[2001:DB8:0::1]:5070", Hop("udp", "2001:db8::1", 5070)),
            ("sip:a@[::ffff:192.0.2.1]", Hop("udp", "192.0.2.1", 5060)),
            ("sip:a@127.0.0.1", Hop("udp", "127.0.0.1", 5060)),
            ("sip:a@10.1.2.3", Hop("udp", "10.1.2.3", 5060)),
        ]:
            self.assertEqual(hops(text), [expected], text)

    def test_maddr(self) -> None:
        """maddr is the target, with the URI's port and transport (RFC 3261 s16.6 step 7)."""
        self.assertEqual(hops("sip:a@example.com:5070;maddr=192.0.2.9"), [Hop("udp", "192.0.2.9", 5070)])
        self.assertEqual(hops("sip:a@192.0.2.1;maddr=[2001:db8::2]"), [Hop("udp", "2001:db8::2", 5060)])
        self.assertEqual(hops("sip:a@192.0.2.1;maddr=224.0.1.75;ttl=16"), [])

    @shows("R3261-19.1.1-03")
    def test_nowhere(self) -> None:
        """No hop: nobody's, everybody's or a reserved address, an unknown transport, another scheme."""
        for text in [
            "sip:a@0.0.0.0", "sip:a@0.1.2.3", "sip:a@255.255.255.255", "sip:a@224.0.1.75", "sip:a@239.255.255.250",
            "sip:a@240.0.0.1", "sip:a@[::]", "sip:a@[ff02::1]", "sip:a@[::ffff:255.255.255.255]",
            "sip:a@[::ffff:224.0.0.1]", "sip:a@192.0.2.1;transport=sctp", "sip:a@192.0.2.1;transport=ws",
            "sips:a@192.0.2.1;transport=udp", "tel:+15551234", "urn:service:sos",
        ]:
            self.assertEqual(hops(text), [], text)

    def test_impossible_ports(self) -> None:
        """Ports 0 and above 65535 lead nowhere, however the URI came about."""
        for port in (0, 65536, 70000):
            self.assertIsNone(target_of(Uri("sip", "a", None, "192.0.2.1", port)))

    def test_what_we_have(self) -> None:
        """Transports and families without a listener give no hop; without UDP a sip URI goes by TCP."""
        self.assertEqual(hops("sip:a@192.0.2.1", frozenset({"tcp"})), [Hop("tcp", "192.0.2.1", 5060)])
        self.assertEqual(hops("sip:a@192.0.2.1;transport=tcp", frozenset({"udp"})), [])
        self.assertEqual(hops("sips:a@192.0.2.1", frozenset({"udp", "tcp"})), [])
        self.assertEqual(hops("sip:a@[2001:db8::1]", families=frozenset({4})), [])
        self.assertEqual(hops("sip:a@192.0.2.1", families=frozenset({6})), [])


class Names(SynchronousTestCase):
    """What may be asked of the DNS."""

    def test_names(self) -> None:
        """Host names and SRV owner names may; .invalid, numbers, empty or overlong labels and other bytes may not."""
        for name in ["example.com", "a", "x-1.example", "_sip._udp.example.com", "a" * 63 + ".example"]:
            self.assertTrue(is_name(name), name)
        for name in ["", ".", "a..b", "abc.invalid", "invalid", "127.1", "1.2.3.4.5", "010.1.1.1",
                     "a" * 64 + ".example", ".".join(["a" * 60] * 5),
                     "b\u00fccher.example", "a b.example", "ex*mple.com", "a.\udcff"]:
            self.assertFalse(is_name(name), name)

    def test_target(self) -> None:
        """A name becomes a target in lower case without the last dot."""
        self.assertEqual(target_of(Uri.parse("sips:a@Example.COM;transport=TCP")),
                         Target("example.com", False, None, "tls", True))
        self.assertEqual(target_of(Uri("sip", "a", None, "example.com.")),
                         Target("example.com", False, None, "", False))
        self.assertIsNone(target_of(Uri.parse("sip:df7jal23ls0d@abc.invalid;transport=tcp")))

    @given(st.text(max_size=40))
    @settings(deadline=None)
    def test_any_host(self, host: str) -> None:
        """No text in the host, however odd, makes anything but a target or None."""
        target = target_of(Uri("sip", None, None, host))
        if target is not None:
            self.assertTrue(bool(usable_address(target.host)) if target.numeric else is_name(target.host))


class Naptrs(SynchronousTestCase):
    """RFC 3263 s4.1: services by NAPTR."""

    RECORDS = [
        Naptr(90, 50, "s", "SIP+D2T", "", "_sip._tcp.example.com"),
        Naptr(50, 50, "S", "SIPS+D2T", "", "_sips._tcp.example.com"),
        Naptr(100, 50, "s", "sip+d2u", "", "_sip._udp.example.com"),
    ]

    @shows("R3263-4.1-06")
    def test_order(self) -> None:
        """The RFC's own example: TLS first for who has it, TCP for who has not."""
        self.assertEqual(naptr_services(self.RECORDS, False, ALL), [("tls", "_sips._tcp.example.com")])
        self.assertEqual(naptr_services(self.RECORDS, False, {"udp", "tcp"}), [("tcp", "_sip._tcp.example.com")])
        self.assertEqual(naptr_services(self.RECORDS, False, {"udp"}), [("udp", "_sip._udp.example.com")])

    @shows("R3263-4.1-05")
    def test_sips(self) -> None:
        """A sips target discards everything that is not SIPS."""
        self.assertEqual(naptr_services(self.RECORDS, True, ALL), [("tls", "_sips._tcp.example.com")])
        self.assertEqual(naptr_services(self.RECORDS, True, {"udp", "tcp"}), [])

    @shows("R3263-4.1-07")
    def test_preference(self) -> None:
        """Within the lowest order that applies, all records by preference (RFC 3403 s4.1)."""
        records = [
            Naptr(10, 20, "s", "SIP+D2U", "", "u.example"),
            Naptr(10, 10, "s", "SIP+D2T", "", "t.example"),
            Naptr(5, 1, "s", "SIP+D2S", "", "sctp.example"),
        ]
        self.assertEqual(naptr_services(records, False, ALL), [("tcp", "t.example"), ("udp", "u.example")])

    @shows("R3263-4.1-07")
    def test_not_applicable(self) -> None:
        """Other services, flags, rewriting and empty replacements are discarded."""
        for record in [
            Naptr(1, 1, "u", "E2U+sip", "!^.*$!sip:a@b!", ""),
            Naptr(1, 1, "a", "SIP+D2U", "", "x.example"),
            Naptr(1, 1, "s", "SIP+D2U", "!a!b!", "x.example"),
            Naptr(1, 1, "s", "SIP+D2U", "", ""),
            Naptr(1, 1, "s", "SIPS+D2U", "", "x.example"),
        ]:
            self.assertEqual(naptr_services([record], False, ALL), [], record)


class SrvQuestions(SynchronousTestCase):
    """Which SRV names are asked for without NAPTR."""

    def test_questions(self) -> None:
        """The transport of the URI; _sips for TLS; _sip for each transport we have when nothing is said."""
        def ask(text: str, transports: frozenset[str] = ALL) -> list[tuple[str, str]]:
            target = target_of(Uri.parse(text))
            assert target is not None
            return srv_services(target, transports)

        both = [("udp", "_sip._udp.e.com"), ("tcp", "_sip._tcp.e.com")]
        self.assertEqual(ask("sip:e.com"), both)
        self.assertEqual(ask("sip:e.com", frozenset({"tcp"})), both[1:])
        self.assertEqual(ask("sip:e.com;transport=tcp"), both[1:])
        self.assertEqual(ask("sip:e.com;transport=tls"), [("tls", "_sips._tcp.e.com")])
        self.assertEqual(ask("sips:e.com"), [("tls", "_sips._tcp.e.com")])
        self.assertEqual(ask("sips:e.com;transport=tcp"), [("tls", "_sips._tcp.e.com")])
        self.assertEqual(ask("sip:e.com;transport=udp", frozenset({"tcp"})), [])
        self.assertEqual(ask("sips:e.com", frozenset({"tcp"})), [])

    def test_nothing_for_it(self) -> None:
        """Without any transport there is none to choose."""
        self.assertEqual(fixed_transport(Target("e.com", False, None, "", False), frozenset()), "")


class Order(SynchronousTestCase):
    """RFC 2782, the order of SRV records."""

    def test_priority(self) -> None:
        """Lower priority first, whatever the weights and the dice."""
        records = [Srv(20, 100, 1, "c"), Srv(10, 0, 1, "a"), Srv(15, 65535, 1, "b")]
        self.assertEqual([r.target for r in by_priority(records, lambda n: b"\xff" * n)], ["a", "b", "c"])

    def test_dice(self) -> None:
        """The running sum decides: 0 takes the first, the sum takes the last."""
        records = [Srv(1, 10, 1, "a"), Srv(1, 0, 1, "zero"), Srv(1, 30, 1, "b")]
        for point, first in [(0, "zero"), (1, "a"), (10, "a"), (11, "b"), (40, "b")]:
            ordered = by_priority(records, lambda n, point=point: point.to_bytes(n, "big"))
            self.assertEqual(ordered[0].target, first, point)
            self.assertEqual(sorted(r.target for r in ordered), ["a", "b", "zero"])

    def test_weights(self) -> None:
        """Over many draws servers are chosen in proportion to their weights."""
        dice = random.Random(1)
        records = [Srv(1, 3000, 1, "often"), Srv(1, 1000, 1, "seldom")]
        firsts = Counter(by_priority(records, dice.randbytes)[0].target for _ in range(4000))
        self.assertGreater(firsts["often"], 2850)
        self.assertLess(firsts["often"], 3150)

    def test_no_dice_for_one(self) -> None:
        """A single server needs no random number."""
        def dice(n: int) -> bytes:
            raise AssertionError("asked for entropy")

        self.assertEqual(by_priority([Srv(1, 1, 1, "a"), Srv(2, 1, 1, "b")], dice)[1].target, "b")

    def test_hops_of(self) -> None:
        """Each hop once, and no more than the bound."""
        one, two = Hop("udp", "192.0.2.1", 5060), Hop("udp", "192.0.2.2", 5060)
        choices = [Choice(0, 0, (one, two)), Choice(1, 0, (two, one))]
        self.assertEqual(hops_of(choices, bytes), [one, two])
        many = [Choice(n, 0, (Hop("udp", f"192.0.2.{n}", 5060),)) for n in range(100)]
        self.assertEqual(len(hops_of(many, bytes)), MAX_HOPS)

    @given(st.lists(st.builds(Srv, st.integers(0, 3), st.integers(0, 65535), st.just(1), st.text(max_size=3))),
           st.randoms(use_true_random=False))
    @settings(deadline=None)
    def test_permutation(self, records: list[Srv], dice: random.Random) -> None:
        """Whatever the dice, the order is a permutation, sorted by priority."""
        ordered = by_priority(records, dice.randbytes)
        self.assertEqual(sorted(ordered), sorted(records))
        self.assertEqual([r.priority for r in ordered], sorted(r.priority for r in records))
