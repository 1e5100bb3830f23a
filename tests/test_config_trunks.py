"""[peers.NAME] and [qualify]: what is taken, and the words for what is wrong."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import SecretStr

from sipd.config import ConfigError, load
from sipd.config_changes import changes
from sipd.config_source import Source, peer_settings, settings
from tests.test_config import FileTestCase

CARRIER = '[peers.c]\nuri = "sip:sip.carrier.example"\n'


class PeerTests(FileTestCase):
    """Peers that are carriers, as they are written."""

    def test_contract(self) -> None:
        """Every option by the name it has; what is left out."""
        peer = self.read('[peers.c]\nuri = "sip:203.0.113.10:5070;transport=tcp"\nusername = "a"\npassword = "b"\n'
                         'register = true\nregister_expires = 300\ninbound_to = "1001"\n'
                         'identify_by = ["address"]\n').peers["c"]
        self.assertEqual(str(peer.carrier), "sip:203.0.113.10:5070;transport=tcp")
        self.assertEqual((peer.username, peer.password, peer.registers, peer.register_expires, peer.inbound_to),
                         ("a", SecretStr("b"), True, 300, "1001"))
        self.assertEqual(peer.identify_by, ("address",))
        peer = self.read(CARRIER).peers["c"]
        self.assertEqual((peer.registers, peer.register_expires, peer.inbound_to, peer.qualify, peer.route),
                         (False, 3600, "", False, ""))

    def test_proxy(self) -> None:
        """A proxy becomes a loose Route, with the transport of the URI where it has none."""
        tcp = '[peers.c]\nuri = "sip:sip.carrier.example;transport=tcp"\n'
        self.assertEqual(self.read(tcp + 'proxy = "edge.example"\n').peers["c"].route,
                         "<sip:edge.example;transport=tcp;lr>")
        self.assertEqual(self.read(tcp + 'proxy = "sip:edge.example;transport=udp"\n').peers["c"].route,
                         "<sip:edge.example;transport=udp;lr>")
        self.assertEqual(self.read(CARRIER + 'proxy = "sip:edge.example:5070;lr"\n').peers["c"].route,
                         "<sip:edge.example:5070;lr>")

    def test_password_file(self) -> None:
        """The first line of the file, whose path starts at the configuration's; a password is shown nowhere. It is read
        anew each time, so a reload finds another one."""
        path = self.file(CARRIER + 'password_file = "secret.txt"\n')
        secret = Path(os.path.dirname(path), "secret.txt")
        secret.write_text("hidden\nsecond\n")
        before = load(path)
        self.assertEqual(before.peers["c"].password, SecretStr("hidden"))
        self.assertNotIn("hidden", repr(before) + str(settings(before, Source(path))))
        secret.write_text("other\n")
        self.assertEqual([change.text for change in changes(before, load(path))], ["peer c: another password"])

    def test_no_password_in_the_file(self) -> None:
        """A file that is not there, is empty or is no text is told with its name and that of the key."""
        path = self.file(CARRIER + 'password_file = "secret.txt"\n')
        secret = Path(os.path.dirname(path), "secret.txt")
        for content, words in ((None, "No such file or directory"), (b"", "its first line is empty"),
                               (b"\nsecond\n", "its first line is empty"), (b"\xff\n", "not UTF-8")):
            if content is not None:
                secret.write_bytes(content)
            errors = self.assertRaises(ConfigError, load, path).errors
            self.assertEqual(len(errors), 1, errors)
            self.assertTrue(errors[0].startswith(f"{path}:1: [peers.c]: password_file: {os.path.abspath(secret)}: {words}"), errors)

    def test_user_of_the_same_name(self) -> None:
        """A user's peer has no URI; what stands there is about that user, who may be one of the store."""
        config = self.read('[users]\n1001 = "x"\n[peers.1001]\n')
        self.assertEqual(config.peers["1001"].uri, "")
        self.assertEqual(self.read("[peers.1002]\ncall_limit = 2\n").peers["1002"].call_limit, 2)

    def test_words(self) -> None:
        """What is shown and what a reload tells has the words of the file."""
        account = CARRIER + 'username = "a"\npassword = "b"\n'
        before = self.read(account)
        after = self.read(account + "register = true\n")
        self.assertEqual([change.text for change in changes(before, after)], ["peer c: register: false -> true"])
        shown = {(one.section, one.key): one.value for one in settings(after, Source())}
        self.assertEqual(shown["peers", "c"],
                         'uri "sip:sip.carrier.example", username "a", password ..., register true')

    def test_one_each(self) -> None:
        """A table of single mistakes and the words that must be in the one message about each."""
        for text, place, words in (
            ("[peers.c]\n", "F:1: [peers.c]", "c: uri is needed"),
            ("[peers.c]\nqualify = true\n", "F:1: [peers.c]", "uri: is needed"),
            ('[users]\n1001 = "x"\n[peers.1001]\nqualify = true\n', "F:3: [peers.1001]", "uri: is needed"),
            ('[peers.c]\nuri = "mailto:a"\n', 'F:2: [peers.c] uri = "mailto:a"', "a SIP URI such as"),
            (CARRIER + 'from_domain = "a b"\n', 'F:3: [peers.c] from_domain = "a b"', "a name or an address"),
            (CARRIER + 'from_domain = "a.example:5060"\n', "F:3: [peers.c] from_domain", "a name or an address"),
            (CARRIER + "register = true\n", "F:1: [peers.c]", "register = true needs one"),
            (CARRIER + 'register = "yes"\n', 'F:3: [peers.c] register = "yes"', "true or false"),
            (CARRIER + "register_expires = 5\n", "F:3: [peers.c] register_expires = 5", "from 30 to 86400"),
            (CARRIER + "expires = 300\n", "F:3: [peers.c] expires = 300", "no such option"),
            (CARRIER + 'user = "1001"\n', 'F:3: [peers.c] user = "1001"', "no such option"),
            (CARRIER + 'host = "a.example"\n', 'F:3: [peers.c] host = "a.example"', "no such option"),
            (CARRIER + "port = 5060\n", "F:3: [peers.c] port = 5060", "no such option"),
            (CARRIER + 'transport = "tcp"\n', 'F:3: [peers.c] transport = "tcp"', "no such option"),
            (CARRIER + 'identify_by = ["name"]\n', "F:3: [peers.c] identify_by",
             'out of "credentials", "address", "tls", in square brackets'),
            (CARRIER + 'identify_by = "address"\n', "F:3: [peers.c] identify_by",
             'out of "credentials", "address", "tls", in square brackets'),
            (CARRIER + "password = 5\n", "F:3: [peers.c] password:", "text in quotation marks"),
            (CARRIER + 'password = "a"\npassword_file = "b"\n', "F:1: [peers.c]", "one of the two"),
            (CARRIER + 'username = "a\\"b"\n', "F:3: [peers.c] username", "without spaces"),
            (CARRIER + 'contact_user = "a@b"\n', 'F:3: [peers.c] contact_user = "a@b"', "plain letters"),
            (CARRIER + 'addresses = ["a.example"]\n', "F:3: [peers.c] addresses", "neither an address nor a network"),
            (CARRIER + "qualify = 1\n", "F:3: [peers.c] qualify = 1", "from 5 to 86400"),
            (CARRIER + "regster = true\n", "F:3: [peers.c] regster = true", "register is meant?"),
            ('[peers."a b"]\nuri = "sip:a"\n', "F: [peers.a b]", "letters, digits, dots"),
            ('[users]\n1001 = "x"\n[peers.1001]\nuri = "sip:a"\n', "F:4: [peers.1001] uri", "stands under [users] too"),
            (CARRIER + 'contact_user = "a"\n[peers.d]\nuri = "sip:b"\ncontact_user = "a"\n', "F:6: [peers.d] contact_user",
             "that of c too"),
            ("[trunks.c]\n", "F: [trunks]", "no such section"),
            ("[peers]\nc = 5\n", "F:2: [peers.c] = 5", "a section is wanted"),
            ("[qualify]\ninterval = 1\n", "F:2: [qualify] interval = 1", "from 5 to 86400"),
            ("[qualify]\nrate = 0\n", "F:2: [qualify] rate = 0", "from 0.1 to 1000"),
            ('[users]\n1 = { password = "x", qualify = 2 }\n', "F:2: [users] 1.qualify", "from 5 to 86400"),
        ):
            errors = self.errors(text)
            self.assertEqual(len(errors), 1, (text, errors))
            self.assertTrue(errors[0].startswith(place), (place, errors))
            self.assertIn(words, errors[0])


