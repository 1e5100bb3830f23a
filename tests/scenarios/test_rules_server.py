"""What the server does as the one addressed, rule by rule (RFC 3261 s8.2, s9.2), on the real core."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.message import Request, Response
from sipd.message.parser import parse
from tests.support.cases import shows
from tests.support.rig import DOMAIN, SERVER, Phone, Rig

AUTH = {"required": True}
#: Fields nobody knows, and known ones nobody can read and nobody needs to serve a request.
UNKNOWN = ("X-Strange: \"never closed", "P-Never-Heard-Of: <<>>;;", "Answer-Mode: ???", "x: 1;;=")
BROKEN = ("Date: yesterday, or so", "Max-Forwards: many", "Accept: ///", "Subject: \udcff", "User-Agent:", "Timestamp: x",
          "Call-Info: <", "Reply-To: nobody >", "In-Reply-To: ,,", "Warning: nonsense", "Content-Disposition: ???",
          "Record-Route: <<", "Alert-Info: \"", "Allow: ()", "Organization:", "Priority: \"", "MIME-Version: one")


class Inspection(TestCase):
    """s8.2.1 to s8.2.2: the method, header fields, To and Request-URI."""

    @shows("R3261-8.2.1-01", "R3261-8.2.1-02", "R3261-8.2.1-03", "R3261-8.2.1-04")
    def test_method(self) -> None:
        """A method the server does not serve gets 405 with the Allow that OPTIONS tells; a stranger is asked who they are
        before any method but OPTIONS is looked at."""
        rig = Rig(auth=AUTH)
        a = rig.phone("1001")
        a.request("OPTIONS", f"sip:{DOMAIN}")
        allowed = a.take(200).values("allow")
        self.assertIn("REGISTER", allowed)
        for method in ("FOO", "options", "register"):
            request = a.request(method, f"sip:{DOMAIN}", contact=f"<{a.contact}>")
            a.authorized(request, a.take(407))
            refusal = a.take(405)
            self.assertEqual(refusal.values("allow"), allowed)
            self.assertTrue(refusal.to_tag)
        self.assertEqual(len(rig.core.location), 0)
        rig.finish()

    @shows("R3261-8.2.2-01", "R3261-8.2.2-02")
    def test_unknown_and_broken_fields(self) -> None:
        """REGISTER and OPTIONS are served whatever stands in fields that nobody knows or needs."""
        for line in (*UNKNOWN, *BROKEN):
            rig = Rig()
            a = rig.phone("1001")
            own = "70" if not line.startswith("Max-Forwards") else None
            a.request("REGISTER", f"sip:{DOMAIN}", line, to=f"<{a.aor}>", contact=f"<{a.contact}>", max_forwards=own)
            self.assertEqual(len(a.take(200).values("contact")), 1, line)
            a.request("OPTIONS", f"sip:{DOMAIN}", line, max_forwards=own)
            a.take(200)
            rig.finish()

    @shows("R3261-8.2.2.1-01")
    def test_to_is_not_the_server(self) -> None:
        """OPTIONS to the server, and calls to a user, are served whatever To says: foreign, unknown, of any scheme."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register()
        for to in ("<sip:somebody@elsewhere.example>", "<sip:nobody@example.com>", "<tel:+15550100>", "<urn:service:sos>",
                   "<unheard-of:opaque>", "<http://www.example.com/x>"):
            a.request("OPTIONS", f"sip:{DOMAIN}", to=to)
            self.assertTrue(a.take(200).first["to"].startswith(to))
            a.request("MESSAGE", f"sip:1002@{DOMAIN}", to=to)
            b.answer(b.take("MESSAGE"), 200)
            a.take(200)
        rig.finish()


