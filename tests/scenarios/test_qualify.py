"""Qualify: OPTIONS to phones and peers, and what routing makes of the answers."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from tests.support.cases import shows
from tests.support.rig import Phone, Rig, established

FAST = {"users": True, "interval": 60, "failures": 2, "timeout": 8.0}


def asking_rig(*names: str, **settings: Any) -> tuple[Rig, list[Phone]]:
    """A server that asks, and registered phones, each with a port of its own."""
    settings.setdefault("qualify", FAST)
    rig = Rig(**settings)
    rig.core.call_out(rig.config)
    phones = [rig.phone(name) for name in names]
    for phone in phones:
        phone.register()
    return rig, phones


def pass_time(rig: Rig, seconds: float, *alive: Phone, answers: int = 200) -> list[Request]:
    """Lets time pass while these phones answer OPTIONS; the questions asked."""
    asked = []
    for _ in range(round(seconds * 10)):
        rig.advance(0.1)
        for phone in alive:
            for request in phone.take_all("OPTIONS"):
                phone.answer(request, answers)
                asked.append(request)
    return asked


def states(rig: Rig) -> dict[str, str]:
    """Contact, or peer, to state."""
    return {one["contact"] or one["peer"]: one["state"] for one in rig.core.qualify.rows()}


def end(rig: Rig) -> None:
    """Nothing is left."""
    rig.core.hang_up(1.0)
    rig.finish()


class AskingTests(TestCase):
    """Who is asked, how often, and what is said of them."""

    @shows("QUA-01", "11.1")
    def test_reachable(self) -> None:
        """A phone that registers is asked soon and then about once an interval, whatever it answers; nothing is said."""
        for status in (200, 404, 486, 503, 401):
            rig, (phone,) = asking_rig("1001")
            asked = pass_time(rig, 300.0, phone, answers=status)
            self.assertTrue(4 <= len(asked) <= 8, len(asked))
            self.assertEqual(asked[0].uri_text, phone.contact)
            self.assertEqual(states(rig), {phone.contact: "reachable"})
            self.assertEqual([kind for kind, _ in rig.records if kind.startswith("peer-")], [])
            end(rig)

    @shows("QUA-01", "11.1")
    def test_where_it_answers_from(self) -> None:
        """Where a phone is, as people read addresses: IPv6 in brackets."""
        rig = Rig(qualify=FAST, listen=(("udp", "192.0.2.1", 5060), ("tcp", "2001:db8::1", 5060)))
        rig.core.call_out(rig.config)
        phones = [rig.phone("1001", "192.0.2.7"), rig.phone("1002", "2001:db8::20", "tcp")]
        for phone in phones:
            phone.register()
        pass_time(rig, 100.0, *phones)
        self.assertEqual([row["server"].rpartition(":")[0] for row in rig.core.qualify.rows()],
                         ["udp:192.0.2.7", "tcp:[2001:db8::20]"])
        end(rig)

    @shows("QUA-01", "11.1")
    def test_off(self) -> None:
        """Nobody is asked where the configuration does not say so, and a user's own word counts for that user."""
        rig, (one, two) = asking_rig("1001", "1002", qualify={})
        pass_time(rig, 200.0)
        self.assertEqual([len(one.unread), len(two.unread)], [0, 0])
        self.assertEqual(rig.core.location.watchers, ())
        end(rig)
        users = {"1001": {"password": "a", "qualify": 10}, "1002": {"password": "a"},
                 "1003": {"password": "a", "qualify": False}}
        rig, (one, two) = asking_rig("1001", "1002", qualify={}, users=users)
        self.assertTrue(15 <= len(pass_time(rig, 200.0, one)) <= 26)
        two.silent()
        end(rig)
        rig, (two, three) = asking_rig("1002", "1003", qualify=FAST, users=users)
        self.assertGreater(len(pass_time(rig, 200.0, two)), 1)
        three.silent()
        end(rig)

    @shows("QUA-02", "16.5")
    def test_unreachable(self) -> None:
        """After two silences in a row a phone is unreachable, which is said once; it is asked on, every ten seconds or
        so, and its first answer brings it back, which is said too."""
        rig, (phone,) = asking_rig("1001")
        pass_time(rig, 20.0, phone)
        self.assertEqual(states(rig), {phone.contact: "reachable"})
        begun = rig.clock.seconds()
        while states(rig)[phone.contact] == "reachable":
            rig.advance(0.5)
        self.assertLess(rig.clock.seconds() - begun, 60 * 1.2 + 8 + 12 + 8)
        phone.drain()
        rig.advance(60.0)
        branches = {request.via.branch for request in phone.take_all("OPTIONS")}
        self.assertTrue(3 <= len(branches) <= 6, branches)
        self.assertEqual(list(rig.core.qualify.unreachable), [("1001@example.com", phone.contact)])
        pass_time(rig, 30.0, phone)
        self.assertEqual(states(rig), {phone.contact: "reachable"})
        self.assertEqual([kind for kind, _ in rig.records if kind.startswith("peer-")],
                         ["peer-unreachable", "peer-reachable"])
        self.assertEqual(len(rig.core.qualify.unreachable), 0)
        end(rig)

    @shows("QUA-02", "10.2.4")
    def test_back_by_registering(self) -> None:
        """A phone that was given up and registers again is asked at once, not only when its turn comes."""
        rig, (phone,) = asking_rig("1001")
        pass_time(rig, 60.0)
        self.assertEqual(states(rig), {phone.contact: "unreachable"})
        rig.advance(8.5)
        while phone.unread:
            phone.drain()
            rig.advance(0.5)
        phone.register()
        pass_time(rig, 0.2, phone)
        self.assertEqual(states(rig), {phone.contact: "reachable"})
        end(rig)

    @shows("QUA-02", "16.5")
    def test_one_lost_packet(self) -> None:
        """One question that is lost altogether changes nothing."""
        rig, (phone,) = asking_rig("1001")
        pass_time(rig, 20.0, phone)
        lost: set[str] = set()

        def drop(packet: Any) -> bool:
            if b"OPTIONS" not in packet.data[:8]:
                return False
            branch = packet.data.split(b"branch=")[1].split(b";")[0].decode()
            if not lost:
                lost.add(branch)
            return branch in lost

        rig.network.drop = drop
        pass_time(rig, 200.0, phone)
        self.assertEqual(len(lost), 1)
        self.assertEqual([kind for kind, _ in rig.records if kind.startswith("peer-")], [])
        end(rig)

    @shows("QUA-03", "11.1")
    def test_lagged(self) -> None:
        """The smoothed round-trip time is shown, and a phone whose answers take long is lagged, not unreachable."""
        rig, (phone,) = asking_rig("1001", qualify={**FAST, "lagged": 0.3, "interval": 10})
        rig.network.delay = 0.5
        pass_time(rig, 60.0, phone)
        self.assertEqual(states(rig), {phone.contact: "lagged"})
        self.assertTrue(900 <= rig.core.qualify.rows()[0]["rtt"] <= 1300)
        rig.network.delay = 0.0
        pass_time(rig, 300.0, phone)
        self.assertEqual(states(rig), {phone.contact: "reachable"})
        end(rig)

    @shows("QUA-04", "11.1")
    def test_spread(self) -> None:
        """Hundreds of phones are asked evenly over the interval, never faster than the rate, and each on its own beat."""
        rig = Rig(qualify={**FAST, "rate": 10.0})
        for number in range(300):
            rig.binding("1001", f"sip:p{number}@192.0.2.{number % 200 + 20}:{6000 + number}")
        rig.core.call_out(rig.config)
        rig.advance(240.0, 0.1)
        at = sorted(packet.at for packet in rig.network.packets if packet.data.startswith(b"OPTIONS"))
        first: dict[bytes, float] = {}
        for packet in rig.network.packets:
            if packet.data.startswith(b"OPTIONS"):
                first.setdefault(packet.data.split(b"branch=")[1].split(b";")[0], packet.at)
        at = sorted(first.values())
        for begin in range(240):
            self.assertLessEqual(sum(begin <= one < begin + 1 for one in at), 12)
        self.assertGreater(len(at), 1500)
        end(rig)

    @shows("QUA-01", "10.2.2")
    def test_follows_the_bindings(self) -> None:
        """A binding that goes away, by itself or by hand, is asked no more; a new one is."""
        rig, (phone, other) = asking_rig("1001", "1002")
        pass_time(rig, 12.0, phone, other)
        phone.register(expires=0)
        self.assertEqual(set(states(rig)), {other.contact})
        other.register(expires=20)
        pass_time(rig, 30.0, other)
        self.assertEqual(states(rig), {})
        self.assertEqual(len(pass_time(rig, 100.0, phone, other)), 0)
        phone.register()
        self.assertEqual(set(states(rig)), {phone.contact})
        pass_time(rig, 12.0, phone)
        rig.core.call_out(rig.config.model_copy(update={"qualify": rig.config.qualify.model_copy(update={"users": False})}))
        self.assertEqual(states(rig), {})
        end(rig)

    @shows("QUA-05", "5626 5.3")
    def test_through_nat(self) -> None:
        """A phone behind NAT is asked where its REGISTER came from, and one on a connection over that connection; when
        the connection is gone it is unreachable by and by."""
        rig = Rig(qualify=FAST)
        rig.core.call_out(rig.config)
        hidden = rig.phone("1001", "10.0.0.5", source=("198.51.100.7", 40123))
        hidden.via_params = ";rport"
        hidden.register()
        over_tcp = rig.phone("1002", "10.0.0.6", "tcp")
        over_tcp.register()
        asked = pass_time(rig, 100.0, hidden, over_tcp)
        self.assertGreater(len(asked), 2)
        self.assertEqual(set(states(rig).values()), {"reachable"})
        assert over_tcp.connection is not None
        over_tcp.connection.close()
        pass_time(rig, 100.0, hidden)
        self.assertEqual(states(rig)[over_tcp.contact], "unreachable")
        end(rig)

    @shows("QUA-06", "11.1")
    def test_by_hand(self) -> None:
        """Whoever runs the server can ask a user's phones or a peer at once, also those that are not asked otherwise;
        nobody is there to ask where nobody is registered."""
        rig, (phone,) = asking_rig("1001", qualify={"rate": 0.1})
        told: list[dict[str, Any]] = []
        self.assertFalse(rig.core.qualify.now("1009@example.com", "1009", lambda rows: told.extend(rows)))
        self.assertTrue(rig.core.qualify.now("1001@example.com", "1001", lambda rows: told.extend(rows)))
        rig.advance(0.1)
        phone.answer(phone.take("OPTIONS"), 200)
        self.assertEqual([one["state"] for one in told], ["reachable"])
        self.assertEqual(states(rig), {})
        self.assertTrue(rig.core.qualify.now("1001@example.com", "1001", lambda rows: told.extend(rows)))
        rig.advance(9.0)
        phone.drain()
        self.assertEqual([(one["state"], one["missed"]) for one in told[1:]], [("unknown", 1)])
        end(rig)


