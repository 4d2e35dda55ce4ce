"""NitroTPM: through AWS's vendor command of a TPM to items that verify in every step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes import aws
from fakes.collecting import BINDINGS, items
from fakes.nitro_steps import failures
from fakes.nitrotpm import NitroTpmProxy
from rlu_attestation import x509
from rlu_attestation.evidence.nitro import Kind, Root
from rlu_server.attestor.collect import nitrotpm
from rlu_server.attestor.collect.nitro import NitroCollector, attestation_request
from rlu_server.attestor.collect.nitrotpm import NitroTpm
from rlu_server.attestor.errors import HardwareRefused, HardwareUnavailable, NotReady
from rlu_server.swtpm import SoftwareTpm

pytestmark = pytest.mark.tpm


@pytest.fixture
def proxy(software_tpm: SoftwareTpm) -> Iterator[NitroTpmProxy]:
    with NitroTpmProxy(software_tpm, aws.Module("nitrotpm")) as running:
        yield running


def collector(proxy: NitroTpmProxy, directory: Path) -> NitroCollector:
    return NitroCollector(NitroTpm(proxy.tcti), directory, Kind.NITROTPM)


def test_items_verify(proxy: NitroTpmProxy, tmp_path: Path) -> None:
    for number, der in enumerate(aws.crls()):
        (tmp_path / f"{number}.crl").write_bytes(der)
    made = collector(proxy, tmp_path)
    assert made.kind == "nitrotpm"
    roots = (Root.of(x509.parse(aws.root().der)),)
    for item, binding in zip(items(made), BINDINGS, strict=True):
        assert failures(item, binding, roots) == []
    assert len(proxy.defined) == 1
    assert proxy.indices == {}  # nothing is left in the TPM


def test_an_enclaves_document_is_refused(software_tpm: SoftwareTpm, tmp_path: Path) -> None:
    with NitroTpmProxy(software_tpm, aws.Module("nitro")) as proxy, pytest.raises(HardwareRefused) as caught:
        items(collector(proxy, tmp_path))
    assert caught.value.code == "nsm.answer"
    assert proxy.indices == {}


def test_a_request_that_the_module_refuses(proxy: NitroTpmProxy) -> None:
    answer = NitroTpm(proxy.tcti).request(b"\xa0")
    assert answer.startswith(b"\xa1\x65Error")
    assert len(answer) == nitrotpm.SIZE


def test_a_tpm_that_does_not_know_the_command(software_tpm: SoftwareTpm) -> None:
    with NitroTpmProxy(software_tpm, aws.Module("nitrotpm"), knows_command=False) as proxy:
        with pytest.raises(NotReady) as caught:
            NitroTpm(proxy.tcti).request(attestation_request(bytes(32)))
        assert proxy.indices == {}
    assert caught.value.code == "nitrotpm.absent"
    assert "/dev/tpm0" in caught.value.message


def test_no_tpm(tmp_path: Path) -> None:
    with pytest.raises(HardwareUnavailable):
        NitroTpm(f"swtpm:path={tmp_path}/none").request(b"x")


def test_no_index_is_free(proxy: NitroTpmProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nitrotpm, "LAST_INDEX", nitrotpm.FIRST_INDEX - 1)
    with pytest.raises(HardwareRefused) as caught:
        NitroTpm(proxy.tcti).request(b"x")
    assert caught.value.code == "nitrotpm.full"


def test_the_command_is_aws_own() -> None:
    """TPM_ST_SESSIONS, size, 0x20000001, the index twice, and a password session with the index's value."""
    assert nitrotpm.nsm_request(0x01805300, b"ab").hex() == (
        "80020000002120000001" + "01805300" * 2 + "0000000b" + "40000009" + "0000" + "00" + "0002" + "6162"
    )


@pytest.mark.parametrize("size", [0, nitrotpm.MAX_REQUEST + 1])
def test_a_request_of_another_size_is_misuse(size: int) -> None:
    with pytest.raises(ValueError, match="request"):
        NitroTpm("unused").request(bytes(size))
