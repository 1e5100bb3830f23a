"""Within the dialogs that a trunk is a party of: its challenges, reliable provisional responses, restarts, forks."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from sipd.message.address import Address
from sipd.message.message import Request, Response
from tests.scenarios.test_dress_calls import called
from tests.support.cases import shows
from tests.support.rig import Phone, Rig
from tests.support.trunks import CARRIER, OTHER, ToTrunks, asks, challenged, over, proved, trunk_rig


def again(rig: Rig, carrier: Phone, *phones: Phone, after: float = 5.0) -> Rig:
    """The server dies and starts again, with the same secret and configuration; the phones stay where they are."""
    rig.core.trunks.wardrobe.dialogs.clear()
    rig.advance(after)
    sections = {name: getattr(rig.config, name) for name in ("auth", "server", "users", "peers")}
    sections = {name: {key: one.model_dump(exclude_unset=True, by_alias=True) for key, one in value.items()}
                if isinstance(value, dict) else value.model_dump(exclude_unset=True) for name, value in sections.items()}
    for peer in sections["peers"].values():
        peer["password"] = "pass"
    for name in sections["users"]:
        sections["users"][name] = f"secret{name[-1]}"
    fresh = Rig(clock=rig.clock, **sections)
    fresh.core.call_out(fresh.config)
    fresh.core.route.router = ToTrunks(fresh, [["carrier"]])
    for phone in (carrier, *phones):
        phone.rig = fresh
        phone.endpoint = fresh.network.endpoint("udp", phone.address, phone.port)
        phone._read = 0
        fresh.phones.append(phone)
    return fresh


class Dialogs(TestCase):
    """A call over one trunk."""

    @shows("OUT-14", "12.2.1.1")
    def test_challenged_again(self) -> None:
        """Each request of the caller may be challenged in its turn: the shift grows with each, and holds for all that
        comes after; ACK and RAck go with the INVITE that they are about."""
        rig, caller, carrier = trunk_rig()
        _, _, sent, ok = called(caller, carrier)  # 10 is 11
        caller.in_dialog("INVITE", ok, cseq=11, contact=f"<{caller.contact}>")
        caller.take(100)
        first, got = challenged(carrier, "INVITE", asks("n2", more=", stale=true"))
        self.assertEqual((first.cseq_number, got.cseq_number), (12, 13))
        carrier.answer(got, 200)
        again_ok = caller.take(200)
        self.assertEqual(again_ok.cseq_number, 11)
        caller.ack(again_ok)
        self.assertEqual(carrier.take("ACK").cseq_number, 13)
        for number, method in ((12, "UPDATE"), (13, "INFO"), (14, "REFER")):
            caller.in_dialog(method, ok, cseq=number)
            first, got = challenged(carrier, method, asks(f"n{method}", more=", stale=true"))
            self.assertEqual((first.cseq_number, got.cseq_number), (2 * number - 10, 2 * number - 9))
            carrier.answer(got, 200)
            answer = caller.take(200)
            self.assertEqual(answer.first["cseq"], f"{number} {method}")
        caller.ack(ok)  # s13.3.1.4: the ACK of the first INVITE, again
        self.assertEqual(carrier.take("ACK").cseq_number, 11)
        # s12.2.1.1: what the carrier says of the REFER is said of the caller's (RFC 3515 s2.4.6)
        carrier.in_callee_dialog("NOTIFY", _invite_of(carrier), sent, "Event: refer;id=19", cseq=7)
        notify = caller.take("NOTIFY")
        self.assertEqual((notify.cseq_number, notify.first["event"]), (7, "refer;id=14"))
        caller.answer(notify, 200)
        carrier.take(200)
        caller.in_dialog("BYE", ok, cseq=15)
        first, got = challenged(carrier, "BYE", asks("nb", more=", stale=true"))
        self.assertEqual((first.cseq_number, got.cseq_number), (20, 21))
        carrier.answer(got, 200)
        self.assertEqual(caller.take(200).cseq_number, 15)
        over(rig)

    @shows("OUT-14", "12.2.1.1")
    def test_crossing(self) -> None:
        """While a re-INVITE is challenged another request is under way: what is sent again has a number of its own, and
        so has what comes after."""
        rig, caller, carrier = trunk_rig()
        _, _, _, ok = called(caller, carrier)
        caller.in_dialog("INVITE", ok, cseq=11)
        caller.take(100)
        invite = carrier.take("INVITE")
        caller.in_dialog("INFO", ok, cseq=12)
        info = carrier.take("INFO")
        self.assertEqual((invite.cseq_number, info.cseq_number), (12, 13))
        carrier.answer(invite, 407, asks("n2", more=", stale=true"))
        self.assertEqual(carrier.take("ACK").cseq_number, 12)
        invite = carrier.take("INVITE")
        self.assertEqual(invite.cseq_number, 14)
        carrier.answer(info, 200)
        self.assertEqual(caller.take(200).cseq_number, 12)
        carrier.answer(invite, 200)
        again_ok = caller.take(200)
        self.assertEqual(again_ok.cseq_number, 11)
        caller.ack(again_ok)
        self.assertEqual(carrier.take("ACK").cseq_number, 14)
        caller.in_dialog("BYE", ok, cseq=13)
        bye = carrier.take("BYE")
        self.assertGreater(bye.cseq_number, 14)
        carrier.answer(bye, 200)
        self.assertEqual(caller.take(200).cseq_number, 13)
        over(rig)

    @shows("OUT-14", "12.2.1.1")
    def test_crossing_the_other_way(self) -> None:
        """Where the later one is challenged first, what comes after both still has a number of its own."""
        rig, caller, carrier = trunk_rig()
        _, _, _, ok = called(caller, carrier)
        caller.in_dialog("UPDATE", ok, cseq=11)
        update = carrier.take("UPDATE")
        caller.in_dialog("INFO", ok, cseq=12)
        _, info = challenged(carrier, "INFO", asks("n2", more=", stale=true"))
        carrier.answer(update, 407, asks("n3", more=", stale=true"))
        update = carrier.take("UPDATE")
        caller.in_dialog("BYE", ok, cseq=13)
        bye = carrier.take("BYE")
        self.assertEqual([one.cseq_number for one in (info, update, bye)], [14, 15, 16])
        for place, request in ((12, info), (11, update), (13, bye)):
            carrier.answer(request, 200)
            self.assertEqual(caller.take(200).cseq_number, place)
        over(rig)

    @shows("OUT-14", "3262 7.2")
    def test_reliable_provisional(self) -> None:
        """RFC 3262: PRACK and its RAck speak of the INVITE as the carrier knows it, also where the PRACK is challenged."""
        rig, caller, carrier = trunk_rig()
        caller.invite("0123", "Supported: 100rel", cseq=10)
        caller.take(100)
        _, got = challenged(carrier, "INVITE")
        carrier.answer(got, 183, "Require: 100rel", "RSeq: 77")
        early = caller.take(183)
        caller.in_dialog("PRACK", early, "RAck: 77 10 INVITE", cseq=11)
        first, prack = challenged(carrier, "PRACK", asks("n2", more=", stale=true"))
        self.assertEqual([one.first["rack"] for one in (first, prack)], ["77 11 INVITE", "77 11 INVITE"])
        self.assertEqual((first.cseq_number, prack.cseq_number), (12, 13))
        carrier.answer(prack, 200)
        self.assertEqual(caller.take(200).first["cseq"], "11 PRACK")
        carrier.answer(got, 200)
        ok = caller.take(200)
        self.assertEqual(ok.cseq_number, 10)
        caller.ack(ok)
        self.assertEqual(carrier.take("ACK").cseq_number, 11)
        over(rig)

    @shows("OUT-14", "12.2.1.1")
    def test_wrong_in_dialog(self) -> None:
        """A challenge in the dialog that is not satisfied ends that request with 500, not the call."""
        rig, caller, carrier = trunk_rig()
        _, _, _, ok = called(caller, carrier)
        caller.in_dialog("INFO", ok, cseq=11)
        _, got = challenged(carrier, "INFO", asks("n2", more=", stale=true"))
        carrier.answer(got, 407, asks("n3"))
        self.assertEqual(caller.take(500).all("proxy-authenticate"), [])
        caller.in_dialog("BYE", ok, cseq=12)
        carrier.answer(carrier.take("BYE"), 200)
        caller.take(200)
        over(rig)

    @shows("OUT-14", "12.2.1.1")
    def test_restart(self) -> None:
        """kill -9 in the middle of the call: re-INVITE and BYE of either side go on, numbers rise, and what the carrier
        sees of From stays what it was."""
        for ends in ("caller", "carrier"):
            rig, caller, carrier = trunk_rig({"from_user": "acct"})
            invite, got, sent, ok = called(caller, carrier)
            caller.in_dialog("INFO", ok, cseq=11)
            _, info = challenged(carrier, "INFO", asks("n2", more=", stale=true"))  # this grows in memory alone
            carrier.answer(info, 200)
            caller.take(200)
            rig = again(rig, carrier, caller)
            caller.in_dialog("INVITE", ok, cseq=12)
            caller.take(100)
            renewed = carrier.take("INVITE")
            self.assertGreater(renewed.cseq_number, info.cseq_number)
            self.assertEqual(Address.parse(renewed.first["from"]).uri_text, f"sip:acct@{CARRIER}")
            carrier.answer(renewed, 401, asks("n3", proxy=False))
            carrier.take("ACK")
            second = carrier.take("INVITE")
            self.assertEqual((second.cseq_number, proved(second)), (renewed.cseq_number + 1, [("n3", "MD5", 1)]))
            carrier.answer(second, 200)
            again_ok = caller.take(200)
            self.assertEqual((again_ok.cseq_number, again_ok.first["from"]), (12, invite.first["from"]))
            caller.ack(again_ok)
            self.assertEqual(carrier.take("ACK").cseq_number, second.cseq_number)
            if ends == "caller":
                caller.in_dialog("BYE", ok, cseq=13)
                bye = carrier.take("BYE")
                self.assertEqual(bye.cseq_number, second.cseq_number + 1)
                carrier.answer(bye, 200)
                self.assertEqual(caller.take(200).cseq_number, 13)
            else:
                carrier.in_callee_dialog("BYE", got, sent, cseq=9)
                bye = caller.take("BYE")
                self.assertEqual((bye.cseq_number, Address.parse(bye.first["to"]).uri_text), (9, caller.aor))
                caller.answer(bye, 200)
                self.assertEqual(carrier.take(200).first["to"], got.first["from"])
            over(rig)

    @shows("OUT-14", "12.2.1.1")
    def test_restart_before_ack(self) -> None:
        """The ACK of a 2xx that was sent before the restart has the number of its INVITE."""
        rig, caller, carrier = trunk_rig()
        caller.invite("0123", cseq=10)
        caller.take(100)
        _, got = challenged(carrier, "INVITE")
        carrier.answer(got, 200)
        ok = caller.take(200)
        rig = again(rig, carrier, caller)
        caller.ack(ok)
        self.assertEqual(carrier.take("ACK").cseq_number, 11)
        over(rig)

    @shows("OUT-14", "12.2.1.1")
    def test_forged_token(self) -> None:
        """A token that somebody made, or that belongs to another call, dresses nothing: the request is a stranger's."""
        rig, caller, carrier = trunk_rig(auth={"required": True})
        rig.core.route.configure(False, False, False)
        _, _, _, ok = called(caller, carrier)
        rig.core.route.configure(True, False, False)
        for change in ("token", "call"):
            route = f"Route: {ok.values('record-route')[0]}"
            if change == "token":
                route = route.replace("sip:", "sip:0")
            caller.request("BYE", f"sip:x@{CARRIER}", route, to=ok.first["to"], from_=ok.first["from"],
                           call_id=ok.call_id + ("x" if change == "call" else ""), cseq=20)
            caller.take(407)
        carrier.silent()
        over(rig)

    @shows("OUT-14", "12.2.1.1")
    def test_credentials_for_nobody_else(self) -> None:
        """A caller who sends a request in the dialog somewhere else gets no proof of ours made for it: neither at once
        nor for a challenge that he makes himself."""
        rig, caller, carrier = trunk_rig()
        _, _, _, ok = called(caller, carrier)
        thief = rig.phone("thief", "192.0.2.66")
        route = f"Route: {ok.values('record-route')[0]}"
        caller.request("INVITE", f"sip:premium@{CARRIER}", route, f"Route: <sip:{thief.address};lr>", to=ok.first["to"],
                       from_=ok.first["from"], call_id=ok.call_id, cseq=11, contact=f"<{caller.contact}>")
        caller.take(100)
        got = thief.take("INVITE")
        self.assertEqual(proved(got), [])
        thief.answer(got, 407, asks("n9"))
        thief.take("ACK")
        caller.take(500)
        caller.request("ACK", f"sip:premium@{CARRIER}", route, f"Route: <sip:{thief.address};lr>", to=ok.first["to"],
                       from_=ok.first["from"], call_id=ok.call_id, cseq=10)
        self.assertEqual(proved(thief.take("ACK")), [])
        rig.advance(40.0)
        caller.drain()
        over(rig)


