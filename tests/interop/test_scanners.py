"""The scanners a server on the Internet meets, sipvicious' svmap, svwar and svcrack, against a server with users: they
learn that a SIP server is there, and nothing else. tests/scenarios/test_scanned.py counts the work that strangers cause.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial import unittest

from bench.registrant import Registrant, Registration
from bench.servers import free_port
from sipd import __version__
from tests.interop.sipd_process import SipdProcess
from tests.interop.wire import Endpoint

USERS = {"1001": "spring-water-1", "1002": "spring-water-2", "1003": "spring-water-3"}
#: Some who exist, one of them registered, and some who do not.
RANGE = "999-1005"
METHODS = ("REGISTER", "INVITE", "OPTIONS", "MESSAGE", "SUBSCRIBE", "FOO")
#: What differs in every answer.
_UNLIKE = re.compile(rb'nonce="[0-9a-f]+"|;tag=[0-9a-f]{16}|branch=[^;\r]*|;rport=\d+|;received=[0-9.]+')


class ScannerTests(unittest.TestCase):
    """A server whose user 1001 is registered."""

    config = ""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.server = SipdProcess(self.directory, users=USERS, config=self.config)
        self.server.start()
        self.addCleanup(self.server.end)
        client = Registrant(self.server.address, self.server.domain)
        self.addCleanup(client.close)
        registration = Registration("1001", "sip:1001@127.0.0.1:9", password=USERS["1001"])
        client.run([registration])
        self.assertEqual(registration.status, 200)

    def run_scanner(self, name: str, *arguments: str) -> str:
        """What a scanner prints, both streams; it must come to its end within a minute."""
        program = Path(sys.executable).parent / f"sipvicious_{name}"
        command = [str(program), "-p", str(self.server.port), "-P", str(free_port()), "-x", "127.0.0.1", *arguments, "127.0.0.1"]
        done = subprocess.run(command, cwd=self.directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    def extensions(self, printed: str) -> list[str]:
        """The extensions in svwar's table, in order."""
        return sorted(re.findall(r"^\| (\d+) +\|", printed, re.MULTILINE))

    def crack(self, user: str, *words: str) -> str:
        """What svcrack says of these passwords for a user, without the time and the user's name."""
        path = self.directory / "words"
        path.write_text("\n".join(words) + "\n")
        return self.run_scanner("svcrack", "-u", user, "-d", str(path), "--maximumtime=3").replace(user, "USER")


