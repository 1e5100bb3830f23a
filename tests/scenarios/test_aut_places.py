"""Guests, tenants, names of one place, and servers that ask nobody (RFC 3261 s10.3, s16.5, s22)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.auth.digest import answer as digest_answer
from sipd.auth.digest import parse_challenge
from sipd.message.message import Request, Response
from tests.scenarios.test_reg_names import logged_in
from tests.support.cases import shows
from tests.support.rig import LISTEN, SERVER, Phone, Rig

AUTH = {"required": True}


def answered(caller: Phone, callee: Phone, uri: str, **fields: Any) -> Request:
    """A MESSAGE without a challenge, answered by the callee; as the callee has it."""
    caller.request("MESSAGE", uri, **fields)
    got = callee.take("MESSAGE")
    assert isinstance(got, Request)
    callee.answer(got, 200)
    caller.take(200)
    return got


class Guests(TestCase):
    """[proxy] guests = true: strangers may call our users, and nothing else."""

    def setUp(self) -> None:
        self.rig = Rig(auth=AUTH, proxy={"guests": True})
        self.b = self.rig.phone("1002")
        self.rig.binding("1002", self.b.contact)
        self.out = self.rig.phone("somebody", "198.51.100.5")
        self.guest = self.rig.phone("guest", "203.0.113.9")
        self.me = "<sip:guest@elsewhere.example>;tag=g"

    def refused(self, status: int, uri: str, *lines: str, method: str = "INVITE", **fields: Any) -> None:
        fields.setdefault("from_", self.me)
        request = self.guest.request(method, uri, *lines, **fields)
        refusal = self.guest.take(status)
        if method == "INVITE":
            self.guest.ack(refusal, request)
        self.b.silent()
        self.out.silent()

    def test_refused_once(self) -> None:
        """What a stranger hears of users is said once per request, whoever's address it claims to come from."""
        self.guest.request("INVITE", "sip:1003@example.com", from_=self.me)
        self.guest.take(480)
        self.rig.advance(40)
        self.rig.finish()

    @shows("AUT-17", "16.3")
    def test_calls_our_users(self) -> None:
        """A guest calls a user without credentials, and both sides can speak in the call and end it."""
        for uri in ("sip:1002@example.com", "sip:1002@alias.example.com", f"sip:1002@{SERVER}"):
            got, sent, ok = self.called(uri)
            self.guest.in_dialog("INFO", ok)
            self.b.answer(self.b.take("INFO"), 200)
            self.guest.take(200)
            self.b.in_callee_dialog("BYE", got, sent)
            self.guest.answer(self.guest.take("BYE"), 200)
            self.b.take(200)
        self.rig.finish()

    def called(self, uri: str) -> tuple[Request, Response, Response]:
        """A call of the guest: the INVITE as received, the 200 as sent and as received."""
        self.guest.invite(uri, from_=self.me)
        self.guest.take(100)
        got = self.b.take("INVITE")
        sent, ok = self.b.pick_up(got, self.guest)
        return got, sent, ok

    @shows("AUT-17")
    def test_nothing_else(self) -> None:
        """Not abroad, not along a Route of their own, and no registration; nobody who is not a user."""
        self.refused(407, "sip:x@198.51.100.5")
        self.refused(407, "sip:1002@example.com", "Route: <sip:198.51.100.5;lr>")
        self.refused(407, "sip:x@198.51.100.5", f"Route: <sip:{SERVER};lr>", to="<sip:x@y>;tag=invented")
        self.refused(407, f"sip:x@198.51.100.5;maddr={SERVER}")
        self.refused(404, "sip:nobody@example.com")
        self.refused(480, "sip:1003@example.com")
        self.refused(401, "sip:example.com", method="REGISTER", to="<sip:1002@example.com>", contact="<sip:x@y>")
        self.rig.finish()

    @shows("AUT-11", "AUT-17")
    def test_under_no_name_of_ours(self) -> None:
        """A guest who claims to be one of us is asked for a password, in every spelling of our names."""
        for uri in ("sip:1001@example.com", "sip:1001@EXAMPLE.COM:5060", f"sip:1001@{SERVER}", "sips:1001@example.com",
                    "sip:1001@alias.example.com", "sip:%31001@example.com.", "sip:1001@example.com:6000",
                    "sip:nobody@example.com", "tel:1001"):
            self.refused(407, "sip:1002@example.com", from_=f"<{uri}>;tag=x")
        self.refused(407, "sip:1002@example.com", "P-Preferred-Identity: <sip:1001@example.com>",
                     from_="<sip:anonymous@anonymous.invalid>;tag=x")
        self.rig.finish()

    @shows("AUT-11", "3325 5")
    def test_asserted_identity(self) -> None:
        """What a guest asserts of itself does not reach our users; an anonymous guest does."""
        self.guest.request("MESSAGE", "sip:1002@example.com", "P-Asserted-Identity: <sip:1001@example.com>",
                           from_='"Anonymous" <sip:anonymous@anonymous.invalid>;tag=x')
        got = self.b.take("MESSAGE")
        self.assertNotIn("p-asserted-identity", got.first)
        self.b.answer(got, 200)
        self.guest.take(200)
        self.rig.finish()

    @shows("AUT-13")
    def test_credentials_of_elsewhere(self) -> None:
        """A guest's credentials for its own realm make it no less a guest, and travel on."""
        line = 'Digest username="guest", realm="elsewhere.example", nonce="n", uri="sip:x", response="0"'
        self.guest.request("MESSAGE", "sip:1002@example.com", f"Proxy-Authorization: {line}", from_=self.me)
        got = self.b.take("MESSAGE")
        self.assertEqual(got.all("proxy-authorization"), [line])
        self.b.answer(got, 200)
        self.guest.take(200)
        self.rig.finish()

    @shows("AUT-11")
    def test_users_still_log_in(self) -> None:
        """One of our users shows a password as ever."""
        a = self.rig.phone("1001")
        request = a.request("MESSAGE", "sip:1002@example.com")
        a.authorized(request, a.take(407))
        self.b.answer(self.b.take("MESSAGE"), 200)
        a.take(200)
        self.rig.finish()


