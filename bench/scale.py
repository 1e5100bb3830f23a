"""What much state costs: 100,000 and 1,000,000 bindings, 10,000 calls at once, 1,000 idle TLS connections.

    python bench/scale.py [--parts table,disk,register,calls,tls] [--sizes N[,N]] [--servers sipd,kamailio]
                          [--calls N] [--connections N] [--output FILE]

`table` runs in this process; every other part starts fresh servers, one after the other, on 127.0.0.1. Memory is the
proportional set size of all the server's processes, so that Kamailio's shared memory counts once. A million bindings
take about 1 GB of memory and 400 MB of disk. Nothing here fails on a figure.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import random
import re
import socket
import sqlite3
import ssl
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.callers import Calls
from bench.registrant import Registrant, Registration
from bench.servers import DOMAIN, ROOT, Server, free_port
from sipd.admin.client import ask
from sipd.binding import Binding
from sipd.certificate import self_signed
from sipd.inventory import Inventory
from sipd.location.store import SqliteStore
from sipd.location.table import BindingTable
from sipd.message.hop import Hop

PARTS = ("table", "disk", "register", "calls", "tls")
#: Longest life of a binding made here, seconds, and the seconds over which their expiry is spread.
_EXPIRES, _SPREAD = 7200, 3600


class BigSipd(Server):
    """`twistd sipd` of this tree, open to everybody, with bounds above what is measured here."""

    name = "sipd"
    patience = 180.0

    def __init__(self, directory: Path, *, durable: bool = False, tls: bool = False) -> None:
        """`durable` puts SQLite behind the location service; `tls` listens on TLS too, at `tls_port`."""
        directory.mkdir(parents=True, exist_ok=True)
        port, self.tls_port = free_port(), free_port()
        self.state = directory / "state"
        listen = [("udp", port), ("tls", self.tls_port)] if tls else [("udp", port)]
        config = directory / "sipd.toml"
        config.write_text(
            f'[server]\ndomains = ["{DOMAIN}"]\nstate_dir = "{self.state}"\n'
            + "".join(f'[[listen]]\ntransport = "{kind}"\naddress = "127.0.0.1"\nport = {number}\n'
                      for kind, number in listen)
            + f'[auth]\nrequired = false\n[registrar]\nopen = true\n[limits]\nbindings = {4_000_000}\n'
            f'connections_per_source = 10000\n[location]\nstore = "{"sqlite" if durable else "memory"}"\n'
        )
        super().__init__(
            directory, port,
            [str(Path(sys.executable).parent / "twistd"), "-n", "--pidfile=", "sipd", "--config", str(config)],
            {**os.environ, "PYTHONPATH": str(ROOT)})

    def tables(self) -> dict[str, int]:
        """Name and size of every table that holds something."""
        status = ask(str(self.state / "sipctl.sock"), "status")
        return {table["name"]: table["size"] for table in status["tables"] if table["size"]}


class BigKamailio(Server):
    """Debian's Kamailio with one worker and memory enough."""

    name = "kamailio"
    patience = 180.0

    def __init__(self, directory: Path, *, durable: bool = False, tls: bool = False) -> None:
        """As BigSipd; durable means its SQLite module in write-through mode on the file `location.sqlite`."""
        directory.mkdir(parents=True, exist_ok=True)
        port, self.tls_port = free_port(), free_port()
        listen = f"listen=udp:127.0.0.1:{port}\n"
        load = ""
        if tls:
            certificate, key = self_signed(str(directory), ["127.0.0.1"], time.time())
            listen += (f"listen=tls:127.0.0.1:{self.tls_port}\nenable_tls=yes\ntcp_children=1\n"
                       "tcp_connection_lifetime=7500\ntcp_max_connections=20000\ntls_max_connections=20000\n")
            load = (f'loadmodule "tls.so"\nmodparam("tls", "certificate", "{certificate}")\n'
                    f'modparam("tls", "private_key", "{key}")\n'
                    'modparam("tls", "tls_method", "TLSv1.2+")\nmodparam("tls", "verify_certificate", 0)\n')
        text = (ROOT / "bench" / "kamailio.cfg").read_text()
        if durable:
            load += (f'loadmodule "db_sqlite.so"\n'
                     f'modparam("usrloc", "db_url", "sqlite:///{directory / "location.sqlite"}")\n')
        modules = next(Path("/usr/lib").glob("*/kamailio/modules"))
        filled = {"DOMAIN": DOMAIN, "LISTEN": listen, "MODULES": str(modules), "LOAD": load,
                  "DB_MODE": "1" if durable else "0"}
        config = directory / "kamailio.cfg"
        config.write_text(re.sub(r"@([A-Z_]+)@", lambda found: filled.get(found[1], ""), text))
        super().__init__(
            directory, port,
            ["/usr/sbin/kamailio", "-DD", "-E", "-f", str(config), "-x", "tlsf", "-X", "tlsf", "-m", "4096",
             "-M", "16" if not durable else "1024", "-Y", str(directory), "-w", str(directory)],
            dict(os.environ))

    def tables(self) -> dict[str, int]:
        """Nothing: it is not asked."""
        return {}


