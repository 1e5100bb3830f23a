"""The call table: every call that passes, found by Call-ID and tags, counted by peer, kept a while when it is over.

    calls = Calls(values, ...)
    call = calls.begin(request, "1001", "1003")    # in the route, for an INVITE that begins a call
    call = calls.find(request)                     # for a request in a dialog
    calls.in_use("1003")                           # of how many calls a peer is part now
    calls.watch(told)                              # told(call) at each change of its state or its dialogs'
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from sipd.calls import session_timer
from sipd.calls.call import CONFIRMED, MAX_DURATION, NEVER, TERMINATED, UNSEEN, Call, address_of
from sipd.inventory import Inventory, Table
from sipd.journal import Journal
from sipd.message.message import Request
from sipd.wheel import TimerWheel

if TYPE_CHECKING:
    from sipd.calls.keeper import Keeper

#: Session timers fire this much later than the session ends (seconds): a refresh may be under way.
_GRACE: Final = 1.0


@dataclass(frozen=True, slots=True)
class CallValues:
    """Settings of the call table; durations in seconds. `stays` is False where the requests of dialogs do not come by
    here, so that an end would never be seen."""

    track: bool = True
    limit: int = 100_000
    keep_ended: int = 1000
    steps: int = 64
    session_expires: int = 1800
    min_se: int = session_timer.LEAST
    max_duration: int = 43200
    stays: bool = True


class Calls:
    """The calls of one server. `seconds` is the clock's, `wall` seconds since the epoch; `domain` is left out of the
    names of its users."""

    def __init__(self, values: CallValues, wheel: TimerWheel, seconds: Callable[[], float], wall: Callable[[], float],
                 domain: str, journal: Journal, inventory: Inventory) -> None:
        self.values = values
        self.wheel = wheel
        self.seconds = seconds
        self.wall = wall
        self.journal = journal
        self.table: Table[tuple[str, str], Call] = inventory.table("calls", values.limit)
        #: The calls of each peer. A call has two peers, more while it is forked.
        self.peers: Table[str, dict[Call, None]] = inventory.table("peers in calls", 2 * values.limit)
        self.finished: Table[int, Call] = inventory.table("calls that are over", max(1, values.keep_ended), cache=True)
        self.watchers: list[Callable[[Call], None]] = []
        #: None: nothing is written down.
        self.keeper: Keeper | None = None
        #: Ends a call that has lasted too long, by BYEs; None: it is only forgotten.
        self.hang_up: Callable[[Call], None] | None = None
        #: Whether a sent-by of a Via is ours.
        self.ourselves: Callable[[str], bool] = _nobody
        #: What is left out of the names of users.
        self.at_home = f"@{domain}"
        #: How many calls there were.
        self.count = 0
        #: The INVITE that began a call last: it may still be refused.
        self._beginning: Request | None = None
        self._told_full = False

    def configure(self, values: CallValues) -> None:
        """Other settings, for calls that come from now on; those that are there go on."""
        self.values = values
        self.table.limit = values.limit
        self.peers.limit = 2 * values.limit
        self.finished.limit = max(1, values.keep_ended)
        for oldest in list(islice(self.finished, max(0, len(self.finished) - values.keep_ended))):
            del self.finished[oldest]

    # --- for the route

    def begin(self, request: Request, caller: str, called: str = "") -> Call | None:
        """The call of an INVITE that was let in: a new one, or the same where it came by another path or through
        ourselves; None where nobody follows. `caller` and `called` are peers' names or addresses-of-record, "" for
        strangers. Raises Reject (422)."""
        values, table = self.values, self.table
        if not values.track:
            return None
        caller = caller.removesuffix(self.at_home)
        key = (request.call_id, request.from_tag)
        self._beginning = None
        offered = session_timer.offer(request, values.session_expires if values.stays else 0, values.min_se)
        call = table.get(key)
        if call is not None:
            if call.caller != caller:
                return None  # somebody who has seen another's Call-ID
            via = request.via
            call.inside = via is not None and self.ourselves(via.sent_by)
            if not call.inside:
                self._beginning = request
                if call.state != CONFIRMED:
                    call.legs += 1
            call.note("again", request.uri_text)
            return call
        if len(table) >= table.limit:
            table.refused += 1
            self._full()
            return None
        self.count += 1
        self._beginning = request
        call = table[key] = Call(self, self.count, key[0], key[1])
        first = request.first
        call.caller, call.called = caller, called.removesuffix(self.at_home)
        call.from_, call.to, call.uri = first["from"], first["to"], request.uri_text
        call.contact, call.user_agent = first.get("contact", ""), first.get("user-agent", "")
        call.cseq = request.cseq_number
        call.source = str(request.flow or "")
        call.offered = offered
        call.started, call.wall = self.seconds(), self.wall()
        call.steps.append((call.started, "calls", caller, call.uri, call.source))
        if caller:
            self.join(caller, call)
        journal = self.journal
        if journal.calls and journal.sinks:
            journal.write("call-start", call_id=call.call_id, caller=address_of(call.from_), callee=call.uri,
                          source=call.source)
        if self.watchers:
            self.tell(call)
        return call

    def find(self, request: Request) -> Call | None:
        """The call of a request in a dialog, which is told of it. Raises Reject (422)."""
        if not self.table:
            return None
        call_id = request.call_id
        call = self.table.get((call_id, request.from_tag))
        if call is not None:
            call.within(request, True)
            return call
        call = self.table.get((call_id, request.to_tag))
        if call is not None:
            call.within(request, False)
        return call

    def refused(self, request: Request, status: int, phrase: str) -> None:
        """A request was answered before the proxy had it: a call that it began has failed."""
        if request is self._beginning:
            self._beginning = None
            call = self.table.get((request.call_id, request.from_tag))
            if call is not None:
                call.refused(status, phrase)

    def resume(self, call: Call) -> bool:
        """Enters an answered call that another process knew; False where there is no room for it."""
        key = (call.call_id, call.tag)
        if key in self.table or self.table.full or not self.values.track:
            return False
        self.table[key] = call
        self.count = max(self.count, call.number)
        if call.caller:
            self.join(call.caller, call)
        for dialog in call.dialogs:
            if dialog.peer:
                call.busy(dialog.peer)
        call.note("resumed")
        self.wait(call)
        if self.watchers:
            self.tell(call)
        return True

    # --- for everybody

    def in_use(self, name: str) -> int:
        """Of how many calls a peer is part now, whoever calls."""
        calls = self.peers.get(name.removesuffix(self.at_home))
        return len(calls) if calls is not None else 0

    def of(self, name: str) -> list[Call]:
        """The calls of a peer that are not over, oldest first."""
        return list(self.peers.get(name.removesuffix(self.at_home), ()))

    def watch(self, told: Callable[[Call], None]) -> None:
        """Calls `told` after each change in the state of a call, its branches or its dialogs. It must not raise."""
        self.watchers.append(told)

    def tell(self, call: Call) -> None:
        """Whoever watches."""
        for told in self.watchers:
            told(call)

    def live(self) -> Iterator[Call]:
        """Every call that is not over, oldest first."""
        return iter(self.table.values())

    def over(self) -> Iterator[Call]:
        """Every call that is over and still kept, newest first."""
        return reversed(self.finished.values())

    def __len__(self) -> int:
        """How many are not over."""
        return len(self.table)

    def like(self, prefix: str, over: bool = True) -> list[Call]:
        """The calls whose Call-ID is `prefix`, or begins so where none is; those that are over too, newest first."""
        known = [*self.table.values(), *(self.finished.values() if over else ())]
        found = [call for call in known if call.call_id == prefix]
        found = found or [call for call in known if call.call_id.startswith(prefix)]
        return sorted(found, key=lambda call: -call.number)

    # --- for calls

    def join(self, name: str, call: Call) -> None:
        """A peer has become part of a call."""
        calls = self.peers.get(name)
        if calls is None:
            if self.peers.full:
                self.peers.refused += 1
                return
            calls = self.peers[name] = {}
        calls[call] = None

    def part(self, name: str, call: Call) -> None:
        """A peer is no more part of a call."""
        calls = self.peers.get(name)
        if calls is not None:
            calls.pop(call, None)
            if not calls:
                del self.peers[name]

    def answered(self, call: Call) -> None:
        """Its first answer came."""
        if not self.values.stays:
            call.end(UNSEEN, "")
            return
        self.wait(call)
        if self.keeper is not None:
            self.keeper.answered(call)
        journal = self.journal
        if journal.calls and journal.sinks:
            dialog = call.dialogs[-1]
            journal.write("call-answered", call_id=call.call_id, answered_by=dialog.contact or call.answerer)
        if self.watchers:
            self.tell(call)

    def answered_again(self, call: Call) -> None:
        """Another of those who were called answered too."""
        self.refreshed(call)

    def refreshed(self, call: Call) -> None:
        """Its session timer was started anew, or where its parties are has changed."""
        self.wait(call)
        if self.keeper is not None:
            self.keeper.answered(call)
        if self.watchers:
            self.tell(call)

    def ended(self, call: Call) -> None:
        """It is over: see Call.end."""
        table = self.table
        table.pop((call.call_id, call.tag), None)
        if self._told_full and len(table) < 0.9 * table.limit:
            self._told_full = False
        if call.caller:
            self.part(call.caller, call)
        for peer in call.peers:
            self.part(peer, call)
        if self.keeper is not None:
            self.keeper.ended(call)
        journal = self.journal
        if journal.calls and journal.sinks:
            self._note_end(call)
        if self.watchers:
            self.tell(call)
        if self.values.keep_ended:
            self.finished.remember(call.number, call)

    def _note_end(self, call: Call) -> None:
        journal = self.journal
        if not call.was_answered:
            journal.write("call-failed", call_id=call.call_id, status=call.status, reason=call.phrase)
            return
        journal.write("call-end", call_id=call.call_id, how=call.ending(), seconds=round(call.ended - call.answered))

    # --- time

    def wait(self, call: Call) -> None:
        """Looks at an answered call again when the first of its deadlines is over. A timer that runs already stays: it
        sees when it fires that there is time left."""
        deadline = self.deadline(call)
        if deadline == NEVER or (call.timer is not None and call.looked_at <= deadline):
            return
        if call.timer is not None:
            call.timer.cancel()
        call.looked_at = deadline
        call.timer = self.wheel.start(max(0.0, deadline - self.seconds()), self._due, call)

    def deadline(self, call: Call) -> float:
        """When it has to be looked at (seconds of the clock), NEVER for never."""
        longest = self.values.max_duration
        deadline = call.answered + longest if longest else NEVER
        for dialog in call.dialogs:
            if dialog.state == CONFIRMED and dialog.interval:
                expires = dialog.expires + _GRACE
                if deadline == NEVER or expires < deadline:
                    deadline = expires
        return deadline

    def _due(self, call: Call) -> None:
        call.timer = None
        now = self.seconds()
        if self.values.max_duration and now >= call.answered + self.values.max_duration:
            if self.hang_up is not None:
                self.hang_up(call)
            call.end(MAX_DURATION, "server")
            return
        for dialog in call.dialogs:
            # RFC 4028 s8.3: nobody refreshed it; a proxy forgets it and sends no BYE
            if dialog.state == CONFIRMED and dialog.interval and now >= dialog.expires + _GRACE:
                call.expired(dialog)
        if call.state != TERMINATED:
            self.wait(call)

    def _full(self) -> None:
        if not self._told_full and self.journal.sinks:
            self._told_full = True
            self.journal.write("limit-reached", table="calls", limit=self.table.limit,
                               reason="further calls go on untracked")


def _nobody(sent_by: str) -> bool:
    return False
