"""The package presence (RFC 3856): what publishers say of somebody, else what registrations and calls tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b

from sipd.events import pidf
from sipd.events.package import Asked, Document, Publication


class Presence:
    """The package. `publications` gives what was published for an entity; `doing` what somebody does as far as we see,
    a word of `pidf`."""

    name: str = "presence"
    kinds: tuple[str, ...] = (pidf.PIDF, pidf.CPIM, pidf.XPIDF)
    published: tuple[str, ...] = (pidf.PIDF,)
    #: s6.4.
    duration: int = 3600
    #: s6.10.
    least: float = 5.0
    burst: int = 1
    partial: bool = False

    def __init__(self, publications: Callable[[str, str], Iterable[Publication]], doing: Callable[[str], str]) -> None:
        self._publications = publications
        self._doing = doing

    def document(self, asked: Asked, last: object | None) -> Document:
        """See Package."""
        published = [pidf.read(one.body) for one in self._publications(self.name, asked.entity)]
        whole = pidf.merge(asked.entity, published) if published else pidf.derived(
            asked.entity, self._doing(asked.entity))
        text = pidf.written(whole, asked.kind)
        # every watcher holds what it was told: 16 octets instead of some hundred
        told = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()
        return Document(asked.kind, told, text)

    def check(self, kind: str, body: bytes) -> None:
        """See Package."""
        pidf.read(body)
