"""The server core: requests addressed to this server itself (RFC 3261 s8.2, s11.2)."""

from __future__ import annotations

from typing import Final, NoReturn

from sipd.core import content
from sipd.message.errors import Reject
from sipd.message.message import Request

#: What this server understands when it is itself the one addressed.
ALLOW: Final = "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, SUBSCRIBE, NOTIFY, PUBLISH"
#: Extensions of the registrar (RFC 3327); those of calls are the phones' affair.
SUPPORTED: Final = frozenset({"path"})
#: s11.2: what this server can do.
CAPABILITIES: Final = (
    ("Allow", ALLOW), ("Accept", content.TYPES), ("Accept-Encoding", content.ENCODINGS), ("Accept-Language", "en"),
    ("Supported", ", ".join(sorted(SUPPORTED))))
#: What a subscription of ours is asked at its Contact, and what it can do.
AT_A_SUBSCRIPTION: Final = (("Allow", "OPTIONS, SUBSCRIBE"),)
SUBSCRIPTION_CAPABILITIES: Final = AT_A_SUBSCRIPTION + CAPABILITIES[1:]
#: What is asked of users, never of the server.
_USERS_METHODS: Final = frozenset({
    "INVITE", "MESSAGE", "SUBSCRIBE", "REFER", "PUBLISH", "BYE", "UPDATE", "INFO", "NOTIFY", "PRACK"})


def refuse_unserved(request: Request) -> NoReturn:
    """What may not be asked of the server itself: anything but OPTIONS and REGISTER. Raises Reject (404, 405)."""
    if request.method in _USERS_METHODS:
        raise Reject(404)  # nobody in particular is called: there is no such user (s16.5)
    raise Reject(405, headers=(("Allow", ALLOW),))
