"""The command of sipctl about messages that wait: `messages`, in chan_sip's words too."""

from __future__ import annotations

import time
from typing import Any

import click
from rich.table import Table

from sipd.admin.words import age, complete_names, group, rows, view, watched


def add_to(main: click.Group, command: type[click.Command]) -> None:
    """Enters it into sipctl; `command` is the class of its commands."""

    def draw(result: Any) -> Table:
        return rows(("id", "to", "from", "received", "bytes", "type", "state"), [
            (row["id"], row["to"], row["from"], _time(row["received"]), row["size"], row["type"],
             f"{row['state']}: {row['reason']}" if row["reason"] else f"{row['state']}, {age(row['expires'])} left")
            for row in result])

    def messages(place: Any, name: str, remove: str, watch: bool, every: float) -> None:
        """Lists the messages that wait for somebody to register, for all or for the user NAME, and those that were not
        delivered of late."""
        if not remove:
            view(place, watch, every, "messages", draw, name=name)
            return
        if remove != "all" and not (remove.isascii() and remove.isdigit()):
            raise click.UsageError(f"--remove {remove}: the id of a message, or all")
        if remove == "all" and not name:
            raise click.UsageError("--remove all: of whom? sipctl messages NAME --remove all")
        result = place.ask("messages remove", **({"name": name} if remove == "all" else {"id": int(remove)}))
        place.show(result, f"{result['removed']} removed")

    made = click.command("messages", cls=command)(click.argument("name", default="", shell_complete=complete_names)(
        click.option("--remove", metavar="ID", default="", help="Take the message ID away; all: every one of NAME.")(
            click.pass_obj(watched(messages)))))
    main.add_command(made)
    group(group(main, "sip", "The words of chan_sip."), "show", "Shows things.").add_command(made, "messages")


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
