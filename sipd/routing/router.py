"""Routing: what is tried for a request to one of our addresses, by the configuration of now."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import struct_time
from traceback import format_exception
from typing import Any, Protocol

from sipd.config import Config
from sipd.journal import Journal
from sipd.message.address import uri_of
from sipd.message.errors import MalformedMessage
from sipd.message.message import Request
from sipd.message.parser import parse
from sipd.proxy.targets import Plan
from sipd.routing.diversion import Diverted
from sipd.routing.explain import Step, explain
from sipd.routing.forwards import Forwards
from sipd.routing.journey import Journey, ended
from sipd.routing.plan import Call, Walk, Walking
from sipd.routing.rules import Rules, World
from sipd.routing.script import Answer, Refusal, Script
from sipd.routing.table import Query, title

#: What a route test pretends to have received.
_INVITE = (b"INVITE sip:nobody@example.invalid SIP/2.0\r\nVia: SIP/2.0/UDP example.invalid;branch=z9hG4bKtest\r\n"
           b"From: <sip:nobody@example.invalid>;tag=1\r\nTo: <sip:nobody@example.invalid>\r\nCall-ID: test\r\n"
           b"CSeq: 1 INVITE\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n")


class Notes(Protocol):
    """The history of a call."""

    def note(self, kind: str, *values: Any) -> None:
        """Keeps one step."""


class Router:
    """Makes a plan for each request that the configuration says something about."""

    def __init__(self, world: World, forwards: Forwards, domain: str, journal: Journal) -> None:
        self._world = world
        self.forwards = forwards
        self._journal = journal
        self._domain = domain
        self._script: Script | None = None
        self._rules = Rules((), {}, {}, Config().routing, frozenset(), domain)
        #: False while nothing is configured: then nobody need ask for a plan.
        self.active = False

    def configure(self, config: Config, script: Script | None) -> None:
        """Routes by another configuration from the next request on; calls under way go on as they began. `script` is
        the one of that configuration, loaded."""
        self._rules = self.rules_of(config)
        self._script = script
        self.forwards.configure({self._rules.aor(name): forward for name, forward in config.forward.items()})
        self.refresh()

    def rules_of(self, config: Config) -> Rules:
        """The routing of a configuration."""
        return Rules(config.routes, config.groups, config.numbers, config.routing,
                     frozenset(name for name, peer in config.peers.items() if peer.uri), self._domain)

    def refresh(self) -> None:
        """Looks again whether there is anything to route by."""
        rules = self._rules
        self.active = bool(rules.routes or rules.groups or rules.numbers or self._script or len(self.forwards))

    def is_emergency(self, called: str) -> bool:
        """Whether a number is one of those that skip limits."""
        return called in self._rules.emergency

    # --- for calls

    def plan(self, request: Request, aor: str, caller: str = "", notes: Notes | None = None) -> Plan | None:
        """What is to be tried for a request to `aor`, None where the location service alone decides. `caller` is the
        user's address-of-record or the trunk's name, "" for a guest; `notes` is told each decision."""
        if request.to_tag:
            return None  # it belongs to a dialog, and goes where that leads
        number, _, domain = aor.rpartition("@")
        invite = request.method == "INVITE"
        peer, from_user = self._rules.name(caller), _from_user(request)
        script = self._script if invite else None
        if script is None and not self._touches(number, domain, aor, from_user, peer, invite):
            return None
        call = Call(request, peer, from_user, request.uri_text[:5].lower() == "sips:", invite)
        walk = Walk(self._rules, self._world, self.forwards.wishes, call, None if notes is None and not (
            self._journal.calls and self._journal.sinks) else partial(self._note, request.call_id, notes))

        def begin(begun: Callable[[Walking], None]) -> None:
            if script is None:
                begun(walk.number(number, domain))
            else:
                script.ask(call, number, domain, lambda answer: begun(self._scripted(walk, answer, number, domain)))

        return Journey(walk, begin, self._bug)

    def _touches(self, number: str, domain: str, aor: str, caller: str, peer: str, invite: bool) -> bool:
        """Whether anything here has to do with a number."""
        rules = self._rules
        if aor in rules.numbers or (rules.groups and rules.group(aor)):
            return True
        if invite and aor in self.forwards:
            return True
        table = rules.tables.get(domain)
        return table is not None and table.find(Query(number, caller, peer, self._world.local())) is not None

    def _scripted(self, walk: Walk, answer: Answer, number: str, domain: str) -> Walking:
        if answer is None:
            return walk.number(number, domain)
        if isinstance(answer, Refusal):
            walk.reason = answer.reason
            return ended(answer.status)
        return walk.told(answer, number, domain)

    def _note(self, call_id: str, notes: Notes | None, text: str, step: Diverted | None = None) -> None:
        """What was decided goes into the history of the call; that it is forwarded, into the journal too."""
        if notes is not None:
            notes.note("routing", text)
        journal = self._journal
        if step is not None and journal.calls and journal.sinks:
            journal.write("call-forwarded", call_id=call_id, who=self._rules.name(step.who),
                          to=self._rules.name(step.to), reason=step.reason)

    def _bug(self, error: BaseException) -> None:
        self._journal.write("bug", reason="".join(format_exception(error)))

    def leads_inside(self, number: str) -> bool | None:
        """Whether a number leads to users alone, so that those who may call nobody else may call it; None where nothing
        is said of it, so that it is a user's or nobody's."""
        rules = self._rules
        aor = rules.aor(number)
        user, _, domain = aor.rpartition("@")
        table = rules.tables.get(domain)
        routes = [route for _, route in table.routes if any(
            match.match(user) is not None for match in route.matches)] if table is not None else []
        if routes:
            return all(route.to and rules.inside(one.peer for one in route.to) for route in routes)
        entry = rules.numbers.get(aor)
        if entry is not None:
            return rules.inside(entry.to)
        return rules.inside((rules.group(aor),)) if rules.group(aor) else None

    # --- for people

    def explain(self, caller: str, called: str, peer: str = "", moment: struct_time | None = None) -> list[Step]:
        """What would happen to a call of `caller` to `called` (a user part, or with a domain of ours), now or at
        another moment. `peer` is who sends it, "" for the user or the trunk called like the caller."""
        rules, world = self._rules, self._world
        request = parse(_INVITE)
        assert isinstance(request, Request)
        if not peer and (caller in rules.trunks or world.is_user(rules.aor(caller))):
            peer = caller
        call = Call(request, peer, caller.rpartition("@")[0] or caller, False, True)
        aor = rules.aor(called)
        number, _, domain = aor.rpartition("@")
        now = world.local() if moment is None else moment
        drawn: list[float] = []

        def make(note: Callable[..., None]) -> tuple[Walk, Walking]:
            places = iter(range(1_000_000))

            def again() -> float:
                """Chance falls alike each time."""
                place = next(places)
                while len(drawn) <= place:
                    drawn.append(world.chance())
                return drawn[place]

            walk = Walk(rules, world.at(now, again), self.forwards.wishes, call, note, True)
            script = self._script
            if script is None:
                return walk, walk.number(number, domain)
            answer, said = script.try_out(call, number, domain)
            note(said)
            return walk, self._scripted(walk, answer, number, domain)

        return explain(make)

    def routes(self) -> list[dict[str, Any]]:
        """One row for each route, in order."""
        return [{
            "place": place + 1, "name": route.name, "match": list(route.match), "caller": list(route.caller),
            "peer": list(route.peer), "hours": list(route.hours), "domain": route.domain or self._domain,
            "rewrite": route.rewrite, "to": [one.peer for one in route.to], "timeout": route.timeout,
            "failover": list(route.failover), "reject": route.reject, "reason": route.reason,
            "title": title(place, route),
        } for place, route in enumerate(self._rules.routes)]

    def groups(self) -> list[dict[str, Any]]:
        """One row for each group: its members, and of each whether a call would ring there now."""
        return [{
            "name": name, "strategy": group.strategy, "timeout": group.timeout,
            "members": [{"name": member, "state": self._state(member)} for member in group.members],
        } for name, group in self._rules.groups.items()]

    def numbers(self) -> list[dict[str, Any]]:
        """One row for each entry of [numbers]."""
        return [{"number": self._rules.name(aor), "to": list(entry.to)} for aor, entry in self._rules.numbers.items()]

    def _state(self, name: str) -> str:
        if name in self._rules.trunks:
            return "does not answer" if self._world.trunk_down(name) else "trunk"
        aor = self._rules.aor(name)
        if self.forwards.wishes(aor).dnd:
            return "do not disturb"
        return "registered" if self._world.bindings_of(aor, False) else "not registered"

    def address(self, name: str) -> str:
        """The address-of-record that a user part stands for, be it somebody's or not."""
        return self._rules.aor(name)

    def known(self, name: str) -> str:
        """The address-of-record of a user or a group, "" when there is none of that name."""
        aor = self._rules.aor(name)
        return aor if self._rules.group(aor) or self._world.is_user(aor) else ""

    def leads_somewhere(self, name: str) -> bool:
        """Whether calls may be forwarded there: somebody known, or a number that a route may take."""
        if self.known(name) or self._script is not None or self._rules.aor(name) in self._rules.numbers:
            return True
        return any(match.match(name) is not None for route in self._rules.routes for match in route.matches)


def _from_user(request: Request) -> str:
    """The user part of From, "" when there is none to be read."""
    try:
        return uri_of(request.first["from"], request.flow is not None and request.flow.known).unescaped_user()
    except MalformedMessage:
        return ""