class Tenants(TestCase):
    """Two places on one server with users of the same names."""

    def setUp(self) -> None:
        self.rig = Rig(auth=AUTH, server={"domains": ["example.com", "alias.example.com"], "tenants": ["two.example"]},
                       users={"1001": "first", "1002": "second", "1001@two.example": "third", "2002@two.example": "f"})
        self.one = self.rig.phone("1001")
        self.two = self.rig.phone("1001", "192.0.2.40")

    def login(self, phone: Phone, domain: str, password: str, take: int = 200, user: str = "1001",
              uri: str = "") -> None:
        logged_in(phone, user=user, password=password, take=take, to=f"<sip:1001@{domain}>",
                  from_=f"<sip:1001@{domain}>;tag=1", uri=uri or f"sip:{domain}")

    @shows("REG-40", "10.3/5")
    def test_registrations_apart(self) -> None:
        """Each 1001 logs in with a password of its own, under the bare name or the whole, and has bindings of its own."""
        for user in ("1001", "1001@example.com"):
            self.login(self.one, "example.com", "first", user=user)
            self.login(self.one, "alias.example.com", "first", user=user)
        for user in ("1001", "1001@two.example"):
            self.login(self.two, "two.example", "third", user=user)
        for domain, phone in (("example.com", self.one), ("two.example", self.two)):
            found = [binding.contact for binding in self.rig.core.location.bindings(f"1001@{domain}")]
            self.assertEqual(found, [phone.contact])
        self.rig.finish()

    @shows("REG-33", "AUT-04")
    def test_not_each_other(self) -> None:
        """The password of one place is wrong in the other, and the whole name of one may not register the other."""
        self.login(self.one, "two.example", "first", take=401)
        self.login(self.two, "example.com", "third", take=401)
        self.login(self.one, "two.example", "first", take=403, user="1001@example.com")
        self.login(self.two, "example.com", "third", take=403, user="1001@two.example")
        self.login(self.one, "example.com", "first", take=404, uri="sip:two.example")
        self.assertEqual(len(self.rig.core.location), 0)
        self.rig.finish()

    @shows("AUT-11", "16.5")
    def test_calls(self) -> None:
        """1001@two.example is called there and not here, and calls under that name only."""
        self.login(self.one, "example.com", "first")
        self.login(self.two, "two.example", "third")
        for from_, password, uri, status in (
                ("1001@two.example", "third", "sip:1001@example.com", 200),
                ("1001@two.example", "first", "sip:1001@example.com", 407),
                ("1001@example.com", "third", "sip:1001@example.com", 407)):
            request = self.two.request("MESSAGE", uri, from_=f"<sip:{from_}>;tag=1")
            self.two.authorized(request, self.two.take(407), password=password)
            if status == 200:
                self.one.answer(self.one.take("MESSAGE"), 200)
            self.two.take(status)
        request = self.one.request("MESSAGE", "sip:1001@two.example", from_="<sip:1001@two.example>;tag=1")
        self.one.authorized(request, self.one.take(407), user="1001@example.com", password="first")
        self.one.take(403)
        request = self.one.request("MESSAGE", "sip:1001@two.example")
        self.one.authorized(request, self.one.take(407), password="first")
        self.two.answer(self.two.take("MESSAGE"), 200)
        self.one.take(200)
        request = self.one.request("MESSAGE", "sip:1002@two.example")
        self.one.authorized(request, self.one.take(407), password="first")
        self.one.take(404)
        self.rig.finish()


