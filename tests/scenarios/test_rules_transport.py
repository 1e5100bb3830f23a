"""The rules of the transport layer, one by one (RFC 3261 s18, RFC 3581), where no other scenario shows them."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.address import Address
from sipd.message.message import Request, Response
from sipd.message.parser import parse
from tests.support.cases import shows
from tests.support.rig import DOMAIN, LISTEN, SERVER, Phone, Rig, established
from tests.support.stream import Stream

#: Both families, and a second UDP port.
EVERYWHERE = (*LISTEN, ("udp", "192.0.2.2", 5062), ("udp", "2001:db8::1", 5060), ("tcp", "2001:db8::1", 5060),
              ("tls", "2001:db8::1", 5061))


def place_of(request: Request) -> tuple[str, int]:
    """Address and port in the sent-by of the topmost Via."""
    via = request.via
    assert via is not None and via.port is not None
    return via.host.strip("[]"), via.port


def bare(message: Request | Response) -> bytes:
    """The message as a sender writes it that leaves Content-Length out."""
    message.remove("content-length")
    return message.encode()


class Sent(TestCase):
    """s18.1.1: where requests leave from and where their responses are read."""

    @shows("R3261-18.1.1-11", "R3261-18.1.1-12", "R3261-18.1.2-02", "R3581-3-01", "R3581-3-02", "R3581-3-03")
    def test_udp(self) -> None:
        """A request leaves from the address and port of its sent-by, and its response is read there, wherever it comes
        from; our Via has no rport."""
        for address, listener in (("", (SERVER, 5060)), ("", ("192.0.2.2", 5062)), ("2001:db8::60", ("2001:db8::1", 5060))):
            rig = Rig(listen=EVERYWHERE)
            a, b = rig.phone("1001"), rig.phone("1002", address)
            b.server = listener
            b.register()
            a.request("MESSAGE", f"sip:1002@{DOMAIN}")
            got = b.take("MESSAGE")
            sent = next(packet for packet in rig.network.packets if packet.target == (b.address, 5060)
                        and packet.data.startswith(b"MESSAGE"))
            self.assertEqual((sent.source, place_of(got)), (listener, listener))
            self.assertNotIn("rport", got.via.params)
            elsewhere = rig.network.endpoint("udp", "2001:db8::77" if address else "203.0.113.5", 7777)
            elsewhere.send(b.answer(got, 200, send=False).encode(), place_of(got))
            a.take(200)
            rig.finish()

    @shows("R3261-18.1.1-07", "R3261-18.1.1-08", "R3261-18.1.1-09", "R3261-18.1.1-10")
    def test_streams(self) -> None:
        """The sent-by of a request over a connection that we opened names a listener of its transport: a response is
        read from that connection, and from a new one to that listener."""
        for transport, address in (("tcp", "192.0.2.60"), ("tls", "192.0.2.60"), ("tcp", "2001:db8::60"), ("tls", "2001:db8::60")):
            rig = Rig(listen=EVERYWHERE)
            a, b = rig.phone("1001"), rig.phone("1002", address, transport)
            acceptor = b.accept()
            rig.binding("1002", b.contact)
            a.invite("1002")
            rig.advance(0.1)
            a.take(100)
            got = parse(acceptor.received[0])
            assert isinstance(got, Request) and got.via is not None
            self.assertEqual(got.via.transport, transport.upper())
            acceptor.connections[0].send(b.answer(got, 180, send=False).encode())
            a.take(180)
            another = rig.network.endpoint(transport, address, 41000).connect(place_of(got))
            another.send(b.answer(got, 200, send=False).encode())
            a.take(200)
            rig.finish()

    @shows("R3261-18.1.1-05", "R3261-18.1.1-06", "R3261-18.1.1-13")
    def test_no_group(self) -> None:
        """A Request-URI, a maddr, a Route and a contact with a multicast address get nothing; the sender gets a final
        response at once."""
        rig = Rig(listen=EVERYWHERE)
        a = rig.phone("1001")
        for number, group in enumerate(("224.0.1.75", "[ff0e::75]")):
            rig.binding(f"100{number + 2}", f"sip:x@{group}")
            for uri, route in ((f"sip:x@{group}", ()), (f"sip:x@far.example;maddr={group};ttl=1", ()),
                               ("sip:x@192.0.2.99", (f"Route: <sip:{group};lr>",)), (f"sip:100{number + 2}@{DOMAIN}", ())):
                before = len(rig.network.packets)
                a.request("MESSAGE", uri, *route)
                rig.advance(0.1)
                self.assertGreaterEqual(a.take().status, 400)
                self.assertEqual({packet.target for packet in rig.network.packets[before:]}, {(SERVER, 5060), (a.address, 5060)})
        rig.finish()

    @shows("R3261-18.4-03")
    def test_refused_connection(self) -> None:
        """A connection that is refused or not answered ends the request before its transaction would time out."""
        for mode, seconds in (("refuse", 0.1), ("blackhole", 4.1)):
            rig = Rig()
            a = rig.phone("1001")
            rig.network.listen("tcp", "192.0.2.60", 5060, mode)
            rig.binding("1002", "sip:1002@192.0.2.60;transport=tcp")
            invite = a.invite("1002")
            a.take(100)
            rig.advance(seconds)
            a.ack(a.take(500), invite)
            rig.finish()


class Sizes(TestCase):
    """s18.1.1: what is too large for a datagram."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        self.b.register()

    @shows("R3261-18.1.1-01", "R3261-18.1.1-02")
    def test_bound(self) -> None:
        """1300 octets as we send it go by UDP, 1301 by TCP with TCP in the Via."""
        acceptor = self.rig.network.listen("tcp", self.b.address, 5060)
        self.a.request("MESSAGE", f"sip:1002@{DOMAIN}", body=b"x" * 100)
        self.b.answer(self.b.take("MESSAGE"), 200)
        self.a.take(200)
        room = 1300 - len(self.b.raw[-1]) + 100
        self.assertEqual(len(str(room)), 3)  # as many digits in Content-Length
        for size, transport in ((room, "UDP"), (room + 1, "TCP")):
            self.a.request("MESSAGE", f"sip:1002@{DOMAIN}", body=b"x" * size)
            self.rig.advance(0.1)
            data = acceptor.received[-1] if acceptor.received else self.b.raw[-1]
            self.assertEqual(len(data), 1300 + size - room)
            got = parse(data)
            assert isinstance(got, Request) and got.via is not None
            self.assertEqual(got.via.transport, transport)
            answer = self.b.answer(got, 200, send=False).encode()
            acceptor.connections[0].send(answer) if acceptor.connections else self.b.send(answer)
            self.a.take(200)
        self.b.drain()
        self.rig.finish()

    def large_ack(self) -> bytes:
        """A call whose ACK has a body of 2000 octets; the body."""
        body = b"v=0\r\n" + b"a=x\r\n" * 400
        self.a.invite("1002", body=b"")
        self.a.take(100)
        self.b.answer(self.b.take("INVITE"), 200, body=b"v=0\r\n")
        self.a.in_dialog("ACK", ok := self.a.take(200), cseq=ok.cseq_number, body=body)
        return body

    @shows("R3261-18.1.1-01", "R3261-18.1.1-02")
    def test_ack(self) -> None:
        """An ACK with a large session description goes by TCP too, once."""
        acceptor = self.rig.network.listen("tcp", self.b.address, 5060)
        body = self.large_ack()
        self.rig.advance(0.1)
        self.b.silent()
        (data,) = acceptor.received
        ack = parse(data, True)
        assert isinstance(ack, Request) and ack.via is not None
        self.assertEqual((ack.method, ack.via.transport, ack.body), ("ACK", "TCP", body))
        self.assertEqual([value.partition("/2.0/")[2][:3] for value in ack.all("via")], ["TCP", "UDP"])
        self.rig.finish()

    @shows("R3261-18.1.1-04")
    def test_ack_without_tcp(self) -> None:
        """Where TCP is refused or silent the ACK goes by UDP, once, with UDP in the Via; the next one at once."""
        for mode, seconds in (("refuse", 0.1), ("blackhole", 0.6)):
            self.setUp()
            self.rig.network.listen("tcp", self.b.address, 5060, mode)
            for wait in (seconds, 0.0):
                body = self.large_ack()
                self.rig.advance(wait)
                ack = self.b.take("ACK")
                self.assertEqual([value.partition("/2.0/")[2][:3] for value in ack.all("via")], ["UDP", "UDP"])
                self.assertEqual(ack.body, body)
            self.rig.finish()


