"""The API over HTTP: who may ask, what is refused, and the statuses; by real sockets of this host."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientCreator, Protocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

from bench.servers import free_port
from sipd import preflight, state
from sipd.admin import http_api
from sipd.admin.api import REQUEST_LIMIT, Api, Live, Refused
from sipd.admin.http_api import CannotListen, HttpApi, token
from sipd.config import Config, ConfigError
from sipd.config_api import place_of
from sipd.inventory import Inventory
from tests.test_reloading import FileTestCase, ServerTestCase


class _Read(Protocol):
    """Sends octets and keeps what comes until the connection ends."""

    def __init__(self) -> None:
        self.got = b""
        self.over: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Any = None) -> None:
        if not self.over.called:
            self.over.callback(self.got)


class HttpCase(TestCase):
    """An API with three commands, listened to."""

    async def setUp(self) -> None:
        self.directory = self.mktemp()
        os.makedirs(self.directory, 0o700)
        self.inventory = Inventory()
        self.asked: list[dict[str, Any]] = []
        self.waiting: Deferred[str] = Deferred(lambda waiting: waiting.callback("given up"))
        self.api = Api()
        self.api.register("user add", lambda request: self.asked.append(request) or request)
        self.api.register("wait", lambda request: self.waiting)
        self.api.register("go on", lambda request: Live("begun"))
        self.api.register("fail", self._fail)
        self.http = HttpApi(self.directory, self.api, reactor, self.inventory)
        self.port = free_port()
        self.http.prepare(("127.0.0.1", self.port))
        self.http.settle()
        self.addCleanup(self.http.stop)

    def _fail(self, request: dict[str, Any]) -> None:
        if request.get("kind") == "bug":
            raise ZeroDivisionError
        raise Refused("because", request.get("kind", ""), ["one", "two"])

    async def connect(self) -> _Read:
        """A connection."""
        connected: _Read = await ClientCreator(reactor, _Read).connectTCP("127.0.0.1", self.port)
        return connected

    async def ask(self, path: str = "/api/user/add", body: bytes = b'{"name": "1004"}', method: str = "POST",
                  **fields: str | None) -> tuple[int, dict[str, Any], bytes]:
        """Status, answer and head of the answer to a request; `fields` replace what it has of itself."""
        headers: dict[str, str | None] = {
            "Host": f"127.0.0.1:{self.port}", "Authorization": f"Bearer {self.http.token}",
            "Content-Type": "application/json", "Content-Length": str(len(body))}
        headers |= {name.replace("_", "-"): value for name, value in fields.items()}
        connection = await self.connect()
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items() if value is not None)]
        connection.transport.write("\r\n".join([*lines, "", ""]).encode() + body)  # type: ignore[union-attr]
        head, _, rest = (await connection.over).partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), json.loads(rest) if rest else {}, head


class HttpTests(HttpCase):
    """Requests."""

    async def test_command(self) -> None:
        """The words of a command are in the path, its arguments in the body; the answer is that of the socket."""
        status, answer, head = await self.ask()
        self.assertEqual((status, answer), (200, {"ok": True, "result": {"name": "1004"}}))
        for line in (b"Content-Type: application/json", b"Cache-Control: no-store", b"Connection: close", b"Server: sipd"):
            self.assertIn(line, head)
        self.assertEqual((await self.ask("/api/user%20add", b""))[:2], (200, {"ok": True, "result": {}}))
        self.assertEqual((await self.ask("/api/user/add", b" \n"))[0], 200)

    async def test_commands_are_listed(self) -> None:
        """GET /api names them."""
        status, answer, _ = await self.ask("/api", b"", "GET")
        self.assertEqual((status, answer["result"]), (200, ["fail", "go on", "user add", "wait"]))

    async def test_token(self) -> None:
        """Without it, with another, by another scheme: 401, whatever is asked, and nothing is done."""
        for value in (None, "", "Bearer", "Bearer x", f"Basic {self.http.token}", f"Bearer {self.http.token}0",
                      f"Bearer {self.http.token[:-1]}", "Bearer \xe4"):
            for path in ("/api/user/add", "/api", "/"):
                status, answer, head = await self.ask(path, Authorization=value)
                self.assertEqual((status, answer["ok"]), (401, False), value)
                self.assertIn(b'WWW-Authenticate: Bearer realm="sipd"', head)
        self.assertEqual(self.asked, [])
        self.assertEqual((await self.ask(Authorization=f"bearer  {self.http.token}"))[0], 200)

    async def test_host(self) -> None:
        """A name that somebody made stand for this address is not ours (DNS rebinding); nor is another port."""
        for host in (None, "", "127.0.0.1", f"evil.example:{self.port}", "127.0.0.1:1", f"127.0.0.2:{self.port}"):
            self.assertEqual((await self.ask(Host=host))[0], 421, host)
        self.assertEqual((await self.ask(Host=f"LocalHost:{self.port}"))[0], 200)
        self.assertEqual(len(self.asked), 1)

    async def test_web_pages(self) -> None:
        """What a page in a browser here could send without leave: another Origin, a form's types, no type; and leave
        is not given."""
        self.assertEqual((await self.ask(Origin="https://evil.example"))[0], 403)
        self.assertEqual((await self.ask(Origin="null"))[0], 403)
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None):
            self.assertEqual((await self.ask(Content_Type=kind))[0], 415, kind)
        status, _, head = await self.ask(method="OPTIONS", body=b"", Authorization=None)
        self.assertEqual(status, 401)
        self.assertNotIn(b"Access-Control", head)
        self.assertEqual(self.asked, [])
        self.assertEqual((await self.ask(Origin=f"http://127.0.0.1:{self.port}"))[0], 200)

    async def test_what_is_wrong(self) -> None:
        """Each kind of mistake has its status."""
        for status, path, fields in (
                (404, "/api/nothing", {}), (404, "/", {}), (404, "/apix", {}), (404, "/api/", {}),
                (405, "/api/user/add", {"method": "GET", "body": b""}), (405, "/api/user/add", {"method": "PUT"}),
                (400, "/api/user/add", {"body": b"[1]"}), (400, "/api/user/add", {"body": b"{"}),
                (400, "/api/user/add", {"body": b"[" * 60000}), (422, "/api/fail", {}),
                (409, "/api/fail", {"body": b'{"kind": "restart"}'}),
                (422, "/api/fail", {"body": b'{"kind": "configuration"}'}), (422, "/api/go/on", {})):
            got, answer, _ = await self.ask(path, **fields)  # type: ignore[arg-type]
            self.assertEqual((got, answer["ok"]), (status, False), (path, fields))
        self.assertEqual((await self.ask("/api/fail", b'{"kind": "restart"}'))[1]["errors"], ["one", "two"])

    async def test_a_bug(self) -> None:
        """500, and the log has it."""
        self.assertEqual((await self.ask("/api/fail", b'{"kind": "bug"}'))[0], 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_sizes(self) -> None:
        """A body of more than 64 KiB, or without a length, is refused before it is read; so are endless headers."""
        connection = await self.connect()
        connection.transport.write(  # type: ignore[union-attr]
            f"POST /api/wait HTTP/1.1\r\nHost: a\r\nContent-Length: {REQUEST_LIMIT + 1}\r\n\r\n".encode())
        self.assertTrue((await connection.over).startswith(b"HTTP/1.1 413 "))
        connection = await self.connect()
        connection.transport.write(  # type: ignore[union-attr]
            b"POST /api/wait HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        self.assertTrue((await connection.over).startswith(b"HTTP/1.1 411 "))
        connection = await self.connect()
        connection.transport.write(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100 + b"\r\n")  # type: ignore[union-attr]
        self.assertTrue((await connection.over).startswith(b"HTTP/1.1 400 "))
        self.assertEqual(len(self.inventory.left()), 0)

    async def test_given_up(self) -> None:
        """Whoever goes away before the answer gives up what waits."""
        connection = await self.connect()
        connection.transport.write(  # type: ignore[union-attr]
            f"POST /api/wait HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAuthorization: Bearer {self.http.token}\r\n"
            "Content-Type: application/json\r\nContent-Length: 0\r\n\r\n".encode())
        while not self.http.connections:
            await _moment()
        await _moment(0.05)
        connection.transport.loseConnection()  # type: ignore[union-attr]
        while not self.waiting.called:
            await _moment()
        while self.http.connections:
            await _moment()

    async def test_too_long(self) -> None:
        """A command that is not done in time is given up, and its answer says what there was."""
        self.patch(http_api, "DOING", 0.05)
        self.waiting = Deferred()
        status, answer, _ = await self.ask("/api/wait")
        self.assertEqual((status, answer["ok"]), (500, False))

    async def test_too_many(self) -> None:
        """One connection too many is closed at once; a request that does not come, after a while."""
        self.patch(http_api, "READING", 0.3)
        self.http.connections.limit = 2
        first, second = await self.connect(), await self.connect()
        while len(self.http.connections) < 2:
            await _moment()
        self.assertEqual(await (await self.connect()).over, b"")
        self.assertEqual((await first.over, await second.over), (b"", b""))
        self.assertEqual(len(self.http.connections), 0)

    async def test_another_place(self) -> None:
        """Another port: the new one is open before the old one is closed; one that is taken changes nothing."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen(1)
            error = self.assertRaises(CannotListen, self.http.prepare, taken.getsockname())
            self.assertIn("[api] http = 127.0.0.1:", str(error))
        self.http.abandon()
        self.assertEqual((await self.ask())[0], 200)
        old, self.port = self.port, free_port()
        self.http.prepare(("127.0.0.1", self.port))
        self.http.settle()
        self.assertEqual((await self.ask())[0], 200)
        with socket.socket() as probe:
            self.assertNotEqual(probe.connect_ex(("127.0.0.1", old)), 0)
        self.http.prepare(None)
        self.http.settle()
        await _moment()
        with socket.socket() as probe:
            self.assertNotEqual(probe.connect_ex(("127.0.0.1", self.port)), 0)


