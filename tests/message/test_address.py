"""name-addr and addr-spec with header parameters, and the quick look at a tag."""

from __future__ import annotations

from hypothesis import given
from twisted.trial.unittest import TestCase

from sipd.message.address import Address, tag_of
from sipd.message.errors import MalformedMessage
from tests.support.cases import shows
from tests.support.properties import check, hostile_text

READ = [
    # value, display name for people, URI text, parameters
    ("<sip:a@b>", "", "sip:a@b", {}),
    ("sip:a@b", "", "sip:a@b", {}),
    ("sip:a@b;tag=1", "", "sip:a@b", {"tag": "1"}),
    ("<sip:a@b;lr>;tag=1", "", "sip:a@b;lr", {"tag": "1"}),
    ('"A. G. Bell" <sip:agb@bell-telephone.com> ;tag=a48s', "A. G. Bell", "sip:agb@bell-telephone.com", {"tag": "a48s"}),
    ("Anonymous <sip:c8oqz84zk7z@privacy.org>;tag=hyh8", "Anonymous", "sip:c8oqz84zk7z@privacy.org", {"tag": "hyh8"}),
    ("caller<sip:a@b>;tag=323", "caller", "sip:a@b", {"tag": "323"}),
    ('"\\\\\\"" <sip:a@b>', '\\"', "sip:a@b", {}),
    ('"a<b>;tag=no" <sip:a@b>', "a<b>;tag=no", "sip:a@b", {}),
    ("\u00dcn\u00ef <sip:a@b>", "\u00dcn\u00ef", "sip:a@b", {}),
    ("  <sip:a@b?x=y>  ", "", "sip:a@b?x=y", {}),
    ("<tel:+1;phone-context=x>;q=0.5", "", "tel:+1;phone-context=x", {"q": "0.5"}),
    ("<sip:a@[2001:db8::1]:5060>", "", "sip:a@[2001:db8::1]:5060", {}),
    ('<sip:a@b>;x="<;>"', "", "sip:a@b", {"x": '"<;>"'}),
]

BROKEN = [
    "", "<>", "<sip:a@b", "sip:a@b>", '"a <sip:a@b>', "a, b <sip:a@b>", "a:b <sip:a@b>", "sip:a@b?x=y", "sip:a@b,c",
    "<sip:a@b> tag=1", "<sip:a b@c>", "< sip:a@b >", "<<sip:a@b>>", "<sip:a@b><sip:c@d>", '"a" "b" <sip:a@b>', "sip:a b",
]

TAGS = [
    ("<sip:a@b>;tag=x", "x"), ("<sip:a@b>", ""), ("sip:a@b;tag=x", "x"), ("<sip:a@b;tag=no>", ""),
    ("<sip:a@b;tag=no>;tag=yes", "yes"), ('"x;tag=no" <sip:a@b>', ""), ("<sip:a@b> ; TAG = x", "x"),
    ("<sip:a@b>;mytag=no", ""), ('<sip:a@b>;p="a>;tag=no";tag=yes', "yes"), ('sip:a@b;p=";tag=no";tag=yes', "yes"),
    ('sip:a@b;p=";tag=no;";tag=yes', "yes"), ('<sip:a@b>;p=">;tag=no;";tag=yes', "yes"),
    ("<sip:a@b>;tag=", ""), ("", ""), ("<sip:a@b>;x;tag=x~y;z", "x~y"),
]


class AddressTests(TestCase):
    """Address and tag_of."""

    def test_read(self) -> None:
        """Display name, URI and parameters come apart; written again and read again it is the same."""
        for value, name, uri_text, params in READ:
            address = Address.parse(value)
            self.assertEqual((address.name, address.uri_text, address.params), (name, uri_text, params), value)
            self.assertEqual(str(address.uri), uri_text)
            self.assertEqual(Address.parse(str(address)), address)

    @shows("R3261-20.20-01")
    def test_broken(self) -> None:
        """s20.10: without brackets no "?" and no comma; names are quoted where they must be."""
        for value in BROKEN:
            self.assertRaises(MalformedMessage, Address.parse, value)

    def test_uri_later(self) -> None:
        """A URI that cannot be read matters to whoever asks for it."""
        address = Address.parse("<nonsense>;tag=1")
        self.assertEqual(address.params, {"tag": "1"})
        self.assertRaises(MalformedMessage, lambda: address.uri)

    def test_tag(self) -> None:
        """The tag of the header, never one inside the URI or in quotes."""
        for value, tag in TAGS:
            self.assertEqual(tag_of(value), tag, value)

    @check
    @given(hostile_text)
    def test_only_malformed_escapes(self, text: str) -> None:
        """Hostile text is read or refused; what is read is written and read again, and its tag is the tag."""
        for value in (text, f"<sip:a@b>{text}", f"{text}<sip:a@b>;tag=x", f"<sip:{text}>;tag=x"):
            try:
                tag = tag_of(value)
            except MalformedMessage:
                tag = None
            try:
                address = Address.parse(value)
                params = address.params
            except MalformedMessage:
                continue
            again = Address.parse(str(address))
            self.assertEqual((again.uri_text, again.params), (address.uri_text, params))
            self.assertEqual(tag or "", params.get("tag") or "", value)
