"""The INVITE transactions of a call as their peers see them (RFC 3261 s17.1.1, s17.2.1, s17.2.3; RFC 6026)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from tests.support.cases import shows
from tests.support.rig import SERVER, Phone, Rig, established

#: Finer than the wheel's ticks, so that what is sent has its real time.
FINE = 0.01


def pair(transport: str = "udp", **settings: object) -> tuple[Rig, Phone, Phone]:
    """A server, a caller and a callee that is registered."""
    rig = Rig(**settings)  # type: ignore[arg-type]
    a, b = rig.phone("1001", transport=transport), rig.phone("1002", transport=transport)
    b.register()
    return rig, a, b


def sent_at(rig: Rig, start: bytes, target: str, expected: list[float]) -> None:
    """Fails unless messages that begin so were sent to an address at these times, up to 0.3 s late."""
    times = [packet.at for packet in rig.network.packets
             if packet.target[0] == target and packet.data.startswith(start)]
    assert len(times) == len(expected), times
    for time, least in zip(times, expected, strict=True):
        assert least - 0.001 <= time <= least + 0.3, times


class Server(TestCase):
    """INV-03, INV-04, INV-05, INV-10, INV-11: our side towards the caller."""

    @shows("INV-03", "R3261-17.2.1-05", "R3261-16.7-36", "17.2.1")
    def test_repeated_while_ringing(self) -> None:
        """A repeat brings the last provisional again and reaches nobody."""
        rig, a, b = pair()
        invite = a.invite("1002")
        first = a.take(100)
        a.send(invite)
        self.assertEqual(a.take(100).encode(), first.encode())
        got = b.take("INVITE")
        for status in (180, 183):
            b.answer(got, status, body=b"early")
            a.take(status)
            a.send(invite)
            self.assertEqual(a.take(status).body, b"early")
        b.silent()
        b.answer(got, 486)
        b.take("ACK")
        a.ack(a.take(486), invite)
        a.send(invite)  # s17.2.1: confirmed, so it is absorbed
        rig.finish()

    @shows("INV-03", "R3261-17.2.1-11", "R3261-16.7-36", "17.2.1")
    def test_repeated_after_refusal(self) -> None:
        """A repeat of an INVITE refused with 486 brings the 486 again, at once."""
        rig, a, b = pair()
        invite = a.invite("1002")
        a.take(100)
        b.refuse(486)
        busy = a.take(486)
        a.send(invite)
        self.assertEqual(a.take(486).encode(), busy.encode())
        a.ack(busy, invite)
        rig.finish()

    @shows("INV-04", "R6026-6-01", "R6026-7.1-01", "6026 7.1")
    def test_repeated_after_answer(self) -> None:
        """A repeat after the 200 is swallowed for 64*T1: no response, no second call."""
        rig, a, b = pair()
        invite = a.invite("1002")
        a.take(100)
        b.answer(b.take("INVITE"), 200)
        ok = a.take(200)
        a.send(invite)
        a.ack(ok)
        b.take("ACK")
        for _ in range(3):
            rig.advance(10)
            a.send(invite)
        rig.finish()

    @shows("INV-05", "R6026-7.1-03", "R6026-7.2-02", "R6026-8.7-01", "6026 7.2")
    def test_callee_repeats_its_answer(self) -> None:
        """Each 200 goes up for 64*T1, never one of our own making; afterwards it is dropped."""
        rig, a, b = pair()
        a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        ok = b.answer(got, 200)
        first = a.take(200)
        for wait in (0.5, 1, 2, 4, 4, 4, 4, 4, 4, 4):
            rig.advance(wait)
            b.send(ok)
            self.assertEqual(a.take(200).encode(), first.encode())
        a.ack(first)
        b.take("ACK")
        rig.advance(2)
        b.send(ok)
        rig.finish()

    @shows("INV-10", "R3261-17.2.1-09", "R3261-17.2.1-13", "17.2.1")
    def test_never_acknowledged(self) -> None:
        """A refusal is repeated after T1, 2*T1, 4*T1 and then every T2, until 64*T1."""
        rig, a, b = pair()
        a.invite("1002")
        a.take(100)
        b.refuse(486)
        rig.advance(40, FINE)
        sent_at(rig, b"SIP/2.0 486", a.address, [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5])
        self.assertEqual(len({one.encode() for one in a.take_all(486)}), 1)
        rig.finish(0)

    @shows("INV-10", "17.2.1")
    def test_never_acknowledged_on_tcp(self) -> None:
        """Over TCP nothing is repeated, and the wait for the ACK ends all the same."""
        rig, a, b = pair("tcp")
        a.invite("1002")
        a.take(100)
        b.refuse(486)
        a.take(486)
        rig.finish(33)

    @shows("INV-10", "17.2.1")
    def test_acknowledged_late(self) -> None:
        """The ACK stops the repeats, a repeat of the ACK does no harm, and it goes no further."""
        rig, a, b = pair()
        invite = a.invite("1002")
        a.take(100)
        b.refuse(404)
        rig.advance(2, FINE)
        refusal = a.take_all(404)[0]
        ack = a.ack(refusal, invite)
        a.send(ack)
        rig.advance(1)
        a.send(ack)
        rig.finish()

    @shows("INV-11", "17.2.3")
    def test_ack_with_other_branch(self) -> None:
        """An ACK with a branch of its own ends nothing."""
        rig, a, b = pair()
        invite = a.invite("1002")
        a.take(100)
        b.refuse(486)
        busy = a.take(486)
        fields = {"to": busy.first["to"], "from_": busy.first["from"], "call_id": busy.call_id, "cseq": busy.cseq_number}
        a.request("ACK", invite.uri_text, **fields)
        # the same branch said by another sender is another transaction too
        other = f"Via: SIP/2.0/UDP 192.0.2.77:5060;branch={invite.via.branch}"  # type: ignore[union-attr]
        a.request("ACK", invite.uri_text, via=other, **fields)
        rig.advance(4, FINE)
        self.assertEqual(len(a.take_all(486)), 3)
        a.ack(busy, invite)
        b.take_all("ACK")  # those of another branch went on, as an ACK of a 2xx would
        rig.finish()

    @shows("INV-03", "17.2.3")
    def test_same_branch_of_two_callers(self) -> None:
        """Two callers that by chance use one branch have two calls: sent-by tells them apart."""
        rig, a, b = pair()
        c = rig.phone("1003")
        for caller in (a, c):
            caller.invite("1002", branch="z9hG4bKsame")
            caller.take(100)
        first, second = b.take("INVITE"), b.take("INVITE")
        self.assertNotEqual(first.via.branch, second.via.branch)
        b.answer(second, 180)
        c.take(180)
        a.silent()
        for got, caller in ((first, a), (second, c)):
            b.pick_up(got, caller)
        rig.finish()

    @shows("INV-03", "17.2.3")
    def test_old_clients(self) -> None:
        """A caller of RFC 2543, without a magic cookie: repeat, refusal, ACK and CANCEL find their transaction."""
        rig, a, b = pair()
        for via in (f"Via: SIP/2.0/UDP {a.address}:5060", f"Via: SIP/2.0/UDP {a.address}:5060;branch=1"):
            invite = a.invite("1002", via=via)
            a.take(100)
            a.send(invite)
            got = b.ring(a)
            a.cancel(invite)
            a.take(200)
            b.cancelled(got)
            a.ack(a.take(487), invite)
            rig.advance(10)
            b.silent()
        rig.finish()

    @shows("INV-10", "R3261-16.9-02", "16.9", "18.2.2")
    def test_caller_loses_its_connection(self) -> None:
        """The caller's connection breaks while it rings: no CANCEL follows, and the answer opens a new one to it."""
        rig = Rig()
        a, b = rig.phone("1001", transport="tcp"), rig.phone("1002")
        b.register()
        a.invite("1002")
        got = b.ring(a)
        again = a.accept()
        assert a.connection is not None
        a.connection.close()
        rig.advance(5)
        b.silent()
        b.answer(got, 200)
        rig.advance(1)
        self.assertEqual([data[:11] for data in again.received], [b"SIP/2.0 200"])
        rig.finish()


