"""Peers as policy: what each may do and how it is known, found in constant time however many there are. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from typing import Any, Final

from sipd.config_peers import ADDRESS, CREDENTIALS, EVERYBODY, TLS, AclSection, Template, merged
from sipd.config_trunks import Peer
from sipd.peers.networks import Acl, Networks

#: The kinds of those who send requests. A guest is a stranger who may call our users.
USER, TRUNK, GUEST = "user", "trunk", "guest"

#: The keys that make a policy more than the usual one where they say anything.
_NOTABLE: Final = ("source_acl", "contact_acl", "call_limit", "busy_level", "methods", "trust_identity", "caller_name")
#: Characters of what is called that patterns see.
_SEEN: Final = 256


@dataclass(frozen=True, slots=True)
class Policy:
    """What a peer may do and how it is known."""

    #: The name of the peer; "" for the one of all who have none of their own.
    name: str = ""
    kind: str = USER
    #: The address-of-record of a user, or of the user who gets a trunk's calls; "" for none.
    aor: str = ""
    #: True when nothing need be looked at: everything is allowed.
    plain: bool = True
    identify_by: tuple[str, ...] = (CREDENTIALS,)
    #: Where it is besides where its `uri` leads, None for nowhere.
    addresses: Networks[bool] | None = None
    tls_names: frozenset[str] = frozenset()
    source_acl: Acl | None = None
    contact_acl: Acl | None = None
    #: Calls at once, and how many make it busy; 0 for any number.
    call_limit: int = 0
    busy_level: int = 0
    #: Whether what fits is allowed, whether it is elsewhere, and what fits; in order.
    may_call: tuple[tuple[bool, bool, re.Pattern[str]], ...] = ()
    #: Empty: all.
    methods: frozenset[str] = frozenset()
    trust_identity: bool = False
    caller_name: str = ""

    def says(self, called: str) -> bool | None:
        """What `may_call` says of a number or user here, or of `user@host` elsewhere; None where no pattern fits."""
        elsewhere = "@" in called
        for allowed, has_host, pattern in self.may_call:
            if has_host == elsewhere and pattern.match(called[:_SEEN]):
                return allowed
        return None

    def may_reach(self, called: str, inside: bool) -> bool:
        """Whether it may call this; `inside` is for one of our users, whom a trunk may call unless told otherwise."""
        said = self.says(called)
        return inside and self.kind != USER if said is None else said

    def is_at(self, address: str) -> bool:
        """True for a numeric address of the configuration's `addresses`."""
        return self.addresses is not None and self.addresses.find(address) is not None


#: Users without a section of their own.
USUAL: Final = Policy()
#: Whoever is in a dialog that was let through, and proves it by our token.
WITHIN: Final = Policy()
#: Strangers who may call our users, and nobody else.
STRANGER: Final = Policy(kind=GUEST, plain=False)


