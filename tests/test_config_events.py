"""The section [events] of the configuration: what is right, and what is told of what is not."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from twisted.trial.unittest import TestCase

from sipd.config import Config
from sipd.config_changes import changes
from sipd.config_events import Events, NotifyTemplate


class EventsSectionTests(TestCase):
    """Mistakes, one by one."""

    def wrong(self, words: str, **events: Any) -> None:
        """Fails unless this is refused with these words."""
        error = self.assertRaises(ValidationError, Config.model_validate, {"events": events})
        self.assertIn(words, str(error))

    def test_mistakes(self) -> None:
        """Each says what would be right."""
        self.wrong("each package once", packages=["presence", "presence"])
        self.wrong("packages", packages=["conference"])
        self.wrong("default_expires: not less than min_expires", default_expires=30)
        self.wrong("served here; take it out of packages", relays={"presence": "x"})
        self.wrong("no [peers.vm] with a uri; there is none", mailboxes={"1001": "vm"})
        self.wrong("is no user", publishers=["a b"])
        self.wrong("digits, * and #", pickup="pick")
        for text in ("97 98", "mailto:vm@example.com", "sip:", "v@m"):
            self.wrong('a number such as "*97"', voicemail=text)
        self.wrong("a user, a name with *", rules=[{"watcher": ""}])
        self.wrong("check-sync;reboot=true", templates={"x": {"event": "a\r\nb"}})
        self.wrong("none that every request has", templates={"x": {"event": "a", "headers": {"Via": "x"}}})
        self.wrong("none that every request has", templates={"x": {"event": "a", "headers": {"X-A": "b\r\nVia: c"}}})

    def test_right(self) -> None:
        """What the peers are for may be used."""
        config = Config.model_validate({
            "peers": {"vm": {"uri": "sip:192.0.2.9"}},
            "events": {"mailboxes": {"1001": "vm"}, "relays": {"conference": "vm"}, "pickup": "*8",
                       "rules": [{"watcher": "*@example.com", "packages": ["reg"], "sees": "part"}]}})
        self.assertEqual(config.events.rules[0].sees, "part")
        self.assertEqual(Events().packages, ("presence", "dialog", "message-summary", "reg"))
        self.assertEqual(NotifyTemplate(event="x").content_type, "text/plain")

    def test_words(self) -> None:
        """Rules and templates are shown as the file has them."""
        other = Config.model_validate({"events": {"rules": [{"watcher": "1001", "sees": "part"}],
                                                  "templates": {"x": {"event": "y"}}}})
        self.assertEqual([change.text for change in changes(Config(), other)], [
            '[events] rules: [] -> [{watcher = "1001", sees = "part"}]', '[events] templates: {} -> {x = {event = "y"}}'])
