"""Which hosts are this server, and which address-of-record a URI stands for."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.core.places import Places
from sipd.message.uri import Uri
from sipd.transport.listener import Listener
from tests.support.cases import shows


class PlacesTests(TestCase):
    """Places: two names of one place, a tenant, IPv4 and IPv6 listeners, one of them advertised."""

    def setUp(self) -> None:
        self.listeners = [
            Listener("udp", "192.0.2.1", 5060), Listener("tcp", "192.0.2.1", 5062), Listener("tls", "192.0.2.1", 5061),
            Listener("udp", "2001:db8::1", 5060),
        ]
        self.places = Places("example.com", ["example.com", "alias.example.com"], ["two.example"],
                             lambda: self.listeners, ["sip.example.net:5090", "198.51.100.1"])
        self.places.refresh()

    def aor(self, text: str) -> str:
        """The address-of-record of a URI."""
        return self.places.aor(Uri.parse(text))

    @shows("RTE-08", "16.5")
    def test_names_and_addresses(self) -> None:
        """Every name and address of the place leads to one address-of-record, under the first domain."""
        for text in ("sip:1001@example.com", "sip:1001@EXAMPLE.com:5060", "sips:1001@alias.example.com", "sip:1001@192.0.2.1",
                     "sip:1001@192.0.2.1:5060", "sip:1001@192.0.2.1:5062", "sip:1001@[2001:db8::1]", "sip:1001@example.com.",
                     "sip:1001@[2001:DB8:0:0::1]:5060", "sip:1001:secret@example.com;transport=tcp;x", "sip:%31001@example.com",
                     "sip:1001@198.51.100.1", "sip:1001@sip.example.net", "sip:1001@sip.example.net:5090", "tel:1001",
                     "tel:1-0(0).1;phone-context=x"):
            self.assertEqual(self.aor(text), "1001@example.com", text)

    def test_tenants(self) -> None:
        """Another place has users of its own."""
        self.assertEqual(self.aor("sip:1001@two.example"), "1001@two.example")

    def test_somebody_else(self) -> None:
        """Other names are not us; an address with a port nobody listens on is a phone on the same host."""
        for text in ("sip:1001@example.org", "sip:1001@sub.example.com", "sip:1001@192.0.2.1:5070", "sip:1001@192.0.2.2",
                     "sip:1001@[2001:db8::2]", "sip:1001@example.com:5555", "sip:1001@sip.example.net:6000",
                     "mailto:1001@example.com", "sip:1001@[1:2]", "sip:1001@."):
            self.assertEqual(self.aor(text), "", text)

    @shows("REG-32", "10.3/5")
    def test_escapes(self) -> None:
        """s10.3 step 5: escapes are undone once; a user part of odd characters is one all the same."""
        self.assertEqual(self.aor("sip:null-%00-null@example.com"), "null-\x00-null@example.com")
        self.assertEqual(self.aor("sip:a%2540b@example.com"), "a%40b@example.com")
        self.assertEqual(self.aor("sip:user;par=u%40example.net@example.com"), "user;par=u@example.net@example.com")
        self.assertEqual(self.aor("sip:example.com"), "@example.com")

    def test_case_of_a_user(self) -> None:
        """s19.1.4: users are compared with regard to case."""
        self.assertNotEqual(self.aor("sip:Alice@example.com"), self.aor("sip:alice@example.com"))

    def test_listeners_change(self) -> None:
        """A new address is ours as soon as it is listened on, and no longer when it is not."""
        self.listeners.append(Listener("udp", "192.0.2.77", 5060))
        self.places.refresh()
        self.assertTrue(self.places.is_ours("192.0.2.77", 5060))
        self.listeners.pop()
        self.places.refresh()
        self.assertFalse(self.places.is_ours("192.0.2.77", 5060))

    def test_sent_by(self) -> None:
        """The sent-by of every listener, as our own Vias carry it."""
        self.assertEqual(self.places.sent_bys, {one.sent_by for one in self.listeners})

    def test_uris(self) -> None:
        """Only SIP URIs can name this server."""
        self.assertTrue(self.places.is_our_uri(Uri.parse("sip:192.0.2.1;lr")))
        self.assertFalse(self.places.is_our_uri(Uri.parse("tel:1001")))
