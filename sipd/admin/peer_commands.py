"""The commands of the control API about peers: who there is, where they are, and taking a registration away."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from sipd.admin.api import LISTED, Api, Refused, text_argument
from sipd.binding import Binding

Row = dict[str, Any]


class IUser(Protocol):
    """Who may register."""

    aor: str
    display_name: str
    stored: bool


class IUsers(Protocol):
    """Everybody who may register."""

    def __iter__(self) -> Any:
        """Each of them."""

    def by_aor(self, aor: str) -> Any:
        """One of them, None for nobody."""


class ILocation(Protocol):
    """What is needed of the location service."""

    def bindings(self, aor: str) -> list[Binding]:
        """Those of one address-of-record."""

    def everything(self) -> Iterable[Binding]:
        """All of them."""

    def change(self, aor: str, changes: list[tuple[str, Binding]], done: Callable[[str], None],
               why: str = "") -> None:
        """Stores changes."""

    def note_lost(self, bindings: Iterable[Binding], reason: str) -> None:
        """Into the journal."""


class PeerCommands:
    """Users and carriers as peers. `flow_lives(id)` tells whether a connection stands; `answers` gives what qualify
    knows, a row for each; `names` gives the domains and the tenants; `wall` gives seconds since the epoch. `carriers`
    gives a row for each peer with a uri; `policy` what holds for a carrier's name or a user's address-of-record, as
    (key, value, where it comes from)."""

    def __init__(self, users: IUsers, location: ILocation, domain: str,
                 names: Callable[[], tuple[tuple[str, ...], tuple[str, ...]]], flow_lives: Callable[[str], bool],
                 answers: Callable[[], list[Row]], wall: Callable[[], float], carriers: Callable[[], list[Row]],
                 policy: Callable[[str], list[tuple[str, str, str]]]) -> None:
        self._users = users
        self._location = location
        self._domain = domain
        self._names = names
        self._flow_lives = flow_lives
        self._answers = answers
        self._wall = wall
        self._carriers = carriers
        self._policy = policy

    def register(self, api: Api) -> None:
        """Enters these commands."""
        api.register("peers", self.peers)
        api.register("peer", self.peer)
        api.register("domains", self.domains)
        api.register("unregister", self.unregister)

    def peers(self, request: Row) -> Row:
        """match: only names that contain this text, or fit it where it has * or ?. Every user, whoever registered
        without being one, and every carrier. `expires` is in seconds from now, of the binding that lasts longest, or of
        our registration at the carrier."""
        match = text_argument(request, "match", "").lower()
        bound: dict[str, list[Binding]] = {}
        for binding in self._location.everything():
            bound.setdefault(binding.aor, []).append(binding)
        known: dict[str, Any] = {user.aor: user for user in self._users}
        fits = [aor for aor in sorted({*known, *bound}) if _fits(self._short(aor), aor, match)]
        answers = self._answers()
        states = {row["contact"]: row for row in answers if row["kind"] == "user"}
        rows = [self._row(aor, known.get(aor), bound.get(aor, []), states) for aor in fits[:LISTED]]
        carriers = [row for row in self._carriers() if _fits(row["name"], row["name"], match)]
        states = {row["peer"]: row for row in answers if row["kind"] == "peer"}
        rows += [_carrier(row, states) for row in carriers[:LISTED - len(rows)]]
        registered = sum(1 for aor in fits if aor in bound) + sum(1 for row in carriers if row["expires"])
        return {"peers": rows, "registered": registered, "all": len(fits) + len(carriers)}

    def _row(self, aor: str, user: Any, bindings: list[Binding], states: dict[str, Row]) -> Row:
        last = max(bindings, key=lambda one: one.expires_at, default=None)
        source = last.source if last is not None else None
        return {
            "name": self._short(aor), "kind": "user" if user is not None else "guest", "aor": aor,
            "display_name": user.display_name if user is not None else "",
            "kept": _kept(user), "contacts": len(bindings),
            "transport": source.transport if source is not None else "",
            "address": source.address if source is not None else "", "port": source.port if source is not None else 0,
            "expires": max(0, round(last.expires_at - self._wall())) if last is not None else 0,
            "user_agent": last.user_agent if last is not None else "",
            "state": states[last.contact]["state"] if last is not None and last.contact in states else "",
        }

    def peer(self, request: Row) -> Row:
        """name: everything about one peer and each of its bindings, or our registration at a carrier. `expires` and
        `registered` in seconds from and until now; `flow` is open, gone, or none for datagrams. `policy`: what
        holds for it, and where that comes from."""
        name = text_argument(request, "name")
        for row in self._carriers():
            if row["name"] == name:
                return {"kind": "carrier", **row, "policy": _policy_rows(self._policy(name))}
        aor = self._aor(request)
        user, bindings, now = self._users.by_aor(aor), self._location.bindings(aor), self._wall()
        states = {row["contact"]: row for row in self._answers() if row["peer"] == aor}
        return {
            "name": self._short(aor), "kind": "user" if user is not None else "guest", "aor": aor,
            "display_name": user.display_name if user is not None else "",
            "kept": _kept(user), "policy": _policy_rows(self._policy(aor)),
            "algorithms": sorted({algorithm for algorithm, _ in user.secrets}) if user is not None else [],
            "only": list(user.algorithms) if user is not None else [],
            "bindings": [{
                "contact": binding.contact, "source": str(binding.source) if binding.source else "",
                "nat": binding.nat, "listener": binding.listener, "flow": self._flow(binding), "q": binding.q / 1000,
                "expires": max(0, round(binding.expires_at - now)),
                "registered": max(0, round(now - binding.registered_at)) if binding.registered_at else 0,
                "path": list(binding.path), "instance": binding.instance, "reg_id": binding.reg_id,
                "user_agent": binding.user_agent, "call_id": binding.call_id, "cseq": binding.cseq,
                "state": states.get(binding.contact, {}).get("state", ""),
                "rtt": states.get(binding.contact, {}).get("rtt", 0.0),
            } for binding in bindings],
        }

    def _flow(self, binding: Binding) -> str:
        if not binding.flow or binding.flow.startswith("udp/"):
            return "none"
        return "open" if self._flow_lives(binding.flow) else "gone"

    def domains(self, request: Row) -> list[Row]:
        """Every name this server answers to, with the users there and how many of them are registered."""
        domains, tenants = self._names()
        users: dict[str, int] = {}
        for user in self._users:
            home = user.aor.rpartition("@")[2]
            users[home] = users.get(home, 0) + 1
        registered: dict[str, int] = {}
        for aor in {binding.aor for binding in self._location.everything()}:
            home = aor.rpartition("@")[2]
            registered[home] = registered.get(home, 0) + 1
        kinds = {self._domain: "first domain"} | dict.fromkeys(tenants, "tenant")
        return [{"domain": name, "kind": kinds.get(name, f"another name of {self._domain}"),
                 "users": users.get(name, 0), "registered": registered.get(name, 0)}
                for name in dict.fromkeys((self._domain, *domains, *tenants))]

    def unregister(self, request: Row) -> Deferred[Row]:
        """name, contact: takes that binding of a peer away, without `contact` all of them; answered when it is
        stored."""
        aor, contact = self._aor(request), text_argument(request, "contact", "")
        present = self._location.bindings(aor)
        gone = [one for one in present if not contact or one.contact == contact]
        if not gone:
            raise Refused(f"{self._short(aor)} is not registered" + (
                f" at {contact}; it is at {', '.join(one.contact for one in present)}" if present else ""))
        done: Deferred[Row] = Deferred()

        def stored(reason: str) -> None:
            if reason:
                done.errback(Refused(f"the store did not take it: {reason}"))
            else:
                self._location.note_lost(gone, "taken away by sipctl")
                done.callback({"aor": aor, "contacts": [one.contact for one in gone]})

        self._location.change(aor, [("delete", one) for one in gone], stored, "removed")
        return done

    def aor(self, name: str) -> str:
        """The address-of-record of a peer, however it is written. Raises Refused for nobody."""
        return self._aor({"name": name})

    def _aor(self, request: Row) -> str:
        name = text_argument(request, "name").removeprefix("sips:").removeprefix("sip:")
        user, at, home = name.rpartition("@")
        aor = f"{user}@{home.lower()}" if at else f"{name}@{self._domain}"
        if self._users.by_aor(aor) is not None or self._location.bindings(aor):
            return aor
        names = [self._short(one.aor) for one in self._users] + [row["name"] for row in self._carriers()]
        near = difflib.get_close_matches(name, names, 3, 0.5)
        raise Refused(f"there is no peer {name!r}" + (f"; {' or '.join(near)} is meant?" if near else ""))

    def _short(self, aor: str) -> str:
        """How people call a peer: without the first domain."""
        return aor.removesuffix(f"@{self._domain}")


def _carrier(row: Row, states: dict[str, Row]) -> Row:
    """A carrier in the list of peers."""
    return {
        "name": row["name"], "kind": "carrier", "aor": "", "display_name": "", "kept": "configuration",
        "contacts": 1 if row["expires"] else 0, "transport": row["transport"], "address": row["address"],
        "port": row["port"], "expires": row["expires"], "user_agent": "",
        "state": states[row["name"]]["state"] if row["name"] in states else "",
    }


def _policy_rows(settings: list[tuple[str, str, str]]) -> list[Row]:
    return [{"key": key, "value": value, "source": source} for key, value, source in settings]


def _kept(user: Any) -> str:
    if user is None:
        return "nowhere"
    return "store" if user.stored else "configuration"


def _fits(name: str, aor: str, match: str) -> bool:
    if "*" in match or "?" in match:
        return fnmatchcase(name.lower(), match) or fnmatchcase(aor.lower(), match)
    return match in name.lower()
