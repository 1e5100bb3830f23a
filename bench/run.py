"""Measures sipd and Kamailio in alternation, in one run, on the same scenarios, and writes bench/RESULTS.md.

    python bench/run.py [--rows NAME[,NAME]] [--rounds N] [--seconds N] [--servers sipd,kamailio] [--output FILE]
                        [--compiled VENV]

A figure of one run on one machine means little; the ratio of two servers that took turns means something. Costs depend
on the rate, so each row states its own. CPU is user and system time of all the server's processes, read before and
after the counted calls; one second of the same load goes before, uncounted.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.registrant import Registrant, Registration
from bench.servers import DOMAIN, CompiledSipd, Kamailio, Server, Sipd, busy_seconds, cpu_seconds, free_port
from bench.sipp import Figures, Sipp, write_users

ROOT = Path(__file__).resolve().parent.parent
SERVERS: dict[str, type[Server]] = {"sipd": Sipd, "sipd-compiled": CompiledSipd, "kamailio": Kamailio}
#: Which scenario answers which; the others are answered by the server.
OTHER_SIDE = {"call_uac": "call_uas", "call_digest_uac": "call_uas", "message_uac": "message_uas"}
CALLEES = 1000
PASSWORD = "bench-secret"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a scenario at a rate (units a second) over a transport."""

    name: str
    scenario: str
    unit: str
    rate: int
    transport: str = "udp"
    digest: bool = False


ROWS = (
    Row("register-500", "register", "REGISTER", 500),
    Row("register-1500", "register", "REGISTER", 1500),
    Row("register-digest-500", "register_digest", "REGISTER with digest", 500, digest=True),
    Row("call-udp-500", "call_uac", "call", 500),
    Row("call-udp-1500", "call_uac", "call", 1500),
    Row("call-tcp-500", "call_uac", "call over TCP", 500, transport="tcp"),
    Row("call-digest-500", "call_digest_uac", "call with digest", 500, digest=True),
    Row("message-500", "message_uac", "MESSAGE relayed", 500),
    Row("options-500", "options", "OPTIONS", 500),
)


@dataclass(frozen=True, slots=True)
class Measure:
    """One server, one row, one round. Microseconds of CPU a unit, milliseconds of response time, MiB; `others` is what
    programs that are no part of the benchmark used meanwhile, 1.0 being one CPU."""

    cpu: float
    p50: float
    p99: float
    failed: int
    retransmissions: int
    memory: float
    others: float


def measure(make: Callable[..., Server], row: Row, seconds: int, directory: Path) -> Measure:
    """Starts a fresh server, fills it, runs the row's load against it and stops it."""
    users = {f"user{number}": PASSWORD for number in range(CALLEES)} if row.digest else None
    server = make(directory / "server", users=users)
    try:
        return load(server, row, seconds, directory)
    finally:
        server.stop()


def load(server: Server, row: Row, seconds: int, directory: Path) -> Measure:
    """Runs a row's load against a started server: callees first, one second of warming up, then what counts."""
    names = [f"user{number}" for number in range(CALLEES)]
    target = f"127.0.0.1:{server.port}"
    stream = row.transport == "tcp"
    mode = "t1" if stream else "u1"
    answering: Sipp | None = None
    callee_port = free_port()
    contact = f"127.0.0.1:{callee_port}" + (";transport=tcp" if stream else "")
    other_side = OTHER_SIDE.get(row.scenario)
    if other_side is not None:
        answering = Sipp(other_side, "", ("127.0.0.1", callee_port), directory / "uas", transport=mode)
        registrant = Registrant(("127.0.0.1", server.port), DOMAIN)
        registrations = [Registration(name, f"sip:{name}@{contact}", password=PASSWORD) for name in names]
        registrant.run(registrations)
        registrant.close()
        refused = [registration for registration in registrations if registration.status != 200]
        if refused:
            answering.stop()
            raise RuntimeError(f"{server.name}: {len(refused)} callees did not register ({refused[0].status})")
    # A caller with digest is always user0: whom a call is from must be who proves it.
    rows = [
        (name, f"[authentication username={name if row.unit.startswith('REGISTER') else 'user0'} password={PASSWORD}]")
        for name in names
    ]
    injection = write_users(directory / "users.csv", rows)

    def run(name: str, calls: int) -> Figures:
        return Sipp(
            row.scenario, target, ("127.0.0.1", free_port()), directory / name, transport=mode,
            users=injection, keys={"domain": DOMAIN, "caller": f"user0@{DOMAIN}", "contact": contact}, calls=calls,
            rate=row.rate, timeout=seconds + 60,
        ).wait()

    run("warm", row.rate)
    before, busy, started = server.cpu(), busy_seconds() - _load_seconds(answering), time.monotonic()
    figures = run("counted", row.rate * seconds)
    spent = server.cpu() - before
    others = busy_seconds() - _load_seconds(answering) - busy - spent
    memory = server.memory() / 1024
    failed, repeats = figures.failed, figures.retransmissions
    if answering is not None:
        other = answering.stop()
        failed += other.failed
        repeats += other.retransmissions
    if figures.succeeded == 0:
        raise RuntimeError(f"{server.name}: no unit of {row.name} succeeded\n{figures.errors}")
    return Measure(
        1e6 * spent / figures.succeeded, figures.percentile(0.5), figures.percentile(0.99), failed, repeats, memory,
        max(others / (time.monotonic() - started), 0.0),
    )


