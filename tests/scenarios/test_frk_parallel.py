"""Forking to several contacts at once (RFC 3261 s16.6, s16.7)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from tests.support.cases import shows
from tests.support.rig import Phone, Rig


def ringing(rig: Rig, caller: Phone, callees: list[Phone], *extra: str) -> tuple[Request, list[Request]]:
    """Registers the callees, calls them and lets them ring: the INVITE as sent, and as each received it."""
    for callee in callees:
        callee.register()
    invite = caller.invite("1002", *extra)
    caller.take(100)
    got = [callee.take("INVITE") for callee in callees]
    for callee, request in zip(callees, got, strict=False):
        callee.answer(request, 180)
        caller.take(180)
    return invite, got


def cancelled(callee: Phone, invite: Request) -> Request:
    """The callee is cancelled, answers 200 and 487 and gets its ACK; returns the CANCEL."""
    cancel = callee.take("CANCEL")
    assert isinstance(cancel, Request)
    callee.answer(cancel, 200)
    callee.answer(invite, 487)
    callee.take("ACK")
    return cancel


def refuse(callee: Phone, invite: Request, status: int, *extra: str) -> None:
    """The callee refuses and gets its ACK."""
    callee.answer(invite, status, *extra)
    callee.take("ACK")


class Parallel(TestCase):
    """Contacts of equal q."""

    def setUp(self) -> None:
        """A caller and three phones of 1002."""
        self.rig = Rig()
        self.a = self.rig.phone("1001")
        self.bs = [self.rig.phone("1002") for _ in range(3)]

    def calling(self, count: int, **settings: Any) -> tuple[Request, list[Request]]:
        """A call that so many phones have received, none of which has answered."""
        for callee in self.bs[:count]:
            callee.register()
        invite = self.a.invite("1002")
        self.a.take(100)
        return invite, [callee.take("INVITE") for callee in self.bs[:count]]

    def refused(self, *statuses: int, extra: dict[int, tuple[str, ...]] | None = None) -> Any:
        """The one final response of a call that the phones refuse with these, in every order alike."""
        invite, got = self.calling(len(statuses))
        for callee, request, status in zip(self.bs, got, statuses, strict=False):
            self.a.silent()
            refuse(callee, request, status, *(extra or {}).get(status, ()))
        final = self.a.take()
        self.a.ack(final, invite)
        self.rig.finish()
        return final

    @shows("FRK-01", "R3261-16.7-02", "R3261-16.7-03", "R3261-16.7-38", "R3261-16.6-39", "9.1")
    def test_first_answer_wins(self) -> None:
        """Both 180 go up with their own tags and the 200 at once; the loser gets a CANCEL of its own branch, its 487 ends
        here and is acknowledged here."""
        self.bs[0].register()
        self.bs[1].register()
        self.a.invite("1002")
        self.a.take(100)
        got = [callee.take("INVITE") for callee in self.bs[:2]]
        tags = set()
        for callee, request in zip(self.bs, got, strict=False):
            callee.answer(request, 180)
            tags.add(self.a.take(180).to_tag)
        self.assertEqual(len(tags), 2)
        self.bs[0].answer(got[0], 200)
        ok = self.a.take(200)
        self.assertEqual(len(ok.all("via")), 1)
        cancel = cancelled(self.bs[1], got[1])
        assert cancel.via is not None and got[1].via is not None
        self.assertEqual(cancel.via.text, got[1].via.text)
        self.assertEqual(cancel.uri_text, got[1].uri_text)
        self.assertEqual(cancel.cseq, (got[1].cseq_number, "CANCEL"))
        self.assertEqual(cancel.get("to"), got[1].get("to"))
        self.assertEqual(len(cancel.all("via")), 1)
        self.assertEqual(cancel.all("reason"), ['SIP;cause=200;text="Call completed elsewhere"'])
        self.a.ack(ok)
        self.bs[0].take("ACK")
        self.rig.finish()

    @shows("FRK-01", "R3261-16.7-37", "R3261-16.7-38", "9.1")
    def test_loser_that_never_rang(self) -> None:
        """A loser that has sent nothing is cancelled only when its first provisional response comes."""
        _, got = self.calling(2)
        self.bs[0].answer(got[0], 200)
        self.a.ack(self.a.take(200))
        self.bs[0].take("ACK")
        self.bs[1].silent()
        self.bs[1].answer(got[1], 180)
        cancelled(self.bs[1], got[1])
        self.rig.finish()

    @shows("FRK-01", "R3261-16.7-14", "16.7/5")
    def test_nothing_provisional_after_the_final(self) -> None:
        """A 180 of the loser after the 200 is not passed on."""
        _, got = self.calling(2)
        self.bs[1].answer(got[1], 180)
        self.a.take(180)
        self.bs[0].answer(got[0], 200)
        self.a.ack(self.a.take(200))
        self.bs[0].take("ACK")
        self.bs[1].answer(got[1], 183)
        self.a.silent()
        cancelled(self.bs[1], got[1])
        self.rig.finish()

    @shows("FRK-01", "9.1")
    def test_loser_that_ignores_the_cancel(self) -> None:
        """A phone that rings and then says nothing more, not even to the CANCEL, leaves nothing behind (s9.1: 64*T1)."""
        _, got = self.calling(2)
        self.bs[1].answer(got[1], 180)
        self.a.take(180)
        self.bs[0].answer(got[0], 200)
        self.a.ack(self.a.take(200))
        self.bs[0].take("ACK")
        self.rig.advance(40)
        self.assertEqual({request.method for request in self.bs[1].drain() if isinstance(request, Request)}, {"CANCEL"})
        self.rig.finish()

    @shows("FRK-02", "R3261-16.7-14", "16.7/6")
    def test_refusal_beside_an_answer(self) -> None:
        """One 486 is kept back, the 200 of the other is all that goes up."""
        _, got = self.calling(2)
        refuse(self.bs[0], got[0], 486)
        self.a.silent()
        self.bs[1].answer(got[1], 200)
        self.a.ack(self.a.take(200))
        self.bs[1].take("ACK")
        self.bs[0].silent()
        self.rig.finish()

    @shows("FRK-03", "R3261-16.7-17", "R3261-16.7-20", "16.7/6")
    def test_all_busy(self) -> None:
        """One 486 goes up, after the last phone refused."""
        self.assertEqual(self.refused(486, 486, 486).status, 486)

    @shows("FRK-04", "16.7/6")
    def test_each_refuses_otherwise(self) -> None:
        """404, 403 and 480 give one of them."""
        self.assertIn(self.refused(404, 403, 480).status, (403, 404, 480))

    @shows("FRK-04", "R3261-16.7-18", "R3261-16.7-22", "16.7/6")
    def test_lowest_class(self) -> None:
        """A 4xx is better than a 5xx, whichever came first."""
        self.assertEqual(self.refused(500, 486).status, 486)

    @shows("FRK-04", "16.7/6")
    def test_server_failures(self) -> None:
        """Among 5xx a 503 is the last choice: it tells the caller nothing that holds."""
        self.assertEqual(self.refused(503, 501).status, 501)

    @shows("FRK-07", "R3261-16.7-23", "16.7/6")
    def test_what_helps_415(self) -> None:
        """415 with Accept beside 404: the caller can do something about it."""
        final = self.refused(404, 415, extra={415: ("Accept: application/sdp",)})
        self.assertEqual((final.status, final.get("accept")), (415, "application/sdp"))

    @shows("FRK-07", "R3261-16.7-23", "16.7/6")
    def test_what_helps_420(self) -> None:
        """420 beside 404 and 480."""
        final = self.refused(404, 420, 480, extra={420: ("Unsupported: foo",)})
        self.assertEqual((final.status, final.get("unsupported")), (420, "foo"))

    @shows("FRK-07", "R3261-16.7-23", "16.7/6")
    def test_what_helps_484(self) -> None:
        """484 beside 404."""
        self.assertEqual(self.refused(484, 404).status, 484)

    @shows("FRK-07", "R3261-22.3-07", "R8760-2.5-01", "R3261-16.7-03", "R3261-16.7-31", "16.7/7", "22.3",
           "R3261-7.3.1-02")
    def test_challenges_are_collected(self) -> None:
        """401 and 407 of three phones beside each other: one goes up with every challenge, each octet for octet."""
        first = 'Digest realm="one", nonce="1", algorithm=MD5'
        second = 'Digest realm="two", nonce="2", qop="auth,auth-int"'
        third = 'Digest realm="three", nonce="3"'
        invite, got = self.calling(3)
        refuse(self.bs[0], got[0], 401, f"WWW-Authenticate: {first}")
        refuse(self.bs[1], got[1], 407, f"Proxy-Authenticate: {second}")
        refuse(self.bs[2], got[2], 401, f"WWW-Authenticate: {third}")
        final = self.a.take()
        self.assertIn(final.status, (401, 407))
        self.assertEqual(sorted(final.all("www-authenticate")), sorted([first, third]))
        self.assertEqual(final.all("proxy-authenticate"), [second])
        self.a.ack(final, invite)
        self.rig.finish()

    @shows("FRK-08", "R3261-16.7-24", "R3261-16.7-25", "16.7/6")
    def test_all_unavailable(self) -> None:
        """503 everywhere becomes 500, with a To tag and without Retry-After."""
        final = self.refused(503, 503, extra={503: ("Retry-After: 60",)})
        self.assertEqual(final.status, 500)
        self.assertNotEqual(final.to_tag, "")
        self.assertIsNone(final.get("retry-after"))

    @shows("FRK-09", "16.7/6")
    def test_redirection_beside_404(self) -> None:
        """302 is of the lower class, and its Contact is the caller's to follow."""
        final = self.refused(404, 302, extra={302: ("Contact: <sip:1002@elsewhere.example.net>",)})
        self.assertEqual((final.status, final.get("contact")), (302, "<sip:1002@elsewhere.example.net>"))

    @shows("FRK-10", "R3261-16.7-11", "R3261-16.7-21", "R3261-16.7-39", "16.7/5")
    def test_decline_everywhere(self) -> None:
        """603 cancels the other at once and goes up only after that one's 487."""
        invite, got = ringing(self.rig, self.a, self.bs[:2])
        refuse(self.bs[0], got[0], 603)
        self.a.silent()
        cancel = self.bs[1].take("CANCEL")
        self.bs[1].answer(cancel, 200)
        self.rig.advance(2)
        self.a.silent()
        self.bs[1].answer(got[1], 487)
        self.bs[1].take("ACK")
        final = self.a.take(603)
        self.a.ack(final, invite)
        self.rig.finish()

    @shows("FRK-10", "16.7/5")
    def test_decline_crosses_an_answer(self) -> None:
        """A 200 that crosses the CANCEL after a 603 goes up at once, and no 603 after it."""
        _, got = ringing(self.rig, self.a, self.bs[:2])
        refuse(self.bs[0], got[0], 603)
        cancel = self.bs[1].take("CANCEL")
        self.bs[1].answer(cancel, 481)
        self.bs[1].answer(got[1], 200)
        ok = self.a.take(200)
        self.a.ack(ok)
        self.bs[1].take("ACK")
        self.rig.finish()

    @shows("FRK-12", "R3261-16.7-13", "16.7/5", "13.2.2.4")
    def test_two_answers(self) -> None:
        """Both 200 go up with their own tags; ACK and BYE of each dialog reach the phone that answered it."""
        _, got = ringing(self.rig, self.a, self.bs[:2])
        answers = []
        for callee, request in zip(self.bs, got, strict=False):
            callee.answer(request, 200)
            answers.append(self.a.take(200))
        self.assertNotEqual(answers[0].to_tag, answers[1].to_tag)
        self.bs[1].answer(self.bs[1].take("CANCEL"), 481)
        for callee, ok in zip(self.bs, answers, strict=False):
            self.a.ack(ok)
            self.assertEqual(callee.take("ACK").to_tag, ok.to_tag)
        for callee, ok in zip(self.bs, answers, strict=False):
            self.a.in_dialog("BYE", ok)
            bye = callee.take("BYE")
            self.assertEqual(bye.to_tag, ok.to_tag)
            callee.answer(bye, 200)
            self.a.take(200)
        self.rig.finish()

    @shows("FRK-12", "16.7/5")
    def test_answer_repeated(self) -> None:
        """A phone repeats its 200 until the ACK comes: each goes up, each ACK down."""
        _, got = ringing(self.rig, self.a, self.bs[:1])
        for _ in range(3):
            self.bs[0].answer(got[0], 200)
            self.a.ack(self.a.take(200))
            self.bs[0].take("ACK")
        self.rig.finish()

    @shows("FRK-13", "R3261-16.10-01", "R3261-16.10-02", "R3261-16.10-03", "16.10")
    def test_caller_gives_up(self) -> None:
        """Three ring: 200 to the CANCEL at once, three CANCELs with the caller's Reason, one 487."""
        invite, got = ringing(self.rig, self.a, self.bs)
        self.a.cancel(invite, 'Reason: SIP;cause=487;text="Bored"')
        self.a.take(200)
        for callee, request in zip(self.bs, got, strict=False):
            self.a.silent()
            cancel = cancelled(callee, request)
            self.assertEqual(cancel.all("reason"), ['SIP;cause=487;text="Bored"'])
        self.a.ack(self.a.take(487), invite)
        self.rig.finish()

    @shows("FRK-13", "16.10")
    def test_caller_gives_up_after_a_refusal(self) -> None:
        """One was busy, one is cancelled: the 487 says what happened."""
        invite, got = ringing(self.rig, self.a, self.bs[:2])
        refuse(self.bs[0], got[0], 486)
        self.a.cancel(invite)
        self.a.take(200)
        cancelled(self.bs[1], got[1])
        self.a.ack(self.a.take(487), invite)
        self.rig.finish()

    @shows("FRK-19", "16.6/8")
    def test_two_contacts_at_one_device(self) -> None:
        """Two contacts lead to one device: two branches, and its 482 to the second is a response like others."""
        b = self.bs[0]
        b.register(contact=f"<sip:one@{b.host}:5060>, <sip:two@{b.host}:5060>")
        self.a.invite("1002")
        self.a.take(100)
        first, second = b.take("INVITE"), b.take("INVITE")
        self.assertNotEqual(first.via.branch.lower(), second.via.branch.lower())
        b.answer(second, 482)
        b.take("ACK")
        b.pick_up(first, self.a)
        self.rig.finish()

    @shows("FRK-20", "16.5")
    def test_registers_while_it_rings(self) -> None:
        """A phone that registers during the call is left out of it, and nothing breaks; the next call rings there."""
        _, got = ringing(self.rig, self.a, self.bs[:1])
        self.bs[1].register()
        self.bs[1].silent()
        self.bs[0].answer(got[0], 200)
        self.a.ack(self.a.take(200))
        self.bs[0].take("ACK")
        invite = self.a.invite("1002")
        self.a.take(100)
        for callee in self.bs[:2]:
            refuse(callee, callee.take("INVITE"), 486)
        self.a.ack(self.a.take(486), invite)
        self.rig.finish()

    @shows("FRK-20", "16.5")
    def test_goes_while_it_rings(self) -> None:
        """A phone that unregisters while it rings may still answer."""
        _, got = ringing(self.rig, self.a, self.bs[:1])
        self.bs[0].register(expires=0)
        self.bs[0].answer(got[0], 200)
        self.a.ack(self.a.take(200))
        self.bs[0].take("ACK")
        self.rig.finish()


