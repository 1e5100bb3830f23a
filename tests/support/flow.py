"""Call flows as ladders: what the RFCs draw, compared with what went over the network.

    flow = Flow(self, rig, alice=a, bob=b)
    call = flow.call(a, b)                       # INVITE to ACK
    call.do(a, "BYE")
    flow.shows('''
        alice -> proxy INVITE
        proxy -> alice 100 INVITE
        proxy -> bob INVITE
        bob -> proxy -> alice 180 INVITE
        ...
    ''')
    flow.finish()

A line of more than one arrow is that many messages, one right after the other; " / " is as good as a new line. After a
request may stand what follows at once: `alice -> proxy -> bob INVITE 100 180 200 ACK` is the whole beginning of a call, with
the 100 of the first hop, and `alice -> proxy -> bob BYE 200` its end. `shows` looks at every message since the last `shows`,
and at what the server did to each it passed on: which fields are its own affair, and all others octet for octet.
"""

from __future__ import annotations

import re
from typing import Any
from unittest import TestCase

from sipd.message.message import Message, Request, Response
from sipd.message.parser import parse
from tests.support.network import Packet
from tests.support.rig import Phone, Rig

#: An offer or an answer: three lines that matter to a reader of the flow.
OFFER = b"v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 49172 RTP/AVP 0\r\n"
HOLD = OFFER + b"a=sendonly\r\n"

#: Fields a proxy may change in a request (RFC 3261 s16.4, s16.6, s22.3, RFC 5393 s5.3.3); each is looked at by itself.
_HOP_BY_HOP = frozenset({"via", "route", "record-route", "max-forwards", "max-breadth", "proxy-authorization"})


def lines(message: Message, name: str) -> list[str]:
    """The raw lines of a header, in order."""
    return [line for header, _, line in message.headers if header == name]


def others(message: Message) -> list[str]:
    """The raw lines of all fields that are not the proxies' affair, in order."""
    return [line for header, _, line in message.headers if header not in _HOP_BY_HOP]


