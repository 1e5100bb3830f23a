"""Loop detection and Max-Breadth, rule by rule, on the real core (RFC 5393)."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from tests.support.cases import shows
from tests.support.network import MemoryNetwork
from tests.support.rig import DOMAIN, SERVER, Phone, Rig


def parts(request: Request) -> tuple[str, str]:
    """The two parts of the topmost branch."""
    assert request.via is not None
    first, _, second = request.via.branch.partition(".")
    return first, second


class Branches(TestCase):
    """s4.2.1."""

    def setUp(self) -> None:
        """A caller, and a phone that is registered."""
        self.rig = Rig()
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        self.b.register()

    def mark(self, uri: str, method: str = "MESSAGE", call_id: str = "same") -> str:
        """The second part of the branch with which a request arrives; the first is looked at here."""
        self.a.request(method, uri, "Event: conference", call_id=call_id)
        got = self.b.take(method)
        self.b.answer(got, 200)
        self.a.take(200)
        first, second = parts(got)
        self.assertTrue(first.startswith("z9hG4bK"))
        self.assertGreater(len(first), 15)
        self.assertNotIn(first, self.firsts)
        self.firsts.add(first)
        return second

    @shows("R5393-4.2.1-02", "R5393-4.2.1-03", "R5393-4.2.1-04", "R5393-4.2.1-05", "R5393-4.2.1-06", "R5393-4.2.4-01")
    def test_two_parts(self) -> None:
        """The first part never comes twice. The second is the same for each method, another for another Request-URI,
        though it means the same user, and another for another Call-ID."""
        self.firsts: set[str] = set()
        uri = f"sip:1002@{DOMAIN}"
        mark = self.mark(uri)
        self.assertTrue(mark)
        for method in ("MESSAGE", "INFO", "SUBSCRIBE", "OPTIONS"):
            self.assertEqual(self.mark(uri, method), mark)
        others = [self.mark(other) for other in (f"sip:1002@{DOMAIN};x=1", "sip:1002@alias.example.com", f"sip:1002@{SERVER}",
                                                 f"sip:%31002@{DOMAIN}", "tel:1002")]
        others.append(self.mark(uri, call_id="other"))
        self.assertEqual(len({mark, *others}), 7)
        self.rig.finish()

    @shows("R5393-4.2.1-01", "R5393-4.2.1-07", "9.1", "17.1.1.3")
    def test_cancel_and_ack(self) -> None:
        """Both parts of the INVITE's branch stand in its CANCEL and in the ACK of its refusal; our Via is above the
        caller's, and alone in those two."""
        invite = self.a.invite("1002")
        self.a.take(100)
        got = self.b.take("INVITE")
        assert invite.via is not None
        self.assertEqual(len(got.values("via")), 2)
        self.assertIn(invite.via.branch, got.values("via")[1])
        self.assertTrue(parts(got)[1])
        self.b.answer(got, 180)
        self.a.take(180)
        self.a.cancel(invite)
        self.a.take(200)
        cancel = self.b.take("CANCEL")
        self.b.answer(cancel, 200)
        self.b.answer(got, 487)
        ack = self.b.take("ACK")
        for request in (cancel, ack):
            self.assertEqual((parts(request), len(request.values("via"))), (parts(got), 1))
        self.a.ack(self.a.take(487), invite)
        self.rig.finish()

    @shows("R5393-4.2.1-03", "R5393-4.1-01", "16.6/8")
    def test_copies(self) -> None:
        """Each copy of a fork has a first part of its own; the second is that of the request."""
        c = self.rig.phone("1002")
        c.register()
        self.a.request("MESSAGE", f"sip:1002@{DOMAIN}")
        one, two = self.b.take("MESSAGE"), c.take("MESSAGE")
        self.assertNotEqual(parts(one)[0], parts(two)[0])
        self.assertEqual(parts(one)[1], parts(two)[1])
        self.b.answer(one, 200)
        self.a.take(200)
        c.answer(two, 200)
        self.rig.finish()


