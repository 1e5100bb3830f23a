"""The commands about messages that wait."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

from click.testing import CliRunner, Result
from twisted.internet.defer import Deferred

from sipd.admin import cli
from sipd.admin.api import Api, Refused
from sipd.admin.message_commands import MessageCommands
from tests.scenarios.test_offline import OfflineTestCase, text


class MessageCommandTests(OfflineTestCase):
    """`messages` and `messages remove` on the real core."""

    settings = {"max_age": 60}

    def ask(self, command: str, **arguments: Any) -> Any:
        """What the server says."""
        api = Api()

        def aor(name: str) -> str:
            if name == "nobody":
                raise Refused("there is no peer 'nobody'")
            return f"{name}@example.com"

        MessageCommands(self.rig.core.messages, aor).register(api)
        line = json.dumps({"command": command, **arguments}).encode()
        answer = json.loads(self.successResultOf(Deferred.fromCoroutine(api.answer(line))))
        return answer["result"] if answer["ok"] else answer["error"]

    def sipctl(self, *words: str) -> Result:
        """What sipctl prints."""
        with mock.patch.object(cli.Place, "ask", lambda place, command, **arguments: self.ask(command, **arguments)):
            return CliRunner(env={"COLUMNS": "200", "TZ": "UTC"}).invoke(cli.main, ["--state-dir", "/nowhere", *words])

    def test_sipctl(self) -> None:
        """In short and in chan_sip's words; --remove takes one or all of a user."""
        for _ in range(3):
            self.send()
        for words in (("messages",), ("messages", "1002"), ("sip", "show", "messages", "1002")):
            lines = self.sipctl(*words).output.splitlines()
            self.assertEqual(len(lines), 4)
            self.assertRegex(lines[1], r"^1 +1002@example.com +1001@example.com +2027-\S+ \S+ +\d+ +text/plain +waiting, 60 s")
        self.assertEqual(self.sipctl("messages", "--remove", "2").output, "1 removed\n")
        self.assertEqual(self.sipctl("messages", "1002", "--remove", "all").output, "2 removed\n")
        self.assertIn("not delivered: removed by the administrator", self.sipctl("messages").output)
        for words in (("messages", "--remove", "all"), ("messages", "--remove", "x")):
            self.assertEqual(self.sipctl(*words).exit_code, 2)
        self.rig.finish()

    def test_listed(self) -> None:
        """What waits is shown with sender, size and time; not its text. What was not delivered is shown with the
        reason."""
        self.send(b"secret words")
        text(self.a, "1003")
        self.a.take(202)
        row = self.ask("messages", name="1002")[0]
        self.assertEqual({key: row[key] for key in ("id", "to", "from", "expires", "state", "type", "received", "reason")}, {
            "id": 1, "to": "1002@example.com", "from": "1001@example.com", "expires": 60, "state": "waiting",
            "type": "text/plain", "received": 1_800_000_000, "reason": ""})
        self.assertNotIn("secret", json.dumps(row))
        self.assertEqual(len(self.ask("messages")), 2)
        self.rig.advance(62.0, 1.0)
        self.assertEqual([(row["state"], row["reason"], row["ended"] > 0) for row in self.ask("messages", name="1002")],
                         [("not delivered", "expired", True)])
        self.assertEqual(self.ask("messages", name="nobody"), "there is no peer 'nobody'")

    def test_removed(self) -> None:
        """One by its number, or all of a user; they are not delivered, also when one is on its way just now."""
        for body in (b"1", b"2", b"3"):
            self.send(body)
        self.assertEqual(self.ask("messages remove", id=2), {"removed": 1})
        self.b.register()
        self.rig.advance(0.1)
        self.b.take("MESSAGE")
        self.assertEqual(self.ask("messages remove", id=1), {"removed": 1})
        self.assertEqual(self.got().body, b"3")
        self.assertEqual(self.ask("messages remove", name="1002"), "no message waits for 1002")
        text(self.a, "1003", b"4")
        self.a.take(202)
        self.assertEqual(self.ask("messages remove", name="1003"), {"removed": 1})
        self.assertEqual(self.ask("messages remove", id=4), "no message 4 waits")
        self.rig.finish()

    def test_wrong(self) -> None:
        """What is no number is refused, and so is nothing at all."""
        for arguments in ({}, {"id": "1"}, {"id": True}, {"id": -1}, {"name": 7}):
            self.assertIn("is wanted", self.ask("messages remove", **arguments))
