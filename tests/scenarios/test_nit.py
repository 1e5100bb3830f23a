"""Requests other than INVITE through the proxy (RFC 3261 s16, s17.1.2, s17.2.2; RFC 3428, RFC 4320)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message.message import Request, Response
from sipd.message.parser import parse
from tests.support.cases import shows
from tests.support.network import Connection
from tests.support.rig import Phone, Rig, established

#: More than a datagram should carry (s18.1.1).
_LONG = b"x" * 1400


class Message(TestCase):
    """MESSAGE to a registered phone."""

    def setUp(self) -> None:
        """Two phones on UDP."""
        self.rig = Rig()
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        self.b.register()

    def send(self, body: bytes = b"Hello", *extra: str, **fields: Any) -> Request:
        """A MESSAGE to 1002."""
        return self.a.request("MESSAGE", "sip:1002@example.com", *extra, body=body, **fields)

    @shows("NIT-01", "3428")
    def test_passes(self) -> None:
        """The body arrives as it was sent, without Record-Route or Contact; the 200 returns the same way."""
        sent = self.send("Grüße, 世界 \U0001f600\r\n\r\n".encode() + bytes(range(256)))
        got = self.b.take("MESSAGE")
        self.assertEqual(got.body, sent.body)
        self.assertEqual((got.get("record-route"), got.get("contact")), (None, None))
        self.assertEqual(got.get("content-type"), sent.get("content-type"))
        self.assertEqual(got.get("max-forwards"), "69")
        self.assertEqual(len(got.all("via")), 2)
        self.b.answer(got, 200)
        self.assertEqual(len(self.a.take(200).all("via")), 1)
        self.rig.finish()

    @shows("NIT-01", "3428")
    def test_empty(self) -> None:
        """A MESSAGE without a body."""
        self.send(b"")
        got = self.b.take("MESSAGE")
        self.assertEqual((got.body, got.get("content-length")), (b"", "0"))
        self.b.answer(got, 200)
        self.a.take(200)
        self.rig.finish()

    @shows("NIT-01", "3428")
    def test_sixty_kilobytes(self) -> None:
        """60 kB from a phone on TCP to a phone on TLS, and a body in the answer."""
        a, b = self.rig.phone("1003", transport="tcp"), self.rig.phone("1004", transport="tls")
        b.register()
        body = b"0123456789" * 6000
        a.request("MESSAGE", "sip:1004@example.com", body=body)
        got = b.take("MESSAGE")
        self.assertEqual(got.body, body)
        b.answer(got, 200, body=body)
        self.assertEqual(a.take(200).body, body)
        self.rig.finish()

    @shows("NIT-01", "7.3.3")
    def test_compact_and_unknown_headers(self) -> None:
        """Headers that a proxy need not know, in odd but legal spelling, arrive octet for octet."""
        lines = ("s: compact", "X-Odd :  two  spaces", "Subject2:", "k: foo,bar", "X-Fold: one\r\n two")
        self.send(b"Hi", *lines)
        raw = self.b.raw[-1]
        for line in lines:
            self.assertIn(b"\r\n" + line.encode() + b"\r\n", raw)
        self.b.answer(self.b.take("MESSAGE"), 200)
        self.a.take(200)
        self.rig.finish()

    @shows("NIT-02", "3428")
    def test_offline(self) -> None:
        """480 when nobody is registered, 404 when there is no such user."""
        self.a.request("MESSAGE", "sip:1005@example.com", body=b"Hi")
        self.a.take(480)
        self.a.request("MESSAGE", "sip:nobody@example.com", body=b"Hi")
        self.a.take(404)
        self.rig.finish()

    @shows("NIT-03", "R4320-4.1-02", "R4320-4.1-03", "R4320-4.2-01", "R3261-16.2-02", "R3261-16.7-19", "4320 4.1",
           "17.1.2.2")
    def test_silent(self) -> None:
        """Sent at 0, 0.5, 1.5, 3.5, 7.5 and so on to 31.5 s; the caller gets a 100 at 3.5 s, not before, and never a 408."""
        self.send()
        self.rig.advance(3.4, 0.02)
        self.a.silent()
        self.rig.advance(0.3, 0.02)
        self.a.take(100)
        self.rig.advance(40, 0.02)
        times = [packet.at for packet in self.rig.network.packets
                 if packet.target == (self.b.address, 5060) and packet.data.startswith(b"MESSAGE")]
        wanted = [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
        self.assertEqual(len(times), len(wanted))
        for at, expected in zip(times, wanted, strict=False):
            # the wheel is at most two ticks late each time
            self.assertTrue(-0.001 <= at - expected <= 0.45, (times, wanted))
        self.assertEqual(len({packet.data for packet in self.rig.network.packets if packet.data[:7] == b"MESSAGE"
                              and packet.target == (self.b.address, 5060)}), 1)
        self.a.silent()
        self.b.drain()
        self.rig.finish()

    @shows("NIT-03", "R4320-4.2-01", "4320 4.2")
    def test_408_from_the_callee(self) -> None:
        """A 408 that comes from behind us is not passed on: it would only say that nobody knows."""
        self.send()
        self.b.answer(self.b.take("MESSAGE"), 408)
        self.rig.advance(40)
        self.assertEqual([message for message in self.a.drain() if isinstance(message, Response)
                          and message.status != 100], [])
        self.rig.finish()

    @shows("NIT-03", "R4320-4.2-02", "4320 4.2")
    def test_late_answer(self) -> None:
        """An answer after 64*T1 goes nowhere."""
        self.send()
        got = self.b.take("MESSAGE")
        self.rig.advance(33)
        self.a.drain()
        self.b.drain()
        self.b.answer(got, 200)
        self.a.silent()
        self.rig.finish()

    @shows("NIT-03", "R4320-4.1-01", "R3261-17.1.2.2-10", "R3261-17.1.2.2-11", "R3261-16.7-15", "17.1.2.2")
    def test_provisional_slows_repeats(self) -> None:
        """After a 100 of the callee it is repeated every T2; the 100 does not go up, and 183 of a MESSAGE neither."""
        self.send()
        got = self.b.take("MESSAGE")
        self.b.answer(got, 100)
        self.b.answer(got, 183)
        self.a.silent()
        self.rig.advance(0.6, 0.1)
        self.b.take("MESSAGE")
        self.rig.advance(3.8, 0.1)
        self.b.silent()
        self.rig.advance(0.4, 0.1)
        self.b.take("MESSAGE")
        self.a.take(100)
        self.b.answer(got, 200)
        self.a.take(200)
        self.rig.finish()

    @shows("NIT-04", "R4320-4.1-02", "R3261-16.2-02", "4320 4.1", "R3261-8.2.6.1-01")
    def test_no_100(self) -> None:
        """Answered after 3 s: the caller on UDP sees the 200 and nothing before it or after."""
        self.send()
        got = self.b.take("MESSAGE")
        self.rig.advance(3, 0.1)
        self.a.silent()
        self.b.drain()
        self.b.answer(got, 200)
        self.a.take(200)
        self.rig.advance(5)
        self.rig.finish()

    @shows("NIT-05", "R3261-17.2.2-08", "R3261-16.7-36", "17.2.2")
    def test_repeat_after_final(self) -> None:
        """The request again gets the same octets again, and the callee hears of it no more."""
        sent = self.send()
        self.b.answer(self.b.take("MESSAGE"), 200)
        self.a.take(200)
        for _ in range(3):
            self.a.send(sent)
            self.a.take(200)
        self.assertEqual(len(set(self.a.raw[-4:])), 1)
        self.b.silent()
        self.rig.advance(31)
        self.a.send(sent)
        self.a.take(200)
        self.b.silent()
        self.rig.finish()

    @shows("NIT-05", "R3261-17.2.2-04", "17.2.2")
    def test_repeat_before_final(self) -> None:
        """The request again while the callee thinks is swallowed; after our 100 the 100 is repeated."""
        sent = self.send()
        got = self.b.take("MESSAGE")
        self.a.send(sent)
        self.a.silent()
        self.b.silent()
        self.rig.advance(4)
        self.a.take(100)
        self.b.drain()
        self.a.send(sent)
        self.a.take(100)
        self.b.silent()
        self.b.answer(got, 200)
        self.a.take(200)
        self.rig.finish()

    @shows("NIT-06", "17.1.2.2")
    def test_answer_repeated(self) -> None:
        """A callee that repeats its 200, or sends another final response after it: one goes up."""
        self.send()
        got = self.b.take("MESSAGE")
        for status in (200, 200, 486, 200):
            self.b.answer(got, status)
        self.a.take(200)
        self.rig.finish()

    @shows("NIT-11", "7.3.1", "17.1.3")
    def test_branch_in_other_case(self) -> None:
        """The callee echoes our branch in capitals: it is the same token; the caller's repeat in capitals is a repeat."""
        sent = self.send()
        got = self.b.take("MESSAGE")
        answer = self.b.answer(got, 200, send=False).encode()
        branch = got.via.branch.encode()
        self.assertNotEqual(branch, branch.upper())
        self.b.send(answer.replace(branch, branch.upper()))
        self.a.take(200)
        assert sent.via is not None
        own = sent.via.branch.encode()
        self.a.send(sent.encode().replace(own, own.upper()))
        self.a.take(200)
        self.b.silent()
        self.rig.finish()

    @shows("NIT-11", "17.1.3")
    def test_other_branch_or_method(self) -> None:
        """A response with a branch that is not ours, or another method in CSeq, answers nothing."""
        self.send()
        got = self.b.take("MESSAGE")
        answer = self.b.answer(got, 200, send=False).encode()
        self.b.send(answer.replace(got.via.branch.encode(), got.via.branch.encode() + b"x"))
        self.b.send(answer.replace(b" MESSAGE\r\n", b" INFO\r\n"))
        self.a.silent()
        self.b.send(answer)
        self.a.take(200)
        self.rig.finish()

    @shows("NIT-06", "16.7/3")
    def test_answer_without_our_via(self) -> None:
        """A 200 that lost the caller's Via is no answer; the caller is told 500."""
        self.send()
        lines = self.b.answer(self.b.take("MESSAGE"), 200, send=False).encode().split(b"\r\n")
        vias = [line for line in lines if line.startswith(b"Via")]
        self.b.send(b"\r\n".join(line for line in lines if line not in vias[1:]))
        self.a.take(500)
        self.rig.finish()

    @shows("NIT-01", "9.1")
    def test_cancel_has_no_effect(self) -> None:
        """A CANCEL for a MESSAGE is answered and changes nothing."""
        sent = self.send()
        got = self.b.take("MESSAGE")
        self.a.cancel(sent)
        self.a.take(200)
        self.b.silent()
        self.b.answer(got, 200)
        self.a.take(200)
        self.rig.finish()


