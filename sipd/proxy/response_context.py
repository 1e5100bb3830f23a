"""The response context: what becomes of the responses to one forwarded request (RFC 3261 s16.7 to s16.10). Pure.

Inputs are methods; each returns outputs, (kind, payload) tuples, which the proxy performs in order after the context
has settled. A branch is any object with the attributes of `BranchState`.
"""

from __future__ import annotations

from typing import Any, Final

from sipd.message.message import Response
from sipd.proxy.targets import Groups, Stage

#: Begin a branch. Payload: Target.
START: Final = 0
#: Send a CANCEL on a branch, or give up a branch that has sent nothing yet. Payload: the branch.
CANCEL: Final = 1
#: Pass a provisional response or a 2xx back. Payload: Response.
RELAY: Final = 2
#: Pass the best final response back. Payload: (status, Response or None when it is made here, extra headers).
FINAL: Final = 3
#: A non-INVITE that nobody answered: end without a response (RFC 4320 s4.2). Payload: None.
ABANDON: Final = 4
#: Start the timer of this step of serial forking. Payload: None.
RING: Final = 5
#: Everything is answered; the context may be forgotten. Payload: None.
DONE: Final = 6
#: Ask the plan for its next stage, which `expanded` is then told. Payload: what the last stage came to, a status.
ASK: Final = 7

Output = tuple[int, Any]

#: No request is forwarded to more places than this, redirections counted in.
MAX_BRANCHES: Final = 64

#: Preference among 4xx (s16.7 step 6: those that tell how to try again), lower is better; 50 is for all others. A 487
#: answers a CANCEL of ours and would puzzle a caller who sent none.
_RANK: Final = {
    401: 0, 407: 0, 415: 10, 420: 10, 484: 10, 488: 12, 486: 20, 480: 60, 404: 62, 408: 80, 487: 90, 503: 95}


class BranchState:
    """What the context keeps about one branch."""

    __slots__ = ("rang", "done", "cancel_wanted", "cancel_sent", "superseded")

    def __init__(self) -> None:
        #: A provisional response came: it can be cancelled (s9.1).
        self.rang = False
        #: A final response came, or none will.
        self.done = False
        self.cancel_wanted = False
        self.cancel_sent = False
        #: Another hop took its place; only a 2xx still matters.
        self.superseded = False


