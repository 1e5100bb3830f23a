"""The hosts file, resolv.conf, and the client that asks."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sipd.resolver.system import Client, Hosts, read_hosts, read_servers


class Files(SynchronousTestCase):
    """Reading the two files."""

    def test_hosts(self) -> None:
        """Several names a line, several lines a name, IPv4 first, comments and nonsense passed over."""
        text = "::1 localhost ip6\n127.0.0.1 localhost # me\n\n# 10.0.0.1 no\nnonsense\n255.255.255.255 broadcasthost\n"
        self.assertEqual(read_hosts(text), {"localhost": ("127.0.0.1", "::1"), "ip6": ("::1",)})

    def test_unreadable(self) -> None:
        """No file, a folder instead of one: only localhost is known."""
        for path in ("/nonexistent/hosts", "/"):
            hosts = Hosts(Clock(), path)
            self.assertEqual(hosts("pbx"), ())
            self.assertEqual(hosts("localhost"), ("127.0.0.1", "::1"))

    def test_servers(self) -> None:
        """The first three name servers; this machine when none is written."""
        text = "search x\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver fe80::1%eth0\nnameserver\na b\n"
        self.assertEqual(read_servers(text), [("192.0.2.1", 53), ("2001:db8::1", 53)])
        self.assertEqual(read_servers(""), [("127.0.0.1", 53)])
        self.assertEqual(len(read_servers("nameserver 192.0.2.1\n" * 9)), 3)


class ClientTests(SynchronousTestCase):
    """What differs from twisted.names' own resolver."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.path = self.mktemp()
        self.write("nameserver 192.0.2.1\n")
        self.client = Client(self.clock, 3.0, self.path)
        self.used: list[list[tuple[str, int]]] = []

        def query(queries: Any, timeout: Any = None) -> Deferred[Any]:
            self.used.append(list(self.client.servers))
            return fail(OSError("unreachable"))

        self.patch(self.client, "queryUDP", query)

    def write(self, text: str) -> None:
        """Changes resolv.conf."""
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(text)

    def test_watches_without_timer(self) -> None:
        """A changed resolv.conf is seen by the next question half a minute later; nothing is left on the clock."""
        self.failureResultOf(self.client.lookupAddress("a.example"))
        self.write("nameserver 192.0.2.2\nnameserver 192.0.2.3\n")
        self.failureResultOf(self.client.lookupAddress("a.example"))
        self.clock.advance(31)
        self.failureResultOf(self.client.lookupAddress("a.example"))
        one, two = [("192.0.2.1", 53)], [("192.0.2.2", 53), ("192.0.2.3", 53)]
        self.assertEqual(self.used, [one, one, two])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failed_question_is_forgotten(self) -> None:
        """A question that could not be sent does not block the next one like it."""
        def query(queries: Any, timeout: Any = None) -> Deferred[Any]:
            raise OSError(24, "Too many open files")

        self.patch(self.client, "queryUDP", query)
        for _ in range(2):
            self.assertRaises(OSError, self.client.lookupAddress, "a.example")

    def test_close(self) -> None:
        """Connections made for long answers are ended."""
        closed: list[bool] = []

        class Transport:
            def loseConnection(self) -> None:
                closed.append(True)

        class Protocol:
            transport = Transport()

        self.client.connections.append(Protocol())
        self.client.close()
        self.assertEqual(closed, [True])
