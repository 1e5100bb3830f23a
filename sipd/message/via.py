"""Via values (RFC 3261 s20.42, s18.1.1; RFC 3581 rport)."""

from __future__ import annotations

from sipd.message import grammar
from sipd.message.errors import MalformedMessage
from sipd.message.params import parse_params


class Via:
    """One Via value: where a response goes. `transport` is in upper case, `host` as written, `branch` "" if absent."""

    __slots__ = ("version", "transport", "host", "port", "branch", "params", "text")

    version: str
    transport: str
    host: str
    port: int | None
    branch: str
    #: All parameters as by parse_params: `received`, `rport`, `maddr`, `ttl` among them.
    params: dict[str, str | None]
    #: The value as it was read.
    text: str

    @staticmethod
    def parse(value: str) -> Via:
        """Reads one value. Raises MalformedMessage."""
        found = grammar.via.fullmatch(value)
        if found is None:
            raise MalformedMessage(f"Via cannot be read: {value[:80]!r}")
        version, transport, host, port, params = found.groups()
        self = Via()
        self.version = version
        self.transport = transport.upper()
        self.host = host
        self.port = int(port) if port else None
        self.text = value
        self.params = _params(params) if params else {}
        self.branch = self.params.get("branch") or ""
        if self.port is not None and not 0 < self.port <= 65535:
            raise MalformedMessage(f"Via has a port that is not 1 to 65535: {value[:80]!r}")
        return self

    @property
    def sent_by(self) -> str:
        """`host[:port]` in lower case, as it takes part in transaction matching (s17.2.3)."""
        return self.host.lower() if self.port is None else f"{self.host.lower()}:{self.port}"

    @property
    def received(self) -> str | None:
        """The source address somebody noted, None when nobody did."""
        return self.params.get("received")

    @property
    def maddr(self) -> str | None:
        """The maddr parameter, None when absent."""
        return self.params.get("maddr")


def _params(text: str) -> dict[str, str | None]:
    """Via parameters; the usual ones by plain splitting, anything unusual by the grammar."""
    params: dict[str, str | None] = {}
    if '"' in text or " " in text or "\t" in text or "\r" in text:
        return parse_params(text)
    for part in text[1:].split(";"):
        name, equals, value = part.partition("=")
        if not name or "," in part:
            raise MalformedMessage(f"Via parameters cannot be read: {text[:80]!r}")
        params.setdefault(name.lower(), value if equals else None)
    return params
