"""What must hold after a random call, judged from the octets the server sent and got and when (RFC 3261 s16, s17).

Nothing here asks the server; the referee knows timers, not machines. A message sent again must be due by its timer, or
answer something that arrived in that very instant.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from math import inf
from typing import NamedTuple

from sipd.calls.call import TERMINATED
from tests.support.network import MemoryFlow
from tests.support.plain import Plain
from tests.support.random_call import RandomCall

_T1, _T2, _T4, _LIFE = 0.5, 4.0, 5.0, 32.0
#: How late a timer may be: two ticks of the wheel, and what floats lose.
_LATE = 0.041
#: How early by the rounding of floats.
_EARLY = 1e-6
#: Tables that rightly hold something in the end.
_KEPT = ("addresses-of-record", "expiry seconds")


class Seen(NamedTuple):
    """A message at the server's door."""

    at: float
    message: Plain
    flow: MemoryFlow


Index = dict[tuple[str, str], list[Seen]]


class Referee:
    """Judges one call that is over. Raises AssertionError that names the branch and the rule."""

    def __init__(self, call: RandomCall) -> None:
        self.call = call
        #: By branch of the topmost Via and method of CSeq.
        self.asked: Index = defaultdict(list)
        self.answered: Index = defaultdict(list)
        self.got: Index = defaultdict(list)
        self.heard: Index = defaultdict(list)
        for source, requests, responses in ((call.network.sent, self.asked, self.answered),
                                            (call.network.arrived, self.got, self.heard)):
            for at, message, flow in source:
                (responses if message.status else requests)[message.branch, message.method].append(
                    Seen(at, message, flow))
        #: What the server sent on, by branch and method of what it had got.
        self.children: dict[tuple[str, str], list[str]] = defaultdict(list)
        for branch, method in self.asked:
            first = self.asked[branch, method][0].message
            if first.parent and method not in ("ACK", "CANCEL"):
                self.children[first.parent, method].append(branch)

    def judge(self) -> None:
        """All rules."""
        for (branch, method), sends in self.asked.items():
            if method == "ACK":
                continue
            self.request(branch, method, sends)
            if method == "CANCEL":
                self.cancel(branch, sends)
            elif method == "INVITE":
                self.ack(branch, self.asked.get((branch, "ACK"), []))
        for (branch, method), arrivals in self.got.items():
            answers = self.answered.get((branch, method), [])
            if method == "INVITE":
                self.invite(branch, arrivals, answers)
            elif method == "CANCEL":
                self.instants(branch, answers, arrivals, "answer to CANCEL")
            elif method == "ACK":
                self.passed_ack(branch, arrivals)
            else:
                self.non_invite(branch, method, arrivals, answers)
        for key in self.answered:
            assert key in self.got, f"{key}: a response to nobody"
        self.calls()
        self.nothing_left()

    def happened(self) -> set[str]:
        """What this call was an example of, in words."""
        words = set()
        for (branch, method), answers in self.answered.items():
            finals = [one for one in answers if one.message.final]
            children = self.children[branch, method]
            begun = [self.asked[child, method][0] for child in children]
            if method != "INVITE" or not finals:
                continue
            words.add(f"a final of {finals[0].message.status // 100}xx")
            if len({one.message.to_tag for one in finals}) > 1:
                words.add("two 2xx")
                if len({one.flow.id for child in children for one in self.heard[child, method]
                        if 200 <= one.message.status < 300}) > 1:
                    words.add("two phones answer")
            if any(one.message.status == 200 for one in self.answered.get((branch, "CANCEL"), ())):
                words.add("CANCEL against 2xx" if finals[0].message.status < 300 else "CANCEL")
            if len({one.at for one in begun}) > 1:
                words.add("one after the other")
            if len({one.at for one in begun}) < len(begun):
                words.add("at the same time")
            if len({one.message.uri for one in begun}) < len(begun):
                words.add("another hop")
            if begun and finals[0].at > begun[0].at + 19 and any(
                    self.asked.get((child, "CANCEL")) for child in children):
                words.add("timer C or a long ring")
            if any(one.message.status == 503 for child in children for one in self.heard.get((child, method), ())):
                words.add("503")
            if any(300 <= one.message.status < 400 for child in children for one in self.heard.get((child, method), ())):
                words.add("a redirection followed" if self.call.recurse else "a redirection")
            if any((child, method) in self.got for child in children):
                words.add("through ourselves")
            if len(self.got[branch, method]) > 1:
                words.add("an INVITE repeated")
            if finals[0].message.status == 482:
                words.add("a loop")
        return words

    # --- what both sides share

    def gone(self, flow: MemoryFlow, at: float) -> bool:
        """The way to somebody is broken by then, or nobody is there."""
        if flow.reliable:
            return self.call.broken.get(flow.id, inf) <= at + _LATE
        return (flow.address, flow.port) in self.call.network.icmp

    def instants(self, branch: str, sends: list[Seen], arrivals: list[Seen], what: str) -> None:
        """Each was sent in the instant when something arrived that asked for it."""
        over = Counter(one.at for one in sends) - Counter(one.at for one in arrivals)
        assert not over, f"{branch}: {what} without cause at {sorted(over)}"

    # --- the server as a client

    def request(self, branch: str, method: str, sends: list[Seen]) -> None:
        """s17.1.1.2, s17.1.2.2: the same octets each time, on the schedule of timer A or E, until something came."""
        assert len({one.message.data for one in sends}) == 1, f"{branch} {method}: two requests in one transaction"
        assert len({one.flow.id for one in sends}) == 1, f"{branch} {method}: repeated over another flow"
        came = self.got.get((sends[0].message.parent, method))
        if came is not None:
            left = [int(one.message.headers["max-forwards"][0]) for one in (came[0], sends[0])]
            assert left[1] == left[0] - 1, f"{branch} {method}: Max-Forwards {left}"
        if sends[0].flow.reliable:
            assert len(sends) == 1, f"{branch} {method}: repeated over a stream"
            return
        heard = self.heard.get((branch, method), [])
        provisional = min((one.at for one in heard), default=inf)
        stop = provisional if method == "INVITE" else min((one.at for one in heard if one.message.final), default=inf)
        end = sends[0].at + _LIFE
        interval = _T1
        for last, again in zip(sends, sends[1:], strict=False):
            gap = again.at - last.at
            assert interval - _EARLY <= gap <= interval + _LATE, \
                f"{branch} {method}: repeated after {gap:.3f} s, not {interval}"
            assert again.at <= stop, f"{branch} {method}: repeated after a response"
            assert again.at <= end + _LATE, f"{branch} {method}: repeated after its time"
            if method == "INVITE":
                interval = 2 * interval
            else:
                interval = _T2 if provisional <= again.at else min(2 * interval, _T2)
        if sends[-1].at + interval + 3 * _LATE < min(stop, end) and not self.gone(sends[0].flow, inf):
            dropped = method == "CANCEL" or not self.alive(branch, min(stop, end) - 3 * _LATE)
            assert dropped, f"{branch} {method}: not repeated after {interval} s"

    def alive(self, branch: str, at: float) -> bool:
        """Whether the INVITE or other request with this branch could still be answered then."""
        sends = self.asked.get((branch, "INVITE"))
        if sends is None:
            return True
        begun = sends[0].at
        first = min((one.at for one in self.heard.get((branch, "INVITE"), ())), default=inf)
        cancels = self.asked.get((branch, "CANCEL"))
        patience = min(_LIFE, self.call.timer_c) - 2 * _LATE
        return not (self.gone(sends[0].flow, at) or (min(first, at) > begun + patience)
                    or (cancels is not None and at > cancels[0].at + _LIFE - 2 * _LATE))

    def cancel(self, branch: str, sends: list[Seen]) -> None:
        """s9.1: the INVITE's own, after a provisional response and before a final one."""
        invite = self.asked.get((branch, "INVITE"))
        assert invite is not None, f"{branch}: CANCEL of nothing"
        cancel, of = sends[0].message, invite[0].message
        assert (cancel.uri, cancel.call_id, cancel.from_, cancel.to, cancel.number, cancel.vias) == (
            of.uri, of.call_id, of.from_, of.to, of.number, of.vias[:1]), f"{branch}: CANCEL does not match"
        heard = self.heard.get((branch, "INVITE"), [])
        rang = [one for one in heard if one.at <= sends[0].at]
        assert rang, f"{branch}: CANCEL before a provisional response"
        assert not any(one.message.final for one in rang), f"{branch}: CANCEL after a final response"
        at, parent, call = sends[0].at, (of.parent, "INVITE"), self.call
        over = [one.at for one in self.answered[parent] if one.message.final]
        over += [one.at for one in self.answered.get((of.parent, "CANCEL"), ()) if one.message.status == 200]
        over += [one.at for child in self.children[parent] for one in self.heard.get((child, "INVITE"), ())
                 if one.message.status >= 600 or 200 <= one.message.status < 300]
        if self.replaced(of.parent, branch):
            return  # another hop rings, and this one woke up
        if call.serial:
            over.append(invite[0].at + call.ring_timeout - 1)
        over.append(max(one.at for one in (invite[0], *rang) if one.message.status != 100) + call.timer_c)
        assert min(over) <= at, f"{branch}: CANCEL without cause"

    def ack(self, branch: str, sends: list[Seen]) -> None:
        """s17.1.1.3: one for each refusal that arrived, the same each time. That of a 2xx is `passed_ack`'s."""
        assert len({one.message.data for one in sends}) <= 1, f"{branch}: two ACKs"
        refusals = [one for one in self.heard.get((branch, "INVITE"), ()) if one.message.status >= 300]
        self.instants(branch, sends, refusals, "ACK")
        heard = self.heard.get((branch, "INVITE"), [])
        first = next((one for one in heard if one.message.final), None)
        flow = self.asked[branch, "INVITE"][0].flow
        if first is not None and first.message.status >= 300 and self.alive(branch, first.at) and not self.gone(flow, inf):
            due = [one for one in refusals if one.at < first.at + _LIFE - _LATE]
            assert len(sends) >= (1 if flow.reliable else len(due)), f"{branch}: {len(sends)} ACKs for {len(due)} refusals"

    def passed_ack(self, branch: str, arrivals: list[Seen]) -> None:
        """s16.11: the ACK of a 2xx goes on once each time it comes, and is the same each time; that of a refusal
        goes nowhere."""
        onward = [one for (other, method), sends in self.asked.items() if method == "ACK" and other != branch
                  for one in sends if one.message.parent == branch]
        shapes = {one.message.data for one in onward}
        assert len(shapes) <= len({one.message.to_tag for one in onward}), f"{branch}: ACK sent on in two shapes"
        assert len(onward) <= len(arrivals), f"{branch}: ACK sent on {len(onward)} times, came {len(arrivals)} times"
        ack = arrivals[0].message
        if (branch, "INVITE") in self.got:
            # one that comes after timer I or H is nobody's, and goes where its Request-URI says
            refused = min((one.at for one in self.answered[branch, "INVITE"] if one.message.status >= 300), default=0.0)
            kept = min(arrivals[0].at + _T4, refused + _LIFE)
            assert refused == 0.0 or all(one.at >= kept - _LATE for one in onward), \
                f"{branch}: the ACK of a refusal went on"
            if refused or arrivals[-1].at > self.answered[branch, "INVITE"][-1].at + _LIFE - 1:
                return
        if "route" in ack.headers and ";transport=tcp" not in ack.uri and "@example.com" not in ack.uri:
            host = ack.uri.partition("@")[2].partition(":")[0]
            assert (host, 5060) in self.call.network.icmp or len(onward) == len(arrivals), f"{branch}: ACK absorbed"

    # --- the server as a server

    def invite(self, branch: str, arrivals: list[Seen], answers: list[Seen]) -> None:
        """s17.2.1, s16.7: 100 at once, then what comes from below, then 2xx only or one refusal."""
        came = arrivals[0]
        again = self.call.network.acceptors.get((came.flow.transport, came.flow.address, 5060))
        reachable = not self.gone(came.flow, inf) or (again is not None and again.mode == "accept")
        finals = [one for one in answers if one.message.final]
        assert finals or not reachable, f"{branch}: INVITE without a final response"
        assert not answers or answers[0].at == came.at or not reachable, f"{branch}: no answer at once"
        below = [one for child in self.children[branch, "INVITE"] for one in self.heard.get((child, "INVITE"), ())]
        provisional = [one for one in answers if not one.message.final]
        if finals:
            assert not provisional or answers.index(finals[0]) >= len(provisional), f"{branch}: provisional after final"
        self.instants(branch, provisional, [*(one for one in below if 100 < one.message.status < 200), *arrivals],
                      "provisional response")
        hundreds = [one for one in provisional if one.message.status == 100]
        self.instants(branch, hundreds, arrivals, "100")
        if finals and finals[0].message.status < 300:
            good = [one for one in below if 200 <= one.message.status < 300]
            assert all(one.message.status < 300 for one in finals), f"{branch}: 2xx and then a refusal"
            self.instants(branch, finals, good, "2xx")
        elif finals:
            self.refusal(branch, arrivals, finals, stateful=bool(hundreds))
            self.best(branch, finals[0])
        if reachable:
            self.all_passed(branch, finals, answers)
        targets = Counter((first.message.uri, first.flow.transport, first.flow.address, first.flow.port)
                          for child in self.children[branch, "INVITE"] for first in self.asked[child, "INVITE"][:1])
        assert all(number == 1 for number in targets.values()), f"{branch}: twice to one target: {targets}"
        self.losers(branch, finals)

    def refusal(self, branch: str, arrivals: list[Seen], finals: list[Seen], stateful: bool) -> None:
        """s17.2.1: one refusal, repeated by timer G or because the INVITE came again, until the ACK."""
        assert len({one.message.data for one in finals}) == 1, f"{branch}: two refusals, or one and a 2xx"
        assert finals[0].message.status != 503, f"{branch}: 503 passed up"
        acked = min((one.at for one in self.got.get((branch, "ACK"), ())), default=inf)
        again = Counter(one.at for one in arrivals)
        timer, interval = finals[0].at, _T1
        again[timer] += 1
        for one in finals:
            if again[one.at]:
                again[one.at] -= 1
                continue
            assert not one.flow.reliable, f"{branch}: refusal repeated over a stream"
            gap = one.at - timer
            assert interval - _EARLY <= gap <= interval + _LATE, f"{branch}: refusal again after {gap:.3f} s, not {interval}"
            assert one.at <= acked, f"{branch}: refusal repeated after the ACK"
            timer, interval = one.at, min(2 * interval, _T2)
        if stateful and not finals[0].flow.reliable:
            end = min(acked, finals[0].at + _LIFE)
            assert timer + interval + 2 * _LATE >= end, f"{branch}: timer G ended before the ACK"

    def first_finals(self, branch: str, before: float) -> dict[str, Seen]:
        """The first final response of each child up to then; of those tried at several hops, the last hop counts."""
        result: dict[str, Seen] = {}
        last = {self.asked[child, "INVITE"][0].message.uri: child for child in self.children[branch, "INVITE"]}
        for child in last.values():
            final = next((one for one in self.heard.get((child, "INVITE"), ()) if one.message.final), None)
            if final is not None and final.at <= before and self.alive(child, final.at):
                result[child] = final
        return result

    def best(self, branch: str, final: Seen) -> None:
        """s16.7 step 6: 6xx before all, else of the lowest class there is; every challenge. Where redirections were
        followed they are no responses."""
        finals = self.first_finals(branch, final.at)
        statuses = {one.message.status for one in finals.values()}
        best = final.message.status
        came = {one.message.status for child in self.children[branch, "INVITE"] for one in self.heard[child, "INVITE"]}
        assert best in came | {408, 480, 482, 483, 487, 500}, f"{branch}: {best} of {came}"
        if max(statuses, default=0) >= 600:
            assert best >= 600, f"{branch}: {best} although 6xx came"
        elif not self.call.recurse and statuses:
            lowest = min(statuses) // 100
            assert best // 100 <= lowest, f"{branch}: {best} of {statuses}"
        if best in (401, 407):
            for one in finals.values():
                if one.message.status in (401, 407):
                    missing = set(one.message.headers["proxy-authenticate"]) - set(
                        final.message.headers["proxy-authenticate"])
                    assert not missing, f"{branch}: a challenge is missing: {missing}"

    def all_passed(self, branch: str, finals: list[Seen], answers: list[Seen]) -> None:
        """s16.7 step 5: what must go back goes back in the instant it came: provisional responses before a final one,
        every 2xx before a refusal."""
        over = finals[0].at if finals else inf
        refused = over if finals and finals[0].message.status >= 300 else inf
        passed = Counter((one.at, one.message.status, one.message.to_tag) for one in answers)
        for child in self.children[branch, "INVITE"]:
            seen: list[Seen] = []
            for one in self.heard.get((child, "INVITE"), ()):
                status, at = one.message.status, one.at
                wanted = 100 < status < 200 and at < over and not self.replaced(branch, child)
                if 200 <= status < 300:
                    begun = min((other.at for other in seen), default=at)
                    wanted = at < min(refused, over + _LIFE - _LATE, begun + _LIFE - _LATE)
                if seen and not 200 <= seen[0].message.status < 300 or seen and status < 200:
                    wanted = False
                if wanted and self.alive(child, at):
                    assert passed[at, status, one.message.to_tag], f"{branch}: {status} of {child} was not passed on"
                    passed[at, status, one.message.to_tag] -= 1
                if one.message.final:
                    seen.append(one)

    def replaced(self, branch: str, child: str) -> bool:
        """Another hop of the same target was tried too."""
        uri = self.asked[child, "INVITE"][0].message.uri
        return any(other != child and self.asked[other, "INVITE"][0].message.uri == uri
                   for other in self.children[branch, "INVITE"])

    def losers(self, branch: str, finals: list[Seen]) -> None:
        """s16.7 step 10, s16.10: when it is over, the caller gave up, or the next group of a serial search is tried,
        whoever rings is cancelled. Targets that a redirection or the DNS gives come later and are no next group."""
        given_up = min((one.at for one in self.answered.get((branch, "CANCEL"), ()) if one.message.status == 200),
                       default=inf)
        over = min(finals[0].at if finals else inf, given_up)
        for child, one in self.first_finals(branch, over).items():
            if one.message.status >= 600 and self.alive(child, one.at + 2 * _LATE):
                over = min(over, one.at)  # s16.7 step 5
        late = [child for child in self.children[branch, "INVITE"] if self.asked[child, "INVITE"][0].at > over]
        assert not late, f"{branch}: {late} begun after {over:.3f}, when it was over"
        if finals and 300 <= finals[0].message.status < 600 and finals[0].at == over < given_up:
            self.everybody(branch)
        for child in self.children[branch, "INVITE"]:
            heard = self.heard.get((child, "INVITE"), [])
            rang = min((one.at for one in heard if not one.message.final), default=inf)
            ended = min((one.at for one in heard if one.message.final), default=inf)
            first = self.asked[child, "INVITE"][0]
            turn = min((other.at for name in self.children[branch, "INVITE"]
                        for other in self.asked[name, "INVITE"][:1]
                        if other.at > first.at and not other.message.uri.startswith("sip:gw@")), default=inf)
            due = max(over if self.call.recurse else min(over, turn), rang)
            if due == inf or ended <= due or not self.alive(child, due) or not self.alive(child, rang):
                continue
            cancels = self.asked.get((child, "CANCEL"))
            assert cancels is not None and cancels[0].at <= due, f"{child}: rings on after {due:.3f}"
            assert cancels[0].flow is first.flow, f"{child}: CANCEL over another flow"

    def everybody(self, branch: str) -> None:
        """s16.6: nobody whom a datagram reaches is left out of a call that failed."""
        invite = self.got[branch, "INVITE"][0].message
        if invite.uri == "sip:1002@example.com" and self.children[branch, "INVITE"]:
            tried = {self.asked[child, "INVITE"][0].message.uri for child in self.children[branch, "INVITE"]}
            assert tried >= self.call.datagram_contacts, f"{branch}: {self.call.datagram_contacts - tried} not tried"

    def non_invite(self, branch: str, method: str, arrivals: list[Seen], answers: list[Seen]) -> None:
        """s17.2.2, RFC 4320: one final response, again only when the request comes again; no 408, no early 100."""
        finals = [one for one in answers if one.message.final]
        assert len({one.message.data for one in finals}) <= 1, f"{branch} {method}: two final responses"
        self.instants(branch, finals[1:], arrivals, f"{method}: final response again")
        for one in answers:
            if not one.message.final:
                assert one.message.status == 100, f"{branch} {method}: a provisional response"
                assert one.at >= arrivals[0].at + 3.5, f"{branch} {method}: an early 100"
        assert not finals or finals[0].message.status not in (408, 503), f"{branch} {method}: {finals[0].message.status}"
        below = [one for child in self.children[branch, method] for one in self.heard.get((child, method), ())
                 if one.message.final and one.message.status != 408
                 and one.at < self.asked[child, method][0].at + _LIFE - _LATE
                 and not self.gone(self.asked[child, method][0].flow, one.at)]
        if below and not self.gone(arrivals[0].flow, inf):
            assert finals, f"{branch} {method}: the answer was lost here"

    def calls(self) -> None:
        """The call table saw what the caller saw: one call for its INVITE, answered or ended with that status; and
        every call has an end and a reason for it, after it began, with nobody left who rings."""
        over = list(self.call.rig.core.calls.finished.values())
        for call in over:
            assert call.why and call.ended >= call.started, f"{call.call_id}: {call.why}"
            assert not call.ringing and not call.peers and call.timer is None, f"{call.call_id}: somebody rings still"
            assert all(dialog.state == TERMINATED for dialog in call.dialogs), f"{call.call_id}: a dialog is open"
            assert call.was_answered or call.status >= 300, f"{call.call_id}: ended with {call.status}"
        first = [branch for (branch, method), arrivals in self.got.items()
                 if method == "INVITE" and not arrivals[0].message.to_tag and (branch, method) not in self.asked]
        if len(first) == 1 and len(over) == 1 and self.children[first[0], "INVITE"]:
            finals = [one.message.status for one in self.answered[first[0], "INVITE"] if one.message.final]
            if finals and finals[0] < 300:
                assert over[0].was_answered and over[0].status == finals[0], f"answered, and the table says {over[0].status}"
            elif finals:
                assert over[0].status == finals[0], f"{finals[0]}, and the table says {over[0].status}"

    def nothing_left(self) -> None:
        """No bug, no entry in a table, no timer, nobody who waits for a flow."""
        rig = self.call.rig
        assert not rig.bugs, rig.bugs[0]
        left = {name: size for name, size in rig.inventory.left().items() if name not in _KEPT}
        assert not left, f"left: {left}"
        assert not len(rig.core.wheel), f"{len(rig.core.wheel)} timers left"
        waiting = [flow.id for flow in rig.transports.flows.values() if flow.users]
        assert not waiting, f"somebody waits for {waiting}"
