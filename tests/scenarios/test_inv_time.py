"""Calls that ring too long, hops that fail, and a server that is restarted in the middle (RFC 3261 s16.6 to s16.9)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message.address import Address
from sipd.message.message import Request, Response
from tests.support.cases import shows
from tests.support.rig import LISTEN, SERVER, Phone, Rig, established


def ringing(**settings: Any) -> tuple[Rig, Phone, Phone, Request, Request]:
    """A call that rings: server, caller, callee, the INVITE as sent and as received."""
    rig = Rig(**settings)
    a, b = rig.phone("1001"), rig.phone("1002")
    b.register()
    invite = a.invite("1002")
    got = b.ring(a)
    return rig, a, b, invite, got


class TimerC(TestCase):
    """INV-14, INV-15, INV-16, INV-29: how long it may ring."""

    @shows("INV-14", "R3261-16.8-01", "R3261-16.8-02", "16.8")
    def test_rings_too_long(self) -> None:
        """CANCEL to the callee, and its 487 goes up."""
        rig, a, b, invite, got = ringing(timers={"c": 5.0})
        rig.advance(4.9, 0.1)
        b.silent()
        rig.advance(0.2, 0.1)
        cancel = b.take("CANCEL")
        self.assertEqual(cancel.via.branch, got.via.branch)
        b.answer(cancel, 200)
        b.answer(got, 487)
        b.take("ACK")
        a.ack(a.take(487), invite)
        rig.finish()

    @shows("INV-14", "16.8")
    def test_rings_too_long_and_stays_dead(self) -> None:
        """A callee that says nothing to the CANCEL either: the caller has a final response 64*T1 after it."""
        rig, a, b, invite, _ = ringing(timers={"c": 5.0})
        rig.advance(38, 0.1)
        self.assertGreater(len(b.take_all("CANCEL")), 5)
        a.ack(a.take_all(487)[0], invite)
        rig.finish()

    @shows("INV-14", "16.8")
    def test_answers_at_the_last_moment(self) -> None:
        """A 200 that crosses timer C's CANCEL makes the call."""
        rig, a, b, _, got = ringing(timers={"c": 5.0})
        rig.advance(5.1, 0.1)
        b.answer(b.take("CANCEL"), 200)
        b.pick_up(got, a)
        rig.finish()

    @shows("INV-14", "R3261-16.8-03", "R3261-16.6-42", "16.8")
    def test_without_a_provisional_response(self) -> None:
        """Where nothing came, timer C counts as 408, no CANCEL goes out, and nothing is left when it rings at last."""
        rig = Rig(timers={"c": 3.0})
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register()
        invite = a.invite("1002")
        a.take(100)
        rig.advance(3.2, 0.1)
        got = b.take_all("INVITE")[0]
        a.ack(a.take(408), invite)
        b.answer(got, 180)
        rig.finish()

    @shows("INV-15", "R3261-16.6-43", "R3261-16.7-04", "R3261-16.7-05", "R3261-16.8-01", "16.7/2")
    def test_rings_on(self) -> None:
        """A 180 or 183 every minute keeps it alive for ten; a 100 would not. After the last it is more than three."""
        rig, a, b, invite, got = ringing()
        for minute in range(10):
            rig.advance(60, 1)
            b.answer(got, 183 if minute % 2 else 180)
            a.take(183 if minute % 2 else 180)
        b.silent()
        for _ in range(3):
            rig.advance(59, 1)
            b.answer(got, 100)
            b.silent()
        rig.advance(3.5, 0.5)
        b.silent()
        rig.advance(1, 0.5)
        b.answer(b.take_all("CANCEL")[0], 200)
        b.answer(got, 487)
        b.take("ACK")
        a.ack(a.take(487), invite)
        rig.finish()

    @shows("INV-16", "16.8")
    def test_answered_call(self) -> None:
        """Timer C's time passes in an answered call: nothing, and BYE passes after an hour."""
        rig, a, b, _, got = ringing(timers={"c": 5.0})
        rig.advance(2)
        _, ok = b.pick_up(got, a)
        rig.advance(3600, 5)
        b.silent()
        a.hang_up(ok, b)
        rig.finish()

    @shows("INV-29", "13.3.1", "16.10")
    def test_short_expires(self) -> None:
        """An INVITE with Expires: 3 rings on; the callee minds the time, and its late answer still counts."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register()
        a.invite("1002", "Expires: 3")
        a.take(100)
        got = b.take("INVITE")
        self.assertEqual(got.first["expires"], "3")
        b.answer(got, 180)
        a.take(180)
        rig.advance(10)
        b.pick_up(got, a)
        rig.finish()


class Errors(TestCase):
    """INV-17, INV-18: a hop that cannot be reached, and 503."""

    @shows("INV-17", "R3261-16.9-01", "16.9", "16.7/6")
    def test_unreachable(self) -> None:
        """ICMP error, refused connection, no address, a family or transport we have not: 500 at once, never 503."""
        for contact in ("sip:1002@192.0.2.66", "sip:1002@192.0.2.66:5070;transport=tcp", "sips:1002@192.0.2.66",
                        "sip:1002@nothing.example.net", "sip:1002@[2001:db8::66]", "sip:1002@192.0.2.66;transport=sctp"):
            rig = Rig()
            rig.network.icmp.add(("192.0.2.66", 5060))
            rig.binding("1002", contact)
            a = rig.phone("1001")
            invite = a.invite("1002")
            a.take(100)
            rig.advance(0.1)
            refusal = a.take(500)
            self.assertNotEqual(refusal.to_tag, "")
            a.ack(refusal, invite)
            rig.finish()

    @shows("INV-17", "17.1.4")
    def test_icmp_after_ringing(self) -> None:
        """An ICMP error in a call that rings already does not end it."""
        rig, a, b, _, got = ringing()
        rig.network.icmp.add((b.address, b.port))
        flow = next(one for one in rig.transports.flows.values() if one.address == b.address)
        flow.fail("connection refused")
        rig.network.icmp.clear()
        rig.advance(1)
        b.pick_up(got, a)
        rig.finish()

    @shows("INV-17", "18.4")
    def test_connection_breaks(self) -> None:
        """The callee's connection breaks before it answered: 500 at once."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002", transport="tcp")
        b.register()
        invite = a.invite("1002")
        a.take(100)
        b.take("INVITE")
        assert b.connection is not None
        b.connection.close()
        rig.advance(0.1)
        a.ack(a.take(500), invite)
        rig.finish()

    @shows("INV-17", "16.9")
    def test_one_of_two(self) -> None:
        """An unreachable contact beside one that rings changes nothing; beside one that refuses, the refusal is best."""
        for status in (200, 404):
            rig = Rig()
            rig.network.icmp.add(("192.0.2.66", 5060))
            rig.binding("1002", "sip:1002@192.0.2.66")
            a, b = rig.phone("1001"), rig.phone("1002")
            b.register()
            invite = a.invite("1002")
            a.take(100)
            rig.advance(0.1)
            got = b.take("INVITE")
            a.silent()
            b.answer(got, status)
            b.drain()
            a.ack(a.take(status), invite)
            b.drain()
            rig.finish()

    @shows("INV-18", "R3261-16.7-24", "R3261-16.7-25", "R3261-16.7-29", "16.7/6")
    def test_unavailable(self) -> None:
        """503 from the callee is 500 for the caller, with the callee's ACK from us; other 5xx and 6xx pass as they are."""
        for status, seen in ((503, 500), (500, 500), (504, 504), (599, 599), (603, 603)):
            rig, a, b, invite, got = ringing()
            b.answer(got, status, "Retry-After: 120", tag="theirs")
            b.take("ACK")
            refusal: Response = a.take(seen)
            self.assertEqual(refusal.to_tag == "theirs", status != 503)
            self.assertEqual("retry-after" in refusal.first, status != 503)
            a.ack(refusal, invite)
            rig.finish()

    @shows("INV-17", "R3261-16.9-02", "18.4")
    def test_answer_cannot_be_delivered(self) -> None:
        """An ICMP error for what we send the caller ends nothing: the callee's call goes on until it answers."""
        rig, a, b, _, got = ringing()
        rig.network.icmp.add((a.address, a.port))
        b.answer(got, 183)
        rig.advance(1)
        rig.network.icmp.clear()
        b.silent()
        b.pick_up(got, a)
        rig.finish()


