"""Hops as people read them."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.hop import DEFAULT_PORT, Hop, hidden_from, join_host_port


class HopTests(TestCase):
    """Hop and join_host_port."""

    def test_text(self) -> None:
        """IPv6 stands in brackets."""
        self.assertEqual(str(Hop("udp", "192.0.2.1", 5060)), "udp:192.0.2.1:5060")
        self.assertEqual(str(Hop("tls", "2001:db8::1", 5061, "example.com")), "tls:[2001:db8::1]:5061")
        self.assertEqual(join_host_port("2001:db8::1", None), "[2001:db8::1]")
        self.assertEqual(join_host_port("[2001:db8::1]", 1), "[2001:db8::1]:1")

    def test_hidden(self) -> None:
        """A private host that is not the source is hidden; a text too long for an address is none."""
        self.assertTrue(hidden_from("192.0.2.1", "fe80::1%1"))
        self.assertFalse(hidden_from("192.0.2.1", "fe80::1%" + "1" * 100))
        self.assertFalse(hidden_from("10.0.0.1", "10.0.0.1"))

    def test_transports(self) -> None:
        """s19.1.2: default ports."""
        self.assertEqual(DEFAULT_PORT, {"udp": 5060, "tcp": 5060, "tls": 5061})
