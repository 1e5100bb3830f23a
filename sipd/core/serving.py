"""Requests that this server answers itself once it has done something for them, in a transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from sipd.answer import Answer, Headers
from sipd.message import compose
from sipd.message.errors import MalformedMessage, Reject
from sipd.message.message import Request

if TYPE_CHECKING:
    from sipd.core.refusals import Refusals
    from sipd.message.uri import Uri
    from sipd.proxy.targets import Way
    from sipd.transaction.key import Key
    from sipd.transaction.layer import ServerTransaction, TransactionLayer


class Served(Answer):
    """The answer to a request in its server transaction."""

    __slots__ = ("_serving", "_server", "_request", "_tag")

    def __init__(self, serving: Serving, server: ServerTransaction, request: Request, tag: str) -> None:
        self._serving = serving
        self._server = server
        self._request = request
        #: The To tag, "" for the one that follows from the request.
        self._tag = tag

    def give(self, status: int, reason: str = "", headers: Headers = ()) -> None:
        """See Answer."""
        request = self._request
        self._server.answer(status, compose.response(
            request, status, reason, self._tag or self._serving.refusals.tag(request), headers))

    def refused(self) -> None:
        """It is refused without state, as every refusal of a check."""
        self._server.end()

    def waits(self) -> None:
        """RFC 4320 s4.1: while the store takes its time."""
        if self._server.request is not None:
            self._serving.layer.promise_trying(self._server)


class Serving:
    """Makes the server transaction of a request and the object that answers it."""

    def __init__(self, layer: TransactionLayer, refusals: Refusals) -> None:
        self.layer = layer
        self.refusals = refusals

    def serve(self, request: Request, key: Key, work: Callable[[Answer], None]) -> None:
        """Calls `work` with the answer, which is given once, now or later. What `work` refuses by an exception needs no
        transaction: it comes out of here. Raises Reject (482, 503) too."""
        answer = self.begin(request, key, "" if request.to_tag else request.uri_text)
        try:
            work(answer)
        except (Reject, MalformedMessage):
            answer.refused()
            raise
        answer.waits()

    def begin(self, request: Request, key: Key, about: str, tag: str = "") -> Served:
        """The answer to a request, in a transaction that begins. `about` is what it is about where it may come by
        several paths, "" in dialogs; `tag` the To tag of the answer, by itself one that follows from the request. The
        answer is told when the request is `refused` instead, and when who serves it has returned (`waits`). Raises
        Reject (482, 503)."""
        origin = hash((about, request.from_tag, request.call_id, request.cseq_number))
        if about and origin in self.layer.origins:
            raise Reject(482)  # s8.2.2.2: the same request over another path
        server = self.layer.serve(request, key)
        if server is None:
            raise Reject(503, "Server Overloaded")
        if about:
            server.know_origin(origin)
        assert request.flow is not None
        request.flow.known = True
        return Served(self, server, request, tag)


class Events(Protocol):
    """What is served by SUBSCRIBE and PUBLISH."""

    #: What numbers begin with that pick calls up; an at sign where none do.
    code: str

    @property
    def allow_events(self) -> tuple[tuple[str, str], ...]:
        """The Allow-Events header, none where nothing is served."""

    def within(self, request: Request, key: Key) -> bool:
        """Serves a request in the dialog of a subscription; False for any other. Raises Reject."""

    def at_contact(self, request: Request, uri: Uri) -> bool:
        """True for a request to the Contact of a subscription of ours; `uri` is its Request-URI. Raises Reject (481)
        where it is in no dialog."""

    def serves(self, request: Request, entity: str) -> bool:
        """True for a request that is served, False for one that is passed on."""

    def serve(self, request: Request, entity: str, sender: str, answer: Answer) -> None:
        """Serves it; answers once. Raises Reject."""

    def way(self, request: Request, entity: str, sender: str) -> Way | None:
        """Where a SUBSCRIBE or PUBLISH goes that is not served here, or an INVITE with Replaces or to pick up; None
        where they are as others. Raises Reject."""

    def unserved(self) -> Reject:
        """The refusal of what nobody serves."""
