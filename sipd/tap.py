"""`twistd sipd`: the options, and the service around the server that gives it its log.

Every reason not to start is told in one message on stderr, with exit status 1: without usage text, without traceback,
and before twistd goes into the background.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from sipd import first_start, preflight
from sipd.config import Config, ConfigError, Overrides
from sipd.config_source import Source
from sipd.config_text import placed
from sipd.log import Forwarder, JournalLines, Observer, Writer, summary
from sipd.reactor import install as install_reactor
from sipd.service import make_service
from sipd.state import StateError


class Options(usage.Options):
    """The options of `twistd sipd`."""

    synopsis = "[options]"
    longdesc = (
        "A SIP registrar, location service and forking stateful proxy. Options stand over the configuration file; "
        "without either it listens on UDP and TCP port 5060 of all addresses. etc/sipd.toml explains every setting."
    )
    optParameters = [
        ["config", "c", None, "TOML file with the configuration"],
        ["state-dir", "s", None, "directory of users, bindings, keys and the control socket [default: /var/lib/sipd]"],
    ]
    compData = usage.Completions(
        optActions={"config": usage.CompleteFiles("*.toml"), "state-dir": usage.CompleteDirs()}
    )

    def __init__(self) -> None:
        super().__init__()
        self.listen: list[str] = []
        self.domains: list[str] = []
        self.users: list[str] = []

    def opt_listen(self, option: str) -> None:
        """TRANSPORT:ADDRESS:PORT to listen on instead of the file's, such as tls:[::1]:5061; repeatable"""
        self.listen.append(option)

    def opt_domain(self, name: str) -> None:
        """domain to serve instead of the file's; the first one is in the users' addresses; repeatable"""
        self.domains.append(name)

    def opt_user(self, option: str) -> None:
        """NAME:PASSWORD of a further user, kept in memory only, visible in the process list; repeatable"""
        self.users.append(option)

    opt_l, opt_d, opt_u = opt_listen, opt_domain, opt_user

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parses the command line; a mistake ends the process with one line instead of the usage text."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"twistd sipd: {error}; twistd sipd --help lists the options")

    def parseArgs(self, *arguments: str) -> None:
        """Takes none: what is no option is a mistake."""
        if arguments:
            raise usage.UsageError(f"{' '.join(arguments)}: no option; each begins with --")

    @property
    def source(self) -> Source:
        """Where the configuration comes from."""
        overrides = Overrides(tuple(self.listen), tuple(self.domains), tuple(self.users), self["state-dir"] or "")
        return Source(self["config"] or "", overrides)

    def load(self) -> Config:
        """The configuration the options ask for. Raises ConfigError."""
        return self.source.load()


def makeService(options: Options) -> MultiService:
    """The server as a service; twistd calls this before it forks, so nothing that is opened here stays open but the
    log file. Ends the process with every reason at once when it could not start."""
    install_reactor()
    twistd: Any = options.parent or {}
    uid, gid = twistd.get("uid"), twistd.get("gid")
    errors = _process_problems(twistd)
    try:
        config = options.load()
        errors += preflight.check(config.server.state_dir, config.listen, uid, gid, config.api.http,
                                  config.cdr.path if config.cdr.enabled else "")
        if not errors:
            with preflight.acting_as(uid, gid):
                errors = first_start.stored_problems(config)
        errors = placed(errors, options.source.path)
    except ConfigError as error:
        errors += [*error.errors, *preflight.check(error.state_dir, error.listen, uid, gid)]
    except StateError as error:
        errors.append(str(error))
    if errors:
        raise SystemExit("\n".join(errors))
    if twistd.get("syslog") or twistd.get("logger"):
        return Sipd(config, None, twistd, options.source.absolute())
    return Sipd(config, _writer(twistd), twistd, options.source.absolute())


def _process_problems(twistd: Any) -> list[str]:
    """What twistd would find out about its own options only in the background, or would wait for without end."""
    problems = []
    uid, gid = twistd.get("uid"), twistd.get("gid")
    if os.geteuid() != 0 and (uid not in (None, os.geteuid()) or gid not in (None, os.getegid())):
        problems.append("--uid, --gid: only root may become another user; leave them out or start as root")
    pidfile = twistd.get("pidfile") or ""
    if pidfile and not twistd.get("chroot"):
        path = os.path.abspath(os.path.join(twistd.get("rundir") or ".", pidfile))
        place = path if os.path.exists(path) else os.path.dirname(path)
        if not os.access(place, os.W_OK):
            reason = "Permission denied" if os.path.exists(place) else "No such file or directory"
            problems.append(f"--pidfile {pidfile}: {reason}; a file this user may write is wanted")
    return problems


