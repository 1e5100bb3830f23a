"""Groups, forwards and do-not-disturb on the real core (RFC 3261 s16.5 to s16.10, RFC 5806, RFC 7044)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from tests.support.rig import Phone, Rig


class RoutingTestCase(TestCase):
    """A caller, 1001, and phones that are registered: 1002 to 1004."""

    def office(self, **settings: Any) -> Rig:
        """The server with these sections, and its phones."""
        self.rig = Rig(**settings)
        self.caller, self.a, self.b, self.c = self.phones = [
            self.rig.phone(name) for name in ("1001", "1002", "1003", "1004")]
        for phone in (self.a, self.b, self.c):
            phone.register()
        return self.rig

    def call(self, number: str) -> Request:
        """The caller's INVITE, which is being worked on."""
        invite = self.caller.invite(number)
        self.caller.take(100)
        return invite

    def rings(self, phone: Phone) -> Request:
        """The INVITE at a phone, which rings."""
        got: Request = phone.take("INVITE")
        phone.answer(got, 180)
        self.caller.take(180)
        return got

    def answers(self, phone: Phone, got: Request) -> None:
        """The phone takes the call, which is over at once."""
        _, ok = phone.pick_up(got, self.caller)
        self.caller.hang_up(ok, phone)

    def refuses(self, phone: Phone, got: Request, status: int) -> None:
        """The phone does not take the call."""
        phone.answer(got, status)
        phone.take("ACK")

    def hears(self, invite: Request, status: int) -> Any:
        """What the caller is told in the end."""
        response = self.caller.take(status)
        self.caller.ack(response, invite)
        return response


def diversions(request: Request) -> list[str]:
    """Who was called before, the latest first, and why."""
    return request.values("diversion")


