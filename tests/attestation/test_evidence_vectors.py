"""Every published vector of evidence, by the command line: the verdict that its PROVENANCE.json states, at the time it states.

A vector without an entry below fails the test: `VECTORS` is to say of each what a relying party gets, under a policy that accepts any
measurement but neither debugging nor an outdated TCB, and waives what nobody stapled. The outcome is the exit code and the codes that
failed; what was waived is listed too, so that nothing is waived unseen.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from absent_inputs import absent
from fakes.terminal import Ran, rlu
from rlu_attestation.policy_hardware import HAZARDS

ROOT = Path(os.environ.get("RLU_VECTORS", Path(__file__).resolve().parents[3] / "shared" / "vectors"))

POLICY = """
version = 1
pcrs = "any"
gpu = "any"
[measurements]
azure-vtpm = "any"
nitro = "any"
nitrotpm = "any"
sev-snp = "any"
tdx = "any"
[tcb]
sev-snp = "any"
[tcb.tdx]
statuses = ["UpToDate"]
[accept]
debug_states = ["disabled"]
"""
WAIVED = (
    "sev-snp.revocation",
    "sev-snp.binding",
    "tdx.binding",
    "nitro.revocation",
    "nitro.binding",
    "nitrotpm.revocation",
    "nitrotpm.binding",
    "nvidia.binding",
    "nvidia.rim_driver",
    "nvidia.rim_vbios",
    "nvidia.measurements",
    "nvidia.revocation",
    "nvidia.topology",
)
FILES = {
    "sev-snp": "report.bin",
    "tdx": "quote.bin",
    "nitro": "attestation.cbor",
    "nitrotpm": "attestation.cbor",
    "nvidia": "report.bin",
}
BESIDE = (
    "vek.der",
    "vek.pem",
    "ask_ark.pem",
    "collateral.json",
    "chain.pem",
    "ccel.bin",
    "rim_vbios.xml",
    "rim_switch.xml",
)


@dataclass(frozen=True)
class Expected:
    """What the command line says: exit code, codes that failed, codes that were waived.

    Attributes:
        kind: of evidence, where it is not the directory's.
        fitting: a policy's further lines under which everything else passes, for a genuine vector that the sane policy refuses.
    """

    code: int
    failed: tuple[str, ...] = ()
    waived: tuple[str, ...] = ()
    kind: str = ""
    fitting: str = ""


SNP = ("sev-snp.binding.unknown", "sev-snp.revocation.missing")
TDX = ("tdx.binding.unknown",)
NITRO = ("nitro.binding.unknown", "nitro.revocation.missing")
NITROTPM = ("nitrotpm.binding.unknown", "nitrotpm.revocation.missing")
DEVICE = ("nvidia.binding.unknown", "nvidia.revocation.missing")
NO_DRIVER_RIM = (*DEVICE, "nvidia.measurements.not_checked", "nvidia.rim_driver.missing")
NO_RIM = (*NO_DRIVER_RIM, "nvidia.rim_vbios.missing")
NO_COLLATERAL = ("tdx.qe_identity.missing", "tdx.revocation.missing", "tdx.tcb_info.missing")
HAZARDOUS = f"[tee]\naccept = {json.dumps(HAZARDS)}\n"
CERTIFICATES = (
    "certificates of TPMs, without a quote: tests/attestation/evidence and tests/attestation/test_x509.py"
)
REFERENCES = "reference values, without a report: tests/attestation/evidence/nvidia/test_rim.py"
STRUCTURES = "structures of a TPM, without what an evidence item holds: tests/attestation/tpm"

VECTORS: dict[str, Expected | str] = {
    "azure-vtpm/azure-milan-v0": Expected(11, (), SNP, kind="sev-snp"),
    "azure-vtpm/azure-milan-v1": Expected(11, (), SNP, kind="sev-snp"),
    "azure-vtpm/azure-milan-v2": Expected(11, (), SNP, kind="sev-snp"),
    "azure-vtpm/azure-tdx-v0": Expected(10, NO_COLLATERAL, TDX, kind="tdx"),
    "eat/demo": "a statement of another profile than ours",
    "nitro/base-2024-11-prod": Expected(11, (), NITRO),
    "nitro/base-2026-01-prod": Expected(11, (), NITRO),
    "nitro/debug-evervault-2022": Expected(10, ("policy.debug.mismatch",), NITRO),
    "nitro/neg-base-2026-01-corrupt": Expected(30, ("nitro.cose.encoding",)),
    "nitrotpm/ec2-2026-08": Expected(11, (), NITROTPM),
    "nvidia/blackwell-sdk-575.32": Expected(11, (), NO_RIM),
    # One of eight GPUs that its firmware says are joined by switches: the others are not here.
    "nvidia/hopper-evidence-590.12": Expected(11, (), (*NO_RIM, "nvidia.topology.unreported")),
    # Only an OCSP answer would tell that the certificate is on hold, and there is none: that is a waiver, not a pass.
    "nvidia/hopper-evidence-certhold-570.86.10": Expected(11, (), NO_RIM),
    "nvidia/hopper-nvtrust-550.90.07": Expected(11, (), NO_RIM),
    "nvidia/hopper-sdk-535.86.09-vbiosrim": Expected(11, (), NO_DRIVER_RIM),
    "nvidia/hopper-sdk-580.159.03-vbiosrim": Expected(11, (), NO_DRIVER_RIM),
    "nvidia/neg-hopper-invalidsig": Expected(
        10, ("nvidia.fwid.mismatch", "nvidia.signature.invalid"), (*NO_RIM, "nvidia.topology.unreported")
    ),
    "nvidia/neg-rim-chain": REFERENCES,
    "nvidia/neg-rim-edited": REFERENCES,
    "nvidia/neg-rim-expired-edited": REFERENCES,
    "nvidia/neg-switch-invalidsig": Expected(
        10,
        ("nvidia.signature.invalid",),
        (*DEVICE, "nvidia.measurements.not_checked", "nvidia.rim_vbios.missing"),
    ),
    "nvidia/rim-driver-550.144.03": REFERENCES,
    "nvidia/rim-vbios-96.00.5E.00.01": REFERENCES,
    "nvidia/switch-ls10": Expected(11, (), (*DEVICE, "nvidia.topology.gpus")),
    "sev-snp/genoa-oak": Expected(11, (), SNP),
    "sev-snp/milan-oak-cb": Expected(11, (), SNP),
    "sev-snp/milan-oak-oc-release": Expected(11, (), SNP),
    "sev-snp/milan-oak-oc-staging": Expected(11, (), SNP),
    "sev-snp/milan-oak-rk-release": Expected(11, (), SNP),
    "sev-snp/milan-trustee": Expected(10, ("policy.tee.hazard",), SNP, fitting=HAZARDOUS),
    "sev-snp/milan-v2-gosevguest": Expected(10, ("policy.debug.mismatch",), SNP, fitting="debug"),
    "sev-snp/milan-vlek-trustee": Expected(10, ("policy.tee.hazard",), SNP, fitting=HAZARDOUS),
    "sev-snp/neg-milan-trustee-vcek-new": Expected(
        10,
        (
            "sev-snp.chain.signature",
            "sev-snp.chip_id.mismatch",
            "sev-snp.signature.invalid",
            "sev-snp.tcb.mismatch",
        ),
        SNP,
    ),
    "tdx/neg-debug-v4-trustee": Expected(10, ("policy.debug.mismatch",), TDX),
    "tdx/neg-outofdate-v4-automata": Expected(10, ("policy.tcb.mismatch",), TDX),
    "tdx/neg-tcbtooold-v4-google-spr-e4": Expected(30, ("tdx.quote.encoding",)),
    "tdx/neg-tcbtooold-v4-phala": Expected(10, ("tdx.tcb.unsupported",), TDX),
    "tdx/neg-tcbtooold-v5-phala": Expected(10, ("tdx.tcb.unsupported",), TDX),
    "tdx/neg-tcbtooold-v5-trustee": Expected(10, ("tdx.tcb.unsupported",), TDX),
    "tdx/sgx-v3-phala": Expected(20, ("tdx.quote.sgx",)),
    "tdx/v4-azure": Expected(10, ("policy.tcb.mismatch", "policy.tee.hazard"), TDX),
    "tdx/v4-gcp-cos113": Expected(11, (), TDX),
    "tdx/v4-nocollateral-trustee6": Expected(10, NO_COLLATERAL, TDX),
    "tdx/v4-phala": Expected(11, (), TDX),
    "tpm/azure-vtpm-quote": STRUCTURES,
    "tpm/gce-gce-cos-85-no-nonce": STRUCTURES,
    "tpm/gce-pca_tpm_ecc_enc_cert": CERTIFICATES,
    "tpm/gce-pca_tpm_ecc_sign_cert": CERTIFICATES,
    "tpm/gce-pca_tpm_rsa_enc_cert": CERTIFICATES,
    "tpm/gce-pca_tpm_rsa_sign_cert": CERTIFICATES,
    "tpm/gce-uca_tpm_ecc_enc_cert": CERTIFICATES,
    "tpm/gce-uca_tpm_ecc_sign_cert": CERTIFICATES,
    "tpm/gce-uca_tpm_rsa_enc_cert": CERTIFICATES,
    "tpm/gce-uca_tpm_rsa_sign_cert": CERTIFICATES,
    "tpm/hw-ek-st-p256": CERTIFICATES,
    "tpm/hw-ek-st-rsa2048": CERTIFICATES,
    "tpm/quirk-nuvoton-rootca-badset": CERTIFICATES,
    "tpm/swtpm-full-chain": STRUCTURES,
}
"""Name → what is expected, or why the vector is no evidence of its own."""

JUDGED = {name: wanted for name, wanted in VECTORS.items() if isinstance(wanted, Expected)}


def names() -> list[str]:
    found = sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/*/PROVENANCE.json"))
    return found or absent("vectors", str(ROOT))


def provenance(name: str) -> dict[str, Any]:
    path = ROOT / name / "PROVENANCE.json"
    if not path.exists():
        absent("vectors", str(path))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_every_vector_has_an_entry() -> None:
    assert names() == sorted(VECTORS)


@pytest.mark.parametrize("name", JUDGED)
def test_a_vector(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = JUDGED[name]
    ran = run(name, wanted, POLICY, tmp_path, capsys)
    assert ran.code == wanted.code
    if "steps" not in ran.json:  # refused before any step: malformed, or unsupported
        assert (ran.json["code"],) == wanted.failed
        return
    assert codes(ran, "failed") == wanted.failed
    assert codes(ran, "waived", not_checked=True) == tuple(sorted(wanted.waived))


@pytest.mark.parametrize("name", JUDGED)
def test_the_table_says_what_the_provenance_states(name: str) -> None:
    """Genuine vectors are refused by nothing but the policy or what is not here; the others never verify."""
    wanted, stated = JUDGED[name], provenance(name)["expect"]
    if stated in ("reject", "policy") and name != "nvidia/hopper-evidence-certhold-570.86.10":
        assert wanted.code in (10, 20, 30)
    elif stated == "valid":
        mild = (
            "policy.",
            "tdx.qe_identity.missing",
            "tdx.revocation.missing",
            "tdx.tcb_info.missing",
        )
        assert all(code.startswith(mild) for code in wanted.failed)


@pytest.mark.parametrize("name", [name for name, wanted in JUDGED.items() if wanted.fitting])
def test_a_policy_that_fits(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = JUDGED[name]
    debugging = POLICY.replace('["disabled"]', '["enabled"]')
    policy = debugging if wanted.fitting == "debug" else POLICY + wanted.fitting
    ran = run(name, wanted, policy, tmp_path, capsys)
    assert (ran.code, codes(ran, "failed")) == (11, ())


@pytest.mark.parametrize("name", JUDGED)
def test_nothing_verifies_without_waivers(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(name, JUDGED[name], POLICY, tmp_path, capsys, waived=()).code in (10, 20, 30)


def run(
    name: str,
    wanted: Expected,
    policy: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    waived: tuple[str, ...] = WAIVED,
) -> Ran:
    as_of = provenance(name)["as_of"] or "2026-11-20T00:00:00Z"
    directory, kind = ROOT / name, wanted.kind or name.partition("/")[0]
    file = tmp_path / "policy.toml"
    file.write_text(
        policy + "".join(f'[[waive]]\nstep = "{step}"\nreason = "not published"\n' for step in waived)
    )
    beside = [
        argument
        for each in BESIDE
        if (directory / each).exists()
        for argument in ("--with", directory / each)
    ]
    common = ("--kind", kind, "--policy", file, "--json", "--as-of", as_of)
    return rlu(capsys, "verify", directory / FILES[kind], *common, *beside)


def codes(ran: Ran, outcome: str, *, not_checked: bool = False) -> tuple[str, ...]:
    found = sorted(step["code"] for step in ran.json["steps"] if step["outcome"] == outcome)
    return tuple(code for code in found if not_checked or not code.endswith(".not_checked"))
