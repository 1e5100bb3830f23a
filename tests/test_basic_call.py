"""A plain call through the real core, first of all."""

from twisted.trial.unittest import TestCase

from tests.support.cases import shows
from tests.support.rig import Rig, established


class BasicCall(TestCase):
    """The call of RFC 3665 s3.3, with our Record-Route."""

    @shows("INV-02", "16.7")
    def test_call(self) -> None:
        """INVITE, 100, 180, 200, ACK, BYE, 200 pass, each once."""
        rig = Rig()
        a, b = rig.phone("1001"), rig.phone("1002")
        b.register()
        invite, got, sent, ok = established(a, b)
        self.assertEqual(got.body, invite.body)
        a.in_dialog("BYE", ok)
        b.answer(b.take("BYE"), 200)
        a.take(200)
        rig.finish()
