"""Verification of NVIDIA evidence, one function a step; codes are `nvidia.<step>.<cause>`.

A step looks at every device of the item. When it fails for several, the refusal names them all and has the code of the first, of what is
false before what is only missing. The steps on what NVIDIA endorses are in `endorsements`.

Not done here: whether the platform that collected the reports is the one that runs (a GPU's report proves that a genuine GPU answered; it
is bound to a host only when a measured TEE collected it), and what a policy thinks of versions, counts and modes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rlu_attestation import chain
from rlu_attestation.errors import Untrusted
from rlu_attestation.evidence.nvidia import identity, references, topology
from rlu_attestation.evidence.nvidia.claims import DeviceClaims, NvidiaClaims
from rlu_attestation.evidence.nvidia.endorsements import (
    verify_measurements,
    verify_rim_driver,
    verify_rim_vbios,
)
from rlu_attestation.evidence.nvidia.identity import CHAIN_LENGTH, LEAF, Identity, identity_of
from rlu_attestation.evidence.nvidia.item import Device, NvidiaEvidence
from rlu_attestation.evidence.nvidia.opaque import DeviceKind
from rlu_attestation.evidence.nvidia.report import NONCE_SIZE
from rlu_attestation.evidence.nvidia.roots import PINNED, Root, Roots
from rlu_attestation.evidence.nvidia.together import each_device
from rlu_attestation.evidence.nvidia.topology import Topology
from rlu_attestation.x509 import DIGITAL_SIGNATURE, Certificate


def verify(evidence: NvidiaEvidence, at: datetime, roots: Roots = PINNED) -> NvidiaClaims:
    """Run every step but `nvidia.revocation` and `nvidia.binding`, which need a maximum age and a statement; raises the first refusal."""
    verify_devices(evidence)
    verify_root(evidence, roots)
    verify_chain(evidence, at)
    identities = verify_identity(evidence)
    fwids = verify_fwid(evidence)
    verify_signature(evidence)
    drivers = verify_rim_driver(evidence, identities, at, roots)
    firmware = verify_rim_vbios(evidence, identities, at, roots)
    compared = verify_measurements(evidence, drivers, firmware)
    seen = verify_topology(evidence)
    return claims_of(evidence, identities, fwids, compared, seen)


def claims_of(
    evidence: NvidiaEvidence,
    identities: Sequence[Identity],
    fwids: Sequence[bytes | None],
    compared: Sequence[int],
    seen: Topology,
) -> NvidiaClaims:
    """Claims from what the steps returned."""
    devices = tuple(
        DeviceClaims(found, fwid, count, device.report)
        for device, found, fwid, count in zip(evidence.devices, identities, fwids, compared, strict=True)
    )
    return NvidiaClaims(devices[: len(evidence.gpus)], devices[len(evidence.gpus) :], seen)


def verify_devices(evidence: NvidiaEvidence, gpu_required: bool = True) -> None:
    """nvidia.devices: no device occurs twice, by report, key of leaf or device, or device id.

    Args:
        evidence: the parsed item.
        gpu_required: whether there must be a GPU; a switch's report alone has none.

    Raises:
        Untrusted: `nvidia.devices.twice`, `.no_gpu` for an item without a GPU.
    """
    step = "nvidia.devices"
    if gpu_required and not evidence.gpus:
        raise Untrusted(f"{step}.no_gpu", "the evidence holds no GPU")
    seen: dict[tuple[str, bytes], str] = {}

    def distinct(device: Device) -> None:
        marks = [
            ("signature", device.report.signature),
            ("response nonce", device.report.response_nonce),
            ("leaf key", device.chain[LEAF].spki),
            ("device id", device.report.opaque.pdi or b""),
        ]
        if len(device.chain) > 1:
            marks.append(("device key", device.chain[identity.BROM].spki))
        for what, value in marks:
            if value and seen.setdefault((what, value), device.name) != device.name:
                raise Untrusted(f"{step}.twice", f"the same {what} as {seen[what, value]}")

    each_device(evidence.devices, distinct)


def verify_root(evidence: NvidiaEvidence, roots: Roots = PINNED) -> tuple[Root, ...]:
    """nvidia.root: the last certificate of every chain is a trusted one for its kind of device; returns which.

    Raises:
        RluError: `nvidia.root.unknown`, `.signature`, `.algorithm`, `.key`, `.weak_key`.
    """
    step = "nvidia.root"

    def root_of(device: Device) -> Root:
        last = device.chain[-1]
        for root in roots.gpu if device.kind is DeviceKind.GPU else roots.switch:
            if root.is_of(last):
                # Implied by the fingerprint of a certificate that NVIDIA published; an operator's own root is held to it too.
                chain.verify_signed_by(last, last, step)
                return root
        raise Untrusted(f"{step}.unknown", f"no trusted root has the fingerprint {last.fingerprint.hex()}")

    return each_device(evidence.devices, root_of)


def verify_chain(evidence: NvidiaEvidence, at: datetime) -> tuple[tuple[Certificate, ...], ...]:
    """nvidia.chain: leaf, BROM, provisioner, identity CA and root certify each other in this order, all valid at a time.

    Raises:
        RluError: `nvidia.chain.` and a cause of `chain.verify_chain`, or `length`, `order`, `usage`, `key`.
    """
    step = "nvidia.chain"

    def path_of(device: Device) -> tuple[Certificate, ...]:
        if len(device.chain) != CHAIN_LENGTH:
            raise Untrusted(
                f"{step}.length", f"a chain has {CHAIN_LENGTH} certificates, not {len(device.chain)}"
            )
        leaf, *others, last = device.chain
        path = chain.verify_chain(leaf, others, (last,), at, step)
        if path != device.chain:
            raise Untrusted(f"{step}.order", "the certificates do not stand in the order of their chain")
        if DIGITAL_SIGNATURE not in (leaf.key_usage() or ()):
            raise Untrusted(f"{step}.usage", "the leaf's key is not for signatures")
        references.p384(leaf, f"{step}.key")
        return path

    return each_device(evidence.devices, path_of)


def verify_identity(evidence: NvidiaEvidence) -> tuple[Identity, ...]:
    """nvidia.identity: the certificates agree on the chip, and it is one of the kind of device that the item says.

    Raises:
        Untrusted: `nvidia.identity.chip`, `.kind`.
        Malformed: `nvidia.identity.name`.
        Unsupported: `nvidia.identity.unknown`.
    """
    step = "nvidia.identity"

    def check(device: Device) -> Identity:
        found = identity_of(device.chain)
        if found.kind is not device.kind:
            raise Untrusted(f"{step}.kind", f"{found.chip} is not a {device.kind.value}")
        return found

    return each_device(evidence.devices, check)


def verify_fwid(evidence: NvidiaEvidence) -> tuple[bytes | None, ...]:
    """nvidia.fwid: the leaf was made for the firmware that the report names; returns that, None where the report names none.

    Old firmware of GPUs and that of switches put no FWID into reports: the comparison does not apply then.

    Raises:
        Untrusted: `nvidia.fwid.mismatch`, `.absent` when only the report names a firmware.
        Malformed: `nvidia.fwid.extension`.
    """
    step = "nvidia.fwid"

    def check(device: Device) -> bytes | None:
        reported, certified = device.report.opaque.fwid, identity.fwid_of(device.chain[LEAF])
        if reported is None:
            return None
        if certified is None:
            raise Untrusted(f"{step}.absent", "the leaf's certificate does not name the firmware")
        if reported != certified:
            raise Untrusted(f"{step}.mismatch", "the leaf was made for another firmware than the report's")
        return certified

    return each_device(evidence.devices, check)


def verify_signature(evidence: NvidiaEvidence) -> None:
    """nvidia.signature: the leaf's key signed request and response, ECDSA P-384 with SHA-384.

    Raises:
        Untrusted: `nvidia.signature.key`, `.invalid`.
    """
    step = "nvidia.signature"

    def check(device: Device) -> None:
        report = device.report
        if not references.verifies(device.chain[LEAF], report.signature, report.signed, f"{step}.key"):
            raise Untrusted(f"{step}.invalid", "the report is not signed by the key of its certificate")

    each_device(evidence.devices, check)


def verify_topology(evidence: NvidiaEvidence) -> Topology:
    """nvidia.topology: the switches that GPUs see are the ones that reported, and switches see as many GPUs as reported.

    Raises:
        Untrusted: `nvidia.topology.unreported`, `.unlisted`, `.gpus`.
    """
    return topology.verify_topology(evidence, "nvidia.topology")


def verify_binding(evidence: NvidiaEvidence, binding: bytes) -> None:
    """nvidia.binding: the nonce of every report is the root over this statement's binding (FORMATS section 3).

    Args:
        evidence: the parsed item.
        binding: `H("rlu/instance/v1" ‖ claims bytes)` of the statement, 32 bytes.

    Raises:
        Untrusted: `nvidia.binding.mismatch`, `.missing` for reports without an item.
        Malformed: `proof.inclusion` when the path does not fit the tree.
    """
    step = "nvidia.binding"
    if evidence.binding is None:
        raise Untrusted(f"{step}.missing", "bare reports say nothing about where the binding is")
    _expect_nonce(evidence, evidence.binding.root(binding), f"{step}.mismatch")


def verify_nonce(evidence: NvidiaEvidence, nonce: bytes) -> None:
    """nvidia.nonce: the nonce of every report is exactly these 32 bytes; for reports that are not RLU's.

    Raises:
        Untrusted: `nvidia.nonce.mismatch`.
    """
    if len(nonce) != NONCE_SIZE:
        raise ValueError(f"a nonce has {NONCE_SIZE} bytes")
    _expect_nonce(evidence, nonce, "nvidia.nonce.mismatch")


def _expect_nonce(evidence: NvidiaEvidence, nonce: bytes, code: str) -> None:
    def check(device: Device) -> None:
        if device.report.nonce != nonce:
            raise Untrusted(code, "the report was made for another nonce")

    each_device(evidence.devices, check)
