"""Digest rule by rule: what RFC 3261 s22, RFC 7616 and RFC 8760 ask of a server, beyond the AUT cases."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from twisted.trial.unittest import TestCase

from sipd.auth.digest import answer, ha1, request_digest
from sipd.message.message import Message, Request, Response
from tests.scenarios.test_aut import AuthCase, challenge_of
from tests.support.cases import shows
from tests.support.rig import Phone, Rig

AUTH = {"required": True}
#: base64 of 1001:secret1, which is the right password.
BASIC = "Basic MTAwMTpzZWNyZXQx"
#: A challenge as s3.3 of RFC 7616 wants it written, with what stands in quotation marks and what does not.
CHALLENGE = re.compile(
    r'Digest realm="example\.com", nonce="[0-9a-f]+", qop="auth", algorithm=(MD5|SHA-256|SHA-512-256)(, stale=true)?')


def lines_of(message: Message, name: str) -> list[str]:
    """The lines of a header field as they came."""
    return [line for canonical, _, line in message.headers if canonical == name]


class Challenges(AuthCase):
    """What a challenge says, in a 401 and in a 407."""

    def refused(self, *lines: str) -> list[Response]:
        """The 401 to a REGISTER and the 407 to a MESSAGE, each with those credentials."""
        first = self.try_register(*lines, take=401)
        self.a.request("MESSAGE", "sip:1002@example.com", *(f"Proxy-Authorization: {line}" for line in lines))
        second = self.a.take(407)
        assert isinstance(second, Response)
        return [first, second]

    @shows("R3261-22-02", "R3261-22-03", "R3261-22.4-02", "R8760-2.6-01")
    def test_basic(self) -> None:
        """The right password in Basic, alone or beside nonsense, lets nobody in, and no challenge asks for it."""
        for credentials in ((BASIC,), (BASIC.upper(),), (BASIC, 'Basic realm="example.com"')):
            for refusal in self.refused(*credentials):
                values = refusal.all("www-authenticate") + refusal.all("proxy-authenticate")
                self.assertEqual([value.split(" ")[0] for value in values], ["Digest", "Digest"])
        self.assertEqual(self.stored, 0)

    @shows("R3261-22.1-01", "R3261-22.2-01", "R3261-22.3-01", "R3261-22.3-06", "R3261-22.4-03", "R7616-3.3-02",
           "R7616-3.3-03", "R7616-3.3-04", "R7616-3.8-01", "R8760-2.6-04")
    def test_written(self) -> None:
        """A registrar challenges in WWW-Authenticate of a 401, a proxy in Proxy-Authenticate of a 407; realm, nonce and
        qop stand in quotation marks, algorithm and stale without."""
        old = {**self.challenge(), "nonce": "old"}
        message = self.signed(old, method="MESSAGE", uri="sip:1002@example.com")
        for credentials, lines, mark in (([], [], None),
                                         ([self.signed(old)], [f"Proxy-Authorization: {message}"], ", stale=true")):
            first = self.try_register(*credentials, take=401)
            self.a.request("MESSAGE", "sip:1002@example.com", *lines)
            second = self.a.take(407)
            for refusal, ours, other in ((first, "www-authenticate", "proxy-authenticate"),
                                         (second, "proxy-authenticate", "www-authenticate")):
                self.assertNotIn(other, refusal.first)
                self.assertEqual(len(refusal.all(ours)), 2)
                for value in refusal.all(ours):
                    written = CHALLENGE.fullmatch(value)
                    self.assertIsNotNone(written, value)
                    assert written is not None
                    self.assertEqual(written[2], mark)

    @shows("R3261-22.4-04", "R8760-2.6-03", "R7616-3.6-01")
    def test_qop_decides(self) -> None:
        """Without qop the proof is that of RFC 2069, whatever cnonce and nc stand beside it; with qop=auth it is that of
        RFC 7616 and the other one is wrong."""
        params = self.challenge()
        old = self.signed({key: value for key, value in params.items() if key != "qop"})
        new = self.signed(params)
        old_proof, new_proof = (re.findall(r'response="(\w+)"', one)[0] for one in (old, new))
        self.assertNotEqual(old_proof, new_proof)
        self.try_register(new.replace(new_proof, old_proof), take=401)
        self.try_register(old.replace(old_proof, new_proof), take=401)
        self.try_register(f'{old}, cnonce="other", nc=00000009', take=200)
        self.try_register(self.signed(), take=200)
        self.try_register(self.signed().replace("qop=auth", "qop=auth-int"), take=401)


class Preference(TestCase):
    """Several algorithms (RFC 7616 s3.7, RFC 8760 s2.3)."""

    @shows("R7616-3.7-01", "R7616-3.7-02", "R8760-2.3-01", "R8760-2.3-02")
    def test_order(self) -> None:
        """One challenge for each algorithm, a line each, in the order of the configuration."""
        for algorithms in (["SHA-512-256", "SHA-256", "MD5"], ["SHA-256", "MD5"], ["MD5", "SHA-512-256"]):
            rig = Rig(auth={"required": True, "algorithms": algorithms})
            a = rig.phone("1001")
            refusals = [a.register(take=401)]
            a.request("MESSAGE", "sip:1002@example.com")
            refusals.append(a.take(407))
            for refusal, name in zip(refusals, ("www-authenticate", "proxy-authenticate"), strict=True):
                found = [re.findall(r"algorithm=([\w-]+)", value) for value in refusal.all(name)]
                self.assertEqual(found, [[algorithm] for algorithm in algorithms])
            rig.finish()


class Reading(AuthCase):
    """What credentials may look like, and what comes of it."""

    def extended(self, name: str, user: str = "1001") -> str:
        """Right credentials of `user` whose name stands in username*, written as `name`."""
        return self.signed(user=user).replace(f'username="{user}"', f"username*={name}")

    @shows("R7616-3.4-01")
    def test_username_twice(self) -> None:
        """username* stands for username, in UTF-8 with escapes; both at once, in either order, are a bad request."""
        self.try_register(self.extended("UTF-8''1001"), take=200)
        self.try_register(self.extended("utf-8'en'%31%30%30%31"), take=200)
        for name in ("iso-8859-1''1001", "1001", "UTF-8'1001", "UTF-8''1002", "UTF-8''%ff"):
            self.assertIn(self.try_register(self.extended(name)).status, (400, 401), name)
        good = self.signed()
        self.try_register(f"{good}, username*=UTF-8''1001", take=400)
        self.try_register(good.replace("Digest ", "Digest username*=UTF-8''1001, "), take=400)
        self.try_register(good.replace("Digest ", "Digest USERNAME*=x, "), take=400)
        self.try_register(good, take=200)

    @shows("R7616-3.4-02", "R7616-3.4-03", "R7616-3.5-05")
    def test_cnonce_and_nc(self) -> None:
        """With qop, credentials without cnonce or nc, or with an nc of other than eight hexadecimal digits, are a bad
        request; another cnonce or nc than the one signed is a wrong password."""
        good = self.signed(nc=10)
        for text in (good.replace(', cnonce="0a4f113b"', ""), good.replace(", nc=0000000a", ""),
                     *(good.replace("nc=0000000a", f"nc={nc}") for nc in ("a", "00000000a", "0000000g", '""'))):
            self.assertNotEqual(text, good)
            self.try_register(text, take=400)
        for text in (good.replace('cnonce="0a4f113b"', 'cnonce="0a4f113c"'), good.replace("nc=0000000a", "nc=0000000b")):
            self.assertNotIn("stale", challenge_of(self.try_register(text, take=401)))
        self.try_register(good, take=200)
        self.assertEqual(challenge_of(self.try_register(good, take=401))["stale"], "true")

    @shows("R7616-3.6-01")
    def test_quoted_pairs(self) -> None:
        """A backslash before a character is part of how it is quoted, not of what is hashed (s3.3 unq)."""
        params = self.challenge()
        secret = ha1("MD5", "1001", "example.com", "secret1")
        proof = request_digest("MD5", secret, "REGISTER", "sip:example.com", params["nonce"], "auth", "00000001", 'a"b\\')
        self.try_register(f'Digest username="1\\001", realm="example.com", nonce="{params["nonce"]}", qop=auth, nc=00000001,'
                          f' uri="sip:example.com", cnonce="a\\"b\\\\", response="{proof}", algorithm=MD5', take=200)

    @shows("R7616-3.4.6-01", "R7616-3.4.6-02", "R8760-2.6-02")
    def test_other_uri(self) -> None:
        """The right proof over the URI of something else is a bad request, not another question for the password."""
        for uri in ("sip:elsewhere.example", "sip:1002@example.com", "http://example.com/", "*"):
            self.try_register(self.signed(uri=uri), take=400)
        self.assertEqual(self.stored, 0)

    @shows("R7616-3.4-04", "R7616-3.4-05")
    def test_log(self) -> None:
        """A failed login is told with its source and reason, and without the password, though it was typed where the
        user name belongs or stands in the address."""
        self.try_register(self.signed(user="secret1", password="x"), take=401)
        self.try_register(self.signed(user="1001:secret1", password="x"), take=401)
        for scheme in ("sip", "SIPS"):
            self.try_register(self.signed(password="secret1x"), take=401, from_=f"<{scheme}:1001:secret1@example.com>;tag=1")
        told = [fields for kind, fields in self.rig.records if kind == "refused"]
        self.assertEqual([one["reason"] for one in told], ["unknown user", "unknown user", "wrong password", "wrong password"])
        self.assertEqual({one["source"] for one in told}, {f"{self.a.address}:5060"})
        self.assertEqual([one["who"] for one in told][2:], ["sip:1001@example.com", "SIPS:1001@example.com"])
        self.assertNotIn("secret1", repr(self.rig.records))

    @shows("R7616-3.5-02", "R7616-3.5-03", "R7616-3.5-04")
    def test_no_authentication_info(self) -> None:
        """Nobody who was let in, registering or calling, gets Authentication-Info or Proxy-Authentication-Info of ours."""
        ok = self.try_register(self.signed(), take=200)
        request = self.a.request("MESSAGE", "sip:1001@example.com")
        self.a.authorized(request, self.a.take(407))
        self.a.answer(self.a.take("MESSAGE"), 200)
        for answered in (ok, self.a.take(200)):
            self.assertNotIn("authentication-info", answered.first)
            self.assertNotIn("proxy-authentication-info", answered.first)


class Names(AuthCase):
    """Letters beyond ASCII, and marks (RFC 7616 s4)."""

    marks = "@!\"#$%&'()*+,-./;<=>?[\\]^_`{|}~%41@"

    def setUp(self) -> None:
        # one composed, one decomposed and with spaces of other widths
        self.rig = Rig(auth=self.auth, users={
            "j\u00e4s\u00f8n": "Secret, or \u00e9?", "\u0438\u0432\u0430\u043d": "a\u0301 \u00a0\u3000\U0001f511 \"\\:",
            "\u0645\u06cc\u200c\u062e": "z", f"{self.marks}@example.com": "x"})
        self.a = self.rig.phone("j\u00e4s\u00f8n")

    @shows("R7616-3.4-01", "R7616-4-02", "R7616-4-03")
    def test_names_and_passwords(self) -> None:
        """Users whose names and passwords are of other scripts or full of marks log in by each algorithm, under the bare
        name and the whole, as UTF-8, with plain spaces and composed accents."""
        for user, password in (("j\u00e4s\u00f8n", "Secret, or \u00e9?"),
                               ("\u0438\u0432\u0430\u043d", "\u00e1   \U0001f511 \"\\:"),
                               ("\u0645\u06cc\u200c\u062e", "z"), (self.marks, "x")):
            escaped = quote(user, safe="")
            me: dict[str, Any] = {"from_": f"<sip:{escaped}@example.com>;tag=1", "to": f"<sip:{escaped}@example.com>"}
            for algorithm in ("MD5", "SHA-256"):
                params = challenge_of(self.a.register(take=401, **me), algorithm)
                for nc, name in enumerate((user, f"{user}@example.com"), 1):
                    for typed, status in ((password, 200), (password + "x", 401)):
                        line = self.signed(params, user=name, password=typed, nc=nc)
                        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
                        self.try_register(line.replace(f'"{name}"', f'"{quoted}"'), take=status, **me)
                        extended = f"username*=UTF-8''{quote(name, safe='')}"
                        line = self.signed(params, user=name, password=typed, nc=nc + 2)
                        self.try_register(line.replace(f'username="{name}"', extended), take=status, **me)
        self.assertEqual(self.stored, 4)


class Transparent(TestCase):
    """A proxy between those who ask and those who answer."""

    def setUp(self) -> None:
        self.rig = Rig(auth=AUTH)
        self.a, self.b, self.c = self.rig.phone("1001"), self.rig.phone("1002"), self.rig.phone("1002")
        self.rig.binding("1002", self.b.contact)

    def tearDown(self) -> None:
        self.rig.finish()

    def message(self, *lines: str) -> Request:
        """A MESSAGE past our own challenge, as sent."""
        request = self.a.request("MESSAGE", "sip:1002@example.com", *lines)
        return self.a.authorized(request, self.a.take(407))

    def got(self, phone: Phone) -> Request:
        request = phone.take("MESSAGE")
        assert isinstance(request, Request)
        return request

    @shows("R3261-22.3-02", "R3261-22.3-03", "R3261-22.3-04")
    def test_challenged_further_on(self) -> None:
        """The 407 of a proxy behind us goes to the caller with its challenges, octet for octet; nothing is sent again
        before the caller does, whose credentials for that proxy arrive there as the only ones."""
        challenges = ['Proxy-Authenticate:  Digest  realm="gw.example.net" , nonce="n", algorithm=SHA-256',
                      'proxy-authenticate: Digest realm="gw.example.net",nonce="n"']
        self.message()
        got = self.got(self.b)
        self.assertNotIn("proxy-authorization", got.first)
        self.b.answer(got, 407, *challenges)
        self.assertEqual(lines_of(self.a.take(407), "proxy-authenticate"), challenges)
        self.rig.advance(5)
        self.b.silent()
        theirs = 'Proxy-Authorization: Digest username="x",realm="gw.example.net", nonce="n", uri="sip:x",response="0"'
        self.message(theirs)
        got = self.got(self.b)
        self.assertEqual(lines_of(got, "proxy-authorization"), [theirs])
        self.b.answer(got, 200)
        self.a.take(200)

    @shows("R7616-3.6-02", "R7616-3.6-03")
    def test_untouched(self) -> None:
        """A callee's 401, the caller's answer to it and the callee's Authentication-Info pass octet for octet, though
        the realm is ours and the spelling odd."""
        asked = 'WWW-Authenticate :Digest nonce="x" ,realm="example.com"'
        self.message()
        self.b.answer(self.got(self.b), 401, asked)
        self.assertEqual(lines_of(self.a.take(401), "www-authenticate"), [asked])
        said = 'authorization:  Digest username="1001",realm="example.com" , nonce="x", uri="sip:x",response="0"'
        self.message(said)
        got = self.got(self.b)
        self.assertEqual(lines_of(got, "authorization"), [said])
        told = 'Authentication-info:qop=auth , nextnonce="y",rspauth=""'
        self.b.answer(got, 200, told)
        self.assertEqual(lines_of(self.a.take(200), "authentication-info"), [told])

    @shows("R3261-22.3-05", "R3261-22.3-04")
    def test_every_value_is_looked_at(self) -> None:
        """Good credentials count at the end, in the middle and at the start of many lines; all others of other realms
        and schemes travel on."""
        foreign = 'Digest username="x", realm="gw.example.net", nonce="n", uri="sip:1002@example.com", response="0"'
        others = [BASIC, foreign, "Bearer x", 'Digest realm="example.org"', f"{foreign}, nc", f"{foreign}, qop=auth"]
        for place in range(len(others) + 1):
            request = self.a.request("MESSAGE", "sip:1002@example.com")
            params = challenge_of(self.a.take(407))
            bad = answer(params, "MESSAGE", request.uri_text, "1001", "wrong", "c")
            good = answer(params, "MESSAGE", request.uri_text, "1001", "secret1", "c")
            values = [bad, *others[:place], good, *others[place:]]
            self.a.request("MESSAGE", "sip:1002@example.com", *(f"Proxy-Authorization: {value}" for value in values))
            got = self.got(self.b)
            self.assertEqual(got.all("proxy-authorization"), others)
            self.b.answer(got, 200)
            self.a.take(200)

    @shows("R3261-22.3-07", "R8760-2.5-01", "R8760-2.5-02")
    def test_order_within_a_branch(self) -> None:
        """Of a fork, each branch's challenges go up in the order in which they came, whichever branch is best."""
        self.rig.binding("1002", self.c.contact)
        self.message()
        for phone, realm in ((self.b, "b"), (self.c, "c")):
            phone.answer(self.got(phone), 407, *(
                f'{name}: Digest realm="{realm}", nonce="{number}", algorithm={algorithm}'
                for name in ("Proxy-Authenticate", "WWW-Authenticate")
                for number, algorithm in enumerate(("SHA-512-256", "MD5", "SHA-256"))))
        final = self.a.take(407)
        for name in ("proxy-authenticate", "www-authenticate"):
            values = final.all(name)
            self.assertEqual(len(values), 6)
            for realm in ("b", "c"):
                numbers = [re.findall(r'nonce="(\d)"', value)[0] for value in values if f'realm="{realm}"' in value]
                self.assertEqual(numbers, ["0", "1", "2"])


