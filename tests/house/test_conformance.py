"""The conformance table is true: no case without a test, no marker without a case, the page as the tests say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

from tests.support.cases import shows

ROOT = Path(__file__).resolve().parent.parent.parent


def load() -> ModuleType:
    """tools/conformance.py as a module."""
    spec = importlib.util.spec_from_file_location("conformance", ROOT / "tools" / "conformance.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Table(SynchronousTestCase):
    """docs/conformance.md against tests/cases.tsv and the markers."""

    def setUp(self) -> None:
        self.tool = load()
        self.cases = self.tool.read_cases()
        self.marks = list(self.tool.find_marks())

    def test_every_case_is_shown(self) -> None:
        """Each case has at least one test."""
        shown = {mark.case for mark in self.marks}
        self.assertEqual([case.id for case in self.cases if case.id not in shown], [])

    def test_every_marker_is_a_case(self) -> None:
        """Each marker names a case of the list."""
        known = {case.id for case in self.cases}
        self.assertEqual([mark for mark in self.marks if mark.case not in known], [])

    def test_page_is_fresh(self) -> None:
        """The page is what the tool would write now."""
        self.assertEqual(self.tool.PAGE.read_text(encoding="utf-8"), self.tool.render(self.cases, self.marks),
                         "docs/conformance.md is stale: run python tools/conformance.py")


class Tool(SynchronousTestCase):
    """The tool and the marker themselves."""

    def setUp(self) -> None:
        self.tool = load()

    def test_render(self) -> None:
        """A row each, with the sections of case and marker and the tests; a case without one is a gap."""
        case = self.tool.Case
        cases = [case("REG-01", "10.3", "one", "two"), case("REG-02", "10.3/7, 9.1", "three", "four")]
        page = self.tool.render(cases, [self.tool.Mark("REG-02", "a.B.test_c", ("9.1", "9.2"))])
        self.assertIn("1 of 2 cases have a test.", page)
        self.assertIn("| REG-01 | one: two | 10.3 | **gap** |", page)
        self.assertIn("| REG-02 | three: four | 10.3/7, 9.1, 9.2 | `a.B.test_c` |", page)

    def test_bad_list(self) -> None:
        """A row with a field missing and an id that comes twice are refused."""
        for rows in ("REG-01\t10.3\tone\n", "REG-01\t1\ta\tb\nREG-01\t1\ta\tb\n", "REG-01\t\ta\tb\n"):
            path = Path(self.mktemp())
            path.write_text("id\tsection\tstimulus\texpected\n" + rows, encoding="utf-8")
            self.assertRaises(ValueError, self.tool.read_cases, path)

    def test_marker(self) -> None:
        """Markers add up on a function; one that names no case, or something else than a section, is refused."""
        @shows("REG-01", "10.3")
        @shows("REG-02", "INV-03", "3263 4.1")
        def test() -> None: ...

        self.assertEqual(vars(test), {"cases": ("REG-01", "REG-02", "INV-03"), "sections": ("10.3", "3263 4.1")})
        self.assertRaises(ValueError, shows, "10.3")
        self.assertRaises(ValueError, shows, "REG-01", "reg-2")
