"""The section [events] of the configuration: subscriptions, published state, who may watch whom."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from sipd.config_limits import Section
from sipd.config_trunks import as_uri

PackageName = Literal["presence", "dialog", "message-summary", "reg"]
Texts = Annotated[tuple[str, ...], Field(strict=False)]
#: The types of presence bodies, by the words of the configuration.
BODIES = {"pidf": "application/pidf+xml", "cpim-pidf": "application/cpim-pidf+xml", "xpidf": "application/xpidf+xml"}


#: What phones can dial.
_CODE = re.compile(r"[0-9*#]*")
#: What may be dialled for the voicemail: what needs no escape in a URI (RFC 3261 s25.1 user).
_DIALLED = re.compile(r"[A-Za-z0-9*+_.-]{1,64}")
#: The name of a header field, and those that a template may not bring.
_FIELD = re.compile(r"[A-Za-z0-9.!%*_+`'~-]{1,64}")
_OURS = frozenset({"via", "from", "to", "call-id", "cseq", "contact", "route", "record-route", "max-forwards", "event",
                   "subscription-state", "content-length", "content-type", "v", "f", "t", "i", "m", "l", "c", "o"})


def _pattern(value: str) -> str:
    if not value or len(value) > 256 or not value.isprintable() or " " in value:
        raise ValueError('a user, a name with * or ? in it such as "10??@example.com", or "*" for everybody is wanted')
    return value


class Rule(Section):
    """[[events.rules]]: what some see of others."""

    watcher: str = "*"
    watches: str = "*"
    #: Empty: all.
    packages: Annotated[tuple[PackageName, ...], Field(strict=False)] = ()
    #: "part": that there is a call, not with whom; "pending": nothing until this rule is another one.
    sees: Literal["whole", "part", "pending", "refuse"] = "whole"

    @field_validator("watcher", "watches")
    @classmethod
    def _readable(cls, value: str) -> str:
        return _pattern(value)


class NotifyTemplate(Section):
    """[events.templates.NAME]: what `sipctl notify NAME PEER` sends."""

    event: str = Field(min_length=1, max_length=200)
    #: Further header fields.
    headers: dict[str, str] = Field(default_factory=dict)
    content_type: str = "text/plain"
    body: str = Field(default="", max_length=10000)

    @field_validator("event", "content_type")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if not value.isascii() or not value.isprintable():
            raise ValueError('printable text such as "check-sync;reboot=true" is wanted')
        return value

    @field_validator("headers")
    @classmethod
    def _fields(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _FIELD.fullmatch(name) or name.lower() in _OURS or not text.isprintable():
                raise ValueError(f"{name!r}: a header field of one line, and none that every request has")
        return value


class Events(Section):
    """[events]: what is served by SUBSCRIBE and PUBLISH. Times in seconds."""

    #: The packages served here, with PUBLISH where they know it; others pass by to the phones.
    packages: Annotated[tuple[PackageName, ...], Field(strict=False)] = (
        "presence", "dialog", "message-summary", "reg")
    #: "domain": users of one domain may watch each other; "self": only themselves. Mailboxes and registrations are
    #: always one's own, unless a rule says otherwise.
    watch: Literal["domain", "self"] = "domain"
    #: What holds where nothing allows it: a refusal, or a subscription that tells nothing.
    otherwise: Literal["refuse", "pending"] = "refuse"
    #: Whether those who watch a user's calls without a rule see with whom they are.
    callers: bool = True
    #: False: a phone that rings is told of only when it has answered.
    notify_ringing: bool = True
    #: The first that fits decides.
    rules: Annotated[tuple[Rule, ...], Field(strict=False)] = ()
    #: Users who may publish the state of everybody, and whose NOTIFYs about mailboxes are believed: voicemail systems.
    publishers: Texts = ()
    #: User to the type of presence that their phones get whatever they ask for.
    bodies: dict[str, Literal["pidf", "cpim-pidf", "xpidf"]] = Field(default_factory=dict)
    #: Users whose phones are told of waiting messages without having asked.
    unsolicited: Texts = ()
    #: What phones dial to hear the messages: a number, or a SIP URI; "" is the user's own address.
    voicemail: str = Field(default="", max_length=128)
    #: User to the peer with a `uri` that has their mailbox: sipd subscribes to it there.
    mailboxes: dict[str, str] = Field(default_factory=dict)
    #: Package that is not served here to the peer with a `uri` that SUBSCRIBEs and PUBLISHes for it go to.
    relays: dict[str, str] = Field(default_factory=dict)
    #: What is dialled to take a call that rings at a colleague's phone, alone or before that phone's number.
    pickup: str = Field(default="", max_length=20)
    #: Whether a phone that picks up a call whose caller does not know Replaces is asked to answer it by itself; else it
    #: rings.
    pickup_auto_answer: bool = True
    #: Name to the users who may pick up each other's calls by that.
    pickup_groups: dict[str, Texts] = Field(default_factory=dict)
    #: Name to what `sipctl notify` sends, besides the names that are built in.
    templates: dict[str, NotifyTemplate] = Field(default_factory=dict)
    #: A shorter subscription or publication is refused with 423; a longer one is shortened.
    min_expires: int = Field(default=60, ge=1, le=3600)
    default_expires: int = Field(default=3600, ge=1, le=86400)
    max_expires: int = Field(default=3600, ge=1, le=86400)
    #: Subscriptions in all, and of one watcher; publications in all.
    subscriptions: int = Field(default=20000, ge=1, le=1000000)
    per_watcher: int = Field(default=500, ge=1, le=100000)
    publications: int = Field(default=20000, ge=1, le=1000000)
    #: NOTIFYs a second at most when many are to be told of changes.
    rate: int = Field(default=500, ge=1, le=100000)

    @field_validator("publishers", "unsolicited")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not name or not name.isprintable() or " " in name:
                raise ValueError(f'{name!r} is no user; one is written like "1001" or "1001@example.com"')
        return value

    @field_validator("voicemail")
    @classmethod
    def _account(cls, value: str) -> str:
        if value and not _DIALLED.fullmatch(value):
            uri = as_uri(value) if value.lower().startswith(("sip:", "sips:")) else None
            if uri is None or not value.isascii() or " " in value:
                raise ValueError('a number such as "*97" or a SIP URI such as "sip:voicemail@example.com" is wanted')
        return value

    @field_validator("pickup")
    @classmethod
    def _dialled(cls, value: str) -> str:
        if not _CODE.fullmatch(value):
            raise ValueError('digits, * and # such as "*8" are wanted')
        return value

    @field_validator("packages")
    @classmethod
    def _once(cls, value: tuple[PackageName, ...]) -> tuple[PackageName, ...]:
        if len(set(value)) != len(value):
            raise ValueError("each package once")
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Events:
        if not self.min_expires <= self.default_expires <= self.max_expires:
            raise ValueError("default_expires: not less than min_expires and not more than max_expires")
        wrong = [package for package in self.relays if package in self.packages]
        if wrong:
            raise ValueError(f"relays: {wrong[0]} is served here; take it out of packages, or out of relays")
        return self

    def check_peers(self, peers: Collection[str]) -> None:
        """What goes to a peer goes to one that is there: `peers` are those with a uri. Raises ValueError."""
        for key in ("mailboxes", "relays"):
            for what, peer in getattr(self, key).items():
                if peer not in peers:
                    known = f"there are {', '.join(sorted(peers))}" if peers else "there is none"
                    raise ValueError(f"{key}: {what} = {peer!r}: no [peers.{peer}] with a uri; {known}")
