"""Histories: every kind of step that is noted anywhere has its sentence, and what is told reads as a story."""

from __future__ import annotations

import ast
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from sipd.calls.history import STEPS, tell
from tests.support.rig import Rig

SIPD = Path(__file__).resolve().parents[2] / "sipd"


class HistoryTests(SynchronousTestCase):
    """The catalogue of steps, and a story."""

    def test_every_step_has_a_sentence(self) -> None:
        """The kinds noted on calls in the code are those of the catalogue."""
        noted = {"calls"}
        for path in SIPD.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "note":
                    kind = node.args[0]
                    if isinstance(kind, ast.Constant):
                        noted.add(str(kind.value))
        self.assertEqual(noted, set(STEPS))

    def test_story(self) -> None:
        """A call that is forked, refused by one and given up by the caller; what is too long is counted."""
        rig = Rig(calls={"steps": 8})
        a, one, two = rig.phone("1001"), rig.phone("1003"), rig.phone("1003")
        one.register()
        two.register()
        invite = a.invite("1003")
        a.take(100)
        rig.advance(0.02, 0.02)
        one.answer(one.take("INVITE"), 180, reason="Ringing")
        two.answer(two.take("INVITE"), 486, reason="Busy Here")
        rig.advance(12.5)
        a.cancel(invite, 'Reason: SIP;cause=200;text="elsewhere"')
        call = next(rig.core.calls.live())
        self.assertEqual([text for _, text in tell(call)], [
            "1001 calls 1003 (INVITE from udp:192.0.2.10:5060)",
            "INVITE to sip:1003@192.0.2.11:5060 by udp to 192.0.2.11 port 5060",
            "INVITE to sip:1003@192.0.2.12:5060 by udp to 192.0.2.12 port 5060",
            "sip:1003@192.0.2.11:5060 says 180 Ringing",
            "sip:1003@192.0.2.12:5060 refuses: 486 Busy Here",
            'the caller gives up: SIP;cause=200;text="elsewhere"',
            "CANCEL to sip:1003@192.0.2.11:5060"])
        call.note("patience")
        call.note("patience")
        self.assertEqual((len(call.steps), call.left_out), (8, 1))
        call.steps[0] = (0.0, "something new", 1, "two")
        self.assertEqual(next(iter(tell(call)))[1], "something new 1 two")
