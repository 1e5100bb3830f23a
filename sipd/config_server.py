"""[server] and [[listen]]: the names that the server answers for, and the addresses it listens on."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from sipd.config_limits import Section
from sipd.message.hop import DEFAULT_PORT, hop_text

Names = Annotated[tuple[str, ...], Field(strict=False)]

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?)*\Z")


def is_host(text: str) -> bool:
    """True for a lower-case host name, an IPv4 address or an IPv6 address in brackets (RFC 3261 s25.1 host)."""
    if text.startswith("[") and text.endswith("]"):
        return _address_version(text[1:-1]) == 6
    if text[-1:].isdigit() and re.fullmatch(r"[0-9.]+", text):
        return _address_version(text) == 4
    return _HOST_NAME.match(text) is not None


def _address_version(text: str) -> int:
    """4 or 6 for a numeric address without a zone, else 0."""
    try:
        return 0 if "%" in text else ipaddress.ip_address(text).version
    except ValueError:
        return 0


def _hosts(names: tuple[str, ...]) -> tuple[str, ...]:
    lowered = tuple(name.lower() for name in names)
    for name in lowered:
        if not is_host(name):
            raise ValueError(f'{name!r} is not a domain; one is written like "example.com"')
    if len(set(lowered)) != len(lowered):
        raise ValueError("each domain once")
    return lowered


class Server(Section):
    """[server]: the names this server answers for, and where it keeps its state."""

    #: Names of one place; an address-of-record is `user@first-domain`. Empty: a name is made at the first start.
    domains: Names = ()
    #: Further places with users of their own.
    tenants: Names = ()
    #: Directory of the user store, the bindings, keys and the control socket; absolute once loaded.
    state_dir: str = Field(default="/var/lib/sipd", min_length=1)

    @field_validator("domains", "tenants")
    @classmethod
    def _valid(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _hosts(value)

    @model_validator(mode="after")
    def _apart(self) -> Server:
        shared = sorted(set(self.domains) & set(self.tenants))
        if shared:
            raise ValueError(f"tenants: {shared[0]!r} stands under domains too; a name belongs to one place")
        return self


class Listen(Section):
    """[[listen]]: one address to listen on; a wildcard stands for the host's concrete addresses."""

    transport: Literal["udp", "tcp", "tls"]
    #: Numeric, IPv6 without brackets once loaded.
    address: str
    #: 5060, or 5061 for tls, when left out.
    port: int = Field(default=0, ge=1, le=65535)
    #: `host[:port]` that peers are told in Via and Record-Route, where it differs from the address; "" for none.
    advertise: str = ""
    #: PEM files for tls; both empty: a self-signed certificate made in the state directory.
    certificate: str = ""
    private_key: str = ""
    #: A PEM file with the certificates of those who sign for peers: a tls client is asked for a certificate, and known
    #: by the names in it when one of these vouches for it. "": nobody is asked.
    client_ca: str = ""

    @model_validator(mode="before")
    @classmethod
    def _default_port(cls, value: Any) -> Any:
        if isinstance(value, dict) and "port" not in value and value.get("transport") in DEFAULT_PORT:
            return {**value, "port": DEFAULT_PORT[value["transport"]]}
        return value

    @field_validator("address")
    @classmethod
    def _numeric(cls, value: str) -> str:
        bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
        if not _address_version(bare):
            raise ValueError('a numeric address such as "192.0.2.5" or "2001:db8::5"; "0.0.0.0" or "::" for all')
        return str(ipaddress.ip_address(bare))

    @field_validator("advertise")
    @classmethod
    def _advertised(cls, value: str) -> str:
        host, port = value.lower(), ""
        if not host.endswith("]") and ":" in host:
            host, _, port = host.rpartition(":")
            if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
                host = ""
        if value and not is_host(host):
            raise ValueError('"host" or "host:port" such as "sip.example.com:5060"')
        return value.lower()

    @model_validator(mode="after")
    def _certificate(self) -> Listen:
        if bool(self.certificate) != bool(self.private_key):
            raise ValueError("certificate and private_key: both or none")
        for key in ("certificate", "client_ca"):
            if getattr(self, key) and self.transport != "tls":
                raise ValueError(f'{key}: only for transport = "tls"')
        return self

    def __str__(self) -> str:
        """The listener as `--listen` takes it: `udp:[::1]:5060`."""
        return hop_text(self.transport, self.address, self.port)


#: Without any listener in the file or the options: UDP and TCP 5060 on every address.
DEFAULT_LISTEN = tuple(
    Listen(transport=transport, address=address, port=5060)
    for transport in ("udp", "tcp") for address in ("0.0.0.0", "::")
)


def tcp_beside(listeners: tuple[Listen, ...], taken: set[tuple[str, str, int]]) -> list[Listen]:
    """The TCP listeners that the configuration leaves out; `taken` has ("udp" or "tcp", address, port) of all it names.

    RFC 3261 s18.2.1: whoever listens for UDP listens for TCP there too, for what is too large for a datagram.
    """
    return [listen.model_copy(update={"transport": "tcp"}) for listen in listeners if listen.transport == "udp"
            and taken.isdisjoint(("tcp", address, listen.port) for address in (
                listen.address, "::" if ":" in listen.address else "0.0.0.0"))]


def parse_listen(option: str) -> dict[str, Any] | None:
    """`TRANSPORT:ADDRESS:PORT` as a [[listen]] table, None when it is not of that form."""
    match = re.fullmatch(r"([A-Za-z]+):(\[[^\]]*\]|[^:\[\]]+):([0-9]{1,5})", option)
    if match is None:
        return None
    return {"transport": match[1].lower(), "address": match[2], "port": int(match[3])}
