"""XML from strangers, read with libxml2 behind a narrow door, and its canonical form.

What RIMs need no feature of is refused before the parser sees it: any markup declaration (so no document type, no entity, no CDATA
section, no comment), any processing instruction, any encoding but UTF-8, more tags and namespaces than a RIM ever has. The parser itself
may load nothing, expand nothing and has libxml2's limits on depth and size.

Canonical XML 1.1 without comments (W3C Recommendation, 2 May 2008) differs from 1.0, which libxml2 implements, only in how attributes of
the `xml:` namespace are inherited; documents that have any refuse, and then the two are one.

lxml is imported when the first document is read, so that importing this package does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from rlu_attestation.errors import Malformed

CODE = "nvidia.rim.encoding"
MAX_XML = 256 * 1024
MAX_DEPTH = 16
MAX_TAGS, MAX_NAMESPACES, MAX_ATTRIBUTES = 2048, 64, 128
"""In a document, in a document, of an element. Canonicalisation takes the product of elements and namespaces in time: it must be small."""
_XML_NAMESPACE = "{http://www.w3.org/XML/1998/namespace}"
_DECLARATION = re.compile(
    r"<\?xml version=(['\"])1\.0\1( encoding=(['\"])(UTF-8|utf-8)\3)?( standalone=(['\"])(yes|no)\6)?\s*\?>"
)


@dataclass(frozen=True, slots=True)
class Element:
    """An element with its attributes and element children; names in Clark notation, `{namespace}local`.

    Attributes:
        text: all character data directly inside, children's left out.
    """

    tag: str
    attributes: Mapping[str, str]
    text: str
    children: tuple[Element, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A document and what canonicalisation makes of it.

    Attributes:
        root: all of it.
        without: the canonical form of the document with the one child named `removed` taken out, as the enveloped-signature transform does.
        part: the canonical form of the element named `signed` inside that child.
    """

    root: Element
    without: bytes
    part: bytes


def read(data: bytes) -> Element:
    """The document's root element.

    Raises:
        Malformed: not UTF-8, too large, too deep, not well-formed, or with anything the module refuses (`nvidia.rim.encoding`).
    """
    return _convert(_parse(data), MAX_DEPTH)


def read_enveloped(data: bytes, removed: str, signed: str) -> Document:
    """A document with exactly one element named `removed`, a child of the root, which has exactly one child named `signed`.

    Raises:
        Malformed: what `read` raises, or another number of such elements (`nvidia.rim.xmldsig`).
    """
    root = _parse(data)
    tree = _convert(root, MAX_DEPTH)
    found = [child for child in root if child.tag == removed]
    if len(found) != 1 or sum(1 for _ in root.iter(removed)) != 1:
        raise Malformed(
            "nvidia.rim.xmldsig", "a document has exactly one signature, directly inside its root"
        )
    parts = [child for child in found[0] if child.tag == signed]
    if len(parts) != 1 or sum(1 for _ in root.iter(signed)) != 1:
        raise Malformed("nvidia.rim.xmldsig", "a signature has exactly one SignedInfo")
    part = _canonical(parts[0])
    return Document(tree, _canonical(_detach(root, found[0])), part)


def _parse(data: bytes) -> Any:
    from lxml import etree  # here, so that only a verification of NVIDIA evidence pays for it

    _check_door(data)
    parser = etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        no_network=True,
        huge_tree=False,
        recover=False,
        strip_cdata=False,
        remove_comments=False,
        remove_pis=False,
        collect_ids=False,
    )
    try:
        return etree.fromstring(data, parser)
    except (etree.LxmlError, ValueError) as error:
        raise Malformed(CODE, "not well-formed XML") from error


def _check_door(data: bytes) -> None:
    if len(data) > MAX_XML:
        raise Malformed(CODE, f"{len(data)} bytes, at most {MAX_XML} are accepted")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(CODE, "not UTF-8") from error
    declaration = _DECLARATION.match(text)
    body = text[declaration.end() :] if declaration else text
    if "<!" in body:
        raise Malformed(CODE, "document types, entities, comments and CDATA sections are not accepted")
    if "<?" in body:
        raise Malformed(CODE, "processing instructions and other encodings than UTF-8 are not accepted")
    if body.count("<") > MAX_TAGS or body.count("xmlns") > MAX_NAMESPACES:
        raise Malformed(CODE, f"more than {MAX_TAGS} tags or {MAX_NAMESPACES} namespaces")
    if body[:1] not in ("<", "\n", "\r", " ", "\t"):
        raise Malformed(CODE, "not an XML document")


def _convert(element: Any, depth: int) -> Element:
    if depth == 0 or not isinstance(element.tag, str):
        raise Malformed(
            CODE, f"nested deeper than {MAX_DEPTH}, or something that is neither element nor text"
        )
    if len(element.attrib) > MAX_ATTRIBUTES:
        raise Malformed(CODE, f"an element with more than {MAX_ATTRIBUTES} attributes")
    attributes = dict(element.attrib)
    if any(name.startswith(_XML_NAMESPACE) for name in attributes):
        raise Malformed(CODE, "attributes of the xml: namespace are not accepted")
    children = tuple(_convert(child, depth - 1) for child in element)
    text = (element.text or "") + "".join(child.tail or "" for child in element)
    return Element(element.tag, MappingProxyType(attributes), text, children)


def _canonical(element: Any) -> bytes:
    from lxml import etree

    try:
        found: bytes = etree.tostring(
            element, method="c14n", exclusive=False, with_comments=False, with_tail=False
        )
    except (etree.LxmlError, ValueError) as error:
        raise Malformed(CODE, "the document has no canonical form") from error
    return found


def _detach(root: Any, child: Any) -> Any:
    """Take a child out; the text after it stays."""
    tail, before = child.tail or "", child.getprevious()
    if before is None:
        root.text = (root.text or "") + tail
    else:
        before.tail = (before.tail or "") + tail
    child.tail = None
    root.remove(child)
    return root
