"""The shape of messages, rule by rule (RFC 3261 s7), on the real core."""

from __future__ import annotations

import re

from twisted.trial.unittest import TestCase

from tests.support.cases import shows
from tests.support.rig import DOMAIN, Phone, Rig
from tests.support.stream import Stream


def pair() -> tuple[Rig, Phone, Phone]:
    """A caller and a callee that is registered."""
    rig = Rig()
    a, b = rig.phone("1001"), rig.phone("1002")
    rig.binding("1002", b.contact)
    return rig, a, b


def text(method: str, uri: str, *lines: str, version: str = "SIP/2.0", via: str, number: int = 1) -> bytes:
    """A request as octets, with this start line; `via` without its name."""
    return "\r\n".join([
        f"{method} {uri} {version}", f"Via: {via}", "From: <sip:1001@example.com>;tag=1", "To: <sip:1002@example.com>",
        f"Call-ID: c{number}@192.0.2.10", f"CSeq: {number} {method}", "Max-Forwards: 70", *lines, "", ""]).encode(
            "utf-8", "surrogateescape")


class Lines(TestCase):
    """s7, s7.1: start lines and the ends of lines."""

    @shows("R3261-7-01", "R3261-7-02", "R3261-7.1-03", "R3261-7.1-04")
    def test_what_we_send(self) -> None:
        """Every message of ours, made here or passed on, ends its lines with CRLF and its head with an empty line, and
        says SIP/2.0 in capitals, however the one it answers or passes on was written."""
        rig, a, b = pair()
        via = f"SIP/2.0/UDP {a.address}:5060;branch=z9hG4bKl"
        a.send(text("INVITE", f"sip:1002@{DOMAIN}", "Contact: <sip:1001@192.0.2.10>", via=f"{via}1", version="sip/2.0"))
        a.take(100)
        got = b.take("INVITE")
        b.send(b.answer(got, 180, send=False).encode().replace(b"SIP/2.0 180", b"sip/2.0 180"))
        a.take(180)
        a.send(text("CANCEL", f"sip:1002@{DOMAIN}", via=f"{via}1", version="Sip/2.0"))
        a.take(200)
        b.answer(b.take("CANCEL"), 200)
        b.send(b.answer(got, 487, send=False).encode().replace(b"SIP/2.0 487", b"sIP/2.0 487"))
        b.take("ACK")
        a.ack(a.take(487), a.request("INVITE", f"sip:1002@{DOMAIN}", via=f"Via: {via}1", send=False))
        a.send(text("MESSAGE", f"sip:nobody@{DOMAIN}", via=f"{via}2", number=2, version="sip/2.0"))
        a.take(404)
        a.register()
        a.send(text("OPTIONS", f"sip:{DOMAIN}", via=f"{via}3", number=3))
        a.take(200)
        ours = [packet.data for packet in rig.network.packets if packet.source == ("192.0.2.1", 5060)]
        self.assertGreater(len(ours), 9)
        for data in ours:
            start, _, rest = data.partition(b"\r\n")
            self.assertRegex(start, rb"\A(SIP/2\.0 \d\d\d |[A-Z]+ \S+ SIP/2\.0\Z)")
            self.assertEqual(rest.count(b"\r\n\r\n"), 1, "no message here has a body")
            self.assertTrue(rest.endswith(b"\r\n\r\n"))
            self.assertIsNone(re.search(rb"[^\r]\n|\r[^\n]", data))
        rig.finish()

    @shows("R3261-7-01", "R3261-7-02")
    def test_what_we_get(self) -> None:
        """A bare CR or LF in the head, and a head without its empty line, are refused; nothing of them goes on."""
        rig, a, b = pair()
        via = f"SIP/2.0/UDP {a.address}:5060;branch=z9hG4bKb"
        for number, broken in enumerate((
                text("MESSAGE", f"sip:1002@{DOMAIN}", "X: a\nY: b", via=f"{via}1"),
                text("MESSAGE", f"sip:1002@{DOMAIN}", "X: a\rY: b", via=f"{via}2"),
                text("MESSAGE", f"sip:1002@{DOMAIN}", "X: a", via=f"{via}3").replace(b"X: a\r\n\r\n", b"X: a\r\n"),
                text("MESSAGE", f"sip:1002@{DOMAIN}", "X: a", via=f"{via}4").replace(b"X: a\r\n\r\n", b"X: a\n\n"))):
            a.send(broken)
            self.assertTrue(a.take_refusal(400), number)
        b.silent()
        rig.finish()

    @shows("R3261-7.1-03")
    def test_other_versions(self) -> None:
        """Another version gets 505 and does not go on."""
        rig, a, b = pair()
        for number, version in enumerate(("SIP/3.0", "SIP/2.1", "SIP/1.0")):
            a.send(text("MESSAGE", f"sip:1002@{DOMAIN}", via=f"SIP/2.0/UDP {a.address};branch=z9hG4bKv{number}",
                        version=version))
            a.take(505)
        b.silent()
        rig.finish()

    @shows("R3261-7.1-01", "R3261-7.1-02")
    def test_request_uri(self) -> None:
        """Blanks, controls and angle brackets in a Request-URI get 400, in SIP and tel URIs, also along a Route; other
        schemes get 416 whatever follows."""
        rig, a, b = pair()
        far = rig.phone("1003", "198.51.100.9")
        wrong = ("sip:10 02@example.com", "sip:1002@example.com;x=\x01", "sip:10\t02@example.com", "sip:1002@example.com\x7f",
                 "<sip:1002@example.com>", "tel:+1\x01555", "tel:+1555\x7f", "tel:+1 555", "<tel:+1555>")
        number = 0
        for uri in wrong:
            for lines in ((), (f"Route: <sip:{far.address};lr>",)):
                number += 1
                a.send(text("MESSAGE", uri, *lines, via=f"SIP/2.0/UDP {a.address};branch=z9hG4bKr{number}"))
                self.assertTrue(a.take_refusal(400), uri)
        a.send(text("MESSAGE", "foo:\x01", via=f"SIP/2.0/UDP {a.address};branch=z9hG4bKr0"))
        a.take(416)
        for phone in (b, far):
            phone.silent()
        for contact in ("<tel:+1\x01>", "<sip:1001@192.0.2.1\x7f>", "<sip:10 01@192.0.2.1>", "<<sip:1001@192.0.2.1>>"):
            a.register(contact=contact, take=400)
        rig.finish()


