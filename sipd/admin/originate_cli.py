"""The commands of sipctl that begin calls."""

from __future__ import annotations

from typing import Any

import click

from sipd.admin.words import complete_names, plain, rows, view, watched

#: Exit status where the two were not connected.
NOT_CONNECTED = 6

#: What a step is to people.
_SENTENCES = {
    "calling": "{party} is called", "ringing": "{party} rings", "answered": "{party} has answered",
    "referred": "{party} is told to call the other", "refused REFER": "{party} will not be told whom to call",
    "handed over": "{party} has taken it over, and does not tell how it goes", "connected": "connected",
    "failed": "failed",
}


def add_to(main: click.Group, command: type[click.Command]) -> None:
    """Enters these commands into sipctl; `command` is the class of its commands."""

    @main.command("originate", cls=command)
    @click.argument("first", shell_complete=complete_names)
    @click.argument("second", shell_complete=complete_names)
    @click.option("--timeout", type=click.FloatRange(1, 600), metavar="SECONDS", default=None,
                  help="How long each of them may ring; else [originate] timeout.")
    @click.option("--by", type=click.Choice(["auto", "refer", "3pcc"]), default=None,
                  help="How the two are connected; else [originate] by.")
    @click.pass_obj
    def originate(place: Any, first: str, second: str, timeout: float | None, by: str | None) -> None:
        """Rings FIRST and connects it to SECOND, each a user or a number. ^C gives it up.

        Exit status 6: the two were not connected; the last line says who did not answer, or why.
        """
        step: dict[str, Any] = {}
        try:
            for step in place.follow("originate", first=first, second=second, timeout=timeout or 0, by=by or "",
                                     follow=True):
                if "step" in step or place.as_json:
                    place.show(step, _sentence(step) if "step" in step else "")
        except KeyboardInterrupt:
            click.echo("given up", err=True)
        if step.get("step") != "connected":
            raise SystemExit(NOT_CONNECTED)

    @main.command("originations", cls=command)
    @watched
    @click.pass_obj
    def originations(place: Any, watch: bool, every: float) -> None:
        """Lists the calls that were begun here and are not over, or are held here."""
        view(place, watch, every, "originations", lambda result: rows(
            ("call", "first", "second", "state", "by", "since"), [
                (one["number"], one["first"], one["second"], one["state"], one["way"], f"{one['seconds']} s")
                for one in result]))


def _sentence(step: dict[str, Any]) -> str:
    """One step, as a person would tell it; what comes from the network without control characters."""
    text = _SENTENCES.get(step["step"], "{party}: " + step["step"]).format(party=step["party"])
    said = " ".join(str(step[key]) for key in ("status", "reason") if step.get(key))
    if step["step"] == "failed" and step["party"]:
        text = f"failed: {step['party']}"
    if step.get("way"):
        text += f" by {step['way']}"
    text = f"{step['seconds']:6.1f} s  {text}" + (f": {said}" if said else "")
    return plain(text)
