"""The configuration: the contract of its sections, its options, and the words for what is wrong."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

from pydantic import BaseModel, SecretStr, ValidationError
from twisted.trial.unittest import TestCase

from sipd.config import Config, ConfigError, Overrides, load
from sipd.config_peers import AclSection
from sipd.config_routing import Forward, Group, RouteEntry, unknown_names
from sipd.config_server import DEFAULT_LISTEN, is_host
from sipd.config_trunks import Peer
from tests.support.cases import shows

ROOT = Path(__file__).resolve().parent.parent


class FileTestCase(TestCase):
    """Writes configuration files and reads them."""

    def file(self, text: str) -> str:
        """The path of a file with this text."""
        directory = self.mktemp()
        os.makedirs(directory)
        path = os.path.join(directory, "sipd.toml")
        Path(path).write_text(text, encoding="utf-8")
        return path

    def read(self, text: str, overrides: Overrides = Overrides()) -> Config:
        """The configuration in this text."""
        return load(self.file(text), overrides)

    def errors(self, text: str, overrides: Overrides = Overrides()) -> list[str]:
        """What is wrong with this text, the file's name shortened to F."""
        path = self.file(text)
        return [error.replace(path, "F") for error in self.assertRaises(ConfigError, load, path, overrides).errors]


class ContractTests(FileTestCase):
    """What others rely on."""

    def test_defaults(self) -> None:
        """Without file and options: UDP and TCP 5060 on every address, and the numbers of the contract."""
        config = load()
        self.assertEqual([str(listen) for listen in config.listen], [
            "udp:0.0.0.0:5060", "udp:[::]:5060", "tcp:0.0.0.0:5060", "tcp:[::]:5060"])
        self.assertTrue(config.auth.required)
        registrar, proxy, timers = config.registrar, config.proxy, config.timers
        self.assertEqual((registrar.min_expires, registrar.default_expires, registrar.max_expires), (60, 3600, 7200))
        self.assertEqual((registrar.max_contacts, registrar.open), (10, False))
        self.assertEqual((proxy.ring_timeout, proxy.hop_timeout, proxy.dns_timeout), (20.0, 4.0, 3.0))
        self.assertEqual((proxy.record_route, proxy.recurse, proxy.guests), (True, False, False))
        self.assertEqual((timers.t1, timers.t2, timers.t4, timers.c), (0.5, 4.0, 5.0, 181.0))
        self.assertEqual((config.location.store, config.location.sync), ("sqlite", "normal"))

    def test_whole_contract(self) -> None:
        """Each name of the contract is taken, users as text and as tables."""
        config = self.read("""
            [server]
            domains = ["Example.COM", "other.example"]
            tenants = ["two.example"]
            state_dir = "/var/lib/sipd"
            [[listen]]
            transport = "udp"
            address = "127.0.0.1"
            port = 5060
            advertise = "sip.example.com:5060"
            [[listen]]
            transport = "tls"
            address = "[::1]"
            certificate = "chain.pem"
            private_key = "/etc/key.pem"
            [auth]
            required = true
            realm = "example.com"
            algorithms = ["SHA-256"]
            [users]
            1001 = "secret"
            1002 = { password = "other", display_name = "Reception", algorithms = ["SHA-256"] }
            "1001@two.example" = { ha1 = { MD5 = "0123456789ABCDEF0123456789abcdef" } }
            [registrar]
            open = true
            [location]
            store = "memory"
            sync = "full"
            [proxy]
            ring_timeout = 5
        """)
        self.assertEqual(config.server.domains, ("example.com", "other.example"))
        self.assertEqual((config.listen[1].address, config.listen[1].port), ("::1", 5061))
        self.assertTrue(os.path.isabs(config.listen[1].certificate))
        self.assertEqual(config.users["1001"].password, SecretStr("secret"))
        self.assertEqual(config.users["1002"].algorithms, ("SHA-256",))
        self.assertEqual(config.users["1001@two.example"].ha1["MD5"].get_secret_value(), "0123456789abcdef" * 2)
        self.assertEqual(config.proxy.ring_timeout, 5.0)

    def test_relative_paths(self) -> None:
        """A relative state directory in the file starts at the file, one in the options where the command is given."""
        path = self.file('[server]\nstate_dir = "st"')
        self.assertEqual(load(path).server.state_dir, os.path.join(os.path.dirname(os.path.abspath(path)), "st"))
        self.assertEqual(load(path, Overrides(state_dir="st")).server.state_dir, os.path.join(os.getcwd(), "st"))

    def test_options_over_the_file(self) -> None:
        """Listeners, domains and state directory of the options replace the file's; users join them."""
        config = self.read("""
            [server]
            domains = ["file.example"]
            [[listen]]
            transport = "udp"
            address = "0.0.0.0"
            [users]
            1001 = "file"
            1002 = "file"
        """, Overrides(("udp:[::1]:5070", "tls:127.0.0.1:5071"), ("a.example", "b.example"), ("1002:o:p", "1003:x"), "/st"))
        self.assertEqual([str(listen) for listen in config.listen], [
            "udp:[::1]:5070", "tls:127.0.0.1:5071", "tcp:[::1]:5070"])
        self.assertEqual(config.server.domains, ("a.example", "b.example"))
        self.assertEqual(config.server.state_dir, "/st")
        self.assertEqual({name: entry.password for name, entry in config.users.items()},
                         {"1001": SecretStr("file"), "1002": SecretStr("o:p"), "1003": SecretStr("x")})

    @shows("TRN-20", "R3261-18.2.1-02")
    def test_tcp_beside_udp(self) -> None:
        """s18.2.1: where UDP is listened for, TCP is too, with the same advertisement, unless something takes the port."""
        for options, added in (
            (("udp:192.0.2.1:5070",), ["tcp:192.0.2.1:5070"]),
            (("udp:0.0.0.0:5060", "udp:[::]:5062"), ["tcp:0.0.0.0:5060", "tcp:[::]:5062"]),
            (("tcp:192.0.2.1:5060", "udp:192.0.2.1:5060"), []),
            (("udp:192.0.2.1:5060", "tcp:0.0.0.0:5060"), []),
            (("udp:192.0.2.1:5060", "tcp:[::]:5060"), ["tcp:192.0.2.1:5060"]),
            (("udp:192.0.2.1:5061", "tls:192.0.2.1:5061"), []),
            (("tls:192.0.2.1:5061",), []),
        ):
            self.assertEqual([str(listen) for listen in load(None, Overrides(options)).listen], [*options, *added])
        config = self.read('[[listen]]\ntransport = "udp"\naddress = "192.0.2.1"\nadvertise = "sip.example.com"\n')
        self.assertEqual([listen.advertise for listen in config.listen], ["sip.example.com"] * 2)

    def test_frozen(self) -> None:
        """What has been loaded cannot be changed."""
        self.assertRaises(ValidationError, setattr, load().auth, "required", False)

    def test_secrets_hidden(self) -> None:
        """Neither the text of a configuration nor that of an error shows a password."""
        config = self.read('[users]\n1001 = "hidden"')
        self.assertNotIn("hidden", repr(config))
        errors = self.errors('[users]\n1001 = { password = "hidden", ha1 = { MD5 = "hidden" } }\n1002 = ["hidden"]',
                             Overrides(users=(" :hidden",)))
        self.assertNotIn("hidden", "\n".join(errors))


