"""User agents that live by chance: they call, ring, answer, refuse, fall silent, die, redirect, fork, hang up.

Each keeps RFC 3261 s17 and s13 as far as its habits let it: requests are repeated until they are answered, final
responses to INVITE until they are acknowledged, repeated requests get the same answer again. What one does is thrown
with the dice of the play, in virtual time. Octets are made and read here, by nothing of sipd.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from tests.support.network import Connection, MemoryNetwork
from tests.support.plain import Plain, read

_T1, _T2, _LIFE = 0.5, 4.0, 32.0

#: What a phone that is called does, and how often.
HABITS = {"answer": 24, "ring, refuse": 10, "refuse": 12, "ring on": 8, "silent": 6, "trying only": 3, "fork": 6,
          "redirect": 6, "503": 6, "6xx": 5, "die": 4, "die ringing": 4, "deaf to CANCEL": 3, "481 to CANCEL": 2,
          "no 487": 3, "answers in spite": 5, "refuse, then answer": 2}
_REFUSALS = (401, 403, 404, 407, 407, 407, 408, 415, 420, 480, 484, 486, 486, 487, 488, 500, 503, 504)

Done = Callable[[Plain | None], None]


class Stage:
    """What the parties of one play share: the network, the clock, the dice, the address of the server."""

    def __init__(self, network: MemoryNetwork, dice: Random, server: tuple[str, int]) -> None:
        self.network = network
        self.clock = network.clock
        self.dice = dice
        self.server = server
        self.parties: list[Party] = []
        #: What happened, for those who want to know that anything did.
        self.counts: Counter[str] = Counter()
        #: How many calls of the clock the parties still wait for.
        self.waiting = 0
        self._number = 0

    def later(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> None:
        """Calls a function after a while."""
        self.waiting += 1
        self.clock.callLater(seconds, self._call, function, arguments)

    def _call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.waiting -= 1
        function(*arguments)

    def number(self) -> int:
        """A new number."""
        self._number += 1
        return self._number


class Ask:
    """A request of a party's own, its client transaction and, for an INVITE, what comes of its 2xx."""

    def __init__(self, party: Party, method: str, uri: str, head: str, body: str, done: Done) -> None:
        self.party = party
        self.method = method
        self.uri = uri
        #: From, To, Call-ID, Route: lines without method and Via.
        self.head = head
        self.branch = f"z9hG4bKp{party.stage.number()}"
        self.cseq = 0
        self.data = b""
        self.body = body
        self.done = done
        self.provisional = False
        self.final = 0
        self.over = False
        self.acks: dict[str, bytes] = {}
        #: Gives no ACK: to whatever it is.
        self.mute = False
        #: Gives the ACK of a 2xx the branch of its INVITE, as some old phones do.
        self.old = False

    def send(self, cseq: int) -> Ask:
        """The request, and again until something comes."""
        self.cseq = cseq
        self.data = self.party.compose(self.method, self.uri, self.branch, self.head, cseq, self.body)
        party = self.party
        party.asked[(self.branch, self.method)] = self
        self._repeat(_T1)
        party.stage.later(_LIFE, self._timeout)
        return self

    def _repeat(self, interval: float) -> None:
        if self.over or self.provisional and self.method == "INVITE":
            return
        self.party.send(self.data)
        if self.party.transport == "udp":
            self.party.stage.later(interval, self._repeat,
                                   2 * interval if self.method == "INVITE" else min(2 * interval, _T2))

    def _timeout(self) -> None:
        if not (self.over or self.provisional and self.method == "INVITE"):
            self.over = True
            self.done(None)

    def cancel(self) -> None:
        """s9.1."""
        head = "\r\n".join(line for line in self.head.split("\r\n") if not line.startswith("Contact"))
        cancel = Ask(self.party, "CANCEL", self.uri, head, "", lambda response: None)
        cancel.branch = self.branch
        cancel.send(self.cseq)

    def response(self, response: Plain) -> None:
        """A response to it."""
        stage = self.party.stage
        if response.status < 200:
            self.provisional = True
            return
        first = not self.over
        self.over = True
        if self.method == "INVITE":
            self._acknowledge(response)
        if first:
            self.final = response.status
            stage.counts[f"{self.method} {response.status // 100}xx"] += 1
            self.done(response)

    def _acknowledge(self, response: Plain) -> None:
        if self.mute:
            return
        ack = self.acks.get(response.to_tag)
        if ack is None:
            party = self.party
            if response.status >= 300:
                head = "\r\n".join(line for line in self.head.split("\r\n") if line.startswith(("From", "Call-ID", "Route")))
                ack = party.compose("ACK", self.uri, self.branch, f"{head}\r\nTo: {response.to}", self.cseq, "")
            else:
                if self.acks:
                    party.stage.counts["second 2xx"] += 1
                    dialog = Dialog(party, response, self)
                    party.stage.later(0.2, dialog.bye)  # s13.2.2.4
                branch = self.branch if self.old else f"z9hG4bKp{party.stage.number()}"
                ack = party.compose("ACK", response.contact, branch, Dialog(party, response, self).head, self.cseq, "")
            self.acks[response.to_tag] = ack
        self.party.send(ack)


