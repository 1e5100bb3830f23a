"""The package message-summary: how many messages wait in a mailbox (RFC 3842). Pure but for the table it is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from sipd.events.package import Asked, Document, Publication
from sipd.message.errors import MalformedMessage
from sipd.message.uri import uri_of_aor

KIND = "application/simple-message-summary"
#: s3.5: counters end here.
_MOST = 2**32 - 1
#: Lines of a summary that are looked at, and classes of messages in one.
_LINES, _CLASSES = 100, 20
#: RFC 3458 s6.2, s5.2: class, new and old messages, and how many of each are urgent.
_SUMMARY = re.compile(r"([A-Za-z][A-Za-z0-9.!%*_+`'~-]{0,60})[ \t]*:[ \t]*([0-9]{1,20})[ \t]*/[ \t]*([0-9]{1,20})"
                      r"(?:[ \t]*\([ \t]*([0-9]{1,20})[ \t]*/[ \t]*([0-9]{1,20})[ \t]*\))?[ \t]*")
_STATUS = re.compile(r"messages-waiting[ \t]*:[ \t]*(yes|no)[ \t]*", re.IGNORECASE)

#: New, old, new and urgent, old and urgent.
Counts = tuple[int, int, int, int]
#: Class in lower case, such as "voice-message", to its counts; a mailbox that only says that there is something has
#: the class "" with one new message.
Summary = dict[str, Counts]


def read(body: bytes) -> Summary:
    """A body in the syntax of s5.2. Raises MalformedMessage."""
    lines = body.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")[:_LINES]
    status = _STATUS.fullmatch(lines[0])
    if status is None:
        raise MalformedMessage("the message summary does not begin with Messages-Waiting")
    summary: Summary = {}
    for line in lines[1:]:
        if not line.strip(" \t"):
            break  # headers of messages follow
        found = _SUMMARY.fullmatch(line)
        if found is not None and len(summary) < _CLASSES:
            summary[found[1].lower()] = counts(*(int(number or "0") for number in found.groups()[1:]))
    if not summary and status[1].lower() == "yes":
        summary[""] = (1, 0, 0, 0)
    return summary


def counts(new: int, old: int, urgent_new: int = 0, urgent_old: int = 0) -> Counts:
    """Counters as s3.5 bounds them."""
    new, old = min(max(new, 0), _MOST), min(max(old, 0), _MOST)
    return new, old, min(max(urgent_new, 0), new), min(max(urgent_old, 0), old)


def merged(summaries: Iterable[Summary]) -> Summary:
    """Several mailboxes of one user as one: the counters of each class added up."""
    total: Summary = {}
    for summary in summaries:
        for kind, added in summary.items():
            have = total.get(kind, (0, 0, 0, 0))
            total[kind] = counts(*(one + other for one, other in zip(have, added, strict=True)))
    return total


def account(entity: str, voicemail: str) -> str:
    """s5.2: the URI that is called to hear the messages. `voicemail` is a URI, a number at the entity's domain, or ""
    for the entity itself."""
    if ":" in voicemail:
        return voicemail
    return f"sip:{voicemail}@{entity.rpartition('@')[2]}" if voicemail else uri_of_aor(entity)


def written(summary: Summary, entity: str, voicemail: str = "") -> str:
    """s5.2: the body. Phones look for a line of voice messages, so there always is one, unless nobody counted."""
    waiting = any(new for new, *_ in summary.values())
    lines = [f"Messages-Waiting: {'yes' if waiting else 'no'}", f"Message-Account: {account(entity, voicemail)}"]
    shown = {kind: numbers for kind, numbers in summary.items() if kind}
    if not shown and "" not in summary:
        shown = {"voice-message": (0, 0, 0, 0)}
    for kind, (new, old, urgent_new, urgent_old) in sorted(shown.items()):
        lines.append(f"{kind.title()}: {new}/{old} ({urgent_new}/{urgent_old})")
    return "\r\n".join([*lines, ""])


class MessageSummary:
    """The package. `publications` gives what was published for an entity, `mailboxes` what was told otherwise: entity
    to who told it (such as "api") to a summary."""

    name: str = "message-summary"
    kinds: tuple[str, ...] = (KIND,)
    published: tuple[str, ...] = (KIND,)
    #: s3.4.
    duration: int = 3600
    least: float = 1.0
    burst: int = 1
    partial: bool = False

    def __init__(self, publications: Callable[[str, str], Iterable[Publication]],
                 mailboxes: Mapping[str, Mapping[str, Summary]]) -> None:
        self._publications = publications
        self._mailboxes = mailboxes
        #: What is called to hear the messages: see `account`.
        self.voicemail = ""

    def summary(self, entity: str) -> Summary:
        """What waits there, whoever told it."""
        return merged([*self._mailboxes.get(entity, {}).values(),
                       *(read(one.body) for one in self._publications(self.name, entity))])

    def text(self, entity: str) -> str:
        """The body for those who watch there."""
        return written(self.summary(entity), entity, self.voicemail)

    def document(self, asked: Asked, last: object | None) -> Document:
        """See Package."""
        text = self.text(asked.entity)
        return Document(asked.kind, text, text)

    def check(self, kind: str, body: bytes) -> None:
        """See Package."""
        read(body)
