"""The machine of one subscription, as its notifier sees it (RFC 6665 s4.2.2, figure 2). Pure.

It takes inputs (a SUBSCRIBE, a change of the state, the answer to a NOTIFY, a timer) and returns its outputs, which
`notifier` performs after it has settled. One NOTIFY is under way at a time, and what has changed meanwhile is told by
the next one: the newest state wins. A NOTIFY that nobody answers is sent again before the subscription is given up.
"""

from __future__ import annotations

from typing import Any, Final

#: Whether this watcher may see the state is not known yet; it may; it is over.
PENDING: Final = "pending"
ACTIVE: Final = "active"
TERMINATED: Final = "terminated"

#: Send a NOTIFY. Payload: True where it must go out, False where one with nothing new need not.
NOTIFY: Final = 0
#: Give up the NOTIFY under way. Payload: None.
ABANDON: Final = 1
#: Ask for a turn, which `turn` brings when many are to be told at once. Payload: None.
QUEUE: Final = 2
#: Start the timer that brings `later`, instead of the one that runs. Payload: seconds, None for no timer any more.
LATER: Final = 3
#: Start the timer that brings `expired`, instead of the one that runs. Payload: seconds.
DEADLINE: Final = 4
#: It is over: forget it. Payload: what is wrong with the watcher, for people; "" for an end in good order.
OVER: Final = 5

Output = tuple[int, Any]

#: Seconds until a NOTIFY that came to nothing is sent again; when all are used up the watcher is gone.
WAITS: Final = (5.0, 15.0, 60.0, 120.0, 300.0)
#: A Retry-After beyond this counts as this (seconds).
LONGEST_ASKED: Final = 3600
#: RFC 6665 s4.1.2.2, s4.2.2: answers to a SUBSCRIBE or a NOTIFY that end the subscription.
ENDING = frozenset({404, 405, 410, 416, *range(480, 486), 489, 501, 604})
#: Answers that speak of the moment: the same may be taken a while later.
_PASSING = frozenset({408, 413, 429, 491, 500, 502, 503, 504})


