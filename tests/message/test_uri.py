"""URIs: reading, writing, and the comparison of RFC 3261 s19.1.4."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from sipd.message.errors import MalformedMessage
from sipd.message.uri import Uri, escape, unescape, uri_of_aor
from tests.support.cases import shows
from tests.support.properties import check, hostile_text

#: s19.1.3 and relatives: text, then scheme, user, password, host, port.
READ = [
    ("sip:alice@atlanta.com", "sip", "alice", None, "atlanta.com", None),
    ("sip:alice:secretword@atlanta.com;transport=tcp", "sip", "alice", "secretword", "atlanta.com", None),
    ("sips:alice@atlanta.com?subject=project%20x&priority=urgent", "sips", "alice", None, "atlanta.com", None),
    ("sip:+1-212-555-1212:1234@gateway.com;user=phone", "sip", "+1-212-555-1212", "1234", "gateway.com", None),
    ("sip:1212@gateway.com", "sip", "1212", None, "gateway.com", None),
    ("sip:alice@192.0.2.4:5070", "sip", "alice", None, "192.0.2.4", 5070),
    ("sip:atlanta.com;method=REGISTER?to=alice%40atlanta.com", "sip", None, None, "atlanta.com", None),
    ("sip:alice;day=tuesday@atlanta.com", "sip", "alice;day=tuesday", None, "atlanta.com", None),
    ("SIP:Alice@Atlanta.COM", "sip", "Alice", None, "atlanta.com", None),
    ("sip:a@[2001:DB8::1]:5062;lr", "sip", "a", None, "[2001:db8::1]", 5062),
    ("sip:a:@b", "sip", "a", "", "b", None),
    ("sip:%00@host5", "sip", "%00", None, "host5", None),
    ("tel:+1-201-555-0123;phone-context=x", "tel", "+1-201-555-0123;phone-context=x", None, "", None),
    ("urn:service:sos", "urn", "service:sos", None, "", None),
]

BROKEN = [
    "", "alice", "sip:", "sip:@host", "sip:a@", "sip:a b@host", "sip:a@host name", "sip:a@host:", "sip:a@host:0",
    "sip:a@host:65536", "sip:a@host:999999", "sip:a@host;", "sip:a@host;;lr", "sip:a@host?", "sip:a@[::1", "sip:a@::1",
    "<sip:a@host>", "sip:a@host>", "sip:a@b@c", "sip:a@ho\u00dft", "1sip:a@b", ":a@b", "sip:a\x00b@host", "sip:a\tb@host",
    "tel:", "tel:1 2", "sip:a@host;lr=\x7f", "sip:\"a\"@host", "sip:a@host,b",
]

#: s19.1.4, its own examples first.
EQUIVALENT = [
    ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtlanTa.CoM;Transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
    ("sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
     "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com"),
    ("sip:alice@atlanta.com?subject=project%20x&priority=urgent",
     "sip:alice@atlanta.com?priority=urgent&subject=project%20x"),
    ("SIPS:a@host", "sips:a@HOST"),
    ("sip:a@host;lr", "sip:a@host;LR"),
    ("sip:a:%70w@host", "sip:a:pw@host"),
    ("sip:a%2Bb@host", "sip:a%2bb@host"),
    ("tel:+123", "tel:+123"),
]
DIFFERENT = [
    ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
    ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
    ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
    ("sip:a@host", "sips:a@host"),
    ("sip:a@host", "sip:host"),
    ("sip:a@host", "sip:a:@host"),
    ("sip:a@host;user=phone", "sip:a@host"),
    ("sip:a@host;ttl=1", "sip:a@host"),
    ("sip:a@host;method=INVITE", "sip:a@host"),
    ("sip:a@host;maddr=192.0.2.1", "sip:a@host"),
    ("sip:a%2Bb@host", "sip:a+b@host"),  # "+" is reserved: its escape is another name
    ("sip:a%253Bb@host", "sip:a%3Bb@host"),  # the escape of "%" makes no escape
    ("sip:a@host?a=b", "sip:a@host?a=c"),
    ("tel:+123", "tel:+124"),
]


class UriTests(TestCase):
    """Uri."""

    def test_read(self) -> None:
        """The parts of a URI are what the RFC says they are, and writing gives the text again."""
        for text, scheme, user, password, host, port in READ:
            uri = Uri.parse(text)
            self.assertEqual((uri.scheme, uri.user, uri.password, uri.host, uri.port), (scheme, user, password, host, port), text)
            self.assertEqual(str(uri).lower(), text.lower())
            self.assertEqual(Uri.parse(str(uri)), uri)

    @shows("R3261-19.1.1-01", "R3261-19.1.2-02")
    def test_broken(self) -> None:
        """What is no URI is refused with 400."""
        for text in BROKEN:
            error = self.assertRaises(MalformedMessage, Uri.parse, text)
            self.assertEqual(error.status, 400, text)

    def test_long(self) -> None:
        """A URI too long to be kept is read all the same."""
        text = f"sip:{'a' * 5000}@host;p={'b' * 5000}"
        self.assertEqual(str(Uri.parse(text)), text)

    @shows("R3261-19.1.4-01")
    def test_equivalent(self) -> None:
        """s19.1.4: these are the same, seen from either side."""
        for one, other in EQUIVALENT:
            self.assertTrue(Uri.parse(one).equivalent(Uri.parse(other)), (one, other))
            self.assertTrue(Uri.parse(other).equivalent(Uri.parse(one)), (one, other))

    @shows("R3261-19.1.4-01")
    def test_different(self) -> None:
        """s19.1.4: these are not."""
        for one, other in DIFFERENT:
            self.assertFalse(Uri.parse(one).equivalent(Uri.parse(other)), (one, other))
            self.assertFalse(Uri.parse(other).equivalent(Uri.parse(one)), (one, other))

    def test_not_transitive(self) -> None:
        """s19.1.4: two URIs may each equal a third and not one another."""
        plain, on, off = (Uri.parse(f"sip:carol@chicago.com{text}") for text in ("", ";security=on", ";security=off"))
        self.assertTrue(plain.equivalent(on) and plain.equivalent(off))
        self.assertFalse(on.equivalent(off))

    def test_params(self) -> None:
        """Parameters by name: their value, "" without one, None when they are not there."""
        uri = Uri.parse("sip:a@host;transport=tcp;LR;x=%41")
        self.assertEqual([uri.param(name) for name in ("transport", "lr", "x", "y")], ["tcp", "", "%41", None])

    def test_parts(self) -> None:
        """The host without brackets, the user without escapes, whether it is a SIP URI."""
        uri = Uri.parse("sip:%61%2540%C3%BC@[::1]")
        self.assertEqual((uri.address, uri.unescaped_user(), uri.is_sip), ("::1", "a%40\u00fc", True))
        self.assertFalse(Uri.parse("tel:1").is_sip)
        self.assertEqual(Uri.parse("sip:host").unescaped_user(), "")

    def test_escape(self) -> None:
        """A name becomes a user part, and the name again; no line and no bracket comes out of it."""
        names = ("1001", "front.desk", "j\u00e4s#n", "a%b", "a b", "<a>\r\n", "b\udcff", "*8;x=1")
        self.assertEqual([escape(name) for name in names], [
            "1001", "front.desk", "j%C3%A4s%23n", "a%25b", "a%20b", "%3Ca%3E%0D%0A", "b%FF", "*8;x=1"])
        self.assertEqual([Uri.parse(uri_of_aor(f"{name}@[::1]")).unescaped_user() for name in names], list(names))

    def test_unescape(self) -> None:
        """s19.1.2: once, and only what is an escape."""
        for text, plain in (("a%41b", "aAb"), ("%2541", "%41"), ("100%", "100%"), ("%zz%4", "%zz%4"), ("%FF", "\udcff")):
            self.assertEqual(unescape(text), plain)

    @check
    @given(hostile_text)
    def test_only_malformed_escapes(self, text: str) -> None:
        """Whatever is read, nothing but MalformedMessage comes out, and what was read can be written and read again."""
        for form in (text, f"sip:{text}", f"sip:{text}@host", f"sip:a@{text}", f"sip:a@host;{text}", f"sip:a@h?{text}"):
            try:
                uri = Uri.parse(form)
            except MalformedMessage:
                continue
            self.assertEqual(Uri.parse(str(uri)), uri)
            self.assertTrue(uri.equivalent(Uri.parse(str(uri))))
            uri.unescaped_user()

    @check
    @given(st.sampled_from([pair[0] for pair in EQUIVALENT + DIFFERENT]),
           st.sampled_from([pair[1] for pair in EQUIVALENT + DIFFERENT]))
    def test_symmetric(self, one: str, other: str) -> None:
        """The comparison does not depend on who asks."""
        left, right = Uri.parse(one), Uri.parse(other)
        self.assertEqual(left.equivalent(right), right.equivalent(left))
