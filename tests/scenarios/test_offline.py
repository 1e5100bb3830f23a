"""Messages to those who are not there: kept, and delivered when a phone registers (RFC 3428)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from sipd.records import MemoryRecords
from tests.support.cases import shows
from tests.support.rig import Phone, Rig


def text(sender: Phone, to: str, body: bytes = b"Hello", *extra: str, **fields: Any) -> Request:
    """Sends a MESSAGE."""
    if not any(line.startswith("Content-Type:") for line in extra):
        extra = ("Content-Type: text/plain", *extra)
    return sender.request("MESSAGE", to if ":" in to else f"sip:{to}@example.com", *extra, body=body, **fields)


class OfflineTestCase(TestCase):
    """A sender, and 1002 who is not there yet."""

    #: Of [messages], besides store_offline.
    settings: dict[str, Any] = {}

    def setUp(self) -> None:
        self.kept = MemoryRecords()
        self.rig = self.started()
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")

    def started(self, **more: Any) -> Rig:
        """A server over what is kept."""
        more.setdefault("messages", {"store_offline": True, **self.settings})
        return Rig(kept=self.kept, **more)

    def send(self, body: bytes = b"Hello", *extra: str, take: int = 202, **fields: Any) -> Request:
        """A MESSAGE to 1002, and the answer to it."""
        request = text(self.a, "1002", body, *extra, **fields)
        self.answered = self.a.take(take)
        return request

    def got(self, status: int = 200, phone: Phone | None = None) -> Request:
        """The MESSAGE that comes to a phone next, answered."""
        phone = phone or self.b
        self.rig.advance(0.1)
        request = phone.take("MESSAGE")
        assert isinstance(request, Request)
        phone.answer(request, status)
        self.rig.advance(0.1)
        return request

    def kinds(self, wanted: str = "message-") -> list[str]:
        """The records about messages."""
        return [kind for kind, _ in self.rig.records if kind.startswith(wanted)]


class Storing(OfflineTestCase):
    """What is kept, and how it arrives."""

    @shows("NIT-02", "3428 7")
    def test_in_order_once(self) -> None:
        """Three messages are answered 202 and come in their order when the phone registers, after its 200; then they
        are gone: a refresh brings nothing."""
        bodies = [b"one", b"two", b"three"]
        for body in bodies:
            self.send(body)
        self.b.register()
        self.assertEqual([self.got().body for _ in bodies], bodies)
        self.rig.advance(100.0)
        self.b.register()
        self.rig.finish()
        self.assertEqual(self.kinds(), ["message-stored"] * 3 + ["message-delivered"] * 3)
