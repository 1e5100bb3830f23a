"""From a URI and DNS records to an order of hops: the rules of RFC 3263 s4 and RFC 2782, without the network.

Nothing here asks, waits or remembers; `resolver` does. Random choice (RFC 2782) draws on the `entropy` it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, Protocol, TypeVar

from sipd.message.hop import DEFAULT_PORT, Hop
from sipd.message.uri import Uri

#: More hops than this are never tried for one target.
MAX_HOPS = 16

#: Without a word about the transport, the first of these that we have (RFC 3263 s4.1: UDP for a SIP URI).
PREFERENCE = ("udp", "tcp", "tls")

#: NAPTR services that lead to a transport we know (RFC 3263 s4.1).
NAPTR_SERVICES = {"sip+d2u": "udp", "sip+d2t": "tcp", "sips+d2t": "tls"}

#: What stands before the domain in the SRV question of a transport (RFC 3263 s4.2).
SRV_PREFIX = {"udp": "_sip._udp.", "tcp": "_sip._tcp.", "tls": "_sips._tcp."}

Entropy = Callable[[int], bytes]


class Target(NamedTuple):
    """What decides where a URI leads: RFC 3263's TARGET and what was written beside it.

    `host` is a name in lower case without the last dot, or a numeric address without brackets when `numeric`;
    `transport` is "" when the URI leaves it open; `secure` is True for sips.
    """

    host: str
    numeric: bool
    port: int | None
    transport: str
    secure: bool


class Srv(NamedTuple):
    """One SRV record (RFC 2782); `target` in lower case without the last dot, "" for the root."""

    priority: int
    weight: int
    port: int
    target: str


class Naptr(NamedTuple):
    """One NAPTR record (RFC 3403 s4.1); `replacement` in lower case without the last dot."""

    order: int
    preference: int
    flags: str
    service: str
    regexp: str
    replacement: str


class Choice(NamedTuple):
    """The hops of one server among servers to choose from: lower `priority` first, then by chance and `weight`."""

    priority: int
    weight: int
    hops: tuple[Hop, ...]


class _Weighted(Protocol):
    @property
    def priority(self) -> int: ...

    @property
    def weight(self) -> int: ...


_W = TypeVar("_W", bound=_Weighted)


def target_of(uri: Uri) -> Target | None:
    """The target of a URI, None when it can lead nowhere: another scheme, an impossible port, host or transport."""
    secure = uri.scheme == "sips"
    if not secure and uri.scheme != "sip":
        return None
    if uri.port is not None and not 0 < uri.port < 65536:
        return None
    transport = (uri.param("transport") or "").lower()
    if transport and transport not in DEFAULT_PORT:
        return None
    if secure and transport:
        # RFC 3261 s26.2.2: with sips, tcp means TLS over TCP and udp means nothing.
        if transport == "udp":
            return None
        transport = "tls"
    # RFC 3263 s4: the TARGET is the maddr parameter if present, else the host.
    host = (uri.param("maddr") or uri.host).strip("[]").lower().removesuffix(".")
    address = _address(host)
    if address is not None:
        text = usable_address(host)
        return Target(text, True, uri.port, transport, secure) if text else None
    return Target(host, False, uri.port, transport, secure) if is_name(host) else None


def is_name(host: str) -> bool:
    """True for what may be asked of the DNS: ASCII labels of 1 to 63, the last beginning with a letter (s25.1)."""
    if not host or len(host) > 253 or not host.isascii():
        return False
    labels = host.split(".")
    for label in labels:
        if not 0 < len(label) < 64 or not label.replace("-", "").replace("_", "").isalnum():
            return False
    # ".invalid" stands in the contacts of phones that have no address (RFC 7118 s5); it never exists (RFC 6761 s6.4).
    return labels[-1][0].isalpha() and labels[-1] != "invalid"


def usable_address(text: str) -> str:
    """The address as everyone writes it when a request may be sent there, else "".

    Not there: multicast, broadcast and reserved (a stranger's contact would make us shout), and unspecified ones.
    """
    address = _address(text)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address is None or address.is_multicast or address.is_unspecified:
        return ""
    if isinstance(address, IPv4Address) and (address.packed[0] == 0 or address.packed[0] >= 240):
        return ""
    return str(address)


def family(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4


def fixed_transport(target: Target, transports: Collection[str]) -> str:
    """The transport for a target with a numeric host or without records to tell, "" when we have none for it.

    RFC 3263 s4.1: what the URI says; else UDP for SIP (the next best where we have no UDP) and TCP, which means TLS,
    for SIPS.
    """
    wanted = ("tls",) if target.secure else (target.transport,) if target.transport else PREFERENCE
    for transport in wanted:
        if transport in transports:
            return transport
    return ""


def numeric_hops(target: Target, transports: Collection[str], families: Collection[int]) -> list[Hop]:
    """The only hop of a numeric target, or none (RFC 3263 s4.2)."""
    transport = fixed_transport(target, transports)
    if not transport or family(target.host) not in families:
        return []
    return [Hop(transport, target.host, target.port or DEFAULT_PORT[transport])]


def naptr_services(records: Iterable[Naptr], secure: bool, transports: Collection[str]) -> list[tuple[str, str]]:
    """Transports and the names of their SRV records as the domain prefers them; empty when no record applies.

    RFC 3263 s4.1: services we cannot use are discarded, and for SIPS all but SIPS. RFC 3403 s4.1: of what is left,
    only the records of the lowest order count, by preference.
    """
    usable: list[tuple[int, int, str, str]] = []
    for record in records:
        transport = NAPTR_SERVICES.get(record.service.lower(), "")
        if transport not in transports or (secure and transport != "tls"):
            continue
        if record.flags.lower() != "s" or record.regexp or not record.replacement:
            continue
        usable.append((record.order, record.preference, transport, record.replacement))
    usable.sort(key=lambda entry: entry[:2])
    return [(transport, name) for order, _, transport, name in usable if order == usable[0][0]]


def srv_services(target: Target, transports: Collection[str]) -> list[tuple[str, str]]:
    """Transports and names of the SRV questions when no NAPTR record tells (RFC 3263 s4.1, s4.2)."""
    first = fixed_transport(target, transports)
    if not first:
        return []
    if target.transport or first == "tls":
        return [(first, SRV_PREFIX[first] + target.host)]
    # A SIP URI that leaves it open is asked for under "_sip" only: a domain that offers TLS says so by NAPTR.
    return [(transport, SRV_PREFIX[transport] + target.host) for transport in ("udp", "tcp") if transport in transports]


def by_priority(items: Iterable[_W], entropy: Entropy) -> list[_W]:
    """The order in which to try: by priority, within one by chance in proportion to the weights (RFC 2782, Weight)."""
    ranks: dict[int, list[_W]] = {}
    for item in items:
        ranks.setdefault(item.priority, []).append(item)
    ordered: list[_W] = []
    for priority in sorted(ranks):
        # Those of weight 0 stand first, so that they are drawn only by the lowest number.
        rank = sorted(ranks[priority], key=lambda item: item.weight > 0)
        while len(rank) > 1:
            point = int.from_bytes(entropy(4), "big") % (sum(item.weight for item in rank) + 1)
            index = 0
            running = rank[0].weight
            while running < point:
                index += 1
                running += rank[index].weight
            ordered.append(rank.pop(index))
        ordered += rank
    return ordered


def hops_of(choices: Iterable[Choice], entropy: Entropy) -> list[Hop]:
    """The hops of the choices in the order of `by_priority`, each once, at most MAX_HOPS."""
    hops = dict.fromkeys(hop for choice in by_priority(choices, entropy) for hop in choice.hops)
    return list(hops)[:MAX_HOPS]


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """A numeric address; None for anything else, one with a zone too, which means nothing to a peer."""
    if "%" in text:
        return None
    try:
        return ip_address(text)
    except ValueError:
        return None
