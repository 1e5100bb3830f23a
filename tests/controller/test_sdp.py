"""Session descriptions as a controller passes them on: held answers, and media lines that are matched (RFC 3264)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as some
from twisted.trial.unittest import SynchronousTestCase

from sipd.controller.sdp import Description, Pairing

TOP = "v=0\r\no=a 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"


def described(*media: str, top: str = TOP) -> Description:
    """A description with these media lines, each with what follows it after "|"."""
    made = Description.parse((top + "".join(line.replace("|", "\r\n") + "\r\n" for line in media)).encode())
    assert made is not None
    return made


def lines(description: Description) -> list[str]:
    """Its media lines, joined as in `described`."""
    return ["|".join(media) for media in description.media]


class DescriptionTests(SynchronousTestCase):
    """Reading, writing, holding."""

    def test_round_trip(self) -> None:
        """What is read is written again, all but the origin."""
        text = TOP + "m=audio 4000 RTP/AVP 0\r\na=sendonly\r\nm=video 4002 RTP/AVP 99\r\na=rtpmap:99 VP8/90000\r\n"
        made = Description.parse(text.encode())
        assert made is not None
        self.assertEqual(made.text("a 1 1 IN IP4 192.0.2.1").decode(), text)
        self.assertIn(b"o=- 9 2 IN IP4 0.0.0.0\r\n", made.text("- 9 2 IN IP4 0.0.0.0"))
        self.assertEqual(Description.parse(text.replace("\r\n", "\n").encode()), made)

    def test_what_is_none(self) -> None:
        """Other texts, octets that are no text, no media, too much of it, media lines without a port."""
        for body in (b"", b"hello", b"\xff\xfe", TOP.encode(), TOP.encode() + b"m=audio\r\n",
                     b"v=0\r\ns=-\r\nm=audio 1 RTP/AVP 0\r\n", TOP.encode() + 33 * b"m=audio 1 RTP/AVP 0\r\n",
                     TOP.encode() + b"m=audio 1 RTP/AVP 0\r\nnonsense\r\n"):
            self.assertIsNone(Description.parse(body), body[:60])

    def test_held(self) -> None:
        """The answer that is inactive: the codecs and their numbers stay, nothing is sent anywhere."""
        offer = described("m=audio 4000 RTP/AVP 0 101|a=rtpmap:101 telephone-event/8000|a=fmtp:101 0-15|a=sendrecv|a=ptime:20",
                          "m=video 0 RTP/AVP 99")
        text = offer.held().text("- 1 1 IN IP4 0.0.0.0").decode()
        self.assertEqual(text, "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
                               "m=audio 9 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"
                               "a=inactive\r\nm=video 0 RTP/AVP 99\r\n")

    def test_held_needs_a_key(self) -> None:
        """Media that need a key of ours are refused, which holds them as well; an address of the offer's family."""
        offer = described("m=audio 4000 RTP/SAVP 0|a=crypto:1 X inline:y", top=TOP.replace(
            "c=IN IP4 192.0.2.1", "c=IN IP6 2001:db8::1"))
        held = offer.held()
        self.assertEqual(lines(held), ["m=audio 0 RTP/SAVP 0"])
        self.assertIn("c=IN IP6 ::", held.session)


