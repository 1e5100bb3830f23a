"""Dress without a network: the text in the token, and the numbers of a dialog."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from sipd.inventory import Inventory
from sipd.message.message import Request
from sipd.message.parser import parse
from sipd.message.uri import Uri
from sipd.proxy.dressing import ACCOUNTS, Dress, Side, Wardrobe, Worn
from sipd.proxy.identity import Account
from sipd.proxy.shifts import Steps
from sipd.proxy.token import RouteToken

CALL, CALLER, CALLEE = "c1@192.0.2.9", "from-tag", "to-tag"


def request(method: str = "INVITE", to_tag: str = "", cseq: int = 1, *extra: str) -> Request:
    """A request of the caller."""
    found = parse("\r\n".join([
        f"{method} sip:123@192.0.2.1 SIP/2.0", "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKa",
        f"From: <sip:1001@example.com>;tag={CALLER}", f"To: <sip:123@example.com>{f';tag={to_tag}' if to_tag else ''}",
        f"Call-ID: {CALL}", f"CSeq: {cseq} {method}", "Max-Forwards: 70", *extra, "", ""]).encode())
    assert isinstance(found, Request)
    return found


class Texts(TestCase):
    """What travels in the token."""

    def setUp(self) -> None:
        """A server with one account."""
        self.wardrobe = Wardrobe(Inventory(), 0x6000, 10)
        self.token = RouteToken(b"0123456789abcdef")

    def both_ways(self, worn: Worn, caller: str = "", callee: str = "") -> tuple[Dress, Dress]:
        """What requests of the caller and of the callee wear, by the token that this made."""
        text = worn.text(self.token.room(caller, callee))
        token = self.token.make(CALL, CALLER, caller, callee, text)
        found = []
        for tags in ((CALLER, CALLEE), (CALLEE, CALLER)):
            direction = self.token.check(token, CALL, *tags)
            assert direction is not None
            dress = self.wardrobe.in_dialog(direction.dress)
            assert dress is not None
            found.append(dress)
        return found[0], found[1]

    def test_callee_is_a_trunk(self) -> None:
        """The caller's requests go out to it, its own come back."""
        worn = Worn(self.wardrobe.going("carrier"), request())
        worn.shift, worn.look, worn.original, worn.address = 3, ACCOUNTS, "sip:1001@example.com", "192.0.2.7"
        side = Side("carrier", 3, 0x6000, "192.0.2.7", "u", "sip:1001@example.com")
        towards, back = self.both_ways(worn, "~udp/192.0.2.1:5060/192.0.2.9:40000", "")
        self.assertEqual((towards.out, towards.back, back.out, back.back), (side, None, None, side))

    def test_caller_is_a_trunk(self) -> None:
        """The other way round."""
        worn = Worn(self.wardrobe.coming("carrier", "2001:db8::7"), request())
        side = Side("carrier", 0, 0x6000, "2001:db8::7", "", "")
        towards, back = self.both_ways(worn)
        self.assertEqual((towards.out, towards.back, back.out, back.back), (None, side, side, None))

    def test_longest(self) -> None:
        """Whatever names and addresses are, the token stays within its bound; what is left out at worst is who stood in
        From."""
        address = "2001:0db8:1111:2222:3333:4444:5555:6666"
        flow = f"~udp/[{address}]:65535/[{address}]:65535"
        dress = self.wardrobe.going("n" * 64).coming(self.wardrobe.coming("m" * 64, address))
        worn = Worn(dress, request())
        worn.shift, worn.look, worn.original, worn.address = 10**9, ACCOUNTS, f"sip:{'a' * 90}", address
        towards, back = self.both_ways(worn, flow, "")
        assert towards.out is not None and back.out is not None
        self.assertEqual((towards.out.original, back.out.name), ("*", "m" * 64))

    @given(st.text(max_size=60))
    @settings(max_examples=200, deadline=None)
    def test_anything(self, text: str) -> None:
        """A text that another release may have written: read, or none at all."""
        self.wardrobe.in_dialog(text)
        self.wardrobe.in_dialog(f"+>a|1|1|x|{text}")

    def test_trunk_is_gone(self) -> None:
        """A trunk that is in the configuration no more: numbers and names are turned back yet, nobody answers for it."""
        dress = Dress(self.wardrobe, Side("gone", 2, 0x6000, "192.0.2.7", "u", "sip:1001@example.com"), None)
        bye = request("BYE", CALLEE, 7)
        worn = dress.put_on(bye, "192.0.2.7", None)
        self.assertEqual((bye.cseq_number, bye.first["cseq"], worn.answers), (9, "9 BYE", False))
        self.assertEqual(bye.first["from"], f"<sip:1001@example.com>;tag={CALLER}")

    def test_odd_fields(self) -> None:
        """A RAck or an Event that is not as it should be is left alone."""
        dress = Dress(self.wardrobe, Side("x", 2, 0x6000, "", "", ""), Side("x", 2, 0x6000, "", "", ""))
        for line in ("RAck: 1 2", "RAck: 1 x INVITE", "RAck: 1 \u0662 INVITE", "Event: refer;id=x", "Event: refer;id=1",
                     "Event: dialog;id=5"):
            notify = request("NOTIFY", CALLEE, 7, line)
            dress.put_on(notify, "192.0.2.7", None)
            name, _, value = line.partition(": ")
            self.assertEqual(notify.first[name.lower()], value)

    def test_new_process(self) -> None:
        """The shift grew in a process that is no more: the numbers jump, once, and go on from there."""
        account = Account("carrier", Uri.parse("sip:192.0.2.7"), None, "", "", "", "none", lambda address: False,
                          lambda: False)
        self.wardrobe.accounts["carrier"] = account
        dress = Dress(self.wardrobe, Side("carrier", 1, 0x5000, "192.0.2.7", "", ""), None)
        for number in (7, 8):
            info = request("INFO", CALLEE, number)
            dress.put_on(info, "192.0.2.7", None)
            self.assertEqual(info.cseq_number, number + 1 + 0x10000)
        ack = request("ACK", CALLEE, 5)
        dress.put_on(ack, "192.0.2.7", None)
        self.assertEqual(ack.cseq_number, 6)
        last = request("INFO", CALLEE + "x", 2**31 - 0x10000)
        dress.put_on(last, "192.0.2.7", None)
        self.assertEqual(last.cseq_number, 2**31 - 0x10000 + 1)


class Numbers(TestCase):
    """How far ahead a trunk is."""

    def test_steps(self) -> None:
        """From each number on another shift; both directions agree."""
        steps = Steps()
        steps.enter(10, 3)
        steps.enter(20, 5)
        self.assertEqual([steps.at(number, 1) for number in (9, 10, 19, 20, 99)], [1, 3, 3, 5, 5])
        for number in (9, 10, 19, 20, 99):
            self.assertEqual(steps.before(number + steps.at(number, 1), 1), number)
        steps.enter(20, 7)
        self.assertEqual((steps.at(20, 1), steps.at(19, 1)), (7, 3))

    def test_bounded(self) -> None:
        """A trunk that challenges everything for ever: the latest changes are remembered."""
        steps = Steps()
        for number in range(1000):
            steps.enter(number, number)
        self.assertEqual((len(steps.places), steps.at(999, 0)), (16, 999))
