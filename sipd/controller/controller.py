"""The controller of RFC 3725: begins calls between two others, and knows the dialogs it has with them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from sipd.config_originate import Originate
from sipd.controller.call import CONTROLLED, REFER, Originated
from sipd.controller.leg import Leg
from sipd.inventory import Inventory, Table
from sipd.journal import Journal
from sipd.message.address import Address
from sipd.message.errors import MalformedMessage
from sipd.message.params import quote
from sipd.message.uri import uri_of_aor

if TYPE_CHECKING:
    from sipd.calls.table import Calls
    from sipd.core.places import Places
    from sipd.core.uac import Uac
    from sipd.location.service import Location

#: The users and numbers that can be called: no white space, nothing that ends a URI or makes one of it.
_NAME = re.compile(r"""[^\s:<>"@\\]{1,100}""")


class NotBegun(Exception):
    """A call that cannot be begun; the text says why, for people."""


class Controller:
    """Begins calls. `places` knows our domains; `display(aor)` is a user's display name, "" without one."""

    def __init__(self, config: Originate, uac: Uac, location: Location, places: Places, display: Callable[[str], str],
                 calls: Calls, journal: Journal, inventory: Inventory) -> None:
        self.uac = uac
        self.proxy = uac.proxy
        self.layer = uac.proxy.layer
        self.wheel = uac.proxy.layer.wheel
        self.identifiers = uac.proxy.identifiers
        self._location = location
        self._places = places
        self._display = display
        self._table = calls
        self._journal = journal
        self._config = config
        self._count = 0
        self.calls: Table[int, Originated] = inventory.table("calls originated here", config.limit)
        #: By the user part of our Contact.
        self.legs: Table[str, Leg] = inventory.table("dialogs of calls originated here", 2 * config.limit)
        self.call_ids: Table[str, Leg] = inventory.table("INVITEs originated here", 2 * config.limit)

    def configure(self, config: Originate) -> None:
        """Other values, for calls that begin from now on."""
        self._config = config
        self.calls.limit = config.limit
        self.legs.limit = self.call_ids.limit = 2 * config.limit

    def originate(self, first: str, second: str, way: str = "", patience: float = 0.0) -> Originated:
        """A call from `first` to `second`, each a user part or `user@domain` of ours; `way` is "refer", "3pcc", or ""
        for the one of the configuration; each may ring `patience` seconds. Raises NotBegun."""
        if way not in ("", "auto", REFER, CONTROLLED):
            raise NotBegun(f"by: {way!r} is no way to connect two; auto, {REFER} and {CONTROLLED} are")
        one, other = self._aor(first), self._aor(second)
        if one == other:
            raise NotBegun(f"{first} is to be called and to be connected to itself; two are wanted")
        if self.calls.full or len(self.legs) + 2 > self.legs.limit:
            self.calls.refused += 1
            raise NotBegun(f"{len(self.calls)} calls are being originated already; [originate] limit allows no more")
        self._count += 1
        way = way or self._config.by
        call = Originated(self, self._count, "" if way == "auto" else way, patience or self._config.timeout)
        call.first = Leg(self, call, 0, first, uri_of_aor(one), self._shown(other))
        call.second = Leg(self, call, 1, second, uri_of_aor(other), self._shown(one), one)
        self.calls[self._count] = call
        call.start()
        return call

    def stop(self) -> None:
        """The server stops: what rings is given up; those who talk go on talking."""
        for call in list(self.calls.values()):
            call.give_up("the server stops")

    def speaks_for(self, call_id: str) -> str | None:
        """The address-of-record of the user for whom a call is made, "" where it is our own: the first is called by us,
        the second by the first. None: the call is none of ours."""
        leg = self.call_ids.get(call_id)
        return leg.behalf if leg is not None else None

    def set_aside(self, leg: Leg, everybody: bool = True) -> None:
        """The call that a leg is does not count any more as one of the peers in it, or only as one of its caller's:
        another call of them takes its place."""
        for call in self._table.like(leg.call_id, over=False):
            for name in call.parties() if everybody else {call.caller}:
                self._table.part(name, call)

    def is_phone(self, leg: Leg) -> bool:
        """True when whoever answered is registered here as the user that was called: it may be told to call others."""
        reached = leg.reached()
        for binding in self._location.bindings(_aor_of(leg.uri)):
            try:
                uri = Address.parse(f"<{binding.contact}>").uri
            except MalformedMessage:
                continue
            if f"{uri.user}@{uri.host}" == reached:
                return True
        return False

    def _aor(self, name: str) -> str:
        user, at, domain = name.rpartition("@")
        if not at:
            user, domain = name, self._places.domain
        if not _NAME.fullmatch(user) or not user.isprintable():
            raise NotBegun(f"{name[:80]!r} is no user or number")
        place = self._places.place(domain.lower(), None)
        if not place:
            raise NotBegun(f"{domain[:80]!r} is no domain of this server")
        return f"{user}@{place}"

    def _shown(self, aor: str) -> str:
        """From as the other one sees it: the display name and the address of the one it will talk to."""
        display = self._display(aor)
        return f"{quote(display)} <{uri_of_aor(aor)}>" if display else f"<{uri_of_aor(aor)}>"

    # --- for people

    def note_connected(self, call: Originated) -> None:
        """The two can talk."""
        journal = self._journal
        if journal.sinks and journal.calls:
            journal.write("originate-connected", first=call.first.name, second=call.second.name, way=call.way)

    def note_failed(self, call: Originated, leg: Leg | None, status: int, reason: str) -> None:
        """The two cannot."""
        journal = self._journal
        if journal.sinks and journal.calls:
            who = f"{leg.name}: " if leg is not None else ""
            journal.write("originate-failed", first=call.first.name, second=call.second.name,
                          reason=f"{who}{status or ''} {reason}".replace("  ", " ").strip())


def _aor_of(uri: str) -> str:
    parsed = Address.parse(f"<{uri}>").uri
    return f"{parsed.unescaped_user()}@{parsed.host}"
