"""Redirections and sips targets on the real core (RFC 3261 s16.5, s16.7 step 4, s26.2.2)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.support.cases import shows
from tests.support.rig import DOMAIN, Phone, Rig, established


def pair(**settings: object) -> tuple[Rig, Phone, Phone, Phone]:
    """A caller, a callee that is registered, and a third phone that is not."""
    rig = Rig(**settings)
    a, b, c = rig.phone("1001"), rig.phone("1002"), rig.phone("1003")
    b.register()
    return rig, a, b, c


class Redirection(TestCase):
    """3xx."""

    @shows("RTE-15", "16.7/6")
    def test_passed_up(self) -> None:
        """Without recursion a 302 goes to the caller as it came, and its contacts are not called."""
        rig, a, b, c = pair()
        for status in (300, 301, 302, 305, 380):
            invite = a.invite("1002")
            a.take(100)
            got = b.take("INVITE")
            b.answer(got, status, f"Contact: <{c.contact}>;q=0.7, <mailto:x@y.example>")
            b.take("ACK")
            answer = a.take(status)
            self.assertEqual(answer.values("contact"), [f"<{c.contact}>;q=0.7", "<mailto:x@y.example>"])
            a.ack(answer, invite)
        c.silent()
        rig.finish()

    @shows("RTE-15", "R3261-16.7-09", "16.7/4")
    def test_followed(self) -> None:
        """With recursion the contact is called in the branch's place; when it is busy the caller hears of that alone."""
        rig, a, b, c = pair(proxy={"recurse": True})
        invite = a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        b.answer(got, 302, f"Contact: <{c.contact}?Subject=x>")
        b.take("ACK")
        moved = c.take("INVITE")
        self.assertEqual(moved.uri_text, c.contact)
        self.assertEqual(moved.body, invite.body)
        a.silent()
        c.answer(moved, 486)
        c.take("ACK")
        answer = a.take(486)
        self.assertEqual(answer.all("contact"), [])
        a.ack(answer, invite)
        rig.finish()

    @shows("RTE-15", "R3261-16.7-07", "16.7/4")
    def test_remainder(self) -> None:
        """What is no SIP URI stays in the 3xx that may go back; what was tried does not."""
        rig, a, b, c = pair(proxy={"recurse": True})
        invite = a.invite("1002")
        a.take(100)
        b.refuse(302, f"Contact: <{c.contact}>, <mailto:x@y.example>")
        c.refuse(404)
        answer = a.take(302)
        self.assertEqual(answer.values("contact"), ["<mailto:x@y.example>"])
        a.ack(answer, invite)
        rig.finish()

    @shows("RTE-15", "21.3.4", "21.3.5")
    def test_for_the_caller(self) -> None:
        """305 and 380 are not followed: the Contact of the first is a proxy, no other place of the callee, and what the
        second offers stands in its body. The caller gets them as they are."""
        rig, a, b, c = pair(proxy={"recurse": True})
        for status in (305, 380):
            invite = a.invite("1002")
            a.take(100)
            b.refuse(status, f"Contact: <{c.contact}>")
            answer = a.take(status)
            self.assertEqual(answer.values("contact"), [f"<{c.contact}>"])
            a.ack(answer, invite)
        c.silent()
        rig.finish()

    @shows("RTE-15", "R3261-16.5-12", "16.5")
    def test_to_itself(self) -> None:
        """A phone that redirects to itself is not asked again: a target enters the set once."""
        rig, a, b, c = pair(proxy={"recurse": True})
        invite = a.invite("1002")
        a.take(100)
        b.refuse(302, f"Contact: <{b.contact}>")
        answer = a.take()
        self.assertGreaterEqual(answer.status, 300)
        a.ack(answer, invite)
        b.silent()
        rig.finish()

    @shows("RTE-15", "R3261-16.5-09", "16.5")
    def test_not_responsible(self) -> None:
        """A 3xx from another domain is not followed here: the Request-URI is not ours to change."""
        rig, a, b, c = pair(proxy={"recurse": True})
        x = rig.phone("1004", "192.0.2.99")
        invite = a.invite("sip:joe@192.0.2.99")
        a.take(100)
        x.refuse(302, f"Contact: <{c.contact}>")
        answer = a.take(302)
        self.assertEqual(answer.values("contact"), [f"<{c.contact}>"])
        a.ack(answer, invite)
        c.silent()
        rig.finish()

    @shows("RTE-15", "RTE-16", "R3261-16.7-08", "16.7/4", "5630 5.3")
    def test_not_from_sips_to_sip(self) -> None:
        """A call to a sips URI is not redirected to a sip contact by us."""
        rig = Rig(proxy={"recurse": True})
        a, b, c = rig.phone("1001", transport="tls"), rig.phone("1002", transport="tls"), rig.phone("1003")
        b.register(contact=f"<sips:1002@{b.address}:5061>")
        invite = a.invite(f"sips:1002@{DOMAIN}")
        a.take(100)
        b.refuse(302, f"Contact: <{c.contact}>")
        answer = a.take(302)
        self.assertEqual(answer.values("contact"), [f"<{c.contact}>"])
        a.ack(answer, invite)
        c.silent()
        rig.finish()


