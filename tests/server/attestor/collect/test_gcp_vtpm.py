"""Compute Engine's virtual TPM: a real swtpm provisioned as Google does it, to items that verify in every step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fakes import google
from fakes.asn1 import PublicKey
from fakes.collecting import BINDINGS, items
from fakes.gcp_vtpm_steps import failures, roots
from fakes.tpm import private_key
from fakes.vtpm import ECC, RSA, provision_google, write_nv
from rlu_attestation.evidence import gcp_vtpm
from rlu_server.attestor.collect.gcp_vtpm import GcpKey
from rlu_server.attestor.errors import AttestorError, HardwareRefused, NotReady
from rlu_server.attestor.tpm.connection import Tpm
from rlu_server.attestor.tpm.platform import TpmConfiguration, TpmPlatform
from rlu_server.swtpm import SoftwareTpm

pytestmark = pytest.mark.tpm
SECRET = b"s" * 32
PCRS = (0, 1, 2, 3, 4, 5, 6, 7)


def certify(key: PublicKey, **changes: object) -> bytes:
    return google.Instance().certificate(key=key, **changes)


@pytest.fixture
def collateral(tmp_path: Path) -> Path:
    directory = tmp_path / "collateral"
    directory.mkdir()
    (directory / "intermediate.crt").write_bytes(google.intermediate().der)
    (directory / "root.crt").write_bytes(google.root().der)
    (directory / "root.crl").write_bytes(google.root().revoke(0x666))
    return directory


@contextmanager
def opened(tpm: SoftwareTpm, directory: Path, collateral: Path) -> Iterator[TpmPlatform]:
    configuration = TpmConfiguration(tpm.tcti, directory / "key.pem", PCRS)
    with closing(TpmPlatform(configuration, SECRET, GcpKey(collateral))) as platform:
        yield platform


def refused(tpm: SoftwareTpm, directory: Path, collateral: Path, kind: type[AttestorError], code: str) -> str:
    with pytest.raises(kind) as caught, opened(tpm, directory, collateral):
        pass
    assert caught.value.code == code
    return caught.value.message


@pytest.mark.parametrize("algorithm", [ECC, RSA], ids=["ecc", "rsa"])
def test_items_verify(software_tpm: SoftwareTpm, tmp_path: Path, collateral: Path, algorithm: str) -> None:
    provision_google(software_tpm.tcti, certify, algorithm, padding=b"\xff" * 40)
    with opened(software_tpm, tmp_path, collateral) as platform:
        assert platform.kind == "gcp-vtpm"
        made = items(platform)
        key = gcp_vtpm.parse(made[0]).key_public
        assert key.public_key() == platform.public_key
        platform.sign(bytes(32))
    for item, binding in zip(made, BINDINGS, strict=True):
        assert failures(item, binding, roots()) == []
    assert failures(made[0], BINDINGS[1], roots()) == ["quote.binding.mismatch"]


def test_the_ecc_key_is_preferred(software_tpm: SoftwareTpm, tmp_path: Path, collateral: Path) -> None:
    provision_google(software_tpm.tcti, certify, RSA)
    provision_google(software_tpm.tcti, certify, ECC)
    with opened(software_tpm, tmp_path, collateral) as platform:
        assert len(items(platform)) == 3
        assert type(gcp_vtpm.parse(items(platform)[0]).ak_public.key).__name__ == "EccKey"


def test_what_only_the_owner_may_read(software_tpm: SoftwareTpm, tmp_path: Path, collateral: Path) -> None:
    provision_google(software_tpm.tcti, certify, attributes="ownerwrite|ownerread")
    with opened(software_tpm, tmp_path, collateral) as platform:
        assert failures(items(platform)[0], BINDINGS[0], roots()) == []


def test_a_reset_in_between_does_not_matter(
    software_tpm: SoftwareTpm, tmp_path: Path, collateral: Path
) -> None:
    provision_google(software_tpm.tcti, certify)
    with opened(software_tpm, tmp_path, collateral) as platform:
        items(platform)
        software_tpm.stop()
        software_tpm.start()
        assert failures(items(platform)[0], BINDINGS[0], roots()) == []


def test_another_machine(software_tpm: SoftwareTpm, tmp_path: Path, collateral: Path) -> None:
    assert "Compute Engine" in refused(software_tpm, tmp_path, collateral, NotReady, "gcp-vtpm.absent")


def test_indices_that_were_never_filled(software_tpm: SoftwareTpm, tmp_path: Path, collateral: Path) -> None:
    with closing(Tpm(software_tpm.tcti)) as tpm:
        for index in (0x01C10002, 0x01C10003):
            write_nv(tpm, index, b"\xff" * 64)
    refused(software_tpm, tmp_path, collateral, NotReady, "gcp-vtpm.absent")


def test_a_certificate_for_another_key(software_tpm: SoftwareTpm, tmp_path: Path, collateral: Path) -> None:
    other = private_key("p256", "another AK").public_key()
    provision_google(software_tpm.tcti, lambda _: certify(other))
    refused(software_tpm, tmp_path, collateral, HardwareRefused, "gcp-vtpm.ak")


@pytest.mark.parametrize("name", ["intermediate.crt", "root.crt"])
def test_an_issuer_is_missing(software_tpm: SoftwareTpm, tmp_path: Path, collateral: Path, name: str) -> None:
    provision_google(software_tpm.tcti, certify)
    (collateral / name).unlink()
    assert str(collateral) in refused(software_tpm, tmp_path, collateral, NotReady, "gcp-vtpm.chain")
