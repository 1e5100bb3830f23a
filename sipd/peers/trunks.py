"""Trunks: peers that are carriers, our registrations there, and who may call in on these (RFC 3261 s10.2, RFC 3608)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from hashlib import blake2b
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from zope.interface import classImplements

from sipd import config_trunks
from sipd.auth.keyring import Keyring
from sipd.core.uac import Ask, Outcome
from sipd.interfaces import IFlow, IFlowUser
from sipd.inventory import Inventory, Table
from sipd.journal import Journal
from sipd.message.address import Address
from sipd.message.errors import MalformedMessage
from sipd.message.hop import Hop
from sipd.message.identifiers import Entropy, Identifiers, chance
from sipd.message.message import Response
from sipd.message.uri import Uri, escape
from sipd.message.values import delta_seconds
from sipd.peers import registration as machine
from sipd.peers.registration import Registration
from sipd.proxy.dressing import Wardrobe
from sipd.proxy.identity import Account
from sipd.proxy.targets import Target
from sipd.wheel import Timer, TimerWheel

if TYPE_CHECKING:
    from sipd.core.uac import Sending, Uac
    from sipd.peers.policy import Policies

#: Trunks of one server.
MOST = 1000
#: Seconds between the first registrations of two trunks at the start.
SPREAD = 0.05
#: How long a registration that is taken away may take (seconds).
LEAVING = 4.0
#: The longest binding that is believed (seconds).
_LONGEST = 86400
#: Values of Service-Route that are kept, and the characters of one.
_ROUTES, _ROUTE_LENGTH = 10, 500


class Trunk:
    """One carrier, and the account there."""

    __slots__ = ("name", "config", "contact", "aor", "keyring", "registration", "hop", "until", "reason", "since",
                 "service_route", "_trunks", "_ask", "_sending", "_timer", "_due_at", "_flow", "_over",
                 "_told", "_stood")

    def __init__(self, trunks: Trunks, name: str, config: config_trunks.Peer) -> None:
        self._trunks = trunks
        self.name = name
        self.config = config
        #: The user part of our Contact: the same after a restart.
        self.contact = config.contact_user or trunks.opaque(name)
        #: The address-of-record that gets its calls, "" for nobody's.
        self.aor = trunks.aor(config.inbound_to) if config.inbound_to else ""
        self.keyring = Keyring(config.auth_username or config.username, config.password.get_secret_value(),
                               trunks.entropy)
        self.registration = Registration(config.register_expires, trunks.chance)
        #: Where it is registered, or was tried last.
        self.hop: Hop | None = None
        #: When the binding ends (seconds of the clock), 0 without one.
        self.until = 0.0
        #: What the registrar said last, and since when the state is what it is (seconds since the epoch).
        self.reason = ""
        self.since = trunks.wall()
        #: Route values of later requests to it (RFC 3608 s5).
        self.service_route: tuple[str, ...] = ()
        self._ask = Ask(
            "REGISTER", self.target(True), f"<{self.account()}>", f"<{self.account()}>;tag={trunks.identifiers.tag()}",
            trunks.identifiers.tag(), contact=self.contact, keyring=self.keyring)
        # RFC 3263 s4.4: what is refreshed goes to the same server, as long as that one answers
        self._ask.chance = blake2b(name.encode(), key=trunks.secret[:64], digest_size=4).digest()
        self._sending: Sending | None = None
        self._timer: Timer | None = None
        self._due_at = 0.0
        self._flow: IFlow | None = None
        self._over: Callable[[], None] | None = None
        #: When it was told to stop there was something to take away.
        self._stood = False
        #: The state that the journal knows.
        self._told = machine.UNREGISTERED

    # --- addresses

    def account(self) -> str:
        """The address-of-record at the carrier, as a URI (s10.2); the carrier's own without an account."""
        carrier = self.config.carrier
        host = self.config.from_domain or carrier.host
        user = escape(self.config.username)
        return f"{carrier.scheme}:{user}@{host}" if user else f"{carrier.scheme}:{host}"

    def target(self, registering: bool = False) -> Target:
        """Where requests to the carrier go: by the proxy of the configuration or straight, and what is no REGISTER by
        the Service-Route (RFC 3608 s5)."""
        route = self.config.route
        routes = () if registering else self.service_route
        return Target(str(self.config.carrier), routes or ((route,) if route else ()))

    # --- the registration

    def start(self) -> None:
        """Registers now, if it is to register at all."""
        if self.config.registers:
            self._perform(self.registration.start())

    def start_after(self, seconds: float) -> None:
        """Registers in a while."""
        self._start_timer(seconds)

    def stop(self, over: Callable[[], None]) -> None:
        """Takes the registration away; `over` is called once, when that is answered or was waited for long enough."""
        self._over = over
        self._stood = self.until > self._trunks.wheel.now
        self._leave_flow()
        self._perform(self.registration.stop())

    def flow_failed(self, reason: str) -> None:
        """See IFlowUser: the connection over which we are registered is gone."""
        self._flow = None
        self._perform(self.registration.lost())

    def _perform(self, outputs: list[machine.Output]) -> None:
        for kind, payload in outputs:
            if kind == machine.SEND:
                self._send(payload)
            elif kind == machine.START:
                self._start_timer(payload)
            elif kind == machine.STOP:
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
            elif kind == machine.ABANDON:
                if self._sending is not None:
                    self._sending.cancel()
                    self._sending = None
            elif kind == machine.OVER:
                self._note(Outcome(0, "taken away"))
                over, self._over = self._over, None
                if over is not None:
                    over()

    def _start_timer(self, seconds: float) -> None:
        wheel = self._trunks.wheel
        self._due_at = wheel.now + seconds
        self._timer = wheel.start(seconds, self._due, None)

    def _due(self, nothing: None) -> None:
        self._timer = None
        self.start()

    def _send(self, expires: int) -> None:
        ask = self._ask
        ask.expires = expires
        ask.patience = 0.0 if expires else LEAVING
        self._sending = self._trunks.uac.send(ask, self._answered)
        if self._sending is None:
            self._answered(Outcome(0, "too much is under way here"))

    def _answered(self, outcome: Outcome) -> None:
        self._sending = None
        ask, response = self._ask, outcome.response
        granted = 0
        if outcome.hop is not None:
            self.hop = outcome.hop
        if ask.expires:
            # what it wants at the least is asked for at once the next time
            self.registration.expires = ask.expires
        if response is not None and 200 <= outcome.status < 300 and ask.expires:
            granted = granted_seconds(response, self.contact, ask.expires)
            self.until = self._trunks.wheel.now + granted if granted else 0.0
            self.service_route = service_route(response)
            self._trunks.found(self.name, outcome.hops)
            self._join_flow(outcome.flow)
        else:
            self._leave_flow()
        outputs = self.registration.answered(outcome.status, granted, outcome.retry_after)
        if self.registration.state in (machine.REFUSED, machine.UNREGISTERED):
            self.until = 0.0
            self._trunks.found(self.name, ())
        if machine.OVER not in (kind for kind, _ in outputs):
            self._note(outcome)
        self._perform(outputs)

    def _join_flow(self, flow: IFlow | None) -> None:
        """A connection that ends takes the carrier's way to us with it: it is made anew then."""
        self._leave_flow()
        if flow is not None and flow.reliable:
            self._flow = flow
            flow.users.add(self)

    def _leave_flow(self) -> None:
        flow, self._flow = self._flow, None
        if flow is not None:
            flow.users.discard(self)

    def _note(self, outcome: Outcome) -> None:
        """Keeps what people ask for, and writes to the journal what is new."""
        state = self.registration.state
        self.reason = f"{outcome.status} {outcome.reason}".strip() if outcome.status else outcome.reason
        if state != self._told:
            self.since = self._trunks.wall()
        journal = self._trunks.journal
        was, self._told = self._told, state
        if not journal.sinks:
            return
        seconds = round(self.registration.wait)
        if state == machine.REGISTERED and was != state:
            journal.write("peer-registered", peer=self.name, hop=str(self.hop or "its server"),
                          expires=round(self.until - self._trunks.wheel.now))
        elif state == machine.REFUSED:
            journal.write("peer-refused", peer=self.name, reason=self.reason, seconds=seconds)
        elif state == machine.FAILED:
            journal.write("peer-failed", peer=self.name, reason=self.reason, seconds=seconds)
        elif state == machine.UNREGISTERED and self._stood:
            journal.write("peer-unregistered", peer=self.name)

    # --- for people

    def row(self) -> dict[str, Any]:
        """What a person wants to know; times in seconds, `next` until the next REGISTER."""
        now = self._trunks.wheel.now
        return {
            "name": self.name,
            "uri": str(self.config.carrier),
            "account": self.account(),
            "state": self.registration.state if self.config.registers else "not wanted",
            "reason": self.reason,
            "since": round(self.since),
            "server": str(self.hop or ""),
            "address": self.hop.address if self.hop is not None else self.config.carrier.host,
            "port": self.hop.port if self.hop is not None else self.config.carrier.port or 0,
            "transport": self.hop.transport if self.hop is not None else self.config.carrier.param("transport") or "",
            "expires": max(0, round(self.until - now)),
            "next": max(0, round(self._due_at - now)) if self._timer is not None else 0,
            "contact": self.contact if self.config.registers else "",
            "user": self.aor,
            "service_route": list(self.service_route),
        }


