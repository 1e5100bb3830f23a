"""The location service (RFC 3261 s10): the table in memory, a durable store behind it, expiry.

What `bindings` tells is what the store has acknowledged, never more: a change enters memory when its commit returned,
so a failed commit leaves nothing to undo (s10.3 step 7). Changes in flight are visible to `latest` only, which the
registrar decides from, so that two REGISTERs of one address-of-record close together keep their order. When the first
of two fails and the second does not, the second stands by itself, in memory as on disk ("each REGISTER message MUST be
processed independently"): both always hold exactly the changes that were acknowledged.
Where there is no store, a change is in memory at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from sipd.binding import Binding, Change, changed
from sipd.interfaces import ILocationStore
from sipd.inventory import Inventory, Table
from sipd.journal import Journal
from sipd.location.table import BindingTable

#: The clock on the wall is looked at again after this long (seconds), so that a step forward is noticed.
_LONGEST_SLEEP: Final = 60.0
#: Told of changed bindings: the address-of-record, what has changed (one step each, as in `Location.change`), and why
#: ("" when the phone asked for it itself, else "expired", "removed" or whatever was said to `change`).
Watcher = Callable[[str, Sequence[Change], str], None]
#: Addresses-of-record visited in one turn of the reactor when many expire at once, and the pause before the next turn.
_SWEPT_PER_TURN: Final = 500
_PAUSE: Final = 0.02


class Location:
    """All bindings of this server, at most `limit` of them; with a `store` of None they end with the process.

    `wall` tells seconds since the epoch and decides what has expired; `clock` only wakes the sweep that drops it.
    """

    def __init__(self, store: ILocationStore | None, clock: IReactorTime, wall: Callable[[], float], journal: Journal,
                 inventory: Inventory, limit: int = 1_000_000) -> None:
        self.limit = limit
        self._store = store
        #: False where a change is made by `apply` and `tell`, with nothing to wait for.
        self.durable = store is not None
        self._clock = clock
        self._wall = wall
        self._journal = journal
        self._table = BindingTable(inventory, limit)
        #: aor -> changes asked of the store and not yet answered, oldest first
        self._in_flight: Table[str, list[list[Change]]] = inventory.table("registrations being stored", limit)
        self._timer: IDelayedCall | None = None
        #: wall-clock second the timer stands for
        self._awake_at = inf
        self._store_failing = False
        self._told_full = False
        self._stopped = False
        #: Who is told of changed bindings; nothing where nobody asks.
        self.watchers: tuple[Watcher, ...] = ()

    def start(self, known: Callable[[str], bool] = lambda aor: True) -> None:
        """Reads the store. What is bound to an address-of-record that is not `known` any more is forgotten, here and
        there. Raises what the store's `load` raises."""
        if self._store is None:
            return
        gone: list[Binding] = []
        for binding in self._store.load():
            if known(binding.aor):
                self._table.change(binding.aor, [("put", binding)])
            else:
                gone.append(binding)
        for first in range(0, len(gone), _SWEPT_PER_TURN):
            self._store.commit([("delete", binding) for binding in gone[first:first + _SWEPT_PER_TURN]],
                               self._note_removal)
        self.note_lost(gone, "there is no such user any more")
        self._arm()

    def bound(self, limit: int) -> None:
        """Another bound on bindings; those that are too many stay until they expire."""
        self.limit = limit
        self._in_flight.limit = limit
        self._table.bound(limit)

    def watch(self, watcher: Watcher) -> None:
        """From now on `watcher` is told of every change, refreshes included, when `bindings` shows it and whoever asked
        for it has heard so: a phone has its 200 before anything else comes. Once, however often it is asked."""
        self.unwatch(watcher)
        self.watchers = (*self.watchers, watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Not any more; harmless when it was not told before."""
        self.watchers = tuple([one for one in self.watchers if one != watcher])

    def note_lost(self, bindings: Iterable[Binding], reason: str) -> None:
        """Into the journal, where somebody wants it."""
        if self._journal.sinks and self._journal.registrations:
            for binding in bindings:
                self._journal.write("registration-lost", aor=binding.aor, contact=binding.contact, reason=reason)

    def stop(self) -> None:
        """Ends the timer and closes the store, waiting for its last commit."""
        self._stopped = True
        self._sleep()
        if self._store is not None:
            self._store.close()

    def bindings(self, aor: str) -> list[Binding]:
        """The bindings of `aor` that are stored and have not expired, first registered first."""
        return self._table.live(aor, self._wall())

    def bindings_at(self, aor: str, now: float) -> list[Binding]:
        """As `bindings`, for whoever knows what second since the epoch it is."""
        return self._table.live(aor, now)

    def latest(self, aor: str) -> list[Binding]:
        """As `bindings`, with the changes still on their way to the store."""
        return self.latest_at(aor, self._wall())

    def latest_at(self, aor: str, now: float) -> list[Binding]:
        """As `latest`, for whoever knows what second since the epoch it is."""
        bindings = self._table.live(aor, now)
        if self._in_flight and aor in self._in_flight:
            for changes in self._in_flight[aor]:
                bindings = list(changed(tuple(bindings), changes))
        return bindings

    def everything(self) -> Iterator[Binding]:
        """Every binding that has not expired, for people. Nothing may change while it is walked."""
        now = self._wall()
        return (binding for binding in self._table if binding.expires_at > now)

    def __len__(self) -> int:
        """How many bindings there are."""
        return self._table.size

    def admits(self, aor: str, changes: list[Change]) -> bool:
        """False when these changes would pass the bound on all bindings; the journal has it once."""
        if self._table.size + len(changes) <= self.limit:
            self._told_full = False
            return True
        latest = tuple(self.latest(aor))
        if len(changed(latest, changes)) <= len(latest):
            return True
        if not self._told_full and self._journal.sinks:
            self._journal.write("limit-reached", table="bindings", limit=self.limit, reason="new registrations get 503")
        self._told_full = True
        return False

    def change(self, aor: str, changes: list[Change], done: Callable[[str], None], why: str = "") -> None:
        """Stores changes to `aor`, all or none. `done("")` is called after the commit, when `bindings` shows them; or
        `done(reason)`, and nothing has changed. `why` is for the watchers."""
        if self._store is None:
            self.apply(aor, changes)
            done("")
            self.tell(aor, changes, why)
            return
        in_flight = self._in_flight.get(aor)
        if in_flight is None:
            in_flight = self._in_flight[aor] = []
        in_flight.append(changes)
        self._store.commit(changes, lambda reason: self._settle(aor, changes, done, why, reason))

    def apply(self, aor: str, changes: list[Change]) -> None:
        """Changes `aor` in memory alone: where nothing is durable, and then `tell` follows."""
        due = self._table.change(aor, changes)
        if not self._table.size:
            self._sleep()
        elif due and due < self._awake_at:
            self._arm()

    def _settle(self, aor: str, changes: list[Change], done: Callable[[str], None], why: str, reason: str) -> None:
        in_flight = self._in_flight[aor]
        # the first, except where a full queue refused a later one at once
        for index, candidate in enumerate(in_flight):
            if candidate is changes:
                del in_flight[index]
                break
        if not in_flight:
            del self._in_flight[aor]
        if not reason:
            self.apply(aor, changes)
        if bool(reason) != self._store_failing:
            self._note_store(reason)
        done(reason)
        if not reason:
            self.tell(aor, changes, why)

    def tell(self, aor: str, changes: Sequence[Change], why: str) -> None:
        """Tells the watchers what `bindings` shows by now."""
        for watcher in self.watchers:
            watcher(aor, changes, why)

    def _note_store(self, reason: str) -> None:
        """Says once that the store began to fail."""
        self._store_failing = bool(reason)
        if reason and self._journal.sinks:
            self._journal.write("store-failed", reason=reason)

    def _sleep(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._awake_at = inf

    def _arm(self) -> None:
        self._sleep()
        due = self._table.next_due()
        # the last commits may be answered after the stop
        if due is None or self._stopped:
            return
        now = self._wall()
        delay = min(max(due - now, _PAUSE), _LONGEST_SLEEP)
        self._awake_at = now + delay
        self._timer = self._clock.callLater(delay, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        lost = self._table.expire(self._wall(), _SWEPT_PER_TURN)
        if lost:
            # A change in flight may be the refresh of what has just expired, and reach the disk before this removal
            # would: such a row stays, put again by the refresh or dropped at the next start.
            removals: list[Change] = [("delete", binding) for binding in lost if binding.aor not in self._in_flight]
            if removals and self._store is not None:
                self._store.commit(removals, self._note_removal)
            self.note_lost(lost, "expired")
            if self.watchers:
                gone: dict[str, list[Change]] = {}
                for binding in lost:
                    gone.setdefault(binding.aor, []).append(("delete", binding))
                for aor, changes in gone.items():
                    self.tell(aor, changes, "expired")
        self._arm()

    def _note_removal(self, reason: str) -> None:
        if bool(reason) != self._store_failing:
            self._note_store(reason)
