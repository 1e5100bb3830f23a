"""Session descriptions as a controller passes them on (RFC 3264, RFC 3725 s4). Pure; it understands what it must.

A controller has a session with each of two parties. What one offers the other gets, but each of the two sessions keeps
its own media lines in their order (RFC 3264 s8): `Pairing` knows which line of the one is which of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

#: Media lines of one description at most.
_MOST_MEDIA = 32
#: Transport protocols of media that can be held without keys of our own.
_PLAIN = frozenset({"RTP/AVP", "RTP/AVPF"})


class Description(NamedTuple):
    """The lines before the first m=, and the lines of each media, m= first."""

    session: tuple[str, ...]
    media: tuple[tuple[str, ...], ...]

    @staticmethod
    def parse(body: bytes) -> Description | None:
        """Reads a description; None when it is none that could be passed on."""
        try:
            lines = [line for line in body.decode("utf-8").replace("\r\n", "\n").split("\n") if line]
        except UnicodeDecodeError:
            return None
        if not lines or lines[0] != "v=0" or any(line[1:2] != "=" for line in lines):
            return None
        session: list[str] = []
        media: list[list[str]] = []
        for line in lines:
            if line[:2] == "m=":
                if len(line.split(" ")) < 4 or not line.split(" ")[1].partition("/")[0].isascii():
                    return None
                media.append([line])
            else:
                (media[-1] if media else session).append(line)
        if not media or len(media) > _MOST_MEDIA or not any(line[:2] == "o=" for line in session):
            return None
        return Description(tuple(session), tuple(map(tuple, media)))

    def text(self, origin: str) -> bytes:
        """The octets, with `origin` as the value of o=: to each party it is we who speak (RFC 3264 s8)."""
        lines = [f"o={origin}" if line[:2] == "o=" else line for line in self.session]
        lines += [line for media in self.media for line in media]
        return "\r\n".join([*lines, ""]).encode("utf-8")

    def held(self) -> Description:
        """The answer that takes this offer and sends and wants nothing (RFC 3264 s6.1, s8.4). What would need a key of
        ours is refused: port 0."""
        connection = next((line for part in (self.session, *self.media) for line in part if line[:2] == "c="), "")
        nowhere = "c=IN IP6 ::" if connection[:8] == "c=IN IP6" else "c=IN IP4 0.0.0.0"
        session = [line for line in self.session if line[:2] in ("v=", "o=", "s=")]
        session += [nowhere, *(line for line in self.session if line[:2] == "t=")]
        return Description(tuple(session), tuple(map(_held, self.media)))


def _held(media: tuple[str, ...]) -> tuple[str, ...]:
    kind, port, protocol, formats = media[0].split(" ", 3)
    if port == "0" or protocol not in _PLAIN:
        return (f"{kind} 0 {protocol} {formats}",)
    kept = [line for line in media[1:] if line.startswith(("a=rtpmap:", "a=fmtp:"))]
    return (f"{kind} 9 {protocol} {formats}", *kept, "a=inactive")


def _kind(media: tuple[str, ...]) -> str:
    return media[0].split(" ", 1)[0]


def _refused(media: tuple[str, ...]) -> bool:
    return media[0].split(" ")[1].partition("/")[0] == "0"


def _off(media: tuple[str, ...]) -> tuple[str, ...]:
    """The media line refused, or taken away."""
    kind, _, protocol, formats = media[0].split(" ", 3)
    return (f"{kind} 0 {protocol} {formats}",)


def _whole(media: Sequence[tuple[str, ...]], before: Sequence[tuple[str, ...]],
           number: int) -> tuple[tuple[str, ...], ...]:
    """So many media lines: whoever leaves lines out that the session had, or adds some to an answer, means them off."""
    return tuple(media[place] if place < len(media) else _off(before[place]) for place in range(number))


class Pairing(NamedTuple):
    """The media lines of two sessions: for each line of a side the number of its partner on the other, -1 for none, and
    how it was written last. Sides are 0 and 1. A value: an offer that is refused has changed nothing."""

    partners: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    lines: tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]] = ((), ())

    def alone(self, side: int, media: tuple[tuple[str, ...], ...]) -> Pairing:
        """One side has a session, with these media, and nobody to talk to."""
        return self._with(side, (-1,) * len(media), media)

    def offer(self, side: int, offer: Description) -> tuple[Pairing, Description]:
        """What the other side is offered when this side offers that."""
        mine, other = list(self.partners[side]), list(self.partners[1 - side])
        theirs = list(self.lines[1 - side])
        mine += [-1] * (len(offer.media) - len(mine))
        offered = _whole(offer.media, self.lines[side], len(mine))
        for number, line in enumerate(offered):
            if mine[number] >= 0 or _refused(line):
                continue
            for place, partner in enumerate(other):
                if partner < 0 and _kind(theirs[place]) == _kind(line):
                    break
            else:
                place = len(other)
                other.append(-1)
                theirs.append(line)
            mine[number], other[place] = place, number
        media = tuple(offered[partner] if partner >= 0 else _off(theirs[place]) for place, partner in enumerate(other))
        paired = self._with(side, tuple(mine), offered)._with(1 - side, tuple(other), media)
        return paired, Description(offer.session, media)

    def answer(self, side: int, answer: Description) -> tuple[Pairing, Description]:
        """What the other side, which made the offer, gets when this side answers it so."""
        partners, offered = self.partners[1 - side], self.lines[1 - side]
        answered = _whole(answer.media, self.lines[side], len(self.partners[side]))
        media = tuple(answered[partner] if partner >= 0 else _off(offered[place])
                      for place, partner in enumerate(partners))
        return (self._with(side, self.partners[side], answered)._with(1 - side, partners, media),
                Description(answer.session, media))

    def _with(self, side: int, partners: tuple[int, ...], lines: tuple[tuple[str, ...], ...]) -> Pairing:
        if side == 0:
            return Pairing((partners, self.partners[1]), (lines, self.lines[1]))
        return Pairing((self.partners[0], partners), (self.lines[0], lines))
