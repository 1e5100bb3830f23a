"""Users with a section of their own, ACLs, and whose word on the caller is believed."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.scenarios.test_policy import CARRIER, OTHER, TRUNK, logged_in, over, policy_rig, reached, refused


class UserTests(TestCase):
    """Users with a section of their own."""

    def test_plain(self) -> None:
        """A section that says nothing, and one that says what holds anyway, make no policy."""
        rig = policy_rig({"1001": {}, "1002": {"identify_by": ["credentials"], "may_call": ["*", "*@*"]}})
        self.assertEqual(rig.core.policies.users, {})
        over(rig)

    def test_may_call(self) -> None:
        """Numbers here and addresses elsewhere have patterns of their own; the first that fits decides; where none fits
        nothing may be called."""
        rig = policy_rig({"1001": {"may_call": ["!10?3", "10*", "*@203.0.113.20"]}})
        caller, callee = rig.phone("1001", "192.0.2.51"), rig.phone("1002", "192.0.2.52")
        other = rig.phone("other", "203.0.113.20")
        for uri, phone in (("sip:1002@example.com", callee), ("sip:0@203.0.113.20", other)):
            again = logged_in(caller, uri)
            caller.take(100)
            phone.refuse(603)
            caller.ack(caller.take(603), again)
        for uri in ("sip:1003@example.com", "sip:2000@example.com", OTHER, "sip:1002@203.0.113.21"):
            again = logged_in(caller, uri)
            caller.ack(caller.take(403), again)
        over(rig)

    def test_methods(self) -> None:
        """A method that is not among those it may use is answered 405 with those; also REGISTER."""
        rig = policy_rig({"1001": {"methods": ["INVITE", "OPTIONS"]}})
        caller = rig.phone("1001", "192.0.2.51")
        message = caller.request("MESSAGE", "sip:1002@example.com")
        caller.authorized(message, caller.take(407))
        self.assertEqual(caller.take(405).first["allow"], "INVITE, OPTIONS")
        first = caller.request("REGISTER", "sip:example.com", to=f"<{caller.aor}>", contact=f"<{caller.contact}>")
        caller.authorized(first, caller.take(401))
        caller.take(405)
        over(rig)

    def test_address(self) -> None:
        """A phone that is known by its address needs no password, in calls and to register; under another name, and from
        elsewhere, it does. A password does not help where only the address counts."""
        rig = policy_rig({"1001": {"identify_by": ["address"], "addresses": ["192.0.2.51"]}})
        caller, callee = rig.phone("1001", "192.0.2.51"), rig.phone("1002", "192.0.2.52")
        elsewhere = rig.phone("1001", "192.0.2.60")
        caller.register(take=200)
        reached(rig, caller, callee)
        refused(caller, 407, "sip:1001@example.com", from_="<sip:1002@example.com>;tag=f")
        elsewhere.register(take=401)
        again = logged_in(elsewhere, "sip:1002@example.com")
        elsewhere.ack(elsewhere.take(403), again)
        over(rig)

    def test_any_of_them(self) -> None:
        """Two ways to be known: any one is enough."""
        rig = policy_rig({"1001": {"identify_by": ["address", "credentials"], "addresses": ["192.0.2.51"]}})
        callee = rig.phone("1002", "192.0.2.52")
        reached(rig, rig.phone("1001", "192.0.2.51"), callee)
        elsewhere = rig.phone("1001", "192.0.2.60")
        logged_in(elsewhere, "sip:1002@example.com")
        elsewhere.take(100)
        callee.refuse(603)
        elsewhere.take(603)
        over(rig)


class AclTests(TestCase):
    """Named lists of addresses."""

    ACLS = {"office": {"permit": ["192.0.2.0/24", "2001:db8:1::/48"], "deny": ["192.0.2.128/25", "2001:db8:1:9::/64"]}}
    LISTEN = (("udp", "192.0.2.1", 5060), ("udp", "2001:db8::1", 5060))

    def test_source(self) -> None:
        """Where requests may come from, with the right password; nothing is told to those without it."""
        rig = policy_rig({"1001": {"source_acl": "office"}}, acls=self.ACLS, listen=self.LISTEN)
        for address, status in (("192.0.2.51", 200), ("192.0.2.129", 403), ("198.51.100.1", 403),
                                ("2001:db8:1::5", 200), ("2001:db8:1:9::5", 403), ("2001:db8:2::5", 403)):
            phone = rig.phone("1001", address)
            fields = {"to": f"<{phone.aor}>", "contact": f"<{phone.contact}>"}
            request = phone.request("REGISTER", "sip:example.com", **fields)  # type: ignore[arg-type]
            phone.authorized(request, phone.take(401))
            phone.take(status)
            again = logged_in(phone, "sip:1009@example.com")
            phone.ack(phone.take(480 if status == 200 else 403), again)
        over(rig)

    def test_contact(self) -> None:
        """Where a phone may ask to be called: addresses in its Contacts, a maddr too; a name could lead anywhere, unless
        it is one that leads nowhere."""
        rig = policy_rig({"1001": {"contact_acl": "office"}}, acls=self.ACLS, listen=self.LISTEN)
        phone = rig.phone("1001", "192.0.2.51")
        for contact, status in ((phone.contact, 200), ("sip:1001@198.51.100.1", 403), ("sip:1001@[2001:db8:1::7]", 200),
                                ("sip:1001@[2001:db8:2::7]", 403), ("sip:1001@[::ffff:192.0.2.7]", 200),
                                ("sip:1001@192.0.2.9;maddr=198.51.100.1", 403), ("sip:1001@phone.example", 403),
                                ("sip:1001@df7jal23ls0d.invalid", 200),
                                (f"{phone.contact}>, <sip:1001@198.51.100.1", 403)):
            request = phone.request("REGISTER", "sip:example.com", to=f"<{phone.aor}>", contact=f"<{contact}>")
            phone.authorized(request, phone.take(401))
            phone.take(status)
        request = phone.request("REGISTER", "sip:example.com", "Expires: 0", to=f"<{phone.aor}>", contact="*")
        phone.authorized(request, phone.take(401))
        phone.take(200)
        over(rig)

    def test_trunk(self) -> None:
        """What comes from a carrier's addresses, but not from where it should, is refused."""
        rig = policy_rig({"carrier": {**TRUNK, "addresses": ["203.0.113.0/24"], "source_acl": "edge"}},
                         acls={"edge": {"deny": ["203.0.113.66"]}})
        phone = rig.phone("1001", "192.0.2.51")
        reached(rig, rig.phone("carrier", "203.0.113.65"), phone, "sip:1001@example.com")
        refused(rig.phone("carrier", "203.0.113.66"), 403, "sip:1001@example.com")
        over(rig)


