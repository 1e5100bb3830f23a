"""The configuration: a TOML file and the options over it, read into frozen values, one class per section.

`load` gives a `Config` or raises one `ConfigError` that lists every mistake at once. Durations are seconds, sizes
bytes, unless a docstring says otherwise. Unknown keys are mistakes: a misspelt option must not be silently ignored.
"""

from __future__ import annotations

import contextlib
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from sipd.config_api import Api
from sipd.config_calls import Calls, Cdr
from sipd.config_events import Events
from sipd.config_limits import Limits, Overload, Section
from sipd.config_messages import Messages
from sipd.config_originate import Originate
from sipd.config_peers import AclSection, Mistakes, SectionName, Template, limit_mistakes, policy_mistakes
from sipd.config_routing import Forward, ForwardName, Group, GroupName, Number, RouteEntry, Routing, check_groups
from sipd.config_server import DEFAULT_LISTEN, Listen, Server, parse_listen, tcp_beside
from sipd.config_text import describe, wanted_listener
from sipd.config_trunks import Peer, PeerName, Qualify, account_mistakes, name_mistakes
from sipd.config_users import Algorithms, UserEntry, UserName


class ConfigError(Exception):
    """The configuration is wrong; the text lists every mistake, one a line, and `errors` holds those lines.

    `listen` and `state_dir` are what is right in it and still has to be tried on this host; empty where it says none.
    """

    def __init__(self, errors: list[str], listen: Sequence[Listen] = (), state_dir: str = "") -> None:
        super().__init__("\n".join(errors))
        self.errors = errors
        self.listen = listen
        self.state_dir = state_dir


class Auth(Section):
    """[auth]: who must show a password (RFC 3261 s22, RFC 7616, RFC 8760)."""

    #: False: every source counts as authenticated; for closed networks.
    required: bool = True
    #: Empty: the first domain, else a name made at the first start.
    realm: str = Field(default="", max_length=128)
    #: One challenge each, in this order.
    algorithms: Algorithms = ("MD5", "SHA-256")

    @field_validator("realm")
    @classmethod
    def _quotable(cls, value: str) -> str:
        if not value.isprintable() or '"' in value or "\\" in value:
            raise ValueError("printable text without quotation marks and backslashes")
        return value

    @field_validator("algorithms")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("one algorithm at least, and each once")
        return value


class Registrar(Section):
    """[registrar]: RFC 3261 s10.3."""

    #: s10.3 step 7 forbids to refuse an hour or more as too brief.
    min_expires: int = Field(default=60, ge=1, le=3600)
    default_expires: int = Field(default=3600, ge=1, le=604800)
    max_expires: int = Field(default=7200, ge=1, le=604800)
    #: Contacts of one address-of-record.
    max_contacts: int = Field(default=10, ge=1, le=1000)
    #: True: anyone may register any name; for closed test networks.
    open: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Registrar:
        if not self.min_expires <= self.default_expires <= self.max_expires:
            raise ValueError("default_expires: between min_expires and max_expires")
        return self


class Location(Section):
    """[location]: where bindings are kept."""

    store: Literal["sqlite", "memory"] = "sqlite"
    #: "full" survives a power cut too, "normal" the death of the process.
    sync: Literal["normal", "full"] = "normal"


class Proxy(Section):
    """[proxy]: RFC 3261 s16."""

    record_route: bool = True
    #: Seconds per step of serial forking.
    ring_timeout: float = Field(default=20.0, ge=1, le=600)
    #: Seconds without any answer from a hop that has alternatives.
    hop_timeout: float = Field(default=4.0, ge=0.1, le=60)
    #: Seconds per DNS question.
    dns_timeout: float = Field(default=3.0, ge=0.1, le=60)
    #: True: follow a 3xx ourselves instead of passing it on.
    recurse: bool = False
    #: True: strangers may call our users without credentials.
    guests: bool = False


class Timers(Section):
    """[timers]: seconds; RFC 3261 table 4 and s16.6 step 11."""

    t1: float = Field(default=0.5, ge=0.01, le=10)
    t2: float = Field(default=4.0, ge=0.01, le=60)
    t4: float = Field(default=5.0, ge=0.01, le=60)
    #: s16.6 step 11 wants more than 180; less is for who knows why.
    c: float = Field(default=181.0, ge=1, le=3600)

    @model_validator(mode="after")
    def _ordered(self) -> Timers:
        if self.t2 < self.t1:
            raise ValueError("t2: not less than t1")
        return self


