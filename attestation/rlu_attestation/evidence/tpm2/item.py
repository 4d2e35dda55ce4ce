"""The evidence item of FORMATS section 4: parsed into `Tpm2Evidence`, or put together from what the TPM gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from rlu_attestation import canonical, x509
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed
from rlu_attestation.evidence import MAX_ITEM
from rlu_attestation.evidence.tpm2 import eventlog
from rlu_attestation.evidence.tpm2.constants import BANKS, digest_size
from rlu_attestation.evidence.tpm2.eventlog import EventLog
from rlu_attestation.evidence.tpm2.policy import PcrValues
from rlu_attestation.evidence.tpm2.structures import (
    Attest,
    Public,
    Signature,
    parse_attest,
    parse_public,
    parse_signature,
)
from rlu_attestation.merkle import HASH_SIZE, MAX_PATH

KIND = "tpm2"
MAX_CHAIN = 8
_CODE = "tpm2.item"
_REQUIRED = frozenset(
    {"kind", "ek_certificate", "ek_chain", "ak_public", "ak_certificate", "ak_chain", "key_public", "certify"}
    | {"quote", "pcrs", "binding"}
)
_SIZES = {BANKS[algorithm]: digest_size(algorithm) for algorithm in BANKS}
_PCR_NUMBERS = {str(number): number for number in range(32)}


@dataclass(frozen=True, slots=True)
class Attested:
    """What the AK signed, and its signature, which is *not* yet verified."""

    attest: Attest
    signature: Signature


@dataclass(frozen=True, slots=True)
class BindingPath:
    """Where this statement's binding sits in the tree whose root was quoted (FORMATS section 3)."""

    leaf_index: int
    path: tuple[bytes, ...]
    tree_size: int


@dataclass(frozen=True, slots=True)
class Tpm2Evidence:
    """A well-formed evidence item. Nothing of it is verified: every field is the attester's word until its step has passed."""

    raw: bytes
    ek_certificate: x509.Certificate
    ek_chain: tuple[x509.Certificate, ...]
    ak_public: Public
    ak_certificate: x509.Certificate
    ak_chain: tuple[x509.Certificate, ...]
    key_public: Public
    certify: Attested
    quote: Attested
    pcrs: PcrValues
    binding: BindingPath
    event_log: EventLog | None


def parse(data: bytes) -> Tpm2Evidence:
    """Read an evidence item.

    Raises:
        Malformed: `statement.encoding`, `tpm2.item`, `encoding.base64url`, `x509.encoding`, or the `tpm2.…` of the structure at fault.
        Unsupported: `tpm2.…` for an algorithm that is not implemented.
    """
    item = canonical.decode(data, MAX_ITEM)
    if item.get("kind") != KIND:
        raise Malformed(_CODE, "not an evidence item of kind tpm2")
    if not _REQUIRED <= item.keys() <= _REQUIRED | {"event_log"}:
        raise Malformed(_CODE, "a key is missing or unknown")
    return Tpm2Evidence(
        raw=data,
        ek_certificate=x509.parse(_bytes(item["ek_certificate"])),
        ek_chain=_chain(item["ek_chain"]),
        ak_public=parse_public(_bytes(item["ak_public"])),
        ak_certificate=x509.parse(_bytes(item["ak_certificate"])),
        ak_chain=_chain(item["ak_chain"]),
        key_public=parse_public(_bytes(item["key_public"])),
        certify=_attested(item["certify"]),
        quote=_attested(item["quote"]),
        pcrs=_pcrs(item["pcrs"]),
        binding=_binding(item["binding"]),
        event_log=eventlog.parse(_bytes(item["event_log"])) if "event_log" in item else None,
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
) -> bytes:
    """Put an item together; `certify` and `quote` are (TPMS_ATTEST, TPMT_SIGNATURE), certificates are DER.

    Raises:
        Malformed: something that `parse` would refuse.
    """
    item: dict[str, Any] = {
        "kind": KIND,
        "ek_certificate": b64u(ek_certificate),
        "ek_chain": [b64u(der) for der in ek_chain],
        "ak_public": b64u(ak_public),
        "ak_certificate": b64u(ak_certificate),
        "ak_chain": [b64u(der) for der in ak_chain],
        "key_public": b64u(key_public),
        "certify": {"attest": b64u(certify[0]), "signature": b64u(certify[1])},
        "quote": {"attest": b64u(quote[0]), "signature": b64u(quote[1])},
        "pcrs": {bank: {str(n): b64u(value) for n, value in values.items()} for bank, values in pcrs.items()},
        "binding": {
            "leaf_index": binding.leaf_index,
            "path": [b64u(node) for node in binding.path],
            "tree_size": binding.tree_size,
        },
    }
    if event_log is not None:
        item["event_log"] = b64u(event_log)
    data = canonical.encode(item)
    parse(data)
    return data


def _bytes(value: object) -> bytes:
    return unb64u(cast(str, value))  # unb64u refuses what is not a string


def _object(value: object, keys: frozenset[str], what: str) -> Mapping[str, object]:
    if not isinstance(value, dict) or value.keys() != keys:
        raise Malformed(_CODE, f"{what} must have exactly the keys {', '.join(sorted(keys))}")
    return value


def _list(value: object, most: int, what: str) -> list[object]:
    if not isinstance(value, list) or len(value) > most:
        raise Malformed(_CODE, f"{what} must be an array of at most {most}")
    return value


def _chain(value: object) -> tuple[x509.Certificate, ...]:
    return tuple(x509.parse(_bytes(item)) for item in _list(value, MAX_CHAIN, "a certificate chain"))


def _attested(value: object) -> Attested:
    fields = _object(value, frozenset({"attest", "signature"}), "certify and quote")
    return Attested(parse_attest(_bytes(fields["attest"])), parse_signature(_bytes(fields["signature"])))


def _pcrs(value: object) -> PcrValues:
    if not isinstance(value, dict) or not value.keys() <= _SIZES.keys():
        raise Malformed(_CODE, "pcrs must map known banks to values")
    found: dict[str, dict[int, bytes]] = {}
    for bank, values in value.items():
        if not isinstance(values, dict) or not values or not values.keys() <= _PCR_NUMBERS.keys():
            raise Malformed(_CODE, "a bank must map PCR numbers to values")
        found[bank] = {_PCR_NUMBERS[number]: _bytes(pcr) for number, pcr in values.items()}
        if any(len(pcr) != _SIZES[bank] for pcr in found[bank].values()):
            raise Malformed(_CODE, f"a PCR of the {bank} bank has {_SIZES[bank]} bytes")
    return found


def _binding(value: object) -> BindingPath:
    fields = _object(value, frozenset({"leaf_index", "path", "tree_size"}), "binding")
    path = tuple(_bytes(node) for node in _list(fields["path"], MAX_PATH, "a path"))
    index, size = fields["leaf_index"], fields["tree_size"]
    if type(index) is not int or type(size) is not int or not 0 <= index < size:
        raise Malformed(_CODE, "leaf_index must lie inside tree_size")
    if any(len(node) != HASH_SIZE for node in path):
        raise Malformed(_CODE, "the nodes of a path have 32 bytes")
    return BindingPath(index, path, size)
