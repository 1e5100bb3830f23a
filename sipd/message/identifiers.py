"""Branches, tags and Call-IDs of our own (RFC 3261 s8.1.1.7, s19.3)."""

from __future__ import annotations

from collections.abc import Callable

#: Every branch of RFC 3261 begins with this (s8.1.1.7).
MAGIC_COOKIE = "z9hG4bK"

Entropy = Callable[[int], bytes]


class Identifiers:
    """Makes identifiers that nobody else makes: a random start per process and a counter, cheaper than dice each time.

    Branches are compared without regard to case, so they are written in lower case after the cookie.
    """

    __slots__ = ("_entropy", "_prefix", "_count")

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._prefix = f"{MAGIC_COOKIE}{entropy(6).hex()}."
        self._count = int.from_bytes(entropy(3), "big")

    def branch(self) -> str:
        """A branch for one request sent (s8.1.1.7)."""
        self._count += 1
        return f"{self._prefix}{self._count:x}"

    def tag(self) -> str:
        """A tag with 64 bits of chance (s19.3 asks for 32)."""
        return self._entropy(8).hex()
