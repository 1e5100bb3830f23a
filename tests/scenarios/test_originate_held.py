"""Calls that the server begins and holds: two dialogs, and what passes between them (RFC 3725)."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sipd.message.message import Request, Response
from tests.support.originate import FIRST, SDP, SECOND, Play, steps
from tests.support.rig import Phone


class ControlledTests(SynchronousTestCase):
    """Two dialogs of ours (RFC 3725 flow III)."""

    def setUp(self) -> None:
        self.play = Play()
        self.a, self.b = self.play.a, self.play.b

    def test_flow(self) -> None:
        """What the second offers the first gets, and its answer goes back in the ACK; each sees the other as the caller.
        To each it is one session of ours: the same origin, and a version one higher."""
        play = self.play
        call = play.originate("3pcc")
        play.answer(self.a, body=FIRST)
        held = self.a.take("ACK").body.decode()
        invite, second = play.answer(self.b, body=SECOND)
        self.assertEqual(invite.first["from"].partition(";")[0], "<sip:1001@example.com>")
        self.assertEqual(invite.body, b"")
        again = self.a.take("INVITE")
        offered = again.body.decode()
        self.assertIn("m=audio 5000 RTP/AVP 0\r\na=sendrecv", offered)
        origins = [next(line for line in text.split("\r\n") if line[:2] == "o=").split() for text in (held, offered)]
        self.assertEqual(origins[0][1], origins[1][1])
        self.assertEqual([int(origin[2]) for origin in origins], [1, 2])
        self.a.answer(again, 200, SDP, body=FIRST)
        play.rig.advance(0.1)
        self.a.take("ACK")
        answer = self.b.take("ACK")
        self.assertIn(b"m=audio 4000 RTP/AVP 0 8", answer.body)
        self.assertNotIn(b"o=first", answer.body)
        self.assertEqual(steps(call)[-1], "connected")
        self.assertEqual([play.rig.core.calls.in_use(name) for name in ("1001", "1002")], [1, 1])
        call_row = call.row()
        self.assertEqual((call_row["state"], call_row["way"], len(call_row["call_ids"])), ("connected", "3pcc", 2))
        play.hang_up(self.b, invite, second)
        play.taken_bye(self.a)
        play.finish()

    def test_second_fails(self) -> None:
        """Busy, nobody there, does not answer: the first is let go, and the command says who."""
        for status in (486, 603):
            call = self.play.originate("3pcc", patience=20.0)
            self.play.answer(self.a, body=FIRST)
            self.a.take("ACK")
            self.b.refuse(status)
            self.play.rig.advance(0.1)
            self.play.taken_bye(self.a)
            self.assertEqual((steps(call)[-1], call.steps[-1]["status"]), ("failed 1002", status))
            self.play.rig.advance(40)
        call = self.play.originate("3pcc", patience=20.0)
        self.play.answer(self.a, body=FIRST)
        self.a.take("ACK")
        ringing = self.b.take("INVITE")
        self.b.answer(ringing, 180)
        self.play.rig.advance(20.5)
        self.b.cancelled(ringing)
        self.play.taken_bye(self.a)
        self.assertEqual((steps(call)[-1], call.steps[-1]["status"]), ("failed 1002", 408))
        self.play.finish()

    def test_first_hangs_up_while_the_second_rings(self) -> None:
        """CANCEL for the second."""
        play = self.play
        call = play.originate("3pcc")
        invite, sent = play.answer(self.a, body=FIRST)
        self.a.take("ACK")
        ringing = self.b.take("INVITE")
        self.b.answer(ringing, 180)
        play.hang_up(self.a, invite, sent)
        self.b.cancelled(ringing)
        self.assertEqual(steps(call)[-1], "failed 1001")
        play.finish()

    def test_first_does_not_agree(self) -> None:
        """The first refuses the second's media, or says nothing: both are let go, and the second has its ACK."""
        for status in (488, 0):
            call = self.play.originate("3pcc")
            self.play.answer(self.a, body=FIRST)
            self.a.take("ACK")
            self.play.answer(self.b, body=SECOND)
            again = self.a.take("INVITE")
            if status:
                self.a.answer(again, status)
                self.a.take("ACK")
                self.play.rig.advance(0.1)
            else:
                self.play.rig.advance(33)
            self.assertIn(b"a=inactive", self.b.take("ACK").body)
            self.play.taken_bye(self.b)
            byes = [one for one in self.a.drain() if isinstance(one, Request) and one.method == "BYE"]
            self.a.answer(byes[0], 200)
            self.assertEqual(steps(call)[-1], "failed 1001")
            self.play.rig.advance(120)
            self.a.drain()
            self.b.drain()
        self.play.finish()

    def test_first_hangs_up_while_it_is_asked(self) -> None:
        """A BYE that crosses the re-INVITE."""
        play = self.play
        play.originate("3pcc")
        invite, sent = play.answer(self.a, body=FIRST)
        self.a.take("ACK")
        play.answer(self.b, body=SECOND)
        again = self.a.take("INVITE")
        play.hang_up(self.a, invite, sent)
        self.a.answer(again, 481)
        play.rig.advance(0.1)
        self.b.take("ACK")
        play.taken_bye(self.b)
        self.a.take("ACK")
        play.finish()

    def test_either_hangs_up(self) -> None:
        """BYE goes on to the other."""
        for place in (0, 1):
            call, one, first, two, second = self.play.connected()
            phones = (self.a, self.b)
            self.play.hang_up(phones[place], *((one, first) if place == 0 else (two, second)))
            self.play.taken_bye(phones[1 - place])
            self.assertEqual(steps(call)[-1], f"hung up {phones[place].name}")
            self.play.rig.advance(70)
        self.play.finish()

    def test_both_hang_up(self) -> None:
        """BYEs that cross are both answered."""
        play = self.play
        call, one, first, two, second = play.connected()
        self.a.in_callee_dialog("BYE", one, first, cseq=20)
        self.b.in_callee_dialog("BYE", two, second, cseq=20)
        play.rig.advance(0.1)
        self.a.take(200)
        bye = self.b.take()
        answered = self.b.take()
        if isinstance(bye, Response):
            bye, answered = answered, bye
        self.assertEqual(answered.status, 200)
        self.b.answer(bye, 481)
        for message in self.a.drain():
            self.a.answer(message, 481)
        play.finish()

    def test_hold(self) -> None:
        """One puts the other on hold: its re-INVITE goes through, and the answer comes back."""
        play = self.play
        call, one, first, two, second = play.connected()
        offer = SECOND.replace(b"a=sendrecv", b"a=sendonly")
        self.b.in_callee_dialog("INVITE", two, second, SDP, body=offer, cseq=20)
        play.rig.advance(0.1)
        asked = self.a.take("INVITE")
        self.assertIn(b"a=sendonly", asked.body)
        self.a.answer(asked, 200, SDP, body=FIRST + b"a=recvonly\r\n")
        play.rig.advance(0.1)
        self.a.take("ACK")
        self.b.take(100)
        ok = self.b.take(200)
        self.assertIn(b"a=recvonly", ok.body)
        self.acknowledge(self.b, two, second, 20)
        play.hang_up(self.a, one, first)
        play.taken_bye(self.b)
        play.finish()

    def acknowledge(self, phone: Phone, invite: Request, answer: Response, cseq: int, body: bytes = b"") -> None:
        """The ACK of the callee for a 2xx to its re-INVITE."""
        phone.in_callee_dialog("ACK", invite, answer, *([SDP] if body else []), cseq=cseq, body=body)
        self.play.rig.advance(0.1)

    def test_hold_without_an_offer(self) -> None:
        """A re-INVITE without an offer: the other offers, and has the answer in its ACK (RFC 3725 flow I)."""
        play = self.play
        call, one, first, two, second = play.connected()
        self.a.in_callee_dialog("INVITE", one, first, cseq=20)
        play.rig.advance(0.1)
        asked = self.b.take("INVITE")
        self.assertEqual(asked.body, b"")
        self.b.answer(asked, 200, SDP, body=SECOND)
        play.rig.advance(0.1)
        self.a.take(100)
        self.assertIn(b"m=audio 5000", self.a.take(200).body)
        self.b.silent()
        self.acknowledge(self.a, one, first, 20, FIRST)
        self.assertIn(b"m=audio 4000", self.b.take("ACK").body)
        play.hang_up(self.a, one, first, 30)
        play.taken_bye(self.b)
        play.finish()

    def test_change_refused(self) -> None:
        """A refusal goes back as it came, and the session stays."""
        play = self.play
        call, one, first, two, second = play.connected()
        question = self.b.in_callee_dialog("INVITE", two, second, SDP, body=SECOND, cseq=20)
        play.rig.advance(0.1)
        self.a.refuse(488)
        play.rig.advance(0.1)
        self.b.take(100)
        self.b.ack(self.b.take(488), question)
        self.assertEqual(call.state, "connected")
        play.hang_up(self.a, one, first)
        play.taken_bye(self.b)
        play.finish()

    def test_glare(self) -> None:
        """s14.2: a change while one is under way is answered 491."""
        play = self.play
        call, one, first, two, second = play.connected()
        self.b.in_callee_dialog("INVITE", two, second, SDP, body=SECOND, cseq=20)
        play.rig.advance(0.1)
        asked = self.a.take("INVITE")
        own = self.a.in_callee_dialog("INVITE", one, first, SDP, body=FIRST, cseq=20)
        play.rig.advance(0.1)
        refusal = self.a.take()
        refusal = self.a.take() if refusal.status == 100 else refusal
        self.assertEqual(refusal.status, 491)
        self.a.ack(refusal, own)
        self.a.answer(asked, 200, SDP, body=FIRST)
        play.rig.advance(0.1)
        self.a.take("ACK")
        self.b.take(100)
        self.b.take(200)
        self.acknowledge(self.b, two, second, 20)
        play.hang_up(self.a, one, first, 30)
        play.taken_bye(self.b)
        play.finish()

    def test_no_ack(self) -> None:
        """A 200 to a re-INVITE goes out until the ACK comes; after 32 s without one the call is over (s13.3.1.4)."""
        play = self.play
        call, one, first, two, second = play.connected()
        self.b.in_callee_dialog("INVITE", two, second, SDP, body=SECOND, cseq=20)
        play.rig.advance(0.1)
        self.a.answer(self.a.take("INVITE"), 200, SDP, body=FIRST)
        play.rig.advance(0.1)
        self.a.take("ACK")
        self.b.take(100)
        play.rig.advance(40)
        answers = self.b.drain()
        # 11 by the RFC's timers; the clock of the test goes in steps
        self.assertIn(sum(isinstance(one, Response) and one.status == 200 for one in answers), range(9, 12))
        self.assertEqual(steps(call)[-1], "gone 1002")
        self.a.answer(self.a.take("BYE"), 200)
        play.rig.advance(120)
        self.a.drain()
        self.b.drain()
        play.finish()

    def test_update(self) -> None:
        """UPDATE with an offer goes through; without one it only refreshes and is answered here (RFC 3311, RFC 4028)."""
        play = self.play
        call, one, first, two, second = play.connected()
        self.a.in_callee_dialog("UPDATE", one, first, cseq=20)
        play.rig.advance(0.1)
        self.a.take(200)
        self.b.silent()
        self.a.in_callee_dialog("UPDATE", one, first, SDP, body=FIRST, cseq=21)
        play.rig.advance(0.1)
        self.b.answer(self.b.take("UPDATE"), 200, SDP, body=SECOND)
        play.rig.advance(0.1)
        self.assertIn(b"m=audio 5000", self.a.take(200).body)
        play.hang_up(self.a, one, first, 30)
        play.taken_bye(self.b)
        play.finish()

    def test_passed_on(self) -> None:
        """Keys, text and transfers go from one to the other, and so do the answers; what is unknown is refused."""
        play = self.play
        call, one, first, two, second = play.connected()
        self.a.in_callee_dialog("INFO", one, first, "Content-Type: application/dtmf-relay", body=b"Signal=5\r\n", cseq=20)
        play.rig.advance(0.1)
        info = self.b.take("INFO")
        self.assertEqual((info.body, info.first["content-type"]), (b"Signal=5\r\n", "application/dtmf-relay"))
        self.b.answer(info, 200)
        play.rig.advance(0.1)
        self.a.take(200)
        self.a.in_callee_dialog("REFER", one, first, "Refer-To: <sip:1003@example.com>", cseq=21)
        play.rig.advance(0.1)
        refer = self.b.take("REFER")
        self.assertEqual(refer.first["refer-to"], "<sip:1003@example.com>")
        self.b.answer(refer, 202)
        play.rig.advance(0.1)
        self.a.take(202)
        self.b.in_callee_dialog("NOTIFY", two, second, "Event: refer", "Subscription-State: active",
                                "Content-Type: message/sipfrag", body=b"SIP/2.0 180 Ringing\r\n", cseq=20)
        play.rig.advance(0.1)
        notify = self.a.take("NOTIFY")
        self.assertEqual((notify.first["event"], notify.body), ("refer", b"SIP/2.0 180 Ringing\r\n"))
        self.a.answer(notify, 200)
        play.rig.advance(0.1)
        self.b.take(200)
        self.a.in_callee_dialog("PUBLISH", one, first, cseq=22)
        play.rig.advance(0.1)
        self.a.take(405)
        play.hang_up(self.a, one, first, 30)
        play.taken_bye(self.b)
        play.finish()

    def test_too_much_to_pass_on(self) -> None:
        """What one party sends and the other does not answer is bounded."""
        play = self.play
        call, one, first, two, second = play.connected()
        for number in range(20, 40):
            self.a.in_callee_dialog("INFO", one, first, cseq=number)
            play.rig.advance(0.02, 0.02)
        answers = [message.status for message in self.a.drain() if isinstance(message, Response)]
        self.assertEqual(answers, [503] * 4)
        play.hang_up(self.a, one, first, 40)
        for message in self.b.drain():
            self.b.answer(message, 200)  # type: ignore[arg-type]
        play.rig.advance(1)
        self.a.drain()
        play.finish()

    def test_gone_without_a_word(self) -> None:
        """Every ten minutes both are asked; where the dialog is gone the call is over."""
        play = self.play
        call, one, first, two, second = play.connected()
        for phone in (self.a, self.b):
            phone.silent()
        play.rig.advance(601, 1.0)
        self.a.answer(self.a.take("OPTIONS"), 200)
        self.b.answer(self.b.take("OPTIONS"), 200)
        play.rig.advance(602, 1.0)
        self.a.answer(self.a.take("OPTIONS"), 405)
        self.b.answer(self.b.take("OPTIONS"), 481)
        play.rig.advance(0.1)
        self.assertEqual(steps(call)[-1], "gone 1002")
        for phone in (self.a, self.b):
            asked = phone.drain()
            self.assertEqual(asked[-1].cseq_method, "BYE")
            phone.answer(asked[-1], 200)  # type: ignore[arg-type]
        play.finish()

    def test_bad_weather(self) -> None:
        """Three packets in ten are lost, both ways: it takes longer, and comes about all the same."""
        play = self.play
        dice = Random(7)
        play.rig.network.drop = lambda packet: dice.random() < 0.3
        call = play.rig.core.controller.originate("1001", "1002", "3pcc")
        waiting: dict[tuple[str, str, int], tuple[Phone, Request, bytes]] = {}

        def live(seconds: float) -> None:
            """The phones answer what they are asked, and repeat a 200 until it is acknowledged (s13.3.1.4)."""
            for _ in range(int(seconds * 2)):
                play.rig.advance(0.5)
                for phone, body in ((self.a, FIRST), (self.b, SECOND)):
                    for message in phone.drain():
                        if not isinstance(message, Request):
                            continue
                        key = (phone.name, message.call_id, message.cseq_number)
                        if message.method == "INVITE":
                            waiting[key] = (phone, message, body)
                        elif message.method == "ACK":
                            waiting.pop(key, None)
                        else:
                            phone.answer(message, 200)
                for one, invite, body in waiting.values():
                    one.answer(invite, 200, SDP, body=body)

        live(25)
        self.assertEqual(steps(call)[-1], "connected")
        self.assertEqual(waiting, {})
        call.lost(call.first)
        live(40)
        self.assertEqual(len(play.rig.core.controller.calls), 0)
        play.rig.network.drop = None
        play.finish()


