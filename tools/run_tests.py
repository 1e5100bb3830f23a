"""Runs the tests with trial: `core` is everything but tests/interop, `real` is tests/interop, and `compiled` is core on
the compiled build that is installed beside this Python, without the tests that are about the sources themselves.

Fails when a test fails, and also when one was skipped or when there was none: a skipped test shows nothing. Appends
"passed failed skipped" to the file named by TEST_COUNTS, for whoever sums them up.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: What only says something about pure Python: the rules of the sources; calls, lines and allocations counted.
OF_SOURCES = ("tests.house", "tests.test_cost", "tests.test_allocations", "tests.test_steps",
              "tests.calls.test_cost")


def modules(part: str) -> list[str]:
    """The test modules of a part, as dotted names."""
    names = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        relative = path.relative_to(ROOT).with_suffix("")
        name = ".".join(relative.parts)
        if part == "compiled" and name.startswith(OF_SOURCES):
            print(f"not run on the compiled build: {name}")
        elif ("interop" in relative.parts) == (part == "real"):
            names.append(name)
    return names


def away_from_sources(directory: Path) -> Path:
    """A directory that looks like this one but has no `sipd` in it, so that the installed one is tested."""
    for path in ROOT.iterdir():
        if path.name != "sipd" and not path.name.startswith((".venv", "_trial_temp", "build")):
            (directory / path.name).symlink_to(path)
    return directory


def compiled(directory: Path) -> bool:
    """Whether the `sipd` found from a directory is compiled."""
    ask = "import sipd.message.parser as p; raise SystemExit(p.__file__.endswith('.py'))"
    return subprocess.run([sys.executable, "-c", ask], cwd=directory, check=False).returncode == 0


def counts(summary: str) -> dict[str, int]:
    """The numbers of trial's last line: `FAILED (skips=1, failures=2, successes=3)`."""
    found = re.findall(r"^(?:PASSED|FAILED)(?: \((.*)\))?$", summary, re.MULTILINE)
    return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", found[-1])} if found else {}


def main(part: str) -> int:
    """The exit status of running a part."""
    names = modules(part)
    if not names:
        print(f"there are no {part} tests")
        return 1
    command = [sys.executable, "-m", "twisted.trial", f"--temp-directory=_trial_temp_{part}", *names]
    with tempfile.TemporaryDirectory(prefix="sipd-tests-") as name:
        place = away_from_sources(Path(name)) if part == "compiled" else ROOT
        if part == "compiled" and not compiled(place):
            print(f"{sys.executable} has no compiled sipd: make compiled")
            return 1
        return _run(command, place)


def _run(command: list[str], place: Path) -> int:
    """Runs trial in a directory and counts."""
    lines: list[str] = []
    environment = {**os.environ, "PYTHONPATH": str(place)}  # for the programs that tests start
    with subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace") as trial:
        assert trial.stdout is not None
        for line in trial.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            lines = [*lines[-50:], line]
    number = counts("".join(lines))
    passed = number.get("successes", 0)
    skipped = number.get("skips", 0) + number.get("expectedFailures", 0)
    failed = number.get("failures", 0) + number.get("errors", 0) + number.get("unexpectedSuccesses", 0)
    if trial.returncode and not failed:
        failed = 1
    tally = os.environ.get("TEST_COUNTS")
    if tally:
        with open(tally, "a", encoding="ascii") as file:
            file.write(f"{passed} {failed} {skipped}\n")
    if skipped:
        print(f"{skipped} tests were skipped: that counts as failed")
    return 1 if failed or skipped or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
