"""Coverage-guided fuzzing of what reads the network, with atheris: `make fuzz`.

Each target of tests/fuzz/targets.py (all, or those named) runs in a process of its own for `--seconds` (FUZZ_SECONDS,
60), one after the other, beginning with its corpus in tests/fuzz/corpus and the vectors in tests/vectors. What breaks a
rule is written to tests/vectors/fuzz/TARGET, where `make test-core` replays it for ever, and the exit status is 1: give
it a name that says what it is. With `--keep` the corpus is written anew, the fewest inputs that reach the same code.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
DICTIONARY = ROOT / "tests" / "fuzz" / "sip.dict"
VECTORS = ROOT / "tests" / "vectors"
#: The longest input that is tried (octets): long ones find little and cost time. What size costs is counted elsewhere.
LONGEST = {"message": 2048, "framer": 2048, "uri": 256, "values": 256, "credentials": 512, "core": 2048}


def seeds(target: str, directory: Path) -> None:
    """Writes what a target begins with besides its corpus: the messages of RFC 4475, whole or the values of their
    header fields, and earlier findings."""
    inputs = {path.read_bytes() for path in (VECTORS / "fuzz" / target).glob("*")}
    for path in (VECTORS / "rfc4475").rglob("*.dat"):
        data = path.read_bytes()
        if target == "framer":
            inputs.add(b"\x06" + data)
        elif target in ("message", "core"):
            inputs.add(data)
        else:
            fields = re.findall(rb"\r\n[^\s:]+:[ \t]*((?:[^\r\n]|\r\n[ \t])+)", data)
            pattern = {"uri": rb"sips?:[^ >\r\n]+", "credentials": rb"Digest .+", "values": rb".+"}[target]
            inputs.update(found for field in fields for found in re.findall(pattern, field, re.DOTALL))
    for data in inputs:
        (directory / sha1(data).hexdigest()[:16]).write_bytes(data)


def fuzz(target: str, seconds: int, keep: bool = False) -> int:
    """Runs one target; the exit status of libFuzzer: 0 when nothing was found."""
    kept = CORPUS / target
    found = VECTORS / "fuzz" / target
    kept.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sipd-fuzz-") as name:
        grown, first = Path(name) / "grown", Path(name) / "first"
        grown.mkdir()
        first.mkdir()
        seeds(target, first)
        status = _child(target, [
            f"-max_total_time={seconds}", f"-max_len={LONGEST[target]}", f"-dict={DICTIONARY}", "-timeout=10",
            "-reload=0", "-verbosity=0", "-print_final_stats=1", f"-artifact_prefix={found}{os.sep}",
            str(grown), str(kept), str(first)])
        if status == 0 and keep:
            _keep(target, [grown, kept, first], Path(name) / "least")
    if not any(found.iterdir()):
        found.rmdir()
    return status


def _keep(target: str, sources: list[Path], least: Path) -> None:
    """Puts the fewest and shortest inputs that reach the same code in place of the corpus."""
    least.mkdir()
    if _child(target, ["-merge=1", f"-max_len={LONGEST[target]}", str(least), *map(str, sources)]) != 0:
        return
    kept = CORPUS / target
    if not any(least.iterdir()):
        return
    vectors = {path.read_bytes() for path in sources[2].iterdir()}
    for path in kept.iterdir():
        path.unlink()
    for path in least.iterdir():
        data = path.read_bytes()
        if data not in vectors:
            (kept / path.name[:16]).write_bytes(data)


def _child(target: str, arguments: list[str]) -> int:
    """Runs libFuzzer, by way of a program of its own, since for a merge it starts itself again."""
    with tempfile.TemporaryDirectory(prefix="sipd-fuzz-") as name:
        program = Path(name) / target
        inside = shlex.join([sys.executable, __file__, "--inside", target, "--"])
        program.write_text(f'#!/bin/sh\nexec {inside} "$0" "$@"\n')
        program.chmod(0o755)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run([program, *arguments], cwd=ROOT, check=False, env=environment).returncode


def inside(target: str, arguments: list[str]) -> None:
    """In the child: instruments sipd and hands over to libFuzzer, which ends the process."""
    import atheris

    atheris.enabled_hooks.add("str")
    with atheris.instrument_imports(include=["sipd"]):
        from tests.fuzz.targets import TARGETS
    one: Callable[[bytes], None] = TARGETS[target]
    atheris.Setup(arguments, one)
    atheris.Fuzz()


def main() -> int:
    """The exit status: 1 when something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help="message, framer, uri, values, credentials, core; all without any")
    seconds = int(os.environ.get("FUZZ_SECONDS") or "60")
    parser.add_argument("--seconds", type=int, default=seconds, help="for each target")
    parser.add_argument("--keep", action="store_true", help="write the corpus anew")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        inside(options.inside, options.targets)
    found = []
    for target in options.targets or LONGEST:
        print(f"--- {target}, {options.seconds} s", flush=True)
        if fuzz(target, options.seconds, options.keep) != 0:
            found.append(target)
    print("nothing found" if not found else f"found in {', '.join(found)}: see tests/vectors/fuzz", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
