"""One line of JSON for each call that is over (CDR), answered or not: docs/operations.md has the fields."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from json import JSONEncoder
from typing import Any, Final

from sipd.calls.call import BYE, CANCELLED, FAILED, GONE, MAX_DURATION, PICKED, SESSION_TIMER, UNSEEN, Call, address_of
from sipd.calls.lines import LineFile
from sipd.journal import Journal

_encode: Final = JSONEncoder(separators=(",", ":")).encode

#: Why an answered call ended, in words.
REASONS: Final = {BYE: "hung up", GONE: "one side was gone", SESSION_TIMER: "nobody refreshed the session timer",
           MAX_DURATION: "it lasted too long", UNSEEN: "it went on without Record-Route",
           CANCELLED: "the caller gave up", PICKED: "it picked up another call", FAILED: ""}


class Cdr:
    """Writes call records to the file at `path`. At `rotate` octets it becomes path.1, and of those `keep` are kept."""

    def __init__(self, path: str, rotate: int, keep: int, seconds: Callable[[], float], journal: Journal) -> None:
        self.rotate = rotate
        self.keep = keep
        self.file = LineFile(path, seconds, journal)

    def open(self) -> None:
        """Opens the file. Raises OSError."""
        self.file.open()

    def close(self) -> None:
        """Closes it."""
        self.file.close()

    def write(self, call: Call) -> None:
        """The record of a call that is over."""
        self.file.write(_encode(record(call)).encode("ascii"))
        if self.file.size >= self.rotate:
            self._rotate()

    def _rotate(self) -> None:
        path = self.file.path
        try:
            for number in range(self.keep, 1, -1):
                if os.path.exists(f"{path}.{number - 1}"):
                    os.replace(f"{path}.{number - 1}", f"{path}.{number}")
            os.replace(path, f"{path}.1")
            self.file.open()
        except OSError:
            return  # it goes on growing, and the next line tries again


def record(call: Call) -> dict[str, Any]:
    """The fields of a call's record, in their order."""
    answered = call.was_answered
    return {
        "call_id": call.call_id,
        "from_tag": call.tag,
        "start": stamp(call.wall),
        "answer": stamp(call.at(call.answered)) if answered else None,
        "end": stamp(call.at(call.ended)),
        "ringing": round((call.answered if answered else call.ended) - call.started, 3),
        "duration": round(call.ended - call.answered, 3) if answered else 0,
        "caller": call.caller,
        "called": call.called,
        "answered_by": answering_peer(call),
        "from": address_of(call.from_),
        "to": address_of(call.to),
        "uri": call.uri,
        "answered_at": call.answerer,
        "source": call.source,
        "user_agent": call.user_agent,
        "result": result(call),
        "status": call.status,
        "reason": REASONS[call.why] or call.phrase,
        "ended_by": call.by,
        "branches": call.branches,
    }


def result(call: Call) -> str:
    """What came of it, in one word or two."""
    if call.was_answered:
        return "answered"
    if call.why == CANCELLED:
        return "cancelled"
    if call.why == PICKED:
        return "picked up"
    return {486: "busy", 600: "busy", 408: "no answer", 480: "no answer", 603: "declined"}.get(call.status, "failed")


def answering_peer(call: Call) -> str:
    """The name of the peer that answered first, "" for none of ours."""
    for dialog in call.dialogs:
        if dialog.answered:
            return dialog.peer.removesuffix(call.calls.at_home)
    return ""


def stamp(wall: float) -> str:
    """Seconds since the epoch as ISO 8601, in UTC, to the millisecond."""
    second, thousandths = divmod(int(wall * 1000 + 0.5), 1000)
    return f"{_second(second)}.{thousandths:03d}Z"


@lru_cache(maxsize=1024)
def _second(second: int) -> str:
    """Calls that begin and end in the same second share its text."""
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]
