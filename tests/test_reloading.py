"""The configuration read again by a running server: what is taken, what is refused whole, and in which words."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import TestCase

from bench.servers import free_port
from sipd import service
from sipd.admin.api import Refused
from sipd.auth.user_store import UserStore
from sipd.binding import Binding
from sipd.config import Config, Overrides, load
from sipd.config_changes import changes
from sipd.config_source import Source, settings
from sipd.message import compose
from tests.transport.test_tls import make_certificate


class FileTestCase(TestCase):
    """A configuration file in a directory of its own."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.makedirs(self.directory)
        self.path = os.path.join(self.directory, "sipd.toml")

    def write(self, text: str) -> None:
        """The file's new text."""
        Path(self.path).write_text(text, encoding="utf-8")

    def read(self, text: str, overrides: Overrides = Overrides()) -> Config:
        """The configuration in this text."""
        self.write(text)
        return load(self.path, overrides)


class WordsTests(FileTestCase):
    """Differences between two configurations, in words."""

    def differences(self, old: str, new: str, **more: Any) -> list[str]:
        """The words, with the reason for a restart in brackets."""
        found = changes(self.read(old), self.read(new), **more)
        return [change.text + (f" ({change.restart})" if change.restart else "") for change in found]

    def test_words(self) -> None:
        """Each kind of change in its words; a section that nobody takes needs a restart."""
        udp = '[[listen]]\ntransport = "udp"\naddress = "127.0.0.1"\nport = 5070\n'
        for old, new, words in (
            ("", "", []),
            ("[users]\n1 = 'a'\n2 = 'b'\n3 = 'c'\n", "[users]\n2 = 'x'\n3 = {password = 'c', display_name = 'C'}\n4 = 'd'\n",
             ["user 2: another password", 'user 3: display_name: "" -> "C"', "user 4 added", "user 1 removed"]),
            ("[users]\n1 = 'a'\n", f"[users]\n1 = {{ha1 = {{MD5 = '{'0' * 32}'}}}}\n", ["user 1: another password"]),
            ("[limits]\nconnections = 7\n", "", ["[limits] connections: 7 -> 10000"]),
            ("", "[proxy]\nrecurse = true\n", ["[proxy] recurse: false -> true"]),
            ("", "[auth]\nalgorithms = ['MD5']\n", ['[auth] algorithms: ["MD5", "SHA-256"] -> ["MD5"]']),
            (udp, udp + udp.replace("udp", "tls").replace("5070", "5071"), ["listens on tls:127.0.0.1:5071 too"]),
            (udp + udp.replace("udp", "tls").replace("5070", "5071"), udp, ["listens on tls:127.0.0.1:5071 no more"]),
            (udp + udp.replace("udp", "tcp"), udp + udp.replace("udp", "tls"),
             ["listens on tls:127.0.0.1:5070 instead of tcp:127.0.0.1:5070"]),
            (udp, udp + 'advertise = "a.example"\n',
             ['udp:127.0.0.1:5070 advertise: "" -> "a.example"', 'tcp:127.0.0.1:5070 advertise: "" -> "a.example"']),
            ("[server]\ndomains = ['a.example', 'b.example']\n", "[server]\ndomains = ['a.example']\ntenants = ['t.example']\n",
             ["serves the domain b.example no more", "serves the tenant t.example too"]),
            ("[server]\ndomains = ['a.example']\n", "[server]\ndomains = ['b.example']\n",
             ['[server] domains: ["a.example"] -> ["b.example"] comes first (users are stored under the first domain)',
              "serves the domain b.example too", "serves the domain a.example no more"]),
            ("", "[location]\nstore = 'memory'\n",
             ['[location] store: "sqlite" -> "memory" (the registrations would be left behind)']),
            ("", "[auth]\nrealm = 'x'\n", ['[auth] realm: "" -> "x" (passwords are stored for one realm)']),
        ):
            self.assertEqual(self.differences(old, new), words, new)
        self.assertEqual(self.differences("", "[auth]\nrealm = 'x'\n", renamed=False), ['[auth] realm: "" -> "x"'])

    def test_settings(self) -> None:
        """Every value with where it comes from; no password."""
        overrides = Overrides(("udp:127.0.0.1:5070",), ("o.example",), ("2:hidden",))
        config = self.read("[users]\n1 = 'hidden'\n[proxy]\nrecurse = true\n[server]\ndomains = ['f.example']\n", overrides)
        found = {(one.section, one.key): (one.value, one.source) for one in settings(config, Source(self.path, overrides))}
        self.assertEqual(found["proxy", "recurse"], ("true", "file"))
        self.assertEqual(found["proxy", "guests"], ("false", "default"))
        self.assertEqual(found["auth", "required"], ("true", "default"))
        self.assertEqual(found["server", "domains"], ('["o.example"]', "option --domain o.example"))
        self.assertEqual(found["listen", "1"], ("udp:127.0.0.1:5070", "option --listen udp:127.0.0.1:5070"))
        self.assertEqual(found["users", "1"], ("password ...", "file"))
        self.assertEqual(found["users", "2"], ("password ...", "option --user 2:..."))
        self.assertNotIn("hidden", str(found))
        for section, field in Config.model_fields.items():
            if section not in ("users", "listen", "peers", "acls", "templates", "routes", "groups", "forward", "numbers"):
                for key in type(getattr(config, section)).model_fields:
                    self.assertIn((section, key), found, field)

    def test_absolute(self) -> None:
        """A source that is read again by a daemon in another directory finds the same files."""
        source = Source("a.toml", Overrides(state_dir="st")).absolute()
        self.assertEqual((source.path, source.overrides.state_dir), (os.path.abspath("a.toml"), os.path.abspath("st")))
        self.assertEqual(Source().absolute(), Source())


