"""From a URI to hops, best first (RFC 3263 s4): at once where nothing need be asked, else by asking the DNS."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from typing import Any, NamedTuple

from twisted.internet import interfaces
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from sipd.interfaces import IResolver
from sipd.inventory import Inventory, Table
from sipd.journal import Journal
from sipd.message.hop import DEFAULT_PORT, Hop
from sipd.message.uri import Uri
from sipd.resolver.names import ADDRESS_4, ADDRESS_6, NAPTR, SRV, Answer, Kind, Names
from sipd.resolver.quarantine import Quarantine
from sipd.resolver.select import (
    MAX_HOPS,
    Choice,
    Entropy,
    Naptr,
    Srv,
    Target,
    by_priority,
    family,
    fixed_transport,
    hops_of,
    naptr_services,
    numeric_hops,
    srv_services,
    target_of,
)
from sipd.resolver.system import Hosts

_URI_KEY = tuple[str, str, int | None, tuple[tuple[str, str | None], ...]]


def _nobodys(uri: Uri) -> list[Hop]:
    """Until the core tells which URIs name this server."""
    return []


class Resolution(NamedTuple):
    """What is known about a named target until `expires` (seconds of the clock)."""

    expires: float
    choices: tuple[Choice, ...]


#: Characters of a URI that is remembered; longer ones are looked at each time, since they would only fill the table.
_REMEMBERED = 300
#: Characters of the longest name the DNS knows (RFC 1035 s2.3.4), with a dot at its end.
_LONGEST_NAME = 254
#: The order of servers where it does not matter.
_ANY = bytes(4)


@implementer(IResolver)
class Resolver:
    """Resolves targets with the transports and address families (4, 6) this server can send by.

    `client` is a provider of twisted's IResolver, `hosts` gives the addresses of names that are never asked for,
    `dns_timeout` is in seconds per question, `quarantine` in seconds; `cache` bounds what is remembered (entries).
    """

    def __init__(
        self,
        clock: IReactorTime,
        client: interfaces.IResolver,
        inventory: Inventory,
        entropy: Entropy,
        *,
        transports: Collection[str],
        families: Collection[int],
        hosts: Hosts | None = None,
        dns_timeout: float = 3.0,
        quarantine: float = 30.0,
        cache: int = 10_000,
        journal: Journal | None = None,
    ) -> None:
        self._clock = clock
        self._entropy = entropy
        self._transports = frozenset(transports)
        self._families = frozenset(families)
        self._hosts = Hosts(clock) if hosts is None else hosts
        self._names = Names(clock, client, inventory, dns_timeout, answers=cache)
        self._quarantine = Quarantine(clock, inventory, quarantine, cache)
        #: See IResolver.
        self.own: Callable[[Uri], list[Hop]] = _nobodys
        #: The first table holds what a URI alone tells: the hops of a numeric host, or the name to look for.
        self._uris: Table[_URI_KEY, list[Hop] | Target] = inventory.table("resolver uris", cache, cache=True)
        self._resolutions: Table[Target, Resolution] = inventory.table("resolver targets", cache, cache=True)
        #: Domains that offered TLS by NAPTR when they were last asked.
        self._with_tls: Table[str, None] = inventory.table("domains with TLS", cache, cache=True)
        self._journal = journal or Journal()

    def configure(self, dns_timeout: float, cache: int) -> None:
        """Another patience for each question, and another bound on what is remembered. What a URI alone tells is found
        out anew: it may name this server now."""
        self._uris.clear()
        self._names.configure(dns_timeout, cache)
        self._quarantine.bound(cache)
        self._uris.limit = self._resolutions.limit = self._with_tls.limit = cache

    def lookup(self, uri: Uri, chance: bytes = b"") -> list[Hop] | None:
        """The hops when they are known without asking the network, best first; None when only `resolve` can tell."""
        key = (uri.scheme, uri.host, uri.port, uri.params)
        known = self._uris.get(key)
        if known is None:
            ours = self.own(uri)
            if ours:
                return ours
            known = self._first_look(uri)
            if len(str(uri)) <= _REMEMBERED:
                self._uris.remember(key, known)
        if type(known) is list:
            return known[:]
        assert isinstance(known, Target)
        resolution = self._resolutions.get(known)
        if resolution is None or resolution.expires <= self._clock.seconds():
            return None
        return self._order(resolution, chance)

    def resolve(self, uri: Uri, chance: bytes = b"") -> Coroutine[Any, Any, list[Hop]]:
        """The hops, best first, empty when there are none. Never raises; each question ends within `dns_timeout`."""
        return self._resolve(uri, chance)

    def quarantine(self, hop: Hop, seconds: float = 0.0) -> float:
        """See IResolver: sorts this hop last for a while (RFC 3263 s4.3)."""
        return self._quarantine.add(hop, seconds)

    def failed(self, uri: Uri) -> bool:
        """See IResolver."""
        return len(self._quarantine) > 0 and self._quarantine.holds(self.lookup(uri, _ANY) or [])

    def _first_look(self, uri: Uri) -> list[Hop] | Target:
        target = target_of(uri)
        if target is None or len(target.host) > _LONGEST_NAME:
            return []
        return numeric_hops(target, self._transports, self._families) if target.numeric else target

    def _order(self, resolution: Resolution, chance: bytes) -> list[Hop]:
        if chance:
            # RFC 3263 s4.4: from one order, whatever chance had made of it
            return self._quarantine.last(hops_of(sorted(resolution.choices), lambda size: chance))
        return self._quarantine.last(hops_of(resolution.choices, self._entropy))

    async def _resolve(self, uri: Uri, chance: bytes) -> list[Hop]:
        known = self.lookup(uri, chance)
        if known is not None:
            return known
        target = target_of(uri)
        assert target is not None, "a URI that leads nowhere is known at once"
        resolution = await self._follow(target)
        self._resolutions.remember(target, resolution)
        return self._order(resolution, chance)

    async def _follow(self, target: Target) -> Resolution:
        """The walk of RFC 3263 s4.1 and s4.2 for a name."""
        transport = fixed_transport(target, self._transports)
        addresses = self._hosts(target.host)
        if addresses:
            # Who writes a name in the hosts file means the addresses written there, whatever the DNS says.
            expires = self._clock.seconds() + 30.0
            return self._plain(target, transport, Answer(expires, addresses))
        if target.port is not None or not self._services(target):
            return self._plain(target, transport, await self._addresses(target.host) if transport else self._nothing())
        services: list[tuple[str, str]] = []
        expires = float("inf")
        if not target.transport:
            naptr = await self._names.ask(NAPTR, target.host)
            services = naptr_services(naptr.records, target.secure, self._transports)
            if not naptr.failed:
                # Some servers never answer this question: not a reason to ask the others again every few seconds.
                expires = naptr.expires
                self._note_tls(target.host, naptr.records)
        asking: list[Deferred[Answer[Any]]] = []
        if not services:
            # The addresses are asked for beside the SRV records, so that a silent server costs one wait and not two.
            services = self._services(target)
            asking.append(self._begin(self._addresses(target.host)))
        else:
            transport = services[0][0]
        asking += [self._begin(self._names.ask(SRV, name)) for _, name in services]
        answers = await self._all(asking)
        found = answers[-len(services):]
        if not any(answer.records for answer in found):
            # RFC 3263 s4.2: no SRV records, so the name's own addresses at the default port.
            plain = answers[0] if len(answers) > len(services) else await self._addresses(target.host)
            resolution = self._plain(target, transport, plain)
        else:
            resolution = await self._servers(target, [name for name, _ in services], found)
        return resolution._replace(expires=min(expires, resolution.expires, *(answer.expires for answer in found)))

    def _note_tls(self, domain: str, records: tuple[Naptr, ...]) -> None:
        """RFC 3263 s7: a domain that had TLS in its records and has no more may be a sign of an attack."""
        if any(record.service.lower() == "sips+d2t" for record in records):
            self._with_tls.remember(domain, None)
        elif domain in self._with_tls:
            del self._with_tls[domain]
            if self._journal.sinks:
                self._journal.write("tls-withdrawn", domain=domain)

    def _services(self, target: Target) -> list[tuple[str, str]]:
        return srv_services(target, self._transports)

    def _nothing(self) -> Answer[str]:
        return Answer(self._clock.seconds() + 30.0)

    async def _servers(self, target: Target, transports: list[str], answers: list[Answer[Srv]]) -> Resolution:
        """The servers that SRV records name, the addresses of the first MAX_HOPS of them."""
        wanted: list[tuple[str, Srv]] = []
        for step, (transport, answer) in enumerate(zip(transports, answers, strict=True)):
            # RFC 2782: a target of "." says that there is no such service.
            records = [
                record._replace(priority=step * 65536 + record.priority)
                for record in answer.records
                if record.target and record.port
            ]
            wanted += [(transport, record) for record in by_priority(records, self._entropy)]
        del wanted[MAX_HOPS:]
        addresses = await self._all([self._begin(self._addresses(record.target)) for _, record in wanted])
        choices = [
            Choice(record.priority, record.weight, self._hops(target, transport, answer.records, record.port))
            for (transport, record), answer in zip(wanted, addresses, strict=True)
        ]
        expires = min((answer.expires for answer in addresses), default=float("inf"))
        return Resolution(expires, tuple(choice for choice in choices if choice.hops))

    def _plain(self, target: Target, transport: str, addresses: Answer[str]) -> Resolution:
        """The addresses of the target itself, at its port or the default one."""
        hops = self._hops(target, transport, addresses.records, target.port) if transport else ()
        return Resolution(addresses.expires, (Choice(0, 0, hops),) if hops else ())

    def _hops(self, target: Target, transport: str, addresses: tuple[str, ...], port: int | None) -> tuple[Hop, ...]:
        # The certificate must carry the name the URI says, not one that only the DNS told us (RFC 5922 s4, s7.1).
        name = target.host if transport == "tls" else ""
        real_port = port or DEFAULT_PORT[transport]
        return tuple(
            Hop(transport, address, real_port, name) for address in addresses if family(address) in self._families
        )

    async def _addresses(self, name: str) -> Answer[str]:
        """The addresses of a name in the families we have, IPv4 first: where both lead to a phone, a broken IPv6
        route is the more common of the two."""
        known = self._hosts(name)
        if known:
            return Answer(self._clock.seconds() + 30.0, known)
        kinds: list[Kind[str]] = [kind for kind, number in ((ADDRESS_4, 4), (ADDRESS_6, 6)) if number in self._families]
        answers = await self._all([self._begin(self._names.ask(kind, name)) for kind in kinds])
        records = tuple(address for answer in answers for address in answer.records)
        # One family's silence must not shorten the life of the other's answer, or every few seconds a call would wait.
        counted = [answer for answer in answers if not (records and answer.failed)] or answers
        return Answer(min((answer.expires for answer in counted), default=self._clock.seconds() + 30.0), records)

    @staticmethod
    def _all(asking: list[Deferred[Answer[Any]]]) -> Deferred[list[Answer[Any]]]:
        # What fails is only a caller who no longer waits: then all are given up, and each says so.
        return gatherResults(asking, consumeErrors=True)

    @staticmethod
    def _begin(work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        return Deferred.fromCoroutine(work)
