"""The commands of the control API about calls: calls, call, inuse, history."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Protocol

from sipd.admin.api import LISTED, Api, Refused, text_argument

Row = dict[str, Any]


class ICalls(Protocol):
    """What is needed of the call table."""

    def live(self) -> Iterable[Any]:
        """Every call that is not over."""

    def over(self) -> Iterable[Any]:
        """Those that are and are still kept, newest first."""

    def like(self, prefix: str) -> list[Any]:
        """The calls whose Call-ID begins so, newest first."""

    def __len__(self) -> int:
        """How many are not over."""


class CallCommands:
    """Calls for people. `brief` and `whole` make the row of a call, `story` its history; `peers` gives each peer that
    is part of a call, of how many, and how many of them ring; `limits` the most calls and the busy level of a peer, 0
    for none, and `limited` the peers that have one; `lately` what happened to a user or a peer."""

    def __init__(self, calls: ICalls, brief: Callable[[Any], Row], whole: Callable[[Any], Row],
                 story: Callable[[Any], Row], peers: Callable[[], list[tuple[str, int, int]]],
                 limits: Callable[[str], tuple[int, int]] = lambda name: (0, 0),
                 limited: Callable[[], Iterable[str]] = tuple,
                 lately: Callable[[str], list[Row]] = lambda name: []) -> None:
        self._calls = calls
        self._brief = brief
        self._whole = whole
        self._story = story
        self._peers = peers
        self._limits = limits
        self._limited = limited
        self._lately = lately

    def register(self, api: Api) -> None:
        """Enters these commands."""
        api.register("calls", self.calls)
        api.register("call", self.call)
        api.register("inuse", self.inuse)
        api.register("history", self.history)

    def calls(self, request: Row) -> Row:
        """peer: only calls of that name; over: "yes" lists those that are over and still kept instead, newest first.
        `seconds` is how long a call has been ringing or up, or was; `all` counts them all."""
        peer, over = text_argument(request, "peer", ""), text_argument(request, "over", "")
        found = self._calls.over() if over else self._calls.live()
        rows = (self._brief(call) for call in found if not peer or peer in (call.caller, call.called, *call.peers))
        listed = list(islice(rows, LISTED))
        return {"calls": listed, "more": next(rows, None) is not None, "all": len(self._calls)}

    def call(self, request: Row) -> Row:
        """call_id: everything about the call with that Call-ID, or the one whose Call-ID alone begins so."""
        return self._whole(self._one(request))

    def history(self, request: Row) -> Row:
        """call_id: what was decided in a call and why, step by step; or the name of a user or a peer: what happened to
        it lately. `at` in seconds since the epoch, `after` in seconds since the first step."""
        name = text_argument(request, "call_id")
        steps = self._lately(name)
        if steps:
            return {"name": name, "left_out": 0, "steps": steps}
        return self._story(self._one(request))

    def inuse(self, request: Row) -> list[Row]:
        """peer: only that one. Each peer that is part of a call or has a limit: of how many it is part, how many of
        them ring, and its limits, 0 for none."""
        peer = text_argument(request, "peer", "")
        busy = {name: (number, ringing) for name, number, ringing in self._peers()}
        rows = []
        for name in sorted({*busy, *self._limited(), *([peer] if peer else ())}):
            if peer in ("", name):
                number, ringing = busy.get(name, (0, 0))
                limit, level = self._limits(name)
                rows.append({"peer": name, "in_use": number, "ringing": ringing, "limit": limit, "busy_level": level})
        return rows

    def _one(self, request: Row) -> Any:
        prefix = text_argument(request, "call_id")
        found = self._calls.like(prefix) if prefix else []
        names = list(dict.fromkeys(call.call_id for call in found))
        if not names:
            raise Refused(f"there is no call {prefix!r}, and none that was over lately; sipctl calls lists them")
        if len(names) > 1:
            raise Refused(f"{prefix!r} may be " + " or ".join(names[:5]) + (" or others" if len(names) > 5 else ""))
        return found[0]
