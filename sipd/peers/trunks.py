"""All trunks: peers that are carriers, what calls to them look like, and who is registered where."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from hashlib import blake2b
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from sipd import config_trunks
from sipd.auth.keyring import Keyring
from sipd.inventory import Inventory, Table
from sipd.journal import Journal
from sipd.message.address import Address
from sipd.message.hop import Hop
from sipd.message.identifiers import Entropy, Identifiers, chance
from sipd.message.uri import Uri, escape
from sipd.peers import registration as machine
from sipd.peers.trunk import Trunk
from sipd.proxy.dressing import Wardrobe
from sipd.proxy.identity import Account
from sipd.proxy.targets import Target
from sipd.wheel import TimerWheel

if TYPE_CHECKING:
    from sipd.core.uac import Uac
    from sipd.peers.policy import Policies

#: Trunks of one server.
MOST = 1000
#: Seconds between the first registrations of two trunks at the start.
SPREAD = 0.05


class Trunks:
    """All trunks. `aor(user)` gives the address-of-record of a user here, `wall` seconds since the epoch; `secret`
    must be the same after a restart."""

    def __init__(self, uac: Uac, wheel: TimerWheel, identifiers: Identifiers, entropy: Entropy, secret: bytes,
                 aor: Callable[[str], str], wall: Callable[[], float], journal: Journal, inventory: Inventory,
                 policies: Policies) -> None:
        self.uac = uac
        self.wheel = wheel
        self.identifiers = identifiers
        self.entropy = entropy
        self.secret = secret
        self.aor = aor
        self.wall = wall
        self.journal = journal
        self._policies = policies
        self.trunks: Table[str, Trunk] = inventory.table("peers with a uri", MOST)
        #: Those that we register with, by the user part of their Contact.
        self.contacts: Table[str, Trunk] = inventory.table("peer contacts", MOST)
        self.wardrobe = Wardrobe(inventory, int(wall()), MOST)
        #: Whether a trunk of that name was asked by OPTIONS and does not answer.
        self.silent: Callable[[str], bool] = _answers
        #: Those whose registration is being taken away.
        self._leaving: Table[Trunk, None] = inventory.table("peers being left", 2 * MOST)
        self._wanted: dict[str, config_trunks.Peer] = {}
        self._stopped: Callable[[], None] | None = None

    def chance(self) -> float:
        """A number from 0 to 1."""
        return chance(self.entropy)

    def opaque(self, name: str) -> str:
        """A user part that nobody can guess and that is always the same for this trunk."""
        return "t" + blake2b(name.encode(), key=self.secret[:64], digest_size=10, person=b"trunk").hexdigest()

    def configure(self, wanted: Mapping[str, config_trunks.Peer]) -> None:
        """Makes the trunks what the configuration says: those that are gone or changed unregister first (s10.2.2),
        those that stay are left alone."""
        self._wanted = dict(wanted)
        for name, trunk in list(self.trunks.items()):
            there = wanted.get(name)
            if there is None or there.line != trunk.config.line:
                self._drop(trunk)
            else:
                trunk.config = there
                self.wardrobe.accounts[name] = self._dressed(trunk)
        leaving = {trunk.name for trunk in self._leaving}
        for place, name in enumerate([name for name in wanted if name not in self.trunks and name not in leaving]):
            self._begin(name, place * SPREAD)

    def stop(self, seconds: float, done: Callable[[], None]) -> None:
        """Takes every registration away and calls `done` once, after `seconds` at the latest."""
        self._stopped = done
        self._wanted = {}
        for trunk in list(self.trunks.values()):
            self._drop(trunk)
        if not self._leaving:
            self._finish(None)
        else:
            self.wheel.start(seconds, self._finish, None)

    def _dressed(self, trunk: Trunk) -> Account:
        """How requests to a carrier look, and what answers its challenges."""
        config, policies, name = trunk.config, self._policies, trunk.name
        keyring = trunk.keyring if trunk.keyring.username and config.password.get_secret_value() else None

        def is_at(address: str) -> bool:
            policy = policies.trunks.get(name)
            return policy is not None and (policy.is_at(address) or policies.is_at(name, address))

        def trusted() -> bool:
            policy = policies.trunks.get(name)
            return policy is not None and policy.trust_identity

        return Account(name, config.carrier, keyring, config.from_user, config.from_domain, config.caller_id,
                       config.send_identity, is_at, trusted)

    def target_to(self, name: str, number: str) -> Target | None:
        """Where a call to a number goes by the trunk of that name; None when there is none."""
        trunk = self.trunks.get(name)
        if trunk is None:
            return None
        carrier = trunk.config.carrier
        target = trunk.target()
        target.peer = name
        user = escape(number)
        target.uri = str(Uri(carrier.scheme, user, None, carrier.host, carrier.port, carrier.params))
        target.dress = self.wardrobe.going(name)
        return target

    def mailbox(self, name: str, number: str) -> tuple[Target, str, Keyring] | None:
        """Where the mailbox of a number is at the trunk of that name, our address there, and what it is shown for
        credentials; None when there is none."""
        target = self.target_to(name, number)
        if target is None:
            return None
        trunk = self.trunks[name]
        return target, trunk.account(), trunk.keyring

    def is_down(self, name: str) -> bool:
        """True when nothing is to be hoped of a trunk at present: its registrar refused us or cannot be had, it does
        not answer, or there is none of that name."""
        trunk = self.trunks.get(name)
        if trunk is None or self.silent(name):
            return True
        return trunk.config.registers and trunk.registration.state in (machine.REFUSED, machine.FAILED)

    def way_to(self, name: str) -> Uri:
        """What a request to the trunk of that name goes by first."""
        trunk = self.trunks[name]
        route = trunk.target().route
        return Address.parse(route[0]).uri if route else trunk.config.carrier

    def again(self, name: str) -> bool:
        """Registers a trunk now, whatever it waits for; False when there is none of that name that registers."""
        trunk = self.trunks.get(name)
        if trunk is None or not trunk.config.registers:
            return False
        trunk.start()
        return True

    def rows(self) -> list[dict[str, Any]]:
        """What `Trunk.row` tells, for each."""
        return [trunk.row() for trunk in self.trunks.values()]

    def found(self, name: str, hops: Iterable[Hop]) -> None:
        """A trunk is at these hops now: requests from there are its own."""
        self._policies.found_at(name, [(str(ip_address(hop.address)), hop.port) for hop in hops])

    def _begin(self, name: str, after: float) -> None:
        config = self._wanted[name]
        if self.trunks.full:
            self.trunks.refused += 1
            return
        trunk = self.trunks[name] = Trunk(self, name, config)
        self.wardrobe.accounts[name] = self._dressed(trunk)
        if config.registers:
            self.contacts[trunk.contact] = trunk
            if after:
                trunk.start_after(after)
            else:
                trunk.start()

    def _drop(self, trunk: Trunk) -> None:
        self.trunks.pop(trunk.name, None)
        self.wardrobe.accounts.pop(trunk.name, None)
        if self.contacts.get(trunk.contact) is trunk:
            del self.contacts[trunk.contact]
        self.found(trunk.name, ())
        self._leaving[trunk] = None
        trunk.stop(partial(self._left, trunk))

    def _left(self, trunk: Trunk) -> None:
        self._leaving.pop(trunk, None)
        if trunk.name in self._wanted:
            # changed: its removal must not come after what replaces it
            self._begin(trunk.name, 0.0)
        if self._stopped is not None and not self._leaving:
            self._finish(None)

    def _finish(self, nothing: None) -> None:
        done, self._stopped = self._stopped, _nothing
        if done is not None:
            done()


def _answers(name: str) -> bool:
    """As long as nobody asks, nobody is silent."""
    return False


def _nothing() -> None:
    """What is called where `done` was called already."""
