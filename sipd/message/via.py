"""Via values (RFC 3261 s20.42, s18.1.1; RFC 3581 rport)."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Final

from sipd.message import grammar
from sipd.message.errors import MalformedMessage
from sipd.message.kept import MOST, keep
from sipd.message.params import parse_params


class Via:
    """One Via value: where a response goes. `transport` is in upper case, `host` as written, `branch` "" if absent."""

    __slots__ = ("transport", "host", "port", "sent_by", "branch", "params", "text", "group")

    transport: str
    host: str
    port: int | None
    #: `host[:port]` in lower case, as it takes part in transaction matching (s17.2.3).
    sent_by: str
    branch: str
    #: All parameters as by parse_params: `received`, `rport`, `maddr`, `ttl` among them.
    params: dict[str, str | None]
    #: The value as it was read.
    text: str
    #: True when sent-by is the address of more than one host: multicast or broadcast.
    group: bool

    @staticmethod
    def parse(value: str) -> Via:
        """Reads one value. Raises MalformedMessage."""
        # no ";" can stand before the parameters
        head, semicolon, params = value.partition(";")
        self = Via()
        self.transport, self.host, self.port, self.sent_by, self.group = _KNOWN_HEADS.get(head) or _head(head)
        self.text = value
        self.params = _params(params) if semicolon else {}
        self.branch = self.params.get("branch") or ""
        return self

    @property
    def received(self) -> str | None:
        """The source address somebody noted, None when nobody did."""
        return self.params.get("received")

    @property
    def maddr(self) -> str | None:
        """The maddr parameter, None when absent."""
        return self.params.get("maddr")


#: What stands before the parameters: transport, host, port, sent-by and whether that is a group.
Head = tuple[str, str, int | None, str, bool]
#: Those that were met; longer ones (characters) are read each time.
_KNOWN_HEADS: Final[dict[str, Head]] = {}
_LONGEST_KNOWN: Final = 80


def is_group(host: str) -> bool:
    """True for a numeric address that more than one host answers to; IPv6 may stand in brackets."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_multicast or str(address) == "255.255.255.255"


def _read_head(text: str) -> Head:
    """Transport, host, port and sent-by: what stands before the parameters, the same in all a peer sends.
    Raises MalformedMessage."""
    found = grammar.via.fullmatch(text)
    if found is None:
        raise MalformedMessage(f"Via cannot be read: {text[:80]!r}")
    transport, host, digits = found.groups()
    port = int(digits) if digits else None
    if port is not None and not 0 < port <= 65535:
        raise MalformedMessage(f"Via has a port that is not 1 to 65535: {text[:80]!r}")
    sent_by = host.lower() if port is None else f"{host.lower()}:{port}"
    return transport.upper(), host, port, sent_by, is_group(host)


def _head(text: str) -> Head:
    """As `_read_head`, and kept."""
    head = _read_head(text)
    if len(text) <= _LONGEST_KNOWN:
        keep(_KNOWN_HEADS, text, head, MOST)
    return head


def _params(text: str) -> dict[str, str | None]:
    """Via parameters after the first ";"; the usual ones by plain splitting, anything unusual by the grammar."""
    params: dict[str, str | None] = {}
    if '"' in text or " " in text or "\t" in text or "\r" in text:
        return parse_params(";" + text)
    if "," in text:
        raise MalformedMessage(f"Via parameters cannot be read: {text[:80]!r}")
    if text[:7] == "branch=" and text[-6:] == ";rport" and text.find(";", 7) == len(text) - 6:
        # as nearly everybody asks for the port
        return {"branch": text[7:-6], "rport": None}
    for part in text.split(";"):
        if part == "rport":
            params.setdefault(part, None)
            continue
        name, equals, value = part.partition("=")
        if name != "branch":
            name = name.lower()
            if not name:
                raise MalformedMessage(f"Via parameters cannot be read: {text[:80]!r}")
        params.setdefault(name, value if equals else None)
    return params
