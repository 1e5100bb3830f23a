"""What happened lately to each user and each peer: the last journal records that are about them, told on demand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from sipd.inventory import Inventory, Table
from sipd.journal import CATALOGUE

#: Names that are remembered, and records of one.
NAMES, RECORDS = 4_000, 16


class Record:
    """One record: when it came last (seconds since the epoch), and how often."""

    __slots__ = ("kind", "fields", "last", "count")

    def __init__(self, kind: str, fields: dict[str, Any], when: float) -> None:
        self.kind = kind
        self.fields = fields
        self.last = when
        self.count = 1

    def text(self) -> str:
        """As the log says it."""
        text = CATALOGUE[self.kind].format_map(self.fields)
        return text if self.count == 1 else f"{text} ({self.count} times)"


class Recollection:
    """A journal sink. `whose` gives the address-of-record of a user in a From URI, "" for somebody else's, so that
    strangers fill no table; `wall` seconds since the epoch."""

    def __init__(self, whose: Callable[[str], str], wall: Callable[[], float], inventory: Inventory) -> None:
        self._whose = whose
        self._wall = wall
        self._names: Table[str, deque[Record]] = inventory.table("names with a history", NAMES, cache=True)

    def __call__(self, kind: str, fields: dict[str, Any]) -> None:
        """One record of the journal."""
        name = fields.get("aor") or fields.get("peer") or ""
        if kind == "refused":
            name = self._whose(fields["who"])
        if not name:
            return
        now = self._wall()
        records = self._names.get(name)
        if records is None:
            records = deque(maxlen=RECORDS)
            self._names.remember(name, records)
        last = records[-1] if records else None
        if last is not None and last.kind == kind and last.fields == fields:
            last.count += 1
            last.last = now
        else:
            records.append(Record(kind, fields, now))

    def of(self, name: str) -> list[dict[str, Any]]:
        """The records about an address-of-record or a peer, oldest first: `at` (seconds since the epoch), `after`
        (since the first of them) and `text`."""
        records = self._names.get(name) or deque()
        return [{"at": round(record.last, 3), "after": round(record.last - records[0].last, 3), "text": record.text()}
                for record in records]
