"""Reading the configuration again while the server runs: whole and at once, or not at all.

Everything that can be wrong is found before anything changes: the file, what users and hosts say to it, certificates,
ports. A change that only a new start can make refuses the whole file, so that what runs is always one file's
configuration and never half of two. Calls and registrations do not notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sipd import certificate, first_start, preflight, settings, state
from sipd.admin.api import Api, Refused
from sipd.admin.http_api import CannotListen
from sipd.auth.user_store import UserStoreError
from sipd.config import Config, ConfigError
from sipd.config_changes import Change, changes
from sipd.config_server import Listen
from sipd.config_text import placed
from sipd.routing.script import ScriptError
from sipd.state import StateError
from sipd.transport.layer import ListenError
from sipd.transport.tls import fingerprint

if TYPE_CHECKING:
    from sipd.service import Server

#: Kinds of refusal, for programs.
WRONG, RESTART = "configuration", "restart"


class Reloading:
    """Reads the configuration of a running server again."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def register(self, api: Api) -> None:
        """Enters the command."""
        api.register("reload", self.command)

    def command(self, request: dict[str, Any]) -> dict[str, Any]:
        """check: true only looks. What changes (or would), in words. Refuses with kind `configuration` for a wrong
        file, with `restart` for one that only a new start can take; then nothing has changed."""
        check = request.get("check", False) is True
        return {"changes": self.reload(check), "applied": not check, "file": self._server.source.path}

    def signalled(self) -> None:
        """The same on SIGHUP; the journal has what came of it."""
        try:
            self.reload()
        except Refused:
            return

    def reload(self, check: bool = False) -> list[str]:
        """What changes, in words; with `check` what would, and nothing does. Raises Refused: nothing has changed."""
        server = self._server
        journal = server.journal
        try:
            config, found = self._validated()
            if not check:
                self._apply(config)
        except Refused as refusal:
            if not check and journal.sinks:
                for line in refusal.lines or [str(refusal)]:
                    journal.write("reload-refused", reason=line)
            raise
        lines = [change.text for change in found]
        if not check and journal.sinks:
            for line in lines or ["nothing is different"]:
                journal.write("reloaded", change=line)
        return lines

    def _validated(self) -> tuple[Config, list[Change]]:
        """The configuration as it is written now, and what is different. Raises Refused with all that is wrong."""
        server = self._server
        try:
            config = server.source.load()
        except ConfigError as error:
            raise _refusal(WRONG, error.errors)
        try:
            here = first_start.identity(server.config, keep=False)
            there = first_start.identity(config, keep=False)
            errors = first_start.refusals(config, server.stored_users(), there)
        except (StateError, UserStoreError) as error:
            raise _refusal(WRONG, [str(error)])
        for listen in config.listen:
            errors += preflight.certificate_problems(listen)
            problem = preflight.port_problem(listen) if self._is_new(listen) else ""
            errors += [problem] if problem else []
        if config.api.http and config.api.http != server.config.api.http:
            errors += filter(None, [preflight.http_problem(config.api.http)])
        if errors:
            raise _refusal(WRONG, placed(errors, server.source.path))
        try:
            assert server.core is not None
            server.core.routing.prepare(config)
        except ScriptError as error:
            raise _refusal(WRONG, placed([f"[routing] script: {error}"], server.source.path))
        found = changes(server.config, config, ("peers", "qualify"), here != there)
        found += self._certificates(config)
        restart = [f"{change.text}: {change.restart}" for change in found if change.restart]
        if restart:
            raise _refusal(RESTART, restart)
        return config, found

    def _is_new(self, listen: Listen) -> bool:
        """True when no socket of ours is where this one listens."""
        held = {(one.transport == "udp", one.address, one.port) for one in self._server.transports.listeners}
        return held.isdisjoint(
            (listen.transport == "udp", address, listen.port) for address in preflight.concrete(listen.address))

    def _certificates(self, config: Config) -> list[Change]:
        """What stands in files that are in use already and have changed."""
        found = []
        shown = self._server.transports.certificates
        for listen in config.listen:
            path = listen.certificate or config.path(state.CERTIFICATE)
            key = listen.private_key or config.path(state.PRIVATE_KEY)
            if listen.transport == "tls" and shown.get(path, "") not in ("", fingerprint(path, key)):
                found.append(Change("listen", f"{listen} shows another certificate, {certificate.describe(path)}"))
        return found

    def _apply(self, config: Config) -> None:
        """Listeners first: what can still go wrong is a port that somebody else has taken meanwhile."""
        server = self._server
        core = server.core
        assert core is not None
        try:
            stored = server.stored_users()
            server.http.prepare(config.api.place)
            server.transports.replace(config.listen, config.limits, server.certificate(config))
        except (ListenError, CannotListen, StateError, UserStoreError) as error:
            server.http.abandon()
            raise _refusal(WRONG, str(error).splitlines())
        server.http.settle()
        server.resolver.configure(config.proxy.dns_timeout, config.limits.dns_cache)
        settings.configure(core, config, core.realm, stored)
        if config.overload.shed and not server.config.overload.shed:
            core.shedding.start(server.transports.lag)
        elif server.config.overload.shed and not config.overload.shed:
            core.shedding.stop()
            core.shedding.overload.active = False
        server.take(config)


def _refusal(kind: str, lines: list[str]) -> Refused:
    why = ("the configuration is wrong" if kind == WRONG else
           "this needs a restart of the server, which would take the whole file")
    return Refused(f"nothing has changed: {why}:\n" + "\n".join(lines), kind, lines)