classImplements(Trunk, IFlowUser)


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


def granted_seconds(response: Response, contact: str, asked: int) -> int:
    """For how long a 2xx to a REGISTER grants the contact with that user part (s10.2.4, s10.3 step 8), 0 for not at
    all. Some registrars list the contact under another address: what they say in general counts then."""
    in_general = delta_seconds(response.first.get("expires", ""))
    usual = asked if in_general is None else in_general
    ours: list[int] = []
    others: list[int] = []
    for value in response.values("contact"):
        try:
            address = Address.parse(value)
            seconds = delta_seconds(address.params.get("expires") or "")
            (ours if address.uri.user == contact else others).append(usual if seconds is None else seconds)
        except MalformedMessage:
            continue
    if not ours:
        ours = others if len(others) == 1 else [usual]
    return min(max(ours), _LONGEST)


def service_route(response: Response) -> tuple[str, ...]:
    """The Service-Route of a 2xx to a REGISTER (RFC 3608 s6.1), none of it where a part cannot be used."""
    routes = response.values("service-route")
    try:
        if len(routes) > _ROUTES or any(len(value) > _ROUTE_LENGTH or not Address.parse(value).uri.is_sip
                                        for value in routes):
            return ()
    except MalformedMessage:
        return ()
    return tuple(routes)
