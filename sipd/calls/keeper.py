"""What is written down of calls: their records, and the ledger of those that are open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipd.calls.call import Call
from sipd.calls.cdr import Cdr
from sipd.calls.ledger import Ledger
from sipd.state import StateError

if TYPE_CHECKING:
    from sipd.calls.table import Calls


@dataclass(frozen=True, slots=True)
class KeptFiles:
    """The files, "" for none: records with their size (octets) and number, and the ledger."""

    cdr: str = ""
    rotate: int = 104_857_600
    keep: int = 10
    ledger: str = ""


class Keeper:
    """Writes down what the call table tells. Only the records can be set to another file later."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._files = KeptFiles()
        self.cdr: Cdr | None = None
        self.ledger: Ledger | None = None

    def open(self, files: KeptFiles) -> int:
        """Opens the files; returns how many calls were open when the last process ended. Raises StateError."""
        calls = self._calls
        try:
            self._open_cdr(files)
        except OSError as error:
            raise StateError(f"[cdr] path = {files.cdr}: {error.strerror}; a file this user may write is wanted")
        calls.keeper = self
        if not files.ledger:
            return 0
        ledger = self.ledger = Ledger(files.ledger, calls.wheel, calls.seconds, calls.journal)
        try:
            return ledger.load(calls)
        except OSError as error:
            raise StateError(f"{files.ledger}: {error.strerror}; a file this user may write is wanted")

    def configure(self, files: KeptFiles) -> None:
        """Other settings of the records. A file that cannot be opened is told in the journal, and the old one stays."""
        before = self._files
        if (files.cdr, files.rotate, files.keep) == (before.cdr, before.rotate, before.keep):
            return
        journal = self._calls.journal
        try:
            self._open_cdr(files)
        except OSError as error:
            if journal.sinks:
                journal.write("calls-unwritten", path=files.cdr, reason=error.strerror or str(error))

    def _open_cdr(self, files: KeptFiles) -> None:
        cdr: Cdr | None = None
        if files.cdr:
            cdr = Cdr(files.cdr, files.rotate, files.keep, self._calls.seconds, self._calls.journal)
            cdr.open()
        if self.cdr is not None:
            self.cdr.close()
        self.cdr, self._files = cdr, files

    def answered(self, call: Call) -> None:
        """A call was answered, or its dialogs have changed."""
        ledger = self.ledger
        if ledger is not None:
            ledger.answered(call)
            ledger.grown(self._calls)

    def ended(self, call: Call) -> None:
        """A call is over. Its record is written first: whoever dies in between writes it twice, never not at all."""
        if self.cdr is not None:
            self.cdr.write(call)
        if self.ledger is not None and call.was_answered:
            self.ledger.ended(call)

    def close(self) -> None:
        """Closes the files."""
        if self.cdr is not None:
            self.cdr.close()
        if self.ledger is not None:
            self.ledger.close()
