"""The event state compositor: what others publish about a user, kept under entity tags (RFC 3903 s6).

A PUBLISH is answered 200 after its state is on disk. Those about one entity are served one after the other, as they
came (s6), so that an entity tag is good for one change.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

from sipd.answer import Answer
from sipd.events.package import Package, Publication, event_of, kind_of
from sipd.inventory import Inventory, Table
from sipd.message.errors import MalformedMessage, Reject
from sipd.message.identifiers import Identifiers
from sipd.message.message import Request
from sipd.message.values import delta_seconds
from sipd.records import Change, IRecords
from sipd.wheel import Timer, TimerWheel

#: The kind of its records.
KIND = "publication"
#: Publications of one entity and package, PUBLISHes that wait for one that is being stored, octets of a body.
MOST, MOST_WAITING, MOST_OCTETS = 10, 16, 32768

#: Package and entity.
Key = tuple[str, str]


class Times(NamedTuple):
    """How long state is kept (seconds)."""

    least: int = 60
    usual: int = 3600
    most: int = 7200

    def granted(self, text: str | None, usual: int = 86400) -> int:
        """The seconds for an Expires value, None for none: then they are not more than the `usual` ones of a package.
        Raises MalformedMessage, and Reject (423)."""
        if text is None:
            return min(self.usual, usual)
        wanted = delta_seconds(text)
        if wanted is None:
            raise MalformedMessage("Expires is not a number")
        # RFC 6665 s4.2.1.1: only what is shorter than an hour may be called too brief
        if 0 < wanted < min(self.least, 3600):
            raise Reject(423, headers=(("Min-Expires", str(self.least)),))
        return min(wanted, self.most)


class Compositor:
    """Keeps publications. `changed(package, entity)` is called when those of an entity are others; `wall` tells seconds
    since the epoch; `limit` bounds publications in all."""

    def __init__(self, packages: Mapping[str, Package], records: IRecords, wheel: TimerWheel, wall: Callable[[], float],
                 identifiers: Identifiers, changed: Callable[[str, str], None], inventory: Inventory, times: Times,
                 limit: int = 20_000) -> None:
        self._packages = packages
        self._records = records
        self._wheel = wheel
        self._wall = wall
        self._identifiers = identifiers
        self._changed = changed
        self.times = times
        #: By package and entity, then by entity tag.
        self._kept: Table[Key, dict[str, Publication]] = inventory.table("published states", limit)
        self._timers: Table[str, Timer] = inventory.table("publications", limit)
        #: PUBLISHes that wait while one about the same entity is being stored.
        self._busy: Table[str, list[Callable[[], None]]] = inventory.table("publications being stored", limit)

    def restore(self, key: str, text: str) -> bool:
        """A record of the file; False where it is not wanted any more."""
        value = json.loads(text)
        one = Publication(value["package"], value["entity"], key, value["kind"], b64decode(value["body"]),
                          float(value["expires_at"]))
        if one.expires_at <= self._wall() or one.package not in self._packages or self._timers.full:
            return False
        self._keep(one)
        return True

    def publications(self, package: str, entity: str) -> Iterable[Publication]:
        """What is published about an entity, oldest first."""
        return self._kept.get((package, entity), {}).values()

    def entities(self) -> Iterable[Key]:
        """Of what there are publications, as package and entity."""
        return self._kept.keys()

    def configure(self, times: Times, limit: int) -> None:
        """Other settings, for PUBLISHes that come from now on."""
        self.times = times
        self._kept.limit = self._timers.limit = self._busy.limit = limit

    def publish(self, request: Request, entity: str, answer: Answer) -> None:
        """Serves a PUBLISH about `entity` whose sender may send it. `answer` is given once, after the commit.

        Raises Reject and MalformedMessage, and then never answers.
        """
        key = event_of(request)[0], entity
        waiting = self._busy.get(entity)
        if waiting is None:
            self._serve(request, key, answer)
            return
        if len(waiting) >= MOST_WAITING:
            raise Reject(503, headers=(("Retry-After", "5"),))

        def turn() -> None:
            try:
                self._serve(request, key, answer)
            except (Reject, MalformedMessage) as error:
                answer.give(error.status, error.reason, error.headers if isinstance(error, Reject) else ())

        waiting.append(turn)

    def _serve(self, request: Request, key: Key, answer: Answer) -> None:
        name, entity = key
        package = self._packages[name]
        present = self._kept.get(key, {})
        tag = request.first.get("sip-if-match")
        if tag is not None:
            tags = request.values("sip-if-match")
            if len(tags) != 1:
                raise MalformedMessage("SIP-If-Match holds one entity tag")   # step 3
            tag = tags[0]
            if tag not in present or present[tag].expires_at <= self._wall():
                raise Reject(412)
        seconds = self.times.granted(request.first.get("expires"))            # step 4
        old = present.get(tag or "")
        kind, body = self._state(request, package, old)                       # step 5
        gone = old
        if old is None and seconds:
            if len(present) >= MOST:
                # somebody publishes each time anew and forgets the tags: what nobody refreshed for longest gives way
                gone = next(iter(present.values()))
            elif self._timers.full:
                self._timers.refused += 1
                raise Reject(503, headers=(("Retry-After", "60"),))
        new = Publication(name, entity, self._identifiers.tag(), kind, body, self._wall() + seconds)
        changes: list[Change] = [(KIND, gone.etag, None)] if gone is not None else []
        if seconds:
            changes.append((KIND, new.etag, json.dumps({
                "package": name, "entity": entity, "kind": kind, "body": b64encode(body).decode(),
                "expires_at": new.expires_at})))
        same = old is not None and seconds > 0 and old.body == body
        self._busy[entity] = []
        self._records.commit(changes, partial(self._stored, gone, new, seconds, same, answer))

    @staticmethod
    def _state(request: Request, package: Package, old: Publication | None) -> tuple[str, bytes]:
        body = request.body
        if not body:
            if old is None:
                raise MalformedMessage("a first PUBLISH brings a body")
            return old.kind, old.body
        if len(body) > MOST_OCTETS:
            raise Reject(413)
        kind = kind_of(request) or package.published[0]
        encoding = request.first.get("content-encoding", "identity")
        if kind not in package.published or encoding.lower() != "identity":
            raise Reject(415, headers=(("Accept", ", ".join(package.published)), ("Accept-Encoding", "identity")))
        package.check(kind, body)
        return kind, body

    def _stored(self, gone: Publication | None, new: Publication, seconds: int, same: bool, answer: Answer,
                reason: str) -> None:
        """`new` takes the place of `gone`; `same`: it says the same."""
        key = new.package, new.entity
        if reason:
            answer.give(500, "Publication Not Stored")
        else:
            if gone is not None:
                self._forget(gone)
            if seconds:
                self._keep(new)
            answer.give(200, "", (("SIP-ETag", new.etag), ("Expires", str(seconds))))
            if not same:
                self._changed(*key)
        # those that came meanwhile, in their order: each may make the others wait again
        waiting = self._busy.pop(new.entity, [])
        while waiting:
            waiting.pop(0)()
            if new.entity in self._busy:
                self._busy[new.entity] += waiting
                return

    def _keep(self, one: Publication) -> None:
        self._kept.setdefault((one.package, one.entity), {})[one.etag] = one
        self._timers[one.etag] = self._wheel.start(max(0.0, one.expires_at - self._wall()), self._expired, one)

    def _forget(self, one: Publication) -> None:
        timer = self._timers.pop(one.etag, None)
        if timer is not None:
            timer.cancel()
        key = one.package, one.entity
        tags = self._kept.get(key, {})
        tags.pop(one.etag, None)
        if not tags:
            self._kept.pop(key, None)

    def _expired(self, one: Publication) -> None:
        """s4.5: what nobody refreshed is gone."""
        self._forget(one)
        self._records.commit([(KIND, one.etag, None)], _whatever)
        self._changed(one.package, one.entity)


def _whatever(reason: str) -> None:
    """A deletion that failed is made up for at the next start, where expired records are dropped."""
