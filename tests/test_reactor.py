"""The reactor's loop against what Twisted's main loop has to have: timed calls, calls from threads, stops, failures."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from sipd.flow import Flow
from sipd.inventory import Inventory
from sipd.journal import Journal
from sipd.reactor import ROUNDS, Reactor
from sipd.transport.udp import UdpPort


@implementer(IReadDescriptor)
class Pipe:
    """The reading end of a pipe that `write` makes ready; `read` is called for each octet."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self.source, self.sink = os.pipe()
        self.read = read
        self.lost: list[Any] = []

    def write(self, count: int = 1) -> None:
        """Makes it ready so many times."""
        os.write(self.sink, b"x" * count)

    def fileno(self) -> int:
        """What the reactor watches."""
        return self.source

    def logPrefix(self) -> str:
        """A name."""
        return "pipe"

    def doRead(self) -> None:
        """One octet."""
        os.read(self.source, 1)
        self.read()

    def connectionLost(self, reason: Any) -> None:
        """The reactor lets go."""
        self.lost.append(reason)

    def close(self) -> None:
        """Both ends."""
        os.close(self.source)
        os.close(self.sink)


class ReactorTests(SynchronousTestCase):
    """A reactor of its own, run until something stops it."""

    def setUp(self) -> None:
        self.reactor: Any = Reactor()
        self.reads = 0

    def run_with(self, read: Callable[[], Any], count: int = 1, guard: float = 5.0) -> Pipe:
        """Runs the reactor with a pipe that is ready `count` times. It is stopped after `guard` seconds."""
        pipe = Pipe(read)
        self.addCleanup(pipe.close)
        self.reactor.addReader(pipe)
        pipe.write(count)
        guarding = self.reactor.callLater(guard, self.reactor.stop)
        self.reactor.run(installSignalHandlers=False)
        self.assertTrue(guarding.active(), "nothing stopped it")
        guarding.cancel()
        return pipe

    def test_stop_while_reading(self) -> None:
        """A stop from within a read is obeyed at once, though more is ready."""
        def read() -> None:
            self.reads += 1
            if self.reads == 3:
                self.reactor.stop()

        self.run_with(read, 1000)
        self.assertEqual(self.reads, 3)

    def test_new_call(self) -> None:
        """A call that a read asks for is made in time, where the loop would have waited for a later one, or for ever."""
        self.run_with(lambda: self.reactor.callLater(0.01, self.reactor.stop))

    def test_call_moved_nearer(self) -> None:
        """A call that a read moves nearer is made in time."""
        far = self.reactor.callLater(4.0, self.reactor.stop)
        self.run_with(lambda: far.reset(0.01), guard=3.0)

    def test_call_from_thread(self) -> None:
        """What another thread asks for is done, also while one descriptor is always ready."""
        def read() -> None:
            self.reads += 1
            pipe.write()
            if self.reads == 1:
                threading.Thread(target=self.reactor.callFromThread, args=(self.reactor.stop,)).start()

        pipe = Pipe(read)
        self.addCleanup(pipe.close)
        self.reactor.addReader(pipe)
        pipe.write()
        self.reactor.run(installSignalHandlers=False)
        self.assertGreater(self.reads, 0)

    def test_calls_have_their_turn(self) -> None:
        """A descriptor that is always ready holds up no timed call."""
        def read() -> None:
            self.reads += 1
            pipe.write()

        pipe = Pipe(read)
        self.addCleanup(pipe.close)
        self.reactor.addReader(pipe)
        pipe.write()
        self.reactor.callLater(0.02, self.reactor.stop)
        self.reactor.run(installSignalHandlers=False)
        self.assertGreater(self.reads, ROUNDS)

    def test_failure(self) -> None:
        """A descriptor that raises is let go and its error logged; the loop goes on."""
        self.reactor.callLater(0.02, self.reactor.stop)
        pipe = self.run_with(lambda: 1 / 0)
        self.assertEqual(len(pipe.lost), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_datagrams(self) -> None:
        """Datagrams reach their receiver, and a port that is closed by what it read is asked no more."""
        read: list[bytes] = []

        def receive(data: bytes, flow: Flow) -> None:
            read.append(data)
            if len(read) == 2:
                port.close()
                self.reactor.stop()

        inventory = Inventory()
        port = UdpPort("127.0.0.1", 0, "", self.reactor, receive, Journal(),
                       lambda listener: inventory.table("flows", 10, cache=True))
        self.addCleanup(port.close)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number in range(3):
                sender.sendto(b"%d and twenty octets more" % number, ("127.0.0.1", port.listener.port))
            guarding = self.reactor.callLater(5.0, self.reactor.stop)
            self.reactor.run(installSignalHandlers=False)
        self.assertTrue(guarding.active(), "nothing stopped it")
        guarding.cancel()
        self.assertEqual([data[:1] for data in read], [b"0", b"1"])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_install(self) -> None:
        """twistd gets it, unless another was chosen or is there."""
        for first, name in (("", "Reactor"), ("import twisted.internet.pollreactor as p; p.install(); ", "PollReactor")):
            code = (f"{first}import sipd.tap, sipd.reactor; sipd.reactor.install(); "
                    "from twisted.internet import reactor; print(type(reactor).__name__)")
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                                  env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
            self.assertEqual(done.stdout.strip(), name)