class Full(TestCase):
    """What happens when the tables are full."""

    @shows("CAN-01", "16.10", "21.5.4")
    def test_cancel_when_full(self) -> None:
        """New calls are refused with 503 and Retry-After; those that ring can be cancelled and so make room."""
        rig = Rig(limits={"transactions": 100})
        a, b = rig.phone("1001"), rig.phone("1002")
        rig.binding("1002", b.contact)
        invites = [a.invite("1002") for _ in range(100)]
        a.take_all(100)
        calls = b.take_all("INVITE")
        for got in calls:
            b.answer(got, 180)
        a.take_all(180)
        refused = a.invite("1002")
        refusal = a.take(503)
        self.assertIn("retry-after", refusal.first)
        a.ack(refusal, refused)
        b.silent()
        for invite, got in zip(invites, calls, strict=True):
            a.cancel(invite)
            self.assertEqual(a.take(200).cseq_method, "CANCEL")
            b.cancelled(got)
            a.ack(a.take(487), invite)
        rig.advance(40)
        again = a.invite("1002")
        a.take(100)
        b.refuse(486)
        a.ack(a.take(486), again)
        rig.finish()

    @shows("INV-17", "16.7/6")
    def test_fork_when_full(self) -> None:
        """A call that finds no room for its branches ends with 500, and its hops are not blamed for it."""
        rig = Rig(limits={"transactions": 100})
        a, b, c = rig.phone("1001"), rig.phone("1002"), rig.phone("1002")
        for phone in (b, c):
            rig.binding("1002", phone.contact)
        rig.binding("1003", "sip:1003@192.0.2.88")
        for _ in range(50):
            a.invite("1002")
        a.take_all(100)
        invite = a.invite("1003")
        self.assertEqual([one.status for one in (a.take(), a.take())], [100, 500])
        self.assertEqual([kind for kind, _ in rig.records if kind == "hop-failed"], [])
        a.request("ACK", invite.uri_text, via=f"Via: {invite.via.text}")  # type: ignore[union-attr]
        rig.advance(33)
        for phone in (a, b, c):
            phone.drain()
        rig.advance(35)
        a.drain()
        rig.finish()


