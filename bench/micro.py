"""What each stage of a message costs, with pyperf, so that a regression is found where it was made.

    python bench/micro.py [pyperf's options, such as --fast, --output FILE; --only NAME[,NAME]]
    python -m pyperf compare_to before.json after.json

The core is the server's own; sockets, DNS and disk are stubs that only remember, and the clock moves a little with each
call, so that tables hold what they hold under load: some hundred finished transactions and their timers.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from hashlib import md5
from operator import attrgetter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pyperf
from twisted.internet.task import Clock

from sipd.auth.authenticator import Authenticator
from sipd.auth.credentials import Users
from sipd.auth.digest import answer, parse_challenge
from sipd.auth.nonce import Nonces
from sipd.binding import Binding
from sipd.config import Config
from sipd.flow import Flow
from sipd.inventory import Inventory
from sipd.journal import Journal
from sipd.location.table import BindingTable
from sipd.message.errors import Reject
from sipd.message.hop import Hop
from sipd.message.message import Request
from sipd.message.parser import parse
from sipd.message.uri import Uri
from sipd.service import Core, Outside, configured_users
from sipd.transport.listener import Listener
from sipd.wheel import TimerWheel

DOMAIN = "example.com"
_EPOCH = 1.8e9
#: Seconds of virtual time a call takes: 20 a second, 640 of them in the tables.
_CALL_TIME = 0.05
_SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


class KeptFlow(Flow):
    """A UDP flow that keeps what was sent."""

    __slots__ = ("sent",)

    def __init__(self, listener: Listener, address: str, port: int) -> None:
        super().__init__(f"udp/{listener.name}/{address}:{port}", listener, "udp", address, port)
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        """Keeps it."""
        self.sent.append(data)


class Transports:
    """One UDP listener and as many flows as are asked for."""

    def __init__(self) -> None:
        self.listeners = [Listener("udp", "192.0.2.1", 5060)]
        self.flows: dict[tuple[str, int], KeptFlow] = {}
        self.changed: Callable[[], None] = lambda: None

    def flow_to(self, hop: Hop, listener: str = "") -> KeptFlow:
        """The flow to a hop."""
        flow = self.flows.get((hop.address, hop.port))
        if flow is None:
            flow = self.flows[hop.address, hop.port] = KeptFlow(self.listeners[0], hop.address, hop.port)
        return flow

    def flow_by_id(self, flow_id: str) -> KeptFlow | None:
        """The flow of that id."""
        return next((flow for flow in self.flows.values() if flow.id == flow_id), None)


class Numeric:
    """A resolver for addresses."""

    own: Callable[[Uri], list[Hop]] = staticmethod(lambda uri: [])

    def lookup(self, uri: Uri, chance: bytes = b"") -> list[Hop]:
        """The hop an address is."""
        return [Hop("udp", uri.host, uri.port or 5060)]

    def failed(self, uri: Uri) -> bool:
        """No hop fails here."""
        return False

    def quarantine(self, hop: Hop, seconds: float = 0.0) -> float:
        """No hop fails here."""
        return seconds


def reply(request: bytes, status: bytes) -> bytes:
    """The callee's response to a request."""
    lines = [b"SIP/2.0 " + status]
    for line in request.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        name = line.partition(b":")[0].lower()
        if name in (b"via", b"from", b"call-id", b"cseq", b"record-route"):
            lines.append(line)
        elif name == b"to":
            lines.append(line if b"tag=" in line else line + b";tag=callee")
    return b"\r\n".join([*lines, b"Contact: <sip:1002@192.0.2.20:5060>", b"Content-Length: 0", b"", b""])


def invite(number: int) -> bytes:
    """An INVITE as a phone sends it."""
    return (b"INVITE sip:1002@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKi%d;rport\r\n"
            b"Max-Forwards: 70\r\nFrom: \"One\" <sip:1001@example.com>;tag=f%d\r\nTo: <sip:1002@example.com>\r\n"
            b"Call-ID: c%d@192.0.2.10\r\nCSeq: 1 INVITE\r\nContact: <sip:1001@192.0.2.10:5060>\r\n"
            b"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE\r\nSupported: replaces, outbound\r\n"
            b"User-Agent: phone/1\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s"
            % (number, number, number, len(_SDP), _SDP))


