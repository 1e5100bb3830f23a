"""What leaves the proxy, rule by rule (RFC 3261 s16.1 to s16.6), where no case of the list says it."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.address import Address
from sipd.message.message import Request
from sipd.message.parser import parse
from tests.support.cases import shows
from tests.support.rig import DOMAIN, SERVER, Phone, Rig, established


def pair(**settings: object) -> tuple[Rig, Phone, Phone]:
    """A caller and a callee that is registered."""
    rig = Rig(**settings)  # type: ignore[arg-type]
    a, b = rig.phone("1001"), rig.phone("1002")
    b.register()
    return rig, a, b


def head(data: bytes) -> list[str]:
    """The lines of a message's head, folded ones together."""
    text = data.split(b"\r\n\r\n", 1)[0].decode("utf-8", "surrogateescape")
    return text.replace("\r\n ", "\r\n\0").replace("\r\n\0", "\n ").split("\r\n")


class Answers(TestCase):
    """s16.1 and s16.3: what the proxy says itself."""

    @shows("R3261-16.1-01", "R3261-16.3-02", "R3261-16.5-14", "8.2.6")
    def test_as_a_uas(self) -> None:
        """Via, From, Call-ID and CSeq of the request and a To tag of ours, the same for a repeat, in every refusal."""
        rig, a, b = pair()
        for status, method, uri, lines in ((483, "MESSAGE", f"sip:1002@{DOMAIN}", ()), (480, "MESSAGE", f"sip:1003@{DOMAIN}", ()),
                                           (404, "FOO", f"sip:nobody@{DOMAIN}", ()), (416, "MESSAGE", "urn:x", ()),
                                           (420, "MESSAGE", f"sip:1002@{DOMAIN}", ("Proxy-Require: x",))):
            request = a.request(method, uri, *lines, via=f"Via: SIP/2.0/UDP {a.address};branch=z9hG4bK{status}, SIP/2.0/TCP h;x",
                                max_forwards="0" if status == 483 else "9")
            answer = a.take(status)
            for name in ("from", "call-id"):
                self.assertEqual(answer.first[name], request.first[name])
            self.assertEqual((answer.cseq, answer.values("via")), (request.cseq, request.values("via")))
            self.assertEqual(answer.first["to"], f"{request.first['to']};tag={answer.to_tag}")
            a.send(request)
            self.assertEqual(a.take(status).to_tag, answer.to_tag)
        b.silent()
        rig.finish()

    @shows("R3261-16.3-03", "8.2.2.2")
    def test_merged(self) -> None:
        """A request that was forked before us and comes by two ways, From tag, Call-ID and CSeq alike, is no error: the
        phone has both and says itself what it thinks of the second."""
        rig, a, b = pair()
        got = []
        for branch in ("z9hG4bKone", "z9hG4bKtwo"):
            a.request("INVITE", f"sip:1002@{DOMAIN}", branch=branch, cseq=4, call_id="merged", from_=f"<{a.aor}>;tag=f")
            a.take(100)
            got.append(b.take("INVITE"))
        self.assertNotEqual(got[0].via.branch, got[1].via.branch)
        b.answer(got[1], 482)
        b.take("ACK")
        a.request("ACK", f"sip:1002@{DOMAIN}", branch="z9hG4bKtwo", cseq=4, call_id="merged", from_=f"<{a.aor}>;tag=f",
                  to=a.take(482).first["to"])
        b.answer(got[0], 200)
        a.ack(a.take(200))
        b.take("ACK")
        rig.finish()


