"""Instructions a message costs in the compiled build, counted by callgrind: the same on a busy machine and an idle one.

    cp -r . /tmp/counted && cd /tmp/counted && SIPD_COMPILE=1 python setup.py build_ext --inplace
    python bench/instructions.py [register] [refresh] [call]

It needs valgrind and what compiling needs. Counted is what `TransactionLayer.receive` costs with all it calls, as the
difference of two lengths of a run, without the sockets and the timers that fire.
"""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import micro

_RECEIVE = "CPyDef_layer___TransactionLayer___receive"
#: Units before the first that is counted, and the two lengths of a run.
_WARM, _SHORT, _LONG = 300, 50, 150
#: Seconds of virtual time between two units: transactions end while others begin.
_PAUSE = 0.2


def first_register(number: int) -> bytes:
    """A REGISTER of one of nine users as SIPp sends it: each with a Call-ID and a From tag of its own."""
    user = 1001 + number % 9
    return (b"REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bK-77-%d-0;rport\r\n"
            b"Max-Forwards: 70\r\nFrom: <sip:%d@example.com>;tag=77r%d\r\nTo: <sip:%d@example.com>\r\n"
            b"Call-ID: %d-77@192.0.2.20\r\nCSeq: 1 REGISTER\r\nContact: <sip:%d@192.0.2.20:5060>\r\nExpires: 3600\r\n"
            b"User-Agent: load\r\nContent-Length: 0\r\n\r\n" % (number, user, number, user, number, user))


def run(kind: str, units: int) -> None:
    """Serves so many units after those that warm the caches."""
    server = micro.Server()
    for number in range(_WARM + units):
        if number == _WARM:
            gc.collect()
        if kind == "call":
            server.call()
        elif kind == "refresh":
            server.register()
        else:
            server.core.layer.receive(first_register(number), server.callee)
            server.callee.sent.clear()
        server.clock.advance(_PAUSE)


def counted(kind: str, units: int) -> int:
    """The instructions of a whole run, those inside `receive` alone."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "callgrind.out"
        subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={file}", f"--toggle-collect={_RECEIVE}",
             sys.executable, __file__, kind, str(units)],
            env=os.environ | {"PYTHONHASHSEED": "0"}, check=True, stderr=subprocess.DEVNULL)
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return int(next(line for line in reversed(lines) if line.startswith(("totals:", "summary:"))).split()[1])


def main() -> None:
    """Prints a line a kind; with a number behind the kind it is the process that is counted."""
    if len(sys.argv) == 3 and sys.argv[2].isdigit():
        os.urandom = random.Random(1).randbytes  # type: ignore[assignment]  # the same in each run
        run(sys.argv[1], int(sys.argv[2]))
        return
    if Path(sys.modules["sipd.message.parser"].__file__ or "").suffix == ".py":
        sys.exit("this counts the compiled build: see the head of bench/instructions.py")
    for kind in sys.argv[1:] or ("register", "refresh", "call"):
        print(f"{kind}: {(counted(kind, _LONG) - counted(kind, _SHORT)) / (_LONG - _SHORT):,.0f}")


if __name__ == "__main__":
    main()
