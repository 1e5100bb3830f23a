"""Phones that live by themselves in virtual time: they register, call, answer, refuse, give up, move and fall silent.

What one does next is thrown with the dice it is given, so that an hour comes out the same for the same seed. Each has
just enough of RFC 3261 s17 to live with lost packets: it repeats requests until they are answered, final responses to
INVITE until they are acknowledged, and answers a repeated request as it did the first time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from sipd.message.message import Message, Request, Response
from sipd.message.parser import parse
from tests.support.rig import Phone, Rig

#: What a phone that is called may do, and how often.
HABITS = {"answer": 40, "busy": 15, "decline": 5, "ring on": 12, "silent": 8, "redirect": 4, "drop dead": 6, "puzzled": 10}
_T1, _T2, _LIFE = 0.5, 4.0, 32.0
#: Transactions a robot remembers: those of many minutes.
_REMEMBERED = 200


@dataclass
class Asked:
    """A request of the robot's own."""

    request: Request
    done: Callable[[Response | None], None]
    provisional: bool = False
    over: bool = False
    tags: set[str] = field(default_factory=set)


@dataclass
class Served:
    """A request the robot received, with its last answer."""

    request: Request
    last: Response | None = None
    acknowledged: bool = False
    #: The phone lost power, for this call at least.
    dead: bool = False


