"""The control API: commands by name, JSON in and JSON out.

A request is one JSON object on one line: `{"command": "user add", "name": "1004"}`. The answer is one line too:
`{"ok": true, "result": ...}` or `{"ok": false, "error": "..."}`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

#: A command: it gets the request without its name and returns a value for JSON, or an awaitable of one. It refuses by
#: raising `Refused`.
Command = Callable[[dict[str, Any]], Any | Awaitable[Any]]

#: Bytes of a request; nesting and numbers inside are bounded by it.
REQUEST_LIMIT = 65536
#: Rows one answer lists at most.
LISTED = 10000


class Refused(Exception):
    """A command cannot do what it was asked; the text is for the person who asked.

    Programs may tell refusals apart by their `kind`, "" for the usual one; `lines` are the reasons one by one.
    """

    def __init__(self, text: str, kind: str = "", lines: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.kind = kind
        self.lines = list(lines)


class Live:
    """The answer of a command that goes on: `about` is the result in the first line, and others follow until the
    connection is closed."""

    def __init__(self, about: Any) -> None:
        self.about = about
        #: Sends one more line; and ends the connection. Set by `begin`.
        self.write: Callable[[Any], None] = _nobody
        self.close: Callable[[], None] = _nothing

    def begin(self, write: Callable[[Any], None], close: Callable[[], None]) -> None:
        """Called after the first line was sent."""
        self.write, self.close = write, close

    def end(self) -> None:
        """Called when the connection is gone."""


def _nobody(value: Any) -> None:
    """Nobody reads yet."""


def _nothing() -> None:
    """Nothing to close yet."""


class Api:
    """The commands that a running server takes."""

    def __init__(self) -> None:
        self._commands: dict[str, Command] = {}
        self._log = Logger("sipd")

    def register(self, name: str, command: Command) -> None:
        """Adds a command; a name is given once."""
        if name in self._commands:
            raise ValueError(f"there is a command {name!r} already")
        self._commands[name] = command

    @property
    def names(self) -> list[str]:
        """What may be asked, in order."""
        return sorted(self._commands)

    async def answer(self, line: bytes, live: Callable[[Live], None] | None = None) -> bytes:
        """The answer to one request, without a line break. Never raises. An answer that goes on is handed to `live`."""
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return self.encode(_refusal("a request is one JSON object on one line"))
        if not isinstance(request, dict) or not isinstance(request.get("command"), str):
            return self.encode(_refusal('a request is a JSON object with a "command"'))
        return self.encode(await self.told(request.pop("command"), request, live))

    def encode(self, answer: dict[str, Any]) -> bytes:
        """An answer in octets. Never raises."""
        try:
            return json.dumps(answer).encode("ascii")
        except (TypeError, ValueError):
            self._log.failure("the answer to a control command is none")
            return json.dumps(_refusal("the server failed to do that; its log says why", "failure")).encode("ascii")

    async def told(
        self, name: str, request: dict[str, Any], live: Callable[[Live], None] | None = None
    ) -> dict[str, Any]:
        """The answer to the command `name` as values for JSON; `request` has its arguments. Never raises."""
        command = self._commands.get(name)
        if command is None:
            return _refusal(f"there is no command {name[:60]!r}; there are: {', '.join(self.names)}", "unknown")
        try:
            result = command(request)
            if isawaitable(result):
                result = await result
            if isinstance(result, Live):
                if live is None:
                    raise Refused("the answer would go on for ever, which is not possible here")
                live(result)
                result = result.about
            return {"ok": True, "result": result}
        except Refused as refusal:
            more = {"kind": refusal.kind, "errors": refusal.lines} if refusal.kind else {}
            return {"ok": False, "error": str(refusal), **more}
        except CancelledError:
            return _refusal("it was not waited for", "failure")
        except Exception:
            self._log.failure("a control command failed")
            return _refusal("the server failed to do that; its log says why", "failure")


def _refusal(text: str, kind: str = "") -> dict[str, Any]:
    return {"ok": False, "error": text, "kind": kind} if kind else {"ok": False, "error": text}


def text_argument(request: dict[str, Any], name: str, default: str | None = None) -> str:
    """The text called `name` in a request. Raises Refused when it is missing without a default, or no text."""
    value = request.get(name, default)
    if not isinstance(value, str):
        raise Refused(f"{name}: text is wanted")
    return value