class Looped(TestCase):
    """s4.2.2: a request that comes back."""

    def setUp(self) -> None:
        """A user whose contact is at a server that sends everything back; another user of ours with a phone."""
        self.rig = Rig()
        self.a, self.mirror, self.c = self.rig.phone("1001"), self.rig.phone("1003", "192.0.2.66"), self.rig.phone("1003")
        self.rig.binding("1002", f"sip:1002@{self.mirror.address}")
        self.c.register()
        self.uri = f"sip:1002@{DOMAIN}"
        self.a.request("MESSAGE", self.uri)
        self.got = self.mirror.take("MESSAGE")

    def back(self, vias: list[str], uri: str = "") -> None:
        """The request comes back with these Via lines."""
        head, *lines = self.got.encode().decode().split("\r\n")
        lines = [line for line in lines if not line.startswith("Via:")]
        head = f"MESSAGE {uri or self.uri} SIP/2.0"
        self.mirror.send("\r\n".join([head, *(f"Via: {via}" for via in vias), *lines]).encode())

    def end(self) -> None:
        """The mirror gives up."""
        self.mirror.answer(self.got, 480)
        self.a.take(480)
        self.rig.finish()

    @shows("R5393-4.2.2-01", "R5393-4.2.2-02", "R5393-4.2.2-04", "VAL-17")
    def test_wherever_our_via_stands(self) -> None:
        """482 at once and nothing sent on, whether our Via is the second, in a list, or far below others of all legal
        kinds."""
        ours, callers = self.got.values("via")
        odd = ['SIP/2.0/SCTP [2001:db8::9]:7;branch=z9hG4bK.;x;y="a,b;c=\\"";z', "SIP/2.0/UDP host.example.net",
               "SIP / 2.0 / TLS-SCTP h:1 ;ttl=1;maddr=h.example;branch=old", f"SIP/2.0/UDP 192.0.2.9;branch={parts(self.got)[0]}"]
        for number, vias in enumerate(([ours, callers], [f"{ours}, {callers}"], [*odd, ours, callers],
                                       [f"{', '.join(odd)} ,  {ours}", callers], [callers, *odd, f"{odd[0]},{ours}"])):
            own = f"SIP/2.0/UDP {self.mirror.address};branch=z9hG4bKmirror{number}"
            before = len(self.rig.network.packets)
            self.back([own, *vias])
            self.mirror.take(482)
            self.assertEqual(len(self.rig.network.packets), before + 2)
        self.end()

    @shows("R5393-4.2.2-02", "R5393-4.2.2-03", "VAL-18")
    def test_no_loop(self) -> None:
        """Nothing is wrong with a request for another user, nor with our branch in a Via of somebody else."""
        ours, callers = self.got.values("via")
        own = f"SIP/2.0/UDP {self.mirror.address};branch=z9hG4bKmirror"
        self.back([f"{own}1", ours, callers], f"sip:1003@{DOMAIN}")
        self.c.answer(self.c.take("MESSAGE"), 200)
        self.mirror.take(200)
        self.back([f"{own}2", ours.replace(SERVER, "192.0.2.9"), callers])
        again = self.mirror.take("MESSAGE")
        self.mirror.answer(again, 200)
        self.mirror.take(200)
        self.end()


class Attacks(TestCase):
    """s3."""

    @shows("R5393-4.1-01", "R5393-4.2.2-04", "VAL-17")
    def test_one_account(self) -> None:
        """Two contacts of a user that are the user's own address with some parameter each: 10 requests in all, as the
        RFC counts them, and a 482."""
        rig = Rig()
        for name in ("whack", "thud"):
            rig.binding("1002", f"sip:1002@{DOMAIN};unknown-param={name}")
        a = rig.phone("1001")
        invite = a.invite("1002")
        a.take(100)
        rig.advance(0.5, 0.05)
        a.ack(a.take(482), invite)
        sent = [packet for packet in rig.network.packets if packet.data.startswith(b"INVITE ")]
        self.assertLessEqual(len({packet.data for packet in sent}), 11)
        rig.finish()

    @shows("R5393-4.1-01", "R5393-4.2.2-04", "VAL-17")
    def test_two_servers(self) -> None:
        """Two users at each of two servers, all forwarded to both users of the other: 14 requests, as the RFC counts
        them, not 2 to the power of 71."""
        clock = Clock()
        network = MemoryNetwork(clock)
        rigs = [Rig(listen=(("udp", address, 5060),), clock=clock, network=network, server={"domains": [f"p{address[-1]}.example"]})
                for address in ("192.0.2.1", "192.0.2.2")]
        for rig, other in zip(rigs, ("192.0.2.2", "192.0.2.1"), strict=True):
            for name in ("1002", "1003"):
                aor = f"{name}@example.com"
                for contact in ("1002", "1003"):
                    rig.binding(name, f"sip:{contact}@{other}")
                self.assertEqual(len(rig.core.location.bindings(aor)), 2)
        a = rigs[0].phone("1001")
        invite = a.invite("sip:1002@192.0.2.1")
        a.take(100)
        rigs[0].advance(0.5, 0.05)
        a.ack(a.take(482), invite)
        sent = {packet.data for packet in network.packets if packet.data.startswith(b"INVITE ")}
        self.assertLessEqual(len(sent), 15)
        for rig in rigs:
            rig.finish()