class Dialog:
    """A dialog seen from one side: `of` is the own INVITE, or None when `message` is the INVITE that came."""

    def __init__(self, party: Party, message: Plain, of: Ask | None, own_tag: str = "") -> None:
        self.party = party
        routes = message.record_routes[::-1] if of is not None else message.record_routes
        if of is not None:
            from_, to = message.from_, message.to
        else:
            from_, to = f"{message.to};tag={own_tag}" if not message.to_tag else message.to, message.from_
        self.target = message.contact
        self.head = "\r\n".join([*(f"Route: {route}" for route in routes), f"From: {from_}", f"To: {to}",
                                 f"Call-ID: {message.call_id}"])
        self.cseq = message.number if of is not None else 0
        self.over = False

    def ask(self, method: str, done: Done) -> Ask:
        """A request within it."""
        self.cseq += 1
        head = self.head + (f"\r\nContact: <{self.party.contact}>" if method == "INVITE" else "")
        return Ask(self.party, method, self.target, head, "", done).send(self.cseq)

    def bye(self) -> None:
        """Hangs up, once."""
        if not self.over:
            self.over = True
            self.ask("BYE", lambda response: None)

    def live(self) -> None:
        """Some re-INVITEs, then the end."""
        dice, stage = self.party.stage.dice, self.party.stage
        if self.over:
            return
        chance = dice.random()
        if chance < 0.25:
            again = self.ask("INVITE", lambda response: stage.later(dice.uniform(0.1, 5), self.live))
            if dice.random() < 0.2:
                stage.later(dice.uniform(0.05, 2), again.cancel)
            stage.counts["re-INVITE"] += 1
        elif chance < 0.9:
            self.bye()


