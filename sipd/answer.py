"""What answers a request that is served here, once and perhaps later.

A class to inherit from, and no function made for each request: where both are compiled, giving an answer is a look into
a C structure, and one object is made instead of four.
"""

from __future__ import annotations

from sipd.compiling import mypyc_attr

#: Header fields of an answer: (name, value) pairs.
Headers = tuple[tuple[str, str], ...]


# those of tests are not compiled
@mypyc_attr(allow_interpreted_subclasses=True)
class Answer:
    """The answer that one request is to get."""

    __slots__ = ()

    def give(self, status: int, reason: str = "", headers: Headers = ()) -> None:
        """Answers, with "" as the reason for the usual phrase. Called once."""
        raise NotImplementedError
