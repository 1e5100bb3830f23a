"""The section [api] of the configuration: the control API over HTTP."""

from __future__ import annotations

import ipaddress
import re

from pydantic import Field, field_validator

from sipd.config_limits import Section

_PLACE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})")


def place_of(text: str) -> tuple[str, int]:
    """The loopback address, without brackets, and port that `text` names. Raises ValueError."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise ValueError(f'{text!r} is no address and port; one is written like "127.0.0.1:8061" or "[::1]:8061"')
    try:
        address = ipaddress.ip_address(found[1] or found[2])
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
    if not address.is_loopback:
        raise ValueError(f"{text!r} can be reached from elsewhere, and whoever has the token may do everything: a "
                         'loopback address such as "127.0.0.1:8061" is wanted (ssh -L leads there from afar)')
    port = int(found[3])
    if not 1 <= port <= 65535:
        raise ValueError(f"{text!r}: a port from 1 to 65535 is wanted")
    return str(address), port


class Api(Section):
    """[api]: what programs ask the server by, besides the Unix socket."""

    #: `address:port` of this host alone to listen on for HTTP; "" for not at all.
    http: str = Field(default="", max_length=64)

    @field_validator("http")
    @classmethod
    def _loopback(cls, value: str) -> str:
        if value:
            place_of(value)
        return value

    @property
    def place(self) -> tuple[str, int] | None:
        """Address and port, None for neither."""
        return place_of(self.http) if self.http else None
