"""The log: lines for people, from Twisted's own events and from the journal, through one buffered writer.

A journal line costs a few microseconds, since a busy server writes several for each call. What comes from the network
never brings control characters into the log. A bug is one line that names the places it passed through; its whole
traceback follows in a log file, and never on a console.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from sipd.inventory import Inventory, Table
from sipd.journal import CATALOGUE

#: Seconds a line may wait in the buffer.
FLUSH_AFTER = 0.2
#: Bytes waiting that are written without further delay.
FLUSH_SIZE = 65536
#: Lines about one source in one WINDOW (seconds), of the kinds a stranger can cause.
LINES_PER_SOURCE, WINDOW = 5, 60.0
#: Sources counted at a time; beyond that a new one is only counted.
SOURCES = 2048
#: Characters of one line; the rest is cut.
LINE_LIMIT = 2000

#: Kinds of journal records that any stranger can cause at will.
_BY_STRANGERS = frozenset({"refused", "malformed", "connection-refused", "undelivered"})
#: Kinds written out at once.
_URGENT = frozenset({"bug", "store-failed", "message-store-failed", "listener-lost", "limit-reached"})
#: Libraries' information for their developers starts and stops objects; only these speak to the person at the log.
_TALKERS = ("sipd", "twisted.application", "twisted.scripts", "stdout", "stderr")


def clean(text: str) -> str:
    """`text` in one line: control characters, lone surrogates and direction marks become escapes, and it is cut at
    LINE_LIMIT characters."""
    if len(text) > LINE_LIMIT:
        text = text[:LINE_LIMIT] + "..."
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


class Writer:
    """Appends lines to a file or to an open stream, in bursts.

    Until `start` and after `stop` each line is written at once. A disk that is full loses lines, not the server: how
    many were lost is said as soon as writing works again.
    """

    def __init__(self, path: str = "", stream: BinaryIO | None = None, wall: Callable[[], float] = time.time) -> None:
        """`path` is a file to append to; without it the lines go to `stream`. `wall` gives seconds since the epoch.
        Raises OSError when the file cannot be opened."""
        self.path = path
        self._stream = stream
        self._file: BinaryIO | None = open(path, "ab", buffering=0) if path else None
        self._wall = wall
        self._clock: IReactorTime | None = None
        self._timer: IDelayedCall | None = None
        self._waiting: list[str] = []
        self._size = 0
        self._second = -1
        self._stamp = ""
        self._lost = 0

    def start(self, clock: IReactorTime) -> None:
        """From now on lines may wait in the buffer."""
        self._clock = clock

    def stop(self) -> None:
        """Writes what waits; from now on each line is written at once."""
        self._clock = None
        self.flush()

    def reopen(self) -> None:
        """Opens the file anew, after something has moved it away. Keeps the old one when that fails."""
        if self._file is None:
            return
        self.flush()
        try:
            fresh = open(self.path, "ab", buffering=0)
        except OSError as error:
            self.line(f"error: the log cannot be opened again: {error}", urgent=True)
            return
        self._file.close()
        self._file = fresh

    def line(self, text: str, *, urgent: bool = False) -> None:
        """Appends one line with the time in front of it. `text` holds no line breaks."""
        now = self._wall()
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%d %H:%M:%S.", time.localtime(second))
        self._waiting.append(f"{self._stamp}{int((now - second) * 1000):03d} {text}\n")
        self._size += len(text)
        if urgent or self._clock is None or self._size >= FLUSH_SIZE:
            self.flush()
        elif self._timer is None:
            self._timer = self._clock.callLater(FLUSH_AFTER, self.flush)

    def flush(self) -> None:
        """Writes what waits."""
        if self._timer is not None:
            if self._timer.active():
                self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return
        data = "".join(self._waiting).encode("utf-8", "backslashreplace")
        count = len(self._waiting)
        self._waiting.clear()
        self._size = 0
        if self._lost:
            data = b"(%d lines of the log were lost)\n" % self._lost + data
        try:
            if self._file is not None:
                written = self._file.write(data)
                if written is not None and written < len(data):
                    self._file.write(data[written:])
            elif self._stream is not None:
                self._stream.write(data)
                self._stream.flush()
            self._lost = 0
        except (OSError, ValueError):
            self._lost += count

    def tail(self, text: str) -> None:
        """Appends further lines that belong to the last one, indented, to a log file; not to a console."""
        if self._file is not None:
            self._waiting.append("".join(f"    {clean(line)}\n" for line in text.splitlines()))
            self.flush()


@implementer(ILogObserver)
class Observer:
    """Puts Twisted's events into the log: all warnings and errors, and what is said to people, not developers."""

    def __init__(self, writer: Writer, debug: bool = False) -> None:
        self.writer = writer
        self.debug = debug

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level", LogLevel.info)
        if not self.debug:
            if level is LogLevel.debug:
                return
            if level is LogLevel.info and not str(event.get("log_namespace", "")).startswith(_TALKERS):
                return
        try:
            failure = event.get("log_failure")
            text = formatEvent(event)
            if failure is not None:
                self._failed(text, failure)
                return
        except Exception as error:
            text = f"an event that cannot be formatted: {error!r}"
        if not text:
            return
        mark = {LogLevel.info: "", LogLevel.debug: "", LogLevel.warn: "warning: "}.get(level, "error: ")
        # Twisted explains at length, with a traceback, what it could not format.
        for line in text.splitlines()[: 1 if text.startswith(("MESSAGE LOST", "Unable to format")) else 20]:
            self.writer.line(clean(mark + line), urgent=bool(mark))

    def _failed(self, text: str, failure: Failure) -> None:
        head = text.splitlines()[0].rstrip(": ") if text else "failed"
        self.writer.line(clean(f"error: {head}: {summary(failure)}"), urgent=True)
        self.writer.tail(failure.getTraceback())


