"""sipctl: what it prints, what it returns, and who writes the user store."""

from __future__ import annotations

import json
import os
from typing import Any

from click.testing import CliRunner, Result
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from sipd import state
from sipd.admin.api import Api, Refused
from sipd.admin.cli import main
from sipd.admin.control_socket import ControlSocket
from sipd.auth.user_store import UserStore
from sipd.inventory import Inventory


class CliTestCase(TestCase):
    """Runs sipctl on a state directory of its own."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        state.ensure(self.directory)
        self.config = os.path.join(self.directory, "sipd.toml")
        with open(self.config, "w") as file:
            file.write('[server]\ndomains = ["example.com"]\ntenants = ["two.example"]\nstate_dir = "."\n')

    def sipctl(self, *arguments: str, place: bool = True, env: dict[str, str] | None = None) -> Result:
        """What sipctl does with these arguments."""
        where = ["--config", self.config] if place else []
        return CliRunner(env=env).invoke(main, [*where, *arguments])

    def users(self) -> dict[str, Any]:
        """What is stored, by address-of-record."""
        store = UserStore(os.path.join(self.directory, state.USERS))
        store.open()
        try:
            return {user.aor: user for user in store.users()}
        finally:
            store.close()


class AloneTests(CliTestCase):
    """No server runs."""

    def test_user_made(self) -> None:
        """A user without a password gets a random one, which is shown; one that was given is not shown again."""
        result = self.sipctl("user", "add", "1001", "--display-name", "One")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertRegex(result.output, r"^1001@example\.com added, password [a-z0-9]{12}\n$")
        result = self.sipctl("user", "add", "1002@two.example", "--password", "hidden")
        self.assertEqual(result.output, "1002@two.example added\n")
        self.assertEqual(self.users()["1001@example.com"].display_name, "One")
        self.assertEqual(set(self.users()), {"1001@example.com", "1002@two.example"})

    def test_options_behind(self) -> None:
        """Which server is meant may be said behind the command as well; a password may look like an option."""
        result = self.sipctl("user", "add", "1001", "--config", self.config, "--password", "--config", place=False)
        self.assertEqual(result.output, "1001@example.com added\n")
        result = self.sipctl("user", "list", f"--state-dir={self.directory}", "--json", place=False)
        self.assertEqual(json.loads(result.output)[0]["aor"], "1001@example.com")

    def test_list_password_remove(self) -> None:
        """Users are listed, given other passwords and removed; --json may stand at either end."""
        self.sipctl("user", "add", "1001")
        before = self.users()["1001@example.com"].secrets
        self.assertIn("1001@example.com", self.sipctl("user", "list").output)
        for result in (self.sipctl("user", "list", "--json"), self.sipctl("--json", "user", "list")):
            self.assertEqual([user["aor"] for user in json.loads(result.output)], ["1001@example.com"])
        answer = json.loads(self.sipctl("user", "password", "1001", "--json").output)
        self.assertEqual(sorted(answer), ["aor", "password"])
        self.assertNotEqual(self.users()["1001@example.com"].secrets, before)
        self.assertEqual(self.sipctl("user", "remove", "1001").output, "1001@example.com removed\n")
        self.assertEqual(self.users(), {})

    def test_refused(self) -> None:
        """What cannot be done is one line on stderr and status 1."""
        self.sipctl("user", "add", "1001")
        for arguments in (("user", "add", "1001"), ("user", "add", "a b"), ("user", "remove", "1009"),
                          ("user", "password", "1009"), ("user", "add", "1@x.example")):
            result = self.sipctl(*arguments)
            self.assertEqual((result.exit_code, result.stdout), (1, ""), arguments)
            self.assertRegex(result.stderr, r"^sipctl: .*\n$")

    def test_no_server(self) -> None:
        """What only a server knows needs one: status 3, with how to name it."""
        for arguments in (("status",), ("registrations",), ("registrations", "1001")):
            result = self.sipctl(*arguments)
            self.assertEqual(result.exit_code, 3)
            self.assertIn("SIPD_STATE_DIR", result.stderr)

    def test_no_directory(self) -> None:
        """A state directory that is not there is not made by sipctl."""
        missing = os.path.join(self.directory, "none")
        result = self.sipctl("--state-dir", missing, "user", "add", "1001", place=False)
        self.assertEqual((result.exit_code, os.path.exists(missing)), (3, False))

    def test_wrong_usage(self) -> None:
        """Unknown commands, missing arguments and a broken configuration are status 2."""
        with open(self.config, "a") as file:
            file.write("[wrong]\n")
        for arguments in (("dance",), ("user", "add"), ("user", "list")):
            self.assertEqual(self.sipctl(*arguments).exit_code, 2, arguments)

    def test_environment(self) -> None:
        """SIPD_STATE_DIR names the directory; a configuration given by hand goes before it."""
        other = os.path.join(self.directory, "other")
        state.ensure(other)
        state.write(other, state.DOMAIN, b"other.example\n")
        env = {"SIPD_STATE_DIR": other}
        self.assertIn("1001@other.example", self.sipctl("user", "add", "1001", place=False, env=env).output)
        self.assertIn("1001@example.com", self.sipctl("user", "add", "1001", env=env).output)


class ServerTests(CliTestCase):
    """A server holds the state directory."""

    def setUp(self) -> None:
        super().setUp()
        self.lock = state.StateLock(self.directory)
        self.lock.acquire()
        self.addCleanup(self.lock.release)
        self.api = Api()
        self.asked: list[dict[str, Any]] = []

    def serve(self) -> None:
        """Opens the control socket."""
        control = ControlSocket(os.path.join(self.directory, state.SOCKET), self.api, reactor, Inventory())
        control.start()
        self.addCleanup(control.stop)

    @inlineCallbacks
    def test_server_writes(self) -> Any:
        """The running server is asked to make the user; sipctl does not touch the store."""
        def add(request: dict[str, Any]) -> dict[str, str]:
            self.asked.append(request)
            return {"aor": "1001@example.com"}

        self.api.register("user add", add)
        self.serve()
        result = yield deferToThread(self.sipctl, "user", "add", "1001", "--password", "x")
        self.assertEqual((result.exit_code, result.output), (0, "1001@example.com added\n"))
        self.assertEqual(self.asked, [{"name": "1001", "password": "x", "display_name": ""}])
        self.assertFalse(os.path.exists(os.path.join(self.directory, state.USERS)))

    @inlineCallbacks
    def test_server_refuses(self) -> Any:
        """The server's reason is shown."""
        def refuse(request: dict[str, Any]) -> None:
            raise Refused("exists already")

        self.api.register("user add", refuse)
        self.serve()
        result = yield deferToThread(self.sipctl, "user", "add", "1001")
        self.assertEqual((result.exit_code, result.stderr), (1, "sipctl: exists already\n"))

    @inlineCallbacks
    def test_tables(self) -> Any:
        """Registrations and status are tables; what came from the network cannot move the cursor."""
        self.api.register("registrations", lambda request: {"more": False, "registrations": [{
            "aor": "1001@example.com", "contact": "sip:1001@192.0.2.9", "expires": 60, "q": 1.0,
            "source": "udp:192.0.2.9:5060", "nat": False, "user_agent": "[bold]\x1b[2J"}]})
        self.api.register("status", lambda request: {
            "version": "1", "process": 7, "uptime": 60, "dropped": {"stray responses": 3},
            "overload": {"active": False, "delay": 0.25, "refusing": 0.5}, "domain": "example.com",
            "listeners": [{"transport": "udp", "address": "192.0.2.1", "port": 5060}],
            "tables": [{"name": "client transactions", "size": 3, "limit": 200000, "refused": 0}]})
        self.serve()
        result = yield deferToThread(self.sipctl, "registrations", env={"COLUMNS": "200"})
        self.assertIn("sip:1001@192.0.2.9", result.output)
        self.assertIn("[bold]?[2J", result.output)
        result = yield deferToThread(self.sipctl, "status")
        self.assertIn("listening on udp 192.0.2.1 port 5060", result.output)
        self.assertRegex(result.output, r"client transactions\s+3\s+200000\s+0")
        result = yield deferToThread(self.sipctl, "status", "--json")
        self.assertEqual(json.loads(result.output)["process"], 7)

    def test_no_answer(self) -> None:
        """A lock without a socket is a server that does not answer: status 3."""
        self.assertEqual(self.sipctl("user", "add", "1001").exit_code, 3)
