"""What is tried for one call, in which order: decided step by step, each when its turn comes.

A walk is a generator: it yields what is to be tried next and is told what came of it. So bindings are looked up when
somebody's turn comes, a forward is followed when it is needed, and `explain` walks the very same way with answers it
makes up.

The rules, in words: a number is looked for among the routes, then in [numbers], then among groups and users. Whoever
was tried once in a call is not tried again (RFC 3261 s16.5). Members of a group ring for the group: their own
forwards do not apply, and those who do not want to be disturbed are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import NamedTuple

from sipd.config_routing import BUSY, NO_ANSWER, UNREACHABLE, Forward, RouteEntry, To
from sipd.message.message import Request
from sipd.proxy.targets import Groups, Stage, Target
from sipd.routing import diversion
from sipd.routing.diversion import Diverted
from sipd.routing.rules import Rules, World
from sipd.routing.table import Found, Query, Table, title

#: How often one call is forwarded, what it was forwarded before it came counted in, and looked up anew in all.
MOST_FORWARDS = 5
_MOST_STEPS = 20

#: Somebody has no turn: they were tried before, or are in a circle. It is no answer; whoever else there is comes next.
_PASSED_OVER = 0
#: What the caller hears where nothing but circles was found.
LOOP = 482

Walking = Generator[Stage, int, int]


class Wishes(NamedTuple):
    """What a user or a group wants to happen to their calls."""

    forward: Forward
    dnd: bool = False


#: Who says nothing.
NO_WISHES = Wishes(Forward())


class Call(NamedTuple):
    """What routing knows of one call."""

    request: Request
    #: The name of the user or the peer who sends it, "" for nobody known; and the user part of its From.
    peer: str
    caller: str
    secure: bool
    invite: bool


class Walk:
    """One way through the rules. `note`, where somebody listens, is told each decision in words, and of a forward the
    step as well; `thorough`: of routes that are not taken too."""

    def __init__(self, rules: Rules, world: World, wishes: Callable[[str], Wishes], call: Call,
                 note: Callable[..., None] | None = None, thorough: bool = False) -> None:
        self._rules = rules
        self._world = world
        self._wishes = wishes
        self._call = call
        self._note = note
        self._thorough = thorough
        #: Why the call is refused, where a route or a script gives words for it.
        self.reason = ""
        self._before = diversion.before(call.request)
        self._diverted: list[Diverted] = []
        #: Where the walk is: numbers and names that are being followed.
        self._path: list[str] = []
        #: Users, trunks with a number, and URIs that had their turn.
        self._tried: set[str] = set()
        self._moment = world.local()
        #: It is for a number that skips limits.
        self._emergency = False

    def told(self, groups: Sequence[Sequence[str]], number: str, domain: str) -> Walking:
        """What a script says: names and URIs, those of a group at once, one group after the other."""
        status = _PASSED_OVER
        for group in groups:
            first = group[0]
            if len(group) > 1 or first.startswith(("sip:", "sips:")):
                came = yield from self._at_once(list(group), number, 0.0, False, "what the script says")
            elif self._rules.knows(first) or self._world.is_user(self._rules.aor(first)):
                came = yield from self.name(first, number)
            else:
                came = yield from self.number(first, domain)
            status = came or status
        return status or LOOP

    # --- numbers

    def number(self, number: str, domain: str) -> Walking:
        """Whoever a number stands for."""
        self._emergency = self._emergency or number in self._rules.emergency
        found = self.route(number, domain)
        if found is not None:
            return (yield from self._once(f"number {number}@{domain}", self._route(found, domain)))
        entry = self._rules.numbers.get(f"{number}@{domain}")
        if entry is not None:
            self._say(f"[numbers] {number} is {', '.join(entry.to)}")
            return (yield from self.several(entry.to, number))
        return (yield from self._address(f"{number}@{domain}"))

    def route(self, number: str, domain: str) -> Found | None:
        """The route that a number takes, None when there is none."""
        table = self._rules.tables.get(domain)
        if table is None:
            return None
        query = Query(number, self._call.caller, self._call.peer, self._moment)
        found = table.find(query)
        if self._note is not None:
            self._tell(table, query, found)
        return found

    def _tell(self, table: Table, query: Query, found: Found | None) -> None:
        if not self._thorough:
            if found is not None:
                self._say(f"{title(found.place, found.route)} is taken")
            return
        for place, route, why, match in table.trace(query):
            if why:
                self._say(f"{title(place, route)} is not taken: {why}")
            elif match is not None:
                self._say(f"{title(place, route)} is taken: {query.called} matches {match.source}")

    def _route(self, found: Found, domain: str) -> Walking:
        route = found.route
        if route.reject:
            self._say(f"refused with {route.reject}" + (f" {route.reason}" if route.reason else ""))
            self.reason = route.reason
            return route.reject
        if not found.number:
            self._say(f"nothing one could call is left after rewriting by {route.rewrite}")
            return 484
        if route.rewrite:
            self._say(f"{route.rewrite} makes {found.number}")
        if not route.to:
            return (yield from self.number(found.number, domain))
        return (yield from self._in_turn(route, found.number))

    def _in_turn(self, route: RouteEntry, number: str) -> Walking:
        """Each of `to`, until one says something that is no reason to try another."""
        entries = self._ordered(route.to)
        down = [name for name in entries if name in self._rules.trunks and self._world.trunk_down(name)]
        if len(down) == len(entries):
            down = []  # where all seem dead an attempt is better than our guess
        left = [name for name in entries if name not in down]
        status = _PASSED_OVER
        for name in entries:
            if name in down:
                self._say(f"{name} is passed over: it does not answer, or refuses us")
                continue
            left.pop(0)
            came = yield from self.name(name, number, route.timeout, bool(left) and UNREACHABLE in route.failover)
            if came and not fails_over(came, route.failover, name not in self._rules.trunks):
                return came
            status = came or status
        return status or LOOP

    def _ordered(self, entries: Sequence[To]) -> list[str]:
        """By priority; by chance and weight among equals (RFC 2782)."""
        ranks: dict[int, list[To]] = {}
        last = -1
        for entry in entries:
            rank = last + 1 if entry.priority is None else entry.priority
            last = max(last, rank)
            ranks.setdefault(rank, []).append(entry)
        ordered: list[str] = []
        for rank in sorted(ranks):
            left = ranks[rank]
            while len(left) > 1:
                point = self._world.chance() * sum(entry.weight or 0.1 for entry in left)
                for entry in left:
                    point -= entry.weight or 0.1
                    if point < 0:
                        break
                left.remove(entry)
                ordered.append(entry.peer)
            ordered += [entry.peer for entry in left]
        return ordered

    # --- names

    def name(self, name: str, number: str, timeout: float = 0.0, hasty: bool = False) -> Walking:
        """A user, a group or a trunk; for the last one with this number, unless it is named with one of its own, and
        `hasty` where others follow and it has to say something soon. `timeout` in seconds, 0 for no limit of this."""
        name, number = self._rules.split(name, number)
        if name in self._rules.groups:
            return (yield from self._group(name, number, timeout))
        if name in self._rules.trunks:
            return (yield from self._trunk(name, number, timeout, hasty))
        return (yield from self._user(self._rules.aor(name), timeout))

    def _address(self, aor: str) -> Walking:
        """A group or a user as they are called; trunks are reached by routes alone."""
        group = self._rules.group(aor)
        if group:
            return (yield from self._group(group, group, 0.0))
        return (yield from self._user(aor, 0.0))

    def _trunk(self, name: str, number: str, timeout: float, hasty: bool) -> Walking:
        target = self._trunk_target(name, number)
        if target is None:
            return _PASSED_OVER
        target.hasty = hasty
        return (yield self._stage([[target]], timeout, f"{name} with {number}"))

    def _trunk_target(self, name: str, number: str) -> Target | None:
        target = self._world.trunk_target(name, number)
        if target is None:
            self._say(f"{name} is passed over: it is gone")
        elif f"{name} {number}" in self._tried:
            self._say(f"{name} is passed over: it was tried with {number}")
            return None
        elif self._call.invite and self._world.is_busy(name) and not self._emergency:
            self._say(f"{name} is passed over: as many calls as it may have")
            return None
        self._tried.add(f"{name} {number}")
        return target

    def _user(self, aor: str, timeout: float) -> Walking:
        name = self._rules.name(aor)
        if aor in self._tried and aor not in self._path:
            self._say(f"{name} is passed over: tried before")
            return _PASSED_OVER
        return (yield from self._once(aor, self._ring_user(aor, name, timeout)))

    def _ring_user(self, aor: str, name: str, timeout: float) -> Walking:
        wishes = self._wishes(aor) if self._call.invite else NO_WISHES
        forward = wishes.forward
        if forward.always:
            return (yield from self._divert(aor, forward.always, diversion.UNCONDITIONAL, 0))
        if wishes.dnd:
            self._say(f"{name} does not want to be disturbed")
            return (yield from self._divert(aor, forward.busy, diversion.DO_NOT_DISTURB, 486))
        if self._call.invite and self._world.is_busy(aor):
            self._say(f"{name} is busy: as many calls as it may have")
            return (yield from self._divert(aor, forward.busy, diversion.BUSY, 486))
        groups = self._fresh(self._world.bindings_of(aor, self._call.secure))
        self._tried.add(aor)
        if not groups and not self._world.is_user(aor) and not self._world.anybody():
            self._say(f"there is nobody called {name}")
            return 404
        if groups and forward.offline and self._world.is_gone(aor):
            self._say(f"no phone of {name} answers")
            groups = []
        elif not groups:
            self._say(f"nothing is registered for {name}")
        if not groups:
            return (yield from self._divert(aor, forward.offline, diversion.UNAVAILABLE, 480))
        patience = _shorter(timeout, forward.no_answer_after if forward.no_answer else 0.0)
        for group in groups if forward.offline and self._call.invite else ():
            for target in group:
                target.hasty = True  # who says nothing at all is not there
        # the steps of serial forking share the time
        status = yield self._stage(groups, patience / len(groups), name)
        return (yield from self._after(aor, forward, status))

    def _after(self, aor: str, forward: Forward, status: int) -> Walking:
        """What a user or a group wants when the call was not taken."""
        if status == 486:
            return (yield from self._divert(aor, forward.busy, diversion.BUSY, status))
        if status in (408, 480) and forward.no_answer:
            return (yield from self._divert(aor, forward.no_answer, diversion.NO_ANSWER, status))
        if status in (404, 410, 480) or status >= 500:
            return (yield from self._divert(aor, forward.offline, diversion.UNAVAILABLE, status))
        return status

    # --- forwards

    def _divert(self, aor: str, to: str, reason: str, status: int) -> Walking:
        """The call goes to `to` instead; what came so far counts when that is nobody, or leads nowhere."""
        if not to:
            return status
        name = self._rules.name(aor)
        if self._before + len(self._diverted) >= MOST_FORWARDS:
            self._say(f"{name} is not forwarded to {to}: the call was forwarded {MOST_FORWARDS} times already")
            return status or LOOP
        step = Diverted(aor, reason, self._rules.aor(to))
        if self._note is not None:
            self._note(f"{name} is forwarded to {to} ({reason})", step)
        self._diverted.append(step)
        came = yield from self._forwarded_to(to, aor.rpartition("@")[2])
        self._diverted.pop()
        return came or status or LOOP

    def _forwarded_to(self, to: str, domain: str) -> Walking:
        if to in self._rules.groups or self._world.is_user(self._rules.aor(to)):
            return (yield from self._address(self._rules.aor(to)))
        return (yield from self.number(to, domain))

    # --- groups

    def _group(self, name: str, number: str, timeout: float) -> Walking:
        return (yield from self._once(f"group {name}", self._ring_group(name, number, timeout)))

    def _ring_group(self, name: str, number: str, timeout: float) -> Walking:
        group = self._rules.groups[name]
        aor = self._rules.aor(name)
        forward = self._wishes(aor).forward if self._call.invite else NO_WISHES.forward
        if forward.always:
            return (yield from self._divert(aor, forward.always, diversion.UNCONDITIONAL, 0))
        patience = _shorter(timeout, group.timeout)
        self._say(f"group {name} ({group.strategy}): {', '.join(group.members)}")
        members = list(group.members)
        if group.strategy == "random":
            members = self._ordered([To(peer=member, priority=0) for member in members])
        if group.strategy in ("serial", "random"):
            status = yield from self._one_by_one(members, number, patience)
        else:
            status = yield from self._at_once(members, number, patience, group.strategy == "q", name)
        return (yield from self._after(aor, forward, status))

    def several(self, found: Iterable[str], number: str) -> Walking:
        """Names that ring at once, groups among them as their members; one alone as if it had been called itself."""
        given = list(found)
        if len(given) == 1:
            return (yield from self.name(given[0], number))
        flat: dict[str, None] = {}
        for one in given:
            group = self._rules.groups.get(one)
            flat.update(dict.fromkeys(group.members if group is not None else (one,)))
        return (yield from self._at_once(list(flat), number, 0.0, False, number))

    def _one_by_one(self, members: list[str], number: str, patience: float) -> Walking:
        """It comes to what the last one said who was called; `patience` in seconds for each of them."""
        said, left_out = 0, set()
        for member in members:
            groups, status = self._member(member, number)
            if groups:
                said = yield self._stage(groups, patience / len(groups), member)
            else:
                left_out.add(status)
        return said or (486 if left_out == {486} else 480)

    def _at_once(self, members: list[str], number: str, patience: float, by_q: bool, name: str) -> Walking:
        targets: list[Target] = []
        came = set()
        for member in members:
            groups, status = self._member(member, number)
            targets += [target for group in groups for target in group]
            came.add(status)
        if not targets:
            return 486 if came == {486} else 480
        if not by_q:
            return (yield self._stage([targets], patience, name))
        ranks = sorted({target.q for target in targets}, reverse=True)
        return (yield self._stage([[target for target in targets if target.q == q] for q in ranks], patience, name))

    def _member(self, member: str, number: str) -> tuple[Groups, int]:
        """The targets of a member of a group, or the status that stands for why there are none."""
        if member.startswith(("sip:", "sips:")):
            return self._fresh([[Target(member)]]), 480
        member, number = self._rules.split(member, number)
        if member in self._rules.trunks:
            if self._world.trunk_down(member):
                self._say(f"{member} is passed over: it does not answer, or refuses us")
                return [], 503
            target = self._trunk_target(member, number)
            return ([[target]], 408) if target is not None else ([], 503)
        aor = self._rules.aor(member)
        if aor in self._tried:
            self._say(f"{member} is passed over: tried before")
            return [], 480
        if self._call.invite and self._wishes(aor).dnd:
            self._say(f"{member} is passed over: does not want to be disturbed")
            return [], 486
        if self._call.invite and self._world.is_busy(aor):
            self._say(f"{member} is passed over: as many calls as it may have")
            return [], 486
        self._tried.add(aor)
        groups = self._fresh(self._world.bindings_of(aor, self._call.secure))
        if not groups:
            self._say(f"{member} is passed over: nothing is registered")
        return groups, 480

    # --- what they share

    def _once(self, what: str, walking: Walking) -> Walking:
        """Follows a way unless it leads back to where it came from."""
        if what in self._path or len(self._path) >= _MOST_STEPS:
            self._say(f"{self._rules.name(what.rpartition(' ')[2])} was met before on this way: it leads in a circle"
                      if what in self._path else "the way is too long")
            walking.close()
            return _PASSED_OVER
        self._path.append(what)
        status = yield from walking
        self._path.pop()
        return status

    def _fresh(self, groups: Groups) -> Groups:
        """Without what had its turn (RFC 3261 s16.5: a target enters the set once)."""
        fresh = [[target for target in group if target.uri not in self._tried] for group in groups]
        fresh = [group for group in fresh if group]
        self._tried.update(target.uri for group in fresh for target in group)
        return fresh

    def _stage(self, groups: Groups, patience: float, name: str) -> Stage:
        if self._diverted:
            fields = diversion.headers(self._call.request, self._diverted)
            for group in groups:
                for target in group:
                    target.headers += fields
        if self._note is not None:
            steps = ", then ".join(" and ".join(target.uri for target in group) for group in groups)
            self._say(f"calls {name}: {steps}" + (f", for {patience:g} s" + (" each" if len(groups) > 1 else "")
                                                  if patience else ""))
        return Stage(groups, patience)

    def _say(self, text: str) -> None:
        if self._note is not None:
            self._note(text)


def _shorter(one: float, other: float) -> float:
    """The shorter of two times, of which 0.0 is no limit."""
    return min(one, other) if one and other else one or other


def fails_over(status: int, causes: Sequence[str | int], people: bool) -> bool:
    """Whether the next target of a route is tried after this one ended so. `people`: it was no trunk, and 480 says that
    nobody was there."""
    words = {486: BUSY, 408: NO_ANSWER, 503: UNREACHABLE, 480: UNREACHABLE if people else ""}
    return status in causes or f"{status // 100}xx" in causes or words.get(status, "") in causes
