"""NVIDIA GPUs and NVSwitches: each a genuine device that answered for this statement, running what its vendor published."""

from __future__ import annotations

from rlu_attestation.errors import Unsupported
from rlu_attestation.verifier.context import Subject
from rlu_attestation.verifier.proof import Conditions, GpuProof
from rlu_attestation.verifier.trail import Failed, Trail

KIND = "nvidia"


def parse(data: bytes) -> bytes:
    raise Unsupported("nvidia.item.kind", "evidence of GPUs is not verified by this version")


def check(trail: Trail, conditions: Conditions, subject: Subject, held: bytes | Failed) -> GpuProof | Failed:
    assert isinstance(held, Failed)
    return held
