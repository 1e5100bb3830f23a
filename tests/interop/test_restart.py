"""The server restarts in the middle of a call: the call's own requests still pass, a stranger's do not (INV-32)."""

from __future__ import annotations

import secrets
from pathlib import Path

from twisted.trial import unittest

from bench.registrant import Registrant, Registration, digest_authorization
from tests.interop.sipd_process import SipdProcess
from tests.interop.wire import Endpoint, Message

DOMAIN = "sip.example.com"
USERS = {"1001": "one-secret", "1002": "two-secret"}


class RestartTests(unittest.TestCase):
    """One call between two users, set up before the restart and ended after it."""

    def setUp(self) -> None:
        self.server = SipdProcess(Path(self.mktemp()).resolve(), domain=DOMAIN, users=USERS)
        self.server.start()
        self.addCleanup(self.server.end)
        self.caller = Endpoint(self.server.address, "1001", DOMAIN)
        self.callee = Endpoint(self.server.address, "1002", DOMAIN)
        self.addCleanup(self.caller.close)
        self.addCleanup(self.callee.close)
        self.call_id = secrets.token_hex(8)
        self._register()

    def _register(self) -> None:
        client = Registrant(self.server.address, DOMAIN)
        registration = Registration("1002", f"sip:1002@{self.callee.host}", password=USERS["1002"])
        client.run([registration])
        client.close()
        self.assertEqual(registration.status, 200)

    def _invite(self) -> tuple[Message, Message]:
        """Sets the call up; the INVITE as the callee saw it, the 200 as the caller did."""
        uri = f"sip:1002@{DOMAIN}"
        lines = [f"From: <sip:1001@{DOMAIN}>;tag=caller", f"To: <{uri}>", f"Call-ID: {self.call_id}"]
        contact = f"Contact: {self.caller.contact}"
        self.caller.send(self.caller.request("INVITE", uri, [*lines, "CSeq: 1 INVITE", contact]))
        refused = self.caller.expect(407)
        challenge = refused.all("Proxy-Authenticate")[0]
        credentials = digest_authorization(challenge, "INVITE", uri, "1001", USERS["1001"])
        authorization = f"Proxy-Authorization: {credentials}"
        self.caller.send(self.caller.request("INVITE", uri, [*lines, "CSeq: 2 INVITE", contact, authorization]))
        invite = self.callee.expect("INVITE")
        self.callee.answer(invite, "180 Ringing", "callee")
        self.caller.expect(180)
        self.callee.answer(invite, "200 OK", "callee")
        answer = self.caller.expect(200)
        ack = [*self._route(answer), lines[0], f"To: {answer.all('To')[0]}", lines[2], "CSeq: 2 ACK"]
        self.caller.send(self.caller.request("ACK", self._remote(answer), ack))
        self.callee.expect("ACK")
        return invite, answer

    @staticmethod
    def _route(message: Message) -> list[str]:
        """The route set: the callee's in the order of the request, the caller's reversed (RFC 3261 s12.1)."""
        routes = message.all("Record-Route")
        return [f"Route: {route}" for route in (reversed(routes) if message.status else routes)]

    @staticmethod
    def _remote(message: Message) -> str:
        return message.all("Contact")[0].partition("<")[2].partition(">")[0]

    def _bye(self, sender: Endpoint, message: Message, cseq: int) -> bytes:
        """A BYE from either side along its route set."""
        own, other = message.all("From")[0], message.all("To")[0]
        if not message.status:
            own, other = other + ";tag=callee", own
        lines = [*self._route(message), f"From: {own}", f"To: {other}", f"Call-ID: {self.call_id}", f"CSeq: {cseq} BYE"]
        return sender.request("BYE", self._remote(message), lines)

    def test_caller_hangs_up(self) -> None:
        """After a clean restart the caller's BYE reaches the callee, and its answer comes back."""
        _, answer = self._invite()
        self.server.stop()
        self.server.start()
        self.caller.send(self._bye(self.caller, answer, 3))
        self.callee.answer(self.callee.expect("BYE"), "200 OK")
        self.assertEqual(self.caller.expect(200).method, "BYE")

    def test_callee_hangs_up_after_kill(self) -> None:
        """After kill -9 the callee's BYE reaches the caller, and its answer comes back."""
        invite, _ = self._invite()
        self.server.kill()
        self.server.start()
        self.callee.send(self._bye(self.callee, invite, 1))
        self.caller.answer(self.caller.expect("BYE"), "200 OK")
        self.assertEqual(self.callee.expect(200).method, "BYE")

    def test_stranger_does_not(self) -> None:
        """A BYE with another Call-ID on the same Route, or without its token, is not passed on."""
        _, answer = self._invite()
        self.server.stop()
        self.server.start()
        stranger = Endpoint(self.server.address, "1001", DOMAIN)
        self.addCleanup(stranger.close)
        bye = self._bye(stranger, answer, 3)
        token = answer.all("Record-Route")[0].partition("<sip:")[2].partition("@")[0]
        self.assertNotEqual(token, "")
        forged = [
            bye.replace(self.call_id.encode(), secrets.token_hex(8).encode()),
            bye.replace(f"sip:{token}@".encode(), b"sip:"),
            bye.replace(f"sip:{token}@".encode(), f"sip:{token[:-2]}xx@".encode()),
        ]
        for data in forged:
            stranger.send(data)
            refusal = stranger.receive(lambda message: message.status >= 300)
            self.assertIsNotNone(refusal, data.decode())
        self.assertIsNone(self.callee.receive(lambda message: message.method == "BYE", 1.0))
