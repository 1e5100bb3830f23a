"""The token of our Record-Route: who may show it, and what it says."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from sipd.proxy.token import RouteToken

CALL, CALLER, CALLEE = "c1@192.0.2.9", "from-tag", "to-tag"
UDP_FLOW = "udp/192.0.2.1:5060/192.0.2.9:40000"
TCP_FLOW = "tcp/00000007"


class Token(TestCase):
    """Tokens of one secret."""

    def setUp(self) -> None:
        """The secret of a server."""
        self.token = RouteToken(b"0123456789abcdef")

    def test_both_ways(self) -> None:
        """The caller's requests and the callee's both pass, in whatever order the tags stand."""
        token = self.token.make(CALL, CALLER)
        self.assertEqual(self.token.check(token, CALL, CALLER, CALLEE), ("", False, ""))
        self.assertEqual(self.token.check(token, CALL, CALLEE, CALLER), ("", False, ""))

    def test_directions(self) -> None:
        """Towards the callee it gives the callee's flow, towards the caller the caller's, "~" meaning only that."""
        token = self.token.make(CALL, CALLER, f"~{UDP_FLOW}", TCP_FLOW)
        self.assertEqual(self.token.check(token, CALL, CALLER, CALLEE), (TCP_FLOW, False, ""))
        self.assertEqual(self.token.check(token, CALL, CALLEE, CALLER), (UDP_FLOW, True, ""))

    def test_one_flow(self) -> None:
        """A flow to one side says nothing about the other."""
        for caller, callee in ((UDP_FLOW, ""), ("", f"~{TCP_FLOW}")):
            token = self.token.make(CALL, CALLER, caller, callee)
            towards_callee = self.token.check(token, CALL, CALLER, CALLEE)
            towards_caller = self.token.check(token, CALL, CALLEE, CALLER)
            self.assertEqual(towards_callee, (callee.lstrip("~"), callee[:1] == "~", ""))
            self.assertEqual(towards_caller, (caller, False, ""))

    def test_other_dialog(self) -> None:
        """Another Call-ID, or two other tags: no rights."""
        token = self.token.make(CALL, CALLER, UDP_FLOW, TCP_FLOW)
        self.assertIsNone(self.token.check(token, CALL + "x", CALLER, CALLEE))
        self.assertIsNone(self.token.check(token, CALL, "other", CALLEE))
        self.assertIsNone(self.token.check(token, CALL, CALLER.upper(), CALLEE))

    def test_no_dialog(self) -> None:
        """s12.2: without a To tag a request is in no dialog."""
        self.assertIsNone(self.token.check(self.token.make(CALL, CALLER), CALL, CALLER, ""))
        self.assertIsNone(self.token.check(self.token.make(CALL, ""), CALL, CALLER, ""))

    def test_parts_do_not_run_together(self) -> None:
        """Call-ID and tag are kept apart: moving a letter from one to the other makes another token."""
        self.assertNotEqual(self.token.make("ab", "c"), self.token.make("a", "bc"))

    def test_secret(self) -> None:
        """Another server's token is worth nothing here; the same secret after a restart knows its own."""
        token = self.token.make(CALL, CALLER, UDP_FLOW)
        self.assertIsNone(RouteToken(b"fedcba9876543210").check(token, CALL, CALLER, CALLEE))
        self.assertIsNotNone(RouteToken(b"0123456789abcdef").check(token, CALL, CALLER, CALLEE))

    def test_every_altered_character(self) -> None:
        """No single character can be changed, left out or added."""
        token = self.token.make(CALL, CALLER, f"~{UDP_FLOW}", TCP_FLOW)
        for position in range(len(token)):
            for other in ("", "A" if token[position] != "A" else "B", token[position] + "A"):
                forged = token[:position] + other + token[position + 1:]
                self.assertIsNone(self.token.check(forged, CALL, CALLER, CALLEE), forged)

    def test_user_part(self) -> None:
        """A token needs no escapes in the user part of a URI, whatever the tags are made of."""
        token = self.token.make("c\udcff", "tag%\"", f"~{UDP_FLOW}", "tcp/\u00e9")
        self.assertRegex(token, r"\A[A-Za-z0-9._-]+\Z")
        self.assertIsNotNone(self.token.check(token, "c\udcff", "tag%\"", CALLEE))

    @given(st.text(max_size=500))
    @settings(max_examples=300, deadline=None)
    def test_anything(self, text: str) -> None:
        """Whatever stands there, nothing is raised and nothing is let through."""
        token = RouteToken(b"0123456789abcdef")
        mac = token.make(CALL, CALLER)
        for forged in (text, f"{mac}.{text}", f"{text}.{mac}"):
            self.assertIsNone(token.check(forged, CALL, CALLER, CALLEE) if forged not in (mac, f"{mac}.") else None)

    def test_length(self) -> None:
        """Overlong text is not even decoded."""
        self.assertIsNone(self.token.check(self.token.make(CALL, CALLER, "x" * 5000), CALL, CALLER, CALLEE))

    def test_branch(self) -> None:
        """s16.11: the branch of a request forwarded without state follows from its parts, and is ours alone."""
        branch = self.token.branch("SIP/2.0/UDP a;branch=z9hG4bK1", CALL)
        self.assertTrue(branch.startswith("z9hG4bK"))
        self.assertEqual(branch, self.token.branch("SIP/2.0/UDP a;branch=z9hG4bK1", CALL))
        self.assertNotEqual(branch, self.token.branch("SIP/2.0/UDP a;branch=z9hG4bK2", CALL))
        self.assertNotEqual(branch, RouteToken(b"fedcba9876543210").branch("SIP/2.0/UDP a;branch=z9hG4bK1", CALL))
