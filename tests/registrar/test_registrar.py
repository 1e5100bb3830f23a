"""The registrar on real messages: REGISTER text in, answer out, over a memory store and over SQLite."""

from __future__ import annotations

import sys
from pathlib import Path
from queue import Queue
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sipd.answer import Answer, Headers
from sipd.flow import Flow
from sipd.interfaces import ILocationStore
from sipd.inventory import Inventory
from sipd.journal import Journal
from sipd.location.service import Location
from sipd.location.store import SqliteStore
from sipd.message.errors import MalformedMessage, Reject
from sipd.message.message import Request
from sipd.message.parser import parse
from sipd.registrar.registrar import Registrar
from sipd.registrar.rules import Limits
from tests.support.cases import shows
from tests.support.network import MemoryNetwork
from tests.support.stores import WaitingStore

ALICE = "alice@example.com"
#: 2026-11-22 12:00:00 GMT
NOON = 1795348800.0

Result = tuple[int, list[tuple[str, str]]]


class Said(Answer):
    """An answer that is looked at."""

    def __init__(self) -> None:
        self.results: list[Result] = []

    def give(self, status: int, reason: str = "", headers: Headers = ()) -> None:
        """See Answer."""
        self.results.append((status, list(headers)))


class Rig(SynchronousTestCase):
    """A registrar, its location service and a phone at 192.0.2.7:5060, in virtual time that begins at noon."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.inventory = Inventory()
        self.journal = Journal()
        self.records: list[tuple[str, dict[str, Any]]] = []
        self.journal.sinks.append(lambda kind, fields: self.records.append((kind, fields)))
        network = MemoryNetwork(self.clock)
        transports = network.transports([("udp", "192.0.2.1", 5060)])
        self.flows: list[Flow] = []
        transports.receive = lambda data, flow: self.flows.append(flow)
        network.endpoint("udp", "192.0.2.7", 5060).send(b"x", ("192.0.2.1", 5060))
        self.cseq = 0
        self.start(self.store())

    def store(self) -> ILocationStore | None:
        """The store underneath."""
        return None

    def settle(self) -> None:
        """Lets the store answer."""

    def wall(self) -> float:
        return NOON + self.clock.seconds()

    def start(self, store: ILocationStore | None, limit: int = 1000, **limits: int) -> None:
        """A location service and a registrar, anew."""
        self.location = Location(store, self.clock, self.wall, self.journal, self.inventory, limit)
        self.location.start()
        self.addCleanup(self.location.stop)
        self.registrar = Registrar(self.location, Limits(**limits), self.wall, self.journal, self.inventory)

    def request(self, *lines: str, user: str = "alice", call_id: str = "c1", cseq: int = 0) -> Request:
        """A REGISTER with these header lines more; its CSeq is higher than all before unless given."""
        self.cseq += 1
        head = (f"REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK{self.cseq}\r\n"
                f"From: <sip:{user}@example.com>;tag=f\r\nTo: <sip:{user}@example.com>\r\nCall-ID: {call_id}\r\n"
                f"CSeq: {cseq or self.cseq} REGISTER\r\n")
        text = head + "".join(f"{line}\r\n" for line in lines) + "Content-Length: 0\r\n\r\n"
        request = parse(text.encode("utf-8", "surrogateescape"))
        assert isinstance(request, Request)
        request.flow = self.flows[0]
        return request

    def register(self, *lines: str, user: str = "alice", call_id: str = "c1", cseq: int = 0) -> Result:
        """The answer to a REGISTER, which comes once; a refusal counts as an answer."""
        said = Said()
        request = self.request(*lines, user=user, call_id=call_id, cseq=cseq)
        try:
            self.registrar.register(request, f"{user}@example.com", said)
            self.settle()
        except Reject as refusal:
            said.results.append((refusal.status, list(refusal.headers)))
        except MalformedMessage as error:
            said.results.append((error.status, []))
        result, = said.results
        return result

    def contacts(self, result: Result) -> list[str]:
        """The Contact values of a 200."""
        self.assertEqual(result[0], 200)
        return [value for name, value in result[1] if name == "Contact"]

    def query(self, user: str = "alice") -> list[str]:
        """What a REGISTER without Contact tells."""
        return self.contacts(self.register(user=user))


class RegistrarTest(Rig):
    """The REG cases as far as they are the registrar's own."""

    @shows("REG-01", "10.3", "R3261-8.2.4-02", "R3261-10.3-31", "R3261-10.3-32")
    def test_one_contact(self) -> None:
        """A 200 with the contact, the granted expiry and the date; no Record-Route, no Require."""
        self.assertEqual(self.register("Contact: <sip:alice@192.0.2.7>", "Expires: 60"), (200, [
            ("Contact", "<sip:alice@192.0.2.7>;expires=60"), ("Date", "Sun, 22 Nov 2026 12:00:00 GMT")]))

    @shows("REG-02", "10.3")
    def test_two_contacts(self) -> None:
        """Both contacts are listed, on one line or two."""
        listed = self.contacts(self.register(
            "Contact: <sip:a@192.0.2.7>, <sip:b@192.0.2.7>", "Contact: <sip:c@192.0.2.7>", "Expires: 60"))
        self.assertEqual(listed, [f"<sip:{name}@192.0.2.7>;expires=60" for name in "abc"])

    @shows("REG-04", "10.2.1.1")
    def test_default(self) -> None:
        """Without any expiry the server's default is granted."""
        self.assertEqual(self.contacts(self.register("Contact: <sip:a@192.0.2.7>")), ["<sip:a@192.0.2.7>;expires=3600"])

    @shows("REG-05", "REG-06", "10.2.3")
    def test_query(self) -> None:
        """A query changes nothing, tells the seconds left, and is a 200 without Contact where there are none."""
        self.assertEqual(self.query(), [])
        self.register("Contact: <sip:a@192.0.2.7>", "Expires: 60")
        self.clock.advance(20.4)
        self.assertEqual(self.query(), ["<sip:a@192.0.2.7>;expires=40"])
        self.clock.advance(39.3)
        self.assertEqual(self.query(), ["<sip:a@192.0.2.7>;expires=1"])

    @shows("REG-14", "10.2.1.2")
    def test_q(self) -> None:
        """Each q is given back as it is now."""
        for q in (";q=0.1", ";q=0.5", ";q=0", ";q=0.125", ""):
            listed = self.contacts(self.register(f"Contact: <sip:a@192.0.2.7>{q}", "Expires: 60"))
            self.assertEqual(listed, [f"<sip:a@192.0.2.7>;expires=60{q}"])

    @shows("REG-07", "REG-08", "REG-09")
    def test_order(self) -> None:
        """A refresh sets the time anew; a CSeq that is not higher fails and leaves it."""
        self.register("Contact: <sip:a@192.0.2.7>", "Expires: 60", cseq=5)
        self.clock.advance(30)
        self.assertEqual(self.register("Contact: <sip:a@192.0.2.7>", "Expires: 600", cseq=5)[0], 400)
        self.assertEqual(self.register("Contact: <sip:a@192.0.2.7>", "Expires: 600", cseq=4)[0], 400)
        self.assertEqual(self.query(), ["<sip:a@192.0.2.7>;expires=30"])
        self.assertEqual(self.contacts(self.register("Contact: <sip:a@192.0.2.7>", "Expires: 600", cseq=6)),
                         ["<sip:a@192.0.2.7>;expires=600"])

    @shows("REG-15", "REG-16", "REG-18")
    def test_removal(self) -> None:
        """Contacts are removed one by one or together, and unknown ones without complaint."""
        self.register("Contact: <sip:a@192.0.2.7>, <sip:b@192.0.2.7>, <sip:c@192.0.2.7>")
        self.assertEqual(len(self.contacts(self.register("Contact: <sip:a@192.0.2.7>;expires=0"))), 2)
        both = "Contact: <sip:b@192.0.2.7>, <sip:c@192.0.2.7>"
        self.assertEqual(self.contacts(self.register(both, "Expires: 0")), [])
        self.assertEqual(self.contacts(self.register("Contact: <sip:z@192.0.2.7>;expires=0")), [])

    @shows("REG-19", "REG-20", "REG-21")
    def test_star(self) -> None:
        """"*" removes all with Expires 0 and a good CSeq only, and alone only."""
        self.register("Contact: <sip:a@192.0.2.7>, <sip:b@192.0.2.7>", cseq=7)
        for lines in (("Contact: *",), ("Contact: *", "Expires: 10"), ("Contact: *", "Expires: x"),
                      ("Contact: *", "Contact: <sip:c@192.0.2.7>", "Expires: 0"),
                      ("Contact: *, <sip:c@192.0.2.7>", "Expires: 0"), ("Contact: *", "Contact: *", "Expires: 0")):
            self.assertEqual(self.register(*lines, call_id="c2")[0], 400, lines)
        self.assertEqual(self.register("Contact: *", "Expires: 0", cseq=7)[0], 400)
        self.assertEqual(len(self.query()), 2)
        self.assertEqual(self.contacts(self.register("Contact: *", "Expires: 0", call_id="c2")), [])

    @shows("REG-22", "10.3")
    def test_expiry(self) -> None:
        """A minute later the binding is gone for queries and for calls, and the journal says so."""
        self.register("Contact: <sip:a@192.0.2.7>", "Expires: 60")
        self.clock.advance(60)
        self.assertEqual((self.query(), self.location.bindings(ALICE)), ([], []))
        self.clock.advance(2)
        self.settle()
        self.assertEqual([kind for kind, _ in self.records], ["registration-new", "registration-lost"])
        self.assertEqual((self.inventory.left(), self.clock.getDelayedCalls()), ({}, []))

    @shows("REG-23", "REG-24", "REG-25")
    def test_granted(self) -> None:
        """Too brief is 423 with Min-Expires; too long is shortened; what is no number is the default."""
        self.assertEqual(self.register("Contact: <sip:a@192.0.2.7>", "Expires: 59"), (423, [("Min-Expires", "60")]))
        for asked, granted in (("99999999", 7200), ("9" * 50, 7200), ("abc", 3600), ("-1", 3600)):
            self.assertEqual(self.contacts(self.register("Contact: <sip:a@192.0.2.7>", f"Expires: {asked}")),
                             [f"<sip:a@192.0.2.7>;expires={granted}"])

    @shows("REG-26")
    def test_too_many(self) -> None:
        """One contact more than the limit refuses the whole request."""
        self.assertEqual(self.register("Contact: " + ",".join(f"<sip:{n}@192.0.2.7>" for n in range(11)))[0], 403)
        self.assertEqual(self.query(), [])
        self.register("Contact: " + ",".join(f"<sip:{n}@192.0.2.7>" for n in range(10)))
        self.assertEqual(self.register("Contact: <sip:x@192.0.2.7>")[0], 403)
        self.assertEqual(len(self.query()), 10)

    @shows("REG-35")
    def test_record_route(self) -> None:
        """A Record-Route is neither kept nor repeated."""
        status, headers = self.register("Record-Route: <sip:p.example.com;lr>", "Contact: <sip:a@192.0.2.7>")
        self.assertEqual((status, [name for name, _ in headers]), (200, ["Contact", "Date"]))
        self.assertEqual(self.location.bindings(ALICE)[0].path, ())

    @shows("REG-36")
    def test_parameters(self) -> None:
        """Parameters come back on the side of the bracket on which they stood."""
        listed = self.contacts(self.register(
            "Contact: <sip:a@192.0.2.7;unknownparam>, <sip:b@192.0.2.7>;unknownparam, <sip:c@192.0.2.7?Subject=x>"))
        self.assertEqual(listed, [
            "<sip:a@192.0.2.7;unknownparam>;expires=3600", "<sip:b@192.0.2.7>;expires=3600;unknownparam",
            "<sip:c@192.0.2.7?Subject=x>;expires=3600"])

    @shows("REG-37", "3327 5.3")
    def test_path(self) -> None:
        """A Path is kept and repeated in its order; without Supported: path it is refused as the RFC recommends."""
        path = ("Path: <sip:p1.example.com;lr>, <sip:p2.example.com;lr>", "Path: <sip:p3.example.com;lr>")
        self.assertEqual(self.register(*path, "Contact: <sip:a@10.0.0.7>"), (420, [("Unsupported", "path")]))
        status, headers = self.register(*path, "Contact: <sip:a@10.0.0.7>", "Supported: gruu, Path")
        self.assertEqual([value for name, value in headers if name == "Path"],
                         [f"<sip:p{n}.example.com;lr>" for n in (1, 2, 3)])
        bound, = self.location.bindings(ALICE)
        self.assertEqual((bound.path, bound.nat), (tuple(f"<sip:p{n}.example.com;lr>" for n in (1, 2, 3)), False))
        self.assertEqual([name for name, _ in self.register()[1]], ["Contact", "Date"])

    def test_bad_path(self) -> None:
        """A Path that cannot be a route, or is endless, is malformed."""
        for path in ("<mailto:x@example.com>", "what?", ",".join(["<sip:p.example.com;lr>"] * 9),
                     "<sip:p.example.com;lr;x=" + "y" * 2100 + ">"):
            self.assertEqual(self.register(f"Path: {path}", "Supported: path", "Contact: <sip:a@192.0.2.7>")[0], 400)
        self.assertEqual(self.query(), [])

    @shows("REG-38", "5626 6")
    def test_instance(self) -> None:
        """A phone that comes back from another port under its instance and reg-id replaces itself."""
        tail = ';reg-id=1;+sip.instance="<urn:uuid:1>"'
        self.register(f"Contact: <sip:a@192.0.2.7:1111>{tail}", "Supported: outbound")
        listed = self.contacts(self.register(f"Contact: <sip:a@192.0.2.7:2222>{tail}", call_id="c2"))
        self.assertEqual(listed, [f"<sip:a@192.0.2.7:2222>;expires=3600{tail}"])
        self.assertEqual([kind for kind, _ in self.records], ["registration-new", "registration-moved"])

    @shows("REG-40")
    def test_two_users(self) -> None:
        """Two users at one address have bindings of their own."""
        self.register("Contact: <sip:x@192.0.2.7>", "Expires: 60")
        self.register("Contact: <sip:x@192.0.2.7>", "Expires: 90", user="bob")
        self.assertEqual(self.query(), ["<sip:x@192.0.2.7>;expires=60"])
        self.assertEqual(self.query("bob"), ["<sip:x@192.0.2.7>;expires=90"])

    @shows("REG-42")
    def test_bad_contact(self) -> None:
        """A contact nobody could call is refused."""
        for contact in ("<sip:x@192.0.2.7:0>", "<sip:x@192.0.2.7:70000>", "", "hello world", "<sip:x@192.0.2.7"):
            self.assertEqual(self.register(f"Contact: {contact}")[0], 400, contact)
        self.assertEqual(self.query(), [])

    def test_long_call_id(self) -> None:
        """What is kept for hours is small: an endless Call-ID is refused, an endless User-Agent cut."""
        self.assertEqual(self.register("Contact: <sip:a@192.0.2.7>", call_id="x" * 600)[0], 400)
        self.register("Contact: <sip:a@192.0.2.7>", "User-Agent: " + "y" * 500)
        self.assertEqual(self.location.bindings(ALICE)[0].user_agent, "y" * 128)

    def test_where_it_came_from(self) -> None:
        """The binding knows its source, flow and listener; common texts are shared between bindings."""
        self.register("Contact: <sip:a@10.0.0.7>", "User-Agent: phone")
        self.register("Contact: <sip:b@10.0.0.7>", "User-Agent: phone", user="bob")
        one, = self.location.bindings(ALICE)
        other, = self.location.bindings("bob@example.com")
        self.assertEqual((str(one.source), one.flow, one.listener, one.nat),
                         ("udp:192.0.2.7:5060", self.flows[0].id, "192.0.2.1:5060", True))
        self.assertIs(one.listener, other.listener)
        self.assertIs(one.user_agent, other.user_agent)

    def test_journal(self) -> None:
        """New, moved and removed are one line each, with all a person needs; a refresh is none."""
        self.register("Contact: <sip:a@192.0.2.7>", "Expires: 60")
        self.register("Contact: <sip:a@192.0.2.7>", "Expires: 60")
        self.register("Contact: <sip:a@192.0.2.7>;expires=0, <sip:b@192.0.2.7>", "Expires: 60")
        self.register("Contact: *", "Expires: 0")
        seen = {"aor": ALICE, "source": "udp:192.0.2.7:5060", "expires": 60}
        self.assertEqual(self.records, [
            ("registration-new", {"contact": "sip:a@192.0.2.7", **seen}),
            ("registration-moved", {"contact": "sip:b@192.0.2.7", "old": "sip:a@192.0.2.7", **seen}),
            ("registration-lost", {"aor": ALICE, "contact": "sip:b@192.0.2.7", "reason": "removed by the phone"})])

    def test_full(self) -> None:
        """When the table of all bindings is full, newcomers get 503 and those who are there can refresh."""
        self.start(self.store(), limit=1)
        self.register("Contact: <sip:a@192.0.2.7>")
        self.assertEqual(self.register("Contact: <sip:b@192.0.2.7>", user="bob"), (503, [("Retry-After", "60")]))
        self.assertEqual(self.register("Contact: <sip:a@192.0.2.7>")[0], 200)

    def test_bytes_that_are_not_text(self) -> None:
        """A contact that is not UTF-8 comes back byte for byte."""
        listed = self.contacts(self.register('Contact: <sip:a@192.0.2.7>;x="\udcff";expires=60'))
        self.assertEqual(listed, ['<sip:a@192.0.2.7>;expires=60;x="\udcff"'])