class Breadth(TestCase):
    """s5.3.3."""

    def setUp(self) -> None:
        """A caller."""
        self.rig = Rig(proxy={"recurse": True}, registrar={"max_contacts": 10})
        self.a = self.rig.phone("1001")

    def callees(self, count: int, name: str = "1002") -> list[Phone]:
        """Phones of one user."""
        phones = [self.rig.phone(name) for _ in range(count)]
        for phone in phones:
            phone.register()
        return phones

    @staticmethod
    def breadth(request: Request) -> int:
        """The only Max-Breadth of a request."""
        (text,) = request.values("max-breadth")
        return int(text)

    @shows("R5393-5.3.3-06", "R5393-5.3.3-08")
    def test_shares_add_up(self) -> None:
        """Whatever comes, to however many phones: all of it is shared out and no more, each phone with one at least."""
        phones = self.callees(7)
        for came, lines in ((60, ()), (60, ("Max-Breadth: 61",)), (33, ("Max-Breadth: 33",)), (7, ("Max-Breadth: 7",))):
            self.a.request("MESSAGE", f"sip:1002@{DOMAIN}", *lines)
            shares = []
            for phone in phones:
                got = phone.take("MESSAGE")
                shares.append(self.breadth(got))
                phone.answer(got, 200)
            self.a.take(200)
            self.assertEqual((sum(shares), min(shares)), (came, came // 7))
        self.rig.finish()

    @shows("R5393-5.3.3-03", "R5393-5.3.3-04", "R5393-5.3.3-05")
    def test_one_value(self) -> None:
        """Several values, numbers that are none and numbers that are too large leave as one that is right, in a request
        and in the ACK of a call."""
        (b,) = self.callees(1)
        for lines, expected in ((("Max-Breadth: 9", "Max-Breadth: 8"), 9), (("max-breadth: 1, 2",), 60),
                                (("Max-Breadth: x",), 60), (("Max-Breadth: -1",), 60), (("Max-Breadth:",), 60),
                                (("Max-Breadth: 61",), 60), (("Max-Breadth: 99999999999999999999",), 60),
                                (("Max-Breadth: 0",), 1), (("Max-Breadth: 007",), 7), ((), 60)):
            self.a.invite("1002", *lines)
            self.a.take(100)
            got = b.take("INVITE")
            self.assertEqual(self.breadth(got), expected, lines)
            b.answer(got, 200)
            ok = self.a.take(200)
            self.a.in_dialog("ACK", ok, *lines, cseq=ok.cseq_number)
            self.assertEqual(self.breadth(b.take("ACK")), expected, lines)
        self.rig.finish()

    @shows("R5393-5.3.3-07")
    def test_not_enough(self) -> None:
        """Three phones and a Max-Breadth of two: 440, and nobody rings."""
        phones = self.callees(3)
        invite = self.a.invite("1002", "Max-Breadth: 2")
        self.a.ack(self.a.take(440), invite)
        for phone in phones:
            phone.silent()
        self.rig.finish()

    @shows("R5393-5.3.3-06")
    def test_redirection(self) -> None:
        """The contacts of a 302 share what its branch had; those it does not suffice for stay in the response."""
        b, other = self.callees(2)
        new = [self.rig.phone("1005") for _ in range(3)]
        contacts = ", ".join(f"<{phone.contact}>" for phone in new)
        for came, shares in ((60, [10, 10, 10]), (11, [2, 2, 2]), (7, [1, 1, 2]), (3, [1, 1]), (2, [1])):
            invite = self.a.invite("1002", f"Max-Breadth: {came}")
            self.a.take(100)
            got, beside = b.take("INVITE"), other.take("INVITE")
            self.assertEqual(self.breadth(got) + self.breadth(beside), came)
            b.answer(got, 302, f"Contact: {contacts}")
            b.take("ACK")
            calls = [(phone, phone.take("INVITE")) for phone in new[:len(shares)]]
            self.assertEqual([self.breadth(request) for _, request in calls], shares)
            self.assertLessEqual(sum(shares) + self.breadth(beside), came)
            for phone, request in [*calls, (other, beside)]:
                phone.answer(request, 486)
                phone.take("ACK")
            left = new[len(shares):]
            final = self.a.take(302 if left else 486)
            self.assertEqual(final.values("contact"), [f"<{phone.contact}>" for phone in left])
            self.a.ack(final, invite)
        self.rig.finish()

    @shows("R5393-5.3.3-09")
    def test_hop_by_hop(self) -> None:
        """Three turns through this server take nothing away."""
        (b,) = self.callees(1, "1005")
        for name, contact in (("1002", "1003"), ("1003", "1004"), ("1004", "1005")):
            self.rig.binding(name, f"sip:{contact}@{DOMAIN}")
        for came in (1, 7, 60):
            self.a.request("MESSAGE", f"sip:1002@{DOMAIN}", f"Max-Breadth: {came}")
            self.rig.advance(0.3, 0.05)
            got = b.take("MESSAGE")
            self.assertEqual(self.breadth(got), came)
            b.answer(got, 200)
            self.rig.advance(0.3, 0.05)
            self.a.take(200)
        self.rig.finish()
