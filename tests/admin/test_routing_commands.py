"""sipctl and the API about where calls go, against a server; scripts at its start and when the file is read again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

from click.testing import CliRunner, Result

from sipd import service
from sipd.admin import cli
from sipd.admin.api import Refused
from sipd.config_source import Source
from sipd.state import StateError
from tests.test_reloading import ServerTestCase

OFFICE = """
[users]
1001 = "a"
1002 = "b"
1003 = "c"
[peers.carrier]
uri = "sip:203.0.113.10:5060"
[[routes]]
name = "outside"
match = "^0(?P<number>[0-9]+)$"
to = ["carrier", "1001"]
rewrite = "{number}"
hours = "mon-fri 08:00-18:00"
[[routes]]
match = "0900*"
caller = "1001"
reject = 403
reason = "Not From Here"
[groups.sales]
members = ["1001", "1002"]
[forward.1003]
busy = "1001"
[numbers]
500 = ["sales", "1003"]
"""


class RoutingCommandCase(ServerTestCase):
    """A server that is asked by sipctl."""

    server: service.Server

    async def ask(self, command: str, **arguments: Any) -> Any:
        """The result of a command. Raises Refused."""
        control: Any = self.server._control
        answer = json.loads(await control._api.answer(json.dumps({"command": command, **arguments}).encode()))
        if not answer["ok"]:
            raise Refused(answer["error"])
        return answer["result"]

    def sipctl(self, *words: str) -> Result:
        """What sipctl prints, with what the server said."""
        def asked(place: Any, command: str, **arguments: Any) -> Any:
            try:
                coroutine = self.ask(command, **arguments)
                try:
                    coroutine.send(None)
                except StopIteration as end:
                    return end.value
                raise AssertionError("it waits")
            except Refused as refusal:
                cli.fail(str(refusal), cli.REFUSED)

        with mock.patch.object(cli.Place, "ask", asked):
            return CliRunner(env={"COLUMNS": "200"}).invoke(cli.main, ["--state-dir", "/nowhere", *words])


class RoutingCommandTests(RoutingCommandCase):
    """A server with a route, a group and a forward."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.start(self.text(OFFICE))

    def test_routes(self) -> None:
        """In their order, with all that is said of each; the numbers behind them."""
        output = self.sipctl("routes").output
        self.assertRegex(output, r"1\s+outside\s+\^0\(\?P<number>\[0-9\]\+\)\$\s+hours mon-fri 08:00-18:00\s+"
                                 r"\{number\}\s+carrier, then 1001")
        self.assertRegex(output, r"2\s+0900\*\s+caller 1001\s+403 Not From Here")
        self.assertRegex(output, r"500\s+sales and 1003")
        found = json.loads(self.sipctl("routes", "--json").output)
        self.assertEqual((found["script"], [route["to"] for route in found["routes"]], found["numbers"]),
                         ("", [["carrier", "1001"], []], [{"number": "500", "to": ["sales", "1003"]}]))

    def test_groups(self) -> None:
        """Members, and whether they would ring now."""
        self.assertEqual(self.sipctl("dnd", "1002", "on").output, "1002@example.com: do not disturb on\n")
        output = self.sipctl("groups").output
        self.assertRegex(output, r"sales\s+parallel\s+20 s\s+1001\s+not registered")
        self.assertRegex(output, r"1002\s+do not disturb")

    def test_forward(self) -> None:
        """Set, shown with a star, switched off, given back to the file; and what is no target."""
        self.assertRegex(self.sipctl("forwards").output, r"1003@example.com\s+1001\s*\n")
        output = self.sipctl("forward", "1003", "no_answer", "sales", "--after", "12").output
        self.assertRegex(output, r"1003@example.com\s+1001\s+sales \*\s+12 s")
        self.assertRegex(self.sipctl("forward", "1003", "busy", "off").output, r"1003@example.com\s+off \*\s+sales \*")
        self.assertRegex(self.sipctl("forward", "1003", "busy", "file").output, r"1003@example.com\s+1001\s+sales \*")
        row, = json.loads(self.sipctl("forwards", "1003", "--json").output)
        self.assertEqual((row["busy"], row["no_answer"]["origin"], row["no_answer_after"]),
                         ({"to": "1001", "origin": "file", "file": "1001"}, "run time", 12))
        self.sipctl("forward", "1003", "no_answer", "file")
        self.sipctl("forward", "sales", "offline", "0123")
        self.assertRegex(self.sipctl("forwards").output, r"sales@example.com\s+0123 \*")
        self.assertIn(("forward-set", {"aor": "1003@example.com", "change": "busy off"}), self.records)
        for words, said in ((("forward", "1009", "busy", "1001"), "no user and no group '1009'"),
                            (("forward", "1003", "busy", "1003"), "to itself"),
                            (("forward", "1003", "busy", "77"), "no route matches it"),
                            (("forward", "1003", "busy", "1001", "--after", "5"), "belongs to no_answer"),
                            (("forward", "1003", "no_answer", "1001", "--after", "5000"), "1 to 600 seconds"),
                            (("forwards", "1009"), "no user and no group"), (("dnd", "1009", "on"), "no user and no group")):
            result = self.sipctl(*words)
            self.assertEqual(result.exit_code, 1, result.output)
            self.assertIn(said, result.output)
        self.assertEqual(self.sipctl("forward", "1003", "sometimes", "1001").exit_code, 2)

    async def test_wrong_questions(self) -> None:
        """What programs may get wrong."""
        for command, arguments in (("forward", {"name": "1003", "cause": "x", "to": "1001"}), ("dnd", {"name": "1003", "on": "yes"}),
                                   ("forward", {"name": "1003", "cause": "busy", "to": ""}), ("forward", {"name": "1003"}),
                                   ("forward", {"name": "1003", "cause": "busy", "to": "a\nb"}),
                                   ("forward", {"name": "1003", "cause": "no_answer", "to": "1001", "after": True}),
                                   ("route test", {"from": "1001"}), ("route test", {"from": "1001", "to": "1", "at": "noon"})):
            with self.assertRaises(Refused, msg=f"{command} {arguments}"):
                await self.ask(command, **arguments)
        self.assertEqual([row["aor"] for row in await self.ask("forwards")], ["1003@example.com"])

    def test_route_test(self) -> None:
        """Step by step, as text and as JSON, at another time and from another peer."""
        output = self.sipctl("route", "test", "1001", "0123", "--at", "2026-11-23 09:30").output
        self.assertEqual(output.splitlines()[:3], [
            "route 1 (outside) is taken: 0123 matches ^0(?P<number>[0-9]+)$", "{number} makes 123",
            "calls carrier with 123: sip:123@203.0.113.10:5060"])
        output = self.sipctl("route", "test", "1001", "0900", "--at", "2026-11-22 09:30").output
        self.assertIn("answered 403 Not From Here", output)
        found = json.loads(self.sipctl("route", "test", "1001", "1003", "--json").output)
        self.assertEqual((found["from"], found["to"], found["steps"][-1]["text"]), ("1001", "1003", "answered 480 "
                                                                                 "Temporarily Unavailable"))

    def test_kept(self) -> None:
        """What was set at run time is in the state directory, and in force after a restart and a reload."""
        self.sipctl("forward", "1003", "busy", "1002")
        self.server.reloading.reload()
        self.assertIn("1002 *", self.sipctl("forwards").output)
        kept = json.loads(Path(self.server.config.path("forwards.json")).read_text())
        self.assertEqual(kept["forwards"], {"1003@example.com": {"busy": "1002"}})