class Client(TestCase):
    """INV-08, INV-09, INV-12, INV-13, INV-19, INV-22, INV-25: our side towards the callee."""

    @shows("INV-08", "R3261-17.1.1.3-01", "R3261-17.1.1.3-02", "R3261-17.1.1.3-03", "R3261-17.1.1.3-04",
           "R3261-17.1.1.3-05", "R3261-17.1.1.3-06", "R3261-17.1.1.2-18", "R3261-17.1.1.2-19", "R3261-16.6-39",
           "R3261-16.7-29", "17.1.1.3")
    def test_refusal(self) -> None:
        """The refusal is acknowledged by us with our INVITE's branch, Request-URI and Route; the caller's ACK ends here."""
        for transport in ("udp", "tcp"):
            rig, a, b = pair(transport)
            invite = a.invite("1002", "Require: 100rel")
            a.take(100)
            got = b.take("INVITE")
            b.answer(got, 486, "Retry-After: 5", tag="busy")
            ack: Request = b.take("ACK")
            self.assertEqual(ack.uri_text, got.uri_text)
            self.assertEqual(ack.all("via"), got.all("via")[:1])
            self.assertEqual(ack.values("via"), got.values("via")[:1])
            self.assertEqual(ack.cseq, (got.cseq_number, "ACK"))
            self.assertEqual((ack.first["from"], ack.call_id), (got.first["from"], got.call_id))
            self.assertEqual(ack.first["to"], f"{got.first['to']};tag=busy")
            self.assertNotIn("require", ack.first)
            self.assertNotIn("contact", ack.first)
            busy = a.take(486)
            self.assertEqual(busy.to_tag, "busy")
            self.assertEqual(busy.first["retry-after"], "5")
            self.assertEqual(busy.values("via"), invite.values("via"))
            a.ack(busy, invite)
            rig.finish()

    @shows("INV-08", "R3261-17.1.1.3-07", "17.1.1.3")
    def test_ack_takes_the_route(self) -> None:
        """Where the INVITE had a Route, our ACK and our CANCEL have it too."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        route = f"<sip:{b.address};lr;x=1>"
        invite = a.invite("sip:someone@elsewhere.example.net", f"Route: <sip:{SERVER};lr>, {route}")
        a.take(100)
        got = b.take("INVITE")
        self.assertEqual(got.values("route"), [route])
        b.answer(got, 180)
        a.take(180)
        a.cancel(invite)
        a.take(200)
        cancel = b.take("CANCEL")
        self.assertEqual((cancel.values("route"), cancel.uri_text), ([route], got.uri_text))
        b.answer(cancel, 200)
        b.answer(got, 487)
        ack = b.take("ACK")
        self.assertEqual((ack.values("route"), ack.uri_text), ([route], got.uri_text))
        a.ack(a.take(487), invite)
        rig.finish()

    @shows("INV-09", "R3261-17.1.1.2-22", "R3261-17.1.1.2-23", "R6026-8.4-06", "R6026-8.4-07", "17.1.1.2")
    def test_refusal_repeated(self) -> None:
        """Each repeat of a refusal is acknowledged, for 32 s; the caller sees one. A 180 after it changes nothing."""
        rig, a, b = pair()
        invite = a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        busy = b.answer(got, 486)
        a.ack(a.take(486), invite)
        first = b.take("ACK")
        for wait in (0.5, 1, 2, 4, 8, 16):
            rig.advance(wait)
            b.send(busy)
            self.assertEqual(b.take("ACK").encode(), first.encode())
        b.answer(got, 180)
        b.answer(got, 200)  # s17.1.1.2: no 2xx can follow a refusal
        rig.advance(2)
        b.send(busy)
        rig.finish()

    @shows("INV-12", "R3261-17.1.1.2-06", "R3261-17.1.1.2-08", "R3261-17.1.1.2-09", "R3261-17.1.1.2-13",
           "R3261-16.6-41", "R3261-16.7-19", "17.1.1.2")
    def test_silent_callee(self) -> None:
        """INVITE at 0, 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s, all alike, and 408 at 32 s."""
        rig, a, b = pair()
        a.invite("1002")
        a.take(100)
        rig.advance(31.9, FINE)
        a.silent()
        sent_at(rig, b"INVITE", b.address, [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5])
        self.assertEqual(len({one.encode() for one in b.take_all("INVITE")}), 1)
        rig.advance(0.2, FINE)
        timeout = a.take(408)
        self.assertNotEqual(timeout.to_tag, "")
        rig.advance(35)
        a.take_all(408)
        b.silent()
        rig.finish()

    @shows("INV-13", "17.1.1.2")
    def test_silent_callee_on_tcp(self) -> None:
        """One INVITE, 408 at 32 s."""
        rig, a, b = pair("tcp")
        invite = a.invite("1002")
        a.take(100)
        rig.advance(31.9, FINE)
        a.silent()
        rig.advance(0.2, FINE)
        b.take("INVITE")
        a.ack(a.take(408), invite)
        rig.finish()

    @shows("INV-12", "R3261-16.7-15", "17.1.1.2")
    def test_trying_ends_the_repeats(self) -> None:
        """The callee's 100 ends the repeats and the 32 s; it goes no further."""
        rig, a, b = pair()
        a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        b.answer(got, 100)
        rig.advance(60)
        b.silent()
        b.pick_up(got, a)
        rig.finish()

    @shows("INV-19", "R3261-16.7-14", "16.7/5")
    def test_late_provisional(self) -> None:
        """180 and a refusal after the 200 are dropped; no ACK of ours goes to the callee for the latter."""
        rig, a, b = pair()
        a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        b.pick_up(got, a)
        for status in (180, 183, 486, 603):
            b.answer(got, status)
        rig.finish()

    @shows("INV-22", "R6026-6-03", "R6026-7.3-01", "17.1.3", "18.1.2")
    def test_responses_that_do_not_fit(self) -> None:
        """Without To, with another method, branch or sent-by, or unreadable: dropped, and the INVITE is repeated."""
        rig, a, b = pair()
        a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        good = b.answer(got, 200, send=False).encode().decode()
        to = next(line for line in good.split("\r\n") if line.startswith("To:"))
        via = got.via
        for bad in (good.replace(f"{to}\r\n", ""),
                    good.replace(" INVITE\r\n", " OPTIONS\r\n"),
                    good.replace(" INVITE\r\n", " BYE\r\n"),
                    good.replace(via.branch, f"{via.branch}0"),
                    good.replace(via.branch, via.branch[:-1]),
                    good.replace(f"UDP {SERVER}:5060", "UDP 192.0.2.99:5060"),
                    good.replace(f"UDP {SERVER}:5060", f"UDP {SERVER}:5070"),
                    good.replace("SIP/2.0 200", "SIP/2.0 700"),
                    good.replace("SIP/2.0 200", "SIP/2.0 20"),
                    good.replace("SIP/2.0 200", "SIP/3.0 200"),
                    good.replace("Call-ID:", "Cal-ID:"),
                    "\r\n".join(line for line in good.split("\r\n") if not line.startswith("Via:"))):
            self.assertNotEqual(bad, good)
            b.send(bad.encode())
            a.silent()
        rig.advance(1)
        b.take("INVITE")
        b.send(good.encode())
        a.ack(a.take(200))
        b.take("ACK")
        rig.finish()

    @shows("INV-22", "17.1.3")
    def test_responses_spelled_otherwise(self) -> None:
        """Vias in one line, compact, in other case and order, folded: the same response."""
        rig, a, b = pair()
        for number in range(3):
            a.invite("1002")
            a.take(100)
            got = b.take("INVITE")
            lines = b.answer(got, 200, send=False).encode().decode().split("\r\n")
            vias = [line.partition(":")[2].strip() for line in lines if line.startswith("Via:")]
            rest = [line for line in lines if not line.startswith("Via:")]
            ours = f"sip / 2.0 / udp {SERVER}:5060 ; BRANCH={got.via.branch.upper()};x=\"a,b;c\""
            head = (["v: " + ",".join(vias)], [f"VIA: {ours}", f"via :{vias[1]}"], [f"v: {vias[0]}", f" ,\r\n\t{vias[1]}"])[number]
            b.send("\r\n".join([rest[0], *head, *rest[1:]]).encode())
            ok = a.take(200)
            self.assertEqual(ok.values("via"), vias[1:])
            a.ack(ok)
            b.take("ACK")
        rig.finish()

    @shows("INV-22", "R3261-16.7-06", "16.7/3")
    def test_response_that_lost_the_caller(self) -> None:
        """A final response with our Via alone goes nowhere; the caller gets a final one all the same."""
        for status in (200, 486):
            rig, a, b = pair()
            invite = a.invite("1002")
            a.take(100)
            got = b.take("INVITE")
            vias = got.all("via")
            sent = b.answer(got, status, send=False).encode().decode()
            b.send(sent.replace(f"Via: {vias[1]}\r\n", "").encode())
            b.drain()
            final = a.take()
            self.assertGreaterEqual(final.status, 500)
            self.assertEqual(final.values("via"), invite.values("via"))
            a.ack(final, invite)
            rig.finish()

    @shows("INV-25", "R6026-6-04", "R6026-7.3-02", "R6026-8.2-01", "R6026-8.9-02", "6026 7.3", "R3261-18.1.2-03")
    def test_stray_responses(self) -> None:
        """Responses that nobody waits for are dropped, of any class, also with a second Via that leads to the caller."""
        rig, a, b = pair()
        _, got, _, _ = established(a, b)
        rig.advance(40)
        for status in (100, 180, 200, 302, 486, 503, 603):
            b.answer(got, status)
            b.answer(got, status, tag="another")
        self.assertGreaterEqual(rig.core.layer.strays, 14)
        rig.finish()

    @shows("INV-30", "17.2.3")
    def test_ack_out_of_the_blue(self) -> None:
        """An ACK for a call nobody knows: silence, with and without authentication, a To tag, a Route to us."""
        for required in (False, True):
            rig = Rig(auth={"required": required})
            a, b = rig.phone("1001"), rig.phone("1002")
            rig.binding("1002", b.contact)
            for tag in ("", ";tag=invented") if required else ("",):
                for route in ((), (f"Route: <sip:{SERVER};lr>",), (f"Route: <sip:0123456789abcdef@{SERVER};lr>",)):
                    a.request("ACK", "sip:1002@example.com", *route, to=f"<sip:1002@example.com>{tag}")
                    a.request("ACK", f"sip:{SERVER}", *route, to=f"<sip:{SERVER}>{tag}")
                    a.request("ACK", "sip:nobody@example.com", *route, to=f"<sip:nobody@example.com>{tag}")
                    a.request("ACK", b.contact, *route, to=f"<sip:1002@example.com>{tag}")
            rig.finish()
