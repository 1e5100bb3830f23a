"""What phones that watch do, for the tests of events."""

from __future__ import annotations

from typing import Any

from sipd.message.message import Request, Response
from sipd.message.parser import parse
from tests.support.rig import Phone


def subscribe(phone: Phone, entity: str, package: str = "presence", *extra: str, expires: int | None = 600,
              status: int = 200, **fields: Any) -> Response:
    """A SUBSCRIBE outside a dialog and its answer."""
    lines = [f"Event: {package}", *extra, *(() if expires is None else (f"Expires: {expires}",))]
    uri = entity if ":" in entity else f"sip:{entity}@{phone.rig.domain}"
    phone.request("SUBSCRIBE", uri, *lines, **fields)
    answer = phone.take(status)
    assert isinstance(answer, Response)
    return answer


def refresh(phone: Phone, answer: Response, expires: int, package: str = "presence", **fields: Any) -> Request:
    """A SUBSCRIBE in the dialog that `answer` made, each with a higher CSeq than the one before."""
    phone.refreshes = getattr(phone, "refreshes", 100) + 1  # type: ignore[attr-defined]
    return phone.in_dialog("SUBSCRIBE", answer, f"Event: {package}", f"Expires: {expires}",
                           cseq=answer.cseq_number + phone.refreshes, **fields)  # type: ignore[attr-defined]


def unsubscribe(phone: Phone, answer: Response, package: str = "presence") -> Request:
    """Ends a subscription; its last NOTIFY."""
    refresh(phone, answer, 0, package)
    phone.take(200)
    notify = notified(phone)
    assert notify.first["subscription-state"] == "terminated;reason=timeout"
    return notify


def notified(phone: Phone, status: int = 200) -> Request:
    """The NOTIFY that came, answered."""
    notify = phone.take("NOTIFY")
    assert isinstance(notify, Request)
    phone.answer(notify, status)
    return notify


def basic(notify: Request) -> str:
    """What a PIDF says."""
    return notify.body.decode().partition("<basic>")[2].partition("<")[0]


class Watcher:
    """A phone that answers each NOTIFY at once, as real ones do, and remembers them."""

    def __init__(self, phone: Phone, entity: str, package: str = "presence", *extra: str, expires: int = 3600,
                 **fields: Any) -> None:
        self.phone = phone
        self.package = package
        #: Every NOTIFY, oldest first, each once.
        self.notifies: list[Request] = []
        #: The status it answers with.
        self.status = 200
        self._seen = 0
        self.ok = subscribe(phone, entity, package, *extra, expires=expires, **fields)
        assert phone.endpoint is not None
        phone.endpoint.on_receive = self._received
        self._received(b"")

    def _received(self, data: bytes) -> None:
        for message in self.phone.drain():
            if isinstance(message, Request) and message.method == "NOTIFY":
                self.phone.answer(message, self.status)
                if message.cseq_number not in [one.cseq_number for one in self.notifies]:
                    self.notifies.append(message)

    @property
    def last(self) -> Request:
        """The newest NOTIFY."""
        return self.notifies[-1]

    @property
    def body(self) -> str:
        """What it says."""
        return self.last.body.decode()

    def news(self) -> list[str]:
        """The bodies that have come since this was asked last."""
        self.phone.rig.advance(0.2, 0.05)
        fresh = [one.body.decode() for one in self.notifies[self._seen:]]
        self._seen = len(self.notifies)
        return fresh

    def end(self) -> None:
        """Unsubscribes."""
        assert self.phone.endpoint is not None
        refresh(self.phone, self.ok, 0, self.package)
        self.phone.rig.advance(0.2, 0.05)
        assert self.last.first["subscription-state"] == "terminated;reason=timeout", self.last.first
        assert parse(self.phone.endpoint.received[-1]) is not None
        self.phone.endpoint.on_receive = None