class Called:
    """An INVITE that reached a party, and what becomes of it by its habit."""

    def __init__(self, party: Party, invite: Plain, habit: str) -> None:
        self.party = party
        self.stage = party.stage
        self.invite = invite
        self.habit = habit
        self.tag = f"t{party.stage.number()}"
        #: The last response by To tag.
        self.last: dict[str, bytes] = {}
        self.final = 0
        self.acknowledged: set[str] = set()

    def answer(self, status: int, *extra: str, tag: str = "") -> None:
        """Answers, a 2xx or a refusal until it is acknowledged; after a final response nothing but what the habit is."""
        tag = tag or self.tag
        if self.final and not (self.habit == "fork" and 200 <= status < 300) and self.habit != "refuse, then answer":
            return
        party = self.party
        data = party.answer(self.invite, status, "" if status == 100 else tag, *extra)
        self.last[tag] = data
        party.send(data)
        if status >= 200:
            self.final = self.final or status
            self.stage.later(_T1, self._insist, tag, data, status, _T1, _T1)

    def _insist(self, tag: str, data: bytes, status: int, interval: float, age: float) -> None:
        """s13.3.1.4, s17.2.1."""
        if tag in self.acknowledged or age >= _LIFE or (status >= 300 and self.party.transport != "udp"):
            return
        self.party.send(data)
        interval = min(2 * interval, _T2)
        self.stage.later(interval, self._insist, tag, data, status, interval, age + interval)

    def repeated(self) -> None:
        """The INVITE came again."""
        if self.last and not 200 <= self.final < 300:
            self.party.send(list(self.last.values())[-1])

    def acknowledge(self, ack: Plain) -> None:
        """An ACK for it: the first one for a 2xx begins the talk of the callee."""
        new = ack.to_tag not in self.acknowledged
        self.acknowledged.add(ack.to_tag)
        if new and 200 <= self.final < 300 and self.stage.dice.random() < 0.3:
            dialog = Dialog(self.party, self.invite, None, ack.to_tag)
            self.stage.later(self.stage.dice.uniform(0.1, 8), dialog.live)

    def cancelled(self) -> int:
        """A CANCEL came; the status for it, 0 for none."""
        habit = self.habit
        if habit == "deaf to CANCEL":
            return 0
        if habit == "481 to CANCEL":
            return 481
        if not self.final:
            if habit == "answers in spite":
                self.stage.counts["answer in spite of CANCEL"] += 1
                self.stage.later(self.stage.dice.choice((0.0, 0.02, 1.0)), self.answer, 200)
            elif habit != "no 487":
                self.stage.later(self.stage.dice.choice((0.0, 0.0, 0.01, 0.7)), self.answer, 487)
        else:
            self.stage.counts["CANCEL crossed a final response"] += 1
        return 200

    def begin(self) -> None:
        """Plays the habit."""
        stage, dice, later = self.stage, self.stage.dice, self.stage.later
        habit = self.habit
        stage.counts[habit] += 1
        wait = dice.choice((0.0, 0.05, 0.3, 1.0, 3.0))
        if habit == "silent":
            return
        if habit == "refuse":
            later(wait, self.answer, dice.choice(_REFUSALS), *_challenge(dice))
        elif habit == "503":
            later(wait, self.answer, 503, *dice.choice(((), ("Retry-After: 5",))))
        elif habit == "redirect":
            contacts = [f"Contact: <{dice.choice(stage.parties).contact}>;q=0.{dice.randint(1, 9)}"
                        for _ in range(dice.randint(1, 3))]
            later(wait, self.answer, dice.choice((301, 302, 305)), *contacts)
        elif habit == "6xx" and dice.random() < 0.4:
            later(wait, self.answer, dice.choice((600, 603, 604, 606)))
        elif habit == "refuse, then answer":
            later(wait, self.answer, 486)
            later(wait + dice.uniform(0, 2), self.answer, 200)
        else:
            later(wait, self.answer, 100 if habit in ("die", "trying only") else dice.choice((100, 180, 180, 183)))
            self._after(wait + dice.uniform(0.02, 1))

    def _after(self, ring: float) -> None:
        """What comes after a provisional response."""
        dice, later, habit = self.stage.dice, self.stage.later, self.habit
        if habit.startswith("die"):
            later(ring, self.party.die)
            return
        if habit == "trying only":
            return
        for _ in range(dice.choice((0, 1, 1, 3))):
            later(ring + dice.uniform(0, 3), self.answer, dice.choice((180, 180, 183, 199)))
        end = ring + dice.choice((0.0, 0.5, 1.0, 2.0, 4.0, 9.0, 25.0))
        if habit == "fork":
            # a proxy behind which two phones answer
            if dice.random() < 0.5:
                later(ring, lambda: self.answer(180, tag=f"{self.tag}b"))
            later(end, self.answer, 200)
            later(end + dice.choice((0.0, 0.1, 1.0)), self._second)
        elif habit == "ring, refuse":
            later(end, self.answer, dice.choice(_REFUSALS), *_challenge(dice))
        elif habit == "6xx":
            later(end, self.answer, dice.choice((600, 603)))
        elif habit == "answer" or (habit in ("deaf to CANCEL", "481 to CANCEL", "answers in spite")
                                   and dice.random() < 0.7):
            later(end, self.answer, 200)

    def _second(self) -> None:
        if 200 <= self.final < 300:
            self.answer(200, tag=f"{self.tag}b")


def _challenge(dice: Random) -> tuple[str, ...]:
    """A challenge for those who answer 401 or 407; for others it means nothing."""
    return (f'Proxy-Authenticate: Digest realm="r{dice.randint(1, 9)}", nonce="n"',)


