"""sipd registers at a carrier that is Kamailio, and is called from there: somebody else's idea of the same RFC."""

from __future__ import annotations

from pathlib import Path

from bench.servers import DOMAIN, Kamailio
from tests.interop.test_trunk import OfficeTestCase
from tests.support.cases import shows


class KamailioTests(OfficeTestCase):
    """The carrier asks everybody for credentials, REGISTER and INVITE alike."""

    domain, secret = DOMAIN, "carrier-secret"

    def start(self, transport: str, password: str) -> None:
        """Starts both servers."""
        directory = Path(self.mktemp()).resolve()
        carrier = Kamailio(directory / "kamailio", users={"acct1": self.secret})
        self.addCleanup(carrier.stop)
        self.open_office(directory, carrier.port, transport, password)

    @shows("OUT-01", "10.2", "22.2")
    @shows("OUT-09", "16.5")
    def test_calls(self) -> None:
        """Over UDP and over TCP it registers, is called, refreshes by hand with the nonce it knows, and answers as a
        peer that qualify finds reachable."""
        for transport in ("udp", "tcp"):
            self.start(transport, self.secret)
            row = self.wait_for("registered")
            self.assertEqual(row["reason"], "200 OK")
            self.assertTrue(100 < row["expires"] <= 120, row)
            self.call()
            self.ask("registry again", name="carrier")
            self.wait_for("registered")
            self.call()
            self.assertEqual(self.ask("qualify", name="carrier")[0]["state"], "reachable")
            self.office.stop()

    @shows("OUT-04", "22.2")
    def test_wrong_password(self) -> None:
        """A wrong password is a refusal and no loop."""
        self.start("udp", "wrong")
        row = self.wait_for("refused")
        self.assertTrue(row["reason"].startswith("401"), row)
        self.assertGreater(row["next"], 500)
