"""A target of several hops: the next is tried when one fails (RFC 3263 s4.3), and serial forking by time."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from tests.support.cases import shows
from tests.support.rig import Phone, Rig

FIRST, SECOND, THIRD = "192.0.2.61", "192.0.2.62", "192.0.2.63"
TARGET = "sip:1002@gw.example.net"


def served(transport: str = "udp", hosts: int = 2, **settings: Any) -> tuple[Rig, Phone, list[Phone]]:
    """A server with a user at a name whose SRV records name these hosts, first to last; the caller; a phone at each
    host for UDP."""
    rig = Rig(**settings)
    for number, address in enumerate((FIRST, SECOND, THIRD)[:hosts], 1):
        rig.dns.srv(f"_sip._{transport}.gw.example.net", number, 0, 5060, f"h{number}.example.net")
        rig.dns.address(f"h{number}.example.net", address)
    suffix = "" if transport == "udp" else f";transport={transport}"
    rig.binding("1002", f"{TARGET}{suffix}")
    a = rig.phone("1001")
    return rig, a, [rig.phone("1002", address) for address in (FIRST, SECOND, THIRD)[:hosts]]


def answered(rig: Rig, a: Phone, callee: Phone, got: Any) -> None:
    """The callee answers; ACK and BYE reach it."""
    _, ok = callee.pick_up(got, a)
    a.hang_up(ok, callee)
    rig.finish()


class FailOver(TestCase):
    """RFC 3263 s4.3: each hop has its branch and its transaction."""

    @shows("INV-12", "R3261-16.6-30", "R3261-16.6-31", "R3261-16.6-32", "R3263-4.3-01", "3263 4.3")
    def test_silent_hop(self) -> None:
        """Nothing for hop_timeout: the next hop is tried with a branch of its own, and the call is made there."""
        rig, a, (b, c) = served()
        a.invite("1002")
        a.take(100)
        rig.advance(3.9, 0.1)
        c.silent()
        rig.advance(0.2, 0.1)
        first = b.take_all("INVITE")[0]
        got = c.take("INVITE")
        self.assertNotEqual(got.via.branch, first.via.branch)
        self.assertEqual(got.uri_text, TARGET)
        self.assertEqual(got.first["call-id"], first.first["call-id"])
        c.answer(got, 180)
        a.take(180)
        c.answer(got, 200)
        a.ack(a.take(200))
        rig.advance(40)
        b.take_all("INVITE")
        c.drain()
        rig.finish()

    @shows("INV-12", "3263 4.3")
    def test_slow_hop_is_patient(self) -> None:
        """A provisional response within hop_timeout, a 100 too, ends the search: it may ring there."""
        rig, a, (b, c) = served()
        a.invite("1002")
        a.take(100)
        rig.advance(3)
        got = b.take_all("INVITE")[0]
        b.answer(got, 100)
        rig.advance(20)
        c.silent()
        b.answer(got, 200)
        a.ack(a.take(200))
        rig.advance(1)
        b.drain()
        c.drain()
        rig.finish()

    @shows("INV-17", "R3261-16.6-30", "3263 4.3")
    def test_hop_with_icmp_error(self) -> None:
        """An ICMP error leads to the next hop at once, and the next call goes there first."""
        rig, a, (b, c) = served()
        rig.network.icmp.add((FIRST, 5060))
        for _ in range(2):
            invite = a.invite("1002")
            a.take(100)
            rig.advance(0.1)
            got = c.take("INVITE")
            c.answer(got, 486)
            c.take("ACK")
            a.ack(a.take(486), invite)
        b.silent()
        sent = [packet for packet in rig.network.packets if packet.target[0] == FIRST]
        self.assertEqual(len(sent), 1)
        rig.finish()

    @shows("INV-17", "3263 4.3")
    def test_quarantine_ends(self) -> None:
        """Half a minute later the hop that failed is the first again."""
        rig, a, (b, c) = served()
        rig.network.icmp.add((FIRST, 5060))
        invite = a.invite("1002")
        a.take(100)
        rig.advance(0.1)
        c.refuse(486)
        a.ack(a.take(486), invite)
        rig.network.icmp.clear()
        rig.advance(31)
        a.invite("1002")
        a.take(100)
        answered(rig, a, b, b.take("INVITE"))

    @shows("INV-18", "R3261-16.6-30", "R3261-16.6-32", "R3263-4-02", "R3263-4.3-01", "3263 4.3", "16.7/6")
    def test_hop_answers_503(self) -> None:
        """503 is acknowledged and the next hop tried; when all say so the caller has one 500."""
        rig, a, phones = served(hosts=3)
        invite = a.invite("1002")
        a.take(100)
        branches = set()
        for phone in phones:
            a.silent()
            got = phone.take("INVITE")
            branches.add(got.via.branch)
            phone.answer(got, 503, "Retry-After: 10")
            self.assertEqual(phone.take("ACK").via.branch, got.via.branch)
        self.assertEqual(len(branches), 3)
        a.ack(a.take(500), invite)
        rig.finish()

    @shows("INV-18", "3263 4.3")
    def test_503_after_ringing(self) -> None:
        """A hop that rang and then says 503 is given up for the next, which can be cancelled only by its own ringing."""
        rig, a, (b, c) = served()
        invite = a.invite("1002")
        got = b.ring(a)
        b.answer(got, 503)
        b.take("ACK")
        other = c.take("INVITE")
        a.cancel(invite)
        a.take(200)
        c.silent()
        b.silent()
        c.answer(other, 180)
        a.take(180)
        cancel = c.take("CANCEL")
        self.assertEqual(cancel.via.branch, other.via.branch)
        c.answer(cancel, 200)
        c.answer(other, 487)
        c.take("ACK")
        a.ack(a.take(487), invite)
        rig.finish()

    @shows("INV-17", "R3261-16.6-31", "3263 4.3", "18.4")
    def test_refused_connection(self) -> None:
        """TCP: refused at the first, hanging at the second, the third takes the call."""
        rig, a, _ = served("tcp", 3)
        rig.network.listen("tcp", SECOND, 5060, "blackhole")
        place = rig.network.listen("tcp", THIRD, 5060)
        a.invite("1002")
        a.take(100)
        rig.advance(3.9, 0.1)
        self.assertEqual(place.connections, [])
        rig.advance(0.3, 0.1)
        c = rig.phone("1002", THIRD, transport="tcp")
        c.connection = place.connections[0]
        got = c.take("INVITE")
        _, ok = c.pick_up(got, a)
        rig.finish()

    @shows("INV-17", "3263 4.3", "18.4")
    def test_connection_breaks(self) -> None:
        """A connection that breaks before any response leads to the next hop."""
        rig, a, _ = served("tcp")
        for address in (FIRST, SECOND):
            rig.network.listen("tcp", address, 5060)
        places = [rig.network.acceptors["tcp", address, 5060] for address in (FIRST, SECOND)]
        invite = a.invite("1002")
        a.take(100)
        rig.advance(0.1)
        self.assertEqual([len(place.received) for place in places], [1, 0])
        places[0].connections[0].close()
        rig.advance(0.1)
        self.assertEqual([len(place.received) for place in places], [1, 1])
        places[1].connections[0].close()
        rig.advance(0.1)
        a.ack(a.take(500), invite)
        rig.finish()

    @shows("INV-12", "3263 4.3")
    def test_all_silent(self) -> None:
        """Nobody answers anywhere: one 408, when the last hop's timer B is over."""
        rig, a, phones = served(hosts=3)
        invite = a.invite("1002")
        a.take(100)
        rig.advance(39.8, 0.1)
        a.silent()
        rig.advance(0.6, 0.1)
        a.ack(a.take(408), invite)
        for phone in phones:
            self.assertGreaterEqual(len(phone.take_all("INVITE")), 7)
        rig.finish()

    @shows("INV-12", "R3261-16.7-37", "9.1", "16.7/10")
    def test_silent_hop_wakes_up(self) -> None:
        """A hop given up for another that begins to ring is cancelled, also when the call has been answered or refused."""
        for status in (0, 200, 486):
            rig, a, (b, c) = served()
            invite = a.invite("1002")
            a.take(100)
            rig.advance(4.2, 0.1)
            late, got = b.take_all("INVITE")[0], c.take("INVITE")
            c.answer(got, 180)
            a.take(180)
            if status:
                c.answer(got, status)
                final = a.take(status)
                a.ack(final, invite)
                c.take("ACK")
            b.answer(late, 180)
            cancel = b.take("CANCEL")
            self.assertEqual(cancel.via.branch, late.via.branch)
            b.answer(cancel, 200)
            b.answer(late, 487)
            b.take("ACK")
            if not status:
                c.pick_up(got, a)
            a.silent()
            rig.finish()

    @shows("INV-12", "16.7/5")
    def test_silent_hop_answers_late(self) -> None:
        """The hop given up answers all the same: its 200 makes the call, the other hop is cancelled."""
        rig, a, (b, c) = served()
        a.invite("1002")
        a.take(100)
        rig.advance(4.2, 0.1)
        late, got = b.take_all("INVITE")[0], c.take("INVITE")
        c.answer(got, 180)
        a.take(180)
        b.answer(late, 200)
        ok = a.take(200)
        c.cancelled(got)
        a.ack(ok)
        b.take("ACK")
        rig.finish()

    @shows("CAN-01", "R3263-4-03", "R3263-4.4-01", "3263 4.3")
    def test_cancel_goes_to_the_hop_that_rings(self) -> None:
        """s9.1: the CANCEL takes the way of the INVITE it cancels; no further hop is tried after it."""
        rig, a, (b, c, d) = served(hosts=3)
        rig.network.icmp.add((FIRST, 5060))
        invite = a.invite("1002")
        a.take(100)
        rig.advance(0.1)
        got = c.take("INVITE")
        c.answer(got, 180)
        a.take(180)
        a.cancel(invite)
        a.take(200)
        c.answer(c.take("CANCEL"), 200)
        c.answer(got, 503)
        c.take("ACK")
        final = a.take()
        self.assertIn(final.status, (487, 500))
        a.ack(final, invite)
        d.silent()
        b.silent()
        rig.finish()

    @shows("CAN-03", "3263 4.3")
    def test_cancel_before_the_next_hop(self) -> None:
        """A call cancelled while the first hop is silent is not tried elsewhere."""
        rig, a, (b, c) = served()
        invite = a.invite("1002")
        a.take(100)
        rig.advance(2)
        a.cancel(invite)
        a.take(200)
        rig.advance(30.5, 0.5)
        a.ack(a.take(487), invite)
        c.silent()
        self.assertEqual({one.method for one in b.drain()}, {"INVITE"})
        rig.finish()

    @shows("INV-17", "3263 4.3")
    def test_addresses_of_one_name(self) -> None:
        """Two addresses of one host are two hops, IPv4 and IPv6 among them."""
        rig = Rig(listen=(("udp", "192.0.2.1", 5060), ("udp", "2001:db8::1", 5060)))
        rig.dns.address("phone.example.net", FIRST, "2001:db8::62")
        rig.binding("1002", "sip:1002@phone.example.net:5070")
        rig.network.icmp.add((FIRST, 5070))
        a, c = rig.phone("1001"), rig.phone("1002", "2001:db8::62", port=5070)
        a.invite("1002")
        a.take(100)
        rig.advance(0.1)
        answered(rig, a, c, c.take("INVITE"))

    @shows("INV-17", "3263 4.3")
    def test_other_methods(self) -> None:
        """A MESSAGE finds its next hop too: after 503, after an ICMP error, after silence; one response goes up."""
        for how in ("503", "icmp", "silence"):
            rig, a, (b, c) = served()
            if how == "icmp":
                rig.network.icmp.add((FIRST, 5060))
            a.request("MESSAGE", "sip:1002@example.com", body=b"hello")
            if how == "503":
                b.answer(b.take("MESSAGE"), 503)
            rig.advance(4.2 if how == "silence" else 0.1, 0.1)
            got = c.take("MESSAGE")
            self.assertEqual(got.body, b"hello")
            c.answer(got, 200)
            self.assertEqual([one.status for one in a.drain() if one.status != 100], [200])  # type: ignore[attr-defined]
            if how == "silence":
                b.answer(b.take_all("MESSAGE")[0], 200)
            rig.finish()

    def test_look_up_breaks(self) -> None:
        """A look-up that ends by a bug of ours leads nowhere, and leaves nothing behind."""
        rig = Rig()
        a = rig.phone("1001")

        async def broken(uri: Any, chance: bytes) -> Any:
            raise RuntimeError("of no use")

        self.patch(rig.resolver, "resolve", broken)
        invite = a.invite(TARGET)
        a.take(100)
        a.ack(a.take(500), invite)
        self.assertEqual(len(rig.bugs), 1)
        rig.records.clear()
        rig.finish()


