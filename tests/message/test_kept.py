"""What is kept of texts that were met: how much, and for how long."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import TestCase

from sipd import auth
from sipd import message as messages
from sipd.auth.digest import parse_credentials
from sipd.message.address import Address, uri_of
from sipd.message.kept import MOST, MOST_ADDRESSES
from sipd.message.parser import parse
from sipd.message.uri import Uri
from sipd.message.values import delta_seconds
from sipd.message.via import Via
from tests.message.messages import OK, message

#: Everything that is kept, with its bound and what reads such a text, given what makes it another one each time.
KEPT: dict[str, tuple[int, Callable[[str], Any]]] = {
    "parser._KNOWN_STATUS": (MOST, lambda text: parse(message(base=OK, start=f"SIP/2.0 200 {text}"))),
    "parser._KNOWN_LINES": (MOST, lambda text: parse(message(f"User-Agent: {text}"))),
    "parser._LINES_OF_KNOWN": (MOST, lambda text: parse(message(f"User-Agent: {text}"), known=True)),
    "parser._KNOWN_ADDRESSES": (
        MOST, lambda text: parse(message(f"To: <sip:{text}@biloxi.com>;tag=1", without="To:"), known=True)),
    # the low ones of each method that has a name here
    "parser._KNOWN_CSEQS": (10, lambda text: parse(message(f"CSeq: {text} INVITE", without="CSeq:"))),
    "via._KNOWN_HEADS": (MOST, lambda text: Via.parse(f"SIP/2.0/UDP {text}.example.com;branch=z9hG4bK1")),
    "uri._KNOWN": (MOST_ADDRESSES, lambda text: Uri.parse(f"sip:{text}@biloxi.com")),
    "address._KNOWN": (MOST_ADDRESSES, lambda text: Address.parse(f"<sip:{text}@biloxi.com>")),
    "address._KNOWN_URIS": (MOST_ADDRESSES, lambda text: uri_of(f"<sip:{text}@biloxi.com>;tag=1", True)),
    "values._KNOWN_SECONDS": (MOST, delta_seconds),
    "digest._KNOWN_FORMS": (MOST, lambda text: parse_credentials(
        f'Digest username="a", realm="b", nonce="", uri="", response="", x={text}')),
}


class KeptTests(TestCase):
    """keep, and those who call it."""

    def setUp(self) -> None:
        """Finds what is kept, wherever it is in the rooms."""
        self.kept: dict[str, dict[str, Any]] = {}
        for room in (messages, auth):
            for module in pkgutil.iter_modules(room.__path__):
                for name, value in vars(importlib.import_module(f"{room.__name__}.{module.name}")).items():
                    if "KNOWN" in name and hasattr(value, "clear"):
                        self.kept[f"{module.name}.{name}"] = value
                        value.clear()

    def test_all(self) -> None:
        """Whoever keeps something is tried below."""
        self.assertEqual(sorted(self.kept), sorted(KEPT))

    def test_bound(self) -> None:
        """Whoever sends as many texts as they like fills none beyond its bound, where it is begun anew; the last one met
        is always there."""
        for name, (most, read) in KEPT.items():
            kept = self.kept[name]
            sizes = []
            for number in range(most + 10):
                read(str(number))
                sizes.append(len(kept))
            self.assertEqual(max(sizes), most, name)
            if most > 10:
                self.assertLess(sizes[-1], 20, name)
                self.assertIn(str(most + 9), list(kept)[-1], name)

    def test_length(self) -> None:
        """A text of any length is read, and a long one is not kept."""
        for name, (_, read) in KEPT.items():
            read("0" * 300 + "1")
            self.assertEqual([text for text in self.kept[name] if len(text) > 300], [], name)
