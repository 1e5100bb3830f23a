"""Tables with bounds, and the inventory that knows them all."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.inventory import Inventory, Table


class InventoryTests(TestCase):
    """Inventory and Table."""

    def test_bound(self) -> None:
        """`full` tells when another entry would pass the bound; a table is otherwise a dict."""
        table: Table[int, str] = Inventory().table("some", 2)
        self.assertFalse(table.full)
        table[1] = "a"
        table[2] = "b"
        self.assertTrue(table.full)
        del table[1]
        self.assertFalse(table.full)
        self.assertEqual((table.name, table.limit, table.refused, table.cache), ("some", 2, 0, False))

    def test_cache(self) -> None:
        """A cache never passes its bound: the oldest entries go, what is entered anew stays."""
        table: Table[int, int] = Inventory().table("some", 80, cache=True)
        for number in range(1000):
            table.remember(number, number)
            self.assertLessEqual(len(table), 80)
            self.assertIn(number, table)
        self.assertEqual(list(table), list(range(1000 - len(table), 1000)))

    def test_cache_entered_again(self) -> None:
        """A full cache loses nothing when an entry is replaced."""
        table: Table[int, int] = Inventory().table("some", 8, cache=True)
        for number in range(8):
            table.remember(number, 0)
        table.remember(3, 1)
        self.assertEqual((len(table), table[3]), (8, 1))

    def test_smallest_cache(self) -> None:
        """A cache of one holds the last."""
        table: Table[int, int] = Inventory().table("some", 1, cache=True)
        for number in range(5):
            table.remember(number, number)
        self.assertEqual(dict(table), {4: 4})

    def test_inventory(self) -> None:
        """Every table made is there, in order; `left` tells of those that are not empty, caches aside."""
        inventory = Inventory()
        one: Table[int, int] = inventory.table("one", 10)
        two: Table[int, int] = inventory.table("two", 10, cache=True)
        three: Table[int, int] = inventory.table("three", 10)
        self.assertEqual([table.name for table in inventory], ["one", "two", "three"])
        self.assertEqual(inventory.left(), {})
        one[1] = two[1] = three[1] = three[2] = 0
        self.assertEqual(inventory.left(), {"one": 1, "three": 2})
