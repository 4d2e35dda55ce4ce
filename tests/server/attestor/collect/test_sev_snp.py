"""SEV-SNP: from a fake chip behind configfs-tsm to items that verify in every step."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from fakes import amd
from fakes.collecting import BINDINGS, items
from fakes.configfs_tsm import ConfigfsTsm, certificate_table, snp
from fakes.pki import AT
from fakes.sev_snp_steps import failures
from rlu_attestation import x509
from rlu_attestation.evidence import sev_snp
from rlu_attestation.evidence.sev_snp import ProductLine, Root
from rlu_server.attestor.collect.sev_snp import SevSnpCollector
from rlu_server.attestor.collect.tsm import TsmReports
from rlu_server.attestor.errors import AttestorError, HardwareRefused, HardwareUnavailable, NotReady

EMPTY = certificate_table()


def root(product: str) -> tuple[Root, ...]:
    certificate = x509.parse(amd.ark(product).der)
    return (Root(ProductLine(product), certificate.fingerprint, certificate.spki_sha256),)


def collector(configfs: ConfigfsTsm, directory: Path) -> SevSnpCollector:
    return SevSnpCollector(TsmReports(configfs.path, lambda _: None), directory)


def provide(directory: Path, chip: amd.Chip, *, crl: bool = True, **certificate: object) -> None:
    """What an operator puts into the collateral directory."""
    directory.mkdir(exist_ok=True)
    (directory / "vek.crt").write_bytes(chip.certificate(**certificate))
    (directory / "ask.der").write_bytes(chip.issuer.der)
    (directory / "ark.cer").write_bytes(amd.ark(chip.product).der)
    if crl:
        (directory / "ark.crl").write_bytes(amd.ark(chip.product).revoke(0x666))
    (directory / "README.txt").write_text("not a certificate")


@pytest.mark.parametrize(
    "chip",
    [amd.Chip("Milan"), amd.Chip("Genoa", version=2), amd.Chip("Turin", version=5)],
    ids=lambda c: c.product,
)
def test_the_hosts_certificates_make_items_that_verify(chip: amd.Chip, tmp_path: Path) -> None:
    with ConfigfsTsm(snp(chip)) as configfs:
        made = items(collector(configfs, tmp_path))
        assert len(configfs.made) == 1  # one report for all of them
    for item, binding in zip(made, BINDINGS, strict=True):
        assert failures(item, binding, root(chip.product)) == ["sev-snp.revocation.missing"]
        sev_snp.verify(sev_snp.parse(item), AT, root(chip.product))
    assert failures(made[0], BINDINGS[1], root(chip.product))[-1].startswith("sev-snp.binding")


@pytest.mark.parametrize("csp_id", [None, "cloud"], ids=["vcek", "vlek"])
def test_the_directory_fills_what_the_host_has_not(csp_id: str | None, tmp_path: Path) -> None:
    chip = amd.Chip("Genoa", csp_id=csp_id)
    provide(tmp_path, chip)
    with ConfigfsTsm(snp(chip, table=EMPTY)) as configfs:
        made = items(collector(configfs, tmp_path))
    for item, binding in zip(made, BINDINGS, strict=True):
        assert failures(item, binding, root("Genoa")) == []


def test_the_chain_as_amd_hands_it_out_in_one_file(tmp_path: Path) -> None:
    chip = amd.Chip()
    provide(tmp_path, chip)
    pem = b""
    for name in ("ask.der", "ark.cer"):
        pem += x509_pem((tmp_path / name).read_bytes())
        (tmp_path / name).unlink()
    (tmp_path / "cert_chain.pem").write_bytes(pem)
    with ConfigfsTsm(snp(chip, table=EMPTY)) as configfs:
        item = items(collector(configfs, tmp_path))[0]
    assert failures(item, BINDINGS[0], root("Milan")) == []


def x509_pem(der: bytes) -> bytes:
    text = b64encode(der).decode()
    return f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n".encode()


def test_the_certificate_of_the_present_firmware_is_chosen(tmp_path: Path) -> None:
    chip = amd.Chip()
    provide(tmp_path, chip)
    before = bytes([3, *chip.tcb[1:]])
    (tmp_path / "a-former.crt").write_bytes(chip.certificate(extensions=chip.extensions(tcb=before)))
    other = amd.Chip(label="another chip")
    (tmp_path / "b-other.crt").write_bytes(other.certificate())
    with ConfigfsTsm(snp(chip, table=EMPTY)) as configfs:
        item = items(collector(configfs, tmp_path))[0]
    assert failures(item, BINDINGS[0], root("Milan")) == []


def test_a_broken_table_is_as_good_as_none(tmp_path: Path) -> None:
    chip = amd.Chip()
    provide(tmp_path, chip)
    with ConfigfsTsm(snp(chip, table=b"\xff" * 100)) as configfs:
        item = items(collector(configfs, tmp_path))[0]
    assert failures(item, BINDINGS[0], root("Milan")) == []


def test_rubbish_inside_the_table_is_left_out(tmp_path: Path) -> None:
    chip = amd.Chip()
    provide(tmp_path, chip)
    table = certificate_table(vcek=b"rubbish", ask=b"\x30\x00", ark=b"x", crl=b"y")
    with ConfigfsTsm(snp(chip, table=table)) as configfs:
        item = items(collector(configfs, tmp_path))[0]
    assert failures(item, BINDINGS[0], root("Milan")) == []


def test_the_newest_revocation_list_is_taken(tmp_path: Path) -> None:
    chip = amd.Chip()
    provide(tmp_path, chip)
    older = amd.ark("Milan").revoke(
        0x777, this_update=AT - timedelta(days=390), next_update=AT - timedelta(days=360)
    )
    table = certificate_table(
        vcek=chip.certificate(), ask=chip.issuer.der, ark=amd.ark("Milan").der, crl=older
    )
    with ConfigfsTsm(snp(chip, table=table)) as configfs:
        item = items(collector(configfs, tmp_path))[0]
    assert failures(item, BINDINGS[0], root("Milan")) == []


def refused(
    kind: type[AttestorError],
    code: str,
    chip: amd.Chip,
    directory: Path,
    change: Callable[[bytes], bytes] | None = None,
) -> str:
    provider = snp(chip, table=EMPTY)
    genuine = provider.report
    if change is not None:
        provider.report = lambda data, level: change(genuine(data, level))
    with ConfigfsTsm(provider) as configfs, pytest.raises(kind) as caught:
        items(collector(configfs, directory))
    assert caught.value.code == code
    return caught.value.message


def test_no_certificate_says_where_amd_has_it(tmp_path: Path) -> None:
    chip = amd.Chip("Turin")
    message = refused(NotReady, "sev-snp.endorsement", chip, tmp_path)
    assert f"/vcek/v1/Turin/{chip.hwid.hex()}?fmcSPL=1&blSPL=2&teeSPL=0&snpSPL=3&ucodeSPL=9" in message
    assert str(tmp_path) in message


def test_no_certificate_for_a_report_that_does_not_name_its_processor(tmp_path: Path) -> None:
    chip = amd.Chip("Milan", version=2)
    assert chip.hwid.hex() in refused(NotReady, "sev-snp.endorsement", chip, tmp_path)


def test_no_vlek_certificate(tmp_path: Path) -> None:
    assert "cloud provider" in refused(NotReady, "sev-snp.endorsement", amd.Chip(csp_id="cloud"), tmp_path)


def test_another_chips_certificate(tmp_path: Path) -> None:
    provide(tmp_path, amd.Chip(label="another chip"))
    refused(NotReady, "sev-snp.endorsement", amd.Chip(), tmp_path)


@pytest.mark.parametrize("name", ["ask.der", "ark.cer"])
def test_an_authority_is_missing(tmp_path: Path, name: str) -> None:
    provide(tmp_path, amd.Chip())
    (tmp_path / name).unlink()
    assert "/vcek/v1/" in refused(NotReady, "sev-snp.endorsement", amd.Chip(), tmp_path)


@pytest.mark.parametrize("name", ["vek.crt", "ark.crl"])
def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, name: str) -> None:
    provide(tmp_path, amd.Chip())
    (tmp_path / name).write_bytes(b"rubbish")
    assert name in refused(NotReady, "collateral.file", amd.Chip(), tmp_path)


def test_a_report_that_cannot_be_read(tmp_path: Path) -> None:
    refused(HardwareRefused, "sev-snp.report", amd.Chip(), tmp_path, change=lambda report: report[:-1])


def test_a_report_over_other_data(tmp_path: Path) -> None:
    other = amd.Chip().report(bytes(64))
    refused(HardwareUnavailable, "sev-snp.raced", amd.Chip(), tmp_path, change=lambda report: other)


def test_a_root_of_another_size_is_misuse(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        SevSnpCollector(TsmReports(tmp_path), tmp_path).collect(bytes(31))
