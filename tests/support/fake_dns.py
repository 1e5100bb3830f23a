"""A DNS in memory: records by name, answered in virtual time, in the shape twisted.names gives them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.names import common, dns
from twisted.names.error import DNSNameError, DNSServerError


class FakeDns(common.ResolverBase):
    """A provider of twisted's IResolver. Names without records do not exist; `asked` lists the questions as
    ("SRV", name); questions whose name is in `silent` are never answered, those in `broken` by SERVFAIL."""

    def __init__(self, clock: Clock, delay: float = 0.0) -> None:
        super().__init__()
        self.clock = clock
        self.delay = delay
        self.zone: dict[str, list[tuple[int, Any, int]]] = {}
        self.asked: list[tuple[str, str]] = []
        self.silent: set[str] = set()
        self.broken: set[str] = set()
        self.all_silent = False
        self.soa_ttl: int | None = None

    def add(self, name: str, *records: Any, ttl: int = 300) -> None:
        """Adds records (twisted.names.dns.Record_*) at a name."""
        self.zone.setdefault(name, []).extend((record.TYPE, record, ttl) for record in records)

    def address(self, name: str, *addresses: str, ttl: int = 300) -> None:
        """Adds A and AAAA records."""
        for text in addresses:
            self.add(name, dns.Record_AAAA(text) if ":" in text else dns.Record_A(text), ttl=ttl)

    def srv(self, name: str, priority: int, weight: int, port: int, target: str, ttl: int = 300) -> None:
        """Adds an SRV record."""
        self.add(name, dns.Record_SRV(priority, weight, port, target), ttl=ttl)

    def naptr(self, name: str, order: int, preference: int, service: str, replacement: str, flags: str = "s",
              regexp: str = "", ttl: int = 300) -> None:
        """Adds a NAPTR record."""
        self.add(name, dns.Record_NAPTR(order, preference, flags.encode(), service.encode(), regexp.encode(),
                                        replacement), ttl=ttl)

    def _lookup(self, name: bytes, cls: int, type: int, timeout: Any) -> Deferred[Any]:
        text = name.decode("ascii").lower()
        self.asked.append((dns.QUERY_TYPES[type], text))
        if text in self.silent or self.all_silent:
            return Deferred()
        if not self.delay:
            return self._answer(text, type)
        waiting: Deferred[Any] = Deferred()
        self.clock.callLater(self.delay, lambda: self._answer(text, type).chainDeferred(waiting))
        return waiting

    def _answer(self, name: str, type: int) -> Deferred[Any]:
        message = dns.Message()
        if self.soa_ttl is not None:
            soa = dns.Record_SOA("ns.example", "root.example", 1, 1, 1, 1, self.soa_ttl)
            message.authority = [dns.RRHeader("example", dns.SOA, dns.IN, self.soa_ttl, soa)]
        if name in self.broken:
            return fail(DNSServerError(message))
        if name not in self.zone:
            return fail(DNSNameError(message))
        answers = [
            dns.RRHeader(name, kind, dns.IN, ttl, record)
            for kind, record, ttl in self.zone[name]
            if kind in (type, dns.CNAME)
        ]
        aliases = [answer.payload.name.name.decode() for answer in answers if answer.type == dns.CNAME]
        for alias in aliases:
            answers += [
                dns.RRHeader(alias, kind, dns.IN, ttl, record)
                for kind, record, ttl in self.zone.get(alias, [])
                if kind == type
            ]
        return succeed((answers, message.authority, []))
