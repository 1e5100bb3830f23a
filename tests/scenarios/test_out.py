"""Outbound registrations: sipd is the one who registers, a phone of the rig plays the carrier (OUT-01 to OUT-12)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.auth.digest import ha1 as secret_of
from sipd.auth.digest import parse_credentials, request_digest
from sipd.message.address import Address
from sipd.message.message import Request
from tests.support.cases import shows
from tests.support.rig import Phone, Rig

CARRIER = "203.0.113.10"
ACCOUNT = {"uri": f"sip:{CARRIER}", "register": True, "register_expires": 300, "username": "acct", "password": "pass",
           "inbound_to": "1001"}


def carrier_rig(wanted: dict[str, Any] | None = None, **settings: Any) -> tuple[Rig, Phone]:
    """A server with one peer, and the carrier at its address; the first REGISTER is on its way."""
    rig = Rig(peers={"carrier": {**ACCOUNT, **(wanted or {})}}, **settings)
    carrier = rig.phone("carrier", CARRIER)
    rig.core.call_out(rig.config)
    rig.advance(0.1)
    return rig, carrier


def granted(request: Request, seconds: int) -> str:
    """The Contact line of a 200 that grants what the REGISTER asks for so many seconds."""
    return f"Contact: <{Address.parse(request.first['contact']).uri_text}>;expires={seconds}"


def register(rig: Rig, carrier: Phone, seconds: int = 300, *extra: str) -> Request:
    """Takes a REGISTER and grants it."""
    request: Request = carrier.take("REGISTER")
    carrier.answer(request, 200, granted(request, seconds), *extra)
    return request


def waited(rig: Rig, carrier: Phone, most: float) -> float:
    """Lets time pass until the carrier hears something; how many seconds that took."""
    begun = rig.clock.seconds()
    while not carrier.unread:
        if rig.clock.seconds() - begun > most:
            raise AssertionError(f"nothing within {most} s\n{rig.ladder()}")
        rig.advance(0.1)
    return rig.clock.seconds() - begun


def row(rig: Rig) -> dict[str, Any]:
    """What `sipctl registry` would show of the peer."""
    return rig.core.trunks.trunks["carrier"].row()


def challenge(nonce: str, algorithm: str = "MD5", realm: str = "carrier.example", more: str = "") -> str:
    """A WWW-Authenticate line."""
    return f'WWW-Authenticate: Digest realm="{realm}", nonce="{nonce}", qop="auth", algorithm={algorithm}{more}'


def proves(request: Request, password: str = "pass", name: str = "authorization") -> list[tuple[str, str, int]]:
    """The (realm, algorithm, nonce count) of each right answer in a request; a wrong one fails."""
    found = []
    for value in request.all(name):
        one = parse_credentials(value)
        assert one is not None
        secret = secret_of(one.algorithm, one.username, one.realm, password)
        wanted = request_digest(one.algorithm, secret, request.method, one.uri, one.nonce, one.qop, one.nc, one.cnonce)
        assert one.response == wanted and one.uri == request.uri_text, value
        found.append((one.realm, one.algorithm, int(one.nc, 16)))
    return found


def goodbye(rig: Rig, carrier: Phone) -> Request:
    """Stops the server's registrations; the REGISTER that takes the binding away, answered."""
    done: list[None] = []
    rig.core.hang_up(2.0).addCallback(done.append)
    request: Request = carrier.take("REGISTER")
    carrier.answer(request, 200)
    assert done == [None]
    rig.finish()
    return request