class Policies:
    """Everybody's policy. `in_use` tells how many calls a peer has: a user by address-of-record, a trunk by name."""

    __slots__ = ("users", "trunks", "in_use", "_near", "_networks", "_places", "_names", "by_source", "by_name")

    def __init__(self, in_use: Callable[[str], int]) -> None:
        #: By address-of-record; those who are not here have the usual one.
        self.users: dict[str, Policy] = {}
        #: By name.
        self.trunks: dict[str, Policy] = {}
        self.in_use = in_use
        #: True when some trunks are known by where their requests come from, and when some peers are known by the names
        #: in their certificates.
        self.by_source = self.by_name = False
        #: The trunks whose address is known exactly: by address and port of their own, and by address.
        self._near: dict[tuple[str, int], Policy] = {}
        self._networks: Networks[Policy] = Networks()
        #: Where each trunk's name leads: (address, port).
        self._places: dict[str, frozenset[tuple[str, int]]] = {}
        self._names: dict[str, Policy] = {}

    def configure(self, peers: Mapping[str, Peer], templates: Mapping[str, Template], acls: Mapping[str, AclSection],
                  aor: Callable[[str], str]) -> None:
        """Other policies from now on. `aor` gives the address-of-record of a user's name."""
        made = {name: Acl(name, acl.permit, acl.deny) for name, acl in acls.items()}
        self.users, self.trunks = {}, {}
        self._networks, self._names = Networks(), {}
        for name, peer in peers.items():
            values = {key: one.value for key, one in merged(name, peer, templates).items()}
            if not peer.uri:
                policy = _policy(name, USER, aor(name), values, made)
                if not policy.plain:
                    self.users[policy.aor] = policy
                continue
            policy = _policy(name, TRUNK, aor(peer.inbound_to) if peer.inbound_to else "", values, made)
            self.trunks[name] = policy
            if ADDRESS in policy.identify_by:
                for text in values["addresses"]:
                    self._networks.add(text, policy)
            if TLS in policy.identify_by:
                for text in policy.tls_names:
                    self._names.setdefault(text, policy)
        self.by_name = bool(self._names) or any(TLS in policy.identify_by for policy in self.users.values())
        self._places = {name: places for name, places in self._places.items() if name in self.trunks}
        self._index()

    def found_at(self, name: str, places: Iterable[tuple[str, int]]) -> None:
        """A trunk's name leads to these addresses and ports now; to none when it is not to be known by them."""
        found = frozenset(places)
        if found == self._places.get(name, frozenset()):
            return
        if found:
            self._places[name] = found
        else:
            del self._places[name]
        self._index()

    def _index(self) -> None:
        """Several trunks may be at one address: the port tells them apart, else the first one has it."""
        near: dict[tuple[str, int], Policy] = {}
        for name, policy in self.trunks.items():
            if ADDRESS in policy.identify_by:
                for address, port in self._places.get(name, ()):
                    near.setdefault((address, port), policy)
                    near.setdefault((address, 0), policy)
        self._near = near
        self.by_source = bool(near or self._names or len(self._networks))

    def at(self, address: str, port: int, names: Iterable[str] = ()) -> Policy | None:
        """The trunk that sends from a numeric address and port, or shows a certificate with one of these names; None
        for nobody known."""
        near = self._near
        policy = near.get((address, port)) or near.get((address, 0))
        if policy is None and len(self._networks):
            policy = self._networks.find(address)
        if policy is None:
            for name in names:
                policy = self._names.get(name)
                if policy is not None:
                    break
        return policy

    def is_at(self, name: str, address: str, names: Iterable[str] = ()) -> bool:
        """True when a trunk is at a numeric address, or shows a certificate with one of these names, and is known by
        that."""
        policy = self.trunks.get(name)
        if policy is None:
            return False
        if TLS in policy.identify_by and not policy.tls_names.isdisjoint(names):
            return True
        return ADDRESS in policy.identify_by and (
            policy.is_at(address) or any(address == one for one, _ in self._places.get(name, ())))

    def over_limit(self, policy: Policy, caller: str) -> bool:
        """True when a peer has as many calls as it may have."""
        return 0 < policy.call_limit <= self.in_use(caller)

    def is_busy(self, name: str) -> bool:
        """True when a user, by address-of-record, or a trunk has as many calls as count for busy, or may have."""
        policy = self.users.get(name) or self.trunks.get(name)
        if policy is None or not (policy.call_limit or policy.busy_level):
            return False
        calls = self.in_use(name)
        return 0 < policy.call_limit <= calls or 0 < policy.busy_level <= calls

    def limits(self, trunk: str, aor: str) -> tuple[int, int]:
        """The call limit and the busy level of a trunk, or of a user; 0 for none."""
        policy = self.users.get(aor) or self.trunks.get(trunk)
        return (policy.call_limit, policy.busy_level) if policy is not None else (0, 0)

    def limited(self) -> list[str]:
        """Who has a limit or a busy level: trunks by name, users by address-of-record."""
        return [name for name, policy in (*self.trunks.items(), *self.users.items())
                if policy.call_limit or policy.busy_level]


def _policy(name: str, kind: str, aor: str, values: Mapping[str, Any], acls: Mapping[str, Acl]) -> Policy:
    networks: Networks[bool] | None = None
    if values["addresses"]:
        networks = Networks()
        for text in values["addresses"]:
            networks.add(text, True)
    identify_by, may_call = values["identify_by"], values["may_call"]
    plain = kind == USER and identify_by == (CREDENTIALS,) and may_call == EVERYBODY and not any(
        map(values.get, _NOTABLE))
    return Policy(
        name, kind, aor, plain, identify_by, networks, frozenset(values["tls_names"]), acls.get(values["source_acl"]),
        acls.get(values["contact_acl"]), values["call_limit"], values["busy_level"], tuple(map(_pattern, may_call)),
        frozenset(values["methods"]), values["trust_identity"], values["caller_name"])


def _pattern(text: str) -> tuple[bool, bool, re.Pattern[str]]:
    """Whether what fits is allowed, whether it names a host, and what fits."""
    bare = text.removeprefix("!")
    return bare == text, "@" in bare, re.compile(translate(bare))
