"""The messages that wait, by user: limits, the store behind them, what becomes of those that are not delivered.

A sender has a 202 when the message is on disk and not before; it leaves the disk when a phone has taken it, when all
phones have refused it for good, or when its time is over (RFC 3428 s7).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from sipd.inventory import Inventory, Table
from sipd.journal import Journal
from sipd.message.address import Address
from sipd.message.errors import MalformedMessage
from sipd.message.identifiers import Identifiers
from sipd.message.message import Request
from sipd.message.uri import Uri
from sipd.messages.stored import StoredMessage, expiry, is_worth_keeping, kept, notice
from sipd.wheel import Timer, TimerWheel

if TYPE_CHECKING:
    from sipd.config_messages import Messages as Settings
    from sipd.messages.delivery import Round
    from sipd.records import Change, IRecords

#: Kinds of records.
_MESSAGE, _ENDED = "message", "ended"
#: The last number given, so that none is given twice.
_LAST, _COUNT = "last", "number"
#: What is kept of one that was not delivered.
_ROW = frozenset({"aor", "sender", "received_at", "ended_at", "reason", "size"})
#: Messages that were not delivered, which people are shown.
_MOST_ENDED = 1000
#: Seconds between two looks for what has expired, at most.
_SWEEP = 60.0
#: Retry-After (seconds) where there is no room.
_NO_ROOM = 600
#: Characters of a sender's address.
_SENDER = 256


class Refusal(Exception):
    """A message is not stored: `status`, `reason` where that says more than its phrase, Retry-After in seconds."""

    def __init__(self, status: int, reason: str = "", retry_after: int = 0) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


#: Called once: with None when the message is stored, else why it is not.
Accepted = Callable[[StoredMessage | None, Refusal | None], None]


class Mailbox:
    """What waits for one user, oldest first, and how it stands with its delivery."""

    __slots__ = ("aor", "messages", "round", "timer", "failures", "tried", "tried_at")

    def __init__(self, aor: str) -> None:
        self.aor = aor
        self.messages: dict[int, StoredMessage] = {}
        #: The delivery under way, or waiting for its turn.
        self.round: Round | None = None
        #: The next attempt.
        self.timer: Timer | None = None
        #: Rounds in a row that ended with something left.
        self.failures = 0
        #: The bindings tried in the last round, and when it began (seconds of the clock).
        self.tried: set[tuple[str, str, str]] = set()
        self.tried_at = 0.0

    def next(self) -> StoredMessage | None:
        """The message whose turn it is."""
        for message in self.messages.values():
            if message.ending is None:
                return message if message.stored else None
        return None


class Mailboxes:
    """All messages that wait. `wall` tells seconds since the epoch; `aor_of` the address-of-record of a URI, "" for
    elsewhere; `knows` whether somebody is a user here. `arrived` is called with a mailbox that has something new."""

    def __init__(self, settings: Settings, records: IRecords, wheel: TimerWheel, wall: Callable[[], float],
                 aor_of: Callable[[Uri], str], knows: Callable[[str], bool], domain: str, identifiers: Identifiers,
                 journal: Journal, inventory: Inventory) -> None:
        self._records = records
        self._wheel = wheel
        self._wall = wall
        self._aor_of = aor_of
        self._knows = knows
        self._domain = domain
        self._identifiers = identifiers
        self._journal = journal
        self.messages: Table[int, StoredMessage] = inventory.table("messages stored", settings.max_messages)
        self.boxes: Table[str, Mailbox] = inventory.table("users with messages stored", settings.max_messages)
        self._senders: Table[str, int] = inventory.table("senders of messages stored", settings.max_messages)
        #: Shown to people: aor, sender, received_at, ended_at, reason, size.
        self.ended: Table[int, dict[str, Any]] = inventory.table("messages not delivered", _MOST_ENDED, cache=True)
        self._size = 0
        self._count = 0
        self._timer: Timer | None = None
        self._failing = self._told_full = self._stopped = False
        self.arrived: Callable[[Mailbox], None] = _nobody
        self.leaves: Callable[[StoredMessage], None] = _nobody
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Other settings; what waits stays, whatever the limits are now."""
        self._settings = settings
        for table in (self.messages, self.boxes, self._senders):
            table.limit = settings.max_messages

    def load(self) -> None:
        """Reads the store. What is there for somebody who is no user any more ends. Raises StoreError."""
        for kind, key, text in sorted(self._records.load(), key=lambda record: _digits(record[1])):
            number = _digits(text if kind == _LAST else key)
            self._count = max(self._count, number)
            if kind == _MESSAGE:
                message = StoredMessage.read(number, text)
                if message is not None:
                    # it may have been on its way when the server ended
                    message.stored = message.seen = True
                    self._enter(message)
            elif kind == _ENDED and (row := _row(text)) is not None:
                self.ended[number] = row
        for aor in [aor for aor in self.boxes if not self._knows(aor)]:
            self.forget_user(aor)
        self._arm()

    def stop(self) -> None:
        """Closes the store, waiting for its last commit."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._records.close()

    # --- coming

    def accept(self, request: Request, aor: str, done: Accepted) -> None:
        """Stores a MESSAGE for `aor`, and calls `done` once, now or after the commit."""
        try:
            message = self._admitted(request, aor)
        except Refusal as refusal:
            done(None, refusal)
            return
        copy = self._copy(message)
        if copy is not None:
            # the same once more: its sender did not hear the 202
            if copy.stored:
                done(copy, None)
            else:
                done(None, Refusal(482))
            return
        self._enter(message)
        self._commit([(_MESSAGE, str(message.number), message.text()), (_LAST, _COUNT, str(self._count))],
                     partial(self._stored, message, done))

    def _admitted(self, request: Request, aor: str) -> StoredMessage:
        settings, now = self._settings, self._wall()
        expires_at = expiry(request, now, settings.max_age)
        if not self._knows(aor) or expires_at <= now or not is_worth_keeping(request):
            raise Refusal(480)
        sender = self._sender(request)
        self._count += 1
        message = kept(request, self._count, aor, sender, now, expires_at)
        if message.size > settings.max_size:
            raise Refusal(413, "Message Too Large To Be Stored")
        box = self.boxes.get(aor)
        if box is not None and len(box.messages) >= settings.max_per_user:
            raise Refusal(480, "Mailbox Full", _NO_ROOM)
        if self._senders.get(sender, 0) >= settings.max_per_sender:
            raise Refusal(480, "Too Many Messages Of Yours Are Waiting", _NO_ROOM)
        if self.messages.full or self._size + message.size > settings.total_size:
            self.messages.refused += 1
            self._note_full()
            raise Refusal(480, "No Room For Messages", _NO_ROOM)
        self._told_full = False
        return message

    def _sender(self, request: Request) -> str:
        """Who sent it, as people write it."""
        try:
            address = Address.read(request.first["from"])
            aor = self._aor_of(Uri.read(address.uri_text))
        except MalformedMessage:
            return "somebody unreadable"
        return (aor or address.uri_text)[:_SENDER]

    def _copy(self, message: StoredMessage) -> StoredMessage | None:
        box = self.boxes.get(message.aor)
        if box is None:
            return None
        return next((one for one in box.messages.values() if one.call_id == message.call_id
                     and one.identity == message.identity), None)

    def _stored(self, message: StoredMessage, done: Accepted, reason: str) -> None:
        if reason:
            self._leave(message)
            done(None, Refusal(500, "Message Not Stored", _NO_ROOM))
            return
        message.stored = True
        if self._journal.sinks:
            self._journal.write("message-stored", number=message.number, sender=message.sender, aor=message.aor)
        done(message, None)
        box = self.boxes.get(message.aor)
        if box is not None:
            self.arrived(box)

    # --- going

    def end(self, message: StoredMessage, reason: str = "", then: Callable[[], None] | None = None) -> None:
        """Takes a message out: it was delivered, or why it was not. `then` is called when the store has taken that, or
        could not; in this process it is not delivered again in either case."""
        message.ending, message.leaving = reason, True
        changes: list[Change] = [(_MESSAGE, str(message.number), None)]
        told: StoredMessage | None = None
        row: dict[str, Any] = {}
        if reason:
            row = {"aor": message.aor, "sender": message.sender, "received_at": message.received_at,
                   "ended_at": self._wall(), "reason": reason, "size": message.size}
            changes.append((_ENDED, str(message.number), json.dumps(row)))
            if len(self.ended) >= _MOST_ENDED:
                changes.append((_ENDED, str(next(iter(self.ended))), None))
            told = self._notice(message, reason)
            if told is not None:
                changes += [(_MESSAGE, str(told.number), told.text()), (_LAST, _COUNT, str(self._count))]
                self._enter(told)
        self._commit(changes, partial(self._ended, message, row, told, then))

    def _notice(self, message: StoredMessage, reason: str) -> StoredMessage | None:
        """What the sender is told: only a user here, and never about what we told."""
        settings = self._settings
        box = self.boxes.get(message.sender)
        if (not settings.notify_sender or message.notice or not self._knows(message.sender) or self.messages.full
                or (box is not None and len(box.messages) >= settings.max_per_user)):
            return None
        self._count += 1
        now = self._wall()
        return notice(self._count, message, reason, now, now + settings.max_age, self._domain, self._identifiers.tag(),
                      f"{self._identifiers.tag()}@{self._domain}")

    def _ended(self, message: StoredMessage, row: dict[str, Any], told: StoredMessage | None,
               then: Callable[[], None] | None, failure: str) -> None:
        message.leaving = False
        if told is not None:
            told.stored = not failure
            if failure:
                self._leave(told)
        if not failure:
            self._leave(message)
            if row:
                if len(self.ended) >= _MOST_ENDED:
                    del self.ended[next(iter(self.ended))]
                self.ended[message.number] = row
                if self._journal.sinks:
                    self._journal.write("message-lost", number=message.number, sender=message.sender, aor=message.aor,
                                        reason=row["reason"])
        # where the store failed, the next sweep tries again
        if then is not None:
            then()
        box = self.boxes.get(told.aor) if told is not None and told.stored else None
        if box is not None:
            self.arrived(box)

    def forget_user(self, aor: str, reason: str = "there is no such user any more") -> None:
        """Ends everything that waits for a user."""
        box = self.boxes.get(aor)
        for message in list(box.messages.values()) if box is not None else ():
            self.remove(message, reason)

    def remove(self, message: StoredMessage, reason: str) -> None:
        """Ends one message, whatever is being done with it."""
        if message.ending is None:
            message.ending = reason
            self.leaves(message)
            self.end(message, reason)

    def forget_users(self) -> None:
        """Ends what waits for people who are no users any more."""
        for aor in [aor for aor in self.boxes if not self._knows(aor)]:
            self.forget_user(aor)

    def has_expired(self, message: StoredMessage) -> bool:
        """Whether its time is over."""
        return message.expires_at <= self._wall()

    # --- in memory

    def _enter(self, message: StoredMessage) -> None:
        box = self.boxes.get(message.aor)
        if box is None:
            box = self.boxes[message.aor] = Mailbox(message.aor)
        box.messages[message.number] = message
        self.messages[message.number] = message
        self._senders[message.sender] = self._senders.get(message.sender, 0) + 1
        self._size += message.size
        self._arm()

    def _leave(self, message: StoredMessage) -> None:
        if self.messages.pop(message.number, None) is None:
            return
        self._size -= message.size
        left = self._senders[message.sender] - 1
        if left:
            self._senders[message.sender] = left
        else:
            del self._senders[message.sender]
        box = self.boxes[message.aor]
        del box.messages[message.number]
        if not box.messages:
            if box.timer is not None:
                box.timer.cancel()
            del self.boxes[message.aor]

    def _commit(self, changes: Iterable[Change], done: Callable[[str], None]) -> None:
        self._records.commit(list(changes), partial(self._committed, done))

    def _committed(self, done: Callable[[str], None], reason: str) -> None:
        if bool(reason) != self._failing:
            self._failing = bool(reason)
            if reason and self._journal.sinks:
                self._journal.write("message-store-failed", reason=reason)
        done(reason)

    def _note_full(self) -> None:
        if not self._told_full and self._journal.sinks:
            self._journal.write("limit-reached", table="messages stored", limit=self.messages.limit,
                                reason=f"{self._size} bytes; new ones are refused")
        self._told_full = True

    # --- time

    def _arm(self) -> None:
        if self._timer is None and self.messages and not self._stopped:
            due = min(message.expires_at for message in self.messages.values()) - self._wall()
            self._timer = self._wheel.start(min(max(due, 1.0), _SWEEP), self._sweep, None)

    def _sweep(self, nothing: None) -> None:
        """Ends what has expired, and what the store did not take before."""
        self._timer = None
        now = self._wall()
        for message in list(self.messages.values()):
            if message.leaving:
                continue
            if message.ending is not None:
                self.end(message, message.ending)
            elif message.expires_at <= now and message.stored:
                self.remove(message, "expired")
        self._arm()


def _nobody(anything: Any) -> None:
    """Until somebody delivers."""


def _row(text: str) -> dict[str, Any] | None:
    """About a message that was not delivered, None when the text is none of ours."""
    try:
        row = json.loads(text)
    except ValueError:
        return None
    return row if isinstance(row, dict) and row.keys() == _ROW else None


def _digits(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
