"""Transfers, RFC 5359 s2.4 to s2.6, as ladders through the real core; see test_flows_5359_hold.py for what all differ in."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.scenarios.test_flows_5359_hold import ALLOW, REPLACES, ROUTE
from tests.support.cases import shows
from tests.support.flow import HOLD, Flow, lines
from tests.support.rig import Rig


class Transfer(TestCase):
    """Alice, Bob and Carol, users of one server."""

    def setUp(self) -> None:
        """Three phones, registered."""
        self.rig = Rig(users={"alice": "a", "bob": "b", "carol": "c"})
        self.alice, self.bob, self.carol = (self.rig.phone(name) for name in ("alice", "bob", "carol"))
        for phone in (self.alice, self.bob, self.carol):
            phone.register()
        self.flow = Flow(self, self.rig, alice=self.alice, bob=self.bob, carol=self.carol)

    @shows("INV-34", "3515 2.4")
    def test_unattended(self) -> None:
        """RFC 5359 s2.4: Bob calls Alice, who refers him to Carol within their call and hangs up; he calls Carol and
        tells her of it in the dialog of the call that has ended otherwise."""
        alice, bob, carol, flow = self.alice, self.bob, self.carol, self.flow
        call = flow.call(bob, alice, "", ALLOW, REPLACES)
        refer_to, by = "Refer-To: <sip:carol@example.com>", "Referred-By: <alice@example.com>"
        refer = call.send(alice, "REFER", refer_to, by)
        self.assertEqual(lines(refer, "refer-to") + lines(refer, "referred-by"), [refer_to, by])
        bob.answer(refer, 202)
        alice.take(202)
        frag = ("Event: refer", "Content-Type: message/sipfrag")
        first = call.do(bob, "NOTIFY", *frag, "Subscription-State: active;expires=60", body=b"SIP/2.0 100 Trying\r\n")
        self.assertEqual(first.body, b"SIP/2.0 100 Trying\r\n")
        call.do(alice, "BYE")
        flow.shows("""
            bob -> proxy -> alice INVITE 100 180 200 ACK
            alice -> proxy -> bob REFER 202
            bob -> proxy -> alice NOTIFY 200
            alice -> proxy -> bob BYE 200
        """)
        new = flow.call(bob, carol, "sip:carol@example.com", by, ALLOW, REPLACES)
        self.assertEqual(lines(new.got, "referred-by"), [by])
        call.do(bob, "NOTIFY", *frag, "Subscription-State: terminated;reason=noresource", body=b"SIP/2.0 200 OK\r\n")
        flow.shows("""
            bob -> proxy -> carol INVITE 100 180 200 ACK
            bob -> proxy -> alice NOTIFY 200
        """)
        flow.finish()

    @shows("INV-34", "3891 3")
    def test_attended(self) -> None:
        """RFC 5359 s2.5: Bob holds Alice, speaks with Carol, holds her, and refers Alice to Carol's Contact with Replaces;
        Alice's INVITE has it as it stood in Refer-To."""
        alice, bob, carol, flow = self.alice, self.bob, self.carol, self.flow
        call = flow.call(alice, bob, "", ALLOW, REPLACES)
        call.do(bob, "INVITE", body=HOLD)
        consulted = flow.call(bob, carol, "", ALLOW, REPLACES)
        consulted.do(bob, "INVITE", body=HOLD)
        flow.shows("""
            alice -> proxy -> bob INVITE 100 180 200 ACK
            bob -> proxy -> alice INVITE 100 200 ACK
            bob -> proxy -> carol INVITE 100 180 200 ACK
            bob -> proxy -> carol INVITE 100 200 ACK
        """)
        replaces = consulted.replaces(of=carol)
        escaped = replaces.replace(";", "%3B").replace("=", "%3D")
        refer_to = f"Refer-To: <{carol.contact}?Replaces={escaped}&Require=replaces>"
        by = "Referred-By: <sip:bob@example.com>"
        refer = call.send(bob, "REFER", refer_to, by)
        self.assertEqual(lines(refer, "refer-to") + lines(refer, "referred-by"), [refer_to, by])
        alice.answer(refer, 202)
        bob.take(202)
        frag = ("Event: refer", "Content-Type: message/sipfrag")
        call.do(alice, "NOTIFY", *frag, "Subscription-State: active;expires=60", body=b"SIP/2.0 100 Trying\r\n")
        # F19 to F21, then Carol leaves Bob
        new = flow.call(alice, carol, carol.contact, ROUTE, by, "Require: replaces", f"Replaces: {replaces}", ringing=False)
        self.assertEqual(lines(new.got, "replaces"), [f"Replaces: {replaces}"])
        consulted.do(carol, "BYE")
        call.do(alice, "NOTIFY", *frag, "Subscription-State: terminated;reason=noresource", body=b"SIP/2.0 200 OK\r\n")
        call.do(bob, "BYE")
        flow.shows("""
            bob -> proxy -> alice REFER 202
            alice -> proxy -> bob NOTIFY 200
            alice -> proxy -> carol INVITE 100 200 ACK
            carol -> proxy -> bob BYE 200
            alice -> proxy -> bob NOTIFY 200
            bob -> proxy -> alice BYE 200
        """)
        new.do(carol, "BYE")
        flow.finish()

    @shows("NIT-01", "INV-34", "3428")
    def test_by_instant_message(self) -> None:
        """RFC 5359 s2.6: Bob sends Carol a MESSAGE with Alice's URI and Replaces in it; Carol calls Alice with that."""
        alice, bob, carol, flow = self.alice, self.bob, self.carol, self.flow
        call = flow.call(alice, bob, "", ALLOW, REPLACES)
        replaces = call.replaces(of=alice)
        escaped = replaces.replace(";", "%3B").replace("=", "%3D")
        body = (f'<HTML>Do you want to take this call from\r\n<A HREF="{alice.contact}?Replaces={escaped}&Require=replaces">'
                f"\r\nAlice</A>?</HTML>").encode()
        asked = flow.ask(bob, carol, "MESSAGE", "sip:carol@example.com", "Content-Type: text/html", REPLACES, body=body)
        self.assertEqual(asked.got.body, body)
        self.assertEqual(lines(asked.got, "content-type"), ["Content-Type: text/html"])
        new = flow.call(carol, alice, alice.contact, ROUTE, "Require: replaces", f"Replaces: {replaces}", ringing=False)
        self.assertEqual(lines(new.got, "replaces"), [f"Replaces: {replaces}"])
        call.do(alice, "BYE")
        flow.shows("""
            alice -> proxy -> bob INVITE 100 180 200 ACK
            bob -> proxy -> carol MESSAGE 200
            carol -> proxy -> alice INVITE 100 200 ACK
            alice -> proxy -> bob BYE 200
        """)
        flow.finish()
