"""The messages of RFC 4475: each is sent twice over UDP and TCP, with authentication off and on, and gets its verdict."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import TestCase

from sipd.message.address import Address
from sipd.message.message import Message, Request
from tests.support.cases import shows
from tests.support.rig import Rig
from tests.support.torture import DEVICE, ELSEWHERE, STRICT_ROUTER, Seen, Verdict, ordinary, send_twice, verdicts

#: What our own hand changes in a request that is forwarded (RFC 3261 s16.6).
_CHANGED = ("via", "max-forwards", "max-breadth", "route", "record-route", "content-length")
#: What a response repeats (s8.2.6.2); To may get a tag.
_REPEATED = ("from", "call-id", "cseq")


def _outcomes(seen: Seen) -> set[str]:
    """The statuses the sender got, "forward" in place of what a device said, "none" when nothing came of it."""
    statuses = {str(reply.status) for reply in seen.finals}
    if seen.forwarded:
        return (statuses - {"200"}) | {"forward"}
    return statuses or {"none"}


class Torture(TestCase):
    """Every message, every way."""

    def _all(self, auth: bool, over: str) -> None:
        problems = []
        for verdict in verdicts():
            try:
                self._one(verdict, auth, over)
            except Exception as error:
                problems.append(f"{verdict.file}: {type(error).__name__}: {error}")
        self.assertEqual(problems, [], "\n".join(problems))

    def _one(self, verdict: Verdict, auth: bool, over: str) -> None:
        seen = send_twice(verdict, auth, over)
        allowed = verdict.expect if over == "udp" else verdict.stream
        if auth and allowed & {"forward", "200", "404", "480"}:
            # whoever is a stranger is asked who they are, before anything is told
            allowed = frozenset({"401", "407"} | (allowed & {"400"}))
        outcomes = _outcomes(seen)
        self.assertTrue(outcomes <= allowed, f"wanted {sorted(allowed)}, got {sorted(outcomes)}\n{seen.rig.ladder()}")
        self._same_tag(seen)
        for reply in seen.finals:
            self._repeats(reply, seen)
        for request in seen.requests:
            self._whole(request, seen)
        if check := _MUST_NOT.get(verdict.file):
            check(self, seen)
        ordinary(seen.rig)

    def _same_tag(self, seen: Seen) -> None:
        """s8.2.7, s17.2: the repeat gets what the first got; after a 2xx an INVITE is absorbed (RFC 6026)."""
        tags = {(reply.status, reply.call_id, reply.first.get("to")) for reply in seen.finals}
        calls = {reply.call_id for reply in seen.finals}
        self.assertLessEqual(len(tags), max(1, len(calls)), f"the repeat got another answer: {tags}")
        if not seen.forwarded and seen.finals:
            self.assertEqual(len(seen.replies[0]), len(seen.replies[1]) + len(seen.stale), "the repeat was not answered as the first")

    def _repeats(self, reply: Message, seen: Seen) -> None:
        """s8.2.6.2: what a response repeats comes back octet for octet, in as many values."""
        sent = seen.sent
        if sent is None or reply.call_id != sent.call_id or seen.verdict.file == "multi01.dat":
            return
        for name in _REPEATED:
            self.assertEqual(reply.first.get(name), sent.first.get(name), f"{name} in the answer")
        if "to" in sent.first:
            self.assertTrue(reply.first["to"].startswith(sent.first["to"]), "To in the answer")
        self.assertEqual(reply.all("via")[1:], sent.all("via")[1:], "the lower Via values in the answer")
        assert sent.via is not None
        self.assertTrue(reply.first["via"].startswith(sent.via.text.partition(";")[0]), "the topmost Via in the answer")

    def _whole(self, request: Request, seen: Seen) -> None:
        """s16.6: what a proxy does not change leaves as it came, the body to the last octet."""
        sent = seen.sent
        assert sent is not None
        if request.call_id != sent.call_id:
            return
        lines = [header[2] for header in sent.headers if header[0] not in _CHANGED]
        self.assertEqual([header[2] for header in request.headers if header[0] not in _CHANGED], lines)
        self.assertEqual(request.body, sent.body)
        vias = request.values("via")
        self.assertTrue(vias[0].startswith("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK") or "192.0.2.1;" in vias[0], vias[0])
        self.assertEqual(len(vias), len(sent.values("via")) + 1)
        self.assertEqual(vias[2:], sent.values("via")[1:])
        before = int(sent.first.get("max-forwards", "71"))
        self.assertEqual(int(request.first["max-forwards"]), before - 1)

    @shows("ROB-01", "VAL-15", "4475")
    def test_udp_open(self) -> None:
        """Over UDP, where everybody counts as authenticated."""
        self._all(False, "udp")

    @shows("ROB-01", "4475")
    def test_udp_auth(self) -> None:
        """Over UDP, where strangers are challenged."""
        self._all(True, "udp")

    @shows("ROB-01", "4475")
    def test_tcp_open(self) -> None:
        """Over TCP, each message in one piece."""
        self._all(False, "tcp")

    @shows("ROB-01", "TRN-03", "4475")
    def test_tcp_open_in_pieces(self) -> None:
        """Over TCP in segments of 7 octets."""
        self._all(False, "tcp in pieces")

    @shows("ROB-01", "4475")
    def test_tcp_auth_in_pieces(self) -> None:
        """Over TCP in segments of 7 octets, where strangers are challenged."""
        self._all(True, "tcp in pieces")

    def test_table(self) -> None:
        """The table names every file there is, once."""
        from tests.support.torture import VECTORS

        files = sorted(str(path.relative_to(VECTORS)) for path in VECTORS.rglob("*.dat"))
        self.assertEqual(sorted(verdict.file for verdict in verdicts()), files)

    # --- what must not happen, by message

    def nothing_bound(self, seen: Seen) -> None:
        """No binding was stored; `user` has the one of the device from the start."""
        for name in ("watson", "resource", "j.user", "John_Smith"):
            self.assertEqual([one.contact for one in seen.bound(name) if DEVICE not in one.contact], [])
        self.assertEqual([one.contact for one in seen.bound("user")], [f"sip:device@{DEVICE}:5060"])

    def wsinv(self, seen: Seen) -> None:
        """It went along its Route; 0068 is 68."""
        if seen.requests:
            self.assertEqual({address for address, _ in seen.forwarded}, {ELSEWHERE["services.example.com"]})
            self.assertEqual(seen.requests[0].first["max-forwards"], "67")
            data = seen.forwarded[0][1]
            self.assertIn(b"NewFangledHeader:   newfangled value\r\n continued newfangled value\r\n", data)
            self.assertIn(b"UnknownHeaderWithUnusualValue: ;;,,;;,;\r\n", data)

    def intmeth(self, seen: Seen) -> None:
        """NUL, BEL and escapes went along."""
        for request in seen.requests:
            self.assertEqual(request.method, "!interesting-Method0123456789_*+`.%indeed'~")
            self.assertIn(b"\\\x00", seen.forwarded[0][1])

    def to_device(self, seen: Seen) -> None:
        """It went to the device of the user named, nowhere else."""
        self.assertEqual({address for address, _ in seen.forwarded} - {DEVICE}, set())

    def escnull(self, seen: Seen) -> None:
        """Two contacts of the user whose name holds a NUL."""
        for reply in seen.finals:
            if reply.status == 200:
                uris = sorted(Address.parse(value).uri_text for value in reply.values("contact"))
                self.assertEqual(uris, ["sip:%00%00@host5.example.com", "sip:%00@host5.example.com"])
        self.assertEqual(seen.bound("null-"), [])

    def dblreq(self, seen: Seen) -> None:
        """Over UDP one answer, and nobody is called."""
        if seen.over == "udp":
            self.assertEqual([len(replies) for replies in seen.replies], [1, 1])
            self.assertEqual(seen.forwarded, [])
        else:
            self.assertEqual(len(seen.replies[0]) >= 2, True)

    def mpart01(self, seen: Seen) -> None:
        """To the strict router, with the Request-URI last in Route (s16.6 step 6)."""
        for request in seen.requests:
            self.assertEqual(request.uri_text, "sip:127.0.0.1:5080")
            self.assertEqual(request.values("route"), ["<sip:kumiko@example.org>"])
            self.assertEqual(len(request.body), 553)
        self.assertEqual({address for address, _ in seen.forwarded} - {STRICT_ROUTER}, set())
        self.assertTrue(seen.finals)

    def closed(self, seen: Seen) -> None:
        """The framing is lost: over TCP the connection ends."""
        if seen.stream is not None:
            self.assertTrue(seen.stream.closed)

    def never_whole(self, seen: Seen) -> None:
        """Over TCP the rest is waited for, but not for ever."""
        if seen.stream is not None:
            self.assertFalse(seen.stream.closed)
            seen.rig.advance(61.0, 1.0)
            self.assertTrue(seen.stream.closed)

    def bext01(self, seen: Seen) -> None:
        """A proxy speaks of what Proxy-Require says."""
        for reply in seen.finals:
            self.assertEqual(reply.values("unsupported"), ["noProxiesSupportThis", "norDoAnyProxiesSupportThis"])

    def regaut01(self, seen: Seen) -> None:
        """A scheme nobody knows is met with a challenge that can be met."""
        for reply in seen.finals:
            if reply.status == 401:
                self.assertTrue(reply.first["www-authenticate"].startswith("Digest "))

    def cparam01(self, seen: Seen) -> None:
        """unknownparam is the contact's."""
        for reply in seen.finals:
            if reply.status == 200:
                contact = self._contact(reply, "gw1.example.net")
                self.assertNotIn("unknownparam", contact.uri_text)

    def cparam02(self, seen: Seen) -> None:
        """unknownparam is the URI's."""
        for reply in seen.finals:
            if reply.status == 200:
                contact = self._contact(reply, "gw1.example.net")
                self.assertIn(";unknownparam", contact.uri_text)
                self.assertNotIn("unknownparam", contact.param_text)

    def regescrt(self, seen: Seen) -> None:
        """The header in the contact's URI comes back."""
        for reply in seen.finals:
            if reply.status == 200:
                self.assertEqual(self._contact(reply, "user@").uri_text,
                                 "sip:user@example.com?Route=%3Csip:sip.example.com%3E")

    def inv2543(self, seen: Seen) -> None:
        """The body is the rest of the datagram; what stood in Record-Route stays under ours."""
        for request in seen.requests:
            self.assertEqual(len(request.body), 105)
            self.assertEqual(request.first["max-forwards"], "70")
            self.assertEqual(request.values("record-route")[-1], "<sip:UserB@example.com;maddr=ss1.example.com>")

    def _contact(self, reply: Message, part: str) -> Address:
        found = [Address.parse(value) for value in reply.values("contact")]
        return next(address for address in found if part in address.uri_text)


