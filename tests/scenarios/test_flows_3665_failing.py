"""The calls of RFC 3665 section 3 that come to nothing, as ladders through two proxies of ours.

Everywhere: sipd acknowledges a refusal before it passes it on, which the RFC draws likewise (F6, F7, F8 of s3.9), and its
100 goes out before the INVITE goes on.
"""

from __future__ import annotations

from sipd.message.message import Request
from tests.scenarios.test_flows_3665_sessions import TwoProxies
from tests.support.cases import shows
from tests.support.flow import lines


class Unsuccessful(TwoProxies):
    """s3.8 to s3.11."""

    @shows("CAN-01", "16.10")
    def test_no_answer(self) -> None:
        """RFC 3665 s3.8: Alice gives up while it rings. CANCEL and its 200 hop by hop, 487 all the way. sipd answers the
        CANCEL before it passes it on at each hop, as the RFC draws it for the first (F10, F11)."""
        sent, got = self.invite()
        self.bob.answer(got, 180)
        self.flow.settle()
        self.alice.take(180)
        self.alice.cancel(sent, "Route: <sip:192.0.2.1;lr>")
        self.flow.settle()
        self.alice.take(200)
        cancel = self.bob.take("CANCEL")
        self.bob.answer(cancel, 200)
        self.bob.answer(got, 487)
        self.flow.settle()
        self.bob.take("ACK")
        self.alice.ack(self.alice.take(487), sent)
        ladder = self.flow.shows("""
            alice -> proxy1 INVITE
            proxy1 -> alice 100 INVITE
            proxy1 -> proxy2 INVITE
            proxy2 -> proxy1 100 INVITE
            proxy2 -> bob INVITE
            bob -> proxy2 -> proxy1 -> alice 180 INVITE
            alice -> proxy1 CANCEL
            proxy1 -> alice 200 CANCEL
            proxy1 -> proxy2 CANCEL
            proxy2 -> proxy1 200 CANCEL
            proxy2 -> bob CANCEL
            bob -> proxy2 200 CANCEL
            bob -> proxy2 487 INVITE
            proxy2 -> bob ACK
            proxy2 -> proxy1 487 INVITE
            proxy1 -> proxy2 ACK
            proxy1 -> alice 487 INVITE
            alice -> proxy1 ACK
        """)
        # s9.1: a CANCEL has the Via of the INVITE it is for, alone, and its Request-URI, Call-ID, From, To and CSeq number
        for invite, cancel in ((ladder[2], ladder[10]), (ladder[4], ladder[12])):
            self.assertEqual(lines(cancel, "via"), lines(invite, "via")[:1])
            for name in ("call-id", "from", "to"):
                self.assertEqual(lines(cancel, name), lines(invite, name))
            self.assertEqual(cancel.cseq_number, invite.cseq_number)
        self.flow.finish()

    @shows("INV-08", "17.1.1.3")
    def test_busy(self) -> None:
        """RFC 3665 s3.9: 486, acknowledged hop by hop."""
        sent, got = self.invite()
        self.refused(got, 486)
        self.alice.ack(self.alice.take(486), sent)
        ladder = self.flow.shows("""
            alice -> proxy1 INVITE
            proxy1 -> alice 100 INVITE
            proxy1 -> proxy2 INVITE
            proxy2 -> proxy1 100 INVITE
            proxy2 -> bob INVITE
            bob -> proxy2 486 INVITE
            proxy2 -> bob ACK
            proxy2 -> proxy1 486 INVITE
            proxy1 -> proxy2 ACK
            proxy1 -> alice 486 INVITE
            alice -> proxy1 ACK
        """)
        for invite, ack in ((ladder[4], ladder[6]), (ladder[2], ladder[8])):
            self.assertEqual(lines(ack, "via"), lines(invite, "via")[:1])
            self.assertEqual(lines(ack, "to"), lines(ladder[5], "to"))
        self.flow.finish()

    @shows("INV-12", "16.7/6")
    def test_no_response(self) -> None:
        """RFC 3665 s3.10: Bob is silent, and gets seven INVITEs in all. The proxy gives up after timer B with 408, as
        RFC 3261 s16.8 has it, where the RFC's picture has 480."""
        sent, _ = self.invite()
        self.atlanta.advance(32.2, 0.05)
        self.assertEqual(len(self.bob.take_all("INVITE")), 6)
        self.alice.ack(self.alice.take(408), sent)
        self.flow.shows("""
            alice -> proxy1 INVITE
            proxy1 -> alice 100 INVITE
            proxy1 -> proxy2 INVITE
            proxy2 -> proxy1 100 INVITE
            proxy2 -> bob INVITE
            proxy2 -> bob INVITE
            proxy2 -> bob INVITE
            proxy2 -> bob INVITE
            proxy2 -> bob INVITE
            proxy2 -> bob INVITE
            proxy2 -> bob INVITE
            proxy2 -> proxy1 408 INVITE
            proxy1 -> proxy2 ACK
            proxy1 -> alice 408 INVITE
            alice -> proxy1 ACK
        """)
        self.flow.finish()

    @shows("INV-08", "17.1.1.3")
    def test_temporarily_unavailable(self) -> None:
        """RFC 3665 s3.11: it rings, and then 480 comes, acknowledged hop by hop."""
        sent, got = self.invite()
        self.bob.answer(got, 180)
        self.flow.settle()
        self.alice.take(180)
        self.refused(got, 480)
        self.alice.ack(self.alice.take(480), sent)
        self.flow.shows("""
            alice -> proxy1 INVITE
            proxy1 -> alice 100 INVITE
            proxy1 -> proxy2 INVITE
            proxy2 -> proxy1 100 INVITE
            proxy2 -> bob INVITE
            bob -> proxy2 -> proxy1 -> alice 180 INVITE
            bob -> proxy2 480 INVITE
            proxy2 -> bob ACK
            proxy2 -> proxy1 480 INVITE
            proxy1 -> proxy2 ACK
            proxy1 -> alice 480 INVITE
            alice -> proxy1 ACK
        """)
        self.flow.finish()

    def refused(self, got: Request, status: int) -> None:
        """Bob refuses, and his refusal is acknowledged."""
        self.bob.answer(got, status)
        self.flow.settle()
        self.bob.take("ACK")
