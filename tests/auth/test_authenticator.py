"""The authenticator: the AUT cases of the conformance list that one room can show."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from sipd.auth.authenticator import Authenticator, Unauthenticated, owns
from sipd.auth.credentials import User, Users, secrets_for
from sipd.auth.digest import HASHES, answer, ha1, parse_challenge
from sipd.auth.nonce import Nonces
from sipd.inventory import Inventory
from sipd.message.errors import Reject
from sipd.message.message import Request
from sipd.message.parser import parse

REALM = "example.com"
PLACES = {"example.com": REALM, "192.0.2.5": REALM, "two.example": "two.example"}


def place(host: str, port: int | None) -> str:
    return PLACES.get(host, "") if port in (None, 5060) else ""


class AuthTest(TestCase):
    """One server of the realm example.com with two users and a tenant's."""

    algorithms: tuple[str, ...] = ("MD5", "SHA-256")
    tenants: tuple[str, ...] = ()

    def setUp(self) -> None:
        self.clock = Clock()
        self.inventory = Inventory()
        self.users = Users(REALM, self.tenants)
        for aor, password in (("1001@example.com", "secret"), ("1002@example.com", "other")):
            self.users.add(User(aor, secrets_for(aor, REALM, password)))
        self.authenticator = self.make()

    def make(self, required: bool = True) -> Authenticator:
        nonces = Nonces(self.clock, os.urandom, self.inventory)
        return Authenticator(self.users, nonces, REALM, self.algorithms, place, os.urandom, required)

    def request(self, *lines: str, method: str = "REGISTER", uri: str = "sip:example.com",
                aor: str = "1001@example.com") -> Request:
        text = [f"{method} {uri} SIP/2.0", "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", f"From: <sip:{aor}>;tag=1",
                f"To: <sip:{aor}>", "Call-ID: a", f"CSeq: 1 {method}", *lines, "", ""]
        request = parse("\r\n".join(text).encode("utf-8", "surrogateescape"))
        assert isinstance(request, Request)
        return request

    def refusal(self, request: Request, proxy: bool = False) -> Unauthenticated:
        return self.assertRaises(Unauthenticated, self.authenticator.check, request, proxy=proxy)

    def challenges(self, *lines: str, proxy: bool = False) -> list[dict[str, str]]:
        found = [parse_challenge(value) for _, value in self.refusal(self.request(*lines), proxy).headers]
        return [params for params in found if params is not None]

    def signed(self, params: dict[str, str] | None = None, nc: int = 1, *, login: str = "1001",
               password: str = "secret", method: str = "REGISTER", uri: str = "sip:example.com",
               header: str = "Authorization") -> str:
        if params is None:
            params = self.challenges()[0]
        return f"{header}: {answer(params, method, uri, login, password, 'c0ffee', nc)}"

    def check(self, *lines: str, proxy: bool = False, **how: Any) -> str:
        user = self.authenticator.check(self.request(*lines, **how), proxy=proxy)
        assert user is not None
        return user.aor


