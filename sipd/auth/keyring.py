"""What one account answers challenges with, and the challenges it knows (RFC 3261 s22, RFC 7616, RFC 8760). Pure.

A nonce is used again for the next request, with the next nonce count, so that most requests need no second try.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from sipd.auth.digest import HASHES, answer, parse_challenge
from sipd.message.errors import MalformedMessage
from sipd.message.message import Response

#: Strongest last.
_STRENGTH: Final = ("MD5", "SHA-256", "SHA-512-256")
#: Realms that are remembered, and challenges of one response that are looked at.
_REALMS, _CHALLENGES = 8, 16
#: Times one request is sent again with credentials for the same realm, however often its nonce is called stale.
_TRIES: Final = 3
#: Octets of a cnonce.
_CNONCE: Final = 8


class _Known:
    """A challenge, and how often its nonce was used."""

    __slots__ = ("params", "count")

    def __init__(self, params: dict[str, str]) -> None:
        self.params = params
        self.count = 0


class Keyring:
    """User name and password of one account at a peer; `entropy(n)` gives random octets."""

    __slots__ = ("username", "_password", "_entropy", "_known")

    def __init__(self, username: str, password: str, entropy: Callable[[int], bytes]) -> None:
        self.username = username
        self._password = password
        self._entropy = entropy
        #: By "www" or "proxy", and realm.
        self._known: dict[tuple[str, str], _Known] = {}

    def credentials(self, method: str, uri: str, tried: Collection[str] = ()) -> list[tuple[str, str]]:
        """The header fields that answer every challenge known, each with its next nonce count; once the request was
        asked for credentials (see `learn`) those alone, as some peers look at the first field there is."""
        fields = []
        for (kind, realm), known in self._known.items():
            if tried and f"{kind} {realm}" not in tried:
                continue
            known.count += 1
            name = "Authorization" if kind == "www" else "Proxy-Authorization"
            fields.append((name, answer(known.params, method, uri, self.username, self._password,
                                        self._entropy(_CNONCE).hex(), known.count)))
        return fields

    def learn(self, response: Response, tried: dict[str, int]) -> bool:
        """Takes the challenges of a 401 or 407. True when the request may be sent again.

        `tried` counts by header and realm how often this request was refused; it begins empty with each request.
        Credentials that were computed for a challenge of this very request and are refused are wrong, unless the nonce
        is called stale (RFC 7616 s3.3, RFC 3261 s22.2): so a password is shown at most twice, once by a nonce
        remembered and once by the one that it asks for. That may be the same nonce: some peers have only one, and ask
        with it whatever the request shows. Of the challenges for a realm the strongest known algorithm is answered
        (RFC 8760 s2.4).
        """
        kind = "www" if response.status == 401 else "proxy"
        best: dict[str, dict[str, str]] = {}
        for value in response.all(f"{kind}-authenticate")[:_CHALLENGES]:
            params = _usable(value)
            if params is not None:
                other = best.get(params["realm"])
                if other is None or _strength(params) > _strength(other):
                    best[params["realm"]] = params
        hopeful = False
        for realm, params in best.items():
            rounds = tried.get(f"{kind} {realm}", 0)
            known = self._known.get((kind, realm))
            stale = params.get("stale", "").lower() == "true"
            again = known is not None and known.params["nonce"] == params["nonce"]
            if rounds >= _TRIES or (rounds and not stale):
                continue
            if known is None and len(self._known) >= _REALMS:
                del self._known[next(iter(self._known))]
            if not again or stale:
                self._known[kind, realm] = _Known(params)
            tried[f"{kind} {realm}"] = rounds + 1
            hopeful = True
        if not hopeful:
            # what was refused is not shown again unasked
            for realm in best:
                self._known.pop((kind, realm), None)
        return hopeful


def _usable(value: str) -> dict[str, str] | None:
    """The parameters of a challenge that we can answer, else None."""
    try:
        params = parse_challenge(value)
    except MalformedMessage:
        return None
    if params is None or params.get("algorithm", "MD5").upper() not in HASHES:
        return None
    offered = [word.strip(" \t").lower() for word in params.get("qop", "auth").split(",")]
    return params if "auth" in offered else None


def _strength(params: dict[str, str]) -> int:
    return _STRENGTH.index(params.get("algorithm", "MD5").upper())
