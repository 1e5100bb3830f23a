"""How much a message may hold: past that it is refused, whatever stands in it (RFC 3261 s21.4.12, s21.5.14)."""

from __future__ import annotations

from typing import Final

from sipd.message.errors import MalformedMessage
from sipd.message.message import Message, Request


class Bounds:
    """Sizes in octets (those of text in characters), the rest counts; lines without the start line."""

    __slots__ = ("message_size", "header_size", "header_length", "header_count", "vias", "routes", "uri_length",
                 "unsuspicious")

    def __init__(self, message_size: int = 98304, header_size: int = 32768, header_length: int = 8192,
                 header_count: int = 256, vias: int = 100, routes: int = 64, uri_length: int = 2048) -> None:
        self.message_size = message_size
        self.header_size = header_size
        self.header_length = header_length
        self.header_count = header_count
        self.vias = vias
        self.routes = routes
        self.uri_length = uri_length
        #: Start line and headers that are not longer can hold too many Routes, which are counted where they are read,
        #: and nothing else too much: the shortest header line is "a:" and CRLF, a Via with its comma has 12 octets.
        self.unsuspicious = min(header_size, header_length, 4 * header_count, 12 * vias, uri_length)

    def check(self, message: Message, head: int, size: int) -> None:
        """Looks at a message of `size` octets, `head` of them its start line and headers. Raises MalformedMessage
        (513, 414)."""
        if size > self.message_size:
            raise MalformedMessage("the message is too long", 513, message)
        if head > self.header_size:
            raise MalformedMessage("the header fields are too long", 513, message)
        if isinstance(message, Request) and len(message.uri_text) > self.uri_length:
            raise MalformedMessage("the Request-URI is too long", 414, message)
        headers = message.headers
        if len(headers) > self.header_count:
            raise MalformedMessage("too many header fields", 513, message)
        for _, _, line in headers:
            if len(line) > self.header_length:
                raise MalformedMessage("a header field is too long", 513, message)
        for name, most in (("via", self.vias), ("route", self.routes)):
            # a comma in a quoted string counts too: nobody has so many of them
            if sum(value.count(",") + 1 for value in message.all(name)) > most:
                raise MalformedMessage(f"too many {name} values", 513, message)


#: Where whoever reads the message has bounds of their own.
WITHOUT: Final = Bounds(*[2**62] * 7)
