"""What is left of a server's best rate of calls when twice as many come, with and without refusing some (SIPp).

    python bench/overload.py [--seconds N] [--compiled VENV] [--times F]

The rate is raised step by step, each on a fresh server, until a tenth of the calls is not completed, twice; the best
rate is the most calls a second that were completed in a step. Then F (2.0) times that are offered, to a server as it is
delivered and to one that begins whatever comes ([overload] shed = false). A call counts when the called side has seen
its end: INVITE 100 180 200 ACK BYE 200 over UDP with Record-Route. The server has one CPU, and shares it with a program
that never rests: SIPp has the others, and must have time for twice what the server can do. Takes some minutes, alone on
the machine.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.registrant import Registrant, Registration
from bench.servers import DOMAIN, CompiledSipd, Sipd, free_port
from bench.sipp import Sipp, write_users

#: Calls a second of the first step, and what a step adds to the one before it.
FIRST, GROWTH = 400, 1.3
#: A step counts as held when this part of the calls was completed; the second in a row that is not is the last.
HELD = 0.9
#: Users that are called, in turn.
CALLEES = 200
#: Seconds of a load that are not counted at its beginning, and those that begun calls still have after its end.
WARM, PATIENCE = 2, 6
#: For SIPp: calls at one time.
LIMIT = ("-l", "19000")
#: The part of the best rate that must be left.
WANTED = 0.75


@dataclass(frozen=True, slots=True)
class Outcome:
    """Calls a second, and the time from INVITE to 180 in milliseconds of those that had one."""

    offered: float
    completed: float
    refused: float
    middle: float
    ninety_nine: float
    repeats: int

    def line(self, name: str) -> str:
        """As a row of a Markdown table."""
        return (f"| {name} | {self.offered:.0f} | {self.completed:.0f} | {self.refused:.0f} | {self.middle:.0f} / "
                f"{self.ninety_nine:.0f} | {self.repeats} |")


def offer(make: type[Sipd], rate: int, seconds: int, directory: Path, shed: bool = True) -> Outcome:
    """Offers so many calls a second to a fresh server."""
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cpus[:1])
    server = make(directory / "server", more=f"[overload]\nshed = {'true' if shed else 'false'}\n")
    beside = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    os.sched_setaffinity(0, cpus[1:] or cpus)
    try:
        place = "127.0.0.1", free_port()
        answering = Sipp("call_uas", "", place, directory / "uas", extra=LIMIT)
        try:
            registrant = Registrant(("127.0.0.1", server.port), DOMAIN)
            names = [f"user{number}" for number in range(CALLEES)]
            registrant.run([Registration(name, f"sip:{name}@127.0.0.1:{place[1]}") for name in names])
            registrant.close()
            users = write_users(directory / "users.csv", [(name,) for name in names])
            keys = {"domain": DOMAIN, "caller": f"user0@{DOMAIN}"}

            figures = Sipp(
                "call_or_refusal_uac", f"127.0.0.1:{server.port}", ("127.0.0.1", free_port()), directory / "uac",
                users=users, rate=rate, calls=rate * seconds, timeout=seconds + PATIENCE, keys=keys, extra=LIMIT,
            ).wait()
        finally:
            answered = answering.stop()
    finally:
        os.sched_setaffinity(0, cpus)
        beside.kill()
        beside.wait()
        server.stop()
    rows = _rows(directory / "uac")
    begin, end = rows[0].time + WARM, rows[0].time + seconds
    offered = _rate([(row.time, row.created) for row in rows], begin, end)
    completed = _rate([(row.time, row.succeeded) for row in _rows(directory / "uas")], begin, end)
    over = _rate([(row.time, row.succeeded) for row in rows], begin, end)
    return Outcome(offered, completed, max(over - completed, 0.0), figures.percentile(0.5), figures.percentile(0.99),
                   figures.retransmissions + answered.retransmissions)


@dataclass(frozen=True, slots=True)
class _Row:
    """SIPp's counters at a time, in seconds since the epoch."""

    time: float
    created: int
    succeeded: int


def _rows(directory: Path) -> list[_Row]:
    """What a SIPp wrote once a second."""
    with open(directory / "stat.csv", newline="") as lines:
        return [_Row(float(row["CurrentTime"].split("\t")[-1]), int(row["TotalCallCreated"]),
                     int(row["SuccessfulCall(C)"]))
                for row in csv.DictReader(lines, delimiter=";") if row.get("FailedCall(C)")]


def _rate(counts: list[tuple[float, int]], begin: float, end: float) -> float:
    """How fast a counter grew between two times, a second."""
    inside = [one for one in counts if begin - 0.5 <= one[0] <= end + 0.5]
    if len(inside) < 2:
        return 0.0
    return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])


def main() -> int:
    """Prints the table; the exit status is 1 when less than WANTED is left of the best rate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=10, help="of each load")
    parser.add_argument("--times", type=float, default=2.0, help="how many times the best rate are offered")
    parser.add_argument("--compiled", help="run the build in this environment instead of the sources")
    arguments = parser.parse_args()
    make: type[Sipd] = Sipd
    if arguments.compiled:
        CompiledSipd.environment = Path(arguments.compiled).resolve()
        make = CompiledSipd
    print("| calls | offered a second | completed | refused | p50 / p99, ms | repeats |\n|---|---|---|---|---|---|")
    best, rate, not_held = 0.0, FIRST, 0
    with tempfile.TemporaryDirectory(prefix="sipd-overload-") as name:
        directory = Path(name)
        while True:
            step = offer(make, rate, arguments.seconds, directory / f"step{rate}")
            print(step.line("step"), flush=True)
            best = max(best, step.completed)
            not_held = not_held + 1 if step.completed < HELD * step.offered else 0
            if not_held == 2:
                break
            rate = round(rate * GROWTH)
        twice = round(arguments.times * best)
        shedding = offer(make, twice, arguments.seconds, directory / "shedding")
        print(shedding.line(f"{arguments.times:g} times the best"), flush=True)
        without = offer(make, twice, arguments.seconds, directory / "without", shed=False)
        print(without.line("the same, shed = false"), flush=True)
    left = shedding.completed / best
    print(f"\nBest rate {best:.0f} calls a second; at {shedding.offered:.0f} offered, {left:.0%} of it are completed, "
          f"{without.completed / best:.0%} by a server that begins whatever comes.")
    return 0 if left >= WANTED else 1


if __name__ == "__main__":
    raise SystemExit(main())
