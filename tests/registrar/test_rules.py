"""The registrar's rules, pure: RFC 3261 s10.3 steps 6 and 7."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from sipd.binding import Binding, Change, changed
from sipd.message.errors import Reject
from sipd.message.hop import Hop
from sipd.message.via import Via
from sipd.registrar.contact import parse_contacts
from sipd.registrar.rules import Limits, Registration, behind_nat, decide, news
from tests.support.cases import shows

AOR = "alice@example.com"
PHONE = Hop("udp", "192.0.2.7", 5060)
INSTANCE = ';+sip.instance="<urn:uuid:1>"'


def registration(contacts: str | None, *, call_id: str = "c1", cseq: int = 1, expires: int | None = None,
                 path: tuple[str, ...] = (), source: Hop = PHONE,
                 via: str = "SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK1") -> Registration:
    """A REGISTER; `contacts` is one Contact line, None for "*"."""
    read = None if contacts is None else parse_contacts(contacts)
    return Registration(AOR, call_id, cseq, read, expires, path, source, Via.parse(via), "flow", "192.0.2.1:5060",
                        "phone/1")


class RulesTest(TestCase):
    """Bindings before, a REGISTER, bindings after."""

    def setUp(self) -> None:
        self.now = 1000.0
        self.limits = Limits()
        self.bindings: tuple[Binding, ...] = ()

    def register(self, contacts: str | None, *, call_id: str = "c1", cseq: int = 1, expires: int | None = None,
                 path: tuple[str, ...] = (), source: Hop = PHONE) -> list[Change]:
        """Applies a REGISTER."""
        request = registration(contacts, call_id=call_id, cseq=cseq, expires=expires, path=path, source=source)
        changes = decide(request, list(self.bindings), self.now, self.limits)
        self.bindings = changed(self.bindings, changes)
        return changes

    def refused(self, status: int, contacts: str | None, *, call_id: str = "c1", cseq: int = 1,
                expires: int | None = None) -> Reject:
        """Expects a refusal."""
        before = self.bindings
        error = self.assertRaises(Reject, self.register, contacts, call_id=call_id, cseq=cseq, expires=expires)
        self.assertEqual(error.status, status)
        self.assertIs(self.bindings, before)
        return error

    def granted(self) -> dict[str, float]:
        """Contacts and the seconds they have left."""
        return {each.contact: each.expires_at - self.now for each in self.bindings}

    def test_new_binding(self) -> None:
        """A binding holds what the request said and where it came from."""
        path = ("<sip:p.example.com;lr>",)
        self.register(f"<sip:a@192.0.2.7>;q=0.3;reg-id=1{INSTANCE}", expires=60, cseq=7, path=path)
        self.assertEqual(self.bindings, (Binding(
            AOR, "sip:a@192.0.2.7", f";reg-id=1{INSTANCE}", 300, 1060.0, "c1", 7, path, "urn:uuid:1", 1, PHONE, False,
            "flow", "192.0.2.1:5060", "phone/1", 1000.0),))

    @shows("REG-03", "10.3")
    def test_expiry_per_contact(self) -> None:
        """The parameter comes before the header, the header before the default."""
        self.register("<sip:a@192.0.2.7>;expires=600, <sip:b@192.0.2.7>", expires=60)
        self.register("<sip:c@192.0.2.7>", cseq=2)
        self.assertEqual(self.granted(), {"sip:a@192.0.2.7": 600, "sip:b@192.0.2.7": 60, "sip:c@192.0.2.7": 3600})

    @shows("REG-24", "10.3")
    def test_cap(self) -> None:
        """Too long an expiry is shortened, wherever it stands."""
        self.register("<sip:a@192.0.2.7>;expires=99999999")
        self.register("<sip:b@192.0.2.7>", expires=2**31 - 1, cseq=2)
        self.assertEqual(set(self.granted().values()), {7200})

    @shows("REG-23", "21.4.17")
    def test_too_brief(self) -> None:
        """Below the minimum is refused with the minimum, before anything is stored; 0 never is."""
        error = self.refused(423, "<sip:a@192.0.2.7>;expires=600, <sip:b@192.0.2.7>;expires=59")
        self.assertEqual(error.headers, (("Min-Expires", "60"),))
        self.register("<sip:a@192.0.2.7>;expires=60")
        self.register("<sip:a@192.0.2.7>;expires=0", cseq=2)
        self.assertEqual(self.bindings, ())

    @shows("REG-23", "10.3")
    def test_an_hour_is_never_too_brief(self) -> None:
        """An hour is granted even where the minimum is longer."""
        self.limits = Limits(min_expires=4000, default_expires=5000)
        self.register("<sip:a@192.0.2.7>;expires=3600")
        self.refused(423, "<sip:a@192.0.2.7>;expires=3599", cseq=2)
        self.assertEqual(self.granted(), {"sip:a@192.0.2.7": 3600})

    @shows("REG-25", "20.19")
    def test_malformed_expiry(self) -> None:
        """What is no number counts as the default."""
        self.limits = Limits(default_expires=1800)
        self.register("<sip:a@192.0.2.7>;expires=abc", expires=60)
        self.register("<sip:b@192.0.2.7>", expires=-1, cseq=2)
        self.assertEqual(set(self.granted().values()), {1800})

    @shows("REG-07", "10.3")
    def test_refresh(self) -> None:
        """The same contact with a higher CSeq is the same binding with a new time."""
        self.register("<sip:a@192.0.2.7>", expires=60)
        self.now = 1030.0
        self.assertEqual([kind for kind, _ in self.register("<sip:a@192.0.2.7>", expires=90, cseq=2)], ["put"])
        self.assertEqual(self.granted(), {"sip:a@192.0.2.7": 90})

    @shows("REG-08", "REG-09", "10.3")
    def test_cseq_not_higher(self) -> None:
        """An equal or lower CSeq of the same Call-ID fails, for updates and for removals, and so does all beside it."""
        self.register("<sip:a@192.0.2.7>", cseq=5)
        for cseq in (5, 4):
            self.refused(400, "<sip:a@192.0.2.7>", cseq=cseq)
            self.refused(400, "<sip:b@192.0.2.7>, <sip:a@192.0.2.7>;expires=0", cseq=cseq)
        self.assertEqual(set(self.granted()), {"sip:a@192.0.2.7"})

    @shows("REG-10", "10.3")
    def test_other_call_id(self) -> None:
        """Another Call-ID may update whatever its CSeq; from then on its own CSeq counts."""
        self.register("<sip:a@192.0.2.7>", cseq=500)
        self.register("<sip:a@192.0.2.7>", call_id="c2", cseq=1)
        self.assertEqual((self.bindings[0].call_id, self.bindings[0].cseq), ("c2", 1))
        self.refused(400, "<sip:a@192.0.2.7>", call_id="c2", cseq=1)

    @shows("REG-15", "REG-18", "10.2.2")
    def test_removal(self) -> None:
        """expires=0 removes its contact and no other; a contact that is not there is no error."""
        self.register("<sip:a@192.0.2.7>, <sip:b@192.0.2.7>")
        self.register("<sip:a@192.0.2.7>;expires=0", cseq=2)
        self.assertEqual(set(self.granted()), {"sip:b@192.0.2.7"})
        self.assertEqual(self.register("<sip:z@192.0.2.7>;expires=0", cseq=3), [])

    @shows("REG-16", "10.2.2")
    def test_removal_by_header(self) -> None:
        """Expires: 0 removes every contact named."""
        self.register("<sip:a@192.0.2.7>, <sip:b@192.0.2.7>")
        self.register("<sip:a@192.0.2.7>, <sip:b@192.0.2.7>", expires=0, cseq=2)
        self.assertEqual(self.bindings, ())

    @shows("REG-19", "10.2.2")
    def test_star(self) -> None:
        """"*" with Expires 0 removes all, of other Call-IDs whatever the CSeq."""
        self.register("<sip:a@192.0.2.7>", cseq=9)
        self.register("<sip:b@192.0.2.7>", call_id="c2", cseq=3)
        self.register(None, expires=0, call_id="c2", cseq=4)
        self.assertEqual(self.bindings, ())

    @shows("REG-20", "10.3")
    def test_star_without_zero(self) -> None:
        """"*" with another expiry, a malformed one or none is refused."""
        self.register("<sip:a@192.0.2.7>")
        for expires in (10, -1, None):
            self.refused(400, None, expires=expires, call_id="c2")

    @shows("REG-21", "10.3")
    def test_star_out_of_order(self) -> None:
        """"*" whose CSeq is not higher than that of one binding of its Call-ID removes none."""
        self.register("<sip:a@192.0.2.7>", call_id="c2")
        self.register("<sip:b@192.0.2.7>", cseq=5)
        self.refused(400, None, expires=0, cseq=5)
        self.assertEqual(len(self.bindings), 2)

    @shows("REG-26", "10.3")
    def test_too_many(self) -> None:
        """Contacts beyond the limit are refused, in one request and over several; none of the request is stored."""
        self.limits = Limits(max_contacts=3)
        many = ", ".join(f"<sip:{n}@192.0.2.7>" for n in range(4))
        self.refused(403, many)
        self.register("<sip:a@192.0.2.7>, <sip:b@192.0.2.7>")
        self.refused(403, "<sip:c@192.0.2.7>, <sip:d@192.0.2.7>", cseq=2)
        self.register("<sip:c@192.0.2.7>", cseq=2)
        self.register("<sip:a@192.0.2.7>;expires=0, <sip:d@192.0.2.7>", cseq=3)
        self.assertEqual(set(self.granted()), {f"sip:{n}@192.0.2.7" for n in "bcd"})
        self.limits = Limits(max_contacts=1)
        self.register("<sip:b@192.0.2.7>", cseq=4)

    def test_contact_equality(self) -> None:
        """Contacts are compared by s19.1.4: escapes, case and order do not matter, the user's case and the port do."""
        self.register("<sip:%61lice@PHONE.example.com;b=2;a=1>")
        self.register("<SIP:alice@phone.EXAMPLE.com;a=1;b=2>", cseq=2)
        self.assertEqual([each.contact for each in self.bindings], ["SIP:alice@phone.EXAMPLE.com;a=1;b=2"])
        self.register("<sip:Alice@phone.example.com>, <sip:alice@phone.example.com:5060>", cseq=3)
        self.assertEqual(len(self.bindings), 3)

    def test_contact_equal_to_two(self) -> None:
        """A contact that equals two bindings, which do not equal each other, replaces both."""
        self.register("<sip:a@192.0.2.7;x=1>, <sip:a@192.0.2.7;x=2>")
        self.register("<sip:a@192.0.2.7>", cseq=2)
        self.assertEqual([each.contact for each in self.bindings], ["sip:a@192.0.2.7"])

    def test_contact_named_twice(self) -> None:
        """The last word on a contact counts, also when it is a removal."""
        self.register("<sip:a@192.0.2.7>;q=0.1, <sip:a@192.0.2.7>;q=0.2")
        self.assertEqual([each.q for each in self.bindings], [200])
        self.assertEqual(self.register("<sip:b@192.0.2.7>, <sip:b@192.0.2.7>;expires=0", cseq=2), [])
        self.register("<sip:a@192.0.2.7>;expires=0, <sip:a@192.0.2.7>", cseq=3)
        self.assertEqual([each.cseq for each in self.bindings], [3])

    @shows("REG-38", "5626 6")
    def test_instance(self) -> None:
        """Instance and reg-id name a binding: from a new port it is replaced, another reg-id is another one."""
        self.register(f"<sip:a@192.0.2.7:1111>;reg-id=1{INSTANCE}")
        changes = self.register(f"<sip:a@192.0.2.7:2222>;reg-id=1{INSTANCE}", call_id="reboot")
        self.assertEqual([kind for kind, _ in changes], ["delete", "put"])
        self.assertEqual([each.contact for each in self.bindings], ["sip:a@192.0.2.7:2222"])
        self.register(f"<sip:a@192.0.2.8:2222>;reg-id=2{INSTANCE}")
        self.register(f"<sip:a@192.0.2.9>{INSTANCE}")
        self.assertEqual(len(self.bindings), 3)

    def test_instance_keeps_the_order(self) -> None:
        """The ordering of one Call-ID holds across contacts of one instance."""
        self.register(f"<sip:a@192.0.2.7:2222>;reg-id=1{INSTANCE}", cseq=8)
        self.refused(400, f"<sip:a@192.0.2.7:1111>;reg-id=1{INSTANCE}", cseq=7)

    def test_other_schemes(self) -> None:
        """A telephone number may be registered (s10.2.1)."""
        self.register("<tel:+15550100>")
        self.register("<tel:+15550100>", cseq=2)
        self.assertEqual([each.contact for each in self.bindings], ["tel:+15550100"])

    def test_news(self) -> None:
        """New, moved and removed bindings are news; a refresh is none, unless a phone behind NAT has a new source."""
        def told(changes: list[Change]) -> list[str]:
            return [f"{kind} {each.contact}" for kind, each, _ in news(list(before), changes)]

        before = self.bindings
        self.assertEqual(told(self.register("<sip:a@10.0.0.7>")), ["registration-new sip:a@10.0.0.7"])
        before = self.bindings
        self.assertEqual(told(self.register("<sip:a@10.0.0.7>", cseq=2)), [])
        before = self.bindings
        self.assertEqual(told(self.register("<sip:a@10.0.0.7>", cseq=3, source=Hop("udp", "192.0.2.7", 999))),
                         ["registration-moved sip:a@10.0.0.7"])
        before = self.bindings
        self.assertEqual(told(self.register("<sip:a@10.0.0.7>;expires=0, <sip:b@10.0.0.7>", cseq=4)),
                         ["registration-moved sip:b@10.0.0.7"])
        before = self.bindings
        self.assertEqual(told(self.register("<sip:b@10.0.0.7>;expires=0", cseq=5)),
                         ["registration-lost sip:b@10.0.0.7"])

    def test_news_of_an_instance(self) -> None:
        """A rebooted phone that comes back under another contact has moved, from the old one."""
        self.register(f"<sip:a@192.0.2.7:1111>;reg-id=1{INSTANCE}")
        before = list(self.bindings)
        changes = self.register(f"<sip:a@192.0.2.7:2222>;reg-id=1{INSTANCE}", call_id="reboot")
        (kind, new, old), = news(before, changes)
        assert old is not None
        self.assertEqual((kind, old.contact, new.contact),
                         ("registration-moved", "sip:a@192.0.2.7:1111", "sip:a@192.0.2.7:2222"))


