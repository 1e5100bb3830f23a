"""The messages of RFC 4475 against the running server, over UDP and TCP: each gets an answer its verdict allows, twice
the same, and the server goes on serving."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from twisted.trial import unittest

from bench.servers import answers_options
from tests.interop.sipd_process import SipdProcess
from tests.interop.wire import Message
from tests.support.torture import verdicts

#: Most of the messages ask for their answer at port 5060 of where they came from (RFC 3261 s18.2.2): an address of our
#: own keeps that port free.
SENDER = "127.0.0.3"
#: What may come of a message that is in order and asks for something.
SERVED = frozenset({"forward", "200", "404", "480"})

CONFIG = (
    '[server]\ndomains = ["example.com", "example.org", "example.net", "company.com", "chair-dnrc.example.com"]\n'
    '[users]\nuser = "torture-secret"\n'
)


def allowed(expect: frozenset[str]) -> frozenset[int]:
    """The statuses a verdict allows where every stranger is asked for credentials; empty when nothing may be sent."""
    asked = {"401", "407"} if expect & SERVED else set()
    return frozenset(int(word) for word in (expect - SERVED) | asked if word != "none")


def same_call(message: Message, data: bytes) -> bool:
    """True unless the message names another Call-ID than the vector does."""
    ids = message.all("Call-ID")
    return not ids or ids[0].encode(errors="surrogateescape") in data


class TortureTests(unittest.TestCase):
    """One server, all vectors."""

    def setUp(self) -> None:
        self.server = SipdProcess(Path(self.mktemp()).resolve(), domain="", config=CONFIG)
        self.server.start()
        self.addCleanup(self.server.end)

    def _check(self, name: str, answers: list[Message], wanted: frozenset[int]) -> None:
        statuses = [message.status for message in answers if message.status >= 200]
        if wanted:
            self.assertTrue(statuses, f"{name}: no answer, wanted one of {sorted(wanted)}")
        for status in statuses:
            self.assertIn(status, wanted, f"{name}: answered {status}")

    def test_udp(self) -> None:
        """Each message is sent twice; both answers are allowed by the verdict and carry the same To tag."""
        sockets = []
        for port in (5060, 5050, 5070):
            listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            listening.bind((SENDER, port))
            listening.setblocking(False)
            self.addCleanup(listening.close)
            sockets.append(listening)
        for verdict in verdicts():
            name, data, wanted = verdict.file, verdict.data, allowed(verdict.expect)
            found: list[list[Message]] = []
            for _ in range(2):
                sockets[2 if name == "mpart01.dat" else 0].sendto(data, self.server.address)
                found.append(self._collect(sockets, data, 1.5 if wanted else 0.15))
                self._check(name, found[-1], wanted)
            if wanted:
                one, two = (next(message for message in answers if message.status >= 200) for answers in found)
                self.assertEqual((one.status, one.all("To")), (two.status, two.all("To")), name)
            self.assertTrue(answers_options(*self.server.address), f"no answer to OPTIONS after {name}")

    def _collect(self, sockets: list[socket.socket], data: bytes, seconds: float) -> list[Message]:
        """The messages that arrive until a final response has, and 20 ms on; requests count as leaks."""
        deadline = time.monotonic() + seconds
        answers: list[Message] = []
        while time.monotonic() < deadline:
            for listening in sockets:
                try:
                    message = Message(listening.recv(65535))
                except BlockingIOError:
                    continue
                if same_call(message, data):
                    answers.append(message)
                    if message.status >= 200:
                        deadline = min(deadline, time.monotonic() + 0.02)
            time.sleep(0.005)
        return answers

    def _over_tcp(self, split: int) -> None:
        for verdict in verdicts():
            name, data, wanted = verdict.file, verdict.data, allowed(verdict.stream)
            with socket.create_connection(self.server.address, 5) as stream:
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    for start in range(0, len(data), split):
                        stream.sendall(data[start : start + split])
                except OSError:
                    # Cut off in the middle: allowed when the framing is lost; the answer came before.
                    pass
                self._check(name, self._answers(stream, 1.5 if wanted else 0.15), wanted)
            self.assertTrue(answers_options(*self.server.address), f"no answer to OPTIONS after {name}")

    @staticmethod
    def _answers(stream: socket.socket, seconds: float) -> list[Message]:
        """The responses on a connection until the first final one is whole, it is closed, or time is up."""
        deadline = time.monotonic() + seconds
        buffer = b""
        while (left := deadline - time.monotonic()) > 0:
            stream.settimeout(left)
            try:
                data = stream.recv(65535)
            except (TimeoutError, ConnectionError):
                break
            if not data:
                break
            buffer += data
            if b"\r\n\r\n" in buffer and not buffer.startswith(b"SIP/2.0 1"):
                break
        answers = []
        while b"\r\n\r\n" in buffer:
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            answers.append(Message(head + b"\r\n\r\n"))
            length = int((answers[-1].all("Content-Length") or ["0"])[0])
            buffer = buffer[length:]
        return answers

    def test_tcp(self) -> None:
        """Each message on a connection of its own, in one piece."""
        self._over_tcp(65536)

    def test_tcp_in_pieces(self) -> None:
        """Each message in segments of 7 octets: the answer is the same."""
        self._over_tcp(7)