class IdentityTests(TestCase):
    """Who is believed when they say who calls."""

    ASSERTED = 'P-Asserted-Identity: "Boss" <sip:+4930@carrier.example>'

    def test_trusted(self) -> None:
        """What a trusted carrier asserts goes on, what another asserts or prefers does not."""
        rig = policy_rig({"carrier": {**TRUNK, "trust_identity": True},
                          "second": {"uri": "sip:203.0.113.20", "identify_by": ["address"]}})
        phone = rig.phone("1001", "192.0.2.51")
        extra = (self.ASSERTED, "Remote-Party-ID: <sip:+4930@x.example>", "P-Preferred-Identity: <sip:x@x.example>")
        got = reached(rig, rig.phone("carrier", CARRIER), phone, "sip:1001@example.com", *extra)
        self.assertIn("Boss", got.first["p-asserted-identity"])
        self.assertIn("remote-party-id", got.first)
        self.assertNotIn("p-preferred-identity", got.first)
        got = reached(rig, rig.phone("second", "203.0.113.20"), phone, "sip:1001@example.com", *extra)
        for name in ("p-asserted-identity", "remote-party-id", "p-preferred-identity"):
            self.assertNotIn(name, got.first)
        over(rig)

    def test_privacy(self) -> None:
        """RFC 3325 s7: where the caller wants to be private, what was asserted stays here; to whom we trust it goes on."""
        rig = policy_rig({"carrier": {**TRUNK, "trust_identity": True}, "1002": {"trust_identity": True}})
        carrier = rig.phone("carrier", CARRIER)
        one, two = rig.phone("1001", "192.0.2.51"), rig.phone("1002", "192.0.2.52")
        for phone, privacy, passed in ((one, "id", False), (one, "header; ID;critical", False), (one, "none", True),
                                       (one, "idle", True), (two, "id", True)):
            got = reached(rig, carrier, phone, f"sip:{phone.name}@example.com", self.ASSERTED, f"Privacy: {privacy}")
            self.assertEqual("p-asserted-identity" in got.first, passed, privacy)
        over(rig)

    def test_caller_name(self) -> None:
        """Those who are called are told the name that the configuration gives, whatever the phone says; not where the
        caller wants to be private."""
        rig = policy_rig({"1001": {"caller_name": "Reception"}})
        caller, callee = rig.phone("1001", "192.0.2.51"), rig.phone("1002", "192.0.2.52")
        for privacy, wanted in ((), '"Reception" <sip:1001@example.com>'), (("Privacy: id",), None):
            again = logged_in(caller, "sip:1002@example.com", self.ASSERTED, *privacy)
            caller.take(100)
            got = callee.take("INVITE")
            self.assertEqual(got.first.get("p-asserted-identity"), wanted)
            callee.answer(got, 603)
            callee.take("ACK")
            caller.ack(caller.take(603), again)
        over(rig)
