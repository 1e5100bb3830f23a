"""[[routes]], [groups.NAME], [forward.NAME], [numbers], [routing]: what is taken, and the words for what is wrong."""

from __future__ import annotations

import os
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from sipd.config import ConfigError, load
from sipd.config_changes import changes
from sipd.config_patterns import hours, parse
from sipd.config_routing import To, unknown_names
from sipd.config_source import Source, settings
from sipd.config_text import placed
from tests.test_config import FileTestCase

OFFICE = """
[users]
1001 = "a"
1002 = "b"
1003 = "c"
[peers.carrier]
uri = "sip:203.0.113.10:5060"
"""
CONTRACT = OFFICE + r"""
[[routes]]
match = "^0(?P<number>[0-9]+)$"
to = ["carrier"]
rewrite = "{number}"
[groups.sales]
members = ["1001", "1002"]
strategy = "parallel"
timeout = 20
[forward.1003]
busy = "1001"
no_answer = "1002"
no_answer_after = 20
offline = "1001"
"""


class RoutingSectionTests(FileTestCase):
    """What the sections hold."""

    def wrong(self, text: str) -> list[str]:
        """What is said of a file, without its path."""
        path = self.file(text)
        with self.assertRaises(ConfigError) as caught:
            load(path)
        return [line.removeprefix(f"{path}:") for line in caught.exception.errors]

    def test_contract(self) -> None:
        """The names that others rely on."""
        config = self.read(CONTRACT)
        route, = config.routes
        self.assertEqual((route.match, route.to, route.rewrite), (("^0(?P<number>[0-9]+)$",), (To(peer="carrier"),), "{number}"))
        group = config.groups["sales"]
        self.assertEqual((group.members, group.strategy, group.timeout), (("1001", "1002"), "parallel", 20.0))
        forward = config.forward["1003"]
        self.assertEqual((forward.busy, forward.no_answer, forward.no_answer_after, forward.offline), ("1001", "1002", 20.0, "1001"))
        self.assertEqual(unknown_names(config, [], "example.com"), [])

    def test_mistakes(self) -> None:
        """Each with where it stands and what would be right, all of them at once."""
        found = self.wrong(OFFICE + r"""
[[routes]]
match = "^(a+)+$"
to = ["1001"]
[[routes]]
match = "_9(."
hours = ["mon-fry"]
reject = 200
[[routes]]
to = ["1001"]
reject = 403
[[routes]]
match = "1"
[[routes]]
match = ["^0(?P<a>.)$", "1*"]
rewrite = "{a}"
[[routes]]
failover = ["6xx", 100]
to = [5]
[groups.sales]
members = []
strategy = "all"
[groups.1001]
members = ["1002"]
[forward.1003]
bussy = "1001"
""")
        self.assertEqual(len(found), 13)
        for number, (place, words) in enumerate((
                ('10: [[routes]] (number 1) match = "^(a+)+$"', "a repeat within a repeat"),
                ('13: [[routes]] (number 2) match = "_9(."', "a pattern is an underscore"),
                ('14: [[routes]] (number 2) hours = ["mon-fry"]', "the days are mon, tue"),
                ("15: [[routes]] (number 2) reject = 200", "a status from 300 to 699"),
                ("16: [[routes]] (number 3)", "one of the two"),
                ("19: [[routes]] (number 4)", "one of the two"),
                ("21: [[routes]] (number 5)", "{a}: no such part; there are called, caller"),
                ("25: [[routes]] (number 6) to.0 = 5", "a name, or a table"),
                ('25: [[routes]] (number 6) failover.0 = "6xx"', '"busy", "no_answer"'),
                ("25: [[routes]] (number 6) failover.1 = 100", '"busy", "no_answer"'),
                ("28: [groups.sales] members", ""),
                ('29: [groups.sales] strategy = "all"', '"parallel" or "serial" or "q" or "random"'),
                ("33: [forward.1003] bussy", "busy is meant?"))):
            self.assertIn(place.split(": ", 1)[1], found[number])
            self.assertIn(words, found[number])

    def test_one_name_one_kind(self) -> None:
        """A group is called like nobody else, and holds no groups; a stored user counts too."""
        found = self.wrong(OFFICE + '[groups.1001]\nmembers = ["1002"]\n[groups.carrier]\nmembers = ["1002"]\n'
                           '[groups.a]\nmembers = ["b"]\n[groups.b]\nmembers = ["1001"]\n')
        for words in ("1001 stands under [users] too", "carrier stands under [peers] too", "b is a group itself"):
            self.assertEqual(sum(words in line for line in found), 1, found)
        config = self.read(CONTRACT)
        self.assertIn("a stored user is called sales too", "".join(unknown_names(config, ["sales@example.com"], "example.com")))

    def test_unknown_names(self) -> None:
        """Everybody named exists: in the file, among the stored users, or as a number that a route takes."""
        text = ('[[routes]]\nmatch = "0*"\nto = ["1001", "nobody", { peer = "carrier" }]\n[[routes]]\ndomain = "x.example"\nmatch = "5"\n'
                'to = "stored"\n[groups.sales]\nmembers = ["stored", "ghost"]\n[numbers]\n500 = ["sales", "phantom"]\n'
                '[forward.1003]\nbusy = "0123"\nno_answer = "777"\noffline = "500"\nalways = "stored"\n[forward.spirit]\n'
                '[routing]\nemergency = ["0112", "112"]\n[peers.in]\nuri = "sip:192.0.2.1"\ninbound_to = "wraith"\n[peers.to]\nuri = "sip:192.0.2.2"\ninbound_to = "500"\n')
        config = self.read(OFFICE + text)
        found = unknown_names(config, ["stored@example.com"], "example.com")
        self.assertEqual([line.partition(":")[0] for line in found], [
            '[[routes]] (number 1) to = "nobody"', '[[routes]] (number 2) domain = "x.example"',
            '[peers.in] inbound_to = "wraith"', '[groups.sales] members = "ghost"', '[numbers] 500 = "phantom"', '[routing] emergency = "112"', '[forward.1003] no_answer = "777"',
            "[forward.spirit]"])
        self.assertEqual(len(unknown_names(config, [], "example.com")), 11)
        anybody = self.read(OFFICE + text + "[registrar]\nopen = true\n")
        self.assertEqual(len(unknown_names(anybody, [], "example.com")), 2)

    def test_lines_of_unknown_names(self) -> None:
        """What is found out only when the stored users are known has file and line too; what the file does not have
        stays as it is."""
        text = '[[routes]]\nmatch = "5"\n\nto = "nobody"\n[forward.1003]\nbusy = "777"\n[forward.spirit]\n'
        path = self.file(text)
        found = placed([*unknown_names(self.read(text), ["1003@example.com"], "example.com"), "no disk"], path)
        self.assertEqual([line.removeprefix(path).partition(" =")[0].partition(": there")[0] for line in found], [
            ":4: [[routes]] (number 1) to", ":6: [forward.1003] busy", ":7: [forward.spirit]", "no disk"])
        self.assertEqual(placed(found, ""), found)

    def test_script(self) -> None:
        """Its path starts at the file's directory; it is read with the configuration, and one that is no Python is a
        mistake with its line."""
        path = self.file('[routing]\nscript = "routes.py"\n')
        script = Path(os.path.abspath(os.path.dirname(path)), "routes.py")
        self.assertIn("No such file", self.wrong('[routing]\nscript = "missing.py"\n')[0])
        script.write_text("def route(request, peer, helpers):\n    return None\n")
        before = load(path)
        self.assertEqual(before.routing.script, str(script))
        script.write_text("def route(request, peer, helpers):\n    return 404\n")
        self.assertEqual([change.text for change in changes(before, load(path))], [f"[routing] script: {script} has another text"])
        for text, words in (("def route(:\n", "line 1: "), ("x = 1\n  y\n", "line 2: "), ("\xff", "not Python"), ("\0", "not Python")):
            script.write_text(text, encoding="latin-1")
            with self.assertRaises(ConfigError) as caught:
                load(path)
            self.assertIn(words, str(caught.exception))

    def test_changes(self) -> None:
        """What a reload says: routes by their places, the rest by name."""
        before = self.read(CONTRACT)
        route = '[[routes]]\nname = "new"\nmatch = "9*"\nreject = 403\n[[routes]]\nmatch = "^0'
        after = self.read(CONTRACT.replace('[[routes]]\nmatch = "^0', route).replace("timeout = 20", "timeout = 30")
                          + '[numbers]\n500 = "sales"\n')
        self.assertEqual([change.text for change in changes(before, after)], [
            "route 1 (new) added", "group sales: timeout: 20.0 -> 30.0", "number 500 added"])
        self.assertEqual([change.text for change in changes(after, before)], [
            "route 1 (new) removed", "group sales: timeout: 30.0 -> 20.0", "number 500 removed"])
        changed = self.read(CONTRACT.replace('rewrite = "{number}"', 'rewrite = "1{number}"'))
        self.assertEqual([change.text for change in changes(before, changed)], ['route 1: rewrite: "{number}" -> "1{number}"'])
        self.assertFalse(any(change.restart for change in changes(before, after)))

    def test_settings(self) -> None:
        """What is in force, as it is shown."""
        path = self.file(CONTRACT)
        found = {(one.section, one.key): one.value for one in settings(load(path), Source(path))}
        self.assertEqual(found["routes", "1"], 'match ["^0(?P<number>[0-9]+)$"], rewrite "{number}", to ["carrier"]')
        self.assertEqual(found["groups", "sales"], 'members ["1001", "1002"], strategy "parallel", timeout 20.0')