SERVERS: dict[str, Callable[..., BigSipd | BigKamailio]] = {"sipd": BigSipd, "kamailio": BigKamailio}


# -- bindings, made without a phone


def binding(number: int, now: float) -> Binding:
    """One phone's binding as the registrar makes it: a contact, a Call-ID, a flow and a source of its own."""
    host = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return Binding(
        f"user{number}@{DOMAIN}", f"sip:user{number}@{host}:5060", "", 1000, now + _EXPIRES - number % _SPREAD,
        f"{number:016x}@{host}", 1, source=Hop("udp", host, 5060), flow=f"udp/127.0.0.1:5060/{host}:5060",
        listener="127.0.0.1:5060", user_agent="phone/1", registered_at=now)


def text_of(one: Binding) -> int:
    """Octets of what only this binding's phone said."""
    source = one.source.address if one.source else ""
    return sum(map(len, (one.aor, one.contact, one.params, one.call_id, one.flow, source)))


def fill_sipd(directory: Path, count: int) -> None:
    """Writes the store of a sipd that is not running, with sipd's own code."""
    state = directory / "state"
    state.mkdir(parents=True, mode=0o700)
    answers: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
    store = SqliteStore(state / "bindings.sqlite", lambda *call: answers.put(call), time.time, Inventory())
    store.load()
    now = time.time()
    reasons: list[str] = []
    for start in range(0, count, 5000):
        numbers = range(start, min(start + 5000, count))
        store.commit([("put", binding(number, now)) for number in numbers], reasons.append)
        function, *arguments = answers.get()
        function(*arguments)
    store.close()
    if any(reasons):
        raise RuntimeError(f"the store was not filled: {reasons[0]}")


def fill_kamailio(directory: Path, count: int) -> None:
    """Writes the database of a Kamailio that is not running, with the tables Debian ships for it."""
    directory.mkdir(parents=True)
    scripts = Path("/usr/share/kamailio/db_sqlite")
    connection = sqlite3.connect(directory / "location.sqlite")
    for name in ("standard-create.sql", "usrloc-create.sql"):
        connection.executescript((scripts / name).read_text())
    now = time.time()

    def rows() -> Iterator[tuple[Any, ...]]:
        for number in range(count):
            one = binding(number, now)
            expires = one.expires_at / 86400 + 2440587.5  # a Julian day
            host = one.source.address if one.source else ""
            yield (f"ul-{number:x}-1-1", f"user{number}", one.contact, f"sip:{host}:5060", expires, one.call_id, 1,
                   one.user_agent, "udp:127.0.0.1:5060", 8159, number)

    connection.executemany(
        "INSERT INTO location (ruid, username, contact, received, expires, callid, cseq, user_agent, socket, methods, "
        "partition) VALUES (?,?,?,?,?,?,?,?,?,?,?)", rows())
    connection.commit()
    connection.close()


