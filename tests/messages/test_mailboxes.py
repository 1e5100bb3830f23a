"""Limits and the store's failures, on the real core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sipd import settings
from sipd.config_messages import Messages
from sipd.records import Change, MemoryRecords
from tests.scenarios.test_offline import OfflineTestCase, text
from tests.support.cases import shows
from tests.support.rig import Rig


class SlowRecords(MemoryRecords):
    """Records whose commits return when the test says so, once `slow` is set."""

    slow = False

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Sequence[Change], Callable[[str], None]]] = []

    def commit(self, changes: Sequence[Change], done: Callable[[str], None]) -> None:
        """Remembers the question."""
        if self.slow:
            self.asked.append((changes, done))
        else:
            super().commit(changes, done)

    def answer(self, reason: str = "") -> None:
        """Lets the oldest commit return."""
        changes, done = self.asked.pop(0)
        if reason:
            done(reason)
        else:
            super().commit(changes, done)


class LimitTests(OfflineTestCase):
    """A flood cannot fill the disk."""

    def limited(self, **limits: Any) -> None:
        """A server with these limits."""
        self.rig = self.started(messages={"store_offline": True, **limits})
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")

    def full(self, phrase: str, user: str = "1002") -> None:
        """The next message is refused, with the time after which it may come again."""
        text(self.a, user)
        refused = self.a.take(480)
        self.assertEqual((refused.reason, refused.get("retry-after")), (phrase, "600"))

    def test_per_user(self) -> None:
        """So many wait for one user; when one was delivered there is room again."""
        self.limited(max_per_user=2)
        self.send(b"1")
        self.send(b"2")
        self.full("Mailbox Full")
        text(self.a, "1003")
        self.a.take(202)
        self.b.register()
        self.got()
        self.got()
        self.b.register("Expires: 0", contact="*", expires=None, cseq=99)
        self.send(b"3")

    def test_per_sender(self) -> None:
        """So many wait from one sender, for whomever."""
        self.limited(max_per_sender=2)
        self.send()
        text(self.a, "1003")
        self.a.take(202)
        self.full("Too Many Messages Of Yours Are Waiting", "1004")
        other = self.rig.phone("1005")
        text(other, "1004")
        other.take(202)

    def test_in_all(self) -> None:
        """So many, and so many bytes, wait in all; the journal has it once."""
        self.limited(max_messages=2)
        for user in ("1002", "1003"):
            text(self.a, user)
            self.a.take(202)
        for _ in range(3):
            self.full("No Room For Messages", "1004")
        self.assertEqual([fields["table"] for kind, fields in self.rig.records if kind == "limit-reached"],
                         ["messages stored"])
        self.kept.kept.clear()
        self.limited(total_size=2000, max_size=1500)
        self.send(b"x" * 1000)
        text(self.a, "1003", b"x" * 1000)
        self.assertEqual(self.a.take(480).reason, "No Room For Messages")

    def test_size(self) -> None:
        """One that is too large is refused with 413, for good: without Retry-After."""
        self.limited(max_size=1000, total_size=5000)
        text(self.a, "1002", b"x" * 1200)
        refused = self.a.take(413)
        self.assertIsNone(refused.get("retry-after"))
        text(self.a, "1002", b"x", "X-Long: " + "y" * 1200)
        self.a.take(413)
        self.rig.finish()

    def test_lower_limits(self) -> None:
        """Limits that are lower after a restart keep new ones out; what waits stays."""
        for body in (b"1", b"2", b"3"):
            self.send(body)
        self.limited(max_per_user=1, max_messages=1)
        self.full("Mailbox Full")
        self.b.register()
        self.assertEqual([self.got().body for _ in range(3)], [b"1", b"2", b"3"])
        self.rig.finish()

    def test_numbers(self) -> None:
        """No number is given twice, also when the store was empty at the start."""
        self.send()
        self.b.register()
        self.got()
        self.rig = self.started()
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        self.send()
        self.assertEqual(list(self.rig.core.messages.boxes.messages), [2])

    def test_configured_again(self) -> None:
        """A reload turns storage on and off and sets limits for what comes from then on; what waits stays."""
        self.rig = self.started(messages={})
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        self.send(take=480)
        core = self.rig.core

        def configure(**values: Any) -> None:
            config = self.rig.config.model_copy(update={"messages": Messages(**values)})
            settings.configure(core, config, core.realm, [])

        configure(store_offline=True, max_per_user=1)
        self.send(b"kept")
        self.full("Mailbox Full")
        configure()
        self.send(take=480)
        self.b.register()
        self.assertEqual(self.got().body, b"kept")
        self.rig.finish()

    def test_many_at_once(self) -> None:
        """Thousands that have expired, or that no phone wants, go without going deep."""
        self.limited(max_per_user=3000, max_per_sender=3000)
        for number in range(1500):
            text(self.a, "1002", b"x", "Expires: 30", call_id=f"many{number}", branch=f"z9hG4bKmany{number}")
        wall = self.rig.wall
        self.rig.core.messages.boxes._wall = lambda: wall() + 100.0
        self.b.register()
        self.rig.advance(1.0)
        self.assertEqual(len(self.rig.core.messages.boxes.messages), 0)
        self.a.drain()
        self.rig.finish()

    def test_user_is_gone(self) -> None:
        """What waits for somebody who is no user any more ends, at the start and when the user is removed."""
        self.send()
        self.rig.core.users.forget_configured()
        self.rig.core.user_changed("1002@example.com")
        self.send(take=404)
        self.assertEqual([fields["reason"] for kind, fields in self.rig.records if kind == "message-lost"],
                         ["the user was removed"])
        self.rig = self.started()
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        self.send()
        self.rig = self.started(users={"1001": "x"})
        self.assertEqual([fields["reason"] for kind, fields in self.rig.records if kind == "message-lost"],
                         ["there is no such user any more"])
        self.rig.finish()


class StoreTests(OfflineTestCase):
    """A store that is slow, or fails."""

    def setUp(self) -> None:
        super().setUp()
        self.disk = SlowRecords()
        self.rig = Rig(kept=self.disk, messages={"store_offline": True})
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        self.disk.slow = True

    @shows("NIT-02", "3428 7", "R3428-7-01")
    def test_after_the_commit(self) -> None:
        """The 202 goes out when the message is on disk, and the next message when its removal is."""
        for body in (b"1", b"2"):
            text(self.a, "1002", body)
        self.rig.advance(1.0)
        self.a.silent()
        self.disk.answer()
        self.a.take(202)
        self.a.silent()
        self.disk.answer()
        self.a.take(202)
        self.b.register()
        self.assertEqual(self.got().body, b"1")
        self.rig.advance(1.0)
        self.b.silent()
        self.disk.answer()
        self.assertEqual(self.got().body, b"2")
        self.disk.answer()
        self.assertEqual([kind for kind, _ in self.disk.kept], ["last"])
        self.rig.finish()

    def test_not_stored(self) -> None:
        """A store that fails: 500 with Retry-After, said once, and nothing is kept; the next one may succeed."""
        for _ in range(2):
            text(self.a, "1002", b"lost")
            self.disk.answer("disk full")
            refused = self.a.take(500)
            self.assertEqual((refused.reason, refused.get("retry-after")), ("Message Not Stored", "600"))
        text(self.a, "1002", b"kept")
        self.disk.answer()
        self.a.take(202)
        self.assertEqual(self.kinds(), ["message-store-failed", "message-stored"])
        self.b.register()
        self.assertEqual(self.got().body, b"kept")
        self.disk.answer()
        self.rig.finish()

    def test_not_deleted(self) -> None:
        """A delivered message that the store does not let go of is not delivered again; it goes with the next sweep."""
        text(self.a, "1002", b"1")
        self.disk.answer()
        self.a.take(202)
        self.b.register()
        self.got()
        self.disk.answer("disk full")
        self.b.register(call_id="anew")
        self.rig.advance(1.0)
        self.b.silent()
        self.rig.advance(61.0, 1.0)
        self.disk.answer()
        self.assertEqual([kind for kind, _ in self.disk.kept], ["last"])
        self.rig.finish()

    def test_registers_meanwhile(self) -> None:
        """A phone that registers while the message is on its way to the disk has it as soon as it is there."""
        text(self.a, "1002", b"1")
        self.b.register()
        self.rig.advance(1.0)
        self.b.silent()
        self.disk.answer()
        self.a.take(202)
        self.got()
        self.disk.answer()
        self.rig.finish()

    def test_copy_meanwhile(self) -> None:
        """The same message over another path while it is being stored: merged (s8.2.2.2), stored once."""
        text(self.a, "1002", from_=f"<{self.a.aor}>;tag=m", call_id="m", cseq=1)
        text(self.a, "1002", from_=f"<{self.a.aor}>;tag=m", call_id="m", cseq=1, branch="z9hG4bKother")
        self.a.take(482)
        self.disk.answer()
        self.a.take(202)
        self.assertEqual(len(self.rig.core.messages.boxes.messages), 1)

    def test_taken_meanwhile(self) -> None:
        """A silent phone that answers while the message goes to the disk has it: it is not kept, and the sender hears
        what the phone said."""
        self.b.register()
        text(self.a, "1002")
        self.rig.advance(8.5)
        self.a.take(100)
        self.b.answer(self.b.drain()[0], 200)  # type: ignore[arg-type]
        self.a.take(200)
        self.disk.answer()
        self.disk.answer()
        self.assertEqual([kind for kind, _ in self.disk.kept], ["last"])
        self.rig.finish()

    def test_everybody_at_once(self) -> None:
        """After a power cut all come at once: fifty at a time, the others as these are done."""
        self.disk.slow = False
        users = {f"2{number:03}": "x" for number in range(120)}
        self.rig = Rig(kept=self.disk, messages={"store_offline": True}, users={"1001": "x", **users})
        self.a = self.rig.phone("1001")
        for user in users:
            text(self.a, user)
            self.a.take(202)
        phones = [self.rig.phone(user) for user in users]
        for phone in phones:
            phone.register()
        served = 0
        while served < len(phones):
            self.rig.advance(0.1)
            ready = [phone for phone in phones if phone.unread]
            self.assertTrue(0 < len(ready) <= 50)
            for phone in ready:
                phone.answer(phone.take("MESSAGE"), 200)
            served += len(ready)
        self.rig.finish()

    def test_damaged(self) -> None:
        """Records that no sipd wrote are nothing that waits, nor anything to be shown."""
        texts = ("", "{", "[]", "1", "null", "{}")
        rig = Rig(kept=MemoryRecords({(kind, str(number)): text for kind in ("message", "ended", "other")
                                      for number, text in enumerate(texts)}), messages={"store_offline": True})
        self.assertEqual(rig.core.messages.rows(), [])
