"""Bindings as a phone sees them: made, refreshed, listed, removed and run out (RFC 3261 s10.2, s10.3)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.address import Address
from sipd.message.message import Response
from tests.support.cases import shows
from tests.support.rig import Rig


def listed(answer: Response) -> dict[str, int]:
    """Contact URI to the seconds it has left."""
    found = [Address.parse(value) for value in answer.values("contact")]
    return {address.uri_text: int(address.params["expires"] or "") for address in found}


class Making(TestCase):
    """How long a binding is granted."""

    @shows("REG-01", "R3261-10.3-32")
    def test_one_contact(self) -> None:
        """The 200 lists the contact with what is left, has a To tag and a Date, and no Record-Route."""
        rig = Rig()
        a = rig.phone("1001")
        answer = a.register(expires=60)
        self.assertEqual(list(listed(answer)), [a.contact])
        self.assertTrue(1 <= listed(answer)[a.contact] <= 60)
        self.assertTrue(answer.to_tag)
        self.assertRegex(answer.first["date"], r"^[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$")
        self.assertNotIn("record-route", answer.first)
        rig.finish()

    @shows("REG-02", "R3261-7.3.3-01")
    def test_two_contacts(self) -> None:
        """Two contacts, in one line or in two, are both listed."""
        one, two = "sip:1001@192.0.2.50", "sip:1001@192.0.2.51"
        for lines, contact in (((), f"<{one}>, <{two}>"), ((f"m: <{two}>",), f"<{one}>"),
                               ((f"Contact:\t{two}",), f'"A, B" <{one}>;x="a,b"')):
            rig = Rig()
            answer = rig.phone("1001").register(*lines, contact=contact)
            self.assertEqual(set(listed(answer)), {one, two})
            rig.finish()

    @shows("REG-03", "R3261-10.3-20", "R3261-10.3-21", "R3261-10.3-22")
    def test_expiry_each(self) -> None:
        """The parameter counts for its contact, the Expires header for the one that has none, the default for neither."""
        rig = Rig()
        answer = rig.phone("1001").register(contact="<sip:1001@192.0.2.50>;expires=600, <sip:1001@192.0.2.51>",
                                            expires=60)
        self.assertEqual(listed(answer), {"sip:1001@192.0.2.50": 600, "sip:1001@192.0.2.51": 60})
        answer = rig.phone("1002").register(contact="sip:1002@192.0.2.50 ; EXPIRES = 600, sip:1002@192.0.2.51",
                                            expires=None)
        self.assertEqual(listed(answer), {"sip:1002@192.0.2.50": 600, "sip:1002@192.0.2.51": 3600})
        rig.finish()

    @shows("REG-04", "R3261-10.3-22")
    def test_default(self) -> None:
        """Without any expiry the configured default is granted and told."""
        for default in (3600, 1234):
            rig = Rig(registrar={"default_expires": default})
            a = rig.phone("1001")
            self.assertEqual(listed(a.register(expires=None)), {a.contact: default})
            rig.finish()

    @shows("REG-23", "R3261-10.3-23")
    def test_too_brief(self) -> None:
        """423 with Min-Expires and nothing stored, whether header or parameter asks; the minimum itself is granted."""
        rig = Rig(registrar={"min_expires": 60})
        a = rig.phone("1001")
        self.assertEqual(a.register(expires=59, take=423).first["min-expires"], "60")
        a.register(contact=f"<{a.contact}>;expires=1", take=423)
        a.register(contact=f"<sip:1001@192.0.2.50>;expires=60, <{a.contact}>;expires=30", take=423)
        self.assertEqual(listed(a.register(contact="", expires=None)), {})
        self.assertEqual(listed(a.register(expires=60)), {a.contact: 60})
        rig.finish()

    @shows("REG-23")
    def test_never_too_brief(self) -> None:
        """A removal and an hour are granted however high the minimum is."""
        rig = Rig(registrar={"min_expires": 3600})
        a = rig.phone("1001")
        a.register(expires=3599, take=423)
        self.assertEqual(listed(a.register(expires=3600)), {a.contact: 3600})
        self.assertEqual(listed(a.register(expires=0)), {})
        rig.finish()

    @shows("REG-24")
    def test_cut(self) -> None:
        """More than the maximum is cut to it, and the 200 tells."""
        rig = Rig(registrar={"max_expires": 7200})
        a = rig.phone("1001")
        for asked in (7201, 99999999, 2**31, 2**32 - 1, 2**32):
            self.assertEqual(listed(a.register(expires=asked)), {a.contact: 7200}, asked)
        rig.finish()

    @shows("REG-25")
    def test_no_number(self) -> None:
        """An expiry that is no number counts as the default; one that is too long as the maximum."""
        rig = Rig()
        a = rig.phone("1001")
        for text, granted in (("abc", 3600), ("-1", 3600), ("1.5", 3600), ("", 3600), ("\u0661", 3600), ("1e3", 3600),
                              ("9" * 400, 7200), ("00000000000000000000060", 60)):
            answer = a.register(f"Expires: {text}", expires=None)
            self.assertEqual(listed(answer), {a.contact: granted}, f"header {text!r}")
            if text:
                answer = a.register(contact=f"<{a.contact}>;expires={text}", expires=None)
                self.assertEqual(listed(answer), {a.contact: granted}, f"parameter {text!r}")
        rig.finish()

    @shows("REG-26")
    def test_too_many(self) -> None:
        """403 once a user would have more contacts than allowed, in one request or in all, and nothing of it stays."""
        rig = Rig(registrar={"max_contacts": 3})
        a = rig.phone("1001")
        contacts = [f"<sip:1001@192.0.2.{n}>" for n in range(50, 55)]
        a.register(contact=", ".join(contacts[:4]), take=403)
        self.assertEqual(listed(a.register(contact="", expires=None)), {})
        a.register(contact=", ".join(contacts[:2]))
        a.register(contact=", ".join(contacts[2:4]), take=403)
        self.assertEqual(len(listed(a.register(contact="", expires=None))), 2)
        self.assertEqual(len(listed(a.register(contact=contacts[2]))), 3)
        # one goes while another comes
        self.assertEqual(len(listed(a.register(contact=f"{contacts[0]};expires=0, {contacts[4]}"))), 3)
        rig.finish()

    @shows("REG-14")
    def test_q(self) -> None:
        """Each 200 tells the q of that moment."""
        rig = Rig()
        a = rig.phone("1001")
        for q, told in (("0.1", "0.1"), ("0.5", "0.5"), ("0.125", "0.125"), ("0", "0"), (None, None)):
            answer = a.register(contact=f"<{a.contact}>" + (f";q={q}" if q is not None else ""))
            self.assertEqual(Address.parse(answer.first["contact"]).params.get("q"), told)
        rig.finish()


class Refreshing(TestCase):
    """The same contact again (s10.3 step 7)."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.a = self.rig.phone("1001")
        self.assertEqual(listed(self.a.register(expires=100, call_id="one", cseq=5)), {self.a.contact: 100})
        self.rig.advance(40)

    def tearDown(self) -> None:
        self.rig.finish()

    @shows("REG-05", "R3261-10.3-30", "R3261-10.3-31")
    def test_query(self) -> None:
        """A REGISTER without Contact lists all bindings with the time left, whatever Expires says, and changes none."""
        self.a.register(contact="<sip:1001@192.0.2.50>", expires=1000, call_id="two")
        for expires in (None, 0, 3600):
            answer = self.a.register(contact="", expires=expires, call_id="one", cseq=1)
            self.assertEqual(listed(answer), {self.a.contact: 60, "sip:1001@192.0.2.50": 1000})
        self.rig.advance(10)
        self.assertEqual(listed(self.a.register(contact="", expires=None))[self.a.contact], 50)

    @shows("REG-06", "10.3/8")
    def test_query_of_nothing(self) -> None:
        """A user without bindings gets 200 without Contact."""
        self.assertNotIn("contact", self.rig.phone("1002").register(contact="", expires=None).first)

    @shows("REG-07", "R3261-10.3-25")
    def test_refresh(self) -> None:
        """Next CSeq: one binding, its time from the start."""
        self.assertEqual(listed(self.a.register(expires=100, call_id="one", cseq=6)), {self.a.contact: 100})

    @shows("REG-08", "REG-09", "R3261-10.3-26")
    def test_cseq_not_higher(self) -> None:
        """The same CSeq in a new transaction, or a lower one, is refused, removal included; the binding stays."""
        for cseq in (5, 4, 1):
            for expires in (100, 0):
                answer = self.a.register(expires=expires, call_id="one", cseq=cseq, take=None)
                self.assertTrue(400 <= answer.status < 600, answer.status)
        self.assertEqual(listed(self.a.register(contact="", expires=None)), {self.a.contact: 60})

    @shows("REG-08", "10.3", "R3261-10.3-05", "R3261-8.2-02")
    def test_all_or_nothing(self) -> None:
        """A request with a new contact beside one that comes too late stores neither (s10.3, atomicity)."""
        for pair in (f"<sip:1001@192.0.2.50>, <{self.a.contact}>", f"<{self.a.contact}>, <sip:1001@192.0.2.50>"):
            answer = self.a.register(contact=pair, call_id="one", cseq=5, take=None)
            self.assertTrue(400 <= answer.status < 600)
        self.assertEqual(listed(self.a.register(contact="", expires=None)), {self.a.contact: 60})

    @shows("REG-10", "R3261-10.3-24")
    def test_other_call_id(self) -> None:
        """From another Call-ID, after a restart of the phone say, any CSeq updates."""
        self.assertEqual(listed(self.a.register(expires=90, call_id="two", cseq=1)), {self.a.contact: 90})
        # and now it is the new pair that counts
        self.assertEqual(listed(self.a.register(expires=80, call_id="one", cseq=1)), {self.a.contact: 80})

    @shows("REG-07", "19.1.4")
    def test_same_contact_otherwise_written(self) -> None:
        """A contact equal by s19.1.4 is a refresh; one that differs where the rules say so is another binding."""
        host = self.a.host
        for text in (f"SIP:1001@{host}:5060", f"sip:%31001@{host}:5060", f"sip:1001@{host}:5060;newparam=5"):
            answer = self.a.register(contact=f"<{text}>")
            self.assertEqual(list(listed(answer)), [text])
        others = (f"sip:1001@{host}", f"sip:1001@{host}:5060;transport=udp", f"sips:1001@{host}:5060",
                  f"sip:1001@{host}:5060;user=phone", f"sip:1001@{host}:5060;maddr=192.0.2.9")
        for count, text in enumerate(others, 2):
            self.assertEqual(len(listed(self.a.register(contact=f"<{text}>"))), count, text)

    @shows("REG-11")
    def test_repeat(self) -> None:
        """The same datagram again within timer J gets the same octets; the registrar is not asked again."""
        request = self.a.request("REGISTER", "sip:example.com", "Expires: 100", to=f"<{self.a.aor}>", call_id="one",
                                 cseq=6, contact=f"<{self.a.contact}>")
        first = self.a.take(200)
        for _ in range(3):
            self.rig.advance(10)
            self.a.send(request.encode())
            self.assertEqual(self.a.take(200).encode(), first.encode())
        self.assertEqual(listed(self.a.register(contact="", expires=None)), {self.a.contact: 70})


