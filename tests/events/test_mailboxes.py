"""Voicemail lamps: what waits, who says so, and who is told, asked or not (RFC 3842)."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from sipd.events import message_summary
from sipd.message.errors import MalformedMessage
from sipd.message.message import Request
from tests.events.test_publications import publish
from tests.events.watching import Watcher, notified, subscribe, unsubscribe
from tests.support.cases import shows
from tests.support.rig import Phone, Rig

KIND = "application/simple-message-summary"


class SummaryTests(SynchronousTestCase):
    """The body (s5.2)."""

    @shows("R3842-3.5-04", "R3842-3.5-05", "R3842-5.2-01")
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

    @shows("SUB-14", "3842 5.2", "R3842-3.5-02", "R3842-3.5-03", "R3842-3.8-04")
    def test_account(self) -> None:
        """Message-Account is what the configuration says is dialled: a number at the user's domain, a URI, or the
        user's own address."""
        for voicemail, wanted in (("*97", "sip:*97@example.com"), ("sip:vm@two.example", "sip:vm@two.example"),
                                  ("", "sip:1001@example.com")):
            rig = Rig(users={"1001": "a"}, events={"voicemail": voicemail})
            a = rig.phone("1001")
            subscribe(a, "1001", "message-summary")
            self.assertIn(f"\r\nMessage-Account: {wanted}\r\n".encode(), notified(a).body)

    @shows("R3842-3.5-01", "R3842-3.5-02", "R3842-3.5-05", "R3842-3.5-06", "R3842-3.5-07", "R3842-3.8-01")
    @shows("R3842-3.8-02", "R3842-3.8-03", "R3842-3.8-04", "R3842-6-01")
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
    def test_nobodys_mailbox(self) -> None:
        """What a voicemail system, known by its address, tells of a number that is nobody's is not taken for what waits
        for who gets its calls; of a user it is, and of a number that stands for one."""
        rig = Rig(users={"1001": "a", "1002": "b"}, numbers={"501": "1002"}, events={"publishers": ["vm"]},
                  peers={"vm": {"uri": "sip:192.0.2.99", "identify_by": ["address"], "addresses": ["192.0.2.99"],
                                "inbound_to": "1001"}})
        vm = rig.phone("vm", "192.0.2.99")
        for number, status in (("7777", 404), ("1002", 200), ("501", 200)):
            vm.request("NOTIFY", f"sip:{number}@example.com", "Event: message-summary", "Subscription-State: terminated",
                       f"Content-Type: {KIND}", body=b"Messages-Waiting: yes\r\nVoice-Message: 1/0\r\n",
                       from_="<sip:asterisk@192.0.2.99>;tag=x")
            vm.take(status)
        self.assertEqual([row["mailbox"] for row in rig.core.events.told()], ["1002@example.com"])
        rig.core.events.mailboxes.clear()
        rig.finish()

    @shows("SUB-14", "3842 3")
    def test_asked_at_the_number(self) -> None:
        """Phones ask about their own messages at the number that is dialled to hear them, or at the server: each is
        told of its own, and of nobody else's; other packages and a stranger's questions find nobody there."""
        rig = Rig(users={"1001": "a", "1002": "b"}, auth={"required": True}, events={"voicemail": "*97"})
        phones = rig.phone("1001"), rig.phone("1002")
        rig.core.events.set_mailbox("1001", 3, 0, lambda reason: None)

        def asks(phone: Phone, place: str, package: str, status: int) -> Any:
            request = phone.request("SUBSCRIBE", place, f"Event: {package}", "Expires: 600")
            refused = phone.take()
            phone.authorized(request, refused)
            return phone.take(status)

        for place in ("sip:*97@example.com", "sip:example.com", "sip:192.0.2.1:5060"):
            for phone, wanted in zip(phones, (b"3/0", b"0/0"), strict=True):
                ok = asks(phone, place, "message-summary", 200)
                self.assertIn(b"Voice-Message: " + wanted, notified(phone).body)
                unsubscribe(phone, ok, "message-summary")
            asks(phones[0], place, "dialog", 404)
        asks(phones[0], "sip:*98@example.com", "message-summary", 404)
        self.assertEqual(rig.core.events.notifier.rows(), [])
        rig.core.events.mailboxes.clear()
        rig.finish()

    @shows("SUB-14", "3842 3", "R6665-4.1.3-01")
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

    @shows("R3842-3.11-01")
    def test_pace(self) -> None:
        """What changes again within a second is told then, once, as it is at the end."""
        rig = self.rig()
        watcher = Watcher(rig.phone("1001"), "1001", "message-summary")
        rig.advance(2.0)
        watcher.news()
        for number in range(1, 20):
            rig.core.events.set_mailbox("1001", number, 0, lambda reason: None)
            rig.advance(0.1, 0.05)
        self.assertLessEqual(len(watcher.news()), 3)
        rig.advance(2.0)
        self.assertIn("Voice-Message: 19/0", watcher.body)
        watcher.end()
        rig.core.events.mailboxes.clear()
        rig.finish()

    @shows("SUB-14", "3842 3", "R6665-4.1.3-03", "R6665-4.2.1-01")
    def test_unasked(self) -> None:
        """A phone that never asks is told when it registers and at each change; one that was silent is told again, and
        so is one that was started anew, though its address is the old one; nobody else is."""
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
        self.assertEqual(rig.core.events.notifier.rows(), [])
        b.silent()
        a.register(call_id="x", cseq=3)
        a.silent()
        a.register(call_id="another-boot", cseq=1)
        self.assertEqual(notified(a).body, third.body)
        a.register(expires=0, call_id="another-boot", cseq=3)
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


