"""Phones behind NAT: reached where their packets come from, before, in and between dialogs (RFC 3581, RFC 3261 s18)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.message import Request, Response
from sipd.message.parser import parse
from tests.support.cases import shows
from tests.support.rig import DOMAIN, Phone, Rig, established

PRIVATE = "10.0.0.5"


def talk(case: TestCase, a: Phone, b: Phone, invite: Request, answer: Response, ok: Response) -> None:
    """Requests of the dialog cross both ways, then the callee hangs up."""
    for method in ("INFO", "UPDATE"):
        a.in_dialog(method, ok, cseq=20 if method == "INFO" else 21)
        b.answer(b.take(method), 200)
        a.take(200)
        b.in_callee_dialog(method, invite, answer)
        a.answer(a.take(method), 200)
        b.take(200)
    # a re-INVITE from either side, with its ACK along the same way
    again = a.in_dialog("INVITE", ok, cseq=30)
    a.take(100)
    b.answer(b.take("INVITE"), 200)
    a.ack(a.take(200))
    b.take("ACK")
    again = b.in_callee_dialog("INVITE", invite, answer, cseq=40)
    b.take(100)
    got = a.take("INVITE")
    a.answer(got, 200)
    accepted = b.take(200)
    b.in_callee_dialog("ACK", invite, answer, cseq=accepted.cseq_number)
    a.take("ACK")
    case.assertEqual(again.call_id, got.call_id)
    b.in_callee_dialog("BYE", invite, answer)
    a.answer(a.take("BYE"), 200)
    b.take(200)


class Registered(TestCase):
    """A contact behind NAT is reached at its source; any other one where it says."""

    @shows("RTE-02", "18.2.1", "3581 4")
    def test_source_address(self) -> None:
        """The Via says a private address: requests go to the source, the Request-URI stays the phone's own contact."""
        rig = Rig()
        a = rig.phone("1001")
        b = rig.phone("1002", PRIVATE, source=("198.51.100.7", 40123))
        b.via_params = ";rport"
        b.register()
        self.assertIn(PRIVATE, b.contact)
        a.request("MESSAGE", f"sip:1002@{DOMAIN}")
        got = b.take("MESSAGE")
        self.assertEqual(got.uri_text, b.contact)
        b.answer(got, 200)
        a.take(200)
        rig.finish()

    @shows("RTE-02", "3581 4")
    def test_source_port(self) -> None:
        """Only the port differs: with rport it is a NAT, without it the phone listens where it says."""
        rig = Rig()
        a = rig.phone("1001")
        behind = rig.phone("1002", "192.0.2.50", source=("192.0.2.50", 40123))
        home = rig.phone("1002", "192.0.2.50")
        for rport in (";rport", ""):
            behind.via_params = rport
            behind.request("REGISTER", f"sip:{DOMAIN}", "Expires: 60", to=f"<{behind.aor}>",
                           contact=f"<{behind.contact}>", call_id=f"r{rport}")
            reached = behind if rport else home
            reached.take(200)
            a.request("MESSAGE", f"sip:1002@{DOMAIN}")
            reached.answer(reached.take("MESSAGE"), 200)
            a.take(200)
        rig.finish()

    @shows("RTE-02", "18.2.1")
    def test_private_contact(self) -> None:
        """The Via is right (the phone learnt its address) but the contact is private: the source is used."""
        rig = Rig()
        a = rig.phone("1001")
        b = rig.phone("1002", "198.51.100.7")
        b.register(contact=f"<sip:1002@{PRIVATE}>")
        a.request("MESSAGE", f"sip:1002@{DOMAIN}")
        got = b.take("MESSAGE")
        self.assertEqual(got.uri_text, f"sip:1002@{PRIVATE}")
        b.answer(got, 200)
        a.take(200)
        rig.finish()

    @shows("RTE-02", "10.3")
    def test_contact_elsewhere(self) -> None:
        """Somebody registers another public contact: it is reached where it says, not where the REGISTER came from."""
        rig = Rig()
        a, b, c = rig.phone("1001"), rig.phone("1002"), rig.phone("1003", "192.0.2.99", port=5090)
        b.register(contact="<sip:x@192.0.2.99:5090>")
        a.request("MESSAGE", f"sip:1002@{DOMAIN}")
        c.answer(c.take("MESSAGE"), 200)
        a.take(200)
        rig.finish()

    @shows("RTE-02", "5626 5.3")
    def test_moved(self) -> None:
        """The NAT gives a new port: the refresh moves the binding, the next call goes to the new place."""
        rig = Rig()
        a = rig.phone("1001")
        first = rig.phone("1002", PRIVATE, source=("198.51.100.7", 40123))
        first.via_params = ";rport"
        first.register(call_id="r")
        second = rig.phone("1002", PRIVATE, source=("198.51.100.7", 40999))
        second.via_params = ";rport=1"
        second.register(call_id="r", cseq=5)
        a.request("MESSAGE", f"sip:1002@{DOMAIN}")
        second.answer(second.take("MESSAGE"), 200)
        a.take(200)
        first.silent()
        rig.finish()


