"""docs/cli.md against a busy server: what the page shows of each command is what it prints."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from sipd.admin.cli import main
from tests.support.office import Office
from tools.cli_page import PAGE, cut, page


class CliPageTests(SynchronousTestCase):
    """An office at work."""

    maxDiff = None

    def test_page(self) -> None:
        """Each command of the page, run against the office, prints what stands there (`python tools/cli_page.py`)."""
        directory = self.mktemp()
        os.makedirs(directory)
        office = Office(directory)
        self.addCleanup(office.close)
        text = PAGE.read_text(encoding="utf-8")
        self.assertEqual(text, page(text, office.day()))
        self.assertEqual(office.rig.bugs, [])

    def test_every_table_is_shown(self) -> None:
        """Every word of `sip show`, and every command that shows something, has its table in the page."""
        text = PAGE.read_text(encoding="utf-8")
        shown = main.commands["sip"].commands["show"].commands  # type: ignore[attr-defined]
        missing = [word for word in shown if f"$ sipctl sip show {word}" not in text]
        missing += [word for word in ("routes", "route test", "groups", "forwards", "registrations", "originations",
                                      "qualify", "status") if f"$ sipctl {word}" not in text]
        self.assertEqual(missing, [])

    def test_cut(self) -> None:
        """A long answer is cut, and what sums it up stays."""
        table = "a  b\n" * 30
        self.assertEqual(cut(table), "a  b\n" * 14 + "...\n")
        self.assertEqual(cut(table + "30 calls now\n"), "a  b\n" * 14 + "...\n30 calls now\n")
        self.assertEqual(cut("a  b\n" * 16), "a  b\n" * 16)
        self.assertEqual(cut(table + "\n" + table), table + "\n" + table)
