"""The control API over HTTP on a loopback address: POST /api/COMMAND with a JSON object, a JSON object back.

Whoever can read the token in the state directory may do everything, as on the Unix socket; whoever cannot, such as
another user of this host or a web page in a browser here, may do nothing. A page has no token; besides, what it could
send is refused: it cannot say that it sends JSON without being asked for leave first, which nobody gives; its Origin is
another; and a name that it makes stand for this address is not the Host that is expected here.

One request a connection; sizes, connections and waiting are bounded.
"""

from __future__ import annotations

import hmac
import json
import os
import stat
from io import BytesIO
from typing import Any
from urllib.parse import unquote

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import ServerFactory
from twisted.web.http import HTTPChannel, Request

from sipd import state
from sipd.admin.api import REQUEST_LIMIT, Api
from sipd.inventory import Inventory, Table
from sipd.message.hop import join_host_port

#: Connections at a time.
CONNECTIONS = 32
#: Seconds for a request to come in, and for a command to be done.
READING, DOING = 20.0, 300.0
#: Where the commands are.
_PREFIX = "/api"
_TOKEN_OCTETS = 32
#: What a refusal is to HTTP, by its kind.
_STATUS = {"": 422, "configuration": 422, "restart": 409, "unknown": 404, "failure": 500}
_PHRASES = {411: b"Length Required", 413: b"Content Too Large", 421: b"Misdirected Request",
            422: b"Unprocessable Content"}


class CannotListen(Exception):
    """The address is not to be had; the text is for people."""


