"""The first start: a name that stays, users that are made once, passwords that are shown once."""

from __future__ import annotations

import io
import os
import stat
from unittest import mock

from twisted.trial.unittest import TestCase

from sipd import first_start, state
from sipd.auth.user_store import UserStore
from sipd.config import Config, Overrides, load
from tests.support.cases import shows


def entropy(size: int) -> bytes:
    """No entropy at all."""
    return bytes(range(size))


class FirstStartTests(TestCase):
    """On a state directory of its own."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        state.ensure(self.directory)
        self.store = UserStore(os.path.join(self.directory, state.USERS))
        self.store.open()
        self.addCleanup(self.store.close)

    def config(self, text: str = "", *domains: str, users: tuple[str, ...] = ()) -> Config:
        """A configuration for the directory."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write(text)
        return load(path, Overrides(listen=("udp:127.0.0.1:5060", "tls:[::1]:5061"), domains=domains, users=users,
                                    state_dir=self.directory))

    def begin(self, config: Config) -> list[first_start.NewUser]:
        """The users that a start makes."""
        return first_start.first_users(config, first_start.identity(config, entropy), self.store, entropy)

    @shows("R3261-22.1-02", "R7616-5.2-01")
    def test_identity(self) -> None:
        """The realm is the configured one, else the first domain; the domain is the first one."""
        for text, domains, expected in (
            ('[auth]\nrealm = "r"', ("a.example", "b.example"), ("a.example", "r")),
            ("", ("a.example", "b.example"), ("a.example", "a.example")),
        ):
            here = first_start.identity(self.config(text, *domains), entropy)
            self.assertEqual((here.domain, here.realm), expected)
            self.assertEqual(state.read(self.directory, state.REALM), expected[1])

    @shows("R3261-22.1-02", "R7616-5.2-01")
    def test_made_name_stays(self) -> None:
        """Without domains a name is made from the host's, or from chance, and is the same at the next start."""
        with mock.patch("socket.gethostname", return_value="PBX1"):
            self.assertEqual(first_start.identity(self.config()), first_start.Identity("pbx1", "pbx1"))
        with mock.patch("socket.gethostname", return_value="other"):
            self.assertEqual(first_start.identity(self.config()), first_start.Identity("pbx1", "pbx1"))

    def test_no_host_name(self) -> None:
        """A host without a name of its own gets one by chance; looking does not write it down."""
        with mock.patch("socket.gethostname", return_value="localhost"):
            here = first_start.identity(self.config(), entropy, keep=False)
        self.assertEqual(here, first_start.Identity("sipd-000102", "sipd-000102"))
        self.assertEqual((state.read(self.directory, state.DOMAIN), state.read(self.directory, state.REALM)), ("", ""))

    def test_users_once(self) -> None:
        """The first start makes three users with different passwords; later ones make none, even without any left."""
        config = self.config("", "example.com")
        made = first_start.first_users(config, first_start.identity(config), self.store, os.urandom)
        self.assertEqual([user.name for user in made], ["1001", "1002", "1003"])
        self.assertEqual(len({user.password for user in made}), 3)
        self.assertEqual([user.aor for user in self.store.users()], [f"{user.name}@example.com" for user in made])
        for user in made:
            self.store.remove(f"{user.name}@example.com")
        self.assertEqual(self.begin(config), [])

    def test_users_known(self) -> None:
        """Users in the store, the file or the options are users; an open network needs none."""
        for config in (self.config(users=("1001:x",)), self.config("[auth]\nrequired = false"),
                       self.config("[registrar]\nopen = true")):
            self.assertEqual(self.begin(config), [])
        self.assertEqual(self.store.users(), [])
        # None of these was the first start of a server for strangers: that one still makes users.
        self.assertEqual(len(self.begin(self.config())), 3)

    def test_store_in_use(self) -> None:
        """A store that holds somebody gets no first users, nor when it is empty again."""
        self.store.add("x@example.com", "example.com", "secret")
        config = self.config("", "example.com")
        self.assertEqual(self.begin(config), [])
        self.store.remove("x@example.com")
        self.assertEqual(self.begin(config), [])

    def test_other_realm(self) -> None:
        """Another realm or domain than the stored users' is refused with the remedy; without users it is taken."""
        self.begin(self.config("", "a.example"))
        self.store.close()
        self.assertEqual(first_start.stored_problems(self.config("", "a.example")), [])
        problems = first_start.stored_problems(self.config("", "b.example"))
        self.assertEqual(len(problems), 2)
        self.assertIn('set [auth] realm = "a.example"', problems[0])
        self.assertIn("users of a.example, which is no domain here", problems[1])
        self.assertEqual(first_start.stored_problems(self.config('[auth]\nrealm = "a.example"', "b.example", "a.example")), [])
        self.store.open()
        for user in self.store.users():
            self.store.remove(user.aor)
        self.store.close()
        self.assertEqual(first_start.stored_problems(self.config("", "b.example")), [])

    def test_broken_store(self) -> None:
        """A user store that cannot be read is told before the start."""
        self.store.close()
        with open(os.path.join(self.directory, state.USERS), "wb") as file:
            file.write(b"no database" * 1000)
        self.assertEqual(len(first_start.stored_problems(self.config())), 1)

    def test_announced(self) -> None:
        """The table holds address, users, passwords, transports and the line for more users; the log's line no secret."""
        config = self.config("", "example.com")
        stream = io.StringIO()
        line = first_start.announce(config, [first_start.NewUser("1001", "pass-word")], stream)
        for text in ("127.0.0.1", "::1", "1001", "pass-word", "UDP port 5060", "TLS port 5061",
                     f"--state-dir {self.directory} user add 1004"):
            self.assertIn(text, stream.getvalue())
        self.assertNotIn("pass-word", line)

    def test_announced_in_the_background(self) -> None:
        """A daemon leaves the table in a file for its owner alone."""
        with open(os.devnull, "w") as stream:
            line = first_start.announce(self.config(), [first_start.NewUser("1001", "pass-word")], stream)
        path = os.path.join(self.directory, state.FIRST_USERS)
        self.assertIn(path, line)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        with open(path) as file:
            self.assertIn("pass-word", file.read())

    def test_announced_to_the_journal(self) -> None:
        """systemd's journal would keep the passwords: it is told where they are instead."""
        with open(self.mktemp(), "w+") as stream:
            status = os.fstat(stream.fileno())
            for journal, hidden in ((f"{status.st_dev}:{status.st_ino}", True), (f"{status.st_dev}:1", False)):
                with mock.patch.dict(os.environ, JOURNAL_STREAM=journal):
                    line = first_start.announce(self.config(), [first_start.NewUser("1001", "pass-word")], stream)
                stream.seek(0)
                self.assertEqual("pass-word" in stream.read(), not hidden)
                self.assertEqual(state.FIRST_USERS in line, hidden)

    def test_addresses(self) -> None:
        """What is advertised is what a phone is pointed to; loopback addresses only when there is nothing else."""
        listen = '[[listen]]\ntransport = "udp"\naddress = "{}"\n'
        for text, addresses in (
            (listen.format("127.0.0.1"), ["127.0.0.1"]),
            (listen.format("127.0.0.1") + listen.format("192.0.2.5"), ["192.0.2.5"]),
            (listen.format("192.0.2.5") + 'advertise = "sip.example.com:5080"', ["sip.example.com"]),
            (listen.format("192.0.2.5") + 'advertise = "[2001:db8::5]"', ["[2001:db8::5]"]),
        ):
            path = self.mktemp()
            with open(path, "w") as file:
                file.write(text)
            self.assertEqual(first_start.server_addresses(load(path)), addresses)
