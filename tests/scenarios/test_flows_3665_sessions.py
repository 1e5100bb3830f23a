"""The sessions of RFC 3665 section 3 that come about, as ladders through the real core; the two proxies are two of ours.

Everywhere: sipd sends its 100 before it passes an INVITE on (the RFC draws both orders), its challenges have qop and an
algorithm, its Record-Route URIs carry a token of its own. s3.1 passes no proxy. What else the RFC's picture has otherwise
is said at each test.
"""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from tests.support.cases import shows
from tests.support.flow import OFFER, Call, Flow, lines
from tests.support.rig import Phone, Rig

BOB = "sip:bob@biloxi.example.com"


class TwoProxies(TestCase):
    """Alice's proxy, which wants her password, and Bob's, which takes calls of strangers."""

    #: How Alice's phone speaks with her proxy; the proxies speak UDP with each other, as Bob does.
    transport = "udp"

    def setUp(self) -> None:
        """atlanta is 192.0.2.1, biloxi 192.0.2.2; the DNS of the first knows the second."""
        self.atlanta = Rig(domain="atlanta.example.com", users={"alice": "wonderland"}, auth={"required": True})
        self.biloxi = Rig(domain="biloxi.example.com", users={"bob": "builder"}, auth={"required": True},
                          listen=(("udp", "192.0.2.2", 5060), ("tcp", "192.0.2.2", 5060)), proxy={"guests": True},
                          network=self.atlanta.network, clock=self.atlanta.clock)
        self.atlanta.dns.address("biloxi.example.com", "192.0.2.2")
        self.alice = self.atlanta.phone("alice", "192.0.2.101", self.transport)
        self.bob = self.biloxi.phone("bob", "192.0.2.201")
        self.biloxi.binding("bob", self.bob.contact)
        self.flow = Flow(self, self.atlanta, self.biloxi, alice=self.alice, bob=self.bob)

    def invite(self) -> tuple[Request, Request]:
        """An INVITE with credentials: as Alice sent it, and as Bob received it. The exchange in which she learned the
        nonce is forgotten, as the RFC does not show it."""
        first = self.alice.invite(BOB, "Route: <sip:192.0.2.1;lr>")
        challenge = self.alice.take(407)
        self.alice.ack(challenge, first)
        self.flow.forget()
        sent = self.alice.authorized(first, challenge)
        self.flow.settle()
        self.alice.take(100)
        return sent, self.bob.take("INVITE")


class Successful(TwoProxies):
    """s3.2, with Alice on TCP as there."""

    transport = "tcp"

    @shows("INV-02", "RTE-06", "AUT-09", "16.6")
    def test_through_two_proxies(self) -> None:
        """RFC 3665 s3.2: INVITE, 407, ACK, INVITE with credentials through both proxies; ACK along the recorded route,
        BYE from Bob the other way. Alice's Route names her proxy by its address."""
        first = self.alice.invite(BOB, "Route: <sip:192.0.2.1;lr>")
        self.flow.challenged(self.alice, first)
        self.alice.take(100)
        got = self.bob.take("INVITE")
        self.bob.answer(got, 180)
        self.flow.settle()
        self.alice.take(180)
        call = self.flow.pick_up(self.alice, self.bob, got)
        call.do(self.bob, "BYE")
        ladder = self.flow.shows("""
            alice -> proxy1 INVITE
            proxy1 -> alice 407 INVITE
            alice -> proxy1 ACK
            alice -> proxy1 INVITE
            proxy1 -> alice 100 INVITE
            proxy1 -> proxy2 INVITE
            proxy2 -> proxy1 100 INVITE
            proxy2 -> bob INVITE
            bob -> proxy2 -> proxy1 -> alice 180 INVITE
            bob -> proxy2 -> proxy1 -> alice 200 INVITE
            alice -> proxy1 -> proxy2 -> bob ACK
            bob -> proxy2 -> proxy1 -> alice BYE
            alice -> proxy1 -> proxy2 -> bob 200 BYE
        """)
        between, at_bob, ack, bye = ladder[5], ladder[7], ladder[14], ladder[17]
        assert isinstance(between, Request) and isinstance(at_bob, Request)
        # F5, F7: the Route is used up, the Request-URI changes where Bob is known, and no earlier
        self.assertEqual((between.uri_text, at_bob.uri_text), (BOB, self.bob.contact))
        self.assertNotIn("route", between.first)
        self.assertNotIn("proxy-authorization", between.first)
        self.assertEqual(len(between.values("via")), 2)
        self.assertEqual(len(at_bob.values("via")), 3)
        recorded = at_bob.values("record-route")
        # F7: Bob's proxy above Alice's, which has two values, one for each transport (RFC 5658)
        self.assertEqual([("192.0.2.2" in one, "transport=tcp" in one) for one in recorded],
                         [(True, False), (False, False), (False, True)])
        self.assertEqual(ack.values("route"), list(reversed(recorded)))
        self.assertEqual(bye.values("route"), recorded)
        self.flow.finish()


