"""RIMs: NVIDIA's signed reference values for one version of a driver, a VBIOS or a switch BIOS.

A RIM is a SWID tag (ISO/IEC 19770-2:2015; TCG Reference Integrity Manifest Information Model 1.01) with an enveloped XML signature (W3C
XML Signature 1.1): exactly one, directly inside the root, over the whole document (`URI=""`), transforms enveloped-signature and Canonical
XML 1.1, ECDSA P-384 with SHA-384. Nothing else is accepted, so there is nothing to wrap, to point elsewhere or to negotiate. The reference
values are read from the canonical bytes that the signature's digest is over, never from the document as it came.

Not proved by a RIM: for which board it is. NVIDIA files VBIOS RIMs by project and SKU, but neither is in the signed document.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from rlu_attestation import x509
from rlu_attestation.errors import Malformed, Unsupported
from rlu_attestation.evidence.nvidia.opaque import DeviceKind
from rlu_attestation.evidence.nvidia.xmltree import Element, read, read_enveloped
from rlu_attestation.x509 import Certificate

XMLDSIG, CONTENT, ALGORITHM = "nvidia.rim.xmldsig", "nvidia.rim.content", "nvidia.rim.algorithm"
MAX_INDEX = 254
_MAX_CERTIFICATES, _MAX_ALTERNATIVES, _DIGEST_SIZE, _SIGNATURE_SIZE = 8, 64, 48, 96

_DS = "{http://www.w3.org/2000/09/xmldsig#}"
_SWID = "{http://standards.iso.org/iso/19770/-2/2015/schema.xsd}"
_HASH = "{http://www.w3.org/2001/04/xmlenc#sha384}Hash"
_C14N_1_1 = "http://www.w3.org/2006/12/xml-c14n11"
_ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_ECDSA_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#sha384"
_EDITIONS = {"GPU": DeviceKind.GPU, "SWITCH": DeviceKind.SWITCH}
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,2}", re.ASCII)
_HEX_DIGEST = re.compile(r"[0-9a-fA-F]{96}", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ReferenceValue:
    """One golden measurement: the device's block `index` + 1 has to be one of `alternatives`, if it is active."""

    index: int
    name: str
    active: bool
    alternatives: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Rim:
    """A reference integrity manifest taken apart. Nothing about it is verified.

    Attributes:
        raw: the document as it came.
        kind, product, version: `edition`, `product` and `colloquialVersion` of its `Meta` element: of GPU or switch, chip, what version.
        tag_id: `tagId` of the tag.
        values: every golden measurement, by index.
        signed: canonical bytes of the document without its signature; all of the above was read from them.
        digest: what SignedInfo says is their SHA-384.
        signed_info: canonical bytes of SignedInfo.
        signature: r ‖ s, 48 bytes each.
        certificates: as in KeyInfo, signer first.
    """

    raw: bytes
    kind: DeviceKind
    product: str
    version: str
    tag_id: str
    values: tuple[ReferenceValue, ...]
    signed: bytes
    digest: bytes
    signed_info: bytes
    signature: bytes
    certificates: tuple[Certificate, ...]

    @property
    def active(self) -> tuple[ReferenceValue, ...]:
        return tuple(value for value in self.values if value.active)


def parse_rim(data: bytes) -> Rim:
    """Read a RIM.

    Raises:
        Malformed: not XML, or XML with what strangers' XML may not have (`nvidia.rim.encoding`); another structure of the signature
            (`nvidia.rim.xmldsig`) or of the tag (`nvidia.rim.content`).
        Unsupported: another algorithm, transform or reference (`nvidia.rim.algorithm`), or a kind of payload (`nvidia.rim.content`).
    """
    document = read_enveloped(data, f"{_DS}Signature", f"{_DS}SignedInfo")
    signature = next(child for child in document.root.children if child.tag == f"{_DS}Signature")
    signed_info, value, key_info = _children(signature, "SignedInfo", "SignatureValue", "KeyInfo")
    tag = read(document.without)
    if tag.tag != f"{_SWID}SoftwareIdentity":
        raise Malformed(CONTENT, "not a SWID tag")
    meta = _one(tag, "Meta")
    edition = _attribute(meta, "edition")
    if edition not in _EDITIONS:
        raise Unsupported(CONTENT, f"edition {edition} is neither GPU nor SWITCH")
    if _attribute(meta, "PayloadType") != "direct":
        raise Unsupported(CONTENT, "reference values outside the document are not accepted")
    return Rim(
        raw=data,
        kind=_EDITIONS[edition],
        product=_attribute(meta, "product"),
        version=_attribute(meta, "colloquialVersion"),
        tag_id=_attribute(tag, "tagId", 128),
        values=_values(_one(tag, "Payload")),
        signed=document.without,
        digest=_digest(signed_info),
        signed_info=document.part,
        signature=_base64(value, _SIGNATURE_SIZE),
        certificates=_certificates(key_info),
    )