class MistakeTests(FileTestCase):
    """Every mistake at once, each with its place, its value and what would be right."""

    def test_all_at_once(self) -> None:
        """Mistakes in several sections and options come together, in the order of the sections."""
        errors = self.errors("""
[server]
domains = ["not a name"]
[registrar]
min_expires = -5
max_expires = "long"
[proxy]
rign_timeout = 3
[users]
1001 = ""
""", Overrides(listen=("udp:here",)))
        self.assertEqual(errors, [
            "--listen udp:here: TRANSPORT:ADDRESS:PORT is wanted, such as udp:0.0.0.0:5060 or tls:[::1]:5061",
            "F:3: [server] domains = [\"not a name\"]: 'not a name' is not a domain; one is written like \"example.com\"",
            "F:10: [users] 1001: a password that is not empty, or ha1, one of the two",
            "F:5: [registrar] min_expires = -5: a whole number from 1 to 3600 is wanted",
            "F:6: [registrar] max_expires = \"long\": a whole number from 1 to 604800 is wanted",
            "F:8: [proxy] rign_timeout = 3: no such option; ring_timeout is meant?",
        ])

    def test_one_each(self) -> None:
        """A table of single mistakes and the words that must be in the one message about each."""
        listen = '[[listen]]\ntransport = "udp"\naddress = "127.0.0.1"\n'
        for text, place, words in (
            ("[sever]\n", "F:1: [sever]", "server is meant?"),
            ("server = 1\n", "F:1: [server] = 1", "a section is wanted"),
            ("[auth]\nrequired = 1\n", "F:2: [auth] required = 1", "true or false is wanted"),
            ('[auth]\nrealm = "a\\"b"\n', "F:2: [auth] realm", "without quotation marks"),
            ('[auth]\nalgorithms = ["MD4"]\n', 'F:2: [auth] algorithms.0 = "MD4"', '"SHA-256"'),
            ("[auth]\nalgorithms = []\n", "F:2: [auth] algorithms = []", "one algorithm at least"),
            (listen + "port = 0\n", "F:4: [[listen]] (number 1) port = 0", "from 1 to 65535"),
            (listen + listen, "F: [[listen]]", "udp:127.0.0.1:5060 is taken"),
            (listen.replace("127.0.0.1", "localhost"), 'F:3: [[listen]] (number 1) address = "localhost"', "numeric"),
            (listen.replace("127.0.0.1", "fe80::1%eth0"), "F:3: [[listen]] (number 1) address", "numeric"),
            (listen.replace("udp", "sctp"), 'F:2: [[listen]] (number 1) transport = "sctp"', '"udp" or "tcp" or "tls"'),
            (listen + 'advertise = "a b"\n', "F:4: [[listen]] (number 1) advertise", "host:port"),
            (listen + 'advertise = "a.example:99999"\n', "F:4: [[listen]] (number 1) advertise", "host:port"),
            (listen + 'certificate = "c"\n', "F:1: [[listen]] (number 1)", "both or none"),
            (listen + 'certificate = "c"\nprivate_key = "k"\n', "F:1: [[listen]] (number 1)", "only for transport"),
            (listen + 'client_ca = "c"\n', "F:1: [[listen]] (number 1)", "client_ca: only for transport"),
            ('[[listen]]\ntransport = "udp"\n', "F:1: [[listen]] (number 1) address", "is needed"),
            ("[listen]\nport = 1\n", "F:1: [[listen]]", "double brackets"),
            ('[users]\n"a b" = "x"\n', "F:2: [users] a b", "letters, digits"),
            ('[users]\n"1@x.example" = "x"\n', "F:1: [users]", "neither under domains nor under tenants"),
            ("[users]\n1001 = 5\n", "F:2: [users] 1001", "a password in quotation marks"),
            ('[users]\na.b = "x"\n', "F:2: [users] a.b", "a name with a dot in it is written in quotation marks"),
            ('[users]\n1 = { ha1 = { MD5 = "12" } }\n', "F:2: [users] 1.ha1", "32 hexadecimal digits"),
            ('[server]\ndomains = ["a", "A"]\n', "F:2: [server] domains", "each domain once"),
            ('[server]\ndomains = "a"\n', 'F:2: [server] domains = "a"', "a list is wanted"),
            ('[server]\ndomains = ["a"]\ntenants = ["a"]\n', "F:1: [server]", "one place"),
            ("[registrar]\nmin_expires = 3601\n", "F:2: [registrar] min_expires", "from 1 to 3600"),
            ("[registrar]\nmax_expires = 100\n", "F:1: [registrar]", "between min_expires and max_expires"),
            ("[timers]\nt1 = 5.0\n", "F:1: [timers]", "not less than t1"),
            ("[timers]\nc = nan\n", "F:2: [timers] c", "from 1 to 3600"),
            ("[limits]\nheader_size = 100000\n", "F:1: [limits]", "not more than message_size"),
            ('[location]\nstore = "redis"\n', 'F:2: [location] store = "redis"', '"sqlite" or "memory"'),
        ):
            errors = self.errors(text)
            self.assertEqual(len(errors), 1, (text, errors))
            self.assertTrue(errors[0].startswith(place), (place, errors))
            self.assertIn(words, errors[0])

    def test_options(self) -> None:
        """A mistake in an option is told in the option's own words."""
        for overrides, message in (
            (Overrides(listen=("udp:127.0.0.1:70000",)), "--listen udp:127.0.0.1:70000: a whole number from 1 to 65535"),
            (Overrides(listen=("udp:somewhere:5060",)), "--listen udp:somewhere:5060: a numeric address"),
            (Overrides(listen=("sctp:127.0.0.1:5060",)), '--listen sctp:127.0.0.1:5060: "udp"'),
            (Overrides(domains=("a b",)), "--domain a b: 'a b' is not a domain"),
            (Overrides(users=("1001",)), "--user 1001:...: NAME:PASSWORD is wanted"),
            (Overrides(users=("a b:x",)), "--user a b:...: a name is"),
        ):
            errors = self.assertRaises(ConfigError, load, None, overrides).errors
            self.assertEqual(len(errors), 1, errors)
            self.assertTrue(errors[0].startswith(message), errors)

    def test_unreadable_files(self) -> None:
        """A missing file, a directory, something that is no UTF-8 and something that is no TOML are told as such."""
        missing = os.path.join(self.mktemp(), "none.toml")
        self.assertIn("No such file", self.assertRaises(ConfigError, load, missing).errors[0])
        self.assertIn("directory", self.assertRaises(ConfigError, load, "/").errors[0])
        path = self.file("")
        Path(path).write_bytes(b"[server]\n# \xff\n")
        self.assertIn("byte 11 is not UTF-8", self.assertRaises(ConfigError, load, path).errors[0])
        self.assertEqual(self.errors("[server\n"), [
            "F: not TOML: Expected ']' at the end of a table declaration (at line 1, column 8)"])

    def test_hosts(self) -> None:
        """Which texts are hosts (RFC 3261 s25.1)."""
        for text in ("example.com", "a", "192.0.2.1", "[2001:db8::1]", "sip-1.example", "1st.example"):
            self.assertTrue(is_host(text), text)
        for text in ("", "a..b", "-a", "a-", "1.2.3", "256.1.1.1", "[::1", "::1", "a b", "a\n", "é", "a" * 64, "[fe80::1%x]"):
            self.assertFalse(is_host(text), text)


