"""Peers as policy, on the real core: who is who, and what each may do."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.calls.history import tell
from sipd.config_trunks import Peer
from sipd.message.message import Request, Response
from tests.support.cases import shows
from tests.support.rig import Phone, Rig, established

#: A carrier that we do not register with, known by its address.
CARRIER = "203.0.113.10"
TRUNK = {"uri": f"sip:{CARRIER}:5060", "identify_by": ["address"]}
AUTH = {"required": True}
OTHER = "sip:00441234@other.example"


def policy_rig(peers: dict[str, Any], **settings: Any) -> Rig:
    """A server that asks for passwords, with these peers; the users 1001 and 1002 are registered at 192.0.2.51 and 52."""
    settings.setdefault("auth", AUTH)
    rig = Rig(peers=peers, **settings)
    for name, address in (("1001", "192.0.2.51"), ("1002", "192.0.2.52")):
        rig.binding(name, f"sip:{name}@{address}:5060")
    rig.core.call_out(rig.config)
    rig.advance(0.1)
    return rig


def reached(rig: Rig, caller: Phone, callee: Phone, uri: str = "", *extra: str, **fields: Any) -> Request:
    """The INVITE as the callee gets it; it declines, and the caller hears that."""
    invite = caller.invite(uri or callee.name, *extra, **fields)
    caller.take(100)
    got: Request = callee.take("INVITE")
    callee.answer(got, 603)
    callee.take("ACK")
    caller.ack(caller.take(603), invite)
    return got


def refused(caller: Phone, status: int, uri: str, *extra: str, **fields: Any) -> Response:
    """The refusal of an INVITE."""
    invite = caller.invite(uri, *extra, **fields)
    answer: Response = caller.take(status)
    caller.ack(answer, invite)
    return answer


def logged_in(caller: Phone, uri: str, *extra: str, **fields: Any) -> Request:
    """An INVITE with credentials."""
    invite = caller.invite(uri, *extra, **fields)
    challenge = caller.take(407)
    caller.ack(challenge, invite)
    return caller.authorized(invite, challenge)


def over(rig: Rig) -> None:
    """Stops what asks on and on, and looks that nothing is left."""
    rig.core.hang_up(0.1)
    rig.finish()


class TrunkTests(TestCase):
    """A carrier that is known by its address, with no registration of ours."""

    @shows("OUT-09", "16.5")
    def test_dialled_number(self) -> None:
        """The number in the Request-URI is a user here: no credentials are asked for, at whichever of our names."""
        rig = policy_rig({"carrier": TRUNK})
        carrier, phone = rig.phone("carrier", CARRIER), rig.phone("1001", "192.0.2.51")
        for uri in ("sip:1001@example.com", "sip:1001@192.0.2.1", "sip:1001@192.0.2.1:5060;user=phone", "tel:1001"):
            reached(rig, carrier, phone, uri)
        self.assertEqual([fields for kind, fields in rig.records if kind == "refused"], [])
        over(rig)

    def test_inbound_to(self) -> None:
        """A number that is nobody's is for inbound_to; without that it is not found; a user who has no phone here is
        unavailable, and not somebody else."""
        rig = policy_rig({"carrier": {**TRUNK, "inbound_to": "1001"}})
        carrier, phone = rig.phone("carrier", CARRIER), rig.phone("1001", "192.0.2.51")
        reached(rig, carrier, phone, "sip:+49301234@example.com")
        call = next(iter(rig.core.calls.finished.values()))
        self.assertIn("what carrier calls as +49301234@example.com is for 1001@example.com", [text for _, text in tell(call)])
        refused(carrier, 480, "sip:1003@example.com")
        over(rig)
        rig = policy_rig({"carrier": TRUNK})
        carrier = rig.phone("carrier", CARRIER)
        refused(carrier, 404, "sip:+49301234@example.com")
        over(rig)

    @shows("AUT-17", "16.3")
    def test_never_a_relay(self) -> None:
        """Nothing leads through here to the outside: neither another host, nor a Route, nor a maddr, nor a To tag, nor
        another method, nor the address of the carrier itself."""
        rig = policy_rig({"carrier": {**TRUNK, "inbound_to": "1001"}, "second": {"uri": "sip:203.0.113.20"}})
        carrier, second = rig.phone("carrier", CARRIER), rig.phone("second", "203.0.113.20")
        for uri, *extra in ((OTHER,), ("sip:1@203.0.113.20",), ("sip:1001@example.com", "Route: <sip:203.0.113.20;lr>"),
                            ("sip:1001@example.com;maddr=203.0.113.20",), (f"sip:1@{CARRIER}",),
                            (OTHER, "Route: <sip:192.0.2.1;lr>"), ("sip:1001@192.0.2.1:5099",)):
            for method in ("INVITE", "MESSAGE", "SUBSCRIBE", "REFER", "OPTIONS"):
                for to in ("", "<sip:a@b.example>;tag=x"):
                    carrier.request(method, uri, *extra, to=to)
                    carrier.take(403)
        second.silent()
        over(rig)

    def test_may_call(self) -> None:
        """What may_call names it may call too, and users it forbids it may not; the first pattern that fits decides."""
        rig = policy_rig({"carrier": {**TRUNK, "may_call": ["!1002", "*@203.0.113.20"]}})
        carrier, second = rig.phone("carrier", CARRIER), rig.phone("second", "203.0.113.20")
        phone = rig.phone("1001", "192.0.2.51")
        reached(rig, carrier, phone, "sip:1001@example.com")
        reached(rig, carrier, second, "sip:99@203.0.113.20")
        refused(carrier, 403, "sip:1002@example.com")
        refused(carrier, 403, "sip:%31002@example.com")
        refused(carrier, 403, "sip:1002;x=y@example.com")
        refused(carrier, 403, OTHER)
        over(rig)

    @shows("OUT-09", "26.3.2.4")
    def test_forged(self) -> None:
        """From elsewhere the same request is a stranger's. From the carrier's address under the name of a user here it
        needs that user's password: whoever can forge the address still is nobody here."""
        rig = policy_rig({"carrier": {**TRUNK, "inbound_to": "1001"}})
        carrier, stranger = rig.phone("carrier", CARRIER), rig.phone("stranger", "203.0.113.11")
        for uri in ("sip:1001@example.com", "sip:+49301234@example.com", OTHER):
            refused(stranger, 407, uri)
        for uri in ("sip:1002@example.com", "sip:+49301234@example.com", OTHER):
            refused(carrier, 407, uri, from_="<sip:1001@example.com>;tag=f")
            refused(carrier, 407, uri, from_="<sip:1001@192.0.2.1>;tag=f")
            refused(carrier, 407, uri, from_="<sip:1001@example.com:9999>;tag=f")
        over(rig)

    def test_options(self) -> None:
        """A carrier asks whether we are there: at our address, and at a number that is nobody's. It is told what this
        server can."""
        rig = policy_rig({"carrier": TRUNK})
        carrier = rig.phone("carrier", CARRIER)
        for uri in ("sip:192.0.2.1", "sip:ping@192.0.2.1", "sip:acct@example.com"):
            carrier.request("OPTIONS", uri)
            self.assertIn("INVITE", carrier.take(200).first["allow"])
        over(rig)

    def test_addresses_and_networks(self) -> None:
        """Further addresses of both families, on their own and in networks."""
        rig = policy_rig({"carrier": {**TRUNK, "addresses": ["198.51.100.7", "2001:db8:7::/48"]}},
                         listen=(("udp", "192.0.2.1", 5060), ("udp", "2001:db8::1", 5060)))
        phone = rig.phone("1001", "192.0.2.51")
        for address, known in (("198.51.100.7", True), ("198.51.100.8", False), ("2001:db8:7::1", True),
                               ("2001:db8:7:ffff::1", True), ("2001:db8:8::1", False)):
            one = rig.phone("gateway", address)
            if known:
                reached(rig, one, phone, "sip:1001@example.com")
            else:
                refused(one, 407, "sip:1001@example.com")
        over(rig)

    def test_credentials(self) -> None:
        """A carrier that logs in with its account: it calls our users under names of its own, and nobody under a
        user's; a wrong password, and an account that is known by its address alone, do not help."""
        account = {"uri": f"sip:{CARRIER}", "username": "acct", "password": "pass", "identify_by": ["credentials"]}
        rig = policy_rig({"carrier": account, "other": {**account, "username": "second", "identify_by": ["address"],
                                                        "uri": "sip:203.0.113.99"}})
        carrier, phone = rig.phone("carrier", "203.0.113.77"), rig.phone("1001", "192.0.2.51")

        def tried(uri: str, status: int, user: str = "acct", password: str = "pass", **fields: Any) -> None:
            invite = carrier.invite(uri, **fields)
            challenge = carrier.take(407)
            carrier.ack(challenge, invite)
            again = carrier.authorized(invite, challenge, user=user, password=password)
            if status == 603:
                carrier.take(100)
                phone.refuse(603)
            carrier.ack(carrier.take(status), again)

        outside = "<sip:+4930@carrier.example>;tag=f"
        tried("sip:1001@example.com", 603, from_=outside)
        tried("sip:1001@example.com", 603, from_="<sip:+4930@example.com>;tag=f")
        tried("sip:1001@example.com", 403, from_="<sip:1002@example.com>;tag=f")
        tried("sip:1001@example.com", 407, password="wrong", from_=outside)
        tried("sip:1001@example.com", 407, user="second", from_=outside)
        tried("sip:1001@example.com", 407, user="carrier", from_=outside)
        tried(OTHER, 403, from_=outside)
        request = carrier.request("REGISTER", "sip:example.com", to="<sip:acct@example.com>", contact="<sip:a@203.0.113.77>")
        carrier.authorized(request, carrier.take(401), user="acct", password="pass")
        carrier.take(404)
        over(rig)

    def test_name(self) -> None:
        """A carrier by name: its addresses are looked up at the start, a DNS that says nothing holds nothing up, and when
        it has moved the old place is a stranger's within a minute."""
        rig = Rig(auth=AUTH, peers={"carrier": {"uri": "sip:c.example:5060", "identify_by": ["address"]}})
        rig.binding("1001", "sip:1001@192.0.2.51:5060")
        phone, carrier = rig.phone("1001", "192.0.2.51"), rig.phone("carrier", CARRIER)
        moved = rig.phone("carrier", "203.0.113.99")
        rig.dns.all_silent = True
        rig.core.call_out(rig.config)
        rig.advance(20.0)
        refused(carrier, 407, "sip:1001@example.com")
        rig.dns.all_silent = False
        rig.dns.address("c.example", CARRIER, ttl=20)
        rig.advance(31.0)
        reached(rig, carrier, phone, "sip:1001@example.com")
        rig.dns.zone.clear()
        rig.dns.address("c.example", "203.0.113.99", ttl=20)
        rig.advance(61.0)
        refused(carrier, 407, "sip:1001@example.com")
        reached(rig, moved, phone, "sip:1001@example.com")
        over(rig)

    def test_certificate(self) -> None:
        """A carrier that is known by the name in its certificate, from wherever it connects; a user likewise, under their
        own name, to call and to register."""
        rig = policy_rig({})
        peers = {"carrier": Peer(uri="sip:c.example", identify_by=("tls",), tls_names=("sip:C.example",)),
                 "1002": Peer(identify_by=("tls", "credentials"), tls_names=("phone2.example",))}
        rig.core.call_out(rig.config.model_copy(update={"peers": peers}))
        phone = rig.phone("1001", "192.0.2.51")
        for name, names, known in (("carrier", ("x.example", "c.example"), True), ("carrier", (), False),
                                   ("carrier", ("phone2.example",), False), ("1002", ("phone2.example",), True),
                                   ("1002", ("c.example",), False)):
            one = rig.phone(name, "198.51.100.9", "tls")
            assert one.connection is not None
            one.connection.flow.names = names
            if known:
                reached(rig, one, phone, "sip:1001@example.com")
            else:
                refused(one, 407, "sip:1001@example.com")
            if name == "1002":
                one.register(take=200 if known else 401)
        over(rig)

    def test_nobody_by_default(self) -> None:
        """A carrier that we do not register with is a stranger unless its section says how it is known."""
        rig = policy_rig({"carrier": {"uri": f"sip:{CARRIER}"}})
        carrier = rig.phone("carrier", CARRIER)
        refused(carrier, 407, "sip:1001@example.com")
        over(rig)


