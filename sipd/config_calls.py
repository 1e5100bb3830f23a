"""The sections [calls] and [cdr] of the configuration: what is kept of calls, and for how long."""

from __future__ import annotations

from pydantic import Field, model_validator

from sipd.config_limits import Section


class Calls(Section):
    """[calls]: the call table, session timers (RFC 4028) and the longest call. Times in seconds."""

    #: False: calls pass untracked; no history, no records, no limits, no lamps.
    track: bool = True
    #: Calls at a time; one more goes on untracked.
    limit: int = Field(default=100_000, ge=1, le=10_000_000)
    #: Calls that are over and are still shown.
    keep_ended: int = Field(default=1000, ge=0, le=1_000_000)
    #: Steps of one call that are remembered.
    steps: int = Field(default=64, ge=8, le=1000)
    #: True: calls that are up are written down, so that a server that was killed knows them again.
    ledger: bool = True
    #: The session interval that is asked for where the caller supports timers and asks for none; 0: none is.
    session_expires: int = Field(default=1800, ge=0, le=604800)
    #: The shortest interval that is let through (RFC 4028 s5: not below 90).
    min_se: int = Field(default=90, ge=90, le=86400)
    #: The longest call from answer to end; then both sides get a BYE. 0: for ever, as far as no session timer runs.
    max_duration: int = Field(default=43200, ge=0, le=31_536_000)

    @model_validator(mode="after")
    def _ordered(self) -> Calls:
        if 0 < self.session_expires < self.min_se:
            raise ValueError("session_expires: 0, or not less than min_se")
        return self


class Cdr(Section):
    """[cdr]: one line for each call in a file. Sizes in bytes."""

    enabled: bool = True
    #: The file; relative to the configuration file. "" is cdr.jsonl in the state directory.
    path: str = ""
    #: A file of this size is put aside as path.1 and a new one begun.
    rotate: int = Field(default=104_857_600, ge=4096, le=1_099_511_627_776)
    #: Files put aside that are kept.
    keep: int = Field(default=10, ge=1, le=1000)
