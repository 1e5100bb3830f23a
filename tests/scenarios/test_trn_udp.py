"""Responses over UDP: where they go, and from where (RFC 3261 s18.2, RFC 3581)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.support.cases import shows
from tests.support.network import Endpoint
from tests.support.rig import SERVER, Rig, established

OTHER = "192.0.2.2"


class UdpTests(TestCase):
    """OPTIONS to the server, and calls, with all kinds of Via."""

    def setUp(self) -> None:
        self.rig = Rig(listen=(("udp", SERVER, 5060), ("udp", OTHER, 5062), ("udp", "2001:db8::1", 5060)))

    def options(self, source: Endpoint, via: str, to: tuple[str, int] = (SERVER, 5060), number: int = 1) -> None:
        """Sends an OPTIONS from `source` with this Via."""
        source.send("\r\n".join([
            "OPTIONS sip:example.com SIP/2.0", f"Via: {via}", "From: <sip:1001@example.com>;tag=1",
            "To: <sip:example.com>", f"Call-ID: c{number}", "CSeq: 1 OPTIONS", "Max-Forwards: 70", "", ""]).encode(), to)

    def got(self, where: Endpoint, via: str, server: tuple[str, int] = (SERVER, 5060)) -> None:
        """One 200 has arrived there, with that Via, from that address of the server."""
        self.assertEqual(len(where.received), 1, self.rig.ladder())
        self.assertTrue(where.received[0].startswith(b"SIP/2.0 200 "))
        self.assertIn(f"\r\nVia: {via}\r\n".encode(), where.received[0])
        self.assertEqual(where.sources, [server])

    @shows("TRN-01", "18.2.2", "R3261-18.2.1-03", "R3261-18.2.1-04", "R3261-18.2.1-05", "R3261-18.2.2-07")
    def test_received(self) -> None:
        """Sent-by names another host: received is added; the answer goes to the source, at the port of sent-by."""
        for number, (sent_by, port) in enumerate((("phone.example.net:5070", 5070), ("10.0.0.1", 5060), ("203.0.113.9:5071", 5071))):
            address = f"198.51.100.{number + 1}"
            place = self.rig.network.endpoint("udp", address, port)
            source = self.rig.network.endpoint("udp", address, 40000)
            self.options(source, f"SIP/2.0/UDP {sent_by};branch=z9hG4bK{number}", number=number)
            self.got(place, f"SIP/2.0/UDP {sent_by};branch=z9hG4bK{number};received={address}")
            self.assertEqual(source.received, [])
        self.rig.finish()

    def test_no_received(self) -> None:
        """Sent-by is the source: nothing is added."""
        place = self.rig.network.endpoint("udp", "198.51.100.1", 5060)
        self.options(place, "SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK1")
        self.got(place, "SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK1")

    @shows("TRN-02", "3581 4", "R3581-4-01", "R3581-4-02", "R3581-4-03", "R3581-4-04")
    def test_rport(self) -> None:
        """rport: filled in, with received; the answer goes to the source port, from the socket it was sent to."""
        for number, (server, shown) in enumerate((((SERVER, 5060), "198.51.100.1"), ((OTHER, 5062), "198.51.100.2"))):
            source = self.rig.network.endpoint("udp", shown, 40001)
            sent_by = shown if number else "10.0.0.1:5060"
            self.options(source, f"SIP/2.0/UDP {sent_by};rport;branch=z9hG4bK{number}", server, number)
            self.got(source, f"SIP/2.0/UDP {sent_by};rport=40001;branch=z9hG4bK{number};received={shown}", server)
        self.rig.finish()

    @shows("TRN-02", "18.2.1", "R3261-18.2.1-05")
    def test_ipv6(self) -> None:
        """The same over IPv6; received has no brackets."""
        source = self.rig.network.endpoint("udp", "2001:db8::9", 40001)
        self.options(source, "SIP/2.0/UDP [2001:db8::77]:5060;branch=z9hG4bK1;rport", ("2001:db8::1", 5060))
        self.got(source, "SIP/2.0/UDP [2001:db8::77]:5060;branch=z9hG4bK1;rport=40001;received=2001:db8::9",
                 ("2001:db8::1", 5060))

    @shows("R3261-18.2.1-05")
    def test_claims(self) -> None:
        """s18.2.1: what a sender says of its own source is not believed: nobody else is sent the answer."""
        victim = self.rig.network.endpoint("udp", "203.0.113.66", 5060)
        source = self.rig.network.endpoint("udp", "198.51.100.1", 5060)
        self.options(source, "SIP/2.0/UDP 198.51.100.1;received=203.0.113.66;rport=9;branch=z9hG4bK1")
        self.got(source, "SIP/2.0/UDP 198.51.100.1;rport=5060;branch=z9hG4bK1;received=198.51.100.1")
        self.assertEqual(victim.received, [])

    @shows("TRN-01", "17.1.1.3")
    def test_refusal(self) -> None:
        """A refusal without state finds its way as any other answer does, and so does one to what cannot be read."""
        source = self.rig.network.endpoint("udp", "198.51.100.1", 40001)
        self.options(source, "SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bK1;")
        self.assertEqual(len(source.received), 0)
        source.send(b"MESSAGE sip:nobody@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bK2\r\n"
                    b"From: <sip:1001@example.com>;tag=1\r\nTo: <sip:n@example.com>\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\n\r\n",
                    (SERVER, 5060))
        source.send(b"MESSAGE sip:nobody@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bK3\r\n"
                    b"From: <sip:1001@example.com>;tag=1\r\nTo: <sip:n@example.com\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\n\r\n",
                    (SERVER, 5060))
        self.assertEqual([data.split(b" ")[1] for data in source.received], [b"404", b"400"])
        self.rig.finish()

    @shows("TRN-19", "18.2.2")
    def test_two_addresses(self) -> None:
        """A phone that came to one of our addresses hears of that one only: answers, calls, and what follows in them."""
        for first, second in (((SERVER, 5060), (OTHER, 5062)), ((OTHER, 5062), (SERVER, 5060)), ((OTHER, 5062), (OTHER, 5062))):
            rig = Rig(listen=(("udp", SERVER, 5060), ("udp", OTHER, 5062)))
            a, b = rig.phone("1001"), rig.phone("1002")
            a.server, b.server = first, second
            b.register()
            _, got, sent, ok = established(a, b)
            a.in_dialog("INFO", ok)
            b.answer(b.take("INFO"), 200)
            a.take(200)
            b.in_callee_dialog("BYE", got, sent)
            a.answer(a.take("BYE"), 200)
            b.take(200)
            assert a.endpoint is not None and b.endpoint is not None
            self.assertEqual((set(a.endpoint.sources), set(b.endpoint.sources)), ({first}, {second}), rig.ladder())
            rig.finish()

    @shows("TRN-12", "18.1.1", "R3261-18.1.1-03")
    def test_full_datagram(self) -> None:
        """A MESSAGE that fills a datagram reaches a phone over UDP whole, when it has no TCP."""
        a, b = self.rig.phone("1001"), self.rig.phone("1002")
        b.register()
        body = bytes(range(256)) * 236
        a.request("MESSAGE", "sip:1002@example.com", body=body)
        self.rig.advance(5.0)
        got = b.take("MESSAGE")
        self.assertEqual(got.body, body)
        b.answer(got, 200)
        b.drain()
        a.drain()

    @shows("R3261-18.3-01")
    def test_one_datagram_one_message(self) -> None:
        """s18.3: what stands behind Content-Length in a datagram is dropped, a request too."""
        source = self.rig.network.endpoint("udp", "198.51.100.1", 5060)
        one = (b"OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK%d\r\nFrom: <sip:x@y>;tag=1\r\n"
               b"To: <sip:example.com>\r\nCall-ID: c%d\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n")
        source.send(one % (1, 1) + one % (2, 2), (SERVER, 5060))
        self.assertEqual(len(source.received), 1)

    @shows("TRN-06", "5626 3.5.1")
    def test_keep_alive_datagrams(self) -> None:
        """Keep-alives and noise over UDP cost nothing and get nothing."""
        source = self.rig.network.endpoint("udp", "198.51.100.1", 5060)
        for data in (b"\r\n\r\n", b"\r\n", b"\x00" * 4, b"", b"\x00\x01\x00\x00\x21\x12\xa4\x42" + b"x" * 12, b"jaK"):
            source.send(data, (SERVER, 5060))
        self.assertEqual(source.received, [])
        self.rig.finish()
