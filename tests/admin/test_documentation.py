"""docs/api.md and docs/cli.md against the server: every command is there, and every example is what it answers."""

from __future__ import annotations

import json
import re
from typing import Any

from sipd.admin.cli import main
from tests.support.documented import DOCS, DocumentedTestCase


def shape(value: Any) -> Any:
    """What kind of value it is, all the way down; lists by their first element."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


class DocumentationTests(DocumentedTestCase):
    """The pages against the server that they are about."""

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
