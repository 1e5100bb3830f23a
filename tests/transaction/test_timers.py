"""Every timer of RFC 3261 table 4, with L and M of RFC 6026, through the layer in virtual time."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.transaction.timers import TimerValues
from tests.support.cases import shows
from tests.transaction.rig import LayerRig

#: Seconds: timer A without a bound, timers E and G up to T2.
DOUBLING = [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
UP_TO_T2 = [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]


class Timers(TestCase):
    """One test a timer."""

    def times(self, rig: LayerRig, what: str, expected: list[float]) -> None:
        """What was sent, when: never early, a few hundredths late at most for each repeat."""
        found = [at for at, sent in rig.sent if sent == what]
        self.assertEqual(len(found), len(expected), rig.sent)
        for at, wanted in zip(found, expected, strict=True):
            self.assertTrue(wanted - 0.05 <= at <= wanted + 0.35, f"{what} at {at}, not {wanted}")

    def gone_after(self, rig: LayerRig, seconds: float) -> None:
        """Nothing is over shortly before, everything is shortly after."""
        rig.advance(seconds - 0.1)
        self.assertFalse(rig.empty(), f"over before {seconds} s")
        rig.advance(0.3)
        self.assertTrue(rig.empty(), f"not over after {seconds} s")
        # the wheel's one call may stand for a slot whose timers were stopped; it is not made again
        rig.clock.advance(40)
        self.assertEqual(rig.clock.getDelayedCalls(), [])

    @shows("INV-12", "R3261-17.1.1.2-02", "R3261-17.1.1.2-03", "R3261-17.1.1.2-05", "R3261-17.1.1.2-07",
           "R3261-17.1.1.2-08", "R3261-17.1.1.2-09", "R3261-17.1.1.2-12", "17.1.1.2")
    def test_a_and_b(self) -> None:
        """A: the INVITE at 0, 0.5, 1.5 ... 31.5 s; B: the user hears of it at 32 s, and it is over."""
        rig = LayerRig()
        rig.client("INVITE")
        self.gone_after(rig, 32)
        self.times(rig, "INVITE", DOUBLING)
        self.assertEqual(rig.core.heard, [("failed", "")])

    @shows("INV-13", "R3261-17.1.1.2-04", "R3261-17.1.1.2-05", "R3261-17.1.1.2-12", "17.1.1.2")
    def test_b_over_tcp(self) -> None:
        """Over a reliable transport it is sent once and given up at the same time."""
        rig = LayerRig().over_tcp()
        rig.client("INVITE")
        self.gone_after(rig, 32)
        self.times(rig, "INVITE", [0.0])
        self.assertEqual(rig.core.heard, [("failed", "")])

    @shows("R3261-17.1.1.2-10", "R3261-17.1.1.2-14", "R3261-17.1.1.2-15")
    def test_a_stops_ringing(self) -> None:
        """A provisional response ends A and B: how long it may ring is no affair of the transaction's (timer C)."""
        rig = LayerRig()
        transaction = rig.client("INVITE")
        rig.advance(1.0)
        rig.respond("INVITE", 180)
        rig.advance(300)
        self.times(rig, "INVITE", [0.0, 0.5])
        self.assertEqual(rig.core.heard, [("response", 180)])
        transaction.end()
        self.assertTrue(rig.empty())

    def test_c(self) -> None:
        """C is the proxy's, longer than three minutes, and none of a transaction (s16.6 step 11)."""
        self.assertFalse(hasattr(TimerValues(), "c"))

    @shows("INV-08", "INV-09", "R3261-17.1.1.2-17", "R3261-17.1.1.2-21", "R3261-17.1.1.2-22", "R3261-17.1.1.2-23",
           "R3261-17.1.1.2-24", "R6026-8.4-05", "R6026-8.4-06", "R6026-8.4-07", "R6026-8.4-08", "17.1.1.2")
    def test_d(self) -> None:
        """D: for 32 s each repeat of a final response is acknowledged again and told nobody."""
        rig = LayerRig()
        rig.client("INVITE")
        rig.respond("INVITE", 486)
        for _ in range(3):
            rig.advance(1.0)
            rig.respond("INVITE", 486)
        self.gone_after(rig, 29)
        self.times(rig, "ACK", [0.0, 1.0, 2.0, 3.0])
        self.assertEqual(rig.core.heard, [("response", 486)])

    @shows("R3261-17.1.1.2-19", "R3261-17.1.1.2-21", "R6026-8.4-03", "R6026-8.4-05")
    def test_d_over_tcp(self) -> None:
        """D is zero over a reliable transport."""
        rig = LayerRig().over_tcp()
        rig.client("INVITE")
        rig.respond("INVITE", 486)
        self.assertEqual([sent for _, sent in rig.sent], ["INVITE", "ACK"])
        rig.advance(0.1)
        self.assertTrue(rig.empty())

    @shows("R3261-17.1.1.2-21", "R6026-8.4-05")
    def test_d_is_never_short(self) -> None:
        """D is 32 s at least, however short T1 is set (table 4)."""
        rig = LayerRig()
        rig.layer.values = TimerValues(t1=0.1)
        rig.client("INVITE")
        rig.respond("INVITE", 486)
        self.gone_after(rig, 32)

    @shows("NIT-03", "R3261-17.1.2.2-01", "R3261-17.1.2.2-03", "R3261-17.1.2.2-04", "R3261-17.1.2.2-05", "17.1.2")
    def test_e_and_f(self) -> None:
        """E: at 0, 0.5, 1.5, 3.5, 7.5, then every 4 s; F: given up at 32 s."""
        rig = LayerRig()
        rig.client("MESSAGE")
        self.gone_after(rig, 32)
        self.times(rig, "MESSAGE", UP_TO_T2)
        self.assertEqual(rig.core.heard, [("failed", "")])

    @shows("R3261-17.1.2.2-06", "R3261-17.1.2.2-07", "R3261-17.1.2.2-10", "R3261-17.1.2.2-11", "R3261-17.1.2.2-12",
           "R3261-17.1.2.2-13")
    def test_e_proceeding(self) -> None:
        """After a provisional response E is T2; F goes on as it was (s17.1.2.2)."""
        rig = LayerRig()
        rig.client("MESSAGE")
        rig.advance(0.2)
        rig.respond("MESSAGE", 100)
        self.gone_after(rig, 31.8)
        self.times(rig, "MESSAGE", [0.0, 0.5, *[4.5 + 4 * n for n in range(7)]])
        self.assertEqual(rig.core.heard, [("response", 100), ("failed", "")])

    @shows("R3261-17.1.2.2-01")
    def test_f_over_tcp(self) -> None:
        """Over a reliable transport no E, the same F."""
        rig = LayerRig().over_tcp()
        rig.client("MESSAGE")
        self.gone_after(rig, 32)
        self.times(rig, "MESSAGE", [0.0])

    @shows("INV-10", "R3261-17.2.1-08", "R3261-17.2.1-09", "R3261-17.2.1-10", "R3261-17.2.1-13", "R3261-17.2.1-14",
           "17.2.1")
    def test_g_and_h(self) -> None:
        """G: a final response that nobody acknowledges at 0, 0.5, 1.5, 3.5, 7.5, then every 4 s; H: until 32 s."""
        rig = LayerRig()
        rig.ask("INVITE")
        rig.answer(rig.serve(), 486)
        self.gone_after(rig, 32)
        self.times(rig, "486", UP_TO_T2)
        self.assertEqual(rig.core.heard, [("request", "INVITE"), ("undelivered", "no ACK")])

    @shows("R3261-17.2.1-10", "R3261-17.2.1-13", "R3261-17.2.1-14")
    def test_h_over_tcp(self) -> None:
        """Over a reliable transport it is sent once; H waits as long."""
        rig = LayerRig().over_tcp()
        rig.ask("INVITE")
        rig.answer(rig.serve(), 486)
        self.gone_after(rig, 32)
        self.times(rig, "486", [0.0])
        self.assertEqual(rig.core.heard, [("request", "INVITE"), ("undelivered", "no ACK")])

    @shows("R3261-17.2.1-12", "R3261-17.2.1-15")
    def test_i(self) -> None:
        """I: after the ACK the transaction stays for T4 and swallows ACKs; nothing is repeated any more."""
        rig = LayerRig()
        rig.ask("INVITE")
        rig.answer(rig.serve(), 486)
        rig.advance(1.0)
        rig.ask("ACK", to_tag=";tag=ours")
        rig.ask("ACK", to_tag=";tag=ours")
        rig.ask("INVITE")
        self.gone_after(rig, 5)
        self.times(rig, "486", [0.0, 0.5])
        self.assertEqual(rig.core.heard, [("request", "INVITE")])

    @shows("R3261-17.2.1-12", "R3261-17.2.1-15")
    def test_i_over_tcp(self) -> None:
        """I is zero over a reliable transport."""
        rig = LayerRig().over_tcp()
        rig.ask("INVITE")
        rig.answer(rig.serve(), 486)
        rig.ask("ACK", to_tag=";tag=ours")
        rig.advance(0.1)
        self.assertTrue(rig.empty())

    @shows("NIT-05", "R3261-17.2.2-07", "R3261-17.2.2-08", "R3261-17.2.2-10", "17.2.2")
    def test_j(self) -> None:
        """J: for 32 s a repeat gets the same octets again, and the core is not asked."""
        rig = LayerRig()
        rig.ask("MESSAGE")
        rig.answer(rig.serve(), 200)
        rig.advance(1.0)
        rig.ask("MESSAGE")
        rig.advance(10.0)
        rig.ask("MESSAGE")
        self.gone_after(rig, 21)
        self.times(rig, "200", [0.0, 1.0, 11.0])
        self.assertEqual(len(set(rig.peer.received)), 1)
        self.assertEqual(rig.core.heard, [("request", "MESSAGE")])

    @shows("R3261-17.2.2-07")
    def test_j_over_tcp(self) -> None:
        """J is zero over a reliable transport: nothing is kept, and whoever asks again is served again."""
        rig = LayerRig().over_tcp()
        rig.ask("MESSAGE")
        first = rig.serve()
        rig.answer(first, 200)
        self.assertTrue(rig.empty())
        rig.ask("MESSAGE")
        rig.serve()
        first.abandon()  # what is over touches nothing of what has its key now
        self.assertEqual(len(rig.layer.servers), 1)
        rig.answer(first, 200)
        self.times(rig, "200", [0.0])
        self.assertEqual(rig.core.heard, [("request", "MESSAGE")] * 2)

    @shows("NIT-06", "R3261-17.1.2.2-16", "R3261-17.1.2.2-17", "17.1.2.2")
    def test_k(self) -> None:
        """K: repeats of the final response are swallowed for T4."""
        rig = LayerRig()
        rig.client("MESSAGE")
        rig.respond("MESSAGE", 200)
        rig.advance(1.0)
        rig.respond("MESSAGE", 200)
        self.gone_after(rig, 4)
        self.assertEqual(rig.core.heard, [("response", 200)])
        self.assertEqual(rig.layer.strays, 0)
        rig.respond("MESSAGE", 200)
        self.assertEqual(rig.layer.strays, 1)

    @shows("R3261-17.1.2.2-16")
    def test_k_over_tcp(self) -> None:
        """K is zero over a reliable transport."""
        rig = LayerRig().over_tcp()
        rig.client("MESSAGE")
        rig.respond("MESSAGE", 200)
        rig.advance(0.1)
        self.assertTrue(rig.empty())

    @shows("INV-04", "R6026-6-01", "R6026-7.1-01", "R6026-7.1-02", "R6026-7.1-03", "R6026-7.1-04", "R6026-7.1-05",
           "R6026-8.5-01", "R6026-8.5-02", "R6026-8.7-01", "R6026-8.7-02", "R6026-8.7-03", "6026 7.1")
    def test_l(self) -> None:
        """L: for 64*T1 after a 2xx repeats of the INVITE are absorbed; 2xx repeats pass, ACKs go to the core."""
        for rig in (LayerRig(), LayerRig().over_tcp()):
            rig.ask("INVITE")
            transaction = rig.serve()
            rig.answer(transaction, 200)
            rig.advance(1.0)
            rig.ask("INVITE")
            rig.answer(transaction, 200)
            rig.ask("ACK", to_tag=";tag=ours")
            rig.answer(transaction, 486)
            self.gone_after(rig, 31)
            self.times(rig, "200", [0.0, 1.0])
            self.assertEqual([sent for _, sent in rig.sent], ["200", "200"])
            self.assertEqual(rig.core.heard, [("request", "INVITE"), ("ack", "c2")])

    @shows("INV-05", "R6026-6-01", "R6026-7.2-01", "R6026-7.2-02", "R6026-7.2-03", "R6026-7.2-04", "R6026-8.4-09",
           "R6026-8.4-10", "R6026-8.4-11", "R6026-8.4-12", "R6026-8.4-13", "R6026-8.4-14", "R6026-8.4-15", "6026 7.2")
    def test_m(self) -> None:
        """M: for 64*T1 after a 2xx every other 2xx is passed on, of whichever fork; nothing else is."""
        for rig in (LayerRig(), LayerRig().over_tcp()):
            rig.client("INVITE")
            rig.respond("INVITE", 200)
            rig.respond("INVITE", 200, tag="other")
            rig.respond("INVITE", 180)
            rig.respond("INVITE", 486)
            rig.advance(1.0)
            rig.respond("INVITE", 200)
            self.gone_after(rig, 31)
            self.assertEqual(rig.core.heard, [("response", 200)] * 3)
            self.assertEqual([sent for _, sent in rig.sent], ["INVITE"])

    @shows("R4320-4.1-02", "R4320-4.1-03")
    def test_trying(self) -> None:
        """RFC 4320 s4.1: a 100 to a non-INVITE waits until a client's timer E has reached T2, at 3.5 s."""
        self.assertEqual(TimerValues().trying, 3.5)
        self.assertEqual(TimerValues(t1=1.0, t2=4.0).trying, 3.0)
        rig = LayerRig()
        rig.ask("MESSAGE")
        transaction = rig.serve()
        rig.layer.promise_trying(transaction)
        rig.advance(10.0)
        self.times(rig, "100", [3.5])
        transaction.abandon()
        self.assertTrue(rig.empty())

    def test_no_trying_when_answered(self) -> None:
        """Whoever answers before that sends no 100."""
        rig = LayerRig()
        rig.ask("MESSAGE")
        transaction = rig.serve()
        rig.layer.promise_trying(transaction)
        rig.advance(3.0)
        rig.answer(transaction, 200)
        rig.advance(40.0)
        self.assertEqual([sent for _, sent in rig.sent], ["200"])
        self.assertTrue(rig.empty())

    def test_other_values(self) -> None:
        """T1, T2 and T4 are settings: everything follows them."""
        values = TimerValues(t1=0.1, t2=0.4, t4=1.0)
        self.assertEqual(values.timeout, 6.4)
        rig = LayerRig()
        rig.layer.values = values
        rig.client("MESSAGE")
        self.gone_after(rig, 6.4)
        self.assertGreater(len(rig.sent), 10)
