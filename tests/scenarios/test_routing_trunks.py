"""Routes to carriers on the real core: order, fail-over by cause, the dead passed over, time of day, who may (RFC 3261 s16.6)."""

from __future__ import annotations

import os
import time
from typing import Any

from sipd.message.message import Request
from tests.scenarios.test_routing import RoutingTestCase, diversions
from tests.support.rig import Phone, Rig

ONE, TWO = "203.0.113.1", "203.0.113.2"
PEERS = {"one": {"uri": f"sip:{ONE}"}, "two": {"uri": f"sip:{TWO}"}}
OUTSIDE = {"match": "^0(?P<number>[0-9]+)$", "rewrite": "{number}", "to": ["one", "two"]}


class TrunkTestCase(RoutingTestCase):
    """The office with two carriers."""

    def office(self, **settings: Any) -> Rig:
        """As before; the carriers are `one` and `two`."""
        settings.setdefault("peers", PEERS)
        settings.setdefault("routes", [OUTSIDE])
        rig = super().office(**settings)
        rig.core.call_out(rig.config)
        self.one, self.two = Phone(rig, "one", ONE, "udp", 5060, None), Phone(rig, "two", TWO, "udp", 5060, None)
        rig.phones += [self.one, self.two]
        return rig

    def over(self) -> None:
        """Nothing is left."""
        self.rig.core.hang_up(1.0)
        self.rig.finish()

    def called(self, carrier: Phone) -> Request:
        """The INVITE at a carrier, which says 100."""
        got: Request = carrier.take("INVITE")
        carrier.answer(got, 100)
        return got


