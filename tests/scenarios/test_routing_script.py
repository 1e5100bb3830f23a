"""[routing] script on the real core: what it may say, what it does wrong, how long it takes."""

from __future__ import annotations

import os
from typing import Any

from sipd.routing.script import ScriptError
from tests.scenarios.test_routing_trunks import ONE, TrunkTestCase
from tests.support.rig import Rig


class ScriptTestCase(TrunkTestCase):
    """An office with a script."""

    def scripted(self, text: str, **settings: Any) -> Rig:
        """The office whose script has this text."""
        self.path = os.path.abspath(self.mktemp()) + ".py"
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(text)
        routing = {"script": self.path, **settings.pop("routing", {})}
        return self.office(routing=routing, **settings)

    def records(self, kind: str) -> list[dict[str, Any]]:
        """What was journalled of a kind."""
        return [fields for found, fields in self.rig.records if found == kind]


class SaysTests(ScriptTestCase):
    """Right answers."""

    def test_none_goes_on(self) -> None:
        """The routes, and users, follow as if there were no script."""
        self.scripted("def route(request, peer, helpers):\n    return None\n")
        self.call("0123")
        self.answers(self.one, self.called(self.one))
        self.call("1002")
        self.answers(self.a, self.rings(self.a))
        self.over()

    def test_refusals(self) -> None:
        """A status, and one with words."""
        self.scripted("def route(request, peer, helpers):\n"
                      "    return 410 if request.called == '1' else helpers.reject(403, 'Not For You')\n")
        self.hears(self.call("1"), 410)
        self.assertEqual(self.hears(self.call("2"), 403).reason, "Not For You")
        self.over()

    def test_names(self) -> None:
        """A user with their forwards, a group, a carrier with a number, a number that is routed."""
        self.scripted("ANSWERS = {'1': '1002', '2': 'sales', '3': 'one/77', '4': '0888'}\n"
                      "def route(request, peer, helpers):\n    return ANSWERS.get(request.called)\n",
                      groups={"sales": {"members": ["1003"]}}, forward={"1002": {"busy": "1004"}})
        self.call("1")
        self.a.refuse(486)
        self.answers(self.c, self.rings(self.c))
        self.call("2")
        self.answers(self.b, self.rings(self.b))
        for called, number in (("3", "77"), ("4", "888")):
            self.call(called)
            got = self.called(self.one)
            self.assertEqual(got.uri_text, f"sip:{number}@{ONE}")
            self.answers(self.one, got)
        self.over()

    def test_lists(self) -> None:
        """A list rings at once; lists in a list one after the other."""
        self.scripted("def route(request, peer, helpers):\n"
                      "    return ['1002', '1003'] if request.called == '1' else [['1002', '1003'], ['1004']]\n")
        self.call("1")
        a, b = self.rings(self.a), self.rings(self.b)
        self.refuses(self.a, a, 486)
        self.answers(self.b, b)
        self.call("2")
        self.a.refuse(486)
        self.c.silent()
        self.b.refuse(486)
        self.answers(self.c, self.rings(self.c))
        self.over()

    def test_uris(self) -> None:
        """Our own addresses are users; hosts of peers and of script_hosts may be called, no other."""
        self.scripted("def route(request, peer, helpers):\n    return {'1': 'sip:1002@example.com', '2': 'sip:x@192.0.2.11', "
                      "'3': 'sip:5@203.0.113.1', '4': 'sip:5@192.0.2.99'}[request.called]\n",
                      routing={"script_hosts": ["192.0.2.11"]})
        for called in ("1", "2"):
            self.call(called)
            self.answers(self.a, self.rings(self.a))
        self.call("3")
        self.answers(self.one, self.called(self.one))
        self.hears(self.call("4"), 500)
        self.assertIn("192.0.2.99 is neither ours", self.records("script-failed")[0]["reason"])
        self.over()

    def test_what_it_sees(self) -> None:
        """The request, the peer and the helpers, as they are documented; nothing of the request can be changed."""
        self.scripted(
            "def route(request, peer, helpers):\n"
            "    seen = (request.method, request.uri, request.called, request.domain, request.caller, request.display_name,\n"
            "            request.source, request.header('X-Mine'), request.headers('Allow'), request.header('None'),\n"
            "            peer.name, peer.kind, helpers.registered('1002'), helpers.registered('1009'),\n"
            "            helpers.is_user('1009'), helpers.is_user('77'), helpers.is_down('one'), helpers.calls('1002'),\n"
            "            helpers.now().tm_year)\n"
            "    helpers.log(repr(seen))\n"
            "    request.called = 'changed'\n")
        invite = self.caller.invite("5", "X-Mine: yes", "Allow: INVITE, ACK", from_='"Me" <sip:1001@example.com>;tag=1')
        self.caller.take(100)
        self.hears(invite, 500)
        self.assertEqual(eval(self.records("script")[0]["text"]), (
            "INVITE", "sip:5@example.com", "5", "example.com", "1001", "Me", "udp:192.0.2.10:5060", "yes", ["INVITE", "ACK"],
            None, "1001", "user", True, False, True, False, False, 0, 2027))
        self.assertIn("FrozenInstanceError", self.records("script-failed")[0]["reason"])
        self.over()

    def test_not_within_dialogs(self) -> None:
        """It is asked once a call: not for what follows in the dialog, nor for what is no INVITE."""
        self.scripted("def route(request, peer, helpers):\n    helpers.log(request.method)\n")
        self.call("1002")
        self.answers(self.a, self.rings(self.a))
        self.caller.request("INFO", "sip:1002@example.com")
        self.a.answer(self.a.take("INFO"), 200)
        self.caller.take(200)
        self.assertEqual(len(self.records("script")), 1)
        self.over()


