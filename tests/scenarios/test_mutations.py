"""Damaged messages by the thousand against the real core in memory: no bug, nothing left, and calls go on."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message import compose
from sipd.message.message import Request
from sipd.message.parser import parse
from tests.fuzz.targets import sent_is_sane
from tests.support.mutations import Mutations
from tests.support.rig import SERVER, Rig, established
from tests.support.stream import Stream

SEED = 4475
MESSAGES = 5000


class Mutated(TestCase):
    """Authentication off, so that they get as deep as a message can; everybody they reach answers."""

    def setUp(self) -> None:
        self.rig = Rig(auth={"required": False}, registrar={"open": True, "min_expires": 2})
        self.a, self.b, self.sink = self.rig.phone("1001"), self.rig.phone("1002"), self.rig.phone("1003")
        self.rig.binding("1003", self.sink.contact)
        self.b.register()
        self.mutations = Mutations(SEED, "192.0.2.77:5060", "example.com", "1003")
        self.answered = 0

    def after(self, number: int, data: bytes) -> None:
        """What is seen to after each message, and after each hundred."""
        self.assertEqual(self.rig.bugs, [], f"message {number}: {data[:400]!r}")
        for got in self.sink.raw[self.answered:]:
            request = parse(got)
            if isinstance(request, Request) and request.method != "ACK":
                status = self.mutations.random.choice((180, 200, 302, 404, 486, 503, 603))
                self.sink.send(compose.response(request, status, to_tag="sink"))
        self.answered = len(self.sink.raw)
        if number % 100 == 99:
            established(self.a, self.b)
            self.rig.advance(1.0, 0.5)
            for packet in self.rig.network.packets:
                if packet.source[0] == SERVER:
                    sent_is_sane(packet.data)
            self.rig.network.packets.clear()

    def nothing_left(self) -> None:
        """No table holds anything after the last timer; the sink's unanswered INVITEs end with timer C."""
        self.a.silent()
        self.b.silent()
        self.sink.drain()
        self.rig.finish(260.0)

    def test_over_udp(self) -> None:
        """Datagrams."""
        sender = self.rig.network.endpoint("udp", "192.0.2.77", 5060)
        for number in range(MESSAGES):
            data = self.mutations.next("UDP")
            sender.send(data, (SERVER, 5060))
            self.after(number, data)
        self.assertGreater(self.answered, MESSAGES // 10)
        self.nothing_left()

    def test_over_tcp(self) -> None:
        """Streams, each used until the server closes it or a message in it has no end."""
        stream = Stream(self.rig, "192.0.2.77")
        for number in range(MESSAGES):
            data = self.mutations.next("TCP")
            stream.send(data, self.mutations.random.choice((0, 0, 1000)))
            self.after(number, data)
            if stream.unfinished or stream.closed:
                stream.close()
                stream = Stream(self.rig, "192.0.2.77", 40000 + number)
        self.assertGreater(self.answered, MESSAGES // 10)
        stream.close()
        self.nothing_left()
