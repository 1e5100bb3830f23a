"""A file that lines are appended to, whole or not at all, so that a process that dies leaves what it wrote."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from sipd.journal import Journal

#: Seconds after which it is looked whether somebody has moved the file away.
_LOOK: Final = 5.0


class LineFile:
    """Appends lines to the file at `path`, made with mode 0600. A write that fails loses the line, is counted and told
    in the journal, and disturbs nobody; `seconds` is the clock's."""

    __slots__ = ("path", "size", "lost", "_descriptor", "_inode", "_failing", "_looked", "_seconds", "_journal")

    def __init__(self, path: str, seconds: Callable[[], float], journal: Journal) -> None:
        self.path = path
        #: Octets.
        self.size = 0
        #: Lines that could not be written.
        self.lost = 0
        self._descriptor = -1
        self._inode = 0
        self._failing = False
        self._looked = 0.0
        self._seconds = seconds
        self._journal = journal

    def open(self, empty: bool = False) -> None:
        """Opens it anew, `empty` without what was in it. A line that was torn is ended. Raises OSError."""
        self.close()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if empty else 0)
        self._descriptor = os.open(self.path, flags, 0o600)
        status = os.fstat(self._descriptor)
        self._inode, self.size = status.st_ino, status.st_size
        self._looked = self._seconds()
        if self.size and os.pread(self._descriptor, 1, self.size - 1) != b"\n":
            self.write(b"")

    def write(self, line: bytes) -> bool:
        """Appends a line; its end is added. False when it was lost."""
        now = self._seconds()
        if now - self._looked >= _LOOK:
            self._looked = now
            self._look()
        data = line + b"\n"
        reason = "it is not open"
        try:
            if self._descriptor >= 0:
                written = os.write(self._descriptor, data)
                if written == len(data):
                    self.size += written
                    if self._failing:
                        self._told(False, "")
                    return True
                # the beginning of a line is worse than none
                os.ftruncate(self._descriptor, self.size)
                reason = "no space left"
        except OSError as error:
            reason = error.strerror or str(error)
        self.lost += 1
        if not self._failing:
            self._told(True, reason)
        return False

    def _look(self) -> None:
        """Whether it is still the file of that name; opened again when it is not, or when it could not be opened."""
        try:
            if self._descriptor >= 0 and os.stat(self.path).st_ino == self._inode:
                return
        except OSError:
            pass
        try:
            self.open()
        except OSError:
            return

    def _told(self, failing: bool, reason: str) -> None:
        self._failing = failing
        if not self._journal.sinks:
            return
        if failing:
            self._journal.write("calls-unwritten", path=self.path, reason=reason)
        else:
            self._journal.write("calls-written", path=self.path, lost=self.lost)

    def close(self) -> None:
        """Closes it; what is written then is lost and counted."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
