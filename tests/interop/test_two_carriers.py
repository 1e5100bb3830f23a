"""Two carriers while calls go on (SIPp): the first dies in one way or another, and calls go out over the second.

The first is played here, so that it can die by ICMP, fall silent, or answer 503; the second, and all callers, are SIPp.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from pathlib import Path

from twisted.trial import unittest

from bench.servers import free_port
from bench.sipp import Sipp, write_users
from tests.interop.sipd_process import SipdProcess
from tests.interop.wire import Message
from tests.support.cases import shows

DOMAIN = "office.example"
#: Calls a second, how many, and how long each lasts (milliseconds).
RATE, CALLS, HOLD = 20.0, 240, 200
#: Calls that may be up at the first carrier when it dies; they die with it.
UP = 12
CONFIG = """
[auth]
required = false

[timers]
t1 = 0.1

[qualify]
timeout = 0.5
failures = 1

[proxy]
hop_timeout = 1.0

[peers.first]
uri = "sip:127.0.0.1:{first}"
qualify = 5

[peers.second]
uri = "sip:127.0.0.1:{second}"

[[routes]]
match = "^0(?P<number>[0-9]+)$"
to = ["first", "second"]
rewrite = "{{number}}"
"""


class Carrier(threading.Thread):
    """Answers calls until it dies: `mode` is alive, busy (503 to what is new), silent, or closed."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.mode = "alive"
        self.taken = self.refused = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", port))
        self.socket.settimeout(0.1)
        self.start()

    def run(self) -> None:
        """Until it is closed."""
        while self.mode != "closed":
            try:
                data, source = self.socket.recvfrom(65535)
            except TimeoutError:
                continue
            except ConnectionError:
                continue
            message = Message(data)
            if self.mode != "silent" and not message.status and message.method != "ACK":
                self._answer(message, source)
        self.socket.close()

    def _answer(self, request: Message, source: tuple[str, int]) -> None:
        new = request.method == "INVITE"
        if new and self.mode == "busy":
            self.refused += 1
            self._send(request, "503 Service Unavailable", source)
            return
        if new:
            self.taken += 1
            self._send(request, "180 Ringing", source)
        self._send(request, "200 OK", source)

    def _send(self, request: Message, status: str, source: tuple[str, int]) -> None:
        to = request.all("To")[0]
        lines = [f"SIP/2.0 {status}", *(f"Via: {via}" for via in request.all("Via")),
                 *(f"Record-Route: {route}" for route in request.all("Record-Route")),
                 f"From: {request.all('From')[0]}", f"To: {to}{'' if ';tag=' in to else ';tag=first'}",
                 f"Call-ID: {request.all('Call-ID')[0]}", f"CSeq: {request.all('CSeq')[0]}",
                 f"Contact: <sip:first@127.0.0.1:{self.port}>", "Content-Length: 0", "", ""]
        self.socket.sendto("\r\n".join(lines).encode(), source)

    def die(self, mode: str) -> None:
        """From now on it is like this."""
        self.mode = mode
        if mode == "closed":
            self.join(5)


class TwoCarriersTests(unittest.TestCase):
    """Calls at a steady rate; the first carrier dies when a third of them has begun."""

    timeout = 180.0

    def busy_hour(self, mode: str) -> tuple[float, Carrier, int]:
        """The slowest call's time until it rang (milliseconds), the first carrier, and how many the second one had."""
        directory = Path(self.mktemp()).resolve()
        carrier, port = Carrier(free_port()), free_port()
        self.addCleanup(carrier.die, "closed")
        server = SipdProcess(directory / "server", domain=DOMAIN,
                             config=CONFIG.format(first=carrier.port, second=port))
        server.start()
        self.addCleanup(server.end)
        second = Sipp("call_uas", "", ("127.0.0.1", port), directory / "second")
        self.addCleanup(second.stop)
        callers = Sipp(
            "call_uac", server.target(), ("127.0.0.1", free_port()), directory / "callers", calls=CALLS, rate=RATE,
            hold=HOLD, timeout=90, extra=("-rtt_freq", "1"), users=write_users(directory / "users.csv", [("0123", "")]),
            keys={"domain": DOMAIN, "caller": f"1001@{DOMAIN}", "contact": ""})
        time.sleep(CALLS / RATE / 3)
        self.assertGreater(carrier.taken, 10, server.log()[-2000:])
        carrier.die(mode)
        figures = callers.wait()
        other = second.stop()
        sys.stdout.write(f"\n{mode}: {figures.succeeded} of {CALLS}, {carrier.taken} at the first, {other.created} at the "
                         f"second, ringing after {figures.percentile(0.5):.0f} ms, {figures.percentile(1.0):.0f} at worst ")
        lost = 0 if mode == "busy" else UP
        self.assertGreaterEqual(figures.succeeded, CALLS - lost, figures.errors + server.log()[-3000:])
        self.assertGreater(other.created, CALLS / 2)
        self.assertEqual(len(figures.response_times), CALLS)
        return figures.percentile(1.0), carrier, other.created

    @shows("OUT-16", "3263 4.3", "16.7")
    def test_icmp(self) -> None:
        """Nobody listens there any more: each call is with the second carrier at once."""
        worst, _, _ = self.busy_hour("closed")
        self.assertLess(worst, 1000.0)

    @shows("OUT-16", "16.7")
    def test_refuses(self) -> None:
        """It answers 503 to what is new: no call is lost, those that were up end as they should."""
        worst, carrier, _ = self.busy_hour("busy")
        self.assertLess(worst, 1000.0)
        self.assertGreater(carrier.refused, 0)

    @shows("OUT-16", "16.7")
    def test_silence(self) -> None:
        """It says nothing any more: who calls before qualify notices waits for a moment, and then nobody does."""
        worst, _, _ = self.busy_hour("silent")
        self.assertLess(worst, 2500.0)
