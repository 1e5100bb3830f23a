"""Forwards and do-not-disturb: the file, run time over it, and what is left after a restart."""

from __future__ import annotations

import json
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from sipd.config_routing import Forward
from sipd.inventory import Inventory
from sipd.routing.forwards import MOST, Forwards
from sipd.state import FORWARDS, StateError

ONE, TWO = "1001@example.com", "1002@example.com"


class ForwardsTests(SynchronousTestCase):
    """In a state directory of their own."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.changes = 0

    def changed(self) -> None:
        """Counts."""
        self.changes += 1

    def started(self) -> Forwards:
        """As after a start of the server."""
        forwards = Forwards(self.directory, Inventory(), self.changed)
        forwards.load()
        forwards.configure({ONE: Forward(busy="1009", no_answer="1008", no_answer_after=7.0)})
        return forwards

    def test_file_alone(self) -> None:
        """Nothing is written where nothing was set."""
        forwards = self.started()
        self.assertEqual(forwards.wishes(ONE).forward.busy, "1009")
        self.assertEqual((forwards.wishes(TWO).dnd, forwards.wishes(TWO).forward), (False, Forward()))
        self.assertEqual((len(forwards), ONE in forwards, TWO in forwards), (1, True, False))
        self.assertEqual(os.listdir(self.directory), [])

    def test_run_time_survives(self) -> None:
        """What was set is there after a restart and after another configuration, and wins; the file is its owner's."""
        forwards = self.started()
        forwards.set(ONE, "busy", "1002")
        forwards.set(ONE, "no_answer", "")
        forwards.set(TWO, "offline", "sales")
        forwards.set_after(TWO, 9.0)
        forwards.disturb(TWO, True)
        self.assertEqual(self.changes, 5)
        self.assertEqual(os.stat(os.path.join(self.directory, FORWARDS)).st_mode & 0o777, 0o600)
        for again in (forwards, self.started()):
            wishes = again.wishes(ONE)
            self.assertEqual((wishes.forward.busy, wishes.forward.no_answer, wishes.forward.no_answer_after), ("1002", "", 7.0))
            wishes = again.wishes(TWO)
            self.assertEqual((wishes.dnd, wishes.forward.offline, wishes.forward.no_answer_after), (True, "sales", 9.0))
        forwards.configure({})
        self.assertEqual(forwards.wishes(ONE).forward.busy, "1002")

    def test_back_to_the_file(self) -> None:
        """None takes back what was set; where nothing is left nothing is kept."""
        forwards = self.started()
        forwards.set(ONE, "busy", "")
        self.assertEqual(forwards.row(ONE)["busy"], {"to": "", "origin": "run time", "file": "1009"})
        forwards.set(ONE, "busy", None)
        self.assertEqual(forwards.row(ONE)["busy"], {"to": "1009", "origin": "file", "file": "1009"})
        forwards.disturb(TWO, True)
        forwards.disturb(TWO, False)
        forwards.set_after(ONE, 5)
        forwards.set_after(ONE, None)
        self.assertEqual(json.loads(Path(self.directory, FORWARDS).read_text())["forwards"], {})
        self.assertEqual([row["aor"] for row in forwards.rows()], [ONE])

    def test_not_stored_not_set(self) -> None:
        """What cannot be written has not happened."""
        forwards = self.started()
        os.mkdir(os.path.join(self.directory, f"{FORWARDS}.new-{os.getpid()}"))
        with self.assertRaises(StateError):
            forwards.set(ONE, "busy", "1002")
        self.assertEqual((forwards.wishes(ONE).forward.busy, self.changes), ("1009", 0))

    def test_bounds(self) -> None:
        """Times, and how many there may be."""
        forwards = self.started()
        for seconds in (0.5, 601):
            with self.assertRaises(ValueError):
                forwards.set_after(ONE, seconds)
        forwards._set.update({str(number): {"busy": "1"} for number in range(MOST)})
        with self.assertRaises(StateError):
            forwards.set(ONE, "busy", "1002")

    def test_damaged(self) -> None:
        """A file that cannot be understood stops the start and says what would help."""
        for text in ("", "[]", "{}", '{"forwards": 3}', '{"forwards": {"a": 3}}', '{"forwards": {"a": {"x": "1"}}}',
                     '{"forwards": {"a": {"busy": 1}}}', '{"forwards": {"a": {"dnd": "on"}}}', "\xff"):
            Path(self.directory, FORWARDS).write_text(text, encoding="latin-1")
            with self.assertRaises(StateError) as caught:
                self.started()
            self.assertIn("the configuration alone counts", str(caught.exception))
