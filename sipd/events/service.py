"""Events of this server: what is served by SUBSCRIBE, PUBLISH and NOTIFY, and where its state comes from."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sipd.answer import Answer
from sipd.binding import Change as BindingChange
from sipd.calls.call import TERMINATED
from sipd.config_events import Events as Settings
from sipd.config_events import NotifyTemplate
from sipd.core.checks import require
from sipd.events import compositor as publications
from sipd.events import message_summary, pidf, watch
from sipd.events.access import WHOLE, Access
from sipd.events.compositor import Compositor, Times
from sipd.events.dialog_info import Dialogs
from sipd.events.message_summary import MessageSummary, Summary
from sipd.events.notifier import Notifier
from sipd.events.package import Package, allow_events, event_of, kind_of
from sipd.events.pickup import Pickup
from sipd.events.presence import Presence
from sipd.events.reg import Registrations
from sipd.events.unasked import TEMPLATES, Said, Unasked
from sipd.events.voicemail import Voicemail
from sipd.events.watch import Watch
from sipd.inventory import Inventory, Table
from sipd.journal import Journal
from sipd.message.errors import Reject
from sipd.message.message import Request
from sipd.message.uri import uri_of_aor
from sipd.proxy.targets import Target, Way
from sipd.records import Change, IRecords

if TYPE_CHECKING:
    from sipd.calls.call import Call
    from sipd.calls.table import Calls
    from sipd.core.serving import Serving
    from sipd.core.uac import Uac
    from sipd.location.service import Location
    from sipd.message.identifiers import Entropy, Identifiers
    from sipd.message.uri import Uri
    from sipd.wheel import TimerWheel

#: The kind of the records of what mailboxes hold.
MAILBOX = "mailbox"
#: Who told what a mailbox holds, where it was a person or program over the API.
API = "api"
#: And where a voicemail system told our subscription.
SUBSCRIBED = "subscription"
_NOTHING_SUPPORTED: frozenset[str] = frozenset()


class Events:
    """All of it. `aor(name)` gives the address-of-record of a user as people name them, `knows(aor)` whether there is
    one; `unreachable` are the bindings (as address-of-record and contact) that do not answer; `tag` gives the To tag of
    our answer to a request."""

    def __init__(self, settings: Settings, uac: Uac, wheel: TimerWheel, wall: Callable[[], float], location: Location,
                 calls: Calls, records: IRecords, serving: Serving, tag: Callable[[Request], str],
                 identifiers: Identifiers, entropy: Entropy, aor: Callable[[str], str], knows: Callable[[str], bool],
                 unreachable: Collection[tuple[str, str]], journal: Journal, inventory: Inventory) -> None:
        self._settings = settings
        self._location = location
        self._calls = calls
        self._records = records
        self._aor = aor
        self._knows = knows
        self._unreachable = unreachable
        #: What mailboxes hold by who told it: by entity, then by the teller.
        self.mailboxes: Table[str, dict[str, Summary]] = inventory.table("mailboxes", settings.publications)
        self.access = Access(settings, aor)
        self.packages: dict[str, Package] = {}
        self.compositor = Compositor(self.packages, records, wheel, wall, identifiers, self.changed, inventory,
                                     _times(settings), settings.publications)
        self.notifier = Notifier(
            self.packages, uac, wheel, wall, location, records, self.access, tag, serving.serve, self._follow, journal,
            inventory, _times(settings), settings.subscriptions, settings.per_watcher, settings.rate)
        published = self.compositor.publications
        self.summaries = MessageSummary(published, self.mailboxes)
        self._registrations = Registrations(location.bindings, wall, inventory)
        self._dialogs = Dialogs(calls.of, aor, knows, inventory)
        self._all: dict[str, Package] = {one.name: one for one in (
            Presence(published, self._doing), self._dialogs, self.summaries, self._registrations)}
        #: The parties of each call, as they were when it was looked at last: who has left it is told too.
        self._parties: Table[int, set[str]] = inventory.table("parties of calls", calls.table.limit)
        self.pickup = Pickup(calls.of, calls.table, aor, lambda watcher, entity: self.access.verdict(
            watcher, entity, "dialog") == WHOLE, location.bindings)
        #: The user whom a number of the configuration stands for, by addresses-of-record; the same where it does not.
        self.alias: Callable[[str], str] = _itself
        #: Gives a target at a peer with a uri; by (peer, number).
        self.peer_target: Callable[[str, str], Target | None] = _no_peer
        self.unasked = Unasked(uac, wheel, location, identifiers, self.summaries.text, message_summary.KIND,
                               inventory)
        self.voicemail = Voicemail(
            uac, wheel, identifiers, entropy, serving.serve,
            lambda entity, summary, done: self.tell_mailbox(entity, SUBSCRIBED, summary, done), inventory)
        self._watched = False
        self._serve_packages()

    def configure(self, settings: Settings) -> None:
        """Other settings; subscriptions that are not allowed any more end."""
        self._settings = settings
        self.access.configure(settings)
        self.compositor.configure(_times(settings), settings.publications)
        self.notifier.configure(_times(settings), settings.subscriptions, settings.per_watcher, settings.rate)
        self._serve_packages()
        self.notifier.review()
        self._light()

    def _light(self) -> None:
        """Lamps of those who do not ask."""
        self.unasked.configure(frozenset(map(self._aor, self._settings.unsolicited)))
        self._follow(self._watched)

    def _serve_packages(self) -> None:
        self._dialogs.rings = self._settings.notify_ringing
        self.summaries.voicemail = self._settings.voicemail
        settings = self._settings
        self.pickup.configure(settings.pickup, settings.pickup_groups.values(), settings.pickup_auto_answer)
        #: What begins the numbers that pick calls up; what no number begins with where there is none.
        self.code = self.pickup.code or "@"
        self.packages.clear()
        self.packages.update({name: self._all[name] for name in self._settings.packages if name in self._all})

    def start(self) -> None:
        """Reads the records, and tells every watcher everything. Raises StoreError."""
        watches: list[Watch] = []
        gone: list[Change] = [(kind, key, None) for kind, key, text in self._records.load()
                              if not self._restore(kind, key, text, watches)]
        if gone:
            self._records.commit(gone, _whatever)
        self.notifier.begin(watches)
        self._light()

    def _restore(self, kind: str, key: str, text: str, watches: list[Watch]) -> bool:
        """Enters a record; False for one that is not wanted any more, or is damaged."""
        try:
            if kind == watch.KIND:
                restored = self.notifier.restore(key, text)
                if restored is not None:
                    watches.append(restored)
                return restored is not None
            if kind == publications.KIND:
                return self.compositor.restore(key, text)
            if kind != MAILBOX or not self._knows(key):
                return False
            self.mailboxes[key] = {
                teller: {name: message_summary.counts(*numbers) for name, numbers in summary.items()}
                for teller, summary in json.loads(text).items()}
            return True
        except (ValueError, KeyError, TypeError, AttributeError):
            return False

    def call_out(self) -> None:
        """Subscribes to the mailboxes that are elsewhere; once there are peers, and again with others."""
        self.voicemail.configure({self._aor(name): peer for name, peer in self._settings.mailboxes.items()})

    def stop(self) -> None:
        """Tells nobody anything any more and closes the records, waiting for the last commit."""
        self.notifier.stop()
        self.unasked.stop()
        self.voicemail.stop()
        self._records.close()

    # --- for the route

    @property
    def allow_events(self) -> tuple[tuple[str, str], ...]:
        """The Allow-Events header, none where nothing is served."""
        return allow_events(self.packages)

    def within(self, request: Request, key: Any) -> bool:
        """See Notifier and Voicemail."""
        return self.notifier.within(request, key) or self.voicemail.within(request, key)

    def at_contact(self, request: Request, uri: Uri) -> bool:
        """See Notifier."""
        return self.notifier.at_contact(request, uri)

    def serves(self, request: Request, entity: str) -> bool:
        """True for a SUBSCRIBE, PUBLISH or NOTIFY about one of our addresses that is served here, not passed on;
        for one without Event too, which `serve` refuses."""
        name = event_of(request)[0]
        package = self.packages.get(name)
        if not name and self.packages and request.method != "NOTIFY":
            return True
        if package is None:
            return False
        if entity[:1] == "@":
            return package is self.summaries and request.method == "SUBSCRIBE"
        if request.method == "NOTIFY":
            return package.name == self.summaries.name and bool(self._settings.publishers)
        return request.method == "SUBSCRIBE" or bool(package.published)

    def serve(self, request: Request, entity: str, sender: str, answer: Answer) -> None:
        """Serves what `serves` told of; `sender` is the address-of-record of who sent it and has been authenticated, ""
        for a stranger. Raises Reject and MalformedMessage, and then does not answer."""
        require(request, _NOTHING_SUPPORTED)
        method, name = request.method, event_of(request)[0]
        if name == self.summaries.name and method == "SUBSCRIBE" and self._is_voicemail(entity):
            entity = sender or entity
        if not self._knows(entity):
            entity = self.alias(entity)
        if not name:
            # RFC 3903 s6: whose state it is comes first; RFC 6665 s4.2.3: then, that nobody can know what is meant
            raise self.unserved() if self._knows(entity) else Reject(404)
        if request.to_tag and method != "PUBLISH":
            raise Reject(481)  # no dialog of ours: those are found before
        if method != "SUBSCRIBE" and not self.access.may_publish(sender, entity):
            raise Reject(403)
        if not self._knows(entity):
            raise Reject(404)
        if method == "SUBSCRIBE":
            self.notifier.subscribe(request, entity, sender, answer)
        elif method == "PUBLISH":
            self.compositor.publish(request, entity, answer)
        else:
            self._notified(request, entity, sender, answer)

    def _is_voicemail(self, entity: str) -> bool:
        """True for what phones ask about the messages of whoever asks: the number that is dialled to hear them, or this
        server, which is nobody."""
        voicemail = self._settings.voicemail
        return entity[:1] == "@" or bool(voicemail) and message_summary.account(entity, voicemail) == uri_of_aor(entity)

    def way(self, request: Request, entity: str, sender: str) -> Way | None:
        """Where a request for one of our addresses goes that neither routing nor registrations decide about: to the
        phone that an INVITE wants to replace a dialog of, or to the peer that serves a package. Raises Reject."""
        if request.method == "INVITE":
            return self.pickup.way(request, entity, sender)
        peer = self._settings.relays.get(event_of(request)[0], "")
        target = self.peer_target(peer, entity.rpartition("@")[0]) if peer else None
        return ([[target]], None) if target is not None else None

    def unserved(self) -> Reject:
        """RFC 6665 s4.2.1.1: for a package that nobody serves."""
        return Reject(489, headers=self.allow_events)

    # --- mailboxes

    def _notified(self, request: Request, entity: str, sender: str, answer: Answer) -> None:
        """RFC 3842: a voicemail system tells what waits, without having been asked."""
        if kind_of(request) != message_summary.KIND:
            raise Reject(415, headers=(("Accept", message_summary.KIND),))
        summary = message_summary.read(request.body)
        self.tell_mailbox(entity, sender, summary, lambda reason: answer.give(
            500 if reason else 200, "Not Stored" if reason else ""))

    def tell_mailbox(self, entity: str, teller: str, summary: Summary | None, done: Callable[[str], None]) -> None:
        """What waits in a mailbox as `teller` says, None for nothing to say any more; `done` is called with "" once it
        is stored, else with why not."""
        tellers = {**self.mailboxes.get(entity, {})}
        tellers.pop(teller, None)
        if summary is not None:
            tellers[teller] = summary
            if entity not in self.mailboxes and self.mailboxes.full:
                self.mailboxes.refused += 1
                done("there are too many mailboxes")
                return
        text = json.dumps(tellers) if tellers else None
        self._records.commit([(MAILBOX, entity, text)], partial(self._told, entity, tellers, done))

    def _told(self, entity: str, tellers: dict[str, Summary], done: Callable[[str], None], reason: str) -> None:
        if not reason:
            if tellers:
                self.mailboxes[entity] = tellers
            else:
                self.mailboxes.pop(entity, None)
            self.changed(self.summaries.name, entity)
        done(reason)

    def told(self, name: str = "") -> list[dict[str, Any]]:
        """What waits for whom, as people name them, and who said so; everybody for whom somebody ever said anything."""
        entities = {entity for package, entity in self.compositor.entities() if package == self.summaries.name}
        wanted = [self._aor(name)] if name else sorted(entities | set(self.mailboxes))
        rows = []
        for entity in wanted:
            summary = self.summaries.summary(entity)
            rows.append({
                "mailbox": entity, "waiting": any(numbers[0] for numbers in summary.values()),
                "counts": {kind or "some": list(numbers) for kind, numbers in sorted(summary.items())},
                "by": sorted({*self.mailboxes.get(entity, {}), *(["PUBLISH"] if entity in entities else [])})})
        return rows

    def set_mailbox(self, name: str, new: int, old: int, done: Callable[[str], None]) -> bool:
        """So many voice messages wait for somebody, says a person or program; False when there is no such user."""
        entity = self._aor(name)
        if not self._knows(entity):
            return False
        self.tell_mailbox(entity, API, {"voice-message": message_summary.counts(new, old)}, done)
        return True

    @property
    def templates(self) -> dict[str, NotifyTemplate]:
        """What `notify` can send."""
        return {**TEMPLATES, **self._settings.templates}

    def notify(self, template: str, name: str, said: Callable[[list[Said]], None]) -> bool:
        """Sends a template to the phones of somebody; False when there are none."""
        return self.unasked.notify(self._aor(name), self.templates[template], said)

    # --- what happens elsewhere

    def changed(self, package: str, entity: str) -> None:
        """The state of an entity may be another one."""
        self.notifier.changed(package, entity)
        if package == self.summaries.name:
            self.unasked.changed(entity)

    def _follow(self, watched: bool) -> None:
        """Follows registrations and calls while somebody watches: otherwise they cost nothing."""
        (self._location.watch if watched or self.unasked.users else self._location.unwatch)(self._bound)
        if watched == self._watched:
            return
        self._watched = watched
        if watched:
            self._calls.watch(self._called)
            for call in self._calls.live():
                self._parties[call.number] = call.parties()
        else:
            self._calls.watchers.remove(self._called)
            self._parties.clear()

    def _bound(self, aor: str, changes: Sequence[BindingChange], why: str) -> None:
        self.notifier.moved(aor, changes)
        self._registrations.note(aor, changes, why)
        self.changed("presence", aor)
        self.changed("reg", aor)
        if aor in self.unasked.users:
            self.unasked.bound(aor)

    def _called(self, call: Call) -> None:
        """A call is another one now: so it is of everybody who is, or was, part of it."""
        self._dialogs.note(call)
        parties = call.parties()
        before = self._parties.pop(call.number, set())
        if call.state != TERMINATED:
            self._parties[call.number] = parties
        for party in parties | before:
            entity = self._aor(party)
            self.changed("presence", entity)
            self.changed("dialog", entity)

    def _doing(self, entity: str) -> str:
        """What somebody does, as far as registrations and calls tell."""
        calls = self._calls.of(entity)
        if calls:
            talking = any(call.answered >= 0.0 or self._aor(call.caller) == entity for call in calls)
            return pidf.TALKING if talking else pidf.RINGING
        bindings = self._location.bindings(entity)
        if any((entity, binding.contact) not in self._unreachable for binding in bindings):
            return pidf.READY
        return pidf.OFFLINE


def _times(settings: Settings) -> Times:
    return Times(settings.min_expires, settings.default_expires, settings.max_expires)


def _whatever(reason: str) -> None:
    """What could not be deleted is found again at the next start."""


def _no_peer(peer: str, number: str) -> Target | None:
    """Until there are peers."""
    return None


def _itself(aor: str) -> str:
    return aor