class DressTests(FileTestCase):
    """How calls to a carrier look."""

    def test_values(self) -> None:
        """What is taken, and what is left out."""
        peer = self.read(CARRIER + 'from_user = "acct1"\ncaller_id = "+4930123"\nsend_identity = "both"\n').peers["c"]
        self.assertEqual((peer.from_user, peer.caller_id, peer.send_identity), ("acct1", "+4930123", "both"))
        peer = self.read(CARRIER).peers["c"]
        self.assertEqual((peer.from_user, peer.caller_id, peer.send_identity), ("", "", "none"))

    def test_shown(self) -> None:
        """What `sipctl peer` tells of a carrier, and of a user not."""
        config = self.read(CARRIER + 'from_user = "acct1"\n[users]\n1001 = "x"\n[peers.1001]\ncall_limit = 2\n')
        shown = {one.key: (one.value, one.source) for one in peer_settings(config, "c")}
        self.assertEqual((shown["from_user"], shown["send_identity"]), (('"acct1"', "[peers.c]"), ('"none"', "default")))
        self.assertNotIn("from_user", {one.key for one in peer_settings(config, "1001")})

    def test_mistakes(self) -> None:
        """What is no number, and what is no way to tell who calls, is told with what would be right."""
        with self.assertRaises(ConfigError) as caught:
            self.read(CARRIER + 'from_user = "a b"\ncaller_id = "1@x.example"\nsend_identity = "ppi"\n')
        text = str(caught.exception)
        for key in ("from_user", "caller_id", "send_identity"):
            self.assertIn(key, text)
        self.assertEqual(text.count('such as "+4930123456" is wanted'), 2)
        self.assertIn('"pai"', text.replace("'", '"'))
