"""Measures sipd and Kamailio in alternation, in one run, on the same scenarios, and writes bench/RESULTS.md.

    python bench/run.py [--rows NAME[,NAME]] [--rounds N] [--seconds N] [--servers sipd,kamailio] [--output FILE]
                        [--compiled VENV] [--no-highest]

The output `-` writes no file.

A figure of one run on one machine means little; the ratio of two servers that took turns means something. Costs depend
on the rate, so each row states its own. CPU is user and system time of all the server's processes, read before and
after the counted calls; one second of the same load goes before, uncounted.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.load import (
    CALLEES,
    FASTEST,
    PASSWORD,
    ROWS,
    STEP_SECONDS,
    STEPS,
    Measure,
    Row,
    highest_rate,
    load,
    measure,
    without_server,
)
from bench.servers import CompiledSipd, Kamailio, Server, Sipd

__all__ = ["CALLEES", "PASSWORD", "ROWS", "load", "main"]

ROOT = Path(__file__).resolve().parent.parent
SERVERS: dict[str, type[Server]] = {"sipd": Sipd, "sipd-compiled": CompiledSipd, "kamailio": Kamailio}
#: The row whose highest rate is sought.
HIGHEST = "call-udp-500"
#: The scenarios whose two sides can do without a server between them, and the name of that line.
DIRECT, NOBODY = ("call_uac", "tls_calls"), "none"
#: Repeats and failures, as a part of the units, above which a rate counts as not held.
OVERLOAD = 0.005


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
        f"- Machine: {cpu}, {os.cpu_count()} CPUs, which the load has to share; {platform.system()} "
        f"{platform.release()}",
        f"- Python {platform.python_version()} ({os.path.realpath(sys.executable)}); {programs}; "
        f"{_version(['openssl', 'version'])}",
        f"- Command: `{shlex.join(['python', 'bench/run.py', *arguments])}`",
    ]


def held(row: Row, measures: Sequence[Measure], seconds: int) -> bool:
    """False when so much failed or was repeated that the rate was more than the server, or the machine, could do."""
    lost = sum(one.failed + one.retransmissions for one in measures)
    return lost <= OVERLOAD * row.rate * seconds * len(measures)


def table(results: dict[str, dict[str, list[Measure]]], rows: Sequence[Row], seconds: int) -> list[str]:
    """The results as a Markdown table: medians, spread, and the ratio of the medians to Kamailio's."""
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
            if name == NOBODY:
                one = measures[0]
                lines.append(f"| {row.unit}, {row.rate}/s | no server between | | | {one.p50:.1f} / {one.p99:.1f} "
                             f"| {one.failed} | {one.retransmissions} | |")
                continue
            cpu = [one.cpu for one in measures]
            middle = statistics.median(cpu)
            ratio = f"{middle / base:.2f}" if base else "-"
            failed, repeats = sum(one.failed for one in measures), sum(one.retransmissions for one in measures)
            overload = "" if held(row, measures, seconds) else " (not held)"
            lines.append(
                f"| {row.unit}, {row.rate}/s{overload} | {name} | {middle:.0f} ({min(cpu):.0f} to {max(cpu):.0f}) "
                f"| {ratio} | {statistics.median(one.p50 for one in measures):.1f} / "
                f"{statistics.median(one.p99 for one in measures):.1f} | {failed} | {repeats} "
                f"| {statistics.median(one.memory for one in measures):.0f} |"
            )
    return lines


