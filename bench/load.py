"""The rows of the benchmark, and one row's load on one server, measured."""

from __future__ import annotations

import math
import resource
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.registrant import Registrant, Registration
from bench.servers import DOMAIN, Server, busy_seconds, cpu_seconds, free_port, make_certificate
from bench.sipp import Figures, Sipp, write_users
from bench.tls_calls import TlsCalls

#: The scenarios of the other side, one for each contact of a callee; what is not here is answered by the server.
OTHER_SIDE = {
    "call_uac": ("call_uas",), "call_digest_uac": ("call_uas",), "message_uac": ("message_uas",),
    "call_fork_uac": ("call_fork_uas", "ring_uas", "ring_uas"), "tls_calls": ("tls_calls",),
}
CALLEES = 1000
PASSWORD = "bench-secret"
#: How many phones take turns to refresh: the rates are multiples of it.
PHONES = 500
#: Calls a second between which the highest rate is sought, and in how many steps.
SLOWEST, FASTEST, STEPS = 400, 12800, 5
#: Seconds of load of one step, and how much longer it may take before the rate counts as not held.
STEP_SECONDS, LATE = 4, 1.5


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a scenario at a rate (units a second) over a transport. `tracked`: the server keeps the
    dialogs of the calls that pass."""

    name: str
    scenario: str
    unit: str
    rate: int
    transport: str = "udp"
    digest: bool = False
    durable: bool = False
    tracked: bool = False


ROWS = (
    Row("register-500", "register", "REGISTER", 500),
    Row("register-1500", "register", "REGISTER", 1500),
    Row("register-digest-500", "register_digest", "REGISTER with digest", 500, digest=True),
    Row("register-digest-1500", "register_digest", "REGISTER with digest", 1500, digest=True),
    Row("refresh-durable-500", "register_refresh", "REGISTER, refresh, durable", 500, durable=True),
    Row("refresh-durable-1500", "register_refresh", "REGISTER, refresh, durable", 1500, durable=True),
    Row("call-udp-500", "call_uac", "call over UDP", 500),
    Row("call-udp-1500", "call_uac", "call over UDP", 1500),
    Row("call-tracked-500", "call_uac", "call over UDP, followed", 500, tracked=True),
    Row("call-tcp-500", "call_uac", "call over TCP", 500, transport="tcp"),
    Row("call-tcp-1500", "call_uac", "call over TCP", 1500, transport="tcp"),
    Row("call-tls-500", "tls_calls", "call over TLS", 500, transport="tls"),
    Row("call-tls-1500", "tls_calls", "call over TLS", 1500, transport="tls"),
    Row("call-digest-500", "call_digest_uac", "call with digest", 500, digest=True),
    Row("call-digest-1500", "call_digest_uac", "call with digest", 1500, digest=True),
    Row("call-fork-500", "call_fork_uac", "call to three contacts, two CANCELs", 500),
    Row("call-fork-1500", "call_fork_uac", "call to three contacts, two CANCELs", 1500),
    Row("message-500", "message_uac", "MESSAGE relayed", 500),
    Row("message-1500", "message_uac", "MESSAGE relayed", 1500),
    Row("options-500", "options", "OPTIONS", 500),
    Row("options-1500", "options", "OPTIONS", 1500),
)


@dataclass(frozen=True, slots=True)
class Measure:
    """One server, one row, one round. Microseconds of CPU a unit, milliseconds of response time, MiB at the peak;
    `others` is what programs that are no part of the benchmark used meanwhile, 1.0 being one CPU."""

    cpu: float
    p50: float
    p99: float
    failed: int
    retransmissions: int
    memory: float
    others: float


def measure(make: Callable[..., Server], row: Row, seconds: int, directory: Path) -> Measure:
    """Starts a fresh server, fills it, runs the row's load against it and stops it."""
    server = start(make, row, directory)
    try:
        return load(server, row, seconds, directory)
    finally:
        server.stop()


