"""Real reports and reference values: each gives the verdict and the claims of its provenance, at its time."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from fakes.vectors import vector
from reference import nvidia as naive
from rlu_attestation import x509
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import nvidia
from rlu_attestation.evidence.nvidia import PINNED, DeviceParts, NvidiaEvidence, references

pytestmark = pytest.mark.vectors

VALID = [
    "blackwell-sdk-575.32",
    "hopper-evidence-590.12",
    "hopper-evidence-certhold-570.86.10",
    "hopper-nvtrust-550.90.07",
    "hopper-sdk-535.86.09-vbiosrim",
    "hopper-sdk-580.159.03-vbiosrim",
    "switch-ls10",
]
REJECTED = {
    "neg-hopper-invalidsig": ["nvidia.fwid.mismatch", "nvidia.signature.invalid"],
    "neg-switch-invalidsig": ["nvidia.signature.invalid"],
}
RIMS = ["rim-driver-550.144.03", "rim-vbios-96.00.5E.00.01"]
REJECTED_RIMS = {
    "neg-rim-chain": "step.root",
    "neg-rim-edited": "step.digest",
    "neg-rim-expired-edited": "step.digest",
}
STEP_OF_CHECK = {"rim_sig": "signature", "rim_digest": "digest"}
DEVICE_ROOTS = [root.certificate_sha256 for root in PINNED.gpu]
RIM_ROOTS = [root.certificate_sha256 for root in PINNED.rim]


def test_every_vector_is_listed() -> None:
    there = {path.name for path in vector("nvidia", VALID[0]).parent.iterdir() if path.is_dir()}
    assert there == {*VALID, *REJECTED, *RIMS, *REJECTED_RIMS}


def provenance(name: str) -> tuple[Path, dict[str, Any], datetime]:
    path = vector("nvidia", name)
    found = json.loads((path / "PROVENANCE.json").read_text())
    at = datetime.fromisoformat(found["as_of"])
    return path, found, at if at.tzinfo else at.replace(tzinfo=timezone.utc)


def parts_of(path: Path) -> DeviceParts:
    chain = x509.parse_many((path / "chain.pem").read_bytes())
    return DeviceParts((path / "report.bin").read_bytes(), tuple(found.raw for found in chain))


def load(name: str) -> tuple[NvidiaEvidence, dict[str, Any], datetime]:
    path, found, at = provenance(name)
    rims = [file.read_bytes() for file in sorted(path.glob("rim*.xml"))]
    parts = [parts_of(path)]
    switch = "switch" in name
    return nvidia.from_parts([] if switch else parts, parts if switch else [], rims=rims), found, at


def refusals(evidence: NvidiaEvidence, at: datetime) -> list[str]:
    """Of the steps that need nothing but a report and its certificates."""
    found = []
    for step in (
        lambda: nvidia.verify_root(evidence),
        lambda: nvidia.verify_chain(evidence, at),
        lambda: nvidia.verify_identity(evidence),
        lambda: nvidia.verify_fwid(evidence),
        lambda: nvidia.verify_signature(evidence),
    ):
        try:
            step()  # type: ignore[no-untyped-call]
        except RluError as error:
            found.append(error.code)
    return found


def naively(evidence: NvidiaEvidence, at: datetime) -> dict[str, Any] | None:
    """What the naive verifier says of the one device, without reference values."""
    (device,) = evidence.devices
    switch = bool(evidence.switches)
    chain = [naive.x509.load_der_x509_certificate(found.raw) for found in device.chain]
    try:
        fields = naive.decode(device.report.raw, switch)
        naive.walk(chain, at, DEVICE_ROOTS)
        naive.signed_by(chain[0].public_key(), device.report.raw[-96:], device.report.raw[:-96])
        fields |= naive.identify(chain, switch)
        naive.need(fields["fwid"] in (None, fields["certified"]), "fwid")
    except naive.Rejected:
        return None
    return fields


@pytest.mark.parametrize("name", VALID)
def test_valid(name: str) -> None:
    evidence, found, at = load(name)
    assert found["expect"] in ("valid", "policy")
    assert refusals(evidence, at) == []
    (device,), (identity,) = evidence.devices, nvidia.verify_identity(evidence)
    report, expected = device.report, found["expected_claims"]
    assert report.nonce.hex() == expected["nonce"]
    nvidia.verify_nonce(evidence, report.nonce)
    assert {str(one.index): one.value.hex() for one in report.measurements} == expected["measurements"]
    assert len(report.measurements) == expected["n_meas"]
    assert len(device.chain) == expected["certs"]
    opaque = report.opaque
    assert (opaque.driver or "", opaque.project or "") == (expected["driver"], expected["project"])
    assert (opaque.project_sku or "", opaque.chip_sku or "") == (
        expected["project_sku"],
        expected["chip_sku"],
    )
    assert dict(opaque.fields)[6].hex() == expected["vbios_raw"]
    flag = "" if opaque.feature is None else opaque.feature.value.to_bytes(2, "little").hex()
    assert flag == expected["feature_flag"]
    assert len(opaque.fields) == len(expected["opaque_fields"])
    assert f"2.5.4.5={int(identity.ueid):X}".startswith(expected["leaf"].rpartition(",")[2])
    (fwid,) = nvidia.verify_fwid(evidence)
    assert ("absent" if fwid is None else "ok") == found["checks"]["fwid"]
    fields = naively(evidence, at)
    assert fields is not None
    assert (fields["chip"], fields["model"], fields["serial"]) == (
        identity.chip,
        identity.model,
        identity.serial,
    )
    assert (fields["vbios"], fields["ueid"], fields["fwid"]) == (opaque.vbios, identity.ueid, fwid)
    assert (fields.get("switches"), fields.get("gpus")) == (opaque.switches, opaque.gpus)
    assert all(value and meaning for _, value, meaning in nvidia.describe(evidence))


@pytest.mark.parametrize("name", REJECTED)
def test_rejected(name: str) -> None:
    evidence, found, at = load(name)
    assert found["expect"] == "reject"
    assert refusals(evidence, at) == REJECTED[name]
    assert naively(evidence, at) is None


@pytest.mark.parametrize("name", [name for name in VALID if "rim" in name or "switch" in name])
def test_reference_values(name: str) -> None:
    evidence, found, at = load(name)
    identities = nvidia.verify_identity(evidence)
    (rim,) = nvidia.verify_rim_vbios(evidence, identities, at)
    (expected,) = found["rim"].values()
    assert len(rim.active) == expected["golden_active"]
    assert rim.version == expected["info"]["version"] == evidence.devices[0].report.opaque.vbios
    rims = evidence.devices[0].report, [rim], "step"
    if not expected["mismatch"]:
        assert references.compare(*rims) == expected["golden_active"]
        return
    with pytest.raises(RluError) as refused:
        references.compare(*rims)
    assert refused.value.code == "step.mismatch"
    indexes = ", ".join(map(str, expected["mismatch"]))
    assert f"indexes {indexes} are" in refused.value.message


@pytest.mark.parametrize("name", [*RIMS, *REJECTED_RIMS])
def test_rim(name: str) -> None:
    path, found, at = provenance(name)
    data = (path / "rim.xml").read_bytes()
    rim, info = nvidia.parse_rim(data), found["info"]
    assert (rim.version, rim.product, len(rim.active)) == (info["version"], info["product"], info["active"])
    assert rim.tag_id.startswith(info["tagId"])
    assert len(rim.certificates) == info["ncerts"]
    assert (hashlib.sha384(rim.signed).digest() == rim.digest) is (found["checks"]["rim_digest"] == "ok")
    assert references.verifies(rim.certificates[0], rim.signature, rim.signed_info, "key")
    try:
        tag = naive.load_rim(data)
        naive.walk(tag["chain"], at, RIM_ROOTS)
        naive.signed_by(tag["chain"][0].public_key(), tag["signature"], tag["signed_info"])
        assert {value.index: set(value.alternatives) for value in rim.active} == tag["values"]
        agreed = True
    except naive.Rejected:
        agreed = False
    assert agreed is found["verifies"]
    if found["verifies"]:
        assert references.verify_rim(rim, at, PINNED.rim, "step") == rim.certificates
        return
    with pytest.raises(RluError) as refused:
        references.verify_rim(rim, at, PINNED.rim, "step")
    assert refused.value.code == REJECTED_RIMS[name]


def test_an_edited_and_expired_rim_fails_for_both() -> None:
    path, _, at = provenance("neg-rim-expired-edited")
    rim = nvidia.parse_rim((path / "rim.xml").read_bytes())
    with pytest.raises(RluError) as refused:
        references.chain.verify_chain(
            rim.certificates[0], rim.certificates[1:-1], rim.certificates[-1:], at, "step"
        )
    assert refused.value.code == "step.expired"


def test_a_driver_without_reference_values_is_not_believed() -> None:
    evidence, _, at = load("hopper-nvtrust-550.90.07")
    with pytest.raises(RluError) as refused:
        nvidia.verify(evidence, at)
    assert refused.value.code == "nvidia.rim_driver.missing"
    with pytest.raises(RluError) as refused:
        nvidia.verify_rim_vbios(evidence, nvidia.verify_identity(evidence), at)
    assert refused.value.code == "nvidia.rim_vbios.missing"
    with pytest.raises(RluError) as refused:
        nvidia.verify_revocation(evidence, at, timedelta(days=36500))
    assert refused.value.code == "nvidia.revocation.missing"


def test_the_claims_of_nvidias_own_service_for_a_gpu() -> None:
    evidence, _, _ = load("hopper-nvtrust-550.90.07")
    claims = json.loads((vector("nvidia", VALID[0]).parent / "hopperClaimsv3_decoded.json").read_text())[
        "GPU-0"
    ]
    (identity,), (device,) = nvidia.verify_identity(evidence), evidence.devices
    assert identity.model == claims["hwmodel"]
    assert identity.ueid == claims["ueid"]
    assert device.report.nonce.hex() == claims["eat_nonce"]
    assert device.report.opaque.driver == claims["x-nvidia-gpu-driver-version"]
    assert device.report.opaque.vbios == claims["x-nvidia-gpu-vbios-version"]
    assert claims["x-nvidia-gpu-attestation-report-cert-chain-fwid-match"]
    assert nvidia.verify_fwid(evidence)[0] is not None
    expiry = claims["x-nvidia-gpu-attestation-report-cert-chain"]["x-nvidia-cert-expiration-date"]
    assert min(found.not_after for found in device.chain) == datetime.fromisoformat(
        expiry.replace("Z", "+00:00")
    )


def test_the_claims_of_nvidias_own_service_for_a_switch() -> None:
    evidence, _, _ = load("switch-ls10")
    claims = json.loads((vector("nvidia", VALID[0]).parent / "switch_decoded.json").read_text())["SWITCH-0"]
    (identity,), (device,) = nvidia.verify_identity(evidence), evidence.devices
    assert identity.model == claims["hwmodel"]
    assert identity.ueid == claims["ueid"]
    assert device.report.nonce.hex() == claims["eat_nonce"]
    assert device.report.opaque.vbios == claims["x-nvidia-switch-bios-version"]


def test_reports_under_certificates_of_other_vectors_refuse() -> None:
    at = datetime(2026, 6, 15, tzinfo=timezone.utc)
    devices = {name: parts_of(vector("nvidia", name)) for name in VALID if "switch" not in name}
    for name, device in devices.items():
        for other, endorsements in devices.items():
            mixed = nvidia.from_parts([DeviceParts(device.report, endorsements.chain)])
            assert (refusals(mixed, at) == []) is (name == other)
            assert (naively(mixed, at) is None) is (name != other)


def test_devices_that_list_switches_want_their_reports() -> None:
    evidence, _, _ = load("hopper-evidence-590.12")
    with pytest.raises(RluError) as refused:
        nvidia.verify_topology(evidence)
    assert refused.value.code == "nvidia.topology.unreported"
    assert len(evidence.gpus[0].report.opaque.switches or ()) == 4


def test_a_switch_knows_its_id_from_its_certificate() -> None:
    """The device key's certificate has the id as its serial number, after a byte for the kind: so far seen once, and not relied on."""
    evidence, _, _ = load("switch-ls10")
    (switch,) = evidence.switches
    assert switch.chain[1].serial.to_bytes(9, "big") == b"\x50" + (switch.report.opaque.pdi or b"")
