"""Counts the MUST, MUST NOT, SHOULD and SHOULD NOT of each section of the RFCs in tests/rules, from their texts.

    python tools/rfc_counts.py FOLDER     FOLDER holds rfc3261.txt and the others; writes tests/rules/counts.tsv

The texts are not part of this project (https://www.rfc-editor.org/rfc/rfc3261.txt); what was counted is.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

COUNTS = Path(__file__).resolve().parent.parent / "tests" / "rules" / "counts.tsv"
LEVELS = ("MUST", "MUST NOT", "SHOULD", "SHOULD NOT")
#: What is in scope of each RFC: sections with what is below them, or all.
SCOPE: dict[str, tuple[str, ...]] = {
    "3261": ("7", "8.2", "9.2", "10.3", "16", "17", "18", "19", "20", "22", "26.2"),
    "3903": ("4", "5", "6", "7", "9", "10", "14"),
    "6665": ("3", "4", "5", "6", "8"),
    **dict.fromkeys((
        "3263", "3326", "3327", "3428", "3581", "3680", "3842", "3856", "3863", "3891", "4235", "4320", "5393", "5658",
        "6026", "7616", "8760"), ()),
}

_PAGE_BREAK = re.compile(r"\n*[^\n]*\[Page \d+\]\s*\n\f?\n?[^\n]*RFC[^\n]*\n")
_HEADING = re.compile(r"(\d+(?:\.\d+)*)\.?\s+[A-Z\"'].*")
#: In quotes stands a word whose meaning is told, not a rule.
_KEYWORD = re.compile(r"(?<!\")\b(MUST|SHOULD)(\s+NOT)?\b")


def sections(text: str) -> dict[str, str]:
    """The text of each numbered section of an RFC, without what is in its subsections; "0" is what stands before."""
    found: dict[str, list[str]] = {}
    section = "0"
    for line in _PAGE_BREAK.sub("\n", text.replace("\r", "")).split("\n"):
        heading = _HEADING.fullmatch(line)
        if heading and "...." not in line and ". . ." not in line:
            section = heading[1]
        elif re.match(r"Appendix|[A-Z]\.[\d ]", line):
            section = "appendix"
        found.setdefault(section, []).append(line)
    return {name: "\n".join(lines) for name, lines in found.items()}


def count(text: str) -> Counter[str]:
    """How often each level stands in a text."""
    return Counter(f"{word} NOT" if negated else word for word, negated in _KEYWORD.findall(text))


def in_scope(section: str, scope: tuple[str, ...]) -> bool:
    """True for the sections whose rules are listed."""
    return not scope or any(section == one or section.startswith(f"{one}.") for one in scope)


def main(arguments: list[str]) -> int:
    """Writes the counts; the exit status."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    lines = ["\t".join(("rfc", "section", *LEVELS))]
    for number, scope in SCOPE.items():
        text = (Path(arguments[0]) / f"rfc{number}.txt").read_text(encoding="utf-8", errors="replace")
        for section, content in sections(text).items():
            counted = count(content)
            if counted and in_scope(section, scope):
                lines.append("\t".join((number, section, *(str(counted[level]) for level in LEVELS))))
    COUNTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
