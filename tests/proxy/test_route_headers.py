"""Route preprocessing, Record-Route and the next hop (RFC 3261 s16.4, s16.6; RFC 5658)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.address import Address
from sipd.message.errors import MalformedMessage
from sipd.message.message import Request
from sipd.message.parser import parse
from sipd.proxy.route_headers import RouteHeaders, Routing, next_hop
from sipd.proxy.token import RouteToken
from sipd.transport.listener import Listener

UDP, TCP = Listener("udp", "192.0.2.1", 5060), Listener("tcp", "2001:db8::1", 5060)
TLS = Listener("tls", "192.0.2.1", 5061)
CALL = "c1"


def request(*lines: str, uri: str = "sip:b@192.0.2.20", to_tag: str = ";tag=callee", from_tag: str = "caller") -> Request:
    """A BYE with these header lines."""
    text = "\r\n".join([f"BYE {uri} SIP/2.0", "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK2",
                        f"From: <sip:a@example.com>;tag={from_tag}", f"To: <sip:b@example.com>{to_tag}",
                        f"Call-ID: {CALL}", "CSeq: 1 BYE", *lines, "", ""])
    message = parse(text.encode())
    assert isinstance(message, Request)
    return message


class Preprocess(TestCase):
    """s16.4."""

    def setUp(self) -> None:
        """A server at example.com and two addresses."""
        self.token = RouteToken(b"0123456789abcdef")
        self.routes = RouteHeaders(self.token, self.is_ours)
        for listener in (UDP, TCP):
            self.routes.know(listener)
        self.asked: list[str] = []
        self.good = self.token.make(CALL, "caller", "", "~flow-7")

    def is_ours(self, host: str, port: int | None) -> bool:
        """What Places would say."""
        self.asked.append(host)
        return host in ("example.com", "192.0.2.1", "[2001:db8::1]") and port in (None, 5060)

    def process(self, message: Request) -> Routing:
        """Preprocesses; what is left in the message is what the result says."""
        found = self.routes.preprocess(message)
        self.assertEqual(message.values("route"), found.routes)
        self.assertEqual("route" in message.first, bool(found.routes))
        return found

    def test_no_route(self) -> None:
        """Nothing to do."""
        found = self.process(request())
        self.assertEqual((found.direction, found.routes), (None, []))

    def test_our_own_text(self) -> None:
        """What we wrote is known by its text, nobody is asked; its token tells the way."""
        found = self.process(request(f"Route: {self.routes.record_route(self.good, False, UDP, UDP)[0]}"))
        self.assertEqual((found.direction, found.routes), (("flow-7", True, ""), []))
        self.assertEqual(self.asked, [])

    def test_written_otherwise(self) -> None:
        """The same URI as another element may have rewritten it."""
        for value in (f"<sip:{self.good}@192.0.2.1;lr>", f"<SIP:{self.good}@192.0.2.1:5060;lr;transport=udp>",
                      f'"us" <sip:{self.good}@EXAMPLE.com;lr=on>;x=1'):
            found = self.process(request(f"Route: {value}, <sip:next.example.net;lr>"))
            self.assertEqual((found.direction, found.routes), (("flow-7", True, ""), ["<sip:next.example.net;lr>"]), value)

    def test_two_of_ours(self) -> None:
        """RFC 5658: both values of a double Record-Route go, in one line or two."""
        both = self.routes.record_route(self.good, False, TCP, UDP)
        self.assertEqual(len(both), 2)
        for lines in ([f"Route: {both[0]}, {both[1]}"], [f"Route: {both[1]}", f"Route: {both[0]}"]):
            found = self.process(request(*lines, "Route: <sip:next.example.net;lr>"))
            self.assertEqual((found.direction, found.routes), (("flow-7", True, ""), ["<sip:next.example.net;lr>"]))

    def test_ours_after_somebody_elses(self) -> None:
        """Only what stands on top is taken off."""
        value = f"<sip:next.example.net;lr>, <sip:{self.good}@192.0.2.1:5060;lr>"
        found = self.process(request(f"Route: {value}"))
        self.assertEqual((found.direction, len(found.routes)), (None, 2))

    def test_no_rights(self) -> None:
        """No token, a forged one, one of another dialog, or a request in no dialog: the value goes, the rights do not
        come."""
        for user in ("", "forged@", "0" * 16 + "@", f"{self.token.make('other', 'caller')}@"):
            found = self.process(request(f"Route: <sip:{user}192.0.2.1:5060;lr>"))
            self.assertEqual((found.direction, found.routes), (None, []), user)
        found = self.process(request(f"Route: <sip:{self.good}@192.0.2.1:5060;lr>", to_tag=""))
        self.assertIsNone(found.direction)

    def test_other_port(self) -> None:
        """A phone at our address is not us."""
        found = self.process(request(f"Route: <sip:{self.good}@192.0.2.1:5070;lr>"))
        self.assertEqual((found.direction, len(found.routes)), (None, 1))

    def test_empty(self) -> None:
        """A Route line without a value is none, whatever the Request-URI is."""
        for uri in ("sip:b@192.0.2.20", "sip:192.0.2.1;lr"):
            for line in ("Route:", "Route: ,", "Route: , ,"):
                message = request(line, uri=uri)
                found = self.process(message)
                self.assertEqual((found.routes, message.uri_text), ([], uri))

    def test_strict_router_before_us(self) -> None:
        """Our URI in the Request-URI: the last Route value takes its place, and the token counts."""
        message = request("Route: <sip:next.example.net;lr>, <sip:b@192.0.2.20;x=1>",
                          uri=f"sip:{self.good}@192.0.2.1:5060;lr")
        found = self.process(message)
        self.assertEqual(message.uri_text, "sip:b@192.0.2.20;x=1")
        self.assertEqual((found.direction, found.routes), (("flow-7", True, ""), ["<sip:next.example.net;lr>"]))

    def test_not_a_strict_router(self) -> None:
        """Our own address as Request-URI without lr is a plain target."""
        message = request("Route: <sip:next.example.net;lr>", uri="sip:b@192.0.2.1:5060")
        self.process(message)
        self.assertEqual(message.uri_text, "sip:b@192.0.2.1:5060")

    def test_maddr(self) -> None:
        """s16.4: a maddr that is us goes with what led here by it; somebody else's stays."""
        message = request(uri="sip:b@example.net;maddr=192.0.2.1;transport=tcp;x=1")
        self.process(message)
        self.assertEqual(message.uri_text, "sip:b@example.net;x=1")
        message = request(uri="sip:b@example.net;maddr=192.0.2.2;transport=tcp")
        self.process(message)
        self.assertEqual(message.uri_text, "sip:b@example.net;maddr=192.0.2.2;transport=tcp")

    def test_malformed(self) -> None:
        """A Route that cannot be read is the sender's fault."""
        for value in ("<sip:>", "<sip:a@b", "sip:a@[::1;lr", "\x01"):
            self.assertRaises(MalformedMessage, self.routes.preprocess, request(f"Route: {value}"))

    def test_record_route(self) -> None:
        """s16.6 step 4: a SIP URI with lr; sips on a side that has TLS; for two sides the outgoing one on top."""
        self.assertEqual(self.routes.record_route("t", False, UDP, UDP), ["<sip:t@192.0.2.1:5060;lr>"])
        self.assertEqual(self.routes.record_route("t", False, UDP, TCP),
                         ["<sip:t@[2001:db8::1]:5060;transport=tcp;lr>", "<sip:t@192.0.2.1:5060;lr>"])
        self.assertEqual(self.routes.record_route("t", True, TLS, TLS), ["<sips:t@192.0.2.1:5061;lr>"])
        for value in self.routes.record_route("t", False, TCP, UDP):
            self.assertEqual(Address.parse(value).uri.param("lr"), "")


