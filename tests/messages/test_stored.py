"""What is kept of a message, for how long, and its text in the store."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sipd.message.message import Request
from sipd.message.parser import parse
from sipd.messages.stored import StoredMessage, expiry, is_worth_keeping, kept
from tests.support.cases import shows

NOW = 1_800_000_000.0
#: What a header field's value may hold: anything but control characters, octets that are no UTF-8 among it.
_VALUES = st.text(st.characters(blacklist_categories=("Cc", "Cs")) | st.characters(
    min_codepoint=0xDC80, max_codepoint=0xDCFF, whitelist_categories=("Cs",)), max_size=40).map(str.strip)


def message(*lines: str, body: bytes = b"", uri: str = "sip:1002@example.com", to: str = "<sip:1002@example.com>") -> Request:
    """A MESSAGE as it comes from the wire."""
    head = [f"MESSAGE {uri} SIP/2.0", "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKx", "From: <sip:1001@example.com>;tag=f",
            f"To: {to}", "Call-ID: c", "CSeq: 7 MESSAGE", "Max-Forwards: 70", *lines, f"Content-Length: {len(body)}", "", ""]
    request = parse("\r\n".join(head).encode("utf-8", "surrogateescape") + body)
    assert isinstance(request, Request)
    return request


def fields_of(one: StoredMessage) -> tuple[object, ...]:
    """Everything that the store keeps."""
    return (one.number, one.aor, one.sender, one.received_at, one.expires_at, one.from_, one.to, one.call_id, one.cseq,
            one.fields, one.body, one.secure, one.notice, one.size)


class StoredTests(SynchronousTestCase):
    """Values, in and out."""

    @settings(max_examples=200, deadline=None)
    @given(body=st.binary(max_size=300), values=st.lists(_VALUES, max_size=6), name=_VALUES)
    def test_round_trip(self, body: bytes, values: list[str], name: str) -> None:
        """Whatever the body and the fields hold, octets that are no UTF-8 among it: it comes out of the store as it
        went in, and the text in the store is ASCII."""
        fields = tuple((f"X-{number}", value) for number, value in enumerate(values))
        one = StoredMessage(3, "1002@example.com", name, NOW, NOW + 60.5, f"<sip:x>;tag={name}", "<sip:1002@example.com>",
                            name, 2**31, fields, body, True, False)
        text = one.text()
        self.assertTrue(text.isascii())
        again = StoredMessage.read(3, text)
        assert again is not None
        self.assertEqual(fields_of(again), fields_of(one))

    @settings(max_examples=100, deadline=None)
    @given(body=st.binary(max_size=300), values=st.lists(_VALUES, max_size=4))
    def test_from_the_wire(self, body: bytes, values: list[str]) -> None:
        """What came over the wire is kept octet for octet: body, and each field by name and value, in order."""
        lines = [f"X-Odd: {value}" for value in values]
        one = kept(message(*lines, body=body), 1, "1002@example.com", "1001@example.com", NOW, NOW + 1)
        self.assertEqual(one.body, body)
        sent = message(*lines, body=body).all("x-odd")
        self.assertEqual([value for name, value in one.fields if name == "X-Odd"], sent)

    def test_damaged(self) -> None:
        """A text that is none of ours is no message."""
        whole = StoredMessage(1, "a", "b", NOW, NOW, "f", "t", "c", 1, (), b"").text()
        for text in ("", "[]", "{}", "1", "null", whole[:-5], whole.replace('"body": ""', '"body": "?"'),
                     whole.replace('"cseq": 1', '"cseq": []')):
            self.assertIsNone(StoredMessage.read(1, text), text)

    def test_left_out(self) -> None:
        """What belongs to one hop or one proxy is not kept; the spelling of names is."""
        one = kept(message("Route: <sip:192.0.2.1;lr>", "Proxy-Authorization: Digest x", "Authorization: Digest y",
                           "Proxy-Require: a", "Timestamp: 1", "Max-Breadth: 60", "c: text/plain", "SUBJECT: s"),
                   1, "1002@example.com", "x", NOW, NOW + 1)
        self.assertEqual(one.fields, (("c", "text/plain"), ("SUBJECT", "s"), ("Date", "Fri, 15 Jan 2027 08:00:00 GMT")))
        self.assertEqual((one.content_type, one.identity, one.secure), ("text/plain", ("c", "f", 7), False))
        self.assertTrue(kept(message(uri="sips:1002@example.com"), 1, "a", "b", NOW, NOW).secure)

    def test_worth(self) -> None:
        """Who is typing, also inside message/cpim, and what is in a dialog is not worth keeping."""
        self.assertTrue(is_worth_keeping(message()))
        self.assertTrue(is_worth_keeping(message("Content-Type: message/cpim", body=b"Content-type: text/plain\r\n\r\nhi")))
        self.assertTrue(is_worth_keeping(message("Content-Type: text/plain", body=b"application/im-iscomposing+xml")))
        for kind in ("application/im-iscomposing+xml", "Application/IM-isComposing+XML ;charset=utf-8"):
            self.assertFalse(is_worth_keeping(message(f"Content-Type: {kind}")))
        self.assertFalse(is_worth_keeping(message(
            "Content-Type: message/CPIM", body=b"Content-type: application/im-isComposing+xml\r\n\r\n<x/>")))
        self.assertFalse(is_worth_keeping(message(to="<sip:1002@example.com>;tag=t")))

    @shows("R3428-7-06", "R3428-7-07")
    def test_expiry(self) -> None:
        """By Expires, from Date where there is one that can be read and is not ahead; the longest is the server's."""
        date = "Date: Fri, 15 Jan 2027 07:59:00 GMT"
        for lines, seconds in (((), 600.0), (("Expires: 60",), 60.0), (("Expires: 0",), 0.0), (("Expires: 100", date), 40.0),
                               (("Expires: 30", date), -30.0), (("Expires: 99999",), 600.0), (("Expires: soon",), 600.0),
                               (("Expires: 60", "Date: yesterday"), 60.0),
                               (("Expires: 60", "Date: Sat, 15 Jan 2050 07:59:00 GMT"), 60.0),
                               (("Expires: 60", "Date: Fri, 99 Jan 99999 07:59:00 GMT"), 60.0)):
            self.assertEqual(expiry(message(*lines), NOW, 600.0) - NOW, seconds, lines)
