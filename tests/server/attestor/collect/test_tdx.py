"""TDX: from a fake platform behind configfs-tsm to items that verify in every step."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes import intel
from fakes.amd import Chip
from fakes.collecting import BINDINGS, items
from fakes.configfs_tsm import ConfigfsTsm, Provider, snp
from fakes.tdx_steps import failures
from rlu_attestation import x509
from rlu_attestation.evidence.tdx import Root, parse
from rlu_server.attestor.collect.tdx import MAX_EVENT_LOG, TdxCollector
from rlu_server.attestor.collect.tsm import TsmReports
from rlu_server.attestor.errors import AttestorError, HardwareRefused, HardwareUnavailable, NotReady

PLATFORM = intel.Platform()


def tdx(
    platform: intel.Platform = PLATFORM,
    change: Callable[[bytes], bytes] = lambda quote: quote,
    **fields: bytes,
) -> Provider:
    """`tdx_guest`, which takes exactly 64 bytes, has no supplement and no levels."""
    return Provider(
        "tdx_guest", lambda data, level: change(platform.quote(data, **fields).data), sizes=range(64, 65)
    )


@pytest.fixture
def roots() -> tuple[Root, ...]:
    return (Root.of(x509.parse(intel.root().der)),)


def collector(configfs: ConfigfsTsm, directory: Path) -> TdxCollector:
    return TdxCollector(TsmReports(configfs.path, lambda _: None), directory, directory / "CCEL")


def event_log(content: bytes) -> tuple[bytes, dict[str, bytes]]:
    """A firmware's log of one event in register 2, and the RTMRs that it leads to."""
    spec = b"Spec ID Event03\0" + struct.pack("<IBBBBIHHB", 0, 0, 2, 0, 2, 1, 0x0C, 48, 0)
    head = struct.pack("<II20xI", 1, 3, len(spec)) + spec
    digest = hashlib.sha384(content).digest()
    event = struct.pack("<IIIH", 2, 0x0D, 1, 0x0C) + digest + struct.pack("<I", len(content)) + content
    extended = hashlib.sha384(bytes(48) + digest).digest()
    return head + event, {"RTMR0": bytes(48), "RTMR1": extended, "RTMR2": bytes(48)}


def provide(directory: Path) -> None:
    (directory / "collateral.json").write_bytes(intel.parts(PLATFORM, bytes(64)).pccs())


def refused(provider: Provider, directory: Path, kind: type[AttestorError], code: str) -> str:
    with ConfigfsTsm(provider) as configfs, pytest.raises(kind) as caught:
        items(collector(configfs, directory))
    assert caught.value.code == code
    return caught.value.message


@pytest.mark.parametrize("platform", [PLATFORM, intel.Platform(version=5, body=3)], ids=["v4", "v5"])
def test_items_verify(platform: intel.Platform, roots: tuple[Root, ...], tmp_path: Path) -> None:
    provide(tmp_path)
    with ConfigfsTsm(tdx(platform)) as configfs:
        made = items(collector(configfs, tmp_path))
        assert len(configfs.made) == 1
    for item, binding in zip(made, BINDINGS, strict=True):
        assert failures(item, binding, roots) == []
    assert failures(made[0], BINDINGS[1], roots)[-1].startswith("tdx.binding")


def test_without_collateral_the_item_has_none(roots: tuple[Root, ...], tmp_path: Path) -> None:
    with ConfigfsTsm(tdx()) as configfs:
        item = items(collector(configfs, tmp_path))[0]
    assert set(failures(item, BINDINGS[0], roots)) == {"tdx.collateral.missing"}


def test_a_buffer_that_the_host_filled_up(roots: tuple[Root, ...], tmp_path: Path) -> None:
    provide(tmp_path)
    with ConfigfsTsm(tdx(change=lambda quote: quote.ljust(16384, b"\0"))) as configfs:
        item = items(collector(configfs, tmp_path))[0]
    assert failures(item, BINDINGS[0], roots) == []


@pytest.mark.parametrize("content", [b"kernel", b"kernel\xff\xff"], ids=["plain", "ends-like-padding"])
def test_the_firmwares_log_is_stapled(roots: tuple[Root, ...], tmp_path: Path, content: bytes) -> None:
    provide(tmp_path)
    log, registers = event_log(content)
    (tmp_path / "CCEL").write_bytes(log.ljust(65536, b"\xff"))
    with ConfigfsTsm(tdx(**registers)) as configfs:
        item = items(collector(configfs, tmp_path))[0]
    assert parse(item).event_log == log
    assert failures(item, BINDINGS[0], roots) == []


@pytest.mark.parametrize(
    "area",
    [
        event_log(b"another")[0].ljust(4096, b"\xff"),
        b"\xff" * 4096,
        b"",
        b"rubbish",
        bytes(MAX_EVENT_LOG + 1),
    ],
    ids=["another", "empty-area", "empty", "rubbish", "too-long"],
)
def test_a_log_that_does_not_lead_to_the_quote_is_left_out(
    roots: tuple[Root, ...], tmp_path: Path, area: bytes
) -> None:
    provide(tmp_path)
    (tmp_path / "CCEL").write_bytes(area)
    with ConfigfsTsm(tdx(**event_log(b"kernel")[1])) as configfs:
        item = items(collector(configfs, tmp_path))[0]
    assert parse(item).event_log is None
    assert failures(item, BINDINGS[0], roots) == []


def test_a_quote_that_cannot_be_read(tmp_path: Path) -> None:
    refused(tdx(change=lambda quote: quote[:-1]), tmp_path, HardwareRefused, "tdx.quote")


def test_a_quote_over_other_data(tmp_path: Path) -> None:
    other = PLATFORM.quote(bytes(64)).data
    refused(tdx(change=lambda quote: other), tmp_path, HardwareUnavailable, "tdx.raced")


def test_another_providers_machine(tmp_path: Path) -> None:
    assert "sev_guest" in refused(snp(Chip()), tmp_path, NotReady, "tsm.provider")


def test_collateral_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "collateral.json").write_text("{}")
    assert "collateral.json" in refused(tdx(), tmp_path, NotReady, "collateral.file")


def test_collateral_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "collateral.json").mkdir()
    refused(tdx(), tmp_path, NotReady, "collateral.file")


def test_a_root_of_another_size_is_misuse(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        TdxCollector(TsmReports(tmp_path), tmp_path).collect(bytes(64))