class GroupTests(RoutingTestCase):
    """[groups.NAME], called by name and by number."""

    def test_parallel(self) -> None:
        """All ring at once; who answers first has the call, the others stop."""
        rig = self.office(groups={"sales": {"members": ["1002", "1003"]}}, numbers={"500": "sales"})
        self.call("500")
        a, b = self.rings(self.a), self.rings(self.b)
        _, ok = self.a.pick_up(a, self.caller)
        self.b.cancelled(b)
        self.caller.hang_up(ok, self.a)
        rig.finish()

    def test_parallel_timeout(self) -> None:
        """After its time a group is over, for all together; nobody answered."""
        rig = self.office(groups={"sales": {"members": ["1002", "1003"], "timeout": 12.0}})
        invite = self.call("sales")
        a, b = self.rings(self.a), self.rings(self.b)
        rig.advance(11.5)
        self.a.silent()
        rig.advance(1.0)
        self.a.cancelled(a)
        self.b.cancelled(b)
        self.hears(invite, 408)
        rig.finish()

    def test_serial(self) -> None:
        """One after the other, each for its time; who is busy is passed over at once."""
        rig = self.office(groups={"sales": {"members": ["1002", "1003", "1004"], "strategy": "serial", "timeout": 10.0}})
        self.call("sales")
        self.a.refuse(486)
        b = self.rings(self.b)
        self.c.silent()
        rig.advance(10.5)
        self.b.cancelled(b)
        self.answers(self.c, self.rings(self.c))
        rig.finish()

    def test_serial_order_is_left_to_chance(self) -> None:
        """"random" rings one after the other too."""
        rig = self.office(groups={"sales": {"members": ["1002", "1003"], "strategy": "random"}})
        invite = self.call("sales")
        first, second = (self.a, self.b) if self.a.unread else (self.b, self.a)
        second.silent()
        first.refuse(486)
        second.refuse(486)
        self.hears(invite, 486)
        rig.finish()

    def test_by_q(self) -> None:
        """Members with the higher q ring first, whoever they are."""
        rig = self.office(groups={"sales": {"members": ["1002", "1003", "1004"], "strategy": "q", "timeout": 5.0}})
        self.a.register(contact=f"<{self.a.contact}>;q=0.3")
        self.b.register(contact=f"<{self.b.contact}>;q=0.9")
        self.c.register(contact=f"<{self.c.contact}>;q=0.3")
        self.call("sales")
        b = self.rings(self.b)
        self.a.silent()
        rig.advance(5.5)
        self.b.cancelled(b)
        self.a.refuse(486)
        self.answers(self.c, self.rings(self.c))
        rig.finish()

    def test_who_is_left_out(self) -> None:
        """Members who do not want to be disturbed or are not registered do not ring; their own forwards do not apply."""
        rig = self.office(groups={"sales": {"members": ["1002", "1003", "1009"]}},
                          forward={"1002": {"always": "1004"}, "1009": {"offline": "1004"}})
        rig.core.routing.forwards.disturb("1003@example.com", True)
        self.call("sales")
        self.answers(self.a, self.rings(self.a))
        rig.finish()

    def test_nobody_there(self) -> None:
        """A group nobody of whom is registered answers 480, one in which nobody wants to be disturbed 486."""
        rig = self.office(groups={"away": {"members": ["1008", "1009"]}, "quiet": {"members": ["1002", "1003"]}})
        for name in ("1002", "1003"):
            rig.core.routing.forwards.disturb(f"{name}@example.com", True)
        self.hears(self.call("away"), 480)
        self.hears(self.call("quiet"), 486)
        rig.finish()

    def test_several_at_one_number(self) -> None:
        """[numbers]: an alias, and two users with one number, who ring at once."""
        rig = self.office(numbers={"77": "1004", "88": ["1002", "1003"]})
        self.call("77")
        self.answers(self.c, self.rings(self.c))
        self.call("88")
        a, b = self.rings(self.a), self.rings(self.b)
        self.refuses(self.b, b, 486)
        self.answers(self.a, a)
        rig.finish()

    def test_cancel(self) -> None:
        """s16.10: the caller gives up in the middle; nobody else is called."""
        rig = self.office(groups={"sales": {"members": ["1002", "1003"], "strategy": "serial", "timeout": 10.0}})
        invite = self.call("sales")
        self.a.refuse(486)
        b = self.rings(self.b)
        self.caller.cancel(invite)
        self.caller.take(200)
        self.b.cancelled(b)
        self.hears(invite, 487)
        rig.finish()

    def test_declined_for_all(self) -> None:
        """s16.7 step 5: a 6xx ends the search."""
        rig = self.office(groups={"sales": {"members": ["1002", "1003"], "strategy": "serial"}})
        invite = self.call("sales")
        self.a.refuse(603)
        self.hears(invite, 603)
        rig.finish()

    def test_other_requests(self) -> None:
        """What is no call goes to all members, whatever they want for calls."""
        rig = self.office(groups={"sales": {"members": ["1002", "1003"]}})
        rig.core.routing.forwards.disturb("1002@example.com", True)
        self.caller.request("INFO", "sip:sales@example.com")
        self.a.answer(self.a.take("INFO"), 200)
        self.caller.take(200)
        self.b.answer(self.b.take("INFO"), 200)
        rig.finish()


