"""PUBLISH on the real core in virtual time (RFC 3903), and what watchers are told of it."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from sipd.message.message import Response
from sipd.message.parser import parse
from sipd.records import Change, Done, MemoryRecords
from tests.events.watching import Watcher
from tests.support.cases import shows
from tests.support.rig import Phone, Rig


def pidf(state: str, note: str = "", number: str = "t1", more: str = "") -> bytes:
    """A small presence document."""
    noted = f"<note>{note}</note>" if note else ""
    return (f'<?xml version="1.0"?><presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:1002@example.com">'
            f'<tuple id="{number}"><status><basic>{state}</basic></status>{noted}</tuple>{more}</presence>').encode()


def publish(phone: Phone, body: bytes = b"", etag: str = "", expires: int | None = 600, status: int = 200,
            event: str = "presence", kind: str = "application/pidf+xml", entity: str = "1002", *extra: str,
            **fields: Any) -> Response:
    """A PUBLISH and its answer."""
    lines = [f"Event: {event}"] if event else []
    lines += [f"SIP-If-Match: {etag}"] if etag else []
    lines += [f"Expires: {expires}"] if expires is not None else []
    lines += [f"Content-Type: {kind}"] if body else []
    phone.request("PUBLISH", f"sip:{entity}@example.com", *lines, *extra, body=body, **fields)
    answer = phone.take(status)
    assert isinstance(answer, Response)
    return answer


class PublishTests(TestCase):
    """1002 publishes, 1001 watches."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.a, self.b = self.rig.phone("1001"), self.rig.phone("1002")

        self.watcher = Watcher(self.a, "1002")
        self.news()

    def news(self) -> list[str]:
        """What the watcher has heard, after the pause that presence makes."""
        self.rig.advance(6.0, 0.05)
        return self.watcher.news()

    def finish(self) -> None:
        """Ends it."""
        self.watcher.end()
        self.rig.finish()

    @shows("R3863-4.1.1-01", "R3863-4.1.1-02", "R3863-4.1-01", "R3863-4.1-02")
    @shows("SUB-17", "3903 6", "R3903-6-08", "R3903-6-21", "R3903-6-22")
    def test_initial(self) -> None:
        """200 with an entity tag and the time granted; watchers are told what was published."""
        answer = publish(self.b, pidf("open", "At lunch"))
        self.assertEqual(answer.first["expires"], "600")
        self.assertTrue(answer.first["sip-etag"])
        body, = self.watcher.news()
        self.assertIn("<note>At lunch</note>", body)
        self.assertIn('<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:1002@example.com">', body)
        publish(self.b, b"", answer.first["sip-etag"], 0)
        self.finish()

    @shows("SUB-18", "3903 6", "R3903-6-10", "R3903-6-16", "R3903-6-23", "R3903-6-25")
    def test_life(self) -> None:
        """A refresh tells nobody, a change and a removal everybody; each gives another tag, and the old one is worth
        nothing."""
        tags = [publish(self.b, pidf("open")).first["sip-etag"]]
        self.assertIn("<basic>open<", self.news()[0])
        tags.append(publish(self.b, b"", tags[-1]).first["sip-etag"])
        self.assertEqual(self.news(), [])
        tags.append(publish(self.b, pidf("closed"), tags[-1]).first["sip-etag"])
        self.assertIn("<basic>closed<", self.news()[0])
        self.b.register(expires=100)
        removed = publish(self.b, b"", tags[-1], 0)
        self.assertEqual(removed.first["expires"], "0")
        self.assertIn(">Ready<", self.news()[0])  # what the registration tells
        for tag in (*tags, removed.first["sip-etag"]):
            publish(self.b, b"", tag, status=412)
        self.assertEqual(len(set(tags)), 3)
        self.rig.advance(100.0)
        self.finish()

    @shows("R3903-6-07", "R3903-6-09", "R3903-6-10", "R3903-6-14", "R3903-6-15", "R3903-6-24", "R3903-9-01")
    @shows("R3903-14.2-03", "R3903-14.4-02", "R3863-4.1.1-03")
    @shows("SUB-19", "3903 6")
    def test_refused(self) -> None:
        """What is wrong with a PUBLISH, each with its own answer, and nothing is kept."""
        publish(self.b, pidf("open"), "nothing", status=412)
        publish(self.b, pidf("open"), event="", status=489)
        publish(self.b, pidf("open"), event="conference", status=489)
        publish(self.b, b"", status=400)
        publish(self.b, pidf("open"), "one, two", status=400)
        publish(self.b, b"v=0\r\n", kind="application/sdp", status=415)
        publish(self.b, b"<presence/>", status=400)
        publish(self.b, b"no xml", status=400)
        publish(self.b, pidf("perhaps"), status=400)
        publish(self.b, pidf("open"), expires=30, status=423)
        publish(self.b, pidf("open", "x" * 40000), status=413)
        publish(self.b, pidf("open"), entity="nobody", status=403)
        publish(self.a, pidf("open"), entity="1002", status=403)
        self.b.request("PUBLISH", "sip:1002@example.com", "Event: presence", "Content-Encoding: gzip",
                       "Content-Type: application/pidf+xml", body=pidf("open"))
        self.assertIn("identity", self.b.take(415).first["accept-encoding"])
        publish(self.b, pidf("open"), kind="multipart/signed", status=415)
        tags = {publish(self.b, pidf("open", number=f"t{number}"), expires=60).first["sip-etag"] for number in range(10)}
        self.assertEqual(len(tags), 10)
        compositor = self.rig.core.events.compositor
        compositor.configure(compositor.times, 10)  # all that may be published is
        refused = publish(self.a, pidf("open"), entity="1001", status=503)
        self.assertEqual(refused.first["retry-after"], "60")
        self.rig.advance(61.0)
        self.finish()

    @shows("SUB-17", "3903 6")
    def test_many(self) -> None:
        """A phone that publishes each time anew, and forgets the tags it was given, is not stuck with what it said an
        hour ago: of more than ten, what was not refreshed for longest gives way, and its tag is worth nothing."""
        tags = [publish(self.b, pidf("open", number=f"t{number}")).first["sip-etag"] for number in range(10)]
        tags.append(publish(self.b, b"", tags.pop(0)).first["sip-etag"])
        tags.append(publish(self.b, pidf("closed", number="new")).first["sip-etag"])
        publish(self.b, b"", tags[0], status=412)
        self.rig.advance(6.0)
        body = self.news()[-1]
        self.assertEqual([f'"t{number}"' in body for number in range(3)], [True, False, True])
        self.assertIn('"new"', body)
        for tag in tags[1:]:
            publish(self.b, b"", tag, expires=0)
        self.rig.advance(6.0)
        self.news()
        self.finish()

    @shows("SUB-20", "3903 4.5")
    def test_expires(self) -> None:
        """What nobody refreshes is gone: watchers are told, and its tag is worth nothing."""
        answer = publish(self.b, pidf("open"), expires=60)
        self.assertIn("<basic>open<", self.news()[0])
        self.rig.advance(50.0)
        self.assertIn("<basic>closed<", self.news()[0])
        publish(self.b, b"", answer.first["sip-etag"], status=412)
        self.finish()

    @shows("R3863-4.1.2-02", "R3863-4.2.3-01", "R3863-4.2.3-02")
    @shows("SUB-17", "3856 6.11", "R3856-6.9-01", "R3856-6.11.2-01")
    def test_several(self) -> None:
        """Several publishers of one user are told as one document: what is open first, ids apart, extensions kept."""
        person = ('<dm:person xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" id="p"><rpid:activities '
                  'xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid"><rpid:away/></rpid:activities></dm:person>')
        first = publish(self.b, pidf("closed", "At home"))
        second = publish(self.b, pidf("open", "In the car", more=person))
        body = self.news()[-1]
        self.assertLess(body.index("In the car"), body.index("At home"))
        self.assertIn('id="t1"', body)
        self.assertIn('id="t1-1"', body)
        self.assertIn("<rpid:away/>", body)
        publish(self.b, b"", second.first["sip-etag"], 0)
        self.assertNotIn("In the car", self.news()[-1])
        publish(self.b, b"", first.first["sip-etag"], 0)
        self.assertIn("Not online", self.news()[-1])
        self.finish()

    @shows("SUB-19", "3903 6", "R3903-6-04", "R3903-6-05", "R3903-6-18", "R3903-6-19", "R3903-6-20", "R3903-14.2-03")
    def test_in_order(self) -> None:
        """While a PUBLISH is being stored another one about the same waits: of two that know the same tag one wins. What
        cannot be stored is answered 500 and changes nothing."""
        store = SlowRecords()
        rig = Rig(records=store)
        b = rig.phone("1002")
        b.request("PUBLISH", "sip:1002@example.com", "Event: presence", "Content-Type: application/pidf+xml",
                  body=pidf("open"))
        b.silent()
        store.release()
        tag = b.take(200).first["sip-etag"]
        for state in ("open", "closed"):
            b.request("PUBLISH", "sip:1002@example.com", "Event: presence", "Content-Type: application/pidf+xml",
                      f"SIP-If-Match: {tag}", body=pidf(state))
        store.release("the disk is full")
        b.take(500)
        store.release()
        b.take(200)
        b.request("PUBLISH", "sip:1002@example.com", "Event: presence", f"SIP-If-Match: {tag}")
        b.take(412)
        for _ in range(18):
            b.request("PUBLISH", "sip:1002@example.com", "Event: presence", "Expires: 60",
                      "Content-Type: application/pidf+xml", body=pidf("open"))
        b.take(503)
        while store.waiting:
            store.release()
        self.assertEqual({one.status for one in b.drain()}, {200})  # type: ignore[attr-defined]
        rig.advance(3601.0, 10.0)
        while store.waiting:
            store.release()
        rig.finish()

    @shows("SUB-19", "3903 6", "R3903-6-04")
    def test_in_order_of_packages(self) -> None:
        """Whatever package they are about, those for one user are served as they came: one that waits is not overtaken."""
        store = SlowRecords()
        rig = Rig(records=store)
        b = rig.phone("1002")
        for event, kind, body in (("presence", "application/pidf+xml", pidf("open")),
                                  ("presence", "application/pidf+xml", pidf("closed")),
                                  ("message-summary", "application/simple-message-summary", b"Messages-Waiting: yes\r\n")):
            b.request("PUBLISH", "sip:1002@example.com", f"Event: {event}", f"Content-Type: {kind}", "Expires: 60",
                      body=body)
        stored = []
        while store.waiting:
            changes, = store.waiting[0][0]
            stored.append(str(changes[2])[13:21])
            store.release()
        self.assertEqual(stored, ["presence", "presence", "message-"])
        rig.advance(61.0)
        while store.waiting:
            store.release()
        for _ in range(3):
            b.take(200)
        rig.finish()

    @shows("SUB-19", "3903 6", "R3903-6-06", "R3903-6-07", "R3903-6-09", "R3903-6-10", "R3903-6-13", "R3903-6-14")
    def test_steps(self) -> None:
        """The order of s6: whose state it is, what package, which entity tag, for how long, and then the body."""
        publish(self.b, b"no xml", "x, y", expires=1, event="", entity="nobody", status=404)
        publish(self.b, b"no xml", "x, y", expires=1, event="", status=489)
        publish(self.b, b"no xml", "x, y", expires=1, status=400)
        publish(self.b, b"no xml", "x", expires=1, status=412)
        self.assertEqual(publish(self.b, b"no xml", expires=1, status=423).first["min-expires"], "60")
        publish(self.b, b"no xml", kind="text/plain", status=415)
        publish(self.b, b"no xml", status=400)
        self.finish()

    @shows("SUB-18", "3903 6", "R3903-4-01", "R3903-6-01", "R3903-6-02", "R3903-6-03", "R3903-6-17")
    def test_nothing_to_keep(self) -> None:
        """A first PUBLISH of no time is answered 200 with a tag, and nothing is kept or told; Contact and Record-Route
        mean nothing and do not come back."""
        self.b.request("PUBLISH", "sip:1002@example.com", "Event: presence", "Content-Type: application/pidf+xml",
                       "Expires: 0", "Record-Route: <sip:192.0.2.77;lr>", contact="<sip:x@192.0.2.78>", body=pidf("open"))
        answer = self.b.take(200)
        self.assertEqual(answer.first["expires"], "0")
        for name in ("contact", "record-route"):
            self.assertNotIn(name, answer.first)
        self.assertEqual(self.news(), [])
        publish(self.b, b"", answer.first["sip-etag"], status=412)
        self.assertEqual(list(self.rig.core.events.compositor.entities()), [])
        self.finish()

    @shows("SUB-17", "3903 6", "R3903-6-11", "R3903-6-12", "R3903-6-09")
    def test_times(self) -> None:
        """What is asked for is granted, up to the longest time; without Expires the configured one; what is no number is
        malformed, and so is a SIP-If-Match without a tag."""
        for settings, wanted in (({}, "3600"), ({"default_expires": 600}, "600")):
            rig = Rig(events=settings)
            b = rig.phone("1002")
            for expires, granted in ((None, wanted), (100, "100"), (999_999, "3600")):
                answer = publish(b, pidf("open"), expires=expires)
                self.assertEqual(answer.first["expires"], granted)
                publish(b, b"", answer.first["sip-etag"], 0)
            for line in ("Expires: soon", "SIP-If-Match: "):
                b.request("PUBLISH", "sip:1002@example.com", "Event: presence", line,
                          "Content-Type: application/pidf+xml", body=pidf("open"))
                b.take(400)
            rig.finish()
        self.finish()

    @shows("R3903-7-01", "R3903-7-02", "R3903-14.1-01", "R3903-14.1-02", "R3903-14.2-01", "R3903-14.2-02")
    @shows("R3903-14.3-01", "R3903-14.4-01")
    @shows("SUB-17", "3903 14")
    def test_authenticated(self) -> None:
        """Who publishes shows who they are, by 401; what was overheard lets nobody else in; by TLS as by UDP. OPTIONS
        says that there is PUBLISH, and for what."""
        rig = Rig(auth={"required": True})
        for phone in (rig.phone("1002"), rig.phone("1002", transport="tls")):
            request = phone.request("PUBLISH", "sip:1002@example.com", "Event: presence", "Expires: 60",
                                    "Content-Type: application/pidf+xml", body=pidf("open"))
            sent = phone.authorized(request, phone.take(401))
            phone.take(200)
            other = phone.request("PUBLISH", "sip:1003@example.com", "Event: presence", "Expires: 60",
                                  "Content-Type: application/pidf+xml", body=pidf("open"))
            phone.authorized(other, phone.take(401))
            phone.take(403)
            thief = rig.phone("1002")
            assert sent.via is not None
            thief.send(parse(sent.encode().replace(sent.via.branch.encode(), b"z9hG4bKx").replace(
                sent.call_id.encode(), b"overheard").replace(b"SIP/2.0/TLS", b"SIP/2.0/UDP")))
            thief.take(401)
            phone.request("OPTIONS", "sip:example.com")
            answer = phone.take(200)
            self.assertIn("PUBLISH", answer.first["allow"])
            self.assertIn("presence", answer.first["allow-events"])
        rig.advance(61.0)
        rig.finish()
        self.finish()

    @shows("SUB-22", "R3863-4.1.2-01", "R3863-4.1.3-01")
    def test_hostile_xml(self) -> None:
        """Document types, entities, files, depths and sizes: refused before anything is expanded, opened or kept."""
        laughs = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
        start = '<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:x">'
        for text, status in (
                (f'<!DOCTYPE p [<!ENTITY l0 "ha">{laughs}]>{start}&l9;</presence>', 400),
                (f'<!DOCTYPE p [<!ENTITY e SYSTEM "file:///etc/passwd">]>{start}<note>&e;</note></presence>', 400),
                (f'<!DOCTYPE p SYSTEM "http://192.0.2.99/x.dtd">{start}</presence>', 400),
                (f"{start}<note>&unknown;</note></presence>", 400),
                (start + "<a>" * 30000 + "</a>", 413), (start + "<a>" * 40 + "</a>" * 40 + "</presence>", 413),
                (start + "<a/>" * 3000 + "</presence>", 413),
                (start + "<a " + " ".join(f'b{n}=""' for n in range(100)) + "/></presence>", 413),
                (start + "<tuple id='x'/></presence>", 400), (f"{start}\x00</presence>", 400), (start, 400)):
            body = text.encode()
            if len(body) > 32768:
                status = 413
            publish(self.b, body, status=status)
        self.assertEqual(list(self.rig.core.events.compositor.publications("presence", "1002@example.com")), [])
        self.finish()


class SlowRecords(MemoryRecords):
    """A disk that the test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[Any, Done]] = []

    def commit(self, changes: Any, done: Done) -> None:
        """Waits."""
        self.waiting.append((changes, done))

    def release(self, reason: str = "") -> None:
        """The oldest commit is done, or has failed."""
        changes, done = self.waiting.pop(0)
        kept: list[Change] = [] if reason else changes
        super().commit(kept, lambda nothing: done(reason))
