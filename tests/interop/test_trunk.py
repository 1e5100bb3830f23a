"""One sipd registers at another over real sockets, as an office does at its carrier, and is called there (OUT-01, OUT-09).

Either dies by SIGKILL and starts again; the calls that come after that ring the same phone.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

from twisted.trial import unittest

from bench.registrant import Registrant, Registration, digest_authorization
from sipd.admin.client import ask
from tests.interop.sipd_process import SipdProcess
from tests.interop.wire import Endpoint, Message
from tests.support.cases import shows

CARRIER, OFFICE = "carrier.example", "office.example"
TRUNK = """
[peers.carrier]
uri = "sip:127.0.0.1:{port};transport={transport}"
username = "acct1"
password = "{password}"
from_domain = "{domain}"
register = true
register_expires = 120
inbound_to = "1001"
identify_by = ["address"]
qualify = 10
"""


class OfficeTestCase(unittest.TestCase):
    """An office with one phone, and somebody who calls it through its carrier."""

    timeout = 120.0
    #: The caller's domain and password at the carrier.
    domain, secret = CARRIER, "caller-secret"
    #: What the office's configuration has besides, beginning with options of the peer.
    more = ""

    def open_office(self, directory: Path, port: int, transport: str, password: str) -> None:
        """Starts the office's server, whose carrier listens on `port`; the phone registers there."""
        config = TRUNK.format(port=port, transport=transport, password=password, domain=self.domain) + self.more
        self.office = SipdProcess(directory / "office", domain=OFFICE, users={"1001": "phone-secret"}, config=config)
        self.office.start()
        self.addCleanup(self.office.end)
        self.caller = Endpoint(("127.0.0.1", port), "2001", self.domain)
        self.phone = Endpoint(self.office.address, "1001", OFFICE)
        self.addCleanup(self.caller.close)
        self.addCleanup(self.phone.close)
        self.register_phone()

    def register_phone(self) -> None:
        """The phone's own registration."""
        client = Registrant(self.office.address, OFFICE)
        registration = Registration("1001", f"sip:1001@{self.phone.host}", password="phone-secret")
        client.run([registration])
        client.close()
        self.assertEqual(registration.status, 200)

    def registry(self) -> dict[str, Any]:
        """What `sipctl registry` shows of the peer."""
        row: dict[str, Any] = self.ask("registry", name="carrier")[0]
        return row

    def ask(self, command: str, **arguments: Any) -> Any:
        """What the office's server answers to sipctl."""
        return ask(str(self.office.state / "sipctl.sock"), command, **arguments)

    def wait_for_log(self, text: str, seconds: float = 3.0) -> None:
        """A line may wait in the buffer."""
        deadline = time.monotonic() + seconds
        while text not in self.office.log():
            self.assertLess(time.monotonic(), deadline, self.office.log()[-2000:])
            time.sleep(0.1)

    def wait_for(self, state: str, again: bool = False, seconds: float = 15.0) -> dict[str, Any]:
        """The peer's row once it has this state; with `again` it is told to register at once."""
        deadline = time.monotonic() + seconds
        while (row := self.registry())["state"] != state:
            self.assertLess(time.monotonic(), deadline, f"{row}\n{self.office.log()[-2000:]}")
            if again and row["state"] != "trying":
                self.ask("registry again", name="carrier")
            time.sleep(0.1)
        return row

    def call(self) -> None:
        """The caller calls the account at the carrier; the phone in the office rings, answers and hangs up."""
        uri, call_id = f"sip:acct1@{self.domain}", secrets.token_hex(8)
        lines = [f"From: <sip:2001@{self.domain}>;tag=caller", f"To: <{uri}>", f"Call-ID: {call_id}",
                 f"Contact: {self.caller.contact}"]
        self.caller.send(self.caller.request("INVITE", uri, [*lines, "CSeq: 1 INVITE"]))
        challenge = self.caller.expect(407).all("Proxy-Authenticate")[0]
        credentials = digest_authorization(challenge, "INVITE", uri, "2001", self.secret)
        self.caller.send(self.caller.request(
            "INVITE", uri, [*lines, "CSeq: 2 INVITE", f"Proxy-Authorization: {credentials}"]))
        invite = self.phone.receive(lambda message: message.method == "INVITE" and message.all("Call-ID") == [call_id])
        assert invite is not None, f"it does not ring\n{self.office.log()[-2000:]}"
        self.phone.answer(invite, "180 Ringing", "callee")
        self.caller.expect(180)
        self.phone.answer(invite, "200 OK", "callee")
        answer = self.caller.receive(lambda message: message.status == 200 and message.method == "INVITE")
        assert answer is not None
        routes = [f"Route: {route}" for route in reversed(answer.all("Record-Route"))]
        self.caller.send(self.caller.request("ACK", self._remote(answer), [
            *routes, lines[0], f"To: {answer.all('To')[0]}", lines[2], "CSeq: 2 ACK"]))
        self.assertIsNotNone(self.phone.receive(lambda message: message.method == "ACK"))
        routes = [f"Route: {route}" for route in invite.all("Record-Route")]
        self.phone.send(self.phone.request("BYE", self._remote(invite), [
            *routes, f"From: {invite.all('To')[0]};tag=callee", f"To: {invite.all('From')[0]}",
            f"Call-ID: {call_id}", "CSeq: 1 BYE"]))
        self.caller.answer(self.caller.expect("BYE"), "200 OK")
        self.assertEqual(self.phone.expect(200).method, "BYE")

    @staticmethod
    def _remote(message: Message) -> str:
        return message.all("Contact")[0].partition("<")[2].partition(">")[0]


