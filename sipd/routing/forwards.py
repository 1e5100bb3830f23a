"""Forwards and do-not-disturb: those of the configuration, and over them what was set while the server runs.

What is set at run time is in a small file before it is acknowledged, so it survives reload, restart and kill -9. It
wins over the configuration until it is taken back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from sipd import state
from sipd.config_routing import Forward
from sipd.inventory import Inventory, Table
from sipd.routing.plan import NO_WISHES, Wishes

#: Users with something in the file.
MOST = 100_000

#: What may be set to where a call goes.
CAUSES = ("always", "busy", "no_answer", "offline")
_AFTER, _DND = "no_answer_after", "dnd"
#: Seconds, as the configuration has them.
_SHORTEST, _LONGEST = 1, 600

#: What was set for one user: a target by cause, "" for nowhere; seconds; whether they do not want to be disturbed.
Set = dict[str, Any]


class Forwards:
    """Wishes of users and groups by address-of-record. `directory` "" keeps nothing; `changed` is called after each
    change."""

    def __init__(self, directory: str, inventory: Inventory, changed: Callable[[], None] = lambda: None) -> None:
        self._directory = directory
        self._changed = changed
        self._file: dict[str, Forward] = {}
        #: What was set at run time.
        self._set: Table[str, Set] = inventory.table("forwards set at run time", MOST)
        self._wishes: dict[str, Wishes] = {}

    def load(self) -> None:
        """Reads what was set before. Raises StateError."""
        path = os.path.join(self._directory, state.FORWARDS)
        if not self._directory or not os.path.exists(path):
            return
        try:
            with open(path, encoding="utf-8") as file:
                found = json.load(file)["forwards"]
            self._set.update({aor: _valid(entry) for aor, entry in found.items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise state.StateError(f"{path}: {error}; without the file the configuration alone counts") from error
        self._merge()

    def configure(self, forwards: Mapping[str, Forward]) -> None:
        """Other forwards of the configuration, by address-of-record; what was set at run time stays."""
        self._file = dict(forwards)
        self._merge()

    def __len__(self) -> int:
        """How many users and groups have any."""
        return len(self._wishes)

    def __contains__(self, aor: str) -> bool:
        return aor in self._wishes

    def wishes(self, aor: str) -> Wishes:
        """What somebody wants."""
        return self._wishes.get(aor, NO_WISHES)

    def set(self, aor: str, cause: str, to: str | None) -> None:
        """Forwards calls for `aor` because of `cause`, one of CAUSES: to somebody, "" to nobody whatever the
        configuration says, None as that says. Raises StateError when it cannot be stored, and then nothing has
        changed."""
        self._change(aor, cause, to)

    def set_after(self, aor: str, seconds: float | None) -> None:
        """How long `aor` rings before no_answer; None: as the configuration says. Raises StateError, ValueError."""
        if seconds is not None and not _SHORTEST <= seconds <= _LONGEST:
            raise ValueError(f"{_SHORTEST} to {_LONGEST} seconds are wanted")
        self._change(aor, _AFTER, seconds)

    def disturb(self, aor: str, dnd: bool) -> None:
        """Whether calls for `aor` are answered busy without ringing. Raises StateError."""
        self._change(aor, _DND, True if dnd else None)

    def _change(self, aor: str, key: str, value: Any) -> None:
        if aor not in self._set and self._set.full:
            self._set.refused += 1
            raise state.StateError(f"forwards are set for {MOST} users, and there may be no more")
        entry = {**self._set.get(aor, {}), key: value}
        if value is None:
            del entry[key]
        wanted = {**self._set, aor: entry}
        if not entry:
            del wanted[aor]
        if self._directory:
            text = json.dumps({"version": 1, "forwards": wanted}, indent=1)
            state.write(self._directory, state.FORWARDS, text.encode("ascii"))
        self._set.clear()
        self._set.update(wanted)
        self._merge()
        self._changed()

    def _merge(self) -> None:
        merged = {aor: Wishes(forward) for aor, forward in self._file.items()}
        for aor, entry in self._set.items():
            forward = self._file.get(aor, NO_WISHES.forward)
            merged[aor] = Wishes(forward.model_copy(update={key: value for key, value in entry.items() if key != _DND}),
                                 bool(entry.get(_DND)))
        self._wishes = merged

    def row(self, aor: str) -> dict[str, Any]:
        """What somebody wants, for people: each cause with its target and where that was said, "file" or "run time";
        and what the configuration says where it is another."""
        wishes, entry, file = self.wishes(aor), self._set.get(aor, {}), self._file.get(aor, NO_WISHES.forward)
        causes = {}
        for cause in CAUSES:
            to = getattr(wishes.forward, cause)
            origin = "run time" if cause in entry else "file" if to else ""
            causes[cause] = {"to": to, "origin": origin, "file": getattr(file, cause)}
        return {"aor": aor, "dnd": wishes.dnd, "no_answer_after": wishes.forward.no_answer_after,
                "no_answer_after_origin": "run time" if _AFTER in entry else "file", **causes}

    def rows(self) -> list[dict[str, Any]]:
        """`row` for each who has any."""
        return [self.row(aor) for aor in sorted(self._wishes)]


def _valid(entry: Set) -> Set:
    for key, value in entry.items():
        kind: Any = str if key in CAUSES else bool if key == _DND else (int, float) if key == _AFTER else None
        if kind is None or not isinstance(value, kind):
            raise ValueError(f"{key}: {value!r} is not understood")
    return entry
