"""Twenty thousand damaged messages against the running server, over UDP and TCP: after each hundred an ordinary call
works; at the end nothing is held, memory is where it was, and no exception stands in the log."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import socket
import struct
import sys
import time
from pathlib import Path

from twisted.trial import unittest

from bench.registrant import Registrant, Registration
from bench.servers import answers_options, memory_kib
from sipd.admin.client import ask
from tests.interop.sipd_process import SipdProcess
from tests.interop.wire import Endpoint, Message
from tests.support.mutations import Mutations

DOMAIN = "sip.example.com"
USERS = {"1002": "two-secret", "1003": "three-secret"}
#: Damaged messages over each of UDP and TCP: of the first few memory finds its level.
WARM, MORE = 4000, 6000
#: How much more memory may be in use after `MORE` than after `WARM` (KiB): caches fill up, and pages are not all given back.
GROWTH = 16_000
#: Short timers, so that what the messages began has ended while we wait. Guests, so that they get past the first question.
#: Nothing is refused for haste, which on a busy machine could be the ordinary call.
CONFIG = ("[proxy]\nguests = true\n[timers]\nt1 = 0.05\nt2 = 0.2\nt4 = 0.25\nc = 15.0\n"
          "[overload]\nshed = false\n")
#: An address of this host where nobody listens: a late answer may ask for a connection to any port of its asker.
ELSEWHERE = "127.0.0.77"
#: Tables that hold something for longer than a transaction.
_KEPT = {"addresses-of-record", "expiry seconds", "bindings", "nonces-young", "nonces-old", "log sources",
         "control connections"}


class MutationTests(unittest.TestCase):
    """One server; 1002 is called by ordinary calls, 1003 by damaged ones, which it refuses."""

    def setUp(self) -> None:
        #: The same messages come again with MUTATION_SEED in the environment.
        self.seed = int(os.environ.get("MUTATION_SEED") or random.SystemRandom().randrange(1 << 32))
        sys.stdout.write(f"\nMUTATION_SEED={self.seed} ")
        self.server = SipdProcess(Path(self.mktemp()).resolve(), domain=DOMAIN, users=USERS, config=CONFIG)
        self.server.start()
        self.addCleanup(self.server.end)
        self.caller = Endpoint(self.server.address, "guest", "elsewhere.invalid")
        self.callee = Endpoint(self.server.address, "1002", DOMAIN)
        self.sink = Endpoint(self.server.address, "1003", DOMAIN, (ELSEWHERE, 0))
        self.sender = Endpoint(self.server.address, "mutant", "elsewhere.invalid", (ELSEWHERE, 0))
        for endpoint in (self.caller, self.callee, self.sink, self.sender):
            self.addCleanup(endpoint.close)
        self.mutations = Mutations(self.seed, self.sender.host, DOMAIN, "1003")
        self.register()

    def register(self) -> None:
        """1002 and 1003 register with digest."""
        client = Registrant(self.server.address, DOMAIN)
        wanted = [Registration(one.user, f"sip:{one.user}@{one.host}", password=USERS[one.user])
                  for one in (self.callee, self.sink)]
        client.run(wanted)
        client.close()
        self.assertEqual([one.status for one in wanted], [200, 200])

    def call(self) -> None:
        """An ordinary call of a guest to 1002, to its end."""
        caller, callee = self.caller, self.callee
        call_id, uri = secrets.token_hex(8), f"sip:1002@{DOMAIN}"
        own = f"From: <sip:guest@elsewhere.invalid>;tag={call_id[:4]}"
        caller.send(caller.request("INVITE", uri, [
            own, f"To: <{uri}>", f"Call-ID: {call_id}", "CSeq: 1 INVITE", f"Contact: {caller.contact}"]))
        callee.answer(self.expect(callee, "INVITE", call_id), "200 OK", "callee")
        answer = self.expect(caller, 200, call_id)
        target = answer.all("Contact")[0].strip("<>")
        lines = [*(f"Route: {route}" for route in reversed(answer.all("Record-Route"))), own,
                 f"To: {answer.all('To')[0]}", f"Call-ID: {call_id}"]
        caller.send(caller.request("ACK", target, [*lines, "CSeq: 1 ACK"]))
        self.expect(callee, "ACK", call_id)
        caller.send(caller.request("BYE", target, [*lines, "CSeq: 2 BYE"]))
        callee.answer(self.expect(callee, "BYE", call_id), "200 OK")
        self.expect(caller, 200, call_id, "BYE")

    def expect(self, at: Endpoint, what: str | int, call_id: str, method: str = "") -> Message:
        """The next message of a call that is this, to `method` where it is a response; what else comes is dropped."""
        got = at.receive(lambda one: call_id in one.all("Call-ID") and (one.status or one.method) == what
                         and method in one.method, 10.0)
        if got is None:
            raise AssertionError(f"{at.user}: no {what} within 10 s, seed {self.seed}")
        return got

    def refuse(self) -> int:
        """1003 answers what reached it: how many requests those were."""
        count = 0
        self.sink.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                request = Message(self.sink.socket.recv(65535))
                count += 1
                with contextlib.suppress(IndexError):  # a damaged one may lack what an answer repeats
                    if not request.status and request.method != "ACK":
                        self.sink.answer(request, "486 Busy Here", "sink")
        return count

    def send_udp(self, data: bytes) -> None:
        """One datagram."""
        self.sender.send(data)

    def send_tcp(self, data: bytes) -> None:
        """One connection: the message in one piece or several, then the end; the server must close, too."""
        split = self.mutations.random.choice((0, 0, 1, 3))
        with socket.create_connection(self.server.address, 5, (ELSEWHERE, 0)) as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                size = len(data) // (split or 1) + 1
                for start in range(0, len(data), size):
                    stream.sendall(data[start:start + size])
                stream.shutdown(socket.SHUT_WR)
                while stream.recv(65535):
                    pass
            except TimeoutError:
                raise AssertionError(f"the server keeps a connection, seed {self.seed}: {data[:400]!r}") from None
            except OSError:
                pass  # cut off in the middle: allowed when the framing is lost
            # so many ports need not wait for what can no longer come
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def damage(self, count: int) -> int:
        """So many messages over each transport, a call after each hundred; how many requests reached 1003."""
        reached = 0
        for transport, send in (("UDP", self.send_udp), ("TCP", self.send_tcp)):
            for number in range(1, count + 1):
                send(self.mutations.next(transport))
                if number % 25 == 0:
                    # everybody keeps up: what does not fit into the server's socket would not be tried
                    self.assertTrue(answers_options(*self.server.address) or answers_options(*self.server.address),
                                    f"silent after {number} over {transport}, seed {self.seed}")
                    reached += self.refuse()
                if number % 100 == 0:
                    self.call()
            self.sender.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.sender.socket.recv(65535)
        return reached

    def level(self, but: str = "") -> int:
        """Memory in use (KiB) when nothing is held any more, `but` for one table; an AssertionError when it is."""
        left: dict[str, int] = {}
        deadline = time.monotonic() + 45  # timer D is 32 s at least
        while time.monotonic() < deadline:
            self.refuse()
            tables = ask(str(self.server.state / "sipctl.sock"), "status")["tables"]
            left = {table["name"]: table["size"] for table in tables
                    if table["size"] and not table["cache"] and table["name"] not in _KEPT | {but}
                    and not table["name"].startswith("udp flows of ")}
            if not left:
                break
            time.sleep(0.25)
        self.assertEqual(left, {}, f"seed {self.seed}")
        assert self.server.process is not None
        return memory_kib(self.server.process.pid)

    def test_damaged(self) -> None:
        """Over both transports, first until memory has found its level, then more."""
        began = time.monotonic()
        self.damage(WARM)
        before = self.level("client transactions")  # small, and half a minute in timer D
        reached = self.damage(MORE)
        after = self.level()
        sys.stdout.write(f"{before} KiB, then {after} KiB; {reached} of {2 * MORE} reached a phone; "
                         f"{time.monotonic() - began:.0f} s ")
        self.assertGreater(reached, MORE // 5)
        self.assertLess(after, before + GROWTH, f"seed {self.seed}")
        self.register()
        self.call()