class RoutingTests(TestCase):
    """What calls make of it."""

    @shows("QUA-02", "16.5")
    def test_dead_are_skipped(self) -> None:
        """A call rings only the phone that answers; the silent one is asked on and rings again when it is back."""
        rig = Rig(qualify=FAST)
        rig.core.call_out(rig.config)
        caller, alive, dead = rig.phone("1002"), rig.phone("1001"), rig.phone("1001")
        for phone in (alive, dead):
            phone.register()
        pass_time(rig, 100.0, alive)
        dead.drain()
        self.assertEqual(states(rig), {alive.contact: "reachable", dead.contact: "unreachable"})
        _, _, _, ok = established(caller, alive)
        caller.hang_up(ok, alive)
        self.assertEqual([one for one in dead.drain() if isinstance(one, Request) and one.method == "INVITE"], [])
        pass_time(rig, 30.0, alive, dead)
        invite = caller.invite("1001")
        caller.take(100)
        for phone in (alive, dead):
            phone.refuse(486)
        caller.ack(caller.take(486), invite)
        end(rig)

    @shows("QUA-02", "16.5")
    def test_all_dead(self) -> None:
        """Where nobody answered lately a call is tried all the same: a phone may ring though it knows no OPTIONS."""
        rig = Rig(qualify=FAST)
        rig.core.call_out(rig.config)
        caller, phone = rig.phone("1002"), rig.phone("1001")
        phone.register()
        pass_time(rig, 100.0)
        phone.drain()
        self.assertEqual(states(rig), {phone.contact: "unreachable"})
        invite = caller.invite("1001")
        caller.take(100)
        phone.answer(next(one for one in phone.drain() if isinstance(one, Request) and one.method == "INVITE"), 486)
        phone.take("ACK")
        caller.ack(caller.take(486), invite)
        end(rig)