class Large(TestCase):
    """s18.1.1: what is larger than 1300 octets goes to a UDP contact by TCP first."""

    def setUp(self) -> None:
        """Two phones on UDP."""
        self.rig = Rig()
        self.a, self.b = self.rig.phone("1001", transport="tcp"), self.rig.phone("1002")
        self.b.register()

    def request(self, body: bytes = _LONG, method: str = "MESSAGE") -> Request:
        """A request to 1002, its time for connecting included."""
        sent = self.a.request(method, "sip:1002@example.com", body=body)
        self.rig.advance(0.1, 0.05)
        return sent

    @staticmethod
    def answer(phone: Phone, data: bytes, connection: Connection, status: int) -> None:
        """The phone answers on a connection that the server opened."""
        request = parse(data)
        assert isinstance(request, Request)
        connection.send(phone.answer(request, status, send=False).encode())

    @shows("NIT-08", "18.1.1", "R3261-18.1.1-01", "R3261-18.1.1-02", "R3261-18.1.1-08", "R3428-8-01")
    def test_tcp_first(self) -> None:
        """The phone accepts TCP: the request comes there with a TCP Via and nothing by UDP; the answer goes back."""
        acceptor = self.rig.network.listen("tcp", self.b.address, 5060)
        self.request()
        self.b.silent()
        (data,) = acceptor.received
        self.assertIn(b"Via: SIP/2.0/TCP ", data.partition(b"\r\n")[2].partition(b"\r\n")[0])
        self.assertTrue(data.endswith(_LONG))
        self.answer(self.b, data, acceptor.connections[0], 200)
        self.a.take(200)
        self.rig.finish()

    @shows("NIT-08", "18.1.1", "R3261-18.1.1-04")
    def test_fallback(self) -> None:
        """TCP is refused: UDP after all, in one piece; the next one does not try TCP again for a while."""
        self.request()
        for _ in range(2):
            got = self.b.take("MESSAGE")
            self.assertEqual((got.via.transport.upper(), got.body), ("UDP", _LONG))
            self.b.answer(got, 200)
            self.a.take(200)
            acceptor = self.rig.network.listen("tcp", self.b.address, 5060)
            if not acceptor.connections:
                self.request()
        self.b.answer(self.b.take("MESSAGE"), 200)
        self.a.take(200)
        self.assertEqual(acceptor.connections, [])
        self.rig.advance(601, 50)
        self.request()
        self.assertEqual(len(acceptor.connections), 1)
        self.b.silent()
        self.answer(self.b, acceptor.received[0], acceptor.connections[0], 200)
        self.a.take(200)
        self.rig.finish()

    @shows("NIT-08", "18.1.1", "R3261-18.1.1-04")
    def test_blackhole(self) -> None:
        """TCP is neither accepted nor refused: UDP before the caller's repeats, or its user, lose patience."""
        self.rig.network.listen("tcp", self.b.address, 5060, "blackhole")
        self.request()
        self.b.silent()
        self.rig.advance(0.9, 0.1)
        self.b.answer(self.b.take("MESSAGE"), 200)
        self.a.drain()
        self.rig.finish()

    @shows("NIT-08", "18.1.1")
    def test_small(self) -> None:
        """A request below the bound goes by UDP although the phone accepts TCP."""
        acceptor = self.rig.network.listen("tcp", self.b.address, 5060)
        self.request(b"x" * 300)
        self.b.answer(self.b.take("MESSAGE"), 200)
        self.a.take(200)
        self.assertEqual(acceptor.connections, [])
        self.rig.finish()

    @shows("NIT-08", "18.1.1", "9.1")
    def test_invite(self) -> None:
        """A large INVITE by TCP is cancelled over the same connection; one given up before the connection stands ends
        with 487."""
        acceptor = self.rig.network.listen("tcp", self.b.address, 5060)
        invite = self.request(method="INVITE")
        self.a.take(100)
        connection = acceptor.connections[0]
        self.answer(self.b, connection.received[0], connection, 180)
        self.a.take(180)
        self.a.cancel(invite)
        self.a.take(200)
        self.assertTrue(connection.received[1].startswith(b"CANCEL "))
        self.answer(self.b, connection.received[1], connection, 200)
        self.answer(self.b, connection.received[0], connection, 487)
        self.assertTrue(connection.received[2].startswith(b"ACK "))
        self.a.ack(self.a.take(487), invite)
        other = self.rig.phone("1003")
        other.register()
        self.rig.network.listen("tcp", other.address, 5060, "blackhole")
        invite = self.a.request("INVITE", "sip:1003@example.com", body=_LONG)
        self.a.take(100)
        self.a.cancel(invite)
        self.a.take(200)
        self.a.ack(self.a.take(487), invite)
        self.rig.advance(5)
        other.silent()
        self.rig.finish()