class NeverChallenged(TestCase):
    """ACK and CANCEL (s22.1)."""

    def calling(self, rig: Rig) -> tuple[Phone, Phone, Request, Request]:
        """A call past the challenge: caller, callee, the INVITE as sent and as received."""
        a, b = rig.phone("1001", transport="tls"), rig.phone("1002")
        rig.binding("1002", b.contact)
        invite = a.invite("1002")
        invite = a.prove(invite)
        a.take(100)
        return a, b, invite, b.take("INVITE")

    @shows("R3261-22.1-03", "R3261-22.1-04")
    def test_ack(self) -> None:
        """The credentials of the INVITE let the ACK through, without our Route and after the nonce's time; without
        them, with a wrong password, over a nonce that is not ours, of another realm, under another name or in no dialog
        it ends here, unanswered."""
        rig = Rig(auth=AUTH)
        a, b, invite, got = self.calling(rig)
        for _ in range(4):
            b.answer(got, 180)
            a.take(180)
            rig.advance(100)
        b.answer(got, 200)
        ok = a.take(200)
        good = invite.first["proxy-authorization"]

        def ack(credentials: str, **fields: Any) -> None:
            """An ACK of that call without a Route."""
            fields = {"to": ok.first["to"], "from_": ok.first["from"], **fields}
            lines = [f"Proxy-Authorization: {credentials}"] if credentials else []
            a.request("ACK", b.contact, *lines, call_id=ok.call_id, cseq=ok.cseq_number, **fields)

        wrong = re.sub(r'response="\w', 'response="', good)
        nonce = re.findall(r'[( ]nonce="(\w+)"', good)[0]
        forged = answer({"realm": "example.com", "qop": "auth", "nonce": nonce[:-1] + ("0" if nonce[-1] != "0" else "1")},
                        "INVITE", invite.uri_text, "1001", "secret1", "0a4f113b")
        for value in ("", wrong, forged, BASIC, good.replace('realm="example.com"', 'realm="example.net"'), "Digest"):
            self.assertNotEqual(value, good)
            ack(value)
        ack(good, to="<sip:1002@example.com>")
        ack(good, from_="<sip:1003@example.com>;tag=1")
        rig.advance(1)
        b.silent()
        a.silent()
        for _ in range(2):  # the second for a 200 that was repeated
            ack(good)
            got = b.take("ACK")
            self.assertEqual((got.to_tag, got.cseq), (ok.to_tag, (invite.cseq_number, "ACK")))
            self.assertNotIn("proxy-authorization", got.first)
        rig.finish()

    @shows("R3261-22.1-03")
    def test_ack_along_the_route(self) -> None:
        """Along our Record-Route an ACK passes with the credentials of the INVITE, which end here, and without."""
        rig = Rig(auth=AUTH)
        a, b, invite, got = self.calling(rig)
        b.answer(got, 200)
        ok = a.take(200)
        for lines in ([f"Proxy-Authorization: {invite.first['proxy-authorization']}"], []):
            a.in_dialog("ACK", ok, *lines, cseq=invite.cseq_number)
            self.assertNotIn("proxy-authorization", b.take("ACK").first)
        rig.finish()

    @shows("R3261-22.1-05", "R3261-22.1-06")
    def test_cancel(self) -> None:
        """A CANCEL over the TLS connection of its INVITE is obeyed without credentials."""
        rig = Rig(auth=AUTH)
        a, b, invite, got = self.calling(rig)
        b.answer(got, 180)
        a.take(180)
        cancel = a.cancel(invite)
        self.assertNotIn("proxy-authorization", cancel.first)
        a.take(200)
        b.cancelled(got)
        a.ack(a.take(487), invite)
        rig.finish()


