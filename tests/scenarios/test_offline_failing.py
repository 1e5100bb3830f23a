"""Stored messages whose delivery fails: phones that refuse, are silent or gone, crashes, time that is over (RFC 3428)."""

from __future__ import annotations

from tests.scenarios.test_offline import OfflineTestCase, text
from tests.scenarios.test_qualify import asking_rig, end
from tests.support.cases import shows
from tests.support.rig import Rig


class Failing(OfflineTestCase):
    """What becomes of a message that a phone does not take."""

    def offered(self, status: int, *lines: str) -> None:
        """The next MESSAGE is answered with this."""
        self.rig.advance(0.1)
        self.b.answer(self.b.take("MESSAGE"), status, *lines)
        self.rig.advance(0.1)

    def ended(self) -> list[str]:
        """Why messages were not delivered."""
        return [fields["reason"] for kind, fields in self.rig.records if kind == "message-lost"]

    def test_never(self) -> None:
        """What says that the request will never do drops it: the next one comes at once (RFC 3261 s21.4)."""
        for status in (400, 403, 405, 415, 488, 493, 499, 501, 513, 603):
            self.send(str(status).encode())
        self.b.register()
        for status in (400, 403, 405, 415, 488, 493, 499, 501, 513, 603):
            self.offered(status)
        self.assertEqual(self.ended(), ["refused by its phone"] * 9 + ["declined: 603 Reason"])
        self.b.register()
        self.rig.finish()

    def test_later(self) -> None:
        """What passes is tried again after a minute, then after two, in the same order, with the same Call-ID, From tag
        and CSeq in another transaction."""
        self.send(b"one")
        self.send(b"two")
        self.b.register()
        seen = []
        for wait in (1.0, 75.0, 150.0):
            self.until(wait)
            seen.append(self.b.unread[-1])
            self.offered(500)
        self.assertEqual([one.body for one in seen], [b"one"] * 3)
        self.assertEqual(len({(one.call_id, one.first["from"], one.first["cseq"]) for one in seen}), 1)
        self.assertEqual(len({one.via.branch for one in seen if one.via is not None}), 3)
        self.until(300.0)
        self.assertEqual([self.got().body, self.got().body], [b"one", b"two"])
        self.rig.finish()

    def test_retry_after(self) -> None:
        """A phone that says when gets it not before (s20.33)."""
        self.send()
        self.b.register()
        self.offered(480, "Retry-After: 600")
        self.rig.advance(590.0)
        self.b.silent()
        self.until(20.0)
        self.got()
        self.rig.finish()

    def test_next_registration(self) -> None:
        """A phone that comes anew gets it at once; a refresh is no reason to try within half a minute."""
        self.send()
        self.b.register(call_id="r", cseq=1)
        self.offered(503)
        self.b.register(call_id="r", cseq=2)
        self.rig.advance(5.0)
        self.b.silent()
        self.rig.advance(30.0)
        self.b.register(call_id="r", cseq=3)
        self.offered(480)
        self.b.register(call_id="anew")
        self.got()
        self.rig.finish()

    def test_silent_phone(self) -> None:
        """A phone that says nothing is asked for 32 s; then it waits for the next time, which repeats the transaction,
        so that a phone whose answer was lost can tell."""
        self.send()
        self.b.register()
        self.rig.advance(33.0)
        first = self.b.take("MESSAGE")
        self.assertEqual(len(self.b.take_all("MESSAGE")), 9)
        self.until(75.0)
        again = self.b.take("MESSAGE")
        assert first.via is not None and again.via is not None
        self.assertEqual((first.via.branch, first.call_id, first.first["from"], first.first["cseq"]),
                         (again.via.branch, again.call_id, again.first["from"], again.first["cseq"]))
        self.b.answer(again, 200)
        self.rig.finish()

    def test_merged(self) -> None:
        """482 from a phone that may have got it already says that it has (s8.2.2.2)."""
        self.send()
        self.b.register()
        self.rig.advance(33.0)
        self.b.drain()
        self.until(75.0)
        self.offered(482)
        self.assertEqual(self.kinds(), ["message-stored", "message-delivered"])
        self.rig.finish()

    def test_merged_unseen(self) -> None:
        """482 from a phone that cannot have got it yet speaks of something else: it is tried again."""
        self.send()
        self.b.register()
        self.offered(482)
        self.until(75.0)
        self.got()
        self.rig.finish()

    def test_moves_while_it_is_asked(self) -> None:
        """A silent phone that registers from elsewhere gets it there at once."""
        self.send()
        self.b.register(call_id="r", cseq=1)
        self.rig.advance(3.0)
        old = self.b.contact
        self.b.drain()
        new = self.rig.phone("1002")
        new.request("REGISTER", "sip:example.com", f"Contact: <{old}>;expires=0", call_id="r", cseq=2,
                    contact=f"<{new.contact}>", to=f"<{new.aor}>")
        new.take(200)
        self.got(phone=new)
        self.rig.advance(40.0)
        self.b.silent()
        self.rig.finish()

    @shows("R3428-7-06", "R3428-7-08")
    def test_expires(self) -> None:
        """A message whose own Expires is over is not delivered any more, counted from its Date where it has one (s7)."""
        self.send(b"short", "Expires: 30")
        self.send(b"sent a while ago", "Expires: 600", "Date: Fri, 15 Jan 2027 07:55:00 GMT")
        self.send(b"long", "Expires: 3600")
        text(self.a, "1002", b"over", "Expires: 100", "Date: Fri, 15 Jan 2027 07:55:00 GMT")
        self.a.take(480)
        self.rig.advance(310.0, 5.0)
        self.assertEqual(self.ended(), ["expired", "expired"])
        self.b.register()
        self.assertEqual(self.got().body, b"long")
        self.rig.finish()

    def test_just_expired(self) -> None:
        """Also when nobody has looked yet since it was over: the clock on the wall has been set forward."""
        self.send(b"short", "Expires: 30")
        wall = self.rig.wall
        self.rig.core.messages.boxes._wall = lambda: wall() + 100.0
        self.b.register()
        self.rig.advance(1.0)
        self.b.silent()
        self.assertEqual(self.ended(), ["expired"])
        self.rig.finish()

    def test_several_phones(self) -> None:
        """The phone that registers first gets what waits, the others do not. Where the only one that is registered
        refuses for good that is the end, though another was there before."""
        other = self.rig.phone("1002")
        self.send(b"one")
        self.b.register()
        self.assertEqual(self.got().body, b"one")
        other.register(call_id="other")
        self.rig.advance(1.0)
        other.silent()
        self.b.register("Expires: 0", expires=None, call_id="b", contact="*", cseq=9)
        self.send(b"two")
        self.b.register(call_id="b", cseq=10)
        self.offered(415)
        other.silent()
        self.assertEqual(self.ended(), ["refused by its phone"])
        self.rig.finish()

    def test_refused_by_one_of_two(self) -> None:
        """A phone that knows no MESSAGE does not keep the other one from getting it, now or later."""
        other = self.rig.phone("1002")
        for phone in (self.b, other):
            phone.register(call_id=phone.address)
        text(self.a, "1002", b"x")
        for phone in (self.b, other):
            phone.answer(phone.take("MESSAGE"), 480)
        self.a.take(202)
        for _ in range(400):
            if self.b.unread or other.unread:
                break
            self.rig.advance(0.2)
        first = self.b if self.b.unread else other
        second = other if first is self.b else self.b
        first.answer(first.take("MESSAGE"), 405)
        self.rig.advance(0.1)
        second.answer(second.take("MESSAGE"), 486)
        self.until(150.0, second)
        first.silent()
        self.got(phone=second)
        self.assertEqual(self.ended(), [])
        self.rig.finish()