class Received(TestCase):
    """s18.2.1: what we hand out is where we listen; s18: how long connections last."""

    @staticmethod
    def phone(rig: Rig, name: str, transport: str, prefix: str) -> Phone:
        """A phone at an address with this prefix, behind NAT when that is a private one."""
        source = ("203.0.113.9", int(name) + 7000) if prefix[:3] == "10." else None
        phone = rig.phone(name, prefix and prefix + name[-1], transport, source=source)
        phone.via_params = ";rport"
        return phone

    @shows("R3261-18.2.1-01", "R3261-18-02", "R3261-19.1.1-02", "R3261-19.1.2-01")
    def test_record_route(self) -> None:
        """Each Record-Route URI names a listener, has each parameter once, and a user part that needs no escape."""
        sides = [("udp", ""), ("tcp", ""), ("tls", ""), ("udp", "2001:db8::"), ("tls", "2001:db8::"), ("udp", "10.1.1.")]
        for caller in sides:
            for callee in sides:
                rig = Rig(listen=EVERYWHERE)
                a, b = (self.phone(rig, *one) for one in (("1001", *caller), ("1002", *callee)))
                b.register()
                _, got, _, _ = established(a, b)
                values = got.values("record-route")
                self.assertTrue(values)
                for value in values:
                    uri = Address.parse(value).uri
                    names = [name for name, _ in uri.params]
                    self.assertEqual(len(names), len(set(names)), value)
                    assert uri.user is not None
                    self.assertRegex(uri.user, r"\A[A-Za-z0-9\-_.!~*'()]+\Z")
                    self.assertIn((uri.param("transport") or "udp", uri.address, uri.port), EVERYWHERE, value)
                rig.finish()

    @shows("R3261-18-01")
    def test_silent_connection(self) -> None:
        """The callee rings for 20 minutes while the caller's connection says nothing: the answer still goes over it."""
        rig = Rig()
        b = rig.phone("1002")
        b.register()
        stream = Stream(rig)
        stream.send("\r\n".join([
            f"INVITE sip:1002@{DOMAIN} SIP/2.0", "Via: SIP/2.0/TCP 192.0.2.200:5060;branch=z9hG4bKs1", "Max-Forwards: 70",
            f"From: <sip:1001@{DOMAIN}>;tag=1", f"To: <sip:1002@{DOMAIN}>", "Call-ID: c1", "CSeq: 1 INVITE",
            "Contact: <sip:1001@192.0.2.200;transport=tcp>", "Content-Length: 0", "", ""]).encode())
        got = b.take("INVITE")
        for _ in range(10):
            b.answer(got, 180)
            rig.advance(120.0, 5.0)
        b.answer(got, 200)
        self.assertFalse(stream.closed)
        self.assertEqual([data[8:11] for data in stream.received], [b"100", *[b"180"] * 10, b"200"])
        self.assertGreater(rig.config.limits.idle_timeout, rig.config.timers.c + 64 * rig.config.timers.t1)

    @shows("R3581-4-01", "R3581-4-02", "R3261-18.2.1-03")
    def test_rport_over_a_stream(self) -> None:
        """rport and received are filled in over TCP and TLS as over UDP, also where sent-by is the source."""
        for transport in ("tcp", "tls"):
            rig = Rig()
            a = rig.phone("1001", transport=transport, port=40000, source=("192.0.2.70", 40001))
            for number, sent_by in enumerate(("192.0.2.70:40000", "10.0.0.1", "phone.example.net")):
                a.request("OPTIONS", f"sip:{DOMAIN}", via=f"Via: SIP/2.0/{transport.upper()} {sent_by};rport;branch=z9hG4bK{number}")
                self.assertEqual(a.take(200).all("via"), [f"SIP/2.0/{transport.upper()} {sent_by};rport=40001;"
                                                          f"branch=z9hG4bK{number};received=192.0.2.70"])
            rig.finish()


