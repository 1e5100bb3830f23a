"""The transaction layer: takes messages from the transports, finds or makes their transaction, drives the machines.

A new request, an ACK that belongs to no transaction, and a CANCEL go to `core`. Everything a machine puts out is
performed here after the machine has settled; nobody calls back into a machine in the middle of a step.
"""

from __future__ import annotations

import traceback
from typing import Final, Protocol

from zope.interface import classImplements

from sipd.flow import Flow
from sipd.interfaces import IFlowUser, ITransports
from sipd.inventory import Inventory, Table
from sipd.journal import Journal
from sipd.message import compose
from sipd.message.bounds import WITHOUT, Bounds
from sipd.message.errors import MalformedMessage
from sipd.message.hop import DEFAULT_PORT
from sipd.message.message import Request, Response
from sipd.message.parser import parse, what_can_be_read
from sipd.message.via import Via
from sipd.transaction.invite_client import InviteClient
from sipd.transaction.invite_server import InviteServer
from sipd.transaction.key import Key, server_key
from sipd.transaction.machine import END, FAIL, SEND, START, STOP_DEADLINE, STOP_REPEAT, UP, Outputs
from sipd.transaction.non_invite_client import NonInviteClient
from sipd.transaction.non_invite_server import NonInviteServer
from sipd.transaction.timers import A, E, G, TimerValues
from sipd.transport.via_rules import mark, response_hop
from sipd.wheel import Timer, TimerWheel

#: What all copies of a request have in common (s8.2.2.2): whose it is, From tag, Call-ID and CSeq number. Of these the
#: hash, keyed by this process and of 64 bits: the texts would be held until the transaction ends.
Origin = int

#: Methods whose transactions a CANCEL finds by trying; those of all others stand in a table of their own.
_TRIED: Final = ("INVITE", "MESSAGE", "OPTIONS", "REGISTER", "BYE", "SUBSCRIBE", "NOTIFY", "PUBLISH", "INFO", "UPDATE",
          "PRACK", "REFER")
_NOT_TABLED: Final = frozenset((*_TRIED, "CANCEL"))


class ClientUser(Protocol):
    """Who sent a request through a client transaction."""

    def response(self, transaction: ClientTransaction, response: Response) -> None:
        """A response came: each provisional one, each 2xx to an INVITE, otherwise one final."""

    def failed(self, transaction: ClientTransaction, reason: str) -> None:
        """No final response will come: `reason` "" is the timeout, else why the transport failed."""


class ServerUser(Protocol):
    """Who answers the request of a server transaction."""

    def cancelled(self, request: Request) -> None:
        """A CANCEL for it came and was answered (RFC 3261 s9.2)."""


class Core(Protocol):
    """Where requests go that no transaction knows."""

    def request(self, request: Request, key: Key) -> None:
        """A new request other than ACK and CANCEL; `key` names the server transaction it may have."""

    def ack(self, request: Request) -> None:
        """An ACK that ends no transaction's wait: for a 2xx, for a stateless refusal, or a stray."""

    def cancel(self, request: Request, key: Key, transaction: ServerTransaction | None) -> None:
        """A CANCEL and the transaction it names (RFC 3261 s9.2)."""

    def broken(self, request: Request) -> None:
        """A new request that raised what nobody expected; it may be answered outside any transaction."""

    def malformed(self, error: MalformedMessage, flow: Flow) -> None:
        """A message that cannot be read."""

    def undelivered(self, transaction: ServerTransaction, reason: str) -> None:
        """A response of ours was not taken: no connection could be had for it (s17.2.4; a transaction of an INVITE
        stays as it is, RFC 6026 s7.1), or nobody acknowledged it (s17.2.1; the transaction is over)."""


class Gate(Protocol):
    """Stands before the layer while the server is overloaded."""

    def takes(self, data: bytes, flow: Flow) -> bool:
        """True when the message needs no further work."""


class _Transaction:
    """A machine with its flow and its two timers."""

    __slots__ = ("_layer", "machine", "flow", "key", "_repeat", "_deadline", "_repeats", "_ends")

    _layer: TransactionLayer
    flow: Flow
    key: Key
    _repeat: Timer | None
    _deadline: Timer | None
    #: Which timers of the machine these two stand for.
    _repeats: int
    _ends: int

    def _start_timer(self, timer: int, seconds: float) -> None:
        wheel = self._layer.wheel
        if timer in (A, E, G):
            self._repeats = timer
            self._repeat = wheel.start(seconds, _repeat_fired, self)
        else:
            self._ends = timer
            self._deadline = wheel.start(seconds, _deadline_fired, self)

    def _stop_repeat(self) -> None:
        if self._repeat is not None:
            self._repeat.cancel()
            self._repeat = None

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _perform(self, outputs: Outputs) -> None:
        raise AssertionError("each kind of transaction performs its own outputs")


