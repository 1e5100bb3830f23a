"""Markers that tell which conformance case a test shows; `docs/conformance.md` is made from them.

    @shows("REG-01", "10.3")
    def test_one_contact(self): ...

The cases themselves stand in `tests/cases.tsv`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

#: A case, such as REG-01, and a section: of RFC 3261 when it stands alone, such as 10.3 or "5626 3.5.1".
CASE = re.compile(r"[A-Z]{2,3}-[0-9]{2}")
SECTION = re.compile(r"([0-9]{4} )?[0-9]+(\.[0-9]+)*(/[0-9]+)?|[0-9]{4}")


def shows(*marks: str) -> Callable[[F], F]:
    """Marks a test with the cases it shows and, if they are not the case's own, the sections. Markers add up: the
    function carries `cases` and `sections`, tuples of text. Raises ValueError for what is neither."""
    cases = tuple(mark for mark in marks if CASE.fullmatch(mark))
    sections = tuple(mark for mark in marks if mark not in cases)
    for section in sections:
        if not SECTION.fullmatch(section):
            raise ValueError(f"neither a case nor a section: {section!r}")
    if not cases:
        raise ValueError("a marker names a case")

    def mark(test: F) -> F:
        test.cases = cases + getattr(test, "cases", ())  # type: ignore[attr-defined]
        test.sections = sections + getattr(test, "sections", ())  # type: ignore[attr-defined]
        return test

    return mark
