"""An hour of phones in virtual time, and what is left of it: nothing."""

from __future__ import annotations

import gc
from collections import Counter
from random import Random

from twisted.trial.unittest import TestCase

from sipd.proxy.branch import Branch
from sipd.proxy.forwarding import Forwarding
from sipd.transaction.layer import ClientTransaction, ServerTransaction
from tests.support.network import Packet
from tests.support.rig import Rig
from tests.support.robot import Robot, World

_HOUR = 3600.0
#: The longest a binding, a nonce or a call of the robots may outlive the hour (seconds).
_AFTERWARDS = 3 * 3600.0
#: Tables that an hour like this must have used, or it shows nothing.
_USED = ("client transactions", "server transactions", "requests being forwarded", "addresses-of-record",
         "expiry seconds", "nonces-young")


class Hour(TestCase):
    """Twenty phones of eight users, on three transports, over a network that loses and repeats datagrams."""

    def hour(self, seed: int, loss: float, authentication: bool) -> World:
        """Lives the hour and looks at what is left."""
        rig = Rig(auth={"required": authentication}, proxy={"recurse": True, "ring_timeout": 15.0},
                  registrar={"min_expires": 30}, calls={"max_duration": 7200})
        rig.network.delay = 0.015
        dice = Random(seed)
        losing = Random(seed + 1)

        def lost(packet: Packet) -> bool:
            return packet.transport == "udp" and losing.random() < loss

        rig.network.drop = lost
        names = [f"100{n}" for n in range(1, 9)]
        world = World(rig, dice, [*names, "1009"], [], _HOUR)  # nobody has the phone of 1009
        for index in range(20):
            transport = ("udp", "udp", "udp", "tcp", "tls")[index % 5]
            robot = Robot(world, names[index * 5 % 8], transport, dice.choice((60, 300, 600)), careless=index % 7 == 0)
            world.contacts.append(robot.phone.contact)
        most = self.run_until(rig, _HOUR)
        self.assertEqual([name for name in _USED if not most[name] and (authentication or "nonces" not in name)], [])
        most |= self.run_until(rig, _HOUR + _AFTERWARDS)
        self.nothing_left(rig)
        return world

    def run_until(self, rig: Rig, end: float) -> Counter[str]:
        """Goes from one pending call of the clock to the next; returns the most entries each table had."""
        clock, most = rig.clock, Counter[str]()
        look_again = 0.0
        while calls := clock.getDelayedCalls():
            now = clock.seconds()
            due = min(call.getTime() for call in calls) if len(calls) < 3 else calls[0].getTime()
            if due > end:
                break
            clock.advance(max(0.0, due - now))
            if due >= look_again:
                look_again = due + 1.0
                for table in rig.inventory:
                    self.assertLessEqual(len(table), table.limit)
                    most[table.name] = max(most[table.name], len(table))
            del rig.network.packets[:-200]
        return most

    def nothing_left(self, rig: Rig) -> None:
        """Every table of the inventory is empty, the wheel and the clock have nothing to do, and no object lives on."""
        self.assertEqual(rig.bugs, [])
        for table in rig.inventory:
            if not table.cache:
                self.assertEqual(len(table), 0, f"{table.name}: {list(table.items())[:3]}\n{rig.ladder()}")
            self.assertEqual(table.refused, 0, table.name)
        self.assertEqual(len(rig.core.wheel), 0)
        self.assertEqual(rig.clock.getDelayedCalls(), [])
        for flow in rig.transports.flows.values():
            self.assertFalse(flow.users, f"{flow.id} still has somebody waiting")
        gc.collect()
        alive = [thing for thing in gc.get_objects()
                 if (isinstance(thing, (ClientTransaction, ServerTransaction)) and thing._layer is rig.core.layer)
                 or (isinstance(thing, Forwarding) and thing.proxy is rig.core.proxy)
                 or (isinstance(thing, Branch) and thing.forwarding.proxy is rig.core.proxy)]
        self.assertEqual(alive, [])

    def happened(self, world: World) -> None:
        """The hour was one: everything the robots may do was done, and no call went without an answer."""
        counts = world.counts
        for what in ("INVITE 200", "INVITE 302", "INVITE 486", "INVITE 487", "INVITE 603", "INVITE 408", "INVITE 480",
                     "given up", "MESSAGE 200", "MESSAGE 480", "BYE 200", "REGISTER 200"):
            self.assertGreater(counts[what], 0, f"no {what} in {counts}")
        self.assertGreater(sum(number for what, number in counts.items() if what.startswith("INVITE ")), 300)
        self.assertEqual(counts["REGISTER unanswered"], 0, counts)
        self.assertEqual(sum(number for what, number in counts.items() if what.startswith(("INVITE 401", "INVITE 403"))),
                         0, counts)

    def test_hour(self) -> None:
        """Datagrams arrive, some of them twice; users give credentials: every call has an end that somebody was told."""
        world = self.hour(1, 0.0, True)
        self.happened(world)
        self.assertEqual(world.counts["INVITE unanswered"], 0, world.counts)

    def test_hour_of_loss(self) -> None:
        """One datagram of twenty is lost."""
        world = self.hour(2, 0.05, True)
        self.happened(world)
        self.assertEqual(world.counts["INVITE unanswered"], 0, world.counts)

    def test_hour_of_much_loss(self) -> None:
        """Four of ten are lost, and nobody gives credentials: little works, and nothing is left of it either."""
        world = self.hour(3, 0.4, False)
        self.assertGreater(world.counts["INVITE 200"], 0)
