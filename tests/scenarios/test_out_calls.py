"""Calls that come in on a registration of ours, and what the registrar's route does (OUT-09, OUT-12)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.address import Address
from sipd.message.message import Request
from tests.scenarios.test_out import ACCOUNT, CARRIER, carrier_rig, goodbye, register, row, waited
from tests.support.cases import shows
from tests.support.rig import Phone, Rig


def contact_of(request: Request) -> str:
    """The URI that was registered."""
    return Address.parse(request.first["contact"]).uri_text


def call_through(caller: Phone, callee: Phone, uri: str) -> None:
    """A whole call, ended by each side in turn."""
    for caller_ends in (True, False):
        caller.invite(uri)
        got = callee.ring(caller)
        sent, ok = callee.pick_up(got, caller)
        if caller_ends:
            caller.hang_up(ok, callee)
        else:
            callee.in_callee_dialog("BYE", got, sent)
            caller.answer(caller.take("BYE"), 200)
            callee.take(200)


class InboundTests(TestCase):
    """The carrier calls the contact we registered."""

    @shows("OUT-09", "16.5")
    def test_call_reaches_the_user(self) -> None:
        """With authentication on, the carrier's call rings the user of inbound_to, without being asked for credentials; both
        sides can end it."""
        rig, carrier = carrier_rig(auth={"required": True})
        rig.binding("1001", "sip:1001@192.0.2.50:5060")
        phone = rig.phone("1001", "192.0.2.50")
        contact = contact_of(register(rig, carrier))
        call_through(carrier, phone, contact)
        rig.advance(40.0)
        self.assertEqual([fields for kind, fields in rig.records if kind == "refused"], [])
        goodbye(rig, carrier)

    @shows("OUT-09", "26.3.2.4")
    def test_nobody_else(self) -> None:
        """The same call from another address is a stranger's: asked for credentials like any other. The carrier's own
        calls lead nowhere outside, and under the name of a user here it is nobody."""
        rig, carrier = carrier_rig(auth={"required": True})
        rig.binding("1001", "sip:1001@192.0.2.50:5060")
        phone, stranger = rig.phone("1001", "192.0.2.50"), rig.phone("stranger", "198.51.100.7")
        contact = contact_of(register(rig, carrier))
        stranger.invite(contact)
        stranger.take(407)
        for uri in ("sip:00441234@other.example", contact.replace("192.0.2.1", "192.0.2.77")):
            carrier.invite(uri)
            carrier.take(403)
        carrier.invite("sip:1001@example.com", from_="<sip:1002@example.com>;tag=f")
        carrier.take(407)
        # a Route of ours without our token, and a To tag, are no dialog
        carrier.invite("sip:00441234@other.example", "Route: <sip:192.0.2.1:5060;lr>", to="<sip:a@b.example>;tag=x")
        carrier.take(403)
        carrier.invite("sip:1001@example.com", "Route: <sip:198.51.100.7;lr>")
        carrier.take(403)
        rig.advance(1.0)
        phone.silent()
        goodbye(rig, carrier)

    @shows("OUT-09", "10.2.2")
    def test_only_while_registered(self) -> None:
        """Before the registrar has granted anything, after it refused, and when the peer is gone, the contact is
        nobody's."""
        rig, carrier = carrier_rig(auth={"required": True})
        rig.binding("1001", "sip:1001@192.0.2.50:5060")
        first = carrier.take("REGISTER")
        contact = contact_of(first)
        carrier.invite(contact)
        carrier.take(407)
        carrier.answer(first, 403)
        carrier.invite(contact)
        carrier.take(407)
        rig.core.trunks.again("carrier")
        register(rig, carrier)
        rig.core.trunks.again("carrier")
        carrier.answer(carrier.take("REGISTER"), 404)
        carrier.invite(contact)
        carrier.take(407)
        rig.core.trunks.again("carrier")
        register(rig, carrier)
        rig.core.call_out(rig.config.model_copy(update={"peers": {}}))
        carrier.answer(carrier.take("REGISTER"), 200)
        carrier.invite(contact)
        carrier.take(407)
        rig.core.hang_up(1.0)
        rig.finish()

    @shows("OUT-09", "16.5")
    def test_identified_by_nothing(self) -> None:
        """Where the file says that nothing tells the carrier's calls, they are a stranger's."""
        rig, carrier = carrier_rig({"identify_by": []}, auth={"required": True})
        rig.binding("1001", "sip:1001@192.0.2.50:5060")
        carrier.invite(contact_of(register(rig, carrier)))
        carrier.take(407)
        goodbye(rig, carrier)

    @shows("OUT-09", "16.5")
    def test_chosen_name(self) -> None:
        """A contact user of one's choice may be a user's own name: from the carrier it is inbound_to's, from anybody
        else it is that user."""
        rig, carrier = carrier_rig({"contact_user": "1002", "inbound_to": "1001"})
        one, two, three = (rig.phone(name) for name in ("1001", "1002", "1003"))
        one.register()
        two.register()
        contact = contact_of(register(rig, carrier))
        self.assertEqual(contact, "sip:1002@192.0.2.1:5060")
        call_through(carrier, one, contact)
        call_through(three, two, "1002")
        goodbye(rig, carrier)

    @shows("OUT-09", "11.2", "16.5")
    def test_odd_requests(self) -> None:
        """The carrier's OPTIONS to the contact is answered here; a user who is not registered gives 480, one who is not
        there and a peer without inbound_to 404; a CANCEL ends the ringing."""
        rig, carrier = carrier_rig(auth={"required": True})
        contact = contact_of(register(rig, carrier))
        carrier.request("OPTIONS", contact)
        self.assertIn("allow", carrier.take(200).first)
        invite = carrier.invite(contact)
        carrier.ack(carrier.take(480), invite)
        rig.binding("1001", "sip:1001@192.0.2.50:5060")
        phone = rig.phone("1001", "192.0.2.50")
        invite = carrier.invite(contact)
        got = phone.ring(carrier)
        carrier.cancel(invite)
        carrier.take(200)
        phone.cancelled(got)
        carrier.ack(carrier.take(487), invite)
        goodbye(rig, carrier)
        for user, status in (("", 404), ("nobody", 404)):
            rig, carrier = carrier_rig({"inbound_to": user}, auth={"required": True})
            contact = contact_of(register(rig, carrier))
            invite = carrier.invite(contact)
            carrier.ack(carrier.take(status), invite)
            goodbye(rig, carrier)

    @shows("OUT-09", "3263 4")
    def test_other_servers_of_the_carrier(self) -> None:
        """A carrier calls from each server its name stands for, and from the networks that the configuration names."""
        rig = Rig(auth={"required": True}, peers={"carrier": {
            **ACCOUNT, "uri": "sip:carrier.example", "addresses": ["198.51.100.0/24", "2001:db8::/32"]}})
        rig.dns.address("carrier.example", CARRIER, "203.0.113.20")
        rig.binding("1001", "sip:1001@192.0.2.50:5060")
        phone = rig.phone("1001", "192.0.2.50")
        servers = [rig.phone("carrier", address) for address in (CARRIER, "203.0.113.20", "198.51.100.9")]
        stranger = rig.phone("carrier", "203.0.113.21")
        rig.core.call_out(rig.config)
        rig.advance(0.1)
        registrar = next(one for one in servers if one.unread)
        contact = contact_of(register(rig, registrar))
        for server in servers:
            call_through(server, phone, contact)
        stranger.invite(contact)
        stranger.take(407)
        goodbye(rig, registrar)

    @shows("OUT-09", "10.2.1")
    def test_contact_after_a_restart(self) -> None:
        """The contact that nobody can guess is the same after a restart, another with another secret, and another for
        each peer."""
        contacts = []
        for secret, name in ((b"s" * 32, "carrier"), (b"s" * 32, "carrier"), (b"t" * 32, "carrier"), (b"s" * 32, "other")):
            rig = Rig(peers={name: ACCOUNT}, secret=secret)
            carrier = rig.phone("carrier", CARRIER)
            rig.core.call_out(rig.config)
            contacts.append(contact_of(register(rig, carrier)))
            goodbye(rig, carrier)
        self.assertEqual(contacts[0], contacts[1])
        self.assertEqual(len(set(contacts)), 3)