class ForwardTests(RoutingTestCase):
    """[forward.NAME]: on busy, no answer, offline, always; chains, circles, and what the request says of it."""

    def test_busy(self) -> None:
        """486 goes on to the next, with a Diversion that says why; the one who answers has the call."""
        rig = self.office(forward={"1002": {"busy": "1003"}})
        self.call("1002")
        first = self.a.take("INVITE")
        self.assertEqual(diversions(first), [])
        self.refuses(self.a, first, 486)
        got = self.rings(self.b)
        self.assertEqual(diversions(got), ["<sip:1002@example.com>;reason=user-busy;counter=1"])
        self.assertEqual(got.values("history-info"), [
            "<sip:1002@example.com?Reason=SIP%3Bcause%3D486>;index=1", "<sip:1003@example.com;cause=486>;index=1.1;mp=1"])
        self.answers(self.b, got)
        self.assertIn("call-forwarded", [kind for kind, _ in rig.records])
        rig.finish()

    def test_no_answer(self) -> None:
        """It rings as long as no_answer_after says; then it stops and the next one rings."""
        rig = self.office(forward={"1002": {"no_answer": "1003", "no_answer_after": 8.0}})
        self.call("1002")
        a = self.rings(self.a)
        rig.advance(7.5)
        self.b.silent()
        rig.advance(1.0)
        self.a.cancelled(a)
        got = self.rings(self.b)
        self.assertEqual(diversions(got), ["<sip:1002@example.com>;reason=no-answer;counter=1"])
        self.answers(self.b, got)
        rig.finish()

    def test_offline(self) -> None:
        """Where nothing is registered, and where nobody can be reached (RFC 3261 s16.9)."""
        rig = self.office(forward={"1009": {"offline": "1003"}, "1002": {"offline": "1003"}})
        self.call("1009")
        got = self.rings(self.b)
        self.assertEqual(diversions(got), ["<sip:1009@example.com>;reason=unavailable;counter=1"])
        self.answers(self.b, got)
        self.call("1002")
        self.a.refuse(503)
        self.answers(self.b, self.rings(self.b))
        rig.finish()

    def test_silent_phones_are_offline(self) -> None:
        """A phone that says nothing at all is given up after hop_timeout where there is a forward for it; one that does not
        answer when it is asked is not called at all."""
        rig = self.office(forward={"1002": {"offline": "1003"}})
        self.call("1002")
        rig.advance(4.5)
        self.a.drain()
        got = self.rings(self.b)
        self.assertEqual(diversions(got), ["<sip:1002@example.com>;reason=unavailable;counter=1"])
        self.answers(self.b, got)
        rig.core.qualify.unreachable["1002@example.com", self.a.contact] = None
        self.call("1002")
        self.answers(self.b, self.rings(self.b))
        del rig.core.qualify.unreachable["1002@example.com", self.a.contact]
        rig.advance(30.0)
        self.a.drain()
        rig.finish()

    def test_always(self) -> None:
        """The phone does not ring at all."""
        rig = self.office(forward={"1002": {"always": "1003"}})
        self.call("1002")
        got = self.rings(self.b)
        self.assertEqual(diversions(got), ["<sip:1002@example.com>;reason=unconditional;counter=1"])
        self.answers(self.b, got)
        rig.finish()

    def test_chain(self) -> None:
        """Each forward is followed in its turn, the latest Diversion first, above one that the call came with."""
        rig = self.office(forward={"1009": {"offline": "1002"}, "1002": {"busy": "1003"}, "1003": {"no_answer": "1004",
                                                                                                 "no_answer_after": 5.0}})
        self.caller.invite("1009", "Diversion: <sip:x@elsewhere.example>;reason=unknown")
        self.caller.take(100)
        self.a.refuse(486)
        b = self.rings(self.b)
        rig.advance(5.5)
        self.b.cancelled(b)
        got = self.rings(self.c)
        self.assertEqual(diversions(got), [
            "<sip:1003@example.com>;reason=no-answer;counter=1", "<sip:1002@example.com>;reason=user-busy;counter=1",
            "<sip:1009@example.com>;reason=unavailable;counter=1", "<sip:x@elsewhere.example>;reason=unknown"])
        self.answers(self.c, got)
        rig.finish()

    def test_circle(self) -> None:
        """1002 to 1003 and back: both had their turn, and the caller hears that they are busy."""
        rig = self.office(forward={"1002": {"busy": "1003"}, "1003": {"busy": "1002"}})
        invite = self.call("1002")
        self.a.refuse(486)
        self.b.refuse(486)
        self.hears(invite, 486)
        rig.finish()

    def test_circle_of_nobody(self) -> None:
        """Forwards in a circle that never ring end with 482."""
        rig = self.office(forward={"1002": {"always": "1003"}, "1003": {"always": "1002"}, "1004": {"always": "1004"}})
        self.hears(self.call("1002"), 482)
        self.hears(self.call("1004"), 482)
        rig.finish()

    def test_too_often(self) -> None:
        """A call that was diverted five times already is not diverted again."""
        rig = self.office(forward={"1002": {"busy": "1003"}})
        invite = self.caller.invite("1002", "Diversion: <sip:x@elsewhere.example>;counter=3, <sip:y@elsewhere.example>;counter=2")
        self.caller.take(100)
        self.a.refuse(486)
        self.hears(invite, 486)
        rig.finish()

    def test_to_a_group_and_to_a_number(self) -> None:
        """Targets are groups, and numbers that are routed again."""
        rig = self.office(forward={"1009": {"offline": "sales"}, "1008": {"offline": "77"}},
                          groups={"sales": {"members": ["1002", "1003"]}}, numbers={"77": "1004"})
        self.call("1009")
        a, b = self.rings(self.a), self.rings(self.b)
        self.refuses(self.b, b, 486)
        self.answers(self.a, a)
        self.call("1008")
        self.answers(self.c, self.rings(self.c))
        rig.finish()

    def test_of_a_group(self) -> None:
        """A group is forwarded as a user is."""
        rig = self.office(forward={"sales": {"no_answer": "1004", "busy": "1004"}},
                          groups={"sales": {"members": ["1002"], "timeout": 6.0}})
        self.call("sales")
        a = self.rings(self.a)
        rig.advance(6.5)
        self.a.cancelled(a)
        self.answers(self.c, self.rings(self.c))
        rig.finish()

    def test_nobody_takes_it(self) -> None:
        """When the last one does not take it either, the caller hears the best answer there was."""
        rig = self.office(forward={"1002": {"busy": "1009"}})
        invite = self.call("1002")
        self.a.refuse(486)
        self.hears(invite, 486)
        rig.finish()

    def test_other_refusals(self) -> None:
        """What says neither busy, nor no answer, nor offline is the caller's."""
        rig = self.office(forward={"1002": {"busy": "1003", "no_answer": "1003", "offline": "1003"}})
        invite = self.call("1002")
        self.a.refuse(488)
        self.hears(invite, 488)
        rig.finish()

    def test_cancel_before_the_next(self) -> None:
        """The caller gives up while the second one rings."""
        rig = self.office(forward={"1002": {"busy": "1003"}, "1003": {"no_answer": "1004"}})
        invite = self.call("1002")
        self.a.refuse(486)
        b = self.rings(self.b)
        self.caller.cancel(invite)
        self.caller.take(200)
        self.b.cancelled(b)
        self.hears(invite, 487)
        rig.finish()


