"""The evidence item `gcp-vtpm` (FORMATS section 4.6): parsed into `GcpVtpmEvidence`, or put together from what the instance gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from rlu_attestation import canonical, crl, x509
from rlu_attestation.crl import CertificateList
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed
from rlu_attestation.evidence import max_item
from rlu_attestation.evidence.binding import BindingPath
from rlu_attestation.tpm import members
from rlu_attestation.tpm.members import TpmEvidence
from rlu_attestation.tpm.policy import PcrValues
from rlu_attestation.x509 import Certificate

KIND = "gcp-vtpm"
MAX_CHAIN = 4
MAX_CRLS = 4
_CODE = "gcp-vtpm.item"
_REQUIRED = members.REQUIRED | {"kind", "ak_certificate", "ak_chain", "root_certificate"}
_OPTIONAL = members.OPTIONAL | {"crls"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GcpVtpmEvidence(TpmEvidence):
    """A well-formed item. Nothing of it is verified: every field is the attester's word until its step has passed.

    Attributes:
        ak_certificate: Google's certificate for the attestation key, as it stands in the TPM's NV memory.
        ak_chain: intermediates.
        root_certificate: Google's root.
        crls: revocation lists of the authorities in the chain.
    """

    ak_certificate: Certificate
    ak_chain: tuple[Certificate, ...]
    root_certificate: Certificate
    crls: tuple[CertificateList, ...]


def parse(data: bytes) -> GcpVtpmEvidence:
    """Read an evidence item.

    Raises:
        Malformed: `statement.encoding`, `gcp-vtpm.item`, `encoding.base64url`, `x509.encoding`, `crl.encoding`, or the `tpm2.…` of the
            structure at fault.
        Unsupported: `tpm2.…` for an algorithm that is not implemented.
    """
    item = canonical.decode(data, max_item(KIND))
    if item.get("kind") != KIND:
        raise Malformed(_CODE, "not an evidence item of kind gcp-vtpm")
    if not _REQUIRED <= item.keys() <= _REQUIRED | _OPTIONAL:
        raise Malformed(_CODE, "a key is missing or unknown")
    tpm = members.parse_members(item, _CODE)
    return GcpVtpmEvidence(
        ak_certificate=x509.parse(_bytes(item["ak_certificate"])),
        ak_chain=tuple(x509.parse(der) for der in _array(item["ak_chain"], MAX_CHAIN, "ak_chain")),
        root_certificate=x509.parse(_bytes(item["root_certificate"])),
        crls=tuple(crl.parse(der) for der in _array(item.get("crls", []), MAX_CRLS, "crls")),
        ak_public=tpm.ak_public,
        key_public=tpm.key_public,
        certify=tpm.certify,
        quote=tpm.quote,
        pcrs=tpm.pcrs,
        binding=tpm.binding,
        event_log=tpm.event_log,
        ima_log=tpm.ima_log,
    )


def encode(
    *,
    ak_certificate: bytes,
    ak_chain: Sequence[bytes],
    root_certificate: bytes,
    ak_public: bytes,
    key_public: bytes,
    certify: tuple[bytes, bytes],
    quote: tuple[bytes, bytes],
    pcrs: PcrValues,
    binding: BindingPath,
    crls: Sequence[bytes] = (),
    event_log: bytes | None = None,
    ima_log: bytes | None = None,
) -> bytes:
    """Put an item together; `certify` and `quote` are (TPMS_ATTEST, TPMT_SIGNATURE), certificates and revocation lists are DER.

    Raises:
        RluError: something that `parse` would refuse.
    """
    item: dict[str, Any] = {
        "kind": KIND,
        "ak_certificate": b64u(ak_certificate),
        "ak_chain": [b64u(der) for der in ak_chain],
        "root_certificate": b64u(root_certificate),
    }
    item |= members.encode_members(
        ak_public=ak_public,
        key_public=key_public,
        certify=certify,
        quote=quote,
        pcrs=pcrs,
        binding=binding,
        event_log=event_log,
        ima_log=ima_log,
    )
    if crls:
        item["crls"] = [b64u(der) for der in crls]
    data = canonical.encode(item)
    parse(data)
    return data


def _array(value: object, most: int, what: str) -> list[bytes]:
    if not isinstance(value, list) or len(value) > most:
        raise Malformed(_CODE, f"{what} must be an array of at most {most}")
    return [_bytes(found) for found in value]


def _bytes(value: object) -> bytes:
    return unb64u(cast(str, value))  # unb64u refuses what is not a string
