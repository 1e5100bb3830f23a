"""What subscriptions cost: thousands of them, then one user watched by hundreds, while others have calls.

    python bench/events.py [--subscriptions N] [--watchers N] [--seconds N] [--rate N] [--compiled VENV]
                           [--output FILE]

A fresh server of this tree on 127.0.0.1, stores on disk. Half of the subscriptions are to `dialog`, then half to
`presence`, by phones that registered; each half is followed by 35 s of rest, so that its transactions are gone when
memory is looked at. Then one user is watched by so many, and what that user does changes again and again: calls, which
`dialog` tells, and PUBLISH, which `presence` tells; each first alone, for the CPU of a NOTIFY, then beside calls of
others at a fixed rate. It ends by itself, in less than three minutes; no figure makes it fail.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.callers import Calls
from bench.registrant import Registrant, Registration
from bench.servers import DOMAIN, ROOT, CompiledSipd, Server, Sipd, busy_seconds, cpu_seconds
from bench.steady import Beside, Outcome
from bench.watchers import Asked, Watchers

#: Seconds until nothing is left of a transaction, and how long the last watcher is waited for.
REST, LATEST = 35.0, 15.0
#: Seconds between two PUBLISHes: presence tells a watcher nothing more for five (RFC 3856 s6.10).
PUBLISHED_EVERY = 1.0
#: The user whom everybody watches, as `Calls` calls it.
STAR, NAME = "star0", "star"


@dataclass(slots=True)
class FanOut:
    """What came of one user's changes: how long each took to reach the last watcher (seconds), NOTIFYs, CPU seconds."""

    lags: list[float] = field(default_factory=list)
    missed: int = 0
    notifies: int = 0
    cpu: float = 0.0
    seconds: float = 0.0
    calls: Outcome | None = None

    def row(self, name: str) -> str:
        """As a row of the table."""
        calls = self.calls
        meanwhile = "|" if calls is None else (
            f"{calls.percentile(0.5):.1f} / {calls.percentile(0.99):.1f} ({calls.failed} of {calls.begun} failed) |")
        cpu = f"{1e6 * self.cpu / self.notifies:.0f}" if self.notifies and calls is None else ""
        late = f", {self.missed} not within {LATEST:.0f} s" if self.missed else ""
        lags = f"{max(self.lags):.2f} ({len(self.lags)} changes{late})" if self.lags else ""
        rate = f"{self.notifies / self.seconds:.0f}" if self.notifies else ""
        return f"| {name} | {rate} | {cpu} | {lags} | {meanwhile}"


class Star:
    """The user whom everybody watches: each of `steps` changes a state, and tells what watchers are to hear."""

    def __init__(self, server: Server, watchers: Watchers) -> None:
        self._calls = Calls(("127.0.0.1", server.port), DOMAIN, 1000, NAME)
        self._calls.register(1)
        self._watchers = watchers
        self._published = 0
        self._step = 0

    def close(self) -> None:
        """Closes the sockets."""
        self._calls.close()

    def call(self) -> bytes:
        """The next state of a call: it rings, is answered, ends."""
        step, self._step = self._step, (self._step + 1) % 3
        if step == 0:
            self._calls.ring(1)
        elif step == 1:
            self._calls.answer()
        else:
            self._calls.hang_up()
        if self._calls.failed:
            raise RuntimeError("the call to the user who is watched failed")
        return (b"early", b"confirmed", b"")[step]

    def publish(self) -> bytes:
        """Another note; after a while, as people do."""
        self._watchers.rest(PUBLISHED_EVERY)
        self._published += 1
        word = f"word{self._published}"
        self._watchers.publish(STAR, word)
        return word.encode()


def register(server: Server, watchers: Watchers, users: Sequence[str]) -> None:
    """Registers the phones. Raises RuntimeError when one is refused."""
    registrant = Registrant(("127.0.0.1", server.port), DOMAIN)
    made = [Registration(user, watchers.contact(user)) for user in users]
    registrant.run(made)
    registrant.close()
    failed = sum(one.status != 200 for one in made)
    if failed:
        raise RuntimeError(f"{failed} phones did not register")


def waves(server: Server, watchers: Watchers, users: Sequence[str]) -> list[str]:
    """Every user watches another, by one package after the other: CPU and memory."""
    lines = ["| subscriptions | a second | CPU µs each, with its first NOTIFY | bytes each | sent again |",
             "|---|---|---|---|---|"]
    for package in ("dialog", "presence"):
        wanted = [Asked(user, users[(number + 1) % len(users)], package) for number, user in enumerate(users)]
        before, cpu, started = server.memory(), server.cpu(), time.monotonic()
        again = watchers.repeats + watchers.postponed
        watchers.subscribe(wanted)
        took, cpu = time.monotonic() - started, server.cpu() - cpu
        watchers.rest(REST)
        row = (f"| {len(wanted):,} {package} | {len(wanted) / took:.0f} | {1e6 * cpu / len(wanted):.0f} "
               f"| {1024 * (server.memory() - before) / len(wanted):.0f} "
               f"| {watchers.repeats + watchers.postponed - again} |")
        lines.append(row)
        print(row, flush=True)
    return lines


