"""sipctl, the command line of a server: users, registrations, status.

It asks the running server over the control socket; the user store it changes itself only while it holds the lock
that a running server would hold. Exit status: 0 done, 1 refused, 2 wrong usage, 3 no server answers, 4 the
configuration that was to be read again is wrong, 5 it needs a restart, 6 the two are not connected.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any, NoReturn

import click

from sipd import first_start, state
from sipd.admin import act_cli, call_cli, event_cli, message_cli, originate_cli, routing_cli, show_cli, trunk_cli
from sipd.admin.api import Command, Refused
from sipd.admin.client import NoServer, follow
from sipd.admin.commands import UserCommands
from sipd.admin.words import Group, console, rows
from sipd.auth.user_store import UserStore, UserStoreError
from sipd.config import Config, ConfigError, Overrides, load

REFUSED, NO_SERVER = 1, 3
#: Exit statuses by the kind of a refusal.
KINDS = {"configuration": 4, "restart": 5}


class Place:
    """Where the server is, and how to answer the person: what every command gets."""

    def __init__(self, config: Config, as_json: bool) -> None:
        self.config = config
        self.as_json = as_json

    def ask(self, command: str, **arguments: Any) -> Any:
        """What the running server says. Ends the process when it refuses or when there is none."""
        return next(self.follow(command, **arguments))

    def follow(self, command: str, **arguments: Any) -> Iterator[Any]:
        """As `ask`, and then what follows of an answer that goes on."""
        try:
            yield from follow(self.config.path(state.SOCKET), command, **arguments)
        except Refused as refusal:
            fail(str(refusal), KINDS.get(refusal.kind, REFUSED))
        except NoServer as error:
            fail(f"{error}; --state-dir, --config or SIPD_STATE_DIR say where the server keeps its state", NO_SERVER)

    def change(self, command: str, **arguments: Any) -> Any:
        """A command about users: done by the running server, or here when there is none."""
        directory = self.config.server.state_dir
        try:
            if not os.path.isdir(directory):
                fail(f"there is no directory {directory}; --state-dir, --config or SIPD_STATE_DIR name it", NO_SERVER)
            lock = state.StateLock(directory)
            if not lock.acquire():
                return self.ask(command, **arguments)
            try:
                return self._change_here(command, arguments)
            finally:
                lock.release()
        except (state.StateError, UserStoreError, Refused) as error:
            fail(str(error), REFUSED)

    def _change_here(self, command: str, arguments: dict[str, Any]) -> Any:
        here = first_start.identity(self.config)
        server = self.config.server
        store = UserStore(self.config.path(state.USERS), self.config.auth.algorithms)
        store.open()
        state.give_to_owner(self.config.path(state.USERS))
        try:
            users = UserCommands(
                store, UserStoreError, here.domain, lambda: (*server.domains, *server.tenants), here.realm)
            known: dict[str, Command] = {
                "user add": users.add, "user list": users.listed,
                "user password": users.password, "user remove": users.remove,
            }
            return known[command](arguments)
        finally:
            store.close()

    def show(self, result: Any, text: Any) -> None:
        """Prints a result: as JSON, or as people like it: a text, or whatever rich can print."""
        if self.as_json:
            click.echo(json.dumps(result, indent=2))
        elif isinstance(text, str):
            click.echo(text)
        else:
            console().print(text)


def fail(text: str, status: int) -> NoReturn:
    """Ends the process with a line on stderr."""
    click.echo(f"sipctl: {text}", err=True)
    raise SystemExit(status)


class _JsonEverywhere(click.Command):
    """A command that takes --json behind its own name too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(["--json"], is_flag=True, expose_value=False, callback=_set_json, help="Answer in JSON.")
        )