class Secure(TestCase):
    """Calls to sips URIs (s26.2.2)."""

    @shows("R3261-26.2.2-04")
    def test_no_way_without_tls(self) -> None:
        """Where TLS cannot be had, a request to a sips URI fails; nothing goes there by TCP or UDP, and the same call to
        the sip URI does."""
        rig = Rig()
        a, out = rig.phone("1001", transport="tls"), rig.phone("x", "198.51.100.7", port=5061)
        rig.dns.address("elsewhere.example", out.address)
        plain = rig.network.listen("tcp", out.address, 5061)
        rig.network.listen("tls", out.address, 5061, "refuse")
        a.request("MESSAGE", "sips:x@elsewhere.example")
        rig.advance(1)
        self.assertIn(a.take().status, (500, 503))
        out.silent()
        self.assertEqual(plain.received, [])
        a.request("MESSAGE", "sip:x@elsewhere.example:5061")
        out.answer(out.take("MESSAGE"), 200)
        a.take(200)
        rig.finish()


class Reasons(TestCase):
    """Why a CANCEL was sent (RFC 3326)."""

    @shows("R3326-2-02")
    def test_one_of_a_protocol(self) -> None:
        """A phone that begins to ring when another has answered hears that in one Reason, though the caller's CANCEL
        crossed the 200 with a Reason of its own, or with none."""
        for lines in (['Reason: SIP;cause=487;text="Bored"'], []):
            rig = Rig()
            a, b, c = rig.phone("1001"), rig.phone("1002"), rig.phone("1002")
            for phone in (b, c):
                rig.binding("1002", phone.contact)
            invite = a.invite("1002")
            a.take(100)
            first, second = b.take("INVITE"), c.take("INVITE")
            b.answer(first, 180)
            a.take(180)
            b.answer(first, 200)
            ok = a.take(200)
            a.cancel(invite, *lines)
            a.take(200)
            a.ack(ok)
            b.take("ACK")
            c.answer(second, 180)
            cancel = c.take("CANCEL")
            self.assertEqual(cancel.all("reason"), ['SIP;cause=200;text="Call completed elsewhere"'])
            c.answer(cancel, 200)
            c.answer(second, 487)
            c.take("ACK")
            rig.finish()

    @shows("R3326-2-01", "R3326-2-02")
    def test_the_callers_alone(self) -> None:
        """A CANCEL for the caller has the caller's Reason and no other, also where a phone answers all the same."""
        rig = Rig()
        a, b, c = rig.phone("1001"), rig.phone("1002"), rig.phone("1002")
        for phone in (b, c):
            rig.binding("1002", phone.contact)
        invite = a.invite("1002")
        a.take(100)
        first, second = b.take("INVITE"), c.take("INVITE")
        b.answer(first, 180)
        a.take(180)
        a.cancel(invite, 'Reason: SIP;cause=487;text="Bored"', "Reason: Q.850;cause=16")
        a.take(200)
        b.answer(b.take("CANCEL"), 481)
        b.pick_up(first, a)
        c.answer(second, 180)
        cancel = c.take("CANCEL")
        self.assertEqual(cancel.all("reason"), ['SIP;cause=487;text="Bored"', "Q.850;cause=16"])
        c.answer(cancel, 200)
        c.answer(second, 487)
        c.take("ACK")
        rig.finish()