class Relayed(OfflineTestCase):
    """A message to somebody who is registered and cannot be reached."""

    @shows("NIT-02", "3428 7")
    def test_unreached(self) -> None:
        """480, 430 and 503 of all phones, or a connection that is gone: stored, tried again after a while."""
        self.b.register()
        for status in (480, 430, 503):
            text(self.a, "1002", str(status).encode())
            self.b.answer(self.b.take("MESSAGE"), status)
            self.rig.advance(0.1)
            self.a.take(202)
        tls = self.rig.phone("1003", transport="tls")
        tls.register()
        assert tls.connection is not None
        tls.connection.close()
        self.rig.advance(1.0)
        text(self.a, "1003", b"gone")
        self.rig.advance(12.0)
        self.a.take(202)
        self.until(75.0)
        self.assertEqual([self.got().body for _ in range(3)], [b"480", b"430", b"503"])
        again = self.rig.phone("1003", transport="tls")
        again.register(call_id="again")
        self.assertEqual(self.got(phone=again).body, b"gone")
        self.rig.finish()

    @shows("NIT-02", "3428 7")
    def test_in_reach_again(self) -> None:
        """A phone that was out of reach for long, and answers questions again, gets what waits at once, not after the
        pause that has grown meanwhile."""
        self.rig, (self.b,) = asking_rig("1002", messages={"store_offline": True, **self.settings})
        self.a = self.rig.phone("1001")
        text(self.a, "1002", b"waits")
        self.rig.advance(9.0)
        self.a.take(100)
        self.a.take(202)
        self.rig.advance(900.0)
        while self.rig.core.messages.rows()[0]["state"] != "waiting":
            self.rig.advance(1.0)
        self.b.drain()
        while not self.b.unread:
            self.rig.advance(0.1)
        self.b.answer(self.b.take("OPTIONS"), 200)
        self.assertEqual(self.got().body, b"waits")
        end(self.rig)

    @shows("NIT-02", "3428 7")
    def test_comes_back(self) -> None:
        """A phone that could not take a message a moment ago, leaves, and registers again from the same place gets it at
        once; a refresh alone is no reason to ask it again so soon."""
        self.b.register(call_id="phone", cseq=1)
        text(self.a, "1002", b"again")
        self.b.answer(self.b.take("MESSAGE"), 480)
        self.rig.advance(1.0)
        self.a.take(202)
        self.b.register(call_id="phone", cseq=2)
        self.rig.advance(1.0)
        self.b.silent()
        self.b.register(call_id="phone", cseq=3, expires=0)
        self.rig.advance(1.0)
        self.b.register(call_id="phone", cseq=4)
        self.assertEqual(self.got().body, b"again")
        self.rig.finish()

    def test_silent(self) -> None:
        """A phone that says nothing for eight seconds: the sender has a 202 while it may still listen, and the message
        comes again when the relayed one is over."""
        self.b.register()
        sent = text(self.a, "1002")
        self.rig.advance(7.5)
        self.a.take(100)
        self.a.silent()
        self.rig.advance(1.0)
        self.a.take(202)
        self.rig.advance(25.0)
        self.b.drain()
        self.until(60.0)
        got = self.got()
        self.assertEqual((got.call_id, got.first["from"], got.cseq), (sent.call_id, sent.first["from"], sent.cseq))
        self.rig.finish()
        self.assertEqual(self.kinds(), ["message-stored", "message-delivered"])

    def test_late(self) -> None:
        """A phone that answers after the sender had its 202 has it: it is not sent again, and the sender hears once."""
        self.b.register()
        text(self.a, "1002")
        self.rig.advance(9.0)
        self.a.take(100)
        self.a.take(202)
        message = self.b.drain()[0]
        self.rig.advance(5.0)
        self.b.drain()
        self.b.answer(message, 200)  # type: ignore[arg-type]
        self.rig.advance(300.0)
        self.b.register(call_id="again")
        self.rig.finish()

    def test_refused(self) -> None:
        """What a phone says for good is for the sender, also beside one that is not there."""
        other = self.rig.phone("1002")
        self.b.register()
        other.register()
        text(self.a, "1002")
        self.b.answer(self.b.take("MESSAGE"), 415)
        other.answer(other.take("MESSAGE"), 480)
        self.a.take(415)
        self.rig.finish()


