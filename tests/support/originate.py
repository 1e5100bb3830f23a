"""A server that begins calls, and the two phones it calls, for scenarios in virtual time."""

from __future__ import annotations

from typing import Any

from sipd.controller.call import Originated
from sipd.message.message import Request, Response
from tests.support.rig import Phone, Rig

#: What the phones offer.
FIRST = (b"v=0\r\no=first 7 7 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8\r\n"
         b"a=rtpmap:0 PCMU/8000\r\n")
SECOND = (b"v=0\r\no=second 9 9 IN IP4 192.0.2.11\r\ns=-\r\nc=IN IP4 192.0.2.11\r\nt=0 0\r\n"
          b"m=audio 5000 RTP/AVP 0\r\na=sendrecv\r\n")
SDP = "Content-Type: application/sdp"
ABLE = "Allow: INVITE, ACK, BYE, CANCEL, REFER, NOTIFY"


class Play:
    """A server and two registered phones."""

    def __init__(self, **settings: Any) -> None:
        self.rig = Rig(**settings)
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        for phone in (self.a, self.b):
            self.register(phone)

    def register(self, phone: Phone) -> None:
        """The phone registers, with credentials where they are wanted."""
        if not self.rig.config.auth.required:
            phone.register()
            return
        challenge = phone.register(take=401)
        request = phone.request("REGISTER", f"sip:{self.rig.domain}", "Expires: 3600", to=f"<{phone.aor}>",
                                contact=f"<{phone.contact}>", send=False)
        phone.authorized(request, challenge)
        phone.take(200)

    def originate(self, way: str = "", **values: Any) -> Originated:
        """Begins the call, and lets the first messages come through."""
        call = self.rig.core.controller.originate("1001", "1002", way, **values)
        self.rig.advance(0.1)
        return call

    def ringing(self, way: str = "", **values: Any) -> tuple[Originated, Request]:
        """As `originate`, up to the ringing of the first phone; its INVITE too."""
        call = self.originate(way, **values)
        invite: Request = self.a.take("INVITE")
        self.a.answer(invite, 180)
        self.rig.advance(0.1)
        return call, invite

    def answer(self, phone: Phone, *extra: str, body: bytes) -> tuple[Request, Response]:
        """The phone rings and answers the INVITE it got, and takes the ACK."""
        invite = phone.take("INVITE")
        phone.answer(invite, 180)
        sent = phone.answer(invite, 200, SDP, *extra, body=body)
        self.rig.advance(0.1)
        return invite, sent

    def finish(self) -> None:
        """Nothing is left."""
        self.rig.finish(100.0)

    def notify(self, refer: Request, invite: Request, sent: Response, line: str, state: str = "active;expires=60",
               cseq: int = 1) -> None:
        """The first phone tells how its own call goes."""
        self.a.in_callee_dialog("NOTIFY", invite, sent, "Event: refer", f"Subscription-State: {state}",
                                "Content-Type: message/sipfrag;version=2.0", body=line.encode(), cseq=cseq,
                                contact=f"<{self.a.contact}>")
        self.rig.advance(0.1)
        self.a.take(200)

    def hang_up(self, phone: Phone, invite: Request, sent: Response, cseq: int = 20) -> None:
        """The phone hangs up, and has its answer."""
        phone.in_callee_dialog("BYE", invite, sent, cseq=cseq)
        self.rig.advance(0.1)
        phone.take(200)

    def taken_bye(self, phone: Phone) -> None:
        """The server hangs up on the phone."""
        phone.answer(phone.take("BYE"), 200)
        self.rig.advance(0.1)

    def referred(self, way: str = "") -> tuple[Originated, Request, Response, Request]:
        """Up to the REFER, which is taken and not answered."""
        call = self.originate(way)
        invite, sent = self.answer(self.a, ABLE, body=FIRST)
        self.a.take("ACK")
        return call, invite, sent, self.a.take("REFER")

    def connected(self) -> tuple[Originated, Request, Response, Request, Response]:
        """A call held in two dialogs, up to the ACKs."""
        call = self.originate("3pcc")
        one, first = self.answer(self.a, body=FIRST)
        self.a.take("ACK")
        two, second = self.answer(self.b, body=SECOND)
        again = self.a.take("INVITE")
        self.a.answer(again, 200, SDP, body=FIRST)
        self.rig.advance(0.1)
        self.a.take("ACK")
        self.b.take("ACK")
        return call, one, first, two, second


def steps(call: Originated) -> list[str]:
    """What happened, in short: step and party."""
    return [f"{step['step']} {step['party']}".strip() for step in call.steps]
