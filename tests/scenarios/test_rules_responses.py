"""What comes back through the proxy, rule by rule (RFC 3261 s16.7 to s16.11), where no case of the list says it."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from tests.support.cases import shows
from tests.support.rig import DOMAIN, SERVER, Phone, Rig, established

#: Lines of a response that a proxy has no business with.
_LINES = ("X-One: a, b", "Server:  two  spaces", "Contact: <sip:b@192.0.2.99>;q=0.5", "Warning: 399 x \"y\"", "X-Two:c",
          "X-One: \tc,a", "s: first\r\n second", "WWW-Authenticate: Digest realm=\"r\"", "Record-Route: <sip:p.example;lr>",
          "Retry-After: 7 (busy)", "Unsupported: z", "Allow:", "X-Bytes: \udcff\udc80")


def pair(**settings: object) -> tuple[Rig, Phone, Phone]:
    """A caller and a callee that is registered."""
    rig = Rig(**settings)  # type: ignore[arg-type]
    a, b = rig.phone("1001"), rig.phone("1002")
    b.register()
    return rig, a, b


class Relayed(TestCase):
    """s16.7 steps 3, 5, 6, 8 and 9."""

    @shows("R3261-16.7-16", "R3261-16.7-26", "R3261-16.7-33", "R3261-16.7-34")
    def test_line_by_line(self) -> None:
        """Of any response only our Via is gone, whether it goes back at once or is chosen in the end: every other line is
        as it was and where it was, Record-Route too, and so is the body."""
        for status in (183, 200, 302, 401, 486, 500, 603):
            rig, a, b = pair()
            invite = a.invite("1002")
            a.take(100)
            got = b.take("INVITE")
            sent = b.answer(got, status, *_LINES, body=bytes(range(256)))
            raw = a.raw[-1]
            answer = a.take(status)
            via = f"Via: {got.all('via')[0]}\r\n".encode()
            self.assertEqual(raw, sent.encode().replace(via, b"", 1))
            self.assertEqual(answer.body, bytes(range(256)))
            if status < 200:
                b.answer(got, 486)
                answer = a.take(486)
            a.ack(answer, invite)
            b.drain()
            rig.finish()

    @shows("R3261-16.7-35", "18.2.1", "3581 4")
    def test_received_stays(self) -> None:
        """What we put into the caller's Via, received and rport, is in the request that leaves and in all that comes back."""
        rig = Rig()
        a, b = rig.phone("1001", "10.0.0.9", source=("203.0.113.4", 1024)), rig.phone("1002")
        a.via_params = ";rport"
        b.register()
        invite = a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        marked = got.values("via")[1]
        self.assertIn(";rport=1024", marked)
        self.assertIn(";received=203.0.113.4", marked)
        for status in (180, 486):
            b.answer(got, status)
            answer = a.take(status)
            self.assertEqual(answer.values("via"), [marked])
        b.take("ACK")
        a.ack(answer, invite)
        rig.finish()

    @shows("R3261-16.7-27", "R3261-16.7-28", "R3261-16.7-29")
    def test_to_tags(self) -> None:
        """A 1xx without To tag goes back without one; tags of 1xx, 2xx and refusals go back as they are, odd ones too."""
        for status in (200, 302, 404, 503, 600):
            rig, a, b = pair()
            invite = a.invite("1002")
            a.take(100)
            got = b.take("INVITE")
            bare = b.answer(got, 180, send=False)
            bare.set("to", got.first["to"])
            b.send(bare)
            self.assertEqual(a.take(180).first["to"], got.first["to"])
            for number, early in enumerate((180, 183)):
                to = b.answer(got, early, tag=f"X-{number}.%*").first["to"]
                self.assertEqual(a.take(early).first["to"], to)
            to = b.answer(got, status, tag="last~").first["to"]
            answer = a.take(500 if status == 503 else status)
            self.assertEqual(answer.first["to"] == to, status != 503)
            b.drain()
            a.ack(answer, invite)
            b.drain()
            rig.finish()

    @shows("R3261-16.7-30")
    def test_to_tag_within_a_dialog(self) -> None:
        """Within a dialog To goes back as it came, in every response, those that are made here among them."""
        rig, a, b = pair()
        _, _, _, ok = established(a, b)
        for status in (200, 481, 503, 600):
            a.in_dialog("INFO", ok, cseq=10 + status)
            b.answer(b.take("INFO"), status)
            self.assertEqual(a.take(500 if status == 503 else status).first["to"], ok.first["to"])
        for lines, status in ((("Max-Forwards: 0",), 483), (("Proxy-Require: x",), 420)):
            a.in_dialog("INFO", ok, *lines, cseq=status, max_forwards=None)
            self.assertEqual(a.take(status).first["to"], ok.first["to"])
        b.silent()
        rig.finish()

    @shows("R3261-16.7-31", "R3261-16.7-26")
    def test_challenges(self) -> None:
        """A 407 beside a 401 with two challenges, one of them in Proxy-Authenticate, and a 404: all challenges, in either
        header field, once each and unchanged, those of the response that was chosen included."""
        rig = Rig()
        a, phones = rig.phone("1001"), [rig.phone("1002") for _ in range(3)]
        for phone in phones:
            phone.register()
        a.request("MESSAGE", f"sip:1002@{DOMAIN}")
        one, two, three = (f'Digest realm="{name}",nonce="x=,y", qop="auth"' for name in ("one", "two", "three"))
        for phone, status, lines in zip(phones, (407, 401, 404), (
                (f"Proxy-Authenticate: {one}",), (f"WWW-Authenticate: {two}", f"Proxy-Authenticate: {three}"),
                ("WWW-Authenticate: Digest realm=\"never asked\"",)), strict=True):
            phone.answer(phone.take("MESSAGE"), status, *lines)
        answer = a.take()
        self.assertIn(answer.status, (401, 407))
        self.assertEqual(sorted(answer.all("proxy-authenticate")), sorted([one, three]))
        self.assertEqual(answer.all("www-authenticate"), [two])
        rig.finish()


