"""A transaction layer on the network in memory, with a core and users that remember."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from sipd.inventory import Inventory
from sipd.journal import Journal
from sipd.message import compose
from sipd.message.errors import MalformedMessage
from sipd.message.message import Request, Response
from sipd.message.parser import parse
from sipd.transaction.layer import ClientTransaction, ServerTransaction, TransactionLayer
from sipd.transaction.timers import TimerValues
from sipd.wheel import TimerWheel
from tests.support.network import Connection, MemoryNetwork

SERVER = ("192.0.2.1", 5060)


class Remembering:
    """A core and a user of transactions: whatever it is told stands in `heard`."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.layer: TransactionLayer | None = None
        #: Requests with their keys, as the core got them.
        self.requests: list[tuple[Request, Any]] = []
        self.cancels: list[tuple[Request, Any, ServerTransaction | None]] = []
        self.explode = False

    def request(self, request: Request, key: Any) -> None:
        """Core: a new request."""
        if self.explode:
            raise RuntimeError("a bug")
        self.requests.append((request, key))
        self.heard.append(("request", request.method))

    def ack(self, request: Request) -> None:
        """Core: an ACK that is not a machine's."""
        self.heard.append(("ack", request.call_id))

    def cancel(self, request: Request, key: Any, transaction: ServerTransaction | None) -> None:
        """Core: a CANCEL."""
        self.cancels.append((request, key, transaction))
        self.heard.append(("cancel", transaction is not None))

    def malformed(self, error: MalformedMessage, flow: Any) -> None:
        """Core: something unreadable."""
        self.heard.append(("malformed", error.reason))

    def undelivered(self, transaction: ServerTransaction, reason: str) -> None:
        """Core: a response that was not taken."""
        self.heard.append(("undelivered", reason))

    def broken(self, request: Request) -> None:
        """Core: a request that met a bug of ours."""
        self.heard.append(("broken", request.method))

    def response(self, transaction: ClientTransaction, response: Response) -> None:
        """User of a client transaction."""
        self.heard.append(("response", response.status))

    def failed(self, transaction: ClientTransaction, reason: str) -> None:
        """User of a client transaction."""
        self.heard.append(("failed", reason))

    def cancelled(self, request: Request) -> None:
        """User of a server transaction."""
        self.heard.append(("cancelled", request.method))


class LayerRig:
    """The layer, and one peer at 192.0.2.9 over UDP or TCP."""

    def __init__(self, limit: int = 1000) -> None:
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self.transports = self.network.transports([("udp", *SERVER), ("tcp", *SERVER)])
        self.inventory = Inventory()
        self.journal = Journal()
        self.bugs: list[str] = []
        self.journal.sinks.append(lambda kind, fields: self.bugs.append(fields["reason"]))
        self.wheel = TimerWheel(self.clock)
        self.layer = TransactionLayer(self.transports, self.wheel, TimerValues(), self.inventory, self.journal, limit)
        self.core = self.layer.core = Remembering()
        self.transports.receive = self.layer.receive
        self.peer = self.network.endpoint("udp", "192.0.2.9", 5060)
        self.stream: Connection | None = None

    def over_tcp(self) -> LayerRig:
        """From now on the peer is at the other end of a connection."""
        self.stream = self.network.endpoint("tcp", "192.0.2.9", 40000).connect(SERVER)
        return self

    @property
    def flow(self) -> Any:
        """The flow to the peer."""
        if self.stream is not None:
            return self.stream.flow
        return self.transports.udp_flow(self.transports.listeners[0], "192.0.2.9", 5060)

    def send(self, data: bytes) -> None:
        """From the peer to the layer."""
        if self.stream is not None:
            self.stream.send(data)
        else:
            self.peer.send(data, SERVER)

    @property
    def sent(self) -> list[tuple[float, str]]:
        """What the layer sent: when (to the tenth of a second) and method or status."""
        lines = []
        for packet in self.network.packets:
            if packet.source == SERVER:
                words = packet.data.split(b" ", 2)
                lines.append((round(packet.at, 1), (words[1] if words[0] == b"SIP/2.0" else words[0]).decode()))
        return lines

    def advance(self, seconds: float) -> None:
        """Lets time pass in small steps; in virtual time every timer fires in its slot."""
        for _ in range(round(seconds * 50)):
            self.clock.advance(0.02)

    def client(self, method: str, branch: str = "z9hG4bKours") -> Any:
        """Sends a request to the peer in a client transaction."""
        made = compose.request(method, "sip:bob@192.0.2.9", [
            ("Via", f"SIP/2.0/{'TCP' if self.stream else 'UDP'} 192.0.2.1:5060;branch={branch}"), ("Max-Forwards", "70"),
            ("From", "<sip:alice@atlanta.com>;tag=1"), ("To", "<sip:bob@biloxi.com>"), ("Call-ID", "c1"),
            ("CSeq", f"1 {method}")])
        return self.layer.send_request(made, made.encode(), branch, self.flow, self.core)

    def respond(self, method: str, status: int, branch: str = "z9hG4bKours", via: str = "", tag: str = "b") -> None:
        """The peer answers."""
        transport = "TCP" if self.stream else "UDP"
        self.send("\r\n".join([
            f"SIP/2.0 {status} x", via or f"Via: SIP/2.0/{transport} 192.0.2.1:5060;branch={branch}",
            "From: <sip:alice@atlanta.com>;tag=1", f"To: <sip:bob@biloxi.com>;tag={tag}", "Call-ID: c1", f"CSeq: 1 {method}",
            "Content-Length: 0", "", ""]).encode())

    def ask(self, method: str, branch: str = "z9hG4bKtheirs", *, sent_by: str = "192.0.2.9:5060", cseq: int = 1,
            call_id: str = "c2", uri: str = "sip:alice@192.0.2.1", from_tag: str = ";tag=1", to_tag: str = "") -> None:
        """The peer asks."""
        transport = "TCP" if self.stream else "UDP"
        via = f"SIP/2.0/{transport} {sent_by}" + (f";branch={branch}" if branch else "")
        self.send("\r\n".join([
            f"{method} {uri} SIP/2.0", f"Via: {via}", "Max-Forwards: 70", f"From: <sip:bob@biloxi.com>{from_tag}",
            f"To: <sip:alice@atlanta.com>{to_tag}", f"Call-ID: {call_id}", f"CSeq: {cseq} {method}", "Content-Length: 0", "",
            ""]).encode())

    def serve(self) -> ServerTransaction:
        """A server transaction for the last request the core got."""
        request, key = self.core.requests[-1]
        transaction = self.layer.serve(request, key)
        assert transaction is not None
        transaction.user = self.core
        return transaction

    def answer(self, transaction: ServerTransaction, status: int) -> None:
        """Answers it."""
        request = self.core.requests[-1][0]
        transaction.answer(status, compose.response(request, status, "", "ours"))

    def empty(self) -> bool:
        """True when no transaction and no timer is left, and nobody waits for a flow."""
        return not (self.layer.clients or self.layer.servers or self.layer.others or len(self.wheel) or self.flow.users)


def parsed(data: bytes) -> Any:
    """A message."""
    return parse(data)
