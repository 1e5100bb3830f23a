"""Twice the size is twice the work: lines of sipd counted while it reads what was made to cost much (s26.3.2.4).

Counted is every line of Python of sipd that runs. What runs in C is hidden from any counter: it is timed, on texts of
the size of the largest message, against bounds that a linear reader stays far below and a quadratic one goes far beyond.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from twisted.trial.unittest import TestCase

from sipd.auth import digest
from sipd.message import parser
from sipd.message.address import Address, tag_of
from sipd.message.bounds import Bounds
from sipd.message.errors import MalformedMessage, Reject
from sipd.message.framer import Framer
from sipd.message.params import parse_params, split_list
from sipd.message.parser import parse
from sipd.message.uri import Uri
from sipd.message.via import Via
from sipd.registrar.contact import parse_contacts
from tests.message.messages import message
from tests.support.rig import Rig

ROOT = Path(__file__).resolve().parent.parent


def steps(work: Callable[[], Any]) -> int:
    """Lines of sipd that run in `work`, whatever it raises of ours."""
    count = 0

    def line(frame: FrameType, what: str, argument: Any) -> Any:
        nonlocal count
        count += what == "line"
        return line

    def call(frame: FrameType, what: str, argument: Any) -> Any:
        return line if "/sipd/" in frame.f_code.co_filename else None

    forget()
    before = sys.gettrace()
    sys.settrace(call)
    try:
        work()
    except (MalformedMessage, Reject):
        pass
    finally:
        sys.settrace(before)
    return count


def depth(work: Callable[[], Any]) -> int:
    """How deep functions of sipd stand inside each other in `work`, whatever it raises of ours."""
    deep = deepest = 0

    def profile(frame: FrameType, what: str, argument: Any) -> None:
        nonlocal deep, deepest
        if what in ("call", "return") and "/sipd/" in frame.f_code.co_filename:
            deep += 1 if what == "call" else -1
            deepest = max(deepest, deep)

    forget()
    sys.setprofile(profile)
    try:
        work()
    except (MalformedMessage, Reject):
        pass
    finally:
        sys.setprofile(None)
    return deepest


def forget() -> None:
    """Empties the caches of sipd: who wants to cost much repeats nothing."""
    for name, module in list(sys.modules.items()):
        if name.startswith("sipd."):
            for key, value in vars(module).items():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
                elif "_KNOWN" in key and isinstance(value, (dict, set)):
                    value.clear()


def curved(lines: list[int]) -> bool:
    """True when the third of three sizes, equal steps apart, adds clearly more lines than the second did."""
    one, two, three = lines
    return three - two > 1.1 * max(0, two - one) + 60


#: So that what is refused for its size alone is read here.
WIDE = Bounds(*[1 << 30] * 7)


def read_all(data: bytes) -> None:
    """Everything anybody asks of a message."""
    read = parse(data, False, WIDE)
    for name in ("via", "supported"):
        read.values(name)
    for name in ("route", "record-route", "contact"):
        for value in read.values(name):
            Address.parse(value)
    read.encode()


#: What is read, by a text for each size.
READ: dict[str, Callable[[int], Callable[[], Any]]] = {
    "Vias, a line each": lambda n: partial(read_all, message(*["Via: SIP/2.0/UDP a;branch=z9hG4bK1"] * n)),
    "Vias in one line": lambda n: partial(read_all, message("v: " + ",".join(["SIP/2.0/UDP a;branch=z9hG4bK1"] * n))),
    "Routes, a line each": lambda n: partial(read_all, message(*["Route: <sip:a;lr>"] * n)),
    "Routes in one line": lambda n: partial(read_all, message("Route: " + ", ".join(["<sip:a;lr>"] * n))),
    "unknown headers": lambda n: partial(read_all, message(*(f"X-{i}: y" for i in range(n)))),
    "doubled headers": lambda n: partial(parse, message(*["To: <sip:a@b>"] * n)),
    "folded header": lambda n: partial(read_all, message("Subject: a" + "\r\n b" * n)),
    "folds without text": lambda n: partial(read_all, message("Subject: a" + "\r\n " * n + "b")),
    "folds in every line": lambda n: partial(read_all, message(*["Route: <sip:a;lr>\r\n ,\r\n <sip:b;lr>"] * n)),
    "no colon": lambda n: partial(parse, message(*["x"] * n)),
    "no end": lambda n: partial(parse, b"\r\n".join([b"INVITE a SIP/2.0", *[b"Via: SIP/2.0/UDP a"] * n])),
    "empty lines in front": lambda n: partial(parse, b"\r\n" * n + message()),
    "spaces in the start line": lambda n: partial(parse, message(start="INVITE" + " " * n + "sip:a SIP/2.0")),
    "commas": lambda n: partial(split_list, "," * n),
    "quotes": lambda n: partial(split_list, '"' * n + ","),
    "escaped quotes": lambda n: partial(split_list, '"' + '\\"' * n + ","),
    "backslashes": lambda n: partial(split_list, '"' + "\\" * n + '",'),
    "brackets in a list": lambda n: partial(split_list, "<" * n + "," + ">" * n),
    "nested quotes and brackets": lambda n: partial(split_list, '"<' * n + '">' * n + ","),
    "parameters": lambda n: partial(parse_params, ";a=b" * n),
    "parameters of one name": lambda n: partial(parse_params, ";a" * n),
    "semicolons": lambda n: partial(parse_params, ";" * n),
    "blanks among parameters": lambda n: partial(parse_params, ";a=b" + " " * n + ";c"),
    "tags": lambda n: partial(tag_of, "<sip:a@b>" + ";tag=\x00" * n),
    "quoted parameters": lambda n: partial(tag_of, "<sip:a@b>" + ';a=";\\""' * n),
    "brackets in an address": lambda n: partial(Address.parse, "<" * n + "sip:a@b" + ">" * n),
    "a display name": lambda n: partial(Address.parse, "a " * n + "<sip:a@b>"),
    "a URI's parameters": lambda n: partial(Uri.parse, "sip:a@b" + ";p=q" * n),
    "a URI's escapes": lambda n: lambda: Uri.parse("sip:" + "%41" * n + "@b").equivalent(Uri.parse("sip:" + "%61" * n + "@b")),
    "reserved escapes": lambda n: lambda: Uri.parse("sip:" + "%3b" * n + "@b").equivalent(Uri.parse("sip:" + "%3B" * n + "@b")),
    "a URI's headers": lambda n: lambda: Uri.parse("sip:b?" + "a=b&" * n).equivalent(Uri.parse("sip:b?" + "b=a&" * n)),
    "parameters compared": lambda n: lambda: Uri.parse("sip:b" + "".join(f";a{i}" for i in range(n))).equivalent(
        Uri.parse("sip:b" + "".join(f";a{n - i}" for i in range(n)))),
    "at signs": lambda n: partial(Uri.parse, "sip:" + "a@" * n),
    "colons": lambda n: partial(Uri.parse, "sip:" + "a:" * n + "@b"),
    "another scheme": lambda n: partial(Uri.parse, "tel:" + "1" * n),
    "a Via's parameters": lambda n: partial(Via.parse, "SIP/2.0/UDP a" + ";p=q" * n),
    "a Via's quoted parameters": lambda n: partial(Via.parse, "SIP/2.0/UDP a" + ';p=";"' * n),
    "a Via's blanks": lambda n: partial(Via.parse, "SIP/" + " " * n + "2.0/UDP a"),
    "contacts": lambda n: partial(parse_contacts, ",".join(["<sip:a@b>;q=0.5"] * n)),
    "a contact's parameters": lambda n: partial(parse_contacts, "<sip:a@b>" + ";p=q" * n),
    "digest parameters": lambda n: partial(digest._auth_params, "Digest " + ",".join(f"a{i}=b" for i in range(n)), 7),
    "digest quotes": lambda n: partial(digest._auth_params, "Digest " + 'a="\\""' * n, 7),
}


def byte_by_byte(data: bytes) -> Callable[[], Any]:
    """Feeds a framer one octet at a time."""
    def feed() -> None:
        framer = Framer(1 << 22, 1 << 22)
        for i in range(len(data)):
            framer.feed(data[i:i + 1])
    return feed


READ |= {
    "a long head octet by octet": lambda n: byte_by_byte(b"INVITE a SIP/2.0\r\nX: " + b"y" * n),
    "many lines octet by octet": lambda n: byte_by_byte(b"INVITE a SIP/2.0\r\n" + b"X: y\r\n" * n),
    "a long body octet by octet": lambda n: byte_by_byte(b"INVITE a SIP/2.0\r\nl: %d\r\n\r\n" % n + b"y" * n),
    "keep-alives octet by octet": lambda n: byte_by_byte(b"\r\n" * n),
    "line ends octet by octet": lambda n: byte_by_byte(b"\n\r" * n),
    "lengths octet by octet": lambda n: byte_by_byte(b"INVITE a SIP/2.0\r\n" + b"l: 5\r\n" * n + b"\r\n"),
    "keep-alives at once": lambda n: partial(Framer().feed, b"\r\n" * n),
    "line ends at once": lambda n: partial(Framer().feed, b"\n" * n),
    "messages at once": lambda n: partial(Framer(1 << 22).feed, message() * n),
}


class Reading(TestCase):
    """Parsers and framer."""

    def setUp(self) -> None:
        if not str(parser.__file__).endswith(".py"):
            self.fail("the lines of a compiled build cannot be counted: run this on the sources")

    def test_linear(self) -> None:
        """Whatever is read: twice of it takes at most twice the lines, and a few."""
        steep = []
        for name, made in READ.items():
            lines = [steps(made(size)) for size in (300, 600, 900)]
            if curved(lines):
                steep.append(f"{name}: {lines}")
        self.assertEqual(steep, [])

    def test_flat(self) -> None:
        """However much is nested in it, a text is read without going deeper."""
        depths = {name: (depth(made(100)), depth(made(400))) for name, made in READ.items()}
        self.assertEqual({name: found for name, found in depths.items() if found[0] < found[1]}, {})
        self.assertGreater(max(depths.values()), (2, 2))

    def test_largest(self) -> None:
        """What runs in C is no square either: a hundred kilobytes and more of anything are read in an instant."""
        slow = []
        for name, made in READ.items():
            work = made(10_000)
            began = time.process_time()
            with contextlib.suppress(MalformedMessage, Reject):
                work()
            if time.process_time() - began > 1.0:
                slow.append(name)
        self.assertEqual(slow, [])

    def test_counter(self) -> None:
        """A square is seen where there is one, a line is not."""
        def square(n: int) -> None:
            for _ in range(n):
                split_list("," * n)
        self.assertTrue(curved([steps(partial(square, size)) for size in (20, 40, 60)]))
        self.assertFalse(curved([steps(partial(split_list, "," * size)) for size in (20, 40, 60)]))


class Serving(TestCase):
    """The real core, from the octets of a message to the last octets that go out for it."""

    def cost(self, size: int, method: str, lines: Callable[[int], list[str]]) -> int:
        """Lines for one message of a stranger, authentication off, to a user with one contact."""
        rig = Rig(auth={"required": False}, registrar={"open": True, "min_expires": 2})
        a, b = rig.phone("1001"), rig.phone("1002")
        rig.binding("1002", b.contact)
        uri = "sip:example.com" if method == "REGISTER" else "sip:1002@example.com"
        sent = a.request(method, uri, PADDING, *lines(size), to="<sip:1002@example.com>", send=False, contact="")
        counted = steps(lambda: a.send(sent.encode()))
        self.assertEqual(rig.bugs, [])
        return counted

    def test_requests(self) -> None:
        """Each kind of list a request may carry."""
        steep = []
        for method in ("INVITE", "MESSAGE", "REGISTER", "OPTIONS", "CANCEL", "ACK"):
            for name, lines in REQUESTS.items():
                counted = [self.cost(size, method, lines) for size in SIZES]
                if curved(counted):
                    steep.append(f"{method}, {name}: {counted}")
        self.assertEqual(steep, [])

    def test_responses(self) -> None:
        """A response with many Vias, Record-Routes, contacts, challenges."""
        steep = []
        for status in (180, 200, 302, 407, 503):
            for name, lines in RESPONSES.items():
                counted = [self.answered(size, status, lines) for size in SIZES]
                if curved(counted):
                    steep.append(f"{status}, {name}: {counted}")
        self.assertEqual(steep, [])

    def answered(self, size: int, status: int, lines: Callable[[int], list[str]]) -> int:
        """Lines for one response to an INVITE that forks to two, redirections followed."""
        rig = Rig(proxy={"recurse": True})
        a, b, c = rig.phone("1001"), rig.phone("1002"), rig.phone("x")
        rig.binding("1002", b.contact)
        rig.binding("1002", c.contact)
        a.invite("1002")
        response = b.answer(b.take("INVITE"), status, PADDING, *lines(size), send=False)
        counted = steps(lambda: b.send(response))
        self.assertEqual(rig.bugs, [])
        return counted


#: Values in one message: more than are taken (contacts, 20), fewer than are refused unread (Routes, 64).
SIZES = (30, 45, 60)
#: Makes every message so long that it is counted through.
PADDING = "X-Padding: " + "x" * 2000
#: Header lines by their number.
REQUESTS: dict[str, Callable[[int], list[str]]] = {
    "Vias": lambda n: ["Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1.x"] * n,
    "Vias in one line": lambda n: ["Via: " + ", ".join(["SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1"] * n)],
    "Routes": lambda n: ["Route: <sip:x@192.0.2.1;lr>"] * n,
    "Routes in one line": lambda n: ["Route: " + ",".join(["<sip:192.0.2.9;lr>"] * n)],
    "Record-Routes": lambda n: ["Record-Route: <sip:192.0.2.9;lr>"] * n,
    "contacts": lambda n: ["Contact: " + ",".join(f"<sip:{i}@192.0.2.9>;expires=60" for i in range(n))],
    "contacts, a line each": lambda n: [f"Contact: <sip:{i}@192.0.2.9>;expires=0" for i in range(n)],
    "paths": lambda n: ["Contact: <sip:a@192.0.2.9>", "Supported: path", *["Path: <sip:192.0.2.9;lr>"] * n],
    "options": lambda n: ["Require: " + ",".join(f"x{i}" for i in range(n))],
    "proxy options": lambda n: [f"Proxy-Require: x{i}" for i in range(n)],
    "credentials": lambda n: [f'Proxy-Authorization: Digest username="{i}"' for i in range(n)],
    "identities": lambda n: [f"P-Asserted-Identity: <sip:{i}@x>" for i in range(n)],
    "unknown": lambda n: [f"X{i}: x" for i in range(n)],
    "reasons": lambda n: ["Reason: " + ",".join(["SIP;cause=200"] * n)],
}
RESPONSES: dict[str, Callable[[int], list[str]]] = {
    "Vias": lambda n: ["Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK1"] * n,
    "Record-Routes": lambda n: ["Record-Route: <sip:192.0.2.9;lr>"] * n,
    "contacts": lambda n: [f"Contact: <sip:{i}@192.0.2.9>" for i in range(n)],
    "contacts in one line": lambda n: ["Contact: " + ",".join(f"<sip:{i}@192.0.2.9>;q=0.{i}" for i in range(n))],
    "challenges": lambda n: [f'Proxy-Authenticate: Digest realm="{i}", nonce="n"' for i in range(n)],
    "unknown": lambda n: ["X: x"] * n,
}


#: Expressions that look for more than one match, or begin anywhere; all others are matched at one place.
SEARCHED = frozenset({
    "sipd.message.params._DELIMITER", "sipd.message.params._QUOTED_PAIR", "sipd.message.uri._ESCAPE",
    "sipd.message.uri._KEPT", "sipd.message.address._TAG", "sipd.message.parser._FOLD",
    "sipd.message.framer._CONTENT_LENGTH", "sipd.auth.digest._AUTH_PARAM", "sipd.auth.digest._QUOTED_PAIR",
})
#: These are given text without white space at its end.
STRIPPED = frozenset({"sipd.auth.digest._AUTH_PARAM"})


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Every regular expression of the rooms that read the network, by name."""
    for path in sorted((ROOT / "sipd").glob("*/*.py")):
        if path.parent.name != "admin":
            module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
            for name, value in vars(module).items():
                found = getattr(value, "__self__", value)  # a bound method such as fullmatch
                if isinstance(found, re.Pattern):
                    yield f"{module.__name__}.{name}", found