def without_server(row: Row, seconds: int, directory: Path) -> Measure:
    """The response times of a row whose caller reaches the callee directly: what the load itself takes, so that what
    stands above it was added by the server."""
    sides = _Sides(None, row, directory)
    try:
        sides.run("warm", 1)
        figures = sides.run("counted", seconds)
    finally:
        answered = sides.stop()
    return Measure(
        0.0, figures.percentile(0.5), figures.percentile(0.99), figures.failed + sum(one.failed for one in answered),
        figures.retransmissions + sum(one.retransmissions for one in answered), 0.0, 0.0,
    )


def start(make: Callable[..., Server], row: Row, directory: Path) -> Server:
    """A server set up for a row."""
    users = {f"user{number}": PASSWORD for number in range(CALLEES)} if row.digest else None
    return make(
        directory / "server", users=users, durable=row.durable, tls=row.transport == "tls", tracked=row.tracked)


def load(server: Server, row: Row, seconds: int, directory: Path) -> Measure:
    """Runs a row's load against a started server: callees first, one second of warming up, then what counts."""
    sides = _Sides(server, row, directory)
    try:
        sides.run("warm", 1)
        before, busy, started = server.cpu(), busy_seconds() - sides.cpu(), time.monotonic()
        with _Peak(server) as peak:
            figures = sides.run("counted", seconds)
        spent = server.cpu() - before
        others = busy_seconds() - sides.cpu() - busy - spent
        elapsed = time.monotonic() - started
    finally:
        answered = sides.stop()
    if figures.succeeded == 0:
        raise RuntimeError(f"{server.name}: no unit of {row.name} succeeded\n{figures.errors}")
    return Measure(
        1e6 * spent / figures.succeeded, figures.percentile(0.5), figures.percentile(0.99),
        # A failed call fails on several sides: it is counted once.
        max(row.rate * seconds - figures.succeeded, *(row.rate * (seconds + 1) - one.succeeded for one in answered), 0),
        figures.retransmissions + sum(one.retransmissions for one in answered),
        peak.kib / 1024, max(others / elapsed, 0.0),
    )


def highest_rate(make: Callable[..., Server], row: Row, directory: Path) -> int:
    """The highest rate, within an eighth, at which no call failed and the last ended in time: a bounded search, each
    step on a fresh server; 0 when no step was held."""
    low, high = SLOWEST, FASTEST
    held = 0
    for number in range(STEPS):
        rate = round(math.sqrt(low * high))
        asked = replace(row, rate=rate)
        place = directory / f"step{number}"
        server = start(make, asked, place)
        sides = _Sides(server, asked, place)
        try:
            sides.run("warm", 1)
            began = time.monotonic()
            figures = sides.run("counted", STEP_SECONDS, patience=6)
            late = time.monotonic() - began > STEP_SECONDS + LATE
        finally:
            answered = sides.stop()
            server.stop()
        whole = figures.succeeded == rate * STEP_SECONDS and not figures.failed + sum(one.failed for one in answered)
        print(f"{server.name}: {rate}/s {'held' if whole and not late else 'not held'}", flush=True)
        if whole and not late:
            held = low = rate
        else:
            high = rate
    return held