class NatTest(TestCase):
    """When a contact can be reached only where its REGISTER came from."""

    def nat(self, contact: str, via: str, source: Hop = PHONE, path: tuple[str, ...] = ()) -> bool:
        """The verdict on one contact."""
        request = registration(contact, via=f"SIP/2.0/UDP {via}", source=source, path=path)
        assert request.contacts is not None
        return behind_nat(request.contacts[0], request)

    def test_open(self) -> None:
        """A phone that says where it is is reached where its contact says, be that elsewhere."""
        self.assertFalse(self.nat("<sip:a@192.0.2.7>", "192.0.2.7"))
        self.assertFalse(self.nat("<sip:a@192.0.2.99:7777>", "192.0.2.7:5060;rport=5060;received=192.0.2.7"))
        self.assertFalse(self.nat("<sip:a@phone.example.com>", "192.0.2.7:5060"))
        self.assertFalse(self.nat("<sip:a@10.0.0.7>", "10.0.0.7", Hop("udp", "10.0.0.7", 5060)))
        self.assertFalse(self.nat("<sip:a@[2001:DB8::7]>", "[2001:DB8:0::7]", Hop("udp", "2001:db8::7", 5060)))

    def test_via_differs(self) -> None:
        """Another address in the Via, or another port where rport was asked, is a NAT; another port alone is not."""
        self.assertTrue(self.nat("<sip:a@192.0.2.7>", "10.0.0.1:5060"))
        self.assertTrue(self.nat("<sip:a@192.0.2.7>", "192.0.2.7:5062;rport=5060"))
        self.assertTrue(self.nat("<sip:a@192.0.2.7>", "192.0.2.7;rport", Hop("udp", "192.0.2.7", 40000)))
        self.assertFalse(self.nat("<sip:a@192.0.2.7>", "192.0.2.7:5062"))
        self.assertFalse(self.nat("<sip:a@192.0.2.7>", "192.0.2.7;rport", Hop("tls", "192.0.2.7", 5061)))

    def test_private_contact(self) -> None:
        """A private contact from another source is behind NAT, whatever the Via says."""
        self.assertTrue(self.nat("<sip:a@192.168.1.7>", "192.0.2.7"))
        self.assertTrue(self.nat("<sip:a@[fd00::7]>", "[2001:db8::7]", Hop("udp", "2001:db8::7", 5060)))

    def test_loopback(self) -> None:
        """From this very machine its other loopback addresses can be meant; from elsewhere, or along a NAT, not."""
        here = Hop("udp", "127.0.0.1", 5060)
        self.assertFalse(self.nat("<sip:a@127.0.0.7:5080>", "127.0.0.1", here))
        self.assertTrue(self.nat("<sip:a@10.0.0.7>", "127.0.0.1", here))
        self.assertTrue(self.nat("<sip:a@127.0.0.7>", "10.0.0.7", here))
        self.assertTrue(self.nat("<sip:a@127.0.0.7>", "192.0.2.7"))

    def test_path(self) -> None:
        """Along a Path there is no NAT for us."""
        self.assertFalse(self.nat("<sip:a@192.168.1.7>", "198.51.100.1", path=("<sip:edge.example.com;lr>",)))


