"""What a text of the configuration matches: a number, a prefix, a pattern of digits, a regular expression; and hours.

The form of the text decides:

    "1001"                 that name alone
    "00*"                  whatever begins with 00; "*" is everything
    "_9NXX."               a pattern as Asterisk has them: X a digit, Z one from 1, N one from 2, [13-5] one of these,
                           . at least one more character, ! any number of them
    "^0(?P<rest>[0-9]+)$"  a regular expression

Patterns and expressions see names of at most LONGEST characters, and only such as cannot take long to read them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import comb
from re import _constants as parts  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from time import struct_time
from typing import Any, NamedTuple

#: Characters of a name that a pattern or an expression is shown, and of the pattern itself.
LONGEST = 64
LONGEST_PATTERN = 256
#: Ways in which an expression may read LONGEST characters.
_MOST_WAYS = 1_000_000

EXACT, PREFIX, PATTERN, EXPRESSION = "exact", "prefix", "pattern", "expression"

#: What the letters of a pattern stand for.
_LETTERS = {"X": "[0-9]", "Z": "[1-9]", "N": "[2-9]"}
_PATTERN = re.compile(r"(?:[0-9A-Za-z+*#-]|\[[0-9A-Za-z+*#-]+\])+[.!]?")
_REPEATS = (parts.MAX_REPEAT, parts.MIN_REPEAT, parts.POSSESSIVE_REPEAT)


class Match(NamedTuple):
    """A text that names are held against. `text` is what an exact name is, or how one begins; `expression` is set for
    the other two forms."""

    source: str
    form: str
    text: str
    expression: re.Pattern[str] | None = None

    def match(self, name: str) -> dict[str, str] | None:
        """What the parts of the name are called, None when it does not match. `rest` is what follows a prefix."""
        if self.form == EXACT:
            return {} if name == self.text else None
        if self.form == PREFIX:
            return {"rest": name[len(self.text):]} if name.startswith(self.text) else None
        if len(name) > LONGEST or not name.isprintable():
            return None
        assert self.expression is not None
        found = self.expression.match(name)
        return None if found is None else {key: value or "" for key, value in found.groupdict().items()}

    @property
    def groups(self) -> frozenset[str]:
        """The names of the parts that `match` gives."""
        if self.expression is not None:
            return frozenset(self.expression.groupindex)
        return frozenset(("rest",)) if self.form == PREFIX else frozenset()


def parse(text: str) -> Match:
    """The match that a text stands for. Raises ValueError, which says what would be right."""
    if not 0 < len(text) <= LONGEST_PATTERN:
        raise ValueError(f"{text[:20]!r}: 1 to {LONGEST_PATTERN} characters are wanted")
    if text.startswith("^"):
        return Match(text, EXPRESSION, "", _expression(text))
    if text.startswith("_"):
        return Match(text, PATTERN, "", _pattern(text))
    if text.endswith("*"):
        return Match(text, PREFIX, text[:-1])
    return Match(text, EXACT, text)


def _pattern(text: str) -> re.Pattern[str]:
    if not _PATTERN.fullmatch(text[1:]):
        raise ValueError(f"{text!r}: a pattern is an underscore, then digits, X, Z, N or [...], and . or ! at the end, "
                         'such as "_9NXX."')
    found = []
    for part in re.findall(r"\[[^]]*\]|.", text[1:]):
        if part == ".":
            found.append(".+")
        elif part == "!":
            found.append(".*")
        elif part[0] == "[":
            found.append(part.replace("[-", r"[\-").replace("#", r"\#"))
        elif part != "-":  # only there for people to read
            found.append(_LETTERS.get(part, re.escape(part)))
    try:
        return re.compile("".join(found) + r"\Z", re.DOTALL)
    except re.error:
        raise ValueError(f"{text!r}: what stands in brackets is no range of characters such as [1-5]")


def _expression(text: str) -> re.Pattern[str]:
    try:
        ways = _ways(_parser.parse(text), False, text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{text!r}: not a regular expression: {error}")
    if ways.most > _MOST_WAYS:
        raise ValueError(f"{text!r}: too many repeats and choices; {ways.most} ways to read a name by it may take too "
                         f"long; {_MOST_WAYS} at most")
    return re.compile(text)


class _Ways:
    """How an expression may read a name: open repeats share its characters among themselves, choices multiply."""

    def __init__(self) -> None:
        self.repeats = 0
        self.choices = 1

    @property
    def most(self) -> int:
        """A bound on the ways there are to read LONGEST characters."""
        return comb(LONGEST + self.repeats, self.repeats) * self.choices


def _ways(parsed: Any, repeated: bool, text: str) -> _Ways:
    """Walks an expression. Raises ValueError for repeats and choices within a repeat: the time that takes doubles with
    each character of the name."""
    total = _Ways()
    for kind, value in parsed:
        inner: list[_Ways] = []
        if kind in _REPEATS:
            least, most, body = value
            if repeated and least != most:
                raise ValueError(f"{text!r}: a repeat within a repeat, which may take for ever; use one of them alone")
            inner.append(_ways(body, repeated or most > 1, text))
            if most == parts.MAXREPEAT or most > 16:
                total.repeats += least != most
            else:
                total.choices *= int(most) - int(least) + 1
        elif kind is parts.BRANCH:
            if repeated:
                raise ValueError(f"{text!r}: a choice within a repeat, which may take for ever; use one of them alone")
            inner += [_ways(body, repeated, text) for body in value[1]]
            total.choices *= len(inner)
        elif kind is parts.SUBPATTERN:
            inner.append(_ways(value[-1], repeated, text))
        elif kind in (parts.ASSERT, parts.ASSERT_NOT):
            inner.append(_ways(value[1], repeated, text))
        elif kind is parts.ATOMIC_GROUP:
            inner.append(_ways(value, repeated, text))
        elif kind in (parts.GROUPREF, parts.GROUPREF_EXISTS, parts.GROUPREF_IGNORE):
            raise ValueError(f"{text!r}: a reference to an earlier group, which may take for ever; do without")
        for one in inner:
            total.repeats += one.repeats
            total.choices *= one.choices
    return total


class Names(NamedTuple):
    """Several matches, any of which will do; none at all is everything. Exact names and prefixes take one look each."""

    matches: tuple[Match, ...]
    exact: frozenset[str]
    prefixes: tuple[str, ...]
    others: tuple[Match, ...]

    def allow(self, name: str) -> bool:
        """Whether one of them matches the name."""
        return not self.matches or name in self.exact or name.startswith(self.prefixes) or any(
            one.match(name) is not None for one in self.others)

    def __str__(self) -> str:
        return ", ".join(match.source for match in self.matches)


def names(texts: Iterable[str]) -> Names:
    """What these texts match. Raises ValueError."""
    matches = tuple(map(parse, texts))
    return Names(matches, frozenset(one.text for one in matches if one.form == EXACT),
                 tuple(one.text for one in matches if one.form == PREFIX),
                 tuple(one for one in matches if one.expression is not None))


# --- the time of day

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"(?:([a-z]{3}(?:[,-][a-z]{3})*)(?: |\Z))?(?:([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2}))?")
_MINUTES = 24 * 60
_WANTED_HOURS = 'days and a time of day such as "mon-fri 08:00-18:00", "sat,sun" or "22:00-06:00" are wanted'


class Hours(NamedTuple):
    """Days (0 is Monday) and minutes of the day from `first` up to `end`. A time that runs past midnight belongs to the
    day on which it begins."""

    days: frozenset[int]
    first: int
    end: int

    def cover(self, moment: struct_time) -> bool:
        """Whether a moment is in them."""
        minute, day = moment.tm_hour * 60 + moment.tm_min, moment.tm_wday
        if self.first < self.end:
            return day in self.days and self.first <= minute < self.end
        return (day in self.days and minute >= self.first) or ((day - 1) % 7 in self.days and minute < self.end)


def hours(text: str) -> Hours:
    """The hours that a text stands for. Raises ValueError."""
    found = _HOURS.fullmatch(text.strip(" ").lower())
    if found is None or not text.strip(" "):
        raise ValueError(f"{text!r}: {_WANTED_HOURS}")
    days: set[int] = set()
    try:
        for part in (found[1] or "mon-sun").split(","):
            ends = [_DAYS.index(day) for day in part.split("-")]
            if len(ends) > 2:
                raise ValueError
            days.update((ends[0] + step) % 7 for step in range((ends[-1] - ends[0]) % 7 + 1))
    except ValueError:
        raise ValueError(f"{text!r}: {_WANTED_HOURS}; the days are {', '.join(_DAYS)}")
    if found[2] is None:
        return Hours(frozenset(days), 0, _MINUTES)
    first, end = int(found[2]) * 60 + int(found[3]), int(found[4]) * 60 + int(found[5])
    if max(first, end) > _MINUTES or int(found[3]) > 59 or int(found[5]) > 59 or first == end or first == _MINUTES:
        raise ValueError(f"{text!r}: {_WANTED_HOURS}; a time of day is from 00:00 to 24:00")
    return Hours(frozenset(days), first, end)


# --- rewriting

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([0-9]{1,2}))?\}")


def rewrite_fields(text: str) -> list[str]:
    """The names in braces of a rewriting. Raises ValueError for a brace that belongs to no name."""
    if "{" in _FIELD.sub("", text) or "}" in _FIELD.sub("", text):
        raise ValueError(f'{text!r}: a name in braces is wanted, such as "{{number}}" or "{{called:1}}"')
    return [match[1] for match in _FIELD.finditer(text)]


def rewritten(text: str, values: dict[str, str]) -> str:
    """The text with the values in it; `{name:2}` is the value without its first two characters."""
    return _FIELD.sub(lambda match: values.get(match[1], "")[int(match[2] or 0):], text)


def every_name(found: Sequence[Match]) -> frozenset[str]:
    """The names of the parts that each of the matches gives."""
    return frozenset.intersection(*(one.groups for one in found)) if found else frozenset(("rest",))