class MayTests(RoutingCommandCase):
    """Users and carriers who may not call everybody."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.start(self.text(
            '[users]\n1001 = "a"\n1002 = "b"\n[peers.1001]\nmay_call = ["10*"]\n[[routes]]\nmatch = "0*"\nto = "carrier"\n'
            '[peers.carrier]\nuri = "sip:203.0.113.1"\ninbound_to = "1002"\nmay_call = ["!1001"]\n[peers.mute]\n'
            'uri = "sip:203.0.113.2"\n[routing]\nemergency = ["0112"]\n'))

    def test_who_may_not(self) -> None:
        """A test of routes says who would be refused before any route is asked, and whose calls another gets."""
        for caller, called, words in (
                ("1001", "0123", "1001 may not call 0123: refused with 403"), ("1001", "0112", "route 1 is taken"),
                ("1001", "1002", "nothing is registered for 1002"), ("1002", "0123", "route 1 is taken"),
                ("carrier", "1001", "carrier may not call 1001: refused"), ("mute", "0123", "mute may not call 0123: refused"),
                ("carrier", "0123", "carrier may not call 0123: the call is for its inbound_to, 1002")):
            found = json.loads(self.sipctl("route", "test", caller, called, "--json").output)["steps"]
            self.assertIn(words, " ".join(step["text"] for step in found))


class ScriptTests(ServerTestCase):
    """[routing] script of a server."""

    def script(self, text: str) -> str:
        """A file beside the configuration."""
        path = os.path.join(os.path.abspath(os.path.dirname(self.path)), "routes.py")
        Path(path).write_text(text)
        return '[users]\n1001 = "a"\n[routing]\nscript = "routes.py"\n'

    def answer(self, server: service.Server) -> str:
        """What the script says to a call."""
        core: Any = server.core
        return [step.text for step in core.routing.router.explain("1001", "5")][0]

    def test_reload(self) -> None:
        """Another text is taken, and said so; one with a mistake, at whatever stage, leaves the old one in force."""
        self.read("")
        server = self.start(self.text(self.script("def route(request, peer, helpers):\n    return 410\n")))
        self.assertEqual(self.answer(server), "routes.py says 410")
        for wrong, words in (("def route(:\n", "line 1"), ("x = 1 / 0\n", ":1: ZeroDivisionError"), ("x = 1\n", "no function route")):
            refusal = self.refused(server, self.text(self.script(wrong)))
            self.assertIn(words, str(refusal))
            self.assertEqual(refusal.kind, "configuration")
            self.assertEqual(self.answer(server), "routes.py says 410")
        self.write(self.text(self.script("def route(request, peer, helpers):\n    return '1001'\n")))
        self.assertIn("has another text", server.reloading.reload(True)[0])
        self.assertEqual(self.answer(server), "routes.py says 410")
        self.assertIn("has another text", server.reloading.reload()[0])
        self.assertEqual(self.answer(server), "routes.py says '1001'")
        self.write(self.text('[users]\n1001 = "a"\n'))
        server.reloading.reload()
        self.assertEqual(self.answer(server), "there is nobody called 5")

    def test_start(self) -> None:
        """A file that cannot be run refuses the start, in words for people."""
        self.read("")
        config = self.read(self.text(self.script("import nothing_of_this_name\n")))
        server = service.Server(config, Source(self.path))
        self.addCleanup(server.stopService)
        error = self.assertRaises(StateError, server.startService)
        self.assertIn("routes.py:1: ModuleNotFoundError", str(error))

    def test_unknown_names_refuse_a_reload(self) -> None:
        """Stored users count, strangers do not."""
        server = self.start(self.text("[users]\n1001 = 'a'\n"))
        refusal = self.refused(server, self.text("[users]\n1001 = 'a'\n[numbers]\n5 = '1002'\n6 = '1003'\n"))
        self.assertEqual(len(refusal.lines), 2)
        assert server._user_store is not None
        for name in ("1002", "1003"):
            server._user_store.add(f"{name}@example.com", "example.com", "secret")
        self.assertEqual(server.reloading.reload(), ["number 5 added", "number 6 added"])
