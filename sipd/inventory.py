"""The inventory: every table, timer wheel and connection set is entered here when it is created.

One place answers "what does this process hold, and how much of it may there be": the admin API shows it, and the
tests walk it to see that nothing is left behind after the last timer.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Table(dict[K, V], Generic[K, V]):
    """A dict with a name and a bound. Its owner asks `full` before it adds; look-ups cost what a dict's cost.

    A *cache* may lose any entry at any time and so need not be empty when nothing goes on: `remember` drops the
    oldest entries when the bound is reached.
    """

    __slots__ = ("name", "limit", "cache", "refused")

    def __init__(self, name: str, limit: int, *, cache: bool = False) -> None:
        super().__init__()
        self.name = name
        self.limit = limit
        self.cache = cache
        #: How many entries were turned away because the table was full.
        self.refused = 0

    @property
    def full(self) -> bool:
        """True when another entry would pass the bound."""
        return len(self) >= self.limit

    def remember(self, key: K, value: V) -> None:
        """Enters a cache line. At the bound the oldest eighth goes at once: a dict walks over what was deleted to find
        its oldest entry, so dropping one at a time would cost more the larger it is."""
        if len(self) >= self.limit and key not in self:
            for oldest in list(islice(self, self.limit // 8 + 1)):
                del self[oldest]
        self[key] = value


class Inventory:
    """The tables of one server, in the order in which they were made."""

    def __init__(self) -> None:
        self._tables: list[Table[object, object]] = []

    def table(self, name: str, limit: int, *, cache: bool = False) -> Table[K, V]:
        """A new bounded table, entered in the inventory. `limit` is a count of entries."""
        table: Table[K, V] = Table(name, limit, cache=cache)
        self._tables.append(table)  # type: ignore[arg-type]
        return table

    def __iter__(self) -> Iterator[Table[object, object]]:
        return iter(self._tables)

    def left(self) -> dict[str, int]:
        """Name and size of each table that is not empty, caches left out."""
        return {table.name: len(table) for table in self._tables if table and not table.cache}
