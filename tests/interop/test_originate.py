"""`sipctl originate` connects two baresips: each rings, each shows the other, and each hears the other's tone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial import unittest

from tests.interop.baresip import Phone
from tests.interop.sipd_process import ROOT, SipdProcess

TONES = {"1001": 440.0, "1002": 700.0}
#: Seconds that two phones talk.
TALK = 2.0


class OriginateTests(unittest.TestCase):
    """One server, two phones, nobody dials."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.server = SipdProcess(
            self.directory / "server", users={"1001": "first-secret", "1002": "second-secret"}, tls=True)
        self.server.start()
        self.addCleanup(self.server.end)
        # without call_transfer it would follow REFER too, but does not say so in Allow
        self.first = self._phone("1001", "tcp", "first-secret", ";call_transfer=yes")
        self.second = self._phone("1002", "tls", "second-secret")

    def _phone(self, user: str, transport: str, password: str, account: str = "") -> Phone:
        phone = Phone(
            self.directory / user, self.server.target(transport), user, password, transport, TONES[user], account)
        self.addCleanup(phone.stop)
        phone.wait_event("REGISTER_OK")
        return phone

    def sipctl(self, *words: str) -> subprocess.Popen[str]:
        """sipctl of this server, running."""
        # whoever runs the tests in the background may ignore ^C, and children inherit that
        process = subprocess.Popen(
            ["env", "--default-signal=INT", str(Path(sys.executable).parent / "sipctl"),
             "--state-dir", str(self.server.state), *words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"})
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        return process

    def _end(self, process: subprocess.Popen[str], status: int) -> str:
        said = process.communicate(timeout=20)[0]
        self.assertEqual(process.returncode, status, said)
        return said

    def _heard(self) -> None:
        for phone, other in ((self.first, self.second), (self.second, self.first)):
            heard = {tone: phone.heard(tone) for tone in TONES.values()}
            self.assertGreater(heard[TONES[other.user]], 0.9, f"{phone.user} did not hear {other.user}: {heard}")
            self.assertLess(heard[TONES[phone.user]], 0.1, f"{phone.user} heard itself: {heard}")

    def _controlled(self, hangs_up: Phone) -> None:
        """Two dialogs of ours: both hear, either hangs up, and the other is told."""
        for phone in (self.first, self.second):
            phone.forget_recordings()
        command = self.sipctl("originate", "1001", "1002", "--by", "3pcc")
        self.assertIn("1002", self.first.wait_event("CALL_INCOMING")["peeruri"])
        self.first.command("accept")
        self.assertIn("1001", self.second.wait_event("CALL_INCOMING")["peeruri"])
        self.second.command("accept")
        for phone in (self.first, self.second):
            phone.wait_event("CALL_ESTABLISHED")
        self.assertIn("connected by 3pcc", self._end(command, 0))
        time.sleep(TALK)
        self.assertIn("1002", self._end(self.sipctl("originations"), 0))
        hangs_up.command("hangup")
        for phone in (self.first, self.second):
            phone.wait_event("CALL_CLOSED")
        self._heard()

    def test_held_here(self) -> None:
        """Third-party call control (RFC 3725), over TCP and TLS; first the one, then the other hangs up."""
        self._controlled(self.first)
        self._controlled(self.second)

    def test_by_refer(self) -> None:
        """baresip knows REFER: it is asked to call the other, and the call is its own."""
        command = self.sipctl("originate", "1001", "1002")
        self.first.wait_event("CALL_INCOMING")
        self.first.command("accept")
        self.second.wait_event("CALL_INCOMING")
        self.second.command("accept")
        self.second.wait_event("CALL_ESTABLISHED")
        self.assertIn("connected by refer", self._end(command, 0))
        time.sleep(TALK)
        self.second.command("hangup")
        self.second.wait_event("CALL_CLOSED")
        self._heard()

    def test_given_up(self) -> None:
        """^C while the first rings: it stops ringing."""
        command = self.sipctl("originate", "1001", "1002")
        self.first.wait_event("CALL_INCOMING")
        command.send_signal(signal.SIGINT)
        self.first.wait_event("CALL_CLOSED")
        self.assertIn("given up", self._end(command, 6))

    def test_declined(self) -> None:
        """The second declines: the first is let go, and the command says who it was."""
        command = self.sipctl("originate", "1001", "1002", "--by", "3pcc")
        self.first.wait_event("CALL_INCOMING")
        self.first.command("accept")
        self.second.wait_event("CALL_INCOMING")
        self.second.command("hangup")
        self.first.wait_event("CALL_CLOSED")
        self.assertRegex(self._end(command, 6), r"failed: 1002: (486|603)")
