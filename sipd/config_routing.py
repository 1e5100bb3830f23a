"""The sections of the configuration that say where calls go: [[routes]], [groups.NAME], [forward.NAME], [numbers],
[routing].

Names in them are users (`name` or `name@tenant`), groups and peers with a `uri`. That all of them exist is found by
`unknown_names`, once the stored users are known. Times in seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, field_validator, model_validator

from sipd.config_limits import Section
from sipd.config_patterns import Hours, Match, Names, every_name, hours, names, parse, rewrite_fields
from sipd.config_peers import Mistake
from sipd.config_trunks import Peer, peer_name
from sipd.config_users import user_name

#: Octets of a script.
_SCRIPT = 1_048_576
#: What fail-over may be for, besides codes.
BUSY, NO_ANSWER, UNREACHABLE = "busy", "no_answer", "unreachable"
_CAUSES = (BUSY, NO_ANSWER, UNREACHABLE)
#: What says nothing of the one who is called, but of the way there: on these the next target is tried.
DEFAULT_FAILOVER: tuple[str | int, ...] = (UNREACHABLE, NO_ANSWER, 401, 407, 430, "5xx")


def _several(value: Any) -> Any:
    """A single text is a list of one."""
    return (value,) if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_several), Field(strict=False)]


class To(Section):
    """One entry of `to`: whom to try, and when."""

    #: A user, a group or a peer with a uri.
    peer: str = Field(min_length=1, max_length=256)
    #: Lower ones are tried first; None: after all that stand before it.
    priority: int | None = Field(default=None, ge=0, le=65535)
    #: Among equals chance decides in this proportion (RFC 2782).
    weight: int = Field(default=1, ge=0, le=65535)

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"peer": value}
        if not isinstance(value, (dict, To)):
            raise ValueError('a name, or a table such as { peer = "carrier", priority = 1 }, is wanted')
        return value


def _cause(value: Any) -> Any:
    if isinstance(value, str):
        if value in _CAUSES or value in ("3xx", "4xx", "5xx"):
            return value
    elif isinstance(value, int) and not isinstance(value, bool) and 300 <= value < 600:
        return value
    raise ValueError('"busy", "no_answer", "unreachable", a class such as "5xx" or a code from 300 to 599 is wanted')


Cause = Annotated[str | int, BeforeValidator(_cause)]


class RouteEntry(Section):
    """[[routes]]: one way for calls; the first whose conditions all hold is taken."""

    name: str = Field(default="", max_length=64)
    #: The user part that is called.
    match: Texts = ("*",)
    #: The user part of the caller's address.
    caller: Texts = ()
    #: The user or the peer who sends the request.
    peer: Texts = ()
    #: By the server's own clock.
    hours: Texts = ()
    #: The place whose numbers are meant; "" is that of the first domain.
    domain: str = ""
    #: What is called instead, with named parts of the expression in braces.
    rewrite: str = Field(default="", max_length=256)
    to: Annotated[tuple[To, ...], BeforeValidator(_several), Field(strict=False)] = ()
    #: For each of `to`; 0: as long as it rings.
    timeout: float = Field(default=0.0, ge=0, le=600)
    failover: Annotated[tuple[Cause, ...], Field(strict=False)] = DEFAULT_FAILOVER
    #: Instead of `to`: the call is refused with this status; 0: it is not.
    reject: int = Field(default=0, ge=0, le=699)
    reason: str = Field(default="", max_length=100)

    _matches: tuple[Match, ...] = PrivateAttr(())
    _callers: Names = PrivateAttr(names(()))
    _peers: Names = PrivateAttr(names(()))
    _hours: tuple[Hours, ...] = PrivateAttr(())

    @field_validator("match", "caller", "peer")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            parse(text)
        return value

    @field_validator("match")
    @classmethod
    def _something(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError('one text at least; "*" is everything')
        return value

    @field_validator("hours")
    @classmethod
    def _times(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            hours(text)
        return value

    @field_validator("rewrite")
    @classmethod
    def _fields(cls, value: str) -> str:
        rewrite_fields(value)
        return value

    @field_validator("reject")
    @classmethod
    def _refusal(cls, value: int) -> int:
        if 0 < value < 300:
            raise ValueError("a status from 300 to 699 is wanted, or 0")
        return value

    @field_validator("reason", "name")
    @classmethod
    def _line(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("printable text")
        return value

    @field_validator("domain")
    @classmethod
    def _lower(cls, value: str) -> str:
        return value.lower()

    @model_validator(mode="after")
    def _whole(self) -> RouteEntry:
        if bool(self.to) + bool(self.reject) > 1 or not (self.to or self.reject or self.rewrite):
            raise ValueError("to (whom to call) or reject (a status), one of the two; or rewrite alone, and the routes "
                             "are asked again for what it makes")
        if self.reason and not self.reject:
            raise ValueError("reason: belongs to reject")
        matches = tuple(parse(text) for text in self.match)
        for field in rewrite_fields(self.rewrite):
            if field not in every_name(matches) | {"called", "caller"}:
                raise ValueError(f"rewrite: {{{field}}}: no such part; there are called, caller"
                                 + "".join(f", {name}" for name in sorted(every_name(matches))))
        self._matches, self._callers, self._peers = matches, names(self.caller), names(self.peer)
        self._hours = tuple(map(hours, self.hours))
        return self

    @property
    def matches(self) -> tuple[Match, ...]:
        """What `match` says, to be held against names."""
        return self._matches

    @property
    def callers(self) -> Names:
        """What `caller` says."""
        return self._callers

    @property
    def peers(self) -> Names:
        """What `peer` says."""
        return self._peers

    @property
    def times(self) -> tuple[Hours, ...]:
        """What `hours` says; empty is always."""
        return self._hours


class Group(Section):
    """[groups.NAME]: several who ring for one name."""

    members: Annotated[tuple[str, ...], Field(strict=False, min_length=1, max_length=60)]
    #: All at once; one after the other; by the q of their contacts; one after the other in an order left to chance.
    strategy: Literal["parallel", "serial", "q", "random"] = "parallel"
    #: For all together where they ring at once, else for each.
    timeout: float = Field(default=20.0, ge=1, le=600)

    @field_validator("members")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("each member once")
        return value


class Forward(Section):
    """[forward.NAME]: where calls for a user or a group go instead: a user, a group, or a number that is routed
    again."""

    #: Without ringing at all.
    always: str = Field(default="", max_length=64)
    busy: str = Field(default="", max_length=64)
    no_answer: str = Field(default="", max_length=64)
    #: How long it rings before that; a group rings for its `timeout`.
    no_answer_after: float = Field(default=20.0, ge=1, le=600)
    #: Where nothing is registered, or nobody can be reached.
    offline: str = Field(default="", max_length=64)


def _entry(value: Any) -> Any:
    return {"to": (value,) if isinstance(value, str) else value} if isinstance(value, (str, list, tuple)) else value


class Number(Section):
    """One entry of [numbers]: whom a number stands for."""

    to: Annotated[tuple[str, ...], Field(strict=False, min_length=1, max_length=60)]

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        if not isinstance(value, (str, list, tuple, dict)):
            raise ValueError('a name or a list of names is wanted, such as "1001" or ["1001", "1002"]')
        return _entry(value)


class Routing(Section):
    """[routing]: what is for all routes together."""

    #: A Python file that is asked before the routes.
    script: str = ""
    #: How long a function in it may wait for something.
    script_timeout: float = Field(default=5.0, ge=0.1, le=30)
    #: Hosts, besides peers and ourselves, that it may send calls to.
    script_hosts: Annotated[tuple[str, ...], Field(strict=False)] = ()
    #: Numbers that skip limits.
    emergency: Annotated[tuple[str, ...], Field(strict=False)] = ()

    _code: str = PrivateAttr("")

    @field_validator("emergency")
    @classmethod
    def _plain(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for number in value:
            if not 0 < len(number) <= 64 or not number.isprintable():
                raise ValueError('a number such as "112" is wanted')
        return value

    @field_validator("script_hosts")
    @classmethod
    def _lower(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(host.lower() for host in value)

    @model_validator(mode="after")
    def _readable(self) -> Routing:
        """Reads the script, so that what is checked is what runs."""
        if not self.script:
            return self
        try:
            with open(self.script, "rb") as file:
                code = file.read(_SCRIPT + 1)
            text = code.decode("utf-8")
            compile(text, self.script, "exec", dont_inherit=True)
        except OSError as error:
            raise ValueError(f"script: {self.script}: {error.strerror}; a readable file is wanted")
        except SyntaxError as error:
            raise ValueError(f"script: {self.script}, line {error.lineno}: {error.msg}")
        except (ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"script: {self.script}: not Python in UTF-8: {error}")
        if len(code) > _SCRIPT:
            raise ValueError(f"script: {self.script}: {_SCRIPT} bytes at most")
        self._code = text
        return self

    @property
    def code(self) -> str:
        """The text of the script as it was read."""
        return self._code


GroupName = Annotated[str, AfterValidator(peer_name)]
ForwardName = Annotated[str, AfterValidator(user_name)]


def check_groups(groups: Mapping[str, Group], users: Collection[str], peers: Mapping[str, Peer]) -> list[Mistake]:
    """What is wrong: a name is for one thing, and no group is in a group."""
    wrong = []
    for name, group in groups.items():
        for section, taken in (("users", users), ("peers", peers)):
            if name in taken:
                wrong.append(Mistake(("groups", name), None,
                                     f"{name} stands under [{section}] too; a name is for one thing"))
        for member in group.members:
            if member in groups:
                wrong.append(Mistake(("groups", name, "members"), member,
                                     f"{member} is a group itself; the members are users and peers"))
    return wrong


class Whole(Protocol):
    """What is needed of the whole configuration."""

    routes: tuple[RouteEntry, ...]
    groups: dict[str, Group]
    forward: dict[str, Forward]
    numbers: dict[str, Number]
    routing: Routing
    users: dict[str, Any]
    peers: dict[str, Peer]
    server: Any
    registrar: Any


def unknown_names(config: Any, stored: Iterable[str], domain: str) -> list[str]:
    """A line for each name in the routing of a configuration that is nobody's. `stored` are the addresses-of-record of
    the users in the store, `domain` that of names without one. Empty where anybody may register any name."""
    return list(_unknown(config, {aor.removesuffix(f"@{domain}") for aor in stored}))


def _unknown(config: Whole, stored: set[str]) -> Iterator[str]:
    users = stored | set(config.users)
    trunks = {name for name, peer in config.peers.items() if peer.uri}
    anybody = config.registrar.open
    wanted = "a user, a group or a peer with a uri is wanted"
    for name in sorted(set(config.groups) & stored):
        yield f"[groups.{name}]: a stored user is called {name} too; a name is for one thing"
    for place, route in enumerate(config.routes):
        where = f"[[routes]] (number {place + 1})"
        if route.domain and route.domain not in (*config.server.domains, *config.server.tenants):
            yield f"{where} domain = \"{route.domain}\": neither under domains nor under tenants of [server]"
        for one in route.to:
            if one.peer not in users | trunks | set(config.groups) and not anybody:
                yield f"{where} to = \"{one.peer}\": there is nobody of this name; {wanted}"
    for name, peer in config.peers.items():
        to = peer.inbound_to
        if to and to not in users | set(config.groups) and not anybody and not routable(config, to):
            yield f"[peers.{name}] inbound_to = \"{to}\": no user, no group, and no route matches it"
    places = {*config.server.domains, *config.server.tenants}
    for number in config.numbers:
        home = number.rpartition("@")[2].lower()
        if "@" in number and home not in places:
            yield f"[numbers] {number}: {home!r} is neither under domains nor under tenants of [server]"
    for name, group in config.groups.items():
        for member in group.members:
            if member not in users | trunks and not anybody:
                yield f"[groups.{name}] members = \"{member}\": nobody has this name; a user or a peer is wanted"
    for number, entry in config.numbers.items():
        for who in entry.to:
            if who not in users | trunks | set(config.groups) and not anybody:
                yield f"[numbers] {number} = \"{who}\": there is nobody of this name; {wanted}"
    for number in config.routing.emergency:
        if number not in users | set(config.groups) and not routable(config, number):
            yield f"[routing] emergency = \"{number}\": no route matches it, so nobody would be called"
    for name, forward in config.forward.items():
        if name not in users | set(config.groups) and not anybody:
            yield f"[forward.{name}]: there is no user and no group of this name"
        for key in ("always", "busy", "no_answer", "offline"):
            target = getattr(forward, key)
            if target and target not in users | set(config.groups) and not anybody and not routable(config, target):
                yield f"[forward.{name}] {key} = \"{target}\": no user, no group, and no route matches it"


def routable(config: Whole, number: str) -> bool:
    """Whether anything in the configuration may take this number; the script may take every one."""
    return bool(config.routing.script) or number in config.numbers or any(
        match.match(number) is not None for route in config.routes for match in route.matches)
