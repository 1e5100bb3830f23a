"""Which hosts are this server, and the address-of-record a URI stands for (RFC 3261 s10.3 step 5, s16.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv6Address
from typing import Final

from sipd.message.hop import Hop, join_host_port
from sipd.message.uri import Uri, unescape
from sipd.transport.listener import Listener, split_advertise

#: The ports a domain name may be written with although nobody listens there: what DNS leads elsewhere by (RFC 3263).
_WELL_KNOWN: Final = (5060, 5061)

#: Which of our listeners is asked first when we are our own next hop.
_RANK: Final = {"udp": 0, "tcp": 1, "tls": 2}

_SEPARATORS: Final = str.maketrans("", "", "-.()")


class Places:
    """The names of this server: domains of one place, further places (tenants), and the host's own addresses.

    `domain` is the first domain, the one addresses-of-record are stored under; all names in lower case. `listeners`
    gives the listeners as they are now; `advertised` are the `host[:port]` texts of the configuration.
    """

    def __init__(self, domain: str, domains: Iterable[str], tenants: Iterable[str],
                 listeners: Callable[[], Sequence[Listener]], advertised: Iterable[str] = ()) -> None:
        self.domain = domain
        self._listeners = listeners
        self._names: dict[str, str] = {}
        self._advertised: list[tuple[str, int | None]] = []
        self._hosts: set[str] = set()
        self._host_ports: set[tuple[str, int]] = set()
        self._ports: set[int] = set()
        #: sent-by of every listener.
        self.sent_bys: set[str] = set()
        self.name(domains, tenants, advertised)

    def name(self, domains: Iterable[str], tenants: Iterable[str], advertised: Iterable[str]) -> None:
        """Gives other names to this server; its first domain stays. `refresh` follows."""
        domain = self.domain
        self._names = dict.fromkeys(domains, domain) | {domain: domain} | {name: name for name in tenants}
        self._advertised = [split_advertise(text) for text in advertised]

    def refresh(self) -> None:
        """Reads the listeners again; called whenever they have changed."""
        listeners = self._listeners()
        self._hosts = {join_host_port(one.address, None) for one in listeners} | {host for host, _ in self._advertised}
        self._host_ports = {(join_host_port(one.address, None), one.port) for one in listeners}
        self._host_ports |= {(host, port) for host, port in self._advertised if port is not None}
        self._host_ports |= {(host, one.port) for host, _ in self._advertised for one in listeners}
        self._ports = {port for _, port in self._host_ports} | set(_WELL_KNOWN)
        self.sent_bys = {one.sent_by for one in listeners}

    def place(self, host: str, port: int | None) -> str:
        """The domain of addresses-of-record at this host (lower case, IPv6 in brackets), "" when it is not us.

        An address is ours without a port or with one we listen on: a phone on the same host is not us.
        """
        domain = self._names.get(host)
        if domain is not None:
            return domain if port is None or port in self._ports else ""
        if host in self._hosts and (port is None or (host, port) in self._host_ports):
            return self.domain
        # s25.1 hostname: a name may end with a dot; s19.1.4: an IPv6 address is one, however it is written
        if host[-1:] == "." and len(host) > 1:
            return self.place(host[:-1].rstrip("."), port)
        if host[:1] == "[":
            usual = _usual_reference(host)
            return self.place(usual, port) if usual != host else ""
        return ""

    def is_domain(self, host: str) -> bool:
        """True for a name of ours, at whatever port; not for an address, where other programs have other ports."""
        # s25.1 toplabel: a name does not end with a number
        return host.rstrip(".") in self._names and not (host[:1] == "[" or host.rpartition(".")[2][:1].isdigit())

    def is_ours(self, host: str, port: int | None) -> bool:
        """True when host and port name this server."""
        return bool(self.place(host, port))

    def is_our_uri(self, uri: Uri) -> bool:
        """True for a SIP URI of this server."""
        return uri.is_sip and self.is_ours(uri.host, uri.port)

    def hops(self, uri: Uri) -> list[Hop]:
        """Where a URI of this server leads, whatever the DNS says of its names: one listener; empty for other URIs.

        The listener has the transport of the URI (s19.1.2; UDP first where it names none), and the port and address
        where somebody listens there.
        """
        host = (uri.param("maddr") or uri.host).lower()
        if not uri.is_sip or not self.place(host, uri.port):
            return []
        wanted = "tls" if uri.scheme == "sips" else (uri.param("transport") or "").lower()
        ranked = [
            (one.port != uri.port, join_host_port(one.address, None) != host, _RANK.get(one.transport, 9), place)
            for place, one in enumerate(self._listeners()) if wanted in ("", one.transport)]
        if not ranked:
            return []
        listener = self._listeners()[min(ranked)[-1]]
        return [Hop(listener.transport, listener.address, listener.port)]

    def aor(self, uri: Uri) -> str:
        """`user@domain` when the URI is an address-of-record here, "" when it is somebody else's (s10.3 step 5).

        URI parameters are left out and escapes undone. A tel URI is the user of its number at the first domain.
        """
        host = uri.host
        if host:
            # a name of ours without a port, as nearly everybody writes it, costs one look-up
            domain = (self._names.get(host) if uri.port is None else None) or self.place(host, uri.port)
            user = uri.user or ""
            return f"{unescape(user) if '%' in user else user}@{domain}" if domain else ""
        if uri.scheme == "tel":
            number = (uri.user or "").partition(";")[0].translate(_SEPARATORS)
            return f"{number}@{self.domain}"
        return ""


def _usual_reference(host: str) -> str:
    """An IPv6 reference as listeners write it; unchanged when it is none."""
    try:
        return f"[{IPv6Address(host[1:-1])}]"
    except ValueError:
        return host