class Forwarder:
    """Hands journal lines to twisted.logger instead, where the person chose another log (--syslog, --logger)."""

    def __init__(self) -> None:
        self._log = Logger("sipd")

    def line(self, text: str, *, urgent: bool = False) -> None:
        """One line, as a warning when it is urgent."""
        self._log.emit(LogLevel.warn if urgent else LogLevel.info, "{text}", text=text)


def summary(failure: Failure) -> str:
    """A failure in one line: what it was and the innermost places it passed through, innermost first."""
    places = [f"{os.path.basename(file)}:{line} {name}" for name, file, line, *_ in failure.frames[-6:]]
    what = f"{failure.type.__name__ if failure.type else 'failure'}: {failure.getErrorMessage()}"
    return f"{what} (at {' < '.join(reversed(places))})" if places else what


class JournalLines:
    """The sink that writes journal records into the log as the sentences of the catalogue.

    What strangers can cause is limited to LINES_PER_SOURCE in a WINDOW for each source address; how many more there
    were is said at the window's end.
    """

    def __init__(self, writer: Writer | Forwarder, clock: IReactorTime, inventory: Inventory) -> None:
        self._writer = writer
        self._clock = clock
        self._counts: Table[str, int] = inventory.table("log sources", SOURCES)
        self._others = 0
        self._timer: IDelayedCall | None = None

    def __call__(self, kind: str, fields: dict[str, Any]) -> None:
        """One record: the signature of a journal sink."""
        if kind in _BY_STRANGERS and not self._admitted(str(fields.get("source", ""))):
            return
        try:
            text = CATALOGUE[kind].format_map(fields)
        except (KeyError, ValueError, IndexError, AttributeError):
            text = f"{kind}: {fields}"
        if len(text) > LINE_LIMIT or not text.isprintable():
            text = clean(text)
        self._writer.line(text, urgent=kind in _URGENT)

    def stop(self) -> None:
        """Says what was left out so far and ends the window."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._timer is not None:
            self._close_window()

    def _admitted(self, source: str) -> bool:
        address = host_of(source)
        counts = self._counts
        count = counts.get(address, 0) + 1
        if count == 1 and counts.full:
            counts.refused += 1
            self._others += 1
            return False
        if self._timer is None:
            self._timer = self._clock.callLater(WINDOW, self._close_window)
        counts[address] = count
        return count <= LINES_PER_SOURCE

    def _close_window(self) -> None:
        self._timer = None
        for address, count in self._counts.items():
            if count > LINES_PER_SOURCE:
                self._writer.line(clean(f"{count - LINES_PER_SOURCE} more like this from {address}"))
        if self._others:
            self._writer.line(f"{self._others} more like this from other addresses")
        self._counts.clear()
        self._others = 0


def host_of(source: str) -> str:
    """The address in `transport:address:port` or `address:port`, brackets kept; the text itself when it is neither."""
    if "[" not in source and (source.count(":") > 2 or source.startswith(":")):
        return source
    head, colon, port = source.rpartition(":")
    if not colon or not port.isdigit():
        return source
    transport, colon, rest = head.partition(":")
    return rest if colon and transport in ("udp", "tcp", "tls") else head
