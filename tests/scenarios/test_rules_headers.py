"""The rules of header fields, one by one (RFC 3261 s20), where no other scenario shows them."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.auth.digest import answer as digest_answer
from sipd.auth.digest import parse_challenge
from sipd.message.message import Message, Request, Response
from sipd.message.parser import parse
from tests.support.cases import shows
from tests.support.rig import DOMAIN, SERVER, Phone, Rig, established

#: What a response to any request has (s20, tables 2 and 3).
ALWAYS = {"via", "from", "to", "call-id", "cseq", "content-length"}
#: Fields of an INVITE that do not apply to a CANCEL or to the ACK of a refusal (s20, tables 2 and 3).
OF_AN_INVITE = ("Accept: application/sdp", "Accept-Encoding: gzip", "Accept-Language: en", "Alert-Info: <http://x/y.wav>",
                "Allow: INVITE", "Call-Info: <http://x/>;purpose=icon", "Content-Disposition: session", "Expires: 200",
                "In-Reply-To: x@y", "Organization: x", "Priority: urgent", "Reply-To: <sip:x@y>", "Require: 100rel",
                "Subject: x", "Supported: 100rel", "Proxy-Authorization: Digest realm=\"far\", username=\"x\"")
#: Fields that do not apply to a REGISTER, an OPTIONS or a CANCEL (s20, tables 2 and 3).
OUT_OF_PLACE = ("Alert-Info: <http://x/y.wav>", "In-Reply-To: x@y", "Priority: emergency", "Reply-To: <sip:x@y>", "Subject: x",
                "Record-Route: <sip:192.0.2.99;lr>", "Min-Expires: 9", "Error-Info: <sip:x@y>", "Retry-After: 9",
                "Server: x", "Unsupported: foo", "Warning: 399 x \"y\"", "WWW-Authenticate: Digest realm=\"x\", nonce=\"y\"",
                "Proxy-Authenticate: Digest realm=\"x\", nonce=\"y\"", "Authentication-Info: nextnonce=\"x\"")


def names(message: Message) -> set[str]:
    """The header fields it has."""
    return {header[0] for header in message.headers}


def pair(**settings: object) -> tuple[Rig, Phone, Phone]:
    """A caller and a registered callee."""
    rig = Rig(**settings)  # type: ignore[arg-type]
    a, b = rig.phone("1001"), rig.phone("1002")
    b.register()
    return rig, a, b


def cancelled(a: Phone, b: Phone, *lines: str, on_cancel: tuple[str, ...] = ()) -> tuple[Request, Request, Response, Response]:
    """A call with these lines that the caller gives up: the CANCEL and ACK the callee got, the 200 to the CANCEL and
    the 487 the caller got."""
    invite = a.invite("1002", *lines)
    got = b.ring(a)
    a.cancel(invite, *on_cancel)
    ok = a.take(200)
    cancel = b.take("CANCEL")
    b.answer(cancel, 200)
    b.answer(got, 487)
    ack = b.take("ACK")
    gone = a.take(487)
    a.ack(gone, invite)
    return cancel, ack, ok, gone


class Presence(TestCase):
    """s20: what has to be there, what must not be, and what is passed over."""

    @shows("R3261-20-01", "R3261-20.5-01", "R3261-20.37-01")
    def test_capabilities(self) -> None:
        """The 200 to an OPTIONS without any Accept, Allow or Supported says what there is; a 405 has Allow as well."""
        rig = Rig()
        a = rig.phone("1001")
        a.request("OPTIONS", f"sip:{DOMAIN}")
        ok = a.take(200)
        self.assertEqual(names(ok), ALWAYS | {
            "accept", "accept-encoding", "accept-language", "allow", "allow-events", "supported"})
        self.assertEqual(ok.values("supported"), ["path"])
        a.request("FOO", f"sip:{DOMAIN}")
        for answer in (ok, a.take(405)):
            self.assertLessEqual({"ACK", "CANCEL", "OPTIONS", "REGISTER"}, set(answer.values("allow")))
        rig.finish()

    @shows("R3261-20-02", "R3261-20-06", "R3261-20-09", "R3261-20.14-01", "R3261-20.14-03")
    def test_responses(self) -> None:
        """Responses of ours have what every response has, what their status asks for, and nothing that does not apply."""
        rig = Rig(auth={"required": True}, registrar={"min_expires": 60})
        a = rig.phone("1001")
        home, callee = f"sip:{DOMAIN}", f"sip:1002@{DOMAIN}"
        for method, uri, hops, lines, status, more in (
            ("OPTIONS", home, "70", ("Require: foo",), 420, {"unsupported"}),
            ("MESSAGE", callee, "70", ("Proxy-Require: foo",), 420, {"unsupported"}),
            ("MESSAGE", callee, "70", (), 407, {"proxy-authenticate"}),
            ("MESSAGE", "foo:bar", "70", (), 416, set()),
            ("MESSAGE", callee, "0", (), 483, set()),
            ("REGISTER", home, "70", (f"Contact: <{a.contact}>", "Record-Route: <sip:192.0.2.99;lr>"), 401, {"www-authenticate"}),
            ("REGISTER", home, "70", ("Contact: sip:a@b?c=d",), 400, set()),
        ):
            a.request(method, uri, *lines, to=f"<{a.aor}>", max_forwards=hops)
            answer = a.take(status)
            self.assertEqual(names(answer), ALWAYS | more)
            self.assertEqual((answer.all("content-length"), answer.body), (["0"], b""))
        for expires, status, more in ((1, 423, {"min-expires"}), (60, 200, {"contact", "date"})):
            request = a.request("REGISTER", f"sip:{DOMAIN}", f"Expires: {expires}", "Record-Route: <sip:192.0.2.99;lr>",
                                to=f"<{a.aor}>", contact=f"<{a.contact}>")
            a.authorized(request, a.take(401))
            answer = a.take(status)
            self.assertEqual((names(answer), answer.all("content-length")), (ALWAYS | more, ["0"]))
        rig.finish()

    @shows("R3261-20-02", "R3261-20-04", "R3261-20-07", "R3261-20-09", "R3261-20.14-01", "R3261-20.14-03")
    def test_cancel_and_ack(self) -> None:
        """The CANCEL and the ACK we make have what they need, Content-Length 0, and nothing of the INVITE that does not
        apply to them; nor has our 200 to the caller's CANCEL, or a 487 of ours."""
        rig, a, b = pair()
        cancel, ack, ok, _ = cancelled(a, b, *OF_AN_INVITE, "Route: <sip:192.0.2.1;lr>")
        for made in (cancel, ack):
            self.assertEqual(names(made), ALWAYS | {"max-forwards"})
            self.assertEqual((made.all("content-length"), made.body, len(made.all("via"))), (["0"], b"", 1))
            self.assertTrue(all(made.first[name] for name in ALWAYS))
        self.assertEqual((names(ok), ok.all("content-length")), (ALWAYS, ["0"]))
        rig.finish()
        rig, a, b = pair()
        rig.network.drop = lambda packet: packet.target[0] == b.address
        invite = a.invite("1002", *OF_AN_INVITE)
        a.take(100)
        a.cancel(invite)
        a.take(200)
        rig.advance(40.0)
        gone = a.take()
        self.assertGreaterEqual(gone.status, 400)
        self.assertEqual((names(gone), gone.all("content-length")), (ALWAYS, ["0"]))
        a.ack(gone, invite)
        a.drain()
        rig.finish()

    @shows("R3261-20-02")
    def test_datagrams_without_a_length(self) -> None:
        """Requests and responses by UDP without Content-Length are served and passed on."""
        rig, a, b = pair()
        for method, uri in (("OPTIONS", f"sip:{DOMAIN}"), ("REGISTER", f"sip:{DOMAIN}"), ("MESSAGE", f"sip:1002@{DOMAIN}")):
            request = a.request(method, uri, to=f"<{a.aor}>", send=False)
            request.remove("content-length")
            a.send(request)
            if method == "MESSAGE":
                answer = b.answer(b.take(method), 200, send=False)
                answer.remove("content-length")
                b.send(answer)
            a.take(200)
        rig.finish()

    @shows("R3261-20-08", "R3261-20-09")
    def test_out_of_place(self) -> None:
        """Fields that do not apply to REGISTER, OPTIONS and CANCEL change nothing of the answers, and none comes back."""
        answers: list[list[tuple[int, set[str]]]] = []
        for lines in ((), OUT_OF_PLACE):
            rig, a, b = pair()
            got = [a.register(*lines)]
            for uri in (f"sip:{DOMAIN}", f"sip:{SERVER}"):
                a.request("OPTIONS", uri, *lines)
                got.append(a.take(200))
            extra = (*lines, "Require: foo", "Proxy-Require: foo", "Expires: 0", "Contact: <sip:x@y>",
                     "Supported: x") if lines else ()
            got += cancelled(a, b, on_cancel=extra)[2:]
            self.assertEqual(got[0].values("contact"), [f"<{a.contact}>;expires=3600"])
            answers.append([(answer.status, names(answer)) for answer in got])
            rig.finish()
        self.assertEqual(answers[0], answers[1])
        self.assertEqual(answers[0][0][1], ALWAYS | {"contact", "date"})
        self.assertEqual(answers[0][3][1], ALWAYS)

    @shows("R3261-20-10")
    def test_unknown_parameters(self) -> None:
        """Parameters that nobody knows in Via, From, To and Contact change nothing; those of a Contact are given back."""
        rig, a, b = pair()
        odd = ";foo;bar=baz;quoted=\"a;b,c\""
        answer = a.register(contact=f"<{a.contact}>{odd};expires=60", to=f"<{a.aor}>{odd}", from_=f"<{a.aor}>;x=y;tag=1{odd}",
                            via=f"Via: SIP/2.0/UDP {a.address}:5060{odd};branch=z9hG4bKodd")
        self.assertEqual(answer.values("contact"), [f"<{a.contact}>;expires=60{odd}"])
        a.invite("1002", from_=f"<{a.aor}>{odd};tag=1", to=f"<{b.aor}>{odd}", contact=f"<{a.contact}>{odd}")
        a.take(100)
        b.answer(b.take("INVITE"), 200)
        a.ack(a.take(200))
        b.take("ACK")
        rig.finish()

    @shows("R3261-20.1-01", "R3261-20.2-01", "R3261-20.3-01", "R3261-20.12-01")
    def test_no_bodies(self) -> None:
        """Responses of ours have no body, so no type or coding that somebody could not take, and English phrases."""
        rig = Rig(auth={"required": True})
        a = rig.phone("1001")
        for lines in ((), ("Accept: text/html", "Accept-Encoding: gzip;q=1.0, *;q=0.5", "Accept-Language: fr"),
                      ("Accept:", "Accept-Encoding:", "Accept-Language:")):
            for method, uri, phrase in (("OPTIONS", f"sip:{DOMAIN}", "OK"), ("REGISTER", f"sip:{DOMAIN}", "Unauthorized"),
                                        ("MESSAGE", "foo:bar", "Unsupported URI Scheme")):
                a.request(method, uri, *lines, to=f"<{a.aor}>")
                answer = a.take()
                self.assertEqual((answer.reason, answer.body), (phrase, b""))
                self.assertNotIn("content-encoding", answer.first)
                self.assertNotIn("content-type", answer.first)
        rig.finish()

    @shows("R3261-20.5-02")
    def test_without_allow(self) -> None:
        """A phone whose REGISTER and responses have no Allow gets requests of every method."""
        rig, a, b = pair()
        for method in ("MESSAGE", "OPTIONS", "SUBSCRIBE", "REFER", "PUBLISH", "INFO", "NOTIFY", "X-NEW"):
            a.request(method, f"sip:1002@{DOMAIN}", "Event: conference")
            b.answer(b.take(method), 200)
            a.take(200)
        established(a, b)
        rig.finish()

    @shows("R3261-20.43-01")
    def test_warning(self) -> None:
        """Warning 399 changes nothing: the better of two refusals goes up as ever, its Warning octet for octet."""
        for warned in (0, 1):
            rig = Rig()
            a, b, c = rig.phone("1001"), rig.phone("1002"), rig.phone("1002")
            b.register()
            c.register()
            warning = "Warning: 399 x \"do not call again; 603; retry\",  399 y \"z\""
            invite = a.invite("1002")
            a.take(100)
            for number, (phone, status) in enumerate(((b, 486), (c, 500))):
                phone.refuse(status, *([warning] if number == warned else []))
            refused = a.take(486)
            self.assertEqual(refused.all("warning"), [] if warned else [warning[9:]])
            a.ack(refused, invite)
            rig.finish()


