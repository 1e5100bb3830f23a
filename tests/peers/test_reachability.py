"""Whether somebody answers, with hysteresis."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.peers.reachability import LAGGED, REACHABLE, UNKNOWN, UNREACHABLE, Reachability


class ReachabilityTests(TestCase):
    """The judgement of one peer."""

    def test_unreachable(self) -> None:
        """One silence is forgiven, as many as asked for in a row are not; one answer brings it back."""
        one = Reachability(1.0, 3)
        self.assertEqual((one.state, one.rtt), (UNKNOWN, 0.0))
        self.assertTrue(one.answered(0.1))
        self.assertFalse(one.silent())
        self.assertFalse(one.silent())
        self.assertFalse(one.answered(0.1))
        self.assertEqual((one.state, one.missed), (REACHABLE, 0))
        self.assertEqual([one.silent() for _ in range(5)], [False, False, True, False, False])
        self.assertEqual(one.state, UNREACHABLE)
        self.assertTrue(one.answered(0.2))
        self.assertEqual((one.state, one.rtt), (REACHABLE, 0.2))

    def test_never_there(self) -> None:
        """Who never answered is unreachable too, in the end."""
        one = Reachability(1.0, 2)
        self.assertEqual([one.silent(), one.silent(), one.state], [False, True, UNREACHABLE])

    def test_lagged(self) -> None:
        """The smoothed time decides: one slow answer does not make it lagged, many do; it counts as reachable again well
        below the threshold, not at its edge."""
        one = Reachability(1.0, 2)
        one.answered(0.1)
        self.assertFalse(one.answered(5.0))
        self.assertEqual(one.state, REACHABLE)
        self.assertEqual([one.answered(5.0), one.state], [True, LAGGED])
        changes = 0
        while one.rtt >= 0.75:
            self.assertEqual(one.state, LAGGED)
            changes += one.answered(0.5)
        self.assertEqual((changes, one.state), (1, REACHABLE))
        for seconds in (0.9, 0.99, 0.9, 0.99) * 10:
            self.assertFalse(one.answered(seconds))

    def test_slow_from_the_start(self) -> None:
        """The first answer counts whole."""
        one = Reachability(1.0, 2)
        self.assertTrue(one.answered(1.5))
        self.assertEqual(one.state, LAGGED)
