"""OCSP responses (RFC 6960 section 4.2.1), taken apart; `revocation` verifies them.

Not done here: certificate identifiers hashed with SHA-1.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from rlu_attestation import der, x509
from rlu_attestation.errors import Malformed, Unsupported
from rlu_attestation.x509 import Certificate, algorithm_identifier

CODE = "nvidia.ocsp.encoding"
MAX_RESPONSE = 64 * 1024
_MAX_CERTIFICATES, _MAX_SINGLE = 4, 64
_BASIC, _NONCE = "1.3.6.1.5.5.7.48.1.1", "1.3.6.1.5.5.7.48.1.2"
_ENUMERATED, _GOOD, _REVOKED, _UNKNOWN = 0x0A, 0x80, 0xA1, 0x82
_CERTIFICATE_HOLD = 6
_HASHES = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}


class Status(Enum):
    GOOD = "good"
    REVOKED = "revoked"
    CERTIFICATE_HOLD = "certificate_hold"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SingleResponse:
    """What a responder says about one certificate, named by hashes of its issuer's name and key and by its serial number."""

    hash_algorithm: str
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial: int
    status: Status
    this_update: datetime
    next_update: datetime | None

    def is_about(self, certificate: Certificate, issuer: Certificate) -> bool:
        return self.serial == certificate.serial and (
            self.issuer_name_hash,
            self.issuer_key_hash,
        ) == _identity(self.hash_algorithm, issuer)


@dataclass(frozen=True, slots=True)
class Response:
    """A successful basic OCSP response taken apart. Nothing about it is verified."""

    raw: bytes
    tbs: bytes
    singles: tuple[SingleResponse, ...]
    signature_algorithm: bytes
    signature: bytes
    certificates: tuple[Certificate, ...]


def parse(data: bytes) -> Response:
    """Take a DER OCSP response apart.

    Raises:
        Malformed: not exactly one response, or not a successful one (`nvidia.ocsp.encoding`).
        Unsupported: another kind of response, a critical extension, or a hash that is not accepted (`nvidia.ocsp.unsupported`).
    """
    outer = _reader(data)
    body = outer.inside(der.SEQUENCE, "OCSPResponse")
    outer.end()
    if body.element(_ENUMERATED, "responseStatus").content != b"\x00":
        raise Malformed(CODE, "the responder answered with an error")
    wrapper = body.inside(der.context(0), "responseBytes")
    body.end()
    typed = wrapper.inside(der.SEQUENCE, "ResponseBytes")
    wrapper.end()
    kind = typed.oid("responseType")
    basic = typed.element(der.OCTET_STRING, "response").content
    typed.end()
    if kind != _BASIC:
        raise Unsupported("nvidia.ocsp.unsupported", f"response type {kind} is not id-pkix-ocsp-basic")
    return _basic(data, basic)


def _basic(raw: bytes, data: bytes) -> Response:
    outer = _reader(data)
    body = outer.inside(der.SEQUENCE, "BasicOCSPResponse")
    outer.end()
    tbs = body.element(der.SEQUENCE, "tbsResponseData")
    algorithm = body.element(der.SEQUENCE, "signatureAlgorithm").raw
    algorithm_identifier(algorithm)
    signature, unused = body.bit_string("signature")
    certificates = _certificates(body) if body.remaining else ()
    body.end()
    if unused:
        raise Malformed(CODE, "a signature has whole bytes")
    return Response(raw, tbs.raw, _response_data(tbs.content), algorithm, signature, certificates)


def _certificates(body: der.Reader) -> tuple[Certificate, ...]:
    wrapper = body.inside(der.context(0), "certs")
    items = wrapper.inside(der.SEQUENCE, "certs")
    wrapper.end()
    found = []
    while items.remaining:
        found.append(x509.parse(items.element(der.SEQUENCE, "Certificate").raw))
        if len(found) > _MAX_CERTIFICATES:
            raise Malformed(CODE, f"more than {_MAX_CERTIFICATES} certificates")
    return tuple(found)


