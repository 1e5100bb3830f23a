"""Messages of our own: responses (RFC 3261 s8.2.6) and requests (s8.1.1)."""

from __future__ import annotations

from typing import Final

from sipd.message.message import Header, Message, Request
from sipd.message.status import REASONS

_COPIED: Final = frozenset({"via", "from", "to", "call-id", "cseq"})
_STATUS_LINES: Final[dict[int, str]] = {status: f"SIP/2.0 {status} {reason}" for status, reason in REASONS.items()}
_NO_BODY: Final[Header] = ("content-length", "0", "Content-Length: 0")


def response(request: Message, status: int, reason: str = "", to_tag: str = "",
             headers: tuple[tuple[str, str], ...] = (), body: bytes = b"") -> bytes:
    """The octets of a response to a request: Via, From, To, Call-ID and CSeq as they came, in their order (s8.2.6.2).

    `to_tag` is added to To when it has none; a 100 takes none. `headers` are (name, value) pairs to add, among them
    the Content-Type of a `body`.
    """
    start = "" if reason else _STATUS_LINES.get(status)
    lines = [start or f"SIP/2.0 {status} {reason or phrase(status)}"]
    tagged = bool(to_tag) and status > 100 and not request.to_tag
    repeated = request.repeated
    # the status line and five more, where it is known that Via stands once: the rest need not be looked at
    most = 6 if repeated is not None and "via" not in repeated else 0
    for header in request.headers:
        key = header[0]
        if key in _COPIED:
            lines.append(f"{header[2]};tag={to_tag}" if tagged and key == "to" else header[2])
            if len(lines) == most:
                break
    for name, value in headers:
        lines.append(f"{name}: {value}")
    if body:
        lines.append(f"Content-Length: {len(body)}\r\n\r\n")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + body
    lines.append("Content-Length: 0\r\n\r\n")
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


def trying(request: Message, delay: float = 0.0) -> bytes:
    """The octets of a 100, `delay` seconds after the request: its Timestamp goes back with the delay (s8.2.6.1)."""
    timestamp = request.first.get("timestamp")
    if timestamp is None:
        return response(request, 100)
    return response(request, 100, headers=(
        ("Timestamp", f"{timestamp.partition(' ')[0]} {delay:g}" if delay else timestamp),))


def request(method: str, uri_text: str, headers: list[tuple[str, str]], body: bytes = b"") -> Request:
    """A request of our own; `headers` are (name, value) pairs in order, Content-Length is added."""
    lines: list[Header] = [(name.lower(), value, f"{name}: {value}") for name, value in headers]
    lines.append(("content-length", str(len(body)), f"Content-Length: {len(body)}"))
    first: dict[str, str] = {}
    for key, value, _ in lines:
        first.setdefault(key, value)
    made = Request(method, uri_text, lines, first, body)
    number, _, cseq_method = first.get("cseq", "0 ").partition(" ")
    made.cseq_number, made.cseq_method = int(number), cseq_method
    return made


def hop_by_hop(invite: Request, method: str, to: str) -> Request:
    """The ACK for a non-2xx final (s17.1.1.3) or the CANCEL (s9.1) of an INVITE as it was sent.

    It has the INVITE's Request-URI, topmost Via alone, From, Call-ID, CSeq number and Route, and `to` as its To value.
    """
    via = next(header for header in invite.headers if header[0] == "via")
    from_ = next(header for header in invite.headers if header[0] == "from")
    call_id = next(header for header in invite.headers if header[0] == "call-id")
    lines: list[Header] = [via, *(header for header in invite.headers if header[0] == "route"), from_,
                           ("to", to, f"To: {to}"), call_id,
                           ("cseq", f"{invite.cseq_number} {method}", f"CSeq: {invite.cseq_number} {method}"),
                           ("max-forwards", "70", "Max-Forwards: 70"), _NO_BODY]
    first: dict[str, str] = {}
    for key, value, _ in lines:
        first.setdefault(key, value)
    made = Request(method, invite.uri_text, lines, first, b"")
    made.via = invite.via
    made.cseq_number = invite.cseq_number
    made.cseq_method = method
    return made


def phrase(status: int) -> str:
    """The usual reason phrase."""
    return REASONS.get(status, "Unknown")
