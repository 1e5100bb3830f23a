"""Contact values as the registrar reads them."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from sipd.message.errors import MalformedMessage
from sipd.message.hop import private_address
from sipd.registrar.contact import Contact, parse_contacts
from tests.support.cases import shows


def one(text: str) -> Contact:
    """The only value of a line."""
    contact, = parse_contacts(text)
    return contact


class ContactTest(TestCase):
    """One line in, values out."""

    @shows("REG-36", "10.2.1")
    def test_parameters_of_uri_and_header(self) -> None:
        """Inside the brackets parameters belong to the URI, outside to the Contact; without brackets to the Contact."""
        inside = one("<sip:u@192.0.2.7;unknownparam>")
        self.assertEqual((inside.text, inside.params), ("sip:u@192.0.2.7;unknownparam", ""))
        outside = one("<sip:u@192.0.2.7>;unknownparam=3")
        self.assertEqual((outside.text, outside.params), ("sip:u@192.0.2.7", ";unknownparam=3"))
        bare = one("sip:u@192.0.2.7;unknownparam;expires=9")
        self.assertEqual((bare.text, bare.params, bare.expires), ("sip:u@192.0.2.7", ";unknownparam", 9))
        escaped = one("<sip:u@example.com?Route=%3Csip:sip.example.com%3E>")
        self.assertEqual(escaped.text, "sip:u@example.com?Route=%3Csip:sip.example.com%3E")

    def test_several_values(self) -> None:
        """Commas outside quotes and brackets divide; empty values do not count."""
        read = parse_contacts('"A, B" <sip:a@192.0.2.7>;q=0.5, <sip:b@192.0.2.7;x=y>;expires=30,, sip:c@192.0.2.7')
        self.assertEqual([(each.text, each.q, each.expires) for each in read], [
            ("sip:a@192.0.2.7", 500, None), ("sip:b@192.0.2.7;x=y", 1000, 30), ("sip:c@192.0.2.7", 1000, None)])

    def test_expiry_and_q_are_not_given_back(self) -> None:
        """What the registrar itself decides is not among the parameters to give back; the others stay as written."""
        contact = one('<sip:a@192.0.2.7>;Expires=60;methods="INVITE, BYE";q=0.25;lr')
        self.assertEqual((contact.expires, contact.q, contact.params), (60, 250, ';methods="INVITE, BYE";lr'))

    @shows("REG-25")
    def test_malformed_numbers(self) -> None:
        """An expires that is no number is marked, an endless one is the greatest; a q that is none counts as 1."""
        self.assertEqual(one("<sip:a@192.0.2.7>;expires=abc").expires, -1)
        self.assertEqual(one("<sip:a@192.0.2.7>;expires").expires, -1)
        self.assertEqual(one("<sip:a@192.0.2.7>;expires=" + "9" * 400).expires, 2**31 - 1)
        self.assertEqual(one("<sip:a@192.0.2.7>;q=7").q, 1000)

    def test_instance_and_reg_id(self) -> None:
        """An instance counts with a reg-id only; quotes and brackets are not part of it (RFC 5626 s4.2, s6)."""
        both = one('<sip:a@192.0.2.7>;reg-id=2;+sip.instance="<urn:uuid:0>"')
        self.assertEqual((both.instance, both.reg_id), ("urn:uuid:0", 2))
        self.assertIn('+sip.instance="<urn:uuid:0>"', both.params)
        for half in ('<sip:a@192.0.2.7>;+sip.instance="<urn:uuid:0>"', "<sip:a@192.0.2.7>;reg-id=2",
                     '<sip:a@192.0.2.7>;reg-id=x;+sip.instance="<urn:uuid:0>"'):
            self.assertEqual((one(half).instance, one(half).reg_id), ("", 0), half)

    @shows("REG-42", "19.1.1")
    def test_refused(self) -> None:
        """Ports that do not exist, a missing host, endless text and "*" among others are malformed."""
        for text in ("<sip:x@192.0.2.7:0>", "<sip:x@192.0.2.7:70000>", "<sip:x@>", "sip:", "<>", "*;expires=0",
                     "*, <sip:a@192.0.2.7>", "<sip:x@192.0.2.7>;a=" + "b" * 2000, "<sip:" + "x" * 2000 + "@192.0.2.7>"):
            self.assertRaises(MalformedMessage, parse_contacts, text)

    def test_private_address(self) -> None:
        """Private hosts are known in every spelling; public ones, documentation ones and names are not private."""
        for host in ("10.1.2.3", "172.31.0.1", "192.168.0.4", "100.64.0.1", "169.254.1.1", "127.0.0.1", "fc00::1"):
            self.assertEqual(private_address(host), host)
        self.assertEqual(private_address("FD00:0::1"), "fd00::1")
        for host in ("192.0.2.7", "172.32.0.1", "8.8.8.8", "2001:db8::1", "phone.example.com"):
            self.assertEqual(private_address(host), "")

    @settings(max_examples=300, deadline=None)
    @given(st.text(alphabet=st.sampled_from('<>";,=*@:sip. 019abq+-[]%\\\udcff\u00e9'), max_size=60))
    def test_only_malformed_escapes(self, text: str) -> None:
        """Whatever stands there is read or is malformed, nothing else."""
        with contextlib.suppress(MalformedMessage):
            parse_contacts(text)