class Subscription:
    """One subscription. `least` is the shortest time between two NOTIFYs of changes (seconds), but for `burst` of them
    that may follow each other at once after a pause; `granted` says whether the watcher is known to be allowed; `now`
    is seconds of a clock that only goes forward."""

    __slots__ = ("state", "reason", "again", "until", "allowed", "_least", "_slack", "_sending", "_stale", "_waiting",
                 "_failures", "_free_at", "_retrying", "_queued", "_asked_for")

    def __init__(self, least: float, granted: bool = True, burst: int = 1) -> None:
        self.state: str = ACTIVE if granted else PENDING
        #: Whether the watcher may be told anything: not while it is pending, nor when it ends so.
        self.allowed = granted
        #: Why it is terminated, as Subscription-State says it.
        self.reason = ""
        #: And after how many seconds the watcher may ask again, 0 for nothing said.
        self.again = 0
        #: When it expires.
        self.until = 0.0
        self._least = least
        self._slack = least * (burst - 1)
        #: A NOTIFY is under way; something it does not tell has changed since.
        self._sending = self._stale = False
        #: The timer of `later` runs; it waits for another attempt; a turn was asked for.
        self._waiting = self._retrying = self._queued = False
        self._failures = 0
        #: When changes may be told again.
        self._free_at = float("-inf")
        #: The NOTIFY under way is one that the watcher asked for: it is not among those that are counted.
        self._asked_for = False

    def left(self, now: float) -> int:
        """The seconds until it expires, never rounded up: a NOTIFY does not lengthen it (s4.2.2)."""
        return max(0, int(self.until - now + 0.001))

    @property
    def sending(self) -> bool:
        """True while a NOTIFY is under way."""
        return self._sending

    # --- what the watcher does

    def subscribed(self, now: float, seconds: float) -> list[Output]:
        """s4.2.1.2, s4.2.1.4: a SUBSCRIBE was answered 200, the first one or another; 0 seconds end it (s4.4.3)."""
        if self.state == TERMINATED:
            return []
        self._failures = 0
        if seconds <= 0:
            return self._end("timeout")
        self.until = now + seconds
        return [(DEADLINE, seconds), *self._tell()]

    def answered(self, now: float, status: int, retry_after: int = 0) -> list[Output]:
        """The final answer to the NOTIFY under way; a `status` of 0 is no answer at all."""
        self._sending = False
        if self.state == TERMINATED:
            return [(OVER, "")]
        if status in ENDING:
            self.state = TERMINATED
            return [(OVER, f"the watcher answered {status}")]
        if not status or status in _PASSING:
            return self._failed(status, retry_after)
        # s4.2.2, RFC 5057: whatever else is answered is about this NOTIFY alone
        self._failures = 0
        if not self._asked_for:
            self._free_at = max(self._free_at, now - self._slack) + self._least
        return self._ask(now) if self._stale else []

    def moved(self) -> list[Output]:
        """The watcher is reached somewhere else from now on: what is under way, or was lost, goes there at once."""
        return self._tell() if self._sending else self.seen()

    def seen(self) -> list[Output]:
        """The watcher is there, where it was: what was lost is sent again at once."""
        return self._tell() if self._retrying or self._failures else []

    # --- what happens here

    def granted(self) -> list[Output]:
        """The watcher may see the state after all."""
        if self.state != PENDING:
            return []
        self.state = ACTIVE
        self.allowed = True
        return self._tell()

    def changed(self, now: float) -> list[Output]:
        """The state is another one, or may be."""
        if self.state != ACTIVE or self._stale:
            return []
        self._stale = True
        if self._sending or self._waiting:
            return []
        return self._ask(now)

    def restored(self, now: float, seconds: float) -> list[Output]:
        """After a restart: so many seconds are left, and nobody knows what the watcher was told last."""
        self.until = now + seconds
        self._stale = self._queued = self._retrying = True
        return [(DEADLINE, max(0.0, seconds)), (QUEUE, None)]

    def turn(self) -> list[Output]:
        """Its turn, when many are told."""
        self._queued = False
        if self._sending or self._waiting or not self._stale or self.state == TERMINATED:
            return []
        must, self._retrying = self._retrying, False
        self._begin(False)
        return [(NOTIFY, must)]

    def skipped(self) -> list[Output]:
        """The NOTIFY had nothing new to tell and was not sent."""
        self._sending = False
        return []

    def later(self, now: float) -> list[Output]:
        """The timer of LATER."""
        self._waiting = False
        self._free_at = min(self._free_at, now)  # it is time, however the clock rounds
        return self._ask(now) if self._stale and self.state != TERMINATED else []

    def expired(self) -> list[Output]:
        """The timer of DEADLINE (s4.2.1.4)."""
        return [] if self.state == TERMINATED else self._end("timeout")

    def ended(self, reason: str, again: int = 0) -> list[Output]:
        """It is ended here: `reason` as Subscription-State has it (s4.1.3), and retry-after where it is not 0."""
        if self.state == TERMINATED:
            return []
        self.again = again
        return self._end(reason)

    # --- what they share

    def _begin(self, asked_for: bool) -> None:
        self._sending, self._stale, self._asked_for = True, False, asked_for

    def _tell(self) -> list[Output]:
        """A NOTIFY at once; one that is under way has become old."""
        outputs: list[Output] = [(ABANDON, None)] if self._sending else []
        if self._waiting:
            outputs.append((LATER, None))
        self._waiting = self._retrying = False
        self._begin(True)
        return [*outputs, (NOTIFY, True)]

    def _ask(self, now: float) -> list[Output]:
        """A turn, as soon as this watcher may be told something again."""
        if now < self._free_at:
            self._waiting = True
            return [(LATER, self._free_at - now)]
        if self._queued:
            return []
        self._queued = True
        return [(QUEUE, None)]

    def _failed(self, status: int, retry_after: int) -> list[Output]:
        if self._failures == len(WAITS):
            self.state = TERMINATED
            return [(OVER, f"the watcher answered {status} again and again" if status else "the watcher is silent")]
        wait = max(WAITS[self._failures], float(min(retry_after, LONGEST_ASKED)))
        self._failures += 1
        self._stale = self._retrying = self._waiting = True
        return [(LATER, wait)]

    def _end(self, reason: str) -> list[Output]:
        self.state, self.reason = TERMINATED, reason
        return self._tell()