def in_dialog(method: bytes, ok: bytes, number: int, cseq: int) -> bytes:
    """ACK or BYE of the caller."""
    route = next(line for line in ok.split(b"\r\n") if line.startswith(b"Record-Route")).replace(b"Record-", b"", 1)
    return (b"%s sip:1002@192.0.2.20:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK%s%d;rport\r\n"
            b"%s\r\nMax-Forwards: 70\r\nFrom: \"One\" <sip:1001@example.com>;tag=f%d\r\n"
            b"To: <sip:1002@example.com>;tag=callee\r\nCall-ID: c%d@192.0.2.10\r\nCSeq: %d %s\r\n"
            b"User-Agent: phone/1\r\nContent-Length: 0\r\n\r\n"
            % (method, method, number, route, number, number, cseq, method))


def register(user: int, number: int) -> bytes:
    """A phone's REGISTER."""
    return (b"REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bKr%d;rport\r\n"
            b"Max-Forwards: 70\r\nFrom: <sip:%d@example.com>;tag=r\r\nTo: <sip:%d@example.com>\r\n"
            b"Call-ID: r%d@192.0.2.20\r\nCSeq: %d REGISTER\r\nContact: <sip:%d@192.0.2.20:5060>\r\nExpires: 3600\r\n"
            b"User-Agent: phone/1\r\nContent-Length: 0\r\n\r\n" % (number, user, user, user, number + 1, user))


def register_in_two(server: bytes, user: int, number: int) -> tuple[bytes, Callable[[bytes], bytes]]:
    """A REGISTER and what makes the one that answers its 401, as SIPp sends them: the digest is for the bare URI of the
    server, `server`."""
    head = (b"REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bK-77-%d-%d;rport\r\n"
            b"Max-Forwards: 70\r\nFrom: <sip:%d@example.com>;tag=77r%d\r\nTo: <sip:%d@example.com>\r\n"
            b"Call-ID: %d-77@192.0.2.20\r\nCSeq: %d REGISTER\r\nContact: <sip:%d@192.0.2.20:5060>\r\n")
    tail = b"Expires: 3600\r\nUser-Agent: load\r\nContent-Length: 0\r\n\r\n"

    def again(refusal: bytes) -> bytes:
        nonce = refusal.partition(b'nonce="')[2].partition(b'"')[0]
        secret, a2 = (md5(text).hexdigest().encode() for text in (
            b"%d:example.com:secret" % user, b"REGISTER:%s" % server))
        proof = md5(b"%s:%s:00000001:%08x:auth:%s" % (secret, nonce, number, a2)).hexdigest().encode()
        return head % (number, 2, user, number, user, number, 2, user) + (
            b'Authorization: Digest username="%d",realm="example.com",cnonce="%08x",nc=00000001,qop=auth,uri="%s",'
            b'nonce="%s",response="%s",algorithm=MD5\r\n' % (user, number, server, nonce, proof)) + tail

    return head % (number, 1, user, number, user, number, 1, user) + tail, again


