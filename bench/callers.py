"""Callers and callees that keep many calls going at once, over two UDP sockets; nothing here is sipd's own code.

SIPp holds a call open by a pause of fixed length; here the driver says when all of them ring, are answered, and end.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial

from bench.registrant import Registrant, Registration

_SDP = (b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        b"m=audio 6000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n")
_COPIED = (b"via", b"from", b"call-id", b"cseq", b"record-route")


def _socket() -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    one.bind(("127.0.0.1", 0))
    one.setblocking(False)
    return one


def _header(data: bytes, name: bytes) -> bytes:
    """The value of the first header line of that name, empty when there is none."""
    start = data.find(b"\r\n" + name + b": ")
    return data[start + len(name) + 4:data.find(b"\r\n", start + 2)] if start >= 0 else b""


def _answer(request: bytes, status: bytes, contact: bytes) -> bytes:
    """A response to a request (RFC 3261 s8.2.6)."""
    lines = [b"SIP/2.0 " + status]
    for line in request.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        name = line.partition(b":")[0].lower()
        if name in _COPIED:
            lines.append(line)
        elif name == b"to":
            lines.append(line if b";tag=" in line else line + b";tag=callee")
    return b"\r\n".join([*lines, b"Contact: <sip:" + contact + b">", b"Content-Length: 0", b"", b""])


class Calls:
    """Calls through `server` to users of `domain`, begun and ended at `rate` a second.

    `name` is in their Call-IDs and is what the users that are called are named after: each program has its own.
    """

    def __init__(self, server: tuple[str, int], domain: str, rate: int, name: str = "callee") -> None:
        self.failed = 0
        self._name = name.encode()
        self._server = server
        self._domain = domain.encode()
        self._rate = rate
        self._users = 0
        self._made = 0
        self._caller, self._callee = _socket(), _socket()
        self._from = b"127.0.0.1:%d" % self._caller.getsockname()[1]
        self._to = b"127.0.0.1:%d" % self._callee.getsockname()[1]
        #: Call-ID -> the INVITE the callee got and has not answered; the 200 the caller got; who rings, who talks
        self._invites: dict[bytes, bytes] = {}
        self._oks: dict[bytes, bytes] = {}
        self._ringing: set[bytes] = set()
        self._ended: set[bytes] = set()

    def close(self) -> None:
        """Closes the sockets."""
        self._caller.close()
        self._callee.close()

    def register(self, users: int) -> None:
        """Registers the callees."""
        registrant = Registrant(self._server, self._domain.decode())
        names = [f"{self._name.decode()}{number}" for number in range(users)]
        made = [Registration(name, f"sip:{name}@{self._to.decode()}") for name in names]
        registrant.run(made)
        registrant.close()
        if any(one.status != 200 for one in made):
            raise RuntimeError("the callees did not register")
        self._users = users

    def warm(self, count: int) -> None:
        """Calls that come and go, so that what is kept for good is there before anything is measured."""
        self.ring(count)
        self.answer()
        self.hang_up()
        self.rest(35.0)

    def ring(self, count: int) -> None:
        """Begins calls and waits until all of them ring."""
        self._invites.clear()
        self._oks.clear()
        self._ringing.clear()
        self._ended.clear()
        first = self._made
        self._made += count
        self._pace([partial(self._invite, number) for number in range(first, self._made)])
        self._until(lambda: len(self._ringing) == count)
        self.failed += count - len(self._ringing)

    def answer(self) -> None:
        """Answers every call that rings; the callers acknowledge."""
        waiting = list(self._invites.values())
        self._pace([partial(self._accept, data) for data in waiting])
        self._until(lambda: len(self._oks) == len(waiting))
        self.failed += len(waiting) - len(self._oks)

    def hang_up(self) -> None:
        """The callers end every call."""
        talking = list(self._oks.values())
        self._pace([partial(self._put, self._caller, self._in_dialog(b"BYE", ok, 2)) for ok in talking])
        self._until(lambda: len(self._ended) == len(talking))
        self.failed += len(talking) - len(self._ended)

    def rest(self, seconds: float) -> None:
        """Lets time pass; what comes is still answered."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._wait(left)

    def _pace(self, steps: Sequence[Callable[[], None]]) -> None:
        started = time.monotonic()
        for number, step in enumerate(steps):
            while (early := started + number / self._rate - time.monotonic()) > 0:
                self._wait(early)
            step()

    def _until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not done() and time.monotonic() < end:
            self._wait(0.1)

    def _wait(self, seconds: float) -> None:
        for ready in select.select([self._caller, self._callee], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    data = ready.recv(65535)
                    if ready is self._caller:
                        self._take_answer(data)
                    else:
                        self._take_request(data)

    def _put(self, sender: socket.socket, data: bytes) -> None:
        sender.sendto(data, self._server)

    def _invite(self, number: int) -> None:
        callee = b"sip:%s%d@%s" % (self._name, number % self._users, self._domain)
        self._put(self._caller, b"\r\n".join([
            b"INVITE " + callee + b" SIP/2.0",
            b"Via: SIP/2.0/UDP %s;branch=z9hG4bKi%s%d" % (self._from, self._name, number),
            b"Max-Forwards: 70", b"From: <sip:caller@%s>;tag=c%d" % (self._domain, number), b"To: <" + callee + b">",
            b"Call-ID: %d@%s" % (number, self._name), b"CSeq: 1 INVITE", b"Contact: <sip:caller@" + self._from + b">",
            b"Content-Type: application/sdp", b"Content-Length: %d" % len(_SDP), b"", _SDP]))

    def _accept(self, invite: bytes) -> None:
        self._put(self._callee, _answer(invite, b"200 OK", self._to))

    def _in_dialog(self, method: bytes, ok: bytes, cseq: int) -> bytes:
        target, call = _header(ok, b"Contact").strip(b"<>"), _header(ok, b"Call-ID")
        lines = [method + b" " + target + b" SIP/2.0",
                 b"Via: SIP/2.0/UDP %s;branch=z9hG4bK%s%s" % (self._from, method, call.replace(b"@", b""))]
        route = _header(ok, b"Record-Route")
        if route:
            lines.append(b"Route: " + route)
        lines += [b"Max-Forwards: 70", b"From: " + _header(ok, b"From"), b"To: " + _header(ok, b"To"),
                  b"Call-ID: " + call, b"CSeq: %d %s" % (cseq, method), b"Content-Length: 0"]
        return b"\r\n".join([*lines, b"", b""])

    def _take_answer(self, data: bytes) -> None:
        call = _header(data, b"Call-ID")
        status, method = data[8:11], _header(data, b"CSeq")[2:]
        if method == b"BYE":
            self._ended.add(call)
        elif status == b"180":
            self._ringing.add(call)
        elif status == b"200":
            self._oks[call] = data
            self._put(self._caller, self._in_dialog(b"ACK", data, 1))

    def _take_request(self, data: bytes) -> None:
        if data.startswith(b"INVITE "):
            self._invites[_header(data, b"Call-ID")] = data
            self._put(self._callee, _answer(data, b"180 Ringing", self._to))
        elif data.startswith(b"BYE "):
            self._put(self._callee, _answer(data, b"200 OK", self._to))
