"""Picking up calls whose caller could do nothing with Replaces: the call is moved. On the real core in virtual time."""

from __future__ import annotations

import re
from typing import Any

from twisted.trial.unittest import TestCase

from sipd.calls import cdr
from sipd.calls.call import Call
from sipd.calls.history import tell
from sipd.message.message import Request, Response
from tests.events.test_dialogs import dialogs
from tests.events.watching import Watcher
from tests.support.cases import shows
from tests.support.rig import Phone, Rig

OUTSIDE = "198.51.100.7"
GROUPS = {"office": ["1002", "1003", "1004"]}
ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'


class MovedTestCase(TestCase):
    """Somebody outside calls 1002, whose phone rings; 1003 wants the call, and 1004 too."""

    def make(self, **settings: Any) -> None:
        """A server; the phones of three colleagues."""
        events = {"pickup": "*8", "pickup_groups": GROUPS, **settings.pop("events", {})}
        self.rig = Rig(events=events, **settings)
        self.a = self.rig.phone("outside", OUTSIDE)
        self.b, self.c, self.d = (self.rig.phone(name) for name in ("1002", "1003", "1004"))
        for phone in (self.b, self.c, self.d):
            phone.register()

    def call(self, number: str = "1002", *extra: str, caller: str = "+4930123@carrier.example") -> Request:
        """The INVITE as sent, on its way."""
        self.invite = self.a.invite(number, *extra, from_=f"<sip:{caller}>;tag=out")
        self.a.take(100)
        return self.invite

    def rings(self, phone: Phone) -> Request:
        """The INVITE at a phone, which rings."""
        got: Request = phone.take("INVITE")
        phone.answer(got, 180)
        self.a.take(180)
        return got

    def record(self) -> Call:
        """The call from outside."""
        call, = (call for call in (*self.rig.core.calls.live(), *self.rig.core.calls.over())
                 if call.call_id == self.invite.call_id)
        return call

    def asks(self, phone: Phone, dialled: str = "*8", *extra: str) -> Response:
        """A phone picks up: its INVITE ends so that it says nothing of a failure, and it is let go a moment."""
        invite = phone.invite(dialled if ":" in dialled else f"sip:{dialled}@example.com", *extra)
        phone.take(100)
        ended: Response = phone.take(487)
        self.assertEqual((ended.reason, ended.first["reason"]), ("Picked Up", 'Q.850;cause=16;text="Normal Clearing"'))
        phone.ack(ended, invite)
        phone.silent()
        return ended

    def comes(self, phone: Phone) -> Request:
        """The call from outside, at the phone that picked it up."""
        self.rig.advance(0.3, 0.1)
        got: Request = phone.take("INVITE")
        self.assertEqual((got.call_id, got.from_tag), (self.invite.call_id, self.invite.from_tag))
        return got

    def refused(self, phone: Phone, status: int, dialled: str = "*8", *extra: str) -> None:
        """A phone picks up in vain."""
        invite = phone.invite(dialled if ":" in dialled else f"sip:{dialled}@example.com", *extra)
        response = phone.take()
        if response.status == 100:
            response = phone.take()
        self.assertEqual(response.status, status)
        phone.ack(response, invite)

    def refuses(self, phone: Phone, got: Request, status: int) -> None:
        """A phone does not take the call."""
        phone.answer(got, status)
        phone.take("ACK")

    def stops(self, phone: Phone, got: Request, reason: str = ELSEWHERE) -> None:
        """A phone is told to stop ringing, and why."""
        cancel = phone.take("CANCEL")
        self.assertEqual(cancel.first.get("reason", ""), reason)
        phone.answer(cancel, 200)
        phone.answer(got, 487)
        phone.take("ACK")

    def talks(self, phone: Phone, got: Request, *others: tuple[Phone, Request]) -> None:
        """A phone answers, all others stop ringing, and the two talk and end it."""
        _, ok = phone.pick_up(got, self.a)
        for other, rang in others:
            self.stops(other, rang)
        self.a.hang_up(ok, phone)

    def replaces(self) -> str:
        """What a lamp has of the first dialog of the call."""
        tag = self.record().dialogs[0].tag
        return f"Replaces: {self.invite.call_id};to-tag={self.invite.from_tag};from-tag={tag};early-only"

    def story(self) -> str:
        """What `sipctl call` tells of the call from outside."""
        return "\n".join(text for _, text in tell(self.record()))


