"""The control socket: framing, bounds and deadlines in memory; a real socket file where its name and mode matter."""

from __future__ import annotations

import json
import os
import socket
import stat
import tempfile
import threading
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from sipd.admin.api import REQUEST_LIMIT, Api, Refused
from sipd.admin.client import NoServer, ask
from sipd.admin.control_socket import CONNECTIONS, IDLE, ControlProtocol, ControlSocket
from sipd.inventory import Inventory, Table


class ProtocolTests(SynchronousTestCase):
    """One connection."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.inventory = Inventory()
        self.connections: Table[int, ControlProtocol] = self.inventory.table("control connections", CONNECTIONS)
        self.waiting: Deferred[Any] = Deferred()
        self.api = Api()
        self.api.register("echo", lambda request: request)
        self.api.register("wait", lambda request: self.waiting)

    def connect(self) -> tuple[ControlProtocol, StringTransport]:
        """A new connection."""
        protocol = ControlProtocol(self.api, self.clock, self.connections)
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def close(self, protocol: ControlProtocol) -> None:
        """The other end goes away."""
        protocol.connectionLost(Failure(ConnectionDone()))

    def test_requests_one_after_another(self) -> None:
        """Each line is answered by a line; a byte at a time is as good as all at once."""
        protocol, transport = self.connect()
        for byte in b'{"command": "echo", "n": 1}\n':
            protocol.dataReceived(bytes([byte]))
        protocol.dataReceived(b'{"command": "echo", "n": 2}\n')
        self.assertEqual([json.loads(line)["result"] for line in transport.value().splitlines()], [{"n": 1}, {"n": 2}])
        self.close(protocol)
        self.assertEqual((self.inventory.left(), self.clock.getDelayedCalls()), ({}, []))

    def test_silence(self) -> None:
        """A connection that says nothing is cut, also after it has been answered."""
        protocol, transport = self.connect()
        self.clock.advance(IDLE - 1)
        protocol.dataReceived(b'{"command": "echo"}\n')
        self.clock.advance(IDLE - 1)
        self.assertFalse(transport.disconnecting or transport.disconnected)
        self.clock.advance(1)
        self.assertTrue(transport.disconnected)

    def test_long_line(self) -> None:
        """A request without an end is refused before it fills the memory."""
        protocol, transport = self.connect()
        protocol.dataReceived(b"x" * (REQUEST_LIMIT + 1))
        self.assertIn(b"too long", transport.value())
        self.assertTrue(transport.disconnecting)

    def test_impatience(self) -> None:
        """Who asks again before the answer is cut off; the late answer hurts nobody."""
        protocol, transport = self.connect()
        protocol.dataReceived(b'{"command": "wait"}\n{"command": "wait"}\n')
        self.assertTrue(transport.disconnecting)
        self.close(protocol)
        self.waiting.callback(None)
        self.assertEqual(transport.value(), b"")

    def test_too_many(self) -> None:
        """Connections are bounded; one more is told so and closed."""
        for _ in range(CONNECTIONS):
            self.connect()
        protocol, transport = self.connect()
        self.assertIn(b"too many", transport.value())
        self.assertTrue(transport.disconnecting)
        self.close(protocol)
        self.assertEqual((len(self.connections), self.connections.refused), (CONNECTIONS, 1))


class SocketTests(TestCase):
    """A real socket."""

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="sipd-")
        self.inventory = Inventory()
        self.api = Api()
        self.api.register("echo", lambda request: request)

    def start(self, path: str) -> ControlSocket:
        """A socket that is open until the test ends."""
        control = ControlSocket(path, self.api, reactor, self.inventory)
        control.start()
        self.addCleanup(control.stop)
        return control

    @inlineCallbacks
    def test_asked(self) -> Any:
        """A client in another thread is answered, refused, and told when nobody listens; the file is the owner's."""
        path = os.path.join(self.directory, "sipctl.sock")
        control = self.start(path)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.assertEqual((yield deferToThread(ask, path, "echo", a="é")), {"a": "é"})
        yield self.assertFailure(deferToThread(ask, path, "nothing"), Refused)
        yield control.stop()
        yield self.assertFailure(deferToThread(ask, path, "echo"), NoServer)
        self.assertFalse(os.path.lexists(path))

    @inlineCallbacks
    def test_left_behind(self) -> Any:
        """The socket of a killed server is replaced."""
        path = os.path.join(self.directory, "sipctl.sock")
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(path)
        self.start(path)
        self.assertEqual((yield deferToThread(ask, path, "echo")), {})

    @inlineCallbacks
    def test_long_path(self) -> Any:
        """A state directory may have a longer name than the kernel takes for a socket."""
        deep = os.path.join(self.directory, *["x" * 50] * 4)
        os.makedirs(deep)
        path = os.path.join(deep, "sipctl.sock")
        control = self.start(path)
        self.assertEqual((yield deferToThread(ask, path, "echo")), {})
        yield control.stop()
        self.assertFalse(os.path.lexists(path))

    def test_server_that_dies(self) -> Any:
        """A server that goes away before it answers is told apart from one that refuses."""
        path = os.path.join(self.directory, "sipctl.sock")
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(path)
        listening.listen(1)

        def die() -> None:
            connection, _ = listening.accept()
            connection.recv(1000)
            connection.close()

        thread = threading.Thread(target=die)
        thread.start()
        self.addCleanup(thread.join)
        return self.assertFailure(deferToThread(ask, path, "echo"), NoServer)
