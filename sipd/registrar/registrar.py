"""The registrar: from a REGISTER whose sender has been checked to its answer (RFC 3261 s10.3 steps 6 to 8)."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from sipd.answer import Answer
from sipd.binding import Binding, Change
from sipd.inventory import Inventory, Table
from sipd.journal import Journal
from sipd.message.address import Address
from sipd.message.errors import MalformedMessage, Reject
from sipd.message.hop import Hop
from sipd.message.message import Request
from sipd.message.values import delta_seconds
from sipd.registrar.contact import Contact, parse_contacts
from sipd.registrar.rules import Limits, Registration, decide, news

if TYPE_CHECKING:
    from sipd.location.service import Location

#: What a binding keeps at most: characters of Call-ID, of all Path values, their number, characters of User-Agent.
_MOST_CALL_ID: Final = 512
_MOST_PATH: Final = 2048
_MOST_PATH_VALUES: Final = 8
_MOST_USER_AGENT: Final = 128
#: Contact lines longer than this (characters) are read each time: hostile ones must not fill the cache.
_CACHED_LINE: Final = 512
_NOTHING: Final[tuple[Contact, ...]] = ()
_BLANKS: Final = str.maketrans("", "", " \t")


class Registrar:
    """Answers REGISTER requests from the location service. `wall` tells seconds since the epoch."""

    def __init__(self, location: Location, limits: Limits, wall: Callable[[], float], journal: Journal,
                 inventory: Inventory) -> None:
        self._location = location
        self._limits = limits
        self._most_contacts = 0
        self.configure(limits)
        self._wall = wall
        self._journal = journal
        self._read: Table[str, tuple[Contact, ...]] = inventory.table("contacts read", 8192, cache=True)
        #: texts that many bindings have in common, kept once
        self._shared: Table[str, str] = inventory.table("shared texts", 1024, cache=True)
        self._date = ""
        self._date_of = 0

    def configure(self, limits: Limits) -> None:
        """Other limits, for the next REGISTER."""
        self._limits = limits
        #: In one request: enough to replace all there may be. Each is compared with each.
        self._most_contacts = 2 * max(limits.max_contacts, 10)

    def register(self, request: Request, aor: str, answer: Answer) -> None:
        """Serves a REGISTER for `aor`, the canonical `user@first-domain`, which the sender may change.

        `answer` is given once: at once when nothing changes or is to be stored, else after the commit. Raises Reject
        (400, 403, 420, 423, 503) or MalformedMessage, and then never answers.
        """
        now = self._wall()
        path = self._path(request) if "path" in request.first else ()
        contacts = self._contacts(request)
        changes: list[Change] = []
        if contacts is None or contacts:
            current = self._location.latest_at(aor, now)
            changes = decide(self._registration(request, aor, contacts, path, current), current, now, self._limits)
        if not changes:
            self._list(aor, path, now, answer)
            return
        if not self._location.admits(aor, changes):
            raise Reject(503, headers=(("Retry-After", "60"),))
        if self._location.durable:
            self._store(aor, current, changes, path, answer)
            return
        self._location.apply(aor, changes)
        if self._journal.sinks and self._journal.registrations:
            self._report(current, changes)
        self._list(aor, path, now, answer)
        if self._location.watchers:
            self._location.tell(aor, changes, "")

    def _store(self, aor: str, current: list[Binding], changes: list[Change], path: tuple[str, ...],
               answer: Answer) -> None:
        def stored(reason: str) -> None:
            if reason:
                # s10.3 step 7
                answer.give(500, "Registration Not Stored")
                return
            if self._journal.sinks and self._journal.registrations:
                self._report(current, changes)
            self._list(aor, path, self._wall(), answer)

        self._location.change(aor, changes, stored)

    def _registration(self, request: Request, aor: str, contacts: tuple[Contact, ...] | None,
                      path: tuple[str, ...], current: list[Binding]) -> Registration:
        flow = request.flow
        if flow is None:
            raise Reject(500, "Registration Without a Flow")
        if len(request.call_id) > _MOST_CALL_ID:
            raise MalformedMessage("Call-ID is too long")
        header = request.first.get("expires")
        expires = None
        if header is not None:
            expires = delta_seconds(header)
            if expires is None:
                expires = -1
        flow_id: str = flow.id
        # a flow is of one peer: a refresh that comes over the same one comes from the same place
        source = current[0].source if current and current[0].flow == flow_id else None
        if source is None:
            source = Hop(flow.transport, flow.address, flow.port)
        agent = request.first.get("user-agent")
        return Registration(
            aor, request.call_id, request.cseq_number, contacts, expires, path, source, request.via, flow_id,
            flow.listener.name, self._share(agent[:_MOST_USER_AGENT]) if agent else "")

    def _contacts(self, request: Request) -> tuple[Contact, ...] | None:
        """The contacts, empty for a query, None for "*" (s10.3 step 6)."""
        first = request.first.get("contact")
        if first is None:
            return _NOTHING
        lines = request.all("contact")
        if len(lines) > 1:
            if "*" in lines:
                raise Reject(400, "Contact * Stands Alone")
        elif first == "*":
            return None
        contacts = _NOTHING
        for line in lines:
            read = self._read.get(line)
            if read is None:
                read = parse_contacts(line, self._most_contacts)
                if not read:
                    raise MalformedMessage("Contact is empty")
                if len(line) <= _CACHED_LINE:
                    self._read.remember(line, read)
            contacts = contacts + read if contacts else read
            if len(contacts) > self._most_contacts:
                raise Reject(403, "Too Many Contacts")
        return contacts

    def _path(self, request: Request) -> tuple[str, ...]:
        """The Path, top first (RFC 3327 s5.3); a phone that does not know of Path gets the 420 recommended there."""
        if "path" not in (tag.lower() for tag in request.values("supported")) or _is_protected(request):
            raise Reject(420, headers=(("Unsupported", "path"),))
        path = tuple(request.values("path"))
        if len(path) > _MOST_PATH_VALUES or sum(map(len, path)) > _MOST_PATH:
            raise MalformedMessage("Path is too long")
        for value in path:
            if not Address.parse(value).uri.is_sip:
                raise MalformedMessage("Path holds a URI that is not SIP")
        return path

    def _share(self, text: str) -> str:
        known = self._shared.get(text)
        if known is None:
            self._shared.remember(text, text)
            return text
        return known

    def _report(self, current: list[Binding], changes: list[Change]) -> None:
        for kind, binding, old in news(current, changes):
            if kind == "registration-lost":
                self._journal.write(kind, aor=binding.aor, contact=binding.contact, reason="removed by the phone")
                continue
            fields = {"aor": binding.aor, "contact": binding.contact, "source": str(binding.source),
                      "expires": round(binding.expires_at - binding.registered_at)}
            if old is not None:
                fields["old"] = old.contact if old.contact != binding.contact else str(old.source)
            self._journal.write(kind, **fields)

    def _list(self, aor: str, path: tuple[str, ...], now: float, answer: Answer) -> None:
        """s10.3 step 8: a 200 with every binding, and the Path it came with (RFC 3327 s5.3)."""
        second = int(now)
        if second != self._date_of:
            self._date = formatdate(second, usegmt=True)
            self._date_of = second
        headers = []
        for binding in self._location.bindings_at(aor, now):
            # never 0, which would tell the phone that it is gone
            left = int(binding.expires_at - now + 0.5) or 1
            q = "" if binding.q == 1000 else f";q={binding.q / 1000:g}"
            headers.append(("Contact", f"<{binding.contact}>;expires={left}{q}{binding.params}"))
        for value in path:
            headers.append(("Path", value))
        headers.append(("Date", self._date))
        answer.give(200, "", tuple(headers))


def _is_protected(request: Request) -> bool:
    """RFC 3327 s6.1: where a REGISTER has an S/MIME copy of itself, support counts that is told in there, unreadable
    here."""
    kind = request.first.get("content-type", "").lower().translate(_BLANKS)
    return bool(request.body) and kind.startswith(("multipart/signed", "application/pkcs7", "application/x-pkcs7"))
