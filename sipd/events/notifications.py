"""The NOTIFYs of all subscriptions: what their machines put out is performed here (RFC 6665 s4.2.2).

A NOTIFY is written when it leaves, from the state as it is then. When many are to be told at once, so many a second
are: calls come first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from sipd.core.uac import Ask, Outcome
from sipd.events import subscription as machine
from sipd.events.package import Asked, Document, Package
from sipd.events.subscription import Output
from sipd.events.watch import BLOCK, Watch, Watches
from sipd.inventory import Inventory, Table
from sipd.journal import Journal
from sipd.message.message import Response
from sipd.wheel import TimerWheel

if TYPE_CHECKING:
    from sipd.core.uac import Uac

#: Seconds between two turns of those who are to be told, the longest time that one turn makes up for, and how long a
#: NOTIFY waits that found no room here.
TICK, LONGEST_TURN, ROOM = 0.02, 0.05, 1.0
#: Documents that are kept until the state changes: the same one goes to many watchers.
_DOCUMENTS = 1000


class Notifications:
    """Tells watchers, and forgets those whose subscription is over. `rate` is how many NOTIFYs a second may begin."""

    def __init__(self, packages: Mapping[str, Package], watches: Watches, uac: Uac, wheel: TimerWheel,
                 journal: Journal, inventory: Inventory, rate: int) -> None:
        self._packages = packages
        self._watches = watches
        self._uac = uac
        self._wheel = wheel
        self._journal = journal
        self.rate = rate
        self._queue: deque[Watch] = deque()
        self._turning = False
        #: When the last turn was (seconds of the clock).
        self._turned_at = 0.0
        #: By package and entity, as long as somebody watches it and it stays what it is.
        self._documents: Table[tuple[str, str], dict[Asked, Document]] = inventory.table(
            "documents", _DOCUMENTS, cache=True)
        self._stopped = False

    def stop(self) -> None:
        """Tells nobody anything any more; subscriptions stay on disk."""
        self._stopped = True
        for watch in list(self._watches.by_dialog.values()):
            self._leave(watch)

    def outdated(self, package: str, entity: str) -> None:
        """The document about an entity may be another one."""
        self._documents.pop((package, entity), None)

    def all_outdated(self) -> None:
        """So may every document."""
        self._documents.clear()

    # --- what the machine puts out

    def perform(self, watch: Watch, outputs: list[Output]) -> None:
        """Does what the machine of a subscription says, in the order in which it says it."""
        for kind, payload in outputs:
            if kind == machine.NOTIFY:
                self._notify(watch, payload)
            elif kind == machine.ABANDON:
                self._abandon(watch)
            elif kind == machine.QUEUE:
                self._enqueue(watch)
            elif kind == machine.LATER:
                if watch.later is not None:
                    watch.later.cancel()
                watch.later = None if payload is None else self._wheel.start(payload, self._later, watch)
            elif kind == machine.DEADLINE:
                if watch.deadline is not None:
                    watch.deadline.cancel()
                watch.deadline = self._wheel.start(payload, self._expired, watch)
            elif kind == machine.OVER:
                self._over(watch, payload)

    def _later(self, watch: Watch) -> None:
        watch.later = None
        self.perform(watch, watch.machine.later(self._wheel.now))

    def _expired(self, watch: Watch) -> None:
        watch.deadline = None
        self.perform(watch, watch.machine.expired())

    def _over(self, watch: Watch, reason: str) -> None:
        if self._leave(watch):
            self._watches.drop(watch)
            if reason and self._journal.sinks:
                self._journal.write("subscription-lost", watcher=watch.asked.watcher, package=watch.package,
                                    entity=watch.asked.entity, reason=reason)

    def _leave(self, watch: Watch) -> bool:
        """Forgets a subscription, here alone; False where it was not known."""
        self._abandon(watch)
        for timer in (watch.later, watch.deadline):
            if timer is not None:
                timer.cancel()
        watch.later = watch.deadline = None
        if not self._watches.leave(watch):
            return False
        entity = watch.package, watch.asked.entity
        if entity not in self._watches.by_entity:
            self._documents.pop(entity, None)
        return True

    # --- one after the other

    def _enqueue(self, watch: Watch) -> None:
        self._queue.append(watch)
        if not self._turning:
            self._turning = True
            self._wheel.start(0.0, self._turn, None)

    def _turn(self, nothing: None) -> None:
        """So many at a time: what else there is to do comes in between."""
        queue, now = self._queue, self._wheel.now
        most = max(1, int(self.rate * min(now - self._turned_at, LONGEST_TURN) + 0.5))
        self._turned_at = now
        for _ in range(min(len(queue), most)):
            watch = queue.popleft()
            if not self._stopped:
                self.perform(watch, watch.machine.turn())
        self._turning = bool(queue)
        if queue:
            self._wheel.start(max(TICK, 1.0 / self.rate), self._turn, None)

    # --- NOTIFY

    def _notify(self, watch: Watch, must: bool) -> None:
        """s4.2.2: the state as it is now; unless it `must`, nothing goes out when that is what the watcher knows."""
        subscription, dialog = watch.machine, watch.dialog
        document = None
        # s4.1.3, s4.4.3: who was never allowed learns nothing by a look or by the end either
        if subscription.allowed and subscription.reason not in ("rejected", "deactivated", "noresource"):
            document = self._document(watch, None if must else watch.told)
            if not must and document.told == watch.told:
                subscription.skipped()
                return
        watch.document = document
        headers = [("Event", watch.event), ("Subscription-State", self._state(watch))]
        body = b""
        if document is not None:
            body = document.body(watch.version)
            watch.version += 1
            headers.append(("Content-Type", document.kind))
        ask = watch.ask = Ask("NOTIFY", watch.target(), dialog.remote, dialog.local, dialog.call_id, dialog.local_cseq,
                              contact=watch.contact, headers=tuple(headers), body=body, blames=False)
        if (max(watch.version, ask.cseq + 20) >= watch.ceiling and watch.dialog.id in self._watches.by_dialog
                and subscription.state != machine.TERMINATED):
            watch.ceiling += BLOCK
            self._watches.keep_later(watch)
        watch.sending = self._uac.send(ask, partial(self._answered, watch, ask))
        if watch.sending is None:
            # too much is under way here
            self._wheel.start(ROOM, lambda nothing: self._answered(watch, ask, Outcome(0, "")), None)

    def _document(self, watch: Watch, last: object | None) -> Document:
        package = self._packages[watch.package]
        if package.partial:
            return package.document(watch.asked, last)
        key = watch.package, watch.asked.entity
        if key not in self._watches.by_entity:
            return package.document(watch.asked, None)
        kept = self._documents.get(key)
        if kept is None:
            kept = {}
            self._documents.remember(key, kept)
        asked = watch.asked._replace(watcher="")
        document = kept.get(asked)
        if document is None:
            document = kept[asked] = package.document(watch.asked, None)
        return document

    def _state(self, watch: Watch) -> str:
        subscription = watch.machine
        if subscription.state == machine.TERMINATED:
            again = f";retry-after={subscription.again}" if subscription.again else ""
            return f"terminated;reason={subscription.reason}{again}"
        return f"{subscription.state};expires={subscription.left(self._wheel.now)}"

    def _answered(self, watch: Watch, ask: Ask, outcome: Outcome) -> None:
        if watch.ask is not ask:
            return
        watch.dialog.local_cseq = ask.cseq
        watch.sending = watch.ask = None
        document, watch.document = watch.document, None
        watch.told = None
        if 200 <= outcome.status < 300:
            watch.told = document.told if document is not None else None
            self._refreshed(watch, outcome.response)
        self.perform(watch, watch.machine.answered(self._wheel.now, outcome.status, outcome.retry_after))

    def _refreshed(self, watch: Watch, response: Response | None) -> None:
        """s3.2, RFC 3261 s12.2.1.2: a NOTIFY refreshes the target; its 2xx says where the next one goes."""
        if response is None or "contact" not in response.first:
            return
        before = watch.dialog.target
        watch.dialog.refresh(response)
        if watch.dialog.target != before and watch.machine.state != machine.TERMINATED:
            self._watches.keep_later(watch)

    def _abandon(self, watch: Watch) -> None:
        if watch.ask is not None:
            watch.dialog.local_cseq = watch.ask.cseq
        if watch.sending is not None:
            watch.sending.cancel()
        watch.sending = watch.ask = watch.document = watch.told = None