def seconds(pattern: re.Pattern[Any], text: Any, searched: bool) -> float:
    """CPU time of reading a text in each way the expression is used."""
    began = time.process_time()
    pattern.fullmatch(text)
    pattern.match(text)
    if searched:
        pattern.findall(text)
    return time.process_time() - began


class Expressions(TestCase):
    """Regular expressions, whose steps nothing counts."""

    #: What the expressions repeat, and what goes before it and makes them fail after it.
    PIECES = ("a", " ", "\r\n ", ";a=b", "; ", "=", '\\"', "\\\\", "<", ",", "a, ", "%", "%3b", "1", "1.", "a:", "a@", "[:", "/",
              "\r\nl:5", "\r\nl ", ";tag", 'a="b",', "a =", " a", 'x" ')
    LEADS = ("", '"', "<", ";a=", ';a="', "sip:a@", "SIP/2.0/UDP a", "\r\nl:", 'a="', ";tag=", "1 ", "Digest a=")
    TAILS = ("", "\x00")
    #: Pieces in a text, and the bound in seconds: read in order of their length they take a fiftieth of it, in order of
    #: its square ten times as much.
    LENGTH, BOUND = 5000, 0.01

    def test_no_backtracking(self) -> None:
        """No expression goes over a text again and again, whatever is repeated in it, after any beginning."""
        slow = []
        found = dict(patterns())
        self.assertLessEqual(SEARCHED, found.keys())
        for name, pattern in found.items():
            for piece in self.PIECES:
                for lead in self.LEADS:
                    for tail in self.TAILS:
                        # header values are read stripped
                        text: Any = (lead + piece * self.LENGTH).rstrip(" \t\r\n" if name in STRIPPED else "") + tail
                        if isinstance(pattern.pattern, bytes):
                            text = text.encode()
                        searched = name in SEARCHED
                        # the best of some, since another process may have emptied the cache
                        if seconds(pattern, text, searched) > self.BOUND and min(
                                seconds(pattern, text, searched) for _ in range(5)) > self.BOUND:
                            slow.append((name, lead, piece, tail))
                            if len(slow) > 20:
                                self.fail(f"{slow}")
        self.assertEqual(slow, [])

    def test_clock(self) -> None:
        """The bound is passed where an expression does go over a text again and again."""
        self.assertGreater(seconds(re.compile(r"[ \t]*[\r\n]"), " " * self.LENGTH, True), self.BOUND)
