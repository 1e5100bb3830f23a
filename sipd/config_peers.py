"""What may stand in [peers.NAME] for users and carriers alike, and the sections [templates.NAME] and [acls.NAME]."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, field_validator

from sipd.config_limits import Section

#: How somebody is known.
CREDENTIALS, ADDRESS, TLS = "credentials", "address", "tls"

#: Patterns for every number here, and everybody elsewhere.
EVERYBODY = ("*", "*@*")

#: What a template, an ACL or a carrier may be called.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
#: A method (RFC 3261 s25.1 token), as it is written.
_METHOD = re.compile(r"[A-Z][A-Z0-9.!%*_+`'~-]{0,31}")
#: What may be called: digits, names and the signs * ? [ ], perhaps forbidden by a "!".
_PATTERN = re.compile(r"!?[^\s!,;<>\"]{1,64}")

Texts = Annotated[tuple[str, ...], Field(strict=False)]


class Mistake(NamedTuple):
    """One mistake that is seen only when several sections are looked at together."""

    place: tuple[str | int, ...]
    value: Any
    text: str


class Mistakes(ValueError):
    """Mistakes in several places, to be told one by one."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("; ".join(mistake.text for mistake in mistakes))
        self.mistakes = mistakes


def _name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError("a name is 1 to 64 letters, digits, dots, hyphens and underscores")
    return name


SectionName = Annotated[str, AfterValidator(_name)]


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    for text in value:
        try:
            ipaddress.ip_network(text)
        except ValueError:
            raise ValueError(f'{text!r} is neither an address nor a network such as "203.0.113.0/24"{_meant(text)}')
    return value


def _meant(text: str) -> str:
    """A network with bits of a host in it is the one mistake whose remedy is known."""
    try:
        return f'; "{ipaddress.ip_network(text, strict=False)}" is meant?'
    except ValueError:
        return ""


