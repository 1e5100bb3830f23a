"""The control API of a server: every command, and the parts it asks. Reads as the list of them."""

from __future__ import annotations

import time
from itertools import chain
from typing import TYPE_CHECKING, Any

from sipd import __version__
from sipd.admin.api import Api
from sipd.admin.call_commands import CallCommands
from sipd.admin.commands import StatusCommands, UserCommands
from sipd.admin.debug import Debug
from sipd.admin.event_commands import EventCommands
from sipd.admin.inside_commands import InsideCommands
from sipd.admin.message_commands import MessageCommands
from sipd.admin.originate_commands import OriginateCommands
from sipd.admin.peer_commands import PeerCommands
from sipd.admin.trunk_commands import TrunkCommands
from sipd.auth.credentials import Users
from sipd.auth.user_store import UserStore, UserStoreError
from sipd.calls import rows
from sipd.config_source import peer_settings, settings
from sipd.controller.controller import NotBegun

if TYPE_CHECKING:
    from sipd.first_start import Identity
    from sipd.service import Core, Server


def control_api(server: Server, core: Core, users: Users, store: UserStore, here: Identity, clock: Any) -> Api:
    """The commands of a server and its core; `clock` is the reactor. What is configured is asked of the server each
    time, since a reload changes it."""
    api = Api()
    inventory, transports = server.inventory, server.transports

    def changed(aor: str) -> None:
        users.load(store.users())
        core.user_changed(aor)

    def domains() -> tuple[tuple[str, ...], tuple[str, ...]]:
        return server.config.server.domains, server.config.server.tenants

    UserCommands(store, UserStoreError, here.domain, lambda: chain(*domains()), here.realm, changed).register(api)
    server.reloading.register(api)
    StatusCommands(core.location, lambda: transports.listeners, inventory, here.domain, time.time, __version__,
                   lambda: _dropped(server, core), core.shedding.overload, core.trunks.rows).register(api)
    core.routing.register(api)
    TrunkCommands(core.trunks, core.qualify, core.aor).register(api)
    EventCommands(core.events.notifier, core.events, core.aor).register(api)
    OriginateCommands(core.controller.originate, NotBegun, lambda: list(core.controller.calls.values())).register(api)
    peers = PeerCommands(
        users, core.location, here.domain, domains, lambda flow_id: transports.flow_by_id(flow_id) is not None,
        core.qualify.rows, time.time, core.trunks.rows, lambda peer: _policy_of(server, core, peer))
    peers.register(api)
    calls = core.calls
    CallCommands(calls, lambda call: rows.brief(call, calls.seconds()), lambda call: rows.whole(call, calls.seconds()),
                 rows.story, lambda: rows.peers(calls), lambda name: core.policies.limits(name, core.aor(name)),
                 lambda: [name.removesuffix(calls.at_home) for name in core.policies.limited()],
                 lambda name: server.recollection.of(core.aor(name)) or server.recollection.of(name)).register(api)
    MessageCommands(core.messages, peers.aor).register(api)
    Debug(transports.show, peers.aor, core.places.aor, core.location.bindings, time.time, inventory).register(api)
    InsideCommands(
        lambda: settings(server.config, server.source), lambda: transports.connections, core.location.everything,
        core.wheel.running, lambda: [(call.getTime() - clock.seconds(), call.func) for call in clock.getDelayedCalls()],
        inventory, clock.seconds).register(api)
    return api


def _dropped(server: Server, core: Core) -> dict[str, int]:
    """What was thrown away or refused unread, and how often."""
    transports = server.transports
    return {
        "stray responses dropped": core.layer.strays,
        "messages malformed or past a bound": core.layer.malformed,
        "new requests refused in overload": core.shedding.overload.refused,
        "datagrams lost, receive buffer full": transports.lost,
        "datagrams dropped, send buffer full": transports.dropped,
        **{f"connections ended, {why}": count for why, count in transports.cut.items()},
    }


def _policy_of(server: Server, core: Core, peer: str) -> list[tuple[str, str, str]]:
    """What holds for a carrier, or for the user with an address-of-record: key, value, where it comes from."""
    section = next((name for name, one in server.config.peers.items()
                    if peer == (name if one.uri else core.aor(name))), "")
    return [(one.key, one.value, one.source) for one in peer_settings(server.config, section)]
