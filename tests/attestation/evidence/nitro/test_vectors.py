"""Real documents: each gives the verdict and the claims of its provenance, at its time."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fakes.vectors import vector
from reference import nitro as naive
from rlu_attestation import x509
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.evidence import nitro
from rlu_attestation.evidence.nitro import PINNED, Kind

pytestmark = pytest.mark.vectors

GENUINE = [
    ("nitro", "base-2024-11-prod"),
    ("nitro", "base-2026-01-prod"),
    ("nitro", "debug-evervault-2022"),
    ("nitrotpm", "ec2-2026-08"),
]
ROOTS = [root.certificate_sha256 for root in PINNED]


def load(kind: str, name: str) -> tuple[bytes, dict[str, Any]]:
    path = vector(kind, name)
    return (path / "attestation.cbor").read_bytes(), json.loads((path / "PROVENANCE.json").read_text())


def test_every_vector_is_listed() -> None:
    there: set[tuple[str, str]] = set()
    for kind, name in (GENUINE[0], GENUINE[-1]):
        parent: Path = vector(kind, name).parent
        there |= {(kind, path.name) for path in parent.iterdir() if path.is_dir()}
    assert there == {*GENUINE, ("nitro", "neg-base-2026-01-corrupt")}


@pytest.mark.parametrize(("kind", "name"), GENUINE)
def test_genuine(kind: str, name: str) -> None:
    document, provenance = load(kind, name)
    at, expected = datetime.fromisoformat(provenance["as_of"]), provenance["expected_claims"]
    evidence = nitro.from_parts(document, Kind(kind))
    claims = nitro.verify(evidence, at)
    assert nitro.verify_timestamp(evidence, at, timedelta(0)) == at
    assert claims.module_id == expected["module_id"]
    assert claims.document.digest == expected["digest"]
    assert claims.created == datetime.fromisoformat(expected["timestamp"])
    assert {str(n): pcr.hex() for n, pcr in claims.pcrs.items() if any(pcr)} == expected["pcrs"]
    assert bool(claims.debug) is expected["debug"]
    assert (provenance["expect"] == "policy") is bool(claims.debug)
    assert (claims.debug is None) is (kind == "nitrotpm")
    assert (claims.user_data or b"").hex() == expected["user_data"]
    assert (claims.nonce or b"").hex() == expected["nonce"]
    assert len(claims.public_key or b"") == expected["public_key_len"]
    assert claims.region in {"us-east-1", "us-west-2"}
    assert (claims.document.payload[0] == 0xBF) is expected["map_indef"]
    fields = naive.verify(document, kind, None, at, timedelta(0), ROOTS)
    assert fields["pcrs"] == dict(claims.pcrs)
    assert fields["module_id"] == claims.module_id


@pytest.mark.parametrize(("kind", "name"), GENUINE)
def test_a_day_later_they_have_expired(kind: str, name: str) -> None:
    document, provenance = load(kind, name)
    at = datetime.fromisoformat(provenance["as_of"])
    for when, code in ((at + timedelta(days=1), "expired"), (at - timedelta(days=1), "not_yet_valid")):
        with pytest.raises(RluError) as refused:
            nitro.verify(nitro.from_parts(document), when)
        assert refused.value.code == f"{kind}.chain.{code}"


@pytest.mark.parametrize(("kind", "name"), GENUINE)
def test_the_other_kind_refuses(kind: str, name: str) -> None:
    document, _ = load(kind, name)
    other = Kind.NITROTPM if kind == "nitro" else Kind.NITRO
    with pytest.raises(Malformed) as refused:
        nitro.parse_document(document, other)
    assert refused.value.code == f"{other.value}.document.kind"


@pytest.mark.parametrize(("kind", "name"), GENUINE)
def test_real_documents_have_no_stapled_lists(kind: str, name: str) -> None:
    document, provenance = load(kind, name)
    with pytest.raises(RluError) as refused:
        nitro.verify_revocation(nitro.from_parts(document), datetime.fromisoformat(provenance["as_of"]))
    assert refused.value.code == f"{kind}.revocation.missing"


def test_the_corrupt_document_refuses() -> None:
    document, provenance = load("nitro", "neg-base-2026-01-corrupt")
    assert provenance["expect"] == "reject"
    with pytest.raises(Malformed) as refused:
        nitro.parse_document(document)
    assert refused.value.code == "nitro.cose.encoding"
    at = datetime.fromisoformat("2026-01-03T20:41:07.402+00:00")
    with pytest.raises(naive.Rejected):
        naive.verify(document, "nitro", None, at, timedelta(0), ROOTS)


def test_the_root_is_the_one_aws_publishes() -> None:
    path = vector("nitro", "base-2024-11-prod").parent / "aws_nitro_root_g1.pem"
    (root,) = x509.parse_many(path.read_bytes())
    assert [pinned.is_of(root) for pinned in PINNED] == [True]
