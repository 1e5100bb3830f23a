"""How much a message may hold, and what is read of it when there is no time (RFC 3261 s21.4.12, s21.5.14, s21.5.4)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from sipd.message.bounds import Bounds
from sipd.message.errors import MalformedMessage
from sipd.message.message import Request
from sipd.message.parser import glance, parse

LINES = (
    "OPTIONS sip:1002@example.com SIP/2.0", "Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKa;rport",
    "From: <sip:1001@example.com>;tag=f", "To: <sip:1002@example.com>", "Call-ID: a@192.0.2.10", "CSeq: 1 OPTIONS",
)


def octets(*more: str, lines: tuple[str, ...] = LINES, body: bytes = b"") -> bytes:
    """A message with these lines after the usual ones."""
    return "\r\n".join([*lines, *more, f"Content-Length: {len(body)}", "", ""]).encode() + body


class BoundsTests(TestCase):
    """One step past each bound is refused, the bound itself is not."""

    def refused(self, data: bytes, bounds: Bounds = Bounds()) -> int:
        """With what, 0 for not at all; a refusal can always be answered."""
        try:
            parse(data, bounds=bounds)
        except MalformedMessage as error:
            assert error.message is not None and error.message.via is not None
            return error.status
        return 0

    def test_each_bound(self) -> None:
        """Octets of a line, lines, Vias in lines and in lists, Routes, Request-URI, head, message."""
        bounds = Bounds(message_size=5000, header_size=4000, header_length=1000, header_count=40, vias=10, routes=5,
                        uri_length=200)
        via, route = "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKb", "<sip:192.0.2.9;lr>"
        for status, make, most in (
            (513, lambda n: octets("X: " + "x" * (n - 3)), 1000),
            (513, lambda n: octets(*["X: y"] * (n - 6)), 40),
            (513, lambda n: octets(*[f"Via: {via}"] * (n - 1)), 10),
            (513, lambda n: octets("v: " + ", ".join([via] * (n - 1))), 10),
            (513, lambda n: octets(*[f"Route: {route}"] * n, "Subject: " + "x" * 200), 5),
            (513, lambda n: octets("Route: " + ",".join([route] * n), "Subject: " + "x" * 200), 5),
            (414, lambda n: octets(lines=(f"OPTIONS sip:{'1' * (n - 16)}@example.com SIP/2.0", *LINES[1:])), 200),
            (513, lambda n: octets(body=b"x" * (n - len(octets(body=b"x" * 4000)) + 4000)), 5000),
        ):
            self.assertEqual(self.refused(make(most), bounds), 0)
            self.assertEqual(self.refused(make(most + 1), bounds), status)
        long = [f"X{n}: {'x' * 900}" for n in range(5)]
        self.assertEqual((self.refused(octets(*long[:3]), bounds), self.refused(octets(*long), bounds)), (0, 513))

    def test_usual_messages_are_not_looked_at(self) -> None:
        """Nothing that is short enough can pass a bound but that of Routes, so nobody counts."""
        for bounds in (Bounds(), Bounds(header_length=300, uri_length=100, vias=2, header_count=20)):
            size = bounds.unsuspicious - len(octets()) + 4
            for filling in ("X: " + "x" * size, *(["a:"] * (size // 4 - 5),), "Via: " + "SIP/2.0/U a," * (size // 12)):
                more = (filling,) if isinstance(filling, str) else filling
                data = octets(*more)[:bounds.unsuspicious]
                lines = data.split(b"\r\n")
                self.assertLessEqual(len(lines), bounds.header_count + 2)
                self.assertLessEqual(max(map(len, lines)), bounds.header_length)
                self.assertLessEqual(data.count(b"SIP/2.0/U"), bounds.vias)

    def test_responses(self) -> None:
        """A response past a bound is malformed, and so nobody's."""
        lines = ("SIP/2.0 200 OK", *LINES[1:])
        with self.assertRaises(MalformedMessage):
            parse(octets(*["X: y"] * 300, lines=lines), bounds=Bounds())


class GlanceTests(TestCase):
    """What is read of a request that is to be refused at once."""

    def same(self, data: bytes) -> bool:
        """True when `glance` read it, and then `parse` reads the same."""
        seen = glance(data)
        if seen is None:
            return False
        whole = parse(data)
        assert isinstance(whole, Request) and seen.via is not None and whole.via is not None
        for name in ("method", "uri_text", "call_id", "cseq", "from_tag", "to_tag"):
            self.assertEqual(getattr(seen, name), getattr(whole, name))
        self.assertEqual(seen.via.text, whole.via.text)
        wanted = [header for header in whole.headers if header[0] in ("via", "from", "to", "call-id", "cseq")]
        self.assertEqual(seen.headers, wanted)
        return True

    def test_usual(self) -> None:
        """Long and compact names, more Vias, other fields between."""
        self.assertTrue(self.same(octets()))
        self.assertTrue(self.same(octets("Via: SIP/2.0/UDP a;branch=z9hG4bKb", "X: y", "Contact: <sip:a>", body=b"x")))
        compact = [line.replace("Via", "v").replace("From", "f").replace("To:", "t:").replace("Call-ID", "i")
                   for line in LINES]
        self.assertTrue(self.same(octets(lines=tuple(compact))))

    def test_unusual(self) -> None:
        """What `parse` alone can tell from what is wrong: nothing is read at a glance."""
        for data in (
            octets(" folded"), octets("To: <sip:b@example.com>"), octets("vIa: SIP/2.0/UDP b"), b"\r\n" + octets(),
            octets(lines=("SIP/2.0 200 OK", *LINES[1:])), octets(lines=LINES[:2] + LINES[3:]), octets("X: a\rb"),
            octets(lines=("FOO sip:a SIP/2.0", *LINES[1:5], "CSeq: 1 FOO")), octets()[:-4], b"", b"INVITE",
            octets(lines=(*LINES[:5], "CSeq: 1 INVITE")),
        ):
            self.assertFalse(self.same(data), data)

    @settings(max_examples=300, deadline=None)
    @given(st.permutations(range(len(LINES) + 6)), st.integers(0, 500), st.sampled_from([b"", b" ", b"\r", b":", b",", b"\xff", b'"']))
    def test_never_otherwise(self, order: list[int], place: int, octet: bytes) -> None:
        """Whatever the order of the lines and with octets put in: where it reads anything, it is what `parse` reads, or
        what `parse` refuses for what an answer does not need."""
        more = ("Via: SIP/2.0/UDP b;branch=z9hG4bKb", "Via : SIP/2.0/UDP c", "Contact: <sip:c>", "t2: x", "X-Y: z",
                "v: SIP/2.0/TCP d")
        everything = [*LINES[1:], *more]
        lines = [everything[number] for number in order if number < len(everything)]
        data = octets(lines=(LINES[0], *lines))
        data = data[:place % len(data)] + octet + data[place % len(data):]
        try:
            self.same(data)
        except MalformedMessage:
            pass