class Authentication(TestCase):
    """s3.3; the second proxy is one of somebody else's."""

    @shows("AUT-13", "FRK-07", "22.3")
    def test_both_proxies_ask(self) -> None:
        """RFC 3665 s3.3: the second proxy challenges too. Its 407 comes to Alice octet for octet, and her credentials
        for it leave octet for octet, while those for our realm end here. Proxy 2 is played, and with it Bob behind it:
        ours lets a user call under a name of the own domain only, and answers 403 to Alice of atlanta."""
        rig = Rig(domain="atlanta.example.com", users={"alice": "wonderland"}, auth={"required": True})
        rig.dns.address("biloxi.example.com", "192.0.2.2")
        alice, second = rig.phone("alice", "192.0.2.101"), rig.phone("proxy2", "192.0.2.2")
        flow = Flow(self, rig, alice=alice, proxy2=second)
        first = alice.invite(BOB, "Route: <sip:192.0.2.1;lr>")
        ours = alice.take(407)
        alice.ack(ours, first)
        again = alice.authorized(first, ours)
        flow.settle()
        alice.take(100)
        challenge = 'Proxy-Authenticate: Digest realm="biloxi.example.com",  nonce="c1e22c41ae6cbe5ae983a9c8e88d359", qop="auth"'
        second.refuse(407, challenge)
        theirs = alice.take(407)
        alice.ack(theirs, again)
        third = alice.authorized(first, ours, nc=2, send=False)
        sent = alice.authorized(third, theirs, password="looking-glass")
        flow.settle()
        alice.take(100)
        got = second.take("INVITE")
        second.answer(got, 100)
        call = flow.pick_up(alice, second, got)
        ladder = flow.shows("""
            alice -> proxy INVITE
            proxy -> alice 407 INVITE
            alice -> proxy ACK
            alice -> proxy INVITE
            proxy -> alice 100 INVITE
            proxy -> proxy2 INVITE
            proxy2 -> proxy 407 INVITE
            proxy -> proxy2 ACK
            proxy -> alice 407 INVITE
            alice -> proxy ACK
            alice -> proxy INVITE
            proxy -> alice 100 INVITE
            proxy -> proxy2 INVITE
            proxy2 -> proxy 100 INVITE
            proxy2 -> proxy -> alice 200 INVITE
            alice -> proxy -> proxy2 ACK
        """)
        self.assertNotIn("proxy-authorization", ladder[5].first)
        self.assertEqual(lines(ladder[8], "proxy-authenticate"), [challenge])
        self.assertEqual(len(lines(sent, "proxy-authorization")), 2)
        self.assertEqual(lines(ladder[12], "proxy-authorization"), lines(sent, "proxy-authorization")[1:])
        call.do(alice, "BYE")
        flow.finish()


