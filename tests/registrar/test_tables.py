"""Every REGISTER in every state of an address-of-record. What comes of it stands in `tests/tables/registrar.txt`.

After a change that is meant: `UPDATE_TABLES=1 trial tests.registrar.test_tables`, and read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sipd.binding import Binding
from tests.registrar.test_registrar import ALICE, Result, Rig, Said
from tests.support.cases import shows
from tests.support.stores import WaitingStore

TABLE = Path(__file__).resolve().parents[1] / "tables" / "registrar.txt"
INSTANCE = ';reg-id=1;+sip.instance="<urn:uuid:1>"'

#: What was registered before, in this order: (Call-ID, Contact with parameters), each with CSeq 5 for an hour. `a` is
#: the contact that the inputs name, c1 their Call-ID.
STATES: dict[str, tuple[tuple[str, str], ...]] = {
    "nothing": (),
    "a of this call": (("c1", "<sip:a@192.0.2.7>"),),
    "a of another call": (("c2", "<sip:a@192.0.2.7>"),),
    "a, and b of another": (("c1", "<sip:a@192.0.2.7>"), ("c2", "<sip:b@192.0.2.7>")),
    "b, and a of another": (("c1", "<sip:b@192.0.2.7>"), ("c2", "<sip:a@192.0.2.7>")),
    "a otherwise spelled": (("c1", "<sip:%61@192.0.2.7>"),),
    "a's instance at o": (("c1", f"<sip:o@192.0.2.7>{INSTANCE}"),),
    "a ran out": (("c1", "<sip:a@192.0.2.7>"),),
    "a is being stored": (("c1", "<sip:a@192.0.2.7>"),),
    "full": (("c2", "<sip:b@192.0.2.7>"), ("c2", "<sip:c@192.0.2.7>"), ("c2", "<sip:d@192.0.2.7>")),
}
#: Header lines.
INPUTS: dict[str, tuple[str, ...]] = {
    "no Contact": (),
    "no Contact, Expires 0": ("Expires: 0",),
    "a": ("Contact: <sip:a@192.0.2.7>",),
    "a, Expires 600": ("Contact: <sip:a@192.0.2.7>", "Expires: 600"),
    "a;expires=600, Expires 0": ("Contact: <sip:a@192.0.2.7>;expires=600", "Expires: 0"),
    "a;expires=0, Expires 600": ("Contact: <sip:a@192.0.2.7>;expires=0", "Expires: 600"),
    "a, Expires 0": ("Contact: <sip:a@192.0.2.7>", "Expires: 0"),
    "a;expires=59": ("Contact: <sip:a@192.0.2.7>;expires=59",),
    "a;expires=60": ("Contact: <sip:a@192.0.2.7>;expires=60",),
    "a;expires=7201": ("Contact: <sip:a@192.0.2.7>;expires=7201",),
    "a;expires=soon, Expires 600": ("Contact: <sip:a@192.0.2.7>;expires=soon", "Expires: 600"),
    "a, Expires soon": ("Contact: <sip:a@192.0.2.7>", "Expires: soon"),
    "a;q=0.1 and a;q=0.2": ("Contact: <sip:a@192.0.2.7>;q=0.1, <sip:a@192.0.2.7>;q=0.2",),
    "a of the instance": (f"Contact: <sip:a@192.0.2.7>{INSTANCE}",),
    "a and e": ("Contact: <sip:a@192.0.2.7>, <sip:e@192.0.2.7>",),
    "e and a;expires=59": ("Contact: <sip:e@192.0.2.7>, <sip:a@192.0.2.7>;expires=59",),
    "e and b;expires=0": ("Contact: <sip:e@192.0.2.7>", "Contact: <sip:b@192.0.2.7>;expires=0"),
    "*, Expires 0": ("Contact: *", "Expires: 0"),
    "*, Expires 600": ("Contact: *", "Expires: 600"),
    "*": ("Contact: *",),
    "* and a, Expires 0": ("Contact: *", "Contact: <sip:a@192.0.2.7>", "Expires: 0"),
}
#: All bindings have 5.
CSEQS = (4, 5, 6)


class Line(NamedTuple):
    """One REGISTER in one state."""

    state: str
    label: str
    cseq: int
    before: list[Binding]
    result: Result
    after: list[Binding]


class Tables(Rig):
    """The table is what the rules do, and it obeys the RFC's laws."""

    def walk(self) -> Iterator[Line]:
        """All lines."""
        for state in STATES:
            for label in INPUTS:
                for cseq in CSEQS:
                    yield self.line(state, label, cseq)

    def line(self, state: str, label: str, cseq: int) -> Line:
        """The state made anew, and the input in it."""
        store = WaitingStore()
        store.held = False
        self.start(store, min_expires=60, default_expires=3600, max_expires=7200, max_contacts=3)
        store.held = state == "a is being stored"
        self.settle = store.release  # type: ignore[method-assign]
        before: list[Binding] = []
        for call_id, contact in STATES[state]:
            self.registrar.register(self.request(f"Contact: {contact}", call_id=call_id, cseq=5), ALICE, Said())
            before = self.location.latest(ALICE)
        if state == "a ran out":
            self.clock.advance(3601)
            before = []
        result = self.register(*INPUTS[label], call_id="c1", cseq=cseq)
        store.release()
        return Line(state, label, cseq, before, result, self.location.bindings(ALICE))

    def table(self) -> str:
        """The lines as they are kept."""
        rows = []
        for line in self.walk():
            answer = str(line.result[0])
            for name, value in line.result[1]:
                if name == "Min-Expires":
                    answer += f" {name} {value}"
            after = "=" if line.after == line.before else ", ".join(map(self.written, line.after)) or "-"
            rows.append(f"{line.state:<19} | {line.label:<27} | {line.cseq} | {answer:<18} | {after}")
        return "\n".join(rows) + "\n"

    def written(self, binding: Binding) -> str:
        """A binding in few words: contact, Call-ID and CSeq, seconds left, what else is not as usual."""
        name = binding.contact.removeprefix("sip:").partition("@")[0]
        text = f"{name} {binding.call_id}/{binding.cseq} {binding.expires_at - self.wall():g}"
        if binding.q != 1000:
            text += f" q{binding.q / 1000:g}"
        return text + " instance" if binding.reg_id else text

    @shows("R3261-10.3-16", "R3261-10.3-17", "R3261-10.3-18", "R3261-10.3-19", "R3261-10.3-20", "R3261-10.3-21", "R3261-10.3-22", "R3261-10.3-24", "R3261-10.3-25", "R3261-10.3-26")
    def test_registrar(self) -> None:
        """RFC 3261 s10.3 steps 6 to 8 for one address-of-record whose contacts may be three."""
        table = self.table()
        if os.environ.get("UPDATE_TABLES"):
            TABLE.write_text(table, encoding="ascii")
        kept = TABLE.read_text(encoding="ascii").splitlines()
        for number, (was, now) in enumerate(zip(kept, table.splitlines(), strict=False), 1):
            self.assertEqual(was, now, f"{TABLE.name} line {number}")
        self.assertEqual(len(kept), len(table.splitlines()))

    @shows("R3261-10.3-01", "R3261-10.3-05", "R3261-10.3-30", "R3261-10.3-31", "R3261-8.2-01", "R3261-8.2-02")
    def test_laws(self) -> None:
        """A refusal is a 4xx and changes nothing; a 200 lists each binding there is, with the seconds it has left, and
        all that the request asked is done."""
        statuses = set()
        for line in self.walk():
            where = f"{line.state} | {line.label} | {line.cseq}"
            status, headers = line.result
            statuses.add(status)
            if status != 200:
                self.assertEqual(line.after, line.before, where)
                continue
            stored = [] if line.state == "a is being stored" and line.label.startswith("no Contact") else line.after
            listed = [value.partition(";q=")[0].partition(";reg-id")[0] for name, value in headers if name == "Contact"]
            self.assertEqual(listed, [f"<{binding.contact}>;expires={binding.expires_at - self.wall():g}"
                                      for binding in stored], where)
            left = {binding.contact[4] for binding in line.after if (binding.call_id, binding.cseq) == ("c1", line.cseq)}
            asked = {part.partition("<sip:")[2][:1] for part in ",".join(INPUTS[line.label]).split(",")
                     if "<sip:" in part and ";expires=0" not in part}
            if line.label == "a, Expires 0":
                asked = set()
            self.assertLessEqual(asked, left, where)
        self.assertEqual(statuses, {200, 400, 403, 423})
