"""Writes docs/conformance.md: the cases of tests/cases.tsv, the rules of tests/rules, and the tests that show them.

    python tools/conformance.py           writes the page
    python tools/conformance.py --gaps    prints the cases and rules without a test, and sums that do not add up

The tests carry cases and rules as markers (`tests.support.cases.shows`). Exit status 1 when a test module cannot be
imported, a marker names what is in no list, or, with --gaps, something was printed.
"""

from __future__ import annotations

import importlib
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tools import rules as rules_of_rfcs  # noqa: E402
from tools.rules import Rule, Sums  # noqa: E402

CASES = ROOT / "tests" / "cases.tsv"
PAGE = ROOT / "docs" / "conformance.md"

GROUPS = {
    "REG": "Registrar",
    "AUT": "Authentication",
    "VAL": "Validation of requests",
    "RTE": "Routing, Route and Record-Route",
    "INV": "Calls",
    "CAN": "CANCEL",
    "FRK": "Forking",
    "NIT": "Other requests",
    "TRN": "Transports, NAT, framing, targets",
    "OUT": "Carriers: our registrations, and calls there",
    "QUA": "Qualify: who answers",
    "SUB": "Subscriptions, published states",
    "ROB": "Robustness",
}


class Case(NamedTuple):
    """One row of the list: what is sent, what must be seen, and the section that says so."""

    id: str
    section: str
    stimulus: str
    expected: str


class Mark(NamedTuple):
    """A test that says which case or rule it shows, and by which further section."""

    case: str
    test: str
    sections: tuple[str, ...]


def read_cases(path: Path = CASES) -> list[Case]:
    """The list, in its order. Raises ValueError for a row without four fields or an id that comes twice."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:] if line]
    for row in rows:
        if len(row) != 4 or not all(row):
            raise ValueError(f"{path.name}: not four fields: {row}")
    cases = [Case(*row) for row in rows]
    ids = [case.id for case in cases]
    if len(set(ids)) != len(ids):
        raise ValueError(f"{path.name}: twice: {sorted({id for id in ids if ids.count(id) > 1})}")
    return cases


def find_marks(folder: Path = ROOT / "tests") -> Iterator[Mark]:
    """The marks of all tests, module by module, test by test. Raises what an import raises."""
    for path in sorted(folder.rglob("test_*.py")):
        relative = path.relative_to(ROOT).with_suffix("")
        module = importlib.import_module(".".join(relative.parts))
        where = ".".join(relative.parts[1:])
        for suite in vars(module).values():
            if not (isinstance(suite, type) and issubclass(suite, unittest.TestCase)):
                continue
            if suite.__module__ != module.__name__:
                continue
            for method in sorted(name for name in dir(suite) if name.startswith("test")):
                function = getattr(suite, method)
                for case in getattr(function, "cases", ()):
                    yield Mark(case, f"{where}.{suite.__name__}.{method}", function.sections)


def tests_by_mark(marks: list[Mark]) -> dict[str, list[str]]:
    """The tests of each case and rule, once each, in their order."""
    tests: dict[str, list[str]] = {}
    for mark in marks:
        names = tests.setdefault(mark.case, [])
        if mark.test not in names:
            names.append(mark.test)
    return tests


def wrong_sums(rules: list[Rule], counts: Sums) -> list[str]:
    """Where the rows of a section do not stand for as many words as its text holds."""
    sums = rules_of_rfcs.sums_of(rules)
    return [f"RFC {key[0]} s{key[1]}: {sums[key]} {key[2]} listed, {counts[key]} in the text"
            for key in sorted(sums.keys() | counts.keys()) if sums[key] != counts[key]]


def render(cases: list[Case], marks: list[Mark], rules: list[Rule], counts: Sums) -> str:
    """The page."""
    shown = tests_by_mark(marks)
    lines = [
        "# Conformance",
        "",
        "What a peer may send, what it must see, which section says so, and the tests that show it. Sections without a",
        "number of four digits before them are of RFC 3261. Made by `tools/conformance.py` from `tests/cases.tsv` and",
        "the markers of the tests; test names are under `tests/`. The rules of the RFCs follow after the cases.",
        "",
        f"{sum(case.id in shown for case in cases)} of {len(cases)} cases have a test.",
    ]
    group = ""
    for case in cases:
        if case.id[:3] != group:
            group = case.id[:3]
            lines += ["", f"## {group}: {GROUPS[group]}", "", "| case | rule | section | tests |", "|---|---|---|---|"]
        mine = [mark for mark in marks if mark.case == case.id]
        sections = dict.fromkeys([*case.section.split(", "), *(name for mark in mine for name in mark.sections)])
        tests = "<br>".join(f"`{test}`" for test in shown.get(case.id, ())) or "**gap**"
        lines.append(f"| {case.id} | {case.stimulus}: {case.expected} | {', '.join(sections)} | {tests} |")
    lines += rules_of_rfcs.render(rules, counts, shown)
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Writes the page, or prints the gaps; the exit status."""
    cases, rules, counts = read_cases(), rules_of_rfcs.read_rules(), rules_of_rfcs.read_counts()
    marks = list(find_marks())
    known = {case.id for case in cases} | {rule.id for rule in rules}
    strangers = [mark for mark in marks if mark.case not in known]
    for mark in strangers:
        print(f"{mark.test} names {mark.case}, which is in no list", file=sys.stderr)
    if "--gaps" in arguments:
        shown = tests_by_mark(marks)
        lines = [f"{case.id}  {case.stimulus}: {case.expected}" for case in cases if case.id not in shown]
        lines += [f"{rule.id}  {rule.level}: {rule.rule}" for rule in rules_of_rfcs.gaps(rules, shown)]
        lines += wrong_sums(rules, counts)
        print("\n".join(lines))
        return 1 if lines or strangers else 0
    PAGE.write_text(render(cases, marks, rules, counts), encoding="utf-8")
    return 1 if strangers else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