def _load_seconds(answering: Sipp | None) -> float:
    """CPU seconds of the load itself: this program, the SIPps that have ended and the one that answers."""
    mine, ended = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    running = cpu_seconds(answering.process.pid) if answering is not None else 0.0
    return mine.ru_utime + mine.ru_stime + ended.ru_utime + ended.ru_stime + running


def _version(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return "absent"
    return next((line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()), "unknown")


def _surroundings(arguments: Sequence[str]) -> list[str]:
    cpu = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")), "unknown",
    )
    programs = f"{_version(['kamailio', '-v'])}; {_version(['sipp', '-v'])}"
    commit = _version(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"])
    return [
        f"- Date: {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC, sipd at commit {commit}",
        f"- Machine: {cpu}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}",
        f"- Python {platform.python_version()} ({os.path.realpath(sys.executable)}); {programs}",
        f"- Command: `{shlex.join(['python', 'bench/run.py', *arguments])}`",
    ]


def table(results: dict[str, dict[str, list[Measure]]], rows: Sequence[Row]) -> list[str]:
    """The results as a Markdown table: medians, spread, and the ratio of the medians."""
    lines = [
        "| row | server | CPU µs a unit: median (lowest to highest) | ratio | p50 / p99, ms | failed | repeats | MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        by_server = results[row.name]
        base = statistics.median(one.cpu for one in by_server["kamailio"]) if by_server.get("kamailio") else 0.0
        for name, measures in by_server.items():
            if not measures:
                continue
            cpu = [one.cpu for one in measures]
            middle = statistics.median(cpu)
            ratio = f"{middle / base:.2f}" if base else "-"
            lines.append(
                f"| {row.unit}, {row.rate}/s | {name} | {middle:.0f} ({min(cpu):.0f} to {max(cpu):.0f}) | {ratio} "
                f"| {statistics.median(one.p50 for one in measures):.0f} / "
                f"{statistics.median(one.p99 for one in measures):.0f} | {sum(one.failed for one in measures)} "
                f"| {sum(one.retransmissions for one in measures)} "
                f"| {statistics.median(one.memory for one in measures):.0f} |"
            )
    return lines


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmark; exit status 1 when a needed program is missing or a unit of sipd's failed."""
    parser = argparse.ArgumentParser(description="sipd and Kamailio, side by side", allow_abbrev=False)
    names = ",".join(row.name for row in ROWS)
    parser.add_argument("--rows", default=names, help=f"rows to run, of {names}")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of alternation")
    parser.add_argument("--seconds", type=int, default=10, help="seconds of counted load a row")
    parser.add_argument("--servers", default="sipd,kamailio", help="which servers, in order")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "RESULTS.md", help="where the table goes")
    parser.add_argument("--compiled", type=Path, default=None, metavar="VENV",
                        help="an environment with the compiled build (make compiled): sipd-compiled is run too")
    options = parser.parse_args(arguments)
    missing = [name for name in ("sipp", "kamailio") if shutil.which(name) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; as root: apt-get install sip-tester kamailio", file=sys.stderr)
        return 1
    by_name = {row.name: row for row in ROWS}
    rows = [by_name[name] for name in options.rows.split(",")]
    servers = options.servers.split(",")
    if options.compiled is not None:
        CompiledSipd.environment = options.compiled.resolve()
        if CompiledSipd.name not in servers:
            servers.insert(1, CompiledSipd.name)
    results: dict[str, dict[str, list[Measure]]] = {row.name: {name: [] for name in servers} for row in rows}
    for number in range(options.rounds):
        for row in rows:
            # The first of a pair may find a cooler machine: take turns at that too.
            for name in servers if number % 2 == 0 else reversed(servers):
                with tempfile.TemporaryDirectory(prefix="sipd-bench-") as directory:
                    one = measure(SERVERS[name], row, options.seconds, Path(directory))
                results[row.name][name].append(one)
                print(
                    f"round {number + 1}  {row.name:22} {name:13} {one.cpu:7.1f} us  p50 {one.p50:.0f} ms  p99 "
                    f"{one.p99:.0f} ms  failed {one.failed}  repeats {one.retransmissions}  {one.memory:.0f} MiB  "
                    f"others {one.others:.2f}",
                    flush=True,
                )
    lines = table(results, rows)
    others = [one.others for row in results.values() for measures in row.values() for one in measures]
    quiet = f"- Other programs used {statistics.median(others):.2f} CPUs (median run), {max(others):.2f} (worst run)"
    text = "\n".join(["# sipd and Kamailio side by side", "", *_surroundings(arguments), quiet, "", *lines, ""])
    options.output.write_text(text)
    print("\n".join(lines))
    failed = sum(one.failed for row in results.values() for name in row if name != Kamailio.name for one in row[name])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
