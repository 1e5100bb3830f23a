"""Whether the server is behind, and what part of new work it refuses therefore (RFC 3261 s21.5.4, RFC 7339). Pure.

The measure is delay: how much later than it should the server gets to what waits for it, taken ten times a second. What
it is told to refuse follows it as RFC 8033 does for queues: by how far the delay is from where it is wanted, and by
whether it grows or falls, so that a queue is neither left to stand nor emptied until the server idles.
"""

from __future__ import annotations

from typing import Final

#: Seconds between two samples.
INTERVAL: Final = 0.1
#: How much of a sample the smoothed delay takes over at once.
_WEIGHT: Final = 0.3
#: A sample counts as this many times the wanted delay at most, and this many in a row must find the smoothed delay too
#: long before it is called overload: a pause of the process, however long, is none, and neither are two.
_MOST: Final = 3.0
_IN_A_ROW: Final = 3
#: How the share follows the distance from the wanted delay, and its change from one sample to the next.
_BY_DISTANCE: Final = 0.03
_BY_CHANGE: Final = 0.2
#: Seconds for which nothing had to be refused before it is called over.
_RELIEF: Final = 3.0


class Overload:
    """Takes samples of the server's delay. `wanted` is the delay in seconds up to which all is well.

    What has to be refused is taken from strangers first, as far as there are any: a flood of theirs must not cost those
    who are known their calls.
    """

    __slots__ = ("wanted", "active", "share", "delay", "worst", "since", "refused", "refused_before", "_calm_since",
                 "share_of_known", "share_of_strangers", "_late", "_known", "_strangers", "_strange")

    def __init__(self, wanted: float) -> None:
        self.wanted = wanted
        #: Between the beginning and the end of an overload.
        self.active = False
        #: What part of the new work is refused, 0 to 1.
        self.share = 0.0
        #: The same for requests from those who are known and from strangers: together that part of all.
        self.share_of_known = self.share_of_strangers = 0.0
        #: Smoothed, in seconds.
        self.delay = 0.0
        #: The longest delay of a sample since it began, in seconds.
        self.worst = 0.0
        #: When it began.
        self.since = 0.0
        #: Requests refused, ever, and before it began.
        self.refused = 0
        self.refused_before = 0
        self._calm_since = 0.0
        #: How many samples in a row found the delay too long.
        self._late = 0
        #: New requests since the last sample, and what part of them came from strangers, smoothed.
        self._known = self._strangers = 0
        self._strange = 0.5

    def asks(self, known: bool) -> float:
        """Notes a new request, and tells what part of its like is refused."""
        if known:
            self._known += 1
            return self.share_of_known
        self._strangers += 1
        return self.share_of_strangers

    def sample(self, now: float, delay: float, short_of_room: bool = False) -> None:
        """A delay measured at `now`, seconds both; `short_of_room`: what waits fills most of the room for it, or some
        was lost already, so that it is too much however young it is."""
        wanted = self.wanted
        if short_of_room and delay < 2 * wanted:
            delay = 2 * wanted
        before = self.delay
        self.delay += _WEIGHT * (min(delay, _MOST * wanted) - before)
        if not self.active:
            self._late = self._late + 1 if self.delay > wanted else 0
            if self._late < _IN_A_ROW:
                return
            self.active = True
            self._late = 0
            self.since = self._calm_since = now
            self.worst = 0.0
            self.share = _BY_CHANGE * before / wanted  # for what it grew until now
            self.refused_before = self.refused
        self.worst = max(self.worst, delay)
        change = (self.delay - before) / wanted
        share = self.share + _BY_DISTANCE * (self.delay / wanted - 1) + _BY_CHANGE * change
        self.share = min(max(share, 0.0), 1.0)
        self._share_out()
        if self.share > 0 or self.delay > wanted / 2:
            self._calm_since = now
        elif now - self._calm_since >= _RELIEF:
            self.active = False

    def _share_out(self) -> None:
        """Divides what is to be refused between strangers and others."""
        asked = self._known + self._strangers
        if asked:
            self._strange += _WEIGHT * (self._strangers / asked - self._strange)
            self._known = self._strangers = 0
        strange = min(max(self._strange, 0.001), 0.999)
        self.share_of_strangers = min(self.share / strange, 1.0)
        self.share_of_known = max((self.share - strange) / (1 - strange), 0.0)
