"""Calls that the server begins, with phones that do anything at any time: nothing breaks, and nothing stays."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from sipd.message.message import Request, Response
from tests.support.originate import ABLE, FIRST, SDP, SECOND, Play
from tests.support.rig import Phone

PLAYS = 120
_BODIES = (FIRST, SECOND, FIRST + b"m=video 4002 RTP/AVP 99\r\n", b"", b"v=0\r\nnonsense", b"\xff\xfe" * 40,
           FIRST.replace(b"RTP/AVP", b"RTP/SAVP"), SECOND.replace(b"m=audio 5000", b"m=audio 0"))
_LINES = (b"SIP/2.0 100 Trying", b"SIP/2.0 180 Ringing\r\n", b"SIP/2.0 200 OK", b"SIP/2.0 486 Busy", b"hello", b"",
          b"SIP/2.0 999 x", b"\xff\xff")


class _Robot:
    """A phone that throws dice for all it does, and keeps nothing but the dialogs it was called into."""

    def __init__(self, phone: Phone, dice: Random) -> None:
        self.phone = phone
        self.dice = dice
        self.dialogs: list[tuple[Request, Response]] = []
        self.cseq = 10

    def live(self) -> None:
        """Does something about what came, and perhaps something else."""
        dice = self.dice
        for message in self.phone.drain():
            if isinstance(message, Request) and message.method != "ACK" and dice.random() < 0.85:
                self._answer(message)
        if self.dialogs and dice.random() < 0.08:
            self._ask(*dice.choice(self.dialogs))

    def _answer(self, request: Request) -> None:
        dice, phone = self.dice, self.phone
        if request.method != "INVITE":
            phone.answer(request, dice.choice((200, 200, 200, 202, 481, 500, 603)))
            return
        if dice.random() < 0.6:
            phone.answer(request, dice.choice((180, 183, 199)))
        status = dice.choice((0, 200, 200, 200, 200, 486, 603, 302, 503))
        if status == 0:
            return
        body = dice.choice(_BODIES[:2]) if dice.random() < 0.6 else dice.choice(_BODIES)
        extra = [SDP] if body else []
        if status == 200 and dice.random() < 0.5:
            extra.append(ABLE)
        for _ in range(dice.choice((1, 1, 2))):
            answer = phone.answer(request, status, *extra, body=body)
        if status == 200:
            self.dialogs.append((request, answer))

    def _ask(self, invite: Request, answer: Response) -> None:
        dice = self.dice
        self.cseq += dice.choice((1, 1, 1, 0, -1))
        method = dice.choice(("BYE", "INVITE", "INVITE", "UPDATE", "INFO", "NOTIFY", "NOTIFY", "REFER", "OPTIONS", "PRACK",
                              "ACK", "CANCEL"))
        extra: list[str] = []
        body = b""
        if method in ("INVITE", "UPDATE", "ACK"):
            body = dice.choice(_BODIES)
            extra = [SDP] if body else []
        elif method == "NOTIFY":
            body = dice.choice(_LINES)
            extra = ["Event: " + dice.choice(("refer", "refer;id=2", "presence", "")),
                     "Content-Type: message/sipfrag", "Subscription-State: " + dice.choice(("active", "terminated"))]
        elif method == "REFER":
            extra = ["Refer-To: <sip:1003@example.com>"]
        self.phone.in_callee_dialog(method, invite, answer, *extra, body=body, cseq=max(1, self.cseq))


class ChanceTests(SynchronousTestCase):
    """Many calls, each with dice of its own."""

    def test_anything(self) -> None:
        """Whatever the phones do, and whenever the person gives up: no bug, no timer, no table holds anything once the
        phones have fallen silent; and there were calls of every end."""
        ends: set[str] = set()
        for seed in range(PLAYS):
            dice = Random(seed)
            play = Play()
            call = play.rig.core.controller.originate("1001", "1002", dice.choice(("", "3pcc", "refer")), 20.0)
            robots = [_Robot(phone, dice) for phone in (play.a, play.b)]
            gives_up = dice.choice((0.5, 3.0, 12.0, 1e9, 1e9))
            for step in range(160):
                play.rig.advance(0.5)
                for robot in robots:
                    robot.live()
                if step * 0.5 > gives_up:
                    call.give_up()
            ends.add(f"{call.steps[-1]['step']} {call.way}".strip())
            # silence: what is held is asked after ten minutes
            play.rig.advance(900, 2.0)
            for phone in (play.a, play.b):
                phone.drain()
            try:
                play.rig.finish(120.0)
            except AssertionError as error:
                raise AssertionError(f"play {seed}: {call.steps}\n{str(error)[:3000]}") from error
        self.assertLessEqual({"failed", "connected refer", "hung up 3pcc"}, ends)