class InDialog(TestCase):
    """INV-31, INV-32: nothing about a dialog is kept here."""

    @shows("INV-31", "16.4", "16.6/4")
    def test_unknown_dialog(self) -> None:
        """BYE and UPDATE of a call we never saw, with a Route to us: forwarded where everybody is trusted, else 407."""
        for required in (False, True):
            rig = Rig(auth={"required": required})
            a, b = rig.phone("1001"), rig.phone("1002")
            fields: dict[str, Any] = {"to": "<sip:1002@example.com>;tag=theirs", "call_id": "before-our-time"}
            for route in (f"Route: <sip:{SERVER};lr>", f"Route: <sip:0123456789abcdef@{SERVER}:5060;lr>",
                          f"Route: <sip:0123456789abcdef.AAAA@{SERVER}:5060;lr>", f"Route: <sip:%00@{SERVER};lr>"):
                for method in ("BYE", "UPDATE"):
                    a.request(method, b.contact, route, **fields)
                    if required:
                        a.take(407)
                        continue
                    got = b.take(method)
                    self.assertNotIn("route", got.first)
                    b.answer(got, 481)
                    a.take(481)
            rig.finish()

    @shows("INV-32", "16.6/4")
    def test_restart_in_mid_call(self) -> None:
        """A server started anew with the same secret lets the BYE of either side pass, without credentials."""
        for by_callee in (False, True):
            first = Rig()
            a, b = first.phone("1001"), first.phone("1002")
            b.register()
            _, got, sent, ok = established(a, b)
            second = restarted(first, auth={"required": True})
            again = b.in_callee_dialog("INFO", got, sent)
            a.answer(a.take("INFO"), 200)
            self.assertEqual(b.take(200).call_id, again.call_id)
            if by_callee:
                b.in_callee_dialog("BYE", got, sent)
                a.answer(a.take("BYE"), 200)
                b.take(200)
            else:
                a.hang_up(ok, b)
            finish(second, a, b)

    @shows("INV-32", "16.6/4")
    def test_restart_with_another_secret(self) -> None:
        """Where the secret is another one, the proof is none."""
        first = Rig()
        a, b = first.phone("1001"), first.phone("1002")
        b.register()
        _, _, _, ok = established(a, b)
        second = restarted(first, auth={"required": True}, secret=b"t" * 32)
        a.in_dialog("BYE", ok)
        a.take(407)
        b.silent()
        finish(second, a, b)

    @shows("INV-32", "16.6/4", "26.2")
    def test_the_proof_is_bound(self) -> None:
        """A Route of another call, other tags, another direction's tag alone, a token without a To tag: no rights."""
        rig = Rig(auth={"required": True})
        a, b = rig.phone("1001"), rig.phone("1002")
        rig.binding("1002", b.contact)
        invite = a.invite("1002")
        a.prove(invite)
        a.take(100)
        got = b.take("INVITE")
        _, ok = b.pick_up(got, a)
        route = f"Route: {ok.values('record-route')[0]}"
        good: dict[str, Any] = {"to": ok.first["to"], "from_": ok.first["from"], "call_id": ok.call_id}
        for wrong in ({"call_id": "another"}, {"from_": "<sip:1001@example.com>;tag=else"}, {"to": "<sip:1002@example.com>"},
                      {"from_": ok.first["to"], "to": "<sip:1001@example.com>;tag=else"}):
            a.request("BYE", "sip:victim@192.0.2.99", route, **good | wrong)
            self.assertIn(a.take().status, (403, 407))
        for token in ("", "0" * 16, Address.parse(ok.values("record-route")[0]).uri.user[:-1]):  # type: ignore[index]
            a.request("BYE", b.contact, f"Route: <sip:{token}{'@' if token else ''}{SERVER}:5060;lr>", **good)
            a.take(407)
        b.silent()
        a.hang_up(ok, b)
        rig.finish()

    @shows("INV-32", "16.6/4")
    def test_restart_with_phones_behind_nat(self) -> None:
        """Both sides behind NAT on UDP: the BYE still finds each at the place it was seen at."""
        first = Rig()
        a = first.phone("1001", "10.0.0.5", source=("203.0.113.5", 31000))
        b = first.phone("1002", "10.0.0.5", source=("203.0.113.6", 32000))
        via = "Via: SIP/2.0/UDP 10.0.0.5:5060;rport;branch=z9hG4bK"
        b.register(via=f"{via}r1")
        a.invite("1002", via=f"{via}i1")
        a.take(100)
        got = b.take("INVITE")
        sent = b.answer(got, 200)
        ok = a.take(200)
        a.in_dialog("ACK", ok, cseq=ok.cseq_number, via=f"{via}a1")
        b.take("ACK")
        second = restarted(first, auth={"required": True})
        b.in_callee_dialog("INFO", got, sent, via=f"{via}b0")
        a.answer(a.take("INFO"), 200)
        b.take(200)
        a.in_dialog("BYE", ok, via=f"{via}b1")
        b.answer(b.take("BYE"), 200)
        a.take(200)
        finish(second, a, b)

    @shows("INV-32", "16.6/4", "18.1.1")
    def test_restart_with_phones_on_tcp(self) -> None:
        """TCP: the caller connects anew, and its BYE goes to the callee's contact over a connection we open."""
        first = Rig()
        a, b = first.phone("1001", transport="tcp"), first.phone("1002", transport="tcp")
        b.register()
        _, got, sent, ok = established(a, b)
        second = restarted(first)
        server = (SERVER, 5060)
        a._read, a.connection = 0, second.network.endpoint("tcp", a.address, 50001).connect(server)
        place = b.accept()
        a.in_dialog("BYE", ok)
        second.advance(0.1)
        b._read, b.connection = 0, place.connections[0]
        b.answer(b.take("BYE"), 200)
        a.take(200)
        finish(second, a, b)


def restarted(old: Rig, **settings: Any) -> Rig:
    """The server dies as by `kill -9`, and another starts in its place on the same network and clock."""
    old.network.servers.remove(old.transports)
    for call in old.clock.getDelayedCalls():
        call.cancel()
    for flow in old.transports.flows.values():
        flow.alive = False
        if flow.connection is not None:
            flow.connection.open = False
    return Rig(listen=LISTEN, clock=old.clock, network=old.network, **settings)


def finish(rig: Rig, *phones: Phone) -> None:
    """As `rig.finish`, with phones of an earlier server."""
    rig.phones.extend(phones)
    rig.finish()
