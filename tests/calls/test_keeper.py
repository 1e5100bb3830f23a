"""Records and ledger on a disk: what is written when, what survives the end of the process, and a disk that is full."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.trial.unittest import TestCase

from sipd.calls import ledger as ledgers
from sipd.calls.cdr import record, stamp
from sipd.calls.keeper import Keeper, KeptFiles
from sipd.state import StateError
from tests.scenarios.test_inv_time import restarted
from tests.support.rig import Phone, Rig, established

ROOT = Path(__file__).resolve().parents[2]


class Kept(TestCase):
    """A server whose calls are written to a directory."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.cdr, self.ledger = self.directory / "cdr.jsonl", self.directory / "calls.ledger"
        self.rig = self.build()
        self.a, self.b = self.phones(self.rig)

    def build(self, old: Rig | None = None, **settings: Any) -> Rig:
        """A server, or the one after it in the same place."""
        rig = Rig(**settings) if old is None else restarted(old, **settings)
        self.resumed = self.keep(rig)
        return rig

    def keep(self, rig: Rig, **files: Any) -> int:
        """Opens the files."""
        keeper = Keeper(rig.core.calls)
        found = keeper.open(KeptFiles(**{"cdr": str(self.cdr), "ledger": str(self.ledger), **files}))
        self.addCleanup(keeper.close)
        return found

    def phones(self, rig: Rig) -> tuple[Phone, Phone]:
        """Two registered ones."""
        a, b = rig.phone("1001", "192.0.2.10"), rig.phone("1002", "192.0.2.11")
        a.drain()
        b.drain()
        a.register()
        b.register()
        return a, b

    def records(self) -> list[dict[str, Any]]:
        """What stands in the file."""
        return [json.loads(line) for line in self.cdr.read_text().splitlines()]

    def hang_up(self, ok: Any) -> None:
        """The caller's BYE, answered."""
        self.a.hang_up(ok, self.b)

    def test_before_the_answer(self) -> None:
        """The record is written before the 200 to the BYE leaves, and the mode keeps others out."""
        ok = established(self.a, self.b)[3]
        self.rig.advance(5)
        self.a.in_dialog("BYE", ok)
        bye = self.b.take("BYE")
        self.assertEqual(self.records(), [])
        seen: list[int] = []
        flow = self.rig.transports.flow_by_id("udp/192.0.2.1:5060/192.0.2.10:5060")
        assert flow is not None
        plain = flow.send
        with patch.object(type(flow), "send", lambda of, data, *more: (
                seen.append(len(self.records())) if data.startswith(b"SIP/2.0 200") else None, plain(data, *more))[1]):
            self.b.answer(bye, 200)
        self.a.take(200)
        self.assertEqual(seen, [1])
        self.assertEqual(self.records()[0]["duration"], 5.0)
        self.assertEqual(self.cdr.stat().st_mode & 0o777, 0o600)
        self.rig.finish()

    def test_known_after_a_restart(self) -> None:
        """Two calls are up when the process dies: both are known again, by peer too; the one that is hung up then has
        its record, with the times of before, and the other stays."""
        ok = established(self.a, self.b, "Supported: timer")[3]
        c, d = self.rig.phone("1003", "192.0.2.50"), self.rig.phone("1004", "192.0.2.51")
        d.register()
        established(c, d)
        wall = self.rig.wall()
        self.rig.advance(100, 1)
        with open(self.ledger, "ab") as file:
            file.write(b'[3,"torn')
        second = self.build(self.rig)
        self.assertEqual(self.resumed, 2)
        calls = second.core.calls
        self.assertEqual((calls.in_use("1001"), calls.in_use("1002"), len(calls)), (1, 1, 2))
        self.a.rig = self.b.rig = second
        self.a.drain()
        self.hang_up(ok)
        (one,) = self.records()
        self.assertEqual((one["duration"], one["caller"], one["answered_by"], one["result"], one["source"]),
                         (100.0, "1001", "1002", "answered", "udp:192.0.2.10:5060"))
        self.assertEqual(one["start"][:19], "2027-01-15T08:00:00")
        self.assertEqual(second.wall(), wall + 100)
        self.assertEqual([call.caller for call in calls.live()], ["1003"])
        third = self.build(second)
        self.assertEqual((self.resumed, [call.caller for call in third.core.calls.live()]), (1, ["1003"]))

    def test_deadlines_go_on(self) -> None:
        """The session timer and the longest duration count from before the restart; BYEs find both sides still."""
        self.rig = self.build(calls={"max_duration": 300})
        self.a, self.b = self.phones(self.rig)
        established(self.a, self.b)
        self.rig.advance(200, 1)
        second = self.build(self.rig, calls={"max_duration": 300})
        second.advance(99, 1)
        self.assertEqual(len(second.core.calls), 1)
        self.a.drain()
        self.b.drain()
        second.advance(2, 1)
        byes = [phone.take("BYE") for phone in (self.a, self.b)]
        self.assertGreater(byes[1].cseq_number, 100)
        self.assertEqual(len(second.core.calls), 0)
        self.assertIn(self.records()[0]["duration"], (300.0, 301.0))

    def test_damaged_ledger(self) -> None:
        """Lines that are no calls are left out; the calls among them are found."""
        established(self.a, self.b)
        good = self.ledger.read_bytes()
        self.ledger.write_bytes(b'\xff\n{}\n[]\n["x"]\n[9,1]\n99\nnull\n' + b"[" * 5000 + b"\n" + good + b"[7,")
        self.build(self.rig)
        self.assertEqual(self.resumed, 1)
        self.assertEqual(len(self.ledger.read_bytes().splitlines()), 1)

    def test_written_anew_when_large(self) -> None:
        """The ledger of a busy server does not grow for ever: it is written anew a few calls at a time, and nothing is
        lost of what happens meanwhile."""
        with patch.object(ledgers, "_LARGE", 3000), patch.object(ledgers, "_AT_A_TIME", 1):
            self.rig = self.build()
            self.a, self.b = self.phones(self.rig)
            up: list[Any] = []
            for number in range(60):
                up.append(established(self.a, self.b)[3])
                if len(up) == 5:
                    self.hang_up(up.pop(number % 5))
                self.rig.advance(0.05, 0.01)
            self.rig.advance(2)
            self.assertLess(self.ledger.stat().st_size, 20_000)
            self.assertEqual((len(self.rig.core.calls), len(self.records())), (4, 56))
            self.build(self.rig)
            self.assertEqual(self.resumed, 4)

    def test_rotation(self) -> None:
        """A large file is put aside, so many are kept, and no line is lost or torn."""
        self.keep(self.rig, rotate=4096, keep=2)
        total = 0
        for _ in range(30):
            self.hang_up(established(self.a, self.b)[3])
            total += 1
        files = sorted(path.name for path in self.directory.glob("cdr*"))
        self.assertEqual(files, ["cdr.jsonl", "cdr.jsonl.1", "cdr.jsonl.2"])
        kept = [json.loads(line) for name in reversed(files) for line in (self.directory / name).read_text().splitlines()]
        self.assertEqual([one["call_id"] for one in kept],
                         [record(call)["call_id"] for call in self.rig.core.calls.finished.values()][-len(kept):])
        for name in files[1:]:
            self.assertGreaterEqual((self.directory / name).stat().st_size, 4096)

    def test_moved_away(self) -> None:
        """Somebody moves the file: within seconds lines go to a new one, and none is lost."""
        self.hang_up(established(self.a, self.b)[3])
        self.cdr.rename(self.directory / "old")
        self.rig.advance(6)
        self.hang_up(established(self.a, self.b)[3])
        self.assertEqual((len(self.records()), len((self.directory / "old").read_text().splitlines())), (1, 1))

    def test_full_disk(self) -> None:
        """No space: calls go on, what is lost is counted and told once; no torn line stays, and then it goes on."""
        ok = established(self.a, self.b)[3]
        self.rig.records.clear()
        write = os.write

        def full(descriptor: int, data: bytes) -> int:
            return write(descriptor, data[:10])

        with patch("sipd.calls.lines.os.write", full):
            self.hang_up(ok)
            self.hang_up(established(self.a, self.b)[3])
        self.assertEqual(self.cdr.read_bytes(), b"")
        with patch("sipd.calls.lines.os.write", side_effect=OSError(28, "No space left on device")):
            self.hang_up(established(self.a, self.b)[3])
        self.hang_up(established(self.a, self.b)[3])
        self.assertEqual(len(self.records()), 1)
        told = [(kind, os.path.basename(fields["path"]), fields.get("lost")) for kind, fields in self.rig.records
                if kind.startswith("calls-")]
        self.assertEqual(sorted(told, key=str), sorted([
            ("calls-unwritten", "cdr.jsonl", None), ("calls-unwritten", "calls.ledger", None),
            ("calls-written", "calls.ledger", 1), ("calls-unwritten", "calls.ledger", None),
            ("calls-written", "calls.ledger", 3), ("calls-written", "cdr.jsonl", 3)], key=str))

    def test_torn_record(self) -> None:
        """A line that a dying process tore is ended, so that the next one is whole."""
        self.cdr.write_bytes(b'{"call_id":"torn')
        self.keep(self.rig)
        self.hang_up(established(self.a, self.b)[3])
        lines = self.cdr.read_text().splitlines()
        self.assertEqual(len(lines), 2)
        json.loads(lines[1])

    def test_unusable(self) -> None:
        """A file that cannot be opened ends the start with words, and a reload keeps the old one."""
        with self.assertRaises(StateError) as caught:
            self.keep(self.rig, cdr=str(self.directory / "no" / "cdr"))
        self.assertIn("[cdr] path", str(caught.exception))
        keeper = self.rig.core.calls.keeper
        assert keeper is not None
        keeper.configure(KeptFiles(str(self.directory / "no" / "cdr"), 5000, 1))
        self.hang_up(established(self.a, self.b)[3])
        self.assertEqual(len(self.records()), 1)
        other = self.directory / "other"
        keeper.configure(KeptFiles(str(other), 5000, 1))
        self.hang_up(established(self.a, self.b)[3])
        self.assertEqual((len(self.records()), len(other.read_text().splitlines())), (1, 1))

    def test_stamps(self) -> None:
        """Times are rounded to the millisecond, over a second's end as well."""
        self.assertEqual([stamp(wall) for wall in (1800000000.0, 1800000000.1234, 1800000059.9996, 0.0005)], [
            "2027-01-15T08:00:00.000Z", "2027-01-15T08:00:00.123Z", "2027-01-15T08:01:00.000Z",
            "1970-01-01T00:00:00.001Z"])

    def test_documented(self) -> None:
        """docs/operations.md has the fields of a record, all of them, in their order."""
        self.hang_up(established(self.a, self.b)[3])
        text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
        table = text[text.index("## Call records"):].partition("\n## ")[0]
        named = [name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`([^`]*)`", row)]
        self.assertEqual(named, list(self.records()[0]))
