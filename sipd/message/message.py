"""Requests and responses: raw header lines in order, typed when somebody asks (RFC 3261 s7)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from sipd.message.address import tag_of
from sipd.message.headers import SPELLING, canonical
from sipd.message.params import split_list
from sipd.message.uri import Uri
from sipd.message.via import Via

if TYPE_CHECKING:
    from sipd.flow import Flow

#: (canonical name, value without surrounding white space, the line as received without its last CRLF). Of any length to
#: the type checker: mypyc would take a tuple of three apart and make it anew wherever it is kept.
Header = tuple[str, ...]


class Message:
    """What requests and responses share. `headers` may be read by anybody and is changed only through the methods here.

    A line that nobody touches leaves as it came, octet for octet: text is UTF-8 with surrogateescape.
    """

    __slots__ = ("start", "headers", "first", "repeated", "body", "flow", "via", "call_id", "cseq_number",
                 "cseq_method", "_from_tag", "_to_tag")

    #: The start line, without CRLF.
    start: str
    headers: list[Header]
    #: Canonical name to the value of the first line of that name.
    first: dict[str, str]
    #: The names that may stand on more than one line, all others stand on one; None when nobody knows.
    repeated: Collection[str] | None
    body: bytes
    #: The flow it came over; None for a message of our own.
    flow: Flow | None
    #: The topmost Via; None only in a malformed message or one of our own not yet sent.
    via: Via | None
    call_id: str
    cseq_number: int
    cseq_method: str
    _from_tag: str | None
    _to_tag: str | None

    def __init__(self, start: str, headers: list[Header], first: dict[str, str], body: bytes) -> None:
        self.start = start
        self.headers = headers
        self.first = first
        self.repeated = None
        self.body = body
        self.flow = None
        self.via = None
        self.call_id = first.get("call-id", "")
        self.cseq_number = 0
        self.cseq_method = ""
        self._from_tag = self._to_tag = None

    def get(self, name: str) -> str | None:
        """The first value line of a header, None when there is none. `name` is canonical: long form, lower case."""
        return self.first.get(name)

    def all(self, name: str) -> list[str]:
        """The value of each line of that name, in order."""
        first = self.first.get(name)
        if first is None:
            return []
        if self.repeated is not None and name not in self.repeated:
            return [first]
        return [header[1] for header in self.headers if header[0] == name]

    def values(self, name: str) -> list[str]:
        """Every value of a comma-separated header, over all its lines, empty ones left out (s7.3.1)."""
        return [value for line in self.all(name) for value in split_list(line) if value]

    def add(self, name: str, value: str) -> None:
        """Adds a line after the last of that name, else at the end. `name` as it is to be written."""
        key = canonical(name)
        header = (key, value, f"{name}: {value}")
        if key not in self.first:
            self.first[key] = value
            self.headers.append(header)
            return
        self.repeated = None
        headers = self.headers
        position = len(headers)  # from behind: adding one line after the other must not cost their square
        while headers[position - 1][0] != key:
            position -= 1
        headers.insert(position, header)

    def remove(self, name: str) -> None:
        """Removes every line of that canonical name."""
        if self.first.pop(name, None) is not None:
            self.headers = [header for header in self.headers if header[0] != name]

    def set(self, name: str, value: str) -> None:
        """Puts the value in place of the first line of that name, or adds it. `name` is canonical."""
        spelling = SPELLING.get(name, name)
        header = (name, value, f"{spelling}: {value}")
        if name not in self.first:
            self.headers.append(header)
        else:
            for i, other in enumerate(self.headers):
                if other[0] == name:
                    self.headers[i] = header
                    break
        self.first[name] = value

    def set_values(self, name: str, values: list[str]) -> None:
        """Writes a comma-separated header anew, a line a value, where its first line stood; none at all removes it."""
        if not values:
            self.remove(name)
            return
        spelling = SPELLING.get(name, name)
        position = next((i for i, header in enumerate(self.headers) if header[0] == name), len(self.headers))
        self.headers = [header for header in self.headers if header[0] != name]
        self.headers[position:position] = [(name, value, f"{spelling}: {value}") for value in values]
        if len(values) > 1:
            self.repeated = None
        self.first[name] = values[0]

    @property
    def from_tag(self) -> str:
        """The tag of From, "" when there is none. Raises MalformedMessage."""
        tag = self._from_tag
        if tag is None:
            tag = self._from_tag = tag_of(self.first.get("from", ""))
        return tag

    @property
    def to_tag(self) -> str:
        """The tag of To, "" when there is none. Raises MalformedMessage."""
        tag = self._to_tag
        if tag is None:
            tag = self._to_tag = tag_of(self.first.get("to", ""))
        return tag

    def know_tags(self, from_tag: str, to_tag: str) -> None:
        """Enters the tags, read by somebody who had to look at From and To anyway."""
        self._from_tag = from_tag
        self._to_tag = to_tag

    @property
    def cseq(self) -> tuple[int, str]:
        """Number and method of CSeq."""
        return self.cseq_number, self.cseq_method

    def encode(self) -> bytes:
        """The octets to send."""
        lines = [self.start]
        lines += [header[2] for header in self.headers]
        lines.append("\r\n")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + self.body


class Request(Message):
    """A request (s7.1)."""

    __slots__ = ("method", "uri_text")

    method: str
    #: The Request-URI as written.
    uri_text: str

    def __init__(self, method: str, uri_text: str, headers: list[Header], first: dict[str, str], body: bytes,
                 start: str = "") -> None:
        """`start` spares writing the start line where it is known."""
        super().__init__(start or f"{method} {uri_text} SIP/2.0", headers, first, body)
        self.method = method
        self.uri_text = uri_text

    @property
    def uri(self) -> Uri:
        """The Request-URI, read now. Raises MalformedMessage."""
        return Uri.parse(self.uri_text)

    def retarget(self, uri_text: str) -> None:
        """Puts another Request-URI."""
        self.uri_text = uri_text
        self.start = f"{self.method} {uri_text} SIP/2.0"

    def copy(self) -> Request:
        """A copy to forward: header lines are shared until changed (s16.6 step 1)."""
        copy = Request(self.method, self.uri_text, self.headers.copy(), self.first.copy(), self.body, self.start)
        copy.repeated = self.repeated
        copy.via = self.via
        copy.cseq_number = self.cseq_number
        copy.cseq_method = self.cseq_method
        copy._from_tag = self._from_tag
        copy._to_tag = self._to_tag
        return copy

    def __repr__(self) -> str:
        return f"<{self.method} {self.uri_text} {self.call_id} {self.cseq_number}>"


class Response(Message):
    """A response (s7.2)."""

    __slots__ = ("status", "reason")

    status: int
    reason: str

    def __init__(self, status: int, reason: str, headers: list[Header], first: dict[str, str], body: bytes,
                 start: str = "") -> None:
        """`start` spares writing the start line where it is known."""
        super().__init__(start or f"SIP/2.0 {status} {reason}", headers, first, body)
        self.status = status
        self.reason = reason

    def __repr__(self) -> str:
        return f"<{self.status} {self.reason} to {self.cseq_method} {self.call_id} {self.cseq_number}>"
