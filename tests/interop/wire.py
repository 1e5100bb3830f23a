"""A bare SIP endpoint on a UDP socket: it sends text and takes messages apart, nothing more."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable, Sequence

from bench.registrant import header_values


class Message:
    """One received message: its first line, its header lines as received, its octets."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        head = data.partition(b"\r\n\r\n")[0].decode(errors="surrogateescape")
        self.text = head + "\r\n"
        self.first = head.partition("\r\n")[0]

    @property
    def status(self) -> int:
        """The status of a response, 0 for a request."""
        return int(self.first[8:11]) if self.first.startswith("SIP/2.0 ") else 0

    @property
    def method(self) -> str:
        """The method of a request, or of the request that a response answers."""
        return self.all("CSeq")[0].split()[1] if self.status else self.first.split(" ")[0]

    def all(self, name: str) -> list[str]:
        """The values of every line of a header, long name as sipd writes it, in order."""
        return header_values(self.text, name)


class Endpoint:
    """A UDP socket on a port of its own (or the given one) that talks to one server."""

    def __init__(
        self, server: tuple[str, int], user: str, domain: str, local: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        self.user = user
        self.domain = domain
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(local)
        self.server = server
        host, port = self.socket.getsockname()
        self.host = f"{host}:{port}"
        self.contact = f"<sip:{user}@{self.host}>"

    def close(self) -> None:
        """Closes the socket."""
        self.socket.close()

    def request(self, method: str, uri: str, lines: Sequence[str], body: str = "") -> bytes:
        """Writes a request with a fresh branch; `lines` hold From, To, Call-ID, CSeq and what else is wanted."""
        head = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.host};branch=z9hG4bK{secrets.token_hex(8)};rport",
            "Max-Forwards: 70", *lines, f"Content-Length: {len(body)}", "", body,
        ]
        return "\r\n".join(head).encode(errors="surrogateescape")

    def answer(self, request: Message, status: str, to_tag: str = "") -> None:
        """Answers a request, copying what a response copies (RFC 3261 s8.2.6.2, s12.1.1)."""
        to = request.all("To")[0]
        if to_tag and ";tag=" not in to:
            to += f";tag={to_tag}"
        lines = [
            f"SIP/2.0 {status}", *(f"Via: {via}" for via in request.all("Via")),
            *(f"Record-Route: {route}" for route in request.all("Record-Route")),
            f"From: {request.all('From')[0]}", f"To: {to}", f"Call-ID: {request.all('Call-ID')[0]}",
            f"CSeq: {request.all('CSeq')[0]}", f"Contact: {self.contact}", "Content-Length: 0", "", "",
        ]
        self.send("\r\n".join(lines).encode(errors="surrogateescape"))

    def send(self, data: bytes) -> None:
        """Sends one datagram to the server."""
        self.socket.sendto(data, self.server)

    def receive(self, wanted: Callable[[Message], bool], seconds: float = 5.0) -> Message | None:
        """The next message for which `wanted` is true, None when it does not come in time; others are dropped."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65535)
            except TimeoutError:
                return None
            except ConnectionError:
                continue
            message = Message(data)
            if wanted(message):
                return message
        return None

    def expect(self, what: str | int, seconds: float = 5.0) -> Message:
        """The next request of that method, or response of that status; an AssertionError without one."""
        message = self.receive(
            lambda one: one.status == what if isinstance(what, int) else not one.status and one.method == what, seconds
        )
        if message is None:
            raise AssertionError(f"{self.user}: no {what} within {seconds:.0f} s")
        return message
