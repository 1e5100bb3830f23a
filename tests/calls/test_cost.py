"""What following a call costs, in Python-level calls counted: deterministic, as tests/test_cost.py counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message import parser
from tests.support.rig import Rig
from tests.test_cost import calls

#: Python-level calls for each message of a plain call, with the table and without. A ceiling is raised only with a line
#: here saying what was bought.
ON = {"INVITE": 18, "180": 8, "200": 16, "ACK": 0, "BYE": 8, "200 to BYE": 13}
#: What of sipd/calls is entered where `track = false`.
OFF = {"INVITE": [], "180": [], "200": [], "ACK": [], "BYE": ["table.py:Calls.find"], "200 to BYE": []}


class CallCost(TestCase):
    """A plain call between two registered phones, caches warm, nobody watching and no journal."""

    def counted(self, **settings: Any) -> dict[str, Counter[str]]:
        """What is called for each message."""
        if not str(parser.__file__).endswith(".py"):
            self.fail("the functions of a compiled build cannot be counted: run this on the sources")
        rig = Rig(calls=settings)
        rig.journal.sinks.clear()
        a, b = rig.phone("1001"), rig.phone("1002")
        a.register()
        b.register()
        figures: dict[str, Counter[str]] = {}

        def count(name: str, phone: Any, message: Any) -> None:
            figures[name] = calls(lambda: phone.send(message))

        for _ in range(3):
            count("INVITE", a, a.invite("1002", send=False))
            a.take(100)
            got = b.take("INVITE")
            count("180", b, b.answer(got, 180, send=False))
            a.take(180)
            count("200", b, b.answer(got, 200, send=False))
            ok = a.take(200)
            count("ACK", a, a.in_dialog("ACK", ok, cseq=ok.cseq_number, send=False))
            b.take("ACK")
            count("BYE", a, a.in_dialog("BYE", ok, send=False))
            count("200 to BYE", b, b.answer(b.take("BYE"), 200, send=False))
            a.take(200)
        return figures

    def test_followed(self) -> None:
        """Each message costs so much more with the table than without, at most."""
        self.counted()  # the CSeqs of each round are kept too, as they are from one to the next
        on, off = self.counted(), self.counted(track=False)
        more = {name: on[name].total() - off[name].total() for name in on}
        over = {name: number for name, number in more.items() if number > ON[name]}
        self.assertEqual(over, {}, {name: on[name] - off[name] for name in over})

    def test_not_followed(self) -> None:
        """Without it nothing is made and nothing is asked but whether there is a call."""
        entered = {name: [one for one in counted if ":Call" in one and ":Callers" not in one and ":CallDialog" not in one]
                   for name, counted in self.counted(track=False).items()}
        self.assertEqual(entered, OFF)
