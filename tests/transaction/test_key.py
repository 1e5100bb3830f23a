"""Which transaction a request belongs to: by branch, and by the rules of RFC 2543."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from sipd.message.parser import parse
from sipd.transaction.key import Key, server_key
from tests.support.cases import shows

BASE = {"method": "INVITE", "uri": "sip:a@b", "via": "SIP/2.0/UDP host", "from_": "<sip:x@y>;tag=1", "to": "<sip:a@b>",
        "call_id": "c", "cseq": "1"}


def key(as_method: str = "", **fields: str) -> Key:
    """The key of a request that differs in these fields."""
    values = BASE | fields
    found = parse("\r\n".join([
        f"{values['method']} {values['uri']} SIP/2.0", f"Via: {values['via']}", f"From: {values['from_']}",
        f"To: {values['to']}", f"Call-ID: {values['call_id']}", f"CSeq: {values['cseq']} {values['method']}", "", "",
    ]).encode())
    assert isinstance(found, Request)
    return server_key(found, as_method or found.method)


class KeyTests(TestCase):
    """server_key."""

    @shows("NIT-11", "17.2.3")
    def test_branch(self) -> None:
        """s17.2.3: branch, sent-by and method; branch and sent-by without regard to case. Else only Call-ID counts."""
        via = "SIP/2.0/UDP host;branch=z9hG4bKabc"
        same = key(via=via)
        self.assertEqual(key(via="SIP/2.0/UDP HOST;branch=Z9HG4BKABC;rport"), same)
        self.assertEqual(key(via=via, uri="sip:other", from_="<sip:z>;tag=2", cseq="9"), same)
        for other in ("SIP/2.0/UDP host:5060;branch=z9hG4bKabc", "SIP/2.0/UDP host2;branch=z9hG4bKabc",
                      "SIP/2.0/UDP host;branch=z9hG4bKabcd", "SIP/2.0/UDP host;branch=z9hG4bK"):
            self.assertNotEqual(key(via=other), same, other)
        self.assertNotEqual(key(via=via, method="OPTIONS"), same)

    @shows("ROB-01", "17.2.3")
    def test_branch_used_again(self) -> None:
        """A branch that a client uses for two requests, as RFC 4475 s3.3.12 and s3.3.13 do, makes them one no more."""
        via = "SIP/2.0/UDP host;branch=z9hG4bKabc"
        self.assertNotEqual(key(via=via, call_id="d"), key(via=via))

    def test_ack(self) -> None:
        """s17.2.3: an ACK is of the INVITE with its branch."""
        via = "SIP/2.0/UDP host;branch=z9hG4bKabc"
        self.assertEqual(key("INVITE", via=via, method="ACK"), key(via=via))

    @shows("INV-11", "17.2.3")
    def test_ack_with_another_branch(self) -> None:
        """An ACK with a branch of its own is of no transaction."""
        self.assertNotEqual(key("INVITE", via="SIP/2.0/UDP host;branch=z9hG4bKother", method="ACK"),
                            key(via="SIP/2.0/UDP host;branch=z9hG4bKabc"))

    def test_rfc_2543(self) -> None:
        """s17.2.3: without the cookie, Request-URI, From tag, Call-ID, CSeq and the whole topmost Via say it."""
        for via in ("SIP/2.0/UDP host", "SIP/2.0/UDP host;branch=1", "SIP/2.0/UDP host;branch=z9hG4bK"):
            same = key(via=via)
            self.assertEqual(key(via=via), same)
            for fields in ({"uri": "sip:b@b"}, {"from_": "<sip:x@y>;tag=2"}, {"call_id": "d"}, {"cseq": "2"},
                           {"via": via + ";x=y"}, {"via": "SIP/2.0/TCP host"}, {"method": "OPTIONS"}):
                self.assertNotEqual(key(**({"via": via} | fields)), same, fields)
            ack = key("INVITE", via=via, method="ACK", to="<sip:a@b>;tag=ours")
            self.assertEqual(ack, same, "the ACK has our To tag and the INVITE has none")

    def test_never_mixed(self) -> None:
        """No request of the old kind can be made to look like one of the new."""
        self.assertNotEqual(key(via="SIP/2.0/UDP host;branch=z9hG4bK"), key(via="SIP/2.0/UDP host;branch=z9hG4bK1"))
        self.assertEqual(key(via="SIP/2.0/UDP host")[0], "")
