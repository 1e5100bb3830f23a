"""Dialogs by RFC 3261 s12: what makes one, what its requests look like, what changes it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sipd.dialog import Dialog, contact_of
from sipd.message.errors import MalformedMessage
from sipd.message.message import Request, Response
from sipd.message.parser import parse

INVITE = ("INVITE sip:bob@example.com SIP/2.0", "Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKa",
          'From: "Alice" <sip:alice@example.com>;tag=a1', "To: <sip:bob@example.com>", "Call-ID: one@192.0.2.10",
          "CSeq: 7 INVITE", "Contact: <sip:alice@192.0.2.10:5070;ob>",
          "Record-Route: <sip:p2.example.com;lr>, <sip:p1.example.com;lr>", "Record-Route: <sip:p0.example.com;lr>")
OK = ("SIP/2.0 200 OK", "Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKa", 'From: "Alice" <sip:alice@example.com>;tag=a1',
      "To: <sip:bob@example.com>;tag=b1", "Call-ID: one@192.0.2.10", "CSeq: 7 INVITE",
      "Contact: <sip:bob@192.0.2.20>", "Record-Route: <sip:p2.example.com;lr>, <sip:p1.example.com;lr>")


def request(*lines: str) -> Request:
    """A request of these lines."""
    made = parse("\r\n".join([*lines, "", ""]).encode())
    assert isinstance(made, Request)
    return made


def response(*lines: str) -> Response:
    """A response of these lines."""
    made = parse("\r\n".join([*lines, "", ""]).encode())
    assert isinstance(made, Response)
    return made


def but(lines: tuple[str, ...], name: str, *new: str) -> tuple[str, ...]:
    """The lines with those of one header replaced by others."""
    return (*(line for line in lines if not line.startswith(f"{name}:")), *new)


class ServerDialogTests(SynchronousTestCase):
    """s12.1.1: the side that was asked."""

    def test_from_a_request(self) -> None:
        """Route set in the order of Record-Route, the other side's Contact, CSeq and tag, and our tag in To."""
        dialog = Dialog.of_request(request(*INVITE), "b1")
        self.assertEqual(dialog.id, ("one@192.0.2.10", "b1", "a1"))
        self.assertEqual(dialog.routes, ("<sip:p2.example.com;lr>", "<sip:p1.example.com;lr>",
                                         "<sip:p0.example.com;lr>"))
        self.assertEqual(dialog.target, "sip:alice@192.0.2.10:5070;ob")
        self.assertEqual((dialog.local, dialog.remote),
                         ("<sip:bob@example.com>;tag=b1", '"Alice" <sip:alice@example.com>;tag=a1'))
        self.assertEqual((dialog.remote_cseq, dialog.next_cseq(), dialog.next_cseq()), (7, 1, 2))
        self.assertFalse(dialog.secure)

    def test_without_a_contact(self) -> None:
        """A request without a Contact, or with one that cannot be called, makes no dialog."""
        for contact in ((), ("Contact: <mailto:alice@example.com>",), ("Contact: *",)):
            with self.assertRaises(MalformedMessage):
                Dialog.of_request(request(*but(INVITE, "Contact", *contact)), "b1")

    def test_requests_in_it(self) -> None:
        """s12.2.2: found by Call-ID and both tags; an older CSeq is not taken, and changes nothing."""
        dialog = Dialog.of_request(request(*INVITE), "b1")
        bye = request(*but(but(INVITE, "To", "To: <sip:bob@example.com>;tag=b1"), "CSeq", "CSeq: 9 INVITE"))
        self.assertEqual(Dialog.key_of(bye), dialog.id)
        self.assertTrue(dialog.takes(bye))
        self.assertFalse(dialog.takes(request(*but(INVITE, "CSeq", "CSeq: 8 INVITE"))))
        self.assertEqual(dialog.remote_cseq, 9)

    def test_target_refresh(self) -> None:
        """s12.2.2: a new Contact is the target from then on, a broken or missing one is not; the route set stays."""
        dialog = Dialog.of_request(request(*INVITE), "b1")
        routes = dialog.routes
        dialog.refresh(request(*but(but(INVITE, "Contact", "Contact: <sip:alice@198.51.100.1>"), "Record-Route")))
        self.assertEqual((dialog.target, dialog.routes), ("sip:alice@198.51.100.1", routes))
        dialog.refresh(request(*but(INVITE, "Contact")))
        self.assertEqual(dialog.target, "sip:alice@198.51.100.1")


class ClientDialogTests(SynchronousTestCase):
    """s12.1.2: the side that asked."""

    def test_from_a_response(self) -> None:
        """Route set in the reverse order, the tag of the answer, and our CSeq goes on from the request's."""
        dialog = Dialog.of_response(request(*INVITE), response(*OK))
        self.assertEqual(dialog.id, ("one@192.0.2.10", "a1", "b1"))
        self.assertEqual(dialog.routes, ("<sip:p1.example.com;lr>", "<sip:p2.example.com;lr>"))
        self.assertEqual((dialog.target, dialog.remote), ("sip:bob@192.0.2.20", "<sip:bob@example.com>;tag=b1"))
        self.assertEqual((dialog.next_cseq(), dialog.remote_cseq), (8, -1))

    def test_early(self) -> None:
        """s13.2.2.4: the 2xx of an early dialog brings the target and the route set that count."""
        ringing = response("SIP/2.0 180 Ringing", *OK[1:])
        dialog = Dialog.of_response(request(*INVITE), ringing)
        dialog.confirm(response(*but(but(OK, "Contact", "Contact: <sip:bob@192.0.2.21>"), "Record-Route")))
        self.assertEqual((dialog.routes, dialog.target), ((), "sip:bob@192.0.2.21"))

    def test_answer_without_contact(self) -> None:
        """Whoever leaves Contact out of a 2xx gets the ACK at the address that was called."""
        dialog = Dialog.of_response(request(*INVITE), response(*but(OK, "Contact")))
        self.assertEqual(dialog.target, "sip:bob@example.com")

    def test_restored(self) -> None:
        """A dialog is its fields: what is stored and made again is the same."""
        dialog = Dialog.of_response(request(*INVITE), response(*OK))
        again = Dialog(*(getattr(dialog, name) for name in Dialog.__slots__))
        self.assertEqual([getattr(again, name) for name in Dialog.__slots__],
                         [getattr(dialog, name) for name in Dialog.__slots__])

    def test_contact(self) -> None:
        """`contact_of` gives the URI without its brackets and parameters of the header."""
        self.assertEqual(contact_of(request(*but(INVITE, "Contact", "Contact: <sip:a@h;x=1>;q=0.5"))), "sip:a@h;x=1")