class Sips(TestCase):
    """RTE-16."""

    @shows("RTE-16", "26.2.2", "5630 5.3")
    def test_only_sip_contacts(self) -> None:
        """A call to a sips URI whose user has plain contacts only: 480, nothing sent without TLS."""
        rig = Rig()
        a = rig.phone("1001", transport="tls")
        b, c = rig.phone("1002"), rig.phone("1002", transport="tcp")
        b.register()
        c.register()
        invite = a.invite(f"sips:1002@{DOMAIN}")
        a.ack(a.take(480), invite)
        b.silent()
        c.silent()
        rig.finish()

    @shows("RTE-16", "R3261-16.6-17", "R5658-3.2-01", "R5658-6.2-03", "26.2.2", "16.6/4")
    def test_over_tls(self) -> None:
        """A sips contact is called over its TLS connection, Record-Route is sips; the dialog works both ways."""
        rig = Rig()
        a, b = rig.phone("1001", transport="tls"), rig.phone("1002", transport="tls")
        contact = f"sips:1002@{b.address}:5061"
        b.register(contact=f"<{contact}>")
        a.invite(f"sips:1002@{DOMAIN}", contact=f"<sips:1001@{a.address}:5061>")
        a.take(100)
        got = b.take("INVITE")
        self.assertEqual(got.uri_text, contact)
        (value,) = got.values("record-route")
        self.assertRegex(value, "^<sips:[^@]+@192.0.2.1:5061;lr>$")
        sent = b.answer(got, 200, contact=f"<{contact}>")
        ok = a.take(200)
        a.ack(ok)
        b.take("ACK")
        b.in_callee_dialog("INFO", got, sent)
        a.answer(a.take("INFO"), 200)
        b.take(200)
        a.hang_up(ok, b)
        rig.finish()

    @shows("RTE-16", "26.2.2")
    def test_connection_gone(self) -> None:
        """A sip contact that registered over TLS and whose connection is gone is not called by UDP or TCP."""
        for parameter in ("", ";transport=tcp"):
            rig = Rig()
            a = rig.phone("1001", transport="tls")
            b = rig.phone("1002", transport="tls")
            plain = rig.phone("1002", b.address)
            acceptor = rig.network.listen("tcp", b.address, 5060)
            b.register(contact=f"<sip:1002@{b.address}{parameter}>")
            assert b.connection is not None
            b.connection.close()
            invite = a.invite(f"sips:1002@{DOMAIN}")
            a.take(100)
            rig.advance(0.3, 0.1)
            answer = a.take()
            self.assertGreaterEqual(answer.status, 400)
            a.ack(answer, invite)
            plain.silent()
            self.assertEqual(acceptor.connections, [])
            rig.finish()

    @shows("RTE-16", "16.6/4")
    def test_sips_contact_of_a_plain_call(self) -> None:
        """A caller on UDP and a callee with a sips contact: each side gets a Record-Route that it can reach."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002", transport="tls")
        b.register(contact=f"<sips:1002@{b.address}:5061>")
        _, got, sent, ok = established(a, b)
        values = got.values("record-route")
        self.assertTrue(values[-1].startswith("<sip:"), values)
        self.assertEqual(len(values), 2)
        a.in_dialog("INFO", ok)
        b.answer(b.take("INFO"), 200)
        a.take(200)
        b.in_callee_dialog("BYE", got, sent)
        a.answer(a.take("BYE"), 200)
        b.take(200)
        rig.finish()
