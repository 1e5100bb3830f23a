"""[trunks.NAME] and [qualify]: what is taken, and the words for what is wrong."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import SecretStr

from tests.test_config import FileTestCase

CARRIER = '[trunks.c]\nhost = "sip.carrier.example"\n'


class TrunkTests(FileTestCase):
    """Trunks as they are written."""

    def test_plain(self) -> None:
        """Host, port and transport, or a URI, say the same; the names of both vocabularies are taken."""
        parts = self.read(CARRIER + 'port = 5070\ntransport = "tcp"\nexpires = 300\nuser = "1001"\n').trunks["c"]
        whole = self.read('[trunks.c]\nuri = "sip:sip.carrier.example:5070;transport=tcp"\nregister_expires = 300\n'
                          'inbound_to = "1001"\n').trunks["c"]
        self.assertEqual(parts.carrier, whole.carrier)
        self.assertEqual((parts.expires, parts.user), (whole.expires, whole.user))
        self.assertEqual((parts.registers, parts.qualify, parts.route), (False, False, ""))

    def test_proxy(self) -> None:
        """A proxy becomes a loose Route, with the trunk's transport where it has none."""
        self.assertEqual(self.read(CARRIER + 'proxy = "edge.example"\ntransport = "tcp"\n').trunks["c"].route,
                         "<sip:edge.example;transport=tcp;lr>")
        self.assertEqual(self.read(CARRIER + 'proxy = "sip:edge.example:5070;lr"\n').trunks["c"].route,
                         "<sip:edge.example:5070;lr>")

    def test_password_file(self) -> None:
        """The first line of the file, whose path starts at the configuration's; a password is shown nowhere."""
        path = self.file(CARRIER + 'password_file = "secret.txt"\n')
        Path(os.path.dirname(path), "secret.txt").write_text("hidden\nsecond\n")
        from sipd.config import load

        trunk = load(path).trunks["c"]
        self.assertEqual(trunk.password, SecretStr("hidden"))
        self.assertNotIn("hidden", repr(trunk))

    def test_one_each(self) -> None:
        """A table of single mistakes and the words that must be in the one message about each."""
        for text, place, words in (
            ("[trunks.c]\n", "F:1: [trunks.c]", "uri or host"),
            (CARRIER + 'uri = "sip:a.example"\n', "F:1: [trunks.c]", "one of the two"),
            ('[trunks.c]\nuri = "sip:a.example"\nport = 5060\n', "F:1: [trunks.c]", "port and transport stand in it"),
            ('[trunks.c]\nuri = "mailto:a"\n', 'F:2: [trunks.c] uri = "mailto:a"', "a SIP URI such as"),
            ('[trunks.c]\nhost = "a b"\n', 'F:2: [trunks.c] host = "a b"', "a name or an address"),
            ('[trunks.c]\nhost = "a.example:5060"\n', "F:2: [trunks.c] host", "a name or an address"),
            (CARRIER + "register = true\n", "F:1: [trunks.c]", "register = true needs one"),
            (CARRIER + 'register = "yes"\n', 'F:3: [trunks.c] register = "yes"', "true or false"),
            (CARRIER + "expires = 5\n", "F:3: [trunks.c] expires = 5", "from 30 to 86400"),
            (CARRIER + "register_expires = 5\n", "F:3: [trunks.c] register_expires = 5", "from 30 to 86400"),
            (CARRIER + 'transport = "ws"\n', 'F:3: [trunks.c] transport = "ws"', '"udp" or "tcp" or "tls"'),
            (CARRIER + "password = 5\n", "F:3: [trunks.c] password:", "text in quotation marks"),
            (CARRIER + 'password = "a"\npassword_file = "b"\n', "F:1: [trunks.c]", "one of the two"),
            (CARRIER + 'password_file = "not-there"\n', "F:1: [trunks.c]", "a readable file is wanted"),
            (CARRIER + 'username = "a\\"b"\n', "F:3: [trunks.c] username", "without spaces"),
            (CARRIER + 'contact_user = "a@b"\n', 'F:3: [trunks.c] contact_user = "a@b"', "plain letters"),
            (CARRIER + 'addresses = ["a.example"]\n', "F:3: [trunks.c] addresses", "neither an address nor a network"),
            (CARRIER + "qualify = 1\n", "F:3: [trunks.c] qualify = 1", "from 5 to 86400"),
            (CARRIER + "regster = true\n", "F:3: [trunks.c] regster = true", "register is meant?"),
            ('[trunks."a b"]\nhost = "a"\n', "F: [trunks.a b]", "letters, digits, dots"),
            ('[users]\n1001 = "x"\n[trunks.1001]\nhost = "a"\n', "F: [trunks]", "stands under [users] too"),
            (CARRIER + 'contact_user = "a"\n[trunks.d]\nhost = "b"\ncontact_user = "a"\n', "F: [trunks]", "that of c too"),
            ("[trunks]\nc = 5\n", "F:2: [trunks.c] = 5", "a section is wanted"),
            ("[qualify]\ninterval = 1\n", "F:2: [qualify] interval = 1", "from 5 to 86400"),
            ("[qualify]\nrate = 0\n", "F:2: [qualify] rate = 0", "from 0.1 to 1000"),
            ('[users]\n1 = { password = "x", qualify = 2 }\n', "F:2: [users] 1.qualify", "from 5 to 86400"),
        ):
            errors = self.errors(text)
            self.assertEqual(len(errors), 1, (text, errors))
            self.assertTrue(errors[0].startswith(place), (place, errors))
            self.assertIn(words, errors[0])
