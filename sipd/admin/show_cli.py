"""The commands of sipctl that show things, in short and in chan_sip's words: `peers` and `sip show peers`."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from sipd.admin.words import age, complete_names, many, pairs, rows, view, watched_both
from sipd.message.hop import join_host_port


def add_to(main: click.Group, command: type[click.Command]) -> None:
    """Enters these commands into sipctl; `command` is the class of its commands."""
    both = watched_both(main, command)

    def peers(place: Any, match: str, watch: bool, every: float) -> None:
        """Lists every user and every carrier: where it is, by what, and for how long it is registered."""
        headings = ("peer", "kind", "address", "by", "contacts", "expires", "answers", "kept in", "user agent", "name")
        view(place, watch, every, "peers", lambda result: Lines(
            rows(headings, [
                (one["name"], one["kind"], _place(one), one["transport"] or "-", one["contacts"],
                 _seconds(one["expires"]), one["state"] or "-", one["kept"], one["user_agent"], one["display_name"])
                for one in result["peers"]]),
            Text(f"{many(result['all'], 'peer')}, {result['registered']} registered" + (
                f"; the first {len(result['peers'])} are shown" if len(result["peers"]) < result["all"] else ""))),
            match=match)

    both("peers", "peers", peers, click.option(
        "--match", metavar="TEXT", default="", help="Only names with TEXT in them, or like it where it has * or ?."))

    def peer(place: Any, name: str, watch: bool, every: float) -> None:
        """Shows everything about the peer NAME: a user, whoever is registered under that name, or a carrier; what
        holds for it, and where each value comes from."""
        view(place, watch, every, "peer", lambda result: Lines(
            *(_carrier(result) if result["kind"] == "carrier" else _user(result)), "",
            rows(("option", "value", "from"), [
                (one["key"], one["value"], one["source"]) for one in result["policy"]])), name=name)

    both("peer", "peer", peer, click.argument("name", shell_complete=complete_names))

    def domains(place: Any, watch: bool, every: float) -> None:
        """Lists the domains served here."""
        view(place, watch, every, "domains", lambda result: rows(("domain", "what it is", "users", "registered"), [
            (one["domain"], one["kind"], one["users"], one["registered"]) for one in result]))

    both("domains", "domains", domains)

    def settings(place: Any, section: str, watch: bool, every: float) -> None:
        """Shows the configuration that is in force, all or one SECTION, and where each value comes from."""
        def draw(result: Any) -> Table:
            return rows(("section", "option", "value", "from"), [
                (one["section"], one["key"], one["value"], one["source"]) for one in result
                if section in ("", one["section"])])

        view(place, watch, every, "settings", draw)

    both("settings", "settings", settings, click.argument("section", default=""))

    def connections(place: Any, watch: bool, every: float) -> None:
        """Lists the TCP and TLS connections."""
        view(place, watch, every, "connections", lambda result: rows(
            ("address", "by", "listener", "opened by", "state", "users", "open", "silent", "waiting"), [
                (_place(one), one["transport"], one["listener"], one["opened_by"], one["state"],
                 ", ".join(one["users"]), _seconds(one["open"]), _seconds(one["silent"]), f"{one['waiting']} B")
                for one in result["connections"]]))

    both("connections", "tcp", connections)

    def timers(place: Any, watch: bool, every: float) -> None:
        """Lists what the server waits for."""
        view(place, watch, every, "timers", lambda result: rows(("what", "how many", "first in", "last in"), [
            (one["what"], one["count"], f"{one['next']:g} s", f"{one['last']:g} s") for one in result]))

    both("timers", "sched", timers)

    def objects(place: Any, watch: bool, every: float) -> None:
        """Lists every table of the server: its fill, its bound, and how many entries were turned away. One that forgets
        loses its oldest entries instead."""
        headings = ("table", "entries", "bound", "full to", "turned away")
        view(place, watch, every, "objects", lambda result: rows(headings, [
            (one["name"], one["size"], one["limit"], f"{one['size'] / max(1, one['limit']):.0%}",
             "forgets" if one["cache"] else one["refused"]) for one in result]))

    both("objects", "objects", objects)


def _user(result: dict[str, Any]) -> list[Table]:
    """A user and each contact."""
    return [
        pairs((
            ("peer", result["aor"]), ("name", result["display_name"]), ("kept in", result["kept"]),
            ("passwords for", ", ".join(result["algorithms"])), ("may use only", ", ".join(result["only"])),
            ("registered", f"at {many(len(result['bindings']), 'contact')}" if result["bindings"] else "no"))),
        *(pairs((
            ("", ""), ("contact", one["contact"]), ("came from", one["source"]),
            ("behind NAT", "yes" if one["nat"] else ""),
            ("to", one["listener"]), ("connection", one["flow"] if one["flow"] != "none" else ""),
            ("user agent", one["user_agent"]), ("registered for", _seconds(one["registered"])),
            ("expires in", _seconds(one["expires"])), ("q", f"{one['q']:g}"), ("path", ", ".join(one["path"])),
            ("instance", one["instance"]), ("reg-id", one["reg_id"] or ""), ("Call-ID", one["call_id"]),
            ("answers", f"{one['state']}, {one['rtt']:g} ms" if one["state"] else "")))
          for one in result["bindings"])]


def _carrier(result: dict[str, Any]) -> list[Table]:
    """A carrier and our registration there."""
    return [pairs((
        ("peer", result["name"]), ("carrier at", result["uri"]), ("account", result["account"]),
        ("registration", result["state"]), ("said", result["reason"]), ("server", result["server"]),
        ("expires in", _seconds(result["expires"]) if result["expires"] else ""), ("calls go to", result["user"])))]


def _place(row: dict[str, Any]) -> str:
    return join_host_port(row["address"], row["port"]) if row["address"] else "-"


def _seconds(number: int) -> str:
    """How long, for people; "-" for nothing."""
    return age(number) if number else "-"