NOTES = f"""
Response times are from INVITE to 180, or from a request to its 200, over the server and back; SIPp's have its
resolution of a millisecond, and the kernel's tick where the machine is idle. The lines without a server show what the
load itself takes: what stands above them was added by the server. MiB is the most that all processes of the server
held under load. "Not held" is a rate at which more than {OVERLOAD:.1%} of the units failed or had to be repeated: the
server, or the load beside it on the same CPUs, was at its end, and what stands in that line is the price of overload.

One worker each; over TCP and TLS one connection to each side. Durable: SQLite in WAL mode, synced to the disk before
the answer, by both. TLS has a load client of our own (bench/tls_calls.py), the same for all.
"""


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmark; exit status 1 when a needed program is missing, or a unit failed at a rate that sipd held."""
    parser = argparse.ArgumentParser(description="sipd and Kamailio, side by side", allow_abbrev=False)
    names = ",".join(row.name for row in ROWS)
    parser.add_argument("--rows", default=names, help=f"rows to run, of {names}")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of alternation")
    parser.add_argument("--seconds", type=int, default=5, help="seconds of counted load a row")
    parser.add_argument("--servers", default="sipd,kamailio", help="which servers, in order")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "RESULTS.md", help="where the table goes")
    parser.add_argument("--compiled", type=Path, default=None, metavar="VENV",
                        help="an environment with the compiled build (make compiled): sipd-compiled is run too")
    parser.add_argument("--no-highest", action="store_true", help="leave out the search for the highest rate")
    options = parser.parse_args(arguments)
    missing = [name for name in ("sipp", "kamailio", "openssl") if shutil.which(name) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; as root: apt-get install sip-tester kamailio openssl "
              "kamailio-sqlite-modules kamailio-tls-modules", file=sys.stderr)
        return 1
    by_name = {row.name: row for row in ROWS}
    rows = [by_name[name] for name in options.rows.split(",")]
    servers = options.servers.split(",")
    if options.compiled is not None:
        CompiledSipd.environment = options.compiled.resolve()
        if CompiledSipd.name not in servers:
            servers.insert(1, CompiledSipd.name)
    began = time.monotonic()
    results: dict[str, dict[str, list[Measure]]] = {row.name: {name: [] for name in servers} for row in rows}
    for number in range(options.rounds):
        for row in rows:
            # The first of a pair may find a cooler machine: take turns at that too.
            for name in servers if number % 2 == 0 else reversed(servers):
                with tempfile.TemporaryDirectory(prefix="sipd-bench-") as directory:
                    try:
                        one = measure(SERVERS[name], row, options.seconds, Path(directory))
                    except RuntimeError as error:
                        print(f"round {number + 1}  {row.name:22} {name:13} {error}", flush=True)
                        continue
                results[row.name][name].append(one)
                print(
                    f"round {number + 1}  {row.name:22} {name:13} {one.cpu:7.1f} us  p50 {one.p50:.1f} ms  p99 "
                    f"{one.p99:.1f} ms  failed {one.failed}  repeats {one.retransmissions}  {one.memory:.0f} MiB  "
                    f"others {one.others:.2f}",
                    flush=True,
                )
    for row in rows:
        if row.scenario in DIRECT:
            with tempfile.TemporaryDirectory(prefix="sipd-bench-") as directory:
                results[row.name][NOBODY] = [without_server(row, options.seconds, Path(directory))]
    lines = table(results, rows, options.seconds)
    lines += NOTES.split("\n")
    if not options.no_highest:
        lines += ["| highest rate of calls over UDP with none failed | calls a second |", "|---|---|"]
        for name in servers:
            with tempfile.TemporaryDirectory(prefix="sipd-bench-") as directory:
                rate = highest_rate(SERVERS[name], by_name[HIGHEST], Path(directory))
            print(f"highest rate  {name:13} {rate}/s", flush=True)
            lines.append(f"| {name} | {rate} |")
        lines += ["", f"Sought in {STEPS} steps of {STEP_SECONDS} s up to {FASTEST}/s, each on a fresh server; SIPp "
                  "and the server share the CPUs, so this is what the machine carries, not the server alone.", ""]
    others = [one.others for row in results.values() for name in servers for one in row[name]]
    quiet = (
        f"- {options.rounds} rounds of {options.seconds} s a row; other programs used {statistics.median(others):.2f} "
        f"CPUs (median), {max(others):.2f} (worst); {(time.monotonic() - began) / 60:.0f} minutes in all"
    )
    text = "\n".join(["# sipd and Kamailio side by side", "", *_surroundings(arguments), quiet, "", *lines])
    if options.output != Path("-"):
        options.output.write_text(text.rstrip("\n") + "\n")
    print("\n".join(lines))
    failed = sum(
        one.failed for row in rows for name, measures in results[row.name].items()
        if name.startswith("sipd") and held(row, measures, options.seconds) for one in measures
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
