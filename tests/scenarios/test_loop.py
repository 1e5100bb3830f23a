"""Loops end soon, spirals pass (RFC 5393, RFC 3261 s16.3 step 4)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from tests.support.cases import shows
from tests.support.rig import DOMAIN, LISTEN, Phone, Rig


def between(rig: Rig) -> int:
    """How many messages the server sent to itself."""
    return sum(packet.source[0] == packet.target[0] for packet in rig.network.packets)


class Loops(TestCase):
    """RFC 5393 s4."""

    @shows("VAL-17", "R5393-4.2.2-04", "R3261-16.6-34", "5393 4.2", "16.3/4")
    def test_own_address(self) -> None:
        """The contact of 1002 is 1002's own address-of-record: 482 at once, after one turn, by each of our names."""
        for auth in (False, True):
            for contact in (f"sip:1002@{DOMAIN}", "sip:1002@192.0.2.1", "sip:1002@alias.example.com:5060",
                            f"sip:%31002@{DOMAIN};transport=tcp"):
                rig = Rig(auth={"required": auth})
                rig.binding("1002", contact)
                a = rig.phone("1001")
                for method in ("INVITE", "MESSAGE"):
                    request = a.request(method, f"sip:1002@{DOMAIN}")
                    if auth:
                        challenge = a.take(407)
                        if method == "INVITE":
                            a.ack(challenge, request)
                        request = a.authorized(request, challenge)
                    if method == "INVITE":
                        a.take(100)
                    rig.advance(0.5, 0.1)
                    answer = a.take(482)
                    if method == "INVITE":
                        a.ack(answer, request)
                self.assertLess(between(rig), 30)
                rig.finish()

    @shows("VAL-17", "R5393-4.1-01", "5393 4.2")
    def test_circle(self) -> None:
        """Three users who forward to each other in a circle, and to a phone: the phone rings once and answers."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1004")
        rig.binding("1002", f"sip:1003@{DOMAIN}")
        rig.binding("1003", f"sip:1004@{DOMAIN}")
        rig.binding("1004", f"sip:1002@{DOMAIN}")
        rig.binding("1004", b.contact)
        a.invite("1002")
        a.take(100)
        rig.advance(0.5, 0.1)
        got = b.take("INVITE")
        b.answer(got, 200)
        rig.advance(0.5, 0.1)
        a.ack(a.take(200))
        rig.advance(0.5, 0.1)
        b.take("ACK")
        rig.finish()

    @shows("VAL-17", "5393 5.3.3")
    def test_amplification(self) -> None:
        """Users who all forward to all others (RFC 5393 s3): the work is bounded by Max-Breadth, not their factorial."""
        rig = Rig()
        names = [f"100{n}" for n in range(2, 10)]
        for name in names:
            for other in names:
                rig.binding(name, f"sip:{other}@{DOMAIN}")
        a = rig.phone("1001")
        invite = a.invite("1002")
        a.take(100)
        rig.advance(0.4, 0.05)
        answer = a.take()
        self.assertIn(answer.status, (440, 482, 483))
        a.ack(answer, invite)
        self.assertLess(between(rig), 200)
        rig.finish()

    @shows("VAL-17", "5393 3")
    def test_amplification_in_turn(self) -> None:
        """The same with users who forward to all others one after the other: bounded too."""
        rig = Rig()
        names = [f"100{n}" for n in range(2, 10)]
        for name in names:
            for number, other in enumerate(names):
                rig.binding(name, f"sip:{other}@{DOMAIN}", q=1000 - number)
        a = rig.phone("1001")
        a.request("MESSAGE", f"sip:1002@{DOMAIN}")
        rig.advance(2, 0.05)
        self.assertIn(a.take().status, (440, 482, 483))
        self.assertLess(between(rig), 200)
        rig.finish()

    @shows("VAL-17", "R5393-5.3.3-01", "R5393-5.3.3-02", "R5393-5.3.3-03", "R5393-5.3.3-04", "R5393-5.3.3-06",
           "R5393-5.3.3-07", "R5393-5.3.3-08", "R5393-5.3.3-09", "5393 5.3.3")
    def test_max_breadth(self) -> None:
        """A request has one Max-Breadth: 60 or what it came with, if less, shared out among its copies; 440 when it
        does not suffice."""
        rig = Rig()
        a, b, c = rig.phone("1001"), rig.phone("1002"), rig.phone("1003")
        c.register()
        for lines, expected in (((), "60"), (("Max-Breadth: 7",), "7"), (("max-breadth: 1000",), "60")):
            a.request("MESSAGE", f"sip:1003@{DOMAIN}", *lines)
            got = c.take("MESSAGE")
            self.assertEqual(got.all("max-breadth"), [expected])
            c.answer(got, 200)
            a.take(200)
        b.register()
        b.register(contact=f"<sip:other@{c.address}>")
        for lines, shares in (((), ("30", "30")), (("Max-Breadth: 3",), ("2", "1")), (("Max-Breadth: 100",), ("30", "30"))):
            a.request("MESSAGE", f"sip:1002@{DOMAIN}", *lines)
            for phone, share in zip((b, c), shares, strict=True):
                got = phone.take("MESSAGE")
                self.assertEqual(got.all("max-breadth"), [share])
                phone.answer(got, 200)
            a.take(200)
        a.request("MESSAGE", f"sip:1002@{DOMAIN}", "Max-Breadth: 1")
        a.take(440)
        b.silent()
        c.silent()
        rig.finish()

    @shows("VAL-17", "16.3/3")
    def test_elsewhere(self) -> None:
        """A loop through another server that rewrites nothing: Max-Forwards or our mark ends it."""
        rig = Rig()
        a, mirror = rig.phone("1001"), rig.phone("1003", "192.0.2.66")
        rig.binding("1002", f"sip:1002@{mirror.address}")
        a.request("MESSAGE", f"sip:1002@{DOMAIN}")
        got = mirror.take("MESSAGE")
        via = f"Via: SIP/2.0/UDP {mirror.address};branch=z9hG4bKmirror"
        lines = got.encode().decode().split("\r\n")
        lines[0] = lines[0].replace(got.uri_text, f"sip:1002@{DOMAIN}")
        lines.insert(1, via)
        mirror.send("\r\n".join(lines).encode())
        looped = mirror.take(482)
        mirror.answer(got, looped.status)
        a.take(482)
        rig.finish()


class Spirals(TestCase):
    """s16.3 step 4: back at the same proxy with another Request-URI is no loop."""

    def spiral(self, transport: str = "udp", required: bool = False, behind: bool = False) -> tuple[Rig, Phone, Phone]:
        """1002 forwards to 1003, who has a phone."""
        rig = Rig(auth={"required": required})
        a = rig.phone("1001")
        b = rig.phone("1003", "10.0.0.9", source=("203.0.113.4", 5060)) if behind else rig.phone("1003")
        rig.binding("1003", b.contact, nat=behind, flow="udp/192.0.2.1:5060/203.0.113.4:5060" if behind else "")
        rig.binding("1002", f"sip:1003@{DOMAIN}" + ("" if transport == "udp" else f";transport={transport}"))
        return rig, a, b

    def start(self, rig: Rig, a: Phone, required: bool) -> Request:
        """Calls 1002, with credentials where they are asked for."""
        invite = a.invite("1002")
        if required:
            invite = a.prove(invite)
        a.take(100)
        rig.advance(0.5, 0.1)
        return invite

    @shows("VAL-18", "R5393-4.2.2-03", "R3261-16.6-37", "16.3/4", "16.6/4")
    def test_call(self) -> None:
        """A whole call through the spiral, over UDP and over TCP between the turns, with and without authentication,
        with a callee behind NAT; hung up from either side."""
        for transport in ("udp", "tcp"):
            for required in (False, True):
                for behind in (False, True):
                    for caller_ends in (False, True):
                        rig, a, b = self.spiral(transport, required, behind)
                        self.start(rig, a, required)
                        got = b.take("INVITE")
                        self.assertEqual(got.first["max-forwards"], "68")
                        b.answer(got, 180)
                        rig.advance(0.3, 0.1)
                        a.take(180)
                        sent = b.answer(got, 200)
                        rig.advance(0.3, 0.1)
                        ok = a.take(200)
                        a.ack(ok)
                        rig.advance(0.3, 0.1)
                        b.take("ACK")
                        one, other = (a, b) if caller_ends else (b, a)
                        if caller_ends:
                            a.in_dialog("BYE", ok)
                        else:
                            b.in_callee_dialog("BYE", got, sent)
                        rig.advance(0.3, 0.1)
                        other.answer(other.take("BYE"), 200)
                        rig.advance(0.3, 0.1)
                        one.take(200)
                        for connection in rig.transports.flows.copy().values():
                            if connection.connection is not None:
                                connection.connection.close()
                        rig.finish()

    @shows("VAL-18", "16.10", "9.1")
    def test_cancel(self) -> None:
        """A CANCEL follows the INVITE through the spiral; the 487 comes back through it."""
        for required in (False, True):
            rig, a, b = self.spiral(required=required)
            invite = self.start(rig, a, required)
            got = b.take("INVITE")
            b.answer(got, 180)
            rig.advance(0.3, 0.1)
            a.take(180)
            a.cancel(invite)
            a.take(200)
            rig.advance(0.3, 0.1)
            cancel = b.take("CANCEL")
            b.answer(cancel, 200)
            b.answer(got, 487)
            b.take("ACK")
            rig.advance(0.3, 0.1)
            a.ack(a.take(487), invite)
            rig.finish()

    @shows("VAL-18", "16.3/4")
    def test_without_dns(self) -> None:
        """Our own names are not looked up: the spiral does not wait for a DNS that is silent."""
        rig, a, b = self.spiral()
        rig.dns.all_silent = True
        a.request("MESSAGE", f"sip:1002@{DOMAIN}")
        rig.advance(0.1, 0.05)
        b.answer(b.take("MESSAGE"), 200)
        rig.advance(0.1, 0.05)
        a.take(200)
        self.assertEqual(rig.dns.asked, [])
        rig.finish()

    @shows("VAL-18", "16.3/4")
    def test_other_port(self) -> None:
        """A server on a port of its own finds itself by a contact without a port."""
        rig = Rig(listen=tuple((transport, address, port + 10000) for transport, address, port in LISTEN))
        a, b = rig.phone("1001"), rig.phone("1003")
        b.register()
        rig.binding("1002", "sip:1003@192.0.2.1")
        a.request("MESSAGE", f"sip:1002@{DOMAIN}")
        rig.advance(0.3, 0.1)
        b.answer(b.take("MESSAGE"), 200)
        rig.advance(0.3, 0.1)
        a.take(200)
        rig.finish()
