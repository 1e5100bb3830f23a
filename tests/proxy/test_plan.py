"""Where a response context asks a plan for more: the rules one by one (RFC 3261 s16.6, s16.7)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.proxy import response_context as rc
from sipd.proxy.response_context import Output, ResponseContext
from sipd.proxy.targets import Stage
from tests.proxy.test_response_context import Context, response, targets


class Planned(Context):
    """A response context whose plan answers when the test says so; it has been asked for its first stage."""

    def __init__(self, invite: bool = True) -> None:
        self.context = ResponseContext(invite, [])
        self.context.planned = True
        self.branches, self.all = [], []
        self.asked: list[int] = []
        self.did(self.context.start())

    def did(self, outputs: list[Output]) -> str:
        """See Context; keeps what was asked."""
        self.asked += [payload for kind, payload in outputs if kind == rc.ASK]
        return super().did(outputs)

    def says(self, *sizes: int, patience: float = 0.0, status: int = 0) -> str:
        """The plan's answer; without anything: no more."""
        stage = Stage(targets(*sizes), patience, status) if sizes or status else None
        return self.did(self.context.expanded(stage))


class PlanTests(TestCase):
    """Inputs in order, what comes of each."""

    def test_stages_follow_each_other(self) -> None:
        """Each stage that fails leads to the question for the next, with what it came to; the end is the best of all."""
        context = Planned()
        self.assertEqual(context.asked, [0])
        self.assertEqual(context.says(2), "START, START")
        self.assertEqual(context.gets(1, 480), "")
        self.assertEqual(context.gets(2, 486), "ASK")
        self.assertEqual(context.says(1), "START")
        self.assertEqual(context.gets(3, 503), "ASK")
        self.assertEqual(context.asked, [0, 486, 503])
        self.assertEqual(context.says(), "FINAL 486, DONE")

    def test_a_2xx_ends_it(self) -> None:
        """Who answers is not asked about."""
        context = Planned()
        context.says(1)
        self.assertEqual(context.gets(1, 200), "RELAY 200, DONE")
        self.assertEqual(context.asked, [0])

    def test_a_6xx_ends_it(self) -> None:
        """s16.7 step 5: no branch is begun after a 6xx."""
        context = Planned()
        context.says(1)
        self.assertEqual(context.gets(1, 603), "FINAL 603, DONE")
        self.assertEqual(context.asked, [0])

    def test_patience(self) -> None:
        """A stage with patience is over when nobody answered, the last group too; the next does not wait for the 487."""
        context = Planned()
        self.assertEqual(context.says(1, patience=20.0), "START, RING")
        context.gets(1, 180)
        self.assertEqual(context.did(context.context.ring_timeout()), "CANCEL 1, ASK")
        self.assertEqual(context.asked, [0, 408])
        self.assertEqual(context.says(1), "START")
        self.assertEqual(context.gets(2, 486), "ASK")
        self.assertEqual(context.says(), "")
        self.assertEqual(context.gets(1, 487), "FINAL 486, DONE")

    def test_groups_within_a_stage(self) -> None:
        """The groups of a stage come first, then the plan is asked, once."""
        context = Planned()
        self.assertEqual(context.says(1, 1, patience=5.0), "START, RING")
        self.assertEqual(context.gets(1, 404), "START, RING")
        context.gets(2, 180)
        self.assertEqual(context.did(context.context.ring_timeout()), "CANCEL 2, ASK")
        self.assertEqual(context.did(context.context.ring_timeout()), "")
        self.assertEqual(context.gets(2, 487), "")
        self.assertEqual(context.says(), "FINAL 404, DONE")

    def test_nobody_answered(self) -> None:
        """The end of patience counts as 408, not as the 487 that our own CANCEL brought."""
        context = Planned()
        context.says(1, patience=5.0)
        context.gets(1, 180)
        context.did(context.context.ring_timeout())
        self.assertEqual(context.says(), "")
        self.assertEqual(context.gets(1, 487), "FINAL 408, DONE")

    def test_the_plan_answers(self) -> None:
        """A stage that is a status goes back at once; a branch that still rings is cancelled."""
        context = Planned()
        context.says(1, patience=5.0)
        context.gets(1, 180)
        context.did(context.context.ring_timeout())
        self.assertEqual(context.says(status=486), "FINAL 486")
        self.assertEqual(context.gets(1, 487), "DONE")

    def test_the_plan_answers_at_once(self) -> None:
        """A rejection by the plan."""
        self.assertEqual(Planned().says(status=403), "FINAL 403, DONE")
        self.assertEqual(Planned(invite=False).says(status=202), "FINAL 202, DONE")

    def test_nothing_at_all(self) -> None:
        """A plan without any stage is a request that led nowhere."""
        self.assertEqual(Planned().says(), "FINAL 408, DONE")

    def test_cancel_while_asking(self) -> None:
        """s16.10: the caller gives up while the plan thinks; what it says then is nothing."""
        context = Planned()
        self.assertEqual(context.did(context.context.cancel()), "FINAL 487, DONE")
        self.assertEqual(context.says(2), "")

    def test_cancel_while_asking_with_a_branch_left(self) -> None:
        """The same while a branch of the stage before is still to end."""
        context = Planned()
        context.says(1, patience=5.0)
        context.gets(1, 180)
        context.did(context.context.ring_timeout())
        self.assertEqual(context.did(context.context.cancel()), "")
        self.assertEqual(context.gets(1, 487), "FINAL 487, DONE")
        self.assertEqual(context.says(2), "")

    def test_answered_while_asking(self) -> None:
        """A phone that answers as its time ends has the call."""
        context = Planned()
        context.says(1, patience=5.0)
        context.gets(1, 180)
        context.did(context.context.ring_timeout())
        self.assertEqual(context.did(context.context.response(context.branches[0], response(200))), "RELAY 200, DONE")
        self.assertEqual(context.says(2), "")

    def test_not_an_invite(self) -> None:
        """The same for other methods; nobody answered is answered by nobody (RFC 4320)."""
        context = Planned(invite=False)
        context.says(1)
        self.assertEqual(context.did(context.context.failed(context.branches[0], 408)), "ASK")
        self.assertEqual(context.says(), "ABANDON, DONE")

    def test_told_twice(self) -> None:
        """What a plan says unasked is nothing."""
        context = Planned()
        self.assertEqual(context.says(1), "START")
        self.assertEqual(context.says(1), "")
        self.assertEqual(context.gets(1, 486), "ASK")

    def test_stages_without_end(self) -> None:
        """A plan that never ends reaches the bound on branches."""
        context = Planned()
        context.says(1)
        for number in range(1, rc.MAX_BRANCHES):
            self.assertEqual(context.gets(number, 486), "ASK")
            context.says(1)
        context.gets(rc.MAX_BRANCHES, 486)
        self.assertEqual(context.says(1), "FINAL 486, DONE")
