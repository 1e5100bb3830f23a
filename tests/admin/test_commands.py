"""The commands of the control API, on a real user store and stand-ins for what the server holds."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sipd.admin.api import LISTED, Api, Refused
from sipd.admin.commands import StatusCommands, UserCommands
from sipd.auth.user_store import UserStore, UserStoreError
from sipd.binding import Binding
from sipd.inventory import Inventory
from sipd.message.hop import Hop


class UserTests(SynchronousTestCase):
    """Users added, listed, changed and removed."""

    def setUp(self) -> None:
        os.makedirs(directory := self.mktemp())
        self.store = UserStore(os.path.join(directory, "users.sqlite"))
        self.store.open()
        self.addCleanup(self.store.close)
        self.changed: list[str] = []
        self.commands = UserCommands(self.store, UserStoreError, "example.com", lambda: ("two.example",), "realm",
                                     self.changed.append)

    def test_life_of_a_user(self) -> None:
        """A user is added, gets another password and is removed; the server hears of each change."""
        commands = self.commands
        self.assertEqual(commands.add({"name": "1001", "password": "a", "display_name": "One"}), {"aor": "1001@example.com"})
        first = self.store.users()[0].secrets
        self.assertEqual(commands.listed({}), [{"aor": "1001@example.com", "display_name": "One", "realm": "realm"}])
        commands.password({"name": "1001@EXAMPLE.com", "password": "b"})
        self.assertNotEqual(self.store.users()[0].secrets, first)
        commands.remove({"name": "1001"})
        self.assertEqual((self.store.users(), self.changed), ([], ["1001@example.com"] * 3))

    def test_tenant(self) -> None:
        """A tenant's user is told by its domain; a foreign domain is refused, but what is stored can be removed."""
        self.assertEqual(self.commands.add({"name": "1001@two.example", "password": "a"}), {"aor": "1001@two.example"})
        self.assertRaises(Refused, self.commands.add, {"name": "1001@three.example", "password": "a"})
        self.store.add("1001@gone.example", "realm", "a")
        self.commands.remove({"name": "1001@gone.example"})
        self.assertEqual([user.aor for user in self.store.users()], ["1001@two.example"])

    def test_refusals(self) -> None:
        """What the store does not take is refused, and nothing is told to have changed."""
        self.commands.add({"name": "1001", "password": "a"})
        self.changed.clear()
        for command, request in (
            (self.commands.add, {"name": "1001", "password": "a"}),
            (self.commands.add, {"name": "10 01", "password": "a"}),
            (self.commands.add, {"name": "", "password": "a"}),
            (self.commands.add, {"name": "1002", "password": ""}),
            (self.commands.add, {"name": "1002", "password": "a\n"}),
            (self.commands.add, {"name": "1002", "password": "a", "display_name": "\x1b"}),
            (self.commands.add, {"name": "1002"}),
            (self.commands.add, {"password": "a"}),
            (self.commands.password, {"name": "1003", "password": "a"}),
            (self.commands.remove, {"name": "1003"}),
        ):
            self.assertRaises(Refused, command, request)
        self.store.close()
        self.assertRaises(Refused, self.commands.remove, {"name": "1001"})
        self.assertEqual(self.changed, [])


class StatusTests(SynchronousTestCase):
    """What the server holds."""

    def setUp(self) -> None:
        self.bindings: list[Binding] = []
        self.inventory = Inventory()
        location: Any = SimpleNamespace(
            everything=lambda: iter(self.bindings),
            bindings=lambda aor: [binding for binding in self.bindings if binding.aor == aor])
        listener = SimpleNamespace(transport="udp", address="192.0.2.1", port=5060)
        self.now = 1000.0
        self.commands = StatusCommands(location, lambda: [listener], self.inventory, "example.com", lambda: self.now, "9",
                                       lambda: {"stray responses": 3},
                                       SimpleNamespace(active=True, delay=0.2504, share=0.51049))

    def bind(self, aor: str) -> None:
        """A binding of this address-of-record."""
        self.bindings.append(Binding(aor, "sip:x@192.0.2.9", "", 500, 1060.0, "c", 1, source=Hop("udp", "192.0.2.9", 5060)))

    def test_status(self) -> None:
        """Listeners and tables with their bounds."""
        self.inventory.table("things", 7)["a"] = 1
        self.now = 1012.5
        status = self.commands.status({})
        self.assertEqual(status["listeners"], [{"transport": "udp", "address": "192.0.2.1", "port": 5060}])
        self.assertEqual(status["tables"], [{"name": "things", "size": 1, "limit": 7, "refused": 0, "cache": False}])
        self.assertEqual(status["dropped"], {"stray responses": 3})
        self.assertEqual(status["overload"], {"active": True, "delay": 0.25, "refusing": 0.51})
        self.assertEqual((status["uptime"], status["version"], status["process"]), (12, "9", os.getpid()))

    def test_registrations(self) -> None:
        """Everybody's or one user's, whichever way the user is written."""
        self.bind("1001@example.com")
        self.bind("1002@two.example")
        everything = self.commands.registrations({})
        self.assertEqual([row["aor"] for row in everything["registrations"]], ["1001@example.com", "1002@two.example"])
        self.assertEqual(everything["registrations"][0], {
            "aor": "1001@example.com", "contact": "sip:x@192.0.2.9", "expires": 60, "q": 0.5,
            "source": "udp:192.0.2.9:5060", "nat": False, "user_agent": ""})
        for name, found in (("1001", 1), ("1001@EXAMPLE.com", 1), ("sip:1002@two.example", 1), ("1002", 0)):
            self.assertEqual(len(self.commands.registrations({"aor": name})["registrations"]), found, name)

    def test_bounded(self) -> None:
        """The list ends at a bound, and says so."""
        for number in range(LISTED + 1):
            self.bind(f"{number}@example.com")
        result = self.commands.registrations({})
        self.assertEqual((len(result["registrations"]), result["more"]), (LISTED, True))

    def test_names(self) -> None:
        """Every command is entered under its name."""
        api = Api()
        self.commands.register(api)
        unused: Any = None
        UserCommands(unused, OSError, "a", tuple, "r").register(api)
        self.assertEqual(api.names, ["registrations", "status", "user add", "user list", "user password", "user remove"])
