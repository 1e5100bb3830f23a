"""Messages made to cost much: what strangers and hostile phones can ask of us has a bound (s26.3.2.4)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message import compose
from tests.support.rig import Rig

#: Bounds on messages that let through what the tests below send, so that what comes behind them is seen.
WIDE = {"message_size": 1000000, "header_size": 1000000, "header_length": 1000000, "header_count": 10000}


class Strangers(TestCase):
    """Nobody who has not said who they are takes room from those who call."""

    def test_options_take_no_room(self) -> None:
        """OPTIONS to the server by the hundred, more than there may be transactions, keep nothing; a call goes on. A
        repeat gets the same answer."""
        rig = Rig(limits={"transactions": 100})
        a, b, stranger = rig.phone("1001"), rig.phone("1002"), rig.phone("x")
        rig.binding("1002", b.contact)
        for _ in range(150):
            stranger.request("OPTIONS", "sip:example.com")
        self.assertEqual({response.status for response in stranger.take_all(200)}, {200})
        self.assertEqual(len(rig.core.layer.servers), 0)
        asked = stranger.request("OPTIONS", "sip:example.com")
        first = stranger.take(200)
        stranger.send(asked)
        self.assertEqual(stranger.take(200).encode(), first.encode())
        invite = a.invite("1002")
        a.take(100)
        b.refuse(486)
        a.ack(a.take(486), invite)
        rig.finish()

    def test_thousands_of_zeros(self) -> None:
        """Numbers longer than Python likes to read, over UDP and TCP, are read and not taken for a bug."""
        rig = Rig()
        for transport in ("udp", "tcp"):
            a = rig.phone("1001", transport=transport)
            for name in ("CSeq", "Content-Length", "Max-Forwards", "Expires", "Max-Breadth"):
                sent = a.request("OPTIONS", "sip:example.com", send=False)
                value = "0" * 5000 + (f"{sent.cseq_number} OPTIONS" if name == "CSeq" else "0")
                if name.lower() in sent.first:
                    sent.set(name.lower(), value)
                else:
                    sent.add(name, value)
                a.send(sent)
                a.take(200)
        rig.finish()


class Phones(TestCase):
    """A phone that may register or call cannot stop the server with one message."""

    def calls(self, act: Callable[[], Any]) -> int:
        """Python-level calls that `act` costs."""
        count = 0

        def seen(frame: FrameType, what: str, argument: Any) -> None:
            nonlocal count
            count += what == "call"

        before = sys.getprofile()
        sys.setprofile(seen)
        try:
            act()
        finally:
            sys.setprofile(before)
        return count

    def test_thousands_of_contacts(self) -> None:
        """A REGISTER with thousands of contacts, in one line or in many, added or removed, is refused before they are
        compared with each other, where a message may hold so many; as many as can be replaced at once are not too many.
        """
        rig = Rig(limits=WIDE)
        a = rig.phone("1001")
        for contacts, expires in ((3000, 60), (3000, 0)):
            values = [f"<sip:{n}@192.0.2.10>;expires={expires}" for n in range(contacts)]
            for lines in ([f"Contact: {', '.join(values)}"], [f"m: {value}" for value in values]):
                cost = self.calls(partial(a.request, "REGISTER", "sip:example.com", *lines,
                                          to="<sip:1001@example.com>", contact=""))
                self.assertEqual(a.take(403).reason, "Too Many Contacts")
                self.assertLess(cost, 25_000)
        old = [f"<sip:old{n}@192.0.2.10>;expires=60" for n in range(10)]
        new = [value.replace("old", "new") for value in old] + [value.replace("=60", "=0") for value in old]
        for values in (old, new):
            a.request("REGISTER", "sip:example.com", f"Contact: {', '.join(values)}", to="<sip:1001@example.com>",
                      contact="")
            self.assertEqual(len(a.take(200).all("contact")), 10)
        self.assertTrue(all("new" in binding.contact for binding in rig.core.location.bindings("1001@example.com")))

    def test_thousands_of_redirections(self) -> None:
        """With `recurse`, one 302 with a thousand contacts makes ten requests, not a thousand; what is left of it goes
        to the caller should they all fail."""
        rig = Rig(proxy={"recurse": True}, limits=WIDE)
        a, b = rig.phone("1001"), rig.phone("1002")
        victim = rig.phone("victim")
        rig.binding("1002", b.contact)
        invite = a.invite("1002")
        a.take(100)
        got = b.take("INVITE")
        values = ", ".join(f"<sip:{n}@{victim.address}>" for n in range(1000))
        b.answer(got, 302, f"Contact: {values}")
        b.take("ACK")
        forks = victim.take_all("INVITE")
        self.assertEqual(len(forks), 10)
        for fork in forks:
            victim.answer(fork, 486)
        self.assertEqual(len(victim.take_all("ACK")), 10)
        a.ack(a.take(), invite)
        rig.finish()

    def test_thousand_places_out_of_reach(self) -> None:
        """Contacts whose names lead to hundreds of addresses of a family we do not have are tried one after the other,
        not one inside the other: the call ends with an answer."""
        rig = Rig(registrar={"max_contacts": 60, "min_expires": 2})
        a = rig.phone("1001")
        for n in range(60):
            rig.dns.address(f"h{n}.example.net", *(f"2001:db8::{n:x}:{one:x}" for one in range(1, 17)))
            rig.binding("1002", f"sip:1002@h{n}.example.net:5060", q=1000 - n)
        for _ in range(2):  # looked up, and known from before
            invite = a.invite("1002")
            a.take(100)
            rig.advance(0.1)
            a.ack(a.take(500), invite)
        rig.finish()

    def test_thousands_of_reasons(self) -> None:
        """Lines added one after the other, as the Reasons of a CANCEL are, cost their number and not its square."""
        request = compose.request("CANCEL", "sip:x@example.com", [("CSeq", "1 CANCEL")])
        looked_at = 0

        class Counted(list[Any]):
            def __getitem__(self, index: Any) -> Any:
                nonlocal looked_at
                looked_at += 1
                return super().__getitem__(index)

            def __iter__(self) -> Any:
                nonlocal looked_at
                looked_at += len(self)
                return super().__iter__()

        request.headers = Counted(request.headers)
        for n in range(1000):
            request.add("Reason", str(n))
        self.assertEqual(request.all("reason"), [str(n) for n in range(1000)])
        self.assertLess(looked_at, 10_000)
