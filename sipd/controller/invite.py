"""An INVITE of our own: sent, rung out, cancelled, acknowledged (RFC 3261 s13.2, s14.1, s9.1; RFC 6026 s8.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from sipd.dialog import Dialog
from sipd.flow import Flow
from sipd.message import compose
from sipd.message.errors import MalformedMessage
from sipd.message.hop import Hop
from sipd.message.message import Request, Response
from sipd.proxy.forward import MAX_DATAGRAM, contact_at, own_request
from sipd.proxy.route_headers import next_hop, secured
from sipd.proxy.targets import Target
from sipd.wheel import Timer

if TYPE_CHECKING:
    from sipd.proxy.proxy import Proxy
    from sipd.transaction.layer import ClientTransaction

#: Dialogs that the 2xx of one INVITE may make; further forks are not believed.
_MOST_DIALOGS = 32


class InviteUser(Protocol):
    """Who sent an INVITE."""

    def provisional(self, invite: Invite, response: Response) -> None:
        """A response from 101 to 199."""

    def accepted(self, invite: Invite, dialog: Dialog, response: Response) -> None:
        """The first 2xx: `invite.acknowledge` follows, at once or later."""

    def forked(self, dialog: Dialog) -> None:
        """A 2xx of another fork (s13.2.2.4). It is acknowledged; the user sends BYE."""

    def refused(self, invite: Invite, status: int, reason: str, response: Response | None) -> None:
        """It has come to nothing: a final response, or `status` 0 when there was none."""


class Sent:
    """Where an INVITE and its ACKs come from: what of ours stands in them. `contact` is the user of our Contact."""

    __slots__ = ("target", "from_", "to", "call_id", "cseq", "contact", "headers", "body")

    def __init__(self, target: Target, from_: str, to: str, call_id: str, cseq: int, contact: str,
                 headers: tuple[tuple[str, str], ...] = (), body: bytes = b"") -> None:
        self.target = target
        self.from_ = from_
        self.to = to
        self.call_id = call_id
        self.cseq = cseq
        self.contact = contact
        self.headers = headers
        self.body = body


class Invite:
    """One INVITE, in a dialog or not. `dialog` is the one it is sent in, None for one that begins a dialog.

    It goes to one hop, and that is nearly always this server itself, whose core forks it, routes it and finds other
    hops. `user` hears what comes of it, never before `send` has returned.
    """

    __slots__ = ("_proxy", "_sent", "_user", "_request", "_transaction", "_rang", "_cancelled", "_over", "_timer",
                 "_patience", "_acks", "dialog", "_hop")

    def __init__(self, proxy: Proxy, sent: Sent, user: InviteUser, dialog: Dialog | None = None) -> None:
        self._proxy = proxy
        self._sent = sent
        self._user: InviteUser | None = user
        #: The dialog it was sent in, later that of the first 2xx.
        self.dialog = dialog
        self._request: Request | None = None
        self._transaction: ClientTransaction | None = None
        self._rang = self._cancelled = self._over = False
        self._timer: Timer | None = None
        #: What cancels it when it takes too long.
        self._patience: Timer | None = None
        #: The ACK of each 2xx by its To tag, None while there is none yet.
        self._acks: dict[str, Ack | None] = {}
        self._hop: Hop | None = None

    # --- sending

    def send(self, patience: float = 0.0) -> None:
        """Finds the way and sends. After `patience` seconds, if any, it is cancelled."""
        if patience:
            self._patience = self._proxy.layer.wheel.start(patience, self._too_long, None)
        find_flow(self._proxy, self._sent.target, self._draft(), self._found)

    def _too_long(self, nothing: None) -> None:
        self._patience = None
        self.cancel()

    def _draft(self) -> Request:
        sent = self._sent
        return compose.request("INVITE", sent.target.uri, [("Route", value) for value in sent.target.route])

    def _found(self, flow: Flow | None, hop: Hop | None) -> None:
        if self._over:
            return
        if flow is None or self._cancelled:
            self._timer = self._proxy.layer.wheel.start(0.0, self._nowhere, None)
            return
        self._hop = hop
        self._send(flow)

    def _nowhere(self, nothing: None) -> None:
        self._timer = None
        self._refused(0, "given up" if self._cancelled else "no way there", None)

    def _send(self, flow: Flow, any_size: bool = False) -> None:
        if self._over:
            return
        sent, proxy = self._sent, self._proxy
        branch = proxy.identifiers.branch()
        request = own_request("INVITE", sent.target, flow, branch, sent.from_, sent.to, sent.call_id, sent.cseq,
                              (("Contact", contact_at(sent.contact, flow, sent.target.uri)), *sent.headers), sent.body)
        data = request.encode()
        if len(data) > MAX_DATAGRAM and not (flow.reliable or any_size) and self._hop is not None:
            proxy.by_tcp(self._hop, flow, lambda chosen: self._send(chosen, True))  # s18.1.1
            return
        self._request = request
        self._transaction = proxy.layer.send_request(request, data, branch, flow, self)
        if self._transaction is None:
            self._timer = proxy.layer.wheel.start(0.0, self._full, None)

    def _full(self, nothing: None) -> None:
        self._timer = None
        self._refused(0, "too many transactions", None)

    def cancel(self) -> None:
        """s9.1: gives it up. The user still hears how it ended: a 2xx may have been under way."""
        if self._over or self._cancelled or self._acks:
            return
        self._cancelled = True
        if self._rang:
            self._send_cancel()

    def _send_cancel(self) -> None:
        request, transaction, layer = self._request, self._transaction, self._proxy.layer
        if request is None or transaction is None:
            return
        cancel = compose.hop_by_hop(request, "CANCEL", request.first["to"])
        layer.send_request(cancel, cancel.encode(), transaction.key[0], transaction.flow, _Unheard())
        # s9.1: whoever does not answer the INVITE within 64*T1 never will
        self._timer = layer.wheel.start(layer.values.timeout, self._unanswered, None)

    def _unanswered(self, nothing: None) -> None:
        self._timer = None
        if self._transaction is not None:
            self._transaction.end()
        self._refused(0, "given up", None)

    @property
    def contact(self) -> str:
        """Our Contact value as it was sent, "" before."""
        return "" if self._request is None else self._request.first["contact"]

    # --- what comes back

    def response(self, transaction: ClientTransaction, response: Response) -> None:
        """See ClientUser."""
        status = response.status
        if status < 200:
            first, self._rang = not self._rang, True
            if self._cancelled:
                if first:
                    self._send_cancel()
            elif status > 100 and self._user is not None:
                self._user.provisional(self, response)
        elif status < 300:
            self._accepted(response)
        else:
            self._refused(status, response.reason, response)

    def failed(self, transaction: ClientTransaction, reason: str) -> None:
        """See ClientUser."""
        self._refused(0, reason or "no answer", None)

    def _accepted(self, response: Response) -> None:
        try:
            tag = response.to_tag
        except MalformedMessage:
            return
        if tag in self._acks:
            ack = self._acks[tag]
            if ack is not None:
                ack.send()  # s13.2.2.4: repeated with each repeat of the 2xx
            return
        request = self._request
        if request is None or len(self._acks) >= _MOST_DIALOGS:
            return
        first = not self._acks and not self._over
        self._acks[tag] = None
        self._stop_timer()
        dialog = self.dialog
        if dialog is None or not first:
            dialog = Dialog.of_response(request, response)
        else:
            dialog.refresh(response)
        user = self._user
        if first and user is not None:
            self._over = True
            self.dialog = dialog
            user.accepted(self, dialog, response)
            return
        self._acknowledge(dialog, (), b"")
        if user is not None:
            user.forked(dialog)

    def acknowledge(self, headers: tuple[tuple[str, str], ...] = (), body: bytes = b"") -> None:
        """The ACK for the first 2xx, with a session description where the 2xx made the offer."""
        assert self.dialog is not None
        self._acknowledge(self.dialog, headers, body)

    def _acknowledge(self, dialog: Dialog, headers: tuple[tuple[str, str], ...], body: bytes) -> None:
        ack = self._acks[dialog.remote_tag] = Ack(self._proxy, dialog, self._sent.cseq, headers, body)
        ack.send()

    def _refused(self, status: int, reason: str, response: Response | None) -> None:
        self._stop_timer()
        if self._over:
            return
        self._over = True
        user, self._user = self._user, None
        if user is not None:
            user.refused(self, status, reason, response)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


class Ack:
    """The ACK of a 2xx: no transaction, sent again whenever the 2xx comes again (s13.2.2.4)."""

    __slots__ = ("_proxy", "_dialog", "_cseq", "_headers", "_body", "_branch")

    def __init__(self, proxy: Proxy, dialog: Dialog, cseq: int, headers: tuple[tuple[str, str], ...],
                 body: bytes) -> None:
        self._proxy = proxy
        self._dialog = dialog
        self._cseq = cseq
        self._headers = headers
        self._body = body
        self._branch = proxy.identifiers.branch()

    def send(self) -> None:
        """Sends it, or sends it again."""
        dialog = self._dialog
        target = Target(dialog.target, dialog.routes)
        draft = compose.request("ACK", target.uri, [("Route", value) for value in target.route])

        def found(flow: Flow | None, hop: Hop | None) -> None:
            if flow is None:
                return
            data = self._made(target, flow)
            if hop is None or flow.reliable or len(data) <= MAX_DATAGRAM:
                flow.send(data)
            else:
                self._proxy.by_tcp(hop, flow, lambda chosen: chosen.send(self._made(target, chosen)))

        find_flow(self._proxy, target, draft, found)

    def _made(self, target: Target, flow: Flow) -> bytes:
        dialog = self._dialog
        return own_request("ACK", target, flow, self._branch, dialog.local, dialog.remote, dialog.call_id, self._cseq,
                           self._headers, self._body).encode()


class _Unheard:
    """The user of a CANCEL: the INVITE has an answer of its own."""

    __slots__ = ()

    def response(self, transaction: ClientTransaction, response: Response) -> None:
        """See ClientUser."""

    def failed(self, transaction: ClientTransaction, reason: str) -> None:
        """See ClientUser."""


def find_flow(proxy: Proxy, target: Target, draft: Request, done: Callable[[Flow | None, Hop | None], None]) -> None:
    """Calls `done` once with a flow to the target and its hop, or with None, at once or later (RFC 3263 s4). `draft`
    has the target's Route."""
    try:
        uri = secured(next_hop(draft), target.uri)
    except MalformedMessage:
        done(None, None)
        return
    proxy.with_hops(uri, lambda hops: proxy.first_flow(list(hops), "", done))