class Server:
    """The real core between two phones; `spent` adds up the seconds of each kind of message. With `digest` they log in,
    and nobody has called yet."""

    def __init__(self, digest: bool = False) -> None:
        self.clock = Clock()
        # as time.time, none of these is a function of the interpreter's
        self.clock.rightNow = _EPOCH
        seconds: Callable[[], float] = partial(attrgetter("rightNow"), self.clock)
        self.clock.seconds = seconds  # type: ignore[method-assign]
        config = Config.model_validate({
            "auth": {"required": digest, "realm": DOMAIN, "algorithms": ("MD5",)}, "server": {"domains": (DOMAIN,)},
            "users": {str(1001 + number): "secret" for number in range(9)}})
        users = Users(DOMAIN)
        configured_users(users, config, DOMAIN)
        transports: Any = Transports()
        resolver: Any = Numeric()
        self.core = Core(
            config, DOMAIN, DOMAIN, b"s" * 32, users,
            Outside(transports, resolver, None, self.clock, seconds, os.urandom),
            Journal(), Inventory())
        self.core.location.start()
        self.core.listening()
        self.caller: Any = transports.flow_to(Hop("udp", "192.0.2.10", 5060))
        self.callee: Any = transports.flow_to(Hop("udp", "192.0.2.20", 5060))
        self.spent: dict[str, float] = {}
        #: Called before each message.
        self.before: Callable[[], None] = lambda: None
        self._numbers = itertools.count()
        if digest:
            return
        self.register()
        for _ in range(1000):
            self.call()
        self.spent.clear()

    def _receive(self, name: str, data: bytes, flow: Any, to: Any) -> bytes:
        """Gives the core one message; returns the last that went to `to`."""
        receive = self.core.layer.receive
        self.before()
        started = time.perf_counter()
        receive(data, flow)
        self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - started
        sent: bytes = to.sent[-1]
        self.caller.sent.clear()
        self.callee.sent.clear()
        return sent

    def call(self) -> None:
        """A whole call, then a moment."""
        caller, callee, number = self.caller, self.callee, next(self._numbers)
        forwarded = self._receive("INVITE", invite(number), caller, callee)
        self._receive("180", reply(forwarded, b"180 Ringing"), callee, caller)
        ok = self._receive("200", reply(forwarded, b"200 OK"), callee, caller)
        self._receive("ACK", in_dialog(b"ACK", ok, number, 1), caller, callee)
        bye = self._receive("BYE", in_dialog(b"BYE", ok, number, 2), caller, callee)
        self._receive("200 to BYE", reply(bye, b"200 OK"), callee, caller)
        self._pass()

    def register(self) -> None:
        """A REGISTER, a refresh from the second one on; then a moment."""
        answered = self._receive("REGISTER", register(1002, next(self._numbers)), self.callee, self.callee)
        if not answered.startswith(b"SIP/2.0 200"):
            raise RuntimeError(answered.decode())
        self._pass()

    def register_digest(self) -> None:
        """A REGISTER, its 401, and again with credentials; then a moment."""
        number = next(self._numbers)
        first, again = register_in_two(b"sip:192.0.2.1:5060", 1001 + number % 9, number)
        refusal = self._receive("REGISTER with digest", first, self.callee, self.callee)
        answered = self._receive("REGISTER with digest", again(refusal), self.callee, self.callee)
        if not answered.startswith(b"SIP/2.0 200"):
            raise RuntimeError(answered.decode())
        self._pass()

    def _pass(self) -> None:
        started = time.perf_counter()
        self.clock.advance(_CALL_TIME)
        self.spent["timers"] = self.spent.get("timers", 0.0) + time.perf_counter() - started


def timed(work: Callable[[Server], None], name: str, digest: bool = False) -> Callable[[int], float]:
    """A pyperf time function: what `name` took of `loops` runs of `work`."""
    server: list[Server] = []

    def run(loops: int) -> float:
        if not server:
            server.append(Server(digest))
        server[0].spent.clear()
        for _ in range(loops):
            work(server[0])
        return server[0].spent[name]

    return run


def parse_time(messages: list[bytes]) -> Callable[[int], float]:
    """A time function: parsing, one message after the other."""
    def run(loops: int) -> float:
        started = time.perf_counter()
        for data in itertools.islice(itertools.cycle(messages), loops):
            parse(data)
        return time.perf_counter() - started

    return run


def nothing(argument: Any) -> None:
    """What a timer of the benchmark does."""


def wheel_time(others: int) -> Callable[[int], float]:
    """A time function: a timer started and cancelled while others run."""
    wheel = TimerWheel(Clock())
    for number in range(others):
        wheel.start(1 + number % 3000 / 100, nothing, None)

    def run(loops: int) -> float:
        started = time.perf_counter()
        for _ in range(loops):
            wheel.start(32.0, nothing, None).cancel()
        return time.perf_counter() - started

    return run


