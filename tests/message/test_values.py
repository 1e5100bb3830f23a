"""delta-seconds and qvalues."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from sipd.message.values import MAX_DELTA_SECONDS, delta_seconds, qvalue
from tests.support.properties import check, hostile_text


class ValuesTests(TestCase):
    """delta_seconds and qvalue."""

    def test_delta_seconds(self) -> None:
        """s20.19: whole seconds up to 2**31-1, an overlong number counts as that, anything else is none."""
        for text, seconds in (("0", 0), ("3600", 3600), (" 60\r\n ", 60), ("0060", 60), ("2147483647", MAX_DELTA_SECONDS),
                              ("4294967296", MAX_DELTA_SECONDS), ("9" * 5000, MAX_DELTA_SECONDS)):
            self.assertEqual(delta_seconds(text), seconds, text[:20])
        for text in ("", "-1", "1.5", "1s", "0x10", "\u0663", "\u00b2", "1 2", "+1"):
            self.assertIsNone(delta_seconds(text), text)

    def test_leading_zeros(self) -> None:
        """Zeros in front change nothing, however many they are."""
        self.assertEqual(delta_seconds("00000000000060"), 60)

    def test_qvalue(self) -> None:
        """s25.1: 0 to 1 with three decimals at most, in thousandths."""
        for text, q in (("1", 1000), ("1.0", 1000), ("1.000", 1000), ("0", 0), ("0.5", 500), ("0.05", 50), ("0.125", 125),
                        ("0.", 0), ("1.", 1000), (" 0.7 ", 700)):
            self.assertEqual(qvalue(text), q, text)
        for text in ("", "1.1", "2", "0.1234", "-0.5", ".5", "1.001", "a", "0,5", "\u0660.5"):
            self.assertIsNone(qvalue(text), text)

    @check
    @given(hostile_text)
    def test_nothing_escapes(self, text: str) -> None:
        """Hostile text gives a number in its bounds or None."""
        self.assertIn(qvalue(text), {None, *range(1001)})
        seconds = delta_seconds(text)
        self.assertTrue(seconds is None or 0 <= seconds <= MAX_DELTA_SECONDS)

    @check
    @given(st.integers(0, 1000))
    def test_thousandths(self, q: int) -> None:
        """Each thousandth is read as what was written."""
        self.assertEqual(qvalue(f"{q / 1000:.3f}"), q)
