"""docs/api.md and docs/cli.md against the server: every command is there, and every example is what it answers."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.utils import getProcessOutput
from twisted.trial.unittest import SkipTest

from sipd.admin.cli import main
from sipd.admin.http_api import HttpApi
from sipd.binding import Binding
from sipd.inventory import Inventory
from sipd.message.hop import Hop
from tests.test_reloading import ServerTestCase, _until, free_port

DOCS = Path(__file__).resolve().parents[2] / "docs"


def shape(value: Any) -> Any:
    """What kind of value it is, all the way down; lists by their first element."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


class DocumentationTests(ServerTestCase):
    """A server as the pages have it: two users, the first of them registered."""

    async def asked(self) -> Any:
        """What the server's API is asked with."""
        server = self.start(self.text("[users]\n1001 = 'a'\n1002 = 'b'\n"))
        core: Any = server.core
        core.location.change("1001@example.com", [("put", Binding(
            "1001@example.com", "sip:1001@192.0.2.9", "", 1000, time.time() + 600, "c", 1,
            source=Hop("tcp", "192.0.2.9", 40000), flow="tcp/1"))], lambda reason: None)
        await _until(lambda: len(core.location) == 1)
        assert server._control is not None
        return server._control._api

    async def test_examples(self) -> None:
        """Each example is answered as the page says: the same fields of the same kinds, and texts and counts alike."""
        api = await self.asked()
        text = (DOCS / "api.md").read_text(encoding="utf-8")
        examples = re.findall(r"^> (.*)\n< (.*)$", text, re.MULTILINE)
        self.assertGreater(len(examples), 7)
        for question, answer in examples:
            given, wanted = json.loads(await api.answer(question.encode())), json.loads(answer)
            self.assertEqual(shape(given), shape(wanted), question)
            if isinstance(given.get("result"), dict):
                given["result"].pop("file", None)
                wanted["result"].pop("file", None)
            self.assertEqual(given, wanted, question)

    async def test_http_examples(self) -> None:
        """Each curl of the page, as it stands but for port and directory, is answered as the page says."""
        if shutil.which("curl") is None:
            raise SkipTest("curl is not installed (Debian: apt-get install curl)")
        api = await self.asked()
        port = free_port()
        http = HttpApi(self.directory, api, reactor, Inventory())
        self.addCleanup(http.stop)
        http.prepare(("127.0.0.1", port))
        http.settle()
        text = (DOCS / "api.md").read_text(encoding="utf-8")
        token = re.findall(r"^\$ (TOKEN=.*)$", text, re.MULTILINE)[0].replace("/var/lib/sipd", self.directory)
        examples = re.findall(r"^\$ (curl .*)\n(.*)$", text, re.MULTILINE)
        self.assertEqual(len(examples), 4)
        for command, answer in examples:
            line = f"{token}; {command}".replace(":8061/", f":{port}/")
            said = await getProcessOutput("/bin/sh", ["-c", line], {"PATH": os.environ["PATH"]})
            given, wanted = json.loads(said), json.loads(answer)
            self.assertEqual(given, wanted, command)

    async def test_every_command_is_named(self) -> None:
        """The table of api.md names every command, and none that is not there."""
        api = await self.asked()
        text = (DOCS / "api.md").read_text(encoding="utf-8")
        named = [name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`([^`]*)`", row)]
        self.assertEqual(sorted(named), api.names)

    def test_every_word_is_named(self) -> None:
        """cli.md names every command of sipctl, in both words, and each exit status."""
        text = (DOCS / "cli.md").read_text(encoding="utf-8")
        missing = []
        for name, command in main.commands.items():
            if name != "sip" and f"`sipctl {name}" not in text:
                missing.append(name)
            if name == "sip":
                shown = command.commands["show"].commands  # type: ignore[attr-defined]
                missing += [f"sip show {word}" for word in shown if f"sip show {word}" not in text]
        self.assertEqual(missing, [])
        for status in range(7):
            self.assertIn(f"\n| {status} |", text)
