"""Runs the tests with trial: `core` is everything but tests/interop, `real` is tests/interop.

Fails when a test fails, and also when one was skipped or when there was none: a skipped test shows nothing. Appends
"passed failed skipped" to the file named by TEST_COUNTS, for whoever sums them up.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def modules(part: str) -> list[str]:
    """The test modules of a part, as dotted names."""
    names = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        relative = path.relative_to(ROOT).with_suffix("")
        if ("interop" in relative.parts) == (part == "real"):
            names.append(".".join(relative.parts))
    return names


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
    lines: list[str] = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace") as trial:
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
