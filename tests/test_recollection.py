"""What is remembered of each user and each peer."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sipd.inventory import Inventory
from sipd.journal import Journal
from sipd.recollection import NAMES, RECORDS, Recollection


class RecollectionTests(SynchronousTestCase):
    """A journal with a recollection, on a clock that the test sets; 1001 is the only user."""

    def setUp(self) -> None:
        self.now = 1000.0
        self.inventory = Inventory()
        self.kept = Recollection(lambda who: who.removeprefix("sip:") if who == "sip:1001@example.com" else "",
                                 lambda: self.now, self.inventory)
        self.journal = Journal()
        self.journal.sinks.append(self.kept)

    def moved(self, number: int, aor: str = "1001@example.com") -> None:
        """A phone of 1001 is seen at another port."""
        self.journal.write("registration-new", aor=aor, contact=f"sip:1001@192.0.2.1:{number}", source="192.0.2.1:5060",
                           expires=60)

    def test_what_happened(self) -> None:
        """Records about a user in order, with their times; a user of whom nothing is known has none."""
        self.moved(1)
        self.now += 2.5
        self.journal.write("registration-lost", aor="1001@example.com", contact="sip:1001@192.0.2.1:1", reason="expired")
        self.journal.write("bug", reason="about nobody")
        self.assertEqual(self.kept.of("1001@example.com"), [
            {"at": 1000.0, "after": 0.0,
             "text": "1001@example.com registered sip:1001@192.0.2.1:1 from 192.0.2.1:5060, expires in 60 s"},
            {"at": 1002.5, "after": 2.5, "text": "1001@example.com lost sip:1001@192.0.2.1:1: expired"}])
        self.assertEqual(self.kept.of("1002@example.com"), [])

    def test_peers(self) -> None:
        """The same of a peer."""
        self.journal.write("peer-failed", peer="carrier", reason="connection refused", seconds=30)
        self.assertEqual([row["text"] for row in self.kept.of("carrier")],
                         ["peer carrier cannot register: connection refused; tried again in 30 s"])

    def test_refusals(self) -> None:
        """A refused request is remembered of the user it names, the same again as a number; of a stranger never."""
        for who in ("sip:1001@example.com", "sip:1001@example.com", "sip:9999@example.com", "somebody unreadable"):
            self.journal.write("refused", method="REGISTER", source="192.0.2.6:5060", status=401,
                               reason="wrong password", who=who)
            self.now += 1.0
        self.assertEqual(self.kept.of("1001@example.com"), [
            {"at": 1001.0, "after": 0.0, "text": "REGISTER from 192.0.2.6:5060 refused 401: wrong password "
                                                 "(sip:1001@example.com) (2 times)"}])
        self.assertEqual(sum(len(table) for table in self.inventory), 1)

    def test_bounds(self) -> None:
        """The last records of a name, and no more names than the bound."""
        for number in range(RECORDS + 3):
            self.moved(number)
        self.assertIn(":3 from", self.kept.of("1001@example.com")[0]["text"])
        self.assertEqual(len(self.kept.of("1001@example.com")), RECORDS)
        for number in range(NAMES + 1):
            self.moved(1, f"{number}@example.com")
        self.assertLessEqual(max(len(table) for table in self.inventory), NAMES)
        self.assertEqual(self.kept.of("1001@example.com"), [])
