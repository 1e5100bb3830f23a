"""XML read and written: what strangers send ends as elements or as MalformedMessage, what is written can be read."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sipd.events import message_summary, pidf, xml
from sipd.events.xml import Element
from sipd.message.errors import MalformedMessage
from tests.support.cases import shows

_DOCUMENT = (b'<?xml version="1.0"?><presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:r="urn:r" entity="sip:a@b">'
             b'<tuple id="1" r:x="&quot;y"><status><basic>open</basic><r:s/></status><note xml:lang="en">a&lt;b</note>'
             b"</tuple></presence>")


class XmlTests(SynchronousTestCase):
    """The reader and the writer."""

    @shows("R3863-3.1-01", "R3863-4.1-03", "R3863-7-01")
    def test_encodings(self) -> None:
        """UTF-8 and, where its first character says so, UTF-16 of either order is read, whatever the declaration says;
        what is neither is malformed."""
        text = _DOCUMENT.decode().replace("a&lt;b", "\u00e4\U0001f4de")
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            for declared in (text, text.replace("?>", f' encoding="{encoding[:6]}"?>'.replace("utf-8-", "utf-8"))):
                read = xml.read(declared.encode(encoding))
                self.assertEqual(xml.write(read, {}), xml.write(xml.read(text.encode()), {}))
        self.assertEqual(xml.read(b"\xfe\xff" + text.encode("utf-16-be")).name, xml.read(_DOCUMENT).name)
        for body in (text.encode("latin-1", "replace"), b"\xff\xfe" + text.encode("utf-16-be"), b"\xff\xfe", b"\xfe\xff\x00"):
            self.assertRaises(MalformedMessage, xml.read, body)

    @shows("R4235-4-01")
    def test_round_trip(self) -> None:
        """Names, namespaces, attributes, text and their escapes survive."""
        root = xml.read(_DOCUMENT)
        again = xml.read(xml.write(root, {"urn:r": "r"}).encode())
        self.assertEqual([(one.name, one.attributes, one.text, one.tail) for one in root.walk()],
                         [(one.name, one.attributes, one.text, one.tail) for one in again.walk()])
        self.assertIn("<r:s/>", xml.write(root, {"urn:r": "r"}))
        self.assertIn('xml:lang="en"', xml.write(root, {}))

    def test_own_namespace_on_an_attribute(self) -> None:
        """An attribute of the root's namespace needs a prefix; so does one of a second unknown namespace."""
        root = Element("{urn:a}x", {"{urn:a}k": "1", "{urn:b}k": "2"}, children=[Element("{urn:c}y"), Element("z")])
        again = xml.read(xml.write(root, {}).encode())
        self.assertEqual(again.attributes, root.attributes)
        self.assertEqual(again.children[0].name, "{urn:c}y")

    @shows("R4235-4-01", "R4235-4-04", "R3680-5.1-01")
    @settings(deadline=None, max_examples=200)
    @given(st.text(max_size=60))
    def test_any_text(self, text: str) -> None:
        """Whatever a header may hold can be written and read; what XML cannot hold is left out."""
        root = xml.read(xml.write(Element("a", {"b": text}, text), {}).encode("utf-8", "surrogateescape"))
        kept = text.translate(xml._UNWRITABLE)
        self.assertEqual((root.attributes["b"], root.text), (kept, kept))

    @settings(deadline=None, max_examples=300)
    @given(st.one_of(st.binary(max_size=200), st.tuples(st.integers(0, len(_DOCUMENT)), st.binary(max_size=8)).map(
        lambda cut: _DOCUMENT[:cut[0]] + cut[1] + _DOCUMENT[cut[0]:])))
    def test_hostile(self, body: bytes) -> None:
        """Only MalformedMessage comes out, of documents of presence and of message summaries."""
        for read in (xml.read, pidf.read, message_summary.read):
            try:
                found = read(body)
            except MalformedMessage:
                continue
            if isinstance(found, Element):
                xml.read(xml.write(found, {}).encode())

    def test_namespace_with_a_brace(self) -> None:
        """A namespace that would break our names is refused."""
        self.assertRaises(MalformedMessage, xml.read, b'<a xmlns="urn}x"/>')
        self.assertRaises(MalformedMessage, xml.read, b'<a xmlns:n="urn}x" n:b="1"/>')