# Functions, not methods: a bound method would live as long as the timer, one more object of each transaction for the
# garbage collector to walk over.

def _repeat_fired(transaction: _Transaction) -> None:
    transaction._repeat = None
    transaction._perform(transaction.machine.timer(transaction._repeats))  # type: ignore[attr-defined]


def _deadline_fired(transaction: _Transaction) -> None:
    transaction._deadline = None
    transaction._perform(transaction.machine.timer(transaction._ends))  # type: ignore[attr-defined]


class ClientTransaction(_Transaction):
    """A request sent to one hop; `user` hears of its responses. Made by `TransactionLayer.send_request`."""

    __slots__ = ("user",)

    machine: InviteClient | NonInviteClient
    user: ClientUser | None

    def receive(self, response: Response) -> None:
        """A response that matched."""
        self._perform(self.machine.response(response))

    def flow_failed(self, reason: str) -> None:
        """See IFlowUser."""
        self._perform(self.machine.transport_error(reason))

    def _perform(self, outputs: Outputs) -> None:
        for kind, payload in outputs:
            if kind == UP:
                if payload.status >= 200 or self.key[1] == "INVITE":
                    self.flow.users.discard(self)  # an ICMP error can no longer matter (s17.1.1.2)
                if self.user is not None:
                    self.user.response(self, payload)
            elif kind == SEND:
                self.flow.send(payload)
            elif kind == START:
                started: tuple[int, float] = payload
                self._start_timer(started[0], started[1])
            elif kind == STOP_REPEAT:
                self._stop_repeat()
            elif kind == STOP_DEADLINE:
                self._stop_deadline()
            elif kind == FAIL:
                if self.user is not None:
                    self.user.failed(self, payload)
            elif kind == END:
                self.end()

    def end(self) -> None:
        """Forgets the transaction, whatever its state."""
        self._stop_repeat()
        self._stop_deadline()
        self.flow.users.discard(self)
        self._layer.clients.pop(self.key, None)
        self.user = None


classImplements(ClientTransaction, IFlowUser)


class ServerTransaction(_Transaction):
    """A request received. `user` hears when it is cancelled; `respond` answers it."""

    __slots__ = ("request", "via", "user", "_trying", "_origin")

    machine: InviteServer | NonInviteServer
    #: None once a final response went out.
    request: Request | None
    #: The topmost Via of the request, marked: where a connection for the response is opened should the one it came over
    #: be gone; None for a datagram, whose flow never is.
    via: Via | None
    user: ServerUser | None
    _trying: Timer | None
    _origin: Origin | None

    def know_origin(self, origin: Origin) -> None:
        """Enters what tells a copy of the request that came over another path (s8.2.2.2), for as long as this lasts."""
        self._origin = origin
        self._layer.origins[origin] = None

    def receive(self, request: Request) -> None:
        """The request again, or an ACK for it."""
        machine = self.machine
        flow = request.flow
        if flow is not None and not self.flow.alive:
            # s18.2.2: the answer goes over the connection of the original request while that stands, then over this one
            self.flow = flow if flow.reliable else self._layer.reply_flow(request) or self.flow
        if request.method == "ACK":
            if isinstance(machine, InviteServer):
                self._perform(machine.ack(request))
        else:
            self._perform(machine.request(request))

    def respond(self, response: Response) -> None:
        """Sends a response that has the request's Vias; after a final one only more 2xx to an INVITE have effect."""
        if self.flow.reliable and "content-length" not in response.first:
            # s18.3, s20.14: a stream needs it, and who answered over UDP may have left it out
            response.add("Content-Length", str(len(response.body)))
        self.answer(response.status, response.encode())

    def answer(self, status: int, data: bytes) -> None:
        """As `respond`, with a response of our own in octets."""
        if self._trying is not None:
            self._trying.cancel()
            self._trying = None
        if status >= 200:
            self.request = self.user = None  # s9.2: a CANCEL has no effect any more
        self._perform(self.machine.respond(status, data))

    def abandon(self) -> None:
        """Ends without a final response (RFC 4320 s4.2)."""
        self._perform(self.machine.abandon())

    def _perform(self, outputs: Outputs) -> None:
        for kind, payload in outputs:
            if kind == SEND:
                if self.flow.alive:
                    self.flow.send(payload)
                else:
                    self._layer.send_anew(self, payload)
            elif kind == START:
                started: tuple[int, float] = payload
                self._start_timer(started[0], started[1])
            elif kind == UP:
                self._layer.core.ack(payload)
            elif kind == STOP_REPEAT:
                self._stop_repeat()
            elif kind == STOP_DEADLINE:
                self._stop_deadline()
            elif kind == FAIL:
                self._layer.core.undelivered(self, payload)
            elif kind == END:
                self.end()

    def end(self) -> None:
        """Forgets the transaction, whatever its state."""
        self._stop_repeat()
        self._stop_deadline()
        if self._trying is not None:
            self._trying.cancel()
            self._trying = None
        key = self.key
        self._layer.servers.pop(key, None)
        if key[-1] not in _NOT_TABLED:
            self._layer.others.pop(key[:-1], None)
        if self._origin is not None:
            self._layer.origins.pop(self._origin, None)
        self.request = self.user = None


