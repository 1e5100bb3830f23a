"""Breaks the core in named ways, one after the other, and asks whether a test notices: `make mutants`.

Each mutant is a small change of one file; it is made in a copy of the tree, where the test modules that ought to
notice are run until one test fails. First those tests run on the copy as it is, and must pass. The command fails, and
names the mutant, when one survives, when its old text is not there exactly once any more, or when it does not import.

    python tools/mutants.py [WORDS]     only the mutants whose names have all these words
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.mutant_list import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent
#: How many are tried at the same time.
AT_ONCE = 2
#: A mutant that keeps its tests running for so long (seconds) would be noticed too.
PATIENCE = 300.0
#: What of the tree the tests need.
_COPIED = ("sipd", "tests", "bench", "tools", "twisted", "etc", "docs", "setup.cfg", "README.md", "Makefile")


def faults(mutants: tuple[Mutant, ...]) -> list[str]:
    """What is wrong with the list: texts that are not there once, changes that are none or do not compile, tests that
    do not exist, names that are there twice."""
    found = []
    names = [mutant.name for mutant in mutants]
    for mutant in mutants:
        text = (ROOT / mutant.file).read_text(encoding="utf-8")
        if names.count(mutant.name) > 1:
            found.append(f"{mutant.name}: the name is there twice")
        if text.count(mutant.old) != 1:
            found.append(f"{mutant.name}: its text is {text.count(mutant.old)} times in {mutant.file}: {mutant.old!r}")
            continue
        try:
            compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")
        except SyntaxError as error:
            found.append(f"{mutant.name}: {error}")
        if mutant.old == mutant.new:
            found.append(f"{mutant.name}: changes nothing")
        for module in mutant.tests:
            if not (ROOT / f"{module.replace('.', '/')}.py").is_file():
                found.append(f"{mutant.name}: there is no {module}")
    return found


def copy(place: Path) -> Path:
    """A copy of the tree."""
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, place / name)
    return place


def run(place: Path, modules: list[str] | tuple[str, ...], *options: str) -> tuple[bool, str]:
    """Runs test modules in a copy; whether they passed, and the output, "" when there was no end."""
    command = [sys.executable, "-m", "twisted.trial", f"--temp-directory={place / 'trial'}", *options, *modules]
    environment = {**os.environ, "PYTHONPATH": str(place)}
    if options:  # what is compiled stays that of the unbroken tree
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
    try:
        done = subprocess.run(command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return False, ""
    return done.returncode == 0, done.stdout


def noticed_by(output: str) -> str:
    """The first test that failed, "" when none did."""
    if not output:
        return "whoever waits: the tests did not end"
    found = re.findall(r"^(tests\.[\w.]+)$", output.partition("=====\n")[2], re.MULTILINE)
    return str(found[0]) if found else ""


def attempt(place: Path, mutant: Mutant) -> tuple[str, str]:
    """Breaks the copy, runs the tests, repairs it. What is wrong, "" when a test failed, and which one."""
    path = place / mutant.file
    kept, status = path.read_bytes(), path.stat()
    text = kept.decode()
    if text.count(mutant.old) != 1:
        return "its text is not there once", ""
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        passed, output = run(place, mutant.tests, "--exitfirst")
    finally:
        path.write_bytes(kept)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    if passed:
        return "no test of " + ", ".join(mutant.tests) + " fails", ""
    test = noticed_by(output)
    if not test or test in mutant.tests:
        return "the tests cannot be run with it\n" + output[-2000:], ""
    return "", test


def main(words: list[str]) -> int:
    """The exit status."""
    mutants = tuple(mutant for mutant in MUTANTS if all(word in mutant.name for word in words))
    wrong = faults(MUTANTS)
    if wrong or not mutants:
        print("\n".join(wrong) or "no such mutant")
        return 1
    begun = time.monotonic()
    survivors = []
    with tempfile.TemporaryDirectory(prefix="sipd-mutants-") as name, ThreadPoolExecutor(AT_ONCE) as pool:
        places: Queue[Path] = Queue()
        for number in range(AT_ONCE):
            place = Path(name) / str(number)
            place.mkdir()
            places.put(copy(place))

        def unbroken(modules: list[str]) -> tuple[bool, str]:
            place = places.get()
            try:
                return run(place, modules)
            finally:
                places.put(place)

        def one(mutant: Mutant) -> None:
            place, start = places.get(), time.monotonic()
            try:
                fault, test = attempt(place, mutant)
            finally:
                places.put(place)
            seconds = time.monotonic() - start
            verdict = f"SURVIVES {mutant.name}: {fault}" if fault else f"noticed  {mutant.name}: {test}"
            print(f"{verdict} ({seconds:.1f} s)\n", end="", flush=True)
            if fault:
                survivors.append(f"{mutant.name}: {fault}")

        modules = sorted({module for mutant in mutants for module in mutant.tests})
        for passed, output in pool.map(unbroken, [modules[number::AT_ONCE] for number in range(AT_ONCE)]):
            if not passed:
                print(output[-4000:] + "\nthe tests fail on the tree as it is")
                return 1
        list(pool.map(one, mutants))
    print(f"{len(mutants)} mutants, {len(survivors)} not noticed, {time.monotonic() - begun:.0f} s")
    print("\n".join(survivors))
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
