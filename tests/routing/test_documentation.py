"""docs/routing.md against the code: every TOML example is a whole file, every script runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from sipd.config import Config
from sipd.config_routing import Forward, Group, RouteEntry, Routing, unknown_names
from sipd.routing.script import Helpers, PeerView, RequestView
from tests.scenarios.test_routing_script import ScriptTestCase

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "routing.md").read_text(encoding="utf-8")


class DocumentationTests(ScriptTestCase):
    """What the page says."""

    def test_configurations(self) -> None:
        """Each example is valid, names nobody who is not there, and every key is explained."""
        examples = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
        self.assertGreater(len(examples), 1)
        for example in examples:
            self.assertEqual(unknown_names(Config.model_validate(tomllib.loads(example)), [], "example.com"), [])
        for model in (RouteEntry, Group, Forward, Routing):
            for key in model.model_fields:
                self.assertIn(key, TEXT)

    def test_what_scripts_see(self) -> None:
        """Everything that a script can use is named."""
        for view in (RequestView, PeerView, Helpers):
            for name in dir(view):
                if not name.startswith("_"):
                    self.assertIn(f"{name}", TEXT, view)

    def _scripts(self) -> list[str]:
        return re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)

    def test_first_script(self) -> None:
        """What its comments say."""
        peers: dict[str, Any] = {"carrier": {"uri": "sip:203.0.113.1"}, "one": {"uri": "sip:203.0.113.3"},
                                 "two": {"uri": "sip:203.0.113.2"}}
        self.scripted(self._scripts()[0], peers=peers, routes=[])
        self.call("100")
        self.answers(self.a, self.rings(self.a))
        self.call("9123")
        got = self.called(self.one)  # who is at 203.0.113.1
        self.assertEqual(got.uri_text, "sip:123@203.0.113.1")
        self.answers(self.one, got)
        self.hears(self.call("77"), 404)
        self.over()

    def test_second_script(self) -> None:
        """It waits, and then knows."""
        rig = self.scripted(self._scripts()[1])
        self.call("5")
        self.a.silent()
        rig.advance(0.5)
        self.answers(self.a, self.rings(self.a))
        self.over()