def _response_data(content: bytes) -> tuple[SingleResponse, ...]:
    fields = _reader(content)
    # responderID only helps to find the responder's certificate; who signed is found by trying.
    responder = fields.any("responderID")
    if responder.tag not in (der.context(1), der.context(2)):
        raise Malformed(CODE, "not a response of version 1 with a responderID")
    fields.time("producedAt")
    items = fields.inside(der.SEQUENCE, "responses")
    if fields.remaining:
        _extensions(fields.inside(der.context(1), "responseExtensions"))
    fields.end()
    found = []
    while items.remaining:
        found.append(_single(items.inside(der.SEQUENCE, "SingleResponse")))
        if len(found) > _MAX_SINGLE:
            raise Malformed(CODE, f"more than {_MAX_SINGLE} answers")
    if not found:
        raise Malformed(CODE, "a response answers for no certificate")
    return tuple(found)


def _single(body: der.Reader) -> SingleResponse:
    cert_id = body.inside(der.SEQUENCE, "certID")
    algorithm, _ = algorithm_identifier(cert_id.element(der.SEQUENCE, "hashAlgorithm").raw)
    name_hash = cert_id.element(der.OCTET_STRING, "issuerNameHash").content
    key_hash = cert_id.element(der.OCTET_STRING, "issuerKeyHash").content
    serial = cert_id.integer("serialNumber")
    cert_id.end()
    if algorithm not in _HASHES:
        raise Unsupported("nvidia.ocsp.unsupported", f"hash {algorithm} of a certificate identifier")
    status = _status(body)
    this_update = body.time("thisUpdate")
    next_update = None
    if body.next_is(der.context(0)):
        wrapper = body.inside(der.context(0), "nextUpdate")
        next_update = wrapper.time("nextUpdate")
        wrapper.end()
    if body.remaining:
        _extensions(body.inside(der.context(1), "singleExtensions"))
    body.end()
    return SingleResponse(_HASHES[algorithm], name_hash, key_hash, serial, status, this_update, next_update)


def _status(body: der.Reader) -> Status:
    found = body.any("certStatus")
    if found.tag in (_GOOD, _UNKNOWN) and not found.content:
        return Status.GOOD if found.tag == _GOOD else Status.UNKNOWN
    if found.tag != _REVOKED:
        raise Malformed(CODE, f"certStatus has tag 0x{found.tag:02x}")
    info = _reader(found.content)
    info.time("revocationTime")
    reason = b""
    if info.remaining:
        wrapper = info.inside(der.context(0), "revocationReason")
        reason = wrapper.element(_ENUMERATED, "CRLReason").content
        wrapper.end()
    info.end()
    return Status.CERTIFICATE_HOLD if reason == bytes([_CERTIFICATE_HOLD]) else Status.REVOKED


def _extensions(wrapper: der.Reader) -> None:
    body = wrapper.inside(der.SEQUENCE, "Extensions")
    wrapper.end()
    while body.remaining:
        item = body.inside(der.SEQUENCE, "Extension")
        oid = item.oid("extnID")
        critical = item.next_is(der.BOOLEAN) and item.boolean("critical")
        item.element(der.OCTET_STRING, "extnValue")
        item.end()
        # A nonce only tells whoever asked that the answer was made for the question.
        if critical and oid != _NONCE:
            raise Unsupported("nvidia.ocsp.unsupported", f"critical extension {oid} is not understood")


@functools.lru_cache(maxsize=256)
def _identity(algorithm: str, issuer: Certificate) -> tuple[bytes, bytes]:
    """Hashes of an issuer's name and key; kept, since a stranger can send thousands of answers about one certificate."""
    return (
        hashlib.new(algorithm, issuer.subject).digest(),
        hashlib.new(algorithm, _key_bits(issuer)).digest(),
    )


def _key_bits(certificate: Certificate) -> bytes:
    """The subjectPublicKey's bits, which a certificate identifier hashes without tag, length and unused bits."""
    body = _reader(certificate.spki).inside(der.SEQUENCE, "SubjectPublicKeyInfo")
    body.element(der.SEQUENCE, "algorithm")
    bits, _ = body.bit_string("subjectPublicKey")
    return bits


def _reader(data: bytes) -> der.Reader:
    return der.Reader(data, CODE, MAX_RESPONSE)
