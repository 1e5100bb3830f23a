"""The router: whom a plan is made for, and that what is explained is what is done."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sipd.config import Config
from sipd.inventory import Inventory
from sipd.journal import Journal
from sipd.message.message import Request
from sipd.message.parser import parse
from sipd.message.uri import Uri
from sipd.proxy.targets import Groups, Stage, Target
from sipd.routing.explain import Step
from sipd.routing.forwards import Forwards
from sipd.routing.router import Router
from sipd.routing.rules import World

USERS = ("1001", "1002", "1003", "1004")
MOMENT = time.strptime("2026-11-23 09:30", "%Y-%m-%d %H:%M")


def lines(steps: Iterable[Step]) -> list[str]:
    """An explanation as text."""
    return [f"{'  ' * step.depth}{step.text}" for step in steps]


def invite(called: str, *extra: str) -> Request:
    """A call of 1001."""
    request = parse("\r\n".join([
        f"INVITE sip:{called}@example.com SIP/2.0", "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1",
        "From: <sip:1001@example.com>;tag=1", f"To: <sip:{called}@example.com>", "Call-ID: c", "CSeq: 1 INVITE",
        "Max-Forwards: 70", *extra, "Content-Length: 0", "", ""]).encode())
    assert isinstance(request, Request)
    return request


class Office:
    """A router whose world is made up: 1004 is not registered, `down` are carriers that are dead."""

    def __init__(self, down: tuple[str, ...] = (), **sections: Any) -> None:
        self.down = set(down)
        self.asked: list[str] = []
        world = World(self.bindings, lambda name, number: Target(f"sip:{number}@{name}.example"),
                      lambda name: name in self.down, lambda name: 0,
                      lambda aor: aor.partition("@")[0] in USERS, lambda: False, self.aor, lambda: 0.3, lambda: MOMENT)
        self.forwards = Forwards("", Inventory())
        self.router = Router(world, self.forwards, "example.com", Journal())
        sections.setdefault("peers", {"one": {"uri": "sip:one.example"}, "two": {"uri": "sip:two.example"}})
        self.router.configure(Config(users={user: {"password": "x"} for user in USERS}, **sections), None)

    @staticmethod
    def aor(uri: Uri) -> str:
        """All users are at one domain."""
        return f"{uri.user}@{uri.host}" if uri.host == "example.com" else ""

    def bindings(self, aor: str, secure: bool) -> Groups:
        """One phone each."""
        self.asked.append(aor)
        user = aor.partition("@")[0]
        return [[Target(f"sip:{user}@192.0.2.1")]] if user in USERS[:3] else []

    def follow(self, called: str, *statuses: int) -> list[list[str]]:
        """The URIs of each stage of the plan, which is told these statuses; the end is its status."""
        plan = self.router.plan(invite(called), f"{called}@example.com", "1001@example.com")
        assert plan is not None
        told: list[Stage | None] = []
        for status in (0, *statuses):
            plan.next(status, told.append)
        return [[target.uri for group in stage.groups for target in group] or [str(stage.status)]
                if stage is not None else ["end"] for stage in told]


class PlanTests(SynchronousTestCase):
    """Whom there is a plan for."""

    def test_untouched(self) -> None:
        """Who is neither in a route nor forwarded goes as ever; nobody is looked up for that."""
        office = Office(routes=[{"match": "0*", "to": ["one"]}], forward={"1002": {"busy": "1003"}})
        for called in ("1001", "7777"):
            self.assertIsNone(office.router.plan(invite(called), f"{called}@example.com"))
        self.assertIsNone(office.router.plan(invite("0123", "Supported: x").copy(), "0123@other.example"))
        self.assertEqual(office.asked, [])
        in_dialog = invite("0123")
        in_dialog.set("to", "<sip:0123@example.com>;tag=9")
        self.assertIsNone(office.router.plan(parse(in_dialog.encode()), "0123@example.com"))  # type: ignore[arg-type]
        self.assertFalse(Office().router.active)

    def test_lazy(self) -> None:
        """Bindings are looked up when somebody's turn comes."""
        office = Office(forward={"1002": {"busy": "1003"}, "1003": {"busy": "1001"}})
        self.assertEqual(office.follow("1002"), [["sip:1002@192.0.2.1"]])
        self.assertEqual(office.asked, ["1002@example.com"])

    def test_emergency(self) -> None:
        """Numbers that skip limits."""
        office = Office(routing={"emergency": ["112"]})
        self.assertEqual([office.router.is_emergency(number) for number in ("112", "1122", "")], [True, False, False])

    def test_leads_inside(self) -> None:
        """Who may call our users alone may call numbers that lead to them, and none that leads to a carrier."""
        office = Office(routes=[{"match": "5", "to": ["1001", "sales"]}, {"match": "6", "to": ["1001", "one"]},
                                {"match": "7", "to": ["mixed"]}, {"match": "8*", "rewrite": "{rest}"},
                                {"match": "9", "caller": "1", "to": ["one"]}, {"match": "9", "to": ["1001"]}],
                        groups={"sales": {"members": ["1002"]}, "mixed": {"members": ["1002", "two"]}},
                        numbers={"50": "1001", "60": ["1001", "two"]})
        inside = [number for number in ("5", "6", "7", "8", "88", "9", "sales", "mixed", "50", "60", "77")
                  if office.router.leads_inside(number)]
        self.assertEqual(inside, ["5", "sales", "50"])

    def test_all_dead(self) -> None:
        """The dead are passed over, unless there is nobody else."""
        routes = [{"match": "0*", "to": ["one", "two"]}]
        self.assertEqual(Office(("one",), routes=routes).follow("01", 503), [["sip:01@two.example"], ["end"]])
        self.assertEqual(Office(("one", "two"), routes=routes).follow("01", 503, 503),
                         [["sip:01@one.example"], ["sip:01@two.example"], ["end"]])

    def test_nobody_twice(self) -> None:
        """s16.5: whoever had a turn has no other one, as a member or by a forward."""
        office = Office(forward={"1002": {"no_answer": "all"}}, groups={"all": {"members": ["1001", "1002", "1003"]}})
        self.assertEqual(office.follow("1002", 408, 408),
                         [["sip:1002@192.0.2.1"], ["sip:1001@192.0.2.1", "sip:1003@192.0.2.1"], ["end"]])

    def test_had_a_turn_is_not_offline(self) -> None:
        """Whoever had a turn is passed over, which is another thing than not being registered."""
        office = Office(routes=[{"match": "5", "to": ["1002", "1003"]}], forward={
            "1003": {"busy": "1002"}, "1002": {"offline": "1001"}})
        self.assertEqual(office.follow("5", 408, 486), [["sip:1002@192.0.2.1"], ["sip:1003@192.0.2.1"], ["end"]])

    def test_circles_end_at_once(self) -> None:
        """They are recognized, not only counted."""
        office = Office(forward={"1002": {"always": "1003"}, "1003": {"always": "1002"}})
        self.assertEqual(lines(office.router.explain("1001", "1002")), [
            "1002 is forwarded to 1003 (unconditional)", "1003 is forwarded to 1002 (unconditional)",
            "1002 was met before on this way: it leads in a circle", "answered 482 Loop Detected"])

    def test_mistakes_of_ours(self) -> None:
        """A bug here answers 500 and is recorded."""
        office = Office(routes=[{"match": "0*", "to": ["one"]}])
        records: list[str] = []
        office.router._journal.sinks.append(lambda kind, fields: records.append(f"{kind} {fields['reason']}"))
        plan = office.router.plan(invite("01"), "01@example.com")
        assert plan is not None
        office.router._rules.trunks = None  # type: ignore[assignment]
        told: list[Any] = []
        plan.next(0, told.append)
        self.assertEqual((told[0].status, records[0][:13]), (500, "bug Traceback"))
        self.assertIn("plan.py", records[0])


