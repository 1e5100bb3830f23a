"""Forking by falling q, requests other than INVITE to several contacts, and redirections (RFC 3261 s16.6, s16.7)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from tests.scenarios.test_frk_parallel import cancelled, refuse
from tests.support.cases import shows
from tests.support.rig import Phone, Rig


class Serial(TestCase):
    """Contacts of q 1.0, 0.5 and 0.2."""

    def setUp(self) -> None:
        """A caller and three phones of 1002."""
        self.rig = Rig()
        self.a = self.rig.phone("1001")
        self.bs = [self.rig.phone("1002") for _ in range(3)]
        # in an order that is not that of q
        for callee, q in ((self.bs[1], "0.5"), (self.bs[2], "0.2"), (self.bs[0], "1.0")):
            callee.register(contact=f"<{callee.contact}>;q={q}")

    def call(self) -> tuple[Request, Request]:
        """A call: the INVITE as sent, and as the first phone received it."""
        invite = self.a.invite("1002")
        self.a.take(100)
        return invite, self.bs[0].take("INVITE")

    @shows("FRK-14", "16.6")
    def test_next_after_refusal(self) -> None:
        """The second is tried when the first refused, the third only when the second did."""
        _, got = self.call()
        self.bs[0].answer(got, 100)
        self.rig.advance(5)
        self.bs[1].silent()
        self.a.silent()
        refuse(self.bs[0], got, 486)
        second = self.bs[1].take("INVITE")
        self.bs[2].silent()
        self.assertEqual(second.uri_text, self.bs[1].contact)
        self.bs[1].pick_up(second, self.a)
        self.bs[2].silent()
        self.rig.finish()

    @shows("FRK-14", "16.6")
    def test_next_after_ringing_in_vain(self) -> None:
        """After ring_timeout the first is cancelled and the second tried; the first's 487 does not go up."""
        _, got = self.call()
        self.bs[0].answer(got, 180)
        self.a.take(180)
        self.rig.advance(19)
        self.bs[1].silent()
        self.bs[0].silent()
        self.rig.advance(2)
        cancelled(self.bs[0], got)
        second = self.bs[1].take("INVITE")
        self.bs[2].silent()
        self.bs[1].answer(second, 180)
        self.a.take(180)
        self.bs[1].pick_up(second, self.a)
        self.rig.finish()

    @shows("FRK-14", "16.7/6")
    def test_all_in_vain(self) -> None:
        """The last ring of the series may last; when it refuses, that goes up and not our own 487s."""
        invite, got = self.call()
        for index in (0, 1):
            self.bs[index].answer(got, 180)
            self.a.take(180)
            self.rig.advance(20.5)
            cancelled(self.bs[index], got)
            got = self.bs[index + 1].take("INVITE")
        self.bs[2].answer(got, 180)
        self.a.take(180)
        self.rig.advance(60)
        self.bs[2].silent()
        refuse(self.bs[2], got, 486)
        self.a.ack(self.a.take(486), invite)
        self.rig.finish()

    @shows("FRK-14", "17.1.1.2")
    def test_first_is_dead(self) -> None:
        """A first phone that never answers anything costs ring_timeout and no more."""
        self.call()
        self.rig.advance(21)
        self.bs[0].drain()
        second = self.bs[1].take("INVITE")
        self.bs[1].pick_up(second, self.a)
        self.rig.advance(40)
        self.bs[0].drain()
        self.rig.finish()

    @shows("FRK-15", "R3261-16.7-12", "16.7/5")
    def test_decline_ends_the_series(self) -> None:
        """603 of the first goes up and nobody else is called."""
        invite, got = self.call()
        refuse(self.bs[0], got, 603)
        self.a.ack(self.a.take(603), invite)
        self.rig.advance(30)
        self.bs[1].silent()
        self.rig.finish()

    @shows("FRK-16", "16.10")
    def test_caller_gives_up(self) -> None:
        """The caller cancels while the second rings: the third is never tried, and 487 or the 486 before it goes up."""
        invite, got = self.call()
        refuse(self.bs[0], got, 486)
        second = self.bs[1].take("INVITE")
        self.bs[1].answer(second, 180)
        self.a.take(180)
        self.a.cancel(invite)
        self.a.take(200)
        cancelled(self.bs[1], second)
        final = self.a.take()
        self.assertIn(final.status, (486, 487))
        self.a.ack(final, invite)
        self.rig.advance(30)
        self.bs[2].silent()
        self.rig.finish()

    @shows("FRK-16", "16.10")
    def test_caller_gives_up_between(self) -> None:
        """The caller cancels while the first, given up after ring_timeout, has not ended: both end, one 487 goes up."""
        invite, got = self.call()
        self.bs[0].answer(got, 180)
        self.a.take(180)
        self.rig.advance(21)
        second = self.bs[1].take("INVITE")
        self.bs[1].answer(second, 180)
        self.a.take(180)
        self.a.cancel(invite)
        self.a.take(200)
        cancelled(self.bs[1], second)
        self.a.silent()
        cancelled(self.bs[0], got)
        self.a.ack(self.a.take(487), invite)
        self.rig.finish()

    @shows("FRK-14", "16.7/5")
    def test_late_answer_of_the_first(self) -> None:
        """The first answers in the moment it is cancelled: its 200 goes up and the second is cancelled."""
        _, got = self.call()
        self.bs[0].answer(got, 180)
        self.a.take(180)
        self.rig.advance(21)
        self.bs[0].answer(self.bs[0].take("CANCEL"), 200)
        second = self.bs[1].take("INVITE")
        self.bs[1].answer(second, 180)
        self.a.take(180)
        self.bs[0].pick_up(got, self.a)
        cancelled(self.bs[1], second)
        self.bs[2].silent()
        self.rig.finish()


