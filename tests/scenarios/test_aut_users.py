"""Realms, users by H(A1), phones with habits, and users who come and go (RFC 3261 s22, RFC 8760)."""

from __future__ import annotations

from sipd.auth.digest import ha1
from tests.scenarios.test_aut import AuthCase, challenge_of
from tests.support.cases import shows
from tests.support.rig import Rig


class OtherRealm(AuthCase):
    """A realm of its own, and users by H(A1)."""

    auth = {"required": True, "realm": "The phones, all"}

    def setUp(self) -> None:
        realm = str(self.auth["realm"])
        self.rig = Rig(auth=self.auth, users={
            "1001": "secret1", "1002": {"ha1": {"MD5": ha1("MD5", "1002", realm, "hashed")}},
            "1003": {"password": "strong", "algorithms": ["SHA-256"]}})
        self.a = self.rig.phone("1001")
        self.other = {"from_": "<sip:1002@example.com>;tag=2", "to": "<sip:1002@example.com>"}

    @shows("AUT-01", "22.1")
    def test_realm(self) -> None:
        """The realm of the configuration is challenged for, and credentials for the domain's name are not ours."""
        params = self.challenge()
        self.assertEqual(params["realm"], "The phones, all")
        self.try_register(self.signed(params), take=200)
        foreign = self.signed({**params, "realm": "example.com"})
        self.try_register(foreign, take=401)
        request = self.a.request("MESSAGE", "sip:1001@example.com", f"Proxy-Authorization: {foreign}")
        self.a.authorized(request, self.a.take(407))
        got = self.a.take("MESSAGE")
        self.assertEqual(got.all("proxy-authorization"), [foreign])
        self.a.answer(got, 200)
        self.a.take(200)

    @shows("AUT-02", "7616 3.4.2")
    def test_hashed(self) -> None:
        """A user known by H(A1) of MD5 logs in with MD5; the answer to the other challenge is a wrong password."""
        self.try_register(self.signed(user="1002", password="hashed"), take=200, **self.other)
        line = self.signed(self.challenge("SHA-256"), user="1002", password="hashed")
        self.try_register(line, take=401, **self.other)

    @shows("AUT-15", "8760 2.4")
    def test_algorithms_of_a_user(self) -> None:
        """A user who may use SHA-256 alone gets the same challenges as all, and MD5 with the right password is refused
        like a wrong one."""
        me = {"from_": "<sip:1003@example.com>;tag=2", "to": "<sip:1003@example.com>"}
        refusal = self.try_register(self.signed(user="1003", password="strong"), take=401, **me)
        self.assertEqual([name for name, _, _ in refusal.headers].count("www-authenticate"), 2)
        self.assertNotIn("stale", challenge_of(refusal))
        self.try_register(self.signed(self.challenge("SHA-256"), user="1003", password="strong"), take=200, **me)

    @shows("AUT-01", "8760 2.3", "R3261-7.3.1-02")
    def test_phones_that_bear_one_challenge(self) -> None:
        """Phones that fail on two challenges, known by User-Agent, get MD5 alone; all others both, each on its line."""
        for agent, lines in (("baresip v1.0.0", 1), ("JsSIP 3.13.8", 1), ("Linphone/5.1", 2), ("", 2)):
            refusal = self.a.register(f"User-Agent: {agent}", take=401)
            self.assertEqual(len(refusal.all("www-authenticate")), lines, agent)


class Changed(AuthCase):
    """Users who come and go while the server runs."""

    @shows("AUT-04", "10.3")
    def test_removed(self) -> None:
        """A user who is removed is unknown at once: no login, no binding, no call."""
        self.rig.binding("1002", "sip:1002@192.0.2.77")
        b = self.rig.phone("1002", "192.0.2.77")
        request = self.a.request("MESSAGE", "sip:1002@example.com")
        self.a.authorized(request, self.a.take(407))
        b.answer(b.take("MESSAGE"), 200)
        self.a.take(200)
        self.rig.users.remove("1002@example.com")
        self.rig.core.user_changed("1002@example.com")
        request = self.a.request("MESSAGE", "sip:1002@example.com")
        self.a.authorized(request, self.a.take(407))
        self.a.take(404)
        b.silent()
        self.assertEqual(self.stored, 0)

    @shows("AUT-02")
    def test_new_password(self) -> None:
        """A new password counts with the next request; bindings stay."""
        self.try_register(self.signed(), take=200)
        self.rig.users.configure("1001", "example.com", ("MD5", "SHA-256"), "changed")
        self.rig.core.user_changed("1001@example.com")
        self.try_register(self.signed(), take=401)
        self.try_register(self.signed(password="changed"), take=200)
        self.assertEqual(self.stored, 1)
