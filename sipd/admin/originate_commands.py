"""The commands of the control API that begin calls: originate, originations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from sipd.admin.api import Api, Live, Refused, text_argument

#: Steps after which a call has come about, or has not.
_LAST = {"connected": True, "failed": False}


class ICall(Protocol):
    """What is needed of a call that was begun."""

    steps: list[dict[str, Any]]
    watchers: list[Callable[[dict[str, Any]], None]]

    def give_up(self, reason: str = "given up") -> None:
        """Ends it, unless the two are connected."""

    def row(self) -> dict[str, Any]:
        """What a person wants to know."""


class OriginateCommands:
    """Calls that begin here. `originate(first, second, by, seconds)` begins one, and raises `unable` where it cannot;
    `calls` gives those there are."""

    def __init__(self, originate: Callable[[str, str, str, float], ICall], unable: type[Exception],
                 calls: Callable[[], list[ICall]]) -> None:
        self._originate = originate
        self._unable = unable
        self._calls = calls

    def register(self, api: Api) -> None:
        """Enters these commands."""
        api.register("originate", self.originate)
        api.register("originations", self.originations)

    def originate(self, request: dict[str, Any]) -> Any:
        """first, second: rings the first and connects it to the second. by: "refer", "3pcc" or "auto"; timeout: seconds
        that each may ring. The answer comes when it is known what became of it: `connected`, and every step. With
        follow: true it comes at once and each step follows; whoever closes the connection gives the call up."""
        first, second = text_argument(request, "first"), text_argument(request, "second")
        by, seconds = text_argument(request, "by", ""), request.get("timeout", 0)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= 600:
            raise Refused("timeout: a number of seconds up to 600 is wanted")
        try:
            call = self._originate(first, second, by, float(seconds))
        except self._unable as error:
            raise Refused(str(error)) from None
        if request.get("follow", False) is True:
            return _Followed(call)
        outcome: Deferred[dict[str, Any]] = Deferred(lambda outcome: call.give_up())
        _when_over(call, lambda connected: outcome.callback({
            "connected": connected, **{key: call.row()[key] for key in ("number", "first", "second", "way")},
            "steps": call.steps[:]}))
        return outcome

    def originations(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """The calls begun here that are under way, and those whose two dialogs are held here."""
        return [call.row() for call in self._calls()]


class _Followed(Live):
    """Tells the steps of a call as they come."""

    def __init__(self, call: ICall) -> None:
        super().__init__({key: call.row()[key] for key in ("number", "first", "second")})
        self._call = call
        self._over = False

    def begin(self, write: Callable[[Any], None], close: Callable[[], None]) -> None:
        """See Live: what has happened already, and what happens."""
        super().begin(write, close)
        for step in self._call.steps[:]:
            self._told(step)
        self._call.watchers.append(self._told)

    def _told(self, step: dict[str, Any]) -> None:
        if self._over:
            return
        self.write(step)
        if step["step"] in _LAST:
            self._over = True
            self.close()

    def end(self) -> None:
        """See Live: nobody waits for it any more."""
        if self._told in self._call.watchers:
            self._call.watchers.remove(self._told)
        if not self._over:
            self._over = True
            self._call.give_up()


def _when_over(call: ICall, told: Callable[[bool], None]) -> None:
    """Calls `told` once, when it is known whether the two are connected; perhaps now."""
    def watch(step: dict[str, Any]) -> None:
        if step["step"] in _LAST and watch in call.watchers:
            call.watchers.remove(watch)
            told(_LAST[step["step"]])

    call.watchers.append(watch)
    for step in call.steps[:]:
        watch(step)
