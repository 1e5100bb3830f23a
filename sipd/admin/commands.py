"""The commands of the control API: users, registrations, status."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from sipd.admin.api import LISTED, Api, Refused, text_argument
from sipd.binding import Binding
from sipd.inventory import Inventory


class IUserStore(Protocol):
    """What is needed of the user store. It raises ValueError for what is no name or password or exists already,
    LookupError for who is not there, and an exception of its own when it cannot be used."""

    def add(self, aor: str, realm: str, password: str, display_name: str = "") -> None:
        """A new user."""

    def set_password(self, aor: str, realm: str, password: str) -> None:
        """Another password."""

    def remove(self, aor: str) -> None:
        """Forgets a user."""

    def users(self) -> Iterable[Any]:
        """Those stored."""


class UserCommands:
    """Changes to the user store. The running server and sipctl without one use the same."""

    def __init__(
        self, store: IUserStore, unusable: type[Exception], domain: str, domains: Callable[[], Iterable[str]],
        realm: str, changed: Callable[[str], None] = lambda aor: None,
    ) -> None:
        """`unusable` is the store's own exception; `domain` is the first domain, `domains` gives the others;
        `changed(aor)` is called after each change, so that it takes effect at once."""
        self._store = store
        self._unusable = unusable
        self._domain = domain
        self._domains = domains
        self._realm = realm
        self._changed = changed

    def register(self, api: Api) -> None:
        """Enters these commands."""
        api.register("user add", self.add)
        api.register("user list", self.listed)
        api.register("user password", self.password)
        api.register("user remove", self.remove)

    def add(self, request: dict[str, Any]) -> dict[str, str]:
        """name, password, display_name: a new user."""
        aor, password = self._aor(request), text_argument(request, "password")
        display_name = text_argument(request, "display_name", "")
        return self._change(aor, lambda: self._store.add(aor, self._realm, password, display_name))

    def listed(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """All stored users, without anything secret."""
        users = self._store.users()
        return [{"aor": user.aor, "display_name": user.display_name, "realm": user.realm} for user in users]

    def password(self, request: dict[str, Any]) -> dict[str, str]:
        """name, password: another password for a user."""
        aor, password = self._aor(request), text_argument(request, "password")
        return self._change(aor, lambda: self._store.set_password(aor, self._realm, password))

    def remove(self, request: dict[str, Any]) -> dict[str, str]:
        """name: takes a user away, and what is registered under that name."""
        # A user of a domain that is no longer served must be removable.
        aor = self._aor(request, ours=False)
        return self._change(aor, lambda: self._store.remove(aor))

    def _change(self, aor: str, change: Callable[[], Any]) -> dict[str, str]:
        try:
            change()
        except (ValueError, LookupError, self._unusable) as error:
            raise Refused(str(error))
        self._changed(aor)
        return {"aor": aor}

    def _aor(self, request: dict[str, Any], ours: bool = True) -> str:
        name = text_argument(request, "name")
        user, at, domain = name.rpartition("@")
        if not at:
            return f"{name}@{self._domain}"
        domains = {self._domain, *self._domains()}
        if ours and domain.lower() not in domains:
            raise Refused(f"{domain!r} is no domain of this server; there are {', '.join(sorted(domains))}")
        return f"{user}@{domain.lower()}"


class IBindings(Protocol):
    """What is needed of the location service."""

    def bindings(self, aor: str) -> list[Binding]:
        """Those of one address-of-record."""

    def everything(self) -> Iterable[Binding]:
        """All of them."""


class ILoad(Protocol):
    """What is needed of the one who measures whether the server is behind."""

    active: bool
    #: Seconds, smoothed.
    delay: float
    #: Part of the new work that is refused, 0 to 1.
    share: float


class StatusCommands:
    """What the server holds, for people."""

    def __init__(
        self, location: IBindings, listeners: Callable[[], Iterable[Any]], inventory: Inventory, domain: str,
        wall: Callable[[], float], version: str, dropped: Callable[[], dict[str, int]], load: ILoad,
        trunks: Callable[[], list[dict[str, Any]]] = list,
    ) -> None:
        """`listeners` gives the live ones; `wall` gives seconds since the epoch; `dropped`
        what was thrown away or refused unread, and how often; `trunks` one row for each."""
        self._location = location
        self._listeners = listeners
        self._inventory = inventory
        self._domain = domain
        self._wall = wall
        self._version = version
        self._dropped = dropped
        self._load = load
        self._trunks = trunks
        self._started = wall()

    def register(self, api: Api) -> None:
        """Enters these commands."""
        api.register("status", self.status)
        api.register("registrations", self.registrations)

    def status(self, request: dict[str, Any]) -> dict[str, Any]:
        """Version, uptime in seconds, listeners, how far the server is behind (seconds) and what part of the new work
        it refuses, what was dropped, the peers with a uri, and every table with its size and its bound."""
        return {
            "version": self._version,
            "process": os.getpid(),
            "uptime": int(self._wall() - self._started),
            "domain": self._domain,
            "listeners": [
                {"transport": listener.transport, "address": listener.address, "port": listener.port}
                for listener in self._listeners()
            ],
            "overload": {"active": self._load.active, "delay": round(self._load.delay, 3),
                         "refusing": round(self._load.share, 3)},
            "dropped": self._dropped(),
            "peers": [{key: row[key] for key in ("name", "state", "reason")} for row in self._trunks()],
            "tables": [
                {"name": table.name, "size": len(table), "limit": table.limit, "refused": table.refused,
                 "cache": table.cache}
                for table in self._inventory
            ],
        }

    def registrations(self, request: dict[str, Any]) -> dict[str, Any]:
        """aor: its bindings; without it everybody's, LISTED at most. `expires` is seconds from now."""
        name = text_argument(request, "aor", "").removeprefix("sips:").removeprefix("sip:")
        found: Iterable[Binding]
        if name:
            user, at, domain = name.rpartition("@")
            found = self._location.bindings(f"{user}@{domain.lower()}" if at else f"{name}@{self._domain}")
        else:
            found = self._location.everything()
        now, more = self._wall(), False
        rows: list[dict[str, Any]] = []
        for binding in found:
            if len(rows) == LISTED:
                more = True
                break
            rows.append({
                "aor": binding.aor,
                "contact": binding.contact,
                "expires": max(0, round(binding.expires_at - now)),
                "q": binding.q / 1000,
                "source": str(binding.source) if binding.source else "",
                "nat": binding.nat,
                "user_agent": binding.user_agent,
            })
        return {"registrations": rows, "more": more}