class ServerTestCase(FileTestCase):
    """A server on loopback, in this process."""

    def setUp(self) -> None:
        super().setUp()
        self.port = free_port()
        self.patch(service, "_steady_clock", lambda reactor: None)
        self.patch(service, "_tune_collector", lambda: None)
        self.patch(service.first_start, "first_users", lambda *_: [])
        self.records: list[tuple[str, dict[str, Any]]] = []

    def listen(self, transport: str, port: int, more: str = "") -> str:
        """A [[listen]] section."""
        return f'[[listen]]\ntransport = "{transport}"\naddress = "127.0.0.1"\nport = {port}\n{more}'

    def text(self, more: str = "") -> str:
        """A file with a listener, a domain and this."""
        return (f'[server]\ndomains = ["example.com"]\nstate_dir = "state"\n{self.listen("udp", self.port)}'
                f"{self.listen('tcp', self.port)}{more}")

    def start(self, text: str, overrides: Overrides = Overrides()) -> service.Server:
        """A server with this file."""
        server = service.Server(self.read(text, overrides), Source(self.path, overrides))
        server.journal.sinks.append(lambda kind, fields: self.records.append((kind, fields)))
        self.addCleanup(lambda: server.stopService())
        server.startService()
        return server

    def refused(self, server: service.Server, text: str) -> Refused:
        """Why a file is not taken; nothing may have changed."""
        before = [str(one) for one in server.transports.listeners], server.config, sorted(
            user.aor for user in server.core.users)  # type: ignore[union-attr]
        self.write(text)
        refusal = self.assertRaises(Refused, server.reloading.reload)
        self.assertEqual(before, ([str(one) for one in server.transports.listeners], server.config, sorted(
            user.aor for user in server.core.users)))  # type: ignore[union-attr]
        self.assertTrue(str(refusal).startswith("nothing has changed: "))
        return refusal  # type: ignore[no-any-return]

    def bind(self, server: service.Server, aor: str) -> None:
        """A binding."""
        assert server.core is not None
        server.core.location.change(
            aor, [("put", Binding(aor, f"sip:{aor}", "", 1000, 4e9, "c", 1))], lambda reason: None)


