"""The token in the user part of our Record-Route URI: proof that a request belongs to a dialog we let through.

It is keyed, bound to Call-ID and to the tag of the one who called, and made from a secret that outlives a restart; so a
BYE passes after one, and a Route to us with an invented token gives no rights. It may also name the flows to both
parties, for those who can be reached only there (RFC 5626 s5.2 does the same with its flow tokens).

    MAC                                  both parties are reached where their contacts say
    MAC "." base64url(caller "|" callee) flow ids; "~" before one says that its party can be reached only over it
    MAC "." base64url(caller "|" callee "|" dress) where a party is a trunk: see `dressing`
"""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64
from hashlib import blake2b
from hmac import compare_digest
from typing import Final, NamedTuple

from sipd.message.identifiers import MAGIC_COOKIE, keyed_hash

_URLSAFE: Final = bytes.maketrans(b"+/", b"-_")
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")

#: Hexadecimal digits of the MAC: 64 bits.
_MAC_LENGTH: Final = 16
#: No token of ours is longer (characters), and so much of it is for flow ids and dress.
_MAX_LENGTH: Final = 500
_ROOM: Final = (_MAX_LENGTH - _MAC_LENGTH - 1) // 4 * 3


class Direction(NamedTuple):
    """What a valid token says: the flow to the receiver, "" for none, and whether nothing else leads there; and where
    a party is a trunk, how the request is to be dressed: "+" towards the callee, "-" towards the caller, and the text
    that the token was made with."""

    flow_id: str
    only: bool
    dress: str = ""


class RouteToken:
    """Makes and checks tokens with `secret` (16 octets or more)."""

    __slots__ = ("_keyed", "_keyed_branch")

    def __init__(self, secret: bytes) -> None:
        #: Copied for each token, which spares it taking in the key again.
        self._keyed = blake2b(key=secret, digest_size=_MAC_LENGTH // 2)
        self._keyed_branch = keyed_hash(secret, 10)

    def make(self, call_id: str, caller_tag: str, caller: str = "", callee: str = "", dress: str = "") -> str:
        """The token for a request that starts a dialog; `caller` and `callee` are flow ids, "~" before them for nat;
        `dress` has no more characters than `room` says."""
        flows = f"{caller}|{callee}" if caller or callee or dress else ""
        if dress:
            flows = f"{flows}|{dress}"
        mac = self._mac(call_id, caller_tag, flows)
        if not flows:
            return mac
        return f"{mac}.{b2a_base64(flows.encode(), newline=False).translate(_URLSAFE).decode().rstrip('=')}"

    @staticmethod
    def room(caller: str, callee: str) -> int:
        """The characters that are left for the dress beside these flow ids."""
        return _ROOM - len(caller) - len(callee) - 2

    def check(self, token: str, call_id: str, from_tag: str, to_tag: str) -> Direction | None:
        """Whether the token belongs to the dialog of a request with these; None when it does not."""
        mac, dot, coded = token.partition(".")
        if not to_tag or len(mac) != _MAC_LENGTH or not token.isascii() or len(token) > _MAX_LENGTH:
            return None
        flows = ""
        if dot:
            try:
                padded = coded.encode().translate(_STANDARD) + b"=" * (-len(coded) % 4)
                flows = a2b_base64(padded, strict_mode=True).decode()
            except (Error, ValueError):
                return None
        caller, _, callee = flows.partition("|")
        dress = ""
        if "|" in callee:
            callee, _, dress = callee.partition("|")
        if compare_digest(mac, self._mac(call_id, from_tag, flows)):
            return Direction(callee.lstrip("~"), callee[:1] == "~", f"+{dress}" if dress else "")
        if compare_digest(mac, self._mac(call_id, to_tag, flows)):
            return Direction(caller.lstrip("~"), caller[:1] == "~", f"-{dress}" if dress else "")
        return None

    def branch(self, *parts: str) -> str:
        """A branch that follows from `parts`: the same each time a request is forwarded without state (s16.11)."""
        text = "\0".join(parts).encode("utf-8", "surrogateescape")
        mac = self._keyed_branch.copy()
        mac.update(text)
        return MAGIC_COOKIE + mac.hexdigest()

    def _mac(self, call_id: str, tag: str, flows: str) -> str:
        text = f"{call_id}\0{tag}\0{flows}".encode("utf-8", "surrogateescape")
        mac = self._keyed.copy()
        mac.update(text)
        return mac.hexdigest()
