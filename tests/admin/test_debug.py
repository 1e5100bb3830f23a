"""The live view of messages: its filters, its bounds, and its way over the control socket."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from sipd.admin.api import Api, Refused
from sipd.admin.control_socket import IDLE, ControlProtocol
from sipd.admin.debug import VIEWS, Debug
from sipd.binding import Binding
from sipd.inventory import Inventory, Table
from sipd.message.hop import Hop

REGISTER = (b"REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKx\r\nFrom: <sip:1001@example.com>;tag=a\r\n"
            b"To: <sip:1001@example.com>\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n\r\n")


class DebugTests(SynchronousTestCase):
    """Views on a control connection in memory."""

    def setUp(self) -> None:
        self.watch: Any = None
        self.inventory = Inventory()
        binding = Binding("1002@example.com", "sip:x", "", 1000, 9e9, "c", 1, source=Hop("udp", "192.0.2.2", 5060))
        self.debug = Debug(self.show, self.peer, lambda uri: f"{uri.user}@{uri.host}",
                           lambda aor: [binding] if aor == binding.aor else [], lambda: 1.5, self.inventory)
        self.api = Api()
        self.debug.register(self.api)
        self.clock = Clock()
        self.connections: Table[int, ControlProtocol] = self.inventory.table("control connections", 32)

    def show(self, watch: Any) -> None:
        """The transports."""
        self.watch = watch

    def peer(self, name: str) -> str:
        """Who there is."""
        if name not in ("1001", "1002"):
            raise Refused(f"there is no peer {name!r}")
        return f"{name}@example.com"

    def view(self, **arguments: Any) -> tuple[ControlProtocol, StringTransport]:
        """A connection on which a view was asked for."""
        protocol = ControlProtocol(self.api, self.clock, self.connections)
        transport = StringTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(json.dumps({"command": "debug", **arguments}).encode() + b"\n")
        return protocol, transport

    def lines(self, transport: StringTransport) -> list[Any]:
        """What came over a connection since this was asked last."""
        found = [json.loads(line) for line in transport.value().splitlines()]
        transport.clear()
        return found

    def flow(self, address: str = "192.0.2.9", port: int = 5060, flow_id: str = "f") -> Any:
        """A flow."""
        return SimpleNamespace(id=flow_id, transport="udp", address=address, port=port,
                               listener=SimpleNamespace(name="192.0.2.1:5060"))

    def test_everything(self) -> None:
        """Without a filter every message comes, and what keeps connections alive does not; nobody watches afterwards."""
        protocol, transport = self.view()
        self.assertIs(self.watch, self.debug)
        self.watch.received(REGISTER, self.flow())
        self.watch.received(b"\r\n\r\n", self.flow())
        self.watch.sent(b"\xff", self.flow())
        lines = self.lines(transport)
        self.assertEqual(lines[0], {"ok": True, "result": {"peer": "", "ip": "", "port": 0}})
        self.assertEqual(lines[1], {
            "time": 1.5, "direction": "in", "transport": "udp", "peer": "192.0.2.9:5060", "listener": "192.0.2.1:5060",
            "text": REGISTER.decode(), "lost": 0})
        self.assertEqual([(line["direction"], line["text"]) for line in lines[2:]], [("out", "\\xff")])
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertIsNone(self.watch)
        self.assertEqual(self.inventory.left(), {})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_filters(self) -> None:
        """By address, by address and port, by the peer's place, and by its name in From or To."""
        named = REGISTER.replace(b"1001", b"1003")
        for arguments, data, flow, seen in (
            ({"ip": "192.0.2.9"}, named, self.flow(), True),
            ({"ip": "192.0.2.8"}, named, self.flow(), False),
            ({"ip": "192.0.2.9:5060"}, named, self.flow(), True),
            ({"ip": "192.0.2.9:5061"}, named, self.flow(), False),
            ({"ip": "[2001:db8::1]:5060"}, named, self.flow("2001:db8::1"), True),
            ({"ip": "2001:db8::1"}, named, self.flow("2001:db8::1"), True),
            ({"peer": "1001"}, REGISTER, self.flow(), True),
            ({"peer": "1001"}, REGISTER.replace(b"REGISTER sip:example.com SIP/2.0", b"SIP/2.0 401 No"), self.flow(), True),
            ({"peer": "1001"}, REGISTER.replace(b"CSeq: 1", b"CSeq: x"), self.flow(), True),
            ({"peer": "1001"}, named, self.flow(), False),
            ({"peer": "1002"}, named, self.flow("192.0.2.2"), True),
            ({"peer": "1002"}, b"\xff broken", self.flow(), False),
            ({"peer": "1002"}, b"INVITE", self.flow(), False),
        ):
            protocol, transport = self.view(**arguments)
            self.watch.received(data, flow)
            self.assertEqual(len(self.lines(transport)), 2 if seen else 1, (arguments, data))
            protocol.connectionLost(Failure(ConnectionDone()))

    def test_refused(self) -> None:
        """A peer who is not there, a port that is none, and a view too many are refused; nobody watches then."""
        for arguments in ({"peer": "1009"}, {"ip": "192.0.2.9:x"}, {"ip": 5}):
            self.assertFalse(self.lines(self.view(**arguments)[1])[0]["ok"], arguments)
        self.assertIsNone(self.watch)
        for _ in range(VIEWS):
            self.view()
        self.assertIn("off ends them", self.lines(self.view()[1])[0]["error"])

    def test_slow_reader(self) -> None:
        """Who reads too slowly loses messages, not the server its memory; how many is said."""
        protocol, transport = self.view()
        protocol.pauseProducing()
        for _ in range(3):
            self.watch.received(REGISTER, self.flow())
        self.assertEqual(len(self.lines(transport)), 1)
        protocol.resumeProducing()
        self.watch.received(REGISTER, self.flow())
        self.assertEqual([line["lost"] for line in self.lines(transport)], [3])

    def test_stays_open(self) -> None:
        """A view may be silent for as long as it likes; whatever is sent on it ends it."""
        protocol, transport = self.view()
        self.clock.advance(10 * IDLE)
        self.assertFalse(transport.disconnecting)
        protocol.dataReceived(b"{}\n")
        self.assertTrue(transport.disconnecting)

    def test_off(self) -> None:
        """All views are ended at once."""
        views = [self.view(), self.view()]
        answer = self.successResultOf(ensureDeferred(self.api.answer(b'{"command": "debug off"}')))
        self.assertEqual(json.loads(answer)["result"], {"ended": 2})
        self.assertIsNone(self.watch)
        self.assertEqual([transport.disconnecting for _, transport in views], [True, True])

    def test_only_where_it_can_go_on(self) -> None:
        """Where only one answer is possible it is refused."""
        answer = self.successResultOf(ensureDeferred(self.api.answer(b'{"command": "debug"}')))
        self.assertFalse(json.loads(answer)["ok"])
        self.assertIsNone(self.watch)
