"""CANCEL as caller and callee see it (RFC 3261 s9, s16.10; RFC 3326)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from sipd.message.via import Via
from tests.support.cases import shows
from tests.support.rig import SERVER, Phone, Rig


def ringing(transport: str = "udp", *, ring: bool = True, rig: Rig | None = None, **settings: Any) -> tuple[
        Rig, Phone, Phone, Request, Request]:
    """A call that rings: server, caller, callee, the INVITE as sent and as received."""
    rig = rig or Rig(**settings)
    a, b = rig.phone("1001", transport=transport), rig.phone("1002", transport=transport)
    b.register()
    invite = a.invite("1002", "Require: 100rel", "Proxy-Authorization: Basic Zm9vOmJhcg==")
    a.take(100)
    got = b.take("INVITE")
    if ring:
        b.answer(got, 180)
        a.take(180)
    return rig, a, b, invite, got


def terminated(rig: Rig, a: Phone, b: Phone, invite: Request, got: Request) -> None:
    """The callee ends the INVITE with 487, which goes up and is acknowledged on both sides."""
    b.answer(got, 487)
    assert b.take("ACK").via.branch == got.via.branch  # type: ignore[union-attr]
    a.ack(a.take(487), invite)
    rig.finish()


def sent(rig: Rig, start: bytes, target: str) -> list[float]:
    """When messages that begin so were sent to an address."""
    return [packet.at for packet in rig.network.packets
            if packet.target[0] == target and packet.data.startswith(start)]


class Cancel(TestCase):
    """CAN-01 to CAN-11."""

    @shows("CAN-01", "R3261-16.6-39", "R3261-16.10-01", "R3261-16.10-02", "R3261-16.10-03", "9.1", "16.10")
    def test_while_it_rings(self) -> None:
        """200 at once, our CANCEL built from our INVITE by the letter of s9.1, 487 up; over every transport."""
        for transport in ("udp", "tcp", "tls"):
            rig, a, b, invite, got = ringing(transport)
            sent_cancel = a.cancel(invite)
            ok = a.take(200)
            self.assertEqual(ok.cseq, (invite.cseq_number, "CANCEL"))
            self.assertEqual(ok.values("via"), sent_cancel.values("via"))
            self.assertNotEqual(ok.to_tag, "")
            cancel = b.take("CANCEL")
            self.assertEqual(cancel.uri_text, got.uri_text)
            self.assertEqual(cancel.values("via"), got.values("via")[:1])
            for name in ("call-id", "from", "to"):
                self.assertEqual(cancel.first[name], got.first[name])
            self.assertEqual(cancel.to_tag, "")
            self.assertEqual(cancel.cseq, (got.cseq_number, "CANCEL"))
            for name in ("require", "proxy-require", "contact", "route"):
                self.assertNotIn(name, cancel.first)
            a.silent()
            b.answer(cancel, 200)
            terminated(rig, a, b, invite, got)

    @shows("CAN-01", "22.1")
    def test_never_challenged(self) -> None:
        """With authentication on a CANCEL without credentials works."""
        rig = Rig(auth={"required": True})
        a, b = rig.phone("1001"), rig.phone("1002")
        rig.binding("1002", b.contact)
        invite = a.invite("1002")
        again = a.prove(invite)
        got = b.ring(a)
        a.cancel(again)
        a.take(200)
        cancel = b.take("CANCEL")
        self.assertNotIn("proxy-authorization", cancel.first)
        b.answer(cancel, 200)
        terminated(rig, a, b, again, got)

    @shows("CAN-01", "9.1")
    def test_after_trying_only(self) -> None:
        """The callee's 100 is a provisional response: it may be cancelled."""
        rig, a, b, invite, got = ringing(ring=False)
        b.answer(got, 100)
        a.cancel(invite)
        a.take(200)
        b.answer(b.take("CANCEL"), 200)
        terminated(rig, a, b, invite, got)

    @shows("CAN-01", "7.3.3")
    def test_compact(self) -> None:
        """An INVITE and its CANCEL in compact form; the repeat of the INVITE during it brings nothing new downstream."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register()
        head = ("{0} sip:1002@example.com SIP/2.0\r\nv:SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKc\r\n"
                "f:<sip:1001@example.com>;tag=1\r\nt:sip:1002@example.com\r\ni:c\r\nCSeq:1 {0}\r\n{1}\r\n")
        a.send(head.format("INVITE", "m:<sip:1001@192.0.2.10>\r\n").encode())
        got = b.ring(a)
        a.send(head.format("CANCEL", "").encode())
        self.assertEqual(a.take(200).cseq_method, "CANCEL")
        cancel = b.take("CANCEL")
        self.assertEqual(cancel.via.branch, got.via.branch)
        self.assertEqual(cancel.first["to"], got.first["to"])
        a.send(head.format("INVITE", "m:<sip:1001@192.0.2.10>\r\n").encode())
        a.take(180)
        b.answer(cancel, 200)
        b.answer(got, 487)
        b.take("ACK")
        final = a.take(487)
        a.send(head.format("ACK", "").replace("t:sip:1002@example.com", f"t:{final.first['to']}").encode())
        rig.finish()

    @shows("CAN-03", "9.1")
    def test_silent_callee(self) -> None:
        """No CANCEL before a provisional response; the caller has 487 when timer B is over."""
        for transport in ("udp", "tcp"):
            rig, a, b, invite, _ = ringing(transport, ring=False)
            rig.advance(1)
            a.cancel(invite)
            a.take(200)
            rig.advance(30.5, 0.1)
            a.silent()
            rig.advance(1, 0.1)
            a.ack(a.take(487), invite)
            self.assertEqual({type(one) is Request and one.method for one in b.drain()} - {"INVITE"}, set())
            rig.finish()

    @shows("CAN-03", "9.1")
    def test_callee_wakes_up(self) -> None:
        """The CANCEL goes out when the first provisional response comes, once."""
        rig, a, b, invite, got = ringing(ring=False)
        a.cancel(invite)
        a.take(200)
        b.silent()
        b.answer(got, 180)
        a.take(180)
        b.answer(b.take("CANCEL"), 200)
        b.answer(got, 183)
        a.take(183)
        terminated(rig, a, b, invite, got)

    @shows("CAN-03", "9.1")
    def test_callee_refuses_instead(self) -> None:
        """A final response that comes without a provisional one ends it without a CANCEL."""
        rig, a, b, invite, got = ringing(ring=False)
        a.cancel(invite)
        a.take(200)
        b.answer(got, 486)
        b.take("ACK")
        a.ack(a.take(486), invite)
        rig.finish()

    @shows("CAN-03", "16.10")
    def test_callee_times_out_instead(self) -> None:
        """A 408 that comes of the CANCEL goes up as the 487 that the caller waits for."""
        rig, a, b, invite, got = ringing()
        a.cancel(invite)
        a.take(200)
        b.answer(b.take("CANCEL"), 200)
        b.answer(got, 408)
        b.take("ACK")
        a.ack(a.take(487), invite)
        rig.finish()

    @shows("CAN-03", "16.10")
    def test_before_anything_was_sent(self) -> None:
        """While DNS or a connection is waited for, nothing is sent any more and the caller has 487 at once."""
        for contact in ("sip:1002@slow.example.net", "sip:1002@192.0.2.50:5060;transport=tcp"):
            rig = Rig()
            rig.dns.all_silent = True
            place = rig.network.listen("tcp", "192.0.2.50", 5060, "blackhole")
            rig.binding("1002", contact)
            a = rig.phone("1001")
            invite = a.invite("1002")
            a.take(100)
            rig.advance(1)
            a.cancel(invite)
            a.take(200)
            a.ack(a.take(487), invite)
            place.mode = "accept"
            rig.dns.all_silent = False
            rig.finish()
            self.assertEqual(place.received, [])

    @shows("CAN-04", "9.1")
    def test_callee_never_ends_the_invite(self) -> None:
        """200 to the CANCEL but no 487: the caller has a final response after 64*T1, and nothing is left here."""
        for transport in ("udp", "tcp"):
            rig, a, b, invite, got = ringing(transport)
            a.cancel(invite)
            a.take(200)
            b.answer(b.take("CANCEL"), 200)
            rig.advance(31, 0.1)
            a.silent()
            rig.advance(1.2, 0.1)
            a.ack(a.take(487), invite)
            b.answer(got, 200)  # a stray by now
            rig.finish(33)

    @shows("CAN-05", "9.2")
    def test_crosses_the_answer(self) -> None:
        """The 200 of the callee and the CANCEL cross: the CANCEL has its 200, the call stands, ACK and BYE pass."""
        rig, a, b, invite, got = ringing()
        a.cancel(invite)
        self.assertEqual(a.take(200).cseq_method, "CANCEL")
        b.answer(got, 200)
        ok = a.take(200)
        self.assertEqual(ok.cseq_method, "INVITE")
        cancel = b.take("CANCEL")
        b.answer(cancel, 200)
        a.ack(ok)
        b.take("ACK")
        a.hang_up(ok, b)
        rig.finish()

    @shows("CAN-05", "9.2")
    def test_after_the_answer(self) -> None:
        """A CANCEL after the 200, and one after a refusal, are answered 200 and have no effect."""
        rig, a, b, invite, got = ringing()
        b.answer(got, 200)
        ok = a.take(200)
        a.cancel(invite)
        self.assertEqual(a.take(200).cseq_method, "CANCEL")
        a.ack(ok)
        b.take("ACK")
        second = a.invite("1002")
        a.take(100)
        b.refuse(486)
        busy = a.take(486)
        a.cancel(second)
        a.take(200)
        a.ack(busy, second)
        rig.finish()

    @shows("CAN-07", "9.2", "R3261-9.2-01")
    def test_unknown_branch(self) -> None:
        """481 for a branch nobody used, another sent-by, an unknown call; the call that rings is not touched."""
        rig, a, b, invite, got = ringing()
        a.cancel(_with_via(invite, f"SIP/2.0/UDP {a.address}:5060;branch=z9hG4bKother"))
        a.take(481)
        branch = invite.via.branch  # type: ignore[union-attr]
        a.cancel(_with_via(invite, f"SIP/2.0/UDP {a.address}:5061;rport;branch={branch}"))
        a.take(481)
        a.request("CANCEL", "sip:nobody@nowhere.example.net")
        a.take(481)
        a.request("CANCEL", "sip:1002@example.com", to="<sip:1002@example.com>;tag=invented")
        a.take(481)
        b.silent()
        b.pick_up(got, a)
        rig.finish()

    @shows("CAN-08", "9.2")
    def test_other_method(self) -> None:
        """CANCEL of a pending MESSAGE: 200, the callee never hears of it, and its answer and later targets still count."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        rig.binding("1002", b.contact, q=1000)
        second = rig.phone("1002")
        rig.binding("1002", second.contact, q=500)
        message = a.request("MESSAGE", "sip:1002@example.com", body=b"hello")
        got = b.take("MESSAGE")
        a.cancel(message)
        self.assertEqual(a.take(200).cseq_method, "CANCEL")
        b.answer(got, 480)
        later = second.take("MESSAGE")
        second.answer(later, 200)
        self.assertEqual(a.take(200).cseq_method, "MESSAGE")
        rig.finish()

    @shows("CAN-08", "9.2")
    def test_finished_register(self) -> None:
        """CANCEL of a REGISTER that was answered: 200, the binding stays."""
        rig = Rig()
        b = rig.phone("1002")
        request = b.request("REGISTER", "sip:example.com", "Expires: 60", to=f"<{b.aor}>", contact=f"<{b.contact}>")
        b.take(200)
        b.cancel(request)
        b.take(200)
        self.assertEqual(len(b.register(contact="", expires=None).all("contact")), 1)
        rig.finish()

    @shows("CAN-09", "8.1.1.5")
    def test_cseq_says_invite(self) -> None:
        """400, and it goes on ringing; the right CANCEL then works."""
        rig, a, b, invite, got = ringing()
        wrong = a.cancel(invite)
        a.take(200)
        b.answer(b.take("CANCEL"), 200)
        terminated(rig, a, b, invite, got)
        rig, a, b, invite, got = ringing()
        a.send(wrong.encode().replace(b" CANCEL\r\n", b" INVITE\r\n").replace(
            wrong.via.branch.encode(), invite.via.branch.encode()))  # type: ignore[union-attr]
        a.take(400)
        b.silent()
        a.cancel(invite)
        a.take(200)
        b.answer(b.take("CANCEL"), 200)
        terminated(rig, a, b, invite, got)

    @shows("CAN-10", "9.1", "R3261-8.2.2.3-03", "R3261-8.2.2.3-04")
    def test_require_and_route(self) -> None:
        """Require and Proxy-Require with unknown tags, Max-Forwards 0, a Route: a CANCEL all the same, and none pass on."""
        rig, a, b, invite, got = ringing()
        cancel = a.cancel(invite, "Require: nothing-known", "Proxy-Require: this-neither", f"Route: <sip:{SERVER};lr>",
                          "Route: <sip:192.0.2.99;lr>")
        self.assertEqual(cancel.method, "CANCEL")
        a.take(200)
        down = b.take("CANCEL")
        for name in ("require", "proxy-require", "route"):
            self.assertNotIn(name, down.first)
        b.answer(down, 200)
        terminated(rig, a, b, invite, got)

    @shows("CAN-11", "17.2.2")
    def test_repeated(self) -> None:
        """200 each time, one CANCEL downstream; over UDP and TCP, also when the INVITE has ended."""
        for transport in ("udp", "tcp"):
            rig, a, b, invite, got = ringing(transport)
            cancel = a.cancel(invite)
            a.send(cancel)
            rig.advance(0.3)
            a.send(cancel)
            self.assertEqual(len(a.take_all(200)), 3)
            b.answer(b.take("CANCEL"), 200)
            b.silent()
            b.answer(got, 487)
            b.take("ACK")
            refused = a.take(487)
            a.send(cancel)
            a.take(200)
            a.ack(refused, invite)
            rig.finish()

    @shows("CAN-13", "17.1.2.2")
    def test_callee_silent_to_the_cancel(self) -> None:
        """Our CANCEL is repeated at 0.5, 1.5, 3.5, 7.5 s and every 4 s, until 64*T1, each alike; 487 to the caller."""
        rig, a, b, invite, _ = ringing()
        a.cancel(invite)
        a.take(200)
        rig.advance(40, 0.02)
        times = sent(rig, b"CANCEL", b.address)
        self.assertEqual(len(times), 11)
        for time, least in zip(times, (0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5), strict=True):
            self.assertApproximates(time, least + 0.15, 0.16)
        self.assertEqual(len({one.encode() for one in b.take_all("CANCEL")}), 1)
        a.ack(a.take_all(487)[0], invite)
        rig.finish()

    @shows("CAN-13", "9.1")
    def test_callee_silent_but_ends_the_invite(self) -> None:
        """487 without an answer to the CANCEL: the caller has it at once."""
        rig, a, b, invite, got = ringing()
        a.cancel(invite)
        a.take(200)
        b.take("CANCEL")
        b.answer(got, 487)
        b.take("ACK")
        a.ack(a.take(487), invite)
        rig.advance(33)
        b.take_all("CANCEL")
        rig.finish()

    @shows("CAN-13", "9.2")
    def test_callee_refuses_the_cancel(self) -> None:
        """481 or 500 to our CANCEL changes nothing: the INVITE's own response counts."""
        rig, a, b, invite, got = ringing()
        a.cancel(invite)
        a.take(200)
        b.answer(b.take("CANCEL"), 481)
        rig.advance(1)
        a.silent()
        b.pick_up(got, a)
        rig.finish()


