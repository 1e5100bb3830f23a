"""The servers under load: sipd and Kamailio as child processes, started alike, their CPU time read from /proc."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOMAIN = "load.example.com"
_TICK = os.sysconf("SC_CLK_TCK")
#: Ports that no connection takes by itself, above those that phones take for media; and what was given out of them: who
#: asked for a port may take seconds to open it.
_PORTS = range(20001, max(30000, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])))
_given: set[int] = set()


def free_port(address: str = "127.0.0.1") -> int:
    """A port that is free for UDP and TCP on a local address, and stays so unless it is asked for by its number."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(1000):
        port = random.choice(_PORTS)
        if port in _given:
            continue
        with socket.socket(family, socket.SOCK_STREAM) as stream, socket.socket(family, socket.SOCK_DGRAM) as datagram:
            try:
                stream.bind((address, port))
                datagram.bind((address, port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise OSError("no free port")


def family_of(pid: int) -> Iterator[int]:
    """A process and everything below it."""
    yield pid
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        for task in tasks:
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                yield from family_of(int(child))
    except (FileNotFoundError, ProcessLookupError):
        return


def cpu_seconds(pid: int) -> float:
    """User and system CPU time of a process and all below it, in seconds: from the scheduler, to the nanosecond, or
    where it does not tell, from `stat` in ticks of a hundredth."""
    total = 0.0
    for member in family_of(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            try:
                total += sum(
                    int(Path(f"/proc/{member}/task/{thread}/schedstat").read_text().split()[0])
                    for thread in os.listdir(f"/proc/{member}/task")
                ) / 1e9
            except (FileNotFoundError, ProcessLookupError):
                fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
                total += (int(fields[11]) + int(fields[12])) / _TICK
    return total


def busy_seconds() -> float:
    """CPU seconds the whole machine has spent on anything since it came up."""
    fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq = (int(field) for field in fields[:7])
    return (user + nice + system + irq + softirq) / _TICK


def memory_kib(pid: int) -> int:
    """Memory of a process and all below it in kibibytes, shared pages counted once."""
    total = 0
    for member in family_of(pid):
        try:
            found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{member}/smaps_rollup").read_text(), re.MULTILINE)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        total += int(found.group(1)) if found else 0
    return total


def answers_options(address: str, port: int) -> bool:
    """True when an OPTIONS over UDP brings any response within half a second (RFC 3261 s11)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.5)
        probe.connect((address, port))
        here = probe.getsockname()
        unique = time.time_ns()
        try:
            probe.send(
                f"OPTIONS sip:{address}:{port} SIP/2.0\r\n"
                f"Via: SIP/2.0/UDP {here[0]}:{here[1]};branch=z9hG4bK{unique};rport\r\n"
                f"Max-Forwards: 70\r\nFrom: <sip:probe@{DOMAIN}>;tag=1\r\nTo: <sip:{address}:{port}>\r\n"
                f"Call-ID: probe{unique}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n".encode()
            )
            return probe.recv(65535).startswith(b"SIP/2.0 ")
        except OSError:
            return False


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 with a P-256 key: paths of certificate and key, PEM."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={DOMAIN}", "-addext", f"subjectAltName=DNS:{DOMAIN},IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )
    return certificate, key


class Server:
    """One server process on 127.0.0.1: UDP and TCP on `port`, TLS on `tls_port` where it was asked for."""

    name = ""
    tls_port = 0
    #: Seconds a start may take.
    patience = 30.0

    def __init__(self, directory: Path, port: int, command: Sequence[str], environment: dict[str, str]) -> None:
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            # SIGTERM ends a benchmark as ^C does, so that it still ends its servers
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        self.port = port
        self.log = directory / "server.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + self.patience
        while not answers_options("127.0.0.1", port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.name} did not start:\n{self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)

    def cpu(self) -> float:
        """CPU seconds used until now by all its processes."""
        return cpu_seconds(self.process.pid)

    def memory(self) -> int:
        """Memory held now by all its processes, in kibibytes."""
        return memory_kib(self.process.pid)

    def stop(self) -> None:
        """Ends the server: SIGTERM, and SIGKILL after ten seconds; no process of its session is left."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        # Kamailio's workers outlive a parent that had to be killed.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


class Sipd(Server):
    """`twistd sipd` of this tree, run by the Python that runs the benchmark."""

    name = "sipd"
    #: The environment whose twistd is run, and the source tree that is run, None for what is installed there.
    environment = Path(sys.executable).parent.parent
    sources: Path | None = ROOT

    def __init__(
        self, directory: Path, users: dict[str, str] | None = None, durable: bool = False, tls: bool = False,
        options: Sequence[str] = (), more: str = "", tracked: bool = True,
    ) -> None:
        """`users` (name to password) switch digest on; `durable` puts SQLite behind the location service, synced to
        the disk before a registration is answered; `options` are twistd's own, such as `--profile`; `more` are further
        sections of the configuration; calls are followed and recorded, as delivered, where they are `tracked`."""
        directory.mkdir(parents=True, exist_ok=True)
        port = free_port()
        listen = "".join(
            f'[[listen]]\ntransport = "{transport}"\naddress = "127.0.0.1"\nport = {port}\n'
            for transport in ("udp", "tcp")
        )
        if tls:
            certificate, key = make_certificate(directory)
            self.tls_port = free_port()
            listen += (
                f'[[listen]]\ntransport = "tls"\naddress = "127.0.0.1"\nport = {self.tls_port}\n'
                f'certificate = "{certificate}"\nprivate_key = "{key}"\n'
            )
        config = directory / "sipd.toml"
        config.write_text(
            f'[server]\ndomains = ["{DOMAIN}"]\nstate_dir = "{directory / "state"}"\n{listen}'
            f'[auth]\nrequired = {"true" if users else "false"}\nrealm = "{DOMAIN}"\nalgorithms = ["MD5"]\n'
            f'[location]\nstore = "{"sqlite" if durable else "memory"}"\nsync = "full"\n'
            f"[registrar]\nopen = {'false' if users else 'true'}\n[log]\ncalls = false\nregistrations = false\n"
            + ("" if tracked else "[calls]\ntrack = false\n[cdr]\nenabled = false\n")
            + "[users]\n" + "".join(f'{name} = "{password}"\n' for name, password in (users or {}).items()) + more
        )
        twistd = self.environment / "bin" / "twistd"
        variables = dict(os.environ)
        variables.pop("PYTHONPATH", None)
        if self.sources is not None:
            variables["PYTHONPATH"] = str(self.sources)
        super().__init__(
            directory, port, [str(twistd), "-n", "--pidfile=", *options, "sipd", "--config", str(config)],
            variables,
        )


class CompiledSipd(Sipd):
    """The compiled build, installed in an environment of its own (`make compiled`)."""

    name = "sipd-compiled"
    environment = ROOT / ".venv-compiled"
    sources = None


class Kamailio(Server):
    """Debian's Kamailio with one worker and the tlsf allocator, in its own directory."""

    name = "kamailio"

    def __init__(
        self, directory: Path, users: dict[str, str] | None = None, durable: bool = False, tls: bool = False,
        suspects: str = "", tracked: bool = False,
    ) -> None:
        """`users` switch digest on (one password for all, which spares it a database); `durable` writes every binding
        through to SQLite, in its faster journal mode, as sipd does. A user who `suspects` names is asked within dialogs
        too, and every nonce is good for one request. Its dialog module follows calls, in memory, where they are
        `tracked`."""
        directory.mkdir(parents=True, exist_ok=True)
        program = shutil.which("kamailio") or "/usr/sbin/kamailio"
        if not os.path.exists(program):
            raise FileNotFoundError("kamailio is not installed (Debian: apt-get install kamailio)")
        modules = next(Path("/usr/lib").glob("*/kamailio/modules"))
        port = free_port()
        load, check, check_call, check_within, track = "", "", "", "", ""
        if users:
            password = next(iter(users.values()))
            load = 'loadmodule "auth.so"'
            challenge = (
                f'if (!pv_%s_authenticate("{DOMAIN}", "{password}", "0")) {{ auth_challenge("{DOMAIN}", "1"); exit; }}'
            )
            check, check_call = challenge % "www", challenge % "proxy"
            if suspects:
                load += '\nmodparam("auth", "one_time_nonce", 1)'
                check_within = f'if ($fU == "{suspects}" && !is_method("ACK")) {{ {check_call} }}'
        listen = f"listen=udp:127.0.0.1:{port}\nlisten=tcp:127.0.0.1:{port}"
        connections = "tcp_children=1\ntcp_connection_lifetime=3605\ntcp_max_connections=20000"
        if tls:
            certificate, key = make_certificate(directory)
            self.tls_port = free_port()
            listen += f"\nlisten=tls:127.0.0.1:{self.tls_port}"
            connections += "\nenable_tls=yes\ntls_max_connections=20000"
            load += (
                f'\nloadmodule "tls.so"\nmodparam("tls", "certificate", "{certificate}")\n'
                f'modparam("tls", "private_key", "{key}")\nmodparam("tls", "tls_method", "TLSv1.2+")\n'
                'modparam("tls", "verify_certificate", 0)'
            )
        if tracked:
            load += '\nloadmodule "dialog.so"\nmodparam("dialog", "db_mode", 0)'
            track = 'if (is_method("INVITE")) dlg_manage();'
        if durable:
            database = directory / "location.sqlite"
            _make_location_tables(database)
            load += (
                f'\nloadmodule "db_sqlite.so"\nmodparam("db_sqlite", "db_set_journal_mode", "{database};WAL")\n'
                f'modparam("usrloc", "db_url", "sqlite:///{database}")'
            )
        text = (ROOT / "bench" / "kamailio.cfg").read_text()
        for name, value in {
            "DOMAIN": DOMAIN, "LISTEN": listen, "TCP": connections, "DB_MODE": "1" if durable else "0",
            "MODULES": str(modules), "LOAD": load,
            "AUTHENTICATE": check, "AUTHENTICATE_CALL": check_call,
            "AUTHENTICATE_WITHIN": check_within, "TRACK": track,
        }.items():
            text = text.replace(f"@{name}@", value)
        config = directory / "kamailio.cfg"
        config.write_text(text)
        super().__init__(
            directory, port,
            [program, "-DD", "-E", "-f", str(config), "-x", "tlsf", "-X", "tlsf", "-m", "1024", "-M", "16",
             "-Y", str(directory), "-w", str(directory)],
            dict(os.environ),
        )


def _make_location_tables(database: Path) -> None:
    """An empty database of Kamailio's location service, from the schema its SQLite package brings."""
    schema = Path("/usr/share/kamailio/db_sqlite")
    if not schema.is_dir():
        raise FileNotFoundError("Kamailio's SQLite module is not installed (Debian: kamailio-sqlite-modules)")
    connection = sqlite3.connect(database)
    for name in ("standard-create.sql", "usrloc-create.sql"):
        connection.executescript((schema / name).read_text())
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