class Challenging(AuthTest):
    """What a stranger is told."""

    def test_aut_01(self) -> None:
        """AUT-01: a REGISTER without credentials gets 401 with realm, nonce, qop="auth" and algorithm, and no state."""
        refusal = self.refusal(self.request())
        self.assertEqual((refusal.status, refusal.why), (401, ""))
        self.assertEqual([name for name, _ in refusal.headers], ["WWW-Authenticate"] * 2)
        one, two = self.challenges()
        self.assertEqual((one["realm"], one["qop"], one["algorithm"], two["algorithm"]),
                         (REALM, "auth", "MD5", "SHA-256"))
        self.assertEqual(one["nonce"], two["nonce"])
        self.assertNotIn("stale", one)
        self.assertEqual((self.inventory.left(), self.clock.getDelayedCalls()), ({}, []))

    def test_aut_09(self) -> None:
        """AUT-09: where we are a proxy it is 407 with Proxy-Authenticate, and only Proxy-Authorization counts."""
        refusal = self.refusal(self.request(self.signed()), proxy=True)
        self.assertEqual(refusal.status, 407)
        self.assertEqual({name for name, _ in refusal.headers}, {"Proxy-Authenticate"})
        how = {"method": "INVITE", "uri": "sip:1002@example.com"}
        line = self.signed(header="Proxy-Authorization", **how)
        self.assertEqual(self.check(line, proxy=True, **how), "1001@example.com")

    def test_phones_that_bear_one_challenge(self) -> None:
        """baresip and JsSIP, known by User-Agent, get MD5 alone; others, and a request without one, get all."""
        for agent in ("baresip v1.0.0 (x86_64/linux)", "JsSIP 3.13.8", "SIP.js/0.21.2"):
            self.assertEqual([c["algorithm"] for c in self.challenges(f"User-Agent: {agent}")], ["MD5"], agent)
        for agent in ("Linphonec/5.1.65", "a phone, not baresip", ""):
            self.assertEqual(len(self.challenges(f"User-Agent: {agent}")), 2, agent)

    def test_challenge_does_not_depend_on_the_user(self) -> None:
        """Known, unknown and restricted users see the same challenges, nonce apart."""
        self.users.add(User("1003@example.com", secrets_for("1003@example.com", REALM, "x"), "", ("SHA-256",)))
        seen = set()
        for login in ("1001", "1003", "nobody", "1001@elsewhere.example"):
            line = self.signed(login=login, password="wrong")
            refusal = self.refusal(self.request(line, aor=f"{login.partition('@')[0]}@example.com"))
            seen.add(tuple((n, v.replace(self.nonce_of(v), "")) for n, v in refusal.headers))
        self.assertEqual(len(seen), 1)

    def nonce_of(self, value: str) -> str:
        params = parse_challenge(value)
        assert params is not None
        return params["nonce"]

    def test_not_required(self) -> None:
        """Without `required` nobody is asked."""
        self.assertIsNone(self.make(required=False).check(self.request(), proxy=True))

    def test_aut_13(self) -> None:
        """AUT-13: credentials for another realm, even broken ones, are neither read nor taken off."""
        foreign = 'Digest username="1001", realm="elsewhere.example", nonce="n", uri="sip:x", response="r"'
        request = self.request(f"Authorization: {foreign}", "Authorization: Digest realm=", "Authorization: Basic YTpi")
        self.assertEqual(self.refusal(request).why, "")
        self.assertEqual(request.all("authorization")[0], foreign)
        self.assertEqual(self.check(f"Authorization: {foreign}", self.signed()), "1001@example.com")


class OnlySha256(AuthTest):
    """A server without MD5."""

    algorithms = ("SHA-256",)

    def test_challenge(self) -> None:
        """Every phone gets the configured challenge, those that know MD5 only too; MD5 is not taken."""
        self.assertEqual([c["algorithm"] for c in self.challenges("User-Agent: baresip v1.0.0")], ["SHA-256"])
        params = self.challenges()[0]
        refusal = self.refusal(self.request(self.signed(params | {"algorithm": "MD5"})))
        self.assertEqual(refusal.why, "algorithm not allowed")
        self.assertEqual(self.check(self.signed(params)), "1001@example.com")


