"""Whole calls through the real core: what passes, in which direction, and octet for octet (RFC 3261 s13 to s16)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message.message import Message
from tests.support.cases import shows
from tests.support.rig import SERVER, Phone, Rig, established

LISTEN6 = (("udp", "192.0.2.1", 5060), ("udp", "2001:db8::1", 5060), ("tcp", "2001:db8::1", 5060))


def pair(rig: Rig, transport: str = "udp", callee_transport: str = "") -> tuple[Phone, Phone]:
    """A caller, and a callee that is registered."""
    a, b = rig.phone("1001", transport=transport), rig.phone("1002", transport=callee_transport or transport)
    b.register()
    return a, b


def hang_up(rig: Rig, phone: Phone, other: Phone, bye: Message) -> None:
    """`other` gets the BYE that `phone` sent and answers it."""
    got = other.take("BYE")
    assert got.call_id == bye.call_id
    other.answer(got, 200)
    phone.take(200)
    rig.finish()


class Calls(TestCase):
    """INV-01, INV-02, INV-28: a call from INVITE to BYE."""

    @shows("INV-01", "R3261-16.2-01", "16.2")
    def test_trying_at_once(self) -> None:
        """The 100 is there when the INVITE has arrived, with our caller's headers and no tag, also while DNS is silent."""
        rig = Rig()
        rig.dns.all_silent = True
        rig.binding("1002", "sip:1002@slow.example.net")
        a = rig.phone("1001")
        invite = a.invite("1002", "Timestamp: 54.21")
        trying = a.take(100)
        self.assertEqual(trying.to_tag, "")
        self.assertEqual(trying.first["to"], invite.first["to"])
        self.assertEqual(trying.first["via"], invite.first["via"])
        self.assertEqual(trying.first["timestamp"], "54.21")  # s8.2.6.1
        self.assertEqual(trying.cseq, invite.cseq)
        rig.advance(6)
        a.ack(a.take(500), invite)
        rig.finish()

    @shows("INV-02", "R3261-16.6-05", "R3261-16.6-06", "R3261-16.7-02", "R3261-16.7-10", "R3261-16.7-16",
           "R3261-16.7-33", "16.7/5")
    def test_every_message_once(self) -> None:
        """180, 183 with SDP, 200, ACK and BYE pass once each, bodies and strange headers octet for octet."""
        rig = Rig()
        a, b = pair(rig)
        offer = "v=0\r\ns=ünïcödé \x00\r\n".encode() + bytes(range(256))
        invite = a.invite("1002", "X-Odd:   two  spaces ;\tand=a tab", "s: Grüße", body=offer)
        a.take(100)
        got = b.take("INVITE")
        self.assertEqual(got.body, offer)
        self.assertIn(b"X-Odd:   two  spaces ;\tand=a tab", b.raw[-1])
        self.assertIn("s: Grüße".encode(), b.raw[-1])
        self.assertEqual(got.first["max-forwards"], "69")
        self.assertEqual(len(got.values("via")), 2)
        self.assertEqual(got.uri_text, b.contact)
        for status, body in ((180, b""), (183, b"early\x00\xff media"), (200, b"answer\xfe")):
            sent = b.answer(got, status, "X-Back: ' \\ \"", body=body, reason="Schön")
            up = a.take(status)
            self.assertEqual(up.body, body)
            self.assertEqual(up.reason, "Schön")
            self.assertEqual(up.first["x-back"], "' \\ \"")
            self.assertEqual(up.first["to"], sent.first["to"])
            self.assertEqual(up.values("via"), invite.values("via"))
        self.assertEqual(up.values("record-route"), got.values("record-route"))
        ack = a.ack(up)
        passed = b.take("ACK")
        self.assertEqual(passed.cseq, ack.cseq)
        self.assertNotIn("route", passed.first)
        hang_up(rig, a, b, a.in_dialog("BYE", up))
        self.assertEqual(len([one for one in rig.network.packets if one.data.startswith(b"BYE")]), 2)

    @shows("INV-02", "12.2.1.1")
    def test_callee_hangs_up(self) -> None:
        """The callee's BYE goes by its own route set to the caller's contact."""
        rig = Rig()
        a, b = pair(rig)
        invite, got, sent, _ = established(a, b)
        bye = b.in_callee_dialog("BYE", got, sent)
        self.assertEqual(bye.uri_text, a.contact)
        hang_up(rig, b, a, bye)

    @shows("INV-02", "R3261-16.6-16", "16.6/4")
    def test_over_each_transport(self) -> None:
        """TCP and TLS phones call each other and UDP phones, both hang up; no stream phone need be connected to anew."""
        for caller, callee in (("tcp", "tcp"), ("tls", "tls"), ("tcp", "udp"), ("udp", "tls"), ("tls", "tcp")):
            for by_callee in (False, True):
                rig = Rig()
                a, b = pair(rig, caller, callee)
                _, got, sent, ok = established(a, b)
                self.assertEqual(len(got.values("record-route")), 1 if caller == callee else 2, (caller, callee))
                if by_callee:
                    hang_up(rig, b, a, b.in_callee_dialog("BYE", got, sent))
                else:
                    hang_up(rig, a, b, a.in_dialog("BYE", ok))

    @shows("INV-02")
    def test_over_ipv6(self) -> None:
        """The same over IPv6, UDP and TCP, and between the two families through us."""
        for left, right, transport in (("2001:db8::a", "2001:db8::b", "udp"), ("2001:db8::a", "2001:db8::b", "tcp"),
                                       ("192.0.2.10", "2001:db8::b", "udp"), ("2001:db8::a", "192.0.2.20", "udp")):
            rig = Rig(listen=LISTEN6)
            a, b = rig.phone("1001", left, transport), rig.phone("1002", right, transport)
            b.register()
            _, got, sent, ok = established(a, b)
            bye = b.in_callee_dialog("BYE", got, sent)
            a.answer(a.take("BYE"), 200)
            b.take(200)
            self.assertEqual(bye.uri_text, a.contact)
            rig.finish()

    @shows("INV-02")
    def test_compact_and_odd_spellings(self) -> None:
        """Compact names, odd case, folded lines and spaces round a colon make the same call."""
        rig = Rig()
        a, b = pair(rig)
        head = ("INVITE sip:1002@EXAMPLE.com:5060 SIP/2.0\r\n"
                "v : sip/2.0/udp 192.0.2.10:5060 ;Branch=Z9HG4BKodd;rport\r\n"
                "F: \"A\r\n  person\" <sip:1001@example.com> ; tag = xyz\r\n"
                "T:sip:1002@example.com\r\n"
                "i\t: odd-call@[::1]\r\n"
                "cseq:   0000009\r\n INVITE\r\n"
                "MAX-FORWARDS: 70\r\n"
                "m: <sip:1001@192.0.2.10:5060>\r\n"
                "l: 0\r\n\r\n")
        a.send(head.encode())
        trying = a.take(100)
        self.assertEqual(trying.cseq_number, 9)
        got = b.take("INVITE")
        b.answer(got, 180)
        a.take(180)
        b.answer(got, 486)
        busy = a.take(486)
        b.take("ACK")
        a.send(("ACK sip:1002@example.com:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKodd;rport\r\n"
                f"From: <sip:1001@example.com>;tag=xyz\r\nTo: {busy.first['to']}\r\nCall-ID: odd-call@[::1]\r\n"
                "CSeq: 9 ACK\r\n\r\n").encode())
        rig.finish()

    @shows("INV-28", "R3261-16.7-10", "R3261-16.7-15", "R3261-16.7-33", "16.7/5")
    def test_early_media(self) -> None:
        """183 with a body, five seconds of it, then 200."""
        rig = Rig()
        a, b = pair(rig)
        a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        b.answer(got, 100)
        b.answer(got, 183, body=b"v=0 early")
        self.assertEqual(a.take(183).body, b"v=0 early")  # and never the callee's 100
        rig.advance(5)
        b.answer(got, 200, body=b"v=0 answer")
        ok = a.take(200)
        self.assertEqual(ok.body, b"v=0 answer")
        a.ack(ok)
        b.take("ACK")
        hang_up(rig, a, b, a.in_dialog("BYE", ok))

    @shows("INV-02", "R3261-16.7-10", "16.7/5")
    def test_any_provisional_any_success(self) -> None:
        """101 to 199 pass, also unknown ones; any 2xx makes the call."""
        rig = Rig()
        a, b = pair(rig)
        a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        for status in (101, 181, 182, 199):
            b.answer(got, status)
            a.take(status)
        b.answer(got, 299)
        ok = a.take(299)
        a.ack(ok)
        b.take("ACK")
        hang_up(rig, a, b, a.in_dialog("BYE", ok))

    @shows("INV-02", "R3261-16.6-04", "R3261-16.6-33", "16.6/4", "16.7/3")
    def test_behind_another_proxy(self) -> None:
        """A call that comes through a proxy: its Via and the caller's in one line, its Record-Route, all come back."""
        rig = Rig()
        proxy, b = rig.phone("1001"), rig.phone("1002")
        b.register()
        vias = [f"SIP/2.0/UDP {proxy.address}:5060;branch=z9hG4bKproxy", "SIP/2.0/TCP [2001:db8::9]:5061;branch=z9hG4bKa;x=\"a,b\""]
        record = f"<sip:{proxy.address};lr;ftag=1>"
        invite = proxy.invite("1002", f"Record-Route: {record}", via=f"Via: {vias[0]} , {vias[1]}", max_forwards="12")
        self.assertEqual(proxy.take(100).values("via"), vias)
        got = b.take("INVITE")
        self.assertEqual(got.values("via")[1:], vias)
        self.assertEqual(got.values("record-route")[1:], [record])
        self.assertEqual(got.first["max-forwards"], "11")
        b.answer(got, 180)
        self.assertEqual(proxy.take(180).values("via"), vias)
        proxy.send(("CANCEL sip:1002@example.com SIP/2.0\r\nVia: " + vias[0] + f"\r\nFrom: {invite.first['from']}\r\n"
                    f"To: {invite.first['to']}\r\nCall-ID: {invite.call_id}\r\nCSeq: {invite.cseq_number} CANCEL\r\n\r\n")
                   .encode())
        self.assertEqual(proxy.take(200).values("via"), vias[:1])
        b.answer(b.take("CANCEL"), 200)
        b.answer(got, 200)
        ok = proxy.take(200)
        self.assertEqual(ok.values("via"), vias)
        self.assertEqual(ok.values("record-route"), got.values("record-route"))
        ours = ok.values("record-route")[0]
        proxy.request("ACK", b.contact, f"Route: {ours}", to=ok.first["to"], from_=ok.first["from"], call_id=ok.call_id,
                      cseq=ok.cseq_number)
        b.take("ACK")
        bye = b.request("BYE", proxy.contact, f"Route: {ours}", f"Route: {record}", to=got.first["from"],
                        from_=ok.first["to"], call_id=got.call_id)
        passed = proxy.take("BYE")
        self.assertEqual(passed.values("route"), [record])
        proxy.answer(passed, 200)
        self.assertEqual(b.take(200).cseq, bye.cseq)
        rig.finish()

    @shows("INV-02", "22.3")
    def test_with_credentials(self) -> None:
        """With authentication on the INVITE is challenged, ACK and BYE of the call are not; our credentials stay here."""
        rig = Rig(auth={"required": True})
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register(take=401)
        register = b.request("REGISTER", "sip:example.com", to=f"<{b.aor}>", contact=f"<{b.contact}>")
        b.authorized(register, b.take(401))
        b.take(200)
        invite = a.invite("1002")
        a.prove(invite)
        a.take(100)
        got = b.take("INVITE")
        self.assertNotIn("proxy-authorization", got.first)
        sent, ok = b.pick_up(got, a)
        hang_up(rig, b, a, b.in_callee_dialog("BYE", got, sent))