class MovedTests(MovedTestCase):
    """One call, one picks it up."""

    @shows("SUB-26", "3891 7.1", "3326 2")
    def test_by_number(self) -> None:
        """The code alone, or with a colleague's number, brings a call from outside to the phone that dialled it, which is
        asked to answer by itself; the colleague's rings on until then, and hears that it was taken. Records and history
        tell so."""
        for dialled in ("*8", "*81002"):
            self.make()
            self.call()
            rang = self.rings(self.b)
            self.asks(self.c, dialled)
            self.b.silent()
            got = self.comes(self.c)
            self.assertEqual(got.first["call-info"], "<sip:example.com>;answer-after=0")
            self.assertEqual(got.first["alert-info"], "<sip:example.com>;info=alert-autoanswer;delay=0")
            self.assertEqual(got.first["answer-mode"], "Auto")
            self.assertEqual(got.body, rang.body)
            self.assertNotIn("call-info", rang.first)
            self.b.silent()
            self.talks(self.c, got, (self.b, rang))
            told = cdr.record(self.record())
            self.assertEqual((told["result"], told["called"], told["answered_by"], told["branches"]),
                             ("answered", "1002", "1003", 2))
            asked = cdr.record(next(call for call in self.rig.core.calls.over() if call.caller == "1003"))
            self.assertEqual((asked["result"], asked["status"], asked["reason"]),
                             ("picked up", 487, "it picked up another call"))
            self.assertIn("1003@example.com picks it up: the call goes to the phone that asked for it", self.story())
            self.rig.finish()

    @shows("SUB-26", "4235 4.1.6.2", "3891 7.1")
    def test_by_lamp(self) -> None:
        """What a lamp tells of a call from outside leads here and picks it up; the lamp of who rang goes out, that of who
        took it is lit until the end."""
        self.make()
        lamps = {name: Watcher(self.rig.phone("1005"), name, "dialog") for name in ("1002", "1003")}
        self.rig.advance(2.0)
        self.call()
        rang = self.rings(self.b)
        self.rig.advance(1.5)
        body = lamps["1002"].body
        found = re.search(r'call-id="([^"]+)" local-tag="([^"]+)" remote-tag="([^"]+)"', body)
        target = re.search(r'<remote>.*<target uri="([^"]+)"/>', body)
        assert found is not None and target is not None
        self.assertEqual(target[1], "sip:1002@example.com")
        replaces = f"Replaces: {found[1]};to-tag={found[3]};from-tag={found[2]};early-only"
        self.asks(self.d, target[1], replaces, "Require: replaces")
        got = self.comes(self.d)
        self.assertNotIn("replaces", got.first)
        self.d.answer(got, 486)
        self.d.take("ACK")
        self.asks(self.c, target[1], replaces, "Require: replaces")
        got = self.comes(self.c)
        self.c.answer(got, 100)
        self.rig.advance(1.5)
        self.assertEqual([one[0] for one in dialogs(lamps["1002"].body)], ["early"])
        self.assertEqual([one[0] for one in dialogs(lamps["1003"].body) if one[0] != "terminated"], ["trying"])
        _, ok = self.c.pick_up(got, self.a)
        self.stops(self.b, rang)
        self.rig.advance(1.5)
        self.assertEqual(dialogs(lamps["1002"].body), [("terminated", "cancelled", "recipient")])
        self.assertEqual([one[0] for one in dialogs(lamps["1003"].body) if one[0] != "terminated"], ["confirmed"])
        # it talks now: what the lamp told is worth nothing any more
        self.refused(self.d, 486, target[1], replaces, "Require: replaces")
        self.a.hang_up(ok, self.c)
        self.rig.advance(1.5)
        for lamp in lamps.values():
            self.assertEqual([one for one in dialogs(lamp.body) if one[0] != "terminated"], [])
            lamp.end()
        self.rig.finish()

    @shows("SUB-26", "3891 6.2")
    def test_a_user_without_replaces(self) -> None:
        """A caller of our own whose phone does not say that it knows Replaces is served like one from outside, by number
        and by lamp; one whose phone does say so gets the Replaces."""
        for supported, moved in (("Supported: timer, 100rel", True), ("Supported: timer,  Replaces", False)):
            self.make()
            self.a = self.rig.phone("1001")
            self.a.register()
            invite = self.call("1002", supported, caller="1001@example.com")
            rang = self.rings(self.b)
            if moved:
                self.refused(self.a, 404, "*81002")  # it is calling already
                self.asks(self.c)
                got = self.comes(self.c)
                self.c.answer(got, 480)
                self.c.take("ACK")
                self.asks(self.d, "sip:1001@example.com", self.replaces())
                self.talks(self.d, self.comes(self.d), (self.b, rang))
            else:
                picking = self.c.invite("sip:*8@example.com")
                self.c.take(100)
                asked = self.a.take("INVITE")
                self.assertIn(invite.call_id, asked.first["replaces"])
                self.a.answer(asked, 486)
                self.a.take("ACK")
                self.c.ack(self.c.take(486), picking)
                self.talks(self.b, rang)
            self.rig.finish()

    @shows("SUB-26", "3891 8")
    def test_who_may(self) -> None:
        """Who is in no group with who is called, and may not watch them, gets no call from outside, by number or tags; nor
        does anybody whom no phone of his own is registered for."""
        self.make(events={"watch": "self"})
        self.call()
        rang = self.rings(self.b)
        stranger = self.rig.phone("1005")
        stranger.register()
        self.refused(stranger, 404)
        self.refused(stranger, 403, "*81002")
        self.refused(stranger, 403, "1002", self.replaces())
        unregistered = self.rig.phone("1004")
        self.d.register(expires=0)
        self.refused(unregistered, 480)
        self.talks(self.b, rang)
        self.rig.finish()

    @shows("SUB-26")
    def test_rings(self) -> None:
        """Where it is configured so, the phone rings, and its user takes the call when he likes; his phone is the one of
        two that dialled."""
        self.make(events={"pickup_auto_answer": False})
        other = self.rig.phone("1003")
        other.register()
        self.call()
        rang = self.rings(self.b)
        self.asks(self.c)
        got = self.comes(self.c)
        other.silent()
        for name in ("call-info", "alert-info", "answer-mode"):
            self.assertNotIn(name, got.first)
        self.c.answer(got, 180)
        self.a.take(180)
        self.rig.advance(15.0)
        self.talks(self.c, got, (self.b, rang))
        self.rig.finish()

    @shows("SUB-26")
    def test_of_a_carrier(self) -> None:
        """A carrier's call, where users prove who they are: of two phones behind one NAT, each on a connection of its
        own, the one that dialled is called, over that connection; what both sides say later passes by here."""
        self.rig = Rig(auth={"required": True}, events={"pickup": "*8", "pickup_groups": GROUPS},
                       peers={"carrier": {"uri": f"sip:{OUTSIDE}:5060", "identify_by": ["address"]}})
        self.rig.core.call_out(self.rig.config)
        self.a = self.rig.phone("carrier", OUTSIDE)
        self.b = self.rig.phone("1002", "192.0.2.52")
        self.rig.binding("1002", "sip:1002@192.0.2.52:5060")
        other, self.c = (self.rig.phone("1003", "10.0.0.7", "tcp", port, source=("192.0.2.53", port))
                         for port in (4001, 4002))
        for phone in (other, self.c):
            register = phone.request("REGISTER", "sip:example.com", to=f"<{phone.aor}>", contact=f"<{phone.contact}>")
            phone.authorized(register, phone.take(401))
            phone.take(200)
        self.call()
        rang = self.rings(self.b)
        asking = self.c.invite("sip:*8@example.com")
        asking = self.c.prove(asking)
        self.c.take(100)
        self.c.ack(self.c.take(487), asking)
        got = self.comes(self.c)
        self.assertIn("record-route", got.first)
        self.talks(self.c, got, (self.b, rang))
        told = cdr.record(self.record())
        self.assertEqual((told["caller"], told["answered_by"]), ("carrier", "1003"))
        self.rig.core.hang_up(0.1)
        self.rig.finish()


