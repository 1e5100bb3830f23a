"""Where bindings survive the process: SQLite, written by one thread in grouped commits; or nothing but memory.

All changes that queued up while the last commit ran go into the next one. A group is one multi-row statement wherever
it can be: sqlite3 gives the interpreter lock away at each statement, and a busy reactor takes 5 ms to let it go again,
so `executemany` over 50 rows took 140 ms under load where one statement of 50 rows takes 6.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from sipd.binding import Binding, Change
from sipd.interfaces import ILocationStore
from sipd.inventory import Inventory, Table
from sipd.message.hop import Hop

_log = Logger()

#: What brings a file from each schema version to the next; PRAGMA user_version counts the steps taken.
MIGRATIONS = (
    """
    CREATE TABLE binding (
        aor TEXT NOT NULL, contact TEXT NOT NULL, params TEXT NOT NULL, q INTEGER NOT NULL, expires_at REAL NOT NULL,
        call_id TEXT NOT NULL, cseq INTEGER NOT NULL, path TEXT NOT NULL, instance TEXT NOT NULL,
        reg_id INTEGER NOT NULL, source TEXT NOT NULL, nat INTEGER NOT NULL, flow TEXT NOT NULL, listener TEXT NOT NULL,
        user_agent TEXT NOT NULL, registered_at REAL NOT NULL,
        PRIMARY KEY (aor, contact)
    ) WITHOUT ROWID
    """,
)

_COLUMNS = 16
#: Rows a statement may carry. A group takes the next larger size, filled up by repeating its last row, which changes
#: nothing: few texts, so that each is compiled once.
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_MOST = _SIZES[-1]
_ROW = "(" + ",".join("?" * _COLUMNS) + ")"
_PUT = {size: "INSERT OR REPLACE INTO binding VALUES " + ",".join([_ROW] * size) for size in _SIZES}
_DELETE = {size: "DELETE FROM binding WHERE (aor, contact) IN (VALUES " + ",".join(["(?,?)"] * size) + ")"
           for size in _SIZES}

Done = Callable[[str], None]


class StoreError(Exception):
    """The store cannot be opened; the text says which file, why, and what would help."""


@implementer(ILocationStore)
class MemoryStore:
    """No store: bindings end with the process."""

    def load(self) -> Iterable[Binding]:
        """Nothing was kept."""
        return ()

    def commit(self, changes: list[Change], done: Done) -> None:
        """Is done at once."""
        done("")

    def close(self) -> None:
        """Nothing to close."""


@implementer(ILocationStore)
class SqliteStore:
    """Bindings in the file at `path` (created with mode 0600), which one server at a time may hold.

    `call_from_thread` is the reactor's; `wall` tells seconds since the epoch; `limit` bounds the changes that wait;
    `sync` "full" survives a power cut, "normal" the end of the process; `gather` is how long (seconds) the writer waits
    for others to join a group. The thread starts with `load`.
    """

    def __init__(self, path: str | Path, call_from_thread: Callable[..., Any], wall: Callable[[], float],
                 inventory: Inventory, *, sync: str = "normal", limit: int = 50_000, gather: float = 0.002) -> None:
        self._path = Path(path)
        self._call_from_thread = call_from_thread
        self._wall = wall
        self._sync = "FULL" if sync == "full" else "NORMAL"
        self._gather = gather
        self._waiting: Table[int, Done] = inventory.table("store queue", limit)
        self._queue: SimpleQueue[tuple[int, list[Change]] | None] = SimpleQueue()
        self._asked = 0
        self._connection: sqlite3.Connection | None = None
        self._thread: threading.Thread | None = None

    # -- in the reactor's thread

    def load(self) -> Iterable[Binding]:
        """Opens the file, drops what has expired, starts the writer, returns the rest. Raises StoreError."""
        try:
            self._connection = self._open()
            self._connection.execute("DELETE FROM binding WHERE expires_at <= ?", (self._wall(),))
            bindings = list(_bindings(self._connection.execute("SELECT * FROM binding")))
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            # a damaged file holds anything, and SQLite's words about it need not even be UTF-8
            if self._connection is not None:
                self._connection.close()
            damaged = not isinstance(error, (sqlite3.OperationalError, OSError))
            remedy = "; move the file away and let the phones register again" if damaged else ""
            why = str(error) if isinstance(error, (sqlite3.Error, OSError)) else "it is damaged"
            raise StoreError(f"{self._path}: cannot be used as the location store: {why}{remedy}") from error
        self._thread = threading.Thread(target=self._write_until_closed, name="location store", daemon=True)
        self._thread.start()
        return bindings

    def commit(self, changes: list[Change], done: Done) -> None:
        """Queues changes; `done` is called from the reactor's loop, or now when the store is closed or full."""
        if self._thread is None:
            done("the store is closed")
        elif len(self._waiting) >= self._waiting.limit:
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

    def _answer(self, group: list[tuple[int, list[Change]]], reason: str) -> None:
        for number, _ in group:
            done = self._waiting.pop(number)
            try:
                done(reason)
            except Exception:
                _log.failure("a bug: what waited for the location store failed")

    def _open(self) -> sqlite3.Connection:
        # created by us first: SQLite would make the file readable for the group
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False,
                                     cached_statements=4 * len(_SIZES))
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self._sync}")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > len(MIGRATIONS):
                raise StoreError(
                    f"{self._path}: written by a newer sipd (schema {version}, this one knows {len(MIGRATIONS)}): "
                    "start that one, or move the file away and let the phones register again")
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
            group: list[tuple[int, list[Change]]] = []
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

    def _store(self, connection: sqlite3.Connection, group: list[tuple[int, list[Change]]]) -> None:
        reason = ""
        try:
            _write(connection, [change for _, changes in group for change in changes])
        except Exception as error:
            if not isinstance(error, sqlite3.OperationalError) and len(group) > 1:
                # not the disk: one member carries what SQLite cannot take, the others shall not suffer
                for member in group:
                    self._store(connection, [member])
                return
            reason = str(error) or type(error).__name__
        self._call_from_thread(self._answer, group, reason)


