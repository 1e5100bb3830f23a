"""The host's own addresses, and which of them the kernel would send from (RFC 3261 s18, TRN-19)."""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache

import psutil


def local_addresses() -> list[str]:
    """Every numeric address of this host, IPv6 link-local left out: those name an interface too, which no URI can."""
    found: list[str] = []
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family in (socket.AF_INET, socket.AF_INET6):
                address = one.address.partition("%")[0]
                if address not in found and not (":" in address and ipaddress.ip_address(address).is_link_local):
                    found.append(address)
    return found


def source_address(target: str) -> str:
    """The local address from which the kernel would send to this numeric address; "" when there is no route."""
    with socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((target, 9))
            return str(probe.getsockname()[0]).partition("%")[0]
        except OSError:
            return ""


#: Characters of the longest address, with room for a zone: longer texts would only fill tables.
_LONGEST = 64


def canonical_address(text: str) -> str:
    """A numeric address as the kernel writes it; "" when it is none."""
    return _canonical(text) if len(text) <= _LONGEST else ""


@lru_cache(maxsize=4096)
def _canonical(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def is_loopback(address: str) -> bool:
    """True for 127.0.0.0/8 and ::1."""
    return address.startswith("127.") or address == "::1"
