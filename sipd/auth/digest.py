"""Digest access authentication, both sides, pure (RFC 3261 s22.4, RFC 7616, RFC 8760).

The verifier reads `Authorization` and `Proxy-Authorization` into `Credentials` and computes what the answer should have
been; the client side reads a challenge and answers it. qop=auth, and the style of RFC 2069 without qop (RFC 3261 s22.4
asks for it); auth-int, -sess and userhash are never offered, so nobody may answer with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from hashlib import md5, new, sha256
from typing import Any, Final

from sipd.message.errors import MalformedMessage
from sipd.message.grammar import TOKEN
from sipd.message.kept import MOST, keep
from sipd.message.uri import unescape

#: Algorithm, as the RFCs write it, to its hash (RFC 7616 s6.1).
HASHES: Final[dict[str, Callable[[bytes], Any]]] = {
    "MD5": md5, "SHA-256": sha256, "SHA-512-256": partial(new, "sha512_256")}

#: The longest value of a header read here, in characters; the longest honest one is a quarter of it.
MAX_LENGTH: Final = 2048

#: One auth-param and the comma after it; the last group takes what cannot be read, to the end. Possessive, so linear.
#: Deviation: a value that should be quoted may come without quotes, as old phones send it.
_AUTH_PARAM: Final = re.compile(
    rf'[ \t\r\n]*+(?:({TOKEN})[ \t\r\n]*+=[ \t\r\n]*+("(?:[^"\\]|\\.)*+"|[^ \t\r\n",]++)[ \t\r\n]*+(?:,[ \t\r\n,]*+|\Z)'
    r'|(.+))', re.DOTALL)
_NC_VALUE: Final = re.compile(r"[0-9A-Fa-f]{8}").fullmatch
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)
#: Forms in which credentials are written, without what stands in quotes and without nc: the same in all that phones of
#: one make send. To the names of what stands in quotes, in order, and the parameters that do not. Longer ones
#: (characters) are read each time.
_KNOWN_FORMS: Final[dict[str, tuple[tuple[str, ...], dict[str, str]]]] = {}
_LONGEST_KNOWN: Final = 300
#: What stands for a text in quotes and for nc while a form is read: no phone writes these.
_QUOTED: Final = "\0"
_COUNT: Final = "\1"


class Credentials:
    """What a client claims and its proof. Text without the quotes and the backslashes of quoted-pairs: it is hashed so
    (RFC 7616 s3.3 unq)."""

    __slots__ = ("username", "realm", "nonce", "uri", "response", "algorithm", "qop", "nc", "cnonce")

    username: str
    realm: str
    nonce: str
    uri: str
    #: In lower case.
    response: str
    #: In upper case; "MD5" when the client names none (RFC 7616 s3.4).
    algorithm: str
    #: In lower case; "" in the style of RFC 2069.
    qop: str
    #: Eight hexadecimal digits as written; "" without qop.
    nc: str
    cnonce: str


def _auth_params(value: str, scheme_end: int) -> dict[str, str]:
    """The auth-params after the scheme, names in lower case. Raises MalformedMessage (400)."""
    found = _AUTH_PARAM.findall(value, scheme_end)
    if not found or found[-1][2]:
        raise MalformedMessage("Digest parameters cannot be read")
    params = {name.lower(): text[1:-1] if text[0] == '"' else text for name, text, _ in found}
    if len(params) != len(found):
        # two values of one name: what we check and what another reads could differ
        raise MalformedMessage("a Digest parameter stands twice")
    return params


def _formed_params(value: str) -> dict[str, str] | None:
    """As `_auth_params`, for a tenth of its work: a value is known by its form, which was read by the grammar. None for
    what cannot be read so: quotes or backslashes in quotes, or an nc that is not eight digits without quotes."""
    parts = value.split('"')
    form = '"'.join(parts[::2])
    nc = None
    place = form.find("nc=") + 3
    if place > 2:
        nc = form[place:place + 8]
        if not (len(nc) == 8 and nc.isascii() and nc.isdigit()):
            return None
        form = form[:place] + form[place + 8:]
    known = _KNOWN_FORMS.get(form) or _read_form(form, place if nc else 0)
    # a quote that is not closed, or that closes nothing
    if known is None or len(parts) % 2 == 0 or "\\" in value:
        return None
    params = dict(zip(known[0], parts[1::2]))  # noqa: B905  as many as the form has; a keyword would cost 2,000 instructions
    params.update(known[1])
    if nc:
        params["nc"] = nc
    return params


def _read_form(form: str, place: int) -> tuple[tuple[str, ...], dict[str, str]] | None:
    """What a form says, and keeps it; `place` is that of nc, 0 for none. None for what the form alone does not tell."""
    if len(form) > _LONGEST_KNOWN or _QUOTED in form or _COUNT in form:
        return None
    text = f"{form[:place]}{_COUNT}{form[place:]}" if place else form
    try:
        params = _auth_params(text.replace('"', f'"{_QUOTED}"'), 7)
    except MalformedMessage:
        return None
    if place and params.get("nc") != _COUNT or "username*" in params:
        return None
    known = (tuple([name for name, text in params.items() if text == _QUOTED]),
             {name: text for name, text in params.items() if text not in (_QUOTED, _COUNT)})
    keep(_KNOWN_FORMS, form, known, MOST)
    return known


def parse_credentials(value: str) -> Credentials | None:
    """Reads the value of one Authorization or Proxy-Authorization line; None for a scheme other than Digest.

    Raises MalformedMessage (400). Unknown parameters are ignored (RFC 7616 s3.4).
    """
    if value[:7] != "Digest " and value[:7].rstrip(" \t\r\n").lower() != "digest":
        return None
    if len(value) > MAX_LENGTH:
        raise MalformedMessage("Digest credentials are too long")
    value = value.rstrip(" \t\r\n")
    params = _formed_params(value)
    if params is None:
        params = _auth_params(value, 7)
        if "\\" in value:
            params = {name: _QUOTED_PAIR.sub(r"\1", text) for name, text in params.items()}
        if "username*" in params:
            # RFC 7616 s3.4: one of the two
            if "username" in params:
                raise MalformedMessage("Digest credentials with username and username*")
            params["username"] = _extended(params["username*"])
    get = params.get
    credentials = Credentials()
    try:
        credentials.username = params["username"]
        credentials.realm = params["realm"]
        credentials.nonce = params["nonce"]
        credentials.uri = params["uri"]
        credentials.response = params["response"].lower()
    except KeyError as error:
        raise MalformedMessage(f"Digest credentials without {error.args[0]}") from None
    credentials.algorithm = get("algorithm", "MD5").upper()
    credentials.qop = qop = get("qop", "").lower()
    credentials.nc = nc = get("nc", "") if qop else ""
    credentials.cnonce = get("cnonce", "") if qop else ""
    # RFC 7616 s3.4: nc and cnonce must stand when qop does
    if qop and (not (len(nc) == 8 and nc.isascii() and nc.isdigit()) and _NC_VALUE(nc) is None
                or "cnonce" not in params):
        raise MalformedMessage("Digest credentials with qop need cnonce and eight digits of nc")
    return credentials


def _extended(text: str) -> str:
    """The text of a value in the notation of RFC 5987, such as `UTF-8''J%C3%A4s`. Raises MalformedMessage (400)."""
    charset, _, rest = text.partition("'")
    _, quote, encoded = rest.partition("'")
    if not quote or charset.upper() != "UTF-8":
        raise MalformedMessage("a Digest username* that is not of UTF-8")
    return unescape(encoded)


def ha1(algorithm: str, username: str, realm: str, password: str) -> str:
    """H(A1), the secret a verifier keeps: worth the password inside its realm (RFC 7616 s3.4.2). KeyError for an
    algorithm not in HASHES."""
    text: str = HASHES[algorithm](f"{username}:{realm}:{password}".encode("utf-8", "surrogateescape")).hexdigest()
    return text


def request_digest(algorithm: str, secret: str, method: str, uri: str,
                   nonce: str, qop: str, nc: str, cnonce: str) -> str:
    """The response parameter a client must send (RFC 7616 s3.4.1). `secret` is H(A1), `qop` "auth", or "" for the style
    of RFC 2069. KeyError for an algorithm not in HASHES."""
    h = HASHES[algorithm]
    a2 = h(f"{method}:{uri}".encode("utf-8", "surrogateescape")).hexdigest()
    data = f"{secret}:{nonce}:{nc}:{cnonce}:{qop}:{a2}" if qop else f"{secret}:{nonce}:{a2}"
    text: str = h(data.encode("utf-8", "surrogateescape")).hexdigest()
    return text


def challenge(realm: str, nonce: str, algorithm: str, stale: bool = False) -> str:
    """The value of one WWW-Authenticate or Proxy-Authenticate line (RFC 7616 s3.3); `realm` needs no escapes."""
    text = f'Digest realm="{realm}", nonce="{nonce}", qop="auth", algorithm={algorithm}'
    return f"{text}, stale=true" if stale else text


def parse_challenge(value: str) -> dict[str, str] | None:
    """The parameters of one challenge, names in lower case; None for a scheme other than Digest. Raises
    MalformedMessage."""
    if value[:7].rstrip(" \t\r\n").lower() != "digest":
        return None
    if len(value) > MAX_LENGTH:
        raise MalformedMessage("a Digest challenge is too long")
    params = _auth_params(value.rstrip(" \t\r\n"), 7)
    if "realm" not in params or "nonce" not in params:
        raise MalformedMessage("a Digest challenge without realm or nonce")
    return params


def answer(params: dict[str, str], method: str, uri: str,
           username: str, password: str, cnonce: str, nc: int = 1) -> str:
    """The Authorization value that answers a challenge read by `parse_challenge` (RFC 7616 s3.4, RFC 8760 s2.4).

    `nc` counts the requests sent with this nonce, from 1. KeyError when the algorithm is none of ours.
    """
    written = params.get("algorithm", "MD5")
    algorithm = written.upper()
    offered = [word.strip(" \t").lower() for word in params.get("qop", "").split(",")]
    qop, count = ("auth", f"{nc:08x}") if "auth" in offered else ("", "")
    secret = ha1(algorithm, username, params["realm"], password)
    proof = request_digest(algorithm, secret, method, uri, params["nonce"], qop, count, cnonce)
    text = (f'Digest username="{username}", realm="{params["realm"]}", nonce="{params["nonce"]}", uri="{uri}", '
            f'response="{proof}", algorithm={written}')
    if qop:
        text += f', cnonce="{cnonce}", qop=auth, nc={count}'
    # s3.4: opaque goes back as it came
    return f'{text}, opaque="{params["opaque"]}"' if "opaque" in params else text
