"""The copies that go on and back (RFC 3261 s16.6, s16.7 step 3; RFC 5393)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from sipd.message.message import Request, Response
from sipd.message.parser import parse
from sipd.proxy.forward import add_via, has_looped, loop_mark, max_forwards, prepare, strip_via
from tests.support.cases import shows

_REST = ("From: <sip:a@example.com>;tag=1", "To: <sip:b@example.com>", "Call-ID: c")


def request(*lines: str, vias: tuple[str, ...] = ("SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK2",),
            uri: str = "sip:b@example.com", body: str = "") -> Request:
    """An OPTIONS with these header lines."""
    text = "\r\n".join([f"OPTIONS {uri} SIP/2.0", *(f"Via: {via}" for via in vias), *_REST, "CSeq: 1 OPTIONS", *lines, "",
                        body])
    message = parse(text.encode())
    assert isinstance(message, Request)
    return message


def response(*vias: str) -> Response:
    """A 200 with these Via lines."""
    text = "\r\n".join(["SIP/2.0 200 OK", *vias, *_REST, "CSeq: 1 OPTIONS", "", ""])
    message = parse(text.encode())
    assert isinstance(message, Response)
    return message


class Prepare(TestCase):
    """`prepare` and `max_forwards`."""

    def test_counts_down(self) -> None:
        """s16.6 step 3: one less, where it stood; the original stays as it was."""
        original = request("Max-Breadth: 60", "Max-Forwards: 10", "X-After: 1")
        copy = prepare(original)
        self.assertEqual(copy.get("max-forwards"), "9")
        self.assertEqual([header[2] for header in copy.headers][-2:], ["Max-Forwards: 9", "X-After: 1"])
        self.assertEqual(original.get("max-forwards"), "10")
        self.assertIn(b"Max-Forwards: 10\r\n", original.encode())

    def test_absent(self) -> None:
        """s16.6 step 3: without one it gets 70."""
        self.assertEqual(prepare(request()).get("max-forwards"), "70")

    def test_everything_else(self) -> None:
        """What the proxy does not touch leaves octet for octet."""
        original = request("Max-Breadth: 60", "Max-Forwards: 70", "s: x", "X-Odd:  a\t b ", "X-Fold: one\r\n  two", body="b\x00dy")
        self.assertEqual(prepare(original).encode(), original.encode().replace(b"Max-Forwards: 70", b"Max-Forwards: 69"))

    def test_not_a_number(self) -> None:
        """s20.22: 0 to 255, written as digits; leading zeros are digits; anything else counts as absent."""
        for text, value in (("0", 0), ("255", 255), ("007", 7), ("256", 71), ("-1", 71), ("", 71), ("1e2", 71),
                            ("\u0663", 71), ("\u00b2", 71), ("9" * 5000, 71)):
            self.assertEqual(max_forwards(text), value, text)


class Via(TestCase):
    """`add_via` and `strip_via`."""

    @shows("R5393-4.2.1-01")
    def test_add(self) -> None:
        """s16.6 steps 4 and 8: our Via above all others, then our Record-Route above those there were."""
        copy = request("Record-Route: <sip:old;lr>").copy()
        add_via(copy, "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=", "z9hG4bKnew", ["<sip:t@one;lr>", "<sip:t@two;lr>"], False)
        again = parse(copy.encode())
        assert again.via is not None
        self.assertEqual(again.via.branch, "z9hG4bKnew")
        self.assertEqual(len(again.all("via")), 2)
        self.assertEqual(again.values("record-route"), ["<sip:t@one;lr>", "<sip:t@two;lr>", "<sip:old;lr>"])
        self.assertEqual(copy.first["via"], "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKnew")

    def test_content_length(self) -> None:
        """s18.3: a request that came by UDP without Content-Length gets one on a stream, and only there."""
        for stream in (True, False):
            copy = request(body="12345").copy()
            add_via(copy, "Via: SIP/2.0/TCP 192.0.2.1:5060;branch=", "z9hG4bKnew", [], stream)
            self.assertEqual(copy.get("content-length"), "5" if stream else None)

    def test_strip(self) -> None:
        """s16.7 step 3: the topmost value goes, from a line of its own or from the front of a list."""
        ours, theirs, last = ("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK2",
                              "SIP/2.0/TCP h;branch=z9hG4bK3")
        for lines in ((f"Via: {ours}", f"Via: {theirs}", f"Via: {last}"), (f"v: {ours}, {theirs}", f"v: {last}"),
                      (f"Via: {ours}", f"v: {theirs},{last}"), (f"VIA : {ours} ,\r\n {theirs},  {last}",)):
            message = response(*lines)
            self.assertTrue(strip_via(message))
            self.assertEqual(message.values("via"), [theirs, last], lines)
            assert parse(message.encode()).via is not None
            self.assertEqual(parse(message.encode()).via.branch, "z9hG4bK2")  # type: ignore[union-attr]
            self.assertTrue(message.first["via"].startswith(theirs))

    def test_strip_last(self) -> None:
        """A response without another Via is meant for nobody behind us."""
        self.assertFalse(strip_via(response("Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1")))

    @given(st.lists(st.sampled_from(["SIP/2.0/UDP a;branch=z9hG4bK1", 'SIP/2.0/TCP b:1;x="1,2"', "SIP/2.0/TLS [::1];rport"]),
                    min_size=1, max_size=6), st.randoms())
    @settings(max_examples=100, deadline=None)
    def test_round_trip(self, vias: list[str], dice: object) -> None:
        """What `add_via` puts on, `strip_via` takes off, however the Vias below stand in lines."""
        lines, rest = [], list(vias)
        while rest:
            count = dice.randint(1, len(rest))  # type: ignore[attr-defined]
            lines.append(", ".join(rest[:count]))
            del rest[:count]
        copy = request(vias=tuple(lines)).copy()
        add_via(copy, "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=", "z9hG4bKnew", [], False)
        answer = response(*(f"Via: {value}" for value in copy.all("via")))
        self.assertTrue(strip_via(answer))
        self.assertEqual(answer.values("via"), vias)


class Loops(TestCase):
    """`loop_mark` and `has_looped`."""

    def setUp(self) -> None:
        """Our sent-by."""
        self.own = {"192.0.2.1:5060"}

    @shows("R5393-4.2.2-02", "R5393-4.2.2-04")
    def test_loop(self) -> None:
        """RFC 5393 s4.2.2: the same Request-URI again below our own Via is a loop, in a list of Vias too."""
        mark = loop_mark(request())
        ours = f"SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK00.{mark}"
        other = "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK2"
        for vias in ((other, ours), (f"{other}, {ours}",), (ours,)):
            self.assertTrue(has_looped(request(vias=vias), mark, self.own))

    @shows("R5393-4.2.1-04", "R5393-4.2.2-03")
    def test_spiral(self) -> None:
        """Another Request-URI is a spiral: its mark differs."""
        mark = loop_mark(request())
        changed = request(uri="sip:c@example.com", vias=(f"SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK00.{mark}",))
        self.assertNotEqual(loop_mark(changed), mark)
        self.assertFalse(has_looped(changed, loop_mark(changed), self.own))

    @shows("R5393-4.2.2-02")
    def test_somebody_elses_via(self) -> None:
        """The mark in another server's Via, or elsewhere in ours, is no loop of ours."""
        mark = loop_mark(request())
        self.assertFalse(has_looped(request(vias=(f"SIP/2.0/UDP 192.0.2.8:5060;branch=z9hG4bK00.{mark}",)), mark, self.own))
        self.assertFalse(has_looped(request(vias=(f"SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{mark}",)), mark, self.own))

    @shows("R5393-4.2.1-05")
    def test_route_counts(self) -> None:
        """What the Route decides is part of the mark; what decides nothing is not."""
        self.assertNotEqual(loop_mark(request("Route: <sip:x;lr>")), loop_mark(request()))
        self.assertEqual(loop_mark(request("Max-Forwards: 3", "Subject: x")), loop_mark(request()))

    def test_two_calls_alike(self) -> None:
        """RFC 5393 s4.2.4: the marks of two requests that differ in their Call-ID alone differ too."""
        other = parse(request().encode().replace(b"Call-ID: c", b"Call-ID: d"))
        assert isinstance(other, Request)
        self.assertNotEqual(loop_mark(other), loop_mark(request()))
