"""What a spoofed source costs its victim, and what cannot be smuggled into our messages (RFC 3261 s26.1.5, s26.3.2.4)."""

from __future__ import annotations

import re
from itertools import product

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from sipd.message.parser import parse
from tests.support.rig import Phone, Rig

#: Octets by which an answer may be longer than its request: a challenge for each algorithm, our To tag, received.
MORE = 520


class SpoofedSources(TestCase):
    """Requests from an address that may be somebody else's, over UDP, authentication on."""

    def setUp(self) -> None:
        self.rig = Rig(auth={"required": True})
        self.victim = self.rig.phone("victim")
        callee = self.rig.phone("1002")
        self.callee = callee
        self.rig.binding("1002", callee.contact)

    def costs(self, rig: Rig, victim: Phone, request: Request) -> int:
        """How many messages the victim gets in a minute for one request; each about as long as that."""
        size = len(request.encode())
        rig.advance(60.0, 0.5)
        answers = victim.drain()
        for answer in answers:
            self.assertLess(len(answer.encode()), size + MORE)
        return len(answers)

    def test_one_for_one(self) -> None:
        """Whatever is asked, of whomever, is answered once and never repeated: no transaction is kept for strangers."""
        methods = ("INVITE", "REGISTER", "OPTIONS", "MESSAGE", "SUBSCRIBE", "BYE", "CANCEL", "REFER", "UPDATE", "FOO")
        uris = ("sip:example.com", "sip:1002@example.com", "sip:nobody@example.com", "sip:1002@other.example.net", "tel:1",
                "http://example.com", "sip:1002@example.com?Subject=x", "sips:1002@example.com")
        for method, uri in product(methods, uris):
            request = self.victim.request(method, uri, to="<sip:1002@example.com>")
            self.assertEqual(self.costs(self.rig, self.victim, request), 1, (method, uri))
            self.assertEqual(len(self.rig.core.layer.servers), 0)
        self.callee.silent()
        self.rig.finish()

    def test_acks_and_responses(self) -> None:
        """What is never answered is not: ACKs and responses that nobody waits for."""
        ack = self.victim.request("ACK", "sip:1002@example.com", to="<sip:1002@example.com>;tag=x")
        self.assertEqual(self.costs(self.rig, self.victim, ack), 0)
        self.victim.send(ack.encode().replace(b"ACK sip:1002@example.com SIP/2.0", b"SIP/2.0 200 OK"))
        self.assertEqual(self.victim.drain(), [])

    def test_broken(self) -> None:
        """Messages that are wrong in whatever way are answered once at most, those past a bound too."""
        whole = self.victim.request("INVITE", "sip:1002@example.com", send=False).encode()
        for data in (whole.replace(b"CSeq:", b"CSex:"), whole.replace(b"INVITE", b"INV ITE", 1), whole[:-2],
                     whole.replace(b"SIP/2.0\r\n", b"SIP/3.0\r\n", 1), whole.replace(b"From:", b"X: y\r\n" * 300 + b"From:"),
                     whole.replace(b"Max-Forwards: 70", b"Max-Forwards: 0"), b"\x00" * 500, b"INVITE", whole[:40]):
            before = len(self.victim.raw)
            self.victim.send(data)
            self.rig.advance(40.0, 0.5)
            sent = self.victim.raw[before:]
            self.assertLessEqual(len(sent), 1, data)
            self.assertLess(sum(map(len, sent)), len(data) + MORE)
        self.callee.silent()

    def test_challenged_again(self) -> None:
        """Wrong credentials, in INVITE and REGISTER, are answered once too; so is a loop and a request past Max-Forwards."""
        invite = self.victim.request("INVITE", "sip:1002@example.com", from_="<sip:1001@example.com>;tag=1")
        challenge = self.victim.take(407)
        again = self.victim.authorized(invite, challenge, user="1001", password="wrong")
        self.assertEqual(self.costs(self.rig, self.victim, again), 1)
        self.assertEqual(len(self.rig.core.layer.servers), 0)

    def test_guests(self) -> None:
        """Where strangers may call, whom they may not call is refused once; the bodies of others' phones are theirs."""
        rig = Rig(auth={"required": True}, proxy={"guests": True})
        victim = rig.phone("victim")
        for uri in ("sip:nobody@example.com", "sip:1003@example.com", "sip:a@other.example.net", "sip:example.com"):
            request = victim.request("INVITE", uri, from_="<sip:me@elsewhere.example.org>;tag=1")
            self.assertEqual(self.costs(rig, victim, request), 1, uri)
        callee = rig.phone("1002")
        rig.binding("1002", callee.contact)
        invite = victim.request("INVITE", "sip:1002@example.com", from_="<sip:me@elsewhere.example.org>;tag=1")
        victim.take(100)
        callee.refuse(486)
        victim.ack(victim.take(486), invite)
        request = victim.request("INVITE", "sip:nobody@example.com", from_="<sip:me@elsewhere.example.org>;tag=1")
        self.assertEqual(self.costs(rig, victim, request), 1)
        rig.finish()

    def test_guests_with_credentials(self) -> None:
        """Credentials for somebody else's realm prove nothing here, nor do wrong ones for ours; good ones do."""
        rig = Rig(auth={"required": True}, proxy={"guests": True})
        victim = rig.phone("victim")
        request = victim.request(
            "INVITE", "sip:nobody@example.com", 'Proxy-Authorization: Digest username="a", realm="other", nonce="1", '
            'uri="sip:a", response="0"', from_="<sip:me@elsewhere.example.org>;tag=1")
        self.assertEqual(self.costs(rig, victim, request), 1)
        phone = rig.phone("1001")
        invite = phone.request("INVITE", "sip:nobody@example.com")
        phone.authorized(invite, phone.take(407))
        rig.advance(40.0)
        self.assertGreater(len(phone.take_all(404)), 8)
        rig.finish()

    def test_everybody_counts(self) -> None:
        """Where everybody counts as authenticated, whoever has not yet been let through is refused once too; who has,
        and who comes over a connection, gets the refusal again until it is acknowledged."""
        rig = Rig()
        victim = rig.phone("victim")
        for uri in ("sip:nobody@example.com", "sip:1003@example.com", "sip:example.com"):
            self.assertEqual(self.costs(rig, victim, victim.request("INVITE", uri)), 1, uri)
        phone = rig.phone("1001")
        phone.register()
        phone.request("INVITE", "sip:nobody@example.com")
        rig.advance(40.0)
        self.assertGreater(len(phone.take_all(404)), 8)


