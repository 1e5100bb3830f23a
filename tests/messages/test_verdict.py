"""What answers to a stored message mean, and the pauses."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sipd.messages.verdict import DECLINED, DELIVERED, LATER, REFUSED, pause, verdict


class VerdictTests(SynchronousTestCase):
    """`verdict` and `pause`."""

    def test_every_status(self) -> None:
        """Each status by its class, and those that are apart."""
        later = {404, 408, 429, 430, 439, 480, 481, 482, 483, 486, 487, 491}
        lasting = {501, 505, 513}
        for status in range(200, 700):
            wanted = (DELIVERED if status < 300 else LATER if status < 400 or status in later else DECLINED if status >= 600
                      else REFUSED if status < 500 or status in lasting else LATER)
            self.assertEqual(verdict(status, 0, False), wanted, status)

    def test_apart(self) -> None:
        """No answer passes; 413 does when it says when (s21.4.11); 482 from who was silent before has it (s8.2.2.2)."""
        self.assertEqual([verdict(0, 0, False), verdict(0, 0, True)], [LATER, LATER])
        self.assertEqual([verdict(413, 0, False), verdict(413, 10, False)], [REFUSED, LATER])
        self.assertEqual([verdict(482, 0, False), verdict(482, 0, True)], [LATER, DELIVERED])

    def test_pauses(self) -> None:
        """A minute, doubling up to an hour, a fifth of it chance; not before Retry-After, which is an hour at most."""
        self.assertEqual([pause(n, 0, 0.5) for n in (1, 2, 3, 6, 7, 1000)], [60.0, 120.0, 240.0, 1920.0, 3600.0, 3600.0])
        self.assertEqual([round(pause(1, 0, chance), 6) for chance in (0.0, 1.0)], [48.0, 72.0])
        self.assertEqual([pause(1, 300, 0.5), pause(1, 999999, 0.5), pause(1, 5, 0.5)], [300.0, 3600.0, 60.0])