class Merged(TestCase):
    """s8.2.2.2: one request that comes over two paths."""

    def register(self, phone: Phone, take: int, *lines: str, **fields: str | int) -> Response:
        """A REGISTER that is told from another by its branch alone, unless `fields` say otherwise."""
        given = {"to": f"<{phone.aor}>", "from_": f"<{phone.aor}>;tag=same", "call_id": "merged", "cseq": 7,
                 "contact": f"<{phone.contact}>", **fields}
        phone.request("REGISTER", f"sip:{DOMAIN}", "Expires: 60", *lines, **given)  # type: ignore[arg-type]
        answer = phone.take(take)
        assert isinstance(answer, Response)
        return answer

    @shows("R3261-8.2.2.2-01", "R3261-8.2.2.2-02")
    def test_second_path(self) -> None:
        """The copy gets 482, also as a query or a removal; what differs in From tag, Call-ID or CSeq is another request,
        and so is all that comes when the first one's transaction is over, or when the first was refused."""
        rig = Rig()
        a = rig.phone("1001")
        self.register(a, 200)
        for contact in (f"<{a.contact}>", "", "<sip:1001@192.0.2.99>"):
            self.register(a, 482, contact=contact)
        self.assertEqual([one.contact for one in rig.core.location.bindings("1001@example.com")], [a.contact])
        self.register(a, 200, from_=f"<{a.aor}>;tag=other", contact="")
        self.register(a, 200, call_id="other", contact="")
        self.register(a, 200, cseq=8)
        b = rig.phone("1002")
        self.register(b, 200)
        rig.advance(40)
        self.register(a, 200, cseq=8, contact="")
        self.register(a, 423, cseq=9, contact=f"<{a.contact}>;expires=1")
        self.register(a, 200, cseq=9)
        rig.finish()

    @shows("R3261-8.2.2.2-01")
    def test_strangers_learn_nothing(self) -> None:
        """A copy without credentials is challenged, as any request is."""
        rig = Rig(auth=AUTH)
        a = rig.phone("1001")
        request = a.request("REGISTER", f"sip:{DOMAIN}", to=f"<{a.aor}>", contact=f"<{a.contact}>")
        good = a.authorized(request, a.take(401))
        a.take(200)
        assert good.via is not None
        plain = request.encode().replace(b"CSeq: 1 ", b"CSeq: 2 ").replace(b"branch=z9hG4bK", b"branch=z9hG4bKother")
        a.send(plain)
        a.take(401)
        rig.finish()


