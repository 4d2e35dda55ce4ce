"""X.509 certificates, taken apart (RFC 5280 section 4).

`parse` gives a `Certificate` that proves nothing; `rlu_attestation.chain` verifies. Names are kept as DER bytes and never taken apart, so
that the names of real vendor roots that `cryptography` refuses to load (see `der`) are no obstacle.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from rlu_attestation import der
from rlu_attestation.errors import Malformed, Unsupported

CODE = "x509.encoding"
MAX_CERTIFICATE = 16 * 1024
MAX_PEM = 1024 * 1024

BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE = "2.5.29.19", "2.5.29.15", "2.5.29.37"
SUBJECT_ALTERNATIVE_NAME, CERTIFICATE_POLICIES = "2.5.29.17", "2.5.29.32"

DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, KEY_AGREEMENT, KEY_CERT_SIGN = 0, 2, 4, 5
"""Bits of keyUsage (RFC 5280 section 4.2.1.3)."""

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})


@dataclass(frozen=True, slots=True)
class Extension:
    oid: str
    critical: bool
    value: bytes


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate taken apart. Nothing about it is verified.

    `issuer`, `subject` and `spki` (SubjectPublicKeyInfo) are the DER as it stands in the certificate.
    """

    raw: bytes
    tbs: bytes
    version: int
    serial: int
    issuer: bytes
    subject: bytes
    not_before: datetime
    not_after: datetime
    spki: bytes
    extensions: tuple[Extension, ...]
    signature_algorithm: bytes
    signature: bytes

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the DER, 32 bytes."""
        return hashlib.sha256(self.raw).digest()

    @property
    def spki_sha256(self) -> bytes:
        """SHA-256 of the DER SubjectPublicKeyInfo, 32 bytes."""
        return hashlib.sha256(self.spki).digest()

    def extension(self, oid: str) -> Extension | None:
        return next((found for found in self.extensions if found.oid == oid), None)

    def public_key(self) -> PublicKey:
        """The subject's key.

        Raises:
            Malformed: not a SubjectPublicKeyInfo.
            Unsupported: neither RSA nor on P-256, P-384 or P-521 (`x509.key`).
        """
        try:
            key = load_der_public_key(self.spki)
        except UnsupportedAlgorithm as error:
            raise Unsupported("x509.key", "the certificate's key is of an unknown kind") from error
        except ValueError as error:
            raise Malformed(CODE, "the certificate's key is not a public key") from error
        if isinstance(key, rsa.RSAPublicKey):
            return key
        if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
            return key
        raise Unsupported("x509.key", "the certificate's key is neither RSA nor on a NIST curve")

    def basic_constraints(self) -> tuple[bool, int | None] | None:
        """`(cA, pathLenConstraint)`, or None without the extension."""
        found = self.extension(BASIC_CONSTRAINTS)
        if found is None:
            return None
        outer = reader(found.value)
        body = outer.inside(der.SEQUENCE, "basicConstraints")
        outer.end()
        authority = body.next_is(der.BOOLEAN) and body.boolean("cA")
        length = body.integer("pathLenConstraint") if body.next_is(der.INTEGER) else None
        body.end()
        return authority, length

    def key_usage(self) -> frozenset[int] | None:
        """Numbers of the bits that are set, or None without the extension."""
        found = self.extension(KEY_USAGE)
        if found is None:
            return None
        outer = reader(found.value)
        content, _ = outer.bit_string("keyUsage")
        outer.end()
        return frozenset(
            8 * i + bit for i, byte in enumerate(content) for bit in range(8) if byte & 0x80 >> bit
        )

    def extended_key_usage(self) -> frozenset[str] | None:
        """Object identifiers of the purposes, or None without the extension."""
        found = self.extension(EXTENDED_KEY_USAGE)
        if found is None:
            return None
        outer = reader(found.value)
        body = outer.inside(der.SEQUENCE, "extKeyUsage")
        outer.end()
        purposes = set()
        while body.remaining:
            purposes.add(body.oid("KeyPurposeId"))
        return frozenset(purposes)


def parse(data: bytes) -> Certificate:
    """Take a DER certificate apart.

    Raises:
        Malformed: not exactly one certificate (`x509.encoding`); a TPM's padding must have been trimmed before.
    """
    outer = reader(data)
    body = outer.inside(der.SEQUENCE, "Certificate")
    outer.end()
    tbs = body.element(der.SEQUENCE, "tbsCertificate")
    algorithm = body.element(der.SEQUENCE, "signatureAlgorithm")
    signature, unused = body.bit_string("signatureValue")
    body.end()
    fields = reader(tbs.content)
    version = _version(fields)
    serial = fields.integer("serialNumber")
    if fields.element(der.SEQUENCE, "signature").raw != algorithm.raw or unused:
        raise Malformed(CODE, "the signed and the outer signature algorithm differ")
    issuer = fields.element(der.SEQUENCE, "issuer").raw
    validity = fields.inside(der.SEQUENCE, "validity")
    not_before, not_after = validity.time("notBefore"), validity.time("notAfter")
    validity.end()
    subject = fields.element(der.SEQUENCE, "subject").raw
    spki = fields.element(der.SEQUENCE, "subjectPublicKeyInfo").raw
    extensions = _extensions(fields, version)
    fields.end()
    certificate = Certificate(
        data,
        tbs.raw,
        version,
        serial,
        issuer,
        subject,
        not_before,
        not_after,
        spki,
        extensions,
        algorithm.raw,
        signature,
    )
    # Refuse here what would otherwise refuse in the middle of a verification.
    certificate.basic_constraints()
    certificate.key_usage()
    certificate.extended_key_usage()
    algorithm_identifier(algorithm.raw)
    return certificate


def parse_many(data: bytes) -> tuple[Certificate, ...]:
    """The certificates of a file: one DER certificate, or any number in PEM with free text between them.

    Raises:
        Malformed: neither, or more than 1 MiB.
    """
    if len(data) > MAX_PEM:
        raise Malformed(CODE, f"a certificate file has at most {MAX_PEM} bytes")
    if data[:1] == bytes([der.SEQUENCE]):
        return (parse(data),)
    found = pem_blocks(data)
    if not found or any(label != b"CERTIFICATE" for label, _ in found):
        raise Malformed(CODE, "expected certificates in PEM, and nothing else in PEM")
    return tuple(parse(content) for _, content in found)


def pem_blocks(data: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Label and content of every PEM block (RFC 7468), with free text between them; in time linear in their size.

    Raises:
        Malformed: a block without its end, or not base64 (`x509.encoding`).
    """
    found = []
    for part in data.split(b"-----BEGIN ")[1:]:
        label, mark, rest = part.partition(b"-----")
        block, end, _ = rest.partition(b"-----END " + label + b"-----")
        if not mark or not end:
            raise Malformed(CODE, "a PEM block has no end")
        try:
            found.append((label, base64.b64decode(b"".join(block.split()), validate=True)))
        except binascii.Error as error:
            raise Malformed(CODE, "a PEM block is not base64") from error
    return tuple(found)


