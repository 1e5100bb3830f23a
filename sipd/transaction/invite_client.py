"""The INVITE client transaction (RFC 3261 s17.1.1, figure 5, as amended by RFC 6026 s7.2)."""

from __future__ import annotations

from typing import Final

from sipd.message.compose import hop_by_hop
from sipd.message.message import Request, Response
from sipd.transaction.machine import END, FAIL, FINISH, NOTHING, SEND, START, STOP_DEADLINE, STOP_REPEAT, UP, Outputs
from sipd.transaction.timers import A, B, D, M, TimerValues

CALLING: Final = 0
PROCEEDING: Final = 1
COMPLETED: Final = 2
ACCEPTED: Final = 3
TERMINATED: Final = 4

STATES: Final = ("calling", "proceeding", "completed", "accepted", "terminated")


class InviteClient:
    """One INVITE sent to one hop. `reliable` tells of the transport; `data` is the request as sent."""

    __slots__ = ("state", "_values", "_reliable", "_request", "_data", "_interval")

    def __init__(self, values: TimerValues, reliable: bool, request: Request, data: bytes) -> None:
        self.state = CALLING
        self._values = values
        self._reliable = reliable
        self._request: Request | None = request
        #: The octets to repeat: the INVITE, later the ACK.
        self._data = data
        self._interval = values.t1

    def start(self) -> Outputs:
        """s17.1.1.2: send it; timer A repeats it over an unreliable transport, timer B gives up."""
        values = self._values
        if self._reliable:
            return ((SEND, self._data), (START, (B, values.timeout)))
        return ((SEND, self._data), (START, (A, values.t1)), (START, (B, values.timeout)))

    def response(self, response: Response) -> Outputs:
        """A response that matches."""
        return _ON_RESPONSE[self.state](self, response)

    def timer(self, timer: int) -> Outputs:
        """A timer fired."""
        state = self.state
        if state == CALLING and timer == A:
            # s17.1.1.2: the interval doubles with each repeat, without the bound T2
            self._interval *= 2
            return ((SEND, self._data), (START, (A, self._interval)))
        if state == CALLING and timer == B:
            return self._fail("")
        if (state == COMPLETED and timer == D) or (state == ACCEPTED and timer == M):
            return self._end()
        return NOTHING

    def transport_error(self, reason: str) -> Outputs:
        """s17.1.4: the transport could not deliver the request. After a provisional response it plainly did."""
        if self.state == CALLING:
            return self._fail(reason)
        if self.state == COMPLETED:
            return self._end()
        return NOTHING

    def _calling(self, response: Response) -> Outputs:
        if response.status < 200:
            # s17.1.1.2: a provisional response ends the repeats; how long it may ring is the user's affair (timer C)
            self.state = PROCEEDING
            self._data = b""
            return ((STOP_REPEAT, None), (STOP_DEADLINE, None), (UP, response))
        return ((STOP_REPEAT, None), (STOP_DEADLINE, None), *self._final(response))

    def _proceeding(self, response: Response) -> Outputs:
        if response.status < 200:
            return ((UP, response),)
        return self._final(response)

    def _final(self, response: Response) -> Outputs:
        values = self._values
        if response.status < 300:
            # RFC 6026 s7.2: a 2xx leads to Accepted, where timer M waits for more of them
            self.state = ACCEPTED
            self._request = None
            self._data = b""
            return ((UP, response), (START, (M, values.timeout)))
        # s17.1.1.2: any other final response is acknowledged here, hop by hop (s17.1.1.3)
        assert self._request is not None
        self.state = COMPLETED
        self._data = hop_by_hop(self._request, "ACK", response.first["to"]).encode()
        self._request = None
        if self._reliable:  # timer D is zero
            self.state = TERMINATED
            return ((SEND, self._data), (UP, response), (END, None))
        return ((SEND, self._data), (UP, response), (START, (D, max(32.0, values.timeout))))

    def _completed(self, response: Response) -> Outputs:
        # s17.1.1.2: a repeated final response is acknowledged again and goes no further
        return ((SEND, self._data),) if response.status >= 300 else NOTHING

    def _accepted(self, response: Response) -> Outputs:
        # RFC 6026 s7.2: every 2xx is passed on, of whichever fork; anything else is dropped
        return ((UP, response),) if 200 <= response.status < 300 else NOTHING

    def _terminated(self, response: Response) -> Outputs:
        return NOTHING

    def _fail(self, reason: str) -> Outputs:
        self.state = TERMINATED
        self._request = None
        return ((STOP_REPEAT, None), (STOP_DEADLINE, None), (FAIL, reason), (END, None))

    def _end(self) -> Outputs:
        self.state = TERMINATED
        return FINISH


_ON_RESPONSE: Final = (InviteClient._calling, InviteClient._proceeding, InviteClient._completed, InviteClient._accepted,
                InviteClient._terminated)
