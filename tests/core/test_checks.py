"""What every request is checked for before anybody asks who sent it."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.core import checks
from sipd.message.errors import MalformedMessage, Reject
from sipd.message.message import Request
from sipd.message.parser import parse
from tests.message.messages import message
from tests.support.cases import shows


def request(*lines: str, uri: str = "sip:bob@biloxi.com", without: str = "") -> Request:
    """A request with more lines."""
    found = parse(message(*lines, start=f"INVITE {uri} SIP/2.0", without=without))
    assert isinstance(found, Request)
    return found


class ChecksTests(TestCase):
    """checks."""

    def test_request_uri(self) -> None:
        """s16.3 steps 1 and 2: SIP, SIPS and tel pass."""
        for text in ("sip:bob@biloxi.com", "SIPS:bob@biloxi.com", "tel:+1234", "sip:biloxi.com;lr", "sip:b@[::1]"):
            self.assertEqual(str(checks.request_uri(request(uri=text))).lower(), text.lower())

    @shows("VAL-06", "16.3/2")
    def test_schemes(self) -> None:
        """Another scheme is 416, whatever follows it."""
        for text in ("mailto:bob@biloxi.com", "nobodyKnowsThisScheme:totallyopaquecontent", "soap.beep://192.0.2.103:3002",
                     "urn:service:sos", "x:", 'http:"quoted"'):
            error = self.assertRaises(Reject, checks.request_uri, request(uri=text))
            self.assertEqual(error.status, 416, text)

    def test_malformed_request_uri(self) -> None:
        """s19.1.1: what is no URI, or has headers, is 400."""
        for text in ("<sip:bob@biloxi.com>", "bob", "sip:", "sip:bob@biloxi.com?Route=%3Csip:x%3E", "sip:bob@biloxi.com?a=b",
                     "sip:a@b:0", "1:2", "\u00fc:x", ":x"):
            error = self.assertRaises(MalformedMessage, checks.request_uri, request(uri=text))
            self.assertEqual(error.status, 400, text)

    @shows("VAL-01", "R3261-16.3-05", "16.3/3")
    def test_hops_left(self) -> None:
        """s16.3 step 3: no hop left is 483; absent or unreadable counts as absent (4475 3.1.2.4)."""
        for text in ("0", "000", " 0 "):
            error = self.assertRaises(Reject, checks.hops_left, request(f"Max-Forwards: {text}", without="Max-Forwards:"))
            self.assertEqual(error.status, 483, text)
        for text in ("1", "70", "255", "300", "x", "-1", "0068", "\u0660"):
            checks.hops_left(request(f"Max-Forwards: {text}", without="Max-Forwards:"))
        checks.hops_left(request(without="Max-Forwards:"))

    @shows("VAL-04", "16.3/5")
    def test_proxy_require(self) -> None:
        """s16.3 step 5: 420 with every tag, in however many lines they come."""
        error = self.assertRaises(Reject, checks.proxy_require, request("Proxy-Require: foo, bar", "proxy-require: baz"))
        self.assertEqual((error.status, error.headers), (420, (("Unsupported", "foo, bar, baz"),)))
        checks.proxy_require(request("Require: foo"))

    @shows("REG-34", "8.2.2.3")
    def test_require(self) -> None:
        """s8.2.2.3: 420 with those nobody knows; tags are compared without regard to case."""
        supported = frozenset({"path"})
        error = self.assertRaises(Reject, checks.require, request("Require: PATH, 100rel", "Require: x"), supported)
        self.assertEqual((error.status, error.headers), (420, (("Unsupported", "100rel, x"),)))
        checks.require(request("Require: Path"), supported)
        checks.require(request(), supported)

    def test_contacts(self) -> None:
        """s20.10: a "?" outside brackets is 400 (4475 3.1.2.13)."""
        for line in ("m: sip:a@b?Route=x", "Contact: sip:a@b;q=1?x"):
            self.assertRaises(MalformedMessage, checks.contacts, request(line))
        for line in ("m: <sip:a@b?Route=x>", "m: sip:a@b", "m: *"):
            checks.contacts(request(line))
