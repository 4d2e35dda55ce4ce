"""The attestation document of Nitro Enclaves and NitroTPM: a COSE_Sign1 over a CBOR map.

Sources: AWS, "Nitro Enclaves Attestation Process" sections 2 and 3, and "Validate a NitroTPM Attestation Document" of the EC2 user guide.

The two share form and certificate authority; an enclave's document has `pcrs`, an instance's has `nitrotpm_pcrs`. What is signed are the
payload's bytes as they came: they are kept, and never encoded again. An unknown field, header or algorithm refuses. Parsing proves nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from types import MappingProxyType

from rlu_attestation import x509
from rlu_attestation.errors import Malformed, Unsupported
from rlu_attestation.evidence.nitro import cbor
from rlu_attestation.x509 import Certificate

PCR_SIZE = 48
MAX_DOCUMENT = 20 * 1024
MAX_PAYLOAD = 16 * 1024
_MAX_CABUNDLE, _MAX_CERTIFICATE, _MAX_DATA, _MAX_MODULE_ID = 7, 1024, 1024, 256
_SIGNATURE_SIZE = 96
_PROTECTED = bytes.fromhex("a1013822")
"""{1: -35}: alg is ES384, and nothing else."""
_TAGGED, _UNTAGGED = 0xD2, 0x84
_MAX_TIMESTAMP = 253402300799999  # the last millisecond of the year 9999
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MANDATORY = frozenset({"module_id", "timestamp", "digest", "certificate", "cabundle"})
_OPTIONAL = frozenset({"public_key", "user_data", "nonce"})


class Kind(str, enum.Enum):
    """Which of the two; also the prefix of every code."""

    NITRO = "nitro"
    NITROTPM = "nitrotpm"

    @property
    def pcrs_field(self) -> str:
        return "pcrs" if self is Kind.NITRO else "nitrotpm_pcrs"

    @property
    def pcr_count(self) -> int:
        """PCR indexes that can occur."""
        return 32 if self is Kind.NITRO else 24


@dataclass(frozen=True, slots=True)
class AttestationDocument:
    """A document taken apart, under AWS's field names; nothing of it is verified.

    Attributes:
        raw: all of it.
        payload: the bytes that are signed, with `signature`, r ‖ s of 48 bytes each.
        timestamp: milliseconds since the epoch.
        pcrs: index to value of 48 bytes, from `pcrs` or `nitrotpm_pcrs`.
        cabundle: root first, the issuer of `certificate` last.
    """

    kind: Kind
    raw: bytes
    payload: bytes
    signature: bytes
    module_id: str
    timestamp: int
    digest: str
    pcrs: Mapping[int, bytes]
    certificate: Certificate
    cabundle: tuple[Certificate, ...]
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None

    @property
    def created(self) -> datetime:
        """The timestamp, to the millisecond."""
        return _EPOCH + timedelta(milliseconds=self.timestamp)

    @property
    def signed(self) -> bytes:
        """The Sig_structure (RFC 9052 section 4.4) around the raw payload; external data is empty."""
        return b"\x84\x6aSignature1" + _byte_string(_PROTECTED) + b"\x40" + _byte_string(self.payload)


def parse_document(data: bytes, kind: Kind | None = None) -> AttestationDocument:
    """Take a document apart.

    Args:
        data: COSE_Sign1, with its tag or without.
        kind: which of the two it must be; by default the document says.

    Raises:
        Malformed: `<kind>.cose.encoding`, `<kind>.document.encoding`, `.field`, `.kind`, `x509.encoding`; `nitro` where no kind is given.
        Unsupported: `<kind>.cose.algorithm`, `<kind>.document.unknown_field`, `.digest`.
    """
    prefix = (kind or Kind.NITRO).value
    payload, signature = _open(data, prefix)
    fields = cbor.decode(payload, f"{prefix}.document.encoding", MAX_PAYLOAD, indefinite=True)
    if not isinstance(fields, dict):
        raise Malformed(f"{prefix}.document.encoding", "the payload is not a map")
    found = _kind(fields, prefix)
    if kind is not None and found is not kind:
        raise Malformed(f"{prefix}.document.kind", f"the document is of kind {found.value}")
    return _Fields(fields, found).document(data, payload, signature)


def _open(data: bytes, prefix: str) -> tuple[bytes, bytes]:
    """Payload and signature of the COSE_Sign1."""
    code = f"{prefix}.cose.encoding"
    body = data[1:] if data[:1] == bytes([_TAGGED]) else data
    if body[:1] != bytes([_UNTAGGED]):
        raise Malformed(code, "not a COSE_Sign1")
    parts = cbor.decode(body, code, MAX_DOCUMENT)
    if not isinstance(parts, list) or len(parts) != 4:
        raise Malformed(code, "a COSE_Sign1 has four members")
    protected, unprotected, payload, signature = parts
    if not isinstance(protected, bytes) or not isinstance(payload, bytes) or not isinstance(signature, bytes):
        raise Malformed(code, "protected header, payload or signature is not a byte string")
    if protected != _PROTECTED:
        raise Unsupported(f"{prefix}.cose.algorithm", "the protected header is not exactly ES384")
    if unprotected != {}:
        raise Malformed(code, "unprotected headers are not accepted")
    if len(signature) != _SIGNATURE_SIZE:
        raise Malformed(code, f"an ES384 signature has {_SIGNATURE_SIZE} bytes")
    return payload, signature


def _kind(fields: Mapping[int | str, cbor.Value], prefix: str) -> Kind:
    found = [kind for kind in Kind if kind.pcrs_field in fields]
    if len(found) != 1:
        raise Malformed(f"{prefix}.document.kind", "a document has either pcrs or nitrotpm_pcrs")
    return found[0]


class _Fields:
    """Reads the payload's members, each with its own limits (section 3.2.2 of AWS's description)."""

    def __init__(self, fields: Mapping[int | str, cbor.Value], kind: Kind) -> None:
        self._fields = fields
        self._kind = kind
        known = _MANDATORY | _OPTIONAL | {kind.pcrs_field}
        unknown = [str(name)[:64] for name in fields if name not in known]
        if unknown:
            raise Unsupported(
                f"{kind.value}.document.unknown_field", f"fields {', '.join(unknown)} are not known"
            )

    def document(self, data: bytes, payload: bytes, signature: bytes) -> AttestationDocument:
        return AttestationDocument(
            kind=self._kind,
            raw=data,
            payload=payload,
            signature=signature,
            module_id=self._module_id(),
            timestamp=self._timestamp(),
            digest=self._digest(),
            pcrs=self._pcrs(),
            certificate=x509.parse(
                self._bytes("certificate", self._fields.get("certificate"), 1, _MAX_CERTIFICATE)
            ),
            cabundle=self._cabundle(),
            public_key=self._optional("public_key", 1),
            user_data=self._optional("user_data", 0),
            nonce=self._optional("nonce", 0),
        )

    def _module_id(self) -> str:
        value = self._fields.get("module_id")
        if not isinstance(value, str) or not 0 < len(value) <= _MAX_MODULE_ID or not value.isprintable():
            raise self._wrong("module_id", f"must be 1 to {_MAX_MODULE_ID} printable characters")
        return value

    def _timestamp(self) -> int:
        value = self._fields.get("timestamp")
        if not isinstance(value, int) or not 0 < value <= _MAX_TIMESTAMP:
            raise self._wrong("timestamp", "must be milliseconds since the epoch")
        return value

    def _digest(self) -> str:
        value = self._fields.get("digest")
        if not isinstance(value, str):
            raise self._wrong("digest", "must be text")
        if value != "SHA384":
            raise Unsupported(f"{self._kind.value}.document.digest", f"digest {value[:32]!r} is not SHA384")
        return value

    def _pcrs(self) -> Mapping[int, bytes]:
        name = self._kind.pcrs_field
        value = self._fields.get(name)
        if not isinstance(value, dict) or not value:
            raise self._wrong(name, "must be a map with at least one PCR")
        found: dict[int, bytes] = {}
        for index, pcr in value.items():
            if not isinstance(index, int) or not 0 <= index < self._kind.pcr_count:
                raise self._wrong(
                    name, f"holds index {str(index)[:16]}, beyond 0 to {self._kind.pcr_count - 1}"
                )
            if not isinstance(pcr, bytes) or len(pcr) != PCR_SIZE:
                raise self._wrong(name, f"holds a value that does not have the {PCR_SIZE} bytes of SHA384")
            found[index] = pcr
        return MappingProxyType(dict(sorted(found.items())))

    def _cabundle(self) -> tuple[Certificate, ...]:
        value = self._fields.get("cabundle")
        if not isinstance(value, list) or not 0 < len(value) <= _MAX_CABUNDLE:
            raise self._wrong("cabundle", f"must be an array of 1 to {_MAX_CABUNDLE} certificates")
        return tuple(x509.parse(self._bytes("cabundle", item, 1, _MAX_CERTIFICATE)) for item in value)

    def _optional(self, name: str, least: int) -> bytes | None:
        value = self._fields.get(name)
        return None if value is None else self._bytes(name, value, least, _MAX_DATA)

    def _bytes(self, name: str, value: cbor.Value, least: int, most: int) -> bytes:
        if not isinstance(value, bytes) or not least <= len(value) <= most:
            raise self._wrong(name, f"must be a byte string of {least} to {most} bytes")
        return value

    def _wrong(self, name: str, what: str) -> Malformed:
        return Malformed(f"{self._kind.value}.document.field", f"{name} {what}")


def _byte_string(data: bytes) -> bytes:
    """CBOR byte string with the shortest head."""
    size = len(data)
    if size < 24:
        return bytes([0x40 | size]) + data
    if size < 1 << 8:
        return b"\x58" + size.to_bytes(1, "big") + data
    return b"\x59" + size.to_bytes(2, "big") + data
