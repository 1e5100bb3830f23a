"""From octets to a message, and what comes of octets that are none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from sipd.message import parser
from sipd.message.errors import MalformedMessage
from sipd.message.message import Message, Request, Response
from sipd.message.parser import parse
from tests.message.messages import LINES, OK, legal, message, mutilated
from tests.support.cases import shows
from tests.support.properties import check, hostile_text


class ParserTests(TestCase):
    """parse."""

    def refused(self, data: bytes, status: int = 400, *, answerable: bool = True, stream: bool = False) -> MalformedMessage:
        """The error that reading raises."""
        error = self.assertRaises(MalformedMessage, parse, data, stream)
        self.assertEqual((error.status, isinstance(error.message, Request)), (status, answerable), error.reason)
        if answerable:
            self.assertIsNotNone(error.message.via)
        return error

    def test_request(self) -> None:
        """The INVITE of RFC 3261 s24.2: start line, typed parts, headers in order, body."""
        request = parse(message(body=b"v=0\r\n"))
        self.assertIsInstance(request, Request)
        assert isinstance(request, Request)
        self.assertEqual((request.method, request.uri_text, request.call_id, request.cseq, request.from_tag, request.to_tag),
                         ("INVITE", "sip:bob@biloxi.com", "a84b4c76e66710@pc33.atlanta.com", (314159, "INVITE"),
                          "1928301774", ""))
        assert request.via is not None
        self.assertEqual((request.via.host, request.via.branch), ("pc33.atlanta.com", "z9hG4bK776asdhds"))
        self.assertEqual([header[0] for header in request.headers],
                         ["via", "max-forwards", "to", "from", "call-id", "cseq", "contact", "content-length"])
        self.assertEqual(request.body, b"v=0\r\n")

    @shows("R3261-7.1-04")
    def test_response(self) -> None:
        """The 200 to it; the reason phrase may be anything, or nothing (4475 3.1.1.12, 3.1.1.13). It goes on as it came,
        but for the version, which is sent in capitals (s7.1)."""
        for start, status, reason in (("SIP/2.0 200 OK", 200, "OK"), ("SIP/2.0 100 ", 100, ""), ("SIP/2.0 100", 100, ""),
                                      ("sip/2.0 699 \u043d\u043e = 2**3", 699, "\u043d\u043e = 2**3")):
            response = parse(message(base=OK, start=start))
            assert isinstance(response, Response)
            self.assertEqual((response.status, response.reason, response.to_tag), (status, reason, "a6c85cf"))
            self.assertTrue(response.encode().startswith(f"SIP{start[3:]}\r\n".encode()))

    @shows("VAL-15", "7.3.3")
    def test_spellings(self) -> None:
        """s7.3: compact forms, any case, blanks around the colon, folding: one and the same message."""
        plain = parse(message("Subject: I know you're there", "Supported: path, outbound"))
        odd = parse("\r\n".join([
            "INVITE sip:bob@biloxi.com sip/2.0", "v :\tSIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776asdhds",
            "MAX-forwards:70", "T:Bob <sip:bob@biloxi.com>", "f:\r\n Alice <sip:alice@atlanta.com>;tag=1928301774",
            "I: a84b4c76e66710@pc33.atlanta.com", "CSEQ:  314159   INVITE", "m: <sip:alice@pc33.atlanta.com>",
            "s: I know\r\n\tyou're there", "K: path,\r\n outbound", "L:\t0", "", ""]).encode())
        self.assertEqual([header[:2] for header in odd.headers if header[0] not in ("cseq", "supported")],
                         [header[:2] for header in plain.headers if header[0] not in ("cseq", "supported")])
        self.assertEqual(parse(message("Subject: a \r\n \r\n\t\r\n b")).get("subject"), "a b")
        self.assertEqual(odd.cseq, plain.cseq)
        self.assertEqual(odd.values("supported"), plain.values("supported"))

    def test_octets_that_are_no_text(self) -> None:
        """s7.3.1, s25.1: octets that are no UTF-8 stay what they are."""
        for body in (b"", b"\xff" * 5000):
            data = message(body=body).replace(b"Alice", b'"\xff\xfe\x00\\\x07"')
            self.assertEqual(parse(data).encode(), data)

    @shows("R3261-18.3-01")
    def test_body(self) -> None:
        """s18.3: the body is what Content-Length says, what follows is dropped; without it, the rest of the datagram."""
        self.assertEqual(parse(message(body=b"abc") + b"INVITE sip:joe").body, b"abc")
        self.assertEqual(parse(message(length=False) + b"\x00rest\r\n\r\n").body, b"\x00rest\r\n\r\n")
        self.assertEqual(parse(message("Content-Length: 0003", length=False) + b"abcd").body, b"abc")
        self.assertEqual(parse(message("l: 0", length=False)).body, b"")
        # its length is one of octets, whatever they are
        for body in ("\u00fc\U0001f600".encode(), b"\xff\x00\xc3", b"\xed\xa0\x80" * 3, b"\r\n\r\n\xbc", b"\xff\r\n\r\n\xc3" * 3000):
            self.assertEqual(parse(message(body=body) + b"\xbcmore").body, body)
            self.assertEqual(parse(message(length=False) + body).body, body)
        self.assertEqual(parse(message("l: " + "0" * 5000 + "3", length=False) + b"abcd").body, b"abc")

    @shows("R3261-18.3-02", "R3261-18.3-03")
    def test_bad_lengths(self) -> None:
        """s18.3, 4475 3.1.2.2, 3.1.2.3, 3.3.9: a length that cannot be met or read, or two of them."""
        for length in ("4", "-1", "a", "", "1.0", "\u0663", "99999999999999999999", "0x3", "3 3", "3,3", "+3",
                       "9" * 5000):
            self.refused(message(f"Content-Length: {length}", length=False) + b"abc")
        self.refused(message("Content-Length: 3", "l: 3", length=False) + b"abc")

    @shows("TRN-04", "18.3", "R3261-18.3-04", "R3261-20.14-02")
    def test_length_on_a_stream(self) -> None:
        """s18.3, s20.14: on a stream there must be a length."""
        self.refused(message(length=False), stream=True)
        self.assertEqual(parse(message(body=b"a"), True).body, b"a")

    def test_before_the_start_line(self) -> None:
        """s7.5: empty lines in front are passed over."""
        self.assertIsInstance(parse(b"\r\n\r\n" + message()), Request)

    @shows("VAL-14", "8.1.1")
    def test_mandatory(self) -> None:
        """s8.1.1: what must be there and is not, or is empty: 400, from what is there. Without a Via nobody is told."""
        for name in ("To", "From", "Call-ID", "CSeq"):
            self.refused(message(without=f"{name}:"))
            self.refused(message(f"{name}: ", without=f"{name}:"))
            self.refused(message(name, without=f"{name}:"))
        self.refused(message(without="Via:"), answerable=False)
        self.refused(message("Via: nonsense", without="Via:"), answerable=False)

    @shows("VAL-14", "8.1.1", "R3261-20.16-01", "R3261-20-05")
    def test_broken_core(self) -> None:
        """The fields by which transactions and dialogs are named are read, wherever they stand."""
        for name, values in {
            "To": ["<sip:a@b", '"x <sip:a@b>', "<garbage>", "sip:a b", "<sip:a@b>;;tag=1", "<sip:a@b:0>", "<sip:>", "a@b",
                   "<sip:a@b>;tag", "<sip:a@b>;tag=", "sip:a@b; TAG = ;x"],
            "From": ["<sip:a@b> tag=1", "<sip:a@b;x=>;tag=1", "<sip:a@b;=x>", "x, y <sip:a@b>", "<sip:@>", "sip:a@b?x=y"],
            "Call-ID": ["a b", "a\tb", "a\x00b", "a\x7f"],
            "CSeq": ["1", "INVITE", "1INVITE", "-1 INVITE", "1 INVITE x", "4294967296 INVITE", "1.0 INVITE", "1 invite",
                     "\u0661 INVITE", "1 OPTIONS", "36893488147419103232 INVITE", "1  IN VITE", "1 INVITE;x", "+1 INVITE"],
        }.items():
            for value in values:
                self.refused(message(f"{name}: {value}", without=f"{name}:"))

    @shows("VAL-20", "8.1.1.5", "R3261-20.16-01")
    def test_cseq(self) -> None:
        """s8.1.1.5: below 2**32; zeros in front and any white space are no matter."""
        for text, number in (("0 INVITE", 0), ("2147483648 INVITE", 2**31), ("4294967295 INVITE", 2**32 - 1),
                             ("0" * 5000 + "9 INVITE", 9), ("7 \t INVITE", 7), ("7\r\n INVITE", 7)):
            self.assertEqual(parse(message(f"CSeq: {text}", without="CSeq:")).cseq, (number, "INVITE"))

    def test_strangers_learn_nothing(self) -> None:
        """Who writes to whom is kept from messages of the known alone, and spares reading it to these alone; it reads the
        same either way, and what only begins like it is not taken for it."""
        kept = parser._KNOWN_ADDRESSES
        before = dict(kept)
        one = message("To: <sip:somebody@biloxi.com>;tag=b1", without="To:")
        self.assertEqual((parse(one).to_tag, kept), ("b1", before))
        self.assertEqual((parse(one, known=True).to_tag, parse(one, known=True).to_tag), ("b1", "b1"))
        self.assertIn("<sip:somebody@biloxi.com", kept)
        parse(message("To: <sip:somebody@biloxi.com>", without="To:"), known=True)
        self.assertIn("To: <sip:somebody@biloxi.com>", parser._LINES_OF_KNOWN)
        parse(message("To: <sip:somebody@example.net>", without="To:"))
        for lines in (parser._LINES_OF_KNOWN, parser._KNOWN_LINES):
            self.assertNotIn("To: <sip:somebody@example.net>", lines)
        for known in (False, True):
            for value in ("<sip:somebody@biloxi.com", "<sip:somebody@biloxi.com>;tag="):
                self.assertRaises(MalformedMessage, parse, message(f"To: {value}", without="To:"), known=known)

    def test_strangers_are_not_looked_up(self) -> None:
        """What the known sent is not even looked at for strangers: were something wrong kept, they would not be told."""
        kept, lines = parser._KNOWN_ADDRESSES, parser._LINES_OF_KNOWN
        for address, value in (("<nonsense>", "<nonsense>"), ("<nonsense", "<nonsense>;tag=1")):
            kept[address] = None
            self.addCleanup(kept.pop, address)
            self.assertEqual(parse(message(f"To: {value}", without="To:"), known=True).get("to"), value)
            self.refused(message(f"To: {value}", without="To:"))
        lines["To: nobody"] = ("to", "<sip:b@c>", "To: nobody")
        self.addCleanup(lines.pop, "To: nobody")
        self.assertEqual(parse(message("To: nobody", without="To:"), known=True).get("to"), "<sip:b@c>")
        self.refused(message("To: nobody", without="To:"))

    def test_twice(self) -> None:
        """s7.3.1: what stands once stands once (4475 3.3.8); the answer repeats the first."""
        for line in ("To: <sip:x@y>", "f: <sip:x@y>;tag=9", "i: other", "CSeq: 1 INVITE", "Max-Forwards: 1"):
            error = self.refused(message(line))
            assert error.message is not None
            name = error.message.headers[-1][0]
            self.assertEqual(name, "content-length")
            for key in ("to", "from", "call-id", "cseq"):
                self.assertEqual(len(error.message.all(key)), 1)

    def test_start_lines(self) -> None:
        """s7.1: three parts with one SP between them; a method is a token (4475 3.1.2.6 to 3.1.2.10)."""
        for start in ("INVITE  sip:bob@biloxi.com  SIP/2.0", "INVITE sip:bob@biloxi.com SIP/2.0 ", "INVITE sip:b; lr SIP/2.0",
                      "INVITE sip:bob@biloxi.com", "INVITE", " INVITE sip:bob@biloxi.com SIP/2.0", "INVITE\tsip:b\tSIP/2.0",
                      "INV(ITE sip:b SIP/2.0", "INVITE  SIP/2.0", "INVITE sip:b HTTP/1.1", "INVITE sip:b SIP/2",
                      "INV\u00cfTE sip:b SIP/2.0", "INVITE sip:b \u017fIP/2.0"):
            self.refused(message(start=start))
        odd = "!interesting-Method0123456789_*+`.%indeed'~"
        request = parse(message(f"CSeq: 1 {odd}", without="CSeq:", start=f"{odd} sip:b SIP/2.0"))
        assert isinstance(request, Request)
        self.assertEqual(request.method, odd)

    @shows("R3261-7.1-03")
    def test_versions(self) -> None:
        """s21.5.6: a request of another version gets 505; a response of one is dropped, and never answered."""
        self.refused(message(start="INVITE sip:b SIP/7.0"), 505)
        self.refused(message("Via: SIP/7.0/UDP a;branch=z9", start="INVITE sip:b SIP/7.0", without="Via:"), 505)
        self.refused(message(without="Via:", start="INVITE sip:b SIP/7.0"), answerable=False)
        for start in ("SIP/7.0 200 OK", "SIP/2.0 99 x", "SIP/2.0 700 x", "SIP/2.0 4294967301 x", "SIP/2.0 2000 x", "SIP/2.0",
                      "SIP/2.0  200 OK", "SIP/2.0 20 OK", "SIP/2.0 \u0662\u0660\u0660 OK", "SIP/2.0 OK 200"):
            self.refused(message(base=OK, start=start), answerable=False)

    def test_broken_responses(self) -> None:
        """A response without what it must have is dropped (INV-22); nothing makes us answer it."""
        for name in ("Via", "To", "From", "Call-ID", "CSeq"):
            self.refused(message(base=OK, without=f"{name}:"), answerable=False)

    @shows("R3261-7-01")
    def test_header_lines(self) -> None:
        """A line without a colon, a name that is no token, a bare CR or LF: 400 (s7.3)."""
        for line in ("no colon", "bad name: x", ": x", "X(y): z", "X: a\rb", "X: a\nb", "X: a\n b", "\u00fc: x", "X\x00: y"):
            self.refused(message(line))

    def test_what_nobody_needs(self) -> None:
        """A proxy reads no more than it needs: these are forwarded as they are (s16.3 step 1, VAL-13)."""
        lines = ("Date: Fri, 01 Jan 2010 16:00:00 EST", "Contact: <<>>;;", "Accept: ,,;", "Warning: \"", "X:", "Route: ",
                 "Expires: never", "UnknownHeaderWithUnusualValue: ;;,,;;,;", "Subject: \x00\x01\x7f", "Via: nonsense, ;;")
        data = message(*lines)
        self.assertEqual(parse(data).encode(), data)

    @shows("R3261-7-02")
    def test_no_end(self) -> None:
        """Octets without an empty line are answered as far as they tell whom (4475 3.1.2.15)."""
        for data in (message(), message("Subject: " + "x" * 5000)):
            self.assertIn("no empty line", self.refused(data[:-2]).reason)
        self.refused(b"", answerable=False)
        self.refused(b"\r\n\r\n", answerable=False)
        self.refused(b"\x00\x01\x00\x00!\x12\xa4B" + b"a" * 12, answerable=False)
        self.refused(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", answerable=False)

    def test_via(self) -> None:
        """The topmost Via of several in a line; where its parameters are broken sent-by is enough for an answer."""
        request = parse(message("Via: SIP/2.0/TCP a;branch=z9hG4bK1, SIP/2.0/UDP b;branch=z9hG4bK2", without="Via:"))
        assert request.via is not None
        self.assertEqual(request.via.text, "SIP/2.0/TCP a;branch=z9hG4bK1")
        error = self.refused(message("Via: SIP/2.0/UDP 192.0.2.15;;,;,,", without="Via:"))
        assert error.message is not None and error.message.via is not None
        self.assertEqual(error.message.via.host, "192.0.2.15")

    @check
    @given(legal())
    def test_round_trip(self, data: bytes) -> None:
        """What nobody touched leaves octet for octet as it came."""
        parsed = parse(data)
        self.assertEqual(parsed.encode(), data)
        if isinstance(parsed, Request):
            self.assertEqual(parsed.copy().encode(), data)
        again = parse(parsed.encode(), True)
        self.assertEqual((again.headers, again.body, again.start), (parsed.headers, parsed.body, parsed.start))

    @check
    @given(legal(), st.integers(0, 68))
    def test_touching_one(self, data: bytes, hops: int) -> None:
        """Changing one header, or adding one, leaves every other line alone."""
        parsed = parse(data)
        changed = parsed.copy() if isinstance(parsed, Request) else parse(data)
        changed.set("max-forwards", str(hops))
        changed.add("X-Added", "us")
        again = parse(changed.encode())
        touched = ("max-forwards", "x-added")
        self.assertEqual([header[2] for header in again.headers if header[0] not in touched],
                         [header[2] for header in parsed.headers if header[0] not in touched])
        self.assertEqual(parsed.encode(), data)

    @check
    @given(mutilated() | st.binary(max_size=200), st.booleans())
    def test_only_malformed_escapes(self, data: bytes, stream: bool) -> None:
        """Whatever comes, it is read or refused; what is read can be written and is the same when read again."""
        try:
            parsed: Message | None = parse(data, stream)
        except MalformedMessage as error:
            parsed = error.message
            if parsed is None:
                return
            parsed.encode()
            return
        assert parsed is not None
        again = parse(parsed.encode(), stream)
        self.assertEqual((again.headers, again.body, again.cseq, again.call_id),
                         (parsed.headers, parsed.body, parsed.cseq, parsed.call_id))

    @check
    @given(st.sampled_from(["To", "From", "Call-ID", "CSeq", "Via", "Content-Length", "Contact", "Route"]), hostile_text)
    def test_hostile_values(self, name: str, value: str) -> None:
        """A hostile value in a header is read or refused; asking for what is in it raises nothing else."""
        try:
            parsed = parse(message(f"{name}: {value}", without=f"{name}:", length=name != "Content-Length"))
        except MalformedMessage as error:
            if error.message is not None:
                error.message.encode()
            return
        try:
            self.assertIsInstance(parsed.from_tag + parsed.to_tag, str)
            parsed.values(name.lower())
        except MalformedMessage:
            pass

    def test_linear(self) -> None:
        """64 kB of anything in any header is read at once, not in the square of its length."""
        for piece in (" ", "\t\r\n ", ";", ",", '"', "<", "\\", ";a=b", "a@", "%", "[", " ;"):
            text = (piece * 65000)[:65000]
            for name in ("Via", "To", "From", "Call-ID", "CSeq", "X", "Content-Length"):
                for value in (text, f"x{text}x", f"x{text}\r\n y", f"{LINES[1][5:]}{text}", f"<sip:a@b>{text}x"):
                    try:
                        parse(message(f"{name}: {value}", without=f"{name}:"))
                    except MalformedMessage:
                        pass