class Verifying(AuthTest):
    """What credentials are worth."""

    def test_aut_02(self) -> None:
        """AUT-02: the right response with qop=auth is accepted, under either login name."""
        self.assertEqual(self.check(self.signed()), "1001@example.com")
        self.assertEqual(self.check(self.signed(login="1001@example.com")), "1001@example.com")

    def test_aut_03(self) -> None:
        """AUT-03: RFC 2069 credentials are good with MD5, once per nonce; then stale."""
        params = self.challenges()[0]
        del params["qop"]
        self.assertEqual(self.check(self.signed(params)), "1001@example.com")
        self.assertEqual(self.refusal(self.request(self.signed(params))).why, "stale nonce")
        self.assertEqual(self.refusal(self.request(self.signed(params | {"algorithm": "SHA-256"}))).why,
                         "algorithm not allowed")

    def test_aut_04(self) -> None:
        """AUT-04: wrong password and unknown user: the same answer, and the same digests computed."""
        answers, work = [], []
        for login, password in (("1001", "wrong"), ("nobody", "wrong"), ("1001", "other"), ("", "")):
            request = self.request(self.signed(login=login, password=password))
            with mock.patch.dict(HASHES, MD5=mock.Mock(wraps=HASHES["MD5"])):
                refusal = self.refusal(request)
                work.append([len(call.args[0]) for call in HASHES["MD5"].call_args_list])
            answers.append((refusal.status, refusal.reason, len(refusal.headers), "stale" in str(refusal.headers)))
        self.assertEqual(set(answers), {(401, "", 2, False)})
        self.assertEqual(len(work[0]), 2)  # A2, and all of it with H(A1)
        self.assertEqual(work, [work[0]] * 4)

    def test_wrong_password_stores_nothing(self) -> None:
        """AUT-18: 200 failures in a row leave no entry and no timer, and say each time why."""
        params = self.challenges()[0]
        for _ in range(200):
            refusal = self.refusal(self.request(self.signed(params, password="guess")))
            self.assertEqual(refusal.why, "wrong password")
        self.assertEqual((self.inventory.left(), self.clock.getDelayedCalls()), ({}, []))
        self.assertEqual(self.check(self.signed(params)), "1001@example.com")

    def test_aut_05(self) -> None:
        """AUT-05: stale=true when the digest is right but the nonce old or forged; not when the digest is wrong."""
        params = self.challenges()[0]
        self.clock.advance(301)
        for nonce in (params["nonce"], "forged"):
            refusal = self.refusal(self.request(self.signed(params | {"nonce": nonce})))
            self.assertEqual(refusal.why, "stale nonce")
            self.assertTrue(all(value.endswith(", stale=true") for _, value in refusal.headers))
            refusal = self.refusal(self.request(self.signed(params | {"nonce": nonce}, password="wrong")))
            self.assertNotIn("stale", str(refusal.headers))

    def test_another_process(self) -> None:
        """A nonce from before a restart is stale, not accepted."""
        params = self.challenges()[0]
        self.authenticator = self.make()
        self.assertEqual(self.refusal(self.request(self.signed(params))).why, "stale nonce")

    def test_aut_06(self) -> None:
        """AUT-06: the nonce serves further requests with higher counts; a replay is stale."""
        params = self.challenges()[0]
        for nc in (1, 2, 4, 3):
            self.assertEqual(self.check(self.signed(params, nc)), "1001@example.com")
        self.assertEqual(self.refusal(self.request(self.signed(params, 2))).why, "stale nonce")

    def test_aut_08(self) -> None:
        """AUT-08: a uri that is not the Request-URI gets 400, and does not use up the count."""
        params = self.challenges()[0]
        for uri in ("sip:elsewhere.example", "sip:1002@example.com", "sips:example.com:5061", "not a uri", ""):
            line = self.signed(params, uri=uri)
            refused = self.assertRaises(Reject, self.authenticator.check, self.request(line), proxy=False)
            self.assertEqual(refused.status, 400, uri)
        self.assertEqual(self.check(self.signed(params)), "1001@example.com")

    def test_equivalent_uri(self) -> None:
        """AUT-08: an equivalent URI, another name of ours with the same user, and our bare name as SIPp writes it."""
        for target, uri in (("sip:%31002@EXAMPLE.com", "sip:1002@example.com"),
                            ("sip:1002@192.0.2.5:5060", "sip:1002@example.com"),
                            ("sip:1002@example.com", "sip:192.0.2.5:5060"),
                            ("sip:somebody@elsewhere.example", "sip:192.0.2.5:5060"), ("tel:+4930", "sip:example.com")):
            line = self.signed(uri=uri, method="MESSAGE")
            self.assertEqual(self.check(line, method="MESSAGE", uri=target), "1001@example.com")
        for target in ("sip:1002@elsewhere.example", "sip:1002@two.example", "sip:1002@192.0.2.5:5070", "tel:1002"):
            line = self.signed(uri="sip:1002@example.com", method="MESSAGE")
            request = self.request(line, method="MESSAGE", uri=target)
            self.assertEqual(self.assertRaises(Reject, self.authenticator.check, request, proxy=False).status, 400)

    def test_aut_15(self) -> None:
        """AUT-15: SHA-256 is accepted; an algorithm that was not offered is challenged again."""
        params = self.challenges()[1]
        self.assertEqual(params["algorithm"], "SHA-256")
        self.assertEqual(self.check(self.signed(params)), "1001@example.com")
        for algorithm in ("SHA-512-256", "MD5-sess", "AKAv1-MD5", '""'):
            line = self.signed(params).replace("algorithm=SHA-256", f"algorithm={algorithm}")
            self.assertEqual(self.refusal(self.request(line)).why, "algorithm not allowed")
        line = self.signed(params, 2).replace("qop=auth", "qop=auth-int")
        self.assertEqual(self.refusal(self.request(line)).why, "algorithm not allowed")

    def test_user_who_must_not_use_md5(self) -> None:
        """A user's own algorithms refuse weaker ones with the same 401; of two credentials the good one counts."""
        aor = "1003@example.com"
        self.users.add(User(aor, secrets_for(aor, REALM, "x"), "", ("SHA-256",)))
        weak, strong = self.challenges()
        refused = self.refusal(self.request(self.signed(weak, login="1003", password="x")))
        self.assertEqual((refused.status, refused.why, "stale" in str(refused.headers)),
                         (401, "algorithm not allowed", False))
        both = [self.signed(params, login="1003", password="x") for params in (weak, strong)]
        self.assertEqual(self.check(*both), aor)

    def test_many_credentials(self) -> None:
        """No more than four credentials are tried in one request, however many it brings."""
        bad = self.signed(password="wrong")
        self.assertEqual(self.check(*[bad] * 3, self.signed()), "1001@example.com")
        request = self.request(*[bad] * 50, self.signed())
        with mock.patch.dict(HASHES, MD5=mock.Mock(wraps=HASHES["MD5"])):
            self.refusal(request)
            self.assertEqual(HASHES["MD5"].call_count, 4 * 2)

    def test_malformed(self) -> None:
        """Credentials of our realm that cannot be read get 400 with the reason; bytes of no encoding hurt nobody."""
        line = self.signed()
        for broken in (line.replace("nc=00000001", "nc=1"), line + ", realm=x", line.replace("username", "name")):
            refused = self.assertRaises(Reject, self.authenticator.check, self.request(broken), proxy=False)
            self.assertEqual(refused.status, 400)
            self.assertIn("Digest", refused.reason)
        for odd in (line.replace('"1001"', '"\udce9"'), line.replace('response="', 'response="\udce9é')):
            self.assertEqual(self.refusal(self.request(odd)).status, 401)

    def test_only_ha1_of_one_kind(self) -> None:
        """A user with a single H(A1) logs in by that algorithm and name; the rest is refused as any stranger is."""
        self.users.add(User("1004@example.com", {("MD5", "1004"): ha1("MD5", "1004", REALM, "x")}))
        md5, sha256 = self.challenges()
        self.assertEqual(self.check(self.signed(md5, login="1004", password="x")), "1004@example.com")
        self.assertEqual(self.refusal(self.request(self.signed(sha256, 2, login="1004", password="x"))).why,
                         "unknown user")

    def test_a_change_counts_at_once(self) -> None:
        """A removed user is refused with the next request, a new password is good with it."""
        params = self.challenges()[0]
        self.assertEqual(self.check(self.signed(params)), "1001@example.com")
        self.users.add(User("1001@example.com", secrets_for("1001@example.com", REALM, "new")))
        self.refusal(self.request(self.signed(params, 2)))
        self.assertEqual(self.check(self.signed(params, 2, password="new")), "1001@example.com")
        self.users.remove("1001@example.com")
        self.refusal(self.request(self.signed(params, 3, password="new")))

    def test_nothing_left(self) -> None:
        """After logins and silence no table holds anything and no timer runs."""
        for _ in range(5):
            self.check(self.signed())
            self.clock.advance(100)
        self.assertNotEqual(self.inventory.left(), {})
        self.clock.advance(300)
        self.clock.advance(300)
        self.assertEqual((self.inventory.left(), self.clock.getDelayedCalls()), ({}, []))