class Reasons(TestCase):
    """CAN-14: why it is cancelled."""

    @shows("CAN-14", "R3326-2-01", "3326 2")
    def test_reason_is_copied(self) -> None:
        """The caller's Reason values, several and of any protocol, stand in our CANCEL as they came."""
        rig, a, b, invite, got = ringing()
        a.cancel(invite, 'Reason: SIP ;cause=200 ;text="Call completed elsewhere, ünter"', "reason : Q.850;cause=16, X;y")
        a.take(200)
        cancel = b.take("CANCEL")
        self.assertEqual(cancel.all("reason"), ['SIP ;cause=200 ;text="Call completed elsewhere, ünter"',
                                                "Q.850;cause=16, X;y"])
        b.answer(cancel, 200)
        terminated(rig, a, b, invite, got)

    @shows("CAN-14", "3326 3.1")
    def test_losers_of_a_fork(self) -> None:
        """They are told that the call was answered elsewhere, also one that begins to ring only afterwards."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        c, d = rig.phone("1002"), rig.phone("1002")
        for phone in (b, c, d):
            phone.register()
        a.invite("1002")
        a.take(100)
        calls = [(phone, phone.take("INVITE")) for phone in (b, c, d)]
        for phone, got in calls[:2]:
            phone.answer(got, 180)
            a.take(180)
        b.answer(calls[0][1], 200)
        ok = a.take(200)
        a.ack(ok)
        b.take("ACK")
        d.silent()
        d.answer(calls[2][1], 180)
        for phone, got in calls[1:]:
            cancel = phone.take("CANCEL")
            reason = cancel.first["reason"].replace(" ", "")
            self.assertTrue(reason.startswith("SIP;cause=200;"), reason)
            self.assertIn("elsewhere", reason)
            phone.answer(cancel, 200)
            phone.answer(got, 487)
            phone.take("ACK")
        rig.finish()

    @shows("CAN-14", "3326 2")
    def test_no_reason_of_our_own(self) -> None:
        """A CANCEL without Reason goes on without one: the callee shows a missed call."""
        rig, a, b, invite, got = ringing()
        a.cancel(invite)
        a.take(200)
        cancel = b.take("CANCEL")
        self.assertNotIn("reason", cancel.first)
        b.answer(cancel, 200)
        terminated(rig, a, b, invite, got)


def _with_via(invite: Request, via: str) -> Request:
    """A copy whose topmost Via is another."""
    copy = invite.copy()
    copy.via = Via.parse(via)
    return copy


class BrokenWay(TestCase):
    """A CANCEL that cannot be delivered."""

    @shows("CAN-04", "9.1", "18.4")
    def test_connection_gone(self) -> None:
        """The callee's connection breaks while it rings: the caller who gives up hears 487 at once, not after 64*T1."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002", transport="tcp")
        b.register()
        invite = a.invite("1002")
        a.take(100)
        b.answer(b.take("INVITE"), 180)
        a.take(180)
        assert b.connection is not None
        b.connection.close()
        a.cancel(invite)
        a.take(200)
        rig.advance(0.1)
        a.ack(a.take(487), invite)
        rig.finish()
