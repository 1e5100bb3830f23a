"""Networks by prefix, and what an ACL says."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sipd.peers.networks import Acl, Networks


class NetworksTests(SynchronousTestCase):
    """Addresses of both families in networks of all sizes."""

    def test_find(self) -> None:
        """The narrowest network that an address is in has it, in whatever order they came; the families stay apart."""
        networks: Networks[str] = Networks()
        for text in ("10.0.0.0/8", "10.1.2.3", "10.1.0.0/16", "0.0.0.0/0", "2001:db8::/32", "2001:db8::1/128", "::/0"):
            networks.add(text, text)
        networks.add("10.0.0.0/8", "later")
        self.assertEqual(len(networks), 7)
        for address, network in (
            ("10.1.2.3", "10.1.2.3"), ("10.1.2.4", "10.1.0.0/16"), ("10.2.0.1", "10.0.0.0/8"), ("9.0.0.1", "0.0.0.0/0"),
            ("2001:db8::1", "2001:db8::1/128"), ("[2001:db8::2]", "2001:db8::/32"), ("2001:0db8:0:0::0001", "2001:db8::1/128"),
            ("2001:db9::", "::/0"), ("::ffff:10.1.2.3", "10.1.2.3"), ("phone.example", None), ("", None), ("fe80::1%eth0", "::/0"),
        ):
            self.assertEqual(networks.find(address), network, address)

    def test_nothing(self) -> None:
        """In no network there is nobody."""
        self.assertIsNone(Networks[str]().find("192.0.2.1"))

    def test_acl(self) -> None:
        """The narrowest network decides, deny wins where one is in both lists, and who is in none may only where nothing is
        permitted by name."""
        for permit, deny, allowed, refused in (
            ((), (), ("192.0.2.1", "::1"), ()),
            ((), ("192.0.2.0/24",), ("192.0.3.1", "::1"), ("192.0.2.1", "::ffff:192.0.2.1")),
            (("192.0.2.0/24",), (), ("192.0.2.1",), ("192.0.3.1", "::1", "phone.example")),
            (("192.0.0.0/16", "192.0.2.7"), ("192.0.2.0/24",), ("192.0.1.1", "192.0.2.7"), ("192.0.2.8",)),
            (("192.0.2.0/24",), ("192.0.2.0/24", "0.0.0.0/0"), (), ("192.0.2.1", "10.0.0.1")),
            (("2001:db8::/32",), ("2001:db8:1::/48",), ("2001:db8:2::1",), ("2001:db8:1::1", "2001:db9::1")),
        ):
            acl = Acl("a", permit, deny)
            self.assertEqual([address for address in (*allowed, *refused) if acl.permits(address)], list(allowed))
