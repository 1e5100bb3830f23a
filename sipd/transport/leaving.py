"""Listeners that were taken away while the server runs: what goes on over them ends first.

A UDP socket takes no more than what answers or ends something; a connection goes on as it was. Each is closed once no
transaction uses it, at the latest after LONGEST seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sipd.flow import Flow
from sipd.inventory import Inventory, Table
from sipd.message.errors import MalformedMessage
from sipd.transport.flows import Receive
from sipd.transport.stream import StreamConnection
from sipd.transport.udp import UdpPort

#: Seconds between two looks at what is still in use.
LOOK = 1.0
#: UDP sockets at a time; more are closed at once.
PORTS = 1000
#: Seconds after which nothing is waited for any more: longer than timer C, so that a ringing call is answered first.
LONGEST = 240.0
#: What messages begin with that answer something or end something.
_STILL_TAKEN = (b"SIP/", b"ACK ", b"BYE ", b"CANC", b"PRAC")
#: Why the peer of a connection sees it end.
_WHY = "no longer listening here"


class Leaving:
    """The sockets and connections of listeners that are gone. `in_use` gives the flows that transactions are on;
    `clock` is an IReactorTime."""

    def __init__(self, clock: Any, in_use: Callable[[], Iterable[Flow]], inventory: Inventory, limit: int) -> None:
        self._clock = clock
        self._in_use = in_use
        #: By listener name, each with the time at which it is closed in any case. Both tables hold what was open under
        #: other bounds, so they have no more than those.
        self._ports: Table[str, tuple[UdpPort, float]] = inventory.table("listeners being left", PORTS)
        self._connections: Table[StreamConnection, float] = inventory.table("connections being left", limit)
        self._timer: Any = None

    def port(self, port: UdpPort, receive: Receive) -> None:
        """Takes over a UDP socket; `receive` gets what is still taken."""
        def still(data: bytes, flow: Flow, lost: MalformedMessage | None = None) -> None:
            if data[:4] in _STILL_TAKEN:
                receive(data, flow, lost)

        if self._ports.full:
            self._ports.refused += 1
            port.close()
            return
        port.receive, port.watch = still, None
        self._ports[port.listener.name] = port, self._clock.seconds() + LONGEST
        self._arm()

    def connections(self, connections: Iterable[StreamConnection]) -> None:
        """Takes over connections."""
        until = self._clock.seconds() + LONGEST
        for connection in connections:
            self._connections.setdefault(connection, until)
        self._arm()

    def take_back(self, name: str) -> UdpPort | None:
        """The UDP socket of that listener name, which is wanted again; None when there is none."""
        known = self._ports.pop(name, None)
        return known[0] if known is not None else None

    def stop(self) -> None:
        """Closes the sockets at once. The connections belong to whoever closes all connections."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for port, _ in self._ports.values():
            port.close()
        self._ports.clear()
        self._connections.clear()

    def __len__(self) -> int:
        """How many sockets and connections are left."""
        return len(self._ports) + len(self._connections)

    def _arm(self) -> None:
        if len(self) and (self._timer is None or not self._timer.active()):
            self._timer = self._clock.callLater(LOOK, self._look)

    def _look(self) -> None:
        now = self._clock.seconds()
        flows = list(self._in_use())
        used = {flow.id for flow in flows}
        places = {flow.listener.name for flow in flows if not flow.reliable}
        for name, (port, until) in list(self._ports.items()):
            if name not in places or until <= now:
                del self._ports[name]
                port.close()
        for connection, until in list(self._connections.items()):
            if connection.flow.id not in used or until <= now:
                del self._connections[connection]
                if connection.flow.alive:
                    connection.close(_WHY)
        self._arm()
