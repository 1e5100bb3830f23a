"""Two phones, a server, and what its call table says of a call between them."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.calls.call import STATES, Call
from tests.support.rig import Rig


class CallCase(TestCase):
    """Calls of 1001 to 1002, who has one phone."""

    def setUp(self) -> None:
        self.build()

    def build(self, **settings: Any) -> None:
        """A server with other settings."""
        self.rig = Rig(**settings)
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        self.a.register()
        self.b.register()
        self.told: list[str] = []
        self.rig.core.calls.watch(self.watched)

    def watched(self, call: Call) -> None:
        """What a watcher is told, each state once."""
        word = f"{STATES[call.state]} {' '.join(STATES[dialog.state] for dialog in call.dialogs)}".strip()
        if self.told[-1:] != [word]:
            self.told.append(word)

    @property
    def live(self) -> list[Call]:
        """The calls that are not over."""
        return list(self.rig.core.calls.live())

    def over(self) -> Call:
        """The only call there was, which is over."""
        calls = self.rig.core.calls
        self.assertEqual(self.live, [])
        self.assertEqual(len(calls.finished), 1)
        self.assertEqual(len(calls.peers), 0)
        return next(iter(calls.finished.values()))

    def ended(self, why: str, by: str = "", status: int = 200) -> Call:
        """The call is over for this reason."""
        call = self.over()
        self.assertEqual((call.why, call.by, call.status), (why, by, status))
        return call

    def kinds(self) -> list[str]:
        """The kinds of journal records about calls, in order."""
        return [kind for kind, _ in self.rig.records if kind.startswith("call-")]