#: Sections that lead into each other in every way.
_TARGETS = st.sampled_from(["1001", "1002", "1003", "1004", "sales", "07", "9"])
_TO = st.sampled_from(["1001", "1002", "1004", "sales", "one", "two"])
_FORWARD = st.fixed_dictionaries({}, optional={
    "always": _TARGETS, "busy": _TARGETS, "no_answer": _TARGETS, "offline": _TARGETS})
_SECTIONS = st.fixed_dictionaries({
    "routes": st.lists(st.one_of(
        st.fixed_dictionaries({"match": st.sampled_from(["0*", "9", "1002", "*"]), "to": st.lists(_TO, min_size=1, max_size=3)},
                              optional={"timeout": st.sampled_from([5.0, 0.0]),
                                        "failover": st.sampled_from([("busy",), ("4xx", "5xx")])}),
        st.just({"match": "9", "rewrite": "07"}), st.just({"match": "07", "reject": 410})), max_size=3),
    "groups": st.fixed_dictionaries({"sales": st.fixed_dictionaries({
        "members": st.lists(st.sampled_from(["1001", "1002", "1003", "1004", "one"]), min_size=1, max_size=3, unique=True),
        "strategy": st.sampled_from(["parallel", "serial", "q", "random"])})}),
    "forward": st.dictionaries(st.sampled_from(["1001", "1002", "1003", "sales"]), _FORWARD, max_size=3),
    "down": st.sampled_from([(), ("one",), ("one", "two")]),
})


