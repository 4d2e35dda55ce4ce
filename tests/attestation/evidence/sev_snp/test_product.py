"""Product lines, and TCB versions in both layouts."""

from __future__ import annotations

import pytest

from rlu_attestation.errors import Malformed, Unsupported
from rlu_attestation.evidence.sev_snp import (
    ProductLine,
    TcbParts,
    TcbVersion,
    product_of_cpuid,
    product_of_name,
)

MILAN, GENOA, TURIN = ProductLine


@pytest.mark.parametrize(
    ("name", "line"),
    [("Milan", MILAN), ("Milan-B0", MILAN), ("Genoa-B1", GENOA), ("Bergamo-A1", GENOA), ("Siena", GENOA), ("Turin-B1", TURIN)],
)  # fmt: skip
def test_names(name: str, line: ProductLine) -> None:
    assert product_of_name(name) is line


@pytest.mark.parametrize("name", ["", "-B0", "milan", "MilanB0", "Rome", "Venice-A0"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(Unsupported):
        product_of_name(name)


@pytest.mark.parametrize(
    ("family", "model", "line"),
    [
        (0x19, 0x00, MILAN),
        (0x19, 0x0F, MILAN),
        (0x19, 0x10, GENOA),
        (0x19, 0x1F, GENOA),
        (0x19, 0xA0, GENOA),
        (0x19, 0xAF, GENOA),
        (0x1A, 0x00, TURIN),
        (0x1A, 0x11, TURIN),
    ],
)
def test_cpus(family: int, model: int, line: ProductLine) -> None:
    assert product_of_cpuid(family, model) is line


@pytest.mark.parametrize(
    ("family", "model"), [(0x17, 0x31), (0x19, 0x20), (0x19, 0x9F), (0x19, 0xB0), (0x1A, 0x12), (0x1A, 0x50)]
)
def test_unknown_cpus(family: int, model: int) -> None:
    with pytest.raises(Unsupported) as refused:
        product_of_cpuid(family, model)
    assert refused.value.code == "sev-snp.product.unknown"


def test_layouts() -> None:
    classic = TcbVersion(bytes([4, 1, 0, 0, 0, 0, 24, 219]))
    assert classic.parts(MILAN) == classic.parts(GENOA) == TcbParts(4, 1, 24, 219)
    turin = TcbVersion(bytes([9, 4, 1, 24, 0, 0, 0, 219]))
    assert turin.parts(TURIN) == TcbParts(4, 1, 24, 219, fmc=9)
    assert str(turin.parts(TURIN)) == "fmc=9 boot_loader=4 tee=1 snp=24 microcode=219"


@pytest.mark.parametrize(
    ("line", "reserved"), [(MILAN, (2, 3, 4, 5)), (GENOA, (2, 3, 4, 5)), (TURIN, (4, 5, 6))]
)
def test_reserved_bytes(line: ProductLine, reserved: tuple[int, ...]) -> None:
    for position in range(8):
        raw = bytes(1 if n == position else 0 for n in range(8))
        if position not in reserved:
            TcbVersion(raw).parts(line)
            continue
        with pytest.raises(Malformed) as refused:
            TcbVersion(raw).parts(line)
        assert refused.value.code == "sev-snp.tcb.reserved"


def test_a_minimum_holds_for_every_part() -> None:
    minimum = TcbParts(4, 0, 24, 200)
    assert TcbParts(4, 0, 24, 200).at_least(minimum)
    assert TcbParts(5, 1, 25, 255).at_least(minimum)
    for lower in (TcbParts(3, 9, 99, 255), TcbParts(4, 0, 23, 255), TcbParts(4, 0, 24, 199)):
        assert not lower.at_least(minimum)
    assert not TcbParts(4, 0, 24, 200).at_least(TcbParts(0, 1, 0, 0))


def test_a_minimum_of_another_layout_is_never_met() -> None:
    assert not TcbParts(9, 9, 9, 9, fmc=9).at_least(TcbParts(0, 0, 0, 0))
    assert not TcbParts(9, 9, 9, 9).at_least(TcbParts(0, 0, 0, 0, fmc=0))
    assert TcbParts(1, 1, 1, 1, fmc=2).at_least(TcbParts(1, 1, 1, 1, fmc=2))
    assert not TcbParts(1, 1, 1, 1, fmc=1).at_least(TcbParts(1, 1, 1, 1, fmc=2))
