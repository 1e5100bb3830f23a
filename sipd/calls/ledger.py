"""The ledger of open calls: answered calls are known again after the process has died.

Lines are appended: a JSON array for a call that was answered or has changed, its number alone when it is over. At the
start the file is read, a last line that was torn is left out, and it is written anew with what is open; also while the
server runs, a few calls at a time, when it has grown.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from json import JSONEncoder
from typing import TYPE_CHECKING, Any, Final

from sipd.calls.call import CONFIRMED, NEVER, TERMINATED, Call, CallDialog
from sipd.calls.lines import LineFile
from sipd.journal import Journal
from sipd.proxy.targets import Target
from sipd.wheel import TimerWheel

if TYPE_CHECKING:
    from sipd.calls.table import Calls

#: Octets from which the file is written anew, and how much more than what it had then.
_LARGE, _GROWN = 4 * 1024 * 1024, 4
#: Calls written at a time, and seconds between two times.
_AT_A_TIME, _PAUSE = 50, 0.02
#: Requests that may have passed since a call was written last: a CSeq of ours must be above theirs.
_UNSEEN: Final = 100

_encode: Final = JSONEncoder(separators=(",", ":")).encode


class Ledger:
    """Keeps the file at `path`."""

    def __init__(self, path: str, wheel: TimerWheel, seconds: Callable[[], float], journal: Journal) -> None:
        self.file = LineFile(path, seconds, journal)
        self._wheel = wheel
        self._seconds = seconds
        self._journal = journal
        #: The file that takes its place, while that is being written, and the calls it still lacks.
        self._next: LineFile | None = None
        self._left: Iterator[Call] = iter(())
        self._bound = _LARGE

    def load(self, calls: Calls) -> int:
        """Enters the calls that were open and opens the file; returns how many. Raises OSError."""
        open_: dict[int, list[Any]] = {}
        try:
            with open(self.file.path, "rb") as file:
                for line in file:
                    _read(line, open_)
        except FileNotFoundError:
            pass
        entered = [call for fields in open_.values() if (call := enter(calls, fields)) is not None]
        fresh = LineFile(f"{self.file.path}.new", self._seconds, self._journal)
        fresh.open(empty=True)
        for call in entered:
            fresh.write(line_of(call))
        self._take_place(fresh)
        return len(entered)

    def answered(self, call: Call) -> None:
        """A call was answered, or where its parties are has changed."""
        self._write(line_of(call))

    def ended(self, call: Call) -> None:
        """A call that was answered is over."""
        self._write(b"%d" % call.number)

    def close(self) -> None:
        """Closes the file."""
        self.file.close()
        if self._next is not None:
            self._next.close()

    def _write(self, line: bytes) -> None:
        self.file.write(line)
        if self._next is not None:
            self._next.write(line)

    def grown(self, calls: Calls) -> None:
        """Looks whether the file is to be written anew."""
        if self.file.size < self._bound or self._next is not None:
            return
        fresh = LineFile(f"{self.file.path}.new", self._seconds, self._journal)
        try:
            fresh.open(empty=True)
        except OSError:
            self._bound = self.file.size + _LARGE
            return
        self._next = fresh
        self._left = iter([call for call in calls.live() if call.was_answered])
        self._go_on(None)

    def _go_on(self, nothing: None) -> None:
        fresh = self._next
        if fresh is None:
            return
        for _ in range(_AT_A_TIME):
            call = next(self._left, None)
            if call is None:
                self._next = None
                if fresh.lost:
                    fresh.close()
                    self._bound = self.file.size + _LARGE
                else:
                    self._take_place(fresh)
                return
            if call.state != TERMINATED:
                fresh.write(line_of(call))
        self._wheel.start(_PAUSE, self._go_on, None)

    def _take_place(self, fresh: LineFile) -> None:
        path = self.file.path
        try:
            os.replace(fresh.path, path)
        except OSError:
            fresh.close()
            self._bound = self.file.size + _LARGE
            return
        self.file.close()
        fresh.path = path
        self.file = fresh
        self._bound = max(_LARGE, _GROWN * fresh.size)


def line_of(call: Call) -> bytes:
    """A call as a line. Times are seconds since the epoch."""
    return _encode([
        call.number, call.call_id, call.tag, call.caller, call.called, call.from_, call.to, call.uri, call.contact,
        call.source, call.user_agent, call.cseq, call.wall, call.at(call.answered), call.status, call.phrase,
        call.answerer, call.branches, [
            [dialog.tag, dialog.to, dialog.contact, dialog.record_routes, dialog.cseq, dialog.interval,
             call.at(dialog.expires) if dialog.interval else 0, dialog.refresher,
             dialog.target.uri if dialog.target is not None else "", dialog.peer]
            for dialog in call.dialogs if dialog.state == CONFIRMED]]).encode("ascii")


def _read(line: bytes, calls: dict[int, list[Any]]) -> None:
    """One line; one that was torn says nothing."""
    if not line.endswith(b"\n"):
        return
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return
    if isinstance(value, int):
        calls.pop(value, None)
    elif isinstance(value, list) and value and isinstance(value[0], int):
        calls[value[0]] = value


def enter(calls: Calls, fields: list[Any]) -> Call | None:
    """A call as it was written, in the table again; None when it cannot be."""
    try:
        (number, call_id, tag, caller, called, from_, to, uri, contact, source, user_agent, cseq, wall, answered,
         status, phrase, answerer, branches, dialogs) = fields
        offset = calls.seconds() - calls.wall()
        call = Call(calls, number, call_id, tag)
        call.caller, call.called, call.from_, call.to, call.uri = caller, called, from_, to, uri
        call.contact, call.source, call.user_agent, call.cseq = contact, source, user_agent, cseq + _UNSEEN
        call.wall, call.started, call.answered = wall, wall + offset, answered + offset
        call.status, call.phrase, call.answerer, call.branches = status, phrase, answerer, branches
        call.state = CONFIRMED
        for of, to_, at, routes, number_, interval, expires, refresher, target, peer in dialogs:
            dialog = CallDialog(of, Target(target, peer=peer))
            dialog.state, dialog.answered = CONFIRMED, True
            dialog.to, dialog.contact, dialog.record_routes, dialog.cseq = to_, at, routes, number_ + _UNSEEN
            dialog.interval, dialog.refresher = interval, refresher
            dialog.expires = expires + offset if interval else NEVER
            call.dialogs.append(dialog)
        return call if call.dialogs and calls.resume(call) else None
    except (ValueError, TypeError, AttributeError):
        return None
