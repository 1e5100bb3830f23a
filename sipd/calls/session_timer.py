"""Session timers as a proxy keeps them (RFC 4028 s8): calls whose BYE was lost end by themselves. Pure."""

from __future__ import annotations

from typing import Final

from sipd.message.errors import Reject
from sipd.message.message import Request, Response
from sipd.message.values import delta_seconds

#: s5: no interval is shorter, and what a request without Min-SE agrees to (seconds).
LEAST: Final = 90
#: The methods that start a session timer anew (s3, s8).
REFRESHES: Final = frozenset({"INVITE", "UPDATE"})


def offer(request: Request, wanted: int, least: int) -> int:
    """s8.1: sees to it that an INVITE or UPDATE asks for a session timer, and changes it for that.

    `wanted` seconds are asked for where the sender supports timers and asks for none itself, 0 for not at all; `least`
    is the shortest interval let through. Returns the interval that the sender can be told when whoever answers knows
    no timers, 0 when there is none. Raises Reject (422).
    """
    first = request.first
    supported = "supported" in first and _knows_timers(request, first["supported"])
    asked = first.get("session-expires")
    if asked is None:
        if not supported or not wanted:
            return 0
        interval = max(wanted, _seconds(first.get("min-se", "")))
        request.set("session-expires", str(interval))
        return interval
    interval = _seconds(asked)
    if not interval:
        return 0
    if supported:
        if interval < least:
            raise Reject(422, "", (("Min-SE", str(least)),))
        return interval
    # whoever knows no timers cannot ask again, so the interval is made long enough instead
    bound = max(least, _seconds(first.get("min-se", "")))
    if interval < bound:
        _, semicolon, params = asked.partition(";")
        request.set("min-se", str(bound))
        request.set("session-expires", f"{bound}{semicolon}{params}")
    return 0


def agreed(response: Response, offered: int) -> int:
    """s8.2: the session interval that a 2xx to a refresh brings (seconds), 0 for none.

    Where whoever answered knows no timers and the sender does, it is told so in the response: it refreshes.
    """
    interval = response.first.get("session-expires")
    if interval is not None:
        return _seconds(interval)
    if not offered:
        return 0
    response.set("session-expires", f"{offered};refresher=uac")
    required = response.values("require")
    if not any(tag.lower() == "timer" for tag in required):
        response.set_values("require", [", ".join([*required, "timer"])])
    return offered


def _knows_timers(request: Request, supported: str) -> bool:
    """Whether the option tag stands in Supported; `supported` is its first line."""
    if "timer" not in supported.lower() and not (request.repeated is None or "supported" in request.repeated):
        return False
    return any(tag.lower() == "timer" for tag in request.values("supported"))


def _seconds(value: str) -> int:
    """The interval in a Session-Expires or Min-SE value, LEAST at least; 0 when there is none to be read."""
    seconds = delta_seconds(value.partition(";")[0].strip(" \t\r\n"))
    return max(LEAST, seconds) if seconds else 0
