"""Cuts a stream into messages by Content-Length, and counts keep-alives (RFC 3261 s18.3, s7.5; RFC 5626 s3.5.1)."""

from __future__ import annotations

import re

from sipd.message.errors import MalformedMessage

#: The value of each Content-Length, folded lines included.
_CONTENT_LENGTH = re.compile(rb"\r\n(?:content-length|l)[ \t]*:((?:[^\r\n]|\r\n[ \t])*)", re.IGNORECASE)

#: What may be the beginning of a ping, when nothing is behind it yet.
_HALF_PINGS = (b"\r", b"\r\n", b"\r\n\r")


class Framer:
    """Takes octets as they come and gives whole messages.

    `max_head`, `max_body` and `max_message` are bounds in octets. When framing is lost, `feed` still returns the
    messages before the loss, and `error` says what happened; `rest` holds the head it happened in, so that it can be
    answered. Nothing more can be read from the stream then.
    """

    __slots__ = ("_buffer", "_scanned", "_needed", "_max_head", "_max_body", "_max_message", "pings", "error", "rest")

    def __init__(self, max_head: int = 65536, max_body: int = 1048576, max_message: int = 1114112) -> None:
        self._buffer = bytearray()
        #: How far the buffer was searched for the end of the head already.
        self._scanned = 0
        #: Octets of the message whose head is known, 0 while it is not.
        self._needed = 0
        self._max_head = max_head
        self._max_body = max_body
        self._max_message = max_message
        #: Double CRLFs met between messages since this was last set to 0: each wants a CRLF back.
        self.pings = 0
        self.error: MalformedMessage | None = None
        self.rest = b""

    @property
    def buffered(self) -> int:
        """Octets of a message that is not whole yet; a CRLF alone has begun none (s7.5)."""
        return 0 if self._buffer in _HALF_PINGS else len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Takes octets, returns the messages they complete, in order."""
        if self.error is not None:
            return []
        buffer = self._buffer
        buffer += data
        messages: list[bytes] = []
        while buffer:
            if not self._needed:
                if not self._skip_keepalives() or not self._find_head():
                    break
            if len(buffer) < self._needed:
                break
            messages.append(bytes(buffer[:self._needed]))
            del buffer[:self._needed]
            self._needed = self._scanned = 0
        return messages

    def _skip_keepalives(self) -> bool:
        """Drops CRLFs before a message; False when nothing else is there. A lone CRLF is no ping (s7.5)."""
        buffer = self._buffer
        while buffer and buffer[0] in b"\r\n":
            if buffer.startswith(b"\r\n\r\n"):
                self.pings += 1
                del buffer[:4]
            elif buffer in _HALF_PINGS:
                return False
            else:
                del buffer[:1]
        return bool(buffer)

    def _find_head(self) -> bool:
        """Looks for the end of the head and reads the length; False when more octets are needed or framing is lost."""
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
        if end < 0 or end + 4 > self._max_head:
            self._scanned = len(buffer)
            if len(buffer) > self._max_head:
                self._lose(MalformedMessage("the header fields are too long", 513), self._max_head)
            return False
        head = bytes(buffer[:end + 2])
        lengths = {length.strip(b" \t\r\n") for length in _CONTENT_LENGTH.findall(head)}
        if len(lengths) != 1:
            reason = "no Content-Length on a stream" if not lengths else "Content-Lengths that differ"
            self._lose(MalformedMessage(reason), end + 4)
            return False
        length = lengths.pop()
        if not length.isdigit():
            self._lose(MalformedMessage("Content-Length is not a number"), end + 4)
            return False
        # int() raises for thousands of digits, also where they are zeros
        digits = length.lstrip(b"0") or b"0"
        if len(digits) > 10 or int(digits) > self._max_body:
            self._lose(MalformedMessage("the body is too long", 413), end + 4)
            return False
        if end + 4 + int(digits) > self._max_message:
            self._lose(MalformedMessage("the message is too long", 513), end + 4)
            return False
        self._needed = end + 4 + int(digits)
        return True

    def _lose(self, error: MalformedMessage, size: int) -> None:
        self.error = error
        self.rest = bytes(self._buffer[:size])
        self._buffer.clear()
