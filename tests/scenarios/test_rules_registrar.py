"""The registrar, rule by rule (RFC 3261 s10.3, RFC 3327), on the real core, where no case is about it."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from tests.support.cases import shows
from tests.support.rig import DOMAIN, Rig
from tests.support.stores import WaitingStore

PATH = "<sip:edge.example.net;lr>"


class Commits(TestCase):
    """s10.3: order, independence, and when bindings are seen."""

    def setUp(self) -> None:
        self.store = WaitingStore()
        self.rig = Rig(store=self.store)
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")

    def register(self, contact: str, cseq: int, call_id: str = "one") -> None:
        """Sends a REGISTER of the second user; nothing comes back yet."""
        self.b.request("REGISTER", f"sip:{DOMAIN}", to=f"<{self.b.aor}>", contact=contact, cseq=cseq, call_id=call_id)

    def seen(self) -> list[str]:
        """The contacts a query of the second user lists."""
        answer = self.b.register(contact="", expires=None)
        return [value.partition(">")[0][1:] for value in answer.values("contact")]

    @shows("R3261-10.3-27", "R3261-8.2-02")
    def test_seen_when_stored(self) -> None:
        """While the store has not answered, the user is not there, for calls and for queries; then all contacts are."""
        self.register(f"<{self.b.contact}>, <sip:1002@192.0.2.50>", 1)
        self.assertEqual(self.seen(), [])
        invite = self.a.invite("1002")
        self.a.ack(self.a.take(480), invite)
        self.b.silent()
        self.store.waiting.pop(0)("")
        self.assertEqual(len(self.b.take(200).values("contact")), 2)
        self.assertEqual(self.seen(), [self.b.contact, "sip:1002@192.0.2.50"])
        self.rig.finish()

    @shows("R3261-10.3-27", "R3261-10.3-28", "R3261-10.3-29")
    def test_commit_fails(self) -> None:
        """The store fails: 500 and nothing of the new contacts is left, what was there before is; the same request can be
        made again."""
        self.register("<sip:1002@192.0.2.50>", 1)
        self.store.waiting.pop(0)("")
        self.b.take(200)
        self.register("<sip:1002@192.0.2.50>;expires=0, <sip:1002@192.0.2.51>", 2)
        self.store.waiting.pop(0)("no space")
        self.assertEqual(self.b.take(500).all("contact"), [])
        self.assertEqual(self.seen(), ["sip:1002@192.0.2.50"])
        self.rig.advance(40)
        self.register("<sip:1002@192.0.2.50>;expires=0, <sip:1002@192.0.2.51>", 2)
        self.store.waiting.pop(0)("")
        self.b.take(200)
        self.assertEqual(self.seen(), ["sip:1002@192.0.2.51"])
        self.rig.finish()

    @shows("R3261-10.3-04", "R3261-10.3-26")
    def test_order(self) -> None:
        """Requests on their way to the store count for those after them: the last one's word holds, and one that comes too
        late is refused at once."""
        self.register("<sip:1002@192.0.2.50>;q=0.1", 1)
        self.register("<sip:1002@192.0.2.50>;q=0.2", 3)
        self.register("<sip:1002@192.0.2.50>;q=0.9", 2)
        self.b.take(400)
        for done in self.store.waiting:
            done("")
            self.b.take(200)
        self.assertEqual([one.q for one in self.rig.core.location.bindings("1002@example.com")], [200])
        self.rig.finish()

    @shows("R3261-10.3-06")
    def test_independence(self) -> None:
        """Of three REGISTERs on their way, one fails: the others stand, each by itself, and so does another user's."""
        for number in (1, 2, 3):
            self.register(f"<sip:1002@192.0.2.5{number}>", number, call_id=f"call{number}")
        self.a.request("REGISTER", f"sip:{DOMAIN}", to=f"<{self.a.aor}>", contact=f"<{self.a.contact}>")
        for done, reason in zip(self.store.waiting, ("", "no space", "", ""), strict=True):
            done(reason)
        for status in (200, 500, 200):
            self.b.take(status)
        self.a.take(200)
        self.assertEqual(self.seen(), ["sip:1002@192.0.2.51", "sip:1002@192.0.2.53"])
        self.assertEqual(len(self.rig.core.location.bindings("1001@example.com")), 1)
        self.rig.finish()


