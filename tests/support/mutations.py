"""Messages damaged in every way somebody could think of, the same ones for the same seed.

    mutations = Mutations(seed=7, sender="127.0.0.1:5070", domain="sip.example.com", callee="1002")
    mutations.next("UDP")                                     # octets of one message, mostly broken
"""

from __future__ import annotations

import random
from collections.abc import Callable

#: The most that fits into one datagram over IPv4 (octets).
LARGEST_DATAGRAM = 65507

_SDP = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"

_METHODS = ("OPTIONS", "REGISTER", "INVITE", "INVITE", "INVITE", "MESSAGE", "MESSAGE", "ACK", "BYE", "CANCEL", "SUBSCRIBE",
            "PUBLISH", "NOTIFY", "FOO")
_NUMBERS = (b"0", b"-1", b"4294967295", b"4294967296", b"18446744073709551616", b"9" * 5000, b"0" * 5000, b"1e9", b"0x10",
            b"\xd9\xa3", b"", b"1 2", b"3.5", b"NaN")
_NUMBERED = (b"Content-Length", b"CSeq", b"Max-Forwards", b"Expires", b"Max-Breadth", b"Min-Expires", b"RSeq", b"Timestamp")
_MARKS = (b"\x00", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b":", b";", b",", b'"', b"<", b">", b"\\", b"\xff", b"=", b"%00",
          b"%0d%0a", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"@", b"[", b"]", b"?", b"&", b"\t", b"\x7f", b"\r\n ")
_LINES = (b"Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKx", b"v: x", b"Route: <sip:127.0.0.1:9;lr>", b"Route: <",
          b"Record-Route: <sip:x;lr>", b"Contact: *", b'Contact: "', b"m: <sip:a@b>;expires=x;q=7", b"From: <sip:a@b>;tag=2",
          b"t: x", b"i: another", b"l: 5", b"Require: x, y,,", b"Proxy-Require: z", b"Authorization: Digest", b"Path: <sip:p;lr>",
          b'Proxy-Authorization: Digest username="1002", realm="x", nonce="', b"Subject", b": x", b" folded", b"X\x00: y",
          b"Supported: path,outbound,gruu", b"P-Asserted-Identity: <sip:1@x>", b"Reason: SIP;cause=200", b"Replaces: x",
          b"Content-Type: multipart/mixed;boundary=", b"Event: presence", b"Date: now", b"Identity: x")


