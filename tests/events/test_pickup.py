"""Picking calls up by a lamp and by a number, and packages that a peer serves, on the real core in virtual time."""

from __future__ import annotations

import re
from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from tests.events.watching import Watcher, subscribe
from tests.support.cases import shows
from tests.support.rig import Phone, Rig


class PickupTests(TestCase):
    """1001 calls 1002, whose phone rings; 1003 wants the call."""

    def make(self, **events: Any) -> None:
        """A server; 1001 has two phones, of which the second calls."""
        self.rig = Rig(events=events)
        self.other, self.a = self.rig.phone("1001"), self.rig.phone("1001")
        self.b, self.c = self.rig.phone("1002"), self.rig.phone("1003")
        for phone in (self.other, self.a, self.b, self.c):
            phone.register()

    def ring(self) -> tuple[Request, Request]:
        """The INVITE as sent and as received."""
        invite = self.a.invite("1002", "Supported: replaces")
        got = self.b.ring(self.a)
        return invite, got

    def taken(self, invite: Request, got: Request, replaces: str) -> None:
        """The caller's phone got the INVITE with that Replaces, takes it, cancels its own, and the two talk; then no
        lamp is lit."""
        a, b, c = self.a, self.b, self.c
        second = a.take("INVITE")
        self.assertEqual(second.first["replaces"], replaces)
        self.other.silent()
        c.take(100)
        _, ok = a.pick_up(second, c)
        a.cancel(invite)
        a.take(200)
        b.cancelled(got)
        a.ack(a.take(487), invite)
        c.hang_up(ok, a)

    @shows("SUB-15", "3891 7.1", "5359 2.15")
    def test_by_lamp(self) -> None:
        """A phone with a lamp picks a ringing call up by what the lamp tells: an INVITE with Replaces to the caller's
        address reaches the one phone that calls."""
        self.make()
        watcher = Watcher(self.rig.phone("1004"), "1002", "dialog")
        self.rig.advance(2.0)
        invite, got = self.ring()
        self.rig.advance(0.1)
        found = re.search(r'call-id="([^"]+)" local-tag="([^"]+)" remote-tag="([^"]+)"', watcher.body)
        target = re.search(r'<remote>.*<target uri="([^"]+)"/>', watcher.body)
        assert found is not None and target is not None
        replaces = f"{found[1]};to-tag={found[3]};from-tag={found[2]};early-only"
        self.c.invite(target[1], f"Replaces: {replaces}", "Require: replaces")
        self.taken(invite, got, replaces)
        self.rig.advance(70.0)
        self.assertNotIn(">early<", watcher.body)
        watcher.end()
        self.rig.finish()

    @shows("SUB-15", "3891 8", "R3891-3-02", "R3891-8-01", "R3891-8-02")
    def test_who_may(self) -> None:
        """Who may watch neither side takes no call that rings, though they know its tags; one of the group's does."""
        self.make(watch="self", pickup_groups={"sales": ["1002", "1003"]})
        invite, got = self.ring()
        tag = self.rig.core.calls.of("1002")[0].dialogs[0].tag
        replaces = f"{invite.call_id};to-tag={invite.from_tag};from-tag={tag};early-only"
        d = self.rig.phone("1004")
        d.invite("sip:1001@example.com", f"Replaces: {replaces}", "Require: replaces")
        d.ack(d.take(403), self._last(d))
        for phone in (self.a, self.other):
            phone.silent()
        self.c.invite("sip:1001@example.com", f"Replaces: {replaces}", "Require: replaces")
        self.taken(invite, got, replaces)
        self.rig.finish()

    @shows("SUB-15", "3891 7.1", "R3891-4-01", "R3891-4-02", "R3891-6.1-01")
    def test_by_number(self) -> None:
        """The code alone takes a call of the group, with a number that of a colleague: the caller's phone is sent the
        Replaces that the phone did not write."""
        for dialled in ("*8", "*81002"):
            self.make(pickup="*8", pickup_groups={"sales": ["1002", "1003"]})
            invite, got = self.ring()
            self.c.invite(f"sip:{dialled}@example.com")
            tag = self.rig.core.calls.of("1002")[0].dialogs[0].tag
            self.taken(invite, got, f"{invite.call_id};to-tag={invite.from_tag};from-tag={tag};early-only")
            self.rig.finish()

    @shows("SUB-15", "3891 7.1", "R3891-3-02")
    def test_nothing(self) -> None:
        """Where nothing rings, or nobody of the group's, 404; for whom one may not watch 403; a call that is answered is
        not taken."""
        self.make(pickup="*8", pickup_groups={"sales": ["1002", "1003"]}, watch="self")
        self.c.invite("sip:*8@example.com")
        self.c.ack(self.c.take(404), self._last(self.c))
        invite, got = self.ring()
        d = self.rig.phone("1004")
        for dialled, status in (("*8", 404), ("*81002", 403)):
            d.invite(f"sip:{dialled}@example.com")
            d.ack(d.take(status), self._last(d))
        ok = self.b.answer(got, 200)
        self.a.ack(self.a.take(200))
        self.b.take("ACK")
        self.c.invite("sip:*8@example.com")
        self.c.ack(self.c.take(404), self._last(self.c))
        self.a.hang_up(ok, self.b)
        self.assertEqual(invite.call_id, ok.call_id)
        self.rig.finish()

    @staticmethod
    def _last(phone: Phone) -> Request:
        """The INVITE that the phone sent last."""
        from sipd.message.parser import parse

        sent = [packet.data for packet in phone.rig.network.packets if packet.source == (phone.address, phone.port)]
        request = parse([data for data in sent if data.startswith(b"INVITE")][-1])
        assert isinstance(request, Request)
        return request

    @shows("SUB-15", "3891 3", "R3891-3-01")
    def test_replaces_to_the_called(self) -> None:
        """A transfer's INVITE with Replaces for a user with two phones goes to the one that has the dialog; one about a
        dialog that is not there goes where calls go; two Replaces are malformed."""
        self.make()
        second = self.rig.phone("1002")
        second.register()
        self.a.invite("1002")
        self.a.take(100)
        gots = [phone.take("INVITE") for phone in (self.b, second)]
        self.b.answer(gots[0], 180)
        self.a.take(180)
        ok = second.answer(gots[1], 200)
        self.a.ack(self.a.take(200))
        second.take("ACK")
        self.b.answer(self.b.take("CANCEL"), 200)
        self.b.answer(gots[0], 487)
        self.b.take("ACK")
        self.c.invite("1002", f"Replaces: {ok.call_id};to-tag={ok.to_tag};from-tag={ok.from_tag}")
        self.c.take(100)
        taken = second.take("INVITE")
        self.b.silent()
        _, over = second.pick_up(taken, self.c)
        for response, caller, callee in ((ok, self.a, second), (over, self.c, second)):
            caller.hang_up(response, callee)
        self.c.invite("1002", "Replaces: x;to-tag=1;from-tag=2")
        self.c.take(100)
        for phone in (self.b, second):
            phone.refuse(481)
        self.c.ack(self.c.take(481), self._last(self.c))
        self.c.invite("1002", "Replaces: x;to-tag=1;from-tag=2", "Replaces: y;to-tag=1;from-tag=2")
        self.c.ack(self.c.take(400), self._last(self.c))
        self.rig.finish()


class RelayTests(TestCase):
    """Packages that a peer serves."""

    @shows("SUB-02", "6665 4.2.1.1", "R3842-3.13-02")
    def test_relayed(self) -> None:
        """SUBSCRIBE and PUBLISH for a package that a peer is configured for go there, also for whom no phone is
        registered; its answer comes back."""
        rig = Rig(events={"relays": {"conference": "mcu"}}, peers={"mcu": {"uri": "sip:192.0.2.99:5060"}})
        rig.core.call_out(rig.config)
        a = rig.phone("1001")
        mcu = rig.phone("mcu", "192.0.2.99")
        a.request("SUBSCRIBE", "sip:1002@example.com", "Event: conference", "Expires: 60")
        got = mcu.take("SUBSCRIBE")
        self.assertEqual(got.uri_text, "sip:1002@192.0.2.99:5060")
        mcu.answer(got, 202)
        a.take(202)
        subscribe(a, "1002", "other", status=489)
        rig.core.trunks.configure({})
        rig.finish()
