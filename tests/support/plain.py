"""SIP messages read the short way, by nothing of sipd: for parties and referees that must not trust its parser.

Understands what sipd and the parties of `tests/support/parties.py` write: one header a line, long names, no folding.
"""

from __future__ import annotations

import re
from functools import lru_cache

_BRANCH = re.compile(r";branch=([^;,\s]+)")
_SENT_BY = re.compile(r"SIP/2\.0/(\w+) ([^;\s]+)")
_TAG = re.compile(r";tag=([^;\s]+)")
_URI = re.compile(r"<([^>]+)>")


class Plain:
    """One message. `status` is 0 for a request; `method` is that of CSeq for a response."""

    __slots__ = ("data", "status", "method", "uri", "number", "branch", "parent", "sent_by", "vias", "copied", "call_id",
                 "from_", "to", "to_tag", "contact", "contacts", "record_routes", "headers")

    def __init__(self, data: bytes) -> None:
        self.data = data
        start, *lines = data.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        #: Every line, by name in small letters.
        self.headers: dict[str, list[str]] = {}
        copied = []
        for line in lines:
            name, _, value = line.partition(": ")
            self.headers.setdefault(name.lower(), []).append(value)
            if name in ("Via", "From", "Call-ID", "CSeq"):
                copied.append(line)
        #: What a response copies, To left out.
        self.copied = "\r\n".join(copied)
        first, second, _ = start.split(" ", 2)
        headers = self.headers
        number, self.method = headers["cseq"][0].split()
        self.number = int(number)
        self.status = int(second) if first == "SIP/2.0" else 0
        self.uri = "" if self.status else second
        self.vias = headers.get("via", [])
        branches = [found.group(1) if (found := _BRANCH.search(via)) else "" for via in self.vias]
        self.branch = branches[0] if branches else ""
        #: The branch of the Via below, of whoever sent it to the one who sends it.
        self.parent = branches[1] if len(branches) > 1 else ""
        found = _SENT_BY.match(self.vias[0]) if self.vias else None
        self.sent_by = found.group(2) if found else ""
        self.call_id = headers["call-id"][0]
        self.from_ = headers["from"][0]
        self.to = headers["to"][0]
        found = _TAG.search(self.to)
        self.to_tag = found.group(1) if found else ""
        self.contacts = [uri for value in headers.get("contact", ()) for uri in _URI.findall(value)]
        self.contact = self.contacts[0] if self.contacts else ""
        self.record_routes = headers.get("record-route", [])

    @property
    def final(self) -> bool:
        """A final response."""
        return self.status >= 200

    def __repr__(self) -> str:
        return f"{self.status or ''} {self.method} {self.branch}".strip()


@lru_cache(maxsize=2048)
def read(data: bytes) -> Plain:
    """The message in these octets; nobody changes it."""
    return Plain(data)
