"""[peers], [templates] and [acls] as policy: how they are merged, and the words for what is wrong."""

from __future__ import annotations

from sipd.config_changes import changes
from sipd.config_peers import merged
from sipd.config_source import peer_settings
from tests.test_config import FileTestCase

CARRIER = '[peers.c]\nuri = "sip:sip.carrier.example"\n'
TLS = '[[listen]]\ntransport = "tls"\naddress = "127.0.0.1"\nclient_ca = "ca.pem"\n'


class MergedTests(FileTestCase):
    """A peer's own values, those of its templates, the defaults."""

    def test_order(self) -> None:
        """The peer's own value stands over its templates', a later template's over an earlier one's, a template's own over
        those it extends; each value says where it comes from."""
        config = self.read("""
            [templates.base]
            call_limit = 1
            busy_level = 1
            methods = ["INVITE"]
            caller_name = "base"
            [templates.left]
            extends = ["base"]
            busy_level = 2
            methods = ["BYE"]
            [templates.right]
            methods = ["OPTIONS"]
            trust_identity = true
            [peers.1001]
            extends = ["left", "right"]
            trust_identity = false
        """)
        found = merged("1001", config.peers["1001"], config.templates)
        self.assertEqual({key: (one.value, one.origin) for key, one in found.items() if one.origin != "default"}, {
            "call_limit": (1, "[templates.base]"), "busy_level": (2, "[templates.left]"),
            "methods": (("OPTIONS",), "[templates.right]"), "caller_name": ("base", "[templates.base]"),
            "trust_identity": (False, "[peers.1001]")})
        shown = {one.key: (one.value, one.source) for one in peer_settings(config, "1001")}
        self.assertEqual(shown["methods"], ('["OPTIONS"]', "[templates.right]"))
        self.assertEqual(shown["source_acl"], ('""', "default"))

    def test_defaults(self) -> None:
        """What holds depends on what the peer is: a user, a carrier that we register with, another carrier."""
        account = 'username = "a"\npassword = "b"\nregister = true\n'
        config = self.read(CARRIER + "[peers.1001]\n[peers.d]\nuri = 'sip:d.example'\n" + account + "[users]\n1001 = 'x'\n")
        shown = {name: {one.key: one.value for one in peer_settings(config, name)} for name in ("1001", "c", "d", "none")}
        self.assertEqual([one["identify_by"] for one in shown.values()],
                         ['["credentials"]', "[]", '["address"]', '["credentials"]'])
        self.assertEqual([one["may_call"] for one in shown.values()], ['["*", "*@*"]', "[]", "[]", '["*", "*@*"]'])

    def test_words_of_a_reload(self) -> None:
        """What changes is told by the names of the file."""
        before = self.read(TLS + "[peers.1003]\nidentify_by = ['tls', 'credentials']\ntls_names = ['a.example']\n"
                           "[acls.lan]\npermit = ['192.0.2.0/24']\n[templates.old]\n")
        after = self.read(TLS + "[peers.1003]\nidentify_by = ['credentials', 'address']\ntls_names = ['a.example']\n"
                          "[acls.lan]\npermit = ['192.0.2.0/25']\n[templates.desk]\ncall_limit = 2\n")
        found = changes(before, after)
        self.assertEqual([change.restart for change in found], [""] * len(found))
        self.assertEqual([change.text for change in found if change.section != "listen"], [
            'acl lan: permit: ["192.0.2.0/24"] -> ["192.0.2.0/25"]', "template desk added", "template old removed",
            "peer 1003: is known by address too", "peer 1003: loses tls, is not known by it any more"])


