"""baresip phones in ring groups, forwarded on busy, on no answer and while they are away, and not to be disturbed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twisted.trial import unittest

from tests.interop.baresip import Phone
from tests.interop.sipd_process import ROOT, SipdProcess

USERS = {"1001": "secret-1", "1002": "secret-2", "1003": "secret-3", "1004": "secret-4"}
TONES = {"1001": 440.0, "1002": 700.0, "1003": 1000.0}
OFFICE = """
[groups.sales]
members = ["1002", "1003"]
timeout = 15

[groups.turns]
members = ["1002", "1003"]
strategy = "serial"
timeout = 3

[forward.1002]
busy = "1003"
no_answer = "1003"
no_answer_after = 3

[forward.1004]
offline = "1003"

[numbers]
500 = "sales"

[routing]
script = "routes.py"
"""
SCRIPT = """
async def route(request, peer, helpers):
    await helpers.sleep(0.1)
    if request.called == "777":
        return "1003" if peer.name == "1001" else 403
"""


class RoutedPhonesTests(unittest.TestCase):
    """One caller, 1001, and two phones."""

    def setUp(self) -> None:
        directory = Path(self.mktemp()).resolve()
        place = directory / "server"
        place.mkdir(parents=True)
        (place / "routes.py").write_text(SCRIPT)
        self.server = SipdProcess(place, users=USERS, config=OFFICE)
        self.server.start()
        self.addCleanup(self.server.end)
        self.caller, self.two, self.three = (self._phone(directory, user) for user in TONES)

    def _phone(self, directory: Path, user: str) -> Phone:
        phone = Phone(directory / user, self.server.target(), user, USERS[user], "udp", TONES[user])
        self.addCleanup(phone.stop)
        phone.wait_event("REGISTER_OK")
        return phone

    def _dial(self, number: str) -> None:
        self.caller.command("dial", f"sip:{number}@{self.server.target()}")

    def _talk(self, phone: Phone) -> None:
        """The phone that rings takes the call, both hear each other, the caller hangs up."""
        for one in (self.caller, phone):
            one.forget_recordings()
        phone.command("accept")
        for one in (self.caller, phone):
            one.wait_event("CALL_ESTABLISHED")
        time.sleep(1.5)
        self.caller.command("hangup")
        for one in (self.caller, phone):
            one.wait_event("CALL_CLOSED")
        self.assertGreater(self.caller.heard(TONES[phone.user]), 0.9)
        self.assertGreater(phone.heard(TONES["1001"]), 0.9)

    def _sipctl(self, *words: str) -> Any:
        """What sipctl says, from JSON."""
        done = subprocess.run([str(Path(sys.executable).parent / "sipctl"), "--state-dir", str(self.server.state), "--json", *words],
                              capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)}, timeout=30)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_ring_group(self) -> None:
        """Both phones of the group ring; one answers and the other stops; then one after the other."""
        self._dial("500")
        for phone in (self.two, self.three):
            phone.wait_event("CALL_INCOMING")
        self._talk(self.three)
        self.two.wait_event("CALL_CLOSED")
        self._dial("turns")
        self.two.wait_event("CALL_INCOMING")
        self.assertNotIn("CALL_INCOMING", [event["type"] for event in self.three.events])
        self.two.wait_event("CALL_CLOSED")
        self.three.wait_event("CALL_INCOMING")
        self._talk(self.three)

    def test_forwards(self) -> None:
        """1002 declines as busy, then does not answer; 1004 is away; each time 1003 rings and talks."""
        self._dial("1002")
        self.two.wait_event("CALL_INCOMING")
        self.two.command("hangup")
        self.three.wait_event("CALL_INCOMING")
        self._talk(self.three)
        self._dial("1002")
        self.two.wait_event("CALL_INCOMING")
        began = time.monotonic()
        self.three.wait_event("CALL_INCOMING")
        self.assertGreater(time.monotonic() - began, 2.0)
        self.two.wait_event("CALL_CLOSED")
        self._talk(self.three)
        self._dial("1004")
        self.three.wait_event("CALL_INCOMING")
        self._talk(self.three)

    def test_at_run_time(self) -> None:
        """Do-not-disturb and a forward set by sipctl are there after kill -9; the script sends 777 to 1003."""
        self._sipctl("dnd", "1003", "on")
        self._sipctl("forward", "1003", "busy", "1002")
        self.server.kill()
        self.server.start()
        row, = self._sipctl("forwards", "1003")
        self.assertEqual((row["dnd"], row["busy"]["to"], row["busy"]["origin"]), (True, "1002", "run time"))
        steps = self._sipctl("route", "test", "1001", "1003")["steps"]
        self.assertIn("1003 is forwarded to 1002 (do-not-disturb)", [step["text"] for step in steps])
        self._dial("1003")
        self.two.wait_event("CALL_INCOMING")
        self._talk(self.two)
        self._sipctl("dnd", "1003", "off")
        self._dial("777")
        self.three.wait_event("CALL_INCOMING")
        self._talk(self.three)
