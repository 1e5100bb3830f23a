"""What the commands of sipctl share: groups that know what was meant, tables, views that stay up to date, names to
complete."""

from __future__ import annotations

import difflib
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem
from rich.console import Console
from rich.live import Live
from rich.table import Table

from sipd.admin.api import Refused
from sipd.admin.client import NoServer, ask
from sipd.config import ConfigError, Overrides, load
from sipd.state import SOCKET

#: Seconds between two looks of --watch, unless --every says otherwise.
EVERY = 2.0
#: Columns of a terminal that is none.
_WIDE = 1000


class Group(click.Group):
    """A group that says which of its commands may have been meant."""

    group_class = type

    def resolve_command(self, context: click.Context, args: list[str]) -> Any:
        """The command called, as click finds it."""
        try:
            return super().resolve_command(context, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.list_commands(context), 3)
            if not near:
                raise
            words = " ".join(context.command_path.split())
            raise click.UsageError(f"there is no {words} {args[0]}; " + " or ".join(near) + " is meant?", error.ctx)


def group(parent: click.Group, name: str, text: str) -> click.Group:
    """The group of that name in another, made when it is missing."""
    present = parent.commands.get(name)
    if isinstance(present, click.Group):
        return present
    made = Group(name, help=text)
    parent.add_command(made)
    return made


def watched(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command --watch and --every; it gets `every`, in seconds, 0 for one look."""
    function = click.option("--every", type=click.FloatRange(0.1, 3600), metavar="SECONDS", default=EVERY,
                            show_default=True, help="Seconds between two looks of --watch.")(function)
    return click.option("--watch", "-w", is_flag=True, help="Show it again and again, until ^C.")(function)


def watched_both(main: click.Group, command: type[click.Command]) -> Callable[..., None]:
    """Enters commands that show something under two names: the short one, and chan_sip's below `sip show`."""
    show = group(group(main, "sip", "The words of chan_sip."), "show", "Shows things.")

    def both(name: str, old: str, function: Callable[..., Any], *params: Callable[[Any], Any]) -> None:
        for param in params:
            function = param(function)
        made = click.command(name, cls=command)(click.pass_obj(watched(function)))
        main.add_command(made)
        show.add_command(made, old)

    return both


def plain(text: str) -> str:
    """A text of the network for a terminal: without control characters."""
    return "".join(mark if mark.isprintable() else "?" for mark in text)


def rows(headings: tuple[str, ...], lines: list[tuple[Any, ...]]) -> Table:
    """A plain table of headings and lines."""
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for line in lines:
        table.add_row(*(plain(str(cell)) for cell in line))
    return table


def pairs(values: Sequence[tuple[str, Any]]) -> Table:
    """What something is called and what it is, a line each; what says nothing is left out."""
    table = rows(("", ""), [pair for pair in values if pair[1] != "" or pair[0] == ""])
    table.show_header = False
    return table


def many(number: int, what: str) -> str:
    """`1 call`, `2 calls`."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def age(seconds: int) -> str:
    """Seconds as people say them: 45 s, 12 min, 3 h, 2 d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def console() -> Console:
    """Where tables go: as wide as the terminal, and as wide as they like where programs read them."""
    made = Console(highlight=False, markup=False, emoji=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _WIDE
    return made


def view(place: Any, watch: bool, every: float, command: str, draw: Callable[[Any], Any], **arguments: Any) -> None:
    """Asks the server and shows what it says: once, or until ^C; in JSON one line for each look then."""
    if not watch:
        result = place.ask(command, **arguments)
        place.show(result, draw(result))
        return
    screen = console()
    try:
        if place.as_json:
            while True:
                click.echo(json.dumps(place.ask(command, **arguments)))
                time.sleep(every)
        with Live(console=screen, auto_refresh=False, screen=screen.is_terminal) as live:
            while True:
                live.update(draw(place.ask(command, **arguments)), refresh=True)
                time.sleep(every)
    except KeyboardInterrupt:
        return


def complete_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The peers whose names begin so, from the running server; none when there is no server."""
    given = context.find_root().params
    try:
        config = load(given.get("config"), Overrides(state_dir=given.get("state_dir") or ""))
        peers = ask(config.path(SOCKET), "peers")["peers"]
    except (ConfigError, NoServer, Refused):
        return []
    return [CompletionItem(peer["name"], help=peer["display_name"]) for peer in peers
            if peer["name"].startswith(incomplete)]