class PlacesTests(SynchronousTestCase):
    """Where requests of the phones come by, and who they are."""

    def held(self, **settings: Any) -> None:
        """A call with a change and an end, however the phones reach us."""
        play = Play(auth={"required": True}, **settings)
        call, one, first, two, second = play.connected()
        play.b.in_callee_dialog("INVITE", two, second, SDP, body=SECOND, cseq=20)
        play.rig.advance(0.1)
        play.a.answer(play.a.take("INVITE"), 200, SDP, body=FIRST)
        play.rig.advance(0.1)
        play.a.take("ACK")
        play.b.take(100)
        play.b.take(200)
        play.b.in_callee_dialog("ACK", two, second, cseq=20)
        play.rig.advance(40)
        self.assertEqual(call.state, "connected")
        play.hang_up(play.b, two, second, 21)
        play.taken_bye(play.a)
        play.finish()

    def test_credentials_are_wanted(self) -> None:
        """Nothing in our dialogs is challenged: who is in one knows it by a Contact that nobody can guess."""
        self.held()

    def test_straight(self) -> None:
        """Without Record-Route the phones speak to us straight, their ACKs too."""
        self.held(proxy={"record_route": False})

    def test_strangers(self) -> None:
        """Who knows the Contact alone is in no dialog: 481, and an ACK is nobody's."""
        play = Play(auth={"required": True})
        call, one, first, two, second = play.connected()
        stranger = play.rig.phone("1009")
        contact = call.second.contact
        for method in ("BYE", "INVITE", "INFO"):
            question = stranger.request(method, f"sip:{contact}@192.0.2.1:5060", to=f"<sip:{contact}@192.0.2.1>;tag=x")
            play.rig.advance(0.1)
            answer = stranger.take(481)
            if method == "INVITE":
                stranger.ack(answer, question)
        stranger.request("ACK", f"sip:{contact}@192.0.2.1:5060", to="<sip:x@192.0.2.1>;tag=x")
        play.rig.advance(0.1)
        stranger.silent()
        self.assertEqual(call.state, "connected")
        play.hang_up(play.b, two, second)
        play.taken_bye(play.a)
        play.finish()

    def test_over_a_carrier(self) -> None:
        """The second may be a number outside: it is called on behalf of the first, as the carrier wants it."""
        play = Play(peers={"carrier": {"uri": "sip:203.0.113.10", "username": "acct", "password": "pass"}},
                    routes=[{"match": "0*", "to": ["carrier"]}])
        play.rig.core.call_out(play.rig.config)
        carrier = play.rig.phone("carrier", "203.0.113.10")
        call = play.rig.core.controller.originate("1001", "030123")
        play.rig.advance(0.1)
        self.assertIn("<sip:030123@example.com>", play.a.unread[0].first["from"])
        play.answer(play.a, body=FIRST)
        play.a.take("ACK")
        invite = carrier.take("INVITE")
        self.assertEqual(invite.uri_text, "sip:030123@203.0.113.10")
        self.assertIn("sip:1001@", invite.first["from"])
        carrier.answer(invite, 407, 'Proxy-Authenticate: Digest realm="carrier.example", nonce="n1", algorithm=MD5')
        carrier.take("ACK")
        play.rig.advance(0.1)
        again, second = play.answer(carrier, body=SECOND)
        self.assertIn('username="acct"', again.first["proxy-authorization"])
        asked = play.a.take("INVITE")
        play.a.answer(asked, 200, SDP, body=FIRST)
        play.rig.advance(0.1)
        play.a.take("ACK")
        self.assertIn(b"m=audio 4000", carrier.take("ACK").body)
        self.assertEqual((steps(call)[-1], call.way), ("connected", "3pcc"))
        play.hang_up(carrier, again, second)
        play.taken_bye(play.a)
        play.rig.core.hang_up(1.0)
        play.rig.advance(2)
        play.finish()


class PolicyTests(SynchronousTestCase):
    """Whose call it is."""

    def test_what_the_first_may_call(self) -> None:
        """The second is called on behalf of the first: what that one may not call is not called for it. What the second
        may call, whom the first sees, does not matter; nor does it count that the first is being called itself."""
        settings = {"auth": {"required": False}, "peers": {
            "1001": {"may_call": ["1003"], "call_limit": 1}, "1002": {"may_call": []}, "1003": {"may_call": []}}}
        play = Play(**settings)
        call = play.originate("3pcc")
        play.answer(play.a, body=FIRST)
        play.a.take("ACK")
        play.taken_bye(play.a)
        self.assertEqual((steps(call)[-1], call.steps[-1]["status"]), ("failed 1002", 403))
        third = play.rig.phone("1003")
        third.register()
        call = play.rig.core.controller.originate("1001", "1003", "3pcc")
        play.rig.advance(0.1)
        play.answer(play.a, body=FIRST)
        play.a.take("ACK")
        third.refuse(486)
        play.rig.advance(0.1)
        play.taken_bye(play.a)
        play.finish()