class Copies(TestCase):
    """s16.6 steps 1 to 3."""

    @shows("R3261-16.6-01", "R3261-16.6-02", "R3261-16.6-03", "R3261-16.6-04", "R3261-16.6-05", "R3261-16.6-06",
           "R3261-16.6-08", "R3261-16.6-33")
    def test_line_by_line(self) -> None:
        """Every line leaves as it came and where it stood, but for the request line, our Via and Record-Route on top,
        Max-Forwards and what is added below; the body octet for octet. To each of two targets alike."""
        rig, a, b = pair()
        c = rig.phone("1002")
        c.register()
        lines = ("X-One: a, b", "Record-Route: <sip:p1.example;lr>", "Warning: 399 x \"y\"", "X-Two:c", "X-One: \tc,a",
                 "s: first\r\n second", "Record-Route: <sip:p2.example;lr>, <sip:p3.example;lr>", "Supported: 100rel,timer",
                 "Proxy-Authorization: Digest realm=\"elsewhere\"", "Authorization: Basic x", "P-Asserted-Identity: <sip:x@y>",
                 "k: replaces", "Accept:", "Identity: \udcff\udc80", "Require: x-what")
        sent = a.invite("1002", *lines, body=bytes(range(256)))
        a.take(100)
        before = head(sent.encode())
        for phone in (b, c):
            raw = phone.raw[-1]
            got = phone.take("INVITE")
            after = head(raw)
            self.assertEqual(after[0], f"INVITE {phone.contact} SIP/2.0")
            self.assertEqual([line.partition(":")[0] for line in after[1:3]], ["Via", "Record-Route"])
            expected = [line.replace("Max-Forwards: 70", "Max-Forwards: 69") for line in before[1:]]
            self.assertEqual(after[3:3 + len(expected)], expected)
            self.assertEqual([line.partition(":")[0] for line in after[3 + len(expected):]],
                             ["Session-Expires", "Max-Breadth"])
            self.assertEqual(got.body, sent.body)
            phone.answer(got, 486)
            phone.take("ACK")
        a.ack(a.take(486), sent)
        rig.finish()

    @shows("R3261-16.6-07", "19.1.1")
    def test_parameters_of_no_request_uri(self) -> None:
        """A method parameter is not in the Request-URI that leaves, be it the one that came, or a strict router's."""
        rig, a, b = pair()
        x = rig.phone("1003", "192.0.2.77")
        for uri, lines, expected in (
                ("sip:joe@192.0.2.77;method=INVITE;x=y", (), "sip:joe@192.0.2.77;x=y"),
                ("sip:joe@192.0.2.77;METHOD=INVITE", (), "sip:joe@192.0.2.77"),
                ("sip:joe@far.example", ("Route: <sip:192.0.2.77;method=INVITE;z?Subject=x>",), "sip:192.0.2.77;z")):
            a.request("MESSAGE", uri, *lines)
            got = x.take("MESSAGE")
            self.assertEqual(got.uri_text, expected)
            x.answer(got, 200)
            a.take(200)
        b.silent()
        rig.finish()


class Targets(TestCase):
    """s16.4 and s16.5."""

    @shows("R3261-16.4-04", "R3261-16.5-01", "R3261-16.5-02")
    def test_maddr_in_any_case(self) -> None:
        """Names of parameters know no case: MADDR of another host is followed, though the user is ours; and ours goes."""
        rig, a, b = pair()
        x = rig.phone("1003", "192.0.2.99")
        uri = f"sip:1002@{DOMAIN};MAddr=192.0.2.99"
        a.request("MESSAGE", uri)
        got = x.take("MESSAGE")
        self.assertEqual(got.uri_text, uri)
        x.answer(got, 200)
        a.take(200)
        b.silent()
        a.request("MESSAGE", f"sip:joe@192.0.2.99:5060;MADDR={SERVER};Transport=udp;x")
        got = x.take("MESSAGE")
        self.assertIn(got.uri_text, ("sip:joe@192.0.2.99:5060;x", "sip:joe@192.0.2.99;x"))
        x.answer(got, 200)
        a.take(200)
        rig.finish()

    @shows("R3261-16.5-08", "19.1.4")
    def test_equal_contacts(self) -> None:
        """A phone that registers its contact in several equal spellings, from several Call-IDs, is called once."""
        rig, a, b = pair()
        place = f"{b.address}:5060"
        for number, contact in enumerate((f"sip:1002@{place}", f"SIP:%31002@{place}", f"sip:1002@{place};x=1")):
            b.register(contact=f"<{contact}>", call_id=f"spelling-{number}")
        a.request("MESSAGE", f"sip:1002@{DOMAIN}")
        got = b.take("MESSAGE")
        b.silent()
        b.answer(got, 200)
        a.take(200)
        rig.finish()

    @shows("R3261-16.5-05", "10.3/5")
    def test_index(self) -> None:
        """A user with escapes and parameters in the Request-URI is found under the plain address-of-record."""
        rig, a, b = pair()
        for uri in ("sip:%31%3002@ALIAS.example.com;x=y;transport=udp", f"sip:1002:pw@{DOMAIN}:5060;user=ip"):
            a.request("MESSAGE", uri)
            b.answer(b.take("MESSAGE"), 200)
            a.take(200)
        rig.finish()


