"""A reactor with a shorter way from the kernel to a message: Twisted's epoll reactor with another `doIteration`.

Twisted goes through its main loop once for each wake-up, and hands each descriptor to its log's context first. That is
a dozen Python functions, little beside a busy server's work; but after some idle milliseconds they are out of the
processor's caches: 25 to 50 us a wake-up, where the rest of a REGISTER costs 60. Here the loop goes on where it is
until there is something that only the main loop does: a timed call, a call from a thread, a stop. And it asks our own
UDP ports to read without a detour, so that where it is compiled a datagram meets no function of the interpreter's.
"""

from __future__ import annotations

import select
import sys
from typing import Any, Final

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor

from sipd.compiling import mypyc_attr
from sipd.transport.udp import UdpPort

#: Wake-ups in a row before the main loop has its turn in any case.
ROUNDS: Final = 64
#: Seconds of one wait while there is a timed call; the kernel counts milliseconds in 31 bits.
_LONGEST: Final = 3600.0
_READABLE: Final = select.EPOLLIN


@mypyc_attr(native_class=False)
class Reactor(EPollReactor):
    """Serves descriptors as EPollReactor does, without the detours."""

    # Beside public methods it uses of Twisted's own: _poller, _selectables, _doReadOrWrite, _newTimedCalls,
    # _pendingTimedCalls and _stopped, which have been there for more than ten years.

    def doIteration(self, timeout: float | None) -> None:
        """Waits `timeout` seconds, for ever when it is None, and serves what becomes ready; goes on with that until
        nothing comes in time, or the main loop has something to do."""
        poll, selectables, serve, seconds = self._poller.poll, self._selectables, self._doReadOrWrite, self.seconds
        wait = -1.0 if timeout is None else timeout
        for _ in range(ROUNDS):
            events: list[tuple[int, int]] = poll(wait, len(selectables))
            for descriptor, event in events:
                selectable = selectables.get(descriptor)
                if isinstance(selectable, UdpPort) and event == _READABLE:
                    selectable.doRead()  # raises nothing
                elif selectable is not None:
                    serve(selectable, descriptor, event)  # it catches what the descriptor raises
            if not events or timeout == 0 or self._newTimedCalls or self.threadCallQueue or self._stopped:
                return
            # a call may have been moved nearer meanwhile
            calls: list[Any] = self._pendingTimedCalls
            if not calls:
                wait = -1.0
                continue
            wait = calls[0].time - seconds()
            if wait <= 0:
                return
            wait = min(wait, _LONGEST)


def install() -> None:
    """Makes it this process's reactor, unless there is one already: whoever runs twistd may choose another."""
    if "twisted.internet.reactor" not in sys.modules:
        reactor: Any = Reactor()
        installReactor(reactor)
