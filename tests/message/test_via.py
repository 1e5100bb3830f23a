"""Via values."""

from __future__ import annotations

from hypothesis import given
from twisted.trial.unittest import TestCase

from sipd.message.errors import MalformedMessage
from sipd.message.params import parse_params
from sipd.message.via import Via
from tests.support.properties import check, hostile_text

READ = [
    # value, transport, host, port, branch, parameters
    ("SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776", "UDP", "pc33.atlanta.com", None, "z9hG4bK776", {"branch": "z9hG4bK776"}),
    ("SIP/2.0/tcp 192.0.2.1:5061 ; Branch = z9hG4bKa", "TCP", "192.0.2.1", 5061, "z9hG4bKa", {"branch": "z9hG4bKa"}),
    ("SIP / 2.0 / UDP first.example.com: 4000;ttl=16 ;maddr=224.2.0.1 ;branch=z9hG4bKa7", "UDP", "first.example.com", 4000,
     "z9hG4bKa7", {"ttl": "16", "maddr": "224.2.0.1", "branch": "z9hG4bKa7"}),
    ("SIP/2.0/TLS [2001:db8::9:1]:5061;received=2001:db8::9:255;branch=z9hG4bK87", "TLS", "[2001:db8::9:1]", 5061,
     "z9hG4bK87", {"received": "2001:db8::9:255", "branch": "z9hG4bK87"}),
    ("SIP/2.0/UDP a;rport;branch=z9", "UDP", "a", None, "z9", {"rport": None, "branch": "z9"}),
    ("SIP/2.0/UDP a;branch=z9;rport", "UDP", "a", None, "z9", {"branch": "z9", "rport": None}),
    ("SIP/2.0/UDP a;branch=;rport", "UDP", "a", None, "", {"branch": "", "rport": None}),
    ("SIP/2.0/UDP a;branch=1;branch=2;rport", "UDP", "a", None, "1", {"branch": "1", "rport": None}),
    ("SIP/2.0/UDP a;branch=1;x;rport", "UDP", "a", None, "1", {"branch": "1", "x": None, "rport": None}),
    ("SIP/2.0/UDP a", "UDP", "a", None, "", {}),
    ("SIP/2.0/UDP a;branch=", "UDP", "a", None, "", {"branch": ""}),
    ('SIP/2.0/UNKNOWN a;x="y;branch=no";branch=yes', "UNKNOWN", "a", None, "yes", {"x": '"y;branch=no"', "branch": "yes"}),
    ("SIP/7.0/UDP a;branch=z9", "UDP", "a", None, "z9", {"branch": "z9"}),
    ("SIP/2.0/UDP my_host.local;branch=z9", "UDP", "my_host.local", None, "z9", {"branch": "z9"}),
    ("SIP/2.0/UDP a;branch=1;branch=2", "UDP", "a", None, "1", {"branch": "1"}),
]

BROKEN = [
    "", "SIP/2.0/UDP", "SIP/2.0 a", "UDP a", "SIP/2.0/UDP a:0", "SIP/2.0/UDP a:65536", "SIP/2.0/UDP a:123456",
    "SIP/2.0/UDP a b", "SIP/2.0/UDP a;;branch=x", "SIP/2.0/UDP a;", "SIP/2.0/UDP a;=x", "SIP/2.0/UDP a,b", "\u017fIP/2.0/UDP a", "SIP/2.0/UDP \u212a",
    'SIP/2.0/UDP a;branch="x;rport', "SIP/2.0/UDP a;branch=x,y;rport", "SIP/2.0/UDP a;branch=x;", "SIP/2.0/UDP a;branch=x y;rport",
    "SIP/2.0/UDP [::1", "SIP/2.0/UDP \u00fc", "HTTP/1.1/TCP a", "SIP/2.0/UDP a;branch=x,y",
]


class ViaTests(TestCase):
    """Via."""

    def test_read(self) -> None:
        """Transport in upper case, host as written, parameters by name; the text is kept."""
        for value, transport, host, port, branch, params in READ:
            via = Via.parse(value)
            self.assertEqual((via.transport, via.host, via.port, via.branch, via.params), (transport, host, port, branch, params))
            self.assertEqual(via.text, value)

    def test_broken(self) -> None:
        """What is no Via is refused."""
        for value in BROKEN:
            self.assertRaises(MalformedMessage, Via.parse, value)

    def test_sent_by(self) -> None:
        """As transactions compare it: in lower case, the port only when it was written (s17.2.3)."""
        self.assertEqual(Via.parse("SIP/2.0/UDP Host.COM").sent_by, "host.com")
        self.assertEqual(Via.parse("SIP/2.0/UDP Host.COM:5060").sent_by, "host.com:5060")

    def test_usual(self) -> None:
        """A branch, alone or with a bare rport behind it, is read without all parameters, and means the same."""
        for params, usual in (
            ("branch=z9", True), ("branch=z9;rport", True), ("branch=;rport", True), ("branch=a=b;rport", True),
            ("branch= z9;rport", False), ("branch=z9\t;rport", False), ("branch=z9;rport=1", False), ("branch=z9;RPORT", False),
            ("rport;branch=z9", False), ("branch=z9;rport;x", False), ('branch="z;9";rport', False), ("Branch=z9", False),
            ("branch=z9;maddr=192.0.2.1", False), ("branch=z9;maddr", False),
        ):
            via = Via.parse(f"SIP/2.0/UDP a;{params}")
            read = parse_params(f";{params}")
            self.assertEqual((via.usual, via.branch, via.asks_port, via.maddr),
                             (usual, read["branch"], "rport" in read, read.get("maddr")), params)
            self.assertEqual(via.params, read, params)

    def test_quick_reads(self) -> None:
        """received and maddr, None where they are not."""
        via = Via.parse("SIP/2.0/UDP a;received=192.0.2.1;maddr=192.0.2.2")
        self.assertEqual((via.received, via.maddr), ("192.0.2.1", "192.0.2.2"))
        self.assertEqual((Via.parse("SIP/2.0/UDP a").received, Via.parse("SIP/2.0/UDP a").maddr), (None, None))

    @check
    @given(hostile_text)
    def test_only_malformed_escapes(self, text: str) -> None:
        """Hostile text is read or refused."""
        for value in (text, f"SIP/2.0/UDP {text}", f"SIP/2.0/UDP a{text}", f"SIP/2.0/UDP a;{text};branch=z9"):
            try:
                via = Via.parse(value)
            except MalformedMessage:
                continue
            self.assertEqual(Via.parse(via.text).params, via.params)
            self.assertTrue(via.port is None or 0 < via.port < 65536)
