"""The user store, in real files: what was added is there after the next open, and never a password."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

from twisted.trial.unittest import TestCase

from sipd.auth.credentials import secrets_for
from sipd.auth.user_store import SCHEMA_VERSION, UserStore, UserStoreError
from tests.support.cases import shows

REALM = "example.com"


class UserStoreTest(TestCase):
    """One store, opened, in a directory of its own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "users.sqlite"
        self.store = self.opened()

    def opened(self) -> UserStore:
        store = UserStore(self.path)
        store.open()
        self.addCleanup(store.close)
        return store

    def test_add_survives(self) -> None:
        """A user added is found after another open, with a secret per algorithm and login name."""
        self.store.add("1001@example.com", REALM, "s3cret-word", "Réception")
        self.store.close()
        (user,) = self.opened().users()
        self.assertEqual((user.aor, user.realm, user.display_name), ("1001@example.com", REALM, "Réception"))
        self.assertEqual(user.secrets, secrets_for("1001@example.com", REALM, "s3cret-word", ("MD5", "SHA-256")))

    @shows("R7616-4-02")
    def test_names_of_any_script(self) -> None:
        """A name of letters of any script, and of any mark but the colon, is kept as it is."""
        for name in ("j\u00e4s\u00f8n", "\u0438\u0432\u0430\u043d", "\u0645\u06cc\u200c\u062e", "@!\"#$%&'()*+,-./;<=>?[\\]^_`{|}~@"):
            self.store.add(f"{name}@example.com", REALM, "x")
            self.assertIn(f"{name}@example.com", [user.aor for user in self.store.users()])
            self.store.remove(f"{name}@example.com")

    @shows("R7616-4-03")
    def test_passwords_of_any_script(self) -> None:
        """A password with spaces of other widths and decomposed accents is the one with plain and composed ones."""
        aor = "1001@example.com"
        self.store.add(aor, REALM, "a\u0301 \u00a0\u3000\U0001f511")
        wanted = secrets_for(aor, REALM, "\u00e1   \U0001f511", ("MD5", "SHA-256"))
        self.assertEqual(self.store.users()[0].secrets, wanted)
        self.store.set_password(aor, REALM, "\u1680x")
        self.assertEqual(self.store.users()[0].secrets, secrets_for(aor, REALM, " x", ("MD5", "SHA-256")))

    def test_no_password_at_rest(self) -> None:
        """The password is in none of the files, while open and after."""
        self.store.add("1001@example.com", REALM, "s3cret-word")
        self.store.set_password("1001@example.com", REALM, "an0ther-word")
        for _ in range(2):
            text = b"".join(path.read_bytes() for path in self.directory.iterdir())
            self.assertIn(b"1001@example.com", text)
            self.assertNotIn(b"s3cret-word", text)
            self.assertNotIn(b"an0ther-word", text)
            self.store.close()

    def test_mode(self) -> None:
        """Every file of it can be read by its owner only, whatever the umask, also one that was open to all."""
        self.store.close()
        self.path.chmod(0o644)
        previous = os.umask(0)
        self.addCleanup(os.umask, previous)
        self.opened().add("1001@example.com", REALM, "x")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in self.directory.iterdir()}
        self.assertEqual(set(modes.values()), {0o600}, modes)

    def test_twice(self) -> None:
        """Adding a user who exists is refused and changes nothing."""
        self.store.add("1001@example.com", REALM, "one")
        before = self.store.users()
        with self.assertRaisesRegex(ValueError, "exists already"):
            self.store.add("1001@example.com", REALM, "two")
        self.assertEqual(self.store.users(), before)

    def test_set_password(self) -> None:
        """Another password replaces every secret of that user and of no other; the display name stays."""
        self.store.add("1001@example.com", REALM, "one", "D")
        self.store.add("1002@example.com", REALM, "one")
        other = self.store.users()[1]
        self.store.set_password("1001@example.com", "new.example", "two")
        user, untouched = self.store.users()
        self.assertEqual(user.secrets, secrets_for("1001@example.com", "new.example", "two", ("MD5", "SHA-256")))
        self.assertEqual((user.realm, user.display_name, untouched), ("new.example", "D", other))

    def test_remove(self) -> None:
        """A removed user is gone with all secrets; the name may be used again."""
        self.store.add("1001@example.com", REALM, "one")
        self.store.remove("1001@example.com")
        self.assertEqual(self.store.users(), [])
        rows = sqlite3.connect(self.path)
        self.addCleanup(rows.close)
        self.assertEqual(rows.execute("SELECT count(*) FROM secrets").fetchone(), (0,))
        self.store.add("1001@example.com", REALM, "two")

    def test_nobody(self) -> None:
        """Commands for a user who is not there are refused."""
        with self.assertRaisesRegex(LookupError, "no user"):
            self.store.remove("1001@example.com")
        with self.assertRaisesRegex(LookupError, "no user"):
            self.store.set_password("1001@example.com", REALM, "x")

    def test_texts(self) -> None:
        """Names, passwords and display names that could break a message, a log or a line are refused."""
        for aor in ("1001", "@example.com", "1001@", "10 01@example.com", "10\n01@example.com", "1001@exa<mple.com",
                    "a\u2028b@example.com", "a\u3000b@example.com", "a:b@example.com", "1001@exa mple.com",
                    "\0@example.com", "a" * 129 + "@example.com", "\udce9@example.com", "1001@" + "a" * 256):
            with self.assertRaises(ValueError, msg=aor):
                self.store.add(aor, REALM, "secret")
        for password, display_name in (("", ""), ("a\nb", ""), ("x" * 257, ""), ("x", "a\rb"), ("x", "x" * 129)):
            with self.assertRaises(ValueError):
                self.store.add("1001@example.com", REALM, password, display_name)
        self.assertEqual(self.store.users(), [])
        self.store.add("j.o'brien+desk@[2001:db8::1]", REALM, "x" * 256, "x" * 128)

    def test_later_schema(self) -> None:
        """A file of a later release is not touched."""
        self.store.close()
        with sqlite3.connect(self.path) as connection:
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        connection.close()
        with self.assertRaisesRegex(UserStoreError, "later release"):
            UserStore(self.path).open()

    def test_not_a_database(self) -> None:
        """A file that is something else, and a place that cannot be written, are told by name."""
        self.store.close()
        other = self.directory / "other"
        other.write_bytes(b"not a database, whatever it is called " * 100)
        for path in (other, self.directory / "none" / "users.sqlite", self.directory):
            with self.assertRaisesRegex(UserStoreError, str(path)):
                UserStore(path).open()
        self.path.write_bytes(self.path.read_bytes().replace(b"tableusersusers", b"tableus\xb3rsusers"))
        with self.assertRaisesRegex(UserStoreError, str(self.path)):
            damaged = UserStore(self.path)
            damaged.open()
            damaged.users()

    def test_closed(self) -> None:
        """A closed store says so; closing twice is fine."""
        self.store.close()
        self.store.close()
        with self.assertRaisesRegex(UserStoreError, "not open"):
            self.store.users()