class Required(TestCase):
    """s20.32: Require in requests that we serve."""

    @shows("R3261-20.32-01", "R3261-20.32-02")
    def test_require(self) -> None:
        """420 names each tag that is not supported, over all lines, and the REGISTER changes nothing; path passes."""
        rig = Rig()
        a = rig.phone("1001")
        for method in ("REGISTER", "OPTIONS"):
            for lines, unsupported in (
                (("Require: foo",), ["foo"]), (("Require: path, foo",), ["foo"]), (("Require: path", "REQUIRE : a,b"), ["a", "b"]),
                (("Require: 100rel", "Supported: 100rel"), ["100rel"]), (("Require: path", "Supported: path"), []),
            ):
                a.request(method, f"sip:{DOMAIN}", *lines, to=f"<{a.aor}>",
                          contact=f"<{a.contact}>" if method == "REGISTER" else None)
                answer = a.take(420 if unsupported else 200)
                self.assertEqual(answer.values("unsupported"), unsupported)
                self.assertEqual(bool(rig.core.location.bindings(f"1001@{DOMAIN}")), method == "OPTIONS" or not unsupported)
        rig.finish()


class Credentials(TestCase):
    """s20.7, s20.28: credentials stand on lines of their own."""

    FOREIGN = ('Digest username="x", realm="far.example", nonce="n, m", uri="sip:y", response="0123"',
               'Digest username="1001", realm="near.example", nonce="o", uri="sip:y", response="4567"')

    def ours(self, phone: Phone, challenge: Response, name: str, request: Request) -> str:
        """Credentials for our realm."""
        fields = parse_challenge(challenge.all(name)[0])
        assert fields is not None
        return digest_answer(fields, request.method, request.uri_text, phone.name,
                             str(phone.password), "0a4f113b", 1)

    @shows("R3261-20.7-01")
    def test_authorization(self) -> None:
        """Ours is found among other realms' on whichever line; lines that are not for us pass as they are."""
        for place in range(3):
            rig = Rig(auth={"required": True})
            a = rig.phone("1001")
            request = a.request("REGISTER", f"sip:{DOMAIN}", to=f"<{a.aor}>", contact=f"<{a.contact}>")
            lines = list(self.FOREIGN)
            lines.insert(place, self.ours(a, a.take(401), "www-authenticate", request))
            a.request("REGISTER", f"sip:{DOMAIN}", *(f"Authorization: {line}" for line in lines), to=f"<{a.aor}>",
                      contact=f"<{a.contact}>")
            a.take(200)
            rig.finish()
        rig, a, b = pair()
        a.request("MESSAGE", f"sip:1002@{DOMAIN}", *(f"Authorization: {line}" for line in self.FOREIGN))
        got = b.take("MESSAGE")
        self.assertEqual(got.all("authorization"), list(self.FOREIGN))
        b.answer(got, 200)
        a.take(200)
        rig.finish()

    @shows("R3261-20.28-01")
    def test_proxy_authorization(self) -> None:
        """Ours is found among other realms' on whichever line and taken off; the others pass, each on its line."""
        for place in range(3):
            rig = Rig(auth={"required": True})
            a, b = rig.phone("1001"), rig.phone("1002")
            rig.binding("1002", b.contact)
            request = a.request("MESSAGE", f"sip:1002@{DOMAIN}")
            lines = list(self.FOREIGN)
            lines.insert(place, self.ours(a, a.take(407), "proxy-authenticate", request))
            a.request("MESSAGE", f"sip:1002@{DOMAIN}", *(f"Proxy-Authorization: {line}" for line in lines))
            got = b.take("MESSAGE")
            self.assertEqual(got.all("proxy-authorization"), list(self.FOREIGN))
            b.answer(got, 200)
            a.take(200)
            rig.finish()


