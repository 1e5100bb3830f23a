"""What the tests with real sockets on loopback share."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from sipd.config_limits import Limits
from sipd.config_server import Listen
from sipd.inventory import Inventory
from sipd.journal import Journal
from sipd.transport.layer import Transports

#: Longer than any SIP message that is none.
OPTIONS = b"OPTIONS sip:example.com SIP/2.0\r\nContent-Length: 0\r\n\r\n"


def listen(transport: str, address: str = "127.0.0.1", port: int = 0, **more: str) -> Listen:
    """A listener as the configuration would say it, but port 0 is allowed: the kernel chooses."""
    values: dict[str, Any] = {"advertise": "", "certificate": "", "private_key": "", **more}
    return Listen.model_construct(transport=transport, address=address, port=port, **values)


class User:
    """Remembers why its flow failed."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def flow_failed(self, reason: str) -> None:
        """See IFlowUser."""
        self.reasons.append(reason)


class Rig:
    """Real transports over `reactor`, and everything they said."""

    def __init__(self, *listens: Listen, reactor: Any, clock: Any = None, limits: Limits | None = None,
                 **more: Any) -> None:
        self.reactor = reactor
        self.inventory = Inventory()
        self.records: list[tuple[str, dict[str, Any]]] = []
        journal = Journal()
        journal.sinks.append(lambda kind, fields: self.records.append((kind, fields)))
        self.received: list[tuple[bytes, Any]] = []
        self._number = 0
        self.transports = Transports(
            listens, limits or Limits(), reactor=reactor, clock=clock or reactor, entropy=self._entropy,
            journal=journal, inventory=self.inventory, **more)
        self.transports.receive = lambda data, flow, lost=None: self.received.append((data, flow))

    def _entropy(self, count: int) -> bytes:
        self._number += 1
        return self._number.to_bytes(count, "big")

    def place(self, index: int = 0) -> tuple[str, int]:
        """Address and port of a listener."""
        listener = self.transports.listeners[index]
        return listener.address, listener.port

    async def until(self, condition: Callable[[], object], seconds: float = 2.0) -> None:
        """Waits until something is so. Raises AssertionError when it is not in time."""
        deadline = self.reactor.seconds() + seconds
        while not condition():
            if self.reactor.seconds() > deadline:
                raise AssertionError("it did not happen in time")
            await deferLater(self.reactor, 0.002)

    def connect(self, hop: Any) -> Deferred[tuple[Any, str]]:
        """Fires with flow and reason."""
        done: Deferred[tuple[Any, str]] = Deferred()
        self.transports.connect(hop, lambda flow, reason: done.callback((flow, reason)))
        return done


def udp_socket(address: str = "127.0.0.1") -> socket.socket:
    """A plain peer; blocking for a second at most."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(1.0)
    sock.bind((address, 0))
    return sock


def closed_port(kind: int = socket.SOCK_DGRAM, address: str = "127.0.0.1") -> int:
    """A port that nobody listens on."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as sock:
        sock.bind((address, 0))
        return int(sock.getsockname()[1])
