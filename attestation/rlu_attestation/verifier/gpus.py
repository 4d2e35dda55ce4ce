"""Step 5, the GPUs: their own evidence, and that the statement says the same of them.

A GPU's report proves that a genuine GPU answered for this statement. It does not prove that the GPU is in this machine, unless the software
that collected it is itself measured (a TEE): `sources` says which.
"""

from __future__ import annotations

from collections.abc import Mapping

from rlu_attestation.errors import Untrusted
from rlu_attestation.evidence import NVIDIA
from rlu_attestation.gpus import Gpus
from rlu_attestation.instance import InstanceClaims
from rlu_attestation.verifier.context import Context, SignedStatement, Subject
from rlu_attestation.verifier.proof import GpuProof
from rlu_attestation.verifier.trail import Failed, NotApplicable, NotMade, Trail, need

KIND, PROTECTED = NVIDIA, "ppcie"
CHIPS = {
    "GH100": frozenset({"GH200", "H100", "H20", "H200", "H800"}),
    "GB100": frozenset({"B100", "B200", "GB200"}),
}
"""Chip to the products that have it, as words in NVML's names."""


def check_gpus(
    trail: Trail, context: Context, signed: SignedStatement | Failed, items: Mapping[str, bytes] | Failed
) -> GpuProof | Failed | None:
    """Run the steps; None where there is nothing to prove or it is waived that nothing is."""
    data = trail.check("gpu.attestation", lambda: verify_attestation(need(signed).claims, need(items)))
    if data is None:
        return None
    if isinstance(data, Failed):
        return None if data.waived else data
    from rlu_attestation.verifier.kinds import nvidia  # imported where there are GPUs

    gpus, item = data
    held = trail.check("nvidia.item", lambda: nvidia.parse(item))
    proof = nvidia.check(trail, context.conditions, Subject(signed), held)
    trail.check("gpu.match", lambda: verify_gpus(gpus, need(proof)), str)
    return proof


def verify_attestation(claims: InstanceClaims, items: Mapping[str, bytes]) -> tuple[Gpus, bytes]:
    """The GPUs' evidence is here, if the statement says that there is some; returns what it says of them, and the item.

    Raises:
        NotApplicable: no GPU serves the model.
        Untrusted: `gpu.attestation.missing`, `.unnamed`.
        NotMade: `gpu.attestation.none`: these GPUs have no evidence.
    """
    gpus, item = claims.gpus, items.get(KIND)
    if item is not None and (gpus is None or gpus.attestation != KIND):
        raise Untrusted(
            "gpu.attestation.unnamed", "evidence of GPUs is here that the statement does not speak of"
        )
    if gpus is None:
        raise NotApplicable("no GPU serves the model, says the statement")
    if gpus.attestation != KIND:
        raise NotMade(
            "gpu.attestation.none",
            f"{gpus.count} × {gpus.name}: the statement says that nothing attests them, and only the server vouches for them",
        )
    if item is None:
        raise Untrusted(
            "gpu.attestation.missing", "the statement speaks of evidence of GPUs that is not here"
        )
    return gpus, item


def _is_of(name: str, chip: str) -> bool:
    """Whether a product has this chip. Reports name the chip only; which product it is in, nothing proves beyond that."""
    products = CHIPS.get(chip)
    return products is not None and any(part in products for part in name.replace("-", " ").split())


def verify_gpus(gpus: Gpus, proof: GpuProof) -> str:
    """The statement names as many GPUs as answered, and their versions; protected PCIe mode only where they say so too.

    Raises:
        Untrusted: `gpu.match.differs`.
    """
    wrong = []
    if gpus.count != len(proof.gpus):
        wrong.append(f"count: stated {gpus.count}, {len(proof.gpus)} reports")
    chips = sorted({gpu.chip for gpu in proof.gpus if not _is_of(gpus.name, gpu.chip)})
    if chips:
        wrong.append(f"name: stated {gpus.name}, reported chip {', '.join(chips)}")
    for name, stated, found in (
        ("driver", gpus.driver, {gpu.driver for gpu in proof.gpus}),
        ("vbios", gpus.vbios, {gpu.vbios for gpu in proof.gpus}),
    ):
        if found != {stated}:
            wrong.append(f"{name}: stated {stated}, reported {', '.join(sorted(found))}")
    if (gpus.mode == PROTECTED) in {
        None if gpu.protected is None else not gpu.protected for gpu in proof.gpus
    }:
        reported = "not " if gpus.mode == PROTECTED else ""
        wrong.append(f"mode: stated {gpus.mode or 'none'}, reported {reported}{PROTECTED}")
    if wrong:
        raise Untrusted("gpu.match.differs", "; ".join(wrong))
    return f"{gpus.count} GPUs, driver {gpus.driver}, VBIOS {gpus.vbios}"