class RouteTests(TestCase):
    """Where requests go by."""

    @shows("OUT-12", "3608 5")
    def test_service_route(self) -> None:
        """The Service-Route of the 200 is the route of later requests, in its order, but not of REGISTERs; each 200
        brings its own."""
        rig, carrier = carrier_rig({"qualify": 30})
        core = rig.phone("carrier", "203.0.113.77")
        register(rig, carrier, 100, "Service-Route: <sip:203.0.113.77;lr>, <sip:b.carrier.example;lr>",
                 "Service-Route: <sip:c.carrier.example;lr>", "Path: <sip:edge.example;lr>")
        before = carrier.take("OPTIONS")
        self.assertNotIn("route", before.first)
        carrier.answer(before, 200)
        waited(rig, core, 40.0)
        asked = core.take("OPTIONS")
        self.assertEqual(asked.uri_text, f"sip:{CARRIER}")
        self.assertEqual(asked.values("route"), [
            "<sip:203.0.113.77;lr>", "<sip:b.carrier.example;lr>", "<sip:c.carrier.example;lr>"])
        core.answer(asked, 200)
        while not carrier.unread:
            rig.advance(0.1)
            for later in core.take_all("OPTIONS"):
                core.answer(later, 200)
        again = register(rig, carrier, 100)
        self.assertNotIn("route", again.first)
        self.assertEqual(row(rig)["service_route"], [])
        waited(rig, carrier, 40.0)
        carrier.answer(carrier.take("OPTIONS"), 200)
        goodbye(rig, carrier)

    @shows("OUT-12", "3608")
    def test_odd_routes(self) -> None:
        """What cannot be used as a route is left out, and the registration stands all the same."""
        for line in ("Service-Route: <mailto:a@b.example>", "Service-Route: broken <", "Service-Route:",
                     "Service-Route: " + ", ".join(["<sip:a.example;lr>"] * 11),
                     f"Service-Route: <sip:{'a' * 600}.example;lr>", "Path: broken <"):
            rig, carrier = carrier_rig()
            register(rig, carrier, 100, line)
            self.assertEqual((row(rig)["state"], row(rig)["service_route"]), ("registered", []))
            goodbye(rig, carrier)

    @shows("OUT-01", "8.1.2")
    def test_outbound_proxy(self) -> None:
        """With a proxy in the configuration the REGISTER goes there, addressed to the carrier, by a loose Route."""
        rig = Rig(peers={"carrier": {**ACCOUNT, "proxy": "203.0.113.77:5070", "from_domain": "voice.example"}})
        edge = rig.phone("edge", "203.0.113.77", port=5070)
        rig.core.call_out(rig.config)
        first = register(rig, edge)
        self.assertEqual((first.uri_text, first.values("route")), (f"sip:{CARRIER}", ["<sip:203.0.113.77:5070;lr>"]))
        self.assertEqual(first.first["to"], "<sip:acct@voice.example>")
        self.assertEqual(row(rig)["server"], "udp:203.0.113.77:5070")
        goodbye(rig, edge)
