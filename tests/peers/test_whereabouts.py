"""Carriers that are known by their addresses, looked up in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sipd.config_trunks import Peer
from sipd.message.hop import Hop
from sipd.message.uri import Uri
from sipd.peers.policy import Policies
from sipd.peers.whereabouts import EVERY, REMEMBERED, Whereabouts
from sipd.wheel import TimerWheel


class WhereaboutsTests(SynchronousTestCase):
    """A look-up is answered by the test, when it wants."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.policies = Policies(lambda name: 0)
        self.asked: list[tuple[str, Callable[[list[Hop]], None]]] = []
        self.wheel = TimerWheel(self.clock)
        self.whereabouts = Whereabouts(self.policies, self.look_up, self.wheel)

    def look_up(self, uri: Uri, use: Callable[[list[Hop]], None]) -> None:
        """Remembers who asks."""
        self.asked.append((str(uri), use))

    def configure(self, **peers: dict[str, Any]) -> None:
        """Other carriers, known by their addresses unless they say otherwise."""
        made = {name: Peer(**{"identify_by": ("address",), **section}) for name, section in peers.items()}
        self.policies.configure(made, {}, {}, lambda name: name)
        self.whereabouts.configure(made)

    def answer(self, *addresses: str) -> None:
        """Answers every question that was asked."""
        asked, self.asked = self.asked, []
        for _, use in asked:
            use([Hop("udp", address, 5060) for address in addresses])

    def known(self, address: str) -> bool:
        """Whether somebody is there."""
        return self.policies.at(address, 5060) is not None

    def test_again_and_again(self) -> None:
        """A name is asked for at once and every half minute; the newest answer holds, in whatever way an address is
        written."""
        self.configure(a={"uri": "sip:a.example"})
        self.assertEqual([uri for uri, _ in self.asked], ["sip:a.example"])
        self.assertFalse(self.known("192.0.2.1"))
        self.answer("192.0.2.1", "2001:0db8::0001")
        self.assertTrue(self.known("192.0.2.1") and self.known("2001:db8::1"))
        self.clock.advance(EVERY - 1)
        self.assertEqual(self.asked, [])
        self.clock.advance(1.1)
        self.answer("192.0.2.2")
        self.assertEqual([self.known(f"192.0.2.{n}") for n in (1, 2)], [False, True])

    def test_no_answer(self) -> None:
        """Whom the DNS does not know for a while is believed to be where it was, for an hour."""
        self.configure(a={"uri": "sip:a.example"})
        self.answer("192.0.2.1")
        passed = 0.0
        while passed < REMEMBERED - 2 * EVERY:
            self.clock.advance(EVERY + 0.1)
            passed += EVERY + 0.1
            self.answer()
            self.assertTrue(self.known("192.0.2.1"), passed)
        for _ in range(3):
            self.clock.advance(EVERY + 0.1)
            self.answer()
        self.assertFalse(self.known("192.0.2.1"))

    def test_proxy(self) -> None:
        """A carrier that everything goes to by a proxy may come from there as well."""
        self.configure(a={"uri": "sip:a.example", "proxy": "sip:edge.example:5070"})
        self.assertEqual([uri for uri, _ in self.asked], ["sip:a.example", "sip:edge.example:5070;lr"])
        self.asked.pop(0)[1]([Hop("udp", "192.0.2.1", 5060)])
        self.asked.pop(0)[1]([Hop("udp", "192.0.2.2", 5070)])
        self.assertTrue(self.known("192.0.2.1") and self.known("192.0.2.2"))

    def test_who_is_asked(self) -> None:
        """Only those who are known by their addresses and have no registration, which tells it too; nobody, no timer."""
        self.configure(a={"uri": "sip:a.example", "identify_by": ()}, c={"uri": "sip:c.example", "identify_by": ("credentials",)},
                       b={"uri": "sip:b.example", "register": True, "username": "x"})
        self.assertEqual((self.asked, len(self.wheel)), ([], 0))

    def test_reload(self) -> None:
        """Who leaves is forgotten, an answer that comes after that too; who stays is known without a pause."""
        self.configure(a={"uri": "sip:a.example"}, b={"uri": "sip:b.example"})
        self.answer("192.0.2.1")
        self.configure(a={"uri": "sip:a.example", "call_limit": 2})
        self.assertEqual(self.policies.at("192.0.2.1", 5060), self.policies.trunks["a"])
        late, self.asked = self.asked, []
        self.configure(a={"uri": "sip:other.example"})
        self.assertFalse(self.known("192.0.2.1"))
        for _, use in late:
            use([Hop("udp", "192.0.2.9", 5060)])
        self.assertFalse(self.known("192.0.2.9"))
        self.answer("192.0.2.1")
        self.assertTrue(self.known("192.0.2.1"))
        self.configure()
        self.assertFalse(self.known("192.0.2.1"))
        self.whereabouts.stop()
        self.assertEqual(len(self.wheel), 0)
