"""The client core: every request of our own but INVITE and ACK (RFC 3261 s8.1, s22.2, RFC 3263 s4.3).

An `Ask` says what is wanted. The client finds the hops, sends to one after the other until one answers, answers
challenges, follows redirections, asks for longer where 423 says so, and tells the outcome once. In a dialog or not is a
matter of the tags, the CSeq and the route that the ask brings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from sipd.auth.keyring import Keyring
from sipd.flow import Flow
from sipd.inventory import Inventory, Table
from sipd.message import compose
from sipd.message.address import Address
from sipd.message.errors import MalformedMessage
from sipd.message.hop import Hop
from sipd.message.message import Request, Response
from sipd.message.uri import Uri
from sipd.message.values import delta_seconds, retry_after
from sipd.proxy.forward import MAX_DATAGRAM, contact_at, own_request
from sipd.proxy.route_headers import next_hop, secured
from sipd.proxy.targets import Target, for_request
from sipd.wheel import Timer

if TYPE_CHECKING:
    from sipd.proxy.proxy import Proxy
    from sipd.transaction.layer import ClientTransaction

#: Requests sent for one ask, whatever its answers say: hops, challenges and redirections together.
_MOST_SENT: Final = 16
#: Redirections followed for one ask (s8.1.3.4).
_MOST_REDIRECTED: Final = 5
#: The longest Min-Expires that is agreed to (seconds).
_LONGEST: Final = 86400
#: An ask ends after so many times 64*T1, whatever its hops and names do.
_PATIENCE: Final = 3.0


class Ask:
    """One request that we want answered. What it learns on the way stays in it: `cseq`, `expires`.

    `target` says where it goes (its URI is the Request-URI); `to` and `from_` are header values, `from_` with its tag.
    `contact` is the user part of our Contact, "" for none; `expires` in seconds, None for none. `headers` are further
    (name, value) pairs. `blames` is False where a hop's silence is nobody else's business. `patience`: seconds in all.
    With a `branch` it is one request that may have been sent before: the first transaction has that branch, and the
    CSeq is `cseq` in all, so that who got it already can tell (s8.2.2.2, s17.2.3).
    """

    __slots__ = ("method", "target", "to", "from_", "call_id", "cseq", "contact", "expires", "headers", "body",
                 "keyring", "chance", "blames", "patience", "branch")

    def __init__(self, method: str, target: Target, to: str, from_: str, call_id: str, cseq: int = 0, *,
                 contact: str = "", expires: int | None = None, headers: tuple[tuple[str, str], ...] = (),
                 body: bytes = b"", keyring: Keyring | None = None, chance: bytes = b"", blames: bool = True,
                 patience: float = 0.0, branch: str = "") -> None:
        self.method = method
        self.target = target
        self.to = to
        self.from_ = from_
        self.call_id = call_id
        #: Of the last request sent.
        self.cseq = cseq
        self.contact = contact
        self.expires = expires
        self.headers = headers
        self.body = body
        self.keyring = keyring
        #: The order of servers of equal priority, as IResolver has it: the same chance leads to the same server.
        self.chance = chance
        self.blames = blames
        self.patience = patience
        self.branch = branch


class Outcome(NamedTuple):
    """What came of an ask. `status` 0: no answer; `reason` is for people. `seconds` passed between the last request
    and its answer; `retry_after` seconds were asked for, 0 where none were."""

    status: int
    reason: str
    response: Response | None = None
    hop: Hop | None = None
    flow: Flow | None = None
    seconds: float = 0.0
    retry_after: int = 0
    #: Every hop that the target led to, the one that answered first.
    hops: tuple[Hop, ...] = ()


Done = Callable[[Outcome], None]


class Sending:
    """An ask on its way. `cancel` gives it up: its outcome is not told any more."""

    __slots__ = ("_uac", "number", "_ask", "_done", "_hops", "_all", "_hop", "_flow", "_datagrams", "_transaction",
                 "_timer", "_deadline", "_sent", "_redirects", "_tried", "_lengthened", "_sent_at", "_target",
                 "_last")

    def __init__(self, uac: Uac, number: int, ask: Ask, done: Done) -> None:
        self._uac = uac
        self.number = number
        self._ask = ask
        self._done: Done | None = done
        self._target = ask.target
        self._hops: list[Hop] = []
        self._all: list[Hop] = []
        self._hop: Hop | None = None
        self._flow: Flow | None = None
        self._datagrams: Flow | None = None
        self._transaction: ClientTransaction | None = None
        self._timer: Timer | None = None
        self._sent = self._redirects = 0
        self._tried: dict[str, int] = {}
        self._lengthened = False
        self._sent_at = 0.0
        #: What is told when no further hop answers.
        self._last = Outcome(0, "no way there")
        wheel = uac.wheel
        self._deadline: Timer | None = wheel.start(
            ask.patience or _PATIENCE * uac.proxy.layer.values.timeout, self._too_late, None)

    # --- where to

    def start(self) -> None:
        """Looks for the way; called once."""
        proxy = self._uac.proxy
        target = self._target
        flow = proxy.flow_of(target)
        if flow is not None:
            self._send(flow)
            return
        if target.only:
            # RFC 5626 s5.3: the connection or NAT binding that alone reaches it is gone
            self._fail("its connection is gone")
            return
        try:
            uri = secured(next_hop(self._draft()) if target.route else Uri.parse(target.uri), target.uri)
        except MalformedMessage as error:
            self._fail(error.reason)
            return
        proxy.with_hops(uri, self._resolved, self._ask.chance)

    def _resolved(self, hops: list[Hop]) -> None:
        if self._done is None:
            return
        self._hops = list(hops)
        self._all += [hop for hop in hops if hop not in self._all]
        if hops:
            self._try_next_hop()
        else:
            self._fail(f"no way to {self._target.uri}")

    def _try_next_hop(self) -> None:
        transports = self._uac.proxy.transports
        listener = self._target.listener
        while self._hops:
            hop = self._hop = self._hops.pop(0)
            flow = transports.flow_to(hop, listener)
            if flow is not None:
                self._send(flow)
                return
            if hop.transport != "udp":
                transports.connect(hop, self._connected)
                return
            self._blame("no listener of its family")
        self._finish_soon()

    def _connected(self, flow: Flow | None, reason: str) -> None:
        if self._done is None:
            return
        if flow is not None:
            self._send(flow)
        else:
            self._hop_failed(reason)

    # --- sending

    def _draft(self) -> Request:
        """The request without what depends on the flow."""
        ask = self._ask
        fields = [("Route", value) for value in self._target.route]
        fields += [("CSeq", f"{ask.cseq} {ask.method}")]
        return compose.request(ask.method, self._target.uri, fields)

    def _compose(self, flow: Flow, told: Flow, branch: str) -> Request:
        """s8.1.1 for one flow. `told`: whose listener our Contact names."""
        ask = self._ask
        fields: list[tuple[str, str]] = []
        if ask.contact:
            fields.append(("Contact", contact_at(ask.contact, told, self._target.uri)))
        if ask.expires is not None:
            fields.append(("Expires", str(ask.expires)))
        fields += ask.headers
        if ask.keyring is not None:
            fields += ask.keyring.credentials(ask.method, self._target.uri, self._tried)
        return own_request(ask.method, self._target, flow, branch, ask.from_, ask.to, ask.call_id, ask.cseq, fields,
                           ask.body)

    def _send(self, flow: Flow, any_size: bool = False) -> None:
        """One request to one hop, in a transaction of its own."""
        uac, ask = self._uac, self._ask
        if self._done is None:
            return
        if self._sent >= _MOST_SENT:
            self._finish(self._last)
            return
        proxy = uac.proxy
        told = self._datagrams or flow
        branch = ask.branch if ask.branch and not self._sent else proxy.identifiers.branch()
        if not ask.branch:
            ask.cseq += 1
        request = self._compose(flow, told, branch)
        data = request.encode()
        if len(data) > MAX_DATAGRAM and not (flow.reliable or any_size) and self._hop is not None:
            self._datagrams = flow
            proxy.by_tcp(self._hop, flow, self._sized)
            return
        self._sent += 1
        self._flow = flow
        self._sent_at = uac.wheel.now
        if self._hops:
            self._timer = uac.wheel.start(proxy.values.hop_timeout, self._silent, None)
        self._transaction = proxy.layer.send_request(request, data, branch, flow, self)
        if self._transaction is None:
            self._fail("too many transactions")

    def _sized(self, flow: Flow) -> None:
        """s18.1.1: a request too large for a datagram takes this flow."""
        self._send(flow, True)

    # --- what comes back

    def response(self, transaction: ClientTransaction, response: Response) -> None:
        """See ClientUser."""
        if transaction is not self._transaction:
            return
        self._stop_timer()
        status = response.status
        if status < 200:
            return
        self._transaction = None
        again = response.first.get("retry-after", "") if status in (404, 413, 480, 486, 500, 503, 600, 603) else ""
        hop = self._hop
        outcome = Outcome(status, response.reason, response, hop, self._flow, self._uac.wheel.now - self._sent_at,
                          retry_after(again),
                          tuple(([hop] if hop is not None else []) + [one for one in self._all if one != hop]))
        flow = self._flow
        assert flow is not None
        ask = self._ask
        if status in (401, 407):
            if ask.keyring is not None and ask.keyring.learn(response, self._tried):
                self._last = outcome
                self._send(flow)
                return
        elif status == 423 and self._longer(response):
            self._last = outcome
            self._send(flow)
            return
        elif status == 503:
            self._last = outcome
            self._blame("answered 503", outcome.retry_after)
            if self._hops:
                self._try_next_hop()
                return
        elif 300 <= status < 400 and self._redirected(response):
            self._last = outcome
            return
        self._finish(outcome)

    def failed(self, transaction: ClientTransaction, reason: str) -> None:
        """See ClientUser."""
        if transaction is self._transaction:
            self._transaction = None
            self._hop_failed(reason or "no answer")

    def _silent(self, nothing: None) -> None:
        """Nothing from a hop that has alternatives."""
        self._timer = None
        self._end_transaction()
        self._hop_failed("silent")

    def _too_late(self, nothing: None) -> None:
        self._deadline = None
        self._finish(self._last if self._last.status else Outcome(0, "no answer", hops=tuple(self._all)))

    def _hop_failed(self, reason: str) -> None:
        """RFC 3263 s4.3: the next hop is tried, in a transaction of its own."""
        self._stop_timer()
        if self._done is None:
            return
        if self._datagrams is not None and self._flow is not self._datagrams and self._hop is not None:
            # s18.1.1: who takes a connection and drops it has no TCP for us
            self._uac.proxy.has_no_tcp(self._hop)
            datagrams, self._datagrams = self._datagrams, None
            self._send(datagrams, True)
            return
        self._datagrams = None
        self._blame(reason)
        if not self._last.status:
            self._last = Outcome(0, reason, None, self._hop, hops=tuple(self._all))
        self._try_next_hop()

    def _blame(self, reason: str, seconds: int = 0) -> None:
        if self._ask.blames and self._hop is not None:
            self._uac.proxy.blame(self._hop, reason, seconds)

    def _longer(self, response: Response) -> bool:
        """s10.2.8: asks for as long as Min-Expires says, once."""
        least = delta_seconds(response.first.get("min-expires", "")) or 0
        ask = self._ask
        if self._lengthened or not ask.expires or not ask.expires < least <= _LONGEST:
            return False
        self._lengthened = True
        ask.expires = least
        return True

    def _redirected(self, response: Response) -> bool:
        """s8.1.3.4, s21.3: follows the first Contact that can be followed; 305 names a proxy to go by (s21.3.4)."""
        if self._redirects >= _MOST_REDIRECTED or response.status == 380:
            return False
        self._redirects += 1
        target = self._target
        for value in response.values("contact")[:_MOST_REDIRECTED]:
            try:
                uri = for_request(Address.parse(value).uri)
            except MalformedMessage:
                continue
            text = str(uri)
            # s26.2.2: what was asked by sips is not asked by sip
            if not uri.is_sip or text == target.uri or (
                    target.uri[:5].lower() == "sips:" and uri.scheme != "sips"):
                continue
            if response.status == 305:
                route = uri if uri.param("lr") is not None else Uri(
                    uri.scheme, uri.user, uri.password, uri.host, uri.port, (*uri.params, ("lr", None)))
                self._target = Target(target.uri, (f"<{route}>",), listener=target.listener)
            else:
                self._target = Target(text, listener=target.listener)
            self._datagrams = None
            self.start()
            return True
        return False

    # --- the end

    def _fail(self, reason: str) -> None:
        """Ends without an answer."""
        self._last = Outcome(0, reason, hops=tuple(self._all))
        self._finish_soon()

    def _finish_soon(self) -> None:
        """Tells what came of it from a fresh call stack: `send` has perhaps not returned."""
        self._stop_timer()
        self._timer = self._uac.wheel.start(0.0, self._over, None)

    def _over(self, nothing: None) -> None:
        self._timer = None
        self._finish(self._last)

    def _finish(self, outcome: Outcome) -> None:
        done = self._done
        if done is not None:
            self.cancel()
            done(outcome)

    def cancel(self) -> None:
        """Gives up what is under way; harmless when it is over."""
        self._done = None
        self._stop_timer()
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._end_transaction()
        self._uac.running.pop(self.number, None)

    def _end_transaction(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction.end()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Uac:
    """Makes our own requests; `limit` of them may be under way. It shares the proxy's ways: names, flows, blame."""

    def __init__(self, proxy: Proxy, inventory: Inventory, limit: int = 10_000) -> None:
        self.proxy = proxy
        self.wheel = proxy.layer.wheel
        self.running: Table[int, Sending] = inventory.table("requests of our own", limit)
        self._count = 0

    def send(self, ask: Ask, done: Done) -> Sending | None:
        """Sends, and calls `done` once, never before this returns; None, and no call, when too much is under way."""
        if self.running.full:
            self.running.refused += 1
            return None
        self._count += 1
        sending = self.running[self._count] = Sending(self, self._count, ask, done)
        sending.start()
        return sending
