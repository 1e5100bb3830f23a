"""The composition root: builds the server bottom-up, starts it, stops it. Reads as its parts list."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IReactorTime

from sipd import certificate, first_start, settings, state
from sipd.admin.control_socket import ControlSocket
from sipd.admin.http_api import CannotListen, HttpApi
from sipd.auth.authenticator import Authenticator
from sipd.auth.credentials import Users
from sipd.auth.nonce import Nonces
from sipd.auth.user_store import StoredUser, UserStore
from sipd.calls.ending import Ending
from sipd.calls.keeper import Keeper
from sipd.calls.table import Calls
from sipd.config import Config
from sipd.config_source import Source
from sipd.control_api import control_api
from sipd.controller.controller import Controller
from sipd.core.callers import Callers
from sipd.core.overload import Overload
from sipd.core.places import Places
from sipd.core.refusals import Refusals
from sipd.core.route import Route
from sipd.core.shedding import Shedding
from sipd.core.uac import Uac
from sipd.events.service import Events
from sipd.group_commit import StoreError
from sipd.interfaces import ILocationStore, IResolver, ITransports
from sipd.inventory import Inventory
from sipd.journal import Journal
from sipd.location.service import Location
from sipd.location.store import SqliteStore
from sipd.message.errors import MalformedMessage
from sipd.message.identifiers import Entropy, Identifiers
from sipd.message.uri import Uri
from sipd.messages.service import Messages
from sipd.peers.policy import Policies
from sipd.peers.qualify import Qualify
from sipd.peers.trunks import Trunks
from sipd.peers.whereabouts import Whereabouts
from sipd.proxy.proxy import Proxy
from sipd.proxy.route_headers import RouteHeaders
from sipd.proxy.token import RouteToken
from sipd.recollection import Recollection
from sipd.records import IRecords, MemoryRecords, SqliteRecords
from sipd.registrar.registrar import Registrar
from sipd.reloading import Reloading
from sipd.resolver.resolver import Resolver
from sipd.resolver.system import Client
from sipd.routing.script import ScriptError
from sipd.routing_parts import RoutingParts
from sipd.settings import configured_users
from sipd.state import StateError, StateLock
from sipd.transaction.layer import TransactionLayer
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
    store: ILocationStore | None
    clock: IReactorTime
    #: Seconds since the epoch.
    wall: Callable[[], float]
    entropy: Entropy
    #: Where messages for those who are not there are kept.
    messages: IRecords = field(default_factory=MemoryRecords)
    #: The directory of small files, "" keeps none.
    state_dir: str = ""
    #: Subscriptions and published state.
    records: IRecords = field(default_factory=MemoryRecords)


class Core:
    """Everything between the sockets and the disk: the same in the server and in a test that runs in virtual time.

    `secret` keys tokens and tags and must be the same after a restart.
    """

    def __init__(self, config: Config, domain: str, realm: str, secret: bytes, users: Users, outside: Outside,
                 journal: Journal, inventory: Inventory) -> None:
        transports, clock = outside.transports, outside.clock
        self.config, self.users, self.journal = config, users, journal
        self.realm, self.open_registrar = realm, config.registrar.open
        self.wheel = TimerWheel(clock)
        self.places = Places(domain, config.server.domains, config.server.tenants, lambda: transports.listeners,
                             settings.advertised(config))
        outside.resolver.own = self.places.hops
        limits = config.limits
        self.layer = TransactionLayer(
            transports, self.wheel, settings.timer_values(config), inventory, journal, limits.transactions,
            settings.message_bounds(config))
        overload = config.overload
        refusals = self.refusals = Refusals(self.layer, secret, inventory, overload.retry_after, overload.retry_spread)
        self.shedding = Shedding(
            clock, Overload(overload.delay), self.layer, refusals, secret, journal, inventory)
        token = RouteToken(secret)
        self.routes = RouteHeaders(token, self.places.is_ours, limits.routes)
        self.location = Location(outside.store, clock, outside.wall, journal, inventory, limits.bindings)
        self.registrar = Registrar(
            self.location, settings.registrar_limits(config), outside.wall, journal, inventory)
        self.nonces = Nonces(clock, outside.entropy, inventory, limit=limits.nonces)
        self.authenticator = Authenticator(
            users, self.nonces, realm, config.auth.algorithms, self.places.place, outside.entropy, config.auth.required)
        self.proxy = Proxy(
            self.layer, transports, outside.resolver, self.routes, token, Identifiers(outside.entropy), refusals.tag,
            settings.proxy_values(config), inventory, journal, limits.transactions)
        self.uac = Uac(self.proxy, inventory)
        self.calls = Calls(settings.call_values(config), self.wheel, clock.seconds, outside.wall, domain, journal,
                           inventory)
        self.policies = Policies(self.calls.in_use)
        settings.configure_policies(self.policies, config, self.aor)
        self.calls.ourselves = lambda sent_by: sent_by in self.places.sent_bys
        self.calls.hang_up = Ending(self.uac, self.routes, token).hang_up
        self.trunks = Trunks(self.uac, self.wheel, self.proxy.identifiers, outside.entropy, secret, self.aor,
                             outside.wall, journal, inventory, self.policies)
        self.whereabouts = Whereabouts(self.policies, self.proxy.with_hops, self.wheel)
        self.qualify = Qualify(
            config.qualify, self.uac, self.wheel, self.location, self.trunks, self._qualified_every, domain,
            self.proxy.identifiers, outside.entropy, outside.wall, journal, inventory)
        self.trunks.silent = self.qualify.is_silent
        self.callers = Callers(self.layer, self.places, users, self.authenticator, self.policies, self.trunks.contacts,
                               lambda aor: bool(self.location.bindings(aor)))
        self.controller = Controller(config.originate, self.uac, self.location, self.places, self._display_name,
                                     self.calls, journal, inventory)
        self.callers.own_dialogs, self.callers.speaks_for = self.controller.legs, self.controller.speaks_for
        self.route = self.layer.core = Route(
            self.layer, self.places, users, self.callers, refusals, self.routes, self.registrar, self.location,
            self.proxy, self.calls, self.trunks.wardrobe, journal, auth_required=config.auth.required,
            open_registrar=config.registrar.open, guests=config.proxy.guests, unreachable=self.qualify.unreachable,
            dialogs=self.controller.legs)
        self.messages = Messages(
            config.messages, outside.messages, self.location, self.uac, self.wheel, outside.wall, self.places.aor,
            lambda aor: users.by_aor(aor) is not None, domain, token.branch, self.proxy.identifiers, outside.entropy,
            journal, inventory, self.layer.values.timeout)
        self.route.offline = self.messages if config.messages.store_offline else None
        self.routing = RoutingParts(self, outside, inventory)
        self.events = Events(
            config.events, self.uac, self.wheel, outside.wall, self.location, self.calls, outside.records,
            self.route.serving, refusals.tag, self.proxy.identifiers, outside.entropy, self.aor, self.knows,
            self.qualify.unreachable, journal, inventory)
        self.events.peer_target, self.events.voicemail.account = self.trunks.target_to, self.trunks.mailbox
        self.events.pickup.invite_of = self.proxy.invite_of
        self.qualify.told = self._reach_changed
        self.events.alias = self.messages.alias = lambda aor: settings.stands_for(self, aor)
        self.route.events = self.events if config.events.packages else None

    def call_out(self, config: Config) -> None:
        """Registers at the carriers of the configuration and begins to ask who answers; once the listeners are open,
        and again with another configuration."""
        self.config = config
        settings.configure_policies(self.policies, config, self.aor)
        self.whereabouts.configure(config.peers)
        self.trunks.configure({name: peer for name, peer in config.peers.items() if peer.uri})
        self.qualify.start(config.qualify, config.qualify.users or any(
            entry.qualify for entry in config.users.values()))
        self.messages.start()
        self.events.call_out()

    def hang_up(self, seconds: float) -> Deferred[None]:
        """Asks nobody any more and takes our registrations away (s10.2.2); fires after `seconds` at the latest."""
        done: Deferred[None] = Deferred()
        self.qualify.stop()
        self.whereabouts.stop()
        self.messages.hang_up()
        self.controller.stop()
        self.trunks.stop(seconds, lambda: done.callback(None))
        return done

    def aor(self, user: str) -> str:
        """The address-of-record of a user as the configuration names them."""
        name, at, domain = user.rpartition("@")
        return f"{name}@{domain.lower()}" if at else f"{user}@{self.places.domain}"

    def _display_name(self, aor: str) -> str:
        user = self.users.by_aor(aor)
        return "" if user is None else user.display_name

    def _qualified_every(self, aor: str) -> float:
        """Seconds between two questions to the phones of an address-of-record, 0 for none."""
        entry = self.config.users.get(aor) or self.config.users.get(aor.rpartition("@")[0])
        settings = self.config.qualify
        wanted = settings.users if entry is None or entry.qualify is None else entry.qualify
        return float(settings.interval if wanted is True else wanted)

    def user_changed(self, aor: str) -> None:
        """Called after a user was added, changed or removed: one who is gone is not called any more."""
        if self.users.by_aor(aor) is None:
            self.unbind(aor, "the user was removed")
            self.messages.boxes.forget_user(aor, "the user was removed")
            self.events.notifier.forget(aor)

    def _reach_changed(self, aor: str, reached: bool) -> None:
        self.events.changed("presence", aor)
        if reached:
            self.messages.delivery.reached(aor)

    def unbind(self, aor: str, reason: str) -> None:
        """Takes every binding of an address-of-record away."""
        gone = self.location.latest(aor)
        if gone:
            self.location.change(aor, [("delete", binding) for binding in gone], lambda reason: None, "removed")
            self.location.note_lost(gone, reason)

    def knows(self, aor: str) -> bool:
        """False for an address-of-record that nobody may register any more."""
        return self.open_registrar or not len(self.users) or self.users.by_aor(aor) is not None

    def listening(self) -> None:
        """Tells the parts that know listeners by heart; called whenever these change."""
        self.places.refresh()
        for listener in self.layer.transports.listeners:
            self.routes.know(listener)


class Server(MultiService):
    """The server as a twisted service. Nothing is opened before `startService`: twistd forks before it."""

    def __init__(self, config: Config, source: Source | None = None) -> None:
        """`source` is where `config` was read, and where it is read again; None for the defaults."""
        super().__init__()
        self.config = config
        self.source = source or Source()
        self.reloading = Reloading(self)
        self.journal = Journal()
        self.journal.calls, self.journal.registrations = config.log.calls, config.log.registrations
        self.inventory = Inventory()
        self.recollection = Recollection(self._whose, time.time, self.inventory)
        self.journal.sinks.append(self.recollection)
        self.core: Core | None = None
        self._lock = StateLock(config.server.state_dir)
        self._user_store: UserStore | None = None
        self._transports: Transports | None = None
        self._control: ControlSocket | None = None
        self._http: HttpApi | None = None
        self._dns: Client | None = None
        self._resolver: Resolver | None = None

    @property
    def transports(self) -> Transports:
        """Those of a server that is started."""
        assert self._transports is not None
        return self._transports

    @property
    def resolver(self) -> Resolver:
        """That of a server that is started."""
        assert self._resolver is not None
        return self._resolver

    @property
    def http(self) -> HttpApi:
        """The control API over HTTP of a server that is started, whether it listens or not."""
        assert self._http is not None
        return self._http

    def stored_users(self) -> list[StoredUser]:
        """The users in the store. Raises UserStoreError."""
        assert self._user_store is not None
        return self._user_store.users()

    def take(self, config: Config) -> None:
        """From now on this is the configuration: the parts are set to it already."""
        self.config = config
        self._note_nobodies()

    def _note_nobodies(self) -> None:
        """A misspelt name in [peers.NAME] would say nothing to anybody; users of the store may come and go."""
        core = self.core
        if core is not None and self.journal.sinks:
            for name, peer in self.config.peers.items():
                if not peer.uri and core.users.by_aor(core.aor(name)) is None:
                    self.journal.write("peer-nobody", peer=name)

    def startService(self) -> None:
        """Opens state, stores and sockets. Raises StateError or OSError, whose text is for people."""
        from twisted.internet import reactor

        super().startService()
        try:
            self._start(reactor)
        except (ListenError, CannotListen, CertificateError, StoreError, ScriptError) as error:
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
            inventory=self.inventory, certificate=self.certificate(config))
        self._dns = Client(reactor, config.proxy.dns_timeout)
        resolver = self._resolver = Resolver(
            reactor, self._dns, self.inventory, os.urandom, transports=("udp", "tcp", "tls"), families=(4, 6),
            dns_timeout=config.proxy.dns_timeout, cache=config.limits.dns_cache, journal=self.journal)
        bindings: ILocationStore | None = None if config.location.store == "memory" else SqliteStore(
            config.path(state.BINDINGS), reactor.callFromThread, time.time, self.inventory, sync=config.location.sync)
        records: IRecords = MemoryRecords() if config.location.store == "memory" else SqliteRecords(
            config.path(state.EVENTS), reactor.callFromThread, self.inventory, sync=config.location.sync)
        core = self.core = Core(
            config, here.domain, here.realm, _secret(directory), users,
            Outside(self._transports, resolver, bindings, reactor, time.time, os.urandom, SqliteRecords(
                config.path(state.MESSAGES), reactor.callFromThread, self.inventory, sync="full"), directory,
                records),
            self.journal, self.inventory)
        core.location.start(core.knows)
        core.messages.load()
        Keeper(core.calls).open(settings.kept_files(config))
        self._transports.in_use = core.layer.flows_in_use
        self._transports.receive = core.layer.receive
        self._transports.changed = core.listening
        self._transports.start()
        if config.overload.shed:
            core.shedding.start(self._transports.lag)
        api = control_api(self, core, users, store, here, reactor)
        self._http = HttpApi(directory, api, reactor, self.inventory)
        self._control = ControlSocket(config.path(state.SOCKET), api, reactor, self.inventory)
        self._control.start()
        self.http.prepare(config.api.place)
        self.http.settle()
        core.events.start()
        core.call_out(config)
        self._note_nobodies()
        _tune_collector()

    def _whose(self, who: str) -> str:
        """The address-of-record of the user whose address this is, "" for nobody's."""
        core = self.core
        try:
            aor = core.places.aor(Uri.parse(who)) if core is not None else ""
        except MalformedMessage:
            return ""
        return aor if core is not None and core.users.by_aor(aor) is not None else ""

    def certificate(self, config: Config) -> tuple[str, str] | None:
        """The self-signed certificate, where a TLS listener of a configuration names no other. Raises StateError."""
        if not any(listen.transport == "tls" and not listen.certificate for listen in config.listen):
            return None
        names = [*config.server.domains, *first_start.server_addresses(config)]
        return certificate.self_signed(config.server.state_dir, names, time.time())

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
        if self._http is not None:
            yield self._http.stop()
        if self._transports is not None:
            yield self._transports.stop()
        if self._dns is not None:
            self._dns.close()
        if self.core is not None:
            self.core.messages.stop()
            self.core.events.stop()
            self.core.location.stop()
            if self.core.calls.keeper is not None:
                self.core.calls.keeper.close()
        if self._user_store is not None:
            self._user_store.close()
        self._lock.release()


def make_service(config: Config, source: Source | None = None) -> Server:
    """The server, not started."""
    return Server(config, source)


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
