"""The digest grammar and arithmetic, against the examples of the RFCs and against noise."""

from __future__ import annotations

import contextlib

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from sipd.auth import digest
from sipd.auth.digest import answer, challenge, ha1, parse_challenge, parse_credentials, request_digest
from sipd.message.errors import MalformedMessage
from tests.support.cases import shows

GOOD = ('Digest username="bob", realm="biloxi.com", nonce="dcd98b71", uri="sip:bob@biloxi.com", qop=auth, '
        'nc=00000001, cnonce="0a4f113b", response="6629FAE49393A05397450978507C4EF1", opaque="5ccc069c"')


class Arithmetic(TestCase):
    """RFC 7616 s3.4.1."""

    def proof(self, algorithm: str, *, qop: str = "auth") -> str:
        nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
        cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
        secret = ha1(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life")
        return request_digest(algorithm, secret, "GET", "/dir/index.html", nonce, qop, "00000001", cnonce)

    @shows("R7616-3.6-01")
    def test_rfc7616_md5(self) -> None:
        """The MD5 example of RFC 7616 s3.9.1."""
        self.assertEqual(self.proof("MD5"), "8ca523f5e9506fed4657c9700eebdbec")

    @shows("R7616-3.6-01")
    def test_rfc7616_sha256(self) -> None:
        """The SHA-256 example of RFC 7616 s3.9.1."""
        self.assertEqual(self.proof("SHA-256"), "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1")

    def test_rfc2617(self) -> None:
        """The example of RFC 2617 s3.5."""
        secret = ha1("MD5", "Mufasa", "testrealm@host.com", "Circle Of Life")
        self.assertEqual(secret, "939e7578ed9e3c518a452acee763bce9")
        self.assertEqual(
            request_digest("MD5", secret, "GET", "/dir/index.html", "dcd98b7102dd2f0e8b11d0f600bfb0c093", "auth",
                           "00000001", "0a4f113b"), "6629fae49393a05397450978507c4ef1")

    @shows("R3261-22.4-01")
    def test_rfc2069(self) -> None:
        """Without qop: the example of RFC 2069 s2.4 with the value its erratum 749 gives."""
        secret = ha1("MD5", "Mufasa", "testrealm@host.com", "CircleOfLife")
        self.assertEqual(
            request_digest("MD5", secret, "GET", "/dir/index.html", "dcd98b7102dd2f0e8b11d0f600bfb0c093", "", "", ""),
            "1949323746fe6a43ef61f9606e7febea")

    def test_sha512_256(self) -> None:
        """The third algorithm is SHA-512/256 of FIPS 180-4, not a cut SHA-512."""
        self.assertEqual(digest.HASHES["SHA-512-256"](b"abc").hexdigest(),
                         "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23")


class ReadingCredentials(TestCase):
    """RFC 7616 s3.4."""

    def test_all_parts(self) -> None:
        """Every parameter is read without quotes; the response in lower case, the algorithm MD5 when none is named."""
        credentials = parse_credentials(GOOD)
        assert credentials is not None
        self.assertEqual(
            [credentials.username, credentials.realm, credentials.nonce, credentials.uri, credentials.response,
             credentials.algorithm, credentials.qop, credentials.nc, credentials.cnonce],
            ["bob", "biloxi.com", "dcd98b71", "sip:bob@biloxi.com", "6629fae49393a05397450978507c4ef1", "MD5", "auth",
             "00000001", "0a4f113b"])

    def test_names_and_tokens_in_any_case(self) -> None:
        """Scheme, parameter names, algorithm and qop are compared without case; white space may stand around `=`."""
        credentials = parse_credentials('dIGEST\tUserName = "bob" ,,REALM="r",nonce="n",Uri="sip:a",'
                                        'algorithm="sha-256",QOP="AUTH",NC=0000000A,CNonce="c",response="d" ')
        assert credentials is not None
        self.assertEqual((credentials.algorithm, credentials.qop, credentials.nc, credentials.username),
                         ("SHA-256", "auth", "0000000A", "bob"))

    def test_quoted_text_may_hold_anything(self) -> None:
        """Commas, equal signs and quoted-pairs inside quotes end nothing; the backslashes of the latter are not hashed
        (RFC 7616 s3.3 unq)."""
        credentials = parse_credentials(GOOD.replace("0a4f113b", r'a,b="\"c\\'.replace('="', "=")))
        assert credentials is not None
        self.assertEqual(credentials.cnonce, r'a,b="c' + "\\")
        credentials = parse_credentials(GOOD.replace("bob", r"b\ob", 1))
        assert credentials is not None
        self.assertEqual(credentials.username, "bob")

    def test_other_schemes(self) -> None:
        """Credentials of other schemes are none; RFC 3261 s22 forbids Basic."""
        for value in ("Basic QWxhZGRpbg==", "NoOneKnowsThisScheme opaque-data=here", "DigestX username=1", "", "Dig"):
            self.assertIsNone(parse_credentials(value), value)

    def test_malformed(self) -> None:
        """Missing, doubled and broken parameters, and values beyond the bound, are malformed."""
        for value in ("Digest", "Digest ", "Digest ,", GOOD + ", realm=x", GOOD + ', USERNAME="eve"', GOOD + ' x="',
                      GOOD + " x", GOOD + ", Digest username=x", GOOD.replace('"bob"', ""), GOOD.replace("nc=", "nx="),
                      GOOD.replace('cnonce="0a4f113b", ', ""), GOOD.replace("nc=00000001", "nc=1"),
                      GOOD.replace("nc=00000001", "nc=0x000001"), GOOD.replace("nc=00000001", "nc=0_000001"),
                      GOOD.replace('nonce="dcd98b71"', 'nonse=""'), GOOD + ", pad=" + "x" * digest.MAX_LENGTH):
            with self.assertRaises(MalformedMessage, msg=value) as caught:
                parse_credentials(value)
            self.assertEqual(caught.exception.status, 400)

    def test_before_the_first_challenge(self) -> None:
        """Empty parameters, as sent by phones that have no challenge yet, can be read (RFC 8760 s2.7)."""
        credentials = parse_credentials('Digest username="a", realm="r", nonce="", uri="", response=""')
        assert credentials is not None
        self.assertEqual((credentials.nonce, credentials.response, credentials.qop), ("", "", ""))

    @settings(deadline=None)
    @given(st.text() | st.text(alphabet='a=", \t\\\x00é').map("Digest ".__add__))
    @example("Digest " + " " * 2000)
    @example("Digest " + '"' * 2000)
    @example("Digest a=" + '\\"' * 900)
    @example("Digest " + "a=b,\t" * 400)
    def test_noise(self, value: str) -> None:
        """Whatever arrives, only MalformedMessage comes out."""
        for reader in (parse_credentials, parse_challenge):
            with contextlib.suppress(MalformedMessage):
                reader(value)

    @settings(deadline=None)
    @given(st.integers(0, len(GOOD)), st.text(max_size=3), st.integers(0, 4))
    def test_damaged(self, position: int, inserted: str, removed: int) -> None:
        """A good value with a wound is read or malformed, nothing else."""
        with contextlib.suppress(MalformedMessage):
            parse_credentials(GOOD[:position] + inserted + GOOD[position + removed:])


    @settings(deadline=None)
    @given(st.sampled_from(("", ",", " ,", ", a=b", ", qop=auth")), st.sampled_from(("", " ")), st.integers(0, len(GOOD)),
           st.text(alphabet='",= \\\t\r\nabé\x00²m', max_size=2), st.integers(0, 3))
    @example("", " ", 20, "", 1)  # a quote that nothing closes
    @example("", " ", GOOD.index('"5ccc'), "", 1)  # and one that closes nothing
    @example("", " ", len(GOOD), ', opaque="x"', 0)
    @example("", " ", len(GOOD), ", username*=UTF-8''b", 0)
    @example("", " ", 17, "a,b", 0)
    @example("", " ", 17, "\\b", 0)
    @example("", " ", GOOD.index("nc="), "x", 0)
    @example("", " ", GOOD.index("nc=") + 3, '"', 0)
    @example("", " ", GOOD.index("qop="), "nc=1,nc=234, ", len("qop=auth, nc=00000001, "))
    def test_one_reading(self, end: str, blank: str, position: int, inserted: str, removed: int) -> None:
        """A value that is known by its form is read as by the grammar, which a backslash asks for."""
        value = GOOD.replace(", ", "," + blank)
        value = value[:position] + inserted + value[position + removed:] + end
        wanted = _read(value + r', x="\\"')
        for _ in range(2):
            self.assertEqual(_read(value), wanted)

    def test_counts(self) -> None:
        """Requests with one nonce have one form, whatever their count."""
        known = digest._KNOWN_FORMS
        parse_credentials(GOOD)
        before = dict(known)
        for count in ("00000002", "12345678"):
            credentials = parse_credentials(GOOD.replace("00000001", count))
            assert credentials is not None
            self.assertEqual((credentials.nc, known), (count, before))


def _read(value: str) -> object:
    """Everything in credentials, or the reason why they cannot be read."""
    try:
        credentials = parse_credentials(value)
    except MalformedMessage as error:
        return error.reason
    return credentials and [getattr(credentials, name) for name in (
        "username", "realm", "nonce", "uri", "response", "algorithm", "qop", "nc", "cnonce")]


class Answering(TestCase):
    """The client side."""

    def test_round_trip(self) -> None:
        """What `answer` writes, `parse_credentials` reads, and the proof is the verifier's, for each algorithm."""
        for algorithm in digest.HASHES:
            params = parse_challenge(challenge("example.com", "abc", algorithm))
            assert params is not None
            credentials = parse_credentials(answer(params, "INVITE", "sip:b@c", "1001", "sécret", "cn", 10))
            assert credentials is not None
            self.assertEqual((credentials.algorithm, credentials.nc), (algorithm, "0000000a"))
            secret = ha1(algorithm, "1001", "example.com", "sécret")
            self.assertEqual(credentials.response,
                             request_digest(algorithm, secret, "INVITE", "sip:b@c", "abc", "auth", "0000000a", "cn"))

    def test_without_qop(self) -> None:
        """A challenge of RFC 2069 gets no cnonce and no nc (RFC 3261 s22.4 item 8), and opaque goes back."""
        params = parse_challenge('Digest realm="r", nonce="n", opaque="o"')
        assert params is not None
        text = answer(params, "REGISTER", "sip:r", "u", "p", "cn")
        self.assertNotIn("nc=", text.replace("nonce=", ""))
        self.assertNotIn("cnonce", text)
        self.assertTrue(text.endswith(', opaque="o"'))

    def test_challenge_text(self) -> None:
        """AUT-01: realm, nonce, qop and algorithm; stale only when asked."""
        self.assertEqual(challenge("r", "n", "MD5"), 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5')
        self.assertEqual(challenge("r", "n", "MD5", True),
                         'Digest realm="r", nonce="n", qop="auth", algorithm=MD5, stale=true')

    def test_challenges_of_others(self) -> None:
        """A challenge that cannot be answered is malformed, one of another scheme is none."""
        self.assertIsNone(parse_challenge('Basic realm="r"'))
        for value in ('Digest realm="r"', 'Digest nonce="n"', f'Digest realm="{"r" * 3000}", nonce="n"'):
            with self.assertRaises(MalformedMessage):
                parse_challenge(value)
