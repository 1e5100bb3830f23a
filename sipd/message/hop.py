"""A hop: where a message goes to or came from."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple

#: The port of a transport when none is written (RFC 3261 s19.1.2).
DEFAULT_PORT: Final = {"udp": 5060, "tcp": 5060, "tls": 5061}

#: Hosts that mean something only where the phone stands: RFC 1918, RFC 6598, link-local, unique local, loopback.
PRIVATE: Final = tuple(map(ip_network, (
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8", "fc00::/7",
    "fe80::/10", "::1/128")))


class Hop(NamedTuple):
    """One numeric next hop, the unit the resolver returns and fail-over walks (RFC 3263 s4).

    `transport` is "udp", "tcp" or "tls"; `address` a numeric address, IPv6 without brackets; `port` the real port;
    `server_name` the host name a TLS certificate must carry, empty where the target was numeric.
    """

    transport: str
    address: str
    port: int
    server_name: str = ""

    def __str__(self) -> str:
        """The hop as people read it."""
        return hop_text(self.transport, self.address, self.port)


def hop_text(transport: str, address: str, port: int) -> str:
    """A hop, a flow or a listener as people read it: `udp:192.0.2.1:5060`, `tls:[2001:db8::1]:5061`."""
    return f"{transport}:[{address}]:{port}" if ":" in address else f"{transport}:{address}:{port}"


def join_host_port(host: str, port: int | None) -> str:
    """`host:port` with brackets around an IPv6 address; the port is left out when None."""
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return host if port is None else f"{host}:{port}"


@lru_cache(maxsize=1024)
def private_address(host: str) -> str:
    """The host (IPv6 without brackets) when it is a private address, written as sources are; else ""."""
    try:
        address = ip_address(host)
    except ValueError:
        return ""
    return str(address) if any(address in network for network in PRIVATE) else ""


def hidden_from(source: str, host: str) -> bool:
    """True when a host (IPv6 without brackets) is a private address that is not reached where `source` is seen: not
    the source itself, nor, for a source on this very machine, another loopback address, of whatever family."""
    # a longer text is no address, and must not fill the cache
    private = private_address(host) if len(host) <= 64 else ""
    if private in ("", source):
        return False
    return not ((private.startswith("127.") or private == "::1") and (source.startswith("127.") or source == "::1"))