class Party:
    """A user agent at one address, over UDP or one connection after the other."""

    def __init__(self, stage: Stage, name: str, address: str, transport: str, way_back: str = "accept") -> None:
        self.stage = stage
        self.name = name
        self.address = address
        self.transport = transport
        self.dead = False
        self.asked: dict[tuple[str, str], Ask] = {}
        self.calls: dict[str, Called] = {}
        self.served: dict[tuple[str, str], bytes] = {}
        self.habits: list[str] = []
        self.connection: Connection | None = None
        suffix = "" if transport == "udp" else f";transport={transport}"
        self.contact = f"sip:{name}@{address}:5060{suffix}"
        self.via = f"Via: SIP/2.0/{transport.upper()} {address}:5060;branch="
        end = stage.network.endpoint(transport, address, 5060 if transport == "udp" else 40000)
        if transport == "udp":
            self.endpoint = end
            end.on_receive = self.received
        else:
            self._connected(end.connect(stage.server))
            stage.network.listen(transport, address, 5060, way_back).on_connect = self._connected
        stage.parties.append(self)

    def _connected(self, connection: Connection) -> None:
        if self.dead:
            return
        self.connection = connection
        connection.on_receive = self.received

    def break_connection(self) -> None:
        """The connection is reset; a new one may come from the other side."""
        if self.connection is not None and self.connection.open:
            self.stage.counts["connection broken"] += 1
            self.connection.lose("connection reset")

    def die(self) -> None:
        """The phone loses power."""
        self.dead = True
        self.stage.counts["died"] += 1
        if self.connection is not None:
            self.connection.lose("connection reset")
            self.stage.network.acceptors.pop((self.transport, self.address, 5060), None)

    # --- octets

    def send(self, data: bytes) -> None:
        """To the server, where there is a way."""
        if self.dead:
            return
        if self.connection is None:
            self.endpoint.send(data, self.stage.server)
        elif self.connection.open:
            self.connection.send(data)

    def compose(self, method: str, uri: str, branch: str, head: str, cseq: int, body: str) -> bytes:
        """A request; `head` is lines without Via and CSeq."""
        return (f"{method} {uri} SIP/2.0\r\n{self.via}{branch}\r\n{head}\r\nCSeq: {cseq} {method}\r\nMax-Forwards: 70\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}").encode()

    def answer(self, request: Plain, status: int, tag: str, *extra: str) -> bytes:
        """A response (s8.2.6)."""
        to = request.to if request.to_tag or not tag else f"{request.to};tag={tag}"
        lines = [f"SIP/2.0 {status} Reason", request.copied, f"To: {to}"]
        if status < 300:
            lines += [f"Record-Route: {route}" for route in request.record_routes]
            if request.method == "INVITE" and status > 100:
                lines.append(f"Contact: <{self.contact}>")
        return "\r\n".join([*lines, *extra, "Content-Length: 0", "", ""]).encode()

    # --- what comes

    def received(self, data: bytes) -> None:
        """A message came."""
        if self.dead:
            return
        message = read(data)
        if message.status:
            ask = self.asked.get((message.branch, message.method))
            if ask is not None:
                ask.response(message)
        elif message.method == "INVITE":
            self._invited(message)
        elif message.method == "ACK":
            for called in self.calls.values():
                if called.invite.call_id == message.call_id and (
                        called.invite.branch == message.branch or message.to_tag in called.last):
                    called.acknowledge(message)
        elif message.method == "CANCEL":
            self._cancelled(message)
        else:
            self._asked(message)

    def _invited(self, invite: Plain) -> None:
        called = self.calls.get(invite.branch)
        if called is not None:
            called.repeated()
            return
        dice = self.stage.dice
        if invite.to_tag:
            habit = dice.choice(("answer", "answer", "refuse", "silent", "ring, refuse"))
        else:
            habit = self.habits.pop() if self.habits else dice.choices(list(HABITS), list(HABITS.values()))[0]
        called = self.calls[invite.branch] = Called(self, invite, habit)
        called.begin()

    def _cancelled(self, cancel: Plain) -> None:
        key = (cancel.branch, "CANCEL")
        if key not in self.served:
            called = self.calls.get(cancel.branch)
            status = called.cancelled() if called is not None else 481
            self.served[key] = self.answer(cancel, status, f"t{self.stage.number()}") if status else b""
        if self.served[key]:
            self.send(self.served[key])

    def _asked(self, request: Plain) -> None:
        """BYE, MESSAGE and whatever else there is."""
        key = (request.branch, request.method)
        known = self.served.get(key)
        if known is not None:
            if known:
                self.send(known)
            return
        self.served[key] = b""
        dice = self.stage.dice
        if request.method == "BYE":
            for called in self.calls.values():
                if called.invite.call_id == request.call_id:
                    called.acknowledged.add(request.to_tag)
        status = dice.choice((200, 200, 200, 200, 200, 0, 481, 486, 503, 603, 408, 302))
        if status:
            wait = dice.choice((0.0, 0.0, 0.02, 1.0, 6.0))
            if dice.random() < 0.1:
                self.send(self.answer(request, dice.choice((100, 100, 183)), ""))
            self.stage.later(wait, self._reply, key, self.answer(request, status, f"t{self.stage.number()}"))

    def _reply(self, key: tuple[str, str], data: bytes) -> None:
        self.served[key] = data
        self.send(data)
