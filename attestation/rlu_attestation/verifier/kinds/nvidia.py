"""NVIDIA GPUs and NVSwitches: each a genuine device that answered for this statement, running what its vendor published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from rlu_attestation.errors import Untrusted
from rlu_attestation.evidence import nvidia
from rlu_attestation.evidence.nvidia import PINNED, NvidiaEvidence, Root, Roots
from rlu_attestation.verifier.context import Subject
from rlu_attestation.verifier.proof import Conditions, Gpu, GpuProof
from rlu_attestation.verifier.trail import (
    Failed,
    NotApplicable,
    NotMade,
    Trail,
    absent_is_not_made,
    blocking,
    need,
)

T = TypeVar("T")
KIND = nvidia.KIND
RIM_ROOTS = "nvidia-rim"
"""Name by which a policy adds roots of reference values."""

parse = nvidia.parse


def check(
    trail: Trail, conditions: Conditions, subject: Subject, given: NvidiaEvidence | Failed
) -> GpuProof | Failed:
    """Run the steps; gives a `Failed` unless every one passed or was waived."""
    at, roots = conditions.moment, _roots(conditions)
    age = timedelta(seconds=conditions.policy.max_revocation_age_s)

    def run(
        step: str, verify: Callable[[NvidiaEvidence], T], detail: Callable[[T], str] | None = None
    ) -> T | Failed:
        return trail.check(f"nvidia.{step}", lambda: absent_is_not_made(lambda: verify(need(held))), detail)

    held = given
    if not isinstance(given, Failed):
        held = trail.check("nvidia.collateral", lambda: with_collateral(given, conditions))
    # Without a statement, a report may be of a single device: those that it is wired to may be elsewhere.
    alone = subject.signed is None
    devices = run("devices", lambda found: nvidia.verify_devices(found, gpu_required=not alone))
    root = run("root", lambda found: nvidia.verify_root(found, roots))
    chain = run("chain", lambda found: nvidia.verify_chain(found, at))
    identities = run(
        "identity", nvidia.verify_identity, lambda found: ", ".join(sorted({i.model for i in found}))
    )
    fwids = run("fwid", _fwids)
    signature = run("signature", nvidia.verify_signature)
    drivers = run("rim_driver", lambda found: nvidia.verify_rim_driver(found, need(identities), at, roots))
    firmware = run("rim_vbios", lambda found: nvidia.verify_rim_vbios(found, need(identities), at, roots))
    compared = run(
        "measurements",
        lambda found: nvidia.verify_measurements(found, need(drivers), need(firmware)),
        lambda counts: f"{sum(counts)} reference values",
    )
    topology = run("topology", lambda found: _topology(found, alone))
    revoked = run(
        "revocation", lambda found: nvidia.verify_revocation(found, at, age), lambda n: f"{n} certificates"
    )
    bound = run("binding", lambda found: _bind(found, subject), str)
    failed = blocking(
        (
            held,
            devices,
            root,
            chain,
            identities,
            fwids,
            signature,
            drivers,
            firmware,
            compared,
            topology,
            revoked,
            bound,
        )
    )
    if failed is not None:
        return failed
    evidence = need(held)
    models = need(identities)[: len(evidence.gpus)]
    gpus = tuple(
        Gpu(
            model=identity.model,
            chip=identity.chip,
            driver=device.report.opaque.driver or "",
            vbios=device.report.opaque.vbios,
            measured=not isinstance(compared, Failed),
            protected=_protected(device.report.opaque),
        )
        for device, identity in zip(evidence.gpus, models, strict=True)
    )
    return GpuProof(gpus, len(evidence.switches))


def _topology(held: NvidiaEvidence, alone: bool) -> nvidia.Topology:
    try:
        return nvidia.verify_topology(held)
    except Untrusted as error:
        if alone and len(held.devices) == 1:
            raise NotMade(
                error.code, f"{error.message}; of reports alone the others need not be here"
            ) from error
        raise


def _protected(opaque: nvidia.OpaqueData) -> bool | None:
    """Protected PCIe mode, by either field that tells it."""
    told = (opaque.protected_pcie, None if opaque.feature is None else opaque.feature is nvidia.Feature.PPCIE)
    return None if told == (None, None) else True in told


def with_collateral(evidence: NvidiaEvidence, conditions: Conditions) -> NvidiaEvidence:
    """The evidence with the reference values and OCSP answers beside it.

    Raises:
        RluError: what their parsers raise.
    """
    rims = tuple(nvidia.parse_rim(data) for data in conditions.of("nvidia-rim"))
    answers = tuple(nvidia.parse_ocsp(data) for data in conditions.of("ocsp-response"))
    return replace(evidence, rims=evidence.rims + rims, ocsp=evidence.ocsp + answers)


def _roots(conditions: Conditions) -> Roots:
    """NVIDIA's, and those of the policy: a root of devices never vouches for reference values, nor the other way round."""
    devices = tuple(Root.of(found, "of the policy") for found in conditions.roots(KIND))
    rims = tuple(Root.of(found, "of the policy") for found in conditions.roots(RIM_ROOTS))
    return Roots(gpu=PINNED.gpu + devices, switch=PINNED.switch + devices, rim=PINNED.rim + rims)


def _fwids(held: NvidiaEvidence) -> tuple[bytes | None, ...]:
    found = nvidia.verify_fwid(held)
    if not any(found):
        raise NotApplicable("the firmware of these devices names none")
    return found


def _bind(held: NvidiaEvidence, subject: Subject) -> str:
    return subject.bound(
        "nvidia.binding",
        lambda binding: nvidia.verify_binding(held, binding),
        lambda expected: nvidia.verify_nonce(held, expected),
        size=32,
    )
