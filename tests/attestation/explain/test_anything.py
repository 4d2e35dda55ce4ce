"""`rlu inspect` recognises whatever belongs to evidence, as its maker publishes it, and says what it means."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from absent_inputs import absent
from fakes import amd, aws, intel, nvidia
from fakes.deployment import Deployment
from rlu_attestation import policy_signature
from rlu_attestation.bundle import BundledPolicy, Collateral
from rlu_attestation.errors import RluError, Unsupported
from rlu_attestation.explain import Section, explain

ROOT = Path(os.environ.get("RLU_VECTORS", Path(__file__).resolve().parents[4] / "shared" / "vectors"))
DATA = bytes(range(64))
NODE = nvidia.hgx(gpus=1, switches=1).parts(DATA[:32])
POLICY = (
    b'version = 1\npcrs = "any"\n[accept]\nregions = ["eu"]\n[[waive]]\nstep = "channel"\nreason = "why"\n'
)
LIST = amd.parts(amd.Chip(), DATA).crl or b""


def value(section: Section, name: str) -> str:
    return next(row.value for row in section.rows if row.name == name)


KNOWN: dict[str, tuple[bytes, str, str]] = {
    "snp-report": (
        amd.parts(amd.Chip(), DATA).report,
        "AMD SEV-SNP evidence, as the hardware gave it",
        "VERSION",
    ),
    "tdx-quote": (
        intel.parts(intel.Platform(), DATA).quote.data,
        "Intel TDX evidence, as the hardware gave it",
        "Version",
    ),
    "nitro": (
        aws.parts(aws.Module("nitro"), DATA).document,
        "AWS Nitro Enclaves evidence, as the hardware gave it",
        "module_id",
    ),
    "nitrotpm": (
        aws.parts(aws.Module("nitrotpm"), DATA).document,
        "AWS NitroTPM evidence, as the hardware gave it",
        "module_id",
    ),
    "gpu": (NODE.gpus[0].report, "NVIDIA GPU evidence, as the hardware gave it", "kind"),
    "switch": (NODE.switches[0].report, "NVIDIA GPU evidence, as the hardware gave it", "kind"),
    "crl": (LIST, "Certificate revocation list", "thisUpdate"),
    "crl-pem": (
        b"-----BEGIN X509 CRL-----\n" + base64.encodebytes(LIST) + b"-----END X509 CRL-----\n",
        "Certificate revocation list",
        "thisUpdate",
    ),
    "ocsp": (NODE.ocsp[0], "OCSP response", "certStatus"),
    "rim": (NODE.rims[0], "NVIDIA reference integrity manifest (RIM)", "colloquialVersion"),
    "collateral": (
        intel.parts(intel.Platform(), DATA).pccs(),
        "Intel's collateral for a TDX quote",
        "tcb_info_signature",
    ),
    "policy": (POLICY, "Appraisal policy", "accept.regions"),
    "policy-signature": (
        policy_signature.sign(bytes(32), ec.derive_private_key(7, ec.SECP256R1())),
        "Signature on a policy",
        "kid",
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_it_is_and_a_field_of_it(name: str) -> None:
    data, title, field = KNOWN[name]
    section = explain(data)
    assert section.title == title
    assert field in [row.name for row in section.rows]
    assert all(row.name and isinstance(row.value, str) for row in section.rows)
    json.dumps(section.to_json())


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_cut_is_never_a_crash(name: str) -> None:
    data = KNOWN[name][0]
    for end in (1, 2, 40, len(data) // 2, len(data) - 1):
        with contextlib.suppress(RluError):
            explain(data[:end])


@given(st.binary(max_size=300), st.sampled_from(sorted(KNOWN)), st.integers(0, 2000))
@settings(max_examples=60)
def test_arbitrary_changes_raise_only_our_own_errors(garbage: bytes, name: str, place: int) -> None:
    data = KNOWN[name][0]
    place %= len(data)
    with contextlib.suppress(RluError):
        explain(data[:place] + garbage + data[place + len(garbage) :])


def test_the_values_are_the_files_own() -> None:
    assert value(explain(LIST), "revokedCertificates") == "666"
    assert value(explain(POLICY), "waive[0].step") == "channel"
    collateral = explain(KNOWN["collateral"][0])
    assert [part.title for part in collateral.parts][:4] == [
        "tcb_info",
        "qe_identity",
        "root_ca_crl",
        "pck_crl",
    ]
    assert value(collateral.parts[0], "fmspc")
    assert [part.title for part in explain(NODE.rims[0]).parts]


def test_a_bundle_with_everything() -> None:
    bundle = replace(
        Deployment().bundle(),
        collateral=(Collateral("x509-crl", LIST), Collateral("ocsp-response", b"broken")),
        roots=(bytes(32),),
        policy=BundledPolicy(POLICY, (("vendor.pem", b"x"),)),
    )
    section = explain(bundle.encode())
    titles = {part.title: part for part in section.parts}
    assert value(section, "root").startswith("00" * 32)
    assert "collateral x509-crl: Certificate revocation list" in titles
    assert value(titles["collateral ocsp-response"], "unreadable") == "nvidia.ocsp.encoding"
    assert value(titles["policy: Appraisal policy"], "file vendor.pem") == "1 bytes"


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"{}", b"[1]", b"version", b"0" * 40, bytes(100), b"HCL", b"<a/>"]
)
def test_what_is_nothing(data: bytes) -> None:
    with pytest.raises(RluError) as refused:
        explain(data)
    assert isinstance(refused.value, Unsupported) or data == b"<a/>"


def test_everything_published_is_recognised() -> None:
    """All files of the vectors that are of a vendor's or TCG's form."""
    if not ROOT.is_dir():
        absent("vectors", str(ROOT))
    kinds = (
        "report.bin",
        "quote.bin",
        "attestation.cbor",
        "*.pem",
        "*.der",
        "*.crt",
        "*.xml",
        "collateral.json",
        "eventlog.bin",
        "ccel.bin",
    )
    own = ("quote*.msg", "certify.att", "*.pub", "hcl_report.bin", "ek_nv_raw.bin")
    known = {
        "tdx/neg-tcbtooold-v4-google-spr-e4/quote.bin",  # something follows it
        "tdx/sgx-v3-phala/quote.bin",  # of an enclave
        "nitro/neg-base-2026-01-corrupt/attestation.cbor",
        "tpm/azure-vtpm-quote/akpub.pem",
    }
    refused = set()
    for pattern in (*kinds, *own):
        for file in ROOT.rglob(pattern):
            try:
                assert explain(file.read_bytes()).rows or explain(file.read_bytes()).parts
            except RluError:
                refused.add(str(file.relative_to(ROOT)))
    assert refused == known
