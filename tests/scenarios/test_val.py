"""Request validation (RFC 3261 s16.3, s8.1.1) on the real core."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from tests.support.cases import shows
from tests.support.rig import DOMAIN, Phone, Rig, established

AUTH = {"required": True}


def pair(rig: Rig | None = None) -> tuple[Rig, Phone, Phone]:
    """A caller and a callee that is registered."""
    rig = rig or Rig()
    a, b = rig.phone("1001"), rig.phone("1002")
    b.register()
    return rig, a, b


def refused(case: TestCase, phone: Phone, request: Request, status: int) -> None:
    """`phone` gets `status`, with a To tag, and acknowledges it when it refuses an INVITE."""
    answer = phone.take(status)
    case.assertTrue(answer.to_tag)
    if request.method == "INVITE":
        phone.ack(answer, request)
    phone.silent()


class MaxForwards(TestCase):
    """s16.3 step 3, s16.6 step 3."""

    @shows("VAL-01", "R3261-16.3-01", "R3261-16.3-02", "R3261-16.3-09", "R3261-16.3-10", "R3261-16.2-03", "16.3/3")
    def test_none_left(self) -> None:
        """Max-Forwards 0 on INVITE, MESSAGE, BYE and a method nobody knows: 483, and nothing reaches the callee."""
        rig, a, b = pair()
        for method in ("INVITE", "MESSAGE", "BYE", "FOO", "OPTIONS"):
            refused(self, a, a.request(method, f"sip:1002@{DOMAIN}", max_forwards="0"), 483)
        b.silent()
        rig.finish()

    @shows("VAL-01", "16.3/3", "22.3")
    def test_none_left_before_authentication(self) -> None:
        """With authentication the 483 comes first: no credentials can change it."""
        rig = Rig(auth=AUTH)
        a, b = rig.phone("1001"), rig.phone("1002")
        refused(self, a, a.invite("1002", max_forwards="0"), 483)
        b.silent()
        rig.finish()

    @shows("VAL-01", "R3261-16.3-10", "11.2")
    def test_traceroute(self) -> None:
        """OPTIONS to the server itself is answered although no hop is left; so is a REGISTER that has arrived."""
        rig, a, b = pair()
        a.request("OPTIONS", f"sip:{DOMAIN}", max_forwards="0")
        a.take(200)
        a.request("REGISTER", f"sip:{DOMAIN}", "Expires: 60", to=f"<{a.aor}>", contact=f"<{a.contact}>", max_forwards="0")
        a.take(200)
        rig.finish()

    @shows("VAL-01", "R3261-16.11-01", "R3261-16.11-02", "16.3/3")
    def test_ack_without_hops(self) -> None:
        """An ACK with no hop left is dropped and never answered."""
        rig, a, b = pair()
        a.request("ACK", b.contact, to=f"<{b.aor}>;tag=x", max_forwards="0")
        a.silent()
        b.silent()
        rig.finish()

    @shows("VAL-02", "R3261-16.6-08", "16.6/3")
    def test_last_hop(self) -> None:
        """Each value from 1 to 255 goes on one smaller, odd spellings included."""
        rig, a, b = pair()
        for value, expected in (("1", "0"), ("70", "69"), ("255", "254"), ("007", "6"), ("0000071", "70")):
            a.request("MESSAGE", f"sip:1002@{DOMAIN}", max_forwards=value)
            got = b.take("MESSAGE")
            self.assertEqual(got.all("max-forwards"), [expected])
            b.answer(got, 200)
            a.take(200)
        rig.finish()

    @shows("VAL-03", "R3261-16.6-09", "R3261-16.6-10", "16.6/3")
    def test_absent(self) -> None:
        """A request without Max-Forwards gets 70."""
        rig, a, b = pair()
        a.request("MESSAGE", f"sip:1002@{DOMAIN}", max_forwards=None)
        got = b.take("MESSAGE")
        self.assertEqual(got.all("max-forwards"), ["70"])
        b.answer(got, 200)
        a.take(200)
        rig.finish()

    @shows("VAL-01", "16.3/3")
    def test_zeros(self) -> None:
        """However many zeros are written, it is none left."""
        rig, a, b = pair()
        for value in ("00", "0000", "0" * 30):
            refused(self, a, a.request("MESSAGE", f"sip:1002@{DOMAIN}", max_forwards=value), 483)
        rig.finish()


class Extensions(TestCase):
    """s16.3 step 5, s20.29, s20.32."""

    @shows("VAL-04", "R3261-16.3-01", "R3261-16.3-11", "R3261-16.3-12", "16.3/5")
    def test_proxy_require(self) -> None:
        """420 names every tag, over however many lines they stand; with and without authentication; nothing goes on."""
        for auth in ({"required": False}, AUTH):
            rig = Rig(auth=auth)
            a, b = rig.phone("1001"), rig.phone("1002")
            for lines in (("Proxy-Require: a, b",), ("Proxy-Require: a", "proxy-REQUIRE:b")):
                invite = a.invite("1002", *lines)
                answer = a.take(420)
                self.assertEqual(answer.values("unsupported"), ["a", "b"])
                a.ack(answer, invite)
            b.silent()
            a.silent()
            rig.finish()

    @shows("VAL-04", "20.40")
    def test_empty_proxy_require(self) -> None:
        """A Proxy-Require that names nothing asks for nothing: it is no reason for a 420, which must name a tag."""
        rig, a, b = pair()
        a.request("MESSAGE", "sip:1002@example.com", "Proxy-Require:")
        b.answer(b.take("MESSAGE"), 200)
        a.take(200)
        rig.finish()

    @shows("VAL-05", "20.32")
    def test_require(self) -> None:
        """Require is for the callee: it passes, and the callee's 420 comes back with its Unsupported."""
        rig, a, b = pair()
        invite = a.invite("1002", "Require: foo")
        a.take(100)
        got = b.take("INVITE")
        self.assertEqual(got.all("require"), ["foo"])
        b.answer(got, 420, "Unsupported: foo")
        answer = a.take(420)
        self.assertEqual(answer.all("unsupported"), ["foo"])
        a.ack(answer, invite)
        b.take("ACK")
        rig.finish()

    @shows("VAL-04", "9.1")
    def test_ack_and_cancel(self) -> None:
        """Proxy-Require in an ACK or CANCEL has no effect."""
        rig, a, b = pair()
        invite = a.invite("1002")
        got = b.ring(a)
        a.cancel(invite, "Proxy-Require: foo")
        a.take(200)
        b.cancelled(got)
        a.ack(a.take(487), invite)
        rig.finish()


