"""Requests that go where a plan says, stage after stage, on the real core (RFC 3261 s16.6 to s16.10)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import TestCase

from sipd.calls.call import Call
from sipd.message.message import Request
from sipd.proxy.targets import Plan, Stage, Target
from tests.support.rig import Phone, Rig


class Steps:
    """A plan that says these stages one after the other; None among them answers later, by `later`."""

    def __init__(self, *stages: Stage | None) -> None:
        self.stages = list(stages)
        self.asked: list[int] = []
        self.later: list[Callable[[Stage | None], None]] = []

    def next(self, status: int, done: Callable[[Stage | None], None]) -> None:
        """See Plan."""
        self.asked.append(status)
        stage = self.stages.pop(0) if self.stages else Stage([])
        if stage is None:
            self.later.append(done)
        else:
            done(stage if stage.groups or stage.status else None)


class ToPlan:
    """Routing that has this plan for everything."""

    def __init__(self, plan: Steps) -> None:
        self._plan = plan

    def plan(self, request: Request, aor: str, caller: str = "", call: Call | None = None) -> Plan | None:
        """See Router."""
        return self._plan


def to(*phones: Phone, patience: float = 0.0, headers: tuple[tuple[str, str], ...] = ()) -> Stage:
    """A stage that calls these phones together."""
    group = [Target(phone.contact) for phone in phones]
    for target in group:
        target.headers = headers
    return Stage([group], patience)


class PlannedCalls(TestCase):
    """A caller and phones that the location service knows nothing of."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.caller, self.one, self.two = (self.rig.phone(name) for name in ("1001", "1002", "1003"))

    def planned(self, *stages: Stage | None) -> Steps:
        """Makes these the plan of every request."""
        plan = Steps(*stages)
        self.rig.core.route.router = ToPlan(plan)
        return plan

    def test_busy_then_another(self) -> None:
        """Who is called second has the fields of the plan, and the whole breadth."""
        plan = self.planned(to(self.one), to(self.two, headers=(("Diversion", "<sip:1002@example.com>;counter=1"),)))
        self.caller.invite("1002")
        self.one.refuse(486)
        invite = self.two.take("INVITE")
        self.assertEqual(invite.get("diversion"), "<sip:1002@example.com>;counter=1")
        self.assertEqual(invite.get("max-breadth"), "60")
        self.two.answer(invite, 200)
        self.caller.take(100)
        self.caller.ack(self.caller.take(200))
        self.two.take("ACK")
        self.assertEqual(plan.asked, [0, 486])
        self.rig.finish()

    def test_nobody_answers(self) -> None:
        """After the patience of the stage its phone is cancelled and the next one rings, however late the 487 comes."""
        plan = self.planned(to(self.one, patience=15.0), to(self.two))
        self.caller.invite("1002")
        first = self.one.take("INVITE")
        self.one.answer(first, 180)
        self.rig.advance(14.0)
        self.two.silent()
        self.rig.advance(1.5)
        self.one.take("CANCEL")
        self.two.answer(self.two.take("INVITE"), 486)
        self.assertEqual(plan.asked, [0, 408, 486])
        self.caller.take(100)
        self.caller.take(180)
        self.caller.silent()
        self.one.answer(first, 487)
        self.caller.take(486)

    def test_it_thinks_and_the_caller_gives_up(self) -> None:
        """A plan that has to ask somebody: the caller has the 100, may cancel, and what the plan says later is
        nothing."""
        plan = self.planned(None)
        invite = self.caller.invite("1002")
        self.caller.take(100)
        self.caller.cancel(invite)
        self.caller.take(200)
        self.caller.ack(self.caller.take(487), invite)
        plan.later[0](to(self.one))
        self.one.silent()
        self.rig.finish()

    def test_it_thinks_for_ever(self) -> None:
        """A plan that never answers does not keep the call for ever."""
        plan = self.planned(None)
        invite = self.caller.invite("1002")
        self.caller.take(100)
        self.rig.advance(33.0)
        self.caller.ack(self.caller.take(408), invite)
        plan.later[0](to(self.one))
        self.one.silent()
        self.rig.finish()

    def test_it_refuses(self) -> None:
        """A status of the plan goes back with its words."""
        self.planned(Stage([], status=403, reason="Not At This Hour"))
        invite = self.caller.invite("1002")
        self.caller.take(100)
        response = self.caller.take(403)
        self.assertEqual(response.reason, "Not At This Hour")
        self.caller.ack(response, invite)
        self.rig.finish()

    def test_too_many_places(self) -> None:
        """RFC 5393 s5.3.3: more targets than the request may be sent to."""
        self.planned(to(self.one, self.two))
        invite = self.caller.invite("1002", "Max-Breadth: 1")
        self.caller.take(100)
        self.caller.ack(self.caller.take(440), invite)
        self.one.silent()
        self.rig.finish()
