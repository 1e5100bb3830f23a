"""From bindings and redirections to targets in groups (RFC 3261 s16.5, s16.6, s16.7 step 4)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.binding import Binding
from sipd.message.hop import Hop
from sipd.proxy.targets import Groups, groups_of, redirected

UDP, TCP, TLS = (Hop(kind, "192.0.2.7", 40000) for kind in ("udp", "tcp", "tls"))


def binding(contact: str, q: int = 1000, **fields: Any) -> Binding:
    """A binding of 1001."""
    fields.setdefault("source", UDP)
    fields.setdefault("flow", "flow-7")
    return Binding("1001@example.com", contact, "", q, 9e9, "c", 1, listener="192.0.2.1:5060", **fields)


def uris(groups: Groups) -> list[list[str]]:
    """The URIs, group by group."""
    return [[target.uri for target in group] for group in groups]


class Bindings(TestCase):
    """`groups_of`."""

    def test_none(self) -> None:
        """No binding, no group."""
        self.assertEqual(groups_of([]), [])

    def test_by_q(self) -> None:
        """Equal q together in the order of registration, higher q first."""
        groups = groups_of([binding("sip:a@h", 500), binding("sip:b@h", 1000), binding("sip:c@h", 500),
                            binding("sip:d@h", 0)])
        self.assertEqual(uris(groups), [["sip:b@h"], ["sip:a@h", "sip:c@h"], ["sip:d@h"]])

    def test_plain_contact(self) -> None:
        """A UDP contact that is where it says is reached there, by the listener it knows."""
        ((target,),) = groups_of([binding("sip:a@192.0.2.7:40000")])
        self.assertEqual((target.flow_id, target.only, target.listener), ("", False, "192.0.2.1:5060"))

    def test_behind_nat(self) -> None:
        """One behind NAT is reached at its source and nowhere else."""
        ((target,),) = groups_of([binding("sip:a@10.0.0.7", nat=True)])
        self.assertEqual((target.flow_id, target.only), ("flow-7", True))

    def test_connection(self) -> None:
        """A connection is used while it stands; without NAT the contact can be tried after it."""
        ((target,),) = groups_of([binding("sip:a@192.0.2.7;transport=tcp", source=TCP)])
        self.assertEqual((target.flow_id, target.only), ("flow-7", False))

    def test_path(self) -> None:
        """RFC 3327 s5.3: with a Path the way goes by it, not by the flow of the REGISTER."""
        ((target,),) = groups_of([binding("sip:a@10.0.0.7", nat=True, path=("<sip:edge.example.com;lr>",))])
        self.assertEqual((target.route, target.flow_id, target.only), (("<sip:edge.example.com;lr>",), "", False))

    def test_secure(self) -> None:
        """s26.2.2: a sips request goes to sips contacts and to those registered over TLS only."""
        groups = groups_of([binding("sip:a@h"), binding("sips:b@h"), binding("sip:c@h", source=TLS),
                            binding("sip:d@h", source=TCP)], secure=True)
        self.assertEqual(uris(groups), [["sips:b@h", "sip:c@h"]])
        self.assertEqual(groups_of([binding("sip:a@h")], secure=True), [])

    def test_not_callable(self) -> None:
        """Contacts of other schemes are no targets."""
        self.assertEqual(uris(groups_of([binding("mailto:a@h"), binding("SIP:b@h"), binding("tel:+1")])), [["SIP:b@h"]])

    def test_what_is_not_for_a_request_uri(self) -> None:
        """s16.6 step 2, s19.1.1: headers and method of a contact stay out of the Request-URI."""
        self.assertEqual(uris(groups_of([binding("sip:a@h;method=INVITE;lr?Subject=x")])), [["sip:a@h;lr"]])


class Redirected(TestCase):
    """`redirected`."""

    def test_by_q(self) -> None:
        """The contacts in groups by falling q, one without q first."""
        groups, left = redirected(["<sip:a@h>;q=0.5", "sip:b@h", "<sip:c@h>;q=0.5"], [], False, 60)
        self.assertEqual((uris(groups), left), ([["sip:b@h"], ["sip:a@h", "sip:c@h"]], []))

    def test_each_once(self) -> None:
        """s16.5, s19.1.4: an equivalent URI is not added again, neither one tried before nor a second one here."""
        groups, left = redirected(["<sip:A@h>", "<sip:%61@H>", "<sip:b@h;x=1>", "<sip:b@h>"], ["sip:a@h"], False, 60)
        self.assertEqual((uris(groups), left), ([["sip:A@h", "sip:b@h;x=1"]], []))

    def test_left_over(self) -> None:
        """What cannot be called, or not securely, stays for the caller."""
        contacts = ["<mailto:a@h>", "<sip:b@h>", "<sips:c@h>", "<nonsense"]
        groups, left = redirected(contacts, [], False, 60)
        self.assertEqual((uris(groups), left), ([["sip:b@h", "sips:c@h"]], ["<mailto:a@h>", "<nonsense"]))
        groups, left = redirected(contacts, [], True, 60)
        self.assertEqual((uris(groups), left), ([["sips:c@h"]], ["<mailto:a@h>", "<sip:b@h>", "<nonsense"]))

    def test_broken_parameters(self) -> None:
        """A q that is no q counts as none; a known target that cannot be read compares to nothing."""
        groups, _ = redirected(["<sip:a@h>;q=high", "<sip:b@h>;q=0.3"], ["nonsense"], False, 60)
        self.assertEqual(uris(groups), [["sip:a@h"], ["sip:b@h"]])

    def test_headers(self) -> None:
        """Headers in a contact do not make it into the Request-URI."""
        self.assertEqual(uris(redirected(["<sip:a@h?Subject=x>"], [], False, 60)[0]), [["sip:a@h"]])
