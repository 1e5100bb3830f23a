"""One call by chance: a server, a caller, up to six phones, weather, and what may go wrong; all from one seed."""

from __future__ import annotations

from functools import lru_cache
from random import Random

from twisted.internet.task import Clock

from sipd.message.errors import MalformedMessage
from sipd.message.hop import Hop
from tests.support.network import MemoryFlow, MemoryNetwork
from tests.support.parties import Ask, Dialog, Party, Stage
from tests.support.plain import Plain, read
from tests.support.rig import SERVER, Rig
from tests.support.weather import Weather

_LISTEN = (("udp", SERVER, 5060), ("tcp", SERVER, 5060))
#: No call lives longer than this (seconds): timers C of some forks one after the other, and two transactions' ends.
_LONGEST = 2000.0


class RecordingNetwork(MemoryNetwork):
    """Keeps what the server sent, what reached it, and when, each with its flow, in the order in which it happened."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.sent: list[tuple[float, Plain, MemoryFlow]] = []
        self.arrived: list[tuple[float, Plain, MemoryFlow]] = []

    def from_server(self, flow: MemoryFlow, data: bytes) -> None:
        """See MemoryNetwork."""
        self.sent.append((self.clock.seconds(), read(data), flow))
        super().from_server(flow, data)


class RandomCall:
    """A play from one seed. `rig.core.layer.receive` is wrapped: what arrives is recorded."""

    def __init__(self, seed: int) -> None:
        self.dice = dice = Random(seed)
        clock = Clock()
        self.network = network = RecordingNetwork(clock)
        self.timer_c = dice.choice((20.0, 60.0, 190.0))
        self.recurse = dice.random() < 0.4
        self.ring_timeout = dice.choice((2.0, 4.0, 20.0))
        self.rig = rig = Rig(
            listen=_LISTEN, clock=clock, network=network, users={}, registrar={"open": True},
            proxy={"recurse": self.recurse, "ring_timeout": self.ring_timeout,
                   "hop_timeout": dice.choice((1.0, 2.0, 4.0)), "record_route": dice.random() < 0.9},
            timers={"c": self.timer_c}, calls={"max_duration": 600})
        receive = rig.core.layer.receive

        def arrived(data: bytes, flow: MemoryFlow, lost: MalformedMessage | None = None) -> None:
            network.arrived.append((clock.seconds(), read(data), flow))
            receive(data, flow, lost)

        rig.transports.receive = arrived
        #: When each connection broke (seconds), by flow id.
        self.broken: dict[str, float] = {}
        self._forget = rig.transports.forget
        rig.transports.forget = self._broke  # type: ignore[method-assign]
        network.weather = self._weather()
        self.stage = Stage(network, dice, (SERVER, 5060))
        self.caller = Party(self.stage, "1001", "192.0.2.10", dice.choice(("udp", "udp", "tcp")), self._way_back())
        self.caller.habits = ["answer"] * 3
        self._groups: set[int] = set()
        #: Contacts of 1002 that need no connection.
        self.datagram_contacts: set[str] = set()
        self._phones()
        #: There may be another group to try after the first.
        self.serial = self.recurse or len(self._groups) > 1
        self._accidents()
        self.method = "INVITE" if dice.random() < 0.9 else dice.choice(("MESSAGE", "OPTIONS", "FOO"))

    def _weather(self) -> Weather:
        dice = self.dice
        kind = dice.random()
        if kind < 0.35:
            return Weather(dice)
        if kind < 0.6:
            return Weather(dice, loss=0.1, copies=0.1, late=0.1, held=1.0)
        if kind < 0.85:
            return Weather(dice, copies=0.3, late=0.3, slow=0.2, held=4.0)
        return Weather(dice, loss=0.35, copies=0.1, late=0.1, held=4.9)  # T4 at most

    def _way_back(self) -> str:
        return self.dice.choice(("accept", "accept", "refuse", "blackhole"))

    def _phones(self) -> None:
        """The contacts of 1002, in groups by q; sometimes one of many hops, another user, or the callee itself."""
        dice = self.dice
        for number in range(dice.choice((1, 1, 2, 2, 3, 4))):
            self._phone("1002", 20 + number)
        if dice.random() < 0.15:
            for number in (1, 2, 3)[:dice.randint(1, 3)]:
                phone = Party(self.stage, "gw", f"192.0.2.{80 + number}", "udp")
                if dice.random() < 0.25:
                    self.network.icmp.add((phone.address, 5060))
                self.rig.dns.srv("_sip._udp.gw.example.net", number, 0, 5060, f"h{number}.example.net")
                self.rig.dns.address(f"h{number}.example.net", phone.address)
            self.rig.dns.delay = dice.choice((0.0, 0.2))
            self.rig.binding("1002", "sip:gw@gw.example.net", q=self._q())
        if dice.random() < 0.07:
            self.rig.binding("1002", "sip:1003@example.com", q=self._q())
            self._phone("1003", 40)
        if dice.random() < 0.02:
            self.rig.binding("1002", "sip:1002@example.com", q=self._q())

    def _phone(self, user: str, host: int) -> None:
        dice = self.dice
        phone = Party(self.stage, user, f"192.0.2.{host}", dice.choice(("udp", "udp", "tcp")), self._way_back())
        flow = "" if phone.connection is None else phone.connection.flow.id
        self.rig.binding(user, phone.contact, q=self._q(), flow=flow, source=Hop(phone.transport, phone.address, 5060))
        if phone.transport == "udp" and user == "1002":
            self.datagram_contacts.add(phone.contact)
        if phone.transport == "udp" and dice.random() < 0.03:
            self.network.icmp.add((phone.address, 5060))

    def _q(self) -> int:
        q = self.dice.choice((1000, 1000, 500, 100))
        self._groups.add(q)
        return q

    def _accidents(self) -> None:
        dice, stage = self.dice, self.stage
        for party in stage.parties:
            if party.connection is not None and dice.random() < 0.2:
                stage.later(dice.uniform(0, 12), party.break_connection)
        if dice.random() < 0.02:
            stage.later(dice.uniform(0, 6), self.caller.die)

    def _broke(self, flow: MemoryFlow) -> None:
        self.broken[flow.id] = self.rig.clock.seconds()
        self._forget(flow)

    # --- the play

    def play(self) -> None:
        """From the call to the last timer. Raises AssertionError when there is no last timer."""
        dice, stage, clock = self.dice, self.stage, self.rig.clock
        head = (f"From: <sip:1001@example.com>;tag=f1\r\nTo: <sip:1002@example.com>\r\nCall-ID: c1@192.0.2.10\r\n"
                f"Contact: <{self.caller.contact}>")
        ask = Ask(self.caller, self.method, "sip:1002@example.com", head, _body(dice.random() < 0.04), self._answered)
        ask.mute = dice.random() < 0.03
        ask.old = dice.random() < 0.05
        self.ask = ask
        ask.send(1)
        if self.method == "INVITE" and dice.random() < 0.3 or dice.random() < 0.02:
            stage.later(dice.choice((0.01, 0.1, 0.4, 1.1, 3.1, dice.uniform(0, 30))), self._give_up, 0)
        calls, wheel = clock.calls, self.rig.core.wheel
        while stage.waiting or len(wheel) or len(calls) > 1:  # the one left looks for expired bindings
            due = calls[0].getTime()
            if due > _LONGEST:
                raise AssertionError(f"no end: {len(wheel)} timers, {self.rig.inventory.left()}")
            clock.rightNow = max(due, clock.rightNow)
            clock.advance(0)

    def _give_up(self, tries: int) -> None:
        """s9.1: not before a provisional response, by whoever keeps to it."""
        if self.ask.over and not self.ask.final:
            return
        if self.ask.provisional or self.dice.random() < 0.1:
            self.stage.counts["CANCEL" if not self.ask.over else "CANCEL after the final"] += 1
            self.ask.cancel()
        elif tries < 5:
            self.stage.later(0.5, self._give_up, tries + 1)

    def _answered(self, response: Plain | None) -> None:
        if response is not None and 200 <= response.status < 300 and self.method == "INVITE":
            self.stage.later(self.dice.choice((0.0, 0.3, 2.0, 9.0)), Dialog(self.caller, response, self.ask).live)

    def ladder(self) -> str:
        """Every message, a line each, as the server sent and got them."""
        lines = [(at, 1, f"{at:9.3f}  -> {flow.transport} {flow.address}:{flow.port}  {_title(message)}")
                 for at, message, flow in self.network.sent]
        lines += [(at, 0, f"{at:9.3f}  <- {flow.transport} {flow.address}:{flow.port}  {_title(message)}")
                  for at, message, flow in self.network.arrived]
        return "\n".join(text for _, _, text in sorted(lines, key=lambda line: line[:2]))


def _title(message: Plain) -> str:
    first = message.data.partition(b"\r\n")[0].decode()
    return f"{first}  [{message.number} {message.method} {message.branch} < {message.parent} to={message.to_tag}]"


@lru_cache(maxsize=2)
def _body(large: bool) -> str:
    """A body; a large one does not fit into a datagram by RFC 3261 s18.1.1."""
    return "v=0\r\n" + "a=x\r\n" * (250 if large else 2)
