"""XML of strangers, read strictly, and XML of ours, written: no document type, no entities, no network. Pure.

Names are `{namespace}local`, as in xml.etree, which is not used here: it would believe what a document type says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from xml.parsers import expat

from sipd.message.errors import MalformedMessage

#: Octets of a document, elements in it, how deep they may stand in each other, attributes of one, characters in all.
MOST_OCTETS, MOST_ELEMENTS, MOST_DEPTH, MOST_ATTRIBUTES = 65536, 2000, 24, 64

_XML = "{http://www.w3.org/XML/1998/namespace}"
_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_QUOTED = {**_TEXT, **str.maketrans({'"': "&quot;", "\n": "&#10;", "\t": "&#9;"})}
#: What XML 1.0 has no way to write.
_UNWRITABLE = dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF])


class Element:
    """One element: its name, attributes, the text before its first child, its children, the text behind itself."""

    __slots__ = ("name", "attributes", "text", "children", "tail")

    def __init__(self, name: str, attributes: Mapping[str, str] | None = None, text: str = "",
                 children: list[Element] | None = None) -> None:
        self.name = name
        self.attributes = dict(attributes or {})
        self.text = text
        self.children = [] if children is None else children
        self.tail = ""

    def first(self, name: str) -> Element | None:
        """The first child of that name."""
        return next((child for child in self.children if child.name == name), None)

    def walk(self) -> Iterator[Element]:
        """This element and all in it."""
        yield self
        for child in self.children:
            yield from child.walk()


class _Reader:
    """Builds the tree; whatever is not plain elements and text is refused."""

    def __init__(self) -> None:
        self.root: Element | None = None
        self.open: list[Element] = []
        self.last: Element | None = None
        self.count = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.count += 1
        if self.count > MOST_ELEMENTS or len(self.open) >= MOST_DEPTH or len(attributes) > MOST_ATTRIBUTES:
            raise MalformedMessage("the XML is too large", 413)
        element = Element(_braced(name), {_braced(key): value for key, value in attributes.items()})
        if self.open:
            self.open[-1].children.append(element)
        else:
            self.root = element
        self.open.append(element)
        self.last = None

    def end(self, name: str) -> None:
        self.last = self.open.pop()

    def text(self, data: str) -> None:
        if self.last is not None:
            self.last.tail += data
        elif self.open:
            self.open[-1].text += data

    @staticmethod
    def refuse(*anything: object) -> int:
        raise MalformedMessage("XML with a document type or entities")


def _braced(name: str) -> str:
    if name.count("}") > 1:
        raise MalformedMessage("a namespace with a brace in it")
    return f"{{{name}" if "}" in name else name


def read(body: bytes) -> Element:
    """The root of a document in UTF-8, or in UTF-16 where it begins so. Raises MalformedMessage (400, 413)."""
    if len(body) > MOST_OCTETS:
        raise MalformedMessage("the XML is too large", 413)
    reader = _Reader()
    parser = expat.ParserCreate("UTF-8", "}")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler = reader.text
    # a document type is where entities, their expansion and fetching of files begin
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = parser.UnparsedEntityDeclHandler = reader.refuse
    parser.ExternalEntityRefHandler = parser.SkippedEntityHandler = reader.refuse
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise MalformedMessage(f"not XML: {error}") from None
    if reader.root is None:
        raise MalformedMessage("not XML: nothing is in it")
    return reader.root


def text(value: str) -> str:
    """A text as the content of an element."""
    return value.translate(_UNWRITABLE).translate(_TEXT)


def quoted(value: str) -> str:
    """A text as the value of an attribute, quotation marks included."""
    return f'"{value.translate(_UNWRITABLE).translate(_QUOTED)}"'


def write(root: Element, prefixes: Mapping[str, str]) -> str:
    """The document. The namespace of the root needs no prefix; those of `prefixes` (namespace to prefix) that occur
    have theirs, others get one. All are declared at the root: who reads with regular expressions finds them."""
    own = root.name[1:].partition("}")[0] if root.name[:1] == "{" else ""
    declared: dict[str, str] = {}
    for element in root.walk():
        for place, name in enumerate((element.name, *element.attributes)):
            space = name[1:].partition("}")[0] if name[:1] == "{" else ""
            # the namespace of the root goes without saying for elements, not for attributes
            if space and space not in declared and f"{{{space}}}" != _XML and (space != own or place):
                declared[space] = prefixes.get(space, "") or f"n{len(declared)}"
    spaces = f" xmlns={quoted(own)}" if own else ""
    spaces += "".join(f" xmlns:{prefix}={quoted(space)}" for space, prefix in declared.items())
    parts = ['<?xml version="1.0" encoding="UTF-8"?>\r\n']
    _write(root, own, declared, spaces, parts)
    return "".join(parts)


def _write(element: Element, own: str, declared: Mapping[str, str], more: str, parts: list[str]) -> None:
    name = _written(element.name, own, declared)
    attributes = "".join(f" {_written(key, '', declared)}={quoted(value)}" for key, value in element.attributes.items())
    if not element.children and not element.text:
        parts.append(f"<{name}{more}{attributes}/>{text(element.tail)}")
        return
    parts.append(f"<{name}{more}{attributes}>{text(element.text)}")
    for child in element.children:
        _write(child, own, declared, "", parts)
    parts.append(f"</{name}>{text(element.tail)}")


def _written(name: str, own: str, declared: Mapping[str, str]) -> str:
    if name[:1] != "{":
        return name
    space, _, local = name[1:].partition("}")
    if f"{{{space}}}" == _XML:
        return f"xml:{local}"
    return local if space == own else f"{declared[space]}:{local}"
