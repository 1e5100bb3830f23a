"""Two hundred SIPp calls up: the server is killed and started again under them, twice, or reads other files; no call and
no record is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial import unittest

from bench.registrant import Registrant, Registration
from bench.servers import free_port
from bench.sipp import Figures, Sipp, write_users
from tests.interop.sipd_process import ROOT, SipdProcess

DOMAIN = "sip.example.com"
SIPCTL = "from sipd.admin.cli import main; main()"
CALLS = 200
#: Calls a second, and how long each lasts (seconds): all of them are up at once for a while.
RATE, HOLD = 100.0, 15.0

CONFIG = f"""
[server]
domains = ["{DOMAIN}"]
[auth]
required = false
[registrar]
open = true
"""


class CallsTests(unittest.TestCase):
    """One server, one phone that takes every call, one caller that makes them all."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.server = SipdProcess(self.directory / "server", domain="", config=CONFIG)
        self.server.start()
        self.addCleanup(self.server.end)
        port = free_port()
        self.answering = Sipp("call_uas", "", ("127.0.0.1", port), self.directory / "uas")
        self.addCleanup(self.answering.stop)
        client = Registrant(self.server.address, DOMAIN)
        self.addCleanup(client.close)
        registration = Registration("1000", f"sip:1000@127.0.0.1:{port}")
        client.run([registration])
        self.assertEqual(registration.status, 200)

    def call(self) -> Sipp:
        """Begins the calls."""
        calling = Sipp(
            "call_uac", self.server.target(), ("127.0.0.1", free_port()), self.directory / "uac",
            users=write_users(self.directory / "users.csv", [("1000",)]), calls=CALLS, rate=RATE, hold=int(1000 * HOLD),
            timeout=120, keys={"domain": DOMAIN, "caller": f"1001@{DOMAIN}"})
        self.addCleanup(calling.stop)
        return calling

    def sipctl(self, *arguments: str) -> Any:
        """What sipctl says, in JSON."""
        done = subprocess.run(
            [sys.executable, "-c", SIPCTL, "--state-dir", str(self.server.state), *arguments, "--json"], text=True,
            timeout=30, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def until(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        """Waits until something is so."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), deadline, self.server.log()[-2000:])
            time.sleep(0.1)

    def up(self) -> int:
        """How many calls are answered."""
        return Counter(call["state"] for call in self.sipctl("calls")["calls"])["confirmed"]

    def records(self) -> list[dict[str, Any]]:
        """What stands in the file of records, whole lines all of them."""
        text = (self.server.state / "cdr.jsonl").read_text()
        self.assertTrue(text == "" or text.endswith("\n"))
        return [json.loads(line) for line in text.splitlines()]

    def clean(self, figures: Figures) -> None:
        """Every call went as it should."""
        self.assertEqual((figures.succeeded, figures.failed), (CALLS, 0), figures.errors)

    def test_killed(self) -> None:
        """Killed when all calls are up: all of them are known again. Killed while they are hung up: whoever was told that
        a call is over finds its record, and every call has one in the end."""
        calling = self.call()
        self.until(lambda: self.up() == CALLS)
        self.server.kill()
        self.server.start()
        self.assertEqual(self.up(), CALLS)
        busy = {row["peer"]: row["in_use"] for row in self.sipctl("inuse")}
        self.assertEqual(sorted(busy), ["1000", "1001"])
        self.assertEqual(busy["1000"], busy["1001"])
        self.until(lambda: len(self.records()) >= CALLS // 4)
        self.server.kill()
        left = CALLS - len({one["call_id"] for one in self.records()})
        self.assertGreater(left, 0, "all calls were over before the kill")
        self.server.start()
        self.clean(calling.wait())
        self.until(lambda: self.sipctl("calls")["all"] == 0)
        records = self.records()
        self.assertEqual(len({one["call_id"] for one in records}), CALLS)
        # a call whose record was written and that was not struck off the ledger any more
        self.assertLessEqual(len(records), CALLS + 1)
        self.assertEqual({(one["result"], one["caller"], one["answered_by"]) for one in records},
                         {("answered", "1001", "1000")})
        for one in records:
            self.assertLess(abs(one["duration"] - HOLD), 5)

    def test_reloaded(self) -> None:
        """The file is read again and again, with other listeners, users, limits and records, while calls begin, are up
        and end: none is lost."""
        calling = self.call()
        other = free_port()
        files = [
            f'[[listen]]\ntransport = "tcp"\naddress = "127.0.0.1"\nport = {other}\n',
            "[limits]\nconnections = 500\n[users]\n2001 = \"x\"\n",
            f'[calls]\nkeep_ended = 10\n[cdr]\npath = "{self.directory / "other.jsonl"}"\n',
            "[proxy]\nring_timeout = 30.0\n",
        ]
        reloads = 0
        while calling.process.poll() is None:
            (self.directory / "server" / "sipd.toml").write_text(CONFIG + files[reloads % len(files)])
            self.assertTrue(self.sipctl("reload")["applied"])
            reloads += 1
            time.sleep(0.3)
        self.clean(calling.wait())
        self.assertGreater(reloads, 8)
        self.until(lambda: self.sipctl("calls")["all"] == 0)
        records = self.records() + [
            json.loads(line) for line in (self.directory / "other.jsonl").read_text().splitlines()]
        self.assertEqual((len(records), len({one["call_id"] for one in records})), (CALLS, CALLS))
        self.assertEqual({one["result"] for one in records}, {"answered"})
