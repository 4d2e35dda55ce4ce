"""EPYC product lines, and how each lays out a TCB_VERSION and a chip's identity (SEV-SNP ABI 56860 section 2.2, KDS 57230 section 3).

Milan and Genoa:  BOOT_LOADER, TEE, four reserved, SNP, MICROCODE   and a CHIP_ID of 64 bytes
Turin:            FMC, BOOT_LOADER, TEE, SNP, three reserved, MICROCODE   and a CHIP_ID of 8 bytes, zero-padded
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rlu_attestation.errors import Malformed, Unsupported

TCB_SIZE = 8


class ProductLine(str, enum.Enum):
    """A line of processors with one root key of its own."""

    MILAN = "Milan"
    GENOA = "Genoa"
    TURIN = "Turin"

    @property
    def hwid_size(self) -> int:
        """Bytes of the hardware id in a VCEK certificate, which are the first of CHIP_ID."""
        return 8 if self is ProductLine.TURIN else 64


_NAMES = {
    "Milan": ProductLine.MILAN,
    "Genoa": ProductLine.GENOA,
    "Bergamo": ProductLine.GENOA,
    "Siena": ProductLine.GENOA,
    "Turin": ProductLine.TURIN,
}
_MODELS = {
    0x19: ((0x00, 0x0F, ProductLine.MILAN), (0x10, 0x1F, ProductLine.GENOA), (0xA0, 0xAF, ProductLine.GENOA)),
    0x1A: ((0x00, 0x11, ProductLine.TURIN),),
}


def product_of_name(name: str) -> ProductLine:
    """The line of a certificate's productName, such as `Milan-B0`: the name, and perhaps a silicon stepping.

    Raises:
        Unsupported: `sev-snp.product.unknown`.
    """
    line = _NAMES.get(name.split("-", 1)[0])
    if line is None:
        raise Unsupported("sev-snp.product.unknown", f"product {name[:32]!r} is not known")
    return line


def product_of_cpuid(family: int, model: int) -> ProductLine:
    """The line of a combined CPUID family and model.

    Raises:
        Unsupported: `sev-snp.product.unknown`.
    """
    for first, last, line in _MODELS.get(family, ()):
        if first <= model <= last:
            return line
    raise Unsupported("sev-snp.product.unknown", f"CPU family {family:#x} model {model:#x} is not known")


@dataclass(frozen=True, slots=True)
class TcbParts:
    """Security patch levels of the firmware components; `fmc` exists from Turin on."""

    boot_loader: int
    tee: int
    snp: int
    microcode: int
    fmc: int | None = None

    def at_least(self, minimum: TcbParts) -> bool:
        """Whether every component is at or above a minimum. A minimum for another layout is never met."""
        if (self.fmc is None) != (minimum.fmc is None):
            return False
        return all(ours >= theirs for ours, theirs in zip(self._levels(), minimum._levels(), strict=True))

    def _levels(self) -> tuple[int, ...]:
        return (self.fmc or 0, self.boot_loader, self.tee, self.snp, self.microcode)

    def __str__(self) -> str:
        fmc = "" if self.fmc is None else f"fmc={self.fmc} "
        return f"{fmc}boot_loader={self.boot_loader} tee={self.tee} snp={self.snp} microcode={self.microcode}"


@dataclass(frozen=True, slots=True)
class TcbVersion:
    """A TCB_VERSION as it stands in a report: eight bytes, whose meaning depends on the product line."""

    raw: bytes

    def parts(self, product: ProductLine) -> TcbParts:
        """Take the levels apart.

        Raises:
            Malformed: a byte that this line reserves is not zero (`sev-snp.tcb.reserved`).
        """
        raw = self.raw
        if product is ProductLine.TURIN:
            parts, reserved = TcbParts(raw[1], raw[2], raw[3], raw[7], fmc=raw[0]), raw[4:7]
        else:
            parts, reserved = TcbParts(raw[0], raw[1], raw[6], raw[7]), raw[2:6]
        if any(reserved):
            raise Malformed("sev-snp.tcb.reserved", f"a reserved byte of TCB_VERSION {raw.hex()} is not zero")
        return parts
