"""A load client for calls over TLS, which Debian's SIPp has not: the calling and the called side, each a process.

    python -m bench.tls_calls call --server 127.0.0.1:5061 --domain D --users N --rate R --calls N
    python -m bench.tls_calls answer --port PORT --certificate FILE --key FILE

The messages and their order are those of scenarios/call_uac.xml and call_uas.xml, and like SIPp's `-t t1` it has one
connection to each side. At its end (the calling side's last call, SIGUSR1 or SIGTERM for the other) it prints its
figures as one line of JSON. Certificates are not verified: that costs at the handshake, which is not measured.
`TlsCalls` runs one as a child process and gives what `Sipp` gives.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.sipp import Figures

ROOT = Path(__file__).resolve().parent.parent
#: Seconds the calling side waits for its last calls.
PATIENCE = 10.0
_SDP = (
    "v=0\r\no=load 53655765 2353687637 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
    "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n"
)
_ANSWER = (
    "v=0\r\no=load 53655765 2353687637 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)


class Connection:
    """One TLS connection that never blocks: whole messages in, text out."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.ended = False
        self._received = b""
        self._unsent = b""

    def send(self, data: bytes) -> None:
        """Queues bytes; `flush` writes them."""
        self._unsent += data

    def flush(self) -> None:
        """Writes what the connection takes now."""
        while self._unsent:
            try:
                self._unsent = self._unsent[self.socket.send(self._unsent):]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return
            except OSError:
                self.ended = True
                return

    def messages(self) -> list[str]:
        """The messages that are complete now (RFC 3261 s18.3)."""
        while not self.ended:
            try:
                data = self.socket.recv(262144)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except OSError:
                data = b""
            if not data:
                self.ended = True
            self._received += data
        found = []
        text, start = self._received, 0
        while (end := text.find(b"\r\n\r\n", start)) >= 0:
            head = text[start:end + 2].decode()
            whole = end + 4 + int(header(head, "Content-Length") or 0)
            if whole > len(text):
                break
            found.append(head)
            start = whole
        self._received = text[start:]
        return found


def header(head: str, name: str) -> str:
    """The first value of a header, "" without one. Both servers write long names, as they were sent."""
    start = head.find(f"\r\n{name}: ")
    if start < 0:
        return ""
    start += len(name) + 4
    return head[start:head.index("\r\n", start)]


def lines(head: str, *names: str) -> str:
    """The header lines of those names, as they are, with their line ends."""
    return "".join(line + "\r\n" for line in head.split("\r\n") if line.partition(":")[0] in names)


