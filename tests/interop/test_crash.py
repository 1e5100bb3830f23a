"""kill -9 during a registration storm: what was acknowledged is there, what was acknowledged as gone stays gone."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from twisted.trial import unittest

from bench.registrant import Registrant, Registration
from tests.interop.sipd_process import SipdProcess

DOMAIN = "sip.example.com"
PHONES = 5000
#: The server is killed when so many of a storm's answers have come.
KILLS = (400, 1500, 3500)

CONFIG = f"""
[server]
domains = ["{DOMAIN}"]
[auth]
required = false
[registrar]
open = true
min_expires = 1
"""


def contact_of(number: int) -> str:
    """The contact of one phone of the storm."""
    return f"sip:phone{number}@192.0.2.1:{10000 + number}"


class CrashTests(unittest.TestCase):
    """Storms of REGISTER from one socket, killed in the middle, and a second look after the restart."""

    def _server(self, config: str) -> SipdProcess:
        server = SipdProcess(Path(self.mktemp()).resolve(), domain="", config=config)
        server.start()
        self.addCleanup(server.end)
        return server

    def _storm(self, server: SipdProcess, registrations: list[Registration], kill_at: int) -> None:
        """Sends all; kills the server when `kill_at` are answered and then starts it again."""
        client = Registrant(server.address, DOMAIN, window=400)
        self.addCleanup(client.close)

        def dead() -> bool:
            if sum(1 for registration in registrations if registration.status) < kill_at:
                return False
            server.kill()
            return True

        client.run(registrations, dead)
        acknowledged = sum(1 for registration in registrations if registration.status)
        self.assertFalse(server.alive(), "the storm was over before the kill")
        self.assertLess(acknowledged, len(registrations), "nothing was in flight at the kill")
        server.start()

    def _held(self, server: SipdProcess, users: list[str]) -> dict[str, list[str]]:
        """The contacts the server holds for each user, asked after the restart."""
        client = Registrant(server.address, DOMAIN, window=100)
        self.addCleanup(client.close)
        queries = [Registration(user, "") for user in users]
        client.run(queries)
        self.assertEqual({query.status for query in queries}, {200})
        return {query.user: query.bindings for query in queries}

    def test_storm(self) -> None:
        """5,000 phones register and others unregister; three kills; no acknowledged binding is missing and no
        acknowledged removal is back."""
        server = self._server(CONFIG)
        expected: dict[str, bool | None] = {}
        started = [Registration(f"phone{number}", contact_of(number)) for number in range(1000)]
        client = Registrant(server.address, DOMAIN, window=400)
        self.addCleanup(client.close)
        client.run(started)
        self.assertEqual({registration.status for registration in started}, {200})
        expected.update((registration.user, True) for registration in started)
        removed: Iterator[int] = iter(range(1000))
        for storm, kill_at in enumerate(KILLS):
            registrations = []
            for number in range(1000, PHONES + 1000):
                name = f"phone{number}-{storm}"
                registrations.append(Registration(name, contact_of(number)))
                # Every fifteenth request takes one of the first thousand phones away.
                if number % 15 == 0:
                    phone = next(removed)
                    call_id = started[phone].call_id
                    registrations.append(Registration(f"phone{phone}", contact_of(phone), 0, call_id=call_id, cseq=9))
            self._storm(server, registrations, kill_at)
            for registration in registrations:
                self.assertIn(registration.status, (0, 200))
                expected[registration.user] = bool(registration.expires) if registration.status else None
            held = self._held(server, [user for user, there in expected.items() if there is not None])
            missing = [user for user, contacts in held.items() if expected[user] and not contacts]
            back = [user for user, contacts in held.items() if expected[user] is False and contacts]
            self.assertEqual((missing, back), ([], []), f"storm {storm}, killed at {kill_at}")
            gone = sum(1 for there in expected.values() if there is False)
            sys.stdout.write(f"\nstorm {storm}: {len(held)} acknowledged states held, {gone} of them removals ")
        self.assertGreater(sum(1 for there in expected.values() if there is False), 100)

    def test_expired(self) -> None:
        """A binding that ran out, while the server was down or before, is not back after a kill."""
        server = self._server(CONFIG)
        client = Registrant(server.address, DOMAIN)
        self.addCleanup(client.close)
        short = [Registration(f"short{number}", contact_of(number), 1) for number in range(200)]
        later = [Registration(f"later{number}", contact_of(number), 3) for number in range(200)]
        long = [Registration(f"long{number}", contact_of(number), 600) for number in range(200)]
        client.run([*short, *later, *long])
        self.assertEqual({registration.status for registration in [*short, *later, *long]}, {200})
        time.sleep(1.3)
        server.kill()
        time.sleep(2.0)
        server.start()
        held = self._held(server, [registration.user for registration in [*short, *later, *long]])
        self.assertEqual(
            sorted(user for user, contacts in held.items() if contacts), sorted(one.user for one in long)
        )

    def test_with_digest(self) -> None:
        """Phones that proved who they are find their bindings after a kill, and register again with a new nonce."""
        users = {str(number): f"secret{number}" for number in range(2000, 2300)}
        lines = "".join(f'{name} = "{password}"\n' for name, password in users.items())
        server = self._server(f'[server]\ndomains = ["{DOMAIN}"]\n[users]\n{lines}')
        registrations = [
            Registration(name, contact_of(int(name)), password=password) for name, password in users.items()
        ]
        self._storm(server, registrations, 150)
        client = Registrant(server.address, DOMAIN)
        self.addCleanup(client.close)
        for registration in registrations:
            held = client.bindings(registration.user, registration.password)
            if registration.status:
                self.assertEqual(len(held), 1, registration.user)
        again = [Registration(name, contact_of(int(name)), password=users[name]) for name in users]
        client.run(again)
        self.assertEqual({registration.status for registration in again}, {200})
