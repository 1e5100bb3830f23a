"""Whose fault it is: a malformed message, or a request we refuse. Anything else is our bug."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sipd.message.message import Message


class MalformedMessage(ValueError):
    """A message, or a part of one, breaks the grammar of RFC 3261 s25. `status` is what a request is answered.

    `message` holds the parts that could be read, so that the answer can be made from them; None when not even
    a Via was found.
    """

    def __init__(self, reason: str, status: int = 400, message: Message | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.message = message


class Reject(Exception):
    """A request is refused with `status`. Raised anywhere below the route, caught once, there.

    `reason` is the reason phrase, "" for the usual one; `headers` are (name, value) pairs to add to the response.
    """

    def __init__(self, status: int, reason: str = "", headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(f"{status} {reason}".rstrip())
        self.status = status
        self.reason = reason
        self.headers = headers