class TrunkTests(TestCase):
    """Carriers are asked too."""

    @shows("QUA-07", "11.1")
    def test_trunk(self) -> None:
        """A carrier is asked where the configuration says so, as the account there; it becomes unreachable and comes back,
        and a registration that failed meanwhile is tried at once."""
        rig = Rig(peers={"carrier": {"uri": "sip:203.0.113.10", "username": "acct", "qualify": 20, "register": True}})
        carrier = rig.phone("carrier", "203.0.113.10")
        rig.core.call_out(rig.config)
        while states(rig) != {"carrier": "unreachable"}:
            rig.advance(1.0)
        while rig.core.trunks.rows()[0]["state"] != "failed" or rig.core.trunks.rows()[0]["next"] < 100:
            rig.advance(1.0)
        carrier.drain()
        until = rig.clock.seconds() + 25.0
        registered = False
        while rig.clock.seconds() < until and not registered:
            rig.advance(0.1)
            for request in carrier.drain():
                assert isinstance(request, Request)
                carrier.answer(request, 200)
                if request.method == "OPTIONS":
                    self.assertTrue(request.first["from"].startswith("<sip:acct@203.0.113.10>;tag="))
                else:
                    registered = True
        self.assertEqual(states(rig), {"carrier": "reachable"})
        self.assertTrue(registered)
        rig.core.hang_up(1.0)
        rig.advance(2.0)
        carrier.drain()
        rig.finish()
