"""The machine of one registration of ours at a carrier (RFC 3261 s10.2, RFC 5626 s4.5). Pure.

It takes inputs (an answer, a timer, a wish) and returns its outputs, which `trunks` performs after it has settled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

#: Nothing is asked for; a REGISTER is under way; the registrar granted it; it said no; it cannot be had at present.
UNREGISTERED: Final = "unregistered"
TRYING: Final = "trying"
REGISTERED: Final = "registered"
REFUSED: Final = "refused"
FAILED: Final = "failed"

#: Send a REGISTER. Payload: the seconds to ask for, 0 to remove the binding.
SEND: Final = 0
#: Give up the REGISTER under way. Payload: None.
ABANDON: Final = 1
#: Start the only timer. Payload: seconds.
START: Final = 2
#: Stop it. Payload: None.
STOP: Final = 3
#: It is over: nothing is registered any more, as far as we can tell. Payload: None.
OVER: Final = 4

Output = tuple[int, Any]

#: RFC 5626 s4.5: the wait after a failure doubles from BASE up to LONGEST (seconds); of it one half to all is waited.
BASE, LONGEST = 30.0, 1800.0
#: After a refusal the registrar is left alone for so long, doubling up to the second (seconds).
REFUSED_BASE, REFUSED_LONGEST = 1200.0, 7200.0
#: A Retry-After beyond this counts as this (seconds).
LONGEST_ASKED = 7200
#: What is granted is refreshed when this part of it is over, thrown anew each time.
EARLIEST, LATEST = 0.75, 0.85
#: Seconds until a lost connection is made anew, at the least and at the most.
RECONNECT = (0.5, 3.0)
#: Answers that speak of the moment, not of us: the registrar may say otherwise soon.
_PASSING = frozenset({408, 413, 423, 429, 480, 491})


class Registration:
    """One registration. `chance()` gives a number from 0 to 1; `expires` are the seconds to ask for."""

    __slots__ = ("state", "expires", "wait", "_chance", "_failures", "_refusals", "_may_stand", "_stopping")

    def __init__(self, expires: int, chance: Callable[[], float]) -> None:
        self.state: str = UNREGISTERED
        self.expires = expires
        #: Seconds of the timer that runs, when it was started.
        self.wait = 0.0
        self._chance = chance
        self._failures = self._refusals = 0
        #: The registrar may hold a binding: one was granted, or asked for and never denied.
        self._may_stand = False
        self._stopping = False

    def start(self) -> list[Output]:
        """Registers now: at the start, when its time has come, or because somebody wants it at once."""
        if self.state == TRYING or self._stopping:
            return []
        self.state = TRYING
        self._may_stand = True
        return [(STOP, None), (SEND, self.expires)]

    def answered(self, status: int, granted: int, retry_after: int) -> list[Output]:
        """A final answer to the REGISTER: `granted` seconds, 0 when there is no binding; `retry_after` 0 for none.
        A `status` of 0 is no answer at all."""
        if self._stopping:
            self.state = UNREGISTERED
            self._may_stand = False
            return [(STOP, None), (OVER, None)]
        if 200 <= status < 300 and granted > 0:
            self.state = REGISTERED
            self._failures = self._refusals = 0
            return self._start(granted * (EARLIEST + (LATEST - EARLIEST) * self._chance()))
        if 300 <= status < 500 and status not in _PASSING or status >= 600:
            # s10.2.7: whoever says no is not asked again and again
            self.state = REFUSED
            self._may_stand = False
            self._refusals += 1
            return self._start(self._between(min(REFUSED_LONGEST, REFUSED_BASE * 2.0 ** (self._refusals - 1)),
                                             retry_after))
        self.state = FAILED
        self._failures += 1
        return self._start(self._between(min(LONGEST, BASE * 2.0 ** min(self._failures - 1, 10)), retry_after))

    def lost(self) -> list[Output]:
        """The connection over which the registrar would call us is gone."""
        if self.state != REGISTERED or self._stopping:
            return []
        return self._start(RECONNECT[0] + (RECONNECT[1] - RECONNECT[0]) * self._chance())

    def stop(self) -> list[Output]:
        """Takes the registration away (s10.2.2); for good."""
        if self._stopping:
            return []
        outputs: list[Output] = [(STOP, None)]
        if self.state == TRYING:
            outputs.append((ABANDON, None))
        self._stopping = True
        if not self._may_stand:
            self.state = UNREGISTERED
            return [*outputs, (OVER, None)]
        self.state = TRYING
        return [*outputs, (SEND, 0)]

    def _between(self, longest: float, least: int) -> float:
        """One half to all of `longest`; not less than `least`, as the registrar asked, and then up to a tenth more."""
        part = self._chance()
        return max(longest * (0.5 + 0.5 * part), min(least, LONGEST_ASKED) * (1.0 + 0.1 * part))

    def _start(self, seconds: float) -> list[Output]:
        self.wait = seconds
        return [(STOP, None), (START, seconds)]
