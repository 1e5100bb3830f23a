"""The list of `make mutants` fits the sources: what it wants to break is still there."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tools.mutant_list import MUTANTS, Mutant
from tools.mutants import faults, noticed_by


class MutantTests(SynchronousTestCase):
    """`tools/mutant_list.py`, and how `tools/mutants.py` reads it."""

    def test_list(self) -> None:
        """Every old text stands exactly once in its file and every new one compiles; each test module is there."""
        self.assertGreaterEqual(len(MUTANTS), 30)
        self.assertEqual(faults(MUTANTS), [])

    def test_faults(self) -> None:
        """A text that is gone, a change that is none, a module that is not there and a name used twice are told."""
        gone = Mutant("one", "sipd/wheel.py", "never written", "x", ("tests.test_wheel",))
        none = Mutant("one", "sipd/wheel.py", "class Timer:", "class Timer:", ("tests.test_nothing",))
        broken = Mutant("two", "sipd/wheel.py", "class Timer:", "class Timer", ("tests.test_wheel",))
        told = faults((gone, none, broken))
        for words in ("there twice", "0 times in sipd/wheel.py", "changes nothing", "no tests.test_nothing", "two: "):
            self.assertEqual(len([line for line in told if words in line]), 2 if words == "there twice" else 1, words)

    def test_who_noticed(self) -> None:
        """The test that failed first is read from what trial prints; a run without an end counts as noticed."""
        self.assertEqual(noticed_by("tests.test_a\n  ok\n=====\n[FAIL]\ntests.test_a.A.test_b\n-----\n"),
                         "tests.test_a.A.test_b")
        self.assertEqual(noticed_by("tests.test_a\nPASSED\n"), "")
        self.assertNotEqual(noticed_by(""), "")
