"""Records that survive the process: texts by kind and key in one SQLite file, by group commit (`sipd/group_commit`).

What `commit` has acknowledged is on disk. A group is a statement for what is put and one for what is deleted, however
many there are.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from sipd.group_commit import Done, GroupCommit, together
from sipd.inventory import Inventory

#: What brings a file from each schema version to the next; PRAGMA user_version counts the steps taken.
MIGRATIONS = (
    "CREATE TABLE record (kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)) "
    "WITHOUT ROWID",
)
_PUT = "INSERT OR REPLACE INTO record SELECT value->>0, value->>1, value->>2 FROM json_each(?)"
_DELETE = "DELETE FROM record WHERE (kind, key) IN (SELECT value->>0, value->>1 FROM json_each(?))"

#: Kind, key and text of a record; a text of None deletes it. What a text holds is ASCII, such as JSON without more.
Change = tuple[str, str, str | None]


class IRecords(Protocol):
    """Where records are kept."""

    def load(self) -> list[tuple[str, str, str]]:
        """Every record as kind, key and text; called once, before the first `commit`. Raises StoreError."""

    def commit(self, changes: Sequence[Change], done: Done) -> None:
        """Makes changes durable, all or none, in the order asked; then `done("")`, or `done(reason)` when it failed."""

    def close(self) -> None:
        """Writes what is queued and closes; blocks for the last commit."""


class MemoryRecords:
    """No file: records end with this object. `kept` may be handed to the next one."""

    def __init__(self, kept: dict[tuple[str, str], str] | None = None) -> None:
        self.kept = {} if kept is None else kept

    def load(self) -> list[tuple[str, str, str]]:
        """See IRecords."""
        return [(kind, key, text) for (kind, key), text in self.kept.items()]

    def commit(self, changes: Sequence[Change], done: Done) -> None:
        """Is done at once."""
        for kind, key, text in changes:
            if text is None:
                self.kept.pop((kind, key), None)
            else:
                self.kept[kind, key] = text
        done("")

    def close(self) -> None:
        """Nothing to close."""


class SqliteRecords(GroupCommit[Change]):
    """Records in the file at `path`; `limit` bounds the commits that wait, the rest is as GroupCommit has it."""

    def __init__(self, path: str | Path, call_from_thread: Callable[..., Any], inventory: Inventory, *,
                 sync: str = "normal", limit: int = 50_000, gather: float = 0.002) -> None:
        name = Path(path).stem
        super().__init__(path, MIGRATIONS, f"store of {name}", "it is made anew", call_from_thread,
                         inventory.table(f"{name} being stored", limit), sync, gather)

    def load(self) -> list[tuple[str, str, str]]:
        """See IRecords."""
        return self.start(_read)

    def write(self, connection: sqlite3.Connection, changes: list[Change]) -> None:
        """See GroupCommit."""
        # the last change of a record counts, so the order within the group no longer matters
        last = {(kind, key): text for kind, key, text in changes}
        puts = [(kind, key, text) for (kind, key), text in last.items() if text is not None]
        deletes = [key for key, text in last.items() if text is None]
        together(connection, [(statement, (json.dumps(rows),))
                              for statement, rows in ((_DELETE, deletes), (_PUT, puts)) if rows])


def _read(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    return [(str(kind), str(key), str(text))
            for kind, key, text in connection.execute("SELECT kind, key, value FROM record")]
