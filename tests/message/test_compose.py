"""Responses and requests of our own."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message import compose
from sipd.message.errors import MalformedMessage
from sipd.message.message import Request
from sipd.message.parser import parse
from sipd.message.status import REASONS
from tests.message.messages import message
from tests.support.cases import shows


class ComposeTests(TestCase):
    """compose."""

    def setUp(self) -> None:
        found = parse(message("Via: SIP/2.0/UDP below;branch=z9hG4bK2", "Route: <sip:r;lr>", "Timestamp: 54", "Subject: x",
                              "Record-Route: <sip:rr;lr>", body=b"abc"))
        assert isinstance(found, Request)
        self.request = found

    @shows("R3261-8.2.6.2-01", "R3261-8.2.6.2-02", "R3261-8.2.6.2-03", "R3261-8.2.6.2-04", "R3261-8.2.6.2-05", "R3261-8.2.6.2-08")
    def test_response(self) -> None:
        """s8.2.6.2: Via, From, To, Call-ID and CSeq as they came, in their order, and nothing else; To gets our tag."""
        found = compose.response(self.request, 404, "", "ours", (("Warning", "399 x y"),))
        self.assertEqual(found.decode().split("\r\n"), [
            "SIP/2.0 404 Not Found", "Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776asdhds",
            "To: Bob <sip:bob@biloxi.com>;tag=ours", "From: Alice <sip:alice@atlanta.com>;tag=1928301774",
            "Call-ID: a84b4c76e66710@pc33.atlanta.com", "CSeq: 314159 INVITE", "Via: SIP/2.0/UDP below;branch=z9hG4bK2",
            "Warning: 399 x y", "Content-Length: 0", "", ""])
        self.assertEqual((parse(found).cseq, parse(found).to_tag), ((314159, "INVITE"), "ours"))

    @shows("R3261-8.2.6.2-06")
    def test_to_tag(self) -> None:
        """A To that has a tag keeps it; a 100 takes none (s8.2.6.2)."""
        tagged = parse(message("To: <sip:bob@biloxi.com>;tag=theirs", without="To:"))
        self.assertEqual(parse(compose.response(tagged, 200, "", "ours")).to_tag, "theirs")
        self.assertEqual(parse(compose.response(self.request, 100, "", "ours")).first["to"], "Bob <sip:bob@biloxi.com>")
        plain = parse(message("To: sip:bob@biloxi.com", without="To:"))
        self.assertEqual(parse(compose.response(plain, 200, "", "ours")).to_tag, "ours")
        folded = parse(message("To:\r\n Bob\r\n <sip:bob@biloxi.com>\r\n ", without="To:"))
        self.assertEqual(parse(compose.response(folded, 200, "", "ours")).to_tag, "ours")

    @shows("R3261-8.2.6.1-03")
    def test_timestamp(self) -> None:
        """s8.2.6.1: a 100 repeats the Timestamp, other responses do not."""
        self.assertEqual(parse(compose.trying(self.request)).get("timestamp"), "54")
        self.assertEqual(parse(compose.trying(self.request, 3.5)).get("timestamp"), "54 3.5")
        self.assertIsNone(parse(compose.response(self.request, 180, "", "ours")).get("timestamp"))
        plain = parse(message())
        self.assertEqual(compose.trying(plain), compose.response(plain, 100))

    def test_reason(self) -> None:
        """The usual phrase unless there is another."""
        self.assertEqual(parse(compose.response(self.request, 480)).start, "SIP/2.0 480 Temporarily Unavailable")
        self.assertEqual(parse(compose.response(self.request, 400, "No Good")).start, "SIP/2.0 400 No Good")
        self.assertEqual(compose.phrase(699), "Unknown")
        self.assertTrue(all(100 <= status <= 699 and reason for status, reason in REASONS.items()))

    def test_from_what_is_there(self) -> None:
        """A request without what it must have is answered from what it has (4475 3.3.1)."""
        error = self.assertRaises(MalformedMessage, parse, message(without="Call-ID:"))
        found = compose.response(error.message, 400, "No", "ours")
        self.assertEqual([line.partition(b":")[0] for line in found.split(b"\r\n")[1:-2]],
                         [b"Via", b"To", b"From", b"CSeq", b"Content-Length"])

    def test_request(self) -> None:
        """A request of our own can be read, typed as it would be when received."""
        made = compose.request("OPTIONS", "sip:a@b", [
            ("Via", "SIP/2.0/UDP us;branch=z9hG4bK1"), ("From", "<sip:us>;tag=1"), ("To", "<sip:a@b>"), ("Call-ID", "c"),
            ("CSeq", "7 OPTIONS")], b"body")
        again = parse(made.encode())
        self.assertEqual((again.headers, again.body, again.cseq), (made.headers, b"body", made.cseq))

    def test_hop_by_hop(self) -> None:
        """s17.1.1.3, s9.1: ACK and CANCEL have the INVITE's Request-URI, topmost Via alone, Route, From, Call-ID and CSeq
        number, and no body; To is the response's in an ACK."""
        for method, to in (("ACK", "Bob <sip:bob@biloxi.com>;tag=x"), ("CANCEL", "Bob <sip:bob@biloxi.com>")):
            made = parse(compose.hop_by_hop(self.request, method, to).encode())
            assert isinstance(made, Request)
            self.assertEqual((made.method, made.uri_text, made.cseq, made.first["to"], made.body),
                             (method, "sip:bob@biloxi.com", (314159, method), to, b""))
            self.assertEqual(made.all("via"), ["SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776asdhds"])
            for name in ("from", "call-id", "route"):
                self.assertEqual(made.all(name), self.request.all(name))
            self.assertEqual([made.get(name) for name in ("record-route", "subject", "max-forwards")], [None, None, "70"])
