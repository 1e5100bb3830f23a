"""A trunk: one peer that is a carrier, and our registration there (RFC 3261 s10.2, RFC 3608)."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from zope.interface import classImplements

from sipd import config_trunks
from sipd.auth.keyring import Keyring
from sipd.core.uac import Ask, Outcome
from sipd.flow import Flow
from sipd.interfaces import IFlowUser
from sipd.message.address import Address
from sipd.message.errors import MalformedMessage
from sipd.message.hop import Hop
from sipd.message.message import Response
from sipd.message.uri import escape
from sipd.message.values import delta_seconds
from sipd.peers import registration as machine
from sipd.peers.registration import Registration
from sipd.proxy.targets import Target

if TYPE_CHECKING:
    from sipd.core.uac import Sending
    from sipd.peers.trunks import Trunks
    from sipd.wheel import Timer

#: How long a registration that is taken away may take (seconds).
LEAVING = 4.0
#: The longest binding that is believed (seconds).
_LONGEST = 86400
#: Values of Service-Route that are kept, and the characters of one.
_ROUTES, _ROUTE_LENGTH = 10, 500


class Trunk:
    """One carrier, and the account there."""

    __slots__ = ("name", "config", "contact", "aor", "keyring", "registration", "hop", "until", "reason", "since",
                 "service_route", "_trunks", "_ask", "_sending", "_timer", "_due_at", "_flow", "_over",
                 "_told", "_stood")

    def __init__(self, trunks: Trunks, name: str, config: config_trunks.Peer) -> None:
        self._trunks = trunks
        self.name = name
        self.config = config
        #: The user part of our Contact: the same after a restart.
        self.contact = config.contact_user or trunks.opaque(name)
        #: The address-of-record that gets its calls, "" for nobody's.
        self.aor = trunks.aor(config.inbound_to) if config.inbound_to else ""
        self.keyring = Keyring(config.auth_username or config.username, config.password.get_secret_value(),
                               trunks.entropy)
        self.registration = Registration(config.register_expires, trunks.chance)
        #: Where it is registered, or was tried last.
        self.hop: Hop | None = None
        #: When the binding ends (seconds of the clock), 0 without one.
        self.until = 0.0
        #: What the registrar said last, and since when the state is what it is (seconds since the epoch).
        self.reason = ""
        self.since = trunks.wall()
        #: Route values of later requests to it (RFC 3608 s5).
        self.service_route: tuple[str, ...] = ()
        self._ask = Ask(
            "REGISTER", self.target(True), f"<{self.account()}>", f"<{self.account()}>;tag={trunks.identifiers.tag()}",
            trunks.identifiers.tag(), contact=self.contact, keyring=self.keyring)
        # RFC 3263 s4.4: what is refreshed goes to the same server, as long as that one answers
        self._ask.chance = blake2b(name.encode(), key=trunks.secret[:64], digest_size=4).digest()
        self._sending: Sending | None = None
        self._timer: Timer | None = None
        self._due_at = 0.0
        self._flow: Flow | None = None
        self._over: Callable[[], None] | None = None
        #: When it was told to stop there was something to take away.
        self._stood = False
        #: The state that the journal knows.
        self._told = machine.UNREGISTERED

    # --- addresses

    def account(self) -> str:
        """The address-of-record at the carrier, as a URI (s10.2); the carrier's own without an account."""
        carrier = self.config.carrier
        host = self.config.from_domain or carrier.host
        user = escape(self.config.username)
        return f"{carrier.scheme}:{user}@{host}" if user else f"{carrier.scheme}:{host}"

    def target(self, registering: bool = False) -> Target:
        """Where requests to the carrier go: by the proxy of the configuration or straight, and what is no REGISTER by
        the Service-Route (RFC 3608 s5)."""
        route = self.config.route
        routes = () if registering else self.service_route
        return Target(str(self.config.carrier), routes or ((route,) if route else ()))

    # --- the registration

    def start(self) -> None:
        """Registers now, if it is to register at all."""
        if self.config.registers:
            self._perform(self.registration.start())

    def start_after(self, seconds: float) -> None:
        """Registers in a while."""
        self._start_timer(seconds)

    def stop(self, over: Callable[[], None]) -> None:
        """Takes the registration away; `over` is called once, when that is answered or was waited for long enough."""
        self._over = over
        self._stood = self.until > self._trunks.wheel.now
        self._leave_flow()
        self._perform(self.registration.stop())

    def flow_failed(self, reason: str) -> None:
        """See IFlowUser: the connection over which we are registered is gone."""
        self._flow = None
        self._perform(self.registration.lost())

    def _perform(self, outputs: list[machine.Output]) -> None:
        for kind, payload in outputs:
            if kind == machine.SEND:
                self._send(payload)
            elif kind == machine.START:
                self._start_timer(payload)
            elif kind == machine.STOP:
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
            elif kind == machine.ABANDON:
                if self._sending is not None:
                    self._sending.cancel()
                    self._sending = None
            elif kind == machine.OVER:
                self._note(Outcome(0, "taken away"))
                over, self._over = self._over, None
                if over is not None:
                    over()

    def _start_timer(self, seconds: float) -> None:
        wheel = self._trunks.wheel
        self._due_at = wheel.now + seconds
        self._timer = wheel.start(seconds, self._due, None)

    def _due(self, nothing: None) -> None:
        self._timer = None
        self.start()

    def _send(self, expires: int) -> None:
        ask = self._ask
        ask.expires = expires
        ask.patience = 0.0 if expires else LEAVING
        self._sending = self._trunks.uac.send(ask, self._answered)
        if self._sending is None:
            self._answered(Outcome(0, "too much is under way here"))

    def _answered(self, outcome: Outcome) -> None:
        self._sending = None
        ask, response = self._ask, outcome.response
        granted = 0
        if outcome.hop is not None:
            self.hop = outcome.hop
        if ask.expires:
            # what it wants at the least is asked for at once the next time
            self.registration.expires = ask.expires
        if response is not None and 200 <= outcome.status < 300 and ask.expires:
            granted = granted_seconds(response, self.contact, ask.expires)
            self.until = self._trunks.wheel.now + granted if granted else 0.0
            self.service_route = service_route(response)
            self._trunks.found(self.name, outcome.hops)
            self._join_flow(outcome.flow)
        else:
            self._leave_flow()
        outputs = self.registration.answered(outcome.status, granted, outcome.retry_after)
        if self.registration.state in (machine.REFUSED, machine.UNREGISTERED):
            self.until = 0.0
            self._trunks.found(self.name, ())
        if machine.OVER not in (kind for kind, _ in outputs):
            self._note(outcome)
        self._perform(outputs)

    def _join_flow(self, flow: Flow | None) -> None:
        """A connection that ends takes the carrier's way to us with it: it is made anew then."""
        self._leave_flow()
        if flow is not None and flow.reliable:
            self._flow = flow
            flow.users.add(self)

    def _leave_flow(self) -> None:
        flow, self._flow = self._flow, None
        if flow is not None:
            flow.users.discard(self)

    def _note(self, outcome: Outcome) -> None:
        """Keeps what people ask for, and writes to the journal what is new."""
        state = self.registration.state
        self.reason = f"{outcome.status} {outcome.reason}".strip() if outcome.status else outcome.reason
        if state != self._told:
            self.since = self._trunks.wall()
        journal = self._trunks.journal
        was, self._told = self._told, state
        if not journal.sinks:
            return
        seconds = round(self.registration.wait)
        if state == machine.REGISTERED and was != state:
            journal.write("peer-registered", peer=self.name, hop=str(self.hop or "its server"),
                          expires=round(self.until - self._trunks.wheel.now))
        elif state == machine.REFUSED:
            journal.write("peer-refused", peer=self.name, reason=self.reason, seconds=seconds)
        elif state == machine.FAILED:
            journal.write("peer-failed", peer=self.name, reason=self.reason, seconds=seconds)
        elif state == machine.UNREGISTERED and self._stood:
            journal.write("peer-unregistered", peer=self.name)

    # --- for people

    def row(self) -> dict[str, Any]:
        """What a person wants to know; times in seconds, `next` until the next REGISTER."""
        now = self._trunks.wheel.now
        return {
            "name": self.name,
            "uri": str(self.config.carrier),
            "account": self.account(),
            "state": self.registration.state if self.config.registers else "not wanted",
            "reason": self.reason,
            "since": round(self.since),
            "server": str(self.hop or ""),
            "address": self.hop.address if self.hop is not None else self.config.carrier.host,
            "port": self.hop.port if self.hop is not None else self.config.carrier.port or 0,
            "transport": self.hop.transport if self.hop is not None else self.config.carrier.param("transport") or "",
            "expires": max(0, round(self.until - now)),
            "next": max(0, round(self._due_at - now)) if self._timer is not None else 0,
            "contact": self.contact if self.config.registers else "",
            "user": self.aor,
            "service_route": list(self.service_route),
        }