class Failure(TestCase):
    """s3.4."""

    @shows("AUT-09", "22.3")
    def test_first_proxy_is_dead(self) -> None:
        """RFC 3665 s3.4: Alice repeats her INVITE to a proxy that is down, seven times, and then calls through the
        second one, which asks for the password and knows Bob."""
        rig = Rig(domain="biloxi.example.com", users={"alice": "wonderland", "bob": "builder"}, auth={"required": True},
                  listen=(("udp", "192.0.2.2", 5060),))
        dead = ("192.0.2.3", 5060)
        rig.network.transports([("udp", *dead)])
        rig.network.drop = lambda packet: packet.target == dead
        alice, bob = rig.phone("alice", "192.0.2.101"), rig.phone("bob", "192.0.2.201")
        rig.binding("bob", bob.contact)
        flow = Flow(self, rig, alice=alice, bob=bob, proxy1="192.0.2.3", proxy2="192.0.2.2")
        alice.server, living = dead, alice.server
        invite = alice.invite("bob")
        for wait in (0.5, 1, 2, 4, 8, 16):
            rig.advance(wait)
            alice.send(invite)
        rig.advance(0.5)
        alice.server = living
        first = alice.invite("bob")
        flow.challenged(alice, first)
        got = bob.ring(alice)
        call = flow.pick_up(alice, bob, got)
        call.do(bob, "BYE")
        flow.shows("""
            alice -> proxy1 INVITE
            alice -> proxy1 INVITE
            alice -> proxy1 INVITE
            alice -> proxy1 INVITE
            alice -> proxy1 INVITE
            alice -> proxy1 INVITE
            alice -> proxy1 INVITE
            alice -> proxy2 INVITE
            proxy2 -> alice 407 INVITE
            alice -> proxy2 ACK
            alice -> proxy2 INVITE
            proxy2 -> alice 100 INVITE
            proxy2 -> bob INVITE
            bob -> proxy2 -> alice 180 INVITE
            bob -> proxy2 -> alice 200 INVITE
            alice -> proxy2 -> bob ACK
            bob -> proxy2 -> alice BYE
            alice -> proxy2 -> bob 200 BYE
        """)
        flow.finish()

    @shows("TRN-15", "3263 4.3")
    def test_second_proxy_is_dead(self) -> None:
        """RFC 3665 s3.4 with sipd in Alice's place, as it says of SRV records: the first of two proxies of a domain is
        silent, and the second gets the INVITE, after hop_timeout (4 s) where Alice waits for 32."""
        rig = Rig(domain="atlanta.example.com", users={"alice": "wonderland"})
        rig.dns.srv("_sip._udp.biloxi.example.com", 0, 1, 5060, "ss1.biloxi.example.com")
        rig.dns.srv("_sip._udp.biloxi.example.com", 1, 1, 5060, "ss2.biloxi.example.com")
        rig.dns.address("ss1.biloxi.example.com", "192.0.2.3")
        rig.dns.address("ss2.biloxi.example.com", "192.0.2.4")
        alice, dead, second = rig.phone("alice"), rig.phone("proxy1", "192.0.2.3"), rig.phone("proxy2", "192.0.2.4")
        flow = Flow(self, rig, alice=alice, proxy1=dead, proxy2=second)
        alice.invite(BOB)
        rig.advance(4.5, 0.05)
        alice.take(100)
        dead.take_all("INVITE")
        got = second.take("INVITE")
        second.answer(got, 180)
        alice.take(180)
        call = flow.pick_up(alice, second, got)
        flow.shows("""
            alice -> proxy INVITE
            proxy -> alice 100 INVITE
            proxy -> proxy1 INVITE
            proxy -> proxy1 INVITE
            proxy -> proxy1 INVITE
            proxy -> proxy1 INVITE
            proxy -> proxy2 INVITE
            proxy2 -> proxy -> alice 180 INVITE
            proxy2 -> proxy -> alice 200 INVITE
            alice -> proxy -> proxy2 ACK
        """)
        call.do(alice, "BYE")
        rig.advance(30)
        dead.drain()
        flow.finish()


