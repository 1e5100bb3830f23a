"""Streams: framing, keep-alive, limits, and which connection a message takes (RFC 3261 s18, RFC 5626)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.message import Request, Response
from sipd.message.parser import parse
from tests.support.cases import shows
from tests.support.rig import Rig
from tests.support.stream import Stream

OPTIONS = "OPTIONS sip:example.com SIP/2.0"


def octets(number: int, *lines: str, start: str = OPTIONS, body: bytes = b"", length: str | None = "",
           transport: str = "TCP") -> bytes:
    """A request; `length` "" states the right one, None leaves it out."""
    method = start.partition(" ")[0]
    head = [start, f"Via: SIP/2.0/{transport} 192.0.2.200:5060;branch=z9hG4bKs{number};rport",
            "From: <sip:1001@example.com>;tag=1", "To: <sip:1001@example.com>", f"Call-ID: c{number}", f"CSeq: 1 {method}",
            "Max-Forwards: 70", *lines]
    if length is not None:
        head.append(f"Content-Length: {length or len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


def statuses(stream: Stream) -> list[int]:
    """What the server answered so far."""
    found = []
    for data in stream.received:
        message = parse(data)
        assert isinstance(message, Response)
        found.append(message.status)
    return found


class StreamTests(TestCase):
    """One server, connections with the real framing."""

    def setUp(self) -> None:
        self.rig = Rig()

    @shows("TRN-03", "18.3")
    def test_segments(self) -> None:
        """Two requests in one segment, one in segments of an octet, and any mixture: each is answered once."""
        stream = Stream(self.rig)
        stream.send(octets(1) + octets(2))
        self.assertEqual(statuses(stream), [200, 200])
        stream.send(octets(3, body=b"abc\r\n\r\n"), split=1)
        stream.send(octets(4) + octets(5) + octets(6)[:100])
        stream.send(octets(6)[100:] + b"\r\n" + octets(7))
        self.assertEqual(statuses(stream), [200] * 7)
        self.assertEqual([parse(data).call_id for data in stream.received], [f"c{number}" for number in range(1, 8)])
        self.assertFalse(stream.closed)

    @shows("TRN-04", "18.3", "20.14", "R3261-18.3-04", "R3261-20.14-02")
    def test_no_content_length(self) -> None:
        """A request that does not say how long it is: 400, and the connection ends, as nobody knows where the next begins."""
        stream = Stream(self.rig)
        stream.send(octets(1) + octets(2, length=None) + octets(3))
        self.assertEqual(statuses(stream), [200, 400])
        self.assertTrue(stream.closed)

    @shows("TRN-05", "18.3")
    def test_garbage(self) -> None:
        """Garbage costs its own connection only."""
        bystander = Stream(self.rig, "192.0.2.201")
        bystander.send(octets(1)[:50])
        for garbage in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00" + b"\r\n\r\n", b"no colon\r\n\r\n" * 3,
                        b"OPTIONS sip:x SIP/2.0\r\nl: -1\r\n\r\n", b"A" * 70000, b"SIP/2.0 200 OK\r\n\r\n", b"\x00\r\n\r\n"):
            stream = Stream(self.rig)
            stream.send(garbage + octets(9))
            self.assertTrue(stream.closed, garbage[:20])
            self.assertNotIn(200, statuses(stream))
        bystander.send(octets(1)[50:])
        self.assertEqual(statuses(bystander), [200])
        self.assertEqual(self.rig.bugs, [])

    def test_broken_message_in_a_whole_frame(self) -> None:
        """What is malformed but well framed is refused, and the connection goes on."""
        stream = Stream(self.rig)
        stream.send(octets(1, "no colon") + octets(2, start="OPTIONS  sip:example.com SIP/2.0") + octets(3))
        self.assertEqual(statuses(stream), [400, 400, 200])
        self.assertFalse(stream.closed)

    @shows("TRN-06", "5626 3.5.1", "7.5")
    def test_keep_alive(self) -> None:
        """CRLF CRLF gets CRLF; a lone CRLF before a request gets nothing; both over TLS too."""
        for transport in ("tcp", "tls"):
            stream = Stream(self.rig, transport=transport)
            stream.send(b"\r\n\r\n")
            self.assertEqual(stream.octets, b"\r\n")
            stream.send(b"\r\n" + octets(1, transport=transport.upper()))
            self.assertEqual(stream.octets.count(b"SIP/2.0 200"), 1)
            self.assertTrue(stream.octets.startswith(b"\r\nSIP/2.0 200"))
            stream.send(b"\r\n\r\n", split=1)
            self.assertTrue(stream.octets.endswith(b"\r\n\r\n\r\n"))

    @shows("TRN-12", "18.3", "21.5.14")
    def test_limits(self) -> None:
        """A head without end is cut off at the limit, a body that is announced too long at once; a large one passes."""
        stream = Stream(self.rig)
        stream.send(octets(1, *[f"X: {'y' * 8000}"] * 3, body=b"z" * 40000))
        self.assertEqual(statuses(stream), [200])
        # the Content-Length that ends the head is what never comes
        stream.send(octets(2, length=None)[:-2])
        for _ in range(10000):
            if stream.closed:
                break
            stream.send(b"X-More: " + b"y" * 1000 + b"\r\n")
        self.assertTrue(stream.closed)
        self.assertEqual(statuses(stream)[0], 200)
        self.assertEqual(statuses(stream)[1:], [513])
        other = Stream(self.rig)
        other.send(octets(3, length="99999999"))
        self.assertTrue(other.closed)
        self.assertEqual(statuses(other), [413])

    def test_message_that_never_ends(self) -> None:
        """A message must be whole in time, however busily its octets trickle in."""
        stream = Stream(self.rig)
        stream.send(octets(1))
        data = octets(2, f"X: {'y' * 500}")
        for position in range(60):
            stream.send(data[position:position + 1])
            self.rig.advance(1.0, 1.0)
        self.assertTrue(stream.closed)

    @shows("TRN-08", "18.2.2", "R3261-18.2.1-04", "R3261-18.2.2-01", "R3261-18.2.2-02")
    def test_answer_on_the_same_connection(self) -> None:
        """The answer to a request that came over TCP goes over its connection, whatever Via says."""
        stream, other = Stream(self.rig), Stream(self.rig, "192.0.2.201")
        stream.send(octets(1).replace(b"192.0.2.200:5060", b"192.0.2.201:5060"))
        self.assertEqual((statuses(stream), statuses(other)), ([200], []))
        self.assertIn(b";received=192.0.2.200", stream.octets)

    @shows("TRN-08", "18.2.2", "R3261-18.2.2-03")
    def test_answer_when_it_is_closed(self) -> None:
        """The connection is gone when the callee answers: the answer goes over a new one, to the port of sent-by."""
        b = self.rig.phone("1002")
        b.register()
        acceptor = self.rig.network.listen("tcp", "192.0.2.200", 5060)
        stream = Stream(self.rig)
        stream.send(octets(1, "Contact: <sip:1001@192.0.2.200;transport=tcp>", start="INVITE sip:1002@example.com SIP/2.0"))
        self.assertEqual(statuses(stream), [100])
        stream.close()
        b.answer(b.take("INVITE"), 486)
        self.rig.advance(0.5)
        self.assertEqual([parse(data).start.split()[1] for data in acceptor.received], ["486"])
        b.take("ACK")
        self.rig.finish()

    @shows("TRN-09", "5626 5.3")
    def test_call_to_a_connection(self) -> None:
        """A contact registered over TCP or TLS is called over that connection; nothing is opened to it."""
        for transport in ("tcp", "tls"):
            rig = Rig()
            stream = Stream(rig, transport=transport)
            stream.send(octets(1, f"Contact: <sip:1001@10.0.0.5:5060;transport={transport}>", transport=transport.upper(),
                               start="REGISTER sip:example.com SIP/2.0"))
            rig.advance(0.1)
            self.assertEqual(statuses(stream), [200])
            caller = rig.phone("1002")
            caller.invite("1001")
            caller.take(100)
            rig.advance(0.1)
            invite = parse(stream.received[-1])
            assert isinstance(invite, Request)
            self.assertEqual((invite.method, invite.uri_text), ("INVITE", f"sip:1001@10.0.0.5:5060;transport={transport}"))
            assert invite.via is not None
            self.assertEqual(invite.via.transport, transport.upper())
            self.assertIn("content-length", invite.first)
            lines = [line for name, _, line in invite.headers if name in ("via", "from", "call-id", "cseq", "record-route")]
            stream.send("\r\n".join(["SIP/2.0 486 Busy", *lines, f"To: {invite.first['to']};tag=b", "Content-Length: 0", "",
                                     ""]).encode())
            caller.ack(caller.take(486), parse(caller_invite(rig)))  # type: ignore[arg-type]
            ack = parse(stream.received[-1])
            self.assertTrue(ack.start.startswith("ACK "))
            rig.finish()

    @shows("TRN-10", "5626 5.3")
    def test_connection_gone(self) -> None:
        """That connection is gone: the caller learns it at once, and nobody is sent anything where the phone said it was."""
        stream = Stream(self.rig, transport="tls")
        stream.send(octets(1, "Contact: <sip:1001@10.0.0.5:5060;transport=tls>", transport="TLS",
                           start="REGISTER sip:example.com SIP/2.0"))
        self.rig.advance(0.1)
        stream.close()
        acceptor = self.rig.network.listen("tls", "10.0.0.5", 5060)
        caller = self.rig.phone("1002")
        invite = caller.invite("1001")
        self.rig.advance(1.0)
        answer = [message for message in caller.drain() if isinstance(message, Response) and message.status > 100][0]
        self.assertIn(answer.status, (430, 480, 500))
        self.assertEqual(acceptor.connections, [])
        caller.ack(answer, invite)
        self.rig.finish()

    @shows("TRN-10", "18.4", "R3261-18.4-03")
    def test_connection_breaks_in_the_middle(self) -> None:
        """The connection breaks while the call waits on it: the caller is told at once, not after 32 s."""
        stream = Stream(self.rig)
        stream.send(octets(1, "Contact: <sip:1001@10.0.0.5:5060;transport=tcp>", start="REGISTER sip:example.com SIP/2.0"))
        self.rig.advance(0.1)
        caller = self.rig.phone("1002")
        invite = caller.invite("1001")
        self.rig.advance(0.1)
        self.assertTrue(stream.received[-1].startswith(b"INVITE "))
        stream.close()
        self.rig.advance(0.1)
        caller.take(100)
        answer = caller.take()
        self.assertIn(answer.status, (430, 480, 500))
        caller.ack(answer, invite)
        self.rig.finish()

    def test_pipelined(self) -> None:
        """A hundred requests in one segment are answered in order, each once."""
        stream = Stream(self.rig)
        stream.send(b"".join(octets(number) for number in range(100)))
        self.assertEqual([parse(data).call_id for data in stream.received], [f"c{number}" for number in range(100)])

    @shows("TRN-20", "18.2.1", "R3261-18-02")
    def test_every_port_by_tcp(self) -> None:
        """Where the server is configured with nothing but its defaults, each UDP port is a TCP port too."""
        from sipd.config_server import DEFAULT_LISTEN

        ports = {transport: {(one.address, one.port) for one in DEFAULT_LISTEN if one.transport == transport}
                 for transport in ("udp", "tcp")}
        self.assertEqual(ports["udp"], ports["tcp"])


def caller_invite(rig: Rig) -> bytes:
    """The last INVITE that came to the server over UDP."""
    return [packet.data for packet in rig.network.packets
            if packet.transport == "udp" and packet.data.startswith(b"INVITE ")][-1]
