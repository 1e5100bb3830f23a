"""States and lamps with real phones: baresip and linphone see who is there and what waits; a watcher on a bare socket sees
early, confirmed and terminated, over a kill of the server too (RFC 6665, RFC 3856, RFC 3842, RFC 4235)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from twisted.trial import unittest

from tests.interop.baresip import Phone
from tests.interop.sipd_process import SipdProcess
from tests.interop.wire import Endpoint, Message
from tests.support.cases import shows

DOMAIN = "sip.example.com"
#: baresip's mwi module asks again in an endless loop when it is told to come later.
CONFIG = "[auth]\nrequired = false\n[overload]\nshed = false\n"


def until(found: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    """Waits for something."""
    deadline = time.monotonic() + seconds
    while not found():
        if time.monotonic() > deadline:
            raise AssertionError(f"no {what} in {seconds:.0f} s")
        time.sleep(0.1)


class Lamp:
    """A watcher on a bare socket: it subscribes without credentials and answers each NOTIFY."""

    def __init__(self, server: SipdProcess, user: str, entity: str, package: str) -> None:
        self.endpoint = Endpoint(server.address, user, DOMAIN)
        self.states: list[str] = []
        self.bodies: list[str] = []
        end = self.endpoint
        request = end.request("SUBSCRIBE", f"sip:{entity}@{DOMAIN}", [
            f"From: <sip:{user}@{DOMAIN}>;tag=w{user}", f"To: <sip:{entity}@{DOMAIN}>", f"Call-ID: w{user}-{time.time()}",
            "CSeq: 1 SUBSCRIBE", f"Contact: {end.contact}", f"Event: {package}", "Expires: 600"])
        end.socket.sendto(request, end.server)

    def look(self, seconds: float, state: str = "") -> list[str]:
        """Takes what comes for so long, or until a body holds `state`; the states seen so far."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not (state and state in self.states):
            self.endpoint.socket.settimeout(max(0.05, min(0.5, deadline - time.monotonic())))
            try:
                message = Message(self.endpoint.socket.recv(65535))
            except (TimeoutError, ConnectionError):
                continue
            if message.status:
                continue
            self.endpoint.answer(message, "200 OK")
            body = message.data.partition(b"\r\n\r\n")[2].decode()
            self.bodies.append(body)
            self.states.append(re.findall(r">(trying|early|confirmed|terminated)</state>", body)[0]
                               if "</state>" in body else "idle")
        return self.states


class EventTests(unittest.TestCase):
    """One server; phones of users 1001 to 1003."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.serve("server")

    def serve(self, name: str) -> None:
        """A new server."""
        self.server = SipdProcess(self.directory / name, users={"1001": "a", "1002": "b", "1003": "c"}, config=CONFIG,
                                  domain=DOMAIN)
        self.addCleanup(self.server.end)
        self.server.start()

    def phone(self, user: str, password: str, name: str = "", *watches: str) -> Phone:
        """A baresip, over UDP."""
        phone = Phone(self.directory / (name or user), self.server.target(), user, password, "udp", 440.0, domain=DOMAIN,
                      watches=watches, account=";mwi=yes" if watches else "")
        self.addCleanup(phone.stop)
        return phone

    def watcher(self) -> Phone:
        """One that watches 1002 and its own mailbox. One start in six baresip's mwi module falls into an endless loop of
        SUBSCRIBEs before it has heard anything: then all begin anew."""
        for attempt in range(8):
            phone = self.phone("1001", "a", f"watcher-{attempt}", "1002")
            time.sleep(1.5)
            if phone.log().count("mwi: subscribing") == 1:
                return phone
            phone.stop()
            self.server.stop()
            self.serve(f"server-{attempt}")
        raise AssertionError("baresip does not start")

    def sipctl(self, *words: str) -> str:
        """What sipctl prints."""
        root = Path(__file__).resolve().parents[2]
        result = subprocess.run([str(Path(sys.executable).parent / "sipctl"), "--state-dir", str(self.server.state), *words],
                                capture_output=True, text=True, check=False,
                                env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200"})
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    @shows("SUB-01", "SUB-14", "SUB-25")
    def test_baresip(self) -> None:
        """baresip's presence and mwi modules see who comes and goes and what waits, before and after a kill."""
        watcher = self.watcher()
        until(lambda: '"all": 2' in self.sipctl("subscriptions", "1001", "--json"), "subscriptions", 40)
        other = self.phone("1002", "b")
        other.wait_event("REGISTER_OK")
        until(lambda: "Online" in watcher.command("contacts"), "Online")
        self.sipctl("mwi", "1001", "3", "4")
        until(lambda: watcher.log().count("Voice-Message: 3/4") == 1, "lamp")
        self.server.kill()
        self.server.start()
        until(lambda: watcher.log().count("Voice-Message: 3/4") == 2, "lamp after the kill")
        self.sipctl("mwi", "1001", "0", "7")
        until(lambda: "Voice-Message: 0/7" in watcher.log(), "dark lamp")
        other.stop()
        until(lambda: "Offline" in watcher.command("contacts"), "Offline", 20)

    @shows("SUB-15")
    def test_lamp(self) -> None:
        """A lamp on a bare socket follows a call between two phones, and one that the server was killed in: nothing
        stays lit."""
        first, second = self.phone("1001", "a"), self.phone("1002", "b")
        for phone in (first, second):
            phone.wait_event("REGISTER_OK")
        lamp = Lamp(self.server, "1003", "1002", "dialog")
        self.assertEqual(lamp.look(5, "idle"), ["idle"])
        first.command("dial", f"sip:1002@{DOMAIN}")
        second.wait_event("CALL_INCOMING")
        lamp.look(5, "early")
        second.command("accept")
        first.wait_event("CALL_ESTABLISHED")
        lamp.look(5, "confirmed")
        first.command("hangup")
        second.wait_event("CALL_CLOSED")
        self.assertEqual([state for state in lamp.look(5, "terminated") if state != "trying"],
                         ["idle", "early", "confirmed", "terminated"])
        lamp.states.clear()
        first.command("dial", f"sip:1002@{DOMAIN}")
        second.wait_event("CALL_INCOMING")
        lamp.look(5, "early")
        self.server.kill()
        second.command("hangup")
        first.command("hangup")
        self.server.start()
        lamp.look(4)
        self.assertIn(lamp.states[-1], ("idle", "terminated"), lamp.bodies[-1])
