"""The commands of sipctl about calls: `calls`, `call`, `inuse`, `history`, and chan_sip's words for them."""

from __future__ import annotations

import time
from typing import Any

import click
from rich.console import Group as Lines
from rich.text import Text

from sipd.admin.words import complete_names, many, pairs, plain, rows, view, watched_both


def add_to(main: click.Group, command: type[click.Command]) -> None:
    """Enters these commands into sipctl; `command` is the class of its commands."""
    both = watched_both(main, command)

    def calls(place: Any, peer: str, over: bool, watch: bool, every: float) -> None:
        """Lists the calls that are up or ring, or with --over those that were lately."""
        def draw(result: Any) -> Lines:
            table = rows(("caller", "called", "answered by", "state", "for", "from", "Call-ID"), [
                (one["caller"], one["called"], one["answered_by"] or "-", one["result"] or one["state"],
                 _clock(one["seconds"]), one["source"], one["call_id"]) for one in result["calls"]])
            return Lines(table, Text(f"{many(result['all'], 'call')} now" + (
                "; not all are shown" if result["more"] else "")))

        view(place, watch, every, "calls", draw, peer=peer, over="yes" if over else "")

    both("calls", "channels", calls,
         click.option("--over", is_flag=True, help="Those that are over and still kept, newest first."),
         click.argument("peer", default="", shell_complete=complete_names))

    def call(place: Any, call_id: str, watch: bool, every: float) -> None:
        """Shows everything about the call CALL-ID; its beginning is enough where it is the only one that begins so."""
        def draw(one: Any) -> Lines:
            values = [
                ("Call-ID", one["call_id"]), ("state", one["state"]), ("caller", one["caller"]), ("from", one["from"]),
                ("contact", one["contact"]), ("came from", one["source"]), ("user agent", one["user_agent"]),
                ("called", one["called"]), ("Request-URI", one["uri"]),
                ("sent to", many(one["branches"], "place")),
                ("ringing", ", ".join(one["ringing"])), ("answered by", one["answered_by"]),
                ("peers", ", ".join(one["peers"])), ("start", one["start"]), ("answer", one["answer"] or ""),
                ("end", one["end"] or ""), ("for", _clock(one["seconds"])), ("result", one["result"]),
                ("why", one["reason"])]
            for dialog in one["dialogs"]:
                values += [("", ""), ("dialog", dialog["state"]), ("with", dialog["peer"] or dialog["target"]),
                          ("at", dialog["contact"]), ("to tag", dialog["to_tag"])]
                if dialog["session_interval"]:
                    values.append(("session timer", f"{dialog['session_interval']} s, refreshed by the "
                                                   f"{dialog['refresher']}, {dialog['expires']} s left"))
            return Lines(pairs(values))

        view(place, watch, every, "call", draw, call_id=call_id)

    both("call", "channel", call, click.argument("call_id", metavar="CALL-ID"))

    def inuse(place: Any, peer: str, watch: bool, every: float) -> None:
        """Lists of how many calls each peer is part, and how many it may have."""
        view(place, watch, every, "inuse", lambda result: rows(("peer", "in use", "ringing", "limit", "busy level"), [
            (one["peer"], one["in_use"], one["ringing"], one["limit"] or "-", one["busy_level"] or "-")
            for one in result]), peer=peer)

    both("inuse", "inuse", inuse, click.argument("peer", default="", shell_complete=complete_names))

    def history(place: Any, what: str, watch: bool, every: float) -> None:
        """Tells a call, by its Call-ID or the beginning of it: what was decided, and why. Or a user or a peer, by name:
        what happened lately."""
        def draw(result: Any) -> Text:
            told = []
            for number, step in enumerate(result["steps"]):
                day = "%H:%M:%S" if "call_id" in result else "%Y-%m-%d %H:%M:%S"
                stamp = time.strftime(day, time.localtime(step["at"])) + f".{int(step['at'] % 1 * 1000):03d}"
                if number and "call_id" in result:
                    stamp = format(step["after"], "+.3f") + " s"
                told.append(f"{stamp:>12} {step['text']}")
            if result["left_out"]:
                told.append(f"... and {result['left_out']} steps more, which were not kept")
            return Text("\n".join(map(plain, told)))

        view(place, watch, every, "history", draw, call_id=what)

    both("history", "history", history,
         click.argument("what", metavar="CALL-ID|NAME", shell_complete=complete_names))


def _clock(seconds: int) -> str:
    """Hours, minutes and seconds as a phone shows them."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
