"""Rules of the transactions that no conformance case names (RFC 3261 s17, RFC 4320, RFC 6026)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from tests.support.cases import shows
from tests.support.rig import Phone, Rig
from tests.support.stores import WaitingStore

#: Finer than the wheel's ticks.
FINE = 0.01


def pair(transport: str = "udp") -> tuple[Rig, Phone, Phone]:
    """A server, a caller and a callee that is registered."""
    rig = Rig()
    a, b = rig.phone("1001", transport=transport), rig.phone("1002", transport=transport)
    b.register()
    return rig, a, b


def undelivered(rig: Rig) -> list[tuple[str, str]]:
    """What was written of answers that nobody took: source and reason."""
    return [(fields["source"], fields["reason"]) for kind, fields in rig.records if kind == "undelivered"]


class Trying(TestCase):
    """100, soon or late."""

    @shows("R3261-17.1-01")
    def test_at_once(self) -> None:
        """No time passes between a request other than INVITE and its answer, or its being forwarded."""
        for transport in ("udp", "tcp", "tls"):
            rig, a, b = pair(transport)
            a.register()
            a.request("OPTIONS", "sip:example.com")
            a.take(200)
            for method, uri, status in (("MESSAGE", "sip:1003@example.com", 480), ("SUBSCRIBE", "sip:nobody@example.com", 404),
                                        ("FOO", "sip:example.com", 405), ("CANCEL", "sip:1002@example.com", 481)):
                a.request(method, uri, "Event: conference")
                a.take(status)
            a.request("MESSAGE", "sip:1002@example.com")
            b.answer(b.take("MESSAGE"), 200)
            a.take(200)
            self.assertEqual(rig.clock.seconds(), 0.0)
            rig.finish()

    @shows("R3261-17.2.1-01", "R3261-17.2.1-02")
    def test_invite(self) -> None:
        """An INVITE gets its 100 at once, without a tag in To; one that goes no further gets its refusal at once."""
        for transport in ("udp", "tcp", "tls"):
            rig, a, b = pair(transport)
            invite = a.invite("1002")
            trying = a.take(100)
            self.assertEqual((trying.first["to"], rig.clock.seconds()), (invite.first["to"], 0.0))
            b.refuse(486)
            a.ack(a.take(486), invite)
            again = a.invite("1003")
            a.ack(a.take(480), again)
            self.assertEqual(rig.clock.seconds(), 0.0)
            rig.finish()

    @shows("R4320-4.1-02", "R4320-4.1-03")
    def test_slow_callee(self) -> None:
        """A callee that thinks, over every transport of the caller: 100 at 3.5 s, neither sooner nor much later."""
        for transport in ("udp", "tcp", "tls"):
            for method in ("MESSAGE", "BYE", "FOO"):
                rig = Rig()
                a, b = rig.phone("1001", transport=transport), rig.phone("1002", transport="tcp")
                b.register()
                a.request(method, "sip:1002@example.com")
                got = b.take(method)
                rig.advance(3.49, FINE)
                a.silent()
                rig.advance(0.06, FINE)
                trying = a.take(100)
                self.assertEqual((trying.cseq_method, trying.to_tag), (method, ""))
                rig.advance(10)
                b.answer(got, 200)
                a.take(200)
                rig.finish()

    @shows("R4320-4.1-02", "R4320-4.1-03", "R3261-17.2.2-04")
    def test_slow_store(self) -> None:
        """A store that takes its time: 100 to the REGISTER at 3.5 s, its repeat gets that again, 200 when it is stored."""
        for transport in ("udp", "tcp", "tls"):
            store = WaitingStore()
            rig = Rig(store=store)
            a = rig.phone("1001", transport=transport)
            sent = a.request("REGISTER", "sip:example.com", to=f"<{a.aor}>", contact=f"<{a.contact}>")
            rig.advance(3.49, FINE)
            a.silent()
            rig.advance(0.06, FINE)
            trying = a.take(100)
            a.send(sent)
            self.assertEqual(a.take(100).encode(), trying.encode())
            rig.advance(1)
            store.answer()
            self.assertIn(a.contact, a.take(200).first["contact"])
            # one that is stored in time, or cannot be, gets nothing before its answer, and nothing after it
            for reason, status in (("", 200), ("the disk is full", 500)):
                a.request("REGISTER", "sip:example.com", to=f"<{a.aor}>", contact=f"<{a.contact}>")
                rig.advance(3)
                store.answer(reason)
                a.take(status)
            rig.finish()

    @shows("R4320-4.1-01", "R3261-17.1.2.2-14")
    def test_only_100(self) -> None:
        """180, 183 and 199 to a request other than INVITE stay here, over every transport; the final response passes."""
        for transport in ("udp", "tcp", "tls"):
            rig, a, b = pair(transport)
            a.request("MESSAGE", "sip:1002@example.com")
            got = b.take("MESSAGE")
            for status in (180, 183, 199, 100):
                b.answer(got, status)
            a.silent()
            b.answer(got, 486)
            a.take(486)
            rig.finish()

    @shows("R4320-4.2-01", "R4320-4.2-02")
    def test_never_408(self) -> None:
        """Over every transport: a callee that says nothing, or 408, brings no final response, nor does what comes late."""
        for transport in ("udp", "tcp", "tls"):
            for said in (0, 408):
                rig, a, b = pair(transport)
                a.request("MESSAGE", "sip:1002@example.com")
                got = b.take("MESSAGE")
                if said:
                    b.answer(got, said)
                rig.advance(33)
                self.assertEqual({one.status for one in a.drain()}, set() if said else {100})  # type: ignore[attr-defined]
                b.drain()
                strays = rig.core.layer.strays
                for status in (100, 200, 408, 503):
                    b.answer(got, status)
                a.silent()
                self.assertEqual(rig.core.layer.strays, strays + 4)
                rig.finish()


class Client(TestCase):
    """Our side towards the callee."""

    @shows("R3261-17.1.1.2-03", "R3261-17.1.1.2-07", "R3261-17.1.1.2-09", "R3261-17.1.1.2-11", "R3261-17.1.1.2-12")
    def test_another_t1(self) -> None:
        """T1 of 0.2 s: the INVITE at 0, 0.2, 0.6, 1.4, 3, 6.2 and 12.6 s, and 408 at 12.8 s."""
        rig = Rig(timers={"t1": 0.2})
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register()
        invite = a.invite("1002")
        a.take(100)
        rig.advance(12.79, FINE)
        a.silent()
        times = [packet.at for packet in rig.network.packets
                 if packet.target[0] == b.address and packet.data.startswith(b"INVITE ")]
        wanted = [0.0, 0.2, 0.6, 1.4, 3.0, 6.2, 12.6]
        self.assertEqual(len(times), len(wanted), times)
        for at, least in zip(times, wanted, strict=True):
            self.assertTrue(least - 0.001 <= at <= least + 0.2, times)
        rig.advance(0.06, FINE)
        a.ack(a.take(408), invite)
        b.take_all("INVITE")
        rig.finish()

    @shows("R3261-17.1.1.2-20", "R6026-8.4-04")
    def test_ack_goes_where_the_invite_went(self) -> None:
        """The ACK of a refusal goes to the place of the INVITE though the name has another address by then."""
        for transport, kind in (("udp", ""), ("tcp", ";transport=tcp")):
            rig = Rig()
            rig.dns.address("phone.example.net", "192.0.2.80", ttl=1)
            rig.binding("1002", f"sip:1002@phone.example.net:5070{kind}")
            a = rig.phone("1001")
            place = rig.network.listen(transport, "192.0.2.80", 5070)
            elsewhere = rig.network.listen(transport, "192.0.2.81", 5070)
            b = rig.phone("1002", "192.0.2.80", port=5070)
            invite = a.invite("1002")
            a.take(100)
            rig.advance(0.1)
            if transport == "tcp":
                b.connection = place.connections[0]
            got = b.take("INVITE")
            b.answer(got, 180)
            a.take(180)
            rig.dns.zone.clear()
            rig.dns.address("phone.example.net", "192.0.2.81")
            rig.advance(5)
            b.answer(got, 486)
            b.take("ACK")
            sent = [(packet.transport, packet.source, packet.target) for packet in rig.network.packets
                    if packet.data.startswith((b"INVITE sip:1002@phone", b"ACK sip:1002@phone"))]
            self.assertEqual(sent[0], sent[1])
            self.assertEqual((len(sent), sent[0][2]), (2, ("192.0.2.80", 5070)))
            self.assertEqual(elsewhere.connections, [])
            a.ack(a.take(486), invite)
            rig.finish()

    @shows("R3261-17.1.1.2-13")
    def test_no_ack_without_an_answer(self) -> None:
        """Nothing but INVITEs goes to a callee that says nothing, over every transport."""
        for transport in ("udp", "tcp", "tls"):
            rig, a, b = pair(transport)
            invite = a.invite("1002")
            a.take(100)
            rig.advance(32.1, FINE)
            a.ack(a.take(408), invite)
            self.assertEqual(len(b.take_all("INVITE")), 7 if transport == "udp" else 1)
            rig.finish()

    @shows("R6026-7.2-03", "R6026-8.4-12", "R6026-8.4-14", "R6026-8.4-11", "R6026-8.4-13", "R6026-6-01")
    def test_no_ack_for_a_2xx(self) -> None:
        """200s of two forks behind one hop, each repeated: all of them go up, none is acknowledged by us."""
        for transport in ("udp", "tcp", "tls"):
            rig, a, b = pair(transport)
            a.invite("1002")
            a.take(100)
            got = b.take("INVITE")
            for tag in ("one", "two", "one", "two"):
                b.answer(got, 200, tag=tag)
                self.assertEqual(a.take(200).to_tag, tag)
                rig.advance(7)
                b.silent()
            rig.finish()


class Server(TestCase):
    """Our side towards the caller."""

    @shows("R3261-17.2.1-13", "R3261-17.2.1-14")
    def test_nobody_acknowledges(self) -> None:
        """A refusal without an ACK is written down at the end of timer H, once; one with an ACK is not."""
        for transport in ("udp", "tcp"):
            rig, a, b = pair(transport)
            for acknowledged in (True, False):
                invite = a.invite("1002")
                a.take(100)
                b.refuse(486)
                busy = a.take(486)
                if acknowledged:
                    a.ack(busy, invite)
                rig.advance(31.9)
                self.assertEqual(undelivered(rig), [])
            rig.advance(5)
            self.assertEqual([reason for _, reason in undelivered(rig)], ["no ACK"])
            a.drain()
            rig.finish()

    @shows("R3261-17.2.4-01", "R6026-6-02", "R6026-7.1-07", "R6026-7.1-08", "R6026-8.8-01", "R6026-8.8-02")
    def test_caller_cannot_be_reached(self) -> None:
        """The caller's connection breaks and none can be had for what we say: that is written, the call goes on, and
        its INVITE over a new connection is answered there from the same transaction, or absorbed."""
        for status in (180, 486, 200):
            rig = Rig()
            a, b = rig.phone("1001", transport="tcp"), rig.phone("1002")
            b.register()
            invite = a.invite("1002")
            a.take(100)
            got = b.take("INVITE")
            assert a.connection is not None
            a.connection.close()
            b.answer(got, status)
            if status == 486:
                b.take("ACK")
            rig.advance(1)
            self.assertEqual(undelivered(rig), [(f"{a.address}:{a.connection.local[1]}", "connection refused")])
            again = rig.network.endpoint("tcp", a.address, 50123).connect(a.server)
            again.send(invite.encode())
            rig.advance(1)
            b.silent()
            # RFC 6026 s7.1: in Accepted it is the callee that repeats its answer
            self.assertEqual([data.split(b" ", 2)[1] for data in again.received],
                             [] if status == 200 else [str(status).encode()])
            if status == 180:
                b.answer(got, 486)
                b.take("ACK")
            if status != 200:
                self.assertTrue(again.received[-1].startswith(b"SIP/2.0 486"))
            else:
                b.answer(got, 200)
                self.assertTrue(again.received[-1].startswith(b"SIP/2.0 200"))
            rig.finish()

    @shows("R6026-6-02", "R6026-7.1-07", "R6026-7.1-08")
    def test_icmp_for_a_response(self) -> None:
        """Over UDP: an ICMP error for a response changes nothing for the call, and a repeat fetches it anew."""
        rig, a, b = pair()
        invite = a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        rig.network.icmp.add((a.address, a.port))
        b.answer(got, 183)
        rig.advance(1)
        rig.network.icmp.clear()
        a.send(invite)
        a.take(183)
        b.silent()
        b.answer(got, 486)
        b.take("ACK")
        a.ack(a.take(486), invite)
        rig.finish()

    @shows("R6026-6-05")
    def test_ack_of_an_old_client(self) -> None:
        """A caller without a magic cookie that sends its ACK as it sent its INVITE: after a 200 the ACK goes on to the
        callee, each time it comes; after a refusal it ends here."""
        for via in ("Via: SIP/2.0/UDP 192.0.2.10:5060", "Via: SIP/2.0/UDP 192.0.2.10:5060;branch=1"):
            for status in (200, 486):
                rig, a, b = pair()
                self.assertEqual(a.address, "192.0.2.10")
                invite = a.invite("1002", via=via)
                a.take(100)
                b.answer(b.take("INVITE"), status)
                if status == 486:
                    b.take("ACK")
                final = a.take(status)
                for _ in range(2):
                    a.request("ACK", invite.uri_text, to=final.first["to"], from_=final.first["from"],
                              call_id=final.call_id, cseq=final.cseq_number, via=via)
                if status == 200:
                    acks: list[Request] = b.take_all("ACK")
                    self.assertEqual([one.to_tag for one in acks], [final.to_tag] * 2)
                rig.finish()