class Crashes(OfflineTestCase):
    """The server ends at any moment, and another one begins over what is on its disk."""

    def again(self) -> None:
        """Another server over the same store, with the same phones."""
        bindings = list(self.rig.core.location.everything())
        self.rig = Rig(kept=self.kept, messages={"store_offline": True})
        self.a, self.b = self.rig.phone("1001", "192.0.2.10"), self.rig.phone("1002", "192.0.2.11")
        for binding in bindings:
            self.rig.core.location.change(binding.aor, [("put", binding)], lambda reason: None)

    @shows("NIT-02", "3428 7")
    def test_between_store_and_delivery(self) -> None:
        """What was acknowledged is there after the crash, in its order."""
        for body in (b"one", b"two"):
            self.send(body)
        self.again()
        self.b.register()
        self.assertEqual([self.got().body, self.got().body], [b"one", b"two"])
        self.rig.finish()

    @shows("NIT-02", "8.2.2.2", "3428 7")
    def test_between_delivery_and_delete(self) -> None:
        """A phone that got it just before the crash gets the same request again: Call-ID, From tag, CSeq and branch are
        those it had, so that the phone can tell; after its answer it is gone."""
        self.b = self.rig.phone("1002", "192.0.2.11")
        self.send()
        self.b.register()
        self.rig.advance(0.1)
        first = self.b.take("MESSAGE")
        self.again()
        self.b.register(call_id="anew")
        again = self.got()
        assert first.via is not None and again.via is not None
        for name in ("call-id", "from", "to", "cseq", "date"):
            self.assertEqual(first.get(name), again.get(name))
        self.assertEqual(first.via.branch, again.via.branch)
        self.assertEqual(first.body, again.body)
        self.assertEqual(self.kept.load(), [("last", "number", "1")])
        self.rig.finish()

    def test_registered_before(self) -> None:
        """Those whose registration survived the crash get it when the server is back, without a REGISTER."""
        self.send()
        self.rig.binding("1002", "sip:1002@192.0.2.11:5060")
        self.rig.core.messages.hang_up()
        self.again()
        self.rig.core.messages.start()
        self.got()
        self.rig.finish()