class RoutedTests(TestCase):
    """What routing makes of a number, for those who may call our users and nobody else."""

    PEERS: dict[str, Any] = {"carrier": {**TRUNK, "inbound_to": "1001"}, "second": {"uri": "sip:203.0.113.20"}}
    ROUTING: dict[str, Any] = {
        "routes": [{"match": "^0[0-9]+$", "to": ["second"]}, {"match": "^555$", "to": ["1002"]},
                   {"match": "^1004$", "to": ["1004", "second"]}],
        "groups": {"sales": {"members": ["1002"]}, "all": {"members": ["1002", "second"]}},
        "numbers": {"+4930": {"to": ["1002"]}, "+4940": {"to": ["second"]}},
    }

    def test_trunk(self) -> None:
        """A carrier reaches users by their aliases, groups and routes. What leads to another carrier is not for it: it
        goes to inbound_to instead, or nowhere where may_call forbids it; what may_call names leads on."""
        rig = policy_rig(self.PEERS, **self.ROUTING)
        carrier, second = rig.phone("carrier", CARRIER), rig.phone("second", "203.0.113.20")
        one, two = rig.phone("1001", "192.0.2.51"), rig.phone("1002", "192.0.2.52")
        for number in ("555", "sales", "+4930"):
            reached(rig, carrier, two, f"sip:{number}@example.com")
        for number in ("0123", "all", "+4940", "1004"):
            reached(rig, carrier, one, f"sip:{number}@example.com")
        second.silent()
        over(rig)
        rig = policy_rig({"carrier": {**TRUNK, "may_call": ["!00*", "0*"]}, "second": {"uri": "sip:203.0.113.20"}},
                         **self.ROUTING)
        carrier, second = rig.phone("carrier", CARRIER), rig.phone("second", "203.0.113.20")
        reached(rig, carrier, second, "sip:0123@example.com")
        refused(carrier, 403, "sip:00123@example.com")
        refused(carrier, 404, "sip:+4940@example.com")
        over(rig)

    def test_guests(self) -> None:
        """Strangers who may call our users reach no carrier by any number."""
        rig = policy_rig(self.PEERS, proxy={"guests": True}, **self.ROUTING)
        guest, two = rig.phone("guest", "198.51.100.9"), rig.phone("1002", "192.0.2.52")
        outside = "<sip:guest@elsewhere.example>;tag=f"
        for number in ("555", "sales", "+4930", "1002"):
            reached(rig, guest, two, f"sip:{number}@example.com", from_=outside)
        for number in ("0123", "all", "+4940", "1004", "nobody"):
            refused(guest, 404, f"sip:{number}@example.com", from_=outside)
        rig.phone("second", "203.0.113.20").silent()
        over(rig)