class Mutations:
    """Messages one after the other. `sender` is the host and port in Via and Contact; `callee` a user of `domain`."""

    def __init__(self, seed: int, sender: str, domain: str, callee: str) -> None:
        self.random = random.Random(seed)
        self._sender = sender.encode()
        self._domain = domain.encode()
        self._callee = callee.encode()
        self._count = 0
        self._last = b""
        #: Those that make a message much larger come less often.
        self._ways: list[tuple[Callable[[bytes], bytes], int]] = [
            (self._flip, 12), (self._octet, 12), (self._mark, 16), (self._cut, 8), (self._drop, 8), (self._repeat, 8),
            (self._double_line, 8), (self._line, 16), (self._shuffle, 3), (self._number, 10), (self._nest, 8), (self._splice, 4),
            (self._bare, 3), (self._case, 3), (self._giant, 2), (self._vias, 2), (self._routes, 2), (self._lines, 2),
            (self._params, 2), (self._folds, 2), (self._commas, 2), (self._noise, 1),
        ]

    def whole(self, transport: str) -> bytes:
        """A message in order, with names of its own."""
        self._count += 1
        number = b"%d" % self._count
        if self.random.random() < 0.05:
            method, start = b"INVITE", b"SIP/2.0 200 OK"
        else:
            method = self.random.choice(_METHODS).encode()
            user = b"" if method in (b"REGISTER", b"OPTIONS") else self._callee + b"@"
            start = b"%s sip:%s%s SIP/2.0" % (method, user, self._domain)
        body = _SDP if method == b"INVITE" else b""
        return b"\r\n".join([
            start, b"Via: SIP/2.0/%s %s;branch=z9hG4bK%sm;rport" % (transport.encode(), self._sender, number),
            b"Max-Forwards: 70", b"From: <sip:guest%s@elsewhere.invalid>;tag=f%s" % (number, number),
            b"To: <sip:%s@%s>" % (self._callee, self._domain), b"Call-ID: mutated%s" % number, b"CSeq: 1 " + method,
            b"Contact: <sip:guest@%s>" % self._sender, b"Content-Length: %d" % len(body), b"", body])

    def next(self, transport: str) -> bytes:
        """The next message, damaged once or more; now and then it stays whole."""
        data = self.whole(transport)
        ways = [way for way, _ in self._ways]
        for way in self.random.choices(ways, [weight for _, weight in self._ways], k=self.random.choice((0, 1, 1, 1, 2, 2, 3))):
            data = way(data)
        self._last = data[:2000]
        return data[:LARGEST_DATAGRAM]

    def _place(self, data: bytes) -> int:
        return self.random.randrange(len(data) + 1)

    def _flip(self, data: bytes) -> bytes:
        """Bits turned over."""
        changed = bytearray(data)
        for _ in range(self.random.choice((1, 1, 3, 20))):
            changed[self.random.randrange(len(changed))] ^= 1 << self.random.randrange(8)
        return bytes(changed) if data else data

    def _octet(self, data: bytes) -> bytes:
        place = self._place(data)
        return data[:place] + bytes([self.random.randrange(256)]) + data[place + 1:]

    def _mark(self, data: bytes) -> bytes:
        """What means something put where it means something else."""
        place = self._place(data)
        return data[:place] + self.random.choice(_MARKS) * self.random.choice((1, 1, 2, 100)) + data[place:]

    def _cut(self, data: bytes) -> bytes:
        return data[:self._place(data)] or b"\x00"

    def _drop(self, data: bytes) -> bytes:
        place = self._place(data)
        return (data[:place] + data[place + self.random.randrange(1, 60):]) or b"\r\n"

    def _repeat(self, data: bytes) -> bytes:
        place = self._place(data)
        return data[:place] + data[place:place + self.random.randrange(1, 80)] * self.random.choice((2, 3, 50)) + data[place:]

    def _head(self, data: bytes) -> tuple[list[bytes], bytes]:
        head, _, body = data.partition(b"\r\n\r\n")
        return head.split(b"\r\n"), body

    def _with(self, lines: list[bytes], body: bytes) -> bytes:
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    def _inserted(self, data: bytes, more: list[bytes]) -> bytes:
        lines, body = self._head(data)
        place = self.random.randrange(1, len(lines) + 1)
        return self._with([*lines[:place], *more, *lines[place:]], body)

    def _double_line(self, data: bytes) -> bytes:
        return self._inserted(data, [self.random.choice(self._head(data)[0])] * self.random.choice((1, 1, 2, 30)))

    def _line(self, data: bytes) -> bytes:
        return self._inserted(data, [self.random.choice(_LINES)])

    def _shuffle(self, data: bytes) -> bytes:
        lines, body = self._head(data)
        self.random.shuffle(lines)
        return self._with(lines, body)

    def _number(self, data: bytes) -> bytes:
        """A number too long, too large, or none."""
        name, value = self.random.choice(_NUMBERED), self.random.choice(_NUMBERS)
        lines, body = self._head(data)
        kept = [line for line in lines if not line.startswith(name)]
        return self._with([*kept, name + b": " + value + (b" INVITE" if name == b"CSeq" else b"")], body)

    def _nest(self, data: bytes) -> bytes:
        """Brackets, quotes and escapes in each other, in a header that is read."""
        deep = self.random.choice((2, 50, 3000))
        text = self.random.choice((b"<" * deep + b"sip:a@b" + b">" * deep, b'"' * deep, b'"' + b"\\" * deep + b'" <sip:a@b>',
                                   b'"' + b'\\"' * deep + b'" <sip:a@b>', b"(" * deep, b"[" * deep, b'<"' * deep, b"<sip:a@[" + b":" * deep,
                                   b"sip:" * deep, b"%25" * deep, b"<sip:%s@b>" % (b"%41" * deep)))
        name = self.random.choice((b"From", b"To", b"Contact", b"Route", b"Record-Route", b"Via", b"Subject", b"Call-ID"))
        lines, body = self._head(data)
        return self._with([*(line for line in lines if not line.startswith(name)), name + b": " + text], body)

    def _splice(self, data: bytes) -> bytes:
        """The beginning of this one and the end of the one before."""
        return (data[:self._place(data)] + self._last[self._place(self._last):]) or b"\n"

    def _bare(self, data: bytes) -> bytes:
        return data.replace(b"\r\n", self.random.choice((b"\n", b"\r", b"\r\r\n", b"\r\n\t")))

    def _case(self, data: bytes) -> bytes:
        return data.swapcase()

    def _giant(self, data: bytes) -> bytes:
        return self._inserted(data, [b"X-Giant: " + bytes([self.random.randrange(32, 256)]) * self.random.choice((9000, 40000, 64000))])

    def _vias(self, data: bytes) -> bytes:
        count = self.random.choice((50, 1000, 3000))
        value = b"SIP/2.0/UDP h;branch=z"
        return self._inserted(data, [b"Via: " + value] * count if self.random.random() < 0.5 else [b"v: " + b",".join([value] * count)])

    def _routes(self, data: bytes) -> bytes:
        return self._inserted(data, [b"Route: " + b",".join([b"<sip:h;lr>"] * self.random.choice((20, 100, 4000)))])

    def _lines(self, data: bytes) -> bytes:
        return self._inserted(data, [b"X%d: y" % n for n in range(self.random.choice((100, 300, 5000)))])

    def _params(self, data: bytes) -> bytes:
        params = self.random.choice((b";a=b", b";", b";a", b';q="\\""', b";tag=x")) * self.random.choice((20, 1000, 10000))
        name = self.random.choice((b"Contact: <sip:a@b>", b"From: <sip:a@b>", b"Contact: <sip:a@b", b"v: SIP/2.0/UDP h"))
        return self._inserted(data, [name + params])

    def _folds(self, data: bytes) -> bytes:
        return self._inserted(data, [b"Subject: a" + self.random.choice((b"\r\n b", b"\r\n ", b"\r\n\t\t", b" \r\n")) * 5000])

    def _commas(self, data: bytes) -> bytes:
        name = self.random.choice((b"Contact", b"Route", b"Via", b"Require", b"Supported", b"Proxy-Require", b"Path"))
        return self._inserted(data, [name + b": " + self.random.choice((b",", b"a,", b" , ", b"<sip:a>,")) * 3000])

    def _noise(self, data: bytes) -> bytes:
        return self.random.randbytes(self.random.choice((1, 4, 20, 300, 5000)))
