"""A walk as the proxy follows it: a plan that is asked for its next stage, and told how the one before ended. Pure."""

from __future__ import annotations

from collections.abc import Callable

from sipd.proxy.targets import Stage
from sipd.routing.plan import LOOP, Walk, Walking


class Journey:
    """A walk as the proxy follows it (see sipd.proxy.targets.Plan). `begin` is told what to call with the way to
    walk once it is known where that starts; `bug` hears of what went wrong here."""

    __slots__ = ("_walk", "_begin", "_walking", "_bug", "_tried")

    def __init__(self, walk: Walk, begin: Callable[[Callable[[Walking], None]], None],
                 bug: Callable[[BaseException], None]) -> None:
        self._walk = walk
        self._begin = begin
        self._walking: Walking | None = None
        self._bug = bug
        self._tried = False

    def next(self, status: int, done: Callable[[Stage | None], None]) -> None:
        """See Plan."""
        if self._walking is not None:
            done(self._step(self._walking.send, status))
            return

        def begun(walking: Walking) -> None:
            self._walking = walking
            done(self._step(next, walking))

        self._begin(begun)

    def _step(self, step: Callable[..., Stage], argument: object) -> Stage | None:
        try:
            stage = step(argument)
        except StopIteration as end:
            # what the phones said says more than what was decided here
            return None if self._tried else Stage([], status=end.value or LOOP, reason=self._walk.reason)
        except Exception as error:
            self._bug(error)
            return Stage([], status=500)
        self._tried = True
        return stage


def ended(status: int) -> Walking:
    """A way that is at its end at once."""
    yield from ()
    return status
