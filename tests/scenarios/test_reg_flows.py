"""How a registered contact is reached: Path, instances, connections, NAT (RFC 3327, RFC 5626 s6, s18)."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from sipd.message.address import Address
from sipd.message.message import Request
from sipd.message.parser import parse
from tests.support.cases import shows
from tests.support.rig import LISTEN, Phone, Rig

_INSTANCE = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"'


class PathTest(TestCase):
    """Path of a REGISTER that came through an edge proxy (RFC 3327)."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.a = self.rig.phone("1001")
        self.edge = self.rig.phone("1002", "192.0.2.80")
        self.count = 0

    def register(self, *lines: str, take: int = 200) -> list[str]:
        """The Path of the answer to a REGISTER for a phone behind the edge."""
        self.count += 1
        via = (f"Via: SIP/2.0/UDP 192.0.2.80;branch=z9hG4bKedge{self.count}\r\n"
               f"Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKphone{self.count}")
        answer = self.edge.register(*lines, contact="<sip:1002@10.0.0.9>", via=via, take=take)
        self.assertEqual(len(answer.all("via")), 2)
        return answer.values("path")

    def invited(self) -> Request:
        """The INVITE at the edge, which answers it 486."""
        invite = self.a.invite("1002")
        self.a.take(100)
        got = self.edge.take("INVITE")
        assert isinstance(got, Request)
        self.edge.answer(got, 486)
        self.edge.take("ACK")
        self.a.ack(self.a.take(486), invite)
        return got

    @shows("REG-37", "3327 5.4")
    def test_path(self) -> None:
        """The 200 repeats every Path value in order; a call has them as Route in that order, its Request-URI the contact."""
        path = ["<sip:192.0.2.80;lr;x=1>", "<sip:edge2.example.net;lr>"]
        for lines in (("Path: " + ", ".join(path), "Supported: path"),
                      (f"Path: {path[0]}", f"path: {path[1]}", "k: foo, PATH")):
            self.assertEqual(self.register(*lines), path)
            got = self.invited()
            self.assertEqual(got.values("route"), path)
            self.assertEqual(got.uri_text, "sip:1002@10.0.0.9")
        # without Path the next time, it is gone
        self.assertEqual(self.register("Supported: path"), [])
        self.assertEqual(self.rig.core.location.bindings("1002@example.com")[0].path, ())
        self.rig.finish()

    @shows("REG-37", "3327 5.3")
    def test_require_path(self) -> None:
        """Require: path is an option that is known here."""
        self.assertEqual(self.register("Path: <sip:192.0.2.80;lr>", "Supported: path", "Require: path"),
                         ["<sip:192.0.2.80;lr>"])
        self.rig.finish()

    @shows("REG-37", "3327 5.3", "R3261-8.2.4-01")
    def test_phone_that_does_not_know(self) -> None:
        """Path without Supported: path is refused with 420 and Unsupported, as s5.3 recommends."""
        self.edge.register("Path: <sip:192.0.2.80;lr>", take=420)
        self.assertEqual(len(self.rig.core.location), 0)
        self.rig.finish()

    @shows("REG-37", "16.6")
    def test_strict_edge(self) -> None:
        """An edge whose Path has no lr gets itself in the Request-URI, the contact last in Route."""
        self.register("Path: <sip:192.0.2.80>", "Supported: path")
        got = self.invited()
        self.assertEqual((got.uri_text, got.values("route")), ("sip:192.0.2.80", ["<sip:1002@10.0.0.9>"]))
        self.rig.finish()


class Instances(TestCase):
    """+sip.instance with reg-id (RFC 5626 s6)."""

    @shows("REG-38")
    def test_new_address(self) -> None:
        """The same instance and reg-id from a new address replaces the binding; another reg-id adds one."""
        rig = Rig()
        a = rig.phone("1001")
        for number, (host, reg_id, left) in enumerate((("192.0.2.50", 1, 1), ("192.0.2.51", 1, 1), ("192.0.2.52", 2, 2),
                                                       ("192.0.2.53", 1, 2), ("192.0.2.53", 1, 2)), 1):
            uri = f"sip:1001@{host}"
            answer = a.register("Supported: path, outbound", contact=f"<{uri}>;{_INSTANCE};reg-id={reg_id}",
                                call_id=f"c{number}")
            found = [Address.parse(value) for value in answer.values("contact")]
            self.assertEqual(len(found), left)
            mine = next(one for one in found if one.uri_text == uri)
            self.assertEqual(mine.params["reg-id"], str(reg_id))
            self.assertIn(_INSTANCE, mine.param_text)
            # outbound itself is not offered, so it may not be required of the phone (s6)
            self.assertNotIn("outbound", answer.values("require"))
        rig.finish()

    @shows("REG-38")
    def test_instance_alone(self) -> None:
        """An instance without reg-id, or a reg-id without an instance, is an ordinary contact parameter."""
        for params in (_INSTANCE, "reg-id=1"):
            rig = Rig()
            a = rig.phone("1001")
            a.register(contact=f"<sip:1001@192.0.2.50>;{params}")
            self.assertEqual(len(a.register(contact=f"<sip:1001@192.0.2.51>;{params}").values("contact")), 2)
            rig.finish()


