"""The verifier, a naive second one and `tpm2_checkquote` agree: on every perturbation, and on changed bytes anywhere."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import google
from fakes.gcp_vtpm_perturbations import BINDING, OLDER, PERTURBATIONS, Scene, scene
from fakes.gcp_vtpm_steps import failures, roots
from fakes.google import Parts
from fakes.pki import AT
from fakes.tools import checkquote
from reference import gcp_vtpm as naive
from reference.tpm import Rejected
from rlu_attestation import merkle, x509
from rlu_attestation.evidence import gcp_vtpm

TRUSTED = [hashlib.sha256(google.root(older).der).digest() for older in (False, True)]
ELSEWHERE = ("gcp-vtpm.revocation", "quote.eventlog", "quote.ima")
"""What the naive verifier does not look at."""


def theirs(parts: Parts) -> bool:
    """The naive verdict; the quote must carry the root of a single statement."""
    try:
        naive.verify(parts, merkle.leaf_hash(BINDING), AT, TRUSTED)
    except Rejected:
        return False
    return True


COMPARED = [
    name for name in (*PERTURBATIONS, *OLDER) if not name.startswith(("item-", "binding-", "ima-"))
]  # the others are of forms that the naive verifier does not know


@pytest.mark.parametrize("name", COMPARED)
def test_perturbations(name: str) -> None:
    perturb, codes = PERTURBATIONS.get(name) or OLDER[name]
    parts = perturb(scene(older=name in OLDER))
    accepted = all(code.startswith(ELSEWHERE) for code in codes)
    assert theirs(parts) is accepted


@pytest.mark.parametrize("older", [False, True])
def test_the_instance(older: bool) -> None:
    parts = scene(older).parts
    found = naive.verify(parts, merkle.leaf_hash(BINDING), AT, TRUSTED)
    ours = gcp_vtpm.instance_of(x509.parse(parts.ak_certificate))
    properties = found.pop("properties")
    assert {name: getattr(ours, name) for name in found} == found
    assert properties == [
        ours.security_version,
        ours.is_production,
        ours.tpm_data_always_encrypted,
        ours.suspend_resume_disabled,
        ours.vmtd_disabled,
        ours.always_in_vmtd,
    ]


@functools.cache
def sample() -> Scene:
    return scene()


FIELDS = ("ak_certificate", "root_certificate", "ak_public", "key_public")


@settings(max_examples=120)
@given(st.sampled_from([*FIELDS, "certify", "quote"]), st.data())
def test_changed_bytes(field: str, data: st.DataObject) -> None:
    parts = sample().parts
    value = getattr(parts, field)
    part = data.draw(st.integers(0, 1)) if isinstance(value, tuple) else None
    damaged = bytearray(value if part is None else value[part])
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    changed = (
        bytes(damaged)
        if part is None
        else tuple(bytes(damaged) if n == part else v for n, v in enumerate(value))
    )
    parts = replace(parts, **{field: changed})
    assert failures(parts.encode(), BINDING, roots()) != []
    assert theirs(parts) is False


@pytest.mark.parametrize(
    "name",
    [
        "quote-signature-flipped",
        "quote-by-another-tpm",
        "quote-of-other-values",
        "quote-replayed-from-another-statement",
        "pcr-value-flipped",
        "ak-of-another-instance",
    ],
)
def test_tpm2_tools_refuse_the_same_quotes(name: str, tmp_path: Path) -> None:
    genuine = scene().parts
    assert checkquote(genuine, merkle.leaf_hash(BINDING), tmp_path) is True
    parts = PERTURBATIONS[name][0](scene())
    assert checkquote(parts, merkle.leaf_hash(BINDING), tmp_path) is False
