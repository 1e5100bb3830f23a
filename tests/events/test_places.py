"""Where NOTIFYs go: through NAT, over connections, through other proxies, after a phone; and how many at a time."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.parser import parse
from tests.events.watching import basic, notified, refresh, subscribe, unsubscribe
from tests.support.cases import shows
from tests.support.rig import LISTEN, Rig


class PlaceTests(TestCase):
    """A watcher in many places."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.b = self.rig.phone("1002")

    @shows("SUB-10", "6665 4.2.2")
    def test_behind_nat(self) -> None:
        """A phone behind NAT is told at the address that it was seen from."""
        phone = self.rig.phone("1001", "10.0.0.5", source=("198.51.100.7", 31000))
        phone.via_params = ";rport"
        ok = subscribe(phone, "1002")
        notify = notified(phone)
        self.assertEqual(notify.uri_text, "sip:1001@10.0.0.5:5060")
        self.rig.advance(6.0)
        self.b.register()
        self.rig.advance(0.1)
        self.assertEqual(basic(notified(phone)), "open")
        unsubscribe(phone, ok)
        self.rig.finish()

    @shows("R3863-6-01")
    @shows("SUB-10", "6665 4.2.2", "R6665-6.5-01", "R4235-7-02", "R3842-6-02", "R3680-7-02", "R3856-9.2-01")
    def test_over_a_connection(self) -> None:
        """A phone on a connection is told over it, and our Contact says which transport leads back."""
        for transport in ("tcp", "tls"):
            phone = self.rig.phone("1001", transport=transport)
            ok = subscribe(phone, "1002")
            self.assertIn(f";transport={transport}>", ok.first["contact"])
            notified(phone)
            unsubscribe(phone, ok)
        self.rig.finish()

    @shows("SUB-10", "12.1.1", "12.2.1.1")
    def test_route_set(self) -> None:
        """Behind another proxy that stays in the dialog: 200 has its Record-Route, NOTIFY its Route."""
        phone = self.rig.phone("1001", "192.0.2.77")
        proxy = "<sip:192.0.2.77;lr>"
        ok = subscribe(phone, "1002", "presence", f"Record-Route: {proxy}",
                       contact="<sip:1001@203.0.113.9:5060>")
        self.assertEqual(ok.values("record-route"), [proxy])
        notify = notified(phone)
        self.assertEqual((notify.uri_text, notify.values("route")), ("sip:1001@203.0.113.9:5060", [proxy]))
        phone.request("SUBSCRIBE", notify.first["contact"][1:-1], "Event: presence", "Expires: 0", to=ok.first["to"],
                      from_=ok.first["from"], call_id=ok.call_id, cseq=99)
        phone.take(200)
        self.assertEqual(notified(phone).values("route"), [proxy])
        self.rig.finish()

    @shows("SUB-10", "6665 4.2.2")
    def test_moves(self) -> None:
        """A phone that registers from elsewhere, known by its instance or by the Call-ID of its REGISTERs, is told
        there; another phone of the same user changes nothing."""
        for extra, call_id in ((';+sip.instance="<urn:uuid:1>"', ""), ("", "phone-1")):
            self.rig.advance(6.0)
            old = self.rig.phone("1001")
            old.register(contact=f"<{old.contact}>{extra}", call_id=call_id, cseq=1)
            ok = subscribe(old, "1002")
            notified(old)
            other = self.rig.phone("1001")
            other.register(contact=f"<{other.contact}>" + (';+sip.instance="<urn:uuid:2>"' if extra else ""))
            new = self.rig.phone("1001")
            new.register(contact=f"<{new.contact}>{extra}", call_id=call_id, cseq=2)
            self.rig.advance(6.0)
            self.b.register(expires=600)
            self.rig.advance(0.1)
            notify = notified(new)
            self.assertEqual((notify.uri_text, basic(notify)), (new.contact, "open"))
            old.silent()
            other.silent()
            self.rig.advance(6.0)
            self.b.register(expires=0)
            self.rig.advance(0.1)
            self.assertEqual(basic(notified(new)), "closed")
            refresh(new, ok, 0)
            new.take(200)
            notified(new)
        self.rig.finish()

    @shows("SUB-10", "6665 4.2.2")
    def test_lost_connection(self) -> None:
        """A NOTIFY that finds no connection any more waits; when the phone has registered again over a new one, it gets
        the state at once."""
        old = self.rig.phone("1001", "10.0.0.5", "tcp", source=("198.51.100.7", 31000))
        old.register(contact=f'<{old.contact}>;+sip.instance="<urn:uuid:1>"')
        subscribe(old, "1002")
        notified(old)
        assert old.connection is not None
        old.connection.close()
        self.rig.advance(6.0)
        self.b.register()
        self.rig.advance(100.0)
        new = self.rig.phone("1001", "10.0.0.5", "tcp", source=("198.51.100.7", 31999))
        new.register(contact=f'<{new.contact}>;+sip.instance="<urn:uuid:1>"')
        self.rig.advance(0.1)
        self.assertEqual(basic(notified(new, 481)), "open")
        self.rig.finish()

    def test_refreshed_registration(self) -> None:
        """A phone that was silent and registers again where it was gets what it missed at once."""
        phone = self.rig.phone("1001")
        phone.register()
        ok = subscribe(phone, "1002")
        notified(phone)
        self.rig.advance(6.0)
        self.rig.network.drop = lambda packet: packet.target == (phone.address, 5060)
        self.b.register()
        self.rig.advance(42.0)
        self.rig.network.drop = None
        phone.drain()
        phone.register()
        self.assertEqual(basic(notified(phone)), "open")
        unsubscribe(phone, ok)
        self.rig.finish()

    @shows("R6665-6.5-01", "R3903-14.4-03", "R4235-7-02", "R3856-9.2-01")
    def test_secure(self) -> None:
        """A subscription by sips has a sips Contact of ours."""
        phone = self.rig.phone("1001", transport="tls")
        ok = subscribe(phone, "sips:1002@example.com", contact=f"<sips:1001@{phone.address}:5061>")
        self.assertRegex(ok.first["contact"], "^<sips:")
        self.assertRegex(notified(phone).first["contact"], "^<sips:")
        unsubscribe(phone, ok)
        self.rig.finish()