class MistakeTests(FileTestCase):
    """Each mistake is one message: where it is, what stands there, what would be right."""

    def test_one_each(self) -> None:
        """A table of single mistakes and the words that must be in the one message about each."""
        account = CARRIER + 'identify_by = ["credentials"]\n'
        for text, place, words in (
            ('[peers.1001]\nextends = ["desk"]\n', 'F:2: [peers.1001] extends = ["desk"]',
             "no [templates.desk]; there are no templates"),
            ('[templates.a]\n[peers.1001]\nextends = ["b"]\n', "F:3: [peers.1001] extends", "there are a"),
            ('[templates.a]\nextends = ["b"]\n', "F:2: [templates.a] extends", "no [templates.b]"),
            ('[templates.a]\nextends = ["a"]\n', 'F:2: [templates.a] extends = ["a"]', "a circle: a extends a;"),
            ('[templates.a]\nextends = ["b"]\n[templates.b]\nextends = ["c"]\n[templates.c]\nextends = ["b"]\n',
             "F:4: [templates.b] extends", "a circle: b extends c extends b;"),
            ('[peers.1001]\nextends = ["a", "a"]\n', "F:2: [peers.1001] extends", "each once"),
            ('[peers.1001]\nextends = "a"\n', 'F:2: [peers.1001] extends = "a"', "a list is wanted"),
            ('[peers.1001]\nsource_acl = "lan"\n', 'F:2: [peers.1001] source_acl = "lan"', "there are no acls"),
            ('[acls.a]\n[templates.t]\ncontact_acl = "lan"\n', "F:3: [templates.t] contact_acl", "there are a"),
            ('[acls.a]\npermit = ["192.0.2.1/24"]\n', "F:2: [acls.a] permit", '"192.0.2.0/24" is meant?'),
            ('[acls.a]\ndeny = ["phone.example"]\n', "F:2: [acls.a] deny", "neither an address nor a network"),
            ('[acls.a]\nallow = []\n', "F:2: [acls.a] allow", "no such option"),
            ('[acls."a b"]\n', "F: [acls.a b]", "letters, digits"),
            ('[templates.t]\nuri = "sip:a"\n', 'F:2: [templates.t] uri = "sip:a"', "no such option"),
            ('[templates.t]\ncall_limit = -1\n', "F:2: [templates.t] call_limit = -1", "from 0 to 100000"),
            ('[peers.1001]\nmay_call = ["0 9"]\n', "F:2: [peers.1001] may_call", "'0 9' is no pattern"),
            ('[peers.1001]\nmethods = ["invite"]\n', "F:2: [peers.1001] methods", '"INVITE"'),
            ('[peers.1001]\ncaller_name = "a\\"b"\n', "F:2: [peers.1001] caller_name", "without quotation marks"),
            ('[peers.1001]\ntls_names = [""]\n', "F:2: [peers.1001] tls_names", "no name in a certificate"),
            ('[peers.1001]\nidentify_by = ["tls"]\n', "F:2: [peers.1001] identify_by", '"tls" needs tls_names'),
            ('[peers.1001]\nidentify_by = ["tls"]\ntls_names = ["a"]\n', "F:2: [peers.1001] identify_by",
             '"tls" needs a [[listen]] with client_ca'),
            (account, 'F:3: [peers.c] identify_by = ["credentials"]', '"credentials" needs username and password'),
            (account + 'username = "1"\npassword = "b"\n[users]\n1 = "x"\n', 'F:4: [peers.c] username = "1"', "[users] too"),
            (account + 'username = "a"\npassword = "b"\n[peers.d]\nuri = "sip:d"\nidentify_by = ["credentials"]\n'
             'username = "a"\npassword = "c"\n', 'F:9: [peers.d] username = "a"', "c logs in by that name"),
            ('[server]\ndomains = ["a.example"]\n[peers.1001]\n[peers."1001@a.example"]\ncall_limit = 1\n[users]\n1001 = "x"\n',
             "F:4: [peers.1001@a.example]", "1001@a.example is 1001, which has a section of its own"),
            ("[calls]\ntrack = false\n[templates.t]\nbusy_level = 1\n[peers.1001]\nextends = ['t']\n", "F:2: [calls] track = false",
             "the busy_level of [templates.t] needs calls to be counted"),
            ("[peers.1001]\nusername = 'a'\n", "F:1: [peers.1001]", "uri: is needed"),
        ):
            errors = self.errors(text)
            self.assertEqual(len(errors), 1, (text, errors))
            self.assertTrue(errors[0].startswith(place), (place, errors))
            self.assertIn(words, errors[0])

    def test_all_at_once(self) -> None:
        """Several mistakes in several sections are told together."""
        errors = self.errors('[peers.1001]\nextends = ["x"]\nsource_acl = "y"\n[templates.t]\nextends = ["t"]\n')
        self.assertEqual([error.partition(":")[2].partition(":")[0] for error in errors], ["2", "5", "3"])