class ApiRequest(Request):
    """One request."""

    channel: Channel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # the bodies of forms are not taken, so they are not read either
        self._parsePOSTFormSubmission = False

    def gotLength(self, length: int | None) -> None:
        """Called when the headers are there: what is too long, or of no known length, is not read."""
        if length is None or length > REQUEST_LIMIT:
            self.content = BytesIO()
            self.channel.refuse_now(411 if length is None else 413)
        else:
            super().gotLength(length)

    def process(self) -> None:
        """Called when all of it is there."""
        self.channel.complete()
        owner = self.channel.owner
        refusal = self._refusal(owner)
        if refusal is not None:
            self._answer(*refusal)
            return
        path = unquote(self.path.decode("ascii", "replace"))
        name = " ".join(word for word in path[len(_PREFIX):].split("/") if word)
        if not name and self.method == b"GET":
            self._answer(200, {"ok": True, "result": owner.api.names})
            return
        if self.method != b"POST":
            self.setHeader(b"Allow", b"POST")
            self._answer(405, _error("a command is asked by POST /api/COMMAND; GET /api lists them"))
            return
        kind = (self.getHeader("content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json":
            self._answer(415, _error("Content-Type: application/json is wanted"))
            return
        arguments = _arguments(self.content.read() if self.content is not None else b"")
        if arguments is None:
            self._answer(400, _error("the body is to be a JSON object"))
            return
        self._do(owner, name, arguments)

    def _refusal(self, owner: HttpApi) -> tuple[int, dict[str, Any]] | None:
        """Why nothing is done for whoever asks."""
        host = (self.getHeader("host") or "").lower()
        if host not in owner.hosts:
            return 421, _error("the Host is to be the address that is listened on")
        origin = self.getHeader("origin")
        if origin is not None and origin.lower() != f"http://{host}":
            return 403, _error("web pages may not ask")
        scheme, _, given = (self.getHeader("authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(
                given.strip().encode("utf-8", "replace"), owner.token.encode("ascii")):
            self.setHeader(b"WWW-Authenticate", b'Bearer realm="sipd"')
            return 401, _error(f"Authorization: Bearer with the token is wanted; it is in the state directory, "
                               f"in the file {state.API_TOKEN}")
        path = self.path.decode("ascii", "replace")
        if path != _PREFIX and not path.startswith(f"{_PREFIX}/"):
            return 404, _error("there is only /api/COMMAND")
        return None

    def _do(self, owner: HttpApi, name: str, arguments: dict[str, Any]) -> None:
        doing = ensureDeferred(owner.api.told(name, arguments))
        deadline = owner.clock.callLater(DOING, doing.cancel)
        # whoever goes away wants it no more
        self.notifyFinish().addErrback(lambda gone: doing.cancel())

        def done(answer: dict[str, Any]) -> None:
            if deadline.active():
                deadline.cancel()
            if not self._disconnected:
                self._answer(200 if answer["ok"] else _STATUS.get(answer.get("kind", ""), 422), answer)

        doing.addCallback(done)

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        body = self.channel.owner.api.encode(answer) + b"\n"
        self.setResponseCode(status, _PHRASES.get(status))
        for name, value in ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"),
                            (b"X-Content-Type-Options", b"nosniff"), (b"Server", b"sipd"),
                            (b"Content-Length", str(len(body)).encode("ascii"))):
            self.setHeader(name, value)
        self.write(body)
        self.finish()


class Channel(HTTPChannel):
    """One connection."""

    requestFactory = ApiRequest
    timeOut = None
    maxHeaders = 64
    factory: _Factory
    transport: Any

    def __init__(self, owner: HttpApi) -> None:
        super().__init__()
        self.owner = owner
        self._reading: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Refuses one connection too many."""
        connections = self.owner.connections
        if connections.full:
            connections.refused += 1
            self.transport.abortConnection()
            return
        connections[id(self)] = self
        self._reading = self.owner.clock.callLater(READING, self.transport.abortConnection)
        super().connectionMade()

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """One request a connection."""
        request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        return False

    def complete(self) -> None:
        """The request is there."""
        reading, self._reading = self._reading, None
        if reading is not None and reading.active():
            reading.cancel()

    def refuse_now(self, status: int) -> None:
        """Ends the connection before what comes is read."""
        self.transport.write(b"HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % (
            status, _PHRASES[status]))
        self.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        """Forgets the connection."""
        self.complete()
        self.owner.connections.pop(id(self), None)
        super().connectionLost(reason)


class _Factory(ServerFactory):
    noisy = False

    def __init__(self, owner: HttpApi) -> None:
        self._owner = owner

    def buildProtocol(self, address: Any) -> Any:
        channel = Channel(self._owner)
        channel.factory = self
        return channel

    def log(self, request: Any) -> None:
        """HTTPChannel asks for it: what was done stands in the log by itself."""


class HttpApi:
    """Listens while the configuration says so. `reactor` is IReactorTCP and IReactorTime."""

    def __init__(self, directory: str, api: Api, reactor: Any, inventory: Inventory) -> None:
        self._directory = directory
        self.api = api
        self.clock = reactor
        self.token = ""
        #: What the Host of a request may be.
        self.hosts: frozenset[str] = frozenset()
        self.connections: Table[int, Channel] = inventory.table("HTTP connections", CONNECTIONS)
        self._place: tuple[str, int] | None = None
        self._port: IListeningPort | None = None
        self._next: tuple[tuple[str, int] | None, IListeningPort | None] | None = None

    def prepare(self, place: tuple[str, int] | None) -> None:
        """Opens another address and port, None for none; what was open stays until `settle`. Raises CannotListen and
        StateError."""
        if place == self._place:
            return
        port = None
        if place is not None:
            self.token = token(self._directory)
            try:
                port = self.clock.listenTCP(place[1], _Factory(self), interface=place[0])
            except CannotListenError as error:
                raise CannotListen(f"[api] http = {join_host_port(*place)}: {error.socketError}; an address and a port "
                                   "that are free here are wanted") from error
        self._next = place, port

    def abandon(self) -> None:
        """Closes what was prepared."""
        following, self._next = self._next, None
        if following is not None and following[1] is not None:
            following[1].stopListening()

    def settle(self) -> None:
        """What was prepared counts; what was open before is closed."""
        following, self._next = self._next, None
        if following is not None:
            self.stop()
            self._place, self._port = following
            if self._place is not None and self._port is not None:
                address, port = self._place
                names = {join_host_port(address, None), "localhost"}
                self.hosts = frozenset(names if port == 80 else ()) | {f"{name}:{port}" for name in names}

    def stop(self) -> Deferred[None]:
        """Closes the port and its connections."""
        for connection in list(self.connections.values()):
            connection.transport.abortConnection()
        stopping: Deferred[Any] = Deferred()
        port, self._port, self._place = self._port, None, None
        stopped = port.stopListening() if port is not None else None
        if stopped is None:
            stopping.callback(None)
        else:
            stopped.addBoth(stopping.callback)
        return stopping


def token(directory: str) -> str:
    """The token, made when there is none. Raises StateError."""
    path = os.path.join(directory, state.API_TOKEN)
    text = state.read(directory, state.API_TOKEN)
    if not text:
        text = os.urandom(_TOKEN_OCTETS).hex()
        state.write(directory, state.API_TOKEN, f"{text}\n".encode("ascii"))
    elif stat.S_IMODE(os.stat(path).st_mode) & 0o077:
        raise state.StateError(f"{path}: others may read it; remove it and a new one is made")
    if len(text) < _TOKEN_OCTETS or not text.isascii():
        raise state.StateError(f"{path}: {_TOKEN_OCTETS} characters at least are wanted; remove it and one is made")
    return text


def _arguments(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _error(text: str) -> dict[str, Any]:
    return {"ok": False, "error": text}