class LimitTests(TestCase):
    """How many calls at once."""

    def test_caller(self) -> None:
        """Whoever has as many calls as they may have cannot make another; emergency numbers can be called."""
        rig = policy_rig({"1001": {"call_limit": 2}, "carrier": {**TRUNK, "call_limit": 1}})
        counts = {"1001@example.com": 1, "carrier": 0}
        rig.core.policies.in_use = lambda name: counts[name]
        rig.core.callers.is_emergency = lambda number: number == "112"
        caller, carrier = rig.phone("1001", "192.0.2.51"), rig.phone("carrier", CARRIER)
        for status in (480, 480):
            again = logged_in(caller, "sip:1009@example.com")
            answer = caller.take(status)
            caller.ack(answer, again)
            self.assertEqual(answer.reason == "Call Limit Reached", counts["1001@example.com"] == 2)
            counts["1001@example.com"] += 1
        again = logged_in(caller, "sip:112@example.com")
        caller.ack(caller.take(404), again)
        self.assertNotEqual(refused(carrier, 480, "sip:1009@example.com").reason, "Call Limit Reached")
        counts["carrier"] = 1
        self.assertEqual(refused(carrier, 480, "sip:1009@example.com").reason, "Call Limit Reached")
        over(rig)

    def test_busy_called(self) -> None:
        """Whoever calls somebody with as many calls as make them busy hears 486; the calls are counted while they are up.
        A forward on busy applies; a member of a group is passed over."""
        rig = policy_rig({"1002": {"busy_level": 1}}, auth={"required": False})
        one, two, three = rig.phone("1001", "192.0.2.51"), rig.phone("1002", "192.0.2.52"), rig.phone("1003", "192.0.2.53")
        rig.binding("1003", "sip:1003@192.0.2.53:5060")
        _, _, _, ok = established(one, two)
        refused(three, 486, "sip:1002@example.com")
        call = list(rig.core.calls.finished.values())[-1]
        self.assertIn("1002@example.com is busy: it has 1 calls, as many as it may", [text for _, text in tell(call)])
        one.hang_up(ok, two)
        reached(rig, three, two)
        rig.finish()
        for more in ({"forward": {"1002": {"busy": "1003"}}}, {"groups": {"all": {"members": ["1002", "1003"]}}}):
            rig = policy_rig({"1002": {"busy_level": 1}}, auth={"required": False}, **more)
            one, two, three = (rig.phone(f"100{n}", f"192.0.2.5{n}") for n in (1, 2, 3))
            rig.binding("1003", "sip:1003@192.0.2.53:5060")
            rig.core.policies.in_use = lambda name: 1 if name == "1002@example.com" else 0
            reached(rig, one, three, "sip:all@example.com" if "groups" in more else "sip:1002@example.com")
            two.silent()
            rig.finish()

    def test_trunk_called(self) -> None:
        """A carrier with as many calls as it may have is passed over for the next one, but for emergency numbers."""
        rig = policy_rig({"first": {"uri": "sip:203.0.113.31", "call_limit": 1}, "second": {"uri": "sip:203.0.113.32"}},
                         auth={"required": False}, routes=[{"match": "^[0-9]{3,}$", "to": ["first", "second"]}],
                         routing={"emergency": ["112"]})
        caller = rig.phone("1001", "192.0.2.51")
        first, second = rig.phone("first", "203.0.113.31"), rig.phone("second", "203.0.113.32")
        rig.core.policies.in_use = lambda name: 1 if name == "first" else 0
        reached(rig, caller, second, "sip:0123@example.com")
        reached(rig, caller, first, "sip:112@example.com")
        over(rig)

    def test_busy(self) -> None:
        """Who is busy is who has as many calls as their level, or their limit."""
        rig = policy_rig({"1001": {"call_limit": 2}, "1002": {"busy_level": 1, "call_limit": 3}, "1003": {}})
        policies, counts = rig.core.policies, {f"100{n}@example.com": n - 1 for n in (1, 2, 3)}
        policies.in_use = counts.__getitem__
        self.assertEqual([policies.is_busy(aor) for aor in counts], [False, True, False])
        counts["1001@example.com"] = 2
        self.assertTrue(policies.is_busy("1001@example.com"))
        over(rig)
