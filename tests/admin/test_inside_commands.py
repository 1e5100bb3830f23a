"""The commands about the server's inside, on stand-ins and on the real core."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sipd.admin.api import Api
from sipd.admin.inside_commands import InsideCommands
from sipd.binding import Binding
from sipd.config_source import Source, settings
from sipd.inventory import Inventory
from tests.support.rig import Rig


class InsideTests(SynchronousTestCase):
    """Settings, connections, timers, tables."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.connections: list[Any] = []
        self.inventory = Inventory()
        self.commands = InsideCommands(
            lambda: settings(self.rig.config, Source()), lambda: self.connections,
            lambda: [Binding("1001@example.com", "sip:a", "", 1000, 9e9, "c", 1, flow="tcp/1")],
            self.rig.core.wheel.running,
            lambda: [(call.getTime() - self.rig.clock.seconds(), call.func) for call in self.rig.clock.getDelayedCalls()],
            self.inventory, lambda: 100.0)

    def test_settings(self) -> None:
        """A row for each value."""
        rows = self.commands.settings({})
        self.assertIn({"section": "timers", "key": "t1", "value": "0.5", "source": "default"}, rows)

    def test_connections(self) -> None:
        """Whose connection it is, who opened it, and what it waits for."""
        def connection(flow_id: str, hop: Any, **more: Any) -> Any:
            flow = SimpleNamespace(id=flow_id, transport="tcp", address="192.0.2.9", port=4, listener="tcp:192.0.2.1:5060",
                                   **{"alive": True, "known": False, **more})
            return SimpleNamespace(flow=flow, hop=hop, figures=lambda now: (now - 40, 2.4, 7))

        self.connections = [connection("tcp/1", None, known=True), connection("tcp/2", None), connection("tcp/3", "hop"),
                            connection("tcp/4", None, alive=False)]
        result = self.commands.connections({})
        self.assertEqual([row["state"] for row in result["connections"]], ["known", "stranger", "known", "closing"])
        self.assertEqual([row["opened_by"] for row in result["connections"]], ["peer", "peer", "us", "peer"])
        self.assertEqual(result["connections"][0]["users"], ["1001@example.com"])
        self.assertEqual([result["connections"][0][key] for key in ("open", "silent", "waiting")], [60, 2, 7])
        self.assertFalse(result["more"])

    def test_timers(self) -> None:
        """What a ringing call waits for, by its purpose."""
        caller, callee = self.rig.phone("1001"), self.rig.phone("1002")
        callee.register()
        caller.invite("1002")
        caller.take(100)
        callee.take("INVITE")
        rows = {row["what"]: row for row in self.commands.timers({})}
        self.assertEqual(rows["InviteClient sends a message again"]["count"], 1)
        self.assertAlmostEqual(rows["InviteClient sends a message again"]["next"], 0.5, 1)
        self.assertEqual(rows["InviteClient ends a wait"]["count"], 1)
        self.assertEqual({row["kept_by"] for row in rows.values()}, {"wheel", "reactor"})
        self.assertIn("TimerWheel._turn", rows)

    def test_objects(self) -> None:
        """Each table with fill, bound and refusals."""
        self.inventory.table("things", 7)["a"] = 1
        self.inventory.table("memories", 3, cache=True)
        self.assertEqual(self.commands.objects({}), [
            {"name": "things", "size": 1, "limit": 7, "refused": 0, "cache": False},
            {"name": "memories", "size": 0, "limit": 3, "refused": 0, "cache": True}])

    def test_names(self) -> None:
        """Every command is entered under its name."""
        api = Api()
        self.commands.register(api)
        self.assertEqual(api.names, ["connections", "objects", "settings", "timers"])
