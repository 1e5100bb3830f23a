"""What would happen to a call, step by step, for people. It walks the very way that a call walks (`plan`), with answers
made up: nothing here decides anything, so it cannot disagree."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sipd.message import compose
from sipd.proxy.targets import Stage
from sipd.routing.plan import LOOP, Walk, Walking

#: What may come of a stage, and the status that a plan is told then.
OUTCOMES = (("busy", 486), ("no answer", 408), ("cannot be reached", 503))
#: Lines of one explanation.
MOST = 300


class Step(NamedTuple):
    """One line: how deep it stands, and what it says."""

    depth: int
    text: str


#: Makes a walk from its beginning, which tells what it decides to the function given; it decides alike each time.
Make = Callable[[Callable[..., None]], tuple[Walk, Walking]]


class _Came(NamedTuple):
    """What follows after some answers: what is said, and the targets tried next, none at the end."""

    said: tuple[str, ...]
    targets: tuple[tuple[str, ...], ...]


def explain(make: Make) -> list[Step]:
    """The steps of a call."""
    return _Explanation(make).steps


class _Explanation:
    """Follows a walk with every answer that makes a difference at once. Where several lead to the same next step one of
    them stands for all, "no answer" if it is among them."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self.steps: list[Step] = []
        self._unfold((), self._after(()), 0)
        if len(self.steps) > MOST:
            self.steps[MOST:] = [Step(0, "... and so on")]

    def _after(self, statuses: tuple[int, ...]) -> _Came:
        said: list[str] = []
        walk, walking = self._make(lambda text, step=None: said.append(text))
        came = follow(walking, statuses[:-1])
        if statuses:
            said.clear()
            came = follow(walking, statuses[-1:], True)
        if isinstance(came, int):
            said.append("nobody else is tried; the caller hears the best answer there was" if statuses else
                        f"answered {came} {walk.reason or compose.phrase(came)}")
            return _Came(tuple(said), ())
        walking.close()
        return _Came(tuple(said), tuple(tuple(target.uri for target in group) for group in came.groups))

    def _unfold(self, statuses: tuple[int, ...], came: _Came, depth: int) -> None:
        self.steps += [Step(depth, text) for text in came.said]
        if not came.targets or len(self.steps) > MOST:
            return
        ways: dict[_Came, list[tuple[str, int]]] = {}
        for word, status in OUTCOMES:
            ways.setdefault(self._after((*statuses, status)), []).append((word, status))
        if len(ways) == 1 and not next(iter(ways)).targets and len(next(iter(ways)).said) == 1:
            return  # it ends here, whatever comes of it
        for way, outcomes in ways.items():
            self.steps.append(Step(depth + 1, " or ".join(word for word, _ in outcomes) + ":"))
            typical = next((status for _, status in outcomes if status == 408), outcomes[0][1])
            self._unfold((*statuses, typical), way, depth + 2)


def follow(walking: Walking, statuses: tuple[int, ...], begun: bool = False) -> Stage | int:
    """The stage after these answers, or the status that the call ends with."""
    stage: Stage | None = None
    try:
        if not begun:
            stage = next(walking)
        for status in statuses:
            stage = walking.send(status)
    except StopIteration as end:
        return int(end.value) or LOOP
    assert stage is not None
    return stage