class Tenants(AuthTest):
    """A second place in the same realm."""

    tenants = ("two.example",)

    def setUp(self) -> None:
        super().setUp()
        self.users.add(User("1001@two.example", secrets_for("1001@two.example", REALM, "tenant")))

    def test_bare_name(self) -> None:
        """AUT-11's ground: the domain spoken of decides who `1001` is; each password fits its own user only."""
        self.assertEqual(self.check(self.signed(password="tenant"), aor="1001@two.example"), "1001@two.example")
        self.assertEqual(self.check(self.signed()), "1001@example.com")
        self.refusal(self.request(self.signed(password="tenant")))
        self.refusal(self.request(self.signed(), aor="1001@two.example"))

    def test_full_name(self) -> None:
        """A full name needs no help from the request."""
        line = self.signed(login="1001@two.example", password="tenant")
        self.assertEqual(self.check(line, aor="anonymous@anonymous.invalid"), "1001@two.example")

    def test_unreadable_from(self) -> None:
        """A From that cannot be read means the first domain."""
        request = self.request(self.signed(method="INVITE"), method="INVITE")
        request.set("from", "<sip:[>;tag=1")
        user = self.authenticator.check(request, proxy=False)
        assert user is not None
        self.assertEqual(user.aor, "1001@example.com")

    def test_owns(self) -> None:
        """An address-of-record is one user's, and everybody's where nobody logs in."""
        user = self.users.by_aor("1001@two.example")
        assert user is not None
        self.assertTrue(owns(user, "1001@two.example"))
        self.assertFalse(owns(user, "1001@example.com"))
        self.assertTrue(owns(None, "1001@example.com"))
