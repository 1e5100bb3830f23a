"""A timer wheel: thousands of timers, most of which never fire, at the cost of a dict entry each.

Time is cut into slots of `tick` seconds; a timer fires in the first slot that begins when its delay is over, so never
early and at most two ticks late. One reactor call stands for the earliest slot in use, none when no timer is running.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

_log = Logger()


class Timer:
    """A running timer. `cancel` may be called at any time, also after it fired."""

    __slots__ = ("_slot", "function", "argument")

    _slot: dict[Timer, None] | None
    function: Callable[[Any], None]
    argument: Any

    def cancel(self) -> None:
        """Stops the timer."""
        slot = self._slot
        if slot is not None:
            self._slot = None
            del slot[self]


class TimerWheel:
    """Runs timers on a clock (IReactorTime); `tick` in seconds."""

    __slots__ = ("_clock", "_seconds", "_tick", "_slots", "_order", "_call", "_earliest")

    def __init__(self, clock: IReactorTime, tick: float = 0.02) -> None:
        self._clock = clock
        self._seconds: Callable[[], float] = clock.seconds
        self._tick = tick
        self._slots: dict[int, dict[Timer, None]] = {}
        self._order: list[int] = []
        self._call: IDelayedCall | None = None
        self._earliest = 0

    def start(self, delay: float, function: Callable[[Any], None], argument: Any) -> Timer:
        """Calls `function(argument)` after `delay` seconds."""
        number = int((self._seconds() + delay) / self._tick) + 1
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = {}
            heappush(self._order, number)
            if self._call is None or number < self._earliest:
                self._arm(number)
        timer = Timer()
        timer._slot = slot
        timer.function = function
        timer.argument = argument
        slot[timer] = None
        return timer

    @property
    def now(self) -> float:
        """Seconds of the clock."""
        return self._seconds()

    def running(self) -> list[tuple[float, Callable[[Any], None], Any]]:
        """Every timer that runs: seconds until its slot begins, its function and its argument."""
        now = self._seconds()
        return [(number * self._tick - now, timer.function, timer.argument)
                for number, slot in self._slots.items() for timer in slot]

    def __len__(self) -> int:
        """How many timers are running."""
        return sum(map(len, self._slots.values()))

    def _arm(self, number: int) -> None:
        if self._call is not None:
            self._call.cancel()
        self._earliest = number
        delay = number * self._tick - self._seconds()
        self._call = self._clock.callLater(max(0.0, delay), self._turn)

    def _disarmed(self) -> None:
        # in a method of its own: what fires may arm the wheel again, and a type checker that has just seen the None
        # takes it for lasting, as does the code mypyc makes
        self._call = None

    def _turn(self) -> None:
        """Fires every slot whose time has come."""
        self._disarmed()
        # the hundredth forgives the rounding of a clock that wakes us exactly at the slot's beginning
        due = int(self._seconds() / self._tick + 0.01)
        order, slots = self._order, self._slots
        while order and order[0] <= due:
            slot = slots.pop(heappop(order))
            for timer in list(slot):
                if timer._slot is None:
                    continue  # cancelled by one that fired before it
                timer._slot = None
                try:
                    timer.function(timer.argument)
                except Exception:
                    # one timer's bug must not stop the timers after it
                    _log.failure("a timer failed")
        if order and (self._call is None or order[0] < self._earliest):
            self._arm(order[0])
