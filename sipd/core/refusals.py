"""Refusals without state, so that strangers cost nothing (RFC 3261 s8.2.7, s26.3.2.4).

One response goes out per request received. Its To tag is keyed and follows from the request, so that a repeat gets the
same one and the ACK of a refused INVITE is known for what it is.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import TYPE_CHECKING

from sipd.inventory import Inventory, Table
from sipd.message import compose
from sipd.message.errors import MalformedMessage
from sipd.message.identifiers import keyed_hash
from sipd.message.message import Message, Request

if TYPE_CHECKING:
    from sipd.transaction.layer import TransactionLayer


class Refusals:
    """Sends refusals over the layer; `secret` (16 octets or more) keys their tags. Who is told to come again is told
    `after` seconds and up to `spread` more."""

    __slots__ = ("_layer", "_keyed", "_within", "_after", "_spread")

    def __init__(self, layer: TransactionLayer, secret: bytes, inventory: Inventory, after: int = 5,
                 spread: int = 10) -> None:
        self._layer = layer
        self._after = after
        self._spread = spread
        #: Copied for each tag.
        self._keyed = keyed_hash(secret, 8)
        #: What the To tag would have been where the request had one of its own, as a re-INVITE has.
        self._within: Table[str, None] = inventory.table("refusals within dialogs", 1024, cache=True)

    def configure(self, after: int, spread: int) -> None:
        """Other times for those who are told to come again."""
        self._after, self._spread = after, spread

    def tag(self, request: Message) -> str:
        """The To tag of a response of ours to this request: the same for a repeat and for its ACK."""
        via = request.via
        try:
            from_tag = request.from_tag
        except MalformedMessage:
            from_tag = ""
        text = f"{request.call_id}\0{from_tag}\0{request.cseq_number}\0{via.branch if via is not None else ''}"
        mac = self._keyed.copy()
        mac.update(text.encode("utf-8", "surrogateescape"))
        return mac.hexdigest()

    def refuse(self, request: Request, status: int, reason: str = "",
               headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Answers a request outside any transaction; the 200 to a stranger's OPTIONS goes this way too."""
        tag = self.tag(request)
        try:
            if request.to_tag:
                if request.method == "INVITE":
                    self._within.remember(tag, None)
                tag = ""
        except MalformedMessage:
            tag = ""  # To cannot be read: it goes back as it came
        self._layer.send_response(request, compose.response(request, status, reason, tag, headers))

    def put_off(self, request: Request) -> None:
        """A 503 for a request that begins something, which is to come again later."""
        tag = self.tag(request)
        self._layer.send_response(request, compose.response(request, 503, "", tag, (self._again(tag),)))

    def again(self, request: Message) -> tuple[str, str]:
        """The Retry-After of a 503 to this request (s20.33), the same for a repeat, another for each, so that those who
        are refused together do not come back together."""
        return self._again(self.tag(request))

    def _again(self, tag: str) -> tuple[str, str]:
        return "Retry-After", str(self._after + int(tag, 16) % (self._spread + 1))

    def knows_ack(self, ack: Message) -> bool:
        """True for the ACK of a refusal sent here (s17.1.1.3): its To tag is ours, or all the rest is an INVITE's."""
        tag = self.tag(ack)
        return compare_digest(ack.to_tag.encode("utf-8", "surrogateescape"), tag.encode()) or tag in self._within