class Extensions(TestCase):
    """s8.2.2.3."""

    @shows("R3261-8.2.2.3-01", "R3261-8.2.2.3-02")
    def test_require(self) -> None:
        """REGISTER and OPTIONS that require the unknown get 420 with what is unknown and nothing else."""
        rig = Rig()
        a = rig.phone("1001")
        for method in ("REGISTER", "OPTIONS"):
            a.request(method, f"sip:{DOMAIN}", "Require: path, foo", "Require: bar", to=f"<{a.aor}>", contact=f"<{a.contact}>")
            self.assertEqual(a.take(420).values("unsupported"), ["foo", "bar"])
        self.assertEqual(len(rig.core.location), 0)
        rig.finish()

    @shows("R3261-8.2.2.3-03", "R3261-8.2.2.3-04")
    def test_ack_and_cancel(self) -> None:
        """An INVITE with Require: our CANCEL and our ACK go without it; a caller's CANCEL and ACK that have it, or
        Proxy-Require, do their work all the same."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register()
        invite = a.invite("1002", "Require: foo")
        a.take(100)
        got = b.take("INVITE")
        self.assertEqual(got.first["require"], "foo")
        b.answer(got, 180)
        a.take(180)
        a.cancel(invite, "Require: nothing-known", "Proxy-Require: nothing-known")
        a.take(200)
        cancel = b.take("CANCEL")
        b.answer(cancel, 200)
        b.answer(got, 487)
        ack = b.take("ACK")
        for ours in (cancel, ack):
            self.assertTrue({"require", "proxy-require"}.isdisjoint(ours.first))
        refusal = a.take(487)
        data = a.ack(refusal, invite).encode()
        a.send(data.replace(b"Content-Length", b"Require: nothing-known\r\nProxy-Require: nothing-known\r\nContent-Length"))
        rig.advance(10)
        a.silent()
        # and this time the only ACK is such a one: the refusal is not repeated
        invite = a.invite("1003")
        refusal = a.take(480)
        assert invite.via is not None
        a.request("ACK", invite.uri_text, "Require: x", "Proxy-Require: x", to=refusal.first["to"], from_=refusal.first["from"],
                  call_id=refusal.call_id, cseq=refusal.cseq_number, via=f"Via: {invite.via.text}")
        rig.advance(10)
        a.silent()
        rig.finish()


class Content(TestCase):
    """s8.2.3: bodies of what the server itself serves."""

    def send(self, phone: Phone, method: str, body: bytes, *lines: str) -> Response:
        """The answer to a request with a body."""
        whole = phone.request(method, f"sip:{DOMAIN}", *lines, to=f"<{phone.aor}>", contact=f"<{phone.contact}>", send=False)
        phone.send(whole.encode().replace(b"Content-Length: 0", b"Content-Length: %d" % len(body)) + body)
        answer = phone.take()
        assert isinstance(answer, Response)
        return answer

    @shows("R3261-8.2.3-01", "R3261-8.2.3-02", "R3261-8.2.3-03", "R3261-8.2.3-04")
    def test_bodies(self) -> None:
        """415 for a type or an encoding that has to be understood and is not, with what is; a body that is optional, of a
        known type, in any language, or of no type at all, and none at all, are served."""
        rig = Rig()
        a = rig.phone("1001")
        pieces = (b"preamble\r\n--b\r\nContent-Type: application/x-a\r\nContent-Disposition: session;handling=optional\r\n\r\nx\r\n"
                  b"--b\r\ncontent-type:application/sdp\r\n\r\nv=0\r\n--b%b\r\n\r\ny\r\n--b--\r\nContent-Type: after/all\r\n\r\n")
        one = pieces % b"\r\nContent-Type: application/x-b; handling=optional"
        cases: tuple[tuple[int, str, bytes, tuple[str, ...]], ...] = (
            (415, "accept", b"x", ("Content-Type: application/x-a",)),
            (415, "accept", b"x", ("c: text/plain",)),
            (415, "accept", b"x", ("Content-Type: application/x-a", "Content-Disposition: session;handling=required")),
            (415, "accept", b"x", ("Content-Type: application/x-a", "Content-Disposition: optional")),
            (200, "", b"x", ("Content-Type: application/x-a", "Content-Disposition: x ; HANDLING = Optional")),
            (200, "", b"x", ("Content-Type: Application / SDP;charset=x",)),
            (200, "", b"x", ("Content-Type: application/sdp", "Content-Language: tlh, x-none")),
            (200, "", b"x", ("Content-Type: application/sdp", "Content-Encoding: Identity")),
            (415, "accept-encoding", b"x", ("Content-Type: application/sdp", "Content-Encoding: gzip")),
            (415, "accept-encoding", b"x", ("Content-Type: application/sdp", "e: tar,gzip")),
            (200, "", b"x", ("Content-Encoding: gzip", "Content-Type: x/y", "Content-Disposition: render;handling=optional")),
            (200, "", b"x", ()),
            (200, "", b"", ("Content-Type: application/x-a",)),
            (415, "accept", one, ("Content-Type: multipart/mixed;boundary=b",)),
            (415, "accept", pieces % b"", ("Content-Type: multipart/mixed;boundary=b",)),
            (200, "", pieces % b"\r\nContent-Disposition:x;handling=optional", ("Content-Type: multipart/mixed; boundary=\"b\"",)),
            (200, "", one, ("Content-Type: multipart/mixed;boundary=b", "Content-Disposition: x;handling=optional")),
            (415, "accept", b"--b\r\nContent-Type: multipart/mixed;boundary=c\r\n\r\nx\r\n--b--", ("Content-Type: multipart/mixed;boundary=b",)),
            (415, "accept", b"x", ("Content-Type: multipart/mixed",)),
            (415, "accept", b"x", ("Content-Type: multipart/signed;boundary=b",)),
            (415, "accept", b"x", ("Content-Type: \"",)))
        told = {"accept": ["application/sdp"], "accept-encoding": ["identity"]}
        for method in ("REGISTER", "OPTIONS"):
            for status, name, body, lines in cases:
                answer = self.send(a, method, body, *lines)
                self.assertEqual(answer.status, status, (method, lines, body))
                if name:
                    self.assertEqual(answer.values(name), told[name], lines)
        rig.finish()

    @shows("R3261-8.2.3-01", "R3261-8.2-02")
    def test_refused_in_full(self) -> None:
        """A REGISTER with such a body stores nothing, and its sender is asked for a password first."""
        rig = Rig(auth=AUTH)
        a = rig.phone("1001")
        request = a.request("REGISTER", f"sip:{DOMAIN}", "Content-Type: application/x-a", to=f"<{a.aor}>",
                            contact=f"<{a.contact}>", send=False)
        data = request.encode().replace(b"Content-Length: 0", b"Content-Length: 1") + b"x"
        a.send(data)
        challenge = a.take(401)
        again = parse(data)
        assert isinstance(again, Request)
        a.authorized(again, challenge)
        a.take(415)
        self.assertEqual(len(rig.core.location), 0)
        rig.finish()


class Responses(TestCase):
    """s8.2.6."""

    @shows("R3261-8.2.6.1-01", "R3261-8.2.6.1-02", "R3261-8.2.6.1-03", "R3261-8.2.6.1-04", "R3261-8.2.6.1-05")
    def test_provisional(self) -> None:
        """REGISTER and OPTIONS have one response, final and at once. The 100 to an INVITE repeats its Timestamp; the one
        to a MESSAGE that a phone leaves unanswered comes after 3.5 s and says so."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register("Timestamp: 1")
        a.request("OPTIONS", f"sip:{DOMAIN}", "Timestamp: 1")
        self.assertNotIn("timestamp", a.take(200).first)
        invite = a.invite("1002", "Timestamp: 54.25")
        self.assertEqual(a.take(100).all("timestamp"), ["54.25"])
        b.refuse(486)
        a.ack(a.take(486), invite)
        for stamp, told in (("54.25", "54.25 3.5"), ("7 0.5", "7 3.5"), ("", None)):
            a.request("MESSAGE", f"sip:1002@{DOMAIN}", *([f"Timestamp: {stamp}"] if stamp else []))
            got = b.take("MESSAGE")
            rig.advance(3.4, 0.1)
            a.silent()
            rig.advance(0.3, 0.1)
            self.assertEqual(a.take(100).get("timestamp"), told)
            b.take_all("MESSAGE")
            b.answer(got, 200)
            a.take(200)
        b.drain()
        rig.finish()

    @shows("R3261-8.2.6.2-01", "R3261-8.2.6.2-02", "R3261-8.2.6.2-03", "R3261-8.2.6.2-04", "R3261-8.2.6.2-05",
           "R3261-8.2.6.2-06", "R3261-8.2.6.2-07", "R3261-8.2.6.2-08", "R3261-8.2.6.2-09")
    def test_headers_and_tags(self) -> None:
        """Whatever is answered, with or without a transaction: From, Call-ID, CSeq and Vias are those of the request, octet
        for octet and in order; To is, too, with a tag of ours where it had none (but for a 100), the same for a repeat."""
        for auth in ({"required": False}, AUTH):
            rig = Rig(auth=auth)
            a, b = rig.phone("1001", "192.0.2.10"), rig.phone("1002", "192.0.2.44")
            rig.binding("1002", b.contact)
            number = 0
            for method, uri, more in (("REGISTER", f"sip:{DOMAIN}", ()), ("REGISTER", f"sip:{DOMAIN}", ("Require: x",)),
                                      ("OPTIONS", f"sip:{SERVER}", ()), ("OPTIONS", f"sip:{DOMAIN}", ("Require: x",)),
                                      ("INVITE", f"sip:1003@{DOMAIN}", ()), ("INVITE", f"sip:1002@{DOMAIN}", ()),
                                      ("MESSAGE", f"sip:1002@{DOMAIN}", ("Max-Forwards: 0",)), ("FOO", f"sip:{DOMAIN}", ()),
                                      ("CANCEL", f"sip:1002@{DOMAIN}", ()), ("MESSAGE", "urn:x:y", ()),
                                      ("MESSAGE", f"sip:1002@{DOMAIN}", ("Content-Length: 9",))):
                for tag in ("", ";tag=theirs"):
                    number += 1
                    kept = [f"v:SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKh{number} ;x=\"a;b\"",
                            "Via: SIP/2.0/TCP far.example;branch=z9hG4bK2 , SIP / 2.0 / UDP farther.example;received=192.0.2.77",
                            "f:  \"Me, \\\"A\\\"\" <sip:1001@EXAMPLE.com;x=%41>;tag=f;y", f"i:\tC{number}@H", f"CSEQ : 0{number}  {method}"]
                    to = f"t: \"You\" <sip:1001@example.com;user=phone>;z=1{tag}"
                    data = "\r\n".join([f"{method} {uri} SIP/2.0", *kept[:3], to, *kept[3:], *more, "", ""]).encode()
                    self.answered(a, data, kept, to, tag)
            b.drain()
            rig.advance(40)
            a.drain()

    def answered(self, a: Phone, data: bytes, kept: list[str], to: str, tag: str) -> None:
        """Sends a request twice and looks at each response."""
        tags = set()
        for _ in range(2):
            a.send(data)
            count = len(a.drain())
            self.assertTrue(count)
            for raw in a.raw[-count:]:
                response = parse(raw)
                assert isinstance(response, Response)
                lines = raw.decode().split("\r\n")
                self.assertEqual([line for line in lines if line in kept], kept, raw)
                for name, rows in (("via", 2), ("from", 1), ("call-id", 1), ("cseq", 1), ("to", 1)):
                    self.assertEqual(len(response.all(name)), rows)
                mine, = (line for line in lines if line.startswith("t:"))
                if tag or response.status == 100:
                    self.assertEqual(mine, to)
                else:
                    self.assertTrue(mine.startswith(f"{to};tag="), mine)
                    self.assertGreater(len(response.to_tag), 7)
                    tags.add(response.to_tag)
        self.assertLessEqual(len(tags), 1)