class Schemes(TestCase):
    """s16.3 step 2, s21.4.14."""

    @shows("VAL-06", "R3261-16.3-01", "R3261-16.3-02", "R3261-16.3-08", "16.3/2", "R3261-8.2.2.1-02")
    def test_unknown(self) -> None:
        """Schemes we do not route: 416, for every method and in any case."""
        rig, a, b = pair()
        for uri in ("http://example.com/", "urn:service:sos", "foo:bar", "HTTP://x", "mailto:1002@example.com",
                    "nobodyKnowsThisScheme:totallyopaquecontent"):
            for method in ("INVITE", "MESSAGE", "OPTIONS", "REGISTER"):
                refused(self, a, a.request(method, uri, to=f"<{b.aor}>"), 416)
        b.silent()
        rig.finish()

    @shows("VAL-06", "R3261-16.11-02", "16.3/2")
    def test_before_authentication(self) -> None:
        """416 is told before anybody is asked who they are; an ACK with such a URI is silently dropped."""
        rig = Rig(auth=AUTH)
        a = rig.phone("1001")
        refused(self, a, a.invite("urn:service:sos", to="<sip:1002@example.com>"), 416)
        a.request("ACK", "urn:service:sos", to="<sip:1002@example.com>;tag=1")
        a.silent()
        rig.finish()

    @shows("VAL-07", "16.3/2")
    def test_tel(self) -> None:
        """A tel URI is a user of ours when its number is one, else 404."""
        rig, a, b = pair()
        for uri in ("tel:1002", "TEL:10-02;phone-context=example.com"):
            a.request("MESSAGE", uri, to=f"<{uri}>")
            got = b.take("MESSAGE")
            self.assertEqual(got.uri_text, b.contact)
            b.answer(got, 200)
            a.take(200)
        refused(self, a, a.invite("tel:+15551234567", to="<tel:+15551234567>"), 404)
        rig.finish()

    @shows("VAL-06", "R3261-16.3-05", "19.1.1", "R3261-7.1-01", "R3261-7.1-02")
    def test_unreadable(self) -> None:
        """Request-URIs that nobody can read, or that carry headers, are answered 400 and never forwarded."""
        rig, a, b = pair()
        for uri in ("sip:", "sip:1002@", "<sip:1002@example.com>", "sip:1002@example.com:port", "sip:1002@example.com:70000",
                    f"sip:1002@{DOMAIN}?Subject=x", "1002", "sip:10 02@example.com"):
            data = (f"MESSAGE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {a.address}:5060;branch=z9hG4bKu{abs(hash(uri))}\r\n"
                    f"From: <{a.aor}>;tag=1\r\nTo: <{b.aor}>\r\nCall-ID: {abs(hash(uri))}\r\nCSeq: 1 MESSAGE\r\n"
                    "Content-Length: 0\r\n\r\n")
            a.send(data.encode())
            self.assertTrue(a.take(400).to_tag, uri)
        b.silent()
        rig.finish()