class TrunkTests(OfficeTestCase):
    """The carrier is another sipd."""

    def start(self, transport: str, password: str = "account-secret") -> None:
        """Starts both servers."""
        directory = Path(self.mktemp()).resolve()
        self.carrier = SipdProcess(directory / "carrier", domain=CARRIER,
                                   users={"acct1": "account-secret", "2001": self.secret})
        self.carrier.start()
        self.addCleanup(self.carrier.end)
        self.open_office(directory, self.carrier.port, transport, password)

    def _through_deaths(self, transport: str) -> None:
        self.start(transport)
        row = self.wait_for("registered")
        self.assertEqual((row["server"], row["user"]), (f"{transport}:127.0.0.1:{self.carrier.port}", f"1001@{OFFICE}"))
        self.assertTrue(100 < row["expires"] <= 120)
        self.call()
        self.office.kill()
        self.office.start()
        self.assertEqual(self.wait_for("registered")["contact"], row["contact"])
        self.call()
        self.carrier.kill()
        self.carrier.start()
        self.wait_for("registered", again=True)
        if transport == "udp":
            self.call()  # the carrier remembers, and nobody had to register anew
        self.ask("registry again", name="carrier")
        self.wait_for("registered", again=True)
        self.call()
        self.assertEqual(self.ask("qualify", name="carrier")[0]["state"], "reachable")
        self.office.stop()
        bindings = ask(str(self.carrier.state / "sipctl.sock"), "registrations", aor="acct1")["registrations"]
        self.assertEqual(bindings, [], "the farewell did not reach the carrier")

    @shows("OUT-01", "22.2")
    @shows("OUT-09", "16.5")
    def test_udp(self) -> None:
        """Over UDP."""
        self._through_deaths("udp")

    @shows("OUT-01", "22.2")
    @shows("OUT-09", "16.5")
    def test_tcp(self) -> None:
        """Over TCP, where the carrier calls over the connection that registered."""
        self._through_deaths("tcp")

    @shows("OUT-08", "10.2.2")
    def test_reload(self) -> None:
        """A peer that is taken out of the file is unregistered when the file is read again, and registers when it is
        put back."""
        self.start("udp")
        self.wait_for("registered")
        file = self.office.directory / "sipd.toml"
        text = file.read_text()
        file.write_text("")
        self.assertEqual(self.ask("reload")["changes"], ["peer carrier removed"])
        deadline = time.monotonic() + 5.0
        while ask(str(self.carrier.state / "sipctl.sock"), "registrations", aor="acct1")["registrations"]:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        self.assertEqual(self.ask("registry"), [])
        file.write_text(text)
        self.assertEqual(self.ask("reload")["changes"], ["peer carrier added"])
        self.wait_for("registered")
        self.call()

    @shows("OUT-04", "10.2.7")
    def test_wrong_password(self) -> None:
        """A wrong password is a refusal, shown and logged with the time until the next attempt, which is long; the
        carrier sees two REGISTERs and no more."""
        self.start("udp", "wrong")
        row = self.wait_for("refused")
        self.assertTrue(row["reason"].startswith("401"), row)
        self.assertGreater(row["next"], 500)
        time.sleep(0.5)  # a line may wait in the buffer
        self.assertIn("peer carrier is refused: 401", self.office.log())
        self.assertEqual(self.carrier.log().count("REGISTER from"), 1, self.carrier.log())
