"""Who may watch whom, by the rules of the configuration, and by credentials (RFC 6665 s4.2.1.3, RFC 3856 s6.6)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from sipd import settings
from sipd.config_events import Events
from sipd.events.access import Access
from sipd.message.parser import parse
from tests.events.watching import basic, notified, subscribe, unsubscribe
from tests.support.cases import shows
from tests.support.rig import Rig

A, B, OTHER = "1001@example.com", "1002@example.com", "1001@two.example"


def access(**settings: Any) -> Access:
    """Rules; users without a domain are of example.com."""
    return Access(Events(**settings), lambda name: name if "@" in name else f"{name}@example.com")


class VerdictTests(SynchronousTestCase):
    """Rules without a server."""

    @shows("SUB-13", "3856 6.6", "R4235-3.6-01", "R4235-3.6-03", "R4235-3.6-04", "R3856-6.6.2-01")
    def test_defaults(self) -> None:
        """One's own of everything; presence and calls of one domain; strangers nothing."""
        rules = access()
        for package in ("presence", "dialog", "message-summary", "reg"):
            self.assertEqual(rules.verdict(A, A, package), "whole")
            self.assertEqual(rules.verdict("", A, package), "refuse")
            self.assertEqual(rules.verdict(OTHER, A, package), "refuse")
        self.assertEqual(rules.verdict(A, B, "presence"), "whole")
        self.assertEqual(rules.verdict(A, B, "message-summary"), "refuse")
        self.assertEqual(rules.verdict(A, B, "reg"), "refuse")
        self.assertEqual(access(watch="self").verdict(A, B, "presence"), "refuse")
        self.assertEqual(access(watch="self", otherwise="pending").verdict(A, B, "presence"), "pending")
        self.assertEqual(access(callers=False).verdict(A, B, "dialog"), "part")

    @shows("SUB-13", "3856 6.6", "R3856-6.6.2-01")
    def test_rules(self) -> None:
        """The first rule that fits watcher, watched and package decides; patterns are of whole addresses-of-record."""
        rules = access(rules=[
            {"watcher": "1002", "watches": "1001", "sees": "refuse"},
            {"watcher": "100?@example.com", "watches": "*", "packages": ["message-summary"], "sees": "whole"},
            {"watcher": "*@two.example", "watches": "1001", "sees": "part"}])
        self.assertEqual(rules.verdict(B, A, "presence"), "refuse")
        self.assertEqual(rules.verdict(B, A, "message-summary"), "refuse")
        self.assertEqual(rules.verdict(A, B, "message-summary"), "whole")
        self.assertEqual(rules.verdict(A, B, "reg"), "refuse")
        self.assertEqual(rules.verdict(OTHER, A, "dialog"), "part")
        self.assertEqual(rules.verdict(OTHER, B, "dialog"), "refuse")

    @shows("R3903-14.1-01")
    def test_publishers(self) -> None:
        """One's own state, and a publisher everybody's; a carrier is known by its bare name."""
        rules = access(publishers=["vm", "carrier"])
        self.assertTrue(rules.may_publish(A, A))
        self.assertFalse(rules.may_publish(A, B))
        self.assertFalse(rules.may_publish("", ""))
        self.assertTrue(rules.may_publish("vm@example.com", B))
        self.assertTrue(rules.may_publish("carrier", B))


