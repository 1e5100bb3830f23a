"""Nonces in virtual time: taken once per count, stale when old, forged or forgotten, and nothing left behind."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from sipd.auth.nonce import ONCE, Nonces
from sipd.inventory import Inventory


class NonceTest(TestCase):
    """A clock, an inventory, and nonces of 300 s."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(5000.25)
        self.inventory = Inventory()
        self.nonces = self.make()

    def make(self, limit: int = 1000) -> Nonces:
        return Nonces(self.clock, os.urandom, self.inventory, 300.0, limit)

    def held(self) -> int:
        return sum(self.inventory.left().values())

    def test_issuing_stores_nothing(self) -> None:
        """A thousand challenges are a thousand different nonces, no entry and no timer."""
        self.assertEqual(len({self.nonces.issue() for _ in range(1000)}), 1000)
        self.assertEqual((self.held(), self.clock.getDelayedCalls()), (0, []))

    def test_each_count_once(self) -> None:
        """AUT-06: counts go up, each is taken once, and the nonce's window is one entry."""
        nonce = self.nonces.issue()
        for nc in (1, 2, 3):
            self.assertTrue(self.nonces.accept(nonce, nc))
            self.assertFalse(self.nonces.accept(nonce, nc))
        self.assertFalse(self.nonces.accept(nonce.upper(), 3))
        self.assertEqual(self.held(), 1)

    def test_reordering(self) -> None:
        """Counts up to 63 behind the highest are taken late, once; older ones are stale, and a leap forward is fine."""
        nonce = self.nonces.issue()
        self.assertTrue(self.nonces.accept(nonce, 100))
        for nc in (99, 37):
            self.assertTrue(self.nonces.accept(nonce, nc))
            self.assertFalse(self.nonces.accept(nonce, nc))
        self.assertFalse(self.nonces.accept(nonce, 36))
        self.assertTrue(self.nonces.accept(nonce, 0xFFFFFFFF))
        self.assertFalse(self.nonces.accept(nonce, 101))

    def test_without_count(self) -> None:
        """A nonce used without a count is good for one request, and one that was counted for none."""
        nonce, counted = self.nonces.issue(), self.nonces.issue()
        self.assertTrue(self.nonces.accept(nonce, ONCE))
        for nc in (ONCE, 1, 0xFFFFFFFF):
            self.assertFalse(self.nonces.accept(nonce, nc))
        self.assertTrue(self.nonces.accept(counted, 1))
        self.assertFalse(self.nonces.accept(counted, ONCE))
        self.assertTrue(self.nonces.accept(counted, 2))

    def test_lifetime(self) -> None:
        """A nonce is taken until 300 s after its issue, used or not."""
        used, unused = self.nonces.issue(), self.nonces.issue()
        self.clock.advance(299)
        self.assertTrue(self.nonces.accept(used, 1))
        self.clock.advance(1.001)
        self.assertFalse(self.nonces.accept(used, 2))
        self.assertFalse(self.nonces.accept(unused, 1))

    def test_forged(self) -> None:
        """A nonce of another process, a changed one and noise are stale."""
        nonce = self.nonces.issue()
        changed = nonce[:-1] + ("0" if nonce[-1] != "0" else "1")
        later = f"{int(nonce[:14], 16) + 1:014x}{nonce[14:]}"
        for forged in (self.make().issue(), changed, later, "", "x" * 32, "é" * 32, nonce[:-1] + " ", nonce + "0",
                       " " * 32):
            self.assertFalse(self.nonces.accept(forged, 1), forged)
        self.assertEqual(self.held(), 0)

    def test_forgotten_is_stale(self) -> None:
        """A used nonce whose window was evicted is never taken as unused, nor is any count of it."""
        nonces = self.make(limit=10)
        first = nonces.issue()
        self.assertTrue(nonces.accept(first, 1))
        for _ in range(30):
            self.assertTrue(nonces.accept(nonces.issue(), 1))
            self.assertLessEqual(self.held(), 10)
        for nc in (1, 2, 50):
            self.assertFalse(nonces.accept(first, nc))

    def test_new_ones_survive_eviction(self) -> None:
        """A nonce issued now is taken however full the table is, and lives on while a generation turns."""
        nonces = self.make(limit=10)
        for _ in range(100):
            self.assertTrue(nonces.accept(nonces.issue(), 1))
        nonce = nonces.issue()
        self.assertTrue(nonces.accept(nonce, 1))
        for _ in range(4):
            self.assertTrue(nonces.accept(nonces.issue(), 1))
        self.assertTrue(nonces.accept(nonce, 2))

    def test_nothing_left(self) -> None:
        """After the last use the windows go within two lifetimes, and the timer with them."""
        for _ in range(7):
            self.nonces.accept(self.nonces.issue(), 1)
            self.clock.advance(60)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(299)
        self.assertGreater(self.held(), 0)
        self.clock.advance(301)
        self.assertEqual((self.inventory.left(), self.clock.getDelayedCalls()), ({}, []))

    def test_clock_stands_still(self) -> None:
        """Two nonces of one microsecond have windows of their own."""
        one, two = self.nonces.issue(), self.nonces.issue()
        self.assertTrue(self.nonces.accept(one, 1))
        self.assertTrue(self.nonces.accept(two, 1))

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 200), st.sampled_from((0, 0, 0, 1, 100, 299)))))
    def test_never_twice(self, steps: list[tuple[int, int, int]]) -> None:
        """Whatever the order of nonces, counts and time, and with a tiny table: no (nonce, nc) is taken twice."""
        clock, inventory = Clock(), Inventory()
        nonces = Nonces(clock, os.urandom, inventory, 300.0, 8)
        issued: list[str] = []
        taken: set[tuple[str, int]] = set()
        for which, nc, seconds in steps:
            clock.advance(seconds)
            if which >= len(issued):
                issued.append(nonces.issue())
                which = len(issued) - 1
            if nonces.accept(issued[which], nc):
                self.assertNotIn((issued[which], nc), taken)
                taken.add((issued[which], nc))
            self.assertLessEqual(sum(inventory.left().values()), 8)
        clock.advance(300)
        clock.advance(300)
        self.assertEqual((inventory.left(), clock.getDelayedCalls()), ({}, []))
