"""The rules of URIs and tags, one by one (RFC 3261 s19), where no other scenario shows them."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.address import Address
from sipd.message.uri import Uri
from tests.support.cases import shows
from tests.support.rig import DOMAIN, SERVER, Phone, Rig

#: Headers in the URI of a contact: whom they would pass off, lead astray or advertise.
_HEADERS = ("From=%3Csip:1009%40example.com%3E&Call-ID=evil&CSeq=9%20BYE&Via=SIP/2.0/UDP%20203.0.113.66%3Bbranch=z9hG4bKevil"
            "&Record-Route=%3Csip:evil.example%3Blr%3E&Route=%3Csip:203.0.113.66%3Blr%3E&Accept=text/evil&Accept-Encoding=evil"
            "&Accept-Language=evil&Allow=EVIL&Contact=%3Csip:evil%40evil.example%3E&Organization=evil&Supported=evil"
            "&User-Agent=evil&Subject=evil&body=evil")


def pair(**settings: object) -> tuple[Rig, Phone, Phone]:
    """A caller and a registered callee."""
    rig = Rig(**settings)  # type: ignore[arg-type]
    a, b = rig.phone("1001"), rig.phone("1002")
    b.register()
    return rig, a, b


def served(a: Phone, b: Phone, uri: str, *lines: str, **fields: str) -> str:
    """A MESSAGE of `a` to the URI arrives at `b`, whose answer comes back; its Request-URI there."""
    a.request("MESSAGE", uri, *lines, **fields)  # type: ignore[arg-type]
    got = b.take("MESSAGE")
    b.answer(got, 200)
    a.take(200)
    assert isinstance(got.uri_text, str)
    return got.uri_text


class Parts(TestCase):
    """s19.1.1: the parts of a URI."""

    @shows("R3261-19.1.1-04")
    def test_unknown_parameters(self) -> None:
        """Parameters that nobody knows change nothing of whom a Request-URI, a To of a REGISTER or a Route names."""
        rig, a, b = pair()
        for odd in (";x", ";x=y", ";x=%3B;y=[1]", ";lrx=on;Transports=z"):
            self.assertEqual(served(a, b, f"sip:1002@{DOMAIN}{odd}"), b.contact)
            self.assertEqual(served(a, b, f"sip:1002@{DOMAIN}", f"Route: <sip:{SERVER};lr{odd}>"), b.contact)
            answer = a.register(to=f"<sip:1001@{DOMAIN}{odd}>", uri=f"sip:{DOMAIN}{odd}")
            self.assertEqual(len(answer.values("contact")), 1)
        self.assertEqual(len(rig.core.location.bindings(f"1001@{DOMAIN}")), 1)
        rig.finish()

    @shows("R3261-19.1.1-05")
    def test_parts_out_of_place(self) -> None:
        """A method in the Request-URI, and port, transport, method, lr and headers in To and From, change nothing."""
        rig = Rig(auth={"required": True})
        a, b = rig.phone("1001"), rig.phone("1002")
        for phone in (a, b):
            request = phone.request("REGISTER", f"sip:{DOMAIN};method=INVITE", contact=f"<{phone.contact}>",
                                    to=f"<sip:{phone.name}@{DOMAIN}:5060;method=OPTIONS;lr;transport=tcp?Subject=x>")
            phone.authorized(request, phone.take(401))
            phone.take(200)
        request = a.request("MESSAGE", f"sip:1002@{DOMAIN};method=BYE", to=f"<sip:1002@{DOMAIN}:5060;method=BYE?Subject=x>",
                            from_=f"<sip:1001@{DOMAIN}:5060;method=BYE;lr;ttl=5?Subject=x>;tag=1")
        a.authorized(request, a.take(407))
        got = b.take("MESSAGE")
        self.assertEqual((got.uri_text, got.all("subject")), (b.contact, []))
        b.answer(got, 200)
        a.take(200)
        rig.finish()

    @shows("R3261-19.1.1-03")
    def test_sips_over_udp(self) -> None:
        """A sips URI that names UDP gets nothing, and its caller a final response; the sips URIs that we write name no
        transport but TLS."""
        rig = Rig()
        a, b = rig.phone("1001", transport="tls", port=5061), rig.phone("1002", transport="tls", port=5061)
        before = len(rig.network.packets)
        a.request("MESSAGE", "sips:x@192.0.2.99;transport=udp")
        self.assertGreaterEqual(a.take().status, 400)
        self.assertEqual({packet.target[0] for packet in rig.network.packets[before:]}, {SERVER, a.address})
        b.register(contact=f"<sips:1002@{b.address}:5061>")
        a.invite(f"sips:1002@{DOMAIN}", contact=f"<sips:1001@{a.address}:5061>")
        a.take(100)
        got = b.take("INVITE")
        for value in got.values("record-route"):
            uri = Address.parse(value).uri
            self.assertEqual((uri.scheme, uri.port), ("sips", 5061))
            self.assertIn(uri.param("transport"), (None, "tls"))
        b.pick_up(got, a)
        rig.finish()


class Escapes(TestCase):
    """s19.1.2: what is escaped stays so."""

    @shows("R3261-19.1.2-03")
    def test_as_written(self) -> None:
        """A contact and a foreign Request-URI keep their escapes, in whatever case they are written."""
        rig, a, b = pair()
        contact = f"sip:1%30%302%3b%2a%C3%bc@{b.address}:5060;p=%41%3B"
        answer = b.register(contact=f"<{contact}>", call_id="second")
        self.assertIn(contact, [Address.parse(value).uri_text for value in answer.values("contact")])
        b.register(contact=f"<{b.contact}>", expires=0, call_id="third")
        self.assertEqual(served(a, b, f"sip:1002@{DOMAIN}"), contact)
        foreign = f"sip:x%20%2f%41@{b.address};y=%7e"
        self.assertEqual(served(a, b, foreign), foreign)
        rig.finish()

    @shows("R3261-19.1.2-04")
    def test_host(self) -> None:
        """A host with an escape in it is nobody's: 400, in Request-URI, To, contact and Route, nothing is sent."""
        for host in ("ex%61mple.com", "example%2Ecom", "%65xample.com", "192%2e0.2.1"):
            rig, a, b = pair()
            for method, uri, to, lines in (
                    ("MESSAGE", "sip:1002@HOST", a.aor, ()), ("MESSAGE", f"sip:1002@{DOMAIN}", "sip:1002@HOST", ()),
                    ("MESSAGE", f"sip:1002@{DOMAIN}", a.aor, ("Route: <sip:HOST;lr>",)), ("OPTIONS", "sip:HOST", a.aor, ()),
                    ("REGISTER", f"sip:{DOMAIN}", "sip:1001@HOST", ()), ("REGISTER", "sip:HOST", a.aor, ()),
                    ("REGISTER", f"sip:{DOMAIN}", a.aor, ("Contact: <sip:1001@HOST>",))):
                request = a.request(method, uri, *lines, to=f"<{to}>", send=False)
                a.send(request.encode().replace(b"HOST", host.encode()))
                self.assertIn(b" 400 ", a.take_refusal(400))
            b.silent()
            self.assertEqual(rig.core.location.bindings(f"1001@{DOMAIN}"), [])
            rig.finish()


