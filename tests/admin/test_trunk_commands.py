"""sipctl and the API about carriers and about who answers, against a core in virtual time."""

from __future__ import annotations

import json
from typing import Any

from sipd.admin.api import Api, Refused
from sipd.admin.trunk_commands import TrunkCommands
from tests.scenarios.test_out import CARRIER, carrier_rig, goodbye, register
from tests.support.cases import shows
from tests.support.commands import CommandTestCase


class TrunkCommandTests(CommandTestCase):
    """One peer that registers and one that does not."""

    def setUp(self) -> None:
        self.rig, self.carrier = carrier_rig()
        self.rig.core.call_out(self.rig.config.model_copy(update={"peers": {
            **self.rig.config.peers,
            "plain": self.rig.config.peers["carrier"].model_copy(update={"registers": False, "qualify": 3600})}}))
        register(self.rig, self.carrier, 120)
        self.api = Api()
        TrunkCommands(self.rig.core.trunks, self.rig.core.qualify, self.rig.core.aor).register(self.api)
        self.asked: list[dict[str, Any]] = []

    def meanwhile(self) -> None:
        """Whoever is asked by OPTIONS answers."""
        self.rig.advance(0.1)
        for phone in self.rig.phones:
            for question in [one for one in phone.drain() if getattr(one, "method", "") == "OPTIONS"]:
                phone.answer(question, 200)

    def test_registry(self) -> None:
        """Every peer with what the registrar said, how long that holds and when it is asked again, or one of them."""
        first, second = self.ask("registry")
        self.assertEqual((first["name"], first["state"], first["reason"], first["expires"], first["server"]),
                         ("carrier", "registered", "200 Reason", 120, f"udp:{CARRIER}:5060"))
        self.assertEqual((first["user"], first["account"]), ("1001@example.com", f"sip:acct@{CARRIER}"))
        self.assertTrue(85 <= first["next"] <= 103)
        self.assertEqual((second["name"], second["state"], second["contact"]), ("plain", "not wanted", ""))
        self.assertEqual([one["name"] for one in self.ask("registry", name="plain")], ["plain"])
        error = self.assertRaises(Refused, self.ask, "registry", name="other")
        self.assertIn("there are: carrier, plain", str(error))
        self._end()

    def test_tables(self) -> None:
        """The same as a table, in both vocabularies, and in JSON."""
        for words in (("registry",), ("sip", "show", "registry")):
            result = self.sipctl(*words)
            self.assertEqual(result.exit_code, 0, result.output)
            self.assertRegex(result.output, rf"carrier\s+sip:acct@{CARRIER}\s+registered\s+udp:{CARRIER}:5060\s+1\d\d s")
        self.assertEqual(json.loads(self.sipctl("registry", "carrier", "--json").output)[0]["state"], "registered")
        result = self.sipctl("registry", "other")
        self.assertEqual((result.exit_code, result.output[:29]), (1, "sipctl: there is no peer 'oth"))
        self._end()

    def test_again(self) -> None:
        """A peer is registered at once; one that does not register is told apart, and a name is needed."""
        result = self.sipctl("registry", "carrier", "--again")
        self.assertIn("carrier is being registered", result.output)
        self.assertEqual(self.ask("registry", name="carrier")[0]["state"], "trying")
        self.assertEqual(self.sipctl("registry", "--again", "plain").exit_code, 1)
        self.assertEqual(self.sipctl("registry", "--again").exit_code, 2)
        self._end()

    @shows("QUA-06", "11.1")
    def test_qualify(self) -> None:
        """A user's phones or a peer are asked at once; without a name those that are asked regularly are shown; a name
        that nobody has is refused."""
        phone = self.rig.phone("1001")
        phone.register()
        for words in (("qualify", "1001"), ("sip", "qualify", "peer", "1001")):
            result = self.sipctl(*words)
            self.assertEqual(result.exit_code, 0, result.output)
            self.assertRegex(result.output, r"1001@example\.com\s+sip:1001@\S+\s+reachable\s+[0-9.e-]+ ms\s+0\s+udp:")
        self.assertEqual([one["state"] for one in self.ask("qualify", name="plain")], ["reachable"])
        self.assertEqual([one["peer"] for one in self.ask("qualify")], ["plain"])
        self.assertEqual(self.sipctl("qualify", "1009").exit_code, 1)
        self._end()

    def _end(self) -> None:
        self.carrier.drain()
        goodbye(self.rig, self.carrier)
