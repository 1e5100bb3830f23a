"""sipctl's commands for a running server, against a control socket that answers what a test wants."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from click.testing import CliRunner, Result
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from sipd import state
from sipd.admin import words
from sipd.admin.api import Api, Live, Refused
from sipd.admin.cli import main
from sipd.admin.control_socket import ControlSocket
from sipd.inventory import Inventory

PEER = {"name": "1001", "kind": "user", "aor": "1001@example.com", "display_name": "One", "kept": "store", "contacts": 1,
        "transport": "tls", "address": "2001:db8::9", "port": 5061, "expires": 7300, "user_agent": "\x1bphone", "state": "reachable"}
BINDING = {"contact": "sip:a", "source": "udp:192.0.2.9:5060", "nat": True, "listener": "192.0.2.1:5060", "flow": "open",
           "q": 0.5, "expires": 130, "registered": 5, "path": [], "instance": "", "reg_id": 0, "user_agent": "",
           "call_id": "c", "cseq": 1, "state": "", "rtt": 0.0}


class WordsTests(TestCase):
    """Each command in both its names."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        state.ensure(self.directory)
        self.api = Api()
        self.asked: list[dict[str, Any]] = []
        control = ControlSocket(os.path.join(self.directory, state.SOCKET), self.api, reactor, Inventory())
        control.start()
        self.addCleanup(control.stop)

    def serve(self, name: str, result: Any) -> None:
        """Answers a command with this; an exception is raised."""
        def command(request: dict[str, Any]) -> Any:
            self.asked.append(request)
            if isinstance(result, Exception):
                raise result
            return result

        self.api.register(name, command)

    def sipctl(self, line: str) -> Any:
        """Fires with what sipctl does with this line."""
        def run() -> Result:
            return CliRunner(env={"COLUMNS": "200"}).invoke(
                main, ["--state-dir", self.directory, *line.split()], prog_name="sipctl")

        return deferToThread(run)

    @inlineCallbacks
    def test_peers(self) -> Any:
        """A line for each peer and how many there are; --match and --json are passed on."""
        self.serve("peers", {"peers": [PEER], "registered": 1, "all": 2})
        for line in ("peers --match 10", "sip show peers --match 10"):
            result = yield self.sipctl(line)
            self.assertRegex(result.output, r"1001 +user +\[2001:db8::9\]:5061 +tls +1 +2 h +reachable +store +\?phone +One")
            self.assertIn("2 peers, 1 registered; the first 1 are shown", result.output)
        self.assertEqual(self.asked, [{"match": "10"}] * 2)
        result = yield self.sipctl("peers --json")
        self.assertEqual(json.loads(result.output)["peers"], [PEER])

    @inlineCallbacks
    def test_peer(self) -> Any:
        """What is known of a peer, a line each; what says nothing is left out."""
        self.serve("peer", {"name": "1001", "kind": "user", "aor": "1001@example.com", "display_name": "", "kept": "store",
                            "policy": [{"key": "call_limit", "value": "2", "source": "[templates.desk]"}],
                            "algorithms": ["MD5"], "only": [], "bindings": [BINDING]})
        for line in ("peer 1001", "sip show peer 1001"):
            result = yield self.sipctl(line)
            for row in (r"peer +1001@example.com", r"passwords for +MD5", r"contact +sip:a", r"expires in +2 min",
                          r"behind NAT +yes", r"connection +open", r"call_limit +2 +\[templates\.desk\]"):
                self.assertRegex(result.output, row)
            self.assertNotIn("may use only", result.output)

    @inlineCallbacks
    def test_carrier(self) -> Any:
        """A carrier is shown with its registration."""
        self.serve("peer", {"name": "carrier", "kind": "carrier", "uri": "sip:c.example", "account": "sip:acct@c.example",
                            "state": "registered", "reason": "200 OK", "server": "udp:203.0.113.10:5060", "expires": 0,
                            "user": "1001@example.com", "policy": []})
        result = yield self.sipctl("peer carrier")
        for row in (r"carrier at +sip:c\.example", r"registration +registered", r"calls go to +1001@example\.com"):
            self.assertRegex(result.output, row)

    @inlineCallbacks
    def test_tables(self) -> Any:
        """Each other table, in both words."""
        self.serve("domains", [{"domain": "example.com", "kind": "first domain", "users": 3, "registered": 2}])
        self.serve("settings", [{"section": "timers", "key": "t1", "value": "0.5", "source": "default"},
                                {"section": "proxy", "key": "recurse", "value": "true", "source": "file"}])
        self.serve("connections", {"more": False, "connections": [{
            "id": "tcp/1", "transport": "tcp", "address": "192.0.2.9", "port": 4, "listener": "tcp:192.0.2.1:5060",
            "opened_by": "peer", "state": "known", "users": ["1001@example.com"], "open": 60, "silent": 0, "waiting": 7}]})
        self.serve("timers", [{"kept_by": "wheel", "what": "Thing ends a wait", "count": 2, "next": 0.5, "last": 32.0}])
        self.serve("objects", [{"name": "things", "size": 1, "limit": 4, "refused": 9, "cache": False},
                               {"name": "memories", "size": 0, "limit": 4, "refused": 0, "cache": True}])
        for lines, row in (
            (("domains", "sip show domains"), r"example.com +first domain +3 +2"),
            (("settings", "sip show settings"), r"timers +t1 +0\.5 +default"),
            (("connections", "sip show tcp"), r"192\.0\.2\.9:4 +tcp +tcp:192\.0\.2\.1:5060 +peer +known +1001@example.com +60 s +- +7 B"),
            (("timers", "sip show sched"), r"Thing ends a wait +2 +0\.5 s +32 s"),
            (("objects", "sip show objects"), r"things +1 +4 +25% +9 *\nmemories +0 +4 +0% +forgets"),
        ):
            for line in lines:
                result = yield self.sipctl(line)
                self.assertRegex(result.output, row)
        result = yield self.sipctl("settings proxy")
        self.assertNotIn("timers", result.output)

    @inlineCallbacks
    def test_reload(self) -> Any:
        """What changes, a line each; what is refused on stderr, with an exit status for each kind."""
        self.serve("reload", {"changes": ["user 1 added", "user 2 removed"], "applied": True, "file": "/etc/sipd.toml"})
        for line in ("reload", "sip reload"):
            result = yield self.sipctl(line)
            self.assertEqual((result.exit_code, result.stdout), (0, "user 1 added\nuser 2 removed\n"))
        result = yield self.sipctl("reload --check")
        self.assertIn("would change: user 1 added\n", result.stdout)
        self.assertEqual(self.asked, [{"check": False}, {"check": False}, {"check": True}])
        for kind, status in (("configuration", 4), ("restart", 5), ("", 1)):
            self.api._commands.clear()
            self.serve("reload", Refused("nothing has changed", kind, ["one"]))
            result = yield self.sipctl("reload")
            self.assertEqual((result.exit_code, result.stderr), (status, "sipctl: nothing has changed\n"), kind)

    @inlineCallbacks
    def test_nothing_different(self) -> Any:
        """A reload without a difference says so, and whether there was a file."""
        self.serve("reload", {"changes": [], "applied": True, "file": ""})
        result = yield self.sipctl("reload")
        self.assertEqual(result.stdout, "there is no configuration file, only certificates\n")

    @inlineCallbacks
    def test_unregister(self) -> Any:
        """What was taken away."""
        self.serve("unregister", {"aor": "1001@example.com", "contacts": ["sip:a"]})
        for line in ("unregister 1001 sip:a", "sip unregister 1001 sip:a"):
            result = yield self.sipctl(line)
            self.assertEqual(result.stdout, "1001@example.com is no longer registered at sip:a\n")
        self.assertEqual(self.asked, [{"name": "1001", "contact": "sip:a"}] * 2)

    @inlineCallbacks
    def test_debug(self) -> Any:
        """Messages as they pass, without what could move the cursor, until the server ends it."""
        class View(Live):
            def begin(self, write: Any, close: Any) -> None:
                write({"time": 1.25, "direction": "in", "transport": "udp", "peer": "192.0.2.9:5060",
                       "listener": "192.0.2.1:5060", "text": "OPTIONS sip:a SIP/2.0\r\nX: \x1b[2J\r\n\r\n"})
                close()

        for line, wanted in (("debug", {}), ("debug --peer 1001", {"peer": "1001", "ip": ""}), ("sip set debug on", {}),
                             ("sip set debug peer 1001", {"peer": "1001"}), ("sip set debug ip 192.0.2.9", {"ip": "192.0.2.9"})):
            self.api._commands.clear()
            self.serve("debug", View({"peer": "", "ip": "", "port": 0}))
            result = yield self.sipctl(line)
            self.assertEqual(result.exit_code, 0)
            self.assertIn("messages of everybody; ^C ends this\n", result.output)
            self.assertRegex(result.output, r"<--- \d\d:\d\d:01\.250 udp 192\.0\.2\.9:5060 at 192\.0\.2\.1:5060\n"
                                            r"OPTIONS sip:a SIP/2\.0\nX: \\x1b\[2J\n\n")
            self.assertEqual({key: value for key, value in self.asked[-1].items() if value}, {
                key: value for key, value in wanted.items() if value})

    @inlineCallbacks
    def test_debug_off(self) -> Any:
        """How many views were ended."""
        self.serve("debug off", {"ended": 2})
        for line in ("debug --off", "sip set debug off"):
            result = yield self.sipctl(line)
            self.assertEqual(result.stdout, "2 live views ended\n")

    @inlineCallbacks
    def test_watch(self) -> Any:
        """With --watch the table is drawn again and again until ^C; in JSON each look is one line."""
        looks = threading.Semaphore(3)

        def impatient(seconds: float) -> None:
            self.assertEqual(seconds, 0.5)
            if not looks.acquire(blocking=False):
                raise KeyboardInterrupt

        self.patch(words.time, "sleep", impatient)
        self.serve("domains", [])
        result = yield self.sipctl("domains --watch --every 0.5 --json")
        self.assertEqual((result.exit_code, result.stdout), (0, "[]\n" * 4))
        looks.release()
        result = yield self.sipctl("domains -w --every 0.5")
        self.assertEqual((result.exit_code, len(self.asked)), (0, 6))

    @inlineCallbacks
    def test_what_was_meant(self) -> Any:
        """A misspelt word gets the one that was meant, at every level, and exit status 2."""
        for line, meant in (("peerz", "there is no sipctl peerz; peer or peers is meant?"),
                            ("sip show setings", "there is no sipctl sip show setings; settings is meant?"),
                            ("user lst", "there is no sipctl user lst; list is meant?"), ("qqq", "No such command")):
            result = yield self.sipctl(line)
            self.assertEqual(result.exit_code, 2)
            self.assertIn(meant, result.stderr)

    @inlineCallbacks
    def test_completion(self) -> Any:
        """The shell is told the words and, by a running server, the names of peers; without one, nothing."""
        self.serve("peers", {"peers": [PEER, {**PEER, "name": "2001"}], "registered": 1, "all": 2})
        result = yield self.sipctl("completion fish")
        self.assertIn("_SIPCTL_COMPLETE=fish_complete", result.stdout)

        def complete(text: str, directory: str) -> str:
            env = {"_SIPCTL_COMPLETE": "bash_complete", "COMP_WORDS": f"sipctl --state-dir {directory} {text}",
                   "COMP_CWORD": str(2 + len(text.split(" ")))}
            return CliRunner(env=env).invoke(main, [], prog_name="sipctl").output

        for text, directory, found in (("peer 1", self.directory, "plain,1001\n"), ("unregister ", self.directory, "plain,1001\nplain,2001\n"),
                                       ("dom", self.directory, "plain,domains\n"), ("peer 1", "/none", "\n")):
            self.assertEqual((yield deferToThread(complete, text, directory)), found, text)

    @inlineCallbacks
    def test_help(self) -> Any:
        """Every command says what it is for."""
        silent: list[str] = []

        def walk(group: Any, path: str) -> None:
            for name, command in group.commands.items():
                if not command.help:
                    silent.append(f"{path} {name}")
                if hasattr(command, "commands"):
                    walk(command, f"{path} {name}")

        walk(main, "sipctl")
        self.assertEqual(silent, [])
        result = yield self.sipctl("sip show --help")
        self.assertEqual(result.exit_code, 0)
