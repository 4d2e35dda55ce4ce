"""Azure's virtual TPM: a real swtpm provisioned as the paravisor does it, to items that verify in every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fakes import amd, azure, intel
from fakes.asn1 import PublicKey
from fakes.azure_vtpm_steps import failures
from fakes.collecting import BINDINGS, items
from fakes.tpm import private_key
from fakes.vtpm import provision_azure
from rlu_attestation.evidence import azure_vtpm
from rlu_server.attestor.collect.azure_vtpm import AzureKey
from rlu_server.attestor.errors import AttestorError, HardwareRefused, NotReady
from rlu_server.attestor.tpm.platform import TpmConfiguration, TpmPlatform
from rlu_server.swtpm import SoftwareTpm

pytestmark = pytest.mark.tpm
SECRET = b"s" * 32
PCRS = (0, 1, 2, 3, 4, 5, 6, 7)


def runtime_of(key: PublicKey) -> bytes:
    """Runtime data about an AK."""
    return azure.compact(
        {"keys": [azure.jwk(key, "HCLAkPub", "sign")], "vm-configuration": {"secure-boot": True}}
    )


def report_about(hardware: str = "sev-snp", key: PublicKey | None = None) -> Callable[[PublicKey], bytes]:
    def vouch(ak: PublicKey) -> bytes:
        hcl: azure.Hcl = azure.Vm(hardware=hardware).vouch(runtime_of(key or ak))["hcl"]
        return hcl.data

    return vouch


@pytest.fixture
def snp(tmp_path: Path) -> Path:
    """What AMD endorses, in the collateral directory."""
    directory, chip = tmp_path / "collateral", azure.CHIP
    directory.mkdir()
    (directory / "vcek.crt").write_bytes(chip.certificate())
    (directory / "ask.crt").write_bytes(chip.issuer.der)
    (directory / "ark.crt").write_bytes(amd.ark(chip.product).der)
    (directory / "ark.crl").write_bytes(amd.ark(chip.product).revoke(0x666))
    return directory


@contextmanager
def opened(tpm: SoftwareTpm, directory: Path, collateral: Path) -> Iterator[TpmPlatform]:
    configuration = TpmConfiguration(tpm.tcti, directory / "key.pem", PCRS)
    with closing(TpmPlatform(configuration, SECRET, AzureKey(collateral))) as platform:
        yield platform


def refused(tpm: SoftwareTpm, collateral: Path, kind: type[AttestorError], code: str) -> str:
    with pytest.raises(kind) as caught, opened(tpm, collateral.parent, collateral):
        pass
    assert caught.value.code == code
    return caught.value.message


def test_items_verify_on_sev_snp(software_tpm: SoftwareTpm, tmp_path: Path, snp: Path) -> None:
    provision_azure(software_tpm.tcti, report_about())
    with opened(software_tpm, tmp_path, snp) as platform:
        assert platform.kind == "azure-vtpm"
        made = items(platform)
        assert azure_vtpm.parse(made[0]).key_public.public_key() == platform.public_key
        platform.sign(bytes(32))
    for item, binding in zip(made, BINDINGS, strict=True):
        assert failures(item, binding) == []
    assert failures(made[0], BINDINGS[1]) == ["quote.binding.mismatch"]


def tdx_collateral(directory: Path, ak: PublicKey) -> None:
    """What the host gives a VM on TDX: a quote of its TDREPORT, and Intel's collateral."""
    directory.mkdir()
    quote = azure.PLATFORM.quote(azure.report_data(runtime_of(ak)))
    (directory / "quote.bin").write_bytes(quote.data)
    (directory / "collateral.json").write_bytes(intel.parts(azure.PLATFORM, bytes(64)).pccs())


def test_items_verify_on_tdx(software_tpm: SoftwareTpm, tmp_path: Path) -> None:
    given = tmp_path / "collateral"

    def vouch(ak: PublicKey) -> bytes:
        tdx_collateral(given, ak)
        return report_about("tdx")(ak)

    provision_azure(software_tpm.tcti, vouch)
    with opened(software_tpm, tmp_path, given) as platform:
        made = items(platform)
    for item, binding in zip(made, BINDINGS, strict=True):
        assert failures(item, binding) == []


@pytest.mark.parametrize(
    ("quote", "code", "text"),
    [
        ("other", "azure-vtpm.quote", "another boot"),
        (b"rubbish", "azure-vtpm.quote", "no quote"),
        (None, "collateral.file", "quote.bin"),
    ],
    ids=["another-boot", "rubbish", "absent"],
)
def test_a_quote_that_is_not_of_this_boot(
    software_tpm: SoftwareTpm, tmp_path: Path, quote: bytes | str | None, code: str, text: str
) -> None:
    provision_azure(software_tpm.tcti, report_about("tdx"))
    given = tmp_path / "collateral"
    tdx_collateral(given, private_key("rsa2048", "another boot").public_key())
    if isinstance(quote, bytes):
        (given / "quote.bin").write_bytes(quote)
    elif quote is None:
        (given / "quote.bin").unlink()
    assert text in refused(software_tpm, given, NotReady, code)


def test_another_machine(software_tpm: SoftwareTpm, snp: Path) -> None:
    assert "Azure" in refused(software_tpm, snp, NotReady, "azure-vtpm.absent")


def test_a_report_without_its_key(software_tpm: SoftwareTpm, snp: Path) -> None:
    provision_azure(software_tpm.tcti, report_about(), handle=0x81000004)
    refused(software_tpm, snp, NotReady, "azure-vtpm.absent")


def test_a_report_about_another_key(software_tpm: SoftwareTpm, snp: Path) -> None:
    other = private_key("rsa2048", "another AK").public_key()
    provision_azure(software_tpm.tcti, report_about(key=other))
    refused(software_tpm, snp, HardwareRefused, "azure-vtpm.ak")


def changed(change: Callable[[azure.Hcl], Any]) -> Callable[[PublicKey], bytes]:
    def vouch(ak: PublicKey) -> bytes:
        data: bytes = change(azure.Vm().vouch(runtime_of(ak))["hcl"])
        return data

    return vouch


@pytest.mark.parametrize(
    "change",
    [
        lambda hcl: b"",
        lambda hcl: hcl.data + b"x",
        lambda hcl: b"HCLB" + hcl.data[4:],
        lambda hcl: hcl.data[:40] + b"\xff" * 8 + hcl.data[48:],
    ],
    ids=["empty", "trailing", "signature", "hardware-report"],
)
def test_a_report_that_cannot_be_read(
    software_tpm: SoftwareTpm, snp: Path, change: Callable[[azure.Hcl], Any]
) -> None:
    provision_azure(software_tpm.tcti, changed(change))
    refused(software_tpm, snp, HardwareRefused, "azure-vtpm.hcl")


def test_no_certificate_of_the_chip(software_tpm: SoftwareTpm, snp: Path) -> None:
    provision_azure(software_tpm.tcti, report_about())
    (snp / "vcek.crt").unlink()
    assert "kdsintf.amd.com" in refused(software_tpm, snp, NotReady, "sev-snp.endorsement")
