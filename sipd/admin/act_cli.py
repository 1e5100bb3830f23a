"""The commands of sipctl that do something to a running server: reload, unregister, debug; and shell completion."""

from __future__ import annotations

import time
from typing import Any

import click
from click.shell_completion import get_completion_class

from sipd.admin.words import complete_names, group

#: Starts a line for a message in the live view.
_ARROWS = {"in": "<---", "out": "--->"}


def add_to(main: click.Group, command: type[click.Command]) -> None:
    """Enters these commands into sipctl; `command` is the class of its commands."""
    sip = group(main, "sip", "The words of chan_sip.")

    @main.command("reload", cls=command)
    @click.option("--check", is_flag=True, help="Only say what would change.")
    @click.pass_obj
    def reload(place: Any, check: bool) -> None:
        """Reads the configuration again: whole and at once, or not at all. Calls and registrations go on.

        Exit status 4: the file is wrong; 5: it needs a restart. Nothing has changed then.
        """
        result = place.ask("reload", check=check)
        nothing = "nothing is different" if result["file"] else "there is no configuration file, only certificates"
        words = result["changes"] or [nothing]
        place.show(result, "\n".join(f"would change: {one}" if check and result["changes"] else one for one in words))

    sip.add_command(reload)

    @main.command("unregister", cls=command)
    @click.argument("name", shell_complete=complete_names)
    @click.argument("contact", default="")
    @click.pass_obj
    def unregister(place: Any, name: str, contact: str) -> None:
        """Takes the registrations of the peer NAME away, or the one at CONTACT. The phone may register again."""
        result = place.ask("unregister", name=name, contact=contact)
        place.show(result, "\n".join(f"{result['aor']} is no longer registered at {one}" for one in result["contacts"]))

    sip.add_command(unregister)

    def live(place: Any, **wanted: str) -> None:
        try:
            for shown in place.follow("debug", **wanted):
                place.show(shown, _text(shown) if "text" in shown else _begun(shown))
        except KeyboardInterrupt:
            return

    def off(place: Any) -> None:
        result = place.ask("debug off")
        place.show(result, f"{result['ended']} live views ended")

    @main.command("debug", cls=command)
    @click.option("--peer", metavar="NAME", default="", shell_complete=complete_names, help="Only of this peer.")
    @click.option("--ip", metavar="ADDRESS[:PORT]", default="", help="Only of this address.")
    @click.option("--off", "end", is_flag=True, help="End every live view, whoever has it.")
    @click.pass_obj
    def debug(place: Any, peer: str, ip: str, end: bool) -> None:
        """Shows the messages that come in and go out, as they do, until ^C."""
        if end:
            off(place)
        else:
            live(place, peer=peer, ip=ip)

    words = group(group(sip, "set", "Sets things."), "debug", "Shows messages until ^C.")

    @words.command("on", cls=command)
    @click.pass_obj
    def debug_on(place: Any) -> None:
        """Shows every message until ^C."""
        live(place)

    @words.command("off", cls=command)
    @click.pass_obj
    def debug_off(place: Any) -> None:
        """Ends every live view, whoever has it."""
        off(place)

    @words.command("peer", cls=command)
    @click.argument("name", shell_complete=complete_names)
    @click.pass_obj
    def debug_peer(place: Any, name: str) -> None:
        """Shows the messages of the peer NAME until ^C."""
        live(place, peer=name)

    @words.command("ip", cls=command)
    @click.argument("address")
    @click.pass_obj
    def debug_ip(place: Any, address: str) -> None:
        """Shows the messages from and to ADDRESS, or ADDRESS:PORT, until ^C."""
        live(place, ip=address)

    @main.command("completion")
    @click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
    def completion(shell: str) -> None:
        """Prints what makes SHELL complete the words of sipctl and the names of peers.

        eval "$(sipctl completion bash)"
        """
        made = get_completion_class(shell)
        assert made is not None
        click.echo(made(main, {}, "sipctl", "_SIPCTL_COMPLETE").source())


def _begun(about: dict[str, Any]) -> str:
    whose = about["peer"] or about["ip"] or "everybody"
    return f"messages of {whose}; ^C ends this"


def _text(shown: dict[str, Any]) -> str:
    """One message, with a line in front; what could move the cursor is shown as an escape."""
    moment = time.strftime("%H:%M:%S", time.localtime(shown["time"])) + f".{int(shown['time'] * 1000) % 1000:03d}"
    lines = [f"{_ARROWS[shown['direction']]} {moment} {shown['transport']} {shown['peer']} at {shown['listener']}"]
    if shown["lost"]:
        lines.insert(0, f"({shown['lost']} messages were left out: more came than could be read)")
    lines += [_printable(line.rstrip("\r")) for line in shown["text"].rstrip("\r\n").split("\n")]
    return "\n".join(lines) + "\n"


def _printable(line: str) -> str:
    return "".join(one if one.isprintable() or one == "\t" else one.encode("unicode_escape").decode("ascii")
                   for one in line)