class ReloadTests(ServerTestCase):
    """Reading it again."""

    async def test_everything_is_taken(self) -> None:
        """Whatever can change changes: each part has its new value, and the words say it."""
        server = self.start(self.text("[users]\n1001 = 'a'\n1002 = 'b'\n"))
        core: Any = server.core
        more = free_port()
        self.write(self.text(
            f"{self.listen('tls', more)}[users]\n1001 = 'a'\n1003 = 'c'\n[limits]\nconnections = 70\ntransactions = 900\n"
            "bindings = 80\nnonces = 200\ndns_cache = 20\nvias = 7\nroutes = 6\nbranches = 5\nidle_timeout = 99.0\n"
            "[auth]\nrequired = false\nalgorithms = ['SHA-256']\n[registrar]\nmax_contacts = 3\nopen = true\n[timers]\nt1 = 0.25\n"
            "c = 200.0\n[proxy]\nguests = true\nring_timeout = 9.0\ndns_timeout = 1.0\n[overload]\nshed = false\ndelay = 0.5\n"
            "retry_after = 7\nretry_spread = 0\n[log]\ncalls = false\n").replace(
                '["example.com"]', '["example.com", "alias.example"]\ntenants = ["two.example"]'))
        words = server.reloading.command({})
        self.assertTrue(words["applied"])
        self.assertIn(f"listens on tls:127.0.0.1:{more} too", words["changes"])
        self.assertIn("user 1003 added", words["changes"])
        self.assertIn("user 1002 removed", words["changes"])
        self.assertIn("[limits] connections: 10000 -> 70", words["changes"])
        self.assertEqual([str(one) for one in server.transports.listeners][-1], f"tls:127.0.0.1:{more}")
        limits = {table.name: table.limit for table in server.inventory}
        for name, limit in (("connections", 70), ("client transactions", 900), ("requests being forwarded", 900),
                            ("addresses-of-record", 80), ("nonces-young", 100), ("dns answers", 20), ("resolver uris", 20)):
            self.assertEqual(limits[name], limit, name)
        self.assertEqual((core.layer.bounds.vias, core.layer.values.t1, core.proxy.values.timer_c), (7, 0.25, 200.0))
        self.assertEqual((core.proxy.values.branches, core.proxy.values.ring_timeout, core.location.limit), (5, 9.0, 80))
        request = compose.request("OPTIONS", "sip:example.com", [])
        self.assertEqual(core.refusals.again(request), ("Retry-After", "7"))
        self.assertEqual((core.shedding.overload.wanted, core.shedding._timer), (0.5, None))
        self.assertEqual((core.registrar._limits.max_contacts, core.route._guests, core.route._open_registrar), (3, True, True))
        self.assertIsNone(core.authenticator.check(request, proxy=False))
        self.assertEqual(core.places.place("alias.example", None), "example.com")
        self.assertEqual(core.places.place("two.example", None), "two.example")
        self.assertFalse(server.journal.calls)
        self.assertEqual(server.config, load(self.path))
        self.write(self.text("[users]\n1001 = 'a'\n"))
        server.reloading.reload()
        self.assertIsNotNone(core.shedding._timer)
        self.assertEqual(server.reloading.reload(), [])
        self.assertIn(("reloaded", {"change": "nothing is different"}), self.records)

    async def test_policies(self) -> None:
        """Policies change with the file, for the next request; a carrier whose policy alone changes stays as it is. A
        section that is about nobody is told in the journal, at the start and at each reload."""
        carrier = "[peers.c]\nuri = 'sip:203.0.113.1'\n"
        server = self.start(self.text(f"[users]\n1001 = 'a'\n[peers.1001]\ncall_limit = 1\n[peers.1009]\ncall_limit = 2\n{carrier}"))
        core: Any = server.core
        trunk = core.trunks.trunks["c"]
        nobody = ("peer-nobody", {"peer": "1009"})
        self.assertEqual(self.records.count(nobody), 1)
        self.assertEqual(core.policies.users["1001@example.com"].call_limit, 1)
        self.write(self.text("[users]\n1001 = 'a'\n[templates.t]\ncall_limit = 3\n[peers.1001]\nextends = ['t']\n"
                             f"[peers.1009]\ncall_limit = 2\n{carrier}call_limit = 9\n"))
        self.assertEqual(server.reloading.reload(), [
            "template t added", 'peer 1001: extends: [] -> ["t"]', "peer 1001: call_limit: 1 -> 0",
            "peer c: call_limit: 0 -> 9"])
        self.assertEqual(core.policies.users["1001@example.com"].call_limit, 3)
        self.assertIs(core.trunks.trunks["c"], trunk)
        self.assertEqual((core.policies.trunks["c"].call_limit, trunk.config.call_limit), (9, 9))
        self.assertEqual(self.records.count(nobody), 2)

    async def test_wrong_file(self) -> None:
        """Every mistake at once, with file and line; nothing has changed, and the journal says so."""
        server = self.start(self.text())
        refusal = self.refused(server, self.text("[limits]\nconections = 5\n[proxy]\nring_timeout = -1\n"))
        self.assertEqual((refusal.kind, len(refusal.lines)), ("configuration", 2))
        self.assertIn(f"{self.path}:13: [limits] conections = 5: no such option; connections", refusal.lines[1])
        self.assertEqual([kind for kind, _ in self.records].count("reload-refused"), 2)
        self.assertIn("not TOML", str(self.refused(server, "[")))
        os.unlink(self.path)
        self.assertRaises(Refused, server.reloading.reload)

    async def test_what_the_host_says(self) -> None:
        """A port in use, a certificate that is not there and users who would be homeless: all told, nothing done."""
        server = self.start(self.text().replace("example.com", "example.com\", \"alias.example"))
        assert server._user_store is not None
        server._user_store.add("1001@alias.example", "example.com", "a")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            refusal = self.refused(server, self.text(
                self.listen("udp", port) + self.listen("tls", free_port(), 'certificate = "/none"\nprivate_key = "/none"\n')))
        self.assertEqual(refusal.kind, "configuration")
        for words in ("Address already in use", "certificate = /none: No such file", "users of alias.example"):
            self.assertIn(words, str(refusal))

    async def test_restart(self) -> None:
        """What needs a restart refuses the whole file, and says which and why; a realm written otherwise does not."""
        server = self.start(self.text("[users]\n1001 = 'a'\n"))
        refusal = self.refused(server, self.text("[users]\n1002 = 'a'\n[location]\nstore = 'memory'\n").replace(
            '"state"', '"other"').replace("example.com", "other.example"))
        self.assertEqual((refusal.kind, len(refusal.lines)), ("restart", 3))
        self.assertIn("[server] state_dir", refusal.lines[1])
        self.write(self.text("[users]\n1001 = 'a'\n[auth]\nrealm = 'example.com'\n"))
        self.assertEqual(server.reloading.reload(), ['[auth] realm: "" -> "example.com"'])

    async def test_check(self) -> None:
        """A check says the same and changes nothing."""
        server = self.start(self.text())
        self.write(self.text("[users]\n1001 = 'a'\n"))
        result = server.reloading.command({"check": True})
        self.assertEqual((result["changes"], result["applied"]), (["user 1001 added"], False))
        self.assertEqual(server.config.users, {})
        self.assertEqual(server.reloading.reload(), ["user 1001 added"])

    async def test_options_stay_above(self) -> None:
        """The options of the start stand over a file that says otherwise now."""
        overrides = Overrides((f"udp:127.0.0.1:{self.port}",), ("option.example",), ("1001:x",))
        server = self.start(self.text(), overrides)
        self.write(self.text(f"{self.listen('udp', free_port())}[users]\n1001 = 'y'\n").replace("example.com", "b.example"))
        self.assertEqual(server.reloading.reload(), [])

    async def test_bindings(self) -> None:
        """Users who stay keep their bindings, with another password too; those who are gone lose theirs. A stored user
        whom one of the file hid is back."""
        server = self.start(self.text("[users]\n1001 = 'a'\n1002 = 'b'\n1003 = 'c'\n"))
        core: Any = server.core
        assert server._user_store is not None
        server._user_store.add("1003@example.com", "example.com", "stored")
        for name in ("1001", "1002", "1003"):
            self.bind(server, f"{name}@example.com")
        await ensureDeferred(_until(lambda: len(core.location) == 3))
        self.write(self.text("[users]\n1001 = 'z'\n"))
        self.assertEqual(server.reloading.reload(), [
            "user 1001: another password", "user 1002 removed", "user 1003 removed"])
        await ensureDeferred(_until(lambda: len(core.location) == 2))
        self.assertEqual(core.location.bindings("1002@example.com"), [])
        self.assertTrue(core.users.by_aor("1003@example.com").stored)

    async def test_removed_while_down(self) -> None:
        """A user who was removed while no server ran has no binding at the next start, on disk neither."""
        server = self.start(self.text("[users]\n1001 = 'a'\n1002 = 'b'\n"))
        for name in ("1001", "1002"):
            self.bind(server, f"{name}@example.com")
        core: Any = server.core
        await ensureDeferred(_until(lambda: len(core.location) == 2))
        await server.stopService()
        again = self.start(self.text("[users]\n1002 = 'b'\n"))
        assert again.core is not None
        self.assertEqual([binding.aor for binding in again.core.location.everything()], ["1002@example.com"])
        self.assertIn(("registration-lost", {
            "aor": "1001@example.com", "contact": "sip:1001@example.com", "reason": "there is no such user any more"}), self.records)
        await again.stopService()
        third = self.start(self.text("[users]\n1001 = 'a'\n1002 = 'b'\n"))
        assert third.core is not None
        self.assertEqual(len(third.core.location), 1)

    async def test_certificate(self) -> None:
        """A certificate that was renewed in its file is said and shown; one that was not is not."""
        files = make_certificate(self.directory, "sip.example.com")
        one, other = make_certificate(self.directory, "other.example"), "copy"
        os.rename(files[0], other := os.path.join(self.directory, "chain"))
        os.rename(files[1], key := os.path.join(self.directory, "key"))
        port = free_port()
        text = self.text(self.listen("tls", port, f'certificate = "{other}"\nprivate_key = "{key}"\n'))
        server = self.start(text)
        self.assertEqual(server.reloading.reload(), [])
        os.rename(one[0], other)
        os.rename(one[1], key)
        words = [f"tls:127.0.0.1:{port} shows another certificate, for other.example, good until 2119-12-08"]
        self.assertEqual(server.reloading.reload(check=True), words)
        self.assertEqual(server.reloading.reload(), words)
        self.assertEqual(server.reloading.reload(), [])
        Path(key).write_text("no key")
        self.assertEqual(self.refused(server, text).kind, "configuration")

    async def test_signal(self) -> None:
        """SIGHUP does the same and leaves words in the journal, whatever comes of it."""
        server = self.start(self.text())
        self.write("[")
        server.reloading.signalled()
        self.write(self.text("[users]\n1001 = 'a'\n"))
        server.reloading.signalled()
        self.assertEqual([kind for kind, _ in self.records if kind.startswith("reload")], ["reload-refused", "reloaded"])

    async def test_store_is_asked_last(self) -> None:
        """A user store that cannot be read refuses the file."""
        server = self.start(self.text())
        self.write(self.text("[users]\n1001 = 'a'\n"))
        assert server._user_store is not None
        server._user_store.close()
        self.assertEqual(self.assertRaises(Refused, server.reloading.reload).kind, "configuration")
        server._user_store = UserStore(server.config.path("users.sqlite"))
        server._user_store.open()


async def _until(condition: Any) -> None:
    """Waits until something is so, two seconds at most."""
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    for _ in range(400):
        if condition():
            return
        await deferLater(reactor, 0.005)  # type: ignore[arg-type]
    raise AssertionError("it did not happen in time")
