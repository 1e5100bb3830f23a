"""Every input in every state of a subscription. What comes of it stands in `tests/tables/subscription.txt`.

After a change that is meant: `UPDATE_TABLES=1 trial tests.events.test_subscription`, and read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import TestCase

from sipd.events.subscription import (
    ABANDON,
    ACTIVE,
    DEADLINE,
    LATER,
    NOTIFY,
    OVER,
    QUEUE,
    TERMINATED,
    WAITS,
    Output,
    Subscription,
)
from tests.support.cases import shows

TABLE = Path(__file__).resolve().parents[1] / "tables" / "subscription.txt"

Step = Callable[[Subscription], list[Output]]
#: The moment of every input: changes may be told again at 101 where one was told at 100.
NOW = 100.0


def _subscribe(one: Subscription) -> list[Output]:
    return one.subscribed(NOW, 600.0)


def _ok(one: Subscription) -> list[Output]:
    return one.answered(NOW, 200)


def _lost(one: Subscription) -> list[Output]:
    return one.answered(NOW, 0)


def _changed(one: Subscription) -> list[Output]:
    return one.changed(NOW)


#: How a state is come to. "quiet" was told nothing for long.
STATES: dict[str, tuple[Step, ...]] = {
    "new": (),
    "telling": (_subscribe,),
    "telling, stale": (_subscribe, _changed),
    "told": (_subscribe, _ok),
    "told, paced": (_subscribe, _ok, _changed),
    "quiet": (_subscribe, lambda one: one.answered(NOW - 60.0, 200)),
    "quiet, queued": (_subscribe, lambda one: one.answered(NOW - 60.0, 200), _changed),
    "lost once": (_subscribe, _lost),
    "lost, again": (_subscribe, _lost, lambda one: one.later(NOW), Subscription.turn),
    "lost every time": (_subscribe, *(step for _ in WAITS for step in (
        _lost, lambda one: one.later(NOW), Subscription.turn))),
    "restored": (lambda one: one.restored(NOW, 300.0),),
    "leaving": (_subscribe, _ok, lambda one: one.subscribed(NOW, 0.0)),
    "gone": (_subscribe, _ok, lambda one: one.subscribed(NOW, 0.0), _ok),
}
INPUTS: dict[str, Step] = {
    "SUBSCRIBE 600 s": _subscribe,
    "SUBSCRIBE 0 s": lambda one: one.subscribed(NOW, 0.0),
    "200": _ok,
    "no answer": _lost,
    "302": lambda one: one.answered(NOW, 302),
    "403": lambda one: one.answered(NOW, 403),
    "481": lambda one: one.answered(NOW, 481),
    "489": lambda one: one.answered(NOW, 489),
    "500": lambda one: one.answered(NOW, 500),
    "503, after 100 s": lambda one: one.answered(NOW, 503, 100),
    "503, after a year": lambda one: one.answered(NOW, 503, 31_536_000),
    "604": lambda one: one.answered(NOW, 604),
    "changed": _changed,
    "turn": Subscription.turn,
    "later": lambda one: one.later(NOW + 2.0),
    "moved": Subscription.moved,
    "seen": Subscription.seen,
    "granted": Subscription.granted,
    "expired": Subscription.expired,
    "ended": lambda one: one.ended("deactivated"),
}
_NAMES = {NOTIFY: "notify", ABANDON: "abandon", QUEUE: "queue", LATER: "later", DEADLINE: "deadline", OVER: "over"}


def brought(steps: tuple[Step, ...], granted: bool = True) -> Subscription:
    """A subscription after these steps."""
    one = Subscription(1.0, granted)
    for step in steps:
        step(one)
    return one


def told(outputs: list[Output]) -> str:
    """Outputs as the table has them."""
    words = []
    for kind, payload in outputs:
        if kind == NOTIFY:
            words.append("notify" if payload else "notify if new")
        elif kind == LATER and payload is None:
            words.append("not later")
        else:
            words.append(_NAMES[kind] if payload in (None, "") else f"{_NAMES[kind]} {payload}")
    return ", ".join(words) or "-"


def table() -> str:
    """The whole table; the pending kind of a subscription first."""
    lines = []
    for granted in (False, True):
        for state, steps in STATES.items():
            if not granted and state not in ("new", "telling", "told", "leaving"):
                continue
            for name, step in INPUTS.items():
                one = brought(steps, granted)
                if (name[0].isdigit() or name == "no answer") and not one.sending:
                    continue  # answers come only where one is waited for
                outputs = step(one)
                label = state if granted else f"pending, {state}"
                lines.append(f"{label:17} | {name:17} | {one.state:10} | {told(outputs)}\n")
    return "".join(lines)


class TableTests(TestCase):
    """The machine against its table."""

    @shows("SUB-08", "6665 4.2.2")
    def test_table(self) -> None:
        """Each input in each state does what the table says."""
        if os.environ.get("UPDATE_TABLES"):
            TABLE.write_text(table(), encoding="utf-8")
        self.assertEqual(table().splitlines(), TABLE.read_text(encoding="utf-8").splitlines())

    def test_one_at_a_time(self) -> None:
        """However inputs follow each other, no NOTIFY is begun while another is under way, and once it is over nothing
        more comes of it."""
        for first in INPUTS.values():
            for second in INPUTS.values():
                for third in INPUTS.values():
                    one = brought(STATES["told"])
                    under_way = over = False
                    for step in (first, second, third):
                        if step in (INPUTS[name] for name in INPUTS if name[0].isdigit() or name == "no answer"):
                            if not under_way:
                                continue
                            under_way = False
                        for kind, _ in step(one):
                            self.assertFalse(over)
                            if kind == ABANDON:
                                self.assertTrue(under_way)
                                under_way = False
                            if kind == NOTIFY:
                                self.assertFalse(under_way)
                                under_way = True
                            over = over or kind == OVER

    @shows("SUB-08", "R6665-4.2.2-04")
    def test_ending(self) -> None:
        """Which answers to a NOTIFY end the subscription: those of the RFC; any other final one does not."""
        ending = [status for status in range(200, 700)
                  if brought(STATES["telling"]).answered(NOW, status) == [(OVER, f"the watcher answered {status}")]]
        self.assertEqual(ending, [404, 405, 410, 416, 480, 481, 482, 483, 484, 485, 489, 501, 604])

    @shows("SUB-08", "6665 4.2.2")
    def test_given_up(self) -> None:
        """A watcher that never answers is tried once after each wait and then forgotten."""
        one = brought(STATES["telling"])
        waits = []
        for _ in WAITS:
            (kind, seconds), = one.answered(NOW, 0)
            self.assertEqual(kind, LATER)
            waits.append(seconds)
            self.assertEqual(told(one.later(NOW)), "queue")
            self.assertEqual(told(one.turn()), "notify")
        self.assertEqual(waits, list(WAITS))
        self.assertEqual(told(one.answered(NOW, 0)), "over the watcher is silent")
        self.assertEqual(one.state, TERMINATED)

    def test_an_answer_forgives(self) -> None:
        """A watcher that answers again has all its attempts before it again."""
        one = brought(STATES["lost, again"])
        self.assertEqual(one.answered(NOW, 200), [])
        one.changed(NOW + 5.0)
        one.turn()
        self.assertEqual(one.answered(NOW + 9.0, 0), [(LATER, WAITS[0])])
        self.assertEqual(one.state, ACTIVE)
