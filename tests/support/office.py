"""A busy office in virtual time, with the control API of the real server: what docs/cli.md shows is asked here.

Sixty phones are registered, some by TCP; two carriers; calls ring, are up, were busy, were forwarded; messages wait,
lamps burn. Everything comes out the same each time, to the second and to the identifier.
"""

from __future__ import annotations

import json
import os
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from click.testing import CliRunner
from twisted.internet.defer import Deferred

from sipd import service
from sipd.admin import cli
from sipd.admin.api import Api, Live
from sipd.auth.user_store import UserStore
from sipd.config_source import Source
from sipd.control_api import control_api
from sipd.first_start import Identity
from sipd.message.identifiers import Identifiers
from sipd.message.message import Request, Response
from tests.scenarios.test_out import granted
from tests.support.rig import Phone, Rig

DOMAIN = "sip.example.com"
PHONES = 60
#: What some phones are.
_AGENTS = {"1001": "Yealink SIP-T46U", "1002": "snomD785/10.1", "1003": "Cisco/SPA504G-7.6.2", "1004": "baresip v1.0.0"}
_SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"

CONFIG = """[server]
domains = ["sip.example.com"]
state_dir = "/var/lib/sipd"

[auth]
required = false

[acls.office]
permit = ["192.0.2.0/24"]

[templates.desk]
source_acl = "office"
call_limit = 2
may_call = ["!0900*", "*", "*@*"]

[peers.1001]
extends = ["desk"]
caller_name = "Reception"
busy_level = 1

[peers.carrier]
uri = "sip:203.0.113.10:5060"
username = "acct1"
password = "secret"
register = true
register_expires = 300
inbound_to = "1001"
qualify = true

[peers.second]
uri = "sip:203.0.113.20:5060"
username = "acct2"
password = "secret"
register = true

[qualify]
interval = 60

[[routes]]
name = "premium"
match = "0900*"
reject = 403
reason = "Not From Here"

[[routes]]
name = "outside"
match = "^0(?P<number>[0-9]+)$"
to = ["carrier", "second"]
rewrite = "{number}"
timeout = 30.0

[groups.sales]
members = ["1002", "1003", "1004"]
timeout = 20.0

[forward.1003]
busy = "1001"
no_answer = "1002"

[numbers]
500 = "sales"

[messages]
store_offline = true
"""


def configuration() -> dict[str, Any]:
    """The sections of the file, and the users."""
    sections = tomllib.loads(CONFIG)
    sections["users"] = {str(1000 + number): {"password": f"secret{number}"} for number in range(1, PHONES + 1)}
    sections["users"]["1001"]["display_name"] = "Reception"
    sections["users"]["1002"] |= {"display_name": "Ms Two", "qualify": True}
    return sections


class _Connected:
    """A connection as the transports of the real server list it."""

    hop = None

    def __init__(self, phone: Phone) -> None:
        assert phone.connection is not None
        self.flow: Any = phone.connection.flow
        self.flow.known = True
        self._since = phone.rig.clock.seconds()

    def figures(self, now: float) -> tuple[float, float, int]:
        """Seconds open and silent, octets that wait."""
        return now - self._since, now - self._since, 0


