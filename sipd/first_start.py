"""The name of the place, and the first users: what a first start decides and later starts must keep.

Stored HA1s contain the realm (RFC 7616 s3.4.2), and stored users belong to a domain. Both are written to the state
directory, so that a start with others is refused instead of locking every phone out.
"""

from __future__ import annotations

import io
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.table import Table

from sipd import preflight, state
from sipd.auth.user_store import StoredUser, UserStore, UserStoreError
from sipd.config import Config
from sipd.config_routing import unknown_names
from sipd.config_server import Listen, is_host
from sipd.transport.listener import split_advertise

#: The extensions a first start creates.
EXTENSIONS = ("1001", "1002", "1003")
#: 32 letters and digits that are not mistaken for each other on a phone's display.
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


@dataclass(frozen=True, slots=True)
class Identity:
    """What this server calls itself: the domain of its addresses-of-record and the realm of its users' HA1s."""

    domain: str
    realm: str


@dataclass(frozen=True, slots=True)
class NewUser:
    """A user made at the first start, with the password that is told once."""

    name: str
    password: str


def new_password(entropy: Callable[[int], bytes]) -> str:
    """A password of 60 random bits that can be typed on a phone."""
    return "".join(_ALPHABET[byte & 31] for byte in entropy(12))


def identity(config: Config, entropy: Callable[[int], bytes] = os.urandom, *, keep: bool = True) -> Identity:
    """The domain and realm of this server; made up where nothing is configured, and written down when `keep`.

    Raises StateError when the state directory cannot be used.
    """
    directory = config.server.state_dir
    known_domain, known_realm = state.read(directory, state.DOMAIN), state.read(directory, state.REALM)
    domain = config.server.domains[0] if config.server.domains else known_domain or _made_name(entropy)
    realm = config.auth.realm or domain
    if keep and not config.server.domains and known_domain != domain:
        state.write(directory, state.DOMAIN, f"{domain}\n".encode(), 0o644)
    if keep and known_realm != realm:
        state.write(directory, state.REALM, f"{realm}\n".encode(), 0o644)
    return Identity(domain, realm)


def _made_name(entropy: Callable[[int], bytes]) -> str:
    host = socket.gethostname().lower()
    return host if is_host(host) and not host.startswith("localhost") else f"sipd-{entropy(3).hex()}"


def refusals(config: Config, users: Sequence[StoredUser], here: Identity) -> list[str]:
    """Why stored users forbid this start, with the remedy: they were made for another realm or domain."""
    directory = config.server.state_dir
    errors = []
    realms = sorted({user.realm for user in users if user.realm != here.realm})
    if realms:
        errors.append(
            f'[auth] realm = "{here.realm}": the passwords in {directory} were stored for the realm "{realms[0]}" and '
            f'fit no other; set [auth] realm = "{realms[0]}", or remove those users with sipctl and add them again'
        )
    homes = {here.domain, *config.server.domains, *config.server.tenants}
    strangers = sorted({user.aor.rpartition("@")[2] for user in users} - homes)
    if strangers:
        errors.append(
            f"[server] domains: {directory} holds users of {', '.join(strangers)}, which is no domain here; put it "
            "first in [server] domains, or into tenants, or remove those users with sipctl"
        )
    return errors + unknown_names(config, [user.aor for user in users], here.domain)


def stored_problems(config: Config) -> list[str]:
    """What in the state directory forbids a start with this configuration, read without leaving anything open."""
    path = config.path(state.USERS)
    if not os.path.exists(path):
        here = identity(config, keep=False)
        # nobody yet, and then those who are made at the first start
        made = [] if config.users else [f"{name}@{here.domain}" for name in EXTENSIONS]
        return unknown_names(config, made, here.domain)
    store = UserStore(path)
    try:
        store.open()
        users = store.users()
    except UserStoreError as error:
        return [str(error)]
    finally:
        store.close()
    return refusals(config, users, identity(config, keep=False))


def first_users(config: Config, here: Identity, store: UserStore, entropy: Callable[[int], bytes]) -> list[NewUser]:
    """Creates EXTENSIONS in the open `store` when nobody can register here yet and nobody ever could; else returns
    an empty list. Raises StateError when the state directory cannot be written."""
    directory = config.server.state_dir
    if not config.auth.required or config.registrar.open or state.read(directory, state.FIRST_START):
        return []
    made = []
    if not store.users():
        if config.users:
            return []
        for name in EXTENSIONS:
            made.append(NewUser(name, new_password(entropy)))
            store.add(f"{name}@{here.domain}", here.realm, made[-1].password)
    state.write(directory, state.FIRST_START, b"the first users exist; none are made again\n")
    return made


def announce(config: Config, made: Sequence[NewUser], stream: TextIO | None = None) -> str:
    """Tells the person who started the server what to type into a phone, once: on `stream` (the process's own stdout
    unless given), or, in the background, in a file that only its owner can read. Returns the line for the log."""
    stream = stream or sys.__stdout__
    if stream is not None and not _hides(stream):
        Console(file=stream, width=None if stream.isatty() else 100, highlight=False).print(_table(config, made))
        print(_more(config), file=stream, flush=True)
        return f"made the users {', '.join(user.name for user in made)}; their passwords were printed"
    text = io.StringIO()
    Console(file=text, width=100, highlight=False).print(_table(config, made))
    path = state.write(config.server.state_dir, state.FIRST_USERS, f"{text.getvalue()}{_more(config)}\n".encode())
    return f"made the users {', '.join(user.name for user in made)}; what to type into a phone is in {path}"


def _hides(stream: TextIO) -> bool:
    """Whether what is written there is thrown away, as in a daemon, or kept by systemd's journal, where passwords have
    no place."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    journal = os.environ.get("JOURNAL_STREAM", "")  # systemd.exec(5): device and inode of what leads there
    return status.st_rdev == os.stat(os.devnull).st_rdev or journal == f"{status.st_dev}:{status.st_ino}"


def _table(config: Config, made: Sequence[NewUser]) -> Table:
    table = Table(title="Type this into your phones", caption="The passwords are not shown again.")
    for heading in ("server address", "user", "password", "transports"):
        table.add_column(heading, overflow="fold")
    addresses = "\n".join(server_addresses(config))
    transports = "\n".join(
        f"{transport.upper()} port {port}"
        for transport, port in dict.fromkeys((listen.transport, listen.port) for listen in config.listen)
    )
    for user in made:
        table.add_row(addresses, user.name, user.password, transports, end_section=True)
    return table


def server_addresses(config: Config) -> list[str]:
    """The addresses a phone can be pointed to; loopback ones only when there are no others."""
    found = dict.fromkeys(
        address
        for listen in config.listen
        for address in _told(listen)
    )
    outward = [address for address in found if not address.startswith("127.") and address != "::1"]
    return outward or list(found)


def _told(listen: Listen) -> list[str]:
    return [split_advertise(listen.advertise)[0]] if listen.advertise else preflight.concrete(listen.address)


def _more(config: Config) -> str:
    beside = os.path.join(os.path.dirname(sys.executable), "sipctl")
    program = "sipctl" if shutil.which("sipctl") or not os.path.exists(beside) else beside
    return f"To add more: {shlex.quote(program)} --state-dir {shlex.quote(config.server.state_dir)} user add 1004"
