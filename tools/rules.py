"""The rules of the RFCs in tests/rules: reading the lists, adding them up, and their part of docs/conformance.md.

A list has a row for each rule: id (R, RFC, section, number: R3261-16.3-01; "-" for one that binds others), section,
level (MUST, MUST NOT, SHOULD, SHOULD NOT), count (how many of these words in the section's text the row stands for),
binds (who has to obey), the rule in our words, and why it is deliberately not met, or nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tools.rfc_counts import COUNTS, LEVELS

FOLDER = COUNTS.parent
FIELDS = ("id", "section", "level", "count", "binds", "rule", "not")
#: A MUST that is not met on purpose; more than so many would be a habit. The eleventh: a carrier's challenges are
#: answered. The twelfth: nobody can promise that an address is reached from everywhere, as a GRUU does (RFC 6665).
MOST_UNMET = 12

_ID = re.compile(r"R([0-9]{4})-([0-9]+(?:\.[0-9]+)*)-[0-9]{2}")


class Rule(NamedTuple):
    """One row; `rfc` from the file's name. `id` is "" when it binds others, `unmet` when it is met."""

    id: str
    rfc: str
    section: str
    level: str
    count: int
    binds: str
    rule: str
    unmet: str

    @property
    def is_must(self) -> bool:
        """True for MUST and MUST NOT."""
        return self.level.startswith("MUST")


#: What a section's text holds: (rfc, section, level) and how many.
Sums = Counter[tuple[str, str, str]]


def read_counts(path: Path = COUNTS) -> Sums:
    """What tools/rfc_counts.py counted."""
    sums: Sums = Counter()
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        rfc, section, *numbers = line.split("\t")
        sums.update({(rfc, section, level): int(number) for level, number in zip(LEVELS, numbers, strict=True)})
    return +sums


def read_rules(folder: Path = FOLDER) -> list[Rule]:
    """All lists, in the order of RFCs and sections. Raises ValueError for a row that is not one, or an id twice."""
    rules = []
    for path in sorted(folder.glob("[0-9]*.tsv")):
        rfc = path.name[:4]
        first, *lines = path.read_text(encoding="utf-8").splitlines()
        if tuple(first.split("\t")) != FIELDS:
            raise ValueError(f"{path.name}: the first line is not {' '.join(FIELDS)}")
        rules += [_read_rule(path.name, rfc, line) for line in lines if line]
    ids = Counter(rule.id for rule in rules if rule.id)
    if twice := sorted(id for id, number in ids.items() if number > 1):
        raise ValueError(f"twice: {twice}")
    return sorted(rules, key=lambda rule: (rule.rfc, [int(part) for part in rule.section.split(".")]))


def _read_rule(name: str, rfc: str, line: str) -> Rule:
    fields = line.split("\t")
    fields += [""] * (len(FIELDS) - len(fields))
    id, section, level, count, binds, rule, unmet = fields[:len(FIELDS)]
    named = _ID.fullmatch(id)
    if (len(fields) != len(FIELDS) or level not in LEVELS or not count.isdigit() or not binds or not rule
            or (id != "-" and (named is None or named.groups() != (rfc, section)))):
        raise ValueError(f"{name}: not a rule: {line!r}")
    return Rule("" if id == "-" else id, rfc, section, level, int(count), binds, rule, unmet)


def sums_of(rules: Iterable[Rule]) -> Sums:
    """How many words the rows stand for, section by section."""
    sums: Sums = Counter()
    for rule in rules:
        sums[rule.rfc, rule.section, rule.level] += rule.count
    return sums


def gaps(rules: Iterable[Rule], shown: Mapping[str, list[str]]) -> list[Rule]:
    """The rules that bind us, are not left out on purpose, and have no test in `shown` (rule id: tests)."""
    return [rule for rule in rules if rule.id and not rule.unmet and not shown.get(rule.id)]


def render(rules: list[Rule], counts: Sums, shown: Mapping[str, list[str]]) -> list[str]:
    """The page's lines: what is met, what deliberately not, and for each RFC and section its rules."""
    ours = [rule for rule in rules if rule.id]
    unmet, missing = [rule for rule in ours if rule.unmet], gaps(rules, shown)
    lines = [
        "",
        "# The rules of the RFCs, one by one",
        "",
        "Each MUST, MUST NOT, SHOULD and SHOULD NOT of the sections that concern a proxy, a registrar, a transport, or",
        "who serves events and messages, in our words. After a section's number stands how many of these words its",
        "text holds, and how many of them bind others (user agents, gateways, authors of extensions). A test compares",
        "the sums with `tests/rules`.",
        "",
        f"{sum(counts.values())} words; {len(ours)} rules bind sipd: {len(ours) - len(unmet) - len(missing)} are met "
        f"and shown by a test, {len(unmet)} deliberately not met ({sum(rule.is_must for rule in unmet)} of them a MUST "
        f"or MUST NOT), {len(missing)} gaps.",
    ]
    rfc = section = ""
    for rule in rules:
        if rule.rfc != rfc:
            rfc, section = rule.rfc, ""
            lines += ["", f"## RFC {rfc}"]
        if rule.section != section:
            section = rule.section
            lines += ["", f"### {rfc} s{section}: {_balance(rules, counts, rfc, section)}", ""]
            if any(one.id for one in rules if (one.rfc, one.section) == (rfc, section)):
                lines += ["| rule | level | binds | what | tests |", "|---|---|---|---|---|"]
        if rule.id:
            tests = "<br>".join(f"`{test}`" for test in shown.get(rule.id, ()))
            if rule.unmet:
                tests = f"deliberately not: {rule.unmet}" + (f"<br>{tests}" if tests else "")
            lines.append(f"| {rule.id} | {rule.level} | {rule.binds} | {_cell(rule.rule)} | {tests or '**gap**'} |")
    return lines


def _balance(rules: list[Rule], counts: Sums, rfc: str, section: str) -> str:
    """The section's words, such as "3 MUST, 1 SHOULD; others: 1 MUST (UA)"."""
    held = [f"{counts[rfc, section, level]} {level}" for level in LEVELS if counts[rfc, section, level]]
    others = [f"{rule.count} {rule.level} ({rule.binds})" for rule in rules
              if (rule.rfc, rule.section) == (rfc, section) and not rule.id]
    return ", ".join(held) + (f"; others: {', '.join(others)}" if others else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
