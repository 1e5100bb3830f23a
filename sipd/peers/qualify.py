"""Qualify: asks phones and peers by OPTIONS whether they are there, which also keeps the way through their NAT open.

The questions are spread over the interval and bounded in their rate. Bindings found unreachable stand in a table that
routing looks into; they are asked on, more often, and come back with their first answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sipd.binding import Binding, Change
from sipd.core.uac import Ask, Outcome
from sipd.inventory import Inventory, Table
from sipd.journal import Journal
from sipd.message.identifiers import Entropy, Identifiers, chance
from sipd.peers.reachability import REACHABLE, UNREACHABLE, Reachability
from sipd.proxy.targets import Target, groups_of
from sipd.wheel import Timer, TimerWheel

if TYPE_CHECKING:
    from sipd.config_trunks import Qualify as Settings
    from sipd.core.uac import Sending, Uac
    from sipd.location.service import Location
    from sipd.peers.trunks import Trunks

#: A new binding is asked for the first time within so many seconds, who did not answer is asked again after them.
SOON = 10.0
#: The interval is thrown anew each time, up to this part more or less.
JITTER = 0.2

#: The address-of-record and contact of a binding, or "" and the name of a trunk.
Key = tuple[str, str]


class Peer:
    """Somebody who is asked."""

    __slots__ = ("key", "every", "reachability", "asked_at", "source", "waiting", "turn", "_timer", "_sending")

    def __init__(self, key: Key, every: float, reachability: Reachability) -> None:
        self.key = key
        #: Seconds between two questions.
        self.every = every
        self.reachability = reachability
        #: Of the last question (seconds since the epoch), 0 before the first.
        self.asked_at = 0.0
        #: The hop that answered last.
        self.source = ""
        #: Called with the state after the next answer or silence.
        self.waiting: list[Callable[[], None]] = []
        #: The next question need not queue up any more.
        self.turn = False
        self._timer: Timer | None = None
        self._sending: Sending | None = None

    def stop(self) -> None:
        """Asks no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call()


