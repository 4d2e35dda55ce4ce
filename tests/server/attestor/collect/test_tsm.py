"""Reports through configfs-tsm: on a mounted file system that behaves like the kernel's, with its errors and races."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes import amd
from fakes.configfs_tsm import ConfigfsTsm, Provider, Report, snp
from rlu_server.attestor.collect import tsm
from rlu_server.attestor.collect.tsm import TsmReports
from rlu_server.attestor.errors import AttestorError, HardwareRefused, HardwareUnavailable, NotReady

DATA = bytes(range(64))


@pytest.fixture
def configfs() -> Iterator[ConfigfsTsm]:
    with ConfigfsTsm(snp(amd.Chip())) as mounted:
        yield mounted


class Pauses(list[float]):
    """A sleep that takes no time."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def ask(configfs: ConfigfsTsm, provider: str = "sev_guest") -> tuple[bytes, Pauses]:
    pauses = Pauses()
    return TsmReports(configfs.path, pauses).report(provider, DATA).outblob, pauses


def refused(configfs: ConfigfsTsm, kind: type[AttestorError], code: str, provider: str = "sev_guest") -> str:
    with pytest.raises(kind) as caught:
        ask(configfs, provider)
    assert caught.value.code == code
    assert not configfs.reports  # nothing is left behind
    return caught.value.message


def test_a_report_over_the_data_and_its_supplement(configfs: ConfigfsTsm) -> None:
    report = TsmReports(configfs.path).report("sev_guest", DATA)
    assert report.outblob[0x50:0x90] == DATA
    assert report.auxblob == configfs.provider.auxblob
    assert not configfs.reports


def test_every_report_has_a_directory_of_its_own(configfs: ConfigfsTsm) -> None:
    for _ in range(3):
        ask(configfs)
    assert len(set(configfs.made)) == 3
    assert all(name.startswith("rlu-") for name in configfs.made)


@pytest.mark.parametrize("operation", ["mkdir", "inblob", "outblob", "auxblob", "generation", "provider"])
@pytest.mark.parametrize("number", [errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT])
def test_what_passes_is_tried_again(configfs: ConfigfsTsm, operation: str, number: int) -> None:
    configfs.failures[operation] += [number] * 2
    report, pauses = ask(configfs)
    assert report[0x50:0x90] == DATA
    assert len(pauses) == 2
    assert pauses == sorted(pauses)


def test_an_interrupted_call_is_made_again(configfs: ConfigfsTsm) -> None:
    for operation in ("mkdir", "inblob", "outblob"):
        configfs.failures[operation] += [errno.EINTR]
    assert ask(configfs)[0][0x50:0x90] == DATA


@pytest.mark.parametrize("operation", ["mkdir", "inblob", "outblob"])
def test_busy_for_good(configfs: ConfigfsTsm, operation: str) -> None:
    configfs.failures[operation] += [errno.EBUSY] * tsm.ATTEMPTS
    assert str(configfs.path) in refused(configfs, HardwareUnavailable, "tsm.busy")


def test_a_request_that_the_kernel_dropped_is_made_again(configfs: ConfigfsTsm) -> None:
    configfs.failures["commit"] += [errno.EBUSY]
    report, pauses = ask(configfs)
    assert report[0x50:0x90] == DATA
    assert len(pauses) == 1


def test_requests_that_are_always_dropped(configfs: ConfigfsTsm) -> None:
    configfs.failures["commit"] += [errno.EBUSY] * tsm.ATTEMPTS
    refused(configfs, HardwareUnavailable, "tsm.raced")


def overwrite(report: Report) -> None:
    report.store_inblob(bytes(64))


def test_a_stranger_who_writes_first_is_noticed(configfs: ConfigfsTsm) -> None:
    def once(report: Report) -> None:
        configfs.intruder = None
        overwrite(report)

    configfs.intruder = once
    report, pauses = ask(configfs)
    assert report[0x50:0x90] == DATA
    assert len(pauses) == 1


