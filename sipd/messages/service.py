"""The parts of this room put together: what waits, its delivery, and the plans for what comes (RFC 3428)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sipd.binding import Binding
from sipd.inventory import Inventory
from sipd.journal import Journal
from sipd.message.identifiers import Entropy, Identifiers
from sipd.message.message import Request
from sipd.message.uri import Uri
from sipd.messages.delivery import Delivery
from sipd.messages.mailboxes import Mailboxes
from sipd.messages.plan import Offline, OfflinePlan
from sipd.proxy.targets import Groups, Plan
from sipd.wheel import TimerWheel

if TYPE_CHECKING:
    from sipd.config_messages import Messages as Settings
    from sipd.core.uac import Uac
    from sipd.location.service import Location
    from sipd.records import IRecords


class Messages:
    """Messages for those who are not there. `knows` tells users here; `branch_of` makes a branch that follows from its
    arguments, also after a restart; `under_way` is how long (seconds) a relayed MESSAGE may be."""

    def __init__(self, settings: Settings, records: IRecords, location: Location, uac: Uac, wheel: TimerWheel,
                 wall: Callable[[], float], aor_of: Callable[[Uri], str], knows: Callable[[str], bool], domain: str,
                 branch_of: Callable[..., str], identifiers: Identifiers, entropy: Entropy, journal: Journal,
                 inventory: Inventory, under_way: float) -> None:
        self._wall = wall
        self.boxes = Mailboxes(settings, records, wheel, wall, aor_of, knows, domain, identifiers, journal, inventory)
        self.delivery = Delivery(self.boxes, location, uac, wheel, branch_of, entropy, journal, inventory)
        #: The user whom a number of the configuration stands for, by addresses-of-record; the same where it does not.
        self.alias: Callable[[str], str] = lambda aor: aor
        self._offline = Offline(self.boxes, self.delivery, location, wheel, under_way)

    def configure(self, settings: Settings, under_way: float) -> None:
        """Other settings, for what comes from now on; what waits for people who are no users any more ends."""
        self.boxes.configure(settings)
        self.boxes.forget_users()
        self._offline.hold = under_way

    def load(self) -> None:
        """Reads the store. Raises StoreError."""
        self.boxes.load()

    def start(self) -> None:
        """Begins to deliver, once the listeners are open; again at will."""
        self.delivery.start()

    def hang_up(self) -> None:
        """Sends nothing any more."""
        self.delivery.stop()

    def stop(self) -> None:
        """Closes the store, waiting for its last commit."""
        self.boxes.stop()

    # --- what comes

    def plan(self, request: Request, aor: str, bindings: Sequence[Binding], groups: Groups) -> OfflinePlan:
        """See core.route.Offline."""
        return self._offline.plan(request, aor, bindings, groups)

    def after(self, request: Request, aor: str, first: Plan) -> OfflinePlan:
        """See core.route.Offline."""
        return self._offline.after(request, self.alias(aor), first)

    # --- for people

    def rows(self, aor: str = "") -> list[dict[str, Any]]:
        """What waits, for one user or for all, and then what was not delivered of late, oldest first. Times in seconds:
        `received` and `ended` since the epoch, `expires` from now."""
        now = self._wall()
        found = [{
            "id": message.number, "to": message.aor, "from": message.sender, "received": round(message.received_at),
            "expires": max(0, round(message.expires_at - now)), "size": message.size, "type": message.content_type,
            "state": "being delivered" if box.round is not None and box.round.message is message else "waiting",
            "tries": box.failures, "ended": 0, "reason": "",
        } for box in self.boxes.boxes.values() if aor in ("", box.aor) for message in box.messages.values()
            if message.ending is None]
        return found + [{
            "id": number, "to": row["aor"], "from": row["sender"], "received": round(row["received_at"]), "expires": 0,
            "size": row["size"], "type": "", "state": "not delivered", "tries": 0, "ended": round(row["ended_at"]),
            "reason": row["reason"],
        } for number, row in self.boxes.ended.items() if aor in ("", row["aor"])]

    def remove(self, number: int = 0, aor: str = "") -> int:
        """Takes away the message of that number, or all that wait for a user; how many these were."""
        gone = [message for message in self.boxes.messages.values()
                if message.ending is None and number in (0, message.number) and aor in ("", message.aor)]
        for message in gone:
            self.boxes.remove(message, "removed by the administrator")
        return len(gone)
