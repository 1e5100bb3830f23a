"""The sections [peers.NAME] and [qualify] of the configuration: carriers, and whether anybody answers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator

from sipd.config_dress import DressKeys
from sipd.config_limits import Section
from sipd.config_peers import ADDRESS, CREDENTIALS, EVERYBODY, NAME, Mistake, PolicyKeys, Template, merged
from sipd.message.errors import MalformedMessage
from sipd.message.uri import Uri

#: Seconds between two questions to one phone or peer, as far as a person may choose them.
SHORTEST, LONGEST = 5, 86400

#: What a peer may be called.
_WANTED_NAME = "a peer's name is 1 to 64 letters, digits, dots, hyphens and underscores, or a user's name"
#: What may stand in the user part of a URI without an escape (RFC 3261 s25.1 unreserved).
_USER = re.compile(r"[A-Za-z0-9_.!~*'()+-]{1,64}")


def _every(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, int) and SHORTEST <= value <= LONGEST):
        return value
    raise ValueError(f"true, false, or a whole number of seconds from {SHORTEST} to {LONGEST} is wanted")


#: true: as often as [qualify] interval says; a number: every so many seconds.
Every = Annotated[bool | int, BeforeValidator(_every)]


def peer_name(name: str) -> str:
    """The name of a peer, or of a user who is one, if it is such a name. Raises ValueError."""
    if not name.isprintable() or " " in name or ":" in name or not 0 < len(name) <= 256:
        raise ValueError(_WANTED_NAME)
    return name


PeerName = Annotated[str, AfterValidator(peer_name)]


class Peer(DressKeys, PolicyKeys):
    """[peers.NAME]: a carrier, and the account there; or a user, of whom only the policy is told. Times in seconds."""

    #: Where requests to it go: `sip:host[:port][;transport=...]`. "" only where the name is a user's.
    uri: str = ""
    #: `host[:port]` or a SIP URI: everything to the carrier goes by there.
    proxy: str = ""
    #: The account: the user of the address-of-record at the carrier.
    username: str = Field(default="", max_length=128)
    #: The name to log in by, where it is another one.
    auth_username: str = Field(default="", max_length=128)
    password: SecretStr = Field(default=SecretStr(""), max_length=128)
    #: A file whose first line is the password.
    password_file: str = ""
    #: The domain of the account; "" is the host of `uri`. Where it is given, From of calls has it too.
    from_domain: str = Field(default="", max_length=253)
    #: True: a registration is kept there.
    registers: bool = Field(default=False, validation_alias="register")
    #: Seconds to ask for.
    register_expires: int = Field(default=3600, ge=30, le=86400)
    #: The user part of our Contact; "" makes one that nobody can guess.
    contact_user: str = ""
    #: The user here who gets the calls that come in on the registration; `name` or `name@tenant`.
    inbound_to: str = Field(default="", max_length=256)
    #: Ask whether it answers.
    qualify: Every = False

    @model_validator(mode="before")
    @classmethod
    def _file(cls, value: Any) -> Any:
        """Reads the file with the password."""
        path = value.get("password_file") if isinstance(value, dict) else None
        if not isinstance(path, str) or not path:
            return value
        if "password" in value:
            raise ValueError("password and password_file: one of the two")
        try:
            with open(path, encoding="utf-8") as file:
                secret = file.readline(1000).strip(" \t\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise ValueError(f"password_file: {path}: {why}; a readable file is wanted")
        if not secret:
            raise ValueError(f"password_file: {path}: its first line is empty")
        return {**value, "password": SecretStr(secret)}

    @field_validator("uri", "proxy")
    @classmethod
    def _readable(cls, value: str) -> str:
        uri = as_uri(value) if value else None
        if value and (uri is None or not uri.host or uri.headers):
            raise ValueError('a SIP URI such as "sip:sip.carrier.example:5060;transport=tcp" is wanted')
        return value

    @field_validator("from_domain")
    @classmethod
    def _host(cls, value: str) -> str:
        uri = as_uri(f"sip:{value}") if value else None
        if value and (uri is None or uri.user is not None or uri.port is not None or uri.params or uri.headers):
            raise ValueError('a name or an address such as "sip.carrier.example" or "203.0.113.10" is wanted')
        return value.lower()

    @field_validator("username", "auth_username")
    @classmethod
    def _quotable(cls, value: str) -> str:
        if not value.isprintable() or any(mark in value for mark in '"\\<> '):
            raise ValueError("printable text without spaces, quotation marks, backslashes and angle brackets")
        return value

    @field_validator("contact_user")
    @classmethod
    def _plain(cls, value: str) -> str:
        if value and not _USER.fullmatch(value):
            raise ValueError("1 to 64 plain letters, digits and marks such as + - . _")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Peer:
        if not self.uri and not self.model_fields_set <= PolicyKeys.model_fields.keys():
            raise ValueError('uri: is needed, such as "sip:sip.carrier.example:5060;transport=tcp"')
        if self.registers and not self.username:
            raise ValueError("username: register = true needs one")
        return self

    @property
    def carrier(self) -> Uri:
        """Where it is, as a URI without a user; there must be a `uri`."""
        uri = as_uri(self.uri)
        assert uri is not None
        return Uri(uri.scheme, None, None, uri.host, uri.port, uri.params)

    def default(self, key: str) -> Any:
        """See PolicyKeys: it depends on what the peer is."""
        if key == "identify_by":
            return (CREDENTIALS,) if not self.uri else (ADDRESS,) if self.registers else ()
        if key == "may_call" and not self.uri:
            return EVERYBODY
        return super().default(key)

    @property
    def line(self) -> dict[str, Any]:
        """What is about the carrier itself and the account there; the rest can change while we are registered."""
        return {key: getattr(self, key) for key in type(self).model_fields
                if key not in PolicyKeys.model_fields and key not in DressKeys.model_fields}

    @property
    def route(self) -> str:
        """The Route value that `proxy` stands for, with the transport of `uri` where it names none; "" without one."""
        uri = as_uri(self.proxy) if self.proxy else None
        if uri is None:
            return ""
        params = uri.params
        transport = self.carrier.param("transport")
        if transport and uri.param("transport") is None:
            params = (*params, ("transport", transport))
        if uri.param("lr") is None:
            params = (*params, ("lr", None))
        return f"<{Uri(uri.scheme, uri.user, uri.password, uri.host, uri.port, params)}>"


def name_mistakes(peers: Mapping[str, Peer], users: Collection[str], domain: Sequence[str] = ()) -> Iterator[Mistake]:
    """A name is for one thing, and what comes to a Contact is for one peer; `domain` is the first one, if any is named.
    """
    taken: dict[str, str] = {}
    for name, peer in peers.items():
        short = name.removesuffix(f"@{domain[0]}") if domain else name
        if short != name and short in peers:
            yield Mistake(("peers", name), None, f"{name} is {short}, which has a section of its own")
        if not peer.uri and not peer.model_fields_set and name not in users:
            yield Mistake(("peers", name), None, f"{name}: uri is needed, or what holds for the user of that name")
        if peer.uri and not NAME.fullmatch(name):
            yield Mistake(("peers", name), None, f"{name}: {_WANTED_NAME}")
        if peer.uri and name in users:
            yield Mistake(("peers", name, "uri"), peer.uri,
                          f"{name} stands under [users] too; a user's peer has no uri")
        if peer.contact_user and taken.setdefault(peer.contact_user, name) != name:
            yield Mistake(("peers", name, "contact_user"), peer.contact_user,
                          f"contact_user is that of {taken[peer.contact_user]} too; a call is for one")


def account_mistakes(peers: Mapping[str, Peer], templates: Mapping[str, Template],
                     users: Collection[str]) -> Iterator[Mistake]:
    """What is wrong with the accounts of carriers that log in here, as they do with the one that we have there."""
    logins: dict[str, str] = {}
    for name, peer in peers.items():
        if not peer.uri or CREDENTIALS not in merged(name, peer, templates)["identify_by"].value:
            continue
        if not peer.username or not peer.password.get_secret_value():
            yield Mistake(("peers", name, "identify_by"), list(peer.identify_by),
                          '"credentials" needs username and password, by which it logs in here')
        elif peer.username in users:
            yield Mistake(("peers", name, "username"), peer.username,
                          "stands under [users] too; who logs in by a name is one of them")
        elif logins.setdefault(peer.username, name) != name:
            yield Mistake(("peers", name, "username"), peer.username,
                          f"{logins[peer.username]} logs in by that name; the two could not be told apart")


class Qualify(Section):
    """[qualify]: who is asked by OPTIONS whether they still answer. Times in seconds."""

    #: True: everybody's bindings, unless the user's own `qualify` says otherwise.
    users: bool = False
    #: Between two questions to one phone or peer, a fifth more or less.
    interval: int = Field(default=60, ge=SHORTEST, le=LONGEST)
    #: How long an answer may take.
    timeout: float = Field(default=8.0, ge=0.5, le=20)
    #: A smoothed round-trip time from which somebody counts as lagged.
    lagged: float = Field(default=1.0, ge=0.01, le=30)
    #: Questions in a row without an answer, after which somebody counts as unreachable.
    failures: int = Field(default=2, ge=1, le=10)
    #: Questions a second, over all.
    rate: float = Field(default=20.0, ge=0.1, le=1000)


def as_uri(text: str) -> Uri | None:
    """The SIP URI in a text that may leave out `sip:`; None when it cannot be read."""
    try:
        uri = Uri.parse(text if text.lower().startswith(("sip:", "sips:")) else f"sip:{text}")
    except MalformedMessage:
        return None
    return uri if uri.is_sip else None
