"""What an answer to a stored message means, and when it is tried again (RFC 3261 s21, RFC 3428 s7). Pure."""

from __future__ import annotations

#: It was taken.
DELIVERED = "delivered"
#: This phone will never take it, however often it is asked.
REFUSED = "refused"
#: The user does not want it: "delivered successfully, but refused" (RFC 3428 s7). No other is asked (s16.7 step 5).
DECLINED = "declined"
#: Not now.
LATER = "later"

#: 4xx that speak of a state that passes. 404, of a phone: it has not been told yet who it is. 413 only with
#: Retry-After (s21.4.11). 481 and 482: what it remembers of a dialog or of another copy. 483: another way may be
#: shorter. All others say that the request as it is was not understood, is not allowed or is not supported, which is
#: not to be repeated without a change (s21.4.1, s21.4.4 and the like), and we change nothing; unknown ones count as
#: 400 (s8.1.3.2).
_PASSING = frozenset({404, 408, 429, 430, 439, 480, 481, 482, 483, 486, 487, 491})
#: 5xx that do not: MESSAGE, the version of SIP, or a request of this size is beyond it (s21.5.2, s21.5.6, s21.5.7).
_LASTING = frozenset({501, 505, 513})
#: What a relayed MESSAGE comes to when nobody could be reached: no answer, nobody there, no flow, no way (also beyond
#: the next hop).
UNREACHED = frozenset({408, 430, 480, 503, 504})

#: Seconds until an attempt that failed is repeated: at first, and at most, doubled each time, a part of it chance.
FIRST_PAUSE, LONGEST_PAUSE, CHANCE = 60.0, 3600.0, 0.2


def verdict(status: int, retry_after: int, seen: bool) -> str:
    """What a final response means; 0 for none. `seen`: the phone may have got this very request before, and its answer
    was lost. Then 482 says that it has it (s8.2.2.2)."""
    if 200 <= status < 300 or (status == 482 and seen):
        return DELIVERED
    if status >= 600:
        return DECLINED
    if status < 400 or status in _PASSING or (status == 413 and retry_after):
        return LATER
    return REFUSED if status < 500 or status in _LASTING else LATER


def pause(failures: int, retry_after: int, chance: float) -> float:
    """Seconds until the next attempt after so many failures in a row; `chance` from 0 to 1. Not before the time that
    the phone asked for (s20.33), as far as that is an hour."""
    seconds = min(FIRST_PAUSE * 2.0 ** min(failures - 1, 10), LONGEST_PAUSE)
    return max(seconds * (1.0 - CHANCE + 2.0 * CHANCE * chance), min(float(retry_after), LONGEST_PAUSE))
