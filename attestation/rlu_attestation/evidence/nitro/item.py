"""The evidence items `nitro` and `nitrotpm` (FORMATS section 4.3): parsed into `NitroEvidence`, or put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from rlu_attestation import canonical, crl
from rlu_attestation.crl import CertificateList
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed
from rlu_attestation.evidence import MAX_ITEM
from rlu_attestation.evidence.binding import BindingPath, parse_binding
from rlu_attestation.evidence.nitro.document import AttestationDocument, Kind, parse_document

KINDS = (Kind.NITRO.value, Kind.NITROTPM.value)
MAX_CRLS = 4
_REQUIRED = frozenset({"kind", "document", "binding"})
_OPTIONAL = frozenset({"crls"})


@dataclass(frozen=True, slots=True)
class NitroEvidence:
    """A well-formed document with what is stapled to it. Nothing of it is verified until each step has passed.

    Attributes:
        crls: revocation lists of the authorities in the document's chain.
        binding: where the statement's binding is in the tree that `user_data` holds the root of; None for a document without an item.
    """

    document: AttestationDocument
    crls: tuple[CertificateList, ...]
    binding: BindingPath | None

    @property
    def kind(self) -> Kind:
        return self.document.kind


def parse(data: bytes) -> NitroEvidence:
    """Read an evidence item.

    Raises:
        Malformed: `statement.encoding`, `<kind>.item`, `encoding.base64url`, `crl.encoding`, or what `parse_document` raises.
        Unsupported: what `parse_document` raises.
    """
    item = canonical.decode(data, MAX_ITEM)
    if item.get("kind") not in KINDS:
        raise Malformed("nitro.item", "not an evidence item of kind nitro or nitrotpm")
    kind = Kind(item["kind"])
    code = f"{kind.value}.item"
    if not _REQUIRED <= item.keys() <= _REQUIRED | _OPTIONAL:
        raise Malformed(code, "a key is missing or unknown")
    lists = item.get("crls", [])
    if not isinstance(lists, list) or len(lists) > MAX_CRLS:
        raise Malformed(code, f"crls must be an array of at most {MAX_CRLS}")
    return from_parts(
        _bytes(item["document"]),
        kind,
        crls=[_bytes(found) for found in lists],
        binding=parse_binding(item["binding"], code),
    )


def from_parts(
    document: bytes,
    kind: Kind | None = None,
    *,
    crls: Sequence[bytes] = (),
    binding: BindingPath | None = None,
) -> NitroEvidence:
    """Evidence from a bare document, with revocation lists in DER; raises what `parse` raises."""
    return NitroEvidence(parse_document(document, kind), tuple(crl.parse(found) for found in crls), binding)


def encode(kind: Kind, *, document: bytes, binding: BindingPath, crls: Sequence[bytes] = ()) -> bytes:
    """Put an item together; revocation lists are DER.

    Raises:
        RluError: something that `parse` would refuse.
    """
    item: dict[str, Any] = {"kind": kind.value, "document": b64u(document), "binding": binding.to_json()}
    if crls:
        item["crls"] = [b64u(found) for found in crls]
    data = canonical.encode(item)
    parse(data)
    return data


def _bytes(value: object) -> bytes:
    return unb64u(cast(str, value))  # unb64u refuses what is not a string