class PairingTests(SynchronousTestCase):
    """Which media line of the one session is which of the other (RFC 3264 s8)."""

    def test_alike(self) -> None:
        """One and one."""
        pairing = Pairing().alone(0, described("m=audio 9 RTP/AVP 0").media)
        pairing, offer = pairing.offer(1, described("m=audio 5000 RTP/AVP 8"))
        self.assertEqual(lines(offer), ["m=audio 5000 RTP/AVP 8"])
        pairing, answer = pairing.answer(0, described("m=audio 4000 RTP/AVP 8"))
        self.assertEqual(lines(answer), ["m=audio 4000 RTP/AVP 8"])

    def test_other_order(self) -> None:
        """Video first there, audio first here: each session keeps its order, offers and answers fit."""
        pairing = Pairing().alone(0, described("m=audio 9 RTP/AVP 0", "m=video 9 RTP/AVP 99").media)
        pairing, offer = pairing.offer(1, described("m=video 6 RTP/AVP 99", "m=audio 5 RTP/AVP 0"))
        self.assertEqual(lines(offer), ["m=audio 5 RTP/AVP 0", "m=video 6 RTP/AVP 99"])
        pairing, answer = pairing.answer(0, described("m=audio 1 RTP/AVP 0", "m=video 2 RTP/AVP 99"))
        self.assertEqual(lines(answer), ["m=video 2 RTP/AVP 99", "m=audio 1 RTP/AVP 0"])

    def test_more_here(self) -> None:
        """Video that only one of them has is off, and the other never hears of it."""
        pairing = Pairing().alone(0, described("m=video 9 RTP/AVP 99", "m=audio 9 RTP/AVP 0").media)
        pairing, offer = pairing.offer(1, described("m=audio 5 RTP/AVP 0"))
        self.assertEqual(lines(offer), ["m=video 0 RTP/AVP 99", "m=audio 5 RTP/AVP 0"])
        pairing, answer = pairing.answer(0, described("m=video 0 RTP/AVP 99", "m=audio 1 RTP/AVP 0"))
        self.assertEqual(lines(answer), ["m=audio 1 RTP/AVP 0"])

    def test_more_there(self) -> None:
        """A line that is new to the other session is added at its end; refused there, it is refused here."""
        pairing = Pairing().alone(0, described("m=audio 9 RTP/AVP 0").media)
        pairing, offer = pairing.offer(1, described("m=video 6 RTP/AVP 99", "m=audio 5 RTP/AVP 0"))
        self.assertEqual(lines(offer), ["m=audio 5 RTP/AVP 0", "m=video 6 RTP/AVP 99"])
        pairing, answer = pairing.answer(0, described("m=audio 1 RTP/AVP 0", "m=video 0 RTP/AVP 99"))
        self.assertEqual(lines(answer), ["m=video 0 RTP/AVP 99", "m=audio 1 RTP/AVP 0"])

    def test_later_offers(self) -> None:
        """Either side may add a line later; the pairs that there are stay."""
        pairing = Pairing().alone(0, described("m=audio 9 RTP/AVP 0").media)
        pairing, _ = pairing.offer(1, described("m=audio 5 RTP/AVP 0"))
        pairing, _ = pairing.answer(0, described("m=audio 1 RTP/AVP 0"))
        pairing, offer = pairing.offer(0, described("m=audio 1 RTP/AVP 0|a=sendonly", "m=video 2 RTP/AVP 99"))
        self.assertEqual(lines(offer), ["m=audio 1 RTP/AVP 0|a=sendonly", "m=video 2 RTP/AVP 99"])
        pairing, answer = pairing.answer(1, described("m=audio 5 RTP/AVP 0", "m=video 6 RTP/AVP 99"))
        self.assertEqual(lines(answer), ["m=audio 5 RTP/AVP 0", "m=video 6 RTP/AVP 99"])
        pairing, offer = pairing.offer(1, described("m=audio 5 RTP/AVP 0", "m=video 0 RTP/AVP 99"))
        self.assertEqual(lines(offer)[1][:9], "m=video 0")

    def test_lines_left_out(self) -> None:
        """Offers and answers with fewer lines than the session has break its rules, and nothing else: what is left out
        is off. Lines too many in an answer are nobody's."""
        pairing = Pairing().alone(0, described("m=audio 9 RTP/AVP 0", "m=video 9 RTP/AVP 99").media)
        pairing, _ = pairing.offer(1, described("m=audio 5 RTP/AVP 0", "m=video 6 RTP/AVP 99"))
        pairing, answer = pairing.answer(0, described("m=audio 1 RTP/AVP 0"))
        self.assertEqual(lines(answer), ["m=audio 1 RTP/AVP 0", "m=video 0 RTP/AVP 99"])
        pairing, offer = pairing.offer(0, described("m=audio 1 RTP/AVP 0"))
        self.assertEqual(lines(offer), ["m=audio 1 RTP/AVP 0", "m=video 0 RTP/AVP 99"])
        pairing, answer = pairing.answer(1, described(*["m=audio 5 RTP/AVP 0"] * 5))
        self.assertEqual(len(answer.media), 2)
        pairing, offer = pairing.offer(1, described("m=audio 5 RTP/AVP 0"))
        self.assertEqual([line.split(" ")[1] for line in lines(offer)], ["5", "0"])

    def test_a_refused_offer_changes_nothing(self) -> None:
        """Pairings are values."""
        before = Pairing().alone(0, described("m=audio 9 RTP/AVP 0").media)
        after, _ = before.offer(1, described("m=audio 5 RTP/AVP 0", "m=video 6 RTP/AVP 99"))
        self.assertEqual((before.partners, len(after.partners[0])), (((-1,), ()), 2))

    @settings(max_examples=100, deadline=None)
    @given(some.lists(some.tuples(some.booleans(), some.lists(some.sampled_from(["audio", "video", "text"]), max_size=4)),
                      max_size=6))
    def test_always_fits(self, turns: list[tuple[bool, list[str]]]) -> None:
        """Whatever they offer in turn: an offer has every line that the session had, in its order and of its kind, and
        the answer exactly those of the offer (RFC 3264 s6, s8)."""
        kinds: list[list[str]] = [["audio"], []]
        pairing = Pairing().alone(0, described("m=audio 9 RTP/AVP 0").media)
        for first, added in turns:
            side = 0 if first else 1
            kinds[side] += added
            if not kinds[side]:
                continue
            pairing, offer = pairing.offer(side, described(*(f"m={kind} 7 RTP/AVP 0" for kind in kinds[side])))
            offered = [media[0].split(" ")[0][2:] for media in offer.media]
            self.assertEqual(offered[:len(kinds[1 - side])], kinds[1 - side])
            kinds[1 - side] = offered
            pairing, answer = pairing.answer(1 - side, described(*(f"m={kind} 8 RTP/AVP 0" for kind in offered)))
            self.assertEqual([media[0].split(" ")[0][2:] for media in answer.media], kinds[side])