class WithinCalls(TestCase):
    """INV-06, INV-26, INV-27, INV-33, INV-34: what happens inside a call passes untouched."""

    @shows("INV-06", "R3261-16.11-01", "R3261-16.11-06", "R3261-16.11-09", "13.2.2.4")
    def test_repeated_ack(self) -> None:
        """The ACK of a 2xx goes on each time it comes, looking alike downstream; nobody answers it."""
        rig = Rig()
        a, b = pair(rig)
        a.invite("1002")
        a.take(100)
        b.answer(b.take("INVITE"), 200)
        ok = a.take(200)
        ack = a.ack(ok)
        a.send(ack)
        a.send(ack)
        branches = {one.via.branch for one in b.take_all("ACK")}
        self.assertEqual(len(branches), 1)
        self.assertEqual(len([p for p in rig.network.packets if p.data.startswith(b"ACK") and p.source[0] == "192.0.2.1"]), 3)
        hang_up(rig, a, b, a.in_dialog("BYE", ok))

    @shows("INV-06", "R3261-16.11-07", "16.5")
    def test_caller_without_route_set(self) -> None:
        """A caller that knows no Record-Route sends ACK and BYE to the address it called: both arrive, where everybody
        is trusted, and without a proof no ACK does where nobody is. An ACK that reuses the INVITE's branch arrives too."""
        for branch in ("z9hG4bKown", "z9hG4bKinvite"):
            rig = Rig()
            a, b = rig.phone("1001"), rig.phone("1002", transport="tcp")
            b.register()
            rig.binding("1002", f"sip:1002@{SERVER}", q=100)  # ourselves: not to be sent there
            a.invite("1002", branch="z9hG4bKinvite")
            a.take(100)
            b.answer(b.take("INVITE"), 200)
            ok = a.take(200)
            fields: dict[str, Any] = {"to": ok.first["to"], "from_": ok.first["from"], "call_id": ok.call_id}
            a.request("ACK", f"sip:1002@{SERVER}", cseq=ok.cseq_number, branch=branch, **fields)
            ack = b.take("ACK")
            self.assertEqual(ack.uri_text, b.contact)
            b.silent()
            rig.core.layer.core._auth_required = True  # type: ignore[attr-defined]
            a.request("ACK", f"sip:1002@{SERVER}", cseq=ok.cseq_number, **fields)
            b.silent()
            rig.finish()

    @shows("INV-26", "3262 3", "3311 5")
    def test_reliable_provisionals(self) -> None:
        """A reliable 183, its PRACK and an UPDATE before the answer pass; RSeq, RAck and Require are as they were."""
        rig = Rig()
        a, b = pair(rig)
        a.invite("1002", "Supported: 100rel")
        a.take(100)
        got = b.take("INVITE")
        self.assertEqual(got.first["supported"], "100rel")
        for rseq in (988789, 988790):
            b.answer(got, 183, "Require: 100rel", f"RSeq: {rseq}", body=b"offer")
            early = a.take(183)
            self.assertEqual(early.first["rseq"], str(rseq))
            self.assertEqual(early.first["require"], "100rel")
            a.in_dialog("PRACK", early, f"RAck: {rseq} {early.cseq_number} INVITE")
            prack = b.take("PRACK")
            self.assertEqual(prack.first["rack"], f"{rseq} {got.cseq_number} INVITE")
            b.answer(prack, 200)
            self.assertEqual(a.take(200).cseq_method, "PRACK")
        update = a.in_dialog("UPDATE", early, body=b"new offer", cseq=77)
        got_update = b.take("UPDATE")
        self.assertEqual(got_update.body, b"new offer")
        b.answer(got_update, 200, body=b"new answer")
        self.assertEqual(a.take(200).body, b"new answer")
        self.assertEqual(update.cseq_number, 77)
        _, ok = b.pick_up(got, a)
        hang_up(rig, a, b, a.in_dialog("BYE", ok, cseq=78))

    @shows("INV-27", "14.1")
    def test_reinvite_from_either_side(self) -> None:
        """re-INVITE both ways, without an offer and with one in the ACK; 491 is acknowledged hop by hop."""
        rig = Rig()
        a, b = pair(rig)
        _, got, sent, ok = established(a, b)
        again = a.in_dialog("INVITE", ok)
        a.take(100)
        hold = b.take("INVITE")
        self.assertEqual(hold.body, b"")
        b.answer(hold, 200, body=b"late offer")
        again_ok = a.take(200)
        self.assertEqual(again_ok.body, b"late offer")
        a.in_dialog("ACK", again_ok, cseq=again.cseq_number, body=b"late answer")
        self.assertEqual(b.take("ACK").body, b"late answer")
        glare = b.in_callee_dialog("INVITE", got, sent)
        b.take(100)
        a.answer(a.take("INVITE"), 491)
        refused = b.take(491)
        self.assertEqual(a.take("ACK").cseq_number, glare.cseq_number)
        b.ack(refused, glare)
        b.in_callee_dialog("INVITE", got, sent)
        b.take(100)
        back = a.take("INVITE")
        a.answer(back, 200)
        back_ok = b.take(200)
        b.in_callee_dialog("ACK", got, sent, cseq=back_ok.cseq_number)
        a.take("ACK")
        hang_up(rig, a, b, a.in_dialog("BYE", ok, cseq=again.cseq_number + 5))

    @shows("INV-27", "9.1")
    def test_reinvite_cancelled(self) -> None:
        """A re-INVITE can be cancelled; the call stands."""
        rig = Rig()
        a, b = pair(rig)
        _, _, _, ok = established(a, b)
        again = a.in_dialog("INVITE", ok)
        got = b.ring(a)
        a.cancel(again)
        a.take(200)
        cancel = b.take("CANCEL")
        self.assertEqual(cancel.first["to"], got.first["to"])
        self.assertNotEqual(cancel.to_tag, "")
        b.answer(cancel, 200)
        b.answer(got, 487)
        b.take("ACK")
        a.ack(a.take(487), again)
        hang_up(rig, a, b, a.in_dialog("BYE", ok, cseq=again.cseq_number + 1))

    @shows("INV-33", "4028 8")
    def test_session_timer(self) -> None:
        """Session-Expires and Min-SE pass in the INVITE, in 422 and in the 200, unchanged and not added to."""
        rig = Rig()
        a, b = pair(rig)
        first = a.invite("1002", "Supported: timer", "Session-Expires: 90", "Min-SE: 90")
        a.take(100)
        got = b.take("INVITE")
        self.assertEqual((got.first["session-expires"], got.first["min-se"]), ("90", "90"))
        b.answer(got, 422, "Min-SE: 3600")
        b.take("ACK")
        small = a.take(422)
        self.assertEqual(small.first["min-se"], "3600")
        a.ack(small, first)
        a.invite("1002", "Supported: timer", "x: 3600;refresher=uac")
        a.take(100)
        got = b.take("INVITE")
        self.assertEqual(got.first["session-expires"], "3600;refresher=uac")
        self.assertNotIn("min-se", got.first)
        b.answer(got, 200, "Require: timer", "Session-Expires: 3600;refresher=uac")
        ok = a.take(200)
        self.assertEqual(ok.values("session-expires"), ["3600;refresher=uac"])
        self.assertEqual(ok.first["require"], "timer")
        a.ack(ok)
        b.take("ACK")
        hang_up(rig, a, b, a.in_dialog("BYE", ok))

    @shows("INV-34", "3515 2.4")
    def test_transfer(self) -> None:
        """Blind transfer: REFER, its NOTIFYs, INFO and a method nobody knows pass both ways within the call."""
        rig = Rig()
        a, b = pair(rig)
        _, got, sent, ok = established(a, b)
        a.in_dialog("REFER", ok, "Refer-To: <sip:1003@example.com?Replaces=a%40b%3Bto-tag%3Dx>", "Referred-By: <sip:1001@example.com>")
        refer = b.take("REFER")
        self.assertEqual(refer.first["refer-to"], "<sip:1003@example.com?Replaces=a%40b%3Bto-tag%3Dx>")
        b.answer(refer, 202)
        a.take(202)
        for state in ("active;expires=60", "terminated;reason=noresource"):
            b.in_callee_dialog("NOTIFY", got, sent, "Event: refer", f"Subscription-State: {state}", body=b"SIP/2.0 100 Trying\r\n")
            notify = a.take("NOTIFY")
            self.assertEqual(notify.first["subscription-state"], state)
            self.assertEqual(notify.body, b"SIP/2.0 100 Trying\r\n")
            a.answer(notify, 200)
            b.take(200)
        for number, method in enumerate(("INFO", "MESSAGE", "DANCE"), 50):
            a.in_dialog(method, ok, cseq=number)
            b.answer(b.take(method), 200)
            a.take(200)
        hang_up(rig, b, a, b.in_callee_dialog("BYE", got, sent))

