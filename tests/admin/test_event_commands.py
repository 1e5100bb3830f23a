"""sipctl and the API about subscriptions, mailboxes and words for phones, against a core in virtual time."""

from __future__ import annotations

import json

from sipd.admin.api import Api, Refused
from sipd.admin.event_commands import EventCommands
from tests.events.watching import Watcher
from tests.support.commands import CommandTestCase
from tests.support.rig import Rig


class EventCommandTests(CommandTestCase):
    """1001 watches 1002's presence and its own mailbox."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        self.watcher = Watcher(self.a, "1002")
        self.b.register()
        self.api = Api()
        core = self.rig.core
        EventCommands(core.events.notifier, core.events, core.aor).register(self.api)

    def meanwhile(self) -> None:
        """NOTIFYs are answered."""
        self.rig.advance(0.1)
        for notify in self.b.drain():
            self.b.answer(notify, 200)  # type: ignore[arg-type]

    def test_subscriptions(self) -> None:
        """Who watches whom, all or of one user on either side, in both vocabularies and in JSON."""
        for words in (("subscriptions",), ("subscriptions", "1001"), ("subscriptions", "1002"),
                      ("sip", "show", "subscriptions")):
            result = self.sipctl(*words)
            self.assertEqual(result.exit_code, 0, result.output)
            self.assertRegex(result.output, r"1001@example\.com\s+presence\s+1002@example\.com\s+active\s+\d+ s")
        self.assertNotIn("presence", self.sipctl("subscriptions", "1003").output)
        self.assertEqual(json.loads(self.sipctl("subscriptions", "--json").output)["all"], 1)

    def test_mwi(self) -> None:
        """Numbers are shown, and set by hand; nobody, and what is no number, is refused."""
        self.assertRegex(self.sipctl("mwi", "1001", "2", "8").output, r"1001@example\.com\s+on\s+voice-message\s+2\s+8\s+api")
        for words in (("mwi",), ("mwi", "1001"), ("sip", "show", "mwi")):
            self.assertRegex(self.sipctl(*words).output, r"on\s+voice-message\s+2\s+8")
        self.assertRegex(self.sipctl("mwi", "1002").output, r"1002@example\.com\s+off")
        self.assertEqual(self.sipctl("mwi", "1001", "2").exit_code, 2)
        self.assertEqual(self.sipctl("mwi", "nobody", "2", "8").exit_code, 1)
        for wrong in (-1, "2", True, 2**32, None):
            self.assertRaises(Refused, self.ask, "mwi set", name="1001", new=wrong, old=0)

    def test_notify(self) -> None:
        """A template goes to the phones of a user, and what they say is shown; what is not there is refused with what
        there is."""
        for words in (("notify", "reboot", "1002"), ("sip", "notify", "check-sync", "1002")):
            result = self.sipctl(*words)
            self.assertEqual(result.exit_code, 0, result.output)
            self.assertRegex(result.output, r"sip:1002@\S+\s+200 Reason")
        self.assertIn("there are: check-sync", self.sipctl("notify", "sync", "1002").output)
        self.assertIn("no phone is registered", self.sipctl("notify", "reboot", "1003").output)