class RouteTests(TestCase):
    """The same on the core, with credentials."""

    @shows("R3856-6.6.1-01", "R3856-9.4-01", "R3863-6-01")
    @shows("R4235-3.6-01", "R4235-3.6-02", "R4235-7-01", "R3842-3.7-01", "R3842-6-01", "R3680-4.6-01", "R3680-7-01")
    @shows("SUB-13", "6665 4.2.1.3", "R6665-4.2.1.1-04", "R6665-4.2.1.3-01", "R6665-6.3-01", "R6665-6.4-01")
    def test_credentials(self) -> None:
        """Who serves asks by 401, not 407; with the right credentials it is served, under another name or for somebody
        who may not be watched it is not. A refresh in the dialog needs none."""
        rig = Rig(auth={"required": True}, events={"rules": [{"watches": "1003", "sees": "refuse"}]})
        a = rig.phone("1001")
        request = a.request("SUBSCRIBE", "sip:1002@example.com", "Event: presence", "Expires: 60")
        challenge = a.take(401)
        sent = a.authorized(request, challenge)
        ok = a.take(200)
        notified(a)
        unsubscribe(a, ok)
        # what somebody overheard is worth nothing
        again = sent.encode().replace(sent.via.branch.encode(), b"z9hG4bKoverheard").replace(
            sent.call_id.encode(), b"overheard")
        other = rig.phone("1001")
        other.send(parse(again))
        other.take(401)
        other = a.request("SUBSCRIBE", "sip:1003@example.com", "Event: presence", "Expires: 60")
        a.authorized(other, a.take(401))
        a.take(403)
        false = a.request("SUBSCRIBE", "sip:1002@example.com", "Event: presence", "Expires: 60",
                          from_="<sip:1004@example.com>;tag=f")
        a.authorized(false, a.take(401))
        a.take(403)
        a.request("SUBSCRIBE", "sip:1002@example.com", "Event: conference", "Expires: 60")
        a.take(407)
        rig.finish()

    @shows("R3856-6.7-01", "R3856-6.6.2-01")
    @shows("SUB-13", "6665 4.2.2", "R6665-4.2.1.1-01", "R6665-4.2.2-05", "R6665-4.2.2-06", "R6665-4.2.2-08")
    def test_pending(self) -> None:
        """A subscription that nobody allows is pending and tells nothing, until a reload allows it; one that is not
        allowed any more ends."""
        rig = Rig(events={"watch": "self", "otherwise": "pending"})
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register()
        subscribe(a, "1002")
        first = notified(a)
        self.assertEqual((first.first["subscription-state"], first.body), ("pending;expires=600", b""))
        b.register(expires=0)
        rig.advance(20.0)
        a.silent()
        settings = rig.config.events
        rig.core.events.configure(settings.model_copy(update={"watch": "domain"}))
        rig.advance(0.1)
        second = notified(a)
        self.assertEqual((second.first["subscription-state"][:6], basic(second)), ("active", "closed"))
        rig.core.events.configure(settings.model_copy(update={"watch": "self", "otherwise": "refuse"}))
        last = notified(a)
        self.assertEqual((last.first["subscription-state"], last.body), ("terminated;reason=rejected", b""))
        rig.finish()

    @shows("SUB-13")
    def test_removed(self) -> None:
        """Who was removed, by a reload or by hand, watches nobody any more; others go on."""
        for way in ("reload", "by hand"):
            rig = Rig(users={"1001": {"password": "a"}, "1002": {"password": "b"}})
            a, b = rig.phone("1001"), rig.phone("1002")
            for phone in (a, b):
                subscribe(phone, "1002")
                notified(phone)
            core = rig.core
            if way == "reload":
                users = {name: entry for name, entry in rig.config.users.items() if name != "1001"}
                settings.configure(core, rig.config.model_copy(update={"users": users}), core.realm, [])
            else:
                core.users.remove(A)
                core.user_changed(A)
            last = notified(a)
            self.assertEqual((last.first["subscription-state"], last.body), ("terminated;reason=rejected", b""))
            self.assertEqual([row["watcher"] for row in core.events.notifier.rows()], ["1002@example.com"])

    @shows("SUB-13", "6665 4.4.3", "R6665-4.2.2-08")
    def test_pending_to_the_end(self) -> None:
        """Who is pending learns nothing by a look, by the end of the subscription, or by a refresh of no time; who is
        not allowed any more, but might be, is told to ask again, and nothing else."""
        rig = Rig(events={"watch": "self", "otherwise": "pending"})
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register()
        for package in ("presence", "dialog", "message-summary", "reg"):
            subscribe(a, "1002", package, expires=0)
            look = notified(a)
            self.assertEqual((look.first["subscription-state"], look.body), ("terminated;reason=timeout", b""))
        ok = subscribe(a, "1002")
        notified(a)
        self.assertEqual(unsubscribe(a, ok).body, b"")
        subscribe(a, "1002", expires=60)
        notified(a)
        rig.advance(60.5)
        last = notified(a)
        self.assertEqual((last.first["subscription-state"], last.body), ("terminated;reason=timeout", b""))
        settings = rig.config.events
        rig.core.events.configure(settings.model_copy(update={"watch": "domain"}))
        subscribe(a, "1002")
        self.assertEqual(basic(notified(a)), "open")
        rig.core.events.configure(settings)
        last = notified(a)
        self.assertEqual((last.first["subscription-state"], last.body), ("terminated;reason=deactivated", b""))
        rig.finish()

    def test_not_served(self) -> None:
        """Without packages everything passes by, as before."""
        rig = Rig(events={"packages": []})
        a, b = rig.phone("1001"), rig.phone("1002")
        subscribe(a, "1002", status=480)
        b.register()
        a.request("SUBSCRIBE", "sip:1002@example.com", "Event: presence")
        b.answer(b.take("SUBSCRIBE"), 200)
        a.take(200)
        a.request("OPTIONS", "sip:example.com")
        self.assertNotIn("allow-events", a.take(200).first)
        rig.finish()

    @shows("SUB-03", "3856 6.7", "R3856-6.7-02", "R3863-4.2.3-02")
    def test_body_by_peer(self) -> None:
        """A phone that is known to read one format only gets it, whatever it asks for."""
        rig = Rig(events={"bodies": {"1001": "xpidf"}})
        a, b = rig.phone("1001"), rig.phone("1002")
        for register, status in ((False, "closed"), (True, "open")):
            if register:
                b.register()
            ok = subscribe(a, "1002", "presence", "Accept: application/pidf+xml")
            notify = notified(a)
            self.assertEqual(notify.first["content-type"], "application/xpidf+xml")
            self.assertIn(f'<status status="{status}"/>'.encode(), notify.body)
            unsubscribe(a, ok)
        rig.finish()

    def test_number(self) -> None:
        """A number that stands for one user is that user; one that stands for several, or for nobody, is not there."""
        rig = Rig(numbers={"77": "1002", "78": ["1002", "1003"], "79": "sales"}, groups={"sales": {"members": ["1002"]}})
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register()
        ok = subscribe(a, "77")
        notify = notified(a)
        self.assertEqual(basic(notify), "open")
        self.assertIn(b'entity="sip:1002@example.com"', notify.body)
        unsubscribe(a, ok)
        for number in ("78", "79", "80"):
            subscribe(a, number, status=404)
        rig.finish()
