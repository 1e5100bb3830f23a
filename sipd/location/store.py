"""Where bindings survive the process: SQLite by group commit (`sipd/group_commit`).

A group is one multi-row statement wherever it can be: `executemany` over 50 rows took 140 ms under load where one
statement of 50 rows takes 6.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from zope.interface import implementer

from sipd.binding import Binding, Change
from sipd.group_commit import GroupCommit, together
from sipd.interfaces import ILocationStore
from sipd.inventory import Inventory
from sipd.message.hop import Hop

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


@implementer(ILocationStore)
class SqliteStore(GroupCommit[Change]):
    """Bindings in the file at `path`. `wall` tells seconds since the epoch, `limit` bounds the commits that wait; the
    rest is as GroupCommit has it."""

    def __init__(self, path: str | Path, call_from_thread: Callable[..., Any], wall: Callable[[], float],
                 inventory: Inventory, *, sync: str = "normal", limit: int = 50_000, gather: float = 0.002) -> None:
        super().__init__(path, MIGRATIONS, "location store", "let the phones register again", call_from_thread,
                         inventory.table("store queue", limit), sync, gather)
        self._wall = wall

    def load(self) -> Iterable[Binding]:
        """Opens the file, drops what has expired, returns the rest. Raises StoreError."""
        return self.start(self._read)

    def _read(self, connection: sqlite3.Connection) -> list[Binding]:
        connection.execute("DELETE FROM binding WHERE expires_at <= ?", (self._wall(),))
        return list(_bindings(connection.execute("SELECT * FROM binding")))

    def write(self, connection: sqlite3.Connection, changes: list[Change]) -> None:
        """See GroupCommit."""
        # the last change to a contact counts, so the order within the group no longer matters
        last = {(binding.aor, binding.contact): (kind, binding) for kind, binding in changes}
        puts = [_row(binding) for kind, binding in last.values() if kind == "put"]
        deletes = [(_column(binding.aor), _column(binding.contact))
                   for kind, binding in last.values() if kind == "delete"]
        together(connection, [*_statements(_DELETE, deletes), *_statements(_PUT, puts)])


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
