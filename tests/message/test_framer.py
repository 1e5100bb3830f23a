"""Messages cut from a stream, fed whole, octet by octet and with more behind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from sipd.message.framer import Framer
from sipd.message.parser import parse
from tests.message.messages import LINES, legal, message, mutilated
from tests.support.cases import shows
from tests.support.properties import check


def feed(framer: Framer, data: bytes, size: int) -> list[bytes]:
    """Feeds in pieces of `size` octets."""
    return [whole for start in range(0, len(data), size) for whole in framer.feed(data[start:start + size])]


class FramerTests(TestCase):
    """Framer."""

    @shows("TRN-03", "18.3")
    def test_three_ways(self) -> None:
        """s18.3: whole, in pieces of any size, and with the next message behind: always the same messages."""
        one, two = message(body=b"abc\r\n\r\nINVITE"), message(body=b"")
        for size in (1, 2, 3, 7, 100, 10000):
            framer = Framer()
            self.assertEqual(feed(framer, one + two + one + two[:-1], size), [one, two, one])
            self.assertEqual(framer.buffered, len(two) - 1)
            self.assertEqual(framer.feed(two[-1:]), [two])
            self.assertEqual((framer.buffered, framer.error, framer.pings), (0, None, 0))

    @shows("TRN-06", "7.5", "R3261-7.5-01")
    def test_keep_alives(self) -> None:
        """RFC 5626 s3.5.1: a double CRLF between messages is a ping; s7.5: a single one is passed over."""
        whole = message()
        for size in (1, 2, 3, 10000):
            for octets, pings, messages in (
                (b"\r\n\r\n", 1, 0), (b"\r\n\r\n\r\n\r\n", 2, 0), (b"\r\n" + whole, 0, 1), (b"\r\n\r\n" + whole, 1, 1),
                (whole + b"\r\n\r\n" + whole, 1, 2), (whole + b"\r\n" + whole, 0, 2), (b"\r\n\r\n\r\n" + whole, 1, 1),
            ):
                framer = Framer()
                self.assertEqual(feed(framer, octets, size), [whole] * messages)
                self.assertEqual((framer.pings, framer.buffered), (pings, 0), (octets[:12], size))

    def test_half_a_ping(self) -> None:
        """One CRLF waits for what comes: it is no ping yet, and no message either."""
        framer = Framer()
        self.assertEqual(framer.feed(b"\r\n"), [])
        self.assertEqual((framer.pings, framer.error, framer.buffered), (0, None, 0))
        framer.feed(b"\r\n")
        self.assertEqual(framer.pings, 1)

    def test_lengths(self) -> None:
        """Content-Length in all its spellings."""
        for line in ("Content-Length: 3", "l:3", "L \t: 3 ", "CONTENT-LENGTH:\t003", "content-length:\r\n 3",
                     "l: 0000000000000003"):
            whole = message(line, body=b"abc", length=False)
            for size in (1, 10000):
                framer = Framer()
                self.assertEqual(feed(framer, whole + message(), size), [whole, message()], line)

    @shows("TRN-04", "18.3")
    def test_lost(self) -> None:
        """Without a length that can be counted on nothing more can be read; the head is there for an answer, and what
        came before it was read. A folded line and a body do not pass for a length."""
        before = message(body=b"x")
        for lines in ((), ("l: -1",), ("l: a",), ("l: 3 3",), ("l: 3\r\n 4",), ("l: 3", "Content-Length: 4"), ("l:",),
                      ("X: y\r\n l: 3",), ("Content-Lengthy: 3",), ("l: 3;x",), ("l: 0x3",), ("l: \u0663",)):
            bad = message(*lines, body=b"", length=False)
            for size in (1, 10000):
                framer = Framer()
                self.assertEqual(feed(framer, before + bad + before, size), [before], lines)
                assert framer.error is not None
                self.assertEqual((framer.error.status, framer.rest, framer.buffered), (400, bad, 0))
                self.assertEqual(framer.feed(before), [])

    @shows("TRN-12", "18.3")
    def test_bounds(self) -> None:
        """A head or a body that is too long ends the stream; no more than the bound is ever held."""
        framer = Framer(1000, 500)
        for _ in range(200):
            framer.feed(b"X" * 50)
            self.assertLessEqual(framer.buffered, 1050)
        assert framer.error is not None
        self.assertEqual((framer.error.status, len(framer.rest)), (513, 1000))
        for length, status in (("501", 413), ("99999999999999999999", 413)):
            framer = Framer(1000, 500)
            framer.feed(message(f"l: {length}", length=False))
            assert framer.error is not None
            self.assertEqual(framer.error.status, status)
        framer = Framer(1000, 500)
        self.assertEqual(len(framer.feed(message(body=b"b" * 500))), 1)
        for digits, status in (("0" * 5000, 0), ("9" * 5000, 413)):
            framer = Framer()
            whole = message(f"l: {digits}", length=False)
            self.assertEqual(framer.feed(whole), [] if status else [whole])
            self.assertEqual(framer.error.status if framer.error is not None else 0, status)

    def test_long_head_at_once(self) -> None:
        """The bound of the head holds when it comes in one piece, too."""
        framer = Framer(1000, 500)
        self.assertEqual(framer.feed(message("X: " + "y" * 1000)), [])
        assert framer.error is not None
        self.assertEqual(framer.error.status, 513)

    def test_slowly(self) -> None:
        """64 kB of head octet by octet is searched once, not once for each octet."""
        framer = Framer()
        whole = message(*(f"X-{n}: {'y' * 100}" for n in range(500)))
        self.assertEqual(feed(framer, whole, 1), [whole])

    @check
    @given(st.lists(legal(), max_size=4), st.lists(st.sampled_from([b"", b"\r\n", b"\r\n\r\n"]), min_size=5, max_size=5),
           st.integers(1, 50))
    def test_any_pieces(self, messages: list[bytes], gaps: list[bytes], size: int) -> None:
        """Whatever the segments, the messages come out, each as it is in one segment."""
        stream = b"".join(gap + whole for gap, whole in zip(gaps, messages, strict=False))
        framer = Framer()
        self.assertEqual(feed(framer, stream, size), messages)
        self.assertIsNone(framer.error)
        for whole in messages:
            parse(whole, True)

    @check
    @given(mutilated() | st.binary(max_size=300), st.integers(1, 20))
    def test_hostile(self, data: bytes, size: int) -> None:
        """Anything can be fed; how it is cut into segments changes nothing of what comes out."""
        whole, pieces = Framer(5000, 5000), Framer(5000, 5000)
        self.assertEqual(whole.feed(data), feed(pieces, data, size))
        self.assertEqual((whole.error is None, whole.rest, whole.buffered),
                         (pieces.error is None, pieces.rest, pieces.buffered))

    def test_agrees_with_the_parser(self) -> None:
        """The parser finds the same end of a message as the framer does: nothing can hide behind it."""
        hidden = message(start=LINES[0].replace("bob", "mallory"))
        for lines in (("l: 3\r\n 4",), ("l: 0", "l: 400"), ("X: y\r\n l: 400", "l: 0")):
            framer = Framer()
            messages = framer.feed(message(*lines, length=False) + hidden)
            for found in messages[:1]:
                self.assertEqual(parse(found, True).body, b"")
