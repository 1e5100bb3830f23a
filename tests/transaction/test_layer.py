"""The transaction layer: what goes to a transaction, what to the core, what nowhere; failures and bounds."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message.parser import parse
from sipd.transaction import invite_client, invite_server, non_invite_client, non_invite_server
from tests.support.cases import shows
from tests.transaction.rig import SERVER, LayerRig


class LayerTests(TestCase):
    """TransactionLayer."""

    @shows("INV-03", "R3261-17.2.1-03", "R3261-17.2.1-04", "R3261-17.2.1-05", "17.2.1")
    def test_repeats_of_an_invite(self) -> None:
        """The core sees an INVITE once; a repeat gets the last provisional response, octet for octet."""
        rig = LayerRig()
        rig.ask("INVITE")
        transaction = rig.serve()
        rig.ask("INVITE")
        rig.answer(transaction, 100)
        rig.ask("INVITE")
        rig.answer(transaction, 180)
        rig.ask("INVITE")
        self.assertEqual([sent for _, sent in rig.sent], ["100", "100", "180", "180"])
        self.assertEqual(rig.core.heard, [("request", "INVITE")])
        transaction.abandon()
        self.assertTrue(rig.empty())

    def test_same_branch_other_host(self) -> None:
        """s17.2.3: the same branch from another host is another transaction."""
        rig = LayerRig()
        rig.ask("OPTIONS", sent_by="one.example.com")
        rig.answer(rig.serve(), 200)
        rig.ask("OPTIONS", sent_by="two.example.com")
        self.assertEqual(rig.core.heard, [("request", "OPTIONS")] * 2)

    def test_rfc_2543(self) -> None:
        """s17.2.3: a client without branches is understood: repeat, ACK and CANCEL find their INVITE, others do not."""
        rig = LayerRig()
        rig.ask("INVITE", "", from_tag="")
        transaction = rig.serve()
        rig.answer(transaction, 180)
        rig.ask("INVITE", "", from_tag="")
        rig.ask("CANCEL", "", from_tag="")
        self.assertIs(rig.core.cancels[-1][2], transaction)
        rig.answer(transaction, 486)
        rig.ask("ACK", "", from_tag="", to_tag=";tag=ours")
        rig.ask("INVITE", "", from_tag="", cseq=2)
        rig.advance(6)
        self.assertEqual([sent for _, sent in rig.sent], ["180", "180", "486"])
        self.assertEqual(rig.core.heard, [("request", "INVITE"), ("cancel", True), ("request", "INVITE")])
        self.assertTrue(rig.empty())

    @shows("INV-03", "17.1.2.2")
    def test_repeats_of_a_final_response(self) -> None:
        """s17.1.2.2: the user of a non-INVITE hears its final response once, whatever comes after it, and is told
        nothing when timer K ends."""
        rig = LayerRig()
        rig.client("OPTIONS")
        for status in (200, 200, 486):
            rig.respond("OPTIONS", status)
        rig.advance(4.9)
        rig.respond("OPTIONS", 200)
        self.assertEqual(len(rig.layer.wheel), 1)
        rig.advance(0.2)
        self.assertEqual(rig.core.heard, [("response", 200)])
        self.assertTrue(rig.empty())

    @shows("CAN-08", "9.2")
    def test_cancel_of_any_method(self) -> None:
        """s9.2: a CANCEL finds the transaction it names whatever its method, until that has ended; none is left."""
        rig = LayerRig()
        for method in ("INVITE", "INFO", "FOO"):
            rig.ask(method, f"z9hG4bK{method}")
            transaction = rig.serve()
            rig.ask("CANCEL", f"z9hG4bK{method}")
            self.assertIs(rig.core.cancels[-1][2], transaction, method)
            transaction.abandon()
            rig.ask("CANCEL", f"z9hG4bK{method}")
            self.assertIs(rig.core.cancels[-1][2], None, method)
        self.assertTrue(rig.empty())

    @shows("INV-30", "R6026-6-04", "R6026-7.3-02", "R6026-8.2-01", "R6026-8.9-02", "17.2.3", "R3261-18.1.2-03")
    def test_strays(self) -> None:
        """s18.1.2: a response to nothing is counted and dropped; an ACK to nothing goes to the core."""
        rig = LayerRig()
        rig.respond("INVITE", 200)
        rig.respond("INVITE", 486)
        rig.ask("ACK")
        self.assertEqual((rig.layer.strays, rig.core.heard, rig.sent), (2, [("ack", "c2")], []))

    @shows("INV-22", "R6026-6-03", "R6026-7.3-01", "R6026-8.9-02", "17.1.3", "R3261-18.1.2-01", "R3261-18.1.2-02")
    def test_responses_that_do_not_match(self) -> None:
        """s17.1.3: branch and method of CSeq must be those sent; s18.1.2: sent-by too. Repeats go on."""
        rig = LayerRig()
        transaction = rig.client("INVITE")
        rig.respond("OPTIONS", 200)
        rig.respond("INVITE", 200, branch="z9hG4bKother")
        rig.respond("INVITE", 200, via="Via: SIP/2.0/UDP 192.0.2.1:5099;branch=z9hG4bKours")
        rig.respond("INVITE", 200, via="Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKours")
        rig.advance(0.6)
        self.assertEqual((rig.layer.strays, rig.core.heard), (4, []))
        self.assertEqual([sent for _, sent in rig.sent], ["INVITE", "INVITE"])
        transaction.end()

    @shows("NIT-11", "R6026-8.9-01", "17.1.3")
    def test_case_of_a_branch(self) -> None:
        """s7.3.1: a branch is a token; one that comes back in other letters is ours."""
        rig = LayerRig()
        rig.client("MESSAGE")
        rig.respond("MESSAGE", 200, branch="Z9HG4BKOURS")
        self.assertEqual(rig.core.heard, [("response", 200)])

    @shows("CAN-07", "9.2")
    def test_cancel(self) -> None:
        """s9.2: a CANCEL comes to the core with the transaction it names, of whatever method, or without one."""
        rig = LayerRig()
        for number, method in enumerate(("INVITE", "MESSAGE", "SUBSCRIBE")):
            rig.ask(method, f"z9hG4bK{number}")
            transaction = rig.serve()
            rig.ask("CANCEL", f"z9hG4bK{number}")
            self.assertIs(rig.core.cancels[-1][2], transaction)
        rig.ask("CANCEL", "z9hG4bKnone")
        rig.ask("CANCEL", "z9hG4bK0", sent_by="192.0.2.8")
        self.assertEqual([found for _, _, found in rig.core.cancels[-2:]], [None, None])

    @shows("CAN-11", "17.2.2")
    def test_cancel_is_a_transaction(self) -> None:
        """A repeated CANCEL gets the same answer from its own transaction."""
        rig = LayerRig()
        rig.ask("INVITE")
        rig.serve()
        rig.ask("CANCEL")
        request, key, _ = rig.core.cancels[-1]
        server = rig.layer.serve(request, key)
        assert server is not None
        rig.core.requests.append((request, key))
        rig.answer(server, 200)
        rig.ask("CANCEL")
        self.assertEqual(([sent for _, sent in rig.sent], len(rig.core.cancels)), (["200", "200"], 1))

    @shows("R3261-17.1.1.2-27", "R3261-17.1.2.2-18", "R3261-17.2.1-16", "R3261-17.2.2-11", "R6026-7.1-06",
           "R6026-7.2-05", "R6026-8.4-16", "R6026-8.7-04")
    def test_ended_is_gone(self) -> None:
        """Whichever way a transaction ends, table and timers are without it in the step in which its machine ended."""
        for over_tcp in (False, True):
            for method, over in (("INVITE", invite_client.TERMINATED), ("MESSAGE", non_invite_client.TERMINATED)):
                for statuses in ((), (200,), (486,), (180, 200), (180, 486)):
                    rig = LayerRig().over_tcp() if over_tcp else LayerRig()
                    transaction = rig.client(method)
                    for status in statuses:
                        rig.respond(method, status)
                    self._runs_until(rig, transaction, over)
            for method, over in (("INVITE", invite_server.TERMINATED), ("MESSAGE", non_invite_server.TERMINATED)):
                for status, acknowledged in ((200, False), (486, False), (486, True), (0, False)):
                    rig = LayerRig().over_tcp() if over_tcp else LayerRig()
                    rig.ask(method)
                    transaction = rig.serve()
                    if status:
                        rig.answer(transaction, status)
                    else:
                        transaction.abandon()
                    if acknowledged and method == "INVITE":
                        rig.ask("ACK", to_tag=";tag=ours")
                    self._runs_until(rig, transaction, over)

    def _runs_until(self, rig: LayerRig, transaction: Any, over: int) -> None:
        for _ in range(1700):
            if transaction.machine.state == over:
                break
            self.assertFalse(rig.empty())
            rig.clock.advance(0.02)
        self.assertEqual(transaction.machine.state, over)
        self.assertTrue(rig.empty())

    @shows("INV-17", "R3261-17.1.4-01", "R3261-17.1.4-02", "17.1.4")
    def test_transport_errors(self) -> None:
        """s17.1.4: an ICMP error or a broken connection ends the wait at once, once; after a response it means nothing."""
        for method in ("INVITE", "MESSAGE"):
            rig = LayerRig()
            rig.network.icmp.add(("192.0.2.9", 5060))
            rig.client(method)
            rig.clock.advance(0.02)
            self.assertEqual(rig.core.heard, [("failed", "connection refused")])
            self.assertTrue(rig.empty())
            stream = LayerRig().over_tcp()
            stream.client(method)
            assert stream.stream is not None
            stream.stream.close()
            stream.clock.advance(0.02)
            self.assertEqual([kind for kind, _ in stream.core.heard], ["failed"])
            self.assertTrue(stream.empty())
        rig = LayerRig()
        transaction = rig.client("INVITE")
        rig.respond("INVITE", 180)
        rig.flow.fail("connection refused")
        self.assertEqual(rig.core.heard, [("response", 180)])
        transaction.end()
        self.assertTrue(rig.empty())

    @shows("TRN-08", "18.2.2")
    def test_connection_gone_before_the_answer(self) -> None:
        """s18.2.2: the answer to a request from a connection that is gone goes over a new one, to the port of sent-by."""
        rig = LayerRig().over_tcp()
        acceptor = rig.network.listen("tcp", "192.0.2.9", 5062)
        rig.ask("INVITE", sent_by="192.0.2.9:5062")
        transaction = rig.serve()
        assert rig.stream is not None
        rig.stream.close()
        rig.answer(transaction, 180)
        rig.answer(transaction, 200)
        rig.advance(1.0)
        self.assertEqual([parse(data).start for data in acceptor.received], ["SIP/2.0 180 Ringing", "SIP/2.0 200 OK"])

    @shows("TRN-08", "R3261-18.2.2-02")
    def test_repeat_over_another_connection(self) -> None:
        """s18.2.2: the connection of the original request has the answers while it stands; then whoever asks again has
        them where they ask."""
        rig = LayerRig().over_tcp()
        rig.ask("INVITE")
        rig.answer(rig.serve(), 180)
        first = rig.stream
        rig.over_tcp()
        rig.ask("INVITE")
        assert first is not None and rig.stream is not None
        self.assertEqual((len(first.received), len(rig.stream.received)), (2, 0))
        first.close()
        rig.ask("INVITE")
        self.assertEqual((len(first.received), len(rig.stream.received)), (2, 1))
        self.assertEqual(rig.core.heard, [("request", "INVITE")])
        # and over UDP, when that one is gone too (the branch, not the transport, makes the transaction)
        rig.stream.close()
        rig.stream = None
        rig.ask("INVITE")
        self.assertEqual(len(rig.peer.received), 1)

    def test_full(self) -> None:
        """A full table makes no more transactions, and counts those it refused; a CANCEL still has room."""
        rig = LayerRig(limit=2)
        for number in range(3):
            rig.ask("MESSAGE", f"z9hG4bK{number}")
            served = rig.layer.serve(*rig.core.requests[-1])
            self.assertEqual(served is None, number == 2)
            self.assertEqual(rig.client("INVITE", f"z9hG4bKc{number}") is None, number == 2)
        self.assertEqual((rig.layer.servers.refused, rig.layer.clients.refused), (1, 1))
        self.assertIsNotNone(rig.client("CANCEL", "z9hG4bKc0"))

    def test_bug_above(self) -> None:
        """A bug of ours costs one message: it is recorded, whoever asked is told, and the next is served."""
        rig = LayerRig()
        rig.core.explode = True
        rig.ask("OPTIONS", "z9hG4bK1")
        rig.core.explode = False
        rig.ask("OPTIONS", "z9hG4bK2")
        self.assertEqual(rig.core.heard, [("broken", "OPTIONS"), ("request", "OPTIONS")])
        self.assertIn("RuntimeError: a bug", rig.bugs[0])

    def test_malformed(self) -> None:
        """What cannot be read comes to the core as that, with its flow."""
        rig = LayerRig()
        rig.peer.send(b"\x00\x01", SERVER)
        self.assertEqual([kind for kind, _ in rig.core.heard], ["malformed"])
        self.assertEqual(rig.bugs, [])

    @shows("TRN-01", "TRN-02", "18.2.1")
    def test_via_is_marked(self) -> None:
        """s18.2.1, RFC 3581: the core gets the request with its source in the topmost Via, and so does the answer."""
        rig = LayerRig()
        rig.peer = rig.network.endpoint("udp", "198.51.100.7", 2345)
        rig.ask("MESSAGE", "z9hG4bK1;rport")
        self.assertIn(";rport=2345;received=198.51.100.7", rig.core.requests[-1][0].first["via"])
        rig.answer(rig.serve(), 200)
        self.assertIn(b";rport=2345;received=198.51.100.7\r\n", rig.peer.received[0])

    def test_memory(self) -> None:
        """A finished transaction keeps its key and last octets only: neither request nor user."""
        rig = LayerRig()
        rig.ask("MESSAGE")
        transaction = rig.serve()
        rig.answer(transaction, 200)
        self.assertEqual((transaction.request, transaction.user), (None, None))
