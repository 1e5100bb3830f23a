"""Never an open relay: what strangers, tokens and invented dialogs can do (RFC 3261 s16.3, s16.4, s26.3.2)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message.address import Address
from sipd.message.message import Request, Response
from tests.support.cases import shows
from tests.support.rig import SERVER, Phone, Rig

AUTH = {"required": True}
FOREIGN = "198.51.100.5"


def passed(phone: Phone, request: Request) -> Request:
    """The request again, past its 407."""
    refusal = phone.take(407)
    if request.method == "INVITE":
        phone.ack(refusal, request)
    return phone.authorized(request, refusal)


class RelayCase(TestCase):
    """A server with auth, its user 1001, user 1002 registered, and somebody in the world outside."""

    def setUp(self) -> None:
        self.rig = Rig(auth=AUTH)
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        self.rig.binding("1002", self.b.contact)
        self.out = self.rig.phone("somebody", FOREIGN)
        self.rig.dns.address("elsewhere.example", FOREIGN)

    def call(self, caller: Phone, callee: Phone, uri: str) -> tuple[Request, Response, Response]:
        """A call with credentials: the INVITE as received, the 200 as sent and as received."""
        passed(caller, caller.invite(uri))
        caller.take(100)
        got = callee.take("INVITE")
        sent, ok = callee.pick_up(got, caller)
        return got, sent, ok


class Strangers(RelayCase):
    """Without credentials."""

    @shows("AUT-17")
    def test_to_a_foreign_domain(self) -> None:
        """Every way to ask for a request to be sent abroad is refused, and nothing arrives there."""
        stranger = self.rig.phone("stranger", "203.0.113.9")
        ours, there = f"<sip:{SERVER};lr>", f"<sip:{FOREIGN};lr>"
        for method in ("INVITE", "MESSAGE", "OPTIONS", "REFER", "SUBSCRIBE", "BYE", "REGISTER", "X-NEW"):
            for uri, lines in (
                    ("sip:x@elsewhere.example", []),
                    (f"sip:x@{FOREIGN}:5060", []),
                    (f"sip:x@{FOREIGN}", [f"Route: {ours}"]),
                    ("sip:1002@example.com", [f"Route: {ours}, {there}"]),
                    ("sip:1002@example.com", [f"Route: {there}"]),
                    (f"sip:{SERVER};lr", [f"Route: <sip:x@{FOREIGN}>"]),
                    (f"sip:0123456789abcdef@{SERVER};lr", [f"Route: <sip:x@{FOREIGN}>"]),
                    (f"sip:x@{FOREIGN};maddr={SERVER}", []),
                    (f"sip:x@example.com:6000;maddr={FOREIGN}", []),
                    (f"sip:1002@{SERVER}:5070", [])):
                for to in (f"<{uri}>", f"<{uri}>;tag=invented"):
                    request = stranger.request(method, uri, *lines, to=to)
                    refusal = stranger.take()
                    self.assertEqual(refusal.status, 407, f"{method} {uri} {lines}")
                    if method == "INVITE":
                        stranger.ack(refusal, request)
        self.rig.advance(2)
        self.out.silent()
        self.b.silent()
        self.rig.finish()

    @shows("AUT-17", "16.3")
    def test_our_own_name(self) -> None:
        """Neither our user's From nor our Via, nor the place of our users in P-Asserted-Identity, opens the way."""
        stranger = self.rig.phone("1001", "203.0.113.9")
        stranger.request("MESSAGE", "sip:x@elsewhere.example")
        stranger.take(407)
        stranger.request("MESSAGE", "sip:1002@example.com", "P-Asserted-Identity: <sip:1001@example.com>")
        stranger.take(407)
        before = len(self.rig.network.packets)
        stranger.request("MESSAGE", "sip:x@elsewhere.example",
                         via=f"Via: SIP/2.0/UDP {SERVER}:5060;branch=z9hG4bK0011;rport")
        stranger.take(407)
        self.assertEqual(len(self.rig.network.packets), before + 2)
        self.out.silent()
        self.rig.finish()

    @shows("AUT-17", "AUT-10", "R3261-22.1-04")
    def test_ack(self) -> None:
        """An ACK of nobody's call goes nowhere and is not answered, with whatever Route, tag or token."""
        stranger = self.rig.phone("stranger", "203.0.113.9")
        for lines in ([], [f"Route: <sip:{SERVER};lr>"], [f"Route: <sip:0123456789abcdef@{SERVER};lr>"],
                      [f"Route: <sip:{FOREIGN};lr>"], [f"Route: <sip:{SERVER};lr>, <sip:{FOREIGN};lr>"]):
            for uri in (f"sip:x@{FOREIGN}", "sip:1002@example.com", "sip:example.com", f"sip:{SERVER};lr"):
                for to in (f"<{uri}>", f"<{uri}>;tag=invented"):
                    stranger.request("ACK", uri, *lines, to=to)
        self.rig.advance(2)
        for phone in self.rig.phones:
            phone.silent()
        self.rig.finish()

    @shows("AUT-17")
    def test_what_anybody_may_ask(self) -> None:
        """OPTIONS to the server itself is answered to anybody; it is no request that is relayed."""
        stranger = self.rig.phone("stranger", "203.0.113.9")
        stranger.request("OPTIONS", "sip:example.com")
        self.assertIn("REGISTER", stranger.take(200).first["allow"])
        stranger.request("OPTIONS", "sip:1002@example.com")
        stranger.take(407)
        self.rig.finish()


