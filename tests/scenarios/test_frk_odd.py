"""Forking and what it must bear: forks behind it, unreachable contacts, repeats (RFC 3261 s16.7, s16.9)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.scenarios.test_frk_parallel import refuse
from tests.support.cases import shows
from tests.support.rig import Rig


class Odd(TestCase):
    """What a hostile or merely unusual phone may do to a fork."""

    def setUp(self) -> None:
        """A caller and two phones of 1002."""
        self.rig = Rig()
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")

    @shows("FRK-12", "R3261-16.7-13", "16.7/5", "6026 7.2")
    def test_forked_behind_us(self) -> None:
        """One branch, forked again by a proxy behind it: ringing and answers of each To tag pass, and only they."""
        self.b.register()
        self.a.invite("1002")
        self.a.take(100)
        got = self.b.take("INVITE")
        for tag in ("one", "two"):
            self.b.answer(got, 180, tag=tag)
            self.assertEqual(self.a.take(180).to_tag, tag)
        for tag in ("two", "one"):
            self.b.answer(got, 200, tag=tag)
            ok = self.a.take(200)
            self.assertEqual(ok.to_tag, tag)
            self.a.ack(ok)
            self.assertEqual(self.b.take("ACK").to_tag, tag)
        self.b.answer(got, 486, tag="one")
        self.b.answer(got, 180, tag="two")
        self.a.silent()
        self.rig.finish()

    def test_unreadable_to(self) -> None:
        """The 2xx of a fork passes, and the loser is cancelled, though nobody here can read its To."""
        c = self.rig.phone("1002")
        self.rig.binding("1002", self.b.contact)
        self.rig.binding("1002", c.contact)
        self.a.invite("1002")
        self.a.take(100)
        got, lost = self.b.take("INVITE"), c.take("INVITE")
        c.answer(lost, 180)
        self.a.take(180)
        ok = self.b.answer(got, 200, send=False)
        self.b.send(ok.encode().replace(b";tag=t1002", b';x=";tag=t1002'))
        self.a.take(200)
        c.cancelled(lost)
        self.rig.finish()

    @shows("FRK-02", "R3261-16.9-01", "16.9")
    def test_unreachable_beside_one_that_answers(self) -> None:
        """Contacts whose connection is refused, whose name has no address, or whose port answers with an ICMP error do
        not disturb the one that answers."""
        self.rig.binding("1002", "sip:1002@192.0.2.99;transport=tcp")
        self.rig.binding("1002", "sip:1002@nowhere.example.net")
        self.rig.binding("1002", "sip:1002@192.0.2.98")
        self.rig.network.icmp.add(("192.0.2.98", 5060))
        self.b.register()
        self.a.invite("1002")
        got = self.b.ring(self.a)
        self.rig.advance(1)
        self.a.silent()
        self.b.pick_up(got, self.a)
        self.rig.finish()

    @shows("FRK-08", "16.9")
    def test_nobody_reachable(self) -> None:
        """Nobody can be reached at all: one final response that is no 503, well before timer B."""
        self.rig.binding("1002", "sip:1002@192.0.2.99;transport=tcp")
        self.rig.binding("1002", "sip:1002@nowhere.example.net")
        invite = self.a.invite("1002")
        self.a.take(100)
        self.rig.advance(2)
        final = self.a.take_all(500)[0]
        self.a.ack(final, invite)
        self.rig.finish()

    @shows("FRK-03", "16.7/6")
    def test_final_repeated(self) -> None:
        """A phone that repeats its refusal, in other words too, gets the same ACK again and no second vote."""
        c = self.rig.phone("1002")
        self.b.register()
        c.register()
        invite = self.a.invite("1002")
        self.a.take(100)
        got, other = self.b.take("INVITE"), c.take("INVITE")
        for status in (486, 486, 603):
            refuse(self.b, got, status)
        self.a.silent()
        refuse(c, other, 486)
        self.a.ack(self.a.take(486), invite)
        self.rig.finish()

    @shows("FRK-21", "R3261-16.1-02", "16.6/8")
    def test_branches_of_repeats(self) -> None:
        """A repeat of the INVITE by the caller makes no further branch."""
        c = self.rig.phone("1002")
        self.b.register()
        c.register()
        invite = self.a.invite("1002")
        self.a.take(100)
        for _ in range(3):
            self.a.send(invite)
            self.a.take(100)
        got, other = self.b.take("INVITE"), c.take("INVITE")
        self.b.silent()
        c.silent()
        refuse(self.b, got, 480)
        refuse(c, other, 480)
        self.a.ack(self.a.take(480), invite)
        self.a.send(invite)
        self.rig.finish()

    @shows("FRK-12", "13.2.2.4", "22.3")
    def test_two_answers_with_authentication(self) -> None:
        """Where credentials are required the caller gives them once; ACK and BYE of both dialogs pass by their tokens."""
        rig = Rig(auth={"required": True})
        a = rig.phone("1001")
        callees = [rig.phone("1002", transport=kind) for kind in ("tcp", "tls")]
        for callee in callees:
            register = callee.request("REGISTER", "sip:example.com", to=f"<{callee.aor}>", contact=f"<{callee.contact}>")
            callee.authorized(register, callee.take(401))
            callee.take(200)
        invite = a.invite("1002")
        a.prove(invite)
        a.take(100)
        received = [callee.take("INVITE") for callee in callees]
        for callee, got in zip(callees, received, strict=True):
            self.assertIsNone(got.get("proxy-authorization"))
            callee.answer(got, 180)
            a.take(180)
        answers = []
        for callee, got in zip(callees, received, strict=True):
            callee.answer(got, 200)
            answers.append(a.take(200))
        callees[1].answer(callees[1].take("CANCEL"), 481)
        for callee, ok in zip(callees, answers, strict=True):
            a.ack(ok)
            callee.take("ACK")
            a.hang_up(ok, callee)
        rig.finish()
