"""SIPp as a child process: one call of `Sipp` is one scenario run, with its figures read from its statistics file."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SCENARIOS = Path(__file__).resolve().parent / "scenarios"


@dataclass(frozen=True, slots=True)
class Figures:
    """What one SIPp said at its end: counts of calls and messages, response times 1 in milliseconds, sorted."""

    created: int
    succeeded: int
    failed: int
    retransmissions: int
    response_times: tuple[float, ...]
    errors: str

    def percentile(self, part: float) -> float:
        """The response time, in milliseconds, that `part` (0 to 1) of the calls did not pass; 0.0 without any."""
        if not self.response_times:
            return 0.0
        return self.response_times[min(int(part * len(self.response_times)), len(self.response_times) - 1)]


def write_users(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    """Writes an injection file: one row per call, in order and over again, as [field0], [field1], ..."""
    path.write_text("SEQUENTIAL\n" + "".join(";".join(row) + "\n" for row in rows))
    return path


class Sipp:
    """One running SIPp. `directory` is its own: scenario traces and statistics are left there."""

    def __init__(
        self, scenario: str, server: str, local: tuple[str, int], directory: Path, *, transport: str = "u1",
        users: Path | None = None, keys: dict[str, str] | None = None, calls: int = 0, rate: float = 0.0,
        timeout: float = 300.0, hold: int = 0, extra: Sequence[str] = (),
    ) -> None:
        """`server` is `address:port`, "" for the answering side; `transport` SIPp's own `-t` (u1, t1, tn); `calls` 0
        runs until `stop`; `rate` calls a second; `hold` milliseconds of each call; `timeout` seconds until SIPp
        gives up by itself."""
        program = shutil.which("sipp")
        if program is None:
            raise FileNotFoundError("sipp is not installed (Debian: apt-get install sip-tester)")
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._timeout = timeout
        address, port = local
        command = [
            program, "-sf", str(SCENARIOS / f"{scenario}.xml"), "-i", address, "-p", str(port), "-t", transport,
            "-nostdin", "-trace_stat", "-stf", "stat.csv", "-fd", "1", "-trace_err", "-error_file", "errors.log",
            "-trace_rtt", "-rtt_freq", "1000", "-timeout", str(int(timeout)), "-buff_size", str(4 << 20),
            "-max_socket", "20000", "-l", "10000", "-watchdog_minor_threshold", "100000",
            "-watchdog_major_threshold", "100000",
        ]
        if users is not None:
            command += ["-inf", str(users)]
        for name, value in (keys or {}).items():
            command += ["-key", name, value]
        if calls:
            command += ["-m", str(calls)]
        if rate:
            command += ["-r", str(rate), "-d", str(hold)]
        command += [*extra, *([server] if server else [])]
        with open(directory / "screen.txt", "wb") as screen:
            self.process = subprocess.Popen(
                command, cwd=directory, stdin=subprocess.DEVNULL, stdout=screen, stderr=subprocess.STDOUT,
                env={**os.environ, "TERM": "xterm"},
            )

    def wait(self) -> Figures:
        """Waits for the scenario's end and gives its figures."""
        try:
            self.process.wait(self._timeout + 15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return self.figures()

    def stop(self) -> Figures:
        """Ends an answering side after its open calls, or at once when they do not end, and gives its figures."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.figures()

    def figures(self) -> Figures:
        """The figures from the files SIPp wrote; those of a SIPp that could not start have one failed call."""
        errors = self.directory / "errors.log"
        text = errors.read_text(errors="replace") if errors.exists() else ""
        stat = self.directory / "stat.csv"
        rows: list[dict[str, str]] = []
        if stat.exists():
            with open(stat, newline="") as lines:
                rows = [row for row in csv.DictReader(lines, delimiter=";") if row.get("FailedCall(C)")]
        if not rows:
            screen = (self.directory / "screen.txt").read_text(errors="replace")
            return Figures(0, 0, 1, 0, (), text + screen[-2000:])
        last = rows[-1]
        return Figures(
            int(last["TotalCallCreated"]), int(last["SuccessfulCall(C)"]), int(last["FailedCall(C)"]),
            int(last["Retransmissions(C)"]), self._response_times(), text[:4000],
        )

    def _response_times(self) -> tuple[float, ...]:
        times: list[float] = []
        for path in self.directory.glob("*_rtt.csv"):
            for line in path.read_text().splitlines()[1:]:
                fields = line.split(";")
                if len(fields) > 2 and fields[2] == "1":
                    times.append(float(fields[1]))
        return tuple(sorted(times))