class Chosen(TestCase):
    """s16.7 steps 5, 6 and 10 with responses in every order."""

    def final(self, *statuses: int, method: str = "INVITE") -> int:
        """The one final response when the phones of 1002 answer so, the first one first."""
        rig = Rig()
        a, phones = rig.phone("1001"), [rig.phone("1002") for _ in statuses]
        for phone in phones:
            phone.register()
        request = a.request(method, f"sip:1002@{DOMAIN}")
        if method == "INVITE":
            a.take(100)
        got = [phone.take(method) for phone in phones]
        for place, (phone, one, status) in enumerate(zip(phones, got, statuses, strict=True)):
            phone.answer(one, status)
            if place < len(phones) - 1:
                a.silent()
        answer = a.take()
        if method == "INVITE":
            a.ack(answer, request)
        for phone in phones:
            phone.drain()
        rig.finish()
        return int(answer.status)

    @shows("R3261-16.7-14", "R3261-16.7-17", "R3261-16.7-18", "R3261-16.7-20", "R3261-16.7-21", "R3261-16.7-22",
           "R3261-16.7-23", "R3261-16.7-24", "R3261-16.7-25")
    def test_best(self) -> None:
        """6xx before all, then the lowest class, then what tells how to ask again; 503 last, and as 500; in either order,
        for an INVITE and for a request that is none; nothing before the last has answered."""
        for statuses, best in (((603, 404), 603), ((302, 404), 302), ((486, 500), 486), ((486, 600), 600), ((404, 401), 401),
                               ((403, 407), 407), ((480, 415), 415), ((404, 420), 420), ((486, 484), 484), ((503, 500), 500),
                               ((503, 404), 404), ((503, 503), 500), ((501, 502, 302), 302)):
            for order in (statuses, statuses[::-1]):
                self.assertEqual(self.final(*order), best, order)
                self.assertEqual(self.final(*order, method="MESSAGE"), best, order)

    @shows("R3261-16.7-12", "R3261-16.7-11", "R3261-16.7-39", "R3261-16.7-38")
    def test_after_6xx(self) -> None:
        """A 6xx in the first step of serial forking: what rings beside it is cancelled, the next step never begins, and
        neither does what a 302 of the cancelled branch names; the 6xx goes up."""
        rig = Rig(proxy={"recurse": True})
        a, b, c, d, e = (rig.phone(f"100{number}") for number in (1, 2, 3, 4, 5))
        for phone, q in ((b, 1000), (c, 1000), (d, 500)):
            rig.binding("1002", phone.contact, q=q)
        invite = a.invite("1002")
        a.take(100)
        first, second = b.take("INVITE"), c.take("INVITE")
        c.answer(second, 180)
        a.take(180)
        b.answer(first, 600)
        b.take("ACK")
        a.silent()
        c.answer(c.take("CANCEL"), 200)
        c.answer(second, 302, f"Contact: <{e.contact}>")
        c.take("ACK")
        a.ack(a.take(600), invite)
        rig.advance(60)
        d.silent()
        e.silent()
        rig.finish()

    @shows("R3261-16.7-37", "R3261-16.7-38", "R3261-16.7-13")
    def test_after_the_final_response(self) -> None:
        """After the 200 went back the call is still minded: a branch that rings only then is cancelled, one that answers
        all the same has its 200 passed on, and the refusal of a third is acknowledged and goes nowhere."""
        rig = Rig()
        a, phones = rig.phone("1001"), [rig.phone("1002") for _ in range(4)]
        for phone in phones:
            phone.register()
        a.invite("1002")
        a.take(100)
        got: list[Request] = [phone.take("INVITE") for phone in phones]
        phones[0].answer(got[0], 200)
        a.ack(a.take(200))
        phones[0].take("ACK")
        rig.advance(1.2, 0.1)
        for phone in phones[1:]:
            phone.take_all("INVITE")
        phones[1].answer(got[1], 180)
        phones[1].answer(phones[1].take("CANCEL"), 200)
        phones[1].answer(got[1], 487)
        phones[1].take("ACK")
        phones[2].answer(got[2], 200)
        late = a.take(200)
        a.ack(late)
        self.assertEqual(phones[2].take("ACK").to_tag, late.to_tag)
        phones[3].answer(got[3], 486)
        phones[3].take("ACK")
        a.silent()
        rig.finish()


