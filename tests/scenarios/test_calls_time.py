"""Calls that end by themselves: session timers (RFC 4028), the longest duration; and the bounds of the call table."""

from __future__ import annotations

import json
from typing import Any

from sipd.calls.cdr import record
from sipd.calls.history import tell
from sipd.calls.table import CallValues
from sipd.message.message import Request
from sipd.message.parser import parse
from tests.scenarios.test_dress_calls import called
from tests.support.calls import CallCase
from tests.support.cases import shows
from tests.support.rig import Phone, Rig, established
from tests.support.trunks import over, trunk_rig


class Time(CallCase):
    """Calls that nobody hangs up."""

    @shows("INV-33")
    def test_session_timer(self) -> None:
        """RFC 4028 s8: asked for where the caller supports it; the callee does not, so the caller is told to refresh; a
        refresh starts it anew, and without one the call is over, without a BYE (s8.3)."""
        ok = established(self.a, self.b, "Supported: timer")[3]
        invite = self.sent_to(self.b, "INVITE")
        self.assertEqual(invite.first["session-expires"], "1800")
        self.assertEqual((ok.first["session-expires"], ok.first["require"]), ("1800;refresher=uac", "timer"))
        self.rig.advance(1000, 10)
        self.a.in_dialog("INVITE", ok, "Supported: timer", "Session-Expires: 600;refresher=uac", cseq=2)
        again = self.b.take("INVITE")
        self.b.answer(again, 200, "Session-Expires: 600;refresher=uac", "Require: timer")
        self.a.drain()
        (call,) = self.live
        self.assertEqual((call.dialogs[0].interval, call.dialogs[0].refresher), (600, "caller"))
        self.rig.advance(590, 10)
        self.assertEqual(len(self.live), 1)
        self.rig.advance(20, 1)
        self.b.drain()
        self.ended("session-timer")
        self.rig.finish()

    def test_session_timer_of_the_parties(self) -> None:
        """What they agree on themselves is left alone, and held to: UPDATE from the callee refreshes."""
        _, got, sent, ok = established(self.a, self.b)
        self.b.in_callee_dialog("UPDATE", got, sent, "Supported: timer", "Session-Expires: 90;refresher=uac", cseq=5)
        update = self.a.take("UPDATE")
        self.assertEqual(update.first["session-expires"], "90;refresher=uac")
        self.a.answer(update, 200, "Session-Expires: 90;refresher=uac", "Require: timer")
        self.b.take(200)
        (call,) = self.live
        self.assertEqual((call.dialogs[0].interval, call.dialogs[0].refresher), (90, "callee"))
        self.rig.advance(93, 1)
        self.ended("session-timer")
        self.rig.finish()

    def test_repeated_answer_is_the_same(self) -> None:
        """A 200 that comes again has the session timer again: both are one message."""
        self.a.invite("1002", "Supported: timer, path")
        self.a.take(100)
        got = self.b.take("INVITE")
        for _ in range(3):
            self.b.answer(got, 200)
            self.rig.advance(1)
        oks = [message.first["session-expires"] for message in self.a.drain()]
        self.assertEqual(oks, ["1800;refresher=uac"] * 3)
        self.rig.finish()

    def test_too_short(self) -> None:
        """s8.1: 422 with Min-SE for whoever supports timers and asks for less; no call comes of it."""
        self.build(calls={"min_se": 300})
        self.a.invite("1002", "Supported: timer", "Session-Expires: 120")
        refusal = self.a.take(422)
        self.assertEqual(refusal.first["min-se"], "300")
        self.assertEqual((self.live, len(self.rig.core.calls.finished)), ([], 0))
        self.rig.finish()

    def test_longest(self) -> None:
        """At the longest duration both sides get a BYE that looks like the other's, and the call is over."""
        self.build(calls={"max_duration": 60})
        invite, got, sent, ok = established(self.a, self.b)
        self.a.in_dialog("INFO", ok, cseq=9)
        self.b.answer(self.b.take("INFO"), 200)
        self.a.take(200)
        self.rig.advance(61, 1)
        to_callee, to_caller = self.b.take("BYE"), self.a.take("BYE")
        self.assertEqual((to_callee.call_id, to_callee.from_tag, to_callee.to_tag, to_callee.uri_text, to_callee.cseq),
                         (invite.call_id, ok.from_tag, ok.to_tag, self.b.contact, (10, "BYE")))
        self.assertEqual((to_caller.from_tag, to_caller.to_tag, to_caller.uri_text),
                         (ok.to_tag, ok.from_tag, self.a.contact))
        self.b.answer(to_callee, 200)
        self.a.answer(to_caller, 200)
        call = self.ended("max-duration", "server")
        self.assertEqual([text for _, text in tell(call)][-5:], [
            "BYE from the server to the callee", "BYE from the server to the caller",
            "the call is over: the server ended it, it lasted too long",
            "the callee answers the server's BYE: 200 Reason", "the caller answers the server's BYE: 200 Reason"])
        self.rig.finish()

    def test_longest_behind_nat(self) -> None:
        """The BYE finds a caller on a connection and a callee behind NAT by the flows in our token."""
        self.rig = rig = Rig(calls={"max_duration": 60})
        a = rig.phone("1001", transport="tcp")
        b = rig.phone("1002", "10.0.0.5", source=("198.51.100.7", 40123))
        b.via_params = ";rport"
        a.register()
        b.register()
        established(a, b)
        rig.advance(61, 1)
        for phone in (a, b):
            phone.answer(phone.take("BYE"), 200)
        rig.finish()

    def test_longest_over_a_trunk(self) -> None:
        """A carrier's BYE looks as the carrier knows the call: its From, its CSeq; the caller's as the caller does."""
        rig, caller, carrier = trunk_rig()
        rig.core.calls.configure(CallValues(max_duration=60))
        _, got, _, ok = called(caller, carrier)
        rig.advance(62, 1)
        bye, mine = carrier.take("BYE"), caller.take("BYE")
        self.assertEqual((bye.first["from"], bye.from_tag, bye.cseq), (got.first["from"], got.from_tag, (12, "BYE")))
        self.assertEqual((mine.first["from"], mine.first["to"]), (ok.first["to"], ok.first["from"]))
        carrier.answer(bye, 200)
        caller.answer(mine, 200)
        rig.advance(0.5)
        caller.drain()
        carrier.drain()
        call = next(rig.core.calls.over())
        self.assertEqual([text for _, text in tell(call)][-1], "the caller answers the server's BYE: 200 Reason")
        over(rig)

    def test_lost_for_ever(self) -> None:
        """A call whose phones both vanished leaves nothing after its longest duration."""
        self.build(calls={"max_duration": 3600})
        established(self.a, self.b)
        self.rig.advance(3700, 1)
        self.a.drain()
        self.b.drain()
        self.ended("max-duration", "server")
        self.rig.finish()

    # --- bounds and switches

    def test_full(self) -> None:
        """A call too many goes on, is not tracked, and is counted and told."""
        self.build(calls={"limit": 1})
        established(self.a, self.b)
        c, d = self.rig.phone("1003"), self.rig.phone("1004")
        d.register()
        ok = established(c, d)[3]
        self.assertEqual((len(self.live), self.rig.core.calls.table.refused), (1, 1))
        self.assertEqual([fields["table"] for kind, fields in self.rig.records if kind == "limit-reached"], ["calls"])
        c.hang_up(ok, d)
        self.rig.finish()

    def test_off(self) -> None:
        """track = false: the call goes, nothing is known of it, and no session timer is asked for."""
        self.build(calls={"track": False})
        ok = established(self.a, self.b, "Supported: timer")[3]
        self.assertNotIn("session-expires", ok.first)
        self.assertEqual((self.live, self.kinds()), ([], []))
        self.rig.finish()

    def test_without_record_route(self) -> None:
        """Where the BYE will not come by, the call is over for us when it is answered, and says so."""
        self.build(proxy={"record_route": False})
        self.a.invite("1002", "Supported: timer")
        self.a.take(100)
        got = self.b.take("INVITE")
        self.assertNotIn("session-expires", got.first)
        self.b.answer(got, 200)
        self.a.take(200)
        self.ended("unseen")
        self.rig.finish()

    def test_stolen_call_id(self) -> None:
        """Somebody else's INVITE with the Call-ID and tag of a call changes nothing of it, nor does a stranger's."""
        invite = self.a.invite("1002")
        self.a.take(100)
        got = self.b.take("INVITE")
        c, d = self.rig.phone("1003"), self.rig.phone("1004")
        d.register()
        c.request("INVITE", "sip:1004@example.com", call_id=invite.call_id,
                  from_=f"<sip:1003@example.com>;tag={invite.from_tag}", to="<sip:1004@example.com>")
        d.answer(d.take("INVITE"), 200)
        c.drain()
        (call,) = self.live
        self.assertEqual((call.caller, call.legs, call.state), ("1001", 1, 0))
        self.b.answer(got, 486)
        self.b.take("ACK")
        self.a.ack(self.a.take(486), invite)
        self.ended("failed", "", 486)
        self.rig.finish()

    def test_records_are_json(self) -> None:
        """Octets that are no text, in names and phrases, become a record that can be read again."""
        self.a.invite("1002", "User-Agent: \udcff\udc80\"")
        self.a.take(100)
        self.b.answer(self.b.take("INVITE"), 486, reason="B\udcffusy\"")
        self.a.take(486)
        self.assertEqual(json.loads(json.dumps(record(self.over())))["user_agent"], "\udcff\udc80\"")

    def sent_to(self, phone: Phone, method: str) -> Any:
        """The first request of a method that the phone ever got."""
        for data in phone.raw:
            message = parse(data)
            if isinstance(message, Request) and message.method == method:
                return message
        raise AssertionError(method)
