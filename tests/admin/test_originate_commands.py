"""sipctl and the API that begin calls, against a core in virtual time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from unittest import mock

from click.testing import CliRunner, Result
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from sipd.admin import cli
from sipd.admin.api import Api, Live
from sipd.admin.originate_commands import OriginateCommands
from sipd.controller.controller import NotBegun
from tests.support.originate import ABLE, FIRST, Play


class OriginateCommandTests(SynchronousTestCase):
    """A server and two phones."""

    def setUp(self) -> None:
        self.play = Play()
        self.controller = self.play.rig.core.controller
        self.api = Api()
        OriginateCommands(self.controller.originate, NotBegun, lambda: list(self.controller.calls.values())).register(
            self.api)
        self.lines: list[dict[str, Any]] = []
        self.live: list[Live] = []
        self.closed: list[bool] = []

    def begin(self, **arguments: Any) -> Deferred[bytes]:
        """The answer to originate, when it comes."""
        asked: Deferred[bytes] = Deferred.fromCoroutine(self.api.answer(
            json.dumps({"command": "originate", "first": "1001", "second": "1002", **arguments}).encode(),
            self.live.append))
        self.play.rig.advance(0.1)
        return asked

    def follow(self, **arguments: Any) -> dict[str, Any]:
        """The same with follow: the first line; the others come into `lines`."""
        answer: dict[str, Any] = json.loads(self.successResultOf(self.begin(follow=True, **arguments)))
        self.live[0].begin(self.lines.append, lambda: self.closed.append(True))
        return answer["result"]  # type: ignore[no-any-return]

    def test_answer(self) -> None:
        """It comes when it is known what became of the call, with every step."""
        asked = self.begin(by="refer")
        self.assertNoResult(asked)
        invite = self.play.a.take("INVITE")
        self.play.a.answer(invite, 486)
        self.play.a.take("ACK")
        self.play.rig.advance(0.1)
        result = json.loads(self.successResultOf(asked))["result"]
        self.assertEqual((result["connected"], result["first"], result["second"], result["way"]),
                         (False, "1001", "1002", "refer"))
        self.assertEqual([step["step"] for step in result["steps"]], ["calling", "failed"])
        self.assertEqual(result["steps"][1]["status"], 486)
        self.play.finish()

    def test_not_waited_for(self) -> None:
        """Whoever gives up the answer gives up the call."""
        asked = self.begin()
        invite = self.play.a.take("INVITE")
        self.play.a.answer(invite, 180)
        self.play.rig.advance(0.1)
        asked.cancel()
        self.assertFalse(json.loads(self.successResultOf(asked))["result"]["connected"])
        self.play.rig.advance(0.1)
        self.play.a.cancelled(invite)
        self.play.finish()

    def test_followed(self) -> None:
        """The first line comes at once, each step follows, and after the last the server closes."""
        self.assertEqual(self.follow(timeout=5), {"number": 1, "first": "1001", "second": "1002"})
        self.play.answer(self.play.a, ABLE, body=FIRST)
        self.play.a.take("ACK")
        self.play.a.answer(self.play.a.take("REFER"), 603)
        self.play.rig.advance(0.1)
        self.play.b.refuse(486)
        self.play.rig.advance(0.1)
        self.play.taken_bye(self.play.a)
        self.assertEqual([line["step"] for line in self.lines],
                         ["calling", "ringing", "answered", "referred", "refused REFER", "calling", "failed"])
        self.assertEqual(self.closed, [True])
        self.live[0].end()
        self.play.finish()

    def test_follower_goes(self) -> None:
        """Whoever closes the connection before gives the call up; afterwards that means nothing."""
        self.follow()
        invite = self.play.a.take("INVITE")
        self.play.a.answer(invite, 180)
        self.play.rig.advance(0.1)
        self.live[0].end()
        self.play.rig.advance(0.1)
        self.play.a.cancelled(invite)
        self.assertEqual(self.closed, [])
        self.play.finish()

    def test_refusals(self) -> None:
        """Arguments that are none are refused at once, with what is wanted."""
        for arguments, wanted in (({"second": "1001"}, "two are wanted"), ({"timeout": "x"}, "a number of seconds"),
                                  ({"timeout": 601}, "a number of seconds"), ({"timeout": True}, "a number of seconds"),
                                  ({"by": "x"}, "auto, refer and 3pcc"), ({"first": 1001}, "first: text is wanted")):
            answer = json.loads(self.successResultOf(self.begin(**arguments)))
            self.assertFalse(answer["ok"])
            self.assertIn(wanted, answer["error"])
        self.play.finish()

    def test_originations(self) -> None:
        """What is held here is listed, until it is over."""
        call, one, first, two, second = self.play.connected()
        rows = json.loads(self.successResultOf(Deferred.fromCoroutine(
            self.api.answer(b'{"command": "originations"}'))))["result"]
        self.assertEqual([(row["first"], row["second"], row["state"], row["way"]) for row in rows],
                         [("1001", "1002", "connected", "3pcc")])
        with mock.patch.object(cli.Place, "ask", lambda *_, **__: rows):
            shown = CliRunner(env={"COLUMNS": "120"}).invoke(cli.main, ["--state-dir", "/nowhere", "originations"])
        self.assertRegex(shown.output, r"1 +1001 +1002 +connected +3pcc +\d+ s")
        self.play.hang_up(self.play.a, one, first)
        self.play.taken_bye(self.play.b)
        self.play.finish()


class SipctlTests(SynchronousTestCase):
    """sipctl originate, with a server that says what it is told to."""

    def sipctl(self, lines: list[dict[str, Any]], *words: str, ends: type[BaseException] | None = None) -> Result:
        """What sipctl makes of these lines."""
        def follow(place: Any, command: str, **arguments: Any) -> Iterator[dict[str, Any]]:
            self.arguments = arguments
            yield {"number": 1, "first": "1001", "second": "1002"}
            yield from lines
            if ends is not None:
                raise ends

        with mock.patch.object(cli.Place, "follow", follow):
            return CliRunner(env={"COLUMNS": "120"}).invoke(
                cli.main, ["--state-dir", "/nowhere", "originate", "1001", "1002", *words])

    def test_connected(self) -> None:
        """One line a step, and exit status 0."""
        result = self.sipctl([{"step": "calling", "party": "1001", "seconds": 0.0, "lost": 0},
                              {"step": "connected", "party": "", "seconds": 12.5, "way": "3pcc", "lost": 0}],
                             "--timeout", "20", "--by", "3pcc")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertEqual(result.output, "   0.0 s  1001 is called\n  12.5 s  connected by 3pcc\n")
        self.assertEqual((self.arguments["timeout"], self.arguments["by"], self.arguments["follow"]), (20.0, "3pcc", True))

    def test_failed(self) -> None:
        """Who and why, and exit status 6; what a phone says cannot move the cursor."""
        result = self.sipctl([{"step": "failed", "party": "1002", "seconds": 3.0, "status": 486,
                               "reason": "Busy\x1b[2J", "lost": 0}])
        self.assertEqual((result.exit_code, result.output), (6, "   3.0 s  failed: 1002: 486 Busy?[2J\n"))

    def test_given_up(self) -> None:
        """^C."""
        result = self.sipctl([{"step": "ringing", "party": "1001", "seconds": 0.1, "lost": 0}], ends=KeyboardInterrupt)
        self.assertEqual(result.exit_code, 6)
        self.assertIn("given up", result.output)

    def test_json(self) -> None:
        """Each line as it came."""
        step = {"step": "connected", "party": "", "seconds": 1.0, "way": "refer", "lost": 0}
        result = self.sipctl([step], "--json")
        self.assertEqual(result.exit_code, 0)
        self.assertIn(json.dumps(step, indent=2), result.output)
