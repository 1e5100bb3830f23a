"""The section [originate] of the configuration: calls that this server begins."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sipd.config_limits import Section


class Originate(Section):
    """[originate]: `sipctl originate`."""

    #: Seconds that each of the two may ring.
    timeout: float = Field(default=30.0, ge=1, le=600)
    #: How the two are connected: "refer" tells the first phone to call the second, "3pcc" holds both calls here,
    #: "auto" is refer for phones of ours that know it.
    by: Literal["auto", "refer", "3pcc"] = "auto"
    #: Calls at a time.
    limit: int = Field(default=1000, ge=1, le=100_000)
