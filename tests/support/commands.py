"""The commands of the control API against a core in virtual time, and sipctl over them."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

from click.testing import CliRunner, Result
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from sipd.admin import cli
from sipd.admin.api import Api, Refused


class CommandTestCase(TestCase):
    """`api` has the commands; `meanwhile` is what happens while one of them waits."""

    api: Api

    def meanwhile(self) -> None:
        """Nothing, unless somebody has to be asked."""

    def ask(self, command: str, **arguments: Any) -> Any:
        """The result of a command. Raises Refused."""
        question = json.dumps({"command": command, **arguments}).encode()
        answered = Deferred.fromCoroutine(self.api.answer(question))
        self.meanwhile()
        answer = json.loads(self.successResultOf(answered))
        if not answer["ok"]:
            raise Refused(answer["error"])
        return answer["result"]

    def sipctl(self, *words: str) -> Result:
        """What sipctl prints."""
        with mock.patch.object(cli.Place, "ask", lambda place, command, **arguments: self._as_place(command, arguments)):
            return CliRunner(env={"COLUMNS": "200", "TZ": "UTC"}).invoke(cli.main, ["--state-dir", "/nowhere", *words])

    def _as_place(self, command: str, arguments: dict[str, Any]) -> Any:
        try:
            return self.ask(command, **arguments)
        except Refused as refusal:
            cli.fail(str(refusal), cli.REFUSED)
