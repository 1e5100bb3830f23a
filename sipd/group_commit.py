"""Group commit: a SQLite file that one thread writes, for what was promised and must be there after `kill -9`.

All changes that queued up while the last commit ran go into the next one. How they are written is the subclass's
affair: in few statements, however many changes, since sqlite3 gives the interpreter lock away at each, and a busy
reactor takes 5 ms to let it go again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from twisted.logger import Logger

from sipd.inventory import Table

_log = Logger()

Change = TypeVar("Change")
Read = TypeVar("Read")
#: Told "" when a change is durable, else why it is not.
Done = Callable[[str], None]


class StoreError(Exception):
    """A store cannot be opened; the text says which file, why, and what would help."""


class GroupCommit(ABC, Generic[Change]):
    """The file at `path` (created with mode 0600), which one server at a time may hold.

    `migrations` bring it from each schema version to the next; PRAGMA user_version counts the steps taken. `what` it is
    and the `remedy` after it was moved away are for people. `call_from_thread` is the reactor's; `waiting` bounds the
    commits that wait; `sync` "full" survives a power cut, "normal" the end of the process; `gather` is how long
    (seconds) the writer waits for others to join a group.
    """

    def __init__(self, path: str | Path, migrations: Sequence[str], what: str, remedy: str,
                 call_from_thread: Callable[..., Any], waiting: Table[int, Done], sync: str, gather: float) -> None:
        self._path = Path(path)
        self._migrations = migrations
        self._what = what
        self._remedy = remedy
        self._call_from_thread = call_from_thread
        self._waiting = waiting
        self._sync = "FULL" if sync == "full" else "NORMAL"
        self._gather = gather
        self._queue: SimpleQueue[tuple[int, Sequence[Change]] | None] = SimpleQueue()
        self._asked = 0
        self._connection: sqlite3.Connection | None = None
        self._thread: threading.Thread | None = None

    @abstractmethod
    def write(self, connection: sqlite3.Connection, changes: list[Change]) -> None:
        """Commits all the changes or none; called in the writer's thread."""

    # -- in the reactor's thread

    def start(self, read: Callable[[sqlite3.Connection], Read]) -> Read:
        """Opens the file and starts the writer; returns what `read` finds in it. Raises StoreError."""
        try:
            self._connection = self._open()
            found = read(self._connection)
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            # a damaged file holds anything, and SQLite's words about it need not even be UTF-8
            if self._connection is not None:
                self._connection.close()
            damaged = not isinstance(error, (sqlite3.OperationalError, OSError))
            remedy = f"; move the file away and {self._remedy}" if damaged else ""
            why = str(error) if isinstance(error, (sqlite3.Error, OSError)) else "it is damaged"
            raise StoreError(f"{self._path}: cannot be used as the {self._what}: {why}{remedy}") from error
        self._thread = threading.Thread(target=self._write_until_closed, name=self._what, daemon=True)
        self._thread.start()
        return found

    def commit(self, changes: Sequence[Change], done: Done) -> None:
        """Queues changes, to be made durable all or none, in the order asked; `done` is called from the reactor's loop,
        or now when the store is closed or full."""
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
        """Writes what is queued and closes the file; waits for the last commit."""
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
                _log.failure("a bug: what waited for the {what} failed", what=self._what)

    def _open(self) -> sqlite3.Connection:
        # created by us first: SQLite would make the file readable for the group
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self._sync}")
            version, known = connection.execute("PRAGMA user_version").fetchone()[0], len(self._migrations)
            if version > known:
                raise StoreError(f"{self._path}: written by a newer sipd (schema {version}, this one knows {known}): "
                                 f"start that one, or move the file away and {self._remedy}")
            connection.execute("BEGIN IMMEDIATE")
            for step in self._migrations[version:]:
                connection.execute(step)
            connection.execute(f"PRAGMA user_version = {known}")
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
                self._store(connection, group)
        connection.close()

    def _store(self, connection: sqlite3.Connection, group: list[tuple[int, Sequence[Change]]]) -> None:
        reason = ""
        try:
            self.write(connection, [change for _, changes in group for change in changes])
        except Exception as error:  # the border of the thread: the failure becomes each one's answer
            if not isinstance(error, sqlite3.OperationalError) and len(group) > 1:
                # not the disk: one member carries what SQLite cannot take, the others shall not suffer
                for member in group:
                    self._store(connection, [member])
                return
            reason = str(error) or type(error).__name__
        self._call_from_thread(self._answer, [number for number, _ in group], reason)


def together(connection: sqlite3.Connection, statements: Sequence[tuple[str, Sequence[Any]]]) -> None:
    """Executes statements with their values in one transaction."""
    if len(statements) == 1:
        connection.execute(*statements[0])
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for text, values in statements:
            connection.execute(text, values)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
