"""A small registering client over one UDP socket, with a window of requests in flight (RFC 3261 s10.2).

It fills a location service before a load run, and is the witness of the crash tests: it remembers exactly what was
acknowledged and when. It answers digest challenges (RFC 7616, qop=auth, MD5 and SHA-256). Nothing here is sipd's own
code, so that one mistake cannot hide the other.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import select
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

_HASHES = {"md5": "md5", "sha-256": "sha256"}
_PARAMETER = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]+))')


@dataclass(slots=True)
class Registration:
    """One REGISTER to be made: a user, a contact URI without brackets, seconds of life (0 removes)."""

    user: str
    contact: str
    expires: int = 3600
    password: str = ""
    call_id: str = field(default_factory=lambda: secrets.token_hex(8))
    cseq: int = 1
    #: Final status, 0 until there is one; the seconds of `time.monotonic` when it came.
    status: int = 0
    answered_at: float = 0.0
    #: The Contact header values of the last 200.
    bindings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Sent:
    registration: Registration
    data: bytes
    resend_at: float
    interval: float
    give_up_at: float
    challenged: bool


def digest_authorization(challenge: str, method: str, uri: str, user: str, password: str) -> str:
    """The Authorization value that answers one `WWW-Authenticate` or `Proxy-Authenticate` value (RFC 7616 s3.4)."""
    given = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(challenge)}
    algorithm = given.get("algorithm", "MD5")
    name = _HASHES[algorithm.lower()]

    def digest(text: str) -> str:
        return hashlib.new(name, text.encode()).hexdigest()

    ha1 = digest(f"{user}:{given['realm']}:{password}")
    ha2 = digest(f"{method}:{uri}")
    cnonce = secrets.token_hex(8)
    answer = digest(f"{ha1}:{given['nonce']}:00000001:{cnonce}:auth:{ha2}")
    text = (
        f'Digest username="{user}", realm="{given["realm"]}", nonce="{given["nonce"]}", uri="{uri}", '
        f'response="{answer}", algorithm={algorithm}, qop=auth, nc=00000001, cnonce="{cnonce}"'
    )
    return text + (f', opaque="{given["opaque"]}"' if "opaque" in given else "")


def header_values(message: str, name: str) -> list[str]:
    """The values of every line of that header, one per line, in order."""
    prefix = name.lower() + ":"
    return [line[len(prefix):].strip() for line in message.split("\r\n") if line.lower().startswith(prefix)]


class Registrant:
    """Registers many users at `server` (address, port) from one socket of its own."""

    def __init__(self, server: tuple[str, int], domain: str, window: int = 50, give_up: float = 8.0) -> None:
        """`window` is the number of requests in flight; `give_up` the seconds after which one counts as unanswered."""
        self.server = server
        self.domain = domain
        self.window = window
        self.give_up = give_up
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.connect(server)
        self._socket.setblocking(False)
        host, port = self._socket.getsockname()[:2]
        self.sent_by = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._waiting: dict[str, _Sent] = {}

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def run(self, registrations: Iterable[Registration], stop: Callable[[], bool] = lambda: False) -> None:
        """Makes every registration, or as many as were answered before `stop()` turned true; the outcome is written
        into each. Nothing that `stop` cut off has a status."""
        queue = iter(registrations)
        more = True
        while (more or self._waiting) and not stop():
            while more and len(self._waiting) < self.window:
                registration = next(queue, None)
                if registration is None:
                    more = False
                else:
                    self._send(registration, "")
            self._wait()
        # Answers that reached this host before a server died count: it gave its word.
        self._take()
        self._waiting.clear()

    def bindings(self, user: str, password: str = "") -> list[str]:
        """The contacts the server holds for a user, asked with a REGISTER without Contact (RFC 3261 s10.2.3)."""
        query = Registration(user, "", password=password)
        self.run([query])
        if query.status != 200:
            raise AssertionError(f"query for {user} was answered {query.status}")
        return query.bindings

    def _send(self, registration: Registration, authorization: str) -> None:
        branch = "z9hG4bK" + secrets.token_hex(8)
        lines = [
            f"REGISTER sip:{self.domain} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.sent_by};branch={branch};rport",
            "Max-Forwards: 70",
            f"From: <sip:{registration.user}@{self.domain}>;tag={branch[7:15]}",
            f"To: <sip:{registration.user}@{self.domain}>",
            f"Call-ID: {registration.call_id}",
            f"CSeq: {registration.cseq} REGISTER",
        ]
        if registration.contact:
            lines += [f"Contact: <{registration.contact}>", f"Expires: {registration.expires}"]
        if authorization:
            lines.append(authorization)
        data = "\r\n".join([*lines, "Content-Length: 0", "", ""]).encode()
        now = time.monotonic()
        self._waiting[branch] = _Sent(registration, data, now + 0.5, 0.5, now + self.give_up, bool(authorization))
        self._put(data)

    def _put(self, data: bytes) -> None:
        # A server that is down answers with ICMP; the repeat that follows is the retry.
        with contextlib.suppress(OSError):
            self._socket.send(data)

    def _wait(self) -> None:
        select.select([self._socket], [], [], 0.05)
        self._take()
        now = time.monotonic()
        for branch, sent in list(self._waiting.items()):
            if now >= sent.give_up_at:
                del self._waiting[branch]
            elif now >= sent.resend_at:
                sent.interval = min(2 * sent.interval, 4.0)
                sent.resend_at = now + sent.interval
                self._put(sent.data)

    def _take(self) -> None:
        while True:
            try:
                data = self._socket.recv(65535)
            except BlockingIOError:
                break
            except OSError:
                continue
            self._answered(data.decode(errors="replace"))

    def _answered(self, text: str) -> None:
        via = header_values(text, "Via")
        found = re.search(r"branch=([^;\s]+)", via[0]) if via else None
        status = int(text[8:11])
        sent = self._waiting.pop(found.group(1), None) if found and status >= 200 else None
        if sent is None:
            return
        registration = sent.registration
        if status == 401 and registration.password and not sent.challenged:
            challenge = header_values(text, "WWW-Authenticate")[0]
            credentials = digest_authorization(
                challenge, "REGISTER", f"sip:{self.domain}", registration.user, registration.password
            )
            registration.cseq += 1
            self._send(registration, f"Authorization: {credentials}")
            return
        registration.status = status
        registration.answered_at = time.monotonic()
        registration.bindings = header_values(text, "Contact")
