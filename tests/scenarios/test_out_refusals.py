"""What a registrar says when it does not simply grant (OUT-03 to OUT-07, OUT-10)."""

from __future__ import annotations

import random

from twisted.trial.unittest import TestCase

from sipd.message.hop import Hop
from tests.scenarios.test_out import (
    ACCOUNT,
    CARRIER,
    carrier_rig,
    challenge,
    goodbye,
    granted,
    proves,
    register,
    row,
    waited,
)
from tests.support.cases import shows
from tests.support.rig import Rig

SECOND = "203.0.113.20"


class AnswerTests(TestCase):
    """Refusals and requests."""

    @shows("OUT-03", "10.2.8")
    def test_too_brief(self) -> None:
        """After 423 it asks for Min-Expires at once, and for that from then on."""
        rig, carrier = carrier_rig()
        first = carrier.take("REGISTER")
        carrier.answer(first, 423, "Min-Expires: 900")
        second = register(rig, carrier, 900)
        self.assertEqual((second.first["expires"], second.cseq_number), ("900", first.cseq_number + 1))
        self.assertEqual(row(rig)["expires"], 900)
        waited(rig, carrier, 900.0)
        self.assertEqual(register(rig, carrier, 900).first["expires"], "900")
        goodbye(rig, carrier)

    @shows("OUT-03", "10.2.8")
    def test_too_brief_without_sense(self) -> None:
        """A 423 without Min-Expires, with a shorter one, with years, or again and again makes no loop."""
        for lines in ([], ["Min-Expires: 10"], ["Min-Expires: 99999999"], ["Min-Expires: soon"]):
            rig, carrier = carrier_rig()
            carrier.answer(carrier.take("REGISTER"), 423, *lines)
            rig.advance(10.0)
            carrier.silent()
            self.assertEqual(row(rig)["state"], "failed")
            goodbye(rig, carrier)
        rig, carrier = carrier_rig()
        carrier.answer(carrier.take("REGISTER"), 423, "Min-Expires: 400")
        carrier.answer(carrier.take("REGISTER"), 423, "Min-Expires: 500")
        carrier.silent()
        goodbye(rig, carrier)

    @shows("OUT-04", "10.2.7")
    def test_refused(self) -> None:
        """After 403, 404 and the like it leaves the registrar alone for a long time, longer each time, and the log says
        for how long; so it is with a password that is wrong."""
        for status in (400, 403, 404, 405, 603):
            rig, carrier = carrier_rig()
            waits = []
            for _ in range(5):
                carrier.answer(carrier.take("REGISTER"), status)
                self.assertEqual((row(rig)["state"], row(rig)["expires"]), ("refused", 0))
                kind, fields = rig.records[-1]
                self.assertEqual((kind, fields["reason"]), ("peer-refused", f"{status} Reason"))
                waits.append(waited(rig, carrier, 8000.0))
                self.assertTrue(abs(fields["seconds"] - waits[-1]) <= 1.0)
            self.assertGreaterEqual(min(waits), 600.0)
            self.assertGreaterEqual(waits[-1], 3600.0)
            self.assertLessEqual(max(waits), 7201.0)
            register(rig, carrier)
            goodbye(rig, carrier)

    @shows("OUT-04", "22.1", "22.2")
    def test_wrong_password(self) -> None:
        """Credentials that are refused are not sent again, whatever nonce comes with the refusal."""
        rig, carrier = carrier_rig()
        carrier.answer(carrier.take("REGISTER"), 401, challenge("n1"))
        again = carrier.take("REGISTER")
        self.assertEqual(len(proves(again)), 1)
        carrier.answer(again, 401, challenge("n2"))
        rig.advance(500.0)
        carrier.silent()
        self.assertEqual(row(rig)["state"], "refused")
        rig.core.trunks.again("carrier")
        self.assertNotIn("authorization", carrier.take("REGISTER").first)
        goodbye(rig, carrier)

    @shows("OUT-01", "22.2")
    def test_nonce_runs_out(self) -> None:
        """A nonce that got old is replaced at once, called stale or not; one that is called stale each time ends too."""
        rig, carrier = carrier_rig()
        carrier.answer(carrier.take("REGISTER"), 401, challenge("n1"))
        register(rig, carrier, 100)
        for more in (", stale=true", ""):
            waited(rig, carrier, 100.0)
            carrier.answer(carrier.take("REGISTER"), 401, challenge(f"n2{more[-1:]}", more=more))
            self.assertEqual(proves(register(rig, carrier, 100)), [("carrier.example", "MD5", 1)])
        waited(rig, carrier, 100.0)
        count = 0
        while carrier.unread:
            carrier.answer(carrier.take("REGISTER"), 401, challenge(f"s{count}", more=", stale=true"))
            count += 1
        self.assertLessEqual(count, 4)
        self.assertEqual(row(rig)["state"], "refused")
        goodbye_none(rig)

    @shows("OUT-10", "8760", "22.2")
    def test_strongest(self) -> None:
        """Of several challenges for a realm the strongest that is known is answered, one for each realm; what cannot
        be answered (another scheme, unknown algorithms, auth-int alone, damage) is left out."""
        rig, carrier = carrier_rig()
        carrier.answer(
            carrier.take("REGISTER"), 401, 'WWW-Authenticate: Basic realm="carrier.example"', challenge("n1"),
            challenge("n2", "SHA-256"), challenge("n3", "SHA-512-256-sess"), challenge("n4", "SHA3-999"),
            challenge("n5", "SHA-512-256").replace('qop="auth"', 'qop="auth-int"'), "WWW-Authenticate: Digest realm=",
            challenge("n6", "MD5", "other.example"))
        answered = proves(register(rig, carrier, 100))
        self.assertEqual(answered, [("carrier.example", "SHA-256", 1), ("other.example", "MD5", 1)])
        waited(rig, carrier, 100.0)
        self.assertEqual(proves(register(rig, carrier)), [("carrier.example", "SHA-256", 2), ("other.example", "MD5", 2)])
        goodbye(rig, carrier)

    @shows("OUT-10", "22.3")
    def test_proxy_before_the_registrar(self) -> None:
        """A proxy that asks with 407 gets its answer, and the registrar behind it its own."""
        rig, carrier = carrier_rig()
        carrier.answer(carrier.take("REGISTER"), 407, challenge("p1", realm="proxy").replace("WWW", "Proxy"))
        second = carrier.take("REGISTER")
        self.assertEqual(proves(second, name="proxy-authorization"), [("proxy", "MD5", 1)])
        carrier.answer(second, 401, challenge("n1"))
        third = register(rig, carrier)
        self.assertEqual(proves(third), [("carrier.example", "MD5", 1)])
        self.assertEqual(proves(third, name="proxy-authorization"), [("proxy", "MD5", 2)])
        goodbye(rig, carrier)

    @shows("OUT-10", "22.2")
    def test_nothing_to_answer(self) -> None:
        """A 401 without a challenge that we know is a refusal, not a loop."""
        rig, carrier = carrier_rig()
        carrier.answer(carrier.take("REGISTER"), 401, challenge("n", "SHA3-999"))
        rig.advance(100.0)
        carrier.silent()
        self.assertEqual(row(rig)["state"], "refused")
        goodbye_none(rig)