# -- the parts: each returns lines of Markdown


def table_part(sizes: Sequence[int]) -> list[str]:
    """What an operation on the table costs as it grows; in this process, the best of three."""
    lines = ["| bindings | look-up, µs | refresh, µs | expiry, µs each | longest turn of expiry, ms |",
             "|---|---|---|---|---|"]
    for size in sorted({1000, 10_000, *sizes}):
        now = 1e9
        table = BindingTable(Inventory(), size)
        for number in range(size):
            one = binding(number, now)
            table.change(one.aor, (("put", one),))
        chosen = [random.randrange(size) for _ in range(20_000)]

        def look_up(table: BindingTable = table, chosen: list[int] = chosen, now: float = now) -> float:
            names = [f"user{number}@{DOMAIN}" for number in chosen]
            started = time.perf_counter()
            for name in names:
                table.live(name, now)
            return (time.perf_counter() - started) / len(names)

        def refresh(table: BindingTable = table, chosen: list[int] = chosen, now: float = now) -> float:
            fresh = [binding(number, now + 10) for number in chosen]
            started = time.perf_counter()
            for one in fresh:
                table.change(one.aor, (("put", one),))
            return (time.perf_counter() - started) / len(fresh)

        found, renewed = min(look_up() for _ in range(3)), min(refresh() for _ in range(3))
        longest, started = 0.0, time.perf_counter()
        while table.size:
            turn = time.perf_counter()
            table.expire(now + 2 * _EXPIRES, 500)
            longest = max(longest, time.perf_counter() - turn)
        expired = (time.perf_counter() - started) / size
        lines.append(f"| {size:,} | {1e6 * found:.2f} | {1e6 * renewed:.2f} | {1e6 * expired:.2f} "
                     f"| {1e3 * longest:.1f} |")
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    table = BindingTable(Inventory(), 100_000)
    text = 0
    for number in range(100_000):
        one = binding(number, 1e9)
        text += text_of(one)
        table.change(one.aor, (("put", one),))
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return [*lines, "", f"tracemalloc: {held / 100_000:.0f} bytes a binding, {text / 100_000:.0f} of them its text."]


