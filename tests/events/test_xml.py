"""XML read and written: what strangers send ends as elements or as MalformedMessage, what is written can be read."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sipd.events import message_summary, pidf, xml
from sipd.events.xml import Element
from sipd.message.errors import MalformedMessage

_DOCUMENT = (b'<?xml version="1.0"?><presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:r="urn:r" entity="sip:a@b">'
             b'<tuple id="1" r:x="&quot;y"><status><basic>open</basic><r:s/></status><note xml:lang="en">a&lt;b</note>'
             b"</tuple></presence>")


class XmlTests(SynchronousTestCase):
    """The reader and the writer."""

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
