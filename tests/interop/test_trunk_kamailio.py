"""sipd registers at a carrier that is Kamailio, and is called from there: somebody else's idea of the same RFC."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from bench.registrant import Registrant, Registration, digest_authorization
from bench.servers import DOMAIN, Kamailio
from tests.interop.baresip import Phone
from tests.interop.test_trunk import OFFICE, OfficeTestCase
from tests.interop.wire import Endpoint, Message
from tests.support.cases import shows

#: What the office says of calls out.
ROUTES = """
from_user = "acct1"

[[routes]]
match = "^0(?P<number>[0-9]+)$"
to = ["carrier"]
rewrite = "{number}"
"""


class KamailioCase(OfficeTestCase):
    """The carrier asks everybody for credentials, REGISTER and INVITE alike."""

    domain, secret = DOMAIN, "carrier-secret"

    def start(self, transport: str, password: str, suspects: str = "") -> None:
        """Starts both servers."""
        directory = Path(self.mktemp()).resolve()
        carrier = Kamailio(directory / "kamailio", users={"acct1": self.secret}, suspects=suspects)
        self.addCleanup(carrier.stop)
        self.open_office(directory, carrier.port, transport, password)


class KamailioTests(KamailioCase):
    """Registrations there, and calls that come in on them."""

    @shows("OUT-01", "10.2", "22.2")
    @shows("OUT-09", "16.5")
    def test_calls(self) -> None:
        """Over UDP and over TCP it registers, is called, refreshes by hand with the nonce it knows, and answers as a
        peer that qualify finds reachable."""
        for transport in ("udp", "tcp"):
            self.start(transport, self.secret)
            row = self.wait_for("registered")
            self.assertEqual(row["reason"], "200 OK")
            self.assertTrue(100 < row["expires"] <= 120, row)
            self.call()
            self.ask("registry again", name="carrier")
            self.wait_for("registered")
            self.call()
            self.assertEqual(self.ask("qualify", name="carrier")[0]["state"], "reachable")
            self.office.stop()

    @shows("OUT-04", "22.2")
    def test_wrong_password(self) -> None:
        """A wrong password is a refusal and no loop."""
        self.start("udp", "wrong")
        row = self.wait_for("refused")
        self.assertTrue(row["reason"].startswith("401"), row)
        self.assertGreater(row["next"], 500)


class Dialog:
    """One side of a call, played by hand: what its requests in the dialog look like."""

    def __init__(self, place: Endpoint, own: str, other: str, call_id: str, target: str, routes: list[str],
                 cseq: int) -> None:
        self.place = place
        self.lines = [*[f"Route: {route}" for route in routes], f"From: {own}", f"To: {other}", f"Call-ID: {call_id}",
                      f"Contact: {place.contact}"]
        self.own, self.other, self.target, self.cseq = own, other, target, cseq

    def send(self, method: str, cseq: int = 0) -> None:
        """The next request, or one with the number given."""
        if not cseq:
            self.cseq += 1
        number = cseq or self.cseq
        self.place.send(self.place.request(method, self.target, [*self.lines, f"CSeq: {number} {method}"]))

    def ask(self, case: OfficeTestCase, method: str, answerer: Endpoint) -> Message:
        """Sends a request, which the other side gets and answers; the answer is as this side counts. Returns the request
        as it came."""
        self.send(method)
        got = answerer.receive(lambda message: message.method == method and not message.status, 8.0)
        case.assertIsNotNone(got, f"{method} of {self.place.user} does not come\n{case.office.log()[-3000:]}")
        assert got is not None
        answerer.answer(got, "200 OK")
        answer = self.place.receive(lambda message: message.status >= 200 and message.method == method, 8.0)
        assert answer is not None
        case.assertEqual((answer.status, answer.all("CSeq"), answer.all("From"), answer.all("To")),
                         (200, [f"{self.cseq} {method}"], [self.own], [self.other]))
        if method == "INVITE":
            self.send("ACK", self.cseq)
            ack = answerer.receive(lambda message: message.method == "ACK" and not message.status)
            assert ack is not None
            case.assertEqual(ack.all("CSeq")[0].split()[0], got.all("CSeq")[0].split()[0])
        return got


class CallsOutTests(KamailioCase):
    """The office calls somebody at the carrier, which asks for credentials at every request, and forgets each nonce."""

    def out(self, transport: str, suspects: str = "acct1") -> tuple[Dialog, Dialog]:
        """Both sides of a call out, which is up."""
        self.open_with_routes(transport, suspects)
        uri, call_id = f"sip:02001@{OFFICE}", secrets.token_hex(8)
        own = f"<sip:1001@{OFFICE}>;tag=phone"
        lines = [f"From: {own}", f"To: <{uri}>", f"Call-ID: {call_id}", f"Contact: {self.phone.contact}"]
        self.phone.send(self.phone.request("INVITE", uri, [*lines, "CSeq: 1 INVITE"]))
        challenge = self.phone.expect(407).all("Proxy-Authenticate")[0]
        credentials = digest_authorization(challenge, "INVITE", uri, "1001", "phone-secret")
        self.phone.send(self.phone.request(
            "INVITE", uri, [*lines, "CSeq: 2 INVITE", f"Proxy-Authorization: {credentials}"]))
        invite = self.caller.receive(lambda message: message.method == "INVITE" and not message.status, 8.0)
        self.assertIsNotNone(invite, self.office.log()[-3000:])
        assert invite is not None
        self.assertEqual(invite.all("From"), [f"<sip:acct1@{DOMAIN}>;tag=phone"])
        self.assertGreater(int(invite.all("CSeq")[0].split()[0]), 2)
        self.caller.answer(invite, "180 Ringing", "callee")
        ringing = self.phone.expect(180)
        self.assertEqual((ringing.all("CSeq"), ringing.all("From")), (["2 INVITE"], [own]))
        self.caller.answer(invite, "200 OK", "callee")
        ok = self.phone.expect(200)
        self.assertEqual((ok.all("CSeq"), ok.all("From")), (["2 INVITE"], [own]))
        caller = Dialog(self.phone, own, ok.all("To")[0], call_id, self._remote(ok), ok.all("Record-Route")[::-1], 2)
        callee = Dialog(self.caller, f"{invite.all('To')[0]};tag=callee", invite.all("From")[0], call_id,
                        self._remote(invite), invite.all("Record-Route"), 70)
        caller.send("ACK", 2)
        ack = self.caller.expect("ACK")
        self.assertEqual(ack.all("CSeq")[0].split()[0], invite.all("CSeq")[0].split()[0])
        return caller, callee

    def open_with_routes(self, transport: str, suspects: str) -> None:
        """Starts both servers; somebody is registered at the carrier."""
        self.more = ROUTES
        self.start(transport, self.secret, suspects)
        self.wait_for("registered")
        client = Registrant(self.caller.server, DOMAIN)
        registration = Registration("2001", f"sip:2001@{self.caller.host}", password=self.secret)
        client.run([registration])
        client.close()
        self.assertEqual(registration.status, 200)

    @shows("OUT-13", "22.2")
    @shows("OUT-14", "12.2.1.1")
    def test_calls_out(self) -> None:
        """Over UDP and over TCP: the call is set up, changed by each side and ended by either, and each sees the numbers
        and names it knows."""
        for transport, ends in (("udp", "caller"), ("tcp", "callee")):
            caller, callee = self.out(transport)
            ahead = [int(caller.ask(self, method, self.caller).all("CSeq")[0].split()[0]) - caller.cseq
                     for method in ("INVITE", "INFO", "INFO")]
            self.assertTrue(0 < ahead[0] < ahead[1] < ahead[2], f"not asked at each request: {ahead}")
            callee.ask(self, "INFO", self.phone)
            callee.ask(self, "INVITE", self.phone)
            if ends == "caller":
                caller.ask(self, "BYE", self.caller)
            else:
                callee.ask(self, "BYE", self.phone)
            self.assertNotIn("does not take our credentials", self.office.log())
            self.office.stop()

    @shows("OUT-14", "12.2.1.1")
    def test_restart_in_the_call(self) -> None:
        """SIGKILL in the middle of the call, after the numbers grew in memory alone: it goes on and is ended by either
        side."""
        for transport, ends in (("udp", "caller"), ("udp", "callee"), ("tcp", "caller")):
            caller, callee = self.out(transport)
            before = caller.ask(self, "INFO", self.caller)
            self.office.kill()
            self.office.start()
            after = caller.ask(self, "INVITE", self.caller)
            self.assertGreater(*(int(one.all("CSeq")[0].split()[0]) for one in (after, before)))
            callee.ask(self, "INFO", self.phone)
            if ends == "caller":
                caller.ask(self, "BYE", self.caller)
            else:
                callee.ask(self, "BYE", self.phone)
            self.office.stop()

    @shows("OUT-14", "22.2")
    def test_called(self) -> None:
        """The carrier calls, and asks the phone that hangs up for credentials: ours."""
        self.open_with_routes("udp", "acct1")
        self.call()
        self.call()

    @shows("OUT-13", "22.3")
    def test_wrong_password_for_calls(self) -> None:
        """The carrier's challenge never reaches the phone: 500, and a line in the log."""
        self.more = ROUTES
        self.start("udp", "wrong")
        uri = f"sip:02001@{OFFICE}"
        lines = [f"From: <sip:1001@{OFFICE}>;tag=phone", f"To: <{uri}>", f"Call-ID: {secrets.token_hex(8)}",
                 f"Contact: {self.phone.contact}"]
        self.phone.send(self.phone.request("INVITE", uri, [*lines, "CSeq: 1 INVITE"]))
        challenge = self.phone.expect(407).all("Proxy-Authenticate")[0]
        credentials = digest_authorization(challenge, "INVITE", uri, "1001", "phone-secret")
        self.phone.send(self.phone.request(
            "INVITE", uri, [*lines, "CSeq: 2 INVITE", f"Proxy-Authorization: {credentials}"]))
        failed = self.phone.receive(lambda message: message.status > 200)
        assert failed is not None
        self.assertEqual((failed.status, failed.all("Proxy-Authenticate")), (500, []))
        self.wait_for_log("peer carrier at 127.0.0.1 does not take our credentials for INVITE: 407")

    @shows("OUT-14", "12.2.1.1")
    def test_phones(self) -> None:
        """baresip calls baresip by the carrier, and they hear each other, or it holds and resumes; the server dies in the
        middle, and either hangs up."""
        self.open_with_routes("udp", "acct1")
        directory = Path(self.mktemp()).resolve()
        inside = Phone(directory / "inside", self.office.target(), "1001", "phone-secret", "udp", 440.0, domain=OFFICE)
        self.addCleanup(inside.stop)
        outside = Phone(directory / "outside", f"127.0.0.1:{self.caller.server[1]}", "2002", self.secret, "udp", 700.0,
                        domain=DOMAIN)
        self.addCleanup(outside.stop)
        for phone in (inside, outside):
            phone.wait_event("REGISTER_OK")
        for hangs_up, other, holds in ((inside, outside, False), (outside, inside, True)):
            for phone in (inside, outside):
                phone.forget_recordings()
            inside.command("dial", f"sip:02002@{OFFICE}")
            outside.wait_event("CALL_INCOMING")
            outside.command("accept")
            for phone in (inside, outside):
                phone.wait_event("CALL_ESTABLISHED")
            for restarts in (False, True):
                if restarts:
                    self.office.kill()
                    self.office.start()
                if holds:
                    inside.command("hold")
                    time.sleep(0.5)
                    inside.command("resume")
                time.sleep(1.0)
            hangs_up.command("hangup")
            other.wait_event("CALL_CLOSED")
            hangs_up.wait_event("CALL_CLOSED")
            if not holds:  # its recordings do not outlast a hold
                self.assertGreater(inside.heard(700.0), 0.9)
                self.assertGreater(outside.heard(440.0), 0.9)
        self.assertEqual(inside.log().count("got SDP answer"), 2 + 4)
        self.assertNotIn("does not take our credentials", self.office.log())
