"""The call table on the real core: every way in which a call ends, the races, forks and repeats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sipd.calls.call import CONFIRMED
from sipd.calls.cdr import record
from sipd.calls.keeper import Keeper, KeptFiles
from tests.support.calls import CallCase
from tests.support.cases import shows
from tests.support.rig import Phone, established


class Ending(CallCase):
    """Calls of 1001 to 1002, who has one phone."""

    def test_hung_up_by_the_caller(self) -> None:
        """From the INVITE to the BYE: states, peers, times, and what the log says."""
        calls = self.rig.core.calls
        self.a.invite("1002")
        self.a.take(100)
        got = self.b.take("INVITE")
        self.assertEqual((calls.in_use("1001"), calls.in_use("1002"), calls.in_use("1002@example.com")), (1, 1, 1))
        self.assertEqual([call.called for call in calls.of("1002")], ["1002"])
        self.rig.advance(0.4)
        self.b.answer(got, 180)
        self.a.take(180)
        self.rig.advance(3.6)
        _, ok = self.b.pick_up(got, self.a)
        (call,) = self.live
        self.assertEqual((call.state, call.caller, call.called, call.peers), (CONFIRMED, "1001", "1002", ["1002"]))
        self.assertEqual(call.source, "udp:192.0.2.10:5060")
        self.rig.advance(60)
        self.a.in_dialog("BYE", ok)
        bye = self.b.take("BYE")
        self.assertEqual(len(self.live), 1)
        self.rig.advance(2)
        self.b.answer(bye, 200)
        self.a.take_all(200)
        self.ended("bye", "caller")
        wanted = {
            "ringing": 4.0, "duration": 60.0, "caller": "1001", "called": "1002", "answered_by": "1002",
            "from": "sip:1001@example.com", "uri": "sip:1002@example.com", "answered_at": self.b.contact,
            "result": "answered", "status": 200, "reason": "hung up", "ended_by": "caller", "branches": 1}
        self.assertEqual({**record(call), **wanted}, record(call))
        self.assertEqual(self.told, ["trying", "early early", "confirmed confirmed", "terminated terminated"])
        self.assertEqual(self.kinds(), ["call-start", "call-answered", "call-end"])
        self.assertEqual(self.rig.records[-1][1]["how"], "hung up by sip:1001@example.com")
        self.b.drain()
        self.rig.finish()

    def test_hung_up_by_the_callee(self) -> None:
        """The same from the other side: tags are swapped, and the call is found."""
        _, got, sent, _ = established(self.a, self.b)
        self.b.in_callee_dialog("BYE", got, sent, cseq=77)
        self.a.answer(self.a.take("BYE"), 200)
        self.b.take(200)
        call = self.ended("bye", "callee")
        self.assertEqual(call.dialogs[0].cseq, 77)
        self.rig.finish()

    @shows("CAN-01")
    def test_cancelled(self) -> None:
        """The caller gives up while it rings."""
        invite = self.a.invite("1002")
        got = self.b.ring(self.a)
        self.a.cancel(invite, "Reason: SIP;cause=200")
        self.a.take(200)
        self.b.cancelled(got)
        self.a.ack(self.a.take(487), invite)
        call = self.ended("cancelled", "caller", 487)
        self.assertEqual(record(call)["result"], "cancelled")
        self.assertEqual(self.kinds(), ["call-start", "call-failed"])
        self.rig.finish()

    def test_refused(self) -> None:
        """Busy, and the peer is free again."""
        invite = self.a.invite("1002")
        self.a.take(100)
        self.b.refuse(486)
        self.a.ack(self.a.take(486), invite)
        call = self.ended("failed", "", 486)
        self.assertEqual((record(call)["result"], record(call)["duration"]), ("busy", 0))
        self.rig.finish()

    def test_nobody_there(self) -> None:
        """A user who is not registered: the call fails before the proxy has it, and is a call all the same."""
        self.a.invite("1003")
        self.a.drain()
        self.assertEqual(record(self.ended("failed", "", 480))["result"], "no answer")
        self.rig.finish()

    def test_silence(self) -> None:
        """A phone that says nothing: the call ends with the 408."""
        invite = self.a.invite("1002")
        self.a.take(100)
        self.rig.advance(33)
        self.b.drain()
        self.a.ack(self.a.take(408), invite)
        self.ended("failed", "", 408)
        self.rig.finish()

    def test_gone(self) -> None:
        """481 to a re-INVITE ends the call, and whoever said so is the one who is gone; 408 does too, and silence."""
        for answer in (481, 408, 0):
            self.build()
            ok = established(self.a, self.b)[3]
            self.a.in_dialog("INVITE", ok)
            self.a.drain()
            if answer:
                self.b.answer(self.b.take("INVITE"), answer)
            self.rig.advance(40)
            self.b.drain()
            refusals = self.a.drain()
            self.assertEqual({one.status for one in refusals}, {answer or 408})  # type: ignore[attr-defined]
            self.ended("gone", "callee")
            self.rig.finish()

    def test_other_usages(self) -> None:
        """RFC 5057 s5: 481 to a REFER or a NOTIFY in the dialog says nothing of the call."""
        ok = established(self.a, self.b)[3]
        for method in ("REFER", "NOTIFY", "SUBSCRIBE"):
            self.a.in_dialog(method, ok)
            self.b.answer(self.b.take(method), 481)
            self.a.take(481)
        self.assertEqual([call.state for call in self.live], [CONFIRMED])
        self.rig.finish()

    def test_unanswered_bye(self) -> None:
        """RFC 3261 s15.1.1: whoever sends a BYE is gone, also when nobody answers it."""
        ok = established(self.a, self.b)[3]
        self.rig.advance(10)
        self.a.in_dialog("BYE", ok)
        self.rig.advance(33)
        self.b.drain()
        call = self.ended("bye", "caller")
        self.assertEqual(record(call)["duration"], 10)
        self.a.drain()
        self.rig.finish()

    def test_challenged_bye(self) -> None:
        """A BYE that must be sent again with credentials ends nothing; the second one does."""
        ok = established(self.a, self.b)[3]
        self.a.in_dialog("BYE", ok)
        self.b.answer(self.b.take("BYE"), 401, 'WWW-Authenticate: Digest realm="b", nonce="n"')
        self.a.take(401)
        self.assertEqual(len(self.live), 1)
        self.a.in_dialog("BYE", ok, cseq=3)
        self.b.answer(self.b.take("BYE"), 200)
        self.a.take(200)
        self.ended("bye", "caller")
        self.rig.finish()

    def test_crossing_byes(self) -> None:
        """Both hang up at once: one end, one record."""
        _, got, sent, ok = established(self.a, self.b)
        records = Path(self.mktemp())
        keeper = Keeper(self.rig.core.calls)
        keeper.open(KeptFiles(str(records)))
        self.addCleanup(keeper.close)
        self.a.in_dialog("BYE", ok)
        self.b.in_callee_dialog("BYE", got, sent)
        self.b.answer(self.b.take("BYE"), 200)
        self.a.answer(self.a.take("BYE"), 481)
        self.a.drain()
        self.b.drain()
        self.ended("bye", "caller")
        self.assertEqual(len(records.read_text().splitlines()), 1)
        self.rig.finish()

    @shows("CAN-05")
    def test_cancel_against_200(self) -> None:
        """The 200 crossed the CANCEL: the call is up until the caller's BYE."""
        invite = self.a.invite("1002")
        got = self.b.ring(self.a)
        self.a.cancel(invite)
        self.a.take(200)
        self.b.take("CANCEL")
        self.b.answer(got, 200)
        ok = self.a.take(200)
        self.assertEqual([call.state for call in self.live], [CONFIRMED])
        self.a.ack(ok)
        self.a.in_dialog("BYE", ok)
        self.b.take("ACK")
        self.b.answer(self.b.take("BYE"), 200)
        self.a.take(200)
        self.ended("bye", "caller")
        self.rig.finish()

    def test_repeats(self) -> None:
        """Every message twice: one call, one dialog, one end, and nothing doubled in the story."""
        invite = self.a.invite("1002")
        self.a.send(invite)
        got = self.b.take("INVITE")
        for _ in range(2):
            self.b.answer(got, 180)
        for _ in range(2):
            self.b.answer(got, 200)
        self.a.drain()
        self.b.drain()
        (call,) = self.live
        self.assertEqual((len(call.dialogs), call.legs, call.branches), (1, 1, 1))
        self.assertEqual([step[1] for step in call.steps], ["calls", "sent", "rings", "answered"])
        ok = self.b.answer(got, 200)
        self.a.drain()
        bye = self.a.in_dialog("BYE", ok)
        self.a.send(bye)
        got_bye = self.b.take("BYE")
        for _ in range(2):
            self.b.answer(got_bye, 200)
        self.b.answer(got, 200)
        self.a.drain()
        self.b.drain()
        self.ended("bye", "caller")
        self.assertEqual([step[1] for step in call.steps][4:], ["bye", "end"])
        self.rig.finish()

    # --- forks

    def fork(self) -> tuple[Phone, list[Any]]:
        """1002 has two phones, and both ring; the second one and the INVITEs."""
        other = self.rig.phone("1002")
        other.register()
        self.a.invite("1002")
        self.a.take(100)
        got = [self.b.take("INVITE"), other.take("INVITE")]
        self.b.answer(got[0], 180)
        other.answer(got[1], 180)
        self.a.drain()
        return other, got

    def test_fork(self) -> None:
        """Two phones ring, one answers: two dialogs, of which one goes on; the peer counts once."""
        other, got = self.fork()
        (call,) = self.live
        self.assertEqual(([dialog.state for dialog in call.dialogs], call.peers), ([1, 1], ["1002", "1002"]))
        self.assertEqual(self.rig.core.calls.in_use("1002"), 1)
        other.answer(got[1], 200)
        self.a.drain()
        self.b.answer(self.b.take("CANCEL"), 200)
        self.b.answer(got[0], 487)
        self.assertEqual([dialog.state for dialog in call.dialogs], [3, 2])
        self.assertEqual((call.peers, self.rig.core.calls.in_use("1002")), (["1002"], 1))
        self.assertEqual(call.answerer, other.contact)
        self.b.drain()
        self.rig.finish()

    def test_two_answers(self) -> None:
        """Two phones answer: two dialogs; the call lasts until both are hung up."""
        other, got = self.fork()
        self.b.answer(got[0], 200)
        other.answer(got[1], 200)
        oks = self.a.drain()
        other.drain()
        (call,) = self.live
        self.assertEqual([dialog.state for dialog in call.dialogs], [CONFIRMED, CONFIRMED])
        self.a.in_dialog("BYE", oks[1])  # type: ignore[arg-type]
        other.answer(other.take("BYE"), 200)
        self.assertEqual([dialog.state for dialog in call.dialogs], [CONFIRMED, 3])
        self.assertEqual(len(self.live), 1)
        self.a.in_dialog("BYE", oks[0])  # type: ignore[arg-type]
        self.b.answer(self.b.take("BYE"), 200)
        self.a.drain()
        self.ended("bye", "caller")
        self.rig.finish()

    def test_many_dialogs(self) -> None:
        """Somebody makes early dialogs without end: they are bounded, and the answer counts all the same, also one whose
        To cannot be read."""
        for tag in ("last", ";;"):
            self.build()
            self.a.invite("1002")
            self.a.take(100)
            got = self.b.take("INVITE")
            for number in range(70):
                self.b.answer(got, 180, tag=f"e{number}")
            self.b.answer(got, 200, tag=tag)
            self.a.drain()
            (call,) = self.live
            self.assertEqual((call.state, len(call.dialogs)), (CONFIRMED, 65))
            self.rig.finish()

    def test_late_answer(self) -> None:
        """A second fork behind one hop answers when the first one has long been passed on: a dialog of the call."""
        self.a.invite("1002")
        self.a.take(100)
        got = self.b.take("INVITE")
        self.b.answer(got, 200, tag="one")
        self.rig.advance(3)
        self.b.answer(got, 200, tag="two")
        self.a.drain()
        (call,) = self.live
        self.assertEqual([(dialog.tag, dialog.state) for dialog in call.dialogs], [("one", 2), ("two", 2)])
        self.rig.finish()

    def test_loser_that_does_not_end(self) -> None:
        """A loser that ignores its CANCEL is free when the proxy has given it up, and its lamp is off."""
        other, got = self.fork()
        for _ in range(3):
            self.b.answer(got[0], 200)
        self.rig.advance(33)
        (call,) = self.live
        self.assertEqual([step[1] for step in call.steps].count("answered"), 1)
        self.assertEqual(([dialog.state for dialog in call.dialogs], call.peers), ([CONFIRMED, 3], ["1002"]))
        self.a.drain()
        other.drain()
        self.rig.finish()
