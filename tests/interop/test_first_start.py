"""The very first start: three extensions, printed once, and phones that register with what was printed."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial import unittest

from bench.registrant import Registrant, Registration
from tests.interop.baresip import Phone
from tests.interop.sipd_process import SipdProcess

EXTENSIONS = ("1001", "1002", "1003")


class FirstStartTests(unittest.TestCase):
    """A server as `make run` starts it: all addresses, an empty state directory and no user anywhere."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.server = SipdProcess(self.directory / "server", domain="", tls=True, addresses=("0.0.0.0", "[::]"))
        self.server.start()
        self.addCleanup(self.server.end)

    def _printed(self) -> dict[str, str]:
        """Extension to password, as a person reads them off the table."""
        found: dict[str, str] = {}
        for line in self.server.log().splitlines():
            cells = [cell for cell in re.split(r"[\s│┃|]+", line) if cell]
            for name in EXTENSIONS:
                if name in cells and len(cells) > cells.index(name) + 1:
                    found.setdefault(name, cells[cells.index(name) + 1])
        return found

    def test_printed_extensions_work(self) -> None:
        """Two baresip phones register with the printed passwords, over UDP and TLS, and reach each other."""
        passwords = self._printed()
        self.assertEqual(sorted(passwords), sorted(EXTENSIONS), self.server.log())
        self.assertEqual(len(set(passwords.values())), 3)
        self.assertIn("sipctl", self.server.log())
        phones = []
        for name, transport, tone in (("1001", "udp", 440.0), ("1002", "tls", 700.0)):
            target = self.server.target(transport)
            phone = Phone(self.directory / name, target, name, passwords[name], transport, tone)
            self.addCleanup(phone.stop)
            phone.wait_event("REGISTER_OK")
            phones.append(phone)
        phones[0].dial(phones[1])
        phones[1].wait_event("CALL_INCOMING")
        phones[1].command("hangup")
        phones[0].wait_event("CALL_CLOSED")

    def test_either_family(self) -> None:
        """The address-of-record is one, whichever of the host's addresses a phone knows the server by."""
        password = self._printed()["1003"]
        contacts = []
        for address, name in (("127.0.0.1", self.server.target()), ("::1", f"[::1]:{self.server.port}"), ("::1", "[::1]")):
            client = Registrant((address, self.server.port), name)
            self.addCleanup(client.close)
            registration = Registration("1003", f"sip:1003@{client.sent_by}", password=password)
            client.run([registration])
            self.assertEqual(registration.status, 200, name)
            contacts.append(registration.contact)
            self.assertEqual(len(registration.bindings), len(contacts))

    def test_secrets_are_printed_once(self) -> None:
        """A second start on the same state directory prints no secret and keeps the extensions working."""
        passwords = self._printed()
        self.assertEqual(sorted(passwords), sorted(EXTENSIONS), self.server.log())
        self.server.stop()
        first = len(self.server.log())
        self.server.start()
        again = self.server.log()[first:]
        for password in passwords.values():
            self.assertNotIn(password, again)
            for path in self.server.state.rglob("*"):
                if path.is_file():
                    self.assertNotIn(password.encode(), path.read_bytes(), f"{path} holds a plain password")
        client = Registrant(self.server.address, self.server.target())
        self.addCleanup(client.close)
        registration = Registration("1003", "sip:1003@192.0.2.7", password=passwords["1003"])
        client.run([registration])
        self.assertEqual(registration.status, 200)