class Answered(TestCase):
    """s18.2.2: where responses go over UDP."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.source = self.rig.network.endpoint("udp", "198.51.100.1", 40000)

    def answered(self, via: str, address: str, port: int) -> None:
        """A request with this Via from the source is answered there and nowhere else."""
        place = self.rig.network.endpoint("udp", address, port)
        before = len(self.rig.network.packets)
        self.source.send((
            f"OPTIONS sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {via};branch=z9hG4bK1\r\nFrom: <sip:1001@{DOMAIN}>;tag=1\r\n"
            f"To: <sip:{DOMAIN}>\r\nCall-ID: {via}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n").encode(), (SERVER, 5060))
        self.assertEqual([packet.target for packet in self.rig.network.packets[before + 1:]], [(address, port)])
        self.assertTrue(place.received[-1].startswith(b"SIP/2.0 200 "))

    @shows("R3261-18.2.2-01", "R3261-18.2.2-05")
    def test_maddr(self) -> None:
        """A maddr takes the answer before received and rport, at the port of sent-by or 5060."""
        self.answered("10.0.0.1:5071;maddr=198.51.100.9", "198.51.100.9", 5071)
        self.answered("10.0.0.1;rport;maddr=198.51.100.9", "198.51.100.9", 5060)
        self.answered("198.51.100.1:40000;maddr=198.51.100.9", "198.51.100.9", 40000)

    @shows("R3261-18.2.2-07", "R3261-18.2.2-09")
    def test_source(self) -> None:
        """Without rport the port is that of sent-by, or 5060, never that of the packet; the address is the packet's."""
        self.answered("10.0.0.1:5071", "198.51.100.1", 5071)
        self.answered("phone.example.net", "198.51.100.1", 5060)
        self.answered("198.51.100.1:5072", "198.51.100.1", 5072)
        self.answered("198.51.100.1", "198.51.100.1", 5060)