def test_a_stranger_who_always_writes(configfs: ConfigfsTsm) -> None:
    configfs.intruder = overwrite
    assert "another program" in refused(configfs, HardwareUnavailable, "tsm.raced")


def test_a_stranger_who_writes_between_report_and_supplement(configfs: ConfigfsTsm) -> None:
    genuine = configfs.provider.report

    def report(data: bytes, level: int) -> bytes:
        for found in configfs.reports.values():
            assert isinstance(found, Report)
            found.generation += 1
        return genuine(data, level)

    configfs.provider.report = report
    refused(configfs, HardwareUnavailable, "tsm.raced")


def test_another_provider_is_refused(configfs: ConfigfsTsm) -> None:
    message = refused(configfs, NotReady, "tsm.provider", "tdx_guest")
    assert "'sev_guest'" in message
    assert "[attestation] key" in message


def test_no_driver_is_loaded(configfs: ConfigfsTsm) -> None:
    configfs.loaded = False
    assert "sev-guest" in refused(configfs, NotReady, "tsm.absent")


def test_no_configfs(tmp_path: Path) -> None:
    with pytest.raises(NotReady) as caught:
        TsmReports(tmp_path / "none").report("sev_guest", DATA)
    assert caught.value.code == "tsm.absent"
    assert str(tmp_path) in caught.value.message


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_no_access(configfs: ConfigfsTsm, number: int) -> None:
    configfs.failures["mkdir"] += [number]
    assert "attestor's user" in refused(configfs, NotReady, "tsm.denied")


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL, errno.EFBIG])
def test_a_provider_that_fails(configfs: ConfigfsTsm, number: int) -> None:
    configfs.failures["outblob"] += [number]
    refused(configfs, HardwareRefused, "tsm.failed")


def test_an_empty_report(configfs: ConfigfsTsm) -> None:
    configfs.provider.report = lambda data, level: b""
    refused(configfs, HardwareRefused, "tsm.failed")


def test_a_report_without_end(configfs: ConfigfsTsm) -> None:
    configfs.provider.report = lambda data, level: bytes(tsm.MAX_BLOB + 1)
    refused(configfs, HardwareRefused, "tsm.failed")


def test_what_is_no_configfs(tmp_path: Path) -> None:
    class Odd(TsmReports):
        """A plain directory: whoever makes one gets no attributes."""

    with pytest.raises(NotReady, match="mount configfs"):
        Odd(tmp_path).report("sev_guest", DATA)
    assert list(tmp_path.iterdir()) == []


def test_a_generation_that_is_no_number(configfs: ConfigfsTsm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tsm, "_text", lambda path: "sev_guest" if path.name == "provider" else "-1")
    refused(configfs, HardwareRefused, "tsm.failed")


def test_beneath_a_service_module_the_least_level_allowed_is_asked_for() -> None:
    with ConfigfsTsm(snp(amd.Chip(), floor=2)) as configfs:
        report, pauses = ask(configfs)
    assert report[0x30] == 2  # VMPL
    assert not pauses


def test_a_provider_without_levels_and_supplement() -> None:
    with ConfigfsTsm(Provider("tdx_guest", lambda data, level: b"quote " + data)) as configfs:
        report = TsmReports(configfs.path).report("tdx_guest", DATA)
    assert report == tsm.TsmReport(b"quote " + DATA, b"")


def test_a_directory_that_stays_is_no_failure(configfs: ConfigfsTsm) -> None:
    configfs.failures["rmdir"] += [errno.EBUSY]
    assert ask(configfs)[0][0x50:0x90] == DATA
    assert len(configfs.reports) == 1


@pytest.mark.parametrize("size", [0, 65])
def test_data_of_another_size_is_misuse(size: int) -> None:
    with pytest.raises(ValueError, match="inblob"):
        TsmReports(Path("unused")).report("sev_guest", bytes(size))
