"""`twistd sipd` as a child process, started as people start it, on free ports of 127.0.0.1."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.servers import answers_options, cpu_seconds, free_port

ROOT = Path(__file__).resolve().parents[2]
#: What no log may ever show: somebody's exception came through, or Twisted caught one for us.
FORBIDDEN = ("Traceback", "Unhandled", "Main loop terminated")


class SipdProcess:
    """One server with its own state directory. `start` may be called again after `stop` or `kill`."""

    def __init__(
        self, directory: Path, *, domain: str = "sip.example.com", users: dict[str, str] | None = None,
        tls: bool = False, config: str = "", addresses: Sequence[str] = ("127.0.0.1",),
    ) -> None:
        """`users` (name to password) go in as `--user`; `tls` adds a TLS listener on a port of its own; `config` is
        TOML text, given to `--config` beside the options; `addresses` are those to listen on, IPv6 in brackets."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.domain = domain
        self.state = directory / "state"
        self.log_path = directory / "server.log"
        self.port = free_port()
        self.ports = {"udp": self.port, "tcp": self.port}
        if tls:
            self.ports["tls"] = free_port()
        twistd = Path(sys.executable).parent / "twistd"
        self.command = [str(twistd), "-n", "--pidfile=", "sipd", "--state-dir", str(self.state)]
        for transport, port in self.ports.items():
            for address in addresses:
                self.command += ["--listen", f"{transport}:{address}:{port}"]
        if domain:
            self.command += ["--domain", domain]
        for name, password in (users or {}).items():
            self.command += ["--user", f"{name}:{password}"]
        if config:
            path = directory / "sipd.toml"
            path.write_text(config)
            self.command += ["--config", str(path)]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens over UDP and TCP."""
        return ("127.0.0.1", self.port)

    def target(self, transport: str = "udp") -> str:
        """`address:port` of the listener for a transport."""
        return f"127.0.0.1:{self.ports[transport]}"

    def start(self) -> None:
        """Starts it and waits until it answers an OPTIONS over UDP, within 30 seconds."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
                # under nohup it would be ignored, and the server leaves an ignored signal so
                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
            )
        deadline = time.monotonic() + 30
        while not answers_options("127.0.0.1", self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the server did not start:\n{self.log()[-4000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM; it must end by itself within ten seconds, and say so (twistd then dies of the same signal)."""
        if self.process is None:
            return
        process, self.process = self.process, None
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise AssertionError(f"the server did not stop on SIGTERM:\n{self.log()[-4000:]}") from None
        if process.returncode not in (0, -signal.SIGTERM) or "Server Shut Down." not in self.log()[-2000:]:
            raise AssertionError(f"the server ended with status {process.returncode}:\n{self.log()[-4000:]}")

    def kill(self) -> None:
        """SIGKILL, as a power cut of the process."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.process = None

    def log(self) -> str:
        """Everything it wrote until now."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def cpu(self) -> float:
        """CPU seconds of the running process until now."""
        return cpu_seconds(self.process.pid) if self.process is not None else 0.0

    def alive(self) -> bool:
        """True while the process runs."""
        return self.process is not None and self.process.poll() is None

    def end(self) -> None:
        """Stops it and looks through its log: no exception may have come through."""
        self.stop()
        text = self.log()
        found = [word for word in FORBIDDEN if word in text]
        if found:
            position = text.find(found[0])
            raise AssertionError(f"the log holds {found}:\n{text[max(0, position - 1500):position + 3000]}")
