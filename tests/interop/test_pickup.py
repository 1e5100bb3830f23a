"""A call from outside is picked up with real phones: baresip rings, linphone and another baresip take the call from there."""

from __future__ import annotations

import secrets
from pathlib import Path

from twisted.trial import unittest

from sipd.admin.client import ask
from tests.interop.baresip import Phone
from tests.interop.linphone import Linphone
from tests.interop.sipd_process import SipdProcess
from tests.interop.test_events import CONFIG, DOMAIN, SDP, until
from tests.interop.wire import Endpoint
from tests.support.cases import shows


class PickupTests(unittest.TestCase):
    """A carrier on a bare socket calls 1002; 1003 picks up by number."""

    timeout = 120.0

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.server = SipdProcess(self.directory / "server", users={"1002": "b", "1003": "c"}, config=CONFIG, domain=DOMAIN)
        self.addCleanup(self.server.end)
        self.server.start()
        self.carrier = Endpoint(self.server.address, "+4930123", "carrier.example")
        self.addCleanup(self.carrier.close)
        self.rings = self.phone("1002", "b")
        self.rings.wait_event("REGISTER_OK")

    def phone(self, user: str, password: str) -> Phone:
        """A baresip, over UDP."""
        phone = Phone(self.directory / user, self.server.target(), user, password, "udp", 440.0, domain=DOMAIN)
        self.addCleanup(phone.stop)
        return phone

    def call(self) -> None:
        """The carrier calls, and 1002 rings."""
        self.call_id, uri = secrets.token_hex(8), f"sip:1002@{DOMAIN}"
        self.lines = ["From: <sip:+4930123@carrier.example>;tag=out", f"Call-ID: {self.call_id}"]
        self.carrier.send(self.carrier.request("INVITE", uri, [
            *self.lines, f"To: <{uri}>", "CSeq: 1 INVITE", f"Contact: {self.carrier.contact}",
            "Content-Type: application/sdp"], SDP))
        self.rings.wait_event("CALL_INCOMING")
        self.carrier.expect(180)

    def talks(self) -> None:
        """The call is answered by 1003, 1002 stops ringing and nobody else hears of it; then the carrier hangs up."""
        ok = self.carrier.expect(200, 15)
        contact = ok.all("Contact")[0].partition("<")[2].partition(">")[0]
        within = [*[f"Route: {value}" for value in reversed(ok.all("Record-Route"))], *self.lines, f"To: {ok.all('To')[0]}"]
        self.carrier.send(self.carrier.request("ACK", contact, [*within, "CSeq: 1 ACK"]))
        self.rings.wait_event("CALL_CLOSED")
        until(lambda: self.told()["state"] == "confirmed", "call")
        self.assertEqual(self.told()["answered_by"], "1003")
        self.carrier.send(self.carrier.request("BYE", contact, [*within, "CSeq: 2 BYE"]))
        self.carrier.receive(lambda one: one.status == 200 and one.method == "BYE")
        until(lambda: not self.ask("calls"), "end of the call")

    def told(self) -> dict[str, object]:
        """What sipctl says of the call."""
        return next(call for call in self.ask("calls") if call["call_id"] == self.call_id)

    def ask(self, what: str) -> list[dict[str, object]]:
        """The rows of a command of that name."""
        rows: list[dict[str, object]] = ask(str(self.server.state / "sipctl.sock"), what)[what]
        return rows

    @shows("SUB-26", "3891 3")
    def test_linphone_picks_up(self) -> None:
        """linphone dials the code: its own call ends, the one from outside comes, and its user takes it; the program on
        its console leaves it to him whether that happens by itself."""
        picks = Linphone(self.directory / "linphone", self.server.target(), "1003", "c", DOMAIN)
        self.addCleanup(picks.stop)
        until(lambda: len(self.ask("registrations")) == 2, "linphone")
        self.call()
        picks.command(f"call sip:*8@{DOMAIN}")
        picks.shown(10, "assigned id 2")
        picks.command("answer 2")
        self.talks()

    @shows("SUB-26", "3891 3")
    def test_baresip_picks_up(self) -> None:
        """baresip, which knows no answering by itself, rings, and its user takes the call; when he lets it ring and hangs
        up, the first phone rings on and can still answer."""
        picks = self.phone("1003", "c")
        picks.wait_event("REGISTER_OK")
        for taken in (False, True):
            self.call()
            picks.command("dial", f"sip:*81002@{DOMAIN}")
            picks.wait_event("CALL_CLOSED")
            picks.wait_event("CALL_INCOMING")
            if taken:
                picks.command("accept")
                self.talks()
            else:
                picks.command("hangup")
                picks.wait_event("CALL_CLOSED")
                self.assertEqual(self.told()["state"], "early")
                self.rings.command("hangup")
                self.carrier.expect(486)