#: One contact of a random REGISTER: which, and its expiry.
_CONTACT = st.tuples(st.integers(0, 4), st.sampled_from([0, 0, 30, 60, 600]))
_CONTACTS = st.lists(_CONTACT, min_size=1, max_size=4, unique_by=lambda contact: contact[0])


class RulesModel(TestCase):
    """The rules against the RFC's own words on a plain dict."""

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from("xy"), st.integers(1, 6), st.one_of(st.none(), _CONTACTS)), max_size=15))
    def test_random(self, requests: list[tuple[str, int, list[tuple[int, int]] | None]]) -> None:
        """Random REGISTERs, good and bad: each does all the RFC says or nothing."""
        limits = Limits(max_contacts=3)
        bindings: tuple[Binding, ...] = ()
        model: dict[int, tuple[str, int, int]] = {}
        for call_id, cseq, contacts in requests:
            after = dict(model)
            ok = True
            named = [(number, 0) for number in model] if contacts is None else contacts
            for number, expires in named:
                known = model.get(number)
                ok = ok and expires != 30 and not (known and known[0] == call_id and cseq <= known[1])
                after.pop(number, None)
                if expires:
                    after[number] = (call_id, cseq, expires)
            ok = ok and not (len(after) > 3 and len(after) > len(model))
            line = None if contacts is None else ",".join(
                f"<sip:{number}@192.0.2.7>;expires={expires}" for number, expires in contacts)
            try:
                changes = decide(registration(line, call_id=call_id, cseq=cseq, expires=0), list(bindings), 0.0, limits)
                assert ok
                bindings = changed(bindings, changes)
                model = after
            except Reject:
                assert not ok
            assert {each.contact: (each.call_id, each.cseq, int(each.expires_at)) for each in bindings} == {
                f"sip:{number}@192.0.2.7": value for number, value in model.items()}
