"""A location store that answers when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zope.interface import implementer

from sipd.binding import Binding, Change
from sipd.interfaces import ILocationStore


@implementer(ILocationStore)
class WaitingStore:
    """Keeps nothing; what is asked of it waits until it is answered, unless it is not `held`."""

    def __init__(self) -> None:
        self.held = True
        #: What the answers go to, oldest first.
        self.waiting: list[Callable[[str], None]] = []

    def load(self) -> Iterable[Binding]:
        """Nothing was kept."""
        return ()

    def commit(self, changes: list[Change], done: Callable[[str], None]) -> None:
        """Is put off while the store is held."""
        if self.held:
            self.waiting.append(done)
        else:
            done("")

    def close(self) -> None:
        """Nothing to close."""

    def answer(self, reason: str = "") -> None:
        """The oldest commit returns."""
        self.waiting.pop(0)(reason)

    def release(self) -> None:
        """All that wait return, and what comes from now on does at once."""
        self.held = False
        while self.waiting:
            self.answer()
