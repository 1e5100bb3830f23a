"""Bodies of requests that this server answers itself: what has to be understood and is not (RFC 3261 s8.2.3). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sipd.message.errors import MalformedMessage, Reject
from sipd.message.message import Request
from sipd.message.params import parse_params, unquote

#: The types of bodies that are understood, in so far as nothing follows from them here.
TYPES: Final = "application/sdp"
#: And the only encoding of one: none.
ENCODINGS: Final = "identity"
#: Parts of a body that are looked at, and octets of what each says of itself: strangers may send bodies too.
_MOST_PARTS: Final = 16
_MOST_HEAD: Final = 1024


def check(request: Request) -> None:
    """A body, or a part of one, that is not understood and not marked optional is refused; a body that says nothing
    of itself, as one may find behind a message without Content-Length, is not looked at. Raises Reject (415)."""
    if "content-type" in request.first:
        _check(request.first, request.body)


def _check(fields: Mapping[str, str], body: bytes) -> None:
    if _parameter(fields.get("content-disposition", ""), "handling").lower() == "optional":
        return  # s20.11; without a word it is required
    encoding = fields.get("content-encoding", ENCODINGS)
    if encoding.lower() != ENCODINGS:
        raise Reject(415, headers=(("Accept-Encoding", ENCODINGS),))
    # s20.15; what a part is that does not say it, RFC 2046 s5.1 knows
    kind = fields.get("content-type", "text/plain")
    name = _name(kind)
    if name == TYPES:
        return
    boundary = _parameter(kind, "boundary")
    if name != "multipart/mixed" or not boundary:
        raise Reject(415, headers=(("Accept", TYPES),))
    mark = b"\r\n--" + boundary.encode("utf-8", "surrogateescape")
    for part in (b"\r\n" + body).split(mark, _MOST_PARTS + 1)[1:_MOST_PARTS + 1]:
        if part.startswith(b"--"):
            return
        head, _, content = part.partition(b"\r\n\r\n")
        inner = _fields(head[:_MOST_HEAD])
        if _name(inner.get("content-type", "")) == "multipart/mixed":
            inner["content-type"] = "multipart/x-nested"  # not looked into: there is no end of depths otherwise
        _check(inner, content)


def _fields(head: bytes) -> dict[str, str]:
    """The header fields of a part, those on one line; names in lower case."""
    lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip(" \t").lower(): value.strip(" \t") for name, _, value in pairs}


def _name(value: str) -> str:
    """A type without its parameters, in lower case and without the white space that may stand round the slash."""
    return "/".join(part.strip(" \t\r\n") for part in value.partition(";")[0].lower().split("/"))


def _parameter(value: str, name: str) -> str:
    """A parameter of a type or disposition, "" when there is none or nobody can read it."""
    _, semicolon, rest = value.partition(";")
    try:
        return unquote(parse_params(semicolon + rest).get(name) or "")
    except MalformedMessage:
        return ""
