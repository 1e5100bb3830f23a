"""Subscriptions, publications and mailboxes over a restart: what was acknowledged is there, and everybody is told."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.records import MemoryRecords
from tests.events.test_publications import SlowRecords, pidf, publish
from tests.events.watching import basic, notified, refresh, subscribe, unsubscribe
from tests.support.cases import shows
from tests.support.rig import Phone, Rig


class RestartTests(TestCase):
    """A server that is killed, and the one after it on the same records."""

    def setUp(self) -> None:
        self.records = MemoryRecords()
        self.rig = Rig(records=self.records)
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")

    def restart(self, **settings: Any) -> Rig:
        """A kill: nothing is said to anybody; the next server finds the records and the phones where they were."""
        old = self.rig
        network = old.network
        network.servers.clear()
        old.core.events.notifier.stop()
        self.rig = Rig(records=MemoryRecords(dict(self.records.kept)), clock=old.clock, network=network,
                       **settings)
        self.records = self.rig.core.events._records  # type: ignore[assignment]
        for phone in (self.a, self.b):
            self._move(phone)
        return self.rig

    def _move(self, phone: Phone) -> None:
        phone.rig = self.rig
        self.rig.phones.append(phone)

    @shows("SUB-25", "6665 4.2.1", "R6665-4.2.2-07")
    def test_told_again(self) -> None:
        """After a kill every watcher is told the whole state in its dialog, with higher CSeqs, and may refresh and end
        the subscription; it expires when it would have."""
        first = subscribe(self.a, "1002", expires=300)
        before = [notified(self.a)]
        second = subscribe(self.a, "1003", "presence;id=x", expires=600)
        before.append(notified(self.a))
        self.rig.advance(100.0)
        self.restart()
        self.b.register()
        self.rig.advance(0.2, 0.05)
        after = [notified(self.a), notified(self.a)]
        self.assertEqual([one.call_id for one in after], [one.call_id for one in before])
        self.assertEqual([basic(one) for one in after], ["open", "closed"])
        self.assertGreater(after[0].cseq_number, before[0].cseq_number)
        self.assertEqual(after[0].first["subscription-state"], "active;expires=199")
        self.assertEqual(after[1].first["event"], "presence;id=x")
        unsubscribe(self.a, second, "presence;id=x")
        self.rig.advance(199.0)
        self.rig.advance(1.3, 0.1)
        self.assertEqual(notified(self.a).first["subscription-state"], "terminated;reason=timeout")
        refresh(self.a, first, 600)
        self.a.take(481)
        self.assertEqual(self.records.kept, {})
        self.rig.finish()

    @shows("SUB-25", "6665 4.2.1")
    def test_ended_stays_ended(self) -> None:
        """What was unsubscribed, expired while no server ran, or is not served any more does not come back."""
        ended = subscribe(self.a, "1002", expires=300)
        notified(self.a)
        unsubscribe(self.a, ended)
        subscribe(self.a, "1002", expires=60)
        notified(self.a)
        self.rig.clock.advance(0.0)
        self.records.kept["subscription", "odd"] = "{}"
        self.records.kept["publication", "odd"] = (
            '{"package": "gone", "entity": "x", "kind": "k", "body": "", "expires_at": 9e9}')
        self.records.kept["mailbox", "nobody@example.com"] = "{}"
        self.records.kept["unknown", "x"] = ""
        self.rig.core.events.notifier.stop()
        self.rig.advance(61.0)
        self.restart()
        self.rig.advance(1.0)
        self.a.silent()
        self.assertEqual(self.records.kept, {})
        self.rig.finish()

    @shows("SUB-20", "3903 6", "R3903-6-18")
    def test_publications(self) -> None:
        """A publication is there after a kill with its tag, and expires when it would have."""
        tag = publish(self.b, pidf("open", "Back at ten"), expires=300).first["sip-etag"]
        self.rig.advance(100.0)
        self.restart()
        ok = subscribe(self.a, "1002")
        self.assertIn(b"Back at ten", notified(self.a).body)
        tag = publish(self.b, b"", tag, 250).first["sip-etag"]
        self.rig.advance(251.0)
        self.assertEqual(basic(notified(self.a)), "closed")
        publish(self.b, b"", tag, status=412)
        unsubscribe(self.a, ok)
        self.rig.finish()

    @shows("R6665-5.3.2-01", "R4235-4.1-01")
    def test_again_and_again(self) -> None:
        """Five kills one after the other: CSeqs and versions only go up."""
        ok = subscribe(self.a, "1002", expires=3600)
        numbers = [notified(self.a).cseq_number]
        for _ in range(5):
            self.restart()
            self.rig.advance(0.2, 0.05)
            numbers.append(notified(self.a).cseq_number)
        self.assertEqual(numbers, sorted(set(numbers)))
        unsubscribe(self.a, ok)
        self.rig.finish()

    @shows("SUB-13", "SUB-25")
    def test_other_rules(self) -> None:
        """After a restart with another configuration who may watch now is told the state, and who may not any more that:
        no lamp stays lit."""
        self.restart(events={"watch": "self", "otherwise": "pending"})
        subscribe(self.a, "1002")
        self.assertEqual(notified(self.a).body, b"")
        self.restart(events={"watch": "domain"})
        self.rig.advance(0.2, 0.05)
        told = notified(self.a)
        self.assertEqual((told.first["subscription-state"][:6], basic(told)), ("active", "closed"))
        self.restart(events={"watch": "self"})
        self.rig.advance(0.2, 0.05)
        last = notified(self.a)
        self.assertEqual((last.first["subscription-state"], last.body), ("terminated;reason=rejected", b""))
        self.rig.advance(1.0)
        self.a.silent()
        self.assertEqual(self.records.kept, {})
        self.rig.finish()

    def test_damaged(self) -> None:
        """Records that no sipd wrote are left out, and taken out; the others hold."""
        subscribe(self.a, "1002", expires=300)
        notified(self.a)
        watch = next(iter(self.records.kept))
        damaged = {(kind, f"{number}@example.com"): text for kind in ("publication", "mailbox", "subscription", "other")
                   for number, text in enumerate(("", "{", "[]", "1", "null", '{"x": []}', '{"x": {"y": 1}}'))}
        self.records.kept.update(damaged)
        self.restart()
        self.assertEqual(list(self.records.kept), [watch])
        self.rig.advance(0.2, 0.05)
        notified(self.a)

    @shows("SUB-25", "6665 4.2.1")
    def test_not_stored(self) -> None:
        """A subscription that cannot be stored is refused with 500, and nothing is told."""
        store = SlowRecords()
        rig = Rig(records=store)
        a = rig.phone("1001")
        a.request("SUBSCRIBE", "sip:1002@example.com", "Event: presence", "Expires: 600")
        a.silent()
        store.release("the disk is full")
        a.take(500)
        a.request("SUBSCRIBE", "sip:1002@example.com", "Event: presence", "Expires: 600")
        store.release()
        ok = a.take(200)
        notified(a)
        refresh(a, ok, 0)
        store.release()
        a.take(200)
        notified(a)
        store.release()
        rig.finish()
