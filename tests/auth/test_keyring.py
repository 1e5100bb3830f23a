"""Challenges and what they are answered with: the client side of digest."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.auth.digest import parse_credentials
from sipd.auth.keyring import Keyring
from sipd.message.message import Response
from sipd.message.parser import parse
from tests.support.cases import shows


def refusal(*values: str, status: int = 401) -> Response:
    """A 401 or 407 with these challenges."""
    name = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
    lines = [f"SIP/2.0 {status} No", "Via: SIP/2.0/TCP a.example;branch=z9hG4bKa", "From: <sip:a@b.example>;tag=a",
             "To: <sip:a@b.example>", "Call-ID: a", "CSeq: 1 REGISTER", *[f"{name}: {value}" for value in values]]
    response = parse("\r\n".join([*lines, "", ""]).encode())
    assert isinstance(response, Response)
    return response


def digest(nonce: str, realm: str = "r", more: str = "") -> str:
    """A challenge."""
    return f'Digest realm="{realm}", nonce="{nonce}", qop="auth"{more}'


class KeyringTests(TestCase):
    """One account."""

    def setUp(self) -> None:
        self.keyring = Keyring("user", "password", lambda size: b"\x11" * size)

    def answered(self) -> list[tuple[str, str, str, str]]:
        """(header, realm, nonce, count) of what goes into the next request."""
        found = []
        for name, value in self.keyring.credentials("REGISTER", "sip:a.example"):
            one = parse_credentials(value)
            assert one is not None
            found.append((name, one.realm, one.nonce, one.nc))
        return found

    @shows("OUT-01", "22.2")
    def test_counts(self) -> None:
        """Nothing is shown before somebody asks; then each request has the next count."""
        self.assertEqual(self.answered(), [])
        self.assertTrue(self.keyring.learn(refusal(digest("n")), {}))
        self.assertEqual(self.answered(), [("Authorization", "r", "n", "00000001")])
        self.assertEqual(self.answered(), [("Authorization", "r", "n", "00000002")])

    @shows("OUT-01", "22.2")
    def test_refused_twice(self) -> None:
        """Within one request a second refusal is the end, unless the nonce is called stale, and that not for ever; the
        next request begins without credentials."""
        tried: dict[str, int] = {}
        self.assertTrue(self.keyring.learn(refusal(digest("n1")), tried))
        self.assertTrue(self.keyring.learn(refusal(digest("n2", more=", stale=TRUE")), tried))
        self.assertTrue(self.keyring.learn(refusal(digest("n3", more=", stale=true")), tried))
        self.assertFalse(self.keyring.learn(refusal(digest("n4", more=", stale=true")), tried))
        self.assertEqual(self.answered(), [])
        tried = {}
        self.assertTrue(self.keyring.learn(refusal(digest("n1")), tried))
        self.assertFalse(self.keyring.learn(refusal(digest("n2")), tried))
        self.assertEqual(self.answered(), [])

    def test_same_nonce(self) -> None:
        """A peer that has one nonce and asks with it whatever a request shows is answered once for each request; who
        has no other answer to that is refused."""
        for _ in range(3):
            tried: dict[str, int] = {}
            self.assertTrue(self.keyring.learn(refusal(digest("n1")), tried))
            self.assertEqual(len(self.answered()), 1)
        self.assertFalse(self.keyring.learn(refusal(digest("n1")), tried))
        self.assertEqual(self.answered(), [])

    def test_both(self) -> None:
        """A carrier's proxy and what stands behind it may ask for one realm, each in its own field (s22.3)."""
        tried: dict[str, int] = {}
        self.assertTrue(self.keyring.learn(refusal(digest("n1"), status=407), tried))
        self.assertTrue(self.keyring.learn(refusal(digest("n2")), tried))
        self.assertEqual([one[0] for one in self.answered()], ["Proxy-Authorization", "Authorization"])

    def test_asked_for(self) -> None:
        """Once a request was asked for credentials it shows those alone; the next one shows all again."""
        self.assertTrue(self.keyring.learn(refusal(digest("n1")), {}))
        tried: dict[str, int] = {}
        self.assertTrue(self.keyring.learn(refusal(digest("n2"), status=407), tried))
        shown = [name for name, _ in self.keyring.credentials("INVITE", "sip:a.example", tried)]
        self.assertEqual(shown, ["Proxy-Authorization"])
        self.assertTrue(self.keyring.learn(refusal(digest("n3", "other")), tried))
        self.assertEqual(len(self.keyring.credentials("INVITE", "sip:a.example", tried)), 2)
        self.assertEqual(len(self.answered()), 3)

    @shows("OUT-10", "22.3")
    def test_realms(self) -> None:
        """Each realm, of registrar and proxies, has its own answer; a stranger who names realm after realm makes it
        remember eight at most."""
        tried: dict[str, int] = {}
        self.assertTrue(self.keyring.learn(refusal(digest("n1", "a"), digest("n2", "b")), tried))
        self.assertTrue(self.keyring.learn(refusal(digest("n3", "a"), status=407), {}))
        self.assertEqual([one[:3] for one in self.answered()], [
            ("Authorization", "a", "n1"), ("Authorization", "b", "n2"), ("Proxy-Authorization", "a", "n3")])
        for number in range(50):
            self.keyring.learn(refusal(digest("n", f"realm{number}")), {})
        self.assertEqual(len(self.answered()), 8)

    def test_unusable(self) -> None:
        """What cannot be answered is no reason to try again."""
        for values in ((), ("Basic realm=x",), ('Digest realm="r"',), (digest("n", more=", algorithm=MD4"),),
                       ('Digest realm="r", nonce="n", qop="auth-int"',), (digest("n" * 4000),)):
            self.assertFalse(self.keyring.learn(refusal(*values), {}), values)
            self.assertEqual(self.answered(), [])

    def test_without_qop(self) -> None:
        """A challenge in the style of RFC 2069 gets such an answer (s22.4)."""
        self.assertTrue(self.keyring.learn(refusal('Digest realm="r", nonce="n", opaque="o"'), {}))
        (_, value), = self.keyring.credentials("REGISTER", "sip:a.example")
        self.assertNotIn("qop", value)
        self.assertIn('opaque="o"', value)
