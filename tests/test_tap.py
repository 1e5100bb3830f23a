"""`twistd sipd` as people meet it: real twistd processes for what a start says and how it ends, the rest in memory."""

from __future__ import annotations

import gc
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.application.service import Application, IServiceMaker
from twisted.logger import ILogObserver
from twisted.plugin import getPlugins
from twisted.trial.unittest import TestCase

from sipd import tap
from sipd.config import Overrides, load
from sipd.log import Observer

ROOT = Path(__file__).resolve().parent.parent
TWISTD = "from twisted.scripts.twistd import run; import sys; sys.argv[0] = 'twistd'; run()"


class ProcessTestCase(TestCase):
    """Starts twistd in a directory of its own."""

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="sipd-tap-")
        self.state = os.path.join(self.directory, "state")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.listen = f"--listen=udp:127.0.0.1:{self.port}"

    def start(self, *arguments: str, twistd: tuple[str, ...] = ("-n", "--pidfile=")) -> subprocess.Popen[str]:
        """A running twistd."""
        return subprocess.Popen(
            [sys.executable, "-c", TWISTD, *twistd, "sipd", f"--state-dir={self.state}", *arguments], cwd=self.directory,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)

    def run_to_end(self, *arguments: str, twistd: tuple[str, ...] = ("-n", "--pidfile=")) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of a twistd that ends by itself."""
        with self.start(*arguments, twistd=twistd) as process:
            out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    def wait_for(self, what: str, path: str) -> str:
        """The text of a file once `what` is in it."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if os.path.exists(path) and what in (text := Path(path).read_text()):
                return text
            time.sleep(0.05)
        self.fail(f"no {what!r} in {path}")


