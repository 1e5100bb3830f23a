"""The INVITE server transaction (RFC 3261 s17.2.1, figure 7, as amended by RFC 6026 s7.1)."""

from __future__ import annotations

from typing import Final

from sipd.message.message import Request
from sipd.transaction.machine import END, FAIL, FINISH, NOTHING, SEND, START, STOP_DEADLINE, STOP_REPEAT, UP, Outputs
from sipd.transaction.timers import G, H, I, L, TimerValues

PROCEEDING: Final = 0
COMPLETED: Final = 1
CONFIRMED: Final = 2
ACCEPTED: Final = 3
TERMINATED: Final = 4

STATES: Final = ("proceeding", "completed", "confirmed", "accepted", "terminated")


class InviteServer:
    """One INVITE received. The 100 is sent by the layer as the first provisional response."""

    __slots__ = ("state", "_values", "_reliable", "_last", "_interval")

    def __init__(self, values: TimerValues, reliable: bool) -> None:
        self.state = PROCEEDING
        self._values = values
        self._reliable = reliable
        #: The response to repeat, as sent.
        self._last = b""
        self._interval = values.t1

    def respond(self, status: int, data: bytes) -> Outputs:
        """The user answers with a response, `data` as sent."""
        state = self.state
        if state == PROCEEDING:
            if status < 200:
                self._last = data
                return ((SEND, data),)
            if status < 300:
                # RFC 6026 s7.1: a 2xx leads to Accepted; its repeats come from the user, timer L ends it
                self.state = ACCEPTED
                self._last = b""
                return ((SEND, data), (START, (L, self._values.timeout)))
            return self._complete(data)
        if state == ACCEPTED and 200 <= status < 300:
            return ((SEND, data),)
        return NOTHING

    def _complete(self, data: bytes) -> Outputs:
        """s17.2.1: timer G repeats the response over an unreliable transport, timer H gives up the wait for the ACK."""
        self.state = COMPLETED
        self._last = data
        values = self._values
        if self._reliable:
            return ((SEND, data), (START, (H, values.timeout)))
        return ((SEND, data), (START, (G, values.t1)), (START, (H, values.timeout)))

    def request(self, request: Request) -> Outputs:
        """The INVITE again: the last response is sent again (s17.2.1); in Accepted it is absorbed (RFC 6026 s7.1)."""
        return ((SEND, self._last),) if self.state <= COMPLETED and self._last else NOTHING

    def ack(self, request: Request) -> Outputs:
        """An ACK with the INVITE's branch: it ends the repeats of a non-2xx; for a 2xx it is the user's."""
        if self.state == COMPLETED:
            self._last = b""
            if self._reliable:  # timer I is zero
                self.state = TERMINATED
                return FINISH
            self.state = CONFIRMED
            return ((STOP_REPEAT, None), (STOP_DEADLINE, None), (START, (I, self._values.t4)))
        return ((UP, request),) if self.state == ACCEPTED else NOTHING

    def timer(self, timer: int) -> Outputs:
        """A timer fired."""
        state = self.state
        if timer == G and state == COMPLETED:
            self._interval = min(2 * self._interval, self._values.t2)
            return ((SEND, self._last), (START, (G, self._interval)))
        if timer == H and state == COMPLETED:
            self.state = TERMINATED
            return ((STOP_REPEAT, None), (FAIL, "no ACK"), (END, None))
        if (timer == I and state == CONFIRMED) or (timer == L and state == ACCEPTED):
            self.state = TERMINATED
            return FINISH
        return NOTHING

    def abandon(self) -> Outputs:
        """Ends without a final response; for a server that stops."""
        if self.state == TERMINATED:
            return NOTHING
        self.state = TERMINATED
        return FINISH