class FailoverTests(TrunkTestCase):
    """`to` with two carriers."""

    def test_first_takes_it(self) -> None:
        """The number is rewritten; the second carrier hears nothing; Record-Route leads the dialog through us."""
        self.office()
        self.call("0123456")
        got = self.called(self.one)
        self.assertEqual(got.uri_text, f"sip:123456@{ONE}")
        self.assertEqual(diversions(got), [])
        self.answers(self.one, got)
        self.two.silent()
        self.over()

    def test_by_cause(self) -> None:
        """503, 500, 430 and challenges are the carrier's trouble; 404, 486 and 403 are said of the callee, or of us."""
        rig = self.office()
        for status in (500, 502, 503, 504, 430, 407, 401):
            self.call("0123")
            self.refuses(self.one, self.called(self.one), status)
            self.answers(self.two, self.called(self.two))
            rig.advance(60.0)
        for status in (404, 486, 403, 480, 484, 488, 300):
            invite = self.call("0123")
            self.refuses(self.one, self.called(self.one), status)
            self.hears(invite, status)
            self.two.silent()
            rig.advance(60.0)
        self.over()

    def test_causes_of_its_own(self) -> None:
        """`failover` says what counts: here busy, and nothing else."""
        self.office(routes=[{**OUTSIDE, "failover": ["busy", 404]}])
        self.call("0123")
        self.refuses(self.one, self.called(self.one), 486)
        self.answers(self.two, self.called(self.two))
        invite = self.call("0123")
        self.refuses(self.one, self.called(self.one), 500)
        self.hears(invite, 500)
        self.call("0123")
        self.refuses(self.one, self.called(self.one), 404)
        self.answers(self.two, self.called(self.two))
        self.over()

    def test_silence(self) -> None:
        """A carrier that says nothing at all is left after hop_timeout; when it comes to life it is cancelled."""
        rig = self.office()
        self.call("0123")
        late = self.one.take("INVITE")
        rig.advance(4.5)
        self.one.drain()
        got = self.called(self.two)
        self.one.answer(late, 180)
        self.caller.silent()
        self.one.cancelled(late)
        self.answers(self.two, got)
        self.over()

    def test_the_last_one_may_be_silent(self) -> None:
        """Where nobody else is left it has the time of its transaction (timer B)."""
        rig = self.office(routes=[{**OUTSIDE, "to": ["one"]}])
        invite = self.call("0123")
        rig.advance(30.0)
        self.one.drain()
        self.caller.silent()
        rig.advance(2.5)
        self.hears(invite, 408)
        self.over()

    def test_unreachable(self) -> None:
        """ICMP says that nobody is there: the other one is called at once."""
        rig = self.office()
        rig.network.icmp.add((ONE, 5060))
        self.call("0123")
        rig.advance(1.0)
        self.answers(self.two, self.called(self.two))
        self.one.drain()
        self.over()

    def test_failed_lately(self) -> None:
        """Who was silent is passed over for half a minute, without another wait; then it is tried again."""
        rig = self.office()
        self.call("0123")
        self.one.take("INVITE")
        rig.advance(4.5)
        self.answers(self.two, self.called(self.two))
        rig.advance(25.0)
        self.one.drain()
        self.call("0124")
        self.answers(self.two, self.called(self.two))
        self.one.silent()
        rig.advance(32.0)
        self.one.drain()
        self.call("0125")
        self.answers(self.one, self.called(self.one))
        self.over()

    def test_timeout(self) -> None:
        """`timeout` is how long each may ring."""
        rig = self.office(routes=[{**OUTSIDE, "timeout": 15.0}])
        self.call("0123")
        got = self.rings(self.one)
        rig.advance(15.5)
        self.one.cancelled(got)
        self.answers(self.two, self.called(self.two))
        self.over()

    def test_both_fail(self) -> None:
        """The caller hears the best answer, and a 503 as a 500 (s16.7 step 6)."""
        self.office()
        invite = self.call("0123")
        self.refuses(self.one, self.called(self.one), 503)
        self.refuses(self.two, self.called(self.two), 503)
        self.hears(invite, 500)
        self.over()

    def test_dead_are_passed_over(self) -> None:
        """A carrier that qualify found dead is not called; where all are dead each is tried."""
        rig = self.office()
        dead = {"one"}
        rig.core.trunks.silent = lambda name: name in dead
        self.call("0123")
        self.answers(self.two, self.called(self.two))
        self.one.silent()
        dead.add("two")
        self.call("0123")
        self.answers(self.one, self.called(self.one))
        self.over()

    def test_priority_and_weight(self) -> None:
        """Lower priorities first; among equals chance by weight, so that each comes first at times."""
        rig = self.office(routes=[{**OUTSIDE, "to": [{"peer": "one", "priority": 2}, {"peer": "two", "priority": 1}]}])
        self.call("0123")
        self.answers(self.two, self.called(self.two))
        self.over()
        rig = self.office(routes=[{**OUTSIDE, "to": [{"peer": "one", "priority": 1, "weight": 3},
                                                     {"peer": "two", "priority": 1, "weight": 1}]}])
        first = []
        for draw in (0.0, 0.74, 0.76, 0.99):
            rig.core.routing.router._world = rig.core.routing.router._world.at(time.localtime(0), lambda draw=draw: draw)
            self.call("0123")
            carrier = self.one if self.one.unread else self.two
            self.answers(carrier, self.called(carrier))
            first.append(carrier.name)
        self.assertEqual(first, ["one", "one", "two", "two"])
        self.over()

    def test_users_and_groups_in_turn(self) -> None:
        """A user who is not registered, then a group nobody of whom answers, then a carrier."""
        rig = self.office(routes=[{"match": "100", "to": ["1009", "sales", "one"]}],
                          groups={"sales": {"members": ["1002", "1003"], "timeout": 5.0}})
        self.call("100")
        a, b = self.rings(self.a), self.rings(self.b)
        rig.advance(5.5)
        self.a.cancelled(a)
        self.b.cancelled(b)
        got = self.called(self.one)
        self.assertEqual(got.uri_text, f"sip:100@{ONE}")
        self.answers(self.one, got)
        self.over()

    def test_forwarded_outside(self) -> None:
        """A forward to a number takes the route that the number takes; the carrier hears who was called."""
        self.office(forward={"1002": {"busy": "0555"}})
        self.call("1002")
        self.a.refuse(486)
        got = self.called(self.one)
        self.assertEqual((got.uri_text, diversions(got)),
                         (f"sip:555@{ONE}", ["<sip:1002@example.com>;reason=user-busy;counter=1"]))
        self.answers(self.one, got)
        self.over()

    def test_cancel_at_the_second(self) -> None:
        """s16.10: the caller gives up while the second carrier rings."""
        self.office()
        invite = self.call("0123")
        self.refuses(self.one, self.called(self.one), 503)
        got = self.rings(self.two)
        self.caller.cancel(invite)
        self.caller.take(200)
        self.two.cancelled(got)
        self.hears(invite, 487)
        self.over()


