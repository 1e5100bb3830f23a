"""TLS over real sockets on loopback: handshakes, names, deadlines (RFC 3261 s26.3.1)."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from twisted.internet import reactor
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from sipd.config_limits import Limits
from sipd.message.hop import Hop
from sipd.transport.layer import ListenError
from sipd.transport.tls import CertificateError, ClientContexts, ServerContext
from tests.support.cases import shows
from tests.transport.rig import OPTIONS, Rig, User, listen


def make_certificate(directory: str, name: str, use_rsa: bool = False) -> tuple[str, str]:
    """A self-signed certificate for `name` and 127.0.0.1: the paths of its file and of its key's."""
    key = rsa.generate_private_key(65537, 2048) if use_rsa else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin).not_valid_after(begin + datetime.timedelta(36500))
        .add_extension(x509.SubjectAlternativeName(
            [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256()))
    paths = os.path.join(directory, f"{name}.crt"), os.path.join(directory, f"{name}.key")
    with open(paths[0], "wb") as file:
        file.write(certificate.public_bytes(serialization.Encoding.PEM))
    with open(paths[1], "wb") as file:
        file.write(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return paths


def signed(directory: str, name: str, names: list[x509.GeneralName], ca: tuple[str, str], days: int = 36500) -> tuple[str, str]:
    """A certificate with these names, signed by `ca` (certificate and key): the paths of its file and of its key's."""
    with open(ca[0], "rb") as file:
        issuer = x509.load_pem_x509_certificate(file.read())
    with open(ca[1], "rb") as file:
        secret: Any = serialization.load_pem_private_key(file.read(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    builder = (
        x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cn.example")]))
        .issuer_name(issuer.subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(begin).not_valid_after(begin + datetime.timedelta(days)))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    paths = os.path.join(directory, f"{name}.crt"), os.path.join(directory, f"{name}.key")
    with open(paths[0], "wb") as file:
        file.write(builder.sign(secret, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    with open(paths[1], "wb") as file:
        file.write(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return paths


class ClientTests(TestCase):
    """A TLS listener that asks clients for certificates."""

    @shows("R3903-14.4-03", "R3903-14.5-01")
    async def test_names(self) -> None:
        """RFC 5922 s7.1: a client that one of ours vouches for is known by its SIP domains, else by its DNS names; without a
        certificate, with another's, with one that is over, and with a session taken up again it is served unknown."""
        directory = self.mktemp()
        os.mkdir(directory)
        files = make_certificate(directory, "sip.example.com")
        ca, other = make_certificate(directory, "ca.example"), make_certificate(directory, "other.example")
        dns, uri = x509.DNSName, x509.UniformResourceIdentifier
        rig = Rig(listen("tls", certificate=files[0], private_key=files[1], client_ca=ca[0]), reactor=reactor)
        rig.transports.start()
        self.addCleanup(rig.transports.stop)
        seen: list[tuple[str, ...]] = []

        def receive(data: bytes, flow: Any) -> None:
            seen.append(flow.client_names())
            flow.send(b"answer")

        rig.transports._connections.settings.receive = receive  # type: ignore[assignment]

        def talk(pair: tuple[str, str] | None, version: ssl.TLSVersion, session: Any = None) -> Any:
            context = ssl.create_default_context(cafile=files[0])
            context.minimum_version = context.maximum_version = version
            if pair is not None:
                context.load_cert_chain(*pair)
            for _ in range(2):
                with (socket.create_connection(rig.place(), timeout=1.0) as plain,
                      context.wrap_socket(plain, server_hostname="sip.example.com", session=session) as secure):
                    secure.sendall(OPTIONS)
                    self.assertEqual(secure.recv(100), b"answer")
                    session = secure.session

        for number, (pair, names) in enumerate((
            (None, ()),
            (signed(directory, "dns", [dns("A.example"), dns("*.b.example"), dns("c.example")], ca), ("a.example", "c.example")),
            (signed(directory, "uri", [uri("sip:D.example"), dns("a.example")], ca), ("d.example",)),
            (signed(directory, "user", [uri("sip:bob@d.example"), uri("https://d.example")], ca), ()),
            (signed(directory, "none", [], ca), ()),
            (signed(directory, "foreign", [dns("a.example")], other), ()),
            (signed(directory, "over", [dns("a.example")], ca, 100), ()),
            (make_certificate(directory, "self.example"), ()),
        )):
            version = ssl.TLSVersion.TLSv1_2 if number % 2 else ssl.TLSVersion.TLSv1_3
            seen.clear()
            await deferToThread(talk, pair, version)
            self.assertEqual(seen, [names, names], number)
        await rig.until(lambda: not rig.inventory.left())


class TlsTests(TestCase):
    """A TLS listener for sip.example.com; clients are Python's own `ssl`, in threads, or the layer itself."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.files = make_certificate(self.directory, "sip.example.com")

    def rig(self, **more: Any) -> Rig:
        """Started transports, stopped after the test."""
        rig = Rig(listen("tls", certificate=self.files[0], private_key=self.files[1]), reactor=reactor, **more)
        rig.transports.start()
        self.addCleanup(rig.transports.stop)
        return rig

    def talk(
        self, place: tuple[str, int], version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> tuple[str | None, bytes]:
        """A client that checks the certificate, sends a request and gives TLS version and what came back. Blocks."""
        context = ssl.create_default_context(cafile=self.files[0])
        context.minimum_version = context.maximum_version = version
        with (socket.create_connection(place, timeout=1.0) as plain,
              context.wrap_socket(plain, server_hostname="sip.example.com") as secure):
            secure.sendall(OPTIONS)
            return secure.version(), secure.recv(100)

    @shows("R3903-14.4-03", "R3903-14.5-01")
    async def test_there_and_back(self) -> None:
        """A client that checks our certificate talks to us with TLS 1.2 and 1.3."""
        rig = self.rig()
        rig.transports._connections.settings.receive = lambda data, flow: flow.send(b"answer")
        for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
            self.assertEqual(await deferToThread(self.talk, rig.place(), version), (name, b"answer"))
        await rig.until(lambda: not rig.inventory.left())

    async def test_bad_clients(self) -> None:
        """Plain text and TLS 1.1 get no connection; good clients go on."""
        rig = self.rig()
        with socket.create_connection(rig.place(), timeout=1.0) as plain:
            plain.sendall(OPTIONS)
            await deferLater(reactor, 0.05)
            while plain.recv(1000):
                pass
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1

        def old_handshake() -> None:
            with socket.create_connection(rig.place(), timeout=1.0) as plain:
                context.wrap_socket(plain)
        await self.assertFailure(deferToThread(old_handshake), ssl.SSLError)
        rig.transports._connections.settings.receive = lambda data, flow: flow.send(b"answer")
        self.assertEqual((await deferToThread(self.talk, rig.place()))[1], b"answer")

    async def test_half_open(self) -> None:
        """Who connects and does not speak TLS, or stops in the middle, is put out in time; the table is empty then."""
        rig = self.rig(limits=Limits(handshake_timeout=0.1))
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        peers = [socket.create_connection(rig.place(), timeout=1.0) for _ in range(20)]
        for number, peer in enumerate(peers):
            self.addCleanup(peer.close)
            if number % 2:
                peer.sendall(hello)
        await rig.until(lambda: len(rig.transports._connections.live) == 20)
        await rig.until(lambda: not rig.inventory.left())
        for peer in peers:
            self.assertRaises(ConnectionResetError, peer.recv, 10)

    async def test_ours(self) -> None:
        """A connection of ours to a numeric hop needs no name in the certificate and carries messages both ways."""
        rig = self.rig()
        flow, reason = await rig.connect(Hop("tls", *rig.place()))
        self.assertEqual((reason, flow.transport, flow.alive), ("", "tls", True))
        flow.send(OPTIONS)
        await rig.until(lambda: rig.received)
        rig.received[0][1].send(OPTIONS)
        await rig.until(lambda: len(rig.received) == 2)
        self.assertIs(rig.received[1][1], flow)
        self.assertIs(rig.transports.flow_to(Hop("tls", *rig.place())), flow)

    @shows("R3261-26.2.1-01")
    async def test_suite_that_everybody_has(self) -> None:
        """With an RSA certificate here a client that knows TLS_RSA_WITH_AES_128_CBC_SHA alone is served; a server that
        knows nothing else is reached, by number and by name."""
        self.files = make_certificate(self.directory, "rsa.example.com", use_rsa=True)
        with open(self.files[0], "rb") as file:
            trusted = trustRootFromCertificates([Certificate.loadPEM(file.read())])
        rig = self.rig(trust_root=trusted)
        rig.transports._connections.settings.receive = lambda data, flow: flow.send(b"answer")

        def oldest(context: ssl.SSLContext) -> ssl.SSLContext:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers("AES128-SHA")  # OpenSSL's name of it
            return context

        def talk() -> tuple[Any, bytes]:
            context = oldest(ssl.create_default_context(cafile=self.files[0]))
            with (socket.create_connection(rig.place(), timeout=1.0) as plain,
                  context.wrap_socket(plain, server_hostname="rsa.example.com") as secure):
                secure.sendall(OPTIONS)
                return (secure.cipher() or ("",))[0], secure.recv(100)

        self.assertEqual(await deferToThread(talk), ("AES128-SHA", b"answer"))
        context = oldest(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        context.load_cert_chain(*self.files)
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        server.settimeout(2.0)

        def serve() -> tuple[str, bytes]:
            with server.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as secure:
                return (secure.cipher() or ("",))[0], secure.recv(100)

        for name in ("", "rsa.example.com"):
            served = deferToThread(serve)
            flow, reason = await rig.connect(Hop("tls", "127.0.0.1", server.getsockname()[1], name))
            self.assertEqual(reason, "")
            flow.send(b"hello")
            self.assertEqual(await served, ("AES128-SHA", b"hello"))
        await rig.until(lambda: not rig.inventory.left())

    @shows("R3261-26.2.2-03")
    async def test_named(self) -> None:
        """A peer reached by name must show a certificate for it that leads to the trusted root."""
        with open(self.files[0], "rb") as file:
            trusted = trustRootFromCertificates([Certificate.loadPEM(file.read())])
        rig = self.rig(trust_root=trusted)
        address, port = rig.place()
        self.assertEqual((await rig.connect(Hop("tls", address, port, "sip.example.com")))[1], "")
        flow, reason = await rig.connect(Hop("tls", address, port, "other.example.com"))
        self.assertIsNone(flow)
        self.assertIn("VerificationError", reason)
        self.assertIsNone(rig.transports.flow_to(Hop("tls", address, port, "other.example.com")))
        rig = self.rig()  # what the system trusts is not this certificate
        flow, reason = await rig.connect(Hop("tls", *rig.place(), "sip.example.com"))
        self.assertIsNone(flow)
        self.assertIn("TLS failed", reason)
        rig = self.rig(verify_servers=False)
        self.assertEqual((await rig.connect(Hop("tls", *rig.place(), "other.example.com")))[1], "")

    async def test_deadline(self) -> None:
        """A peer that accepts but never shakes hands ends the attempt by the deadline, in virtual time."""
        clock = Clock()
        rig = self.rig(clock=clock)
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        attempt = rig.connect(Hop("tls", "127.0.0.1", server.getsockname()[1]))
        await rig.until(lambda: rig.transports._connections.live)
        clock.advance(3.9)
        self.assertNoResult(attempt)
        clock.advance(0.1)
        self.assertEqual(self.successResultOf(attempt), (None, "connection timed out"))
        await rig.until(lambda: not rig.inventory.left())
        self.assertEqual(clock.getDelayedCalls(), [])

    @shows("TRN-06", "5626 3.5.1")
    async def test_keep_alive_and_end(self) -> None:
        """A double CRLF is answered over TLS too; the end of the connection reaches its users."""
        rig = self.rig()
        flow, _ = await rig.connect(Hop("tls", *rig.place()))
        flow.send(OPTIONS + b"\r\n\r\n")
        await rig.until(lambda: rig.received)
        inbound = rig.received[0][1]
        user = User()
        inbound.users.add(user)
        flow._connection.close()
        await rig.until(lambda: user.reasons)
        self.assertEqual(user.reasons, ["connection closed by the peer"])
        await rig.until(lambda: not rig.inventory.left())

    def test_certificates(self) -> None:
        """Files that cannot be used are named with the reason; the certificate of the server is the default."""
        other = make_certificate(self.directory, "other.example.com")
        nonsense = os.path.join(self.directory, "nonsense")
        with open(nonsense, "w") as file:
            file.write("nonsense")
        for files, wanted in (
            (("/no/such", self.files[1]), "/no/such: no such file or directory"),
            ((nonsense, self.files[1]), f"{nonsense}: not a PEM file that can be used"),
            ((self.files[0], nonsense), f"{nonsense}: not a PEM file that can be used"),
            ((self.files[0], other[1]), f"{other[1]}: not the key of {self.files[0]}"),
        ):
            with self.assertRaises(CertificateError) as caught:
                ServerContext(*files)
            self.assertEqual(str(caught.exception), wanted)
            rig = Rig(listen("tls", certificate=files[0], private_key=files[1]), reactor=reactor)
            self.assertRaises(ListenError, rig.transports.start)
        rig = Rig(listen("tls"), reactor=reactor, certificate=self.files)
        rig.transports.start()
        self.addCleanup(rig.transports.stop)

    def test_names_no_certificate_can_carry(self) -> None:
        """A server name that is no host name is told as such, and nothing raises in the layer."""
        contexts = ClientContexts(True)
        self.assertRaises(CertificateError, contexts.creator, "a" * 300)
        clock = Clock()
        rig = self.rig(clock=clock)
        attempt = rig.connect(Hop("tls", "127.0.0.1", 9, "a" * 300))
        clock.advance(0)
        self.assertIn("not a name", self.successResultOf(attempt)[1])
