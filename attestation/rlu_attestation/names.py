"""Distinguished names, taken apart only as far as a vendor's profile gives their text a meaning.

Trust never rests on it alone: chains compare names as bytes (`rlu_attestation.chain`).
"""

from __future__ import annotations

from rlu_attestation import der, x509
from rlu_attestation.errors import Malformed

_COMMON_NAME = "2.5.4.3"
_STRINGS = frozenset({0x0C, 0x13, 0x16})  # UTF8String, PrintableString, IA5String
_MAX_TEXT = 128


def common_name(name: bytes, code: str) -> str:
    """The one common name in a DER name.

    Args:
        name: issuer or subject of a certificate.
        code: stable code of the refusals that are not about the encoding.

    Raises:
        Malformed: none or several, or not printable ASCII (`code`); not DER (`x509.encoding`).
    """
    outer = x509.reader(name)
    rdns = outer.inside(der.SEQUENCE, "Name")
    outer.end()
    found = []
    while rdns.remaining:
        rdn = rdns.inside(der.SET, "RelativeDistinguishedName")
        while rdn.remaining:
            pair = rdn.inside(der.SEQUENCE, "AttributeTypeAndValue")
            oid, value = pair.oid("type"), pair.any("value")
            pair.end()
            if oid == _COMMON_NAME and value.tag in _STRINGS:
                found.append(printable(value.content, code))
    if len(found) != 1:
        raise Malformed(code, "the certificate's name does not have exactly one common name")
    return found[0]


def printable(content: bytes, code: str) -> str:
    """Text of 1 to 128 printable ASCII characters; anything else refuses with `Malformed` and the code."""
    text = content.decode("ascii") if content.isascii() else ""
    if not 0 < len(text) <= _MAX_TEXT or not text.isprintable():
        raise Malformed(code, f"a text is not 1 to {_MAX_TEXT} characters of printable ASCII")
    return text
