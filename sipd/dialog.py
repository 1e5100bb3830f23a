"""Dialogs: what two user agents share from the first answer on, and the rules of it (RFC 3261 s12). Pure.

    dialog = Dialog.of_request(request, tag)        # somebody asked us (s12.1.1): a SUBSCRIBE, an INVITE
    dialog = Dialog.of_response(invite, response)   # we asked somebody (s12.1.2)
    Dialog.key_of(request)                          # the key that finds the dialog of a request (s12.2.2)

A request of ours in it has `dialog.local` as From, `dialog.remote` as To, `dialog.target` as Request-URI, the Route
values `dialog.routes`, and the CSeq `dialog.next_cseq()`.
"""

from __future__ import annotations

from sipd.message.address import Address
from sipd.message.errors import MalformedMessage
from sipd.message.message import Message, Request, Response

#: Call-ID, our tag and the other side's.
DialogId = tuple[str, str, str]

#: Values of a route set at most.
_MOST_ROUTES = 64


class Dialog:
    """One dialog as one side sees it (s12).

    `local` and `remote` are what stands in From and To of our requests, tags included; `target` is the remote target
    URI; `routes` are Route values as written, in the order in which our requests have them; `remote_cseq` is -1 while
    nothing came from there; `secure` asks for sips all the way. All of them are plain texts and numbers, so whoever
    must keep a dialog through a restart stores them and calls `Dialog` with them again.
    """

    __slots__ = ("call_id", "local", "remote", "local_tag", "remote_tag", "target", "routes", "local_cseq",
                 "remote_cseq", "secure")

    def __init__(self, call_id: str, local: str, remote: str, local_tag: str, remote_tag: str, target: str,
                 routes: tuple[str, ...] = (), local_cseq: int = 0, remote_cseq: int = -1,
                 secure: bool = False) -> None:
        self.call_id = call_id
        self.local = local
        self.remote = remote
        self.local_tag = local_tag
        self.remote_tag = remote_tag
        self.target = target
        self.routes = routes
        self.local_cseq = local_cseq
        self.remote_cseq = remote_cseq
        self.secure = secure

    @staticmethod
    def of_request(request: Request, local_tag: str) -> Dialog:
        """s12.1.1: the dialog that our answer to a request makes; `local_tag` goes into the To of that answer.

        Raises MalformedMessage when the request has no Contact that could be called.
        """
        to = request.first["to"]
        flow = request.flow
        # s12.1.1: only what came over TLS and asks for sips is secure
        secure = request.uri_text[:5].lower() == "sips:" and flow is not None and flow.transport == "tls"
        return Dialog(
            request.call_id, to if request.to_tag else f"{to};tag={local_tag}", request.first["from"],
            request.to_tag or local_tag, request.from_tag, contact_of(request), _routes(request),
            0, request.cseq_number, secure)

    @staticmethod
    def of_response(request: Request, response: Response) -> Dialog:
        """s12.1.2: the dialog that a response to a request of ours makes.

        A 2xx to an INVITE must be acknowledged even without a usable Contact: the Request-URI is the target then.
        """
        return Dialog(
            request.call_id, request.first["from"], response.first.get("to", request.first["to"]), request.from_tag,
            response.to_tag, _contact_or(response, request.uri_text), _routes(response)[::-1], request.cseq_number, -1,
            request.uri_text[:5].lower() == "sips:")

    @property
    def id(self) -> DialogId:
        """The key of this dialog in a table."""
        return self.call_id, self.local_tag, self.remote_tag

    @staticmethod
    def key_of(request: Request) -> DialogId:
        """s12.2.2: the id of the dialog that a request which came belongs to. Raises MalformedMessage."""
        return request.call_id, request.to_tag, request.from_tag

    def next_cseq(self) -> int:
        """s12.2.1.1: the CSeq number of our next request, ACK and CANCEL aside, which have that of their INVITE."""
        self.local_cseq += 1
        return self.local_cseq

    def takes(self, request: Request) -> bool:
        """s12.2.2: False for a request older than the last one, which is answered 500; else its CSeq counts."""
        if request.cseq_number < self.remote_cseq:
            return False
        self.remote_cseq = request.cseq_number
        return True

    def confirm(self, response: Response) -> None:
        """s13.2.2.4: a 2xx to the INVITE of an early dialog gives the route set that counts."""
        self.routes = _routes(response)[::-1]
        self.refresh(response)

    def refresh(self, message: Message) -> None:
        """s12.2.1.2, s12.2.2: a target refresh request, or the 2xx to one of ours, brings another Contact; the route
        set stays. What has no usable Contact changes nothing."""
        self.target = _contact_or(message, self.target)


def contact_of(message: Message) -> str:
    """The URI in the one Contact that a dialog needs (s12.1.1). Raises MalformedMessage when there is none, or none
    that could be called."""
    values = message.values("contact")
    if not values:
        raise MalformedMessage("there is no Contact")
    address = Address.parse(values[0])
    if not address.uri.is_sip:
        raise MalformedMessage("Contact is not a SIP URI")
    return address.uri_text


def _contact_or(message: Message, otherwise: str) -> str:
    try:
        return contact_of(message)
    except MalformedMessage:
        return otherwise


def _routes(message: Message) -> tuple[str, ...]:
    """The Record-Route values, topmost first."""
    return tuple(message.values("record-route")[:_MOST_ROUTES])
