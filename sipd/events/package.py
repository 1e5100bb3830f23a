"""What a package of events is to the notifier and to the compositor (RFC 6665 s5.4). Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol

from sipd.message.errors import MalformedMessage
from sipd.message.message import Request
from sipd.message.params import parse_params


class Document(NamedTuple):
    """State to be told: a body of type `kind`. Its version, where it has one, stands between `before` and `after`.

    `told` is what it says, comparable with that of another document: equal ones need not be sent twice.
    """

    kind: str
    told: object
    before: str
    after: str = ""
    versioned: bool = False

    def body(self, version: int) -> bytes:
        """The octets."""
        text = f"{self.before}{version}{self.after}" if self.versioned else self.before
        return text.encode("utf-8", "surrogateescape")


class Publication(NamedTuple):
    """Event state that somebody published (RFC 3903 s4.1): `kind` is its type, `expires_at` wall-clock seconds."""

    package: str
    entity: str
    etag: str
    kind: str
    body: bytes
    expires_at: float


class Asked(NamedTuple):
    """What a subscription asks for: whose state, who watches, the type of body, the parameters of Event, and whether
    this watcher sees all of it."""

    entity: str
    watcher: str
    kind: str
    params: tuple[tuple[str, str], ...] = ()
    whole: bool = True


class Package(Protocol):
    """One package. Its room tells the notifier when the state of an entity (an address-of-record) may be another."""

    #: As Event has it.
    name: str
    #: The types of body it writes, the first one unless somebody asks for another.
    kinds: tuple[str, ...]
    #: The types it takes by PUBLISH, none where it takes none.
    published: tuple[str, ...]
    #: Seconds of a subscription that does not say for how long (RFC 6665 s3.1.1).
    duration: int
    #: The shortest time between two NOTIFYs of changes to one watcher (seconds).
    least: float
    #: How many of them may follow each other without that, after a pause.
    burst: int
    #: True where what is different may do for those who know the rest; a body then is made for one watcher.
    partial: bool

    def document(self, asked: Asked, last: object | None) -> Document:
        """The state now: all of it where `last` is None, else what is different may do; `last` is what the watcher was
        told before, as `Document.told` had it."""

    def check(self, kind: str, body: bytes) -> None:
        """Reads a body that is published. Raises MalformedMessage, and Reject (415)."""


def event_of(request: Request) -> tuple[str, dict[str, str]]:
    """The package and the parameters of Event, in lower case but for values; "" for the package where there is none.
    Raises MalformedMessage."""
    value = request.first.get("event", "")
    name, semicolon, rest = value.partition(";")
    if len(value) > 500:
        raise MalformedMessage("Event is too long")
    if value and len(request.all("event")) > 1:
        raise MalformedMessage("there is more than one Event")  # RFC 6665 s8.2.1
    params = parse_params(semicolon + rest)
    return name.strip(" \t").lower(), {key: text or "" for key, text in params.items()}


def allow_events(packages: Collection[str]) -> tuple[tuple[str, str], ...]:
    """The Allow-Events header (RFC 6665 s8.2.2), none where nothing is served."""
    return (("Allow-Events", ", ".join(packages)),) if packages else ()


def acceptable(request: Request, kinds: Collection[str], preferred: str = "") -> str:
    """Which of `kinds`, the first of which is the usual one, a watcher takes by its Accept (RFC 3261 s20.1): "" when it
    takes none, `preferred` whatever it says."""
    if preferred:
        return preferred
    if "accept" not in request.first:
        return next(iter(kinds))
    accepted: dict[str, bool] = {}
    for value in request.values("accept"):
        name, semicolon, rest = value.partition(";")
        try:
            worth = parse_params(semicolon + rest).get("q") or "1"
        except MalformedMessage:
            continue
        accepted["/".join(part.strip(" \t") for part in name.lower().split("/"))] = bool(worth.strip("0."))
    for kind in kinds:
        # what is said of one type counts for more than what is said of all
        if next((accepted[one] for one in (kind, f"{kind.partition('/')[0]}/*", "*/*") if one in accepted), False):
            return kind
    return ""


def kind_of(request: Request) -> str:
    """The type in Content-Type without its parameters, "" when there is none."""
    name = request.first.get("content-type", "").partition(";")[0].lower()
    return "/".join(part.strip(" \t") for part in name.split("/")) if name else ""
