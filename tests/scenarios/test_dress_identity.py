"""Who calls, as a trunk sees it: From, P-Asserted-Identity, Remote-Party-ID, Privacy (RFC 3323, RFC 3325)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message.address import Address
from sipd.message.message import Request
from tests.scenarios.test_dress_calls import called
from tests.support.cases import shows
from tests.support.trunks import CARRIER, challenged, over, proved, trunk_rig

_FIELDS = ("p-asserted-identity", "p-preferred-identity", "remote-party-id", "privacy")


class Identity(TestCase):
    """What one INVITE looks like."""

    def seen(self, wanted: dict[str, Any], *extra: str, from_: str = '"Ann" <sip:1001@example.com>;tag=a',
             **settings: Any) -> tuple[Request, dict[str, str]]:
        """The INVITE that the carrier gets, and the fields about the caller that stand in it."""
        rig, caller, carrier = trunk_rig(wanted, **settings)
        invite = caller.invite("0123", *extra, from_=from_, cseq=10)
        caller.take(100)
        _, got = challenged(carrier, "INVITE")
        carrier.answer(got, 180)
        self.assertEqual(caller.take(180).first["from"], invite.first["from"])
        sent = carrier.answer(got, 200)
        ok = caller.take(200)
        self.assertEqual(ok.first["from"], invite.first["from"])
        caller.ack(ok)
        ack = carrier.take("ACK")
        caller.in_dialog("INFO", ok, *extra, cseq=11)
        info = carrier.take("INFO")
        self.assertEqual([one.first["from"] for one in (ack, info)], [got.first["from"]] * 2)
        self.assertEqual([name for name in _FIELDS[:3] if name in info.first], [])
        carrier.answer(info, 200)
        self.assertEqual(caller.take(200).first["from"], invite.first["from"])
        carrier.in_callee_dialog("BYE", got, sent, cseq=3)
        bye = caller.take("BYE")
        self.assertEqual(Address.parse(bye.first["to"]).uri_text, Address.parse(invite.first["from"]).uri_text)
        self.assertEqual(bye.to_tag, invite.from_tag)
        caller.answer(bye, 200)
        self.assertEqual(carrier.take(200).first["to"], got.first["from"])
        over(rig)
        return got, {name: ", ".join(got.all(name)) for name in _FIELDS if name in got.first}

    @shows("OUT-15", "3323 4.1")
    def test_from(self) -> None:
        """Which options make From what; the display name stays, and so does the tag."""
        for wanted, uri in (
                ({}, "sip:1001@example.com"),
                ({"from_domain": "carrier.example"}, "sip:1001@carrier.example"),
                ({"from_user": "acct1"}, f"sip:acct1@{CARRIER}"),
                ({"from_user": "acct1", "from_domain": "carrier.example"}, "sip:acct1@carrier.example"),
                ({"caller_id": "+4930123"}, f"sip:+4930123@{CARRIER}"),
                ({"caller_id": "+4930123", "from_user": "acct1"}, f"sip:acct1@{CARRIER}")):
            got, fields = self.seen(wanted)
            self.assertEqual((got.first["from"], fields), (f'"Ann" <{uri}>;tag=a', {}), wanted)

    @shows("OUT-15", "3323 4.1")
    def test_numbers(self) -> None:
        """A tel URI in From is a number; parameters of the caller's URI are not the account's."""
        for from_, uri in (("<tel:+49301;phone-context=x.example>;tag=a", "sip:+49301@carrier.example"),
                           ("<sip:1001@example.com;user=phone>;tag=a;x=y", "sip:1001@carrier.example")):
            got, _ = self.seen({"from_domain": "carrier.example"}, from_=from_)
            address = Address.parse(got.first["from"])
            self.assertEqual((address.uri_text, address.param_text), (uri, from_.partition(">")[2]))

    @shows("OUT-15", "3325 5")
    def test_who_calls(self) -> None:
        """send_identity; what the phone claims itself never leaves."""
        pai, rpid = "p-asserted-identity", "remote-party-id"
        claims = ("P-Asserted-Identity: <sip:boss@example.com>", "P-Preferred-Identity: <sip:boss@example.com>",
                  "Remote-Party-ID: <sip:boss@example.com>")
        required = {"auth": {"required": True}, "users": {"1001": "secret1"}}
        told = f'"Ann" <sip:1001@{CARRIER}>'
        party = f"{told};party=calling;screen=yes;privacy=off"
        for sends, fields in (("none", {}), ("pai", {pai: told}), ("rpid", {rpid: party}),
                              ("both", {pai: told, rpid: party})):
            self.assertEqual(self.seen({"send_identity": sends, "from_user": "acct"})[1], fields)
        self.assertEqual(self.seen({}, *claims)[1], {})
        self.assertEqual(self.seen({"send_identity": "pai"}, *claims)[1], {pai: f"<sip:boss@{CARRIER}>"})  # no passwords
        rig, caller, carrier = trunk_rig({"send_identity": "both"}, **required)
        invite = caller.invite("0123", *claims)
        caller.prove(invite)
        caller.take(100)
        got = carrier.take("INVITE")
        self.assertEqual([got.all(name) for name in _FIELDS[:3]],
                         [[f"<sip:1001@{CARRIER}>"], [], [f"<sip:1001@{CARRIER}>;party=calling;screen=yes;privacy=off"]])
        self.assertNotIn("proxy-authorization", got.first)
        carrier.answer(got, 486)
        carrier.take("ACK")
        caller.take(486)
        rig.advance(40.0)
        caller.drain()
        over(rig)

    @shows("OUT-15", "3323 4.1")
    def test_one_number_for_all(self) -> None:
        """caller_id is the number that the carrier is told."""
        _, fields = self.seen({"send_identity": "pai", "caller_id": "+4930123", "from_domain": "carrier.example"})
        self.assertEqual(fields, {"p-asserted-identity": '"Ann" <sip:+4930123@carrier.example>'})

    @shows("OUT-15", "3323 4.2")
    def test_privacy(self) -> None:
        """Who asks for privacy is anonymous at a carrier that is not trusted; Privacy itself goes on."""
        for privacy in ("id", "user;id", "header", "critical; ID"):
            got, fields = self.seen({"send_identity": "both", "from_user": "acct1"}, f"Privacy: {privacy}")
            self.assertEqual(got.first["from"], '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=a')
            self.assertEqual(fields, {"privacy": privacy})
        got, fields = self.seen({"send_identity": "pai"}, "Privacy: none")
        self.assertEqual(fields, {"p-asserted-identity": f'"Ann" <sip:1001@{CARRIER}>', "privacy": "none"})

    @shows("OUT-15", "3325 7")
    def test_privacy_trusted(self) -> None:
        """RFC 3325 s7: a trusted carrier is told all the same, with the word that it is not to tell anybody."""
        wanted = {"send_identity": "both", "caller_id": "+4930123", "trust_identity": True}
        got, fields = self.seen(wanted, "Privacy: user")
        self.assertEqual(got.first["from"], '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=a')
        told = f'"Ann" <sip:+4930123@{CARRIER}>'
        self.assertEqual(fields, {"p-asserted-identity": told, "privacy": "user;id",
                                  "remote-party-id": f"{told};party=calling;screen=yes;privacy=full"})

    @shows("OUT-15", "3323 4.1")
    def test_anonymous(self) -> None:
        """From of somebody who wants to stay unknown is left as it is, whatever the account; nobody is named by it."""
        from_ = '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=a'
        got, fields = self.seen({"send_identity": "pai", "from_user": "acct1"}, from_=from_)
        self.assertEqual((got.first["from"], fields), (from_, {}))
        got, fields = self.seen({"send_identity": "pai", "caller_id": "1", "trust_identity": True}, from_=from_)
        self.assertEqual((got.first["from"], fields),
                         (from_, {"p-asserted-identity": f"<sip:1@{CARRIER}>", "privacy": "id"}))

    @shows("OUT-15", "3323 4.1")
    def test_long_address(self) -> None:
        """An address too long for the token: the responses are turned back, the carrier's requests name the account."""
        rig, caller, carrier = trunk_rig({"from_user": "acct1"})
        invite = caller.invite("0123", from_=f"<sip:{'a' * 120}@example.com>;tag=a", cseq=10)
        caller.take(100)
        _, got = challenged(carrier, "INVITE")
        sent = carrier.answer(got, 200)
        ok = caller.take(200)
        self.assertEqual(ok.first["from"], invite.first["from"])
        self.assertLess(len(ok.values("record-route")[0]), 300)
        caller.ack(ok)
        self.assertEqual(carrier.take("ACK").first["from"], got.first["from"])
        carrier.in_callee_dialog("BYE", got, sent)
        bye = caller.take("BYE")
        self.assertEqual(Address.parse(bye.first["to"]).uri_text, f"sip:acct1@{CARRIER}")
        caller.answer(bye, 200)
        self.assertEqual(carrier.take(200).first["to"], got.first["from"])
        over(rig)

    @shows("OUT-15", "22.2")
    def test_reload(self) -> None:
        """Another look, from the next call on; the registration is left alone, and calls that are up keep theirs."""
        rig, caller, carrier = trunk_rig({"register": True})
        rig.advance(0.6)  # until it is sent again
        register = carrier.take("REGISTER")
        carrier.answer(register, 200, f"Contact: {register.first['contact']};expires=3600")
        _, got, sent, ok = called(caller, carrier)
        self.assertEqual(Address.parse(got.first["from"]).uri_text, caller.aor)
        changed = rig.config.peers["carrier"].model_copy(update={"from_user": "acct2", "send_identity": "pai"})
        rig.core.call_out(rig.config.model_copy(update={"peers": {"carrier": changed}}))
        carrier.silent()
        caller.in_dialog("INFO", ok, cseq=11)
        info = carrier.take("INFO")
        self.assertEqual(info.first["from"], got.first["from"])
        carrier.answer(info, 200)
        caller.take(200)
        caller.invite("0124")
        caller.take(100)
        other = carrier.take("INVITE")
        self.assertEqual((Address.parse(other.first["from"]).uri_text, other.first["p-asserted-identity"]),
                         (f"sip:acct2@{CARRIER}", f"<sip:1001@{CARRIER}>"))
        self.assertEqual(proved(other), [("n1", "MD5", 3)])
        carrier.answer(other, 486)
        carrier.take("ACK")
        caller.take(486)
        carrier.in_callee_dialog("BYE", got, sent, cseq=3)
        caller.answer(caller.take("BYE"), 200)
        carrier.take(200)
        rig.core.hang_up(1.0)
        carrier.answer(carrier.take("REGISTER"), 200)
        rig.advance(40.0)
        caller.drain()
        rig.finish()
