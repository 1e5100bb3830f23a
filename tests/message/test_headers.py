"""Header field names: compact forms and spellings."""

from __future__ import annotations

from sys import intern

from hypothesis import given
from twisted.trial.unittest import TestCase

from sipd.message.errors import MalformedMessage
from sipd.message.headers import CANONICAL, COMPACT, SPELLING, canonical
from tests.support.cases import shows
from tests.support.properties import check, hostile_text


class HeadersTests(TestCase):
    """canonical."""

    @shows("VAL-15", "7.3.3")
    def test_compact(self) -> None:
        """s7.3.3: every compact form in either case is its long form."""
        expected = {"i": "call-id", "m": "contact", "e": "content-encoding", "l": "content-length", "c": "content-type",
                    "f": "from", "s": "subject", "k": "supported", "t": "to", "v": "via", "o": "event", "r": "refer-to",
                    "b": "referred-by", "x": "session-expires", "u": "allow-events", "a": "accept-contact",
                    "j": "reject-contact", "d": "request-disposition", "y": "identity", "n": "identity-info"}
        self.assertEqual(COMPACT, expected)
        for short, long in expected.items():
            self.assertEqual((canonical(short), canonical(short.upper())), (long, long))

    def test_one_object(self) -> None:
        """Each canonical name is the object that the sources' own texts are, so that looking one up compares no letters."""
        for name in CANONICAL.values():
            self.assertIs(intern("".join(list(name))), name)

    def test_spellings(self) -> None:
        """s7.3.1: names are compared without regard to case; blanks may stand before the colon."""
        for name in ("Max-Forwards", "max-forwards", "MAX-FORWARDS", "MaX-fOrWaRdS", "Max-Forwards \t"):
            self.assertEqual(canonical(name), "max-forwards")
        self.assertEqual(canonical("X-Unknown"), "x-unknown")

    def test_tables_agree(self) -> None:
        """The table of usual spellings says what the rule says."""
        for name, key in CANONICAL.items():
            self.assertEqual(canonical(name), key)
        for key, name in SPELLING.items():
            self.assertEqual(canonical(name), key)

    def test_broken(self) -> None:
        """What is no token names no header."""
        for name in ("", " ", "a b", " Via", "Via:", "V\u00eda", "a\x00", "a(b)", "a/b"):
            self.assertRaises(MalformedMessage, canonical, name)

    @check
    @given(hostile_text)
    def test_only_malformed_escapes(self, text: str) -> None:
        """A name is read or refused, and reading it again changes nothing."""
        try:
            key = canonical(text)
        except MalformedMessage:
            return
        self.assertEqual(canonical(key) if key not in COMPACT else key, key)
