"""URIs: sip and sips in full, other schemes as opaque text (RFC 3261 s19.1, RFC 3966 left unread)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from sipd.message import grammar
from sipd.message.errors import MalformedMessage
from sipd.message.kept import MOST_ADDRESSES, keep

#: URIs longer than this (characters) are read each time instead of being kept: hostile ones must not fill the cache.
_CACHED_LENGTH: Final = 200

#: What stands in a user part as it is, besides letters and digits.
_USER_SAFE: Final = "-_.!~*'()&=+$,;?/"

#: Parameters that must stand in both URIs or in neither for them to be equivalent (s19.1.4).
_BOTH_OR_NEITHER: Final = ("user", "ttl", "method", "maddr", "transport")


#: URIs that were met, by their text: each is read once.
_KNOWN: Final[dict[str, Uri]] = {}


@dataclass(frozen=True, slots=True)
class Uri:
    """A URI as written: escapes, order and spelling of its parts are kept; scheme and host are in lower case.

    For schemes other than sip and sips `host` is "" and `user` holds all that follows the colon.
    """

    scheme: str
    user: str | None
    password: str | None
    #: IPv6 addresses stand in brackets.
    host: str
    port: int | None = None
    #: (name in lower case, raw value or None), in order.
    params: tuple[tuple[str, str | None], ...] = ()
    #: Raw text after "?", "" when there is none.
    headers: str = ""

    @staticmethod
    def parse(text: str) -> Uri:
        """Reads a URI. Raises MalformedMessage (400)."""
        uri = _KNOWN.get(text)
        if uri is None:
            uri = _parse(text)
            if len(text) <= _CACHED_LENGTH:
                keep(_KNOWN, text, uri, MOST_ADDRESSES)
        return uri

    @staticmethod
    def read(text: str) -> Uri:
        """Reads a URI anew, whatever was read before: what takes as long for every user tells nothing about one.
        Raises MalformedMessage (400)."""
        return _parse(text)

    def __str__(self) -> str:
        if not self.host:
            return f"{self.scheme}:{self.user}"
        text = f"{self.scheme}:"
        if self.user is not None:
            text += self.user if self.password is None else f"{self.user}:{self.password}"
            text += "@"
        text += self.host
        if self.port is not None:
            text += f":{self.port}"
        for name, value in self.params:
            text += f";{name}" if value is None else f";{name}={value}"
        return f"{text}?{self.headers}" if self.headers else text

    @property
    def address(self) -> str:
        """The host without the brackets of an IPv6 reference."""
        return self.host[1:-1] if self.host[:1] == "[" else self.host

    @property
    def is_sip(self) -> bool:
        """True for sip and sips URIs."""
        return bool(self.host)

    def param(self, name: str) -> str | None:
        """The raw value of a parameter: "" when it has none, None when it is not there. `name` is in lower case."""
        for key, value in self.params:
            if key == name:
                return value or ""
        return None

    def unescaped_user(self) -> str:
        """The user part with its escapes undone once (s19.1.2), "" when there is none."""
        return unescape(self.user or "")

    def equivalent(self, other: Uri) -> bool:
        """URI comparison by RFC 3261 s19.1.4."""
        if self == other:
            return True
        if (self.scheme != other.scheme or self.host != other.host or self.port != other.port
                or (self.user is None) != (other.user is None)
                or (self.password is None) != (other.password is None)):
            return False
        if not self.host:
            return self.user == other.user
        if (_comparable(self.user or "") != _comparable(other.user or "")
                or _comparable(self.password or "") != _comparable(other.password or "")):
            return False
        mine, theirs = dict(self.params), dict(other.params)
        for name in _BOTH_OR_NEITHER:
            if (name in mine) != (name in theirs):
                return False
        for name in mine.keys() & theirs.keys():
            if _comparable(mine[name] or "").lower() != _comparable(theirs[name] or "").lower():
                return False
        return _headers(self.headers) == _headers(other.headers)


def _headers(text: str) -> list[tuple[str, str]]:
    """The headers component in an order of its own: present ones must match, whatever their order (s19.1.4)."""
    pairs = (part.partition("=") for part in text.split("&") if part)
    return sorted((_comparable(name).lower(), _comparable(value)) for name, _, value in pairs)


_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}")


def unescape(text: str) -> str:
    """Undoes `%HH` escapes once."""
    if "%" not in text or not _ESCAPE.search(text):
        return text
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def escape(user: str) -> str:
    """A name or number as the user part of a URI (s25.1 user): whatever may not stand there becomes `%HH`."""
    return quote(user, _USER_SAFE, errors="surrogateescape")


def uri_of_aor(aor: str) -> str:
    """An address-of-record `user@domain` as a URI."""
    user, _, domain = aor.rpartition("@")
    return f"sip:{escape(user)}@{domain}"


#: Escapes of ; / ? : @ & = + $ and the comma, and of "%" itself: undone, it could make an escape of what follows it.
_KEPT: Final = re.compile(r"%(3[Bb]|2[Ff]|3[Ff]|3[Aa]|40|26|3[Dd]|2[Bb]|24|2[Cc]|25)")


def _comparable(text: str) -> str:
    """s19.1.4: a character and its escape are the same, unless it is of the reserved set (s25.1)."""
    if "%" not in text:
        return text
    return unescape(_KEPT.sub(lambda found: f"%25{found.group(1).upper()}", text))


def _parse(text: str) -> Uri:
    name, colon, rest = text.partition(":")
    if not colon or grammar.scheme.fullmatch(name) is None:
        raise MalformedMessage(f"not a URI: {text[:80]!r}")
    scheme = name.lower()
    if scheme not in ("sip", "sips"):
        if grammar.opaque.fullmatch(rest) is None:
            raise MalformedMessage(f"not a URI: {text[:80]!r}")
        return Uri(scheme, rest, None, "")
    user = password = None
    if "@" in rest:
        userinfo, _, rest = rest.partition("@")
        user, colon, secret = userinfo.partition(":")
        if (grammar.user.fullmatch(user) is None
                or (colon and grammar.password.fullmatch(secret) is None)):
            raise MalformedMessage(f"the user part of the URI cannot be read: {text[:80]!r}")
        password = secret if colon else None
    found = grammar.host.match(rest)
    if found is None:
        raise MalformedMessage(f"the host of the URI cannot be read: {text[:80]!r}")
    host, position, port = found.group().lower(), found.end(), None
    if rest[position:position + 1] == ":":
        digits = grammar.port.match(rest, position + 1)
        if digits is None or not 0 < int(digits.group()) <= 65535:
            raise MalformedMessage(f"the port of the URI is not 1 to 65535: {text[:80]!r}")
        port, position = int(digits.group()), digits.end()
    params = []
    while rest[position:position + 1] == ";":
        item = grammar.uri_parameter.match(rest, position + 1)
        if item is None:
            raise MalformedMessage(f"a parameter of the URI cannot be read: {text[:80]!r}")
        params.append((item.group(1).lower(), item.group(2)))
        position = item.end()
    headers = ""
    if rest[position:position + 1] == "?":
        headers = rest[position + 1:]
        if not headers or grammar.uri_headers.fullmatch(headers) is None:
            raise MalformedMessage(f"the headers of the URI cannot be read: {text[:80]!r}")
        position = len(rest)
    if position != len(rest):
        raise MalformedMessage(f"not a URI: {text[:80]!r}")
    return Uri(scheme, user, password, host, port, tuple(params), headers)
