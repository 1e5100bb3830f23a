"""Which of the routes a call takes: the first whose conditions all hold. Pure.

Exact names and prefixes are looked up, so they cost the same however many routes there are; patterns and expressions
are tried one after the other, but only those that stand before the route that is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from time import struct_time
from typing import NamedTuple

from sipd.config_patterns import EXACT, PREFIX, Match, rewritten
from sipd.config_routing import RouteEntry

#: Characters of a number that a rewriting may make.
LONGEST_NUMBER = 64


class Query(NamedTuple):
    """What a route may ask of a call: the user parts that are called and that call, the name of the user or peer who
    sends it ("" for nobody known), and the local time."""

    called: str
    caller: str
    peer: str
    moment: struct_time


class Found(NamedTuple):
    """A route that a call takes. `number` is what is called after rewriting, "" when that left nothing to call."""

    place: int
    route: RouteEntry
    number: str


class Table:
    """The routes of one place, in order. Places count from 0 over all routes of the configuration."""

    def __init__(self, routes: Sequence[tuple[int, RouteEntry]]) -> None:
        self.routes = tuple(routes)
        self._exact: dict[str, list[tuple[int, int]]] = {}
        self._prefixes: dict[str, list[tuple[int, int]]] = {}
        self._others: list[tuple[int, int]] = []
        for index, (_, route) in enumerate(self.routes):
            for number, match in enumerate(route.matches):
                if match.form == EXACT:
                    self._exact.setdefault(match.text, []).append((index, number))
                elif match.form == PREFIX:
                    self._prefixes.setdefault(match.text, []).append((index, number))
                else:
                    self._others.append((index, number))
        self._lengths = sorted({len(prefix) for prefix in self._prefixes})

    def find(self, query: Query) -> Found | None:
        """The first route whose conditions all hold, None when there is none."""
        called = query.called
        looked_up = [self._exact.get(called, ())]
        for length in self._lengths:
            if length > len(called):
                break
            looked_up.append(self._prefixes.get(called[:length], ()))
        candidates = [found for found in looked_up if found]
        for index, number in merge(*candidates, self._others) if candidates else self._others:
            place, route = self.routes[index]
            parts = route.matches[number].match(called)
            if parts is not None and not _refusal(route, query):
                return _found(place, route, query, parts)
        return None

    def trace(self, query: Query) -> Iterator[tuple[int, RouteEntry, str, Match | None]]:
        """Each route up to the one that is found: its place, why it is not taken, "" for the last one, and what of it
        matches the name. One after the other: for people, who want to see them all."""
        for place, route in self.routes:
            matching = next((match for match in route.matches if match.match(query.called) is not None), None)
            if matching is None:
                yield place, route, f"{query.called} does not match {', '.join(route.match)}", None
                continue
            why = _refusal(route, query)
            yield place, route, why, matching
            if not why:
                return


def _found(place: int, route: RouteEntry, query: Query, parts: dict[str, str]) -> Found:
    number = query.called
    if route.rewrite:
        number = rewritten(route.rewrite, {**parts, "called": query.called, "caller": query.caller})
        if len(number) > LONGEST_NUMBER or not number.isprintable() or " " in number:
            number = ""
    return Found(place, route, number)


def _refusal(route: RouteEntry, query: Query) -> str:
    """Which of the other conditions does not hold, "" when all do."""
    if not route.callers.allow(query.caller):
        return f"the caller {query.caller or 'without a name'} is not one of {route.callers}"
    if not route.peers.allow(query.peer):
        return f"{query.peer or 'a stranger'} is not one of the peers {route.peers}"
    if route.times and not any(times.cover(query.moment) for times in route.times):
        return f"it is not {', '.join(route.hours)}"
    return ""


def title(place: int, route: RouteEntry) -> str:
    """A route as people call it."""
    return f"route {place + 1}" + (f" ({route.name})" if route.name else "")
