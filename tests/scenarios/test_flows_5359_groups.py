"""Conferences of three, parking, pickup, redial and click to dial, RFC 5359 s2.10, s2.11 and s2.15 to s2.18, as ladders
through the real core; see test_flows_5359_hold.py for what all differ in.

sipd serves no events here, and has no park server: phones play them, and their SUBSCRIBEs and NOTIFYs pass.
"""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from sipd.message.parser import parse
from tests.scenarios.test_flows_5359_hold import ALLOW, REPLACES, ROUTE
from tests.support.cases import shows
from tests.support.flow import OFFER, Call, Flow, lines
from tests.support.rig import Phone, Rig

_DIALOG_INFO = "Content-Type: application/dialog-info+xml"


def dialog_info(version: int, state: str = "") -> bytes:
    """What an RFC 4235 notifier says, as far as it matters here."""
    dialog = f'<dialog id="94992014524"><state>{state}</state></dialog>' if state else ""
    return (f'<?xml version="1.0"?>\r\n<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="{version}" '
            f'state="full" entity="sip:bob@example.com">{dialog}</dialog-info>\r\n').encode()


class Groups(TestCase):
    """Alice, Bob and a third one, users of one server."""

    def begin(self, third: str, *more: str) -> tuple[Phone, ...]:
        """Phones, registered."""
        names = ("alice", "bob", third, *more)
        self.rig = Rig(users=dict.fromkeys(names, "secret"), events={"packages": []})
        phones = tuple(self.rig.phone(name) for name in names)
        for phone in phones:
            phone.register()
        self.flow = Flow(self, self.rig, **dict(zip(names, phones, strict=True)))
        return phones

    def subscribe(self, watcher: Phone, phone: Phone, expires: int) -> Call:
        """SUBSCRIBE to the dialogs of a phone's user, and its 200."""
        return self.flow.ask(watcher, phone, "SUBSCRIBE", f"sip:{phone.name}@example.com", "Event: dialog",
                             f"Expires: {expires}", "Accept: application/dialog-info+xml", answer=(f"Expires: {expires}",))

    @shows("INV-02", "INV-27", "12.2")
    def test_third_party_is_added(self) -> None:
        """RFC 5359 s2.10: Bob's re-INVITE to Alice changes his Contact to his mixer (isfocus), and he calls Carol with the
        same Contact. Alice's BYE later finds the mixer's Contact."""
        alice, bob, carol = self.begin("carol")
        mixer = f"<sip:bob-Mixer@{bob.address}:5060>;isfocus"
        call = self.flow.call(alice, bob, "", ALLOW, REPLACES)
        again = call.do(bob, "INVITE", body=OFFER, contact=mixer)
        self.assertEqual(lines(again, "contact"), [f"Contact: {mixer}"])
        added = self.flow.call(bob, carol, "", ALLOW, REPLACES, contact=mixer)
        self.assertEqual(lines(added.got, "contact"), [f"Contact: {mixer}"])
        self.flow.shows("""
            alice -> proxy -> bob INVITE 100 180 200 ACK
            bob -> proxy -> alice INVITE 100 200 ACK
            bob -> proxy -> carol INVITE 100 180 200 ACK
        """)
        alice.request("BYE", f"sip:bob-Mixer@{bob.address}:5060",
                      *[f"Route: {one}" for one in reversed(call.ok.values("record-route"))],
                      to=call.ok.first["to"], from_=call.ok.first["from"], call_id=call.ok.call_id, cseq=2)
        bye = bob.take("BYE")
        self.assertEqual(bye.uri_text, f"sip:bob-Mixer@{bob.address}:5060")
        bob.answer(bye, 200)
        alice.take(200)
        self.flow.finish()

    @shows("INV-02", "INV-27", "12.2")
    def test_third_party_joins(self) -> None:
        """RFC 5359 s2.11: Carol's INVITE to Bob has a Join for his dialog with Alice; while it rings he re-INVITEs Alice as
        focus, and then answers Carol."""
        alice, bob, carol = self.begin("carol")
        mixer = f"<sip:bob-Mixer@{bob.address}:5060>;isfocus"
        call = self.flow.call(alice, bob, "", ALLOW, REPLACES)
        join = f"Join: {call.replaces(of=bob)}"
        got = self.flow.ring(carol, bob, "sip:bob@example.com", "Supported: replaces, join", join, ALLOW)
        self.assertEqual(lines(got, "join"), [join])
        call.do(bob, "INVITE", body=OFFER, contact=mixer)
        joined = self.flow.pick_up(carol, bob, got, contact=mixer)
        self.assertEqual(lines(joined.ok, "contact"), [f"Contact: {mixer}"])
        self.flow.shows("""
            alice -> proxy -> bob INVITE 100 180 200 ACK
            carol -> proxy -> bob INVITE 100 180
            bob -> proxy -> alice INVITE 100 200 ACK
            bob -> proxy -> carol 200 INVITE
            carol -> proxy -> bob ACK
        """)
        self.flow.finish()

    @shows("INV-34", "FRK-22", "3891 3")
    def test_call_park(self) -> None:
        """RFC 5359 s2.15: Bob refers a park server to Alice, which takes his place; Carol asks the park server for its
        dialogs, and takes the call from there."""
        alice, bob, park, carol = self.begin("park", "carol")
        flow = self.flow
        call = flow.call(alice, bob, "", ALLOW, REPLACES)
        replaces = call.replaces(of=alice)
        escaped = replaces.replace(";", "%3B").replace("=", "%3D")
        refer_to = f"Refer-To: <{alice.contact}?Replaces={escaped}&Require=replaces>"
        reference = flow.ask(bob, park, "REFER", "sip:park@example.com", refer_to, "Referred-By: <sip:bob@example.com>",
                             status=202, answer=(f"Contact: <{park.contact}>",))
        self.assertEqual(lines(reference.got, "refer-to"), [refer_to])
        frag = ("Event: refer", "Content-Type: message/sipfrag")
        reference.do(park, "NOTIFY", *frag, "Subscription-State: active;expires=60", body=b"SIP/2.0 100 Trying\r\n")
        parked = flow.call(park, alice, alice.contact, ROUTE, "Require: replaces", f"Replaces: {replaces}", ringing=False,
                           contact=f'<{park.contact}>;automaton;+sip.byeless;+sip.rendering="no"')
        self.assertEqual(lines(parked.got, "replaces"), [f"Replaces: {replaces}"])
        call.do(alice, "BYE")
        reference.do(park, "NOTIFY", *frag, "Subscription-State: terminated;reason=noresource",
                     body=b"SIP/2.0 200 OK\r\nCall-ID: 12345601@atlanta.example.com\r\n")
        flow.shows("""
            alice -> proxy -> bob INVITE 100 180 200 ACK
            bob -> proxy -> park REFER 202
            park -> proxy -> bob NOTIFY 200
            park -> proxy -> alice INVITE 100 200 ACK
            alice -> proxy -> bob BYE 200
            park -> proxy -> bob NOTIFY 200
        """)
        watch = self.subscribe(carol, park, 0)
        notify = watch.do(park, "NOTIFY", "Event: dialog", "Subscription-State: terminated;reason=timeout", _DIALOG_INFO,
                          body=dialog_info(0, "confirmed"))
        self.assertEqual(notify.body, dialog_info(0, "confirmed"))
        back = f"Replaces: {parked.replaces(of=alice)}"
        taken = flow.call(carol, alice, alice.contact, ROUTE, "Require: replaces", back, ringing=False)
        self.assertEqual(lines(taken.got, "replaces"), [back])
        parked.do(alice, "BYE")
        flow.shows("""
            carol -> proxy -> park SUBSCRIBE 200
            park -> proxy -> carol NOTIFY 200
            carol -> proxy -> alice INVITE 100 200 ACK
            alice -> proxy -> park BYE 200
        """)
        flow.finish()

    @shows("CAN-01", "FRK-22", "3891 3")
    def test_call_pickup(self) -> None:
        """RFC 5359 s2.16: it rings at Bob's; Bill learns of it from Bob's phone, and calls Alice with Replaces and
        early-only; she takes that call and cancels hers. The RFC leaves open when the 487 comes."""
        alice, bob, bill = self.begin("bill")
        flow = self.flow
        got = flow.ring(alice, bob, "", ALLOW, REPLACES)
        # the early dialog as Bob's phone knows it: its tag is the one it rang with
        tag = flow.shows("""
            alice -> proxy -> bob INVITE 100 180
        """)[-1].to_tag
        watch = self.subscribe(bill, bob, 0)
        watch.do(bob, "NOTIFY", "Event: dialog", "Subscription-State: terminated;reason=timeout", _DIALOG_INFO,
                 body=dialog_info(0, "early"))
        replaces = f"Replaces: {got.call_id};to-tag={got.from_tag};from-tag={tag};early-only"
        bill.invite(alice.contact, ROUTE, "Require: replaces", replaces, ALLOW)
        bill.take(100)
        new = alice.take("INVITE")
        self.assertEqual(lines(new, "replaces"), [replaces])
        sent = alice.answer(new, 200, "Content-Type: application/sdp", body=OFFER)
        ok = bill.take(200)
        self.cancelled(alice, bob, got)
        bill.ack(ok)
        alice.take("ACK")
        Call(flow, bill, alice, new, sent, ok).do(bill, "BYE")
        flow.shows("""
            bill -> proxy -> bob SUBSCRIBE 200
            bob -> proxy -> bill NOTIFY 200
            bill -> proxy -> alice INVITE 100 200
            alice -> proxy CANCEL 200
            proxy -> bob CANCEL 200
            bob -> proxy 487 INVITE
            proxy -> bob ACK
            proxy -> alice 487 INVITE
            alice -> proxy ACK
            bill -> proxy -> alice ACK
            bill -> proxy -> alice BYE 200
        """)
        flow.finish()

    def cancelled(self, caller: Phone, callee: Phone, got: Request) -> None:
        """The caller gives up an INVITE that was received as `got`."""
        invite = next(one for packet in self.rig.network.packets if packet.source[0] == caller.address
                      for one in [parse(packet.data)] if isinstance(one, Request) and one.call_id == got.call_id)
        caller.cancel(invite)
        caller.take(200)
        callee.cancelled(got)
        caller.ack(caller.take(487), invite)

    @shows("INV-08", "FRK-22", "6665 4.1")
    def test_automatic_redial(self) -> None:
        """RFC 5359 s2.17: Bob is busy; Alice subscribes to his dialogs, hears when he is free, calls, and ends the
        subscription."""
        alice, bob, _ = self.begin("carol")
        flow = self.flow
        invite = alice.invite("bob", ALLOW)
        alice.take(100)
        bob.refuse(486)
        alice.ack(alice.take(486), invite)
        watch = self.subscribe(alice, bob, 60)
        notify = ("Event: dialog", _DIALOG_INFO)
        watch.do(bob, "NOTIFY", *notify, "Subscription-State: active;expires=59", body=dialog_info(0, "confirmed"))
        self.rig.advance(32)
        watch.do(bob, "NOTIFY", *notify, "Subscription-State: active;expires=27", body=dialog_info(1, "terminated"))
        call = flow.call(alice, bob, "", ALLOW)
        self.rig.advance(12)
        watch.do(bob, "NOTIFY", *notify, "Subscription-State: active;expires=15", body=dialog_info(2, "confirmed"))
        last = watch.do(alice, "SUBSCRIBE", "Event: dialog", "Expires: 0")
        self.assertEqual(lines(last, "expires"), ["Expires: 0"])
        watch.do(bob, "NOTIFY", *notify, "Subscription-State: terminated;reason=noresource", body=dialog_info(3))
        ladder = flow.shows("""
            alice -> proxy -> bob INVITE 100
            bob -> proxy 486 INVITE
            proxy -> bob ACK
            proxy -> alice 486 INVITE
            alice -> proxy ACK
            alice -> proxy -> bob SUBSCRIBE 200
            bob -> proxy -> alice NOTIFY 200
            bob -> proxy -> alice NOTIFY 200
            alice -> proxy -> bob INVITE 100 180 200 ACK
            bob -> proxy -> alice NOTIFY 200
            alice -> proxy -> bob SUBSCRIBE 200
            bob -> proxy -> alice NOTIFY 200
        """)
        self.assertEqual(len(ladder[8].values("record-route")), 1)
        call.do(alice, "BYE")
        flow.finish()

    @shows("INV-34", "3515 2.4")
    def test_click_to_dial(self) -> None:
        """RFC 5359 s2.18: Bob's PC refers his phone to Carol, with Refer-Sub: false, so that no NOTIFY follows. The PC is a
        user agent of Bob's that has not registered."""
        _, bob, carol = self.begin("carol")
        flow = self.flow
        pc = self.rig.phone("bob", "192.0.2.66")
        flow.names["192.0.2.66"] = "pc"
        refer_to, sub = "Refer-To: <sip:carol@example.com>", "Refer-Sub: false"
        reference = flow.ask(pc, bob, "REFER", "sip:bob@example.com", refer_to, sub, status=202,
                             answer=(f"Contact: <{bob.contact}>", sub))
        self.assertEqual(lines(reference.got, "refer-to") + lines(reference.got, "refer-sub"), [refer_to, sub])
        self.assertEqual(lines(reference.ok, "refer-sub"), [sub])
        by = "Referred-By: <sip:bob@example.com>"
        call = flow.call(bob, carol, "sip:carol@example.com", by, ALLOW)
        self.assertEqual(lines(call.got, "referred-by"), [by])
        flow.shows("""
            pc -> proxy -> bob REFER 202
            bob -> proxy -> carol INVITE 100 180 200 ACK
        """)
        call.do(bob, "BYE")
        flow.finish()
