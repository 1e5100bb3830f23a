"""Session timers as pure rules (RFC 4028 s8.1, s8.2): what is asked for, raised, refused, and told the caller."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sipd.calls.session_timer import agreed, offer
from sipd.message.errors import Reject
from sipd.message.message import Request, Response
from sipd.message.parser import parse

_HEAD = ("Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n")


def invite(*lines: str) -> Request:
    """An INVITE with some lines more."""
    message = parse("\r\n".join([f"INVITE sip:b@b SIP/2.0\r\n{_HEAD}Content-Length: 0", *lines, "", ""]).encode())
    assert isinstance(message, Request)
    return message


def ok(*lines: str) -> Response:
    """A 200 with some lines more."""
    message = parse("\r\n".join([f"SIP/2.0 200 OK\r\n{_HEAD}Content-Length: 0", *lines, "", ""]).encode())
    assert isinstance(message, Response)
    return message


class Offer(SynchronousTestCase):
    """Requests (s8.1)."""

    def offered(self, request: Request, wanted: int = 1800, least: int = 90) -> tuple[int, str | None, str | None]:
        """What is remembered, and the two fields as the request leaves."""
        return offer(request, wanted, least), request.get("session-expires"), request.get("min-se")

    def test_inserted(self) -> None:
        """Where the caller supports timers and asks for none, ours is asked for, never below its Min-SE."""
        self.assertEqual(self.offered(invite("Supported: timer")), (1800, "1800", None))
        self.assertEqual(self.offered(invite("k: path,TIMER")), (1800, "1800", None))
        self.assertEqual(self.offered(invite("Supported: path", "Supported: timer")), (1800, "1800", None))
        self.assertEqual(self.offered(invite("Supported: timer", "Min-SE: 3600")), (3600, "3600", "3600"))
        self.assertEqual(self.offered(invite("Supported: timer", "Min-SE: junk")), (1800, "1800", "junk"))

    def test_not_inserted(self) -> None:
        """Where it does not, or where nothing is wanted, the request stays as it is."""
        for request in (invite(), invite("Supported: path"), invite("Supported: timers"), invite("Min-SE: 90")):
            before = request.encode()
            self.assertEqual((offer(request, 1800, 90), request.encode()), (0, before))
        request = invite("Supported: timer")
        before = request.encode()
        self.assertEqual((offer(request, 0, 90), request.encode()), (0, before))

    def test_kept(self) -> None:
        """What the caller asks for is left alone, refresher and all; a shorter one than ours too."""
        for value, seconds in (("90", 90), ("120;refresher=uac", 120), ("9999999999999 ;refresher=uas", 2**31 - 1)):
            request = invite("Supported: timer", f"x: {value}")
            before = request.encode()
            self.assertEqual((offer(request, 1800, 90), request.encode()), (seconds, before))

    def test_too_short(self) -> None:
        """422 with Min-SE for one who can ask again; for one who cannot, both fields are raised, and Min-SE never
        lowered."""
        with self.assertRaises(Reject) as caught:
            offer(invite("Supported: timer", "Session-Expires: 200"), 1800, 300)
        self.assertEqual((caught.exception.status, caught.exception.headers), (422, (("Min-SE", "300"),)))
        self.assertEqual(self.offered(invite("Session-Expires: 200;refresher=uas"), 1800, 300),
                         (0, "300;refresher=uas", "300"))
        self.assertEqual(self.offered(invite("Session-Expires: 200", "Min-SE: 400"), 1800, 300), (0, "400", "400"))
        self.assertEqual(self.offered(invite("Session-Expires: 500", "Min-SE: 400"), 1800, 300), (0, "500", "400"))

    def test_unreadable(self) -> None:
        """What is no number asks for nothing and passes."""
        for value in ("", "soon", "-1", "0", "\u0661"):
            request = invite("Supported: timer", f"Session-Expires: {value}")
            before = request.encode()
            self.assertEqual((offer(request, 1800, 90), request.encode()), (0, before), value)


class Agreed(SynchronousTestCase):
    """Answers (s8.2)."""

    def test_told(self) -> None:
        """Where whoever answered knows no timers and the caller does, the caller is told to refresh."""
        response = ok()
        self.assertEqual(agreed(response, 1800), 1800)
        self.assertEqual((response.first["session-expires"], response.all("require")), ("1800;refresher=uac", ["timer"]))
        response = ok("Require: 100rel", "Require: foo")
        agreed(response, 90)
        self.assertEqual(response.values("require"), ["100rel", "foo", "timer"])
        response = ok("Require: Timer")
        agreed(response, 90)
        self.assertEqual(response.all("require"), ["Timer"])

    def test_left_alone(self) -> None:
        """What the answer says stands (s8.2: MUST NOT be modified), and without an offer nothing is added."""
        for lines, offered, seconds in ((("Session-Expires: 100;refresher=uas",), 1800, 100), ((), 0, 0),
                                        (("Session-Expires: x",), 1800, 0), (("Session-Expires: 5",), 0, 90)):
            response = ok(*lines)
            before = response.encode()
            self.assertEqual((agreed(response, offered), response.encode()), (seconds, before))
