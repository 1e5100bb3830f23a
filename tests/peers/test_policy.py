"""Who is found by what, in constant time, and what patterns say."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sipd.config_peers import AclSection, Template
from sipd.config_trunks import Peer
from sipd.peers.policy import GUEST, STRANGER, TRUNK, USER, USUAL, Policies, Policy
from tests.test_cost import calls


def policies(peers: dict[str, dict[str, Any]], templates: dict[str, Template] | None = None) -> Policies:
    """Those of these sections; nobody has a call."""
    found = Policies(lambda name: 0)
    found.configure({name: Peer(**section) for name, section in peers.items()}, templates or {},
                    {"lan": AclSection(permit=("192.0.2.0/24",))}, lambda name: f"{name}@example.com")
    return found


class PatternTests(SynchronousTestCase):
    """may_call."""

    def test_says(self) -> None:
        """The first pattern that fits decides; those with a host are for elsewhere, those without for here."""
        one = policies({"1": {"may_call": ["!0900*", "0*", "1??", "!bob@*.example", "*@*.example"]}}).users["1@example.com"]
        for called, said in (
            ("0900123", False), ("0911", True), ("112", True), ("1", None), ("1123", None), ("bob@a.example", False),
            ("al@a.example", True), ("al@a.com", None), ("0911@a.com", None), ("x0911", None), ("", None),
        ):
            self.assertEqual(one.says(called), said, called)
            self.assertEqual(one.may_reach(called, True), bool(said), called)

    def test_kinds(self) -> None:
        """Where no pattern fits, a user may call nobody, a carrier and a guest whoever is inside."""
        for kind, inside in ((USER, False), (TRUNK, True), (GUEST, True)):
            policy = Policy(kind=kind, plain=False)
            self.assertEqual((policy.may_reach("1", True), policy.may_reach("1", False)), (inside, False))
        self.assertTrue(STRANGER.kind == GUEST and not STRANGER.plain and USUAL.plain)


class FoundTests(SynchronousTestCase):
    """By address, by name in a certificate, by address-of-record."""

    def test_shared_address(self) -> None:
        """Of two carriers at one address the port tells which; where it does not, the first of the file has it. When one
        leaves, the other stays."""
        way = {"identify_by": ["address"]}
        found = policies({"a": {"uri": "sip:a", **way}, "b": {"uri": "sip:b", **way}, "c": {"uri": "sip:c"}})
        found.found_at("b", [("192.0.2.1", 5070)])
        found.found_at("a", [("192.0.2.1", 5060)])
        found.found_at("c", [("192.0.2.9", 5060)])

        def name(address: str, port: int) -> str:
            policy = found.at(address, port)
            return policy.name if policy is not None else ""

        self.assertEqual([name("192.0.2.1", port) for port in (5060, 5070, 40000)], ["a", "b", "a"])
        self.assertEqual(name("192.0.2.9", 5060), "")
        found.found_at("a", [])
        self.assertEqual([name("192.0.2.1", port) for port in (5060, 5070)], ["b", "b"])
        self.assertTrue(found.is_at("b", "192.0.2.1") and not found.is_at("a", "192.0.2.1"))
        found.found_at("b", [])
        self.assertFalse(found.by_source)

    def test_after_a_reload(self) -> None:
        """Where a carrier is stays known when its policy changes; not when it is gone, or known by that no more."""
        section = {"uri": "sip:a", "identify_by": ["address"]}
        found = policies({"a": section})
        found.found_at("a", [("192.0.2.1", 5060)])
        for changed, known in (({**section, "call_limit": 3}, True), ({"uri": "sip:a"}, False)):
            found.configure({"a": Peer(**changed)}, {}, {}, lambda name: name)
            self.assertEqual(found.at("192.0.2.1", 5060) is found.trunks["a"], known)
        found.configure({}, {}, {}, lambda name: name)
        self.assertIsNone(found.at("192.0.2.1", 5060))

    def test_constant_time(self) -> None:
        """Among 500 carriers and 500 users with sections of their own it takes no more steps to find one than among five,
        whether by address, in a network, by certificate, by name, or nobody."""
        self.assertEqual(self.counts(5), self.counts(500))

    def counts(self, many: int) -> list[int]:
        """Python functions entered for each kind of look-up for the last of so many."""
        peers: dict[str, dict[str, Any]] = {
            f"t{n}": {"uri": f"sip:t{n}.example", "identify_by": ["address", "tls"], "tls_names": [f"t{n}.example"],
                      "addresses": [f"10.{n // 250}.{n % 250}.0/24", f"2001:db8:{n:x}::/48"]} for n in range(many)}
        peers |= {f"u{n}": {"call_limit": 2} for n in range(many)}
        found = policies(peers)
        for n in range(many):
            found.found_at(f"t{n}", [(f"172.16.{n // 250}.{n % 250}", 5060)])
        last = many - 1
        own, near = f"172.16.{last // 250}.{last % 250}", f"10.{last // 250}.{last % 250}.7"
        results: list[Policy | None] = []
        counts = [calls(lambda: results.append(found.at(own, 5060))), calls(lambda: results.append(found.at(own, 1))),
                  calls(lambda: results.append(found.at(near, 1))),
                  calls(lambda: results.append(found.at(f"2001:db8:{last:x}::7", 1))),
                  calls(lambda: results.append(found.at("198.51.100.1", 1, (f"t{last}.example",)))),
                  calls(lambda: results.append(found.at("198.51.100.1", 1, ("x.example",)))),
                  calls(lambda: results.append(found.users.get(f"u{last}@example.com")))]
        self.assertEqual([one.name if one is not None else "" for one in results],
                         [f"t{last}"] * 5 + ["", f"u{last}"])
        return [one.total() for one in counts]
