"""Peers as policy over real sockets: a carrier known by its TLS client certificate, one by its address, and a reload."""

from __future__ import annotations

import secrets
import socket
import ssl
from pathlib import Path

from cryptography import x509
from twisted.trial import unittest

from bench.registrant import Registrant, Registration
from sipd.admin.client import ask
from tests.interop.sipd_process import SipdProcess
from tests.interop.wire import Endpoint, Message
from tests.transport.test_tls import make_certificate, signed

OFFICE = "office.example"
CONFIG = """
[[listen]]
transport = "udp"
address = "127.0.0.1"
port = {port}

[[listen]]
transport = "tls"
address = "127.0.0.1"
port = {tls}
client_ca = "ca.example.crt"
"""
PEERS = """
[templates.carriers]
identify_by = ["tls", "address"]
call_limit = 5

[peers.secure]
uri = "sip:secure.example;transport=tls"
inbound_to = "1001"
extends = ["carriers"]
tls_names = ["secure.example"]

[peers.plain]
uri = "sip:127.0.0.9"
inbound_to = "1001"
identify_by = ["address"]
"""


class PolicyTests(unittest.TestCase):
    """An office with one phone, and two carriers that it registers with at neither."""

    timeout = 120.0

    def setUp(self) -> None:
        directory = Path(self.mktemp()).resolve()
        self.office = SipdProcess(directory / "office", domain=OFFICE, users={"1001": "phone-secret"}, tls=True, config="#")
        place = str(self.office.directory)
        self.files, other = make_certificate(place, "ca.example"), make_certificate(place, "other.example")
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier("sip:secure.example")]
        self.good, self.bad = signed(place, "good", names, self.files), signed(place, "bad", names, other)
        self.text = CONFIG.format(port=self.office.port, tls=self.office.ports["tls"])
        self.write(PEERS)
        command = self.office.command
        while "--listen" in command:
            del command[command.index("--listen"):command.index("--listen") + 2]
        self.office.start()
        self.addCleanup(self.office.end)
        self.phone = Endpoint(self.office.address, "1001", OFFICE)
        self.addCleanup(self.phone.close)
        client = Registrant(self.office.address, OFFICE)
        registration = Registration("1001", f"sip:1001@{self.phone.host}", password="phone-secret")
        client.run([registration])
        client.close()
        self.assertEqual(registration.status, 200)

    def write(self, peers: str) -> None:
        """The configuration, with these peers."""
        (self.office.directory / "sipd.toml").write_text(self.text + peers)

    def status(self, sock: socket.socket | ssl.SSLSocket, number: str, transport: str) -> int:
        """The first answer but 100 to a call; where the phone rings it declines."""
        host, port = sock.getsockname()
        call_id = secrets.token_hex(8)
        sock.sendall("\r\n".join([
            f"INVITE sip:{number}@{OFFICE} SIP/2.0", f"Via: SIP/2.0/{transport} {host}:{port};branch=z9hG4bK{call_id}",
            "Max-Forwards: 70", "From: <sip:+4930@secure.example>;tag=a", f"To: <sip:{number}@{OFFICE}>",
            f"Call-ID: {call_id}", "CSeq: 1 INVITE", f"Contact: <sip:a@{host}:{port}>", "Content-Length: 0", "", "",
        ]).encode())
        read = b""
        while True:
            chunk = sock.recv(65535)
            self.assertTrue(chunk, "the connection ended")
            read += chunk
            while b"\r\n\r\n" in read:
                head, _, read = read.partition(b"\r\n\r\n")
                status = Message(head + b"\r\n\r\n").status
                if status > 100:
                    return status
            invite = self.phone.receive(lambda message: message.all("Call-ID") == [call_id], 1.0)
            if invite is not None and invite.method == "INVITE":
                self.phone.answer(invite, "603 Decline", "callee")

    def by_tls(self, pair: tuple[str, str] | None, number: str) -> int:
        """What a TLS client with this certificate hears."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if pair is not None:
            context.load_cert_chain(*pair)
        with (socket.create_connection(("127.0.0.1", self.office.ports["tls"]), timeout=8.0) as plain,
              context.wrap_socket(plain) as secure):
            return self.status(secure, number, "TLS")

    def by_udp(self, address: str, number: str) -> int:
        """What somebody at an address hears."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
            sock.connect(self.office.address)
            sock.settimeout(8.0)
            return self.status(sock, number, "UDP")

    def test_certificate_and_address(self) -> None:
        """The right certificate and the right address reach the phone, by its number and by one that is nobody's; another
        certificate, none, and another address are asked for a password. After a reload the certificate is nothing any
        more, and nobody's calls were lost for that."""
        for number in ("1001", "+4930123"):
            self.assertEqual(self.by_tls(self.good, number), 603)
            self.assertEqual(self.by_udp("127.0.0.9", number), 603)
            self.assertEqual((self.by_tls(self.bad, number), self.by_tls(None, number)), (407, 407))
            self.assertEqual(self.by_udp("127.0.0.8", number), 407)
        control = str(self.office.state / "sipctl.sock")
        shown = {row["key"]: (row["value"], row["source"]) for row in ask(control, "peer", name="secure")["policy"]}
        self.assertEqual(shown["call_limit"], ("5", "[templates.carriers]"))
        self.assertEqual(shown["tls_names"], ('["secure.example"]', "[peers.secure]"))
        self.assertEqual([row["kind"] for row in ask(control, "peers")["peers"]], ["user", "carrier", "carrier"])
        self.write(PEERS.replace('["tls", "address"]', '["address"]'))
        self.assertEqual(ask(control, "reload")["changes"],
                         ["template carriers: loses tls, is not known by it any more"])
        self.assertEqual((self.by_tls(self.good, "1001"), self.by_udp("127.0.0.9", "1001")), (407, 603))