class Qualify:
    """Asks whoever is to be asked. `every(aor)` gives the seconds between two questions to that user's phones, 0 for
    none; `domain` stands in our From; `limit` bounds who is asked."""

    def __init__(self, settings: Settings, uac: Uac, wheel: TimerWheel, location: Location, trunks: Trunks,
                 every: Callable[[str], float], domain: str, identifiers: Identifiers, entropy: Entropy,
                 wall: Callable[[], float], journal: Journal, inventory: Inventory, limit: int = 100_000) -> None:
        self._settings = settings
        self._uac = uac
        self._wheel = wheel
        self._location = location
        self._trunks = trunks
        self._every = every
        self._domain = domain
        self._identifiers = identifiers
        self._entropy = entropy
        self._wall = wall
        self._journal = journal
        self.peers: Table[Key, Peer] = inventory.table("peers asked by OPTIONS", limit)
        #: Those bindings among them that routing passes over.
        self.unreachable: Table[Key, None] = inventory.table("bindings found unreachable", limit)
        #: Told of each user one of whose phones is out of reach, or (True) in reach again.
        self.told: Callable[[str, bool], None] = _nobody
        #: The contacts of an address-of-record that are asked.
        self._contacts: Table[str, set[str]] = inventory.table("users asked by OPTIONS", limit)
        #: When the next question may be asked (seconds of the clock).
        self._free_at = 0.0

    # --- who is asked

    def start(self, settings: Settings, anybody: bool) -> None:
        """Begins with every binding there is and with the trunks, and follows them from now on; again, with other
        settings, after a change of the configuration. Without `anybody` among the users to be asked, bindings cost
        nothing."""
        if settings != self._settings:
            for key in list(self.peers):
                self._drop(key)
        self._settings = settings
        if anybody:
            self._location.watch(self._changed)
        else:
            self._location.unwatch(self._changed)
        present = {binding.aor for binding in self._location.everything()} if anybody else set()
        for aor in sorted(present.union(self._contacts)):
            self.bindings_changed(aor, settings.interval)
        self.trunks_changed()

    def is_silent(self, trunk: str) -> bool:
        """True when the trunk of that name was asked and does not answer."""
        peer = self.peers.get(("", trunk))
        return peer is not None and peer.reachability.state == UNREACHABLE

    def stop(self) -> None:
        """Asks nobody any more."""
        self._location.unwatch(self._changed)
        for key in list(self.peers):
            self._drop(key)

    def bindings_changed(self, aor: str, within: float = SOON) -> None:
        """The bindings of `aor` are others now, or were refreshed. New ones are asked for the first time within so many
        seconds; one that was silent is asked at once: perhaps it was the one who has just registered."""
        every = self._every(aor)
        present = self._contacts.get(aor)
        if not every and present is None:
            return
        wanted = [binding.contact for binding in self._location.bindings(aor)] if every else []
        for contact in sorted(present or ()):
            if contact not in wanted or self.peers[aor, contact].every != every:
                self._drop((aor, contact))
        for contact in wanted:
            peer = self.peers.get((aor, contact))
            if peer is None:
                self._begin((aor, contact), every, within)
            elif peer.reachability.missed and not peer.turn:
                if peer._sending is not None:
                    peer._sending.cancel()  # what it was asked while it was away need not be waited for
                    peer._sending = None
                self._ask_after(peer, 0.0)

    def _changed(self, aor: str, changes: Sequence[Change], why: str) -> None:
        """As a watcher of the location service."""
        self.bindings_changed(aor)

    def trunks_changed(self) -> None:
        """The trunks are others now."""
        wanted = {("", name): self._interval(trunk.config.qualify) for name, trunk in self._trunks.trunks.items()}
        for key, peer in list(self.peers.items()):
            if not key[0] and wanted.get(key) != peer.every:
                self._drop(key)
        for key, every in wanted.items():
            if every and key not in self.peers:
                self._begin(key, every, SOON)

    def _interval(self, wanted: bool | int) -> float:
        if wanted is True:
            return float(self._settings.interval)
        return float(wanted)

    def _begin(self, key: Key, every: float, within: float) -> None:
        if self.peers.full:
            self.peers.refused += 1
            return
        peer = self.peers[key] = Peer(key, every, Reachability(self._settings.lagged, self._settings.failures))
        if key[0]:
            self._contacts.setdefault(key[0], set()).add(key[1])
        self._ask_after(peer, chance(self._entropy) * min(every, within))

    def _drop(self, key: Key) -> None:
        peer = self.peers.pop(key, None)
        if key in self.unreachable:
            self._reached(key)
        contacts = self._contacts.get(key[0])
        if contacts is not None:
            contacts.discard(key[1])
            if not contacts:
                del self._contacts[key[0]]
        if peer is not None:
            peer.stop()

    # --- asking

    def now(self, aor: str, trunk: str, told: Callable[[list[dict[str, Any]]], None]) -> bool:
        """Asks the phones of `aor`, or the trunk of that name, at once, whether or not they are asked otherwise;
        `told` is called once, with their `rows`, when all have answered or were silent. False when there is nobody to
        ask."""
        keys = [("", trunk)] if trunk in self._trunks.trunks else [
            (aor, binding.contact) for binding in self._location.bindings(aor)]
        left = len(keys)

        def one() -> None:
            nonlocal left
            left -= 1
            if not left:
                rows = [_row(peer) for peer in asked]
                for key in extra:
                    self._drop(key)
                told(rows)

        extra: list[Key] = []
        for key in keys:
            if key not in self.peers:
                extra.append(key)
                self._begin(key, float(self._settings.interval), SOON)
        asked = [self.peers[key] for key in keys if key in self.peers]
        left = len(asked)
        for peer in asked:
            peer.waiting.append(one)
            peer.turn = True  # whoever asks by hand does not wait for all the others
            self._ask_after(peer, 0.0)
        return bool(asked)

    def _ask_after(self, peer: Peer, seconds: float) -> None:
        if peer._timer is not None:
            peer._timer.cancel()
        peer._timer = self._wheel.start(seconds, self._ask, peer)

    def _ask(self, peer: Peer) -> None:
        """Its time has come, and with `turn` its place in the queue too: more may be due than may be asked."""
        peer._timer = None
        now = self._wheel.now
        if not peer.turn:
            due = max(self._free_at, now)
            self._free_at = due + 1.0 / self._settings.rate
            if due > now:
                peer.turn = True
                self._ask_after(peer, due - now)
                return
        peer.turn = False
        if peer._sending is not None:
            return
        target = self._target(peer.key)
        if target is None:
            self._drop(peer.key)
        else:
            self._send(peer, target)

    def _send(self, peer: Peer, target: Target) -> None:
        aor, name = peer.key
        own = f"sip:{self._domain}"
        if not aor:
            own = self._trunks.trunks[name].account()
        to = str(target.uri)
        ask = Ask("OPTIONS", target, f"<{to}>", f"<{own}>;tag={self._identifiers.tag()}", self._identifiers.tag(),
                  headers=(("Accept", "application/sdp"),), blames=False,
                  patience=self._settings.timeout)
        peer.asked_at = self._wall()
        peer._sending = self._uac.send(ask, partial(self._told, peer))
        if peer._sending is None:
            self._again(peer)

    def _told(self, peer: Peer, outcome: Outcome) -> None:
        """s11.1: whatever it answers, it is there."""
        peer._sending = None
        reachability = peer.reachability
        was = reachability.state
        if outcome.status:
            changed = reachability.answered(outcome.seconds)
            peer.source = str(outcome.hop or outcome.flow or "")
        else:
            changed = reachability.silent()
        if changed:
            self._note(peer, was, outcome.reason)
        self._again(peer)
        waiting, peer.waiting = peer.waiting, []
        for call in waiting:
            call()

    def _again(self, peer: Peer) -> None:
        every = peer.every
        if peer.reachability.missed:
            every = min(every, SOON)
        self._ask_after(peer, every * (1.0 - JITTER + 2.0 * JITTER * chance(self._entropy)))

    def _note(self, peer: Peer, was: str, reason: str) -> None:
        state = peer.reachability.state
        aor, contact = peer.key
        if aor and state == UNREACHABLE:
            self.unreachable[peer.key] = None
            self.told(aor, False)
        elif peer.key in self.unreachable:
            self._reached(peer.key)
        if not aor and was == UNREACHABLE:
            trunk = self._trunks.trunks.get(contact)
            if trunk is not None and trunk.registration.state == "failed":
                trunk.start()
        if self._journal.sinks and (was == UNREACHABLE or state != REACHABLE):
            who = f"{aor} at {contact}" if aor else f"peer {contact}"
            if state == UNREACHABLE:
                self._journal.write("peer-unreachable", peer=who, reason=reason)
            else:
                self._journal.write("peer-reachable", peer=who, state=state,
                                    milliseconds=round(peer.reachability.rtt * 1000))

    def _reached(self, key: Key) -> None:
        del self.unreachable[key]
        self.told(key[0], True)

    def _target(self, key: Key) -> Target | None:
        aor, name = key
        if not aor:
            trunk = self._trunks.trunks.get(name)
            return None if trunk is None else trunk.target()
        bindings: Iterable[Binding] = [one for one in self._location.bindings(aor) if one.contact == name]
        groups = groups_of(list(bindings))
        return groups[0][0] if groups else None

    # --- for people

    def rows(self, aor: str = "", trunk: str = "") -> list[dict[str, Any]]:
        """Everybody who is asked, or the phones of one user, or one trunk. Times in seconds, `rtt` in milliseconds."""
        return [_row(peer) for (owner, name), peer in self.peers.items()
                if not (aor or trunk) or (owner == aor if owner else name == trunk)]


def _nobody(aor: str, reached: bool) -> None:
    """Until somebody wants to know."""


def _row(peer: Peer) -> dict[str, Any]:
    owner, name = peer.key
    reachability = peer.reachability
    return {
        "peer": owner or name, "kind": "user" if owner else "peer", "contact": name if owner else "",
        "state": reachability.state, "rtt": round(reachability.rtt * 1000, 1), "missed": reachability.missed,
        "server": peer.source, "asked": round(peer.asked_at), "every": peer.every,
    }
