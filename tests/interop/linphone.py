"""linphone, a phone nobody here wrote, as a child process: it registers, and what it shows stands in its log."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.servers import free_port


class Linphone:
    """One linphonec with one account over UDP, everything it keeps under `directory`."""

    def __init__(self, directory: Path, way: str, user: str, password: str, domain: str, *, friends: Sequence[str] = (),
                 publish: bool = False, details: bool = False) -> None:
        """`way` is `address:port` of the listener that everything goes by; `friends` are users whose presence it asks
        for; with `publish` it tells its own; with `details` it writes what it reads and does, each message with it."""
        # without this directory it has no database, and then it does not take messages
        (directory / ".local" / "share" / "linphone").mkdir(parents=True)
        self.directory = directory
        port = free_port()
        settings = directory / "linphonerc"
        settings.write_text("\n".join((
            "[sip]", f"sip_port={port}", f"sip_tcp_port={port}", "sip_tls_port=0", "default_proxy=0", "use_ipv6=0",
            "bind_address=127.0.0.1", "register_only_when_network_is_up=0",
            "[proxy_0]", f"reg_proxy=<sip:{way};transport=udp>", f"reg_route=<sip:{way};transport=udp;lr>",
            f"reg_identity=sip:{user}@{domain}", "reg_expires=600", "reg_sendregister=1", f"publish={int(publish)}",
            "[auth_info_0]", f"username={user}", f"passwd={password}", f"realm={domain}",
            *(f"[friend_{place}]\nurl=sip:{name}@{domain}\npol=accept\nsubscribe=1" for place, name in enumerate(friends)),
            "")))
        with open(directory / "linphone.log", "wb") as log:
            self.process = subprocess.Popen(
                self.program(settings, details), cwd=directory, stdin=subprocess.PIPE, stdout=log,
                stderr=subprocess.STDOUT, env={**os.environ, "HOME": str(directory)})

    def program(self, settings: Path, details: bool) -> list[str]:
        """The command that starts it."""
        program = shutil.which("linphonec")
        if program is None:
            raise FileNotFoundError("linphonec is not installed (Debian: apt-get install linphone-cli)")
        return [program, "-c", str(settings), *(["-d", "6"] if details else [])]

    def command(self, line: str) -> None:
        """One of its commands."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def shown(self, seconds: float, wanted: str = "") -> str:
        """What it has written until now, after so many seconds; or earlier, when `wanted` is among it."""
        deadline = time.monotonic() + seconds
        while True:
            text = (self.directory / "linphone.log").read_text(errors="replace")
            if (wanted and wanted in text) or time.monotonic() > deadline:
                return text
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends it; SIGKILL after five seconds."""
        if self.process.poll() is None:
            try:
                self.command("quit")
                self.process.wait(5)
            except (subprocess.TimeoutExpired, OSError):
                self.process.kill()
                self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()


class LinphoneLibrary(Linphone):
    """A phone made of linphone's library, for what linphonec has no command: see linphone_library.py."""

    def program(self, settings: Path, details: bool) -> list[str]:
        """See Linphone."""
        return [sys.executable, str(Path(__file__).with_name("linphone_library.py")), str(settings)]
