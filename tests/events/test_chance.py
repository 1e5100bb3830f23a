"""Random calls, forks, cancels, pickups, lost NOTIFYs, lost BYEs and kills in between: at the end every lamp is off, and what
watchers were told came in order."""

from __future__ import annotations

import re
from random import Random
from typing import Any

from twisted.trial.unittest import TestCase

from sipd.calls.call import PICKED
from sipd.events import xml
from sipd.message.message import Request, Response
from sipd.records import MemoryRecords
from tests.events.watching import Watcher
from tests.support.cases import shows
from tests.support.network import Packet
from tests.support.rig import Phone, Rig

_NS = "{urn:ietf:params:xml:ns:dialog-info}"
_EVENTS = {"pickup": "*8", "pickup_groups": {"all": ["1001", "1002", "1003", "1004"]}}
#: What phones do, and how often.
_HABITS = ("answer", "answer", "answer", "refuse", "silent", "ring", "dead")


class Robot:
    """A phone that answers by itself, by chance."""

    def __init__(self, phone: Phone, dice: Random, mortal: bool) -> None:
        self.phone = phone
        #: Those who call live on: a caller that dies leaves calls that only a session timer would end.
        self.mortal = mortal
        self.dice = dice
        self.dead = False
        self.invites: dict[str, Request] = {}
        self.confirmed: list[Response] = []
        self.ended: set[str] = set()
        assert phone.endpoint is not None
        phone.endpoint.on_receive = self.received

    def received(self, data: bytes) -> None:
        """One message."""
        for message in self.phone.drain():
            if not self.dead:
                self._one(message)

    def _one(self, message: Any) -> None:
        phone, dice = self.phone, self.dice
        if isinstance(message, Response):
            if message.cseq_method == "INVITE" and 200 <= message.status < 300:
                phone.ack(message)
                self.confirmed.append(message)
                if message.call_id in self.ended:
                    phone.in_dialog("BYE", message)  # it crossed the CANCEL
            elif message.cseq_method == "INVITE" and message.status >= 300 and message.call_id in self.invites:
                phone.ack(message, self.invites[message.call_id])
        elif message.method == "INVITE":
            if message.call_id not in self.invites:
                self.invites[message.call_id] = message
                phone.answer(message, 180)
                habit = dice.choice(_HABITS if self.mortal else _HABITS[:-1])
                later = self.phone.rig.clock.callLater
                if habit == "answer":
                    later(dice.uniform(0.1, 8), self.finally_, message, 200)
                elif habit == "refuse":
                    later(dice.uniform(0.1, 5), self.finally_, message, dice.choice((486, 480, 603)))
                elif habit == "dead":
                    later(dice.uniform(0.1, 5), self.finally_, message, 200)
                    later(dice.uniform(5, 20), setattr, self, "dead", True)
                    later(dice.uniform(60, 90), setattr, self, "dead", False)
        elif message.method == "CANCEL":
            phone.answer(message, 200)
            invite = self.invites.get(message.call_id)
            if invite is not None:
                phone.answer(invite, 487)
        elif message.method != "ACK":
            phone.answer(message, 200)

    def finally_(self, invite: Request, status: int) -> None:
        """A final answer."""
        if not self.dead:
            self.phone.answer(invite, status)

    def call(self, callee: str) -> None:
        """Calls somebody; perhaps gives up, else hangs up some time."""
        invite = self.phone.invite(callee)
        self.invites[invite.call_id] = invite
        later = self.phone.rig.clock.callLater
        later(self.dice.uniform(1, 30), self.end, invite)

    def end(self, invite: Request) -> None:
        """BYE for what was answered, else CANCEL."""
        self.ended.add(invite.call_id)
        mine = [ok for ok in self.confirmed if ok.call_id == invite.call_id]
        for ok in mine:
            self.phone.in_dialog("BYE", ok)
        if not mine:
            self.phone.cancel(invite)


class ChanceTests(TestCase):
    """Users 1001 to 1004 call each other, two phones each; 1008 and 1009 watch them all."""

    @shows("SUB-15", "SUB-08", "SUB-25", "4235 3.7.1")
    def test_every_lamp_goes_out(self) -> None:
        """Twelve days of it."""
        self.moved = 0
        for seed in range(12):
            self.one_day(seed)
        self.assertGreater(self.moved, 5)

    def one_day(self, seed: int) -> None:
        """Some minutes of calls, a kill or two, then silence."""
        dice = Random(seed)
        records = MemoryRecords()
        rig = Rig(records=records, events=_EVENTS)
        robots = [Robot(rig.phone(f"100{1 + n % 4}"), dice, n > 3) for n in range(8)]
        for robot in robots:
            robot.phone.register()
        watchers = [Watcher(rig.phone(name), f"100{n}", "dialog") for name in ("1008", "1009") for n in (1, 2, 3, 4)]
        far = {watcher.phone.address for watcher in watchers}
        losing = dice.choice((0.0, 0.2, 0.5))

        def lost(packet: Packet) -> bool:
            return bool({packet.source[0], packet.target[0]} & far) and dice.random() < losing

        rig.network.drop = lost
        for _ in range(4):
            for _call in range(3):
                caller, callee = dice.sample(("1001", "1002", "1003", "1004"), 2)
                next(robot for robot in robots if robot.phone.name == caller and not robot.mortal).call(callee)
                if dice.random() < 0.4:
                    rig.advance(dice.uniform(0.3, 5), 0.05)
                    dice.choice(robots).call("*8")
                rig.advance(dice.uniform(1, 15), 0.25)
            self.moved += sum(1 for call in rig.core.calls.over() if call.why == PICKED)
            if dice.random() < 0.4:
                rig = self.killed(rig, records, robots, watchers)
                records = rig.core.events._records  # type: ignore[assignment]
        rig.advance(120.0, 0.25)
        rig.network.drop = None
        rig.advance(700.0, 0.5)
        self.assertEqual(list(rig.core.calls.live()), [], f"seed {seed}")
        for watcher in watchers:
            root = xml.read(watcher.last.body)
            lit = [one for one in root.children
                   if one.first(f"{_NS}state").text != "terminated"]  # type: ignore[union-attr]
            self.assertEqual(lit, [], f"seed {seed}: {watcher.body}")
            numbers = [one.cseq_number for one in watcher.notifies]
            versions = [int(re.findall(r'version="(\d+)" ', one.body.decode())[0]) for one in watcher.notifies]
            self.assertEqual(versions, sorted(set(versions)), f"seed {seed}")
            self.assertEqual(numbers, sorted(set(numbers)), f"seed {seed}")
        self.assertEqual(len(rig.core.events.notifier.watches.by_dialog), len(watchers), f"seed {seed}")
        self.assertEqual(rig.bugs, [])
        rig.core.events.notifier.stop()

    @staticmethod
    def killed(rig: Rig, records: MemoryRecords, robots: list[Robot], watchers: list[Watcher]) -> Rig:
        """The server is killed; the next one has its records. Phones register with it."""
        rig.core.events.notifier.stop()
        rig.network.servers.clear()
        rig.core.layer.clients.clear()
        rig.core.layer.servers.clear()
        after = Rig(records=MemoryRecords(dict(records.kept)), events=_EVENTS, clock=rig.clock, network=rig.network)
        for robot in robots:
            robot.phone.rig = after
            robot.phone.register(take=None)
        for watcher in watchers:
            watcher.phone.rig = after
        return after
