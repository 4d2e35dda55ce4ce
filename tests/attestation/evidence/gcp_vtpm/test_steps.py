"""Every step accepts genuine evidence of both of Google's hierarchies, and refuses each perturbation with exactly the codes named."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from fakes import google, tpm_marshal
from fakes.gcp_vtpm_perturbations import BINDING, OLDER, PERTURBATIONS, scene
from fakes.gcp_vtpm_steps import failures, roots
from fakes.google import Instance
from fakes.pki import AT
from fakes.tpm import FakeTpm
from fakes.tpm_perturbations import more
from rlu_attestation import crl, x509
from rlu_attestation.errors import RluError, Untrusted
from rlu_attestation.evidence import gcp_vtpm

TPMS = {
    "rsassa-sha256": lambda: google.rsa_tpm("rsa"),
    "ecdsa-p256": lambda: FakeTpm("google/ecc"),
    "rsapss-sha384": lambda: FakeTpm(
        "google/pss", ak_kind="rsa2048", ak_scheme=tpm_marshal.RSAPSS, ak_hash="sha384"
    ),
}


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("tpm", TPMS)
def test_genuine(tpm: str, older: bool) -> None:
    machine = Instance(TPMS[tpm](), older=older)
    assert failures(machine.evidence(BINDING), BINDING, roots()) == []
    claims = gcp_vtpm.verify(gcp_vtpm.parse(machine.evidence(BINDING)), AT, roots())
    assert claims.instance == gcp_vtpm.GceInstance(
        "europe-west4-b",
        117443520873,
        "example.com:inference",
        5780123456789012345,
        "gpu-node-7",
        3,
        True,
        True,
        False,
        False,
        False,
    )
    assert claims.region == "europe-west4"
    assert claims.pcrs == machine.tpm.values(machine.selected)


def test_several_statements_share_a_quote_and_a_kernel_may_measure() -> None:
    found = scene()
    shared = found.machine.parts(BINDING, (b"\1" * 32,), (b"\2" * 32,))
    assert failures(shared.encode(), BINDING, roots()) == []
    measured = found.with_ima(more)
    assert failures(measured.encode(), BINDING, roots()) == []


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_perturbation(name: str) -> None:
    perturb, expected = PERTURBATIONS[name]
    found = scene()
    data = perturb(found).encode()
    assert failures(data, BINDING, roots()) == expected
    refused = [code for code in expected if not code.startswith(("gcp-vtpm.revocation", "quote.binding"))]
    if not refused:
        gcp_vtpm.verify(gcp_vtpm.parse(data), AT, roots())
    elif not expected[0].startswith("parse"):
        with pytest.raises(RluError) as first:
            gcp_vtpm.verify(gcp_vtpm.parse(data), AT, roots())
        assert first.value.code == refused[0]


@pytest.mark.parametrize("name", OLDER)
def test_perturbation_of_the_older_hierarchy(name: str) -> None:
    perturb, expected = OLDER[name]
    assert failures(perturb(scene(older=True)).encode(), BINDING, roots()) == expected


def test_there_are_enough_of_them() -> None:
    own = [name for name, (_, codes) in PERTURBATIONS.items() if any("gcp-vtpm" in code for code in codes)]
    assert len(own) + len(OLDER) >= 40


def test_no_root_no_trust() -> None:
    data = scene().parts.encode()
    assert failures(data, BINDING, []) == ["gcp-vtpm.root.unknown"]
    assert failures(data, BINDING, list(gcp_vtpm.PINNED)) == ["gcp-vtpm.root.unknown"]


def test_the_root_must_have_signed_itself_even_when_an_operator_supplies_it() -> None:
    leaf = google.intermediate()
    parts = replace(scene().parts, root_certificate=leaf.der, ak_chain=())
    trusted = [gcp_vtpm.Root.of(x509.parse(leaf.der))]
    with pytest.raises(Untrusted) as refused:
        gcp_vtpm.verify_root(gcp_vtpm.parse(parts.encode()), trusted)
    assert refused.value.code == "gcp-vtpm.root.signature"


@pytest.mark.parametrize(("year", "code"), [(2021, "not_yet_valid"), (2060, "expired")])
def test_time_is_an_argument(year: int, code: str) -> None:
    evidence = gcp_vtpm.parse(scene().parts.encode())
    with pytest.raises(Untrusted) as refused:
        gcp_vtpm.verify_chain(evidence, datetime(year, 1, 1, tzinfo=timezone.utc))
    assert refused.value.code == f"gcp-vtpm.chain.{code}"


def test_lists_beside_the_evidence_count() -> None:
    found = scene(older=True)
    evidence = gcp_vtpm.parse(replace(found.parts, crls=()).encode())
    beside = [crl.parse(data) for data in found.machine.crls()]
    assert len(gcp_vtpm.verify_revocation(evidence, AT, beside)) == 2
    evidence = gcp_vtpm.parse(scene().parts.encode())
    assert len(gcp_vtpm.verify_revocation(evidence, AT)) == 1


def test_purposes_that_google_writes() -> None:
    machine = scene().machine
    for oids in ((google.EK_PURPOSE,), ("2.23.133.8.3",), ("2.23.133.8.1", "1.3.6.1.5.5.7.3.2")):
        certificate = machine.certificate(extensions=(google.purposes(*oids),))
        parts = replace(scene().parts, ak_certificate=certificate)
        assert failures(parts.encode(), BINDING, roots()) == []
