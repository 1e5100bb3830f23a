"""Every input in every state of a registration of ours. What comes of it stands in `tests/tables/registration.txt`.

After a change that is meant: `UPDATE_TABLES=1 trial tests.peers.test_registration`, and read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import TestCase

from sipd.peers.registration import ABANDON, LONGEST, OVER, SEND, START, STOP, Output, Registration
from tests.support.cases import shows

TABLE = Path(__file__).resolve().parents[1] / "tables" / "registration.txt"

Step = Callable[[Registration], list[Output]]

#: How a state is come to.
STATES: dict[str, tuple[Step, ...]] = {
    "unregistered": (),
    "trying": (Registration.start,),
    "registered": (Registration.start, lambda one: one.answered(200, 300, 0)),
    "refreshing": (Registration.start, lambda one: one.answered(200, 300, 0), Registration.start),
    "refused": (Registration.start, lambda one: one.answered(403, 0, 0)),
    "refused, trying": (Registration.start, lambda one: one.answered(403, 0, 0), Registration.start),
    "failed": (Registration.start, lambda one: one.answered(0, 0, 0)),
    "failed, trying": (Registration.start, lambda one: one.answered(0, 0, 0), Registration.start),
    "leaving": (Registration.start, lambda one: one.answered(200, 300, 0), Registration.stop),
    "gone": (Registration.stop,),
}
#: Answers come only where one is waited for.
_WAITING = ("trying", "refreshing", "refused, trying", "failed, trying", "leaving")
INPUTS: dict[str, Step] = {
    "start": Registration.start,
    "200, 300 s": lambda one: one.answered(200, 300, 0),
    "200, 0 s": lambda one: one.answered(200, 0, 0),
    "no answer": lambda one: one.answered(0, 0, 0),
    "302": lambda one: one.answered(302, 0, 0),
    "401": lambda one: one.answered(401, 0, 0),
    "403": lambda one: one.answered(403, 0, 0),
    "403, after 5000 s": lambda one: one.answered(403, 0, 5000),
    "408": lambda one: one.answered(408, 0, 0),
    "423": lambda one: one.answered(423, 0, 0),
    "480": lambda one: one.answered(480, 0, 0),
    "500": lambda one: one.answered(500, 0, 0),
    "503": lambda one: one.answered(503, 0, 0),
    "503, after 100 s": lambda one: one.answered(503, 0, 100),
    "503, after a year": lambda one: one.answered(503, 0, 31_536_000),
    "603": lambda one: one.answered(603, 0, 0),
    "connection lost": Registration.lost,
    "stop": Registration.stop,
}
_NAMES = {SEND: "send", ABANDON: "abandon", START: "timer", STOP: "no timer", OVER: "over"}


def brought(steps: tuple[Step, ...], chance: float = 0.5) -> Registration:
    """A registration after these steps."""
    one = Registration(300, lambda: chance)
    for step in steps:
        step(one)
    return one


def told(outputs: list[Output]) -> str:
    """Outputs as the table has them."""
    return ", ".join(_NAMES[kind] if payload is None else f"{_NAMES[kind]} {payload:g}" for kind, payload in outputs) or "-"


def table() -> str:
    """The whole table."""
    lines = []
    for state, steps in STATES.items():
        for name, step in INPUTS.items():
            if not (name[0].isdigit() or name == "no answer") or state in _WAITING:
                one = brought(steps)
                outputs = step(one)
                lines.append(f"{state:15} | {name:17} | {one.state:12} | {told(outputs)}\n")
    return "".join(lines)


class TableTests(TestCase):
    """The machine against its table."""

    @shows("OUT-02", "10.2.4")
    def test_table(self) -> None:
        """Each input in each state does what the table says."""
        if os.environ.get("UPDATE_TABLES"):
            TABLE.write_text(table(), encoding="utf-8")
        self.assertEqual(table().splitlines(), TABLE.read_text(encoding="utf-8").splitlines())

    @shows("OUT-06", "5626 4.5")
    def test_waits(self) -> None:
        """Waits double up to their longest, chance takes up to half of them, and a success begins anew."""
        for chance, part in ((0.0, 0.5), (1.0, 1.0)):
            one = brought((), chance)
            for step in range(12):
                one.start()
                one.answered(500, 0, 0)
                self.assertAlmostEqual(one.wait, part * min(30.0 * 2 ** step, LONGEST))
            one.start()
            one.answered(200, 300, 0)
            one.start()
            one.answered(500, 0, 0)
            self.assertAlmostEqual(one.wait, part * 30.0)

    def test_leaves_once(self) -> None:
        """However often it is stopped, and whatever comes after, the binding is taken away once."""
        one = brought(STATES["registered"])
        outputs = one.stop() + one.stop() + one.start() + one.lost() + one.answered(503, 0, 60) + one.stop() + one.start()
        self.assertEqual([output for output in outputs if output[0] in (SEND, OVER)], [(SEND, 0), (OVER, None)])