class ResponseContext:
    """One request being forwarded. `groups` are tried in order; `recurse` says whether 3xx are followed here; `planned`
    that a plan is asked when none of them answered."""

    __slots__ = ("invite", "groups", "branches", "final_sent", "cancelled", "open", "recurse", "planned", "patience",
                 "asking", "taking", "_finals", "_started", "_search_over", "_before")

    def __init__(self, invite: bool, groups: Groups, recurse: bool = False) -> None:
        self.invite = invite
        self.groups = groups
        self.recurse = recurse
        self.planned = False
        #: Seconds that each group of this stage has, the last one too; 0.0 where only the others have a limit.
        self.patience = 0.0
        self.branches: list[BranchState] = []
        self.final_sent = False
        self.cancelled = False
        #: How many branches have no final response yet.
        self.open = 0
        self._finals: list[tuple[int, Response | None]] = []
        self._started = 0
        #: No branch may be begun any more: a 2xx or a 6xx came, or the caller gave up.
        self._search_over = False
        #: The plan was asked and has not answered yet.
        self.asking = False
        #: The branch of somebody who takes the request from those it went to; it is none of theirs: see `also`.
        self.taking: BranchState | None = None
        #: How many final responses came in earlier stages.
        self._before = 0

    def start(self) -> list[Output]:
        """The first group, or the question for it."""
        return self._next_group() if self.groups else self._ask(0)

    @property
    def over(self) -> bool:
        """No branch is begun any more: somebody took the request, or declined it for all, or it was answered here."""
        return self._search_over

    def _next_group(self) -> list[Output]:
        group = self.groups.pop(0)[:MAX_BRANCHES - self._started]
        self.open += len(group)
        self._started += len(group)
        outputs: list[Output] = [(START, target) for target in group]
        if self.groups or self.patience:
            outputs.append((RING, None))
        return outputs

    def also(self, branch: BranchState) -> bool:
        """Somebody takes the request from those it went to, by a branch of their own; False where it is not to be had,
        or somebody does already. The first 2xx ends the search as ever. Whatever else comes of this branch counts for
        nothing, so that the others go on as if it had never been; only no next step is begun while it is open."""
        if self.taking is not None or self.final_sent or self._search_over or self._started >= MAX_BRANCHES:
            return False
        self.taking = branch
        self.open += 1
        self._started += 1
        return True

    def _ask(self, status: int) -> list[Output]:
        self.asking = True
        return [(ASK, status)]

    def expanded(self, stage: Stage | None) -> list[Output]:
        """What the plan says next, None when it has nothing more."""
        if not self.asking:
            return []  # it ended meanwhile
        self.asking = False
        if self.final_sent or self._search_over:
            return []  # the branches that are open end it
        if stage is not None and stage.groups and self._started < MAX_BRANCHES:
            self.groups, self.patience, self._before = stage.groups, stage.patience, len(self._finals)
            return self._next_group()
        self.planned = False
        if stage is not None and stage.status:
            self._end_search()
            self.final_sent = True
            return [(FINAL, (stage.status, None, stage.headers)), *self._cancel_open(None), *self._done_if_closed()]
        return self._finish() if not self.open else []

    def _finish(self) -> list[Output]:
        self.final_sent = True
        return [self._best(), (DONE, None)]

    def _done_if_closed(self) -> list[Output]:
        return [] if self.open else [(DONE, None)]

    def response(self, branch: BranchState, response: Response,
                 redirect: tuple[Groups, bool] | None = None) -> list[Output]:
        """A response on a branch; `redirect` holds the targets of a 3xx that is to be followed, and whether other
        contacts are left in the response."""
        status = response.status
        if status < 200:
            return self._provisional(branch, response)
        if status < 300:
            return self._success(branch, response)
        if branch.done:
            return []
        if branch is self.taking:
            return self._close(branch)
        if redirect is not None and redirect[0] and not self._search_over and self._started < MAX_BRANCHES:
            # s16.7 step 4: the targets take the branch's place at once; only what is left counts as a response
            if redirect[1]:
                self._finals.append((status, response))
            self.groups[0:0] = redirect[0]
            return self._next_group() + self._close(branch)
        if not self.final_sent:
            self._finals.append((status, response))
        if status >= 600 and not self.final_sent:
            # s16.7 step 5: 6xx ends the search; it is passed on when the other branches have ended
            self._end_search()
            return self._cancel_open(branch) + self._close(branch)
        return self._close(branch)

    def _provisional(self, branch: BranchState, response: Response) -> list[Output]:
        branch.rang = True
        outputs: list[Output] = []
        if branch.cancel_wanted and not branch.cancel_sent and self.invite:
            branch.cancel_sent = True
            outputs.append((CANCEL, branch))
        # s16.7 step 5: 101 to 199 are passed on until a final response was; RFC 4320 s4.1: never to a non-INVITE
        if response.status > 100 and self.invite and not self.final_sent and not branch.superseded:
            outputs.append((RELAY, response))
        return outputs

    def _success(self, branch: BranchState, response: Response) -> list[Output]:
        """s16.7 step 5: every 2xx to an INVITE is passed on at once, the first one to anything else."""
        outputs: list[Output] = []
        if self.invite or not self.final_sent:
            outputs.append((RELAY, response))
        first = not self.final_sent
        self.final_sent = True
        if first:
            self._end_search()
            outputs += self._cancel_open(branch)
        return outputs + self._close(branch)

    def failed(self, branch: BranchState, status: int) -> list[Output]:
        """No final response will come on the branch: 408 for a timeout, 503 for a transport error, 487 when cancelled.

        s16.7 step 6, s16.9: each counts as if that response had come.
        """
        if branch.done:
            return []
        if not self.final_sent and branch is not self.taking:
            self._finals.append((status, None))
        return self._close(branch)

    def silent(self, branch: BranchState) -> list[Output]:
        """It said nothing for too long and counts as 503. Should it come to life it is cancelled; a 2xx still
        matters."""
        branch.superseded = branch.cancel_wanted = True
        return self.failed(branch, 503)

    def supersede(self, old: BranchState, new: BranchState) -> None:
        """Another hop of the same target is tried beside a silent one, which no longer counts."""
        self.branches.append(new)
        if self.taking is old:
            self.taking = new
        old.done = old.superseded = old.cancel_wanted = True

    def timer_c(self, branch: BranchState) -> list[Output]:
        """s16.8: rang too long. With a provisional response it is cancelled, without one it counts as 408."""
        if branch.done:
            return []
        return self._cancel_branch(branch) if branch.rang else self.failed(branch, 408)

    def ring_timeout(self) -> list[Output]:
        """This step of serial forking took long enough: its branches are cancelled and the next group is tried."""
        if self.groups:
            return self._cancel_open(None) + self._next_group()
        if not self.planned or self.asking or self._search_over:
            return []
        self._finals.append((408, None))
        return self._cancel_open(None) + self._ask(408)

    def cancel(self) -> list[Output]:
        """s16.10: the caller gave up; every pending branch is cancelled and no other is begun.

        s9.2: it has no effect on anything but an INVITE.
        """
        if not self.invite or self.final_sent or self.cancelled:
            return []
        self.cancelled = True
        if self.asking and not self.open:
            self.asking = False
            return self._finish()
        self._end_search()
        return self._cancel_open(None)

    def _end_search(self) -> None:
        self._search_over = True
        self.groups.clear()

    def _cancel_open(self, but: BranchState | None) -> list[Output]:
        """Cancels the branches that are open. Only an INVITE can be (s9.1); other requests run their course."""
        if not self.invite:
            return []
        outputs: list[Output] = []
        for branch in self.branches:
            if branch is not but and not branch.done:
                outputs += self._cancel_branch(branch)
        return outputs

    def _cancel_branch(self, branch: BranchState) -> list[Output]:
        """s9.1: no CANCEL before a provisional response. The proxy tells one that has sent nothing by its own state."""
        branch.cancel_wanted = True
        if branch.cancel_sent:
            return []
        branch.cancel_sent = branch.rang
        return [(CANCEL, branch)]

    def _close(self, branch: BranchState) -> list[Output]:
        """The branch has ended; when all have, the next group begins or the best response goes back."""
        if branch.done:
            return []
        branch.done = True
        self.open -= 1
        if branch is self.taking:
            self.taking = None
        if self.open and (self.final_sent or not self.planned or self._still_open()):
            return []
        if self.final_sent:
            return [(DONE, None)]
        if self.groups and self._started < MAX_BRANCHES:
            return self._next_group()
        if self.planned and not self._search_over:
            return self._ask(self._came_to()) if not self.asking else []
        return [] if self.open else self._finish()

    def _still_open(self) -> bool:
        """Whether anybody may still answer; those whose time was over and who are being cancelled do not count."""
        return any(not branch.done and not branch.cancel_wanted for branch in self.branches)

    def _came_to(self) -> int:
        """What this stage came to."""
        finals = self._finals[self._before:]
        return min(finals, key=self._order)[0] if finals else 408

    def _best(self) -> Output:
        """s16.7 step 6: a 6xx if there is one, else of the lowest class, and there what says most."""
        finals = self._finals
        if not self.invite:
            # RFC 4320 s4.2: no 408 to a non-INVITE, neither ours nor one that came
            finals = [final for final in finals if final[0] != 408]
        if not finals:
            return (ABANDON, None) if not self.invite else (FINAL, (487 if self.cancelled else 408, None, ()))
        status, response = min(finals, key=self._order)
        if self.cancelled and status == 408:
            return (FINAL, (487, None, ()))
        extra: tuple[tuple[str, str], ...] = ()
        if status in (401, 407):
            # s16.7 step 7: all challenges are collected
            extra = tuple(
                (name, value) for other_status, other in finals
                if other_status in (401, 407) and other is not None and other is not response
                for name in ("WWW-Authenticate", "Proxy-Authenticate") for value in other.all(name.lower()))
        if status == 503:
            # s16.7 step 6: a 503 would tell the caller that all of this server is unavailable
            return (FINAL, (500, response, ()))
        return (FINAL, (status, response, extra))

    def _order(self, final: tuple[int, Response | None]) -> tuple[int, int]:
        status = final[0]
        if status >= 600:
            return (0, 0)
        if self.cancelled and status == 487:
            return (4, -1)
        return (status // 100, _RANK.get(status, 50))
