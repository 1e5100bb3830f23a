"""Calls in which everybody does something at random: what must hold whatever happens (RFC 3261 s16.7, s9.1)."""

from __future__ import annotations

from math import inf
from random import Random

from twisted.trial.unittest import TestCase

from sipd.message.message import Request, Response
from tests.support.cases import shows
from tests.support.rig import Phone, Rig

_STATUSES = (100, 180, 180, 183, 200, 200, 302, 401, 404, 408, 407, 480, 486, 487, 500, 503, 503, 600, 603)
_WAITS = (0.0, 0.0, 0.1, 0.6, 2.0, 5.0, 9.0)


class _Callee:
    """One INVITE that reached a phone, and what the phone did with it."""

    def __init__(self, phone: Phone, invite: Request) -> None:
        self.phone = phone
        self.invite = invite
        self.sent: list[tuple[float, Response]] = []
        self.final = 0
        self.cancelled_at = inf
        self.acks = 0

    def answer(self, status: int, contact: str) -> None:
        """Answers, or repeats a final response given before."""
        if self.final:
            self.phone.send(self.sent[-1][1])
            return
        extra = [f"Contact: <{contact}>"] if 300 <= status < 400 else []
        response = self.phone.answer(self.invite, status, *extra)
        self.sent.append((self.phone.rig.clock.seconds(), response))
        if status >= 200:
            self.final = status