class Flow:
    """A flow over one server or more, with the names of all who take part in it."""

    def __init__(self, test: TestCase, rig: Rig, *more: Rig, **parties: Phone | str) -> None:
        """`parties` are phones, or addresses of servers; a rig alone is called `proxy`, two `proxy1` and `proxy2`."""
        self.test = test
        self.rig = rig
        self.rigs = (rig, *more)
        self.names: dict[str, str] = {}
        #: Addresses of our servers.
        self.servers: set[str] = set()
        for number, one in enumerate(self.rigs, 1):
            for listener in one.transports.listeners:
                self.names[listener.address] = f"proxy{number}" if more else "proxy"
                self.servers.add(listener.address)
        for name, party in parties.items():
            self.names[party if isinstance(party, str) else party.address] = name
        self._seen = len(rig.network.packets)

    # --- what happens

    def settle(self) -> None:
        """Lets what one server sent to another arrive."""
        self.rig.network.settle()

    def call(self, caller: Phone, callee: Phone, uri: str = "", *extra: str, ringing: bool = True, rings: tuple[str, ...] = (),
             answer: tuple[str, ...] = (), **fields: Any) -> Call:
        """A call from INVITE to ACK; `extra`, `rings` and `answer` are header lines of INVITE, 180 and 200."""
        got = self.ring(caller, callee, uri, *extra, ringing=ringing, rings=rings, **fields)
        return self.pick_up(caller, callee, got, *answer)

    def ring(self, caller: Phone, callee: Phone, uri: str = "", *extra: str, ringing: bool = True,
             rings: tuple[str, ...] = (), **fields: Any) -> Request:
        """INVITE, 100 and 180; returns the INVITE as the callee received it."""
        fields.setdefault("body", OFFER)
        caller.invite(uri or callee.name, *extra, **fields)
        self.settle()
        caller.take(100)
        got: Request = callee.take("INVITE")
        if ringing:
            callee.answer(got, 180, *rings)
            self.settle()
            caller.take(180)
        return got

    def pick_up(self, caller: Phone, callee: Phone, got: Request, *extra: str, contact: str | None = None) -> Call:
        """200 and ACK."""
        sent = callee.answer(got, 200, "Content-Type: application/sdp", *extra, body=OFFER, contact=contact)
        self.settle()
        ok: Response = caller.take(200)
        caller.ack(ok)
        self.settle()
        callee.take("ACK")
        return Call(self, caller, callee, got, sent, ok)

    def ask(self, sender: Phone, receiver: Phone, method: str, uri: str, *extra: str, status: int = 200,
            answer: tuple[str, ...] = (), **fields: Any) -> Call:
        """A request outside of any call and its answer: what they make a dialog of, for NOTIFY and the like."""
        sender.request(method, uri, *extra, **fields)
        self.settle()
        got = receiver.take(method)
        sent = receiver.answer(got, status, *answer)
        self.settle()
        return Call(self, sender, receiver, got, sent, sender.take(status))

    def challenged(self, phone: Phone, request: Request, status: int = 407, **fields: Any) -> Request:
        """A request that was just sent gets its challenge; returns it as sent again, with credentials."""
        self.settle()
        challenge = phone.take(status)
        if request.method == "INVITE":
            phone.ack(challenge, request)
        again = phone.authorized(request, challenge, **fields)
        self.settle()
        return again

    # --- what is seen

    def forget(self) -> None:
        """What happened until now belongs to no ladder."""
        self._seen = len(self.rig.network.packets)

    def arrows(self) -> list[str]:
        """Every message since the last `shows`, as the test writes it."""
        found = []
        for packet in self.rig.network.packets[self._seen:]:
            found.append(f"{self._name(packet.source[0])} -> {self._name(packet.target[0])} {_label(parse(packet.data))}")
        return found

    def shows(self, ladder: str) -> list[Message]:
        """Fails when what happened is not this ladder; returns its messages, the first of the ladder at 0."""
        wanted = [arrow for line in re.split(r"\n| / ", ladder.strip()) for arrow in _meant(line)]
        found = self.arrows()
        if found != wanted:
            self.test.fail("the ladder is another one:\n" + "\n".join(
                f"  {'  ' if left == right else '! '}{left:45} {right}" for left, right in _beside(wanted, found)))
        packets = self.rig.network.packets
        for index in range(self._seen, len(packets)):
            if packets[index].source[0] in self.servers:
                self._check_relayed(packets[index], packets[:index])
        messages = [parse(packet.data) for packet in packets[self._seen:]]
        self._seen = len(packets)
        return messages

    def finish(self) -> None:
        """Nothing unread, nothing left in any server."""
        for rig in self.rigs:
            for phone in rig.phones:
                phone.silent()
        for rig in self.rigs:
            rig.finish()

    def _name(self, address: str) -> str:
        return self.names.get(address, address)

    def _check_relayed(self, packet: Packet, before: list[Packet]) -> None:
        """What a server sent is what it received, but for what a proxy changes (s16.6, s16.7)."""
        server, message = packet.source[0], parse(packet.data)
        for earlier in reversed(before):
            if earlier.target[0] != server:
                continue
            origin = parse(earlier.data)
            if _same(origin, message):
                break
        else:
            # its own: ACK and CANCEL hop by hop, and answers
            own = ("ACK", "CANCEL") if isinstance(message, Request) else ()
            self.test.assertTrue(isinstance(message, Response) or message.method in own, f"from nowhere: {message!r}")
            return
        check = self.test.assertEqual
        vias = message.values("via")
        if isinstance(message, Response):
            check(origin.values("via")[1:], vias)
            check(lines(origin, "record-route"), lines(message, "record-route"))
            check(others(origin), others(message))
        else:
            assert isinstance(origin, Request)
            check(vias[1:], origin.values("via"), "its Via stands above the others")
            self.test.assertIn(server, vias[0])
            check(int(message.first["max-forwards"]), int(origin.first["max-forwards"]) - 1)
            check(others(origin), others(message))
            routes, left = origin.values("route"), message.values("route")
            check(left, routes[len(routes) - len(left):], "it takes its own Route values off and no others")
            self.test.assertTrue(all(server in route for route in routes[:len(routes) - len(left)]), routes)
            recorded, theirs = message.values("record-route"), origin.values("record-route")
            check(recorded[len(recorded) - len(theirs):], theirs)
            for route in recorded[:len(recorded) - len(theirs)]:
                self.test.assertRegex(route, rf"^<sips?:[^>]*{re.escape(server)}[^>]*;lr[;>]")
        check(message.body, origin.body)


