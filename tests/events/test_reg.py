"""The package reg on the real core in virtual time (RFC 3680)."""

from __future__ import annotations

import re

from twisted.trial.unittest import TestCase

from sipd.events import xml
from tests.events.watching import Watcher, notified, subscribe
from tests.support.cases import shows
from tests.support.rig import Rig

_NS = "{urn:ietf:params:xml:ns:reginfo}"


def contacts(body: str) -> list[tuple[str, str, str]]:
    """State, event and URI of each contact."""
    root = xml.read(body.encode())
    return [(one.attributes["state"], one.attributes["event"], one.children[0].text)
            for one in root.walk() if one.name == f"{_NS}contact"]


class RegTests(TestCase):
    """1001 watches its own registrations."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.a = self.rig.phone("1001")
        self.watcher = Watcher(self.rig.phone("1001"), "1001", "reg")

    @shows("R3680-4.5-01", "R3680-4.7.1-01", "R3680-4.7.2-01", "R3680-5.1-03", "R3680-5.1-04", "R3680-5.1-05")
    @shows("R3680-5.1-06", "R3680-5.1-07", "R3680-5.1-10", "R3680-5.1-11", "R3680-5.1-12", "R3680-5.1-13")
    @shows("SUB-23", "3680 5.1", "R6665-5.3.2-01")
    def test_life(self) -> None:
        """Empty and full at first; then what has changed alone: registered, refreshed, expired, unregistered; versions go
        up by one; ids stay."""
        first, = self.watcher.news()
        self.assertIn('version="0" state="full"', first)
        self.assertIn('state="init"', first)
        self.assertEqual(contacts(first), [])
        self.rig.advance(6.0)
        self.a.register(contact=f'<{self.a.contact}>;q=0.5;+sip.instance="<urn:uuid:1>"', expires=60)
        created, = self.watcher.news()
        self.assertIn('version="1" state="partial"', created)
        self.assertEqual(contacts(created), [("active", "registered", self.a.contact)])
        for text in ('q="0.5"', 'expires="60"', '<unknown-param name="+sip.instance">&lt;urn:uuid:1&gt;</unknown-param>',
                     'cseq="1"', 'state="active"'):
            self.assertIn(text, created)
        self.rig.advance(6.0)
        other = self.rig.phone("1001")
        other.register(expires=600)
        self.a.register(contact=f'<{self.a.contact}>;q=0.5;+sip.instance="<urn:uuid:1>"', expires=60)
        self.rig.advance(6.0)
        changed = self.watcher.news()
        self.assertEqual(sorted(one for body in changed for one in contacts(body)),
                         sorted([("active", "registered", other.contact), ("active", "refreshed", self.a.contact)]))
        self.rig.advance(70.0)
        expired, = self.watcher.news()
        self.assertEqual(contacts(expired), [("terminated", "expired", self.a.contact)])
        other.register(expires=0)
        gone, = self.watcher.news()
        self.assertEqual(contacts(gone), [("terminated", "unregistered", other.contact)])
        self.assertIn('state="terminated"><contact', gone)
        self.rig.advance(20.0)
        self.assertEqual(self.watcher.news(), [])  # that it is init again is no news
        self.assertIn(f'<registration aor="sip:1001@example.com" id="{re.findall(r"id=.(r[0-9a-f]+)", first)[0]}"', gone)
        bodies = [one.body.decode() for one in self.watcher.notifies]
        self.assertEqual([int(re.findall(r'version="(\d+)" ', body)[0]) for body in bodies], list(range(len(bodies))))
        self.watcher.end()
        self.rig.finish()

    @shows("R3680-4.7.2-02", "R3680-5.1-01", "R3680-5.1-02", "R3680-5.1-08", "R3680-5.1-09", "R3680-5.1-12")
    @shows("SUB-23", "3680 4.7.2")
    def test_look(self) -> None:
        """A look is told all contacts there are; what is written is what the schema allows; another user's registration
        has another id."""
        other = self.rig.phone("1001")
        for phone in (self.a, other):
            phone.register(contact=f'<{phone.contact}>;+sip.instance="<urn:uuid:{phone.address}>";x')
        b = self.rig.phone("1002")
        b.register()
        bodies = []
        for phone in (self.a, b):
            subscribe(phone, phone.name, "reg", expires=0)
            bodies.append(notified(phone).body.decode())
        self.assertEqual({one[2] for one in contacts(bodies[0])}, {self.a.contact, other.contact})
        self.assertEqual([one[2] for one in contacts(bodies[1])], [b.contact])
        self.assertEqual(len({re.findall(r'id="(r[0-9a-f]+)"', body)[0] for body in bodies}), 2)
        self.assertEqual(len(set(re.findall(r'id="(c[0-9a-f]+)"', "".join(bodies)))), 3)
        root = xml.read(bodies[0].encode())
        self.assertEqual((root.name, root.attributes), (f"{_NS}reginfo", {"version": "0", "state": "full"}))
        registration, = root.children
        self.assertEqual(set(registration.attributes), {"aor", "id", "state"})
        for contact in registration.children:
            self.assertEqual(set(contact.attributes), {"id", "state", "event", "duration-registered", "expires", "q",
                                                       "callid", "cseq"})
            self.assertEqual([child.name[len(_NS):] for child in contact.children],
                             ["uri", "unknown-param", "unknown-param"])
        for phone in (self.a, other, b):
            phone.register(expires=0)
        self.rig.advance(6.0)
        self.watcher.end()
        self.rig.finish()

    @shows("SUB-23", "3680 5.1", "R3680-5.1-10", "R3680-5.1-14")
    def test_same_id(self) -> None:
        """A contact keeps its id when the phone says something else of itself; another contact has another."""
        ids: list[str] = []
        for params in ("", ";q=0.5", ';methods="INVITE,BYE"'):
            self.rig.advance(6.0)
            self.a.register(contact=f"<{self.a.contact}>{params}")
            ids += re.findall(r'<contact id="(c[0-9a-f]+)" state="active"', self.watcher.news()[-1])
        self.assertEqual((len(ids), len(set(ids))), (3, 1))
        other = self.rig.phone("1001")
        other.register()
        self.rig.advance(6.0)
        self.assertNotIn(ids[0], self.watcher.news()[-1])
        for phone in (self.a, other):
            phone.register(expires=0)
        self.rig.advance(6.0)
        self.watcher.end()
        self.rig.finish()

    @shows("SUB-23", "3680 5.2")
    def test_lost(self) -> None:
        """After a document that was lost the whole state comes, with a higher version; so it does with a refresh."""
        self.watcher.news()
        self.rig.advance(6.0)
        self.watcher.status = 500
        self.a.register()
        self.rig.advance(1.0)
        self.watcher.status = 200
        self.rig.advance(6.0)
        again = self.watcher.news()[-1]
        self.assertIn('version="2" state="full"', again)
        self.assertEqual(contacts(again), [("active", "registered", self.a.contact)])
        self.a.register(expires=0)
        self.rig.advance(6.0)
        self.watcher.end()
        self.rig.finish()

    @shows("SUB-23", "SUB-13", "R3680-4.6-01", "R3680-7-01")
    def test_private(self) -> None:
        """Registrations are one's own."""
        subscribe(self.rig.phone("1002"), "1001", "reg", status=403)
        self.watcher.end()
        self.rig.finish()