class Defaults(ScannerTests):
    """As people run it."""

    def test_svmap(self) -> None:
        """svmap finds a server, and neither its name nor its version, by whichever method it asks."""
        for method in ("OPTIONS", "REGISTER", "INVITE"):
            printed = self.run_scanner("svmap", "-m", method, "-d")
            found = re.search(r"^\| 127\.0\.0\.1:\d+ +\| (.*?) +\|", printed, re.MULTILINE)
            self.assertIsNotNone(found, printed)
            assert found is not None
            self.assertEqual(found.group(1), "unknown", printed)
            for word in ("sipd", "twisted", "python", __version__, "Server:", "User-Agent:"):
                self.assertNotIn(word.lower(), printed.lower())

    def test_svwar(self) -> None:
        """svwar finds no extension by any of its methods: it gives up as soon as somebody who cannot exist gets the same
        answer, and where it is told to go on it has nothing to tell them apart by."""
        for method in ("REGISTER", "INVITE", "OPTIONS"):
            for more in ((), ("--force",)):
                printed = self.run_scanner("svwar", "-m", method, "-e", RANGE, "--maximumtime=3", *more)
                self.assertEqual(self.extensions(printed), [], printed)
                self.assertIn("found nothing", printed)

    def test_svcrack(self) -> None:
        """svcrack with wrong words says the same of a user, of one who is registered, and of nobody; with the right word
        among them it finds it, so it can do what it is for."""
        wrong = ("1234", "password", "secret", "1001", "")
        reports = {user: self.crack(user, *wrong) for user in ("1001", "1002", "4711")}
        self.assertEqual(len(set(reports.values())), 1, reports)
        self.assertIn("found nothing", reports["1001"])
        self.assertIn(USERS["1002"], self.crack("1002", *wrong[:2], USERS["1002"]))

    def test_octets(self) -> None:
        """Without credentials and with wrong ones, each method gets the same octets for a user who is registered, one who is
        not, and nobody, but for the nonce and the To tag."""
        for method in METHODS:
            for wrong in (False, True):
                answers = {name: self.probe(method, name, wrong) for name in ("1001", "1002", "4711", "4712")}
                self.assertEqual(len(set(answers.values())), 1, answers)
                # what is served here and not passed on asks as the UAS it is (s22.2)
                self.assertIn(b"401" if method in ("REGISTER", "SUBSCRIBE") else b"407", answers["1001"][:20])

    def probe(self, method: str, name: str, wrong: bool) -> bytes:
        """The octets of the answer to one request, with what is asked for and what differs in each put out of sight."""
        endpoint = Endpoint(self.server.address, name, self.server.domain, (f"127.0.0.{2 + int(name) % 9}", 0))
        try:
            data = self.request(endpoint, method, name, wrong)
            endpoint.send(data)
            answer = endpoint.receive(lambda one: bool(one.status))
            assert answer is not None, f"no answer to {method} for {name}"
            self.assertIsNone(endpoint.receive(lambda one: True, 0.05), "there is one answer")
            # the name last: a port may have the same digits
            return _UNLIKE.sub(b"*", answer.data).replace(endpoint.host.encode(), b"HOST").replace(name.encode(), b"NAME")
        finally:
            endpoint.close()

    def request(self, endpoint: Endpoint, method: str, name: str, wrong: bool) -> bytes:
        """A request to and from a user, with credentials that are well-formed and wrong when `wrong`."""
        domain = self.server.domain
        uri = f"sip:{domain}" if method == "REGISTER" else f"sip:{name}@{domain}"
        lines = [f"From: <sip:{name}@{domain}>;tag=scan", f"To: <sip:{name}@{domain}>", f"Call-ID: {name}",
                 f"CSeq: 1 {method}", f"Contact: {endpoint.contact}"]
        if wrong:
            header = "Authorization" if method == "REGISTER" else "Proxy-Authorization"
            lines.append(f'{header}: Digest username="{name}", realm="{domain}", nonce="{"0" * 32}", uri="{uri}", '
                         f'response="{"0" * 32}", algorithm=MD5, qop=auth, cnonce="a", nc=00000001')
        return endpoint.request(method, uri, lines)

    def test_time(self) -> None:
        """Strangers do not wait longer for the answer about one or the other: medians of 300 turns each, taken in turns,
        within a twentieth of each other. On a machine with other work to do it may take more than one try."""
        for method in ("REGISTER", "INVITE"):
            for wrong in (False, True):
                ratios = []
                while not ratios or not 0.95 < ratios[-1] < 1.05:
                    self.assertLess(len(ratios), 5, f"{method}, {wrong}: {ratios}")
                    ratios.append(self.ratio(method, wrong))

    def ratio(self, method: str, wrong: bool) -> float:
        """The median time of the answer about a registered user by that about nobody."""
        endpoint = Endpoint(self.server.address, "scan", self.server.domain)
        taken: dict[str, list[float]] = {"1001": [], "4711": []}
        try:
            for _ in range(300):
                for name, times in taken.items():
                    data = self.request(endpoint, method, name, wrong)
                    begun = time.perf_counter()
                    endpoint.send(data)
                    endpoint.socket.settimeout(5)
                    endpoint.socket.recv(65535)
                    times.append(time.perf_counter() - begun)
        finally:
            endpoint.close()
        return statistics.median(taken["1001"]) / statistics.median(taken["4711"])


class Open(ScannerTests):
    """With `required = false`, where everybody counts as authenticated."""

    config = "[auth]\nrequired = false\n"

    def test_svwar_can_see(self) -> None:
        """There svwar finds the users, so it would have found them above."""
        printed = self.run_scanner("svwar", "-m", "INVITE", "-e", "1002-1005", "--maximumtime=3")
        self.assertEqual(self.extensions(printed), ["1002", "1003"], printed)