class WatchedTest(Rig):
    """What watchers of bindings hear, and when."""

    def test_answer_first(self) -> None:
        """The phone has its 200 before a watcher is told, who finds the binding there."""
        said = Said()
        seen: list[tuple[int, str, int]] = []
        self.location.watch(lambda aor, changes, why: seen.append(
            (len(said.results), why, len(self.location.bindings(aor)))))
        self.registrar.register(self.request("Contact: <sip:a@192.0.2.7>"), ALICE, said)
        self.settle()
        self.assertEqual(seen, [(1, "", 1)])


class WatchedOnAStoreTest(WatchedTest):
    """The same where an answer is awaited."""

    def store(self) -> ILocationStore | None:
        """A store that answers when told."""
        self.stored = WaitingStore()
        return self.stored

    def settle(self) -> None:
        """The store answers."""
        self.stored.answer()


class RegistrarOnSqliteTest(RegistrarTest):
    """The same over SQLite, whose answers are awaited."""

    def store(self) -> ILocationStore:
        """A store in a new file."""
        self.answers: Queue[Any] = Queue()
        self.path = Path(self.mktemp()).absolute()
        self.sqlite = SqliteStore(self.path, lambda call, *args: self.answers.put((call, args)), self.wall,
                                  self.inventory)
        return self.sqlite

    def settle(self) -> None:
        """Waits until nothing is queued."""
        while self.inventory.left().get("store queue"):
            call, args = self.answers.get(timeout=10)
            call(*args)

    def test_restart(self) -> None:
        """After a restart the bindings are there with the rest of their time, and the removed one is not."""
        self.register("Contact: <sip:a@192.0.2.7>;q=0.5, <sip:b@192.0.2.7>", "Expires: 60")
        self.register("Contact: <sip:b@192.0.2.7>;expires=0")
        before = self.location.bindings(ALICE)
        self.sqlite.close()
        self.clock.advance(10)
        self.start(SqliteStore(self.path, lambda call, *args: None, self.wall, Inventory()))
        self.assertEqual(self.location.bindings(ALICE), before)
        self.assertEqual(self.query(), ["<sip:a@192.0.2.7>;expires=50;q=0.5"])

    @shows("R3261-10.3-28", "R3261-10.3-29")
    def test_failed_commit(self) -> None:
        """When the disk takes no more, the answer is 500 and the bindings are what they were (s10.3)."""
        self.register("Contact: <sip:a@192.0.2.7>", "Expires: 60")
        connection = self.sqlite._connection
        assert connection is not None
        connection.execute("PRAGMA query_only = 1")
        self.assertEqual(self.register("Contact: <sip:a@192.0.2.7>;expires=0, <sip:b@192.0.2.7>"), (500, []))
        self.assertEqual(self.query(), ["<sip:a@192.0.2.7>;expires=60"])
        connection.execute("PRAGMA query_only = 0")
        self.assertEqual(len(self.contacts(self.register("Contact: <sip:b@192.0.2.7>"))), 2)
        self.assertEqual([kind for kind, _ in self.records], ["registration-new", "store-failed", "registration-new"])


