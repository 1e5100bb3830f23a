"""A call told as a person would tell it: the steps of its history in sentences. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from sipd.calls.call import Call, address_of

#: Every kind of step, with the sentence that says it; {0}, {1}... are the values noted with it. A test holds that each
#: kind noted in the code stands here and that each kind here is noted somewhere.
STEPS: Final[dict[str, str]] = {
    "calls": "{0} calls {1} (INVITE from {2})",
    "again": "the INVITE came once more, by another path or through ourselves, to {0}",
    "resumed": "the server was started again while the call was up; what went before is forgotten",
    "inbound": "what {0} calls as {1} is for {2}",
    "busy": "{0} is busy: it has {1} calls, as many as it may",
    "sent": "INVITE to {0} by {1} to {2} port {3}",
    "rings": "{0} says {1} {2}",
    "answered": "{0} answers: {1} {2}",
    "refused": "{0} refuses: {1} {2}",
    "failed": "{0} is given up, as if it had said {1}{2}",
    "hop-failed": "{0} is left: {1}; where there is another way, that is tried",
    "patience": "nobody took it in time; whoever rings is cancelled, and the next ones are tried",
    "picked-up": "{0} picks it up: {1}",
    "picks-up": "this picks up the call {0}",
    "cancel": "CANCEL to {0}",
    "routing": "{0}",
    "asked": "{0} wants credentials ({1}): {2}",
    "cancelled": "the caller gives up{0}",
    "bye": "BYE from the {0}",
    "refresh": "{0} from the {1}",
    "timer": "the session lasts {0} s, and is refreshed by the {1}",
    "gone": "{0} came to {1}: that side knows the call no more",
    "expired": "the session interval of {0} s is over, and the {1} did not refresh it",
    "our-bye": "BYE from the server to the {0}",
    "no-bye": "no BYE to the {0}: it is not known where that is",
    "bye-answered": "the {0} answers the server's BYE: {1} {2}",
    "end": "the call is over: {0}",
}


def tell(call: Call) -> Iterator[tuple[float, str]]:
    """Each step: seconds since the epoch, and its sentence."""
    for step in call.steps:
        yield call.at(float(step[0])), sentence(call, str(step[1]), step[2:])  # type: ignore[arg-type]


def sentence(call: Call, kind: str, values: tuple[Any, ...]) -> str:
    """A step in words."""
    dress = _DRESS.get(kind)
    if dress is not None:
        values = dress(call, values)
    text = STEPS.get(kind)
    if text is None:
        return " ".join([kind, *map(str, values)])
    try:
        return text.format(*values)
    except (IndexError, KeyError, ValueError):
        return " ".join([kind, *map(str, values)])


def _calls(call: Call, values: tuple[Any, ...]) -> tuple[Any, ...]:
    caller, uri, source = values
    return caller or address_of(call.from_), call.called or uri, source


def _failed(call: Call, values: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*values[:2], f": {values[2]}" if values[2] else "")


def _cancelled(call: Call, values: tuple[Any, ...]) -> tuple[Any, ...]:
    return (f": {values[0]}" if values[0] else "",)


def _end(call: Call, values: tuple[Any, ...]) -> tuple[Any, ...]:
    return (call.ending(),)


_DRESS: Final[dict[str, Callable[[Call, tuple[Any, ...]], tuple[Any, ...]]]] = {
    "calls": _calls, "failed": _failed, "cancelled": _cancelled, "end": _end}
