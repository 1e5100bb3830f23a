"""TLS contexts: those of listeners, and those of our own connections (RFC 3261 s26.3.1)."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509Name
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import Factory
from twisted.internet.ssl import optionsForClientTLS
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from sipd.config_server import Listen


class CertificateError(Exception):
    """A certificate or key cannot be used; the text says which and why."""


@implementer(IOpenSSLServerConnectionCreator)
class ServerContext:
    """The certificate and key of a listener; `client_ca` has those who vouch for the names of clients, "" for nobody.
    Raises CertificateError.

    Twisted asks it for each connection, so that the context is never changed after its first one.
    """

    def __init__(self, certificate: str, private_key: str, client_ca: str = "") -> None:
        self._context = _server_context(certificate, private_key)
        if client_ca:
            _ask_clients(self._context, client_ca)

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """A connection that waits for a client's handshake."""
        connection = Accepted(self._context, None)
        connection.set_accept_state()
        return connection


class Accepted(SSL.Connection):
    """A connection that a client opened, and what came of the check of the client's certificate."""

    #: Its own certificate is right, and something on the way to it is not.
    good = bad = False


def client_names(connection: SSL.Connection) -> tuple[str, ...]:
    """The names that the certificate of a TLS client proves (RFC 5922 s7.1): its SIP domains, else its DNS names, in
    lower case. None where it showed no certificate, or one for which nobody of ours vouches."""
    if not isinstance(connection, Accepted) or connection.bad or not connection.good:
        return ()
    certificate = connection.get_peer_certificate()
    if certificate is None:
        return ()
    try:
        names = certificate.to_cryptography().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        hosts = names.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    # s7.1: a URI with a user part is a user's and no domain's; wildcards prove nothing (s7.2)
    domains = [uri[4:] for uri in uris if uri[:4].lower() == "sip:" and "@" not in uri]
    return tuple(name.lower() for name in domains or hosts if "*" not in name)


class ServerContexts:
    """What TLS listeners show, each pair of files read once. `usual`: (certificate, key) of those that name none."""

    def __init__(self, usual: tuple[str, str] | None) -> None:
        self._usual = usual
        self._read: dict[tuple[str, str, str], ServerContext] = {}
        #: What stood in the files, digested, by the certificate's path.
        self.prints: dict[str, str] = {}

    def of(self, listen: Listen) -> ServerContext:
        """That of a listener. Raises CertificateError."""
        files = (listen.certificate, listen.private_key) if listen.certificate else self._usual
        if files is None:
            raise CertificateError("no certificate for TLS")
        context = self._read.get((*files, listen.client_ca))
        if context is None:
            self.prints[files[0]] = fingerprint(*files)
            context = self._read[(*files, listen.client_ca)] = ServerContext(*files, listen.client_ca)
        return context


def fingerprint(certificate: str, private_key: str) -> str:
    """What stands in the files now, digested; "" when one cannot be read."""
    try:
        with open(certificate, "rb") as one, open(private_key, "rb") as other:
            return sha256(one.read() + b"\0" + other.read()).hexdigest()
    except OSError:
        return ""


@implementer(IOpenSSLClientConnectionCreator)
class UnverifiedClient:
    """Takes whatever certificate the peer shows: for numeric targets, which no certificate names."""

    def __init__(self) -> None:
        self._context = _context()
        self._context.set_verify(SSL.VERIFY_NONE, lambda *_: True)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """A connection that begins a handshake."""
        connection = SSL.Connection(self._context, None)
        connection.set_connect_state()
        return connection


class ClientContexts:
    """How our own connections are secured.

    With `verify`, a peer reached by name must show a certificate for that name that leads to `trust_root` (a Twisted
    IOpenSSLTrustRoot; None: what the system trusts).
    """

    def __init__(self, verify: bool, trust_root: Any = None) -> None:
        self._verify = verify
        self._trust_root = trust_root
        self._unverified = UnverifiedClient()

    def creator(self, server_name: str) -> Any:
        """The connection creator for a peer. Raises CertificateError when no certificate could carry that name."""
        if not self._verify or not server_name:
            return self._unverified
        trust = {} if self._trust_root is None else {"trustRoot": self._trust_root}
        try:
            return optionsForClientTLS(server_name, **trust)
        except (ValueError, UnicodeError) as error:
            raise CertificateError(f"{server_name}: not a name a certificate can carry: {error}") from error


class TlsFactory(TLSMemoryBIOFactory):
    """Puts TLS around what another factory builds, and refuses what it refuses."""

    def __init__(self, creator: Any, is_client: bool, inner: IProtocolFactory, clock: IReactorTime) -> None:
        super().__init__(creator, is_client, inner, clock)

    def buildProtocol(self, addr: IAddress | None) -> TLSMemoryBIOProtocol | None:  # type: ignore[override]
        """As the inner factory; None refuses the connection before any TLS is spoken."""
        inner = self.wrappedFactory.buildProtocol(addr)
        return None if inner is None else self.protocol(self, inner)


class InnerFactory(Factory):
    """Asks a function for each connection's protocol."""

    noisy = False

    def __init__(self, build: Any) -> None:
        self._build = build

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """What the function returns; None refuses the connection."""
        return self._build(addr)


def _context() -> SSL.Context:
    """TLS 1.2 and up, no compression, no renegotiation."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return context


def _ask_clients(context: SSL.Context, client_ca: str) -> None:
    """Asks clients for a certificate. Whoever shows none, or one that nobody of ours vouches for, as a phone may have
    from its maker, is served all the same, and is not known by it. Raises CertificateError."""
    try:
        context.load_verify_locations(client_ca)
        context.set_client_ca_list(_subjects(client_ca))
    except (SSL.Error, OSError, ValueError) as error:
        raise CertificateError(f"{client_ca}: not a PEM file of certificates that can be used") from error
    # in a session that is taken up again nothing is checked
    context.set_options(SSL.OP_NO_TICKET)
    context.set_verify(SSL.VERIFY_PEER, _checked)


def _subjects(path: str) -> list[X509Name]:
    """The subjects of the certificates in a PEM file."""
    with open(path, "rb") as file:
        return [X509.from_cryptography(one).get_subject() for one in x509.load_pem_x509_certificates(file.read())]


def _checked(connection: SSL.Connection, certificate: X509, error: int, depth: int, right: int) -> bool:
    """Called for each certificate of a chain, the client's own last."""
    assert isinstance(connection, Accepted)
    if not right:
        connection.bad = True
    elif depth == 0:
        connection.good = True
    return True


def _server_context(certificate: str, private_key: str) -> SSL.Context:
    """Raises CertificateError."""
    context = _context()
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    for path, use in ((certificate, context.use_certificate_chain_file), (private_key, context.use_privatekey_file)):
        try:
            with open(path, "rb"):
                use(path)
        except OSError as error:
            raise CertificateError(f"{path}: {(error.strerror or str(error)).lower()}") from error
        except SSL.Error as error:
            # a key is checked against the certificate loaded before it
            why = f"not the key of {certificate}" if "mismatch" in str(error) else "not a PEM file that can be used"
            raise CertificateError(f"{path}: {why}") from error
    return context
