"""Calls out over trunks: numbers that begin with 0 go to the peers that a test names, and a carrier that asks for
credentials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sipd.auth.digest import ha1 as secret_of
from sipd.auth.digest import parse_credentials, request_digest
from sipd.calls.call import Call
from sipd.message.message import Request
from sipd.proxy.targets import Plan, Stage, Target
from tests.support.rig import Phone, Rig

CARRIER = "203.0.113.10"
OTHER = "203.0.113.20"
#: A peer that is called and never registered at.
ACCOUNT = {"uri": f"sip:{CARRIER}", "username": "acct", "password": "pass"}


class _Once:
    """A plan of stages, one after the other."""

    def __init__(self, stages: list[Stage]) -> None:
        self._stages = stages

    def next(self, status: int, done: Callable[[Stage | None], None]) -> None:
        """See Plan."""
        done(self._stages.pop(0) if self._stages else None)


class ToTrunks:
    """Routing: what begins with 0 goes to these groups of peers without that 0."""

    def __init__(self, rig: Rig, groups: Sequence[Sequence[str]]) -> None:
        self._rig = rig
        self._groups = groups

    def plan(self, request: Request, aor: str, caller: str = "", call: Call | None = None) -> Plan | None:
        """See Router."""
        number = request.uri.user or ""
        if not number.startswith("0"):
            return None
        stages = []
        for group in self._groups:
            found = [self._rig.core.trunks.target_to(name, number[1:]) for name in group]
            targets: list[Target] = [target for target in found if target is not None]
            for target in targets:
                target.hasty = group is not self._groups[-1]
            stages.append(Stage([targets]))
        return _Once(stages)


def trunk_rig(wanted: dict[str, Any] | None = None, *, other: dict[str, Any] | None = None,
              groups: Sequence[Sequence[str]] = (("carrier",),), **settings: Any) -> tuple[Rig, Phone, Phone]:
    """A server with one peer, or two, a user 1001 and the carrier."""
    peers = {"carrier": {**ACCOUNT, **(wanted or {})}}
    if other is not None:
        peers["other"] = {**ACCOUNT, "uri": f"sip:{OTHER}", **other}
    rig = Rig(peers=peers, **settings)
    rig.core.call_out(rig.config)
    rig.core.route.router = ToTrunks(rig, groups)
    return rig, rig.phone("1001", "192.0.2.50"), rig.phone("carrier", CARRIER)


def asks(nonce: str = "n1", *, proxy: bool = True, algorithm: str = "MD5", realm: str = "carrier.example",
         more: str = "") -> str:
    """A challenge, as a header line."""
    name = "Proxy-Authenticate" if proxy else "WWW-Authenticate"
    return f'{name}: Digest realm="{realm}", nonce="{nonce}", qop="auth", algorithm={algorithm}{more}'


def proved(request: Request, password: str = "pass") -> list[tuple[str, str, int]]:
    """The (nonce, algorithm, nonce count) of each right answer to a challenge in a request; a wrong one fails."""
    found = []
    for value in [*request.all("proxy-authorization"), *request.all("authorization")]:
        one = parse_credentials(value)
        assert one is not None
        secret = secret_of(one.algorithm, one.username, one.realm, password)
        wanted = request_digest(one.algorithm, secret, request.method, one.uri, one.nonce, one.qop, one.nc, one.cnonce)
        assert one.response == wanted and one.uri == request.uri_text, value
        found.append((one.nonce, one.algorithm, int(one.nc, 16)))
    return found


def challenged(carrier: Phone, method: str, line: str = "", status: int = 407) -> tuple[Request, Request]:
    """The carrier asks for credentials; the request before and after."""
    first = carrier.take(method)
    carrier.answer(first, status, line or asks(proxy=status == 407))
    if method == "INVITE":
        ack = carrier.take("ACK")
        assert ack.cseq_number == first.cseq_number and ack.via.branch == first.via.branch
    again = carrier.take(method)
    assert isinstance(first, Request) and isinstance(again, Request)
    return first, again


def over(rig: Rig, seconds: float = 70.0) -> None:
    """As `Rig.finish`, for a server with peers."""
    rig.core.hang_up(1.0)
    rig.finish(seconds)