class Methods(TestCase):
    """s16.3 step 1: what a proxy does not know it passes on."""

    @shows("VAL-09", "R3261-16.2-03", "R3261-16.3-07", "16.3/1")
    def test_unknown_method(self) -> None:
        """A method nobody knows is forwarded, its answer comes back; methods are compared with their case."""
        rig, a, b = pair()
        for method in ("FOO", "invite", "X-!%*_+`'~.method"):
            a.request(method, f"sip:1002@{DOMAIN}", body=b"hello")
            got = b.take(method)
            self.assertEqual((got.uri_text, got.body), (b.contact, b"hello"))
            b.answer(got, 299, "X-Answer: y")
            self.assertEqual(a.take(299).all("x-answer"), ["y"])
        rig.finish()

    @shows("VAL-11", "11.2", "R3261-8.2.1-04", "R3261-8.2.2.3-01")
    def test_options_to_the_server(self) -> None:
        """OPTIONS to the server is answered 200 with what it can do, by each of its names, without credentials."""
        for auth in ({"required": False}, AUTH):
            rig = Rig(auth=auth)
            a = rig.phone("1001")
            for uri in (f"sip:{DOMAIN}", "sip:alias.example.com", "sip:192.0.2.1", "sip:192.0.2.1:5060;transport=tcp",
                        "sips:example.com:5061", "sip:EXAMPLE.com;lr"):
                a.request("OPTIONS", uri, "Accept: application/sdp", from_="<sip:stranger@far.example>;tag=1")
                answer = a.take(200)
                for method in ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "REGISTER"):
                    self.assertIn(method, answer.values("allow"))
                self.assertEqual(answer.values("accept"), ["application/sdp"])
                self.assertTrue(answer.values("supported"))
                self.assertTrue(answer.to_tag)
            a.request("OPTIONS", f"sip:{DOMAIN}", "Require: foo")
            self.assertEqual(a.take(420).all("unsupported"), ["foo"])
            rig.finish()

    @shows("VAL-12", "11")
    def test_options_to_a_user(self) -> None:
        """OPTIONS to a user is the phone's to answer; without one it is 480."""
        rig, a, b = pair()
        a.request("OPTIONS", f"sip:1002@{DOMAIN}")
        got = b.take("OPTIONS")
        b.answer(got, 200, "Allow: INVITE, X-OWN")
        self.assertEqual(a.take(200).values("allow"), ["INVITE", "X-OWN"])
        refused(self, a, a.request("OPTIONS", f"sip:1003@{DOMAIN}"), 480)
        rig.finish()