class Elsewhere(TestCase):
    """s3.5 to s3.7."""

    def rig_of(self, **settings: object) -> tuple[Rig, Phone, Phone]:
        """Bob's proxy, Alice and Bob."""
        rig = Rig(domain="biloxi.example.com", users={"bob": "builder"}, auth={"required": False}, **settings)
        alice, bob = rig.phone("alice", "192.0.2.101"), rig.phone("bob", "192.0.2.201")
        rig.binding("bob", bob.contact)
        return rig, alice, bob

    @shows("INV-02", "16.6/4")
    def test_gateway_before_us(self) -> None:
        """RFC 3665 s3.5: an ALG between Alice and us, its Via and Record-Route above hers. We do not record the route
        (`record_route = false`), as in the RFC, so that what follows goes between the ALG and Bob. The ALG is played; of
        its leg with Alice nothing passes us."""
        rig, alg, bob = self.rig_of(proxy={"record_route": False})
        flow = Flow(self, rig, alg=alg, bob=bob)
        alg.invite(BOB, "Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK74bf9;received=192.0.2.9",
                   "Record-Route: <sip:192.0.2.101;lr>", body=OFFER, max_forwards="69")
        got = bob.ring(alg)
        bob.answer(got, 200, "Content-Type: application/sdp", body=OFFER)
        alg.take(200)
        ladder = flow.shows("""
            alg -> proxy INVITE
            proxy -> alg 100 INVITE
            proxy -> bob INVITE
            bob -> proxy -> alg 180 INVITE
            bob -> proxy -> alg 200 INVITE
        """)
        self.assertEqual(ladder[2].values("record-route"), ["<sip:192.0.2.101;lr>"])
        self.assertEqual(ladder[2].first["max-forwards"], "68")
        self.assertEqual(len(ladder[2].values("via")), 3)
        self.assertEqual(len(ladder[1].values("via")), 2)
        flow.finish()

    @shows("RTE-15", "16.7/4")
    def test_redirect_server(self) -> None:
        """RFC 3665 s3.6: a redirect server sends Alice elsewhere with 302, her new INVITE has no SDP, the ACK has it.
        The redirect server is Bob's contact here, so that its 302 passes us; the proxy she then uses is ours too."""
        rig, alice, redirect = self.rig_of()
        rig.dns.address("chicago.example.com", "192.0.2.77")
        bob = rig.phone("bob", "192.0.2.77", "tcp", 5060)
        acceptor = bob.accept()
        flow = Flow(self, rig, alice=alice, redirect=redirect, bob=bob)
        first = alice.invite(BOB, body=b"")
        alice.take(100)
        contact = "Contact: <sip:bob@chicago.example.com;transport=tcp>"
        redirect.refuse(302, contact)
        moved = alice.take(302)
        alice.ack(moved, first)
        self.assertEqual(lines(moved, "contact"), [contact])
        flow.shows("""
            alice -> proxy INVITE
            proxy -> alice 100 INVITE
            proxy -> redirect INVITE
            redirect -> proxy 302 INVITE
            proxy -> redirect ACK
            proxy -> alice 302 INVITE
            alice -> proxy ACK
        """)
        # F4: the Request-URI is the Contact of F2, To stays
        alice.invite("sip:bob@chicago.example.com;transport=tcp", "Route: <sip:192.0.2.1;lr>", to=f"<{BOB}>", body=b"",
                     call_id=first.call_id, cseq=2, from_=first.first["from"])
        flow.settle()
        alice.take(100)
        bob.connection = acceptor.connections[0]
        got = bob.take("INVITE")
        self.assertEqual(got.body, b"")
        bob.answer(got, 180)
        flow.settle()
        alice.take(180)
        sent = bob.answer(got, 200, "Content-Type: application/sdp", body=OFFER)
        flow.settle()
        ok = alice.take(200)
        alice.in_dialog("ACK", ok, cseq=2, body=OFFER)
        flow.settle()
        self.assertEqual(bob.take("ACK").body, OFFER)
        call = Call(flow, alice, bob, got, sent, ok)
        call.do(bob, "BYE")
        flow.shows("""
            alice -> proxy INVITE
            proxy -> alice 100 INVITE
            proxy -> bob INVITE
            bob -> proxy -> alice 180 INVITE
            bob -> proxy -> alice 200 INVITE
            alice -> proxy -> bob ACK
            bob -> proxy -> alice BYE
            alice -> proxy -> bob 200 BYE
        """)
        flow.finish()

    @shows("INV-27", "14")
    def test_new_address(self) -> None:
        """RFC 3665 s3.7: we do not record the route, so that we see F1 to F7 and nothing of what follows."""
        rig, alice, bob = self.rig_of(proxy={"record_route": False})
        flow = Flow(self, rig, alice=alice, bob=bob)
        got = flow.ring(alice, bob, BOB)
        bob.answer(got, 200, "Content-Type: application/sdp", body=OFFER)
        ok = alice.take(200)
        flow.shows("""
            alice -> proxy INVITE
            proxy -> alice 100 INVITE
            proxy -> bob INVITE
            bob -> proxy -> alice 180 INVITE
            bob -> proxy -> alice 200 INVITE
        """)
        self.assertNotIn("record-route", ok.first)
        self.assertEqual(lines(ok, "contact"), [f"Contact: <{bob.contact}>"])
        flow.finish()

    @shows("INV-27", "14")
    def test_new_address_in_our_sight(self) -> None:
        """RFC 3665 s3.7 with our Record-Route, as it is by default: Bob's re-INVITE from another address, with another
        Contact, passes us, and Alice's BYE finds him there."""
        rig, alice, bob = self.rig_of()
        moved = rig.phone("bob", "192.0.2.77")
        flow = Flow(self, rig, alice=alice, bob=bob, moved=moved)
        call = flow.call(alice, bob, BOB)
        moved.in_callee_dialog("INVITE", call.got, call.sent, cseq=14, body=OFFER)
        moved.take(100)
        again = alice.take("INVITE")
        alice.answer(again, 200, "Content-Type: application/sdp", body=OFFER)
        moved.take(200)
        moved.in_callee_dialog("ACK", call.got, call.sent, cseq=14)
        alice.take("ACK")
        # the remote target is the new Contact (s12.2.1.2), the route set stays
        alice.request("BYE", moved.contact, *[f"Route: {one}" for one in reversed(call.ok.values("record-route"))],
                      to=call.ok.first["to"], from_=call.ok.first["from"], call_id=call.ok.call_id, cseq=2)
        moved.answer(moved.take("BYE"), 200)
        alice.take(200)
        ladder = flow.shows("""
            alice -> proxy INVITE
            proxy -> alice 100 INVITE
            proxy -> bob INVITE
            bob -> proxy -> alice 180 INVITE
            bob -> proxy -> alice 200 INVITE
            alice -> proxy -> bob ACK
            moved -> proxy INVITE
            proxy -> moved 100 INVITE
            proxy -> alice INVITE
            alice -> proxy -> moved 200 INVITE
            moved -> proxy -> alice ACK
            alice -> proxy -> moved BYE
            moved -> proxy -> alice 200 BYE
        """)
        self.assertEqual(lines(ladder[11], "contact"), [f"Contact: <{moved.contact}>"])
        flow.finish()
