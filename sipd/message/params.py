"""Parameters and comma-separated lists in header values (RFC 3261 s7.3.1, s25.1 generic-param)."""

from __future__ import annotations

import re
from typing import Final

from sipd.message import grammar
from sipd.message.errors import MalformedMessage

LWS: Final = " \t\r\n"


def parse_params(text: str) -> dict[str, str | None]:
    """`;a=b;c="x;y";lr` as a dict: names in lower case, values raw with their quotes, None where there is no `=`.

    The first of two parameters of one name counts. Raises MalformedMessage when the text is not a list of parameters.
    """
    params: dict[str, str | None] = {}
    position = 0
    end = len(text.rstrip(LWS))
    match = grammar.generic_param.match
    while position < end:
        found = match(text, position)
        if found is None:
            raise MalformedMessage(f"parameters cannot be read: {text[:80]!r}")
        name, value = found.groups()
        if value is None and found.group().rstrip(LWS).endswith("="):
            value = ""
        params.setdefault(name.lower(), value)
        position = found.end()
    return params


_DELIMITER: Final = re.compile(r'[",<>]')


def split_list(text: str, most: int = 0) -> list[str]:
    """Splits a header value at the commas outside quotes and angle brackets; each value stripped (s7.3.1).

    A quote that never ends takes the rest of the text. With `most` the text after so many values is left out unread.
    """
    if "," not in text:
        return [text.strip(LWS)]
    values: list[str] = []
    start = position = 0
    brackets = 0
    while found := _DELIMITER.search(text, position):
        mark = found.group()
        position = found.end()
        if mark == '"':
            position = _end_of_quoted_string(text, position)
        elif mark == "<":
            brackets = 1
        elif mark == ">":
            brackets = 0
        elif not brackets:
            values.append(text[start:found.start()].strip(LWS))
            if len(values) == most:
                return values
            start = position
    values.append(text[start:].strip(LWS))
    return values


def _end_of_quoted_string(text: str, position: int) -> int:
    """The position after the quote that closes the string which began before `position`."""
    while True:
        end = text.find('"', position)
        if end < 0:
            return len(text)
        backslashes = 0
        while text[end - 1 - backslashes] == "\\":
            backslashes += 1
        position = end + 1
        if backslashes % 2 == 0:
            return position


_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)


def unquote(text: str) -> str:
    """The content of a quoted-string, quoted-pairs undone; other text unchanged."""
    if len(text) >= 2 and text[0] == '"' and text[-1] == '"':
        return _QUOTED_PAIR.sub(r"\1", text[1:-1]) if "\\" in text else text[1:-1]
    return text


def quote(text: str) -> str:
    """The text as a quoted-string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
