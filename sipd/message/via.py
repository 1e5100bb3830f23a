"""Via values (RFC 3261 s20.42, s18.1.1; RFC 3581 rport)."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Final

from sipd.message import grammar
from sipd.message.errors import MalformedMessage
from sipd.message.kept import MOST, keep
from sipd.message.params import parse_params


class Head:
    """What stands before the parameters, the same in all a peer sends; nobody changes it."""

    __slots__ = ("transport", "host", "port", "sent_by", "group")

    #: In upper case.
    transport: str
    #: As written.
    host: str
    port: int | None
    #: `host[:port]` in lower case, as it takes part in transaction matching (s17.2.3).
    sent_by: str
    #: True when sent-by is the address of more than one host: multicast or broadcast.
    group: bool

    def __init__(self, transport: str, host: str, port: int | None) -> None:
        self.transport = transport
        self.host = host
        self.port = port
        self.sent_by = host.lower() if port is None else f"{host.lower()}:{port}"
        self.group = is_group(host)


class Via:
    """One Via value: where a response goes."""

    __slots__ = ("head", "branch", "asks_port", "maddr", "text", "usual", "_params")

    head: Head
    #: "" if absent.
    branch: str
    #: True when the response is wanted at the port the request came from (RFC 3581 s3): there is an rport.
    asks_port: bool
    #: The maddr parameter, None when absent or without a value.
    maddr: str | None
    #: The value as it was read, or marked.
    text: str
    #: True when what was read ends in a branch, or a branch and a bare rport, and has no other parameters: as nearly
    #: everybody writes it. That costs no dict, and marking it is writing behind its end.
    usual: bool
    #: None while nobody asked for them.
    _params: dict[str, str | None] | None

    @staticmethod
    def parse(value: str) -> Via:
        """Reads one value. Raises MalformedMessage."""
        self = Via()
        self.text = value
        self.maddr = self._params = None
        # no ";" can stand before the parameters
        head, found, branch = value.partition(";branch=")
        asks = self.asks_port = branch[-6:] == ";rport"
        if asks:
            branch = branch[:-6]
        if found and ";" not in head and ";" not in branch and '"' not in branch and " " not in branch and (
                "\t" not in branch and "\r" not in branch and "," not in branch):
            self.usual = True
            self.head = _KNOWN_HEADS.get(head) or _head(head)
            self.branch = branch
            return self
        self.usual = False
        head, found, params = value.partition(";")
        self.head = _KNOWN_HEADS.get(head) or _head(head)
        read = self._params = _params(params) if found else {}
        self.branch = read.get("branch") or ""
        self.maddr = read.get("maddr")
        self.asks_port = "rport" in read
        return self

    # on the way of every message `head` is read itself, which spares a call

    @property
    def transport(self) -> str:
        """The transport, in upper case."""
        return self.head.transport

    @property
    def host(self) -> str:
        """The host of sent-by, as written."""
        return self.head.host

    @property
    def port(self) -> int | None:
        """The port of sent-by, None when it was not written."""
        return self.head.port

    @property
    def sent_by(self) -> str:
        """`host[:port]` in lower case."""
        return self.head.sent_by

    @property
    def params(self) -> dict[str, str | None]:
        """All parameters as by parse_params: `received`, `rport`, `maddr`, `ttl` among them."""
        if self._params is None:
            self._params = _params(self.text.partition(";")[2])
        return self._params

    @property
    def received(self) -> str | None:
        """The source address somebody noted, None when nobody did."""
        return self.params.get("received")

    def mark(self, text: str, received: str | None = None, rport: str | None = None) -> None:
        """Enters the value as it is with what was noted of its sender, which is told of one that is not `usual`."""
        self.text = text
        if self.usual:
            self._params = None
            return
        params = self.params
        if received is not None:
            params["received"] = received
        else:
            params.pop("received", None)
        if rport is not None:
            params["rport"] = rport


#: Those heads that were met; longer ones (characters) are read each time.
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
    """What stands before the parameters. Raises MalformedMessage."""
    found = grammar.via.fullmatch(text)
    if found is None:
        raise MalformedMessage(f"Via cannot be read: {text[:80]!r}")
    transport, host, digits = found.groups()
    port = int(digits) if digits else None
    if port is not None and not 0 < port <= 65535:
        raise MalformedMessage(f"Via has a port that is not 1 to 65535: {text[:80]!r}")
    return Head(transport.upper(), host, port)


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