class Caller:
    """The calling side: INVITE 100 180 200 ACK BYE 200 at a steady rate."""

    def __init__(self, server: tuple[str, int], domain: str, users: int, rate: float, calls: int) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.connection = Connection(context.wrap_socket(socket.create_connection(server, 10)))
        here = self.connection.socket.getsockname()
        self.sent_by = f"{here[0]}:{here[1]}"
        self.domain, self.users, self.rate, self.calls = domain, users, rate, calls
        self.unique = os.urandom(4).hex()
        self.invited: dict[str, float] = {}
        self.times: list[float] = []
        self.ringing: set[str] = set()
        self.succeeded = self.failed = self.repeats = 0
        self.errors: list[str] = []

    def run(self) -> dict[str, object]:
        """Makes the calls; the figures."""
        begun, made, last = time.monotonic(), 0, 0.0
        wait = select.poll()
        wait.register(self.connection.socket, select.POLLIN)
        while not self.connection.ended:
            now = time.monotonic()
            due = min(int((now - begun) * self.rate) + 1, self.calls)
            while made < due:
                self.invite(made)
                made += 1
                last = now
            self.connection.flush()
            if made == self.calls and (not self.invited or now > last + PATIENCE):
                break
            ahead = begun + made / self.rate - time.monotonic() if made < self.calls else 0.1
            wait.poll(max(1000 * ahead, 0))
            for head in self.connection.messages():
                self.take(head)
        unfinished = len(self.invited) + self.calls - made
        if unfinished:
            self.errors.append(f"{unfinished} calls did not end")
        return {
            "created": made, "succeeded": self.succeeded, "failed": self.failed + unfinished,
            "repeats": self.repeats, "times": [round(1000 * taken, 3) for taken in self.times],
            "errors": "\n".join(self.errors[:20]), "cipher": self.connection.socket.cipher(),
        }

    def invite(self, number: int) -> None:
        """Sends one INVITE."""
        call = f"{self.unique}-{number}@{self.sent_by}"
        user = f"user{number % self.users}@{self.domain}"
        self.invited[call] = time.monotonic()
        self.connection.send((
            f"INVITE sip:{user} SIP/2.0\r\n"
            f"Via: SIP/2.0/TLS {self.sent_by};branch=z9hG4bK{self.unique}i{number};rport\r\nMax-Forwards: 70\r\n"
            f'From: "Caller {number}" <sip:user0@{self.domain}>;tag={self.unique}c{number}\r\n'
            f"To: <sip:{user}>\r\nCall-ID: {call}\r\nCSeq: 1 INVITE\r\n"
            f"Contact: <sip:load@{self.sent_by};transport=tls>\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\n"
            f"User-Agent: load\r\nContent-Type: application/sdp\r\nContent-Length: {len(_SDP)}\r\n\r\n{_SDP}"
        ).encode())

    def take(self, head: str) -> None:
        """What a response asks for."""
        status, call, cseq = int(head[8:11]), header(head, "Call-ID"), header(head, "CSeq")
        begun = self.invited.get(call)
        if begun is None:
            self.repeats += 1
        elif cseq.endswith("BYE"):
            del self.invited[call]
            if status == 200:
                self.succeeded += 1
            else:
                self.fail(head)
        elif status == 180:
            if call in self.ringing:
                self.repeats += 1
            else:
                self.ringing.add(call)
                self.times.append(time.monotonic() - begun)
        elif status == 200 and call in self.ringing:
            self.ringing.discard(call)
            self.talk(head, call)
        elif status >= 200:
            del self.invited[call]
            self.fail(head)

    def talk(self, head: str, call: str) -> None:
        """ACK and BYE along the Record-Route set (RFC 3261 s12.1.2: in reverse order)."""
        target = header(head, "Contact").partition("<")[2].partition(">")[0]
        routes = [line.partition(":")[2] for line in head.split("\r\n") if line.startswith("Record-Route:")]
        middle = "".join(f"Route:{route}\r\n" for route in reversed(routes)) + lines(head, "From", "To", "Call-ID")
        number = call[len(self.unique) + 1:call.index("@")]
        for sequence, method in ((1, "ACK"), (2, "BYE")):
            self.connection.send((
                f"{method} {target} SIP/2.0\r\n"
                f"Via: SIP/2.0/TLS {self.sent_by};branch=z9hG4bK{self.unique}{method}{number};rport\r\n"
                f"Max-Forwards: 70\r\n{middle}CSeq: {sequence} {method}\r\nContent-Length: 0\r\n\r\n"
            ).encode())

    def fail(self, head: str) -> None:
        """Counts a call that was refused."""
        self.failed += 1
        self.errors.append(head.partition("\r\n")[0])


