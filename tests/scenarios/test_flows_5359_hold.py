"""Hold, RFC 5359 s2.1 to s2.3, as ladders through the real core.

Everywhere in these files: whatever the RFC draws straight from phone to phone passes sipd, which stays in the path of a
call; sipd answers each INVITE with 100, also one within a call, before it passes it on; Record-Route URIs carry a token
of its own. TLS and sips are as in the RFC in s2.1 and s2.12; the other flows are played over UDP with sip. Where the RFC
has a GRUU (RFC 5627) the phone's Contact URI stands, which is reached along a Route to sipd.
"""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.support.cases import shows
from tests.support.flow import HOLD, OFFER, Flow, lines
from tests.support.rig import Phone, Rig

#: Header lines as the RFC has them.
ALLOW = "Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY"
REPLACES = "Supported: replaces"
#: By way of the server, whatever the Request-URI.
ROUTE = "Route: <sip:192.0.2.1;lr>"


def sips(phone: Phone) -> str:
    """A sips Contact."""
    return f"<sips:{phone.name}@{phone.host}:{phone.port}>"


class Hold(TestCase):
    """s2.1 and s2.2."""

    @shows("INV-27", "INV-02", "3264 8.4")
    def test_call_hold(self) -> None:
        """RFC 5359 s2.1, with TLS and sips URIs as there: Bob holds and takes up the call with re-INVITEs whose Contact
        has a feature parameter; Alice hangs up."""
        rig = Rig(users={"alice": "a", "bob": "b"})
        alice, bob = (rig.phone(name, transport="tls", port=5061) for name in ("alice", "bob"))
        for phone in (alice, bob):
            phone.register(contact=sips(phone), uri="sips:example.com", to=f"<sips:{phone.name}@example.com>")
        flow = Flow(self, rig, alice=alice, bob=bob)
        got = flow.ring(alice, bob, "sips:bob@example.com", ALLOW, REPLACES, contact=sips(alice),
                        from_="Alice <sips:alice@example.com>;tag=1234567", to="Bob <sips:bob@example.com>",
                        rings=())
        call = flow.pick_up(alice, bob, got, ALLOW, REPLACES, contact=sips(bob))
        hold = call.do(bob, "INVITE", ALLOW, REPLACES, body=HOLD, contact=f'{sips(bob)};+sip.rendering="no"',
                       answer_contact=sips(alice))
        self.assertEqual((hold.body, lines(hold, "contact")), (HOLD, [f'Contact: {sips(bob)};+sip.rendering="no"']))
        call.do(bob, "INVITE", ALLOW, REPLACES, body=OFFER, contact=sips(bob), answer_contact=sips(alice))
        call.do(alice, "BYE")
        ladder = flow.shows("""
            alice -> proxy -> bob INVITE 100 180 200 ACK
            bob -> proxy -> alice INVITE 100 200 ACK
            bob -> proxy -> alice INVITE 100 200 ACK
            alice -> proxy -> bob BYE 200
        """)
        self.assertTrue(all(packet.transport == "tls" for packet in rig.network.packets))
        (recorded,) = ladder[2].values("record-route")
        self.assertTrue(recorded.startswith("<sips:"), recorded)
        flow.finish()

    @shows("INV-27", "INV-02", "12.2")
    def test_consultation_hold(self) -> None:
        """RFC 5359 s2.2: Bob holds Alice, calls Carol, hangs up there and takes up the call with Alice."""
        rig = Rig(users={"alice": "a", "bob": "b", "carol": "c"})
        alice, bob, carol = (rig.phone(name) for name in ("alice", "bob", "carol"))
        for phone in (bob, carol):
            phone.register()
        flow = Flow(self, rig, alice=alice, bob=bob, carol=carol)
        call = flow.call(alice, bob, "", ALLOW, REPLACES)
        hold = call.do(bob, "INVITE", body=HOLD, contact=f'<{bob.contact}>;+sip.rendering="no"')
        self.assertEqual(hold.body, HOLD)
        flow.shows("""
            alice -> proxy -> bob INVITE 100 180 200 ACK
            bob -> proxy -> alice INVITE 100 200 ACK
        """)
        flow.call(bob, carol).do(bob, "BYE")
        call.do(bob, "INVITE", body=OFFER)
        call.do(alice, "BYE")
        flow.shows("""
            bob -> proxy -> carol INVITE 100 180 200 ACK
            bob -> proxy -> carol BYE 200
            bob -> proxy -> alice INVITE 100 200 ACK
            alice -> proxy -> bob BYE 200
        """)
        flow.finish()


