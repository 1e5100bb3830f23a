"""The table of bindings in memory: look-up by address-of-record, and expiry that costs nothing while nothing expires.

Each address-of-record is filed under one second, the one after its first binding expires. Only seconds that hold
something are ever visited, through a heap; a refresh moves a name from one set to another. The table owns no timer and
reads no clock: `Location` drives it.

A binding costs about 600 bytes here beyond its own text: see `tests/location/test_table.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from sipd.binding import Binding, Change, changed
from sipd.inventory import Inventory, Table


class BindingTable:
    """Every binding, by address-of-record. Times are wall-clock seconds since the epoch."""

    __slots__ = ("size", "_bindings", "_due", "_seconds")

    def __init__(self, inventory: Inventory, limit: int) -> None:
        #: How many bindings there are, expired ones not yet swept included.
        self.size = 0
        self._bindings: Table[str, tuple[Binding, ...]] = inventory.table("addresses-of-record", limit)
        #: second -> the addresses-of-record to look at then; emptied sets stay until their second has passed, so that
        #: `_seconds` holds each second once.
        self._due: Table[int, set[str]] = inventory.table("expiry seconds", limit)
        self._seconds: list[int] = []

    def bound(self, limit: int) -> None:
        """Another bound on addresses-of-record."""
        self._bindings.limit = self._due.limit = limit

    def live(self, aor: str, now: float) -> list[Binding]:
        """The bindings of `aor` that have not expired, first registered first."""
        live: list[Binding] = []
        for binding in self._bindings.get(aor, ()):
            if binding.expires_at > now:
                live.append(binding)
        return live

    def __iter__(self) -> Iterator[Binding]:
        """Every binding, expired ones not yet swept included. The table must not change meanwhile."""
        for bindings in self._bindings.values():
            yield from bindings

    def change(self, aor: str, changes: list[Change]) -> int:
        """Applies changes to the bindings of `aor`; returns the second `expire` has something to do for it, 0 for none.
        """
        old = self._bindings.get(aor, ())
        return self._replace(aor, old, changed(old, changes))

    def _replace(self, aor: str, old: tuple[Binding, ...], new: tuple[Binding, ...]) -> int:
        self.size += len(new) - len(old)
        was, due = _due_second(old), _due_second(new)
        if was != due:
            if filed := self._due.get(was):
                filed.discard(aor)
            if due:
                self._file(aor, due)
        if new:
            self._bindings[aor] = new
        else:
            self._bindings.pop(aor, None)
            if not self._bindings:
                self._due.clear()
                self._seconds.clear()
        return due

    def _file(self, aor: str, due: int) -> None:
        filed = self._due.get(due)
        if filed is None:
            filed = self._due[due] = set()
            heappush(self._seconds, due)
        filed.add(aor)

    def next_due(self) -> int | None:
        """The second when `expire` has something to do, None when nothing is stored."""
        while self._seconds and not self._due[self._seconds[0]]:
            del self._due[heappop(self._seconds)]
        return self._seconds[0] if self._seconds else None

    def expire(self, now: float, most: int) -> list[Binding]:
        """Drops expired bindings and returns them; visits at most `most` addresses-of-record."""
        lost: list[Binding] = []
        while most > 0 and (second := self.next_due()) is not None and second <= now:
            filed = self._due[second]
            while filed and most > 0:
                most -= 1
                aor = next(iter(filed))
                old = self._bindings[aor]
                new: list[Binding] = []
                for binding in old:
                    (new if binding.expires_at > now else lost).append(binding)
                self._replace(aor, old, tuple(new))
        return lost


def _due_second(bindings: tuple[Binding, ...]) -> int:
    """The first full second after the first of these expires; 0 when there are none."""
    if not bindings:
        return 0
    first = bindings[0].expires_at
    for binding in bindings:
        if binding.expires_at < first:
            first = binding.expires_at
    return int(first) + 1