class Log(Section):
    """[log]: which everyday records are written; what goes wrong always is."""

    #: Calls that begin, are answered or not, and end.
    calls: bool = True
    #: Bindings that are made, moved or lost.
    registrations: bool = True


class Config(Section):
    """All of it."""

    server: Server = Server()
    listen: Annotated[tuple[Listen, ...], Field(strict=False)] = DEFAULT_LISTEN
    auth: Auth = Auth()
    #: `name`, or `name@tenant`, to its entry.
    users: dict[UserName, UserEntry] = Field(default_factory=dict)
    acls: dict[SectionName, AclSection] = Field(default_factory=dict)
    templates: dict[SectionName, Template] = Field(default_factory=dict)
    peers: dict[PeerName, Peer] = Field(default_factory=dict, validate_default=True)
    qualify: Qualify = Qualify()
    routes: Annotated[tuple[RouteEntry, ...], Field(strict=False)] = ()
    groups: dict[GroupName, Group] = Field(default_factory=dict)
    forward: dict[ForwardName, Forward] = Field(default_factory=dict)
    numbers: dict[UserName, Number] = Field(default_factory=dict)
    routing: Routing = Routing()
    registrar: Registrar = Registrar()
    location: Location = Location()
    proxy: Proxy = Proxy()
    originate: Originate = Originate()
    api: Api = Api()
    messages: Messages = Messages()
    timers: Timers = Timers()
    limits: Limits = Limits()
    overload: Overload = Overload()
    calls: Calls = Calls()
    cdr: Cdr = Cdr()
    events: Events = Events()
    log: Log = Log()

    @field_validator("listen")
    @classmethod
    def _distinct(cls, value: tuple[Listen, ...]) -> tuple[Listen, ...]:
        seen: set[tuple[str, str, int]] = set()
        for listen in value:
            # TLS runs over TCP: both cannot have one port.
            key = ("udp" if listen.transport == "udp" else "tcp", listen.address, listen.port)
            if key in seen:
                raise ValueError(f"{listen} is taken by an earlier listener")
            seen.add(key)
        return (*value, *tcp_beside(value, seen)) or DEFAULT_LISTEN

    @field_validator("users")
    @classmethod
    def _at_home(cls, value: dict[str, UserEntry], info: ValidationInfo) -> dict[str, UserEntry]:
        server: Server | None = info.data.get("server")
        for name in value:
            domain = name.rpartition("@")[2].lower()
            # A wrong [server] is told once; what it lists cannot be judged then.
            if "@" in name and server is not None and domain not in server.domains + server.tenants:
                raise ValueError(f"{name}: {domain!r} is neither under domains nor under tenants of [server]")
        return value

    @field_validator("peers")
    @classmethod
    def _one_kind(cls, value: dict[str, Peer], info: ValidationInfo) -> dict[str, Peer]:
        wrong = list(name_mistakes(value, info.data.get("users", ()),
                                   info.data["server"].domains[:1] if "server" in info.data else ()))
        if wrong:
            raise Mistakes(wrong)
        if "templates" in info.data and "acls" in info.data:
            asked = any(listen.client_ca for listen in info.data.get("listen", ()))
            wrong = list(policy_mistakes(value, info.data["templates"], info.data["acls"], asked))
            wrong = wrong or list(account_mistakes(value, info.data["templates"], info.data.get("users", ())))
            if wrong:
                raise Mistakes(wrong)
        return value

    @field_validator("events")
    @classmethod
    def _known_peers(cls, value: Events, info: ValidationInfo) -> Events:
        if "peers" in info.data:
            value.check_peers({name for name, peer in info.data["peers"].items() if peer.uri})
        return value

    @field_validator("groups")
    @classmethod
    def _another_kind(cls, value: dict[str, Group], info: ValidationInfo) -> dict[str, Group]:
        wrong = check_groups(value, info.data.get("users", ()), info.data.get("peers", {}))
        if wrong:
            raise Mistakes(wrong)
        return value

    @model_validator(mode="after")
    def _counted(self) -> Config:
        wrong = [] if self.calls.track else list(limit_mistakes(self.peers, self.templates))
        if wrong:
            raise Mistakes(wrong)
        return self

    def path(self, name: str) -> str:
        """The file called `name` in the state directory."""
        return os.path.join(self.server.state_dir, name)


