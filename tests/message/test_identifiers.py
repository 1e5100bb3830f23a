"""Branches and tags."""

from __future__ import annotations

import os

from twisted.trial.unittest import TestCase

from sipd.message.identifiers import MAGIC_COOKIE, Identifiers
from tests.support.cases import shows


class IdentifiersTests(TestCase):
    """Identifiers."""

    def test_unlike(self) -> None:
        """None comes twice, also beyond what is drawn in bulk; 64 bits each (s19.3)."""
        identifiers = Identifiers(os.urandom)
        made = [identifiers.tag() for _ in range(2000)] + [identifiers.branch() for _ in range(2000)]
        self.assertEqual(len(set(made)), 4000)
        self.assertTrue(all(len(text.removeprefix(MAGIC_COOKIE)) == 16 for text in made))

    @shows("R3261-20.42-01")
    def test_branch(self) -> None:
        """s8.1.1.7: the cookie in front, and after it nothing that a change of case would change."""
        branch = Identifiers(os.urandom).branch()
        self.assertTrue(branch.startswith("z9hG4bK"))
        self.assertEqual(branch[7:], branch[7:].lower())

    def test_chance_is_given(self) -> None:
        """The same chance makes the same identifiers: nothing else goes into them."""
        one, other = (Identifiers(lambda size: b"\x01\x02" * (size // 2)) for _ in range(2))
        self.assertEqual([one.tag(), one.branch()], [other.tag(), other.branch()])
