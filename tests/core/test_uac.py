"""The client core, on the real core in virtual time: bounds, deadlines and odd answers that no registration brings."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.core.uac import Ask, Outcome, Sending, retry_after
from sipd.message.hop import Hop
from sipd.proxy.targets import Target
from tests.support.cases import shows
from tests.support.rig import Rig

PEER = "203.0.113.10"


class UacTests(TestCase):
    """Single requests."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.outcomes: list[Outcome] = []

    def ask(self, uri: str = f"sip:{PEER}", route: tuple[str, ...] = (), **more: object) -> Ask:
        """A NOTIFY, as good as any."""
        return Ask("NOTIFY", Target(uri, route), f"<{uri}>", "<sip:example.com>;tag=a", "call-1", **more)  # type: ignore[arg-type]

    def send(self, ask: Ask) -> Sending | None:
        """Sends it; nothing may be told before this returns."""
        before = len(self.outcomes)
        sending = self.rig.core.uac.send(ask, self.outcomes.append)
        self.assertEqual(len(self.outcomes), before)
        return sending

    @shows("OUT-01", "8.1.1")
    def test_composed(self) -> None:
        """Each field of s8.1.1.1 to s8.1.1.8 is there, once; what the ask brings is taken over."""
        peer = self.rig.phone("peer", PEER)
        self.send(self.ask(cseq=41, contact="me", headers=(("Event", "dialog"),), body=b"text"))
        got = peer.take("NOTIFY")
        for name in ("via", "from", "to", "call-id", "cseq", "max-forwards", "contact", "content-length"):
            self.assertEqual(len(got.all(name)), 1, name)
        self.assertEqual((got.cseq, got.first["event"], got.body), ((42, "NOTIFY"), "dialog", b"text"))
        self.assertTrue(got.via.branch.startswith("z9hG4bK"))
        self.assertEqual(got.via.sent_by, "192.0.2.1:5060")
        peer.answer(got, 200)
        outcome, = self.outcomes
        self.assertEqual((outcome.status, outcome.hop), (200, Hop("udp", PEER, 5060)))
        self.rig.finish()

    @shows("NIT-02", "8.2.2.2", "17.2.3")
    def test_the_same_again(self) -> None:
        """An ask with a branch repeats exact values: the branch in its first transaction, the CSeq in all, also to the
        next hop, which is a transaction of its own."""
        self.rig.dns.address("two.example", PEER)
        self.rig.dns.address("two.example", "203.0.113.11")
        phones = [self.rig.phone("one", PEER), self.rig.phone("two", "203.0.113.11")]
        for _ in range(2):
            self.send(self.ask("sip:two.example:5060", cseq=7, branch="z9hG4bKthesame"))
            self.rig.advance(1.0)
            first = next(phone for phone in phones if phone.unread)
            second = next(phone for phone in phones if phone is not first)
            got = first.drain()[0]
            first.answer(got, 503)  # type: ignore[arg-type]
            again = second.drain()[0]
            second.answer(again, 200)  # type: ignore[arg-type]
            self.assertEqual((got.cseq, again.cseq), ((7, "NOTIFY"), (7, "NOTIFY")))
            assert got.via is not None and again.via is not None
            self.assertEqual(got.via.branch, "z9hG4bKthesame")
            self.assertNotEqual(again.via.branch, got.via.branch)
            self.rig.advance(10.0)
        self.rig.finish()

    @shows("OUT-01", "12.2.1.1")
    def test_strict_router(self) -> None:
        """A first Route without lr gets the request as a strict router wants it."""
        router = self.rig.phone("router", "203.0.113.20")
        self.send(self.ask(route=("<sip:203.0.113.20>", "<sip:b.example;lr>")))
        got = router.take("NOTIFY")
        self.assertEqual((got.uri_text, got.values("route")),
                         ("sip:203.0.113.20", ["<sip:b.example;lr>", f"<sip:{PEER}>"]))
        router.answer(got, 200)
        self.rig.finish()

    def test_nowhere(self) -> None:
        """What leads nowhere is told, never before `send` returns: no such name, no listener of that family, no URI."""
        self.rig.core.proxy.transports.listeners[:] = [
            one for one in self.rig.core.proxy.transports.listeners if ":" not in one.address]
        for ask in (self.ask("sip:nobody.example"), self.ask("sip:[2001:db8::9]"), self.ask("tel:123"),
                    self.ask(route=("<mailto:a@b.example>",)), self.ask(route=("<broken",))):
            self.send(ask)
            self.rig.advance(5.0)
        self.assertEqual([outcome.status for outcome in self.outcomes], [0] * 5)
        self.assertTrue(all(outcome.reason for outcome in self.outcomes))
        self.rig.finish()

    @shows("OUT-06", "17.1.2.2")
    def test_deadline(self) -> None:
        """However many silent servers a name has, the ask ends; so it does when the name itself is never answered."""
        for number in range(1, 40):
            self.rig.dns.address("many.example", f"203.0.113.{number}")
        self.send(self.ask("sip:many.example:5060"))
        self.rig.advance(97.0)
        self.assertEqual([outcome.status for outcome in self.outcomes], [0])
        self.rig.dns.all_silent = True
        self.send(self.ask("sip:silent.example", patience=1.0))
        self.rig.advance(2.0)
        self.assertEqual([outcome.reason for outcome in self.outcomes[1:]], ["no answer"])
        self.rig.finish()

    @shows("OUT-06", "8.1.3.1")
    def test_late_answer(self) -> None:
        """An answer that comes after its server was given up changes nothing; that of the next one counts."""
        self.rig.dns.address("two.example", PEER, "203.0.113.20")
        one, two = self.rig.phone("a", PEER), self.rig.phone("b", "203.0.113.20")
        self.send(self.ask("sip:two.example:5060"))
        first, second = (one, two) if one.unread else (two, one)
        self.rig.advance(4.5)
        first.answer(first.drain()[0], 500)  # type: ignore[arg-type]
        self.assertEqual(self.outcomes, [])
        second.answer(second.take("NOTIFY"), 200)
        self.assertEqual([outcome.status for outcome in self.outcomes], [200])
        self.rig.finish()

    def test_cancelled(self) -> None:
        """What is given up is not told, and leaves nothing, whatever it was waiting for."""
        self.rig.dns.all_silent = True
        peer = self.rig.phone("peer", PEER)
        self.rig.network.listen("tcp", PEER, 5060, "blackhole")
        for uri in (f"sip:{PEER}", "sip:silent.example", f"sip:{PEER};transport=tcp", "sip:[2001:db8::9]"):
            sending = self.send(self.ask(uri))
            assert sending is not None
            sending.cancel()
            sending.cancel()
        self.rig.advance(40.0)
        peer.answer(peer.take("NOTIFY"), 200)
        self.assertEqual(self.outcomes, [])
        self.rig.finish()

    def test_bound(self) -> None:
        """When too much is under way there is no further request, and it is counted."""
        self.rig.core.uac.running.limit = 2
        self.assertEqual([self.send(self.ask()) is None for _ in range(3)], [False, False, True])
        self.assertEqual(self.rig.core.uac.running.refused, 1)
        self.rig.advance(40.0)
        self.assertEqual(len(self.outcomes), 2)
        self.rig.finish()

    @shows("OUT-01", "18.1.1")
    def test_large(self) -> None:
        """A request too large for a datagram goes by TCP, and by UDP where nobody takes the connection; its Contact
        names the same listener either way."""
        acceptor = self.rig.network.listen("tcp", PEER, 5060)
        self.send(self.ask(contact="me", body=b"x" * 1500))
        self.rig.advance(0.1)
        data = acceptor.connections[0].received[0]
        self.assertIn(b"Via: SIP/2.0/TCP ", data)
        self.assertIn(b"Contact: <sip:me@192.0.2.1:5060>\r\n", data)
        peer = self.rig.phone("peer", PEER)
        peer.connection, peer.endpoint = acceptor.connections[0], None
        peer.answer(peer.take("NOTIFY"), 200)
        acceptor.connections[0].close()
        acceptor.mode = "refuse"
        other = self.rig.phone("peer", PEER)
        self.send(self.ask(contact="me", body=b"x" * 1500))
        self.rig.advance(1.0)
        got = other.drain()[0]
        self.assertIn("UDP", got.first["via"])
        other.answer(got, 200)  # type: ignore[arg-type]
        self.assertEqual([outcome.status for outcome in self.outcomes], [200, 200])
        self.rig.finish()

    @shows("OUT-07", "26.2.2")
    def test_sips(self) -> None:
        """A sips URI is asked over TLS with a sips Contact, and not followed to a sip one."""
        acceptor = self.rig.network.listen("tls", PEER, 5061)
        self.send(self.ask(f"sips:{PEER}", contact="me"))
        self.rig.advance(0.1)
        self.assertIn(b"Contact: <sips:me@192.0.2.1:5061>\r\n", acceptor.connections[0].received[0])
        peer = self.rig.phone("peer", "203.0.113.99")
        peer.connection, peer.endpoint = acceptor.connections[0], None
        peer.answer(peer.take("NOTIFY"), 302, "Contact: <sip:203.0.113.20>, <tel:5>")
        self.assertEqual([outcome.status for outcome in self.outcomes], [302])
        self.rig.finish()

    @shows("OUT-07", "20.33")
    def test_retry_after(self) -> None:
        """The seconds of a Retry-After, whatever stands behind them."""
        for text, seconds in (("", 0), ("5", 5), (" 120 (a meeting)", 120), ("60;duration=5", 60), ("soon", 0), ("-5", 0)):
            self.assertEqual(retry_after(text), seconds)
