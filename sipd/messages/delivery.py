"""Delivery of stored messages: one user's in their order, one at a time (RFC 3428 s8), when their phone registers.

The phone that has just registered is asked first, then the user's others; each message goes to one of them. What nobody
takes now is tried again after a pause, and at the next registration. A message leaves the store before the next one is
sent, so that a crash repeats one message at most, with the Call-ID, the From tag, the CSeq and the branch it had.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from sipd.binding import Binding, Change
from sipd.core.uac import Ask, Outcome
from sipd.inventory import Inventory, Table
from sipd.journal import Journal
from sipd.message.identifiers import Entropy, chance
from sipd.messages.mailboxes import Mailbox, Mailboxes
from sipd.messages.stored import StoredMessage
from sipd.messages.verdict import DECLINED, DELIVERED, REFUSED, pause, verdict
from sipd.proxy.targets import Target, groups_of
from sipd.wheel import TimerWheel

if TYPE_CHECKING:
    from sipd.core.uac import Sending, Uac
    from sipd.location.service import Location

#: Users whose messages are delivered at the same time: after a power cut all phones come at once.
_AT_ONCE = 50
#: A registration that brings nothing new, a refresh, is no reason to try again within so many seconds.
_REFRESH = 30.0

#: Contact, Call-ID of the registration and flow: a phone that comes anew is another one.
Key = tuple[str, str, str]


def key_of(binding: Binding) -> Key:
    """What tells one registration of a phone from another."""
    return binding.contact, binding.call_id, binding.flow


class Round:
    """One attempt to deliver all that waits for one user."""

    __slots__ = ("box", "left", "current", "message", "sending", "running", "failed", "retry_after")

    def __init__(self, box: Mailbox, left: list[Binding]) -> None:
        self.box = box
        #: The bindings that are not known to be out of reach, best first.
        self.left = left
        #: What is on its way, and where.
        self.current: Binding | None = None
        self.message: StoredMessage | None = None
        self.sending: Sending | None = None
        #: It has its turn.
        self.running = False
        self.failed = False
        #: Seconds that a phone asked for.
        self.retry_after = 0


class Delivery:
    """Delivers what waits. `branch_of` makes a branch that follows from its arguments."""

    def __init__(self, boxes: Mailboxes, location: Location, uac: Uac, wheel: TimerWheel,
                 branch_of: Callable[..., str], entropy: Entropy, journal: Journal, inventory: Inventory) -> None:
        self._boxes = boxes
        self._location = location
        self._uac = uac
        self._wheel = wheel
        self._branch_of = branch_of
        self._entropy = entropy
        self._journal = journal
        #: Rounds under way, and those whose turn comes.
        self._running: Table[str, Round] = inventory.table("messages being delivered", _AT_ONCE)
        self._waiting: Table[str, Round] = inventory.table("messages that queue for delivery", boxes.boxes.limit)
        self._stopped = self._following = False
        boxes.arrived = self.arrived
        boxes.leaves = self.leaves

    def start(self) -> None:
        """Begins with those who are registered; again at will."""
        self._follow()
        for box in list(self._boxes.boxes.values()):
            if box.round is None and not box.tried:
                self._begin(box)

    def stop(self) -> None:
        """Delivers nothing any more."""
        self._stopped = True
        self._location.unwatch(self._changed)
        for box in self._boxes.boxes.values():
            if box.timer is not None:
                box.timer.cancel()
                box.timer = None
            if box.round is not None and box.round.sending is not None:
                box.round.sending.cancel()
            box.round = None
        self._running.clear()
        self._waiting.clear()

    def _follow(self) -> None:
        """Registrations are of interest while something waits."""
        wanted = bool(self._boxes.boxes)
        if wanted != self._following:
            self._following = wanted
            if wanted:
                self._location.watch(self._changed)
            else:
                self._location.unwatch(self._changed)

    # --- when

    def _changed(self, aor: str, changes: Sequence[Change], why: str) -> None:
        """As a watcher of the location service."""
        box = self._boxes.boxes.get(aor)
        if box is None:
            return
        gone = [binding.contact for kind, binding in changes if kind == "delete"]
        if gone:
            # who was gone and comes back does not come for a refresh
            box.tried = {key for key in box.tried if key[0] not in gone}
        for kind, binding in changes:
            if kind == "put":
                self._registered(box, binding)
        if box.round is not None:
            box.round.left = [binding for binding in box.round.left if binding.contact not in gone]
            if box.round.current is not None and box.round.current.contact in gone and box.round.sending is not None:
                # a phone that has moved: what was sent to where it was need not be waited for
                box.round.sending.cancel()
                assert box.round.message is not None
                box.round.message.seen = True
                box.round.sending = box.round.current = None
                self._step(box.round)

    def _registered(self, box: Mailbox, binding: Binding) -> None:
        key, now = key_of(binding), self._wheel.now
        if box.round is not None:
            if key not in box.tried and key not in map(key_of, box.round.left):
                box.round.left.insert(0, binding)
        elif key not in box.tried or now >= box.tried_at + _REFRESH:
            self._begin(box, binding)

    def arrived(self, box: Mailbox) -> None:
        """A message was stored. Somebody may have registered while it was; a phone that is in reach takes what comes
        after others at once, one that was not has its pause."""
        if self._stopped:
            return
        self._follow()
        if box.round is not None:
            return
        bindings = self._location.bindings(box.aor)
        if any(key_of(binding) not in box.tried for binding in bindings):
            self._begin(box)
        elif bindings and box.timer is None:
            self._again(box, 0)

    def reached(self, aor: str) -> None:
        """A phone of somebody answers again: what waits need not wait for its pause."""
        box = self._boxes.boxes.get(aor)
        if box is not None and box.round is None:
            self._begin(box)

    def tried(self, aor: str, bindings: Sequence[Binding]) -> None:
        """The message that waits for `aor` since a moment ago was relayed to these without success."""
        box = self._boxes.boxes.get(aor)
        if box is not None and box.round is None and bindings:
            box.tried.update(map(key_of, bindings))
            box.tried_at = self._wheel.now

    def _again(self, box: Mailbox, retry_after: int) -> None:
        box.failures += 1
        self._wake(box, pause(box.failures, retry_after, chance(self._entropy)))

    def _wake(self, box: Mailbox, seconds: float) -> None:
        if box.timer is not None:
            box.timer.cancel()
        box.timer = self._wheel.start(seconds, self._woken, box)

    def _woken(self, box: Mailbox) -> None:
        box.timer = None
        if box.round is None:
            self._begin(box)

    # --- a round

    def _begin(self, box: Mailbox, first: Binding | None = None) -> None:
        if self._stopped:
            return
        if box.timer is not None:
            box.timer.cancel()
            box.timer = None
        bindings = [binding for binding in self._location.bindings(box.aor)
                    if first is None or binding.contact != first.contact]
        # who registered last is the most likely to be there
        bindings.sort(key=lambda binding: (-binding.q, -binding.registered_at))
        left = [first, *bindings] if first is not None else bindings
        if not left:
            return
        box.tried, box.tried_at = set(), self._wheel.now
        made = box.round = Round(box, left)
        self._waiting[box.aor] = made
        self._next_turn()

    def _next_turn(self) -> None:
        while self._waiting and len(self._running) < _AT_ONCE:
            aor = next(iter(self._waiting))
            made = self._waiting.pop(aor)
            made.running = True
            self._running[aor] = made
            # from a fresh call stack: the phone has its 200 by then
            self._wheel.start(0.0, self._step, made)

    def _step(self, made: Round) -> None:
        """The next message to the next phone that may take it."""
        box = made.box
        if not made.running or box.round is not made or made.sending is not None:
            return
        while (message := box.next()) is not None:
            if self._boxes.has_expired(message):
                self._boxes.remove(message, "expired")
                continue
            if message.not_before > self._wheel.now:
                self._over(made)
                self._wake(box, message.not_before - self._wheel.now)
                return
            for binding in made.left:
                target = None if key_of(binding) in message.refused_by else _target(binding, message)
                if target is not None:
                    self._send(made, message, binding, target)
                    return
            able = [binding for binding in self._location.bindings(box.aor) if _target(binding, message) is not None]
            if not able or any(key_of(binding) not in message.refused_by for binding in able):
                made.failed = True
                break
            self._boxes.end(message, f"refused by {_many(len(able))}")
        self._over(made)

    def _send(self, made: Round, message: StoredMessage, binding: Binding, target: Target) -> None:
        made.message, made.current = message, binding
        made.box.tried.add(key_of(binding))
        branch = self._branch_of("message", message.call_id, message.from_, str(message.cseq),
                                 f"{message.number} {message.received_at} {message.answers}", binding.contact)
        ask = Ask("MESSAGE", target, message.to, message.from_, message.call_id, message.cseq, headers=message.fields,
                  body=message.body, branch=branch)
        made.sending = self._uac.send(ask, partial(self._told, made, message, binding))
        if made.sending is None:
            made.failed = True
            self._over(made)

    def _told(self, made: Round, message: StoredMessage, binding: Binding, outcome: Outcome) -> None:
        made.sending = made.current = made.message = None
        found = verdict(outcome.status, outcome.retry_after, message.seen)
        said = f"{outcome.status} {outcome.reason}" if outcome.status else outcome.reason
        if found == DELIVERED:
            made.box.failures = 0
            self._boxes.end(message, "", partial(self._delivered, made, message, binding.contact))
        elif found == DECLINED:
            self._boxes.end(message, f"declined: {said}")
            self._step(made)
        else:
            if found == REFUSED:
                message.refused_by.add(key_of(binding))
            else:
                made.left = [one for one in made.left if key_of(one) != key_of(binding)]
                made.failed = True
                made.retry_after = max(made.retry_after, outcome.retry_after)
            if outcome.status:
                message.answers += 1
            # who gave an answer has not got it unawares; who gave none perhaps has
            message.seen = not outcome.status
            self._step(made)

    def _delivered(self, made: Round, message: StoredMessage, contact: str) -> None:
        """A phone has it, and the store has let go of it."""
        if self._journal.sinks:
            self._journal.write("message-delivered", number=message.number, sender=message.sender, aor=message.aor,
                                contact=contact)
        self._step(made)

    def leaves(self, message: StoredMessage) -> None:
        """A message is taken away, perhaps from under its delivery."""
        box = self._boxes.boxes.get(message.aor)
        made = box.round if box is not None else None
        if made is not None and made.message is message and made.sending is not None:
            made.sending.cancel()
            made.sending = made.current = made.message = None
            self._wheel.start(0.0, self._step, made)

    def _over(self, made: Round) -> None:
        """The round has ended; what is left has its pause while somebody is registered."""
        box = made.box
        made.running = False
        box.round = None
        if self._running.get(box.aor) is made:
            del self._running[box.aor]
        if not self._stopped:
            self._follow()
            if made.failed and box.messages and self._location.bindings(box.aor):
                self._again(box, made.retry_after)
            self._next_turn()


def _target(binding: Binding, message: StoredMessage) -> Target | None:
    """Where a message goes for this binding, as a call would; None where it cannot."""
    groups = groups_of([binding], message.secure)
    return groups[0][0] if groups else None


def _many(phones: int) -> str:
    return "its phone" if phones == 1 else f"all {phones} phones"
