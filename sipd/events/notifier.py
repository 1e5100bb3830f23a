"""The notifier: who watches what, and how that begins, changes and ends (RFC 6665 s4.2).

A subscription is on disk before its SUBSCRIBE is answered, so after a restart watchers are told the whole state again.
What is told, and when, is in `notifications`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from sipd.answer import Answer
from sipd.binding import Binding, Change
from sipd.core.checks import require
from sipd.dialog import Dialog
from sipd.events import subscription as machine
from sipd.events.access import PENDING, REFUSE, WHOLE, Access
from sipd.events.compositor import Times
from sipd.events.notifications import Notifications
from sipd.events.package import Asked, Package, acceptable, allow_events, event_of
from sipd.events.subscription import Subscription
from sipd.events.watch import Watch, Watches, restored
from sipd.flow import Flow
from sipd.inventory import Inventory
from sipd.journal import Journal
from sipd.message.errors import Reject
from sipd.message.message import Request
from sipd.proxy.dialog_flows import caller_flow
from sipd.proxy.targets import groups_of
from sipd.records import IRecords
from sipd.wheel import TimerWheel

if TYPE_CHECKING:
    from sipd.core.uac import Uac
    from sipd.message.uri import Uri

#: The instance of a phone among the parameters of its Contact.
_INSTANCE = re.compile(r';[ \t]*\+sip\.instance[ \t]*=[ \t]*"([^"]+)"', re.IGNORECASE)
#: The user part of our Contact in a subscription.
_CONTACT = re.compile(r"s[0-9a-f]{16}")
#: Seconds after which somebody may ask again whose subscription had to make room for a newer one of theirs.
NO_ROOM = 600
_NOTHING_SUPPORTED: frozenset[str] = frozenset()


class Locations(Protocol):
    """What is needed of the location service."""

    def bindings(self, aor: str) -> list[Binding]:
        """The stored, live bindings."""


class Notifier:
    """Serves SUBSCRIBEs and has watchers told. `serve` makes the server transaction of a request in one of our dialogs
    and gives its answer; `tag` the To tag of our answer to a request; `follow(True)` is called with the first
    subscription and `follow(False)` with the end of the last; `wall` tells seconds since the epoch."""

    def __init__(self, packages: Mapping[str, Package], uac: Uac, wheel: TimerWheel, wall: Callable[[], float],
                 location: Locations, records: IRecords, access: Access, tag: Callable[[Request], str],
                 serve: Callable[[Request, Any, Callable[[Answer], None]], None],
                 follow: Callable[[bool], None], journal: Journal, inventory: Inventory, times: Times,
                 limit: int = 20_000, per_watcher: int = 500, rate: int = 500) -> None:
        self._packages = packages
        self._wheel = wheel
        self._wall = wall
        self._location = location
        self._access = access
        self._tag = tag
        self._serve = serve
        self.watches = Watches(records, follow, inventory, limit)
        self._notifications = Notifications(packages, self.watches, uac, wheel, journal, inventory, rate)
        self._perform = self._notifications.perform
        self.configure(times, limit, per_watcher, rate)

    def configure(self, times: Times, limit: int, per_watcher: int, rate: int) -> None:
        """Other settings, for what comes from now on."""
        self.times = times
        self._per_watcher = per_watcher
        self._notifications.rate = rate
        self.watches.configure(limit)

    # --- SUBSCRIBE

    def subscribe(self, request: Request, entity: str, watcher: str, answer: Answer) -> None:
        """Serves a SUBSCRIBE outside a dialog about the state of `entity`; `watcher` is the address-of-record of its
        sender, who has been authenticated, "" for a stranger. Raises Reject and MalformedMessage, and then does not
        answer."""
        name, params = event_of(request)
        package = self._packages[name]
        verdict = self._access.verdict(watcher, entity, name)
        if verdict == REFUSE:
            raise Reject(403)
        kind = self._kind(request, package, watcher)
        seconds = self.times.granted(request.first.get("expires"), package.duration)
        dialog = Dialog.of_request(request, self._tag(request))
        known = self.watches.by_dialog
        if known.full:
            known.refused += 1
            raise Reject(503, headers=(("Retry-After", "60"),))
        flow = request.flow
        assert flow is not None
        asked = Asked(entity, watcher, kind, tuple(sorted(params.items())), verdict == WHOLE)
        watch = Watch(name, asked, request.first["event"], dialog,
                      Subscription(package.least, verdict != PENDING, package.burst),
                      "" if dialog.routes else caller_flow(request, flow), flow.listener.name, since=self._wall())
        self._find_phone(watch, flow)
        if not seconds:
            self._subscribed(watch, request, 0, answer, "")  # s4.4.3: a look that leaves nothing behind
            return
        others = self.watches.of(watcher)
        if len(others) >= self._per_watcher:
            # most often it is one that its phone forgot in a restart; who really has so many keeps them, and gets no
            # more: otherwise each would push out another that is asked for again, without end
            forgotten = next((one for one in others if (one.package, one.asked.entity) == (name, entity)
                              and one.machine.state != machine.TERMINATED), None)
            dying = sum(one.machine.state == machine.TERMINATED for one in others)
            if forgotten is None or dying > self._per_watcher // 4:
                known.refused += 1
                raise Reject(503, "Too Many Subscriptions", (("Retry-After", "60"),))
            # s4.1.3: there is no room for it now
            self._perform(forgotten, forgotten.machine.ended("probation", NO_ROOM))
        watch.expires_at = self._wall() + seconds
        self.watches.keep((watch,), partial(self._subscribed, watch, request, seconds, answer))

    def within(self, request: Request, key: Any) -> bool:
        """A request in the dialog of a subscription: SUBSCRIBE refreshes or ends it (s4.2.1.4). False for any other
        request. Raises Reject and MalformedMessage."""
        watch = self.watches.by_dialog.get(Dialog.key_of(request))
        if watch is None:
            return False
        if watch.machine.state == machine.TERMINATED:
            raise Reject(481)
        if request.method != "SUBSCRIBE":
            raise Reject(405, headers=(("Allow", "SUBSCRIBE"),))
        require(request, _NOTHING_SUPPORTED)
        name, params = event_of(request)
        if name not in self._packages:
            raise Reject(489, headers=allow_events(self._packages))  # s4.2.3: also where there is no Event
        if name != watch.package or params.get("id", "") != dict(watch.asked.params).get("id", ""):
            raise Reject(403, "Dialog Sharing Not Supported")  # s4.5.2: another subscription in this dialog
        verdict = self._access.verdict(watch.asked.watcher, watch.asked.entity, name)
        if verdict == REFUSE:
            self._perform(watch, watch.machine.ended("rejected"))
            raise Reject(403)
        package = self._packages[name]
        # RFC 3856 s6.7: what the most recent SUBSCRIBE says; one that says nothing changes nothing
        kind = self._kind(request, package, watch.asked.watcher) if "accept" in request.first else watch.asked.kind
        seconds = self.times.granted(request.first.get("expires"), package.duration)
        if not watch.dialog.takes(request):
            raise Reject(500)  # RFC 3261 s12.2.2: older than what came before
        watch.asked = watch.asked._replace(kind=kind)
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
            self.watches.drop(watch, done)
            return
        watch.expires_at = self._wall() + seconds
        self.watches.keep((watch,), done)

    def _subscribed(self, watch: Watch, request: Request, seconds: int, answer: Answer, reason: str) -> None:
        """s4.2.1.2: 200 when it is stored, and a NOTIFY at once."""
        if reason:
            answer.give(500, "Subscription Not Stored")
            return
        if watch.machine.state == machine.TERMINATED:
            answer.give(481)  # its time ran out while the store took its own
            return
        flow = request.flow
        assert flow is not None
        if seconds and watch.dialog.id not in self.watches.by_dialog:
            self.watches.enter(watch)
        # s12.1.1: the route set of the other side
        routes = tuple(("Record-Route", value) for value in request.all("record-route"))
        # s4.4.4: what begins a dialog says all that is served
        answer.give(200, "", (*routes, ("Contact", _contact(watch, flow)), ("Expires", str(seconds)),
                              *allow_events(self._packages)))
        self._perform(watch, watch.machine.subscribed(self._wheel.now, seconds))

    def _kind(self, request: Request, package: Package, watcher: str) -> str:
        """The type of body that a watcher gets. Raises Reject (406)."""
        kind = acceptable(request, package.kinds, self._access.kind(watcher, package.name))
        if not kind:
            raise Reject(406, headers=(("Accept", ", ".join(package.kinds)),))  # RFC 6665 s3.1.3, RFC 3856 s6.7
        return kind

    def at_contact(self, request: Request, uri: Uri) -> bool:
        """True for a request to the Contact of a subscription, of one that is over too; `uri` is the Request-URI, which
        is not read again: that would tell by the time it takes who is known here. Raises Reject (481) where it says
        that it is in the dialog of one, and is not."""
        if _CONTACT.fullmatch(uri.user or "") is None:
            return False
        if request.to_tag and Dialog.key_of(request) not in self.watches.by_dialog:
            raise Reject(481)
        return True

    def _find_phone(self, watch: Watch, flow: Flow) -> None:
        """Which binding of the watcher is the phone that watches: when that moves, the NOTIFYs follow it."""
        for binding in self._location.bindings(watch.asked.watcher) if watch.asked.watcher else ():
            if binding.flow == flow.id or binding.contact == watch.dialog.target:
                watch.phone, watch.bound = _phone(binding), (binding.contact, binding.flow)
                return

    # --- what changes

    def changed(self, package: str, entity: str) -> None:
        """The state of an entity may be another one."""
        watches = self.watches.about(package, entity)
        if not watches:
            return
        self._notifications.outdated(package, entity)
        now = self._wheel.now
        for watch in watches:
            self._perform(watch, watch.machine.changed(now))

    def review(self) -> None:
        """Who may watch whom has changed."""
        self._notifications.all_outdated()
        for watch in list(self.watches.by_dialog.values()):
            asked = watch.asked
            verdict = self._access.verdict(asked.watcher, asked.entity, watch.package)
            if watch.package not in self._packages:
                self._perform(watch, watch.machine.ended("noresource"))  # s4.1.3: nobody has that state any more
            elif verdict == REFUSE:
                self._perform(watch, watch.machine.ended("rejected"))
            elif verdict == PENDING:
                if watch.machine.state == machine.ACTIVE:
                    # figure 2: none goes back; the watcher asks again, and then is pending
                    self._perform(watch, watch.machine.ended("deactivated"))
            else:
                watch.asked = asked._replace(whole=verdict == WHOLE)
                self._perform(watch, watch.machine.granted() or watch.machine.changed(self._wheel.now))

    def forget(self, aor: str) -> None:
        """That user is gone: watches nobody, since requests in a subscription show no credentials and nothing else
        would end it, and is watched by nobody (s4.1.3)."""
        for watch in self.watches.of(aor):
            self._perform(watch, watch.machine.ended("rejected"))
        for package in self._packages:
            for watch in self.watches.about(package, aor):
                self._perform(watch, watch.machine.ended("noresource"))

    def moved(self, aor: str, changes: Sequence[Change]) -> None:
        """The bindings of somebody are others: a phone that has registered from elsewhere gets its NOTIFYs there."""
        for kind, binding in changes:
            place = (binding.contact, binding.flow)
            for watch in [one for one in self.watches.of(aor) if kind == "put" and (
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
                self.watches.keep_later(watch)
                self._perform(watch, watch.machine.moved())

    # --- restart and end

    def restore(self, key: str, text: str) -> Watch | None:
        """A record of the file, entered; None where it is not wanted any more. `begin` follows for all together."""
        try:
            package = self._packages[restored(text, 0.0, 1).package]
            watch = restored(text, package.least, package.burst)
        except (ValueError, KeyError, TypeError, IndexError):
            return None
        if watch.expires_at <= self._wall() or self.watches.by_dialog.full:
            return None
        self.watches.enter(watch)
        return watch

    def begin(self, watches: Iterable[Watch]) -> None:
        """After a restart: everybody is told everything again, once their new block of numbers is on disk."""
        watches = list(watches)

        def stored(reason: str) -> None:
            for watch in watches:
                if watch.dialog.id in self.watches.by_dialog:
                    self._perform(watch, watch.machine.restored(self._wheel.now, watch.expires_at - self._wall()))
            self.review()  # the configuration may be another one: who may not watch any more is told so

        if watches:
            self.watches.keep(watches, stored)

    def stop(self) -> None:
        """Tells nobody anything any more; subscriptions stay on disk."""
        self._notifications.stop()

    # --- for people

    def rows(self, aor: str = "") -> list[dict[str, Any]]:
        """Every subscription, or those of one watcher and about one entity; times in seconds."""
        now = self._wheel.now
        return [{
            "watcher": watch.asked.watcher, "package": watch.package, "entity": watch.asked.entity,
            "state": watch.machine.state, "expires": watch.machine.left(now),
            "kind": watch.asked.kind, "target": watch.dialog.target, "call_id": watch.dialog.call_id,
            "version": watch.version, "sending": watch.machine.sending, "since": round(watch.since),
        } for watch in self.watches.by_dialog.values() if aor in ("", watch.asked.watcher, watch.asked.entity)]


def _contact(watch: Watch, flow: Flow) -> str:
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
