"""From the configuration to what the parts are set to: at start, and again while they run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sipd import state
from sipd.auth.credentials import Users
from sipd.calls.keeper import KeptFiles
from sipd.calls.table import CallValues
from sipd.config import Config
from sipd.config_peers import CREDENTIALS, merged
from sipd.message.bounds import Bounds
from sipd.peers.policy import Policies
from sipd.proxy.proxy import ProxyValues
from sipd.registrar.rules import Limits
from sipd.transaction.timers import TimerValues

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sipd.auth.user_store import StoredUser
    from sipd.service import Core


def timer_values(config: Config) -> TimerValues:
    """[timers] but timer C."""
    return TimerValues(config.timers.t1, config.timers.t2, config.timers.t4)


def message_bounds(config: Config) -> Bounds:
    """What of [limits] is about one message."""
    limits = config.limits
    return Bounds(limits.message_size, limits.header_size, limits.header_length, limits.header_count, limits.vias,
                  limits.routes, limits.uri_length)


def registrar_limits(config: Config) -> Limits:
    """[registrar]."""
    registrar = config.registrar
    return Limits(registrar.min_expires, registrar.default_expires, registrar.max_expires, registrar.max_contacts)


def proxy_values(config: Config) -> ProxyValues:
    """[proxy] and what belongs to it."""
    proxy = config.proxy
    return ProxyValues(proxy.record_route, proxy.ring_timeout, proxy.hop_timeout, proxy.recurse, config.timers.c,
                       config.limits.branches)


def call_values(config: Config) -> CallValues:
    """[calls]. Without Record-Route the requests of dialogs do not come by here."""
    calls = config.calls
    return CallValues(calls.track, calls.limit, calls.keep_ended, calls.steps, calls.session_expires, calls.min_se,
                      calls.max_duration, config.proxy.record_route)


def kept_files(config: Config) -> KeptFiles:
    """[cdr], and where the ledger of calls is."""
    cdr = config.cdr
    return KeptFiles((cdr.path or config.path(state.CDR)) if cdr.enabled else "", cdr.rotate, cdr.keep,
                     config.path(state.LEDGER) if config.calls.ledger else "")


def advertised(config: Config) -> list[str]:
    """The names that peers are told instead of addresses."""
    return [listen.advertise for listen in config.listen if listen.advertise]


def configured_users(users: Users, config: Config, realm: str) -> None:
    """Enters the users of the configuration, who are kept in memory only, and the carriers that log in here."""
    for name, entry in config.users.items():
        users.configure(
            name, realm, config.auth.algorithms, entry.password.get_secret_value() if entry.password else "",
            {algorithm: secret.get_secret_value() for algorithm, secret in entry.ha1.items()},
            entry.display_name, entry.algorithms)
    for name, peer in config.peers.items():
        if peer.uri and CREDENTIALS in merged(name, peer, config.templates)["identify_by"].value:
            users.account(name, realm, config.auth.algorithms, peer.username, peer.password.get_secret_value())


def configure_policies(policies: Policies, config: Config, aor: Callable[[str], str]) -> None:
    """[peers], [templates] and [acls], for all that comes from now on; `aor` gives the address-of-record of a user."""
    policies.configure(config.peers, config.templates, config.acls, aor)


def stands_for(core: Core, aor: str) -> str:
    """The user whom one of [numbers] stands for alone, by addresses-of-record; the same where there is none."""
    entry = core.config.numbers.get(aor.removesuffix(f"@{core.places.domain}"))
    user = core.aor(entry.to[0]) if entry is not None and len(entry.to) == 1 else aor
    return user if core.users.by_aor(user) is not None else aor


def configure(core: Core, config: Config, realm: str, stored: Iterable[StoredUser]) -> None:
    """Sets a running core to another configuration, for all that comes from now on. `stored` are the users of the
    store. Cannot fail."""
    limits, auth, registrar, overload = config.limits, config.auth, config.registrar, config.overload
    before = {user.aor for user in core.users}
    core.users.places(config.server.tenants)
    core.users.forget_configured()
    configured_users(core.users, config, realm)
    core.users.load(stored)
    core.places.name(config.server.domains, config.server.tenants, advertised(config))
    core.layer.configure(timer_values(config), limits.transactions, message_bounds(config))
    core.refusals.configure(overload.retry_after, overload.retry_spread)
    core.shedding.overload.wanted = overload.delay
    core.routes.bound(limits.routes)
    core.location.bound(limits.bindings)
    core.registrar.configure(registrar_limits(config))
    core.nonces.bound(limits.nonces)
    core.authenticator.configure(auth.algorithms, auth.required)
    core.proxy.configure(proxy_values(config), limits.transactions)
    core.calls.configure(call_values(config))
    core.controller.configure(config.originate)
    if core.calls.keeper is not None:
        core.calls.keeper.configure(kept_files(config))
    core.route.configure(auth.required, registrar.open, config.proxy.guests)
    core.open_registrar = registrar.open
    core.route.events = core.events if config.events.packages else None
    core.events.configure(config.events)
    core.journal.calls, core.journal.registrations = config.log.calls, config.log.registrations
    core.listening()
    removed = before - {user.aor for user in core.users}
    bound = {binding.aor for binding in core.location.everything()}
    for aor in bound & removed | {aor for aor in bound if not core.knows(aor)}:
        core.unbind(aor, "there is no such user any more")
    for aor in removed:
        core.events.notifier.forget(aor)
    core.messages.configure(config.messages, core.layer.values.timeout)
    core.route.offline = core.messages if config.messages.store_offline else None
    core.routing.configure(config)
    core.call_out(config)