class Compared(TestCase):
    """s19.1.4: the registrar compares contacts."""

    @shows("R3261-19.1.4-01")
    def test_headers(self) -> None:
        """A contact with other headers is another contact, one with the same in another order is the same."""
        rig = Rig()
        a = rig.phone("1001")
        sizes = []
        for number, headers in enumerate(("", "?a=1&b=2", "?b=2&a=1", "?a=1", "?a=1&b=3", "?A=1&%62=2")):
            answer = a.register(contact=f"<sip:1001@192.0.2.50{headers}>", call_id="c", cseq=number + 1)
            sizes.append(len(answer.values("contact")))
        self.assertEqual(sizes, [1, 2, 2, 3, 4, 4])
        rig.finish()


class Formed(TestCase):
    """s19.1.5: requests that go to a contact, registered or from a redirection that we follow."""

    def both_ways(self, contact: str) -> list[str]:
        """The Request-URI and the whole message in latin-1 of an INVITE to that contact, registered, then redirected."""
        texts = []
        for redirected in (False, True):
            rig = Rig(proxy={"recurse": True})
            a, b, c = rig.phone("1001"), rig.phone("1002"), rig.phone("1003", "192.0.2.60")
            if redirected:
                b.register()
                a.invite("1002")
                b.refuse(302, f"Contact: <{contact}>")
            else:
                c.register(contact=f"<{contact}>")
                a.invite("1003")
            a.take(100)
            got = c.take("INVITE")
            texts += [got.uri_text, c.raw[-1].decode("latin-1")]
            c.pick_up(got, a)
            rig.finish()
        return texts

    @shows("R3261-19.1.5-01", "R3261-19.1.5-03")
    def test_parameters(self) -> None:
        """transport, maddr, ttl, user and what nobody knows stand in the Request-URI as the contact has them."""
        for contact in ("sip:1003@192.0.2.60;transport=udp;user=phone;ttl=3;Unknown=%41;flag",
                        "sip:1003@far.example;maddr=192.0.2.60;transport=UDP;x=y"):
            registered, _, redirected, _ = self.both_ways(contact)
            for text in (registered, redirected):
                self.assertEqual(text.lower(), contact.lower())

    @shows("R3261-19.1.5-02")
    def test_method(self) -> None:
        """A method in the contact is left out, whatever its case; the request keeps its own, and the other parameters."""
        for name in ("method", "METHOD"):
            registered, _, redirected, _ = self.both_ways(f"sip:1003@192.0.2.60;user=phone;{name}=MESSAGE;x=y")
            self.assertEqual({registered, redirected}, {"sip:1003@192.0.2.60;user=phone;x=y"})

    @shows("R3261-19.1.5-04", "R3261-19.1.5-05", "R3261-19.1.5-06")
    def test_headers(self) -> None:
        """No header of the contact's URI gets into a request: none that names others, leads elsewhere or advertises."""
        registered, first, redirected, second = self.both_ways(f"sip:1003@192.0.2.60?{_HEADERS}")
        self.assertEqual({registered, redirected}, {"sip:1003@192.0.2.60"})
        for text in (first, second):
            for word in ("evil", "203.0.113.66", "1009"):
                self.assertNotIn(word, text.lower())

    @shows("R3261-19.1.5-07")
    def test_unreadable(self) -> None:
        """A redirection to what is no URI opens no branch and goes to the caller; a REGISTER with it gets 400."""
        for contact in ("sip:1003@192.0.2.60 x", "sip:@192.0.2.60", "sip:1003@192.0.2.60:0", "sip:1003@192.0.2.60;;x",
                        "sip:1003@192.0.2.60?", "sip:1003@192.0.2.%36%30"):
            rig = Rig(proxy={"recurse": True})
            a, b, c = rig.phone("1001"), rig.phone("1002"), rig.phone("1003", "192.0.2.60")
            b.register()
            invite = a.invite("1002")
            a.take(100)
            b.refuse(302, f"Contact: <{contact}>")
            moved = a.take(302)
            self.assertEqual(moved.all("contact"), [f"<{contact}>"])
            a.ack(moved, invite)
            c.register(contact=f"<{contact}>", take=400)
            rig.finish()

    @shows("R3261-19.1.5-08")
    def test_other_transports(self) -> None:
        """A contact with a transport that we do not have, or an unknown one, gets nothing by UDP or TCP instead."""
        for transport in ("sctp", "ws", "wss", "tls-sctp", "carrier-pigeon"):
            rig = Rig()
            a, c = rig.phone("1001"), rig.phone("1003", "192.0.2.60")
            rig.network.listen("tcp", c.address, 5060)
            c.register(contact=f"<sip:1003@192.0.2.60;transport={transport}>")
            for uri in (f"sip:1003@{DOMAIN}", f"sip:x@192.0.2.60;transport={transport}"):
                invite = a.invite(uri)
                a.take(100)
                rig.advance(0.1)
                final = a.take()
                self.assertGreaterEqual(final.status, 400)
                a.ack(final, invite)
            c.silent()
            rig.finish()


