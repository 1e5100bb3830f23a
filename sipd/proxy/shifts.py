"""How far ahead of its sender a trunk's CSeq of a dialog is (RFC 3261 s12.2.1.1, s22.2). Pure."""

from __future__ import annotations

from typing import Final

#: Changes that are remembered of one dialog: an ACK or a RAck may still speak of an earlier one.
_STEPS: Final = 16


class Steps:
    """How far ahead a trunk's CSeq is, from which of the caller's numbers on."""

    __slots__ = ("places", "last", "highest")

    def __init__(self) -> None:
        #: (a number as its sender counts, what is added from it on), rising.
        self.places: list[tuple[int, int]] = []
        #: The highest number of the sender, and of what was sent.
        self.last = self.highest = 0

    def at(self, number: int, base: int) -> int:
        """What is added to a number."""
        for place, shift in reversed(self.places):
            if place <= number:
                return shift
        return base

    def before(self, number: int, base: int) -> int:
        """The sender's number that became `number`."""
        for place, shift in reversed(self.places):
            if place + shift <= number:
                return number - shift
        return number - base

    def enter(self, number: int, shift: int) -> None:
        """From this number on so much is added."""
        kept = [step for step in self.places if step[0] != number]
        self.places = sorted([*kept, (number, shift)])[-_STEPS:]

    def sent(self, number: int, shift: int) -> None:
        """A request has left with this number and shift."""
        self.last, self.highest = max(self.last, number), max(self.highest, number + shift)
