"""Via marking and the way of responses (RFC 3261 s18.2, RFC 3581)."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from sipd.flow import Flow
from sipd.message.hop import Hop
from sipd.message.message import Request
from sipd.message.parser import parse
from sipd.message.via import Via
from sipd.transport.via_rules import is_unicast, mark, response_hop
from tests.support.cases import shows
from tests.support.network import MemoryNetwork


def request(via: str, more: str = "") -> Request:
    """An OPTIONS with this topmost Via value, and a second Via line in `more`."""
    message = parse((
        f"OPTIONS sip:example.com SIP/2.0\r\nMax-Forwards: 70\r\nVia: {via}\r\n{more}"
        "From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\nCall-ID: 1\r\n"
        "CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n").encode())
    assert isinstance(message, Request)
    return message


class ViaTests(TestCase):
    """Requests over UDP from 192.0.2.10 port 40000, unless a test says otherwise."""

    def setUp(self) -> None:
        self.network = MemoryNetwork(Clock())
        self.transports = self.network.transports([
            ("udp", "192.0.2.1", 5060), ("udp", "2001:db8::1", 5060), ("tcp", "192.0.2.1", 5060)])
        flow = self.transports.flow_to(Hop("udp", "192.0.2.10", 40000))
        assert flow is not None
        self.flow: Flow = flow

    def marked(self, via: str, flow: Flow | None = None) -> str:
        """The first Via line after marking; the typed Via, `first` and the line must agree."""
        message = request(via)
        assert message.via is not None
        self.assertNotIn("nobody", message.via.params)  # read before: what was kept of that is not kept on
        mark(message, flow or self.flow)
        [line] = [header for header in message.headers if header[0] == "via"]
        self.assertEqual(line[1], message.first["via"])
        self.assertEqual(line[2], f"Via: {line[1]}")
        self.assertEqual(message.via.text, line[1])
        self.assertEqual(Via.parse(line[1]).params, message.via.params)
        return line[1]

    @shows("TRN-01", "18.2.1")
    def test_received(self) -> None:
        """A sent-by other than the source, a host name included, gets received; the source itself gets nothing."""
        for via, wanted in (
            ("SIP/2.0/UDP 192.0.2.10:40000;branch=z9hG4bK1", "SIP/2.0/UDP 192.0.2.10:40000;branch=z9hG4bK1"),
            ("SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK1", "SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK1"),
            ("SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1", "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1;received=192.0.2.10"),
            ("SIP/2.0/UDP phone.example.com;branch=z9hG4bK1",
             "SIP/2.0/UDP phone.example.com;branch=z9hG4bK1;received=192.0.2.10"),
            ("SIP/2.0/UDP phone.example.com", "SIP/2.0/UDP phone.example.com;received=192.0.2.10"),
        ):
            self.assertEqual(self.marked(via), wanted)

    @shows("TRN-02", "18.2.1")
    def test_rport(self) -> None:
        """rport gets the source port in its place, and received is there even when it equals sent-by."""
        for via, wanted in (
            ("SIP/2.0/UDP 192.0.2.10:40000;branch=z9hG4bK1;rport",
             "SIP/2.0/UDP 192.0.2.10:40000;branch=z9hG4bK1;rport=40000;received=192.0.2.10"),
            ("SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1;rport;x",
             "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1;rport=40000;x;received=192.0.2.10"),
            ("SIP/2.0/UDP 192.0.2.10:40000;rport;branch=z9hG4bK1",
             "SIP/2.0/UDP 192.0.2.10:40000;rport=40000;branch=z9hG4bK1;received=192.0.2.10"),
            ("SIP/2.0/UDP 10.0.0.1 ; branch=z9hG4bK1 ; RPORT",
             "SIP/2.0/UDP 10.0.0.1 ; branch=z9hG4bK1 ;rport=40000;received=192.0.2.10"),
        ):
            self.assertEqual(self.marked(via), wanted)

    def test_a_sender_is_not_believed(self) -> None:
        """received and rport that the sender wrote are replaced or dropped; text in quotes stays whole."""
        for via, wanted in (
            ("SIP/2.0/UDP 192.0.2.10;received=198.51.100.1;branch=z9hG4bK1", "SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK1"),
            ("SIP/2.0/UDP 10.0.0.1;received=198.51.100.1;rport=1;branch=z9hG4bK1",
             "SIP/2.0/UDP 10.0.0.1;rport=40000;branch=z9hG4bK1;received=192.0.2.10"),
            ('SIP/2.0/UDP 10.0.0.1;x="a;rport;received=1";branch=z9hG4bK1',
             'SIP/2.0/UDP 10.0.0.1;x="a;rport;received=1";branch=z9hG4bK1;received=192.0.2.10'),
        ):
            self.assertEqual(self.marked(via), wanted)

    def test_only_the_topmost(self) -> None:
        """Further values of the line and further lines stay as they are."""
        message = request("SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1, SIP/2.0/UDP 10.0.0.2;rport;branch=z9hG4bK0",
                          "Via: SIP/2.0/TCP 10.0.0.3;rport\r\n")
        mark(message, self.flow)
        self.assertEqual(message.values("via"), [
            "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1;received=192.0.2.10", "SIP/2.0/UDP 10.0.0.2;rport;branch=z9hG4bK0",
            "SIP/2.0/TCP 10.0.0.3;rport"])

    def test_ipv6(self) -> None:
        """Brackets around sent-by make no difference, and received has none (RFC 3261 s25.1)."""
        flow = self.transports.flow_to(Hop("udp", "2001:db8::5", 5060))
        self.assertEqual(self.marked("SIP/2.0/UDP [2001:db8::5];branch=z9hG4bK1", flow),
                         "SIP/2.0/UDP [2001:db8::5];branch=z9hG4bK1")
        self.assertEqual(self.marked("SIP/2.0/UDP [2001:db8::6];branch=z9hG4bK1", flow),
                         "SIP/2.0/UDP [2001:db8::6];branch=z9hG4bK1;received=2001:db8::5")

    def answered(self, via: str, flow: Flow | None = None) -> Hop | None:
        """Where the response to a request with this Via goes."""
        message = request(via)
        mark(message, flow or self.flow)
        assert message.via is not None
        return response_hop(message.via, flow or self.flow)

    @shows("TRN-01", "18.2.2", "R3261-18.2.2-01", "R3261-18.2.2-05")
    def test_responses_over_udp(self) -> None:
        """To the source and the port of sent-by; with rport to the source port; maddr before both."""
        for via, wanted in (
            ("SIP/2.0/UDP 192.0.2.10:40000", None),
            ("SIP/2.0/UDP 192.0.2.10:5070", Hop("udp", "192.0.2.10", 5070)),
            ("SIP/2.0/UDP 10.0.0.1:5070", Hop("udp", "192.0.2.10", 5070)),
            ("SIP/2.0/UDP 10.0.0.1", Hop("udp", "192.0.2.10", 5060)),
            ("SIP/2.0/UDP 10.0.0.1:5070;rport", None),
            ("SIP/2.0/UDP 10.0.0.1:5070;rport;maddr=192.0.2.77", Hop("udp", "192.0.2.77", 5070)),
            ("SIP/2.0/UDP 10.0.0.1;maddr=[2001:db8::7]", Hop("udp", "2001:db8::7", 5060)),
        ):
            self.assertEqual(self.answered(via), wanted)

    def test_no_amplifier(self) -> None:
        """A maddr that is no single host is passed over: the source is answered."""
        for maddr in ("224.0.1.75", "255.255.255.255", "0.0.0.0", "[ff02::1]", "name.example.com", "",
                      "[fe80::1%lo]", "fe80::1%" + "x" * 40000):
            self.assertIsNone(self.answered(f"SIP/2.0/UDP 10.0.0.1;rport;maddr={maddr}" if maddr else
                                            "SIP/2.0/UDP 10.0.0.1;rport;maddr"))
        self.assertTrue(is_unicast("192.0.2.1"))

    @shows("TRN-08", "18.2.2", "R3261-18.2.2-03")
    def test_responses_over_streams(self) -> None:
        """The same connection; once it is gone, a new one to the source address and the port of sent-by."""
        connection = self.network.endpoint("tcp", "192.0.2.10", 40000).connect(("192.0.2.1", 5060))
        flow = connection.flow
        for via, port in (("SIP/2.0/TCP 10.0.0.1:5070;rport", 5070), ("SIP/2.0/TCP 10.0.0.1", 5060)):
            flow.alive = True
            self.assertIsNone(self.answered(via, flow))
            flow.alive = False
            self.assertEqual(self.answered(via, flow), Hop("tcp", "192.0.2.10", port))
