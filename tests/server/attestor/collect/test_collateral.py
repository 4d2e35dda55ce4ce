"""The collateral directory: what is read, what is passed over, what refuses."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fakes import amd, aws
from rlu_server.attestor.collect import collateral
from rlu_server.attestor.collect.collector import blame, read_bounded
from rlu_server.attestor.errors import AttestorError, HardwareRefused, HardwareUnavailable, NotReady


def test_no_directory_is_an_empty_one(tmp_path: Path) -> None:
    assert collateral.load(tmp_path / "none") == collateral.Collateral()


def test_what_is_recognised_by_its_name(tmp_path: Path) -> None:
    for name in ("a.pem", "a.crt", "a.cer", "a.der"):
        (tmp_path / name).write_bytes(amd.ark("Milan").der)
    (tmp_path / "a.crl").write_bytes(amd.ark("Milan").revoke())
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "deeper.crt").mkdir()
    found = collateral.load(tmp_path)
    assert [certificate.raw for certificate in found.certificates] == [amd.ark("Milan").der] * 4
    assert len(found.crls) == 1


def test_a_list_of_another_authority_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "a.crl").write_bytes(aws.root().revoke())
    (tmp_path / "a.crt").write_bytes(amd.ark("Milan").der)
    found = collateral.load(tmp_path)
    assert found.crl_of(found.certificates[0]) is None


def refused(path: Path) -> str:
    with pytest.raises(NotReady) as caught:
        collateral.load(path)
    assert str(path) in caught.value.message
    return caught.value.code


def test_too_many_files(tmp_path: Path) -> None:
    for number in range(collateral.MAX_FILES + 1):
        (tmp_path / f"{number}.txt").touch()
    assert refused(tmp_path) == "collateral.directory"


def test_what_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refused(tmp_path / "file") == "collateral.directory"


def test_a_file_that_is_too_long(tmp_path: Path) -> None:
    with (tmp_path / "a.crt").open("wb") as file:
        file.truncate(collateral.MAX_FILE + 1)
    assert refused(tmp_path) == "collateral.file"


@pytest.mark.parametrize("size", [0, 99, 100])
def test_bounded_reading(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(b"x" * size)
    assert read_bounded(tmp_path / "file", 100) == b"x" * size
    (tmp_path / "file").write_bytes(b"x" * 101)
    with pytest.raises(OSError, match="longer") as caught:
        read_bounded(tmp_path / "file", 100)
    assert caught.value.errno == errno.EFBIG


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.ENOENT, NotReady, "dev.absent"),
        (errno.ENODEV, NotReady, "dev.absent"),
        (errno.ENXIO, NotReady, "dev.absent"),
        (errno.EACCES, NotReady, "dev.denied"),
        (errno.EPERM, NotReady, "dev.denied"),
        (errno.EROFS, NotReady, "dev.denied"),
        (errno.EBUSY, HardwareUnavailable, "dev.busy"),
        (errno.EINTR, HardwareUnavailable, "dev.busy"),
        (errno.EAGAIN, HardwareUnavailable, "dev.busy"),
        (errno.ETIMEDOUT, HardwareUnavailable, "dev.busy"),
        (errno.EIO, HardwareRefused, "dev.failed"),
    ],
    ids=lambda value: errno.errorcode.get(value, "") if isinstance(value, int) else "",
)
def test_whose_fault_a_system_call_is(number: int, kind: type[AttestorError], code: str) -> None:
    found = blame(
        OSError(number, os.strerror(number)), "/dev/x", "dev", {"absent": "plug it in", "denied": "ask"}
    )
    assert type(found) is kind
    assert found.code == code
    assert found.message.startswith(f"/dev/x: {os.strerror(number)}; ")
    if code == "dev.absent":
        assert found.message.endswith("plug it in")