class Music(TestCase):
    """s2.3."""

    @shows("INV-34", "INV-02", "3891 3")
    def test_music_on_hold(self) -> None:
        """RFC 5359 s2.3: Bob refers a music server to Alice, with Replaces in Refer-To; it calls her in his place, and
        Bob takes the call back in the same way. The music server is a user of ours."""
        rig = Rig(users={"alice": "a", "bob": "b", "music": "m"})
        alice, bob, music = (rig.phone(name) for name in ("alice", "bob", "music"))
        for phone in (alice, bob, music):
            phone.register()
        flow = Flow(self, rig, alice=alice, bob=bob, music=music)
        call = flow.call(alice, bob, "", ALLOW, REPLACES)
        call.do(bob, "INVITE", body=HOLD)
        flow.shows("""
            alice -> proxy -> bob INVITE 100 180 200 ACK
            bob -> proxy -> alice INVITE 100 200 ACK
        """)
        # F8 to F11
        replaces = call.replaces(of=alice)
        escaped = replaces.replace(";", "%3B").replace("=", "%3D")
        refer_to = f"Refer-To: <{alice.contact}?Replaces={escaped}&Require=replaces>"
        by = "Referred-By: <sip:bob@example.com>"
        reference = flow.ask(bob, music, "REFER", "sip:music@example.com", refer_to, by, status=202,
                             answer=(f"Contact: <{music.contact}>",))
        self.assertEqual(lines(reference.got, "refer-to"), [refer_to])
        self.assertEqual(lines(reference.got, "referred-by"), [by])
        reference.do(music, "NOTIFY", "Event: refer", "Subscription-State: active;expires=60",
                     "Content-Type: message/sipfrag", body=b"SIP/2.0 100 Trying\r\n")
        # F12 to F14: the music server calls Alice's Contact, and her phone leaves Bob
        played = flow.call(music, alice, alice.contact, ROUTE, by, "Require: replaces", f"Replaces: {replaces}",
                           ringing=False, contact=f'<{music.contact}>;automaton;+sip.byeless;+sip.rendering="no"')
        self.assertEqual(lines(played.got, "replaces"), [f"Replaces: {replaces}"])
        self.assertEqual(lines(played.got, "require"), ["Require: replaces"])
        call.do(alice, "BYE")
        reference.do(music, "NOTIFY", "Event: refer", "Subscription-State: terminated;reason=noresource",
                     "Content-Type: message/sipfrag", body=b"SIP/2.0 200 OK\r\n")
        flow.shows("""
            bob -> proxy -> music REFER 202
            music -> proxy -> bob NOTIFY 200
            music -> proxy -> alice INVITE 100 200 ACK
            alice -> proxy -> bob BYE 200
            music -> proxy -> bob NOTIFY 200
        """)
        # F19 to F23
        back = played.replaces(of=alice)
        taken = flow.call(bob, alice, alice.contact, ROUTE, "Require: replaces", f"Replaces: {back}", ringing=False)
        self.assertEqual(lines(taken.got, "replaces"), [f"Replaces: {back}"])
        played.do(alice, "BYE")
        flow.shows("""
            bob -> proxy -> alice INVITE 100 200 ACK
            alice -> proxy -> music BYE 200
        """)
        flow.finish()
