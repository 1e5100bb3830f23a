"""Whose bindings a REGISTER changes, and what else stands in one (RFC 3261 s10.3 steps 1 to 5)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message.address import Address
from sipd.message.message import Request, Response
from tests.support.cases import shows
from tests.support.rig import LISTEN, SERVER, Phone, Rig

AUTH = {"required": True}


def logged_in(phone: Phone, *lines: str, take: int | None = 200, user: str = "", password: str = "",
              **fields: Any) -> Response:
    """Registers with credentials: the answer after the challenge."""
    fields.setdefault("to", f"<{phone.aor}>")
    fields.setdefault("contact", f"<{phone.contact}>")
    request = phone.request("REGISTER", fields.pop("uri", "sip:example.com"), *lines, **fields)
    login = {"user": user} if user else {}
    if password:
        login["password"] = password
    phone.authorized(request, phone.take(401), **login)
    answer = phone.take(take)
    assert isinstance(answer, Response)
    return answer


class Names(TestCase):
    """The address-of-record (s10.3 step 5)."""

    @shows("REG-28")
    def test_unknown_user(self) -> None:
        """Without credentials 401 as for anybody; 404 once authenticated, and where nobody has to be."""
        rig = Rig(auth=AUTH)
        a = rig.phone("1001")
        unknown = a.register(to="<sip:nobody@example.com>", take=401)
        known = a.register(to="<sip:1002@example.com>", take=401)
        self.assertEqual([name for name, _, _ in unknown.headers], [name for name, _, _ in known.headers])
        logged_in(a, to="<sip:nobody@example.com>", take=404)
        rig.finish()
        rig = Rig()
        rig.phone("1001").register(to="<sip:nobody@example.com>", take=404)
        self.assertEqual(len(rig.core.location), 0)
        rig.finish()

    @shows("REG-28")
    def test_open_registrar(self) -> None:
        """An open registrar takes any name from anybody, known users or not, and finds it."""
        rig = Rig(auth=AUTH, registrar={"open": True, "min_expires": 2})
        a = rig.phone("somebody-new")
        a.register()
        self.assertEqual(len(rig.core.location.bindings("somebody-new@example.com")), 1)
        a.register(to="<sip:example.com>", take=404)
        rig.finish()

    @shows("REG-29", "R3261-10.3-12")
    def test_other_domain(self) -> None:
        """To in another domain than the Request-URI gets 404, be it foreign, a tenant's, at another's port, or none."""
        server = {"domains": ["example.com"], "tenants": ["two.example"]}
        users = {"1001": "secret1", "1001@two.example": "other"}
        rig = Rig(server=server, users=users)
        a = rig.phone("1001")
        for to, uri in (("sip:1001@elsewhere.example", "sip:example.com"), ("sip:1001@two.example", "sip:example.com"),
                        ("sip:1001@example.com", "sip:two.example"), ("sip:1001@example.com:6000", "sip:example.com"),
                        (f"sip:1001@{SERVER}:5099", f"sip:{SERVER}"), ("sip:example.com", "sip:example.com"),
                        ("sip:1001@example.com", "tel:1001")):
            a.register(to=f"<{to}>", uri=uri, take=404)
        self.assertEqual(len(rig.core.location), 0)
        a.register(to="<sip:1001@two.example>", uri="sip:two.example")
        self.assertEqual(len(rig.core.location.bindings("1001@two.example")), 1)
        self.assertEqual(rig.core.location.bindings("1001@example.com"), [])
        rig.finish()

    @shows("REG-30", "R3261-10.3-07")
    def test_foreign_request_uri(self) -> None:
        """A REGISTER for a foreign domain is relayed for our users, refused for strangers, and never stored here."""
        rig = Rig(auth=AUTH)
        a, foreign = rig.phone("1001"), rig.phone("x", "198.51.100.5")
        rig.dns.address("elsewhere.example", "198.51.100.5")
        request = a.request("REGISTER", "sip:elsewhere.example", to=f"<{a.aor}>", contact=f"<{a.contact}>")
        challenge = a.take(407)
        foreign.silent()
        a.authorized(request, challenge)
        got = foreign.take("REGISTER")
        self.assertEqual(got.uri_text, "sip:elsewhere.example")
        self.assertNotIn("record-route", got.first)
        foreign.answer(got, 200)
        a.take(200)
        self.assertEqual(len(rig.core.location), 0)
        rig.finish()

    @shows("REG-31")
    def test_request_uri_with_user(self) -> None:
        """A user part in the Request-URI changes nothing about the address-of-record."""
        rig = Rig()
        a = rig.phone("1001")
        answer = a.register(uri="sip:1002@example.com", take=None)
        self.assertIn(answer.status, (200, 400))
        self.assertEqual(rig.core.location.bindings("1002@example.com"), [])
        self.assertEqual(len(rig.core.location.bindings("1001@example.com")), 1 if answer.status == 200 else 0)
        rig.finish()

    @shows("REG-32", "R3261-10.3-13", "R3261-10.3-14", "R3261-10.3-15")
    def test_canonical_form(self) -> None:
        """Parameters, escapes, case of the domain, our port, alias and address: one address-of-record, one binding."""
        listen = (*LISTEN, ("udp", "2001:db8::1", 5060))
        rig = Rig(listen=listen, users={"alice": "secret"})
        a = rig.phone("alice")
        for to in ("sip:alice@example.com", "sip:%61lice@example.com;user=phone", "SIP:alice@EXAMPLE.com:5060",
                   "sips:alice@example.com", "sip:al%69c%65@Alias.Example.COM;x=y", f"sip:alice@{SERVER}",
                   f"sip:alice@{SERVER}:5060", "sip:alice@example.com:5061", "sip:alice@[2001:DB8::1]",
                   "sip:alice@[2001:db8:0:0:0:0:0:1]:5060", "sip:alice@example.com.", "sip:alice:pw@example.com"):
            a.register(to=f'"Alice \\"X\\"" <{to}>')
            self.assertEqual(len(rig.core.location), 1, to)
        a.register(to="sip:alice@example.com")
        self.assertEqual(len(rig.core.location.bindings("alice@example.com")), 1)
        rig.finish()

    @shows("REG-32", "19.1.4", "R3261-10.3-15")
    def test_user_part_has_case(self) -> None:
        """The user part is compared with its case, and escapes are undone once only."""
        rig = Rig(users={"alice": "secret"})
        a = rig.phone("alice")
        a.register(to="<sip:Alice@example.com>", take=404)
        a.register(to="<sip:%2561lice@example.com>", take=404)
        rig.finish()

    @shows("REG-32", "10.2")
    def test_request_uri_is_an_alias(self) -> None:
        """Any of our names may stand in the Request-URI, whichever stands in To."""
        rig = Rig()
        a = rig.phone("1001")
        for uri in ("sip:alias.example.com", "sip:EXAMPLE.COM", f"sip:{SERVER}", f"sip:{SERVER}:5060;transport=udp",
                    "sips:example.com"):
            a.register(uri=uri)
        self.assertEqual(len(rig.core.location), 1)
        rig.finish()

    @shows("REG-33", "AUT-11", "R3261-22-01", "R3261-8.2.2.1-01", "R3261-10.3-10", "R3261-10.3-11")
    def test_somebody_else(self) -> None:
        """A user registers for another one: 403, nothing stored and nothing removed; From does not help."""
        rig = Rig(auth=AUTH)
        a, b = rig.phone("1001"), rig.phone("1002")
        logged_in(b)
        for contact in (f"<{a.contact}>", f"<{b.contact}>;expires=0"):
            logged_in(a, to="<sip:1002@example.com>", contact=contact, take=403)
            logged_in(a, to="<sip:1002@example.com>", contact=contact, from_="<sip:1002@example.com>;tag=x", take=403)
        logged_in(a, "Expires: 0", to="<sip:1002@example.com>", contact="*", take=403)
        self.assertEqual([one.contact for one in rig.core.location.bindings("1002@example.com")], [b.contact])
        rig.finish()

    @shows("REG-33")
    def test_third_party(self) -> None:
        """What counts in a REGISTER is To: somebody else's From beside one's own To and credentials is a 200 (s10.2)."""
        rig = Rig(auth=AUTH)
        a = rig.phone("1001")
        logged_in(a, from_="<sip:secretary@elsewhere.example>;tag=1")
        self.assertEqual(len(rig.core.location.bindings("1001@example.com")), 1)
        rig.finish()


class OtherFields(TestCase):
    """Fields of a REGISTER that are not about bindings."""

    @shows("REG-34", "R3261-8.2.2.3-01", "R3261-8.2.2.3-02")
    def test_require(self) -> None:
        """Require with unknown options: 420, all of them in Unsupported, those we know not; nothing stored."""
        rig = Rig()
        a = rig.phone("1001")
        self.assertEqual(a.register("Require: foo", take=420).values("unsupported"), ["foo"])
        answer = a.register("Require: foo, path", "Require: bar", take=420)
        self.assertEqual(answer.values("unsupported"), ["foo", "bar"])
        self.assertEqual(len(rig.core.location), 0)
        rig.finish()

    @shows("REG-34", "8.2.2.3", "R3261-10.3-08")
    def test_require_comes_before_the_challenge(self) -> None:
        """s10.3 puts step 2 before step 3: no password is asked for a request that can not be served."""
        rig = Rig(auth=AUTH)
        rig.phone("1001").register("Require: foo", take=420)
        rig.finish()

    @shows("REG-35", "R3261-10.3-02", "R3261-10.3-03")
    def test_record_route(self) -> None:
        """Record-Route is passed over: no response has it, and it is no route of calls to the contact."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        line = "Record-Route: <sip:192.0.2.77;lr>"
        for fields in ({}, {"contact": "", "expires": None}, {"contact": "*", "expires": 5, "take": 400}):
            self.assertNotIn("record-route", b.register(line, **fields).first)
        a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        self.assertNotIn("route", got.first)
        self.assertNotIn("192.0.2.77", " ".join(got.values("record-route")))
        b.pick_up(got, a)
        rig.finish()

    @shows("REG-36")
    def test_parameters(self) -> None:
        """URI parameters stay in the URI, contact parameters behind it, escaped headers where they stand."""
        for contact, uri, params in (
                ("<sip:+19725552222@gw1.example.net;unknownparam>", "sip:+19725552222@gw1.example.net;unknownparam", {}),
                ("<sip:+19725552222@gw1.example.net>;unknownparam", "sip:+19725552222@gw1.example.net",
                 {"unknownparam": None}),
                ("sip:+19725552222@gw1.example.net;unknownparam", "sip:+19725552222@gw1.example.net",
                 {"unknownparam": None}),
                ("<sip:user@example.com?Route=%3Csip:sip.example.com%3E>",
                 "sip:user@example.com?Route=%3Csip:sip.example.com%3E", {}),
                ('"x" <sip:1001@192.0.2.50;a=b>;methods="INVITE,BYE";q=0.5', "sip:1001@192.0.2.50;a=b",
                 {"methods": '"INVITE,BYE"', "q": "0.5"})):
            rig = Rig()
            a = rig.phone("1001")
            a.register(contact=contact)
            found = Address.parse(a.register(contact="", expires=None).first["contact"])
            self.assertEqual(found.uri_text, uri)
            self.assertEqual({name: value for name, value in found.params.items() if name != "expires"}, params)
            rig.finish()

    def called(self, contact: str) -> Request:
        """The INVITE that a call to a user with this contact at 192.0.2.50 becomes."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002", "192.0.2.50")
        b.register(contact=contact)
        a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        assert isinstance(got, Request)
        b.pick_up(got, a)
        rig.finish()
        return got

    @shows("REG-36", "16.6", "19.1.1")
    def test_called_by_what_may_stand_in_a_request_uri(self) -> None:
        """Headers and method of a contact are left out of the Request-URI; all else goes to the phone as it wrote it."""
        for contact, uri in (
                ("<sip:1002@192.0.2.50;ob;x=%41>;q=0.3", "sip:1002@192.0.2.50;ob;x=%41"),
                ("<sip:1002@192.0.2.50?Route=%3Csip:192.0.2.66%3E&Subject=x>", "sip:1002@192.0.2.50"),
                ("<sip:1002@192.0.2.50;method=REGISTER;ob>", "sip:1002@192.0.2.50;ob"),
                ("<sip:1002@192.0.2.50;Method=BYE?Replaces=x>", "sip:1002@192.0.2.50")):
            got = self.called(contact)
            self.assertEqual(got.uri_text, uri)
            self.assertEqual(got.method, "INVITE")
            self.assertNotIn("route", got.first)

    @shows("REG-01", "8.1.1.6", "16.3")
    def test_max_forwards(self) -> None:
        """A REGISTER that arrived needs no hop more: Max-Forwards 0 is served, and none at all too."""
        rig = Rig()
        a = rig.phone("1001")
        for hops in ("0", "1", None):
            a.register(max_forwards=hops)
        rig.finish()

    @shows("REG-01", "7.3.3")
    def test_spellings(self) -> None:
        """Compact names, odd case, white space and folding are read for what they are."""
        rig = Rig()
        a = rig.phone("1001")
        lines = ["REGISTER sip:example.com SIP/2.0", f"v:SIP / 2.0 / UDP {a.host}:5060 ;branch = z9hG4bKodd", "f:",
                 f" \"A\"<{a.aor}>;tag=q", f"tO : {a.aor}", "I: odd", "cseq:\t7\t REGISTER", "mAX-fORWARDS: 70",
                 "m:", f"\t<{a.contact}> ;", "  eXpires = 77 ; q=0.7", "l: 0"]
        a.send("\r\n".join([*lines, "", ""]).encode())
        answer = a.take(200)
        found = Address.parse(answer.first["contact"])
        self.assertEqual((found.uri_text, found.params["expires"], found.params["q"]), (a.contact, "77", "0.7"))
        rig.finish()

    @shows("REG-42")
    def test_impossible_port(self) -> None:
        """A contact with an impossible port or a host that is none gets 400, alone or beside a good one."""
        rig = Rig()
        a = rig.phone("1001")
        for uri in ("sip:x@host:0", "sip:x@host:70000", "sip:x@host:99999999999999999999", "sip:x@host:-1",
                    "sip:x@[2001:db8::1", "sip:@host", "sip:x@", "sip:", "x"):
            a.register(contact=f"<{uri}>", take=400)
            a.register(contact=f"<{a.contact}>, <{uri}>", take=400)
        self.assertEqual(len(rig.core.location), 0)
        rig.finish()

    @shows("REG-42")
    def test_contacts_that_cannot_be_called(self) -> None:
        """Contacts of other schemes, and hosts nobody has, are listed or refused; a call ends with an answer."""
        for uri in ("tel:+15551234", "mailto:a@example.org", "http://192.0.2.9/", "sip:x@nowhere.invalid",
                    "sip:x@0.0.0.0", "sip:x@255.255.255.255", "sip:x@224.0.0.1", "sip:x@999.1.1.1", "sip:x@[::]",
                    "sip:x@192.0.2.50;transport=sctp", "sip:x@[fe80::1]"):
            rig = Rig()
            a, b = rig.phone("1001"), rig.phone("1002")
            if b.register(contact=f"<{uri}>", take=None).status == 200:
                call = a.invite("1002")
                rig.advance(200)
                finals = [one for one in a.drain() if isinstance(one, Response) and one.status >= 300]
                self.assertTrue(finals, f"a call to {uri} has no answer")
                a.ack(finals[0], call)
            b.drain()
            rig.finish()

    @shows("REG-42", "16.3")
    def test_contact_is_the_server(self) -> None:
        """A contact that leads back to its own address-of-record ends as a loop, not as a storm."""
        for uri in ("sip:1002@example.com", f"sip:1002@{SERVER}", f"sip:1002@{SERVER}:5060;transport=udp"):
            rig = Rig()
            rig.dns.address("example.com", SERVER)
            rig.network.endpoint("udp", SERVER, 5060)
            a, b = rig.phone("1001"), rig.phone("1002")
            b.register(contact=f"<{uri}>")
            call = a.invite("1002")
            rig.advance(40)
            got = [one for one in a.drain() if isinstance(one, Response)]
            self.assertTrue(got and got[-1].status >= 300, rig.ladder())
            self.assertLess(len(rig.network.packets), 60)
            a.ack(got[-1], call)
            rig.finish()
