"""A message that waits: what of a MESSAGE is kept, for how long, and its text in the store (RFC 3428 s7, s9). Pure."""

from __future__ import annotations

import json
from binascii import Error, a2b_base64, b2a_base64
from email.utils import formatdate, parsedate_to_datetime

from sipd.message.address import tag_of
from sipd.message.errors import MalformedMessage
from sipd.message.message import Request
from sipd.message.uri import uri_of_aor
from sipd.message.values import delta_seconds

#: Fields of one hop, of one transaction or for one proxy: they are made anew, or are nothing to who gets the message
#: later. From, To, Call-ID and CSeq have places of their own; a MESSAGE has neither Contact nor Record-Route (s4, s9).
_NOT_KEPT = frozenset({
    "via", "route", "record-route", "contact", "max-forwards", "max-breadth", "content-length", "proxy-authorization",
    "authorization", "proxy-require", "timestamp", "from", "to", "call-id", "cseq",
})
#: Who is typing is of interest now or never (RFC 3994 s3).
_COMPOSING = "application/im-iscomposing+xml"
#: Octets of a body in which the type of what a message/cpim carries stands.
_CPIM_HEAD = 2048


class StoredMessage:
    """One message that waits for `aor`. Times are seconds since the epoch.

    `from_`, `to`, `call_id`, `cseq` and `fields` (name and value each) are as the sender wrote them, so that a phone
    that gets it twice can tell; `sender` is the address in From as people write it, an address-of-record where it is
    one of ours. `secure`: it was sent to a sips URI. `notice`: it is ours, and tells a sender what became of a message.

    What is not in the store: `stored`, whether it is there; `seen`, whether a phone may have got it already; `answers`,
    how many phones said "not now"; `refused_by`, the bindings whose phones never will; `not_before` (seconds of the
    clock) until when it may still be taken where it was relayed to; `ending`, why it is to leave the store, "" when it
    was delivered; `leaving`, whether the store was asked to let go of it.
    """

    __slots__ = ("number", "aor", "sender", "received_at", "expires_at", "from_", "to", "call_id", "cseq", "fields",
                 "body", "secure", "notice", "size", "stored", "seen", "answers", "refused_by", "not_before", "ending",
                 "leaving")

    def __init__(self, number: int, aor: str, sender: str, received_at: float, expires_at: float, from_: str, to: str,
                 call_id: str, cseq: int, fields: tuple[tuple[str, str], ...], body: bytes, secure: bool = False,
                 notice: bool = False) -> None:
        self.number = number
        self.aor = aor
        self.sender = sender
        self.received_at = received_at
        self.expires_at = expires_at
        self.from_ = from_
        self.to = to
        self.call_id = call_id
        self.cseq = cseq
        self.fields = fields
        self.body = body
        self.secure = secure
        self.notice = notice
        self.stored = self.seen = self.leaving = False
        self.answers = 0
        self.refused_by: set[tuple[str, str, str]] = set()
        self.not_before = 0.0
        self.ending: str | None = None
        #: Octets, about: what counts against the limits.
        self.size = len(body) + len(from_) + len(to) + len(call_id) + sum(
            len(name) + len(value) + 4 for name, value in fields)

    @property
    def identity(self) -> tuple[str, str, int]:
        """What tells a copy (RFC 3261 s8.2.2.2): Call-ID, tag of From, and CSeq."""
        return self.call_id, _tag(self.from_), self.cseq

    @property
    def content_type(self) -> str:
        """As written, "" without one."""
        return next((value for name, value in self.fields if name.lower() in ("content-type", "c")), "")

    def text(self) -> str:
        """For the store, in ASCII."""
        return json.dumps({
            "aor": self.aor, "sender": self.sender, "received_at": self.received_at, "expires_at": self.expires_at,
            "from": self.from_, "to": self.to, "call_id": self.call_id, "cseq": self.cseq, "fields": self.fields,
            "body": b2a_base64(self.body, newline=False).decode("ascii"), "secure": self.secure,
            "notice": self.notice})

    @staticmethod
    def read(number: int, text: str) -> StoredMessage | None:
        """From the store; None when the text is none of ours."""
        try:
            row = json.loads(text)
            return StoredMessage(
                number, str(row["aor"]), str(row["sender"]), float(row["received_at"]), float(row["expires_at"]),
                str(row["from"]), str(row["to"]), str(row["call_id"]), int(row["cseq"]),
                tuple((str(name), str(value)) for name, value in row["fields"]),
                a2b_base64(row["body"], strict_mode=True), bool(row["secure"]), bool(row["notice"]))
        except (ValueError, KeyError, TypeError, Error):
            return None


def is_worth_keeping(request: Request) -> bool:
    """False for what belongs to a dialog, and for what says that somebody is typing."""
    kind = request.first.get("content-type", "").partition(";")[0].strip(" \t").lower()
    if request.to_tag or kind == _COMPOSING:
        return False
    return not (kind == "message/cpim" and _COMPOSING.encode() in request.body[:_CPIM_HEAD].lower())


def expiry(request: Request, now: float, longest: float) -> float:
    """When the message is of no use any more: by its own Expires, counted from its Date (s7), at most `longest` seconds
    from `now`. Not later than `now` for one that is not to be kept at all."""
    latest = now + longest
    seconds = delta_seconds(request.first.get("expires", ""))
    if seconds is None:
        return latest
    if not seconds:
        return now
    sent = now
    try:
        sent = min(parsedate_to_datetime(request.first.get("date", "")).timestamp(), now)
    except (ValueError, TypeError, OverflowError, IndexError):
        pass  # no Date, or none that can be read: from when it came
    return min(sent + seconds, latest)


def kept(request: Request, number: int, aor: str, sender: str, now: float, expires_at: float) -> StoredMessage:
    """The message as it is kept; times in seconds since the epoch. Where the sender wrote no Date the one of receipt is
    added (RFC 3261 s20.17)."""
    fields = [_field(line, value) for name, value, line in request.headers if name not in _NOT_KEPT]
    if "date" not in request.first:
        fields.append(("Date", formatdate(now, usegmt=True)))
    first = request.first
    return StoredMessage(number, aor, sender, now, expires_at, first["from"], first["to"], request.call_id,
                         request.cseq_number, tuple(fields), request.body, request.uri_text[:5].lower() == "sips:")


def notice(number: int, about: StoredMessage, reason: str, now: float, expires_at: float, domain: str, tag: str,
           call_id: str) -> StoredMessage:
    """What its sender, who is one of our users, is told when `about` was not delivered; times as in `kept`."""
    body = (f"Your message of {formatdate(about.received_at, usegmt=True)} to {about.aor} was not delivered: {reason}.")
    return StoredMessage(
        number, about.sender, f"sip:{domain}", now, expires_at, f"<sip:{domain}>;tag={tag}",
        f"<{uri_of_aor(about.sender)}>", call_id, 1,
        (("Date", formatdate(now, usegmt=True)), ("Content-Type", "text/plain;charset=UTF-8")),
        body.encode("utf-8", "surrogateescape"), notice=True)


def _field(line: str, value: str) -> tuple[str, str]:
    """The name as written, and the value."""
    return line.partition(":")[0].rstrip(" \t"), value


def _tag(from_: str) -> str:
    try:
        return tag_of(from_)
    except MalformedMessage:
        return ""
