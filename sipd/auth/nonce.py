"""Nonces that cost nothing until they are used (RFC 7616 s3.3, s5.4, RFC 3261 s26.3.2.4).

A nonce is the microsecond it was issued in and a keyed MAC over it, so that challenging a stranger stores nothing. Only
a request whose digest was right makes an entry: the window of the counts (nc) seen with that nonce, 64 wide, so that
requests may overtake each other and none is taken twice.

Windows live in two generations. New ones enter the young; when the young is half the bound or `lifetime` old, the old
generation is dropped whole and the young becomes the old one. Every nonce ever entered in a generation was issued
before that generation closed, so after the drop no nonce issued before that moment is taken any more (`_floor`): one
whose window is gone is stale, never accepted as unused. Stale is also what a nonce is that outlived `lifetime`, or
that another process or nobody issued. The price of a bound reached early is one more challenge.
"""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from sipd.inventory import Inventory, Table
from sipd.message.identifiers import keyed_hash

#: The count to give for credentials without one (RFC 2069): the nonce is good for this one request.
ONCE: Final = 1 << 32

_STAMP_BYTES: Final = 7
_MAC_BYTES: Final = 9
_NONCE_DIGITS: Final = 2 * (_STAMP_BYTES + _MAC_BYTES)
_WIDTH: Final = 64
_ALL_SEEN: Final = (1 << _WIDTH) - 1


class Nonces:
    """Issues nonces and accepts each (nonce, nc) once.

    `lifetime` is in seconds from issue; `limit` bounds the windows of both generations together.
    """

    __slots__ = ("_clock", "_keyed", "_origin", "_last", "_lifetime", "_span", "_half", "_young", "_old", "_closed",
                 "_floor", "_timer")

    def __init__(self, clock: IReactorTime, entropy: Callable[[int], bytes], inventory: Inventory,
                 lifetime: float = 300.0, limit: int = 131072) -> None:
        self._clock = clock
        #: Copied for each nonce.
        self._keyed = keyed_hash(entropy(32), _MAC_BYTES)
        #: The stamp of clock second 0; by chance, so that a nonce does not tell how long the server runs.
        self._origin = int.from_bytes(entropy(5), "big") - int(clock.seconds() * 1e6)
        self._last = 0
        self._lifetime = lifetime
        self._span = int(lifetime * 1e6)
        self._half = max(1, limit // 2)
        #: Stamp to window: the highest nc seen, shifted left by 64, and a bit for it (bit 0) and the 63 below it.
        self._young: Table[int, int] = inventory.table("nonces-young", self._half)
        self._old: Table[int, int] = inventory.table("nonces-old", self._half)
        self._closed = 0
        self._floor = 0
        self._timer: IDelayedCall | None = None

    def bound(self, limit: int) -> None:
        """Another bound on the windows of both generations."""
        self._half = max(1, limit // 2)
        self._young.limit = self._old.limit = self._half

    def issue(self) -> str:
        """A nonce nobody has seen; nothing is stored."""
        stamp = self._origin + int(self._clock.seconds() * 1e6)
        if stamp <= self._last:
            stamp = self._last + 1
        self._last = stamp
        data = stamp.to_bytes(_STAMP_BYTES, "big")
        return (data + self._mac(data)).hex()

    def accept(self, nonce: str, nc: int) -> bool:
        """Takes the count `nc` of a nonce, once; False means stale: forged, expired, counted before, or forgotten.

        To be asked only when the digest over it was right, since True is remembered.
        """
        stamp = self._stamp(nonce)
        if stamp <= self._floor or self._origin + int(self._clock.seconds() * 1e6) - stamp >= self._span:
            return False
        table = self._young
        window = table.get(stamp)
        if window is None:
            table = self._old
            window = table.get(stamp)
        if window is None:
            self._enter(stamp, (nc << _WIDTH) | (_ALL_SEEN if nc == ONCE else 1))
            return True
        highest, seen = window >> _WIDTH, window & _ALL_SEEN
        if nc == ONCE:
            return False
        ahead = nc - highest
        if ahead > 0:
            table[stamp] = nc << _WIDTH | ((seen << ahead | 1) & _ALL_SEEN if ahead < _WIDTH else 1)
            return True
        if ahead <= -_WIDTH or seen >> -ahead & 1:
            return False
        table[stamp] = window | 1 << -ahead
        return True

    def issued(self, nonce: str) -> bool:
        """True for a nonce of this process, used or not, however old."""
        return self._stamp(nonce) > 0

    def _stamp(self, nonce: str) -> int:
        """The microsecond a nonce was issued in, 0 when it was not issued here."""
        if len(nonce) != _NONCE_DIGITS:
            return 0
        try:
            data = bytes.fromhex(nonce)
        except ValueError:
            return 0
        head = data[:_STAMP_BYTES]
        if not compare_digest(data[_STAMP_BYTES:], self._mac(head)):
            return 0
        return int.from_bytes(head, "big")

    def _mac(self, stamp: bytes) -> bytes:
        mac = self._keyed.copy()
        mac.update(stamp)
        return mac.digest()

    def _enter(self, stamp: int, window: int) -> None:
        if len(self._young) >= self._half:
            self._turn()
        self._young[stamp] = window
        if self._timer is None:
            self._timer = self._clock.callLater(self._lifetime, self._expire)

    def _turn(self) -> None:
        """Drops the old generation and closes the young one."""
        self._old.clear()
        self._floor = self._closed
        self._closed = self._last
        self._young, self._old = self._old, self._young
        if self._timer is not None:
            self._timer.reset(self._lifetime)

    def _expire(self) -> None:
        """The young generation is `lifetime` old, so whatever the old one holds has expired."""
        self._timer = None
        self._turn()
        if self._old:
            self._timer = self._clock.callLater(self._lifetime, self._expire)
