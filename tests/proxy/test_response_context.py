"""The response context: rules one by one, and a walk over every state (RFC 3261 s16.7 to s16.10)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from twisted.trial.unittest import TestCase

from sipd.message.message import Response
from sipd.message.parser import parse
from sipd.proxy import response_context as rc
from sipd.proxy.response_context import MAX_BRANCHES, BranchState, Output, ResponseContext
from sipd.proxy.targets import Groups, Target

TABLE = Path(__file__).parent.parent / "tables" / "response_context.tsv"
_KINDS = ("START", "CANCEL", "RELAY", "FINAL", "ABANDON", "RING", "DONE", "ASK")


def response(status: int, *lines: str) -> Response:
    """A response as it would come."""
    text = "\r\n".join([f"SIP/2.0 {status} Reason", "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1",
                        "Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK2", "From: <sip:a@example.com>;tag=1",
                        "To: <sip:b@example.com>;tag=2", "Call-ID: c", "CSeq: 1 INVITE", *lines, "", ""])
    message = parse(text.encode())
    assert isinstance(message, Response)
    return message


def targets(*sizes: int) -> Groups:
    """Groups of so many targets."""
    return [[Target(f"sip:{group}-{index}@192.0.2.9") for index in range(size)] for group, size in enumerate(sizes)]


class Context:
    """A response context with the part of the proxy that the rules need: branches are begun when it says so."""

    def __init__(self, *sizes: int, invite: bool = True, recurse: bool = False) -> None:
        self.context = ResponseContext(invite, targets(*sizes), recurse)
        self.branches: list[BranchState] = []
        self.all: list[Output] = []
        self.did(self.context.start())

    def did(self, outputs: list[Output]) -> str:
        """Performs outputs; returns them as text."""
        words = []
        for kind, payload in outputs:
            if kind == rc.START:
                self.branches.append(BranchState())
                self.context.branches.append(self.branches[-1])
            word = _KINDS[kind]
            if kind == rc.CANCEL:
                # a CANCEL that is only wanted waits for the first provisional response
                word += f"{'' if payload.cancel_sent else '?'} {self.branches.index(payload) + 1}"
            elif kind == rc.RELAY:
                word += f" {payload.status}"
            elif kind == rc.FINAL:
                word += f" {payload[0]}"
            words.append(word)
        self.all += outputs
        return ", ".join(words)

    def gets(self, number: int, status: int, *lines: str) -> str:
        """A response on a branch (the first is 1)."""
        return self.did(self.context.response(self.branches[number - 1], response(status, *lines)))

    def state(self) -> str:
        """What the rest depends on, as text."""
        def of(branch: BranchState) -> str:
            if branch.done:
                return "ended"
            word = "rings" if branch.rang else "silent"
            return word + (" cancelled" if branch.cancel_sent else " to be cancelled" if branch.cancel_wanted else "")

        context = self.context
        return "; ".join([
            *map(of, self.branches), *(["more to try"] if context.groups else []),
            *(["caller gave up"] if context.cancelled else []), *(["answered"] if context.final_sent else []),
            *([f"best {context._best()[1][0]}"] if context._finals and not context.final_sent and context.invite else [])])


#: What may happen to a branch, and to the whole.
_TO_BRANCH: dict[str, Callable[[Context, BranchState], list[Output]]] = {
    **{str(status): lambda c, b, status=status: c.context.response(b, response(status))  # type: ignore[misc]
       for status in (100, 180, 200, 302, 486, 503, 603)},
    "no answer": lambda c, b: c.context.failed(b, 408),
    "cancelled in vain": lambda c, b: c.context.failed(b, 487),
    "timer C": lambda c, b: c.context.timer_c(b),
}
_TO_ALL: dict[str, Callable[[Context], list[Output]]] = {
    "CANCEL": lambda c: c.context.cancel(),
    "ring timeout": lambda c: c.context.ring_timeout(),
}


def replay(sizes: tuple[int, ...], invite: bool, path: tuple[tuple[str, int], ...]) -> tuple[Context, str]:
    """A context after these inputs, and what the last of them put out."""
    context, last = Context(*sizes, invite=invite), ""
    for name, number in path:
        if number:
            last = context.did(_TO_BRANCH[name](context, context.branches[number - 1]))
        else:
            last = context.did(_TO_ALL[name](context))
    return context, last


def inputs(context: Context, names: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Everything that can happen next. A branch that ended can still bring a 2xx, no other final."""
    for name in names:
        if name in _TO_ALL:
            yield name, 0
        else:
            for number, branch in enumerate(context.branches, 1):
                if not branch.done or name == "200":
                    yield name, number


