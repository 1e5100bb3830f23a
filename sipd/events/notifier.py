"""The notifier: all subscriptions, and the NOTIFYs for them (RFC 6665 s4.2).

A subscription is on disk before its SUBSCRIBE is answered, so after a restart watchers are told the whole state again.
When many are to be told at once, so many a second are: calls come first.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sipd.binding import Binding, Change
from sipd.core.uac import Ask, Outcome
from sipd.dialog import Dialog, DialogId
from sipd.events import subscription as machine
from sipd.events.compositor import Answer, Times
from sipd.events.package import Asked, Document, Package, acceptable, event_of
from sipd.events.subscription import Output, Subscription
from sipd.events.watch import BLOCK, Watch, restored
from sipd.interfaces import IFlow
from sipd.inventory import Inventory, Table
from sipd.journal import Journal
from sipd.message.errors import Reject
from sipd.message.message import Request
from sipd.proxy.dialog_flows import caller_flow
from sipd.proxy.targets import groups_of
from sipd.records import IRecords
from sipd.wheel import TimerWheel

if TYPE_CHECKING:
    from sipd.core.uac import Uac

K = TypeVar("K")

#: The kind of its records.
KIND = "subscription"
#: Seconds between two turns of those who are to be told, the longest time that one turn makes up for, and how long a
#: NOTIFY waits that found no room here.
TICK, LONGEST_TURN, ROOM = 0.02, 0.05, 1.0
#: The instance of a phone among the parameters of its Contact.
_INSTANCE = re.compile(r';[ \t]*\+sip\.instance[ \t]*=[ \t]*"([^"]+)"', re.IGNORECASE)
#: Documents that are kept until the state changes: the same one goes to many watchers.
_DOCUMENTS = 1000


class Locations(Protocol):
    """What is needed of the location service."""

    def bindings(self, aor: str) -> list[Binding]:
        """The stored, live bindings."""


class Access(Protocol):
    """Who may watch whom."""

    def verdict(self, watcher: str, entity: str, package: str) -> str:
        """"whole", "part", "pending" or "refuse"."""

    def kind(self, watcher: str, package: str) -> str:
        """The type of body that this watcher gets whatever it asks for, "" for none."""


class Notifier:
    """Serves SUBSCRIBEs and tells watchers. `serve` makes the server transaction of a request in one of our dialogs and
    gives its answer; `tag` the To tag of our answer to a request; `follow(True)` is called with the first
    subscription and `follow(False)` with the end of the last; `wall` tells seconds since the epoch."""

    def __init__(self, packages: Mapping[str, Package], uac: Uac, wheel: TimerWheel, wall: Callable[[], float],
                 location: Locations, records: IRecords, access: Access, tag: Callable[[Request], str],
                 serve: Callable[[Request, Any, Callable[[Answer], None]], None],
                 follow: Callable[[bool], None], journal: Journal, inventory: Inventory, times: Times,
                 limit: int = 20_000, per_watcher: int = 200, rate: int = 500) -> None:
        self._packages = packages
        self._uac = uac
        self._wheel = wheel
        self._wall = wall
        self._location = location
        self._records = records
        self._access = access
        self._tag = tag
        self._serve = serve
        self._follow = follow
        self._journal = journal
        self.watches: Table[DialogId, Watch] = inventory.table("subscriptions", limit)
        #: By package and entity, and by watcher.
        self._by_entity: Table[tuple[str, str], dict[DialogId, Watch]] = inventory.table("entities watched", limit)
        self._by_watcher: Table[str, dict[DialogId, Watch]] = inventory.table("watchers", limit)
        self._queue: deque[Watch] = deque()
        self._turning = False
        #: When the last turn was (seconds of the clock).
        self._turned_at = 0.0
        #: By package and entity, as long as somebody watches it and it stays what it is.
        self._documents: Table[tuple[str, str], dict[Asked, Document]] = inventory.table(
            "documents", _DOCUMENTS, cache=True)
        self._stopped = False
        self.configure(times, limit, per_watcher, rate)

    def configure(self, times: Times, limit: int, per_watcher: int, rate: int) -> None:
        """Other settings, for what comes from now on."""
        self.times = times
        self._per_watcher = per_watcher
        self._rate = rate
        self.watches.limit = self._by_entity.limit = self._by_watcher.limit = limit

    # --- SUBSCRIBE

    def subscribe(self, request: Request, entity: str, watcher: str, answer: Answer) -> None:
        """Serves a SUBSCRIBE outside a dialog about the state of `entity`; `watcher` is the address-of-record of its
        sender, who has been authenticated, "" for a stranger. Raises Reject and MalformedMessage, and then does not
        answer."""
        name, params = event_of(request)
        package = self._packages[name]
        verdict = self._access.verdict(watcher, entity, name)
        if verdict == "refuse":
            raise Reject(403)
        kind = acceptable(request, package.kinds, self._access.kind(watcher, name))
        if not kind:
            raise Reject(406, headers=(("Accept", ", ".join(package.kinds)),))  # RFC 6665 s3.1.3, RFC 3856 s6.7
        seconds = self.times.granted(request.first.get("expires"))
        dialog = Dialog.of_request(request, self._tag(request))
        if self.watches.full:
            self.watches.refused += 1
            raise Reject(503, headers=(("Retry-After", "60"),))
        flow = request.flow
        assert flow is not None
        asked = Asked(entity, watcher, kind, tuple(sorted(params.items())), verdict == "whole")
        watch = Watch(name, asked, request.first["event"], dialog,
                      Subscription(package.least, verdict != "pending", package.burst),
                      "" if dialog.routes else caller_flow(request, flow), flow.listener.name, since=self._wall())
        self._find_phone(watch, flow)
        if not seconds:
            self._subscribed(watch, request, 0, answer, "")  # s4.4.3: a look that leaves nothing behind
            return
        others = self._by_watcher.get(watcher, {})
        if len(others) >= self._per_watcher:
            oldest = next(iter(others.values()))
            if oldest.machine.state == machine.TERMINATED:
                # it has not even heard of the last one that it lost: somebody asks without end
                self.watches.refused += 1
                raise Reject(503, headers=(("Retry-After", "60"),))
            self._perform(oldest, oldest.machine.ended("giveup"))
        watch.expires_at = self._wall() + seconds
        self._keep(watch, partial(self._subscribed, watch, request, seconds, answer))

    def within(self, request: Request, key: Any) -> bool:
        """A request in the dialog of a subscription: SUBSCRIBE refreshes or ends it (s4.2.1.4). False for any other
        request. Raises Reject and MalformedMessage."""
        watch = self.watches.get(Dialog.key_of(request))
        if watch is None:
            return False
        if watch.machine.state == machine.TERMINATED:
            raise Reject(481)
        if request.method != "SUBSCRIBE":
            raise Reject(405, headers=(("Allow", "SUBSCRIBE"),))
        name, params = event_of(request)
        if name != watch.package or params.get("id", "") != dict(watch.asked.params).get("id", ""):
            raise Reject(481)  # another usage of this dialog, which there is not
        verdict = self._access.verdict(watch.asked.watcher, watch.asked.entity, name)
        if verdict == "refuse":
            self._perform(watch, watch.machine.ended("rejected"))
            raise Reject(403)
        seconds = self.times.granted(request.first.get("expires"))
        if not watch.dialog.takes(request):
            raise Reject(500)  # RFC 3261 s12.2.2: older than what came before
        self._serve(request, key, partial(self._refresh, watch, request, seconds))
        return True

    def _refresh(self, watch: Watch, request: Request, seconds: int, answer: Answer) -> None:
        flow = request.flow
        assert flow is not None
        watch.dialog.refresh(request)
        watch.listener = flow.listener.name
        if not watch.dialog.routes:
            watch.flow = caller_flow(request, flow)
            self._find_phone(watch, flow)
        done = partial(self._subscribed, watch, request, seconds, answer)
        if not seconds:
            self._records.commit([(KIND, watch.record()[0], None)], done)
            return
        watch.expires_at = self._wall() + seconds
        self._keep(watch, done)

    def _keep(self, watch: Watch, done: Callable[[str], None]) -> None:
        key, text = watch.record()
        self._records.commit([(KIND, key, text)], done)

    def _subscribed(self, watch: Watch, request: Request, seconds: int, answer: Answer, reason: str) -> None:
        """s4.2.1.2: 200 when it is stored, and a NOTIFY at once."""
        if reason:
            answer(500, "Subscription Not Stored", ())
            return
        if watch.machine.state == machine.TERMINATED:
            answer(481, "", ())  # its time ran out while the store took its own
            return
        flow = request.flow
        assert flow is not None
        if seconds and watch.dialog.id not in self.watches:
            self._enter(watch)
        # s12.1.1: the route set of the other side
        routes = tuple(("Record-Route", value) for value in request.all("record-route"))
        answer(200, "", (*routes, ("Contact", _contact(watch, flow)), ("Expires", str(seconds))))
        self._perform(watch, watch.machine.subscribed(self._wheel.now, seconds))

    def _find_phone(self, watch: Watch, flow: IFlow) -> None:
        """Which binding of the watcher is the phone that watches: when that moves, the NOTIFYs follow it."""
        for binding in self._location.bindings(watch.asked.watcher) if watch.asked.watcher else ():
            if binding.flow == flow.id or binding.contact == watch.dialog.target:
                watch.phone, watch.bound = _phone(binding), (binding.contact, binding.flow)
                return

    # --- what changes

    def changed(self, package: str, entity: str) -> None:
        """The state of an entity may be another one."""
        watches = self._by_entity.get((package, entity))
        if watches is None:
            return
        self._documents.pop((package, entity), None)
        now = self._wheel.now
        for watch in list(watches.values()):
            self._perform(watch, watch.machine.changed(now))

    def watched(self, package: str) -> list[str]:
        """The entities whose state in a package somebody watches."""
        return [entity for name, entity in self._by_entity if name == package]

    def review(self) -> None:
        """Who may watch whom has changed."""
        self._documents.clear()
        for watch in list(self.watches.values()):
            asked = watch.asked
            verdict = self._access.verdict(asked.watcher, asked.entity, watch.package)
            if verdict == "refuse" or watch.package not in self._packages:
                self._perform(watch, watch.machine.ended("rejected"))
            elif verdict == "pending":
                if watch.machine.state == machine.ACTIVE:
                    # figure 2: none goes back; the watcher asks again, and then is pending
                    self._perform(watch, watch.machine.ended("deactivated"))
            else:
                watch.asked = asked._replace(whole=verdict == "whole")
                self._perform(watch, watch.machine.granted() or watch.machine.changed(self._wheel.now))

    def forget(self, watcher: str) -> None:
        """That user is gone: requests in a subscription show no credentials, so nothing else would end it."""
        for watch in list(self._by_watcher.get(watcher, {}).values()):
            self._perform(watch, watch.machine.ended("rejected"))

    def moved(self, aor: str, changes: Sequence[Change]) -> None:
        """The bindings of somebody are others: a phone that has registered from elsewhere gets its NOTIFYs there."""
        watches = self._by_watcher.get(aor)
        if watches is None:
            return
        for kind, binding in changes:
            place = (binding.contact, binding.flow)
            for watch in [one for one in watches.values() if kind == "put" and (
                    one.phone == _phone(binding) or one.bound[0] == binding.contact)]:
                if watch.bound == place or watch.dialog.routes:
                    self._perform(watch, watch.machine.seen())
                    continue
                groups = groups_of([binding])
                if not groups:
                    continue
                if binding.contact != watch.bound[0]:
                    watch.dialog.target = binding.contact
                target = groups[0][0]
                watch.flow = f"~{target.flow_id}" if target.only else target.flow_id
                watch.listener, watch.bound = target.listener, place
                self._keep(watch, _whatever)
                self._perform(watch, watch.machine.moved())

    # --- restart and end

    def restore(self, key: str, text: str) -> Watch | None:
        """A record of the file, entered; None where it is not wanted any more. `begin` follows for all together."""
        try:
            package = self._packages[restored(text, 0.0, 1).package]
            watch = restored(text, package.least, package.burst)
        except (ValueError, KeyError, TypeError, IndexError):
            return None
        if watch.expires_at <= self._wall() or self.watches.full:
            return None
        self._enter(watch)
        return watch

    def begin(self, watches: Iterable[Watch]) -> None:
        """After a restart: everybody is told everything again, once their new block of numbers is on disk."""
        watches = list(watches)

        def stored(reason: str) -> None:
            for watch in watches:
                if watch.dialog.id in self.watches:
                    self._perform(watch, watch.machine.restored(self._wheel.now, watch.expires_at - self._wall()))
            self.review()  # the configuration may be another one: who may not watch any more is told so

        if watches:
            self._records.commit([(KIND, *watch.record()) for watch in watches], stored)

    def stop(self) -> None:
        """Tells nobody anything any more; subscriptions stay on disk."""
        self._stopped = True
        for watch in list(self.watches.values()):
            self._leave(watch)

    def _enter(self, watch: Watch) -> None:
        key = watch.dialog.id
        self.watches[key] = watch
        if len(self.watches) == 1:
            self._follow(True)
        self._by_entity.setdefault((watch.package, watch.asked.entity), {})[key] = watch
        self._by_watcher.setdefault(watch.asked.watcher, {})[key] = watch

    def _leave(self, watch: Watch) -> None:
        """Forgets a subscription, here alone."""
        self._abandon(watch)
        for timer in (watch.later, watch.deadline):
            if timer is not None:
                timer.cancel()
        watch.later = watch.deadline = None
        key = watch.dialog.id
        if self.watches.get(key) is not watch:
            return
        del self.watches[key]
        entity = watch.package, watch.asked.entity
        _take_out(self._by_entity, entity, key)
        if entity not in self._by_entity:
            self._documents.pop(entity, None)
        _take_out(self._by_watcher, watch.asked.watcher, key)
        if not self.watches:
            self._follow(False)

    # --- what the machine puts out

    def _perform(self, watch: Watch, outputs: list[Output]) -> None:
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
        self._perform(watch, watch.machine.later(self._wheel.now))

    def _expired(self, watch: Watch) -> None:
        watch.deadline = None
        self._perform(watch, watch.machine.expired())

    def _over(self, watch: Watch, reason: str) -> None:
        known = watch.dialog.id in self.watches
        self._leave(watch)
        if known:
            self._records.commit([(KIND, watch.record()[0], None)], _whatever)
            if reason and self._journal.sinks:
                self._journal.write("subscription-lost", watcher=watch.asked.watcher, package=watch.package,
                                    entity=watch.asked.entity, reason=reason)

    # --- one after the other

    def _enqueue(self, watch: Watch) -> None:
        self._queue.append(watch)
        if not self._turning:
            self._turning = True
            self._wheel.start(0.0, self._turn, None)

    def _turn(self, nothing: None) -> None:
        """So many at a time: what else there is to do comes in between."""
        queue, now = self._queue, self._wheel.now
        most = max(1, int(self._rate * min(now - self._turned_at, LONGEST_TURN) + 0.5))
        self._turned_at = now
        for _ in range(min(len(queue), most)):
            watch = queue.popleft()
            if not self._stopped:
                self._perform(watch, watch.machine.turn())
        self._turning = bool(queue)
        if queue:
            self._wheel.start(max(TICK, 1.0 / self._rate), self._turn, None)

    # --- NOTIFY

    def _notify(self, watch: Watch, must: bool) -> None:
        """s4.2.2: the state as it is now; unless it `must`, nothing goes out when that is what the watcher knows."""
        subscription, dialog = watch.machine, watch.dialog
        document = None
        # s4.1.3, s4.4.3: who was never allowed learns nothing by a look or by the end either
        if subscription.allowed and subscription.reason not in ("rejected", "deactivated"):
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
        if (max(watch.version, ask.cseq + 20) >= watch.ceiling and watch.dialog.id in self.watches
                and subscription.state != machine.TERMINATED):
            watch.ceiling += BLOCK
            self._keep(watch, _whatever)
        watch.sending = self._uac.send(ask, partial(self._answered, watch, ask))
        if watch.sending is None:
            # too much is under way here
            self._wheel.start(ROOM, lambda nothing: self._answered(watch, ask, Outcome(0, "")), None)

    def _document(self, watch: Watch, last: object | None) -> Document:
        package = self._packages[watch.package]
        if package.partial:
            return package.document(watch.asked, last)
        key = watch.package, watch.asked.entity
        if key not in self._by_entity:
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
            return f"terminated;reason={subscription.reason}"
        return f"{subscription.state};expires={max(0, round(subscription.until - self._wheel.now))}"

    def _answered(self, watch: Watch, ask: Ask, outcome: Outcome) -> None:
        if watch.ask is not ask:
            return
        watch.dialog.local_cseq = ask.cseq
        watch.sending = watch.ask = None
        document, watch.document = watch.document, None
        watch.told = document.told if document is not None and 200 <= outcome.status < 300 else None
        self._perform(watch, watch.machine.answered(self._wheel.now, outcome.status, outcome.retry_after))

    def _abandon(self, watch: Watch) -> None:
        if watch.ask is not None:
            watch.dialog.local_cseq = watch.ask.cseq
        if watch.sending is not None:
            watch.sending.cancel()
        watch.sending = watch.ask = watch.document = watch.told = None

    # --- for people

    def rows(self, aor: str = "") -> list[dict[str, Any]]:
        """Every subscription, or those of one watcher and about one entity; times in seconds."""
        now = self._wheel.now
        return [{
            "watcher": watch.asked.watcher, "package": watch.package, "entity": watch.asked.entity,
            "state": watch.machine.state, "expires": max(0, round(watch.machine.until - now)),
            "kind": watch.asked.kind, "target": watch.dialog.target, "call_id": watch.dialog.call_id,
            "version": watch.version, "sending": watch.machine.sending, "since": round(watch.since),
        } for watch in self.watches.values() if aor in ("", watch.asked.watcher, watch.asked.entity)]


def _take_out(table: dict[K, dict[DialogId, Watch]], name: K, key: DialogId) -> None:
    others = table.get(name, {})
    others.pop(key, None)
    if not others:
        table.pop(name, None)


def _contact(watch: Watch, flow: IFlow) -> str:
    """s12.1.1: our Contact as the watcher reaches us."""
    at = f"{watch.contact}@{flow.listener.sent_by}"
    if watch.dialog.secure:
        return f"<sips:{at}>"
    return f"<sip:{at}>" if flow.transport == "udp" else f"<sip:{at};transport={flow.transport}>"


def _phone(binding: Binding) -> str:
    """What stays the same when a phone registers from elsewhere: its instance (RFC 5626 s4.1), else the Call-ID of its
    REGISTERs."""
    found = _INSTANCE.search(binding.params)
    return f"instance {found[1]}" if found is not None else f"call {binding.call_id}"


def _whatever(reason: str) -> None:
    """What could not be stored is stored with the next change."""
