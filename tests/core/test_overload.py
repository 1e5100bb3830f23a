"""When the server counts as overloaded, and how much new work it then refuses (RFC 3261 s21.5.4, RFC 7339)."""

from __future__ import annotations

import random
from collections import deque
from heapq import heappop, heappush

from twisted.trial.unittest import TestCase

from sipd.core.overload import INTERVAL, Overload


class OverloadTests(TestCase):
    """Samples by hand."""

    def setUp(self) -> None:
        self.overload = Overload(0.1)
        self.now = 0.0

    def sample(self, *delays: float, short_of_room: bool = False) -> None:
        """One sample after the other."""
        for delay in delays:
            self.now += INTERVAL
            self.overload.sample(self.now, delay, short_of_room)

    def test_pause(self) -> None:
        """A pause, however long, is no overload, and two are none; the server goes on as before."""
        for pauses in ((30.0,), (1.0, 1.0)):
            self.sample(0.0, *pauses, *[0.0] * 20)
            self.assertEqual((self.overload.active, self.overload.share), (False, 0.0))

    def test_just_below(self) -> None:
        """A delay that stays as it is wanted changes nothing."""
        self.sample(*[0.1] * 1000)
        self.assertEqual((self.overload.active, self.overload.share), (False, 0.0))

    def test_begins_and_ends(self) -> None:
        """A delay that stands begins it, and the share grows as long as it stands; it ends some calm seconds after the
        delay is gone, and not while it comes back again and again."""
        self.sample(0.2, 0.2, 0.2)
        self.assertFalse(self.overload.active)
        self.sample(0.2)
        self.assertTrue(self.overload.active)
        self.assertEqual(self.overload.since, self.now)
        shares = []
        for _ in range(20):
            self.sample(0.3)
            shares.append(self.overload.share)
        self.assertEqual(shares, sorted(shares))
        self.assertGreater(shares[-1], 0.5)
        self.sample(*[0.3] * 100)
        self.assertEqual(self.overload.share, 1.0)
        for _ in range(20):
            self.sample(*[0.0] * 20, *[0.3] * 5)
            self.assertTrue(self.overload.active)
        while self.overload.share:
            self.sample(0.0)
        self.sample(*[0.0] * 28)
        self.assertTrue(self.overload.active)
        self.sample(0.0, 0.0, 0.0)
        self.assertFalse(self.overload.active)
        self.assertEqual(self.overload.worst, 0.3)

    def test_no_room(self) -> None:
        """A queue that loses what comes is too long, however young what is in it."""
        self.sample(0.01, 0.01, 0.01, 0.01, short_of_room=True)
        self.assertTrue(self.overload.active)

    def test_pause_after_the_end(self) -> None:
        """A pause right after an overload has ended is no overload either."""
        self.sample(*[0.2] * 5)
        self.assertTrue(self.overload.active)
        while self.overload.active:
            self.sample(0.04)
        self.sample(10.0)
        self.assertFalse(self.overload.active)

    def test_strangers_first(self) -> None:
        """What is refused is taken from strangers, and from others only what is left; together it is the share, whatever
        part of those who ask are strangers."""
        for strangers in (0, 1, 5, 9, 10):
            overload = self.overload = Overload(0.1)
            while overload.share < 0.5:
                for number in range(10):
                    overload.asks(known=number >= strangers)
                self.sample(0.15)
            for _ in range(50):
                shares = [overload.asks(known=number >= strangers) for number in range(10)]
                overload.share = 0.5
                overload.sample(self.now, overload.delay)
            self.assertLess(abs(sum(shares) / 10 - overload.share), 0.03)
            if 5 < strangers < 10:
                self.assertEqual(overload.asks(known=True), 0.0)
            elif 0 < strangers < 5:
                self.assertEqual(overload.asks(known=False), 1.0)


class Queue:
    """A server with one queue in front of it, which counts the calls it completes: a call is seven messages, `cost`
    seconds for all, those after the INVITE follow it within `hold` seconds; refusing one costs `refusal` with its ACK.
    Callers repeat an INVITE that is not answered (timer A)."""

    def __init__(self, overload: Overload | None, *, cost: float = 600e-6, refusal: float = 50e-6, hold: float = 0.002,
                 room: int = 6500) -> None:
        self.overload = overload
        self.cost, self.refusal, self.hold, self.room = cost, refusal, hold, room
        self.chance = random.Random(1)

    def completed(self, rate: float, seconds: int) -> float:
        """Calls completed a second when `rate` are begun, without the first three seconds."""
        coming: list[tuple[float, int, float]] = []  # when, call, and the message's number or the timer's interval
        for call in range(int(rate * seconds)):
            heappush(coming, (call / rate, call, -0.5))
        queue: deque[tuple[float, int, float]] = deque()
        begun: set[int] = set()
        over: set[int] = set()
        now, due, lost, done = 0.0, INTERVAL, 0, 0
        while now < seconds and (coming or queue):
            while coming and coming[0][0] <= now:
                when, call, step = heappop(coming)
                if step < 0 and (call in begun or call in over):
                    continue  # answered
                if step < 0 and step > -8:
                    heappush(coming, (when - step, call, 2 * step))
                if len(queue) < self.room:
                    queue.append((when, call, step))
                else:
                    lost += 1
            if now >= due:
                if self.overload is not None:
                    self.overload.sample(now, now - queue[0][0] if queue else 0.0, bool(lost))
                lost, due = 0, now + INTERVAL
            if not queue:
                now = min(coming[0][0], due)
                continue
            for _ in range(min(len(queue), 32)):
                _, call, step = queue.popleft()
                if step > 0:
                    now += self.cost / 7
                    done += step == 6 and now >= 3
                    if step < 6:
                        heappush(coming, (now + self.hold / 5, call, step + 1))
                elif call in begun:
                    now += self.cost / 14  # a repeat
                elif self.overload is not None and self.overload.active and (
                        call in over or self.chance.random() < self.overload.share):
                    over.add(call)
                    now += self.refusal
                else:
                    begun.add(call)
                    now += self.cost / 7
                    heappush(coming, (now + self.hold / 5, call, 1))
        return done / (now - 3)


class ControlTests(TestCase):
    """What becomes of calls when more come than can be served, in a model of a server."""

    best = 1 / 600e-6

    def test_twice_the_rate(self) -> None:
        """At one and a half times and twice what it can carry, a server that sheds completes at least 75 % of it, with
        much room for what waits or little, calls short or long; one that does not completes less than half."""
        self.assertGreater(Queue(None).completed(0.9 * self.best, 8), 0.85 * self.best)
        self.assertLess(Queue(None).completed(2 * self.best, 8), 0.5 * self.best)
        for times in (1.5, 2.0):
            for room in (6500, 330):
                for hold in (0.002, 2.0):
                    done = Queue(Overload(0.2), hold=hold, room=room).completed(times * self.best, 8)
                    self.assertGreater(done, 0.75 * self.best, (times, room, hold))

    def test_within_capacity(self) -> None:
        """At nine tenths of what it can carry, nothing is refused."""
        overload = Overload(0.2)
        Queue(overload).completed(0.9 * self.best, 10)
        self.assertEqual(overload.share, 0.0)
        self.assertFalse(overload.active)
