"""A branch: one target of a forwarded request, hop after hop until one answers (RFC 3261 s16.6, RFC 3263 s4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sipd.flow import Flow
from sipd.message.hop import Hop
from sipd.message.message import Request, Response
from sipd.message.uri import Uri
from sipd.proxy.dressing import Worn
from sipd.proxy.forward import strip_via
from sipd.proxy.response_context import BranchState
from sipd.proxy.targets import Target
from sipd.wheel import Timer

if TYPE_CHECKING:
    from sipd.calls.call import Call
    from sipd.proxy.forwarding import Forwarding
    from sipd.transaction.layer import ClientTransaction, ServerTransaction


#: A hop of an address family that no listener has.
_NO_LISTENER: Final = "no listener of its family"


class Branch(BranchState):
    """The state of a branch, its way from hop to hop, and where its responses go."""

    __slots__ = ("forwarding", "target", "hops", "hop", "datagrams", "transaction", "request", "timer_c", "c_ends",
                 "timer", "worn")

    def __init__(self, forwarding: Forwarding, target: Target) -> None:
        super().__init__()
        self.forwarding = forwarding
        self.target = target
        #: Hops not tried yet, best first.
        self.hops: list[Hop] = []
        self.hop: Hop | None = None
        #: The UDP flow to the hop, where a request went by TCP for its size alone (s18.1.1).
        self.datagrams: Flow | None = None
        self.transaction: ClientTransaction | None = None
        #: The request as sent, while a CANCEL may still be made from it.
        self.request: Request | None = None
        self.timer_c: Timer | None = None
        #: When timer C is over (seconds of the clock).
        self.c_ends = 0.0
        #: Patience with a silent hop, later with a cancelled branch that does not end.
        self.timer: Timer | None = None
        #: How the request was dressed for a trunk.
        self.worn: Worn | None = None

    # --- its way from hop to hop

    def find(self, uri: Uri) -> None:
        """Looks for the hops of `uri` and begins with the first."""
        self.forwarding.proxy.with_hops(uri, lambda hops: self._resolved(uri, hops))

    def _resolved(self, uri: Uri, hops: list[Hop]) -> None:
        if self._over():
            return
        self.hops = list(hops)
        if hops:
            self.try_next_hop()
        else:
            self.forwarding.proxy.note_nowhere(uri)
            self.forwarding.fail(self, 503)

    def try_next_hop(self) -> None:
        """Sends to the next of its hops; there is one."""
        forwarding = self.forwarding
        proxy, request = forwarding.proxy, forwarding.request
        hop = self.hop = self.hops.pop(0)
        listener = self.target.listener
        if not listener and request is not None and request.flow is not None:
            listener = request.flow.listener.name
        flow = proxy.transports.flow_to(hop, listener)
        while flow is None and hop.transport == "udp" and self.hops:
            # a loop, for names with many of them must not go deep
            proxy.blame(hop, _NO_LISTENER)
            hop = self.hop = self.hops.pop(0)
            flow = proxy.transports.flow_to(hop, listener)
        if flow is not None:
            forwarding.send(self, flow)
        elif hop.transport == "udp":
            forwarding.hop_failed(self, _NO_LISTENER)
        else:
            proxy.transports.connect(hop, self._connected)

    def _connected(self, flow: Flow | None, reason: str) -> None:
        if self._over():
            return
        if flow is None:
            self.forwarding.hop_failed(self, reason)
        else:
            self.forwarding.send(self, flow)

    def sized(self, chosen: Flow, datagrams: Flow) -> None:
        """s18.1.1: a request too large for a datagram takes this flow; `datagrams` is where it would have gone."""
        self.datagrams = datagrams if chosen.reliable else None
        if not self._over():
            self.forwarding.send(self, chosen, True)

    def _over(self) -> bool:
        """Whether nothing is to be sent any more: while the network was asked, the branch was given up."""
        if self.done:
            return True
        if self.cancel_wanted or self.forwarding.context.final_sent:
            self.forwarding.fail(self, 487)
            return True
        return False

    def next_hop_instead(self, reason: str, seconds: float = 0.0) -> bool:
        """RFC 3263 s4.3: after a failure the next hop is tried, with a branch and a transaction of its own. The hop
        asked to be left alone for `seconds`."""
        forwarding, hop = self.forwarding, self.hop
        if hop is None:
            if self.transaction is not None:
                forwarding.proxy.note_flow(self.transaction.flow, reason)
            return False
        forwarding.proxy.blame(hop, reason, seconds)
        if forwarding.call is not None:
            forwarding.call.note("hop-failed", hop, reason)
        if not self.hops or self.cancel_wanted or forwarding.context.final_sent or forwarding.prepared is None:
            return False
        self.rang = False
        self.transaction = self.datagrams = None
        if self.worn is not None:
            self.worn.tried = {}  # the next hop has refused nothing yet
        self.try_next_hop()
        return True

    # --- what comes back

    def response(self, transaction: ClientTransaction, response: Response) -> None:
        """See ClientUser."""
        self.forwarding.response(self, response)

    def failed(self, transaction: ClientTransaction, reason: str) -> None:
        """See ClientUser."""
        self.forwarding.hop_failed(self, reason)

    def challenged(self, response: Response, request: Request | None, over: bool) -> int:
        """A trunk answers 401 or 407 to `request`, and our credentials are to answer that (s22.2, s22.3). 0 when the
        same hop is to be asked again, with the next CSeq in a transaction of its own, else the status that this counts
        as; `over`: somebody else has answered.

        Where the credentials are wrong the caller hears 500. A 401 or 407 passed on would ask him for a password that
        is none of his; a 403 says that he may not (s21.4.4), while it is this server that cannot do what it was asked
        (s21.5.1).
        """
        self.stop_timers()
        worn, forwarding = self.worn, self.forwarding
        self.request = self.transaction = None
        if self.cancel_wanted or over or request is None or worn is None:
            return 487
        again = worn.again(request, response)
        call = forwarding.call
        if call is not None:
            call.note("asked", self.target.uri, response.status, "answered" if again else "not what we have")
        if not again:
            forwarding.proxy.note_wrong(worn, request, response)
            return 500
        self.rang = False
        return 0

    def stop_timers(self) -> None:
        """Nothing more is waited for."""
        if self.timer_c is not None:
            self.timer_c.cancel()
            self.timer_c = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class LateSuccess:
    """The user of an INVITE that has its answer: every further 2xx goes back too (s16.7 step 5), and needs nothing but
    the server transaction. All else of the forwarding is gone by then."""

    __slots__ = ("_server", "_call", "_target", "_worn")

    def __init__(self, server: ServerTransaction, call: Call | None, target: Target, worn: Worn | None) -> None:
        self._server = server
        self._call = call
        self._target = target
        self._worn = worn

    def response(self, transaction: ClientTransaction, response: Response) -> None:
        """A 2xx, of another fork behind the hop or sent again."""
        if 200 <= response.status < 300 and strip_via(response):
            if self._worn is not None:
                self._worn.take_off(response)
            if self._call is not None:
                self._call.late(self._target, response)
            self._server.respond(response)

    def failed(self, transaction: ClientTransaction, reason: str) -> None:
        """It was answered."""


class Cancelling:
    """The user of a CANCEL: its answer changes nothing (s9.1), but that it cannot be sent ends the branch."""

    __slots__ = ("_branch",)

    def __init__(self, branch: Branch) -> None:
        self._branch = branch

    def response(self, transaction: ClientTransaction, response: Response) -> None:
        """Whatever it says, the INVITE has an answer of its own."""

    def failed(self, transaction: ClientTransaction, reason: str) -> None:
        """A way that is broken brings no 487 either; a CANCEL that nobody answers is waited out by the branch."""
        if reason:
            self._branch.forwarding.gave_up(self._branch)
