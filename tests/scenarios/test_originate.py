"""Calls that the server begins: the first is called, and told by REFER to call the second (RFC 3515)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sipd.controller.controller import NotBegun
from sipd.message.message import Request
from tests.support.originate import ABLE, FIRST, SDP, SECOND, Play, steps


class ReferTests(SynchronousTestCase):
    """The first phone knows REFER (RFC 3515)."""

    def setUp(self) -> None:
        self.play = Play()
        self.a, self.b = self.play.a, self.play.b

    def test_connected(self) -> None:
        """The first is called as by the second, held, asked to call the second, and let go once it has."""
        play = self.play
        call = play.originate()
        invite = self.a.unread[0]
        self.assertEqual(invite.first["from"].partition(";")[0], "<sip:1002@example.com>")
        self.assertEqual((invite.body, invite.first["to"]), (b"", "<sip:1001@example.com>"))
        invite, sent = play.answer(self.a, ABLE, body=FIRST)
        ack = self.a.take("ACK")
        self.assertIn(b"c=IN IP4 0.0.0.0\r\nt=0 0\r\nm=audio 9 RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=inactive", ack.body)
        refer = self.a.take("REFER")
        self.assertEqual(refer.first["refer-to"], "<sip:1002@example.com>")
        self.a.answer(refer, 202)
        play.notify(refer, invite, sent, "SIP/2.0 100 Trying")
        play.notify(refer, invite, sent, "SIP/2.0 180 Ringing\r\n", cseq=2)
        play.notify(refer, invite, sent, "SIP/2.0 200 OK", "terminated;reason=noresource", cseq=3)
        play.taken_bye(self.a)
        self.assertEqual(steps(call), ["calling 1001", "ringing 1001", "answered 1001", "referred 1001", "ringing 1002",
                                       "answered 1002", "connected"])
        self.assertEqual(call.way, "refer")
        play.finish()

    def test_second_busy(self) -> None:
        """What the first phone tells of its call is what the command says; the first is let go."""
        play = self.play
        call, invite, sent, refer = play.referred()
        self.a.answer(refer, 202)
        play.notify(refer, invite, sent, "SIP/2.0 486 Busy Here", "terminated;reason=noresource")
        play.taken_bye(self.a)
        self.assertEqual(call.steps[-1] | {"seconds": 0}, {"step": "failed", "party": "1002", "seconds": 0, "status": 486,
                                                           "reason": "Busy Here"})
        play.finish()

    def test_refused(self) -> None:
        """A phone that lists REFER and refuses it keeps its dialog: the second is called from here."""
        play = self.play
        call, invite, sent, refer = play.referred()
        self.a.answer(refer, 603)
        self.play.rig.advance(0.1)
        two, second = play.answer(self.b, body=SECOND)
        again = self.a.take("INVITE")
        self.a.answer(again, 200, SDP, body=FIRST)
        play.rig.advance(0.1)
        self.a.take("ACK")
        self.b.take("ACK")
        self.assertEqual((call.way, steps(call)[4]), ("3pcc", "refused REFER 1001"))
        play.hang_up(self.b, two, second)
        play.taken_bye(self.a)
        play.finish()

    def test_refused_though_asked_for(self) -> None:
        """With by = refer nothing else is tried."""
        play = self.play
        call, invite, sent, refer = play.referred("refer")
        self.a.answer(refer, 405)
        play.rig.advance(0.1)
        play.taken_bye(self.a)
        self.assertEqual((call.steps[-1]["step"], call.steps[-1]["status"]), ("failed", 405))
        play.finish()

    def test_nothing_is_told(self) -> None:
        """A phone that takes REFER and sends no NOTIFY has taken the call over: it is let go after 32 s."""
        play = self.play
        call, invite, sent, refer = play.referred()
        self.a.answer(refer, 202)
        play.rig.advance(31)
        self.a.silent()
        play.rig.advance(2)
        play.taken_bye(self.a)
        self.assertEqual(steps(call)[-2:], ["handed over 1001", "connected"])
        play.finish()

    def test_tells_for_ever(self) -> None:
        """NOTIFYs that say that it rings, and say it again, do not keep the call for ever."""
        play = self.play
        call, invite, sent, refer = play.referred()
        self.a.answer(refer, 202)
        for number in range(1, 13):
            play.notify(refer, invite, sent, "SIP/2.0 180 Ringing", cseq=number)
            play.rig.advance(4.9)
        self.assertEqual(steps(call)[-1], "ringing 1002")
        play.rig.advance(3)
        play.taken_bye(self.a)
        self.assertEqual((steps(call)[-1], call.steps[-1]["status"]), ("failed 1002", 408))
        play.finish()

    def test_told_half(self) -> None:
        """A subscription that ends before the call is answered says no more: handed over, too."""
        play = self.play
        call, invite, sent, refer = play.referred()
        self.a.answer(refer, 202)
        play.notify(refer, invite, sent, "SIP/2.0 100 Trying", "terminated;reason=noresource")
        play.taken_bye(self.a)
        self.assertEqual(steps(call)[-2:], ["handed over 1001", "connected"])
        play.finish()

    def test_told_before_accepted(self) -> None:
        """NOTIFYs may overtake the 202 (RFC 3515 s2.4.4)."""
        play = self.play
        call, invite, sent, refer = play.referred()
        play.notify(refer, invite, sent, "SIP/2.0 100 Trying")
        play.notify(refer, invite, sent, "SIP/2.0 200 OK", "terminated;reason=noresource", cseq=2)
        self.a.answer(refer, 202)
        play.taken_bye(self.a)
        self.assertEqual(steps(call)[-1], "connected")
        play.finish()

    def test_hangs_up_and_still_tells(self) -> None:
        """A phone that ends the old call first (RFC 5057) is heard as long as it may take."""
        play = self.play
        call, invite, sent, refer = play.referred()
        self.a.answer(refer, 202)
        play.notify(refer, invite, sent, "SIP/2.0 180 Ringing")
        play.hang_up(self.a, invite, sent, cseq=2)
        play.notify(refer, invite, sent, "SIP/2.0 200 OK", "terminated;reason=noresource", cseq=3)
        self.assertEqual(steps(call)[-1], "connected")
        play.finish()

    def test_hangs_up_for_good(self) -> None:
        """Who hangs up and tells nothing has given it up."""
        play = self.play
        call, invite, sent, refer = play.referred()
        self.a.answer(refer, 202)
        play.hang_up(self.a, invite, sent)
        play.rig.advance(33)
        self.assertEqual(steps(call)[-1], "failed 1001")
        play.finish()

    def test_given_up(self) -> None:
        """^C after REFER: the first is let go; what its phone does is its own affair."""
        play = self.play
        call, invite, sent, refer = play.referred()
        self.a.answer(refer, 202)
        play.rig.advance(0.1)
        call.give_up()
        play.rig.advance(0.1)
        play.taken_bye(self.a)
        self.assertEqual(steps(call)[-1], "failed")
        play.finish()

    def test_not_one_of_ours(self) -> None:
        """Somebody else who answers for the first is not told whom to call, whatever Allow says."""
        play = self.play
        play.originate()
        invite = self.a.take("INVITE")
        self.a.answer(invite, 200, SDP, ABLE, body=FIRST, contact="<sip:gateway@192.0.2.10>")
        play.rig.advance(0.1)
        self.a.take("ACK")
        self.b.refuse(486)
        play.rig.advance(0.1)
        bye = self.a.take("BYE")
        self.assertEqual(bye.uri_text, "sip:gateway@192.0.2.10")
        self.a.answer(bye, 200)
        play.finish()

    def test_other_events(self) -> None:
        """While it waits the first may ask whether we are there, refresh and press keys; nothing else is understood."""
        play = self.play
        call, invite, sent, refer = play.referred()
        self.a.answer(refer, 202)
        for number, (method, extra, status) in enumerate((
                ("OPTIONS", (), 200), ("UPDATE", (), 200), ("INFO", (), 200), ("NOTIFY", ("Event: presence",), 489),
                ("INVITE", (), 491), ("REFER", ("Refer-To: <sip:1003@example.com>",), 403)), 2):
            question = self.a.in_callee_dialog(method, invite, sent, *extra, cseq=number)
            play.rig.advance(0.1)
            answer = self.a.take()
            if method == "INVITE":
                answer = self.a.take() if answer.status == 100 else answer
                self.a.ack(answer, question)
            self.assertEqual(answer.status, status, method)
        play.a.in_callee_dialog("OPTIONS", invite, sent, cseq=1)
        play.rig.advance(0.1)
        self.a.take(500)  # s12.2.2: older than what came before
        self.a.in_callee_dialog("OPTIONS", invite, self.a.answer(invite, 200, tag="other", send=False), cseq=30)
        play.rig.advance(0.1)
        self.a.take(481)
        call.give_up()
        play.rig.advance(0.1)
        play.taken_bye(self.a)
        play.finish()

    def test_one_call_at_a_time(self) -> None:
        """A phone that may have one call is told to make one: the one that tells it so does not count any more."""
        self.play = play = Play(peers={"1001": {"call_limit": 1, "may_call": ["*"]}})
        self.a, self.b = play.a, play.b
        call, invite, sent, refer = play.referred()
        self.a.answer(refer, 202)
        own = self.a.invite("1002")
        self.a.take(100)
        self.b.refuse(486)
        self.a.ack(self.a.take(486), own)
        play.notify(refer, invite, sent, "SIP/2.0 486 Busy Here", "terminated;reason=noresource")
        play.taken_bye(self.a)
        play.finish()


class RingingTests(SynchronousTestCase):
    """The first is called."""

    def setUp(self) -> None:
        self.play = Play()
        self.a, self.b = self.play.a, self.play.b

    def test_refuses(self) -> None:
        """Busy, declined, unknown: the command says who and what."""
        for status in (486, 603, 404, 302):
            call = self.play.originate()
            invite = self.a.take("INVITE")
            self.a.answer(invite, status)
            self.a.take("ACK")
            self.play.rig.advance(0.1)
            self.assertEqual((call.steps[-1]["step"], call.steps[-1]["party"], call.steps[-1]["status"]),
                             ("failed", "1001", status))
            self.play.rig.advance(40)
        self.play.finish()

    def test_nobody_registered(self) -> None:
        """Somebody without a phone, and a number that nobody has."""
        for name, status in (("1003", 480), ("4711", 404)):
            call = self.play.rig.core.controller.originate(name, "1002")
            self.play.rig.advance(0.5)
            self.assertEqual((steps(call), call.steps[-1]["status"]), ([f"calling {name}", f"failed {name}"], status))
        self.play.finish()

    def test_does_not_answer(self) -> None:
        """After its patience the first is cancelled."""
        call, invite = self.play.ringing(patience=20.0)
        self.play.rig.advance(19)
        self.a.silent()
        self.play.rig.advance(1.5)
        self.a.cancelled(invite)
        self.assertEqual(call.steps[-1] | {"seconds": 0}, {"step": "failed", "party": "1001", "seconds": 0, "status": 408,
                                                           "reason": "did not answer"})
        self.play.finish()

    def test_given_up(self) -> None:
        """Whoever asked for it does not want it any more: CANCEL."""
        call, invite = self.play.ringing()
        call.give_up()
        self.play.rig.advance(0.1)
        self.a.cancelled(invite)
        self.assertEqual(steps(call)[-1], "failed")
        self.play.finish()

    def test_server_stops(self) -> None:
        """What rings for us is told that nobody waits any more."""
        call, invite = self.play.ringing()
        self.play.rig.core.hang_up(2.0)
        self.play.rig.advance(0.1)
        self.a.cancelled(invite)
        self.assertEqual(call.steps[-1]["reason"], "the server stops")
        self.play.finish()

    def test_given_up_at_once(self) -> None:
        """s9.1: the CANCEL waits for a provisional response, here and on the way to the phone."""
        rig = self.play.rig
        call = rig.core.controller.originate("1001", "1002")
        call.give_up()
        rig.advance(0.2)
        lines = [packet.data.split(b"\r\n")[0] for packet in rig.network.packets]
        self.assertLess(lines.index(b"SIP/2.0 100 Trying"), lines.index(b"CANCEL sip:1001@example.com SIP/2.0"))
        invite = self.a.take("INVITE")
        self.a.silent()
        self.a.answer(invite, 180)
        rig.advance(0.1)
        self.a.cancelled(invite)
        self.play.finish()

    def test_answers_in_spite(self) -> None:
        """s9.1: a 2xx that was under way when the CANCEL went out: ACK, and BYE."""
        call, invite = self.play.ringing()
        call.give_up()
        self.play.rig.advance(0.1)
        self.a.answer(self.a.take("CANCEL"), 200)
        self.a.answer(invite, 200, SDP, body=FIRST)
        self.play.rig.advance(0.1)
        self.a.take("ACK")
        self.play.taken_bye(self.a)
        self.b.silent()
        self.play.finish()

    def test_cancel_that_nobody_answers(self) -> None:
        """A phone that dies ringing leaves nothing behind."""
        call = self.play.originate(patience=5.0)
        self.a.answer(self.a.take("INVITE"), 180)
        self.play.rig.advance(150)
        self.assertEqual(steps(call)[-1], "failed 1001")
        self.assertEqual({one.method for one in self.a.drain() if isinstance(one, Request)}, {"CANCEL"})
        self.play.finish()

    def test_forks(self) -> None:
        """Two phones of the first ring; the one that answers a moment later is acknowledged and let go."""
        third = self.play.rig.phone("1001")
        third.register()
        call = self.play.originate("3pcc")
        one, two = self.a.take("INVITE"), third.take("INVITE")
        self.a.answer(one, 200, SDP, body=FIRST)
        third.answer(two, 200, SDP, body=FIRST)
        self.play.rig.advance(0.1)
        self.a.take("ACK")
        self.assertEqual({message.method for message in third.unread}, {"ACK", "BYE"})
        for message in third.drain():
            if message.method != "ACK":
                third.answer(message, 200)
        self.play.rig.advance(0.1)
        self.assertEqual(steps(call)[-1], "calling 1002")
        ringing = self.b.take("INVITE")
        self.b.answer(ringing, 180)
        call.give_up()
        self.play.rig.advance(0.1)
        self.b.cancelled(ringing)
        self.play.taken_bye(self.a)
        self.play.finish()

    def test_without_a_description(self) -> None:
        """Whoever answers an INVITE without an offer by none of its own cannot be connected."""
        call = self.play.originate()
        self.a.answer(self.a.take("INVITE"), 200)
        self.play.rig.advance(0.1)
        self.a.take("ACK")
        self.play.taken_bye(self.a)
        self.assertEqual(steps(call)[-1], "failed 1001")
        self.play.finish()

    def test_answer_again(self) -> None:
        """A 2xx that comes again, as its ACK was lost, is acknowledged again by the same ACK (s13.2.2.4)."""
        play = self.play
        play.originate("3pcc")
        invite = self.a.take("INVITE")
        self.a.answer(invite, 200, SDP, body=FIRST)
        play.rig.advance(0.1)
        first = self.a.take("ACK")
        self.a.answer(invite, 200, SDP, body=FIRST)
        play.rig.advance(0.1)
        second = self.a.take("ACK")
        self.assertEqual((first.body, first.first["via"]), (second.body, second.first["via"]))
        self.b.refuse(486)
        play.rig.advance(0.1)
        play.taken_bye(self.a)
        play.finish()

    def test_what_cannot_be_begun(self) -> None:
        """Names that are none, foreign domains, one and the same, unknown ways, too many calls."""
        begin = self.play.rig.core.controller.originate
        for first, second, way in (("1001", "1001", ""), ("1001", "1001@alias.example.com", ""), ("", "1002", ""),
                                   ("sip:1001", "1002", ""), ("1001", "a b", ""), ("1001", "<x>", ""),
                                   ("1001", "1002@elsewhere.org", ""), ("1001", "1002", "carrier pigeon")):
            self.assertRaises(NotBegun, begin, first, second, way)
        self.play.rig.core.controller.calls.limit = 0
        self.assertIn("limit", str(self.assertRaises(NotBegun, begin, "1001", "1002")))
        self.play.finish()