class InFlightTest(Rig):
    """REGISTERs that come while the commit of an earlier one has not returned."""

    def store(self) -> ILocationStore:
        """A store that answers when told."""
        self.stored = WaitingStore()
        return self.stored

    def send(self, *lines: str, cseq: int = 0) -> list[tuple[int, list[tuple[str, str]]]]:
        """Sends a REGISTER; the list gets its answer."""
        said = Said()
        self.registrar.register(self.request(*lines, cseq=cseq), ALICE, said)
        return said.results

    @shows("REG-39", "10.3", "R3261-10.3-04")
    def test_pipelined(self) -> None:
        """A hundred REGISTERs in one go are each decided after those before them, and answered in order, once."""
        answers = [self.send(f"Contact: <sip:{n % 7}@192.0.2.7>", cseq=n + 1) for n in range(100)]
        self.assertEqual([answer for answer in answers if answer], [])
        for n in range(100):
            self.stored.answer()
            self.assertEqual([len(answer) for answer in answers], [1] * (n + 1) + [0] * (99 - n))
        self.assertEqual(len(self.contacts(answers[99][0])), 7)

    @shows("R3261-10.3-04")
    def test_order_of_what_is_not_stored_yet(self) -> None:
        """A CSeq that is not higher than that of a REGISTER on its way to the disk is refused."""
        self.send("Contact: <sip:a@192.0.2.7>", cseq=5)
        self.assertEqual(self.assertRaises(Reject, self.send, "Contact: <sip:a@192.0.2.7>", cseq=4).status, 400)

    @shows("R3261-10.3-06")
    def test_answer_lists_what_is_stored(self) -> None:
        """When the first of two fails, the 200 of the second lists its own contact alone."""
        first = self.send("Contact: <sip:a@192.0.2.7>")
        second = self.send("Contact: <sip:b@192.0.2.7>")
        self.stored.answer("disk full")
        self.stored.answer()
        self.assertEqual(first[0][0], 500)
        self.assertEqual(self.contacts(second[0]), ["<sip:b@192.0.2.7>;expires=3600"])


class CostTest(Rig):
    """How many Python functions a refresh calls."""

    def test_calls_of_a_refresh(self) -> None:
        """The most frequent REGISTER stays under a ceiling of Python-level calls here and in the location service."""
        self.journal.sinks.clear()
        self.register("Contact: <sip:a@192.0.2.7>", "Expires: 60")
        request = self.request("Contact: <sip:a@192.0.2.7>", "Expires: 60")
        calls = 0

        def count(frame: object, what: str, argument: object) -> None:
            nonlocal calls
            calls += what == "call"

        said = Said()
        before = sys.getprofile()
        sys.setprofile(count)
        try:
            self.registrar.register(request, ALICE, said)
        finally:
            sys.setprofile(before)
        self.assertEqual([status for status, _ in said.results], [200])
        # the last of them makes the binding, whose class costs the compiled build 1,300 instructions less than a tuple
        self.assertLessEqual(calls, 31)