def _invite_of(carrier: Phone) -> Request:
    """The INVITE that the carrier answered with 200 first."""
    from sipd.message.parser import parse

    for data in carrier.raw:
        if data.startswith(b"INVITE") and b"CSeq: 11 " in data:
            found = parse(data)
            assert isinstance(found, Request)
            return found
    raise AssertionError("there is none")


class Forks(TestCase):
    """Two trunks at once, or one after the other."""

    @shows("OUT-14", "16.7")
    def test_two_shifts(self) -> None:
        """Each branch has a shift of its own, and each 2xx is turned back by it; the second, late one too, and each ACK
        and BYE finds the numbers of its branch."""
        rig, caller, carrier = trunk_rig(other={"password": "other"}, groups=(("carrier", "other"),))
        other = rig.phone("other", OTHER)
        invite = caller.invite("0123", cseq=10)
        caller.take(100)
        _, one = challenged(carrier, "INVITE")
        _, two = challenged(other, "INVITE", asks("m1"))
        other.answer(two, 407, asks("m2", more=", stale=true"))
        other.take("ACK")
        two = other.take("INVITE")
        self.assertEqual((one.cseq_number, two.cseq_number), (11, 12))
        self.assertEqual((proved(one), proved(two, "other")), ([("n1", "MD5", 1)], [("m2", "MD5", 1)]))
        carrier.answer(one, 200)
        other.answer(two, 200)
        answers: list[Response] = caller.take_all(200)
        self.assertEqual([answer.first["cseq"] for answer in answers], ["10 INVITE", "10 INVITE"])
        self.assertEqual([answer.first["from"] for answer in answers], [invite.first["from"]] * 2)
        for answer, place, number in zip(answers, (carrier, other), (11, 12), strict=True):
            caller.ack(answer)
            self.assertEqual(place.take("ACK").cseq_number, number)
            caller.in_dialog("BYE", answer, cseq=11)
            bye = place.take("BYE")
            self.assertEqual(bye.cseq_number, number + 1)
            place.answer(bye, 200)
            self.assertEqual(caller.take(200).cseq_number, 11)
        over(rig)

    @shows("OUT-14", "16.7")
    def test_wrong_password_then_the_next(self) -> None:
        """A trunk that does not take our password is no reason to give up: the next one is called."""
        rig, caller, carrier = trunk_rig(other={}, groups=(("carrier",), ("other",)))
        other = rig.phone("other", OTHER)
        invite = caller.invite("0123", cseq=10)
        caller.take(100)
        _, got = challenged(carrier, "INVITE")
        carrier.answer(got, 403)
        carrier.take("ACK")
        got = other.take("INVITE")
        self.assertEqual((got.uri_text, got.cseq_number), (f"sip:123@{OTHER}", 10))
        other.answer(got, 407, asks("m1"))
        other.take("ACK")
        got = other.take("INVITE")
        other.answer(got, 407, asks("m2"))
        other.take("ACK")
        caller.ack(caller.take(403), invite)
        over(rig)

    @shows("OUT-16", "16.7")
    def test_silent_then_the_next(self) -> None:
        """A trunk that says nothing for [proxy] hop_timeout: the next one is called, and the first, when it comes alive
        after all, is told that nobody waits for it."""
        rig, caller, carrier = trunk_rig(other={}, groups=(("carrier",), ("other",)))
        other = rig.phone("other", OTHER)
        caller.invite("0123", cseq=10)
        caller.take(100)
        first = carrier.take("INVITE")
        rig.advance(3.9, 0.1)
        other.silent()
        rig.advance(0.2, 0.1)
        got = other.take("INVITE")
        other.answer(got, 180)
        caller.take(180)
        carrier.drain()
        carrier.answer(first, 180)
        cancel = carrier.take("CANCEL")
        carrier.answer(cancel, 200)
        carrier.answer(first, 487)
        carrier.take("ACK")
        other.pick_up(got, caller)
        over(rig)

    @shows("OUT-16", "16.7")
    def test_silent_and_alone(self) -> None:
        """Where there is nobody else, a slow trunk has as long as ever; so has the last one."""
        for groups, asked in (((("carrier",),), 0), ((("other",), ("carrier",)), 1)):
            rig, caller, carrier = trunk_rig(other={}, groups=groups)
            other = rig.phone("other", OTHER)
            caller.invite("0123", cseq=10)
            caller.take(100)
            rig.advance(20.0, 0.1)
            self.assertEqual(bool(other.drain()), bool(asked))
            got = carrier.drain()[0]
            assert isinstance(got, Request)
            carrier.answer(got, 180)
            caller.take(180)
            rig.advance(100.0)
            _, ok = carrier.pick_up(got, caller)
            other.drain()
            over(rig)

    @shows("OUT-16", "16.7")
    def test_all_silent(self) -> None:
        """When all are silent the caller hears 408 in the end."""
        rig, caller, carrier = trunk_rig(other={}, groups=(("carrier",), ("other",)))
        other = rig.phone("other", OTHER)
        invite = caller.invite("0123", cseq=10)
        caller.take(100)
        rig.advance(37.2, 0.1)
        failed = caller.take_all(408)[0]
        caller.ack(failed, invite)
        carrier.drain()
        other.drain()
        over(rig)

    @shows("OUT-14", "12.2.1.1")
    def test_no_route(self) -> None:
        """A caller that acknowledges at the address it called: the ACK has the number of the branch that answered."""
        rig, caller, carrier = trunk_rig()
        invite = caller.invite("0123", cseq=10)
        caller.take(100)
        _, got = challenged(carrier, "INVITE")
        carrier.answer(got, 200)
        ok = caller.take(200)
        caller.request("ACK", invite.uri_text, to=ok.first["to"], from_=ok.first["from"], call_id=ok.call_id, cseq=10)
        self.assertEqual(carrier.take("ACK").cseq_number, 11)
        over(rig)