class Errors(TestCase):
    """s16.8 and s16.9."""

    @shows("R3261-16.6-42", "R3261-16.8-01", "R3261-16.8-02")
    def test_timer_c_of_each_branch(self) -> None:
        """Each branch has a timer C of its own: of two that rang, the one that rings anew goes on, the other is cancelled;
        the third, which has said nothing, is not."""
        rig = Rig(timers={"c": 20.0})
        a, phones = rig.phone("1001"), [rig.phone("1002") for _ in range(2)]
        silent = rig.phone("1002")
        for phone in (*phones, silent):
            phone.register()
        a.invite("1002")
        a.take(100)
        got = [phone.take("INVITE") for phone in phones]
        for phone, one in zip(phones, got, strict=True):
            phone.answer(one, 180)
            a.take(180)
        rig.advance(15)
        phones[0].answer(got[0], 180)
        a.take(180)
        rig.advance(8)
        self.assertEqual({one.method for one in silent.drain() if isinstance(one, Request)}, {"INVITE"})
        cancel = phones[1].take_all("CANCEL")[0]
        phones[1].answer(cancel, 200)
        phones[1].answer(got[1], 487)
        phones[1].take("ACK")
        phones[0].silent()
        rig.advance(5)
        phones[0].answer(got[0], 200)
        a.ack(a.take(200))
        phones[0].take("ACK")
        rig.finish()

    @shows("R3261-16.9-01", "R3261-16.7-25")
    def test_transport_error(self) -> None:
        """A refused connection or ICMP error is a 503 of that branch: alone 500, beside a better refusal that one, and in
        serial forking the next contact at once."""
        for others, seen in (((), 500), ((404,), 404), ((600,), 600), ((503,), 500)):
            rig = Rig()
            rig.network.icmp.add(("192.0.2.66", 5060))
            rig.binding("1002", "sip:1002@192.0.2.66")
            rig.binding("1002", "sip:1002@192.0.2.67;transport=tcp")
            a, phones = rig.phone("1001"), [rig.phone("1002") for _ in others]
            for phone in phones:
                phone.register()
            a.request("MESSAGE", f"sip:1002@{DOMAIN}")
            for phone, status in zip(phones, others, strict=True):
                phone.answer(phone.take("MESSAGE"), status)
            rig.advance(0.2, 0.1)
            a.take(seen)
            rig.finish()
        rig = Rig()
        rig.network.icmp.add(("192.0.2.66", 5060))
        rig.binding("1002", "sip:1002@192.0.2.66", q=1000)
        a, b = rig.phone("1001"), rig.phone("1002")
        rig.binding("1002", b.contact, q=500)
        a.request("MESSAGE", f"sip:1002@{DOMAIN}")
        rig.advance(0.1, 0.05)
        b.answer(b.take("MESSAGE"), 200)
        a.take(200)
        rig.finish()