class Fields(TestCase):
    """s8.1.1, s16.3 step 1, s7.3."""

    @shows("VAL-08", "8.1.1.5")
    def test_other_method_in_cseq(self) -> None:
        """CSeq with another method than the request line, also in another case: 400."""
        rig, a, b = pair()
        for wrong in ("MESSAGE", "invite", "INVITEX"):
            invite = a.invite("1002", send=False)
            data = invite.encode().replace(f"{invite.cseq_number} INVITE".encode(), f"{invite.cseq_number} {wrong}".encode())
            a.send(data)
            self.assertTrue(a.take(400).to_tag)
        b.silent()
        rig.finish()

    @shows("VAL-13", "R3261-16.3-06", "R3261-16.3-07", "R3261-16.6-01", "R3261-16.6-03", "16.3/1")
    def test_untouched(self) -> None:
        """Header fields nobody knows, and broken ones a proxy does not need, pass octet for octet and in order."""
        rig, a, b = pair()
        odd = ("X-Unknown:   two  spaces ;;,, \"", "Date: yesterday, or so", "Subject: \u00fcml\u00e4ut \udcff",
               "Content-Disposition: ???", "x-folded: one\r\n\ttwo\r\n  three", "Warning: nonsense", "Alert-Info: <<>>",
               "Expires: soon", "Timestamp: x", "X-Empty:", "Accept-Language: \"", "Contact: <<not an address")
        a.request("MESSAGE", f"sip:1002@{DOMAIN}", *odd)
        raw = b.raw[-1]
        got = b.take("MESSAGE")
        self.assertIn("\r\n".join(odd).encode("utf-8", "surrogateescape"), raw)
        b.answer(got, 200, *odd)
        a.take(200)
        self.assertIn("\r\n".join(odd).encode("utf-8", "surrogateescape"), a.raw[-1])
        rig.finish()

    @shows("VAL-14", "R3261-16.3-04", "8.1.1", "R3261-20-05")
    def test_missing(self) -> None:
        """Without From, To, Call-ID or CSeq (or empty): 400. Without Via there is nobody to answer. Nothing goes on."""
        rig, a, b = pair()
        for name in ("From", "To", "Call-ID", "CSeq", "Via"):
            for method in ("INVITE", "MESSAGE", "REGISTER", "OPTIONS"):
                whole = a.request(method, f"sip:1002@{DOMAIN}", send=False).encode().split(b"\r\n")
                start = name.encode() + b":"
                a.send(b"\r\n".join(line for line in whole if not line.startswith(start)))
                a.send(b"\r\n".join(start if line.startswith(start) else line for line in whole))
                if name != "Via":
                    a.take_refusal(400)
                    a.take_refusal(400)
                a.silent()
        b.silent()
        rig.finish()

    @shows("VAL-14", "8.1.1")
    def test_missing_on_a_stream(self) -> None:
        """The same over TCP; the connection goes on."""
        rig, a, b = pair()
        c = rig.phone("1003", transport="tcp")
        for name in (b"From:", b"To:", b"Call-ID:", b"CSeq:"):
            whole = c.request("MESSAGE", f"sip:1002@{DOMAIN}", send=False).encode().split(b"\r\n")
            c.send(b"\r\n".join(line for line in whole if not line.startswith(name)))
            c.take_refusal(400)
        c.request("MESSAGE", f"sip:1002@{DOMAIN}")
        b.answer(b.take("MESSAGE"), 200)
        c.take(200)
        rig.finish()

    @shows("VAL-14", "7.3.1")
    def test_twice(self) -> None:
        """Two of what may stand once: 400, never forwarded."""
        rig, a, b = pair()
        for line in ("From: <sip:1004@example.com>;tag=2", "To: <sip:1004@example.com>", "Call-ID: other", "i: other",
                     "CSeq: 7 MESSAGE", "Max-Forwards: 3"):
            data = a.request("MESSAGE", f"sip:1002@{DOMAIN}", send=False).encode()
            a.send(data.replace(b"Content-Length", line.encode() + b"\r\nContent-Length"))
            a.take_refusal(400)
        b.silent()
        rig.finish()

    @shows("VAL-15", "7.3.3", "R3261-7.3.3-01")
    def test_compact(self) -> None:
        """A whole call in compact forms, odd case and spacing of names: registered, called, hung up."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        b.send(f"REGISTER sip:{DOMAIN} SIP/2.0\r\nv:SIP/2.0/UDP {b.address}:5060;branch=z9hG4bKr1\r\nf:<{b.aor}>;tag=1\r\n"
               f"T :<{b.aor}>\r\nI:reg-1\r\nCSEQ: 1 REGISTER\r\nM:<{b.contact}>;expires=60\r\nL:0\r\n\r\n".encode())
        self.assertIn("expires=60", b.take(200).values("contact")[0])
        body = b"v=0\r\n"
        a.send(f"INVITE sip:1002@{DOMAIN} SIP/2.0\r\nv: SIP/2.0/UDP {a.address}:5060;branch=z9hG4bKc1\r\nf: <{a.aor}>;tag=1\r\n"
               f"t: <{b.aor}>\r\ni: call-1\r\nCSeq: 1 INVITE\r\nm: <{a.contact}>\r\nk: foo\r\ns: hi\r\nc: application/sdp\r\n"
               f"e: identity\r\nmax-forwards : 9\r\nl: {len(body)}\r\n\r\n".encode() + body)
        a.take(100)
        got = b.take("INVITE")
        self.assertEqual((got.body, got.uri_text, got.first["max-forwards"]), (body, b.contact, "8"))
        self.assertEqual((got.first["subject"], got.first["supported"]), ("hi", "foo"))
        self.assertIn(b"\r\ns: hi\r\n", b.raw[-1])
        b.answer(got, 200, body=body)
        ok = a.take(200)
        a.ack(ok)
        b.take("ACK")
        b.in_callee_dialog("BYE", got, b.answer(got, 200, send=False), send=True)
        a.answer(a.take("BYE"), 200)
        b.take(200)
        rig.finish()

    @shows("VAL-20", "8.1.1.5", "R3261-20.16-01")
    def test_large_cseq(self) -> None:
        """CSeq runs to 2**31 and to 2**32-1; beyond, negative and wordy ones are 400."""
        rig, a, b = pair()
        for number in (1, 0, 2**31 - 1, 2**31, 4294967295):
            request = a.request("MESSAGE", f"sip:1002@{DOMAIN}", send=False)
            a.send(request.encode().replace(request.first["cseq"].encode(), f"{number} MESSAGE".encode()))
            got = b.take("MESSAGE")
            self.assertEqual(got.cseq_number, number)
            b.answer(got, 200)
            self.assertEqual(a.take(200).cseq_number, number)
        for text in ("4294967296", "99999999999999999999", "-1", "1.0", "one", "\u0661", ""):
            request = a.request("MESSAGE", f"sip:1002@{DOMAIN}", send=False)
            a.send(request.encode().replace(request.first["cseq"].encode(), f"{text} MESSAGE".encode()))
            a.take_refusal(400)
        b.silent()
        rig.finish()


class Everywhere(TestCase):
    """The same over streams and IPv6."""

    @shows("VAL-02", "VAL-09", "16.6/3")
    def test_transports(self) -> None:
        """TCP, TLS and IPv6 callers have the same checks and the same way to a UDP phone."""
        rig = Rig(listen=(("udp", "192.0.2.1", 5060), ("tcp", "192.0.2.1", 5060), ("tls", "192.0.2.1", 5061),
                          ("udp", "2001:db8::1", 5060), ("tcp", "2001:db8::1", 5060)))
        b = rig.phone("1002")
        b.register()
        for caller in (rig.phone("1001", transport="tcp"), rig.phone("1001", transport="tls"),
                       rig.phone("1001", "2001:db8::7"), rig.phone("1001", "2001:db8::7", transport="tcp")):
            caller.request("FOO", f"sip:1002@{DOMAIN}", max_forwards="1")
            got = b.take("FOO")
            self.assertEqual(got.first["max-forwards"], "0")
            b.answer(got, 200)
            caller.take(200)
            refused(self, caller, caller.request("FOO", f"sip:1002@{DOMAIN}", max_forwards="0"), 483)
            refused(self, caller, caller.invite("urn:x:y", to=f"<{b.aor}>"), 416)
        rig.finish()

    @shows("VAL-04", "22.1")
    def test_call_with_authentication(self) -> None:
        """A whole call between authenticated phones: one challenge, nothing of the credentials goes on."""
        rig = Rig(auth=AUTH, registrar={"open": True, "min_expires": 2})
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register()
        invite = a.invite("1002")
        a.prove(invite)
        a.take(100)
        got = b.take("INVITE")
        self.assertNotIn("proxy-authorization", got.first)
        _, ok = b.pick_up(got, a)
        a.hang_up(ok, b)
        rig.finish()

    @shows("VAL-12", "11")
    def test_established(self) -> None:
        """OPTIONS inside a dialog goes to the peer, not to the server."""
        rig, a, b = pair()
        _, got, sent, ok = established(a, b)
        a.in_dialog("OPTIONS", ok)
        b.answer(b.take("OPTIONS"), 200)
        a.take(200)
        b.in_callee_dialog("OPTIONS", got, sent)
        a.answer(a.take("OPTIONS"), 200)
        b.take(200)
        rig.finish()