class Office:
    """The server and its phones; `directory` is for the user store."""

    def __init__(self, directory: str) -> None:
        path = os.path.join(directory, "sipd.toml")
        Path(path).write_text(CONFIG, encoding="utf-8")
        self.rig = Rig(domain=DOMAIN, **configuration())
        self.phones: dict[str, Phone] = {}
        self.carriers: dict[str, Phone] = {}
        #: What each phone does when it is called: "answer", "ring", or a status.
        self.habits: dict[str, str | int] = {}
        self.calls: dict[str, tuple[Phone, Request]] = {}
        self._ringing: dict[str, Request] = {}
        #: The 2xx of each call that was answered.
        self.answers: dict[str, Response] = {}
        store = UserStore(os.path.join(directory, "users.sqlite"))
        store.open()
        store.add(f"2001@{DOMAIN}", DOMAIN, "kept-secret", "Door")
        self.rig.users.load(store.users())
        self.api = self._api(store, Source(path))
        self._store = store
        for number in range(1, PHONES + 1):
            self._register(str(1000 + number))
        # the Call-IDs of calls that begin here are shown, and must not hang on what else asked for chance
        dice = Random(1)
        self.rig.core.controller.identifiers = Identifiers(dice.randbytes)
        # from here on the network takes its time
        self.rig.network.delay = 0.012
        self.carriers = {name: self.rig.phone(name, address) for name, address in (
            ("carrier", "203.0.113.10"), ("second", "203.0.113.20"))}
        self.rig.core.call_out(self.rig.config)
        self.live(8)

    def close(self) -> None:
        """Closes the user store."""
        self._store.close()

    def _api(self, store: UserStore, source: Source) -> Api:
        """The commands of the real server over the core in virtual time."""
        rig = self.rig
        transports: Any = rig.transports
        transports.connections = []
        transports.lost, transports.dropped, transports.cut = 2, 0, {"idle": 3}
        transports.show = lambda watch: None
        with mock.patch.object(service.time, "time", rig.wall):
            server: Any = service.Server(rig.config, source)
            rig.journal.sinks.append(server.recollection)
            server.core, server.inventory = rig.core, rig.inventory
            server._transports, server._user_store = transports, store
            return control_api(server, rig.core, rig.users, store, Identity(DOMAIN, DOMAIN), rig.clock)

    def _register(self, name: str) -> None:
        number = int(name) - 1000
        transport = "tcp" if number % 12 == 1 else "udp"
        phone = self.phones[name] = self.rig.phone(name, f"192.0.2.{10 + number}", transport)
        agent = _AGENTS.get(name, "Yealink SIP-T31P")
        phone.register(f"User-Agent: {agent}", expires=600 + number, call_id=f"reg{number}@{phone.address}")
        if transport == "tcp":
            self.rig.transports.connections.append(_Connected(phone))  # type: ignore[attr-defined]
        self.rig.advance(0.1)

    # --- what happens

    def live(self, seconds: float, step: float = 0.02) -> None:
        """Time passes, and everybody answers."""
        everybody = (*self.phones.values(), *self.carriers.values())
        for _ in range(round(seconds / step)):
            self.rig.clock.advance(step)
            for phone in everybody:
                for message in phone.drain():
                    if isinstance(message, Request):
                        self._asked(phone, message)
                    elif isinstance(message, Response):
                        self._answered(phone, message)

    def _asked(self, phone: Phone, request: Request) -> None:
        method = request.method
        if method == "REGISTER":
            if phone.name == "second":
                phone.answer(request, 403, reason="Account Closed")
            else:
                phone.answer(request, 200, granted(request, 300), reason="OK")
        elif method == "CANCEL":
            phone.answer(request, 200, reason="OK")
            if request.call_id in self._ringing:
                phone.answer(self._ringing.pop(request.call_id), 487, reason="Request Terminated")
        elif method == "INVITE":
            habit = self.habits.get(phone.name, "answer")
            if isinstance(habit, int):
                phone.answer(request, habit, reason="Busy Here")
                return
            phone.answer(request, 180, reason="Ringing")
            if habit == "ring":
                self._ringing[request.call_id] = request
            if habit == "answer":
                phone.answer(request, 200, "Content-Type: application/sdp", body=_SDP, reason="OK")
        elif method != "ACK":
            phone.answer(request, 200, reason="OK")

    def _answered(self, phone: Phone, response: Response) -> None:
        if response.cseq_method != "INVITE" or response.status < 200:
            return
        if response.status < 300:
            self.answers[response.call_id] = response
            phone.ack(response)
        else:
            phone.ack(response, self.calls[response.call_id][1])

    def call(self, caller: str, called: str, seconds: float, call_id: str) -> None:
        """A call is made, and goes its way for so many seconds."""
        phone = self.phones[caller]
        invite = phone.invite(f"sip:{called}@{DOMAIN}", "Content-Type: application/sdp", call_id=call_id, send=False)
        self.calls[call_id] = phone, invite
        phone.send(invite)
        self.live(seconds)

    def hang_up(self, call_id: str) -> None:
        """The caller of a call that is up hangs up."""
        self.calls[call_id][0].in_dialog("BYE", self.answers[call_id])
        self.live(0.2)

    def day(self) -> Office:
        """What has happened when the page is written."""
        phones, habits = self.phones, self.habits
        for number in range(12):  # calls as there are many, half of them over
            self.call(str(1020 + number), str(1040 + number), 3.0, f"day{number:02d}@192.0.2.{30 + number}")
        for number in range(0, 12, 2):
            self.hang_up(f"day{number:02d}@192.0.2.{30 + number}")
        habits |= {"1003": "ring", "1004": "answer", "1002": 486}
        self.call("1005", "500", 8.0, "5c2a77e1@192.0.2.15")      # the group: one is busy, one rings, one answers
        habits["1002"] = "answer"
        self.call("1002", "1001", 60.0, "a84b4c76e66710@192.0.2.12")
        habits["1006"] = 486
        self.call("1007", "1006", 2.0, "77f0c3@192.0.2.17")       # busy
        habits["1003"] = 486
        self.call("1008", "1003", 2.0, "9be01d@192.0.2.18")       # forwarded on busy, to one who is in a call
        self.call("1009", "0301234567", 4.0, "c0ffee@192.0.2.19")  # out over the carrier
        habits["1014"] = "ring"
        self.call("1013", "1014", 4.0, "f81d4fae-7dec@192.0.2.23")
        phones["1013"].cancel(self.calls["f81d4fae-7dec@192.0.2.23"][1])
        self.live(1)
        for watcher, watched, package in (("1001", "1002", "presence"), ("1001", "1003", "presence"),
                                          ("1002", "1002", "message-summary")):
            phones[watcher].request("SUBSCRIBE", f"sip:{watched}@{DOMAIN}", f"Event: {package}", "Expires: 1800",
                                    call_id=f"sub-{watched}-{package}@{phones[watcher].address}")
            self.live(0.5)
        for name, new, old in (("1002", 2, 1), ("1003", 0, 5)):
            self.ask("mwi set", {"name": name, "new": new, "old": old})
        phones["1001"].request("MESSAGE", f"sip:2001@{DOMAIN}", "Content-Type: text/plain", body=b"The door is open.",
                               call_id="text1@192.0.2.11")
        self.live(1)
        self.ask("dnd", {"name": "1010", "on": True})
        self.ask("originate", {"first": "1015", "second": "1016", "by": "3pcc", "follow": True})
        self.live(5)
        habits["1018"] = "ring"
        self.call("1017", "1018", 4.0, "1d55e2a9@192.0.2.27")
        return self

    # --- who asks

    def ask(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The answer of the API, once it is there."""
        told = Deferred.fromCoroutine(self.api.told(command, arguments, self._goes_on))
        for _ in range(100):
            if told.called:
                break
            self.live(0.1)
        answers: list[dict[str, Any]] = []
        told.addCallback(answers.append)
        answer: dict[str, Any] = json.loads(json.dumps(answers[0]))
        return answer

    def _goes_on(self, live: Live) -> None:
        """Nobody reads what follows."""

    def sipctl(self, *words: str, width: int = 130) -> str:
        """What sipctl prints."""
        def follow(place: Any, command: str, **arguments: Any) -> Iterator[Any]:
            answer = self.ask(command, arguments)
            if not answer["ok"]:
                cli.fail(str(answer["error"]), cli.KINDS.get(answer.get("kind", ""), cli.REFUSED))
            yield answer["result"]

        zone = os.environ.get("TZ")
        os.environ["TZ"] = "UTC"
        time.tzset()
        try:
            with mock.patch.object(cli.Place, "follow", follow), mock.patch("os.getpid", lambda: 4711):
                result = CliRunner(env={"COLUMNS": str(width)}).invoke(cli.main, ["--state-dir", "/nowhere", *words])
        finally:
            if zone is None:
                del os.environ["TZ"]
            else:
                os.environ["TZ"] = zone
            time.tzset()
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, f"sipctl {' '.join(words)}: {result.output}"
        return "\n".join(line.rstrip() for line in result.output.rstrip("\n").split("\n")) + "\n"