class ExplainTests(SynchronousTestCase):
    """`sipctl route test`."""

    maxDiff = None

    def test_words(self) -> None:
        """A whole explanation, as it is shown."""
        office = Office(routes=[{"match": "1*", "peer": "1004", "reject": 403}, {"name": "night", "match": "1002",
                                                                               "hours": "mon 18:00-20:00", "to": ["1001"]},
                                {"name": "outside", "match": "^0(?P<n>.+)$", "rewrite": "{n}", "to": ["one", "two"]}],
                        forward={"1002": {"busy": "055", "offline": "1004"}}, down=("one",))
        self.assertEqual(lines(office.router.explain("1001", "1002")), [
            "route 1 is not taken: 1001 is not one of the peers 1004",
            "route 2 (night) is not taken: it is not mon 18:00-20:00",
            "route 3 (outside) is not taken: 1002 does not match ^0(?P<n>.+)$",
            "calls 1002: sip:1002@192.0.2.1",
            "  busy:",
            "    1002 is forwarded to 055 (user-busy)",
            "    route 1 is not taken: 055 does not match 1*",
            "    route 2 (night) is not taken: 055 does not match 1002",
            "    route 3 (outside) is taken: 055 matches ^0(?P<n>.+)$",
            "    {n} makes 55",
            "    one is passed over: it does not answer, or refuses us",
            "    calls two with 55: sip:55@two.example",
            "  no answer:",
            "    nobody else is tried; the caller hears the best answer there was",
            "  cannot be reached:",
            "    1002 is forwarded to 1004 (unavailable)",
            "    nothing is registered for 1004",
            "    nobody else is tried; the caller hears the best answer there was",
        ])
        self.assertEqual(lines(office.router.explain("1001", "7777"))[-2:],
                         ["there is nobody called 7777", "answered 404 Not Found"])
        self.assertEqual(lines(office.router.explain("9", "1002", "1004"))[1:], ["refused with 403", "answered 403 Forbidden"])
        evening = time.strptime("2026-11-23 18:30", "%Y-%m-%d %H:%M")
        self.assertIn("route 2 (night) is taken: 1002 matches 1002",
                      lines(office.router.explain("1001", "1002", moment=evening)))

    def test_long_ones_end(self) -> None:
        """A group of sixty that rings one after the other is explained in lines that people can read."""
        office = Office(groups={"all": {"members": [f"10{number}" for number in range(60)], "strategy": "serial"}})
        self.assertLess(len(office.router.explain("1001", "all")), 310)

    @settings(max_examples=60, deadline=None)
    @given(_SECTIONS, st.sampled_from(["1001", "1002", "1004", "sales", "07", "9", "5"]),
           st.lists(st.sampled_from([486, 408, 503]), max_size=6))
    def test_it_is_what_happens(self, sections: dict[str, Any], called: str, statuses: list[int]) -> None:
        """Every stage of a plan stands in the explanation, in its order, whatever the answers; and both end."""
        office = Office(**sections)
        request = invite(called)
        plan = office.router.plan(request, f"{called}@example.com", "1001@example.com")
        steps = office.router.explain("1001", called)
        self.assertTrue(steps)
        if plan is None:
            return
        told: list[Stage | None] = []
        answers = iter(statuses)
        plan.next(0, told.append)
        depth = 0
        explained = list(steps)
        while told[-1] is not None and told[-1].groups:
            uris = [target.uri for group in told[-1].groups for target in group]
            place = next((at for at, step in enumerate(explained) if step.depth == depth and step.text.startswith("calls ")
                          and [uri for uri in step.text.replace(",", " ").split() if uri.startswith("sip:")] == uris), None)
            self.assertIsNotNone(place, (uris, lines(explained)))
            assert place is not None
            status = next(answers, 0)
            if not status:
                return
            explained = _branch(explained[place + 1:], depth, {486: "busy", 408: "no answer", 503: "cannot be reached"}[status])
            depth += 2
            if not explained:
                depth = -1  # whatever comes of it, nobody else is tried
            plan.next(status, told.append)
        if told[-1] is not None and depth == 0:
            self.assertTrue(any(step.text.startswith(f"answered {told[-1].status} ") for step in steps), lines(steps))


def _branch(steps: list[Step], depth: int, word: str) -> list[Step]:
    """What follows after an answer: the lines below the heading that names it."""
    found: list[Step] = []
    inside = False
    for step in steps:
        if step.depth <= depth:
            break
        if step.depth == depth + 1:
            inside = word in step.text.rstrip(":").split(" or ")
        elif inside:
            found.append(step)
    return found
