"""One request on its way through the proxy: server transaction, response context, branches, timers (RFC 3261 s16).

What the response context decides is performed here, and what happens to the branches is brought before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sipd.flow import Flow
from sipd.message import compose
from sipd.message.errors import MalformedMessage, Reject
from sipd.message.message import Request, Response
from sipd.proxy import response_context as context_outputs
from sipd.proxy.branch import Branch, Cancelling, LateSuccess
from sipd.proxy.dialog_flows import callee_flow, caller_flow
from sipd.proxy.dressing import Dress
from sipd.proxy.forward import (
    MAX_DATAGRAM,
    NO_DIALOG,
    add_fields,
    add_via,
    asked_for,
    breadth_of,
    breadth_share,
    prepare,
    strip_via,
)
from sipd.proxy.response_context import BranchState, Output, ResponseContext
from sipd.proxy.route_headers import next_hop, way_to
from sipd.proxy.targets import Groups, Plan, Stage, Target, phrase_of, redirected
from sipd.wheel import Timer

if TYPE_CHECKING:
    from sipd.calls.call import Call
    from sipd.proxy.proxy import Proxy
    from sipd.transaction.layer import ServerTransaction

#: RFC 3326: why the losers of a fork are cancelled.
_COMPLETED_ELSEWHERE: Final = 'SIP;cause=200;text="Call completed elsewhere"'

#: How soon a step of serial forking that has taken its time looks again whether it is to end (seconds).
_A_MOMENT: Final = 0.5

_START, _CANCEL, _RELAY = context_outputs.START, context_outputs.CANCEL, context_outputs.RELAY
_FINAL, _ABANDON, _RING, _DONE, _ASK = (context_outputs.FINAL, context_outputs.ABANDON, context_outputs.RING,
                                        context_outputs.DONE, context_outputs.ASK)


class Forwarding:
    """One request on its way through the proxy."""

    __slots__ = ("proxy", "number", "request", "server", "context", "prepared", "mark", "ring_timer", "reason",
                 "plan", "said", "call", "leg", "within", "dress")

    def __init__(self, proxy: Proxy, request: Request, server: ServerTransaction, groups: Groups, mark: str,
                 breadth: int, plan: Plan | None = None, call: Call | None = None, dress: Dress | None = None) -> None:
        self.proxy = proxy
        self.number = 0
        #: The request as it came, dropped once it is answered.
        self.request: Request | None = request
        self.server = server
        self.context = ResponseContext(request.method == "INVITE", groups, proxy.values.recurse and bool(mark))
        self.prepared: Request | None = prepare(request, breadth)
        self.mark = mark
        self.ring_timer: Timer | None = None
        #: Reason header values for the CANCELs: the caller's, or that of a fork completed elsewhere (RFC 3326).
        self.reason: list[str] = []
        self.plan = plan
        #: How all branches are dressed whose target does not say so: the request came from a trunk.
        self.dress = dress
        #: What the plan said last.
        self.said: Stage | None = None
        if plan is not None:
            self.context.planned = True
        within = call is not None and request.to_tag != ""
        #: The call that this INVITE began, and the call in which this request is one of many.
        self.call = None if within else call
        #: The same, but not where the INVITE came through ourselves: what becomes of that is a branch's affair.
        self.leg = self.call if self.call is not None and not self.call.inside else None
        self.within = call if within else None

    def perform(self, outputs: list[Output]) -> None:
        """Performs what the context decided."""
        for kind, payload in outputs:
            if kind == _RELAY:
                # s16.7 step 3: the Via of a final response was taken off as it came
                if payload.status >= 200 or strip_via(payload):
                    if payload.status >= 200:
                        self._note_final(payload.status, payload)
                    self.server.respond(payload)
            elif kind == _START:
                self._start(Branch(self, payload))
            elif kind == _CANCEL:
                self._cancel(payload)
            elif kind == _FINAL:
                self._final(*payload)
            elif kind == _ABANDON:
                self._note_final(408, None)
                self.server.abandon()
            elif kind == _RING:
                self._stop_ring_timer()
                seconds = self.context.patience or self.proxy.values.ring_timeout
                self.ring_timer = self.proxy.layer.wheel.start(seconds, self._ring_timeout, None)
            elif kind == _ASK:
                self._stop_ring_timer()
                assert self.plan is not None
                self.plan.next(payload, self._planned)
                if self.context.asking:
                    # whoever has to ask somebody else may not keep the caller waiting for ever
                    layer = self.proxy.layer
                    self.ring_timer = layer.wheel.start(layer.values.timeout, self._planned, None)
            elif kind == _DONE:
                self._done()

    # --- inputs

    def response(self, branch: Branch, response: Response) -> None:
        """A response to what `branch` sent."""
        status = response.status
        context = self.context
        worn = branch.worn
        if worn is not None:
            worn.take_off(response)
            if status in (401, 407) and worn.answers and not branch.done:
                self._challenged(branch, response)
                return
        if status >= 200:
            branch.stop_timers()
            branch.request = None
            if status == 503 and branch.next_hop_instead("answered 503", asked_for(response)):
                return
            if status < 300 and self.said is not None:
                self.said.taken()
            if not strip_via(response):
                # s16.7 step 3: no Via of our caller's is left; whoever answers like that has not answered
                self.hop_failed(branch, "answered without our caller's Via")
                return
        else:
            if branch.timer is not None and not branch.cancel_wanted:
                branch.timer.cancel()
                branch.timer = None
            if status > 100 and branch.timer_c is not None and branch is not context.taking:
                # s16.7 step 2: a provisional response other than 100 starts timer C anew; the timer that runs sees
                # that when it fires, which it hardly ever does
                branch.c_ends = self.proxy.layer.wheel.now + self.proxy.values.timer_c
        redirect = None
        if 300 <= status < 400 and context.recurse and status not in (305, 380):
            # 305 names a proxy to go by and 380 says the rest in its body: those are for the caller (s21.3.4, s21.3.5)
            redirect = self._redirection(branch, response)
        if 200 <= status < 300 and context.invite:
            if worn is not None or len(context.branches) > 1:
                self.proxy.note_answerer(branch, response)
            if not (context.final_sent or self.reason):
                self.reason = [_COMPLETED_ELSEWHERE]
        if self.call is not None and status > 100 and (status < 300 or not branch.done):
            self.call.answer(branch.target, response)
        self.perform(context.response(branch, response, redirect))

    def _challenged(self, branch: Branch, response: Response) -> None:
        """A trunk asks for credentials, and they are ours."""
        flow = branch.transaction.flow if branch.transaction is not None else None
        status = branch.challenged(response, self.prepared, self.context.final_sent)
        if status or flow is None:
            self.fail(branch, status or 487)
        elif flow.alive or branch.hop is None:
            self.send(branch, flow)
        else:
            branch.hops.insert(0, branch.hop)  # it closed the connection with its answer
            branch.try_next_hop()

    def _redirection(self, branch: Branch, response: Response) -> tuple[Groups, bool]:
        """s16.7 step 4: the targets of a 3xx that are new here; the others stay in the response."""
        request, context = self.request, self.context
        known = [branch.target for branch in context.branches if isinstance(branch, Branch)]
        known += [target for group in context.groups for target in group]
        secure = request is not None and request.uri_text[:5].lower() == "sips:"
        prepared = self.prepared
        breadth = branch.target.breadth or (breadth_of(prepared) if prepared is not None else 1)
        groups, left = redirected(response.values("contact"), [target.uri for target in known], secure, breadth)
        if groups and left:
            response.set_values("contact", left)
        return groups, bool(left)

    def hop_failed(self, branch: Branch, reason: str) -> None:
        """The hop gave no answer: `reason` "" for a timeout, else what the transport said."""
        branch.stop_timers()
        if branch.done:
            return
        if branch.cancel_wanted:
            self.fail(branch, 487)
        elif reason and branch.datagrams is not None and branch.hop is not None and not branch.rang:
            # s18.1.1: who takes a connection and drops it has no TCP for us
            self.proxy.has_no_tcp(branch.hop)
            datagrams, branch.datagrams = branch.datagrams, None
            self.send(branch, datagrams, True)
        elif (branch.rang and not reason) or not branch.next_hop_instead(reason or "no answer"):
            # RFC 3263 s4.3: a hop that said anything at all has not failed when the time is over
            branch.request = None
            self.fail(branch, 503 if reason else 408, reason)

    def cancelled(self, request: Request) -> None:
        """See ServerUser: the caller's CANCEL, whose Reason travels on (RFC 3326)."""
        self.reason = request.all("reason")
        if self.leg is not None:
            self.leg.cancelled(", ".join(self.reason))
        self.perform(self.context.cancel())

    def also(self, target: Target, after: float) -> bool:
        """An INVITE goes to one more place, in so many seconds, beside those where it rings: to the phone of somebody
        who picks it up. Whoever answers first has the call, as in every fork, and the others are cancelled. What else
        that phone says changes nothing, nor that it says nothing for [proxy] ring_timeout. False where the call is not
        to be had any more, or somebody else is picking it up."""
        target.breadth = 1
        branch = Branch(self, target)
        if self.request is None or not self.context.also(branch):
            return False
        branch.timer = self.proxy.layer.wheel.start(after, self._also, branch)
        return True

    def _also(self, branch: Branch) -> None:
        branch.timer = None
        if self.request is not None and not self.context.over:
            self._start(branch)
        else:
            self.fail(branch, 487)

    def _planned(self, stage: Stage | None) -> None:
        """What the plan says next."""
        request = self.request
        if stage is not None and self.context.over:
            stage.taken()  # while the plan was thinking
        if request is None:
            return  # it ended meanwhile
        self._stop_ring_timer()
        if stage is not None and stage.groups:
            try:
                # each stage has the whole breadth: what was tried before is over (RFC 5393 s5.3.3)
                share = breadth_share(request, stage.groups)
            except Reject as refusal:
                stage = Stage([], status=refusal.status)
            else:
                for group in stage.groups:
                    for target in group:
                        target.breadth = target.breadth or share
        self.said = stage or self.said
        self.perform(self.context.expanded(stage))

    def _timer_c(self, branch: Branch) -> None:
        branch.timer_c = None
        wheel = self.proxy.layer.wheel
        left = branch.c_ends - wheel.now
        if left > 0:
            branch.timer_c = wheel.start(left, self._timer_c, branch)
            return
        if not branch.rang and branch.transaction is not None:
            branch.transaction.end()  # s16.8: nothing that it could still hear would be of use
        self.perform(self.context.timer_c(branch))

    def _ring_timeout(self, nothing: None) -> None:
        self.ring_timer = None
        taking = self.context.taking
        if taking is not None and not taking.cancel_wanted:
            # somebody has the call in their hands, and soon it is theirs or rings on
            self.ring_timer = self.proxy.layer.wheel.start(_A_MOMENT, self._ring_timeout, None)
            return
        outputs = self.context.ring_timeout()
        if self.call is not None and outputs:
            self.call.note("patience")
        self.perform(outputs)

    def _silent(self, branch: Branch) -> None:
        """Nothing from a hop that has alternatives: the next one is tried beside it, or what the plan has."""
        branch.timer = None
        hop = branch.hop
        if branch.rang or branch.done or branch.cancel_wanted or hop is None:
            return
        self.proxy.blame(hop, "silent")
        if self.call is not None:
            self.call.note("hop-failed", hop, "silent")
        if not branch.hops:
            if not branch.target.hasty:
                return
            branch.stop_timers()
            if self.call is not None:
                self.call.failed(branch.target, 503, "silent")
            self.perform(self.context.silent(branch))
            return
        other = Branch(self, branch.target)
        other.hops, branch.hops = branch.hops, []
        if branch.worn is not None:
            other.worn = branch.worn
        branch.stop_timers()
        self.context.supersede(branch, other)
        other.try_next_hop()

    def fail(self, branch: Branch, status: int, reason: str = "") -> None:
        """The branch has ended as if with `status`."""
        if self.call is not None and not branch.done:
            self.call.failed(branch.target, status, reason)
        self.perform(self.context.failed(branch, status))

    def gave_up(self, branch: Branch) -> None:
        """s9.1: a cancelled branch that has not ended after 64*T1 is as good as ended, its transaction with it."""
        branch.stop_timers()
        if branch.transaction is not None:
            branch.transaction.end()
        self.fail(branch, 487)

    # --- outputs

    def _start(self, branch: Branch) -> None:
        target = branch.target
        self.context.branches.append(branch)
        if self.call is not None:
            self.call.begun(target)
        flow = self.proxy.flow_of(target)
        if flow is not None:
            self.send(branch, flow)
        elif target.only:
            # RFC 5626 s5.3: the connection or NAT binding that alone reaches it is gone
            self.fail(branch, 480)
        else:
            try:
                uri = way_to(target, self.prepared)
            except MalformedMessage:
                self.fail(branch, 503)
                return
            branch.find(uri)

    def send(self, branch: Branch, flow: Flow, any_size: bool = False) -> None:
        """s16.6 steps 2 to 10 for one hop; `any_size`: also as a datagram that is too large for one."""
        proxy = self.proxy
        prepared = self.prepared
        if prepared is None:
            self.fail(branch, 487)
            return
        target = branch.target
        request = prepared.copy()
        if target.breadth:
            request.set("max-breadth", str(target.breadth))
        if target.uri != request.uri_text:
            request.retarget(target.uri)
        if target.route:
            # RFC 3327 s5.3: the Path of the binding becomes the route
            request.set_values("route", [*target.route, *request.values("route")])
        secure = target.uri[:5].lower() == "sips:"
        if "route" in request.first:
            try:
                secure = next_hop(request).scheme == "sips" or secure  # rewrites for a strict router
            except MalformedMessage:
                self.fail(branch, 503)
                return
        if target.headers:
            add_fields(request, target.headers)
        dress = target.dress or self.dress
        if dress is not None:
            if self.dress is not None:
                dress = dress.coming(self.dress)
            branch.worn = dress.put_on(request, flow.address, branch.worn)
        record_routes: list[str] = []
        source = self.request.flow if self.request is not None else None
        # s16.6 step 4: where sips begins or ends here, the dialog's requests must come by in any case
        if (request.method not in NO_DIALOG and source is not None
                and (proxy.values.record_route or dress is not None or secure != (source.transport == "tls"))):
            caller, callee = caller_flow(prepared, source), callee_flow(target)
            said = "" if branch.worn is None else branch.worn.text(proxy.token.room(caller, callee))
            token = proxy.token.make(request.call_id, request.from_tag, caller, callee, said)
            # RFC 5658 s6.2: what went by TCP for its size alone leaves the dialog where it would have been
            outgoing = branch.datagrams or flow
            record_routes = proxy.routes.record_route(token, secure, source.listener, outgoing.listener)
        branch_id = proxy.identifiers.branch()
        if self.mark:
            branch_id = f"{branch_id}.{self.mark}"
        add_via(request, flow.listener.via_prefix, branch_id, record_routes, flow.reliable)
        data = request.encode()
        if len(data) > MAX_DATAGRAM and not (flow.reliable or any_size or branch.hop is None):
            proxy.by_tcp(branch.hop, flow, lambda chosen: branch.sized(chosen, flow))
            return
        wheel = proxy.layer.wheel
        if self.context.invite:
            branch.request = request
            patience = proxy.values.ring_timeout if branch is self.context.taking else proxy.values.timer_c
            branch.timer_c = wheel.start(patience, self._timer_c, branch)
        if branch.hops or target.hasty:
            branch.timer = wheel.start(proxy.values.hop_timeout, self._silent, branch)
        branch.transaction = proxy.layer.send_request(request, data, branch_id, flow, branch)
        if branch.transaction is None:  # the table is full, which is not the hop's fault
            branch.stop_timers()
            self.fail(branch, 503)
        elif self.call is not None:
            self.call.sent(target, flow)

    def _cancel(self, branch: BranchState) -> None:
        assert isinstance(branch, Branch)
        transaction, request = branch.transaction, branch.request
        if transaction is None:
            # nothing was sent: a look-up or a connection is under way
            branch.stop_timers()
            self.fail(branch, 487)
            return
        if branch.timer is not None:
            branch.timer.cancel()
            branch.timer = None
        if not branch.cancel_sent or request is None:
            return  # s9.1: it waits for a provisional response
        layer = self.proxy.layer
        cancel = compose.hop_by_hop(request, "CANCEL", request.first["to"])
        for reason in self.reason:
            cancel.add("Reason", reason)
        if self.call is not None:
            self.call.note("cancel", branch.target.uri)
        layer.send_request(cancel, cancel.encode(), transaction.key[0], transaction.flow, Cancelling(branch))
        branch.timer = layer.wheel.start(layer.values.timeout, self.gave_up, branch)

    def _final(self, status: int, response: Response | None, extra: tuple[tuple[str, str], ...]) -> None:
        request = self.request
        self._note_final(status, response)
        if response is None or response.status != status:
            if request is not None:
                self.server.answer(status, compose.response(
                    request, status, phrase_of(self.said), self.proxy.to_tag(request), extra))
            return
        for name, value in extra:
            response.add(name, value)
        self.server.respond(response)

    def _stop_ring_timer(self) -> None:
        if self.ring_timer is not None:
            self.ring_timer.cancel()
            self.ring_timer = None

    def give_up(self) -> None:
        """Ends at once and without an answer: the request has become the affair of somebody else."""
        for branch in self.context.branches:
            assert isinstance(branch, Branch)
            if branch.transaction is not None:
                branch.transaction.end()
        self._done()
        self.server.end()

    def _done(self) -> None:
        """Lets go of everything: only the 2xx of an INVITE may still come, and need the server transaction alone."""
        self._stop_ring_timer()
        call = self.call or self.within
        if self.leg is not None:
            self.leg.settled()
        for branch in self.context.branches:
            assert isinstance(branch, Branch)
            if not branch.superseded:  # one that comes alive late must be cancelled yet
                branch.stop_timers()
                branch.request = None
                if branch.transaction is not None:
                    branch.transaction.user = (
                        LateSuccess(self.server, call, branch.target, branch.worn) if self.context.invite else None)
        self.context.branches = []
        self.request = self.prepared = None
        self.proxy.forwardings.pop(self.number, None)

    def _note_final(self, status: int, response: Response | None) -> None:
        """What goes back, for the call table: before it does."""
        request = self.request
        if request is None:
            return
        if self.within is not None:
            self.within.over(request, status, response)
        elif self.leg is not None and status >= 300:
            phrase = response.reason if response is not None and response.status == status else phrase_of(self.said)
            self.leg.refused(status, phrase or compose.phrase(status))