class CallsIn(TestCase):
    """The trunk calls."""

    @shows("OUT-14", "12.2.1.1")
    def test_challenges_our_side(self) -> None:
        """The carrier calls a user and asks for credentials when that one hangs up: they are ours too; after a restart as
        well. The carrier's own requests are not touched."""
        for restarts in (False, True):
            rig, phone, carrier = trunk_rig({"identify_by": ["address"], "addresses": [CARRIER]}, auth={"required": True})
            rig.binding("1001", phone.contact)
            carrier.invite("1001", from_=f"<sip:0049@{CARRIER}>;tag=c", cseq=100)
            carrier.take(100)
            got = phone.take("INVITE")
            sent, ok = phone.pick_up(got, carrier)
            if restarts:
                rig = again(rig, carrier, phone)
            phone.in_callee_dialog("BYE", got, sent, cseq=5)
            first, bye = challenged(carrier, "BYE")
            self.assertGreaterEqual(first.cseq_number, 5)
            self.assertEqual((bye.cseq_number, proved(bye)), (first.cseq_number + 1, [("n1", "MD5", 1)]))
            self.assertEqual((bye.first["from"], bye.first["to"]), (ok.first["to"], got.first["from"]))
            carrier.answer(bye, 200)
            self.assertEqual(phone.take(200).first["cseq"], "5 BYE")
            over(rig)

    @shows("OUT-14", "12.2.1.1")
    def test_through(self) -> None:
        """A trunk's call that goes out over another one: each side is asked for credentials and sees its own numbers."""
        rig, caller, carrier = trunk_rig(
            {"identify_by": ["address"], "addresses": [CARRIER], "may_call": ["*"]},
            other={"password": "other", "from_user": "us"}, groups=(("other",),), auth={"required": True})
        other = rig.phone("other", OTHER)
        carrier.invite("0123", from_=f"<sip:0049@{CARRIER}>;tag=c", cseq=100)
        carrier.take(100)
        _, got = challenged(other, "INVITE")
        self.assertEqual((got.cseq_number, Address.parse(got.first["from"]).uri_text), (101, f"sip:us@{OTHER}"))
        sent = other.answer(got, 200)
        ok = carrier.take(200)
        self.assertEqual((ok.cseq_number, Address.parse(ok.first["from"]).uri_text), (100, f"sip:0049@{CARRIER}"))
        carrier.ack(ok)
        self.assertEqual(other.take("ACK").cseq_number, 101)
        other.in_callee_dialog("INFO", got, sent, cseq=3)
        first, info = challenged(carrier, "INFO", asks("q1"))
        self.assertEqual((first.cseq_number, info.cseq_number, proved(info)), (3, 4, [("q1", "MD5", 1)]))
        self.assertEqual(Address.parse(info.first["to"]).uri_text, f"sip:0049@{CARRIER}")
        carrier.answer(info, 200)
        answer = other.take(200)
        self.assertEqual((answer.cseq_number, answer.first["to"]), (3, got.first["from"]))
        carrier.in_dialog("BYE", ok, cseq=101)
        bye = other.take("BYE")
        self.assertEqual((bye.cseq_number, Address.parse(bye.first["from"]).uri_text), (102, f"sip:us@{OTHER}"))
        other.answer(bye, 200)
        self.assertEqual(carrier.take(200).cseq_number, 101)
        over(rig)
