"""The stores: what was acknowledged is there again, whatever happens to the process."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import Any

from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

import sipd
from sipd.binding import Binding, Change
from sipd.group_commit import StoreError
from sipd.interfaces import ILocationStore
from sipd.inventory import Inventory
from sipd.location.store import MIGRATIONS, SqliteStore
from sipd.message.hop import Hop
from tests.location.bindings import binding


class SqliteStoreTest(TestCase):
    """The store on a real file, its thread real; answers are taken from a queue instead of a reactor."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.inventory = Inventory()
        self.answers: Queue[Callable[[], None]] = Queue()

    def open(self, **options: Any) -> SqliteStore:
        """A store on the file, at second 100."""
        store = SqliteStore(self.path, lambda call, *args: self.answers.put(lambda: call(*args)), lambda: 100.0,
                            self.inventory, **options)
        self.addCleanup(store.close)
        return store

    def commit(self, store: SqliteStore, *changes: Change) -> str:
        """Stores changes, waits, returns what `done` was told."""
        said: list[str] = []
        store.commit(list(changes), said.append)
        self.answers.get(timeout=10)()
        self.assertEqual(len(said), 1)
        return said[0]

    def reopened(self, store: SqliteStore) -> set[Binding]:
        """What a new start finds."""
        store.close()
        again = self.open()
        found = list(again.load())
        again.close()
        self.assertEqual(len(found), len(set(found)))
        return set(found)

    def test_interface(self) -> None:
        """It provides ILocationStore."""
        verifyObject(ILocationStore, self.open())

    def test_every_field_comes_back(self) -> None:
        """Each field of a binding survives, also bytes that are not UTF-8, quotes, IPv6 and several Path values."""
        store = self.open()
        self.assertEqual(list(store.load()), [])
        plain = binding()
        full = Binding("zo\u00eb@example.com", "sip:a'b@[2001:db8::1]:5061;transport=tcp?x=%22",
                       ';+sip.instance="<urn:1>"', 250, 1234.25, "id\udcff\udc80", 2**31 - 1,
                       ("<sip:p1;lr>", '"P, 2" <sip:p2;lr>'), "urn:1", 3, Hop("tls", "2001:db8::1", 5061), True,
                       "tls/abc", "[2001:db8::2]:5061", "caf\udce9", 99.5)
        bare = binding("bob", source=None)
        self.assertEqual(self.commit(store, ("put", plain), ("put", full), ("put", bare)), "")
        self.assertEqual(self.reopened(store), {plain, full, bare})

    def test_odd_text_can_be_removed(self) -> None:
        """A binding whose text is not UTF-8 is found again when it is deleted."""
        store = self.open()
        store.load()
        odd = binding(contact="sip:\udcff@192.0.2.7")
        self.commit(store, ("put", odd))
        self.commit(store, ("delete", odd))
        self.assertEqual(self.reopened(store), set())

    def test_put_and_delete(self) -> None:
        """A put replaces the row of its contact, a delete removes it, within one commit and over several."""
        store = self.open()
        store.load()
        one, other = binding(), binding(contact="sip:alice@192.0.2.8")
        self.commit(store, ("put", one), ("put", other))
        newer = binding(cseq=2)
        self.commit(store, ("delete", other), ("put", newer))
        self.commit(store, ("put", other), ("delete", other))
        self.assertEqual(self.reopened(store), {newer})

    def test_groups_of_every_size(self) -> None:
        """Groups that fill a statement, pass it, or need several are stored whole; so are their removals."""
        store = self.open()
        store.load()
        for size in (1, 2, 5, 255, 256, 257, 700):
            many = [binding(f"u{n}") for n in range(size)]
            self.assertEqual(self.commit(store, *(("put", each) for each in many)), "")
            self.assertEqual(self.rows(), size)
            self.assertEqual(self.commit(store, *(("delete", each) for each in many)), "")
            self.assertEqual(self.rows(), 0)

    def rows(self) -> int:
        """How many rows another program sees."""
        connection = sqlite3.connect(self.path)
        try:
            return int(connection.execute("SELECT count(*) FROM binding").fetchone()[0])
        finally:
            connection.close()

    def test_grouped(self) -> None:
        """A thousand changes asked for in one go need far fewer commits, and each is answered once, in order."""
        store = self.open(gather=0.05)
        store.load()
        said: list[tuple[int, str]] = []
        for n in range(1000):
            store.commit([("put", binding(f"u{n}"))], lambda reason, n=n: said.append((n, reason)))  # type: ignore[misc]
        groups = 0
        while len(said) < 1000:
            self.answers.get(timeout=10)()
            groups += 1
        self.assertLess(groups, 100)
        self.assertEqual(said, [(n, "") for n in range(1000)])
        self.assertEqual(self.inventory.left(), {})

    def test_expired_rows_are_dropped(self) -> None:
        """What expired while the server was down is neither told nor kept."""
        store = self.open()
        store.load()
        kept = binding(expires_at=100.5)
        self.commit(store, ("put", binding("bob", expires_at=100.0)), ("put", kept))
        self.assertEqual(self.reopened(store), {kept})
        self.assertEqual(self.rows(), 1)

    def test_file_mode(self) -> None:
        """Nobody but the owner may read the file or its log."""
        store = self.open()
        store.load()
        self.commit(store, ("put", binding()))
        for path in self.path.parent.glob(self.path.name + "*"):
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600, path)

    def test_schema_version(self) -> None:
        """The file says its schema version."""
        store = self.open()
        store.load()
        store.close()
        connection = sqlite3.connect(self.path)
        self.addCleanup(connection.close)
        self.assertEqual(connection.execute("PRAGMA user_version").fetchone()[0], len(MIGRATIONS))

    def test_newer_file(self) -> None:
        """A file of a newer sipd is refused with both versions, and stays as it was."""
        connection = sqlite3.connect(self.path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        error = self.assertRaises(StoreError, self.open().load)
        self.assertIn("schema 99", str(error))
        self.assertIn(str(self.path), str(error))

    def test_not_a_database(self) -> None:
        """Something else under that name, or no directory, is one readable error."""
        self.path.write_bytes(b"this is no database, really, not even nearly" * 100)
        self.assertIn("not a database", str(self.assertRaises(StoreError, self.open().load)))
        path, self.path = self.path, Path("/nonexistent/location.sqlite")
        self.assertIn("No such file", str(self.assertRaises(StoreError, self.open().load)))
        self.path = path

    def test_damaged(self) -> None:
        """Rows that no sipd wrote, and a schema of other octets, are one readable error that says what to do."""
        for damage in ("UPDATE binding SET source = 'junk'", "UPDATE binding SET cseq = 'x'",
                       "UPDATE binding SET expires_at = 'never'"):
            self.path.unlink(missing_ok=True)
            store = self.open()
            store.load()
            self.commit(store, ("put", binding()))
            store.close()
            connection = sqlite3.connect(self.path, isolation_level=None)
            connection.execute(damage)
            connection.close()
            error = self.assertRaises(StoreError, self.open().load)
            self.assertIn("damaged; move the file away", str(error), damage)
        store = self.open()
        self.path.write_bytes(self.path.read_bytes().replace(b"tablebindingbinding", b"tableb\xb3ndingbinding"))
        self.assertIn(str(self.path), str(self.assertRaises(StoreError, store.load)))

    def fill_disk(self, store: SqliteStore, full: bool) -> None:
        """Lets the file grow no more, as a full disk would; or lets it grow again."""
        connection = store._connection
        assert connection is not None
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages if full else 10**6}")

    def test_full_disk(self) -> None:
        """With the disk full every member of the group is told and nothing of it stored; later commits work again."""
        store = self.open(gather=0.05)
        store.load()
        self.assertEqual(self.commit(store, ("put", binding())), "")
        self.fill_disk(store, True)
        said: list[str] = []
        for n in range(300):
            store.commit([("put", binding(f"u{n}", params=";x=" + "y" * 500))], said.append)
        while len(said) < 300:
            self.answers.get(timeout=10)()
        self.assertEqual(set(said), {"database or disk is full"})
        self.assertEqual(self.rows(), 1)
        self.fill_disk(store, False)
        self.assertEqual(self.commit(store, ("put", binding("bob"))), "")
        self.assertEqual(self.reopened(store), {binding(), binding("bob")})

    def test_one_bad_member(self) -> None:
        """A change that SQLite cannot take fails alone; those it shared the group with are stored."""
        store = self.open(gather=0.05)
        store.load()
        said: dict[str, str] = {}
        for user, cseq in (("a", 1), ("b", 2**70), ("c", 3)):
            store.commit([("put", binding(user, cseq=cseq))],
                         lambda reason, user=user: said.update({user: reason}))  # type: ignore[misc]
        while len(said) < 3:
            self.answers.get(timeout=10)()
        self.assertEqual((said["a"], said["c"]), ("", ""))
        self.assertIn("too large", said["b"])
        self.assertEqual(self.reopened(store), {binding("a"), binding("c", cseq=3)})

    def test_overload(self) -> None:
        """A full queue refuses at once, and only what does not fit."""
        store = self.open(limit=2, gather=0.2)
        store.load()
        said: list[str] = []
        for n in range(3):
            store.commit([("put", binding(f"u{n}"))], said.append)
        self.assertEqual(said, ["the store is overloaded"])
        while len(said) < 3:
            self.answers.get(timeout=10)()
        self.assertEqual(said[1:], ["", ""])

    def test_close_writes_what_waits(self) -> None:
        """Changes asked for just before the end are in the file; those after it are refused."""
        store = self.open(gather=0.05)
        store.load()
        said: list[str] = []
        store.commit([("put", binding())], said.append)
        store.close()
        store.commit([("put", binding("bob"))], said.append)
        self.assertEqual(said, ["the store is closed"])
        self.assertEqual(self.reopened(store), {binding()})

    def test_bug_in_done(self) -> None:
        """An error in one who waited is logged and keeps nobody else from being told."""
        store = self.open(gather=0.05)
        store.load()
        said: list[str] = []
        store.commit([("put", binding())], lambda reason: said.append(1 / 0))  # type: ignore[arg-type]
        store.commit([("put", binding("bob"))], said.append)
        while not said:
            self.answers.get(timeout=10)()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_kill(self) -> None:
        """A process killed in the middle of writing loses nothing it had acknowledged, and no removal comes back."""
        process = subprocess.Popen([sys.executable, "-c", _VICTIM, str(self.path)], stdout=subprocess.PIPE, text=True,
                                   cwd=Path(sipd.__file__).parents[1])
        assert process.stdout is not None
        there: set[str] = set()
        touched: set[str] = set()
        for line in process.stdout:
            if not line.endswith("\n"):
                break  # cut off by the kill: never said
            kind, user, word = line.split()
            if word == "asked":
                # until it is acknowledged it may be either way
                touched.add(user)
            else:
                touched.discard(user)
                (there.add if kind == "put" else there.discard)(user)
            if len(there) > 3000 and not process.poll():
                process.kill()
        process.stdout.close()
        process.wait()
        self.assertEqual(process.returncode, -9)
        self.assertGreater(len(there), 3000)
        store = self.open()
        found = {each.aor.partition("@")[0] for each in store.load()}
        self.assertEqual(there - found - touched, set())
        self.assertEqual(found - there - touched, set())


#: Writes bindings and removes every third of them without end; says what it asks for, then what it is told.
_VICTIM = """
import sys
from queue import Queue
from sipd.inventory import Inventory
from sipd.location.store import SqliteStore
from tests.location.bindings import binding
answers = Queue()
store = SqliteStore(sys.argv[1], lambda call, *args: answers.put((call, args)), lambda: 100.0, Inventory())
store.load()
def ask(kind, user):
    print(kind, user, "asked", flush=True)
    store.commit([(kind, binding(user))], lambda reason: told(kind, user, reason))
def told(kind, user, reason):
    assert reason == "", reason
    print(kind, user, "stored", flush=True)
    if kind == "put" and int(user[1:]) % 3 == 0:
        ask("delete", user)
n = 0
while True:
    for _ in range(20):
        ask("put", f"u{n}")
        n += 1
    call, args = answers.get()
    call(*args)
"""
