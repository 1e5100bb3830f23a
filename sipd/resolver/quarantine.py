"""Hops that failed lately: they are tried last for a while (RFC 3263 s4.3)."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from sipd.inventory import Inventory, Table
from sipd.message.hop import Hop

#: The longest that a hop is left alone because it asks for it (seconds): a Retry-After may say years.
LONGEST = 300.0


class Quarantine:
    """Remembers each failed hop for `period` seconds. Entries leave when they are met after that, or at the bound."""

    __slots__ = ("_clock", "_period", "_until")

    def __init__(self, clock: IReactorTime, inventory: Inventory, period: float = 30.0, limit: int = 10_000) -> None:
        self._clock = clock
        self._period = period
        self._until: Table[tuple[str, str, int], float] = inventory.table("quarantined hops", limit, cache=True)

    def bound(self, limit: int) -> None:
        """Another bound on the hops that are remembered."""
        self._until.limit = limit

    def add(self, hop: Hop, seconds: float = 0.0) -> float:
        """The hop failed just now; a hop that failed before stays for a whole period more, one that asked to be left
        alone for longer (RFC 3261 s21.5.4) for these `seconds`, LONGEST at most. For how many seconds it stays."""
        key = hop[:3]
        period = min(max(self._period, seconds), max(self._period, LONGEST))
        end = max(self._until.pop(key, 0.0), self._clock.seconds() + period)
        self._until.remember(key, end)
        return end - self._clock.seconds()

    def holds(self, hops: list[Hop]) -> bool:
        """True when all of these hops, of which there are some, failed lately."""
        until, now = self._until, self._clock.seconds()
        return bool(hops) and all(until.get(hop[:3], now) > now for hop in hops)

    def __len__(self) -> int:
        return len(self._until)

    def last(self, hops: list[Hop]) -> list[Hop]:
        """The same hops, those that failed lately at the end; each part keeps its order."""
        until = self._until
        if not until or len(hops) < 2:
            return hops
        now = self._clock.seconds()
        good: list[Hop] = []
        bad: list[Hop] = []
        for hop in hops:
            end = until.get(hop[:3])
            if end is None:
                good.append(hop)
            elif end <= now:
                del until[hop[:3]]
                good.append(hop)
            else:
                bad.append(hop)
        return good + bad
