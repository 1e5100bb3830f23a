"""Who is let in: challenges and credentials on the real core (RFC 3261 s22, RFC 7616, RFC 8760)."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from twisted.trial.unittest import TestCase

from sipd.auth.digest import answer, parse_challenge
from sipd.message.message import Request, Response
from tests.support.cases import shows
from tests.support.rig import LISTEN, Phone, Rig

AUTH = {"required": True}


def challenge_of(refusal: Response, algorithm: str = "MD5") -> dict[str, str]:
    """The parameters of the challenge with that algorithm."""
    name = "proxy-authenticate" if refusal.status == 407 else "www-authenticate"
    for value in refusal.all(name):
        params = parse_challenge(value)
        if params is not None and params.get("algorithm", "MD5") == algorithm:
            return params
    raise AssertionError(f"no challenge with {algorithm}: {refusal.all(name)}")


class AuthCase(TestCase):
    """A server that asks for passwords, and one phone."""

    auth: dict[str, Any] = AUTH

    def setUp(self) -> None:
        self.rig = Rig(auth=self.auth)
        self.a = self.rig.phone("1001")

    def tearDown(self) -> None:
        self.rig.finish()

    def try_register(self, *credentials: str, take: int | None = None, **fields: Any) -> Response:
        """A REGISTER with Authorization lines."""
        return self.a.register(*(f"Authorization: {one}" for one in credentials), take=take, **fields)

    def challenge(self, algorithm: str = "MD5") -> dict[str, str]:
        """A fresh challenge."""
        return challenge_of(self.a.register(take=401), algorithm)

    def signed(self, params: dict[str, str] | None = None, *, uri: str = "sip:example.com", user: str = "1001",
               password: str = "secret1", nc: int = 1, method: str = "REGISTER") -> str:
        return answer(params or self.challenge(), method, uri, user, password, "0a4f113b", nc)

    @property
    def stored(self) -> int:
        return len(self.rig.core.location)


class Registering(AuthCase):
    """401 and Authorization (s22.2)."""

    @shows("AUT-01", "R3261-10.3-09", "R3856-7.2-01")
    def test_challenge(self) -> None:
        """401 with realm, nonce, qop="auth", algorithm and a To tag; nothing is kept, whoever is named."""
        for user, transport in (("1001", "udp"), ("nobody", "tcp"), ("1002", "tls")):
            phone = self.rig.phone(user, transport=transport)
            refusal = phone.register(take=401)
            params = challenge_of(refusal)
            self.assertEqual((params["realm"], params["qop"]), ("example.com", "auth"))
            self.assertTrue(params["nonce"])
            self.assertIn('qop="auth"', refusal.first["www-authenticate"])
            self.assertTrue(refusal.to_tag)
            self.assertNotIn("stale", params)
        self.assertEqual(self.rig.inventory.left(), {})

    @shows("AUT-01", "8.2.7")
    def test_repeat(self) -> None:
        """A repeated REGISTER gets the same To tag, another one another."""
        request = self.a.request("REGISTER", "sip:example.com", to=f"<{self.a.aor}>", contact="*")
        one = self.a.take(401).to_tag
        self.a.send(request)
        self.assertEqual(self.a.take(401).to_tag, one)
        self.assertNotEqual(self.a.register(take=401).to_tag, one)

    @shows("AUT-02", "R7616-3.6-01", "R8760-2.6-03")
    def test_right_answer(self) -> None:
        """qop=auth with nc=00000001 is let in, under the bare name and under name@domain."""
        for user in ("1001", "1001@example.com"):
            self.try_register(self.signed(user=user), take=200)
        self.assertEqual(self.stored, 1)

    @shows("AUT-02", "7616 3.4")
    def test_spellings(self) -> None:
        """Order, case, quotes and white space of the parameters do not matter, nor do parameters nobody knows."""
        params = self.challenge()
        plain = self.signed(params)
        fields = dict(part.split("=", 1) for part in plain.removeprefix("Digest ").split(", "))
        fields["qop"] = '"auth"'
        fields["ALGORITHM"] = fields.pop("algorithm").lower()
        fields["Response"] = fields.pop("response").upper()
        text = " ,\r\n\t".join(f"{name} = {value}" for name, value in reversed(fields.items()))
        self.try_register(f'dIGEST  {text}, x-new="a, b\\"c"', take=200)
        # a client that does not repeat the algorithm means MD5
        self.try_register(self.signed().replace(", algorithm=MD5", ""), take=200)

    @shows("AUT-03", "R3261-22.4-01")
    def test_without_qop(self) -> None:
        """A client of RFC 2069 is let in, once per nonce."""
        params = self.challenge()
        del params["qop"]
        credentials = self.signed(params)
        self.assertNotIn("qop", credentials)
        self.try_register(credentials, take=200)
        again = self.try_register(credentials, take=401)
        self.assertEqual(challenge_of(again)["stale"], "true")

    @shows("AUT-04", "R7616-3.3-01", "R7616-3.6-01")
    def test_wrong(self) -> None:
        """A wrong password and an unknown user get the same 401, not stale, and change no binding."""
        self.try_register(self.signed(), take=200)
        seen = set()
        for user, password in (("1001", "wrong"), ("nobody", "secret1"), ("", ""), ("1001@elsewhere", "secret1"),
                               ("1002", "secret1")):
            for contact in (None, "*"):
                refusal = self.try_register(self.signed(user=user, password=password), take=401, contact=contact,
                                            expires=0)
                seen.add(tuple((name, value.replace(challenge_of(refusal)["nonce"], ""))
                               for name, value, _ in refusal.headers if name not in ("via", "from", "to", "call-id",
                                                                                     "cseq")))
                self.assertNotIn("stale", challenge_of(refusal))
        self.assertEqual(len(seen), 1, seen)
        self.assertEqual(self.stored, 1)

    @shows("AUT-05", "R7616-3.3-01")
    def test_old_nonce(self) -> None:
        """The right digest over a nonce that is old or invented gets stale=true; with a wrong password not."""
        old = self.challenge()
        self.rig.advance(400, 20)
        forged = {**old, "nonce": old["nonce"][:-1] + ("0" if old["nonce"][-1] != "0" else "1")}
        odd = {**old, "nonce": "a nonce of nobody"}
        empty = {**old, "nonce": ""}
        for params in (old, forged, odd, empty):
            self.assertEqual(challenge_of(self.try_register(self.signed(params), take=401)).get("stale"), "true")
            refusal = self.try_register(self.signed(params, password="wrong"), take=401)
            self.assertNotIn("stale", challenge_of(refusal))
        self.assertEqual(self.stored, 0)
        # the nonce that came with it works
        refusal = self.try_register(self.signed(old), take=401)
        self.try_register(self.signed(challenge_of(refusal)), take=200)

    @shows("AUT-06", "R7616-3.4-03", "R7616-3.5-01")
    def test_counting(self) -> None:
        """The next count of a nonce is taken, in any order within a window; none is taken twice: stale=true."""
        params = self.challenge()
        for nc in (1, 2, 3, 7, 5, 4, 6, 16, 15):
            self.try_register(self.signed(params, nc=nc), take=200)
        for nc in (1, 5, 7, 16):
            refusal = self.try_register(self.signed(params, nc=nc), take=401)
            self.assertEqual(challenge_of(refusal)["stale"], "true")
        self.try_register(self.signed(params, nc=17), take=200)

    @shows("AUT-08")
    def test_other_uri(self) -> None:
        """Credentials over another URI are refused, equivalent spellings are fine, and the method is part of the proof."""
        for uri in ("sip:elsewhere.example", "sip:1002@example.com", "sip:example.com:6000", "http://example.com/", "*",
                    ""):
            self.assertIn(self.try_register(self.signed(uri=uri)).status, (400, 401), uri)
        self.assertIn(self.try_register(self.signed(method="INVITE")).status, (400, 401))
        self.assertEqual(self.stored, 0)
        for uri in ("sip:EXAMPLE.com", "SIP:example.com", "sip:example.com;newparam=1"):
            self.try_register(self.signed(uri=uri), take=200)

    @shows("AUT-15")
    def test_algorithms(self) -> None:
        """SHA-256 is offered and taken; what was not offered is challenged again, whoever claims it."""
        self.try_register(self.signed(self.challenge("SHA-256")), take=200)
        params = self.challenge()
        md5 = self.signed(params)
        for name in ("SHA-1", "MD5-sess", "SHA-512-256", "AKAv1-MD5", "x"):
            self.try_register(md5.replace("algorithm=MD5", f"algorithm={name}"), take=401)
        self.try_register(md5.replace("qop=auth", "qop=auth-int"), take=401)

    @shows("AUT-15", "8760 2.3")
    def test_other_schemes_are_no_harm(self) -> None:
        """Basic, Bearer and credentials of other realms beside ours are passed over."""
        good = self.signed()
        other = self.signed({**self.challenge(), "realm": "elsewhere.example"})
        self.try_register("Basic MTAwMTpzZWNyZXQx", other, good, take=200)
        self.try_register("Basic MTAwMTpzZWNyZXQx", "Bearer example.com", take=401)
        self.try_register(other, take=401)

    @shows("AUT-05", "22.3")
    def test_several_of_our_realm(self) -> None:
        """A phone that keeps old credentials beside the new ones is let in by the good ones, whichever come first."""
        old = self.signed()
        self.try_register(old, take=200)
        self.try_register(old, self.signed(), take=200)
        self.try_register(self.signed(), old, take=200)
        self.try_register(self.signed(password="wrong"), self.signed(), take=200)
        refusal = self.try_register(old, self.signed(password="wrong"), take=401)
        self.assertEqual(challenge_of(refusal)["stale"], "true")

    @shows("AUT-04", "22.4")
    def test_unreadable(self) -> None:
        """Credentials that make no sense get 400 or 401 and are no bug."""
        good = self.signed()
        for text in ("Digest", "Digest ", "", "Digest realm", good + ", x", good.replace(", ", " ", 1),
                     good.replace("nc=00000001", "nc=1"), good.replace("nc=00000001", "nc=zzzzzzzz"),
                     good.replace("nc=00000001, ", "").replace(", nc=00000001", ""), good + ', username="1002"',
                     good.replace('"1001"', '"\udcff\udcfe"'), "Digest " + "a=b, " * 1500 + good[7:], "\u00e4" + good,
                     good.replace("nc=00000001", "nc=\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661")):
            self.assertIn(self.try_register(text).status, (400, 401), text)
        self.assertEqual((self.stored, self.rig.bugs), (0, []))
        self.try_register(good, take=200)

    @shows("AUT-18", "R7616-3.4-04")
    def test_two_hundred_failures(self) -> None:
        """Two hundred failed logins: each answered, nothing kept but in the log, and the right password works after."""
        for _ in range(200):
            self.try_register(self.signed(password="wrong"), take=401)
        self.assertEqual(self.rig.inventory.left(), {})
        told = [fields for kind, fields in self.rig.records if kind == "refused"]
        self.assertEqual(len(told), 200)
        self.assertEqual({(one["reason"], one["status"], one["source"]) for one in told},
                         {("wrong password", 401, f"{self.a.address}:5060")})
        self.assertNotIn("secret1", repr(self.rig.records))
        self.try_register(self.signed(), take=200)


class OnlySha(AuthCase):
    """A server with SHA-256 alone."""

    auth = {"required": True, "algorithms": ["SHA-256"]}

    @shows("AUT-15")
    def test_md5_is_refused(self) -> None:
        """One challenge, and MD5 gets nowhere, named or implied; SHA-256 does."""
        refusal = self.a.register(take=401)
        self.assertEqual(len(refusal.all("www-authenticate")), 1)
        params = challenge_of(refusal, "SHA-256")
        md5 = self.signed({**params, "algorithm": "MD5"})
        self.try_register(md5, take=401)
        self.try_register(md5.replace(", algorithm=MD5", ""), take=401)
        self.try_register(self.signed(params), take=200)


class Restarted(TestCase):
    """What a phone remembers from before a restart."""

    @shows("AUT-05", "7616 3.3")
    def test_nonce_of_an_earlier_process(self) -> None:
        """A nonce of the process before gets stale=true, and the next try succeeds without a question to the user."""
        rig = Rig(auth=AUTH)
        rig.advance(5)
        params = challenge_of(rig.phone("1001").register(take=401))
        later = Rig(auth=AUTH)
        nonces = later.core.nonces
        nonces._keyed = blake2b(key=b"another process" * 2, digest_size=9)
        b = later.phone("1001")
        line = answer(params, "REGISTER", "sip:example.com", "1001", "secret1", "c")
        refusal = b.register(f"Authorization: {line}", take=401)
        self.assertEqual(challenge_of(refusal)["stale"], "true")
        line = answer(challenge_of(refusal), "REGISTER", "sip:example.com", "1001", "secret1", "c")
        b.register(f"Authorization: {line}")
        later.finish()


class Calling(TestCase):
    """407 and Proxy-Authorization (s22.3)."""

    def setUp(self) -> None:
        self.rig = Rig(auth=AUTH)
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002", transport="tcp")
        self.rig.binding("1002", self.b.contact, flow=self.b.connection.flow.id,  # type: ignore[union-attr]
                         source=None)
        self.b.accept().on_connect = self.connected

    def connected(self, connection: Any) -> None:
        """The phone takes the server's connection for its own."""
        self.b.connection = connection

    def call(self, *extra: str, **fields: Any) -> tuple[Request, Request]:
        """A call past the challenge: the INVITE as sent and as the callee has it."""
        invite = self.a.invite("1002", *extra, **fields)
        invite = self.a.prove(invite)
        self.a.take(100)
        self.rig.advance(0.1)
        return invite, self.b.take("INVITE")

    @shows("AUT-09", "R3261-22.1-01", "R3261-22.3-01", "R7616-3.8-01", "R3261-16.3-01", "R3261-16.3-13")
    def test_invite(self) -> None:
        """407 with Proxy-Authenticate; its ACK ends here, repeats too; the callee hears nothing and nothing is kept."""
        invite = self.a.invite("1002")
        refusal = self.a.take(407)
        self.assertTrue(refusal.to_tag)
        self.assertNotIn("www-authenticate", refusal.first)
        self.assertEqual(challenge_of(refusal)["realm"], "example.com")
        self.a.send(invite)
        self.assertEqual(self.a.take(407).to_tag, refusal.to_tag)
        self.a.ack(refusal, invite)
        self.a.ack(refusal, invite)
        self.rig.advance(1)
        self.b.silent()
        self.a.silent()
        self.rig.finish()

    @shows("AUT-09", "22.3")
    def test_authorized(self) -> None:
        """With credentials the call goes through; those for our realm end here."""
        for method in ("MESSAGE", "OPTIONS", "SUBSCRIBE", "PUBLISH", "X-NEW"):
            request = self.a.request(method, "sip:1002@example.com", "Event: conference")
            self.a.authorized(request, self.a.take(407))
            self.rig.advance(0.1)
            got = self.b.take(method)
            self.assertNotIn("proxy-authorization", got.first)
            self.b.answer(got, 200)
            self.a.take(200)
        _, got = self.call()
        self.assertNotIn("proxy-authorization", got.first)
        self.b.pick_up(got, self.a)
        self.rig.finish()

    @shows("AUT-09", "22.2")
    def test_wrong_header(self) -> None:
        """A proxy does not take Authorization for Proxy-Authorization: another 407."""
        request = self.a.request("MESSAGE", "sip:1002@example.com")
        line = answer(challenge_of(self.a.take(407)), "MESSAGE", request.uri_text, "1001", "secret1", "c")
        self.a.request("MESSAGE", "sip:1002@example.com", f"Authorization: {line}")
        self.a.take(407)
        self.rig.finish()

    @shows("AUT-10", "R3261-22.1-05")
    def test_cancel_and_ack(self) -> None:
        """CANCEL of an authenticated INVITE is obeyed without credentials, the ACK of its 487 swallowed; a CANCEL that
        names nothing gets 481, not a challenge."""
        invite, got = self.call()
        self.b.answer(got, 180)
        self.a.take(180)
        self.a.cancel(invite)
        self.a.take(200)
        self.b.cancelled(got)
        self.a.ack(self.a.take(487), invite)
        self.a.request("CANCEL", "sip:1002@example.com")
        self.a.take(481)
        self.rig.finish()

    @shows("AUT-13", "R3261-22.3-04", "R3261-16.6-02")
    def test_foreign_realm(self) -> None:
        """Credentials for another realm travel on, those for ours do not, however they are written."""
        foreign = 'Digest username="x", realm="gw.example.net", nonce="n", uri="sip:x", response="0"'
        near = 'Digest username="x", realm="not.example.com", nonce="n", uri="sip:x", response="0"'
        basic = "Basic ZXhhbXBsZS5jb20="
        _, got = self.call(*(f"Proxy-Authorization: {one}" for one in (foreign, near, basic)))
        self.assertEqual(got.all("proxy-authorization"), [foreign, near, basic])
        self.b.answer(got, 486)
        self.b.take("ACK")
        self.rig.advance(1)
        self.a.drain()
        request = self.a.request("MESSAGE", "sip:1002@example.com")
        line = answer(challenge_of(self.a.take(407)), "MESSAGE", request.uri_text, "1001", "secret1", "c")
        odd = line.replace('realm="example.com"', 'REALM = "example.com"')
        self.a.request("MESSAGE", "sip:1002@example.com", f"Proxy-Authorization: {foreign}",
                       f"Proxy-Authorization: {odd}")
        self.rig.advance(0.1)
        got = self.b.take("MESSAGE")
        self.assertEqual(got.all("proxy-authorization"), [foreign])
        self.b.answer(got, 200)
        self.a.take(200)

    @shows("AUT-13", "22.2")
    def test_answers_to_the_callee(self) -> None:
        """Authorization is for the callee, and a 401 of the callee for the caller: both pass."""
        line = 'Digest username="x", realm="example.com", nonce="n", uri="sip:x", response="0"'
        _, got = self.call(f"Authorization: {line}")
        self.assertEqual(got.all("authorization"), [line])
        self.b.answer(got, 401, 'WWW-Authenticate: Digest realm="b", nonce="n"')
        self.b.take("ACK")
        refusal = self.a.take(401)
        self.assertEqual(refusal.all("www-authenticate"), ['Digest realm="b", nonce="n"'])
        self.rig.advance(1)
        self.a.drain()

    @shows("AUT-16")
    def test_callee_within_the_call(self) -> None:
        """Re-INVITE and BYE of the callee, and of the caller, pass without credentials; so do their ACKs."""
        _, got = self.call()
        sent, ok = self.b.pick_up(got, self.a)
        again = self.b.in_callee_dialog("INVITE", got, sent)
        self.b.take(100)
        there = self.a.take("INVITE")
        self.assertEqual(there.to_tag, got.from_tag)
        self.a.answer(there, 200, tag=got.from_tag)
        self.b.ack(self.b.take(200), again)
        self.assertEqual(self.a.take("ACK").to_tag, got.from_tag)
        again = self.a.in_dialog("INVITE", ok, cseq=40)
        self.a.take(100)
        self.b.refuse(488)
        self.a.ack(self.a.take(488), again)
        self.b.in_callee_dialog("BYE", got, sent)
        self.a.answer(self.a.take("BYE"), 200)
        self.b.take(200)
        self.rig.finish()

    @shows("AUT-16", "22.3")
    def test_credentials_within_the_call(self) -> None:
        """Credentials that a phone repeats in its dialog (s22.3) stay here, in its ACK too."""
        _, got = self.call()
        self.b.answer(got, 200)
        ok = self.a.take(200)
        line = 'Proxy-Authorization: Digest username="1001", realm="example.com", nonce="n", uri="x", response="0"'
        self.a.in_dialog("ACK", ok, line, cseq=ok.cseq_number)
        self.assertNotIn("proxy-authorization", self.b.take("ACK").first)
        self.a.in_dialog("BYE", ok, line)
        got = self.b.take("BYE")
        self.assertNotIn("proxy-authorization", got.first)
        self.b.answer(got, 200)
        self.a.take(200)
        self.rig.finish()


class Phones(TestCase):
    """The first things a phone says, over each transport."""

    @shows("AUT-02", "22.2")
    def test_every_transport(self) -> None:
        """Challenge, login and a second login with the next count, over UDP, TCP, TLS and IPv6."""
        rig = Rig(auth=AUTH, listen=(*LISTEN, ("udp", "2001:db8::1", 5060), ("tcp", "2001:db8::1", 5060)))
        for transport, address in (("udp", ""), ("tcp", ""), ("tls", ""), ("udp", "2001:db8::20"),
                                   ("tcp", "2001:db8::21")):
            phone: Phone = rig.phone("1001", address, transport)
            params = challenge_of(phone.register(take=401))
            for nc in (1, 2):
                line = answer(params, "REGISTER", "sip:example.com", "1001", "secret1", "c", nc)
                phone.register(f"Authorization: {line}")
        self.assertEqual(len(rig.core.location.bindings("1001@example.com")), 5)
        rig.finish()
