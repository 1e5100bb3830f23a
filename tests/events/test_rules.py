"""Rules of RFC 6665 that hold for whoever passes on, cancels or reads requests of events, on the real core."""

from __future__ import annotations

import re

from twisted.trial.unittest import TestCase

from tests.events.test_publications import SlowRecords, pidf, publish
from tests.events.watching import notified, refresh, subscribe, unsubscribe
from tests.support.cases import shows
from tests.support.rig import Rig


class RuleTests(TestCase):
    """1001 asks, 1002 is asked."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")
        self.b.register()

    @shows("R6665-4.3-01", "R6665-4.3-02", "R6665-4.4.4-03")
    def test_passed_on(self) -> None:
        """What is subscribed to at a phone goes through us to the end: SUBSCRIBE and NOTIFY have our Record-Route, and
        nothing of ours says which events there are."""
        self.a.request("SUBSCRIBE", "sip:1002@example.com", "Event: conference", "Expires: 60")
        got = self.b.take("SUBSCRIBE")
        self.assertEqual(len(got.values("record-route")), 1)
        self.b.answer(got, 200)
        ok = self.a.take(200)
        self.b.request("NOTIFY", self.a.contact, "Event: conference", "Subscription-State: active;expires=60",
                       f"Route: {got.first['record-route']}", to=got.first["from"], from_=ok.first["to"],
                       call_id=got.call_id)
        notify = self.a.take("NOTIFY")
        self.assertEqual(len(notify.values("record-route")), 1)
        for message in (got, ok, notify):
            self.assertNotIn("allow-events", message.first)
        self.a.answer(notify, 200)
        self.assertNotIn("allow-events", self.b.take(200).first)
        self.rig.finish()

    @shows("R6665-4.6-01", "R6665-4.6-02")
    def test_cancelled(self) -> None:
        """A CANCEL of a SUBSCRIBE that is not answered yet gets its 200 and changes nothing."""
        store = SlowRecords()
        rig = Rig(records=store)
        a = rig.phone("1001")
        request = a.request("SUBSCRIBE", "sip:1002@example.com", "Event: presence", "Expires: 600")
        a.cancel(request)
        self.assertEqual(a.take(200).cseq, (1, "CANCEL"))
        store.release()
        ok = a.take(200)
        self.assertEqual(ok.cseq, (1, "SUBSCRIBE"))
        self.assertEqual(notified(a).first["subscription-state"], "active;expires=600")
        refresh(a, ok, 0)
        store.release()
        a.take(200)
        notified(a)
        while store.waiting:
            store.release()
        rig.finish()

    @shows("R6665-8.2.1-02", "R6665-8.2.3-01", "R6665-8.3-02")
    def test_where_they_stand(self) -> None:
        """No answer of ours has Event or Subscription-State, whatever it answers; none to a SUBSCRIBE is 202."""
        answers = [subscribe(self.a, "1002")]
        notified(self.a)
        answers += [subscribe(self.a, "1002", "message-summary", status=403),
                    subscribe(self.a, "1001", "dialog", expires=5, status=423),
                    publish(self.a, pidf("open"), entity="1001"), publish(self.a, entity="1001", status=400)]
        self.a.request("OPTIONS", "sip:example.com")
        answers.append(self.a.take(200))  # type: ignore[arg-type]
        for answer in answers:
            self.assertNotIn("event", answer.first)
            self.assertNotIn("subscription-state", answer.first)
            self.assertNotEqual(answer.status, 202)
        unsubscribe(self.a, answers[0])
        publish(self.a, b"", answers[3].first["sip-etag"], 0, entity="1001")
        self.rig.finish()

    @shows("R6665-4.2.1-01")
    def test_by_subscribe_alone(self) -> None:
        """Nothing but a SUBSCRIBE makes a subscription."""
        publish(self.a, pidf("open"), entity="1001", expires=60)
        self.a.register()
        for method, lines in (("NOTIFY", ("Event: presence", "Subscription-State: active")), ("MESSAGE", ()),
                              ("REFER", ("Event: presence", "Refer-To: <sip:1003@example.com>"))):
            self.a.request(method, "sip:1002@example.com", *lines)
            self.b.answer(self.b.take(method), 200)
            self.a.take(200)
        self.assertEqual(self.rig.core.events.notifier.rows(), [])
        self.rig.advance(61.0)
        self.rig.finish()

    @shows("R3891-8-01")
    def test_picked_up_with_a_password(self) -> None:
        """Nobody picks up who has not shown who they are, neither by a number nor by Replaces."""
        rig = Rig(auth={"required": True}, events={"pickup": "*8", "pickup_groups": {"sales": ["1002", "1003"]}})
        c = rig.phone("1003")
        for called, lines in (("sip:*8@example.com", ()), ("sip:1001@example.com", ("Replaces: x;to-tag=1;from-tag=2",))):
            invite = c.invite(called, *lines)
            c.ack(c.take(407), invite)
        rig.finish()

    @shows("R3863-4.1.2-03", "R3863-4.1.5-01", "R3863-4.1.6-02", "R3863-4.2.2-01", "R3863-4.2.2-02", "R3863-4.1.3-01")
    def test_presence_that_we_write(self) -> None:
        """What follows from registrations and calls is a document by the book: a tuple with id, status and contact, a note
        with its language, namespaces that are absolute URIs."""
        subscribe(self.a, "1002", expires=0)
        body = notified(self.a).body.decode()
        self.assertEqual(body, (
            '<?xml version="1.0" encoding="UTF-8"?>\r\n'
            '<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:1002@example.com"><tuple id="sipd">'
            '<status><basic>open</basic></status><contact priority="1">sip:1002@example.com</contact>'
            '<note xml:lang="en">Ready</note></tuple></presence>'))
        self.a.invite("1002")
        subscribe(self.rig.phone("1003"), "1002", expires=0)
        body = notified(self.rig.phones[-1]).body.decode()
        for namespace in re.findall(r' xmlns(?::\w+)?="([^"]*)"', body):
            self.assertRegex(namespace, "^urn:ietf:params:xml:ns:pidf(:[a-z-]+)*$")
        self.assertEqual(body.count(" xmlns"), 3)
