"""The commands of the control API about the server's inside: settings, connections, timers, tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sipd.admin.api import LISTED, Api
from sipd.binding import Binding
from sipd.inventory import Inventory

Row = dict[str, Any]

#: What a timer of the wheel is for, by its function.
_TIMERS = {
    "_repeat_fired": "sends a message again", "_deadline_fired": "ends a wait", "_send_trying": "answers 100 Trying",
}


class InsideCommands:
    """`settings` gives rows of section, key, value and source; `connections` the live ones; `bindings` all that are
    registered; `timers` those of the wheel as (seconds, function, argument); `calls` those of the reactor as (seconds,
    function); `now` is the clock of connections, in seconds."""

    def __init__(self, settings: Callable[[], Iterable[Any]], connections: Callable[[], list[Any]],
                 bindings: Callable[[], Iterable[Binding]],
                 timers: Callable[[], Iterable[tuple[float, Any, Any]]],
                 calls: Callable[[], Iterable[tuple[float, Any]]], inventory: Inventory,
                 now: Callable[[], float]) -> None:
        self._settings = settings
        self._connections = connections
        self._bindings = bindings
        self._timers = timers
        self._calls = calls
        self._inventory = inventory
        self._now = now

    def register(self, api: Api) -> None:
        """Enters these commands."""
        api.register("settings", self.settings)
        api.register("connections", self.connections)
        api.register("timers", self.timers)
        api.register("objects", self.objects)

    def settings(self, request: Row) -> list[Row]:
        """The merged configuration: every value, and whether it comes from the file, an option or is the default."""
        return [{"section": one.section, "key": one.key, "value": one.value, "source": one.source}
                for one in self._settings()]

    def connections(self, request: Row) -> Row:
        """Each TCP and TLS connection: `open` and `silent` in seconds, `waiting` in bytes."""
        users: dict[str, list[str]] = {}
        for binding in self._bindings():
            users.setdefault(binding.flow, []).append(binding.aor)
        found, now = self._connections(), self._now()
        rows = []
        for connection in found[:LISTED]:
            flow = connection.flow
            opened, silent, waiting = connection.figures(now)
            rows.append({
                "id": flow.id, "transport": flow.transport, "address": flow.address, "port": flow.port,
                "listener": str(flow.listener), "opened_by": "peer" if connection.hop is None else "us",
                "state": "closing" if not flow.alive else "known" if flow.known or connection.hop else "stranger",
                "users": sorted(set(users.get(flow.id, ()))), "open": round(opened), "silent": round(silent),
                "waiting": waiting,
            })
        return {"connections": rows, "more": len(found) > LISTED}

    def timers(self, request: Row) -> list[Row]:
        """What is waited for, and how many times over; `next` in seconds."""
        counted: dict[tuple[str, str], list[float]] = {}
        for seconds, function, argument in self._timers():
            counted.setdefault(("wheel", _purpose(function, argument)), []).append(seconds)
        for seconds, function in self._calls():
            counted.setdefault(("reactor", _name(function)), []).append(seconds)
        return [{"kept_by": kept_by, "what": what, "count": len(times), "next": round(max(0.0, min(times)), 2),
                 "last": round(max(0.0, max(times)), 2)} for (kept_by, what), times in sorted(counted.items())]

    def objects(self, request: Row) -> list[Row]:
        """Every table with its fill and bound, and how many entries were turned away; a cache loses its oldest."""
        return [{"name": table.name, "size": len(table), "limit": table.limit, "refused": table.refused,
                 "cache": table.cache} for table in self._inventory]


def _purpose(function: Any, argument: Any) -> str:
    name = _name(function)
    machine = getattr(argument, "machine", argument)
    what = _TIMERS.get(name)
    return f"{type(machine).__name__} {what}" if what is not None else name


def _name(function: Any) -> str:
    function = getattr(function, "func", function)
    return str(getattr(function, "__qualname__", type(function).__name__)).replace(".<locals>", "")
