"""Whether somebody answers, judged from one question after the other. Pure.

One lost packet is no reason to give a phone up, and one quick answer none to forget that it is slow: the states change
with hysteresis.
"""

from __future__ import annotations

from typing import Final

#: Not answered yet, and not given up either; answers; answers late; does not answer any more.
UNKNOWN: Final = "unknown"
REACHABLE: Final = "reachable"
LAGGED: Final = "lagged"
UNREACHABLE: Final = "unreachable"

#: The weight of the latest round-trip time (RFC 6298 s2).
_WEIGHT = 0.125
#: Who is lagged counts as reachable again below this part of the threshold.
_BACK = 0.75


class Reachability:
    """What is known of one peer. `lagged` in seconds; `most` unanswered questions in a row make it unreachable."""

    __slots__ = ("state", "rtt", "missed", "_lagged", "_most")

    def __init__(self, lagged: float, most: int) -> None:
        self.state: str = UNKNOWN
        #: Smoothed round-trip time in seconds, 0 before the first answer.
        self.rtt = 0.0
        #: Questions in a row without an answer.
        self.missed = 0
        self._lagged = lagged
        self._most = most

    def answered(self, seconds: float) -> bool:
        """It answered after so many seconds. True when its state has changed."""
        known = self.rtt > 0.0 and self.state != UNREACHABLE
        self.rtt = self.rtt + _WEIGHT * (seconds - self.rtt) if known else max(seconds, 1e-6)
        self.missed = 0
        bound = self._lagged * _BACK if self.state == LAGGED else self._lagged
        return self._become(LAGGED if self.rtt >= bound else REACHABLE)

    def silent(self) -> bool:
        """It did not answer in time, or cannot be reached. True when its state has changed."""
        self.missed = min(self.missed + 1, self._most)
        return self.missed >= self._most and self._become(UNREACHABLE)

    def _become(self, state: str) -> bool:
        changed = state != self.state
        self.state = state
        return changed
