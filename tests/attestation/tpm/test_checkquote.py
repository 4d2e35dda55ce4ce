"""Real quotes and generated ones, held against `tpm2_checkquote`: both accept, and both refuse what was changed."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from fakes import tpm_marshal as marshal
from fakes.machine import Measured, TpmParts
from fakes.tools import checkquote
from fakes.tpm import FakeTpm
from fakes.tpm_perturbations import BINDING, SHARED, TpmScene
from fakes.vectors import vector
from rlu_attestation import merkle
from rlu_attestation.errors import RluError
from rlu_attestation.evidence.binding import BindingPath
from rlu_attestation.tpm import checks
from rlu_attestation.tpm.attest import parse_attest, parse_signature
from rlu_attestation.tpm.members import Attested, TpmEvidence
from rlu_attestation.tpm.public import parse_public

EXTRA = merkle.leaf_hash(BINDING)
TPMS: dict[str, dict[str, Any]] = {
    "ecdsa-p256": {},
    "ecdsa-p384-sha384": {"ak_kind": "p384", "ak_hash": "sha384"},
    "rsassa-sha256": {"ak_kind": "rsa2048", "ak_scheme": marshal.RSASSA},
}
"""Not RSAPSS: the tools verify every RSA signature as PKCS #1."""
QUOTES = [
    "quote-signature-flipped",
    "quote-signed-by-the-certification",
    "quote-by-another-tpm",
    "quote-of-other-values",
    "quote-without-digest",
    "quote-without-qualifying-data",
    "pcr-value-flipped",
    "pcr-values-swapped",
]


def parts_of(machine: Measured) -> TpmParts:
    return TpmParts(**machine.tpm_parts(BINDING))


def ours(parts: TpmParts, extra_data: bytes) -> bool:
    """What the shared steps say of the quote alone."""
    attested = Attested(parse_attest(parts.quote[0]), parse_signature(parts.quote[1]))
    evidence = TpmEvidence(
        ak_public=parse_public(parts.ak_public),
        key_public=parse_public(parts.key_public),
        certify=attested,
        quote=attested,
        pcrs=parts.pcrs,
        binding=BindingPath(0, (), 1),
        event_log=None,
        ima_log=None,
    )
    try:
        checks.verify_quote_signature(evidence)
        checks.verify_quote_pcrs(evidence)
    except RluError:
        return False
    return attested.attest.extra_data == extra_data


@functools.cache
def machine(kind: str) -> Measured:
    return Measured(FakeTpm(f"checkquote/{kind}", **TPMS[kind]))


@pytest.mark.parametrize("kind", TPMS)
def test_genuine_quotes(kind: str, tmp_path: Path) -> None:
    parts = parts_of(machine(kind))
    assert ours(parts, EXTRA) is checkquote(parts, EXTRA, tmp_path) is True
    assert ours(parts, bytes(32)) is checkquote(parts, bytes(32), tmp_path) is False


@pytest.mark.parametrize("name", QUOTES)
def test_perturbations(name: str, tmp_path: Path) -> None:
    found = Measured(FakeTpm("checkquote/ecdsa-p256"))
    parts = SHARED[name][0](TpmScene(found, parts_of(found)))
    assert ours(parts, EXTRA) is checkquote(parts, EXTRA, tmp_path) is False


# --- real quotes --------------------------------------------------------------------------------------------------------


def read(path: Path, **files: str) -> dict[str, bytes]:
    return {name: (path / file).read_bytes() for name, file in files.items()}


def real(name: str) -> TpmParts:
    """The parts of a real quote over a fake's key."""
    path = vector("tpm", name)
    if name == "azure-vtpm-quote":
        key = load_pem_public_key((path / "akpub.pem").read_bytes())
        assert isinstance(key, rsa.RSAPublicKey)
        public = marshal.public(key, attributes=marshal.AK_ATTRIBUTES, scheme=(marshal.RSASSA, "sha256"))
        raw = read(path, quote="quote.msg", signature="quote.sig")
        raw["signature"] = marshal.rsa_signature(marshal.RSASSA, "sha256", raw["signature"])
        values = dict(enumerate((path / "pcrs_sha256.hex").read_text().split()))
    else:
        public = (path / "ak_tpmt_public.bin").read_bytes()
        raw = read(path, quote="quote1_sha256.msg", signature="quote1_sha256.sig")
        found = json.loads((path / "pcrs1_sha256.json").read_text())
        values = {int(number): value for number, value in found.items()}
    return replace(
        parts_of(machine("ecdsa-p256")),
        ak_public=public,
        quote=(raw["quote"], raw["signature"]),
        pcrs={"sha256": {number: bytes.fromhex(value) for number, value in values.items()}},
    )


@pytest.mark.vectors
@pytest.mark.parametrize("name", ["azure-vtpm-quote", "gce-gce-cos-85-no-nonce"])
def test_real_quotes(name: str, tmp_path: Path) -> None:
    parts = real(name)
    extra = parse_attest(parts.quote[0]).extra_data
    assert ours(parts, extra) is checkquote(parts, extra, tmp_path) is True
    values = dict(parts.pcrs["sha256"])
    values[7] = bytes([values[7][0] ^ 1]) + values[7][1:]
    attest = parts.quote[0]
    for other in (
        replace(parts, pcrs={"sha256": values}),
        replace(parts, quote=(attest[:60] + bytes([attest[60] ^ 1]) + attest[61:], parts.quote[1])),
    ):
        assert ours(other, extra) is checkquote(other, extra, tmp_path) is False
