"""The self-signed certificate: made once, for the right names, by a key that only its owner reads."""

from __future__ import annotations

import os
import ssl
import stat

from cryptography import x509
from twisted.trial.unittest import TestCase

from sipd import certificate

NOW = 1795341600.0


class CertificateTests(TestCase):
    """Made, kept, renewed."""

    def setUp(self) -> None:
        os.makedirs(directory := self.mktemp())
        self.directory = directory

    def made(self, now: float = NOW) -> tuple[bytes, bytes]:
        """The two files' contents."""
        paths = certificate.self_signed(self.directory, ["example.com", "192.0.2.1", "[2001:db8::1]"], now)
        return tuple(open(path, "rb").read() for path in paths)  # type: ignore[return-value]

    def test_names(self) -> None:
        """Host names and addresses are in the certificate, each in its own form."""
        found = x509.load_pem_x509_certificate(self.made()[0])
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["example.com"])
        self.assertEqual(sorted(map(str, names.get_values_for_type(x509.IPAddress))), ["192.0.2.1", "2001:db8::1"])

    def test_usable(self) -> None:
        """OpenSSL takes the pair, and the key is its owner's alone."""
        paths = certificate.self_signed(self.directory, [], NOW)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*paths)
        self.assertEqual(stat.S_IMODE(os.stat(paths[1]).st_mode), 0o600)

    def test_kept(self) -> None:
        """Phones that have accepted it see the same one after each restart, until its end is near."""
        first = self.made()
        self.assertEqual(self.made(NOW + (certificate.LIFETIME - certificate.RENEWAL - 1) * 86400), first)
        self.assertNotEqual(self.made(NOW + (certificate.LIFETIME - certificate.RENEWAL + 1) * 86400), first)

    def test_replaced_when_broken(self) -> None:
        """A certificate without its key, or with another, is made again."""
        first = self.made()
        os.unlink(os.path.join(self.directory, "private_key.pem"))
        second = self.made()
        self.assertNotEqual(second, first)
        with open(os.path.join(self.directory, "certificate.pem"), "wb") as file:
            file.write(first[0])
        third = self.made()
        self.assertNotIn(third[0], (first[0], second[0]))
