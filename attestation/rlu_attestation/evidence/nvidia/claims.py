"""What verified reports of a node's GPUs and switches say, for a policy to judge."""

from __future__ import annotations

from dataclasses import dataclass

from rlu_attestation.evidence.nvidia.identity import Identity
from rlu_attestation.evidence.nvidia.opaque import DeviceKind, Feature
from rlu_attestation.evidence.nvidia.report import Report
from rlu_attestation.evidence.nvidia.topology import Topology


@dataclass(frozen=True, slots=True)
class DeviceClaims:
    """Claims of one device whose every step passed; revocation and binding are for the caller to check.

    H100 and H200 are both `GH100`: no certificate and no field names the product. `project`, `project_sku` and `chip_sku` tell boards apart
    (signed by the device); which of them is an H200 is NVIDIA's list, not evidence. The size of the memory is in no field at all.

    Attributes:
        identity: what NVIDIA's certificates say the device is.
        fwid: firmware that the leaf was made for and the report names, 48 bytes; None when the report names none (old firmware).
        measurements_compared: reference values that the device was held against; all of them matched.
        report: all fields.
    """

    identity: Identity
    fwid: bytes | None
    measurements_compared: int
    report: Report

    @property
    def kind(self) -> DeviceKind:
        return self.identity.kind

    @property
    def chip(self) -> str:
        return self.identity.chip

    @property
    def architecture(self) -> str:
        return self.identity.architecture

    @property
    def model(self) -> str:
        """NVIDIA's `hwmodel`: the common name of the device key's certificate."""
        return self.identity.model

    @property
    def serial(self) -> str:
        return self.identity.serial

    @property
    def ueid(self) -> str:
        return self.identity.ueid

    @property
    def driver(self) -> str | None:
        """Version of the driver; None for a switch."""
        return self.report.opaque.driver

    @property
    def vbios(self) -> str:
        """Version of VBIOS or switch BIOS."""
        return self.report.opaque.vbios

    @property
    def project(self) -> str | None:
        return self.report.opaque.project

    @property
    def project_sku(self) -> str | None:
        return self.report.opaque.project_sku

    @property
    def chip_sku(self) -> str | None:
        return self.report.opaque.chip_sku

    @property
    def protected_pcie(self) -> bool | None:
        """The GPU says that it runs in protected PCIe mode; None when it does not say."""
        return self.report.opaque.protected_pcie

    @property
    def feature(self) -> Feature | None:
        """How the GPU says it is passed to the guest; None when it does not say."""
        return self.report.opaque.feature


@dataclass(frozen=True, slots=True)
class NvidiaClaims:
    """Claims of a node.

    Attributes:
        gpus, switches: in the order of the item; no device occurs twice.
        topology: what GPUs and switches list of each other.
    """

    gpus: tuple[DeviceClaims, ...]
    switches: tuple[DeviceClaims, ...]
    topology: Topology

    @property
    def gpu_count(self) -> int:
        return len(self.gpus)

    @property
    def switch_count(self) -> int:
        return len(self.switches)
