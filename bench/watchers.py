"""Phones that watch, many of them over a few UDP sockets: each NOTIFY is answered 200 and remembered by its dialog.

Nothing here is sipd's own code, so that one mistake cannot hide the other.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

#: Requests of a window of `subscribe` in flight, seconds until one is repeated, and until all is given up.
WINDOW, REPEAT, PATIENCE = 50, 0.5, 120.0
_ACCEPT = {"dialog": b"application/dialog-info+xml", "presence": b"application/pidf+xml"}
_COPIED = (b"via", b"from", b"to", b"call-id", b"cseq")
_STATE, _NOTE = re.compile(rb"<state[^>]*>([a-z]+)<"), re.compile(rb"<(?:\w+:)?note[^>]*>([^<]*)<")


@dataclass(frozen=True, slots=True)
class Asked:
    """A subscription to be made: user `watcher` watches user `entity`."""

    watcher: str
    entity: str
    package: str

    @property
    def call_id(self) -> str:
        """One of its own."""
        return f"{self.package}-{self.watcher}-{self.entity}"


def said(body: bytes) -> bytes:
    """What a document says, in a word: the dialogs' states that are not over, or the first note of a presence."""
    if b"dialog-info" in body:
        return b",".join(state for state in _STATE.findall(body) if state != b"terminated")
    found = _NOTE.search(body)
    return found[1] if found else b""


