"""Forwarding, find-me and screening, RFC 5359 s2.7 to s2.9 and s2.12 to s2.14, as ladders through the real core; see
test_flows_5359_hold.py for what all differ in.

sipd has no forwarding rules or screening lists of its own yet. Forwarding is done by what the user registers (contacts of
falling q, one after the other) or by a phone's 302, which sipd follows with `recurse = true`; screening by somebody whose
403 passes sipd. No 181 is sent: a proxy cannot, as the RFC says itself.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from tests.scenarios.test_flows_5359_hold import ALLOW, REPLACES, sips
from tests.support.cases import shows
from tests.support.flow import Flow, lines
from tests.support.rig import Phone, Rig

GATEWAY = "sip:+19727293660@192.0.2.90;user=phone"


class Forwarding(TestCase):
    """s2.7 to s2.9, and s2.12."""

    def begin(self, *places: tuple[str, str], **settings: Any) -> list[Phone]:
        """Alice, and phones with these (name, q); those with a q are Bob's contacts."""
        self.rig = Rig(users={"alice": "a", "bob": "b"}, **settings)
        alice = self.rig.phone("alice")
        phones = [self.rig.phone("bob") for _ in places]
        for phone, (_, q) in zip(phones, places, strict=True):
            if q:
                phone.register(contact=f"<{phone.contact}>;q={q}")
        self.flow = Flow(self, self.rig, alice=alice, **{name: phone for phone, (name, _) in zip(phones, places, strict=True)})
        return [alice, *phones]

    @shows("INV-02", "RTE-13", "16.5")
    def test_unconditional(self) -> None:
        """RFC 5359 s2.7: Bob has registered a URI at the gateway, and every call goes there; its user part and parameters
        are the Request-URI of F4. The To of the INVITE stays Bob's."""
        alice, gateway = self.begin(("gateway", ""))
        self.rig.binding("bob", GATEWAY)
        self.flow.names["192.0.2.90"] = "gateway"
        gateway = self.rig.phone("gateway", "192.0.2.90")
        call = self.flow.call(alice, gateway, "sip:bob@example.com", ALLOW, to="Bob <sip:bob@example.com>")
        call.do(alice, "BYE")
        ladder = self.flow.shows("""
            alice -> proxy -> gateway INVITE 100 180 200 ACK
            alice -> proxy -> gateway BYE 200
        """)
        assert isinstance(ladder[2], Request)
        self.assertEqual(ladder[2].uri_text, GATEWAY)
        self.assertEqual(lines(ladder[2], "to"), ["To: Bob <sip:bob@example.com>"])
        self.flow.finish()

    @shows("RTE-15", "16.7/4")
    def test_unconditional_by_redirection(self) -> None:
        """RFC 5359 s2.7, its last note: forwarding by 302, from Bob's phone, followed by us; Alice hears nothing of it."""
        alice, bob = self.begin(("bob", "1.0"), proxy={"recurse": True})
        gateway = self.rig.phone("gateway", "192.0.2.90")
        self.flow.names["192.0.2.90"] = "gateway"
        alice.invite("bob")
        alice.take(100)
        bob.refuse(302, f"Contact: <{GATEWAY}>")
        got = gateway.take("INVITE")
        gateway.answer(got, 180)
        alice.take(180)
        self.flow.pick_up(alice, gateway, got).do(alice, "BYE")
        ladder = self.flow.shows("""
            alice -> proxy -> bob INVITE 100
            bob -> proxy 302 INVITE
            proxy -> bob ACK
            proxy -> gateway INVITE 180
            proxy -> alice 180 INVITE
            gateway -> proxy -> alice 200 INVITE
            alice -> proxy -> gateway ACK
            alice -> proxy -> gateway BYE 200
        """)
        first, second = ladder[2], ladder[5]
        assert isinstance(second, Request)
        self.assertEqual(second.uri_text, GATEWAY)
        # another branch, and the same hops left: it was redirected here, it did not come from Bob (s16.6)
        self.assertNotEqual(lines(first, "via")[0], lines(second, "via")[0])
        self.assertEqual(lines(first, "max-forwards"), lines(second, "max-forwards"))
        self.flow.finish()

    @shows("FRK-14", "16.6")
    def test_busy(self) -> None:
        """RFC 5359 s2.8: B1 is busy, and the call goes to B2, Bob's contact of lower q."""
        alice, first, second = self.begin(("b1", "1.0"), ("b2", "0.5"))
        alice.invite("bob", ALLOW)
        alice.take(100)
        first.refuse(486)
        got = second.take("INVITE")
        second.answer(got, 180)
        alice.take(180)
        self.flow.pick_up(alice, second, got).do(alice, "BYE")
        self.flow.shows("""
            alice -> proxy -> b1 INVITE 100
            b1 -> proxy 486 INVITE
            proxy -> b1 ACK
            proxy -> b2 INVITE 180
            proxy -> alice 180 INVITE
            b2 -> proxy -> alice 200 INVITE
            alice -> proxy -> b2 ACK
            alice -> proxy -> b2 BYE 200
        """)
        self.flow.finish()

    @shows("FRK-14", "16.6")
    def test_no_answer(self) -> None:
        """RFC 5359 s2.9: B1 rings in vain for ring_timeout, 20 s, and is cancelled; then B2 is called. sipd
        cancels and calls at once; in the picture it waits for B1's 487, which a dead phone never sends."""
        alice, first, second = self.begin(("b1", "1.0"), ("b2", "0.5"))
        got = self.flow.ring(alice, first, "sip:bob@example.com", ALLOW)
        self.rig.advance(19.5)
        first.silent()
        self.rig.advance(1)
        first.cancelled(got)
        got = second.take("INVITE")
        second.answer(got, 180)
        alice.take(180)
        self.flow.pick_up(alice, second, got).do(alice, "BYE")
        ladder = self.flow.shows("""
            alice -> proxy -> b1 INVITE 100 180
            proxy -> b1 CANCEL
            proxy -> b2 INVITE
            b1 -> proxy 200 CANCEL
            b1 -> proxy 487 INVITE
            proxy -> b1 ACK
            b2 -> proxy -> alice 180 INVITE
            b2 -> proxy -> alice 200 INVITE
            alice -> proxy -> b2 ACK
            alice -> proxy -> b2 BYE 200
        """)
        self.assertEqual(lines(ladder[5], "via"), lines(ladder[2], "via")[:1])
        self.flow.finish()

    @shows("FRK-14", "FRK-04", "16.7/6")
    def test_find_me(self) -> None:
        """RFC 5359 s2.12: B1 rings in vain, B2 is not logged in, B3 is busy, B4 answers; the call is Alice's and B4's, and
        B4 hangs up. With TLS and sips as in the RFC: each phone is reached over the connection it registered by.
        B2 is called when B1 is cancelled, without waiting for its 487."""
        self.rig = Rig(users={"alice": "a", "bob": "b"})
        alice = self.rig.phone("alice", transport="tls", port=5061)
        phones = [self.rig.phone("bob", transport="tls", port=5061) for _ in range(4)]
        for phone, q in zip(phones, ("1.0", "0.8", "0.6", "0.4"), strict=True):
            phone.register(contact=f"{sips(phone)};q={q}", uri="sips:example.com", to="<sips:bob@example.com>")
        b1, b2, b3, b4 = phones
        flow = Flow(self, self.rig, alice=alice, b1=b1, b2=b2, b3=b3, b4=b4)
        got = flow.ring(alice, b1, "sips:bob@example.com", ALLOW, REPLACES, contact=sips(alice),
                        from_="<sips:alice@example.com>;tag=1234567")
        self.rig.advance(20.5)
        b1.cancelled(got)
        for phone, status in ((b2, 480), (b3, 486)):
            phone.refuse(status)
        got = b4.take("INVITE")
        b4.answer(got, 180)
        alice.take(180)
        flow.pick_up(alice, b4, got, contact=sips(b4)).do(b4, "BYE")
        flow.shows("""
            alice -> proxy -> b1 INVITE 100 180
            proxy -> b1 CANCEL
            proxy -> b2 INVITE
            b1 -> proxy 200 CANCEL
            b1 -> proxy 487 INVITE
            proxy -> b1 ACK
            b2 -> proxy 480 INVITE
            proxy -> b2 ACK
            proxy -> b3 INVITE
            b3 -> proxy 486 INVITE
            proxy -> b3 ACK
            proxy -> b4 INVITE 180
            proxy -> alice 180 INVITE
            b4 -> proxy -> alice 200 INVITE
            alice -> proxy -> b4 ACK
            b4 -> proxy -> alice BYE 200
        """)
        flow.finish()