class DisturbTests(RoutingTestCase):
    """Do not disturb, and forwards, as they are set at run time."""

    def test_dnd(self) -> None:
        """486 without ringing, where no forward says otherwise; off again it rings."""
        rig = self.office()
        forwards = rig.core.routing.forwards
        forwards.disturb("1002@example.com", True)
        self.hears(self.call("1002"), 486)
        self.a.silent()
        forwards.set("1002@example.com", "busy", "1003")
        self.call("1002")
        got = self.rings(self.b)
        self.assertEqual(diversions(got), ["<sip:1002@example.com>;reason=do-not-disturb;counter=1"])
        self.answers(self.b, got)
        forwards.disturb("1002@example.com", False)
        forwards.set("1002@example.com", "busy", None)
        self.assertIsNone(rig.core.route.router)
        self.call("1002")
        self.answers(self.a, self.rings(self.a))
        rig.finish()

    def test_run_time_over_the_file(self) -> None:
        """What was set wins; "" is nowhere; taking it back brings the file's forward again."""
        rig = self.office(forward={"1002": {"busy": "1003"}})
        forwards = rig.core.routing.forwards
        forwards.set("1002@example.com", "busy", "1004")
        self.call("1002")
        self.a.refuse(486)
        self.answers(self.c, self.rings(self.c))
        forwards.set("1002@example.com", "busy", "")
        invite = self.call("1002")
        self.a.refuse(486)
        self.hears(invite, 486)
        forwards.set("1002@example.com", "busy", None)
        self.call("1002")
        self.a.refuse(486)
        self.answers(self.b, self.rings(self.b))
        rig.finish()
