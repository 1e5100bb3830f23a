"""What this machine says about names: its hosts file, its name servers, and the client that asks them.

The files are looked at again when they are used and half a minute has passed, never by a timer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.names import client, dns

from sipd.resolver.select import family, usable_address

T = TypeVar("T")

#: Seconds between two looks at a file, and the most that is read of it (bytes).
LOOK_AGAIN, MAX_FILE = 30.0, 1_000_000

LOOPBACK = ("127.0.0.1", "::1")


class WatchedFile(Generic[T]):
    """A small text file and what was read from it, read again some time after it changed."""

    def __init__(self, clock: IReactorTime, path: str, read: Callable[[str], T]) -> None:
        self._clock = clock
        self._path = path
        self._read = read
        self._seen: tuple[int, int] | None = None
        self._look_at = 0.0
        self._value = read("")

    @property
    def value(self) -> T:
        """What the file says; an unreadable file is an empty one."""
        now = self._clock.seconds()
        if self._seen is None or now >= self._look_at:
            self._look_at = now + LOOK_AGAIN
            try:
                status = os.stat(self._path)
                seen, text = (status.st_mtime_ns, status.st_size), ""
                if seen != self._seen:
                    with open(self._path, encoding="utf-8", errors="replace") as file:
                        text = file.read(MAX_FILE)
            except OSError:
                seen, text = (0, 0), ""
            if seen != self._seen:
                self._seen = seen
                self._value = self._read(text)
        return self._value


class Hosts:
    """The hosts file, with `localhost` always in it (RFC 6761 s6.3)."""

    def __init__(self, clock: IReactorTime, path: str = "/etc/hosts") -> None:
        self._file = WatchedFile(clock, path, read_hosts)

    def __call__(self, name: str) -> tuple[str, ...]:
        """The addresses of a name in lower case, IPv4 first, empty when the file does not know it."""
        if name == "localhost" or name.endswith(".localhost"):
            return LOOPBACK
        return self._file.value.get(name, ())


def read_hosts(text: str) -> dict[str, tuple[str, ...]]:
    """Names in lower case and their addresses, IPv4 first, from the text of a hosts file (hosts(5))."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        address = usable_address(address)
        for name in names if address else ():
            found.setdefault(name.lower(), []).append(address)
    return {name: tuple(sorted(dict.fromkeys(addresses), key=family)) for name, addresses in found.items()}


def read_servers(text: str) -> list[tuple[str, int]]:
    """Addresses and ports of the name servers in the text of resolv.conf(5), this machine when there is none."""
    servers: list[tuple[str, int]] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and usable_address(words[1]):
            servers.append((usable_address(words[1]), dns.PORT))
    return servers[:3] or [("127.0.0.1", dns.PORT)]


class Client(client.Resolver):
    """twisted.names' resolver without the parts that leave something behind.

    It watches resolv.conf by a timer that never ends; here the file is looked at when a question goes out. It also
    joins like questions, and one that cannot be sent (no descriptor left) then waits for ever; `Names` joins them.
    """

    def __init__(self, reactor: Any, timeout: float, resolv_conf: str = "/etc/resolv.conf",
                 servers: list[tuple[str, int]] | None = None) -> None:
        self._conf = WatchedFile(reactor, resolv_conf, read_servers) if servers is None else None
        super().__init__(
            servers=self._conf.value if self._conf is not None else servers,
            timeout=(timeout / 3, timeout * 2 / 3),
            reactor=reactor,
        )

    def _lookup(self, name: bytes, cls: int, type: int, timeout: Any) -> Deferred[Any]:
        if self._conf is not None:
            self.servers = self._conf.value
        asked: Deferred[Any] = self.queryUDP([dns.Query(name, type, cls)], timeout)
        return asked.addCallback(self.filterAnswers)

    def close(self) -> None:
        """Ends the connections that long answers needed."""
        for protocol in list(self.connections):
            protocol.transport.loseConnection()