class PolicyKeys(Section):
    """What a peer may do and how it is known: in [peers.NAME] and, for many peers at once, in [templates.NAME]."""

    #: Templates whose values hold where this section says nothing; a later one stands over an earlier one.
    extends: Texts = ()
    #: What tells that a request is this peer's; any one of them is enough. Left out: credentials for a user, the
    #: address for a carrier that is registered with, nothing for another.
    identify_by: Annotated[tuple[Literal["credentials", "address", "tls"], ...], Field(strict=False)] = ()
    #: Numeric addresses and networks that its requests come from, besides those that `uri` stands for.
    addresses: Texts = ()
    #: Names in the certificate that it shows as a TLS client (RFC 5922).
    tls_names: Texts = ()
    #: The ACL that its requests' addresses must pass, "" for none.
    source_acl: str = ""
    #: The ACL that addresses in the Contacts which it registers must pass, "" for none.
    contact_acl: str = ""
    #: Calls it may have at once, 0 for any number.
    call_limit: int = Field(default=0, ge=0, le=100000)
    #: So many calls make it busy for those who call it, 0 for any number.
    busy_level: int = Field(default=0, ge=0, le=100000)
    #: What it may call; the first pattern that fits decides. Where none fits a carrier may call our users, and a user
    #: nobody; left out, a user may call everybody.
    may_call: Texts = ()
    #: Methods it may use outside of dialogs, empty for all.
    methods: Texts = ()
    #: True: who it says is calling (P-Asserted-Identity, Remote-Party-ID) is believed and passed on.
    trust_identity: bool = False
    #: The name that those who are called see, "" for whatever it sends.
    caller_name: str = Field(default="", max_length=128)

    def default(self, key: str) -> Any:
        """What holds where neither the section nor a template says anything."""
        return type(self).model_fields[key].default

    @field_validator("addresses")
    @classmethod
    def _of_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _networks(value)

    @field_validator("identify_by", "extends")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("each once")
        return value

    @field_validator("tls_names")
    @classmethod
    def _lower(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not text or not text.isascii() or not text.isprintable() or any(mark in text for mark in ' "<>;,'):
                raise ValueError(f'{text!r} is no name in a certificate such as "sip.example.com"')
        return tuple(text.lower().removeprefix("sip:") for text in value)

    @field_validator("may_call")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not _PATTERN.fullmatch(text):
                raise ValueError(f'{text!r} is no pattern; one is written like "0049*", "1???", "*@example.com", or '
                                 '"!0900*" for what may not be called')
        return value

    @field_validator("methods")
    @classmethod
    def _methods(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not _METHOD.fullmatch(text):
                raise ValueError(f'{text!r} is no method; one is written like "INVITE"')
        return value

    @field_validator("caller_name")
    @classmethod
    def _printable(cls, value: str) -> str:
        if not value.isprintable() or '"' in value or "\\" in value:
            raise ValueError("printable text without quotation marks and backslashes")
        return value


class Template(PolicyKeys):
    """[templates.NAME]: values for all peers that extend it."""


class AclSection(Section):
    """[acls.NAME]: addresses that may and may not. The narrowest network that an address is in decides, `deny` where
    one stands in both lists; an address in none may only where `permit` is empty."""

    permit: Texts = ()
    deny: Texts = ()

    @field_validator("permit", "deny")
    @classmethod
    def _of_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _networks(value)


class Merged(NamedTuple):
    """A value as it holds for a peer, and where it comes from: a section such as `[templates.office]`, or `default`."""

    value: Any
    origin: str


#: The keys that templates give, in the order of the section.
KEYS = tuple(key for key in PolicyKeys.model_fields if key != "extends")


def merged(name: str, peer: PolicyKeys, templates: Mapping[str, Template]) -> dict[str, Merged]:
    """Every policy key of a peer: its own value, else that of the last template that it extends which has one, else the
    default. The templates must be there and go in no circle."""
    found = {key: Merged(peer.default(key), "default") for key in KEYS}
    _lay_over(found, f"[peers.{name}]", peer, templates)
    return found


def _lay_over(found: dict[str, Merged], place: str, section: PolicyKeys, templates: Mapping[str, Template]) -> None:
    for name in section.extends:
        _lay_over(found, f"[templates.{name}]", templates[name], templates)
    for key in KEYS:
        if key in section.model_fields_set:
            found[key] = Merged(getattr(section, key), place)


def policy_mistakes(peers: Mapping[str, PolicyKeys], templates: Mapping[str, Template],
                    acls: Mapping[str, AclSection], asked: bool) -> Iterator[Mistake]:
    """What is wrong with the templates and names that peers use: one for each mistake, where it is written. `asked`:
    somewhere TLS clients are asked for certificates."""
    wrong = list(_template_mistakes(peers, templates))
    yield from wrong
    sections = [("peers", name, section) for name, section in peers.items()]
    sections += [("templates", name, section) for name, section in templates.items()]
    for kind, name, section in sections:
        for key in ("source_acl", "contact_acl"):
            acl = getattr(section, key)
            if acl and acl not in acls:
                yield Mistake((kind, name, key), acl, f"there is no [acls.{acl}]; {_there_are(acls, 'acls')}")
    if wrong:
        return
    for name, peer in peers.items():
        values = merged(name, peer, templates)
        if TLS in values["identify_by"].value and not (asked and values["tls_names"].value):
            needed = "a [[listen]] with client_ca" if values["tls_names"].value else (
                "tls_names, the names in its certificate")
            yield Mistake(("peers", name, "identify_by"), list(values["identify_by"].value), f'"tls" needs {needed}')


def limit_mistakes(peers: Mapping[str, PolicyKeys], templates: Mapping[str, Template]) -> Iterator[Mistake]:
    """Limits where calls are not counted; one mistake is enough."""
    for name, peer in peers.items():
        values = merged(name, peer, templates)
        for key in ("call_limit", "busy_level"):
            if values[key].value:
                yield Mistake(("calls", "track"), False, f"the {key} of {values[key].origin} needs calls to be counted")
                return


def _template_mistakes(peers: Mapping[str, PolicyKeys], templates: Mapping[str, Template]) -> Iterator[Mistake]:
    for kind, sections in (("peers", peers), ("templates", templates)):
        for name, section in sections.items():
            for wanted in section.extends:
                if wanted not in templates:
                    yield Mistake((kind, name, "extends"), list(section.extends),
                                  f"there is no [templates.{wanted}]; {_there_are(templates, 'templates')}")
    done: set[str] = set()
    for name in templates:
        circle = _circle(name, templates, done, [])
        if circle:
            yield Mistake(("templates", circle[0], "extends"), list(templates[circle[0]].extends),
                          f"a circle: {' extends '.join(circle)}; a template cannot stand over itself")


def _circle(name: str, templates: Mapping[str, Template], done: set[str], way: list[str]) -> list[str]:
    """A circle that begins or ends among the templates which `name` extends; each is told once."""
    if name in way:
        return [*way[way.index(name):], name]
    if name in done or name not in templates:
        return []
    done.add(name)
    for wanted in templates[name].extends:
        circle = _circle(wanted, templates, done, [*way, name])
        if circle:
            return circle
    return []


def _there_are(names: Mapping[str, Any], what: str) -> str:
    return f"there are {', '.join(names)}" if names else f"there are no {what}"
