"""The route: what happens to a request, top to bottom, on one screen. Policy is here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from sipd.auth.authenticator import Unauthenticated, owns
from sipd.core import checks, content, uas
from sipd.core.callers import NOT_PASSED_ON, Callers
from sipd.core.places import Places
from sipd.core.refusals import Refusals
from sipd.core.serving import Events, Serving
from sipd.flow import Flow
from sipd.journal import Journal
from sipd.message import compose
from sipd.message.address import Address, uri_of
from sipd.message.errors import MalformedMessage, Reject
from sipd.message.hop import join_host_port
from sipd.message.message import Message, Request
from sipd.message.uri import Uri
from sipd.peers.policy import GUEST, TRUNK, WITHIN, Policy
from sipd.proxy.forward import has_looped, loop_mark
from sipd.proxy.route_headers import RouteHeaders, Routing
from sipd.proxy.targets import Groups, Plan, Target, answering, for_request, groups_of
from sipd.transport.via_rules import mark

if TYPE_CHECKING:
    from sipd.auth.credentials import Users
    from sipd.binding import Binding
    from sipd.calls.call import Call
    from sipd.calls.table import Calls
    from sipd.location.service import Location
    from sipd.peers.policy import Policy
    from sipd.proxy.dressing import Dress, Wardrobe
    from sipd.proxy.proxy import Proxy
    from sipd.registrar.registrar import Registrar
    from sipd.transaction.key import Key
    from sipd.transaction.layer import ServerTransaction, TransactionLayer

#: A SIP URI with a password in it.
_PASSWORD: Final = re.compile(r"(sips?:[^:@]*):[^@]*@", re.IGNORECASE)
#: Refusals that go out in a transaction: what is said of a user once it is known who asks.
_IN_A_TRANSACTION: Final = frozenset({404, 405, 480, 486})


class Router(Protocol):
    """Decides by the configuration where requests for our addresses go."""

    def plan(self, request: Request, aor: str, caller: str = "", call: Call | None = None) -> Plan | None:
        """What is to be tried, None where the location service alone decides. `caller` is the user's address-of-record,
        the trunk's name, or "" for a guest. Raises Reject."""


class OwnDialog(Protocol):
    """A dialog that this server is a party of."""

    def request(self, request: Request, key: Key) -> None:
        """A request in it, which is answered. Raises Reject."""

    def ack(self, request: Request) -> None:
        """An ACK in it."""


class Keeping(Plan, Protocol):
    """The plan for a MESSAGE that is kept when nobody can be reached."""

    #: Where it goes first: nowhere while older ones are on their way; and how long (seconds) each group is waited for.
    groups: Groups
    patience: float


class Offline(Protocol):
    """Keeps a MESSAGE whose receiver cannot be reached."""

    def plan(self, request: Request, aor: str, bindings: list[Binding], groups: Groups) -> Keeping:
        """For one that goes to these bindings, in these groups."""

    def after(self, request: Request, aor: str, first: Plan) -> Plan:
        """For one that goes where `first` says."""


#: Methods of events (RFC 6665, RFC 3903).
_EVENTS: Final = frozenset({"SUBSCRIBE", "PUBLISH", "NOTIFY"})
_ABOUT: Final = frozenset({"SUBSCRIBE", "PUBLISH"})