class Dialogs(TestCase):
    """Requests by Route."""

    @shows("NIT-13", "16.4", "12.2")
    def test_within_a_dialog(self) -> None:
        """MESSAGE, INFO and an unheard-of method pass within a call, both ways, along its route."""
        for transport in ("udp", "tcp", "tls"):
            rig = Rig(auth={"required": False})
            a, b = rig.phone("1001"), rig.phone("1002", transport=transport)
            b.register()
            _, got, sent, ok = established(a, b)
            for number, method in enumerate(("MESSAGE", "INFO", "FOO"), 2):
                a.in_dialog(method, ok, body=b"forth", cseq=ok.cseq_number + number)
                there = b.take(method)
                self.assertEqual((there.body, there.get("route")), (b"forth", None))
                b.answer(there, 200)
                a.take(200)
                b.in_callee_dialog(method, got, sent, body=b"back")
                here = a.take(method)
                self.assertEqual((here.body, here.get("route")), (b"back", None))
                a.answer(here, 200)
                b.take(200)
            rig.finish()

    @shows("NIT-13", "16.4")
    def test_within_a_dialog_with_authentication(self) -> None:
        """The same where credentials are required: the dialog's token is enough, both ways."""
        rig = Rig(auth={"required": True})
        a, b = rig.phone("1001"), rig.phone("1002")
        b.authorized(b.request("REGISTER", "sip:example.com", to=f"<{b.aor}>", from_=f"<{b.aor}>;tag=r",
                               contact=f"<{b.contact}>"), b.take(401))
        b.take(200)
        invite = a.invite("1002")
        a.prove(invite)
        a.take(100)
        got = b.take("INVITE")
        sent, ok = b.pick_up(got, a)
        a.in_dialog("MESSAGE", ok, body=b"forth")
        b.answer(b.take("MESSAGE"), 200)
        a.take(200)
        b.in_callee_dialog("MESSAGE", got, sent, body=b"back")
        a.answer(a.take("MESSAGE"), 200)
        b.take(200)
        rig.finish()

    @shows("NIT-13", "16.4", "16.6/6")
    def test_notify_by_route(self) -> None:
        """A NOTIFY outside any dialog that carries our Route goes on to where its Request-URI says."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        a.request("NOTIFY", b.contact, "Route: <sip:192.0.2.1;lr>", "Event: message-summary",
                  "Subscription-State: active")
        got = b.take("NOTIFY")
        self.assertEqual((got.uri_text, got.get("route")), (b.contact, None))
        b.answer(got, 200)
        a.take(200)
        rig.finish()

    @shows("NIT-13", "26.3.2.4")
    def test_notify_by_route_is_no_open_relay(self) -> None:
        """The same is challenged where credentials are required."""
        rig = Rig(auth={"required": True})
        a, b = rig.phone("1001"), rig.phone("1002")
        a.request("NOTIFY", b.contact, "Route: <sip:192.0.2.1;lr>", "Event: message-summary",
                  "Subscription-State: active")
        a.take(407)
        b.silent()
        rig.finish()

    @shows("NIT-13", "16.6")
    def test_ipv6(self) -> None:
        """A MESSAGE from IPv4 to a phone on IPv6 and back."""
        rig = Rig(listen=(("udp", "192.0.2.1", 5060), ("udp", "2001:db8::1", 5060)))
        a, b = rig.phone("1001"), rig.phone("1002", address="2001:db8::20")
        a.register()
        b.register()
        a.request("MESSAGE", "sip:1002@example.com", body=b"4 to 6")
        got = b.take("MESSAGE")
        self.assertEqual(got.via.sent_by, "[2001:db8::1]:5060")
        b.answer(got, 200)
        a.take(200)
        b.request("MESSAGE", "sip:1001@example.com", body=b"6 to 4")
        a.answer(a.take("MESSAGE"), 200)
        b.take(200)
        rig.finish()
