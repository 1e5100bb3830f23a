"""What the compiler of the optional compiled build reads in the sources (setup.py), and nobody else.

Not compiled itself: there the branch that gives the name its value would be taken for one that is never run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:
    def mypyc_attr(**attributes):
        """Leaves the class it decorates as it is; the library of that name need not be here."""
        return lambda decorated: decorated