class Told(OfflineTestCase):
    """notify_sender."""

    settings = {"notify_sender": True, "max_age": 60}

    @shows("R3428-4-01", "R3428-4-02", "R3428-4-03", "R3428-7-08", "R3428-8-02")
    def test_sender_is_told(self) -> None:
        """The sender hears by a message of the server's own what was not delivered and why."""
        self.send()
        self.rig.advance(70.0, 1.0)
        self.a.register()
        got = self.got(phone=self.a)
        self.assertEqual(got.body.decode(), "Your message of Fri, 15 Jan 2027 08:00:00 GMT to 1002@example.com was not "
                                            "delivered: expired.")
        self.assertIn("<sip:example.com>;tag=", got.first["from"])
        self.assertEqual((got.first["to"], got.first["content-type"]),
                         ("<sip:1001@example.com>", "text/plain;charset=UTF-8"))
        self.assertNotIn("contact", got.first)
        self.assertTrue(got.first["date"].endswith(" GMT"))
        self.assertLess(len(got.encode()), 1300)
        self.rig.finish()

    def test_no_loop(self) -> None:
        """Nobody is told about what told somebody, and nobody elsewhere is told anything."""
        self.send()
        text(self.a, "1002", from_="<sip:x@elsewhere.example>;tag=1")
        self.a.take(202)
        self.rig.advance(70.0, 1.0)
        self.assertEqual(len(self.rig.core.messages.boxes.messages), 1)
        self.rig.advance(70.0, 1.0)
        self.assertEqual(len(self.rig.core.messages.boxes.messages), 0)
        self.assertEqual(self.kinds().count("message-lost"), 3)
        self.rig.finish()

    def test_at_once(self) -> None:
        """A sender who is there hears at once."""
        self.a.register()
        self.send()
        self.b.register()
        self.rig.advance(0.1)
        self.b.answer(self.b.take("MESSAGE"), 415)
        self.rig.advance(0.1)
        self.assertIn(b"refused by its phone", self.got(phone=self.a).body)
        self.rig.finish()
