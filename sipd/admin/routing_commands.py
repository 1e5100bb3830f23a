"""The commands of the control API about where calls go: routes, groups, forwards, forward, dnd, route test."""

from __future__ import annotations

import time
from collections.abc import Callable
from time import struct_time
from typing import Any, Protocol

from sipd.admin.api import Api, Refused, text_argument
from sipd.journal import Journal
from sipd.state import StateError

Rows = list[dict[str, Any]]

#: Why a call may go elsewhere.
CAUSES = ("always", "busy", "no_answer", "offline")
#: Characters of where it goes.
_LONGEST = 64
#: What is written instead of a target.
OFF, FILE = "off", "file"


class IForwards(Protocol):
    """What is needed of the forwards."""

    def set(self, aor: str, cause: str, to: str | None) -> None:
        """Forwards calls: to somebody, "" to nobody, None as the configuration says. Raises StateError."""

    def set_after(self, aor: str, seconds: float | None) -> None:
        """How long it rings before no_answer. Raises StateError, ValueError."""

    def disturb(self, aor: str, dnd: bool) -> None:
        """Whether calls are answered busy. Raises StateError."""

    def row(self, aor: str) -> dict[str, Any]:
        """What somebody wants."""

    def rows(self) -> Rows:
        """The same of all who want anything."""


class IRouter(Protocol):
    """What is needed of the router."""

    def routes(self) -> Rows:
        """The routes, in order."""

    def groups(self) -> Rows:
        """The groups."""

    def numbers(self) -> Rows:
        """The entries of [numbers]."""

    def known(self, name: str) -> str:
        """The address-of-record of a user or a group, "" for nobody's."""

    def leads_somewhere(self, name: str) -> bool:
        """Whether anybody may be there."""

    def explain(self, caller: str, called: str, peer: str = "", moment: struct_time | None = None) -> Any:
        """The steps of a call."""


class RoutingCommands:
    """Where calls go."""

    def __init__(self, router: IRouter, forwards: IForwards, script: Callable[[], str], journal: Journal,
                 forbids: Callable[[str, str], str]) -> None:
        self._router = router
        #: Tells why the one may not call the other, "" where it may.
        self._forbids = forbids
        self._forwards = forwards
        self._script = script
        self._journal = journal

    def register(self, api: Api) -> None:
        """Enters these commands."""
        api.register("routes", self.routes)
        api.register("groups", self.groups)
        api.register("forwards", self.forwards)
        api.register("forward", self.forward)
        api.register("dnd", self.dnd)
        api.register("route test", self.test)

    def routes(self, request: dict[str, Any]) -> dict[str, Any]:
        """The script that is asked first ("" for none), the routes in their order, and the numbers."""
        return {"script": self._script(), "routes": self._router.routes(), "numbers": self._router.numbers()}

    def groups(self, request: dict[str, Any]) -> Rows:
        """Every group with its members and whether these would ring now."""
        return self._router.groups()

    def forwards(self, request: dict[str, Any]) -> Rows:
        """name: of that user or group; without it of all who are forwarded or do not want to be disturbed. `origin` is
        "file" or "run time", which wins; `file` is what the configuration says."""
        name = text_argument(request, "name", "")
        return [self._forwards.row(self._known(name))] if name else self._forwards.rows()

    def forward(self, request: dict[str, Any]) -> dict[str, Any]:
        """name, cause: one of always, busy, no_answer, offline; to: a user, a group, a number, "off" for nowhere
        whatever the configuration says, "file" for what that says. after: seconds, for no_answer. It is stored
        before it is answered."""
        name, cause, to = (text_argument(request, key) for key in ("name", "cause", "to"))
        after = request.get("after")
        aor = self._known(name)
        if cause not in CAUSES:
            raise Refused(f"cause: {cause!r}; one of {', '.join(CAUSES)} is wanted")
        if after is not None and (cause != "no_answer" or type(after) not in (int, float)):
            raise Refused("after: a number of seconds is wanted, and belongs to no_answer")
        if to not in (OFF, FILE):
            if not 0 < len(to) <= _LONGEST or not to.isprintable():
                raise Refused(f"to: a name or a number of 1 to {_LONGEST} characters is wanted, or off, or file")
            if self._router.known(to) == aor:
                raise Refused(f"{name} cannot be forwarded to itself")
            if not self._router.leads_somewhere(to):
                raise Refused(f"to: {to!r} is no user and no group, and no route matches it")
        try:
            if after is not None or to == FILE and cause == "no_answer":
                self._forwards.set_after(aor, after)
            self._forwards.set(aor, cause, {OFF: "", FILE: None}.get(to, to))
        except (StateError, ValueError) as error:
            raise Refused(str(error))
        self._note(aor, f"{cause} {to}")
        return self._forwards.row(aor)

    def dnd(self, request: dict[str, Any]) -> dict[str, Any]:
        """name; on: true or false. Stored before it is answered."""
        name, on = text_argument(request, "name"), request.get("on")
        if not isinstance(on, bool):
            raise Refused("on: true or false is wanted")
        aor = self._known(name)
        try:
            self._forwards.disturb(aor, on)
        except StateError as error:
            raise Refused(str(error))
        self._note(aor, f"do not disturb {'on' if on else 'off'}")
        return self._forwards.row(aor)

    def test(self, request: dict[str, Any]) -> dict[str, Any]:
        """from, to: user parts (or user@domain); peer: who sends the call, "" for the user or peer called like `from`;
        at: local time as "2026-12-24 18:30", "" for now. The steps of such a call, each with its depth."""
        caller, called, peer, at = (text_argument(request, key, default) for key, default in (
            ("from", None), ("to", None), ("peer", ""), ("at", "")))
        moment = None
        if at:
            try:
                moment = time.strptime(at, "%Y-%m-%d %H:%M")
            except ValueError:
                raise Refused(f'at: {at!r}; a time such as "2026-12-24 18:30" is wanted')
        forbidden = self._forbids(peer or caller, called)
        steps = [(0, forbidden)] if forbidden else self._router.explain(caller, called, peer, moment)
        return {"from": caller, "to": called, "steps": [{"depth": depth, "text": text} for depth, text in steps]}

    def _known(self, name: str) -> str:
        aor = self._router.known(name)
        if not aor:
            raise Refused(f"there is no user and no group {name!r}")
        return aor

    def _note(self, aor: str, change: str) -> None:
        if self._journal.sinks:
            self._journal.write("forward-set", aor=aor, change=change)
