"""Listeners, and the names of flows."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from sipd.journal import Journal
from sipd.message.hop import Hop
from sipd.transport.flows import tell_users, udp_flow_id, udp_flow_parts
from sipd.transport.listener import Listener, split_advertise
from tests.support.cases import shows
from tests.support.network import MemoryNetwork


class ListenerTests(TestCase):
    """What peers are told."""

    @shows("R3261-18.1.1-07")
    def test_texts(self) -> None:
        """Via and Record-Route texts hold the address with its port, or what is advertised in its place."""
        for arguments, via, route in (
            (("udp", "192.0.2.1", 5060), "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=", "192.0.2.1:5060;lr>"),
            (("tcp", "2001:db8::1", 5070), "Via: SIP/2.0/TCP [2001:db8::1]:5070;branch=",
             "[2001:db8::1]:5070;transport=tcp;lr>"),
            (("tls", "192.0.2.1", 5061, "sip.example.com"), "Via: SIP/2.0/TLS sip.example.com:5061;branch=",
             "sip.example.com:5061;transport=tls;lr>"),
            (("udp", "10.0.0.1", 5060, "198.51.100.1:6060"), "Via: SIP/2.0/UDP 198.51.100.1:6060;branch=",
             "198.51.100.1:6060;lr>"),
        ):
            listener = Listener(*arguments)  # type: ignore[arg-type]
            self.assertEqual((listener.via_prefix, listener.route_suffix), (via, route))

    def test_advertise(self) -> None:
        """Host and port are taken apart, IPv6 gets its brackets."""
        for text, wanted in (
            ("sip.example.com", ("sip.example.com", None)), ("sip.example.com:5070", ("sip.example.com", 5070)),
            ("[2001:db8::1]:5070", ("[2001:db8::1]", 5070)), ("[2001:db8::1]", ("[2001:db8::1]", None)),
            ("2001:db8::1", ("[2001:db8::1]", None)),
        ):
            self.assertEqual(split_advertise(text), wanted)

    def test_udp_flow_names(self) -> None:
        """The id of a UDP flow can be read back; anything else is not taken for one."""
        for listener, address, port in (
                ("192.0.2.1:5060", "192.0.2.9", 1), ("[2001:db8::1]:5060", "2001:db8::9", 65535)):
            self.assertEqual(udp_flow_parts(udp_flow_id(listener, address, port)), (listener, address, port))
        for text in ("", "tcp/00112233", "udp/a", "udp/a/b", "udp/a/b:", "udp/a/b:x", "udp/a/b:\u0661", "udp/a/b/c:1"):
            self.assertIsNone(udp_flow_parts(text))

    def test_users_are_told_once(self) -> None:
        """Each user hears of a failure once; one that raises does not keep the others from it, and is a bug."""
        told: list[str] = []

        class User:
            def __init__(self, raises: bool) -> None:
                self.raises = raises

            def flow_failed(self, reason: str) -> None:
                told.append(reason)
                if self.raises:
                    raise RuntimeError("a bug of ours")

        network = MemoryNetwork(Clock())
        flow = network.transports([("udp", "192.0.2.1", 5060)]).flow_to(Hop("udp", "192.0.2.9", 5060))
        assert flow is not None
        journal = Journal()
        bugs: list[str] = []
        journal.sinks.append(lambda kind, fields: bugs.append(fields["reason"]))
        for raises in (True, False, True):
            flow.users.add(User(raises))  # type: ignore[arg-type]
        tell_users(flow, "gone", journal)
        tell_users(flow, "gone", journal)
        self.assertEqual(told, ["gone"] * 3)
        self.assertEqual(len(bugs), 2)
        self.assertIn("a bug of ours", bugs[0])
