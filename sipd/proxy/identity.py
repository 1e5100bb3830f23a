"""Our account at a trunk, and what the trunk is told of who calls (RFC 3323, RFC 3325, Remote-Party-ID). Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sipd.auth.keyring import Keyring
from sipd.message.address import Address
from sipd.message.errors import MalformedMessage
from sipd.message.message import Request
from sipd.message.uri import Uri, escape

#: RFC 3323 s4.1: From of somebody who wants to stay unknown.
ANONYMOUS: Final = '"Anonymous" <sip:anonymous@anonymous.invalid>'
ANONYMOUS_HOST: Final = "anonymous.invalid"
#: Fields that say who calls.
_IDENTITIES: Final = ("p-asserted-identity", "p-preferred-identity", "remote-party-id")
#: Words of Privacy that ask not to be known (RFC 3323 s4.2, RFC 3325 s9.3, and what came before).
_PRIVATE: Final = frozenset({"id", "user", "header", "full"})


class Account:
    """Our account at a trunk, and what is the same in every request to it.

    `keyring` None: challenges are the caller's affair. `user` and `domain` are what From gets, "" for what stands
    there; `number` is shown for every caller, "" for their own; `carrier` is the trunk's URI. `sends`: how it is told
    who calls besides From, "pai" by P-Asserted-Identity (RFC 3325), "rpid" by Remote-Party-ID, "both" or "none"; of
    those who asked for privacy only where `trusted()`. `is_at(address)`: the trunk is known to be there.
    """

    __slots__ = ("name", "keyring", "user", "domain", "number", "carrier", "sends", "is_at", "trusted")

    def __init__(self, name: str, carrier: Uri, keyring: Keyring | None, user: str, domain: str, number: str,
                 sends: str, is_at: Callable[[str], bool], trusted: Callable[[], bool]) -> None:
        self.name = name
        self.carrier = carrier
        self.keyring = keyring
        self.user = user
        self.domain = domain
        self.number = number
        self.sends = sends
        self.is_at = is_at
        self.trusted = trusted

    def uri(self, user: str) -> str:
        """Somebody at the carrier; `user` as written in a URI."""
        return f"{self.carrier.scheme}:{user}@{self.domain or self.carrier.host}"

    def look(self, address: Address) -> str:
        """The URI that From gets; the one that it has where nothing is to be changed."""
        if not (self.user or self.number or self.domain):
            return address.uri_text
        wanted = escape(self.user or self.number)
        return self.uri(wanted or user_of(address.uri))

    def identify(self, request: Request) -> None:
        """RFC 3325 s5, s7: tells the trunk who calls, as far as it is to know. Who that is says an identity that was
        found good before, else From."""
        asserted, private = request.values("p-asserted-identity"), is_private(request)
        display = user = ""
        try:
            address = Address.parse(asserted[0] if asserted else request.first["from"])
            if asserted or address.uri.host != ANONYMOUS_HOST:
                display, user = address.display, user_of(address.uri)
        except MalformedMessage:
            pass  # what is asserted cannot be read, so nobody is named
        without_identity(request)
        user = escape(self.number) or user
        if not user or self.sends == "none" or (private and not self.trusted()):
            return
        value = str(Address(display, self.uri(user)))
        if self.sends != "rpid":
            request.add("P-Asserted-Identity", value)
        if self.sends != "pai":
            request.add("Remote-Party-ID", f"{value};party=calling;screen=yes;privacy={'full' if private else 'off'}")
        if private:
            words = request.first.get("privacy", "")
            if "id" not in _words(words):
                request.set("privacy", f"{words};id" if words else "id")


def is_private(request: Request) -> bool:
    """Whether who calls asked not to be known: by Privacy (RFC 3323, 3325), or by From itself."""
    words = _words(request.first.get("privacy", ""))
    if "none" in words:
        return False
    return not words.isdisjoint(_PRIVATE) or Address.parse(request.first["from"]).uri.host == ANONYMOUS_HOST


def _words(privacy: str) -> set[str]:
    return {word.strip(" \t").lower() for word in privacy.replace(",", ";").split(";")}


def without_identity(request: Request) -> None:
    """Takes away what the caller wrote of who calls: it is not for a trunk."""
    for name in _IDENTITIES:
        request.remove(name)


def user_of(uri: Uri) -> str:
    """The user part, as written; of a URI that is no SIP URI, such as tel:+4930123, the number."""
    if uri.is_sip:
        return uri.user or ""
    return escape((uri.user or "").partition(";")[0])
