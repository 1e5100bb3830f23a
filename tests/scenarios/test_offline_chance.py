"""Messages by chance: sent, lost, refused for a while and crashed upon in any order, and each shown once (RFC 3428)."""

from __future__ import annotations

from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from sipd.message.message import Request, Response
from sipd.records import MemoryRecords
from tests.scenarios.test_offline import text
from tests.support.cases import shows
from tests.support.rig import Rig


class Story:
    """One sender and one phone, which tells copies by Call-ID, From tag and CSeq (RFC 3261 s8.2.2.2)."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.kept: dict[tuple[str, str], str] = {}
        self.clock = Clock()
        #: What the phone has shown, in order; what it has got; whether it takes, is silent, or answers in vain or 500.
        self.shown: list[bytes] = []
        self.known: set[tuple[str, str, int]] = set()
        self.mood = "takes"
        self.sent: dict[str, bytes] = {}
        self.answers: dict[str, int] = {}
        self.log: list[str] = []
        self.begin()

    def begin(self) -> None:
        """A server over what is kept."""
        self.disk = MemoryRecords(self.kept)
        self.rig = Rig(kept=self.disk, clock=self.clock, messages={"store_offline": True})
        self.a, self.b = self.rig.phone("1001", "192.0.2.10"), self.rig.phone("1002", "192.0.2.11")

    def crash(self) -> None:
        """The server is gone from one moment to the next, and another one knows what is on its disk."""
        self.look()
        old = self.rig
        bindings = list(old.core.location.everything())
        self.disk.kept = {}  # whatever the old one may do yet does not reach the disk
        old.core.messages.hang_up()
        self.begin()
        for binding in bindings:
            self.rig.core.location.change(binding.aor, [("put", binding)], lambda reason: None)
        self.rig.core.messages.start()

    def send(self) -> None:
        """The next message."""
        body = b"message %d" % len(self.sent)
        request = text(self.a, "1002", body, call_id=f"c{len(self.sent)}", branch=f"z9hG4bKs{len(self.sent)}")
        self.sent[request.call_id] = body

    def register(self, expires: int = 3600) -> None:
        """The phone comes, or goes."""
        self.b.request("REGISTER", "sip:example.com", f"Expires: {expires}", to=f"<{self.b.aor}>",
                       call_id=f"r{self.random.random()}", contact=f"<{self.b.contact}>" if expires else "*")

    def look(self) -> None:
        """Both do what they do with what has come."""
        for message in self.a.drain():
            if isinstance(message, Response) and message.status >= 200 and message.cseq_method == "MESSAGE":
                assert message.call_id not in self.answers, "answered twice"
                self.answers[message.call_id] = message.status
        for message in self.b.drain():
            if isinstance(message, Request):
                self.asked(message)

    def asked(self, request: Request) -> None:
        """A MESSAGE at the phone."""
        if self.mood == "is silent":
            return
        if self.mood == "is busy":
            self.b.answer(request, 500)
            return
        identity = (request.call_id, request.from_tag, request.cseq_number)
        if identity not in self.known:
            self.known.add(identity)
            self.shown.append(request.body)
        if self.mood == "takes":
            self.b.answer(request, 200)

    def pass_time(self, seconds: float) -> None:
        """Time, and what happens in it."""
        while seconds > 0:
            self.rig.advance(0.4)
            self.look()
            seconds -= 0.4

    def step(self) -> None:
        """Something happens."""
        what = self.random.choice(["send", "send", "register", "leave", "crash", "wait", "long", "mood"])
        self.log.append(f"{self.clock.seconds():.1f} {what}")
        if what == "send":
            self.send()
        elif what == "register":
            self.register()
        elif what == "leave":
            self.register(0)
        elif what == "crash":
            self.crash()
        elif what == "mood":
            self.mood = self.random.choice(["takes", "is silent", "answers in vain", "is busy"])
            self.log.append(self.mood)
        self.pass_time({"wait": 20.0, "long": 90.0}.get(what, self.random.choice([0.0, 0.4, 2.0])))

    def end(self) -> None:
        """The phone is there and takes what comes."""
        self.pass_time(40.0)
        self.mood = "takes"
        self.register()
        self.pass_time(200.0)
        self.register()
        self.pass_time(50.0)


class ChanceTests(TestCase):
    """Many stories."""

    @shows("NIT-02", "8.2.2.2", "3428 7")
    def test_each_once(self) -> None:
        """Whatever happens: what was answered 2xx is shown, everything is shown once at most, and in the end nothing
        waits and no bug was seen."""
        stored = 0
        for seed in range(60):
            story = Story(seed)
            for _ in range(25):
                story.step()
            story.end()
            told = f"seed {seed}: {', '.join(story.log)}\n{story.answers} {story.shown}"
            taken = [story.sent[call_id] for call_id, status in story.answers.items() if status < 300]
            self.assertEqual([body for body in taken if body not in story.shown], [], told)
            self.assertEqual(len(story.shown), len(set(story.shown)), told)
            self.assertEqual([kind for kind, _ in story.kept if kind != "last"], [], told)
            self.assertEqual(story.rig.bugs, [], told)
            self.assertEqual(story.rig.core.messages.boxes.messages, {}, told)
            stored += sum(1 for status in story.answers.values() if status == 202)
        self.assertGreater(stored, 150)
