"""Subscriptions on the real core in virtual time: from SUBSCRIBE to the last NOTIFY (RFC 6665 s4.2)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.events.subscription import WAITS
from tests.events.watching import basic, notified, refresh, subscribe, unsubscribe
from tests.support.cases import shows
from tests.support.rig import Rig


class NotifierTests(TestCase):
    """One watcher, 1001, and one who is watched, 1002."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        self.a.register()

    @shows("R6665-3.2.1-01", "R6665-3.2.1-02", "R6665-4.1.3-03", "R6665-4.2.1.2-01", "R6665-4.2.2-01", "R3856-6.5-01")
    @shows("R6665-4.2.2-05", "R6665-4.2.2-06")
    @shows("SUB-01", "6665 4.2.1")
    def test_first(self) -> None:
        """200 with the time granted, our Contact and a To tag; a NOTIFY at once in that dialog, with the state, how long
        it lasts, the event and a CSeq of its own."""
        ok = subscribe(self.a, "1002")
        self.assertEqual(ok.first["expires"], "600")
        self.assertTrue(ok.to_tag)
        self.assertRegex(ok.first["contact"], r"^<sip:s[0-9a-f]{16}@192\.0\.2\.1:5060>$")
        notify = notified(self.a)
        self.assertEqual((notify.call_id, notify.from_tag, notify.to_tag, notify.uri_text),
                         (ok.call_id, ok.to_tag, ok.from_tag, self.a.contact))
        self.assertEqual((notify.first["event"], notify.first["subscription-state"]), ("presence", "active;expires=600"))
        self.assertEqual((notify.first["content-type"], basic(notify)), ("application/pidf+xml", "closed"))
        self.assertEqual(notify.cseq, (1, "NOTIFY"))
        self.assertEqual(notify.first["contact"], ok.first["contact"])
        unsubscribe(self.a, ok)
        self.rig.finish()

    @shows("SUB-12", "3856 6.10", "R6665-4.2.2-02", "R3856-6.3-01")
    def test_change(self) -> None:
        """A phone that registers is told to whoever watches, and again when it leaves; never twice the same."""
        ok = subscribe(self.a, "1002")
        notified(self.a)
        self.rig.advance(6.0)
        self.b.register()
        self.rig.advance(0.1)
        self.assertEqual(basic(notified(self.a)), "open")
        self.b.register()
        self.rig.advance(20.0)
        self.a.silent()
        self.b.register(expires=0)
        self.rig.advance(0.1)
        last = notified(self.a)
        self.assertEqual((basic(last), last.cseq_number), ("closed", 3))
        unsubscribe(self.a, ok)
        self.rig.finish()

    @shows("SUB-12", "3856 6.10", "R6665-4.2.2-02", "R3856-6.10-01")
    def test_paced(self) -> None:
        """What changes is told at once; what changes again within five seconds is told then, once, as it is at the end.
        A NOTIFY that the watcher asked for by SUBSCRIBE is not counted."""
        ok = subscribe(self.a, "1002")
        notified(self.a)
        self.b.register()
        self.rig.advance(0.1)
        self.assertEqual(basic(notified(self.a)), "open")
        for expires in (0, 600, 0, 600, 0):
            self.b.register(expires=expires)
            self.rig.advance(0.6)
        self.a.silent()
        self.rig.advance(2.2, 0.1)
        self.assertEqual(basic(notified(self.a)), "closed")
        self.rig.advance(20.0)
        unsubscribe(self.a, ok)
        self.rig.finish()

    @shows("R6665-3.2.1-02", "R6665-4.2.1.1-02", "R6665-4.2.1.1-03", "R6665-4.2.3-01", "R6665-4.4.4-01")
    @shows("R6665-4.5.2-03")
    @shows("SUB-02", "6665 4.2.1.1")
    def test_packages(self) -> None:
        """A package that is not served is refused with what there is where nobody is registered, and is the phone's
        affair where somebody is; none at all is refused in any case; the same for PUBLISH. A tag or a case of the name
        changes nothing."""
        for event in ("Event: conference", "Event: presence.winfo", "X: y"):
            for method in ("SUBSCRIBE", "PUBLISH"):
                self.a.request(method, "sip:1002@example.com", event, "Expires: 60")
                self.assertEqual(self.a.take(489).first["allow-events"], "presence, dialog, message-summary, reg")
        self.b.register()
        for method in ("SUBSCRIBE", "PUBLISH"):
            self.a.request(method, "sip:1002@example.com", "Expires: 60")
            self.a.take(489)
        self.a.request("SUBSCRIBE", "sip:1002@example.com", "Event: conference")
        self.b.answer(self.b.take("SUBSCRIBE"), 200)
        self.a.take(200)
        ok = subscribe(self.a, "1002", "Presence;id=7")
        self.assertEqual(notified(self.a).first["event"], "Presence;id=7")
        unsubscribe(self.a, ok, "presence;id=7")
        self.rig.finish()

    @shows("SUB-02", "6665 4.4.4", "R6665-4.4.4-01", "R6665-4.4.4-02")
    def test_allow_events(self) -> None:
        """An OPTIONS is told what is served, and so is who subscribes."""
        self.a.request("OPTIONS", "sip:example.com")
        answer = self.a.take(200)
        self.assertEqual(answer.first["allow-events"], "presence, dialog, message-summary, reg")
        self.assertIn("SUBSCRIBE", answer.first["allow"])
        ok = subscribe(self.a, "1002", expires=0)
        self.assertEqual(ok.first["allow-events"], answer.first["allow-events"])
        notified(self.a)
        self.rig.finish()

    @shows("SUB-03", "3856 6.7", "R6665-3.2.1-03", "R4235-3.5-02", "R3680-4.5-02", "R3856-6.7-02")
    def test_accept(self) -> None:
        """406 with what there is for types that nobody writes; without Accept the usual type; what old phones want."""
        for accept in ("application/nothing", "application/pidf+xml;q=0, text/*", "application/pidf+xml;q=0.0",
                       "application/*;q=0, */*"):
            refused = subscribe(self.a, "1002", "presence", f"Accept: {accept}", status=406)
            self.assertIn("application/pidf+xml", refused.first["accept"])
        for package, kind in (("dialog", "dialog-info+xml"), ("reg", "reginfo+xml"), ("message-summary", "simple-message-summary")):
            refused = subscribe(self.a, "1001", package, "Accept: application/pidf+xml", status=406)
            self.assertEqual(refused.first["accept"], f"application/{kind}")
        for accept, kind in (("application/xpidf+xml", "application/xpidf+xml"), ("application/*", "application/pidf+xml"),
                             ("text/plain, application/cpim-pidf+xml;q=0.5", "application/cpim-pidf+xml"),
                             ("*/*", "application/pidf+xml"), ("*/*, application/pidf+xml;q=0", "application/cpim-pidf+xml"),
                             ("", "")):
            ok = subscribe(self.a, "1002", "presence", *([f"Accept: {accept}"] if accept else []))
            self.assertEqual(notified(self.a).first["content-type"], kind or "application/pidf+xml")
            unsubscribe(self.a, ok)
        self.rig.finish()

    @shows("SUB-04", "6665 4.2.1.1", "R6665-3.1.1-03", "R6665-3.1.1-04", "R6665-4.2.1.1-05")
    def test_expires(self) -> None:
        """423 with Min-Expires for less than a minute; what is too long is shortened; none at all is an hour; what is no
        number is malformed."""
        self.assertEqual(subscribe(self.a, "1002", expires=59, status=423).first["min-expires"], "60")
        subscribe(self.a, "1002", "presence", "Expires: soon", expires=None, status=400)
        for asked, granted in ((60, "60"), (100_000, "3600"), (None, "3600")):
            ok = subscribe(self.a, "1002", expires=asked)
            self.assertEqual(ok.first["expires"], granted)
            self.assertEqual(notified(self.a).first["subscription-state"], f"active;expires={granted}")
            unsubscribe(self.a, ok)
        self.rig.finish()

    @shows("SUB-05", "6665 4.2.1.4", "R6665-4.2.1.2-01", "R6665-4.2.1.4-01", "R6665-4.2.1.4-02")
    def test_refresh(self) -> None:
        """A refresh in the dialog gets its 200 and the whole state again, though it is the same, and the time runs anew;
        a Contact in it is where NOTIFYs go from then on."""
        ok = subscribe(self.a, "1002")
        notified(self.a)
        self.rig.advance(500.0)
        refresh(self.a, ok, 600)
        self.assertEqual(self.a.take(200).first["expires"], "600")
        notify = notified(self.a)
        self.assertEqual((basic(notify), notify.first["subscription-state"]), ("closed", "active;expires=600"))
        self.rig.advance(590.0)
        self.a.silent()
        refresh(self.a, ok, 600, contact=f"<sip:other@{self.a.address}:5060>")
        self.a.take(200)
        self.assertEqual(notified(self.a).uri_text, f"sip:other@{self.a.address}:5060")
        refresh(self.a, ok, 59)
        self.a.take(423)
        self.a.in_dialog("SUBSCRIBE", ok, "Event: presence", "Expires: 600")
        self.a.take(500)  # a CSeq that was there before
        self.a.in_dialog("NOTIFY", ok, cseq=5000)
        self.assertEqual(self.a.take(405).first["allow"], "SUBSCRIBE")
        unsubscribe(self.a, ok)
        self.rig.finish()

    @shows("SUB-06", "6665 4.4.3", "R6665-3.1.1-03", "R6665-4.1.3-07")
    def test_fetch(self) -> None:
        """Expires 0 outside a dialog is a look: one NOTIFY with the state, terminated, and nothing is kept."""
        self.b.register()
        ok = subscribe(self.a, "1002", expires=0)
        self.assertEqual(ok.first["expires"], "0")
        notify = notified(self.a)
        self.assertEqual((notify.first["subscription-state"], basic(notify)), ("terminated;reason=timeout", "open"))
        self.assertEqual(len(self.rig.core.events.notifier.watches.by_dialog), 0)
        refresh(self.a, ok, 600)
        self.a.take(481)
        self.rig.finish()

    @shows("SUB-06", "6665 4.2.1.4")
    def test_unsubscribed(self) -> None:
        """Expires 0 in the dialog ends it: one last NOTIFY, then nothing, whatever changes."""
        ok = subscribe(self.a, "1002")
        notified(self.a)
        unsubscribe(self.a, ok)
        self.b.register()
        self.rig.advance(10.0)
        self.a.silent()
        refresh(self.a, ok, 600)
        self.a.take(481)
        self.rig.finish()

    @shows("SUB-07", "6665 4.2.1.4", "R6665-4.2.1.4-03", "R6665-4.2.1.4-04", "R6665-4.1.3-07", "R6665-4.2.2-08")
    def test_expired(self) -> None:
        """When the time runs out the watcher is told, and the subscription is gone."""
        ok = subscribe(self.a, "1002")
        notified(self.a)
        self.rig.advance(599.0)
        self.a.silent()
        self.rig.advance(1.5)
        self.assertEqual(notified(self.a).first["subscription-state"], "terminated;reason=timeout")
        refresh(self.a, ok, 600)
        self.a.take(481)
        self.rig.finish()

    @shows("SUB-08", "6665 4.2.2", "R6665-4.2.2-04")
    def test_481(self) -> None:
        """A watcher that knows of no subscription ends it."""
        subscribe(self.a, "1002")
        notified(self.a, 481)
        self.rig.advance(6.0)
        self.b.register()
        self.rig.advance(10.0)
        self.a.silent()
        self.assertEqual(self.rig.core.events.notifier.rows(), [])
        self.assertIn("the watcher answered 481", str(self.rig.records))
        self.rig.finish()

    @shows("SUB-08", "6665 4.2.2", "R6665-4.2.2-02")
    def test_lost(self) -> None:
        """One NOTIFY that is lost, with all its repeats, does not end the subscription: the whole state comes again,
        the newest."""
        ok = subscribe(self.a, "1002")
        notified(self.a)
        self.rig.advance(6.0)
        self.rig.network.drop = lambda packet: packet.target == (self.a.address, 5060)
        self.b.register()
        self.rig.advance(20.0, 0.1)
        self.b.register(expires=0)
        self.rig.advance(13.0, 0.1)
        self.rig.network.drop = None
        self.rig.advance(4.5, 0.1)
        last = notified(self.a)
        self.assertEqual((basic(last), last.cseq_number, last.first["subscription-state"][:17]),
                         ("closed", 3, "active;expires=55"))
        unsubscribe(self.a, ok)
        self.rig.finish()

    @shows("SUB-08", "6665 4.2.2")
    def test_silent(self) -> None:
        """A watcher that never answers is forgotten after all attempts."""
        subscribe(self.a, "1002", expires=3600)
        self.a.drain()
        self.rig.network.drop = lambda packet: packet.target == (self.a.address, 5060)
        self.rig.advance(sum(WAITS) + 40.0 * (len(WAITS) + 1), 1.0)
        self.assertEqual(self.rig.core.events.notifier.rows(), [])
        self.assertIn("the watcher is silent", str(self.rig.records))
        self.rig.finish()

    @shows("SUB-08", "6665 4.2.2")
    def test_retry_after(self) -> None:
        """503 with Retry-After is waited for."""
        ok = subscribe(self.a, "1002")
        self.a.answer(self.a.take("NOTIFY"), 503, "Retry-After: 30")
        self.rig.advance(29.5)
        self.a.silent()
        self.rig.advance(1.0, 0.1)
        self.assertEqual(notified(self.a).cseq_number, 2)
        unsubscribe(self.a, ok)
        self.rig.finish()

    @shows("SUB-09", "6665 4.2.1")
    def test_dead_dialog(self) -> None:
        """A SUBSCRIBE in a dialog that is not there, at our Contact or at the address-of-record, gets 481."""
        ok = subscribe(self.a, "1002")
        notified(self.a)
        for uri in ("sip:1002@example.com", "sip:1002@192.0.2.1:5060", ok.first["contact"][1:-1]):
            self.a.request("SUBSCRIBE", uri, "Event: presence", "Expires: 600", to="<sip:1002@example.com>;tag=dead")
            self.a.take(481)
        unsubscribe(self.a, ok)
        self.rig.finish()

    @shows("R6665-4.6-03")
    def test_one_at_a_time(self) -> None:
        """While a NOTIFY is unanswered no second one goes out; a SUBSCRIBE shows that the watcher is there, and what is
        under way is given up for a new one with a higher CSeq."""
        ok = subscribe(self.a, "1002")
        first = self.a.take("NOTIFY")
        self.rig.advance(6.0)
        self.a.drain()
        self.b.register()
        self.rig.advance(0.3)
        self.a.silent()
        refresh(self.a, ok, 600)
        self.a.take(200)
        second = self.a.take("NOTIFY")
        self.a.silent()  # no CANCEL
        self.assertEqual((second.cseq_number, basic(second)), (first.cseq_number + 1, "open"))
        self.a.answer(first, 200)
        self.a.answer(second, 200)
        self.rig.advance(40.0)
        self.a.silent()
        unsubscribe(self.a, ok)
        self.rig.finish()

    @shows("SUB-09", "6665 4.5.2", "R6665-4.2.3-01", "R6665-4.5.2-02")
    def test_another_usage(self) -> None:
        """Another subscription in the dialog of one is refused with 403, as dialogs are not shared; what is no package
        here, or has no Event, with 489; what requires what we do not know with 420."""
        ok = subscribe(self.a, "1002")
        notified(self.a)
        for number, event in enumerate(("message-summary", "presence;id=1")):
            self.a.in_dialog("SUBSCRIBE", ok, f"Event: {event}", "Expires: 600", cseq=700 + number)
            self.assertEqual(self.a.take(403).reason, "Dialog Sharing Not Supported")
        for number, lines in enumerate((("Event: conference",), ())):
            self.a.in_dialog("SUBSCRIBE", ok, *lines, "Expires: 600", cseq=710 + number)
            self.assertEqual(self.a.take(489).first["allow-events"], "presence, dialog, message-summary, reg")
        self.a.in_dialog("SUBSCRIBE", ok, "Event: presence", "Expires: 600", "Require: eventlist", cseq=720)
        self.assertEqual(self.a.take(420).first["unsupported"], "eventlist")
        self.a.silent()
        unsubscribe(self.a, ok)
        self.rig.finish()

    @shows("SUB-09", "11.2", "12.2.2")
    def test_at_our_contact(self) -> None:
        """At the Contact of a subscription an OPTIONS is told what that can do, in its dialog and outside, and 481 in
        another; what is not asked of a subscription gets 405."""
        ok = subscribe(self.a, "1002")
        notified(self.a)
        contact = ok.first["contact"][1:-1]
        self.a.in_dialog("OPTIONS", ok, cseq=700)
        self.assertEqual(self.a.take(200).first["allow"], "OPTIONS, SUBSCRIBE")
        self.a.request("OPTIONS", contact)
        self.assertEqual(self.a.take(200).first["allow-events"], "presence, dialog, message-summary, reg")
        self.a.request("OPTIONS", contact, to=f"<{contact}>;tag=dead")
        self.a.take(481)
        invite = self.a.invite(contact)
        refused = self.a.take(405)
        self.assertEqual(refused.first["allow"], "OPTIONS, SUBSCRIBE")
        self.a.ack(refused, invite)
        self.a.request("MESSAGE", contact)
        self.a.take(405)
        unsubscribe(self.a, ok)
        self.rig.finish()

    @shows("SUB-05", "6665 3.2", "12.2.1.2", "R6665-4.2.2-02")
    def test_target_refreshed(self) -> None:
        """A Contact in the 2xx to a NOTIFY is where the next one goes, also after a restart."""
        ok = subscribe(self.a, "1002")
        self.a.answer(self.a.take("NOTIFY"), 200, f"Contact: <sip:elsewhere@{self.a.address}:5060>")
        self.b.register()
        self.rig.advance(0.1)
        self.assertEqual(notified(self.a).uri_text, f"sip:elsewhere@{self.a.address}:5060")
        self.assertIn("sip:elsewhere@", str(self.rig.core.events._records.kept))  # type: ignore[attr-defined]
        self.rig.advance(6.0)
        self.b.register(expires=0)
        self.rig.advance(0.1)
        notified(self.a)
        unsubscribe(self.a, ok)
        self.rig.finish()

    @shows("SUB-03", "3856 6.7", "R6665-3.2.1-03", "R3856-6.7-02")
    def test_accept_anew(self) -> None:
        """The types in a refresh count from then on; one without Accept changes nothing; one that takes none of ours is
        refused with 406 and changes nothing."""
        ok = subscribe(self.a, "1002", "presence", "Accept: application/xpidf+xml")
        kinds = [notified(self.a).first["content-type"]]
        for number, (lines, status) in enumerate((((), 200), (("Accept: application/pidf+xml",), 200),
                                                  (("Accept: text/plain",), 406), ((), 200))):
            self.a.in_dialog("SUBSCRIBE", ok, "Event: presence", "Expires: 600", *lines, cseq=700 + number)
            self.a.take(status)
            if status == 200:
                kinds.append(notified(self.a).first["content-type"])
        self.assertEqual([kind[12:] for kind in kinds], ["xpidf+xml", "xpidf+xml", "pidf+xml", "pidf+xml"])
        self.a.in_dialog("SUBSCRIBE", ok, "Event: presence", "Expires: 0", cseq=800)
        self.a.take(200)
        notified(self.a)
        self.rig.finish()

    @shows("SUB-01", "6665 3.1.1", "3680 4.4", "R6665-3.1.1-02")
    def test_durations(self) -> None:
        """Without Expires a subscription lasts as long as its package says, or as the configuration where that is
        shorter."""
        for settings, wanted in (({"default_expires": 7200, "max_expires": 86400}, ("3600", "3600", "3600", "3761")),
                                 ({"default_expires": 600}, ("600",) * 4)):
            rig = Rig(events=settings)
            a = rig.phone("1001")
            for package, seconds in zip(("presence", "dialog", "message-summary", "reg"), wanted, strict=True):
                ok = subscribe(a, "1001", package, expires=None)
                self.assertEqual(ok.first["expires"], seconds)
                self.assertEqual(notified(a).first["subscription-state"], f"active;expires={seconds}")
                unsubscribe(a, ok, package)
            rig.finish()

    @shows("SUB-02", "6665 8.2.1", "R6665-8.2.1-01")
    def test_events(self) -> None:
        """Two Event headers are malformed, two packages in one are a package that nobody serves."""
        for method in ("SUBSCRIBE", "PUBLISH"):
            self.a.request(method, "sip:1001@example.com", "Event: presence", "Event: dialog", "Expires: 60")
            self.a.take(400)
        self.a.request("SUBSCRIBE", "sip:1002@example.com", "Event: presence, dialog", "Expires: 60")
        self.a.take(489)
        self.rig.finish()

    @shows("SUB-13", "6665 4.1.3", "R6665-4.2.2-08")
    def test_nothing_to_watch(self) -> None:
        """Who watches somebody that is removed, or a package that is not served any more, is told that there is nothing
        any more."""
        rig = Rig(users={"1001": {"password": "a"}, "1002": {"password": "b"}})
        a = rig.phone("1001")
        subscribe(a, "1002")
        notified(a)
        subscribe(a, "1001", "dialog")
        notified(a)
        rig.core.users.remove("1002@example.com")
        rig.core.user_changed("1002@example.com")
        last = notified(a)
        self.assertEqual((last.first["subscription-state"], last.body), ("terminated;reason=noresource", b""))
        rig.core.events.configure(rig.config.events.model_copy(update={"packages": ("presence",)}))
        last = notified(a)
        self.assertEqual((last.first["subscription-state"], last.body), ("terminated;reason=noresource", b""))
        self.assertEqual(rig.core.events.notifier.rows(), [])
        rig.finish()

    def test_malformed(self) -> None:
        """Without Contact there is no dialog; what is required and not known is told; a user who is not there is not
        watched."""
        subscribe(self.a, "1002", contact="", status=400)
        subscribe(self.a, "1002", contact="<tel:+123>", status=400)
        self.assertEqual(subscribe(self.a, "1002", "presence", "Require: eventlist", status=420).first["unsupported"],
                         "eventlist")
        subscribe(self.a, "nobody", status=404)
        self.a.request("SUBSCRIBE", "sip:1002@example.com", "Event: presence;;=", "Expires: 60")
        self.a.take(400)
        self.rig.finish()