def _send_trying(transaction: ServerTransaction) -> None:
    if transaction.request is not None:
        transaction.answer(100, compose.trying(transaction.request, transaction._layer.values.trying))


def _says(via: Via, sent_by: str) -> bool:
    """True when a Via names the same sent-by in other letters, or without the default port."""
    port = via.port or DEFAULT_PORT.get(via.transport.lower(), 5060)
    return f"{via.host}:{port}".lower() == sent_by.lower()


class TransactionLayer:
    """All transactions of the server. `core` is set by whoever builds the server, before the first message."""

    core: Core

    def __init__(self, transports: ITransports, wheel: TimerWheel, values: TimerValues, inventory: Inventory,
                 journal: Journal, limit: int = 200_000, bounds: Bounds = WITHOUT) -> None:
        self.transports = transports
        self.wheel = wheel
        self.values = values
        self.journal = journal
        self.clients: Table[Key, ClientTransaction] = inventory.table("client transactions", limit)
        self.servers: Table[Key, ServerTransaction] = inventory.table("server transactions", limit)
        self.origins: Table[Origin, None] = inventory.table("requests served once", limit)
        #: Server transactions of methods that are not in _TRIED, by key without method: for a CANCEL (s9.2).
        self.others: Table[Key, ServerTransaction] = inventory.table("transactions of other methods", limit)
        #: As the tables have it: no look-up by name for each request.
        self._limit = limit
        self.bounds = bounds
        #: Set while new work is refused.
        self.gate: Gate | None = None
        #: Responses that no transaction waits for (s18.1.2, RFC 6026 s7.3): counted and dropped.
        self.strays = 0
        #: Messages that could not be read, or passed a bound.
        self.malformed = 0

    def receive(self, data: bytes, flow: Flow, lost: MalformedMessage | None = None) -> None:
        """One message from a flow; never raises. `lost` says why `data` is all that could be cut from a stream."""
        message: Request | Response | None = None
        try:
            if self.gate is not None and lost is None and self.gate.takes(data, flow):
                return
            try:
                if lost is not None:
                    lost.message = what_can_be_read(data)
                    raise lost
                message = parse(data, flow.reliable, self.bounds, flow.known)
            except MalformedMessage as error:
                self.malformed += 1
                if error.message is not None:
                    error.message.flow = flow
                self.core.malformed(error, flow)
                return
            if isinstance(message, Response):
                self._response(message, flow)
            else:
                self._request(message, flow)
        except Exception as bug:
            # the border: a bug of ours costs this message and is recorded, and the next message is served
            self._bug(bug)
            if isinstance(message, Request) and message.method != "ACK":
                self.core.broken(message)

    def _bug(self, error: Exception) -> None:
        self.journal.write("bug", reason="".join(traceback.format_exception(error)))

    def _response(self, response: Response, flow: Flow) -> None:
        response.flow = flow
        via = response.via
        assert via is not None
        # s17.1.3: the branch we put, and the method of CSeq
        transaction = self.clients.get((via.branch.lower(), response.cseq_method))
        if transaction is None:
            self.strays += 1
            return
        sent_by = transaction.flow.listener.sent_by
        if via.head.sent_by != sent_by and not _says(via, sent_by):
            self.strays += 1  # s18.1.2: not what we wrote, so not a response to us
            return
        transaction.receive(response)

    def _request(self, request: Request, flow: Flow) -> None:
        request.flow = flow
        method = request.method
        key = server_key(request, "INVITE" if method == "ACK" else method)
        mark(request, flow)
        transaction = self.servers.get(key)
        if transaction is not None:
            transaction.receive(request)
        elif method == "ACK":
            self.core.ack(request)
        elif method == "CANCEL":
            self.core.cancel(request, key, self._cancelled_by(key))
        else:
            self.core.request(request, key)

    def _cancelled_by(self, key: Key) -> ServerTransaction | None:
        """The transaction a CANCEL names: any method but CANCEL and ACK (s9.2), nearly always INVITE."""
        prefix = key[:-1]
        for method in _TRIED:
            found = self.servers.get((*prefix, method))
            if found is not None:
                return found
        return self.others.get(prefix)

    def configure(self, values: TimerValues, limit: int, bounds: Bounds) -> None:
        """Other timers and bounds, for transactions and messages that come from now on."""
        self.values, self.bounds, self._limit = values, bounds, limit
        self.clients.limit = self.servers.limit = self.origins.limit = self.others.limit = limit

    def flows_in_use(self) -> list[Flow]:
        """The flow of every transaction there is."""
        return [*(server.flow for server in self.servers.values()), *(client.flow for client in self.clients.values())]

    def serve(self, request: Request, key: Key) -> ServerTransaction | None:
        """A server transaction for a request that came; None when the table is full."""
        servers = self.servers
        if len(servers) >= self._limit:
            servers.refused += 1
            return None
        flow = self.reply_flow(request)
        if flow is None:
            return None
        transaction = ServerTransaction()
        reliable: bool = flow.reliable
        if request.method == "INVITE":
            transaction.machine = InviteServer(self.values, reliable)
        else:
            transaction.machine = NonInviteServer(self.values, reliable)
        transaction._layer = self
        transaction.flow = flow
        transaction.key = key
        transaction.request = request
        transaction.via = request.via if reliable else None
        transaction.user = transaction._origin = None
        transaction._repeat = transaction._deadline = transaction._trying = None
        transaction._repeats = transaction._ends = 0
        servers[key] = transaction
        if key[-1] not in _NOT_TABLED:
            self.others[key[:-1]] = transaction
        return transaction

    def promise_trying(self, transaction: ServerTransaction) -> None:
        """Sends 100 when a non-INVITE is still unanswered as a client's timer E reaches T2 (RFC 4320 s4.1)."""
        transaction._trying = self.wheel.start(self.values.trying, _send_trying, transaction)

    def reply_flow(self, request: Request) -> Flow | None:
        """The flow a response goes over (s18.2.2), None when there is none."""
        flow, via = request.flow, request.via
        assert flow is not None and via is not None
        hop = response_hop(via, flow)
        if hop is None or flow.reliable:
            return flow
        return self.transports.flow_to(hop, flow.listener.name)

    def send_response(self, request: Request, data: bytes) -> None:
        """Sends a response outside any transaction (s8.2.7)."""
        flow = self.reply_flow(request)
        if flow is not None:
            flow.send(data)

    def send_anew(self, transaction: ServerTransaction, data: bytes) -> None:
        """s18.2.2: the connection a request came on is gone, so one is opened to received and the port of sent-by.
        s17.2.4: the core hears of it when there is none to be had."""
        flow = transaction.flow
        hop = response_hop(transaction.via, flow) if transaction.via is not None else None
        if hop is None:
            return
        again = self.transports.flow_to(hop, flow.listener.name)
        if again is not None:
            again.send(data)
        else:
            self.transports.connect(hop, lambda opened, reason: opened.send(data) if opened is not None
                                    else self.core.undelivered(transaction, reason))

    def send_request(self, request: Request, data: bytes, branch: str, flow: Flow,
                     user: ClientUser) -> ClientTransaction | None:
        """Sends a request, `data` as octets, whose topmost Via has `branch`, in a client transaction; None when the
        table is full."""
        clients = self.clients
        # a CANCEL has room still: there is one for each INVITE at most, and it makes room
        if len(clients) >= self._limit and request.method != "CANCEL":
            clients.refused += 1
            return None
        transaction = ClientTransaction()
        if request.method == "INVITE":
            transaction.machine = InviteClient(self.values, flow.reliable, request, data)
        else:
            transaction.machine = NonInviteClient(self.values, flow.reliable, request, data)
        transaction._layer = self
        transaction.flow = flow
        transaction.key = (branch.lower(), request.method)
        transaction.user = user
        transaction._repeat = transaction._deadline = None
        transaction._repeats = transaction._ends = 0
        clients[transaction.key] = transaction
        flow.users.add(transaction)
        transaction._perform(transaction.machine.start())
        return transaction
