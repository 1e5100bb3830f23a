"""Every input in every state of the four machines. What comes of it stands in `tests/tables`, a file a machine.

After a change that is meant: `UPDATE_TABLES=1 trial tests.transaction.test_tables`, and read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message import compose
from sipd.message.message import Request, Response
from sipd.message.parser import parse
from sipd.transaction import invite_client, invite_server, non_invite_client, non_invite_server
from sipd.transaction.machine import END, FAIL, SEND, START, STOP_DEADLINE, STOP_REPEAT, UP, Outputs
from sipd.transaction.timers import TimerValues
from tests.support.cases import shows

TABLES = Path(__file__).resolve().parents[1] / "tables"
KINDS = {SEND: "send", UP: "up", START: "start", STOP_REPEAT: "stop repeat", STOP_DEADLINE: "stop deadline", FAIL: "fail",
         END: "end"}
#: The letters of the timers, by their numbers.
NAMES = "ABCDEFGHIJKLM"
#: All timers of the RFC; C is none of a transaction.
TIMERS = [number for number, letter in enumerate(NAMES) if letter != "C"]
STATUSES = (100, 180, 200, 302, 486, 603)

Input = Callable[[Any], Outputs]


def request(method: str) -> Request:
    """A request as a client sends it."""
    found = parse("\r\n".join([
        f"{method} sip:bob@192.0.2.4 SIP/2.0", "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK87a", "Max-Forwards: 70",
        "From: <sip:alice@atlanta.com>;tag=1", "To: <sip:bob@biloxi.com>", "Call-ID: x", f"CSeq: 1 {method}", "", "",
    ]).encode())
    assert isinstance(found, Request)
    return found


def response(method: str, status: int) -> Response:
    """A response to it."""
    found = parse(compose.response(request(method), status, "", "b"))
    assert isinstance(found, Response)
    return found


def written(outputs: Outputs) -> str:
    """Outputs as a line of the table shows them."""
    words = []
    for kind, payload in outputs:
        text = KINDS[kind]
        if kind == SEND:
            text += f" {payload.decode().split(' ')[1 if payload.startswith(b'SIP/') else 0]}"
        elif kind == UP:
            text += f" {payload.status if isinstance(payload, Response) else payload.method}"
        elif kind == START:
            text += f" {NAMES[payload[0]]} {payload[1]:g}"
        elif kind == FAIL:
            text += f" {payload!r}"
        words.append(text)
    return ", ".join(words) or "-"


class Walk:
    """One machine: how each state is reached, and what is tried there."""

    def __init__(self, name: str, states: tuple[str, ...], make: Callable[[bool], Any], inputs: dict[str, Input],
                 paths: dict[str, list[str]]) -> None:
        self.name = name
        self.states = states
        self.make = make
        self.inputs = inputs
        self.paths = paths

    def table(self) -> str:
        """All lines, for an unreliable and then for a reliable transport."""
        lines = []
        for reliable in (False, True):
            for state in self.states:
                machine = self.reached(state, reliable)
                if machine is None:
                    lines.append(f"{self._where(state, reliable)} | is not reached")
                    continue
                for label, apply in self.inputs.items():
                    if label == "start" and state != self.states[0]:
                        continue  # it is started once
                    machine = self.reached(state, reliable)
                    outputs = written(apply(machine))
                    after = self.states[machine.state]
                    lines.append(f"{self._where(state, reliable)} | {label:<19} | {after if after != state else '=':<11} | "
                                 f"{outputs}")
        return "\n".join(lines) + "\n"

    def reached(self, state: str, reliable: bool) -> Any:
        """A machine in that state, None when there is no way to it."""
        machine = self.make(reliable)
        for label in self.paths[state]:
            self.inputs[label](machine)
        return machine if self.states[machine.state] == state else None

    @staticmethod
    def _where(state: str, reliable: bool) -> str:
        return f"{'reliable' if reliable else 'unreliable':<10} | {state:<11}"


def timers() -> dict[str, Input]:
    """Each timer as an input."""
    return {f"timer {NAMES[number]}": lambda machine, number=number: machine.timer(number)  # type: ignore[misc]
            for number in TIMERS}


def client(method: str, states: tuple[str, ...], kind: Any, paths: dict[str, list[str]]) -> Walk:
    """One of the two client machines."""
    inputs: dict[str, Input] = {"start": lambda machine: machine.start()}
    for status in STATUSES:
        inputs[f"response {status}"] = lambda machine, status=status: machine.response(  # type: ignore[misc]
            response(method, status))
    inputs |= timers()
    inputs["transport error"] = lambda machine: machine.transport_error("refused")
    sent = request(method)
    return Walk(kind.__name__, states, lambda reliable: kind(TimerValues(), reliable, sent, sent.encode()), inputs, paths)


def server(method: str, states: tuple[str, ...], kind: Any, paths: dict[str, list[str]]) -> Walk:
    """One of the two server machines."""
    inputs: dict[str, Input] = {"request": lambda machine: machine.request(request(method))}
    if method == "INVITE":
        inputs["ACK"] = lambda machine: machine.ack(request("ACK"))
    for status in STATUSES:
        inputs[f"respond {status}"] = lambda machine, status=status: machine.respond(  # type: ignore[misc]
            status, response(method, status).encode())
    inputs |= timers()
    inputs["abandon"] = lambda machine: machine.abandon()
    return Walk(kind.__name__, states, lambda reliable: kind(TimerValues(), reliable), inputs, paths)


WALKS = {
    "invite_client": client("INVITE", invite_client.STATES, invite_client.InviteClient, {
        "calling": [], "proceeding": ["response 180"], "completed": ["response 486"], "accepted": ["response 200"],
        "terminated": ["timer B"]}),
    "non_invite_client": client("OPTIONS", non_invite_client.STATES, non_invite_client.NonInviteClient, {
        "trying": [], "proceeding": ["response 100"], "completed": ["response 200"], "terminated": ["timer F"]}),
    "invite_server": server("INVITE", invite_server.STATES, invite_server.InviteServer, {
        "proceeding": ["respond 100"], "completed": ["respond 486"], "confirmed": ["respond 486", "ACK"],
        "accepted": ["respond 200"], "terminated": ["respond 486", "timer H"]}),
    "non_invite_server": server("OPTIONS", non_invite_server.STATES, non_invite_server.NonInviteServer, {
        "trying": [], "proceeding": ["respond 100"], "completed": ["respond 200"],
        "terminated": ["respond 200", "timer J"]}),
}


class Tables(TestCase):
    """The tables are what the machines do."""

    def _check(self, name: str) -> None:
        path = TABLES / f"{name}.txt"
        table = WALKS[name].table()
        if os.environ.get("UPDATE_TABLES"):
            path.write_text(table, encoding="ascii")
        kept = path.read_text(encoding="ascii").splitlines()
        for number, (was, now) in enumerate(zip(kept, table.splitlines(), strict=False), 1):
            self.assertEqual(was, now, f"{path.name} line {number}")
        self.assertEqual(len(kept), len(table.splitlines()))

    @shows("R3261-17.1.1.2-01", "R3261-17.1.1.2-02", "R3261-17.1.1.2-03", "R3261-17.1.1.2-04", "R3261-17.1.1.2-05",
           "R3261-17.1.1.2-10", "R3261-17.1.1.2-12", "R3261-17.1.1.2-13", "R3261-17.1.1.2-14", "R3261-17.1.1.2-15",
           "R3261-17.1.1.2-16", "R3261-17.1.1.2-17", "R3261-17.1.1.2-18", "R3261-17.1.1.2-19", "R3261-17.1.1.2-21",
           "R3261-17.1.1.2-22", "R3261-17.1.1.2-23", "R3261-17.1.1.2-24", "R3261-17.1.1.2-26", "R6026-7.2-01",
           "R6026-7.2-02", "R6026-7.2-03", "R6026-7.2-04", "R6026-8.4-01", "R6026-8.4-02", "R6026-8.4-03",
           "R6026-8.4-05", "R6026-8.4-06", "R6026-8.4-07", "R6026-8.4-08", "R6026-8.4-09", "R6026-8.4-10",
           "R6026-8.4-11", "R6026-8.4-12", "R6026-8.4-13", "R6026-8.4-14", "R6026-8.4-15")
    def test_invite_client(self) -> None:
        """RFC 3261 figure 5 with RFC 6026 s7.2."""
        self._check("invite_client")

    @shows("R3261-17.1.2.2-01", "R3261-17.1.2.2-02", "R3261-17.1.2.2-04", "R3261-17.1.2.2-05", "R3261-17.1.2.2-06",
           "R3261-17.1.2.2-07", "R3261-17.1.2.2-08", "R3261-17.1.2.2-09", "R3261-17.1.2.2-10", "R3261-17.1.2.2-11",
           "R3261-17.1.2.2-12", "R3261-17.1.2.2-13", "R3261-17.1.2.2-14", "R3261-17.1.2.2-15", "R3261-17.1.2.2-16",
           "R3261-17.1.2.2-17")
    def test_non_invite_client(self) -> None:
        """RFC 3261 figure 6."""
        self._check("non_invite_client")

    @shows("R3261-17.2.1-04", "R3261-17.2.1-05", "R3261-17.2.1-06", "R3261-17.2.1-08", "R3261-17.2.1-10",
           "R3261-17.2.1-11", "R3261-17.2.1-12", "R3261-17.2.1-13", "R3261-17.2.1-14", "R3261-17.2.1-15",
           "R6026-7.1-01", "R6026-7.1-02", "R6026-7.1-03", "R6026-7.1-04", "R6026-7.1-05", "R6026-8.5-01",
           "R6026-8.5-02", "R6026-8.7-01", "R6026-8.7-02", "R6026-8.7-03", "R6026-6-05")
    def test_invite_server(self) -> None:
        """RFC 3261 figure 7 with RFC 6026 s7.1."""
        self._check("invite_server")

    @shows("R3261-17.2.2-01", "R3261-17.2.2-02", "R3261-17.2.2-03", "R3261-17.2.2-04", "R3261-17.2.2-05",
           "R3261-17.2.2-06", "R3261-17.2.2-07", "R3261-17.2.2-08", "R3261-17.2.2-09", "R3261-17.2.2-10")
    def test_non_invite_server(self) -> None:
        """RFC 3261 figure 8."""
        self._check("non_invite_server")

    @shows("R3261-17.1.1.2-27", "R3261-17.1.2.2-18", "R3261-17.2.1-16", "R3261-17.2.2-11", "R6026-7.1-06",
           "R6026-7.2-05", "R6026-8.4-16", "R6026-8.7-04")
    def test_every_end_is_told_once(self) -> None:
        """Whoever ends says so in the same step, and stays ended: `end` comes with "terminated" and not without it."""
        for name, walk in WALKS.items():
            for line in walk.table().splitlines():
                if "is not reached" in line:
                    continue
                _, state, label, after, outputs = (part.strip() for part in line.split("|"))
                ended = after == "terminated"
                if state != "terminated" and label != "start":
                    self.assertEqual("end" in outputs.split(", "), ended, f"{name}: {line}")
                if state == "terminated" and label != "start":
                    self.assertEqual((after, outputs), ("=", "-"), f"{name}: {line}")