class AsynchronousTests(ScriptTestCase):
    """`async def route`."""

    def test_it_waits(self) -> None:
        """The call waits for it; what it says then counts."""
        rig = self.scripted("async def route(request, peer, helpers):\n    await helpers.sleep(2.0)\n    return '1002'\n")
        self.call("5")
        rig.advance(1.5)
        self.a.silent()
        rig.advance(1.0)
        self.answers(self.a, self.rings(self.a))
        self.over()

    def test_the_caller_gives_up(self) -> None:
        """s16.10: what it says after the CANCEL is nothing."""
        rig = self.scripted("async def route(request, peer, helpers):\n    await helpers.sleep(2.0)\n    return '1002'\n")
        invite = self.call("5")
        self.caller.cancel(invite)
        self.caller.take(200)
        self.hears(invite, 487)
        rig.advance(3.0)
        self.a.silent()
        self.over()

    def test_deadline(self) -> None:
        """One that takes longer than script_timeout fails the call, and the line where it waits is told."""
        rig = self.scripted("async def route(request, peer, helpers):\n    await helpers.sleep(60.0)\n    return '1002'\n",
                            routing={"script_timeout": 3.0})
        invite = self.call("5")
        rig.advance(3.5)
        self.hears(invite, 500)
        failed, = self.records("script-failed")
        self.assertEqual(failed, {"place": f"{self.path}:2", "reason": "no answer within 3 s"})
        self.over()

    def test_mistake_after_waiting(self) -> None:
        """An exception in it, or a wrong result, is told with its line."""
        rig = self.scripted("async def route(request, peer, helpers):\n    await helpers.sleep(1.0)\n"
                            "    if request.called == '6':\n        return 5.5\n    return {}['x']\n")
        for called, place, reason in (("5", ":5", "KeyError: 'x'"), ("6", ":1", "route returned 5.5")):
            invite = self.call(called)
            rig.advance(1.5)
            self.hears(invite, 500)
            failed = self.records("script-failed")[-1]
            self.assertEqual(failed["place"], self.path + place)
            self.assertIn(reason, failed["reason"])
        self.over()


    def test_result_that_fails(self) -> None:
        """A result that raises when it is shown fails the call, at once."""
        rig = self.scripted("class Odd:\n    def __repr__(self):\n        return 1 / 0\n\n"
                            "async def route(request, peer, helpers):\n    await helpers.sleep(1.0)\n    return Odd()\n")
        invite = self.call("5")
        rig.advance(1.5)
        self.hears(invite, 500)
        self.assertIn("ZeroDivisionError", self.records("script-failed")[-1]["reason"])
        self.over()