class ElsewhereTests(TestCase):
    """A mailbox at another server, which sipd subscribes to."""

    def setUp(self) -> None:
        self.rig = Rig(events={"mailboxes": {"1001": "vm"}}, peers={"vm": {
            "uri": "sip:192.0.2.99:5060", "username": "acct", "password": "pw"}})
        self.vm = self.rig.phone("vm", "192.0.2.99")
        self.rig.core.call_out(self.rig.config)
        self.rig.advance(0.1)
        self.asked = self.vm.take("SUBSCRIBE")

    def tell(self, waits: str, state: str = "active;expires=3600", cseq: int = 1, status: int = 200) -> None:
        """A NOTIFY in the dialog."""
        asked = self.asked
        self.vm.request("NOTIFY", asked.first["contact"][1:-1], "Event: message-summary", f"Subscription-State: {state}",
                        f"Content-Type: {KIND}", to=asked.first["from"], from_=f"{asked.first['to']};tag=vmtag",
                        call_id=asked.call_id, cseq=cseq,
                        body=f"Messages-Waiting: yes\r\nVoice-Message: {waits}\r\n".encode())
        self.vm.take(status)

    def asked_again(self, most: float) -> Request:
        """The next SUBSCRIBE, which comes within so many seconds."""
        for _ in range(int(most * 2)):
            self.rig.advance(0.5)
            if self.vm.unread:
                break
        request = self.vm.take("SUBSCRIBE")
        assert isinstance(request, Request)
        return request

    def finish(self) -> None:
        """Takes the mailbox out of the configuration: it is unsubscribed."""
        self.vm.drain()
        self.rig.core.events.voicemail.configure({})
        for message in self.vm.drain():
            self.vm.answer(message, 200)  # type: ignore[arg-type]
        self.rig.core.trunks.configure({})
        self.rig.core.events.mailboxes.clear()
        self.rig.finish()

    @shows("R6665-3.1.1-01", "R6665-3.1.2-01", "R6665-4.1.2.4-02", "R6665-4.1.3-16", "R6665-4.1.3-17")
    @shows("R6665-4.5.2-01", "R3842-3.6-03", "R3842-3.6-05", "R3842-3.9-01")
    @shows("SUB-14", "6665 4.1.2")
    def test_subscribed(self) -> None:
        """SUBSCRIBE with credentials; what NOTIFYs say is what waits; a refresh in the dialog before the time is over;
        what is old or of another dialog is refused."""
        asked = self.asked
        self.assertEqual((asked.uri_text, asked.first["event"], asked.first["expires"]),
                         ("sip:1001@192.0.2.99:5060", "message-summary", "3600"))
        self.vm.answer(asked, 401, 'WWW-Authenticate: Digest realm="vm", nonce="n", qop="auth"')
        self.asked = self.vm.take("SUBSCRIBE")
        self.assertIn('username="acct"', self.asked.first["authorization"])
        self.tell("7/0")  # before the 200 comes
        self.vm.answer(self.asked, 200, "Expires: 600", tag="vmtag")
        self.assertEqual(self.rig.core.events.told("1001")[0]["counts"], {"voice-message": [7, 0, 0, 0]})
        self.tell("8/0", cseq=5)
        self.tell("9/9", cseq=4, status=500)
        self.assertEqual(self.rig.core.events.told("1001")[0]["by"], ["subscription"])
        self.assertEqual(self.rig.core.events.told("1001")[0]["counts"], {"voice-message": [8, 0, 0, 0]})
        self.rig.advance(520.0)
        again = self.vm.take("SUBSCRIBE")
        self.assertEqual((again.call_id, again.to_tag), (self.asked.call_id, "vmtag"))
        self.assertGreater(again.cseq_number, self.asked.cseq_number)
        self.vm.answer(again, 200, "Expires: 600")
        self.finish()

    @shows("SUB-14", "6665 4.1.3", "R6665-4.1.2.2-01", "R6665-4.1.3-06", "R6665-4.1.3-11")
    def test_terminated(self) -> None:
        """A subscription that the other side ends is begun anew when it says so; one that it does not know any more at
        once, in another dialog; silence is waited out."""
        self.vm.answer(self.asked, 200, "Expires: 600", tag="vmtag")
        self.tell("1/0")
        self.tell("1/0", "terminated;reason=probation;retry-after=30", 2)
        self.rig.advance(29.0)
        self.vm.silent()
        self.rig.advance(2.0)
        second = self.vm.take("SUBSCRIBE")
        self.assertNotEqual(second.call_id, self.asked.call_id)
        self.assertEqual(second.to_tag, "")
        self.vm.answer(second, 200, "Expires: 100", tag="two")
        self.rig.advance(90.0)
        self.vm.answer(self.vm.drain()[-1], 481)  # type: ignore[arg-type]
        self.rig.advance(1.5)
        third = self.vm.take("SUBSCRIBE")
        self.assertNotEqual(third.call_id, second.call_id)
        self.vm.answer(third, 404)
        self.rig.advance(300.0)
        self.vm.silent()
        self.finish()

    @shows("R6665-4.1.3-06", "R6665-4.1.3-08", "R6665-4.1.3-09", "R6665-4.1.3-10", "R6665-4.1.3-11", "R6665-4.1.3-12")
    @shows("R6665-4.1.3-13", "R6665-4.1.3-14", "R6665-4.1.3-15", "R6665-4.4.2-01")
    @shows("SUB-14", "3842 3.6", "R3842-3.6-03", "R3842-3.6-04", "R3842-3.6-06")
    def test_configured(self) -> None:
        """A mailbox is subscribed to at the start and when it is configured, and unsubscribed when it is not any more."""
        self.vm.answer(self.asked, 200, "Expires: 600", tag="vmtag")
        voicemail = self.rig.core.events.voicemail
        voicemail.configure({"1001@example.com": "vm", "1002@example.com": "vm"})
        second = self.asked_again(2.0)
        self.assertEqual(second.uri_text, "sip:1002@192.0.2.99:5060")
        self.vm.answer(second, 200, "Expires: 600", tag="two")
        voicemail.configure({"1002@example.com": "vm"})
        ended = self.vm.take("SUBSCRIBE")
        self.assertEqual((ended.call_id, ended.to_tag, ended.first["expires"]), (self.asked.call_id, "vmtag", "0"))
        self.vm.answer(ended, 200, "Expires: 0")
        self.finish()

    @shows("SUB-14", "6665 4.1.3", "R3842-3.6-01", "R3842-3.6-02")
    def test_reasons(self) -> None:
        """What was ended for good is asked for again as late as after a refusal; what may be had at once, at once, but
        not twice within a minute; otherwise not before the other side said, and a while later where it said nothing."""
        for state, least, most in (
                ("rejected", 600.0, 1300.0), ("noresource;retry-after=5", 600.0, 1300.0), ("invariant;expires=9", 600.0, 1300.0),
                ("deactivated", 0.0, 1.5), ("timeout", 0.0, 1.5), ("giveup;retry-after=100", 100.0, 111.0),
                ("probation", 10.0, 31.0), ("unheard-of;retry-after=7", 10.0, 31.0)):
            self.setUp()
            self.vm.answer(self.asked, 200, "Expires: 3600", tag="vmtag")
            self.tell("1/0", f"terminated;reason={state}")
            self.rig.advance(least, 1.0)
            self.vm.silent()
            self.rig.advance(most - least, 0.5)
            again = self.vm.take("SUBSCRIBE")
            self.assertNotEqual(again.call_id, self.asked.call_id)
            self.assertEqual(again.to_tag, "")
            if state == "timeout":
                self.asked = again
                self.vm.answer(again, 200, "Expires: 3600", tag="vmtag")
                self.tell("1/0", "terminated;reason=timeout")
                self.rig.advance(10.0)
                self.vm.silent()
            self.finish()

    @shows("SUB-14", "6665 4.1.3", "R6665-4.1.3-04", "R6665-4.1.3-05", "R6665-4.1.4-01", "R6665-8.3-01", "R3842-3.9-02")
    def test_shortened(self) -> None:
        """A NOTIFY that leaves less time is believed, active or pending: the refresh comes sooner; one that leaves more
        is not. One of another package is refused with 489, one of another notifier with 481."""
        self.vm.answer(self.asked, 200, "Expires: 3600", tag="vmtag")
        self.tell("1/0", "active;expires=99999")
        self.tell("2/0", "active;expires=1000", 2)
        self.tell("2/0", "pending;expires=100", 3)
        self.rig.advance(70.0)
        self.vm.silent()
        for event, tag, status in (("presence", "vmtag", 489), ("message-summary", "other", 481)):
            self.vm.request("NOTIFY", self.asked.first["contact"][1:-1], f"Event: {event}",
                            "Subscription-State: active;expires=9", to=self.asked.first["from"],
                            from_=f"{self.asked.first['to']};tag={tag}", call_id=self.asked.call_id, cseq=4)
            refused = self.vm.take(status)
            if status == 489:
                self.assertEqual(refused.first["allow-events"], "message-summary")
        again = self.asked_again(20.0)
        self.assertEqual((again.call_id, again.to_tag), (self.asked.call_id, "vmtag"))
        self.vm.answer(again, 202, "Expires: 3600")
        self.rig.advance(100.0)
        self.vm.silent()
        self.finish()

    @shows("SUB-14", "6665 4.1.2.2", "R6665-4.1.2.2-01", "R6665-4.1.2.4-01", "R6665-4.1.3-01")
    def test_refresh_fails(self) -> None:
        """A refresh that is answered with what does not end a subscription leaves it as it is: it is tried again in the
        dialog, and NOTIFYs are believed meanwhile. One that ended is over: its NOTIFYs get 481."""
        self.vm.answer(self.asked, 200, "Expires: 600", tag="vmtag")
        self.tell("1/0")
        self.vm.answer(self.asked_again(520.0), 500)
        self.tell("2/0", cseq=2)
        self.assertEqual(self.rig.core.events.told("1001")[0]["counts"], {"voice-message": [2, 0, 0, 0]})
        again = self.asked_again(32.0)
        self.assertEqual((again.call_id, again.to_tag), (self.asked.call_id, "vmtag"))
        self.vm.answer(again, 489)
        self.tell("3/0", cseq=3, status=481)
        self.assertNotEqual(self.asked_again(1300.0).call_id, self.asked.call_id)
        self.finish()


class AddressTests(SynchronousTestCase):
    """Addresses-of-record in bodies."""

    def test_escaped(self) -> None:
        """What a user part may hold is escaped: no line, no bracket of a URI comes out of it."""
        text = message_summary.written({}, "a b\r\nVoice-Message: 9/9@example.com")
        self.assertEqual(message_summary.read(text.encode()), {"voice-message": (0, 0, 0, 0)})
        self.assertIn("sip:a%20b%0D%0AVoice-Message%3A%209/9@example.com", text)
