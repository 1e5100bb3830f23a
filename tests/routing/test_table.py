"""Which route a call takes: forms, order, conditions, rewriting, and what it costs."""

from __future__ import annotations

import sys
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sipd.config_routing import RouteEntry
from sipd.routing.table import Query, Table

#: Monday, 2026-11-23, 09:30.
MONDAY = time.strptime("2026-11-23 09:30", "%Y-%m-%d %H:%M")


def table(*routes: dict[str, Any]) -> Table:
    """Routes as the configuration has them; without anything to do they refuse."""
    return Table([(place, RouteEntry(**({"reject": 403} if not {"to", "rewrite"} & set(route) else {}), **route))
                  for place, route in enumerate(routes)])


def query(called: str, caller: str = "1001", peer: str = "1001") -> Query:
    """A call on Monday morning."""
    return Query(called, caller, peer, MONDAY)


def place(routes: Table, called: str, **fields: str) -> int:
    """Which one is taken, -1 for none."""
    found = routes.find(query(called, **fields))
    return found.place if found is not None else -1


def steps(routes: Table, called: str) -> int:
    """Calls of Python functions that a look-up takes."""
    asked = query(called)
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        routes.find(asked)
    finally:
        sys.setprofile(None)
    return count


class FindTests(SynchronousTestCase):
    """The first route whose conditions all hold."""

    def test_forms(self) -> None:
        """Exact, prefix, pattern, expression; the first of them in the file, whatever its form."""
        routes = table({"match": "1001"}, {"match": "00*"}, {"match": "_9NXX."}, {"match": "^0[0-9]+$"}, {"match": "*"})
        for called, wanted in (("1001", 0), ("0049", 1), ("00", 1), ("92345", 2), ("91345", 4), ("9234", 4), ("0123", 3),
                               ("0x", 4), ("", 4)):
            self.assertEqual(place(routes, called), wanted, called)
        routes = table({"match": "^10"}, {"match": "10*"}, {"match": "1001"})
        self.assertEqual(place(routes, "1001"), 0)
        routes = table({"match": "1*"}, {"match": "10*"}, {"match": "1001"})
        self.assertEqual(place(routes, "1001"), 0)
        routes = table({"match": "100*"}, {"match": ["7", "1*"]}, {"match": "_X."})
        self.assertEqual([place(routes, called) for called in ("1001", "7", "12", "22", "2")], [0, 1, 1, 2, -1])

    def test_conditions(self) -> None:
        """Caller, peer and time, each of which lets the next route have it."""
        routes = table({"match": "1", "caller": "5*"}, {"match": "1", "peer": ["1002", "carrier"]},
                       {"match": "1", "hours": ["sat,sun", "mon-fri 18:00-20:00"]},
                       {"match": "1", "hours": "mon-fri 08:00-18:00"})
        self.assertEqual(place(routes, "1"), 3)
        self.assertEqual(place(routes, "1", caller="55"), 0)
        self.assertEqual(place(routes, "1", peer="carrier"), 1)

    def test_rewriting(self) -> None:
        """Named parts, what follows a prefix, what was called without its beginning; nothing callable is "". """
        for route, called, wanted in (
                ({"match": "^0(?P<n>[0-9]+)$", "rewrite": "+49{n}"}, "0301", "+49301"),
                ({"match": "^(?P<a>1)(?P<b>2)?$", "rewrite": "{a}-{b}-{caller}"}, "1", "1--1001"),
                ({"match": "00*", "rewrite": "+{rest}"}, "0049", "+49"),
                ({"rewrite": "{called:2}"}, "0049", "49"), ({"rewrite": "{called:9}"}, "0049", ""),
                ({"rewrite": "{called}" * 17}, "0049", ""), ({"rewrite": "{called} 1"}, "0049", "")):
            found = table(route).find(query(called))
            assert found is not None
            self.assertEqual(found.number, wanted)

    def test_patterns_see_short_names_only(self) -> None:
        """A name of more than 64 characters, or with anything unprintable in it, matches no pattern and no expression."""
        routes = table({"match": ["^1", "_X!", "_X."]}, {"match": "1*"})
        self.assertEqual([place(routes, name) for name in ("1" * 64, "1" * 65, "1\n", "1\x00", "1\udcff")], [0, 1, 1, 1, 1])

    def test_constant(self) -> None:
        """Exact names and prefixes take as much work among 200 routes as among 10, wherever they stand."""
        for kind in ("{}", "{}*"):
            few = table(*({"match": kind.format(2000 + number)} for number in range(10)))
            many = table(*({"match": kind.format(2000 + number)} for number in range(200)))
            self.assertGreater(steps(few, "2003"), 3)
            for called in ("2003", "2009"):
                self.assertEqual(steps(many, called), steps(few, called))
            self.assertEqual(steps(many, "2199"), steps(few, "2009"))
            self.assertEqual(place(many, "2199"), 199)
            self.assertEqual(steps(many, "3000"), steps(few, "3000"))

    def test_patterns_behind_are_not_tried(self) -> None:
        """What comes after the route that is found costs nothing either."""
        alone = table({"match": "^x"}, {"match": "2003"})
        followed = table({"match": "^x"}, {"match": "2003"}, *({"match": f"^{number}$"} for number in range(198)))
        self.assertLessEqual(abs(steps(followed, "2003") - steps(alone, "2003")), 1)

    @given(st.lists(st.fixed_dictionaries({
        "match": st.one_of(st.sampled_from(["1", "10", "100", "*", "1*", "10*", "0*", "_1X", "_X.", "^1", "^.0$", "^[0-9]+$"]),
                           st.lists(st.sampled_from(["1", "10*", "_1X!", "^0"]), min_size=1, max_size=3)),
        "caller": st.sampled_from([(), "5", "5*"]), "peer": st.sampled_from([(), "a", "^b"])}), max_size=8),
        st.text("015", max_size=4), st.sampled_from(["5", "6"]), st.sampled_from(["a", "b"]))
    def test_the_index_agrees(self, routes: list[dict[str, Any]], called: str, caller: str, peer: str) -> None:
        """What is looked up is what going through all routes one by one finds."""
        made = table(*routes)
        asked = query(called, caller, peer)
        last = next((place for place, _, why, _ in made.trace(asked) if not why), None)
        found = made.find(asked)
        self.assertEqual(found.place if found is not None else None, last)


class LoadTests(SynchronousTestCase):
    """What a large configuration costs."""

    def test_large(self) -> None:
        """500 peers and 200 routes: each route and each expression is read a few times, whatever their number."""
        from sipd.config import Config

        def load(routes: int) -> tuple[int, Config]:
            text = {
                "users": {str(1000 + number): {"password": "x"} for number in range(250)},
                "peers": {f"p{number}": {"uri": f"sip:192.0.2.{number % 250}:{5060 + number}"} for number in range(250)},
                "routes": [{"match": f"^0{1000 + number}(?P<n>[0-9]+)$", "to": [f"p{number}"], "rewrite": "{n}"}
                           for number in range(routes)],
            }
            count = 0

            def profile(frame: Any, event: str, argument: Any) -> None:
                nonlocal count
                count += event == "call"

            sys.setprofile(profile)
            try:
                config = Config.model_validate(text)
            finally:
                sys.setprofile(None)
            return count, config

        load(200)  # expressions are compiled once and kept
        few, many = load(100)[0], load(200)
        self.assertLess(many[0], 250_000)
        self.assertLess(many[0], 2.2 * few)
        made = Table(list(enumerate(many[1].routes)))
        self.assertEqual(place(made, "011993"), 199)
