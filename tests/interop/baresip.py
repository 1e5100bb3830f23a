"""baresip, a phone nobody here wrote, as a child process driven through its `ctrl_tcp` module (JSON in netstrings)."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.servers import free_port
from tests.interop.tones import read_samples, strength, write_tone

Event = dict[str, Any]

_MODULES = ("g711.so", "aufile.so", "aubridge.so", "sndfile.so", "uuid.so", "account.so", "menu.so",
            "ctrl_tcp.so", "cons.so")


def _free_pair() -> int:
    """A free port whose next one is free too: baresip takes that one for TLS."""
    for _ in range(50):
        port = free_port()
        try:
            with socket.socket() as following:
                following.bind(("127.0.0.1", port + 1))
            return port
        except (OSError, OverflowError):
            continue
    raise OSError("no two free ports in a row")


class Phone:
    """One baresip with one account, its own tone and its own recordings, under `directory`."""

    def __init__(
        self, directory: Path, server: str, user: str, password: str, transport: str, tone: float,
        account: str = "", domain: str = "", watches: Sequence[str] = (),
    ) -> None:
        """`server` is `address:port` of the listener for `transport` (udp, tcp, tls); `tone` in hertz; `account` are
        further parameters of its account, such as ";call_transfer=yes"; `domain` is that of the user where it is not
        `server`; `watches` are users whose presence it subscribes to, its own mailbox too: then nobody hears of its
        REGISTER_OK."""
        program = shutil.which("baresip")
        if program is None:
            raise FileNotFoundError("baresip is not installed (Debian: apt-get install baresip-core)")
        directory.mkdir(parents=True)
        # baresip cuts off the names of its recordings at about 150 characters: it sees a short path to the directory
        self._short = Path(tempfile.mkdtemp(prefix="phone-"))
        self.directory = directory.resolve()
        directory = self._short / user
        directory.symlink_to(self.directory)
        self.user = user
        self.server = server
        self.transport = transport
        self.events: list[Event] = []
        self._answers: list[Event] = []
        self._buffer = b""
        self._token = 0
        write_tone(directory / "tone.wav", tone, 60)
        control, console = free_port(), free_port()
        self.port = _free_pair()
        lines = [
            "poll_method epoll", f"sip_listen 127.0.0.1:{self.port}", "net_interface 127.0.0.1",
            f"audio_source aufile,{directory / 'tone.wav'}", "audio_player aubridge,nil", "audio_alert aubridge,nil",
            "audio_txmode thread", "ausrc_srate 8000", "auplay_srate 8000", "ausrc_channels 1", "auplay_channels 1",
            "jitter_buffer_delay 2-5", "call_max_calls 4", f"snd_path {directory}",
            f"ctrl_tcp_listen 127.0.0.1:{control}", f"cons_listen 127.0.0.1:{console}",
            "module_path /usr/lib/baresip/modules",
            *(f"{'module_app' if name in ('account.so', 'menu.so', 'ctrl_tcp.so') else 'module'} {name}"
              for name in _MODULES if name != "uuid.so"),
            "module_tmp uuid.so",
            *(f"module_app {name}" for name in ("contact.so", "presence.so", "mwi.so") if watches),
        ]
        (directory / "config").write_text("\n".join(lines) + "\n")
        (directory / "contacts").write_text("".join(
            f'"{name}" <sip:{name}@{domain or server}>;presence=p2p\n' for name in watches))
        line = (
            f'"Phone {user}" <sip:{user}@{domain or server};transport={transport}>;auth_user={user};auth_pass={password}'
            f';regint=600;outbound="sip:{server};transport={transport}";audio_codecs=PCMU/8000/1;answermode=manual{account}')
        (directory / "accounts").write_text(f"{line}\n" if watches else "")
        with open(directory / "baresip.log", "wb") as log:
            self.process = subprocess.Popen(
                [program, "-f", str(directory), "-4", "-v"], cwd=directory, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._control = self._connect(control)
        #: Where it shows what people are to read, such as text messages.
        self._console = self._connect(console)
        self._shown = b""
        if not watches:
            # The account comes in through the control port, not from a file, so that its REGISTER_OK is not missed.
            self.command("uanew", line)

    def _connect(self, port: int) -> socket.socket:
        deadline = time.monotonic() + 15
        while True:
            try:
                control = socket.create_connection(("127.0.0.1", port), 2)
                control.settimeout(0.1)
                return control
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.stop()
                    raise AssertionError(f"baresip did not start:\n{self.log()}") from None
                time.sleep(0.1)

    def log(self) -> str:
        """What baresip wrote until now."""
        return (self.directory / "baresip.log").read_text(errors="replace")

    def stop(self) -> None:
        """Ends the phone: it unregisters on SIGTERM; SIGKILL after five seconds."""
        if hasattr(self, "_control"):
            self._control.close()
        if hasattr(self, "_console"):
            self._console.close()
        shutil.rmtree(self._short, ignore_errors=True)
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def command(self, name: str, parameters: str = "") -> str:
        """Runs one of baresip's commands, such as `dial`, and gives its answer's text."""
        self._token += 1
        token = str(self._token)
        body = json.dumps({"command": name, "params": parameters, "token": token}).encode()
        self._control.sendall(b"%d:%s," % (len(body), body))
        answer = self._until(lambda: next((one for one in self._answers if one.get("token") == token), None), 10, name)
        self._answers.remove(answer)
        if not answer.get("ok"):
            raise AssertionError(f"{name} {parameters}: {answer.get('data')}")
        return str(answer.get("data", ""))

    def shown(self, seconds: float, wanted: str = "") -> str:
        """What it has shown to people until now, after so many seconds; or earlier, when `wanted` is among it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not (wanted and wanted.encode() in self._shown):
            try:
                self._shown += self._console.recv(65536)
            except TimeoutError:
                continue
        return self._shown.decode(errors="replace")

    def wait_event(self, kind: str, seconds: float = 10.0) -> Event:
        """Waits for the next event of that type, such as CALL_ESTABLISHED, and takes it and all before it out."""

        def found() -> Event | None:
            return next((event for event in self.events if event.get("type") == kind), None)

        event = self._until(found, seconds, kind)
        del self.events[: self.events.index(event) + 1]
        return event

    def dial(self, other: Phone) -> None:
        """Calls another phone by its extension at this phone's server."""
        self.command("dial", f"sip:{other.user}@{self.server}")

    def heard(self, frequency: float) -> float:
        """How strongly, 0 to 1, the last recording of what came in holds a tone of that frequency in hertz."""
        recordings = sorted(self.directory.glob("dump-*-dec.wav"), key=lambda path: path.stat().st_mtime)
        if not recordings:
            raise AssertionError(f"{self.user} recorded nothing:\n{self.log()[-3000:]}")
        rate, samples = read_samples(recordings[-1])
        return strength(samples, rate, frequency)

    def forget_recordings(self) -> None:
        """Removes the recordings of earlier calls."""
        for path in self.directory.glob("dump-*.wav"):
            path.unlink()

    def _until(self, found: Callable[[], Event | None], seconds: float, what: str) -> Event:
        deadline = time.monotonic() + seconds
        while True:
            value = found()
            if value is not None:
                return value
            if time.monotonic() > deadline:
                seen = [event.get("type") for event in self.events]
                who = f"{self.user} ({self.transport})"
                raise AssertionError(f"{who}: no {what} in {seconds:.0f} s; events {seen}\n{self.log()[-3000:]}")
            self._read()

    def _read(self) -> None:
        try:
            data = self._control.recv(65536)
        except TimeoutError:
            return
        if not data:
            raise AssertionError(f"{self.user}: baresip went away\n{self.log()[-3000:]}")
        self._buffer += data
        while True:
            length, colon, rest = self._buffer.partition(b":")
            if not colon or len(rest) <= int(length):
                return
            message = json.loads(rest[: int(length)])
            self._buffer = rest[int(length) + 1 :]
            (self._answers if message.get("response") else self.events).append(message)