def digest_time(algorithm: str) -> Callable[[int], float]:
    """A time function: good credentials are checked, each with a count of its own."""
    users = Users(DOMAIN)
    users.configure("1001", DOMAIN, (algorithm,), "secret", {}, "", ())
    clock = Clock()
    authenticator = Authenticator(users, Nonces(clock, os.urandom, Inventory()), DOMAIN, (algorithm,),
                                  lambda host, port: DOMAIN, os.urandom)

    def run(loops: int) -> float:
        spent = 0.0
        for number in range(loops):
            if number % 60 == 0:
                clock.advance(1.0)
                params = _challenge(authenticator)
            request = parse(register(1001, number))
            assert isinstance(request, Request)
            uri = f"sip:{DOMAIN}"
            request.add("Authorization", answer(params, "REGISTER", uri, "1001", "secret", "c0ffee",
                                                 number % 60 + 1))
            started = time.perf_counter()
            user = authenticator.check(request, proxy=False)
            spent += time.perf_counter() - started
            assert user is not None
        return spent

    return run


def _challenge(authenticator: Authenticator) -> dict[str, str]:
    request = parse(register(1001, 0))
    assert isinstance(request, Request)
    try:
        authenticator.check(request, proxy=False)
    except Reject as refusal:
        params = parse_challenge(refusal.headers[0][1])
        assert params is not None
        return params
    raise RuntimeError("no challenge")


def look_up_time(size: int) -> Callable[[int], float]:
    """A time function: look-ups by address-of-record."""
    table = BindingTable(Inventory(), size)
    for number in range(size):
        aor = f"user{number}@{DOMAIN}"
        table.change(aor, (("put", Binding(aor, f"sip:user{number}@192.0.2.7", "", 1000, _EPOCH + 60, "c", 1)),))

    def run(loops: int) -> float:
        names = [f"user{number * 7919 % size}@{DOMAIN}" for number in range(loops)]
        started = time.perf_counter()
        for name in names:
            table.live(name, _EPOCH)
        return time.perf_counter() - started

    return run


def encode() -> Callable[[], bytes]:
    """Printing an INVITE."""
    message = parse(invite(1))
    return message.encode


#: Name to what makes its time function; made only where it is run.
_TIMED: dict[str, Callable[[], Callable[[int], float]]] = {
    "parse INVITE": lambda: parse_time([invite(number) for number in range(500)]),
    "parse 200": lambda: parse_time([reply(invite(number), b"200 OK") for number in range(500)]),
    **{f"core {name}": lambda name=name: timed(Server.call, name)  # type: ignore[misc]
       for name in ("INVITE", "180", "200", "ACK", "BYE", "200 to BYE")},
    "timers of a call": lambda: timed(Server.call, "timers"),
    "core REGISTER": lambda: timed(Server.register, "REGISTER"),
    "core REGISTER with digest": lambda: timed(Server.register_digest, "REGISTER with digest", True),
    "timer": lambda: wheel_time(10_000),
    "digest MD5": lambda: digest_time("MD5"),
    "digest SHA-256": lambda: digest_time("SHA-256"),
    "look-up": lambda: look_up_time(10_000),
}


def main() -> None:
    """Runs them all, or those `--only` names."""
    # few values: each process fills a server first
    runner = pyperf.Runner(values=3, processes=3, min_time=0.05,
                           add_cmdline_args=lambda command, options: command.extend(["--only", options.only]))
    runner.argparser.add_argument("--only", default="", help="names, separated by commas")
    only = runner.parse_args().only.split(",")
    for name, make in _TIMED.items():
        if only == [""] or name in only:
            runner.bench_time_func(name, make() if runner.args.worker else lambda loops: 0.0)
    if only == [""] or "encode INVITE" in only:
        runner.bench_func("encode INVITE", encode())


if __name__ == "__main__":
    main()
