"""The steps on what NVIDIA endorses: reference values that it signed and devices measured, and certificates that it has not revoked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from rlu_attestation.evidence.nvidia import identity, references, revocation
from rlu_attestation.evidence.nvidia.identity import Identity
from rlu_attestation.evidence.nvidia.item import Device, NvidiaEvidence
from rlu_attestation.evidence.nvidia.opaque import OpaqueData
from rlu_attestation.evidence.nvidia.rim import Rim
from rlu_attestation.evidence.nvidia.roots import PINNED, Roots
from rlu_attestation.evidence.nvidia.together import each, each_device
from rlu_attestation.x509 import Certificate


def verify_rim_driver(
    evidence: NvidiaEvidence, identities: Sequence[Identity], at: datetime, roots: Roots = PINNED
) -> tuple[Rim, ...]:
    """nvidia.rim_driver: NVIDIA signed reference values for the driver of every GPU; returns them, one a GPU.

    Raises:
        RluError: `nvidia.rim_driver.missing`, `.product`, `.twice`, `.digest`, `.signature`, `.key`, `.root`, `.order`, `.usage` and causes
            of `chain.verify_chain`.
    """
    step = "nvidia.rim_driver"
    return _rims(evidence, evidence.gpus, identities, lambda found: found.driver or "", at, roots, step)


def verify_rim_vbios(
    evidence: NvidiaEvidence, identities: Sequence[Identity], at: datetime, roots: Roots = PINNED
) -> tuple[Rim, ...]:
    """nvidia.rim_vbios: NVIDIA signed reference values for the VBIOS of every GPU and the BIOS of every switch; returns them, one a device.

    Raises:
        RluError: as `verify_rim_driver`, under `nvidia.rim_vbios`.
    """
    step = "nvidia.rim_vbios"
    return _rims(evidence, evidence.devices, identities, lambda found: found.vbios, at, roots, step)


def _rims(
    evidence: NvidiaEvidence,
    devices: Sequence[Device],
    identities: Sequence[Identity],
    version: Callable[[OpaqueData], str],
    at: datetime,
    roots: Roots,
    step: str,
) -> tuple[Rim, ...]:
    known = {device.name: found for device, found in zip(evidence.devices, identities, strict=True)}
    verified: set[bytes] = set()

    def rim_of(device: Device) -> Rim:
        rim = references.find(evidence.rims, known[device.name], version(device.report.opaque), step)
        if rim.raw not in verified:  # devices of one model share it
            references.verify_rim(rim, at, roots.rim, step)
            verified.add(rim.raw)
        return rim

    return each_device(devices, rim_of)


def verify_measurements(
    evidence: NvidiaEvidence, drivers: Sequence[Rim], firmware: Sequence[Rim]
) -> tuple[int, ...]:
    """nvidia.measurements: every active reference value of a device's RIMs is what the device measured; returns how many were compared.

    Raises:
        Untrusted: `nvidia.measurements.mismatch` with all indexes (as RIMs count, from 0), `.absent` for an index that the device did not
            measure, `.conflict` for one that is active in both RIMs.
    """
    rims: dict[str, tuple[Rim, ...]] = {
        device.name: (rim,) for device, rim in zip(evidence.devices, firmware, strict=True)
    }
    for device, rim in zip(evidence.gpus, drivers, strict=True):
        rims[device.name] = (rim, *rims[device.name])
    return each_device(
        evidence.devices,
        lambda device: references.compare(device.report, rims[device.name], "nvidia.measurements"),
    )


def verify_revocation(evidence: NvidiaEvidence, at: datetime, max_age: timedelta) -> int:
    """nvidia.revocation: stapled answers, fresh at a time, call every certificate good that NVIDIA can revoke; returns how many.

    Asked for: of each device BROM, provisioner and identity CA (the leaf is the device's own work, the root is pinned); of each RIM all
    certificates below the root. A RIM that no device needs is asked for too: leave it out of the item.

    Raises:
        RluError: `nvidia.revocation.` and a cause of `revocation.verify_good`.
    """
    step = "nvidia.revocation"
    paths: dict[bytes, tuple[Certificate, ...]] = {}
    for certificates, first in (
        *((device.chain, identity.BROM) for device in evidence.devices),
        *((rim.certificates, 0) for rim in evidence.rims),
    ):
        for position in range(first, len(certificates) - 1):
            paths.setdefault(certificates[position].raw, certificates[position:])
    named = ((f"certificate {path[0].serial:#x}", path) for path in paths.values())
    each(named, lambda path: revocation.verify_good(path, evidence.ocsp, at, max_age, step))
    return len(paths)
