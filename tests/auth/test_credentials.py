"""Users in memory: found by their names, tenants apart, changed at once."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.auth.credentials import User, Users, secrets_for
from sipd.auth.digest import ha1
from sipd.auth.user_store import StoredUser


def user(aor: str, display_name: str = "", stored: bool = False) -> User:
    return User(aor, secrets_for(aor, "example.com", "secret"), display_name, stored=stored)


class UsersTest(TestCase):
    """A first domain and one tenant."""

    def setUp(self) -> None:
        self.users = Users("example.com", ["two.example"])
        self.first, self.second = user("1001@example.com"), user("1001@two.example")
        self.users.add(self.first)
        self.users.add(self.second)

    def test_login_names(self) -> None:
        """A bare name is the first domain's, unless the request speaks of a tenant; a full name says it all."""
        self.assertIs(self.users.get("1001"), self.first)
        self.assertIs(self.users.get("1001", "elsewhere.example"), self.first)
        self.assertIs(self.users.get("1001", "two.example"), self.second)
        self.assertIs(self.users.get("1001@two.example"), self.second)
        self.assertIs(self.users.get("1001@Example.COM", "two.example"), self.first)
        for login in ("1002", "1001@elsewhere.example", "", "@", "1001@", "@example.com"):
            self.assertIsNone(self.users.get(login), login)

    def test_ambiguous_only_with_tenants(self) -> None:
        """Where there is one place, nobody need look at the domain of a request."""
        self.assertTrue(self.users.ambiguous)
        self.assertFalse(Users("example.com").ambiguous)

    def test_configured_names(self) -> None:
        """A name of the configuration becomes an address-of-record."""
        self.assertEqual(self.users.aor("1001"), "1001@example.com")
        self.assertEqual(self.users.aor("1001@Two.Example"), "1001@two.example")

    def test_both_names_have_secrets(self) -> None:
        """H(A1) covers the name as the phone sends it, so there is one for each."""
        self.assertEqual(self.first.secrets["MD5", "1001"], ha1("MD5", "1001", "example.com", "secret"))
        self.assertEqual(self.second.secrets["SHA-256", "1001@two.example"],
                         ha1("SHA-256", "1001@two.example", "example.com", "secret"))
        self.assertEqual(self.first.name, "1001")

    def test_changes(self) -> None:
        """What is added in place of another or removed counts at once."""
        again = user("1001@example.com", "Reception")
        self.users.add(again)
        self.assertIs(self.users.by_aor("1001@example.com"), again)
        self.assertEqual(len(self.users), 2)
        self.assertTrue(self.users.remove("1001@example.com"))
        self.assertFalse(self.users.remove("1001@example.com"))
        self.assertIsNone(self.users.get("1001"))
        self.assertEqual(list(self.users), [self.second])

    def test_configure(self) -> None:
        """A configured user is known by a password or by H(A1), whose login name may be either."""
        one = self.users.configure("1005", "example.com", ("MD5",), "secret", display_name="D", only=("MD5",))
        secrets = secrets_for("1005@example.com", "example.com", "secret", ["MD5"])
        self.assertEqual(one, User("1005@example.com", secrets, "D", ("MD5",)))
        self.assertIs(self.users.get("1005"), one)
        two = self.users.configure("1006@two.example", "example.com", ("MD5", "SHA-256"), digests={"MD5": "AB"})
        self.assertEqual(two.secrets, {("MD5", "1006"): "ab", ("MD5", "1006@two.example"): "ab"})

    def test_load(self) -> None:
        """The store's users come and go with the store; a configured user hides a stored one of its name."""
        stored = [StoredUser(aor, "example.com", "D", secrets_for(aor, "example.com", "other"))
                  for aor in ("1001@example.com", "1002@example.com")]
        self.users.load(stored)
        self.assertIs(self.users.get("1001"), self.first)
        loaded = self.users.get("1002")
        assert loaded is not None
        self.assertEqual((loaded.stored, loaded.display_name, loaded.secrets), (True, "D", stored[1].secrets))
        self.users.load([])
        self.assertIsNone(self.users.get("1002"))
        self.assertEqual(len(self.users), 2)

    def test_no_secret_in_repr(self) -> None:
        """Neither a user nor a stored one shows H(A1) when printed into a log."""
        stored = StoredUser("1001@example.com", "example.com", "", dict(self.first.secrets))
        for secret in self.first.secrets.values():
            self.assertNotIn(secret, repr(self.first) + repr(stored))