def _writer(twistd: Any) -> Writer:
    """The log that twistd's own options ask for."""
    path = twistd.get("logfile") or ""
    foreground = twistd.get("nodaemon") or twistd.get("debug")
    if path == "-" and not foreground:
        raise SystemExit("--logfile -: a daemon has no standard output; a file is wanted, or -n")
    if foreground and path in ("", "-"):
        return Writer(stream=sys.stdout.buffer)
    try:
        return Writer(os.path.abspath(path or "twistd.log"))
    except OSError as error:
        raise SystemExit(f"--logfile {path or 'twistd.log'}: {error.strerror}; a file this user may write is wanted")


class Sipd(MultiService):
    """The server together with its log, for as long as the process lives."""

    def __init__(self, config: Config, writer: Writer | None, twistd: Any, source: Source) -> None:
        """`writer` is None when the person chose a log of twisted's; `twistd` are the options of twistd; `source` is
        where the configuration is read again."""
        super().__init__()
        self.setName("sipd")
        self._config = config
        self._writer = writer
        self._twistd = twistd
        self._observer = Observer(writer, bool(twistd.get("debug"))) if writer else None
        self._lines: JournalLines | None = None
        self.server = make_service(config, source)
        self.server.setServiceParent(self)

    def setServiceParent(self, parent: Any) -> None:
        """Hands our log to the application, which twistd asks for one."""
        super().setServiceParent(parent)
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)

    def startService(self) -> None:
        """Starts the log, then the server; ends the process with one line when that fails."""
        from twisted.internet import reactor

        clock: Any = reactor
        log = self._writer or Forwarder()
        self._lines = JournalLines(log, clock, self.server.inventory)
        self.server.journal.sinks.append(self._lines)
        _raise_open_files(self._config.limits.connections, log)
        for warning in warnings(self._config):
            log.line(f"warning: {warning}", urgent=True)
        try:
            super().startService()
        except Exception:
            self._abandon(Failure())
        if self._writer is not None:
            self._writer.start(clock)
            _on_signal(signal.SIGUSR1, clock, self._writer.reopen, bool(self._writer.path))
        # who closes the terminal of a server in the foreground means to end it
        _on_signal(signal.SIGHUP, clock, self._hang_up, not (self._twistd.get("nodaemon") and os.isatty(0)))

    def _hang_up(self) -> None:
        """SIGHUP: whoever moves logs away sends it, and whoever has changed the configuration. Both get what they
        want."""
        if self._writer is not None:
            self._writer.reopen()
        self.server.reloading.signalled()

    def stopService(self) -> Deferred[list[Any]]:
        """Stops the server, then the log."""
        stopping: Any = super().stopService()

        def stopped(result: Any) -> Any:
            if self._lines is not None:
                self._lines.stop()
                with contextlib.suppress(ValueError):
                    self.server.journal.sinks.remove(self._lines)
            if self._writer is not None:
                self._writer.stop()
            return result

        return stopping.addBoth(stopped)  # type: ignore[no-any-return]

    def _abandon(self, failure: Failure) -> NoReturn:
        """Ends the process that could not start: the reason to stderr, or to the process that waits for the daemon."""
        expected = failure.check(StateError, ConfigError, OSError)
        reason = failure.getErrorMessage() if expected else summary(failure)
        if self._writer is not None:
            self._writer.line("error: cannot start: " + " ".join(reason.split()), urgent=True)
            if not expected:
                self._writer.tail(failure.getTraceback())
        with contextlib.suppress(Exception):
            super().stopService()
        pipe = self._twistd.get("statusPipe")
        if pipe is not None:
            os.write(pipe, f"1 {reason}".encode("ascii", "backslashreplace")[:100])
        with contextlib.suppress(OSError):
            os.unlink(self._twistd.get("pidfile") or "")
        sys.stderr = sys.__stderr__
        raise SystemExit(f"sipd cannot start: {reason}")


def warnings(config: Config) -> list[str]:
    """What an operator should know about this configuration each time it starts."""
    found = []
    if not config.auth.required:
        found.append("[auth] required = false: everybody who reaches this server counts as authenticated")
    if config.registrar.open:
        found.append("[registrar] open = true: anyone may register any name and receive its calls")
    if config.location.store == "memory":
        found.append('[location] store = "memory": registrations are forgotten when the server stops')
    return found


def _raise_open_files(connections: int, log: Writer | Forwarder) -> None:
    """Lets this process hold as many files open as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < connections + 100:
        log.line(
            f"warning: [limits] connections = {connections}: only {hard} files may be open (ulimit -n)", urgent=True
        )


def _on_signal(number: int, clock: Any, function: Callable[[], None], wanted: bool) -> None:
    """Calls `function` from the reactor's loop on a signal, unless somebody uses that signal already."""
    if wanted and signal.getsignal(number) in (None, signal.SIG_DFL):
        signal.signal(number, lambda *_: clock.callFromThread(function))