class Tags(TestCase):
    """s19.3: the To tags of our own responses."""

    def tags(self, secret: bytes) -> list[str]:
        """Those of a refusal without state, of the answers of registrar, server and proxy, all to like requests."""
        rig = Rig(secret=secret)
        a = rig.phone("1001")
        tags = []
        for number in range(2):
            for method, uri, status in (("MESSAGE", f"sip:nobody@{DOMAIN}", 404), ("OPTIONS", f"sip:{DOMAIN}", 200),
                                        ("REGISTER", f"sip:{DOMAIN}", 200), ("MESSAGE", "sip:x@192.0.2.99;transport=sctp", 500),
                                        ("MESSAGE", f"sip:1002@{DOMAIN}", 480), ("BYE", f"sip:{DOMAIN}", 404)):
                a.request(method, uri, to=f"<{a.aor}>", from_=f"<{a.aor}>;tag=same", call_id=f"c{number}", cseq=1,
                          branch=f"z9hG4bK{method}{uri[4]}{status}{number}")
                rig.advance(0.1)
                answer = a.take(status)
                self.assertEqual(Uri.parse(Address.parse(answer.first["to"]).uri_text), Uri.parse(a.aor))
                tags.append(answer.to_tag)
        rig.finish()
        return tags

    @shows("R3261-19.3-01")
    def test_unlike(self) -> None:
        """No two requests get one tag, each is 16 hexadecimal digits, and another secret makes others."""
        one, other = self.tags(b"s" * 32), self.tags(b"t" * 32)
        self.assertEqual(len({*one, *other}), len(one) + len(other))
        for tag in one:
            self.assertRegex(tag, r"\A[0-9a-f]{16}\Z")