def to_pem(*certificates: Certificate) -> bytes:
    """Certificates in PEM as RFC 7468 has generators write it: lines of 64 characters, each ended by a line feed."""
    lines = []
    for certificate in certificates:
        text = base64.b64encode(certificate.raw)
        body = [text[start : start + 64] for start in range(0, len(text), 64)]
        lines += [b"-----BEGIN CERTIFICATE-----", *body, b"-----END CERTIFICATE-----"]
    return b"".join(line + b"\n" for line in lines)


def reader(data: bytes, code: str = CODE) -> der.Reader:
    """A DER reader with the size limit of certificates."""
    return der.Reader(data, code, MAX_CERTIFICATE)


def _version(fields: der.Reader) -> int:
    if not fields.next_is(der.context(0)):
        return 1
    wrapper = fields.inside(der.context(0), "version")
    version = wrapper.integer("version") + 1
    wrapper.end()
    if version not in (2, 3):
        raise Malformed(CODE, "certificates have version 1, 2 or 3")
    return version


def _extensions(fields: der.Reader, version: int) -> tuple[Extension, ...]:
    for number in (1, 2):
        if version > 1 and fields.next_is(der.context(number, constructed=False)):
            fields.any("uniqueIdentifier")
    if version != 3 or not fields.remaining:
        return ()
    wrapper = fields.inside(der.context(3), "extensions")
    body = wrapper.inside(der.SEQUENCE, "extensions")
    wrapper.end()
    found: dict[str, Extension] = {}
    while body.remaining:
        item = body.inside(der.SEQUENCE, "Extension")
        oid = item.oid("extnID")
        critical = item.next_is(der.BOOLEAN) and item.boolean("critical")
        value = item.element(der.OCTET_STRING, "extnValue").content
        item.end()
        if oid in found:
            raise Malformed(CODE, f"extension {oid} occurs twice")
        found[oid] = Extension(oid, critical, value)
    return tuple(found.values())


def algorithm_identifier(identifier: bytes) -> tuple[str, bytes]:
    """Object identifier and DER parameters (empty when absent) of an AlgorithmIdentifier."""
    outer = reader(identifier)
    body = outer.inside(der.SEQUENCE, "AlgorithmIdentifier")
    oid = body.oid("algorithm")
    parameters = body.any("parameters").raw if body.remaining else b""
    body.end()
    outer.end()
    return oid, parameters
