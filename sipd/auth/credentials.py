"""The users of this server, in memory: who may log in, by which names, with which secrets.

A user is one address-of-record, `name@domain`, and logs in as `name` or as `name@domain`; H(A1) covers the name as the
phone sends it, so a user has a secret for each of the two per algorithm. Users of a tenant may share their bare names
with users of the first domain: then the domain the request speaks of tells them apart.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipd.auth.digest import HASHES, ha1

if TYPE_CHECKING:
    from sipd.auth.user_store import StoredUser

#: (algorithm, login name) to H(A1) in lower-case hexadecimal.
Secrets = Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in. `aor` is `name@domain`, as `Binding.aor`; no secret shows in its repr."""

    aor: str
    secrets: Secrets = field(repr=False)
    display_name: str = ""
    #: The only algorithms this user may use; empty: those of the server.
    algorithms: tuple[str, ...] = ()
    #: True when it came from the user store, False when from the configuration.
    stored: bool = False

    @property
    def name(self) -> str:
        """The user part of the address-of-record."""
        return self.aor.rpartition("@")[0]


def opaque_string(password: str) -> str:
    """A password as its user and we must write it alike to get the same H(A1) (RFC 7616 s4, RFC 7613 s4.2): every space
    is the plain one, and the rest stands in normalization form C."""
    return unicodedata.normalize("NFC", "".join([
        " " if unicodedata.category(letter) == "Zs" else letter for letter in password]))


def secrets_for(aor: str, realm: str, password: str,
                algorithms: Iterable[str] = tuple(HASHES)) -> dict[tuple[str, str], str]:
    """H(A1) for both login names of an address-of-record and each algorithm (RFC 7616 s3.4.2)."""
    password = opaque_string(password)
    return {(algorithm, login): ha1(algorithm, login, realm, password)
            for algorithm in algorithms for login in (aor.rpartition("@")[0], aor)}


class Users:
    """All users, found by address-of-record or login name. A change takes effect with the next request.

    `domain` is the first domain; `tenants` the further places with users of their own; all in lower case. Its size is
    set by the administrator, not by the network, so it has no bound of its own.
    """

    __slots__ = ("_domain", "_tenants", "_users", "_accounts", "ambiguous")

    def __init__(self, domain: str, tenants: Iterable[str] = ()) -> None:
        self._domain = domain
        self._users: dict[str, User] = {}
        #: Peers that log in and are no users, by login name.
        self._accounts: dict[str, User] = {}
        self.places(tenants)

    def aor(self, name: str) -> str:
        """The address-of-record of a configured name: `1001` is of the first domain, `1001@two.example` of its own."""
        local, at, domain = name.rpartition("@")
        return f"{local}@{domain.lower()}" if at else f"{name}@{self._domain}"

    def add(self, user: User) -> None:
        """Enters a user, in place of one of the same address-of-record."""
        self._users[user.aor] = user

    def configure(self, name: str, realm: str, algorithms: Iterable[str], password: str = "",
                  digests: Mapping[str, str] | None = None, display_name: str = "", only: tuple[str, ...] = ()) -> User:
        """Enters a user of the configuration, known by a password or by `digests`, algorithm to H(A1).

        `algorithms` are the server's, `only` those this user may use. Which login name a given H(A1) was made for
        cannot be seen, so it is tried with both.
        """
        aor = self.aor(name)
        secrets = secrets_for(aor, realm, password, algorithms) if password else {
            (algorithm, login): secret.lower() for algorithm, secret in (digests or {}).items()
            for login in (aor.rpartition("@")[0], aor)}
        user = User(aor, secrets, display_name, only)
        self.add(user)
        return user

    def account(self, peer: str, realm: str, algorithms: Iterable[str], login: str, password: str) -> None:
        """Enters a peer that logs in as `login` and is no user: its address-of-record is `peer@`, which is nobody's."""
        password = opaque_string(password)
        self._accounts[login] = User(f"{peer}@", {
            (algorithm, login): ha1(algorithm, login, realm, password) for algorithm in algorithms})

    def load(self, stored: Iterable[StoredUser]) -> None:
        """Makes the users of the store what the store holds now; a configured user hides a stored one of its name."""
        for aor in [user.aor for user in self._users.values() if user.stored]:
            del self._users[aor]
        for entry in stored:
            if entry.aor not in self._users:
                self._users[entry.aor] = User(entry.aor, entry.secrets, entry.display_name, stored=True)

    def places(self, tenants: Iterable[str]) -> None:
        """Other further places with users of their own."""
        self._tenants = frozenset(tenants)
        #: True when a bare login name can mean users of several places.
        self.ambiguous = bool(self._tenants)

    def forget_configured(self) -> None:
        """Forgets the users and accounts of the configuration, so that others can be entered; `load` then brings back
        those of the store whom they hid."""
        self._accounts.clear()
        for aor in [user.aor for user in self._users.values() if not user.stored]:
            del self._users[aor]

    def remove(self, aor: str) -> bool:
        """Forgets a user; False when there was none."""
        return self._users.pop(aor, None) is not None

    def by_aor(self, aor: str) -> User | None:
        """The user of an address-of-record."""
        return self._users.get(aor)

    def get(self, login: str, domain: str = "") -> User | None:
        """The user who logs in as `login`; `domain` is what the request speaks of, needed only when `ambiguous`."""
        users = self._users
        user = None
        if "@" in login:
            usual = users.get(self.aor(login))  # looked up whatever comes of it, so that nobody costs what a user does
            user = users.get(login) or usual
        # a name may hold an "@" of its own
        user = user or self._users.get(f"{login}@{domain if domain in self._tenants else self._domain}")
        return self._accounts.get(login) if user is None else user

    def __iter__(self) -> Iterator[User]:
        return iter(self._users.values())

    def __len__(self) -> int:
        return len(self._users)