class Aliases(TestCase):
    """All names of one place lead to one user."""

    @shows("REG-32", "16.5")
    def test_called_by_any_name(self) -> None:
        """A user is called by domain, alias and address, with our ports, escapes, IPv6, sips aside and by number."""
        rig = Rig(listen=(*LISTEN, ("udp", "2001:db8::1", 5060)))
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register(to="<sip:1002@alias.example.com>", uri=f"sip:{SERVER}")
        for uri in ("sip:1002@example.com", "sip:1002@EXAMPLE.COM:5060", "sip:1002@alias.example.com;user=phone",
                    f"sip:1002@{SERVER}", f"sip:1002@{SERVER}:5060;transport=udp", "sip:%31%3002@example.com",
                    "sip:1002@[2001:db8::1]", "sip:1002@[2001:DB8::0:1]:5060", "tel:1002", "tel:1-0.02",
                    "sip:1002@example.com:5061", f"sip:1002@{SERVER}:5061;transport=tls", "sip:1002@example.com.",
                    f"sip:1002@example.com;maddr={SERVER}", "SIP:1002:secret@example.com"):
            got = answered(a, b, uri)
            self.assertEqual(got.uri_text, b.contact, uri)
        rig.finish()

    @shows("AUT-08", "R7616-3.4.6-01", "R7616-3.4.6-02", "R8760-2.6-02", "8760 2.6")
    def test_signed_by_another_name(self) -> None:
        """A phone may sign one of our names and ask by another; another user's name it may not."""
        rig = Rig(auth=AUTH)
        a, b = rig.phone("1001"), rig.phone("1002")
        rig.binding("1002", b.contact)
        for signed, status in ((f"sip:1002@{SERVER}", 200), ("sip:1002@alias.example.com", 200), ("tel:1002", 400),
                               ("sip:1003@example.com", 400), ("sip:1002@elsewhere.example", 400)):
            a.request("MESSAGE", "sip:1002@example.com")
            params = parse_challenge(a.take(407).first["proxy-authenticate"])
            assert params is not None
            line = digest_answer(params, "MESSAGE", signed, "1001", "secret1", "c")
            a.request("MESSAGE", "sip:1002@example.com", f"Proxy-Authorization: {line}")
            if status == 200:
                b.answer(b.take("MESSAGE"), 200)
            a.take(status)
        rig.finish()


