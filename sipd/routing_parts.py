"""What routing needs of the other parts, and the script of the configuration, loaded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sipd.admin.api import Api
from sipd.admin.routing_commands import RoutingCommands
from sipd.config import Config
from sipd.inventory import Inventory
from sipd.message.identifiers import chance
from sipd.proxy.targets import Groups, Target, answering, groups_of
from sipd.routing.forwards import Forwards
from sipd.routing.router import Router
from sipd.routing.rules import World
from sipd.routing.script import Script, waiting

if TYPE_CHECKING:
    from sipd.service import Core, Outside


class RoutingParts:
    """The router of a core, and what it stands on. Raises StateError and ScriptError."""

    def __init__(self, core: Core, outside: Outside, inventory: Inventory) -> None:
        self._core = core
        self._clock = outside.clock
        self._resolver = outside.resolver
        self._waiting = waiting(inventory)
        self._world = World(
            bindings_of=self._bindings, trunk_target=self._trunk_target, trunk_down=self._trunk_down,
            in_use=lambda name: core.calls.in_use(name), is_user=lambda aor: core.users.by_aor(aor) is not None,
            anybody=lambda: core.open_registrar, aor_of=core.places.aor, chance=lambda: chance(outside.entropy),
            local=lambda: time.localtime(outside.wall()), is_busy=core.policies.is_busy,
            is_gone=self._gone)
        self.forwards = Forwards(outside.state_dir, inventory, self._refresh)
        self.forwards.load()
        self.router = Router(self._world, self.forwards, core.places.domain, core.journal)
        self._loaded: tuple[Config, Script | None] | None = None
        core.callers.leads_inside = self.router.leads_inside
        core.callers.is_emergency = self.router.is_emergency
        self.configure(core.config)

    def prepare(self, config: Config) -> None:
        """Runs the script of a configuration, for `configure`. Raises ScriptError; then nothing has changed."""
        routing = config.routing
        script = None
        if routing.script:
            hosts = {*routing.script_hosts, *(peer.carrier.host for peer in config.peers.values() if peer.uri)}
            script = Script(routing.script, routing.code, routing.script_timeout, hosts, self._world,
                            self.router.rules_of(config), self._clock, self._core.journal, self._waiting)
        self._loaded = config, script

    def configure(self, config: Config) -> None:
        """Routes by another configuration; where it was prepared this cannot fail."""
        if self._loaded is None or self._loaded[0] is not config:
            self.prepare(config)
        assert self._loaded is not None
        self.router.configure(config, self._loaded[1])
        self._refresh()

    def register(self, api: Api) -> None:
        """Enters the commands."""
        RoutingCommands(self.router, self.forwards, lambda: self._core.config.routing.script,
                        self._core.journal, self._forbids).register(api)

    def _refresh(self) -> None:
        """The route asks only while there is something to ask for."""
        self.router.refresh()
        router = self.router
        self._core.route.router = router if router.active else None

    def _bindings(self, aor: str, secure: bool) -> Groups:
        """Where the phones of a user are, without those that do not answer, unless none does."""
        core = self._core
        return groups_of(answering(core.location.bindings(aor), core.qualify.unreachable), secure)

    def _gone(self, aor: str) -> bool:
        gone = self._core.qualify.unreachable
        return bool(gone) and all((aor, one.contact) in gone for one in self._core.location.bindings(aor))

    def _trunk_target(self, name: str, number: str) -> Target | None:
        return self._core.trunks.target_to(name, number)

    def _forbids(self, peer: str, called: str) -> str:
        """Names as people write them."""
        core = self._core
        name = peer if peer in core.policies.trunks else self.router.address(peer)
        return core.callers.forbids(name, self.router.address(called))

    def _trunk_down(self, name: str) -> bool:
        trunks = self._core.trunks
        return trunks.is_down(name) or self._resolver.failed(trunks.way_to(name))  # RFC 3263 s4.3
