"""The commands of sipctl about carriers and about who answers: registry, qualify, and chan_sip's words for them."""

from __future__ import annotations

from typing import Any

import click

from sipd.admin.words import group, rows

#: The states of those whose round-trip time says something.
_ANSWERS = ("reachable", "lagged")


def add_to(main: click.Group, command: type[click.Command]) -> None:
    """Enters these commands into sipctl; `command` is the class of its commands."""

    def show_registry(place: Any, name: str) -> None:
        result = place.ask("registry", name=name)
        place.show(result, rows(("peer", "account", "state", "server", "expires", "next", "user", "said"), [
            (row["name"], row["account"], row["state"], row["server"], _seconds(row["expires"]), _seconds(row["next"]),
             row["user"], row["reason"]) for row in result]))

    def qualify(place: Any, name: str) -> None:
        result = place.ask("qualify", name=name)
        place.show(result, rows(("peer", "contact", "state", "round trip", "unanswered", "answered from"), [
            (row["peer"], row["contact"], row["state"], f"{row['rtt']:g} ms" if row["state"] in _ANSWERS else "",
             row["missed"], row["server"]) for row in result]))

    @main.command("registry", cls=command)
    @click.argument("name", default="")
    @click.option("--again", is_flag=True, help="Register now, whatever is waited for.")
    @click.pass_obj
    def registry(place: Any, name: str, again: bool) -> None:
        """Shows our registrations at carriers: all, or that of the peer NAME."""
        if again:
            if not name:
                raise click.UsageError("--again: which peer? sipctl registry --again NAME")
            result = place.ask("registry again", name=name)
            place.show(result, f"{name} is being registered; sipctl registry {name} shows what comes of it")
            return
        show_registry(place, name)

    @main.command("qualify", cls=command)
    @click.argument("name", default="")
    @click.pass_obj
    def qualified(place: Any, name: str) -> None:
        """Asks the phones of the user NAME, or the peer NAME, by OPTIONS whether they answer; without NAME it shows
        everybody who is asked regularly."""
        qualify(place, name)

    sip = group(main, "sip", "The words of chan_sip.")

    @group(sip, "show", "Shows things.").command("registry", cls=command)
    @click.pass_obj
    def sip_show_registry(place: Any) -> None:
        """Shows our registrations at carriers."""
        show_registry(place, "")

    @group(sip, "qualify", "Asks who answers.").command("peer", cls=command)
    @click.argument("name")
    @click.pass_obj
    def sip_qualify_peer(place: Any, name: str) -> None:
        """Asks the phones of the user NAME, or the peer NAME, whether they answer."""
        qualify(place, name)


def _seconds(number: int) -> str:
    return f"{number} s" if number else ""
