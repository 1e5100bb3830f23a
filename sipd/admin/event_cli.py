"""The commands of sipctl about subscriptions, voicemail lamps and words for phones, and chan_sip's words for them."""

from __future__ import annotations

from typing import Any

import click

from sipd.admin.words import complete_names, group, rows, view, watched


def add_to(main: click.Group, command: type[click.Command]) -> None:
    """Enters these commands into sipctl; `command` is the class of its commands."""

    def draw_subscriptions(result: Any) -> Any:
        return rows(("watcher", "package", "watches", "state", "expires", "body", "target"), [
            (row["watcher"], row["package"], row["entity"], row["state"], f"{row['expires']} s", row["kind"],
             row["target"]) for row in result["subscriptions"]])

    def draw_mailboxes(result: Any) -> Any:
        return rows(("mailbox", "lamp", "class", "new", "old", "said by"), [
            (row["mailbox"], "on" if row["waiting"] else "off", kind, counts[0], counts[1], ", ".join(row["by"]))
            for row in result for kind, counts in (row["counts"] or {"": (0, 0)}).items()])

    @main.command("subscriptions", cls=command)
    @click.argument("name", default="", shell_complete=complete_names)
    @watched
    @click.pass_obj
    def subscriptions(place: Any, name: str, watch: bool, every: float) -> None:
        """Shows who watches whom: everybody, or the user NAME as watcher and as the one who is watched."""
        view(place, watch, every, "subscriptions", draw_subscriptions, name=name)

    @main.command("mwi", cls=command)
    @click.argument("name", default="", shell_complete=complete_names)
    @click.argument("new", type=click.IntRange(0), required=False)
    @click.argument("old", type=click.IntRange(0), required=False)
    @click.pass_obj
    def mwi(place: Any, name: str, new: int | None, old: int | None) -> None:
        """Shows how many messages wait, for everybody or for the user NAME; with NEW and OLD it says so many voice
        messages wait there from now on."""
        if new is None:
            result = place.ask("mwi", name=name)
        elif old is None:
            raise click.UsageError("NEW and OLD: both numbers are wanted")
        else:
            result = [place.ask("mwi set", name=name, new=new, old=old)]
        place.show(result, draw_mailboxes(result))

    @main.command("notify", cls=command)
    @click.argument("template")
    @click.argument("name", shell_complete=complete_names)
    @click.pass_obj
    def notify(place: Any, template: str, name: str) -> None:
        """Sends a NOTIFY by TEMPLATE, such as check-sync or reboot, to every phone of the user NAME."""
        result = place.ask("notify", template=template, name=name)
        place.show(result, rows(("phone", "answered"), [
            (row["contact"], f"{row['status'] or 'nothing:'} {row['reason']}") for row in result]))

    sip = group(main, "sip", "The words of chan_sip.")
    sip.add_command(notify)
    show = group(sip, "show", "Shows things.")
    show.add_command(subscriptions)

    @show.command("mwi", cls=command)
    @click.pass_obj
    def sip_show_mwi(place: Any) -> None:
        """Shows how many messages wait for whom."""
        result = place.ask("mwi")
        place.show(result, draw_mailboxes(result))
