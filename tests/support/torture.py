"""Runs one message of RFC 4475 against the real core: twice, then something ordinary. What was seen is a `Seen`."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sipd.message.errors import MalformedMessage
from sipd.message.headers import canonical
from sipd.message.message import Message, Request, Response
from sipd.message.parser import parse
from tests.support.rig import SERVER, Phone, Rig
from tests.support.stream import Stream

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "rfc4475"

#: The domains the messages speak of, and who is known there.
DOMAINS = ["example.com", "example.org", "example.net", "company.com", "chair-dnrc.example.com"]
#: Users by name as escapes undone leave it; all have the same device.
CALLED = ("user", "vivekg", "joe", "kumiko", "UserB", "t.watson", "j.user", "sips:user@example.com",
          "user;par=u@example.net", "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*")
#: The sender, and who may rightly get something: the device, the proxies that Route and Request-URI name.
SENDER, DEVICE = "192.0.2.50", "192.0.2.60"
ELSEWHERE = {"services.example.com": "192.0.2.61", "registrar.example.com": "192.0.2.62"}
STRICT_ROUTER = "127.0.0.1"


@dataclass(frozen=True)
class Verdict:
    """One line of the table: what may come of the message, over datagrams and over a stream."""

    file: str
    section: str
    expect: frozenset[str]
    stream: frozenset[str]
    must_not: str

    @property
    def data(self) -> bytes:
        """The octets."""
        return (VECTORS / self.file).read_bytes()


def verdicts() -> list[Verdict]:
    """The table of verdicts."""
    with open(VECTORS / "verdicts.tsv", newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [Verdict(row["file"], row["section"], frozenset(row["expect"].split("|")),
                    frozenset((row["stream"] or row["expect"]).split("|")), row["must_not"]) for row in rows]


@dataclass
class Seen:
    """What came of a message sent twice."""

    rig: Rig
    verdict: Verdict
    over: str
    #: The message as our parser reads it, None when it cannot.
    sent: Message | None
    #: Responses that reached the sender, per time it was sent.
    replies: list[list[Response]] = field(default_factory=list)
    #: Refusals of REGISTERs that were served the first time, over a stream: there timer J is zero (s17.2.2), so they are
    #: new ones whose CSeq is not higher (s10.3 step 7).
    stale: list[Response] = field(default_factory=list)
    #: Requests that reached a device or another proxy: (address, octets).
    forwarded: list[tuple[str, bytes]] = field(default_factory=list)
    stream: Stream | None = None

    @property
    def finals(self) -> list[Response]:
        """The final responses, of both times."""
        return [reply for replies in self.replies for reply in replies if reply.status >= 200]

    @property
    def requests(self) -> list[Request]:
        """What was forwarded, read; ACKs left out."""
        found = [parse(data) for _, data in self.forwarded]
        return [one for one in found if isinstance(one, Request) and one.method != "ACK"]

    def bound(self, name: str) -> list[Any]:
        """The bindings of a user."""
        return list(self.rig.core.location.bindings(f"{name}@example.com"))


def torture_rig(auth: bool) -> Rig:
    """A server for the domains of the messages. Without authentication anyone may register and every user has a device."""
    rig = Rig(auth={"required": auth}, server={"domains": DOMAINS}, registrar={"open": not auth, "min_expires": 2},
              users={"user": "secret", "1001": "secret1"})
    for host, address in ELSEWHERE.items():
        rig.dns.address(host, address)
    for address, port in ((DEVICE, 5060), *((one, 5060) for one in ELSEWHERE.values()), (STRICT_ROUTER, 5080)):
        _answering(rig, address, port)
    for name in CALLED:
        rig.binding(name, f"sip:device@{DEVICE}:5060")
    rig.advance(0.1)
    return rig


def _answering(rig: Rig, address: str, port: int) -> None:
    """A device that says 200 to everything."""
    phone = Phone(rig, "device", address, "udp", port, None)

    def answer(data: bytes) -> None:
        request = parse(data)
        if isinstance(request, Request) and request.method != "ACK":
            phone.answer(request, 200)

    assert phone.endpoint is not None
    phone.endpoint.on_receive = answer


def send_twice(verdict: Verdict, auth: bool, over: str) -> Seen:
    """Sends the message twice within a second `over` "udp", "tcp" (in one piece) or "tcp in pieces"."""
    rig = torture_rig(auth)
    try:
        sent: Message | None = parse(verdict.data, over != "udp")
    except MalformedMessage as error:
        sent = error.message
    seen = Seen(rig, verdict, over, sent)
    if over == "udp":
        ends = {port: rig.network.endpoint("udp", SENDER, port) for port in (5060, 5050, 5070)}
        source = ends[5070 if verdict.file == "mpart01.dat" else 5060]
        for _ in range(2):
            before = {port: len(end.received) for port, end in ends.items()}
            source.send(verdict.data, (SERVER, 5060))
            rig.advance(0.4, 0.1)
            seen.replies.append([_response(data) for port, end in ends.items() for data in end.received[before[port]:]])
    else:
        for _ in range(2):
            # the first may have cost the connection
            if seen.stream is None or seen.stream.closed:
                seen.stream = Stream(rig, SENDER, 40000 + len(seen.replies))
            before_stream = len(seen.stream.received)
            seen.stream.send(verdict.data, 7 if over == "tcp in pieces" else 0)
            rig.advance(0.4, 0.1)
            seen.replies.append([_response(data) for data in seen.stream.received[before_stream:]])
        served = {one.call_id for one in seen.replies[0] if one.status == 200 and one.cseq_method == "REGISTER"}
        seen.stale = [one for one in seen.replies[1]
                      if one.status == 400 and one.cseq_method == "REGISTER" and one.call_id in served]
        seen.replies[1] = [one for one in seen.replies[1] if one not in seen.stale]
    for packet in rig.network.packets:
        if packet.source[0] == SERVER and packet.target[0] != SENDER:
            if packet.target[0] not in {DEVICE, STRICT_ROUTER, *ELSEWHERE.values()}:
                raise AssertionError(f"{verdict.file}: something was sent to {packet.target}\n{rig.ladder()}")
            seen.forwarded.append((packet.target[0], packet.data))
    return seen


def _response(data: bytes) -> Response:
    """A response. To a malformed message it repeats what is malformed (s8.2.6.2), and then it is only split."""
    try:
        message = parse(data)
        assert isinstance(message, Response)
        return message
    except MalformedMessage:
        pass
    head, _, body = data.decode("utf-8", "surrogateescape").partition("\r\n\r\n")
    start, *lines = head.split("\r\n")
    version, status, reason = start.split(" ", 2)
    if version != "SIP/2.0":
        raise AssertionError(f"the sender got {start!r}")
    headers = []
    for line in lines:
        name, _, value = line.partition(":")
        headers.append((canonical(name), value.strip(), line))
    first = {name: value for name, value, _ in reversed(headers)}
    if first["content-length"] != str(len(body)):
        raise AssertionError(f"a response whose Content-Length is wrong: {data!r}")
    return Response(int(status), reason, headers, first, body.encode("utf-8", "surrogateescape"))


def ordinary(rig: Rig) -> None:
    """An OPTIONS and a REGISTER as every phone sends them. Raises AssertionError when they are not served."""
    phone = rig.phone("1001", "192.0.2.70")
    phone.request("OPTIONS", "sip:example.com")
    phone.take(200)
    if rig.config.auth.required:
        phone.authorized(phone.request("REGISTER", "sip:example.com", to=f"<{phone.aor}>", contact=f"<{phone.contact}>"),
                         phone.take(401))
        phone.take(200)
    else:
        phone.register()
    if rig.bugs:
        raise AssertionError(rig.bugs[0])
