"""What calls and registrations leave in memory, counted: deterministic, so that a heavier one fails here.

Objects are those the garbage collector walks over, blocks are what Python's allocator has given out (objects, and the
tables inside some of them). Counted is the difference between before and after many of a kind, with full caches, and
without what the network of the tests remembers.
"""

from __future__ import annotations

import gc
import statistics
import sys
import tracemalloc
from collections.abc import Callable
from typing import NamedTuple

from twisted.trial.unittest import TestCase

from sipd.message import parser
from sipd.message.message import Request
from tests.support.network import MemoryFlow
from tests.support.rig import Rig, established

#: Ceilings. One is raised only with a line here saying what was bought.
RINGING_OBJECTS, RINGING_BLOCKS = 30, 92  # 7 and 10 for the call in the call table, with its steps
FINISHED_OBJECTS, FINISHED_BLOCKS = 20, 54  # 6 and 31 for its history, as long as another 2xx may come or it is shown
INVITE_BYTES = 9_400  # 1,000 for the same
REGISTER_BYTES = 4_400
REGISTERED_OBJECTS, REGISTERED_BLOCKS = 4, 9

#: How many of a kind; after this many seconds of virtual time no transaction is left.
MANY, ALL_OVER = 60, 70.0


class Held(NamedTuple):
    """What the process holds."""

    objects: float
    blocks: float


class Allocations(TestCase):
    """Two registered phones and a server whose caches are warm."""

    def setUp(self) -> None:
        """Some rounds of calls go before what is counted."""
        if not str(parser.__file__).endswith(".py"):
            self.fail("a compiled build allocates otherwise: run this on the sources")
        self.rig = Rig(calls={"keep_ended": 0})
        self.rig.journal.sinks.clear()
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        self.a.register()
        self.b.register()
        for _ in range(3):
            for _ in range(MANY):
                self.call()
            self.rig.advance(ALL_OVER)
            self.forget()
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)

    def forget(self) -> None:
        """What phones and network remember."""
        self.rig.network.packets.clear()
        for phone in (self.a, self.b):
            assert phone.endpoint is not None
            phone.endpoint.received.clear()
            phone.endpoint.sources.clear()
            phone._read = 0
            flow = self.rig.transports.flow_by_id(f"udp/192.0.2.1:5060/{phone.address}:5060")
            assert isinstance(flow, MemoryFlow)
            flow.sent.clear()

    def held(self) -> Held:
        """What is held now."""
        self.forget()
        gc.collect()
        return Held(len(gc.get_objects()), sys.getallocatedblocks())

    def each(self, work: Callable[[], object]) -> Held:
        """What one of MANY leaves."""
        before = self.held()
        for _ in range(MANY):
            work()
        after = self.held()
        return Held((after.objects - before.objects) / MANY, (after.blocks - before.blocks) / MANY)

    def ring(self) -> tuple[Request, Request]:
        """A call that rings: the INVITE as sent and as received."""
        invite = self.a.invite("1002")
        self.a.take(100)
        got = self.b.take("INVITE")
        self.b.answer(got, 180)
        self.a.take(180)
        return invite, got

    def call(self) -> None:
        """A whole call."""
        ok = established(self.a, self.b)[3]
        self.a.in_dialog("BYE", ok)
        self.b.answer(self.b.take("BYE"), 200)
        self.a.take(200)

    def below(self, held: Held, objects: float, blocks: float) -> None:
        """Fails when one leaves more than its ceilings."""
        self.assertLessEqual(held.objects, objects, held)
        self.assertLessEqual(held.blocks, blocks, held)

    def test_ringing(self) -> None:
        """A call that rings: both transactions of the INVITE, and what the proxy waits with."""
        self.below(self.each(self.ring), RINGING_OBJECTS, RINGING_BLOCKS)

    def test_finished(self) -> None:
        """A call that has just ended: four transactions wait for repeats, and hold no message."""
        self.below(self.each(self.call), FINISHED_OBJECTS, FINISHED_BLOCKS)

    def test_over(self) -> None:
        """When the last timer has fired, no call has left anything."""
        self.rig.advance(ALL_OVER)
        before = self.held()
        for _ in range(3):
            for _ in range(MANY):
                self.call()
            self.rig.advance(ALL_OVER)
        after = self.held()
        self.assertLessEqual(after.objects - before.objects, 2)
        self.assertLess((after.blocks - before.blocks) / MANY, 0.5)

    def test_registered(self) -> None:
        """A refresh that has just been answered: its transaction waits for repeats with the octets of the answer alone."""
        for _ in range(10):
            self.b.register()
        self.below(self.each(self.b.register), REGISTERED_OBJECTS, REGISTERED_BLOCKS)

    def test_refresh(self) -> None:
        """Refreshes of a binding leave nothing either."""
        for _ in range(10):
            self.b.register()  # low CSeqs are known from then on
        self.rig.advance(ALL_OVER)
        before = self.held()
        for _ in range(MANY):
            self.b.register()
        self.rig.advance(ALL_OVER)
        after = self.held()
        self.assertLessEqual(after.objects - before.objects, 2)
        self.assertLess((after.blocks - before.blocks) / MANY, 0.5)

    def test_peak(self) -> None:
        """Bytes allocated at most while a message is worked on: the median of many, for tables grow now and then."""
        self.assertLessEqual(statistics.median(self.an_invite() for _ in range(31)), INVITE_BYTES)
        self.assertLessEqual(statistics.median(self.a_refresh() for _ in range(31)), REGISTER_BYTES)

    def an_invite(self) -> int:
        """The peak of an INVITE."""
        invite = self.a.invite("1002", send=False).encode()
        peak = self.peak(lambda: self.a.send(invite))
        self.b.take("INVITE")
        self.a.take(100)
        return peak

    def a_refresh(self) -> int:
        """The peak of a REGISTER."""
        request = self.a.request("REGISTER", "sip:example.com", "Expires: 3600", to=f"<{self.a.aor}>",
                                 contact=f"<{self.a.contact}>", send=False).encode()
        peak = self.peak(lambda: self.a.send(request))
        self.a.take(200)
        return peak

    @staticmethod
    def peak(work: Callable[[], object]) -> int:
        """Bytes held more than before, at the worst moment."""
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            work()
            return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()


def main() -> None:
    """Prints what is held."""
    case = Allocations("test_finished")
    case.setUp()
    print("finished", case.each(case.call))
    case.rig.advance(ALL_OVER)
    print("ringing", case.each(case.ring))
    print("peaks", [case.an_invite() for _ in range(5)], [case.a_refresh() for _ in range(5)])
    gc.enable()


if __name__ == "__main__":
    main()
