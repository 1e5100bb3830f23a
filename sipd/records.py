"""Records that survive the process: texts by kind and key in one SQLite file, written by a thread in grouped commits.

What `commit` has acknowledged is on disk. All changes that queued up while the last commit ran go into the next one, a
statement for what is put and one for what is deleted, however many there are: sqlite3 gives the interpreter lock away
at each statement, and a busy reactor takes milliseconds to let it go again.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from twisted.logger import Logger

from sipd.inventory import Inventory, Table

_log = Logger()

#: What brings a file from each schema version to the next; PRAGMA user_version counts the steps taken.
MIGRATIONS = (
    "CREATE TABLE record (kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)) "
    "WITHOUT ROWID",
)
_PUT = "INSERT OR REPLACE INTO record SELECT value->>0, value->>1, value->>2 FROM json_each(?)"
_DELETE = "DELETE FROM record WHERE (kind, key) IN (SELECT value->>0, value->>1 FROM json_each(?))"

#: Kind, key and text of a record; a text of None deletes it. What a text holds is ASCII, such as JSON without more.
Change = tuple[str, str, str | None]
Done = Callable[[str], None]


class RecordError(Exception):
    """The file cannot be used; the text says which, why, and what would help."""


class IRecords(Protocol):
    """Where records are kept."""

    def load(self) -> list[tuple[str, str, str]]:
        """Every record as kind, key and text; called once, before the first `commit`. Raises RecordError."""

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


class SqliteRecords:
    """Records in the file at `path` (created with mode 0600), which one server at a time may hold.

    `call_from_thread` is the reactor's; `limit` bounds the commits that wait; `sync` "full" survives a power cut,
    "normal" the end of the process; `gather` is how long (seconds) the writer waits for others to join a group.
    """

    def __init__(self, path: str | Path, call_from_thread: Callable[..., Any], inventory: Inventory, *,
                 sync: str = "normal", limit: int = 50_000, gather: float = 0.002) -> None:
        self._path = Path(path)
        self._call_from_thread = call_from_thread
        self._sync = "FULL" if sync == "full" else "NORMAL"
        self._gather = gather
        self._waiting: Table[int, Done] = inventory.table(f"{self._path.stem} being stored", limit)
        self._queue: SimpleQueue[tuple[int, Sequence[Change]] | None] = SimpleQueue()
        self._asked = 0
        self._connection: sqlite3.Connection | None = None
        self._thread: threading.Thread | None = None

    # -- in the reactor's thread

    def load(self) -> list[tuple[str, str, str]]:
        """See IRecords. Opens the file and starts the writer."""
        try:
            self._connection = self._open()
            rows = [(str(kind), str(key), str(text))
                    for kind, key, text in self._connection.execute("SELECT kind, key, value FROM record")]
        except (sqlite3.Error, OSError) as error:
            if self._connection is not None:
                self._connection.close()
            damaged = not isinstance(error, (sqlite3.OperationalError, OSError))
            raise RecordError(f"{self._path}: cannot be used: {error}"
                              + ("; move the file away and it is made anew" if damaged else "")) from error
        self._thread = threading.Thread(target=self._write_until_closed, name=self._path.stem, daemon=True)
        self._thread.start()
        return rows

    def commit(self, changes: Sequence[Change], done: Done) -> None:
        """See IRecords. `done` is called from the reactor's loop, or now when the file is closed or too much waits."""
        if self._thread is None:
            done("the store is closed")
        elif self._waiting.full:
            self._waiting.refused += 1
            done("the store is overloaded")
        else:
            self._asked += 1
            self._waiting[self._asked] = done
            self._queue.put((self._asked, changes))

    def close(self) -> None:
        """See IRecords."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _answer(self, numbers: list[int], reason: str) -> None:
        for number in numbers:
            done = self._waiting.pop(number)
            try:
                done(reason)
            except Exception:
                _log.failure("a bug: what waited for a record failed")

    def _open(self) -> sqlite3.Connection:
        # created by us first: SQLite would make the file readable for the group
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self._sync}")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > len(MIGRATIONS):
                raise RecordError(f"{self._path}: written by a newer sipd (schema {version}, this one knows "
                                  f"{len(MIGRATIONS)}): start that one, or move the file away")
            connection.execute("BEGIN IMMEDIATE")
            for step in range(version, len(MIGRATIONS)):
                connection.execute(MIGRATIONS[step])
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    # -- in the writer's thread

    def _write_until_closed(self) -> None:
        connection = self._connection
        assert connection is not None
        closing = False
        while not closing:
            item = self._queue.get()
            if item is not None:
                time.sleep(self._gather)
            group: list[tuple[int, Sequence[Change]]] = []
            while True:
                if item is None:
                    closing = True
                    break
                group.append(item)
                try:
                    item = self._queue.get_nowait()
                except Empty:
                    break
            if group:
                reason = ""
                try:
                    _write(connection, [change for _, changes in group for change in changes])
                except Exception as error:  # the border of the thread: the failure becomes each one's answer
                    reason = str(error) or type(error).__name__
                self._call_from_thread(self._answer, [number for number, _ in group], reason)
        connection.close()


def _write(connection: sqlite3.Connection, changes: list[Change]) -> None:
    """Commits all the changes or none."""
    # the last change of a record counts, so the order within the group no longer matters
    last = {(kind, key): text for kind, key, text in changes}
    puts = [(kind, key, text) for (kind, key), text in last.items() if text is not None]
    deletes = [key for key, text in last.items() if text is None]
    connection.execute("BEGIN IMMEDIATE")
    try:
        if deletes:
            connection.execute(_DELETE, (json.dumps(deletes),))
        if puts:
            connection.execute(_PUT, (json.dumps(puts),))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