def _moment(seconds: float = 0.005) -> Deferred[None]:
    passed: Deferred[None] = Deferred()
    reactor.callLater(seconds, passed.callback, None)  # type: ignore[attr-defined]
    return passed


class TokenTests(SynchronousTestCase):
    """The file with the token."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.makedirs(self.directory, 0o700)
        self.path = os.path.join(self.directory, state.API_TOKEN)

    def test_made_and_kept(self) -> None:
        """Made once, for the owner's eyes alone."""
        made = token(self.directory)
        self.assertRegex(made, r"\A[0-9a-f]{64}\Z")
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)
        self.assertEqual(token(self.directory), made)

    def test_what_is_not_taken(self) -> None:
        """One that others may read, or that could be guessed."""
        token(self.directory)
        os.chmod(self.path, 0o644)
        self.assertIn("others may read it", str(self.assertRaises(state.StateError, token, self.directory)))
        os.chmod(self.path, 0o600)
        with open(self.path, "w") as file:
            file.write("1234\n")
        self.assertIn("at least", str(self.assertRaises(state.StateError, token, self.directory)))


class PlaceTests(FileTestCase):
    """[api] http."""

    def test_places(self) -> None:
        """Loopback addresses of both families."""
        self.assertEqual(place_of("127.0.0.1:8061"), ("127.0.0.1", 8061))
        self.assertEqual(place_of("127.9.9.9:1"), ("127.9.9.9", 1))
        self.assertEqual(place_of("[::1]:65535"), ("::1", 65535))
        self.assertIsNone(Config().api.place)

    def test_refused(self) -> None:
        """Whatever could be reached from elsewhere, or is no place: the message says what would be right."""
        for text, wanted in (("0.0.0.0:8061", "loopback"), ("192.0.2.1:8061", "loopback"), ("[::]:8061", "loopback"),
                             ("localhost:8061", "is written like"), ("127.0.0.1", "is written like"),
                             ("127.0.0.1:0", "port"), ("127.0.0.1:70000", "port"), ("127.0.0.300:1", "127.0.0.300")):
            error = self.assertRaises(ConfigError, self.read, f'[api]\nhttp = "{text}"\n')
            self.assertIn("[api] http", str(error))
            self.assertIn(wanted, str(error), text)


