"""What stops a start is found before it, and told with the remedy."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

from twisted.trial.unittest import TestCase

from sipd import certificate, preflight, state
from sipd.config import Config, Overrides, load
from sipd.config_server import Listen


class PreflightTests(TestCase):
    """Directories, locks, ports, certificates."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        self.free = socket.socket()
        self.free.bind(("127.0.0.1", 0))
        self.port = self.free.getsockname()[1]
        self.free.close()

    def config(self, *listen: str) -> Config:
        """A configuration with these listeners; PORT is a free port."""
        return load(None, Overrides(listen=tuple(one.replace("PORT", str(self.port)) for one in listen),
                                    state_dir=self.directory))

    def check(self, config: Config) -> list[str]:
        """What is wrong with the directory and the listeners of a configuration."""
        return preflight.check(config.server.state_dir, config.listen)

    def test_fit(self) -> None:
        """A start that will work has nothing against it, makes the state directory and leaves nothing open."""
        config = self.config("udp:127.0.0.1:PORT", "tcp:127.0.0.1:PORT", "udp:0.0.0.0:PORT")
        before = len(os.listdir("/proc/self/fd"))
        self.assertEqual(self.check(config), [])
        self.assertEqual(self.check(config), [])
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        self.assertTrue(os.path.isdir(self.directory))

    def test_call_records(self) -> None:
        """The file of call records is tried, and what it holds stays."""
        self.assertEqual(preflight.check(self.directory, (), cdr=os.path.join(self.directory, "calls")), [])
        Path(self.directory, "calls").write_text("{}\n")
        self.assertEqual(preflight.check(self.directory, (), cdr=os.path.join(self.directory, "calls")), [])
        self.assertEqual(Path(self.directory, "calls").read_text(), "{}\n")
        wrong = os.path.join(self.directory, "no", "calls")
        self.assertEqual(preflight.check(self.directory, (), cdr=wrong), [
            f"[cdr] path = {wrong}: No such file or directory; a file this user may write is wanted"])

    def test_everything_at_once(self) -> None:
        """An unusable directory, a foreign address and a port in use come in one list."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", self.port))
            config = self.config("udp:127.0.0.1:PORT", "tcp:192.0.2.254:PORT")
            config = config.model_copy(update={"server": config.server.model_copy(update={"state_dir": "/dev/null/x"})})
            errors = self.check(config)
        self.assertEqual(len(errors), 3, errors)
        self.assertIn("state_dir = /dev/null/x: Not a directory", errors[0])
        self.assertTrue(errors[1].startswith(f"[[listen]] udp:127.0.0.1:{self.port}: Address already in use; "))
        self.assertIn("Cannot assign requested address; an address of this host is wanted", errors[2])

    def test_wildcard_in_use(self) -> None:
        """A wildcard is tried on each address it stands for, and the taken one is named."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", self.port))
            other.listen()
            errors = self.check(self.config("tcp:0.0.0.0:PORT"))
        self.assertEqual(len(errors), 1)
        self.assertIn("(on 127.0.0.1): Address already in use", errors[0])

    def test_running_server(self) -> None:
        """A state directory that a server holds is one error, not one for each of its ports too."""
        state.ensure(self.directory)
        lock = state.StateLock(self.directory)
        lock.acquire()
        self.addCleanup(lock.release)
        lock.sign()
        errors = self.check(self.config("udp:192.0.2.254:PORT"))
        self.assertEqual(len(errors), 1)
        self.assertIn(f"in use by a running sipd, process {os.getpid()}", errors[0])

    def test_rights_that_are_left(self) -> None:
        """A start as root that becomes another user is tried with that user's rights, and root's come back; whoever is
        not root has its own rights throughout."""
        root = os.geteuid() == 0
        nobody = pwd.getpwnam("nobody")
        state.ensure(self.directory)
        good, key = certificate.self_signed(self.directory, ["a"], 1795341600.0)
        tls = Listen(transport="tls", address="127.0.0.1", port=self.port, certificate=good, private_key=key)
        before = (os.geteuid(), os.getegid(), os.getgroups())
        errors = preflight.check(self.directory, [tls], nobody.pw_uid)
        self.assertEqual((os.geteuid(), os.getegid(), os.getgroups()), before)
        self.assertEqual(["Permission denied" in error for error in errors], [True, True, True] if root else [], errors)

    def test_certificates(self) -> None:
        """Missing, foreign, mismatched and encrypted files are told apart; a good pair is none of them."""
        state.ensure(self.directory)
        os.makedirs(second := os.path.join(self.directory, "second"))
        good, key = certificate.self_signed(self.directory, ["a"], 1795341600.0)
        _, other = certificate.self_signed(second, ["b"], 1795341600.0)
        text = os.path.join(self.directory, "text")
        with open(text, "w") as file:
            file.write("hello")
        broken = os.path.join(self.directory, "broken")
        with open(broken, "w") as file:
            file.write("-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n")
        for certificate_path, key_path, words in (
            (good, key, []),
            ("/none", "/none2", ["certificate = /none: No such file", "private_key = /none2: No such file"]),
            (text, key, ["not PEM"]),
            (good, other, [f"private_key = {other}: not the key of {good}"]),
            (broken, key, ["cannot be used"]),
        ):
            listen = Listen(transport="tls", address="127.0.0.1", port=5061, certificate=certificate_path,
                            private_key=key_path)
            problems = preflight.certificate_problems(listen)
            self.assertEqual(len(problems), len(words), problems)
            for problem, word in zip(problems, words, strict=True):
                self.assertIn(word, problem)

    def test_client_ca(self) -> None:
        """What clients are known by is read too: missing, no PEM, and broken are told apart."""
        os.makedirs(self.directory, exist_ok=True)
        good, _ = certificate.self_signed(self.directory, ["a"], 1795341600.0)
        for name, content in (("text", "hello"), ("broken", "-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n")):
            Path(self.directory, name).write_text(content)
        for path, word in ((good, ""), ("/none", "No such file"), (os.path.join(self.directory, "text"), "not PEM"),
                           (os.path.join(self.directory, "broken"), "certificates in PEM are wanted")):
            problems = preflight.certificate_problems(Listen(transport="tls", address="127.0.0.1", client_ca=path))
            self.assertEqual(len(problems), bool(word), problems)
            self.assertIn(word, "".join(problems))
            self.assertTrue(all(f"client_ca = {path}: " in problem for problem in problems))

    def test_concrete(self) -> None:
        """A wildcard stands for the addresses of its family, any other address for itself."""
        self.assertIn("127.0.0.1", preflight.concrete("0.0.0.0"))
        self.assertTrue(all(":" in address for address in preflight.concrete("::")))
        self.assertEqual(preflight.concrete("192.0.2.1"), ["192.0.2.1"])
