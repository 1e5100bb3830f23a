"""Bodies of requests that the server itself answers."""

from __future__ import annotations

import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from sipd.core import content
from sipd.message.errors import Reject
from sipd.message.message import Request
from sipd.message.parser import parse
from tests.message.messages import message
from tests.support.cases import shows

OPTIONAL = b"\r\n--b\r\nContent-Disposition: x;handling=optional\r\n\r\nx"
MIXED = "Content-Type: multipart/mixed;boundary=b"


def request(body: bytes, *lines: str) -> Request:
    """A request with a body."""
    found = parse(message(*lines, body=body))
    assert isinstance(found, Request)
    return found


class ContentTests(TestCase):
    """check."""

    def refusal(self, body: bytes, *lines: str) -> tuple[tuple[str, str], ...]:
        """The header fields of the 415, none when there is none."""
        try:
            content.check(request(body, *lines))
        except Reject as error:
            self.assertEqual(error.status, 415)
            return error.headers
        return ()

    @shows("R3261-8.2.3-01", "R3261-8.2.3-02", "R3261-8.2.3-03")
    def test_types(self) -> None:
        """Types are compared without regard to case; what is not understood is named by what is."""
        self.assertEqual(self.refusal(b"x", "Content-Type: APPLICATION/sdp ; charset=utf-8"), ())
        self.assertEqual(self.refusal(b"x", "Content-Type: text/plain"), (("Accept", "application/sdp"),))
        self.assertEqual(self.refusal(b"x", "Content-Type: application/sdp", "Content-Encoding: gzip"),
                         (("Accept-Encoding", "identity"),))

    @shows("R3261-8.2.3-01")
    def test_parts(self) -> None:
        """Each part counts by itself: one that says nothing is text, and required."""
        self.assertEqual(self.refusal(OPTIONAL * 3 + b"\r\n--b--", MIXED), ())
        self.assertTrue(self.refusal(OPTIONAL + b"\r\n--b\r\n\r\nhello\r\n--b--", MIXED))
        self.assertTrue(self.refusal(b"--b\r\nContent-Encoding: x\r\nContent-Type: application/sdp\r\n\r\n--b--", MIXED))
        self.assertEqual(self.refusal(OPTIONAL + b"\r\n--b--\r\n--b\r\n\r\nbehind the end", MIXED), ())

    def test_cost(self) -> None:
        """Thousands of parts, or a part with thousands of lines, cost no more than a few."""
        def calls(body: bytes) -> int:
            counted = 0

            def profile(frame: Any, event: str, argument: Any) -> None:
                nonlocal counted
                counted += event in ("call", "c_call")

            asked = request(body, MIXED)
            sys.setprofile(profile)
            try:
                content.check(asked)
            finally:
                sys.setprofile(None)
            return counted

        self.assertEqual(calls(OPTIONAL * 50), calls(OPTIONAL * 1000))
        head = b"--b\r\nContent-Disposition: x;handling=optional"
        self.assertEqual(calls(head + b"\r\na: b" * 1000), calls(head + b"\r\na: b" * 9000))

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.sampled_from([
        b"--b", b"\r\n", b"--", b":", b"Content-Type: ", b"multipart/mixed;boundary=b", b"application/sdp", b"\x00\xff", b"\"", b";", b"=",
        b"Content-Disposition", b"handling=optional", b"Content-Encoding: x"])).map(b"".join),
        st.text("\"';=/ bxm-\u00fc", max_size=12))
    def test_anything(self, body: bytes, rest: str) -> None:
        """Whatever stands there, it is served or gets 415."""
        self.refusal(body, MIXED)
        self.refusal(body, f"Content-Type: multipart/mixed;{rest}", f"Content-Disposition: {rest}")