class Screening(TestCase):
    """s2.13 and s2.14, with passwords; the screening is done by an application that is played."""

    def setUp(self) -> None:
        """A caller with a password, and who screens."""
        self.rig = Rig(users={"alice": "a", "bob": "b", "announcement": "m"}, auth={"required": True})
        self.alice = self.rig.phone("alice")
        self.screen = self.rig.phone("screen", "192.0.2.80")
        self.flow = Flow(self, self.rig, alice=self.alice, screen=self.screen)

    @shows("AUT-09", "INV-08", "22.3")
    def test_incoming(self) -> None:
        """RFC 5359 s2.13: after the challenge Alice's call is refused with 403 and an Error-Info, and she calls the URI in
        that for the announcement. Bob's screening application is his contact and stands where the RFC has the proxy
        itself; F1 to F3 (305 from Bob's phone) pass no proxy; the announcement server hangs up."""
        self.rig.binding("bob", "sip:bob@192.0.2.80")
        server = self.rig.phone("announcement")
        self.rig.binding("announcement", server.contact)
        self.flow.names[server.address] = "announcement"
        again = self.flow.challenged(self.alice, self.alice.invite("bob", ALLOW))
        self.alice.take(100)
        info = "Error-Info: <sip:announcement@example.com;play=screen-fail-term-ann>"
        self.screen.refuse(403, info, reason="Screening Failure (Terminating)")
        refusal = self.alice.take(403)
        self.alice.ack(refusal, again)
        self.assertEqual((lines(refusal, "error-info"), refusal.reason), ([info], "Screening Failure (Terminating)"))
        first = self.alice.invite("sip:announcement@example.com;play=screen-fail-term-ann")
        self.flow.challenged(self.alice, first)
        self.alice.take(100)
        call = self.flow.pick_up(self.alice, server, server.take("INVITE"))
        call.do(server, "BYE")
        self.flow.shows("""
            alice -> proxy INVITE
            proxy -> alice 407 INVITE
            alice -> proxy ACK
            alice -> proxy -> screen INVITE 100
            screen -> proxy 403 INVITE
            proxy -> screen ACK
            proxy -> alice 403 INVITE
            alice -> proxy ACK
            alice -> proxy INVITE
            proxy -> alice 407 INVITE
            alice -> proxy ACK
            alice -> proxy -> announcement INVITE 100 200 ACK
            announcement -> proxy -> alice BYE 200
        """)
        self.flow.finish()

    @shows("AUT-09", "RTE-01", "INV-08", "16.4")
    def test_outgoing(self) -> None:
        """RFC 5359 s2.14: Alice's calls are screened by the next element of her Route, who knows from us who she is: 407 of
        ours, then its 403 with Error-Info, which the RFC's proxy gives itself."""
        first = self.alice.invite("bob", "Route: <sip:192.0.2.1;lr>, <sip:192.0.2.80;lr>", ALLOW)
        again = self.flow.challenged(self.alice, first)
        self.alice.take(100)
        got = self.screen.take("INVITE")
        self.assertEqual((got.uri_text, got.values("route")), ("sip:bob@example.com", ["<sip:192.0.2.80;lr>"]))
        info = "Error-Info: <sip:screen-fail-orig-ann@announcement.example.com>"
        self.screen.answer(got, 403, info, reason="Screening Failure (Originating)")
        self.screen.take("ACK")
        refusal = self.alice.take(403)
        self.alice.ack(refusal, again)
        self.assertEqual((lines(refusal, "error-info"), refusal.reason), ([info], "Screening Failure (Originating)"))
        self.flow.shows("""
            alice -> proxy INVITE
            proxy -> alice 407 INVITE
            alice -> proxy ACK
            alice -> proxy -> screen INVITE 100
            screen -> proxy 403 INVITE
            proxy -> screen ACK
            proxy -> alice 403 INVITE
            alice -> proxy ACK
        """)
        self.flow.finish()
