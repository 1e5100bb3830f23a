"""Calls at a fixed rate from a process of its own, with the times from INVITE to 180: how others fare meanwhile.

    python bench/steady.py --server 127.0.0.1:5060 [--rate N] [--seconds N]

Prints one line of JSON: `begun`, `failed`, and `times`, in milliseconds, sorted. It ends by itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.callers import Calls
from bench.servers import DOMAIN

#: Users that are called in turn, how long each call is (seconds), and how long calls may take to end after the last.
CALLEES, TALK, PATIENCE = 100, 0.5, 5.0


class Steady(Calls):
    """Calls that ring, are answered at once and end by themselves."""

    def __init__(self, server: tuple[str, int], rate: int) -> None:
        super().__init__(server, DOMAIN, rate, "steady")
        #: Milliseconds from INVITE to 180.
        self.times: list[float] = []
        self._begun: dict[bytes, float] = {}
        self._to_end: deque[tuple[float, bytes]] = deque()

    def run(self, seconds: float) -> None:
        """Makes calls for so long."""
        count = int(self._rate * seconds)
        self._pace([partial(self._invite, number) for number in range(count)])
        end = time.monotonic() + PATIENCE
        while len(self._ended) < count and time.monotonic() < end:
            self._wait(0.05)
        self.failed = count - len(self._ended)
        self._made = count

    @property
    def begun(self) -> int:
        """Calls that were begun."""
        return self._made

    def _invite(self, number: int) -> None:
        self._begun[b"%d@steady" % number] = time.perf_counter()
        super()._invite(number)

    def _wait(self, seconds: float) -> None:
        now = time.monotonic()
        while self._to_end and self._to_end[0][0] <= now:
            self._put(self._caller, self._in_dialog(b"BYE", self._to_end.popleft()[1], 2))
        super()._wait(min(seconds, max(self._to_end[0][0] - now, 0.0)) if self._to_end else seconds)

    def _take_answer(self, data: bytes) -> None:
        now = time.perf_counter()
        known = len(self._oks)
        super()._take_answer(data)
        if data.startswith(b"SIP/2.0 180"):
            begun = self._begun.pop(_call_of(data), None)
            if begun is not None:
                self.times.append(1000 * (now - begun))
        elif len(self._oks) > known:
            self._to_end.append((time.monotonic() + TALK, data))

    def _take_request(self, data: bytes) -> None:
        super()._take_request(data)
        if data.startswith(b"INVITE "):
            self._accept(data)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Calls begun and failed, and sorted milliseconds from INVITE to 180."""

    begun: int
    failed: int
    times: tuple[float, ...]

    def percentile(self, part: float) -> float:
        """The time, in milliseconds, that `part` (0 to 1) of the calls did not pass; 0.0 without any."""
        return self.times[min(int(part * len(self.times)), len(self.times) - 1)] if self.times else 0.0


class Beside:
    """The program, running beside what is measured."""

    def __init__(self, port: int, rate: int, seconds: int) -> None:
        self._limit = seconds + 4 * PATIENCE
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--server", f"127.0.0.1:{port}", "--rate", str(rate), "--seconds", str(seconds)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    @property
    def running(self) -> bool:
        """False when it has ended."""
        return self._process.poll() is None

    def outcome(self) -> Outcome:
        """Waits for its end. Raises RuntimeError when it failed."""
        try:
            text = self._process.communicate(timeout=self._limit)[0]
        except subprocess.TimeoutExpired:
            self._process.kill()
            text = self._process.communicate()[0]
        if self._process.returncode:
            raise RuntimeError("the calls beside the measurement did not end well")
        value = json.loads(text)
        return Outcome(value["begun"], value["failed"], tuple(value["times"]))


def _call_of(data: bytes) -> bytes:
    return data.partition(b"\r\nCall-ID: ")[2].partition(b"\r\n")[0]


def main(arguments: Sequence[str]) -> int:
    """Makes the calls and prints what came of them."""
    parser = argparse.ArgumentParser(description="calls at a fixed rate", allow_abbrev=False)
    parser.add_argument("--server", required=True, help="address:port, UDP")
    parser.add_argument("--rate", type=int, default=50, help="calls a second")
    parser.add_argument("--seconds", type=int, default=10, help="how long")
    options = parser.parse_args(arguments)
    address, _, port = options.server.rpartition(":")
    calls = Steady((address, int(port)), options.rate)
    try:
        calls.register(CALLEES)
        calls.run(options.seconds)
    finally:
        calls.close()
    print(json.dumps({"begun": calls.begun, "failed": calls.failed, "times": sorted(calls.times)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
