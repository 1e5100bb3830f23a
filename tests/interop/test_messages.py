"""Text messages for phones that are not there: shown once when they are, whenever the server was killed (RFC 3428)."""

from __future__ import annotations

import select
import socket
import threading
import time
from pathlib import Path

from twisted.trial import unittest

from bench.servers import free_port
from tests.interop.baresip import Phone
from tests.interop.linphone import Linphone
from tests.interop.sipd_process import SipdProcess
from tests.interop.wire import Endpoint
from tests.support.cases import shows

DOMAIN = "sip.example.com"
#: Anybody may send: what is shown here comes after that.
CONFIG = """
[auth]
required = false
[messages]
store_offline = true
"""


class LossyWay(threading.Thread):
    """A way between a phone and the server that can lose what answers a MESSAGE."""

    def __init__(self, server: tuple[str, int]) -> None:
        super().__init__(daemon=True)
        self.port = free_port()
        self.losing = False
        self.lost = 0
        self._server = server
        self._phone: tuple[str, int] | None = None
        self._inner = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._inner.bind(("127.0.0.1", self.port))
        self._outer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._outer.bind(("127.0.0.1", 0))
        self._ended = threading.Event()

    def run(self) -> None:
        """Carries datagrams both ways."""
        while not self._ended.is_set():
            for ready in select.select([self._inner, self._outer], [], [], 0.1)[0]:
                try:
                    data, source = ready.recvfrom(65535)
                except ConnectionError:
                    continue  # nobody listens there: the server has just been killed
                if ready is self._outer:
                    if self._phone is not None:
                        self._inner.sendto(data, self._phone)
                    continue
                self._phone = source
                if self.losing and data.startswith(b"SIP/2.0 ") and b" MESSAGE\r\n" in data:
                    self.lost += 1
                else:
                    self._outer.sendto(data, self._server)

    def close(self) -> None:
        """Ends it."""
        self._ended.set()
        self.join()
        self._inner.close()
        self._outer.close()


class MessageTests(unittest.TestCase):
    """One server, a sender on a bare socket, and a phone."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.server = SipdProcess(self.directory / "server", users={"1001": "a", "1002": "b"}, config=CONFIG)
        self.addCleanup(self.server.end)

    def start(self) -> None:
        """Starts the server, and the sender."""
        self.server.start()
        self.sender = Endpoint(self.server.address, "1001", DOMAIN)
        self.addCleanup(self.sender.close)

    def send(self, text: str, number: int) -> None:
        """A MESSAGE to 1002, which is stored."""
        self.sender.send(self.sender.request("MESSAGE", f"sip:1002@{DOMAIN}", [
            f"From: <sip:1001@{DOMAIN}>;tag=t{number}", f"To: <sip:1002@{DOMAIN}>", f"Call-ID: message{number}",
            f"CSeq: {number} MESSAGE", "Content-Type: text/plain"], text))
        self.sender.expect(202)

    def delivered(self, number: int) -> None:
        """Waits until the log says that the message is delivered."""
        deadline = time.monotonic() + 10
        while f"message {number} from 1001@{DOMAIN} to 1002@{DOMAIN} is delivered" not in self.server.log():
            self.assertLess(time.monotonic(), deadline, self.server.log())
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9, and another start."""
        self.server.kill()
        self.server.start()

    @shows("NIT-02", "3428 7")
    def test_offline(self) -> None:
        """Three messages to nobody, the server killed with kill -9 after each 202: baresip shows them in their order
        when it registers, over UDP and over TCP, once; another kill brings nothing more."""
        self.start()
        for first, transport in ((1, "udp"), (4, "tcp")):
            texts = [f"{transport} {word}" for word in ("one", "two", "three")]
            for number, text in enumerate(texts, first):
                self.send(text, number)
                self.kill()
            phone = Phone(self.directory / f"phone-{transport}", self.server.target(transport), "1002", "b", transport,
                          440.0, domain=DOMAIN)
            self.addCleanup(phone.stop)
            phone.wait_event("REGISTER_OK")
            shown = phone.shown(15.0, texts[-1])
            self.assertLess(shown.index(texts[0]), shown.index(texts[1]))
            self.assertLess(shown.index(texts[1]), shown.index(texts[2]))
            self.delivered(first + 2)
            self.kill()
            shown = phone.shown(3.0)
            self.assertEqual([shown.count(f'"{text}"') for text in texts], [1, 1, 1], shown)
            phone.stop()

    @shows("NIT-02", "8.2.2.2", "17.2.3")
    def test_killed_in_between(self) -> None:
        """linphone has shown a message and its 200 was lost when the server was killed: the server asks again after its
        start, in the transaction that linphone knows, which does not show it twice. Then it is delivered."""
        way = LossyWay(self.server.address)
        way.start()
        self.addCleanup(way.close)
        # the phone knows the server by the place of the way: only the file can say so
        place = self.server.command.index("--listen")
        del self.server.command[place:place + 4]
        (self.server.directory / "sipd.toml").write_text(
            f'[[listen]]\ntransport = "udp"\naddress = "127.0.0.1"\nport = {self.server.port}\n'
            f'advertise = "127.0.0.1:{way.port}"\n{CONFIG}')
        self.start()
        self.send("only once", 1)
        way.losing = True
        phone = Linphone(self.directory / "phone", f"127.0.0.1:{way.port}", "1002", "b", DOMAIN)
        self.addCleanup(phone.stop)
        phone.shown(15.0, "only once")
        self.assertNotIn("is delivered", self.server.log())
        self.server.kill()
        self.assertGreater(way.lost, 0)
        way.losing = False
        self.server.start()
        self.delivered(1)
        shown = phone.shown(3.0)
        self.assertEqual(shown.count(f"Message received from sip:1001@{DOMAIN}: only once"), 1, shown)
        self.assertEqual(shown.count("only once"), 1, shown)
