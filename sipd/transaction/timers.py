"""The timers of RFC 3261 table 4, with L and M of RFC 6026, in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# The timers by name. A, E and G repeat a message; the others end a state. A transaction runs one of these and one of
# the others at most.
A: Final = 0
B: Final = 1
D: Final = 3
E: Final = 4
F: Final = 5
G: Final = 6
H: Final = 7
I: Final = 8  # noqa: E741  the RFC's name
J: Final = 9
K: Final = 10
L: Final = 11
M: Final = 12


@dataclass(frozen=True, slots=True)
class TimerValues:
    """T1 (round-trip time estimate), T2 (longest repeat interval), T4 (longest life of a message in the network)."""

    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0

    @property
    def timeout(self) -> float:
        """64*T1: timers B, F, H, J, L and M, and D, which must be 32 s at least over UDP."""
        return 64 * self.t1

    @property
    def trying(self) -> float:
        """When a client's timer E reaches T2: the only time for a 100 to a non-INVITE (RFC 4320 s4.1)."""
        elapsed, interval = 0.0, self.t1
        while interval < self.t2:
            elapsed += interval
            interval *= 2
        return elapsed