def _digest(signed_info: Element) -> bytes:
    method, signature_method, reference = _children(
        signed_info, "CanonicalizationMethod", "SignatureMethod", "Reference"
    )
    _algorithm(method, _C14N_1_1)
    _algorithm(signature_method, _ECDSA_SHA384)
    if dict(reference.attributes) != {"URI": ""}:
        raise Unsupported(ALGORITHM, "a signature refers to the document it stands in, and to nothing else")
    transforms, digest_method, digest = _children(
        reference, "Transforms", "DigestMethod", "DigestValue", attributes=True
    )
    enveloped, canonical = _children(transforms, "Transform", "Transform")
    _algorithm(enveloped, _ENVELOPED)
    _algorithm(canonical, _C14N_1_1)
    _algorithm(digest_method, _SHA384)
    return _base64(digest, _DIGEST_SIZE)


def _algorithm(element: Element, expected: str) -> None:
    if dict(element.attributes).keys() != {"Algorithm"} or element.children or element.text.strip():
        raise Unsupported(ALGORITHM, f"{_local(element)} has parameters")
    if element.attributes["Algorithm"] != expected:
        raise Unsupported(ALGORITHM, f"{_local(element)} is {element.attributes['Algorithm']!r}")


def _certificates(key_info: Element) -> tuple[Certificate, ...]:
    (data,) = _children(key_info, "X509Data")
    if data.attributes or data.text.strip() or not 1 <= len(data.children) <= _MAX_CERTIFICATES:
        raise Malformed(XMLDSIG, f"X509Data holds 1 to {_MAX_CERTIFICATES} certificates")
    found = []
    for child in data.children:
        if child.tag != f"{_DS}X509Certificate":
            raise Malformed(XMLDSIG, "X509Data holds certificates and nothing else")
        found.append(x509.parse(_base64(child)))
    return tuple(found)


def _base64(element: Element, size: int | None = None) -> bytes:
    if element.attributes or element.children:
        raise Malformed(XMLDSIG, f"{_local(element)} holds base64 and nothing else")
    try:
        data = base64.b64decode("".join(element.text.split()).encode("ascii"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(XMLDSIG, f"{_local(element)} is not base64") from error
    if size is not None and len(data) != size:
        raise Malformed(XMLDSIG, f"{_local(element)} has {len(data)} bytes, not {size}")
    return data


def _children(element: Element, *names: str, attributes: bool = False) -> tuple[Element, ...]:
    """The children, which must be exactly these, with white space between them only."""
    if [child.tag for child in element.children] != [_DS + name for name in names] or element.text.strip():
        raise Malformed(XMLDSIG, f"{_local(element)} does not hold exactly {', '.join(names)}")
    if element.attributes and not attributes:
        raise Malformed(XMLDSIG, f"{_local(element)} has attributes")
    return element.children


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _one(tag: Element, name: str) -> Element:
    found = [child for child in tag.children if child.tag == _SWID + name]
    if len(found) != 1:
        raise Malformed(CONTENT, f"a RIM has exactly one {name}")
    return found[0]


def _attribute(element: Element, name: str, longest: int = 64) -> str:
    text = element.attributes.get(name, "")
    if not 0 < len(text) <= longest or _WORD.fullmatch(text[:64]) is None:
        raise Malformed(CONTENT, f"{name} of {_local(element)} is missing or not a short word")
    return text


def _values(payload: Element) -> tuple[ReferenceValue, ...]:
    found: dict[int, ReferenceValue] = {}
    for child in payload.children:
        value = _value(child)
        if value.index in found:
            raise Malformed(CONTENT, f"measurement {value.index} occurs twice")
        found[value.index] = value
    if not any(value.active for value in found.values()):
        raise Malformed(CONTENT, "a RIM without active measurements says nothing")
    return tuple(found[index] for index in sorted(found))


def _value(resource: Element) -> ReferenceValue:
    attributes = resource.attributes
    if resource.tag != f"{_SWID}Resource" or attributes.get("type") != "Measurement" or resource.children:
        raise Unsupported(CONTENT, "a payload holds measurements and nothing else")
    index = _number(attributes.get("index"), "index", 0, MAX_INDEX)
    count = _number(attributes.get("alternatives"), "alternatives", 1, _MAX_ALTERNATIVES)
    if attributes.get("active") not in ("True", "False") or attributes.get("size") != str(_DIGEST_SIZE):
        raise Malformed(CONTENT, f"measurement {index}: active is True or False, and size {_DIGEST_SIZE}")
    hashes = {name: value for name, value in attributes.items() if name.startswith("{")}
    expected = [f"{_HASH}{number}" for number in range(count)]
    if set(hashes) != set(expected):
        raise Malformed(CONTENT, f"measurement {index} does not have exactly {count} hashes")
    if any(_HEX_DIGEST.fullmatch(value) is None for value in hashes.values()):
        raise Malformed(CONTENT, f"a hash of measurement {index} is not a SHA-384 digest")
    alternatives = tuple(bytes.fromhex(hashes[name]) for name in expected)
    return ReferenceValue(index, attributes.get("name", ""), attributes.get("active") == "True", alternatives)


def _number(text: str | None, name: str, least: int, most: int) -> int:
    if text is None or _DECIMAL.fullmatch(text) is None or not least <= int(text) <= most:
        raise Malformed(CONTENT, f"{name} is not a number from {least} to {most}")
    return int(text)
