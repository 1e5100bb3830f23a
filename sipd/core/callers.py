"""Who sends a request, and what they may do: users by their credentials, trunks by where they are, guests, strangers.

How a peer is known is its `identify_by`. A trunk's address counts only where From names none of our users, as anybody
behind the same router, or on this host, could send from there too. An address can be forged over UDP; what is known by
it can call our users, and nothing else that `may_call` does not name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sipd.auth.authenticator import Unauthenticated, owns
from sipd.core.places import Places
from sipd.flow import Flow
from sipd.message.address import Address, uri_of
from sipd.message.errors import MalformedMessage, Reject
from sipd.message.hop import join_host_port
from sipd.message.message import Request
from sipd.message.uri import Uri, unescape, uri_of_aor
from sipd.peers.policy import GUEST, STRANGER, TRUNK, USUAL, WITHIN, Policies, Policy

if TYPE_CHECKING:
    from sipd.auth.authenticator import Authenticator
    from sipd.auth.credentials import User, Users
    from sipd.calls.call import Call
    from sipd.transaction.layer import TransactionLayer

#: Fields by which somebody could speak as somebody else (RFC 3325 s5, s6, and what came before it).
_IDENTITIES: Final = frozenset({"p-asserted-identity", "p-preferred-identity", "remote-party-id"})
#: Fields that requests lose here, unless their sender is believed; credentials for our realm among them.
NOT_PASSED_ON: Final = _IDENTITIES | {"proxy-authorization"}
#: What calls somebody, so that `may_call` is asked.
_CALLS: Final = frozenset({"INVITE", "MESSAGE", "REFER"})
#: What is about the state of the one who is named.
_STATES: Final = frozenset({"SUBSCRIBE", "PUBLISH", "NOTIFY"})
#: A host that no DNS will ever know (RFC 2606 s2): whoever writes it is reached over its connection alone.
_NOWHERE: Final = ".invalid"


class Callers:
    """Who calls. `contacts` has the trunks by the user part of the Contact that we registered there."""

    def __init__(self, layer: TransactionLayer, places: Places, users: Users, authenticator: Authenticator,
                 policies: Policies, contacts: Mapping[str, Any], bound: Callable[[str], bool]) -> None:
        self._layer = layer
        self._places = places
        self._users = users
        self._authenticator = authenticator
        self._policies = policies
        self._contacts = contacts
        #: The dialogs of calls that begin here, and whom a call is made for by its Call-ID: a user, "" for ourselves,
        #: None where it is none of ours.
        self.own_dialogs: Mapping[str, Any] = {}
        self.speaks_for: Callable[[str], str | None] = _nobody
        #: Tells whether somebody registered an address-of-record, be it a user's or not.
        self._bound = bound
        #: Tells whether routing leads from an address-of-record to somebody inside, by an alias, a group, a route; None
        #: where it says nothing.
        self.leads_inside: Callable[[str], bool | None] = _nowhere
        #: Tells which numbers no limit keeps anybody from.
        self.is_emergency: Callable[[str], bool] = _none
        self._auth_required = True
        self._guests = False

    def configure(self, auth_required: bool, guests: bool) -> None:
        """Other answers to who may call, for the next request."""
        self._auth_required = auth_required
        self._guests = guests

    # --- who

    def authorize(self, request: Request, ours: str, uri: Uri, relayed: bool = True) -> tuple[Policy, str]:
        """Who may have a request relayed: a trunk, a user under their own name, or a guest who calls one of our users;
        and what calls are counted under: the user's address-of-record, the trunk's name, "" for a guest. What is not
        `relayed` but served here is asked for credentials as by a user agent (RFC 6665 s4.2.1.3). Raises Reject (401,
        403, 405, 407)."""
        policies = self._policies
        if self.own_dialogs and self._from_ourselves(request):
            behalf = self.speaks_for(request.call_id)
            if behalf is not None:
                # what the user may call counts; how many calls it has was seen when it was called itself
                return replace(policies.users.get(behalf, USUAL), call_limit=0), behalf
        if policies.by_source or self._contacts:
            trunk = self._trunk(request, ours, uri)
            if trunk is not None:
                self._admit(request, trunk)
                return trunk, trunk.name
        if not self._auth_required:
            return self._unproven(request)
        if self._from_ourselves(request):
            return USUAL, self._said(request)
        caller = self.claimed(request)
        if self._guests and ours and not caller and not any(
                map(self._authenticator.concerns, request.all("proxy-authorization"))):
            return STRANGER, ""
        policy = policies.users.get(caller, USUAL)
        if policy.plain or not self._is_known(request, policy):
            # without our token a To tag proves no dialog: the caller's name must be their own (s16.3 step 6)
            user = self._authenticator.check(request, proxy=relayed)
            if not owns(user, caller):
                policy = self._account(request, user, caller)
                return policy, policy.name
            self._known_otherwise(policy)
            assert request.flow is not None
            request.flow.known = True
        if not policy.plain:
            self._admit(request, policy)
        return policy, caller

    def registering(self, request: Request, aor: str, open_to_all: bool) -> User | Unauthenticated | None:
        """s10.3 step 3: the user who sends a REGISTER for an address-of-record; None where nobody need log in, and the
        401 for who has to. Raises Reject (400, 403, 405)."""
        policies = self._policies
        policy = policies.users.get(aor, USUAL) if policies.users else USUAL
        user = None
        if not policy.plain and self._is_known(request, policy):
            user = self._users.by_aor(policy.aor)
        elif not open_to_all:
            found = self._authenticator.verdict(request, proxy=False)
            if policy.plain or isinstance(found, Unauthenticated):
                return found
            self._known_otherwise(policy)
            user = found
        if not policy.plain and owns(user, policy.aor):
            self._admit(request, policy)
            if policy.contact_acl is not None:
                self._check_contacts(request, policy)
        return user

    def claimed(self, request: Request) -> str:
        """The address-of-record the sender claims: From, or P-Preferred-Identity when From is anonymous (RFC 3323)."""
        assert request.flow is not None
        known = request.flow.known
        uri = uri_of(request.first["from"], known)
        if uri.host == "anonymous.invalid" and "p-preferred-identity" in request.first:
            uri = uri_of(next(iter(request.values("p-preferred-identity")), ""), known)
        aor = self._places.aor(uri)
        if not aor and self._places.is_domain(uri.host):
            return f"@{uri.host}"  # our name with a port that is not ours: nobody's, and no guest's either
        return aor

    def vouched_for(self, ack: Request) -> bool:
        """s22.1: what let the INVITE through lets its ACK through, though it lost our Route. Raises Reject, which for
        an ACK is the end of it."""
        return ("proxy-authorization" in ack.first
                and owns(self._authenticator.check(ack, proxy=True), self.claimed(ack)))

    def _trunk(self, request: Request, ours: str, uri: Uri) -> Policy | None:
        """The trunk whose request this is: it comes from there. What was sent to the Contact we registered with it is
        its own in any case, anything else only where From is nobody's here."""
        policies, flow = self._policies, request.flow
        assert flow is not None
        registered = self._contacts.get(uri.user or "") if ours else None
        if registered is not None and policies.is_at(registered.name, flow.address, self._names(flow)):
            return policies.trunks[registered.name]
        found = policies.at(flow.address, flow.port, self._names(flow)) if policies.by_source else None
        if found is None or self._from_ourselves(request):
            return None
        return None if self._is_ours(self.claimed(request)) else found

    def _is_ours(self, claimed: str) -> bool:
        """True for a name that only a user here may call under, whatever port it is written with."""
        return self._users.by_aor(claimed) is not None or claimed[:1] == "@"

    def _account(self, request: Request, user: User | None, caller: str) -> Policy:
        """The trunk that has logged in, calling under a name that is nobody's here. Raises Reject (403)."""
        peer, at, domain = user.aor.rpartition("@") if user is not None else ("", "", "")
        trunk = self._policies.trunks.get(peer) if not domain else None
        if trunk is None or "credentials" not in trunk.identify_by or self._is_ours(caller):
            raise Reject(403)
        assert request.flow is not None
        request.flow.known = True
        self._admit(request, trunk)
        return trunk

    def _unproven(self, request: Request) -> tuple[Policy, str]:
        """Where everybody counts as authenticated, everybody is who they say they are."""
        users = self._policies.users
        if not users and request.method != "INVITE":
            return USUAL, ""
        caller = self._said(request)
        policy = users.get(caller, USUAL)
        if not policy.plain:
            self._admit(request, policy)
        return policy, caller

    def _said(self, request: Request) -> str:
        """Whom it claims to be from, "" where that cannot be read: nothing that a relay has to understand."""
        try:
            return self.claimed(request)
        except MalformedMessage:
            return ""

    def _is_known(self, request: Request, policy: Policy) -> bool:
        """Whether a user is known by something else than credentials."""
        flow = request.flow
        assert flow is not None
        for way in policy.identify_by:
            if way == "address" and policy.is_at(flow.address):
                return True
            if way == "tls" and flow.transport == "tls" and not policy.tls_names.isdisjoint(flow.client_names()):
                return True
        return False

    def _names(self, flow: Flow) -> tuple[str, ...]:
        """What the certificate of a TLS client proves, where any peer is known by that."""
        names: tuple[str, ...] = flow.client_names() if flow.transport == "tls" and self._policies.by_name else ()
        return names

    def _known_otherwise(self, policy: Policy) -> None:
        """Good credentials do not help whoever is to be known by other things. Raises Reject (403)."""
        if "credentials" not in policy.identify_by:
            raise Reject(403, "Not Known by Credentials")

    def _from_ourselves(self, request: Request) -> bool:
        """A request that we sent to ourselves, as a binding may ask for: it was let through once already."""
        via, flow = request.via, request.flow
        assert via is not None and flow is not None
        if via.head.sent_by not in self._places.sent_bys:
            return False
        return ((via.branch.lower(), request.method) in self._layer.clients
                and self._places.is_ours(join_host_port(flow.address, None), None))

    # --- what they may do

    def _admit(self, request: Request, policy: Policy) -> None:
        """Where it may come from, and by which method. Raises Reject (403, 405)."""
        flow = request.flow
        assert flow is not None
        if policy.source_acl is not None and not policy.source_acl.permits(flow.address):
            raise Reject(403, "Address Not Permitted")
        if policy.methods and request.method not in policy.methods:
            raise Reject(405, "", (("Allow", ", ".join(sorted(policy.methods))),))

    def _check_contacts(self, request: Request, policy: Policy) -> None:
        """Where a peer wants to be called. A name could lead anywhere tomorrow. Raises Reject (403)."""
        assert policy.contact_acl is not None
        for value in request.values("contact"):
            if value == "*":
                continue
            uri = Address.parse(value).uri
            for host in (uri.host, uri.param("maddr")):
                if host and not host.endswith(_NOWHERE) and not policy.contact_acl.permits(host):
                    raise Reject(403, "Contact Not Permitted")

    def called(self, request: Request, policy: Policy, caller: str, ours: str, uri: Uri) -> str:
        """The address-of-record that is called in the end, "" for somebody elsewhere: for a trunk this may be who gets
        its calls. Only for those whose policy is not plain. Raises Reject (403, 404, 480)."""
        number = _number(ours, uri)
        if policy.kind == TRUNK:
            led = self._called_by_trunk(policy, ours, uri, number)
            if led != ours and request.method in _STATES and uri.user not in self._contacts:
                raise Reject(404)  # calls for nobody are for somebody; what waits for nobody is not
            ours = led
        elif policy.kind == GUEST:
            if uri.user and not self._is_inside(ours):
                raise Reject(404)  # what leads outside is not for strangers
        elif request.method in _CALLS:
            if not policy.may_reach(number, bool(ours)) and not self.is_emergency(number):
                raise Reject(403, "Not Allowed to Call This")
        if (policy.call_limit and request.method == "INVITE" and not request.to_tag
                and self._policies.over_limit(policy, caller) and not self.is_emergency(number)):
            raise Reject(480, "Call Limit Reached")
        return ours

    def forbids(self, peer: str, ours: str) -> str:
        """For people: why a peer, by address-of-record or a trunk's name, cannot call an address-of-record; "" where
        nothing forbids it."""
        policies, number = self._policies, ours.rpartition("@")[0]
        policy = policies.users.get(peer) or policies.trunks.get(peer)
        if policy is None or self.is_emergency(number):
            return ""
        if policy.kind == TRUNK and not policy.may_reach(number, self._is_inside(ours)):
            if policy.says(number) is False or not policy.aor:
                return f"{peer} may not call {number}: refused"
            return f"{peer} may not call {number}: the call is for its inbound_to, {policy.aor.rpartition('@')[0]}"
        if policy.kind != TRUNK and not policy.may_reach(number, True):
            return f"{policy.name} may not call {number}: refused with 403 Not Allowed to Call This"
        if policies.over_limit(policy, peer):
            return f"{policy.name} has as many calls as it may have: refused with 480 Call Limit Reached"
        return ""

    @property
    def somebody_limited(self) -> bool:
        """False where no user has a section of their own, and so no limits."""
        return bool(self._policies.users)

    def not_busy(self, aor: str, call: Call | None) -> None:
        """Raises Reject (486) where a user has as many calls as count for busy."""
        if self._policies.is_busy(aor):
            if call is not None:
                call.note("busy", aor, self._policies.in_use(aor))
            raise Reject(486)

    def asks_us(self, policy: Policy, ours: str, uri: Uri) -> bool:
        """Whether an OPTIONS is a trunk's question to this server: it names our Contact there, or nobody."""
        return policy.kind == TRUNK and bool(ours) and (
            uri.user in self._contacts or not self._is_inside(ours))

    def _called_by_trunk(self, policy: Policy, ours: str, uri: Uri, number: str) -> str:
        """A trunk calls our users, by their numbers or by our Contact there, and what its `may_call` names; what it
        dials that is nobody's is for `inbound_to`."""
        if not (ours and uri.user in self._contacts):
            if policy.may_reach(number, bool(ours) and self._is_inside(ours)):
                return ours
            if not ours or policy.says(number) is False:
                raise Reject(403, "Not Allowed to Call This")
        if not policy.aor:
            raise Reject(404)
        return policy.aor

    def _is_inside(self, ours: str) -> bool:
        """True for the address-of-record of somebody here."""
        led = self.leads_inside(ours)
        return self._users.by_aor(ours) is not None or self._bound(ours) if led is None else led

    # --- whom they say they are

    def passed_on(self, request: Request, policy: Policy, caller: str, ours: str) -> None:
        """s22.3: credentials for our realm are not for those behind us, others stay. RFC 3325 s5, s6: neither are
        identities that somebody we do not trust asserts or prefers; what a trusted one asserts goes on. Somebody whose
        name the configuration knows is introduced by it. Past nobody who is not trusted where Privacy says `id` (s7).
        """
        if not self._auth_required:
            return
        identities = not _IDENTITIES.isdisjoint(request.first)
        if identities and not (policy.trust_identity or policy is WITHIN and self._is_trusted(request.flow)):
            identities = False
            for name in _IDENTITIES:
                request.remove(name)
        if (ours and policy.caller_name and not identities and request.method in _CALLS
                and self.claimed(request) == caller):
            identities = True
            request.add("P-Asserted-Identity", f'"{policy.caller_name}" <{uri_of_aor(caller)}>')
        if identities:
            request.remove("p-preferred-identity")
            if self._is_private(request) and not self._policies.users.get(ours, USUAL).trust_identity:
                for name in _IDENTITIES:
                    request.remove(name)
        if "proxy-authorization" in request.first:
            request.set_values("proxy-authorization", [
                value for value in request.all("proxy-authorization") if not self._authenticator.concerns(value)])

    def _is_trusted(self, flow: Flow | None) -> bool:
        """Whether what comes within a dialog comes from a trunk that is believed."""
        if flow is None or not self._policies.by_source:
            return False
        trunk = self._policies.at(flow.address, flow.port, self._names(flow))
        return trunk is not None and trunk.trust_identity

    def _is_private(self, request: Request) -> bool:
        """RFC 3325 s9.3."""
        return "privacy" in request.first and any(
            "id" in map(_bare, value.split(";")) for value in request.values("privacy"))


def _nowhere(aor: str) -> bool | None:
    """Until there is routing."""
    return None


def _none(number: str) -> bool:
    """Until there is routing."""
    return False


def _nobody(call_id: str) -> str | None:
    """Until a call begins here."""
    return None


def _bare(text: str) -> str:
    return text.strip(" \t").lower()


def _number(ours: str, uri: Uri) -> str:
    """What `may_call` sees: a number or a name here, `user@host` elsewhere; without what follows a ";" (RFC 3966)."""
    if ours:
        return ours.rpartition("@")[0].partition(";")[0]
    return f"{unescape(uri.user or '').partition(';')[0]}@{uri.host}"