class Walk(TestCase):
    """Every state that can be reached, every input in each."""

    def test_table(self) -> None:
        """A request to one target and then another: what each input does in each state is what the table says.

        A change of behaviour is a change of tests/tables/response_context.tsv; SIPD_WRITE_TABLES=1 writes it anew.
        """
        rows = ["request\tstate\tinput\toutputs\tnext state"]
        for kind, invite in (("INVITE", True), ("MESSAGE", False)):
            seen: dict[str, tuple[tuple[str, int], ...]] = {}
            waiting: list[tuple[tuple[str, int], ...]] = [()]
            while waiting:
                path = waiting.pop(0)
                before, _ = replay((1, 1), invite, path)
                state = before.state()
                if state in seen:
                    continue
                seen[state] = path
                for name, number in inputs(before, ("180", "200", "486", "603", "no answer", "timer C", "CANCEL",
                                                    "ring timeout")):
                    after, outputs = replay((1, 1), invite, (*path, (name, number)))
                    rows.append("\t".join((kind, state, f"{name} on {number}" if number else name, outputs or "-",
                                           after.state())))
                    if len(path) < 8:
                        waiting.append((*path, (name, number)))
        text = "\n".join(rows) + "\n"
        if os.environ.get("SIPD_WRITE_TABLES"):
            TABLE.write_text(text)
        self.assertEqual(text.splitlines(), TABLE.read_text().splitlines())

    def test_laws(self) -> None:
        """Laws that hold on every path of up to five inputs, over two targets at once and one after them."""
        names = ("180", "200", "302", "486", "603", "no answer", "CANCEL", "ring timeout")
        for invite in (True, False):
            paths: list[tuple[tuple[str, int], ...]] = [()]
            seen: set[str] = set()
            for _ in range(6):
                longer = []
                for path in paths:
                    context, _ = replay((2, 1), invite, path)
                    state = context.state()
                    if state not in seen:
                        seen.add(state)
                        longer += [(*path, one) for one in inputs(context, names)]
                    self.laws(context, invite, path)
                paths = longer
            self.assertGreater(len(seen), 30)

    def laws(self, context: Context, invite: bool, path: tuple[tuple[str, int], ...]) -> None:
        """Holds the outputs of one path against the rules, and brings the path to its end."""
        text = f"{path}: {context.all}"
        self.finals(context, text)
        for branch in context.branches:
            if not branch.done:
                context.did(context.context.failed(branch, 487 if branch.cancel_wanted else 408))
        # ended branches may have made way for the next group
        for branch in context.branches:
            if not branch.done:
                context.did(context.context.failed(branch, 408))
        self.finals(context, text)
        kinds = [kind for kind, _ in context.all]
        self.assertEqual(kinds.count(rc.DONE), 1, text)
        self.assertEqual(context.context.open, 0, text)
        cancels = [payload for kind, payload in context.all if kind == rc.CANCEL]
        if not invite:
            self.assertEqual(cancels, [], text)
            self.assertEqual([1 for kind, payload in context.all if kind == rc.RELAY and payload.status < 200], [], text)
            self.assertNotIn(408, [payload[0] for kind, payload in context.all if kind == rc.FINAL], text)

    def finals(self, context: Context, text: str) -> None:
        """One answer at most, but for more 2xx to an INVITE; nothing is begun once the search is over."""
        answered = over = False
        for kind, payload in context.all:
            success = kind == rc.RELAY and payload.status >= 200
            if kind in (rc.FINAL, rc.ABANDON) or (success and not context.context.invite):
                self.assertFalse(answered, text)
            if kind == rc.RELAY and payload.status < 200:
                self.assertFalse(answered, text)
            if kind == rc.START:
                self.assertFalse(over, text)
            answered |= success or kind in (rc.FINAL, rc.ABANDON)
            over |= answered