class WithoutState(TestCase):
    """s16.11: the ACK of a 2xx."""

    @shows("R3261-16.11-01", "R3261-16.11-02", "R3261-16.11-03")
    def test_checked_and_silent(self) -> None:
        """In a call an ACK takes the way of a BYE, by Route or by maddr; with no hop left, a Request-URI of no scheme of
        ours or an unreadable one it is dropped; nothing of all that is answered."""
        rig, a, b = pair()
        x = rig.phone("1003", "192.0.2.77")
        _, _, _, ok = established(a, b)
        ours = ok.values("record-route")[0]
        fields = {"to": ok.first["to"], "from_": ok.first["from"], "call_id": ok.call_id}
        for uri, lines, phone in ((b.contact, (f"Route: {ours}",), b), (b.contact, (f"Route: {ours}, <sip:192.0.2.77;lr>",), x),
                                  (f"sip:1002@{DOMAIN};maddr=192.0.2.77", (f"Route: {ours}",), x)):
            a.request("ACK", uri, *lines, cseq=ok.cseq_number, **fields)
            got = phone.take("ACK")
            self.assertEqual(got.uri_text, uri)
            a.request("BYE", uri, *lines, cseq=50, **fields)
            bye = phone.take("BYE")
            self.assertEqual((bye.uri_text, bye.values("route")), (uri, got.values("route")))
            phone.answer(bye, 200)
            a.take(200)
        for uri, hops in ((b.contact, "0"), ("urn:x", "70"), ("sip:1002@", "70"), (f"{b.contact}?Subject=x", "70")):
            a.request("ACK", uri, f"Route: {ours}", cseq=ok.cseq_number, max_forwards=hops, **fields)
        for phone in (a, b, x):
            phone.silent()
        rig.finish()

    @shows("R3261-16.11-09", "R3261-16.11-10", "R3261-16.11-06")
    def test_branch(self) -> None:
        """The branch is the same for each repeat, and another one for another ACK: other Via, other Call-ID."""
        rig, a, b = pair()
        seen = []
        for branch, call_id in (("z9hG4bKa", "one"), ("z9hG4bKb", "one"), ("z9hG4bKa", "two"), ("old style", "two")):
            for _ in range(3):
                a.request("ACK", b.contact, to=f"<{b.aor}>;tag=t", from_=f"<{a.aor}>;tag=f", cseq=1, call_id=call_id,
                          via=f"Via: SIP/2.0/UDP {a.address}:5060;branch={branch.replace(' ', '')}")
                rig.advance(3)
            branches = {got.via.branch for got in b.take_all("ACK")}
            self.assertEqual(len(branches), 1)
            seen.append(branches.pop())
            self.assertTrue(seen[-1].startswith("z9hG4bK"))
        self.assertEqual(len(set(seen)), 4)
        rig.finish()

    @shows("R3261-16.11-04", "R3261-16.11-07", "16.5")
    def test_after_a_fork(self) -> None:
        """A caller that knows no Record-Route sends its ACK to the user it called: who answered has it, nobody else."""
        rig = Rig()
        a, phones = rig.phone("1001"), [rig.phone("1002") for _ in range(2)]
        for phone in phones:
            phone.register()
        for answering in range(2):
            a.invite("1002")
            a.take(100)
            got = [phone.take("INVITE") for phone in phones]
            phones[answering].answer(got[answering], 200)
            ok = a.take(200)
            a.request("ACK", f"sip:1002@{SERVER}", cseq=ok.cseq_number, to=ok.first["to"], from_=ok.first["from"],
                      call_id=ok.call_id)
            self.assertEqual(phones[answering].take("ACK").to_tag, ok.to_tag)
            other = phones[1 - answering]
            other.silent()
            other.answer(got[1 - answering], 486)
            other.take("ACK")
        rig.finish()
