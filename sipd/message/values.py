"""Small typed values of header fields: delta-seconds and qvalue (RFC 3261 s25.1)."""

from __future__ import annotations

import re
from typing import Final

from sipd.message.kept import MOST, keep

#: delta-seconds above this count as this (2**31 - 1, s20.19).
MAX_DELTA_SECONDS: Final = 2**31 - 1

#: The numbers of up to so many digits that were met: few are asked for, again and again.
_FEW_DIGITS: Final = 5
_KNOWN_SECONDS: Final[dict[str, int]] = {}

_QVALUE: Final = re.compile(r"0(?:\.([0-9]{0,3}))?|1(?:\.0{0,3})?")


def delta_seconds(text: str) -> int | None:
    """Seconds, or None when the text is not a number; an overlong number counts as the greatest one."""
    known = _KNOWN_SECONDS.get(text)
    if known is not None:
        return known
    text = text.strip(" \t\r\n")
    if not text.isascii() or not text.isdigit():
        return None
    if len(text) > 10:
        text = text.lstrip("0")[:11] or "0"
    seconds = min(int(text), MAX_DELTA_SECONDS)
    if len(text) <= _FEW_DIGITS:
        keep(_KNOWN_SECONDS, text, seconds, MOST)
    return seconds


def qvalue(text: str) -> int | None:
    """A q value in thousandths, 0 to 1000, or None when the text is not one."""
    found = _QVALUE.fullmatch(text.strip(" \t\r\n"))
    if found is None:
        return None
    if text.strip(" \t\r\n")[0] == "1":
        return 1000
    return int((found.group(1) or "").ljust(3, "0"))


def retry_after(value: str) -> int:
    """The seconds of a Retry-After value, which may have a comment and parameters (s20.33); 0 when there are none."""
    return delta_seconds(value.partition(";")[0].partition("(")[0]) or 0