class Spiral(TestCase):
    """A binding that leads to another user of ours."""

    @shows("AUT-11", "16.3")
    def test_let_through_once(self) -> None:
        """A call that a binding sends to ourselves again is not challenged a second time; strangers' copies of it are."""
        rig = Rig(auth=AUTH)
        rig.dns.address("example.com", SERVER)
        mirror = rig.network.endpoint("udp", SERVER, 5060)
        mirror.on_receive = lambda data: mirror.send(data, (SERVER, 5060))
        a, b = rig.phone("1001"), rig.phone("1002")
        rig.binding("1003", "sip:1002@example.com")
        rig.binding("1002", b.contact)
        request = a.request("MESSAGE", "sip:1003@example.com")
        a.authorized(request, a.take(407))
        rig.advance(0.5)
        got = b.take("MESSAGE")
        self.assertEqual(len(got.values("via")), 3)
        b.answer(got, 200)
        rig.advance(0.5)
        a.take(200)
        rig.finish()


class NobodyAsked(TestCase):
    """[auth] required = false: everybody counts as authenticated."""

    @shows("AUT-17", "16.5")
    def test_relays(self) -> None:
        """Any From passes, identities asserted by it too; a call abroad and its ACK pass, an ACK to ourselves ends here."""
        rig = Rig()
        a, out = rig.phone("whoever"), rig.phone("somebody", "198.51.100.5")
        invite = a.invite("sip:somebody@198.51.100.5", "P-Asserted-Identity: <sip:x@y>", from_="<sip:x@y>;tag=1")
        a.take(100)
        got = out.take("INVITE")
        self.assertEqual(got.first["p-asserted-identity"], "<sip:x@y>")
        out.pick_up(got, a)
        a.request("ACK", "sip:example.com", to="<sip:example.com>;tag=1", call_id=invite.call_id)
        a.request("ACK", "sip:1002@example.com", to="<sip:1002@example.com>;tag=1")
        rig.finish()

    @shows("AUT-09", "8.2.7", "17.1.1.3", "R3261-8.2.7-03")
    def test_ack_of_a_refusal(self) -> None:
        """The ACK of an INVITE refused without state ends here, though it looks like one on its way abroad."""
        rig = Rig()
        a, out = rig.phone("1001"), rig.phone("somebody", "198.51.100.5")
        for fields, status in (({"max_forwards": "0"}, 483), ({}, 420)):
            lines = ["Proxy-Require: foo"] if status == 420 else []
            invite = a.invite("sip:somebody@198.51.100.5", *lines, **fields)
            a.ack(a.take(status), invite)
        rig.advance(1)
        out.silent()
        rig.finish()

    @shows("AUT-16", "8.2.7", "17.1.1.3")
    def test_ack_of_a_refusal_within_a_call(self) -> None:
        """So does the ACK of a re-INVITE refused without state, whose To tag is the callee's; the call goes on."""
        for auth in (False, True):
            rig = Rig(auth={"required": auth})
            a, b = rig.phone("1001"), rig.phone("1002")
            rig.binding("1002", b.contact)
            invite = a.invite("1002")
            if auth:
                a.authorized(invite, a.take(407))
            a.take(100)
            b.answer(b.take("INVITE"), 200)
            ok = a.take(200)
            a.ack(ok)
            b.take("ACK")
            for cseq, (fields, lines, status) in enumerate((({"max_forwards": "0"}, [], 483),
                                                            ({}, ["Proxy-Require: foo"], 420)), 10):
                again = a.in_dialog("INVITE", ok, *lines, cseq=cseq, **fields)
                refusal = a.take(status)
                route = [f"Route: {value}" for value in again.values("route")]
                for _ in range(2):
                    a.request("ACK", again.uri_text, *route, to=refusal.first["to"], from_=refusal.first["from"],
                              call_id=refusal.call_id, cseq=cseq, via=f"Via: {again.first['via']}")
            b.silent()
            a.in_dialog("INVITE", ok, cseq=20)
            a.take(100)
            b.answer(b.take("INVITE"), 200)
            a.ack(a.take(200))
            b.take("ACK")
            rig.finish()

    @shows("AUT-02")
    def test_credentials_are_no_harm(self) -> None:
        """Credentials that a phone sends all the same change nothing."""
        rig = Rig()
        a = rig.phone("1001")
        for line in ('Digest username="x", realm="example.com", nonce="n", uri="sip:y", response="0"', "nonsense"):
            a.register(f"Authorization: {line}")
        rig.finish()
