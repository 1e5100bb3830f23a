"""Busy lamps: the package dialog on the real core in virtual time (RFC 4235)."""

from __future__ import annotations

import re
from typing import Any

from twisted.trial.unittest import TestCase

from sipd.events import xml
from tests.events.watching import Watcher, notified, subscribe
from tests.support.cases import shows
from tests.support.rig import Phone, Rig, established

_NS = "{urn:ietf:params:xml:ns:dialog-info}"


def dialogs(body: str) -> list[tuple[str, str, str]]:
    """State, event and direction of each dialog."""
    root = xml.read(body.encode())
    return [(one.first(f"{_NS}state").text, one.first(f"{_NS}state").attributes.get("event", ""),  # type: ignore[union-attr]
             one.attributes.get("direction", "")) for one in root.children]


class LampTests(TestCase):
    """1003 watches 1002, and 1004 watches 1001."""

    def setUp(self) -> None:
        self.make()

    def make(self, **settings: Any) -> None:
        """A server, two phones that call each other, and a watcher of each."""
        self.rig = Rig(**settings)
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        self.b.register()
        self.callee = Watcher(self.rig.phone("1003"), "1002", "dialog")
        self.caller = Watcher(self.rig.phone("1004"), "1001", "dialog")
        for watcher in (self.callee, self.caller):
            body, = watcher.news()
            self.assertIn('version="0" state="full"', body)
            self.assertEqual(dialogs(body), [])
        self.rig.advance(2.0)

    def both(self) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
        """What the watchers of callee and caller were told last, after the pause that RFC 4235 s3.10 asks for."""
        self.rig.advance(1.2, 0.05)
        return dialogs(self.callee.body), dialogs(self.caller.body)

    def finish(self) -> None:
        """No lamp is lit, versions went up by one."""
        self.rig.advance(70.0)
        for watcher in (self.callee, self.caller):
            self.assertEqual([one for one in dialogs(watcher.body) if one[0] != "terminated"], [])
            numbers = [int(re.findall(r'version="(\d+)" ', one.body.decode())[0]) for one in watcher.notifies]
            self.assertEqual(numbers, list(range(len(numbers))))
            watcher.end()
        self.rig.finish()

    def test_written_once(self) -> None:
        """However many watch one user, a state is written once, and each is told it."""
        others = [Watcher(self.rig.phone(f"20{number:02}"), "1002", "dialog") for number in range(8)]
        self.rig.advance(2.0)
        written: list[str] = []
        write = xml.write

        def counted(*arguments: Any) -> str:
            written.append(write(*arguments))
            return written[-1]

        self.patch(xml, "write", counted)
        self.a.invite("1002")
        self.b.answer(self.b.take("INVITE"), 180)
        self.assertEqual(self.both(), ([("early", "", "recipient")], [("early", "", "initiator")]))
        for one in others:
            self.assertEqual(dialogs(one.body), [("early", "", "recipient")])
        # of 1002, whom eight others watch as well, and of 1001
        self.assertEqual(sum(">early<" in text for text in written), 2)
        self.b.silent()

    @shows("SUB-15", "4235 3.7.1", "R6665-5.3.2-01", "R4235-3.5-01", "R4235-3.7-01")
    def test_plain_call(self) -> None:
        """Trying, early, confirmed, terminated on either side, with direction, identities, Call-ID and tags."""
        a, b = self.a, self.b
        invite = a.invite("1002", from_='"Ann A." <sip:1001@example.com>;tag=anns')
        a.take(100)
        got = b.take("INVITE")
        b.answer(got, 100)
        self.assertEqual(self.both(), ([("trying", "", "recipient")], [("trying", "", "initiator")]))
        ringing = b.answer(got, 180)
        a.take(180)
        self.assertEqual(self.both(), ([("early", "", "recipient")], [("early", "", "initiator")]))
        for text in (f'call-id="{invite.call_id}"', f'local-tag="{ringing.to_tag}"', 'remote-tag="anns"',
                     'display="Ann A."', ">sip:1001@example.com</identity>", '<target uri="sip:1001@example.com"/>',
                     'entity="sip:1002@example.com"'):
            self.assertIn(text, self.callee.body)
        ok = b.answer(got, 200)
        a.ack(a.take(200))
        b.take("ACK")
        self.assertEqual(self.both(), ([("confirmed", "", "recipient")], [("confirmed", "", "initiator")]))
        self.rig.advance(100.0)
        a.hang_up(ok, b)
        self.assertEqual(self.both(), ([("terminated", "remote-bye", "recipient")],
                                       [("terminated", "local-bye", "initiator")]))
        self.finish()

    @shows("SUB-15", "4235 3.2", "R4235-3.7-01")
    def test_one_dialog(self) -> None:
        """A watcher may ask for one dialog by its Call-ID, in quotation marks, and the tags as the one who is watched
        has them, or for all of one INVITE."""
        ok = established(self.a, self.b)[3]
        mine, theirs = ok.to_tag, ok.from_tag
        watcher = self.rig.phone("1005")
        for params, count in ((f"to-tag={mine};from-tag={theirs}", 1), (f"to-tag={mine}", 1),
                              (f"to-tag={theirs};from-tag={mine}", 0), (f"to-tag={mine};from-tag=x", 0)):
            subscribe(watcher, "1002", f'dialog;call-id="{ok.call_id}";{params}', expires=0)
            self.assertEqual(len(dialogs(notified(watcher).body.decode())), count, params)
        subscribe(watcher, "1001", f'dialog;call-id="{ok.call_id}";to-tag={theirs}', expires=0)
        self.assertEqual(len(dialogs(notified(watcher).body.decode())), 1)
        subscribe(watcher, "1002", f'dialog;call-id="x{ok.call_id}";to-tag={mine}', expires=0)
        self.assertEqual(dialogs(notified(watcher).body.decode()), [])
        self.a.hang_up(ok, self.b)
        self.finish()

    @shows("R4235-3.7.2-01")
    def test_moved(self) -> None:
        """A party that is elsewhere after a re-INVITE is told of at once."""
        guest = self.rig.phone("guest")
        invite = guest.invite("1002", from_="<sip:guest@two.example>;tag=g")
        guest.take(100)
        ok = self.b.answer(self.b.take("INVITE"), 200)
        guest.ack(guest.take(200))
        self.b.take("ACK")
        self.both()
        self.assertIn(f'<target uri="{guest.contact}"/>', self.callee.body)
        again = guest.in_dialog("INVITE", ok, contact="<sip:guest@192.0.2.200>", cseq=invite.cseq_number + 1)
        guest.take(100)
        self.b.answer(self.b.take("INVITE"), 200)
        guest.ack(guest.take(200))
        self.b.take("ACK")
        self.assertEqual(self.both()[0], [("confirmed", "", "recipient")])
        self.assertIn('<target uri="sip:guest@192.0.2.200"/>', self.callee.body)
        guest.in_dialog("BYE", ok, cseq=again.cseq_number + 1)
        self.b.answer(self.b.take("BYE"), 200)
        guest.take(200)
        self.finish()

    @shows("R4235-4-01", "R4235-4-02", "R4235-4-03", "R4235-4-04", "R4235-4.1-01")
    def test_valid(self) -> None:
        """What is written is what the schema allows: elements, their order, attributes, and a version of 32 bits."""
        established(self.a, self.b)
        self.both()
        root = xml.read(self.caller.last.body)
        self.assertTrue(self.caller.body.startswith('<?xml version="1.0" encoding="UTF-8"?>'))
        self.assertEqual((root.name, set(root.attributes)), (f"{_NS}dialog-info", {"version", "state", "entity"}))
        self.assertLess(int(root.attributes["version"]), 2**31)
        self.assertIn(root.attributes["state"], ("full", "partial"))
        dialog, = root.children
        self.assertLessEqual(set(dialog.attributes), {"id", "call-id", "local-tag", "remote-tag", "direction"})
        self.assertEqual([child.name for child in dialog.children], [f"{_NS}{name}" for name in ("state", "local", "remote")])
        for side in dialog.children[1:]:
            self.assertEqual([child.name for child in side.children], [f"{_NS}identity", f"{_NS}target"])
            self.assertEqual(list(side.children[1].attributes), ["uri"])

    @shows("SUB-15", "3323 4.1.1.3")
    def test_anonymous(self) -> None:
        """Who calls anonymously stays so for those who watch the other side, while it rings and when it is answered; a
        call that rings can be taken all the same: at the address of the one who is watched."""
        self.a.invite("1002", "P-Preferred-Identity: <sip:1001@example.com>", "Privacy: id",
                      from_='"Anonymous" <sip:anonymous@anonymous.invalid>;tag=nobody')
        got = self.b.ring(self.a)
        self.rig.advance(2.0)
        self.assertIn('<identity display="Anonymous">sip:anonymous@anonymous.invalid</identity>'
                      '<target uri="sip:1002@example.com"/></remote>', self.callee.body)
        self.b.answer(got, 200)
        ok = self.a.take(200)
        self.a.ack(ok)
        self.b.take("ACK")
        self.rig.advance(2.0)
        self.assertIn(">confirmed<", self.callee.body)
        self.assertNotIn("sip:1001", self.callee.body)
        self.assertIn("sip:1002@example.com", self.caller.body)
        self.a.hang_up(ok, self.b)
        self.assertEqual(self.both()[0], [("terminated", "remote-bye", "recipient")])
        self.finish()

    @shows("SUB-15", "4235 3.10")
    def test_quick_call(self) -> None:
        """A call that is over within a second is told nevertheless, each state of it."""
        for _ in range(2):
            self.a.invite("1002")
            self.rig.advance(0.05)
            got = self.b.take("INVITE")
            self.b.answer(got, 180)
            self.rig.advance(0.05)
            ok = self.b.answer(got, 200)
            self.rig.advance(0.05)
            for status in (100, 180, 200):
                answer = self.a.take(status)
            self.a.ack(answer)
            self.b.take("ACK")
            self.a.hang_up(ok, self.b)
            self.rig.advance(0.05)
            for watcher in (self.callee, self.caller):
                self.assertEqual([dialogs(body)[0][0] for body in watcher.news()],
                                 ["trying", "early", "confirmed", "terminated"])
            self.rig.advance(10.0)
        self.finish()

    @shows("SUB-15", "4235 3.7.1")
    def test_cancelled(self) -> None:
        """A caller who gives up: terminated, cancelled."""
        invite = self.a.invite("1002")
        got = self.b.ring(self.a)
        self.both()
        self.a.cancel(invite)
        self.a.take(200)
        self.b.cancelled(got)
        self.a.ack(self.a.take(487), invite)
        self.assertEqual(self.both()[0], [("terminated", "cancelled", "recipient")])
        self.finish()

    @shows("SUB-15", "4235 3.7.1")
    def test_refused(self) -> None:
        """A callee who is busy: terminated, rejected, with the code."""
        invite = self.a.invite("1002")
        self.a.take(100)
        self.b.answer(self.b.take("INVITE"), 180)
        self.a.take(180)
        self.both()
        self.b.answer(self.b_invite(), 486)
        self.b.take("ACK")
        self.a.ack(self.a.take(486), invite)
        self.assertEqual(self.both()[0], [("terminated", "rejected", "recipient")])
        self.assertIn('<state event="rejected" code="486">terminated</state>', self.callee.body)
        self.finish()

    def b_invite(self) -> Any:
        """The INVITE that rings."""
        from sipd.message.parser import parse

        return next(message for message in map(parse, self.b.raw) if getattr(message, "method", "") == "INVITE")

    @shows("SUB-15", "4235 3.7.1", "R4235-4.1.1-01")
    def test_forked(self) -> None:
        """Three phones ring, one answers: who watches the user sees early and then one confirmed dialog; other users'
        halves of a fork end when they are cancelled."""
        second: Phone = self.rig.phone("1002")
        second.register()
        self.a.invite("1002")
        self.a.take(100)
        gots = [(phone, phone.take("INVITE")) for phone in (self.b, second)]
        for phone, got in gots:
            phone.answer(got, 180)
            self.a.take(180)
        self.assertEqual({one[0] for one in self.both()[0]}, {"early"})
        self.assertEqual(len(dialogs(self.callee.body)), 2)
        ok = second.answer(gots[1][1], 200)
        self.a.ack(self.a.take(200))
        second.take("ACK")
        self.b.answer(self.b.take("CANCEL"), 200)
        self.b.answer(gots[0][1], 487)
        self.b.take("ACK")
        told = self.both()[0]
        self.assertEqual([one for one in told if one[0] != "terminated"], [("confirmed", "", "recipient")])
        for watcher in (self.callee, self.caller):
            # RFC 4235 s4.1.1: an id means one dialog, whatever becomes of the others
            ids: dict[str, set[tuple[str, ...]]] = {}
            for notify in watcher.notifies:
                for one in xml.read(notify.body).children:
                    tags = tuple(one.attributes.get(f"{side}-tag", "") for side in ("local", "remote"))
                    if all(tags):
                        ids.setdefault(one.attributes["id"], set()).add(tags)
            self.assertEqual([len(tags) for tags in ids.values()], [1, 1])
        self.a.hang_up(ok, second)
        self.finish()

    @shows("SUB-15", "4235 3.7.1")
    def test_half_a_fork_refused(self) -> None:
        """Of several phones that are called two refuse, with and without having rung: their dialogs end rejected, each
        with its own code, while the third rings on, which is cancelled with the call."""
        self.make(numbers={"700": ["1002", "1005"]})
        second, third = self.rig.phone("1002"), self.rig.phone("1005")
        for phone in (second, third):
            phone.register()
        other = Watcher(self.rig.phone("1003"), "1005", "dialog")
        self.rig.advance(2.0)
        invite = self.a.invite("700")
        self.a.take(100)
        gots = [phone.take("INVITE") for phone in (self.b, second, third)]
        for phone, got in zip((self.b, second), gots, strict=False):
            phone.answer(got, 180)
            self.a.take(180)
        third.answer(gots[2], 100)
        self.both()
        self.assertEqual(dialogs(other.body), [("trying", "", "recipient")])
        third.answer(gots[2], 480)
        third.take("ACK")
        self.b.answer(gots[0], 486)
        self.b.take("ACK")
        for side, watcher in zip(self.both(), (self.callee, self.caller), strict=True):
            self.assertEqual({one[:2] for one in side}, {("early", ""), ("terminated", "rejected")})
            self.assertIn('<state event="rejected" code="486">terminated</state>', watcher.body)
        self.assertIn('<state event="rejected" code="480">terminated</state>', other.body)
        self.a.cancel(invite)
        self.a.take(200)
        second.answer(second.take("CANCEL"), 200)
        second.answer(gots[1], 487)
        second.take("ACK")
        self.a.ack(self.a.take(487), invite)
        self.assertEqual(self.both()[0], [("terminated", "cancelled", "recipient")])
        other.end()
        self.finish()

    @shows("SUB-15", "4235 3.7.1")
    def test_gone(self) -> None:
        """A request within the dialog that is answered 481 ends it with the event error, one that nobody answers with
        timeout."""
        for answered, event in ((True, "error"), (False, "timeout")):
            self.make()
            ok = established(self.a, self.b)[3]
            self.both()
            self.a.in_dialog("INFO", ok)
            if answered:
                self.b.answer(self.b.take("INFO"), 481)
                self.a.take(481)
            else:
                self.rig.advance(40.0)
            self.assertEqual(self.both(), ([("terminated", event, "recipient")], [("terminated", event, "initiator")]))
            self.a.drain()
            self.b.drain()
            self.finish()

    @shows("SUB-15", "4235 3.7.1")
    def test_lost_bye(self) -> None:
        """A callee that died: the BYE that nobody answers ends the call, and the lamp with it."""
        ok = established(self.a, self.b)[3]
        self.both()
        self.rig.network.drop = lambda packet: packet.target == (self.b.address, 5060)
        self.a.in_dialog("BYE", ok)
        self.rig.advance(40.0)
        self.rig.network.drop = None
        self.a.drain()
        self.b.drain()
        self.assertEqual({one[0] for side in self.both() for one in side}, {"terminated"})
        self.finish()

    @shows("SUB-15", "4235 3.7.2")
    def test_part(self) -> None:
        """A watcher who may not know with whom sees one dialog and its state, and nothing else."""
        self.make(events={"callers": False})
        ok = established(self.a, self.b)[3]
        self.assertEqual(self.both(), ([("confirmed", "", "")], [("confirmed", "", "")]))
        for text in ("1001", "call-id", "tag"):
            self.assertNotIn(text, self.callee.body)
        self.a.hang_up(ok, self.b)
        self.assertEqual(self.both()[0][0][0], "terminated")
        self.finish()

    @shows("SUB-15")
    def test_without_ringing(self) -> None:
        """`notify_ringing = false`: a phone that rings is no news, one that talks is."""
        self.make(events={"notify_ringing": False})
        invite = self.a.invite("1002")
        got = self.b.ring(self.a)
        self.assertEqual(self.both()[0], [])
        ok = self.b.answer(got, 200)
        self.a.ack(self.a.take(200))
        self.b.take("ACK")
        self.assertEqual(self.both()[0], [("confirmed", "", "recipient")])
        self.a.hang_up(ok, self.b)
        self.assertEqual(invite.call_id, ok.call_id)
        self.finish()

    @shows("SUB-15", "3856 3", "R3863-4.1.6-01")
    def test_presence(self) -> None:
        """Presence follows calls too, where nobody publishes."""
        watcher = Watcher(self.rig.phone("1005"), "1002")
        self.assertIn('<note xml:lang="en">Ready<', watcher.body)
        self.rig.advance(6.0)
        ok = established(self.a, self.b)[3]
        self.rig.advance(6.0)
        self.assertIn('<note xml:lang="en">On the phone<', watcher.body)
        self.assertIn("<rpid:on-the-phone/>", watcher.body)
        self.a.hang_up(ok, self.b)
        self.rig.advance(6.0)
        self.assertIn('<note xml:lang="en">Ready<', watcher.body)
        watcher.end()
        self.finish()