_MUST_NOT: dict[str, Callable[[Torture, Seen], None]] = {
    "wsinv.dat": Torture.wsinv, "intmeth.dat": Torture.intmeth, "esc01.dat": Torture.to_device,
    "escnull.dat": Torture.escnull, "esc02.dat": Torture.nothing_bound, "dblreq.dat": Torture.dblreq,
    "semiuri.dat": Torture.to_device, "transports.dat": Torture.to_device, "mpart01.dat": Torture.mpart01,
    "clerr.dat": Torture.never_whole, "baddn.dat": Torture.never_whole, "ncl.dat": Torture.closed,
    "mcl01.dat": Torture.closed, "scalar02.dat": Torture.nothing_bound, "regbadct.dat": Torture.nothing_bound,
    "unksm2.dat": Torture.nothing_bound, "bext01.dat": Torture.bext01, "regaut01.dat": Torture.regaut01,
    "cparam01.dat": Torture.cparam01, "cparam02.dat": Torture.cparam02, "regescrt.dat": Torture.regescrt,
    "inv2543.dat": Torture.inv2543,
}


class TortureInCalls(TestCase):
    """What the messages mean inside a call of their own."""

    @shows("ROB-01", "4475")
    def test_reasons(self) -> None:
        """3.1.1.12, 3.1.1.13: a reason phrase in UTF-8, and an empty one, reach the caller as they are."""
        for phrase in ("= 2**3 * 5**2 \u043d\u043e \u0441\u0442\u043e \u0434\u0435\u0432\u044f\u043d\u043e\u0441\u0442\u043e", ""):
            rig = Rig()
            a, b = rig.phone("1001"), rig.phone("1002")
            b.register()
            invite = a.invite("1002")
            a.take(100)
            got = b.take("INVITE")
            b.answer(got, 183, reason=phrase)
            self.assertEqual(a.take(183).reason, phrase)
            b.answer(got, 486, reason=phrase)
            answer = a.take(486)
            self.assertEqual(answer.reason, phrase)
            a.ack(answer, invite)
            b.take("ACK")
            rig.finish()

    @shows("ROB-01", "4475")
    def test_odd_numbers(self) -> None:
        """3.1.2.5, 3.1.2.19: a response with an impossible status or CSeq changes nothing; the call goes on."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register()
        invite = a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        good = b.answer(got, 486, send=False).encode()
        for bad in (good.replace(b"SIP/2.0 486", b"SIP/2.0 4294967301"), good.replace(b"SIP/2.0 486", b"SIP/7.0 200"),
                    good.replace(b"CSeq: 1 ", b"CSeq: 36893488147419103232 "), good.replace(b"CSeq: 1 INVITE", b"CSeq: 1 BYE")):
            b.send(bad)
            a.silent()
        b.send(good)
        a.ack(a.take(486), invite)
        b.take("ACK")
        rig.finish()

    @shows("ROB-01", "17.2.3")
    def test_branch_of_the_cookie_alone(self) -> None:
        """3.2.1: two requests whose branch is the bare cookie are two, and so are those without any."""
        for branch in (";branch=z9hG4bK", ""):
            rig = Rig()
            a, b = rig.phone("1001"), rig.phone("1002")
            b.register()
            for number in (1, 2):
                a.request("MESSAGE", "sip:1002@example.com", via=f"Via: SIP/2.0/UDP {a.address}{branch}", call_id=f"c{number}")
                got = b.take("MESSAGE")
                self.assertEqual(got.call_id, f"c{number}")
                b.answer(got, 200)
                a.take(200)
            rig.finish()
