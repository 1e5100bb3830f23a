"""The location service: memory that shows what the store acknowledged, and expiry in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sipd.binding import Binding, Change
from sipd.interfaces import ILocationStore
from sipd.inventory import Inventory
from sipd.journal import Journal
from sipd.location.service import Location
from tests.location.bindings import binding

ALICE = "alice@example.com"


@implementer(ILocationStore)
class SlowStore:
    """A store whose commits return when the test says so."""

    def __init__(self, *stored: Binding) -> None:
        self.stored = {(each.aor, each.contact): each for each in stored}
        self.asked: list[tuple[list[Change], Callable[[str], None]]] = []
        self.closed = False

    def load(self) -> Iterable[Binding]:
        """What is stored."""
        return list(self.stored.values())

    def commit(self, changes: list[Change], done: Callable[[str], None]) -> None:
        """Remembers the question."""
        self.asked.append((changes, done))

    def answer(self, reason: str = "") -> None:
        """Lets the oldest commit return."""
        changes, done = self.asked.pop(0)
        if not reason:
            for kind, each in changes:
                if kind == "put":
                    self.stored[each.aor, each.contact] = each
                else:
                    self.stored.pop((each.aor, each.contact), None)
        done(reason)

    def close(self) -> None:
        """Remembers it."""
        self.closed = True


class LocationTest(TestCase):
    """The service over a store that waits; the wall clock is the virtual one, unless a test lets it jump."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.step = 0.0
        self.store = SlowStore()
        self.inventory = Inventory()
        self.journal = Journal()
        self.records: list[tuple[str, dict[str, Any]]] = []
        self.journal.sinks.append(lambda kind, fields: self.records.append((kind, fields)))
        self.said: list[str] = []
        self.location = self.service(self.store)

    def service(self, store: ILocationStore | None, limit: int = 1000) -> Location:
        """A started service."""
        location = Location(store, self.clock, lambda: self.clock.seconds() + self.step, self.journal,
                            self.inventory, limit)
        location.start()
        return location

    def change(self, *changes: Change, aor: str = ALICE) -> None:
        self.location.change(aor, list(changes), self.said.append)

    def test_fake_store(self) -> None:
        """The store of these tests is one."""
        verifyObject(ILocationStore, self.store)

    def test_visible_after_the_commit(self) -> None:
        """A binding is told, and `done` called, when its commit has returned and not before."""
        self.change(("put", binding()))
        self.assertEqual((self.location.bindings(ALICE), self.said), ([], []))
        self.assertEqual(self.location.latest(ALICE), [binding()])
        self.store.answer()
        self.assertEqual((self.location.bindings(ALICE), self.said), ([binding()], [""]))
        self.assertEqual(len(self.location), 1)

    def test_failed_commit(self) -> None:
        """After a failed commit everything is as before, the one who asked knows why, and the journal has it once."""
        self.change(("put", binding()))
        self.store.answer()
        for _ in range(3):
            self.change(("delete", binding()), ("put", binding(contact="sip:x@192.0.2.7")))
            self.store.answer("disk full")
        self.assertEqual(self.said, ["", "disk full", "disk full", "disk full"])
        self.assertEqual(self.location.bindings(ALICE), [binding()])
        self.assertEqual(self.location.latest(ALICE), [binding()])
        self.assertEqual(self.records, [("store-failed", {"reason": "disk full"})])
        self.change(("put", binding(cseq=2)))
        self.store.answer()
        self.change(("put", binding(cseq=3)))
        self.store.answer("disk full")
        self.assertEqual(len(self.records), 2)

    def test_failure_between_successes(self) -> None:
        """Of three changes in flight the second fails: memory holds what the disk holds, the first and the third."""
        one, two, three = (binding(contact=f"sip:{n}@192.0.2.7") for n in (1, 2, 3))
        self.change(("put", one))
        self.change(("delete", one), ("put", two))
        self.change(("put", three))
        self.assertEqual(self.location.latest(ALICE), [two, three])
        self.store.answer()
        self.store.answer("disk full")
        self.assertEqual(self.location.latest(ALICE), [one, three])
        self.store.answer()
        self.assertEqual(self.location.bindings(ALICE), [one, three])
        self.assertEqual(set(self.store.load()), {one, three})

    def test_expiry(self) -> None:
        """A binding ends in its second, said in the journal and to the store; then nothing is left, no timer either."""
        self.change(("put", binding(expires_at=30.0)))
        self.store.answer()
        self.clock.advance(29.9)
        self.assertEqual(len(self.location.bindings(ALICE)), 1)
        self.clock.advance(0.1)
        self.assertEqual(self.location.bindings(ALICE), [])
        self.clock.advance(1.0)
        self.assertEqual(self.records, [("registration-lost", {"aor": ALICE, "contact": binding().contact,
                                                               "reason": "expired"})])
        self.store.answer()
        self.assertEqual(list(self.store.load()), [])
        self.assertEqual((self.inventory.left(), self.clock.getDelayedCalls()), ({}, []))

    def test_removal_ends_the_timer(self) -> None:
        """When the last binding is removed no timer stays."""
        self.change(("put", binding()))
        self.store.answer()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.change(("delete", binding()))
        self.store.answer()
        self.assertEqual((self.inventory.left(), self.clock.getDelayedCalls()), ({}, []))

    def test_earlier_expiry_wakes_earlier(self) -> None:
        """A binding shorter than all others is still dropped in time."""
        self.change(("put", binding("bob", expires_at=55.0)), aor="bob@example.com")
        self.store.answer()
        self.change(("put", binding(expires_at=5.0)))
        self.store.answer()
        self.clock.advance(6.1)
        self.assertEqual([kind for kind, _ in self.records], ["registration-lost"])

    def test_many_expire_together(self) -> None:
        """Thousands that expire together are dropped over several turns, all within a second."""
        self.location = self.service(None, 10000)
        for n in range(3000):
            self.change(("put", binding(f"u{n}", expires_at=30.0)), aor=f"u{n}@example.com")
        self.clock.advance(31.0)
        self.assertLess(len(self.records), 3000)
        self.clock.pump([0.05] * 20)
        self.assertEqual(len(self.records), 3000)
        self.assertEqual((self.inventory.left(), self.clock.getDelayedCalls()), ({}, []))

    def test_clock_steps_forward(self) -> None:
        """After the wall clock jumped past the expiry the binding is gone at once, and swept within a minute."""
        self.change(("put", binding(expires_at=3000.0)))
        self.store.answer()
        self.step = 5000.0
        self.assertEqual(self.location.bindings(ALICE), [])
        self.clock.advance(60.0)
        self.assertEqual(len(self.location), 0)

    def test_clock_steps_back(self) -> None:
        """After the wall clock was set back the binding lives until its time by that clock."""
        self.change(("put", binding(expires_at=100.0)))
        self.store.answer()
        self.step = -50.0
        self.clock.pump([10.0] * 14)
        self.assertEqual(len(self.location.bindings(ALICE)), 1)
        self.clock.pump([1.0] * 12)
        self.assertEqual(len(self.location), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_refresh_in_flight_at_expiry(self) -> None:
        """A refresh on its way to the disk while its binding expires is not undone by the removal of the old one."""
        self.change(("put", binding(expires_at=30.0)))
        self.store.answer()
        fresh = binding(expires_at=90.0, cseq=2)
        self.clock.advance(29.99)
        self.change(("put", fresh))
        self.clock.advance(2.0)
        while self.store.asked:
            self.store.answer()
        self.assertEqual(self.location.bindings(ALICE), [fresh])
        self.assertEqual(list(self.store.load()), [fresh])

    def test_start_reads_the_store(self) -> None:
        """What was stored is there after the start and expires in its time."""
        self.location = self.service(SlowStore(binding(expires_at=20.0), binding("bob", expires_at=40.0)))
        self.assertEqual(self.location.bindings(ALICE), [binding(expires_at=20.0)])
        self.assertEqual(len(list(self.location.everything())), 2)
        self.clock.advance(21.0)
        self.assertEqual([each.aor for each in self.location.everything()], ["bob@example.com"])

    def test_stop(self) -> None:
        """A stop ends the timer and closes the store; a commit answered later starts no timer."""
        self.change(("put", binding()))
        self.store.answer()
        self.change(("put", binding(expires_at=10.0)))
        self.location.stop()
        self.store.answer()
        self.assertTrue(self.store.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_watchers(self) -> None:
        """Watchers are told what was stored and why, after whoever asked: a change, a refresh, a removal, what expired;
        not what failed, and nothing after `unwatch`. Who watches twice is told once."""
        told: list[tuple[str, list[Change], str, int]] = []

        def watcher(aor: str, changes: Sequence[Change], why: str) -> None:
            told.append((aor, list(changes), why, len(self.said)))

        for _ in range(2):
            self.location.watch(watcher)
        first, again = binding(), binding(cseq=2, expires_at=20.0)
        self.change(("put", first))
        self.assertEqual(told, [])
        self.store.answer()
        self.change(("put", again))
        self.store.answer()
        self.change(("delete", again))
        self.store.answer("disk full")
        self.location.change(ALICE, [("put", binding(contact="sip:n@192.0.2.7"))], self.said.append, "removed")
        self.store.answer()
        other = binding("bob", expires_at=20.0)
        self.change(("put", other), aor="bob@example.com")
        self.store.answer()
        self.clock.advance(21.5)
        self.assertEqual(told[:4], [
            (ALICE, [("put", first)], "", 1), (ALICE, [("put", again)], "", 2),
            (ALICE, [("put", binding(contact="sip:n@192.0.2.7"))], "removed", 4),
            ("bob@example.com", [("put", other)], "", 5)])
        self.assertEqual(sorted(told[4:]), [
            (ALICE, [("delete", again)], "expired", 5), ("bob@example.com", [("delete", other)], "expired", 5)])
        self.location.unwatch(watcher)
        self.change(("put", first))
        self.store.answer()
        self.store.answer()
        self.assertEqual(len(told), 6)

    def test_without_a_store(self) -> None:
        """With nothing but memory a change is there when `done` is called, at once, and the watchers are told after that;
        what expires leaves nothing."""
        self.location = self.service(None)
        seen: list[tuple[str, list[Binding]]] = []
        self.location.watch(lambda aor, changes, why: seen.append(("told", list(self.location.bindings(aor)))))
        self.location.change(ALICE, [("put", binding(expires_at=30.0))],
                             lambda reason: seen.append((f"done{reason}", self.location.bindings(ALICE))))
        self.assertEqual(seen, [("done", [binding(expires_at=30.0)]), ("told", [binding(expires_at=30.0)])])
        self.assertEqual(self.location.latest(ALICE), [binding(expires_at=30.0)])
        self.clock.advance(31.0)
        self.assertEqual(seen[2:], [("told", [])])
        self.location.stop()
        self.assertEqual((self.inventory.left(), self.clock.getDelayedCalls()), ({}, []))

    def test_bound(self) -> None:
        """At the bound a new binding is not admitted, said in the journal once; refresh, move and removal are."""
        self.location = self.service(None, limit=2)
        self.change(("put", binding()))
        self.assertTrue(self.location.admits("bob@example.com", [("put", binding("bob"))]))
        self.change(("put", binding("bob")), aor="bob@example.com")
        for _ in range(2):
            self.assertFalse(self.location.admits("carol@example.com", [("put", binding("carol"))]))
        self.assertEqual([kind for kind, _ in self.records], ["limit-reached"])
        self.assertTrue(self.location.admits(ALICE, [("put", binding(cseq=2))]))
        moved = binding(contact="sip:n@192.0.2.7")
        self.assertTrue(self.location.admits(ALICE, [("delete", binding()), ("put", moved)]))
        self.assertTrue(self.location.admits(ALICE, [("delete", binding())]))


class LocationModel(TestCase):
    """The service against a model that is told in the order of the answers."""

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(["put", "delete", "answer", "fail", "wait"]), st.sampled_from("ab"),
                              st.integers(0, 2), st.integers(1, 40)), max_size=40))
    def test_random(self, steps: list[tuple[str, str, int, int]]) -> None:
        """Whatever is asked, answered or failed in whatever order: memory tells what is stored and live, and in the end
        nothing is left."""
        clock, store, inventory = Clock(), SlowStore(), Inventory()
        location = Location(store, clock, clock.seconds, Journal(), inventory)
        location.start()
        asked = answered = 0

        def done(reason: str) -> None:
            nonlocal answered
            answered += 1

        for step, user, number, seconds in steps:
            if step in ("put", "delete"):
                each = binding(user, f"sip:{number}@192.0.2.7", clock.seconds() + seconds)
                location.change(each.aor, [(step, each)], done)
                asked += 1
            elif step == "wait":
                clock.advance(seconds)
            elif store.asked:
                store.answer("failed" if step == "fail" else "")
            for user in "ab":
                aor = f"{user}@example.com"
                live = {each for each in store.load() if each.aor == aor and each.expires_at > clock.seconds()}
                assert set(location.bindings(aor)) == live
        while store.asked:
            store.answer()
        for _ in range(200):
            clock.advance(1)
            while store.asked:
                store.answer()
        assert asked == answered
        assert (inventory.left(), clock.getDelayedCalls()) == ({}, [])