def peak_kib(server: Server) -> int:
    """The most memory the server's first process ever held, in kibibytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else 0


def query_times(server: Server, users: Sequence[int]) -> tuple[float, float]:
    """CPU and median response time of a REGISTER that only asks (s10.2.3), in microseconds, one after the other."""
    times = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.settimeout(5)
        phone.connect(("127.0.0.1", server.port))
        host, port = phone.getsockname()
        before = server.cpu()
        for count, number in enumerate(users):
            user = f"<sip:user{number}@{DOMAIN}>"
            request = (
                f"REGISTER sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{count};rport\r\n"
                f"Max-Forwards: 70\r\nFrom: {user};tag=1\r\nTo: {user}\r\nCall-ID: query{count}\r\n"
                "CSeq: 1 REGISTER\r\nContent-Length: 0\r\n\r\n").encode()
            started = time.perf_counter()
            phone.send(request)
            answer = phone.recv(65535)
            times.append(time.perf_counter() - started)
            if not answer.startswith(b"SIP/2.0 200") or f"sip:user{number}@10.".encode() not in answer:
                raise RuntimeError(f"{server.name}: the query for user{number} was answered {answer!r}")
    return 1e6 * (server.cpu() - before) / len(times), 1e6 * statistics.median(times)


def disk_part(sizes: Sequence[int], servers: Sequence[str]) -> list[str]:
    """Servers that find their bindings on disk: start, memory, a query over UDP."""
    lines = ["| bindings on disk | server | start, s | MiB (peak) | bytes a binding | query: CPU µs, median µs |",
             "|---|---|---|---|---|---|"]
    for name in servers:
        empty = 0
        # Kamailio's SQLite module takes minutes over a million rows
        for size in (0, *(sizes if name == "sipd" else [min(sizes)])):
            with tempfile.TemporaryDirectory(prefix="sipd-scale-") as scratch:
                directory = Path(scratch) / "server"
                (fill_sipd if name == "sipd" else fill_kamailio)(directory, size)
                started = time.monotonic()
                server = SERVERS[name](directory, durable=True)
                took = time.monotonic() - started
                try:
                    memory = server.memory()
                    row = f"| {size:,} | {name} | {took:.1f} | {memory / 1024:.0f} ({peak_kib(server) / 1024:.0f}) "
                    if size:
                        cpu, median = query_times(server, [random.randrange(size) for _ in range(10_000)])
                        row += f"| {1024 * (memory - empty) / size:.0f} | {cpu:.0f}, {median:.0f} |"
                    else:
                        empty = memory
                        row += "| | |"
                finally:
                    server.stop()
            lines.append(row)
            print(row, flush=True)
    text = statistics.mean(text_of(binding(number, 1e9)) for number in range(0, max(sizes), 97))
    return [*lines, "", f"A binding's own text (name, contact, Call-ID, flow, source) is {text:.0f} bytes."]


def register_part(size: int, servers: Sequence[str]) -> list[str]:
    """Bindings in memory that phones made, over UDP, as fast as a window of 50 goes, in two waves.

    Their transactions end between the waves. What these took is not all given back, since bindings stand in between,
    but it is used again: the second wave shows what bindings cost, the first what a burst leaves.
    """
    lines = ["| REGISTERs | server | a second | CPU µs each | bytes a binding |", "|---|---|---|---|---|"]
    for name in servers:
        with tempfile.TemporaryDirectory(prefix="sipd-scale-") as scratch:
            server = SERVERS[name](Path(scratch) / "server")
            try:
                registrant = Registrant(("127.0.0.1", server.port), DOMAIN)
                for wave in range(2):
                    before, cpu, started = server.memory(), server.cpu(), time.monotonic()
                    failed = 0
                    for start in range(wave * size, (wave + 1) * size, 10_000):
                        batch = [Registration(f"user{number}", binding(number, 0).contact)
                                 for number in range(start, min(start + 10_000, (wave + 1) * size))]
                        registrant.run(batch)
                        failed += sum(one.status != 200 for one in batch)
                    took, cpu = time.monotonic() - started, server.cpu() - cpu
                    time.sleep(35)  # transactions are gone after 64*T1
                    row = (f"| {size:,} ({failed} failed) | {name} | {size / took:.0f} | {1e6 * cpu / size:.0f} "
                           f"| {1024 * (server.memory() - before) / size:.0f} |")
                    lines.append(row)
                    print(row, flush=True)
                registrant.close()
            finally:
                server.stop()
    return lines


def calls_part(count: int, servers: Sequence[str]) -> list[str]:
    """Calls that all ring at once, then are all answered, then are 35 s old; BYEs at last."""
    lines = [f"| {count:,} calls | server | MiB | KiB a call | what sipd holds |", "|---|---|---|---|---|"]
    for name in servers:
        with tempfile.TemporaryDirectory(prefix="sipd-scale-") as scratch:
            server = SERVERS[name](Path(scratch) / "server")
            try:
                calls = Calls(("127.0.0.1", server.port), DOMAIN, rate=600)
                calls.register(100)
                calls.warm(200)
                before = server.memory()

                def tell(what: str, server: Any = server, before: int = before, calls: Calls = calls) -> None:
                    memory = server.memory()
                    held = ", ".join(f"{size:,} {table}" for table, size in server.tables().items())
                    row = (f"| {what} ({calls.failed} failed) | {server.name} | {memory / 1024:.0f} "
                           f"| {(memory - before) / count:.1f} | {held} |")
                    lines.append(row)
                    print(row, flush=True)

                calls.ring(count)
                tell("ringing")
                calls.answer()
                tell("answered")
                calls.rest(35.0)
                tell("talking for 35 s")
                calls.hang_up()
                calls.rest(35.0)
                tell("35 s after the last BYE")
                calls.close()
            finally:
                server.stop()
    return lines


def tls_part(count: int, servers: Sequence[str]) -> list[str]:
    """Phones that registered over TLS and are silent."""
    lines = ["| idle TLS connections | server | handshakes a second | KiB a connection | CPU ms a second, idle |",
             "|---|---|---|---|---|"]
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for name in servers:
        with tempfile.TemporaryDirectory(prefix="sipd-scale-") as scratch:
            server = SERVERS[name](Path(scratch) / "server", tls=True)
            phones: list[ssl.SSLSocket] = []
            try:
                for number in range(20):
                    phones.append(_tls_phone(context, server.tls_port, number))
                before, started = server.memory(), time.monotonic()
                for number in range(20, 20 + count):
                    phones.append(_tls_phone(context, server.tls_port, number))
                took = time.monotonic() - started
                time.sleep(35)
                cpu = server.cpu()
                time.sleep(5)
                row = (f"| {count:,} | {name} | {count / took:.0f} | {(server.memory() - before) / count:.1f} "
                       f"| {1e3 * (server.cpu() - cpu) / 5:.0f} |")
                for phone in phones:
                    phone.settimeout(0)
                    try:
                        lost = phone.recv(1) == b""
                    except ssl.SSLWantReadError:
                        lost = False
                    if lost:
                        raise RuntimeError(f"{name} closed an idle connection")
            finally:
                for phone in phones:
                    phone.close()
                server.stop()
        lines.append(row)
        print(row, flush=True)
    return lines


def _tls_phone(context: ssl.SSLContext, port: int, number: int) -> ssl.SSLSocket:
    """A connection over which one phone has registered."""
    phone = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10))
    host, own = phone.getsockname()
    phone.sendall((
        f"REGISTER sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/TLS {host}:{own};branch=z9hG4bK{number}\r\nMax-Forwards: 70\r\n"
        f"From: <sip:tls{number}@{DOMAIN}>;tag=1\r\nTo: <sip:tls{number}@{DOMAIN}>\r\nCall-ID: tls{number}\r\n"
        f"CSeq: 1 REGISTER\r\nContact: <sip:tls{number}@{host}:{own};transport=tls>\r\nExpires: 3600\r\n"
        "Content-Length: 0\r\n\r\n").encode())
    answer = phone.recv(65535)
    if not answer.startswith(b"SIP/2.0 200"):
        raise RuntimeError(f"REGISTER over TLS was answered {answer[:60]!r}")
    return phone


def main(arguments: Sequence[str]) -> int:
    """Runs the parts and writes the page."""
    parser = argparse.ArgumentParser(description="sipd with much state", allow_abbrev=False)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--sizes", default="100000,1000000", help="numbers of bindings")
    parser.add_argument("--servers", default="sipd,kamailio", help="which servers, in order")
    parser.add_argument("--calls", type=int, default=10_000, help="calls at once")
    parser.add_argument("--connections", type=int, default=1000, help="idle TLS connections")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "SCALE.md", help="where the tables go")
    options = parser.parse_args(arguments)
    sizes = [int(size) for size in options.sizes.split(",")]
    servers = options.servers.split(",")
    runs: dict[str, Callable[[], list[str]]] = {
        "table": lambda: table_part(sizes),
        "disk": lambda: disk_part(sizes, servers),
        "register": lambda: register_part(min(sizes), servers),
        "calls": lambda: calls_part(options.calls, servers),
        "tls": lambda: tls_part(options.connections, servers),
    }
    page = ["# sipd with much state", "",
            f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} CPUs, "
            f"Python {platform.python_version()}; `python bench/scale.py {' '.join(arguments)}`."]
    for part in options.parts.split(","):
        lines = runs[part]()
        page += ["", f"## {part}", "", *lines]
        print("\n".join(["", *lines, ""]), flush=True)
    options.output.write_text("\n".join([*page, ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
