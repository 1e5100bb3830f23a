"""Calls over a trunk that asks for credentials: ours, with a CSeq of its own from then on (s22.2, s22.3)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.message import Request, Response
from tests.support.cases import shows
from tests.support.rig import Phone, Rig
from tests.support.trunks import asks, challenged, over, proved, trunk_rig


def called(caller: Phone, carrier: Phone, line: str = "", status: int = 407,
           *extra: str) -> tuple[Request, Request, Response, Response]:
    """A call whose INVITE is challenged, up to the ACK: the INVITE as sent and as received in the end, the 200 as sent
    and as received."""
    invite = caller.invite("0123", *extra, cseq=10)
    caller.take(100)
    _, got = challenged(carrier, "INVITE", line, status)
    carrier.answer(got, 180)
    ringing = caller.take(180)
    assert ringing.cseq_number == 10 and ringing.first["from"] == invite.first["from"]
    sent = carrier.answer(got, 200)
    ok = caller.take(200)
    assert ok.cseq_number == 10 and ok.first["from"] == invite.first["from"]
    caller.ack(ok)
    assert carrier.take("ACK").cseq_number == got.cseq_number
    return invite, got, sent, ok


class CallsOut(TestCase):
    """One carrier."""

    def ended_by_both(self, rig: Rig, caller: Phone, carrier: Phone, call: tuple[Request, Request, Response, Response],
                      shift: int = 1) -> None:
        """Each side sends something in the dialog; the caller ends it."""
        _, got, sent, ok = call
        carrier.in_callee_dialog("INFO", got, sent, cseq=3)
        info = caller.take("INFO")
        self.assertEqual(info.cseq_number, 3)
        caller.answer(info, 200)
        self.assertEqual(carrier.take(200).cseq_number, 3)
        caller.in_dialog("BYE", ok, cseq=11)
        bye = carrier.take("BYE")
        self.assertEqual(bye.cseq_number, 11 + shift)
        carrier.answer(bye, 200)
        answer = caller.take(200)
        self.assertEqual((answer.cseq_number, answer.first["cseq"]), (11, "11 BYE"))
        over(rig)

    @shows("OUT-13", "R3261-22.3-02", "R3261-22.3-03")
    def test_407(self) -> None:
        """The INVITE goes again with the next CSeq in a new transaction and our credentials; the caller sees a call
        like any other, and the rest of the dialog is counted anew for the carrier."""
        rig, caller, carrier = trunk_rig()
        invite = caller.invite("0123", cseq=10)
        caller.take(100)
        first, got = challenged(carrier, "INVITE")
        self.assertEqual((first.uri_text, first.cseq_number, proved(first)), ("sip:123@203.0.113.10", 10, []))
        self.assertEqual((got.cseq_number, proved(got)), (11, [("n1", "MD5", 1)]))
        self.assertNotEqual(got.via.branch, first.via.branch)
        self.assertEqual((got.call_id, got.from_tag, got.body), (invite.call_id, invite.from_tag, invite.body))
        sent = carrier.answer(got, 200)
        ok = caller.take(200)
        self.assertEqual(ok.first["cseq"], "10 INVITE")
        caller.ack(ok)
        ack = carrier.take("ACK")
        self.assertEqual(ack.first["cseq"], "11 ACK")
        self.assertEqual(ack.all("proxy-authorization"), got.all("proxy-authorization"))  # s22.1
        self.ended_by_both(rig, caller, carrier, (invite, got, sent, ok))

    @shows("OUT-13", "22.2")
    def test_401(self) -> None:
        """As 407, with Authorization."""
        rig, caller, carrier = trunk_rig()
        call = called(caller, carrier, status=401)
        self.assertEqual(len(call[1].all("authorization")), 1)
        self.ended_by_both(rig, caller, carrier, call)

    @shows("OUT-13", "8760 2.4")
    def test_algorithms(self) -> None:
        """The strongest algorithm that is offered."""
        rig, caller, carrier = trunk_rig()
        for algorithm in ("SHA-256", "SHA-512-256"):
            line = "\r\n".join([asks(f"m{algorithm}"), asks(f"n{algorithm}", algorithm=algorithm)])
            call = called(caller, carrier, line)
            self.assertEqual(proved(call[1]), [(f"n{algorithm}", algorithm, 1)])
            caller.in_dialog("BYE", call[3])
            carrier.answer(carrier.take("BYE"), 200)
            caller.take(200)
        over(rig)

    @shows("OUT-13", "7616 3.4")
    def test_known_nonce(self) -> None:
        """A nonce that is known is used at once, with the next count; then nothing is shifted. A stale one is replaced."""
        rig, caller, carrier = trunk_rig()
        called(caller, carrier)
        invite = caller.invite("0124", cseq=5)
        caller.take(100)
        got = carrier.take("INVITE")
        self.assertEqual((got.cseq_number, proved(got)), (5, [("n1", "MD5", 2)]))
        carrier.answer(got, 407, asks("n2", more=", stale=true"))
        carrier.take("ACK")
        got = carrier.take("INVITE")
        self.assertEqual((got.cseq_number, proved(got)), (6, [("n2", "MD5", 1)]))
        carrier.answer(got, 486)
        carrier.take("ACK")
        busy = caller.take(486)
        self.assertEqual(busy.first["cseq"], "5 INVITE")
        caller.ack(busy, invite)
        over(rig)

    def test_side_by_side(self) -> None:
        """Two calls that are given the same nonce within a second are both answered."""
        rig, caller, carrier = trunk_rig()
        for number in ("0123", "0124"):
            caller.invite(number)
            caller.take(100)
        first, second = carrier.take("INVITE"), carrier.take("INVITE")
        for invite in (first, second):
            carrier.answer(invite, 407, asks("same"))
            carrier.take("ACK")
            got = carrier.take("INVITE")
            carrier.pick_up(got, caller)
        rig.advance(40.0)
        over(rig)

    @shows("OUT-13", "R3261-22.3-03")
    def test_wrong_password(self) -> None:
        """The caller is not asked for what is not his: 500, and the log tells whose password is wrong. The carrier sees
        two INVITEs."""
        rig, caller, carrier = trunk_rig()
        invite = caller.invite("0123")
        caller.take(100)
        _, got = challenged(carrier, "INVITE")
        carrier.answer(got, 407, asks("n2"))
        carrier.take("ACK")
        failed = caller.take(500)
        self.assertEqual((failed.all("proxy-authenticate"), failed.cseq_number), ([], invite.cseq_number))
        caller.ack(failed, invite)
        self.assertEqual([fields["peer"] for kind, fields in rig.records if kind == "peer-asks"], ["carrier"])
        over(rig)

    def test_unanswerable(self) -> None:
        """A challenge that we cannot read, or an algorithm that nobody knows, is as good as a wrong password."""
        rig, caller, carrier = trunk_rig()
        for line in (asks(algorithm="MD6"), 'Proxy-Authenticate: Basic realm="x"', "X: none"):
            invite = caller.invite("0123")
            caller.take(100)
            carrier.refuse(407, line)
            caller.ack(caller.take(500), invite)
        over(rig)

    @shows("OUT-13", "R3261-22.3-03")
    def test_without_password(self) -> None:
        """Where the trunk has no password its challenge is the caller's to answer, as at any proxy (s22.3)."""
        rig, caller, carrier = trunk_rig({"password": ""})
        invite = caller.invite("0123", cseq=10)
        caller.take(100)
        carrier.refuse(407, asks())
        challenge = caller.take(407)
        self.assertEqual(len(challenge.all("proxy-authenticate")), 1)
        caller.ack(challenge, invite)
        caller.authorized(invite, challenge, user="acct", password="pass")
        caller.take(100)
        got = carrier.take("INVITE")
        self.assertEqual((got.cseq_number, len(got.all("proxy-authorization"))), (11, 1))
        self.assertIn('username="acct"', got.first["proxy-authorization"])
        carrier.answer(got, 200)
        ok = caller.take(200)
        self.assertEqual(ok.cseq_number, 11)
        caller.ack(ok)
        self.assertEqual(carrier.take("ACK").cseq_number, 11)
        over(rig)

    def test_last_number(self) -> None:
        """s8.1.1.5: where no CSeq is left for another try, none is made."""
        rig, caller, carrier = trunk_rig()
        invite = caller.invite("0123", cseq=2**31 - 1)
        caller.take(100)
        carrier.refuse(407, asks())
        caller.ack(caller.take(500), invite)
        over(rig)

    @shows("OUT-13", "22.2")
    def test_other_requests(self) -> None:
        """MESSAGE, OPTIONS and SUBSCRIBE go the same way."""
        rig, caller, carrier = trunk_rig()
        for place, method in enumerate(("MESSAGE", "OPTIONS", "SUBSCRIBE")):
            sent = caller.request(method, "sip:0123@example.com", "Event: conference", cseq=7)
            _, got = challenged(carrier, method, asks(f"n{place}"))
            self.assertEqual((got.uri_text, got.cseq_number), ("sip:123@203.0.113.10", 8))
            self.assertEqual(proved(got), [(f"n{place}", "MD5", 1)])
            carrier.answer(got, 200)
            answer = caller.take(200)
            self.assertEqual((answer.first["cseq"], answer.first["from"]), (f"7 {method}", sent.first["from"]))
        over(rig)

    @shows("OUT-13", "17.1.1.2")
    def test_retransmissions(self) -> None:
        """Lost packets: the 407 comes twice and is acknowledged twice, the second INVITE goes again until somebody
        answers, and the 200 that comes twice goes back twice, both as the caller counts."""
        rig, caller, carrier = trunk_rig()
        caller.invite("0123", cseq=10)
        caller.take(100)
        first, got = challenged(carrier, "INVITE")
        carrier.answer(first, 407, asks())
        self.assertEqual(carrier.take("ACK").cseq_number, 10)
        rig.advance(0.6)
        self.assertEqual(carrier.take("INVITE").cseq_number, 11)
        carrier.answer(got, 200)
        carrier.answer(got, 200)
        for _ in range(2):
            ok = caller.take(200)
            self.assertEqual(ok.cseq_number, 10)
            caller.ack(ok)
            self.assertEqual(carrier.take("ACK").cseq_number, 11)
        over(rig)

    @shows("OUT-14", "9.1")
    def test_cancel_before_challenge(self) -> None:
        """The caller gives up before the carrier has said anything: its challenge is the end, and no CANCEL is sent."""
        rig, caller, carrier = trunk_rig()
        invite = caller.invite("0123")
        caller.take(100)
        got = carrier.take("INVITE")
        caller.cancel(invite)
        caller.take(200)
        carrier.silent()
        carrier.answer(got, 407, asks())
        carrier.take("ACK")
        caller.ack(caller.take(487), invite)
        over(rig)

    @shows("OUT-14", "9.1")
    def test_cancel_after_challenge(self) -> None:
        """The CANCEL is of the second INVITE (s9.1), and waits for a provisional response to that one: what the first
        had is over."""
        rig, caller, carrier = trunk_rig()
        invite = caller.invite("0123", cseq=10)
        caller.take(100)
        first = carrier.take("INVITE")
        carrier.answer(first, 100)
        carrier.answer(first, 407, asks())
        carrier.take("ACK")
        got = carrier.take("INVITE")
        caller.cancel(invite)
        caller.take(200)
        carrier.silent()
        carrier.answer(got, 180)
        self.assertEqual(caller.take(180).cseq_number, 10)
        cancel = carrier.take("CANCEL")
        self.assertEqual((cancel.cseq_number, cancel.via.branch, cancel.first["from"]),
                         (11, got.via.branch, got.first["from"]))
        carrier.answer(cancel, 200)
        carrier.answer(got, 487)
        self.assertEqual(carrier.take("ACK").cseq_number, 11)
        ended = caller.take(487)
        self.assertEqual(ended.cseq_number, 10)
        caller.ack(ended, invite)
        over(rig)

    @shows("OUT-13", "18.1.1")
    def test_tcp(self) -> None:
        """Over TCP."""
        rig, caller, carrier = trunk_rig({"uri": "sip:203.0.113.10:5060;transport=tcp"})
        accepted = rig.network.listen("tcp", "203.0.113.10", 5060)
        caller.invite("0123", cseq=10)
        rig.advance(0.1)
        caller.take(100)
        carrier.connection, carrier.transport = accepted.connections[0], "tcp"
        _, got = challenged(carrier, "INVITE")
        self.assertEqual((got.cseq_number, proved(got)), (11, [("n1", "MD5", 1)]))
        carrier.answer(got, 200)
        ok = caller.take(200)
        self.assertEqual(ok.cseq_number, 10)
        caller.ack(ok)
        self.assertEqual(carrier.take("ACK").cseq_number, 11)
        over(rig)

    def test_tcp_closed(self) -> None:
        """Where the carrier closes the connection with its challenge, the next INVITE has one of its own."""
        rig, caller, carrier = trunk_rig({"uri": "sip:203.0.113.10:5060;transport=tcp"})
        accepted = rig.network.listen("tcp", "203.0.113.10", 5060)
        caller.invite("0123", cseq=10)
        rig.advance(0.1)
        caller.take(100)
        carrier.connection = accepted.connections[0]
        first = carrier.take("INVITE")
        flow = carrier.connection.flow
        flow.alive = False
        rig.transports.forget(flow)
        rig.core.layer.receive(carrier.answer(first, 407, asks(), send=False).encode(), flow)
        rig.advance(0.1)
        self.assertEqual(len(accepted.connections), 2, rig.ladder())
        carrier.connection = accepted.connections[1]
        carrier._read = 0
        got = carrier.take("INVITE")
        self.assertEqual((got.cseq_number, proved(got)), (11, [("n1", "MD5", 1)]))
        carrier.answer(got, 486)
        carrier.take("ACK")
        caller.take(486)

    @shows("OUT-14", "16.6")
    def test_record_route(self) -> None:
        """Who counts otherwise must stay in the path, whatever [proxy] record_route says."""
        rig, caller, carrier = trunk_rig(proxy={"record_route": False})
        self.ended_by_both(rig, caller, carrier, called(caller, carrier))