def _write(connection: sqlite3.Connection, changes: list[Change]) -> None:
    """Commits all the changes or none."""
    # the last change to a contact counts, so the order within the group no longer matters
    last = {(binding.aor, binding.contact): (kind, binding) for kind, binding in changes}
    puts = [_row(binding) for kind, binding in last.values() if kind == "put"]
    deletes = [(_column(binding.aor), _column(binding.contact)) for kind, binding in last.values() if kind == "delete"]
    statements = [*_statements(_DELETE, deletes), *_statements(_PUT, puts)]
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


def _statements(texts: dict[int, str], rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, list[Any]]]:
    for start in range(0, len(rows), _MOST):
        part = rows[start:start + _MOST]
        size = next(size for size in _SIZES if size >= len(part))
        values: list[Any] = []
        for row in part:
            values += row
        values += part[-1] * (size - len(part))
        yield texts[size], values


def _column(value: Any) -> Any:
    """Text that holds bytes which are not UTF-8 becomes a blob: SQLite takes it no other way."""
    if type(value) is str and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "surrogateescape")
    return value


def _row(binding: Binding) -> tuple[Any, ...]:
    # values of a header cannot hold a line feed; nothing in a hop holds a space
    path = "\n".join(binding.path)
    hop = binding.source
    source = "" if hop is None else f"{hop.transport} {hop.address} {hop.port}"
    row = (binding.aor, binding.contact, binding.params, binding.q, binding.expires_at, binding.call_id, binding.cseq,
           path, binding.instance, binding.reg_id, source, binding.nat, binding.flow, binding.listener,
           binding.user_agent, binding.registered_at)
    text = f"{row[0]}{row[1]}{row[2]}{row[5]}{path}{row[8]}{binding.user_agent}"
    return row if text.isascii() else tuple(map(_column, row))


def _bindings(rows: Iterable[tuple[Any, ...]]) -> Iterator[Binding]:
    """Bindings from rows; texts that many of them have in common are kept once."""
    shared: dict[str, str] = {}
    paths: dict[str, tuple[str, ...]] = {"": ()}
    for row in rows:
        if bytes in map(type, row):
            row = tuple(item.decode("utf-8", "surrogateescape") if type(item) is bytes else item for item in row)
        aor, contact, params, q, expires_at, call_id, cseq, path, instance, reg_id = row[:10]
        source, nat, flow, listener, user_agent, registered_at = row[10:]
        if path not in paths:
            paths[path] = tuple(path.split("\n"))
        hop = None
        if source:
            transport, address, port = source.split(" ")
            hop = Hop(shared.setdefault(transport, transport), address, int(port))
        yield Binding(aor, contact, params, int(q), float(expires_at), call_id, int(cseq), paths[path], instance,
                      int(reg_id), hop, bool(nat), flow, shared.setdefault(listener, listener),
                      shared.setdefault(user_agent, user_agent), float(registered_at))