class Others(TestCase):
    """What else s10.3 says."""

    @shows("R3261-10.3-01")
    def test_no_6xx(self) -> None:
        """Whatever is wrong with a REGISTER, its answer is a 4xx or 5xx."""
        rig = Rig(registrar={"max_contacts": 1, "min_expires": 60})
        a = rig.phone("1001")
        own = f"<{a.contact}>"
        wrong: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
                ((), {"contact": f"{own}, <sip:1001@192.0.2.99>"}), ((), {"contact": "*"}), ((), {"contact": "<sip:>"}),
                (("Require: x",), {}), (("Proxy-Require: x",), {}), (("Path: <sip:x;lr>",), {}), ((), {"uri": "urn:x:y"}),
                ((), {"to": "<sip:nobody@example.com>"}), ((), {"to": "<tel:+1>"}), ((), {"to": "<sip:x@y.example>"}),
                ((), {"contact": f"{own};expires=1"}), ((), {"uri": "sip:example.com?x=y"}), ((), {"max_forwards": "0", "uri": "sip:far.example"}))
        for lines, fields in wrong:
            answer = a.register(*lines, take=None, **{"contact": own, **fields})
            self.assertTrue(400 <= answer.status < 600, (lines, fields, answer.status))
        self.assertEqual(len(rig.core.location), 0)
        rig.finish()

    @shows("R3261-10.3-02", "R3261-10.3-03")
    def test_record_route(self) -> None:
        """Record-Route, good or broken, is in no response to a REGISTER, 200 or refusal, and calls do not follow it."""
        rig = Rig()
        a, b, edge = rig.phone("1001"), rig.phone("1002"), rig.phone("1003", "192.0.2.77")
        for value in (f"<sip:{edge.address};lr>", "<<", f"<sip:{edge.address}>, <sip:x;lr>"):
            kinds: tuple[dict[str, Any], ...] = ({"take": 200}, {"take": 420, "more": "Require: x"}, {"take": 404, "to": "<sip:nobody@example.com>"})
            for fields in kinds:
                answer = b.register(f"Record-Route: {value}", fields.pop("more", "Subject: x"), **fields)
                self.assertNotIn("record-route", answer.first)
            a.request("MESSAGE", f"sip:1002@{DOMAIN}")
            got = b.take("MESSAGE")
            self.assertNotIn("route", got.first)
            b.answer(got, 200)
            a.take(200)
        edge.silent()
        rig.finish()


class Path(TestCase):
    """RFC 3327."""

    @shows("R3327-5.2-01", "R3327-5.2-02", "R3327-5.2-03", "R3261-10.3-07")
    def test_passed_on(self) -> None:
        """A REGISTER for another domain goes on without a Path of ours, whatever its phone supports, and with those it has;
        the Path of the response comes back octet for octet."""
        rig = Rig()
        a, foreign = rig.phone("1001"), rig.phone("x", "198.51.100.5")
        rig.dns.address("elsewhere.example", "198.51.100.5")
        for lines, path in ((("Supported: path",), []), ((), []), (("Supported: path", f"Path: {PATH}"), [PATH])):
            a.request("REGISTER", "sip:elsewhere.example", *lines, to="<sip:me@elsewhere.example>", contact=f"<{a.contact}>")
            got = foreign.take("REGISTER")
            self.assertEqual((got.all("path"), "require" in got.first), (path, False))
            odd = ("path :<sip:p1.example;lr>,  <sip:p2.example>;x=\"y\"", "Path: \"Q\" <sip:%70.example;lr>")
            foreign.answer(got, 200, *odd)
            raw = a.raw[-1]
            a.take(200)
            for line in odd:
                self.assertIn(f"\r\n{line}\r\n".encode(), raw)
        self.assertEqual(len(rig.core.location), 0)
        rig.finish()

    @shows("R3261-8.2.4-01", "R3261-8.2.4-02")
    def test_support(self) -> None:
        """Path is stored for phones that say they support it and for no others; who supports nothing gets plain SIP."""
        rig = Rig()
        a = rig.phone("1001")
        for lines in ((), ("Supported:",), ("Supported: pathology, gruu",), ("Require: path",), ("Allow: path",)):
            refusal = a.register(f"Path: {PATH}", *lines, take=420)
            self.assertEqual(refusal.values("unsupported"), ["path"])
            self.assertEqual(len(rig.core.location), 0)
        plain = a.register()
        self.assertTrue({"path", "require", "supported", "flow-timer", "service-route"}.isdisjoint(plain.first))
        self.assertEqual(a.register(f"Path: {PATH}", "k: gruu,Path").values("path"), [PATH])
        rig.finish()

    @shows("R3327-6.1-01")
    def test_protected(self) -> None:
        """With an S/MIME copy in the body, which is not read here, Supported outside of it does not count: no Path is
        stored, be the body required or optional."""
        rig = Rig()
        a = rig.phone("1001")
        for kind in ("multipart/signed;boundary=b", "application/pkcs7-mime; smime-type=enveloped-data", "Application/X-PKCS7-MIME",
                     "Multipart / Signed;boundary=b"):
            for lines, status in (((), 415), (("Content-Disposition: attachment;handling=optional",), 420)):
                request = a.request("REGISTER", f"sip:{DOMAIN}", f"Path: {PATH}", "Supported: path", *lines, to=f"<{a.aor}>",
                                    contact=f"<{a.contact}>", send=False)
                data = request.encode().replace(b"Content-Length: 0", f"Content-Type: {kind}\r\nContent-Length: 3".encode())
                a.send(data + b"--b")
                a.take(status)
        self.assertEqual(len(rig.core.location), 0)
        rig.finish()