class Dialogs(TestCase):
    """In-dialog requests to callers and callees behind NAT, by the token in our Record-Route."""

    @shows("RTE-02", "16.6/4", "3581 4")
    def test_both_behind_nat(self) -> None:
        """Both behind NATs with the same private address: everything of the call reaches the right one."""
        rig = Rig()
        a = rig.phone("1001", PRIVATE, source=("198.51.100.7", 40001))
        b = rig.phone("1002", PRIVATE, source=("203.0.113.9", 40002))
        a.via_params = b.via_params = ";rport"
        a.register()
        b.register()
        a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        self.assertIn("received=198.51.100.7", got.all("via")[1])
        self.assertIn("rport=40001", got.all("via")[1])
        sent = b.answer(got, 200)
        ok = a.take(200)
        self.assertEqual(ok.first["contact"], f"<{b.contact}>")
        a.ack(ok)
        b.take("ACK")
        talk(self, a, b, got, sent, ok)
        rig.finish()

    @shows("RTE-02", "16.6/4")
    def test_caller_with_private_contact(self) -> None:
        """The caller's Via is right, its Contact is private: requests of the callee still reach it."""
        rig = Rig()
        a, b = rig.phone("1001", "198.51.100.7"), rig.phone("1002")
        b.register()
        a.invite("1002", contact=f"<sip:1001@{PRIVATE}>")
        a.take(100)
        got = b.take("INVITE")
        sent = b.answer(got, 200)
        a.ack(a.take(200))
        b.take("ACK")
        b.in_callee_dialog("BYE", got, sent)
        bye = a.take("BYE")
        self.assertEqual(bye.uri_text, f"sip:1001@{PRIVATE}")
        a.answer(bye, 200)
        b.take(200)
        rig.finish()

    @shows("RTE-02", "16.6/4", "22.3")
    def test_with_authentication(self) -> None:
        """The same with authentication: nothing in the dialog is challenged."""
        rig = Rig(auth={"required": True}, registrar={"open": True, "min_expires": 2})
        a = rig.phone("1001", PRIVATE, source=("198.51.100.7", 5060))
        b = rig.phone("1002", "10.0.0.6", source=("203.0.113.9", 5060))
        b.register()
        invite = a.invite("1002")
        a.prove(invite)
        a.take(100)
        got = b.take("INVITE")
        sent, ok = b.pick_up(got, a)
        talk(self, a, b, got, sent, ok)
        rig.finish()

    @shows("RTE-02", "16.6/4")
    def test_restart(self) -> None:
        """The token outlives the server: after a restart a BYE still finds a caller behind NAT."""
        rig = Rig()
        a = rig.phone("1001", PRIVATE, source=("198.51.100.7", 5060))
        b = rig.phone("1002", "10.0.0.6", source=("203.0.113.9", 5060))
        b.register()
        _, got, sent, _ = established(a, b)
        bye = b.in_callee_dialog("BYE", got, sent, send=False)
        again = Rig()
        c = again.phone("1001", PRIVATE, source=("198.51.100.7", 5060))
        d = again.phone("1002", "10.0.0.6", source=("203.0.113.9", 5060))
        d.send(bye)
        c.answer(c.take("BYE"), 200)
        d.take(200)
        again.finish()

    @shows("RTE-02", "16.6/4")
    def test_invented_flow(self) -> None:
        """A token whose flow was changed proves nothing and leads nowhere it should not."""
        rig = Rig(auth={"required": True}, registrar={"open": True, "min_expires": 2})
        a = rig.phone("1001", PRIVATE, source=("198.51.100.7", 5060))
        b = rig.phone("1002", "10.0.0.6", source=("203.0.113.9", 5060))
        victim = rig.phone("1003", "203.0.113.66")
        b.register()
        invite = a.invite("1002")
        a.prove(invite)
        a.take(100)
        got = b.take("INVITE")
        sent, ok = b.pick_up(got, a)
        bye = b.in_callee_dialog("BYE", got, sent, send=False).encode()
        token = got.first["record-route"].partition(":")[2].partition("@")[0]
        mac = token.partition(".")[0]
        coded = b"fnVkcC8xOTIuMC4yLjE6NTA2MC8yMDMuMC4xMTMuNjY6NTA2MHw"  # ~udp/192.0.2.1:5060/203.0.113.66:5060|
        b.send(bye.replace(token.encode(), mac.encode() + b"." + coded))
        b.take(407)
        b.send(bye.replace(token.encode(), mac.encode()).replace(b"z9hG4bK", b"z9hG4bKother"))
        b.take(407)
        a.silent()
        victim.silent()
        rig.finish()