class Watchers:
    """Watchers at `server`, of users of `domain`."""

    def __init__(self, server: tuple[str, int], domain: str, sockets: int = 8) -> None:
        self._server = server
        self._domain = domain
        self._sockets = [self._socket() for _ in range(sockets)]
        #: NOTIFYs that came, each once, and those that came again; octets of the last one.
        self.notifies = self.repeats = self.octets = 0
        #: SUBSCRIBEs that were refused for the moment and sent again.
        self.postponed = 0
        #: By Call-ID: CSeq and word of the newest document.
        self._known: dict[bytes, tuple[int, bytes]] = {}
        self._waiting: dict[bytes, tuple[Asked, float]] = {}
        self._ready: deque[Asked] = deque()
        self._attempts: dict[bytes, int] = {}
        self._wanted = b""
        self._behind: set[bytes] = set()
        self._changed = 0
        self._tag = b""

    def close(self) -> None:
        """Closes the sockets."""
        for one in self._sockets:
            one.close()

    def contact(self, user: str) -> str:
        """The URI that a user's phone has here."""
        return f"sip:{user}@127.0.0.1:{self._place(user)[1]}"

    # --- what they do

    def subscribe(self, wanted: Iterable[Asked]) -> None:
        """Makes subscriptions, as many at a time as WINDOW says, until each is answered and told something. Raises
        RuntimeError when one is refused."""
        self._ready.extend(wanted)
        calls = [one.call_id.encode() for one in self._ready]
        end = time.monotonic() + PATIENCE
        while self._ready or self._waiting:
            while self._ready and len(self._waiting) < WINDOW:
                self._ask(self._ready.popleft())
            self.pump(0.05)
            now = time.monotonic()
            for one, sent in list(self._waiting.values()):
                if now - sent > REPEAT:
                    self._ask(one)
            if now > end:
                raise RuntimeError(f"{len(self._waiting)} subscriptions are not answered")
        if not self.until(lambda: all(call in self._known for call in calls), 30.0):
            raise RuntimeError(f"{sum(call not in self._known for call in calls)} watchers were told nothing")

    def publish(self, user: str, word: str) -> None:
        """`user` publishes their presence, with a note. Raises RuntimeError when it is refused or not answered."""
        self._changed += 1
        body = (f'<?xml version="1.0"?>\r\n<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:{user}@'
                f'{self._domain}"><tuple id="t1"><status><basic>open</basic></status><note>{word}</note></tuple>'
                "</presence>\r\n").encode()
        uri = f"sip:{user}@{self._domain}".encode()
        phone, here = self._sockets[0], b"127.0.0.1:%d" % self._sockets[0].getsockname()[1]
        match = b"SIP-If-Match: " + self._tag + b"\r\n" if self._tag else b""
        old, self._tag = self._tag, b""
        phone.sendto(
            b"PUBLISH " + uri + b" SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKp%d\r\n" % (here, self._changed)
            + b"Max-Forwards: 70\r\nFrom: <%s>;tag=p\r\nTo: <%s>\r\nCall-ID: publish%d\r\nCSeq: 1 PUBLISH\r\n" % (
                uri, uri, self._changed)
            + b"Event: presence\r\nExpires: 3600\r\nContent-Type: application/pidf+xml\r\n" + match
            + b"Content-Length: %d\r\n\r\n" % len(body) + body, self._server)
        if not self.until(lambda: bool(self._tag), 5.0):
            raise RuntimeError(f"PUBLISH {self._changed} was not accepted (after {old!r})")

    def pump(self, seconds: float) -> None:
        """Waits for messages, for so long at most, and serves those that have come."""
        for ready in select.select(self._sockets, [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._take(ready, ready.recv(65535))

    def rest(self, seconds: float) -> None:
        """Serves what comes for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.pump(left)

    def until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Serves what comes until `done()`; False when that took too long."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                return False
            self.pump(0.02)
        return True

    def expect(self, wanted: Collection[Asked], word: bytes) -> None:
        """From now on `behind` counts those of `wanted` who were told something else last."""
        self._wanted = word
        self._behind = {call for call in (one.call_id.encode() for one in wanted) if self._known[call][1] != word}

    @property
    def behind(self) -> int:
        """How many have not been told yet what is expected."""
        return len(self._behind)

    # --- what comes

    def _take(self, phone: socket.socket, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n")[1:] if line.partition(b":")[0].lower() in _COPIED]
        call, number = b"", 0
        for line in lines:
            name, _, value = line.partition(b": ")
            if name == b"Call-ID":
                call = value
            elif name == b"CSeq":
                number = int(value.partition(b" ")[0])
        if data.startswith(b"NOTIFY "):
            phone.sendto(b"\r\n".join([b"SIP/2.0 200 OK", *lines, b"Content-Length: 0", b"", b""]), self._server)
            if number <= self._known.get(call, (0, b""))[0]:
                self.repeats += 1
                return
            self.notifies += 1
            self.octets = len(data)
            word = said(body)
            self._known[call] = number, word
            if word == self._wanted:
                self._behind.discard(call)
        elif data.startswith(b"SIP/2.0 "):
            self._answered(call, int(data[8:11]), head)

    def _answered(self, call: bytes, status: int, head: bytes) -> None:
        if call == b"publish%d" % self._changed:
            found = re.search(rb"\r\nSIP-ETag: ([^\r]+)", head)
            self._tag = found[1] if status == 200 and found else b""
            return
        if status < 200:
            return
        one = self._waiting.pop(call, None)
        if one is None:
            return
        if status in (500, 503):
            self.postponed += 1
            self._attempts[call] = self._attempts.get(call, 1) + 1
            self._ready.append(one[0])
        elif status != 200:
            raise RuntimeError(f"SUBSCRIBE of {one[0]} was answered {status}")

    # --- what they send

    def _socket(self) -> socket.socket:
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        one.bind(("127.0.0.1", 0))
        one.setblocking(False)
        return one

    def _place(self, user: str) -> tuple[socket.socket, int]:
        one = self._sockets[int(user.removeprefix("user")) % len(self._sockets)]
        return one, one.getsockname()[1]

    def _ask(self, one: Asked) -> None:
        phone, port = self._place(one.watcher)
        call, watcher = one.call_id.encode(), f"sip:{one.watcher}@{self._domain}".encode()
        entity = f"sip:{one.entity}@{self._domain}".encode()
        attempt = self._attempts.get(call, 1)
        self._waiting[call] = one, time.monotonic()
        phone.sendto(b"\r\n".join([
            b"SUBSCRIBE " + entity + b" SIP/2.0",
            b"Via: SIP/2.0/UDP 127.0.0.1:%d;branch=z9hG4bK%s-%d" % (port, call, attempt),
            b"Max-Forwards: 70", b"From: <" + watcher + b">;tag=w" + call, b"To: <" + entity + b">",
            b"Call-ID: " + call, b"CSeq: %d SUBSCRIBE" % attempt,
            b"Contact: <" + self.contact(one.watcher).encode() + b">",
            b"Event: " + one.package.encode(), b"Accept: " + _ACCEPT[one.package], b"Expires: 3600",
            b"User-Agent: watcher/1", b"Content-Length: 0", b"", b""]), self._server)
