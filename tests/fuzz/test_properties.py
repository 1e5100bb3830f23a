"""What must hold of every input (targets.py), of inputs that hypothesis builds out of what is easily misread."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from tests.fuzz import targets
from tests.message.messages import LINES, OK, legal, mutilated
from tests.message.test_uri import DIFFERENT, EQUIVALENT, READ
from tests.support.properties import check, hostile_text

#: These are cheap.
often = settings(check, max_examples=4 * check.max_examples)


def octets(text: str) -> bytes:
    """Text as it stands on the wire. What has no octets there is left out."""
    return text.encode("utf-8", "surrogateescape" if text.isprintable() else "ignore")


_hostile = hostile_text.map(lambda text: "".join(c for c in text if not 0xD800 <= ord(c) < 0xDC80 and not 0xDD00 <= ord(c) < 0xE000))

#: A value of each header that somebody reads, and hostile ones.
_read_by_us = st.sampled_from([
    "Via", "v", "From", "t", "To", "Call-ID", "CSeq", "Contact", "m", "Route", "Record-Route", "Max-Forwards", "Max-Breadth",
    "Expires", "Content-Length", "l", "Authorization", "Proxy-Authorization", "Proxy-Require", "Require", "Supported", "Path",
    "Timestamp", "Reason", "P-Asserted-Identity", "Subject", "X-Unknown",
])
_usual = st.sampled_from([line.partition(": ")[2] for line in LINES[1:] + OK[1:]] + [
    "0", "70", "1 INVITE", "*", "<sip:a@192.0.2.9;lr>", "SIP/2.0/TCP [::1]:5060;rport;received=x", "path", "4294967296 ACK",
    '"a\\"b" <sip:%00@h>;q=0.5;expires=9999999999', "<sip:192.0.2.1;lr>, <sip:example.com;lr>", "Digest username=\"1001\"",
    '"%0d%0aX: y" <sip:%0D%0AX:y@example.com;x=%0d%0a>', "<sip:1002@example.com;method=x%0d%0aX:y?X=%0d%0ay>",
])
_space = st.sampled_from([": ", ":", " :", ":\r\n ", ":\t", ": \r\n \r\n\t"])
_line = st.tuples(_read_by_us, _space, _usual | _hostile | st.tuples(_usual, _hostile).map("".join)).map("".join)
_start = st.sampled_from([
    LINES[0], OK[0], "REGISTER sip:example.com SIP/2.0", "OPTIONS sip:example.com SIP/2.0", "ACK sip:1002@example.com SIP/2.0",
    "MESSAGE sip:1002@example.com SIP/2.0", "INVITE sip:1002@example.com SIP/2.0", "INVITE tel:1;x SIP/2.0", "a b c",
    "INVITE sip:1002%0d%0aX:y@example.com SIP/2.0", "BYE sip:1002@example.com SIP/2.0", "CANCEL sip:1002@example.com SIP/2.0",
])


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A message with the mandatory fields, some of them left out or doubled, and any others in any order."""
    start = draw(_start)
    method = start.partition(" ")[0]
    fields = [line.replace("314159 INVITE", f"1 {method}") for line in LINES[1:7]]
    fields = [line for line in fields for _ in range(draw(st.sampled_from([1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 2])))]
    fields += draw(st.lists(_line, max_size=4))
    body = draw(st.binary(max_size=10))
    text = "\r\n".join([start, *draw(st.permutations(fields)), "", ""])
    return octets(text) + body


#: What the callee says to an INVITE made of LINES.
ANSWERS = [b"SIP/2.0 %d x\r\n@\r\n" % status + octets("\r\n".join([*LINES[3:7], "Contact: <sip:1002@192.0.2.60>", "", ""]))
           .replace(b"314159", b"1").replace(b"bob@biloxi.com>", b"bob@biloxi.com>;tag=2")
           for status in (100, 180, 200, 302, 408, 486, 503, 603)]


class Properties(TestCase):
    """Each target."""

    @often
    @given(legal() | mutilated() | messages() | st.binary(max_size=200))
    @example("\r\n".join([*LINES, "Subject: a\r\n \r\n b", "", ""]).encode())
    def test_message(self, data: bytes) -> None:
        """Parser: only MalformedMessage comes out; what is read is printed as it came, and read again as it was; what is
        broken can be answered with one message and no more."""
        targets.message(data)

    @often
    @given(st.integers(0, 255), st.lists(legal() | mutilated() | messages() | st.sampled_from(
        [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\r\r\n\r\n\r\n", b"\x00"]), max_size=5))
    @example(0, [b"\r\r\n\r\n\r\n"])
    def test_framer(self, size: int, pieces: list[bytes]) -> None:
        """Framer: segments change nothing, keep-alives included, and the parser finds the same ends."""
        targets.framer(bytes([size]) + b"".join(pieces))

    @often
    @given(st.lists(st.sampled_from([text for pair in EQUIVALENT + DIFFERENT for text in pair] + [row[0] for row in READ])
                    | _hostile.map("sip:a@h;p=".__add__) | _hostile.map(lambda text: f"sip:{text}@h") | _hostile
                    | st.text("ab%2534Bb;=&?", max_size=8).map(lambda text: f"sip:{text}@h;{text}?{text}"), min_size=2, max_size=3))
    @example(["sip:a%253Bb@h", "sip:a%3Bb@h"])
    @example(["sip:a@h;p=%C3%9C", "sip:a@h;p=\u00fc"])
    def test_uri(self, texts: list[str]) -> None:
        """URIs: printed as read; the comparison is reflexive, symmetric, and as s19.1.4 says."""
        targets.uri(octets("\n".join(texts)))

    @often
    @given(_hostile | _usual | st.tuples(_usual, _hostile, _usual).map("".join))
    def test_values(self, text: str) -> None:
        """Addresses, Vias, parameters, lists, contacts, numbers: read or refused, printed as read."""
        targets.values(octets(text))

    @often
    @given(st.lists(st.tuples(
        st.sampled_from(["username", "realm", "nonce", "uri", "response", "qop", "nc", "cnonce", "algorithm", "opaque", "x"]),
        st.sampled_from(["=", " = ", "=\t", "", "=="]),
        st.sampled_from(['"a"', '""', "auth", "00000001", "MD5", "SHA-256", '"a\\"b"', '"\\', "a b", ""]) | _hostile,
        st.sampled_from([",", ", ", ",,", " ", ""])).map("".join), max_size=9).map(lambda parts: "Digest " + "".join(parts)))
    def test_credentials(self, text: str) -> None:
        """Digest: credentials and challenges are read or malformed, and say the same when written again."""
        targets.credentials(octets(text))

    @often
    @given(st.integers(0, 7), st.lists(messages() | mutilated() | st.sampled_from(ANSWERS), min_size=1, max_size=4))
    def test_core(self, flags: int, pieces: list[bytes]) -> None:
        """The whole server: no message is a bug, all that is sent is one message each, what is relayed is untouched,
        nobody gets more than they sent."""
        targets.core(bytes([flags]) + targets.NEXT.join(pieces))