class RaceTests(MovedTestCase):
    """What happens at the same time."""

    @shows("SUB-26")
    def test_the_colleague_is_faster(self) -> None:
        """Who answers before the call has come to the phone that picks it up has it, and that phone is left alone; one
        that rings already is told why it stops. Once it is answered there is nothing to pick up."""
        self.make(events={"pickup_auto_answer": False})
        self.call()
        rang = self.rings(self.b)
        self.asks(self.c)
        self.rig.advance(0.1)
        self.talks(self.b, rang)
        self.rig.advance(1.0)
        self.c.silent()
        self.call()
        rang = self.rings(self.b)
        self.asks(self.c)
        got = self.comes(self.c)
        self.c.answer(got, 180)
        self.a.take(180)
        self.talks(self.b, rang, (self.c, got))
        self.call()
        self.b.answer(self.rings(self.b), 200)
        ok = self.a.take(200)
        self.a.ack(ok)
        self.b.take("ACK")
        self.refused(self.c, 404)
        self.a.hang_up(ok, self.b)
        self.rig.finish()

    @shows("SUB-26", "16.10")
    def test_the_caller_gives_up(self) -> None:
        """Then nobody rings any more, whether the call has come to the second phone yet or not."""
        for seconds in (0.1, 0.3):
            self.make()
            self.call()
            rang = self.rings(self.b)
            self.asks(self.c)
            self.rig.advance(seconds, 0.1)
            got = self.c.take("INVITE") if seconds > 0.2 else None
            if got is not None:
                self.c.answer(got, 180)
                self.a.take(180)
            self.a.cancel(self.invite)
            self.a.take(200)
            self.stops(self.b, rang, "")
            if got is not None:
                self.stops(self.c, got, "")
            self.rig.advance(0.3, 0.1)
            self.a.ack(self.a.take(487), self.invite)
            self.c.silent()
            self.assertEqual(cdr.record(self.record())["result"], "cancelled")
            self.rig.finish()

    @shows("SUB-26", "3891 3")
    def test_two_at_once(self) -> None:
        """The first has it; the second is told that there is nothing, or takes another call; when the first does not take
        it after all, the second may."""
        self.make()
        self.call()
        rang = self.rings(self.b)
        self.asks(self.c)
        self.refused(self.d, 404)
        got = self.comes(self.c)
        self.refused(self.d, 404)
        self.refused(self.d, 486, "1002", self.replaces())
        self.c.answer(got, 486)
        self.c.take("ACK")
        self.asks(self.d)
        self.talks(self.d, self.comes(self.d), (self.b, rang))
        self.assertEqual(cdr.record(self.record())["answered_by"], "1004")
        self.rig.finish()

    @shows("SUB-26", "16.7")
    def test_not_taken(self) -> None:
        """Whatever the phone says that picked it up, or if it says nothing, the call rings on, and the caller hears what
        was said where it was called; also where that came first."""
        for status in (302, 404, 480, 486, 500, 503, 603, 0):
            for first in (False, True):
                self.make(proxy={"ring_timeout": 8})
                self.call()
                rang = self.rings(self.b)
                self.asks(self.c)
                got = self.comes(self.c)
                if first:
                    self.b.answer(rang, 486)
                    self.b.take("ACK")
                    self.a.silent()
                if status:
                    self.c.answer(got, status, "Contact: <sip:1009@192.0.2.99>")
                    self.c.take("ACK")
                else:
                    self.c.answer(got, 180)
                    self.a.take(180)
                    self.rig.advance(8.5)
                    self.stops(self.c, got, "")
                if not first:
                    self.b.silent()
                    self.rig.advance(30.0)
                    self.b.answer(rang, 486)
                    self.b.take("ACK")
                self.a.ack(self.a.take(486), self.invite)
                self.assertEqual(cdr.record(self.record())["result"], "busy")
                self.rig.finish()

    @shows("SUB-26", "16.7")
    def test_a_dead_phone(self) -> None:
        """A phone that has gone is given up without a CANCEL, and may be tried again."""
        self.make(proxy={"ring_timeout": 8})
        self.call()
        rang = self.rings(self.b)
        self.asks(self.c)
        self.rig.advance(9.0)
        self.assertTrue(all(one.method == "INVITE" for one in self.c.drain() if isinstance(one, Request)))
        self.asks(self.d)
        self.talks(self.d, self.comes(self.d), (self.b, rang))
        self.rig.finish()

    @shows("SUB-26", "16.7")
    def test_forks(self) -> None:
        """A call that rings at many places is taken from all of them; not by a phone where it rings already, which would
        refuse it."""
        self.make(groups={"sales": {"members": ["1002", "1005"]}}, numbers={"500": "sales"},
                  events={"pickup_groups": {"office": ["1002", "1003", "1005"]}})
        second, other = self.rig.phone("1002"), self.rig.phone("1005")
        second.register()
        other.register()
        self.call("500")
        rang = [(phone, self.rings(phone)) for phone in (self.b, second, other)]
        self.refused(other, 404)
        self.refuses(*rang.pop(0), 486)
        self.refused(self.c, 481, "1002", self.replaces())  # that one rings no more
        self.asks(self.c)
        self.talks(self.c, self.comes(self.c), *rang)
        self.assertEqual(cdr.record(self.record())["branches"], 4)
        self.rig.finish()

    @shows("SUB-26", "16.7")
    def test_serial_group(self) -> None:
        """While somebody picks a call up its steps wait: who answers late still has it; where nobody does, the next one
        of the group is called as it would have been."""
        for taken in (True, False):
            self.make(groups={"sales": {"members": ["1002", "1005"], "strategy": "serial", "timeout": 10}},
                      numbers={"500": "sales"}, proxy={"ring_timeout": 8}, events={"pickup_auto_answer": False})
            other = self.rig.phone("1005")
            other.register()
            self.call("500")
            rang = self.rings(self.b)
            self.rig.advance(6.0)
            self.asks(self.c)
            got = self.comes(self.c)
            self.c.answer(got, 180)
            self.a.take(180)
            self.rig.advance(6.0)
            for phone in (self.b, other):
                phone.silent()
            if taken:
                self.talks(self.c, got, (self.b, rang))
            else:
                self.c.answer(got, 603)
                self.c.take("ACK")
                self.rig.advance(1.0)
                self.stops(self.b, rang, "")
                self.talks(other, self.rings(other))
            self.rig.finish()

    @shows("SUB-26", "16.7")
    def test_forwarded_when_nobody_answers(self) -> None:
        """A colleague's forward follows when neither the colleague nor who picked the call up takes it, and that second
        stage can be picked up again."""
        self.make(forward={"1002": {"no_answer": "1005", "no_answer_after": 10}}, proxy={"ring_timeout": 8},
                  events={"pickup_groups": {"office": ["1002", "1003", "1004", "1005"]}})
        other = self.rig.phone("1005")
        other.register()
        self.call()
        rang = self.rings(self.b)
        self.rig.advance(9.0)
        self.asks(self.c)
        got = self.comes(self.c)
        self.c.answer(got, 180)
        self.a.take(180)
        self.rig.advance(8.5)
        self.stops(self.c, got, "")
        self.rig.advance(1.0)
        self.stops(self.b, rang, "")
        rang = self.rings(other)
        self.asks(self.d)
        self.talks(self.d, self.comes(self.d), (other, rang))
        self.assertIn("nobody took it in time", self.story())
        self.rig.finish()

    @shows("SUB-26")
    def test_restart(self) -> None:
        """A server that starts in between knows of no call that rings: nothing can be picked up, nothing is left, and
        what the phone answers goes nowhere, as with every call."""
        self.make()
        self.call()
        self.rings(self.b)
        self.asks(self.c)
        got = self.comes(self.c)
        old = self.rig
        self.rig = Rig(events={"pickup": "*8", "pickup_groups": GROUPS}, clock=old.clock)
        c = self.rig.phone("1003", self.c.address)
        c.register()
        self.refused(c, 404)
        c.answer(got, 200)
        self.rig.finish()