class Stateless(TestCase):
    """s8.2.7: refusals that cost no state."""

    @shows("R3261-8.2.7-01", "R3261-8.2.7-02", "R3261-8.2.7-03", "R3261-8.2.7-05", "R3261-8.2-02")
    def test_refusals(self) -> None:
        """A refused INVITE gets one response for each time it comes, nothing provisional before it and nothing after,
        whether its ACK comes or not; the ACK is swallowed. Its tag is the same each time, and another request's is another."""
        rig = Rig(auth=AUTH)
        a, b = rig.phone("1001"), rig.phone("1002")
        rig.binding("1002", b.contact)
        tags = set()
        for status, lines, uri in ((407, (), f"sip:1002@{DOMAIN}"), (420, ("Proxy-Require: x",), f"sip:1002@{DOMAIN}"),
                                   (416, (), "urn:x:y")):
            invite = a.invite(uri, *lines)
            first = a.take(status)
            self.assertEqual(len(rig.core.layer.servers), 0)
            a.send(invite)
            again = a.take(status)
            self.assertEqual((first.first["to"], first.all("via")), (again.first["to"], again.all("via")))
            tags.add(first.to_tag)
            rig.advance(40)
            a.silent()
            a.ack(again, invite)
            rig.advance(40)
            a.silent()
            b.silent()
        self.assertEqual(len(tags), 3)
        rig.finish()


class Cancel(TestCase):
    """s9.2."""

    @shows("R3261-9.2-02")
    def test_tags(self) -> None:
        """Where the final response to a cancelled INVITE is ours, its To tag is that of the 200 to the CANCEL."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register()
        invite = a.invite("1002")
        a.take(100)
        a.cancel(invite)
        ok = a.take(200)
        self.assertTrue(ok.to_tag)
        rig.advance(33, 0.25)
        finals = a.take_all(487)
        self.assertEqual({final.to_tag for final in finals}, {ok.to_tag})
        a.ack(finals[0], invite)
        b.drain()
        rig.finish()

    @shows("R3261-9.2-01")
    def test_nothing_to_cancel(self) -> None:
        """481 for a CANCEL that names nothing, each time it comes, without a challenge and without a trace."""
        rig = Rig(auth=AUTH)
        a = rig.phone("1001")
        cancel = a.request("CANCEL", f"sip:1002@{DOMAIN}")
        tag = a.take(481).to_tag
        a.send(cancel)
        self.assertEqual(a.take(481).to_tag, tag)
        self.assertEqual(len(rig.core.layer.servers), 0)
        rig.finish()