class Rules(TestCase):
    """Cases that the walk does not tell apart."""

    def test_merged_challenges(self) -> None:
        """s16.7 step 7: the challenges of the others come with the best, each under its own name."""
        context = Context(3)
        context.gets(1, 407, 'Proxy-Authenticate: Digest realm="a"')
        context.gets(2, 401, 'WWW-Authenticate: Digest realm="b"', 'WWW-Authenticate: Digest realm="c"')
        context.gets(3, 404)
        status, best, extra = next(payload for kind, payload in context.all if kind == rc.FINAL)
        self.assertEqual((status, best.status), (407, 407))
        self.assertEqual(extra, (("WWW-Authenticate", 'Digest realm="b"'), ("WWW-Authenticate", 'Digest realm="c"')))

    def test_503_alone(self) -> None:
        """s16.7 step 6: 503 goes up as 500; with another 5xx there, that one does."""
        context = Context(2)
        context.gets(1, 503)
        self.assertEqual(context.gets(2, 503), "FINAL 500, DONE")
        context = Context(2)
        context.gets(1, 503)
        self.assertEqual(context.gets(2, 513), "FINAL 513, DONE")

    def test_order_of_classes(self) -> None:
        """s16.7 step 6: 6xx first, then the lowest class."""
        for statuses, best in (((302, 404, 500), 302), ((500, 404), 404), ((404, 600), 600), ((603, 302), 603)):
            context = Context(len(statuses))
            for number, status in enumerate(statuses, 1):
                last = context.gets(number, status)
            self.assertEqual(last, f"FINAL {best}, DONE")

    def test_cancelled(self) -> None:
        """s16.10: a caller who gave up is told 487, also when a branch ends by timeout."""
        context = Context(1)
        self.assertEqual(context.did(context.context.cancel()), "CANCEL? 1")
        self.assertEqual(context.did(context.context.failed(context.branches[0], 408)), "FINAL 487, DONE")

    def test_cancel_waits_for_a_provisional(self) -> None:
        """s9.1: wanted at once, sent with the first provisional response, and once only."""
        context = Context(1)
        self.assertEqual(context.did(context.context.cancel()), "CANCEL? 1")
        self.assertEqual(context.gets(1, 100), "CANCEL 1")
        self.assertEqual(context.gets(1, 180), "RELAY 180")
        self.assertEqual(context.did(context.context.timer_c(context.branches[0])), "")

    def test_message_without_answers(self) -> None:
        """RFC 4320 s4.2: 408s of every kind leave a MESSAGE without a final response."""
        context = Context(2, invite=False)
        context.gets(1, 408)
        self.assertEqual(context.did(context.context.failed(context.branches[1], 408)), "ABANDON, DONE")

    def test_superseded(self) -> None:
        """A hop that was silent and comes alive beside its successor is cancelled; if it answers, that counts."""
        context = Context(1)
        old = context.branches[0]
        new = BranchState()
        context.branches.append(new)
        context.context.supersede(old, new)
        self.assertEqual(context.gets(1, 180), "CANCEL 1")
        self.assertEqual(context.gets(2, 180), "RELAY 180")
        self.assertEqual(context.gets(1, 200), "RELAY 200, CANCEL 2")
        self.assertEqual(context.gets(2, 487), "DONE")

    def also(self, context: Context) -> BranchState:
        """The branch of somebody who takes the request, begun."""
        branch = BranchState()
        self.assertTrue(context.context.also(branch))
        context.context.branches.append(branch)
        context.branches.append(branch)
        return branch

    def test_also(self) -> None:
        """Somebody who takes the request from those it went to ends the search by a 2xx, as each of them does; one at a
        time, and not once it has an answer."""
        context = Context(2, 1)
        branch = self.also(context)
        self.assertFalse(context.context.also(BranchState()))
        self.assertEqual(context.gets(3, 183), "RELAY 183")
        context.gets(1, 180)
        self.assertEqual(context.gets(3, 200), "RELAY 200, CANCEL 1, CANCEL? 2")
        self.assertIs(context.context.taking, None)
        self.assertTrue(branch.done)
        self.assertFalse(context.context.also(BranchState()))
        context.gets(1, 487)
        self.assertEqual(context.gets(2, 487), "DONE")

    def test_also_in_vain(self) -> None:
        """In whatever order what comes, and however that one ends: what goes back is what would have gone without him,
        and every group has its turn."""
        ends: list[Callable[[Context, BranchState], list[Output]]] = [
            *_TO_BRANCH.values(), lambda c, b: c.context.response(b, response(404), (targets(1), False))]
        for end in ends[3:]:
            for first, second in ((486, 404), (480, 503), (603, 486), (302, 408)):
                for place in range(3):
                    context = Context(1, 1)
                    branch = self.also(context)
                    for number, status in ((1, first), (3, second)):
                        if place == number // 2:
                            context.did(end(context, branch))
                        if number <= len(context.branches):
                            context.gets(number, status)
                        if place == 2 and number == 1:
                            self.assertEqual(len(context.branches), 2)
                            context.did(end(context, branch))
                    plain = Context(1, 1)
                    plain.gets(1, first)
                    if len(plain.branches) > 1:
                        plain.gets(2, second)
                    self.assertEqual([one[1][0] for one in context.all if one[0] == rc.FINAL],
                                     [one[1][0] for one in plain.all if one[0] == rc.FINAL], (end, first, place))
                    self.assertEqual(context.all[-1][0], rc.DONE)

    def test_redirect(self) -> None:
        """s16.7 step 4: the new targets begin at once, beside what rings; a 3xx with other contacts left counts too."""
        context = Context(2, recurse=True)
        groups = [[Target("sip:x@192.0.2.9")], [Target("sip:y@192.0.2.9")]]
        first, second = context.branches
        self.assertEqual(context.did(context.context.response(first, response(302), (groups, True))), "START, RING")
        self.assertEqual(context.gets(3, 486), "")
        self.assertEqual(context.gets(2, 404), "START")
        self.assertEqual(context.gets(4, 404), "FINAL 302, DONE")

    def test_redirect_after_the_search(self) -> None:
        """s16.7 step 5: no new branch after a 6xx."""
        context = Context(2, recurse=True)
        context.gets(1, 603)
        moved = context.context.response(context.branches[1], response(302), ([[Target("sip:x@192.0.2.9")]], False))
        self.assertEqual(context.did(moved), "FINAL 603, DONE")

    def test_bound(self) -> None:
        """Redirections cannot make a request grow past MAX_BRANCHES."""
        context = Context(1, recurse=True)
        for round_ in range(2 * MAX_BRANCHES):
            if context.context.final_sent:
                break
            groups = [[Target(f"sip:{round_}-{index}@192.0.2.9") for index in range(5)]]
            context.did(context.context.response(context.branches[round_], response(302), (groups, False)))
        for branch in context.branches:
            context.did(context.context.failed(branch, 408))
        self.assertEqual(len(context.branches), MAX_BRANCHES)
        self.assertTrue(context.context.final_sent)
        too_many = Context(MAX_BRANCHES + 10, 5)
        self.assertEqual(len(too_many.branches), MAX_BRANCHES)
        for branch in too_many.branches:
            too_many.did(too_many.context.failed(branch, 480))
        self.assertEqual(too_many.all[-1][0], rc.DONE)
