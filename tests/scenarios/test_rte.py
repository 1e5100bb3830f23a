"""Route, Record-Route and targets (RFC 3261 s16.4 to s16.6) on the real core."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.address import Address
from sipd.message.message import Request
from tests.support.cases import shows
from tests.support.rig import DOMAIN, Phone, Rig, established

LISTEN_46 = (("udp", "192.0.2.1", 5060), ("tcp", "192.0.2.1", 5060), ("tls", "192.0.2.1", 5061),
             ("udp", "2001:db8::1", 5060), ("tcp", "2001:db8::1", 5060))


def pair() -> tuple[Rig, Phone, Phone]:
    """A caller and a callee that is registered."""
    rig = Rig()
    a, b = rig.phone("1001"), rig.phone("1002")
    b.register()
    return rig, a, b


def routes(request: Request) -> list[str]:
    """The URIs of the Route, in order."""
    return [Address.parse(value).uri_text for value in request.values("route")]


class Route(TestCase):
    """s16.4, s16.6 steps 6 and 7."""

    @shows("RTE-01", "R3261-16.4-06", "R3261-16.6-28", "R3261-16.6-23", "16.4", "16.6/7")
    def test_next_in_route(self) -> None:
        """Our value is taken off, the request goes to the next one with its Request-URI as it was, though we know the
        user; by each spelling of our own value, on one line or on two."""
        rig, a, b = pair()
        x = rig.phone("1003", "192.0.2.77")
        for ours in ("<sip:192.0.2.1;lr>", "<sip:192.0.2.1:5060;lr>", f"<sip:{DOMAIN};lr>", "<sip:ALIAS.example.com;lr=on>",
                     "\"P\" <sip:user@192.0.2.1:5060;transport=udp;lr>;x=y", "<sip:192.0.2.1>"):
            for lines in ((f"Route: {ours}", "Route: <sip:192.0.2.77;lr>"), (f"Route: {ours} ,<sip:192.0.2.77;lr>",),
                          (f"route:\r\n {ours},", "ROUTE: <sip:192.0.2.77;lr>")):
                invite = a.invite("1002", *lines)
                a.take(100)
                got = x.take("INVITE")
                self.assertEqual(got.uri_text, f"sip:1002@{DOMAIN}")
                self.assertEqual(got.values("route"), ["<sip:192.0.2.77;lr>"])
                x.answer(got, 404)
                x.take("ACK")
                a.ack(a.take(404), invite)
        b.silent()
        rig.finish()

    @shows("RTE-01", "R3261-16.6-28", "16.6/7")
    def test_foreign_route_alone(self) -> None:
        """A Route that names another server only is followed; the rest of it travels on."""
        rig, a, b = pair()
        x = rig.phone("1003", "192.0.2.77")
        a.request("MESSAGE", f"sip:1002@{DOMAIN}", "Route: <sip:192.0.2.77;lr>", "Route: <sip:192.0.2.78;lr>, <sip:x.y;lr>")
        got = x.take("MESSAGE")
        self.assertEqual(routes(got), ["sip:192.0.2.77;lr", "sip:192.0.2.78;lr", "sip:x.y;lr"])
        x.answer(got, 200)
        a.take(200)
        b.silent()
        rig.finish()

    @shows("RTE-01", "16.4")
    def test_own_port(self) -> None:
        """A Route to our address with a port where we do not listen is somebody else."""
        rig, a, b = pair()
        x = rig.phone("1003", "192.0.2.1", port=5070)
        a.request("MESSAGE", f"sip:1002@{DOMAIN}", "Route: <sip:192.0.2.1:5070;lr>")
        x.answer(x.take("MESSAGE"), 200)
        a.take(200)
        rig.finish()

    @shows("RTE-01", "16.4", "16.5")
    def test_own_route_alone(self) -> None:
        """A Route to us and nothing else (an outbound proxy): the location service is asked."""
        rig, a, b = pair()
        a.request("MESSAGE", f"sip:1002@{DOMAIN}", "Route: <sip:192.0.2.1;lr>")
        got = b.take("MESSAGE")
        self.assertEqual((got.uri_text, got.all("route")), (b.contact, []))
        b.answer(got, 200)
        a.take(200)
        a.request("REGISTER", f"sip:{DOMAIN}", "Route: <sip:192.0.2.1;lr>", to=f"<{a.aor}>")
        a.take(200)
        a.request("OPTIONS", f"sip:{DOMAIN}", "Route: <sip:192.0.2.1;lr>")
        a.take(200)
        rig.finish()

    @shows("RTE-01", "R3261-16.3-05", "R3261-16.6-23", "8.1.1.5")
    def test_unreadable_route(self) -> None:
        """A first Route value that cannot be read, or is no SIP URI, is refused; a later one does not matter here."""
        rig, a, b = pair()
        for value in ("nonsense", "<sip:>", "<http://x>", "<>"):
            a.request("MESSAGE", f"sip:1002@{DOMAIN}", f"Route: {value}")
            answer = a.take()
            self.assertTrue(400 <= answer.status < 600, answer)
        x = rig.phone("1003", "192.0.2.77")
        a.request("MESSAGE", f"sip:1002@{DOMAIN}", "Route: <sip:192.0.2.77;lr>, nonsense")
        x.answer(x.take("MESSAGE"), 200)
        a.take(200)
        b.silent()
        rig.finish()

    @shows("RTE-02", "16.4")
    def test_in_dialog(self) -> None:
        """In a dialog the request goes to the remote contact, by Route to us; without our token too where no
        authentication is asked."""
        rig, a, b = pair()
        a.request("BYE", b.contact, "Route: <sip:192.0.2.1;lr>", to=f"<{b.aor}>;tag=2")
        got = b.take("BYE")
        self.assertEqual((got.uri_text, got.all("route")), (b.contact, []))
        b.answer(got, 200)
        a.take(200)
        rig.finish()

    @shows("RTE-02", "16.4", "22.3")
    def test_in_dialog_with_authentication(self) -> None:
        """A BYE with our token passes unchallenged from either side, wherever the contact is; an invented one does not."""
        rig = Rig(auth={"required": True}, registrar={"open": True, "min_expires": 2})
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register()
        invite = a.invite("1002")
        a.prove(invite)
        a.take(100)
        got = b.take("INVITE")
        sent, ok = b.pick_up(got, a)
        a.request("BYE", b.contact, "Route: <sip:0123456789abcdef@192.0.2.1:5060;lr>", to=ok.first["to"],
                  from_=ok.first["from"], call_id=ok.call_id, cseq=9)
        a.take(407)
        other = b.in_callee_dialog("BYE", got, sent, send=False)
        b.send(other.encode().replace(other.call_id.encode(), b"another-call"))
        b.take(407)
        b.in_callee_dialog("BYE", got, sent)
        a.answer(a.take("BYE"), 200)
        b.take(200)
        rig.finish()

    @shows("RTE-04", "R3261-16.6-24", "R3261-16.6-25", "R3261-16.6-26", "R3261-16.6-27", "16.6/6")
    def test_strict_router_next(self) -> None:
        """A next Route without lr becomes the Request-URI, and the old Request-URI the last Route."""
        rig, a, b = pair()
        x = rig.phone("1003", "192.0.2.77")
        a.request("MESSAGE", f"sip:1002@{DOMAIN};x=y", "Route: <sip:192.0.2.1;lr>, <sip:192.0.2.77>, <sip:z.example;lr>")
        got = x.take("MESSAGE")
        self.assertEqual(got.uri_text, "sip:192.0.2.77")
        self.assertEqual(routes(got), ["sip:z.example;lr", f"sip:1002@{DOMAIN};x=y"])
        x.answer(got, 200)
        a.take(200)
        rig.finish()

    @shows("RTE-04", "16.6/6", "9.1")
    def test_strict_router_and_cancel(self) -> None:
        """The CANCEL and the ACK for a refusal go the same way with the same Request-URI and Route (s9.1, s17.1.1.3)."""
        rig, a, b = pair()
        x = rig.phone("1003", "192.0.2.77")
        invite = a.invite("1002", "Route: <sip:192.0.2.77>")
        got = x.ring(a)
        a.cancel(invite, "Route: <sip:192.0.2.77>")
        a.take(200)
        cancel = x.take("CANCEL")
        self.assertEqual((cancel.uri_text, routes(cancel)), (got.uri_text, routes(got)))
        x.answer(cancel, 200)
        x.answer(got, 487)
        ack = x.take("ACK")
        self.assertEqual((ack.uri_text, routes(ack)), (got.uri_text, routes(got)))
        a.ack(a.take(487), invite)
        rig.finish()

    @shows("RTE-02", "R3261-16.4-01", "R3261-16.4-02", "R3261-16.4-03", "16.4", "12.2.1.1")
    def test_strict_router_before(self) -> None:
        """A peer that routes strictly puts our Record-Route into the Request-URI: the last Route is the real target.

        With the token, so also where authentication is asked; ACK and BYE, from either side."""
        rig, a, b = pair()
        _, got, sent, ok = established(a, b)
        x = rig.phone("1003", "192.0.2.88")
        token = Address.parse(ok.values("record-route")[0]).uri_text
        for method in ("ACK", "INFO"):
            a.request(method, token, f"Route: <{b.contact}>", to=ok.first["to"], from_=ok.first["from"],
                      call_id=ok.call_id, cseq=8)
            reached = b.take(method)
            self.assertEqual((reached.uri_text, reached.all("route")), (b.contact, []))
        b.answer(reached, 200)
        a.take(200)
        b.request("BYE", token, f"Route: <sip:192.0.2.88;lr>, <{a.contact}>", to=got.first["from"],
                  from_=sent.first["to"], call_id=got.call_id)
        reached = x.take("BYE")
        self.assertEqual((reached.uri_text, routes(reached)), (a.contact, ["sip:192.0.2.88;lr"]))
        x.answer(reached, 200)
        b.take(200)
        rig.finish()


class RecordRoute(TestCase):
    """s16.6 step 4."""

    @shows("RTE-05", "R3261-16.6-11", "R3261-16.6-13", "R3261-16.6-14", "16.6/4")
    def test_above_others(self) -> None:
        """Ours is a SIP URI with lr above those that were there, in each request that can make a dialog, and the
        responses carry all of them back."""
        rig, a, b = pair()
        for method in ("INVITE", "SUBSCRIBE", "REFER", "NOTIFY"):
            request = a.request(method, f"sip:1002@{DOMAIN}", "Record-Route: <sip:one.example;lr>,<sip:two.example;lr>",
                                "Event: x", "Refer-To: <sip:1003@example.com>")
            got = b.take(method)
            values = got.values("record-route")
            uri = Address.parse(values[0]).uri
            self.assertEqual((uri.scheme, uri.host, uri.param("lr")), ("sip", "192.0.2.1", ""))
            self.assertEqual(values[1:], ["<sip:one.example;lr>", "<sip:two.example;lr>"])
            names = [name for name, _, _ in got.headers]
            self.assertLess(names.index("via"), names.index("record-route"))
            b.answer(got, 200)
            answer = a.take(100) if method == "INVITE" else None
            answer = a.take(200)
            self.assertEqual(answer.values("record-route"), values)
            if method == "INVITE":
                self.assertIsNotNone(request.body)
        rig.finish()

    @shows("RTE-05", "16.6/4")
    def test_off(self) -> None:
        """With record_route = false there is none, and the dialog goes past us."""
        rig = Rig(proxy={"record_route": False})
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register()
        a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        self.assertEqual(got.all("record-route"), [])
        b.answer(got, 200)
        a.take(200)
        rig.finish()

    @shows("RTE-05", "16.6/4")
    def test_not_in_others(self) -> None:
        """A MESSAGE gets none; what stands in it is left alone."""
        rig, a, b = pair()
        a.request("MESSAGE", f"sip:1002@{DOMAIN}", "Record-Route: <sip:one.example;lr>")
        got = b.take("MESSAGE")
        self.assertEqual(got.all("record-route"), ["<sip:one.example;lr>"])
        b.answer(got, 200)
        a.take(200)
        rig.finish()


class Targets(TestCase):
    """s16.5."""

    @shows("RTE-07", "16.5", "R3261-8.2.2.1-03", "R3261-8.2.1-02")
    def test_nobody(self) -> None:
        """A call to the server itself, without a user: 404, at once, and nothing is sent anywhere."""
        rig, a, b = pair()
        for uri in ("sip:192.0.2.1", f"sip:{DOMAIN}", "sip:192.0.2.1:5060", "sip:192.0.2.1;transport=tcp",
                    "sips:example.com"):
            invite = a.invite(uri)
            a.ack(a.take(404), invite)
        a.request("FOO", f"sip:{DOMAIN}")
        self.assertEqual(a.take(405).values("allow")[0], "INVITE")
        self.assertEqual([packet for packet in rig.network.packets if packet.source == packet.target], [])
        rig.finish()

    @shows("RTE-08", "R3261-16.5-05", "16.5", "10.3/5")
    def test_own_names(self) -> None:
        """Each way to write this server's place leads to the same user."""
        rig = Rig(listen=LISTEN_46)
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register()
        for host in (DOMAIN, "EXAMPLE.Com", "example.com.", "alias.example.com", "192.0.2.1", "192.0.2.1:5060",
                     "192.0.2.1:5061", f"{DOMAIN}:5060", "[2001:db8::1]", "[2001:DB8:0::0:1]:5060",
                     f"{DOMAIN};transport=tcp", f"{DOMAIN};user=phone", "192.0.2.1;lr"):
            for user in ("1002", "%31002", "1002:secret"):
                a.request("MESSAGE", f"sip:{user}@{host}")
                got = b.take("MESSAGE")
                self.assertEqual(got.uri_text, b.contact)
                b.answer(got, 200)
                a.take(200)
        rig.finish()

    @shows("RTE-08", "R3261-16.5-03", "R3261-16.5-04", "R3261-16.6-28", "16.5")
    def test_not_own(self) -> None:
        """Another port, another host: the request goes there, its Request-URI unchanged."""
        rig, a, b = pair()
        for address, port, uri in (("192.0.2.1", 5070, "sip:1002@192.0.2.1:5070"),
                                   ("192.0.2.99", 5060, "sip:1002@192.0.2.99;x")):
            x = rig.phone("1003", address, port=port)
            a.request("MESSAGE", uri)
            got = x.take("MESSAGE")
            self.assertEqual(got.uri_text, uri)
            x.answer(got, 200)
            a.take(200)
        b.silent()
        rig.finish()

    @shows("RTE-09", "RTE-10", "R3261-16.5-13", "R3261-16.5-14", "R3261-16.5-15", "16.5", "R3261-8.2.2.1-03")
    def test_absent_and_unknown(self) -> None:
        """A user who is not there is 480, one who does not exist 404; a user name knows its case."""
        rig, a, b = pair()
        for user, status in (("1003", 480), ("4711", 404), ("1002x", 404)):
            for method in ("INVITE", "MESSAGE", "FOO"):
                request = a.request(method, f"sip:{user}@{DOMAIN}")
                answer = a.take(status)
                if method == "INVITE":
                    a.ack(answer, request)
        b.silent()
        rig.finish()

    @shows("RTE-09", "10.3")
    def test_expired(self) -> None:
        """A binding that ran out is gone."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register(expires=2)
        rig.advance(3)
        a.request("MESSAGE", f"sip:1002@{DOMAIN}")
        a.take(480)
        rig.finish()

    @shows("RTE-11", "R3261-16.4-04", "R3261-16.4-05", "16.4")
    def test_own_maddr(self) -> None:
        """A maddr that is us is taken off with the port and transport that led here."""
        rig, a, b = pair()
        for uri in (f"sip:1002@{DOMAIN};maddr=192.0.2.1", f"sip:1002@{DOMAIN}:5060;maddr=192.0.2.1;transport=udp",
                    f"sip:1002@{DOMAIN};MADDR=example.com", f"sip:1002@{DOMAIN};maddr=192.0.2.1;user=phone"):
            a.request("MESSAGE", uri)
            got = b.take("MESSAGE")
            self.assertEqual(got.uri_text, b.contact)
            b.answer(got, 200)
            a.take(200)
        x = rig.phone("1003", "192.0.2.99")
        a.request("MESSAGE", "sip:joe@192.0.2.99;maddr=192.0.2.1;x=y")
        got = x.take("MESSAGE")
        self.assertEqual(got.uri_text, "sip:joe@192.0.2.99;x=y")
        x.answer(got, 200)
        a.take(200)
        rig.finish()

    @shows("RTE-11", "R3261-16.5-01", "R3261-16.5-02", "16.5")
    def test_other_maddr(self) -> None:
        """With a maddr that is not us the Request-URI is the only target, whoever's domain it names."""
        rig, a, b = pair()
        x = rig.phone("1003", "192.0.2.99")
        for uri in (f"sip:1002@{DOMAIN};maddr=192.0.2.99", "sip:joe@far.example;maddr=192.0.2.99"):
            a.request("MESSAGE", uri)
            got = x.take("MESSAGE")
            self.assertEqual(got.uri_text, uri)
            x.answer(got, 200)
            a.take(200)
        b.silent()
        rig.finish()

    @shows("RTE-13", "R3261-16.6-06", "16.6/2")
    def test_contact_octets(self) -> None:
        """The Request-URI is the contact as the phone wrote it: escapes, case, IPv6 spelling, parameters and all."""
        rig = Rig(listen=LISTEN_46)
        a, b = rig.phone("1001"), rig.phone("1002", "2001:db8::5")
        for contact in ("sip:%61%20b%40c;d@[2001:DB8:0::5]:5060;ob;X-y=%20z", "sip:1002:p%3Aw@[2001:db8::5]",
                        "SIP:\u00fc@[2001:db8::5];transport=UDP", "sip:[2001:db8::5]"):
            b.register(contact=f"<{contact}>")
            a.request("MESSAGE", f"sip:1002@{DOMAIN}")
            got = b.take("MESSAGE")
            self.assertEqual(got.uri_text, contact)
            b.answer(got, 200)
            a.take(200)
            b.register(contact=f"<{contact}>", expires=0)
        rig.finish()

    @shows("RTE-13", "R3261-16.6-07", "16.6/2", "19.1.1")
    def test_not_allowed_in_request_uri(self) -> None:
        """Headers and the method parameter of a contact do not stand in a Request-URI (s19.1.1 table 1)."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register(contact=f"<sip:1002@{b.address};method=MESSAGE;x=methodical?Route=%3Csip:evil%3E&Subject=x>")
        a.request("MESSAGE", f"sip:1002@{DOMAIN}")
        got = b.take("MESSAGE")
        self.assertEqual(got.uri_text, f"sip:1002@{b.address};x=methodical")
        b.answer(got, 200)
        a.take(200)
        rig.finish()

    @shows("RTE-09", "16.5")
    def test_contact_of_another_kind(self) -> None:
        """A contact that is no SIP URI cannot be called: alone it is 480, beside another it is passed over."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register(contact="<mailto:b@example.com>, <tel:+15551234567>")
        a.request("MESSAGE", f"sip:1002@{DOMAIN}")
        a.take(480)
        b.register()
        a.request("MESSAGE", f"sip:1002@{DOMAIN}")
        b.answer(b.take("MESSAGE"), 200)
        a.take(200)
        rig.finish()
