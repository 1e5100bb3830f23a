"""The timer wheel in virtual time."""

from __future__ import annotations

import random

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from sipd.wheel import Timer, TimerWheel


class WheelTests(TestCase):
    """TimerWheel."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = TimerWheel(self.clock, 0.02)
        self.fired: list[tuple[float, object]] = []

    def start(self, delay: float, what: object = None) -> Timer:
        """A timer that notes when it fired."""
        return self.wheel.start(delay, lambda argument: self.fired.append((self.clock.seconds(), argument)), what)

    def test_on_time(self) -> None:
        """Never early, two ticks late at most, whatever the steps of the clock."""
        dice = random.Random(5)
        delays = [dice.choice([0.0, 0.01, 0.02, 0.5, 1.0, 32.0, dice.uniform(0, 40)]) for _ in range(500)]
        begun = []
        for delay in delays:
            begun.append(self.clock.seconds())
            self.start(delay, len(begun) - 1)
            self.clock.advance(dice.uniform(0, 0.03))
        while self.clock.seconds() < 60:
            self.clock.advance(dice.uniform(0.0001, 0.02))
        self.assertEqual(sorted(number for _, number in self.fired), list(range(500)))  # type: ignore[type-var]
        for at, number in self.fired:
            late = at - begun[number] - delays[number]  # type: ignore[call-overload]
            self.assertTrue(-0.0003 <= late <= 0.04 + 0.02, f"{late} s late")

    def test_order(self) -> None:
        """Earlier slots fire first, also after a long sleep of the clock; in a slot, in the order of starting."""
        for delay in (3.0, 1.0, 2.0, 1.0):
            self.start(delay, delay)
        self.clock.advance(10.0)
        self.assertEqual([what for _, what in self.fired], [1.0, 1.0, 2.0, 3.0])

    def test_cancel(self) -> None:
        """A cancelled timer does not fire; cancelling again, or after it fired, does nothing."""
        kept, gone = self.start(1.0, "kept"), self.start(1.0, "gone")
        self.assertEqual(len(self.wheel), 2)
        gone.cancel()
        gone.cancel()
        self.assertEqual(len(self.wheel), 1)
        self.clock.advance(1.1)
        kept.cancel()
        self.assertEqual([what for _, what in self.fired], ["kept"])
        self.assertEqual(len(self.wheel), 0)

    def test_cancelled_by_another(self) -> None:
        """A timer may cancel one of its own slot that was to fire after it."""
        timers: list[Timer] = []
        self.wheel.start(1.0, lambda _: timers[0].cancel(), None)
        timers.append(self.start(1.0, "gone"))
        self.clock.advance(2.0)
        self.assertEqual(self.fired, [])

    def test_started_while_firing(self) -> None:
        """A timer may start others, for now and for later, and they fire."""
        def again(left: int) -> None:
            self.fired.append((self.clock.seconds(), left))
            if left:
                self.wheel.start(0.0, again, left - 1)

        self.wheel.start(0.5, again, 3)
        for _ in range(100):
            self.clock.advance(0.02)
        self.assertEqual([what for _, what in self.fired], [3, 2, 1, 0])

    def test_earlier_than_all(self) -> None:
        """A timer earlier than all that run is not late for them."""
        self.start(30.0, "late")
        self.start(0.1, "early")
        self.clock.advance(0.15)
        self.assertEqual([what for _, what in self.fired], ["early"])

    def test_one_call(self) -> None:
        """However many timers run, one call of the reactor stands for them; none is left when all have fired."""
        for number in range(1000):
            self.start(number / 50, number)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(30)
        self.assertEqual((len(self.fired), self.clock.getDelayedCalls(), len(self.wheel)), (1000, [], 0))

    def test_bug(self) -> None:
        """A timer that raises is logged and stops none of those after it."""
        self.wheel.start(1.0, lambda _: 1 / 0, None)
        self.start(1.0, "after")
        self.start(2.0, "later")
        self.clock.advance(3.0)
        self.assertEqual([what for _, what in self.fired], ["after", "later"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
