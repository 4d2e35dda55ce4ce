"""What every evidence item with a TPM holds, whoever vouches for its attestation key (FORMATS section 4).

Kinds of evidence take `TpmEvidence` as their base and read its members with `parse_members`; refusals of their form have the kind's code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed
from rlu_attestation.evidence.binding import BindingPath, parse_binding
from rlu_attestation.tpm import eventlog, ima_log
from rlu_attestation.tpm.attest import Attest, Signature, parse_attest, parse_signature
from rlu_attestation.tpm.constants import BANKS, digest_size
from rlu_attestation.tpm.eventlog import EventLog
from rlu_attestation.tpm.ima_log import ImaLog
from rlu_attestation.tpm.policy import PcrValues
from rlu_attestation.tpm.public import Public, parse_public

REQUIRED = frozenset({"ak_public", "key_public", "certify", "quote", "pcrs", "binding"})
OPTIONAL = frozenset({"event_log", "ima_log"})
_SIZES = {BANKS[algorithm]: digest_size(algorithm) for algorithm in BANKS}
_PCR_NUMBERS = {str(number): number for number in range(32)}


@dataclass(frozen=True, slots=True)
class Attested:
    """What the AK signed, and its signature, which is *not* yet verified."""

    attest: Attest
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmEvidence:
    """Well-formed evidence of a TPM. Nothing of it is verified: every field is the attester's word until its step has passed."""

    ak_public: Public
    key_public: Public
    certify: Attested
    quote: Attested
    pcrs: PcrValues
    binding: BindingPath
    event_log: EventLog | None
    ima_log: ImaLog | None


def parse_members(item: Mapping[str, object], code: str) -> TpmEvidence:
    """Read the members of a decoded item that has at least the keys `REQUIRED`.

    Args:
        item: the decoded JSON object; other members are not looked at.
        code: stable code of every refusal of the item's form.

    Raises:
        Malformed: `code`, `encoding.base64url`, or the `tpm2.…` of the structure at fault.
        Unsupported: `tpm2.…` for an algorithm that is not implemented.
    """
    return TpmEvidence(
        ak_public=parse_public(_bytes(item["ak_public"])),
        key_public=parse_public(_bytes(item["key_public"])),
        certify=parse_attested(item["certify"], code),
        quote=parse_attested(item["quote"], code),
        pcrs=parse_pcrs(item["pcrs"], code),
        binding=parse_binding(item["binding"], code),
        event_log=eventlog.parse(_bytes(item["event_log"])) if "event_log" in item else None,
        ima_log=ima_log.parse(_bytes(item["ima_log"])) if "ima_log" in item else None,
    )


def encode_members(
    *,
    ak_public: bytes,
    key_public: bytes,
    certify: tuple[bytes, bytes],
    quote: tuple[bytes, bytes],
    pcrs: PcrValues,
    binding: BindingPath,
    event_log: bytes | None = None,
    ima_log: bytes | None = None,
) -> dict[str, Any]:
    """The members as JSON; `certify` and `quote` are (TPMS_ATTEST, TPMT_SIGNATURE)."""
    members: dict[str, Any] = {
        "ak_public": b64u(ak_public),
        "key_public": b64u(key_public),
        "certify": {"attest": b64u(certify[0]), "signature": b64u(certify[1])},
        "quote": {"attest": b64u(quote[0]), "signature": b64u(quote[1])},
        "pcrs": {bank: {str(n): b64u(value) for n, value in values.items()} for bank, values in pcrs.items()},
        "binding": binding.to_json(),
    }
    if event_log is not None:
        members["event_log"] = b64u(event_log)
    if ima_log is not None:
        members["ima_log"] = b64u(ima_log)
    return members


def parse_attested(value: object, code: str) -> Attested:
    """Read `{"attest": TPMS_ATTEST, "signature": TPMT_SIGNATURE}`."""
    if not isinstance(value, dict) or value.keys() != {"attest", "signature"}:
        raise Malformed(code, "certify and quote must have exactly the keys attest, signature")
    return Attested(parse_attest(_bytes(value["attest"])), parse_signature(_bytes(value["signature"])))


def parse_pcrs(value: object, code: str) -> PcrValues:
    """Read PCR values: bank to decimal number to value."""
    if not isinstance(value, dict) or not value.keys() <= _SIZES.keys():
        raise Malformed(code, "pcrs must map known banks to values")
    found: dict[str, dict[int, bytes]] = {}
    for bank, values in value.items():
        if not isinstance(values, dict) or not values or not values.keys() <= _PCR_NUMBERS.keys():
            raise Malformed(code, "a bank must map PCR numbers to values")
        found[bank] = {_PCR_NUMBERS[number]: _bytes(pcr) for number, pcr in values.items()}
        if any(len(pcr) != _SIZES[bank] for pcr in found[bank].values()):
            raise Malformed(code, f"a PCR of the {bank} bank has {_SIZES[bank]} bytes")
    return found


def _bytes(value: object) -> bytes:
    return unb64u(cast(str, value))  # unb64u refuses what is not a string
