"""The Unix socket in the state directory on which a running server takes commands.

Whoever may open the socket may do everything: its file belongs to the server's user alone. Lines, connections and
silence are bounded all the same, so that a script gone wild does not hurt the calls.
"""

from __future__ import annotations

import json
import os
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IPushProducer
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver
from zope.interface import implementer

from sipd.admin.api import REQUEST_LIMIT, Api, Live
from sipd.inventory import Inventory, Table

#: Connections at a time.
CONNECTIONS = 32
#: Seconds a connection may stay silent.
IDLE = 60.0
#: Bytes of a socket's path that the kernel takes, with its closing zero.
_PATH_LIMIT = 108


@implementer(IPushProducer)
class ControlProtocol(LineOnlyReceiver):
    """One connection: requests are answered in order, one at a time."""

    delimiter = b"\n"
    MAX_LENGTH = REQUEST_LIMIT
    transport: Any

    def __init__(self, api: Api, clock: Any, connections: Table[int, ControlProtocol]) -> None:
        self._api = api
        self._clock = clock
        self._connections = connections
        #: There is one as long as the connection is open.
        self._deadline: IDelayedCall | None = None
        self._working = False
        self._live: Live | None = None
        #: Whether the other side does not keep up, and how many lines were left out since.
        self._paused = False
        self._lost = 0

    def connectionMade(self) -> None:
        """Refuses one connection too many."""
        if self._connections.full:
            self._connections.refused += 1
            self.transport.write(b'{"ok": false, "error": "too many control connections"}\n')
            self.transport.loseConnection()
            return
        self._connections[id(self)] = self
        self._deadline = self._clock.callLater(IDLE, self.transport.abortConnection)

    def lineReceived(self, line: bytes) -> None:
        """One request. A second one before the answer to the first closes the connection: nobody needs it."""
        if self._working or self._deadline is None:
            if self._live is not None:
                self.transport.unregisterProducer()
            self.transport.loseConnection()
            return
        self._deadline.reset(IDLE)
        self._working = True
        ensureDeferred(self._api.answer(line, self._goes_on)).addCallback(self._answered)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Closes the connection: the request is too long."""
        self.transport.write(b'{"ok": false, "error": "the request is too long"}\n')
        self.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        """Forgets the connection."""
        self._connections.pop(id(self), None)
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None
        if self._live is not None:
            self._live.end()
            self._live = None

    def _goes_on(self, live: Live) -> None:
        self._live = live

    def _answered(self, answer: bytes) -> None:
        if self._deadline is None:
            self._live = None  # gone before it began
            return
        self.transport.write(answer + b"\n")
        if self._live is None:
            self._working = False
            return
        # from here on nothing need come from the other side, and whatever comes ends it
        if self._deadline.active():
            self._deadline.cancel()
        self.transport.registerProducer(self, True)
        self._live.begin(self._more, self.transport.loseConnection)

    def _more(self, value: Any) -> None:
        """One more line of an answer that goes on; left out and counted while the other side does not read."""
        if self._paused:
            self._lost += 1
            return
        lost, self._lost = self._lost, 0
        self.transport.write(json.dumps({**value, "lost": lost}).encode("ascii") + b"\n")

    def pauseProducing(self) -> None:
        """The other side reads too slowly."""
        self._paused = True

    def resumeProducing(self) -> None:
        """It has caught up."""
        self._paused = False

    def stopProducing(self) -> None:
        """It is gone; connectionLost follows."""


class ControlSocket:
    """Listens on the socket while the server runs. Only the holder of the state directory's lock may start it."""

    def __init__(self, path: str, api: Api, reactor: Any, inventory: Inventory) -> None:
        """`reactor` is IReactorUNIX and IReactorTime."""
        self._path = path
        self._api = api
        self._reactor = reactor
        self._connections: Table[int, ControlProtocol] = inventory.table("control connections", CONNECTIONS)
        self._port: IListeningPort | None = None
        self._directory = -1

    def start(self) -> None:
        """Opens the socket, replacing one that a killed server left behind. Raises OSError."""
        path = self._path
        if os.path.lexists(path):
            os.unlink(path)
        if len(os.fsencode(path)) >= _PATH_LIMIT:
            self._directory = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
            path = short_path(self._directory, path)
        factory = Factory.forProtocol(lambda: ControlProtocol(self._api, self._reactor, self._connections))
        factory.noisy = False
        # From the first moment on nobody else may connect.
        mask = os.umask(0o177)
        try:
            self._port = self._reactor.listenUNIX(path, factory, mode=0o600)
        finally:
            os.umask(mask)

    def stop(self) -> Deferred[None]:
        """Closes the socket and its connections."""
        for connection in list(self._connections.values()):
            connection.transport.abortConnection()
        stopping: Deferred[Any] = Deferred()
        port, self._port = self._port, None
        if port is not None:
            stopped = port.stopListening()
            if stopped is not None:
                stopped.addBoth(stopping.callback)
                return stopping.addBoth(self._close_directory)
        stopping.callback(None)
        return stopping.addBoth(self._close_directory)

    def _close_directory(self, result: Any) -> None:
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1


def short_path(directory: int, path: str) -> str:
    """A path to the file `path` that is short enough for a socket, by way of the open directory it is in."""
    return f"/proc/self/fd/{directory}/{os.path.basename(path)}"
