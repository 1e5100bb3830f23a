"""The checks every request passes before anybody asks who sent it (RFC 3261 s16.3). Pure; refusals are raised."""

from __future__ import annotations

from sipd.message.errors import MalformedMessage, Reject
from sipd.message.message import Request
from sipd.message.uri import Uri
from sipd.message.via import is_group
from sipd.proxy.forward import max_forwards


def via(request: Request) -> None:
    """A sender who claims to be a group of hosts, or wants the answer sent to one, is told itself that this will not
    be: one datagram would be answered to many (s18.2.2). Raises MalformedMessage."""
    via = request.via
    assert via is not None
    if via.head.group or is_group(via.maddr or ""):
        raise MalformedMessage("Via names a group of hosts")


def request_uri(request: Request) -> Uri:
    """s16.3 steps 1 and 2: the Request-URI can be read, has no headers (s19.1.1), and its scheme is one we route.

    Raises MalformedMessage, and Reject (416).
    """
    flow = request.flow
    try:
        # strangers ask at one cost for whoever is called often and for nobody: see message/address.py
        uri = Uri.parse(request.uri_text) if flow is None or flow.known else Uri.read(request.uri_text)
    except MalformedMessage:
        scheme, colon, _ = request.uri_text.partition(":")
        if colon and scheme.lower() not in ("sip", "sips", "tel") and scheme.isascii() and scheme[:1].isalpha():
            raise Reject(416) from None
        raise
    if not uri.host and uri.scheme != "tel":
        raise Reject(416)
    if uri.headers:
        raise MalformedMessage("the Request-URI has headers")
    return uri


def hops_left(request: Request) -> None:
    """s16.3 step 3: Max-Forwards 0 goes no further. Raises Reject (483)."""
    text = request.first.get("max-forwards")
    if text is not None and max_forwards(text) == 0:
        raise Reject(483)


def proxy_require(request: Request) -> None:
    """s16.3 step 5: what a proxy must support and this one does not. Raises Reject (420)."""
    if "proxy-require" in request.first:
        tags = request.values("proxy-require")
        if tags:  # none named, none missing: a 420 has something to say (s20.40)
            raise Reject(420, headers=(("Unsupported", ", ".join(tags)),))


def contacts(request: Request) -> None:
    """s20.10: a URI with "?" stands in brackets. Told to strangers too, like what else is wrong with a message; the
    rest of a Contact is read when it is known whose it is. Raises MalformedMessage."""
    for line in request.all("contact"):
        if "?" in line and "<" not in line:
            raise MalformedMessage("a Contact with headers and no brackets")


def require(request: Request, supported: frozenset[str]) -> None:
    """s8.2.2.3: what the one who serves the request must support. Raises Reject (420)."""
    if "require" in request.first:
        unknown = [tag for tag in request.values("require") if tag.lower() not in supported]
        if unknown:
            raise Reject(420, headers=(("Unsupported", ", ".join(unknown)),))
