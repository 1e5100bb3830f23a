"""The routing of one configuration, made ready for calls: tables by domain, groups, numbers, and whom a name means.
Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from time import struct_time

from sipd.config_routing import Group, Number, RouteEntry, Routing
from sipd.message.uri import Uri
from sipd.proxy.targets import Groups, Target
from sipd.routing.table import Table


def _never(name: str) -> bool:
    """Where nobody has a limit."""
    return False


@dataclass(frozen=True, slots=True)
class World:
    """What routing is told by others. Names of trunks are those of peers with a uri."""

    #: The targets of an address-of-record, without those that do not answer; True: of a sips request.
    bindings_of: Callable[[str, bool], Groups]
    #: Where a number goes by a trunk, None when there is no such trunk.
    trunk_target: Callable[[str, str], Target | None]
    #: Whether a trunk is known not to take calls now.
    trunk_down: Callable[[str], bool]
    #: Calls of a user or a trunk.
    in_use: Callable[[str], int]
    #: Whether an address-of-record is a user's.
    is_user: Callable[[str], bool]
    #: Whether anybody may register any name.
    anybody: Callable[[], bool]
    #: The address-of-record that a URI is here, "" when it is somebody else's.
    aor_of: Callable[[Uri], str]
    #: A number from 0 to 1, and the local time.
    chance: Callable[[], float]
    local: Callable[[], struct_time]
    #: Whether an address-of-record, or a trunk, has as many calls as it may have, or as make it busy.
    is_busy: Callable[[str], bool] = _never
    #: Whether a user has phones, none of which answers when it is asked.
    is_gone: Callable[[str], bool] = _never

    def at(self, moment: struct_time, chance: Callable[[], float]) -> World:
        """The same at another time, where chance falls otherwise."""
        return replace(self, local=lambda: moment, chance=chance)


class Rules:
    """The sections of a configuration. `domain` is the first domain, the one of names without one."""

    def __init__(self, routes: tuple[RouteEntry, ...], groups: Mapping[str, Group], numbers: Mapping[str, Number],
                 routing: Routing, trunks: frozenset[str], domain: str) -> None:
        self.routes = routes
        self.groups = groups
        self.numbers = {self._aor(number, domain): entry for number, entry in numbers.items()}
        self.routing = routing
        self.trunks = trunks
        self.domain = domain
        self.emergency = frozenset(routing.emergency)
        tables: dict[str, list[tuple[int, RouteEntry]]] = {}
        for place, route in enumerate(routes):
            tables.setdefault(route.domain or domain, []).append((place, route))
        self.tables = {name: Table(found) for name, found in tables.items()}

    @staticmethod
    def _aor(name: str, domain: str) -> str:
        user, at, own = name.rpartition("@")
        return f"{user}@{own.lower()}" if at else f"{name}@{domain}"

    def aor(self, name: str) -> str:
        """The address-of-record of a user as the configuration names them."""
        return self._aor(name, self.domain)

    def name(self, aor: str) -> str:
        """The other way round."""
        return aor.removesuffix(f"@{self.domain}")

    def group(self, aor: str) -> str:
        """The name of the group that an address-of-record is, "" when it is none."""
        name = self.name(aor)
        return name if name in self.groups else ""

    def inside(self, names: Iterable[str]) -> bool:
        """Whether all of these are users, or groups of users."""
        return all(name in self.groups and self.inside(self.groups[name].members) or
                   (name not in self.groups and self.split(name, "")[0] not in self.trunks) for name in names)

    def knows(self, name: str) -> bool:
        """Whether a name is a group's or a trunk's, perhaps with a number behind it."""
        return name in self.groups or self.split(name, "")[0] in self.trunks

    def split(self, name: str, number: str) -> tuple[str, str]:
        """A name and the number that goes there: `carrier/0123` is a trunk with a number of its own."""
        if "/" in name and name not in self.groups:
            trunk, _, own = name.partition("/")
            if trunk in self.trunks and own:
                return trunk, own
        return name, number
