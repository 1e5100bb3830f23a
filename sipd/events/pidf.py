"""Presence documents: PIDF (RFC 3863) read, merged and written, and the two formats that old phones ask for. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from sipd.events import xml
from sipd.events.xml import Element
from sipd.message.errors import MalformedMessage
from sipd.message.uri import uri_of_aor

PIDF = "application/pidf+xml"
XPIDF = "application/xpidf+xml"
CPIM = "application/cpim-pidf+xml"

_NS = "urn:ietf:params:xml:ns:pidf"
_CPIM_NS = "urn:ietf:params:xml:ns:cpim-pidf:"
_DM = "urn:ietf:params:xml:ns:pidf:data-model"
_RPID = "urn:ietf:params:xml:ns:pidf:rpid"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_PREFIXES = {_DM: "dm", _RPID: "rpid", f"{_NS}:cipid": "c", f"{_NS}:caps": "caps"}
#: Tuples of one document, and in all that are merged.
_MOST_TUPLES = 50

#: What somebody does, as far as registrations and calls tell, with the word people read.
OFFLINE, READY, RINGING, TALKING = "Not online", "Ready", "Ringing", "On the phone"


def read(body: bytes) -> Element:
    """A PIDF document (RFC 3863 s4.1). Raises MalformedMessage."""
    root = xml.read(body)
    if root.name != f"{{{_NS}}}presence":
        raise MalformedMessage("not a presence document")
    tuples = [child for child in root.children if child.name == f"{{{_NS}}}tuple"]
    if len(tuples) > _MOST_TUPLES:
        raise MalformedMessage("too many tuples", 413)
    for one in tuples:
        status = one.first(f"{{{_NS}}}status")
        if not one.attributes.get("id") or status is None:
            raise MalformedMessage("a tuple without id or status")
        basic = status.first(f"{{{_NS}}}basic")
        if basic is not None and basic.text.strip(" \t\r\n") not in ("open", "closed"):
            raise MalformedMessage("basic is neither open nor closed")
    return root


def is_open(one: Element) -> bool:
    """True for a tuple that says open."""
    status = one.first(f"{{{_NS}}}status")
    basic = status.first(f"{{{_NS}}}basic") if status is not None else None
    return basic is not None and basic.text.strip(" \t\r\n") == "open"


def merge(entity: str, documents: Iterable[Element]) -> Element:
    """One document of several publishers': the tuples of all, those that are open first, since many a watcher reads
    the first alone; ids stay what they were unless two are the same (RFC 3863 s4.1.2)."""
    tuples: list[Element] = []
    notes: list[Element] = []
    others: list[Element] = []
    ids: set[str] = set()
    for place, document in enumerate(documents):
        for child in document.children:
            child.tail = ""
            if "id" in child.attributes:
                if child.attributes["id"] in ids:
                    child.attributes["id"] = f"{child.attributes['id']}-{place}"
                ids.add(child.attributes["id"])
            if child.name == f"{{{_NS}}}tuple":
                tuples.append(child)
            elif child.name == f"{{{_NS}}}note":
                notes.append(child)
            else:
                others.append(child)
    tuples.sort(key=lambda one: not is_open(one))
    return Element(f"{{{_NS}}}presence", {"entity": uri_of_aor(entity)}, children=[
        *tuples[:_MOST_TUPLES], *notes[:_MOST_TUPLES], *others[:_MOST_TUPLES]])


def derived(entity: str, doing: str) -> Element:
    """The document of somebody for whom nobody publishes: `doing` is one of the words above."""
    basic = Element(f"{{{_NS}}}basic", text="closed" if doing == OFFLINE else "open")
    one = Element(f"{{{_NS}}}tuple", {"id": "sipd"}, children=[
        Element(f"{{{_NS}}}status", children=[basic]),
        Element(f"{{{_NS}}}contact", {"priority": "1"}, uri_of_aor(entity)),
        Element(f"{{{_NS}}}note", {_LANGUAGE: "en"}, doing)])
    children = [one]
    if doing in (RINGING, TALKING):
        # RFC 4480 s3.2: what simple watchers show as busy
        activities = Element(f"{{{_RPID}}}activities", children=[Element(f"{{{_RPID}}}on-the-phone")])
        children.append(Element(f"{{{_DM}}}person", {"id": "sipd-person"}, children=[activities]))
    return Element(f"{{{_NS}}}presence", {"entity": uri_of_aor(entity)}, children=children)


def written(document: Element, kind: str) -> str:
    """The document as a body of that type."""
    if kind == XPIDF:
        return _xpidf(document)
    if kind == CPIM:
        # the last drafts before PIDF: the same elements in another namespace
        return xml.write(document, _PREFIXES).replace(f'"{_NS}"', f'"{_CPIM_NS}"', 1)
    return xml.write(document, _PREFIXES)


def _xpidf(document: Element) -> str:
    """What phones of 2001 read: one address that is open, in use or closed."""
    tuples = [child for child in document.children if child.name == f"{{{_NS}}}tuple"]
    open_ = any(map(is_open, tuples))
    busy = any(element.name in (f"{{{_RPID}}}on-the-phone", f"{{{_RPID}}}busy") for element in document.walk())
    status, sub = ("closed", "offline") if not open_ else ("inuse", "onthephone") if busy else ("open", "online")
    entity = document.attributes["entity"]
    return ('<?xml version="1.0"?>\r\n'
            '<!DOCTYPE presence PUBLIC "-//IETF//DTD RFCxxxx XPIDF 1.0//EN" "xpidf.dtd">\r\n'
            f"<presence><presentity uri={xml.quoted(f'{entity};method=SUBSCRIBE')}/>"
            f'<atom id="sipd"><address uri={xml.quoted(f"{entity};user=ip")} priority="0.800000">'
            f'<status status="{status}"/><msnsubstatus substatus="{sub}"/></address></atom></presence>\r\n')
