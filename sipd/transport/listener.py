"""A listener: one concrete local address, and the constant texts that follow from it (RFC 3261 s18.1.1)."""

from __future__ import annotations

from typing import Final

from sipd.message.hop import hop_text, join_host_port

#: What stands for "every address of this host, of this family" in the configuration.
WILDCARDS: Final = frozenset({"0.0.0.0", "::"})


class Listener:
    """One local address of one transport, with what peers are told about it.

    `advertise` is `host[:port]`, the name or address peers are told instead of the numeric one; empty for none.
    """

    __slots__ = ("transport", "address", "port", "name", "host", "sent_by", "via_prefix", "route_suffix")

    def __init__(self, transport: str, address: str, port: int, advertise: str = "") -> None:
        self.transport = transport
        self.address = address
        self.port = port
        #: `address:port`, how bindings and flows call this listener.
        self.name = join_host_port(address, port)
        host, told_port = split_advertise(advertise) if advertise else (join_host_port(address, None), None)
        self.host = host
        # RFC 3261 s18.1.1: the sent-by carries address or name and port. The port is always written: a name without
        # one would send the peer to DNS SRV (RFC 3263 s5), which need not lead here.
        self.sent_by = f"{host}:{told_port or port}"
        self.via_prefix = f"Via: SIP/2.0/{transport.upper()} {self.sent_by};branch="
        param = "" if transport == "udp" else f";transport={transport}"
        self.route_suffix = f"{self.sent_by}{param};lr>"

    def __str__(self) -> str:
        """The listener as people read it: `tls:[2001:db8::1]:5061`."""
        return hop_text(self.transport, self.address, self.port)


def split_advertise(text: str) -> tuple[str, int | None]:
    """Host (IPv6 in brackets) and port, None when there is none, of `host[:port]` or a bare IPv6 address."""
    if text.count(":") > 1 and not text.startswith("["):
        return f"[{text}]", None
    host, colon, port = text.rpartition(":")
    if colon and port.isascii() and port.isdigit():
        return host, int(port)
    return text, None