class _Sides:
    """Both sides of a row's load around one server, or without one: the callees, registered, and who calls them."""

    def __init__(self, server: Server | None, row: Row, directory: Path) -> None:
        self._row, self._directory = row, directory
        self._answering: list[Sipp | TlsCalls] = []
        self._mode = "t1" if row.transport == "tcp" else "u1"
        suffix = "" if row.transport == "udp" else f";transport={row.transport}"
        ports = [free_port() for _ in OTHER_SIDE.get(row.scenario, ())]
        self._contact = f"127.0.0.1:{free_port()}{suffix}"
        self._names = [f"user{number}" for number in range(CALLEES)]
        for number, (scenario, port) in enumerate(zip(OTHER_SIDE.get(row.scenario, ()), ports, strict=True)):
            self._answering.append(self._answer(scenario, port, directory / f"uas{number}"))
        if server is None:
            self._target = ports[0]
            # There is no server to wait for: the other side must be up.
            time.sleep(1.0)
            return
        self._target = server.tls_port if row.transport == "tls" else server.port
        try:
            for port in ports:
                self._register(server, f"127.0.0.1:{port}{suffix}")
            if row.scenario == "register_refresh":
                # What is refreshed is there.
                self._register(server, self._contact)
        except BaseException:
            self.stop()
            raise

    def _answer(self, scenario: str, port: int, directory: Path) -> Sipp | TlsCalls:
        if scenario != "tls_calls":
            return Sipp(scenario, "", ("127.0.0.1", port), directory, transport=self._mode)
        directory.mkdir(parents=True)
        certificate, key = make_certificate(directory)
        files = ["--certificate", str(certificate), "--key", str(key)]
        return TlsCalls("answer", directory, ["--port", str(port), *files])

    def _register(self, server: Server, contact: str) -> None:
        registrant = Registrant(("127.0.0.1", server.port), DOMAIN)
        registrations = [Registration(name, f"sip:{name}@{contact}", password=PASSWORD) for name in self._names]
        registrant.run(registrations)
        registrant.close()
        refused = [registration for registration in registrations if registration.status != 200]
        if refused:
            raise RuntimeError(f"{server.name}: {len(refused)} did not register ({refused[0].status})")

    def run(self, name: str, seconds: int, patience: int = 15) -> Figures:
        """The calling side, for so many seconds at the row's rate; its figures, counted in units. What is open after
        `patience` more seconds is given up."""
        row, directory = self._row, self._directory / name
        calls, rate, loops, hold = row.rate * seconds, row.rate, 1, 0
        if row.scenario == "tls_calls":
            return TlsCalls("call", directory, [
                "--server", f"127.0.0.1:{self._target}", "--domain", DOMAIN, "--users", str(CALLEES),
                "--rate", str(rate), "--calls", str(calls),
            ], seconds + patience).wait()
        if row.scenario == "register_refresh":
            # One SIPp call is one phone, which comes back each time the others have had their turn.
            calls, loops, hold = PHONES, max(calls // PHONES, 1), 1000 * PHONES // rate
        # A caller with digest is always user0: whom a call is from must be who proves it.
        registers = row.unit.startswith("REGISTER")
        injection = write_users(self._directory / "users.csv", [
            (one, f"[authentication username={one if registers else 'user0'} password={PASSWORD}]", str(loops))
            for one in self._names
        ])
        figures = Sipp(
            row.scenario, f"127.0.0.1:{self._target}", ("127.0.0.1", free_port()), directory,
            transport=self._mode, users=injection, rate=rate, calls=calls, timeout=seconds + patience, hold=hold,
            keys={"domain": DOMAIN, "caller": f"user0@{DOMAIN}", "contact": self._contact},
        ).wait()
        return replace(figures, created=figures.created * loops, succeeded=figures.succeeded * loops)

    def cpu(self) -> float:
        """CPU seconds of the load itself: this program, the loads that have ended and those that answer."""
        mine, ended = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        running = sum(cpu_seconds(one.process.pid) for one in self._answering)
        return mine.ru_utime + mine.ru_stime + ended.ru_utime + ended.ru_stime + running

    def stop(self) -> list[Figures]:
        """Ends the answering sides and gives their figures."""
        answering, self._answering = self._answering, []
        return [one.stop() for one in answering]


class _Peak:
    """The most memory a server held while it was under load, in kibibytes, looked at twice a second."""

    def __init__(self, server: Server) -> None:
        self.kib = 0
        self._server = server
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._done.wait(0.5):
            self.kib = max(self.kib, self._server.memory())

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.kib = max(self.kib, self._server.memory())
