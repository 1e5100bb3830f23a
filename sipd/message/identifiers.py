"""Branches and tags of our own (RFC 3261 s8.1.1.7, s19.3), and chance."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

#: Every branch of RFC 3261 begins with this (s8.1.1.7).
MAGIC_COOKIE: Final = "z9hG4bK"

#: Gives so many random octets.
Entropy = Callable[[int], bytes]

_POOL: Final = 4096


def keyed_hash(key: bytes, digest_size: int) -> blake2b:
    """A BLAKE2b to copy for each text that is hashed with this key. BLAKE2b's own key takes a whole block, which each
    copy would take in again; 32 octets of it in front, which is as good, leave room for most texts beside it."""
    keyed = blake2b(digest_size=digest_size)
    keyed.update(blake2b(key=key, digest_size=32).digest())
    return keyed


def chance(entropy: Entropy) -> float:
    """A number from 0 to 1."""
    return int.from_bytes(entropy(2), "big") / 65535


class Identifiers:
    """Makes identifiers that nobody can guess, 64 bits each; chance is drawn in bulk, since each draw is a system call.

    Branches are compared without regard to case, so they are in lower case after the cookie.
    """

    __slots__ = ("_entropy", "_pool", "_position")

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._pool = ""
        self._position = 0

    def tag(self) -> str:
        """A tag (s19.3)."""
        position = self._position
        if position >= len(self._pool):
            self._pool = self._entropy(_POOL).hex()
            position = 0
        self._position = position + 16
        return self._pool[position:position + 16]

    def branch(self) -> str:
        """A branch for one request sent (s8.1.1.7)."""
        return MAGIC_COOKIE + self.tag()
