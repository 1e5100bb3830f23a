"""What a proxy does not touch leaves octet for octet as it came (RFC 3261 s16.6 step 1), requests and responses alike."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from sipd.message.headers import canonical
from sipd.message.message import Message, Request
from sipd.message.parser import parse
from tests.fuzz.targets import untouched
from tests.message.messages import extra_line
from tests.support.properties import check
from tests.support.rig import Phone, Rig

#: Octets of any kind, but line ends; those that are no UTF-8 travel too.
_octets = st.binary(max_size=40).map(
    lambda data: data.replace(b"\r", b"").replace(b"\n", b"").decode("utf-8", "surrogateescape"))
_fold = st.sampled_from(["", " ", "\t", "\r\n ", "\r\n\t", " \r\n \r\n  ", "\r\n \t \r\n\t"])
_name = st.text("aZ09-.!%*_+`'~", min_size=1, max_size=12).map("x".__add__)
#: Lines that nobody here has to understand: unknown ones, and known ones whose values are odd or wrong.
_unknown = st.tuples(_name, st.sampled_from([":", " :", "\t:", ": ", " : "]), _octets, _fold, _octets).map(
    lambda parts: "".join(parts).rstrip("\r\n\t ")).filter(lambda line: ":" in line)
_known = st.tuples(
    st.sampled_from(["Subject", "s", "USER-AGENT", "Date", "Warning", "Accept", "allow", "k", "Supported", "Reason", "Server",
                     "Call-Info", "Organization", "Content-Language", "In-Reply-To", "Session-Expires", "x", "Event", "o"]),
    st.sampled_from([": ", ":", " \t:\t"]), _octets, _fold, _octets).map(lambda parts: "".join(parts).rstrip("\r\n\t "))
_lines = st.lists(_unknown | _known | extra_line, max_size=8, unique_by=lambda line: canonical(line.partition(":")[0]))


class Untouched(TestCase):
    """One server for all examples, authentication off; a message is sent to 1002 and answered."""

    def setUp(self) -> None:
        self.rig = Rig(auth={"required": False})
        self.b = self.rig.phone("1002")
        self.rig.binding("1002", self.b.contact)

    def relayed(self, caller: Phone, method: str, lines: list[str], back: list[str], body: bytes) -> None:
        """There and back."""
        b = self.b
        sent = caller.request(method, "sip:1002@example.com", *lines, body=body)
        if method == "INVITE":
            caller.take(100)
        got = b.take(method)
        self.same(sent, got)
        self.assertEqual(got.uri_text, b.contact)
        answer = b.answer(got, 486, *back, body=body)
        received = caller.take(486)
        self.same(answer, received)
        # s16.7 step 3: of the Vias ours is gone, and the caller's stands as we passed it on
        self.assertEqual(received.all("via"), answer.all("via")[1:])
        if method == "INVITE":
            b.take("ACK")
            caller.ack(received, sent)

    def same(self, sent: Message, got: Message) -> None:
        """All lines but ours, in their order, and the body, as octets."""
        encode = "\r\n".join
        self.assertEqual(encode(untouched(got)).encode("utf-8", "surrogateescape"),
                         encode(untouched(sent)).encode("utf-8", "surrogateescape"))
        self.assertEqual(got.body, sent.body)
        if isinstance(sent, Request):
            self.assertEqual(got.all("via")[-len(sent.all("via")):], sent.all("via"))

    def both(self, transport: str) -> None:
        """Runs the examples from a caller over a transport."""
        caller = self.rig.phone("1001", transport=transport)

        @check
        @given(st.sampled_from(["MESSAGE", "INVITE", "OPTIONS", "FOO"]), _lines, _lines, st.binary(max_size=60))
        def examples(method: str, lines: list[str], back: list[str], body: bytes) -> None:
            self.relayed(caller, method, lines, back, body)

        examples()
        self.rig.finish()

    def test_over_udp(self) -> None:
        """Datagrams in, datagrams out."""
        self.both("udp")

    def test_over_tcp(self) -> None:
        """A stream in, datagrams out."""
        self.both("tcp")

    def test_every_octet(self) -> None:
        """Each octet but CR and LF, in a header and in a body."""
        caller = self.rig.phone("1001")
        octets = bytes(n for n in range(256) if n not in b"\r\n")
        line = "X-All:" + octets.decode("utf-8", "surrogateescape") + "."
        self.relayed(caller, "MESSAGE", [line], [line], bytes(range(256)))
        (through,) = [packet.data for packet in self.rig.network.packets if packet.data.startswith(b"MESSAGE sip:1002@192")]
        self.assertIn(b"\r\nX-All:" + octets + b".\r\n", through)
        self.assertTrue(through.endswith(bytes(range(256))))
        self.assertEqual(parse(through).encode(), through)
        self.rig.finish()