class Removing(TestCase):
    """Bindings that go (s10.2.2, s10.3 step 6)."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.a = self.rig.phone("1001")
        self.one, self.two = "sip:1001@192.0.2.50", "sip:1001@192.0.2.51"
        self.a.register(contact=f"<{self.one}>", call_id="one", cseq=5, expires=3600)
        self.a.register(contact=f"<{self.two}>", call_id="two", cseq=7, expires=3600)

    def tearDown(self) -> None:
        self.rig.finish()

    def left(self) -> set[str]:
        return set(listed(self.a.register(contact="", expires=None)))

    @shows("REG-15")
    def test_one(self) -> None:
        """expires=0 on one contact removes it alone."""
        answer = self.a.register(contact=f"<{self.one}>;expires=0", expires=600)
        self.assertEqual(set(listed(answer)), {self.two})

    @shows("REG-16")
    def test_both(self) -> None:
        """Expires: 0 with both contacts removes both, and the 200 has no Contact."""
        self.assertNotIn("contact", self.a.register(contact=f"<{self.one}>, <{self.two}>", expires=0).first)

    @shows("REG-18")
    def test_unknown(self) -> None:
        """Removing what nobody registered is a 200, and what is there stays."""
        answer = self.a.register(contact="<sip:1001@192.0.2.99>", expires=0)
        self.assertEqual(set(listed(answer)), {self.one, self.two})

    @shows("REG-19", "R3261-10.3-17")
    def test_star(self) -> None:
        """Contact: * with Expires: 0 from another Call-ID leaves nothing; compact forms count."""
        self.assertNotIn("contact", self.a.register(contact="*", expires=0).first)
        self.assertEqual(self.left(), set())
        self.a.register(contact=f"<{self.one}>")
        self.assertNotIn("contact", self.a.register("m: *", contact="", expires=0).first)
        self.assertNotIn("contact", self.a.register(contact="*", expires=0).first, "with nothing left it is a 200 too")

    @shows("REG-20", "R3261-10.3-16")
    def test_bad_star(self) -> None:
        """Contact: * with another expiry, without one, or beside a contact gets 400 and changes nothing."""
        self.a.register(contact="*", expires=10, take=400)
        self.a.register(contact="*", expires=None, take=400)
        self.a.register("Expires: no number", contact="*", expires=None, take=400)
        self.a.register(contact=f"*, <{self.one}>", expires=0, take=400)
        self.a.register(contact=f"<{self.one}>, *", expires=0, take=400)
        self.a.register("Contact: *", contact=f"<{self.one}>", expires=0, take=400)
        self.a.register("Contact: *", contact="*", expires=0, take=400)
        self.a.register(contact="<*>", expires=0, take=400)
        self.a.register(contact="*;expires=0", expires=0, take=400)
        self.assertEqual(self.left(), {self.one, self.two})

    @shows("REG-21", "R3261-10.3-18", "R3261-10.3-19")
    def test_star_out_of_order(self) -> None:
        """Contact: * with the Call-ID of one binding and a CSeq not higher fails whole."""
        for cseq in (7, 6):
            answer = self.a.register(contact="*", expires=0, call_id="two", cseq=cseq, take=None)
            self.assertTrue(400 <= answer.status < 600)
            self.assertEqual(self.left(), {self.one, self.two})
        self.assertNotIn("contact", self.a.register(contact="*", expires=0, call_id="two", cseq=8).first)

    @shows("REG-22")
    def test_runs_out(self) -> None:
        """After its time a binding is not listed and not called: 480, and 404 for a user who never was."""
        self.a.register(contact=f"<{self.one}>, <{self.two}>", expires=0)
        b = self.rig.phone("1002")
        b.register(expires=2)
        call = self.a.invite("1002")
        self.a.take(100)
        b.refuse(486)
        self.a.ack(self.a.take(486), call)
        self.rig.advance(2.5)
        self.assertEqual(listed(b.register(contact="", expires=None)), {})
        call = self.a.invite("1002")
        self.a.ack(self.a.take(480), call)
        call = self.a.invite("nobody")
        self.a.ack(self.a.take(404), call)
        b.silent()
        self.rig.advance(1)
        self.assertIn(("registration-lost", "1002@example.com"),
                      [(kind, fields.get("aor")) for kind, fields in self.rig.records])