class Others(TestCase):
    """Requests other than INVITE to two contacts."""

    def setUp(self) -> None:
        """A caller and two phones of 1002."""
        self.rig = Rig()
        self.a = self.rig.phone("1001")
        self.bs = [self.rig.phone("1002") for _ in range(2)]
        for callee in self.bs:
            callee.register()

    def ask(self, method: str, *extra: str) -> list[Request]:
        """The request as both phones received it."""
        self.a.request(method, "sip:1002@example.com", *extra)
        return [callee.take(method) for callee in self.bs]

    @shows("FRK-18", "R3261-16.7-14", "16.7/5")
    def test_message_first_success(self) -> None:
        """MESSAGE: the first 2xx goes up, the other's ends here; nobody is sent a CANCEL."""
        got = self.ask("MESSAGE")
        self.bs[1].answer(got[1], 202)
        self.a.take(202)
        self.bs[0].answer(got[0], 200)
        self.rig.finish()

    @shows("FRK-18", "16.7/5")
    def test_options_refused_once(self) -> None:
        """OPTIONS: a refusal waits for the other's 2xx."""
        got = self.ask("OPTIONS")
        self.bs[0].answer(got[0], 486)
        self.a.silent()
        self.bs[1].answer(got[1], 200)
        self.a.take(200)
        self.rig.finish()

    @shows("FRK-18", "16.7/6")
    def test_all_refuse(self) -> None:
        """One of the refusals goes up, after the last."""
        got = self.ask("MESSAGE")
        self.bs[0].answer(got[0], 404)
        self.a.silent()
        self.bs[1].answer(got[1], 415)
        self.a.take(415)
        self.rig.finish()

    @shows("FRK-18", "4320 4.2")
    def test_one_times_out(self) -> None:
        """A 408 from one of them is no answer to a MESSAGE; the other's 404 is."""
        got = self.ask("MESSAGE")
        self.bs[0].answer(got[0], 408)
        self.a.silent()
        self.bs[1].answer(got[1], 404)
        self.a.take(404)
        self.rig.finish()

    @shows("FRK-22", "6665 4.1")
    def test_subscribe(self) -> None:
        """SUBSCRIBE to two: one 2xx goes up, and NOTIFYs of both pass, each by its own dialog's route."""
        got = self.ask("SUBSCRIBE", "Event: conference", "Expires: 600")
        answers = [callee.answer(request, 200, "Expires: 600") for callee, request in zip(self.bs, got, strict=False)]
        self.a.take(200)
        self.a.silent()
        for callee, request, answer in zip(self.bs, got, answers, strict=False):
            callee.in_callee_dialog("NOTIFY", request, answer, "Event: conference", "Subscription-State: active")
            notify = self.a.take("NOTIFY")
            self.assertEqual(notify.from_tag, answer.to_tag)
            self.a.answer(notify, 200)
            callee.take(200)
        self.rig.finish()

    @shows("FRK-22", "6665 4.1")
    def test_notify_before_the_answer(self) -> None:
        """A NOTIFY that overtakes the 2xx to its SUBSCRIBE passes too."""
        got = self.ask("SUBSCRIBE", "Event: conference")
        answer = self.bs[0].answer(got[0], 200, send=False)
        self.bs[0].in_callee_dialog("NOTIFY", got[0], answer, "Event: presence", "Subscription-State: active")
        self.a.answer(self.a.take("NOTIFY"), 200)
        self.bs[0].take(200)
        self.bs[0].send(answer)
        self.a.take(200)
        self.bs[1].answer(got[1], 489)
        self.rig.finish()