class RegisterTests(TestCase):
    """The registration is made, kept and taken away."""

    @shows("OUT-01", "10.2", "22.2")
    def test_start(self) -> None:
        """The REGISTER is as s10.2 wants it; a 401 is answered with digest at once, and the 200 is believed."""
        rig, carrier = carrier_rig()
        first = carrier.take("REGISTER")
        self.assertEqual(first.uri_text, f"sip:{CARRIER}")
        self.assertEqual(Address.parse(first.first["to"]).uri_text, f"sip:acct@{CARRIER}")
        self.assertEqual(Address.parse(first.first["from"]).uri_text, f"sip:acct@{CARRIER}")
        self.assertEqual((first.to_tag, first.first["max-forwards"], first.first["expires"]), ("", "70", "300"))
        self.assertNotEqual(first.from_tag, "")
        contact = Address.parse(first.first["contact"]).uri
        self.assertEqual((contact.host, contact.port), ("192.0.2.1", 5060))
        self.assertNotIn("authorization", first.first)
        self.assertEqual(row(rig)["state"], "trying")
        carrier.answer(first, 401, challenge("n1"))
        second = carrier.take("REGISTER")
        self.assertEqual(proves(second), [("carrier.example", "MD5", 1)])
        self.assertEqual((second.call_id, second.from_tag), (first.call_id, first.from_tag))
        self.assertEqual(second.cseq_number, first.cseq_number + 1)
        self.assertNotEqual(second.via.branch, first.via.branch)
        carrier.answer(second, 200, granted(second, 120))
        self.assertEqual((row(rig)["state"], row(rig)["expires"], row(rig)["server"]),
                         ("registered", 120, f"udp:{CARRIER}:5060"))
        self.assertEqual(len([kind for kind, _ in rig.records if kind == "peer-registered"]), 1)
        goodbye(rig, carrier)

    @shows("OUT-02", "10.2.4")
    def test_refresh(self) -> None:
        """It is refreshed before what was granted ends, with the same Call-ID, a higher CSeq and the next nonce count;
        that it goes on is no news."""
        rig, carrier = carrier_rig()
        carrier.answer(carrier.take("REGISTER"), 401, challenge("n1"))
        first = register(rig, carrier, 100)
        self.assertTrue(74.0 < waited(rig, carrier, 100.0) < 86.0)
        second = register(rig, carrier, 100)
        self.assertEqual(second.call_id, first.call_id)
        self.assertEqual(second.cseq_number, first.cseq_number + 1)
        self.assertEqual(second.first["contact"], first.first["contact"])
        self.assertEqual(proves(second), [("carrier.example", "MD5", 2)])
        self.assertEqual(len([kind for kind, _ in rig.records if kind == "peer-registered"]), 1)
        goodbye(rig, carrier)

    @shows("OUT-08", "10.2.2")
    def test_shutdown(self) -> None:
        """At shutdown the binding is removed, and alone: Expires 0, our Contact, no wildcard."""
        rig, carrier = carrier_rig()
        first = register(rig, carrier)
        last = goodbye(rig, carrier)
        self.assertEqual((last.first["expires"], last.first["contact"]), ("0", first.first["contact"]))
        self.assertEqual(last.call_id, first.call_id)
        self.assertGreater(last.cseq_number, first.cseq_number)
        self.assertEqual(rig.records[-1], ("peer-unregistered", {"peer": "carrier"}))

    @shows("OUT-08", "10.2.2")
    def test_shutdown_of_the_deaf(self) -> None:
        """A carrier that does not answer is waited for no longer than was said; one that never granted anything is not
        told at all; one whose answer is under way is."""
        rig, carrier = carrier_rig()
        register(rig, carrier)
        done: list[None] = []
        rig.core.hang_up(2.0).addCallback(done.append)
        rig.advance(1.9)
        self.assertEqual(done, [])
        rig.advance(0.2)
        self.assertEqual(done, [None])
        carrier.drain()
        rig.finish()
        rig, carrier = carrier_rig()
        carrier.answer(carrier.take("REGISTER"), 403)
        rig.core.hang_up(2.0).addCallback(done.append)
        self.assertEqual(done, [None, None])
        self.assertEqual(rig.records[-1][0], "peer-refused")
        rig.finish()
        rig, carrier = carrier_rig()
        carrier.take("REGISTER")
        goodbye(rig, carrier)

    @shows("OUT-08", "10.2.2")
    def test_configuration_changes(self) -> None:
        """A peer that is gone from the configuration is unregistered, one that stays is left alone, one that changed
        is unregistered before it registers anew."""
        rig, carrier = carrier_rig()
        first = register(rig, carrier)
        rig.core.call_out(rig.config)
        carrier.silent()
        changed = rig.config.model_copy(update={"peers": {
            "carrier": rig.config.peers["carrier"].model_copy(update={"register_expires": 600})}})
        rig.core.call_out(changed)
        gone = carrier.take("REGISTER")
        self.assertEqual(gone.first["expires"], "0")
        carrier.silent()
        carrier.answer(gone, 200)
        again = register(rig, carrier)
        self.assertEqual((again.first["expires"], again.first["contact"]), ("600", first.first["contact"]))
        self.assertNotEqual(again.call_id, first.call_id)
        rig.core.call_out(rig.config.model_copy(update={"peers": {}}))
        gone = carrier.take("REGISTER")
        self.assertEqual((gone.first["expires"], gone.call_id), ("0", again.call_id))
        carrier.answer(gone, 200)
        self.assertEqual(rig.core.trunks.rows(), [])
        rig.finish()

    @shows("OUT-01", "10.2.1")
    def test_again_by_hand(self) -> None:
        """Whoever runs the server can have it register at once; a peer that is not there, or does not register, is
        told apart."""
        rig, carrier = carrier_rig()
        register(rig, carrier)
        self.assertFalse(rig.core.trunks.again("nobody"))
        self.assertTrue(rig.core.trunks.again("carrier"))
        self.assertTrue(rig.core.trunks.again("carrier"))
        register(rig, carrier)
        carrier.silent()
        goodbye(rig, carrier)

    @shows("OUT-02", "10.2.4")
    def test_what_was_granted(self) -> None:
        """The time granted is that of our contact among others, else the Expires header, else what was asked for; a
        200 that lists nothing of ours for longer than 0 s is no registration."""
        for lines, wanted in (
            (["Contact: <sip:other@192.0.2.99>;expires=77", "OURS;expires=50"], 50),
            (["OURS", "Expires: 90"], 90), (["OURS"], 300), ([], 300), (["Expires: 60"], 60),
            (["Contact: <sip:acct@10.0.0.1>;expires=40"], 40), (["OURS;expires=many"], 300),
            (["Contact: <sip:a@10.0.0.1>;expires=40, <sip:b@10.0.0.1>;expires=50", "Expires: 70"], 70),
            (["OURS;expires=99999999999"], 86400), (["Contact: no address", "OURS;expires=30"], 30),
        ):
            rig, carrier = carrier_rig()
            request = carrier.take("REGISTER")
            ours = granted(request, 0).removesuffix(";expires=0")
            carrier.answer(request, 200, *[line.replace("OURS", ours) for line in lines])
            self.assertEqual((row(rig)["state"], row(rig)["expires"]), ("registered", wanted), lines)
            goodbye(rig, carrier)
        rig, carrier = carrier_rig()
        request = carrier.take("REGISTER")
        carrier.answer(request, 200, granted(request, 0))
        self.assertEqual(row(rig)["state"], "failed")
        goodbye(rig, carrier)