class HttpReloadTests(ServerTestCase):
    """The configuration of a running server."""

    def opened(self, port: int) -> bool:
        """Whether somebody listens there."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    async def test_on_and_off(self) -> None:
        """A reload turns it on, moves it and turns it off; a port that is taken, or an address that is none of this
        host alone, refuses the file."""
        first, second = free_port(), free_port()
        server = self.start(self.text())
        self.assertFalse(os.path.exists(os.path.join(self.directory, "state", state.API_TOKEN)))
        self.write(self.text(f'[api]\nhttp = "127.0.0.1:{first}"\n'))
        self.assertEqual(server.reloading.reload(), [f'[api] http: "" -> "127.0.0.1:{first}"'])
        self.assertTrue(self.opened(first))
        self.assertTrue(os.path.exists(os.path.join(self.directory, "state", state.API_TOKEN)))
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen(1)
            refusal = self.refused(server, self.text(f'[api]\nhttp = "127.0.0.1:{taken.getsockname()[1]}"\n'))
            self.assertIn("Address already in use", str(refusal))
        self.assertIn("loopback", str(self.refused(server, self.text('[api]\nhttp = "192.0.2.1:8061"\n'))))
        self.assertTrue(self.opened(first))
        self.write(self.text(f'[api]\nhttp = "127.0.0.1:{second}"\n'))
        server.reloading.reload()
        await _moment()
        self.assertEqual((self.opened(first), self.opened(second)), (False, True))
        self.write(self.text())
        server.reloading.reload()
        await _moment()
        self.assertFalse(self.opened(second))

    async def test_from_the_start(self) -> None:
        """It listens once the server has started; where the port is taken the start fails and says so."""
        port = free_port()
        server = self.start(self.text(f'[api]\nhttp = "127.0.0.1:{port}"\n'))
        self.assertTrue(self.opened(port))
        self.assertEqual(preflight.check("", [], http=f"127.0.0.1:{port}")[0].split(";")[0],
                         f"[api] http = 127.0.0.1:{port}: Address already in use")
        await server.stopService()
        self.assertFalse(self.opened(port))
        self.assertEqual(preflight.check("", [], http=f"127.0.0.1:{port}"), [])
