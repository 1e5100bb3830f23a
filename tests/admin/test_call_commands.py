"""sipctl and the API about calls, against a core in virtual time: lists, one call, its story, and who is in use."""

from __future__ import annotations

import json
from unittest import mock

from sipd.admin.api import Api
from sipd.admin.call_commands import CallCommands
from sipd.calls import rows
from tests.support.commands import CommandTestCase
from tests.support.rig import Rig, established


class CallCommandTests(CommandTestCase):
    """A call that is up and one that rings at two phones; 1001 has a limit."""

    def setUp(self) -> None:
        self.rig = rig = Rig(peers={"1001": {"call_limit": 2, "busy_level": 1}})
        self.a, self.b, self.c = rig.phone("1001"), rig.phone("1002"), rig.phone("1003")
        self.d = rig.phone("1003")
        for phone in (self.b, self.c, self.d):
            phone.register()
        self.ok = established(self.a, self.b, "Supported: timer", "User-Agent: Phone\x07")[3]
        rig.advance(125, 5)
        self.a.request("INVITE", "sip:1003@example.com", call_id="f81d4fae-7dec@192.0.2.10")
        rig.advance(0.02, 0.02)
        self.c.answer(self.c.take("INVITE"), 180, reason="Ringing")
        self.a.drain()
        calls, core = rig.core.calls, rig.core
        self.api = Api()
        CallCommands(calls, lambda call: rows.brief(call, calls.seconds()), lambda call: rows.whole(call, calls.seconds()),
                     rows.story, lambda: rows.peers(calls), lambda name: core.policies.limits(name, core.aor(name)),
                     lambda: [name.removesuffix(calls.at_home) for name in core.policies.limited()]).register(self.api)

    def table(self, *words: str) -> list[list[str]]:
        """The lines that sipctl prints, as words."""
        result = self.sipctl(*words)
        self.assertEqual(result.exit_code, 0, result.output)
        return [line.split() for line in result.output.splitlines()]

    def test_calls(self) -> None:
        """Each call with who, whom, state, how long, where from; in both vocabularies; of one peer; those that are over."""
        for words in (("calls",), ("sip", "show", "channels")):
            lines = self.table(*words)
            self.assertEqual(lines[0], "caller called answered by state for from Call-ID".split())
            self.assertEqual(lines[1][:6], ["1001", "1002", "1002", "confirmed", "0:02:05", "udp:192.0.2.10:5060"])
            self.assertEqual(lines[2], ["1001", "1003", "-", "early", "0:00:00", "udp:192.0.2.10:5060",
                                        "f81d4fae-7dec@192.0.2.10"])
            self.assertEqual(lines[3], ["2", "calls", "now"])
        self.assertEqual([line[1] for line in self.table("calls", "1003")], ["called", "1003", "calls"])
        self.assertEqual(self.table("calls", "--over")[1:], [["2", "calls", "now"]])
        self.a.in_dialog("BYE", self.ok)
        self.b.answer(self.b.take("BYE"), 200)
        self.assertEqual(self.table("calls", "--over")[1][:5], ["1001", "1002", "1002", "answered", "0:02:05"])
        self.assertEqual((self.ask("calls")["all"], self.ask("calls", over="yes")["all"]), (1, 1))

    def test_call(self) -> None:
        """Everything about a call, found by the beginning of its Call-ID; control characters are not printed."""
        text = self.sipctl("sip", "show", "channel", self.ok.call_id[:-3]).output
        for words in ("user agent     Phone?", "session timer  1800 s, refreshed by the caller, 1675 s left",
                      "at             <sip:1002@192.0.2.11:5060>", "peers          1001, 1002"):
            self.assertIn(words, text)
        self.assertNotIn("why", text)
        ringing = self.ask("call", call_id="f81d")
        self.assertEqual((ringing["ringing"], [dialog["state"] for dialog in ringing["dialogs"]], ringing["answer"]),
                         ([self.c.contact, self.d.contact], ["early"], None))

    def test_not_that_one(self) -> None:
        """A beginning that several have is refused with their names, and one that nobody has."""
        self.b.request("INVITE", "sip:1003@example.com", call_id="f81d4fae-other")
        result = self.sipctl("call", "f81d4")
        self.assertEqual((result.exit_code, result.output), (
            1, "sipctl: 'f81d4' may be f81d4fae-other or f81d4fae-7dec@192.0.2.10\n"))
        self.assertIn("there is no call 'x'", self.sipctl("sip", "show", "history", "x").output)
        self.assertIn("there is no call ''", self.sipctl("call", "").output)

    def test_history(self) -> None:
        """The story in lines: the time of the first step, and what has passed since."""
        lines = self.sipctl("history", "f81d").output.splitlines()
        self.assertRegex(lines[0], r"^\d\d:02:05\.\d{3} 1001 calls 1003 \(INVITE from udp:192\.0\.2\.10:5060\)$")
        self.assertEqual(lines[1:], [
            "    +0.000 s INVITE to sip:1003@192.0.2.12:5060 by udp to 192.0.2.12 port 5060",
            "    +0.000 s INVITE to sip:1003@192.0.2.13:5060 by udp to 192.0.2.13 port 5060",
            "    +0.020 s sip:1003@192.0.2.12:5060 says 180 Ringing"])
        self.assertEqual(self.ask("history", call_id="f81d")["steps"][3]["after"], 0.02)

    def test_inuse(self) -> None:
        """Each peer in a call, or with a limit; what it may have."""
        for words in (("inuse",), ("sip", "show", "inuse")):
            self.assertEqual(self.table(*words), [
                "peer in use ringing limit busy level".split(), ["1001", "2", "1", "2", "1"],
                ["1002", "1", "0", "-", "-"], ["1003", "1", "1", "-", "-"]])
        self.assertEqual(self.ask("inuse", peer="1005"),
                         [{"peer": "1005", "in_use": 0, "ringing": 0, "limit": 0, "busy_level": 0}])

    def test_json_and_watch(self) -> None:
        """--json gives the answer as it came, and --watch one line for each look."""
        self.assertEqual(json.loads(self.sipctl("calls", "--json").output)["all"], 2)
        with mock.patch("sipd.admin.words.time.sleep", side_effect=[None, KeyboardInterrupt]):
            lines = self.sipctl("calls", "--json", "--watch").output.splitlines()
        self.assertEqual([json.loads(line)["all"] for line in lines], [2, 2])