class Groups(TestCase):
    """Vias that name more than one host."""

    def test_refused(self) -> None:
        """A sender that claims to be a group, or asks for the answer to go to one, is refused itself; nothing is sent to
        the group, nor on, whatever received says."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        rig.binding("1002", b.contact)
        groups = ("224.0.1.75", "239.255.255.255", "255.255.255.255", "[ff02::1]", "[::ffff:224.0.0.1]")
        vias = [f"SIP/2.0/UDP {group}:5060;branch=z9hG4bKs" for group in groups]
        vias += [f"SIP/2.0/UDP 192.0.2.10:5060;maddr={group};branch=z9hG4bKm" for group in groups]
        for number, (via, method) in enumerate(product(vias, ("INVITE", "OPTIONS", "REGISTER"))):
            a.request(method, "sip:1002@example.com", via=f"Via: {via}{number}")
            self.assertEqual(a.take().status, 400, via)
            a.silent()
        for group in groups:
            a.request("OPTIONS", "sip:example.com", via=f"Via: SIP/2.0/UDP 192.0.2.10:5060;received={group};branch=z9hG4bKr")
            a.take(200)
        self.assertEqual({packet.target[0] for packet in rig.network.packets}, {"192.0.2.1", "192.0.2.10"})
        rig.finish()

    def test_unknown_address(self) -> None:
        """A phone that does not know its address yet, and says 0.0.0.0 or a name, is answered where it is."""
        rig = Rig()
        a = rig.phone("1001")
        for host in ("0.0.0.0", "phone.invalid", "[::]", "2240.example.com"):
            a.request("OPTIONS", "sip:example.com", via=f"Via: SIP/2.0/UDP {host}:5060;rport;branch=z9hG4bK{len(host)}")
            a.take(200)


class Escapes(TestCase):
    """Nothing that is written as an escape becomes a line of its own."""

    #: CR LF and a header field, in the ways one may try.
    BREAKS = ("%0d%0aEvil:%201", "%0D%0AEvil: 1", "%250d%250aEvil:1", "%0aEvil:1", "%00%0d%0a%0d%0aEvil:1", "%u000aEvil:1")

    def setUp(self) -> None:
        self.rig = Rig()

    def lines(self, given_back: bool = True) -> None:
        """Everything that was sent can be read, and holds no field that nobody wrote; `given_back`: something of it went
        out, within what it was written in."""
        for packet in self.rig.network.packets:
            head = packet.data.split(b"\r\n\r\n")[0]
            names = {name.lower() for name in re.findall(rb"^([^:\r\n]+):", head, re.MULTILINE)}
            self.assertNotIn(b"evil", names, head)
            self.assertNotIn(b"\n", head.replace(b"\r\n", b""))
            self.assertNotIn(b"\r", head.replace(b"\r\n", b""))
            if packet.source[0] == "192.0.2.1":
                parse(packet.data)
        sent = b"".join(packet.data for packet in self.rig.network.packets if packet.source[0] == "192.0.2.1")
        self.assertEqual(b"evil:" in sent.lower(), given_back)
        self.assertEqual(self.rig.bugs, [])

    def test_registrations(self) -> None:
        """Contacts, their parameters, display names, instances and paths come back as they were written."""
        for number, text in enumerate(self.BREAKS):
            a = self.rig.phone(f"100{number + 1}")
            for contact in (f"<sip:{text.replace(' ', '')}@192.0.2.10>", f"<sip:a@192.0.2.10;x={text.replace(' ', '')}>",
                            f'"{text}" <sip:b@192.0.2.10>;x="{text}"', f'<sip:c@192.0.2.10>;+sip.instance="<{text}>";reg-id=1',
                            f"<sip:d@192.0.2.10?Evil={text.replace(' ', '')}>"):
                a.request("REGISTER", "sip:example.com", "Supported: path", f'Path: "{text}" <sip:p@192.0.2.9;lr>',
                          to=f"<{a.aor}>", contact=contact)
                a.drain()
            a.request("REGISTER", "sip:example.com", to=f"<{a.aor}>", contact="")
            self.assertGreater(len(a.take(200).all("contact")), 2)
        self.lines()

    def test_calls(self) -> None:
        """Calls to such users, from such names, over such contacts, redirected to such targets, refused for such reasons."""
        a, b = self.rig.phone("1001"), self.rig.phone("1002")
        for recurse in (False, True):
            rig = self.rig = Rig(proxy={"recurse": recurse})
            a, b = rig.phone("1001"), rig.phone("1002")
            for text in self.BREAKS:
                plain = text.replace(" ", "")
                rig.binding("1002", f"sip:{plain}@{b.address}:5060")
                a.request("INVITE", f"sip:{plain}@example.com", f"Require: {plain}", f"Proxy-Require: {plain}")
                a.request("INVITE", f"sip:1002@{plain}.example.com", to="<sip:1002@example.com>")
                a.request("INVITE", f"sip:1002@example.com;x={plain}", from_=f'"{text}" <sip:{plain}@example.com>;tag=1')
                for got in b.drain():
                    if isinstance(got, Request) and got.method == "INVITE":
                        b.answer(got, 302, f'Contact: "{text}" <sip:{plain}@{b.address}>;x="{text}", '
                                 f"<sip:n@{b.address}?Evil={plain}>", reason=f"Moved {text}")
                for got in b.drain():
                    if isinstance(got, Request) and got.method == "INVITE":
                        b.answer(got, 486, reason=text)
                a.drain()
                rig.advance(40.0)
                a.drain()
                b.drain()
            self.lines()

    def test_challenges(self) -> None:
        """Digest fields with escapes and quoted pairs are never given back."""
        self.rig = Rig(auth={"required": True})
        a = self.rig.phone("1001")
        for text in self.BREAKS:
            value = f'Digest username="{text}", realm="example.com", nonce="{text}\\"", uri="sip:x", response="{text}"'
            a.request("REGISTER", "sip:example.com", f"Authorization: {value}", to=f"<{a.aor}>")
            a.drain()
        self.lines(given_back=False)
