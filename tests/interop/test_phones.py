"""Two baresip instances register and talk: each plays its own tone, and the other's must be in its recording."""

from __future__ import annotations

import time
from pathlib import Path

from twisted.trial import unittest

from tests.interop.baresip import Phone
from tests.interop.sipd_process import SipdProcess

TONES = {"1001": 440.0, "1002": 700.0}
#: Seconds that two phones talk before one hangs up.
TALK = 2.0


class PhonesTests(unittest.TestCase):
    """One server, two phones, both ways."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.server = SipdProcess(
            self.directory.resolve() / "server", users={"1001": "first-secret", "1002": "second-secret"}, tls=True
        )
        self.server.start()
        self.addCleanup(self.server.end)

    def _phone(self, user: str, transport: str, password: str) -> Phone:
        phone = Phone(
            self.directory.resolve() / f"{user}-{transport}", self.server.target(transport), user, password, transport,
            TONES[user],
        )
        self.addCleanup(phone.stop)
        phone.wait_event("REGISTER_OK")
        return phone

    def _pair(self, first: str, second: str) -> tuple[Phone, Phone]:
        return self._phone("1001", first, "first-secret"), self._phone("1002", second, "second-secret")

    def _call(self, caller: Phone, callee: Phone, hangs_up: Phone) -> None:
        """One call from dialling to the recordings."""
        for phone in (caller, callee):
            phone.forget_recordings()
        caller.dial(callee)
        callee.wait_event("CALL_INCOMING")
        callee.command("accept")
        for phone in (caller, callee):
            phone.wait_event("CALL_ESTABLISHED")
        time.sleep(TALK)
        hangs_up.command("hangup")
        for phone in (caller, callee):
            phone.wait_event("CALL_CLOSED")
        for phone, other in ((caller, callee), (callee, caller)):
            heard = {tone: phone.heard(tone) for tone in TONES.values()}
            self.assertGreater(heard[TONES[other.user]], 0.9, f"{phone.user} did not hear {other.user}: {heard}")
            self.assertLess(heard[TONES[phone.user]], 0.1, f"{phone.user} heard itself: {heard}")

    def test_udp_and_tls(self) -> None:
        """A phone on UDP and one on TLS call each other both ways; either side hangs up."""
        first, second = self._pair("udp", "tls")
        self._call(first, second, first)
        self._call(first, second, second)
        self._call(second, first, second)
        self._call(second, first, first)

    def test_udp_and_tcp(self) -> None:
        """A phone on UDP and one on TCP call each other both ways; either side hangs up."""
        first, second = self._pair("udp", "tcp")
        self._call(first, second, second)
        self._call(second, first, second)

    def test_caller_gives_up(self) -> None:
        """A caller that hangs up while it rings ends the call on the other phone too (CANCEL, RFC 3261 s9)."""
        first, second = self._pair("udp", "tcp")
        first.dial(second)
        second.wait_event("CALL_INCOMING")
        first.command("hangup")
        second.wait_event("CALL_CLOSED")

    def test_callee_declines(self) -> None:
        """A callee that hangs up while it rings ends the caller's attempt (6xx or 486, RFC 3261 s16.7)."""
        first, second = self._pair("tcp", "udp")
        first.dial(second)
        second.wait_event("CALL_INCOMING")
        second.command("hangup")
        first.wait_event("CALL_CLOSED")

    def test_wrong_password(self) -> None:
        """A phone with a wrong password is not registered and is told so."""
        phone = Phone(self.directory.resolve() / "stranger", self.server.target(), "1001", "guess", "udp", 440.0)
        self.addCleanup(phone.stop)
        phone.wait_event("REGISTER_FAIL")
        self.assertNotIn("REGISTER_OK", [event["type"] for event in phone.events])
