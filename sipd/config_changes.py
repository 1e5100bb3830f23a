"""What is different between two configurations, in words, and what of it a running server cannot take."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from pydantic import BaseModel

from sipd.config import Config
from sipd.config_routing import RouteEntry
from sipd.config_server import Listen
from sipd.config_source import text_of
from sipd.config_text import option_name


class Change(NamedTuple):
    """One difference; `restart` says why only a new start can make it, "" when none is needed."""

    section: str
    text: str
    restart: str = ""


#: What only a new start can change, and why.
_RESTART = {
    ("server", "state_dir"): "users, registrations and the control socket are there",
    ("auth", "realm"): "passwords are stored for one realm",
    ("location", "store"): "the registrations would be left behind",
    ("location", "sync"): "the store is open",
    ("calls", "ledger"): "calls that are up are in it",
}
#: Reasons that do not count where the names in effect stay.
_NAMED = ("users are stored under the first domain", _RESTART["auth", "realm"])
#: The sections whose other changes a running server takes.
_TAKEN = frozenset({"server", "listen", "auth", "users", "acls", "templates", "peers", "qualify", "routes", "groups",
                    "forward", "numbers", "routing", "registrar", "location", "proxy", "originate", "api", "messages",
                    "timers", "limits", "overload", "calls", "cdr", "events", "log"})


def changes(old: Config, new: Config, taken: Collection[str] = (), renamed: bool = True) -> list[Change]:
    """The differences, in the order of the sections. `taken` are further sections that somebody takes while the server
    runs; `renamed`: the first domain or the realm is another one in effect, not only written otherwise."""
    found: list[Change] = []
    for section in Config.model_fields:
        before, after = getattr(old, section), getattr(new, section)
        if before == after:
            continue
        whole = "" if section in _TAKEN or section in taken else f"nobody takes [{section}] while the server runs"
        if section == "listen":
            found += _listeners(before, after)
        elif section == "routes":
            found += _routes(before, after)
        elif isinstance(after, dict):
            found += [change._replace(restart=whole) for change in _entries(section, before, after)]
        else:
            found += [change._replace(restart=change.restart or whole) for change in _values(section, before, after)]
    if not renamed:
        found = [change._replace(restart="") if change.restart in _NAMED else change for change in found]
    return found


def _values(section: str, old: BaseModel, new: BaseModel) -> Iterator[Change]:
    for key in type(new).model_fields:
        before, after = getattr(old, key), getattr(new, key)
        if before == after:
            if (section, key) == ("routing", "script") and old.code != new.code:  # type: ignore[attr-defined]
                yield Change(section, f"[routing] script: {after} has another text")
            continue
        if (section, key) in (("server", "domains"), ("server", "tenants")):
            yield from _names(key, before, after)
        else:
            yield Change(section, f"[{section}] {key}: {text_of(before)} -> {text_of(after)}",
                         _RESTART.get((section, key), ""))


def _names(key: str, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[Change]:
    kind = "the domain" if key == "domains" else "the tenant"
    if key == "domains" and old[:1] != new[:1]:
        yield Change("server", f"[server] domains: {text_of(old[:1])} -> {text_of(new[:1])} comes first",
                     _NAMED[0])
    for name in new:
        if name not in old:
            yield Change("server", f"serves {kind} {name} too")
    for name in old:
        if name not in new:
            yield Change("server", f"serves {kind} {name} no more")


def _routes(old: tuple[RouteEntry, ...], new: tuple[RouteEntry, ...]) -> Iterator[Change]:
    """Routes have no names that could be relied on: those that are alike at the beginning and at the end stay."""
    first = _alike(old, new)
    same = _alike(old[first:][::-1], new[first:][::-1])
    before, after = old[first:len(old) - same], new[first:len(new) - same]
    for place in range(max(len(before), len(after))):
        known, route = before[place:place + 1], after[place:place + 1]
        what = f"route {first + place + 1}" + next((f" ({one.name})" for one in route + known if one.name), "")
        if not known:
            yield Change("routes", f"{what} added")
        elif not route:
            yield Change("routes", f"{what} removed")
        else:
            yield from (Change("routes", f"{what}: {text}") for text in _differences(known[0], route[0]))


def _alike(old: tuple[RouteEntry, ...], new: tuple[RouteEntry, ...]) -> int:
    """How many are the same from the beginning on."""
    return next((place for place, (one, other) in enumerate(zip(old, new, strict=False)) if one != other),
                min(len(old), len(new)))


def _listeners(old: tuple[Listen, ...], new: tuple[Listen, ...]) -> Iterator[Change]:
    before = {_socket(listen): listen for listen in old}
    after = {_socket(listen): listen for listen in new}
    for place, listen in after.items():
        known = before.get(place)
        if known is None:
            yield Change("listen", f"listens on {listen} too")
            continue
        if str(known) != str(listen):
            yield Change("listen", f"listens on {listen} instead of {known}")
        for key in ("advertise", "certificate", "private_key", "client_ca"):
            if getattr(known, key) != getattr(listen, key):
                yield Change("listen", f"{listen} {key}: {text_of(getattr(known, key))} -> "
                                       f"{text_of(getattr(listen, key))}")
    for place, listen in before.items():
        if place not in after:
            yield Change("listen", f"listens on {listen} no more")


def _socket(listen: Listen) -> tuple[bool, str, int]:
    """TLS runs over TCP: one socket."""
    return listen.transport == "udp", listen.address, listen.port


def _entries(section: str, old: dict[str, BaseModel], new: dict[str, BaseModel]) -> Iterator[Change]:
    """Users and other things that have names."""
    kind = section.removesuffix("s")
    for name, entry in new.items():
        known = old.get(name)
        if known is None:
            yield Change(section, f"{kind} {name} added")
        elif known != entry:
            yield from (Change(section, f"{kind} {name}: {text}") for text in _differences(known, entry))
    for name in old:
        if name not in new:
            yield Change(section, f"{kind} {name} removed")


def _differences(old: BaseModel, new: BaseModel) -> Iterator[str]:
    different = [key for key in type(new).model_fields if getattr(old, key) != getattr(new, key)]
    if not {"password", "ha1", "password_file"}.isdisjoint(different):
        yield "another password"
    for key in different:
        if key == "identify_by":
            before, after = getattr(old, key), getattr(new, key)
            yield from (f"is known by {way} too" for way in after if way not in before)
            yield from (f"loses {way}, is not known by it any more" for way in before if way not in after)
        elif key not in ("password", "ha1"):
            yield f"{option_name(type(new), key)}: {text_of(getattr(old, key))} -> {text_of(getattr(new, key))}"
