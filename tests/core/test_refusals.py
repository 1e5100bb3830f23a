"""Refusals without state: their tags, and the ACKs they get."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.core.refusals import Refusals
from sipd.inventory import Inventory
from sipd.message.errors import MalformedMessage
from sipd.message.message import Request, Response
from sipd.message.parser import parse
from tests.support.cases import shows
from tests.transaction.rig import SERVER, LayerRig

FIELDS = {"via": "SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1", "from": "<sip:x@y>;tag=1", "to": "<sip:a@b>", "call": "c",
          "cseq": "1 INVITE", "start": "INVITE sip:a@b SIP/2.0"}


def octets(**fields: str) -> bytes:
    """A request that differs in these fields."""
    values = FIELDS | fields
    return "\r\n".join([values["start"], f"Via: {values['via']}", f"From: {values['from']}", f"To: {values['to']}",
                        f"Call-ID: {values['call']}", f"CSeq: {values['cseq']}", "", ""]).encode()


def request(**fields: str) -> Request:
    """The same, read."""
    found = parse(octets(**fields))
    assert isinstance(found, Request)
    return found


class RefusalsTests(TestCase):
    """Refusals."""

    def setUp(self) -> None:
        self.rig = LayerRig()
        self.refusals = Refusals(self.rig.layer, b"k" * 32, Inventory())

    @shows("AUT-09", "8.2.7", "R3261-19.3-01", "R3261-8.2.7-05")
    def test_tag(self) -> None:
        """s8.2.7: a repeat and the ACK get the same tag, every other request another one."""
        tag = self.refusals.tag(request())
        self.assertEqual(self.refusals.tag(request()), tag)
        ack = request(start="ACK sip:a@b SIP/2.0", cseq="1 ACK", to=f"<sip:a@b>;tag={tag}")
        self.assertEqual(self.refusals.tag(ack), tag)
        for fields in ({"call": "d"}, {"from": "<sip:x@y>;tag=2"}, {"cseq": "2 INVITE"},
                       {"via": "SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK2"}):
            self.assertNotEqual(self.refusals.tag(request(**fields)), tag, fields)

    @shows("R3261-19.3-01")
    def test_key(self) -> None:
        """Whoever does not know the secret cannot tell the tag; a server started again can."""
        tag = self.refusals.tag(request())
        self.assertNotEqual(Refusals(self.rig.layer, b"l" * 32, Inventory()).tag(request()), tag)
        self.assertEqual(Refusals(self.rig.layer, b"k" * 32, Inventory()).tag(request()), tag)

    @shows("AUT-09", "17.1.1.3")
    def test_ack(self) -> None:
        """The ACK of a refusal is known by its tag alone; one with another tag, or none, is not."""
        tag = self.refusals.tag(request())
        ack = {"start": "ACK sip:a@b SIP/2.0", "cseq": "1 ACK"}
        self.assertTrue(self.refusals.knows_ack(request(**ack, to=f"<sip:a@b>;tag={tag}")))
        for to in ("<sip:a@b>", "<sip:a@b>;tag=other", f"<sip:a@b>;tag={tag}0", "<sip:a@b>;tag=\u00fc"):
            self.assertFalse(self.refusals.knows_ack(request(**ack, to=to)), to)
        self.assertFalse(self.refusals.knows_ack(request(**ack, to=f"<sip:a@b>;tag={tag}", call="d")))

    def sent(self, data: bytes, status: int = 404) -> Response:
        """The refusal of what comes from 192.0.2.9, as it arrives there."""
        self.rig.transports.receive = lambda octets, flow: self._refuse(octets, flow, status)
        self.rig.peer.send(data, SERVER)
        found = parse(self.rig.peer.received[-1])
        assert isinstance(found, Response)
        return found

    def _refuse(self, data: bytes, flow: object, status: int) -> None:
        try:
            message = parse(data)
        except MalformedMessage as error:
            assert error.message is not None
            message = error.message  # type: ignore[assignment]
        message.flow = flow  # type: ignore[assignment]
        self.refusals.refuse(message, status, "", (("Warning", "y"),))

    @shows("R3261-8.2.7-01")
    def test_stateless(self) -> None:
        """One response goes out for each request, with our tag; no transaction and no timer is there afterwards."""
        for count in (1, 2):
            found = self.sent(octets())
            self.assertEqual(len(self.rig.peer.received), count)
            self.assertEqual((found.status, found.to_tag, found.get("warning")), (404, self.refusals.tag(request()), "y"))
        self.assertTrue(self.rig.empty())

    def test_to_tag_stays(self) -> None:
        """s8.2.6.2: inside a dialog To has a tag already, and keeps it."""
        self.assertEqual(self.sent(octets(to="<sip:a@b>;tag=theirs")).to_tag, "theirs")

    def test_unreadable_to(self) -> None:
        """A request whose To cannot be read is answered all the same, To as it came."""
        self.rig.transports.receive = lambda octets, flow: self._refuse(octets, flow, 400)
        self.rig.peer.send(octets(to='"no end <sip:a@b>'), SERVER)
        self.assertIn(b'\r\nTo: "no end <sip:a@b>', self.rig.peer.received[-1])

    @shows("AUT-09", "17.1.1.3")
    def test_ack_within_a_dialog(self) -> None:
        """A refused re-INVITE keeps its To tag, and its ACK is known all the same; of another transaction it is not."""
        self.sent(octets(to="<sip:a@b>;tag=theirs"), 407)
        ack = {"start": "ACK sip:a@b SIP/2.0", "cseq": "1 ACK", "to": "<sip:a@b>;tag=theirs"}
        self.assertTrue(self.refusals.knows_ack(request(**ack)))
        self.assertFalse(self.refusals.knows_ack(request(**ack, via="SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK2")))