class Users(RelayCase):
    """With credentials, under whose name."""

    def tried(self, status: int, uri: str = "sip:1002@example.com", *lines: str, method: str = "MESSAGE",
              user: str = "1001", **fields: Any) -> None:
        """A request of 1001, past the challenge, gets `status`; 200 means that the phone called answers it."""
        request = self.a.request(method, uri, *lines, **fields)
        self.a.authorized(request, self.a.take(407), user=user)
        if status == 200:
            self.b.answer(self.b.take(method), 200)
        self.a.take(status)
        self.b.silent()

    @shows("AUT-11", "R3261-22-01")
    def test_from_must_be_ones_own(self) -> None:
        """Another user's From, a foreign one, nobody's and one that is no address-of-record get 403, in a new request
        and with an invented To tag; one's own passes in all its spellings."""
        for uri in ("sip:1002@example.com", "sip:1002@alias.example.com", "sip:1001@elsewhere.example",
                    "sip:1001@example.com:6000", f"sip:1001@{SERVER}:5070", "sip:example.com", "tel:1002",
                    "sip:anonymous@anonymous.invalid", "sips:1002@example.com", "mailto:1001@example.com",
                    "sip:1001%00@example.com", "sip:nobody@example.com"):
            self.tried(403, from_=f'"1001" <{uri}>;tag=1')
            self.tried(403, from_=f"<{uri}>;tag=1", to="<sip:1002@example.com>;tag=invented")
        for uri in ("sip:1001@example.com", "sip:1001@EXAMPLE.COM:5060;user=phone", "sip:%31001@alias.example.com",
                    f"sip:1001@{SERVER}", "sips:1001@example.com", "tel:1001", f"SIP:1001:pw@{SERVER}:5060",
                    "tel:1-0.0(1);phone-context=x"):
            self.tried(200, from_=f'"The boss" <{uri}>;tag=1')
        self.tried(200, from_="sip:1001@example.com;tag=1", user="1001@example.com")
        self.rig.finish()

    @shows("AUT-11", "3323 4.1")
    def test_anonymous(self) -> None:
        """An anonymous From passes when P-Preferred-Identity is the caller's own, and the callee does not see it."""
        anonymous = '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=1'
        self.tried(403, "sip:1002@example.com", "P-Preferred-Identity: <sip:1002@example.com>", from_=anonymous)
        request = self.a.request("MESSAGE", "sip:1002@example.com", 'P-Preferred-Identity: "A" <sip:1001@example.com>',
                                 from_=anonymous)
        self.a.authorized(request, self.a.take(407))
        got = self.b.take("MESSAGE")
        self.assertNotIn("p-preferred-identity", got.first)
        self.b.answer(got, 200)
        self.a.take(200)
        self.rig.finish()

    @shows("AUT-11", "R3261-16.6-02", "3325 5")
    def test_asserted_identity(self) -> None:
        """An identity that a phone asserts of itself is not passed on, in a new request and within a call."""
        lines = ("P-Asserted-Identity: <sip:1009@example.com>, <tel:+1999>",
                 "P-Preferred-Identity: <sip:1009@example.com>", "Remote-Party-ID: <sip:1009@example.com>;party=calling")
        theirs = {"p-asserted-identity", "p-preferred-identity", "remote-party-id"}
        request = self.a.request("MESSAGE", "sip:1002@example.com", *lines)
        self.a.authorized(request, self.a.take(407))
        got = self.b.take("MESSAGE")
        self.assertFalse(theirs & set(got.first))
        self.b.answer(got, 200)
        self.a.take(200)
        _, _, ok = self.call(self.a, self.b, "1002")
        self.a.in_dialog("BYE", ok, *lines)
        got = self.b.take("BYE")
        self.assertFalse(theirs & set(got.first))
        self.b.answer(got, 200)
        self.a.take(200)
        self.rig.finish()

    @shows("AUT-17", "16.5")
    def test_users_may_call_abroad(self) -> None:
        """A user reaches a foreign domain, and the foreign phone ends the call without credentials of ours."""
        got, sent, _ = self.call(self.a, self.out, "sip:somebody@elsewhere.example")
        self.assertEqual(got.uri_text, "sip:somebody@elsewhere.example")
        self.out.in_callee_dialog("BYE", got, sent)
        self.a.answer(self.a.take("BYE"), 200)
        self.out.take(200)
        self.rig.finish()

    @shows("AUT-11", "19.1.1")
    def test_a_phone_on_our_host(self) -> None:
        """A port of our address where we do not listen is another program's: a request goes there, not to our user."""
        other = self.rig.phone("x", SERVER, port=5070)
        request = self.a.request("MESSAGE", f"sip:1002@{SERVER}:5070")
        self.a.authorized(request, self.a.take(407))
        other.answer(other.take("MESSAGE"), 200)
        self.a.take(200)
        self.b.silent()
        self.rig.finish()


