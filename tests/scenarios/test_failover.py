"""Each way in which the first server of a domain can be dead: what it costs the call, what the log says, and for how
long the server is tried last (RFC 3263 s4.3, RFC 3261 s18.4, s21.5.4)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.journal import CATALOGUE
from sipd.message.message import Request
from sipd.message.parser import parse
from tests.support.cases import shows
from tests.support.network import Acceptor, Endpoint
from tests.support.rig import SERVER, Rig

FIRST, SECOND = "192.0.2.61", "192.0.2.62"
PORT = {"udp": 5060, "tcp": 5060, "tls": 5061}


class Far:
    """A domain with two servers, the better one first, a user of ours who is called there, and a caller."""

    def __init__(self, test: TestCase, transport: str = "udp", **settings: Any) -> None:
        self.test = test
        self.transport = transport
        self.rig = rig = Rig(**settings)
        prefix = "_sips._tcp" if transport == "tls" else f"_sip._{transport}"
        for number, address in enumerate((FIRST, SECOND), 1):
            rig.dns.srv(f"{prefix}.far.example", number, 0, PORT[transport], f"h{number}.far.example")
            rig.dns.address(f"h{number}.far.example", address)
        rig.binding("1002", f"sip:1002@far.example{'' if transport == 'udp' else f';transport={transport}'}")
        self.a = rig.phone("1001")
        self.first, self.second = self.open(FIRST), self.open(SECOND)

    def open(self, address: str, mode: str = "accept") -> Endpoint | Acceptor:
        """A server that listens there."""
        port = PORT[self.transport]
        if self.transport == "udp":
            return self.rig.network.endpoint("udp", address, port)
        return self.rig.network.listen(self.transport, address, port, mode)

    def call(self, seconds: float = 0.0) -> Request:
        """Calls, and waits so long."""
        invite = self.a.invite("1002")
        self.a.take(100)
        self.rig.advance(seconds or 0.01, 0.1)
        return invite

    def answer(self, where: Endpoint | Acceptor, status: int, *lines: str) -> None:
        """The last INVITE that came there is answered."""
        got = [request for request in requests(where) if request.method == "INVITE"][-1]
        same = [line for name, _, line in got.headers if name in ("via", "from", "call-id", "cseq")]
        data = "\r\n".join([f"SIP/2.0 {status} No", *same, f"To: {got.first['to']};tag=b", *lines, "Content-Length: 0",
                            "", ""]).encode()
        if isinstance(where, Acceptor):
            where.connections[-1].send(data)
        else:
            where.send(data, (SERVER, PORT["udp"]))
        self.rig.advance(0.01)

    def busy(self, where: Endpoint | Acceptor, invite: Request) -> None:
        """The call ends there, and the caller hears of nothing but that."""
        self.answer(where, 486)
        self.a.ack(self.a.take(486), invite)

    def failures(self) -> list[tuple[str, str, int]]:
        """Which hops failed by the journal, why, and for how many seconds they are tried last."""
        return [(fields["hop"], fields["reason"], fields["seconds"]) for kind, fields in self.rig.records
                if kind == "hop-failed"]

    def last_for(self, reason: str, seconds: int = 30) -> None:
        """The first server failed for this reason, once, as the log says in words; it is alive again, but only tried
        when the other has failed, until the time is over."""
        test, hop = self.test, f"{self.transport}:{FIRST}:{PORT[self.transport]}"
        test.assertEqual(self.failures(), [(hop, reason, seconds)])
        fields = next(fields for kind, fields in self.rig.records if kind == "hop-failed")
        test.assertEqual(CATALOGUE["hop-failed"].format_map(fields), f"{hop} failed: {reason}; tried last for {seconds} s")
        self.rig.network.icmp.clear()
        first = self.open(FIRST)
        self.rig.advance(seconds - 1, 1.0)
        invite = self.call()
        self.busy(self.second, invite)
        test.assertNotIn(invite.call_id, [request.call_id for request in requests(first)])
        self.rig.advance(2)
        invite = self.call()
        test.assertIn(invite.call_id, [request.call_id for request in requests(first)])
        self.busy(first, invite)
        test.assertEqual(len(self.failures()), 1)
        self.rig.finish()


def requests(where: Endpoint | Acceptor) -> list[Request]:
    """The requests that came there."""
    return [message for message in map(parse, where.received) if isinstance(message, Request)]


class Causes(TestCase):
    """The call is made at the second server; the first is tried last for a while."""

    @shows("INV-17", "TRN-15", "R3263-4.3-01", "18.4")
    def test_icmp(self) -> None:
        """An ICMP error: the second at once, with a branch of its own and all else alike."""
        far = Far(self)
        far.rig.network.icmp.add((FIRST, 5060))
        invite = far.call()
        first, second = requests(far.first), requests(far.second)
        self.assertEqual((len(first), len(second)), (0, 1))
        (lost,) = [parse(packet.data) for packet in far.rig.network.packets if packet.target == (FIRST, 5060)]
        assert isinstance(lost, Request) and lost.via is not None and second[0].via is not None
        self.assertNotEqual(lost.via.branch, second[0].via.branch)
        self.assertEqual(lost.encode().replace(lost.via.branch.encode(), b""),
                         second[0].encode().replace(second[0].via.branch.encode(), b""))
        far.busy(far.second, invite)
        far.last_for("connection refused")

    @shows("INV-17", "TRN-15", "R3263-4.3-01", "18.4")
    def test_refused(self) -> None:
        """TCP is refused: the second at once."""
        far = Far(self, "tcp")
        far.open(FIRST, "refuse")
        far.busy(far.second, far.call())
        far.last_for("connection refused")

    @shows("INV-17", "TRN-15", "R3263-4.3-01", "18.4")
    def test_tls_failure(self) -> None:
        """The TLS handshake fails: the second at once."""
        far = Far(self, "tls")
        far.open(FIRST, "TLS failed: certificate verify failed")
        far.busy(far.second, far.call())
        far.last_for("TLS failed: certificate verify failed")

    @shows("INV-17", "TRN-15", "R3263-4.3-01")
    def test_connection_hangs(self) -> None:
        """A connection that neither stands nor fails: the second after the connect deadline of 4 s."""
        for transport in ("tcp", "tls"):
            far = Far(self, transport)
            far.open(FIRST, "blackhole")
            invite = far.call(3.9)
            self.assertEqual(requests(far.second), [])
            far.rig.advance(0.2, 0.1)
            far.busy(far.second, invite)
            far.last_for("connection timed out")

    @shows("INV-17", "R3263-4.3-01", "18.4")
    def test_connection_breaks(self) -> None:
        """The connection takes the request and breaks before any answer: the second at once."""
        far = Far(self, "tcp")
        invite = far.call()
        assert isinstance(far.first, Acceptor)
        self.assertEqual(len(requests(far.first)), 1)
        far.first.connections[0].close()
        far.rig.advance(0.01)
        far.busy(far.second, invite)
        far.last_for("connection closed by the peer")

    @shows("INV-12", "R3263-4.3-01")
    def test_silent(self) -> None:
        """Not a word over UDP: the second after hop_timeout, not after the 32 s of timer B."""
        far = Far(self, proxy={"hop_timeout": 3.0})
        invite = far.call(2.9)
        self.assertEqual(requests(far.second), [])
        far.rig.advance(0.2, 0.1)
        far.busy(far.second, invite)
        far.last_for("silent")

    @shows("INV-18", "R3263-4.3-01", "21.5.4")
    def test_503(self) -> None:
        """503: the second at once; the first is left alone for as long as its Retry-After says, up to five minutes,
        and half a minute where it says less, nothing, or nonsense."""
        for line, seconds in (("Subject: none", 30), ("Retry-After: 5", 30), ("Retry-After: soon", 30),
                              ("Retry-After: 120 (in a meeting);duration=3600", 120), ("Retry-After: 9999999999", 300)):
            far = Far(self)
            invite = far.call()
            far.answer(far.first, 503, line)
            self.assertEqual([request.method for request in requests(far.first)], ["INVITE", "ACK"])
            far.busy(far.second, invite)
            far.last_for("answered 503", seconds)

    @shows("INV-17")
    def test_no_listener(self) -> None:
        """An address of a family that we have no socket for is passed over like a dead one."""
        rig = Rig(listen=(("udp", SERVER, 5060),))
        rig.dns.srv("_sip._udp.far.example", 1, 0, 5060, "h1.far.example")
        rig.dns.srv("_sip._udp.far.example", 2, 0, 5060, "h2.far.example")
        rig.dns.address("h1.far.example", "2001:db8::61")
        rig.dns.address("h2.far.example", SECOND)
        rig.binding("1002", "sip:1002@far.example")
        a, b = rig.phone("1001"), rig.phone("1002", SECOND)
        invite = a.invite("1002")
        a.take(100)
        rig.advance(0.01)
        b.refuse(486)
        a.ack(a.take(486), invite)
        self.assertIn(("hop-failed", {"hop": "udp:[2001:db8::61]:5060", "reason": "no listener of its family",
                                      "seconds": 30}), rig.records)
        rig.finish()


class Ends(TestCase):
    """What the caller hears when nobody is left, and what is no failure."""

    @shows("INV-17", "INV-18", "16.9", "16.7/6")
    def test_all_said_no(self) -> None:
        """Both servers say no, each in one of the ways: one 500 within moments, and both are in the log."""
        for transport, mode in (("udp", "icmp"), ("udp", "503"), ("tcp", "refuse"), ("tcp", "503"),
                                ("tls", "TLS failed: wrong version number")):
            far = Far(self, transport)
            places = [far.open(address, mode) for address in (FIRST, SECOND)] if mode not in ("icmp", "503") else [
                far.first, far.second]
            if mode == "icmp":
                far.rig.network.icmp.update({(FIRST, 5060), (SECOND, 5060)})
            invite = far.call()
            if mode == "503":
                for place in places:
                    far.answer(place, 503)
            far.a.ack(far.a.take(500), invite)
            self.assertLess(far.rig.clock.seconds(), 0.2)
            self.assertEqual([hop.split(":")[1] for hop, _, _ in far.failures()], [FIRST, SECOND])
            far.rig.finish()

    @shows("INV-17", "16.9")
    def test_the_only_hop(self) -> None:
        """The only place of a user says no: 500 within moments, in the log with its reason, and it is tried again by the
        next call, since there is no other."""
        for contact, reason in (("sip:1002@192.0.2.61", "connection refused"),
                                ("sip:1002@192.0.2.61;transport=tcp", "connection refused"),
                                ("sips:1002@192.0.2.61", "connection refused")):
            rig = Rig()
            rig.network.icmp.add((FIRST, 5060))
            rig.binding("1002", contact)
            a = rig.phone("1001")
            for number in (1, 2):
                invite = a.invite("1002")
                a.take(100)
                rig.advance(0.1)
                a.ack(a.take(500), invite)
                self.assertEqual([fields["reason"] for kind, fields in rig.records if kind == "hop-failed"],
                                 [reason] * number)
            rig.finish()

    @shows("INV-17", "TRN-10", "18.4")
    def test_the_only_flow(self) -> None:
        """A phone behind NAT, and one on a connection: what says no is told the caller at once, and the log."""
        for transport, source, reason in (("udp", ("203.0.113.4", 31000), "connection refused"),
                                          ("tcp", ("203.0.113.4", 31000), "connection closed by the peer")):
            rig = Rig()
            a, b = rig.phone("1001"), rig.phone("1002", "10.0.0.9", transport, source=source)
            b.via_params = ";rport"
            b.register()
            rig.network.icmp.add(source)
            invite = a.invite("1002")
            a.take(100)
            if b.connection is not None:
                b.take("INVITE")
                b.connection.close()
            rig.advance(0.1)
            a.ack(a.take(500), invite)
            self.assertEqual([CATALOGUE[kind].format_map(fields) for kind, fields in rig.records if kind == "flow-failed"],
                             [f"{transport}:203.0.113.4:31000, the only way to its phone, failed: {reason}"])
            rig.finish()

    @shows("TRN-17")
    def test_nowhere(self) -> None:
        """A name without an address is in the log as such; nothing is said of a hop."""
        rig = Rig()
        rig.binding("1002", "sip:1002@nobody.example")
        a = rig.phone("1001")
        invite = a.invite("1002")
        a.take(100)
        rig.advance(0.1)
        a.ack(a.take(500), invite)
        self.assertEqual([CATALOGUE[kind].format_map(fields) for kind, fields in rig.records
                          if kind in ("hop-failed", "nowhere")],
                         ["no way to sip:1002@nobody.example: it has no address we could send to"])
        rig.finish()

    @shows("INV-12", "R3263-4.3-01")
    def test_other_answers_are_no_failure(self) -> None:
        """Any other refusal is an answer: nobody else is asked, and nobody is tried last."""
        for status in (404, 480, 486, 500, 504, 603):
            far = Far(self)
            invite = far.call()
            far.answer(far.first, status)
            far.a.ack(far.a.take(status), invite)
            self.assertEqual((requests(far.second), far.failures()), ([], []))
            far.rig.finish()

    @shows("NIT-02", "R3263-4.3-01")
    def test_time_over_after_a_100(self) -> None:
        """A server that said 100 to a MESSAGE and nothing more has not failed: the next is not asked when timer F fires,
        32 s later, or the text could be there twice."""
        far = Far(self)
        far.a.request("MESSAGE", "sip:1002@example.com", body=b"once")
        far.rig.advance(0.01)
        got = requests(far.first)[0]
        lines = [line for name, _, line in got.headers if name in ("via", "from", "to", "call-id", "cseq")]
        assert isinstance(far.first, Endpoint)
        far.first.send("\r\n".join(["SIP/2.0 100 Trying", *lines, "", ""]).encode(), (SERVER, 5060))
        far.rig.advance(40)
        self.assertEqual((requests(far.second), far.failures()), ([], []))
        far.a.drain()
        far.rig.finish()

    @shows("INV-12", "R3263-4.4-02", "17.2.1")
    def test_repeats_after_a_failure(self) -> None:
        """The caller's repeats are absorbed here: none goes to the first server, which is alive again, nor makes a
        second call at the other."""
        far = Far(self)
        far.rig.network.icmp.add((FIRST, 5060))
        invite = far.call()
        far.rig.network.icmp.clear()
        far.answer(far.second, 180)
        far.a.take(180)
        for _ in range(3):
            far.a.send(invite)
            self.assertEqual(far.a.take().status, 180)
        self.assertEqual((requests(far.first), len(requests(far.second))), ([], 1))
        far.busy(far.second, invite)
        far.rig.finish()


class Acks(TestCase):
    """The ACK of a 2xx finds a server that is alive, too."""

    @shows("INV-17", "13.2.2.4")
    def test_ack_by_tcp(self) -> None:
        """The contact of the callee is a name with two servers; the better one is dead: the ACK and its repeats reach the
        other, and the log says why."""
        for mode, seconds, reason in (("refuse", 0.1, "connection refused"), ("blackhole", 4.2, "connection timed out")):
            far = Far(self, "tcp")
            far.open(FIRST, mode)
            b = far.rig.phone("1003")
            b.register()
            far.a.invite("1003")
            far.a.take(100)
            b.answer(b.take("INVITE"), 200, contact="<sip:1003@far.example;transport=tcp>")
            ok = far.a.take(200)
            for number in (1, 2):
                far.a.ack(ok)
                far.rig.advance(seconds, 0.1)
                b.drain()  # the 200 again, where it took long
                self.assertEqual([request.method for request in requests(far.second)], ["ACK"] * number)
            self.assertEqual(far.failures(), [(f"tcp:{FIRST}:5060", reason, 30)])
            far.a.drain()
            far.rig.finish()
