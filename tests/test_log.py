"""The log: what a line looks like, when it is written, and what the network cannot do to it."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from sipd.inventory import Inventory
from sipd.journal import CATALOGUE, Journal
from sipd.log import LINE_LIMIT, Forwarder, JournalLines, Observer, Writer, clean, host_of, summary


class Broken(io.BytesIO):
    """A stream on a disk that is full while `full` is set."""

    full = False

    def write(self, data: Any) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(data)


class WriterTests(TestCase):
    """The buffered writer."""

    def setUp(self) -> None:
        self.stream = Broken()
        self.clock = Clock()
        self.writer = Writer(stream=self.stream, wall=lambda: 1795341600.5 + self.clock.seconds())

    def lines(self) -> list[str]:
        """What has been written, without the times."""
        return [line[24:] for line in self.stream.getvalue().decode().splitlines()]

    def test_stamp(self) -> None:
        """A line begins with local time to the millisecond, also after the second has changed."""
        self.writer.line("one")
        self.clock.advance(1.25)
        self.writer.line("two")
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1795341600))
        later = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1795341601))
        self.assertEqual(self.stream.getvalue().decode(), f"{stamp}.500 one\n{later}.750 two\n")

    def test_bursts(self) -> None:
        """While the server runs lines wait 0.2 s, urgent ones and those before and after do not; no timer is left."""
        self.writer.line("early")
        self.assertEqual(self.lines(), ["early"])
        self.writer.start(self.clock)
        self.writer.line("a")
        self.writer.line("b")
        self.clock.advance(0.19)
        self.assertEqual(self.lines(), ["early"])
        self.clock.advance(0.02)
        self.assertEqual(self.lines(), ["early", "a", "b"])
        self.writer.line("c")
        self.writer.line("d", urgent=True)
        self.assertEqual(self.lines()[3:], ["c", "d"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.writer.line("e")
        self.writer.stop()
        self.assertEqual(self.lines()[5:], ["e"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_much_is_written_at_once(self) -> None:
        """The buffer does not grow until the timer fires."""
        self.writer.start(self.clock)
        for _ in range(100):
            self.writer.line("x" * 1000)
        self.assertGreater(len(self.stream.getvalue()), 60000)
        self.writer.stop()

    def test_full_disk(self) -> None:
        """A disk that is full raises nothing, and the lost lines are counted in the log afterwards."""
        self.stream.full = True
        self.writer.line("lost")
        self.writer.line("lost too")
        self.stream.full = False
        self.writer.line("found")
        text = self.stream.getvalue().decode()
        self.assertTrue(text.startswith("(2 lines of the log were lost)\n"), text)
        self.assertTrue(text.endswith(" found\n"))

    def test_reopen(self) -> None:
        """After a log file was moved away, lines go to a new one of the old name."""
        path = self.mktemp()
        writer = Writer(path)
        writer.line("before")
        os.rename(path, path + ".1")
        writer.line("still the old one")
        writer.reopen()
        writer.line("after")
        self.assertEqual(len(Path(path + ".1").read_text().splitlines()), 2)
        self.assertTrue(Path(path).read_text().endswith(" after\n"))

    def test_clean(self) -> None:
        """Nothing from the network breaks a line, moves a cursor, turns the writing direction or fills the log."""
        self.assertEqual(clean("caf\u00e9 \u4f60"), "caf\u00e9 \u4f60")
        self.assertEqual(clean("a\r\nb\x1b[2J\u202e\x00\udcff"), "a\\r\\nb\\x1b[2J\\u202e\\x00\\udcff")
        self.assertEqual(len(clean("x" * 100000)), LINE_LIMIT + 3)


class JournalTests(TestCase):
    """Journal records as lines."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.stream = io.BytesIO()
        self.inventory = Inventory()
        self.sink = JournalLines(Writer(stream=self.stream), self.clock, self.inventory)
        self.journal = Journal()
        self.journal.sinks.append(self.sink)

    def lines(self) -> list[str]:
        """What has been written, without the times."""
        return [line[24:] for line in self.stream.getvalue().decode().splitlines()]

    def refuse(self, source: str) -> None:
        """One refusal."""
        self.journal.write("refused", method="INVITE", source=source, status=403, reason="Forbidden", who="1001")

    def test_sentence(self) -> None:
        """A record is written as the sentence of the catalogue, in one line whatever its fields hold."""
        self.journal.write("call-start", call_id="x\ny", caller="a", callee="b", source="udp:192.0.2.1:5060")
        self.assertEqual(self.lines(), ["call x\\ny: a calls b from udp:192.0.2.1:5060"])

    def test_missing_field(self) -> None:
        """A record that lacks a field is written all the same."""
        self.journal.write("call-end", call_id="x")
        self.assertEqual(self.lines(), ["call-end: {'call_id': 'x'}"])

    def test_flood(self) -> None:
        """A source is heard five times a minute, then counted; another source is not affected; nothing stays behind."""
        for port in range(100):
            self.refuse(f"udp:192.0.2.66:{port}")
        self.refuse("tls:[2001:db8::1]:5061")
        self.assertEqual(len(self.lines()), 6)
        self.clock.advance(60)
        self.assertEqual(self.lines()[6:], ["95 more like this from 192.0.2.66"])
        self.assertEqual((self.inventory.left(), self.clock.getDelayedCalls()), ({}, []))
        self.refuse("udp:192.0.2.66:1")
        self.assertEqual(len(self.lines()), 8)
        self.sink.stop()
        self.assertEqual((self.inventory.left(), self.clock.getDelayedCalls()), ({}, []))

    def test_flood_from_everywhere(self) -> None:
        """Forged sources fill a bounded table; the rest is one number."""
        for number in range(3000):
            self.refuse(f"udp:10.0.{number // 250}.{number % 250}:5060")
        self.assertEqual(len(self.lines()), 2048)
        self.clock.advance(60)
        self.assertEqual(self.lines()[-1], "952 more like this from other addresses")

    def test_calls_are_never_left_out(self) -> None:
        """What only users can cause is not limited."""
        for _ in range(50):
            self.journal.write("call-end", call_id="x", who="a")
        self.assertEqual(len(self.lines()), 50)

    def test_host_of(self) -> None:
        """The address in the ways a source is written."""
        for text, host in (("udp:192.0.2.1:5060", "192.0.2.1"), ("192.0.2.1:5060", "192.0.2.1"),
                           ("tls:[::1]:5061", "[::1]"), ("[::1]:5061", "[::1]"), ("::1", "::1"), ("", ""),
                           ("2001:db8::1", "2001:db8::1"), ("x", "x")):
            self.assertEqual(host_of(text), host, text)

    def test_catalogue_sentences(self) -> None:
        """Each sentence of the catalogue is a format of named fields."""
        class Anything(dict[str, str]):
            def __missing__(self, key: str) -> str:
                return f"<{key}>"

        for kind, sentence in CATALOGUE.items():
            self.assertIn("<", sentence.format_map(Anything()), kind)

    def test_forwarder(self) -> None:
        """With a log of twisted's choosing the lines go through twisted.logger, braces and all."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        JournalLines(Forwarder(), self.clock, self.inventory)("bug", {"reason": "{0}"})
        self.assertEqual((events[0]["text"], events[0]["log_level"]), ("a bug: {0}", LogLevel.warn))


class ObserverTests(TestCase):
    """Twisted's own events."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.observer = Observer(Writer(self.path))
        self.publisher = LogPublisher(self.observer)

    def say(self, namespace: str, level: Any, text: str, **fields: Any) -> None:
        """One event."""
        Logger(namespace, observer=self.publisher).emit(level, text, **fields)

    def lines(self) -> list[str]:
        """What has been written, without the times."""
        return [line[24:] for line in Path(self.path).read_text().splitlines()]

    def raised(self) -> Failure:
        """A failure with a place in it."""
        try:
            return Failure(ZeroDivisionError(1 / 0))
        except ZeroDivisionError:
            return Failure()

    def test_interface(self) -> None:
        """It is an observer."""
        self.assertTrue(verifyObject(ILogObserver, self.observer))

    def test_selection(self) -> None:
        """Information is taken from sipd and twistd, warnings from everyone, debugging from nobody."""
        self.say("twisted.names.dns", LogLevel.info, "DNSDatagramProtocol starting on 12345")
        self.say("sipd.service", LogLevel.info, "ready")
        self.say("sipd.service", LogLevel.debug, "detail")
        self.say("twisted.names.dns", LogLevel.warn, "odd")
        self.assertEqual(self.lines(), ["ready", "warning: odd"])

    def test_failure(self) -> None:
        """A failure is one line that names the place; the traceback follows, indented, in a file only."""
        self.say("sipd", LogLevel.critical, "while working", log_failure=self.raised())
        text = Path(self.path).read_text()
        first, *rest = text.splitlines()
        self.assertIn("error: while working: ZeroDivisionError: division by zero (at test_log.py:", first)
        self.assertTrue(rest)
        for line in rest:
            self.assertTrue(line.startswith("    "), line)
        stream = io.BytesIO()
        Logger("sipd", observer=LogPublisher(Observer(Writer(stream=stream)))).emit(
            LogLevel.critical, "while working", log_failure=self.raised())
        self.assertEqual(stream.getvalue().count(b"\n"), 1)
        self.assertNotIn(b"Traceback", stream.getvalue())

    def test_failure_without_place(self) -> None:
        """A failure that was never raised has no place to name."""
        self.assertEqual(summary(Failure(ValueError("x"))), "ValueError: x")

    def test_unformattable(self) -> None:
        """An event that cannot be formatted is a line, not an exception."""

        class Bad:
            def __format__(self, spec: str) -> str:
                raise RuntimeError("no")

            __repr__ = __str__ = __format__  # type: ignore[assignment]

        self.say("sipd", LogLevel.warn, "{bad}", bad=Bad())
        self.assertEqual(len(self.lines()), 1)
