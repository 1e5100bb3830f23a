"""Calls as rows for the control API. Pure."""

from __future__ import annotations

from typing import Any

from sipd.calls.call import STATES, Call, CallDialog, address_of
from sipd.calls.cdr import answering_peer, result, stamp
from sipd.calls.history import tell
from sipd.calls.table import Calls

Row = dict[str, Any]


def brief(call: Call, now: float) -> Row:
    """A call in a list. `now` is the clock's; `seconds` is how long it has been in its state."""
    over = call.was_ended
    return {
        "call_id": call.call_id, "state": STATES[call.state], "caller": call.caller or address_of(call.from_),
        "called": call.called or call.uri, "answered_by": answering_peer(call) or call.answerer,
        "source": call.source, "start": stamp(call.wall),
        "seconds": round((call.ended if over else now) - (call.answered if call.was_answered else call.started)),
        "branches": call.branches, "ringing": [target.uri for target in call.ringing],
        "result": result(call) if over else "", "status": call.status,
    }


def whole(call: Call, now: float) -> Row:
    """Everything about a call."""
    return {
        **brief(call, now), "number": call.number, "from_tag": call.tag, "from": call.from_, "to": call.to,
        "uri": call.uri, "contact": call.contact, "user_agent": call.user_agent, "cseq": call.cseq,
        "answer": stamp(call.at(call.answered)) if call.was_answered else None,
        "end": stamp(call.at(call.ended)) if call.was_ended else None,
        "reason": call.ending() if call.was_ended else "", "ended_by": call.by,
        "peers": sorted(call.parties()), "steps": len(call.steps) + call.left_out,
        "dialogs": [_dialog(call, dialog, now) for dialog in call.dialogs],
    }


def _dialog(call: Call, dialog: CallDialog, now: float) -> Row:
    target = dialog.target
    return {
        "to_tag": dialog.tag, "state": STATES[dialog.state],
        "target": target.uri if target is not None else "", "peer": dialog.peer.removesuffix(call.calls.at_home),
        "contact": dialog.contact, "session_interval": dialog.interval, "refresher": dialog.refresher,
        "expires": max(0, round(dialog.expires - now)) if dialog.interval else 0,
    }


def story(call: Call) -> Row:
    """What was decided and why, step by step; `at` in seconds since the epoch."""
    return {"call_id": call.call_id, "state": STATES[call.state], "left_out": call.left_out,
            "steps": [{"at": round(at, 3), "after": round(at - call.wall, 3), "text": text} for at, text in tell(call)]}


def peers(calls: Calls) -> list[tuple[str, int, int]]:
    """Each peer that is part of a call: of how many, and how many of them ring only."""
    found = []
    for name, of in calls.peers.items():
        found.append((name, len(of), sum(1 for call in of if not call.was_answered)))
    return found