class MistakeTests(ScriptTestCase):
    """Whatever it does wrong fails that call with 500, and the next one is served."""

    def test_exception(self) -> None:
        """The innermost line of the script is named, be it in another function."""
        self.scripted("def number(text):\n    return int(text)\n\ndef route(request, peer, helpers):\n"
                      "    return None if number(request.called) else None\n")
        self.hears(self.call("x"), 500)
        self.assertEqual(self.records("script-failed"), [
            {"place": f"{self.path}:2", "reason": "ValueError: invalid literal for int() with base 10: 'x'"}])
        self.call("1002")
        self.answers(self.a, self.rings(self.a))
        self.over()

    def test_leaving(self) -> None:
        """It cannot end the server."""
        self.scripted("import sys\ndef route(request, peer, helpers):\n    sys.exit(3)\n")
        self.hears(self.call("x"), 500)
        self.assertEqual(self.records("script-failed")[0]["reason"], "SystemExit: 3")
        self.over()

    def test_wrong_results(self) -> None:
        """Anything that is no answer."""
        wrong = ["True", "200", "700", "3.0", "b'1002'", "[]", "[[]]", "['1002', 5]", "[['1002'], '1003', 7]", "''", "'a\\n'",
                 "'sip:'", "{'1002'}", "helpers.reject(100)", "helpers.reject(403, 'a\\r\\nb')", "['1002'] * 61", "object()"]
        self.scripted(f"def route(request, peer, helpers):\n    return ({', '.join(wrong)})[int(request.called)]\n")
        for number in range(len(wrong)):
            self.hears(self.call(str(number)), 500)
        self.assertEqual([fields["place"] for fields in self.records("script-failed")], [f"{self.path}:1"] * len(wrong))
        self.assertEqual(len(self.records("bug")), 0)
        self.over()

    def test_slow(self) -> None:
        """What holds the server for more than 50 ms is told with its place: the function's, or where it waits next."""
        rig = self.scripted("def route(request, peer, helpers):\n    if request.called == '1':\n        CLOCK.advance(0.06)\n"
                            "    return 410\n")
        rig.core.routing.router._script._function.__globals__["CLOCK"] = rig.clock  # type: ignore[union-attr]
        for called in ("1", "2"):
            self.hears(self.call(called), 410)
        self.assertEqual(self.records("script-slow"), [{"place": f"{self.path}:1", "milliseconds": 60}])
        self.over()

    def test_slow_between_two_waits(self) -> None:
        """The same of an asynchronous one."""
        rig = self.scripted("async def route(request, peer, helpers):\n    await helpers.sleep(1.0)\n"
                            "    CLOCK.advance(0.2)\n    await helpers.sleep(1.0)\n    return 410\n")
        rig.core.routing.router._script._function.__globals__["CLOCK"] = rig.clock  # type: ignore[union-attr]
        invite = self.call("1")
        rig.advance(2.5)
        self.hears(invite, 410)
        self.assertEqual(self.records("script-slow"), [{"place": f"{self.path}:4", "milliseconds": 200}])
        self.over()


class LoadTests(ScriptTestCase):
    """Files that cannot be used."""

    def test_at_start(self) -> None:
        """An exception while it is loaded, and a file without the function, name the file and the line."""
        for text, words in (("x = 1\ny = z\n", ":2: NameError"), ("def other():\n    pass\n", "no function route"),
                            ("route = 5\n", "no function route"), ("raise SystemExit(1)\n", ":1: SystemExit")):
            with self.assertRaises(ScriptError) as caught:
                self.scripted(text)
            self.assertIn(words, str(caught.exception))

    def test_reload(self) -> None:
        """Another text takes effect for the next call; one that is wrong leaves the old one."""
        rig = self.scripted("def route(request, peer, helpers):\n    return 410\n")
        self.hears(self.call("1"), 410)
        with open(self.path, "w", encoding="utf-8") as file:
            file.write("def route(request, peer, helpers):\n    return 411\n")
        again = type(rig.config)(**{**rig.config.model_dump(exclude={"users", "listen", "peers"}),
                                    "peers": rig.config.peers, "users": rig.config.users})
        rig.core.routing.prepare(again)
        self.hears(self.call("1"), 410)
        rig.core.routing.configure(again)
        self.hears(self.call("1"), 411)
        self.over()


