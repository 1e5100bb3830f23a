"""What the property tests share: how many examples are tried, and texts that are made to be misread."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

#: Put above `@given`: the same examples each time, more of them when PROPERTY_EXAMPLES says so, and then new ones.
check = settings(
    deadline=None, database=None, derandomize="PROPERTY_EXAMPLES" not in os.environ,
    max_examples=int(os.environ.get("PROPERTY_EXAMPLES", "150")), suppress_health_check=list(HealthCheck))

#: Pieces of SIP, put together wrongly.
_PIECES = st.sampled_from([
    "sip:", "sips:", "tel:", "a", "Z9", "@", ":", ";", "=", ",", "?", "&", "<", ">", '"', "\\", '\\"', "%", "%41", "%00",
    "[", "]", "::1", "[::1]", "192.0.2.1", "5060", "65536", " ", "\t", "\r\n ", "\r\n\t", "\r", "\n", "\x00", "\x7f",
    "\u00fc", "\u0663", "\udcff", "tag=", ";tag=x", ";lr", "branch=z9hG4bK", "SIP/2.0/", "UDP ", "TCP", "*", "-1", "0.5",
    "1.000", "4294967296", "--", "/", "'", "~", "(", ")", "{", "|",
])
hostile_text = st.lists(_PIECES, max_size=12).map("".join) | st.text(max_size=20)