class Call:
    """A dialog between two phones, as each of them knows it."""

    def __init__(self, flow: Flow, caller: Phone, callee: Phone, got: Request, sent: Response, ok: Response) -> None:
        self.flow = flow
        self.caller = caller
        self.callee = callee
        #: The INVITE as received, its 200 as sent and as received.
        self.got = got
        self.sent = sent
        self.ok = ok
        self._numbers = {caller: ok.cseq_number, callee: 500}

    def replaces(self, header: str = "Replaces", *, of: Phone) -> str:
        """The value that names this dialog to `of`, who is in it (RFC 3891 s3): to-tag is that phone's own tag."""
        caller, callee = self.ok.from_tag, self.ok.to_tag
        local, remote = (caller, callee) if of is self.caller else (callee, caller)
        return f"{self.ok.call_id};to-tag={local};from-tag={remote}"

    def send(self, sender: Phone, method: str, *extra: str, **fields: Any) -> Request:
        """Sends a request in the dialog; returns it as the other phone received it."""
        number = fields.setdefault("cseq", self._numbers[sender] + 1)
        if method != "ACK":
            self._numbers[sender] = number
        if sender is self.caller:
            sender.in_dialog(method, self.ok, *extra, **fields)
        else:
            sender.in_callee_dialog(method, self.got, self.sent, *extra, **fields)
        self.flow.settle()
        if method == "INVITE":
            sender.take(100)
        got: Request = self.other(sender).take(method)
        return got

    def other(self, one: Phone) -> Phone:
        """Who is at the other end."""
        return self.callee if one is self.caller else self.caller

    def do(self, sender: Phone, method: str, *extra: str, status: int = 200, **fields: Any) -> Request:
        """A request in the dialog, its answer, and the ACK when it is an INVITE; returns the request as received."""
        other = self.other(sender)
        contact = fields.pop("answer_contact", None)
        got = self.send(sender, method, *extra, **fields)
        if method == "INVITE":
            other.answer(got, status, "Content-Type: application/sdp", body=OFFER, contact=contact)
        else:
            other.answer(got, status)
        self.flow.settle()
        sender.take(status)
        if method == "INVITE":
            self.send(sender, "ACK", cseq=got.cseq_number)
        return got


def _same(one: Message, other: Message) -> bool:
    """Whether one may have been made from the other: of one transaction, and for responses of one answerer."""
    if isinstance(one, Request) is not isinstance(other, Request) or one.call_id != other.call_id or one.cseq != other.cseq:
        return False
    if isinstance(one, Response) and isinstance(other, Response):
        return one.status == other.status and one.to_tag == other.to_tag and len(one.values("via")) > 1
    # what a server makes itself has one Via
    return one.from_tag == other.from_tag and len(other.values("via")) > len(one.values("via")) and (
        one.values("via")[-1] == other.values("via")[-1])


def _meant(line: str) -> list[str]:
    """The messages that a line of a ladder stands for, each as `arrows` has it."""
    *places, last = line.strip().split(" -> ")
    last, what, *more = last.split(" ")
    places.append(last)
    if what.isdigit():
        return _along(places, " ".join((what, *more)))
    found = _along(places, what)
    for after in more:
        if after == "100":
            found.insert(1, f"{places[1]} -> {places[0]} 100 {what}")  # from the next hop, before it sends the request on
        elif after.isdigit():
            found += _along(places[::-1], f"{after} {what}")
        else:
            found += _along(places, after)
    return found


def _along(places: list[str], label: str) -> list[str]:
    return [f"{one} -> {other} {label}" for one, other in zip(places, places[1:], strict=False)]


def _label(message: Message) -> str:
    return message.method if isinstance(message, Request) else f"{message.status} {message.cseq[1]}"


def _beside(wanted: list[str], found: list[str]) -> list[tuple[str, str]]:
    longer = max(len(wanted), len(found))
    return list(zip(wanted + [""] * (longer - len(wanted)), found + [""] * (longer - len(found)), strict=True))