class SampleTests(TestCase):
    """The sample file and the documentation are true."""

    def test_sample_holds_every_option_with_its_default(self) -> None:
        """etc/sipd.toml loads, differs from the defaults in nothing, and names every option of every section."""
        path = str(ROOT / "etc" / "sipd.toml")
        sample = load(path)
        self.assertEqual(sample, Config())
        self.assertEqual(sample.listen, DEFAULT_LISTEN)
        text = (ROOT / "etc" / "sipd.toml").read_text(encoding="utf-8")
        for section, field in Config.model_fields.items():
            if section in ("users", "peers", "acls", "templates", "routes", "groups", "forward", "numbers"):
                continue
            model = type(getattr(sample, section)) if section != "listen" else type(sample.listen[0])
            self.assertTrue(issubclass(model, BaseModel), field)
            body = "".join(re.findall(rf"^\[\[?{section}\]\]?$(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL))
            for option in model.model_fields:
                self.assertRegex(body, rf"(?m)^(# +)?{option} = ", f"[{section}] {option} is not in the sample")
        for section, part in (("# [[routes]]", RouteEntry), ("# [groups.sales]", Group), ("# [forward.1003]", Forward)):
            body = text[text.index(section):text.index("[numbers]\n")]
            for option in part.model_fields:
                self.assertRegex(body, rf"(?m)^# {option} = ", f"{section} {option} is not in the sample")
        body = text[text.index("# [peers.carrier]"):text.index("[qualify]")]
        for option, field in Peer.model_fields.items():
            alias = field.validation_alias
            option = alias if isinstance(alias, str) else option
            self.assertRegex(body, rf"(?m)^# +{option} = ", f"[peers] {option} is not in the sample")
        for option in AclSection.model_fields:
            self.assertRegex(text, rf"(?m)^# {option} = ", f"[acls] {option} is not in the sample")

    def test_examples_in_the_sample(self) -> None:
        """The examples in its comments are valid as well."""
        text = (ROOT / "etc" / "sipd.toml").read_text(encoding="utf-8")
        text = re.sub(r"(?m)^(domains|tenants|realm) = .*$", "", text)
        text = re.sub(r"(?m)^# (\[\[\w+\]\]|\[(?:peers|acls|templates|groups|forward)\.\w+\]|\w+ = .*)$", r"\1", text)
        data = tomllib.loads(text)
        self.assertEqual(data["users"]["1002"]["display_name"], "Reception")
        config = Config.model_validate(data)
        self.assertEqual(config.server.tenants, ("two.example",))
        self.assertEqual(config.listen[-1].transport, "tls")
        self.assertIsInstance(config.users["1003"].ha1["MD5"], SecretStr)
        self.assertEqual((len(config.routes), config.groups["sales"].members, config.forward["1003"].busy,
                          config.numbers["501"].to), (2, ("1001", "1002"), "1001", ("1001", "1002")))
        self.assertEqual(unknown_names(config, [], "example.com"), [])
        self.assertTrue(config.peers["carrier"].registers)
        self.assertEqual(str(config.peers["carrier"].carrier), "sip:203.0.113.10:5060;transport=tcp")

    def test_documentation(self) -> None:
        """Each TOML example in docs/configuration.md is a valid file, and the page names every option of twistd sipd."""
        text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
        examples = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
        self.assertGreater(len(examples), 3)
        for example in examples:
            Config.model_validate(tomllib.loads(example))
        for option in ("--config", "--listen", "--domain", "--user", "--state-dir"):
            self.assertIn(f"`{option} ", text)