class RefusalTests(ProcessTestCase):
    """A start that cannot be."""

    def test_every_error_in_one_message(self) -> None:
        """A file and options with several mistakes: all of them on stderr, exit status 1, neither traceback nor usage."""
        path = os.path.join(self.directory, "bad.toml")
        Path(path).write_text('[proxy]\nrign_timeout = 3\n[auth]\nrequired = "no"\n')
        status, out, err = self.run_to_end("--config", path, "--listen=udp:nowhere", "--user=x")
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(len(err.splitlines()), 4, err)
        for words in ("--listen udp:nowhere", "--user x", "bad.toml:2: [proxy] rign_timeout", "bad.toml:4: [auth] required"):
            self.assertIn(words, err)

    def test_wrong_option(self) -> None:
        """An unknown option is one line."""
        status, out, err = self.run_to_end("--fast")
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(err, "twistd sipd: option --fast not recognized; twistd sipd --help lists the options\n")

    def test_words_that_are_no_option(self) -> None:
        """What stands there without dashes is named."""
        status, _, err = self.run_to_end("udp:127.0.0.1:5060")
        self.assertEqual(status, 1)
        self.assertIn("twistd sipd: udp:127.0.0.1:5060: no option; each begins with --; ", err)

    def test_host_and_file_at_once(self) -> None:
        """A mistake in the file, a port in use, a directory that cannot be and a pid file that cannot be: one message."""
        path = os.path.join(self.directory, "bad.toml")
        Path(path).write_text("[proxy]\nrign_timeout = 3\n")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", self.port))
            status, out, err = self.run_to_end(
                "--config", path, self.listen, "--state-dir=/dev/null/x", twistd=("--pidfile=/none/pid", "--logfile=log"))
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(len(err.splitlines()), 4, err)
        for words in ("--pidfile /none/pid: No such file or directory", "bad.toml:2: [proxy] rign_timeout",
                      "Address already in use", "state_dir = /dev/null/x: Not a directory"):
            self.assertIn(words, err)

    def test_port_in_use_in_the_background(self) -> None:
        """A daemon that cannot have its port says so before it goes into the background, with exit status 1."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", self.port))
            status, out, err = self.run_to_end(self.listen, twistd=("--pidfile=pid", "--logfile=log"))
        self.assertEqual((status, out), (1, ""))
        self.assertIn("Address already in use", err)
        self.assertEqual(len(err.splitlines()), 1, err)
        self.assertEqual(os.path.exists(os.path.join(self.directory, "pid")), False)

    def test_two_servers(self) -> None:
        """A second server on the state directory of a running one is refused, and the first goes on."""
        log = os.path.join(self.directory, "log")
        with self.start(self.listen, twistd=("-n", "--pidfile=", f"--logfile={log}")) as first:
            try:
                self.wait_for("listening on", log)
                status, _, err = self.run_to_end(f"--listen=udp:127.0.0.2:{self.port}")
                self.assertEqual(status, 1)
                self.assertIn(f"in use by a running sipd, process {first.pid}", err)
                self.assertIsNone(first.poll())
            finally:
                first.terminate()
                first.communicate(timeout=20)


class LifeTests(ProcessTestCase):
    """A start that works, and its end."""

    def test_foreground(self) -> None:
        """In the foreground the first users are printed once, the log goes to stdout, SIGTERM ends it cleanly; the
        second start shows no password."""
        texts = []
        for _ in range(2):
            with self.start(self.listen) as process:
                assert process.stdout is not None
                text = ""
                while f"listening on udp:127.0.0.1:{self.port}" not in text:
                    text += process.stdout.readline()
                time.sleep(0.5)
                process.send_signal(signal.SIGTERM)
                out, err = process.communicate(timeout=20)
                texts.append(text + out)
                self.assertEqual(err, "")
        self.assertIn("Type this into your phones", texts[0])
        self.assertNotIn("Type this", texts[1])
        for text in texts:
            self.assertNotIn("Traceback", text)
            self.assertIn("Server Shut Down", text)

    def test_background(self) -> None:
        """In the background the log file is written and opened anew on SIGUSR1, and the passwords are in a file."""
        log, pid = os.path.join(self.directory, "log"), os.path.join(self.directory, "pid")
        status, out, err = self.run_to_end(self.listen, twistd=("--pidfile=pid", "--logfile=log"))
        self.assertEqual((status, out, err), (0, "", ""))
        process = int(Path(pid).read_text())
        try:
            self.wait_for("what to type into a phone is in", log)
            os.rename(log, log + ".1")
            os.kill(process, signal.SIGUSR1)
            self.wait_for("", log)
        finally:
            os.kill(process, signal.SIGTERM)
        self.wait_for("Server Shut Down", log)
        self.assertIn("Type this into your phones", Path(self.state, "first-users.txt").read_text())
        self.assertNotIn("Traceback", Path(log + ".1").read_text())


class Twistd(dict[str, Any]):
    """The options of twistd, as far as they are asked for."""


class ServiceTests(TestCase):
    """makeService and the service around the server."""

    def options(self, *arguments: str, **twistd: Any) -> tap.Options:
        """Parsed options."""
        options = tap.Options()
        options.parent = Twistd(nodaemon=True, **twistd)  # type: ignore[assignment]
        options.parseOptions(["--state-dir", os.path.abspath(self.mktemp()), *arguments])
        return options

    def listen(self) -> str:
        """An option for a free port."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            return f"--listen=udp:127.0.0.1:{free.getsockname()[1]}"

    def test_plugin(self) -> None:
        """twistd finds the plugin, and it names this module."""
        found = [plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname == "sipd"]
        self.assertEqual([plugin.module for plugin in found], ["sipd.tap"])

    def test_help(self) -> None:
        """--help explains each option of the contract."""
        text = str(tap.Options())
        for option in ("--config", "--listen", "--domain", "--user", "--state-dir"):
            self.assertRegex(text, rf"{option}=\s+\w+")

    def test_repeatable(self) -> None:
        """--listen, --domain and --user may be given more than once."""
        options = self.options("--listen=udp:127.0.0.1:5070", "--listen=tcp:[::1]:5070", "--domain=a.example",
                               "--domain=b.example", "--user=1:a", "--user=2:b")
        config = options.load()
        self.assertEqual([str(listen) for listen in config.listen], [
            "udp:127.0.0.1:5070", "tcp:[::1]:5070", "tcp:127.0.0.1:5070"])
        self.assertEqual((config.server.domains, sorted(config.users)), (("a.example", "b.example"), ["1", "2"]))

    def test_nothing_stays_open(self) -> None:
        """makeService opens neither store, thread nor socket: twistd forks after it."""
        arguments = self.listen()
        tap.makeService(self.options(arguments, syslog=True))
        gc.collect()  # what tests before this one left open
        before = sorted(os.listdir("/proc/self/fd"))
        tasks = os.listdir("/proc/self/task")
        tap.makeService(self.options(arguments, syslog=True))
        self.assertEqual(sorted(os.listdir("/proc/self/fd")), before)
        self.assertEqual(os.listdir("/proc/self/task"), tasks)

    def test_log_of_its_own(self) -> None:
        """The application gets our observer, unless the person chose a log of twisted's."""
        for twistd, ours in (({"logfile": os.path.abspath(self.mktemp())}, True), ({"syslog": True}, False),
                             ({"logger": "x.y"}, False)):
            application: Any = Application("sipd")
            tap.makeService(self.options(self.listen(), **twistd)).setServiceParent(application)
            observer = application.getComponent(ILogObserver)
            self.assertEqual(isinstance(observer, Observer), ours, twistd)

    def test_log_that_cannot_be(self) -> None:
        """A log file in a directory that is not there, or stdout for a daemon, is told in one line."""
        error = self.assertRaises(SystemExit, tap.makeService, self.options(self.listen(), logfile="/none/x"))
        self.assertIn("--logfile /none/x: No such file or directory", str(error))
        options = self.options(self.listen(), logfile="-")
        options.parent["nodaemon"] = False  # type: ignore[index]
        self.assertIn("a daemon has no standard output", str(self.assertRaises(SystemExit, tap.makeService, options)))

    def test_start_that_fails_late(self) -> None:
        """What no preflight could see ends the process with one line, the pid file gone and the status pipe served."""
        read, write = os.pipe()
        pidfile, logfile = os.path.abspath(self.mktemp()), os.path.abspath(self.mktemp())
        Path(pidfile).write_text("1")
        service: Any = tap.makeService(self.options(self.listen(), logfile=logfile, pidfile=pidfile))
        service._twistd["statusPipe"] = write
        with mock.patch.object(service.server, "startService", side_effect=OSError(28, "No space left")), \
                mock.patch("sys.stderr", io.StringIO()), mock.patch("sipd.tap._raise_open_files"):
            error = self.assertRaises(SystemExit, service.startService)
        self.assertIn("No space left", str(error))
        self.assertIn(b"1 ", os.read(read, 100))
        self.assertFalse(os.path.exists(pidfile))
        self.assertIn("error: cannot start: ", Path(logfile).read_text())
        os.close(read)
        os.close(write)

    def test_another_user(self) -> None:
        """Whoever is not root cannot become another user: told before twistd would wait for a daemon that is gone."""
        options = self.options(self.listen(), uid=os.geteuid() + 1)
        with mock.patch("os.geteuid", return_value=os.geteuid() or 12345):
            error = self.assertRaises(SystemExit, tap.makeService, options)
        self.assertIn("--uid, --gid: only root may become another user", str(error))

    def test_warnings(self) -> None:
        """An open server is warned about at each start; the default one is not."""
        self.assertEqual(tap.warnings(load()), [])
        path = self.mktemp()
        Path(path).write_text('[auth]\nrequired = false\n[registrar]\nopen = true\n[location]\nstore = "memory"\n')
        self.assertEqual(len(tap.warnings(load(path, Overrides()))), 3)
