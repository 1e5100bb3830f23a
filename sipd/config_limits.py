"""The sections [limits] and [overload] of the configuration: how much of anything there may be."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """What all sections share: frozen, no unknown keys, no guessing of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class Limits(Section):
    """[limits]: how much of anything there may be. Sizes in bytes, times in seconds, the rest counts."""

    #: A whole message.
    message_size: int = Field(default=98304, ge=1500, le=16777216)
    #: Its start line and header section alone.
    header_size: int = Field(default=32768, ge=1000, le=1048576)
    #: Its body, on a stream.
    body_size: int = Field(default=65536, ge=0, le=16777216)
    #: Header lines, and the octets of one of them.
    header_count: int = Field(default=256, ge=20, le=100000)
    header_length: int = Field(default=8192, ge=300, le=1048576)
    #: Via values and Route values.
    vias: int = Field(default=100, ge=2, le=10000)
    routes: int = Field(default=64, ge=1, le=10000)
    #: The Request-URI.
    uri_length: int = Field(default=2048, ge=100, le=1048576)
    #: What may wait for a connection that does not read, before the connection is closed.
    send_queue: int = Field(default=262144, ge=65535, le=268435456)
    #: What all connections may hold together: messages that are not whole, and what waits for those that do not read.
    connection_memory: int = Field(default=67108864, ge=1048576, le=68719476736)
    connections: int = Field(default=10000, ge=1, le=1000000)
    connections_per_source: int = Field(default=2000, ge=1, le=1000000)
    transactions: int = Field(default=200000, ge=100, le=10000000)
    bindings: int = Field(default=1000000, ge=1, le=100000000)
    #: Branches one request may be forked into (RFC 5393 s5.3.3).
    branches: int = Field(default=60, ge=1, le=1000)
    #: Nonces in use, each with its window of counts.
    nonces: int = Field(default=200000, ge=100, le=10000000)
    #: Names whose addresses are remembered.
    dns_cache: int = Field(default=10000, ge=10, le=10000000)
    #: A connection over which nothing came. Longer than max_expires: a phone may be silent until it registers again.
    idle_timeout: float = Field(default=7500.0, ge=1, le=604800)
    #: Until something that came over a new connection has passed authentication, or belongs to a call let through.
    stranger_timeout: float = Field(default=60.0, ge=1, le=604800)
    #: Until a TLS handshake is done.
    handshake_timeout: float = Field(default=10.0, ge=0.1, le=600)
    #: Until a new connection has sent a whole message, a message that has begun is whole, and a full queue is read.
    message_timeout: float = Field(default=30.0, ge=0.1, le=600)
    #: Until a connection of ours is open.
    connect_timeout: float = Field(default=4.0, ge=0.1, le=60)

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        if self.header_size > self.message_size:
            raise ValueError("header_size: not more than message_size")
        return self


class Overload(Section):
    """[overload]: when new work is refused so that what goes on can go on (RFC 3261 s21.5.4). Times in seconds."""

    #: False: whatever comes is begun.
    shed: bool = True
    #: How late the server may be, by its own clock, before it refuses new work.
    delay: float = Field(default=0.1, ge=0.01, le=10)
    #: Retry-After of a 503: the least, and over how many seconds more those who are refused are spread.
    retry_after: int = Field(default=5, ge=1, le=3600)
    retry_spread: int = Field(default=10, ge=0, le=3600)
