"""What presence tells of users for whom nobody publishes, on the real core in virtual time."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.events.watching import Watcher, basic
from tests.scenarios.test_qualify import asking_rig, end, pass_time
from tests.support.cases import shows


class DerivedTests(TestCase):
    """Presence as registrations, questions and calls tell it."""

    @shows("SUB-01", "3856 6.8")
    def test_out_of_reach(self) -> None:
        """Who watches a user is told when the user's phone answers no questions any more, though it is registered, and
        when it answers again."""
        rig, (phone,) = asking_rig("1002")
        watcher = Watcher(rig.phone("1001"), "1002")
        pass_time(rig, 20.0, phone)
        self.assertEqual(basic(watcher.last), "open")
        for _ in range(150):
            rig.advance(1.0)
        phone.drain()
        self.assertEqual(basic(watcher.last), "closed")
        pass_time(rig, 30.0, phone)
        self.assertEqual([basic(notify) for notify in watcher.notifies], ["open", "closed", "open"])
        for _ in range(150):
            rig.advance(1.0)
        phone.drain()
        self.assertEqual(basic(watcher.last), "closed")
        rig.core.call_out(rig.config.model_copy(update={"qualify": rig.config.qualify.model_copy(update={"users": False})}))
        rig.advance(6.0)
        self.assertEqual(basic(watcher.last), "open")
        watcher.end()
        end(rig)
