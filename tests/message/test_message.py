"""Headers of a message: reading them, changing them, and what stays as it was."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.errors import MalformedMessage
from sipd.message.message import Message, Request
from sipd.message.parser import parse
from tests.message.messages import OK, message


def lines(found: Message, name: str) -> list[str]:
    """The lines of a header as they leave."""
    return [header[2] for header in found.headers if header[0] == name]


class MessageTests(TestCase):
    """Message, Request, Response."""

    def setUp(self) -> None:
        found = parse(message("Route: <sip:a;lr>, <sip:b;lr>", "ROUTE:  <sip:c,d>", "Subject: x", body=b"abc"))
        assert isinstance(found, Request)
        self.request = found

    def consistent(self, found: Message) -> None:
        """The quick table says what the list of lines says."""
        first: dict[str, str] = {}
        for name, value, _ in found.headers:
            first.setdefault(name, value)
        self.assertEqual(found.first, first)
        self.assertEqual(parse(found.encode()).headers, found.headers)

    def test_reading(self) -> None:
        """One, each line, each value."""
        self.assertEqual(self.request.get("route"), "<sip:a;lr>, <sip:b;lr>")
        self.assertEqual(self.request.all("route"), ["<sip:a;lr>, <sip:b;lr>", "<sip:c,d>"])
        self.assertEqual(self.request.values("route"), ["<sip:a;lr>", "<sip:b;lr>", "<sip:c,d>"])
        self.assertEqual((self.request.get("x"), self.request.all("x"), self.request.values("x")), (None, [], []))

    def test_add(self) -> None:
        """Behind the last of its name, else at the end."""
        self.request.add("Route", "<sip:e>")
        self.request.add("X-New", "1")
        self.assertEqual(self.request.values("route")[-1], "<sip:e>")
        self.assertEqual([header[0] for header in self.request.headers][-2:], ["content-length", "x-new"])
        names = [header[0] for header in self.request.headers]
        self.assertEqual(names.index("subject"), names.index("route") + 3)
        self.consistent(self.request)

    def test_remove_and_set(self) -> None:
        """All lines of a name go; one is put in place of the first, or added."""
        self.request.remove("route")
        self.request.remove("not-there")
        self.assertEqual(self.request.all("route"), [])
        self.request.set("subject", "y")
        self.request.set("expires", "60")
        self.assertEqual((lines(self.request, "subject"), lines(self.request, "expires")), (["Subject: y"], ["Expires: 60"]))
        self.consistent(self.request)

    def test_set_values(self) -> None:
        """A list is written anew where it stood, a line for each value; an empty one is gone."""
        self.request.set_values("route", ["<sip:x>", "<sip:y>"])
        self.assertEqual(lines(self.request, "route"), ["Route: <sip:x>", "Route: <sip:y>"])
        names = [header[0] for header in self.request.headers]
        self.assertLess(names.index("route"), names.index("subject"))
        self.consistent(self.request)
        self.request.set_values("route", [])
        self.assertIsNone(self.request.get("route"))
        self.consistent(self.request)

    def test_copy(self) -> None:
        """A copy may be changed without the other's knowledge; what is typed comes along."""
        before = self.request.encode()
        copy = self.request.copy()
        self.assertEqual((copy.encode(), copy.call_id, copy.cseq, copy.from_tag, copy.via),
                         (before, self.request.call_id, self.request.cseq, self.request.from_tag, self.request.via))
        copy.set("call-id", "x")
        copy.remove("subject")
        copy.add("Via", "SIP/2.0/UDP us")
        self.assertEqual(self.request.encode(), before)

    def test_retarget(self) -> None:
        """Another Request-URI, nothing else."""
        self.request.retarget("sip:x@y")
        self.assertTrue(self.request.encode().startswith(b"INVITE sip:x@y SIP/2.0\r\nVia: "))
        self.assertEqual(str(self.request.uri), "sip:x@y")

    def test_uri_when_asked(self) -> None:
        """A Request-URI that cannot be read is nobody's trouble until it is asked for."""
        found = parse(message(start="INVITE <sip:bob@biloxi.com> SIP/2.0"))
        assert isinstance(found, Request)
        self.assertRaises(MalformedMessage, lambda: found.uri)

    def test_for_people(self) -> None:
        """What a log line shows of it."""
        self.assertIn("INVITE sip:bob@biloxi.com", repr(self.request))
        self.assertIn("200 OK to INVITE", repr(parse(message(base=OK))))