class Many(TestCase):
    """More than a few."""

    @shows("FRK-21", "R3261-16.1-02", "R3261-16.6-32", "R3261-16.7-38", "16.6/8")
    def test_thirty(self) -> None:
        """Thirty contacts: thirty branches, the 100 first, and every other one cancelled on the answer."""
        rig = Rig(registrar={"max_contacts": 30})
        a = rig.phone("1001")
        callees = [rig.phone("1002") for _ in range(30)]
        _, got = ringing(rig, a, callees)
        self.assertEqual(len({request.via.branch.lower() for request in got if request.via is not None}), 30)
        callees[17].answer(got[17], 200)
        a.ack(a.take(200))
        for callee, request in zip(callees, got, strict=False):
            if callee is callees[17]:
                callee.take("ACK")
            else:
                cancelled(callee, request)
        rig.finish()

    @shows("FRK-01", "16.6")
    def test_mixed_transports(self) -> None:
        """Phones on UDP, TCP and TLS ring together; one of them answers and the caller, on TCP, hears of it once."""
        rig = Rig()
        a = rig.phone("1001", transport="tcp")
        a.register()
        callees = [rig.phone("1002", transport=kind) for kind in ("udp", "tcp", "tls")]
        _, got = ringing(rig, a, callees)
        callees[2].answer(got[2], 200)
        ok = a.take(200)
        a.ack(ok)
        callees[2].take("ACK")
        for callee, request in zip(callees[:2], got, strict=False):
            cancelled(callee, request)
        a.hang_up(ok, callees[2])
        rig.finish()

    @shows("FRK-03", "16.7/3")
    def test_refusal_without_our_via(self) -> None:
        """A phone whose refusal lost the caller's Via, hostile or broken, does not leave the caller waiting."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register()
        invite = a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        answer = b.answer(got, 486, send=False)
        lines = answer.encode().split(b"\r\n")
        vias = [line for line in lines if line.startswith(b"Via")]
        b.send(b"\r\n".join(line for line in lines if line not in vias[1:]))
        b.take("ACK")
        a.ack(a.take(500), invite)
        rig.finish()
