"""The user store: users who outlive the process, in one SQLite file of mode 0600.

Per user and algorithm it holds H(A1), never a password; H(A1) is worth the password inside its realm (RFC 7616 s5.4),
hence the mode. Loaded whole at start; written by rare commands of an administrator, synchronously. One process writes
at a time: the callers hold a lock over the state directory.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sipd.auth.credentials import opaque_string, secrets_for
from sipd.config_users import is_user_name

#: The version of the schema, kept in PRAGMA user_version; 0 is a new file.
SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE users (
    aor TEXT PRIMARY KEY,
    realm TEXT NOT NULL,
    display_name TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE secrets (
    aor TEXT NOT NULL REFERENCES users (aor) ON DELETE CASCADE,
    algorithm TEXT NOT NULL,
    login TEXT NOT NULL,
    ha1 TEXT NOT NULL,
    PRIMARY KEY (aor, algorithm, login)
) WITHOUT ROWID;
"""

#: Longest display name and password, in characters.
MAX_DISPLAY_NAME = 128
MAX_PASSWORD = 256


class UserStoreError(OSError):
    """The file cannot be read or written; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class StoredUser:
    """One user of the store. `secrets` maps (algorithm, login name) to H(A1)."""

    aor: str
    realm: str
    display_name: str
    secrets: dict[tuple[str, str], str] = field(repr=False)


class UserStore:
    """Users in `path`; `algorithms` are those a password is hashed with when it is set."""

    def __init__(self, path: Path | str, algorithms: Iterable[str] = ("MD5", "SHA-256")) -> None:
        self.path = Path(path)
        self._algorithms = tuple(algorithms)
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Opens the file, makes it when it is not there. Raises UserStoreError."""
        try:
            # the mode is set before anything is in it; -wal and -shm take it from the file
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            os.chmod(self.path, 0o600)
            connection = sqlite3.connect(self.path, timeout=1.0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise UserStoreError(f"{self.path}: {error}") from error
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA journal_mode = WAL")
            # a password set is a promise: it survives a power cut, and nobody waits for these rare writes
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("BEGIN IMMEDIATE")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise UserStoreError(
                    f"{self.path}: made by a later release (schema {version}, this one knows {SCHEMA_VERSION})")
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("COMMIT")
        except (sqlite3.Error, UnicodeDecodeError) as error:
            connection.close()
            raise UserStoreError(f"{self.path}: {error}") from error
        except UserStoreError:
            connection.close()
            raise
        self._connection = connection

    def close(self) -> None:
        """Closes the file; may be called twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def add(self, aor: str, realm: str, password: str, display_name: str = "") -> None:
        """A new user `name@domain`. Raises ValueError when it exists or a text is not allowed, and UserStoreError."""
        _check_name(aor)
        _check_text("password", opaque_string(password), 1, MAX_PASSWORD)
        _check_text("display name", display_name, 0, MAX_DISPLAY_NAME)
        statements: list[tuple[str, tuple[str, ...]]] = [
            ("INSERT INTO users VALUES (?, ?, ?)", (aor, realm, display_name)), *self._inserts(aor, realm, password)]
        try:
            self._write(statements)
        except sqlite3.IntegrityError:
            raise ValueError(f"{aor} exists already") from None

    def set_password(self, aor: str, realm: str, password: str) -> None:
        """Another password for a user. Raises LookupError when there is no such user, ValueError, UserStoreError."""
        _check_text("password", opaque_string(password), 1, MAX_PASSWORD)
        self._must_exist(aor)
        self._write([("UPDATE users SET realm = ? WHERE aor = ?", (realm, aor)),
                     ("DELETE FROM secrets WHERE aor = ?", (aor,)), *self._inserts(aor, realm, password)])

    def remove(self, aor: str) -> None:
        """Forgets a user. Raises LookupError when there is no such user, and UserStoreError."""
        self._must_exist(aor)
        self._write([("DELETE FROM users WHERE aor = ?", (aor,))])

    def users(self) -> list[StoredUser]:
        """Every user, by address-of-record. Raises UserStoreError."""
        try:
            rows = self._open().execute("SELECT aor, realm, display_name FROM users ORDER BY aor").fetchall()
            secrets: dict[str, dict[tuple[str, str], str]] = {}
            for aor, algorithm, login, ha1 in self._open().execute("SELECT aor, algorithm, login, ha1 FROM secrets"):
                secrets.setdefault(aor, {})[algorithm, login] = ha1
        except (sqlite3.Error, UnicodeDecodeError) as error:  # of a damaged file SQLite speaks in any octets
            raise UserStoreError(f"{self.path}: {error}") from error
        return [StoredUser(aor, realm, display_name, secrets.get(aor, {})) for aor, realm, display_name in rows]

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise UserStoreError(f"{self.path}: not open")
        return self._connection

    def _inserts(self, aor: str, realm: str, password: str) -> list[tuple[str, tuple[str, ...]]]:
        return [("INSERT INTO secrets VALUES (?, ?, ?, ?)", (aor, algorithm, login, secret))
                for (algorithm, login), secret in secrets_for(aor, realm, password, self._algorithms).items()]

    def _must_exist(self, aor: str) -> None:
        try:
            found = self._open().execute("SELECT 1 FROM users WHERE aor = ?", (aor,)).fetchone()
        except sqlite3.Error as error:
            raise UserStoreError(f"{self.path}: {error}") from error
        if found is None:
            raise LookupError(f"there is no user {aor}")

    def _write(self, statements: list[tuple[str, tuple[str, ...]]]) -> None:
        """All of the statements or none. Raises sqlite3.IntegrityError and UserStoreError."""
        connection = self._open()
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                for text, values in statements:
                    connection.execute(text, values)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise UserStoreError(f"{self.path}: {error}") from error


def _check_name(aor: str) -> None:
    """An address-of-record to be stored is `name@domain`."""
    name, at, domain = aor.rpartition("@")
    if not (name and at and domain):
        raise ValueError(f"{aor!r} is not of the form name@domain")
    if not is_user_name(name):
        raise ValueError(f"{aor!r}: a name has 1 to 128 characters and may not hold spaces, controls or a colon")
    # the domain may be an IPv6 address in brackets
    if len(domain) > 255 or not domain.isprintable() or not frozenset(' "\\<>@;,/?').isdisjoint(domain):
        raise ValueError(f"{aor!r}: {domain!r} is no domain")


def _check_text(what: str, text: str, least: int, most: int) -> None:
    if not least <= len(text) <= most:
        raise ValueError(f"a {what} has {least} to {most} characters")
    if not text.isprintable():
        raise ValueError(f"a {what} may not hold control characters")
