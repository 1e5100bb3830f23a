"""What becomes of a MESSAGE to a user here whom nobody reaches: it is stored (RFC 3428 s7), after everything else that
there was to try."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sipd.binding import Binding
from sipd.message.message import Request
from sipd.messages.mailboxes import Mailboxes, Refusal
from sipd.messages.stored import StoredMessage
from sipd.messages.verdict import UNREACHED
from sipd.proxy.targets import Groups, Plan, Stage
from sipd.wheel import TimerWheel

if TYPE_CHECKING:
    from sipd.location.service import Location
    from sipd.messages.delivery import Delivery

#: Seconds that a phone may be silent before the message is stored. Its sender waits for 32 s (RFC 3261 s17.1.2.2), and
#: what comes later than that does not reach them (RFC 4320 s4.2). All groups of phones together have less.
_PATIENCE, _TOGETHER = 8.0, 24.0


class OfflinePlan:
    """For one MESSAGE. `groups` is where it goes first, each for `patience` seconds; `first` what the configuration
    wants tried before this, else None; `held` where it would go if it had not to wait for older ones."""

    __slots__ = ("groups", "patience", "_offline", "_request", "_aor", "_bindings", "_held", "_first")

    def __init__(self, offline: Offline, request: Request, aor: str, bindings: Sequence[Binding], groups: Groups,
                 held: Groups, first: Plan | None) -> None:
        self.groups = groups
        self.patience = patience_for(groups)
        self._offline = offline
        self._request = request
        self._aor = aor
        self._bindings = bindings
        self._held = held
        self._first = first

    def next(self, status: int, done: Callable[[Stage | None], None]) -> None:
        """See Plan."""
        first = self._first
        if first is None:
            self._store(status, done)
            return

        def said(stage: Stage | None) -> None:
            if stage is None:
                self._store(status, done)
            elif stage.groups:
                stage.patience = stage.patience or patience_for(stage.groups)
                done(stage)
            elif stage.status in UNREACHED:
                self._store(stage.status, done, stage)
            else:
                done(stage)

        first.next(status, said)

    def _store(self, status: int, done: Callable[[Stage | None], None], otherwise: Stage | None = None) -> None:
        """Stores it after `status`; `otherwise` is the answer when it is not to be kept, None for what phones said."""
        if status and status not in UNREACHED:
            done(otherwise)  # somebody said something that the sender is to hear
            return
        silent = status in (408, 504)

        def accepted(message: StoredMessage | None, refusal: Refusal | None) -> None:
            if message is not None:
                self._offline.tried(message, self._bindings, silent)
                done(Stage([], status=202, late=lambda: self._offline.taken(message)))
            elif self._held and not status:
                done(Stage(self._held, patience_for(self._held)))  # it is not to be kept, and they are there
            elif refusal is None or (status and not refusal.retry_after and not refusal.reason):
                done(otherwise)
            else:
                again = (("Retry-After", str(refusal.retry_after)),) if refusal.retry_after else ()
                done(Stage([], status=refusal.status, reason=refusal.reason, headers=again))

        self._offline.boxes.accept(self._request, self._aor, accepted)


class Offline:
    """Makes the plans. `hold`: seconds for which a relayed MESSAGE is under way at most, though its sender may have had
    an answer before."""

    def __init__(self, boxes: Mailboxes, delivery: Delivery, location: Location, wheel: TimerWheel,
                 hold: float) -> None:
        self.boxes = boxes
        self.hold = hold
        self._delivery = delivery
        self._location = location
        self._wheel = wheel

    def plan(self, request: Request, aor: str, bindings: Sequence[Binding], groups: Groups) -> OfflinePlan:
        """For a MESSAGE to `aor` that goes to `bindings`, in these groups. While older ones are being delivered it
        waits behind them."""
        box = self.boxes.boxes.get(aor)
        if box is not None and box.round is not None:
            return OfflinePlan(self, request, aor, bindings, [], groups, None)
        return OfflinePlan(self, request, aor, bindings, groups, [], None)

    def after(self, request: Request, aor: str, first: Plan) -> OfflinePlan:
        """For one that goes where `first` says."""
        return OfflinePlan(self, request, aor, self._location.bindings(aor), [], [], first)

    def tried(self, message: StoredMessage, bindings: Sequence[Binding], silent: bool) -> None:
        """It was relayed to these, without success; where nobody answered somebody may have it, or get it yet."""
        if silent:
            message.seen = True
            message.not_before = self._wheel.now + max(0.0, self.hold - _PATIENCE)
        self._delivery.tried(message.aor, bindings)

    def taken(self, message: StoredMessage) -> None:
        """Somebody has taken it after all."""
        if message.ending is None:
            self.boxes.end(message)


def patience_for(groups: Groups) -> float:
    """Seconds that each group has."""
    return min(_PATIENCE, _TOGETHER / len(groups)) if groups else 0.0
