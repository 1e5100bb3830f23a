"""Failed hops are tried last, for a while."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sipd.inventory import Inventory
from sipd.message.hop import Hop
from sipd.resolver.quarantine import Quarantine

A, B, C = (Hop("udp", f"192.0.2.{n}", 5060) for n in (1, 2, 3))


class QuarantineTests(SynchronousTestCase):
    """RFC 3263 s4.3."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.inventory = Inventory()
        self.quarantine = Quarantine(self.clock, self.inventory, 30.0, limit=2)

    def test_last_for_a_while(self) -> None:
        """A failed hop goes to the end and comes back after the period, and its entry is gone then."""
        self.quarantine.add(A)
        self.assertEqual(self.quarantine.last([A, B, C]), [B, C, A])
        self.clock.advance(29.9)
        self.assertEqual(self.quarantine.last([A, B]), [B, A])
        self.clock.advance(0.1)
        self.assertEqual(self.quarantine.last([A, B]), [A, B])
        self.assertEqual([len(table) for table in self.inventory], [0])

    def test_all_failed(self) -> None:
        """When all failed they are still tried, in order."""
        self.quarantine.add(B)
        self.quarantine.add(A)
        self.assertEqual(self.quarantine.last([A, B]), [A, B])

    def test_again(self) -> None:
        """A hop that fails again stays for a whole period more; another transport to the same place is another hop."""
        self.quarantine.add(A)
        self.clock.advance(20)
        self.quarantine.add(A)
        self.clock.advance(20)
        self.assertEqual(self.quarantine.last([A, B]), [B, A])
        self.assertEqual(self.quarantine.last([A._replace(transport="tcp"), B])[1], B)

    def test_name_is_nothing(self) -> None:
        """The name on the certificate does not make another hop."""
        self.quarantine.add(Hop("tls", "192.0.2.1", 5061, "example.com"))
        self.assertEqual(self.quarantine.last([Hop("tls", "192.0.2.1", 5061), B])[0], B)

    def test_bound(self) -> None:
        """The table stays within its bound, the oldest leaves; no timer runs."""
        for hop in (A, B, C):
            self.quarantine.add(hop)
        self.assertEqual(self.quarantine.last([A, B, C]), [A, B, C])
        self.assertEqual(self.quarantine.last([C, A]), [A, C])
        self.assertEqual(self.clock.getDelayedCalls(), [])
