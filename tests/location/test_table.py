"""The table of bindings: look-up, expiry by visit only, and what a binding costs."""

from __future__ import annotations

import random
import tracemalloc

from twisted.trial.unittest import TestCase

from sipd.binding import Binding, changed
from sipd.inventory import Inventory
from sipd.location.table import BindingTable
from tests.location.bindings import binding


class Changed(TestCase):
    """The pure step from bindings to bindings."""

    def test_order(self) -> None:
        """A refreshed binding keeps its place, a new one comes last, a removed one leaves the others as they were."""
        one, two, three = (binding(contact=f"sip:{n}@192.0.2.7") for n in (1, 2, 3))
        again = binding(contact="sip:1@192.0.2.7", cseq=2)
        self.assertEqual(changed((one, two), [("put", again), ("put", three)]), (again, two, three))
        self.assertEqual(changed((one, two, three), [("delete", two)]), (one, three))

    def test_unknown_removal(self) -> None:
        """Removing what is not there changes nothing."""
        one = binding()
        self.assertEqual(changed((one,), [("delete", binding(contact="sip:other@192.0.2.7"))]), (one,))


class BindingTableTest(TestCase):
    """The table by itself; the numbers are seconds."""

    def setUp(self) -> None:
        self.inventory = Inventory()
        self.table = BindingTable(self.inventory, 100)

    def put(self, *bindings: Binding) -> None:
        for each in bindings:
            self.table.change(each.aor, [("put", each)])

    def test_live(self) -> None:
        """A binding is told until its second has come, not at it."""
        self.put(binding(expires_at=50.5))
        self.assertEqual(len(self.table.live("alice@example.com", 50.4)), 1)
        self.assertEqual(self.table.live("alice@example.com", 50.5), [])
        self.assertEqual(self.table.live("nobody@example.com", 0), [])

    def test_expire_drops_only_what_has_expired(self) -> None:
        """Of two bindings of one name the earlier goes first, and the name is visited again for the other."""
        early = binding(contact="sip:a@192.0.2.7", expires_at=10)
        late = binding(contact="sip:b@192.0.2.7", expires_at=20)
        self.put(late, early)
        self.assertEqual(self.table.next_due(), 11)
        self.assertEqual(self.table.expire(10.9, 100), [])
        self.assertEqual(self.table.expire(11, 100), [early])
        self.assertEqual(self.table.size, 1)
        self.assertEqual(self.table.next_due(), 21)
        self.assertEqual(self.table.expire(21, 100), [late])
        self.assertIsNone(self.table.next_due())
        self.assertEqual(self.inventory.left(), {})

    def test_refresh_moves_the_visit(self) -> None:
        """After a refresh nothing is left to do at the old time."""
        self.put(binding(expires_at=10), binding(expires_at=500, cseq=2))
        self.assertEqual(self.table.expire(499, 100), [])
        self.assertEqual(self.table.next_due(), 501)
        self.assertEqual(self.table.size, 1)

    def test_expire_in_portions(self) -> None:
        """A thousand bindings that expire together are dropped a portion at a time."""
        self.put(*(binding(f"u{n}", expires_at=10) for n in range(1000)))
        self.assertEqual(len(self.table.expire(11, 300)), 300)
        self.assertEqual(self.table.next_due(), 11)
        self.assertEqual(len(self.table.expire(11, 5000)), 700)
        self.assertEqual(self.inventory.left(), {})

    def test_removal_leaves_nothing(self) -> None:
        """Removing the last binding empties the lists of seconds too."""
        self.put(binding())
        self.table.change("alice@example.com", [("delete", binding())])
        self.assertEqual(self.inventory.left(), {})
        self.assertIsNone(self.table.next_due())

    def test_refreshing_cannot_fill_the_seconds(self) -> None:
        """However often names move between two seconds, each second is remembered once."""
        self.put(binding("bob", expires_at=5000))
        for n in range(2000):
            self.put(binding(expires_at=100 + n % 2))
        self.assertEqual(len(self.table._seconds), 3)

    def test_against_a_plain_model(self) -> None:
        """Random changes and expiry agree with a dict walked from end to end."""
        dice = random.Random(7)
        model: dict[tuple[str, str], Binding] = {}
        for now in range(300):
            for _ in range(dice.randrange(4)):
                each = binding(dice.choice("abc"), f"sip:{dice.randrange(3)}@192.0.2.7",
                               now + dice.randrange(1, 60) + 0.5)
                kind = dice.choice(("put", "put", "delete"))
                self.table.change(each.aor, [(kind, each)])
                if kind == "put":
                    model[each.aor, each.contact] = each
                else:
                    model.pop((each.aor, each.contact), None)
            lost = [each for each in model.values() if int(each.expires_at) + 1 <= now]
            self.assertEqual(set(self.table.expire(now, 10**6)), set(lost))
            for each in lost:
                del model[each.aor, each.contact]
            self.assertEqual(set(self.table), set(model.values()))
            self.assertEqual(self.table.size, len(model))

    def test_memory(self) -> None:
        """Twenty thousand bindings cost at most 1 kB each beyond their text, so that a million fit a small machine."""
        table = BindingTable(Inventory(), 10**6)
        text = 0
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for n in range(20000):
                each = binding(f"user{n}", expires_at=1000.5 + n / 10, flow=f"udp/192.0.2.1:5060/192.0.2.7:{n}")
                text += len(each.aor + each.contact + each.call_id + each.flow)
                table.change(each.aor, [("put", each)])
            cost = (tracemalloc.get_traced_memory()[0] - before - text) / 20000
        finally:
            tracemalloc.stop()
        self.assertLess(cost, 1000)
