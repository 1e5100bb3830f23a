"""Who sent this request: the verifier of Digest credentials (RFC 3261 s22, RFC 7616 s3.4.6, RFC 8760 s2.3).

`check` is asked once per request that needs a user, never for CANCEL (s22.1), and answers at once: the user, or a
refusal with challenges, which for an ACK is not sent. It spends the same work, and says the same, whether the user is
unknown or the password wrong, and keeps nothing about those who fail.

Which challenges, in which order. One per configured algorithm, in configured order, all with one nonce, one a line
(RFC 8760 s2.3: most preferred first). What phones do with them, each seen by challenging the real program:

    SIPp 3.6.1            answers the first line only, fails when that is not MD5; sends no User-Agent
    Linphone 5.1.65       answers the first line, later the algorithm it saved; knows SHA-256
    baresip 1.0.0         gives up ("Function not implemented") when any line is not MD5, in either order
    JsSIP 3.13.8          answers the last line only, fails when that is not MD5
    SIP.js 0.21.2         as JsSIP (read in its source, not run)
    SIPp, baresip, JsSIP  fail on two challenges in one line, in one order or in both

So MD5 then SHA-256, the default, serves SIPp and Linphone, and the families that cannot bear a second line are known
by their User-Agent and get the MD5 line alone, when MD5 is configured at all. Nothing else in a request changes a
challenge; a user who must not use MD5 therefore needs a server without it, or a phone of another family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hmac import compare_digest
from typing import Final

from sipd.auth.credentials import User, Users
from sipd.auth.digest import Credentials, challenge, ha1, parse_credentials, request_digest
from sipd.auth.nonce import ONCE, Nonces
from sipd.message.address import uri_of
from sipd.message.errors import MalformedMessage, Reject
from sipd.message.message import Request
from sipd.message.uri import Uri

#: How User-Agent begins in families that register only when MD5 is the one challenge; see above.
MD5_ALONE: Final = ("baresip", "JsSIP", "SIP.js")

#: How many credentials for our realm are tried in one request; a phone sends one per challenge at most.
_TRIED: Final = 4

_MARK: Final = "\0"


class Unauthenticated(Reject):
    """A request refused for want of good credentials: 401 or 407 with challenges.

    `why` is for the journal and never sent: "" when there were no credentials for our realm, which is how every
    registration begins, else "unknown user", "wrong password", "stale nonce" or "algorithm not allowed".
    """

    def __init__(self, status: int, headers: tuple[tuple[str, str], ...], why: str) -> None:
        super().__init__(status, "", headers)
        self.why = why


class Authenticator:
    """Checks credentials for one realm.

    `algorithms` are names of digest.HASHES, in the order of the challenges. `place` gives the domain of the users at a
    host (lower case, IPv6 in brackets) and port of ours, "" for anybody else's. Without `required` everybody counts as
    authenticated. `entropy` as os.urandom.
    """

    __slots__ = ("_users", "_nonces", "_realm", "_usual", "_required", "_place", "_dummies", "_all", "_md5_alone",
                 "_entropy")

    def __init__(self, users: Users, nonces: Nonces, realm: str, algorithms: Iterable[str],
                 place: Callable[[str, int | None], str], entropy: Callable[[int], bytes],
                 required: bool = True) -> None:
        self._users = users
        self._nonces = nonces
        self._realm = realm
        #: How nearly every phone writes it.
        self._usual = f'realm="{realm}"'
        self._place = place
        self._entropy = entropy
        #: What stands in for the H(A1) of a user who has none: an unknown user costs what a wrong password does.
        self._dummies: dict[str, str] = {}
        self._all: list[tuple[str, str]] = []
        self._md5_alone: list[tuple[str, str]] = []
        self._required = required
        self.configure(algorithms, required)

    def configure(self, algorithms: Iterable[str], required: bool) -> None:
        """Asks by other algorithms from now on, or nobody any more."""
        algorithms = tuple(algorithms)
        self._required = required
        self._dummies = {name: ha1(name, "", self._realm, self._entropy(16).hex()) for name in algorithms}
        self._all = [self._cut(name) for name in algorithms]
        self._md5_alone = [self._cut("MD5")] if "MD5" in algorithms else self._all

    def _cut(self, algorithm: str) -> tuple[str, str]:
        before, _, after = challenge(self._realm, _MARK, algorithm).partition(_MARK)
        return before, after

    def check(self, request: Request, *, proxy: bool) -> User | None:
        """The user who sent the request, None when authentication is not required.

        `proxy` says which pair of headers counts: Proxy-Authorization and 407, or Authorization and 401 (s22.2, s22.3).
        Credentials for other realms are not looked at. Raises Unauthenticated, and Reject (400) for credentials of
        our realm that cannot be read, where no others are good, or were made for another URI.
        """
        found = self.verdict(request, proxy=proxy)
        if isinstance(found, Unauthenticated):
            raise found
        return found

    def verdict(self, request: Request, *, proxy: bool) -> User | Unauthenticated | None:
        """As `check`, with a challenge given back: nearly every registration begins with one, and what is raised
        through five functions costs more than its answer. Raises Reject (400)."""
        if not self._required:
            return None
        name = "proxy-authorization" if proxy else "authorization"
        why = broken = ""
        stale = False
        if name in request.first:
            tried = 0
            for value in request.all(name):
                # most values of other realms need not be read
                if self._realm not in value:
                    continue
                try:
                    credentials = parse_credentials(value)
                except MalformedMessage as error:
                    # s22.3: those for another realm are not ours to judge, though they name our domain
                    if self._usual in value:
                        broken = error.reason
                    continue
                if credentials is None or credentials.realm != self._realm:
                    continue
                login = credentials.username
                users = self._users
                user = users.get(login, self._domain(request) if users.ambiguous and "@" not in login else "")
                why = self._fault(request, credentials, user)
                if not why:
                    return user
                # RFC 3261 s22.3: others of the same realm may follow, so an old nonce alone decides nothing
                stale = stale or why == "stale nonce"
                tried += 1
                if tried == _TRIED:
                    break
            if broken and not why:
                raise Reject(400, broken)
        return self._challenge(request, proxy, "stale nonce" if stale else why)

    def concerns(self, value: str) -> bool:
        """True for credentials of our realm, good or bad, in the value of one header line."""
        if self._usual in value:
            return True
        if self._realm not in value:
            return False
        try:
            credentials = parse_credentials(value)
        except MalformedMessage:
            return False
        return credentials is not None and credentials.realm == self._realm

    def _domain(self, request: Request) -> str:
        """The place a request speaks of: To's in a REGISTER (s10.2), else From's; "" when it cannot be read."""
        try:
            flow = request.flow
            uri = uri_of(request.first.get("to" if request.method == "REGISTER" else "from", ""),
                         flow is not None and flow.known)
        except MalformedMessage:
            return ""
        return self._place(uri.host, uri.port)

    def _fault(self, request: Request, credentials: Credentials, user: User | None) -> str:
        """What is wrong with these credentials, "" when nothing is. Raises Reject (400)."""
        algorithm = credentials.algorithm
        # RFC 8760 s2.4: what we did not offer we do not take; -sess and unknown ones are challenged again.
        # RFC 2069 knew MD5 only and no qop
        if algorithm not in self._dummies or credentials.qop != "auth" and (credentials.qop or algorithm != "MD5"):
            return "algorithm not allowed"
        secret = None if user is None else user.secrets.get((algorithm, credentials.username))
        # RFC 3261 s22.1: an ACK brings the credentials of its INVITE
        method = request.method if request.method != "ACK" else "INVITE"
        wanted = request_digest(algorithm, secret or self._dummies[algorithm], method, credentials.uri,
                                credentials.nonce, credentials.qop, credentials.nc, credentials.cnonce)
        if not compare_digest(wanted.encode(), credentials.response.encode("utf-8", "surrogateescape")) or not secret:
            return "wrong password" if secret else "unknown user"
        assert user is not None
        if user.algorithms and algorithm not in user.algorithms:
            return "algorithm not allowed"
        if method is not request.method:
            # what was good for the INVITE is good for the ACK: used up, and however long the phone rang
            return "" if self._nonces.issued(credentials.nonce) else "stale nonce"
        # RFC 7616 s3.4.6: a uri that is not the Request-URI is a bad request
        if credentials.uri != request.uri_text and not self._same_target(request, credentials.uri):
            raise Reject(400, "The uri of the credentials is not the Request-URI")
        # RFC 7616 s3.3: only a client who knows the password is told that its nonce was stale
        if not self._nonces.accept(credentials.nonce, int(credentials.nc, 16) if credentials.qop else ONCE):
            return "stale nonce"
        return ""

    def _same_target(self, request: Request, uri_text: str) -> bool:
        """Whether the digest's uri is good for this Request-URI though written otherwise (RFC 8760 s2.6 item 6).

        Good is an equivalent URI (s19.1.4), the same user at another name of the same place of ours, since a user is
        one under all of them, and the bare URI of this server, which SIPp writes into every request it signs.
        """
        try:
            theirs, target = Uri.parse(uri_text), request.uri
        except MalformedMessage:
            return False
        place = self._place(theirs.host, theirs.port) if theirs.host else ""
        if place and (theirs.user is None or (target.is_sip and place == self._place(target.host, target.port)
                                              and theirs.unescaped_user() == target.unescaped_user())):
            return True
        return theirs.equivalent(target)

    def _challenge(self, request: Request, proxy: bool, why: str) -> Unauthenticated:
        agent = request.first.get("user-agent", "")
        nonce = self._nonces.issue()
        name = "Proxy-Authenticate" if proxy else "WWW-Authenticate"
        stale = ", stale=true" if why == "stale nonce" else ""
        parts = self._md5_alone if agent.startswith(MD5_ALONE) else self._all
        headers = []
        for before, after in parts:
            headers.append((name, f"{before}{nonce}{after}{stale}"))
        return Unauthenticated(407 if proxy else 401, tuple(headers), why)


def owns(user: User | None, aor: str) -> bool:
    """Whether an address-of-record (`name@first-domain`) is this user's; everything is where nobody logs in (None)."""
    return user is None or user.aor == aor
