"""The conformance table is true: no case without a test, no marker without a case, the page as the tests say."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.cases import shows
from tools import conformance, rules


class Table(SynchronousTestCase):
    """docs/conformance.md against tests/cases.tsv, tests/rules and the markers."""

    def setUp(self) -> None:
        self.cases = conformance.read_cases()
        self.rules = rules.read_rules()
        self.counts = rules.read_counts()
        self.marks = list(conformance.find_marks())

    def test_every_case_is_shown(self) -> None:
        """Each case has at least one test."""
        shown = {mark.case for mark in self.marks}
        self.assertEqual([case.id for case in self.cases if case.id not in shown], [])

    def test_every_rule_is_shown(self) -> None:
        """Each rule that binds us and is not left out on purpose has at least one test."""
        self.assertEqual([rule.id for rule in rules.gaps(self.rules, conformance.tests_by_mark(self.marks))], [])

    def test_sums(self) -> None:
        """The rows of each section stand for as many MUST, MUST NOT, SHOULD and SHOULD NOT as its text holds."""
        self.assertEqual(conformance.wrong_sums(self.rules, self.counts), [])

    def test_few_are_unmet(self) -> None:
        """Not more than a dozen rules with MUST are deliberately not met."""
        unmet = [rule.id for rule in self.rules if rule.unmet and rule.is_must]
        self.assertLessEqual(len(unmet), rules.MOST_UNMET, unmet)

    def test_every_marker_is_a_case(self) -> None:
        """Each marker names a case or a rule of the lists."""
        known = {case.id for case in self.cases} | {rule.id for rule in self.rules}
        self.assertEqual([mark for mark in self.marks if mark.case not in known], [])

    def test_page_is_fresh(self) -> None:
        """The page is what the tool would write now."""
        page = conformance.render(self.cases, self.marks, self.rules, self.counts)
        self.assertEqual(conformance.PAGE.read_text(encoding="utf-8"), page,
                         "docs/conformance.md is stale: run python tools/conformance.py")


class Tool(SynchronousTestCase):
    """The tool and the marker themselves."""

    def test_render(self) -> None:
        """A row each, with the sections of case and marker and the tests; a case without one is a gap."""
        case = conformance.Case
        cases = [case("REG-01", "10.3", "one", "two"), case("REG-02", "10.3/7, 9.1", "three", "four")]
        page = conformance.render(cases, [conformance.Mark("REG-02", "a.B.test_c", ("9.1", "9.2"))], [], rules.Sums())
        self.assertIn("1 of 2 cases have a test.", page)
        self.assertIn("| REG-01 | one: two | 10.3 | **gap** |", page)
        self.assertIn("| REG-02 | three: four | 10.3/7, 9.1, 9.2 | `a.B.test_c` |", page)

    def test_render_rules(self) -> None:
        """A section tells its words and whom they bind; a rule is shown, deliberately not met, or a gap."""
        rule = rules.Rule
        listed = [
            rule("R1-2-01", "1", "2", "MUST", 2, "proxy", "first", ""), rule("R1-2-02", "1", "2", "SHOULD", 1, "proxy", "b", ""),
            rule("R1-2-03", "1", "2", "MUST NOT", 1, "proxy", "third", "it hurts"), rule("", "1", "2", "MUST", 3, "UA", "x", ""),
        ]
        sums = rules.sums_of(listed)
        page = "\n".join(rules.render(listed, sums, {"R1-2-01": ["a.B.test_c"]}))
        self.assertIn("7 words; 3 rules bind sipd: 1 are met and shown by a test, 1 deliberately not met (1 of them a MUST "
                      "or MUST NOT), 1 gaps.", page)
        self.assertIn("### 1 s2: 5 MUST, 1 MUST NOT, 1 SHOULD; others: 3 MUST (UA)", page)
        self.assertIn("| R1-2-01 | MUST | proxy | first | `a.B.test_c` |", page)
        self.assertIn("| b | **gap** |", page)
        self.assertIn("| third | deliberately not: it hurts |", page)
        self.assertEqual(conformance.wrong_sums(listed, sums), [])
        sums["1", "2", "MUST"] += 1
        self.assertEqual(conformance.wrong_sums(listed, sums), ["RFC 1 s2: 5 MUST listed, 6 in the text"])

    def test_bad_rules(self) -> None:
        """A row whose id is not of its RFC and section, whose level or count is none, or that comes twice is refused."""
        good = "R3261-7.1-01\t7.1\tMUST\t1\tparser\twhat\t"
        for rows in (good.replace("3261", "3262"), good.replace("-7.1", "-7.2"), good.replace("MUST", "must"),
                     good.replace("\t1\t", "\tone\t"), good.replace("parser", ""), f"{good}\n{good}"):
            folder = Path(self.mktemp())
            folder.mkdir(parents=True)
            (folder / "3261-07.tsv").write_text("\t".join(rules.FIELDS) + f"\n{rows}\n", encoding="utf-8")
            self.assertRaises(ValueError, rules.read_rules, folder)

    def test_bad_list(self) -> None:
        """A row with a field missing and an id that comes twice are refused."""
        for rows in ("REG-01\t10.3\tone\n", "REG-01\t1\ta\tb\nREG-01\t1\ta\tb\n", "REG-01\t\ta\tb\n"):
            path = Path(self.mktemp())
            path.write_text("id\tsection\tstimulus\texpected\n" + rows, encoding="utf-8")
            self.assertRaises(ValueError, conformance.read_cases, path)

    def test_marker(self) -> None:
        """Markers add up on a function; one that names no case, or something else than a section, is refused."""
        @shows("REG-01", "10.3")
        @shows("REG-02", "R3261-10.3-04", "3263 4.1")
        def test() -> None: ...

        self.assertEqual(vars(test), {"cases": ("REG-01", "REG-02", "R3261-10.3-04"), "sections": ("10.3", "3263 4.1")})
        self.assertRaises(ValueError, shows, "10.3")
        self.assertRaises(ValueError, shows, "REG-01", "reg-2")
