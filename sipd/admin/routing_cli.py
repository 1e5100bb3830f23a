"""The commands of sipctl about where calls go: routes, route test, groups, forwards, forward, dnd."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table

from sipd.admin.routing_commands import CAUSES
from sipd.admin.words import complete_names, group, plain, rows


def add_to(main: click.Group, command: type[click.Command]) -> None:
    """Enters these commands into sipctl; `command` is the class of its commands."""

    def wishes(found: list[dict[str, Any]]) -> Table:
        return rows(("who", "do not disturb", *CAUSES, "rings for"), [
            (one["aor"], "on" if one["dnd"] else "", *(_wish(one[cause]) for cause in CAUSES),
             f"{one['no_answer_after']:g} s" if one["no_answer"]["to"] else "") for one in found])

    @main.command("routes", cls=command)
    @click.pass_obj
    def routes(place: Any) -> None:
        """Lists the routes in the order in which they are asked, and the numbers behind them."""
        result = place.ask("routes")
        if not place.as_json and result["script"]:
            click.echo(f"asked first: {result['script']}")
        place.show(result, rows(("", "name", "match", "only", "rewrite", "to"), [
            *((one["place"], one["name"], ", ".join(one["match"]), _only(one), one["rewrite"], _to(one))
              for one in result["routes"]),
            *(("", "", one["number"], "", "", " and ".join(one["to"])) for one in result["numbers"])]))

    @main.command("groups", cls=command)
    @click.pass_obj
    def groups(place: Any) -> None:
        """Lists the groups, and which of their members would ring now."""
        result = place.ask("groups")
        place.show(result, rows(("group", "strategy", "timeout", "member", "state"), [
            (one["name"] if not number else "", one["strategy"] if not number else "",
             f"{one['timeout']:g} s" if not number else "", member["name"], member["state"])
            for one in result for number, member in enumerate(one["members"])]))

    @main.command("forwards", cls=command)
    @click.argument("name", default="", shell_complete=complete_names)
    @click.pass_obj
    def forwards(place: Any, name: str) -> None:
        """Shows who is forwarded where, or what the user or group NAME wants. What was set at run time has a star."""
        result = place.ask("forwards", name=name)
        place.show(result, wishes(result))

    @main.command("forward", cls=command)
    @click.argument("name", shell_complete=complete_names)
    @click.argument("cause", type=click.Choice(CAUSES))
    @click.argument("to", shell_complete=complete_names)
    @click.option("--after", type=float, metavar="SECONDS", help="How long it rings before no_answer.")
    @click.pass_obj
    def forward(place: Any, name: str, cause: str, to: str, after: float | None) -> None:
        """Forwards calls of the user or group NAME to TO: a user, a group or a number.

        TO off: to nobody, whatever the configuration says. TO file: what the configuration says counts again.
        """
        more = {} if after is None else {"after": after}
        result = place.ask("forward", name=name, cause=cause, to=to, **more)
        place.show(result, wishes([result]))

    @main.command("dnd", cls=command)
    @click.argument("name", shell_complete=complete_names)
    @click.argument("on", type=click.Choice(["on", "off"]))
    @click.pass_obj
    def dnd(place: Any, name: str, on: str) -> None:
        """Answers calls for NAME busy without ringing, or no more."""
        result = place.ask("dnd", name=name, on=on == "on")
        place.show(result, f"{result['aor']}: do not disturb {on}")

    @group(main, "route", "What would happen to a call.").command("test", cls=command)
    @click.argument("from_", metavar="FROM", shell_complete=complete_names)
    @click.argument("to", shell_complete=complete_names)
    @click.option("--peer", metavar="NAME", default="", help="The user or peer who sends it; else who is called FROM.")
    @click.option("--at", metavar="TIME", default="", help='Local time, such as "2026-12-24 18:30"; else now.')
    @click.pass_obj
    def test(place: Any, from_: str, to: str, peer: str, at: str) -> None:
        """Shows step by step what would happen to a call of FROM to TO. Nobody is called."""
        result = place.ask("route test", **{"from": from_, "to": to, "peer": peer, "at": at})
        place.show(result, "\n".join("  " * step["depth"] + plain(step["text"]) for step in result["steps"]))


def _wish(wish: dict[str, str]) -> str:
    return (wish["to"] or ("off" if wish["origin"] else "")) + (" *" if wish["origin"] == "run time" else "")


def _only(route: dict[str, Any]) -> str:
    """The conditions besides the number."""
    found = [f"{key} {', '.join(route[key])}" for key in ("caller", "peer", "hours") if route[key]]
    return "; ".join(found)


def _to(route: dict[str, Any]) -> str:
    if route["reject"]:
        return f"{route['reject']} {route['reason']}".rstrip()
    return ", then ".join(route["to"]) or "asked again"
