"""Questions to the DNS, each asked once at a time and remembered for as long as its answer says.

twisted.names sends and receives; its own cache is never filled, so the memory is ours. A server that does not answer
is an answer too, remembered for a few seconds, so that a dead one costs one wait and not one a message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from socket import AF_INET6, inet_ntop
from typing import Any, Generic, NamedTuple, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime, IResolver
from twisted.names import dns
from twisted.names.error import DNSNameError
from twisted.python.failure import Failure

from sipd.inventory import Inventory, Table
from sipd.resolver.select import Naptr, Srv, is_name, usable_address

T = TypeVar("T")

#: Bounds on how long an answer is believed (seconds): the least, the most, the most for "there is none".
MIN_TTL, MAX_TTL, MAX_NEGATIVE_TTL = 1.0, 3600.0, 300.0

#: How long "there is none" is believed when the answer does not tell (RFC 2308 s5), and how long a failure (seconds).
NEGATIVE_TTL, FAILURE_TTL = 30.0, 5.0

#: How long after its end an answer may still be used while the servers fail (seconds, RFC 8767).
MAX_STALE = 3600.0

#: Aliases followed for one question, and records read of one answer.
MAX_ALIASES, MAX_RECORDS = 8, 256


class Answer(NamedTuple, Generic[T]):
    """What is known about a question until `expires` (seconds of the clock).

    `alias` is the name to ask instead, when the answer ended in one. `failed` is True when the servers gave no answer.
    """

    expires: float
    records: tuple[T, ...] = ()
    alias: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A type of record: its number, the method of twisted.names that asks for it, and how one record is read."""

    type: int
    method: str
    read: Callable[[Any], T]


def _name(name: dns.Name) -> str:
    return name.name.decode("ascii", "replace").lower().removesuffix(".")


def _text(text: dns.Charstr) -> str:
    return text.string.decode("ascii", "replace")


def _srv(record: Any) -> Srv:
    return Srv(record.priority, record.weight, record.port, _name(record.target))


def _naptr(record: Any) -> Naptr:
    return Naptr(
        record.order,
        record.preference,
        _text(record.flags),
        _text(record.service),
        _text(record.regexp),
        _name(record.replacement),
    )


ADDRESS_4: Kind[str] = Kind(dns.A, "lookupAddress", lambda record: usable_address(record.dottedQuad()))
ADDRESS_6: Kind[str] = Kind(dns.AAAA, "lookupIPV6Address", lambda rec: usable_address(inet_ntop(AF_INET6, rec.address)))
SRV: Kind[Srv] = Kind(dns.SRV, "lookupService", _srv)
NAPTR: Kind[Naptr] = Kind(dns.NAPTR, "lookupNamingAuthorityPointer", _naptr)


class Names:
    """Asks the DNS and remembers. `timeout` (seconds) bounds each question, whatever the servers do."""

    def __init__(
        self,
        clock: IReactorTime,
        client: IResolver,
        inventory: Inventory,
        timeout: float,
        *,
        answers: int = 20_000,
        questions: int = 1_000,
    ) -> None:
        self._clock = clock
        self._client = client
        self._timeout = timeout
        self._answers: Table[tuple[int, str], Answer[Any]] = inventory.table("dns answers", answers, cache=True)
        self._asked: Table[tuple[int, str], list[Deferred[Answer[Any]]]] = inventory.table("dns questions", questions)

    def configure(self, timeout: float, answers: int) -> None:
        """Another patience and another bound."""
        self._timeout = timeout
        self._answers.limit = answers

    async def ask(self, kind: Kind[T], name: str) -> Answer[T]:
        """The records of that kind at that name, aliases followed; never raises. Its `expires` is the earliest of all
        answers used."""
        expires = float("inf")
        for _ in range(MAX_ALIASES):
            answer: Answer[T] = self._known(kind, name) or await self._question(kind, name)
            expires = min(expires, answer.expires)
            if not answer.alias:
                return answer._replace(expires=expires)
            name = answer.alias
        return Answer(expires)

    def _known(self, kind: Kind[T], name: str) -> Answer[T] | None:
        answer = self._answers.get((kind.type, name))
        return answer if answer is not None and answer.expires > self._clock.seconds() else None

    def _question(self, kind: Kind[T], name: str) -> Deferred[Answer[T]]:
        waiter: Deferred[Answer[T]] = Deferred()
        key = (kind.type, name)
        waiters = self._asked.get(key)
        if waiters is not None:
            waiters.append(waiter)
            return waiter
        now = self._clock.seconds()
        if not is_name(name):
            waiter.callback(Answer(now + MAX_NEGATIVE_TTL))
            return waiter
        if self._asked.full:
            self._asked.refused += 1
            waiter.callback(Answer(now, failed=True))
            return waiter
        self._asked[key] = [waiter]
        # The deadline is kept here too: twisted.names stretches it by the number of servers, and over TCP has its own.
        asking = maybeDeferred(getattr(self._client, kind.method), name, (self._timeout / 3, self._timeout * 2 / 3))
        asking.addTimeout(self._timeout, self._clock)
        asking.addCallback(self._read, kind, name)
        asking.addErrback(self._failed, key)
        asking.addCallback(self._settle, key)
        return waiter

    def _settle(self, answer: Answer[Any], key: tuple[int, str]) -> None:
        if answer.failed:
            old = self._answers.get(key)
            if old is not None and not old.failed and self._clock.seconds() - old.expires < MAX_STALE:
                # RFC 8767: better an old answer than none while the servers are away. What is kept keeps its first
                # end, so that it is asked for again at every use and given up in time.
                answer = old._replace(expires=answer.expires)
            else:
                self._answers.remember(key, answer)
        else:
            self._answers.remember(key, answer)
        for waiter in self._asked.pop(key):
            waiter.callback(answer)

    def _read(self, sections: Any, kind: Kind[T], name: str) -> Answer[T]:
        records, authority, _ = sections
        owners: dict[str, list[Any]] = {}
        for record in list(records)[:MAX_RECORDS]:
            owners.setdefault(_name(record.name), []).append(record)
        now = self._clock.seconds()
        ttl = MAX_TTL
        end = name
        for _ in range(MAX_ALIASES):
            here = owners.get(end, ())
            found = [record for record in here if record.type == kind.type]
            if found:
                ttl = min(ttl, *(record.ttl for record in found))
                values = dict.fromkeys(kind.read(record.payload) for record in found)
                return Answer(now + max(ttl, MIN_TTL), tuple(value for value in values if value))
            alias = next((record for record in here if record.type == dns.CNAME), None)
            if alias is None:
                break
            ttl = min(ttl, alias.ttl)
            end = _name(alias.payload.name)
        if end != name:
            return Answer(now + max(ttl, MIN_TTL), alias=end)
        return self._none(authority)

    def _failed(self, failure: Failure, key: tuple[int, str]) -> Answer[Any]:
        """What an error means: that there is no such name, or that nobody could tell."""
        error = failure.value
        if isinstance(error, DNSNameError) and error.args:
            return self._none(getattr(error.args[0], "authority", ()))
        return Answer(self._clock.seconds() + FAILURE_TTL, failed=True)

    def _none(self, authority: Any) -> Answer[Any]:
        """There is no such record: for as long as the zone's SOA says (RFC 2308 s5)."""
        ttl = NEGATIVE_TTL
        for record in authority:
            if record.type == dns.SOA:
                ttl = min(record.ttl, record.payload.minimum, MAX_NEGATIVE_TTL)
        return Answer(self._clock.seconds() + max(ttl, MIN_TTL))
