"""Header field names: compact forms, and which fields may stand only once (RFC 3261 s7.3.1, s7.3.3, s20)."""

from __future__ import annotations

import re
from sys import intern
from typing import Final

from sipd.message import grammar
from sipd.message.errors import MalformedMessage

#: Compact forms (s7.3.3 and the registry of header fields).
COMPACT: Final = {
    "a": "accept-contact", "b": "referred-by", "c": "content-type", "d": "request-disposition", "e": "content-encoding",
    "f": "from", "i": "call-id", "j": "reject-contact", "k": "supported", "l": "content-length", "m": "contact",
    "n": "identity-info", "o": "event", "r": "refer-to", "s": "subject", "t": "to", "u": "allow-events", "v": "via",
    "x": "session-expires", "y": "identity",
}

#: Fields a request or response has exactly one of (s7.3.1: the rest are lists or may be left out).
SINGLE: Final = frozenset({
    "call-id", "cseq", "from", "to", "max-forwards", "content-length", "content-type", "expires", "date", "min-expires",
    "timestamp",
})

_USUAL: Final = (
    "Accept", "Accept-Contact", "Accept-Encoding", "Accept-Language", "Alert-Info", "Allow", "Allow-Events",
    "Authentication-Info", "Authorization", "Call-ID", "Call-Info", "Contact", "Content-Disposition",
    "Content-Encoding", "Content-Language", "Content-Length", "Content-Type", "CSeq", "Date", "Diversion",
    "Error-Info", "Event", "Expires", "Flow-Timer", "From", "History-Info", "In-Reply-To", "Max-Breadth",
    "Max-Forwards", "MIME-Version", "Min-Expires", "Min-SE", "Organization", "P-Access-Network-Info",
    "P-Asserted-Identity", "P-Preferred-Identity", "Path", "Priority", "Privacy", "Proxy-Authenticate",
    "Proxy-Authorization", "Proxy-Require", "RAck", "Reason", "Record-Route", "Refer-To", "Referred-By",
    "Remote-Party-ID", "Replaces", "Reply-To", "Require", "Retry-After", "Route", "RSeq", "Server", "Service-Route",
    "Session-Expires", "SIP-ETag", "SIP-If-Match", "Subject", "Subscription-State", "Supported", "Timestamp", "To",
    "Unsupported", "User-Agent", "Via", "Warning", "WWW-Authenticate",
)

#: Spellings met again and again, to their canonical name. Fixed, so that no stranger can make it grow. The names are
#: interned, as those written in the sources are: whoever looks one up finds the same object, and need not compare them.
CANONICAL: Final[dict[str, str]] = {}
for _name in _USUAL:
    _long = intern(_name.lower())
    CANONICAL[_name] = CANONICAL[_long] = CANONICAL[_name.upper()] = _long
for _short, _long in COMPACT.items():
    CANONICAL[_short] = CANONICAL[_short.upper()] = intern(_long)

#: Canonical name to the usual spelling, for fields of our own.
SPELLING: Final = {name.lower(): name for name in _USUAL}

_token: Final = re.compile(grammar.TOKEN).fullmatch


def canonical(name: str) -> str:
    """The canonical name of a header field: long form, lower case. Raises MalformedMessage when it is not a token."""
    name = name.rstrip(" \t")  # s25.1 HCOLON: white space may stand before the colon
    if _token(name) is None:
        raise MalformedMessage(f"not a header field name: {name[:40]!r}")
    return CANONICAL.get(name) or COMPACT.get(name.lower()) or name.lower()