@dataclass
class World:
    """What the robots of one hour share; `counts` tells what happened."""

    rig: Rig
    dice: Random
    names: list[str]
    #: Where a call may be redirected to.
    contacts: list[str]
    #: No robot begins anything new after this (seconds of the clock).
    until: float
    counts: Counter[str] = field(default_factory=Counter)

    def later(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> None:
        """Calls a function after a while."""
        self.rig.clock.callLater(seconds, function, *arguments)

    @property
    def over(self) -> bool:
        """True when nothing new is begun."""
        return self.rig.clock.seconds() >= self.until


class Robot:
    """One phone. `expires` is what it registers for (seconds); it refreshes in time, unless it is `careless`."""

    def __init__(self, world: World, name: str, transport: str, expires: int, careless: bool = False) -> None:
        self.world = world
        self.phone: Phone = world.rig.phone(name, transport=transport)
        self.expires = expires
        self.careless = careless
        self._asked: dict[tuple[str, str], Asked] = {}
        self._served: dict[tuple[str, str], Served] = {}
        self._call_id = f"reg-{self.phone.address}"
        self._cseq = 0
        end: Any = self.phone.connection or self.phone.endpoint
        end.on_receive = self._received
        world.later(world.dice.uniform(0, 20), self.register)
        world.later(world.dice.uniform(30, 90), self.live)

    # --- what it does of itself

    def register(self) -> None:
        """Registers, answers the challenge, and again before it runs out."""
        world = self.world
        if world.over:
            return
        self._cseq += 2
        self._ask(self.phone.request(
            "REGISTER", "sip:example.com", f"Expires: {self.expires}", to=f"<{self.phone.aor}>", cseq=self._cseq,
            call_id=self._call_id, contact=f"<{self.phone.contact}>;q={world.dice.choice(('1.0', '1.0', '0.5'))}",
            send=False), self._registered)
        world.later(self.expires * (1.3 if self.careless else 0.6), self.register)

    def _registered(self, response: Response | None) -> None:
        self.world.counts[f"REGISTER {response.status if response is not None else 'unanswered'}"] += 1

    def live(self) -> None:
        """One deed, then a pause."""
        world = self.world
        if world.over:
            return
        other = world.dice.choice(world.names)
        if world.dice.random() < 0.75:
            self.call(other)
        else:
            self._ask(self.phone.request("MESSAGE", f"sip:{other}@example.com", body=b"Hello", send=False), self._told)
        world.later(world.dice.uniform(20, 120), self.live)

    def _told(self, response: Response | None) -> None:
        self.world.counts[f"MESSAGE {response.status if response is not None else 'unanswered'}"] += 1

    def call(self, name: str) -> None:
        """Calls somebody and waits as long as its patience lasts."""
        self._ask(self.phone.invite(name, send=False), self._call_ended)

    def _lose_patience(self, asked: Asked) -> None:
        if asked.over or not asked.provisional:
            return
        # s9.1: the INVITE is forgotten when nothing comes of the CANCEL
        self.world.counts["given up"] += 1
        self._ask(self.phone.cancel(asked.request, send=False), lambda response: None)
        self.world.later(_LIFE + 10, self._forget_call, asked)

    def _forget_call(self, asked: Asked) -> None:
        if not asked.over:
            asked.over = True
            asked.done(None)

    def _call_ended(self, response: Response | None) -> None:
        """The first final response to an INVITE."""
        world = self.world
        world.counts[f"INVITE {response.status if response is not None else 'unanswered'}"] += 1
        if response is not None and response.status < 300:
            talk = world.dice.uniform(1, 90)
            world.later(talk, self._hang_up, response)

    def _hang_up(self, response: Response) -> None:
        self._ask(self.phone.in_dialog("BYE", response, send=False), self._hung_up)

    def _hung_up(self, response: Response | None) -> None:
        self.world.counts[f"BYE {response.status if response is not None else 'unanswered'}"] += 1

    # --- asking

    def _ask(self, request: Request, done: Callable[[Response | None], None]) -> None:
        assert request.via is not None
        asked = Asked(request, done)
        self._asked[(request.via.branch, request.method)] = asked
        self._repeat(asked, _T1)
        self.world.later(_LIFE, self._timeout, asked)
        _forget_oldest(self._asked)
        if request.method == "INVITE":
            self.world.later(self.world.dice.choice((0.3, 8.0, 45.0, 200.0)), self._lose_patience, asked)

    def _repeat(self, asked: Asked, interval: float) -> None:
        if asked.over or (asked.provisional and asked.request.method == "INVITE"):
            return
        self._send(asked.request)
        if self.phone.transport == "udp":
            longest = 64.0 if asked.request.method == "INVITE" else _T2
            self.world.later(interval, self._repeat, asked, min(2 * interval, longest))

    def _timeout(self, asked: Asked) -> None:
        if not asked.over and not (asked.provisional and asked.request.method == "INVITE"):
            asked.over = True
            asked.done(None)

    def _send(self, message: Message) -> None:
        connection = self.phone.connection
        if connection is None or connection.open:
            self.phone.send(message)
            if self.phone.transport == "udp" and self.world.dice.random() < 0.01:
                self.phone.send(message)  # the network may also deliver twice

    def _response(self, response: Response) -> None:
        assert response.via is not None
        asked = self._asked.get((response.via.branch, response.cseq_method))
        if asked is None:
            return
        if response.status < 200:
            asked.provisional = True
            return
        if response.cseq_method == "INVITE":
            self.phone.ack(response, asked.request)
            if response.status < 300 and asked.over and response.to_tag not in asked.tags:
                self._hang_up(response)  # s13.2.2.4: another branch answered too
            asked.tags.add(response.to_tag)
        if asked.over:
            return
        asked.over = True
        if response.status in (401, 407) and "authorization" not in asked.request.first \
                and "proxy-authorization" not in asked.request.first:
            self._ask(self.phone.authorized(asked.request, response, send=False), asked.done)
        else:
            asked.done(response)

    # --- being asked

    def _received(self, data: bytes) -> None:
        message = parse(data)
        if isinstance(message, Response):
            self._response(message)
        elif isinstance(message, Request):
            self._request(message)

    def _request(self, request: Request) -> None:
        assert request.via is not None
        branch, method = request.via.branch, request.method
        if method == "ACK":
            for served in self._served.values():
                if served.request.call_id == request.call_id and served.request.method == "INVITE":
                    self._acknowledged(served)
            return
        if method == "CANCEL" and (called := self._served.get((branch, "INVITE"))) is not None and called.dead:
            return
        served_before = self._served.get((branch, method))
        if served_before is not None:
            if served_before.last is not None:
                self._send(served_before.last)
            return
        served = self._served[(branch, method)] = Served(request)
        _forget_oldest(self._served)
        if method == "INVITE":
            self._called(served)
        elif method == "CANCEL":
            invite = self._served.get((branch, "INVITE"))
            self._answer(served, 200 if invite is not None else 481)
            if invite is not None and (invite.last is None or invite.last.status < 200):
                self._finish(invite, 487)
        elif self.world.dice.random() < 0.93:
            self._answer(served, 200)

    def _acknowledged(self, served: Served) -> None:
        last = served.last
        if not served.acknowledged and last is not None and last.status < 300 and self.world.dice.random() < 0.3:
            self.world.later(self.world.dice.uniform(1, 60), self._hang_up_as_callee, served.request, last)
        served.acknowledged = True

    def _hang_up_as_callee(self, invite: Request, answer: Response) -> None:
        self._ask(self.phone.in_callee_dialog("BYE", invite, answer, send=False), self._hung_up)

    def _answer(self, served: Served, status: int, *extra: str) -> None:
        if served.last is not None and served.last.status >= 200:
            return
        served.last = self.phone.answer(served.request, status, *extra, send=False)
        self._send(served.last)

    def _finish(self, served: Served, status: int, *extra: str) -> None:
        """A final response to an INVITE, repeated until the ACK (s13.3.1.4, s17.2.1)."""
        if served.last is None or served.last.status < 200:
            self._answer(served, status, *extra)
            self.world.later(_T1, self._insist, served, _T1, _T1)

    def _insist(self, served: Served, interval: float, age: float) -> None:
        if not served.acknowledged and age < _LIFE and served.last is not None:
            self._send(served.last)
            interval = min(2 * interval, _T2)
            self.world.later(interval, self._insist, served, interval, age + interval)

    def _called(self, served: Served) -> None:
        world = self.world
        habit = world.dice.choices(list(HABITS), list(HABITS.values()))[0]
        world.counts[habit] += 1
        if habit == "silent":
            return
        if habit == "puzzled":
            self._finish(served, world.dice.choice((404, 415, 480, 488, 500, 503)))
            return
        self._answer(served, world.dice.choice((100, 180)))
        if habit == "drop dead":
            served.dead = True
            return
        self.world.later(world.dice.uniform(0.1, 2.0), self._answer, served, 180)
        if habit == "answer":
            world.later(world.dice.uniform(0.5, 15), self._finish, served, 200)
        elif habit == "busy":
            world.later(world.dice.uniform(0.0, 5), self._finish, served, 486)
        elif habit == "decline":
            world.later(world.dice.uniform(0.0, 5), self._finish, served, 603)
        elif habit == "redirect":
            self._finish(served, 302, f"Contact: <{world.dice.choice(world.contacts)}>")
        elif habit == "ring on":
            world.later(250.0, self._finish, served, 480)


def _forget_oldest(transactions: dict[tuple[str, str], Any]) -> None:
    if len(transactions) > _REMEMBERED:
        del transactions[next(iter(transactions))]
