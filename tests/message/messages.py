"""Messages for the tests of this folder: a plain one to change, and strategies for legal and illegal ones."""

from __future__ import annotations

from hypothesis import strategies as st

LINES = (
    "INVITE sip:bob@biloxi.com SIP/2.0",
    "Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776asdhds",
    "Max-Forwards: 70",
    "To: Bob <sip:bob@biloxi.com>",
    "From: Alice <sip:alice@atlanta.com>;tag=1928301774",
    "Call-ID: a84b4c76e66710@pc33.atlanta.com",
    "CSeq: 314159 INVITE",
    "Contact: <sip:alice@pc33.atlanta.com>",
)

OK = (
    "SIP/2.0 200 OK",
    "Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776asdhds;received=192.0.2.1",
    "To: Bob <sip:bob@biloxi.com>;tag=a6c85cf",
    "From: Alice <sip:alice@atlanta.com>;tag=1928301774",
    "Call-ID: a84b4c76e66710@pc33.atlanta.com",
    "CSeq: 314159 INVITE",
)


def message(*more: str, base: tuple[str, ...] = LINES, without: str = "", body: bytes = b"", start: str = "",
            length: bool = True) -> bytes:
    """The octets of `base` with lines added, those that begin with `without` left out, and another start line."""
    lines = [line for line in base if not without or not line.lower().startswith(without.lower())]
    if start:
        lines[0] = start
    lines += more
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


_token = st.text("abcXYZ019-.!%*_+`'~", min_size=1, max_size=8)
#: Any text without controls; with surrogates, which stand for octets that are no UTF-8.
_text = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]) | st.sampled_from("\udcff\udc80\udce9"), max_size=20)
_space = st.sampled_from(["", " ", "\t", "  ", "\r\n ", " \r\n\t"])
#: Header lines that nobody types: legal, whatever their value.
extra_line = st.tuples(_token.map(lambda name: f"X-{name}"), _space, _text, _space, _text).map(
    lambda parts: f"{parts[0]}:{parts[1]}{parts[2]}{parts[3]}{parts[4]}".rstrip("\r\n"))

_mandatory = st.sampled_from([LINES[1:7], tuple(reversed(LINES[1:7]))]).flatmap(
    lambda lines: st.tuples(*(st.sampled_from(_spellings(line)) for line in lines)))


def _spellings(line: str) -> list[str]:
    name, _, value = line.partition(": ")
    short = {"Via": "v", "To": "t", "From": "f", "Call-ID": "i"}.get(name, name.lower())
    return [line, f"{name.upper()}:{value}", f"{name} \t:\t{value}", f"{short}: {value}", f"{name}:\r\n {value}"]


@st.composite
def legal(draw: st.DrawFn) -> bytes:
    """A legal INVITE or 200 in unusual spelling."""
    lines = [*draw(_mandatory), *draw(st.lists(extra_line, max_size=4))]
    lines = draw(st.permutations(lines))
    body = draw(st.binary(max_size=40))
    lines.append(draw(st.sampled_from(["Content-Length", "l", "CONTENT-LENGTH "])) + f": {len(body)}")
    start = draw(st.sampled_from([LINES[0], "SIP/2.0 200 OK", "SIP/2.0 183 \u00fcber alles", "SIP/2.0 404 "]))
    return "\r\n".join([start, *lines, "", ""]).encode("utf-8", "surrogateescape") + body


@st.composite
def mutilated(draw: st.DrawFn) -> bytes:
    """A legal message some octets of which were cut, doubled or replaced."""
    data = bytearray(draw(legal()))
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, len(data)))
        what = draw(st.sampled_from(["cut", "insert", "replace", "double"]))
        if what == "cut":
            del data[position:position + draw(st.integers(1, 30))]
        elif what == "double":
            data[position:position] = data[position:position + draw(st.integers(1, 60))]
        else:
            size = 1 if what == "replace" else 0
            data[position:position + size] = draw(st.sampled_from([
                b"\x00", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b":", b";", b",", b'"', b"<", b">", b"\\", b"\xff", b"=",
                b"SIP/2.0 ", b"9999999999999", b"-1", b"\r\nVia: ", b"\r\nl: 5", b"\r\n "]))
    return bytes(data)