class Lengths(TestCase):
    """s18.3, s20.14: Content-Length over datagrams and streams."""

    def pair(self, caller: str, callee: str) -> tuple[Rig, Phone, Phone]:
        """Two phones; the callee is registered."""
        rig = Rig()
        a, b = rig.phone("1001", transport=caller), rig.phone("1002", transport=callee)
        b.register()
        return rig, a, b

    @shows("R3261-18.3-04", "R3261-20-03", "R3261-20.14-02")
    def test_responses_to_a_stream(self) -> None:
        """Responses that came by UDP without Content-Length have the right one when they leave over TCP or TLS."""
        for transport in ("tcp", "tls"):
            rig, a, b = self.pair(transport, "udp")
            for status in (200, 486):
                invite = a.invite("1002")
                got = b.take("INVITE")
                b.send(bare(b.answer(got, 183, body=b"v=0\r\n", send=False)))
                b.send(bare(b.answer(got, status, body=b"v=0\r\n\r\n" if status == 200 else b"", send=False)))
                answers = [parse(data, True) for data in a.raw[-3:]]
                self.assertEqual([answer.body for answer in answers], [b"", b"v=0\r\n", b"v=0\r\n\r\n" if status == 200 else b""])
                self.assertEqual([answer.all("content-length") for answer in answers], [[str(len(answer.body))] for answer in answers])
                a.drain()
                a.ack(answers[-1], invite)  # type: ignore[arg-type]
                b.take("ACK")
            rig.finish()

    @shows("R3261-18.3-04", "R3261-20-03", "R3261-20.14-02")
    def test_requests_to_a_stream(self) -> None:
        """Requests that came by UDP without Content-Length, an ACK and a CANCEL too, have the right one over a stream."""
        for transport in ("tcp", "tls"):
            rig, a, b = self.pair("udp", transport)
            a.send(bare(a.invite("1002", send=False)))
            a.take(100)
            b.answer(b.take("INVITE"), 200)
            ok = a.take(200)
            for method in ("ACK", "INFO", "BYE"):
                body = b"" if method == "BYE" else b"v=0\r\n"
                cseq = ok.cseq_number if method == "ACK" else ok.cseq_number + 1
                a.send(bare(a.in_dialog(method, ok, body=body, cseq=cseq, send=False)))
                got = b.take(method)
                self.assertEqual(got.body, body)
                if method != "ACK":
                    b.answer(got, 200)
                    a.take(200)
            invite = a.invite("1002")
            got = b.ring(a)
            a.send(bare(a.cancel(invite, send=False)))
            a.take(200)
            b.cancelled(got)
            a.ack(a.take(487), invite)
            for data in b.raw:
                message = parse(data, True)
                self.assertEqual(message.all("content-length"), [str(len(message.body))])
            rig.finish()

    @shows("R3261-18.3-02", "R3261-18.3-01")
    def test_short_response(self) -> None:
        """A response by UDP that lacks octets of its body is dropped; one with octets behind its body loses them."""
        rig, a, b = self.pair("udp", "udp")
        a.request("MESSAGE", f"sip:1002@{DOMAIN}")
        got = b.take("MESSAGE")
        whole = b.answer(got, 200, body=b"12345678", send=False).encode()
        b.send(whole[:-1])
        a.silent()
        b.send(whole + b"9")
        self.assertEqual(a.take(200).body, b"12345678")
        rig.finish()

    @shows("R3261-18.3-03")
    def test_short_request(self) -> None:
        """A request by UDP that lacks octets of its body gets 400 and goes no further, unless it is an ACK."""
        rig, a, b = self.pair("udp", "udp")
        for method in ("INVITE", "MESSAGE", "ACK", "FOO"):
            request = a.request(method, f"sip:1002@{DOMAIN}", body=b"12345678", send=False)
            a.send(request.encode()[:-1])
            if method != "ACK":
                answer = a.take(400)
                if method == "INVITE":
                    a.ack(answer, request)
        b.silent()
        rig.finish()