class Callee:
    """The called side: 100, 180 and 200 at once, 200 to the BYE; whoever connects is served."""

    def __init__(self, port: int, certificate: str, key: str) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.listening = socket.create_server(("127.0.0.1", port))
        self.contact = f"127.0.0.1:{port}"
        self.stopped = False
        self.created = self.ended = self.repeats = 0
        self.open: set[str] = set()

    def run(self) -> dict[str, object]:
        """Answers until `stopped`; the figures."""
        connections: dict[int, Connection] = {}
        wait = select.poll()
        wait.register(self.listening, select.POLLIN)
        while not self.stopped:
            for number, _ in wait.poll(200):
                if number == self.listening.fileno():
                    accepted = self.context.wrap_socket(self.listening.accept()[0], server_side=True)
                    connections[accepted.fileno()] = Connection(accepted)
                    wait.register(accepted, select.POLLIN)
                    continue
                connection = connections[number]
                for head in connection.messages():
                    self.take(connection, head)
                connection.flush()
                if connection.ended:
                    wait.unregister(number)
                    del connections[number]
                    connection.socket.close()
        return {"created": self.created, "succeeded": self.ended, "failed": len(self.open), "repeats": self.repeats,
                "times": [], "errors": f"{len(self.open)} calls did not end" if self.open else ""}

    def take(self, connection: Connection, head: str) -> None:
        """Answers one request."""
        method = head[:head.index(" ")]
        if method == "ACK":
            return
        common = lines(head, "Via", "From", "Call-ID", "CSeq")
        call, to = header(head, "Call-ID"), header(head, "To")
        if method == "BYE":
            self.ended += 1
            self.open.discard(call)
            connection.send(f"SIP/2.0 200 OK\r\n{common}To: {to}\r\nContent-Length: 0\r\n\r\n".encode())
        elif method == "INVITE":
            self.created += 1
            self.repeats += call in self.open
            self.open.add(call)
            tagged = (f"{lines(head, 'Record-Route')}{common}To: {to};tag=a{self.created}\r\n"
                      f"Contact: <sip:{self.contact};transport=tls>\r\n")
            connection.send((
                f"SIP/2.0 100 Trying\r\n{common}To: {to}\r\nContent-Length: 0\r\n\r\n"
                f"SIP/2.0 180 Ringing\r\n{tagged}Content-Length: 0\r\n\r\n"
                f"SIP/2.0 200 OK\r\n{tagged}Content-Type: application/sdp\r\nContent-Length: {len(_ANSWER)}\r\n\r\n"
                f"{_ANSWER}"
            ).encode())


class TlsCalls:
    """One side as a child process, in a directory of its own; the same figures as `Sipp`'s."""

    def __init__(self, side: str, directory: Path, arguments: Sequence[str], timeout: float = 120.0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._timeout = timeout
        with open(directory / "figures.json", "wb") as figures, open(directory / "errors.txt", "wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bench.tls_calls", side, *arguments], stdin=subprocess.DEVNULL, stdout=figures,
                stderr=errors, cwd=directory, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def wait(self) -> Figures:
        """Waits for the last call and gives the figures."""
        try:
            self.process.wait(self._timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        text = (self.directory / "figures.json").read_text()
        if not text:
            return Figures(0, 0, 1, 0, (), (self.directory / "errors.txt").read_text()[-2000:])
        said = json.loads(text)
        return Figures(said["created"], said["succeeded"], said["failed"], said["repeats"],
                       tuple(sorted(said["times"])), said["errors"])

    def stop(self) -> Figures:
        """Ends an answering side and gives its figures."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)
        return self.wait()


def main(arguments: Sequence[str]) -> int:
    """Runs one side."""
    parser = argparse.ArgumentParser(description="calls over TLS", allow_abbrev=False)
    parser.add_argument("side", choices=["call", "answer"])
    parser.add_argument("--server", help="address:port, for call")
    parser.add_argument("--port", type=int, help="to listen on, for answer")
    parser.add_argument("--certificate", help="PEM file, for answer")
    parser.add_argument("--key", help="PEM file, for answer")
    parser.add_argument("--domain", default="", help="of the users called")
    parser.add_argument("--users", type=int, default=1, help="how many user0, user1, ... there are")
    parser.add_argument("--rate", type=float, default=1.0, help="calls a second")
    parser.add_argument("--calls", type=int, default=1, help="how many")
    options = parser.parse_args(arguments)
    # A full collection is a pause of its own, and it would be read as the server's.
    gc.disable()
    run: Callable[[], dict[str, object]]
    if options.side == "call":
        host, _, port = options.server.rpartition(":")
        run = Caller((host, int(port)), options.domain, options.users, options.rate, options.calls).run
    else:
        callee = Callee(options.port, options.certificate, options.key)

        def stop(*_: object) -> None:
            callee.stopped = True

        signal.signal(signal.SIGUSR1, stop)
        signal.signal(signal.SIGTERM, stop)
        run = callee.run
    print(json.dumps(run()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
