"""The non-INVITE server transaction (RFC 3261 s17.2.2, figure 8, with RFC 4320)."""

from __future__ import annotations

from typing import Final

from sipd.message.message import Request
from sipd.transaction.machine import END, FINISH, NOTHING, SEND, START, Outputs
from sipd.transaction.timers import J, TimerValues

TRYING: Final = 0
PROCEEDING: Final = 1
COMPLETED: Final = 2
TERMINATED: Final = 3

STATES: Final = ("trying", "proceeding", "completed", "terminated")


class NonInviteServer:
    """One request other than INVITE and ACK received."""

    __slots__ = ("state", "_values", "_reliable", "_last")

    def __init__(self, values: TimerValues, reliable: bool) -> None:
        self.state = TRYING
        self._values = values
        self._reliable = reliable
        self._last = b""

    def respond(self, status: int, data: bytes) -> Outputs:
        """The user answers with a response, `data` as sent."""
        if self.state >= COMPLETED:
            return NOTHING  # s17.2.2: any other final response is discarded
        self._last = data
        if status < 200:
            self.state = PROCEEDING
            return ((SEND, data),)
        if self._reliable:  # s17.2.2: timer J is zero
            self.state = TERMINATED
            self._last = b""
            return ((SEND, data), (END, None))
        self.state = COMPLETED
        return ((SEND, data), (START, (J, self._values.timeout)))

    def request(self, request: Request) -> Outputs:
        """The request again: discarded while nothing was answered, else the last response is sent again (s17.2.2)."""
        return ((SEND, self._last),) if self._last else NOTHING

    def timer(self, timer: int) -> Outputs:
        """A timer fired."""
        return self._end() if timer == J and self.state == COMPLETED else NOTHING

    def abandon(self) -> Outputs:
        """RFC 4320 s4.2: nobody is told that no answer came; the transaction just ends."""
        return self._end() if self.state != TERMINATED else NOTHING

    def _end(self) -> Outputs:
        self.state = TERMINATED
        self._last = b""
        return FINISH