class SerialByTime(TestCase):
    """ring_timeout: the next group is tried when the first took too long."""

    def two_groups(self, **settings: Any) -> tuple[Rig, Phone, Phone, Phone]:
        """A user with a first and a second contact by q."""
        rig = Rig(**settings)
        a, b, c = rig.phone("1001"), rig.phone("1002"), rig.phone("1002")
        rig.binding("1002", b.contact, q=1000)
        rig.binding("1002", c.contact, q=500)
        return rig, a, b, c

    @shows("CAN-01", "16.6")
    def test_next_group(self) -> None:
        """After ring_timeout the first contact is cancelled and the second rings; its answer is the caller's."""
        rig, a, b, c = self.two_groups(proxy={"ring_timeout": 5.0})
        a.invite("1002")
        got = b.ring(a)
        rig.advance(4.9, 0.1)
        c.silent()
        b.silent()
        rig.advance(0.2, 0.1)
        cancel = b.take("CANCEL")
        b.answer(cancel, 200)
        b.answer(got, 487)
        b.take("ACK")
        a.silent()
        answered(rig, a, c, c.take("INVITE"))

    @shows("CAN-03", "16.6")
    def test_first_group_silent(self) -> None:
        """A first contact that never said anything is not cancelled, and the second is tried all the same."""
        rig, a, b, c = self.two_groups(proxy={"ring_timeout": 5.0})
        invite = a.invite("1002")
        a.take(100)
        rig.advance(5.1, 0.1)
        other = c.take("INVITE")
        c.answer(other, 486)
        c.take("ACK")
        a.silent()
        rig.advance(28)
        self.assertEqual({one.method for one in b.drain()}, {"INVITE"})
        a.ack(a.take_all(486)[0], invite)
        rig.finish()

    @shows("CAN-05", "16.7/5")
    def test_first_group_answers_after_all(self) -> None:
        """The first contact's 200 crosses our CANCEL: it wins, and the second is cancelled."""
        rig, a, b, c = self.two_groups(proxy={"ring_timeout": 5.0})
        a.invite("1002")
        got = b.ring(a)
        rig.advance(5.1, 0.1)
        other = c.take("INVITE")
        c.answer(other, 180)
        a.take(180)
        b.answer(b.take("CANCEL"), 200)
        b.answer(got, 200)
        ok = a.take(200)
        cancel = c.take("CANCEL")
        self.assertIn("cause=200", cancel.first["reason"])
        c.answer(cancel, 200)
        c.answer(other, 487)
        c.take("ACK")
        a.ack(ok)
        b.take("ACK")
        rig.finish()

    @shows("CAN-01", "16.10")
    def test_cancel_stops_the_search(self) -> None:
        """The caller's CANCEL during the first step: the second contact never hears of the call."""
        rig, a, b, c = self.two_groups(proxy={"ring_timeout": 5.0})
        invite = a.invite("1002")
        got = b.ring(a)
        rig.advance(4)
        a.cancel(invite)
        a.take(200)
        b.answer(b.take("CANCEL"), 200)
        rig.advance(3)
        b.answer(got, 487)
        b.take("ACK")
        a.ack(a.take(487), invite)
        c.silent()
        rig.finish()

    @shows("INV-10", "16.6")
    def test_nobody(self) -> None:
        """Both steps time out: the caller, who did not cancel, has one final response."""
        rig, a, b, c = self.two_groups(proxy={"ring_timeout": 5.0})
        invite = a.invite("1002")
        got = b.ring(a)
        rig.advance(5.1, 0.1)
        b.cancelled(got)
        rig.advance(32.1, 0.1)
        c.take_all("INVITE")
        final = a.take()
        self.assertIn(final.status, (408, 480))
        a.ack(final, invite)
        a.drain()
        rig.finish()