class ManyTests(TestCase):
    """Many watchers of one."""

    def test_fan_out(self) -> None:
        """Three hundred watchers are told at the rate of the configuration; what comes meanwhile is served at once."""
        rig = Rig(events={"rate": 100, "per_watcher": 1000})
        a, b = rig.phone("1001"), rig.phone("1002")
        for _ in range(300):
            subscribe(a, "1002", expires=60)
            notified(a)
        rig.advance(6.0)
        b.register()
        told = []
        for _ in range(40):
            rig.advance(0.1, 0.02)
            got = a.drain()
            told.append(len(got))
            for one in got:
                a.answer(one, 200)  # type: ignore[arg-type]
        self.assertEqual(sum(told), 300)
        self.assertLessEqual(max(told), 15)
        self.assertGreaterEqual(max(told), 8)
        rig.advance(60.0)
        for one in a.drain():
            a.answer(one, 200)  # type: ignore[arg-type]
        rig.finish()

    @shows("R6665-4.2.2-08")
    def test_bounds(self) -> None:
        """A full table refuses with 503. So does a watcher's, with one exception: whoever asks again for the same, as a
        phone does that was restarted, loses the older one and is told so, but not without end."""
        rig = Rig(events={"subscriptions": 3, "per_watcher": 2})
        a, c, d = rig.phone("1001"), rig.phone("1003"), rig.phone("1004")
        subscribe(a, "1002", expires=60)
        notified(a)
        subscribe(a, "1003", expires=60)
        notified(a)
        for entity, package in (("1004", "presence"), ("1003", "dialog")):
            self.assertEqual(subscribe(a, entity, package, expires=60, status=503).first["retry-after"], "60")
        a.request("SUBSCRIBE", "sip:1003@example.com", "Event: presence", "Expires: 60")
        lost = a.take("NOTIFY")
        self.assertEqual(lost.first["subscription-state"], "terminated;reason=probation;retry-after=600")
        a.take(200)
        first = a.take("NOTIFY")
        subscribe(a, "1002", expires=60, status=503)
        for notify in (lost, first):
            a.answer(notify, 200)
        self.assertEqual(sorted(row["entity"] for row in rig.core.events.notifier.rows()),
                         ["1002@example.com", "1003@example.com"])
        subscribe(c, "1002", expires=60)
        notified(c)
        self.assertEqual(subscribe(d, "1002", expires=60, status=503).first["retry-after"], "60")
        rig.advance(61.0)
        for phone in (a, c):
            for one in phone.drain():
                phone.answer(one, 200)  # type: ignore[arg-type]
        rig.finish()

    def test_merged(self) -> None:
        """The same SUBSCRIBE over two paths makes one subscription (RFC 3261 s8.2.2.2)."""
        rig = Rig(listen=LISTEN)
        a = rig.phone("1001")
        first = a.request("SUBSCRIBE", "sip:1002@example.com", "Event: presence", "Expires: 60")
        again = parse(first.encode().replace(first.via.branch.encode(), b"z9hG4bKother"))  # type: ignore[union-attr]
        a.send(again)
        a.take(200)
        notified(a)
        a.take(482)
        rig.advance(61.0)
        notified(a)
        rig.finish()
