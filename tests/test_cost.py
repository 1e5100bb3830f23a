"""Python-level calls per message, counted: deterministic, so that a costlier path fails here whatever the machine does.

Counted is every Python function entered between the octets of a message coming from a socket and the last octets that
go out for it, with two users known by digest or none, UDP, Record-Route on. The fakes of the test are not counted.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message import parser
from tests.support.rig import Rig

#: Ceilings, Python-level calls, a few above what is counted. One is raised only with a line here saying what was bought.
#: The call table took 14 of an INVITE, 8 of a 180, 15 of a 200, 8 of a BYE and 17 of its 200: calls are shown, counted by
#: peer, limited, and known again after a kill. 11 of an INVITE tell whose call it is where nobody need log in, 3 ask for
#: the dress of the hop and for numbers that pick up.
INVITE = 149
RESPONSE = 78
IN_DIALOG = 124
REGISTER = 95
#: Of a REGISTER that logs in: the one that gets the 401, and the one with credentials.
CHALLENGED = 58
PROVEN = 106


def calls(work: Callable[[], Any]) -> Counter[str]:
    """Python functions entered while `work` runs, without those of the test's own files."""
    counted: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and "/tests/" not in frame.f_code.co_filename:
            counted[f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_code.co_qualname}"] += 1

    collecting = gc.isenabled()
    gc.disable()  # what earlier tests left is not finalized in here
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
        if collecting:
            gc.enable()
    return counted


class Cost(TestCase):
    """A plain call between two registered phones."""

    def setUp(self) -> None:
        """The second call of a pair: caches are warm."""
        if not str(parser.__file__).endswith(".py"):
            self.fail("the functions of a compiled build cannot be counted: run this on the sources")
        self.rig = Rig()
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        self.a.register()
        self.b.register()
        self.figures: dict[str, Counter[str]] = {}
        for _ in range(2):
            self.call()

    def call(self) -> None:
        """One call, each message counted on its way through the server."""
        a, b = self.a, self.b
        invite = a.invite("1002", send=False)
        self.count("INVITE", lambda: a.send(invite))
        a.take(100)
        got = b.take("INVITE")
        ringing = b.answer(got, 180, send=False)
        self.count("180", lambda: b.send(ringing))
        a.take(180)
        answer = b.answer(got, 200, send=False)
        self.count("200", lambda: b.send(answer))
        ok = a.take(200)
        ack = a.in_dialog("ACK", ok, cseq=ok.cseq_number, send=False)
        self.count("ACK", lambda: a.send(ack))
        b.take("ACK")
        bye = a.in_dialog("BYE", ok, send=False)
        self.count("BYE", lambda: a.send(bye))
        done = b.answer(b.take("BYE"), 200, send=False)
        self.count("200 to BYE", lambda: b.send(done))
        a.take(200)

    def count(self, name: str, work: Callable[[], Any]) -> None:
        """Counts the calls of one step."""
        self.figures[name] = calls(work)

    def below(self, name: str, ceiling: int) -> None:
        """Fails with the list of what was called when a step costs more than its ceiling."""
        counted = self.figures[name]
        listing = "\n".join(f"{number:5} {what}" for what, number in counted.most_common())
        self.assertLessEqual(counted.total(), ceiling, f"{name}\n{listing}")

    def test_invite(self) -> None:
        """An INVITE with its 100, forwarded to one contact."""
        self.below("INVITE", INVITE)

    def test_response(self) -> None:
        """A provisional response, the 200 to the INVITE, the 200 to the BYE."""
        for name in ("180", "200", "200 to BYE"):
            self.below(name, RESPONSE)

    def test_in_dialog(self) -> None:
        """ACK and BYE along the recorded route."""
        for name in ("ACK", "BYE"):
            self.below(name, IN_DIALOG)

    def test_register(self) -> None:
        """A refresh of a binding, its answer included."""
        request = self.a.request("REGISTER", "sip:example.com", "Expires: 3600", to=f"<{self.a.aor}>",
                                 contact=f"<{self.a.contact}>", send=False)
        self.count("REGISTER", lambda: self.a.send(request))
        self.a.take(200)
        self.below("REGISTER", REGISTER)

    def test_digest(self) -> None:
        """A phone that registers where users log in: its 401, and its second try, as in all refreshes."""
        a = Rig(auth={"required": True}).phone("1001")
        for _ in range(3):
            first = a.request("REGISTER", "sip:example.com", "Expires: 3600", to=f"<{a.aor}>", contact=f"<{a.contact}>",
                              cseq=1, send=False)
            self.count("CHALLENGED", lambda first=first: a.send(first))  # type: ignore[misc]
            again = a.authorized(first, a.take(401), send=False)
            self.count("PROVEN", lambda again=again: a.send(again))  # type: ignore[misc]
            a.take(200)
        self.below("CHALLENGED", CHALLENGED)
        self.below("PROVEN", PROVEN)


def main() -> None:
    """Prints what each message costs."""
    case = Cost("test_register")
    case.setUp()
    case.test_register()
    for name, counted in case.figures.items():
        print(f"{name}: {counted.total()}")
        for what, number in counted.most_common(60 if "-v" in sys.argv else 0):
            print(f"    {number:4} {what}")


if __name__ == "__main__":
    main()
