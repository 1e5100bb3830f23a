"""What was read is kept by its text: what many messages have in common is read once.

It is in plain dicts of those who read it, whose names have KNOWN in them, for each message is looked up there some ten
times: that takes no function. The texts come from the network, so their number has a bound here; how long they may be
is for those who read them.
"""

from __future__ import annotations

from typing import Final, TypeVar

_Read = TypeVar("_Read")

#: So many texts of a kind; of names and addresses, which are as many as there are users, twice as many.
MOST: Final = 4096
MOST_ADDRESSES: Final = 8192


def keep(known: dict[str, _Read], text: str, read: _Read, most: int) -> None:
    """Keeps what was read of a text. A dict that is full is begun anew: to know what was met least of late would cost
    every look-up."""
    if len(known) >= most:
        known.clear()
    known[text] = read
