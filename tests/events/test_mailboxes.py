"""Voicemail lamps: what waits, who says so, and who is told, asked or not (RFC 3842)."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from sipd.events import message_summary
from sipd.message.errors import MalformedMessage
from sipd.message.message import Request
from tests.events.test_publications import publish
from tests.events.watching import Watcher, notified, subscribe
from tests.support.cases import shows
from tests.support.rig import Rig

KIND = "application/simple-message-summary"


class SummaryTests(SynchronousTestCase):
    """The body (s5.2)."""

    def test_read(self) -> None:
        """Classes and counts in any case and spacing, urgent ones, bare yes and no, and what follows an empty line left
        out; numbers end where s3.5 says."""
        for text, wanted in (
                ("Messages-Waiting: yes\r\nMessage-Account: sip:a@b\r\nVoice-Message: 2/8 (0/2)\r\nfax-message:1/0\r\n",
                 {"voice-message": (2, 8, 0, 2), "fax-message": (1, 0, 0, 0)}),
                ("messages-waiting : NO", {}), ("Messages-Waiting: yes\n", {"": (1, 0, 0, 0)}),
                ("Messages-Waiting: yes\r\nVoice-Message: 1/1\r\n\r\nFax-Message: 5/5\r\n", {"voice-message": (1, 1, 0, 0)}),
                ("Messages-Waiting: no\r\nVoice-Message: 99999999999/0 (7/7)", {"voice-message": (2**32 - 1, 0, 7, 0)}),
                ("Messages-Waiting: no\r\nnonsense\r\nVoice-Message: x/y", {})):
            self.assertEqual(message_summary.read(text.encode()), wanted, text)
        for text in ("", "Voice-Message: 1/1", "Messages-Waiting: perhaps", "\r\nMessages-Waiting: no"):
            self.assertRaises(MalformedMessage, message_summary.read, text.encode())

    def test_written(self) -> None:
        """What is written can be read again; there is a line of voice messages unless nobody counted."""
        for summary in ({}, {"voice-message": (2, 8, 0, 2), "fax-message": (1, 0, 0, 0)}, {"": (1, 0, 0, 0)}):
            text = message_summary.written(summary, "1001@example.com")
            self.assertEqual(message_summary.read(text.encode()), summary or {"voice-message": (0, 0, 0, 0)})
            self.assertIn("Message-Account: sip:1001@example.com\r\n", text)
        self.assertEqual(message_summary.merged([{"voice-message": (1, 2, 0, 1)}, {"voice-message": (3, 0, 1, 0)}]),
                         {"voice-message": (4, 2, 1, 1)})


class MailboxTests(TestCase):
    """1001 has a mailbox, vm a voicemail system."""

    def rig(self, **settings: Any) -> Rig:
        """A server with a voicemail system."""
        return Rig(users={"1001": "a", "1002": "b", "vm": "c"}, events={"publishers": ["vm"], **settings})

    @shows("SUB-14", "3842 3")
    def test_own_box(self) -> None:
        """One's own mailbox may be watched, another's may not; the first NOTIFY says what waits; each change is told
        once, the same twice is not."""
        rig = self.rig()
        a, vm = rig.phone("1001"), rig.phone("vm")
        subscribe(a, "1002", "message-summary", status=403)
        watcher = Watcher(a, "1001", "message-summary", f"Accept: {KIND}")
        body, = watcher.news()
        self.assertEqual(body, "Messages-Waiting: no\r\nMessage-Account: sip:1001@example.com\r\nVoice-Message: 0/0 (0/0)\r\n")
        self.assertEqual(watcher.last.first["content-type"], KIND)
        told: list[str] = []
        for new, old in ((2, 8), (2, 8), (0, 10)):
            rig.advance(2.0)
            self.assertTrue(rig.core.events.set_mailbox("1001", new, old, told.append))
        rig.advance(2.0)
        bodies = watcher.news()
        self.assertEqual([body.split("\r\n")[2] for body in bodies], ["Voice-Message: 2/8 (0/0)", "Voice-Message: 0/10 (0/0)"])
        self.assertEqual([body.split("\r\n")[0][-3:].strip() for body in bodies], ["yes", "no"])
        self.assertEqual(told, [""] * 3)
        self.assertFalse(rig.core.events.set_mailbox("nobody", 1, 1, told.append))
        vm.request("NOTIFY", "sip:1001@example.com", "Event: message-summary", "Subscription-State: active",
                   f"Content-Type: {KIND}", body=b"Messages-Waiting: yes\r\nVoice-Message: 1/0\r\n")
        vm.take(200)
        rig.advance(2.0)
        self.assertIn("Voice-Message: 1/10", watcher.news()[-1])
        rows = rig.core.events.told("1001")
        self.assertEqual((rows[0]["counts"], rows[0]["by"]), ({"voice-message": [1, 10, 0, 0]}, ["api", "vm@example.com"]))
        watcher.end()
        rig.core.events.mailboxes.clear()
        rig.finish()

    @shows("SUB-14", "3842 3")
    def test_published(self) -> None:
        """A voicemail system publishes for everybody, others only for themselves; what it published ends with it."""
        rig = self.rig()
        a, b, vm = rig.phone("1001"), rig.phone("1002"), rig.phone("vm")
        watcher = Watcher(a, "1001", "message-summary")
        body = b"Messages-Waiting: yes\r\nVoice-Message: 4/1 (1/0)\r\n"
        publish(b, body, event="message-summary", kind=KIND, entity="1001", status=403)
        b.request("NOTIFY", "sip:1001@example.com", "Event: message-summary", "Subscription-State: active",
                  f"Content-Type: {KIND}", body=body)
        b.take(403)
        vm.request("NOTIFY", "sip:1001@example.com", "Event: message-summary", "Subscription-State: active",
                   "Content-Type: text/plain", body=body)
        vm.take(415)
        publish(vm, b"nonsense", event="message-summary", kind=KIND, entity="1001", status=400)
        publish(vm, body, event="message-summary", kind=KIND, entity="1001", expires=60)
        rig.advance(1.0)
        self.assertIn("Voice-Message: 4/1 (1/0)", watcher.news()[-1])
        rig.advance(60.0)
        self.assertIn("Voice-Message: 0/0", watcher.news()[-1])
        watcher.end()
        rig.finish()

    @shows("SUB-14", "3842 3")
    def test_unasked(self) -> None:
        """A phone that never asks is told when it registers and at each change; one that was silent is told again, and
        when it registers anew; nobody else is."""
        rig = self.rig(unsolicited=["1001"])
        rig.core.events.set_mailbox("1001", 1, 0, lambda reason: None)
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register()
        a.register(call_id="x", cseq=1)
        first = notified(a)
        self.assertEqual((first.first["event"], first.uri_text), ("message-summary", a.contact))
        self.assertIn(b"Voice-Message: 1/0", first.body)
        a.register(call_id="x", cseq=2)
        a.silent()
        rig.core.events.set_mailbox("1001", 2, 0, lambda reason: None)
        second = a.take("NOTIFY")
        rig.core.events.set_mailbox("1001", 3, 0, lambda reason: None)
        a.silent()
        a.answer(second, 200)
        third = a.take("NOTIFY")
        self.assertIn(b"Voice-Message: 3/0", third.body)
        a.answer(third, 503)
        rig.advance(5.5)
        self.assertEqual(notified(a).body, third.body)
        b.silent()
        a.register(expires=0, call_id="x", cseq=3)
        rig.core.events.set_mailbox("1001", 4, 0, lambda reason: None)
        a.silent()
        rig.core.events.configure(rig.config.events.model_copy(update={"unsolicited": ()}))
        rig.core.events.mailboxes.clear()
        rig.finish()

    def test_words(self) -> None:
        """A template goes to each phone of a peer, with its fields and body, and what they answered is told."""
        rig = self.rig(templates={"mine": {"event": "x-sync", "headers": {"X-Reason": "keys"}, "body": "now\r\n"}})
        a = rig.phone("1001")
        other = rig.phone("1001")
        a.register()
        other.register()
        said: list[Any] = []
        self.assertTrue(rig.core.events.notify("reboot", "1001", said.append))
        for phone, status in ((a, 200), (other, 489)):
            notify = phone.take("NOTIFY")
            self.assertEqual((notify.first["event"], notify.first["content-length"]), ("check-sync;reboot=true", "0"))
            phone.answer(notify, status)
        self.assertEqual([(one.contact, one.status) for one in said[0]], [(a.contact, 200), (other.contact, 489)])
        self.assertTrue(rig.core.events.notify("mine", "1001", said.append))
        got = notified(a)
        assert isinstance(got, Request)
        self.assertEqual((got.first["event"], got.first["x-reason"], got.body), ("x-sync", "keys", b"now\r\n"))
        notified(other)
        self.assertFalse(rig.core.events.notify("mine", "1002", said.append))
        rig.finish()

    @shows("SUB-25", "6665 4.2.1")
    def test_kept(self) -> None:
        """What was said of a mailbox is on disk when that is acknowledged."""
        rig = self.rig()
        rig.core.events.set_mailbox("1001", 1, 2, lambda reason: None)
        records: Any = rig.core.events._records
        self.assertEqual(json.loads(records.kept["mailbox", "1001@example.com"]), {"api": {"voice-message": [1, 2, 0, 0]}})
        again = Rig(users={"1001": "a"}, records=records, events={})
        self.assertEqual(again.core.events.told()[0]["counts"], {"voice-message": [1, 2, 0, 0]})
