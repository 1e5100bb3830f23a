"""A reactor with a shorter way from the kernel to a message: Twisted's epoll reactor with another `doPoll`.

Twisted goes through its main loop once for each wake-up, and hands each descriptor to its log's context first. That is
a dozen Python functions, little beside a busy server's work; but after some idle milliseconds they are out of the
processor's caches: 25 to 50 us a wake-up, where the rest of a REGISTER costs 60. Here the loop goes on where it is
until there is something that only the main loop does: a timed call, a call from a thread, a stop.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor

#: Wake-ups in a row before the main loop has its turn in any case.
ROUNDS = 64
#: Seconds of one wait while there is a timed call; the kernel counts milliseconds in 31 bits.
_LONGEST = 3600.0


class Reactor(EPollReactor):
    """Serves descriptors as EPollReactor does, without the detours."""

    # Beside public methods it uses of Twisted's own: _poller, _selectables, _doReadOrWrite, _newTimedCalls,
    # _pendingTimedCalls and _stopped, which have been there for more than ten years.

    def doPoll(self, timeout: float | None) -> None:
        """Waits `timeout` seconds, for ever when it is None, and serves what becomes ready; goes on with that until
        nothing comes in time, or the main loop has something to do."""
        poll, selectables, serve = self._poller.poll, self._selectables, self._doReadOrWrite
        wait = -1 if timeout is None else timeout
        for _ in range(ROUNDS):
            events = poll(wait, len(selectables))
            for descriptor, event in events:
                selectable = selectables.get(descriptor)
                if selectable is not None:
                    serve(selectable, descriptor, event)  # it catches what the descriptor raises
            if not events or timeout == 0 or self._newTimedCalls or self.threadCallQueue or self._stopped:
                return
            # a call may have been moved nearer meanwhile
            calls = self._pendingTimedCalls
            wait = min(calls[0].time - self.seconds(), _LONGEST) if calls else -1
            if calls and wait <= 0:
                return

    doIteration = doPoll


def install() -> None:
    """Makes it this process's reactor, unless there is one already: whoever runs twistd may choose another."""
    if "twisted.internet.reactor" not in sys.modules:
        reactor: Any = Reactor()
        installReactor(reactor)
