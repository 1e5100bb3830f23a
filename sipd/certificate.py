"""The certificate a TLS listener uses when none is configured: self-signed, made once, kept in the state directory."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sipd import state

#: Days a certificate is made for, and days before its end when a start makes a new one.
LIFETIME, RENEWAL = 3650, 30


def self_signed(directory: str, names: Iterable[str], now: float) -> tuple[str, str]:
    """Paths of certificate and private key in the state directory, made when missing, unreadable or nearly expired.

    `names` are host names and numeric addresses for the certificate; `now` is in seconds since the epoch. The key's
    file can be read by its owner alone. Raises StateError when they cannot be written.
    """
    certificate = os.path.join(directory, state.CERTIFICATE)
    private_key = os.path.join(directory, state.PRIVATE_KEY)
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    if not _usable(certificate, private_key, moment):
        key_text, certificate_text = _make(sorted(set(names)), moment)
        state.write(directory, state.PRIVATE_KEY, key_text, 0o600)
        state.write(directory, state.CERTIFICATE, certificate_text, 0o644)
    return certificate, private_key


def describe(path: str) -> str:
    """Whose certificate is in a file and until when it is good, in words; "" when it cannot be read."""
    try:
        with open(path, "rb") as file:
            made = x509.load_pem_x509_certificate(file.read())
        names = [str(name.value) for name in made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        with contextlib.suppress(x509.ExtensionNotFound):
            alternatives = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            names = alternatives.get_values_for_type(x509.DNSName) or names
    except (OSError, ValueError):
        return ""
    return f"for {', '.join(names) or 'nobody'}, good until {made.not_valid_after_utc:%Y-%m-%d}"


def _usable(certificate: str, private_key: str, moment: datetime.datetime) -> bool:
    """Whether both files are there, belong together and last for a while."""
    try:
        with open(certificate, "rb") as file:
            made = x509.load_pem_x509_certificate(file.read())
        with open(private_key, "rb") as file:
            key = serialization.load_pem_private_key(file.read(), None)
    except (OSError, ValueError, TypeError):
        return False
    return key.public_key() == made.public_key() and made.not_valid_after_utc - moment > datetime.timedelta(RENEWAL)


def _make(names: list[str], moment: datetime.datetime) -> tuple[bytes, bytes]:
    """A new key and its certificate, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, (names or ["sipd"])[0][:64])])
    alternatives = [_general_name(name) for name in names] or [x509.DNSName("sipd")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - datetime.timedelta(1))
        .not_valid_after(moment + datetime.timedelta(LIFETIME))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return (
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        certificate.public_bytes(serialization.Encoding.PEM),
    )


def _general_name(name: str) -> x509.GeneralName:
    bare = name[1:-1] if name.startswith("[") else name
    try:
        return x509.IPAddress(ipaddress.ip_address(bare))
    except ValueError:
        return x509.DNSName(name)
