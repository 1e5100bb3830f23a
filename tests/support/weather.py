"""Weather: a network in memory that loses datagrams, delivers them twice, holds them back and lets them overtake.

    rig.network.weather = Weather(Random(seed), loss=0.1, copies=0.05)

The same seed and the same packets make the same weather. What goes over a stream is only held back, each message behind
the one before it.
"""

from __future__ import annotations

from random import Random

from tests.support.network import Packet


class Weather:
    """How each packet fares. `loss`, `copies` and `late` are shares of all datagrams; a packet takes `fast` to `slow`
    seconds, a late one up to `held` seconds."""

    def __init__(self, dice: Random, *, loss: float = 0.0, copies: float = 0.0, late: float = 0.0, fast: float = 0.001,
                 slow: float = 0.05, held: float = 3.0) -> None:
        self._dice = dice
        self._loss = loss
        self._copies = copies
        self._late = late
        self._fast = fast
        self._slow = slow
        self._held = held
        #: When the last message on its way over each stream arrives.
        self._arrival: dict[tuple[tuple[str, int], tuple[str, int]], float] = {}

    def __call__(self, packet: Packet) -> tuple[float, ...]:
        """After how many seconds each copy arrives; empty when the packet is lost."""
        chance = self._dice.random
        if packet.transport != "udp":
            way = (packet.source, packet.target)
            # never two in one instant, so that it can be told which of them caused what
            arrival = max(packet.at + self._some(), self._arrival.get(way, 0.0) + 1e-5)
            self._arrival[way] = arrival
            return (arrival - packet.at,)
        if chance() < self._loss:
            return ()
        if chance() < self._copies:
            return (self._some(), self._some())
        return (self._some(),)

    def _some(self) -> float:
        dice = self._dice
        longest = self._held if self._late and dice.random() < self._late else self._slow
        return self._fast + (longest - self._fast) * dice.random()
