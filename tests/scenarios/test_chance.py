"""Ten thousand calls by chance over a network that loses, copies, holds back and reorders, in virtual time.

Forks side by side and one after the other, CANCEL against 2xx, two 2xx, silent branches, 6xx, 503, redirections,
re-INVITEs, phones that die, connections that break, hops that refuse: `tests/support/parties.py` has what parties do,
`tests/support/random_call.py` what befalls them, `tests/support/referee.py` what must hold.

A failure names its seed; `CHANCE_SEED=1234` in the environment plays that call alone and prints its messages.
"""

from __future__ import annotations

import os
from collections import Counter

from twisted.trial.unittest import TestCase

from tests.support.cases import shows
from tests.support.random_call import RandomCall
from tests.support.referee import Referee

_CALLS = 10_000
#: What must have happened in so many of the calls at least, or they show less than they say.
_HAPPENED = {
    "a final of 2xx": 2000, "a final of 3xx": 200, "a final of 4xx": 2000, "a final of 5xx": 200, "a final of 6xx": 200,
    "two 2xx": 200, "two phones answer": 100, "CANCEL": 500, "CANCEL against 2xx": 100, "one after the other": 1000,
    "at the same time": 1000, "another hop": 100, "timer C or a long ring": 100, "503": 300, "a redirection": 100,
    "a redirection followed": 100, "through ourselves": 100, "an INVITE repeated": 500, "a loop": 20,
}
#: The same of what the parties did.
_DONE = {"connection broken": 500, "died": 300, "re-INVITE": 500, "answer in spite of CANCEL": 100,
         "CANCEL crossed a final response": 50, "BYE 2xx": 500, "MESSAGE 2xx": 50, "silent": 300}


class Chance(TestCase):
    """Random calls and a referee."""

    def play(self, seed: int) -> tuple[RandomCall, set[str]]:
        """One call from its seed to its end; a failure has the seed and the messages."""
        call = RandomCall(seed)
        try:
            call.play()
            referee = Referee(call)
            referee.judge()
            errors = self.flushLoggedErrors()
            assert not errors, errors[0].getTraceback()
        except Exception as error:
            print(f"the call of seed {seed} failed: CHANCE_SEED={seed} plays it again")
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}\n{call.ladder()}") from error
        return call, referee.happened()

    @shows("INV-02", "INV-17", "CAN-01", "CAN-05", "CAN-11", "16.7", "9.1", "17.1", "17.2", "16.10")
    def test_calls(self) -> None:
        """Each INVITE ends with 2xx alone or one refusal, the best there was; every loser is cancelled or has ended; a
        message is sent twice by its timer's schedule alone, or because one came again; nothing is left, no bug."""
        alone = os.environ.get("CHANCE_SEED")
        if alone:
            print(self.play(int(alone))[0].ladder())
            return
        happened, done = Counter[str](), Counter[str]()
        for seed in range(_CALLS):
            call, words = self.play(seed)
            happened.update(words)
            done += call.stage.counts
        rare = {word: (total[word], least) for total, wanted in ((happened, _HAPPENED), (done, _DONE))
                for word, least in wanted.items() if total[word] < least}
        self.assertEqual(rare, {}, f"too rare: {happened}, {done}")
