"""The commands about peers, on stand-ins for what the server holds."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sipd.admin.api import LISTED, Api, Refused
from sipd.admin.peer_commands import PeerCommands
from sipd.auth.credentials import User, Users
from sipd.binding import Binding
from sipd.message.hop import Hop


class PeerTests(SynchronousTestCase):
    """Who there is and where."""

    def setUp(self) -> None:
        self.users = Users("example.com", ("two.example",))
        self.users.configure("1001", "r", ("MD5", "SHA-256"), "a", None, "One")
        self.users.add(User("1002@example.com", {("MD5", "1002"): "x"}, stored=True))
        self.users.configure("1001@two.example", "r", ("MD5",), "b", None, "", ("MD5",))
        self.bindings: list[Binding] = []
        self.lost: list[Binding] = []
        self.store = ""
        self.carriers: list[dict[str, Any]] = []
        location: Any = SimpleNamespace(
            everything=lambda: iter(self.bindings), change=self.change,
            bindings=lambda aor: [binding for binding in self.bindings if binding.aor == aor],
            note_lost=lambda bindings, reason: self.lost.extend(bindings))
        self.commands = PeerCommands(
            self.users, location, "example.com", lambda: (("example.com", "alias.example"), ("two.example",)),
            lambda flow_id: flow_id == "tcp/1", lambda: [
                {"kind": "user", "peer": "1001@example.com", "contact": "sip:1001@192.0.2.9", "state": "lagged", "rtt": 9.5}],
            lambda: 1000.0, lambda: self.carriers, lambda peer: [("call_limit", "2", f"[peers.{peer}]")])

    def change(self, aor: str, changes: list[tuple[str, Binding]], done: Callable[[str], None],
               why: str = "") -> None:
        """The store, failing where a test wants it."""
        if not self.store:
            for _, binding in changes:
                self.bindings.remove(binding)
        done(self.store)

    def bind(self, aor: str, **more: Any) -> None:
        """A binding."""
        values: dict[str, Any] = {"source": Hop("tcp", "192.0.2.9", 40000), "flow": "tcp/1", "user_agent": "phone",
                                  "registered_at": 990.0, "listener": "192.0.2.1:5060", **more}
        name = aor.partition("@")[0]
        self.bindings.append(Binding(aor, values.pop("contact", f"sip:{name}@192.0.2.9"), "", 500, 1060.0, "c", 7, **values))

    def names(self, match: str = "") -> list[str]:
        """Who is listed."""
        return [row["name"] for row in self.commands.peers({"match": match})["peers"]]

    def test_peers(self) -> None:
        """Every user and whoever is registered besides, with where and how long."""
        self.bind("1001@example.com")
        self.bind("guest@example.com", source=None, flow="")
        result = self.commands.peers({})
        self.assertEqual((result["all"], result["registered"]), (4, 2))
        self.assertEqual([row["name"] for row in result["peers"]], ["1001", "1001@two.example", "1002", "guest"])
        self.assertEqual(result["peers"][0], {
            "name": "1001", "kind": "user", "aor": "1001@example.com", "display_name": "One", "kept": "configuration",
            "contacts": 1,
            "transport": "tcp", "address": "192.0.2.9", "port": 40000, "expires": 60, "user_agent": "phone", "state": "lagged"})
        self.assertEqual([row["kept"] for row in result["peers"]], ["configuration", "configuration", "store", "nowhere"])
        self.assertEqual((result["peers"][2]["contacts"], result["peers"][2]["address"]), (0, ""))

    def test_match(self) -> None:
        """A text is found anywhere, a pattern fits the whole name."""
        for match, names in (("", ["1001", "1001@two.example", "1002"]), ("TWO", ["1001@two.example"]), ("002", ["1002"]),
                             ("*2", ["1002"]), ("100?", ["1001", "1002"]), ("z", [])):
            self.assertEqual(self.names(match), names, match)

    def test_carriers(self) -> None:
        """A carrier is a peer like the others: listed, counted and found by its name; one of them is shown with what
        holds for it."""
        self.carriers.append({"name": "carrier", "address": "203.0.113.10", "port": 5060, "transport": "udp", "expires": 9,
                              "state": "registered"})
        result = self.commands.peers({"match": "c?rr*"})
        self.assertEqual((result["all"], result["registered"]), (1, 1))
        self.assertEqual((result["peers"][0]["kind"], result["peers"][0]["address"], result["peers"][0]["contacts"]),
                         ("carrier", "203.0.113.10", 1))
        self.assertEqual(self.commands.peers({})["all"], 4)
        shown = self.commands.peer({"name": "carrier"})
        self.assertEqual((shown["kind"], shown["state"], shown["policy"]), ("carrier", "registered", [
            {"key": "call_limit", "value": "2", "source": "[peers.carrier]"}]))
        self.assertEqual(self.commands.peer({"name": "1001"})["policy"][0]["source"], "[peers.1001@example.com]")
        self.assertIn("carrier is meant?", str(self.assertRaises(Refused, self.commands.peer, {"name": "carier"})))

    def test_bounded(self) -> None:
        """The list ends at a bound, and the numbers say so."""
        for number in range(LISTED):
            self.users.add(User(f"u{number}@example.com", {}))
        result = self.commands.peers({})
        self.assertEqual((len(result["peers"]), result["all"]), (LISTED, LISTED + 3))

    def test_peer(self) -> None:
        """Everything about one, however its name is written; whether its connection stands."""
        self.bind("1001@example.com", path=("<sip:p>",))
        self.bind("1001@example.com", contact="sip:b", flow="tcp/2")
        self.bind("1001@example.com", contact="sip:c", flow="udp/a/b")
        for name in ("1001", "1001@EXAMPLE.com", "sip:1001@example.com", "sips:1001"):
            result = self.commands.peer({"name": name})
            self.assertEqual((result["aor"], result["algorithms"], result["only"]), (
                "1001@example.com", ["MD5", "SHA-256"], []))
            self.assertEqual([one["flow"] for one in result["bindings"]], ["open", "gone", "none"])
        one = result["bindings"][0]
        self.assertEqual((one["expires"], one["registered"], one["path"], one["state"], one["rtt"]), (
            60, 10, ["<sip:p>"], "lagged", 9.5))
        self.assertEqual(self.commands.peer({"name": "1001@two.example"})["only"], ["MD5"])

    def test_nobody(self) -> None:
        """A name that is nobody's is refused, with those it may stand for."""
        error = self.assertRaises(Refused, self.commands.peer, {"name": "10001"})
        self.assertIn("there is no peer '10001'; 1001 ", str(error))
        self.assertNotIn("meant", str(self.assertRaises(Refused, self.commands.peer, {"name": "reception"})))
        self.bind("guest@example.com")
        self.assertEqual(self.commands.aor("guest"), "guest@example.com")

    def test_domains(self) -> None:
        """Each name served, what it is, and who is there."""
        self.bind("1001@example.com")
        self.bind("1001@example.com", contact="sip:b")
        self.assertEqual([tuple(row.values()) for row in self.commands.domains({})], [
            ("example.com", "first domain", 2, 1), ("alias.example", "another name of example.com", 0, 0),
            ("two.example", "tenant", 1, 0)])

    def test_unregister(self) -> None:
        """One binding or all; answered after the store, and noted."""
        for contact in ("sip:a", "sip:b", "sip:c"):
            self.bind("1001@example.com", contact=contact)
        for request, contacts in (({"name": "1001", "contact": "sip:b"}, ["sip:b"]), ({"name": "1001"}, ["sip:a", "sip:c"])):
            result = self.successResultOf(self.commands.unregister(request))
            self.assertEqual(result, {"aor": "1001@example.com", "contacts": contacts})
        self.assertEqual((self.bindings, len(self.lost)), ([], 3))

    def test_unregister_refused(self) -> None:
        """Who is not registered, not there, or whom the store keeps is refused, and stays."""
        self.assertRaises(Refused, self.commands.unregister, {"name": "1001"})
        self.bind("1001@example.com", contact="sip:a")
        error = self.assertRaises(Refused, self.commands.unregister, {"name": "1001", "contact": "sip:x"})
        self.assertEqual(str(error), "1001 is not registered at sip:x; it is at sip:a")
        self.store = "disk full"
        self.failureResultOf(self.commands.unregister({"name": "1001"}), Refused)
        self.assertEqual((len(self.bindings), self.lost), (1, []))

    def test_names(self) -> None:
        """Every command is entered under its name."""
        api = Api()
        self.commands.register(api)
        self.assertEqual(api.names, ["domains", "peer", "peers", "unregister"])
