"""The commands of the control API about carriers, and about who answers: registry, registry again, qualify."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from sipd.admin.api import Api, Refused, text_argument

Rows = list[dict[str, Any]]


class ITrunks(Protocol):
    """What is needed of the trunks."""

    def rows(self) -> Rows:
        """One for each trunk."""

    def again(self, name: str) -> bool:
        """Registers now; False when no trunk of that name registers."""


class IQualify(Protocol):
    """What is needed of the one who asks who answers."""

    def rows(self, aor: str = "", trunk: str = "") -> Rows:
        """One for each peer."""

    def now(self, aor: str, trunk: str, told: Callable[[Rows], None]) -> bool:
        """Asks at once; False when there is nobody to ask."""


class TrunkCommands:
    """Registrations of ours, and qualify. `aor(name)` gives the address-of-record of a user here."""

    def __init__(self, trunks: ITrunks, qualify: IQualify, aor: Callable[[str], str]) -> None:
        self._trunks = trunks
        self._qualify = qualify
        self._aor = aor

    def register(self, api: Api) -> None:
        """Enters these commands."""
        api.register("registry", self.registry)
        api.register("registry again", self.again)
        api.register("qualify", self.qualify)

    def registry(self, request: dict[str, Any]) -> Rows:
        """name: that peer; without it every peer with a uri. `expires` and `next` are seconds from now, `since` seconds
        since the epoch."""
        name = text_argument(request, "name", "")
        rows = self._trunks.rows()
        if name:
            rows = [row for row in rows if row["name"] == name]
            if not rows:
                raise Refused(f"there is no peer {name!r} with a uri; there are: {self._names() or 'none'}")
        return rows

    def again(self, request: dict[str, Any]) -> dict[str, Any]:
        """name: that peer registers now, whatever it waits for."""
        name = text_argument(request, "name")
        if not self._trunks.again(name):
            raise Refused(f"there is no peer {name!r} that registers; there are: {self._names() or 'none'}")
        return next(row for row in self._trunks.rows() if row["name"] == name)

    def qualify(self, request: dict[str, Any]) -> Rows | Deferred[Rows]:
        """name: the phones of that user, or that peer, are asked now, and the answer comes when they have answered or
        were silent; without it everybody who is asked, as they were the last time. `rtt` in milliseconds."""
        name = text_argument(request, "name", "")
        if not name:
            return self._qualify.rows()
        asked: Deferred[Rows] = Deferred()
        if not self._qualify.now(self._aor(name), name, asked.callback):
            raise Refused(f"{name}: no peer with a uri, and no user with a phone that is registered")
        return asked

    def _names(self) -> str:
        return ", ".join(row["name"] for row in self._trunks.rows())