class Streams(TestCase):
    """Registrations over connections."""

    @shows("REG-39")
    def test_a_hundred_in_a_row(self) -> None:
        """A hundred REGISTERs on one connection are answered, each once and in order, and the last one counts."""
        for transport in ("tcp", "tls"):
            rig = Rig()
            a = rig.phone("1001", transport=transport)
            for cseq in range(1, 101):
                a.request("REGISTER", "sip:example.com", to=f"<{a.aor}>", from_=f"<{a.aor}>;tag=1", call_id="one",
                          cseq=cseq, contact=f"<{a.contact}>;expires={1000 + cseq}")
            answers = a.take_all(200)
            self.assertEqual([answer.cseq_number for answer in answers], list(range(1, 101)))
            self.assertIn("expires=1100", answers[-1].first["contact"])
            self.assertEqual(len(answers[-1].values("contact")), 1)
            rig.finish()

    @shows("REG-40")
    def test_two_users_at_once(self) -> None:
        """Two users at one address, their requests and even their Call-IDs interleaved, do not meet."""
        rig = Rig(clock=Clock())
        a, b = rig.phone("1001", "192.0.2.30"), rig.phone("1002", "192.0.2.30", port=5070)
        for cseq in (1, 2, 3):
            for phone in (a, b):
                phone.request("REGISTER", "sip:example.com", "Expires: 600", to=f"<{phone.aor}>", call_id="shared",
                              cseq=cseq, contact=f"<{phone.contact}>", branch=f"z9hG4bK{cseq}")
        for phone in (a, b):
            for answer in phone.take_all(200):
                self.assertEqual([Address.parse(one).uri_text for one in answer.values("contact")], [phone.contact])
        a.register(expires=0)
        self.assertEqual(len(rig.core.location.bindings("1002@example.com")), 1)
        rig.finish()

    def ring(self, caller: Phone, name: str, last: int) -> None:
        """A call that ends with the status `last`."""
        invite = caller.invite(name)
        caller.rig.advance(40)
        answers = caller.drain()
        self.assertEqual(getattr(answers[-1], "status", 0), last, caller.rig.ladder())
        caller.ack(answers[-1], invite)  # type: ignore[arg-type]

    @shows("REG-41")
    def test_connection_taken_over(self) -> None:
        """The phone's connection ends and somebody connects from its address and port: no call goes there."""
        for transport in ("tcp", "tls"):
            for source in (None, ("192.0.2.90", 40123)):
                rig = Rig()
                a, b = rig.phone("1001"), rig.phone("1002", "192.0.2.20", transport, source=source)
                b.register()
                assert b.connection is not None
                local = b.connection.local
                b.connection.close()
                newcomer = rig.phone("1003", local[0], transport, source=local)
                assert newcomer.connection is not None and newcomer.connection.local == local
                newcomer.register()
                newcomer.drain()
                self.ring(a, "1002", 480 if source else 500)  # s16.7 step 6: no 503 upstream
                newcomer.silent()
                rig.finish()

    @shows("REG-41", "18.1")
    def test_connection_stands(self) -> None:
        """While the connection stands calls use it, whatever the contact says; a new one takes over with a refresh."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002", "10.0.0.5", "tcp", source=("192.0.2.90", 40123))
        for _ in (1, 2):
            b.register()
            invite = a.invite("1002")
            a.take(100)
            b.refuse(603)
            a.ack(a.take(603), invite)
            assert b.connection is not None
            b.connection.close()
            rig.phones.remove(b)
            b = rig.phone("1002", "10.0.0.5", "tcp", source=("192.0.2.90", 40124))
        self.ring(a, "1002", 480)
        rig.finish()


class Elsewhere(TestCase):
    """A REGISTER may come another way than the contact is reached."""

    @shows("TRN-09", "16.6/7", "3263 4.1")
    def test_udp_contact_by_tcp(self) -> None:
        """A contact that says transport=udp is called by UDP though its REGISTER came over TCP; one that came over TLS,
        or says nothing, or has the word in its user part alone, is called over the connection."""
        for stream, written, by_udp in (("tcp", ";transport=udp", True), ("tcp", ";x=y;Transport=UDP", True),
                                        ("tcp", "", False), ("tls", ";transport=udp", False)):
            rig = Rig()
            a, b = rig.phone("1001"), rig.phone("1002", "192.0.2.60", stream)
            c = rig.phone("1002", "192.0.2.60")
            b.register(contact=f"<sip:1002@192.0.2.60:5060{written}>")
            a.request("MESSAGE", "sip:1002@example.com")
            asked, other = (c, b) if by_udp else (b, c)
            asked.answer(asked.take("MESSAGE"), 200)
            a.take(200)
            other.silent()
            rig.finish()
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002", "192.0.2.60", "tcp")
        b.register(contact="<sip:1002;transport=udp@192.0.2.60>")
        a.request("MESSAGE", "sip:1002@example.com")
        b.answer(b.take("MESSAGE"), 200)
        a.take(200)
        rig.finish()

    @shows("TRN-18", "10.3")
    def test_other_family_of_this_machine(self) -> None:
        """From this very machine ::1 can be meant beside 127.0.0.1, and the other way round: neither is behind a NAT."""
        for source, contact in (("127.0.0.1", "::1"), ("::1", "127.0.0.1")):
            rig = Rig(listen=(("udp", "127.0.0.1", 5060), ("udp", "::1", 5060)))
            a, b = rig.phone("1001", "127.0.0.2"), rig.phone("1002", source, port=5071)
            c = rig.phone("1002", contact, port=5072)
            b.register(contact=f"<{c.contact}>")
            a.request("MESSAGE", "sip:1002@example.com")
            c.answer(c.take("MESSAGE"), 200)
            a.take(200)
            b.silent()
            rig.finish()


class Nat(TestCase):
    """Phones behind a translator."""

    def called(self, rig: Rig, b: Phone) -> Request:
        a = rig.phone("1001", "192.0.2.150")
        invite = a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        assert isinstance(got, Request)
        b.answer(got, 486)
        b.take("ACK")
        a.ack(a.take(486), invite)
        return got

    @shows("REG-01", "3581 4")
    def test_udp(self) -> None:
        """A phone with a private address is called at the place its REGISTER came from, by the URI it gave."""
        rig = Rig()
        b = rig.phone("1002", "192.168.1.5", source=("198.51.100.7", 31000))
        via = "Via: SIP/2.0/UDP 192.168.1.5:5060;rport;branch=z9hG4bKn"
        answer = b.register(via=via)
        self.assertEqual(Address.parse(answer.first["contact"]).uri_text, b.contact)
        self.assertIn("rport=31000", answer.first["via"])
        self.assertIn("received=198.51.100.7", answer.first["via"])
        self.assertEqual(self.called(rig, b).uri_text, b.contact)
        rig.finish()

    @shows("REG-01", "18.2.2")
    def test_ipv6(self) -> None:
        """A phone with an IPv6 address registers and is called."""
        rig = Rig(listen=(*LISTEN, ("udp", "2001:db8::1", 5060)))
        b = rig.phone("1002", "2001:db8::22")
        answer = b.register()
        self.assertEqual(Address.parse(answer.first["contact"]).uri_text, "sip:1002@[2001:db8::22]:5060")
        self.assertEqual(self.called(rig, b).uri_text, "sip:1002@[2001:db8::22]:5060")
        rig.finish()

    @shows("REG-01", "10.3")
    def test_contact_elsewhere(self) -> None:
        """A public contact at another place than the phone's own, and no NAT in sight, is called where it says."""
        rig = Rig()
        b, other = rig.phone("1002", "192.0.2.20"), rig.phone("1002", "192.0.2.21")
        b.register(contact="<sip:desk@192.0.2.21:5060>")
        self.assertEqual(self.called(rig, other).uri_text, "sip:desk@192.0.2.21:5060")
        b.silent()
        rig.finish()

    @shows("REG-11", "17.2.2")
    def test_many_repeats(self) -> None:
        """A REGISTER repeated by an impatient phone before and after its answer was lost changes the store once."""
        rig = Rig()
        b = rig.phone("1002")
        first = b.request("REGISTER", "sip:example.com", to=f"<{b.aor}>", contact=f"<{b.contact}>", call_id="x", cseq=9)
        for _ in range(5):
            b.send(first.encode())
        answers = {bytes(answer) for answer in b.raw}
        self.assertEqual(len(answers), 1)
        self.assertEqual(len(b.take_all(200)), 6)
        self.assertEqual(sum(kind.startswith("registration") for kind, _ in rig.records), 1)
        # after timer J the transaction is gone: the same octets are a new request, out of order, and change nothing
        rig.advance(33)
        b.send(first.encode())
        self.assertTrue(400 <= parse(b.raw[-1]).status < 600)  # type: ignore[union-attr]
        b.drain()
        self.assertEqual(len(rig.core.location), 1)
        rig.finish()

    @shows("REG-11", "8.2.6.2")
    def test_tag_of_a_repeat(self) -> None:
        """The To tag of an answer over UDP is drawn: a repeat gets it again from the transaction, and another one when that
        is gone. Over a stream no transaction is left, and the tag follows from the request: the same for the same octets,
        whenever they come, and another for another request."""
        rig = Rig()
        datagrams, stream = rig.phone("1001"), rig.phone("1002", transport="tcp")
        tags = []
        for phone in (datagrams, stream):
            query, other = (phone.request("REGISTER", "sip:example.com", to=f"<{phone.aor}>", send=False) for _ in range(2))
            tags.append([])
            for seconds, request in ((0, query), (1, query), (33, query), (0, other)):
                rig.advance(seconds)
                phone.send(request)
                tags[-1].append(phone.take(200).to_tag)
        for first, repeat, later, another in tags:
            self.assertEqual(repeat, first)
            self.assertNotEqual(another, later)
            self.assertTrue(first and another)
        (drawn, _, again, _), (follows, _, still, _) = tags
        self.assertNotEqual(again, drawn)
        self.assertEqual(still, follows)
        rig.finish()
