"""Real evidence of Azure's VMs: each must give what its PROVENANCE.json states.

The vectors have no instance key, so that the steps about one run over a fake's. They name the AK by its bare key: its public area is
put together from Azure's template, and the TPM's own signature proves that it is the right one.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fakes import azure
from fakes import tpm_marshal as marshal
from fakes.azure_vtpm_perturbations import scene
from fakes.tools import checkquote_raw
from fakes.vectors import vector
from rlu_attestation import x509
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed, RluError, Untrusted
from rlu_attestation.evidence import azure_vtpm, sev_snp, tdx
from rlu_attestation.evidence.azure_vtpm import AzureVtpmEvidence, ReportType, SevSnpHardware, TdxHardware
from rlu_attestation.tpm import checks

pytestmark = pytest.mark.vectors

MILAN = ("azure-milan-v0", "azure-milan-v1", "azure-milan-v2")
ALL = (*MILAN, "azure-tdx-v0")
AK_ATTRIBUTES = marshal.AK_ATTRIBUTES | marshal.NO_DA
AZURES_ID_KEY = (
    "942fd93ebde6ea7a96efadeafc60f1c6b3d10e703b1dafd7555b92f7f3d32d0e006767648cba5b102af3d65756af4177"
)


def provenance(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((vector("azure-vtpm", name) / "PROVENANCE.json").read_text())
    return found


def hardware(path: Path) -> dict[str, Any]:
    if (path / "quote.bin").exists():
        return {"kind": "tdx", "quote": b64u(tdx.trim((path / "quote.bin").read_bytes()))}
    vek = next(file for file in (path / "vek.der", path / "vek.pem") if file.exists())
    ask, ark = x509.parse_many((path / "ask_ark.pem").read_bytes())
    (leaf,) = x509.parse_many(vek.read_bytes())
    chain = {"vek_certificate": leaf, "ask_certificate": ask, "ark_certificate": ark}
    return {"kind": "sev-snp", **{name: b64u(found.raw) for name, found in chain.items()}}


def evidence(name: str, **changes: Any) -> AzureVtpmEvidence:
    path = vector("azure-vtpm", name)
    report = azure_vtpm.trim_nv((path / "hcl_report.bin").read_bytes())
    ak = azure_vtpm.parse_hcl_report(report).runtime.ak
    values = (path / "pcrs_sha256.hex").read_text().split()
    signature = marshal.rsa_signature(marshal.RSASSA, "sha256", (path / "tpm_quote.sig").read_bytes())
    parts = replace(
        scene().parts,
        ak_public=marshal.public(ak, attributes=AK_ATTRIBUTES, scheme=(marshal.RSASSA, "sha256")),
        quote=((path / "tpm_quote.msg").read_bytes(), signature),
        pcrs={"sha256": {number: bytes.fromhex(value) for number, value in enumerate(values)}},
        event_log=None,
        hardware=hardware(path),
        further={"hcl_report": b64u(report)},
    )
    return azure_vtpm.parse(replace(parts, **changes).encode())


@pytest.mark.parametrize("name", MILAN)
def test_everything_on_sev_snp(name: str) -> None:
    stated, held = provenance(name), evidence(name)
    expected, at = stated["expected_claims"], datetime.fromisoformat(stated["as_of"])
    assert stated["expect"] == "valid"
    beside = held.hardware
    assert isinstance(beside, SevSnpHardware)
    report = held.hcl.hardware_report
    assert report == (vector("azure-vtpm", name) / "report.bin").read_bytes()
    certificates = (beside.vek_certificate, beside.ask_certificate, beside.ark_certificate)
    claims = sev_snp.verify(sev_snp.from_parts(report, *certificates), at)
    assert claims.report_data.hex() == expected["report_data"]
    azure_vtpm.verify_runtime_data(held, claims.report_data)
    azure_vtpm.verify_vmpl(held, claims.vmpl)
    azure_vtpm.verify_paravisor(claims.measurement, {bytes.fromhex(expected["measurement"])})
    assert claims.id_key_digest is not None
    azure_vtpm.verify_paravisor(claims.id_key_digest, {bytes.fromhex(AZURES_ID_KEY)})


@pytest.mark.parametrize("name", ALL)
def test_the_virtual_tpm(name: str) -> None:
    expected, held = provenance(name)["expected_claims"], evidence(name)
    assert held.hcl.report_type == expected["report_type"]
    runtime = held.hcl.runtime
    assert list(runtime.key_ids) == expected["var_data_keys"]
    assert runtime.vm_configuration == expected["vm_configuration"]
    assert runtime.user_data == bytes.fromhex(expected["user_data"])
    azure_vtpm.verify_ak(held)
    checks.verify_ak_attributes(held)
    checks.verify_quote_signature(held)
    pcrs = checks.verify_quote_pcrs(held)
    assert azure_vtpm.claims_of(held, pcrs).secure_boot is expected["vm_configuration"]["secure-boot"]
    assert held.quote.attest.extra_data.hex() == expected["nonce_hex"]
    with pytest.raises(Untrusted) as refused:
        checks.verify_key_certify(held)
    assert refused.value.code == "key.certify.signature"


def test_everything_on_tdx() -> None:
    """Azure's quotes carry no collateral, so that the platform's TCB is not judged here; chain and signatures are."""
    held = evidence("azure-tdx-v0")
    assert isinstance(held.hardware, TdxHardware)
    at = datetime.fromisoformat(provenance("azure-tdx-v0")["as_of"])
    quote = tdx.from_parts(held.hardware.quote)
    tdx.verify_root(quote)
    tdx.verify_chain(quote, at)
    tdx.verify_qe_report(quote)
    tdx.verify_attestation_key(quote)
    tdx.verify_signature(quote)
    body = held.hardware.quote[48:632]
    azure_vtpm.verify_runtime_data(held, body[520:584])
    azure_vtpm.verify_vmpl(held, None)
    azure_vtpm.verify_td_report(held, body)
    azure_vtpm.verify_paravisor(body[136:184], {body[136:184]})
    for name, (_, theirs, _) in azure.TD_FIELDS.items():
        changed = body[:theirs] + bytes([body[theirs] ^ 1]) + body[theirs + 1 :]
        with pytest.raises(Untrusted, match=name.rstrip("0123456789") if name.startswith("RTMR") else name):
            azure_vtpm.verify_td_report(held, changed)


@pytest.mark.parametrize("name", ALL)
def test_tpm2_tools_accept_the_quote(name: str, tmp_path: Path) -> None:
    held = evidence(name)
    path, extra = vector("azure-vtpm", name), held.quote.attest.extra_data
    signature = marshal.rsa_signature(marshal.RSASSA, "sha256", (path / "tpm_quote.sig").read_bytes())
    ak, quote = held.hcl.runtime.ak, held.quote.attest.raw
    assert checkquote_raw(ak, quote, signature, held.pcrs, extra, tmp_path) is True
    assert checkquote_raw(ak, quote, signature, held.pcrs, b"\0" + extra, tmp_path) is False


@pytest.mark.parametrize(
    ("name", "other"), [("azure-milan-v0", "azure-milan-v2"), ("azure-milan-v2", "azure-milan-v0")]
)
def test_the_report_of_another_vm(name: str, other: str) -> None:
    path = vector("azure-vtpm", other)
    report = azure_vtpm.trim_nv((path / "hcl_report.bin").read_bytes())
    mixed = evidence(name, further={"hcl_report": b64u(report)})
    with pytest.raises(Untrusted) as refused:
        azure_vtpm.verify_ak(mixed)
    assert refused.value.code == "azure-vtpm.ak.key"
    with pytest.raises(Untrusted) as refused:
        azure_vtpm.verify_runtime_data(evidence(name), mixed.hcl.report_data)
    assert refused.value.code == "azure-vtpm.runtime_data.mismatch"


@pytest.mark.parametrize("attributes", [AK_ATTRIBUTES & ~marshal.RESTRICTED, AK_ATTRIBUTES & ~marshal.NO_DA])
def test_other_attributes_than_the_tpm_signs_for(attributes: int) -> None:
    ak = evidence("azure-milan-v2").hcl.runtime.ak
    public = marshal.public(ak, attributes=attributes, scheme=(marshal.RSASSA, "sha256"))
    with pytest.raises(Untrusted) as refused:
        azure_vtpm.verify_ak(evidence("azure-milan-v2", ak_public=public))
    assert refused.value.code == "azure-vtpm.ak.name"


@pytest.mark.parametrize("name", ALL)
def test_padding_in_nv_is_trimmed_by_the_collector_and_refused_in_an_item(name: str) -> None:
    raw = (vector("azure-vtpm", name) / "hcl_report.bin").read_bytes()
    assert len(raw) == azure.NV_SIZE
    with pytest.raises(Malformed):
        azure_vtpm.parse_hcl_report(raw)
    trimmed = azure_vtpm.trim_nv(raw)
    assert azure_vtpm.trim_nv(trimmed) == trimmed
    for garbled in (raw[:-1] + b"\1", raw[: len(trimmed) - 1], raw[:11], b""):
        with pytest.raises(Malformed):
            azure_vtpm.trim_nv(garbled)


@pytest.mark.parametrize("name", ALL)
def test_every_truncation_refuses(name: str) -> None:
    report = azure_vtpm.trim_nv((vector("azure-vtpm", name) / "hcl_report.bin").read_bytes())
    for size in range(len(report)):
        with pytest.raises(RluError):
            azure_vtpm.parse_hcl_report(report[:size])
    assert azure_vtpm.parse_hcl_report(report).report_type in (ReportType.SNP, ReportType.TDX)
