"""What must hold of every input, one function a reader: each takes octets as they could come from the network and raises
AssertionError when something does not hold, or whatever a bug of ours raises.

Three drive them: hypothesis (test_properties.py) with inputs built to be misread, atheris (`make fuzz`) with inputs that
reach new code, and test_vectors.py with all that was ever found.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable

from sipd.auth import digest
from sipd.message import compose
from sipd.message.address import Address, tag_of
from sipd.message.errors import MalformedMessage, Reject
from sipd.message.framer import Framer
from sipd.message.message import Message, Request, Response
from sipd.message.params import parse_params, quote, split_list, unquote
from sipd.message.parser import glance, parse
from sipd.message.uri import Uri
from sipd.message.values import MAX_DELTA_SECONDS, delta_seconds, qvalue
from sipd.message.via import Via
from sipd.registrar.contact import parse_contacts
from tests.support.rig import SERVER, Rig
from tests.support.stream import Stream

#: A header field of what we send: a name and a colon, no bare CR or LF, lines joined only by folding.
_FIELD = re.compile(rb"[A-Za-z0-9\-.!%*_+`'~]+[ \t]*:(?:[^\r\n]|\r\n[ \t])*", re.DOTALL).fullmatch
_START = re.compile(rb"(?:SIP/2\.0 [1-6][0-9][0-9] |[^ \r\n]+ [^ \r\n]+ SIP/2\.0$)[^\r\n]*", re.IGNORECASE).match
#: What our own hand changes in what passes through (RFC 3261 s16.6, s16.7).
OURS = frozenset({"via", "max-forwards", "max-breadth", "route", "record-route", "content-length"})


def text_of(data: bytes) -> str:
    """Octets as the readers of header values get them: decoded, with line ends only where a line is folded."""
    return data.decode("utf-8", "surrogateescape")


def equal(one: object, other: object, what: str) -> None:
    """Raises AssertionError when they differ."""
    if one != other:
        raise AssertionError(f"{what}: {one!r} and {other!r}")


def holds(true: object, what: str) -> None:
    """Raises AssertionError when it does not."""
    if not true:
        raise AssertionError(what)


def message(data: bytes) -> None:
    """The parser, for a datagram and for a stream: a message comes out octet for octet, or MalformedMessage does."""
    for stream in (False, True):
        try:
            read = parse(data, stream)
        except MalformedMessage as error:
            if isinstance(error.message, Request):
                _answerable(error.message)
            continue
        _read(read, data, stream)
        if not stream and (quick := glance(data)) is not None:
            for name in ("via", "from", "to", "call-id", "cseq"):
                equal(quick.all(name), read.all(name), f"{name} at a glance")
            equal((quick.start, quick.via.text if quick.via else ""), (read.start, read.via.text if read.via else ""),
                  "start line and Via at a glance")


def _read(read: Message, data: bytes, stream: bool) -> None:
    written = read.encode()
    holds(_capitals(data.lstrip(b"\r\n")).startswith(written), "what was not touched leaves as it came")
    again = parse(written, stream)
    equal(again.encode(), written, "printed twice")
    equal([*map(tuple, again.headers)], [*map(tuple, read.headers)], "headers read twice")
    equal((again.start, again.body, again.cseq, again.call_id), (read.start, read.body, read.cseq, read.call_id), "read twice")
    for name, value, line in read.headers:
        holds(not {"\r", "\n"} & set(value), f"{name} holds a line end: {value!r}")
        equal(value, value.strip(" \t"), f"blanks around {name}")
        holds(_FIELD(line.encode("utf-8", "surrogateescape")), f"no header field: {line!r}")
    if isinstance(read, Response):
        return
    equal((again.from_tag, again.to_tag), (read.from_tag, read.to_tag), "tags read twice")
    for name in ("from", "to"):
        address = Address.parse(read.first[name])
        equal(address.params.get("tag") or "", read.from_tag if name == "from" else read.to_tag, f"tag of {name}")
        holds(address.uri, f"URI of {name}")
    answer = compose.response(read, 404, to_tag="ours")
    again = parse(answer, stream)
    for name in ("via", "from", "call-id", "cseq"):
        equal(again.all(name), read.all(name), f"{name} in the answer")
    equal(again.to_tag, read.to_tag or "ours", "To tag of the answer")
    with contextlib.suppress(MalformedMessage):
        holds(read.uri, "Request-URI")  # type: ignore[attr-defined]
    for name in ("contact", "route", "record-route", "path"):
        for value in read.values(name):
            with contextlib.suppress(MalformedMessage):
                holds(Address.parse(value).uri, name)


def _capitals(data: bytes) -> bytes:
    """The message with the version in its start line in capitals, as it must be sent (s7.1)."""
    start, end, rest = data.partition(b"\r\n")
    start = re.sub(rb"^sip/2\.0(?= )|(?<= )sip/2\.0$", b"SIP/2.0", start, flags=re.IGNORECASE)
    return start + end + rest


def _answerable(read: Request) -> None:
    """What is kept of a broken request serves for an answer, and nothing else can be in that answer."""
    holds(read.via is not None, "nobody to answer")
    sent_is_sane(compose.response(read, 400, "Broken"))


def sent_is_sane(data: bytes) -> None:
    """What leaves the server is one message: a start line, header fields, an empty line, a body of the length it says."""
    head, end, body = data.partition(b"\r\n\r\n")
    holds(end, "no end of the header fields")
    start, *lines = re.split(rb"\r\n(?![ \t])", head)
    holds(_START(start), f"no start line: {start!r}")
    lengths = []
    for line in lines:
        holds(_FIELD(line), f"no header field: {line!r}")
        name, _, value = line.partition(b":")
        if name.strip(b" \t").lower() in (b"content-length", b"l"):
            lengths.append(value.strip(b" \t\r\n"))
    holds(len(lengths) < 2, "two lengths")
    if lengths:
        equal(int(lengths[0].lstrip(b"0")[:9] or b"0"), len(body), "length")


def framer(data: bytes) -> None:
    """The framer: the first octet says how the rest is cut into segments, which changes nothing of what comes out."""
    size, stream = (data[0] % 61 + 1, data[1:]) if data else (1, b"")
    outcomes = []
    for step in (len(stream) or 1, 1, size):
        cut = Framer(4096, 4096)
        messages = [one for start in range(0, len(stream), step) for one in cut.feed(stream[start:start + step])]
        lost = (cut.error.status, cut.error.reason) if cut.error is not None else None
        outcomes.append((messages, lost, cut.rest, cut.buffered, cut.pings))
        holds(cut.buffered <= 8192, "more is held than a head and a body")
    equal(outcomes[1], outcomes[0], "octet by octet")
    equal(outcomes[2], outcomes[0], f"in pieces of {size}")
    for one in outcomes[0][0]:
        with contextlib.suppress(MalformedMessage):
            # framer and parser find the same end: nothing hides behind a message
            equal(parse(one, True).encode(), _capitals(one), "framed and parsed")


def uri(data: bytes) -> None:
    """One URI a line: each prints as it was read, and the comparison of s19.1.4 agrees with one made another way."""
    uris = []
    for line in text_of(data).split("\n", 3)[:3]:
        with contextlib.suppress(MalformedMessage):
            read = Uri.parse(line)
            equal(Uri.parse(str(read)), read, "printed and read")
            equal(str(Uri.parse(str(read))), str(read), "printed twice")
            holds(isinstance(read.unescaped_user(), str) and isinstance(read.address, str), "parts")
            holds(read.equivalent(read), "a URI equals itself")
            uris.append(read)
    for one in uris:
        for other in uris:
            equal(one.equivalent(other), other.equivalent(one), f"{one} and {other}, seen from both sides")
            equal(one.equivalent(other), same(one, other), f"{one} and {other} are the same")


#: s19.1.4: characters whose escape means something else than they do, and "%", which an escape begins with.
_RESERVED = frozenset(";/?:@&=+$,%")


def letters(text: str, fold: bool = False) -> list[tuple[int, bool]]:
    """The octets of a text with its escapes undone, each with whether it was an escape of a reserved character."""
    found = []
    data = text.encode("utf-8", "surrogateescape")
    position = 0
    while position < len(data):
        pair = data[position + 1:position + 3]
        escaped = data[position:position + 1] == b"%" and len(pair) == 2 and all(c in b"0123456789abcdefABCDEF" for c in pair)
        octet = int(pair, 16) if escaped else data[position]
        found.append((octet, escaped and chr(octet) in _RESERVED))
        position += 3 if escaped else 1
    if fold:
        folded = bytes(octet for octet, _ in found).decode("utf-8", "surrogateescape").lower()
        marks = [mark for _, mark in found]
        return [*zip(folded.encode("utf-8", "surrogateescape"), marks, strict=False)]
    return found


def same(one: Uri, other: Uri) -> bool:
    """URI comparison by s19.1.4, written for clarity."""
    if not one.is_sip or not other.is_sip:
        return one == other
    if (one.scheme, one.host, one.port) != (other.scheme, other.host, other.port):
        return False
    for mine, theirs in ((one.user, other.user), (one.password, other.password)):
        if (mine is None) != (theirs is None) or letters(mine or "") != letters(theirs or ""):
            return False
    left, right = dict(one.params), dict(other.params)
    for name in left.keys() | right.keys():
        if name in left and name in right:
            if letters(left[name] or "", True) != letters(right[name] or "", True):
                return False
        elif name in ("user", "ttl", "method", "maddr", "transport"):
            return False
    return _headers(one) == _headers(other)


def _headers(read: Uri) -> list[tuple[list[tuple[int, bool]], list[tuple[int, bool]]]]:
    pairs = [part.partition("=") for part in read.headers.split("&") if part]
    return sorted((letters(name, True), letters(value)) for name, _, value in pairs)


def values(data: bytes) -> None:
    """The small grammars of header values: address, Via, parameters, lists, Contact, numbers."""
    text = text_of(data)
    with contextlib.suppress(MalformedMessage):
        address = Address.parse(text)
        equal(Address.parse(str(address))[1:], address[1:], "an address printed and read")
        equal(address.params.get("tag") or "", tag_of(text), "the quick look at a tag")
        holds(address.uri, "URI")
    with contextlib.suppress(MalformedMessage):
        tag_of(text)
    with contextlib.suppress(MalformedMessage):
        via = Via.parse(text)
        again = Via.parse(via.text)
        equal((again.sent_by, again.branch, again.params), (via.sent_by, via.branch, via.params), "a Via printed and read")
    with contextlib.suppress(MalformedMessage):
        params = parse_params(text)
        printed = "".join(f";{name}" if value is None else f";{name}={value}" for name, value in params.items())
        equal(parse_params(printed), params, "parameters printed and read")
    strip = str.maketrans("", "", " \t\r\n,")
    equal("".join(split_list(text)).translate(strip), text.translate(strip), "a list split")
    equal(split_list(text, 2), split_list(text)[:2], "the first two of a list")
    with contextlib.suppress(MalformedMessage, Reject):
        for contact in parse_contacts(text, 4):
            holds(0 <= contact.q <= 1000 and (contact.expires or 0) <= MAX_DELTA_SECONDS, "q and expires")
    holds(qvalue(text) in (None, *range(1001)), "q")
    seconds = delta_seconds(text)
    holds(seconds is None or 0 <= seconds <= MAX_DELTA_SECONDS, "seconds")


def credentials(data: bytes) -> None:
    """The digest grammar: read or malformed; what was read says the same when it is written again."""
    text = text_of(data)
    with contextlib.suppress(MalformedMessage):
        read = digest.parse_credentials(text)
        if read is not None:
            again = digest.parse_credentials(_written(read))
            assert again is not None
            equal([getattr(again, name) for name in _CREDENTIALS], [getattr(read, name) for name in _CREDENTIALS],
                  "credentials printed and read")
            for algorithm in digest.HASHES:
                digest.request_digest(algorithm, "0" * 32, "INVITE", read.uri, read.nonce, read.qop, read.nc, read.cnonce)
    with contextlib.suppress(MalformedMessage):
        params = digest.parse_challenge(text)
        if params is not None and params.get("algorithm", "MD5").upper() in digest.HASHES:
            answer = digest.answer(params, "INVITE", "sip:a@b", "user", "secret", "0a4f113b")
            if len(answer) <= digest.MAX_LENGTH:
                back = digest.parse_credentials(answer)
                assert back is not None
                equal((back.realm, back.nonce), tuple(unquote(f'"{params[name]}"') for name in ("realm", "nonce")),
                      "what a challenge said, in the answer")


_CREDENTIALS = ("username", "realm", "nonce", "uri", "response", "algorithm", "qop", "cnonce", "nc")


def _written(read: digest.Credentials) -> str:
    parts = [f"{name}={quote(getattr(read, name))}" for name in _CREDENTIALS[:8 if read.qop else 6]]
    return f"Digest {', '.join(parts)}" + (f", nc={read.nc}" if read.qop else "")


#: Between the messages of one input to `core`.
NEXT = b"\n--\n"


def core(data: bytes) -> None:
    """The whole server: no message is a bug, everything sent is one message, and what is relayed keeps every line that
    is not ours to change. Of the first octet, 1 asks strangers for credentials, 2 sends over TCP, 4 in pieces.

    Messages are separated by NEXT. Those that begin with "SIP/" come from the callee, after the last request it got and
    with its Vias in place of "@"; all others from a stranger.
    """
    flags, pieces = (data[0], data[1:].split(NEXT, 4)[:4]) if data else (0, [])
    rig = Rig(auth={"required": bool(flags & 1)}, registrar={"open": not flags & 1, "min_expires": 2})
    callee = rig.phone("1002", "192.0.2.60")
    rig.binding("1002", callee.contact)
    sender = rig.network.endpoint("udp", "192.0.2.50", 5060)
    stream = Stream(rig, "192.0.2.50") if flags & 2 else None
    last: Message | None = None
    read = 0
    for piece in pieces:
        before = len(rig.network.packets)
        if piece.startswith(b"SIP/"):
            vias = [] if last is None else [b"Via: " + value.encode("utf-8", "surrogateescape") for value in last.all("via")]
            callee.send(piece.replace(b"@", b"\r\n".join(vias), 1))
        elif stream is not None:
            stream.send(piece, 100 if flags & 4 else 0)
        else:
            sender.send(piece, (SERVER, 5060))
            if flags & 1:
                _no_amplification(rig, before, piece)
        for received in callee.raw[read:]:
            read += 1
            try:
                last = got = parse(received)
            except MalformedMessage:
                continue  # an ACK or CANCEL has the To of a response, which may have been anything
            if len(pieces) == 1 and isinstance(got, Request) and got.method != "CANCEL":
                _relayed(piece, got)
                callee.answer(got, 200)
        rig.advance(0.1, 0.1)
    for packet in rig.network.packets:
        if packet.source[0] == SERVER:
            sent_is_sane(packet.data)
    for one in Framer().feed(stream.octets) if stream is not None else ():
        sent_is_sane(one)
    holds(not rig.bugs, f"{rig.bugs}")


def _relayed(piece: bytes, got: Request) -> None:
    sent = parse(piece)
    equal(untouched(got), untouched(sent), "relayed")
    equal(got.body, sent.body, "body relayed")


def _no_amplification(rig: Rig, before: int, request: bytes) -> None:
    """A stranger's datagram brings one response at most, of like size, and nothing to anybody else."""
    sent = [packet for packet in rig.network.packets[before:] if packet.source[0] == SERVER]
    holds(len(sent) <= 1, "more than one packet for a stranger's one")
    for packet in sent:
        holds(packet.data.startswith(b"SIP/2.0 "), "a stranger's request relayed")
        holds(len(packet.data) <= len(request) + 1024, "a response much larger than its request")


def untouched(read: Message) -> list[str]:
    """The lines that leave as they came."""
    return [line for name, _, line in read.headers if name not in OURS]


#: By the name of the folder that holds their corpus.
TARGETS: dict[str, Callable[[bytes], None]] = {
    "message": message, "framer": framer, "uri": uri, "values": values, "credentials": credentials, "core": core,
}