class RecordRoute(TestCase):
    """s16.6 step 4."""

    @shows("R3261-16.6-11", "R3261-16.6-13", "R3261-16.6-14", "R3261-16.6-15", "R3261-16.6-16")
    def test_beside_a_route(self) -> None:
        """A request that came with a Route has our Record-Route on top as well: a SIP URI of the listener, with lr and, on
        UDP, no transport; on TCP one. The listener it names takes what is sent there."""
        for transport, transports in (("udp", [None]), ("tcp", [None, "tcp"])):
            rig = Rig()
            a, x = rig.phone("1001", transport=transport), rig.phone("1003", "192.0.2.77")
            a.request("SUBSCRIBE", "sip:joe@far.example", f"Route: <sip:{SERVER};lr>, <sip:192.0.2.77;lr>", "Event: x",
                      "Record-Route: <sip:one.example;lr>")
            got = x.take("SUBSCRIBE")
            values = got.values("record-route")
            self.assertEqual(values.pop(), "<sip:one.example;lr>")
            uris = [Address.parse(value).uri for value in values]
            self.assertEqual([uri.param("transport") for uri in uris], transports)
            for uri in uris:
                self.assertEqual((uri.scheme, uri.param("lr")), ("sip", ""))
                self.assertIn((uri.param("transport") or "udp", uri.host, uri.port),
                              [(one.transport, one.address, one.port) for one in rig.transports.listeners])
            x.answer(got, 403)
            a.take(403)
            rig.finish()

    @shows("R3261-16.6-20")
    def test_unknown_method(self) -> None:
        """A method nobody knows may make a dialog: it has our Record-Route; those that are known to make none do not."""
        rig, a, b = pair()
        for method in ("FOO", "invite", "MESSAGE", "OPTIONS", "INFO", "PUBLISH", "UPDATE", "PRACK", "BYE"):
            a.request(method, f"sip:1002@{DOMAIN}", "Event: conference")
            got = b.take(method)
            self.assertEqual(len(got.values("record-route")), method in ("FOO", "invite"), method)
            b.answer(got, 200)
            a.take(200)
        rig.finish()

    @shows("R3261-16.6-17", "R3261-16.6-29", "26.2.2")
    def test_sips_route(self) -> None:
        """A next Route that is sips: it goes there by TLS, and our Record-Route of that side is sips as well."""
        rig = Rig()
        a = rig.phone("1001")
        place = rig.network.listen("tls", "192.0.2.77", 5061)
        plain = rig.phone("1003", "192.0.2.77")
        invite = a.invite("sip:joe@far.example", "Route: <sips:192.0.2.77;lr>")
        a.take(100)
        rig.advance(0.2, 0.1)
        got = parse(place.received[0])
        self.assertTrue(got.values("record-route")[0].startswith("<sips:"), got.values("record-route"))
        plain.silent()
        place.connections[0].send(plain.answer(got, 404, send=False).encode())  # type: ignore[arg-type]
        a.ack(a.take(404), invite)
        rig.finish()

    @shows("R3261-16.6-29", "26.2.2")
    def test_sips_by_a_plain_route(self) -> None:
        """A sips Request-URI with a sip Route, a sips contact with a sip Path, and one whose binding came by UDP through a
        NAT: TLS or nothing, at the place that Route or Path names."""
        for behind in ("route", "path", "nat"):
            rig = Rig()
            a = rig.phone("1001", transport="tls")
            place, plain = rig.network.listen("tls", "192.0.2.77", 5061), rig.phone("1003", "192.0.2.77")
            stream = rig.network.listen("tcp", "192.0.2.77", 5060)
            if behind == "path":
                rig.binding("1002", "sips:1002@10.0.0.9", path=("<sip:192.0.2.77;lr>",))
            elif behind == "nat":
                rig.binding("1002", "sips:1002@10.0.0.9", nat=True, flow=f"udp/{SERVER}:5060/192.0.2.77:5060")
            invite = (a.invite("sips:joe@far.example", "Route: <sip:192.0.2.77;lr>") if behind == "route"
                      else a.invite(f"sips:1002@{DOMAIN}"))
            a.take(100)
            rig.advance(0.2, 0.1)
            plain.silent()
            self.assertEqual(stream.connections, [])
            if behind == "nat":
                self.assertEqual(place.connections, [])
                final = a.take()
                self.assertGreaterEqual(final.status, 480)
            else:
                got = parse(place.received[0])
                self.assertEqual(got.values("route"), ["<sip:192.0.2.77;lr>"])
                place.connections[0].send(plain.answer(got, 404, send=False).encode())  # type: ignore[arg-type]
                final = a.take(404)
            a.ack(final, invite)
            rig.finish()

    @shows("R3261-16.6-18", "R3261-16.6-19")
    def test_where_tls_ends(self) -> None:
        """With record_route = false there is one all the same where sips begins (it came without TLS) and where it ends
        (it came by TLS and leaves as sip, with a Record-Route that is not sips); and none where nothing changes."""
        off = {"record_route": False}
        for transport, contact, schemes in (("udp", "sips:1002@192.0.2.77", ["sips", "sip"]),
                                            ("tls", "sip:1002@192.0.2.77", ["sip", "sip"]),
                                            ("tls", "sips:1002@192.0.2.77", []), ("udp", "sip:1002@192.0.2.77", [])):
            rig = Rig(proxy=off)
            a, x = rig.phone("1001", transport=transport), rig.phone("1002", "192.0.2.77")
            place = rig.network.listen("tls", "192.0.2.77", 5061)
            rig.binding("1002", contact)
            invite = a.invite("1002")
            a.take(100)
            rig.advance(0.2, 0.1)
            secure = contact.startswith("sips")
            got = parse(place.received[0]) if secure else x.take("INVITE")
            self.assertEqual([value[1:].partition(":")[0] for value in got.values("record-route")], schemes, contact)
            answer = x.answer(got, 404, send=False)
            if secure:
                place.connections[0].send(answer.encode())
            else:
                x.send(answer)
            x.drain()
            a.ack(a.take(404), invite)
            rig.finish()


