"""One subscription as the notifier holds it: its dialog, what its watcher knows, and its record for the disk. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sipd.dialog import Dialog
from sipd.events.package import Asked
from sipd.events.subscription import Subscription
from sipd.proxy.targets import Target

if TYPE_CHECKING:
    from sipd.core.uac import Ask, Sending
    from sipd.events.package import Document
    from sipd.wheel import Timer

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
