"""Subscriptions as the notifier holds them: the dialog of each, what its watcher knows, its record for the disk; and
the tables of all. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from sipd.dialog import Dialog, DialogId
from sipd.events.package import Asked
from sipd.events.subscription import Subscription
from sipd.inventory import Inventory, Table
from sipd.proxy.targets import Target
from sipd.records import IRecords

if TYPE_CHECKING:
    from sipd.core.uac import Ask, Sending
    from sipd.events.package import Document
    from sipd.wheel import Timer

K = TypeVar("K")

#: The kind of their records.
KIND = "subscription"
#: CSeq numbers and versions are written down ahead, so many at a time: after a restart the next block is begun.
BLOCK = 1000


class Watch:
    """A subscription. `event` is the Event value as NOTIFYs have it; `flow` the id of the flow to the watcher, "~"
    before it where nothing else leads there; `listener` the one the watcher knows us by; `phone` what tells the binding
    of the watcher's phone among others, and `bound` where that binding was when it was looked at last."""

    __slots__ = ("package", "asked", "event", "dialog", "machine", "flow", "listener", "phone", "bound", "told",
                 "version", "ceiling", "document", "expires_at", "since", "ask", "sending", "later", "deadline")

    def __init__(self, package: str, asked: Asked, event: str, dialog: Dialog, machine: Subscription, flow: str = "",
                 listener: str = "", phone: str = "", bound: tuple[str, str] = ("", ""), since: float = 0.0) -> None:
        self.package = package
        self.asked = asked
        self.event = event
        self.dialog = dialog
        self.machine = machine
        self.flow = flow
        self.listener = listener
        self.phone = phone
        self.bound = bound
        self.since = since
        #: What the watcher is known to know; None where that is nothing.
        self.told: object | None = None
        #: Of the next document.
        self.version = 0
        #: CSeq numbers and versions below this may be used.
        self.ceiling = BLOCK
        #: What the NOTIFY under way tells.
        self.document: Document | None = None
        #: Wall-clock seconds.
        self.expires_at = 0.0
        self.ask: Ask | None = None
        self.sending: Sending | None = None
        self.later: Timer | None = None
        self.deadline: Timer | None = None

    @property
    def contact(self) -> str:
        """The user part of our Contact: nobody can guess it."""
        return f"s{self.dialog.local_tag}"

    def target(self) -> Target:
        """Where its NOTIFYs go."""
        only = self.flow[:1] == "~"
        return Target(self.dialog.target, self.dialog.routes, self.flow[1:] if only else self.flow, only, self.listener)

    def record(self) -> tuple[str, str]:
        """Key and text for the disk."""
        dialog = self.dialog
        text = json.dumps({
            "package": self.package, "asked": list(self.asked), "event": self.event, "call_id": dialog.call_id,
            "local": dialog.local, "remote": dialog.remote, "local_tag": dialog.local_tag,
            "remote_tag": dialog.remote_tag, "target": dialog.target, "routes": list(dialog.routes),
            "remote_cseq": dialog.remote_cseq, "secure": dialog.secure, "flow": self.flow, "listener": self.listener,
            "phone": self.phone, "bound": list(self.bound), "ceiling": self.ceiling, "expires_at": self.expires_at,
            "since": self.since, "state": self.machine.state})
        return json.dumps(dialog.id), text


def restored(text: str, least: float, burst: int) -> Watch:
    """A subscription from its record, `least` and `burst` as its machine has them. Raises what a damaged record raises:
    ValueError, KeyError, TypeError."""
    value: dict[str, Any] = json.loads(text)
    entity, watcher, kind, params, whole = value["asked"]
    ceiling = int(value["ceiling"])
    dialog = Dialog(value["call_id"], value["local"], value["remote"], value["local_tag"], value["remote_tag"],
                    value["target"], tuple(value["routes"]), ceiling, int(value["remote_cseq"]), bool(value["secure"]))
    asked = Asked(entity, watcher, kind, tuple((name, text) for name, text in params), bool(whole))
    watch = Watch(value["package"], asked, value["event"], dialog,
                  Subscription(least, value["state"] != "pending", burst), value["flow"], value["listener"],
                  value["phone"], (value["bound"][0], value["bound"][1]), float(value["since"]))
    watch.version, watch.ceiling = ceiling, ceiling + BLOCK
    watch.expires_at = float(value["expires_at"])
    return watch


class Watches:
    """All subscriptions, `limit` at the most, and their records. `follow(True)` is called with the first one and
    `follow(False)` with the end of the last."""

    def __init__(self, records: IRecords, follow: Callable[[bool], None], inventory: Inventory, limit: int) -> None:
        self._records = records
        self._follow = follow
        self.by_dialog: Table[DialogId, Watch] = inventory.table("subscriptions", limit)
        #: By package and entity.
        self.by_entity: Table[tuple[str, str], dict[DialogId, Watch]] = inventory.table("entities watched", limit)
        self.by_watcher: Table[str, dict[DialogId, Watch]] = inventory.table("watchers", limit)

    def configure(self, limit: int) -> None:
        """Another bound, for what comes from now on."""
        self.by_dialog.limit = self.by_entity.limit = self.by_watcher.limit = limit

    def about(self, package: str, entity: str) -> list[Watch]:
        """Who watches an entity."""
        return list(self.by_entity.get((package, entity), {}).values())

    def of(self, watcher: str) -> list[Watch]:
        """What somebody watches, oldest first."""
        return list(self.by_watcher.get(watcher, {}).values())

    def enter(self, watch: Watch) -> None:
        """From now on it is known."""
        key = watch.dialog.id
        self.by_dialog[key] = watch
        if len(self.by_dialog) == 1:
            self._follow(True)
        self.by_entity.setdefault((watch.package, watch.asked.entity), {})[key] = watch
        self.by_watcher.setdefault(watch.asked.watcher, {})[key] = watch

    def leave(self, watch: Watch) -> bool:
        """It is not known any more, though its record stays; False where it was not known."""
        key = watch.dialog.id
        if self.by_dialog.get(key) is not watch:
            return False
        del self.by_dialog[key]
        _take_out(self.by_entity, (watch.package, watch.asked.entity), key)
        _take_out(self.by_watcher, watch.asked.watcher, key)
        if not self.by_dialog:
            self._follow(False)
        return True

    def keep(self, watches: Iterable[Watch], done: Callable[[str], None]) -> None:
        """Writes their records as they are now; `done` gets "" once they are on disk, else why not."""
        self._records.commit([(KIND, *watch.record()) for watch in watches], done)

    def keep_later(self, watch: Watch) -> None:
        """Writes its record; where that fails, it is written with the next change."""
        self.keep((watch,), _whatever)

    def drop(self, watch: Watch, done: Callable[[str], None] | None = None) -> None:
        """Deletes its record; what could not be deleted is found again at the next start."""
        self._records.commit([(KIND, watch.record()[0], None)], done or _whatever)


def _take_out(table: dict[K, dict[DialogId, Watch]], name: K, key: DialogId) -> None:
    others = table.get(name, {})
    others.pop(key, None)
    if not others:
        table.pop(name, None)


def _whatever(reason: str) -> None:
    """Nobody waits for it."""
