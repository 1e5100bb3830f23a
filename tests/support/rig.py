"""The real core in virtual time: phones on a network in memory, a clock that only the test moves.

    rig = Rig()                                  # authentication off, users 1001 to 1009 known
    a, b = rig.phone("1001"), rig.phone("1002")
    b.register()
    invite = a.invite("1002")
    a.take(100)
    got = b.take("INVITE")
    b.answer(got, 180); a.take(180)
    ok = b.answer(got, 200); a.ack(a.take(200)); b.take("ACK")
    rig.finish()                                 # nothing left unread, no table, timer or call left

`take` fails with the whole ladder of messages when what it wants is not the next thing the phone received.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

from sipd.auth.credentials import Users
from sipd.auth.digest import answer as digest_answer
from sipd.auth.digest import parse_challenge
from sipd.config import Config
from sipd.interfaces import ILocationStore, IResolver
from sipd.inventory import Inventory
from sipd.journal import Journal
from sipd.message.address import Address
from sipd.message.message import Message, Request, Response
from sipd.message.parser import parse
from sipd.records import IRecords, MemoryRecords
from sipd.resolver.resolver import Resolver
from sipd.service import Core, Outside, configured_users
from tests.support.fake_dns import FakeDns
from tests.support.network import Acceptor, Connection, Endpoint, MemoryNetwork

SERVER = "192.0.2.1"
DOMAIN = "example.com"
#: What the server listens on unless a test says otherwise.
LISTEN = (("udp", SERVER, 5060), ("tcp", SERVER, 5060), ("tls", SERVER, 5061))

#: Tables that rightly hold something while phones are registered.
_KEPT = ("addresses-of-record", "expiry seconds", "bindings", "nonces-young", "nonces-old",
         "forwards set at run time")
#: Tables that hold something while a call is up.
_OF_CALLS = ("calls", "peers in calls")

_SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


def counter_entropy(first: int = 1) -> Callable[[int], bytes]:
    """Chance that comes out the same each time."""
    numbers = itertools.count(first)
    return lambda size: b"".join(next(numbers).to_bytes(4, "big") for _ in range(size // 4 + 1))[:size]


class Rig:
    """One server and its phones. `settings` are sections of the configuration, such as proxy={"recurse": True}."""

    def __init__(self, *, listen: tuple[tuple[str, str, int], ...] = LISTEN, store: ILocationStore | None = None,
                 resolver: IResolver | None = None, secret: bytes = b"s" * 32, clock: Clock | None = None,
                 network: MemoryNetwork | None = None, domain: str = DOMAIN,
                 kept: IRecords | None = None, records: IRecords | None = None, **settings: Any) -> None:
        settings.setdefault("auth", {"required": False})
        settings.setdefault("server", {"domains": [domain, "alias.example.com"] if domain == DOMAIN else [domain]})
        settings.setdefault("registrar", {"min_expires": 2})
        settings.setdefault("users", {f"100{n}": f"secret{n}" for n in range(1, 10)})
        self.config = Config(**settings)
        self.domain = domain
        self.clock = clock or Clock()
        self.network = network or MemoryNetwork(self.clock)
        self.transports = self.network.transports(listen)
        self.inventory = Inventory()
        self.journal = Journal()
        #: Everything journalled: (kind, fields).
        self.records: list[tuple[str, dict[str, Any]]] = []
        self.journal.sinks.append(lambda kind, fields: self.records.append((kind, fields)))
        users = Users(domain, self.config.server.tenants)
        realm = self.config.auth.realm or domain
        configured_users(users, self.config, realm)
        self.users = users
        # a server with another secret has another chance too
        entropy = counter_entropy(1 if secret == b"s" * 32 else 1 << 20)
        self.dns = FakeDns(self.clock)
        self.resolver = resolver or Resolver(
            self.clock, self.dns, self.inventory, entropy, transports=("udp", "tcp", "tls"), families=(4, 6),
            journal=self.journal)
        self.core = Core(self.config, domain, realm, secret, users,
                         Outside(self.transports, self.resolver, store, self.clock, self.wall, entropy,
                                 kept or MemoryRecords(), records=records or MemoryRecords()),
                         self.journal, self.inventory)
        self.core.location.start()
        self.transports.receive = self.core.layer.receive
        self.core.messages.load()
        self.core.listening()
        self.core.messages.start()
        self.core.events.start()
        self.phones: list[Phone] = []
        self._hosts = itertools.count(10)

    def wall(self) -> float:
        """Seconds since the epoch, in step with the clock."""
        return 1_800_000_000.0 + self.clock.seconds()

    def phone(self, name: str, address: str = "", transport: str = "udp", port: int = 5060, *,
              source: tuple[str, int] | None = None) -> Phone:
        """A phone of user `name`; `source` is where its packets seem to come from when it is behind NAT."""
        phone = Phone(self, name, address or f"192.0.2.{next(self._hosts)}", transport, port, source)
        self.phones.append(phone)
        return phone

    def advance(self, seconds: float, step: float = 0.5) -> None:
        """Lets time pass, in steps short enough for what answers on the way."""
        left = seconds
        while left > 1e-9:
            self.clock.advance(min(step, left))
            left -= step

    def binding(self, name: str, contact: str, expires: float = 3600.0, **fields: Any) -> None:
        """Puts a binding straight into the location service."""
        from sipd.binding import Binding

        aor = f"{name}@{self.domain}"
        binding = Binding(aor, contact, fields.pop("params", ""), fields.pop("q", 1000), self.wall() + expires,
                          fields.pop("call_id", f"seed-{contact}"), fields.pop("cseq", 1), **fields)
        self.core.location.change(aor, [("put", binding)], lambda reason: None)

    @property
    def bugs(self) -> list[str]:
        """What the server itself took for a bug."""
        return [fields["reason"] for kind, fields in self.records if kind == "bug"]

    def ladder(self) -> str:
        """Every message so far, a line each."""
        lines = []
        for packet in self.network.packets:
            head = packet.data.split(b"\r\n", 1)[0].decode("utf-8", "replace")
            lines.append(f"{packet.at:8.2f}  {packet.transport} {packet.source[0]}:{packet.source[1]} -> "
                         f"{packet.target[0]}:{packet.target[1]}  {head}")
        return "\n".join(lines)

    def finish(self, seconds: float = 70.0) -> None:
        """Fails when a phone has unread messages, when the server saw a bug, or when anything is left after `seconds`
        but calls that were answered and that nobody hung up, each with the timer that ends it."""
        for phone in self.phones:
            phone.silent()
        self.advance(seconds, 1.0)
        assert not self.bugs, self.bugs[0]
        up = list(self.core.calls.live())
        assert all(call.was_answered and call.timer is not None for call in up), f"a call hangs\n{self.ladder()}"
        kept = (*_KEPT, *_OF_CALLS) if up else _KEPT
        left = {name: size for name, size in self.inventory.left().items() if name not in kept}
        assert not left, f"left after {seconds} s: {left}\n{self.ladder()}"
        timers = len(self.core.wheel) - len(up)
        assert not timers, f"{timers} timers left"


class Phone:
    """A user agent that the test plays by hand."""

    def __init__(self, rig: Rig, name: str, address: str, transport: str, port: int,
                 source: tuple[str, int] | None) -> None:
        self.rig = rig
        self.name = name
        self.address = address
        self.port = port
        self.transport = transport
        self.password = rig.config.users[name].password.get_secret_value() if name in rig.config.users else ""
        self._numbers = itertools.count(1)
        self._read = 0
        #: More parameters of its Vias, such as ";rport".
        self.via_params = ""
        self.connection: Connection | None = None
        self.endpoint: Endpoint | None = None
        if transport == "udp":
            self.endpoint = rig.network.endpoint("udp", *(source or (address, port)))
            self.server = next((host, number) for kind, host, number in self._listeners() if kind == "udp")
        else:
            self.server = next((host, number) for kind, host, number in self._listeners() if kind == transport)
            ends = rig.network.endpoint(transport, *(source or (address, 40000 + next(rig._hosts))))
            self.connection = ends.connect(self.server)

    def _listeners(self) -> list[tuple[str, str, int]]:
        same = [one for one in self.rig.transports.listeners if (":" in one.address) == (":" in self.address)]
        return [(one.transport, one.address, one.port) for one in same]

    @property
    def host(self) -> str:
        """The address as it stands in a URI."""
        return f"[{self.address}]" if ":" in self.address else self.address

    @property
    def contact(self) -> str:
        """The Contact URI."""
        suffix = "" if self.transport == "udp" else f";transport={self.transport}"
        return f"sip:{self.name}@{self.host}:{self.port}{suffix}"

    @property
    def aor(self) -> str:
        """The address-of-record as a URI."""
        return f"sip:{self.name}@{self.rig.domain}"

    def accept(self) -> Acceptor:
        """Listens for connections from the server at the contact's address."""
        return self.rig.network.listen(self.transport, self.address, self.port)

    # --- sending

    def send(self, message: Message | bytes) -> None:
        """Sends octets or a message to the server."""
        data = message if isinstance(message, bytes) else message.encode()
        if self.connection is not None:
            self.connection.send(data)
        else:
            assert self.endpoint is not None
            self.endpoint.send(data, self.server)

    def request(self, method: str, uri: str, *extra: str, to: str = "", from_: str = "", call_id: str = "",
                cseq: int = 0, branch: str = "", body: bytes = b"", via: str = "", send: bool = True,
                contact: str | None = None, max_forwards: str | None = "70") -> Request:
        """Builds and sends a request; `extra` are header lines, "" for `max_forwards` or None leaves it out."""
        number = next(self._numbers)
        cseq = cseq or number
        lines = [
            f"{method} {uri} SIP/2.0",
            via or f"Via: SIP/2.0/{self.transport.upper()} {self.host}:{self.port};"
                   f"branch={branch or f'z9hG4bK{self.name}x{number}x{id(self) % 9973}'}{self.via_params}",
            f"From: {from_ or f'<{self.aor}>;tag=f{number}{self.name}'}",
            f"To: {to or f'<{uri}>'}",
            f"Call-ID: {call_id or f'call{number}-{self.name}-{id(self) % 9973}@{self.address}'}",
            f"CSeq: {cseq} {method}",
        ]
        if max_forwards is not None:
            lines.append(f"Max-Forwards: {max_forwards}")
        if contact is None and method in ("INVITE", "SUBSCRIBE", "REFER", "UPDATE"):
            lines.append(f"Contact: <{self.contact}>")
        elif contact:
            lines.append(f"Contact: {contact}")
        lines += extra
        if body and not any(line.startswith("Content-Type:") for line in extra):
            lines.append("Content-Type: application/sdp")
        lines.append(f"Content-Length: {len(body)}")
        data = "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body
        request = parse(data)
        assert isinstance(request, Request)
        if send:
            self.send(data)
        return request

    def register(self, *extra: str, contact: str | None = None, expires: int | None = 3600, take: int | None = 200,
                 **fields: Any) -> Response:
        """Registers the contact (None: its own, "": none) and returns the answer."""
        lines = list(extra)
        if expires is not None:
            lines.append(f"Expires: {expires}")
        value = f"<{self.contact}>" if contact is None else contact
        fields.setdefault("to", f"<{self.aor}>")
        self.request("REGISTER", fields.pop("uri", f"sip:{self.rig.domain}"), *lines, contact=value, **fields)
        answer = self.take(take)
        assert isinstance(answer, Response)
        return answer

    def invite(self, callee: str, *extra: str, **fields: Any) -> Request:
        """Calls a user or a URI, with a body."""
        uri = callee if ":" in callee else f"sip:{callee}@{self.rig.domain}"
        fields.setdefault("body", _SDP)
        return self.request("INVITE", uri, *extra, **fields)

    def authorized(self, request: Request, challenge: Response, **fields: Any) -> Request:
        """The request again with credentials for a challenge, as a new transaction; sent unless `send` is False."""
        proxy = challenge.status == 407
        values = challenge.all("proxy-authenticate" if proxy else "www-authenticate")
        credentials = digest_answer(parse_challenge(values[0]), request.method, request.uri_text,
                                    fields.pop("user", self.name), fields.pop("password", self.password), "0a4f113b",
                                    fields.pop("nc", 1))
        again = request.copy()
        number = request.cseq_number + 1
        again.set("cseq", f"{number} {request.method}")
        assert request.via is not None
        again.set("via", request.first["via"].replace(request.via.branch, f"{request.via.branch}a"))
        again.add("Proxy-Authorization" if proxy else "Authorization", credentials)
        data = again.encode()
        if fields.pop("send", True):
            self.send(data)
        parsed = parse(data)
        assert isinstance(parsed, Request)
        return parsed

    def ack(self, response: Response, request: Request | None = None) -> Request:
        """The ACK for a final response: of a 2xx along its route set, else with the branch of `request`."""
        if response.status >= 300:
            assert request is not None and request.via is not None
            return self.request("ACK", request.uri_text, to=response.first["to"], from_=response.first["from"],
                                call_id=response.call_id, cseq=response.cseq_number, via=f"Via: {request.via.text}")
        return self.in_dialog("ACK", response, cseq=response.cseq_number)

    def in_dialog(self, method: str, response: Response, *extra: str, **fields: Any) -> Request:
        """A request of the caller in the dialog that `response` made (s12.2.1.1)."""
        route = [f"Route: {value}" for value in reversed(response.values("record-route"))]
        target = Address.parse(response.first["contact"]).uri_text if "contact" in response.first else ""
        fields.setdefault("cseq", response.cseq_number + 1)
        return self.request(method, target, *route, *extra, to=response.first["to"], from_=response.first["from"],
                            call_id=response.call_id, **fields)

    def in_callee_dialog(self, method: str, invite: Request, answer: Response, *extra: str, **fields: Any) -> Request:
        """A request of the callee in the dialog of `invite`, as received, and its own `answer`."""
        route = [f"Route: {value}" for value in invite.values("record-route")]
        target = Address.parse(invite.first["contact"]).uri_text
        return self.request(method, target, *route, *extra, to=invite.first["from"], from_=answer.first["to"],
                            call_id=invite.call_id, **fields)

    def cancel(self, invite: Request, *extra: str, send: bool = True) -> Request:
        """The CANCEL of an INVITE of ours (s9.1)."""
        assert invite.via is not None
        return self.request("CANCEL", invite.uri_text, *extra, to=invite.first["to"], from_=invite.first["from"],
                            call_id=invite.call_id, cseq=invite.cseq_number, via=f"Via: {invite.via.text}", send=send)

    def answer(self, request: Request, status: int, *extra: str, reason: str = "Reason", tag: str = "", body: bytes = b"",
               contact: str | None = None, send: bool = True) -> Response:
        """Answers a request received (s8.2.6); the To tag is the phone's own, one per Call-ID."""
        lines = [f"SIP/2.0 {status} {reason}"]
        for name, _, line in request.headers:
            if name in ("via", "from", "call-id", "cseq"):
                lines.append(line)
            elif name == "record-route" and status < 300:
                lines.append(line)
            elif name == "to":
                # a 100 may come without a tag, everything else has one
                own = tag or f"t{self.name}{self.address.replace('.', '').replace(':', '')}"
                lines.append(line if request.to_tag or (status == 100 and not tag) else f"{line};tag={own}")
        if request.method in ("INVITE", "SUBSCRIBE", "UPDATE") and 100 < status < 300:
            lines.append(f"Contact: {contact or f'<{self.contact}>'}")
        lines += [*extra, f"Content-Length: {len(body)}"]
        data = "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body
        response = parse(data)
        assert isinstance(response, Response)
        if send:
            self.send(data)
        return response

    # --- what a call is made of

    def ring(self, caller: Phone) -> Request:
        """Takes an INVITE, which it returns, and rings; the caller has taken 100 and 180."""
        caller.take(100)
        got: Request = self.take("INVITE")
        self.answer(got, 180)
        caller.take(180)
        return got

    def pick_up(self, invite: Request, caller: Phone, body: bytes = b"") -> tuple[Response, Response]:
        """200 and ACK; the 200 as sent and as received."""
        sent = self.answer(invite, 200, body=body)
        ok: Response = caller.take(200)
        caller.ack(ok)
        self.take("ACK")
        return sent, ok

    def refuse(self, status: int, *extra: str, **fields: Any) -> None:
        """Takes an INVITE and refuses it."""
        self.answer(self.take("INVITE"), status, *extra, **fields)
        self.take("ACK")

    def hang_up(self, ok: Response, callee: Phone) -> None:
        """Ends the call that it began and `ok` answered."""
        self.in_dialog("BYE", ok)
        callee.answer(callee.take("BYE"), 200)
        self.take(200)

    def cancelled(self, invite: Request) -> None:
        """Takes the CANCEL of an INVITE that it got, and ends that with 487."""
        self.answer(self.take("CANCEL"), 200)
        self.answer(invite, 487)
        self.take("ACK")

    def prove(self, invite: Request) -> Request:
        """Takes the 407 to an INVITE, and sends it again with credentials; returns it so."""
        challenge = self.take(407)
        self.ack(challenge, invite)
        return self.authorized(invite, challenge)

    # --- receiving

    @property
    def raw(self) -> list[bytes]:
        """Everything received so far, octets."""
        if self.connection is not None:
            return self.connection.received
        assert self.endpoint is not None
        return self.endpoint.received

    @property
    def unread(self) -> list[Message]:
        """What was received and not taken."""
        return [parse(data) for data in self.raw[self._read:]]

    def take(self, wanted: str | int | None = None) -> Any:
        """The next message received: a request of the method or a response of the status `wanted`; None takes any."""
        raw = self.raw
        if len(raw) <= self._read:
            raise AssertionError(f"{self.name} at {self.address} waits for {wanted} and got nothing\n{self.rig.ladder()}")
        message = parse(raw[self._read])
        self._read += 1
        got = message.method if isinstance(message, Request) else message.status
        if wanted is not None and got != wanted:
            raise AssertionError(f"{self.name} at {self.address} waits for {wanted} and got {message!r}\n"
                                 f"{self.rig.ladder()}")
        return message

    def take_refusal(self, status: int) -> bytes:
        """The octets of the next message, a response of `status` that need not be readable: what was missing in the
        request is missing there too."""
        raw = self.raw
        if len(raw) <= self._read or not raw[self._read].startswith(b"SIP/2.0 %d " % status):
            raise AssertionError(f"{self.name} at {self.address} waits for {status}, got {raw[self._read:]}\n"
                                 f"{self.rig.ladder()}")
        self._read += 1
        return raw[self._read - 1]

    def take_all(self, wanted: str | int) -> list[Any]:
        """Every message waiting, each of which must be `wanted`."""
        return [self.take(wanted) for _ in range(len(self.raw) - self._read)]

    def drain(self) -> list[Message]:
        """Takes whatever is there."""
        messages = self.unread
        self._read = len(self.raw)
        return messages

    def silent(self) -> None:
        """Fails when something is unread."""
        if len(self.raw) > self._read:
            raise AssertionError(f"{self.name} at {self.address} has unread {self.unread[0]!r}\n{self.rig.ladder()}")


def established(caller: Phone, callee: Phone, *extra: str) -> tuple[Request, Request, Response, Response]:
    """A plain call up to the ACK: the INVITE as sent and as received, the 200 as sent and as received."""
    invite = caller.invite(callee.name, *extra)
    got = callee.ring(caller)
    return invite, got, *callee.pick_up(got, caller, body=_SDP)
