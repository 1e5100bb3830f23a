"""Refuses new work while the server is behind, so that what goes on can go on (RFC 3261 s21.5.4, RFC 7339).

New is what begins something: a request without a To tag, other than ACK, BYE, CANCEL and PRACK, that is no repeat of
one being served; a REGISTER only where nothing that came from its source has passed the checks before. Strangers are
refused first. New work is refused before it is parsed, without state but for a bounded memory of what was refused, so
that a repeat gets the same answer. Responses, and requests within dialogs, always pass.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from sipd.core.overload import INTERVAL, Overload
from sipd.core.refusals import Refusals
from sipd.flow import Flow
from sipd.inventory import Inventory, Table
from sipd.journal import Journal
from sipd.message.errors import MalformedMessage
from sipd.message.message import Request
from sipd.message.parser import glance, parse
from sipd.transaction.key import server_key
from sipd.transport.via_rules import mark

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from sipd.transaction.key import Key
    from sipd.transaction.layer import TransactionLayer

#: What the first octets of those begin with that end something or answer something.
_ALWAYS: Final = (b"SIP/", b"BYE ", b"CANC", b"PRAC")
#: Requests refused that are remembered.
_REMEMBERED: Final = 8192
#: Seconds after which whoever was refused draws anew: a Call-ID that comes again has to get its turn.
_DRAW: Final = 16.0


class Shedding:
    """Measures the server's delay on `clock` and, while it is behind, stands before the transaction layer."""

    def __init__(self, clock: IReactorTime, overload: Overload, layer: TransactionLayer, refusals: Refusals,
                 secret: bytes, journal: Journal, inventory: Inventory) -> None:
        self.overload = overload
        self._clock = clock
        self._layer = layer
        self._refusals = refusals
        self._secret = secret
        self._journal = journal
        self._refused: Table[Key, None] = inventory.table("requests refused in overload", _REMEMBERED, cache=True)
        self._lag: Callable[[], tuple[float, bool]] | None = None
        self._due = 0.0
        self._timer: Any = None

    # --- measuring

    def start(self, lag: Callable[[], tuple[float, bool]]) -> None:
        """Begins to measure. `lag` gives how far reading is behind, in seconds, and whether there is little room left
        for what waits to be read."""
        self._lag = lag
        self._due = self._clock.seconds() + INTERVAL
        self._timer = self._clock.callLater(INTERVAL, self.beat)

    def stop(self) -> None:
        """Ends measuring, and refusing."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._layer.gate = None

    def beat(self) -> None:
        """One sample: how late the reactor calls us, or how late it reads its datagrams."""
        now = self._clock.seconds()
        late = now - self._due
        self._due = now + INTERVAL
        self._timer = self._clock.callLater(INTERVAL, self.beat)
        assert self._lag is not None
        age, short_of_room = self._lag()
        overload = self.overload
        was_active = overload.active
        overload.sample(now, max(late, age), short_of_room)
        if overload.active and not was_active:
            self._layer.gate = self
            if self._journal.sinks:
                self._journal.write("overload-began", delay=round(overload.delay * 1000),
                                    wanted=round(overload.wanted * 1000))
        elif was_active and not overload.active:
            self._layer.gate = None
            if self._journal.sinks:
                self._journal.write("overload-ended", seconds=round(now - overload.since, 1),
                                    refused=overload.refused - overload.refused_before,
                                    worst=round(overload.worst * 1000))

    # --- refusing

    def takes(self, data: bytes, flow: Flow) -> bool:
        """True when nothing more is to be done for this message: it was refused, or is the ACK of a refusal."""
        if data[:4] in _ALWAYS:
            return False
        request = glance(data)
        if request is None:
            request = _read(data, flow)
            if request is None:
                return False  # what it is told is the parser's affair
        method = request.method
        if method in ("BYE", "CANCEL", "PRACK") or (request.to_tag and method != "ACK"):
            return False
        key = server_key(request, "INVITE" if method == "ACK" else method)
        if key in self._layer.servers:
            return False
        if method == "ACK":
            return self._refusals.knows_ack(request)
        if method == "REGISTER" and flow.known:
            return False
        if key not in self._refused:
            if not self._drawn(request, self.overload.asks(flow.known)):
                return False
            self._refused.remember(key, None)
        self.overload.refused += 1
        request.flow = flow
        mark(request, flow)
        self._refusals.put_off(request)
        return True

    def _drawn(self, request: Request, share: float) -> bool:
        """True when this request is to be refused, as `share` of them is: one draw for each Call-ID and a while, so
        that a call is not let through and then refused when it comes with credentials."""
        text = f"{int(self._clock.seconds() / _DRAW)}\0{request.call_id}"
        drawn = blake2b(text.encode("utf-8", "surrogateescape"), key=self._secret, digest_size=4).digest()
        return int.from_bytes(drawn, "big") < share * 2**32


def _read(data: bytes, flow: Flow) -> Request | None:
    """An unusual request; None for a response, and for what cannot be read."""
    try:
        message = parse(data, flow.reliable)
    except MalformedMessage:
        return None
    return message if isinstance(message, Request) else None
