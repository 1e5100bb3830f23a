"""Requests that leave, copied or our own, and responses that go back (RFC 3261 s16.6, s16.7, s8.1.1). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from zlib import crc32

from sipd.flow import Flow
from sipd.message import compose
from sipd.message.errors import Reject
from sipd.message.message import Header, Request, Response
from sipd.message.params import split_list
from sipd.message.values import retry_after
from sipd.proxy.route_headers import next_hop
from sipd.proxy.targets import Groups, Target

#: Requests that start no dialog. For all others, those that nobody knows too, Record-Route may matter (s16.6 step 4).
NO_DIALOG: Final = frozenset({
    "ACK", "BYE", "CANCEL", "INFO", "MESSAGE", "OPTIONS", "PRACK", "PUBLISH", "REGISTER", "UPDATE"})

#: A request longer than this (octets) does not go by UDP unless it must (s18.1.1).
MAX_DATAGRAM: Final = 1300

#: What a request without Max-Breadth gets, and the most that is believed (RFC 5393 s5.3.3).
MAX_BREADTH: Final = 60
_BREADTH: Final[Header] = ("max-breadth", "60", "Max-Breadth: 60")

#: What a request without Max-Forwards gets (s16.6 step 3).
_MAX_FORWARDS: Final = 70
#: Max-Forwards by its number, and its number by how it is usually written.
_HOPS_LEFT: Final[tuple[Header, ...]] = tuple([
    ("max-forwards", str(left), f"Max-Forwards: {left}") for left in range(256)])
_WRITTEN_HOPS: Final[dict[str, int]] = {str(left): left for left in range(256)}


def breadth_share(request: Request, groups: Groups) -> int:
    """The Max-Breadth of each copy of a request to all of `groups` but those that get one of their own. Raises Reject
    (440).

    RFC 5393 s5.3.3: what came is shared out, and what came without is taken for 60. Targets that are tried later have
    their share too, which the RFC does not ask: users who forward to each other one after the other could otherwise
    still make as many requests as there are orders of them (s3).
    """
    breadth = breadth_of(request) if "max-breadth" in request.first else MAX_BREADTH
    targets = len(groups[0]) if len(groups) == 1 else sum(map(len, groups))
    if targets > breadth:
        raise Reject(440)
    share, rest = divmod(breadth, targets)
    if rest:
        # nothing of what came is lost: the first targets have one more
        for target in [target for group in groups for target in group][:rest]:
            target.breadth = share + 1
    return share


def breadth_of(request: Request) -> int:
    """The Max-Breadth a request came with, at most MAX_BREADTH, which is also what one without it or with something
    unreadable gets (RFC 5393 s5.3.3)."""
    text = request.first.get("max-breadth", "")
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(int(text) or 1, MAX_BREADTH)
    return MAX_BREADTH


def prepare(request: Request, breadth: int = 0) -> Request:
    """What all branches of a request share: a copy with Max-Forwards counted down (s16.6 step 3) and one Max-Breadth.

    `breadth` 0 is for an ACK, which is not shared out: it goes on with what it came with.
    """
    copy = request.copy()
    if "max-breadth" in copy.first:
        copy.set_values("max-breadth", [str(breadth or breadth_of(request))])
    else:
        share = ("max-breadth", str(breadth), f"Max-Breadth: {breadth}") if 0 < breadth < MAX_BREADTH else _BREADTH
        copy.headers.append(share)
        copy.first["max-breadth"] = share[1]
    text = copy.first.get("max-forwards")
    if text is None:
        header = _HOPS_LEFT[_MAX_FORWARDS]
        copy.headers.append(header)
        copy.first["max-forwards"] = header[1]
        return copy
    left = max_forwards(text) - 1
    header = _HOPS_LEFT[max(left, 0)]
    headers = copy.headers
    for i, other in enumerate(headers):
        if other[0] == "max-forwards":
            headers[i] = header
            break
    copy.first["max-forwards"] = header[1]
    return copy


def max_forwards(text: str) -> int:
    """The value of Max-Forwards; what is not a number from 0 to 255 counts as absent, so as 71 (s20.22)."""
    if text in _WRITTEN_HOPS:
        return _WRITTEN_HOPS[text]
    if text.isascii() and text.isdigit() and len(text) <= 64 and int(text) <= 255:
        return int(text)
    return _MAX_FORWARDS + 1


def add_via(request: Request, via_prefix: str, branch: str, record_routes: list[str], stream: bool) -> None:
    """s16.6 steps 4, 8 and 9: our Record-Route values, our Via above all, and Content-Length on a stream."""
    headers = request.headers
    line = via_prefix + branch
    value = line[5:]
    top: list[Header] = [("via", value, line)]
    for route in record_routes:
        top.append(("record-route", route, f"Record-Route: {route}"))
    headers[0:0] = top
    request.repeated = None
    request.first["via"] = value
    if stream and "content-length" not in request.first:
        request.headers.append(("content-length", str(len(request.body)), f"Content-Length: {len(request.body)}"))
        request.first["content-length"] = str(len(request.body))


def add_fields(request: Request, fields: tuple[tuple[str, str], ...]) -> None:
    """The fields of a target, each behind what is there of its name; but of Diversion the latest comes first (RFC 5806
    s6.2)."""
    for name, value in fields:
        if name == "Diversion":
            request.set_values("diversion", [value, *request.all("diversion")])
        else:
            request.add(name, value)


def loop_mark(request: Request) -> str:
    """The second part of our branch: all that decides where the location service sends a request (RFC 5393 s4.2.1),
    and the Call-ID, so that two requests that come out alike by chance do so once only (s4.2.4)."""
    text = f"{request.uri_text}\0{request.first.get('route', '')}\0{request.call_id}"
    return f"{crc32(text.encode('utf-8', 'surrogateescape')):08x}"


def has_looped(request: Request, mark: str, own: frozenset[str] | set[str]) -> bool:
    """RFC 5393 s4.2.2: one of our own Vias (sent-by in `own`) has the mark this request would get again."""
    for line in request.all("via"):
        if mark in line:
            for value in split_list(line):
                if f".{mark}" in value and any(sent_by in value for sent_by in own):
                    return True
    return False


def asked_for(response: Response) -> float:
    """Seconds for which whoever answered 503 is to be left alone (s20.33), 0 when the response does not say."""
    return float(retry_after(response.first.get("retry-after", "")))


def strip_via(response: Response) -> bool:
    """s16.7 step 3: takes our Via off a response; False when nothing is left and so it is meant for us."""
    headers = response.headers
    for i, (name, value, _) in enumerate(headers):
        if name != "via":
            continue
        if "," in value and len(values := split_list(value)) > 1:
            rest = ", ".join(values[1:])
            headers[i] = ("via", rest, f"Via: {rest}")
            response.first["via"] = rest
            return True
        del headers[i]
        for name, value, _ in headers[i:]:
            if name == "via":
                response.first["via"] = value
                return True
        return False
    return False


def own_request(method: str, target: Target, flow: Flow, branch: str, from_: str, to: str, call_id: str, cseq: int,
                headers: Sequence[tuple[str, str]], body: bytes) -> Request:
    """s8.1.1, s12.2.1.1: a request of ours for one flow. `headers` follow those that each request has."""
    rport = "" if flow.reliable else ";rport"  # RFC 3581: the answer finds its way back through NAT
    fields = [("Via", f"{flow.listener.via_prefix[5:]}{branch}{rport}"),
              ("Max-Forwards", "70"), *[("Route", value) for value in target.route], ("From", from_), ("To", to),
              ("Call-ID", call_id), ("CSeq", f"{cseq} {method}"), *headers]
    request = compose.request(method, target.uri, fields, body)
    next_hop(request)  # s12.2.1.1: a strict router finds itself in the Request-URI
    return request


def contact_at(user: str, flow: Flow, target: str) -> str:
    """s8.1.1.8: our Contact as whoever is at the other end of a flow can reach it; sips where sips is asked."""
    at = f"{user}@{flow.listener.sent_by}"
    if flow.transport == "tls" and target[:5].lower() == "sips:":
        return f"<sips:{at}>"
    return f"<sip:{at}>" if flow.transport == "udp" else f"<sip:{at};transport={flow.transport}>"