class Transports(TestCase):
    """RFC 5658: each side finds a Record-Route of its own; streams are used while they stand."""

    def cross(self, one: str, other: str, hosts: tuple[str, str] = ("", "")) -> None:
        """A call between two transports, both directions, hung up by the callee."""
        rig = Rig(listen=(("udp", "192.0.2.1", 5060), ("tcp", "192.0.2.1", 5060), ("tls", "192.0.2.1", 5061),
                          ("udp", "2001:db8::1", 5060), ("tcp", "2001:db8::1", 5060), ("tls", "2001:db8::1", 5061)))
        a, b = rig.phone("1001", hosts[0], one), rig.phone("1002", hosts[1], other)
        b.register()
        _, got, sent, ok = established(a, b)
        values = got.values("record-route")
        self.assertEqual(ok.values("record-route"), values)
        same = one == other and (":" in a.address) == (":" in b.address)
        self.assertEqual(len(values), 1 if same else 2)
        param = {"udp": "", "tcp": ";transport=tcp", "tls": ";transport=tls"}
        for value, phone, transport in ((values[0], b, other), (values[-1], a, one)):
            host = "[2001:db8::1]" if ":" in phone.address else "192.0.2.1"
            port = 5061 if transport == "tls" else 5060
            self.assertTrue(value.startswith("<sip:"), value)
            self.assertEqual(value.partition("@")[2], f"{host}:{port}{param[transport]};lr>")
        sent_by = values[0].partition("@")[2].partition(";")[0]
        self.assertTrue(got.first["via"].startswith(f"SIP/2.0/{other.upper()} {sent_by};branch="))
        talk(self, a, b, got, sent, ok)
        rig.finish()

    @shows("RTE-06", "R5658-3.2-01", "R5658-3.2-02", "R5658-6-01", "R5658-6.2-01", "R5658-6.2-02", "R5658-6.2-03",
           "R5658-6.2-05", "R5658-7-01", "R5658-7-02", "R5658-7-03", "5658 3", "16.6/4")
    @shows("R3428-5-01")
    def test_all_pairs(self) -> None:
        """UDP, TCP and TLS with each other: ACK, requests both ways, re-INVITEs and the BYE cross."""
        for one in ("udp", "tcp", "tls"):
            for other in ("udp", "tcp", "tls"):
                self.cross(one, other)

    @shows("RTE-06", "R5658-6.2-06", "R5658-7-02", "5658 3", "16.6/4")
    def test_families(self) -> None:
        """IPv4 and IPv6 with each other, over UDP and across transports."""
        for one, other in (("udp", "udp"), ("tcp", "udp"), ("udp", "tls")):
            self.cross(one, other, ("2001:db8::7", ""))
            self.cross(one, other, ("", "2001:db8::7"))
            self.cross(one, other, ("2001:db8::7", "2001:db8::8"))

    @shows("RTE-06", "5658 3", "16.4")
    def test_strict_router_and_two_values(self) -> None:
        """A strict router that met our two values: one in the Request-URI, one in Route; both are taken off."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002", transport="tcp")
        b.register()
        _, got, sent, ok = established(a, b)
        first, second = reversed(ok.values("record-route"))
        a.request("BYE", first.strip("<>"), f"Route: {second}", f"Route: <{b.contact}>", to=ok.first["to"],
                  from_=ok.first["from"], call_id=ok.call_id, cseq=9)
        reached = b.take("BYE")
        self.assertEqual((reached.uri_text, reached.all("route")), (b.contact, []))
        b.answer(reached, 200)
        a.take(200)
        rig.finish()

    @shows("RTE-06", "18", "5923 2")
    def test_connection_lost(self) -> None:
        """The callee's connection is gone but it can be reached: a new one is opened for the BYE."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002", transport="tcp")
        b.register()
        _, got, sent, ok = established(a, b)
        acceptor = b.accept()
        assert b.connection is not None
        b.connection.close()
        a.in_dialog("BYE", ok)
        rig.advance(0.1)
        connection, = acceptor.connections
        bye = parse(connection.received[0])
        assert isinstance(bye, Request)
        connection.send(b.answer(bye, 200, send=False).encode())
        a.take(200)
        connection.close()
        rig.finish()
