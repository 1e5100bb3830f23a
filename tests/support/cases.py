"""Markers that tell which conformance case or rule a test shows; `docs/conformance.md` is made from them.

    @shows("REG-01", "R3261-10.3-04", "10.3")
    def test_one_contact(self): ...

The cases themselves stand in `tests/cases.tsv`, the rules of the RFCs in `tests/rules/`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

#: A case, such as REG-01, or a rule, such as R3261-10.3-04: RFC, section, and a number of its own.
CASE = re.compile(r"[A-Z]{2,3}-[0-9]{2}|R[0-9]{4}-[0-9]+(\.[0-9]+)*-[0-9]{2}")
#: A section: of RFC 3261 when it stands alone, such as 10.3, or "5626 3.5.1".
SECTION = re.compile(r"([0-9]{4} )?[0-9]+(\.[0-9]+)*(/[0-9]+)?|[0-9]{4}")


def shows(*marks: str) -> Callable[[F], F]:
    """Marks a test with the cases and rules it shows and, if they are not the case's own, the sections. Markers add up:
    the function carries `cases` (rules among them) and `sections`, tuples of text. Raises ValueError for what is neither.
    """
    cases = tuple(mark for mark in marks if CASE.fullmatch(mark))
    sections = tuple(mark for mark in marks if mark not in cases)
    for section in sections:
        if not SECTION.fullmatch(section):
            raise ValueError(f"neither a case, a rule nor a section: {section!r}")
    if not cases:
        raise ValueError("a marker names a case or a rule")

    def mark(test: F) -> F:
        test.cases = cases + getattr(test, "cases", ())  # type: ignore[attr-defined]
        test.sections = sections + getattr(test, "sections", ())  # type: ignore[attr-defined]
        return test

    return mark