class HeaderFields(TestCase):
    """s7.3."""

    @shows("R3261-7.3.1-01", "R3261-7.3.1-03", "R3261-7.3.3-01")
    def test_rows_and_commas(self) -> None:
        """One request written in every mixture of rows, commas, compact and long names comes out alike: Route, Via and
        Record-Route in their order."""
        seen = set()
        vias = ("SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK1", "SIP/2.0/UDP far.example;branch=z9hG4bK2;p=\"a,b\"", "SIP/2.0/TCP farther.example;branch=z9hG4bK3")
        routes = ("<sip:192.0.2.99;lr>", "\"Comma, Inc\" <sip:r2.example;lr;x=a>", "<sip:r3.example;lr>")
        for form in range(4):
            rig = Rig()
            a, far = rig.phone("1001", "192.0.2.10"), rig.phone("1002", "192.0.2.99")
            rows: list[str] = []
            for name, short, values in (("Via", "v", vias), ("Route", "Route", routes), ("Record-Route", "record-route", routes)):
                mixtures: tuple[tuple[str, ...], ...] = (
                    tuple(f"{name}: {value}" for value in values), (f"{name}: {', '.join(values)}",),
                    (f"{name}:{values[0]}", f"{short} : {values[1]} ,{values[2]}"),
                    (f"{short}: {values[0]}\r\n , {values[1]}", f"{name.upper()}:\t{values[2]}"))
                rows += mixtures[form]
            a.send("\r\n".join([
                "BYE sip:somebody@far.example SIP/2.0", *rows, "f: <sip:1001@example.com>;tag=1", "To: <sip:x@far.example>;tag=2",
                "i: c1", "CSeq: 1 BYE", "", ""]).encode())
            got = far.take("BYE")
            far.answer(got, 200)
            ok = a.take(200)
            seen.add((tuple(got.values("route")), tuple(got.values("record-route")), tuple(ok.values("via"))))
            self.assertEqual(got.values("via")[1:], list(vias))
            rig.finish()
        self.assertEqual(seen, {(routes, routes, vias)})

    @shows("R3261-7.3.1-03")
    def test_rows_of_a_register(self) -> None:
        """Contact, Supported, Require and Path of a REGISTER count in rows, with commas, and in both."""
        path = ["<sip:192.0.2.80;lr>", "\"a, b\" <sip:edge.example;lr>"]
        for lines in (("Contact: <sip:1001@192.0.2.50>, <sip:1001@192.0.2.51>;q=0.5", f"Path: {', '.join(path)}",
                       "Supported: x, path", "Require: path, path"),
                      ("Contact: <sip:1001@192.0.2.50>", "m: <sip:1001@192.0.2.51>;q=0.5", f"Path: {path[0]}", f"PATH: {path[1]}",
                       "k: x", "Supported: path", "Require: path", "require:path")):
            rig = Rig()
            a = rig.phone("1001")
            answer = a.register(*lines, contact="")
            self.assertEqual(answer.values("path"), path)
            self.assertEqual(answer.values("contact"), ["<sip:1001@192.0.2.50>;expires=3600",
                                                        "<sip:1001@192.0.2.51>;expires=3600;q=0.5"])
            rig.finish()

    @shows("R3261-7.3.1-04")
    def test_no_parameter_twice(self) -> None:
        """received, rport, tag, expires and q stand once in what we write, also where the sender wrote them, or twice."""
        rig = Rig()
        a = rig.phone("1001")
        contact = "<sip:1001@192.0.2.50>;expires=60;EXPIRES=90;q=0.5;Q=0.7;x=1;X=2"
        via = f"Via: SIP/2.0/UDP {a.address};received=192.0.2.200;rport;branch=z9hG4bKt;received=192.0.2.201;rport=7;RECEIVED=x"
        answer = a.register(contact=contact, via=via)
        for value in (answer.first["via"], answer.first["contact"], answer.first["to"]):
            names = [part.partition("=")[0].strip().lower() for part in value.partition(">")[2].split(";")[1:] or value.split(";")[1:]]
            self.assertEqual(len(names), len(set(names)), value)
            self.assertTrue(names)
        self.assertIn(f"received={a.address}", answer.first["via"])
        again = a.register(to=f"<{a.aor}>;tag=mine", contact="")
        self.assertEqual(again.first["to"], f"<{a.aor}>;tag=mine")
        rig.finish()

    @shows("R3261-7.3.2-01")
    def test_wrong_category(self) -> None:
        """Fields of responses in a REGISTER, an OPTIONS and an INVITE, and fields of requests in a response, change nothing
        of what happens."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        of_responses = ("WWW-Authenticate: Digest realm=\"x\", nonce=\"y\"", "Proxy-Authenticate: Digest realm=\"x\", nonce=\"y\"",
                        "Unsupported: path", "Min-Expires: 7200", "Retry-After: 3600", "Authentication-Info: nextnonce=\"z\"",
                        "Error-Info: <sip:x@y>", "Server: sipd")
        plain, odd = b.register(), b.register(*of_responses)
        self.assertEqual((odd.values("contact"), [name for name, _, _ in odd.headers]),
                         (plain.values("contact"), [name for name, _, _ in plain.headers]))
        a.request("OPTIONS", f"sip:{DOMAIN}", *of_responses)
        a.take(200)
        of_requests = ("Route: <sip:192.0.2.99;lr>", "Max-Forwards: 0", "Require: nothing-known", "Proxy-Require: nothing-known",
                       "Authorization: Digest x", "Proxy-Authorization: Digest x", "Priority: emergency", "Path: <sip:x;lr>")
        invite = a.invite("1002", *of_responses)
        a.take(100)
        got = b.take("INVITE")
        for status in (180, 486):
            b.answer(got, status, *of_requests)
            answer = a.take(status)
        b.take("ACK")
        a.ack(answer, invite)
        rig.finish()

    @shows("R3261-7.4.2-01", "R3261-7.5-01")
    def test_framing_on_a_stream(self) -> None:
        """On a stream Content-Length alone ends a body, Transfer-Encoding means nothing and goes on as it came, and CRLFs
        before a start line, in segments of their own too, do no harm."""
        rig = Rig()
        b = rig.phone("1002")
        b.register()
        chunked = b"5\r\nhello\r\n0\r\n\r\n"
        for split in (0, 1, 7):
            stream = Stream(rig)
            for number, body in enumerate((chunked, b"next")):
                lines = ("Transfer-Encoding: chunked",) if body is chunked else ()
                via = f"SIP/2.0/TCP 192.0.2.200;branch=z9hG4bKs{split}{number}"
                data = text("MESSAGE", f"sip:1002@{DOMAIN}", *lines, f"Content-Length: {len(body)}", via=via) + body
                stream.send(b"\r\n" + data + b"\r\n", split=split)
                got = b.take("MESSAGE")
                self.assertEqual((got.body, "transfer-encoding" in got.first), (body, body is chunked))
                b.answer(got, 200)
            self.assertEqual([data.partition(b"\r\n")[0] for data in stream.received], [b"SIP/2.0 200 Reason"] * 2)
            self.assertNotIn(b"ransfer-", b"".join(stream.received))
            self.assertFalse(stream.closed)
            stream.connection.close()
        rig.finish()