classImplements(Trunk, IFlowUser)


def granted_seconds(response: Response, contact: str, asked: int) -> int:
    """For how long a 2xx to a REGISTER grants the contact with that user part (s10.2.4, s10.3 step 8), 0 for not at
    all. Some registrars list the contact under another address: what they say in general counts then."""
    in_general = delta_seconds(response.first.get("expires", ""))
    usual = asked if in_general is None else in_general
    ours: list[int] = []
    others: list[int] = []
    for value in response.values("contact"):
        try:
            address = Address.parse(value)
            seconds = delta_seconds(address.params.get("expires") or "")
            (ours if address.uri.user == contact else others).append(usual if seconds is None else seconds)
        except MalformedMessage:
            continue
    if not ours:
        ours = others if len(others) == 1 else [usual]
    return min(max(ours), _LONGEST)


def service_route(response: Response) -> tuple[str, ...]:
    """The Service-Route of a 2xx to a REGISTER (RFC 3608 s6.1), none of it where a part cannot be used."""
    routes = response.values("service-route")
    try:
        if len(routes) > _ROUTES or any(len(value) > _ROUTE_LENGTH or not Address.parse(value).uri.is_sip
                                        for value in routes):
            return ()
    except MalformedMessage:
        return ()
    return tuple(routes)