class Route:
    """The core that every request without a transaction comes to.

    `open_registrar`: anyone may register any name; `guests`: strangers may call our users without credentials;
    `dialogs`: those we are a party of, by the user part of our Contact; `unreachable`: the bindings (as
    address-of-record and contact) that do not answer.
    """

    def __init__(self, layer: TransactionLayer, places: Places, users: Users, callers: Callers,
                 refusals: Refusals, routes: RouteHeaders, registrar: Registrar, location: Location, proxy: Proxy,
                 calls: Calls, wardrobe: Wardrobe, journal: Journal, *, auth_required: bool = True,
                 open_registrar: bool = False, guests: bool = False, unreachable: Collection[tuple[str, str]] = (),
                 dialogs: Mapping[str, OwnDialog] | None = None) -> None:
        self._layer = layer
        self._places = places
        self._users = users
        self._callers = callers
        self._refusals = refusals
        self._routes = routes
        self._registrar = registrar
        self._location = location
        self._proxy = proxy
        self._calls = calls
        self._journal = journal
        self._unreachable = unreachable
        self._dialogs = {} if dialogs is None else dialogs
        self.serving = Serving(layer, refusals)
        #: How requests are dressed in dialogs with trunks.
        self._wardrobe = wardrobe
        #: Asked where a request for one of our addresses goes before the location service is; None where nothing but
        #: that decides.
        self.router: Router | None = None
        #: Told of each MESSAGE to one of our users; None where nothing is kept for them.
        self.offline: Offline | None = None
        #: Serves subscriptions and publications; None: they are passed on.
        self.events: Events | None = None
        self.configure(auth_required, open_registrar, guests)

    def configure(self, auth_required: bool, open_registrar: bool, guests: bool) -> None:
        """Other answers to who may register and call, for the next request."""
        self._auth_required = auth_required
        self._open_registrar = open_registrar
        self._guests = guests
        self._callers.configure(auth_required, guests)

    # --- the screen

    def request(self, request: Request, key: Key) -> None:
        """A new request: served, forwarded, or refused."""
        try:
            self._serve(request, key)
        except Reject as refusal:
            self._refuse(request, key, refusal)
        except MalformedMessage as error:
            self._refuse(request, key, Reject(error.status, error.reason))

    def _serve(self, request: Request, key: Key) -> None:
        via = request.via
        assert via is not None
        if via.head.group or via.maddr is not None:
            checks.via(request)                                  # 400: one answer for many
        written = request.uri_text
        uri = checks.request_uri(request)                        # 400, 416
        routing = self._routes.preprocess(request)               # s16.4
        if request.uri_text != written:
            uri = checks.request_uri(request)                    # rewritten
        # s16.5: a Route left over, or a maddr that is not us, says where it goes
        elsewhere = routing.routes or (uri.params and uri.param("maddr"))
        ours = "" if elsewhere else self._places.aor(uri)
        if ours and request.method == "OPTIONS" and (not uri.user or self._at_contact(request, uri)):
            # whoever asks; also with no hop left (s16.3 step 3)
            self._options(request, uas.SUBSCRIPTION_CAPABILITIES if uri.user else uas.CAPABILITIES)
            return
        checks.proxy_require(request)                            # 420
        if ours and request.method == "REGISTER":
            self._register(request, key, uri)                    # it has arrived: also with no hop left
            return
        checks.hops_left(request)                                # 483
        dialog = self._dialogs.get(uri.user or "") if self._dialogs and ours else None
        if dialog is not None:
            dialog.request(request, key)                         # one of our own: whoever knows this Contact; 481
            return
        loop = loop_mark(request) if ours else ""
        if loop and has_looped(request, loop, self._places.sent_bys):
            raise Reject(482)                                    # RFC 5393
        events = self.events if request.method in _EVENTS and ours else None
        if events is not None:
            if request.to_tag and events.within(request, key):
                return                                           # in the dialog of a subscription: 403, 481
            events = events if events.serves(request, ours) else None
        policy, caller = WITHIN, ""
        if routing.direction is None or not request.to_tag:
            # 407, 401, 403, 405: never an open relay
            policy, caller = self._callers.authorize(request, ours, uri, events is None)
        wanted = ours
        if not policy.plain:
            if request.method == "OPTIONS" and self._callers.asks_us(policy, ours, uri):
                self._options(request, uas.CAPABILITIES)         # a carrier, whether we are there
                return
            ours = self._callers.called(request, policy, caller, ours, uri)  # 403, 404, 480
        if not policy.plain or not NOT_PASSED_ON.isdisjoint(request.first):
            self._callers.passed_on(request, policy, caller, ours)
        call = self._call(request, caller, ours, wanted)         # 422: an INVITE begins one, others may belong to one
        if not ours:
            self._forward_on(request, key, routing, call)        # by Route, or by the Request-URI
        elif events is not None:
            sender = caller if self._auth_required else caller or self._callers.claimed(request)
            self.serving.serve(request, key, partial(events.serve, request, ours, sender))  # 403, 404, 412, 423, 481
        elif not uri.user:
            uas.refuse_unserved(request)                         # 404, 405
        else:
            self._forward_to_user(request, key, ours, uri, loop, call, policy, caller)  # 404, 480

    # --- the steps

    def _options(self, request: Request, can: tuple[tuple[str, str], ...]) -> None:
        """s11.2. Strangers may ask, so it costs no state, and a repeat is answered anew (s8.2.7)."""
        checks.proxy_require(request)
        checks.require(request, uas.SUPPORTED)
        if request.body:
            content.check(request)
        events = () if self.events is None else self.events.allow_events
        self._refusals.refuse(request, 200, "", can + events)

    def _at_contact(self, request: Request, uri: Uri) -> bool:
        """Whether it is for the Contact of a subscription. Raises Reject (481)."""
        return self.events is not None and self.events.at_contact(request, uri)

    def _register(self, request: Request, key: Key, uri: Uri) -> None:
        """s10.3 steps 1 to 5; the registrar does the rest."""
        checks.require(request, uas.SUPPORTED)
        assert request.flow is not None
        to = uri_of(request.first["to"], request.flow.known)
        if not to.host:
            raise MalformedMessage("To is not a SIP URI")
        checks.contacts(request)
        aor = self._places.aor(to)
        user = self._callers.registering(request, aor, self._open_registrar)  # 403, 405
        if isinstance(user, Unauthenticated):
            self._refuse(request, key, user)                     # 401
            return
        there = to.host == uri.host and to.port is None and uri.port is None
        if not to.user or not there and self._places.place(to.host, to.port) != self._places.place(uri.host, uri.port):
            raise Reject(404)  # step 5: not an address-of-record of the domain in the Request-URI
        if not self._open_registrar:
            if self._users.by_aor(aor) is None and len(self._users):
                raise Reject(404)  # nobody's: no binding for it could be authorized
            if not owns(user, aor):
                raise Reject(403)  # step 4: somebody else's
        if request.body:
            content.check(request)
        # drawn where the transaction repeats the answer for as long as the phone asks, which costs a tenth of the hash
        # that follows from the request; over a stream there is no transaction any more once it is answered
        tag = "" if request.flow.reliable else self._proxy.identifiers.tag()
        answer = self.serving.begin(request, key, aor, tag)      # 482, 503
        try:
            self._registrar.register(request, aor, answer)       # 400, 403, 420, 423, 503
        except (Reject, MalformedMessage):
            answer.refused()
            raise
        answer.waits()

    def _call(self, request: Request, caller: str, ours: str, wanted: str) -> Call | None:
        """The call that a request begins or belongs to. `wanted` was called, and `ours` is who gets that."""
        calls = self._calls
        if request.method != "INVITE" or request.to_tag:
            return calls.find(request)
        call = calls.begin(request, caller, ours) if calls.values.track else None
        if call is not None and ours != wanted:
            call.note("inbound", caller, wanted, ours)
        return call

    def _forward_on(self, request: Request, key: Key, routing: Routing, call: Call | None) -> None:
        """To where Route, the flow in our token, or the Request-URI says (s16.5: the target set is the Request-URI)."""
        self._let_through(request)
        self._proxy.forward(request, key, [[self._along(request, routing)]], call=call)

    def _forward_to_user(self, request: Request, key: Key, aor: str, uri: Uri, loop: str, call: Call | None,
                         policy: Policy, caller: str) -> None:
        """s16.5: the routing of the configuration or the location service gives the targets."""
        dress = self._coming(request, policy) if policy.kind == TRUNK else None
        events = self.events
        if events is not None and (request.method in _ABOUT or request.method == "INVITE" and (
                "replaces" in request.first or aor.startswith(events.code))):
            way = events.way(request, aor, caller)  # 400, 403, 404, 480, 481, 486: a pickup, a package of a peer's
            if way is not None:
                self._let_through(request)
                self._proxy.forward(request, key, way[0], loop, way[1], call, dress)
                return
        # RFC 3428 s7: a message waits for somebody who is not there; not one of a guest, who may be anybody
        offline = self.offline if request.method == "MESSAGE" and policy.kind != GUEST else None
        if self.router is not None:
            plan = self.router.plan(request, aor, caller, call)
            if plan is not None:
                self._let_through(request)
                if offline is not None:
                    plan = offline.after(request, aor, plan)
                self._proxy.forward(request, key, [], loop, plan, call, dress)
                return
        if self._callers.somebody_limited and request.method == "INVITE" and not request.to_tag:
            self._callers.not_busy(aor, call)                    # 486
        bindings = self._location.bindings(aor)
        if self._unreachable:
            bindings = answering(bindings, self._unreachable)
        groups: Groups = groups_of(bindings, uri.scheme == "sips")
        if not groups:
            if self._at_contact(request, uri):
                raise Reject(405, headers=uas.AT_A_SUBSCRIPTION)
            if self._users.by_aor(aor) is None and not self._open_registrar:
                raise Reject(404)
            if events is not None and request.method in _ABOUT:
                raise events.unserved()                          # 489: nobody here knows the package
            if offline is None:
                raise Reject(480)
        self._let_through(request)
        if offline is not None:
            keeping = offline.plan(request, aor, bindings, groups)
            self._proxy.forward(request, key, keeping.groups, loop, keeping, call, dress, keeping.patience)
            return
        self._proxy.forward(request, key, groups, loop, None, call, dress)

    def ack(self, request: Request) -> None:
        """An ACK without a transaction: of a refusal of ours it is swallowed, of a 2xx forwarded; never answered."""
        try:
            if self._refusals.knows_ack(request):
                return
            checks.request_uri(request)
            checks.hops_left(request)
            routing = self._routes.preprocess(request)
            dialog = self._dialogs.get(request.uri.user or "") if self._dialogs and not routing.routes else None
            if dialog is not None:
                dialog.ack(request)
                return
            # where everybody counts as authenticated, whoever has a To tag is in a dialog
            if routing.direction is None and not (request.to_tag and (
                    not self._auth_required or self._callers.vouched_for(request))):
                return
            if not NOT_PASSED_ON.isdisjoint(request.first):
                self._callers.passed_on(request, WITHIN, "", "")
            ours = "" if routing.routes or request.uri.param("maddr") else self._places.aor(request.uri)
            if ours:
                self._ack_to_user(request, ours)
                return
            self._proxy.forward_ack(request, self._along(request, routing))
        except (Reject, MalformedMessage):
            return

    def _ack_to_user(self, request: Request, aor: str) -> None:
        """s16.5, s16.11 for callers that acknowledge a 2xx at the address they called: to the one who sent it after a
        fork, else to the best contact."""
        answerer = self._proxy.answerers.get((request.call_id, request.to_tag))
        targets = [answerer] if answerer is not None else []
        for group in groups_of(self._location.bindings(aor), request.uri.scheme == "sips"):
            targets += group
        for target in targets:
            if not self._places.is_our_uri(Uri.parse(target.uri)):  # an ACK in a circle would not end
                self._proxy.forward_ack(request, target)
                return

    def cancel(self, request: Request, key: Key, transaction: ServerTransaction | None) -> None:
        """s9.2, s16.10: never challenged; 200 when it names a transaction, whatever comes of it, else 481."""
        if transaction is None:
            self._refusals.refuse(request, 481)
            return
        server = self._layer.serve(request, key)
        if server is not None:
            server.answer(200, compose.response(request, 200, "", self._refusals.tag(request)))
        else:
            self._refusals.refuse(request, 200)  # the table is full: all the more reason to let a call end
        if transaction.user is not None:
            transaction.user.cancelled(request)

    def malformed(self, error: MalformedMessage, flow: Flow) -> None:
        """A request that cannot be read is answered where its sender can be told; anything else is dropped."""
        message = error.message
        if self._journal.sinks:
            self._journal.write("malformed", transport=flow.transport, reason=error.reason,
                                source=join_host_port(flow.address, flow.port))
        if isinstance(message, Request) and message.method != "ACK" and message.via is not None:
            mark(message, flow)
            self._refusals.refuse(message, error.status, error.reason if error.status == 400 else "")

    def undelivered(self, transaction: ServerTransaction, reason: str) -> None:
        """s16.9: a response that nobody takes is dropped and changes nothing; who runs this may want to know."""
        if self._journal.sinks:
            flow = transaction.flow
            self._journal.write("undelivered", source=join_host_port(flow.address, flow.port), reason=reason)

    # --- what they share

    def _refuse(self, request: Request, key: Key, refusal: Reject) -> None:
        """Without state, so that strangers cost none; what only those hear who passed the checks, in a transaction."""
        self._calls.refused(request, refusal.status, refusal.reason or compose.phrase(refusal.status))
        if self._journal.sinks and not (isinstance(refusal, Unauthenticated) and not refusal.why):
            self._note_refusal(request, refusal)
        flow = request.flow
        assert flow is not None
        # s26.1.5: a transaction repeats a refusal ten times over UDP; not to an address that may be somebody else's
        proven = flow.reliable or flow.known
        server = self._layer.serve(request, key) if proven and refusal.status in _IN_A_TRANSACTION else None
        if server is not None:
            server.answer(refusal.status, compose.response(
                request, refusal.status, refusal.reason, self._refusals.tag(request), refusal.headers))
        else:
            headers = refusal.headers
            if refusal.status == 503 and not headers:
                headers = (self._refusals.again(request),)
            self._refusals.refuse(request, refusal.status, refusal.reason, headers)

    def broken(self, request: Request) -> None:
        """A bug of ours met this request: its sender hears of it, once per request received."""
        self._calls.refused(request, 500, compose.phrase(500))
        self._refusals.refuse(request, 500)

    def _note_refusal(self, request: Request, refusal: Reject) -> None:
        flow = request.flow
        assert flow is not None
        why = refusal.why if isinstance(refusal, Unauthenticated) else refusal.reason
        # RFC 7616 s3.4: no password into the log, as it may stand in the address (s19.1.1)
        self._journal.write("refused", method=request.method, source=join_host_port(flow.address, flow.port),
                            status=refusal.status, reason=why or compose.phrase(refusal.status),
                            who=_PASSWORD.sub(r"\1@", _address_of(request, "from")))

    def _along(self, request: Request, routing: Routing) -> Target:
        """Where a request goes that is not for a user here: by the flow in our token, else by Route or Request-URI."""
        uri = request.uri_text
        if ";method" in uri.lower():
            uri = str(for_request(request.uri))  # s16.6 step 2
        target = Target(uri, listener=routing.listener)
        direction = routing.direction
        if direction is not None:
            target.flow_id, target.only = direction.flow_id, direction.only
            if direction.dress:
                target.dress = self._wardrobe.in_dialog(direction.dress)
        return target

    def _coming(self, request: Request, trunk: Policy) -> Dress:
        """What requests in a dialog with the trunk that begins it are to know of that."""
        assert request.flow is not None
        return self._wardrobe.coming(trunk.name, request.flow.address)

    def _let_through(self, request: Request) -> None:
        """Its flow is no stranger's any more."""
        flow = request.flow
        assert flow is not None
        # a guest over UDP may be anybody; a user is known since the credentials were found good
        if not self._guests or flow.reliable:
            flow.known = True


def _address_of(message: Message, name: str) -> str:
    """The URI in From or To, as people read it."""
    try:
        return Address.read(message.first.get(name, "")).uri_text  # anew: see uri_of
    except MalformedMessage:
        return "somebody unreadable"
