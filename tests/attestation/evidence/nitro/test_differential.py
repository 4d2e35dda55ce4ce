"""The verifier and a naive second one agree: on every perturbation, on changed bits anywhere, and on what a genuine document says."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import aws, nitro_perturbations
from fakes.aws import PROTECTED, Module, Parts
from fakes.nitro_perturbations import ROOT, Perturbation, genuine
from fakes.nitro_steps import MAX_AGE
from fakes.pki import AT
from reference import nitro as naive
from rlu_attestation import x509
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import nitro
from rlu_attestation.evidence.nitro import Kind, NitroClaims, Root

COMPARED = [
    found for found in nitro_perturbations.ALL if not found.name.startswith(("item-", "binding-"))
]  # forms that the naive verifier does not know
modules = pytest.mark.parametrize(
    "module", [Module("nitro"), Module("nitrotpm")], ids=lambda module: module.kind
)


def ours(parts: Parts) -> NitroClaims | None:
    """Claims when everything but the binding holds; without lists no revocation is asked for."""
    roots = [Root.of(x509.parse(aws.root().der))]
    try:
        evidence = nitro.from_parts(parts.document, Kind(parts.kind), crls=parts.crls or ())
        claims = nitro.verify(evidence, AT, roots)
        nitro.verify_timestamp(evidence, AT, MAX_AGE)
        if parts.crls is not None:
            nitro.verify_revocation(evidence, AT)
    except RluError:
        return None
    return claims


def theirs(parts: Parts) -> dict[str, object] | None:
    roots = {hashlib.sha256(aws.root().der).digest()}
    try:
        return naive.verify(parts.document, parts.kind, parts.crls, AT, MAX_AGE, roots)
    except naive.Rejected:
        return None


@modules
@pytest.mark.parametrize("found", COMPARED, ids=lambda found: found.name)
def test_perturbations(found: Perturbation, module: Module) -> None:
    parts = found.perturb(module)
    accepted = ours(parts)
    assert (accepted is None) == (theirs(parts) is None)
    if all(code.startswith("binding") for code in found.codes) or parts.crls is None:
        assert accepted is not None
    else:
        assert accepted is None


@modules
def test_fields(module: Module) -> None:
    fields = module.fields(ROOT) | {"nonce": b"n", "public_key": b"k"}
    for payload in (cbor2.dumps(fields), aws.indefinite(fields)):
        document = cbor2.dumps([PROTECTED, {}, payload, module.sign(payload)])
        parts = replace(genuine(module), document=document)
        claims = ours(parts)
        assert claims is not None
        assert theirs(parts) == as_fields(claims)


def as_fields(claims: NitroClaims) -> dict[str, object]:
    return {
        "module_id": claims.module_id,
        "timestamp": claims.document.timestamp,
        "pcrs": dict(claims.pcrs),
        "public_key": claims.public_key,
        "user_data": claims.user_data,
        "nonce": claims.nonce,
        "debug": bool(claims.debug),
    }


@functools.cache
def sample() -> Parts:
    """Made once: signatures differ in length, and a property test needs the same bytes every time."""
    return genuine(Module())


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_changed_bytes(data: st.DataObject) -> None:
    parts = sample()
    changed = bytearray(parts.document)
    position = data.draw(st.integers(0, len(changed) - 1))
    changed[position] ^= data.draw(st.integers(1, 255))
    parts = replace(parts, document=bytes(changed))
    assert ours(parts) is None
    assert theirs(parts) is None
