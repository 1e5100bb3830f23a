"""Where sipd's time goes: one row of the benchmark with sipd under cProfile, and the calls a unit costs.

    python bench/hotspots.py [ROW] [--seconds N] [--lines N] [--sort tottime|cumulative|ncalls]

cProfile makes every Python call dearer, so the shares are rough and the counts exact.
"""

from __future__ import annotations

import argparse
import pstats
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.run import CALLEES, PASSWORD, ROWS, load
from bench.servers import Sipd


def main(arguments: Sequence[str]) -> int:
    """Runs one row and prints its profile."""
    parser = argparse.ArgumentParser(description="sipd under cProfile", allow_abbrev=False)
    parser.add_argument("row", nargs="?", default="call-udp-500", choices=[row.name for row in ROWS])
    parser.add_argument("--seconds", type=int, default=5, help="seconds of load")
    parser.add_argument("--lines", type=int, default=60, help="lines of the table")
    parser.add_argument("--sort", default="tottime", help="a sort key of pstats")
    options = parser.parse_args(arguments)
    row = next(row for row in ROWS if row.name == options.row)
    with tempfile.TemporaryDirectory(prefix="sipd-hotspots-") as name:
        directory = Path(name)
        stats = directory / "sipd.stats"
        users = {f"user{number}": PASSWORD for number in range(CALLEES)} if row.digest else None
        twistd = ["--profile", str(stats), "--savestats", "--profiler", "cprofile"]
        server = Sipd(directory / "server", users=users, options=twistd, tracked=row.tracked)
        try:
            one = load(server, row, options.seconds, directory)
        finally:
            server.stop()
        profile = pstats.Stats(str(stats))
    profile.strip_dirs().sort_stats(options.sort).print_stats(options.lines)
    units = row.rate * (options.seconds + 1)
    calls: int = profile.total_calls  # type: ignore[attr-defined]
    print(f"{row.name}: about {calls / units:.0f} calls of all kinds a unit, {one.cpu:.0f} us of CPU under cProfile")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
