"""Which transaction a message belongs to (RFC 3261 s17.1.3, s17.2.3)."""

from __future__ import annotations

from typing import Final

from sipd.message.identifiers import MAGIC_COOKIE
from sipd.message.message import Request

_COOKIE: Final = MAGIC_COOKIE.lower()

#: A client transaction: branch in lower case and the CSeq method. A server transaction: branch, sent-by, Call-ID and
#: method, or the parts of RFC 2543 matching.
Key = tuple[str, ...]


def server_key(request: Request, method: str) -> Key:
    """The key of the server transaction of a request; `method` is INVITE for an ACK (s17.2.3).

    Branches are tokens and so compared without regard to case (s7.3.1). Call-ID says nothing new of clients whose
    branches are unique (s8.1.1.7); it keeps one that uses a branch again, as the REGISTERs of RFC 4475 s3.3.12 and
    s3.3.13 do, from getting the answer to another request. Must be asked before the Via is marked.
    """
    via = request.via
    assert via is not None
    branch = via.branch.lower()
    if branch[:7] == _COOKIE and len(branch) > 7:
        return (branch, via.head.sent_by, request.call_id, method)
    # s17.2.3, RFC 2543 clients: Request-URI, From tag, Call-ID, CSeq number and the whole topmost Via. The To tag of an
    # INVITE is the request's own, and an ACK's is ours: it tells no two transactions apart that the rest does not.
    return ("", request.uri_text, request.from_tag, request.call_id, str(request.cseq_number), via.text, method)
