"""Carriers and phones that answer with damaged messages: no bug, no loop, nothing left, and what is sent stays sane."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from sipd.message.parser import parse
from tests.fuzz.targets import sent_is_sane
from tests.scenarios.test_out import ACCOUNT, CARRIER, challenge
from tests.support.cases import shows
from tests.support.mutations import Mutations
from tests.support.rig import SERVER, Rig

ANSWERS = 4000
#: Header lines of an answer to a REGISTER; CONTACT is what was registered.
LINES: tuple[tuple[int, tuple[str, ...]], ...] = (
    (200, ("Contact: CONTACT;expires=60", "Expires: 90", "Service-Route: <sip:203.0.113.10;lr>, <sip:b.example;lr>",
           "Path: <sip:c.example;lr>")),
    (200, ("Contact: <sip:a@b.example>;expires=60, CONTACT",)),
    (401, (challenge("n1"), challenge("n2", "SHA-256"), challenge("n3", realm="other"))),
    (407, (challenge("p1", realm="proxy").replace("WWW", "Proxy"),)),
    (401, (challenge("n4", more=', stale=true, opaque="o"'),)),
    (302, ("Contact: <sip:203.0.113.10:5060>, <sips:c.example>;q=0.5",)),
    (305, ("Contact: <sip:203.0.113.10>",)),
    (423, ("Min-Expires: 400",)),
    (503, ("Retry-After: 20 (busy);duration=5",)),
)


class _Answers(Mutations):
    """Damages the answer it is given instead of a request of its own."""

    answer = b""

    def whole(self, transport: str) -> bytes:
        """The answer."""
        return self.answer


class HostileTests(TestCase):
    """A peer whose carrier has lost its mind, and which is asked by OPTIONS too."""

    @shows("OUT-04")
    def test_damaged_answers(self) -> None:
        """Every answer is damaged in some way; whatever is read from it, the peer is in one of its states and sends
        whole requests, and not many."""
        rig = Rig(peers={"carrier": {**ACCOUNT, "qualify": 5}}, qualify={"rate": 1.0})
        carrier = rig.network.endpoint("udp", CARRIER, 5060)
        rig.core.call_out(rig.config)
        damage = _Answers(10, f"{CARRIER}:5060", "carrier.example", "acct")
        states: dict[str, int] = {}
        read = answered = sent = 0
        while answered < ANSWERS:
            rig.core.trunks.again("carrier")
            rig.advance(0.5)
            for data in carrier.received[read:]:
                request = parse(data)
                sent += 1
                if isinstance(request, Request):
                    self.assertIn(request.method, ("REGISTER", "OPTIONS"))
                    damage.answer = self.answer_to(request, damage)
                    whole = damage.random.random() < 0.3
                    carrier.send(damage.answer if whole else damage.next("UDP"), (SERVER, 5060))
                    answered += 1
            read = len(carrier.received)
            state = rig.core.trunks.rows()[0]["state"]
            states[state] = states.get(state, 0) + 1
            self.assertEqual(rig.bugs, [], damage.answer)
            for packet in rig.network.packets:
                if packet.source[0] == SERVER:
                    sent_is_sane(packet.data)
            rig.network.packets.clear()
        self.assertEqual(set(states), {"registered", "refused", "failed", "trying"}, states)
        rig.core.hang_up(1.0)
        rig.advance(120.0)
        rig.finish()

    @staticmethod
    def answer_to(request: Request, damage: Mutations) -> bytes:
        """One of LINES as an answer, or a plain 200 to an OPTIONS."""
        status, lines = damage.random.choice(LINES) if request.method == "REGISTER" else (200, ())
        contact = request.first.get("contact", "<sip:x@y.example>")
        copied = [line for name, _, line in request.headers if name in ("via", "from", "to", "call-id", "cseq")]
        lines = tuple(line.replace("CONTACT", contact) for line in lines)
        return "\r\n".join([f"SIP/2.0 {status} So", *copied, *lines, "Content-Length: 0", "", ""]).encode(
            "utf-8", "surrogateescape")
