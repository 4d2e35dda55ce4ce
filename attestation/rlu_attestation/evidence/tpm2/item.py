"""The evidence item of FORMATS section 4: parsed into `Tpm2Evidence`, or put together from what the TPM gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from rlu_attestation import canonical, x509
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed
from rlu_attestation.evidence import max_item
from rlu_attestation.evidence.binding import BindingPath
from rlu_attestation.tpm import members
from rlu_attestation.tpm.members import TpmEvidence
from rlu_attestation.tpm.policy import PcrValues

KIND = "tpm2"
MAX_CHAIN = 8
_CODE = "tpm2.item"
_REQUIRED = members.REQUIRED | {"kind", "ek_certificate", "ek_chain", "ak_certificate", "ak_chain"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tpm2Evidence(TpmEvidence):
    """A well-formed evidence item. Nothing of it is verified: every field is the attester's word until its step has passed."""

    raw: bytes
    ek_certificate: x509.Certificate
    ek_chain: tuple[x509.Certificate, ...]
    ak_certificate: x509.Certificate
    ak_chain: tuple[x509.Certificate, ...]


def parse(data: bytes) -> Tpm2Evidence:
    """Read an evidence item.

    Raises:
        Malformed: `statement.encoding`, `tpm2.item`, `encoding.base64url`, `x509.encoding`, or the `tpm2.…` of the structure at fault.
        Unsupported: `tpm2.…` for an algorithm that is not implemented.
    """
    item = canonical.decode(data, max_item(KIND))
    if item.get("kind") != KIND:
        raise Malformed(_CODE, "not an evidence item of kind tpm2")
    if not _REQUIRED <= item.keys() <= _REQUIRED | members.OPTIONAL:
        raise Malformed(_CODE, "a key is missing or unknown")
    tpm = members.parse_members(item, _CODE)
    return Tpm2Evidence(
        raw=data,
        ek_certificate=x509.parse(_bytes(item["ek_certificate"])),
        ek_chain=_chain(item["ek_chain"]),
        ak_certificate=x509.parse(_bytes(item["ak_certificate"])),
        ak_chain=_chain(item["ak_chain"]),
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
    ek_certificate: bytes,
    ek_chain: Sequence[bytes],
    ak_public: bytes,
    ak_certificate: bytes,
    ak_chain: Sequence[bytes],
    key_public: bytes,
    certify: tuple[bytes, bytes],
    quote: tuple[bytes, bytes],
    pcrs: PcrValues,
    binding: BindingPath,
    event_log: bytes | None = None,
    ima_log: bytes | None = None,
) -> bytes:
    """Put an item together; `certify` and `quote` are (TPMS_ATTEST, TPMT_SIGNATURE), certificates are DER.

    Raises:
        Malformed: something that `parse` would refuse.
    """
    item: dict[str, Any] = {
        "kind": KIND,
        "ek_certificate": b64u(ek_certificate),
        "ek_chain": [b64u(der) for der in ek_chain],
        "ak_certificate": b64u(ak_certificate),
        "ak_chain": [b64u(der) for der in ak_chain],
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
    data = canonical.encode(item)
    parse(data)
    return data


def _bytes(value: object) -> bytes:
    return unb64u(cast(str, value))  # unb64u refuses what is not a string


def _chain(value: object) -> tuple[x509.Certificate, ...]:
    if not isinstance(value, list) or len(value) > MAX_CHAIN:
        raise Malformed(_CODE, f"a certificate chain must be an array of at most {MAX_CHAIN}")
    return tuple(x509.parse(_bytes(item)) for item in value)
