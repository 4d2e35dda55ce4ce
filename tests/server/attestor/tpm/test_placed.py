"""Keys at persistent handles of a software TPM: a free one is found and noted first, and nobody else's key is used or removed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tpm2_pytss import ESYS_TR

from rlu_attestation.instance import ueid
from rlu_attestation.jose import public_jwk, thumbprint, verify_es256
from rlu_server.attestor.errors import HardwareRefused, NotReady
from rlu_server.attestor.places import FreeHandle, KeyAt
from rlu_server.attestor.tpm import keys
from rlu_server.attestor.tpm.attestation_key import Endorsement, EnrolledKey
from rlu_server.attestor.tpm.connection import Tpm
from rlu_server.attestor.tpm.platform import TpmConfiguration, TpmPlatform
from rlu_server.swtpm import SoftwareTpm

pytestmark = pytest.mark.tpm
FIRST = 0x81000010
SECRET = b"s" * 32


@pytest.fixture
def configuration(software_tpm: SoftwareTpm) -> TpmConfiguration:
    return TpmConfiguration(software_tpm.tcti, FIRST, (0, 7))


def opened(configuration: TpmConfiguration) -> TpmPlatform:
    ak = Path(configuration.tcti.partition("path=")[2]).with_name("ak.pem")
    return TpmPlatform(configuration, SECRET, EnrolledKey(ak, SECRET, Endorsement(b"", (), b"", ())))


@pytest.fixture
def platform(configuration: TpmConfiguration) -> Iterator[TpmPlatform]:
    platform = opened(configuration)
    yield platform
    platform.close()


def name_of(platform: TpmPlatform) -> str:
    return ueid(thumbprint(public_jwk(platform.public_key)))


def handles(tcti: str) -> list[int]:
    """Those in use from the first on; nobody else is connected to the TPM."""
    tpm = Tpm(tcti)
    try:
        return [handle for handle in tpm.handles(FIRST) if handle < FIRST + 0x100]
    finally:
        tpm.close()


def occupy(tcti: str, handle: int) -> None:
    """Somebody else's key."""
    tpm = Tpm(tcti)
    try:
        with keys.storage_key(tpm) as storage:
            tpm.esapi.evict_control(ESYS_TR.RH_OWNER, storage, handle)
    finally:
        tpm.close()


def test_the_next_key_goes_to_the_first_free_handle(configuration: TpmConfiguration) -> None:
    occupy(configuration.tcti, FIRST + 1)
    noted: list[KeyAt] = []
    platform = opened(configuration)
    beside = platform.beside(FreeHandle(FIRST, 16, noted.append))
    try:
        assert noted == [KeyAt(FIRST + 2, name_of(beside))]
        for one in (platform, beside, platform):
            verify_es256(one.public_key, b"m", one.sign(hashlib.sha256(b"m").digest()))
        # Whoever lost the connection finds the same two keys again.
        platform._shared.abandon()
        verify_es256(beside.public_key, b"m", beside.sign(hashlib.sha256(b"m").digest()))
        assert name_of(beside) == noted[0].ueid
    finally:
        beside.close()
        platform.close()
    again = opened(replace(configuration, key=noted[0]))
    assert name_of(again) == noted[0].ueid
    again.close()
    assert handles(configuration.tcti) == [FIRST, FIRST + 1, FIRST + 2]


def test_what_cannot_be_noted_is_not_made(configuration: TpmConfiguration) -> None:
    def refuse(key: KeyAt) -> None:
        raise OSError(28, "no space")

    platform = opened(configuration)
    with pytest.raises(OSError, match="no space"):
        platform.beside(FreeHandle(FIRST, 16, refuse))
    verify_es256(platform.public_key, b"m", platform.sign(hashlib.sha256(b"m").digest()))
    platform.close()
    assert handles(configuration.tcti) == [FIRST]


def test_no_handle_is_free(platform: TpmPlatform) -> None:
    noted: list[KeyAt] = []
    with pytest.raises(NotReady) as refusal:
        platform.beside(FreeHandle(FIRST, 1, noted.append))
    assert refusal.value.code == "rotation.handle"
    assert "0x81000010" in refusal.value.message
    assert noted == []
    platform.sign(bytes(32))


def test_another_key_than_the_one_that_was_noted_is_refused(platform: TpmPlatform) -> None:
    for place in (KeyAt(FIRST, "another"), KeyAt(FIRST + 5, name_of(platform))):
        with pytest.raises(HardwareRefused) as refusal:
            platform.beside(place)
        assert refusal.value.code == "key.absent"
    platform.sign(bytes(32))


def test_only_the_key_that_is_meant_is_removed(configuration: TpmConfiguration) -> None:
    occupy(configuration.tcti, FIRST + 1)
    platform = opened(configuration)
    noted: list[KeyAt] = []
    beside = platform.beside(FreeHandle(FIRST, 16, noted.append))
    beside.close()
    for other in (KeyAt(FIRST, noted[0].ueid), KeyAt(FIRST + 1, noted[0].ueid), KeyAt(FIRST + 9, "nobody")):
        platform.evict(other)
    platform.close()
    assert handles(configuration.tcti) == [FIRST, FIRST + 1, FIRST + 2]
    platform = opened(configuration)
    platform.evict(noted[0])
    platform.evict(noted[0])  # as after a crash in between
    platform.sign(bytes(32))
    platform.close()
    assert handles(configuration.tcti) == [FIRST, FIRST + 1]