def _set_json(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.find_object(Place).as_json = True  # type: ignore[union-attr]


class _OptionsAnywhere(Group):
    """A group whose options that say which server is meant may also stand behind the command's own words."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Brings them to the front."""
        front: list[str] = []
        rest: list[str] = []
        words = iter(args)
        for word in words:
            if word in ("--state-dir", "--config"):
                front += [word, *islice(words, 1)]
            elif word.startswith(("--state-dir=", "--config=")):
                front.append(word)
            else:
                rest.append(word)
                if word in ("--", "--password", "--display-name"):
                    rest += words if word == "--" else islice(words, 1)
        return super().parse_args(context, front + rest)


@click.group(cls=_OptionsAnywhere, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--state-dir", metavar="DIR", help="The server's state directory.")
@click.option("--config", metavar="FILE", help="The server's configuration file.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
@click.version_option(package_name="sipd", prog_name="sipctl")
@click.pass_context
def main(context: click.Context, state_dir: str | None, config: str | None, as_json: bool) -> None:
    """Manages a sipd server: its users, what is registered, how it is doing.

    The words of chan_sip work too: `sipctl sip show peers` is `sipctl peers`.

    The server is found by --state-dir, by --config, or by the environment variable SIPD_STATE_DIR.
    """
    if not state_dir and not config:
        state_dir = os.environ.get("SIPD_STATE_DIR")
    try:
        context.obj = Place(load(config, Overrides(state_dir=state_dir or "")), as_json)
    except ConfigError as error:
        fail(str(error), 2)


@main.group(cls=Group)
def user() -> None:
    """Adds, lists and removes users of the user store."""


@user.command("add", cls=_JsonEverywhere)
@click.argument("name")
@click.option("--password", help="The password; asked for or made when left out.")
@click.option("--display-name", default="", help="The name that phones show.")
@click.pass_obj
def user_add(place: Place, name: str, password: str | None, display_name: str) -> None:
    """Adds the user NAME, or NAME@TENANT. Without --password an empty answer to the question makes a random one."""
    secret, made = _password(password)
    result = place.change("user add", name=name, password=secret, display_name=display_name)
    _show_password(place, result, secret, made, "added")


@user.command("password", cls=_JsonEverywhere)
@click.argument("name")
@click.option("--password", help="The password; asked for or made when left out.")
@click.pass_obj
def user_password(place: Place, name: str, password: str | None) -> None:
    """Gives the user NAME another password."""
    secret, made = _password(password)
    result = place.change("user password", name=name, password=secret)
    _show_password(place, result, secret, made, "has a new password")


@user.command("remove", cls=_JsonEverywhere)
@click.argument("name")
@click.pass_obj
def user_remove(place: Place, name: str) -> None:
    """Removes the user NAME."""
    result = place.change("user remove", name=name)
    place.show(result, f"{result['aor']} removed")


@user.command("list", cls=_JsonEverywhere)
@click.pass_obj
def user_list(place: Place) -> None:
    """Lists the users of the user store."""
    result = place.change("user list")
    place.show(result, rows(("user", "display name"), [(entry["aor"], entry["display_name"]) for entry in result]))


@main.command(cls=_JsonEverywhere)
@click.argument("aor", default="")
@click.pass_obj
def registrations(place: Place, aor: str) -> None:
    """Lists what is registered: everything, or for the address-of-record AOR."""
    result = place.ask("registrations", aor=aor)
    lines = [
        (entry["aor"], entry["contact"], f"{entry['expires']} s", entry["source"], entry["user_agent"])
        for entry in result["registrations"]
    ]
    place.show(result, rows(("user", "contact", "expires", "from", "user agent"), lines))
    if result["more"] and not place.as_json:
        click.echo("... and more", err=True)


@main.command(cls=_JsonEverywhere)
@click.pass_obj
def status(place: Place) -> None:
    """Shows the listeners, and every table with its size and bound."""
    result = place.ask("status")
    table = rows(("table", "entries", "bound", "turned away"), [
        (entry["name"], entry["size"], entry["limit"], entry["refused"]) for entry in result["tables"]
    ])
    if not place.as_json:
        click.echo(f"sipd {result['version']}, process {result['process']}, up {result['uptime']} s, "
                   f"domain {result['domain']}")
        load = result["overload"]
        click.echo(f"  {'overloaded' if load['active'] else 'not overloaded'}: {load['delay'] * 1000:.0f} ms behind, "
                   f"{load['refusing']:.0%} of the new requests are refused")
        for name, number in result["dropped"].items():
            click.echo(f"  {name}: {number}")
        for listener in result["listeners"]:
            click.echo(f"  listening on {listener['transport']} {listener['address']} port {listener['port']}")
        for trunk in result.get("peers", ()):
            click.echo(f"  peer {trunk['name']}: " + ", ".join(filter(None, (trunk["state"], trunk["reason"]))))
    place.show(result, table)


for part in (show_cli, call_cli, trunk_cli, routing_cli, message_cli, act_cli, originate_cli, event_cli):
    part.add_to(main, _JsonEverywhere)


def _password(given: str | None) -> tuple[str, bool]:
    """The password to set, and whether it was made here. Asked for on a terminal only."""
    if given is None and sys.stdin.isatty():
        given = click.prompt("Password (empty: a random one)", hide_input=True, default="", show_default=False,
                             confirmation_prompt=True)
    return (given, False) if given else (first_start.new_password(os.urandom), True)


def _show_password(place: Place, result: dict[str, str], secret: str, made: bool, done: str) -> None:
    """Tells a password that was made here, once; one that was given is not repeated."""
    if made:
        result = {**result, "password": secret}
    place.show(result, f"{result['aor']} {done}" + (f", password {secret}" if made else ""))