def goodbye_none(rig: Rig) -> None:
    """Stops the server's registrations where there are none."""
    done: list[None] = []
    rig.core.hang_up(2.0).addCallback(done.append)
    assert done == [None]
    rig.finish()


class FailureTests(TestCase):
    """Silence, overload and other servers."""

    @shows("OUT-06", "17.1.2.2", "5626 4.5")
    def test_silence(self) -> None:
        """A silent registrar is waited for 32 s (timer F), then tried again and again, each time after a longer wait of
        which a part is chance, up to half an hour."""
        rig, carrier = carrier_rig()
        rig.core.trunks.entropy = random.Random(5).randbytes
        rig.advance(31.0)
        self.assertEqual(row(rig)["state"], "trying")
        self.assertEqual(len({request.via.branch for request in carrier.take_all("REGISTER")}), 1)
        rig.advance(1.5)
        self.assertEqual((row(rig)["state"], row(rig)["reason"]), ("failed", "no answer"))
        waits = []
        for _ in range(9):
            waits.append(waited(rig, carrier, 2000.0))
            rig.advance(33.0)
            carrier.take_all("REGISTER")
        for step, wait in enumerate(waits):
            full = min(30.0 * 2 ** step, 1800.0)
            self.assertTrue(full * 0.5 - 1 <= wait <= full + 1, waits)
        self.assertNotEqual(waits[7], waits[8])
        self.assertEqual([kind for kind, _ in rig.records].count("peer-failed"), 10)
        waited(rig, carrier, 2000.0)
        register(rig, carrier)
        self.assertEqual(row(rig)["state"], "registered")
        goodbye(rig, carrier)

    @shows("OUT-06", "3263 4.3")
    def test_next_server(self) -> None:
        """A name's servers are tried in turn: the first is silent, the second registers; the refresh goes straight to
        the one that answered while the first is in quarantine. An ICMP error moves on at once."""
        for icmp in (False, True):
            rig = Rig(peers={"carrier": {**ACCOUNT, "uri": "sip:carrier.example"}})
            rig.dns.srv("_sip._udp.carrier.example", 1, 1, 5060, "one.carrier.example")
            rig.dns.srv("_sip._udp.carrier.example", 2, 1, 5070, "two.carrier.example")
            rig.dns.address("one.carrier.example", CARRIER)
            rig.dns.address("two.carrier.example", SECOND)
            first, second = rig.phone("carrier", CARRIER), rig.phone("carrier", SECOND, port=5070)
            if icmp:
                rig.network.icmp.add((CARRIER, 5060))
            rig.core.call_out(rig.config)
            self.assertTrue(waited(rig, second, 5.0) < (0.5 if icmp else 4.6))
            self.assertEqual(second.unread[0].call_id, first.drain()[0].call_id if not icmp else second.unread[0].call_id)
            register(rig, second, 30)
            self.assertEqual(row(rig)["server"], f"udp:{SECOND}:5070")
            waited(rig, second, 30.0)
            register(rig, second, 30)
            first.silent()
            goodbye(rig, second)

    @shows("OUT-06", "3263 4.3")
    def test_all_servers_fail(self) -> None:
        """Where no server answers the registration fails once, after all were tried; a name without servers fails too."""
        rig = Rig(peers={"carrier": {**ACCOUNT, "uri": "sip:carrier.example"}})
        rig.core.call_out(rig.config)
        rig.advance(20.0)
        self.assertEqual(row(rig)["state"], "failed")
        self.assertIn("carrier.example", row(rig)["reason"])
        rig.dns.address("carrier.example", CARRIER, SECOND)
        rig.network.icmp |= {(CARRIER, 5060), (SECOND, 5060)}
        rig.advance(600.0)
        self.assertEqual(row(rig)["reason"], "connection refused")
        blamed = {fields["hop"] for kind, fields in rig.records if kind == "hop-failed"}
        self.assertEqual(blamed, {f"udp:{CARRIER}:5060", f"udp:{SECOND}:5060"})
        rig.core.hang_up(2.0)
        rig.advance(3.0)
        rig.finish()

    @shows("OUT-07", "21.5.4")
    def test_overloaded(self) -> None:
        """503 with Retry-After: not before that time, and not at once when it says 0; a wish of years is cut short."""
        for asked, least, most in ((120, 120.0, 135.0), (0, 14.0, 31.0), (99999999, 7200.0, 7930.0)):
            rig, carrier = carrier_rig()
            carrier.answer(carrier.take("REGISTER"), 503, f"Retry-After: {asked} (later);duration=60")
            self.assertEqual(row(rig)["state"], "failed")
            self.assertTrue(least <= waited(rig, carrier, 8000.0) <= most, asked)
            register(rig, carrier)
            goodbye(rig, carrier)

    @shows("OUT-07", "21.5.4", "3263 4.3")
    def test_overloaded_with_another(self) -> None:
        """A server that answers 503 is passed over for another one at once."""
        rig = Rig(peers={"carrier": {**ACCOUNT, "uri": "sip:carrier.example"}})
        rig.dns.address("carrier.example", CARRIER, SECOND)
        first, second = rig.phone("carrier", CARRIER), rig.phone("carrier", SECOND)
        rig.core.call_out(rig.config)
        rig.advance(0.1)
        busy, free = (first, second) if first.unread else (second, first)
        busy.answer(busy.take("REGISTER"), 503, "Retry-After: 60")
        register(rig, free, 40)
        self.assertEqual(row(rig)["state"], "registered")
        waited(rig, free, 40.0)
        register(rig, free)
        busy.silent()
        goodbye(rig, free)

    @shows("OUT-07", "8.1.3.4", "21.3.3")
    def test_moved(self) -> None:
        """A 302 is followed to its Contact, and a 305 by way of it; two servers that point at each other make no loop."""
        rig, carrier = carrier_rig()
        other = rig.phone("carrier", SECOND)
        carrier.answer(carrier.take("REGISTER"), 302, f"Contact: <sip:{SECOND}>")
        moved = other.take("REGISTER")
        self.assertEqual(moved.uri_text, f"sip:{SECOND}")
        self.assertEqual(moved.first["to"], f"<sip:acct@{CARRIER}>")
        other.answer(moved, 200, granted(moved, 100))
        self.assertEqual(row(rig)["server"], f"udp:{SECOND}:5060")
        waited(rig, carrier, 100.0)
        carrier.answer(carrier.take("REGISTER"), 305, f"Contact: <sip:{SECOND}>")
        moved = other.take("REGISTER")
        self.assertEqual((moved.uri_text, moved.first["route"]), (f"sip:{CARRIER}", f"<sip:{SECOND};lr>"))
        other.answer(moved, 200, granted(moved, 100))
        waited(rig, carrier, 100.0)
        for _ in range(20):
            for phone, to in ((carrier, SECOND), (other, CARRIER)):
                if phone.unread:
                    phone.answer(phone.take("REGISTER"), 302, f"Contact: <sip:{to}>")
        self.assertEqual(row(rig)["state"], "refused")
        goodbye_none(rig)

    @shows("OUT-07", "21.3")
    def test_moved_nowhere(self) -> None:
        """A redirection without a Contact that can be followed, or from sips to sip, is a refusal."""
        for lines in ([], ["Contact: <mailto:a@b.example>"], ["Contact: broken <"], [f"Contact: <sip:{CARRIER}>"]):
            rig, carrier = carrier_rig()
            carrier.answer(carrier.take("REGISTER"), 302, *lines)
            self.assertEqual(row(rig)["state"], "refused", lines)
            goodbye_none(rig)

    @shows("OUT-06", "18.4")
    def test_connection_lost(self) -> None:
        """Over TCP: the Contact says so; when the connection ends the registration is made anew within seconds; when
        none can be had it is a failure like another."""
        rig = Rig(peers={"carrier": {**ACCOUNT, "uri": f"sip:{CARRIER};transport=tcp"}})
        acceptor = rig.network.listen("tcp", CARRIER, 5060)
        carrier = rig.phone("carrier", "203.0.113.99")
        rig.core.call_out(rig.config)
        rig.advance(0.1)
        connection = acceptor.connections[0]
        self.assertIn(b";transport=tcp>", connection.received[0])
        carrier.endpoint, carrier.connection = None, connection
        register(rig, carrier)
        connection.close()
        rig.advance(5.0)
        self.assertEqual(len(acceptor.connections), 2)
        carrier.connection, carrier._read = acceptor.connections[1], 0
        register(rig, carrier)
        self.assertEqual(row(rig)["server"], str(Hop("tcp", CARRIER, 5060)))
        acceptor.mode = "refuse"
        acceptor.connections[1].close()
        rig.advance(5.0)
        self.assertEqual((row(rig)["state"], row(rig)["reason"]), ("failed", "connection refused"))
        rig.core.hang_up(2.0)
        rig.advance(3.0)
        rig.finish()
