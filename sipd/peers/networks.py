"""Networks, and what is known of the addresses in them: found by prefix, never by going through a list. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class Networks(Generic[_Value]):
    """Networks of both families, each with a value. A look-up costs one dict look-up for each length of prefix that
    occurs, however many networks there are."""

    __slots__ = ("_four", "_six", "_sizes")

    def __init__(self) -> None:
        #: By the bits that are left of an address, longest prefix first: the networks' own bits to their values.
        self._four: dict[int, dict[int, _Value]] = {}
        self._six: dict[int, dict[int, _Value]] = {}
        self._sizes = 0

    def __len__(self) -> int:
        return self._sizes

    def add(self, text: str, value: _Value) -> None:
        """Enters a network or an address as the configuration writes it; the first one of a network stays. Raises
        ValueError."""
        network = ip_network(text)
        tables = self._four if network.version == 4 else self._six
        shift = network.max_prefixlen - network.prefixlen
        if shift not in tables:
            tables[shift] = {}
            for other in sorted(tables):
                tables[other] = tables.pop(other)
        bits = int(network.network_address) >> shift
        if bits not in tables[shift]:
            tables[shift][bits] = value
            self._sizes += 1

    def find(self, address: str) -> _Value | None:
        """The value of the narrowest network that a numeric address is in, None where it is in none or is no address.
        An IPv4 address that is written as an IPv6 one (::ffff:192.0.2.1) is the IPv4 address."""
        numeric = numeric_address(address)
        if numeric is None:
            return None
        number = int(numeric)
        for shift, networks in (self._four if numeric.version == 4 else self._six).items():
            value = networks.get(number >> shift)
            if value is not None:
                return value
        return None


class Acl:
    """Who may and who may not, by address: the narrowest network decides, `deny` where one stands in both lists. An
    address in no network may where nothing is permitted by name, and may not where something is."""

    __slots__ = ("name", "_networks", "_others")

    def __init__(self, name: str, permit: Iterable[str], deny: Iterable[str]) -> None:
        self.name = name
        self._networks: Networks[bool] = Networks()
        permitted = tuple(permit)
        for text in deny:
            self._networks.add(text, False)
        for text in permitted:
            self._networks.add(text, True)
        self._others = not permitted

    def permits(self, address: str) -> bool:
        """Whether this numeric address may."""
        found = self._networks.find(address)
        return self._others if found is None else found


def numeric_address(text: str) -> IPv4Address | IPv6Address | None:
    """An address, without brackets or with them; None for anything else."""
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    if address.version == 6 and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