def fan_out(server: Server, watchers: Watchers, wanted: Sequence[Asked], change: Callable[[], bytes],
            goes_on: Callable[[], bool]) -> FanOut:
    """Changes a state and waits until the last watcher knows, again and again while `goes_on()`."""
    outcome = FanOut()
    told, cpu, started = watchers.notifies, server.cpu(), time.monotonic()
    while goes_on() or not outcome.lags:
        word = change()
        since = time.monotonic()
        watchers.expect(wanted, word)
        if not watchers.until(lambda: not watchers.behind, LATEST):
            outcome.missed += 1
        outcome.lags.append(time.monotonic() - since)
    outcome.notifies, outcome.cpu = watchers.notifies - told, server.cpu() - cpu
    outcome.seconds = time.monotonic() - started
    return outcome


def fan_outs(server: Server, watchers: Watchers, users: Sequence[str], seconds: int, rate: int) -> list[str]:
    """One user, many watchers; calls alone, fan-outs alone, and both together."""
    lines = [f"| {len(users)} watchers | NOTIFYs a second | CPU µs a NOTIFY | seconds until the last one knew, at most "
             "| INVITE to 180 of others, p50 / p99, ms |", "|---|---|---|---|---|"]

    def tell(name: str, outcome: FanOut) -> None:
        lines.append(outcome.row(name))
        print(lines[-1], flush=True)

    star = Star(server, watchers)
    try:
        calls = Beside(server.port, rate, seconds).outcome()
        tell(f"no fan-out, {rate} calls a second", FanOut(calls=calls))
        for package, change in (("dialog", star.call), ("presence", star.publish)):
            wanted = [Asked(user, STAR, package) for user in users]
            watchers.subscribe(wanted)
            end = time.monotonic() + seconds
            tell(f"{package}, no other calls", fan_out(
                server, watchers, wanted, change, lambda end=end: time.monotonic() < end))  # type: ignore[misc]
            beside = Beside(server.port, rate, seconds)
            outcome = fan_out(server, watchers, wanted, change, lambda beside=beside: beside.running)  # type: ignore[misc]
            outcome.calls = beside.outcome()
            tell(f"{package}, {rate} calls a second", outcome)
    finally:
        star.close()
    return lines


def surroundings(arguments: Sequence[str]) -> list[str]:
    """Where and how it ran."""
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), "unknown")
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                            check=False).stdout.strip() or "unknown"
    return [f"- Date: {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC, sipd at commit {commit}",
            f"- Machine: {cpu}, {os.cpu_count()} CPUs, which the load has to share; {platform.system()} "
            f"{platform.release()}; Python {platform.python_version()}",
            f"- Command: `{shlex.join(['python', 'bench/events.py', *arguments])}`"]


NOTES = """
CPU is user and system time of the server's process. Memory is its proportional set size; of the two halves the second
says what a subscription costs, for the first one also holds what a burst of transactions leaves to the allocator. A
change counts from the moment the server was told of it; watchers hear of it at `[events] rate` NOTIFYs a second, 500 as
delivered, and of presence at most each 5 s (RFC 3856 s6.10), of dialogs each second (RFC 4235 s3.10): that, and not the
work, is most of the time until the last one knows. Watchers and calls have a Python process each, on the same CPUs.
"""


def main(arguments: Sequence[str]) -> int:
    """Measures and writes the page."""
    parser = argparse.ArgumentParser(description="sipd and its watchers", allow_abbrev=False)
    parser.add_argument("--subscriptions", type=int, default=10_000, help="subscriptions, half of each package")
    parser.add_argument("--watchers", type=int, default=500, help="who watch the one user")
    parser.add_argument("--seconds", type=int, default=10, help="seconds of each load of calls")
    parser.add_argument("--rate", type=int, default=50, help="calls of others a second")
    parser.add_argument("--compiled", type=Path, default=None, metavar="VENV",
                        help="an environment with the compiled build (make compiled), which is measured instead")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "EVENTS.md",
                        help="where the tables go, - for nowhere")
    options = parser.parse_args(arguments)
    users = [f"user{number}" for number in range(max(options.subscriptions // 2, options.watchers))]
    make: type[Sipd] = Sipd
    if options.compiled is not None:
        make = CompiledSipd
        make.environment = options.compiled.resolve()
    began, busy = time.monotonic(), busy_seconds()
    with tempfile.TemporaryDirectory(prefix="sipd-events-") as directory:
        server = make(Path(directory) / "server", durable=True)
        watchers = Watchers(("127.0.0.1", server.port), DOMAIN)
        try:
            register(server, watchers, users)
            halves = waves(server, watchers, users[:options.subscriptions // 2])
            one = fan_outs(server, watchers, users[:options.watchers], options.seconds, options.rate)
            ours = cpu_seconds(os.getpid())
        finally:
            watchers.close()
            server.stop()
    took = time.monotonic() - began
    lines = ["# sipd and its watchers", "", *surroundings(arguments),
             f"- {make.name}; {took:.0f} s in all; the whole machine was busy with "
             f"{(busy_seconds() - busy) / took:.2f} CPUs, {ours / took:.2f} of them server and watchers",
             "", *halves, "", *one, "", *NOTES.strip().split("\n")]
    if options.output != Path("-"):
        options.output.write_text("\n".join(lines) + "\n")
    print("\n".join(["", *lines]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