class NextHop(TestCase):
    """s16.6 steps 6 and 7."""

    def test_request_uri(self) -> None:
        """Without Route it is the Request-URI."""
        self.assertEqual(str(next_hop(request())), "sip:b@192.0.2.20")

    def test_loose(self) -> None:
        """With one it is that, and nothing changes."""
        message = request("Route: <sip:next.example.net;lr>, <sip:last.example.net;lr>")
        before = message.encode()
        self.assertEqual(str(next_hop(message)), "sip:next.example.net;lr")
        self.assertEqual(message.encode(), before)

    def test_strict(self) -> None:
        """A strict router gets itself as Request-URI; the rest follows in Route, the real target last."""
        message = request("Route: <sip:next.example.net;x=1>, <sip:last.example.net;lr>")
        self.assertEqual(str(next_hop(message)), "sip:next.example.net;x=1")
        self.assertEqual(message.uri_text, "sip:next.example.net;x=1")
        self.assertEqual(message.values("route"), ["<sip:last.example.net;lr>", "<sip:b@192.0.2.20>"])

    def test_no_sip(self) -> None:
        """A Route of another scheme leads nowhere, and the message stays as it was."""
        message = request("Route: <tel:+1>")
        before = message.encode()
        self.assertRaises(MalformedMessage, next_hop, message)
        self.assertEqual(message.encode(), before)
