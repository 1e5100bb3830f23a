"""Instructions a message costs in the compiled build, counted by callgrind: the same on a busy machine and an idle one.

    cp -r . /tmp/counted && cd /tmp/counted && SIPD_COMPILE=1 python setup.py build_ext --inplace
    python bench/instructions.py [--cold] [--keep FOLDER] [register] [refresh] [call] [options] [digest]

It needs valgrind and what compiling needs. Counted is what `TransactionLayer.receive` costs with all it calls, without
the sockets and the timers that fire; not before the server has warmed its own caches, when it asks for the counting to
begin. `digest` is a REGISTER, its 401, and the one with credentials.

With `--cold` also the cache lines (of 64 octets) of code and of data that each message has to fetch: before each of
them 2 MiB are copied, and the last-level cache that callgrind plays is of 1 MiB. They are told for all and each file
that is mapped: the interpreter, our library, the C library. `--keep` leaves callgrind's files, for callgrind_annotate.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import micro

#: How the interpreter calls `receive`: no compiler puts this into its caller.
_RECEIVE = "CPyPy_layer___TransactionLayer___receive"
#: Units before the first that is counted, and those that are.
_WARM, _UNITS = 300, 100
#: Seconds of virtual time between two units: transactions end while others begin.
_PAUSE = 0.02
#: The last-level cache of the cold runs, as callgrind wants it (octets, ways, octets of a line), and what is copied
#: before each message (octets).
_CACHE, _COPIED = "1048576,16,64", 2 << 20
#: Sums of callgrind's events: instructions, lines of code and of data that were not in the last-level cache.
_SUMS = (("Ir",), ("ILmr",), ("DLmr", "DLmw"))
KINDS = ("register", "refresh", "call", "options", "digest")


def first_register(number: int) -> bytes:
    """A REGISTER of one of nine users as SIPp sends it: each with a Call-ID and a From tag of its own."""
    user = 1001 + number % 9
    return (b"REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bK-77-%d-0;rport\r\n"
            b"Max-Forwards: 70\r\nFrom: <sip:%d@example.com>;tag=77r%d\r\nTo: <sip:%d@example.com>\r\n"
            b"Call-ID: %d-77@192.0.2.20\r\nCSeq: 1 REGISTER\r\nContact: <sip:%d@192.0.2.20:5060>\r\nExpires: 3600\r\n"
            b"User-Agent: load\r\nContent-Length: 0\r\n\r\n" % (number, user, number, user, number, user))


def options(number: int) -> bytes:
    """An OPTIONS to the server itself."""
    return (b"OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bKo%d;rport\r\n"
            b"Max-Forwards: 70\r\nFrom: <sip:1002@example.com>;tag=o%d\r\nTo: <sip:example.com>\r\n"
            b"Call-ID: o%d@192.0.2.20\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n" % (number, number, number))


def chill() -> Callable[[], None]:
    """What takes all else out of the caches."""
    source, target = bytearray(_COPIED), bytearray(_COPIED)

    def copy() -> None:
        target[:] = source

    return copy


def run(kind: str, cold: bool) -> None:
    """Serves the units that are counted after those that are not."""
    server = micro.Server(kind == "digest")
    if cold:
        server.before = chill()
    for number in range(_WARM + _UNITS):
        if number == _WARM:
            gc.collect()
            subprocess.run(["callgrind_control", "-i", "on", str(os.getpid())], check=True, stdout=subprocess.DEVNULL)
        if kind == "call":
            server.call()
        elif kind == "refresh":
            server.register()
        elif kind == "digest":
            server.register_digest()
        else:
            data = options(number) if kind == "options" else first_register(number)
            server.before()
            server.core.layer.receive(data, server.callee)
            server.callee.sent.clear()
        server.clock.advance(_PAUSE)


def summed(text: str) -> Counter[tuple[int, str]]:
    """The sums of _SUMS in a file of callgrind's, by place in it and mapped file; what a function calls counts for the
    callee."""
    events = re.findall(r"^events: (.*)$", text, re.MULTILINE)[0].split()
    columns = [[1 + events.index(event) for event in sums if event in events] for sums in _SUMS]
    names: dict[str, str] = {}
    totals: Counter[tuple[int, str]] = Counter()
    mapped = ""
    called = False
    for line in text.splitlines():
        if line[:3] == "ob=" or line[:4] == "cob=":
            mark, _, name = line.partition("=")[2].partition(" ")
            if name:
                names[mark] = Path(name).name
            if line[0] == "o":
                mapped = names[mark]
        elif line[:6] == "calls=":
            called = True
        elif line[:1].isdigit() or line[:1] in ("+", "-", "*"):
            if not called:
                numbers = line.split()
                for place, chosen in enumerate(columns):
                    totals[place, mapped] += sum(int(numbers[one]) for one in chosen if one < len(numbers))
            called = False
    return totals


def counted(kind: str, cold: bool, file: Path) -> Counter[tuple[int, str]]:
    """What all units cost inside `receive`."""
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={file}", f"--toggle-collect={_RECEIVE}",
               "--instr-atstart=no"]
    if cold:
        command += ["--cache-sim=yes", f"--LL={_CACHE}"]
    command += [sys.executable, __file__, *(["--cold"] if cold else []), "--counted", kind]
    subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "0"}, check=True, stderr=subprocess.DEVNULL)
    return summed(file.read_text(encoding="utf-8", errors="replace"))


def report(kind: str, cold: bool, folder: Path) -> None:
    """Prints the line of a kind, and with `cold` one more for each mapped file."""
    each = {key: count / _UNITS for key, count in counted(kind, cold, folder / f"{kind}.callgrind").items()}
    sums = [sum(count for (place, _), count in each.items() if place == wanted) for wanted in range(len(_SUMS))]
    if not cold:
        print(f"{kind}: {sums[0]:,.0f}", flush=True)
        return
    rows = [(kind, sums)]
    for mapped in sorted({mapped for _, mapped in each}, key=lambda mapped: -each[0, mapped]):
        if each[0, mapped] >= 1:
            rows.append((f"  {mapped}", [each[place, mapped] for place in range(len(_SUMS))]))
    for name, (instructions, code, data) in rows:
        print(f"{name[:50]:50} {instructions:9,.0f} instructions, {code:6,.0f} lines of code, {data:6,.0f} of data",
              flush=True)


def main() -> None:
    """Prints a line a kind; with `--counted` it is the process that is counted."""
    parser = argparse.ArgumentParser(description="Instructions, and with --cold cache lines, a message costs.")
    parser.add_argument("--cold", action="store_true", help="with the caches emptied before each message")
    parser.add_argument("--keep", type=Path, help="folder for callgrind's files")
    parser.add_argument("--counted", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    wanted = parser.parse_args()
    if wanted.counted:
        os.urandom = random.Random(1).randbytes  # the same in each run
        run(wanted.kinds[0], wanted.cold)
        return
    if Path(sys.modules["sipd.message.parser"].__file__ or "").suffix == ".py":
        sys.exit("this counts the compiled build: see the head of bench/instructions.py")
    unknown = set(wanted.kinds) - set(KINDS)
    if unknown:
        parser.error(f"not a kind: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder:
        if wanted.keep:
            wanted.keep.mkdir(parents=True, exist_ok=True)
        for kind in wanted.kinds or KINDS[:3]:
            report(kind, wanted.cold, wanted.keep or Path(folder))


if __name__ == "__main__":
    main()
