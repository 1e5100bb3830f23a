"""One whole message from octets (RFC 3261 s7, s18.3, s25).

Only what everybody needs is typed here: the start line, the topmost Via, Call-ID and CSeq. A broken header that a proxy
does not need does not stop a message; From and To are looked at because transactions and dialogs are named by them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final

from sipd.message import grammar
from sipd.message.address import Address, tag_of
from sipd.message.bounds import WITHOUT, Bounds
from sipd.message.errors import MalformedMessage
from sipd.message.headers import CANONICAL, SINGLE, canonical
from sipd.message.kept import MOST, keep
from sipd.message.message import Header, Message, Request, Response
from sipd.message.params import split_list
from sipd.message.via import Via

#: The look-behind lets a run of blanks be read once only, however long it is.
_FOLD: Final = re.compile(r"(?<![ \t])[ \t]*(?:\r\n[ \t]+)+")
_METHOD: Final = re.compile(grammar.TOKEN).fullmatch
_STATUS_LINE: Final = re.compile(
    r"SIP/2\.0 ([1-6][0-9][0-9])(?: (.*))?", re.IGNORECASE | re.DOTALL | re.ASCII).fullmatch
_VERSION: Final = re.compile(r"SIP/([0-9]+\.[0-9]+)", re.IGNORECASE | re.ASCII).fullmatch
_CSEQ: Final = re.compile(rf"([0-9]+)[ \t\r\n]+({grammar.TOKEN})").fullmatch
#: Number and method; of any length to the type checker, as Header is.
CSeq = tuple[Any, ...]
#: The methods that have a name here; any token is one. Each is its own value: what lives longer than its message keeps
#: this text and not another copy.
_METHODS: Final[dict[str, str]] = {method: method for method in (
    "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "MESSAGE", "SUBSCRIBE", "NOTIFY", "PUBLISH", "INFO",
    "PRACK", "UPDATE", "REFER")}
#: From and To as nearly every phone writes them, and the tag; anything else is read by Address.
_USUAL_ADDRESS: Final = re.compile(
    r'(?:"[^"\\]*" ?|[A-Za-z0-9 ._\-]*)<sips?:(?:[A-Za-z0-9._+*#\-]+@)?[A-Za-z0-9.\-]+'
    r'(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}))?(?:;[a-z0-9\-]+(?:=[a-z0-9\-]+)?)*>'
    r'(?:;tag=([A-Za-z0-9._~*\-]+))?').fullmatch
#: A Call-ID is one or two words (s25.1); whoever writes other visible characters is understood too.
_CALL_ID: Final = re.compile(r"[^\x00-\x20\x7f]+").fullmatch

#: Status lines that were met, with status and reason.
_KNOWN_STATUS: Final[dict[str, tuple[int, str]]] = {}
#: Messages that are longer (octets) may have bodies that are no text, and dear to decode.
_SHORT: Final = 4096
#: Most messages have no field on two lines, and share this.
_NONE: Final[frozenset[str]] = frozenset()
_BARE: Final = "a bare CR or LF stands in the header fields"

#: Fields that many messages have in the same words, and the lines of these that were met: each is read once.
_SAME: Final = frozenset({
    "accept", "allow", "allow-events", "content-disposition", "content-length", "content-type", "cseq", "expires",
    "max-forwards", "min-se", "proxy-require", "require", "server", "session-expires", "supported", "user-agent",
})
_KNOWN_LINES: Final[dict[str, Header]] = {}
#: Longer ones (characters) are read each time.
_LONGEST_KNOWN: Final = 300
#: CSeqs that were met, with number and method: those below so many, as those of calls are.
_LOW_CSEQ: Final = 10
_KNOWN_CSEQS: Final[dict[str, CSeq]] = {}
#: These of the known, whose To and Contact are the same too in all that registers or begins a dialog; strangers, who
#: would learn from the time it takes who was called, are never looked up here.
_SAME_OF_KNOWN: Final = _SAME | {"to", "contact"}
_LINES_OF_KNOWN: Final[dict[str, Header]] = {}
#: From and To up to ">;tag=", or whole without a tag, as in _USUAL_ADDRESS: the same in all messages of a user.
_KNOWN_ADDRESSES: Final[dict[str, None]] = {}


def parse(data: bytes, stream: bool = False, bounds: Bounds = WITHOUT, known: bool = False) -> Request | Response:
    """Reads one datagram, or with `stream` one message cut from a connection, which must state its length (s18.3).

    `known` says that it comes from no stranger: to these the time that a cache saves would tell who was called, or has
    called, of late. Raises MalformedMessage, whose `message` holds what could be read. Octets after Content-Length are
    dropped (s18.3).
    """
    if data[:1] in (b"\r", b"\n"):
        data = data.lstrip(b"\r\n")  # s7.5: CRLFs before the start line are ignored
    if len(data) <= _SHORT:
        # cut as text: the octets' own partition is a call by name, which costs more than the few octets of an SDP
        head, empty, rest = data.decode("utf-8", "surrogateescape").partition("\r\n\r\n")
        body = rest.encode("utf-8", "surrogateescape") if rest else b""
    else:
        octets, line, body = data.partition(b"\r\n\r\n")
        head, empty = octets.decode("utf-8", "surrogateescape"), line.decode()
    if not empty:
        raise MalformedMessage("no empty line ends the header fields", message=what_can_be_read(data))
    message = _parse_head(head, body, known)
    end = len(data) - len(body) - 4
    if end > bounds.unsuspicious or len(data) > bounds.message_size:
        bounds.check(message, end, len(data))
    length = message.first.get("content-length")
    if length is None:
        if stream:
            raise MalformedMessage("no Content-Length on a stream", message=message)
        return message
    wanted = 0 if length == "0" else _content_length(length, message)
    if wanted > len(body):
        raise MalformedMessage("the body is shorter than Content-Length", message=message)
    if wanted < len(body):
        message.body = body[:wanted]
    return message


def _content_length(text: str, message: Message) -> int:
    """A Content-Length; an overlong one counts as more than anybody can send. Raises MalformedMessage."""
    # str.isdigit takes other scripts' digits too
    if not (text.isascii() and text.isdigit()):
        raise MalformedMessage("Content-Length is not a number", message=message)
    # int() raises for thousands of digits, also where they are zeros
    if len(text) > 9:
        text = text.lstrip("0") or "0"
    return int(text) if len(text) < 10 else 10**9


def _parse_head(head: str, body: bytes, known: bool) -> Request | Response:
    """Start line and headers; the body is taken as it is. Raises MalformedMessage."""
    lines = head.split("\r\n")
    headers: list[Header] = []
    first: dict[str, str] = {}
    problem, repeated = _read_lines(lines, headers, first, False, known)
    if problem is None:
        if head.count("\n") >= len(lines) or head.count("\r") >= len(lines):
            raise MalformedMessage(_BARE, message=_partial(lines))
        lines = _unfold(lines)
        headers, first = [], {}
        problem, repeated = _read_lines(lines, headers, first, True, known)
        problem = problem or ""
    start = lines[0]
    if start[3:4] == "/" and start[:3].lower() == "sip":
        # s7.2: "SIP/" begins a status line, if of another version; a method has no slash. A response gets no answer.
        status, reason = _KNOWN_STATUS.get(start) or _status_line(start)
        # s7.1: in whatever case it came, the version is sent in capitals
        response = Response(status, reason, headers, first, body, start if start[:3] == "SIP" else f"SIP{start[3:]}")
        response.repeated = repeated
        _type_core(response, problem, known)
        return response
    request, problem = _request(start, headers, first, body, problem)
    request.repeated = repeated
    _type_core(request, problem, known)
    return request


def _read_lines(lines: list[str], headers: list[Header], first: dict[str, str], joined: bool,
                known: bool) -> tuple[str | None, Collection[str]]:
    """Reads the header fields into these two; what is wrong with them, "" when nothing is, and the names that stand on
    more than one line.

    None when a line that continues another was met (s7.3.1): they are to be joined first, CRLFs and all. Raises
    MalformedMessage for a bare CR or LF."""
    read, same = (_LINES_OF_KNOWN, _SAME_OF_KNOWN) if known else (_KNOWN_LINES, _SAME)
    names = CANONICAL
    problem = ""
    for line in lines[1:]:
        header = read.get(line)
        if header is None:
            # as nearly every line is written; names are few, so a longer text before ": " is not among them
            name, colon, value = line.partition(": ")
            key = names.get(name)
            if key is None or not colon or "\r" in line or "\n" in line:
                if not joined:
                    if "\r" in line or "\n" in line:
                        raise MalformedMessage(_BARE, message=_partial(lines))
                    if line[:1] == " " or line[:1] == "\t":
                        return None, _NONE
                name, colon, value = line.partition(":")
                try:
                    key = names.get(name) or canonical(name)
                except MalformedMessage as error:
                    problem = problem or error.reason
                    continue
                if not colon:
                    problem = problem or f"a header line without a colon: {line[:40]!r}"
                    continue
                value = value.strip(" \t\r\n")
                if joined and "\r" in value:
                    value = _FOLD.sub(" ", value)
            else:
                value = value.strip(" \t")
            header = (key, value, line)
            # a To with a tag is that of one dialog
            if key in same and len(line) <= _LONGEST_KNOWN and (
                    value in _KNOWN_CSEQS if key == "cseq" else key != "to" or line[-1] == ">"):
                keep(read, line, header, MOST)
        headers.append(header)
    if not joined and ("\r" in lines[0] or "\n" in lines[0]):
        raise MalformedMessage(_BARE, message=_partial(lines))
    for header in reversed(headers):
        first[header[0]] = header[1]  # so that the first of its name stays
    if len(first) == len(headers):
        return problem, _NONE
    return _doubled(headers, problem)


def _doubled(headers: list[Header], problem: str) -> tuple[str, set[str]]:
    """As `_read_lines`, where a name stands on more than one line; of those that may not, the first stays."""
    lines = headers.copy()
    headers.clear()
    seen: set[str] = set()
    repeated: set[str] = set()
    for header in lines:
        key = header[0]
        if key in seen:
            if key in SINGLE:
                # the refusal repeats the first of them
                problem = problem or f"more than one {key} header field"
                continue
            repeated.add(key)
        seen.add(key)
        headers.append(header)
    return problem, repeated


def _status_line(start: str) -> tuple[int, str]:
    """Status and reason. Raises MalformedMessage."""
    found = _STATUS_LINE(start)
    if found is None:
        raise MalformedMessage(f"not a status line: {start[:60]!r}", message=None)
    read = int(found.group(1)), found.group(2) or ""
    if len(start) <= _LONGEST_KNOWN:
        keep(_KNOWN_STATUS, start, read, MOST)
    return read


def _request(start: str, headers: list[Header], first: dict[str, str], body: bytes,
             problem: str) -> tuple[Request, str]:
    parts = start.split(" ")
    if len(parts) != 3:
        # enough of it is kept to answer: the response needs no start line of ours (s8.2.6)
        message = Request(parts[0], "", headers, first, body)
        return message, f"not a request line: {start[:60]!r}"
    method, uri_text, version = parts
    named = _METHODS.get(method)
    message = Request(named or method, uri_text, headers, first, body, start if version == "SIP/2.0" else "")
    # lower and not upper: the upper case of a long s, U+017F, is an S
    if version != "SIP/2.0" and version.lower() != "sip/2.0":
        if _VERSION(version) is None:
            return message, f"not a request line: {start[:60]!r}"
        _type_via(message)
        raise MalformedMessage("the SIP version is not 2.0", 505, message)
    if named is None and _METHOD(method) is None:
        problem = f"not a method: {method[:40]!r}"
    elif not uri_text:
        problem = "no Request-URI"
    return message, problem


def _type_core(message: Message, problem: str, known: bool) -> None:
    """Types Via and CSeq and sees that the mandatory fields are there (s8.1.1). Raises MalformedMessage."""
    first = message.first
    _type_via(message)
    if problem:
        raise MalformedMessage(problem, message=message)
    from_, to, call_id, cseq = first.get("from"), first.get("to"), message.call_id, first.get("cseq")
    if not from_ or not to or not call_id or not cseq:
        missing = "from" if not from_ else "to" if not to else "call-id" if not call_id else "cseq"
        raise MalformedMessage(f"no {missing} header field", message=message)
    typed = _KNOWN_CSEQS.get(cseq)
    if typed is None:
        typed = _cseq(cseq)
        if typed is None:
            raise MalformedMessage("CSeq is not a number below 2**32 and a method", message=message)
    message.cseq_number = typed[0]
    method: str = typed[1]
    message.cseq_method = method
    if not isinstance(message, Request):
        return  # From and To of a response are those we sent, and nobody could be told
    if method != message.method:
        raise MalformedMessage("CSeq names another method than the request line", message=message)
    if (" " in call_id or not call_id.isprintable()) and _CALL_ID(call_id) is None:
        raise MalformedMessage("Call-ID is not a word", message=message)
    message.know_tags(_checked("from", from_, message, known), _checked("to", to, message, known))


def _checked(name: str, value: str, message: Message, known: bool) -> str:
    """The tag of From or To, "" when there is none; both must be readable. Raises MalformedMessage."""
    if known and value[-1] == ">" and value in _KNOWN_ADDRESSES:
        return ""
    address, found, tag = value.partition(">;tag=")
    if known and address in _KNOWN_ADDRESSES and (tag.isalnum() and tag.isascii() if found else value[-1] == ">"):
        return tag
    usual = _USUAL_ADDRESS(value)
    if usual is not None:
        if known and tag == (usual.group(1) or "") and len(address) <= _LONGEST_KNOWN:
            keep(_KNOWN_ADDRESSES, address, None, MOST)
        return usual.group(1) or ""
    try:
        parsed = Address.parse(value)
        parsed.uri  # noqa: B018  read for its errors
        params = parsed.params
        if not params.get("tag", "none"):
            raise MalformedMessage("a tag without a value")  # s19.3; a tag of ours would be its second
        return tag_of(value)
    except MalformedMessage as error:
        raise MalformedMessage(f"{name}: {error.reason}", message=message) from None


def _cseq(value: str) -> CSeq | None:
    """Number and method of a CSeq, None when it is none."""
    number, _, method = value.partition(" ")
    if not method or "\t" in method or method[0] == " " or "\t" in number:
        # unusual white space, or something wrong
        found = _CSEQ(value)
        if found is None:
            return None
        number, method = found.groups()
    if len(number) > 10:
        number = number.lstrip("0") or "0"
    if len(number) > 10 or not (number.isascii() and number.isdigit()) or int(number) >= 2**32:  # s8.1.1.5
        return None
    counted = int(number)
    typed = counted, _METHODS.get(method, method)
    if counted < _LOW_CSEQ and method in _METHODS and value == f"{counted} {method}":
        keep(_KNOWN_CSEQS, value, typed, MOST)
    return typed


def _type_via(message: Message) -> None:
    """Types the topmost Via. Raises MalformedMessage without a message: nobody could be answered."""
    value = message.first.get("via")
    if value is None:
        raise MalformedMessage("no Via header field", message=None)
    try:
        message.via = Via.parse(split_list(value, 1)[0] if "," in value else value)
    except MalformedMessage as error:
        # s18.2.2 needs sent-by only; where that much can be read, the sender is answered
        via = _sent_by_only(value)
        if via is None:
            raise MalformedMessage(error.reason, message=None) from None
        message.via = via
        raise MalformedMessage(error.reason, message=message) from None


def _sent_by_only(value: str) -> Via | None:
    try:
        return Via.parse(value.partition(";")[0].rstrip(" \t\r\n"))
    except MalformedMessage:
        return None


def _unfold(lines: list[str]) -> list[str]:
    """Joins continuation lines to the line they continue, CRLF and all (s7.3.1)."""
    whole: list[str] = []
    pieces: list[str] = [lines[0]]
    for line in lines[1:]:
        if line[:1] in (" ", "\t"):
            pieces.append(line)
        else:
            whole.append("\r\n".join(pieces))
            pieces = [line]
    whole.append("\r\n".join(pieces))
    return whole


def _partial(lines: list[str]) -> Message | None:
    """The message as far as its lines can be read, for answering it; None for a response or when there is no Via."""
    start = lines[0].split(" ")
    if start[0][:4].upper() == "SIP/":
        return None
    headers: list[Header] = []
    first: dict[str, str] = {}
    for line in lines[1:]:
        if "\n" in line or "\r" in line:
            continue
        name, colon, value = line.partition(":")
        key = CANONICAL.get(name)
        if key is not None and colon:
            headers.append((key, value.strip(" \t\r\n"), line))
            first.setdefault(key, value.strip(" \t\r\n"))
    message = Request(start[0], "", headers, first, b"")
    try:
        _type_via(message)
    except MalformedMessage:
        return None
    return message


def what_can_be_read(data: bytes) -> Message | None:
    """The request as far as its lines can be read, for answering it; None for anything else and without a Via."""
    return _partial(data[:65536].decode("utf-8", "surrogateescape").split("\r\n"))


#: The header fields an answer needs, as nearly everybody spells them.
_ANSWERED: Final = {spelling: name for spelling, name in CANONICAL.items()
             if name in ("via", "from", "to", "call-id", "cseq")}


def glance(data: bytes) -> Request | None:
    """What an answer to a request needs: request line, Vias, From, To, Call-ID and CSeq, as `parse` would read them.

    For a server that has no time for the rest, which is neither read nor checked. None for responses, and for whatever
    is unusual: only `parse` can tell it from what is wrong.
    """
    end = data.find(b"\r\n\r\n")
    head = data[:end] if end > 0 else b""
    lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    if head.count(b"\n") >= len(lines) or head.count(b"\r") >= len(lines) or b"\n " in head or b"\n\t" in head:
        return None
    start = lines[0].split(" ")
    if len(start) != 3 or start[2] != "SIP/2.0" or start[0] not in _METHODS:
        return None
    headers: list[Header] = []
    first: dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        key = _ANSWERED.get(name)
        if key is None:
            # one of them in another spelling would change which Via is the topmost
            if name[:1] in "vVfFtTiIcC" and name not in CANONICAL:
                return None
            continue
        value = value.strip(" \t")
        if key not in first:
            first[key] = value
        elif key != "via":
            return None
        headers.append((key, value, line))
    request = Request(start[0], start[1], headers, first, b"")
    try:
        _type_core(request, "", False)
    except MalformedMessage:
        return None
    return request
