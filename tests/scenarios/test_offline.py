"""Messages to those who are not there: kept, and delivered when a phone registers (RFC 3428)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from sipd.records import MemoryRecords
from tests.support.cases import shows
from tests.support.rig import Phone, Rig
from tests.test_cost import calls


def text(sender: Phone, user: str, body: bytes = b"Hello", *extra: str, **fields: Any) -> Request:
    """Sends a MESSAGE."""
    if not any(line.startswith("Content-Type:") for line in extra):
        extra = ("Content-Type: text/plain", *extra)
    return sender.request("MESSAGE", user if ":" in user else f"sip:{user}@example.com", *extra, body=body, **fields)


class OfflineTestCase(TestCase):
    """A sender, and 1002 who is not there yet."""

    #: Of [messages], besides store_offline.
    settings: dict[str, Any] = {}

    def setUp(self) -> None:
        self.kept = MemoryRecords()
        self.rig = self.started()
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")

    def started(self, **more: Any) -> Rig:
        """A server over what is kept."""
        more.setdefault("messages", {"store_offline": True, **self.settings})
        return Rig(kept=self.kept, **more)

    def send(self, body: bytes = b"Hello", *extra: str, take: int = 202, **fields: Any) -> Request:
        """A MESSAGE to 1002, and the answer to it."""
        request = text(self.a, "1002", body, *extra, **fields)
        self.answered = self.a.take(take)
        return request

    def got(self, status: int = 200, phone: Phone | None = None) -> Request:
        """The MESSAGE that comes to a phone next, answered."""
        phone = phone or self.b
        self.rig.advance(0.1)
        request = phone.take("MESSAGE")
        assert isinstance(request, Request)
        phone.answer(request, status)
        self.rig.advance(0.1)
        return request

    def until(self, seconds: float, phone: Phone | None = None) -> None:
        """Waits for something unread at a phone, so many seconds at most."""
        phone = phone or self.b
        while not phone.unread and seconds > 0:
            self.rig.advance(0.2)
            seconds -= 0.2

    def kinds(self, wanted: str = "message-") -> list[str]:
        """The records about messages."""
        return [kind for kind, _ in self.rig.records if kind.startswith(wanted)]


class Storing(OfflineTestCase):
    """What is kept, and how it arrives."""

    @shows("NIT-02", "3428 7")
    def test_in_order_once(self) -> None:
        """Three messages are answered 202 and come in their order when the phone registers, after its 200; then they
        are gone: a refresh brings nothing."""
        bodies = [b"one", b"two", b"three"]
        for body in bodies:
            self.send(body)
        self.b.register()
        self.assertEqual([self.got().body for _ in bodies], bodies)
        self.rig.advance(100.0)
        self.b.register()
        self.rig.finish()
        self.assertEqual(self.kinds(), ["message-stored"] * 3 + ["message-delivered"] * 3)

    @shows("R3428-7-01", "R3428-7-02", "R3428-7-03", "R3428-7-04", "R3428-7-05")
    def test_answer(self) -> None:
        """What is kept is answered 202 at once, with neither body nor Contact."""
        self.a.request("MESSAGE", "sip:1002@example.com", "Content-Type: text/plain", body=b"hello")
        answer = self.a.take(202)
        self.assertEqual((answer.body, answer.first["content-length"]), (b"", "0"))
        self.assertNotIn("contact", answer.first)
        self.b.register()
        got = self.got()
        self.assertEqual((got.body, got.first["content-type"]), (b"hello", "text/plain"))
        self.rig.finish()

    @shows("R3428-4-02", "R3428-4-03", "R3428-7-05")
    def test_as_it_was_sent(self) -> None:
        """Body, Content-Type, Content-Encoding, Subject and what nobody knows come as they were sent, octet for octet,
        with the sender's From, To, Call-ID and CSeq; Date of receipt is added; nothing of the way it came is left."""
        body = bytes(range(256)) + "Grüße \U0001f600".encode() + b"\r\n.\r\n\x00"
        lines = ("Content-Type: application/x-odd;charset=\"a b\"", "Content-Encoding: gzip", "s: compact", "X-Odd :  two  ",
                 "X-Fold: one\r\n two", "X-Bytes: \udcff\udcfe", "X-Many: 1", "X-Many: 2", "Timestamp: 54",
                 "Max-Breadth: 7", "Contact: <sip:1001@192.0.2.10>", "Expires: 7200")
        sent = self.send(body, *lines, cseq=77)
        self.rig.advance(100.0)
        self.b.register()
        got = self.got()
        self.assertEqual(got.body, body)
        for name in ("from", "to", "call-id", "content-type", "content-encoding", "subject", "x-odd", "x-bytes", "expires"):
            self.assertEqual(got.get(name), sent.get(name), name)
        self.assertEqual(got.all("x-many"), ["1", "2"])
        self.assertEqual(got.cseq, (77, "MESSAGE"))
        self.assertEqual(got.get("date"), "Fri, 15 Jan 2027 08:00:00 GMT")
        for name in ("timestamp", "contact", "record-route", "proxy-authorization", "max-breadth"):
            self.assertIsNone(got.get(name), name)
        self.assertEqual((got.uri_text, got.get("max-forwards"), len(got.all("via"))), (self.b.contact, "70", 1))
        self.rig.finish()

    @shows("R3428-4-03")
    def test_date_of_the_sender(self) -> None:
        """A Date that the sender wrote stays, and no other is added (s20.17)."""
        self.send(b"x", "Date: Fri, 15 Jan 2027 07:59:00 GMT")
        self.b.register()
        self.assertEqual(self.got().all("date"), ["Fri, 15 Jan 2027 07:59:00 GMT"])
        self.rig.finish()

    def test_empty_and_large(self) -> None:
        """A message without a body, and one that is too large for a datagram, which comes by TCP (s18.1.1)."""
        self.send(b"")
        b = self.rig.phone("1003", transport="tcp")
        large = b"0123456789" * 3000
        text(self.a, "1003", large)
        self.a.take(202)
        self.b.register()
        b.register()
        self.assertEqual(self.got().body, b"")
        self.assertEqual(self.got(phone=b).body, large)
        self.rig.finish()

    def test_on_the_flow_that_registered(self) -> None:
        """A phone behind NAT, and one on TLS, get their messages where their registration came from."""
        nat = self.rig.phone("1002", "10.0.0.9", source=("198.51.100.7", 31000))
        nat.via_params = ";rport"
        self.send(b"nat")
        nat.register()
        self.assertEqual(self.got(phone=nat).body, b"nat")
        tls = self.rig.phone("1003", transport="tls")
        text(self.a, "1003", b"tls")
        self.a.take(202)
        tls.register()
        self.assertEqual(self.got(phone=tls).body, b"tls")
        self.rig.finish()

    def test_sips(self) -> None:
        """What was sent to a sips URI waits for a phone that is reached by TLS (s26.2.2)."""
        a, tls = self.rig.phone("1001", transport="tls"), self.rig.phone("1002", transport="tls")
        text(a, "sips:1002@example.com", b"secret")
        a.take(202)
        self.b.register()
        self.rig.advance(200.0)
        self.b.silent()
        tls.register()
        self.assertEqual(self.got(phone=tls).body, b"secret")
        self.rig.finish()

    def test_online(self) -> None:
        """Somebody who is there gets it at once, and the sender hears what the phone says: nothing is stored."""
        self.b.register()
        for status in (200, 202, 415, 486, 603):
            self.send_online(status)
        self.assertEqual(self.kinds(), [])
        self.rig.finish()

    def send_online(self, status: int) -> None:
        """A MESSAGE to 1002, who answers with this."""
        text(self.a, "1002")
        self.b.answer(self.b.take("MESSAGE"), status)
        self.a.take(status)

    def test_not_stored(self) -> None:
        """Who is typing (RFC 3994), what is of no use later (Expires: 0), and what belongs to a dialog is refused as
        ever; so is what is for nobody."""
        for lines in (("Content-Type: application/im-iscomposing+xml",), ("Content-Type: text/plain", "Expires: 0"),
                      ("Content-Type: Message/CPIM",)):
            body = b"From: <im:a@b>\r\n\r\nContent-type: application/im-iscomposing+xml\r\n\r\n<isComposing/>"
            text(self.a, "1002", body, *lines)
            self.a.take(480)
        text(self.a, "1002", to="<sip:1002@example.com>;tag=x")
        self.a.take(480)
        text(self.a, "nobody")
        self.a.take(404)
        self.b.register()
        self.rig.finish()
        self.assertEqual(self.kinds(), [])

    def test_sent_twice(self) -> None:
        """A sender who did not hear the 202 and sends it anew (same Call-ID, From tag, CSeq) gets another; it is stored
        once."""
        from_ = f"<{self.a.aor}>;tag=one"
        for _ in range(2):
            self.send(b"x", from_=from_, call_id="same", cseq=5)
        self.send(b"y", from_=from_, call_id="same", cseq=6)
        self.b.register()
        self.assertEqual([self.got().body, self.got().body], [b"x", b"y"])
        self.rig.finish()

    @shows("R3428-8-03")
    def test_one_at_a_time(self) -> None:
        """s8: the next message goes out when the one before it is answered."""
        for body in (b"1", b"2"):
            self.send(body)
        self.b.register()
        self.rig.advance(0.1)
        first = self.b.take("MESSAGE")
        self.rig.advance(0.3)
        self.b.silent()
        self.b.answer(first, 200)
        self.assertEqual(self.got().body, b"2")
        self.rig.finish()

    def test_while_it_delivers(self) -> None:
        """What comes for somebody who is just getting their messages waits behind them; who is typing does not."""
        self.send(b"1")
        self.b.register()
        self.rig.advance(0.1)
        first = self.b.take("MESSAGE")
        self.send(b"2")
        text(self.a, "1002", b"<isComposing/>", "Content-Type: application/im-iscomposing+xml")
        self.b.answer(self.b.take("MESSAGE"), 200)
        self.a.take(200)
        self.b.silent()
        self.b.answer(first, 200)
        self.assertEqual(self.got().body, b"2")
        self.send_online(200)
        self.rig.finish()

    def test_with_authentication(self) -> None:
        """A sender who must log in is challenged first; the credentials are not kept. A guest's message is not stored."""
        self.rig = self.started(auth={"required": True}, proxy={"guests": True})
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        asked = text(self.a, "1002", b"mine")
        self.a.authorized(asked, self.a.take(407))
        self.a.take(202)
        text(self.a, "1002", from_="<sip:somebody@elsewhere.example>;tag=g")
        self.a.take(480)
        challenged = self.b.register(take=401)
        again = self.b.request("REGISTER", "sip:example.com", "Expires: 3600", contact=f"<{self.b.contact}>",
                               to=f"<{self.b.aor}>", from_=challenged.first["from"], send=False)
        self.b.authorized(again, challenged)
        self.b.take(200)
        got = self.got()
        self.assertEqual((got.body, got.get("proxy-authorization")), (b"mine", None))
        self.rig.finish()

    def test_cost(self) -> None:
        """Somebody who is there costs a few calls more than without storage: the plan, and the patience with a silent
        phone (a timer begun and cancelled)."""
        counted = []
        for messages in ({}, {"store_offline": True}):
            self.rig = self.started(messages=messages)
            self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
            self.b.register()
            for _ in range(3):
                sent = self.a.request("MESSAGE", "sip:1002@example.com", send=False)
                cost = calls(lambda: self.a.send(sent))  # noqa: B023
                answer = self.b.answer(self.b.take("MESSAGE"), 200, send=False)
                cost += calls(lambda: self.b.send(answer))  # noqa: B023
                self.a.take(200)
            counted.append(cost)
        self.assertLessEqual(counted[1].total() - counted[0].total(), 10, counted[1] - counted[0])

    def test_routed(self) -> None:
        """Where the configuration says where numbers go, a user whom it leads to is kept messages as well; what it
        refuses is refused."""
        self.rig = self.started(routes=[{"match": "1002", "to": ["1002"]}, {"match": "1003", "reject": 603}])
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        self.send(b"routed")
        text(self.a, "1003")
        self.a.take(603)
        text(self.a, "1002", b"<x/>", "Content-Type: application/im-iscomposing+xml")
        self.a.take(480)
        self.b.register()
        self.assertEqual(self.got().body, b"routed")
        self.send_online(200)
        self.send_online(415)
        text(self.a, "1002", b"not now")
        self.b.answer(self.b.take("MESSAGE"), 480)
        self.a.take(202)
        self.until(100.0)
        self.assertEqual(self.got().body, b"not now")
        self.rig.finish()

    @shows("NIT-02", "3428 7")
    def test_number(self) -> None:
        """A message to a number that stands for one user waits for that user; one to a group waits for nobody."""
        self.rig = self.started(numbers={"501": "1002", "500": ["1002", "1003"]})
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        text(self.a, "501", b"by number")
        self.a.take(202)
        text(self.a, "500", b"to all")
        self.a.take(480)
        self.assertEqual([row["to"] for row in self.rig.core.messages.rows()], ["1002@example.com"])
        self.b.register()
        self.assertEqual(self.got().body, b"by number")
        text(self.a, "501", b"and now")
        self.b.answer(self.b.take("MESSAGE"), 200)
        self.a.take(200)
        self.rig.finish()

    def test_off(self) -> None:
        """Without store_offline it is as ever: 480. What was stored before is delivered all the same."""
        self.send(b"x")
        self.rig = self.started(messages={})
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        text(self.a, "1002")
        self.a.take(480)
        self.b.register()
        self.assertEqual(self.got().body, b"x")
        self.rig.finish()
