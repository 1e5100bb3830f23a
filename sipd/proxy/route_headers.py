"""Route preprocessing, and what we write into Record-Route (RFC 3261 s16.4, s16.6 step 4 and 6; RFC 5658). Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from sipd.message.address import Address
from sipd.message.errors import MalformedMessage
from sipd.message.message import Request
from sipd.message.uri import Uri
from sipd.proxy.targets import Target, for_request
from sipd.proxy.token import Direction, RouteToken
from sipd.transport.listener import Listener


class Routing:
    """What Route preprocessing found: what the token in a Route of ours proves, and what is left."""

    __slots__ = ("direction", "routes", "listener")

    def __init__(self, direction: Direction | None, routes: list[str], listener: str = "") -> None:
        #: Not None when the request belongs to a dialog that we let through.
        self.direction = direction
        #: The Route values left, ours taken off.
        self.routes = routes
        #: Where two values of ours were taken off, the listener the second names: the request leaves by that side.
        self.listener = listener


#: Values of ours in a row that are taken off at once.
_MOST_TAKEN: Final = 16

_NO_ROUTE: Final = Routing(None, [])


class RouteHeaders:
    """Knows our own Route URIs. `is_ours(host, port)` tells whether a host (IPv6 in brackets) and port are us; a
    request has `most` Route values at most."""

    __slots__ = ("_token", "_is_ours", "_most", "_suffixes")

    def __init__(self, token: RouteToken, is_ours: Callable[[str, int | None], bool], most: int = 64) -> None:
        self._token = token
        self._is_ours = is_ours
        self._most = most
        #: Endings of the Route values we write, filled as listeners come, and whose they are: a Route
        #: that comes back is known by its text.
        self._suffixes: dict[str, str] = {}

    def bound(self, most: int) -> None:
        """Another bound on the Route values of a request."""
        self._most = most

    def know(self, listener: Listener) -> None:
        """Enters a listener whose Record-Route values may come back."""
        self._suffixes[listener.route_suffix] = self._suffixes[_for_sips(listener)] = listener.name

    def preprocess(self, request: Request) -> Routing:
        """s16.4: undoes strict routing and our maddr, takes our own values off the Route. Changes the request."""
        if ";" in request.uri_text:
            self._undo_strict_routing(request)
            if "maddr" in request.uri_text.lower():
                self._strip_maddr(request)
        if "route" not in request.first:
            return _NO_ROUTE
        routes = request.values("route")
        if not routes:
            request.remove("route")  # a line without a value says nothing
            return _NO_ROUTE
        if len(routes) > self._most:
            raise MalformedMessage("too many Route values", 513)
        direction: Direction | None = None
        token = ""
        taken = 0
        # RFC 5658: where we wrote two values, one for either side, both are ours; a spiral wrote more, and of its
        # tokens the last leads on, since the others lead to ourselves
        for value in routes[:_MOST_TAKEN]:
            user = self.user_of_ours(value)
            if user is None:
                break
            if user and user != token:
                token = user
                found = self._token.check(user, request.call_id, request.from_tag, request.to_tag)
                direction = found or direction
            taken += 1
        listener = ""
        if taken:
            if taken > 1:
                listener = self.side(routes[taken - 1])
            routes = routes[taken:]
            request.set_values("route", routes)
        return Routing(direction, routes, listener)

    def side(self, value: str) -> str:
        """The listener that a Route value of ours names, "" when it names none we have."""
        return self._suffixes.get(value.partition("@")[2], "")

    def user_of_ours(self, value: str) -> str | None:
        """The user part of a Route value that names this server, None when it names another. Raises
        MalformedMessage."""
        if value[:5] == "<sip:" or value[:6] == "<sips:":
            user, at, rest = value.partition(":")[2].partition("@")
            if at and rest in self._suffixes:
                return user
        uri = Address.parse(value).uri
        return uri.user or "" if uri.is_sip and self._is_ours(uri.host, uri.port) else None

    def _undo_strict_routing(self, request: Request) -> None:
        """s16.4: a strict router put our Record-Route URI into the Request-URI; the real one is last in Route."""
        if ";lr" not in request.uri_text or "route" not in request.first:
            return
        uri = request.uri
        if uri.is_sip and uri.param("lr") is not None and self._is_ours(uri.host, uri.port):
            routes = request.values("route")
            if not routes:
                return
            own = f"<{request.uri_text}>"
            request.retarget(Address.parse(routes.pop()).uri_text)
            # kept on top of the Route, where a loose router would have left it, so that its token is read below
            request.set_values("route", [own, *routes])

    def _strip_maddr(self, request: Request) -> None:
        """s16.4: a maddr that is us is taken off, with the transport and the non-default port that led here by it."""
        uri = request.uri
        maddr = uri.param("maddr")
        if not maddr or not self._is_ours(maddr.lower(), uri.port):
            return
        params = tuple(item for item in uri.params if item[0] not in ("maddr", "transport"))
        port = uri.port if uri.port == (5061 if uri.scheme == "sips" else 5060) else None
        request.retarget(str(Uri(uri.scheme, uri.user, uri.password, uri.host, port, params, uri.headers)))

    def record_route(self, token: str, secure: bool, incoming: Listener, outgoing: Listener) -> list[str]:
        """The Record-Route values for a request that came to one listener and leaves by another, topmost first.

        One where they are the same; two where sides differ, so that each side finds its own (RFC 5658 s5). `secure`
        asks for sips URIs, which only a TLS listener can keep: a side that came without TLS gets what it can reach.
        """
        first = _own_value(token, secure, outgoing)
        return [first] if incoming is outgoing else [first, _own_value(token, secure, incoming)]


def _own_value(token: str, secure: bool, listener: Listener) -> str:
    if secure and listener.transport == "tls":
        return f"<sips:{token}@{_for_sips(listener)}"
    return f"<sip:{token}@{listener.route_suffix}"


def _for_sips(listener: Listener) -> str:
    """What follows the user in a sips URI, which says TLS without a transport parameter (RFC 5658 s6.2)."""
    suffix: str = listener.route_suffix
    return suffix.replace(";transport=tls", "")


def next_hop(request: Request) -> Uri:
    """s16.6 steps 6 and 7: the URI the request goes to, a strict router's put into the Request-URI first.

    Raises MalformedMessage when it is no SIP URI.
    """
    if "route" not in request.first:
        return request.uri
    routes = request.values("route")
    if not routes:
        return request.uri
    uri = Address.parse(routes[0]).uri
    if uri.is_sip and uri.param("lr") is None:
        # s16.6 step 6: a strict router finds itself in the Request-URI and the rest, the real target last, in Route
        request.set_values("route", [*routes[1:], f"<{request.uri_text}>"])
        request.retarget(str(for_request(uri)))
    if not uri.is_sip:
        raise MalformedMessage("Route is not a SIP URI")
    return uri


def secured(uri: Uri, request_uri: str) -> Uri:
    """s16.6 step 7: where the Request-URI is sips, the URI that says where the request goes counts as sips too."""
    if uri.scheme == "sip" and request_uri[:5].lower() == "sips:":
        return replace(uri, scheme="sips")
    return uri


def way_to(target: Target, request: Request | None) -> Uri:
    """The URI that says where a request to `target` goes (s16.6 step 7). Raises MalformedMessage."""
    if target.route:
        return secured(Address.parse(target.route[0]).uri, target.uri)
    assert request is not None
    if "route" in request.first:
        return secured(Address.parse(request.values("route")[0]).uri, target.uri)
    return Uri.parse(target.uri)
