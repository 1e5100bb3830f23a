"""NOTIFYs that nobody subscribed to: lamps of phones that never ask, and the words by which phones are told to read
their configuration again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sipd.config_events import NotifyTemplate
from sipd.core.uac import Ask, Outcome
from sipd.inventory import Inventory, Table
from sipd.message.uri import uri_of_aor
from sipd.proxy.targets import Target, groups_of

if TYPE_CHECKING:
    from sipd.core.uac import Sending, Uac
    from sipd.location.service import Location
    from sipd.message.identifiers import Identifiers
    from sipd.wheel import Timer, TimerWheel

#: Seconds after which a lamp is told again that did not answer; then when its phone registers or the state changes.
WAITS = (5.0, 20.0, 80.0)
#: What RFC 6665 wants in each NOTIFY: here there is no subscription.
_STATE = ("Subscription-State", "terminated;reason=noresource")

#: What phones of many makers know.
TEMPLATES: Mapping[str, NotifyTemplate] = {
    "check-sync": NotifyTemplate(event="check-sync"),
    "reboot": NotifyTemplate(event="check-sync;reboot=true"),
    "no-reboot": NotifyTemplate(event="check-sync;reboot=false"),
    "resync": NotifyTemplate(event="resync"),
    "report": NotifyTemplate(event="report"),
    "restart-now": NotifyTemplate(event="reboot_now"),
}


class Said(NamedTuple):
    """What one phone answered; 0 for nothing."""

    contact: str
    status: int
    reason: str


class _Lamp:
    """One phone that is told without asking."""

    __slots__ = ("told", "registered", "sending", "stale", "tries", "timer")

    def __init__(self) -> None:
        #: The Call-ID of its REGISTERs: a phone that was started anew has another (RFC 3261 s10.2.4).
        self.registered = ""
        #: What it is known to know.
        self.told = ""
        self.sending: Sending | None = None
        self.stale = False
        self.tries = 0
        self.timer: Timer | None = None


class Unasked:
    """Sends them. `body` gives what waits in the mailbox of an address-of-record, `kind` is its type."""

    def __init__(self, uac: Uac, wheel: TimerWheel, location: Location, identifiers: Identifiers,
                 body: Callable[[str], str], kind: str, inventory: Inventory, limit: int = 10_000) -> None:
        self._uac = uac
        self._wheel = wheel
        self._location = location
        self._identifiers = identifiers
        self._body = body
        self._kind = kind
        self._lamps: Table[tuple[str, str], _Lamp] = inventory.table("lamps told unasked", limit)
        #: Whose lamps they are.
        self.users: frozenset[str] = frozenset()

    # --- lamps

    def configure(self, users: frozenset[str]) -> None:
        """Whose phones are told of their messages."""
        gone, self.users = self.users - users, users
        for aor in gone:
            self.bound(aor)
        for aor in users:
            self.bound(aor)

    def bound(self, aor: str) -> None:
        """The bindings of somebody are others, or were refreshed: who is new, or missed something, is told."""
        bindings = self._location.bindings(aor) if aor in self.users else []
        present = {binding.contact: binding.call_id for binding in bindings}
        for key in [key for key in self._lamps if key[0] == aor and key[1] not in present]:
            self._drop(key)
        for contact, call_id in present.items():
            key = aor, contact
            if key not in self._lamps:
                if self._lamps.full:
                    self._lamps.refused += 1
                    continue
                self._lamps[key] = _Lamp()
            lamp = self._lamps[key]
            if lamp.registered != call_id:
                lamp.registered, lamp.told = call_id, ""  # a phone that was started anew knows nothing
            lamp.tries = 0
            self._tell(key)

    def changed(self, aor: str) -> None:
        """Something else waits for somebody."""
        if aor in self.users:
            for key in [key for key in self._lamps if key[0] == aor]:
                self._lamps[key].tries = 0
                self._tell(key)

    def stop(self) -> None:
        """Tells nobody any more."""
        for key in list(self._lamps):
            self._drop(key)

    def _drop(self, key: tuple[str, str]) -> None:
        lamp = self._lamps.pop(key)
        if lamp.sending is not None:
            lamp.sending.cancel()
        if lamp.timer is not None:
            lamp.timer.cancel()

    def _tell(self, key: tuple[str, str]) -> None:
        lamp = self._lamps[key]
        if lamp.timer is not None:
            lamp.timer.cancel()
            lamp.timer = None
        if lamp.sending is not None:
            lamp.stale = True
            return
        body = self._body(key[0])
        target = self._target(*key)
        if body == lamp.told or target is None:
            return
        lamp.stale = False
        lamp.sending = self._send(key[0], target, (("Event", "message-summary"), _STATE, ("Content-Type", self._kind)),
                                  body.encode(), partial(self._answered, key, lamp, body))
        if lamp.sending is None:
            self._again(key, lamp)

    def _answered(self, key: tuple[str, str], lamp: _Lamp, body: str, outcome: Outcome) -> None:
        lamp.sending = None
        lamp.told = body if 200 <= outcome.status < 300 else ""
        if lamp.stale:
            self._tell(key)
        elif not outcome.status or outcome.status >= 500 or outcome.status == 408:
            self._again(key, lamp)

    def _again(self, key: tuple[str, str], lamp: _Lamp) -> None:
        if lamp.tries < len(WAITS):
            lamp.timer = self._wheel.start(WAITS[lamp.tries], self._tell, key)
            lamp.tries += 1

    # --- words

    def notify(self, aor: str, template: NotifyTemplate, told: Callable[[list[Said]], None]) -> bool:
        """Sends a NOTIFY to every phone of somebody; `told` is called once, with what they answered. False when there
        is no phone."""
        targets = [target for group in groups_of(self._location.bindings(aor)) for target in group]
        said: list[Said] = []
        left = len(targets)

        def one(contact: str, outcome: Outcome) -> None:
            said.append(Said(contact, outcome.status, outcome.reason))
            if len(said) == left:
                told(said)

        headers = (("Event", template.event), _STATE, *template.headers.items())
        if template.body:
            headers = (*headers, ("Content-Type", template.content_type))
        for target in targets:
            if self._send(aor, target, headers, template.body.encode(), partial(one, target.uri)) is None:
                self._wheel.start(0.0, partial(_full, one, target.uri), None)
        return bool(targets)

    def _target(self, aor: str, contact: str) -> Target | None:
        groups = groups_of([one for one in self._location.bindings(aor) if one.contact == contact])
        return groups[0][0] if groups else None

    def _send(self, aor: str, target: Target, headers: tuple[tuple[str, str], ...], body: bytes,
              done: Callable[[Outcome], None]) -> Any:
        tag = self._identifiers.tag
        entity = f"<{uri_of_aor(aor)}>"
        ask = Ask("NOTIFY", target, entity, f"{entity};tag={tag()}", tag(), contact=f"s{tag()}", headers=headers,
                  body=body, blames=False)
        return self._uac.send(ask, done)


def _full(one: Callable[[str, Outcome], None], contact: str, nothing: None) -> None:
    one(contact, Outcome(0, "too much is under way here"))
