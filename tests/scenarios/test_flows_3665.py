"""The registrations of RFC 3665 section 2, as ladders through the real core.

Everywhere: the challenges have qop and an algorithm, and there are two, MD5 and SHA-256 (RFC 7616, RFC 8760).
"""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.message import Response
from tests.support.cases import shows
from tests.support.flow import Flow, lines
from tests.support.rig import Rig

USERS = {"alice": "wonderland", "bob": "builder"}


class Registration(TestCase):
    """Section 2: Bob and his registrar, over TLS."""

    def setUp(self) -> None:
        """Bob's phone, and a registrar that wants his password."""
        self.rig = Rig(auth={"required": True}, users=USERS, registrar={"min_expires": 60})
        self.bob = self.rig.phone("bob", transport="tls", port=5061)
        self.flow = Flow(self, self.rig, bob=self.bob)
        self.contact = f"<{self.bob.contact}>"

    def begin(self, password: str = USERS["bob"]) -> Response:
        """F1 to F4 of s2.1: returns the challenge, and leaves the answer to the second REGISTER unread."""
        first = self.bob.request("REGISTER", "sip:example.com", "Expires: 3600", to=f"<{self.bob.aor}>", contact=self.contact)
        challenge: Response = self.bob.take(401)
        self.again = self.bob.authorized(first, challenge, password=password)
        return challenge

    def repeat(self, count: int, *extra: str, contact: str = "") -> Response:
        """One more REGISTER with the credentials there are (the nonce of the challenge, counted on)."""
        request = self.bob.request("REGISTER", "sip:example.com", *extra, to=f"<{self.bob.aor}>", contact=contact, send=False)
        request.set("call-id", self.again.call_id)
        request.set("cseq", f"{self.again.cseq_number + count} REGISTER")
        self.bob.authorized(request, self.challenge, nc=count)
        answer: Response = self.bob.take()
        self.assertEqual(self.flow.shows("""
            bob -> proxy REGISTER
            proxy -> bob 200 REGISTER
        """)[-1].encode(), answer.encode())
        return answer

    def registered(self) -> None:
        """A registration to go on from."""
        self.challenge = self.begin()
        self.bob.take(200)
        self.flow.shows("""
            bob -> proxy REGISTER
            proxy -> bob 401 REGISTER
            bob -> proxy REGISTER
            proxy -> bob 200 REGISTER
        """)

    @shows("REG-01", "AUT-02", "10.3")
    def test_new(self) -> None:
        """RFC 3665 s2.1: REGISTER, 401, REGISTER with credentials, 200 with the contact."""
        challenge = self.begin()
        answer = self.bob.take(200)
        first, _, second, _ = self.flow.shows("""
            bob -> proxy REGISTER
            proxy -> bob 401 REGISTER
            bob -> proxy REGISTER
            proxy -> bob 200 REGISTER
        """)
        self.assertRegex(challenge.first["www-authenticate"], r'^Digest realm="example\.com", .*nonce="[^"]+"')
        self.assertEqual(lines(challenge, "via"), lines(first, "via"))
        self.assertEqual(lines(answer, "via"), lines(second, "via"))
        self.assertTrue(challenge.to_tag and answer.to_tag)
        self.assertEqual(answer.values("contact"), [f"{self.contact};expires=3600"])
        self.assertNotIn("record-route", answer.first)
        self.flow.finish()

    @shows("REG-02", "AUT-06", "10.2")
    def test_update(self) -> None:
        """RFC 3665 s2.2: a further contact, with the credentials there are: no challenge, and 200 with both."""
        self.registered()
        answer = self.repeat(2, "Expires: 3600", contact="<mailto:bob@biloxi.example.com>")
        self.assertEqual([value.split(";expires")[0] for value in answer.values("contact")],
                         [self.contact, "<mailto:bob@biloxi.example.com>"])
        self.flow.finish()

    @shows("REG-05", "10.2.3")
    def test_current(self) -> None:
        """RFC 3665 s2.3: no Contact in the REGISTER; the 200 has what there is."""
        self.registered()
        self.rig.advance(100)
        answer = self.repeat(2)
        self.assertEqual(answer.values("contact"), [f"{self.contact};expires=3500"])
        self.flow.finish()

    @shows("REG-19", "10.2.2")
    def test_cancellation(self) -> None:
        """RFC 3665 s2.4: Contact: * and Expires: 0; the 200 has no Contact any more."""
        self.registered()
        self.assertEqual(self.repeat(2, "Expires: 0", contact="*").values("contact"), [])
        self.assertEqual(self.repeat(3).values("contact"), [])
        self.flow.finish()

    @shows("AUT-04", "22.1")
    def test_unsuccessful(self) -> None:
        """RFC 3665 s2.5: a wrong password gets 401 again, with a new challenge, and nothing is stored."""
        challenge = self.begin(password="not bob's")
        again = self.bob.take(401)
        self.flow.shows("""
            bob -> proxy REGISTER
            proxy -> bob 401 REGISTER
            bob -> proxy REGISTER
            proxy -> bob 401 REGISTER
        """)
        self.assertNotEqual(again.first["www-authenticate"], challenge.first["www-authenticate"])
        self.assertNotIn("stale", again.first["www-authenticate"].lower())
        self.assertEqual(list(self.rig.core.location.bindings("bob@example.com")), [])
        self.flow.finish()
