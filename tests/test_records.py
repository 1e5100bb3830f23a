"""Records: what was acknowledged is there after a kill; groups, failures, files of others."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from sipd.group_commit import StoreError
from sipd.inventory import Inventory
from sipd.records import Change, MemoryRecords, SqliteRecords

_ODD = json.dumps({"text": "caf\u00e9 \udcff \"'\\", "n": 1})


class SqliteTests(TestCase):
    """A file, a thread, this reactor."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.inventory = Inventory()

    def store(self, **settings: Any) -> SqliteRecords:
        """A store on the file."""
        store = SqliteRecords(self.path, reactor.callFromThread, self.inventory, **settings)  # type: ignore[attr-defined]
        self.addCleanup(store.close)
        return store

    @staticmethod
    def commit(store: SqliteRecords, *changes: Change) -> Deferred[str]:
        """Fires with what `done` was told."""
        answered: Deferred[str] = Deferred()
        store.commit(changes, answered.callback)
        return answered

    async def test_kept(self) -> None:
        """What was put is there for the next one, octets that are no UTF-8 too; what was deleted is not."""
        store = self.store()
        self.assertEqual(store.load(), [])
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)
        answers = [self.commit(store, ("a", "1", _ODD), ("b", "1", "{}")), self.commit(store, ("a", "2", "[]")),
                   self.commit(store, ("b", "1", None)), self.commit(store, ("a", "2", "[2]"))]
        self.assertEqual([await answer for answer in answers], [""] * 4)
        self.assertEqual(self.inventory.left(), {})
        other = self.store()  # while the first still has it: as after a kill
        self.assertEqual(sorted(other.load()), [("a", "1", _ODD), ("a", "2", "[2]")])
        self.assertEqual(json.loads(_ODD)["text"], json.loads(other._connection.execute(  # type: ignore[union-attr]
            "SELECT value FROM record WHERE key = '1'").fetchone()[0])["text"])

    async def test_close_writes(self) -> None:
        """What waits when the store is closed is written first, and whoever comes later is told."""
        store = self.store(gather=0.05)
        store.load()
        last = self.commit(store, ("a", "1", "{}"))
        store.close()
        self.assertEqual(await last, "")
        self.assertEqual(await self.commit(store, ("a", "2", "{}")), "the store is closed")
        self.assertEqual(self.store().load(), [("a", "1", "{}")])

    async def test_failures(self) -> None:
        """A full queue and a disk that fails are told to the one who waits; the next commit may work again."""
        store = self.store(limit=1, gather=0.02)
        store.load()
        first = self.commit(store, ("a", "1", "{}"))
        self.assertEqual(await self.commit(store, ("a", "2", "{}")), "the store is overloaded")
        self.assertEqual(await first, "")
        with sqlite3.connect(self.path) as other:
            other.execute("DROP TABLE record")
        self.assertIn("no such table", await self.commit(store, ("a", "3", "{}")))
        with sqlite3.connect(self.path) as other:
            other.execute("CREATE TABLE record (kind, key, value, PRIMARY KEY (kind, key))")
        self.assertEqual(await self.commit(store, ("a", "4", "{}")), "")

    async def test_bug_of_one(self) -> None:
        """One whose `done` raises does not keep the others from being told."""
        store = self.store(gather=0.02)
        store.load()
        store.commit([("a", "1", "{}")], lambda reason: 1 / 0)  # type: ignore[arg-type, return-value]
        self.assertEqual(await self.commit(store, ("a", "2", "{}")), "")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_files_of_others(self) -> None:
        """A newer file, and one that is none, are refused with a text for people."""
        with sqlite3.connect(self.path) as other:
            other.execute("PRAGMA user_version = 99")
        self.assertIn("newer sipd", str(self.assertRaises(StoreError, self.store().load)))
        self.path.write_bytes(b"no database" * 1000)
        self.assertIn("move the file away", str(self.assertRaises(StoreError, self.store().load)))
        self.path.unlink()
        self.path.mkdir()
        self.assertRaises(StoreError, self.store().load)

    async def test_many_at_once(self) -> None:
        """A thousand changes are a handful of commits."""
        store = self.store(gather=0.05)
        store.load()
        begun = time.monotonic()
        answers = [self.commit(store, ("a", str(number), "{}")) for number in range(1000)]
        self.assertEqual({await answer for answer in answers}, {""})
        self.assertLess(time.monotonic() - begun, 5.0)
        await deferLater(reactor, 0.0, lambda: None)  # type: ignore[arg-type]
        store.close()
        self.assertEqual(len(self.store().load()), 1000)


class MemoryTests(TestCase):
    """Nothing but a dict."""

    def test_kept(self) -> None:
        """It forgets with its dict, which may be handed on."""
        store = MemoryRecords()
        told: list[str] = []
        store.commit([("a", "1", "{}"), ("a", "2", "{}")], told.append)
        store.commit([("a", "1", None), ("a", "3", None)], told.append)
        store.close()
        self.assertEqual((MemoryRecords(store.kept).load(), told, MemoryRecords().load()), ([("a", "2", "{}")], ["", ""], []))
