"""What a forwarded call says of where it was: Diversion (RFC 5806) and History-Info (RFC 7044). Pure."""

from __future__ import annotations

from typing import NamedTuple

from sipd.message.address import Address
from sipd.message.errors import MalformedMessage
from sipd.message.message import Request
from sipd.message.uri import uri_of_aor

#: Why somebody is not the one who is called: words of RFC 5806 s5.
BUSY = "user-busy"
NO_ANSWER = "no-answer"
UNAVAILABLE = "unavailable"
UNCONDITIONAL = "unconditional"
DO_NOT_DISTURB = "do-not-disturb"

#: RFC 4458 s3 cause of each, which RFC 8119 takes into History-Info, and the status that stands for it in a Reason.
_CAUSES = {BUSY: 486, NO_ANSWER: 408, UNAVAILABLE: 503, UNCONDITIONAL: 302, DO_NOT_DISTURB: 486}


#: Values of a field that are read; whoever sends more has been forwarded too often anyway.
_MOST = 50


class Diverted(NamedTuple):
    """One step: `who` (an address-of-record) is not asked any more because of `reason`, and `to` is called instead."""

    who: str
    reason: str
    to: str


def before(request: Request) -> int:
    """How often a request was diverted before it came here: the counters that it brings (RFC 5806 s5)."""
    count = 0
    if "diversion" not in request.first:
        return 0
    for value in request.values("diversion")[:_MOST]:
        try:
            counter = Address.parse(value).params.get("counter") or "1"
        except MalformedMessage:
            counter = "1"
        # what is no number was one diversion at least, and nobody can claim fewer
        count += int(counter) if counter.isascii() and counter.isdigit() and 0 < len(counter) < 4 else 1
    return count


def headers(request: Request, steps: list[Diverted]) -> tuple[tuple[str, str], ...]:
    """The fields that a request gets after these steps, the first one first. Each Diversion is to be put above those
    that are there already (RFC 5806 s6.2), History-Info below."""
    if not steps:
        return ()
    found = [("Diversion", f"<{uri_of_aor(step.who)}>;reason={step.reason};counter=1") for step in steps]
    # RFC 7044 s10.3: what was there has its index, ours are below it
    present = request.values("history-info")[:_MOST]
    index = _last_index(present)
    if not index:
        index = "1"
        found.append(("History-Info", f"<{_left(uri_of_aor(steps[0].who), steps[0].reason)}>;index={index}"))
    for place, step in enumerate(steps):
        reached = f"{uri_of_aor(step.to)};cause={_CAUSES[step.reason]}"
        if place + 1 < len(steps):
            reached = _left(reached, steps[place + 1].reason)
        found.append(("History-Info", f"<{reached}>;index={index}.1;mp={index}"))
        index += ".1"
    return tuple(found)


def _left(text: str, reason: str) -> str:
    """RFC 7044 s10.2: why a target was left stands in its URI as an escaped Reason."""
    return text if reason == UNCONDITIONAL else f"{text}?Reason=SIP%3Bcause%3D{_CAUSES[reason]}"


def _last_index(values: list[str]) -> str:
    for value in reversed(values):
        try:
            index = Address.parse(value).params.get("index") or ""
        except MalformedMessage:
            continue
        if index.replace(".", "").isdigit() and index.isascii() and len(index) <= 60:
            return index.strip(".")
    return ""
