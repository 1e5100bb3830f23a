"""What may stand in [peers.NAME] about how calls to a carrier look: From, and what it is told of the caller."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from sipd.config_limits import Section

#: A number or a name that can stand in the user part of a URI.
_NUMBER = re.compile(r"[A-Za-z0-9_.!~*'()&=+$,;?/-]{1,64}")


class DressKeys(Section):
    """How requests look that go to the carrier."""

    #: The user part of From, "" for the caller's own, or `caller_id`.
    from_user: str = Field(default="", max_length=64)
    #: The number that is shown for every caller, "" for their own.
    caller_id: str = Field(default="", max_length=64)
    #: How the carrier is told who calls: P-Asserted-Identity, Remote-Party-ID, both, or by From alone.
    send_identity: Literal["none", "pai", "rpid", "both"] = "none"

    @field_validator("from_user", "caller_id")
    @classmethod
    def _shown(cls, value: str) -> str:
        if value and not _NUMBER.fullmatch(value):
            raise ValueError('a number or a name such as "+4930123456" is wanted, without spaces and without a domain')
        return value
