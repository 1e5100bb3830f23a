"""The commands of the control API about messages that wait, and about those that were not delivered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sipd.admin.api import Api, Refused, text_argument

Rows = list[dict[str, Any]]


class IMessages(Protocol):
    """What is needed of the room that keeps them."""

    def rows(self, aor: str = "") -> Rows:
        """What waits and what was not delivered, for one user or for all."""

    def remove(self, number: int = 0, aor: str = "") -> int:
        """Takes away the message of that number, 0 for all, that waits for that user, "" for whomever; how many."""


class MessageCommands:
    """Stored messages. `aor(name)` gives the address-of-record of a peer, or raises Refused."""

    def __init__(self, messages: IMessages, aor: Callable[[str], str]) -> None:
        self._messages = messages
        self._aor = aor

    def register(self, api: Api) -> None:
        """Enters these commands."""
        api.register("messages", self.listed)
        api.register("messages remove", self.remove)

    def listed(self, request: dict[str, Any]) -> Rows:
        """name: the messages for that user, without it for all. `received` and `ended` are seconds since the epoch,
        `expires` from now."""
        name = text_argument(request, "name", "")
        return self._messages.rows(self._aor(name) if name else "")

    def remove(self, request: dict[str, Any]) -> dict[str, Any]:
        """id: that message, or name: all that wait for that user. How many are `removed`; they are not delivered."""
        number, name = request.get("id", 0), text_argument(request, "name", "")
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise Refused("id: the number of a message is wanted")
        if not number and not name:
            raise Refused("which message? id or name is wanted")
        removed = self._messages.remove(number, self._aor(name) if name else "")
        if not removed:
            raise Refused(f"no message {number} waits" if number else f"no message waits for {name}")
        return {"removed": removed}
