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
from tests.interop.linphone import Linphone
from tests.interop.sipd_process import SipdProcess
from tests.interop.wire import Endpoint, Message
from tests.support.cases import shows

DOMAIN = "sip.example.com"
#: baresip's mwi module asks again in an endless loop when it is told to come later.
CONFIG = """
[auth]
required = false
[overload]
shed = false
[events]
pickup = "*8"
pickup_groups = { office = ["1002", "1003"] }
"""
SDP = ("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n"
       "a=rtpmap:0 PCMU/8000\r\n")


_STRENGTH = ("terminated", "trying", "early", "confirmed")


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
            seen = re.findall(r">(trying|early|confirmed|terminated)</state>", body)
            # what the lamp of a phone would show of several
            self.states.append(max(seen, key=_STRENGTH.index) if seen else "idle")
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

    @shows("SUB-15")
    def test_forks_and_failures(self) -> None:
        """The lamp of a user with two phones: a call that both ring for and one answers, one that the caller gives up,
        and one whose callee dies, so that nobody answers the BYE."""
        first, second = self.phone("1001", "a"), self.phone("1002", "b")
        third = self.phone("1002", "b", "second")
        for phone in (first, second, third):
            phone.wait_event("REGISTER_OK")
        lamp = Lamp(self.server, "1003", "1002", "dialog")
        lamp.look(5, "idle")
        for how in ("fork", "cancel", "die"):
            lamp.states.clear()
            first.command("dial", f"sip:1002@{DOMAIN}")
            for phone in (second, third):
                phone.wait_event("CALL_INCOMING")
            lamp.look(5, "early")
            if how != "cancel":
                second.command("accept")
                first.wait_event("CALL_ESTABLISHED")
                third.wait_event("CALL_CLOSED")
                lamp.look(5, "confirmed")
            if how == "die":
                second.process.kill()
            first.command("hangup")
            lamp.look(45, "terminated")
            seen = [state for state in lamp.states if state != "trying"]
            self.assertEqual(list(dict.fromkeys(seen)), ["early", *(["confirmed"] if how != "cancel" else []),
                                                         "terminated"], how)
            time.sleep(1.5)
            self.assertEqual(lamp.look(0.1)[-1], "terminated", how)

    @shows("SUB-15", "3891 3")
    def test_pickup(self) -> None:
        """linphone calls 1002, whose phone rings; 1003 picks the call up by what a lamp tells (INVITE with Replaces) and,
        another time, by the number: linphone takes the new call for the old one, and 1002 stops ringing."""
        caller = Linphone(self.directory / "linphone", self.server.target(), "1001", "a", DOMAIN)
        self.addCleanup(caller.stop)
        rings, picks = (Endpoint(self.server.address, user, DOMAIN) for user in ("1002", "1003"))
        rings.send(rings.request("REGISTER", f"sip:{DOMAIN}", [
            f"From: <sip:1002@{DOMAIN}>;tag=r", f"To: <sip:1002@{DOMAIN}>", "Call-ID: r", "CSeq: 1 REGISTER",
            f"Contact: {rings.contact}", "Expires: 600"]))
        rings.expect(200)
        until(lambda: '"registered": 2' in self.sipctl("peers", "--json"), "linphone")
        lamp = Lamp(self.server, "1003", "1002", "dialog")
        for turn, by_lamp in enumerate((True, False)):
            caller.command(f"call sip:1002@{DOMAIN}")
            invite = rings.expect("INVITE", 10)
            rings.answer(invite, "180 Ringing", "ringing")
            lamp.states.clear()
            lamp.look(5, "early")
            uri, more = f"sip:*8@{DOMAIN}", ""
            if by_lamp:
                found = re.search(r'call-id="([^"]+)" local-tag="([^"]+)" remote-tag="([^"]+)"', lamp.bodies[-1])
                target = re.search(r'<remote>.*<target uri="([^"]+)"/>', lamp.bodies[-1])
                assert found is not None and target is not None
                uri, more = target[1], f"{found[1]};to-tag={found[3]};from-tag={found[2]};early-only"
            lines = [f"From: <sip:1003@{DOMAIN}>;tag=p{turn}", f"To: <{uri}>", f"Call-ID: pick{turn}", "CSeq: 1 INVITE",
                     f"Contact: {picks.contact}", "Content-Type: application/sdp"]
            picks.send(picks.request("INVITE", uri, [*lines, *([f"Replaces: {more}"] if more else [])], SDP))
            caller.shown(5, f"assigned id {2 * turn + 2}")
            caller.command(f"answer {2 * turn + 2}")
            ok = picks.expect(200, 10)
            contact = ok.all("Contact")[0].partition("<")[2].partition(">")[0]
            route = [f"Route: {value}" for line in ok.all("Record-Route") for value in line.split(", ")][::-1]
            within = [*route, f"From: <sip:1003@{DOMAIN}>;tag=p{turn}", f"To: {ok.all('To')[0]}", f"Call-ID: pick{turn}"]
            picks.send(picks.request("ACK", contact, [*within, "CSeq: 1 ACK"]))
            cancel = rings.expect("CANCEL", 10)
            rings.answer(cancel, "200 OK")
            rings.answer(invite, "487 Request Terminated", "ringing")
            rings.expect("ACK")
            picks.send(picks.request("BYE", contact, [*within, "CSeq: 2 BYE"]))
            picks.expect(200, 10)
            lamp.look(5, "terminated")
            self.assertEqual(lamp.states[-1], "terminated")