class ConditionTests(TrunkTestCase):
    """Which route is taken."""

    def setUp(self) -> None:
        os.environ["TZ"] = "UTC"
        time.tzset()

    def test_reject(self) -> None:
        """With a status and words."""
        self.office(routes=[{"match": "0900*", "reject": 403, "reason": "Not From Here"}, OUTSIDE])
        response = self.hears(self.call("0900123"), 403)
        self.assertEqual(response.reason, "Not From Here")
        self.call("0800")
        self.answers(self.one, self.called(self.one))
        self.over()

    def test_time_of_day(self) -> None:
        """The rig's clock begins on Friday 2027-01-15 at 08:00 UTC; at noon the other route holds."""
        rig = self.office(routes=[{"match": "100", "hours": "fri 08:00-12:00", "to": ["1002"]},
                                  {"match": "100", "to": ["1003"]}])
        self.call("100")
        self.answers(self.a, self.rings(self.a))
        for phone in (self.a, self.b):
            phone.register(expires=7200)
        rig.advance(4 * 3600.0 - 10.0, 600.0)
        for phone in (self.a, self.b):
            phone.drain()
            phone.register(expires=7200)
        self.call("100")
        self.answers(self.a, self.rings(self.a))
        rig.advance(60.0)
        self.call("100")
        self.answers(self.b, self.rings(self.b))
        self.over()

    def test_who_calls(self) -> None:
        """`caller` is the user part of From, `peer` who proved to be the sender."""
        rig = self.office(routes=[{"match": "100", "peer": "1002", "to": ["1003"]},
                                  {"match": "100", "caller": "55*", "to": ["1004"]},
                                  {"match": "100", "reject": 410}])
        self.hears(self.call("100"), 410)
        self.a.invite("100")
        self.a.take(100)
        got = self.b.take("INVITE")
        self.b.answer(got, 486)
        self.b.take("ACK")
        self.a.take(486)
        self.caller.invite("100", from_="<sip:5501@elsewhere.example>;tag=1")
        self.caller.take(100)
        self.answers(self.c, self.rings(self.c))
        rig.advance(40.0)
        self.a.drain()
        self.over()

    def test_rewritten_and_asked_again(self) -> None:
        """A route without `to` makes another number of it, for which the routes are asked again; a circle ends."""
        self.office(routes=[{"match": "^00(?P<rest>.*)$", "rewrite": "+{rest}"},
                                  {"match": "+49*", "rewrite": "{rest}", "to": ["one"]},
                                  {"match": "7", "rewrite": "8"}, {"match": "8", "rewrite": "7"},
                                  {"match": "9*", "rewrite": "{rest}", "to": ["one"]}])
        self.call("0049301")
        got = self.called(self.one)
        self.assertEqual(got.uri_text, f"sip:301@{ONE}")
        self.answers(self.one, got)
        self.hears(self.call("7"), 482)
        self.hears(self.call("9"), 484)
        self.over()

    def test_before_users(self) -> None:
        """A route comes before the user of that name."""
        self.office(routes=[{"match": "1002", "to": ["1003"]}])
        self.call("1002")
        self.answers(self.b, self.rings(self.b))
        self.over()

    def test_from_a_carrier(self) -> None:
        """What a carrier dials that is nobody's is for its `inbound_to`: a group, or whatever a route makes of it; and
        `peer` in a route is the carrier's name."""
        rig = self.office(
            groups={"sales": {"members": ["1002", "1003"]}}, peers={
                "one": {"uri": f"sip:{ONE}", "identify_by": ("address",), "addresses": (ONE,), "inbound_to": "sales"},
                "two": {"uri": f"sip:{TWO}", "identify_by": ("address",), "addresses": (TWO,), "inbound_to": "77"}},
            routes=[{"match": "77", "peer": "two", "to": ["1004"]}])
        for carrier, phones in ((self.one, (self.a, self.b)), (self.two, (self.c,))):
            self.caller = carrier
            carrier.invite("5551234", from_=f"<sip:0301@{carrier.address}>;tag=1")
            carrier.take(100)
            first, *others = [(phone, self.rings(phone)) for phone in phones]
            for phone, got in others:
                self.refuses(phone, got, 486)
            self.answers(*first)
        rig.advance(40.0)
        self.over()

    def test_nothing_for_it(self) -> None:
        """What nothing here is for goes as ever: to the phones, or 404."""
        self.office()
        self.call("1002")
        self.answers(self.a, self.rings(self.a))
        invite = self.caller.invite("7777")
        self.hears(invite, 404)
        self.over()

    def test_tenants_have_their_own(self) -> None:
        """A route is for the first domain, or for the one it names."""
        self.office(server={"domains": ["example.com"], "tenants": ["two.example"]},
                          routes=[{"match": "100", "domain": "two.example", "to": ["1003"]}, {"match": "100", "to": ["1002"]}])
        self.call("100")
        self.answers(self.a, self.rings(self.a))
        self.call("sip:100@two.example")
        self.answers(self.b, self.rings(self.b))
        self.over()
