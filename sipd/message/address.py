"""name-addr and addr-spec with header parameters: From, To, Contact, Route and their kin (RFC 3261 s20.10, s25.1)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sipd.message import grammar
from sipd.message.errors import MalformedMessage
from sipd.message.kept import MOST_ADDRESSES, keep
from sipd.message.params import parse_params, unquote
from sipd.message.uri import Uri

#: Values longer than this (characters) are read each time instead of being kept.
_CACHED_LENGTH: Final = 200


class Address(NamedTuple):
    """A display name, a URI and header parameters, each as written."""

    #: With its quotes, when it has them; "" when there is none.
    display: str
    uri_text: str
    #: Raw text from the first ";", "" when there is none.
    param_text: str = ""

    @staticmethod
    def parse(value: str) -> Address:
        """Reads one value. The URI is looked at only when `uri` is asked. Raises MalformedMessage."""
        address = _KNOWN.get(value)
        if address is None:
            address = Address.read(value)
            # without parameters, so without a tag, the same values come again and again: a user's own, our Routes
            if value[-1:] == ">" and len(value) <= _CACHED_LENGTH:
                keep(_KNOWN, value, address, MOST_ADDRESSES)
        return address

    @staticmethod
    def read(value: str) -> Address:
        """As `parse`, and anew whatever was read before. Raises MalformedMessage."""
        if "<" in value:
            found = grammar.name_addr.fullmatch(value)
            if found is None:
                raise MalformedMessage(f"not an address: {value[:80]!r}")
            quoted, bare, uri_text, params = found.groups()
            return Address(quoted or bare.strip(), uri_text, params or "")
        # s20.10: without brackets a "?" or "," may not stand in the URI, and ";" begins header parameters
        found = grammar.addr_spec.fullmatch(value)
        if found is None:
            raise MalformedMessage(f"not an address: {value[:80]!r}")
        return Address("", found.group(1), found.group(2) or "")

    def __str__(self) -> str:
        display = f"{self.display} " if self.display else ""
        return f"{display}<{self.uri_text}>{self.param_text}"

    @property
    def uri(self) -> Uri:
        """The URI, read now. Raises MalformedMessage."""
        return Uri.parse(self.uri_text)

    @property
    def params(self) -> dict[str, str | None]:
        """Header parameters as by `parse_params`. Raises MalformedMessage."""
        return parse_params(self.param_text)

    @property
    def name(self) -> str:
        """The display name as people read it."""
        return unquote(self.display)


#: Addresses that were met, by their text.
_KNOWN: Final[dict[str, Address]] = {}
#: The URIs in values of From and To that ended without a parameter.
_KNOWN_URIS: Final[dict[str, Uri]] = {}


def uri_of(value: str, known: bool) -> Uri:
    """The URI in a value of From or To. For strangers, who are not `known`, it is read anew: the time that a cache
    saves would tell them who has registered, or was called, of late. Raises MalformedMessage."""
    if not known:
        return Uri.read(Address.read(value).uri_text)
    if value[-1:] != ">":
        # without the tag, which is another each time, it may have been read before
        address, found, tag = value.partition(">;tag=")
        if found and tag.isalnum():
            value = f"{address}>"
    uri = _KNOWN_URIS.get(value)
    if uri is None:
        uri = Uri.parse(Address.read(value).uri_text)
        if value[-1:] == ">" and len(value) <= _CACHED_LENGTH:
            keep(_KNOWN_URIS, value, uri, MOST_ADDRESSES)
    return uri


_TAG: Final = re.compile(r';[ \t\r\n]*tag[ \t\r\n]*(?:=[ \t\r\n]*([^;,"<>= \t\r\n][^;,"<> \t\r\n]*)?)?(?=[; \t\r\n]|$)',
                  re.IGNORECASE)


def tag_of(value: str) -> str:
    """The tag of a From or To value, "" when there is none (s19.3)."""
    _, found, tag = value.partition(">;tag=")
    if found and tag.isalnum() and tag.isascii():
        return tag  # as nearly everybody writes it
    start = max(0, value.rfind(">"))
    if '"' in value[start:]:
        # a ">" or ";" inside a quoted parameter: read it the careful way
        return Address.parse(value).params.get("tag") or ""
    match = _TAG.search(value, start)
    return match.group(1) or "" if match else ""
