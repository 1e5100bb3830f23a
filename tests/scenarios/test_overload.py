"""A server that is behind: new work is refused at the door, what has begun goes on (RFC 3261 s21.5.4, RFC 7339)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.core.overload import INTERVAL
from sipd.message.message import Request
from sipd.transaction import layer
from tests.support.rig import Phone, Rig, established


class OverloadTests(TestCase):
    """The real core, with the delay that the test says."""

    def setUp(self) -> None:
        self.rig = Rig(users={f"100{n}": f"secret{n}" for n in range(1, 10)})
        self.age = 0.0
        self.short_of_room = False
        self.rig.core.shedding.start(lambda: (self.age, self.short_of_room))
        self.addCleanup(self.rig.core.shedding.stop)
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        self.a.register()
        self.b.register()
        self.rig.advance(40.0, INTERVAL)

    @property
    def share(self) -> float:
        """What part of the new work is refused."""
        return self.rig.core.shedding.overload.share

    def behind(self, seconds: float = 10.0) -> None:
        """The server is behind until it refuses whatever is new."""
        self.age = 0.3
        self.rig.advance(seconds, INTERVAL)
        self.assertEqual(self.share, 1.0)

    def relieved(self) -> None:
        """It is not, for long enough."""
        self.age = 0.0
        self.rig.advance(20.0, INTERVAL)
        self.assertFalse(self.rig.core.shedding.overload.active)

    def finish(self) -> None:
        """See Rig.finish; the server's own clock goes on."""
        self.rig.core.shedding.stop()
        self.rig.finish()

    def parsed(self) -> list[bytes]:
        """What is given to the parser from now on."""
        seen: list[bytes] = []
        real = layer.parse

        def parse(data: bytes, *more: Any) -> Any:
            seen.append(data)
            return real(data, *more)
        self.patch(layer, "parse", parse)
        return seen

    def refused(self, phone: Phone, request: Request) -> int:
        """The Retry-After of the 503 that this request gets, and nothing else; an INVITE's is acknowledged."""
        response = phone.take(503)
        self.assertTrue(response.to_tag)
        self.assertEqual((response.call_id, response.cseq), (request.call_id, request.cseq))
        phone.silent()
        if request.method == "INVITE":
            phone.ack(response, request)
        return int(response.first["retry-after"])

    def test_nothing_stands_in_the_way(self) -> None:
        """While the server is not behind there is no gate; it comes with the overload, goes with it, and the journal
        has the figures."""
        core = self.rig.core
        self.rig.advance(5.0, INTERVAL)
        self.assertIsNone(core.layer.gate)
        self.behind()
        self.assertIsNotNone(core.layer.gate)
        self.refused(self.a, self.a.invite("1002"))
        self.relieved()
        self.assertIsNone(core.layer.gate)
        records = [(kind, fields) for kind, fields in self.rig.records if kind.startswith("overload")]
        self.assertEqual([kind for kind, _ in records], ["overload-began", "overload-ended"])
        self.assertEqual((records[0][1]["wanted"], records[1][1]["refused"], records[1][1]["worst"]), (100, 1, 300))
        self.a.ack(established(self.a, self.b)[3])
        self.b.take("ACK")
        self.finish()

    def test_late_reactor(self) -> None:
        """A reactor that comes late by itself is behind too, whatever the sockets say."""
        for _ in range(5):
            self.rig.clock.advance(0.5)
        self.assertTrue(self.rig.core.shedding.overload.active)

    def test_new_work(self) -> None:
        """Requests that begin something are refused without being parsed and without state, from users and strangers;
        the refusal of an INVITE is acknowledged and that is all; nothing reaches the callee."""
        self.behind()
        seen, stranger = self.parsed(), self.rig.phone("nobody")
        for phone in (self.a, stranger):
            self.refused(phone, phone.invite("1002"))
            for method in ("SUBSCRIBE", "MESSAGE", "OPTIONS", "REFER", "PUBLISH", "NOTIFY", "INFO"):
                self.refused(phone, phone.request(method, "sip:1002@example.com"))
        self.refused(stranger, stranger.request("REGISTER", "sip:example.com", to=f"<{stranger.aor}>"))
        self.assertEqual(seen, [])
        self.assertEqual(len(self.rig.core.layer.servers), 0)
        self.b.silent()
        self.assertEqual(self.rig.core.shedding.overload.refused, 17)
        self.finish()

    def test_streams(self) -> None:
        """Over TCP and TLS it is the same, with compact names, other Vias below, and a name for rport and received."""
        self.behind()
        for transport in ("tcp", "tls"):
            phone = self.rig.phone("1001", transport=transport)
            self.refused(phone, phone.invite("1002"))
            data = phone.invite("1002", "Via: SIP/2.0/TCP below.example.com;branch=z9hG4bKbelow", send=False).encode()
            phone.send(data.replace(b"From:", b"f:").replace(b"Call-ID:", b"i:").replace(b"To:", b"t:"))
            response = phone.take(503)
            self.assertIn("below.example.com", response.all("via")[1])
        behind_nat = self.rig.phone("1001", source=("198.51.100.7", 40001))
        behind_nat.via_params = ";rport"
        behind_nat.invite("1002")
        via = behind_nat.take(503).via
        self.assertEqual((via.received, via.params["rport"]), ("198.51.100.7", "40001"))
        self.finish()

    def test_unusual_spellings(self) -> None:
        """Who folds lines, or writes names as nobody does, is refused like others."""
        self.behind()
        data = self.a.invite("1002", send=False).encode()
        for odd in (data.replace(b"Max-Forwards: 70", b"Max-Forwards:\r\n 70"), data.replace(b"Call-ID:", b"CALL-iD :"),
                    data.replace(b"INVITE sip", b"\r\n\r\nINVITE sip", 1)):
            self.a.send(odd.replace(b"z9hG4bK", b"z9hG4bK%d" % len(odd)))
            self.a.take(503)
        self.b.silent()
        self.a.send(data.replace(b"CSeq: ", b"CSeq: x"))
        self.a.take_refusal(400)  # what is wrong is still told
        self.finish()

    def test_what_has_begun(self) -> None:
        """A call that rings is answered, one that stands has its re-INVITE, UPDATE, INFO, BYE and ACK, one that rings is
        cancelled; the final answer of a call is repeated and acknowledged."""
        standing = established(self.a, self.b)
        ringing = self.a.invite("1002", from_=f"<{self.a.aor}>;tag=second")
        self.a.take(100)
        got = self.b.take("INVITE")
        given_up = self.a.invite("1002", from_=f"<{self.a.aor}>;tag=third")
        self.a.take(100)
        other = self.b.take("INVITE")
        self.b.answer(got, 180)
        self.b.answer(other, 180)
        self.a.take_all(180)
        self.behind()
        self.a.send(ringing)                      # a repeat of what is being served
        self.a.take(180)
        self.b.pick_up(got, self.a)
        self.a.cancel(given_up)
        self.a.take(200)
        self.b.cancelled(other)
        answer = self.a.take(487)
        self.rig.advance(0.6, INTERVAL)
        self.assertEqual(self.a.take(487).encode(), answer.encode())
        self.a.ack(answer, given_up)
        self.rig.advance(5.0, INTERVAL)
        self.a.silent()
        for method in ("INVITE", "UPDATE", "INFO", "NOTIFY", "MESSAGE", "BYE"):
            self.a.in_dialog(method, standing[3])
            if method == "INVITE":
                self.a.take(100)
            self.b.answer(self.b.take(method), 200)
            ok = self.a.take(200)
            if method == "INVITE":
                self.a.ack(ok)
                self.b.take("ACK")
        self.assertEqual(self.rig.core.shedding.overload.refused, 0)
        self.finish()

    def test_refresh(self) -> None:
        """A phone that is registered from where it comes may refresh; after its flow was lost it is a stranger."""
        self.behind()
        self.a.register(call_id="again", cseq=2)
        moved = self.rig.phone("1001", address="192.0.2.77")
        self.refused(moved, moved.request("REGISTER", "sip:example.com", to=f"<{moved.aor}>", contact="<sip:a@192.0.2.77>"))
        self.finish()

    def test_repeats(self) -> None:
        """A repeat gets the same answer, also when fewer are refused by then; one ACK each is absorbed."""
        self.behind()
        invite = self.a.invite("1002")
        first = self.a.take(503)
        self.age = 0.0
        while self.share:
            self.rig.advance(INTERVAL, INTERVAL)
        self.a.send(invite)
        self.assertEqual(self.a.take(503).encode(), first.encode())
        self.a.ack(first, invite)
        self.a.silent()
        self.b.silent()
        established(self.a, self.b)

    def test_spread(self) -> None:
        """Those who are refused are told times between the least and the most, all of which occur about alike."""
        self.behind()
        times = [self.refused(self.a, self.a.invite("1002", call_id=f"call{n}")) for n in range(440)]
        counts = {seconds: times.count(seconds) for seconds in times}
        self.assertEqual(sorted(counts), list(range(5, 16)))
        self.assertLess(max(counts.values()), 4 * min(counts.values()))

    def test_part(self) -> None:
        """Where a part is refused, the Call-ID decides: the call that was let through is let through again with its
        credentials, a moment later; about that part is refused, and later others are."""
        overload = self.rig.core.shedding.overload
        self.behind()
        fates = []
        for now in (0, 1, 160):
            self.rig.clock.advance(now)
            overload.share_of_known = 0.5
            refused = set()
            for n in range(200):
                self.a.request("OPTIONS", "sip:example.com", call_id=f"call{n}")
                if self.a.take().status == 503:
                    refused.add(n)
            fates.append(refused)
        self.assertEqual(fates[0], fates[1])
        self.assertTrue(60 < len(fates[0]) < 140)
        self.assertNotEqual(fates[0], fates[2])

    def test_flood(self) -> None:
        """A flood of strangers, ten for each request of a phone that is registered, leaves the phone its calls."""
        strangers = [self.rig.phone("x", f"198.51.100.{n}") for n in range(1, 11)]
        overload = self.rig.core.shedding.overload
        self.age = 0.3
        ours, theirs = [], []
        for number in range(60):
            for stranger in strangers:
                stranger.request("OPTIONS", "sip:example.com", call_id=f"call{number}-{stranger.address}")
                theirs.append(stranger.take().status)
            self.a.request("OPTIONS", "sip:example.com", call_id=f"call{number}")
            ours.append(self.a.take().status)
            self.rig.advance(INTERVAL, INTERVAL)
            if overload.share > 0.6:
                self.age = overload.delay = 0.1  # it stays as it is
        self.assertTrue(0.5 < overload.share < 0.8)
        self.assertGreater(theirs[-200:].count(503), 100)
        self.assertEqual(ours[-20:].count(503), 0)

    def test_bounded(self) -> None:
        """What is remembered of those refused has a bound."""
        self.behind()
        for n in range(300):
            self.a.request("OPTIONS", "sip:example.com", call_id=f"call{n}")
        table = self.rig.core.shedding._refused
        self.assertEqual(len(table), 300)
        self.assertTrue(table.cache)
        self.assertLessEqual(table.limit, 10_000)