class NextHops(TestCase):
    """s16.6 steps 6 to 10."""

    @shows("R3261-16.6-21", "R3261-16.6-22", "3327 5.3")
    def test_path(self) -> None:
        """A binding's Path is the Route, in its order, of a request without one and of one whose Route named only us."""
        rig = Rig()
        a, edge = rig.phone("1001"), rig.phone("1003", "192.0.2.80")
        rig.binding("1002", "sip:1002@10.0.0.9", path=("<sip:192.0.2.80;lr;x=1>", "<sip:edge2.example;lr>"))
        for lines in ((), (f"Route: <sip:{SERVER};lr>",)):
            a.request("MESSAGE", f"sip:1002@{DOMAIN}", *lines)
            got = edge.take("MESSAGE")
            self.assertEqual(got.values("route"), ["<sip:192.0.2.80;lr;x=1>", "<sip:edge2.example;lr>"])
            edge.answer(got, 200)
            a.take(200)
        rig.finish()

    @shows("R3261-16.1-03", "R3261-16.6-41", "17.1.1.2")
    def test_from_tcp_to_udp(self) -> None:
        """What came by TCP, which repeats nothing, is repeated over UDP by us until the phone answers."""
        rig = Rig()
        a, b = rig.phone("1001", transport="tcp"), rig.phone("1002")
        b.register()
        a.invite("1002")
        a.take(100)
        rig.advance(1.8, 0.05)
        got = b.take_all("INVITE")
        self.assertEqual(len(got), 3)
        b.answer(got[0], 200)
        a.ack(a.take(200))
        b.take("ACK")
        rig.advance(5)
        b.silent()
        rig.finish()

    @shows("R3261-16.6-40", "20.14")
    def test_content_length_on_streams(self) -> None:
        """A datagram without Content-Length leaves by TCP with the length of its body, and by UDP as it came."""
        for transport in ("tcp", "udp"):
            rig = Rig()
            a, b = rig.phone("1001"), rig.phone("1002", transport=transport)
            b.register()
            data = a.request("MESSAGE", f"sip:1002@{DOMAIN}", body=b"hello", send=False).encode()
            a.send(data.replace(b"Content-Length: 5\r\n", b""))
            got = b.take("MESSAGE")
            self.assertEqual((got.body, got.all("content-length")), (b"hello", ["5"] if transport == "tcp" else []))
            b.answer(got, 200)
            a.take(200)
            rig.finish()

    @shows("R3261-16.6-34", "R3261-16.6-35", "R3261-16.6-38", "8.1.1.7")
    def test_branches(self) -> None:
        """Each branch id begins with the cookie and none comes twice; the part after the dot, by which a loop is known, is
        the same for each method and target of one call to a user, and another for another user."""
        rig, a, b = pair()
        c = rig.phone("1003")
        b.register(contact=f"<sip:other@{b.address}>")
        c.register()
        branches: list[str] = []
        marks: list[str] = []
        for method, user, phone, copies in (("INVITE", "1002", b, 2), ("MESSAGE", "1002", b, 2), ("FOO", "1003", c, 1)):
            request = a.request(method, f"sip:{user}@{DOMAIN}", call_id="one-call")
            got = [phone.take(method) for _ in range(copies)]
            for one in got:
                self.assertTrue(one.via.branch.startswith("z9hG4bK"))
                unique, _, mark = one.via.branch.partition(".")
                branches.append(unique)
                marks.append(mark)
                phone.answer(one, 488)
            if method == "INVITE":
                phone.take_all("ACK")
                a.take(100)
                a.ack(a.take(488), request)
            else:
                a.take(488)
        self.assertEqual(len(set(branches)), 5)
        self.assertTrue(marks[0])
        self.assertEqual(len(set(marks[:4])), 1)
        self.assertNotEqual(marks[4], marks[0])
        rig.finish()

    @shows("R3261-16.11-08", "R3261-16.11-11", "R3261-16.11-12", "R3261-16.11-13", "16.6/6")
    def test_ack_by_a_route(self) -> None:
        """The ACK of a 2xx leaves by its Route as other requests do, for a strict router rewritten too, one hop fewer left
        and our Via on top; a repeat seconds later octet for octet the same."""
        rig, a, b = pair()
        x = rig.phone("1003", "192.0.2.77")
        for next_route, uri, left in (("<sip:192.0.2.77;lr>", b.contact, ["<sip:192.0.2.77;lr>", "<sip:z;lr>"]),
                                      ("<sip:192.0.2.77>", "sip:192.0.2.77", ["<sip:z;lr>", f"<{b.contact}>"])):
            _, _, _, ok = established(a, b)
            ours = ok.values("record-route")[0]
            ack: Request = a.request("ACK", b.contact, f"Route: {ours}, {next_route}, <sip:z;lr>", to=ok.first["to"],
                                     from_=ok.first["from"], call_id=ok.call_id, cseq=ok.cseq_number)
            got = x.take("ACK")
            self.assertEqual((got.uri_text, got.values("route"), got.first["max-forwards"]), (uri, left, "69"))
            self.assertEqual(got.values("via")[1:], ack.values("via"))
            rig.advance(7)
            a.send(ack)
            self.assertEqual(x.take("ACK").encode(), got.encode())
        a.silent()
        rig.finish()

    @shows("R3261-16.11-05", "R3261-16.11-06", "R3261-16.11-13", "3263 4.4")
    def test_ack_to_one_of_several(self) -> None:
        """Where a name stands for several servers, each repeat of an ACK goes to the same one, though others go elsewhere,
        and still after the DNS was asked anew."""
        rig, a, b = pair()
        hosts = []
        for number in range(4):
            rig.dns.srv("_sip._udp.gw.example.net", 1, 1, 5060, f"h{number}.example.net")
            rig.dns.address(f"h{number}.example.net", f"192.0.2.6{number}")
            hosts.append(rig.phone("1003", f"192.0.2.6{number}"))
        _, _, _, ok = established(a, b)
        ours = ok.values("record-route")[0]
        chosen = set()
        for _ in range(8):
            ack = a.request("ACK", "sip:1002@gw.example.net", f"Route: {ours}", to=ok.first["to"], from_=ok.first["from"],
                            call_id=ok.call_id, cseq=ok.cseq_number, send=False)
            places = set()
            for pause in (0.1, 0.1, 4000.0, 0.1):
                a.send(ack)
                rig.advance(pause, 500.0)
                places |= {number for number, host in enumerate(hosts) if host.drain()}
            self.assertEqual(len(places), 1)
            chosen |= places
        self.assertGreater(len(chosen), 1)
        rig.finish()
