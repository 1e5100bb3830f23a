"""The control API: what a request is, what an answer is, and that nothing breaks it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from sipd.admin.api import Api, Refused, text_argument


class ApiTests(SynchronousTestCase):
    """Requests and answers."""

    def setUp(self) -> None:
        self.api = Api()
        self.api.register("echo", lambda request: request)
        self.api.register("later", lambda request: succeed("done"))
        self.api.register("no", self.refuse)
        self.api.register("break", lambda request: 1 // 0)

    def refuse(self, request: dict[str, Any]) -> None:
        """A command that refuses."""
        raise Refused("not today")

    def ask(self, line: bytes) -> Any:
        """The answer to a line."""
        return json.loads(self.successResultOf(ensureDeferred(self.api.answer(line))))

    def test_answers(self) -> None:
        """A command gets its arguments; a synchronous result and one that comes later are both answered."""
        self.assertEqual(self.ask(b'{"command": "echo", "a": [1, "\\u00e9"]}'), {"ok": True, "result": {"a": [1, "é"]}})
        self.assertEqual(self.ask(b'{"command": "later"}'), {"ok": True, "result": "done"})

    def test_waits(self) -> None:
        """An answer that takes time is awaited."""
        waiting: Deferred[int] = Deferred()
        self.api.register("wait", lambda request: waiting)
        answer = ensureDeferred(self.api.answer(b'{"command": "wait"}'))
        self.assertNoResult(answer)
        waiting.callback(7)
        self.assertEqual(json.loads(self.successResultOf(answer)), {"ok": True, "result": 7})

    def test_refusals(self) -> None:
        """A refusal, an unknown command and what is no request are answered with the reason."""
        self.assertEqual(self.ask(b'{"command": "rm"}'), {
            "ok": False, "error": "there is no command 'rm'; there are: break, echo, later, no", "kind": "unknown"})
        for line, error in (
            (b'{"command": "no"}', "not today"),
            (b'{"command": 5}', 'a request is a JSON object with a "command"'),
            (b"[]", 'a request is a JSON object with a "command"'),
            (b"", "a request is one JSON object on one line"),
            (b"\xff", "a request is one JSON object on one line"),
            (b"[" * 60000, "a request is one JSON object on one line"),
        ):
            self.assertEqual(self.ask(line), {"ok": False, "error": error})

    def test_defect(self) -> None:
        """A command that breaks is answered without its inner words, and logged."""
        self.assertEqual(self.ask(b'{"command": "break"}'),
                         {"ok": False, "error": "the server failed to do that; its log says why", "kind": "failure"})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_what_is_no_json(self) -> None:
        """A result that JSON has no words for is a defect, too."""
        self.api.register("odd", lambda request: {"a": object()})
        self.assertEqual(self.ask(b'{"command": "odd"}')["kind"], "failure")
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_names_are_given_once(self) -> None:
        """Two commands cannot share a name."""
        self.assertRaises(ValueError, self.api.register, "echo", lambda request: None)

    def test_text_argument(self) -> None:
        """A text argument is text; a default stands for a missing one."""
        self.assertEqual(text_argument({"a": "x"}, "a"), "x")
        self.assertEqual(text_argument({}, "a", "y"), "y")
        self.assertRaises(Refused, text_argument, {}, "a")
        self.assertRaises(Refused, text_argument, {"a": 1}, "a")

    @settings(deadline=None)
    @given(st.one_of(st.binary(max_size=200), st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5).map(lambda value: json.dumps(value).encode())))
    def test_any_line(self, line: bytes) -> None:
        """Whatever comes, one JSON object on one line goes back."""
        answer = self.successResultOf(ensureDeferred(self.api.answer(line)))
        self.assertNotIn(b"\n", answer)
        self.assertIn("ok", json.loads(answer))
