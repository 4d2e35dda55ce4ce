"""The interface of the package: what `__all__` names is there, and the example in DESIGN.md runs."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

import rlu_attestation
from fakes import amd
from fakes.deployment import AT, Deployment
from fakes.machine import registrar, vendor_root

DESIGN = Path(__file__).resolve().parents[2] / "attestation" / "DESIGN.md"
DATA = bytes(range(64))
POLICY = """
version = 1
pcrs = "any"
[measurements]
sev-snp = "any"
[tcb]
sev-snp = "any"
[trust]
ek_roots = ["vendor.der"]
registrars = ["registrar.der"]
roots = { sev-snp = ["ark.der"] }
[accept]
hardware_profiles = "any"
regions = "any"
boundaries = "any"
sites = "any"
models = "any"
engines = "any"
engine_arguments = "any"
gateways = "any"
gateway_images = "any"
debug_states = ["disabled"]
[channel]
origins = ["gateway-memory"]
[lock]
attestor = "any"
engine = "any"
gateway = "any"
[minimum_source]
default = "asserted"
"""


@pytest.mark.parametrize("name", rlu_attestation.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(rlu_attestation, name) is not None


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        rlu_attestation.nothing  # noqa: B018


def test_the_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = re.findall(r"```python\n(.*?)```", DESIGN.read_text("utf-8"), re.DOTALL)
    assert len(example) == 1
    parts = amd.parts(amd.Chip(), DATA)
    files = {
        "policy.toml": POLICY.encode(),
        "vendor.der": vendor_root().der,
        "registrar.der": registrar().der,
        "ark.der": parts.ark,
        "bundle.rlu": Deployment().bundle().encode(),
        "report.bin": parts.report,
        "vcek.der": parts.vek,
        "ask_ark.pem": b"".join(map(pem, (parts.ask, parts.ark))),
        "crl.der": parts.crl or b"",
        "report_data.bin": DATA,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.time", lambda: float(AT))
    exec(compile(example[0], str(DESIGN), "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert first == "verified []"
    assert second.startswith("verified {'evidence': 'AMD SEV-SNP guest on EPYC Milan")


def pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