class _Call:
    """A call to several contacts, played by chance from one seed."""

    def __init__(self, seed: int, method: str) -> None:
        self.chance = chance = Random(seed)
        self.method = method
        self.rig = rig = Rig(proxy={"ring_timeout": 4.0, "hop_timeout": 2.0, "recurse": chance.random() < 0.3},
                             timers={"c": 20.0}, registrar={"max_contacts": 10})
        transport = chance.choice(("udp", "tcp"))
        self.caller = rig.phone("1001", transport=transport)
        self.phones = []
        for _ in range(chance.randint(1, 4)):
            phone = rig.phone("1002", transport=chance.choice(("udp", "tcp")))
            phone.register(contact=f"<{phone.contact}>;q={chance.choice(('1', '0.5', '0.1'))}")
            self.phones.append(phone)
        if chance.random() < 0.4:
            # one target more, of two hops
            for number in (1, 2):
                phone = rig.phone("1002", f"192.0.2.{80 + number}")
                self.phones.append(phone)
                rig.dns.srv("_sip._udp.gw.example.net", number, 0, 5060, f"h{number}.example.net")
                rig.dns.address(f"h{number}.example.net", phone.address)
                if chance.random() < 0.2:
                    rig.network.icmp.add((phone.address, 5060))
            rig.binding("1002", "sip:1002@gw.example.net", q=chance.choice((1000, 500)))
        self.callees: dict[str, _Callee] = {}
        self.finals: list[Response] = []
        self.final_at = 0.0
        self.acked = False

    def play(self, steps: int) -> None:
        """The call, step by step."""
        chance, rig, caller = self.chance, self.rig, self.caller
        invite = caller.request(self.method, "sip:1002@example.com")
        cancelled = False
        for _ in range(steps):
            self.listen(invite)
            for callee in list(self.callees.values()):
                if chance.random() < 0.35:
                    callee.answer(chance.choice(_STATUSES), chance.choice(self.phones).contact)
            if not cancelled and chance.random() < 0.06:
                cancelled = True
                caller.cancel(invite)
            if chance.random() < 0.1 and caller.transport == "udp" and not self.finals:
                caller.send(invite)
            rig.advance(chance.choice(_WAITS), 0.25)
        for _ in range(120):
            self.listen(invite)
            rig.advance(1.0, 0.25)
        self.listen(invite)

    def listen(self, invite: Request) -> None:
        """Everybody reads; the caller acknowledges what it must."""
        for phone in self.phones:
            for message in phone.drain():
                if not isinstance(message, Request):
                    continue
                assert message.via is not None
                branch = message.via.branch
                if message.method == self.method:
                    self.callees.setdefault(branch, _Callee(phone, message))
                elif message.method == "CANCEL":
                    callee = self.callees[branch]
                    if callee.cancelled_at == inf:
                        callee.cancelled_at = self.first_sent(b"CANCEL", branch)
                        assert callee.sent, f"CANCEL before any response\n{self.rig.ladder()}"
                    phone.answer(message, 200)
                elif branch in self.callees:
                    self.callees[branch].acks += 1
        for answer in self.caller.drain():
            assert isinstance(answer, Response)
            if answer.status < 200 or answer.cseq_method == "CANCEL":
                assert not self.finals or answer.status >= 200, f"provisional after final\n{self.rig.ladder()}"
                continue
            if not self.finals:
                self.final_at = self.rig.clock.seconds()
            self.finals.append(answer)
            if self.method == "INVITE" and (answer.status < 300 or not self.acked or self.chance.random() < 0.5):
                self.caller.ack(answer, invite)
                self.acked = True

    def check(self) -> None:
        """What must hold in the end."""
        statuses = {one.status // 100 == 2 for one in self.finals}
        ladder = self.rig.ladder()
        if self.method == "INVITE":
            assert self.finals, f"no final response\n{ladder}"
            assert len(statuses) == 1, f"2xx and a refusal\n{ladder}"
            if False in statuses:
                assert len({one.encode() for one in self.finals}) == 1, f"two refusals\n{ladder}"
            assert all(one.status != 503 for one in self.finals), ladder
        else:
            assert len({one.encode() for one in self.finals}) <= 1, f"two final responses\n{ladder}"
        for callee in self.callees.values():
            if self.method == "INVITE":
                self.check_callee(callee, ladder)
            else:
                assert callee.cancelled_at == inf and not callee.acks, ladder
        self.rig.finish(1)

    def check_callee(self, callee: _Callee, ladder: str) -> None:
        """s17.1.1.3: each refusal is acknowledged; s16.7/10: who rings when all is over is told so."""
        name = f"{callee.phone.address} {callee.invite.via.branch}"  # type: ignore[union-attr]
        if callee.final >= 300:
            late = callee.sent[-1][0] > callee.cancelled_at + 31
            assert callee.acks or late or self.silent_too_long(callee), f"{name}: refusal without ACK\n{ladder}"
        if callee.sent and not callee.final:
            over = max(self.final_at, callee.sent[0][0]) + 0.3
            assert callee.cancelled_at < over or self.silent_too_long(callee), f"{name} rings on\n{ladder}"

    def silent_too_long(self, callee: _Callee) -> bool:
        """The first response came after timer B or C had ended the transaction."""
        branch = callee.invite.via.branch  # type: ignore[union-attr]
        return callee.sent[0][0] >= self.first_sent(b"INVITE", branch) + 19.9

    def first_sent(self, method: bytes, branch: str) -> float:
        """When a request with this branch was first sent."""
        return next(packet.at for packet in self.rig.network.packets
                    if packet.data.startswith(method) and branch.encode() in packet.data)


class Chance(TestCase):
    """Random calls; a failure names its seed."""

    def run_seeds(self, method: str, seeds: range) -> None:
        """Plays one call a seed."""
        for seed in seeds:
            call = _Call(seed, method)
            try:
                call.play(12)
                call.check()
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}") from error

    @shows("INV-02", "CAN-01", "CAN-05", "INV-17", "16.7")
    def test_invite(self) -> None:
        """One refusal or 2xx only; nobody rings on, no refusal without ACK, no CANCEL too early, nothing left."""
        self.run_seeds("INVITE", range(400))

    @shows("CAN-08", "16.7/5", "4320 4.1")
    def test_message(self) -> None:
        """One final response at most, nothing cancelled, nothing left."""
        self.run_seeds("MESSAGE", range(1000, 1150))
