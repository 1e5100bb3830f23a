"""The composition root: builds the server bottom-up, starts it, stops it. Reads as its parts list."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from sipd import __version__, certificate, first_start, state
from sipd.admin.api import Api
from sipd.admin.commands import StatusCommands, UserCommands
from sipd.admin.control_socket import ControlSocket
from sipd.auth.authenticator import Authenticator
from sipd.auth.credentials import Users
from sipd.auth.nonce import Nonces
from sipd.auth.user_store import UserStore, UserStoreError
from sipd.config import Config
from sipd.core.overload import Overload
from sipd.core.places import Places
from sipd.core.refusals import Refusals
from sipd.core.route import Route
from sipd.core.shedding import Shedding
from sipd.core.uac import Uac
from sipd.interfaces import ILocationStore, IResolver, ITransports
from sipd.inventory import Inventory
from sipd.journal import Journal
from sipd.location.service import Location
from sipd.location.store import MemoryStore, SqliteStore, StoreError
from sipd.message.bounds import Bounds
from sipd.message.identifiers import Entropy, Identifiers
from sipd.peers.qualify import Qualify
from sipd.peers.trunks import Trunks
from sipd.proxy.proxy import Proxy, ProxyValues
from sipd.proxy.route_headers import RouteHeaders
from sipd.proxy.token import RouteToken
from sipd.registrar.registrar import Registrar
from sipd.registrar.rules import Limits
from sipd.resolver.resolver import Resolver
from sipd.resolver.system import Client
from sipd.state import StateError, StateLock
from sipd.transaction.layer import TransactionLayer
from sipd.transaction.timers import TimerValues
from sipd.transport.layer import ListenError, Transports
from sipd.transport.tls import CertificateError
from sipd.wheel import TimerWheel

#: Seconds that carriers have for our farewell when the server stops.
_HANG_UP = 2.0
#: Octets of the secret that keys our Record-Route tokens and To tags, kept in the state directory.
_SECRET = 32


@dataclass(frozen=True, slots=True)
class Outside:
    """What the core is given of the world: sockets, names, storage, time and chance."""

    transports: ITransports
    resolver: IResolver
    store: ILocationStore
    clock: IReactorTime
    #: Seconds since the epoch.
    wall: Callable[[], float]
    entropy: Entropy


class Core:
    """Everything between the sockets and the disk: the same in the server and in a test that runs in virtual time.

    `secret` keys tokens and tags and must be the same after a restart.
    """

    def __init__(self, config: Config, domain: str, realm: str, secret: bytes, users: Users, outside: Outside,
                 journal: Journal, inventory: Inventory) -> None:
        transports, clock = outside.transports, outside.clock
        self.config, self._users, self._journal = config, users, journal
        timers = config.timers
        self.wheel = TimerWheel(clock)
        self.places = Places(domain, config.server.domains, config.server.tenants, lambda: transports.listeners,
                             [listen.advertise for listen in config.listen if listen.advertise])
        outside.resolver.own = self.places.hops
        limits = config.limits
        self.layer = TransactionLayer(
            transports, self.wheel, TimerValues(timers.t1, timers.t2, timers.t4), inventory, journal,
            limits.transactions,
            Bounds(limits.message_size, limits.header_size, limits.header_length, limits.header_count, limits.vias,
                   limits.routes, limits.uri_length))
        refusals = Refusals(self.layer, secret, inventory, config.overload.retry_after, config.overload.retry_spread)
        self.shedding = Shedding(
            clock, Overload(config.overload.delay), self.layer, refusals, secret, journal, inventory)
        token = RouteToken(secret)
        self.routes = RouteHeaders(token, self.places.is_ours, limits.routes)
        self.location = Location(outside.store, clock, outside.wall, journal, inventory, limits.bindings)
        registrar = Registrar(
            self.location, Limits(config.registrar.min_expires, config.registrar.default_expires,
                                  config.registrar.max_expires, config.registrar.max_contacts),
            outside.wall, journal, inventory)
        authenticator = Authenticator(
            users, Nonces(clock, outside.entropy, inventory, limit=limits.nonces), realm, config.auth.algorithms,
            self.places.place, outside.entropy, config.auth.required)
        self.proxy = Proxy(
            self.layer, transports, outside.resolver, self.routes, token, Identifiers(outside.entropy), refusals.tag,
            ProxyValues(config.proxy.record_route, config.proxy.ring_timeout, config.proxy.hop_timeout,
                        config.proxy.recurse, timers.c, limits.branches),
            inventory, journal, limits.transactions)
        self.uac = Uac(self.proxy, inventory)
        self.trunks = Trunks(self.uac, self.wheel, self.proxy.identifiers, outside.entropy, secret, self._aor,
                             outside.wall, journal, inventory)
        self.qualify = Qualify(
            config.qualify, self.uac, self.wheel, self.location, self.trunks, self._qualified_every, domain,
            self.proxy.identifiers, outside.entropy, outside.wall, journal, inventory)
        self.layer.core = Route(
            self.layer, self.places, users, authenticator, refusals, self.routes, registrar, self.location, self.proxy,
            journal, auth_required=config.auth.required, open_registrar=config.registrar.open,
            guests=config.proxy.guests, trunks=self.trunks.contacts, unreachable=self.qualify.unreachable)

    def call_out(self, config: Config) -> None:
        """Registers at the trunks of the configuration and begins to ask who answers; once the listeners are open,
        and again with another configuration."""
        self.config = config
        self.trunks.configure(config.trunks)
        self.qualify.start(config.qualify, config.qualify.users or any(
            entry.qualify for entry in config.users.values()))

    def hang_up(self, seconds: float) -> Deferred[None]:
        """Asks nobody any more and takes our registrations away (s10.2.2); fires after `seconds` at the latest."""
        done: Deferred[None] = Deferred()
        self.qualify.stop()
        self.trunks.stop(seconds, lambda: done.callback(None))
        return done

    def _aor(self, user: str) -> str:
        """The address-of-record of a user as the configuration names them."""
        name, at, domain = user.rpartition("@")
        return f"{name}@{domain.lower()}" if at else f"{user}@{self.places.domain}"

    def _qualified_every(self, aor: str) -> float:
        """Seconds between two questions to the phones of an address-of-record, 0 for none."""
        entry = self.config.users.get(aor) or self.config.users.get(aor.rpartition("@")[0])
        settings = self.config.qualify
        wanted = settings.users if entry is None or entry.qualify is None else entry.qualify
        return float(settings.interval if wanted is True else wanted)

    def user_changed(self, aor: str) -> None:
        """Called after a user was added, changed or removed: one who is gone is not called any more."""
        gone = self.location.latest(aor) if self._users.by_aor(aor) is None else []
        if gone:
            self.location.change(aor, [("delete", binding) for binding in gone], lambda reason: None)
        for binding in gone:
            self._journal.write("registration-lost", aor=aor, contact=binding.contact, reason="the user was removed")

    def listening(self) -> None:
        """Tells the parts that know listeners by heart; called whenever these change."""
        self.places.refresh()
        for listener in self.layer.transports.listeners:
            self.routes.know(listener)


def configured_users(users: Users, config: Config, realm: str) -> None:
    """Enters the users of the configuration, who are kept in memory only."""
    for name, entry in config.users.items():
        users.configure(
            name, realm, config.auth.algorithms, entry.password.get_secret_value() if entry.password else "",
            {algorithm: secret.get_secret_value() for algorithm, secret in entry.ha1.items()},
            entry.display_name, entry.algorithms)


class Server(MultiService):
    """The server as a twisted service. Nothing is opened before `startService`: twistd forks before it."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.journal = Journal()
        self.journal.calls, self.journal.registrations = config.log.calls, config.log.registrations
        self.inventory = Inventory()
        self.core: Core | None = None
        self._lock = StateLock(config.server.state_dir)
        self._user_store: UserStore | None = None
        self._transports: Transports | None = None
        self._control: ControlSocket | None = None
        self._dns: Client | None = None

    def startService(self) -> None:
        """Opens state, stores and sockets. Raises StateError or OSError, whose text is for people."""
        from twisted.internet import reactor

        super().startService()
        try:
            self._start(reactor)
        except (ListenError, CertificateError, StoreError) as error:
            raise StateError(str(error)) from error

    def _start(self, reactor: Any) -> None:
        config, directory = self.config, self.config.server.state_dir
        _steady_clock(reactor)
        state.ensure(directory)
        if not self._lock.acquire():
            raise StateError(f"[server] state_dir = {directory}: process {self._lock.holder()} holds it; "
                             "one server at a time, or another --state-dir")
        self._lock.sign()
        here = first_start.identity(config)
        users = Users(here.domain, config.server.tenants)
        store = self._user_store = UserStore(config.path(state.USERS))
        store.open()
        made = first_start.first_users(config, here, store, os.urandom)
        if made:  # told at once: the passwords cannot be shown again
            self.journal.write("first-start", note=first_start.announce(config, made))
        configured_users(users, config, here.realm)
        users.load(store.users())
        self._transports = Transports(
            config.listen, config.limits, reactor=reactor, clock=reactor, entropy=os.urandom, journal=self.journal,
            inventory=self.inventory, certificate=self._certificate())
        self._dns = Client(reactor, config.proxy.dns_timeout)
        resolver = Resolver(
            reactor, self._dns, self.inventory, os.urandom, transports=("udp", "tcp", "tls"), families=(4, 6),
            dns_timeout=config.proxy.dns_timeout, cache=config.limits.dns_cache, journal=self.journal)
        bindings: ILocationStore = MemoryStore() if config.location.store == "memory" else SqliteStore(
            config.path(state.BINDINGS), reactor.callFromThread, time.time, self.inventory, sync=config.location.sync)
        core = self.core = Core(
            config, here.domain, here.realm, _secret(directory), users,
            Outside(self._transports, resolver, bindings, reactor, time.time, os.urandom), self.journal, self.inventory)
        core.location.start()
        self._transports.receive = core.layer.receive
        self._transports.changed = core.listening
        self._transports.start()
        if config.overload.shed:
            core.shedding.start(self._transports.lag)
        self._control = self._api(core, users, store, here)
        self._control.start()
        core.call_out(config)
        _tune_collector()

    def _certificate(self) -> tuple[str, str] | None:
        """The self-signed certificate, where a TLS listener names no other."""
        if not any(listen.transport == "tls" and not listen.certificate for listen in self.config.listen):
            return None
        names = [*self.config.server.domains, *first_start.server_addresses(self.config)]
        return certificate.self_signed(self.config.server.state_dir, names, time.time())

    def _api(self, core: Core, users: Users, store: UserStore, here: first_start.Identity) -> ControlSocket:
        from twisted.internet import reactor

        def changed(aor: str) -> None:
            users.load(store.users())
            core.user_changed(aor)

        api = Api()
        UserCommands(store, UserStoreError, here.domain, (*self.config.server.domains, *self.config.server.tenants),
                     here.realm, changed).register(api)
        transports = self._transports
        assert transports is not None
        StatusCommands(core.location, lambda: transports.listeners, self.inventory, here.domain, time.time, __version__,
                       lambda: {"stray responses dropped": core.layer.strays,
                                "messages malformed or past a bound": core.layer.malformed,
                                "new requests refused in overload": core.shedding.overload.refused,
                                "datagrams lost, receive buffer full": transports.lost,
                                "datagrams dropped, send buffer full": transports.dropped,
                                **{f"connections ended, {why}": count for why, count in transports.cut.items()}},
                       core.shedding.overload).register(api)
        return ControlSocket(self.config.path(state.SOCKET), api, reactor, self.inventory)

    @inlineCallbacks
    def stopService(self) -> Any:
        """Takes our registrations away, then closes sockets, then stores: what was acknowledged is on disk when this
        fires."""
        yield super().stopService()
        if self.core is not None and self._transports is not None and self._transports.listeners:
            yield self.core.hang_up(_HANG_UP)
        if self.core is not None:
            self.core.shedding.stop()
        if self._control is not None:
            yield self._control.stop()
        if self._transports is not None:
            yield self._transports.stop()
        if self._dns is not None:
            self._dns.close()
        if self.core is not None:
            self.core.location.stop()
        if self._user_store is not None:
            self._user_store.close()
        self._lock.release()


def make_service(config: Config) -> Server:
    """The server, not started."""
    return Server(config)


def _secret(directory: str) -> bytes:
    """The secret of this server, made at its first start."""
    text = state.read(directory, state.SECRET)
    if len(text) != 2 * _SECRET:
        text = os.urandom(_SECRET).hex()
        state.write(directory, state.SECRET, f"{text}\n".encode())
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise StateError(f"{os.path.join(directory, state.SECRET)}: not {2 * _SECRET} hexadecimal digits; "
                         "remove it and a new one is made (calls in progress then lose their route)") from None


def _steady_clock(reactor: Any) -> None:
    """Timers by the monotonic clock: the reactor's own is time.time, and a clock set back would stop them all."""
    if not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic


def _tune_collector() -> None:
    """What is here now stays: the collector need not look at it again. Transactions make no cycles, so full passes are
    rare on purpose: one over 300,000 objects takes tens of milliseconds. Passes over what is new are short: 2,000
    objects are still in the processor's caches and take 0.3 ms, where 20,000 took 6 to 12."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 500, 100)
