"""A running `twistd sipd` whose file changes under a call: what is wrong changes nothing, what is right loses nothing."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twisted.trial import unittest

from bench.registrant import Registrant, Registration, digest_authorization
from bench.servers import answers_options, free_port
from tests.interop.sipd_process import ROOT, SipdProcess
from tests.interop.wire import Endpoint, Message

DOMAIN = "sip.example.com"
SIPCTL = "from sipd.admin.cli import main; main()"


class ReloadTests(unittest.TestCase):
    """One server with a file, two users, one call between them."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.more = free_port()
        self.server = SipdProcess(self.directory, domain="", config=" ")
        # listeners come from the file, so that they can change
        command = self.server.command
        while "--listen" in command:
            index = command.index("--listen")
            del command[index:index + 2]
        self.write()
        self.server.start()
        self.addCleanup(self.server.end)
        self.caller = Endpoint(self.server.address, "1001", DOMAIN)
        self.callee = Endpoint(self.server.address, "1002", DOMAIN)
        self.addCleanup(self.caller.close)
        self.addCleanup(self.callee.close)
        self.call_id = secrets.token_hex(8)

    def write(self, more: str = "", users: tuple[str, ...] = ("1001", "1002", "1003")) -> None:
        """The file, with users and whatever else."""
        listen = "".join(f'[[listen]]\ntransport = "{transport}"\naddress = "127.0.0.1"\nport = {self.server.port}\n'
                         for transport in ("udp", "tcp"))
        people = "".join(f'{name} = "{name}-secret"\n' for name in users)
        (self.directory / "sipd.toml").write_text(
            f'[server]\ndomains = ["{DOMAIN}"]\n{listen}{more}[users]\n{people}')

    def listener(self, transport: str = "udp") -> str:
        """One more."""
        return f'[[listen]]\ntransport = "{transport}"\naddress = "127.0.0.1"\nport = {self.more}\n'

    def sipctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What sipctl does."""
        return subprocess.run(
            [sys.executable, "-c", SIPCTL, "--state-dir", str(self.server.state), *arguments], text=True, timeout=30,
            capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}, check=False)

    def reload(self, *changes: str) -> None:
        """Reads the file again; that is what must change."""
        done = self.sipctl("reload", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["changes"], list(changes))

    def register(self, name: str, endpoint: Endpoint) -> None:
        """Registers an endpoint."""
        client = Registrant(self.server.address, DOMAIN)
        registration = Registration(name, f"sip:{name}@{endpoint.host}", password=f"{name}-secret")
        client.run([registration])
        client.close()
        self.assertEqual(registration.status, 200)

    def ring(self) -> Message:
        """A call that rings; the INVITE as the callee saw it."""
        uri = f"sip:1002@{DOMAIN}"
        self.lines = [f"From: <sip:1001@{DOMAIN}>;tag=caller", f"To: <{uri}>", f"Call-ID: {self.call_id}"]
        contact = f"Contact: {self.caller.contact}"
        self.caller.send(self.caller.request("INVITE", uri, [*self.lines, "CSeq: 1 INVITE", contact]))
        credentials = digest_authorization(
            self.caller.expect(407).all("Proxy-Authenticate")[0], "INVITE", uri, "1001", "1001-secret")
        self.caller.send(self.caller.request(
            "INVITE", uri, [*self.lines, "CSeq: 2 INVITE", contact, f"Proxy-Authorization: {credentials}"]))
        invite = self.callee.expect("INVITE")
        self.callee.answer(invite, "180 Ringing", "callee")
        self.caller.expect(180)
        return invite

    def in_dialog(self, answer: Message, method: str, cseq: int) -> bytes:
        """A request of the caller along the route set."""
        routes = [f"Route: {route}" for route in reversed(answer.all("Record-Route"))]
        remote = answer.all("Contact")[0].partition("<")[2].partition(">")[0]
        return self.caller.request(method, remote, [
            *routes, self.lines[0], f"To: {answer.all('To')[0]}", self.lines[2], f"CSeq: {cseq} {method}"])

    def test_under_a_call(self) -> None:
        """While it rings the file is wrong, then right: a listener comes and goes, a user goes. The call is answered and
        hung up; nothing of it is lost, and registrations of those who stay, stay."""
        spare = Endpoint(self.server.address, "1003", DOMAIN)
        self.addCleanup(spare.close)
        self.register("1002", self.callee)
        self.register("1003", spare)
        invite = self.ring()

        self.write("[limits]\nconections = 5\n[proxy]\nring_timeout = -1\n")
        done = self.sipctl("reload")
        self.assertEqual((done.returncode, done.stdout), (4, ""))
        self.assertEqual(len(done.stderr.splitlines()), 3, done.stderr)
        self.assertIn("nothing has changed", done.stderr)
        self.assertIn("[limits] conections = 5: no such option; connections", done.stderr)
        self.write('[location]\nstore = "memory"\n')
        self.assertEqual(self.sipctl("reload").returncode, 5)

        self.write(self.listener(), ("1001", "1002"))
        self.assertEqual(self.sipctl("reload", "--check").returncode, 0)
        self.assertFalse(answers_options("127.0.0.1", self.more))
        self.reload(f"listens on udp:127.0.0.1:{self.more} too", f"listens on tcp:127.0.0.1:{self.more} too",
                    "user 1003 removed")
        self.assertTrue(answers_options("127.0.0.1", self.more))

        self.callee.answer(invite, "200 OK", "callee")
        answer = self.caller.expect(200)
        self.caller.send(self.in_dialog(answer, "ACK", 2))
        self.callee.expect("ACK")

        self.write("[limits]\nconnections = 500\n", ("1001", "1002"))
        self.reload(f"listens on udp:127.0.0.1:{self.more} no more", f"listens on tcp:127.0.0.1:{self.more} no more",
                    "[limits] connections: 10000 -> 500")
        self.assertFalse(answers_options("127.0.0.1", self.more))

        self.caller.send(self.in_dialog(answer, "BYE", 3))
        self.callee.answer(self.callee.expect("BYE"), "200 OK")
        self.assertEqual(self.caller.expect(200).method, "BYE")
        rows = json.loads(self.sipctl("peers", "--json").stdout)["peers"]
        self.assertEqual([(row["name"], row["contacts"]) for row in rows], [("1001", 0), ("1002", 1)])

    def test_signal(self) -> None:
        """SIGHUP reads the file again too: what came of it is in the log, and the server runs on."""
        assert self.server.process is not None
        for users, words in ((("1001",), "configuration read again: user 1003 removed"), (("a b",), "configuration not taken")):
            self.write(users=users) if users == ("1001",) else (self.directory / "sipd.toml").write_text("[")
            self.server.process.send_signal(signal.SIGHUP)
            self.until(lambda words=words: words in self.server.log())  # type: ignore[misc]
        self.assertTrue(answers_options("127.0.0.1", self.server.port))

    def test_connection_of_a_listener_that_goes(self) -> None:
        """A TCP connection is closed when its listener goes, and only after what was asked over it is answered."""
        self.write(self.listener("tcp"))
        self.reload(f"listens on tcp:127.0.0.1:{self.more} too")
        with socket.create_connection(("127.0.0.1", self.more), timeout=10) as connection:
            connection.sendall(self.caller.request("OPTIONS", f"sip:{DOMAIN}", [
                f"From: <sip:a@{DOMAIN}>;tag=a", f"To: <sip:{DOMAIN}>", "Call-ID: x", "CSeq: 1 OPTIONS"]).replace(
                    b"SIP/2.0/UDP", b"SIP/2.0/TCP"))
            self.assertTrue(connection.recv(65536).startswith(b"SIP/2.0 200"))
            self.write()
            self.reload(f"listens on tcp:127.0.0.1:{self.more} no more")
            self.assertEqual(connection.recv(10), b"")

    def test_debug(self) -> None:
        """The live view shows a peer's messages, in and out, and nobody else's, and ends on request."""
        viewer = subprocess.Popen(
            [sys.executable, "-u", "-c", SIPCTL, "--state-dir", str(self.server.state), "sip", "set", "debug", "peer", "1002"],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert viewer.stdout is not None
        self.addCleanup(viewer.stdout.close)
        self.assertIn("messages of 1002@sip.example.com", viewer.stdout.readline())
        self.register("1003", self.caller)
        self.register("1002", self.callee)
        self.assertEqual(self.sipctl("debug", "--off").stdout, "1 live views ended\n")
        text = viewer.communicate(timeout=20)[0]
        self.assertEqual(viewer.returncode, 0)
        self.assertEqual([text.count(words) for words in ("<--- ", "---> ", "SIP/2.0 401", "SIP/2.0 200 OK", "1003")],
                         [2, 2, 1, 1, 0])

    def until(self, condition: Any) -> None:
        """Waits until something is so, five seconds at most."""
        deadline = time.monotonic() + 5
        while not condition():
            self.assertLess(time.monotonic(), deadline, self.server.log()[-2000:])
            time.sleep(0.05)
