"""The section [messages] of the configuration: text messages for those who are not there."""

from __future__ import annotations

from pydantic import Field, model_validator

from sipd.config_limits import Section


class Messages(Section):
    """[messages]: RFC 3428. Sizes in bytes, times in seconds."""

    #: True: a message to a user who cannot be reached is kept; else its sender hears that they are not there.
    store_offline: bool = False
    #: Messages that wait for one user, and from one sender.
    max_per_user: int = Field(default=100, ge=1, le=100000)
    max_per_sender: int = Field(default=1000, ge=1, le=1000000)
    #: How long one may wait; less where its own Expires says so.
    max_age: int = Field(default=604800, ge=60, le=31536000)
    #: One message, and all.
    max_size: int = Field(default=65536, ge=1000, le=16777216)
    max_messages: int = Field(default=20000, ge=1, le=1000000)
    total_size: int = Field(default=33554432, ge=1000, le=4294967296)
    #: True: a sender who is a user here is told by a message when one was not delivered.
    notify_sender: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Messages:
        if self.max_size > self.total_size:
            raise ValueError("max_size: not more than total_size")
        return self