class Redirections(TestCase):
    """3xx, passed on or followed."""

    def prepare(self, recurse: bool) -> tuple[Rig, Phone, Phone, Phone]:
        """A caller, a registered phone, and one that nobody registered."""
        rig = Rig(proxy={"recurse": recurse})
        a, b, c = rig.phone("1001"), rig.phone("1002"), rig.phone("1003")
        b.register()
        return rig, a, b, c

    @shows("FRK-09", "16.7/4")
    def test_passed_on(self) -> None:
        """By default a 302 is the caller's affair, with its Contact as it was."""
        rig, a, b, c = self.prepare(False)
        invite = a.invite("1002")
        a.take(100)
        refuse(b, b.take("INVITE"), 302, f"Contact: <{c.contact}>;q=0.7, <mailto:b@example.net>")
        moved = a.take(302)
        self.assertEqual(moved.all("contact"), [f"<{c.contact}>;q=0.7, <mailto:b@example.net>"])
        a.ack(moved, invite)
        rig.finish()

    @shows("FRK-09", "16.7/4")
    def test_followed(self) -> None:
        """With recurse the new target is called, with the whole request, and the 302 ends here."""
        rig, a, b, c = self.prepare(True)
        invite = a.invite("1002")
        a.take(100)
        refuse(b, b.take("INVITE"), 302, f"Contact: <{c.contact}?Subject=evil>")
        got = c.take("INVITE")
        self.assertEqual((got.uri_text, got.body), (c.contact, invite.body))
        _, ok = c.pick_up(got, a)
        a.hang_up(ok, c)
        rig.finish()

    @shows("FRK-09", "16.7/4")
    def test_followed_while_another_rings(self) -> None:
        """The new target does not wait for the phone that rings beside the one that moved."""
        rig, a, b, c = self.prepare(True)
        other = rig.phone("1002")
        other.register()
        a.invite("1002")
        a.take(100)
        got, ringing = b.take("INVITE"), other.take("INVITE")
        other.answer(ringing, 180)
        a.take(180)
        refuse(b, got, 302, f"Contact: <{c.contact}>")
        c.answer(c.take("INVITE"), 200)
        a.ack(a.take(200))
        c.take("ACK")
        cancelled(other, ringing)
        rig.finish()

    @shows("FRK-09", "R3261-16.5-12", "16.5")
    def test_each_target_once(self) -> None:
        """Two phones that redirect to each other and to themselves end the search instead of circling."""
        rig, a, b, c = self.prepare(True)
        invite = a.invite("1002")
        a.take(100)
        refuse(b, b.take("INVITE"), 302, f"Contact: <{b.contact};foo>, <{c.contact}>, <{c.contact}>")
        got = c.take("INVITE")
        c.silent()
        refuse(c, got, 302, f"Contact: <{b.contact}>")
        b.silent()
        a.ack(a.take(302), invite)
        rig.finish()

    @shows("FRK-09", "R3261-16.7-07", "16.5", "16.7/4")
    def test_by_q(self) -> None:
        """The contacts of a 302 are tried by falling q; what cannot be called goes up when nothing else came of it."""
        rig, a, b, c = self.prepare(True)
        d = rig.phone("1004")
        invite = a.invite("1002")
        a.take(100)
        refuse(b, b.take("INVITE"), 302, f"Contact: <{d.contact}>;q=0.1, <{c.contact}>;q=0.9, <mailto:b@example.net>")
        got = c.take("INVITE")
        d.silent()
        refuse(c, got, 486)
        refuse(d, d.take("INVITE"), 480)
        moved = a.take(302)
        self.assertEqual(moved.values("contact"), ["<mailto:b@example.net>"])
        a.ack(moved, invite)
        rig.finish()

    @shows("FRK-10", "R3261-16.7-12", "16.7/5")
    def test_not_after_a_decline(self) -> None:
        """A 302 after a 603 opens no branch."""
        rig, a, b, c = self.prepare(True)
        other = rig.phone("1002")
        other.register()
        invite = a.invite("1002")
        a.take(100)
        got, second = b.take("INVITE"), other.take("INVITE")
        refuse(other, second, 603)
        refuse(b, got, 302, f"Contact: <{c.contact}>")
        a.ack(a.take(603), invite)
        c.silent()
        rig.finish()

    @shows("FRK-16", "16.10")
    def test_not_after_a_cancel(self) -> None:
        """A 302 after the caller gave up opens no branch."""
        rig, a, b, c = self.prepare(True)
        invite = a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        a.cancel(invite)
        a.take(200)
        refuse(b, got, 302, f"Contact: <{c.contact}>")
        final = a.take()
        self.assertIn(final.status, (302, 487))
        a.ack(final, invite)
        c.silent()
        rig.finish()

    @shows("FRK-09", "16.7/4", "22.3")
    def test_to_another_user_of_ours(self) -> None:
        """A 302 to another of our users is followed through ourselves, also where credentials are required."""
        for required in (False, True):
            rig = Rig(auth={"required": required}, proxy={"recurse": True})
            a, b, c = rig.phone("1001"), rig.phone("1002"), rig.phone("1003")
            rig.binding("1002", b.contact)
            rig.binding("1003", c.contact)
            invite = a.invite("1002")
            if required:
                a.prove(invite)
            a.take(100)
            refuse(b, b.take("INVITE"), 302, "Contact: <sip:1003@192.0.2.1>")
            rig.advance(0.1, 0.02)
            got = c.take("INVITE")
            c.answer(got, 180)
            rig.advance(0.1, 0.02)
            a.take(180)
            c.answer(got, 200)
            rig.advance(0.1, 0.02)
            ok = a.take(200)
            a.ack(ok)
            rig.advance(0.1, 0.02)
            c.take("ACK")
            a.in_dialog("BYE", ok)
            rig.advance(0.1, 0.02)
            c.answer(c.take("BYE"), 200)
            rig.advance(0.1, 0.02)
            a.take(200)
            rig.finish()

    @shows("FRK-09", "5393 4.2")
    def test_to_oneself(self) -> None:
        """A phone that redirects to its own user is asked once more at most, then the loop ends."""
        rig, a, b, _ = self.prepare(True)
        invite = a.invite("1002")
        a.take(100)
        for _ in range(2):
            refuse(b, b.take("INVITE"), 302, "Contact: <sip:1002@192.0.2.1>")
            rig.advance(0.1, 0.02)
        b.silent()
        final = a.take()
        self.assertGreaterEqual(final.status, 300)
        a.ack(final, invite)
        rig.finish()
