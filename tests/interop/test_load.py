"""SIPp against the server: two thousand phones register with digest, then thousands of calls; nothing may fail.

A retransmission counts as caused by us: on loopback nothing is lost, so a repeat means that we were silent for half a
second (Timer A and E, RFC 3261 s17.1).
"""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.trial import unittest

from bench.servers import free_port
from bench.sipp import Figures, Sipp, write_users
from tests.interop.sipd_process import SipdProcess

USERS = 2000
DOMAIN = "sip.example.com"
SECRET = "load-secret"

CONFIG = (
    f'[server]\ndomains = ["{DOMAIN}"]\n[auth]\nalgorithms = ["MD5"]\n[proxy]\nguests = true\n[users]\n'
    + "".join(f'{1000 + number} = "{SECRET}"\n' for number in range(USERS))
)


class LoadTests(unittest.TestCase):
    """One server with two thousand users in its file; the callers of most calls are guests."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.server = SipdProcess(self.directory / "server", domain="", config=CONFIG)
        self.server.start()
        self.addCleanup(self.server.end)
        self.callee_port = free_port()

    def _answering(self, transport: str) -> Sipp:
        answering = Sipp("call_uas", "", ("127.0.0.1", self.callee_port), self.directory / "uas", transport=transport)
        self.addCleanup(answering.stop)
        return answering

    def _sipp(
        self, scenario: str, name: str, calls: int, rate: float, transport: str, contact: str, user: str = ""
    ) -> Figures:
        """One SIPp run over all users; `user` is who proves to be the caller, each user itself when empty."""
        rows = [
            (str(number), f"[authentication username={user or number} password={SECRET}]")
            for number in range(1000, 1000 + USERS)
        ]
        caller = f"{user}@{DOMAIN}" if user else "guest@elsewhere.example.net"
        before = self.server.cpu()
        figures = Sipp(
            scenario, self.server.target(), ("127.0.0.1", free_port()), self.directory / name, transport=transport,
            users=write_users(self.directory / "users.csv", rows), calls=calls, rate=rate, timeout=120,
            keys={"domain": DOMAIN, "caller": caller, "contact": contact},
        ).wait()
        spent = 1e6 * (self.server.cpu() - before) / max(figures.succeeded, 1)
        sys.stdout.write(
            f"\n{name}: {figures.succeeded} of {calls} at {rate:.0f}/s, {spent:.0f} us of CPU each, "
            f"p50 {figures.percentile(0.5):.0f} ms, p99 {figures.percentile(0.99):.0f} ms "
        )
        return figures

    def _clean(self, figures: Figures, count: int) -> None:
        self.assertEqual((figures.succeeded, figures.failed), (count, 0), figures.errors)
        self.assertEqual(figures.retransmissions, 0)

    def _answered(self, answering: Sipp, count: int) -> None:
        other = answering.stop()
        self.assertEqual((other.created, other.failed, other.retransmissions), (count, 0, 0), other.errors)

    def test_udp(self) -> None:
        """2,000 users register with digest at 500/s, then 5,000 calls at 300/s pass, all over UDP."""
        contact = f"127.0.0.1:{self.callee_port}"
        self._clean(self._sipp("register_digest", "register", USERS, 500, "u1", contact), USERS)
        answering = self._answering("u1")
        self._clean(self._sipp("call_uac", "calls", 5000, 300, "u1", contact), 5000)
        self._answered(answering, 5000)

    def test_tcp(self) -> None:
        """The same over TCP: every message of one side on one connection."""
        contact = f"127.0.0.1:{self.callee_port};transport=tcp"
        self._clean(self._sipp("register_digest", "register", USERS, 500, "t1", contact), USERS)
        answering = self._answering("t1")
        self._clean(self._sipp("call_uac", "calls", 5000, 300, "t1", contact), 5000)
        self._answered(answering, 5000)

    def test_connection_per_call(self) -> None:
        """Over TCP with a connection for every registration and every call; the callees answer over UDP."""
        contact = f"127.0.0.1:{self.callee_port}"
        self._clean(self._sipp("register_digest", "register", USERS, 300, "tn", contact), USERS)
        answering = self._answering("u1")
        self._clean(self._sipp("call_uac", "calls", 2000, 200, "tn", contact), 2000)
        self._answered(answering, 2000)

    def test_calls_with_digest(self) -> None:
        """1,000 calls of a user of ours, each challenged once (407) and then let through, BYE without a challenge."""
        contact = f"127.0.0.1:{self.callee_port}"
        self._clean(self._sipp("register_digest", "register", USERS, 500, "u1", contact), USERS)
        answering = self._answering("u1")
        self._clean(self._sipp("call_digest_uac", "calls", 1000, 200, "u1", contact, user="1000"), 1000)
        self._answered(answering, 1000)
