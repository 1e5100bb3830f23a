"""The state directory: who may write it, and the small files in it.

One server at a time holds the lock; `sipctl` writes the user store itself only when nobody does.
"""

from __future__ import annotations

import fcntl
import os

#: File names in the state directory.
LOCK = "lock"
SOCKET = "sipctl.sock"
USERS = "users.sqlite"
BINDINGS = "bindings.sqlite"
MESSAGES = "messages.sqlite"
CDR = "cdr.jsonl"
LEDGER = "calls.ledger"
EVENTS = "events.sqlite"
FORWARDS = "forwards.json"
SECRET = "secret"
API_TOKEN = "api-token"
REALM = "realm"
DOMAIN = "domain"
FIRST_START = "first-start"
FIRST_USERS = "first-users.txt"
CERTIFICATE = "certificate.pem"
PRIVATE_KEY = "private_key.pem"


class StateError(Exception):
    """The state directory cannot be used; the text says why and what would help."""


def ensure(path: str, uid: int | None = None, gid: int | None = None) -> None:
    """Makes the state directory, readable by its owner alone, when it is missing, and gives it to `uid` and `gid`.

    Raises StateError when it cannot be made or written.
    """
    try:
        if not os.path.isdir(path):
            os.makedirs(path, mode=0o700)
            if uid is not None or gid is not None:
                os.chown(path, -1 if uid is None else uid, -1 if gid is None else gid)
        probe = os.path.join(path, f".probe-{os.getpid()}")
        os.close(os.open(probe, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        os.unlink(probe)
    except OSError as error:
        raise StateError(
            f"[server] state_dir = {path}: {error.strerror}; one this user may write is wanted (--state-dir DIR)"
        )


def read(directory: str, name: str) -> str:
    """The first line of a small file there, "" when there is none. Raises StateError when it cannot be read."""
    try:
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            return file.readline(1000).strip(" \t\r\n")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"{os.path.join(directory, name)}: {error}; a readable file is wanted")


def write(directory: str, name: str, content: bytes, mode: int = 0o600) -> str:
    """Writes a small file whole or not at all, and durably; returns its path. Raises StateError."""
    path = os.path.join(directory, name)
    scratch = f"{path}.new-{os.getpid()}"
    try:
        descriptor = os.open(scratch, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            give_to_owner(descriptor, directory)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(scratch, path)
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror}")
    return path


def give_to_owner(path: str | int, directory: str = "") -> None:
    """Lets root leave a file there that belongs to whom the directory belongs to: the server may be another user.
    `path` may be an open descriptor, which needs `directory`. Harmless for other users."""
    if os.geteuid() == 0:
        owner = os.stat(directory or os.path.dirname(str(path)))
        os.chown(path, owner.st_uid, owner.st_gid)


class StateLock:
    """The right to write a state directory, held by one process until it closes it or dies."""

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, LOCK)
        self._descriptor = -1

    def acquire(self) -> bool:
        """Takes the lock; False when another process holds it. Raises StateError when the file cannot be opened."""
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            give_to_owner(descriptor, os.path.dirname(self.path))
        except OSError as error:
            raise StateError(f"{self.path}: {error.strerror}")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def sign(self) -> None:
        """Leaves the holder's process id in the file, for people."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Lets the lock go; harmless when it is not held. The file stays: removing it would let two hold it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def holder(self) -> str:
        """The process id its holder left there, "" when unknown."""
        return read(os.path.dirname(self.path), LOCK)