class PatternTests(SynchronousTestCase):
    """Forms of a text, and which are refused."""

    def test_forms(self) -> None:
        """What each matches."""
        for text, yes, no in (
                ("1001", ["1001"], ["10011", "", "100"]), ("*98", ["*98"], ["98"]), ("00*", ["00", "0049"], ["0", "100"]),
                ("*", ["", "x"], []), ("_XZN", ["012", "999"], ["002", "011", "0123"]), ("_9.", ["91", "9xyz"], ["9", "81"]),
                ("_9!", ["9", "91"], ["8"]), ("_[1-3a]5", ["15", "a5"], ["45", "155"]), ("_555-1212", ["5551212"], ["555-1212"]),
                ("_*X#", ["*5#"], ["*#"]), ("^1", ["1", "12"], ["21"]), ("^(?:[0-9]{2})+$", ["1234"], ["123"])):
            match = parse(text)
            for name in yes:
                self.assertIsNotNone(match.match(name), (text, name))
            for name in no:
                self.assertIsNone(match.match(name), (text, name))

    def test_refused(self) -> None:
        """What could take for ever, and what is nothing."""
        for text in ("^(a+)+$", "^(a*)*$", "^(a|aa)+$", "^(ab|[ab]b)*c", "^((a{1,5}){1,5}){1,5}$", "^(a?){30}$", "^.*.*.*.*.*x", r"^(a)\1",
                     "^(a", "^[", "^" + "(" * 200, "_", "_.", "_X.X", "_[3-1]", "_[", "", "x" * 257, "^(?:a?b?c?d?e?){1}" + "(f?g?h?i?)" * 5):
            with self.assertRaises(ValueError, msg=text):
                parse(text)

    def test_none_takes_long(self) -> None:
        """The worst that are allowed, against what they like least."""
        for text in ("^[0-9]*[0-9]*[0-9]*[0-9]*x$", "^.*.*.*.*x$", "^(?:a|a)(?:a|a)(?:a|a)(?:a|a).*.*x$", "^a{0,9}a{0,9}a{0,9}a{0,9}a{0,9}b$"):
            began = time.process_time()
            for name in ("1" * 64, "a" * 64):
                self.assertIsNone(parse(text).match(name))
            self.assertLess(time.process_time() - began, 0.5, text)

    def test_hours(self) -> None:
        """Days, times, and times that run past midnight."""
        for text, yes, no in (
                ("mon-fri 08:00-18:00", ["2026-11-23 08:00", "2026-11-27 17:59"], ["2026-11-23 07:59", "2026-11-27 18:00", "2026-11-28 12:00"]),
                ("sat,sun", ["2026-11-28 00:00", "2026-11-29 23:59"], ["2026-11-27 23:59"]),
                ("22:00-06:00", ["2026-11-23 22:00", "2026-11-24 05:59"], ["2026-11-23 21:59", "2026-11-23 06:00"]),
                ("fri 22:00-06:00", ["2026-11-27 23:00", "2026-11-28 05:00"], ["2026-11-27 05:00", "2026-11-28 23:00"]),
                ("sat-mon 00:00-24:00", ["2026-11-29 12:00", "2026-11-23 23:59"], ["2026-11-24 00:00"]),
                ("Mon", ["2026-11-23 12:00"], ["2026-11-24 12:00"])):
            for moment in yes + no:
                self.assertEqual(hours(text).cover(time.strptime(moment, "%Y-%m-%d %H:%M")), moment in yes, (text, moment))
        for text in ("", "never", "mon-", "25:00-26:00", "08:60-09:00", "08:00-08:00", "mon-tue-wed", "8-18", "24:00-01:00"):
            with self.assertRaises(ValueError, msg=text):
                hours(text)
