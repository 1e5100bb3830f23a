"""The non-INVITE client transaction (RFC 3261 s17.1.2, figure 6)."""

from __future__ import annotations

from typing import Final

from sipd.message.message import Request, Response
from sipd.transaction.machine import END, FAIL, FINISH, NOTHING, SEND, START, STOP_DEADLINE, STOP_REPEAT, UP, Outputs
from sipd.transaction.timers import E, F, K, TimerValues

TRYING: Final = 0
PROCEEDING: Final = 1
COMPLETED: Final = 2
TERMINATED: Final = 3

STATES: Final = ("trying", "proceeding", "completed", "terminated")


class NonInviteClient:
    """One request other than INVITE and ACK, sent to one hop. `data` is the request as sent."""

    __slots__ = ("state", "_values", "_reliable", "_data", "_interval")

    def __init__(self, values: TimerValues, reliable: bool, request: Request, data: bytes) -> None:
        self.state = TRYING
        self._values = values
        self._reliable = reliable
        self._data = data
        self._interval = values.t1

    def start(self) -> Outputs:
        """s17.1.2.2: send it; timer E repeats it over an unreliable transport, timer F gives up."""
        values = self._values
        if self._reliable:
            return ((SEND, self._data), (START, (F, values.timeout)))
        return ((SEND, self._data), (START, (E, values.t1)), (START, (F, values.timeout)))

    def response(self, response: Response) -> Outputs:
        """A response that matches."""
        if self.state >= COMPLETED:
            return NOTHING  # s17.1.2.2: retransmissions of the final response are absorbed
        if response.status < 200:
            if self.state == TRYING:
                self.state = PROCEEDING
            return ((UP, response),)
        self._data = b""
        if self._reliable:  # timer K is zero
            self.state = TERMINATED
            return ((STOP_DEADLINE, None), (UP, response), (END, None))
        self.state = COMPLETED
        return ((STOP_REPEAT, None), (STOP_DEADLINE, None), (UP, response), (START, (K, self._values.t4)))

    def timer(self, timer: int) -> Outputs:
        """A timer fired."""
        state = self.state
        if timer == E and state <= PROCEEDING:
            # s17.1.2.2: the interval doubles up to T2; in Proceeding it is T2
            t2 = self._values.t2
            self._interval = t2 if state == PROCEEDING else min(2 * self._interval, t2)
            return ((SEND, self._data), (START, (E, self._interval)))
        if timer == F and state <= PROCEEDING:
            return self._fail("")
        if timer == K and state == COMPLETED:
            self.state = TERMINATED
            return FINISH
        return NOTHING

    def transport_error(self, reason: str) -> Outputs:
        """s17.1.4: the transport could not deliver the request."""
        return self._fail(reason) if self.state <= PROCEEDING else NOTHING

    def _fail(self, reason: str) -> Outputs:
        self.state = TERMINATED
        return ((STOP_REPEAT, None), (STOP_DEADLINE, None), (FAIL, reason), (END, None))