class Tokens(RelayCase):
    """The token in our Record-Route (s16.4)."""

    def setUp(self) -> None:
        super().setUp()
        self.got, self.sent, self.ok = self.call(self.a, self.b, "1002")
        self.route = self.ok.values("record-route")[0]

    def forged(self, phone: Phone, status: int, method: str = "BYE", **fields: Any) -> None:
        """A request along the call's route with something changed gets `status`."""
        route = fields.pop("route", self.route)
        fields.setdefault("from_", self.ok.first["from"])
        fields.setdefault("to", self.ok.first["to"])
        fields.setdefault("call_id", self.ok.call_id)
        request = phone.request(method, fields.pop("uri", self.b.contact), f"Route: {route}", cseq=77, **fields)
        refusal = phone.take(status)
        if method == "INVITE":
            phone.ack(refusal, request)

    @shows("AUT-17", "AUT-16", "16.4")
    def test_bound_to_the_call(self) -> None:
        """The token is good for its Call-ID and tags only: in another call, without a To tag or altered it is nothing."""
        thief = self.rig.phone("thief", "203.0.113.66")
        user = Address.parse(self.route).uri.user or ""
        self.assertTrue(user)
        from_, to = self.ok.first["from"], self.ok.first["to"]
        for method in ("BYE", "INVITE", "MESSAGE"):
            self.forged(thief, 407, method, call_id="another")
            self.forged(thief, 407, method, from_=from_.replace(";tag=", ";tag=x"))
            self.forged(thief, 407, method, to=to.partition(";tag")[0])
            self.forged(thief, 407, method, from_=to, to="<sip:x@elsewhere.example>;tag=other")
            for route in (self.route.replace(user, user[:-1] + ("0" if user[-1] != "0" else "1")),
                          self.route.replace(user, user[:-1]),
                          self.route.replace(user, user + ".fg"), self.route.replace(user, user * 40),
                          self.route.replace(f"{user}@", ""), self.route.replace(user, "%00"),
                          self.route.replace(user, user.upper()) if user.upper() != user else "<sip:example.com;lr>"):
                self.forged(thief, 407, method, route=route)
        for fields in ({"call_id": "another"}, {"to": to.partition(";tag")[0]}, {"to": "<sip:x@y>;tag=z", "from_": "<sip:x@y>;tag=q"}):
            values = {"from_": from_, "to": to, "call_id": self.ok.call_id} | fields
            thief.request("ACK", self.b.contact, f"Route: {self.route}", cseq=1, **values)  # type: ignore[arg-type]
        self.rig.advance(1)
        self.b.silent()
        self.out.silent()
        self.rig.finish()

    @shows("AUT-16", "12.2")
    def test_any_request_of_the_call(self) -> None:
        """INFO, UPDATE, MESSAGE, REFER, NOTIFY and what nobody knows pass both ways with the token, from any address."""
        moved = self.rig.phone("1001", "203.0.113.70")
        for method in ("INFO", "UPDATE", "MESSAGE", "REFER", "NOTIFY", "PRACK", "OPTIONS", "X-NEW"):
            moved.in_dialog(method, self.ok)
            self.b.answer(self.b.take(method), 200)
            moved.take(200)
            self.b.in_callee_dialog(method, self.got, self.sent)
            self.a.answer(self.a.take(method), 200)
            self.b.take(200)
        self.rig.finish()

    @shows("AUT-16", "16.4")
    def test_strict_router_before_us(self) -> None:
        """The token counts where a strict router put it, into the Request-URI."""
        uri = self.route.strip("<>")
        self.a.request("BYE", uri, f"Route: <{self.b.contact}>", to=self.ok.first["to"], from_=self.ok.first["from"],
                       call_id=self.ok.call_id, cseq=88)
        got = self.b.take("BYE")
        self.assertEqual(got.uri_text, self.b.contact)
        self.b.answer(got, 200)
        self.a.take(200)
        self.rig.finish()

    @shows("AUT-16", "16.4")
    def test_preloaded_route(self) -> None:
        """A phone that puts its outbound proxy, us, above the route set of the call is known by the token below."""
        self.a.request("BYE", self.b.contact, f"Route: <sip:{SERVER};lr>, {self.route}", to=self.ok.first["to"],
                       from_=self.ok.first["from"], call_id=self.ok.call_id, cseq=88)
        self.b.answer(self.b.take("BYE"), 200)
        self.a.take(200)
        self.rig.finish()

    @shows("AUT-16")
    def test_restart(self) -> None:
        """A BYE passes a server that was started anew with the same secret; one of another secret challenges it."""
        for secret, status in ((b"s" * 32, 200), (b"x" * 32, 407)):
            rig = Rig(auth=AUTH, secret=secret)
            a, b = rig.phone("1001", self.a.address), rig.phone("1002", self.b.address)
            a.in_dialog("BYE", self.ok)
            if status == 200:
                b.answer(b.take("BYE"), 200)
            a.take(status)
            b.silent()
            rig.finish()
        self.rig.finish()

    @shows("AUT-16", "22.3")
    def test_without_token(self) -> None:
        """A request of the dialog that lost its Route is challenged once and then passes under the phone's own name."""
        bye = self.a.request("BYE", self.b.contact, to=self.ok.first["to"], from_=self.ok.first["from"],
                             call_id=self.ok.call_id, cseq=90)
        self.a.authorized(bye, self.a.take(407))
        self.b.answer(self.b.take("BYE"), 200)
        self.a.take(200)
        self.rig.finish()
