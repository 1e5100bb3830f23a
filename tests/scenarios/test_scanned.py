"""Whoever knows no password learns nothing of our users: the same answers, and the same work, whether a user exists,
has a phone registered, was called a moment ago, or is nobody (RFC 3261 s22.1). tests/interop/test_scanners.py
asks the same with the programs that people scan with.
"""

from __future__ import annotations

import re
from collections import Counter

from twisted.trial.unittest import TestCase

from sipd.message.message import Request
from tests.support.cases import shows
from tests.support.rig import Phone, Rig
from tests.test_cost import calls
from tests.test_steps import forget

#: Registered and called of late; known by name only; known by one hash only; and two who do not exist.
NAMES = ("1001", "1002", "1003", "2001", "2002")
METHODS = ("REGISTER", "INVITE", "OPTIONS", "MESSAGE", "SUBSCRIBE", "PUBLISH", "BYE", "REFER", "INFO", "NOTIFY", "UPDATE", "FOO")

_NONCE = re.compile(rb'nonce="[0-9a-f]+"')
_TAG = re.compile(rb";tag=[0-9a-f]{16}")


class Scanned(TestCase):
    """A server with users, some of them busy, and a stranger who asks."""

    def setUp(self) -> None:
        """1001 has registered, called and been called: whatever is kept of recent requests is kept of them. The lines that
        are the same whoever is named, such as CSeq, were met before that, so that 1001, asked on first, has no more of
        them to read than the others; nothing else is known of earlier tests."""
        forget()
        self.rig = Rig(auth={"required": True}, users={
            "1001": "secret1", "1002": {"password": "secret2", "algorithms": ["SHA-256"]}, "1003": {"ha1": {"MD5": "0" * 32}}})
        self.stranger = self.rig.phone("stranger", "192.0.2.66")
        for method in (*METHODS, "CANCEL", "ACK"):
            self.stranger.send(self.ask(method, "nobody", "before", "sip:{}@example.com"))
        self.stranger.drain()
        self.busy = self.rig.phone("1001", "192.0.2.10")
        for _ in range(2):  # once as a stranger, once as somebody known
            first = self.busy.request("REGISTER", "sip:example.com", to=f"<{self.busy.aor}>",
                                      contact=f"<{self.busy.contact}>")
            self.busy.authorized(first, self.busy.take(401))
            self.busy.take(200)
            invite = self.busy.invite("1001")
            self.busy.prove(invite)
            self.busy.drain()
        self.stranger.request("OPTIONS", "sip:example.com")  # so that none of the requests that count is its flow's first
        self.stranger.drain()

    def ask(self, method: str, name: str, turn: str, form: str, **fields: str) -> Request:
        """A request that names a user in `form`, alike for all names."""
        uri = form.format(name)
        request_uri = "sip:example.com" if method == "REGISTER" else uri
        return self.stranger.request(method, request_uri, "Event: presence", to=f"<{uri}>", contact="<sip:x@192.0.2.66>",
                                     from_=fields.get("from_", "<{}>;tag=scan").format(uri), call_id=f"{turn}{method}{name}",
                                     branch=f"z9hG4bK{turn}{method}{name}", cseq=1, send=False)

    def answered(self, phone: Phone, request: Request, name: str) -> tuple[bytes, Counter[str]]:
        """The answer, with what differs in every request and the name put out of sight, and the calls it took."""
        count = calls(lambda: phone.send(request))
        answer = phone.take().encode()
        self.rig.advance(0.1)
        answer = _TAG.sub(b";tag=*", _NONCE.sub(b'nonce="*"', answer))
        return answer.replace(name.encode(), b"NAME"), count

    def alike(self, what: str, seen: dict[str, tuple[bytes, Counter[str]]]) -> None:
        """Fails when two names can be told apart."""
        ((name, (answer, count)), *others) = seen.items()
        for other, (their_answer, their_count) in others:
            self.assertEqual(their_answer, answer, f"{what}: {other} and {name}")
            self.assertEqual(dict(their_count - count), {}, f"{what}: more for {other} than for {name}")
            self.assertEqual(dict(count - their_count), {}, f"{what}: more for {name} than for {other}")

    @shows("AUT-04", "REG-28", "22.1")
    def test_without_credentials(self) -> None:
        """Each method, to and from each user, in usual spellings of the address and odd ones: one challenge, and one
        cost, from the first time the name is asked on."""
        forms = ("sip:{}@example.com", "sip:{}@192.0.2.1", "sip:{}@192.0.2.1:5060", "sip:{}@EXAMPLE.com;user=phone", "sips:{}@example.com")
        for turn, form in enumerate(forms):
            for method in METHODS:
                for again in range(2):
                    seen = {}
                    for name in NAMES:
                        request = self.ask(method, name, f"{turn}-{again}-", form)
                        seen[name] = self.answered(self.stranger, request, name)
                    self.alike(f"{method} {form}", seen)

    @shows("AUT-04", "22.1")
    def test_without_a_from_tag(self) -> None:
        """A From as RFC 2543 has it, without a tag: its whole value is the To of a REGISTER."""
        for method in ("INVITE", "MESSAGE"):
            self.alike(method, {name: self.answered(
                self.stranger, self.ask(method, name, "bare", "sip:{}@example.com", from_="<{}>"), name) for name in NAMES})

    @shows("AUT-04", "AUT-18", "R7616-3.3-01", "22.1")
    def test_wrong_password(self) -> None:
        """Credentials with a wrong password, in both algorithms and both ways to write the login, with a nonce of ours and
        with an invented one: the same challenge and cost for users and nobody, and stale=true for none."""
        for method in ("REGISTER", "INVITE", "OPTIONS", "MESSAGE"):
            for login, tag in (("{}", ";tag=scan"), ("{}@example.com", ";tag=scan"), ("{}@EXAMPLE.com", ";tag=scan"), ("{}", "")):
                for algorithm in (0, 1):
                    for nonce in ("", "0" * 32):
                        what = f"{method} {login} {tag} {algorithm} {nonce}"
                        # the challenge is for another request, so that each of these is the first of its name
                        self.stranger.send(self.ask(method, "warm", re.sub(r"\W", "-", what), "sip:{}@example.com"))
                        challenge = self.stranger.take()
                        field = "www-authenticate" if method == "REGISTER" else "proxy-authenticate"
                        value = challenge.all(field)[algorithm]
                        challenge.set_values(field, [re.sub('nonce="[^"]*"', f'nonce="{nonce}"', value) if nonce else value])
                        seen = {}
                        for name in ("warm", *NAMES):
                            request = self.ask(method, name, re.sub(r"\W", "-", what), "sip:{}@example.com", from_="<{}>" + tag)
                            again = self.stranger.authorized(request, challenge, user=login.format(name), password="wrong",
                                                             send=False)
                            answer = seen[name] = self.answered(self.stranger, again, name)
                            self.assertNotIn(b"stale", answer[0])
                        del seen["warm"]
                        self.alike(what, seen)

    @shows("AUT-10", "CAN-07", "9.2")
    def test_cancel_and_ack(self) -> None:
        """CANCEL gets 481 and ACK nothing, whoever is named, at one cost."""
        for method in ("CANCEL", "ACK"):
            seen = {}
            for name in NAMES:
                request = self.ask(method, name, "x", "sip:{}@example.com")
                count = calls(lambda request=request: self.stranger.send(request))  # type: ignore[misc]
                answers = [_TAG.sub(b";tag=*", one.encode()).replace(name.encode(), b"NAME") for one in self.stranger.drain()]
                seen[name] = (b"".join(answers), count)
            self.alike(method, seen)
