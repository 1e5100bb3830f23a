"""Each bound of [limits], reached: the answer, or a drop that is counted, and never growth (RFC 3261 s26.3.2.4)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from tests.support.rig import Phone, Rig
from tests.support.stream import Stream

#: What a message holds in these tests at most.
MESSAGE = {"message_size": 6000, "header_size": 4000, "body_size": 3000, "header_length": 1000, "header_count": 60, "vias": 10,
           "routes": 5, "uri_length": 200}


class Messages(TestCase):
    """A message past a bound is refused without state, whoever sends it, over UDP and in a stream."""

    def setUp(self) -> None:
        self.rig = Rig(limits=MESSAGE)

    def answer(self, phone: Phone, *lines: str, uri: str = "sip:example.com", body: bytes = b"") -> int:
        """The status of the one response to an OPTIONS to the server with these lines."""
        phone.request("OPTIONS", uri, *lines, to="<sip:example.com>", body=body)
        status = int(phone.take().status)
        phone.silent()
        return status

    def test_each(self) -> None:
        """The bound itself passes; one more is 513, of a Request-URI 414."""
        via, route = "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKb", "Route: <sip:192.0.2.1;lr>"
        for transport in ("udp", "tcp", "tls"):
            phone = self.rig.phone("1001", transport=transport)
            for lines, status in (
                (["X: " + "x" * 997], 200), (["X: " + "x" * 998], 513),
                (["X: y"] * 50, 200), (["X: y"] * 60, 513),
                ([via] * 9, 200), ([via] * 10, 513), (["v: " + ",".join([via[5:]] * 10)], 513),
                ([route] * 5, 200), ([route] * 6, 513), (["Route: " + ",".join([route[7:]] * 6)], 513),
                (["X: " + "x" * 900] * 3, 200), (["X: " + "x" * 900] * 5, 513),
            ):
                self.assertEqual(self.answer(phone, *lines), status, lines)
            self.assertEqual(self.answer(phone, uri=f"sip:example.com;x={'y' * 182}"), 200)
            self.assertEqual(self.answer(phone, uri=f"sip:example.com;x={'y' * 183}"), 414)
        phone = self.rig.phone("1001")
        self.assertEqual(self.answer(phone, body=b"x" * 3000), 200)
        self.assertEqual(self.answer(phone, body=b"x" * 6000), 513)
        self.assertEqual(self.rig.core.layer.malformed, 25)
        self.assertEqual(len(self.rig.core.layer.servers), 0)
        self.rig.finish()

    def test_streams(self) -> None:
        """What cannot be framed within the bounds is refused as soon as that is known, with 413 for the body and 513 for
        head and whole; the connection ends, and nothing is kept of it."""
        head = ("OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.9;branch=z9hG4bKb\r\nFrom: <sip:a@a>;tag=1\r\n"
                "To: <sip:example.com>\r\nCall-ID: a\r\nCSeq: 1 OPTIONS\r\n")
        for more, status in (("Content-Length: 3001\r\n\r\n", b"413"), ("Content-Length: 999999999999\r\n\r\n", b"413"),
                             ("X: y\r\n" * 1000, b"513"), ("X: y\r\n" * 520 + "Content-Length: 3000\r\n\r\n", b"513")):
            stream = Stream(self.rig, limits=self.rig.config.limits)
            stream.send((head + more).encode())
            self.assertTrue(stream.octets.startswith(b"SIP/2.0 " + status), stream.octets)
            self.assertEqual(stream.octets.count(b"SIP/2.0 4") + stream.octets.count(b"SIP/2.0 5"), 1)
            self.assertEqual((stream.closed, stream.connection._framer.buffered), (True, 0))

    def test_responses(self) -> None:
        """A response past a bound is dropped and counted; the call goes on with the next."""
        a, b = self.rig.phone("1001"), self.rig.phone("1002")
        self.rig.binding("1002", b.contact)
        invite = a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        b.answer(got, 180, "X: " + "x" * 2000)
        a.silent()
        self.assertEqual(self.rig.core.layer.malformed, 1)
        b.answer(got, 486)
        b.take("ACK")
        a.ack(a.take(486), invite)
        self.rig.finish()


class Tables(TestCase):
    """A table that is full refuses what is new, says when to come again, and counts it."""

    def refused(self, rig: Rig, table: str) -> int:
        """How often the table has turned away, as `sipctl status` shows it."""
        return next(one.refused for one in rig.inventory if one.name == table)

    def fields(self, phone: Phone) -> dict[str, Any]:
        """Of a REGISTER."""
        return {"to": f"<{phone.aor}>", "contact": f"<{phone.contact}>"}

    def test_transactions(self) -> None:
        """When there are as many transactions as there may be, new requests get 503 with Retry-After; in those that go on
        everything goes on."""
        rig = Rig(limits={"transactions": 100})
        a, b = rig.phone("1001"), rig.phone("1002")
        rig.binding("1002", b.contact)
        first = a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        for n in range(150):
            a.request("MESSAGE", "sip:1002@example.com", from_=f"<{a.aor}>;tag={n}")
        statuses = [response.status for response in a.drain()]
        self.assertEqual(set(statuses), {503})
        self.assertEqual(len(statuses), 51)
        self.assertEqual(len(rig.core.layer.servers), 100)
        b.drain()
        times = set()
        for _ in range(50):
            refusal = a.request("MESSAGE", "sip:1002@example.com")
            response = a.take(503)
            self.assertEqual(response.call_id, refusal.call_id)
            times.add(int(response.first["retry-after"]))
        self.assertTrue(times <= set(range(5, 16)) and len(times) > 5, times)
        a.send(refusal)
        self.assertEqual(a.take(503).encode(), response.encode())
        b.answer(got, 486)
        a.ack(a.take(486), first)
        self.assertGreater(self.refused(rig, "server transactions") + self.refused(rig, "requests being forwarded"), 50)
        rig.advance(70.0)
        a.drain()
        b.drain()
        rig.finish()

    def test_bindings(self) -> None:
        """When there are as many bindings as there may be, another gets 503 with Retry-After, and a refresh does not."""
        rig = Rig(limits={"bindings": 2})
        phones = [rig.phone(f"100{n}") for n in range(1, 4)]
        phones[0].register(call_id="first", cseq=1)
        phones[1].register()
        response = phones[2].register(take=503)
        self.assertGreater(int(response.first["retry-after"]), 0)
        phones[0].register(call_id="first", cseq=2)
        self.assertEqual(rig.core.location.bindings("1003@example.com"), [])

    def test_branches(self) -> None:
        """More targets than a request may be forked to are 440, and nobody rings; as many as it may all ring."""
        rig = Rig(limits={"branches": 3})
        a = rig.phone("1001")
        callees = [rig.phone("1002") for _ in range(4)]
        for callee in callees[:3]:
            rig.binding("1002", callee.contact)
        invite = a.invite("1002")
        a.take(100)
        for callee in callees[:3]:
            callee.refuse(486)
        a.ack(a.take(486), invite)
        rig.binding("1002", callees[3].contact, q=500)
        invite = a.invite("1002")
        a.ack(a.take(440), invite)
        rig.finish()