class Addresses(TestCase):
    """s20, s20.10, s20.20: URIs with and without angle brackets."""

    @shows("R3261-20-11", "R3261-20.10-01")
    def test_contacts(self) -> None:
        """Contacts come back in brackets, with what was a parameter of the URI inside and of the header outside."""
        rig = Rig()
        a = rig.phone("1001")
        answer = a.register(contact=f"sip:1001@{a.address};foo=bar;q=0.5, <sip:1001@{a.address}:5070;x=y?a=b>;p, "
                                    f"\"Q, \\\"R\\\"\" <sip:1001@{a.address}:5080>", expires=60)
        self.assertEqual(sorted(answer.all("contact")), [
            f"<sip:1001@{a.address}:5070;x=y?a=b>;expires=60;p", f"<sip:1001@{a.address}:5080>;expires=60",
            f"<sip:1001@{a.address}>;expires=60;q=0.5;foo=bar"])
        for wrong in (f"sip:1001@{a.address}?a=b", "sip:10,01@x", f"sip:1001@{a.address}?a=b;q=1"):
            a.register(contact=wrong, take=400)
        rig.finish()

    @shows("R3261-20.20-01")
    def test_from(self) -> None:
        """From without brackets: what follows a ";" belongs to the header, its tag too; a "," or "?" is refused."""
        rig, a, b = pair()
        a.invite("1002", from_=f"{a.aor};tag=abc;transport=tcp")
        a.take(100)
        got = b.take("INVITE")
        self.assertEqual((got.from_tag, got.first["from"]), ("abc", f"{a.aor};tag=abc;transport=tcp"))
        b.pick_up(got, a)
        for wrong in ("sip:10,01@example.com;tag=1", "sip:1001@example.com?Subject=x;tag=1", "sip:1001@example.com, x;tag=1"):
            request = a.request("MESSAGE", f"sip:1002@{DOMAIN}", from_="<sip:placeholder@x>", send=False)
            a.send(request.encode().replace(b"<sip:placeholder@x>", wrong.encode()))
            a.take_refusal(400)
        b.silent()
        rig.finish()


class Branches(TestCase):
    """s20.42: our own Vias."""

    @shows("R3261-20.42-01")
    def test_cookie(self) -> None:
        """The branch of whatever we send begins with the cookie: forwarded, made or stateless, by UDP, TCP and TLS."""
        sent = []
        for transport in ("udp", "tcp", "tls"):
            rig = Rig()
            a, b = rig.phone("1001"), rig.phone("1002", transport=transport)
            b.register()
            _, _, _, ok = established(a, b)
            a.hang_up(ok, b)
            cancelled(a, b)
            a.request("MESSAGE", f"sip:1002@{DOMAIN}", via=f"Via: SIP/2.0/UDP {a.address};branch=1")
            b.answer(b.take("MESSAGE"), 200)
            a.take(200)
            for data in b.raw:
                message = parse(data)
                if isinstance(message, Request):
                    assert message.via is not None
                    sent.append(message.method)
                    self.assertRegex(message.via.branch, r"\Az9hG4bK[^ ]{16,}\Z")
            rig.finish()
        self.assertEqual(sent, ["INVITE", "ACK", "BYE", "INVITE", "CANCEL", "ACK", "MESSAGE"] * 3)