@dataclass(frozen=True, slots=True)
class Overrides:
    """The command line's options over the file, as typed."""

    listen: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    state_dir: str = ""


def load(path: str | None = None, overrides: Overrides = Overrides()) -> Config:
    """The configuration from the file at `path` (None: defaults only) with the options over it.

    Relative paths in the file are relative to the file, those in options to the current directory.
    Raises ConfigError with every mistake found.
    """
    text, data, errors = "", {}, []
    if path is not None:
        try:
            with open(path, "rb") as file:
                text = file.read().decode("utf-8")
            data = tomllib.loads(text)
        except OSError as error:
            errors.append(f"--config {path}: {error.strerror}; a readable TOML file is wanted")
        except UnicodeDecodeError as error:
            errors.append(f"{path}: byte {error.start} is not UTF-8; a TOML file in UTF-8 is wanted")
        except tomllib.TOMLDecodeError as error:
            errors.append(f"{path}: not TOML: {error}")
    base = os.path.dirname(os.path.abspath(path)) if path is not None else os.getcwd()
    _absolute(data, base)
    origins = _override(data, overrides, errors)
    try:
        config = Config.model_validate(data)
    except ValidationError as failure:
        errors.extend(describe(Config, failure, path or "", text, origins))
    if errors:
        raise ConfigError(errors, *_fit(data))
    return config


def _fit(data: dict[str, Any]) -> tuple[list[Listen], str]:
    """The listeners that are right and the state directory, as far as `data` names them."""
    listeners, server = data.get("listen"), data.get("server")
    fit = []
    for table in listeners if isinstance(listeners, list) else ():
        with contextlib.suppress(ValidationError):
            fit.append(Listen.model_validate(table))
    directory = server.get("state_dir") if isinstance(server, dict) else ""
    return fit, directory if isinstance(directory, str) else ""


def _absolute(data: dict[str, Any], base: str) -> None:
    """Makes the paths in the file absolute: the daemon changes its directory."""
    listeners, peers = data.get("listen"), data.get("peers")
    tables = [data.get("server"), data.get("cdr"), data.get("routing"),
              *(listeners if isinstance(listeners, list) else ()), *(peers.values() if isinstance(peers, dict) else ())]
    for table in tables:
        for key in ("state_dir", "certificate", "private_key", "client_ca", "password_file", "path", "script"):
            if isinstance(table, dict) and isinstance(table.get(key), str) and table[key]:
                table[key] = os.path.join(base, os.path.expanduser(table[key]))


def _override(data: dict[str, Any], overrides: Overrides, errors: list[str]) -> Mapping[tuple[str | int, ...], str]:
    """Lays the options over `data`; returns which place came from which option, for the messages."""
    origins: dict[tuple[str | int, ...], str] = {}
    if overrides.listen:
        data["listen"] = []
        for option in overrides.listen:
            parsed = parse_listen(option)
            if parsed is None:
                errors.append(f"--listen {option}: {wanted_listener}")
                continue
            origins["listen", len(data["listen"])] = f"--listen {option}"
            data["listen"].append(parsed)
    if overrides.domains:
        _table(data, "server")["domains"] = list(overrides.domains)
        origins["server", "domains"] = "--domain " + " --domain ".join(overrides.domains)
    if overrides.state_dir:
        _table(data, "server")["state_dir"] = os.path.abspath(os.path.expanduser(overrides.state_dir))
        origins["server", "state_dir"] = f"--state-dir {overrides.state_dir}"
    for option in overrides.users:
        name, colon, password = option.partition(":")
        if not colon or not password:
            errors.append(f"--user {name}:...: NAME:PASSWORD is wanted")
            continue
        _table(data, "users")[name] = {"password": password}
        origins["users", name] = f"--user {name}:..."
    return origins


def _table(data: dict[str, Any], name: str) -> dict[str, Any]:
    """The section `name`, made when missing. One that is no table is left for the validation to refuse."""
    table = data.setdefault(name, {})
    return table if isinstance(table, dict) else {}
