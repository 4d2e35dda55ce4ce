"""Rows for people: every member, for both kinds."""

from __future__ import annotations

from typing import Any

import pytest

from fakes import asn1
from fakes.aws import Module
from fakes.nitro_perturbations import ALL, Perturbation
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import nitro


def rows(module: Module, **fields: Any) -> dict[str, tuple[str, str]]:
    found = nitro.describe(nitro.parse_document(module.document(module.fields() | fields)))
    named = {name: (value, meaning) for name, value, meaning in found}
    assert len(named) == len(found)
    return named


@pytest.mark.parametrize("kind", ["nitro", "nitrotpm"])
def test_every_member_has_a_row(kind: str) -> None:
    module = Module(kind)
    named = rows(module)
    pcrs = {f"{module.pcrs_field}[{n}]" for n in module.pcrs()}
    certificates = {f"cabundle[{n}]" for n in range(4)} | {"certificate"}
    plain = {"module_id", "timestamp", "digest", "public_key", "user_data", "nonce"}
    assert named.keys() == pcrs | certificates | plain
    assert named["nonce"][0] == "absent"
    assert named["cabundle[0]"][0] == "aws.nitro-enclaves"
    assert named["timestamp"][0].endswith("(2026-05-31T23:59:30.387000+00:00)")


def test_meanings() -> None:
    named = rows(Module(), pcrs=Module().pcrs() | {0: bytes(48)}, nonce=b"\1\2")
    assert named["pcrs[0]"][1] == "enclave image file: zero, so the enclave runs in debug mode"
    assert named["pcrs[1]"][1] == "kernel and bootstrap"
    assert named["nonce"][0] == "0102"
    assert rows(Module("nitrotpm"))["nitrotpm_pcrs[7]"][1] == "Secure Boot policy"


def test_a_certificate_without_a_name() -> None:
    module = Module()
    nameless = module.certificate(subject=asn1.name(()))
    assert rows(module, certificate=nameless)["certificate"][0] == "without a common name"


@pytest.mark.parametrize("found", ALL, ids=lambda found: found.name)
def test_whatever_parses_is_described(found: Perturbation) -> None:
    try:
        document = nitro.parse_document(found.perturb(Module()).document)
    except RluError:
        return
    assert all(isinstance(cell, str) for row in nitro.describe(document) for cell in row)
