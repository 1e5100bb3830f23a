"""The commands of the control API about subscriptions, voicemail lamps and words for phones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from sipd.admin.api import LISTED, Api, Refused, text_argument

Rows = list[dict[str, Any]]


class INotifier(Protocol):
    """What is needed of the notifier."""

    def rows(self, aor: str = "") -> Rows:
        """Every subscription, or those of one watcher and about one entity."""


class IEvents(Protocol):
    """What is needed of the events room."""

    def told(self, name: str = "") -> Rows:
        """What waits for whom."""

    def set_mailbox(self, name: str, new: int, old: int, done: Callable[[str], None]) -> bool:
        """So many messages wait for somebody; False when there is no such user."""

    @property
    def templates(self) -> Mapping[str, Any]:
        """What can be sent."""

    def notify(self, template: str, name: str, said: Callable[[Iterable[Any]], None]) -> bool:
        """Sends a template to the phones of somebody; False when there are none."""


class EventCommands:
    """Subscriptions, mailboxes, templates. `aor(name)` gives the address-of-record of a user here."""

    def __init__(self, notifier: INotifier, events: IEvents, aor: Callable[[str], str]) -> None:
        self._notifier = notifier
        self._events = events
        self._aor = aor

    def register(self, api: Api) -> None:
        """Enters these commands."""
        api.register("subscriptions", self.subscriptions)
        api.register("mwi", self.mwi)
        api.register("mwi set", self.set)
        api.register("notify", self.notify)

    def subscriptions(self, request: dict[str, Any]) -> dict[str, Any]:
        """name: those of that user, and about that user; without it all, LISTED at most."""
        name = text_argument(request, "name", "")
        rows = self._notifier.rows(self._aor(name) if name else "")
        return {"subscriptions": rows[:LISTED], "all": len(rows)}

    def mwi(self, request: dict[str, Any]) -> Rows:
        """name: what waits for that user; without it for everybody for whom anybody ever said anything. `counts` by
        class of message: new, old, new and urgent, old and urgent."""
        return self._events.told(text_argument(request, "name", ""))

    def set(self, request: dict[str, Any]) -> Deferred[dict[str, Any]]:
        """name, new, old: so many voice messages wait for that user. The answer comes when that is stored."""
        name = text_argument(request, "name")
        new, old = _count(request, "new"), _count(request, "old")
        stored: Deferred[dict[str, Any]] = Deferred()

        def done(reason: str) -> None:
            if reason:
                stored.errback(Refused(reason))
            else:
                stored.callback(self._events.told(name)[0])

        if not self._events.set_mailbox(name, new, old, done):
            raise Refused(f"there is no user {name!r}")
        return stored

    def notify(self, request: dict[str, Any]) -> Deferred[Rows]:
        """template, name: sends it to every phone of that user; the answer comes when each has answered or was silent,
        with a `status` of 0 then."""
        template, name = text_argument(request, "template"), text_argument(request, "name")
        if template not in self._events.templates:
            raise Refused(f"there is no template {template!r}; there are: {', '.join(sorted(self._events.templates))}")
        answered: Deferred[Rows] = Deferred()
        if not self._events.notify(template, name, lambda said: answered.callback(
                [{"contact": one.contact, "status": one.status, "reason": one.reason} for one in said])):
            raise Refused(f"{name}: no phone is registered")
        return answered


def _count(request: dict[str, Any], key: str) -> int:
    value = request.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32:
        raise Refused(f"{key}: a whole number from 0 is wanted")
    return value
